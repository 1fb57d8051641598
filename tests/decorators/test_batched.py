"""@batched: a function of a list, called with one item. The oracle is the plain function."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk import ClosedError, DeadlineError, OverloadedError
from infersdk.decorators import BatchedFunction, BatchedMethod

WAIT_S = 30


@infersdk.batched
def lengths(texts: list[str]) -> list[int]:
    """How long texts are."""
    return [len(text) for text in texts]


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(40) as threads:
        yield threads


class Gate:
    """Holds the first call of a function until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.sizes: list[int] = []

    def pass_through(self, items: list[Any]) -> None:
        self.sizes.append(len(items))
        if not self.entered.is_set():
            self.entered.set()
            assert self.opened.wait(WAIT_S)


def queued(function: BatchedFunction[Any, Any], n_rows: int) -> None:
    """Wait until that many items wait."""
    pause = threading.Event()
    for _ in range(1000 * WAIT_S):
        if function.queue_stats()["queued_rows"] == n_rows:
            return
        pause.wait(0.001)
    raise AssertionError(function.queue_stats())


def test_an_item_is_answered_as_in_a_list() -> None:
    assert lengths("three") == lengths.function(["three"])[0] == 5
    assert lengths.many(["a", "bb", ""]) == [1, 2, 0]
    assert lengths.many(iter(["a", "bb"])) == [1, 2]
    assert lengths.many([]) == []
    assert asyncio.run(lengths.acall("four")) == 4


def test_it_is_the_function_to_whoever_asks() -> None:
    assert lengths.__name__ == "lengths"
    assert lengths.__doc__ == "How long texts are."
    assert lengths.__module__ == __name__
    assert lengths.__wrapped__ is lengths.function  # type: ignore[attr-defined]
    assert repr(lengths) == "<infersdk BatchedFunction `lengths`>"
    assert pickle.loads(pickle.dumps(lengths)) is lengths


def test_a_local_function_is_not_pickled() -> None:
    local: BatchedFunction[Any, Any] = infersdk.batched(lambda items: items)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(local)


@pytest.mark.parametrize("bad", [*range(0, 32, 5), 31])
def test_concurrent_calls_share_and_one_bad_item_fails_alone(
    pool: ThreadPoolExecutor, bad: int
) -> None:
    gate = Gate()

    @infersdk.batched(max_batch_size=16)
    def halve(numbers: list[int]) -> list[float]:
        gate.pass_through(numbers)
        if bad in numbers:
            raise LookupError(f"{bad} is bad")
        return [number / 2 for number in numbers]

    first = pool.submit(halve, -2)
    assert gate.entered.wait(WAIT_S)
    rest = [pool.submit(halve, number) for number in range(32)]
    queued(halve, 32)
    gate.opened.set()
    assert first.result(WAIT_S) == -1
    for number, future in enumerate(rest):
        if number == bad:
            error = future.exception(WAIT_S)
            assert type(error) is LookupError
            assert "halve" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        else:
            assert future.result(WAIT_S) == number / 2
    assert gate.sizes[0] == 1
    assert max(gate.sizes) == 16


def test_many_is_cut_into_parts_that_may_share_calls(pool: ThreadPoolExecutor) -> None:
    gate = Gate()

    @infersdk.batched(max_batch_size=4)
    def negative(numbers: list[int]) -> np.ndarray:
        gate.pass_through(numbers)
        return -np.array(numbers)

    first = pool.submit(negative, 1)
    assert gate.entered.wait(WAIT_S)
    small = [pool.submit(negative.many, [n, n + 1]) for n in (10, 20)]
    queued(negative, 4)
    gate.opened.set()
    assert first.result(WAIT_S) == -1
    assert [future.result(WAIT_S) for future in small] == [[-10, -11], [-20, -21]]
    assert gate.sizes == [1, 4]
    assert negative.many(range(10)) == [-n for n in range(10)]
    assert gate.sizes == [1, 4, 4, 4, 2]


