"""statsmodels results against their own predict(), on rows around and far outside of the training data."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import infersdk
from infersdk.convert import statsmodels as converter
from infersdk.errors import InputError, UnsupportedModelError

pd = pytest.importorskip("pandas", reason="statsmodels needs pandas")
pytest.importorskip("statsmodels", reason="statsmodels is not installed")

EXACT = {"rtol": 1e-9, "atol": 1e-12}
"""Everything is float64; what is left is the order of sums."""


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    n = 300
    made = pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "z": rng.uniform(1, 3, n),
            "a name": rng.normal(size=n),
            "g": rng.choice(list("abc"), n),
            "k": rng.integers(0, 3, n),
            "on": rng.random(n) < 0.5,
        }
    )
    eta = 0.4 * made["x"] - 0.3 * made["z"] + 0.5 * (made["g"] == "b")
    made["y"] = eta + 0.3 * rng.normal(size=n)
    made["positive"] = np.exp(eta) * rng.gamma(4, 0.25, n)
    made["count"] = rng.poisson(np.exp(eta + 0.5))
    made["two"] = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(int)
    made["three"] = np.clip(np.round(eta + rng.normal(size=n)), -1, 1).astype(int)
    return made


@pytest.fixture(scope="module")
def exog(frame):
    import statsmodels.api as sm

    return sm.add_constant(frame[["x", "z"]])


def fitted(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def assert_served(results, example, rows=None, *, plan="onnx"):
    """The Predictor gives what ``results.predict`` gives, on the example and on edge rows."""
    signature = converter.infer_signature(results, example)
    made = converter.edge_rows(
        results, signature, example, n_rows=300, rng=np.random.default_rng(1)
    )
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        served = infersdk.load(results, example=example)
        assert served.plan.kind == plan, served.plan
        assert not any("left out" in note for note in served.plan.notes), served.plan
        for given in (example, made) if rows is None else (rows,):
            expected = np.asarray(results.predict(given))
            ours = served.predict(given)
            assert ours.shape == expected.shape
            assert len(np.unique(expected)) > 5
            np.testing.assert_allclose(ours, expected, **EXACT)
    return served


LINEAR = ["OLS", "WLS", "GLS", "GLSAR", "QuantReg", "RLM"]


class TestMatrices:
    @pytest.mark.parametrize("name", LINEAR)
    def test_linear(self, name, frame, exog):
        import statsmodels.api as sm

        more = {"weights": frame["z"]} if name == "WLS" else {}
        results = fitted(lambda: getattr(sm, name)(frame["y"], exog, **more).fit())
        assert_served(results, exog)

    def test_arrays(self, frame, exog):
        import statsmodels.api as sm

        results = sm.OLS(frame["y"].to_numpy(), exog.to_numpy()).fit()
        served = assert_served(results, exog.to_numpy())
        assert served.signature.container == "array"
        assert served.predict([1.0, 0.5, 2.0]).shape == (1,)

    def test_rows_by_name(self, frame, exog):
        import statsmodels.api as sm

        results = sm.OLS(frame["y"], exog).fit()
        served = infersdk.load(results, example=exog)
        expected = results.predict(exog.iloc[:1]).to_numpy()
        row = exog.iloc[0].to_dict()
        np.testing.assert_allclose(served.predict(dict(reversed(row.items()))), expected, **EXACT)
        with pytest.raises(InputError, match="const"):
            served.predict({"x": 1.0, "z": 2.0})

    def test_regularized(self, frame, exog):
        import statsmodels.api as sm

        results = sm.OLS(frame["y"], exog).fit_regularized(alpha=0.05)
        assert_served(results, exog)
        results = fitted(lambda: sm.Logit(frame["two"], exog).fit_regularized(alpha=1.0, disp=0))
        assert_served(results, exog)

    def test_without_its_data(self, frame, exog):
        import statsmodels.api as sm

        results = sm.OLS(frame["y"], exog).fit()
        expected = results.predict(exog)
        results.remove_data()
        served = infersdk.load(results, example=exog)
        np.testing.assert_allclose(served.predict(exog), expected, **EXACT)

    def test_an_example_without_the_constant_is_refused(self, frame, exog):
        import statsmodels.api as sm

        results = sm.OLS(frame["y"], exog).fit()
        with pytest.raises(UnsupportedModelError, match="add_constant"):
            infersdk.load(results, example=frame[["x", "z"]])


def _families():
    return [
        ("y", "Gaussian", None),
        ("positive", "Gaussian", "Log"),
        ("positive", "Gaussian", "InversePower"),
        ("positive", "Gamma", None),
        ("positive", "Gamma", "Log"),
        ("positive", "InverseGaussian", "Log"),
        ("positive", "Tweedie", None),
        ("positive", "Tweedie", ("Power", 0.7)),
        ("count", "Poisson", None),
        ("count", "Poisson", "Sqrt"),
        ("count", "NegativeBinomial", None),
        ("two", "Binomial", None),
        ("two", "Binomial", "Probit"),
        ("two", "Binomial", "CLogLog"),
        ("two", "Binomial", "LogLog"),
    ]


class TestGeneralized:
    @pytest.mark.parametrize(("target", "family", "link"), _families())
    def test_families_and_links(self, target, family, link, frame, exog):
        import statsmodels.api as sm

        links = sm.families.links
        kind = getattr(sm.families, family)
        if link is None:
            made = kind()
        elif isinstance(link, tuple):
            made = kind(link=getattr(links, link[0])(link[1]))
        else:
            made = kind(link=getattr(links, link)())
        results = fitted(lambda: sm.GLM(frame[target], exog, family=made).fit(maxiter=8))
        assert_served(results, exog)

    @pytest.mark.parametrize("name", ["InverseSquared", "LogC", "NegativeBinomial", "Probit"])
    def test_the_inverses_of_links(self, name):
        import onnxruntime
        from statsmodels.genmod.families import links

        from infersdk.convert.sklearn_graph import GraphBuilder
        from infersdk.convert.statsmodels_links import inverse_link

        link = getattr(links, name)()
        builder = GraphBuilder()
        given = builder.input("z", "float64", ("N", 1))
        builder.output("mean", inverse_link(builder, link, given.name), "float64", ("N", 1))
        session = onnxruntime.InferenceSession(builder.build(name).SerializeToString())
        low, high = {"InverseSquared": (0.01, 9), "LogC": (-9, 0), "Probit": (-37, 37)}.get(
            name, (-9, -0.01)
        )
        z = np.linspace(low, high, 999).reshape(-1, 1)
        (ours,) = session.run(None, {"z": z})
        np.testing.assert_allclose(ours, link.inverse(z), rtol=1e-11)

    def test_a_link_without_onnx_form_stays_in_statsmodels(self, frame, exog):
        import statsmodels.api as sm

        family = sm.families.Binomial(link=sm.families.links.Cauchy())
        results = fitted(lambda: sm.GLM(frame["two"], exog, family=family).fit())
        served = assert_served(results, exog, plan="native")
        assert "Cauchy" in served.plan.reason

    def test_offsets_count_as_absent(self, frame, exog):
        import statsmodels.api as sm

        results = sm.GLM(
            frame["count"], exog, family=sm.families.Poisson(), exposure=frame["z"]
        ).fit()
        served = assert_served(results, exog)
        assert any("exposure" in note for note in served.plan.notes)

    def test_estimating_equations(self, frame, exog):
        import statsmodels.api as sm

        results = fitted(
            lambda: sm.GEE(
                frame["count"], exog, groups=frame["k"], family=sm.families.Poisson()
            ).fit()
        )
        assert_served(results, exog)


class TestDiscrete:
    @pytest.mark.parametrize(
        ("name", "target"),
        [
            ("Logit", "two"),
            ("Probit", "two"),
            ("Poisson", "count"),
            ("NegativeBinomial", "count"),
            ("GeneralizedPoisson", "count"),
            ("MNLogit", "three"),
        ],
    )
    def test_models(self, name, target, frame, exog):
        import statsmodels.api as sm
        from statsmodels.discrete import discrete_model

        kind = getattr(sm, name, None) or getattr(discrete_model, name)
        results = fitted(lambda: kind(frame[target], exog).fit(disp=0, maxiter=40))
        assert_served(results, exog)

    def test_ordered_classes_stay_in_statsmodels(self, frame, exog):
        from statsmodels.miscmodels.ordinal_model import OrderedModel

        X = exog[["x", "z"]]
        results = fitted(lambda: OrderedModel(frame["three"], X).fit(disp=0, maxiter=30))
        served = infersdk.load(results, example=X)
        assert served.plan.kind == "native"
        assert [field.name for field in served.signature.fields] == ["x", "z"]
        np.testing.assert_allclose(served.predict(X), results.predict(X))

    def test_zero_inflated_models_stay_in_statsmodels(self, frame, exog):
        import statsmodels.api as sm

        results = fitted(
            lambda: sm.ZeroInflatedPoisson(frame["count"], exog).fit(disp=0, maxiter=20)
        )
        served = infersdk.load(results, example=exog)
        assert served.plan.kind == "native"
        np.testing.assert_allclose(served.predict(exog), results.predict(exog))


FORMULAS = [
    "y ~ x + z",
    "y ~ x - 1",
    "y ~ x + C(g)",
    "y ~ 0 + C(g):x + on",
    "y ~ C(g, Sum) * x + C(k, Treatment(1))",
    "y ~ C(k, Poly) + C(g, Helmert):z",
    "y ~ np.log(z) + I(x ** 2) + np.exp(x / 3) + Q('a name')",
    "y ~ np.log1p(z) * g + np.sqrt(z):C(g) - x",
]


class TestFormulas:
    @pytest.mark.parametrize("formula", FORMULAS)
    def test_design_matrices(self, formula, frame):
        import statsmodels.formula.api as smf

        results = smf.ols(formula, frame).fit()
        complete = frame.dropna()
        signature = converter.infer_signature(results, complete)
        rows = converter.edge_rows(
            results, signature, complete, n_rows=200, rng=np.random.default_rng(1)
        )
        assert_served(results, complete, rows=complete)
        assert_served(results, complete, rows=rows)

    def test_only_the_columns_that_are_read(self, frame):
        import statsmodels.formula.api as smf

        results = smf.glm("two ~ x + g", frame, family=_binomial()).fit()
        served = infersdk.load(results, example=frame)
        assert served.plan.kind == "onnx", served.plan
        expected = results.predict(frame.iloc[:1]).to_numpy()
        row = {"x": float(frame["x"][0]), "g": frame["g"][0]}
        np.testing.assert_allclose(served.predict(row), expected, **EXACT)

    def test_unseen_categories_are_refused(self, frame):
        import statsmodels.formula.api as smf

        served = infersdk.load(smf.ols("y ~ x + g", frame).fit(), example=frame)
        with pytest.raises(InputError, match="`g`"):
            served.predict({"x": 1.0, "g": "elsewhere"})

    @pytest.mark.parametrize("formula", ["y ~ bs(x, df=4)", "y ~ center(x)", "y ~ twice(x)"])
    def test_what_python_computes_stays_there(self, formula, frame):
        import statsmodels.formula.api as smf

        def twice(values):
            return 2 * values

        results = smf.ols(formula, frame).fit()
        served = infersdk.load(results, example=frame)
        assert served.plan.kind == "native"
        assert "formula" in served.plan.reason
        np.testing.assert_allclose(served.predict(frame), results.predict(frame))

    def test_mixed_models_answer_with_their_fixed_effects(self, frame):
        import statsmodels.formula.api as smf

        results = fitted(lambda: smf.mixedlm("y ~ x + z", frame, groups=frame["k"]).fit())
        assert_served(results, frame, rows=frame)


class TestRefusals:
    def test_models_that_are_not_fitted(self, frame, exog):
        import statsmodels.api as sm

        with pytest.raises(UnsupportedModelError, match=r"what fit\(\) returned"):
            infersdk.load(sm.OLS(frame["y"], exog), example=exog)

    def test_survival(self, frame, exog):
        import statsmodels.api as sm

        results = sm.PHReg(frame["positive"], exog[["x", "z"]]).fit()
        with pytest.raises(UnsupportedModelError, match="hazards"):
            infersdk.load(results)

    def test_time_series(self, frame):
        from statsmodels.tsa.ar_model import AutoReg

        results = AutoReg(frame["y"], lags=2).fit()
        with pytest.raises(UnsupportedModelError, match="steps in time"):
            infersdk.load(results)


def _binomial():
    import statsmodels.api as sm

    return sm.families.Binomial()
