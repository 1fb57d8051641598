"""Every estimator of scikit-learn that predicts or transforms, each fitted on small data of its kind."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gallery.entry import Entry, Made, Rival

__all__ = ["ENTRIES", "LEFT_OUT", "SKL2ONNX"]

# What an estimator is fitted on: "classes" are three classes, "binary" two, "numbers" a regression,
# "counts" and "positive" non-negative columns with classes, "targets" and "labels" several targets.
_ON: dict[str, str] = {
    "classes": """
        BaggingClassifier BernoulliNB CalibratedClassifierCV ClassifierChain
        DecisionTreeClassifier DummyClassifier ExtraTreeClassifier ExtraTreesClassifier
        FixedThresholdClassifier FrozenEstimator GaussianNB GaussianProcessClassifier
        GenericUnivariateSelect GradientBoostingClassifier GridSearchCV HistGradientBoostingClassifier
        KNeighborsClassifier LabelPropagation LabelSpreading LinearDiscriminantAnalysis LinearSVC
        LogisticRegression LogisticRegressionCV MLPClassifier MultiOutputClassifier NearestCentroid
        NeighborhoodComponentsAnalysis NuSVC OneVsOneClassifier OneVsRestClassifier OutputCodeClassifier
        PassiveAggressiveClassifier Perceptron Pipeline QuadraticDiscriminantAnalysis
        RadiusNeighborsClassifier RandomForestClassifier RandomizedSearchCV RFE RFECV RidgeClassifier
        RidgeClassifierCV SelectFdr SelectFpr SelectFromModel SelectFwe SelectKBest SelectPercentile
        SelfTrainingClassifier SequentialFeatureSelector SGDClassifier StackingClassifier SVC
        TunedThresholdClassifierCV VotingClassifier AdaBoostClassifier
        AffinityPropagation BayesianGaussianMixture BernoulliRBM Binarizer Birch BisectingKMeans
        ColumnTransformer DictionaryLearning EllipticEnvelope FactorAnalysis FastICA FeatureAgglomeration
        FeatureUnion FunctionTransformer GaussianMixture GaussianRandomProjection IncrementalPCA
        IsolationForest Isomap KBinsDiscretizer KernelCenterer KernelDensity KernelPCA KMeans
        KNeighborsTransformer LocallyLinearEmbedding LocalOutlierFactor MaxAbsScaler MeanShift
        MiniBatchDictionaryLearning MiniBatchKMeans MiniBatchSparsePCA MinMaxScaler Normalizer Nystroem
        OneClassSVM PCA PolynomialCountSketch PolynomialFeatures PowerTransformer QuantileTransformer
        RadiusNeighborsTransformer RandomTreesEmbedding RBFSampler RobustScaler SGDOneClassSVM
        SparseCoder SparsePCA SparseRandomProjection SplineTransformer StandardScaler TruncatedSVD
        VarianceThreshold
    """,
    "counts": """
        CategoricalNB ComplementNB MultinomialNB AdditiveChi2Sampler LatentDirichletAllocation
        MiniBatchNMF NMF SkewedChi2Sampler TfidfTransformer
    """,
    "numbers": """
        AdaBoostRegressor ARDRegression BaggingRegressor BayesianRidge DecisionTreeRegressor
        DummyRegressor ElasticNet ElasticNetCV ExtraTreeRegressor ExtraTreesRegressor GammaRegressor
        GaussianProcessRegressor GradientBoostingRegressor HistGradientBoostingRegressor HuberRegressor
        KernelRidge KNeighborsRegressor Lars LarsCV Lasso LassoCV LassoLars LassoLarsCV LassoLarsIC
        LinearRegression LinearSVR MLPRegressor NuSVR OrthogonalMatchingPursuit
        OrthogonalMatchingPursuitCV PassiveAggressiveRegressor PoissonRegressor QuantileRegressor
        RadiusNeighborsRegressor RandomForestRegressor RANSACRegressor Ridge RidgeCV SGDRegressor
        StackingRegressor SVR TheilSenRegressor TransformedTargetRegressor TweedieRegressor
        VotingRegressor
    """,
    "targets": """
        CCA MultiOutputRegressor MultiTaskElasticNet MultiTaskElasticNetCV MultiTaskLasso
        MultiTaskLassoCV PLSCanonical PLSRegression PLSSVD RegressorChain
    """,
    "missing": "KNNImputer MissingIndicator SimpleImputer IterativeImputer",
    "one column": "IsotonicRegression",
    "categories": "OneHotEncoder OrdinalEncoder TargetEncoder",
    "text": "CountVectorizer HashingVectorizer TfidfVectorizer",
    "dicts": "DictVectorizer FeatureHasher",
}

_NO_NEW_ROWS = "it has no answer for new rows"
_TARGETS = "it encodes targets, not rows"

LEFT_OUT: dict[str, str] = {
    **dict.fromkeys(
        ["HalvingGridSearchCV", "HalvingRandomSearchCV"],
        "experimental, and there only where something has switched them on; converted as GridSearchCV is",
    ),
    **dict.fromkeys(
        [
            "AgglomerativeClustering",
            "ClassicalMDS",
            "DBSCAN",
            "HDBSCAN",
            "MDS",
            "OPTICS",
            "SpectralBiclustering",
            "SpectralClustering",
            "SpectralCoclustering",
            "SpectralEmbedding",
            "TSNE",
        ],
        _NO_NEW_ROWS,
    ),
    **dict.fromkeys(
        [
            "EmpiricalCovariance",
            "GraphicalLasso",
            "GraphicalLassoCV",
            "LedoitWolf",
            "MinCovDet",
            "NearestNeighbors",
            "OAS",
            "ShrunkCovariance",
        ],
        "it neither predicts nor transforms",
    ),
    **dict.fromkeys(["LabelBinarizer", "LabelEncoder", "MultiLabelBinarizer"], _TARGETS),
    "PatchExtractor": "it makes another number of rows of images",
}
"""Estimators that the gallery has no row for, and why."""

_SMALL_FORESTS = {"n_estimators": 8, "max_depth": 5, "random_state": 0}

_ARGUMENTS: dict[str, dict[str, Any]] = {
    "AdaBoostClassifier": {"n_estimators": 8},
    "AdaBoostRegressor": {"n_estimators": 8},
    "AffinityPropagation": {"random_state": 0},
    "BaggingClassifier": {"n_estimators": 5},
    "BaggingRegressor": {"n_estimators": 5},
    "BayesianGaussianMixture": {"n_components": 3},
    "BernoulliRBM": {"n_components": 6, "n_iter": 3},
    "BisectingKMeans": {"n_clusters": 4},
    "DictionaryLearning": {"n_components": 5, "max_iter": 10},
    "ExtraTreesClassifier": _SMALL_FORESTS,
    "ExtraTreesRegressor": _SMALL_FORESTS,
    "FactorAnalysis": {"n_components": 4},
    "FastICA": {"n_components": 4},
    "FeatureAgglomeration": {"n_clusters": 4},
    "GaussianMixture": {"n_components": 3},
    "GaussianRandomProjection": {"n_components": 5},
    "GradientBoostingClassifier": {"n_estimators": 8},
    "GradientBoostingRegressor": {"n_estimators": 8},
    "HashingVectorizer": {"n_features": 64},
    "HistGradientBoostingClassifier": {"max_iter": 8},
    "HistGradientBoostingRegressor": {"max_iter": 8},
    "IsolationForest": {"n_estimators": 8},
    "Isomap": {"n_components": 3},
    "IterativeImputer": {"max_iter": 5},
    "KMeans": {"n_clusters": 4, "n_init": 2},
    "KernelDensity": {"bandwidth": 2.0},
    "KernelPCA": {"n_components": 4, "kernel": "rbf"},
    "KernelRidge": {"kernel": "rbf"},
    "LatentDirichletAllocation": {"n_components": 4, "max_iter": 3},
    "LocalOutlierFactor": {"novelty": True},
    "LocallyLinearEmbedding": {"n_components": 3},
    "MLPClassifier": {"hidden_layer_sizes": (8,), "max_iter": 60},
    "MLPRegressor": {"hidden_layer_sizes": (8,), "max_iter": 60},
    "MiniBatchDictionaryLearning": {"n_components": 5, "max_iter": 5},
    "MiniBatchKMeans": {"n_clusters": 4, "n_init": 2},
    "MiniBatchNMF": {"n_components": 4, "max_iter": 20},
    "MiniBatchSparsePCA": {"n_components": 4, "max_iter": 5},
    "NMF": {"n_components": 4, "max_iter": 100},
    "NeighborhoodComponentsAnalysis": {"n_components": 4, "max_iter": 5},
    "NuSVC": {"nu": 0.2},
    "Nystroem": {"n_components": 10},
    "PCA": {"n_components": 4},
    "PolynomialCountSketch": {"n_components": 16},
    "QuantileRegressor": {"alpha": 0.01},
    "QuantileTransformer": {"n_quantiles": 20},
    "RBFSampler": {"n_components": 12},
    "RadiusNeighborsClassifier": {"radius": 3.0, "outlier_label": "most_frequent"},
    "RadiusNeighborsRegressor": {"radius": 0.3},
    "RadiusNeighborsTransformer": {"radius": 3.0},
    "RandomForestClassifier": _SMALL_FORESTS,
    "RandomForestRegressor": _SMALL_FORESTS,
    "RandomTreesEmbedding": {"n_estimators": 5, "max_depth": 3},
    "SelectKBest": {"k": 5},
    "SkewedChi2Sampler": {"n_components": 12},
    "SparsePCA": {"n_components": 4, "max_iter": 5},
    "SparseRandomProjection": {"n_components": 5},
    "TheilSenRegressor": {"max_subpopulation": 300},
    "TruncatedSVD": {"n_components": 4},
    "TweedieRegressor": {"power": 1.5},
}


def _estimator(name: str, cls: type, data: _Data) -> Any:
    """The estimator to fit; those made of others get theirs here."""
    from sklearn import linear_model, preprocessing, tree
    from sklearn.pipeline import make_pipeline

    logistic = linear_model.LogisticRegression(max_iter=300)
    stump = tree.DecisionTreeClassifier(max_depth=4, random_state=0)
    ridge = linear_model.Ridge()
    classifiers = [("logistic", logistic), ("tree", stump)]
    regressors = [("ridge", ridge), ("tree", tree.DecisionTreeRegressor(max_depth=4))]
    scaler = preprocessing.StandardScaler()
    over = {
        **dict.fromkeys(
            [
                "CalibratedClassifierCV", "ClassifierChain", "FixedThresholdClassifier",
                "MultiOutputClassifier", "OneVsOneClassifier", "OneVsRestClassifier",
                "OutputCodeClassifier", "RFE", "RFECV", "SelectFromModel",
                "SelfTrainingClassifier", "TunedThresholdClassifierCV",
            ],
            (logistic,),
        ),
        "ColumnTransformer": ([("scaled", scaler, [0, 1, 2]), ("same", "passthrough", [4])],),
        "FeatureUnion": ([("scaled", scaler), ("bins", preprocessing.Binarizer())],),
        "GridSearchCV": (logistic, {"C": [0.1, 1.0]}),
        "MultiOutputRegressor": (ridge,),
        "Pipeline": ([("scaled", scaler), ("logistic", logistic)],),
        "RANSACRegressor": (linear_model.LinearRegression(),),
        "RandomizedSearchCV": (logistic, {"C": [0.1, 1.0]}),
        "RegressorChain": (ridge,),
        "SequentialFeatureSelector": (ridge,),
        "StackingClassifier": (classifiers,),
        "StackingRegressor": (regressors,),
        "TransformedTargetRegressor": (make_pipeline(scaler, ridge),),
        "VotingClassifier": (classifiers,),
        "VotingRegressor": (regressors,),
    }  # fmt: skip
    arguments = dict(_ARGUMENTS.get(name, {}))
    if name == "FrozenEstimator":
        return cls(logistic.fit(data.X, data.y))
    if name == "SparseCoder":
        return cls(dictionary=np.eye(data.X.shape[1])[:5])
    if name == "FunctionTransformer":
        arguments["func"] = np.log1p
    if name == "RandomizedSearchCV":
        arguments["n_iter"] = 2
    if name == "SequentialFeatureSelector":
        arguments["n_features_to_select"] = 3
    if name == "TransformedTargetRegressor":
        arguments |= {"func": np.log1p, "inverse_func": np.expm1}
    if "random_state" in inspect.signature(cls.__init__).parameters:
        arguments.setdefault("random_state", 0)
    return cls(*over.get(name, ()), **arguments)


class _Data:
    """Rows and targets; every second row is for the comparison."""

    def __init__(self, X: Any, y: Any = None) -> None:
        self.X, self.y = X, y


def _data(kind: str, name: str) -> _Data:
    from sklearn import datasets

    rng = np.random.default_rng(0)
    if kind == "text":
        words = [
            "the",
            "cat",
            "dog",
            "sat",
            "ran",
            "on",
            "a",
            "mat",
            "fast",
            "slow",
            "red",
            "Blue",
            "naïve",
            "it's",
            "42",
            "x_y",
        ]
        return _Data([" ".join(rng.choice(words, rng.integers(2, 9))) for _ in range(60)])
    if kind == "dicts":
        cities = rng.choice(["Oslo", "Roma", "Łódź"], 60).tolist()
        rows = [{"city": city, "floor": int(rng.integers(0, 4))} for city in cities]
        return _Data([{**row, "garden": 1.5} if i % 3 else row for i, row in enumerate(rows)])
    if kind == "categories":
        import pandas as pd

        frame = pd.DataFrame(
            {"city": rng.choice(["Oslo", "Roma", "Łódź"], 90), "floor": rng.integers(0, 4, 90)}
        )
        return _Data(frame, (frame["floor"] > 1).astype(int).to_numpy())
    if kind == "counts":
        return _Data(rng.integers(0, 5, (90, 8)).astype(float), rng.integers(0, 3, 90))
    if kind in ("numbers", "targets", "one column"):
        X, y = datasets.load_diabetes(return_X_y=True)
        X, y = X[:120], y[:120] / 10.0
        if kind == "one column":
            return _Data(X[:, [2]], y)
        return _Data(X, np.column_stack([y, X @ rng.normal(size=10)]) if kind == "targets" else y)
    X, y = datasets.load_wine(return_X_y=True)
    order = rng.permutation(len(X))[:120]
    X, y = (X[order, :8] - X[:, :8].mean(axis=0)) / X[:, :8].std(axis=0), y[order]
    if name in ("FixedThresholdClassifier", "TunedThresholdClassifierCV"):
        y = (y > 0).astype(int)
    if name in ("ClassifierChain", "MultiOutputClassifier"):
        y = np.column_stack([y > 0, X[:, 0] > 0]).astype(int)
    if name == "FunctionTransformer":
        X = np.abs(X)
    if name == "BernoulliRBM":
        X = (X > 0).astype(float)
    if name == "KernelCenterer":
        X = X @ X[:100].T
        return _Data(X[:100], y[:100])
    if kind == "missing":
        X[rng.random(X.shape) < 0.1] = np.nan
    return _Data(X, y)


def _maker(kind: str, name: str) -> Callable[[], Made]:
    def make() -> Made:
        from sklearn.experimental import enable_iterative_imputer  # noqa: F401
        from sklearn.utils import all_estimators

        cls = dict(all_estimators())[name]
        data = _data(kind, name)
        model = _estimator(name, cls, data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(data.X, data.y)
        return Made(model, data.X[::2], data.X[1::2], ask=ask)

    return make


def ask(model: Any, method: str, rows: Any) -> Any:
    """What the estimator itself answers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(model, method)(rows)


