"""JAX, Flax and Equinox models against themselves, through onnxruntime and through a Predictor."""

from __future__ import annotations

import functools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax", reason="JAX is not installed")
pytest.importorskip("jax2onnx", reason="jax2onnx is not installed")
pytest.importorskip("flax", reason="Flax is not installed")
pytest.importorskip("equinox", reason="Equinox is not installed")

import infersdk
from infersdk import Execution
from infersdk.convert import jax as converter
from infersdk.convert import registry
from infersdk.errors import ConversionError, UnsupportedModelError

pytestmark = pytest.mark.slow
"""The first conversion of a process imports jax2onnx, which takes ten seconds."""

QUIET = Execution(calibration_s=0.0, threads=1)


def _normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _written(model: Any, example: Any) -> tuple[Any, Any]:
    """The signature as written, and an onnxruntime session."""
    import onnxruntime

    signature = converter.infer_signature(model, example)
    graph = converter.to_onnx(model, signature, example=example).graph
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return signature, onnxruntime.InferenceSession(graph.SerializeToString(), options)


def _assert_same(model: Any, example: Any, *rows: Any) -> Any:
    signature, session = _written(model, example)
    for given in (example, *rows):
        theirs = converter.call(model, "__call__", given)
        theirs = list(theirs.values()) if isinstance(theirs, dict) else theirs
        theirs = theirs if isinstance(theirs, tuple | list) else [theirs]
        arrays = given if isinstance(given, tuple) else (given,)
        feeds = {spec.name: a for spec, a in zip(signature.inputs, arrays, strict=True)}
        for ours, expected in zip(session.run(None, feeds), theirs, strict=True):
            assert ours.dtype == expected.dtype
            np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-6)
    return signature


@pytest.fixture(scope="module")
def nnx_model() -> Any:
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.first = nnx.Linear(8, 16, rngs=rngs)
            self.norm = nnx.BatchNorm(16, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)
            self.last = nnx.Linear(16, 3, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.last(self.drop(self.norm(self.first(x))))

        def features(self, x: Any) -> Any:
            return self.norm(self.first(x))

    model = Model(nnx.Rngs(0))
    model(_normal(32, 8))  # moves the statistics
    return model


@pytest.fixture(scope="module")
def linen_model() -> tuple[Any, Any]:
    import jax
    from flax import linen as nn

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x: Any, train: bool) -> Any:
            x = nn.BatchNorm(use_running_average=not train)(nn.Dense(6)(x))
            return nn.Dropout(0.5, deterministic=not train)(x)

    model = Model()
    return model, model.init(jax.random.key(0), _normal(2, 5), train=False)


# -- what is a model -------------------------------------------------------------------------------


def test_what_jax_returned_is_known_and_a_plain_function_is_not():
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    def forward(parameters: Any, x: Any) -> Any:
        return x @ parameters

    known = [
        jax.jit(forward),
        jax.vmap(forward),
        eqx.filter_jit(forward),
        functools.partial(jax.jit(forward), np.ones(3)),
        functools.partial(forward, {"layers": [jnp.ones(3)]}),
        jax.tree_util.Partial(forward, np.ones(3)),
    ]
    assert all(map(converter.can_convert, known))
    unknown = [forward, functools.partial(forward, np.ones(3)), jnp.ones(3), 3, "model", np.sin]
    assert not any(map(converter.can_convert, unknown))
    with pytest.raises(UnsupportedModelError, match=r"pass jax\.jit\(f\)"):
        registry.find(forward)


