"""Session: every kind of value in and out, the hot way, refusals, and life.

onnxruntime's Python API is the oracle where it can take the value; numpy where it cannot.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

from infersdk._native import Session
from infersdk.errors import ClosedError, InputError, SessionError
from infersdk.types import MapSpec, OptionalSpec, SequenceSpec, TensorSpec

MAX_INSTANCE_BYTES = 256 * 1024  # larger inputs never take the hot way


def graph(text: str, *, initializers: dict[str, np.ndarray] | None = None) -> bytes:
    """A model written in ONNX's text form."""
    model = parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 21, "ai.onnx.ml": 3]> graph {text}'
    )
    for name, value in (initializers or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    return model.SerializeToString()


RELU = graph("(float[N, 3] x) => (float[N, 3] y) { y = Relu(x) }")


@pytest.fixture(scope="module")
def onnxruntime() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime
    onnxruntime.set_default_logger_severity(4)
    return onnxruntime


@pytest.fixture(scope="module")
def python_api(onnxruntime: Any) -> Any:
    """``python_api(model)(feed)``: all outputs as onnxruntime's Python API gives them."""

    def open_session(model: bytes) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return lambda feed: session.run(None, feed)

    return open_session


def assert_same(ours: Any, theirs: Any) -> None:
    """Equal in kind, dtype, shape and every value."""
    assert type(ours) is type(theirs)
    if isinstance(theirs, np.ndarray):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert ours.tolist() == theirs.tolist() or np.array_equal(ours, theirs, equal_nan=True)
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            assert_same(mine, other)
    else:
        assert ours == theirs


def assert_runs_as_in_python(python_api: Any, model: bytes, *feeds: dict[str, Any]) -> None:
    """Every feed twice, so that the second run of a shape takes the hot way where there is one."""
    session = Session(model)
    reference = python_api(model)
    for feed in (*feeds, *feeds):
        expected = reference(feed)
        named = session.run(feed)
        assert list(named) == [spec.name for spec in session.outputs]
        assert_same(list(named.values()), expected)
        assert_same(session.run_ordered([feed[spec.name] for spec in session.inputs]), expected)


# -- parity: every kind of value --------------------------------------------------------------------

NUMBERS = (
    "float",
    "double",
    "float16",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
)
NUMPY = {"float": "float32", "double": "float64"}


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (2, 0, 3), (2, 3, 4)])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_every_dtype_and_shape(
    python_api: Any, name: str, shape: tuple[int, ...]
) -> None:
    axes = ", ".join(f"D{i}" for i in range(len(shape)))
    model = graph(f"({name}[{axes}] x) => ({name}[{axes}] y) {{ y = Identity(x) }}")
    dtype = np.dtype(NUMPY.get(name, name))
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    assert_runs_as_in_python(python_api, model, {"x": array})


@pytest.mark.parametrize("name", ["float", "double", "float16"])
def test_floats_at_their_limits(python_api: Any, name: str) -> None:
    model = graph(f"({name}[N] x) => ({name}[N] y) {{ y = Identity(x) }}")
    dtype = np.dtype(NUMPY.get(name, name))
    limits = np.finfo(dtype)
    values = [np.nan, np.inf, -np.inf, 0.0, -0.0, limits.max, limits.min, limits.tiny]
    array = np.array([*values, limits.smallest_subnormal], dtype=dtype)
    assert_runs_as_in_python(python_api, model, {"x": array})
    (answer,) = Session(model).run_ordered([array])
    assert answer.tobytes() == array.tobytes()


def test_bfloat16_which_pythons_api_does_not_take() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    session = Session(graph("(bfloat16[N] x) => (bfloat16[N] y) { y = Identity(x) }"))
    assert session.inputs == (TensorSpec("x", "bfloat16", ("N",)),)
    for values in ([1.5, -2.0, 3.140625], [], [np.inf, np.nan]):
        array = np.array(values, dtype=ml_dtypes.bfloat16)
        for _ in range(2):
            (answer,) = session.run_ordered([array])
            assert answer.dtype == array.dtype
            assert answer.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    ("element", "values"),
    [
        ("INT4", [-8, 7, -1, 0, 3]),
        ("UINT4", [15, 0, 8, 1]),
        ("INT2", [-2, 1, 0, -1, 1, 0, -2]),
        ("UINT2", [3, 0, 1, 2, 3]),
        ("FLOAT8E4M3FN", [1.5, -448.0, 0.0]),
        ("FLOAT8E5M2", [1.5, -57344.0, 0.0]),
    ],
)
@pytest.mark.parametrize("size", [0, 1, 2, 3, None])
def test_elements_of_a_byte_and_less_cross_in_both_directions(
    element: str, values: list[float], size: int | None
) -> None:
    """Several share a byte, so that odd sizes leave part of one unused."""
    pytest.importorskip("ml_dtypes")
    dtype = helper.tensor_dtype_to_np_dtype(getattr(TensorProto, element))

    def cast(source: int, target: int) -> Session:
        made = helper.make_graph(
            [helper.make_node("Cast", ["x"], ["y"], to=target)],
            "cast",
            [helper.make_tensor_value_info("x", source, ["N"])],
            [helper.make_tensor_value_info("y", target, ["N"])],
        )
        opset = helper.make_opsetid("", 25)
        return Session(
            helper.make_model(made, opset_imports=[opset], ir_version=12).SerializeToString()
        )

    wide = np.array(values[:size], dtype=np.float32)
    narrow = wide.astype(dtype)
    for _ in range(2):
        (answer,) = cast(TensorProto.FLOAT, getattr(TensorProto, element)).run_ordered([wide])
        assert answer.dtype == dtype
        assert answer.tobytes() == narrow.tobytes()
        (back,) = cast(getattr(TensorProto, element), TensorProto.FLOAT).run_ordered([narrow])
        np.testing.assert_array_equal(back, wide)


