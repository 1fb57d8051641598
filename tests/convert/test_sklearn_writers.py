"""Writers of single scikit-learn estimators in the configurations that the gallery does not have.

The oracle is scikit-learn; every model must become a graph as a whole.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import infersdk
from infersdk import Execution

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

FAST = Execution(calibration_s=0.0, threads=1)

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:sklearn"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]


def assert_served(model, example, rows, *, plan="onnx", rtol=1e-9):
    """All methods of the model answer as before, in a batch and alone."""
    with infersdk.load(model, example=example, execution=FAST) as predictor:
        assert predictor.plan.kind == plan, str(predictor.plan)
        for method in predictor.signature.methods:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                wanted = getattr(model, method.name)(rows)
            given = getattr(predictor, method.name)(rows)
            alone = getattr(predictor, method.name)(rows[:1])
            if isinstance(wanted, list):
                for ours, theirs in zip(given, wanted, strict=True):
                    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol)
                continue
            wanted, given, alone = (
                part.toarray() if hasattr(part, "toarray") else np.asarray(part)
                for part in (wanted, given, alone)
            )
            assert given.shape == wanted.shape
            assert given.dtype == wanted.dtype
            if wanted.dtype.kind == "f":
                np.testing.assert_allclose(given, wanted, rtol=rtol, atol=rtol)
                np.testing.assert_allclose(alone, wanted[:1], rtol=rtol, atol=rtol)
            else:
                np.testing.assert_array_equal(given, wanted)
                np.testing.assert_array_equal(alone, wanted[:1])
        return predictor


@pytest.fixture(scope="module")
def wine():
    from sklearn.datasets import load_wine

    X, y = load_wine(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))[:120]
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    # No value twice: which of two equally near rows counts is arbitrary, also in scikit-learn.
    X += np.random.default_rng(1).normal(size=X.shape) * 1e-3
    return X[order, :6], y[order]


# ---- functions of numpy


EXTREMES = np.array(
    [
        [1e-300, 1e-17, 1e-9],
        [1e-5, 0.3, -0.5],
        [0.0, -0.0, 1e8],
        [-1e-9, np.nextafter(1.0, 2.0), 0.999],
        [700.0, -700.0, 3.0],
        [1e200, -1e200, 0.1],
        [-0.9999999, -1.0, 2.5],
    ]
)


@pytest.mark.parametrize(
    "name",
    """absolute arcsinh arctanh cbrt ceil cos cosh deg2rad exp exp2 expm1 fabs floor log log10 log1p log2
    negative positive rad2deg reciprocal rint sign sin sinh sqrt square tan tanh trunc""".split(),  # noqa: SIM905
)
def test_a_function_of_numpy_is_as_accurate_as_numpy(name):
    from sklearn.preprocessing import FunctionTransformer

    function = getattr(np, name)
    model = FunctionTransformer(function).fit(EXTREMES)
    usual = np.abs(EXTREMES[:2]) if name != "arctanh" else EXTREMES[:2] / 2
    with infersdk.load(model, example=usual, execution=FAST) as predictor:
        assert predictor.plan.kind == "onnx", str(predictor.plan)
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(
                predictor.transform(EXTREMES), function(EXTREMES), rtol=2e-14, atol=0.0
            )


def test_the_error_function_and_the_normal_quantile():
    import onnxruntime
    from scipy import special

    from infersdk.convert.sklearn_functions import erf, normal_quantile
    from infersdk.convert.sklearn_graph import GraphBuilder
    from infersdk.convert.sklearn_writer import Writer

    builder = GraphBuilder()
    x = builder.input("x", "float64", ("N", 1))
    writer = Writer(builder)
    builder.output("erf", erf(writer, x.name), "float64", ("N", 1))
    builder.output("quantile", normal_quantile(writer, x.name), "float64", ("N", 1))
    session = onnxruntime.InferenceSession(builder.build("functions").SerializeToString())
    values = np.concatenate([np.linspace(-8.0, 8.0, 4001), [0.0, 1e-12, np.inf, -np.inf]])
    (given,) = session.run(["erf"], {"x": values[:, None]})
    np.testing.assert_allclose(given[:, 0], special.erf(values), rtol=1e-13, atol=1e-15)
    shares = np.concatenate([np.linspace(1e-6, 1.0 - 1e-6, 4001), [1e-8, 1.0 - 1e-8, 0.5]])
    (given,) = session.run(["quantile"], {"x": shares[:, None]})
    np.testing.assert_allclose(given[:, 0], special.ndtri(shares), rtol=1e-9, atol=1e-13)


# ---- splines and quantiles


@pytest.mark.parametrize("extrapolation", ["constant", "continue", "linear", "periodic"])
@pytest.mark.parametrize("degree", [1, 3])
@pytest.mark.parametrize("arguments", [{}, {"include_bias": False, "knots": "quantile"}])
def test_splines_inside_and_outside_of_their_knots(extrapolation, degree, arguments, wine):
    from sklearn.preprocessing import SplineTransformer

    X, _ = wine
    # Of degree 1, scikit-learn continues the later columns otherwise than the first.
    plan = "native" if extrapolation == "linear" and degree == 1 else "onnx"
    model = SplineTransformer(degree=degree, extrapolation=extrapolation, **arguments).fit(X)
    rows = np.vstack([X[:20] * 3.0, X.min(axis=0), X.max(axis=0), X[:20]])
    assert_served(model, X, rows, plan=plan)


def test_normal_quantiles_at_and_beyond_the_ends(wine):
    from sklearn.preprocessing import QuantileTransformer

    X, _ = wine
    X = np.round(X, 1)  # repeated values
    model = QuantileTransformer(n_quantiles=40, output_distribution="normal").fit(X)
    assert_served(model, X, np.vstack([X, X.min(axis=0), X.max(axis=0), X[:5] * 9.0]))


# ---- texts


TEXTS = [
    "The cat sat on the mat",
    "a  fast\n\nred Fox\tit's 42",
    "naïve x_y Łódź e-mail",
    "",
    "   ",
    "ok ok ok the ok",
    "a",
    "I I am",
    "ab  cd   ef",
] * 3
OTHER_TEXTS = [
    "the FOX  sat\n on it",
    "x",
    "",
    "zzz the the cat on a mat",
    " a b  ",
    "\u00a0\u2003hello\u2028the mat",
    "日本語 テキスト the",
]


@pytest.mark.parametrize(
    "arguments",
    [
        {"analyzer": "char"},
        {"analyzer": "char", "ngram_range": (1, 3), "lowercase": False},
        {"analyzer": "char", "ngram_range": (2, 2), "binary": True},
        {"analyzer": "char_wb"},
        {"analyzer": "char_wb", "ngram_range": (2, 4)},
        {"analyzer": "char_wb", "ngram_range": (5, 6)},
        {"ngram_range": (1, 3), "stop_words": ["the", "on"]},
        {"ngram_range": (2, 2)},
        {"stop_words": "english", "ngram_range": (1, 2)},
        {"token_pattern": r"(?u)\b\w+\b"},
        {"token_pattern": "[a-z]+"},
        {"vocabulary": ["the", "cat sat", "mat", "never"], "ngram_range": (1, 2)},
        {"vocabulary": ["the", "cat", "never"], "stop_words": ["the"]},
        {
            "vocabulary": [" c", "ca", "at ", "  ", " a ", "x y"],
            "analyzer": "char_wb",
            "ngram_range": (2, 3),
        },
    ],
    ids=str,
)
def test_texts_are_counted_as_scikit_learn_counts(arguments):
    from sklearn.feature_extraction.text import CountVectorizer

    assert_served(CountVectorizer(**arguments).fit(TEXTS), TEXTS, OTHER_TEXTS)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"alternate_sign": False, "norm": None}, {"binary": True, "stop_words": "english"}],
    ids=str,
)
def test_words_are_hashed_as_scikit_learn_hashes(arguments):
    from sklearn.feature_extraction.text import HashingVectorizer

    assert_served(HashingVectorizer(n_features=32, **arguments), TEXTS, OTHER_TEXTS)


def test_a_batch_of_empty_texts():
    from sklearn.feature_extraction.text import CountVectorizer

    for analyzer in ("word", "char", "char_wb"):
        model = CountVectorizer(analyzer=analyzer).fit(TEXTS)
        assert_served(model, TEXTS, ["", "   ", ""])


# ---- kernels and neighbors


def _gaussian_processes():
    from sklearn.gaussian_process.kernels import (
        RBF,
        ConstantKernel,
        DotProduct,
        ExpSineSquared,
        Matern,
        RationalQuadratic,
        WhiteKernel,
    )

    return {
        "RBF": 1.0 * RBF(2.0) + WhiteKernel(0.5),
        "Matern 0.5": Matern(2.0, nu=0.5),
        "Matern 1.5": Matern([2.0] * 6, nu=1.5) * ConstantKernel(2.0),
        "Matern 2.5": Matern(2.0, nu=2.5) + DotProduct(0.5),
        "periodic": RationalQuadratic(2.0, 0.7) + ExpSineSquared(3.0, 4.0) + WhiteKernel(),
    }


@pytest.mark.parametrize("name", ["RBF", "Matern 0.5", "Matern 1.5", "Matern 2.5", "periodic"])
def test_kernels_of_gaussian_processes(name, wine):
    from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor

    X, y = wine
    kernel = _gaussian_processes()[name]
    regressor = GaussianProcessRegressor(kernel, optimizer=None, normalize_y=True, alpha=1e-3)
    assert_served(regressor.fit(X, y), X, X * 1.1, rtol=1e-7)
    classifier = GaussianProcessClassifier(kernel, optimizer=None)
    # The approximation adds and subtracts numbers in the thousands.
    assert_served(classifier.fit(X, y > 0), X, X * 1.1, rtol=1e-7)


@pytest.mark.parametrize("kernel", ["linear", "poly", "rbf", "laplacian", "cosine", "sigmoid"])
def test_kernels_of_pairs(kernel, wine):
    from sklearn.decomposition import KernelPCA
    from sklearn.kernel_approximation import Nystroem
    from sklearn.kernel_ridge import KernelRidge

    X, y = wine
    if kernel != "laplacian":
        model = KernelPCA(3, kernel=kernel, gamma=0.1, eigen_solver="dense").fit(X)
        assert_served(model, X, X * 1.1, rtol=1e-7)
    assert_served(KernelRidge(kernel=kernel).fit(X, y), X, X * 1.1, rtol=1e-7)
    model = Nystroem(kernel, n_components=8, random_state=0).fit(X)
    assert_served(model, X, X * 1.1, rtol=1e-7)


@pytest.mark.parametrize(
    "arguments",
    [
        {"weights": "distance", "p": 1},
        {"weights": "distance", "algorithm": "brute"},
        {"p": 3, "n_neighbors": 3},
        {"metric": "chebyshev", "n_neighbors": 4},
        {"metric": "cosine", "n_neighbors": 3},
    ],
    ids=str,
)
def test_nearest_neighbors(arguments, wine):
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, KNeighborsTransformer

    X, y = wine
    rows = np.vstack([X[:10], X * 1.1])
    assert_served(KNeighborsClassifier(**arguments).fit(X, y), X, rows)
    two = np.column_stack([y, X[:, 0] > 0])
    assert_served(KNeighborsClassifier(**arguments).fit(X, two), X, rows)
    assert_served(KNeighborsRegressor(**arguments).fit(X, X[:, :2]), X, rows)
    del arguments["weights" if "weights" in arguments else "n_neighbors"]
    for mode in ("distance", "connectivity"):
        assert_served(KNeighborsTransformer(mode=mode, **arguments).fit(X), X, rows)


@pytest.mark.parametrize("metric", ["euclidean", "manhattan", "chebyshev"])
def test_many_points_are_compared_column_by_column(metric):
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(0)
    X = rng.normal(size=(4200, 5))
    model = KNeighborsClassifier(metric=metric, weights="distance").fit(X, X[:, 0] > X[:, 1])
    rows = np.vstack([X[:20], rng.normal(size=(30, 5))])
    assert_served(model, X[:40], rows)


def test_neighbors_within_a_radius(wine):
    from sklearn.neighbors import RadiusNeighborsClassifier, RadiusNeighborsRegressor

    X, y = wine
    rows = np.vstack([X[:10], X * 1.1, X[:3] + 100.0])
    for weights in ("uniform", "distance"):
        model = RadiusNeighborsClassifier(2.0, weights=weights, outlier_label=1)
        assert_served(model.fit(X, y), X, rows)
        # A row without neighbors is NaN.
        assert_served(RadiusNeighborsRegressor(2.0, weights=weights).fit(X, y), X, rows)


def test_a_row_without_neighbors_that_must_be_refused_is_left_to_scikit_learn(wine):
    from sklearn.neighbors import RadiusNeighborsClassifier

    X, y = wine
    model = RadiusNeighborsClassifier(6.0).fit(X, y)
    with infersdk.load(model, example=X, execution=FAST) as predictor:
        assert predictor.plan.kind != "onnx"
        with pytest.raises(Exception, match="No neighbors found"):
            predictor.predict(X[:1] + 100.0)


def test_weighted_densities(wine):
    from sklearn.neighbors import KernelDensity

    X, y = wine
    model = KernelDensity(bandwidth=0.7).fit(X, sample_weight=1.0 + y)
    assert_served(model, X, X * 1.2)


# ---- missing values


@pytest.mark.parametrize("weights", ["uniform", "distance"])
def test_missing_values_from_the_nearest_rows(weights, wine):
    from sklearn.impute import KNNImputer

    X = wine[0].copy()
    rng = np.random.default_rng(1)
    X[rng.random(X.shape) < 0.2] = np.nan
    rows = X * 1.1
    rows[0] = np.nan  # nothing known: each column's own mean
    assert_served(KNNImputer(n_neighbors=4, weights=weights).fit(X), X, rows)


def test_whole_numbers_have_no_nearest_row(wine):
    from sklearn.impute import KNNImputer

    X = np.round(wine[0])
    X[::5, 0] = np.nan
    assert_served(KNNImputer().fit(X), X, X, plan="native")


def test_missing_values_from_regressions(wine):
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    X = wine[0].copy()
    rng = np.random.default_rng(1)
    X[rng.random(X.shape) < 0.2] = np.nan
    for estimator in (None, ExtraTreesRegressor(3, max_depth=3, random_state=0)):
        model = IterativeImputer(
            estimator, max_iter=3, min_value=-2.0, max_value=2.0, random_state=0, add_indicator=True
        )
        assert_served(model.fit(X), X, X * 1.1, rtol=1e-6)


# ---- several classes and labels


def test_several_labels_at_once(wine):
    from sklearn.linear_model import LogisticRegression, RidgeClassifier
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.multioutput import ClassifierChain
    from sklearn.naive_bayes import GaussianNB
    from sklearn.neural_network import MLPClassifier

    X, y = wine
    labels = np.column_stack([y == 0, X[:, 0] > 0, y == 2]).astype(int)
    for model in (
        MLPClassifier((5,), max_iter=30, random_state=0),
        RidgeClassifier(),
        OneVsRestClassifier(LogisticRegression()),
        OneVsRestClassifier(GaussianNB()),
        ClassifierChain(LogisticRegression(), order=[2, 0, 1]),
        ClassifierChain(LogisticRegression(), chain_method="predict_proba"),
    ):
        assert_served(model.fit(X, labels), X, X * 1.1)


def test_one_against_one(wine):
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsOneClassifier, OutputCodeClassifier
    from sklearn.naive_bayes import GaussianNB

    X, y = wine
    for target in (y, (y > 0).astype(int)):
        for member in (LogisticRegression(), GaussianNB()):
            assert_served(OneVsOneClassifier(member).fit(X, target), X, X * 1.1)
    for member in (LogisticRegression(), GaussianNB()):
        model = OutputCodeClassifier(member, code_size=3, random_state=0)
        assert_served(model.fit(X, y), X, X * 1.1)


def test_naive_bayes_keeps_what_would_underflow(wine):
    from sklearn.naive_bayes import GaussianNB

    X, y = wine
    assert_served(GaussianNB().fit(X, y), X, X * 60.0)


def test_a_category_that_was_never_seen_is_refused():
    from sklearn.naive_bayes import CategoricalNB

    rng = np.random.default_rng(0)
    X = rng.integers(0, 3, (60, 4)).astype(float)
    model = CategoricalNB().fit(X, X[:, 0] > 0)
    with infersdk.load(model, example=X, execution=FAST) as predictor:
        assert predictor.plan.kind == "onnx", str(predictor.plan)
        for value in (7.0, -1.0):
            with pytest.raises(infersdk.InputError):
                predictor.predict(np.array([[0.0, 0.0, value, 0.0]]))


def test_medians_of_boosted_members(wine):
    from sklearn.ensemble import AdaBoostRegressor
    from sklearn.linear_model import Ridge

    X, _ = wine
    target = np.sin(X[:, 0]) + X[:, 1]
    for member, rtol in ((None, 1e-6), (Ridge(), 1e-9)):
        model = AdaBoostRegressor(member, n_estimators=7, random_state=0)
        assert_served(model.fit(X, target), X, X * 1.1, rtol=rtol)


# ---- columns behind a ColumnTransformer


def test_columns_keep_their_places_behind_encoders():
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": rng.normal(size=200),
            "city": rng.choice(["Oslo", "Roma", "Bergen"], 200),
            "plan": rng.choice(["free", "pro"], 200),
        }
    )
    y = (frame["age"] > 0) ^ (frame["plan"] == "pro")
    model = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(sparse_output=False), ["city"]),
            (OrdinalEncoder(), ["plan"]),
            remainder="passthrough",
        ),
        HistGradientBoostingClassifier(max_iter=5, categorical_features=[3]),
    )
    predictor = assert_served(model.fit(frame, y), frame, frame[::2], rtol=1e-6)
    fields = {field.name: field for field in predictor.signature.fields}
    assert fields["age"].categories is None
    assert fields["plan"].categories == ("free", "pro")


def test_the_gallery_has_every_estimator():
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.utils import all_estimators

    from tests.gallery._sklearn_estimators import ENTRIES, LEFT_OUT

    names = {name for name, _ in all_estimators()}
    known = {entry.name for entry in ENTRIES}
    assert not known & set(LEFT_OUT)
    missing = names - known - set(LEFT_OUT)
    assert not missing, f"{sorted(missing)} are neither in the gallery nor left out with a reason"


def test_neighbors_on_a_grid_stay_in_scikit_learn():
    """Which of several equally near rows counts is arbitrary there, and would be here."""
    from sklearn.datasets import load_digits
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    X, y = load_digits(return_X_y=True)
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(4)).fit(X[:400], y[:400])
    predictor = infersdk.load(model, example=X[400:500])
    assert predictor.plan.kind == "hybrid"
    assert "few different values" in str(predictor.plan)
    np.testing.assert_array_equal(predictor.predict(X[500:]), model.predict(X[500:]))
    alone = KNeighborsClassifier(4).fit(X[:400], y[:400])
    assert infersdk.load(alone, example=X[400:500]).plan.kind == "native"
