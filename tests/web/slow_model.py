"""A model that answers when it is told to."""

from __future__ import annotations

import threading
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class SlowModel(ClassifierMixin, BaseEstimator):
    """Answers row sums, once it is let go. It has no ONNX form, so it runs as it is.

    Attributes
    ----------
    go : threading.Event
        Set at first, so that loading need not wait.
    """

    def fit(self, X: Any, y: Any) -> Self:
        self.classes_ = np.unique(y)
        self.n_features_in_ = np.shape(X)[1]
        self.go = threading.Event()
        self.go.set()
        return self

    def predict(self, X: Any) -> Any:
        self.go.wait(60)
        return self.classes_[np.asarray(X, dtype=float).sum(axis=1).astype(int) % 2]