TEXTS = ["", "a", "é", "日本語", "\N{GRINNING FACE}", "with\0NUL", "\0", "line\n", "x" * 70_000]


def test_strings(python_api: Any) -> None:
    model = graph("(string[N] x) => (string[N] y) { y = Identity(x) }")
    feeds = [
        np.array(TEXTS, dtype=object),
        np.array(TEXTS[::-1], dtype=object),
        np.array([], dtype=object),
        np.array(["ab", "c"]),
        np.array([np.str_("ab")], dtype=object),
        np.array(["a", "b", "c", "d"], dtype=object)[::2],
    ]
    assert_runs_as_in_python(python_api, model, *({"x": feed} for feed in feeds))
    (answer,) = Session(model).run_ordered([np.array(TEXTS, dtype=object)])
    assert answer.tolist() == TEXTS
    assert {type(text) for text in answer} == {str}


def test_numpys_own_string_dtype() -> None:
    session = Session(graph("(string[N] x) => (string[N] y) { y = Identity(x) }"))
    array = np.array(["é", "b\0c"], dtype=np.dtypes.StringDType())
    (answer,) = session.run_ordered([array])
    assert answer.tolist() == ["é", "b\0c"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=6))
def test_any_text_comes_back(texts: list[str]) -> None:
    (answer,) = _ECHO.run_ordered([np.array(texts, dtype=object)])
    assert answer.tolist() == texts


_ECHO = Session(graph("(string[N] x) => (string[N] y) { y = Identity(x) }"), name="echo")


def test_strings_of_many_axes(python_api: Any) -> None:
    model = graph("(string[N, M] x, string[N, M] z) => (string[N, M] y) { y = StringConcat(x, z) }")
    left = np.array([["a", "é"], ["", "\0"]], dtype=object)
    right = np.array([["1", "2"], ["3", "4"]], dtype=object)
    assert_runs_as_in_python(python_api, model, {"x": left, "z": right}, {"x": left.T, "z": right})


def test_sequences(python_api: Any) -> None:
    model = graph(
        "(seq(float[N]) s, float[N] x) => (seq(float[N]) y, int64 n)"
        "{ y = SequenceInsert(s, x) n = SequenceLength(s) }"
    )
    session = Session(model)
    assert session.inputs[0] == SequenceSpec("s", TensorSpec("", "float32", ("N",)))
    x = np.ones(2, np.float32)
    feeds: list[list[Any]] = [[], [np.zeros(3, np.float32)], [np.zeros(0, np.float32), x]]
    assert_runs_as_in_python(python_api, model, *({"s": feed, "x": x} for feed in feeds))
    assert_same(session.run({"s": (x,), "x": x})["y"], [x, x])


@pytest.mark.parametrize("name", [*NUMBERS, "string"])
def test_empty_sequences_of_every_dtype(python_api: Any, name: str) -> None:
    model = graph(f"(seq({name}[N]) s) => (int64 n) {{ n = SequenceLength(s) }}")
    assert_runs_as_in_python(python_api, model, {"s": []})


def test_sequences_of_strings(python_api: Any) -> None:
    model = graph("(seq(string[N]) s) => (seq(string[N]) y) { y = Identity(s) }")
    texts = np.array(TEXTS, dtype=object)
    assert_runs_as_in_python(python_api, model, {"s": [texts, texts[:0]]}, {"s": []})


def test_sequences_made_by_the_graph(python_api: Any) -> None:
    model = graph(
        "(float[N, 2] x) => (seq(float[2]) y) { y = SplitToSequence<axis = 0, keepdims = 0>(x) }"
    )
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert_runs_as_in_python(python_api, model, {"x": rows}, {"x": rows[:0]})
    empty = graph("() => (seq(float[N]) y) { y = SequenceEmpty<dtype = 1>() }")
    assert_runs_as_in_python(python_api, empty, {})


@pytest.mark.parametrize("element", ["float", "float[]", "float[N]", "float[2]", "float[N, 2, M]"])
def test_optionals_present_and_absent(python_api: Any, element: str) -> None:
    model = graph(f"(optional({element}) x) => (bool y) {{ y = OptionalHasElement(x) }}")
    (spec,) = Session(model).inputs
    assert isinstance(spec, OptionalSpec)
    assert isinstance(spec.element, TensorSpec)
    shape = tuple(2 for _ in spec.element.shape or ())
    present = {"x": np.ones(shape, np.float32)}
    assert_runs_as_in_python(python_api, model, {"x": None}, present, {"x": None})
    assert Session(model).run({})["y"].item() is False


def test_optionals_that_hold_sequences(python_api: Any) -> None:
    model = graph("(optional(seq(float[N])) x) => (bool y) { y = OptionalHasElement(x) }")
    feeds: list[Any] = [None, [], [np.ones(2, np.float32)]]
    assert_runs_as_in_python(python_api, model, *({"x": feed} for feed in feeds))


