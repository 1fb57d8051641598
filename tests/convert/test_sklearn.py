"""scikit-learn models against scikit-learn itself, through `infersdk.load`.

`agree` is the judge of nearly every test: it loads a fitted model, asserts which plan became of it, and
compares every method of the Predictor with the model's own, on the example and on edge rows.
"""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import onnx
import pytest

import infersdk
from infersdk import Execution, InputError, UnsupportedModelError
from infersdk.convert import sklearn as converter
from infersdk.convert import sklearn_splits
from infersdk.convert.sklearn_writer import class_name, writes

pd = pytest.importorskip("pandas")
sklearn = pytest.importorskip("sklearn")
joblib = pytest.importorskip("joblib")
pytest.importorskip("skl2onnx")

from sklearn import (  # noqa: E402
    calibration,
    cluster,
    compose,
    covariance,
    datasets,
    decomposition,
    discriminant_analysis,
    dummy,
    ensemble,
    feature_selection,
    impute,
    kernel_ridge,
    linear_model,
    mixture,
    model_selection,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    preprocessing,
    random_projection,
    svm,
    tree,
)
from sklearn.feature_extraction import DictVectorizer, FeatureHasher  # noqa: E402
from sklearn.feature_extraction.text import (  # noqa: E402
    CountVectorizer,
    HashingVectorizer,
    TfidfVectorizer,
)
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union  # noqa: E402

pytestmark = pytest.mark.filterwarnings(
    # Small models, fitted for as long as a test may take.
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore::FutureWarning:sklearn",
)

FAST = Execution(calibration_s=0.0, threads=1)


# ---- data


@pytest.fixture(scope="module")
def wine():
    X, y = datasets.load_wine(return_X_y=True)
    return X, y


@pytest.fixture(scope="module")
def cancer():
    X, y = datasets.load_breast_cancer(return_X_y=True)
    return X[::2, :12], y[::2]


@pytest.fixture(scope="module")
def diabetes():
    X, y = datasets.load_diabetes(return_X_y=True)
    return X[::2], y[::2]


@pytest.fixture(scope="module")
def digits():
    X, y = datasets.load_digits(return_X_y=True)
    return X[::4], y[::4]


@pytest.fixture(scope="module")
def people():
    """A DataFrame of every kind of column, with missing values, and a target."""
    rng = np.random.default_rng(0)
    n = 240
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "income": np.round(rng.lognormal(10, 1, n), 2),
            "city": rng.choice(["Oslo", "Bergen", "Roma", "Łódź"], n),
            "floor": rng.integers(0, 5, n),
            "member": rng.random(n) < 0.3,
            "plan": pd.Categorical(rng.choice(["free", "basic", "pro"], n)),
            "note": rng.choice(["pays late", "good payer, pays early", "ok"], n),
            "seen": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "D"),
        }
    )
    frame.loc[::7, "income"] = np.nan
    frame.loc[::11, "city"] = None
    y = ((frame["age"] > 50) ^ (frame["city"] == "Oslo")).astype(int).to_numpy()
    return frame, y


TEXTS = [
    "The cat sat on the mat",
    "Ünïcode wörds, naïve cafés",
    "dogs chase cats; 123 times_x",
    "a b c",
    "",
    "The THE the dog's",
] * 6
TEXT_LABELS = np.array(list("abcaba") * 6)


# ---- the judge


def assert_same(got, wanted):
    if isinstance(wanted, list):
        assert isinstance(got, list)
        assert len(got) == len(wanted)
        for ours, theirs in zip(got, wanted, strict=True):
            assert_same(ours, theirs)
        return
    if hasattr(wanted, "toarray"):
        assert hasattr(got, "toarray")
        got, wanted = got.toarray(), wanted.toarray()
    wanted = np.asarray(wanted)
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    if wanted.dtype.kind == "f":
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(got, wanted)


def agree(model, example, *, plan="onnx", without=()):
    """Load, assert the plan, compare all methods but those expected to be left out; return parts."""
    before = fingerprint(model)
    with infersdk.load(model, example=example, execution=FAST) as predictor:
        assert predictor.plan.kind == plan, str(predictor.plan)
        signature = predictor.signature
        rows = [example]
        edges = converter.edge_rows(
            model, signature, example, n_rows=60, rng=np.random.default_rng(1)
        )
        if edges is not None and plan == "onnx":
            assert predictor.parity.n_edge_rows > 0
            rows.append(edges)
        offered = [name for name in METHODS if hasattr(model, name)]
        assert {m.name for m in signature.methods} == set(offered) - set(without)
        for part in rows:
            for method in signature.methods:
                wanted = converter.call(model, method.name, part)
                assert_same(getattr(predictor, method.name)(part), wanted)
    assert fingerprint(model) == before
    return signature


def fingerprint(model):
    """A hash of all fitted state, except what hashing itself cannot take twice."""
    state = {key: value for key, value in vars(model).items() if key not in SKIPPED}
    return joblib.hash(state)


# A search tree's pickle changes with its query counters; joblib cannot hash masked arrays.
SKIPPED = ("_tree", "cv_results_")

METHODS = (
    "predict",
    "transform",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "score_samples",
)


def stays(model, example, reason):
    """One step stays in scikit-learn, and says why; the rest is a graph."""
    with infersdk.load(model, example=example, execution=FAST) as predictor:
        assert predictor.plan.kind == "hybrid", str(predictor.plan)
        (part,) = (part for part in predictor.plan.parts if part.runs == "source")
        assert reason in part.reason
        for method in predictor.signature.methods:
            wanted = converter.call(model, method.name, example)
            assert_same(getattr(predictor, method.name)(example), wanted)


# ---- single estimators

