"""assert_parity, assert_latency and hammer: right where they pass, plain where they fail."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk.testing.latency import compare_latency
from infersdk.testing.tiny_models import tiny_model

# ---- parity ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def iris() -> tuple[Any, Any]:
    datasets = pytest.importorskip("sklearn.datasets")
    from sklearn.linear_model import LogisticRegression

    X, y = datasets.load_iris(return_X_y=True, as_frame=True)
    return LogisticRegression(max_iter=500).fit(X, y), X


def test_a_model_agrees_with_its_source(
    iris: tuple[Any, Any], predictor_factory: Any, assert_parity: Any, tmp_path: Path
) -> None:
    model, X = iris
    predictor = predictor_factory(model, example=X, name="iris")
    path = predictor.save(tmp_path / "iris.onnx")
    for rows in (X, X.iloc[0].to_dict(), X.to_dict("records")[:3]):
        assert_parity(predictor, model, rows)
        assert_parity(path, predictor, rows, methods=["predict_proba"])
        assert_parity(predictor, path, rows)
        assert_parity(infersdk.convert(model, example=X), model, rows)


def test_another_model_does_not(
    iris: tuple[Any, Any], predictor_factory: Any, assert_parity: Any
) -> None:
    model, X = iris
    predictor = predictor_factory(model, example=X, name="iris")
    other = type(model)(max_iter=500, C=0.01).fit(X, np.arange(len(X)) % 3)
    with pytest.raises(AssertionError) as caught:
        assert_parity(predictor, other, X.iloc[:20])
    message = str(caught.value)
    assert message.startswith("`iris` answers differently:\npredict differs in ")
    assert "row 0: {'sepal length (cm)': 5.1, 'sepal width (cm)': 3.5," in message
    expected = other.predict_proba(X.iloc[:1])[0]
    assert f"expected {np.array2string(expected)}" in message
    assert "rows more" in message


def test_tolerances_are_the_callers(predictor_factory: Any, assert_parity: Any) -> None:
    predictor = predictor_factory("regressor", n_features=2)

    class Nearly:
        def predict(self, rows: Any) -> Any:
            return predictor.predict(rows) + 0.01

    rows = np.zeros((3, 2))
    assert_parity(predictor, Nearly(), rows, atol=0.1)
    with pytest.raises(
        AssertionError, match=r"predict differs in 3 of 3 rows, by up to 0\.01 \(rtol"
    ):
        assert_parity(predictor, Nearly(), rows)


def test_rows_that_differ_are_shown_by_field(predictor_factory: Any, assert_parity: Any) -> None:
    predictor = predictor_factory("classifier", fields=["a", "b"], labels=["no", "yes"])

    class Moody:
        def predict(self, rows: Any) -> Any:
            answers = predictor.predict(rows)
            answers[1] = "perhaps"
            return answers

    with pytest.raises(AssertionError) as caught:
        assert_parity(predictor, Moody(), [[1, 2], [3, 4]])
    assert "predict differs in 1 of 2 rows" in str(caught.value)
    assert "row 1: {'a': 3, 'b': 4}" in str(caught.value)
    assert "expected 'perhaps'" in str(caught.value)


def test_another_shape_is_a_difference(
    predictor_factory: Any, assert_parity: Any, fake_predictor: Any
) -> None:
    predictor = predictor_factory("classifier", n_features=2)
    other = fake_predictor({"predict_proba": (0.1, 0.9)})
    with pytest.raises(
        AssertionError, match=r"expected an array of shape \(1, 2\), got .* \(1, 3\)"
    ):
        assert_parity(predictor, other, [1, 2])


def test_nothing_to_compare_is_an_error(predictor_factory: Any, assert_parity: Any) -> None:
    with pytest.raises(
        ValueError, match="Expected methods that both have; the predictor's are predict"
    ):
        assert_parity(predictor_factory("regressor"), object(), [1, 2, 3, 4])
    with pytest.raises(
        TypeError, match="Expected a Predictor, an Artifact or a model file's path, got int"
    ):
        assert_parity(3, 4, [1])


# ---- tiny models -------------------------------------------------------------------------------


def test_a_tiny_classifier_is_what_numpy_says(predictor_factory: Any) -> None:
    rng = np.random.default_rng(7)
    weights = rng.normal(size=(4, 3)).astype(np.float32)
    bias = rng.normal(size=3).astype(np.float32)
    x = np.random.default_rng(0).normal(size=(10, 4))
    scores = x @ weights + bias
    exp = np.exp(scores - scores.max(axis=1, keepdims=True))
    predictor = predictor_factory("classifier", seed=7, labels=["a", "b", "c"])
    assert (
        predictor.predict(x).tolist() == np.array(["a", "b", "c"])[scores.argmax(axis=1)].tolist()
    )
    assert np.allclose(predictor.predict_proba(x), exp / exp.sum(axis=1, keepdims=True), atol=1e-6)
    regressor = predictor_factory("regressor", seed=7)
    network = predictor_factory("network", n_features=4, seed=7)
    assert regressor.predict(x).shape == (10,)
    assert network(x.astype(np.float32)).shape == (10, 4)


def test_tiny_models_are_ordinary_files(predictor_factory: Any, tmp_path: Path) -> None:
    predictor = predictor_factory("classifier", fields=["age", "income"], name="churn")
    path = predictor.save(tmp_path / "churn.onnx")
    again = predictor_factory(path)
    row = {"age": 31, "income": 1000}
    assert np.array_equal(again.predict_proba(row), predictor.predict_proba(row))
    assert again.name == "churn"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "forest"}, "Expected one of classifier, regressor, network, got 'forest'"),
        ({"kind": "classifier", "labels": [1]}, "at least one feature and two labels, got 4 and 1"),
        ({"kind": "regressor", "n_features": 0}, "at least one feature"),
    ],
)
def test_tiny_models_that_are_not_possible(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny_model(**options)


# ---- latency -----------------------------------------------------------------------------------


class Bench:
    """A machine whose clock is advanced by the functions themselves, with a seeded noise."""

    def __init__(self, noise: float = 0.3) -> None:
        self.now_s = 0.0
        self.noise = noise
        self.random = random.Random(0)
        self.seen: list[tuple[str, Any]] = []

    def function(self, name: str, seconds: float) -> Callable[..., None]:
        def call(value: Any = None) -> None:
            self.now_s += seconds * self.random.lognormvariate(0, self.noise)
            self.seen.append((name, value))

        return call

    def timer(self) -> float:
        return self.now_s

    def compare(self, candidate_s: float, **options: Any) -> Any:
        return compare_latency(
            self.function("candidate", candidate_s),
            self.function("baseline", 1e-3),
            timer=self.timer,
            **options,
        )


def test_a_clear_case_takes_a_few_pairs() -> None:
    for candidate_s, verdict in ((0.5e-3, "within"), (2e-3, "above")):
        report = Bench(0.05).compare(candidate_s, at_most=1.2)
        assert report.verdict == verdict
        assert len(report.ratios) == 15
        assert report.ratio == pytest.approx(candidate_s / 1e-3, rel=0.1)


def test_a_close_case_is_measured_for_longer() -> None:
    for candidate_s, verdict in ((1.1e-3, "within"), (1.32e-3, "above")):
        report = Bench().compare(candidate_s, at_most=1.2, budget_s=60)
        assert report.verdict == verdict
        assert len(report.ratios) > 15


def test_it_is_never_sure_by_chance() -> None:
    """At the limit itself each verdict would be wrong half of the time; there must hardly be one."""
    wrong = 0
    for seed in range(200):
        bench = Bench()
        bench.random = random.Random(seed)
        wrong += bench.compare(1.2e-3, at_most=1.2, budget_s=0.5).verdict != "undecided"
    assert wrong <= 5


def test_an_undecided_case_warns_and_passes(assert_latency: Any) -> None:
    bench = Bench()
    with pytest.warns(
        UserWarning, match=r"Not clear after 0\.2 s: ratio .* is too close to at_most=1"
    ):
        assert_latency(
            bench.function("candidate", 1e-3),
            bench.function("baseline", 1e-3),
            at_most=1,
            budget_s=0.2,
            timer=bench.timer,
        )


def test_noise_that_hits_both_does_not_matter() -> None:
    """A machine that becomes ten times as slow half-way."""
    bench = Bench(0.05)

    def slow(function: Callable[..., None]) -> Callable[..., None]:
        def call(value: Any = None) -> None:
            before = bench.now_s
            function(value)
            if len(bench.seen) > 20:
                bench.now_s += 9 * (bench.now_s - before)

        return call

    report = compare_latency(
        slow(bench.function("candidate", 1.1e-3)),
        slow(bench.function("baseline", 1e-3)),
        at_most=1.2,
        timer=bench.timer,
    )
    assert report.verdict == "within"
    assert report.ratio == pytest.approx(1.1, rel=0.1)


def test_both_get_the_same_inputs_in_turn() -> None:
    bench = Bench(0.01)
    bench.compare(0.5e-3, at_most=1.2, inputs=["a", "b", "c"])
    for name in ("candidate", "baseline"):
        values = [value for seen, value in bench.seen if seen == name]
        assert values[-15:] == ["a", "b", "c"] * 5


def test_neither_always_goes_first() -> None:
    bench = Bench(0.01)
    bench.compare(0.5e-3, at_most=1.2)
    order = [name for name, _ in bench.seen[-30:]]
    firsts = order[::2]
    assert firsts[::2] == ["candidate"] * 8
    assert firsts[1::2] == ["baseline"] * 7


def test_the_message_shows_the_distribution(assert_latency: Any) -> None:
    bench = Bench(0.05)
    with pytest.raises(AssertionError) as caught:
        assert_latency(
            bench.function("candidate", 2e-3), bench.function("baseline", 1e-3), timer=bench.timer
        )
    message = str(caught.value)
    assert message.startswith("Too slow: ratio ")
    for part in ("is ABOVE at_most=1.2", "15 pairs", "p5 ", "p95 ", "####", "baseline 1"):
        assert part in message


def test_functions_faster_than_the_clock_are_called_many_times() -> None:
    calls = []
    report = compare_latency(lambda: calls.append(1), lambda: sorted(range(2000)), at_most=1)
    assert report.verdict == "within"
    assert len(calls) > 1000


def test_limits_and_inputs_are_checked(assert_latency: Any) -> None:
    with pytest.raises(ValueError, match="Expected at_most to be a positive ratio, got 0"):
        assert_latency(print, print, at_most=0)
    with pytest.raises(ValueError, match="Expected at least one input"):
        assert_latency(print, print, inputs=[])


# ---- hammer ------------------------------------------------------------------------------------


def test_threads_begin_together_and_switch_often(hammer: Any) -> None:
    seen: set[tuple[str, float]] = set()
    answers = hammer(
        lambda: seen.add((threading.current_thread().name, sys.getswitchinterval())),
        threads=4,
        calls=3,
        switch_interval_s=1e-6,
    )
    assert answers == [None] * 12
    assert {name for name, _ in seen} == {f"hammer-{i}" for i in range(4)}
    assert all(interval < 1e-5 for _, interval in seen)
    assert sys.getswitchinterval() > 1e-4


def test_answers_come_in_the_order_of_inputs(hammer: Any) -> None:
    assert hammer(lambda x: x * x, threads=3, calls=2, inputs=[1, 2, 3, 4]) == [1, 4, 9, 16, 1, 4]


def test_threads_are_inside_at_the_same_time(hammer: Any) -> None:
    inside: set[int] = set()
    met = threading.Event()

    def meet() -> None:
        inside.add(threading.get_ident())
        ends = time.monotonic() + 10
        while not met.is_set() and time.monotonic() < ends:
            if len(inside) > 1:
                met.set()
        inside.discard(threading.get_ident())

    hammer(meet, threads=3, calls=2)
    assert met.is_set()


def test_all_errors_are_raised(hammer: Any) -> None:
    def fail(x: int) -> int:
        if x % 2:
            raise KeyError(x)
        return x

    with pytest.raises(ExceptionGroup, match="4 of 8 calls failed") as caught:
        hammer(fail, threads=2, calls=4, inputs=range(8))
    assert sorted(error.args[0] for error in caught.value.exceptions) == [1, 3, 5, 7]
    notes = [error.__notes__ for error in caught.value.exceptions if error.args == (5,)]
    assert notes == [["in call 1 of thread 1"]]


def test_a_deadlock_is_shown(hammer: Any) -> None:
    ends = threading.Event()
    with pytest.raises(AssertionError) as caught:
        hammer(ends.wait, threads=2, calls=1, timeout_s=0.05)
    ends.set()
    message = str(caught.value)
    assert message.startswith("2 of 2 threads did not end within 0.05 s: hammer-0, hammer-1")
    assert "threading.py" in message
    assert "in wait" in message


def test_tasks(hammer: Any) -> None:
    most = running = 0

    async def call(x: int) -> int:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return x

    answers = asyncio.run(hammer.tasks(call, tasks=5, calls=2, inputs=range(10)))
    assert answers == list(range(10))
    assert most == 5


def test_tasks_that_fail_or_hang(hammer: Any) -> None:
    async def fail() -> None:
        raise ValueError("no")

    async def hang() -> None:
        await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup, match="4 of 4 calls failed"):
        asyncio.run(hammer.tasks(fail, tasks=2, calls=2))
    with pytest.raises(AssertionError, match="2 of 2 tasks did not end within") as caught:
        asyncio.run(hammer.tasks(hang, tasks=2, timeout_s=0.02))
    assert "hammer-0: " in str(caught.value)
    assert "locks.py" in str(caught.value)


def test_numbers_and_inputs_are_checked(hammer: Any) -> None:
    with pytest.raises(ValueError, match="Expected at least 1 of threads, got 0"):
        hammer(print, threads=0)
    with pytest.raises(ValueError, match="Expected at least one input"):
        hammer(print, inputs=[])


def test_a_predictor_under_the_hammer(hammer: Any, predictor_factory: Any) -> None:
    predictor: infersdk.Predictor = predictor_factory("classifier")
    rows = np.random.default_rng(0).normal(size=(31, 4)).tolist()
    expected = predictor.predict_proba(rows)
    answers = hammer(predictor.predict_proba, inputs=rows)
    for i, answer in enumerate(answers):
        assert np.allclose(answer[0], expected[i % 31], atol=1e-6)
