"""Pipelines and ensembles of imbalanced-learn and encoders of category_encoders, against themselves."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import infersdk
from infersdk.errors import InputError

pd = pytest.importorskip("pandas", reason="these packages take DataFrames")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

ENCODERS = [
    "BackwardDifferenceEncoder",
    "BaseNEncoder",
    "BinaryEncoder",
    "CatBoostEncoder",
    "CountEncoder",
    "GLMMEncoder",
    "GrayEncoder",
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
]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    n = 240
    X = pd.DataFrame(
        {
            "city": rng.choice(list("uvwxyz"), n),
            "age": rng.normal(40, 12, n),
            "size": rng.integers(0, 5, n),
            "color": rng.choice(["red", "green", "blue"], n),
        }
    )
    X.loc[rng.random(n) < 0.1, "color"] = None
    score = (X["age"] - 40) / 12 + (X["city"] < "w") + (X["size"] == 2) - (X["color"] == "red")
    return X, (score + rng.normal(size=n) > 1).astype(int)


@pytest.fixture(scope="module")
def imbalanced():
    from sklearn.datasets import make_classification

    return make_classification(
        400, 6, n_informative=4, n_redundant=0, weights=[0.85], random_state=0
    )


def quietly(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def assert_served(model, example, rows, *, plan="onnx", exact=1e-6):
    served = quietly(lambda: infersdk.load(model, example=example))
    assert served.plan.kind == plan, served.plan
    assert not any("left out" in note for note in served.plan.notes), served.plan
    for method in served.signature.methods:
        expected = quietly(lambda name=method.name: np.asarray(getattr(model, name)(rows)))
        ours = getattr(served, method.name)(rows)
        assert len(np.unique(expected.astype(str))) > 1
        if method.form == "labels":
            np.testing.assert_array_equal(ours, expected)
        else:
            np.testing.assert_allclose(ours, expected.astype(float), rtol=exact, atol=exact)
    return served


class TestEncoders:
    @pytest.mark.parametrize("name", ENCODERS)
    def test_in_front_of_a_model(self, name, table):
        encoders = pytest.importorskip(
            "category_encoders", reason="category_encoders is not installed"
        )
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        X, y = table
        encoder = getattr(encoders, name)(cols=["city", "size", "color"])
        model = quietly(lambda: make_pipeline(encoder, LogisticRegression(max_iter=300)).fit(X, y))
        rows = X.copy()
        rows.loc[:20, "city"] = "never seen"
        rows.loc[10:30, "color"] = None
        rows.loc[20:40, "size"] = 99
        served = assert_served(model, X, rows)
        assert served.parity.n_edge_rows > 0

    @pytest.mark.parametrize("name", ["OneHotEncoder", "TargetEncoder", "WOEEncoder"])
    def test_alone(self, name, table):
        encoders = pytest.importorskip(
            "category_encoders", reason="category_encoders is not installed"
        )
        X, y = table
        encoder = quietly(lambda: getattr(encoders, name)(return_df=False).fit(X, y))
        assert_served(encoder, X, X)

    def test_arrays(self, table):
        encoders = pytest.importorskip(
            "category_encoders", reason="category_encoders is not installed"
        )
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        X, y = table
        rows = X[["city", "age"]].to_numpy(dtype=object)
        encoder = encoders.TargetEncoder(cols=[0])
        model = quietly(lambda: make_pipeline(encoder, LogisticRegression()).fit(rows, y))
        served = assert_served(model, rows, rows)
        np.testing.assert_allclose(
            served.predict_proba(rows[3].tolist()), quietly(lambda: model.predict_proba(rows[3:4]))
        )

    def test_unseen_categories_are_refused_where_the_encoder_does(self, table):
        encoders = pytest.importorskip(
            "category_encoders", reason="category_encoders is not installed"
        )
        from sklearn.pipeline import make_pipeline
        from sklearn.tree import DecisionTreeClassifier

        X, y = table
        encoder = encoders.OrdinalEncoder(handle_unknown="error")
        model = make_pipeline(encoder, DecisionTreeClassifier(max_depth=4)).fit(X, y)
        served = assert_served(model, X, X)
        with pytest.raises(InputError, match="`city`"):
            served.predict({**X.iloc[0].to_dict(), "city": "elsewhere"})

    def test_hashes_stay_with_their_encoder(self, table):
        encoders = pytest.importorskip(
            "category_encoders", reason="category_encoders is not installed"
        )
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        X, y = table
        hashing = encoders.HashingEncoder(cols=["city"], max_process=1)
        model = quietly(
            lambda: make_pipeline(hashing, LogisticRegression()).fit(X[["city", "age"]], y)
        )
        rows = X[["city", "age"]]
        served = quietly(lambda: infersdk.load(model, example=rows))
        assert served.plan.kind in ("hybrid", "native"), served.plan
        np.testing.assert_allclose(
            served.predict_proba(rows), quietly(lambda: model.predict_proba(rows))
        )


class TestImbalanced:
    @pytest.mark.parametrize("sampler", ["RandomUnderSampler", "SMOTE"])
    def test_samplers_are_passed_over(self, sampler, imbalanced):
        pytest.importorskip("imblearn", reason="imbalanced-learn is not installed")
        from imblearn import over_sampling, under_sampling
        from imblearn.pipeline import make_pipeline
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.preprocessing import StandardScaler

        X, y = imbalanced
        kind = getattr(over_sampling, sampler, None) or getattr(under_sampling, sampler)
        forest = RandomForestClassifier(10, random_state=0)
        model = make_pipeline(kind(random_state=0), StandardScaler(), forest).fit(X, y)
        assert_served(model, X, X[::-1])
        model = make_pipeline(StandardScaler(), kind(random_state=0), forest).fit(X, y)
        served = assert_served(model, X, X[::-1])
        assert served.parity.label_flips == 0

    @pytest.mark.parametrize(
        "name",
        [
            "BalancedBaggingClassifier",
            "BalancedRandomForestClassifier",
            "EasyEnsembleClassifier",
            "RUSBoostClassifier",
        ],
    )
    def test_ensembles(self, name, imbalanced):
        pytest.importorskip("imblearn", reason="imbalanced-learn is not installed")
        from imblearn import ensemble

        X, y = imbalanced
        labels = np.array(["no", "yes"])[y]
        model = getattr(ensemble, name)(n_estimators=6, random_state=0)
        quietly(lambda: model.fit(X, labels))
        assert_served(model, X, X[::-1])

    def test_a_class_of_ones_own_is_not_taken_for_theirs(self, imbalanced):
        pytest.importorskip("imblearn", reason="imbalanced-learn is not installed")
        from imblearn.ensemble import BalancedRandomForestClassifier

        class Contrary(BalancedRandomForestClassifier):
            def predict(self, X):
                return 1 - super().predict(X)

        X, y = imbalanced
        model = Contrary(5, random_state=0).fit(X, y)
        served = infersdk.load(model, example=X)
        assert served.plan.kind == "native"
        np.testing.assert_array_equal(served.predict(X), model.predict(X))
