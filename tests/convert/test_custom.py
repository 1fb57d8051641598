"""``@infersdk.convert.register``: ONNX functions of one's own, checked against the estimator."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import infersdk
from infersdk.convert import custom
from tests.convert.own_estimators import Grouping, Hand, Mean, Ratio

FAST = infersdk.Execution(calibration_s=0)


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr(custom, "_registered", {})


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3))
    return X, np.where(X[:, 0] + X[:, 1] > 0, "up", "down")


def ratio(op, estimator, x):
    a, b = x.columns(0), x.columns(1)
    return op.Concat(a / (1 + op.Abs(b)), a * b, axis=1)


def test_a_transformer(data):
    X, y = data
    model = make_pipeline(Ratio(), StandardScaler(), RandomForestClassifier(8, random_state=0))
    model.fit(X, y)
    assert infersdk.load(model, example=X, execution=FAST).plan.kind == "hybrid"
    assert infersdk.convert.register(Ratio)(ratio) is ratio
    predictor = infersdk.load(model, example=X, execution=FAST)
    assert predictor.plan.kind == "onnx"
    np.testing.assert_allclose(predictor.predict_proba(X), model.predict_proba(X), atol=1e-7)
    # And so it is an ONNX model as a whole.
    artifact = infersdk.convert(model, example=X)
    assert artifact.parity.passed


def test_a_classifier_and_a_regressor(data):
    X, y = data

    @infersdk.convert.register(Hand, method="predict_proba")
    def hand(op, estimator, x):
        p = op.Sigmoid(op.ReduceSum(x - estimator.mean_, [1], keepdims=1))
        return op.Concat(1.0 - p, p, axis=1)

    @infersdk.convert.register(Mean, method="predict")
    def mean(op, estimator, x):
        return op.ReduceMean(x, [1], keepdims=1) + estimator.level_

    for model in (Hand(), make_pipeline(StandardScaler(), Hand())):
        predictor = infersdk.load(model.fit(X, y), example=X, execution=FAST)
        assert predictor.plan.kind == "onnx", str(predictor.plan)
        np.testing.assert_array_equal(predictor.predict(X), model.predict(X))
        np.testing.assert_allclose(predictor.predict_proba(X), model.predict_proba(X), atol=1e-9)
    model = make_pipeline(StandardScaler(), Mean()).fit(X, X[:, 0])
    predictor = infersdk.load(model, example=X, execution=FAST)
    assert predictor.plan.kind == "onnx", str(predictor.plan)
    np.testing.assert_allclose(predictor.predict(X), model.predict(X), atol=1e-9)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (
            lambda op, estimator, x: x.columns(0, 1),
            "answers differently from the estimator, by up to",
        ),
        (lambda op, estimator, x: x.columns(0), r"shape \(2, 1\), the estimator with \(2, 2\)"),
        (lambda op, estimator, x: op.Log(x, x), "no valid graph"),
        (lambda op, estimator, x: op.NoSuchThing(x), "ONNX has no operator 'NoSuchThing'"),
        (lambda op, estimator, x: 7, "should return a tensor, got 7"),
        (lambda op, estimator, x: 1 / 0, "raised ZeroDivisionError"),
        (lambda op, estimator, x: op.ReduceSum(x), "should give a matrix with 2 rows"),
        (lambda op, estimator, x: x @ np.zeros((9, 2)), "no valid graph|does not run"),
    ],
)
def test_a_function_that_is_wrong_is_not_used(data, function, reason):
    X, y = data
    infersdk.convert.register(Ratio)(function)
    model = make_pipeline(Ratio(), LogisticRegression()).fit(X, y)
    predictor = infersdk.load(model, example=X, execution=FAST)
    assert predictor.plan.kind == "hybrid"
    (part,) = [part for part in predictor.plan.parts if part.runs == "source"]
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(part.reason)
    np.testing.assert_array_equal(predictor.predict(X), model.predict(X))


def test_a_subclass_is_another_class(data):
    X, y = data
    infersdk.convert.register(Ratio)(ratio)

    class Other(Ratio):
        pass

    model = make_pipeline(Other(), LogisticRegression()).fit(X, y)
    assert infersdk.load(model, example=X, execution=FAST).plan.kind == "hybrid"


def test_text_columns():
    rng = np.random.default_rng(0)
    X = np.array(rng.choice(["apple", "pear", "egg"], size=(60, 1)), dtype=object)
    y = np.where(X[:, 0] == "pear", 1, 0)

    class Known(Grouping):
        def transform(self, X):
            return (np.asarray(X, dtype=object) == "pear").astype(float)

    @infersdk.convert.register(Known)
    def known(op, estimator, x):
        return op.LabelEncoder(x, keys_strings=["pear"], values_floats=[1.0], default_float=0.0)

    model = make_pipeline(Known(), LogisticRegression()).fit(X, y)
    predictor = infersdk.load(model, example=X, execution=FAST)
    assert predictor.plan.kind == "onnx", str(predictor.plan)
    np.testing.assert_array_equal(predictor.predict(X), model.predict(X))


def test_wrong_registrations_are_refused():
    with pytest.raises(TypeError, match=r"class of an estimator, got Ratio\(\)"):
        infersdk.convert.register(Ratio())
    with pytest.raises(ValueError, match="got 'fit'"):
        infersdk.convert.register(Ratio, method="fit")
    with pytest.raises(TypeError, match="Expected a function"):
        infersdk.convert.register(Ratio)("no function")
