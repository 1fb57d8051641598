"""Models that the usual exporters convert without a word, into graphs that answer differently."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gallery._sklearn_pipelines import fitted, people, texts
from tests.gallery.entry import Entry, Made

__all__ = ["ENTRIES"]

SECTION = "Known traps"


def _numbers(n_rows: int = 300, n_columns: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Columns of very different sizes, and two classes that depend on all of them."""
    rng = np.random.default_rng(11)
    X = rng.normal(size=(n_rows, n_columns)) * np.logspace(-2, 4, n_columns)
    scaled = X / X.std(axis=0)
    return X, (scaled.sum(axis=1) + rng.normal(size=n_rows) > 0).astype(int)


def _seconds(n_rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Unix times, which float32 tells apart by two minutes only, and row numbers beyond 2 ** 24."""
    rng = np.random.default_rng(12)
    times = 1.7e9 + rng.integers(0, 4000, n_rows)
    X = np.column_stack([times, 2.0**26 + rng.integers(0, 50, n_rows), rng.normal(size=n_rows)])
    y = ((times % 97 > 40) ^ (X[:, 1] % 2 == 0)).astype(int)
    return X, y


def _over(data: Callable[[], tuple[Any, Any]], build: Callable[[], Any]) -> Callable[[], Made]:
    return lambda: fitted(build(), *data())


def _scaler_before(last: Callable[[], Any]) -> Callable[[], Any]:
    def build() -> Any:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return make_pipeline(StandardScaler(), last())

    return build


def _forest() -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(15, random_state=0)


def _histogram() -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=15, max_leaf_nodes=63, random_state=0)


def _xgboost(kind: str = "XGBClassifier", **arguments: Any) -> Callable[[], Any]:
    def build() -> Any:
        import xgboost

        return getattr(xgboost, kind)(n_estimators=15, n_jobs=1, **arguments)

    return build


def _lightgbm(kind: str = "LGBMClassifier", **arguments: Any) -> Callable[[], Any]:
    def build() -> Any:
        import lightgbm

        return getattr(lightgbm, kind)(n_estimators=15, n_jobs=1, verbose=-1, **arguments)

    return build


def _categorical() -> Made:
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    frame, y = people(300)
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    prepare = make_column_transformer((codes, ["city", "plan"]), remainder="passthrough")
    model = HistGradientBoostingClassifier(max_iter=15, categorical_features=[0, 1], random_state=0)
    return fitted(make_pipeline(prepare, model), frame, y)


def _text(**arguments: Any) -> Callable[[], Made]:
    def make() -> Made:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        return fitted(make_pipeline(TfidfVectorizer(**arguments), LogisticRegression()), *texts())

    return make


def _isotonic() -> Any:
    from sklearn.calibration import CalibratedClassifierCV

    return CalibratedClassifierCV(_forest(), method="isotonic", cv=3)


def _infrequent() -> Made:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame, y = people(300)
    encoder = OneHotEncoder(min_frequency=0.2, handle_unknown="infrequent_if_exist", drop="first")
    return fitted(make_pipeline(encoder, _forest()), frame[["city", "plan", "floor"]], y)


def _regression() -> tuple[np.ndarray, np.ndarray]:
    X, _ = _numbers()
    scaled = X / X.std(axis=0)
    return X, scaled[:, 0] ** 2 + scaled[:, 1]


def _shares() -> tuple[np.ndarray, np.ndarray]:
    X, y = _regression()
    return X, 1.0 / (1.0 + np.exp(-y))


def _durations() -> tuple[np.ndarray, np.ndarray]:
    X, y = _regression()
    # Negative where the end was not seen.
    return X, np.where(X[:, 2] > 0, 1.0, -1.0) * np.exp(y / 4.0)


def _two_targets() -> tuple[np.ndarray, np.ndarray]:
    X, y = _regression()
    return X, np.column_stack([y, X[:, 3] / X[:, 3].std()])


def _ranked() -> Made:
    import xgboost

    X, y = _numbers()
    model = xgboost.XGBRanker(n_estimators=15, n_jobs=1)
    model.fit(X, y, qid=np.repeat(np.arange(30), 10))
    return Made(model, X[::2], X[1::2])


def _branching() -> Made:
    import torch

    class Branching(torch.nn.Module):
        """Another layer for rows whose sum is negative."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.one, self.other = torch.nn.Linear(4, 2), torch.nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return self.one(x) if x.sum() > 0 else self.other(x)

    rows = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    return Made(Branching().eval(), rows, -rows)


_ROWS: dict[str, Callable[[], Made]] = {
    "a scaler before a random forest": _over(_numbers, _scaler_before(_forest)),
    "a scaler before XGBoost": _over(_numbers, _scaler_before(_xgboost())),
    "a scaler before LightGBM": _over(_numbers, _scaler_before(_lightgbm())),
    "histogram boosting with categorical features": _categorical,
    "histogram boosting over Unix times": _over(_seconds, _histogram),
    "a scaler before histogram boosting over Unix times": _over(
        _seconds, _scaler_before(_histogram)
    ),
    "LightGBM over Unix times": _over(_seconds, _lightgbm()),
    "XGBoost over Unix times": _over(_seconds, _xgboost()),
    "a random forest over Unix times": _over(_seconds, _forest),
    "a scaler before a random forest over Unix times": _over(_seconds, _scaler_before(_forest)),
    "TF-IDF of words with accents, signs and numbers": _text(),
    "TF-IDF with sublinear_tf": _text(sublinear_tf=True),
    "TF-IDF of pairs across stop words": _text(ngram_range=(1, 2), stop_words=["the", "and"]),
    "isotonic calibration": _over(_numbers, _isotonic),
    "infrequent and dropped categories": _infrequent,
    "XGBoost reg:logistic": _over(_shares, _xgboost("XGBRegressor", objective="reg:logistic")),
    "XGBoost survival:cox": _over(_durations, _xgboost("XGBRegressor", objective="survival:cox")),
    "XGBoost of several targets": _over(_two_targets, _xgboost("XGBRegressor")),
    "XGBRanker": _ranked,
    "LightGBM boosting_type=rf": _over(
        _numbers, _lightgbm(boosting_type="rf", bagging_freq=1, bagging_fraction=0.7)
    ),
    "LightGBM linear_tree": _over(_regression, _lightgbm("LGBMRegressor", linear_tree=True)),
    "a torch module that branches on its data": _branching,
}

ENTRIES = [Entry(SECTION, name, make, slow=make is _branching) for name, make in _ROWS.items()]
