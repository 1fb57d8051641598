"""Hybrid and native models in files: through skops or a function of the app, and never a pickle."""

from __future__ import annotations

import json
import sys

import numpy as np
import onnx
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
pytest.importorskip("skops", reason="skops is not installed")

from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import infersdk
from infersdk.artifact import Artifact
from infersdk.convert import sklearn as converter
from tests.convert.own_estimators import Hand, Ratio

FAST = infersdk.Execution(calibration_s=0)
OWN = ("tests.convert.own_estimators.Ratio",)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    return X, np.where(X[:, 0] + X[:, 1] > 0, "up", "down")


@pytest.fixture(scope="module")
def hybrid(data):
    X, y = data
    return make_pipeline(StandardScaler(), Ratio(), LogisticRegression()).fit(X, y)


@pytest.fixture
def saved(hybrid, data, tmp_path):
    predictor = infersdk.load(hybrid, example=data[0], execution=FAST, name="churn")
    return predictor, predictor.save(tmp_path / "churn.onnx")


def test_a_hybrid_model_opens_where_its_types_are_trusted(saved, data):
    predictor, path = saved
    X = data[0]
    onnx.checker.check_model(path)
    for trust in (OWN, True):
        opened = infersdk.load(path, trust=trust, execution=FAST)
        assert opened.plan == predictor.plan
        assert opened.parity == predictor.parity
        assert opened.name == "churn"
        np.testing.assert_array_equal(opened.predict_proba(X), predictor.predict_proba(X))


@pytest.mark.parametrize("first", [True, False], ids=["before the sampler", "behind it"])
def test_a_pipeline_of_imbalanced_learn(data, tmp_path, first):
    pytest.importorskip("imblearn", reason="imbalanced-learn is not installed")
    from imblearn.over_sampling import RandomOverSampler
    from imblearn.pipeline import make_pipeline

    X, y = data
    steps = [RandomOverSampler(random_state=0), StandardScaler(), LogisticRegression()]
    steps.insert(0 if first else 2, Ratio())
    model = make_pipeline(*steps).fit(X, np.where(X[:, 0] > 0.8, "rare", y))
    predictor = infersdk.load(model, example=X, execution=FAST)
    assert predictor.plan.kind == "hybrid"
    path = predictor.save(tmp_path / "rare.onnx")
    with pytest.raises(infersdk.ArtifactError, match="Ratio"):
        infersdk.load(path)
    opened = infersdk.load(path, trust=OWN, execution=FAST)
    assert opened.plan.kind == "hybrid"
    for served in (predictor, opened):
        np.testing.assert_array_equal(served.predict(X), model.predict(X))
        np.testing.assert_allclose(served.predict_proba(X), model.predict_proba(X), atol=1e-12)


@pytest.mark.parametrize("trust", [False, (), ("some.other.Type",)])
def test_types_that_nobody_trusts_are_named(saved, trust):
    with pytest.raises(infersdk.ArtifactError, match=r"Ratio.*trust=\('tests.convert.own_est"):
        infersdk.load(saved[1], trust=trust)


def test_only_the_parts_that_stay_are_in_the_file(saved):
    document = Artifact.open(saved[1]).documents["source"]
    assert document["format"] == "skops"
    assert "LogisticRegression" not in json.dumps(document)


def test_an_opened_model_can_be_saved_again(saved, data, tmp_path):
    opened = infersdk.load(saved[1], trust=OWN, execution=FAST)
    again = infersdk.load(opened.save(tmp_path / "again.onnx"), trust=OWN, execution=FAST)
    np.testing.assert_array_equal(again.predict(data[0]), opened.predict(data[0]))


def test_a_native_model_of_scikit_learn_needs_no_trust(data, tmp_path, monkeypatch):
    X, y = data

    def refuse(*args, **kwargs):
        raise infersdk.UnsupportedModelError("no graph today")

    monkeypatch.setattr(converter, "to_onnx", refuse)
    for model in (LogisticRegression().fit(X, y), KMeans(2, n_init=1, random_state=0).fit(X)):
        predictor = infersdk.load(model, example=X, execution=FAST, name="plain")
        assert predictor.plan.kind == "native"
        path = predictor.save(tmp_path / "native.onnx")
        onnx.checker.check_model(path)
        opened = infersdk.load(path, execution=FAST)
        assert opened.plan == predictor.plan
        assert opened.signature == predictor.signature
        assert opened.artifact is None
        np.testing.assert_array_equal(opened.predict(X), model.predict(X))
        with pytest.raises(infersdk.SessionError, match="no graph to run"):
            opened.run({})


