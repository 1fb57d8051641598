"""scikit-learn: every estimator that predicts or transforms, pipelines, and known traps."""

from __future__ import annotations

from tests.gallery.entry import Entry, Made


def _logistic() -> Made:
    from sklearn.datasets import load_wine
    from sklearn.linear_model import LogisticRegression

    X, y = load_wine(return_X_y=True)
    return Made(LogisticRegression(max_iter=50).fit(X, y), X[::2], X[1::2])


ENTRIES = [Entry("scikit-learn pipelines", "LogisticRegression", _logistic)]
