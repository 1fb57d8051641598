"""Estimators as users write them: no class of scikit-learn, and no ONNX form."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin


def words(text):
    return text.split()


class Ratio(TransformerMixin, BaseEstimator):
    """Two columns of its own making; counts its calls."""

    calls = 0

    def fit(self, X, y=None):
        self.n_seen_ = np.shape(X)[0]
        return self

    def transform(self, X):
        type(self).calls += 1
        X = np.asarray(X, dtype=np.float64)
        return np.column_stack([X[:, 0] / (1 + np.abs(X[:, 1])), X[:, 0] * X[:, 1]])


class Picky(Ratio):
    """Takes named columns only."""

    def transform(self, X):
        if not hasattr(X, "columns"):
            raise TypeError("a DataFrame, please")
        return super().transform(X)


class Grouping(TransformerMixin, BaseEstimator):
    """Text to text."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        values = np.asarray(X, dtype=object)
        return np.array(
            [["vowel" if v[0] in "aeiou" else "other" for v in row] for row in values], object
        )


class Hand(ClassifierMixin, BaseEstimator):
    """A classifier of two classes."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.mean_ = np.asarray(X, dtype=np.float64).mean(axis=0)
        return self

    def predict_proba(self, X):
        p = 1 / (1 + np.exp(-(np.asarray(X, dtype=np.float64) - self.mean_).sum(axis=1)))
        return np.column_stack([1 - p, p])

    def predict(self, X):
        return self.classes_[(self.predict_proba(X)[:, 1] > 0.5).astype(int)]


class Mean(RegressorMixin, BaseEstimator):
    """A regressor."""

    def fit(self, X, y):
        self.level_ = float(np.mean(y))
        return self

    def predict(self, X):
        return self.level_ + np.asarray(X, dtype=np.float64).mean(axis=1)


class Lift(TransformerMixin, BaseEstimator):
    """A small network with weights in float32, two columns to 64."""

    def fit(self, X, y=None):
        rng = np.random.default_rng(0)
        self.first_ = rng.normal(size=(2, 256)).astype(np.float32)
        self.second_ = rng.normal(size=(256, 64)).astype(np.float32) / 16
        return self

    def transform(self, X):
        hidden = np.tanh(np.asarray(X, dtype=np.float32) @ self.first_)
        return (hidden @ self.second_).astype(np.float64)
