"""A Python function behind the native queue: who shares a call, who gets an error, and who owns what."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from infersdk._native import Completions, FunctionQueue
from infersdk.errors import ClosedError, DeadlineError, OverloadedError
from infersdk.runtime.waiting import loop_calls

WAIT_S = 30


class Gate:
    """A function that doubles its items, and waits inside its first call until it is told to go on."""

    def __init__(self, answer: Callable[[list[Any]], Any] | None = None) -> None:
        self.answer = answer or (lambda items: [item * 2 for item in items])
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.batches: list[list[Any]] = []

    def __call__(self, items: list[Any]) -> Any:
        self.batches.append(list(items))
        if not self.entered.is_set():
            self.entered.set()
            assert self.opened.wait(WAIT_S)
        return self.answer(items)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(64) as threads:
        yield threads


def waiting(queue: FunctionQueue, n_rows: int) -> None:
    """Until that many rows wait."""
    done = threading.Event()
    for _ in range(10 * WAIT_S * 100):
        if queue.stats()["queued_rows"] == n_rows:
            return
        done.wait(0.001)
    raise AssertionError(queue.stats())


def busy(pool: ThreadPoolExecutor, gate: Gate, queue: FunctionQueue, values: list[Any]) -> Any:
    """Let one call occupy the function and others wait; gives the futures of all."""
    first = pool.submit(queue.call, 0)
    assert gate.entered.wait(WAIT_S)
    rest = []
    for n, value in enumerate(values, 1):
        rest.append(pool.submit(queue.call, value))
        waiting(queue, n)
    return [first, *rest]


def test_what_waits_goes_into_one_call(pool: ThreadPoolExecutor) -> None:
    gate = Gate()
    queue = FunctionQueue(gate, name="double", max_batch_size=8)
    futures = busy(pool, gate, queue, list(range(1, 20)))
    gate.opened.set()
    assert [future.result(WAIT_S) for future in futures] == [2 * n for n in range(20)]
    assert [len(batch) for batch in gate.batches] == [1, 8, 8, 3]
    stats = queue.stats()
    assert (stats["inline_runs"], stats["batches"], stats["batched_rows"]) == (1, 3, 19)


@pytest.mark.parametrize("bad", range(32))
def test_one_bad_item_fails_alone(pool: ThreadPoolExecutor, bad: int) -> None:
    def answer(items: list[int]) -> list[int]:
        for item in items:
            if item == bad + 1:
                raise KeyError("no such item", item)
        return [item * 2 for item in items]

    gate = Gate(answer)
    queue = FunctionQueue(gate, name="double")
    futures = busy(pool, gate, queue, list(range(1, 33)))
    gate.opened.set()
    for n, future in enumerate(futures):
        if n == bad + 1:
            error = future.exception(WAIT_S)
            assert type(error) is KeyError
            assert error.args == ("no such item", n)
            assert "answer" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        else:
            assert future.result(WAIT_S) == 2 * n
    assert queue.stats()["failed"] == 1


@pytest.mark.parametrize(
    "error",
    [StopIteration("end"), SystemExit(3), KeyboardInterrupt(), MemoryError(), OSError(2, "x")],
)
def test_any_exception_reaches_its_caller_as_it_is(
    pool: ThreadPoolExecutor, error: BaseException
) -> None:
    def answer(items: list[Any]) -> list[Any]:
        if "bad" in items:
            raise error
        return items

    def call(value: Any) -> Any:
        try:
            return queue.call(value)
        except BaseException as raised:
            return raised

    gate = Gate(answer)
    queue = FunctionQueue(gate, name="same")
    first = pool.submit(call, 0)
    assert gate.entered.wait(WAIT_S)
    queued = [pool.submit(call, value) for value in ("bad", 1)]
    waiting(queue, 2)
    gate.opened.set()
    assert [first.result(WAIT_S), *(f.result(WAIT_S) for f in queued)] == [0, error, 1]
    assert call("bad") is error  # also in the caller's own thread


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")

    __repr__ = __str__


def test_an_exception_that_cannot_be_printed(pool: ThreadPoolExecutor) -> None:
    def answer(items: list[Any]) -> list[Any]:
        if 1 in items:
            raise UnprintableError
        return items

    gate = Gate(answer)
    queue = FunctionQueue(gate, name="same")
    futures = busy(pool, gate, queue, [1, 2])
    gate.opened.set()
    assert isinstance(futures[1].exception(WAIT_S), UnprintableError)
    assert futures[2].result(WAIT_S) == 2


def coroutine(items: list[Any]) -> Any:
    async def answer() -> list[Any]:
        return items

    return answer()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda items: None, "must return a list .* for each of 1 items, got NoneType None"),
        (lambda items: (item for item in items), "must return a list .* got generator"),
        (lambda items: iter(items), "must return a list .* got list_iterator"),
        (lambda items: {item: item for item in items}, "must return a list .* got dict"),
        (lambda items: set(items), "must return a list .* got set"),
        (lambda items: "a" * len(items), "must return a list .* got str"),
        (lambda items: np.float64(3), "must return a list"),
        (lambda items: np.array(3), "must return a list"),
        (coroutine, "must return a list .* got coroutine"),
        (lambda items: [], "one answer for each of 1 items, got 0 answers"),
        (lambda items: [*items, 1], "one answer for each of 1 items, got 2 answers"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_wrong_answers_are_refused(answer: Callable[[list[Any]], Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        FunctionQueue(answer, name="wrong").call(0)


def test_too_few_answers_for_a_batch_only(pool: ThreadPoolExecutor) -> None:
    gate = Gate(lambda items: sorted(set(items)))
    queue = FunctionQueue(gate, name="unique")
    futures = busy(pool, gate, queue, [5, 5, 5])
    gate.opened.set()
    assert [future.result(WAIT_S) for future in futures] == [0, 5, 5, 5]


def test_a_function_may_take_its_list_apart() -> None:
    def answer(items: list[int]) -> list[int]:
        answers = []
        while items:
            answers.append(items.pop(0) + 1)
        return answers

    queue = FunctionQueue(answer, name="pops", many=True)
    assert queue.call([1, 2, 3], n_rows=3) == [2, 3, 4]


def test_arrays_series_and_tensors_are_answers_by_position() -> None:
    pandas = pytest.importorskip("pandas")
    buffer = np.zeros((2, 3))

    def fill(items: list[Any]) -> Any:
        buffer[:] = np.array(items)[:, None]
        return buffer[: len(items)]

    queue = FunctionQueue(fill, name="fill", many=True)
    first, second = queue.call([1, 2], n_rows=2)
    assert queue.call([7], n_rows=1)[0].tolist() == [7, 7, 7]
    # Not views of what the function uses again.
    assert first.tolist() == [1, 1, 1]
    assert second.tolist() == [2, 2, 2]
    series = FunctionQueue(lambda items: pandas.Series(items, index=[9, 0]), name="s", many=True)
    assert series.call(["a", "b"], n_rows=2) == ["a", "b"]
    torch = pytest.importorskip("torch")
    tensors = FunctionQueue(lambda items: torch.tensor(items), name="t", many=True)
    assert [float(answer) for answer in tensors.call([1.5, 2.5], n_rows=2)] == [1.5, 2.5]


def test_lists_of_items_are_put_together_and_cut(pool: ThreadPoolExecutor) -> None:
    gate = Gate()
    queue = FunctionQueue(gate, name="double", many=True, max_batch_size=8)
    first = pool.submit(queue.call, [0])
    assert gate.entered.wait(WAIT_S)
    rest = []
    for n, values in ((3, [1, 2, 3]), (3, []), (5, [4, 5])):
        rest.append(pool.submit(queue.call, values, n_rows=len(values)))
        waiting(queue, n)
    gate.opened.set()
    assert [f.result(WAIT_S) for f in (first, *rest)] == [[0], [2, 4, 6], [], [8, 10]]
    assert [len(gate.batches[0]) - 1, len(gate.batches[1])] == [0, 5]


def test_lanes_do_not_meet(pool: ThreadPoolExecutor) -> None:
    gate = Gate()
    queue = FunctionQueue(gate, name="double")
    first = pool.submit(queue.call, 0)
    assert gate.entered.wait(WAIT_S)
    rest = []
    for n in range(1, 7):
        rest.append(pool.submit(queue.call, n, lane=("even", n % 2)))
        waiting(queue, n)
    gate.opened.set()
    assert [f.result(WAIT_S) for f in (first, *rest)] == [2 * n for n in range(7)]
    assert sorted(gate.batches[1:]) == [[1, 3, 5], [2, 4, 6]]


def test_lanes_that_are_met_at_the_same_time_are_two(pool: ThreadPoolExecutor) -> None:
    """Hashing a lane may let another thread go on, here the same one: with a lane of its own."""

    class Lane:
        def __init__(self) -> None:
            self.seen = False

        def __hash__(self) -> int:
            if not self.seen:
                self.seen = True
                queue.start("b", completions, lane="another")
            return 1

    gate = Gate()
    queue = FunctionQueue(gate, name="double")
    completions = Completions()
    first = pool.submit(queue.call, "0")
    assert gate.entered.wait(WAIT_S)
    queue.start("a", completions, lane=Lane())
    gate.opened.set()
    first.result(WAIT_S)
    queue.close()
    assert sorted(gate.batches) == [["0"], ["a"], ["b"]]


def test_priorities_go_first(pool: ThreadPoolExecutor) -> None:
    gate = Gate()
    queue = FunctionQueue(gate, name="double", max_batch_size=1)
    first = pool.submit(queue.call, 0)
    assert gate.entered.wait(WAIT_S)
    rest = []
    for n in range(1, 5):
        rest.append(pool.submit(queue.call, n, priority=n))
        waiting(queue, n)
    gate.opened.set()
    assert [f.result(WAIT_S) for f in (first, *rest)] == [0, 2, 4, 6, 8]
    assert gate.batches == [[0], [4], [3], [2], [1]]


def test_overload_and_deadlines(pool: ThreadPoolExecutor) -> None:
    gate = Gate()
    queue = FunctionQueue(gate, name="double", max_queue_size=2)
    futures = busy(pool, gate, queue, [1, 2])
    with pytest.raises(
        OverloadedError, match="`double` is overloaded: the queue is full"
    ) as caught:
        queue.call(3)
    assert caught.value.retry_after_s > 0
    assert caught.value.model == "double"
    gate.opened.set()
    assert [future.result(WAIT_S) for future in futures] == [0, 2, 4]

    gate = Gate()
    queue = FunctionQueue(gate, name="double", timeout_s=0.02)
    first = pool.submit(queue.call, 0)
    assert gate.entered.wait(WAIT_S)
    with pytest.raises(DeadlineError, match="`double` did not answer in time"):
        queue.call(1)
    with pytest.raises(DeadlineError):
        queue.call(1, timeout_s=0)
    gate.opened.set()
    # Begun in its own thread, it is finished and answered.
    assert first.result(WAIT_S) == 0
    assert queue.call(4, timeout_s=WAIT_S) == 8
    assert [4] in gate.batches
    assert [1] not in gate.batches


def test_a_call_that_was_left_lets_go_of_its_value() -> None:
    """Callers leave at their deadline while a batch is at work on their values, and then fails."""

    class Value:
        pass

    gate = Gate(lambda items: None)
    queue = FunctionQueue(gate, name="wrong")
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(queue.call, Value())
        assert gate.entered.wait(WAIT_S)
        values = [Value() for _ in range(4)]
        references = [weakref.ref(value) for value in values]
        left = [pool.submit(queue.call, value, timeout_s=0.05) for value in values]
        del values
        for future in left:
            assert isinstance(future.exception(WAIT_S), DeadlineError)
        gate.opened.set()
        assert isinstance(first.exception(WAIT_S), TypeError)
    gate.batches.clear()
    queue.close()
    del left, future, first
    gc.collect()
    assert [reference() for reference in references] == [None] * 4


def test_a_queue_outlives_its_calls(pool: ThreadPoolExecutor) -> None:
    gate = Gate()
    queue = FunctionQueue(gate, name="double")
    futures = busy(pool, gate, queue, [1, 2, 3])
    reference = weakref.ref(queue)
    del queue
    gate.opened.set()
    assert [future.result(WAIT_S) for future in futures] == [0, 2, 4, 6]
    del futures
    pool.shutdown()
    gc.collect()
    assert reference() is None


def test_a_batcher_keeps_what_is_local_to_its_thread(pool: ThreadPoolExecutor) -> None:
    local = threading.local()
    made: list[int] = []

    def answer(items: list[Any]) -> list[Any]:
        if not hasattr(local, "made"):
            local.made = True
            made.append(threading.get_ident())
        return items

    gate = Gate(answer)
    queue = FunctionQueue(gate, name="local", max_batch_size=1)
    futures = busy(pool, gate, queue, list(range(1, 21)))
    gate.opened.set()
    assert [future.result(WAIT_S) for future in futures] == list(range(21))
    assert len(made) == 2  # the first caller's thread, and the batcher's


def test_a_call_from_inside_the_function_does_not_wait_for_itself() -> None:
    queue: FunctionQueue

    def factorials(items: list[int]) -> list[int]:
        return [item * queue.call(item - 1) if item else 1 for item in items]

    queue = FunctionQueue(factorials, name="factorials")
    assert queue.call(10) == 3628800
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(queue.call, [5] * 64)) == [120] * 64


def test_a_function_cannot_close_its_own_queue() -> None:
    queue: FunctionQueue

    def ends(items: list[Any]) -> list[Any]:
        queue.close()
        return items

    queue = FunctionQueue(ends, name="ends")
    with pytest.raises(RuntimeError, match="`ends` cannot be closed from inside its own function"):
        queue.call(1)
    queue.close()


def test_closing_answers_what_is_queued(pool: ThreadPoolExecutor) -> None:
    gate = Gate()
    queue = FunctionQueue(gate, name="double")
    futures = busy(pool, gate, queue, [1, 2, 3])
    closing = pool.submit(queue.close)
    for _ in range(WAIT_S * 1000):  # until it has begun
        try:
            queue.start(1, Completions())
        except ClosedError:
            break
    gate.opened.set()
    closing.result(WAIT_S)
    assert [future.result(WAIT_S) for future in futures] == [0, 2, 4, 6]
    with pytest.raises(ClosedError, match="`double` is closed"):
        queue.call(1)
    with pytest.raises(ClosedError):
        queue.start(1, Completions())
    queue.close()


def test_tasks_share_calls_and_may_be_cancelled() -> None:
    gate = Gate()
    queue = FunctionQueue(gate, name="double", max_batch_size=64)

    async def call(value: int) -> Any:
        calls = loop_calls()
        return await calls.wait(queue.start(value, calls.completions), None, model="double")

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(call(0))]
        assert await asyncio.to_thread(gate.entered.wait, WAIT_S)
        tasks += [asyncio.create_task(call(value)) for value in range(1, 65)]
        while queue.stats()["queued_rows"] < 64:
            await asyncio.sleep(0)
        for task in tasks[1::4]:
            task.cancel()
        await asyncio.sleep(0)
        gate.opened.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(main())
    for value, answer in enumerate(answers):
        if value % 4 == 1:
            assert isinstance(answer, asyncio.CancelledError)
        else:
            assert answer == 2 * value
    assert [len(batch) for batch in gate.batches] == [1, 48]
    assert queue.stats()["cancelled"] == 16


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_a_child_starts_its_own_threads(pool: ThreadPoolExecutor) -> None:
    gate = Gate()
    queue = FunctionQueue(gate, name="double")
    futures = busy(pool, gate, queue, [1, 2])  # a batcher is at work in the parent, and calls wait
    child = os.fork()
    if child == 0:
        status = 1
        try:
            gate.opened.set()
            with ThreadPoolExecutor(16) as own:
                answers = list(own.map(queue.call, range(200)))
            queue.close()  # waits for none of the parent's calls
            status = 0 if answers == [2 * n for n in range(200)] else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    gate.opened.set()
    assert [future.result(WAIT_S) for future in futures] == [0, 2, 4]
    queue.close()