CLASSIFIERS = {
    "ada boost": ensemble.AdaBoostClassifier(n_estimators=6),
    "ada boost over logistic regression": ensemble.AdaBoostClassifier(
        linear_model.LogisticRegression(max_iter=50), n_estimators=3
    ),
    "bagging": ensemble.BaggingClassifier(n_estimators=4, random_state=0),
    "bagging of votes, some features": ensemble.BaggingClassifier(
        linear_model.Perceptron(), n_estimators=3, max_features=0.5, random_state=0
    ),
    "calibrated, isotonic": calibration.CalibratedClassifierCV(
        naive_bayes.GaussianNB(), method="isotonic", cv=2
    ),
    "calibrated, isotonic, forest": calibration.CalibratedClassifierCV(
        ensemble.RandomForestClassifier(8, random_state=0), method="isotonic", cv=2
    ),
    "calibrated, sigmoid": calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=2),
    "decision tree": tree.DecisionTreeClassifier(random_state=0),
    "dummy": dummy.DummyClassifier(strategy="prior"),
    "extra trees": ensemble.ExtraTreesClassifier(8, random_state=0),
    "gradient boosting": ensemble.GradientBoostingClassifier(n_estimators=6),
    "gradient boosting from zero": ensemble.GradientBoostingClassifier(n_estimators=4, init="zero"),
    "histogram boosting": ensemble.HistGradientBoostingClassifier(max_iter=6),
    "linear discriminant": discriminant_analysis.LinearDiscriminantAnalysis(),
    "linear SVC": svm.LinearSVC(),
    "logistic regression": linear_model.LogisticRegression(max_iter=50),
    "MLP": neural_network.MLPClassifier(hidden_layer_sizes=(6,), max_iter=20, random_state=0),
    "nu-SVC": svm.NuSVC(nu=0.2),
    "one against rest": multiclass.OneVsRestClassifier(linear_model.LogisticRegression()),
    "perceptron": linear_model.Perceptron(),
    "random forest": ensemble.RandomForestClassifier(8, max_depth=4, random_state=0),
    "ridge": linear_model.RidgeClassifier(),
    "SGD, log loss": linear_model.SGDClassifier(loss="log_loss", random_state=0),
    "SGD, modified huber": linear_model.SGDClassifier(loss="modified_huber", random_state=0),
    "stacking": ensemble.StackingClassifier(
        [
            ("a", linear_model.LogisticRegression()),
            ("b", tree.DecisionTreeClassifier(max_depth=3)),
            ("c", linear_model.RidgeClassifier()),
        ],
        passthrough=True,
        cv=2,
    ),
    "SVC": svm.SVC(),
    "SVC, linear": svm.SVC(kernel="linear", C=0.01),
    "SVC, polynomial": svm.SVC(kernel="poly", degree=2),
    "SVC, sigmoid": svm.SVC(kernel="sigmoid"),
    "voting, hard": ensemble.VotingClassifier(
        [
            ("a", linear_model.LogisticRegression()),
            ("b", tree.DecisionTreeClassifier(max_depth=3)),
            ("c", naive_bayes.GaussianNB()),
        ],
        weights=[2, 1, 1],
    ),
    "voting, soft": ensemble.VotingClassifier(
        [
            ("a", linear_model.LogisticRegression()),
            ("b", tree.DecisionTreeClassifier(max_depth=3)),
        ],
        voting="soft",
        weights=[1.0, 2.5],
    ),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_of_several_classes(name, wine):
    X, y = wine
    agree(sklearn.clone(CLASSIFIERS[name]).fit(X, y), X)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_of_two_classes_with_text_labels(name, cancer):
    X, y = cancer
    agree(sklearn.clone(CLASSIFIERS[name]).fit(X, np.array(["benign", "malign"])[y]), X)


THROUGH_SKL2ONNX = {
    "naive Bayes": (naive_bayes.GaussianNB(), ("predict_log_proba",)),
    "naive Bayes, Bernoulli": (naive_bayes.BernoulliNB(binarize=10.0), ()),
    "neighbors": (neighbors.KNeighborsClassifier(3), ()),
    "quadratic discriminant": (
        discriminant_analysis.QuadraticDiscriminantAnalysis(reg_param=0.1),
        ("decision_function", "predict_log_proba"),
    ),
    "one against one": (
        multiclass.OneVsOneClassifier(linear_model.LogisticRegression(max_iter=50)),
        ("decision_function",),
    ),
}


