"""statsmodels, LIBSVM, Spark ML, Core ML, imbalanced-learn and category_encoders."""

from __future__ import annotations

import atexit
import functools
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.gallery.entry import Entry, Made

__all__ = ["ENTRIES"]


def _quietly(function: Callable[..., Made]) -> Callable[..., Made]:
    @functools.wraps(function)
    def quiet(*args: Any, **settings: Any) -> Made:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args, **settings)

    return quiet


@functools.cache
def _table() -> Any:
    import pandas as pd

    rng = np.random.default_rng(0)
    n = 320
    made = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "z": rng.uniform(1, 3, n),
            "g": rng.choice(list("abcd"), n).astype(object),
            "k": rng.integers(0, 4, n),
        }
    )
    score = 0.6 * made["x"] + 0.4 * made["z"] + 0.8 * (made["g"] == "b") - 0.5 * (made["k"] == 2)
    made["y"] = score + 0.3 * rng.normal(size=n)
    made["positive"] = np.exp(score) * rng.gamma(4, 0.25, n)
    made["count"] = rng.poisson(np.exp(score))
    made["two"] = (rng.random(n) < 1 / (1 + np.exp(1 - score))).astype(int)
    made["three"] = np.digitize(made["y"], [0.6, 1.2])
    return made


_TRAIN, _REST = slice(0, 220), slice(220, None)


# ---- statsmodels


@_quietly
def _results(kind: str, target: str, *, family: str = "", link: str = "", **settings: Any) -> Made:
    import statsmodels.api as sm

    table = _table()
    exog = sm.add_constant(table[["x", "z"]])
    if family:
        links = sm.families.links
        more = {"link": getattr(links, link)()} if link else {}
        settings["family"] = getattr(sm.families, family)(**more)
    if kind == "GEE":
        settings["groups"] = table["k"][_TRAIN]
    source = getattr(sm, kind)(table[target][_TRAIN], exog[_TRAIN], **settings)
    discrete = kind in ("Logit", "Probit", "MNLogit", "Poisson", "NegativeBinomial")
    discrete = discrete or kind.startswith("ZeroInflated")
    fitted = source.fit(disp=0) if discrete else source.fit()
    return Made(fitted, exog[_TRAIN], exog[_REST])


@_quietly
def _formula(formula: str, kind: str = "ols", **settings: Any) -> Made:
    import statsmodels.formula.api as smf

    table = _table()
    train = table[_TRAIN]
    if kind == "mixedlm":
        settings["groups"] = train["k"]
    return Made(getattr(smf, kind)(formula, train, **settings).fit(), train, table[_REST])


_STATSMODELS = [
    *(
        Entry("statsmodels", name, partial(_results, name, "y"))
        for name in ("OLS", "WLS", "GLS", "GLSAR", "QuantReg", "RLM")
    ),
    *(
        Entry(
            "statsmodels",
            f"GLM, {family}" + (f", {link}" if link else ""),
            partial(_results, "GLM", target, family=family, link=link),
        )
        for family, link, target in (
            ("Gaussian", "", "y"),
            ("Gaussian", "Log", "positive"),
            ("Gamma", "", "positive"),
            ("Gamma", "Log", "positive"),
            ("InverseGaussian", "Log", "positive"),
            ("Tweedie", "", "positive"),
            ("Poisson", "", "count"),
            ("Poisson", "Sqrt", "count"),
            ("NegativeBinomial", "", "count"),
            ("Binomial", "", "two"),
            ("Binomial", "Probit", "two"),
            ("Binomial", "CLogLog", "two"),
            ("Binomial", "Cauchy", "two"),
        )
    ),
    *(
        Entry("statsmodels", name, partial(_results, name, target))
        for name, target in (
            ("Logit", "two"),
            ("Probit", "two"),
            ("MNLogit", "three"),
            ("Poisson", "count"),
            ("NegativeBinomial", "count"),
            ("ZeroInflatedPoisson", "count"),
        )
    ),
    Entry("statsmodels", "GEE, Gaussian", partial(_results, "GEE", "y", family="Gaussian")),
    *(
        Entry("statsmodels", f"ols, {formula}", partial(_formula, formula))
        for formula in (
            "y ~ x + z",
            "y ~ x * C(g) + k",
            "y ~ C(g, Sum):z + C(k, Poly)",
            "y ~ np.log(z) + I(x ** 2)",
            "y ~ bs(x, df=4, lower_bound=-9, upper_bound=9)",
        )
    ),
    Entry("statsmodels", "logit, two ~ x + g", partial(_formula, "two ~ x + g", "logit")),
    Entry("statsmodels", "mixedlm, y ~ x", partial(_formula, "y ~ x", "mixedlm")),
]


# ---- LIBSVM


def _svm(target: str, options: str) -> Made:
    from libsvm import svmutil

    table = _table()
    X = table[["x", "z", "k"]].to_numpy(float)
    model = svmutil.svm_train(table[target].to_numpy(float)[_TRAIN], X[_TRAIN], options + " -q")
    return Made(model, X[_TRAIN], X[_REST])