def _skl2onnx(made: Made) -> str:
    """What sklearn-onnx alone makes of the model: default options, over the rows as they are or as float32."""
    verdicts = {"fails"}
    candidates = [made.rows]
    if isinstance(made.rows, np.ndarray):
        candidates.append(made.rows.astype(np.float32))
    for rows in candidates:
        try:
            given = _converted_alone(made.model, rows)
            verdicts.add("agrees" if _alike(made.model, rows, given) else "differs")
        except Exception:  # of the exporter, of ONNX Runtime, or of the source over float32
            continue
    return next(verdict for verdict in ("agrees", "differs", "fails") if verdict in verdicts)


def _converted_alone(model: Any, rows: Any) -> list[Any]:
    """Outputs of its graph in ONNX Runtime."""
    import onnxruntime
    import skl2onnx
    from skl2onnx.common.data_types import StringTensorType

    if isinstance(rows, list):
        feeds: Any = {"X": np.array(rows, object).reshape(-1, 1)}
        proto = skl2onnx.to_onnx(model, initial_types=[("X", StringTensorType([None, 1]))])
    else:
        proto = skl2onnx.to_onnx(model, rows[:1])
        feeds = {"X": rows}
    if hasattr(rows, "columns"):
        columns = {name: rows[name].to_numpy().reshape(-1, 1) for name in rows.columns}
        feeds = {
            name: values.astype(object) if values.dtype.kind in "OUT" else values
            for name, values in columns.items()
        }
    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, feeds)


def _alike(model: Any, rows: Any, given: list[Any]) -> bool:
    """Whether its outputs are the answers of predict and predict_proba, or of transform."""
    methods = [name for name in ("predict", "predict_proba") if hasattr(model, name)]
    for method, ours in zip(methods or ["transform"], given, strict=False):
        theirs = ask(model, method, rows)
        if isinstance(ours, list) and ours and isinstance(ours[0], dict):
            ours = np.array([list(row.values()) for row in ours])
        pairs = zip(ours, theirs, strict=True) if isinstance(theirs, list) else [(ours, theirs)]
        for a, b in pairs:
            b = b.toarray() if hasattr(b, "toarray") else np.asarray(b)
            a = np.asarray(a)
            if a.size != b.size:
                return False
            a = a.reshape(b.shape)
            if b.dtype.kind in "fc":
                if not np.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True):
                    return False
            elif not np.array_equal(a, b):
                return False
    return True


SKL2ONNX = Rival("skl2onnx alone", _skl2onnx)

ENTRIES = [
    Entry("scikit-learn estimators", name, _maker(kind, name), rival=SKL2ONNX)
    for kind, names in _ON.items()
    for name in names.split()
]
ENTRIES.sort(key=lambda entry: entry.name.lower())