def test_optionals_come_out(python_api: Any) -> None:
    model = graph("(optional(float[N]) x) => (optional(float[N]) y) { y = Identity(x) }")
    assert_runs_as_in_python(python_api, model, {"x": None}, {"x": np.ones(2, np.float32)})


def test_an_absent_optional_that_the_graph_needs_is_refused() -> None:
    session = Session(
        graph("(optional(float[N]) x) => (float[N] y) { y = OptionalGetElement(x) }"), name="opt"
    )
    with pytest.raises((InputError, SessionError), match="`opt`"):
        session.run({"x": None})
    assert session.run({"x": np.ones(1, np.float32)})["y"].tolist() == [1.0]


def test_maps_with_text_keys(python_api: Any) -> None:
    model = graph(
        "(map(string, float) x) => (float[N, M] y)"
        '{ y = ai.onnx.ml.DictVectorizer<string_vocabulary: strings = ["a", "é", "n\\0"]>(x) }'
    )
    assert Session(model).inputs == (MapSpec("x", "string", TensorSpec("", "float32", ())),)
    feeds = [{"a": 1.0, "é": 3.0}, {"é": -0.5}, {"other": 2.0}]
    assert_runs_as_in_python(python_api, model, *({"x": feed} for feed in feeds))
    # Python's API takes no empty dict.
    np.testing.assert_array_equal(Session(model).run({"x": {}})["y"], np.zeros((1, 3), np.float32))


def test_maps_with_integer_keys(python_api: Any) -> None:
    model = graph(
        "(map(int64, float) x) => (float[N, M] y)"
        "{ y = ai.onnx.ml.DictVectorizer<int64_vocabulary: ints = [3, 1]>(x) }"
    )
    assert_runs_as_in_python(python_api, model, {"x": {1: 1.0, 3: 2.0}}, {"x": {3: 0.5}})


def test_maps_to_text_which_pythons_api_does_not_take() -> None:
    session = Session(
        graph(
            "(map(int64, string) x) => (float[N, M] y)"
            '{ y = ai.onnx.ml.CastMap<cast_to = "TO_FLOAT">(x) }'
        )
    )
    answer = session.run({"x": {3: "2", 1: "1.5"}})["y"]
    assert answer.tolist() == [[1.5, 2.0]]


@pytest.mark.parametrize(
    "labels", ['classlabels_strings: strings = ["é", "b"]', "classlabels_int64s: ints = [7, -1]"]
)
def test_maps_come_out(python_api: Any, labels: str) -> None:
    kind = "string" if "strings" in labels else "int64"
    model = graph(
        f"(float[N, 2] x) => (seq(map({kind}, float)) y) {{ y = ai.onnx.ml.ZipMap<{labels}>(x) }}"
    )
    rows = np.array([[0.25, 0.75], [1, 0]], np.float32)
    assert_runs_as_in_python(python_api, model, {"x": rows}, {"x": rows[:0]})


# -- parity: the hot way ------------------------------------------------------------------------------


def test_output_shapes_that_follow_the_contents(python_api: Any) -> None:
    """One input shape, other output shapes: what a prebuilt output cannot take."""
    model = graph("(float[N] x) => (int64[1, M] y, float[N] z) { y = NonZero(x) z = Neg(x) }")
    session = Session(model)
    reference = python_api(model)
    rng = np.random.default_rng(0)
    for _ in range(50):
        x = (rng.random(6) < rng.random()).astype(np.float32)
        assert_same(session.run_ordered([x]), reference({"x": x}))


def test_output_ranks_that_follow_the_contents(python_api: Any) -> None:
    model = graph(
        """(float[4] x, bool flat, int64[2] axes) => (float y)
        {
            y = If (flat) <
                then_branch = flat () => (float[4] a) { a = Neg(x) },
                else_branch = square () => (float[2, 2] b) { n = Neg(x) b = Reshape(n, axes) }
            >
        }"""
    )
    proto = onnx.ModelProto.FromString(model)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    session = Session(proto.SerializeToString())
    reference = python_api(proto.SerializeToString())
    assert session.outputs[0].shape is None
    x = np.arange(4, dtype=np.float32)
    axes = np.array([2, 2])
    for flat in (True, False, True, True, False, False, True):
        feed = {"x": x, "flat": np.array(flat), "axes": axes}
        assert_same(session.run_ordered(list(feed.values())), reference(feed))


def test_more_shapes_than_are_kept(python_api: Any) -> None:
    session = Session(RELU)
    reference = python_api(RELU)
    rng = np.random.default_rng(0)
    sizes = [*range(40), *range(39, -1, -1), *rng.integers(0, 40, size=80).tolist()]
    for size in sizes:
        x = rng.normal(size=(size, 3)).astype(np.float32)
        assert_same(session.run_ordered([x]), reference({"x": x}))


