"""Models in fewer bits: what applies, what is refused, and that the report tells what is true."""

from __future__ import annotations

import importlib
import logging
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import infersdk
from infersdk import Artifact, PrecisionError
from infersdk.types import PrecisionReport

sklearn = pytest.importorskip("sklearn", reason="trains the network")

precision = importlib.import_module("infersdk.convert.precision")
quantize = importlib.import_module("infersdk.convert.quantize")

RNG = np.random.default_rng(0)


def graph_of(nodes, weights, inputs, outputs, *, opset=18):
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


@pytest.fixture(scope="module")
def digits():
    """A trained network, 64-64-10 in float32, and rows that it has not seen."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    trained = MLPClassifier((64,), max_iter=600, random_state=0).fit(x[:1200], y[:1200])
    (first, second), (shift, last) = trained.coefs_, trained.intercepts_
    model = graph_of(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], transB=1),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "w2", "b2"], ["scores"]),
        ],
        {
            "w1": np.ascontiguousarray(first.T, np.float32),
            "b1": shift.astype(np.float32),
            "w2": second.astype(np.float32),
            "b2": last.astype(np.float32),
        },
        [("x", TensorProto.FLOAT, ["N", 64])],
        [("scores", TensorProto.FLOAT, ["N", 10])],
    )
    return model, x[1200:]


@pytest.fixture(scope="module")
def image_network():
    """Convolution, batch normalization and a dense layer, with an input of its own size only."""
    channels = np.float32(RNG.uniform(0.5, 1.5, (4, 64)))
    model = graph_of(
        [
            helper.make_node("Conv", ["x", "first"], ["a"], pads=[1, 1, 1, 1]),
            helper.make_node("Conv", ["a", "second"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", ["c", "scale", "bias", "mean", "var"], ["n"]),
            helper.make_node("Relu", ["n"], ["r"]),
            helper.make_node("GlobalAveragePool", ["r"], ["g"]),
            helper.make_node("Flatten", ["g"], ["f"]),
            helper.make_node("Gemm", ["f", "w"], ["y"]),
        ],
        {
            "first": RNG.standard_normal((16, 3, 3, 3)).astype(np.float32),
            "second": RNG.standard_normal((64, 16, 3, 3)).astype(np.float32),
            **dict(zip(("scale", "bias", "mean", "var"), channels, strict=True)),
            "w": RNG.standard_normal((64, 3)).astype(np.float32),
        },
        [("x", TensorProto.FLOAT, [4, 3, 16, 16])],
        [("y", TensorProto.FLOAT, [4, 3])],
    )
    return model, RNG.standard_normal((4, 3, 16, 16)).astype(np.float32)


def run(artifact: Artifact, **inputs):
    """Ask onnxruntime itself."""
    model = artifact.session_model()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def graph(artifact: Artifact):
    return onnx.load_model_from_string(artifact.session_model()).graph


# -- what is kept -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["fp16", "int8", "int4"])
def test_the_report_is_what_onnxruntime_answers(digits, kind, tmp_path):
    from sklearn.metrics import r2_score

    model, rows = digits
    reduced = infersdk.convert(model, example=rows, precision=kind, max_drop=0.1)
    report = reduced.precision
    assert isinstance(report, PrecisionReport)
    assert report.precision == kind

    compared = rows[1::2]  # every second row has calibrated
    full = infersdk.convert(model, example=rows)
    chunks = [compared[first : first + 64] for first in range(0, len(compared), 64)]
    ours = np.concatenate([run(reduced, x=chunk)[0] for chunk in chunks]).astype(np.float64)
    theirs = np.concatenate([run(full, x=chunk)[0] for chunk in chunks]).astype(np.float64)
    flips = int((ours.argmax(1) != theirs.argmax(1)).sum())
    lost = 1 - r2_score(theirs, ours, multioutput="variance_weighted")
    (method,) = report.methods
    assert report.n_rows == len(compared)
    assert method.label_flips == flips
    assert method.measure == "scores"
    assert method.drop == pytest.approx(max(flips / len(compared), lost), rel=1e-3, abs=1e-9)
    assert method.max_abs_error == pytest.approx(np.abs(ours - theirs).max(), rel=1e-3)
    assert report.drop == method.drop <= report.max_drop == 0.1
    assert report.full_size_bytes == full.size_bytes
    assert report.size_bytes == pytest.approx(reduced.size_bytes, abs=4096)  # the report itself
    assert report.size_bytes < report.full_size_bytes
    assert report.run_rows == (1, 32)
    assert all(seconds > 0 for seconds in (*report.run_s, *report.full_run_s))

    assert [spec.dtype for spec in (*reduced.signature.inputs, *reduced.signature.outputs)] == [
        "float32",
        "float32",
    ]
    assert any(note.startswith(f"{kind}: ") for note in reduced.plan.notes)
    again = Artifact.open(reduced.save(tmp_path / "small.onnx"))
    assert again.precision == report
    for part in (kind, "size, bytes", "1 row, us", "32 rows, us", "drop", "max_drop=0.1"):
        assert part in str(report)


def test_a_predictor_serves_the_reduced_model(digits):
    model, rows = digits
    with infersdk.load(model, example=rows, precision="int8", max_drop=0.05) as served:
        assert served.artifact.precision.precision == "int8"
        (expected,) = run(served.artifact, x=rows[:5])
        np.testing.assert_allclose(served(rows[:5]), expected, rtol=1e-5, atol=1e-5)
        assert "int8" in str(served.plan)


def test_rows_that_share_their_scales_share_no_run_with_strangers(digits, monkeypatch):
    model, rows = digits
    every = quantize.recipes
    for mixes in (True, False):
        monkeypatch.setattr(
            precision,
            "recipes",
            lambda *given, mixes=mixes: [r for r in every(*given) if r.mixes_rows == mixes],
        )
        reduced = infersdk.convert(model, example=rows, precision="int8", max_drop=0.1)
        (together,), (alone,) = run(reduced, x=rows[:8]), run(reduced, x=rows[:1])
        assert np.allclose(together[:1], alone, rtol=1e-4, atol=1e-4) == (not mixes)
        specs = (*reduced.signature.inputs, *reduced.signature.outputs)
        assert all((spec.shape[0] == "N") == (not mixes) for spec in specs)
        dims = [graph(reduced).input[0].type.tensor_type.shape.dim[0].dim_param]
        assert dims == ["rows" if mixes else "N"]


def test_the_model_given_is_left_as_it_is(digits):
    model, rows = digits
    before = model.SerializeToString(deterministic=True)
    for kind in ("fp16", "int8", "int4"):
        infersdk.convert(model, example=rows, precision=kind, max_drop=0.1)
    assert model.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("kind", ["fp16", "int8"])
def test_a_convolution_of_a_fixed_size(image_network, kind):
    model, rows = image_network
    reduced = infersdk.convert(model, example=rows, precision=kind, max_drop=0.3)
    report = reduced.precision
    (ours,), (theirs,) = run(reduced, x=rows), run(infersdk.convert(model), x=rows)
    assert report.methods[0].max_abs_error == pytest.approx(np.abs(ours - theirs).max(), rel=1e-3)
    assert report.n_rows == 4
    assert report.run_rows == (4,)
    if kind == "int8":
        kinds = {node.op_type for node in graph(reduced).node}
        assert "QuantizeLinear" in kinds
        assert "BatchNormalization" not in kinds, "it belongs into the convolution's weights"


def test_int8_weights_leave_room_for_processors_without_vnni(image_network):
    model, rows = image_network
    reduced = infersdk.convert(model, example=rows, precision="int8", max_drop=0.3)
    stored = [
        numpy_helper.to_array(item)
        for item in graph(reduced).initializer
        if item.data_type == TensorProto.INT8 and len(item.dims) > 1
    ]
    assert stored
    assert all(np.abs(values.astype(int)).max() <= 64 for values in stored)


@pytest.mark.parametrize("recipe", [0, 1])
def test_thresholds_stay_in_float32(monkeypatch, recipe):
    """0.1000001 would be 0.1 in float16."""
    every = quantize.recipes
    monkeypatch.setattr(precision, "recipes", lambda *given: every(*given)[recipe : recipe + 1])
    threshold = np.float32([0.1000001])
    model = graph_of(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Greater", ["h", "threshold"], ["above"]),
        ],
        {"w": np.eye(64, dtype=np.float32), "threshold": threshold},
        [("x", TensorProto.FLOAT, ["N", 64])],
        [("above", TensorProto.BOOL, ["N", 64]), ("h", TensorProto.FLOAT, ["N", 64])],
    )
    rows = RNG.standard_normal((30, 64)).astype(np.float32)
    reduced = infersdk.convert(model, example=rows, precision="fp16", max_drop=0.1)
    stored = {item.name: numpy_helper.to_array(item) for item in graph(reduced).initializer}
    assert stored.get("w", stored.get("w_float16")).dtype == np.float16
    assert stored["threshold"] == threshold
    assert stored["threshold"].dtype == np.float32


@pytest.mark.parametrize("kind", ["fp16", "int8", "int4"])
def test_the_users_log_is_left_as_it_is(digits, kind, caplog):
    model, rows = digits
    root = logging.getLogger()
    before = (root.handlers[:], root.level, root.filters[:])
    infersdk.convert(model, example=rows, precision=kind, max_drop=0.1)
    assert (root.handlers, root.level, root.filters) == before
    assert {record.name for record in caplog.records} <= {"infersdk"}


def test_a_graph_that_crashes_onnxruntime_is_passed_over(digits, monkeypatch):
    model, rows = digits
    killed = type("Done", (), {"returncode": -11})()
    monkeypatch.setattr(precision.subprocess, "run", lambda *args, **options: killed)
    monkeypatch.setattr(precision, "_MOST_ROWS", 64)
    reduced = infersdk.convert(model, example=rows, precision="fp16")
    assert reduced.precision.recipe == "float16 weights, float32 arithmetic"
    every = quantize.recipes
    monkeypatch.setattr(precision, "recipes", lambda *given: every(*given)[:1])
    with pytest.raises(PrecisionError, match="crashes when it loads the model"):
        infersdk.convert(model, example=rows, precision="fp16")


# -- what is refused --------------------------------------------------------------------------------


def test_a_bad_trade_is_refused_and_says_what_would_pass(digits):
    model, rows = digits
    with pytest.raises(PrecisionError, match="changes the answers too much") as caught:
        infersdk.convert(model, example=rows, precision="int4", max_drop=0.0)
    report = caught.value.report
    assert report.drop > 0
    assert not report.passed
    assert "BEYOND max_drop=0" in str(report)
    accepted = float(str(caught.value).split("max_drop=")[1].split()[0])
    assert report.drop <= accepted <= 1.1 * report.drop
    reduced = infersdk.convert(model, example=rows, precision="int4", max_drop=accepted)
    assert reduced.precision.drop == pytest.approx(report.drop)


def test_trees_are_not_reduced():
    from sklearn.ensemble import RandomForestClassifier

    x = RNG.standard_normal((60, 3))
    forest = RandomForestClassifier(3, random_state=0).fit(x, x[:, 0] > 0)
    for kind in ("fp16", "int8", "int4"):
        with pytest.raises(PrecisionError, match="decides by thresholds"):
            infersdk.convert(forest, example=x, precision=kind)


def test_float64_models_are_not_reduced():
    from sklearn.linear_model import LogisticRegression

    x = RNG.standard_normal((60, 3))
    linear = LogisticRegression().fit(x, x[:, 0] > 0)
    with pytest.raises(PrecisionError, match="does not apply"):
        infersdk.convert(linear, example=x, precision="int8")


def test_a_graph_without_weights_is_not_reduced():
    model = graph_of(
        [helper.make_node("Relu", ["x"], ["y"])],
        {},
        [("x", TensorProto.FLOAT, ["N", 2])],
        [("y", TensorProto.FLOAT, ["N", 2])],
    )
    with pytest.raises(PrecisionError, match=r"no MatMul, Gemm, Conv or LSTM .*operators: Relu"):
        infersdk.convert(model, example=np.ones((4, 2), np.float32), precision="int8")


def test_a_model_without_a_graph_is_not_reduced():
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Own(ClassifierMixin, BaseEstimator):
        def fit(self, x, y):
            self.classes_, self.n_features_in_ = np.unique(y), x.shape[1]
            return self

        def predict(self, x):
            return np.full(len(x), self.classes_[0])

    x = RNG.standard_normal((20, 3))
    with pytest.raises(PrecisionError, match="no ONNX graph"):
        infersdk.load(Own().fit(x, x[:, 0] > 0), example=x, precision="int8")


def test_what_gains_nothing_is_refused():
    """One weight among much that is none."""
    model = graph_of(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Mul", ["h", "c"], ["y"])],
        {
            "w": RNG.standard_normal((2, 4)).astype(np.float32),
            "c": RNG.standard_normal(4).astype(np.float32),
        },
        [("x", TensorProto.FLOAT, ["N", 2])],
        [("y", TensorProto.FLOAT, ["N", 4])],
    )
    rows = RNG.standard_normal((50, 2)).astype(np.float32)
    with pytest.raises(PrecisionError, match="neither smaller nor faster"):
        infersdk.convert(model, example=rows, precision="int4", max_drop=1.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "int7"}, "'fp16', 'int8' or 'int4'"),
        ({"precision": "int8", "max_drop": 2}, "share from 0 to 1"),
        ({"precision": "int8", "max_drop": float("nan")}, "share from 0 to 1"),
        ({"precision": "int8", "example": None}, "pass some"),
    ],
)
def test_what_cannot_be_meant(digits, options, said):
    model, rows = digits
    with pytest.raises(ValueError, match=said):
        infersdk.convert(model, **{"example": rows, **options})


# -- the measure ------------------------------------------------------------------------------------


def moved(ours, theirs, method="predict"):
    leaf = importlib.import_module("infersdk.convert.compare").Leaf
    pair = [[[leaf("", np.asarray(item), str(np.asarray(item).dtype))]] for item in (ours, theirs)]
    return precision._moved(method, *pair, [len(np.asarray(ours))])


def test_labels_drop_by_the_share_of_rows():
    found = moved(["a", "b", "c", "d"], ["a", "b", "c", "e"])
    assert (found.measure, found.drop, found.label_flips) == ("labels", 0.25, 1)


def test_numbers_drop_by_what_is_not_explained():
    from sklearn.metrics import r2_score

    theirs = RNG.standard_normal((50, 1)) * 3 + 7
    ours = theirs + 0.3 * RNG.standard_normal((50, 1))
    found = moved(ours, theirs)
    assert found.measure == "r2"
    assert found.drop == pytest.approx(1 - r2_score(theirs, ours))
    assert found.label_flips is None


def test_features_are_no_scores():
    theirs = RNG.standard_normal((50, 3))
    assert moved(theirs[:, ::-1], theirs, "transform").measure == "r2"
    assert moved(theirs[:, ::-1], theirs).drop > 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_lost_leaves_no_agreement(bad):
    theirs = np.arange(6.0)
    ours = theirs.copy()
    ours[2] = bad
    assert moved(ours, theirs).drop == 1
    assert moved(ours, ours).drop == 0


def test_answers_that_are_all_alike():
    assert moved(np.full(5, 2.0), np.full(5, 2.0)).drop == 0
    assert moved(np.full(5, 2.2), np.full(5, 2.0)).drop == pytest.approx(0.01)
    assert moved(np.full(5, 0.1), np.zeros(5)).drop == 1


# -- from the framework ------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_pages_examples_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="the example is a torch model")
    page = (Path(__file__).parents[2] / "docs" / "precision.md").read_text()
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "page"}
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page, re.DOTALL), 1):
        exec(compile(block, f"docs/precision.md, example {number}", "exec"), namespace)
    printed = capsys.readouterr().out
    assert "precision: int8" in printed
    assert "would accept it" in printed
    assert (tmp_path / "digits.onnx").exists()


@pytest.mark.slow
def test_a_torch_model_with_attention_in_int8():
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(300, 64)
            self.layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True)
            self.last = nn.Linear(64, 1)

        def forward(self, tokens):
            return self.last(self.layer(self.embedding(tokens)).mean(1))

    torch.manual_seed(0)
    model, tokens = Encoder().eval(), torch.randint(0, 300, (80, 12))
    with infersdk.load(model, example=tokens, precision="int8", max_drop=0.05) as served:
        with torch.inference_mode():
            expected = model(tokens).numpy()
        answer = served(tokens.numpy())
        spread = ((expected - expected.mean()) ** 2).sum()
        assert ((answer - expected) ** 2).sum() / spread < 0.05
        assert served.artifact.size_bytes < 0.5 * served.artifact.precision.full_size_bytes


class TestHybrid:
    """Parts of the model stay in scikit-learn; the graph of the rest is reduced."""

    TRUST = ("tests.convert.own_estimators.Ratio",)
    QUICK = infersdk.Execution(threads=1, calibration_s=0.0)

    @pytest.fixture
    def model(self, monkeypatch):
        """A network with an ONNX form behind a step without one."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        from infersdk.convert import custom
        from tests.convert.own_estimators import Lift, Ratio

        monkeypatch.setattr(custom, "_registered", {})

        @infersdk.convert.register(Lift)
        def lift(op, estimator, x):
            first, second = (
                op.Constant(value=numpy_helper.from_array(weights))
                for weights in (estimator.first_, estimator.second_)
            )
            hidden = op.Tanh(op.MatMul(op.Cast(x, to=TensorProto.FLOAT), first))
            return op.Cast(op.MatMul(hidden, second), to=TensorProto.DOUBLE)

        rows = np.random.default_rng(0).normal(size=(200, 3))
        labels = rows[:, 0] * rows[:, 1] > 0
        return make_pipeline(Ratio(), Lift(), LogisticRegression()).fit(rows, labels), rows

    @pytest.mark.parametrize("fewer", ["fp16", "int8"])
    def test_float32_weights_are_reduced(self, model, fewer, tmp_path, monkeypatch):
        pytest.importorskip("skops", reason="skops is not installed")
        pipeline, rows = model
        ends = []

        def watched(*args, **settings):
            done = run(*args, **settings)
            ends.append(done.returncode)
            return done

        run = precision.subprocess.run
        monkeypatch.setattr(precision.subprocess, "run", watched)
        settings = {"example": rows, "execution": self.QUICK}
        served = infersdk.load(pipeline, precision=fewer, max_drop=0.2, **settings)
        assert ends == ([0] if fewer == "fp16" else [])  # the trial of the graph alone
        assert served.plan.kind == "hybrid"
        report = served.artifact.precision
        assert report.precision == fewer
        assert report.size_bytes < 0.7 * report.full_size_bytes
        path = served.save(tmp_path / "reduced.onnx")
        opened = infersdk.load(path, trust=self.TRUST, execution=self.QUICK)
        assert opened.artifact.precision == report
        np.testing.assert_array_equal(opened.predict_proba(rows), served.predict_proba(rows))
        agreed = np.mean(served.predict(rows) == pipeline.predict(rows))
        assert agreed >= 1 - report.max_drop

    @pytest.mark.parametrize("fewer", ["fp16", "int8"])
    def test_float64_weights_are_refused(self, fewer):
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        from tests.convert.own_estimators import Ratio

        rows = np.random.default_rng(0).normal(size=(60, 3))
        pipeline = make_pipeline(Ratio(), LogisticRegression()).fit(rows, rows[:, 0] > 0)
        with pytest.raises(
            PrecisionError, match=f"{fewer} does not apply: the weights are float64"
        ):
            infersdk.load(pipeline, example=rows, precision=fewer, execution=self.QUICK)
