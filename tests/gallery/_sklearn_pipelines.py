"""Models as people build them: tables with holes and categories, texts, ensembles, parts of their own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gallery._sklearn_estimators import SKL2ONNX, ask
from tests.gallery.entry import Entry, Made

__all__ = ["ENTRIES", "fitted", "people", "texts"]

SECTION = "scikit-learn pipelines"


def people(n_rows: int = 160) -> tuple[Any, np.ndarray]:
    """A table of numbers and categories with holes, and two classes."""
    import pandas as pd

    rng = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n_rows).astype(float),
            "income": np.round(rng.lognormal(10, 1, n_rows), 2),
            "city": rng.choice(["Oslo", "Bergen", "Roma", "Łódź"], n_rows),
            "floor": rng.integers(0, 5, n_rows),
            "plan": rng.choice(["free", "basic", "pro"], n_rows, p=[0.6, 0.35, 0.05]),
        }
    )
    frame.loc[::7, "income"] = np.nan
    frame.loc[::11, "city"] = None
    return frame, ((frame["age"] > 50) ^ (frame["city"] == "Oslo")).astype(int).to_numpy()


def texts(n_rows: int = 120) -> tuple[list[str], np.ndarray]:
    """Short texts with accents, numbers and signs, and two classes."""
    rng = np.random.default_rng(4)
    good = ["great", "love it", "works", "naïve but fine", "très bien"]
    bad = ["broken", "the worst", "don't buy", "refund 42", "e-mail unanswered"]
    both = ["the product", "and", "of 2024", "it's", "Straße", "delivery"]
    labels = rng.integers(0, 2, n_rows)
    made = []
    for label in labels:
        chosen = rng.choice(good if label else bad, 2).tolist() + rng.choice(both, 3).tolist()
        rng.shuffle(chosen)
        made.append(", ".join(chosen))
    return made, labels


def fitted(model: Any, X: Any, y: Any = None) -> Made:
    """Fitted on all rows; every second one is the example, the others are compared."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    if hasattr(X, "iloc"):
        return Made(model, X.iloc[::2], X.iloc[1::2].reset_index(drop=True), ask=ask)
    return Made(model, X[::2], X[1::2], ask=ask)


def _prepared(last: Callable[[], Any], *, encoder: str = "one hot") -> Callable[[], Made]:
    """The usual table: imputed and scaled numbers, imputed and encoded categories, an estimator."""

    def make() -> Made:
        from sklearn.compose import make_column_transformer
        from sklearn.impute import SimpleImputer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import (
            OneHotEncoder,
            OrdinalEncoder,
            StandardScaler,
            TargetEncoder,
        )

        frame, y = people()
        encoders = {
            "one hot": OneHotEncoder(handle_unknown="ignore"),
            "infrequent": OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.1),
            "ordinal": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
            "target": TargetEncoder(random_state=0),
        }
        prepare = make_column_transformer(
            (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["age", "income"]),
            (
                make_pipeline(
                    SimpleImputer(strategy="constant", fill_value="none"), encoders[encoder]
                ),
                ["city", "plan"],
            ),
            ("passthrough", ["floor"]),
        )
        return fitted(make_pipeline(prepare, last()), frame, y)

    return make


def _text(*steps: Callable[[], Any]) -> Callable[[], Made]:
    def make() -> Made:
        from sklearn.pipeline import make_pipeline

        return fitted(make_pipeline(*(step() for step in steps)), *texts())

    return make


def _wine(
    build: Callable[[], Any], *, names: bool = False, numbers: bool = False
) -> Callable[[], Made]:
    """Over an array of numbers: three classes, with ``names`` as text, or with ``numbers`` a regression."""

    def make() -> Made:
        from sklearn.datasets import load_diabetes, load_wine

        X, y = load_diabetes(return_X_y=True) if numbers else load_wine(return_X_y=True)
        order = np.random.default_rng(5).permutation(len(X))[:150]
        X, y = X[order], y[order]
        return fitted(build(), X, np.array(["low", "middle", "high"])[y] if names else y)

    return make