def test_many_inputs_and_axes(python_api: Any) -> None:
    """More axes in all than the hot way's key holds."""
    n = 20
    axes = ", ".join(["1"] * 7)
    names = [f"x{i}" for i in range(n)]
    inputs = ", ".join(f"float[N, {axes}] {name}" for name in names)
    model = graph(f"({inputs}) => (float[N, {axes}] y) {{ y = Sum({', '.join(names)}) }}")
    given = {name: np.full((2, *[1] * 7), i, dtype=np.float32) for i, name in enumerate(names)}
    assert_runs_as_in_python(python_api, model, given)


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_inputs_about_the_hot_ways_limit(python_api: Any, extra: int) -> None:
    model = graph("(float[N] x) => (float[N] y) { y = Neg(x) }")
    x = np.arange(MAX_INSTANCE_BYTES // 4 + extra, dtype=np.float32)
    assert_runs_as_in_python(python_api, model, {"x": x})


def test_outputs_far_larger_than_inputs(python_api: Any) -> None:
    model = graph(
        "(int64[1] shape) => (float[N] y)"
        "{ y = ConstantOfShape<value: tensor = float[1] {2.5}>(shape) }"
    )
    assert_runs_as_in_python(
        python_api, model, *({"shape": np.array([n])} for n in (3, 1_000_000, 0, 3))
    )


def test_threads_of_one_run_and_optimization_do_not_change_answers(python_api: Any) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(64, 32)).astype(np.float32)
    model = graph(
        "(float[N, 64] x) => (float[N, 32] y) { z = MatMul(x, w)  y = Relu(z) }",
        initializers={"w": weights},
    )
    x = rng.normal(size=(50, 64)).astype(np.float32)
    (expected,) = python_api(model)({"x": x})
    for threads in (1, 2):
        for level in ("all", "extended", "basic", "off"):
            for release_gil in (None, True, False):
                session = Session(
                    model, threads=threads, graph_optimization=level, release_gil=release_gil
                )
                for _ in range(2):
                    (answer,) = session.run_ordered([x])
                    np.testing.assert_allclose(answer, expected, rtol=1e-5, atol=1e-5)


# -- edges: who owns what -----------------------------------------------------------------------------


def _spoil(value: Any) -> None:
    if isinstance(value, np.ndarray):
        assert value.flags.writeable
        assert value.flags.owndata or value.base is not None
        value[...] = "spoiled" if value.dtype == object else 113


OWNERSHIP = {
    "an initializer": (
        "(float[N] x) => (float[3] w, float[N] y) { y = Neg(x) }",
        {"w": np.array([1, 2, 3], np.float32)},
    ),
    "an initializer behind a node": (
        "(float[N] x) => (float[3] z, float[N] y) { z = Identity(w) y = Neg(x) }",
        {"w": np.array([1, 2, 3], np.float32)},
    ),
    "a constant": (
        "(float[N] x) => (float[2] z, float[N] y)"
        "{ z = Constant<value = float[2] {5, 6}>() y = Neg(x) }",
        {},
    ),
    "an input": ("(float[N] x) => (float[N] x) { }", {}),
    "an input behind a node": ("(float[N] x) => (float[N] y) { y = Identity(x) }", {}),
    "one value twice": (
        "(float[N] x) => (float[N] y, float[N] z) { y = Neg(x) z = Identity(y) }",
        {},
    ),
    "a reshaped input": (
        "(float[N] x) => (float[M, 1] y) { y = Reshape(x, s) }",
        {"s": np.array([-1, 1])},
    ),
}


@pytest.mark.parametrize("what", OWNERSHIP)
def test_an_answer_that_is_written_into_changes_no_later_answer(python_api: Any, what: str) -> None:
    text, initializers = OWNERSHIP[what]
    model = graph(text, initializers=initializers)
    session = Session(model)
    reference = python_api(model)
    for size in (3, 3, 3, 100_000, 100_000):
        x = np.arange(size, dtype=np.float32)
        before = x.copy()
        expected = [value.copy() for value in reference({"x": before.copy()})]
        answer = session.run_ordered([x])
        assert_same(answer, expected)
        for value in answer:
            _spoil(value)
        np.testing.assert_array_equal(x, before)
        assert_same(session.run_ordered([x]), expected)


def test_outputs_of_one_run_do_not_share_memory() -> None:
    model = graph("(float[N] x) => (float[N] y, float[N] z) { y = Neg(x) z = Identity(y) }")
    session = Session(model)
    for size in (3, 3, 3, 100_000):
        y, z = session.run_ordered([np.ones(size, np.float32)])
        y[...] = 7
        assert z.tolist() == [-1.0] * size


def test_an_input_that_is_written_into_after_a_run_changes_no_answer() -> None:
    session = Session(graph("(float[N] x) => (float[N] y) { y = Identity(x) }"))
    for size in (3, 3, 3, 100_000, 100_000):
        x = np.ones(size, np.float32)
        (answer,) = session.run_ordered([x])
        x[...] = 9
        assert answer.tolist() == [1.0] * size


def test_answers_survive_the_session() -> None:
    session = Session(
        graph(
            "(float[N] x) => (float[N] y, string[N] t, seq(float[N]) s)"
            "{ y = Neg(x)  t = Cast<to = 8>(x)  s = SequenceConstruct(x) }"
        )
    )
    answer = session.run({"x": np.array([1, 2], np.float32)})
    session.close()
    del session
    assert answer["y"].tolist() == [-1.0, -2.0]
    assert answer["t"].tolist() == ["1", "2"]
    assert answer["s"][0].tolist() == [1.0, 2.0]


# -- edges: layouts -----------------------------------------------------------------------------------


def _unaligned(array: np.ndarray) -> np.ndarray:
    raw = np.zeros(array.nbytes + 1, np.uint8)
    view = raw[1:].view(array.dtype).reshape(array.shape)
    view[...] = array
    assert not view.flags.aligned
    return view


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


class Subclass(np.ndarray):
    pass


