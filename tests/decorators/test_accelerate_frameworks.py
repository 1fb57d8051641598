"""Accelerated functions answer as their originals do, for models of several frameworks and any rows."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infersdk.decorators import accelerate

NOW = {"shadow_calls": 2, "background": False}

EVERY = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

number = st.floats(-1e3, 1e3, width=32).map(float)


def outcome(function, *arguments):
    """What a function gives or raises, with the kind of both."""
    try:
        answer = function(*arguments)
    except Exception as error:
        return type(error), str(error)
    return type(answer), answer.shape, answer.dtype, answer


def check(function, *arguments):
    ours, theirs = outcome(function, *arguments), outcome(function.function, *arguments)
    assert ours[:-1] == theirs[:-1]
    if len(ours) == 2:
        assert ours == theirs
    elif getattr(theirs[-1].dtype, "kind", "f") in "OUi":
        assert (ours[-1] == theirs[-1]).all()
    else:
        np.testing.assert_allclose(ours[-1], theirs[-1], rtol=1e-4, atol=1e-5)


def warm(function, *calls):
    for _ in range(6):
        for call in calls:
            check(function, call)
    assert {report.state for report in function.report().models} == {"converted"}


@pytest.fixture(scope="module")
def shop():
    """A pipeline over numbers and texts, as web apps have them."""
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        {
            "price": rng.normal(10, 3, 200),
            "city": rng.choice(["Oslo", "Rome", "Bern"], 200),
            "stars": rng.integers(1, 6, 200),
        }
    )
    y = np.where(X["price"] + X["stars"] > 12, "buy", "leave")
    pipeline = make_pipeline(
        make_column_transformer(
            (StandardScaler(), ["price", "stars"]),
            (OneHotEncoder(handle_unknown="ignore"), ["city"]),
        ),
        LogisticRegression(),
    ).fit(X, y)

    @accelerate(**NOW)
    def ask(row, method):
        frame = pd.DataFrame([row])
        return pipeline.predict(frame) if method else pipeline.predict_proba(frame)

    for i in range(8):
        row = X.iloc[i].to_dict()
        check(ask, row, False)
        check(ask, row, True)
    (report,) = ask.report().models
    assert report.methods == ("predict", "predict_proba")
    return ask


@EVERY
@given(
    row=st.fixed_dictionaries(
        {
            "price": st.one_of(number, st.integers(-9, 99), st.just(float("nan")), st.none()),
            "city": st.one_of(st.sampled_from(["Oslo", "Rome", "Paris", ""]), st.none()),
            "stars": st.one_of(st.integers(0, 9), st.just(2.5), st.just("many")),
        },
        optional={"note": st.text(max_size=3)},
    ),
    method=st.booleans(),
)
def test_a_pipeline_over_numbers_and_texts(shop, row, method):
    check(shop, row, method)


@pytest.fixture(scope="module", params=["xgboost", "lightgbm", "trees"])
def boosted(request):
    import pandas as pd
    from sklearn.datasets import load_iris

    X, y = load_iris(return_X_y=True)
    X = pd.DataFrame(X, columns=list("abcd"))
    if request.param == "xgboost":
        model = pytest.importorskip("xgboost").XGBClassifier(n_estimators=5)
    elif request.param == "lightgbm":
        model = pytest.importorskip("lightgbm").LGBMClassifier(n_estimators=5, verbose=-1)
    else:
        from sklearn.ensemble import HistGradientBoostingClassifier

        model = HistGradientBoostingClassifier(max_iter=5)
    model.fit(X, y)

    @accelerate(**NOW)
    def ask(rows):
        return model.predict_proba(rows)

    warm(ask, *(X[i : i + 1] for i in range(5)))
    return ask


@EVERY
@given(
    rows=st.lists(
        st.lists(st.one_of(number, st.just(float("nan"))), min_size=4, max_size=4),
        min_size=1,
        max_size=3,
    ),
    columns=st.permutations(list("abcd")),
    as_array=st.booleans(),
)
def test_boosted_trees(boosted, rows, columns, as_array):
    import pandas as pd

    frame = pd.DataFrame(rows, columns=list("abcd"))[columns]
    check(boosted, frame.to_numpy() if as_array else frame)


@pytest.mark.slow
def test_a_torch_module():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.Dropout(0.5), torch.nn.ReLU(), torch.nn.Linear(8, 3)
    ).eval()

    @accelerate(**NOW)
    def ask(rows):
        net.eval()
        with torch.no_grad():
            return net(torch.as_tensor(rows, dtype=torch.float32)).numpy()

    rng = np.random.default_rng(0)
    warm(ask, rng.normal(size=(1, 4)))
    for shape in [(1, 4), (5, 4), (4,), (2, 3, 4), (1, 5)]:
        for _ in range(7):
            check(ask, rng.normal(size=shape))
    assert list(ask.predictors) == ["net"]

    # In training its answers are random, and its own.
    n = ask.report().models[0].comparisons

    @accelerate(**NOW)
    def train(rows):
        return net(rows)

    net.train()
    rows = torch.ones(2, 4)
    answers = {tuple(train(rows).flatten().tolist()) for _ in range(20)}
    assert len(answers) > 1
    assert train(rows).requires_grad
    assert ask.report().models[0].comparisons == n
    net.eval()

    # Gradients may be asked for at any time.
    for _ in range(8):
        loss = train(torch.ones(2, 4)).sum()
        loss.backward()
    assert "gradients" in train.report().models[0].reason
    assert next(net.parameters()).grad is not None

    # New weights, written into the old tensors.
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(2.0)
    ask.refresh()
    warm(ask, rng.normal(size=(1, 4)))


@pytest.mark.slow
def test_a_keras_model():
    keras = pytest.importorskip("keras")
    net = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])

    @accelerate(**NOW)
    def ask(rows):
        return net.predict(rows, verbose=0)

    rng = np.random.default_rng(0)
    for _ in range(8):
        check(ask, rng.normal(size=(2, 4)).astype(np.float32))
    assert [report.state for report in ask.report().models] == ["converted"]


def test_texts():
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = ["good and cheap", "bad", "cheap but bad", "very good", "fine, good", "awful, bad"] * 5
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression())
    pipeline.fit(texts, [1, 0, 0, 1, 1, 0] * 5)

    @accelerate(**NOW)
    def ask(text):
        return pipeline.predict_proba([text])

    for text in [*texts, "", "très cheap", "GOOD!"]:
        check(ask, text)
    assert [report.state for report in ask.report().models] == ["converted"]


def test_answers_that_no_predictor_gives():
    import pandas as pd

    sm = pytest.importorskip("statsmodels.api")
    X = pd.DataFrame({"const": 1.0, "a": np.arange(20.0)})
    results = sm.OLS(X["a"] * 2 + 1, X).fit()

    @accelerate(**NOW)
    def ask(rows):
        return results.predict(rows)

    for i in range(25):
        rows = X.iloc[[i % 20]]
        pd.testing.assert_series_equal(ask(rows), ask.function(rows))
    (report,) = ask.report().models
    assert report.state == "original"
    assert "pandas.Series" in report.reason.replace("core.series.", "")


ENDS_EARLY = """
import torch
from infersdk.decorators import accelerate

net = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.Linear(64, 3)).eval()


@accelerate(shadow_calls=1)
def ask(rows):
    with torch.no_grad():
        return net(rows)


ask(torch.ones(1, 4))
print(ask.report().models[0].state)
"""


@pytest.mark.slow
@pytest.mark.parametrize("first", ["", "from gevent import monkey; monkey.patch_all()"])
def test_a_process_that_ends_while_a_model_is_converted(first, tmp_path):
    pytest.importorskip("torch")
    if first:
        pytest.importorskip("gevent")
    path = tmp_path / "ends_early.py"
    path.write_text(first + ENDS_EARLY)
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "converting\n"), done.stderr
