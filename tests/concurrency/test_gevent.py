"""Greenlets wait for the queue without stopping the others of their thread.

Each program is a fresh interpreter: `monkey.patch_all()` is for the whole of it. A ticker that goes on
during a long run is the proof that the hub was not blocked; runs end by themselves, so that the ticks are
counted and not timed.
"""

from __future__ import annotations

import pytest

from tests.concurrency.conftest import RunProgram

pytest.importorskip("gevent")

PATCH = """
from gevent import monkey
monkey.patch_all()
"""

LOAD = """
import signal
import numpy as np
import infersdk

paced = infersdk.load(
    f"{folder}/paced.onnx",
    execution=infersdk.Execution(threads=1, instances=1),
    batching=infersdk.Batching(enabled=True, max_batch_size=32),
)

def call(value, steps=0, index=0):
    return {
        "value": np.array([value], np.float32),
        "index": np.array([index], np.int64),
        "steps": np.array([steps], np.float32),
    }

def predict(value, steps=0, **keywords):
    return paced.run(call(value, steps), **keywords)["answer"].tolist() == [10 + 2.0 * value]

assert predict(1)
"""

GREENLETS = """
import gevent

ticks = 0

def tick():
    global ticks
    while True:
        gevent.sleep(0)
        ticks += 1

def held(steps):
    greenlet = gevent.spawn(predict, 1, steps)
    while paced.queue_stats()["running"] == 0 and not greenlet.ready():
        gevent.sleep(0)
    return greenlet

def at_rest():
    while paced.queue_stats()["running"] or paced.queue_stats()["queued_rows"]:
        gevent.sleep(0.001)
"""

BEFORE = LOAD + PATCH + GREENLETS
AFTER = PATCH + LOAD + GREENLETS


@pytest.mark.parametrize("prelude", [AFTER, BEFORE], ids=["patched first", "loaded first"])
def test_fifty_greenlets_share_runs_and_the_hub_goes_on(
    run_program: RunProgram, prelude: str
) -> None:
    run_program(
        prelude
        + """
ticker = gevent.spawn(tick)
holder = held(500_000)
before = ticks
greenlets = [gevent.spawn(predict, i) for i in range(50)]
assert holder.get()
during = ticks - before
assert all(greenlet.get() for greenlet in greenlets)
assert during > 100, during
stats = paced.queue_stats()
assert stats["largest_batch"] == 32, stats
"""
    )


@pytest.mark.parametrize("prelude", [AFTER, BEFORE], ids=["patched first", "loaded first"])
def test_threads_of_a_patched_program_are_greenlets(run_program: RunProgram, prelude: str) -> None:
    run_program(
        prelude
        + """
import threading
from concurrent.futures import ThreadPoolExecutor

with ThreadPoolExecutor(16) as pool:
    assert all(pool.map(lambda i: predict(i, steps=500), range(200)))
assert paced.queue_stats()["largest_batch"] > 1
"""
    )


def test_a_bad_row_fails_alone(run_program: RunProgram) -> None:
    run_program(
        AFTER
        + """
def ask(i):
    try:
        return paced.run(call(i, index=99 if i == 7 else 0))["answer"].tolist()
    except (infersdk.InputError, infersdk.SessionError) as error:
        return "idx=99" in str(error)

holder = held(300_000)
greenlets = [gevent.spawn(ask, i) for i in range(32)]
gevent.joinall(greenlets)
assert [g.value for g in greenlets] == [True if i == 7 else [10 + 2.0 * i] for i in range(32)]
assert holder.get()
"""
    )


def test_time_that_runs_out(run_program: RunProgram) -> None:
    """By the call's own timeout, and by gevent's; neither leaves a row in the queue."""
    run_program(
        AFTER
        + """
holder = held(2_000_000)
try:
    predict(1, timeout_s=0.005)
except (infersdk.DeadlineError, infersdk.OverloadedError):
    pass
else:
    raise AssertionError("answered")
assert not holder.ready()
assert paced.queue_stats()["queued_rows"] == 0

try:
    with gevent.Timeout(0.005):
        predict(1)
except gevent.Timeout:
    pass
else:
    raise AssertionError("answered")
assert not holder.ready()
assert paced.queue_stats()["queued_rows"] == 0
assert paced.queue_stats()["cancelled"] == 1

# In the middle of its own run: the run goes on, for nobody.
try:
    holder.get(block=False)
except gevent.Timeout:
    pass
holder.kill()
at_rest()
try:
    predict(1, 3_000_000, timeout_s=0.02)
except infersdk.DeadlineError as error:
    assert "still running" in str(error), error
at_rest()
assert predict(2)
"""
    )


