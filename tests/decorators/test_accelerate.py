"""``@accelerate``: the function is the one it was, its models run elsewhere, and only where they are the same."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import logging
import os
import pickle
import sys
import threading
import time
import typing
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

import infersdk.api
from infersdk.decorators import accelerate
from infersdk.errors import InputError, OverloadedError, SessionError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
    # What scikit-learn says of forests that are asked in threads.
    pytest.mark.filterwarnings("ignore:.*sklearn.utils.parallel.*:UserWarning"),
]

model = None
other = None
models: dict[str, object] = {}
state = SimpleNamespace()
factor = 1.0
n_calls = 0

NOW = {"shadow_calls": 3, "background": False}
"""Three calls to convert with, three to compare."""


@pytest.fixture(scope="module")
def iris():
    from sklearn.datasets import load_iris

    return load_iris(return_X_y=True)


def fitted(iris, seed=0):
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(8, max_depth=4, random_state=seed).fit(*iris)


@pytest.fixture(scope="module")
def forest(iris):
    return fitted(iris)


@pytest.fixture(scope="module")
def other_forest(iris):
    X, y = iris
    return fitted((X, 2 - y))


@pytest.fixture
def globals_(forest, monkeypatch):
    """This module's globals, as an app's would be."""
    here = sys.modules[__name__]
    monkeypatch.setattr(here, "model", copy.deepcopy(forest))
    monkeypatch.setattr(here, "factor", 1.0)
    monkeypatch.setattr(here, "n_calls", 0)
    return monkeypatch


def proba(row):
    """The first class."""
    return float(model.predict_proba([row])[0, 0]) * factor


def ask(function, rows):
    return [function(row) for row in rows]


def state_of(function):
    return [report.state for report in function.report().models]


def same(function, rows):
    """Whether a function answers as its original does, and the Predictor answered."""
    expected = ask(function.function, rows)
    given = ask(function, rows)
    return given == pytest.approx(expected, abs=1e-6)


class Spy:
    """Counts what the original model is asked."""

    def __init__(self, monkeypatch, owner, name):
        self.n = 0
        original = getattr(owner, name)

        @functools.wraps(original)
        def method(this, *arguments, **named):
            self.n += 1
            return original(this, *arguments, **named)

        monkeypatch.setattr(owner, name, method)


# -- where the model comes from ------------------------------------------------------------------


def test_a_global(globals_, iris):
    X = iris[0].tolist()
    accelerated = accelerate(**NOW)(proba)
    before = model
    assert ask(accelerated, X[:6]) == ask(proba, X[:6])
    assert state_of(accelerated) == ["converted"]
    assert list(accelerated.predictors) == ["model"]
    from sklearn.ensemble import RandomForestClassifier

    spy = Spy(globals_, RandomForestClassifier, "predict_proba")
    answers = ask(accelerated, X[:40])
    assert spy.n == 0  # the Predictor answered
    assert answers == pytest.approx(ask(proba, X[:40]), abs=1e-6)
    assert spy.n == 40
    assert model is before
    assert accelerated.__globals__ is globals()


def test_a_model_that_is_loaded_when_it_is_first_needed(globals_, forest, iris):
    global model
    model = None

    def get_model():
        global model
        if model is None:
            model = copy.deepcopy(forest)
        return model

    @accelerate(**NOW)
    def score(row):
        return int(get_model().predict([row])[0])

    X = iris[0].tolist()
    assert same(score, X[:20])
    assert state_of(score) == ["converted"]
    assert list(score.predictors) == ["get_model()"]


def test_closures_defaults_attributes_items_and_arguments(forest, iris):
    X = iris[0].tolist()
    mine = [copy.deepcopy(forest) for _ in range(5)]
    closed = mine[0]
    state.inner = SimpleNamespace(model=mine[1])
    models["a"] = mine[2]

    @accelerate(**NOW)
    def all_of_them(row, default=mine[3], *, named=mine[4]):
        asked = (closed, state.inner.model, models["a"], default, named)
        return [
            float(closed.predict_proba([row])[0, 0]),
            float(state.inner.model.predict_proba([row])[0, 0]),
            float(models["a"].predict_proba([row])[0, 0]),
            float(default.predict_proba([row])[0, 0]),
            *(float(each.predict_proba([row])[0, 0]) for each in asked[4:]),
            float(named.predict_proba([row])[0, 0]),
        ]

    for row in X[:30]:
        assert all_of_them(row) == pytest.approx(all_of_them.function(row), abs=1e-6)
    assert list(all_of_them.predictors) == [
        "closed",
        "state.inner.model",
        "models['a']",
        "default",
        "each",
    ]
    assert state_of(all_of_them) == ["converted"] * 5


class Scorer:
    def __init__(self, model):
        self.__model = model

    @accelerate(**NOW)
    def score(self, row: list[float], scale: float = 1.0) -> float:
        """Score a row."""
        return self._first(row) * scale

    def _first(self, row):
        return float(self.__model.predict_proba([row])[0, 0])

    @accelerate(**NOW)
    @staticmethod
    def static(row):
        return proba(row)

    @classmethod
    @accelerate(**NOW)
    def of_class(cls, row):
        return proba(row)


def test_methods_and_what_they_call(globals_, forest, other_forest, iris):
    X = iris[0].tolist()
    one, two = Scorer(copy.deepcopy(forest)), Scorer(copy.deepcopy(other_forest))
    for row in X[:30]:
        for scorer in (one, two):
            expected = Scorer.score.function(scorer, row, scale=2.0)
            assert scorer.score(row, scale=2.0) == pytest.approx(expected, abs=1e-6)
        assert Scorer.static(row) == pytest.approx(proba(row), abs=1e-6)
        assert one.of_class(row) == pytest.approx(proba(row), abs=1e-6)
    assert state_of(Scorer.score) == ["converted", "converted"]
    assert list(one.score.predictors) == ["self.__model", "self.__model (2)"]
    assert state_of(Scorer.static) == state_of(Scorer.of_class) == ["converted"]


def test_async_functions_and_threads(globals_, iris):
    X = iris[0].tolist()

    @accelerate(**NOW)
    async def score(row):
        await asyncio.sleep(0)
        first = await asyncio.to_thread(model.predict_proba, [row])
        second = await asyncio.to_thread(proba, row)
        third = await asyncio.get_running_loop().run_in_executor(None, proba, row)
        return [float(first[0, 0]), second, third]

    @accelerate(**NOW)
    async def stream(rows):
        for row in rows:
            yield proba(row)

    async def both():
        for row in X[:10]:
            expected = proba(row)
            assert await score(row) == pytest.approx([expected] * 3, abs=1e-6)
        assert [x async for x in stream(X[:20])] == pytest.approx(ask(proba, X[:20]), abs=1e-6)

    assert inspect.iscoroutinefunction(score)
    assert inspect.isasyncgenfunction(stream)
    asyncio.run(both())
    assert state_of(score) == state_of(stream) == ["converted"]


def test_generators_lambdas_and_comprehensions(globals_, iris):
    X = iris[0].tolist()

    @accelerate(**NOW)
    def stream(rows):
        yield from (proba(row) for row in rows)

    short = accelerate(**NOW)(lambda row: [float(model.predict([r])[0]) for r in [row]])
    assert inspect.isgeneratorfunction(stream)
    assert list(stream(X[:20])) == pytest.approx(ask(proba, X[:20]), abs=1e-6)
    assert [short(row) for row in X[:20]] == [short.function(row) for row in X[:20]]
    assert state_of(stream) == state_of(short) == ["converted"]


def test_proxies_of_the_model(forest, iris):
    from werkzeug.local import LocalProxy

    mine = copy.deepcopy(forest)
    proxy = LocalProxy(lambda: mine)

    @accelerate(**NOW)
    def score(row):
        return int(proxy.predict([row])[0])

    assert same(score, iris[0].tolist()[:20])
    assert state_of(score) == ["converted"]


# -- the function is what it was -----------------------------------------------------------------


def test_names_signature_and_pickle(globals_):
    assert Scorer.score.__name__ == "score"
    assert Scorer.score.__qualname__ == "Scorer.score"
    assert Scorer.score.__doc__ == "Score a row."
    assert inspect.signature(Scorer.score) == inspect.signature(Scorer.score.function)
    assert typing.get_type_hints(Scorer.score)["return"] is float
    assert inspect.isfunction(Scorer.score)
    assert pickle.loads(pickle.dumps(Scorer.score)) is Scorer.score
    assert inspect.getsource(Scorer.score) == inspect.getsource(Scorer.score.function)


def test_other_globals_stay_live_and_global_writes_arrive(globals_, iris):
    X = iris[0].tolist()

    @accelerate(**NOW)
    def counted(row):
        global n_calls
        n_calls += 1
        return proba(row)

    expected = ask(proba, X[:9])
    assert ask(counted, X[:9]) == pytest.approx(expected, abs=1e-6)
    assert n_calls == 9
    globals_.setattr(sys.modules[__name__], "factor", 10.0)
    assert counted(X[0]) == pytest.approx(expected[0] * 10, abs=1e-5)
    globals_.setattr(sys.modules[__name__], "proba", lambda row: "other")
    assert counted(X[0]) == "other"


def test_tracebacks_keep_their_lines(globals_):
    @accelerate(**NOW)
    def fails(row):
        rows = [row]
        return model.predict(rows)  # this line

    with pytest.raises(ValueError, match="features") as caught:
        fails([1.0])
    lines = [entry.lineno for entry in caught.traceback if entry.name == "fails"]
    code, first = inspect.getsourcelines(fails.function)
    wanted = next(i for i, line in enumerate(code) if "this line" in line)
    assert [line + 1 for line in lines] == [first + wanted]


def test_what_is_no_model_is_left_alone(globals_):
    class Service:
        def predict(self, x):
            return ("own", x)

    service = Service()

    @accelerate(**NOW)
    def mixed(text, numbers):
        numbers.append(len(text))
        return text.encode(), service.predict(text), sorted(numbers), super, [str(x) for x in "ab"]

    assert mixed("é", [3]) == ("é".encode(), ("own", "é"), [1, 3], super, ["a", "b"])
    assert mixed.report().models == ()
    assert "`service.predict`" in mixed.report().notes[0]


def test_the_model_is_the_model(globals_, iris):
    @accelerate(**NOW)
    def look(row):
        answer = model.predict([row])
        bound = model.predict_proba
        return (
            model is globals()["model"],
            type(model).__name__,
            list(model.classes_),
            bound.__self__ is model,
            bound.__name__,
            pickle.loads(pickle.dumps(bound))([row]).tolist()
            == bound.__self__.predict_proba([row]).tolist(),
            hasattr(model, "transform"),
            answer.tolist(),
        )

    for row in iris[0].tolist()[:12]:
        assert look(row) == look.function(row)
    with pytest.raises(AttributeError, match="decision_function"):
        accelerate(**NOW)(_no_such_method)(iris[0][0])


def _no_such_method(row):
    return model.decision_function([row])


# -- what it is asked with -----------------------------------------------------------------------


def test_other_forms_of_rows_are_compared_first(globals_, iris):
    import pandas as pd

    X = iris[0]
    accelerated = accelerate(**NOW)(_any_rows)
    for row in X[:8]:
        accelerated([row.tolist()])
    assert state_of(accelerated) == ["converted"]
    from sklearn.ensemble import RandomForestClassifier

    spy = Spy(globals_, RandomForestClassifier, "predict")
    accelerated(X[:5])
    assert spy.n == 1
    for _ in range(3):
        assert (accelerated(X[:50]) == _any_rows(X[:50])).all()
    n = spy.n
    accelerated(X[:7])
    assert spy.n == n  # the new form has been compared
    with pytest.warns(UserWarning, match="feature names"):
        accelerated(pd.DataFrame(X[:2]).rename(columns=str))
    # Where the model refuses, so does the function, though the Predictor would not.
    with pytest.raises(ValueError, match="2D array"):
        accelerated(X[0])
    with pytest.raises(ValueError, match="0 sample"):
        accelerated(X[:0])
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        accelerated([[1.0, 2.0, 3.0, np.inf]])
    with pytest.raises(ValueError, match="3 features"):
        accelerated([[1.0, 2.0, 3.0]])
    with pytest.raises(TypeError, match="argument"):
        accelerated()


def _any_rows(*rows, **named):
    return model.predict(*rows, **named)


def test_columns_in_another_order_are_the_models_affair(iris):
    import pandas as pd
    from lightgbm import LGBMClassifier

    X = pd.DataFrame(iris[0], columns=list("abcd"))
    booster = LGBMClassifier(n_estimators=4, verbose=-1).fit(X, iris[1])

    @accelerate(**NOW)
    def score(rows):
        return booster.predict_proba(rows)

    for i in range(8):
        score(X[i : i + 1])
    assert state_of(score) == ["converted"]
    # LightGBM goes by position, a Predictor by name.
    turned = X[["d", "c", "b", "a"]][:5]
    assert not np.allclose(booster.predict_proba(turned), booster.predict_proba(X[:5]))
    for _ in range(5):
        np.testing.assert_allclose(score(turned), booster.predict_proba(turned))
    np.testing.assert_allclose(score(X[:5]), booster.predict_proba(X[:5]), atol=1e-6)
    assert score.report().models[0].mismatches > 0


def test_integers_and_fractions_from_json(iris):
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    X = pd.DataFrame(iris[0], columns=list("abcd"))
    regression = LogisticRegression(max_iter=500).fit(X, iris[1])

    @accelerate(**NOW)
    def score(row):
        return float(regression.predict_proba(pd.DataFrame([row]))[0, 0])

    whole = X.round().astype(int).to_dict("records")
    broken = X.to_dict("records")
    for row in [*whole[:10], *broken[:40]]:
        assert score(row) == pytest.approx(score.function(row), abs=1e-6)
    report = score.report().models[0]
    assert report.refused >= 5  # the example had whole numbers only, and was widened
    assert report.state == "converted"
    assert report.mismatches == 0


def test_further_arguments_go_to_the_model(globals_, iris):
    @accelerate(**NOW)
    def score(rows):
        return other.predict(rows, check_input=True), other.predict(X=rows), other.apply(rows)

    from sklearn.tree import DecisionTreeClassifier

    globals_.setattr(sys.modules[__name__], "other", DecisionTreeClassifier().fit(*iris))
    for row in iris[0][:12]:
        for given, expected in zip(score([row]), score.function([row]), strict=True):
            assert (given == expected).all()
    assert state_of(score) == ["converted"]


# -- rebinding and refitting ---------------------------------------------------------------------


def test_a_model_that_is_replaced(globals_, forest, other_forest, iris):
    X = iris[0].tolist()
    accelerated = accelerate(**NOW)(proba)
    ask(accelerated, X[:8])
    assert state_of(accelerated) == ["converted"]
    gone = weakref.ref(model)
    globals_.undo()
    globals_.setattr(sys.modules[__name__], "model", copy.deepcopy(other_forest))
    for row in X[:8]:
        assert accelerated(row) == pytest.approx(proba(row), abs=1e-6)
    assert state_of(accelerated)[-1] == "converted"
    gc.collect()
    assert gone() is None
    assert len(accelerated.predictors) == 1


def test_a_model_that_is_fitted_again_in_the_function(iris):
    X, y = iris
    mine = fitted(iris)

    @accelerate(**NOW)
    def score(row, labels=None):
        if labels is not None:
            mine.fit(X, labels)
        return mine.predict_proba([row])[0].tolist()

    for row in X[:8]:
        score(row)
    assert state_of(score) == ["converted"]
    assert score(X[0], 2 - y) == mine.predict_proba(X[:1])[0].tolist()
    assert state_of(score) == ["watching"]
    assert "fit" in score.report().models[0].reason

    @accelerate
    def learn(labels):
        mine.fit(X, labels)

    for row in X[:8]:
        assert score(row) == pytest.approx(score.function(row), abs=1e-6)
    assert state_of(score) == ["converted"]
    learn(y)
    assert state_of(score) == ["watching"]


def test_a_model_that_is_fitted_again_elsewhere(iris, monkeypatch):
    from infersdk.decorators import watched_model

    clock = [1000.0]
    monkeypatch.setattr(watched_model, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    X, y = iris
    mine = fitted(iris)

    @accelerate(**NOW)
    def score(row):
        return mine.predict_proba([row])[0].tolist()

    for _ in range(4):
        for row in X[:8]:
            score(row)
        assert state_of(score) == ["converted"]
        mine.fit(X, 2 - y)
        y = 2 - y
        clock[0] += 400.0
        for row in X[:8]:
            assert score(row) == pytest.approx(score.function(row), abs=1e-6)
    # Once too often in a while.
    for _ in range(4):
        mine.fit(X, y)
        clock[0] += 2.0
        for row in X[:8]:
            assert score(row) == pytest.approx(score.function(row), abs=1e-6)
    assert state_of(score) == ["original"]
    score.refresh()
    assert state_of(score) == ["watching"]
    for row in X[:8]:
        score(row)
    assert state_of(score) == ["converted"]


def test_a_method_that_is_kept_for_long(iris):
    X, y = iris
    mine = fitted(iris)

    @accelerate(**NOW)
    def scores():
        predict_proba = mine.predict_proba
        rows = yield
        while True:
            rows = yield predict_proba(rows)[0].tolist()

    for row in X[:8]:
        running = scores()
        next(running)
        running.send([row])
    assert state_of(scores) == ["converted"]
    expected = mine.predict_proba(X[:1])[0].tolist()
    assert running.send(X[:1]) == pytest.approx(expected, abs=1e-6)
    mine.fit(X, 2 - y)
    scores.refresh()
    assert running.send([X[0]]) == mine.predict_proba(X[:1])[0].tolist() != expected


def test_a_model_that_is_changed_between_comparisons(iris):
    X, y = iris
    mine = fitted(iris)

    @accelerate(**NOW)
    def score(row):
        return mine.predict_proba([row])[0].tolist()

    for row in X[:4]:
        score(row)
    assert state_of(score) == ["comparing"]
    mine.fit(X, 2 - y)
    for row in X[:8]:
        assert score(row) == pytest.approx(score.function(row), abs=1e-6)
    assert state_of(score) == ["converted"]  # no mismatch, but another model


def test_a_method_that_is_replaced_on_the_model(globals_, iris):
    X = iris[0].tolist()
    accelerated = accelerate(**NOW)(proba)
    ask(accelerated, X[:8])
    globals_.setattr(model, "predict_proba", lambda rows: np.array([[7.0]]), raising=False)
    assert accelerated(X[0]) == 7.0


# -- falling back --------------------------------------------------------------------------------


class Double:
    """A Predictor that does what a test wants."""

    def __init__(self, predictor, answer):
        self._predictor = predictor
        self._answer = answer

    def __getattr__(self, name):
        return getattr(self._predictor, name)

    def predict_proba(self, rows):
        return self._answer(self._predictor.predict_proba, rows)


@pytest.fixture
def double(monkeypatch):
    def use(answer):
        load = infersdk.api.load
        monkeypatch.setattr(infersdk.api, "load", lambda *a, **k: Double(load(*a, **k), answer))

    return use


def test_a_mismatch_leaves_the_model_in_its_place(globals_, iris, double, caplog):
    X = iris[0].tolist()
    double(lambda ask, rows: ask(rows) + 0.01)
    accelerated = accelerate(**NOW)(proba)
    with caplog.at_level(logging.WARNING, "infersdk.accelerate"):
        assert ask(accelerated, X[:30]) == ask(proba, X[:30])
    assert state_of(accelerated) == ["original"]
    (record,) = caplog.records
    assert "`model`" in record.getMessage()
    assert "`predict_proba`" in record.getMessage()
    report = accelerated.report()
    assert report.models[0].mismatches == 1
    assert "predict_proba" in str(report)
    assert dict(accelerated.predictors) == {}


def test_a_late_mismatch_of_the_last_comparison(globals_, iris, double):
    X = iris[0].tolist()
    n = []

    def answer(ask, rows):
        n.append(1)
        return ask(rows) + (len(n) == 3)

    double(answer)
    accelerated = accelerate(**NOW)(proba)
    assert ask(accelerated, X[:10]) == ask(proba, X[:10])
    assert state_of(accelerated) == ["original"]
    assert accelerated.report().models[0].comparisons == 3


@pytest.mark.parametrize(
    "answer",
    [
        lambda ask, rows: ask(rows).tolist(),
        lambda ask, rows: ask(rows).astype(np.float32).astype(object),
        lambda ask, rows: ask(rows)[0],
        lambda ask, rows: np.broadcast_to(ask(rows), (1, 3)),
        lambda ask, rows: np.matrix(ask(rows)),
    ],
    ids=["list", "objects", "shape", "read-only", "subclass"],
)
def test_another_kind_of_answer(globals_, iris, double, answer, caplog):
    X = iris[0].tolist()
    double(answer)
    accelerated = accelerate(**NOW)(proba)
    assert ask(accelerated, X[:30]) == ask(proba, X[:30])
    report = accelerated.report().models[0]
    assert (report.comparisons, report.mismatches) == (1, 1)
    assert "predict_proba" in report.reason
    assert len(caplog.records) == 1


def test_errors_of_the_predictor(globals_, iris, double):
    X = iris[0].tolist()
    failing = []

    def answer(ask, rows):
        if failing:
            raise failing[0]
        return ask(rows)

    double(answer)
    accelerated = accelerate(**NOW)(proba)
    ask(accelerated, X[:10])
    assert state_of(accelerated) == ["converted"]
    failing.append(SessionError("out of order"))
    assert ask(accelerated, X[:2]) == ask(proba, X[:2])
    assert state_of(accelerated) == ["converted"]
    assert ask(accelerated, X[:20]) == ask(proba, X[:20])
    report = accelerated.report().models[0]
    assert report.state == "original"
    assert "out of order" in report.reason
    assert report.failures == 3


def test_what_is_not_ours_is_raised(globals_, iris, double):
    class StopError(Exception):
        """As Celery's soft time limit: raised by a signal's handler, wherever that is."""

    X = iris[0].tolist()
    failing = []

    def answer(ask, rows):
        if failing:
            raise failing[0]
        return ask(rows)

    double(answer)
    accelerated = accelerate(**NOW)(proba)
    ask(accelerated, X[:10])
    failing.append(StopError())
    with pytest.raises(StopError):
        accelerated(X[0])


def test_overload_is_raised_where_limits_were_asked_for(globals_, iris, double):
    from infersdk import Batching

    X = iris[0].tolist()
    failing = []

    def answer(ask, rows):
        if failing:
            raise failing[0]
        return ask(rows)

    double(answer)
    limited = accelerate(**NOW, batching=Batching(max_queue_size=4))(proba)
    ask(limited, X[:10])
    failing.append(OverloadedError("full"))
    with pytest.raises(OverloadedError):
        limited(X[0])
    assert state_of(limited) == ["converted"]


def test_a_model_that_cannot_be_converted(iris, caplog):
    from sklearn.linear_model import LogisticRegression

    class Own(LogisticRegression):
        def predict_proba(self, X):
            return super().predict_proba(X) ** 2

    mine = Own(max_iter=500).fit(*iris)

    @accelerate(**NOW)
    def score(row):
        return mine.predict_proba([row])[0].tolist()

    for row in iris[0][:10]:
        assert score(row) == score.function(row)
    assert state_of(score) == ["original"]
    assert score.report().models[0].reason
    assert len([r for r in caplog.records if r.name == "infersdk.accelerate"]) == 1


def test_an_unfitted_model_raises_its_own_error():
    from sklearn.exceptions import NotFittedError
    from sklearn.linear_model import LogisticRegression

    mine = LogisticRegression()

    @accelerate(**NOW)
    def score(row):
        return mine.predict([row])

    with pytest.raises(NotFittedError):
        score([1.0])


# -- options and errors --------------------------------------------------------------------------


def test_an_example_converts_at_the_first_call(globals_, iris):
    X = iris[0]
    accelerated = accelerate(example=X, shadow_calls=2, background=False)(proba)
    named = accelerate(example={"model": X}, shadow_calls=1, background=False)(proba)
    for function in (accelerated, named):
        function(X[0].tolist())
        assert state_of(function) == ["comparing"]
        ask(function, X[:2].tolist())
        assert state_of(function) == ["converted"]
        assert function.predictors["model"].parity.n_example_rows == len(X)


def test_functions_with_the_same_options_share_a_predictor(globals_, iris):
    one = accelerate(**NOW)(proba)
    two = accelerate(**NOW)(_any_rows)
    ask(one, iris[0][:10].tolist())
    two(iris[0][:1].tolist())
    assert one.predictors["model"] is two.predictors["model"]


def test_refusals():
    from sklearn.linear_model import LogisticRegression

    with pytest.raises(ValueError, match="whole number"):
        accelerate(shadow_calls=0)
    for given, match in [
        (Scorer, "the class `Scorer`"),
        (LogisticRegression(), "infersdk.load"),
        (functools.lru_cache(proba), "below"),
        (len, "no source"),
        (3, "`int`"),
    ]:
        with pytest.raises(TypeError, match=match):
            accelerate(given)
    accelerated = accelerate(proba)
    assert accelerate(accelerated) is accelerated


def test_without_source_it_runs_as_it_is(caplog):
    namespace = {}
    exec("def score(x):\n    return model.predict(x)\nclass model:\n    predict = len", namespace)
    score = accelerate(namespace["score"])
    assert score([1]) == 1
    assert "source" in score.report().notes[0]
    assert len(caplog.records) == 1


def test_a_file_that_has_changed(tmp_path, monkeypatch, caplog):
    path = tmp_path / "app_that_changes.py"
    path.write_text("def score(x):\n    return model.predict(x)\n")
    monkeypatch.syspath_prepend(tmp_path)
    import app_that_changes

    path.write_text("def score(x):\n    return model.predict(x + 1)\n")
    score = accelerate(app_that_changes.score)
    assert score.__code__ == app_that_changes.score.__code__
    assert "has changed" in score.report().notes[0]


def test_partial_objects_and_bound_methods_share(globals_, forest, iris):
    scorer = Scorer(copy.deepcopy(forest))
    for row in iris[0][:10].tolist():
        # As Django's method_decorator does at each request.
        bound = functools.partial(Plain.score.__get__(scorer, Scorer))
        assert accelerate(**NOW)(bound)(row) == pytest.approx(proba(row), abs=1e-6)
    assert state_of(accelerate(**NOW)(functools.partial(Plain.score)).func) == ["converted"]


class Plain:
    def score(self, row):
        return proba(row)


registered = []


def register(function):
    registered.append(function)
    return function


@accelerate(**NOW)
@register
def written_below(row):
    return float(model.predict_proba([row])[0, 0])


@register
@accelerate(**NOW)
def written_above(row):
    return float(model.predict_proba([row])[0, 0])


def test_the_order_of_decorators_that_register(globals_, iris):
    X = iris[0].tolist()
    below, above = registered[:2]
    assert below is written_below
    assert above is written_above
    for function in (below, above):
        assert same(function, X[:20])
        assert state_of(function) == ["converted"]
    assert above.function is not above
    assert below.function is not below


def logged(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments)

    return wrapper


@accelerate(**NOW)
@logged
def wrapped_below(row):
    return float(model.predict_proba([row])[0, 0])


@accelerate(**NOW)
@register
@logged
def registered_with_its_wrapper(row):
    return float(model.predict_proba([row])[0, 0])


def test_wrappers_below_are_looked_through(globals_, iris):
    assert registered[-1] is registered_with_its_wrapper
    for function in (wrapped_below, registered_with_its_wrapper):
        assert same(function, iris[0].tolist()[:20])
        assert state_of(function) == ["converted"]


# -- threads, forks, life ------------------------------------------------------------------------


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_in_the_background(globals_, iris):
    X = iris[0].tolist()
    accelerated = accelerate(shadow_calls=3)(proba)
    assert not [t for t in threading.enumerate() if t.name.startswith("infersdk-accelerate")]
    ask(accelerated, X[:3])
    wait_for(lambda: state_of(accelerated) != ["converting"])
    assert state_of(accelerated) == ["comparing"]
    assert same(accelerated, X[:10])
    assert state_of(accelerated) == ["converted"]


def test_threads_while_it_changes_over(globals_, iris, request):
    X = iris[0].tolist()
    expected = ask(proba, X)
    accelerated = accelerate(shadow_calls=40)(proba)
    interval = sys.getswitchinterval()
    request.addfinalizer(lambda: sys.setswitchinterval(interval))
    sys.setswitchinterval(1e-5)
    errors = []
    done = threading.Event()

    def hammer(seed):
        rng = np.random.default_rng(seed)
        try:
            while not done.is_set():
                i = int(rng.integers(len(X)))
                if abs(accelerated(X[i]) - expected[i]) > 1e-6:
                    errors.append(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=hammer, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    wait_for(lambda: errors or state_of(accelerated) == ["converted"])
    for _ in range(3):
        accelerated.refresh()
        wait_for(lambda: errors or state_of(accelerated) == ["converted"])
    done.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert accelerated.report().models[0].mismatches == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("when", ["watching", "converting", "converted"])
def test_after_a_fork(globals_, iris, when, monkeypatch):
    from infersdk.decorators import watched_model

    X = iris[0].tolist()
    expected = ask(proba, X[:40])
    accelerated = accelerate(shadow_calls=3)(proba)
    ask(accelerated, X[:2])
    if when == "converting":
        # A thread that the child will not have.
        with monkeypatch.context() as patch:
            patch.setattr(watched_model, "in_background", lambda work, name: None)
            ask(accelerated, X[:2])
    elif when == "converted":
        ask(accelerated, X[:2])
        wait_for(lambda: state_of(accelerated) != ["converting"])
        ask(accelerated, X[:5])
    assert state_of(accelerated) == [when]
    child = os.fork()
    if child == 0:
        status = 1
        try:
            good = ask(accelerated, X[:40]) == pytest.approx(expected, abs=1e-6)
            wait_for(lambda: state_of(accelerated) != ["converting"])
            good = good and ask(accelerated, X[:40]) == pytest.approx(expected, abs=1e-6)
            status = 0 if good and state_of(accelerated) == ["converted"] else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_models_of_one_call_are_forgotten_with_it(forest, iris):
    @accelerate(**NOW)
    def score(row):
        fresh = copy.deepcopy(forest)
        return int(fresh.predict([row])[0])

    for row in iris[0][:5].tolist():
        score(row)
    gc.collect()
    assert score.report().models == ()


def test_what_is_pickled_as_a_whole_starts_over(globals_, forest, iris):
    cloudpickle = pytest.importorskip("cloudpickle")
    mine = copy.deepcopy(forest)

    @accelerate(**NOW)
    def score(row):
        return int(mine.predict([row])[0])

    rows = iris[0][:12].tolist()
    ask(score, rows)
    again = cloudpickle.loads(cloudpickle.dumps(score))
    assert ask(again, rows) == ask(score, rows)
    assert state_of(again) == ["converted"]
    assert again.predictors["mine"] is not score.predictors["mine"]


def test_refused_rows_that_the_model_takes(globals_, iris, double):
    refuse = []

    def answer(ask, rows):
        if refuse:
            raise InputError("not these")
        return ask(rows)

    double(answer)
    X = iris[0].tolist()
    accelerated = accelerate(**NOW)(proba)
    ask(accelerated, X[:10])
    refuse.append(1)
    assert ask(accelerated, X[:40]) == ask(proba, X[:40])
    report = accelerated.report().models[0]
    assert report.refused > 5
    assert report.failures == report.mismatches == 0