LAYOUTS = {
    "plain": lambda a: a,
    "Fortran order": np.asfortranarray,
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
    "strided columns": lambda a: np.repeat(a, 3, axis=1)[:, ::3],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "big endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "big endian, strided": lambda a: np.repeat(a.astype(a.dtype.newbyteorder(">")), 2, 0)[::2],
    "unaligned": _unaligned,
    "read-only": _read_only,
    "a subclass": lambda a: a.view(Subclass),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_answer(layout: str) -> None:
    session = Session(graph("(float[N, 3] x) => (float[N, 3] y) { y = Neg(x) }"))
    array = LAYOUTS[layout](np.arange(12, dtype=np.float32).reshape(4, 3))
    expected = (-np.asarray(array)).astype(np.float32)
    for _ in range(3):
        (answer,) = session.run_ordered([array])
        assert type(answer) is np.ndarray
        np.testing.assert_array_equal(answer, expected)


def test_a_memory_mapped_array(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(6, dtype=np.float32).reshape(2, 3))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    (answer,) = Session(RELU).run_ordered([mapped])
    np.testing.assert_array_equal(answer, mapped)


@pytest.mark.parametrize("dtype", ["longlong", "int64", "long"])
def test_integers_of_one_width_are_one_dtype(dtype: str) -> None:
    session = Session(graph("(int64[N] x) => (int64[N] y) { y = Neg(x) }"))
    array = np.array([1, -2], dtype=dtype)
    if array.itemsize != 8:
        pytest.skip("this platform's long has 32 bits")
    for _ in range(3):
        (answer,) = session.run_ordered([array])
        assert answer.dtype == np.int64
        assert answer.tolist() == [-1, 2]


# -- edges: names, subsets, initializers ----------------------------------------------------------------


def test_outputs_by_name_in_the_order_asked_for() -> None:
    session = Session(graph("(float[N] x) => (float[N] a, float[N] b) { a = Neg(x) b = Abs(x) }"))
    feed = {"x": np.array([-1.0], np.float32)}
    assert list(session.run(feed)) == ["a", "b"]
    assert list(session.run(feed, ["b", "a"])) == ["b", "a"]
    only = session.run(feed, ("b",))
    assert list(only) == ["b"]
    assert only["b"].tolist() == [1.0]


def test_inputs_by_name_in_any_order(python_api: Any) -> None:
    model = graph("(float[N] a, float[N] b) => (float[N] y) { y = Sub(a, b) }")
    a, b = np.array([5.0], np.float32), np.array([3.0], np.float32)
    assert_runs_as_in_python(python_api, model, {"a": a, "b": b}, {"b": b, "a": a})


def test_names_that_are_not_ascii(python_api: Any) -> None:
    made = helper.make_graph(
        [helper.make_node("Neg", ["größe/0:1"], ["出力"])],
        "graph",
        [helper.make_tensor_value_info("größe/0:1", TensorProto.FLOAT, ["Zeilen"])],
        [helper.make_tensor_value_info("出力", TensorProto.FLOAT, ["Zeilen"])],
    )
    opset = helper.make_opsetid("", 21)
    model = helper.make_model(made, opset_imports=[opset], ir_version=10).SerializeToString()
    assert_runs_as_in_python(python_api, model, {"größe/0:1": np.ones(2, np.float32)})
    assert list(Session(model).run({"größe/0:1": np.ones(2, np.float32)}, ["出力"])) == ["出力"]


def test_initializers_that_may_be_overridden() -> None:
    """One that is listed as an input too has a default, which a caller may replace by name."""
    model = graph(
        "(float[N] x, float[1] scale) => (float[N] y) { y = Mul(x, scale) }",
        initializers={"scale": np.array([10], np.float32)},
    )
    session = Session(model, name="scaled")
    assert [spec.name for spec in session.inputs] == ["x"]
    x = np.array([1, 2], np.float32)
    other = np.array([-1], np.float32)
    for _ in range(3):
        assert session.run({"x": x})["y"].tolist() == [10.0, 20.0]
        assert session.run({"x": x, "scale": other})["y"].tolist() == [-1.0, -2.0]
        assert session.run_ordered([x])[0].tolist() == [10.0, 20.0]
    with pytest.raises(InputError, match=r"Expected float32 \(1,\), got float64 .*`scale`"):
        session.run({"x": x, "scale": np.array([1.0])})


def test_a_text_initializer_that_may_be_overridden_names_itself() -> None:
    model = graph(
        "(string[N] x, string[1] tail) => (string[N] y) { y = StringConcat(x, tail) }",
        initializers={"tail": np.array(["!"], dtype=object)},
    )
    session = Session(model)
    x = np.array(["a"], dtype=object)
    assert session.run({"x": x, "tail": np.array(["?"], dtype=object)})["y"].tolist() == ["a?"]
    with pytest.raises(InputError) as caught:
        session.run({"x": x, "tail": np.array([3], dtype=object)})
    assert caught.value.field != "x"


def test_a_model_without_inputs(python_api: Any) -> None:
    model = graph(
        "() => (float[2] y, string[1] t)"
        '{ y = Constant<value = float[2] {1, 2}>() t = Constant<value_strings = ["é"]>() }'
    )
    assert_runs_as_in_python(python_api, model, {})
    session = Session(model)
    assert session.inputs == ()
    for _ in range(3):
        assert session.run({})["y"].tolist() == [1.0, 2.0]
        assert session.run_ordered([])[1].tolist() == ["é"]


def test_specs() -> None:
    session = Session(
        graph(
            "(float[N, 3] x, string t, seq(int64[K]) s) => (float[N, 3] y, float z, int64 n)"
            "{ y = Neg(x) z = ReduceSum<keepdims = 0>(x) n = SequenceLength(s) }"
        )
    )
    assert session.inputs == (
        TensorSpec("x", "float32", ("N", 3)),
        TensorSpec("t", "string", ()),
        SequenceSpec("s", TensorSpec("", "int64", ("K",))),
    )
    assert session.outputs[1] == TensorSpec("z", "float32", ())
    assert [spec.name for spec in session.outputs] == ["y", "z", "n"]


def test_axes_without_a_name_and_shapes_without_a_rank() -> None:
    model = onnx.ModelProto.FromString(RELU)
    model.graph.input[0].type.tensor_type.shape.dim[0].ClearField("dim_param")
    assert Session(model.SerializeToString()).inputs[0].shape == (None, 3)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    session = Session(model.SerializeToString())
    assert session.inputs[0].shape is None
    for shape in [(2, 3), (), (1,), (2, 3), (0,), (1, 1, 1)]:
        (answer,) = session.run_ordered([np.full(shape, -1, np.float32)])
        assert answer.shape == shape
        assert not answer.any()


# -- edges: where models come from ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.onnx", "größe 日本.onnx", "no-suffix"])
def test_a_model_in_a_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(RELU)
    (answer,) = Session(str(path)).run_ordered([np.ones((1, 3), np.float32)])
    assert answer.tolist() == [[1.0, 1.0, 1.0]]


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS refuses file names that are not UTF-8")
def test_a_file_whose_name_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "bad-\udcff.onnx"
    path.write_bytes(RELU)
    assert Session(str(path)).inputs[0].name == "x"


def test_external_data_beside_a_file_and_in_a_folder(tmp_path: Path) -> None:
    weights = np.arange(3000, dtype=np.float32)
    model = onnx.ModelProto.FromString(
        graph("(float[N] x) => (float[N] y) { y = Add(x, w) }", initializers={"w": weights})
    )
    onnx.save_model(
        model,
        str(tmp_path / "big.onnx"),
        save_as_external_data=True,
        location="big.data",
        size_threshold=0,
    )
    x = np.ones(3000, np.float32)
    from_file = Session(str(tmp_path / "big.onnx"))
    content = (tmp_path / "big.onnx").read_bytes()
    from_bytes = Session(content, external_folder=str(tmp_path))
    for session in (from_file, from_bytes):
        np.testing.assert_array_equal(session.run_ordered([x])[0], x + weights)
    with pytest.raises(SessionError, match="`lost`"):
        Session(content, external_folder=str(tmp_path / "nowhere"), name="lost")


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (b"", "No graph"),
        (b"garbage", "protobuf"),
        (RELU[:-20], ""),
        ("/nonexistent/model.onnx", "/nonexistent/model.onnx"),
        ("/tmp", ""),
    ],
)
def test_what_is_no_model_is_refused_by_name(model: bytes | str, complaint: str) -> None:
    with pytest.raises(SessionError, match="cannot load model `broken`") as caught:
        Session(model, name="broken")
    assert complaint in str(caught.value)
    assert caught.value.model == "broken"
    assert caught.value.code > 0


