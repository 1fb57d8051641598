"""A step as an app writes it: no class of scikit-learn, so no exporter knows it."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

__all__ = ["Shares"]


class Shares(TransformerMixin, BaseEstimator):
    """What part of a row's sum each column is."""

    def fit(self, X: Any, y: Any = None) -> Shares:
        self.n_columns_ = np.shape(X)[1]
        return self

    def transform(self, X: Any) -> Any:
        values = np.asarray(X, dtype=np.float64)
        return values / values.sum(axis=1, keepdims=True)