@pytest.mark.parametrize("name", THROUGH_SKL2ONNX)
def test_an_estimator_that_sklearn_onnx_writes(name, wine):
    model, _ = THROUGH_SKL2ONNX[name]
    X, y = wine
    model = sklearn.clone(model).fit(X, y)
    with infersdk.load(model, example=X, execution=FAST) as predictor:
        assert predictor.plan.kind == "onnx", str(predictor.plan)
        np.testing.assert_array_equal(predictor.predict(X), model.predict(X))
        if predictor.signature.method("predict_proba"):
            proba = predictor.predict_proba(X)
            np.testing.assert_allclose(proba, model.predict_proba(X), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", THROUGH_SKL2ONNX)
def test_a_method_without_an_exact_form_is_absent_and_noted(name, wine):
    model, absent = THROUGH_SKL2ONNX[name]
    X, y = wine
    with infersdk.load(sklearn.clone(model).fit(X, y), example=X, execution=FAST) as predictor:
        for method in absent:
            if predictor.signature.method(method) is None:
                assert any(method in note for note in predictor.plan.notes)


@pytest.mark.parametrize(
    "classes",
    [
        np.array([False, True]),
        np.array([-1, 7]),
        np.array([1.0, 2.0]),  # scikit-learn takes fractions for a regression target
        np.array(["no", "yes"], dtype=object),
        np.array(["no", "yes"]),
        np.array([3, 4], dtype=np.int8),
    ],
    ids=lambda classes: str(classes.dtype),
)
@pytest.mark.parametrize(
    "model",
    [
        linear_model.LogisticRegression(),
        ensemble.RandomForestClassifier(4, random_state=0),
        svm.SVC(),
        ensemble.HistGradientBoostingClassifier(max_iter=3),
    ],
    ids=lambda model: type(model).__name__,
)
def test_labels_come_back_as_they_were(model, classes, cancer):
    X, y = cancer
    agree(sklearn.clone(model).fit(X, classes[y]), X)


REGRESSORS = {
    "ada boost": ensemble.AdaBoostRegressor(n_estimators=4, random_state=0),
    "bagging": ensemble.BaggingRegressor(n_estimators=4, max_features=0.7, random_state=0),
    "Bayesian ridge": linear_model.BayesianRidge(),
    "chain": multioutput.RegressorChain(linear_model.Ridge(), order=[1, 0]),
    "decision tree": tree.DecisionTreeRegressor(random_state=0),
    "dummy": dummy.DummyRegressor(),
    "elastic net": linear_model.ElasticNet(),
    "extra trees": ensemble.ExtraTreesRegressor(6, random_state=0),
    "gamma": linear_model.GammaRegressor(),
    "gradient boosting": ensemble.GradientBoostingRegressor(n_estimators=6),
    "gradient boosting from a model": ensemble.GradientBoostingRegressor(
        n_estimators=4, init=linear_model.Ridge()
    ),
    "histogram boosting": ensemble.HistGradientBoostingRegressor(max_iter=6),
    "histogram boosting, poisson": ensemble.HistGradientBoostingRegressor(
        max_iter=6, loss="poisson"
    ),
    "kernel ridge": kernel_ridge.KernelRidge(kernel="rbf"),
    "kernel ridge, polynomial": kernel_ridge.KernelRidge(kernel="poly", degree=2),
    "linear": linear_model.LinearRegression(),
    "MLP": neural_network.MLPRegressor(
        hidden_layer_sizes=(5,), max_iter=20, random_state=0, activation="tanh"
    ),
    "neighbors": neighbors.KNeighborsRegressor(3),
    "random forest": ensemble.RandomForestRegressor(6, random_state=0),
    "ridge": linear_model.Ridge(),
    "stacking": ensemble.StackingRegressor(
        [("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=3))], cv=2
    ),
    "SVR": svm.SVR(),
    "target, log": compose.TransformedTargetRegressor(
        linear_model.Ridge(), func=np.log1p, inverse_func=np.expm1
    ),
    "target, scaled": compose.TransformedTargetRegressor(
        linear_model.Ridge(), transformer=preprocessing.StandardScaler()
    ),
    "tweedie": linear_model.TweedieRegressor(power=0),
    "voting": ensemble.VotingRegressor(
        [("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=3))],
        weights=[1, 3],
    ),
}


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_regressor(name, diabetes):
    X, y = diabetes
    target = np.column_stack([y, y**0.5]) if name == "chain" else y
    agree(sklearn.clone(REGRESSORS[name]).fit(X, target), X)


@pytest.mark.parametrize(
    "model",
    [
        linear_model.LinearRegression(),
        linear_model.MultiTaskLasso(),
        tree.DecisionTreeRegressor(max_depth=4),
        ensemble.RandomForestRegressor(4, random_state=0),
        multioutput.MultiOutputRegressor(ensemble.GradientBoostingRegressor(n_estimators=3)),
        neural_network.MLPRegressor(hidden_layer_sizes=(4,), max_iter=20, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_regressor_of_two_targets(model, diabetes):
    X, y = diabetes
    signature = agree(sklearn.clone(model).fit(X, np.column_stack([y, -y])), X)
    assert signature.method("predict").shape == (2,)


@pytest.mark.parametrize(
    "model",
    [
        multioutput.MultiOutputClassifier(linear_model.LogisticRegression()),
        ensemble.RandomForestClassifier(4, random_state=0),
        tree.DecisionTreeClassifier(max_depth=4),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_classifier_of_two_targets(model, wine):
    X, y = wine
    y2 = np.column_stack([y, y > 0])
    without = () if "Multi" in type(model).__name__ else ("predict_log_proba",)
    signature = agree(sklearn.clone(model).fit(X, y2), X, without=without)
    assert signature.method("predict_proba").form == "list"


OTHERS = {
    "elliptic envelope": covariance.EllipticEnvelope(random_state=0),
    "isolation forest": ensemble.IsolationForest(
        n_estimators=20, contamination=0.1, random_state=0
    ),
    "isolation forest, some features": ensemble.IsolationForest(
        n_estimators=12, max_features=0.5, random_state=0
    ),
    "Gaussian mixture": mixture.GaussianMixture(3, random_state=0),
    "Gaussian mixture, diagonal": mixture.GaussianMixture(
        2, covariance_type="diag", random_state=0
    ),
    "Gaussian mixture, tied": mixture.GaussianMixture(2, covariance_type="tied", random_state=0),
    "k-means": cluster.KMeans(4, n_init=1, random_state=0),
    "k-means, mini batches": cluster.MiniBatchKMeans(4, n_init=1, random_state=0),
    "one-class SVM": svm.OneClassSVM(),
    "one-class SVM, SGD": linear_model.SGDOneClassSVM(random_state=0),
}


@pytest.mark.parametrize("name", OTHERS)
def test_clusters_outliers_and_mixtures(name, wine):
    X = wine[0][:, :6]
    agree(sklearn.clone(OTHERS[name]).fit(X), X)


def test_the_training_rows_of_an_isolation_forest_stay_on_their_side(digits):
    # With contamination= the limit is a score that some training row has exactly.
    X, _ = digits
    model = ensemble.IsolationForest(n_estimators=100, contamination=0.2, random_state=0).fit(X)
    with infersdk.load(model, example=X, execution=FAST) as predictor:
        np.testing.assert_array_equal(predictor.predict(X), model.predict(X))


TRANSFORMERS = {
    "bins": preprocessing.KBinsDiscretizer(4, encode="ordinal"),
    "bins, one-hot": preprocessing.KBinsDiscretizer(3),
    "binarizer": preprocessing.Binarizer(threshold=10.0),
    "factor analysis": decomposition.FactorAnalysis(2),
    "fast ICA": decomposition.FastICA(2, random_state=0),
    "imputer": impute.SimpleImputer(),
    "largest": preprocessing.MaxAbsScaler(),
    "logarithm": preprocessing.FunctionTransformer(np.log1p),
    "min-max": preprocessing.MinMaxScaler(clip=True),
    "nothing": preprocessing.FunctionTransformer(),
    "normalizer": preprocessing.Normalizer(),
    "normalizer, l1": preprocessing.Normalizer("l1"),
    "normalizer, max": preprocessing.Normalizer("max"),
    "PCA": decomposition.PCA(3, whiten=True),
    "polynomials": preprocessing.PolynomialFeatures(3),
    "polynomials, interactions": preprocessing.PolynomialFeatures(
        2, interaction_only=True, include_bias=False
    ),
    "power": preprocessing.PowerTransformer(),
    "power, Box-Cox": preprocessing.PowerTransformer("box-cox", standardize=False),
    "quantiles": preprocessing.QuantileTransformer(n_quantiles=20),
    "random projection": random_projection.SparseRandomProjection(3, random_state=0),
    "robust": preprocessing.RobustScaler(),
    "select": feature_selection.SelectKBest(k=3),
    "standard": preprocessing.StandardScaler(),
    "standard, without mean": preprocessing.StandardScaler(with_mean=False),
    "SVD": decomposition.TruncatedSVD(3, random_state=0),
    "union": FeatureUnion(
        [
            ("a", preprocessing.StandardScaler()),
            ("b", decomposition.PCA(2)),
            ("c", "passthrough"),
            ("d", "drop"),
        ],
        transformer_weights={"b": 0.5},
    ),
    "variance": feature_selection.VarianceThreshold(0.5),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformer(name, wine):
    X, y = wine
    model = sklearn.clone(TRANSFORMERS[name]).fit(X[:, :6], y)
    agree(model, X[:, :6])


def test_values_that_repeat_among_quantiles(digits):
    X = digits[0][:, 18:24]
    agree(preprocessing.QuantileTransformer(n_quantiles=50).fit(X), X)


@pytest.mark.parametrize(
    "model",
    [
        linear_model.LogisticRegression(max_iter=20),
        ensemble.RandomForestClassifier(5, random_state=0),
        make_pipeline(
            preprocessing.StandardScaler(), ensemble.HistGradientBoostingClassifier(max_iter=4)
        ),
        make_pipeline(preprocessing.KBinsDiscretizer(3), linear_model.RidgeClassifier()),
        ensemble.BaggingClassifier(n_estimators=3, max_features=0.5, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_edge_rows_need_no_example(model, wine):
    X, y = wine
    model = sklearn.clone(model).fit(X, y)
    with infersdk.load(model, execution=FAST) as predictor:
        assert predictor.plan.kind == "onnx", str(predictor.plan)
        assert predictor.parity.n_edge_rows > 100
        np.testing.assert_array_equal(predictor.predict(X), model.predict(X))


def test_edge_rows_lie_on_both_sides_of_every_split(wine):
    X, y = wine
    model = tree.DecisionTreeClassifier(max_depth=3).fit(X, y)
    signature = converter.infer_signature(model, X)
    rows = converter.edge_rows(model, signature, X, n_rows=200, rng=np.random.default_rng(0))
    for feature, threshold in zip(model.tree_.feature, model.tree_.threshold, strict=True):
        if feature >= 0:
            values = rows[:, feature].astype(np.float32)
            limit = np.float32(threshold)
            near = np.abs(values - limit) <= 2 * np.spacing(limit)
            assert np.any(near & (values <= threshold))
            assert np.any(near & (values > threshold))


def test_edge_rows_hold_every_category(people):
    frame, y = people
    model = make_pipeline(columns(), linear_model.LogisticRegression(max_iter=20)).fit(frame, y)
    signature = converter.infer_signature(model, frame)
    rows = converter.edge_rows(model, signature, frame, n_rows=80, rng=np.random.default_rng(0))
    assert set(frame["city"].dropna()) < set(rows["city"].dropna())
    assert rows["city"].isna().any()
    assert set(rows["floor"]) == set(frame["floor"])
    assert rows["income"].isna().any()


# ---- searches, thresholds and selection around a classifier


def test_a_search_answers_as_its_best_estimator(wine):
    X, y = wine
    search = model_selection.GridSearchCV(
        make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()),
        {"logisticregression__C": [0.1, 1.0]},
        cv=2,
    )
    agree(search.fit(X, y), X)


@pytest.mark.parametrize(
    "model",
    [
        model_selection.FixedThresholdClassifier(linear_model.LogisticRegression(), threshold=0.3),
        model_selection.FixedThresholdClassifier(
            linear_model.LogisticRegression(),
            threshold=-0.5,
            pos_label=0,
            response_method="decision_function",
        ),
        model_selection.TunedThresholdClassifierCV(linear_model.LogisticRegression(), cv=2),
    ],
    ids=["fixed", "fixed for the first class", "tuned"],
)
def test_a_threshold_of_ones_own(model, cancer):
    X, y = cancer
    agree(sklearn.clone(model).fit(X, y), X)


def test_recursive_elimination(cancer):
    X, y = cancer
    agree(feature_selection.RFE(linear_model.LogisticRegression(), step=4).fit(X, y), X)


# ---- DataFrames


def numbers():
    return make_pipeline(impute.SimpleImputer(strategy="median"), preprocessing.StandardScaler())


def words():
    return make_pipeline(
        impute.SimpleImputer(strategy="constant", fill_value="none"),
        preprocessing.OneHotEncoder(handle_unknown="ignore"),
    )


def columns(**settings):
    return compose.ColumnTransformer(
        [
            ("numbers", numbers(), ["age", "income"]),
            ("words", words(), ["city"]),
            ("both", preprocessing.OneHotEncoder(), ["plan", "floor", "member"]),
        ],
        **settings,
    )


@pytest.mark.parametrize(
    "final",
    [
        linear_model.LogisticRegression(max_iter=200),
        ensemble.RandomForestClassifier(6, random_state=0),
        ensemble.HistGradientBoostingClassifier(max_iter=6),
        ensemble.GradientBoostingClassifier(n_estimators=5),
        svm.SVC(),
        calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=2),
    ],
    ids=lambda model: type(model).__name__,
)
def test_a_column_transformer_over_a_dataframe(final, people):
    frame, y = people
    model = make_pipeline(columns(sparse_threshold=0), sklearn.clone(final)).fit(frame, y)
    signature = agree(model, frame)
    assert [spec.name for spec in signature.inputs] == ["numbers", "strings"]
    assert signature.container == "dataframe"
    fields = {field.name: field for field in signature.fields}
    assert list(fields) == list(frame.columns)
    assert fields["note"].input is None
    assert fields["seen"].input is None
    assert fields["city"].missing == "empty"
    assert fields["city"].unknown == "allow"
    assert fields["income"].missing == "nan"
    assert fields["plan"].unknown == "refuse"
    assert fields["floor"].missing == "refuse"
    assert fields["member"].dtype == "bool"
    assert fields["floor"].categories == (0, 1, 2, 3, 4)


def test_one_dict_is_one_row(people):
    frame, y = people
    model = make_pipeline(columns(), linear_model.LogisticRegression(max_iter=200)).fit(frame, y)
    row = {"age": 33, "income": None, "city": "Nowhere", "plan": "pro", "floor": 2, "member": True}
    as_frame = pd.DataFrame([{**row, "income": np.nan, "note": "", "seen": pd.NaT}])
    with infersdk.load(model, example=frame, execution=FAST) as predictor:
        np.testing.assert_allclose(
            predictor.predict_proba(row), model.predict_proba(as_frame[frame.columns]), rtol=1e-9
        )
        with pytest.raises(InputError, match="floor"):
            predictor.predict({**row, "floor": 77})
        with pytest.raises(InputError, match="plan"):
            predictor.predict({**row, "plan": "unheard of"})


def test_that_empty_and_missing_text_are_one_is_noted(people):
    frame, y = people
    model = make_pipeline(columns(), linear_model.LogisticRegression(max_iter=100)).fit(frame, y)
    row = {"age": 33, "income": 2e4, "plan": "pro", "floor": 2, "member": True}
    with infersdk.load(model, example=frame, execution=FAST) as predictor:
        assert "an empty text counts as a missing one" in predictor.plan.notes
        given = predictor.predict_proba([{**row, "city": ""}, {**row, "city": None}])
        np.testing.assert_array_equal(given[0], given[1])


def test_a_column_transformer_alone_gives_a_sparse_matrix(people):
    frame, y = people
    signature = agree(columns(sparse_threshold=1.0).fit(frame, y), frame)
    assert signature.method("transform").form == "sparse"


def test_without_an_example_fields_come_from_the_fitted_steps(people):
    frame, y = people
    model = make_pipeline(columns(), linear_model.LogisticRegression(max_iter=200)).fit(frame, y)
    signature = converter.infer_signature(model)
    fields = {field.name: field for field in signature.fields}
    assert fields["city"].dtype == "string"
    assert fields["age"].dtype == "float"
    assert fields["member"].dtype == "bool"
    assert fields["plan"].categories == ("basic", "free", "pro")
    rows = converter.edge_rows(model, signature, None, n_rows=30, rng=np.random.default_rng(0))
    assert len(converter.call(model, "predict", rows)) == 30
    with infersdk.load(model, execution=FAST) as predictor:
        assert predictor.plan.kind == "onnx", str(predictor.plan)
        assert predictor.parity.n_example_rows == 0
        assert predictor.parity.passed
        np.testing.assert_array_equal(predictor.predict(frame), model.predict(frame))


def test_columns_are_chosen_in_every_way_scikit_learn_knows(people):
    frame, y = people
    frame = frame[["age", "income", "city", "floor"]]
    model = make_pipeline(
        compose.ColumnTransformer(
            [
                ("callable", words(), compose.make_column_selector(dtype_exclude="number")),
                ("mask", numbers(), [True, False, False, False]),
                ("slice", numbers(), slice(1, 2)),
            ],
            remainder="passthrough",
        ),
        linear_model.LogisticRegression(max_iter=100),
    )
    agree(model.fit(frame, y), frame)


def test_a_remainder_is_imputed_and_marked(people):
    frame, y = people
    frame = frame[["age", "income", "city", "floor"]]
    model = make_pipeline(
        compose.ColumnTransformer(
            [
                (
                    "codes",
                    preprocessing.OrdinalEncoder(
                        handle_unknown="use_encoded_value",
                        unknown_value=-1,
                        encoded_missing_value=-2,
                    ),
                    ["city"],
                )
            ],
            remainder=impute.SimpleImputer(add_indicator=True),
        ),
        ensemble.RandomForestClassifier(6, random_state=0),
    )
    agree(model.fit(frame, y), frame)


def test_pandas_between_the_steps(people):
    frame, y = people
    first = compose.ColumnTransformer([("n", numbers(), ["age", "income"])])
    second = compose.ColumnTransformer(
        [("m", preprocessing.MinMaxScaler(), ["n__income"])], remainder="passthrough"
    )
    model = make_pipeline(
        first.set_output(transform="pandas"), second, linear_model.LogisticRegression()
    )
    agree(model.fit(frame, y), frame)


def test_pandas_as_the_answer_is_left_to_scikit_learn(people):
    frame, y = people
    model = columns(sparse_threshold=0).set_output(transform="pandas")
    model.set_params(both__sparse_output=False, words__onehotencoder__sparse_output=False)
    model.fit(frame, y)
    signature = converter.infer_signature(model, frame)
    with pytest.raises(UnsupportedModelError, match="set_output"):
        converter.to_onnx(model, signature)


def test_dates_are_refused_by_name(people):
    frame, y = people
    model = make_pipeline(
        compose.ColumnTransformer(
            [("d", preprocessing.OrdinalEncoder(), ["seen"])], remainder="drop"
        ),
        linear_model.LogisticRegression(),
    ).fit(frame, y)
    with pytest.raises(UnsupportedModelError, match="`seen` holds datetime64"):
        converter.infer_signature(model, frame)


@pytest.mark.parametrize(
    "encoder",
    [
        preprocessing.OneHotEncoder(handle_unknown="ignore"),
        preprocessing.OneHotEncoder(drop="first"),
        preprocessing.OneHotEncoder(drop="if_binary"),
        preprocessing.OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=55),
        preprocessing.OneHotEncoder(
            handle_unknown="infrequent_if_exist", max_categories=2, drop="first"
        ),
        preprocessing.OneHotEncoder(handle_unknown="ignore", max_categories=3),
        preprocessing.OrdinalEncoder(),
        preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan),
        preprocessing.OrdinalEncoder(
            handle_unknown="use_encoded_value", unknown_value=-1, max_categories=3
        ),
    ],
    ids=lambda encoder: str(encoder)[:70],
)
def test_an_encoder_knows_every_category(encoder, people):
    frame, _ = people
    frame = frame[["city", "floor", "member", "plan"]]
    agree(sklearn.clone(encoder).fit(frame), frame)


def test_target_encoding(people):
    frame, y = people
    model = make_pipeline(
        compose.ColumnTransformer(
            [("t", preprocessing.TargetEncoder(cv=2), ["city", "floor"])], remainder="drop"
        ),
        linear_model.LogisticRegression(),
    )
    agree(model.fit(frame, y), frame)
    agree(model.fit(frame, frame["plan"].astype(str)), frame)


def test_a_dataframe_of_float32(people):
    frame, y = people
    frame = frame[["age", "floor"]].astype(np.float32)
    model = make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())
    signature = agree(model.fit(frame, y), frame)
    assert signature.method("predict_proba").dtype == "float32"


@pytest.mark.parametrize("form", ["records", "array", "lists", "positional frame"])
def test_the_example_may_have_another_form_than_the_training_data(form, wine):
    X, y = wine
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(X.shape[1])])
    fitted_on, example = {
        "records": (frame, frame.to_dict("records")),
        "array": (frame, X),
        "lists": (X, X.tolist()),
        "positional frame": (X, frame),
    }[form]
    model = make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())
    model.fit(fitted_on, y)
    with infersdk.load(model, example=example, execution=FAST) as predictor:
        assert predictor.plan.kind == "onnx", str(predictor.plan)
        expected = model.predict_proba(fitted_on)
        np.testing.assert_allclose(predictor.predict_proba(example), expected, rtol=1e-9)


def test_columns_named_by_numbers(people):
    frame, y = people
    frame = frame[["age", "floor"]].set_axis([0, 1], axis=1)
    model = make_pipeline(
        compose.ColumnTransformer([("s", preprocessing.StandardScaler(), [1, 0])]),
        linear_model.LogisticRegression(),
    )
    agree(model.fit(frame, y), frame)


def test_large_whole_numbers_are_told_apart():
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 2**31, 60) * 4 + 1
    rows = np.column_stack([rng.choice(numbers, 300), rng.integers(0, 7, 300)])
    y = rng.integers(0, 2, 300)
    encoder = preprocessing.OneHotEncoder(handle_unknown="ignore")
    agree(make_pipeline(encoder, linear_model.LogisticRegression()).fit(rows, y), rows)
    frame = pd.DataFrame(rows, columns=["id", "day"])
    agree(ensemble.RandomForestClassifier(5, random_state=0).fit(frame, y), frame)


def test_ensembles_of_pipelines_over_a_dataframe(people):
    frame, y = people
    members = [
        ("a", make_pipeline(columns(), linear_model.LogisticRegression(max_iter=100))),
        ("b", make_pipeline(columns(), ensemble.RandomForestClassifier(4, random_state=0))),
    ]
    agree(ensemble.VotingClassifier(members, voting="soft").fit(frame, y), frame)
    agree(ensemble.StackingClassifier(members, cv=2).fit(frame, y), frame)


def test_text_beside_other_columns(people):
    frame, y = people
    model = make_pipeline(
        compose.ColumnTransformer(
            [
                ("words", TfidfVectorizer(sublinear_tf=True), "note"),
                ("codes", preprocessing.OneHotEncoder(handle_unknown="ignore"), ["city"]),
                ("rest", "passthrough", ["age"]),
            ]
        ),
        linear_model.LogisticRegression(max_iter=20),
    )
    agree(model.fit(frame, y), frame)


def test_an_array_of_text(people):
    frame, y = people
    mixed = frame[["city", "floor"]].fillna("none").to_numpy(object)
    for rows in (mixed, mixed[:, :1].astype("U9")):
        model = make_pipeline(
            preprocessing.OneHotEncoder(handle_unknown="ignore"), linear_model.LogisticRegression()
        ).fit(rows, y)
        with infersdk.load(model, example=rows, execution=FAST) as predictor:
            assert predictor.plan.kind == "onnx", str(predictor.plan)
            expected = model.predict_proba(rows)
            np.testing.assert_allclose(predictor.predict_proba(rows), expected, rtol=1e-9)


# ---- what other converters get wrong


def test_a_scaler_before_trees_changes_no_row(digits):
    X, y = digits
    agree(
        make_pipeline(
            preprocessing.StandardScaler(), ensemble.RandomForestClassifier(10, random_state=0)
        ).fit(X, y),
        X,
    )


def test_a_scaler_before_xgboost_changes_no_row(digits):
    xgboost = pytest.importorskip("xgboost")
    X, y = digits
    rng = np.random.default_rng(0)
    for rows in (X, X * 0.1 + rng.normal(size=X.shape).round(3)):
        model = make_pipeline(
            preprocessing.StandardScaler(), xgboost.XGBClassifier(n_estimators=6, n_jobs=1)
        ).fit(rows, y)
        agree(model, rows)


def test_lightgbm_behind_a_column_transformer(people):
    lightgbm = pytest.importorskip("lightgbm")
    frame, y = people
    model = make_pipeline(
        columns(sparse_threshold=0),
        lightgbm.LGBMClassifier(n_estimators=6, verbose=-1, n_jobs=1),
    ).fit(frame, np.array(["stays", "leaves"])[y])
    with infersdk.load(model, example=frame, execution=FAST) as predictor:
        assert_same(predictor.predict(frame), model.predict(frame))
        assert_same(predictor.predict_proba(frame), converter.call(model, "predict_proba", frame))


def test_histogram_boosting_with_categories(people):
    frame, y = people
    frame = frame[["age", "income", "plan", "city"]].copy()
    frame["city"] = frame["city"].astype("category")
    model = ensemble.HistGradientBoostingClassifier(max_iter=10, min_samples_leaf=5)
    signature = agree(model.fit(frame, y), frame)
    assert {f.name: f.dtype for f in signature.fields}["city"] == "string"


def test_histogram_boosting_with_many_codes():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 200, 900), rng.normal(size=900)]).astype(float)
    X[::13, 0] = np.nan
    y = ((X[:, 0] % 7 < 3) ^ (X[:, 1] > 0)).astype(int)
    model = ensemble.HistGradientBoostingClassifier(
        max_iter=10, categorical_features=[0], min_samples_leaf=3
    )
    agree(model.fit(X, y), X)


@pytest.mark.parametrize(
    "model",
    [
        ensemble.HistGradientBoostingClassifier(max_iter=20, max_leaf_nodes=31),
        make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()),
        make_pipeline(
            preprocessing.MinMaxScaler(), ensemble.RandomForestClassifier(5, random_state=0)
        ),
        make_pipeline(
            preprocessing.StandardScaler(), ensemble.HistGradientBoostingClassifier(max_iter=10)
        ),
    ],
    ids=["histogram boosting", "logistic", "forest", "scaled histogram boosting"],
)
def test_timestamps_keep_their_seconds(model):
    # Seconds since 1970 need 31 bits; float32 has 24.
    rng = np.random.default_rng(0)
    X = np.column_stack([1.7e9 + rng.integers(0, 3000, 800), rng.normal(size=800)]).astype(float)
    y = (X[:, 0] % 1000 < 400).astype(int)
    agree(sklearn.clone(model).fit(X, y), X)


def test_a_training_value_on_the_threshold_goes_its_own_way():
    # HistGradientBoosting's thresholds may be training values that float32 does not hold.
    rng = np.random.default_rng(0)
    X = rng.choice(rng.normal(size=400), size=(2000, 3))
    y = X[:, 0] + np.sin(5 * X[:, 1])
    model = ensemble.HistGradientBoostingRegressor(max_iter=30).fit(X, y)
    nodes = np.concatenate([p.nodes for stage in model._predictors for p in stage])
    limits = nodes["num_threshold"][nodes["is_leaf"] == 0]
    shared = limits[np.isin(limits, X)]
    assert np.any(shared != shared.astype(np.float32))
    agree(model, X)


def test_trees_send_missing_values_where_training_did():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    y = (np.nan_to_num(X[:, 0], nan=2.0) > 0.5).astype(int)
    X[rng.random(X.shape) < 0.3] = np.nan
    for model in (
        tree.DecisionTreeClassifier(max_depth=4),
        ensemble.RandomForestClassifier(6, random_state=0),
        ensemble.HistGradientBoostingClassifier(max_iter=5),
    ):
        signature = agree(model.fit(X, y), X)
        assert all(field.missing == "nan" for field in signature.fields)


def test_imputers_before_trees_leave_no_node():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    y = X[:, 0] > 0
    X[rng.random(X.shape) < 0.2] = np.nan
    model = make_pipeline(
        impute.SimpleImputer(), ensemble.RandomForestClassifier(4, random_state=0)
    ).fit(X, y)
    signature = agree(model, X)
    graph = converter.to_onnx(model, signature).graph
    assert {node.op_type for node in graph.graph.node}.isdisjoint({"Imputer", "Where", "IsNaN"})
    assert signature.inputs[0].dtype == "float32"


VECTORIZERS = [
    TfidfVectorizer(),
    TfidfVectorizer(sublinear_tf=True, norm="l1"),
    TfidfVectorizer(ngram_range=(1, 2)),
    TfidfVectorizer(stop_words=["the", "on"]),
    TfidfVectorizer(lowercase=False, use_idf=False),
    CountVectorizer(),
    CountVectorizer(binary=True, max_features=5),
]


@pytest.mark.parametrize("vectorizer", VECTORIZERS, ids=lambda vectorizer: str(vectorizer)[:60])
def test_words_become_the_same_numbers(vectorizer):
    model = make_pipeline(sklearn.clone(vectorizer), linear_model.LogisticRegression())
    signature = agree(model.fit(TEXTS, TEXT_LABELS), TEXTS)
    assert signature.container == "text"
    agree(sklearn.clone(vectorizer).fit(TEXTS), TEXTS)


def test_a_vectorizer_keeps_empty_texts_in_their_rows():
    model = make_pipeline(CountVectorizer(), naive_bayes.ComplementNB()).fit(TEXTS, TEXT_LABELS)
    rows = ["", "the cat", "", "", "dogs"]
    with infersdk.load(model, example=TEXTS, execution=FAST) as predictor:
        assert predictor.plan.kind == "onnx", str(predictor.plan)
        np.testing.assert_array_equal(predictor.predict(rows), model.predict(rows))


@pytest.mark.parametrize(
    ("vectorizer", "reason"),
    [
        (TfidfVectorizer(strip_accents="unicode"), "strip_accents"),
        (CountVectorizer(tokenizer=str.split, token_pattern=None), "tokenizer"),
        (CountVectorizer(token_pattern=r"(?!t)\w+"), "token_pattern"),
        (HashingVectorizer(n_features=64, ngram_range=(1, 2)), "hashed"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_texts_cut_in_other_ways_are_left_to_scikit_learn(vectorizer, reason):
    model = make_pipeline(sklearn.clone(vectorizer), linear_model.LogisticRegression())
    stays(model.fit(TEXTS, TEXT_LABELS), TEXTS, reason)


# ---- what is refused


def twice(X):
    return X * 2


class OwnScaler(preprocessing.StandardScaler):
    def transform(self, X):
        return super().transform(X) + 1.0


class OwnEstimator(sklearn.base.TransformerMixin, sklearn.base.BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return np.asarray(X) ** 3


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (preprocessing.FunctionTransformer(twice), "`twice`"),
        (OwnScaler(), "OwnScaler"),
        (OwnEstimator(), "OwnEstimator"),
        (preprocessing.SplineTransformer(3, extrapolation="error"), 'extrapolation="error"'),
        (decomposition.NMF(2, init="nndsvda"), "optimization"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_cannot_be_read_is_named_and_stays_in_scikit_learn(step, reason, wine):
    X, y = wine
    model = make_pipeline(copy.deepcopy(step), linear_model.LogisticRegression(max_iter=50))
    stays(model.fit(X[:, :4], y), X[:, :4], reason)


def test_an_unfitted_model_is_refused():
    with pytest.raises(UnsupportedModelError, match=r"unfitted LogisticRegression.*fit"):
        converter.infer_signature(linear_model.LogisticRegression())


def test_a_class_is_not_a_model():
    with pytest.raises(UnsupportedModelError, match="the class LogisticRegression itself"):
        converter.infer_signature(linear_model.LogisticRegression)


def test_a_model_without_answers_for_new_rows_is_refused(wine):
    model = cluster.DBSCAN().fit(wine[0])
    with pytest.raises(UnsupportedModelError, match="DBSCAN has none of the methods"):
        converter.infer_signature(model, wine[0])


DICTS = [{"a": 1.0, "city": "oslo"}, {"b": 2.0}, {"a": 3, "city": "ulm"}, {"z": 1}] * 10


def test_dicts_of_any_keys_are_vectorized_in_scikit_learn(tmp_path):
    model = make_pipeline(DictVectorizer(), linear_model.LogisticRegression())
    model.fit(DICTS, [0, 1, 1, 0] * 10)
    predictor = infersdk.load(model, example=DICTS, execution=FAST)
    assert predictor.plan.kind == "hybrid"
    assert "dicts of any keys" in str(predictor.plan)
    np.testing.assert_array_equal(predictor.predict_proba(DICTS), model.predict_proba(DICTS))
    np.testing.assert_array_equal(predictor.predict({"new": 1}), model.predict([{"new": 1}]))
    frame = pd.DataFrame({"a": [1.0, 2.0]})
    np.testing.assert_array_equal(predictor.predict(frame), model.predict(frame.to_dict("records")))
    for rows in ([DICTS[0], 7], 7, "a"):
        with pytest.raises(infersdk.InputError, match="Expected a dict"):
            predictor.predict(rows)
    opened = infersdk.load(predictor.save(tmp_path / "dicts.onnx"), execution=FAST)
    np.testing.assert_array_equal(opened.predict(DICTS), model.predict(DICTS))


@pytest.mark.parametrize(
    "model", [DictVectorizer(), FeatureHasher(32), FeatureHasher(8, dtype=float)]
)
def test_vectorizers_of_dicts_alone_are_native(model):
    predictor = infersdk.load(model.fit(DICTS), example=DICTS, execution=FAST)
    assert predictor.plan.kind == "native"
    assert_same(predictor.transform(DICTS), model.transform(DICTS))


def test_lists_of_any_length_are_refused():
    model = FeatureHasher(8, input_type="string").fit([["a"], ["b", "c"]])
    with pytest.raises(UnsupportedModelError, match="input_type='string'"):
        converter.infer_signature(model, [["a"]])


def test_a_column_of_another_dtype_than_in_training_is_refused(people):
    frame, y = people
    model = make_pipeline(columns(), linear_model.LogisticRegression(max_iter=100)).fit(frame, y)
    changed = frame.assign(city=np.arange(len(frame)))
    with pytest.raises(UnsupportedModelError, match="`city` is int in the example"):
        converter.infer_signature(model, changed)


def test_protobuf_that_sklearn_onnx_cannot_use_is_named(wine, monkeypatch):
    import google.protobuf

    from infersdk.convert import sklearn_foreign
    from infersdk.convert.sklearn_graph import GraphBuilder
    from infersdk.convert.sklearn_writer import Writer

    monkeypatch.setattr(google.protobuf, "__version__", "7.1.0")
    X, y = wine
    model = naive_bayes.GaussianNB().fit(X, y)
    builder = GraphBuilder()
    columns = builder.input("features", "float64", ("N", X.shape[1])).columns()
    with pytest.raises(UnsupportedModelError, match=r"protobuf before 7, got 7\.1\.0"):
        sklearn_foreign.leaf("label")(Writer(builder), model, columns)


# ---- the graph


def test_the_graph_is_valid_and_small(wine):
    X, y = wine
    model = make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())
    model.fit(X, y)
    signature = converter.infer_signature(model, X)
    written = converter.to_onnx(model, signature)
    graph, notes = written.graph, written.notes
    onnx.checker.check_model(graph, full_check=True)
    assert notes == ()
    assert {opset.domain: opset.version for opset in graph.opset_import} == {
        "": 18,
        "ai.onnx.ml": 3,
    }
    kinds = [node.op_type for node in graph.graph.node]
    assert kinds.count("MatMul") == 1
    assert "Identity" not in kinds


def test_an_older_opset_can_be_asked_for(wine):
    X, y = wine
    model = linear_model.LogisticRegression(max_iter=20).fit(X, y)
    graph = converter.to_onnx(model, converter.infer_signature(model, X), opset=18).graph
    assert graph.opset_import[0].version == 18


def test_methods_that_need_other_work_have_heads_of_their_own(cancer):
    X, y = cancer
    signature = converter.infer_signature(linear_model.LogisticRegression().fit(X, y), X)
    heads = {method.name: method.head for method in signature.methods}
    assert heads["predict"] == heads["predict_proba"] == "main"
    assert heads["decision_function"] != "main"


def test_deciding_rows_by_folded_thresholds_is_exact():
    rng = np.random.default_rng(0)
    limits = rng.normal(size=50)

    def function(values):
        return (values - 0.1) / 0.7

    moved = sklearn_splits.turnover(function, limits)
    assert np.all(function(moved) <= limits)
    assert np.all(function(np.nextafter(moved, np.inf)) > limits)


def test_a_class_is_registered_once():
    with pytest.raises(ValueError, match="LogisticRegression already has a writer"):
        writes("proba", "LogisticRegression")(lambda *_: None)
    assert class_name(linear_model.Ridge()) == "Ridge"
    assert class_name(OwnScaler()) is None


def test_importing_the_converter_imports_no_framework():
    code = (
        "import sys; from infersdk.convert import sklearn as s; "
        "print([m for m in ('sklearn', 'skl2onnx', 'pandas', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unions_are_estimators_like_any_other(wine):
    X, y = wine
    model = make_pipeline(
        make_union(preprocessing.StandardScaler(), decomposition.PCA(2)),
        linear_model.LogisticRegression(max_iter=50),
    )
    agree(model.fit(X, y), X)


@pytest.mark.parametrize(
    ("model", "takes_infinity"),
    [
        (linear_model.LogisticRegression(), False),
        (make_pipeline(impute.SimpleImputer(), linear_model.LogisticRegression()), False),
        (ensemble.HistGradientBoostingClassifier(max_iter=5), True),
    ],
    ids=["linear", "imputer", "histogram boosting"],
)
def test_infinity_is_refused_where_scikit_learn_refuses_it(model, takes_infinity):
    X = np.random.default_rng(0).normal(size=(200, 3))
    model.fit(X, X[:, 0] > 0)
    predictor = infersdk.load(model, example=X)
    row = np.array([[np.inf, 0.0, 1.0]])
    if takes_infinity:
        np.testing.assert_allclose(predictor.predict_proba(row), model.predict_proba(row))
        return
    with pytest.raises(ValueError, match="infinity"):
        model.predict_proba(row)
    with pytest.raises(infersdk.InputError, match="finite number"):
        predictor.predict_proba(row)