def test_models_are_recognized_without_importing_jax():
    code = (
        "import sys\n"
        "from infersdk.convert import registry\n"
        "class Module: pass\n"
        "Module.__module__ = 'flax.nnx.module'\n"
        "class Mine(Module): pass\n"
        "assert registry.find(Mine()).FRAMEWORK == 'JAX'\n"
        "assert not {'jax', 'flax', 'equinox', 'torch'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_linen_module_needs_its_variables(linen_model):
    module, _ = linen_model
    for model in (module, module.apply):
        with pytest.raises(UnsupportedModelError, match=r"together with its variables.*bind"):
            infersdk.load(model, example=_normal(4, 5))


def test_an_example_is_needed(nnx_model):
    with pytest.raises(ConversionError, match="An example is needed: Model does not say"):
        infersdk.load(nnx_model)


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        ([[1.0]], "Expected one array, a tuple of them .* got a list"),
        ((np.zeros((2, 8), np.float32),) * 2, r"Expected at most 1 arrays \(x\), got 2"),
        (
            {"a": np.zeros(2), "b": np.zeros(2)},
            "does not run on its own example|named as the model's",
        ),
        (np.array(["a"]), "Expected numbers or booleans"),
    ],
)
def test_examples_that_do_not_fit_are_explained(nnx_model, example, reason):
    with pytest.raises(ConversionError, match=reason):
        infersdk.load(nnx_model, example=example)


def test_a_model_of_one_row_is_told_about_vmap():
    import equinox as eqx
    import jax

    model = eqx.nn.MLP(5, 3, 16, 1, key=jax.random.key(0))
    with pytest.raises(
        ConversionError, match=r"x float32 \(6, 5\).*takes many as jax\.vmap\(model\)"
    ):
        infersdk.load(model, example=_normal(6, 5))
    signature = _assert_same(jax.vmap(model), _normal(6, 5), _normal(1, 5))
    assert signature.inputs[0].shape == ("N", 5)


# -- inference mode --------------------------------------------------------------------------------


def test_a_module_in_training_mode_answers_as_eval(nnx_model):
    from flax import nnx

    rows = _normal(6, 8)
    ready = nnx.clone(nnx_model)
    ready.eval()
    before = nnx.state(nnx_model)
    with infersdk.load(nnx_model, example=rows, execution=QUIET) as predictor:
        assert predictor.plan.kind == "onnx", predictor.plan
        assert any("training mode" in note for note in predictor.plan.notes)
        np.testing.assert_allclose(predictor(rows), ready(rows), rtol=1e-4, atol=1e-6)
    assert nnx_model.drop.deterministic is False
    import jax

    for ours, theirs in zip(
        jax.tree.leaves(before), jax.tree.leaves(nnx.state(nnx_model)), strict=True
    ):
        assert ours is theirs


def test_another_method_of_a_module(nnx_model):
    signature = _assert_same(nnx_model.features, _normal(6, 8), _normal(2, 8))
    assert signature.outputs[0].shape == ("N", 16)


def test_linen_bound_and_as_a_partial(linen_model):
    module, variables = linen_model
    partial = functools.partial(module.apply, variables, train=False)
    signature = _assert_same(partial, _normal(6, 5), _normal(1, 5))
    assert [spec.name for spec in signature.inputs] == ["x"]
    bound = functools.partial(module.bind(variables), train=False)
    rows = _normal(6, 5)
    np.testing.assert_array_equal(
        converter.call(bound, "__call__", rows), module.apply(variables, rows, train=False)
    )
    _assert_same(bound, rows)


def test_equinox_dropout_is_switched_off_on_a_copy():
    import equinox as eqx
    import jax

    model = eqx.filter_vmap(
        eqx.nn.Sequential([eqx.nn.Linear(4, 8, key=jax.random.key(0)), eqx.nn.Dropout(0.5)])
    )
    _assert_same(model, _normal(6, 4))
    assert model._fun[1].inference is False


# -- graphs ----------------------------------------------------------------------------------------


def test_pooling_is_over_height_and_width():
    import jax
    from flax import nnx

    def forward(x: Any) -> Any:
        return (
            nnx.max_pool(x, (2, 2), strides=(2, 2)),
            nnx.avg_pool(x, (3, 2), strides=(1, 2), padding="SAME"),
        )

    _assert_same(jax.jit(forward), _normal(6, 9, 8, 3), _normal(1, 9, 8, 3))