# ---- estimators, imported when they are built


def _logistic(**arguments: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=500, **arguments)


def _forest(**arguments: Any) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(10, random_state=0, **arguments)


def _histogram(**arguments: Any) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=10, random_state=0, **arguments)


def _scaled(last: Any) -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), last)


def _tfidf(**arguments: Any) -> Callable[[], Any]:
    def build() -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        return TfidfVectorizer(**arguments)

    return build


def _counts(**arguments: Any) -> Callable[[], Any]:
    def build() -> Any:
        from sklearn.feature_extraction.text import CountVectorizer

        return CountVectorizer(**arguments)

    return build


def _hashed() -> Any:
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(n_features=512)


def _naive_bayes() -> Any:
    from sklearn.naive_bayes import MultinomialNB

    return MultinomialNB()


def _linear_svc() -> Any:
    from sklearn.svm import LinearSVC

    return LinearSVC()


def _svd() -> Any:
    from sklearn.decomposition import TruncatedSVD

    return TruncatedSVD(5, random_state=0)


def _nmf() -> Any:
    from sklearn.decomposition import NMF

    return NMF(4, init="nndsvda", max_iter=300, random_state=0)


def _xgboost() -> Any:
    import xgboost

    return xgboost.XGBClassifier(n_estimators=10, n_jobs=1)


def _lightgbm() -> Any:
    import lightgbm

    return lightgbm.LGBMClassifier(n_estimators=10, n_jobs=1, verbose=-1)


# ---- whole models


def _text_and_numbers() -> Made:
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    notes, y = texts()
    rng = np.random.default_rng(6)
    frame = pd.DataFrame(
        {"note": notes, "stars": rng.integers(1, 6, len(y)), "paid": rng.random(len(y))}
    )
    prepare = make_column_transformer(
        (_tfidf(ngram_range=(1, 2))(), "note"), (StandardScaler(), ["stars", "paid"])
    )
    return fitted(make_pipeline(prepare, _logistic()), frame, y)


def _calibrated(method: str, estimator: Callable[[], Any]) -> Callable[[], Any]:
    def build() -> Any:
        from sklearn.calibration import CalibratedClassifierCV

        return CalibratedClassifierCV(estimator(), method=method, cv=3)

    return build


def _members() -> list[tuple[str, Any]]:
    from sklearn.neighbors import KNeighborsClassifier

    return [
        ("linear", _scaled(_logistic())),
        ("forest", _forest()),
        ("near", KNeighborsClassifier()),
    ]


def _voting(how: str) -> Callable[[], Any]:
    def build() -> Any:
        from sklearn.ensemble import VotingClassifier

        return VotingClassifier(_members(), voting=how)

    return build


def _stacking() -> Any:
    from sklearn.ensemble import StackingClassifier

    return StackingClassifier(_members(), _logistic(), cv=3, passthrough=True)


def _bagging() -> Any:
    from sklearn.ensemble import BaggingClassifier

    return BaggingClassifier(_scaled(_logistic()), 4, max_features=0.6, random_state=0)


def _search() -> Any:
    from sklearn.model_selection import GridSearchCV

    return GridSearchCV(_scaled(_logistic()), {"logisticregression__C": [0.1, 1.0]}, cv=3)


def _reduced() -> Any:
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(StandardScaler(), PCA(5), SVC(probability=False))


def _selected() -> Any:
    from sklearn.feature_selection import SelectKBest
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, QuantileTransformer

    quantiles = QuantileTransformer(n_quantiles=50, output_distribution="normal")
    return make_pipeline(quantiles, PolynomialFeatures(2), SelectKBest(k=12), _logistic())


def _united() -> Any:
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline, make_union

    union = make_union(PCA(3), KMeans(4, n_init=2, random_state=0))
    return make_pipeline(union, _forest())


