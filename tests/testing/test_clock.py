"""Time in the hands of a test."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import infersdk
from infersdk.testing import Clock, FakePredictor
from infersdk.testing.clock import held_clock


def in_thread(function: Any, *arguments: Any, **named: Any) -> tuple[threading.Thread, list[Any]]:
    """Start it; what it gives or raises is in the list once the thread has ended."""
    outcome: list[Any] = []

    def work() -> None:
        try:
            outcome.append(function(*arguments, **named))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, outcome


def test_it_stands_still_until_it_is_advanced(infersdk_clock: Clock) -> None:
    assert infersdk_clock.elapsed_s == 0
    infersdk_clock.advance(1.5)
    infersdk_clock.advance(0.25)
    assert infersdk_clock.elapsed_s == pytest.approx(1.75)
    assert held_clock() is infersdk_clock


def test_only_one_can_be_held(infersdk_clock: Clock) -> None:
    with pytest.raises(RuntimeError, match="held already"), Clock():
        pass
    assert held_clock() is infersdk_clock


def test_time_does_not_go_back(infersdk_clock: Clock) -> None:
    with pytest.raises(ValueError, match="expected 0 nanoseconds or more"):
        infersdk_clock.advance(-1)


def test_a_clock_that_is_not_held_cannot_be_advanced() -> None:
    with pytest.raises(RuntimeError, match="hold it first"):
        Clock().advance(1)
    assert held_clock() is None


def test_a_run_takes_its_latency(infersdk_clock: Clock, fake_predictor: Any) -> None:
    fake = fake_predictor("yes", latency_s=0.5)
    caller, outcome = in_thread(fake.predict, [1])
    infersdk_clock.wait_for_sleepers()
    infersdk_clock.advance(0.4)
    infersdk_clock.wait_for_sleepers()
    assert not outcome
    infersdk_clock.advance(0.1)
    caller.join(10)
    assert outcome[0].tolist() == ["yes"]


def test_a_waiting_call_expires_when_its_time_has_passed(
    infersdk_clock: Clock, fake_predictor: Any
) -> None:
    fake = fake_predictor("yes", latency_s=60)
    first, answered = in_thread(fake.predict, [1])
    infersdk_clock.wait_for_sleepers()
    second, expired = in_thread(fake.predict, [1], timeout_s=0.2)
    fake.wait_for_queued()
    infersdk_clock.advance(0.3)
    second.join(10)
    assert isinstance(expired[0], infersdk.DeadlineError)
    assert not answered
    infersdk_clock.advance(60)
    first.join(10)
    assert answered[0].tolist() == ["yes"]


def test_an_awaited_call_expires_when_its_time_has_passed(
    infersdk_clock: Clock, fake_predictor: Any
) -> None:
    fake = fake_predictor("yes", latency_s=60)

    async def main() -> None:
        running = asyncio.create_task(fake.apredict([1]))
        await asyncio.to_thread(infersdk_clock.wait_for_sleepers)
        late = asyncio.create_task(fake.apredict([1], timeout_s=0.2))
        patient = asyncio.create_task(fake.apredict([1], timeout_s=600))
        await asyncio.to_thread(fake.wait_for_queued, 2)
        infersdk_clock.advance(0.2)
        with pytest.raises(infersdk.DeadlineError, match="taken out of the queue"):
            await late
        infersdk_clock.advance(60)
        await running
        await asyncio.to_thread(infersdk_clock.wait_for_sleepers)
        infersdk_clock.advance(60)
        assert (await patient).tolist() == ["yes"]

    asyncio.run(main())


def test_batched_functions_have_the_same_clock(infersdk_clock: Clock) -> None:
    began, go_on = threading.Event(), threading.Event()

    @infersdk.batched
    def slow(items: list[int]) -> list[int]:
        began.set()
        go_on.wait(10)
        return items

    first, answered = in_thread(slow, 1)
    assert began.wait(10)
    second, expired = in_thread(slow, 2, timeout_s=5)
    while not slow.queue_stats()["queued_rows"]:
        pass
    infersdk_clock.advance(6)
    second.join(10)
    assert isinstance(expired[0], infersdk.DeadlineError)
    go_on.set()
    first.join(10)
    assert answered == [1]
    slow.close()


def test_what_a_run_costs_is_learned_on_the_clock(
    infersdk_clock: Clock, fake_predictor: Any
) -> None:
    """A call that cannot be answered in time is refused at once, by the costs of scripted runs."""
    infersdk_clock.automatic = True
    fake = fake_predictor("yes", latency_s=2)
    fake.predict([1])
    with (
        fake.busy(),
        pytest.raises(infersdk.OverloadedError, match="its answer would take about") as caught,
    ):
        fake.predict([1], timeout_s=1)
    assert caught.value.retry_after_s > 0


def test_automatic_latencies_pass_at_once(infersdk_clock: Clock, fake_predictor: Any) -> None:
    infersdk_clock.automatic = True
    fake = fake_predictor("yes", latency_s=[1, 3])
    for _ in range(3):
        fake.predict([1])
    assert infersdk_clock.elapsed_s == pytest.approx(7)


def test_latencies_of_a_function_of_the_rows(infersdk_clock: Clock, fake_predictor: Any) -> None:
    infersdk_clock.automatic = True
    fake_predictor("yes", latency_s=lambda rows: 2 * len(rows)).predict([[1], [2]])
    assert infersdk_clock.elapsed_s == pytest.approx(4)


def test_somebody_must_advance_it(
    infersdk_clock: Clock, fake_predictor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infersdk.testing.clock._PATIENCE_S", 0.01)
    with pytest.raises(TimeoutError, match="on a clock that nobody advances"):
        fake_predictor("yes", latency_s=1).predict([1])


def test_sleepers_that_do_not_come(infersdk_clock: Clock) -> None:
    with pytest.raises(TimeoutError, match="Expected 1 runs that wait for the clock, got 0"):
        infersdk_clock.wait_for_sleepers(timeout_s=0.01)


def test_letting_go_of_it_lets_sleepers_go() -> None:
    with FakePredictor("yes", latency_s=3600) as fake:
        with Clock() as clock:
            caller, outcome = in_thread(fake.predict, [1])
            clock.wait_for_sleepers()
        caller.join(10)
        assert outcome[0].tolist() == ["yes"]


def test_a_real_predictor_waits_on_it_too(infersdk_clock: Clock, predictor_factory: Any) -> None:
    predictor = predictor_factory("classifier")
    assert predictor.predict([1, 2, 3, 4], timeout_s=1e-6).shape == (1,)


def test_after_it_deadlines_are_real_again(fake_predictor: Any) -> None:
    with Clock() as clock:
        clock.advance(3600)
    fake = fake_predictor(1)
    with fake.busy(), pytest.raises(infersdk.DeadlineError):
        fake.predict([1], timeout_s=0.001)