_LIBSVM = [
    Entry("LIBSVM", name, partial(_svm, target, options))
    for name, target, options in (
        ("C-SVC, linear", "two", "-s 0 -t 0"),
        ("C-SVC, polynomial", "three", "-s 0 -t 1 -r 1"),
        ("C-SVC, RBF", "three", "-s 0 -g 0.7"),
        ("C-SVC, sigmoid", "two", "-s 0 -t 3 -g 0.1"),
        ("C-SVC, RBF, two probabilities", "two", "-s 0 -b 1"),
        ("C-SVC, RBF, three probabilities", "three", "-s 0 -b 1"),
        ("nu-SVC, RBF, three probabilities", "three", "-s 1 -n 0.2 -b 1"),
        ("one-class, RBF", "y", "-s 2 -n 0.2"),
        ("epsilon-SVR, RBF", "y", "-s 3"),
        ("nu-SVR, linear", "y", "-s 4 -t 0"),
    )
]


# ---- Spark ML


@functools.cache
def _spark() -> Any:
    from tests.convert.spark_session import start

    folder = tempfile.TemporaryDirectory()
    session = start(Path(folder.name))
    if session is None:
        raise ModuleNotFoundError("Spark needs Java, and there is none")
    atexit.register(folder.cleanup)
    atexit.register(session.stop)
    return session


@_quietly
def _pipeline(kind: str, target: str, *, encoded: bool = True, **settings: Any) -> Made:
    from pyspark.ml import Pipeline, classification, clustering, regression
    from pyspark.ml.feature import (
        OneHotEncoder,
        PolynomialExpansion,
        StandardScaler,
        StringIndexer,
        VectorAssembler,
    )

    session, table = _spark(), _table()
    train = table[_TRAIN].astype({"two": float, "three": float})
    stages = [
        StringIndexer(inputCol="g", outputCol="gi", handleInvalid="keep"),
        OneHotEncoder(inputCol="gi", outputCol="gv"),
        VectorAssembler(
            inputCols=["x", "z", "k", "gv" if encoded else "gi"], outputCol="assembled"
        ),
    ]
    if kind.startswith("PolynomialExpansion"):
        stages.append(PolynomialExpansion(inputCol="assembled", outputCol="features"))
        kind = "LinearRegression"
    else:
        stages.append(StandardScaler(inputCol="assembled", outputCol="features", withMean=encoded))
    module = next(m for m in (classification, regression, clustering) if hasattr(m, kind))
    if kind != "KMeans":
        settings["labelCol"] = target
    stages.append(getattr(module, kind)(**settings))
    model = Pipeline(stages=stages).fit(session.createDataFrame(train))
    columns = ["x", "z", "g", "k"]
    return Made(model, table[columns][_TRAIN], table[columns][_REST])


_SPARK = [
    Entry("Spark ML", f"{kind}, {target}", partial(_pipeline, kind, target, **settings), slow=True)
    for kind, target, settings in (
        ("LogisticRegression", "two", {}),
        ("LogisticRegression", "three", {"regParam": 0.1}),
        ("LinearSVC", "two", {"maxIter": 5}),
        ("DecisionTreeClassifier", "three", {"encoded": False}),
        ("RandomForestClassifier", "three", {"numTrees": 6, "seed": 1, "encoded": False}),
        ("GBTClassifier", "two", {"maxIter": 4, "seed": 1}),
        ("NaiveBayes", "three", {"modelType": "gaussian"}),
        ("MultilayerPerceptronClassifier", "three", {"layers": [7, 5, 3], "seed": 1, "maxIter": 9}),
        ("LinearRegression", "y", {}),
        ("DecisionTreeRegressor", "y", {}),
        ("RandomForestRegressor", "y", {"numTrees": 6, "seed": 1}),
        ("GBTRegressor", "y", {"maxIter": 4, "seed": 1}),
        ("KMeans", "clusters", {"k": 4, "seed": 1}),
        ("PolynomialExpansion and LinearRegression", "y", {}),
    )
]


# ---- Core ML, against the model that its specification was made of


def _glm(target: str) -> Made:
    from coremltools.proto import FeatureTypes_pb2, Model_pb2
    from sklearn.linear_model import LinearRegression, LogisticRegression

    table = _table()
    X = table[["x", "z", "k"]].to_numpy(float)
    is_classifier = target == "two"
    kind = LogisticRegression if is_classifier else LinearRegression
    model = kind().fit(X[_TRAIN], table[target][_TRAIN])
    spec = Model_pb2.Model()
    spec.specificationVersion = 4
    item = spec.description.input.add()
    item.name = "x"
    item.type.multiArrayType.shape.append(3)
    item.type.multiArrayType.dataType = FeatureTypes_pb2.ArrayFeatureType.DOUBLE
    spec.description.output.add().name = "y"
    part = spec.glmClassifier if is_classifier else spec.glmRegressor
    if is_classifier:
        part.int64ClassLabels.vector.extend([0, 1])
    part.weights.add().value.extend(np.ravel(model.coef_))
    part.offset.extend(np.ravel(model.intercept_))
    return Made(spec, X[_TRAIN], X[_REST], ask=lambda _, method, rows: getattr(model, method)(rows))