def _kernel_approximation() -> Any:
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import SGDClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        StandardScaler(), Nystroem(n_components=20, random_state=0), SGDClassifier(random_state=0)
    )


def _splines() -> Any:
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import SplineTransformer

    return make_pipeline(SplineTransformer(extrapolation="linear"), Ridge())


def _log_target() -> Any:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.ensemble import GradientBoostingRegressor

    regressor = GradientBoostingRegressor(n_estimators=10)
    return TransformedTargetRegressor(regressor, func=np.log1p, inverse_func=np.expm1)


def _logged() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    return make_pipeline(FunctionTransformer(np.log1p), _scaled(_logistic()))


def _own_function() -> Any:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer

    return make_pipeline(FunctionTransformer(_ratios), _scaled(_logistic()))


def _ratios(X: Any) -> Any:
    return np.column_stack([X, X[:, 0] / (1.0 + np.abs(X[:, 1]))])


def _own_class() -> Any:
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.pipeline import make_pipeline

    class Clipped(TransformerMixin, BaseEstimator):
        """Cuts off what lies outside of the inner nine tenths."""

        def fit(self, X: Any, y: Any = None) -> Any:
            self.limits_ = np.quantile(X, [0.05, 0.95], axis=0)
            return self

        def transform(self, X: Any) -> Any:
            return np.clip(X, *self.limits_)

    return make_pipeline(Clipped(), _scaled(_logistic()))


def _factorized() -> Any:
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(make_union(_nmf(), StandardScaler()), _logistic())


def _holes(imputer: str) -> Callable[[], Made]:
    def make() -> Made:
        from sklearn.datasets import load_wine
        from sklearn.experimental import enable_iterative_imputer  # noqa: F401
        from sklearn.impute import IterativeImputer, KNNImputer
        from sklearn.pipeline import make_pipeline

        X, y = load_wine(return_X_y=True)
        rng = np.random.default_rng(7)
        order = rng.permutation(len(X))[:140]
        X, y = X[order, :7], y[order]
        X[rng.random(X.shape) < 0.1] = np.nan
        chosen = KNNImputer() if imputer == "nearest" else IterativeImputer(max_iter=4)
        return fitted(make_pipeline(chosen, _scaled(_logistic())), X, y)

    return make


def _several_targets(build: Callable[[], Any], *, numbers: bool) -> Callable[[], Made]:
    def make() -> Made:
        from sklearn.datasets import load_diabetes, load_wine

        X, y = load_diabetes(return_X_y=True) if numbers else load_wine(return_X_y=True)
        X, y = X[:150], y[:150]
        other = X[:, 0] * 3.0 if numbers else (X[:, 0] > 13.0).astype(int)
        return fitted(build(), X, np.column_stack([y, other]))

    return make


def _multi_output() -> Any:
    from sklearn.multioutput import MultiOutputClassifier

    return MultiOutputClassifier(_scaled(_logistic()))


def _chained() -> Any:
    from sklearn.linear_model import Ridge
    from sklearn.multioutput import RegressorChain

    return RegressorChain(Ridge())


def _frames() -> Any:
    from sklearn.ensemble import GradientBoostingClassifier

    return _scaled(GradientBoostingClassifier(n_estimators=5)).set_output(transform="pandas")


def _threshold() -> Made:
    from sklearn.model_selection import TunedThresholdClassifierCV

    made = _prepared(_logistic)()
    frame, y = people()
    model = TunedThresholdClassifierCV(made.model, scoring="balanced_accuracy", cv=3)
    return fitted(model, frame, y)


def _outliers() -> Any:
    from sklearn.ensemble import IsolationForest

    return _scaled(IsolationForest(n_estimators=10, random_state=0))


def _tokens(text: str) -> list[str]:
    return [word.strip(",.") for word in text.lower().split()]


