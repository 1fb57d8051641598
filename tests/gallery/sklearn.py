"""scikit-learn: every estimator that predicts or transforms, pipelines, and known traps of all frameworks."""

from __future__ import annotations

from tests.gallery import _sklearn_estimators, _sklearn_pipelines, _traps

ENTRIES = [*_sklearn_estimators.ENTRIES, *_sklearn_pipelines.ENTRIES, *_traps.ENTRIES]
