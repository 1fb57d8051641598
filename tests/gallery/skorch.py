"""skorch: nets with every criterion that changes their answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gallery.entry import Entry, Made


def _net(kind: str, n_outputs: int, targets: np.ndarray, **options: Any) -> Made:
    import skorch
    import torch

    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Linear(6, 16),
        torch.nn.BatchNorm1d(16),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.3),
        torch.nn.Linear(16, n_outputs),
        *options.pop("last", ()),
    )
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((len(targets) + 60, 6)).astype(np.float32)
    net = getattr(skorch, kind)(
        module, max_epochs=3, lr=0.1, verbose=0, train_split=None, **options
    )
    net.fit(rows[: len(targets)], targets)
    return Made(net, rows[: len(targets)], rows[len(targets) :])


def _cross_entropy() -> Made:
    import torch

    return _net("NeuralNetClassifier", 3, np.arange(90) % 3, criterion=torch.nn.CrossEntropyLoss)


def _likelihood() -> Made:
    import torch

    return _net("NeuralNetClassifier", 3, np.arange(90) % 3, last=[torch.nn.Softmax(dim=-1)])


def _binary() -> Made:
    return _net("NeuralNetBinaryClassifier", 1, (np.arange(90) % 2).astype(np.float32))


def _binary_probabilities() -> Made:
    import torch

    return _net(
        "NeuralNetBinaryClassifier",
        1,
        (np.arange(90) % 2).astype(np.float32),
        last=[torch.nn.Sigmoid()],
        criterion=torch.nn.BCELoss,
        threshold=0.4,
    )


def _regressor() -> Made:
    return _net("NeuralNetRegressor", 2, np.random.default_rng(1).random((90, 2), np.float32))


def _plain() -> Made:
    import torch

    return _net("NeuralNet", 4, np.arange(90) % 4, criterion=torch.nn.CrossEntropyLoss)


_MAKES: dict[str, Callable[[], Made]] = {
    "NeuralNetClassifier, CrossEntropyLoss": _cross_entropy,
    "NeuralNetClassifier, NLLLoss": _likelihood,
    "NeuralNetBinaryClassifier": _binary,
    "NeuralNetBinaryClassifier, BCELoss and a threshold": _binary_probabilities,
    "NeuralNetRegressor, two targets": _regressor,
    "NeuralNet": _plain,
}

ENTRIES = [Entry("skorch", name, make, slow=True) for name, make in _MAKES.items()]