def test_dilated_windows_take_images_of_any_size():
    import jax

    windows = {"window_dimensions": (1, 3, 3, 1), "window_strides": (1, 1, 1, 1)}
    model = jax.jit(
        lambda x: jax.lax.reduce_window(
            x, -np.inf, jax.lax.max, padding="SAME", window_dilation=(1, 2, 2, 1), **windows
        )
    )
    signature = _assert_same(model, _normal(6, 9, 8, 3), _normal(1, 12, 15, 3))
    assert signature.inputs[0].shape[1:3] == ("height", "width")


def test_recurrent_cells_take_any_length():
    from flax import nnx

    model = nnx.RNN(nnx.OptimizedLSTMCell(4, 8, rngs=nnx.Rngs(0)))
    signature = _assert_same(model, _normal(6, 5, 4), _normal(2, 11, 4), _normal(1, 1, 4))
    assert signature.inputs[0].shape == ("N", "length", 4)


def test_operators_that_jax2onnx_gets_wrong_are_repaired():
    import jax
    import jax.numpy as jnp

    half = jnp.ones((4, 2), jnp.float16)

    def forward(x: Any) -> Any:
        return (
            jnp.mod(x, 0.7),
            jnp.pad(x, ((0, 0), (1, 2))),
            jnp.einsum("ni,nj->nij", x, x),
            x.astype(jnp.float16) @ half,
        )

    model = jax.jit(forward)
    signature, session = _written(model, _normal(6, 4))
    rows = _normal(3, 4, seed=5)
    for ours, theirs in zip(session.run(None, {"x": rows}), model(rows), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=1e-3)
    assert signature.outputs[3].dtype == "float16"


def test_outputs_may_be_inputs_constants_and_each_other():
    import jax
    import jax.numpy as jnp

    _assert_same(jax.jit(lambda x, y: (x, x, jnp.ones(3), x * 2)), (_normal(4, 2), _normal(4, 3)))


@pytest.mark.parametrize("jitted", [True, False])
def test_a_dict_keeps_the_order_that_the_model_gives(jitted):
    import jax
    import jax.numpy as jnp

    def forward(weights: Any, x: Any) -> Any:
        return {"z": x @ weights, "a": x}

    model = functools.partial(jax.jit(forward) if jitted else forward, jnp.ones((4, 2)))
    rows = _normal(5, 4)
    with infersdk.load(model, example=rows, execution=QUIET) as predictor:
        assert predictor.plan.kind == "onnx", predictor.plan
        ours, theirs = predictor(rows), model(rows)
    assert list(ours) == list(theirs) == (["a", "z"] if jitted else ["z", "a"])
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-5)


def test_arrays_by_name_and_in_one_dict():
    import jax

    rows = {"y": _normal(5, 2, seed=1), "x": _normal(5, 4)}
    two = jax.jit(lambda x, y: x[:, :2] - y)
    with infersdk.load(two, example=rows, execution=QUIET) as predictor:
        assert [spec.name for spec in predictor.signature.inputs] == ["x", "y"]
        np.testing.assert_allclose(predictor(rows), rows["x"][:, :2] - rows["y"], rtol=1e-6)
    one = jax.jit(lambda batch: batch["x"][:, :2] * batch["y"])
    with infersdk.load(one, example=rows, execution=QUIET) as predictor:
        np.testing.assert_allclose(predictor(rows), rows["x"][:, :2] * rows["y"], rtol=1e-6)


def test_rows_that_influence_each_other_are_not_a_batch():
    import jax

    signature = _assert_same(jax.jit(lambda x: x - x.mean(0)), _normal(6, 3), _normal(2, 3))
    assert signature.inputs[0].shape[0] == "rows"


