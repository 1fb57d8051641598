"""load() and convert(): where models come from, what happens on a mismatch, and what is refused.

The model is numpy's, with a converter of its own, so that the graph can be made wrong on purpose; one
scikit-learn model shows that the built-in converters are reached the same way.
"""

from __future__ import annotations

import inspect
import logging
import pathlib
import pickle
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, parser

import infersdk
from infersdk import (
    Artifact,
    ArtifactError,
    ConversionError,
    Execution,
    InputError,
    ParityError,
    Predictor,
    UnsupportedModelError,
)
from infersdk.convert import registry
from infersdk.convert.registry import Written
from infersdk.types import Field, Method, Signature, TensorSpec

X = np.arange(12, dtype=np.float64).reshape(6, 2)


@dataclass
class Total:
    """The source model: a row's sum, times two."""

    broken: bool = False

    def predict(self, rows: Any) -> Any:
        if self.broken:
            raise ValueError("this model is broken")
        return 2 * np.asarray(rows).sum(axis=1)


@dataclass
class TotalConverter:
    """Writes the graph of a Total, with another factor where it is to answer differently."""

    FRAMEWORK = "Total"
    EXTRA = "total"
    factor: float = 2.0
    failure: Exception | None = None
    opsets: tuple[int | None, ...] = ()

    def can_convert(self, model: Any) -> bool:
        return isinstance(model, Total)

    def infer_signature(self, model: Any, example: Any = None) -> Signature:
        return Signature(
            inputs=(TensorSpec("features", "float32", ("N", 2)),),
            outputs=(TensorSpec("prediction", "float32", ("N",)),),
            methods=(Method("predict", ("prediction",), dtype="float64", shape=()),),
            fields=(Field("a", "float", "features", 0), Field("b", "float", "features", 1)),
            container="array",
        )

    def to_onnx(self, model: Any, signature: Any, *, example: Any = None, opset: Any = None) -> Any:
        self.opsets += (opset,)
        if self.failure is not None:
            raise self.failure
        return Written(total_graph(self.factor), ("written by hand",))

    def call(self, model: Any, method: str, rows: Any) -> Any:
        return getattr(model, method)(rows)

    def edge_rows(self, *args: Any, **kwargs: Any) -> None:
        return None


def total_graph(factor: float = 2.0) -> ModelProto:
    return parser.parse_model(
        f"""<ir_version: 10, opset_import: ["": 21]>
        total (float[N, 2] features) => (float[N] prediction)
        {{
            axis = Constant<value_ints = [1]>()
            sum = ReduceSum<keepdims = 0>(features, axis)
            factor = Constant<value_float = {factor}>()
            prediction = Mul(sum, factor)
        }}"""
    )


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> TotalConverter:
    made = TotalConverter()
    monkeypatch.setattr(registry, "_registered", [made])
    return made


# -- load ---------------------------------------------------------------------------------------------


def test_load_proves_and_serves(converter: TotalConverter) -> None:
    predictor = infersdk.load(Total(), example=X)
    assert isinstance(predictor, Predictor)
    assert predictor.plan.kind == "onnx"
    assert predictor.plan.notes == ("written by hand",)
    assert predictor.parity is not None
    assert predictor.parity.passed
    assert predictor.parity.n_example_rows == 6
    assert predictor.name == "Total"
    np.testing.assert_array_equal(predictor.predict(X), Total().predict(X))
    np.testing.assert_array_equal(predictor({"a": 1, "b": 2}), [6.0])


def test_the_example_is_what_calibration_runs_on(converter: TotalConverter) -> None:
    predictor = infersdk.load(Total(), example=X)
    assert "6 rows of the example" in predictor.calibration.reason
    assert predictor.calibration.run_s is not None


def test_options_reach_the_predictor(converter: TotalConverter) -> None:
    execution = Execution(threads=1, calibration_s=0)
    predictor = infersdk.load(Total(), example=X, name="total", execution=execution, opset=19)
    assert predictor.name == "total"
    assert predictor.execution is execution
    assert predictor.calibration.run_s is None
    assert converter.opsets == (19,)
    with pytest.raises(InputError, match="model `total`"):
        predictor("no row")