def test_tasks_share_calls_and_may_be_cancelled() -> None:
    gate = Gate()

    @infersdk.batched(max_batch_size=64)
    def double(numbers: list[int]) -> list[int]:
        gate.pass_through(numbers)
        return [number * 2 for number in numbers]

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(double.acall(0))]
        assert await asyncio.to_thread(gate.entered.wait, WAIT_S)
        tasks += [asyncio.create_task(double.acall(number)) for number in range(1, 65)]
        while double.queue_stats()["queued_rows"] < 64:
            await asyncio.sleep(0)
        for task in tasks[2::3]:
            task.cancel()
        await asyncio.sleep(0)
        gate.opened.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    for number, answer in enumerate(asyncio.run(main())):
        if number % 3 == 2:
            assert isinstance(answer, asyncio.CancelledError)
        else:
            assert answer == 2 * number
    assert gate.sizes == [1, 64 - double.queue_stats()["cancelled"]]


@pytest.mark.parametrize(
    "error", [ValueError("no"), StopIteration("end"), ExceptionGroup("g", [OSError()])]
)
def test_a_task_gets_its_own_exception(error: Exception) -> None:
    @infersdk.batched
    def fails(items: list[str]) -> list[str]:
        if "bad" in items:
            raise error
        return items

    async def main() -> list[Any]:
        calls = [fails.acall(item) for item in ("good", "bad", "fine")]
        return await asyncio.gather(*calls, return_exceptions=True)

    good, bad, fine = asyncio.run(main())
    assert (good, fine) == ("good", "fine")
    if isinstance(error, StopIteration):
        assert isinstance(bad, RuntimeError)  # as no coroutine may raise the other
    else:
        assert bad is error


def test_deadlines_and_overload(pool: ThreadPoolExecutor) -> None:
    gate = Gate()

    @infersdk.batched(max_queue_size=3, timeout_s=WAIT_S, name="slow")
    def echo(items: list[Any]) -> list[Any]:
        gate.pass_through(items)
        return items

    first = pool.submit(echo, 0)
    assert gate.entered.wait(WAIT_S)
    with pytest.raises(DeadlineError, match="`slow` did not answer in time"):
        echo(1, timeout_s=0.01)
    with pytest.raises(DeadlineError, match="slow"):
        echo.many([1, 2], timeout_s=0.01)
    with pytest.raises(DeadlineError, match="slow"):
        asyncio.run(echo.acall(1, timeout_s=0.01))
    rest = [pool.submit(echo, n, priority=n) for n in (1, 2, 3)]
    queued(echo, 3)
    with pytest.raises(OverloadedError, match="`slow` is overloaded") as caught:
        echo(4)
    assert caught.value.retry_after_s > 0
    with pytest.raises(OverloadedError):
        asyncio.run(echo.acall(4))
    gate.opened.set()
    assert [future.result(WAIT_S) for future in (first, *rest)] == [0, 1, 2, 3]
    assert (echo.queue_stats()["refused"], echo.queue_stats()["expired"]) == (2, 3)


def test_closing_while_busy(pool: ThreadPoolExecutor) -> None:
    gate = Gate()

    @infersdk.batched
    def echo(items: list[Any]) -> list[Any]:
        gate.pass_through(items)
        return items

    with echo:
        futures = [pool.submit(echo, 0)]
        assert gate.entered.wait(WAIT_S)
        futures += [pool.submit(echo, n) for n in range(1, 20)]
        queued(echo, 19)
        pool.submit(gate.opened.set)
    assert [future.result(0) for future in futures] == list(range(20))
    with pytest.raises(ClosedError, match="echo` is closed"):
        echo(1)
    with pytest.raises(ClosedError):
        asyncio.run(echo.acall(1))
    echo.close()


