"""A caller that says nobody waits for the answer: its call ends, and nobody else's."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk import AbandonedError, Execution
from infersdk.runtime.waiting import abandoned_when

WAIT_S = 30


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


class Busy:
    """A batched function whose first call is under way until `opened` is set."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.opened = threading.Event()
        self.seen: list[int] = []
        entered = threading.Event()

        @infersdk.batched
        def double(numbers: list[int]) -> list[int]:
            self.seen += numbers
            entered.set()
            assert self.opened.wait(WAIT_S)
            return [2 * number for number in numbers]

        self.double = double
        self.first = pool.submit(double, 0)
        assert entered.wait(WAIT_S)


def until_gone(function: Any, item: Any, gone: threading.Event) -> Any:
    with abandoned_when(gone.is_set):
        return function(item)


def test_a_call_that_waits_leaves_the_queue(pool: ThreadPoolExecutor) -> None:
    busy = Busy(pool)
    gone = threading.Event()
    one = pool.submit(until_gone, busy.double, 1, gone)
    two = pool.submit(until_gone, busy.double, 2, threading.Event())
    gone.set()
    with pytest.raises(AbandonedError, match=r"Nobody waits any more for the answer of .*double"):
        one.result(WAIT_S)
    busy.opened.set()
    assert (busy.first.result(WAIT_S), two.result(WAIT_S)) == (0, 4)
    assert busy.seen == [0, 2]
    assert busy.double.queue_stats()["cancelled"] == 1


def test_a_call_whose_batch_is_under_way_leaves_its_mates_alone(pool: ThreadPoolExecutor) -> None:
    gone = threading.Event()
    entered = {1: threading.Event(), 3: threading.Event()}
    opened = {1: threading.Event(), 3: threading.Event()}

    @infersdk.batched
    def negative(numbers: list[int]) -> list[int]:
        entered[len(numbers)].set()
        assert opened[len(numbers)].wait(WAIT_S)
        return [-number for number in numbers]

    first = pool.submit(negative, 0)
    assert entered[1].wait(WAIT_S)
    leaves = pool.submit(until_gone, negative, 1, gone)
    stays = [pool.submit(until_gone, negative, n, threading.Event()) for n in (2, 3)]
    while negative.queue_stats()["queued_rows"] < 3:
        threading.Event().wait(0.001)
    opened[1].set()
    assert entered[3].wait(WAIT_S)
    gone.set()
    with pytest.raises(AbandonedError):
        leaves.result(WAIT_S)
    opened[3].set()
    assert first.result(WAIT_S) == 0
    assert [call.result(WAIT_S) for call in stays] == [-2, -3]


def test_an_answer_that_is_there_is_given(pool: ThreadPoolExecutor) -> None:
    @infersdk.batched
    def echo(items: list[int]) -> list[int]:
        return items

    with abandoned_when(lambda: pytest.fail("asked")):
        assert echo(1) == 1


def test_what_the_question_raises_ends_the_call(pool: ThreadPoolExecutor) -> None:
    busy = Busy(pool)

    def broken() -> bool:
        raise OSError("no such connection")

    with pytest.raises(OSError, match="no such connection"), abandoned_when(broken):
        busy.double(1)
    busy.opened.set()
    assert busy.first.result(WAIT_S) == 0


def test_it_is_asked_for_this_thread_only_and_until_its_end(pool: ThreadPoolExecutor) -> None:
    busy = Busy(pool)
    with abandoned_when(lambda: True):
        other = pool.submit(busy.double, 1)
        with pytest.raises(AbandonedError), abandoned_when(lambda: True):
            busy.double(2)
        with pytest.raises(AbandonedError):
            busy.double(3)
    busy.opened.set()
    assert (busy.double(4), other.result(WAIT_S)) == (8, 2)


def test_a_long_run_in_the_callers_thread_is_stopped(model_folder: Path) -> None:
    execution = Execution(threads=1, calibration_s=0, release_gil=True)
    with infersdk.load(model_folder / "counter.onnx", execution=execution) as predictor:
        steps: dict[str, np.ndarray] = {"n": np.array(2**40), "x": np.zeros(1, np.float32)}
        with (
            pytest.raises(AbandonedError, match="answer of model `counter`"),
            abandoned_when(lambda: True),
        ):
            predictor.predict(steps)  # would take hours
        assert predictor.predict({**steps, "n": np.array(3)}) is not None


def test_a_greenlet_leaves_the_queue() -> None:
    pytest.importorskip("gevent")
    code = """
        from gevent import monkey; monkey.patch_all()
        import gevent, infersdk
        from gevent.event import Event
        from infersdk.runtime.waiting import abandoned_when

        seen, asked = [], Event()

        @infersdk.batched
        def double(numbers):  # in a thread of the queue, beside the hub
            seen.extend(numbers)
            if 0 in numbers:
                while not go:
                    pass
            return [2 * number for number in numbers]

        go = []

        def is_gone():
            asked.set()
            return True

        def left(number):
            with abandoned_when(is_gone):
                try:
                    double(number)
                except infersdk.AbandonedError:
                    return "abandoned"

        def kept(number):
            with abandoned_when(lambda: False):
                return double(number, timeout_s=30)

        def late(number):
            with abandoned_when(lambda: False):
                try:
                    double(number, timeout_s=0.12)
                except infersdk.DeadlineError:
                    return "late"

        jobs = [gevent.spawn(double, 0)]
        while not seen:
            gevent.sleep(0.001)
        jobs += [gevent.spawn(left, 1), gevent.spawn(kept, 2), gevent.spawn(late, 3)]
        gevent.joinall([jobs[1], jobs[3]], timeout=30)
        killed = gevent.spawn(kept, 4)
        gevent.sleep(0)
        killed.kill()
        go.append(1)
        gevent.joinall(jobs, timeout=30)
        assert [job.value for job in jobs] == [0, "abandoned", 4, "late"], jobs
        assert seen == [0, 2], seen
        stats = double.queue_stats()
        assert (stats["cancelled"], stats["expired"]) == (2, 1), stats
        print("fine")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=100
    )
    assert done.stdout.strip() == "fine", done.stderr