def test_a_model_without_rows_to_compare_is_unproven_and_says_so(
    converter: TotalConverter,
) -> None:
    with pytest.warns(UserWarning, match=r"not proven.*Pass `example=`") as caught:
        predictor = infersdk.load(Total())
    # The warning points at the line that loads.
    assert [warning.filename for warning in caught] == [__file__]
    assert predictor.plan.kind == "onnx"
    assert predictor.parity is None
    assert any("not proven" in note for note in predictor.plan.notes)
    assert predictor.predict([1.0, 2.0]).tolist() == [6.0]


def test_everything_but_the_model_is_by_keyword() -> None:
    for function in (infersdk.load, infersdk.convert):
        first, *others = inspect.signature(function).parameters.values()
        assert first.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        assert {parameter.kind for parameter in others} == {inspect.Parameter.KEYWORD_ONLY}


def test_a_proven_model_is_loaded_in_silence(
    converter: TotalConverter, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        infersdk.load(Total(), example=X).predict(X)
    assert capfd.readouterr() == ("", "")


def test_the_plan_is_logged(converter: TotalConverter, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="infersdk"):
        infersdk.load(Total(), example=X, name="logged")
        converter.failure = ConversionError("no graph")
        infersdk.load(Total(), example=X, name="native")
    text = caplog.text
    assert "logged" in text
    assert "native" in text
    assert "no graph" in text
    assert {record.levelname for record in caplog.records} == {"INFO"}


# -- mismatches -----------------------------------------------------------------------------------------


def test_fallback_serves_the_source(converter: TotalConverter) -> None:
    converter.factor = 3.0
    predictor = infersdk.load(Total(), example=X)
    assert predictor.plan.kind == "native"
    assert "answers differently" in predictor.plan.reason
    assert predictor.parity is not None
    assert not predictor.parity.passed
    np.testing.assert_array_equal(predictor.predict(X), Total().predict(X))


def test_raise_tells_what_differs(converter: TotalConverter) -> None:
    converter.factor = 3.0
    with pytest.raises(ParityError, match="answers differently") as caught:
        infersdk.load(Total(), example=X, on_mismatch="raise")
    report = caught.value.report
    assert isinstance(report, infersdk.ParityReport)
    assert not report.passed
    # The sums are 1, 5, 9, ..., 21: three times the last is 21 off.
    assert report.max_abs_error == pytest.approx(21.0)
    assert "predict" in str(caught.value)


def test_warn_keeps_the_graph(converter: TotalConverter) -> None:
    converter.factor = 3.0
    with pytest.warns(UserWarning, match="answers differently") as caught:
        predictor = infersdk.load(Total(), example=X, on_mismatch="warn")
    assert [warning.filename for warning in caught] == [__file__]
    assert predictor.plan.kind == "onnx"
    assert any("predict differs" in note for note in predictor.plan.notes)
    np.testing.assert_array_equal(predictor.predict(X), 3 * X.sum(axis=1))


@pytest.mark.parametrize("on_mismatch", ["fallback", "warn"])
def test_what_cannot_be_written_falls_back(converter: TotalConverter, on_mismatch: Any) -> None:
    converter.failure = ConversionError("no graph for this one")
    predictor = infersdk.load(Total(), example=X, on_mismatch=on_mismatch)
    assert predictor.plan.kind == "native"
    assert "no graph for this one" in predictor.plan.reason
    np.testing.assert_array_equal(predictor.predict(X), Total().predict(X))


def test_what_cannot_be_written_raises_when_asked_to(converter: TotalConverter) -> None:
    converter.failure = ConversionError("no graph for this one")
    with pytest.raises(ConversionError, match="no graph for this one"):
        infersdk.load(Total(), example=X, on_mismatch="raise")
    converter.failure = RuntimeError("the exporter's own trouble")
    with pytest.raises(ConversionError, match="RuntimeError: the exporter's own trouble") as caught:
        infersdk.load(Total(), example=X, on_mismatch="raise")
    assert caught.value.__cause__ is converter.failure


@pytest.mark.parametrize("function", [infersdk.load, infersdk.convert])
def test_an_unknown_policy_is_a_value_error(function: Any, converter: TotalConverter) -> None:
    with pytest.raises(ValueError, match="on_mismatch"):
        function(Total(), example=X, on_mismatch="ignore")
    assert converter.opsets == ()


def test_an_example_that_the_source_refuses(converter: TotalConverter) -> None:
    with pytest.raises(InputError):
        infersdk.load(Total(broken=True), example=X)


@pytest.mark.parametrize("example", [["text"], [[1.0]], 3])
def test_an_example_that_is_no_rows(converter: TotalConverter, example: Any) -> None:
    with pytest.raises(InputError):
        infersdk.load(Total(), example=example)


# -- convert --------------------------------------------------------------------------------------------


def test_convert_gives_a_proven_artifact(converter: TotalConverter, tmp_path: Path) -> None:
    artifact = infersdk.convert(Total(), example=X, name="total")
    assert isinstance(artifact, Artifact)
    assert artifact.parity is not None
    assert artifact.parity.passed
    assert artifact.provenance is not None
    assert artifact.provenance.framework == "Total"
    path = artifact.save(tmp_path / "total.onnx")
    predictor = infersdk.load(path)
    assert (predictor.name, predictor.plan) == ("total", artifact.plan)
    assert predictor.parity == artifact.parity
    np.testing.assert_array_equal(predictor.predict(X), Total().predict(X))
    onnx.checker.check_model(onnx.load(path))


def test_convert_never_falls_back(converter: TotalConverter) -> None:
    converter.factor = 3.0
    with pytest.raises(ParityError, match="answers differently"):
        infersdk.convert(Total(), example=X)
    with pytest.warns(UserWarning, match="answers differently"):
        artifact = infersdk.convert(Total(), example=X, on_mismatch="warn")
    assert artifact.parity is not None
    assert not artifact.parity.passed
    with pytest.raises(ValueError, match="'raise' or 'warn', got 'fallback'"):
        infersdk.convert(Total(), example=X, on_mismatch="fallback")  # type: ignore[arg-type]
    converter.failure = ConversionError("no graph")
    for on_mismatch in ("raise", "warn"):
        with pytest.raises(ConversionError, match="no graph"):
            infersdk.convert(Total(), example=X, on_mismatch=on_mismatch)  # type: ignore[arg-type]


def test_convert_warns_where_it_could_not_prove(converter: TotalConverter) -> None:
    with pytest.warns(UserWarning, match="not proven") as caught:
        artifact = infersdk.convert(Total())
    assert [warning.filename for warning in caught] == [__file__]
    assert artifact.parity is None


@pytest.mark.parametrize(
    "first", ["infersdk", "infersdk.convert", "infersdk.convert.registry", "infersdk.runtime"]
)
def test_convert_stays_callable_whatever_is_imported(first: str) -> None:
    """The room where it is done is a package of the same name."""
    code = (
        f"import {first}\n"
        "import infersdk.convert.conversion, infersdk.convert.parity\n"
        "from infersdk.convert import registry\n"
        "print(callable(infersdk.convert), callable(infersdk.convert.register))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "True True"


# -- ONNX models ------------------------------------------------------------------------------------------


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    path = tmp_path / "my model.v2.onnx"
    path.write_bytes(total_graph().SerializeToString())
    return path


def test_an_onnx_model_from_everywhere(onnx_file: Path) -> None:
    rows = X.astype(np.float32)
    expected = 2 * rows.sum(axis=1)
    content = onnx_file.read_bytes()
    sources = (str(onnx_file), onnx_file, content, onnx.load(onnx_file))
    for source, name in zip(
        sources, ("my model.v2", "my model.v2", "model", "ModelProto"), strict=True
    ):
        predictor = infersdk.load(source)
        assert predictor.name == name
        assert predictor.plan.kind == "onnx"
        assert predictor.parity is None
        np.testing.assert_array_equal(predictor.predict(rows), expected)
        np.testing.assert_array_equal(predictor.run({"features": X})["prediction"], expected)
    assert infersdk.load(onnx_file, name="given").name == "given"


def test_a_relative_path(onnx_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(onnx_file.parent)
    predictor = infersdk.load(onnx_file.name)
    other = tmp_path / "elsewhere"
    other.mkdir()
    monkeypatch.chdir(other)
    # What it was opened from is found again from another folder.
    assert pickle.loads(pickle.dumps(predictor)).predict([[1.0, 2.0]]).tolist() == [6.0]


def test_convert_of_an_onnx_model_is_its_artifact(onnx_file: Path, tmp_path: Path) -> None:
    artifact = infersdk.convert(onnx_file, name="total")
    predictor = infersdk.load(artifact.save(tmp_path / "again.onnx"))
    assert predictor.predict([[1.0, 2.0]]).tolist() == [6.0]


def test_another_opset_of_an_onnx_model_is_refused(onnx_file: Path) -> None:
    assert infersdk.load(onnx_file, opset=21).predict([[1.0, 2.0]]).tolist() == [6.0]
    with pytest.raises(UnsupportedModelError, match="opset 18"):
        infersdk.load(onnx_file, opset=18)


def test_files_that_cannot_be_opened(onnx_file: Path, tmp_path: Path) -> None:
    content = onnx_file.read_bytes()
    empty, garbage, folder = (tmp_path / name for name in ("empty.onnx", "bad.onnx", "dir.onnx"))
    empty.write_bytes(b"")
    garbage.write_bytes(b"\xff" + content)
    folder.mkdir()
    for path in (tmp_path / "missing.onnx", empty, garbage, folder):
        with pytest.raises(ArtifactError) as caught:
            infersdk.load(path)
        assert path.name in str(caught.value)
    for data in (b"", b"garbage", content[: len(content) // 2]):
        with pytest.raises(ArtifactError):
            infersdk.load(data)


def test_a_changed_artifact_is_refused(converter: TotalConverter, tmp_path: Path) -> None:
    path = Path(infersdk.convert(Total(), example=X).save(tmp_path / "total.onnx"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="truncated or changed"):
        infersdk.load(path)


def test_a_graph_that_onnxruntime_cannot_load() -> None:
    model = parser.parse_model(
        '<ir_version: 10, opset_import: ["": 21]> g (float[N] x) => (float[N] y) { y = Nonsense(x) }'
    )
    with pytest.raises(infersdk.SessionError, match="Nonsense"):
        infersdk.load(model)


# -- what no converter takes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "complaint"),
    [
        (None, "NoneType"),
        (object(), r"got `builtins\.object`"),
        (3.5, "float"),
        ([1, 2], "list"),
        (len, "builtin_function"),
        ("model.bin", "there is no such file or folder"),
        (pathlib.Path(__file__), r"Opened by their path are \.onnx, .*pass the model itself"),
        ("", "path"),
        ("s3://bucket/model", "there is no such file or folder"),
        (np.ones(3), "ndarray"),
    ],
)
def test_what_is_no_model(model: Any, complaint: str) -> None:
    for function in (infersdk.load, infersdk.convert):
        with pytest.raises(UnsupportedModelError, match=complaint):
            function(model)


def test_a_model_file_that_is_not_there() -> None:
    for function in (infersdk.load, infersdk.convert):
        with pytest.raises(
            ArtifactError, match=r"Expected a model file at 'model.pkl', found none"
        ):
            function("model.pkl")


def test_a_class_and_an_unfitted_model() -> None:
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression

    with pytest.raises(UnsupportedModelError, match="not the class itself"):
        infersdk.load(LogisticRegression)
    with pytest.raises(UnsupportedModelError, match="fitted"):
        infersdk.load(LogisticRegression(), example=X)


def test_a_framework_with_an_exporter_of_its_own_is_told_of_it() -> None:
    made = type("Booster", (), {"__module__": "paddle.nn"})
    with pytest.raises(UnsupportedModelError, match="paddle2onnx"):
        infersdk.load(made())


# -- a real estimator ------------------------------------------------------------------------------------------------


def test_an_estimator_goes_the_whole_way(tmp_path: Path) -> None:
    """Loaded, saved, opened again, pickled: the same answers everywhere, and the model unchanged."""
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    features = rng.normal(size=(80, 3))
    model = LogisticRegression().fit(features, np.where(features[:, 0] > 0, "up", "down"))
    before = pickle.dumps(model)
    predictor = infersdk.load(model, example=features, name="direction")
    assert pickle.dumps(model) == before
    assert predictor.plan.kind == "onnx"
    reopened = infersdk.load(predictor.save(tmp_path / "direction.onnx"))
    copied = pickle.loads(pickle.dumps(reopened))
    for one in (predictor, reopened, copied):
        np.testing.assert_array_equal(one.predict(features), model.predict(features))
        np.testing.assert_allclose(
            one.predict_proba(features), model.predict_proba(features), rtol=1e-5, atol=1e-6
        )
        assert one.predict(features).dtype == model.predict(features).dtype