class Encoder:
    def __init__(self, offset: int) -> None:
        self.offset = offset

    # Equal to all others, and without a hash.
    def __eq__(self, other: object) -> bool:
        return True

    @infersdk.batched(max_batch_size=8)
    def encode(self, numbers: list[int]) -> list[int]:
        """Encode."""
        return [number + self.offset for number in numbers]

    @staticmethod
    @infersdk.batched
    def double(numbers: list[int]) -> list[int]:
        return [2 * number for number in numbers]


def test_a_method_has_a_queue_for_each_instance(pool: ThreadPoolExecutor) -> None:
    one, ten = Encoder(1), Encoder(10)
    assert (one.encode(1), ten.encode(1), Encoder.double(4), one.double(4)) == (2, 11, 8, 8)
    assert list(pool.map(one.encode, range(200))) == list(range(1, 201))
    assert list(pool.map(ten.encode, range(200))) == list(range(10, 210))
    assert asyncio.run(ten.encode.acall(5)) == 15
    assert one.encode.many(range(20)) == list(range(1, 21))
    assert one.encode.function([1]) == [2]
    assert one.encode.__doc__ == Encoder.encode.__doc__ == "Encode."
    one.encode.close()
    with pytest.raises(ClosedError, match=r"Encoder\.encode` is closed"):
        one.encode(1)
    assert ten.encode(1) == 11


def test_an_instance_is_let_go(pool: ThreadPoolExecutor) -> None:
    encoder = Encoder(1)
    assert list(pool.map(encoder.encode, range(50))) == list(range(1, 51))
    reference = weakref.ref(encoder)
    assert id(encoder) in Encoder.encode._queues
    del encoder
    gc.collect()
    assert reference() is None
    assert not any(entry[0] is reference for entry in Encoder.encode._queues.values())


def test_a_bound_method_is_pickled_with_its_instance() -> None:
    encode = Encoder(7).encode
    assert pickle.loads(pickle.dumps(encode))(1) == 8
    assert pickle.loads(pickle.dumps(Encoder.encode)) is Encoder.encode


def test_threads_that_find_no_queue_yet_find_the_same() -> None:
    barrier = threading.Barrier(16)

    def look(encoder: Encoder) -> Any:
        barrier.wait(WAIT_S)
        return encoder.encode._queue

    with ThreadPoolExecutor(16) as pool:
        for _ in range(20):
            encoder = Encoder(0)
            assert len({id(queue) for queue in pool.map(look, [encoder] * 16)}) == 1


def test_an_instance_that_cannot_be_kept_weakly_is_refused() -> None:
    class Slots:
        __slots__ = ()

        @infersdk.batched
        def echo(self, items: list[int]) -> list[int]:
            return items

    with pytest.raises(TypeError, match=r"__slots__ without `__weakref__`.*add '__weakref__'"):
        Slots().echo(1)


def test_a_method_is_called_on_an_instance() -> None:
    assert isinstance(Encoder.encode, BatchedMethod)
    assert repr(Encoder.encode) == "<infersdk BatchedMethod `Encoder.encode`>"
    with pytest.raises(TypeError, match=r"`Encoder\.encode` takes more than a list"):
        Encoder.encode(1)


async def asynchronous_generator(items: list[Any]) -> Any:
    yield items