def test_killed_greenlets_leave_the_queue(run_program: RunProgram) -> None:
    run_program(
        AFTER
        + """
holder = held(1_000_000)
greenlets = [gevent.spawn(predict, i) for i in range(10)]
gevent.sleep(0)
assert paced.queue_stats()["queued_rows"] == 10
gevent.killall(greenlets[:4])
assert not holder.ready()
assert paced.queue_stats()["queued_rows"] == 6
assert all(greenlet.get() for greenlet in greenlets[4:])
assert holder.get()
assert paced.queue_stats()["cancelled"] == 4
"""
    )


def test_native_threads_beside_greenlets(run_program: RunProgram) -> None:
    """gevent's own pool of real threads, each of which has a hub of its own if it waits."""
    run_program(
        AFTER
        + """
from gevent.threadpool import ThreadPool

pool = ThreadPool(8)
ticker = gevent.spawn(tick)
results = [pool.spawn(predict, i, 2000) for i in range(100)]
greenlets = [gevent.spawn(predict, i, 2000) for i in range(100)]
assert all(result.get() for result in results)
assert all(greenlet.get() for greenlet in greenlets)
assert ticks > 0
assert paced.queue_stats()["largest_batch"] > 1
ticker.kill()
pool.kill()
"""
    )


def test_a_program_with_nothing_left_to_do_may_end(run_program: RunProgram) -> None:
    """gevent.wait() comes back when nothing is under way, and not before."""
    run_program(
        AFTER
        + """
answers = []
gevent.spawn(lambda: answers.append(predict(3, 50_000)))
assert gevent.wait(timeout=60)
assert answers == [True]
assert gevent.wait(timeout=60)
assert predict(4, 1000)
"""
    )


def test_close_lets_greenlets_finish(run_program: RunProgram) -> None:
    run_program(
        AFTER
        + """
ticker = gevent.spawn(tick)
holder = held(300_000)
greenlets = [gevent.spawn(predict, i) for i in range(10)]
gevent.sleep(0)
before = ticks
paced.close()
assert ticks > before
assert holder.get(block=False) and all(g.get(block=False) for g in greenlets)
try:
    predict(1)
except infersdk.ClosedError:
    pass
else:
    raise AssertionError("answered")
"""
    )


@pytest.mark.parametrize("prelude", [AFTER, BEFORE], ids=["patched first", "loaded first"])
def test_children_of_a_fork_answer_and_take_nothing_from_their_parent(
    run_program: RunProgram, prelude: str
) -> None:
    """The parent's greenlets wait all the while: a child must not read what is meant for them."""
    run_program(
        prelude
        + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
stop = False
count = 0

def busy(i):
    global count
    while not stop:
        assert predict(i, 2000)
        count += 1
        gevent.sleep(0)
    return True

parents = [gevent.spawn(busy, i) for i in range(8)]
while count < 50:
    gevent.sleep(0.001)
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        passed = False
        try:
            children = [gevent.spawn(predict, i, 1000) for i in range(20)]
            gevent.sleep(0.02)      # the hub polls, and the parent is finishing calls
            passed = all(child.get() for child in children)
        finally:
            os._exit(0 if passed else 1)
    assert os.waitpid(pid, 0)[1] == 0
    goal = count + 20
    while count < goal:             # the parent's own go on
        gevent.sleep(0.001)
stop = True
assert all(parent.get() for parent in parents)
"""
    )


def test_asyncio_in_a_native_thread_beside_gevent(run_program: RunProgram) -> None:
    run_program(
        AFTER
        + """
import asyncio

async def main():
    return await asyncio.gather(*(paced.apredict(call(i, 100)) for i in range(32)))

pool = gevent.get_hub().threadpool
greenlets = [gevent.spawn(predict, i, 1000) for i in range(32)]
answers = pool.spawn(asyncio.run, main()).get()
assert [a.tolist() for a in answers] == [[10 + 2.0 * i] for i in range(32)]
assert all(greenlet.get() for greenlet in greenlets)
"""
    )


def test_calls_of_greenlets_count_once(run_program: RunProgram) -> None:
    run_program(
        AFTER
        + """
def too_late():
    try:
        predict(21, timeout_s=0.005)
    except infersdk.DeadlineError:
        return True

holder = held(300_000)
greenlets = [gevent.spawn(predict, i) for i in range(20)]
killed = gevent.spawn(predict, 20)
while paced.queue_stats()["queued_rows"] < 21:
    gevent.sleep(0)
killed.kill()
late = gevent.spawn(too_late)
gevent.joinall([holder, late, *greenlets])
assert all(greenlet.value for greenlet in [holder, late, *greenlets])
metrics = paced.metrics()
(run,) = [one for one in metrics.methods if one.method == "run"]
assert (run.calls, run.rows) == (24, 22), run
assert run.errors == {"GreenletExit": 1, "DeadlineError": 1}, run.errors
# Those of greenlets are always queued.
found = metrics.queue_s.count, metrics.run_rows.sum
assert found == (22, 22), found
"""
    )