def test_an_own_classifier_under_the_native_plan(data, tmp_path):
    X, y = data
    model = Hand().fit(X, y)
    path = infersdk.load(model, example=X, execution=FAST).save(tmp_path / "own.onnx")
    with pytest.raises(infersdk.ArtifactError, match="Hand"):
        infersdk.load(path)
    opened = infersdk.load(path, trust=("tests.convert.own_estimators.Hand",), execution=FAST)
    np.testing.assert_array_equal(opened.predict(X), model.predict(X))


@pytest.fixture
def the_app(monkeypatch, hybrid, data):
    """A module of an app with a function that gives the model."""
    import types

    module = types.ModuleType("the_app")
    module.calls = 0

    def load_model():
        module.calls += 1
        return hybrid

    module.load_model = load_model
    module.other = lambda: LogisticRegression().fit(*data)
    monkeypatch.setitem(sys.modules, "the_app", module)
    return module


def test_a_function_of_the_app_is_called_only_when_named(hybrid, data, tmp_path, the_app):
    X = data[0]
    predictor = infersdk.load(hybrid, example=X, execution=FAST)
    path = predictor.save(tmp_path / "m.onnx", source="the_app:load_model")
    calls = the_app.calls
    with pytest.raises(infersdk.ArtifactError, match=r"trust=\('the_app:load_model',\)"):
        infersdk.load(path)
    assert the_app.calls == calls
    opened = infersdk.load(path, trust=("the_app:load_model",), execution=FAST)
    assert the_app.calls == calls + 1
    np.testing.assert_array_equal(opened.predict_proba(X), predictor.predict_proba(X))


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("the_app", "Expected `module:function`"),
        ("the_app:nothing", "cannot be imported"),
        ("no_such_app:load", "cannot be imported"),
        ("the_app:other", "the part `ratio.transform` is missing"),
    ],
)
def test_a_wrong_function_is_refused_when_saving(hybrid, data, tmp_path, the_app, target, reason):
    predictor = infersdk.load(hybrid, example=data[0], execution=FAST)
    with pytest.raises(infersdk.ArtifactError, match=reason):
        predictor.save(tmp_path / "m.onnx", source=target)
    assert not (tmp_path / "m.onnx").exists()


def test_a_native_model_of_another_framework_needs_a_function(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    import types

    class Branch(torch.nn.Module):
        def forward(self, x):
            return x * 2 if float(x.detach().sum()) > 0 else -x

    x = torch.ones(2, 3)
    predictor = infersdk.load(Branch(), example=x, execution=FAST)
    assert predictor.plan.kind == "native"
    with pytest.raises(infersdk.ArtifactError, match='source="module:function"'):
        predictor.save(tmp_path / "m.onnx")
    module = types.ModuleType("torch_app")
    module.model = Branch
    monkeypatch.setitem(sys.modules, "torch_app", module)
    path = predictor.save(tmp_path / "m.onnx", source="torch_app:model")
    opened = infersdk.load(path, trust=("torch_app:model",), execution=FAST)
    assert torch.equal(opened(x), x * 2)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "pickle"},
        {"data": "!!"},
        {"version": 99},
        {"data": "aGVsbG8="},
        {"format": "import"},
    ],
    ids=str,
)
def test_a_damaged_document_is_refused(saved, change):
    artifact = Artifact.open(saved[1])
    broken = artifact.revised(
        signature=artifact.signature,
        plan=artifact.plan,
        parity=artifact.parity,
        documents={"source": {**artifact.documents["source"], **change}},
    )
    with pytest.raises(infersdk.ArtifactError):
        infersdk.load(broken.session_model(), trust=True)


def test_a_hybrid_artifact_without_its_part_says_so(hybrid, data, tmp_path):
    predictor = infersdk.load(hybrid, example=data[0], execution=FAST)
    path = predictor.artifact.save(tmp_path / "bare.onnx")
    with pytest.raises(infersdk.ArtifactError, match=r"predictor.save\(\)"):
        infersdk.load(path)