def test_an_operator_that_onnxruntime_lacks_is_named() -> None:
    made = helper.make_graph(
        [helper.make_node("NoSuchOperator", ["x"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with pytest.raises(SessionError, match="NoSuchOperator"):
        Session(model.SerializeToString())


@pytest.mark.parametrize("model", [None, 3, bytearray(RELU), memoryview(RELU)])
def test_a_model_of_another_type_is_a_type_error(model: Any) -> None:
    with pytest.raises(TypeError, match="bytes or str"):
        Session(model)


# -- errors: inputs -------------------------------------------------------------------------------------

GOOD = np.array([[1, -2, 3]], np.float32)


@pytest.fixture(scope="module")
def relu() -> Session:
    return Session(RELU, name="relu")


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (GOOD.astype(np.float64), r"Expected float32 \(N, 3\), got float64 \(1, 3\) - `x`"),
        (GOOD.astype(np.int32), "got int32"),
        (GOOD.astype(np.complex64), "got complex64"),
        (GOOD.astype(">f8"), "got >f8"),
        (GOOD.astype(object), "got object"),
        (GOOD.astype("U"), "got <U"),
        (GOOD.astype("S"), r"got \|S"),
        (GOOD.astype(bool), "got bool"),
        (np.zeros((1, 3), "M8[s]"), "datetime64"),
        (np.zeros((1, 3), [("f", "f4")]), r"got \[\('f'"),
        (np.zeros((1, 3), "V4"), r"got \|V4"),
        (GOOD[0], r"got float32 \(3,\)"),
        (GOOD[None], r"got float32 \(1, 1, 3\)"),
        (GOOD[:, :2], r"got float32 \(1, 2\)"),
        (np.float32(3), "got float32"),
        (np.array(3, np.float32), r"got float32 \(\)"),
        (None, "got NoneType"),
        (GOOD.tolist(), "got list"),
        ("text", "got str"),
        (3, "got int"),
        ({"x": GOOD}, "got dict"),
        (GOOD.tobytes(), "got bytes"),
    ],
)
def test_values_that_do_not_fit(relu: Session, value: Any, complaint: str) -> None:
    for call in (lambda: relu.run({"x": value}), lambda: relu.run_ordered([value])):
        with pytest.raises(InputError, match=complaint) as caught:
            call()
        assert caught.value.field == "x"
        assert caught.value.model == "relu"
        # The good row is served as before, also by the hot way.
        for _ in range(2):
            assert relu.run_ordered([GOOD])[0].tolist() == [[1.0, 0.0, 3.0]]


@pytest.mark.parametrize(
    ("feed", "field"),
    [
        ({}, "x"),
        ({"y": GOOD}, "x"),
        ({"x": GOOD, "extra": GOOD}, "extra"),
        ({"X": GOOD}, "x"),
    ],
)
def test_names_that_do_not_fit(relu: Session, feed: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match="Expected inputs `x`") as caught:
        relu.run(feed)
    assert caught.value.field == field


@pytest.mark.parametrize("feed", [None, [GOOD], GOOD, "x", 3, {("x", 1)}])
def test_inputs_that_are_no_mapping(relu: Session, feed: Any) -> None:
    with pytest.raises((InputError, TypeError), match="dict"):
        relu.run(feed)


def test_a_mapping_that_is_no_dict(relu: Session) -> None:
    from types import MappingProxyType

    feed = MappingProxyType({"x": GOOD})
    assert relu.run(feed)["y"].tolist() == [[1.0, 0.0, 3.0]]


@pytest.mark.parametrize("inputs", [[], [GOOD, GOOD], (), (GOOD, None)])
def test_another_number_of_inputs(relu: Session, inputs: Any) -> None:
    with pytest.raises(InputError, match="Expected"):
        relu.run_ordered(inputs)
    assert relu.run_ordered((GOOD,))[0].tolist() == [[1.0, 0.0, 3.0]]


def test_an_unknown_output(relu: Session) -> None:
    with pytest.raises(InputError, match="Expected outputs among y, got 'z' - model `relu`"):
        relu.run({"x": GOOD}, ["z"])
    with pytest.raises(InputError):
        relu.run({"x": GOOD}, [])


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (["ok", None], r"got NoneType None at flat index 1"),
        (["ok", 3], "got int 3 at flat index 1"),
        (["ok", float("nan")], "got float nan"),
        ([b"ok", "ok"], "got bytes b'ok' at flat index 0"),
        (["ok", ["nested"]], "got list"),
        (["ok", "lone \ud800"], r"UTF-8.*lone surrogate"),
        (["ok", "\udcff"], r"UTF-8.*lone surrogate"),
    ],
)
def test_elements_that_are_no_text(value: list[Any], complaint: str) -> None:
    session = Session(graph("(string[N] x) => (string[N] y) { y = Identity(x) }"), name="text")
    array = np.empty(2, dtype=object)
    array[:] = value
    good = np.array(["good", "é"], dtype=object)
    # Before and after the shape is known to the hot way, whose buffers the refusal leaves half filled.
    for _ in range(3):
        with pytest.raises(InputError, match=complaint) as caught:
            session.run_ordered([array])
        assert caught.value.field == "x"
        assert session.run_ordered([good])[0].tolist() == ["good", "é"]