def _branches() -> dict[str, Any]:
    import jax
    import jax.numpy as jnp

    def choose(rows: Any, limit: float) -> Any:
        return jax.lax.cond(rows.sum() > limit, lambda x: x * 2.0, lambda x: x - 1.0, rows)

    def step(total: Any, row: Any) -> Any:
        return total + row.sum(), jax.lax.cond(total > 1e6, lambda: row * 2, lambda: row)

    return {
        "by the sign": lambda x: choose(x, 0.0),
        "far from the example": lambda x: choose(x, 1e6),
        "in a jitted function": lambda x: jax.jit(choose)(x * 2.0, 1e6),
        "one of several": lambda x: jax.lax.switch(
            jnp.int32(x.max() > 1e6), [lambda y: y, lambda y: y * 2.0], x
        ),
        "in a loop over rows": lambda x: jax.lax.scan(step, 0.0, x)[1],
    }


@pytest.mark.parametrize(
    "name",
    [
        "by the sign",
        "far from the example",
        "in a jitted function",
        "one of several",
        "in a loop over rows",
    ],
)
def test_rows_that_decide_together_are_not_a_batch(name):
    import jax

    # Positive rows only, each of which would take the same branch alone.
    example = np.abs(_normal(6, 3))
    signature = converter.infer_signature(jax.jit(_branches()[name]), example)
    assert signature.inputs[0].shape[0] == "rows"


def test_a_branch_on_the_whole_batch_is_served_as_jax_answers_it():
    import jax

    model = jax.jit(_branches()["by the sign"])
    with infersdk.load(model, example=np.abs(_normal(6, 3)), execution=QUIET) as predictor:
        assert predictor.signature.inputs[0].shape[0] == "rows"
        for rows in (_normal(4, 3) + 5.0, _normal(4, 3) - 5.0):
            np.testing.assert_allclose(predictor(rows), model(rows), rtol=1e-6)


def test_rows_that_decide_for_themselves_are_a_batch():
    import jax
    import jax.numpy as jnp

    limit = jnp.asarray(2.0)
    each = jax.vmap(
        lambda row: jax.lax.cond(row.sum() > 0, lambda r: r * 2.0, lambda r: r - 1.0, row)
    )
    fixed = jax.jit(lambda x: jax.lax.cond(limit > 1.0, lambda y: y * 2.0, lambda y: y - 1.0, x))
    for model in (each, fixed):
        assert converter.infer_signature(model, _normal(6, 3)).inputs[0].shape[0] == "N"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_doubles_stay_where_jax_has_them(dtype):
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    try:
        weights = jnp.asarray(_normal(4, 3), dtype)
        signature = _assert_same(
            jax.jit(lambda x: jnp.tanh(x @ weights)), _normal(6, 4).astype(dtype)
        )
        assert signature.outputs[0].dtype == dtype
        assert jax.config.jax_enable_x64
    finally:
        jax.config.update("jax_enable_x64", False)


def test_conversion_leaves_jitted_functions_as_they_were():
    import jax
    import jax.numpy as jnp

    @jax.jit
    def inner(x: Any) -> Any:
        return jax.nn.softmax(jnp.matmul(x, x.T)) + jnp.sum(x, axis=-1)

    model = jax.jit(lambda x: inner(x) * 2)
    rows = _normal(4, 4)
    expected = np.asarray(model(rows))
    with infersdk.load(model, example=rows, execution=QUIET) as predictor:
        assert predictor.plan.kind == "onnx", predictor.plan
    np.testing.assert_array_equal(model(rows), expected)
    np.testing.assert_array_equal(jax.jit(lambda x: inner(x) * 2)(rows), expected)


# -- what is refused -------------------------------------------------------------------------------


def _native_reason(model: Any, example: Any) -> str:
    with infersdk.load(model, example=example, execution=QUIET) as predictor:
        assert predictor.plan.kind == "native", predictor.plan
        ours = predictor(example)
        theirs = converter.call(model, "__call__", example)
        import jax

        for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
            np.testing.assert_array_equal(mine, other)
        return predictor.plan.reason