_ROWS: dict[str, Callable[[], Made]] = {
    "impute, scale, one hot, LogisticRegression": _prepared(_logistic),
    "impute, scale, one hot, RandomForest": _prepared(_forest),
    "impute, scale, one hot, HistGradientBoosting": _prepared(_histogram),
    "impute, scale, one hot, XGBoost": _prepared(_xgboost),
    "impute, scale, one hot, LightGBM": _prepared(_lightgbm),
    "infrequent categories, LogisticRegression": _prepared(_logistic, encoder="infrequent"),
    "ordinal codes, RandomForest": _prepared(_forest, encoder="ordinal"),
    "TargetEncoder, LogisticRegression": _prepared(_logistic, encoder="target"),
    "TunedThresholdClassifierCV over a table": _threshold,
    "TF-IDF, LogisticRegression": _text(_tfidf(), _logistic),
    "TF-IDF of pairs, LinearSVC": _text(_tfidf(ngram_range=(1, 2), sublinear_tf=True), _linear_svc),
    "TF-IDF of pairs without stop words": _text(
        _tfidf(ngram_range=(1, 2), stop_words="english"), _logistic
    ),
    "TF-IDF of characters in words": _text(
        _tfidf(analyzer="char_wb", ngram_range=(2, 4)), _logistic
    ),
    "TF-IDF of characters": _text(_tfidf(analyzer="char", ngram_range=(1, 3)), _logistic),
    "word counts, MultinomialNB": _text(_counts(binary=True), _naive_bayes),
    "hashed words, LogisticRegression": _text(_hashed, _logistic),
    "TF-IDF, TruncatedSVD, RandomForest": _text(_tfidf(), _svd, _forest),
    "TF-IDF without accents": _text(_tfidf(strip_accents="unicode"), _logistic),
    "a tokenizer of one's own": _text(_counts(tokenizer=_tokens, token_pattern=None), _logistic),
    "TF-IDF, NMF, LogisticRegression": _text(_tfidf(), _nmf, _logistic),
    "text and numbers in one table": _text_and_numbers,
    "StandardScaler, LogisticRegression, text labels": _wine(
        lambda: _scaled(_logistic()), names=True
    ),
    "StandardScaler, PCA, SVC": _wine(_reduced),
    "normal quantiles, polynomials, SelectKBest": _wine(_selected),
    "PCA and KMeans united, RandomForest": _wine(_united),
    "Nystroem, SGDClassifier": _wine(_kernel_approximation),
    "SplineTransformer, Ridge": _wine(_splines, numbers=True),
    "log of the target, GradientBoosting": _wine(_log_target, numbers=True),
    "calibrated LinearSVC": _wine(_calibrated("sigmoid", _linear_svc)),
    "calibrated forest, isotonic": _wine(_calibrated("isotonic", _forest)),
    "VotingClassifier, soft": _wine(_voting("soft")),
    "VotingClassifier, hard": _wine(_voting("hard")),
    "StackingClassifier with the rows themselves": _wine(_stacking),
    "BaggingClassifier of pipelines": _wine(_bagging),
    "GridSearchCV over a pipeline": _wine(_search),
    "IsolationForest behind a scaler": _wine(_outliers),
    "DataFrames between the steps": _wine(_frames),
    "FunctionTransformer(np.log1p)": _wine(_logged),
    "a function of one's own": _wine(_own_function),
    "a transformer class of one's own": _wine(_own_class),
    "NMF and scaler united, LogisticRegression": _wine(_factorized),
    "KNNImputer, LogisticRegression": _holes("nearest"),
    "IterativeImputer, LogisticRegression": _holes("iterative"),
    "MultiOutputClassifier": _several_targets(_multi_output, numbers=False),
    "RegressorChain": _several_targets(_chained, numbers=True),
    "forest of several targets": _several_targets(_forest, numbers=False),
}

ENTRIES = [Entry(SECTION, name, make, rival=SKL2ONNX) for name, make in _ROWS.items()]
