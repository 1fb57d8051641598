"""skorch nets against skorch itself: classes, probabilities, and what skorch does to a module's answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("skorch", reason="skorch is not installed")

import infersdk
from infersdk import Execution
from infersdk.convert import registry, skorch
from infersdk.errors import UnsupportedModelError

QUIET = Execution(calibration_s=0.0, threads=1)


def _net(kind: str, module: Any, targets: np.ndarray, **options: Any) -> tuple[Any, np.ndarray]:
    import skorch as framework
    import torch

    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((len(targets), 6)).astype(np.float32)
    net = getattr(framework, kind)(
        module, max_epochs=3, lr=0.1, verbose=0, train_split=None, **options
    )
    return net.fit(rows, targets), rows


def _linear(n_outputs: int) -> Any:
    import torch

    torch.manual_seed(5)
    return torch.nn.Sequential(
        torch.nn.Linear(6, 12),
        torch.nn.BatchNorm1d(12),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.5),
        torch.nn.Linear(12, n_outputs),
    )


@pytest.fixture(scope="module")
def classifier() -> tuple[Any, np.ndarray]:
    import torch

    targets = np.arange(80) % 3
    return _net("NeuralNetClassifier", _linear(3), targets, criterion=torch.nn.CrossEntropyLoss)


def _assert_equal(net: Any, rows: np.ndarray, methods: tuple[str, ...]) -> Any:
    predictor = infersdk.load(net, example=rows, execution=QUIET)
    with predictor:
        assert predictor.plan.kind == "onnx", predictor.plan
        for n_rows in (1, 2, len(rows)):
            for method in methods:
                ours = getattr(predictor, method)(rows[:n_rows])
                theirs = getattr(net, method)(rows[:n_rows])
                assert ours.dtype == theirs.dtype
                assert ours.shape == theirs.shape
                np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    return predictor


def test_cross_entropy_becomes_probabilities_by_softmax(classifier):
    net, rows = classifier
    _assert_equal(net, rows, ("predict", "predict_proba"))


def test_lists_and_doubles_are_rows_too(classifier):
    net, rows = classifier
    with infersdk.load(net, example=rows.astype(np.float64), execution=QUIET) as predictor:
        expected = net.predict_proba(rows[:2])
        np.testing.assert_allclose(predictor.predict_proba(rows[:2].tolist()), expected, rtol=1e-4)


def test_predict_answers_indices_as_skorch_does():
    import torch

    targets = (np.arange(80) % 2) * 5 + 2
    classes = np.unique(targets)
    net, rows = _net(
        "NeuralNetClassifier",
        _linear(8),
        targets,
        criterion=torch.nn.CrossEntropyLoss,
        classes=classes,
    )
    predictor = _assert_equal(net, rows, ("predict",))
    assert predictor.signature.method("predict").labels is None


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_a_binary_net_compares_with_its_threshold(threshold):
    targets = (np.arange(80) % 2).astype(np.float32)
    net, rows = _net("NeuralNetBinaryClassifier", _linear(1), targets, threshold=threshold)
    _assert_equal(net, rows, ("predict", "predict_proba"))


@pytest.mark.slow
def test_a_regressor_predicts():
    targets = np.linspace(-1, 1, 80, dtype=np.float32)[:, None]
    net, rows = _net("NeuralNetRegressor", _linear(1), targets)
    predictor = _assert_equal(net, rows, ("predict",))
    assert [method.name for method in predictor.signature.methods] == ["predict"]


@pytest.mark.slow
def test_a_nonlinearity_of_the_users_own_and_the_first_of_several_answers():
    import torch

    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = _linear(3)

        def forward(self, X):
            scores = self.inner(X)
            return scores, scores.sum(1)

    class First(torch.nn.CrossEntropyLoss):
        def forward(self, answer, targets):
            return super().forward(answer[0], targets)

    targets = np.arange(80) % 3
    net, rows = _net(
        "NeuralNetClassifier",
        Two,
        targets,
        criterion=First,
        predict_nonlinearity=lambda scores: torch.softmax(scores / 2, dim=-1),
    )
    _assert_equal(net, rows, ("predict", "predict_proba"))


@pytest.mark.slow
def test_inputs_by_name():
    import skorch as framework
    import torch

    class Pair(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(6, 2)

        def forward(self, left, right):
            return self.inner(torch.cat([left, right], dim=1))

    rng = np.random.default_rng(0)
    rows = {
        "right": rng.standard_normal((40, 2)).astype(np.float32),
        "left": rng.standard_normal((40, 4)).astype(np.float32),
    }
    net = framework.NeuralNetRegressor(Pair, max_epochs=1, verbose=0, train_split=None)
    net.fit(rows, rng.standard_normal((40, 2)).astype(np.float32))
    with infersdk.load(net, example=rows, execution=QUIET) as predictor:
        assert predictor.plan.kind == "onnx", predictor.plan
        np.testing.assert_allclose(predictor.predict(rows), net.predict(rows), rtol=1e-4, atol=1e-6)


def test_a_net_that_overrides_a_step_is_served_by_skorch():
    import skorch as framework

    class Doubled(framework.NeuralNetRegressor):
        def infer(self, x, **fit_params):
            return 2 * super().infer(x, **fit_params)

    import torch

    targets = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]
    rows = np.random.default_rng(1).standard_normal((40, 6)).astype(np.float32)
    torch.manual_seed(0)
    net = Doubled(_linear(1), max_epochs=1, verbose=0, train_split=None).fit(rows, targets)
    with infersdk.load(net, example=rows, execution=QUIET) as predictor:
        assert predictor.plan.kind == "native"
        assert "skorch's own `infer`" in predictor.plan.reason
        np.testing.assert_array_equal(predictor.predict(rows), net.predict(rows))


def test_a_net_that_is_not_fitted_is_refused():
    import skorch as framework

    net = framework.NeuralNetClassifier(_linear(3))
    with pytest.raises(UnsupportedModelError, match=r"Expected a fitted skorch net.*fit\(\)"):
        infersdk.load(net, example=np.zeros((2, 6), np.float32))


def test_a_net_is_no_scikit_learn_estimator_here(classifier):
    net, _ = classifier
    assert registry.find(net) is skorch


@pytest.mark.slow
def test_a_net_at_the_end_of_a_pipeline_answers(classifier):
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    net, rows = classifier
    pipeline = make_pipeline(FunctionTransformer(_to_float32), net)
    with infersdk.load(pipeline, example=rows.astype(np.float64), execution=QUIET) as predictor:
        np.testing.assert_array_equal(predictor.predict(rows), pipeline.predict(rows))
        np.testing.assert_allclose(
            predictor.predict_proba(rows), pipeline.predict_proba(rows), rtol=1e-4, atol=1e-6
        )


def _to_float32(values: np.ndarray) -> np.ndarray:
    return np.asarray(values, dtype=np.float32)