@pytest.mark.parametrize("value", [None, np.ones(2, np.float32), "ab", {"a": 1}, 3])
def test_sequences_are_lists(value: Any) -> None:
    session = Session(graph("(seq(float[N]) s) => (int64 n) { n = SequenceLength(s) }"))
    with pytest.raises(InputError, match="Expected a list") as caught:
        session.run({"s": value})
    assert caught.value.field == "s"


@pytest.mark.parametrize("item", [None, 1.0, np.ones(2), np.ones((1, 1), np.float32), [1.0]])
def test_items_of_a_sequence_must_fit(item: Any) -> None:
    session = Session(graph("(seq(float[N]) s) => (int64 n) { n = SequenceLength(s) }"))
    with pytest.raises(InputError, match="Expected float32") as caught:
        session.run({"s": [np.ones(1, np.float32), item]})
    assert caught.value.field == "s"
    assert session.run({"s": [np.ones(1, np.float32)]})["n"].item() == 1


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1],
        {"a": "1.5"},
        {"a": None},
        {1: 1.0},
        {"a": [1.0]},
        {"a": 1j},
        {None: 1.0},
        {"\ud800": 1.0},
        np.ones(1, np.float32),
    ],
)
def test_maps_must_fit(value: Any) -> None:
    session = Session(
        graph(
            "(map(string, float) x) => (float[N, M] y)"
            '{ y = ai.onnx.ml.DictVectorizer<string_vocabulary: strings = ["a"]>(x) }'
        )
    )
    with pytest.raises(InputError) as caught:
        session.run({"x": value})
    assert caught.value.field == "x"
    assert session.run({"x": {"a": 2.0}})["y"].tolist() == [[2.0]]


@pytest.mark.parametrize("key", [1.5, "1", None, 2**63, -(2**63) - 1, 2**70])
def test_integer_keys_must_fit(key: Any) -> None:
    session = Session(
        graph(
            "(map(int64, float) x) => (float[N, M] y)"
            "{ y = ai.onnx.ml.DictVectorizer<int64_vocabulary: ints = [1]>(x) }"
        )
    )
    with pytest.raises(InputError, match="map of int64 to float32"):
        session.run({"x": {key: 1.0}})


