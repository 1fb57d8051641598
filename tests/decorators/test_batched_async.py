"""@batched on async functions. The oracle is the plain function, awaited with a list."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import inspect
import os
import pickle
import sys
import threading
import traceback
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk import ClosedError, DeadlineError, OverloadedError
from infersdk.decorators import AsyncBatchedFunction, AsyncBatchedMethod
from infersdk.testing.clock import Clock

WAIT_S = 30

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """asyncio.run, on either loop."""
    if request.param == "asyncio":
        return asyncio.run
    uvloop = pytest.importorskip("uvloop")

    def run_there(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(coroutine)

    return run_there


@infersdk.batched
async def lengths(texts: list[str]) -> list[int]:
    """How long texts are."""
    await asyncio.sleep(0)
    return [len(text) for text in texts]


class Gate:
    """Holds every call of a function until it is opened, and knows what they were called with."""

    def __init__(self) -> None:
        self.seen: list[list[Any]] = []
        self.opened = asyncio.Event()
        self.entered = asyncio.Event()
        self.cancelled = 0

    async def pass_through(self, items: list[Any]) -> None:
        self.seen.append(list(items))
        self.entered.set()
        try:
            await asyncio.wait_for(self.opened.wait(), WAIT_S)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


def held(**options: Any) -> tuple[Gate, AsyncBatchedFunction[Any, Any]]:
    """A function that doubles, behind a gate."""
    gate = Gate()

    @infersdk.batched(**options)
    async def double(items: list[int]) -> list[int]:
        await gate.pass_through(items)
        return [2 * item for item in items]

    return gate, double


async def turns(n: int = 5) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def busy(gate: Gate, function: AsyncBatchedFunction[Any, Any]) -> asyncio.Task[Any]:
    """A call that has begun."""
    task = asyncio.create_task(function(0))
    await asyncio.wait_for(gate.entered.wait(), WAIT_S)
    return task


def test_an_item_is_answered_as_in_a_list(run: Run) -> None:
    async def main() -> None:
        assert await lengths("three") == (await lengths.function(["three"]))[0] == 5
        assert await lengths.many(["a", "bb", ""]) == [1, 2, 0]
        assert await lengths.many(iter(["a", "bb"])) == [1, 2]
        assert await lengths.many([]) == []

    run(main())


def test_calls_of_one_turn_share_a_call_and_others_wait_for_the_next(run: Run) -> None:
    async def main() -> None:
        gate, double = held(max_batch_size=4)
        first = [asyncio.create_task(double(n)) for n in range(3)]
        await asyncio.wait_for(gate.entered.wait(), WAIT_S)
        rest = [asyncio.create_task(double(n)) for n in range(3, 10)]
        await turns()
        assert double.queue_stats()["queued_rows"] == 7
        gate.opened.set()
        assert await asyncio.gather(*first, *rest) == [2 * n for n in range(10)]
        assert gate.seen == [[0, 1, 2], [3, 4, 5, 6], [7, 8, 9]]
        report = double.report()
        assert (report.batches, report.items, report.largest_batch) == (3, 10, 4)
        assert (report.waiting, report.running) == (0, 0)
        assert await double(5) == 10
        assert double.report().calls_at_once == 1

    run(main())


def test_calls_one_after_the_other_find_it_idle(run: Run) -> None:
    async def main() -> None:
        @infersdk.batched
        async def echo(items: list[int]) -> list[int]:
            await asyncio.sleep(0)
            return items

        assert [await echo(n) for n in range(10)] == list(range(10))
        report = echo.report()
        assert (report.calls_at_once, report.batches) == (10, 0)

    run(main())


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_every_call_ends_as_it_should(run: Run, seed: int) -> None:
    """Calls that fail, are cancelled, run late, come in parts and with priorities, all at once."""
    random = Random(seed)

    @infersdk.batched(
        max_batch_size=random.choice([1, 3, 8]),
        instances=random.choice([1, 2]),
        max_queue_size=random.choice([10, 1000]),
    )
    async def double(items: list[int]) -> list[int]:
        for _ in range(random.randrange(4)):
            await asyncio.sleep(0)
        if any(item % 11 == 7 for item in items):
            raise LookupError([item for item in items if item % 11 == 7])
        return [2 * item for item in items]

    async def call(number: int) -> None:
        await turns(random.randrange(30))
        timeout_s = random.choice([None, None, 1e-4, WAIT_S])
        priority = random.randrange(3)
        try:
            if number % 5:
                expected: Any = 2 * number
                answer = await double(number, timeout_s=timeout_s, priority=priority)
            else:
                expected = [2 * n for n in range(number, number + 4)]
                answer = await double.many(
                    range(number, number + 4), timeout_s=timeout_s, priority=priority
                )
        except LookupError as error:
            bad = error.args[0]
            assert set(bad) <= set(range(number, number + (1 if number % 5 else 4)))
        except DeadlineError:
            assert timeout_s is not None
        except OverloadedError:
            pass
        else:
            assert answer == expected

    async def main() -> None:
        tasks = [asyncio.create_task(call(number)) for number in range(400)]
        for task in random.sample(tasks, 80):
            await turns(random.randrange(3))
            task.cancel()
        answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), WAIT_S)
        assert {type(answer) for answer in answers} <= {type(None), asyncio.CancelledError}, answers
        await double.aclose()
        report = double.report()
        assert (report.waiting, report.running) == (0, 0)

    run(main())


@pytest.mark.parametrize("bad", [0, 1, 7, 15, 30, 31])
def test_one_bad_item_fails_alone(run: Run, bad: int) -> None:
    async def main() -> None:
        gate = Gate()

        @infersdk.batched(max_batch_size=16)
        async def halve(numbers: list[int]) -> list[float]:
            await gate.pass_through(numbers)
            if bad in numbers:
                raise LookupError(f"{bad} is bad")
            return [number / 2 for number in numbers]

        first = await busy(gate, halve) if bad else asyncio.create_task(halve(-2))
        rest = [asyncio.create_task(halve(number)) for number in range(32)]
        await turns()
        gate.opened.set()
        await first
        answers = await asyncio.gather(*rest, return_exceptions=True)
        for number, answer in enumerate(answers):
            if number == bad:
                assert type(answer) is LookupError
                frames = traceback.extract_tb(answer.__traceback__)
                assert "halve" in [frame.name for frame in frames]
                assert answer.__context__ is None
            else:
                assert answer == number / 2
        assert halve.report().failed == 1

    run(main())


def test_an_exception_keeps_nothing_alive() -> None:
    class Item:
        pass

    @infersdk.batched
    async def fails(items: list[Item]) -> list[Item]:
        raise ValueError("no")

    async def main() -> weakref.ref[Item]:
        item = Item()
        reference = weakref.ref(item)
        with contextlib.suppress(ValueError):
            await fails(item)
        return reference

    gc.disable()
    try:
        assert asyncio.run(main())() is None
    finally:
        gc.enable()


def test_cancelled_tasks_leave_the_queue_and_their_mates_alone(run: Run) -> None:
    async def main() -> None:
        gate, double = held(max_batch_size=64)
        first = await busy(gate, double)
        tasks = [asyncio.create_task(double(n)) for n in range(1, 31)]
        await turns()
        for task in tasks[::3]:
            task.cancel()
        await turns()
        assert double.queue_stats()["queued_rows"] == 20
        gate.entered.clear()
        gate.opened.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert await first == 0
        for number, answer in enumerate(answers):
            if number % 3 == 0:
                assert isinstance(answer, asyncio.CancelledError)
            else:
                assert answer == 2 * (number + 1)
        assert gate.seen[1] == [n for n in range(1, 31) if (n - 1) % 3]
        assert double.report().cancelled == 10

    run(main())


def test_a_task_cancelled_while_its_batch_is_under_way(run: Run) -> None:
    async def main() -> None:
        gate, double = held()
        tasks = [asyncio.create_task(double(n)) for n in range(3)]
        await asyncio.wait_for(gate.entered.wait(), WAIT_S)
        tasks[1].cancel()
        await turns()
        gate.opened.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert (answers[0], answers[2]) == (0, 4)
        assert isinstance(answers[1], asyncio.CancelledError)
        assert gate.cancelled == 0

    run(main())


def test_a_batch_that_nobody_waits_for_is_cancelled(run: Run) -> None:
    async def main() -> None:
        gate, double = held()
        tasks = [asyncio.create_task(double(n)) for n in range(3)]
        await asyncio.wait_for(gate.entered.wait(), WAIT_S)
        after = asyncio.create_task(double(7))
        await turns()
        for task in tasks:
            task.cancel()
        await turns()
        assert gate.cancelled == 1
        gate.opened.set()
        assert await after == 14
        assert gate.seen == [[0, 1, 2], [7]]

    run(main())


def test_a_batch_cancelled_before_it_has_begun(run: Run) -> None:
    async def main() -> None:
        gate, double = held()
        task = asyncio.create_task(double(1))
        await asyncio.sleep(0)  # it has made the batch's task, which has not had its turn
        task.cancel()
        gate.opened.set()
        after = asyncio.create_task(double(2))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await after == 4
        assert double.queue_stats()["running"] == 0

    run(main())


def test_deadlines_overload_and_priorities(run: Run) -> None:
    async def main() -> None:
        gate, echo = held(max_queue_size=3, timeout_s=WAIT_S, name="slow", max_batch_size=1)
        first = await busy(gate, echo)
        with pytest.raises(DeadlineError, match=r"`slow` did not answer within 0\.01 s: dropped"):
            await echo(1, timeout_s=0.01)
        with pytest.raises(DeadlineError, match=r"`slow` was given 0 s.*above 0"):
            await echo(1, timeout_s=0)
        with pytest.raises(ValueError, match="got nan"):
            await echo(1, timeout_s=float("nan"))
        rest = [asyncio.create_task(echo(n, priority=n)) for n in (1, 2, 3)]
        await turns()
        with pytest.raises(OverloadedError, match="3 items wait, max_queue_size is 3") as caught:
            await echo(4)
        assert caught.value.retry_after_s > 0
        gate.opened.set()
        assert await asyncio.gather(first, *rest) == [0, 2, 4, 6]
        assert gate.seen == [[0], [3], [2], [1]]
        assert (echo.report().refused, echo.report().expired) == (1, 1)

    run(main())


def test_time_that_runs_out_while_the_function_runs(run: Run) -> None:
    async def main() -> None:
        gate, double = held()
        with pytest.raises(DeadlineError, match="still running") as caught:
            await double(1, timeout_s=0.01)
        assert caught.value.timeout_s == 0.01
        assert caught.value.model == double.name
        await turns()
        assert gate.cancelled == 1  # it was alone
        with pytest.raises(DeadlineError):
            await double.many([1, 2], timeout_s=0.01)

    run(main())


def test_a_call_that_is_sure_to_be_late_is_refused_at_once(run: Run) -> None:
    async def main(clock: Clock) -> None:
        gate, double = held(max_batch_size=1)
        first = await busy(gate, double)
        waiting = [asyncio.create_task(double(n)) for n in range(1, 4)]
        await turns()
        clock.advance(2)  # as long as the first run has taken at least
        with pytest.raises(OverloadedError, match=r"it would wait 6 s of the 5 s it has") as caught:
            await double(9, timeout_s=5)
        assert caught.value.retry_after_s == pytest.approx(1)
        urgent = asyncio.create_task(double(8, timeout_s=5, priority=1))
        await turns()
        gate.opened.set()
        assert await asyncio.gather(first, *waiting, urgent) == [0, 2, 4, 6, 16]
        assert gate.seen[1] == [8]

    with Clock() as clock:
        run(main(clock))


def test_deadlines_are_on_the_clock_of_a_test(run: Run) -> None:
    async def main(clock: Clock) -> None:
        gate, double = held(max_batch_size=1)
        first = await busy(gate, double)
        second = asyncio.create_task(double(1, timeout_s=1000))
        await turns()
        clock.advance(999)
        await turns()
        assert not second.done()
        with pytest.raises(OverloadedError, match=r"it would wait 999 s of the 998 s it has"):
            await double(9, timeout_s=998)
        clock.advance(1)
        with pytest.raises(DeadlineError, match="within 1000 s: dropped from the queue"):
            await second
        gate.opened.set()
        assert await first == 0

    with Clock() as clock:
        run(main(clock))


def test_a_crowd_with_deadlines_is_not_refused_by_a_function_that_never_ran(run: Run) -> None:
    async def main() -> None:
        gate, double = held(max_batch_size=8)
        gate.opened.set()
        calls = [double(n, timeout_s=WAIT_S) for n in range(200)]
        assert await asyncio.gather(*calls) == [2 * n for n in range(200)]

    run(main())


def test_instances_run_side_by_side(run: Run) -> None:
    async def main() -> None:
        inside = most = 0

        @infersdk.batched(instances=3, max_batch_size=2)
        async def echo(items: list[int]) -> list[int]:
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await turns()
            inside -= 1
            return items

        assert await asyncio.gather(*map(echo, range(50))) == list(range(50))
        assert most == 3

    run(main())


def test_many_is_cut_into_parts_that_may_share_calls(run: Run) -> None:
    async def main() -> None:
        gate, double = held(max_batch_size=4)
        first = await busy(gate, double)
        small = [asyncio.create_task(double.many([n, n + 1])) for n in (10, 20)]
        await turns()
        gate.opened.set()
        assert await first == 0
        assert await asyncio.gather(*small) == [[20, 22], [40, 42]]
        assert await double.many(range(10)) == [2 * n for n in range(10)]
        assert [len(items) for items in gate.seen] == [1, 4, 4, 4, 2]

    run(main())


def test_what_the_function_awaits_may_be_cancelled(run: Run) -> None:
    async def main() -> None:
        @infersdk.batched
        async def fails(items: list[str]) -> list[str]:
            if "bad" in items:
                raise asyncio.CancelledError
            return items

        calls = [asyncio.create_task(fails(item)) for item in ("good", "bad", "fine")]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert (answers[0], answers[2]) == ("good", "fine")
        assert isinstance(answers[1], asyncio.CancelledError)

    run(main())


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_ends_the_loop(kind: type[BaseException]) -> None:
    @infersdk.batched
    async def fails(items: list[int]) -> list[int]:
        raise kind

    async def main() -> Any:
        return await asyncio.gather(*map(fails, range(3)))

    with pytest.raises(kind):
        asyncio.run(main())


def test_answers_must_fit(run: Run) -> None:
    async def main() -> None:
        @infersdk.batched
        async def short(items: list[int]) -> Any:
            return items[1:]

        @infersdk.batched
        async def lazy(items: list[int]) -> Any:
            return map(str, items)

        @infersdk.batched
        async def rows(items: list[int]) -> np.ndarray:
            return np.array([items, items]).T

        with pytest.raises(TypeError, match="short` must return one answer for each of 1 items"):
            await short(1)
        with pytest.raises(TypeError, match=r"lazy` must return a list .* got map"):
            await lazy(1)
        row = await rows(3)
        assert row.tolist() == [3, 3]
        assert row.base is None

    run(main())


def test_closing(run: Run) -> None:
    async def main() -> None:
        gate, echo = held()
        async with echo:
            calls = [await busy(gate, echo)]
            calls += [asyncio.create_task(echo(n)) for n in range(1, 20)]
            await turns()
            asyncio.get_running_loop().call_soon(gate.opened.set)
        assert [call.result() for call in calls] == [2 * n for n in range(20)]
        with pytest.raises(ClosedError, match="double` is closed"):
            await echo(1)
        echo.close()
        await echo.aclose()

    run(main())


def test_a_function_that_closes_itself(run: Run) -> None:
    async def main() -> None:
        @infersdk.batched
        async def closes(items: list[int]) -> list[int]:
            await closes.aclose()
            return items

        with pytest.raises(RuntimeError, match="cannot be closed from inside"):
            await closes(1)

    run(main())


def test_a_function_that_calls_itself(run: Run) -> None:
    async def main() -> None:
        @infersdk.batched
        async def factorial(numbers: list[int]) -> list[int]:
            return [n * await factorial(n - 1) if n else 1 for n in numbers]

        assert await asyncio.gather(factorial(5), factorial(3)) == [120, 6]

    run(main())


def test_a_callers_context_is_its_own(run: Run) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    async def main() -> None:
        @infersdk.batched
        async def read(items: list[int]) -> list[str]:
            return [variable.get()] * len(items)

        variable.set("a request's")
        assert await asyncio.gather(read(1), read(2)) == ["none", "none"]

    run(main())


def test_several_loops_in_several_threads() -> None:
    @infersdk.batched(max_batch_size=8)
    async def double(items: list[int]) -> list[int]:
        await asyncio.sleep(0)
        return [2 * item for item in items]

    async def main() -> list[int]:
        return await asyncio.gather(*map(double, range(200)))

    def work(_: int) -> None:
        for _ in range(5):
            assert asyncio.run(main()) == [2 * n for n in range(200)]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    report = double.report()
    assert report.items + report.calls_at_once == 4 * 5 * 200
    assert (report.waiting, report.running) == (0, 0)


def test_a_loop_that_ends_while_calls_wait(run: Run) -> None:
    gates: list[Gate] = []

    @infersdk.batched(max_batch_size=2)
    async def held_up(items: list[int]) -> list[int]:
        await gates[0].pass_through(items)
        return items

    async def abandon() -> weakref.ref[Any]:
        gates[:] = [Gate()]
        tasks = [asyncio.create_task(held_up(n)) for n in range(10)]
        await asyncio.wait_for(gates[0].entered.wait(), WAIT_S)
        assert len(tasks) == 10
        return weakref.ref(asyncio.get_running_loop())

    async def use() -> list[int]:
        gates[:] = [Gate()]
        gates[0].opened.set()
        return await asyncio.gather(*map(held_up, range(10)))

    loop = run(abandon())
    assert run(use()) == list(range(10))
    report = held_up.report()
    assert (report.waiting, report.running) == (0, 0)
    gates.clear()
    gc.collect()
    assert loop() is None


def test_a_loop_that_is_closed_under_its_calls() -> None:
    @infersdk.batched
    async def forever(items: list[int]) -> list[int]:
        await asyncio.Event().wait()
        return items

    loop = asyncio.new_event_loop()
    task = loop.create_task(forever(1))
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    loop.close()
    unraisable: list[Any] = []
    before, sys.unraisablehook = sys.unraisablehook, unraisable.append
    loop.set_exception_handler(lambda *_: None)  # says that the tasks were pending
    try:
        reference = weakref.ref(loop)
        del task, loop
        gc.collect()
    finally:
        sys.unraisablehook = before
    assert reference() is None
    assert not unraisable
    assert forever.report().running == 0


class Client:
    def __init__(self, offset: int) -> None:
        self.offset = offset

    @infersdk.batched(max_batch_size=8)
    async def add(self, numbers: list[int]) -> list[int]:
        """Add."""
        await asyncio.sleep(0)
        return [number + self.offset for number in numbers]

    @staticmethod
    @infersdk.batched
    async def double(numbers: list[int]) -> list[int]:
        return [2 * number for number in numbers]


def test_a_method_has_a_queue_for_each_instance(run: Run) -> None:
    async def main() -> None:
        one, ten = Client(1), Client(10)
        assert await asyncio.gather(*map(one.add, range(50))) == list(range(1, 51))
        assert await asyncio.gather(ten.add(1), one.add(1)) == [11, 2]
        assert await Client.double(4) == 8
        assert await one.add.many(range(20)) == list(range(1, 21))
        assert await one.add.function([1]) == [2]
        assert one.add.__doc__ == Client.add.__doc__ == "Add."
        await one.add.aclose()
        with pytest.raises(ClosedError, match=r"Client\.add` is closed"):
            await one.add(1)
        assert await ten.add(1) == 11

    run(main())


def test_an_instance_is_let_go(run: Run) -> None:
    client = Client(1)
    assert run(client.add.many(range(5))) == [1, 2, 3, 4, 5]
    reference = weakref.ref(client)
    del client
    gc.collect()
    assert reference() is None


def test_it_is_the_function_to_whoever_asks() -> None:
    assert isinstance(Client.add, AsyncBatchedMethod)
    for one in (lengths, Client(1).add, Client.add):
        assert inspect.iscoroutinefunction(one)
        assert asyncio.iscoroutinefunction(one)
    assert not inspect.iscoroutinefunction(infersdk.batched(sorted))
    assert repr(lengths) == "<infersdk AsyncBatchedFunction `lengths`>"
    assert pickle.loads(pickle.dumps(lengths)) is lengths
    assert pickle.loads(pickle.dumps(Client.add)) is Client.add
    assert asyncio.run(pickle.loads(pickle.dumps(Client(7).add))(1)) == 8
    with pytest.raises(TypeError, match=r"`Client\.add` takes more than a list"):
        Client.add(1)


def test_other_async_callables(run: Run) -> None:
    class Doubles:
        async def __call__(self, items: list[int]) -> list[int]:
            return [item * 2 for item in items]

    async def scaled(scale: int, items: list[int]) -> list[int]:
        return [item * scale for item in items]

    async def main() -> None:
        for function in (Doubles(), functools.partial(scaled, 2)):
            double: Any = infersdk.batched(function)
            assert isinstance(double, AsyncBatchedFunction)
            assert await double(2) == 4

    run(main())


def test_an_async_generator_is_refused() -> None:
    async def generator(items: list[int]) -> AsyncIterator[list[int]]:
        yield items

    with pytest.raises(TypeError, match="generator` is a generator"):
        infersdk.batched(generator)  # type: ignore[call-overload]


def test_nothing_is_left_unread() -> None:
    """A task cancelled in the turn in which its exception arrives."""
    messages: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: messages.append(context)
        )
        gate = Gate()

        @infersdk.batched
        async def fails(items: list[int]) -> list[int]:
            await gate.pass_through(items)
            raise ValueError("no")

        task = await busy(gate, fails)
        gate.opened.set()
        while not fails.report().failed:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, ValueError)):
            await task

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
        gc.collect()
    assert not messages


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_a_child_of_a_fork() -> None:
    entered, opened = threading.Event(), threading.Event()

    @infersdk.batched
    async def double(numbers: list[int]) -> list[int]:
        entered.set()
        await asyncio.to_thread(opened.wait, WAIT_S)
        return [2 * number for number in numbers]

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(lambda: asyncio.run(double.many(range(100))))
        assert entered.wait(WAIT_S)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                opened.set()
                assert double.report().running == 0
                status = 0 if asyncio.run(double.many(range(3))) == [0, 2, 4] else 2
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        opened.set()
        assert first.result(WAIT_S) == [2 * n for n in range(100)]
