"""What a diagnosis says of models that convert, differ, stay, or cannot be served."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infersdk.convert.advice import advise
from infersdk.convert.compare import leaves
from infersdk.convert.diagnosis import Diagnosis, diagnose
from infersdk.convert.distribution import OutputErrors
from infersdk.errors import InputError

pytest.importorskip("sklearn", reason="the models are scikit-learn's")


def _added(ours: Any, theirs: Any) -> OutputErrors:
    errors = OutputErrors("predict")
    (mine,), (other,) = leaves(np.asarray(ours)), leaves(np.asarray(theirs))
    errors.add(mine, other, len(np.asarray(theirs)))
    return errors


def _rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3))
    return X, (X[:, 0] + X[:, 1] > 0).astype(int)


def _logistic(**steps: Any) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    X, y = _rows()
    return Pipeline([*steps.items(), ("last", LogisticRegression())]).fit(X, y)


# ---- distributions


def test_errors_are_counted_by_decades_as_numpy_counts_them() -> None:
    rng = np.random.default_rng(0)
    theirs = rng.normal(size=10_000)
    errors = 10 ** rng.uniform(-9, -3, theirs.size)
    errors[:100] = 0.0
    found = _added(theirs + errors, theirs)
    actual = np.abs(theirs + errors - theirs)
    assert found.n_values == 10_000
    assert found.n_equal == np.count_nonzero(actual == 0)
    assert found.max_abs_error == actual.max()
    assert found.max_rel_error == (actual / np.abs(theirs)).max()
    for exponent, count in found.decades().items():
        inside = (actual >= 10.0**exponent) & (actual < 10.0 ** (exponent + 1))
        # A logarithm that falls on the edge may be rounded to either side.
        assert abs(count - np.count_nonzero(inside)) <= 1
    for share in (0.1, 0.5, 0.9, 0.99, 1.0):
        exact = np.quantile(actual, share, method="inverted_cdf")
        assert exact <= found.quantile(share) * (1 + 1e-9)
        assert found.quantile(share) <= max(exact * 10**0.1, 1e-300) * (1 + 1e-9)
    at, shares = found.cumulative()
    assert (np.diff(at) > 0).all()
    assert shares[-1] == 1.0


def test_equal_numbers_and_missing_ones_are_apart() -> None:
    found = _added([1.0, np.nan, np.inf, np.nan, 2.0], [1.0, np.nan, np.inf, 3.0, -np.inf])
    assert (found.n_equal, found.n_unlike, found.buckets) == (3, 2, {})
    assert found.quantile(0.5) == 0.0
    assert found.quantile(1.0) == math.inf
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["p99_error"] is None


def test_discrete_answers_are_flips() -> None:
    found = _added(np.array(["a", "b", "c"]), np.array(["a", "x", "c"]))
    assert (found.n_flips, found.n_equal, found.n_values) == (1, 2, 3)


def test_another_shape_is_unlike_as_a_whole() -> None:
    assert _added(np.zeros((3, 1)), np.zeros(3)).n_unlike == 3


def test_a_share_outside_zero_and_one_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        _added([1.0], [1.0]).quantile(2)


# ---- models


def test_a_model_that_converts_is_proven() -> None:
    from sklearn.preprocessing import StandardScaler

    X, _ = _rows()
    found = diagnose(_logistic(scale=StandardScaler()), X)
    assert (found.verdict, found.framework, found.kind) == ("proven", "scikit-learn", "Pipeline")
    assert found.is_sound
    assert found.changes == ()
    assert found.methods[0] == "predict"
    assert found.parity is not None
    assert found.parity.passed
    assert {one.method for one in found.errors} == set(found.methods)
    compared = found.parity.n_example_rows + found.parity.n_edge_rows
    for one in found.errors:
        assert one.n_rows == compared
        (method,) = [known for known in found.parity.methods if known.method == one.method]
        if one.n_flips is None:
            assert one.max_abs_error == method.max_abs_error
        else:
            assert one.n_flips == method.label_flips
    _is_json(found)


def test_a_part_that_stays_is_named_with_what_to_change() -> None:
    from sklearn.preprocessing import FunctionTransformer

    X, _ = _rows()
    found = diagnose(_logistic(odd=FunctionTransformer(lambda x: x * 2 + 1)), X)
    assert found.plan is not None
    assert found.plan.kind in ("hybrid", "native")
    assert not found.is_sound
    assert "ufunc" in found.changes[0].do
    _is_json(found)


def test_a_model_without_rows_to_compare_is_unproven(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.linear_model import LinearRegression

    from infersdk.convert import sklearn as converter

    monkeypatch.setattr(converter, "edge_rows", lambda *args, **options: None)
    found = diagnose(LinearRegression().fit(*_rows()))
    assert (found.verdict, found.is_sound, found.parity) == ("unproven", False, None)
    assert "example=" in found.changes[0].do
    _is_json(found)


def _off_by(monkeypatch: pytest.MonkeyPatch, wrong: str, error: float) -> None:
    """Let scikit-learn's answers to one method be others than the graph's."""
    from infersdk.convert import sklearn as converter

    right = converter.call

    def call(model: Any, method: str, rows: Any) -> Any:
        answer = right(model, method, rows)
        return answer + error if method == wrong else answer

    monkeypatch.setattr(converter, "call", call)


def test_a_method_that_differs_is_told_from_those_that_agree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _off_by(monkeypatch, "decision_function", 0.5)
    found = diagnose(_logistic(), _rows()[0])
    assert (found.verdict, found.is_sound) == ("different", False)
    assert [change.where for change in found.changes] == ["decision_function"]
    assert "on_mismatch" in found.changes[0].do
    # What differs is counted too, although a Predictor would not answer it from the graph.
    (errors,) = [one for one in found.errors if one.method == "decision_function"]
    assert errors.quantile(0.01) == pytest.approx(0.5, rel=0.26)
    assert errors.max_abs_error == pytest.approx(0.5)


def test_a_model_that_answers_differently_is_native_and_its_errors_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sklearn.linear_model import LinearRegression

    _off_by(monkeypatch, "predict", 0.01)
    X, y = _rows()
    found = diagnose(LinearRegression().fit(X, y), X)
    assert found.verdict == "native"
    assert found.parity is not None
    assert not found.parity.passed
    (errors,) = found.errors
    assert errors.decades().keys() <= {-3, -2}
    _is_json(found)


def test_an_unfitted_model_is_refused() -> None:
    from sklearn.linear_model import LinearRegression

    found = diagnose(LinearRegression())
    assert (found.verdict, found.plan, found.is_sound) == ("refused", None, False)
    assert found.changes[0].do == "Fit the model first"
    _is_json(found)


def test_an_object_of_no_framework_is_refused() -> None:
    found = diagnose(object())
    assert (found.verdict, found.framework) == ("refused", "")
    assert "infersdk.batched" in found.changes[0].do


def test_an_onnx_model_has_nothing_to_be_compared_with() -> None:
    from onnx import parser

    text = '<ir_version: 10, opset_import: ["": 20]> f (float[N] x) => (float[N] y) { y = Neg(x) }'
    found = diagnose(parser.parse_model(text))
    assert (found.verdict, found.is_sound, found.errors) == ("onnx", True, ())


def test_an_onnx_model_answers_its_example_or_is_refused() -> None:
    from onnx import parser

    text = """<ir_version: 10, opset_import: ["": 20]> f (float[N] x) => (float[3] y) {
        shape = Constant<value = int64[1] {3}>()
        y = Reshape(x, shape)
    }"""
    model = parser.parse_model(text)
    assert diagnose(model, np.zeros(3, np.float32)).is_sound
    found = diagnose(model, np.zeros(4, np.float32))
    assert (found.verdict, found.is_sound) == ("refused", False)
    with pytest.raises(InputError):
        diagnose(model, np.zeros((2, 2), np.float32))


def test_an_onnx_model_that_does_not_run_is_refused() -> None:
    from onnx import parser

    text = '<ir_version: 10, opset_import: ["": 20]> f (float[N] x) => (float[N] y) { y = NoSuchOp(x) }'
    found = diagnose(parser.parse_model(text))
    assert (found.verdict, found.is_sound) == ("refused", False)
    assert "NoSuchOp" in found.changes[0].why


def test_an_estimator_of_ones_own_stays_and_could_be_registered() -> None:
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Sign(ClassifierMixin, BaseEstimator):
        def fit(self, X: Any, y: Any) -> Any:
            self.classes_, self.n_features_in_ = np.unique(y), X.shape[1]
            return self

        def predict(self, X: Any) -> Any:
            return (np.asarray(X)[:, 0] > 0).astype(int)

    X, y = _rows()
    found = diagnose(Sign().fit(X, y), X)
    assert found.verdict == "native"
    assert found.changes[0].do == "Write its ONNX form: @infersdk.convert.register(Sign)"


def test_what_opening_a_file_warns_of_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pickle

    path = tmp_path / "old.pkl"
    with monkeypatch.context() as patch:
        patch.setattr("sklearn.base.__version__", "0.24.0")
        path.write_bytes(pickle.dumps(_logistic()))
    found = diagnose(path, _rows()[0], trust=True)
    assert (found.name, found.kind, found.verdict) == ("old", "Pipeline", "proven")
    assert any("0.24.0" in text for text in found.warnings)
    refused = diagnose(path, _rows()[0])
    assert (refused.verdict, refused.plan) == ("refused", None)
    assert "trust" in refused.changes[0].why


# ---- advice


@pytest.mark.parametrize(
    ("reason", "kind", "words"),
    [
        ("not proven: there were no rows to compare with", "", "example="),
        ("sklearn.SplineTransformer has no exact ONNX form: ...", "Pipeline", "SplineTransformer"),
        ("X.transform gives a DataFrame. Call set_output", "X", "set_output"),
        ("its hash function is not written", "HashingVectorizer", "CountVectorizer"),
        ("Could not guard on data-dependent expression Eq(u0, 1)", "Net", "torch.where"),
        ("forward() takes a decision by the values of a tensor", "Net", "torch.where"),
        ("it keeps state between calls", "Net", "stream"),
        ("The function writes to variables (counter)", "Net", "stream"),
        ("ONNX has no form of these TensorFlow operators: Bincount", "", "NumPy"),
        ("No module named 'tf2onnx'", "", "Install"),
        ("predict differs in 3 rows (3 other labels)", "", 'on_mismatch="warn"'),
    ],
)
def test_advice(reason: str, kind: str, words: str) -> None:
    assert words in advise(reason, kind)


def test_no_advice_is_better_than_any() -> None:
    assert advise("") == ""
    assert advise("the moon is full") == ""


def _is_json(found: Diagnosis) -> None:
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["verdict"] == found.verdict
    assert str(found).startswith(found.name)