def test_inputs_whose_shapes_contradict_each_other() -> None:
    session = Session(
        graph("(float[N] a, float[N] b) => (float[N] y) { y = Add(a, b) }"), name="sum"
    )
    good = [np.ones(3, np.float32), np.ones(3, np.float32)]
    bad = [np.ones(3, np.float32), np.ones(2, np.float32)]
    for _ in range(3):
        with pytest.raises((InputError, SessionError), match="`sum`"):
            session.run_ordered(bad)
        assert session.run_ordered(good)[0].tolist() == [2.0] * 3


def test_a_run_that_fails_leaves_the_session_in_order() -> None:
    """The hot way tries a failing run a second time with fresh outputs; the error must still be told."""
    session = Session(
        graph("(float[3] table, int64[N] i) => (float[N] y) { y = Gather(table, i) }"),
        name="gather",
    )
    table = np.array([5, 6, 7], np.float32)
    for _ in range(4):
        assert session.run_ordered([table, np.array([2, 0])])[0].tolist() == [7.0, 5.0]
        with pytest.raises((InputError, SessionError), match=r"`gather`.*indices"):
            session.run_ordered([table, np.array([2, 3])])


# -- coerce, measure, life --------------------------------------------------------------------------------


def test_coerce_turns_values_into_arrays() -> None:
    seen = []

    def coerce(spec: Any, value: Any) -> Any:
        seen.append(spec)
        return np.asarray(value, dtype=spec.dtype)

    session = Session(RELU, coerce=coerce)
    assert session.run({"x": [[1, -2, 3]]})["y"].tolist() == [[1.0, 0.0, 3.0]]
    assert session.run_ordered([[[1, -2, 3]]])[0].tolist() == [[1.0, 0.0, 3.0]]
    assert seen == [TensorSpec("x", "float32", ("N", 3))] * 2


def test_what_coerce_raises_comes_through() -> None:
    def coerce(spec: Any, value: Any) -> Any:
        raise InputError("not today")

    with pytest.raises(InputError, match="not today"):
        Session(RELU, coerce=coerce).run({"x": 3})


def test_measure_fills_the_cost_model() -> None:
    session = Session(RELU)
    assert session.expected_run_s(GOOD.nbytes) is None
    median, n = session.measure([GOOD], 10.0, max_runs=9)
    assert n == 8  # the first run is not counted
    assert 0 < median < 1
    assert session.expected_run_s(GOOD.nbytes) == pytest.approx(median, abs=2e-9)
    assert session.expected_run_s(10**9) is None


@pytest.mark.parametrize("max_runs", [0, 1])
def test_measure_makes_one_run_at_least(max_runs: int) -> None:
    median, n = Session(RELU).measure([GOOD], 0.0, max_runs=max_runs)
    assert (n, median > 0) == (1, True)


def test_measure_refuses_what_run_refuses() -> None:
    session = Session(RELU)
    with pytest.raises(InputError, match="Expected float32"):
        session.measure([GOOD.astype(np.float64)], 1.0)
    with pytest.raises(InputError, match="Expected float32"):
        session.measure([3], 1.0)


def test_close_frees_and_says_so() -> None:
    session = Session(RELU, name="gone")
    session.run_ordered([GOOD])
    assert repr(session) == "<infersdk Session `gone`>"
    session.close()
    session.close()
    assert repr(session) == "<infersdk Session `gone` closed>"
    for call in (
        lambda: session.run({"x": GOOD}),
        lambda: session.run({"x": GOOD}, ["y"]),
        lambda: session.run_ordered([GOOD]),
        lambda: session.measure([GOOD], 0.1),
        lambda: session.expected_run_s(12),
    ):
        with pytest.raises(ClosedError, match="`gone` is closed"):
            call()
    # What the model is remains readable.
    assert session.inputs[0].name == "x"


def test_a_session_that_was_never_opened_is_closed() -> None:
    session = Session.__new__(Session)
    with pytest.raises(ClosedError):
        session.run_ordered([])
    with pytest.raises(ClosedError):
        session.expected_run_s(1)
    session.close()


def test_two_sessions_of_one_model_are_independent() -> None:
    first, second = Session(RELU), Session(RELU)
    first.close()
    assert second.run_ordered([GOOD])[0].tolist() == [[1.0, 0.0, 3.0]]


@pytest.mark.parametrize("release_gil", [None, True, False])
def test_threads_get_their_own_answers(release_gil: bool | None) -> None:
    """Mixed shapes and dtypes of failure from many threads at once: no answer is another's."""
    session = Session(
        graph(
            "(float[N, 3] x, string[N] t) => (float[N, 3] y, string[N] u) { y = Neg(x) u = Identity(t) }"
        ),
        release_gil=release_gil,
    )
    n_threads = 8
    start = threading.Barrier(n_threads)
    failures: list[str] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        start.wait()
        for i in range(150):
            n = int(rng.integers(0, 24))
            x = np.full((n, 3), seed * 1000 + i, np.float32)
            texts = np.array([f"{seed}:{i}:{row}" for row in range(n)], dtype=object)
            if i % 7 == 0:
                try:
                    session.run_ordered([x.astype(np.float64), texts])
                    failures.append("a bad input was taken")
                except InputError:
                    pass
            y, u = session.run_ordered([x, texts])
            if not (np.array_equal(y, -x) and u.tolist() == texts.tolist()):
                failures.append(f"thread {seed}, call {i}: another's answer")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, n_threads + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
