"""scikit-learn: every estimator that predicts or transforms, pipelines, and known traps."""

from __future__ import annotations

from tests.gallery import _sklearn_estimators

ENTRIES = [*_sklearn_estimators.ENTRIES]