def test_a_decision_in_python_is_served_natively():
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self, rngs: Any) -> None:
            self.only = nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            y = self.only(x)
            return y if float(y.sum()) > 0 else -y

    assert "a decision in Python by the values" in _native_reason(Model(nnx.Rngs(0)), _normal(5, 4))


def test_a_nested_answer_is_served_natively():
    import jax

    reason = _native_reason(jax.jit(lambda x: {"both": (x, x * 2)}), _normal(5, 4))
    assert "to be a dense tensor, got a tuple at ['both']" in reason


def test_an_operator_without_onnx_form_is_served_natively():
    import jax
    import jax.numpy as jnp

    reason = _native_reason(jax.jit(lambda x: jnp.fft.fft(x).real), _normal(5, 4))
    assert "jax2onnx cannot export" in reason or "does not take" in reason or "fails" in reason


def test_state_between_calls_is_refused():
    from flax import nnx

    class Counting(nnx.Module):
        def __init__(self) -> None:
            self.calls = nnx.Variable(np.float32(0))

        def __call__(self, x: Any) -> Any:
            self.calls.set_value(self.calls.get_value() + 1)
            return x * self.calls.get_value()

    model, rows = Counting(), _normal(4, 2)
    signature = converter.infer_signature(model, rows)
    with pytest.raises(UnsupportedModelError, match="gives two answers to the same rows"):
        converter.to_onnx(model, signature, example=rows)
    assert float(model.calls.get_value()) == 0


def test_a_callback_is_refused():
    import jax

    def forward(x: Any) -> Any:
        jax.debug.print("{}", x.sum())
        return x * 2

    model, rows = jax.jit(forward), _normal(4, 2)
    signature = converter.infer_signature(model, rows)
    with pytest.raises(UnsupportedModelError, match="effects beside its answer"):
        converter.to_onnx(model, signature, example=rows)


# -- edge rows, calls ------------------------------------------------------------------------------


def test_edge_rows_keep_indices_within_the_example():
    import jax
    import jax.numpy as jnp

    table = jnp.arange(20.0).reshape(10, 2)
    model = jax.jit(lambda ids, x: table[ids].sum(1) + x)
    example = (np.random.default_rng(0).integers(0, 10, (8, 3)).astype(np.int32), _normal(8, 2))
    signature = converter.infer_signature(model, example)
    ids, x = converter.edge_rows(model, signature, example, n_rows=50, rng=np.random.default_rng(0))
    assert (ids.shape, ids.dtype) == ((50, 3), np.int32)
    assert set(ids.ravel()) <= set(example[0].ravel())
    assert (x == 0).all(axis=1).any()
    assert (x < 0).any()


def test_call_answers_numpy_and_takes_doubles():
    import jax

    answer = converter.call(jax.jit(lambda x: (x * 2, [x])[0]), "__call__", np.ones((2, 3)))
    assert type(answer) is np.ndarray
    assert answer.dtype == np.float32
    with pytest.raises(UnsupportedModelError, match="Expected method `__call__`"):
        converter.call(jax.jit(lambda x: x), "predict", np.ones(2))


def test_an_artifact_needs_no_jax(tmp_path, nnx_model):
    rows = _normal(6, 8)
    with infersdk.load(nnx_model, example=rows, execution=QUIET) as predictor:
        expected = predictor(rows)
        path = predictor.save(tmp_path / "model.onnx")
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "expected.npy", expected)
    code = (
        "import sys, numpy as np, infersdk\n"
        f"served = infersdk.load({str(path)!r})\n"
        f"rows = np.load({str(tmp_path / 'rows.npy')!r})\n"
        f"assert np.array_equal(served(rows), np.load({str(tmp_path / 'expected.npy')!r}))\n"
        "assert not {'jax', 'flax', 'jax2onnx'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