@_quietly
def _boosted() -> Made:
    import coremltools
    import xgboost

    table = _table()
    X = table[["x", "z", "k"]].astype("float32").astype(float)
    model = xgboost.XGBRegressor(n_estimators=10, max_depth=4, n_jobs=1, base_score=0.5)
    model.fit(X[_TRAIN], table["y"][_TRAIN])
    spec = coremltools.converters.xgboost.convert(
        model.get_booster(), list(X.columns), "y"
    ).get_spec()
    spec.treeEnsembleRegressor.treeEnsemble.basePredictionValue[0] = 0.5
    return Made(
        spec,
        X[_TRAIN],
        X[_REST],
        ask=lambda _, method, rows: model.predict(rows).astype(float),
    )


@_quietly
def _network() -> Made:
    import coremltools
    import torch

    torch.manual_seed(0)
    nn = torch.nn
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6 * 8 * 8, 4),
        nn.Softmax(dim=1),
    ).eval()
    images = torch.randn(2, 1, 3, 16, 16)
    made = coremltools.convert(
        torch.jit.trace(module, images[0]),
        inputs=[coremltools.TensorType(name="image", shape=(1, 3, 16, 16))],
        convert_to="neuralnetwork",
    )
    name = made.get_spec().description.output[0].name

    def ask(_: Any, method: str, rows: Any) -> Any:
        with torch.no_grad():
            return {name: module(torch.from_numpy(rows["image"])).numpy()}

    example, rows = ({"image": image.numpy()} for image in images)
    return Made(made, example, rows, ask=ask)


_CORE_ML = [
    Entry("Core ML", "glmRegressor", partial(_glm, "y"), slow=True),
    Entry("Core ML", "glmClassifier", partial(_glm, "two"), slow=True),
    Entry("Core ML", "treeEnsembleRegressor, from XGBoost", _boosted, slow=True),
    Entry("Core ML", "neuralNetwork, from PyTorch", _network, slow=True),
]


# ---- imbalanced-learn


@_quietly
def _imbalanced(name: str) -> Made:
    from imblearn import ensemble, over_sampling, under_sampling
    from imblearn.pipeline import make_pipeline
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.preprocessing import StandardScaler

    table = _table()
    X = table[["x", "z", "k"]]
    if hasattr(ensemble, name):
        model = getattr(ensemble, name)(n_estimators=8, random_state=0)
    else:
        kind = getattr(over_sampling, name, None) or getattr(under_sampling, name)
        model = make_pipeline(
            StandardScaler(), kind(random_state=0), RandomForestClassifier(12, random_state=0)
        )
    return Made(model.fit(X[_TRAIN], table["two"][_TRAIN]), X[_TRAIN], X[_REST])


_IMBALANCED = [
    *(
        Entry("imbalanced-learn", f"Pipeline, {name}", partial(_imbalanced, name))
        for name in ("RandomOverSampler", "RandomUnderSampler", "SMOTE")
    ),
    *(
        Entry("imbalanced-learn", name, partial(_imbalanced, name))
        for name in (
            "BalancedBaggingClassifier",
            "BalancedRandomForestClassifier",
            "EasyEnsembleClassifier",
            "RUSBoostClassifier",
        )
    ),
]


# ---- category_encoders


@_quietly
def _encoded(name: str) -> Made:
    import category_encoders
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    table = _table()
    X = table[["g", "x", "k"]].copy()
    X.loc[5:25, "g"] = None
    X.loc[225:235, "g"] = None
    X.loc[240:250, "g"] = "never seen"
    more = {"max_process": 1} if name == "HashingEncoder" else {}
    encoder = getattr(category_encoders, name)(cols=["g", "k"], **more)
    model = make_pipeline(encoder, LogisticRegression(max_iter=500))
    return Made(model.fit(X[_TRAIN], table["two"][_TRAIN]), X[_TRAIN], X[_REST])


_ENCODERS = [
    Entry("category_encoders", name, partial(_encoded, name))
    for name in (
        "BackwardDifferenceEncoder",
        "BaseNEncoder",
        "BinaryEncoder",
        "CatBoostEncoder",
        "CountEncoder",
        "GLMMEncoder",
        "GrayEncoder",
        "HashingEncoder",
        "HelmertEncoder",
        "JamesSteinEncoder",
        "LeaveOneOutEncoder",
        "MEstimateEncoder",
        "OneHotEncoder",
        "OrdinalEncoder",
        "PolynomialEncoder",
        "QuantileEncoder",
        "RankHotEncoder",
        "SumEncoder",
        "SummaryEncoder",
        "TargetEncoder",
        "WOEEncoder",
    )
]

ENTRIES = [*_STATSMODELS, *_LIBSVM, *_SPARK, *_CORE_ML, *_IMBALANCED, *_ENCODERS]