def generator(items: list[Any]) -> Any:
    yield from items


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (asynchronous_generator, "`asynchronous_generator` is a generator"),
        (generator, "`generator` is a generator"),
        (lambda: None, "one parameter, .*: none"),
        (lambda a, b, c: None, "one parameter, .*: a, b, c"),
        (lambda a, *, b: None, "one parameter, .*: a, b"),
        (lambda *, b: None, "one parameter, .*: b"),
        (staticmethod(len), "put @staticmethod above @batched"),
        (classmethod(lambda owner: None), "make it a method"),
        (3, "takes a function of a list, got int"),
    ],
)
def test_what_is_no_function_of_a_list_is_refused(function: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        infersdk.batched(function)


@pytest.mark.parametrize(
    "function",
    [
        lambda items, scale=2: [item * scale for item in items],
        lambda *lists: [item * 2 for item in lists[0]],
        functools.partial(lambda scale, items: [item * scale for item in items], 2),
        functools.partial(map, lambda item: item * 2),
    ],
)
def test_other_functions_of_a_list(function: Callable[..., Any]) -> None:
    batched = infersdk.batched(function)
    if isinstance(function, functools.partial) and function.func is map:
        with pytest.raises(TypeError, match=r"must return a list .* got map"):
            batched(2)
    else:
        assert batched(2) == 4


def test_a_callable_object_and_a_builtin() -> None:
    class Doubles:
        def __call__(self, items: list[int]) -> list[int]:
            return [item * 2 for item in items]

    assert infersdk.batched(Doubles())(2) == 4
    builtin: BatchedFunction[int, int] = infersdk.batched(sorted)
    assert builtin(2) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_batch_size": 0}, "max_batch_size must be a whole number"),
        ({"max_queue_size": 1.5}, "max_queue_size must be a whole number"),
        ({"instances": 0}, "instances=. must be a whole number"),
        ({"instances": True}, "instances=. must be a whole number"),
        ({"timeout_s": 0}, "timeout_s must be a positive number"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        infersdk.batched(**options)


def test_an_item_is_exactly_one_argument() -> None:
    with pytest.raises(TypeError):
        lengths("a", "b")  # type: ignore[call-arg, arg-type]
    with pytest.raises(TypeError):
        lengths(texts="a")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        lengths()  # type: ignore[call-arg]


def test_instances_run_side_by_side(pool: ThreadPoolExecutor) -> None:
    barrier = threading.Barrier(3)

    @infersdk.batched(instances=3, max_batch_size=1)
    def meet(items: list[int]) -> list[int]:
        barrier.wait(WAIT_S)  # breaks unless three calls are under way at once
        return items

    assert list(pool.map(meet, range(30))) == list(range(30))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork")
def test_a_child_of_a_fork(pool: ThreadPoolExecutor) -> None:
    gate = Gate()

    @infersdk.batched
    def double(numbers: list[int]) -> list[int]:
        gate.pass_through(numbers)
        return [2 * number for number in numbers]

    first = pool.submit(double, 1)
    assert gate.entered.wait(WAIT_S)
    second = pool.submit(double, 2)
    queued(double, 1)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with ThreadPoolExecutor(8) as own:
                answers = list(own.map(double, range(100)))
            answers.append(asyncio.run(double.acall(100)))
            double.close()
            status = 0 if answers == [2 * n for n in range(101)] else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    gate.opened.set()
    assert (first.result(WAIT_S), second.result(WAIT_S)) == (2, 4)


def test_greenlets_yield_while_they_wait() -> None:
    pytest.importorskip("gevent")
    code = """
        from gevent import monkey; monkey.patch_all()
        import gevent, infersdk
        from infersdk import batched

        sizes = []

        @batched(max_batch_size=8)
        def double(numbers):
            sizes.append(len(numbers))
            return [2 * number for number in numbers]

        jobs = [gevent.spawn(double, number) for number in range(50)]
        gevent.joinall(jobs, timeout=30)
        assert [job.value for job in jobs] == [2 * number for number in range(50)], jobs
        assert sum(sizes) == 50
        assert double.many(range(20)) == [2 * number for number in range(20)]
        jobs = [gevent.spawn(double, number) for number in range(5)]
        gevent.sleep(0)
        double.close()
        gevent.joinall(jobs, timeout=30)
        assert [job.value for job in jobs] == [0, 2, 4, 6, 8], jobs
        print("fine")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=100
    )
    assert done.stdout.strip() == "fine", done.stderr


def test_an_interpreter_that_ends_while_calls_wait() -> None:
    code = """
        import threading, infersdk
        entered = threading.Event()

        @infersdk.batched
        def slow(items):
            entered.set()
            threading.Event().wait(0.2)
            return items

        for n in range(8):
            threading.Thread(target=slow, args=(n,), daemon=True).start()
        entered.wait(30)
        print("fine")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout.strip()) == (0, "fine"), done.stderr
