"""The queue and the end of processes: forks, exits and signals while threads wait and runs are under way.

Each program is a fresh interpreter with a limit of its own; children that hang are ended by SIGALRM, which
fails the test.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.concurrency.conftest import LIMIT_S, ROOT, RunProgram

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

LOAD = """
import os, signal, sys, threading, time, warnings
import numpy as np
import infersdk

# Since Python 3.12 a fork beside threads warns; that it works all the same is the point here.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

def load(instances=1):
    return infersdk.load(
        f"{folder}/paced.onnx",
        execution=infersdk.Execution(threads=1, instances=instances),
        batching=infersdk.Batching(enabled=True, max_batch_size=32),
    )

paced = load()

def call(value, steps=0):
    return {
        "value": np.array([value], np.float32),
        "index": np.zeros(1, np.int64),
        "steps": np.array([steps], np.float32),
    }

def predict(value, steps=0):
    return paced.run(call(value, steps))["answer"].tolist() == [10 + 2.0 * value]

assert predict(1)
"""

FORKS = """
from concurrent.futures import ThreadPoolExecutor

failures = []
stop = threading.Event()

def busy(body, n=8):
    def work(i):
        try:
            while not stop.is_set():
                assert body(i)
        except BaseException as error:
            failures.append(error)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    return threads

def in_child():
    # In its main thread, in threads of its own that share runs, and in a loop.
    if not all(predict(i) for i in range(5)):
        return False
    with ThreadPoolExecutor(8) as pool:
        if not all(pool.map(lambda i: predict(i, 500), range(16))):
            return False
    return paced.queue_stats()["batches"] > 0 or paced.queue_stats()["inline_runs"] > 0

def child_passes(body=in_child, leave=os._exit):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        passed = False
        try:
            stop.set()
            passed = body()
        finally:
            leave(0 if passed else 1)
    return os.waitpid(pid, 0)[1] == 0
"""

PRELUDE = LOAD + FORKS


@pytest.mark.parametrize(
    "n_forks", [30, pytest.param(100, marks=pytest.mark.slow)], ids=["30 forks", "100 forks"]
)
@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
def test_children_answer_while_the_parents_threads_use_the_queue(
    run_program: RunProgram, n_forks: int, leave: str
) -> None:
    run_program(
        PRELUDE
        + f"""
threads = busy(lambda i: predict(i, 1000))
while paced.queue_stats()["batches"] < 10:
    time.sleep(0.001)
try:
    assert all(child_passes(leave={leave}) for _ in range({n_forks}))
finally:
    stop.set()
for thread in threads:
    thread.join()
assert failures == []
assert predict(3)
"""
    )


def test_children_answer_while_a_run_of_the_parent_never_ends(run_program: RunProgram) -> None:
    """One run for ever, and eight threads that wait behind it; in the child nothing does."""
    run_program(
        PRELUDE
        + """
threading.Thread(target=predict, args=(1, 1e12), daemon=True).start()
while paced.queue_stats()["running"] == 0:
    time.sleep(0.001)
for i in range(8):
    threading.Thread(target=predict, args=(i,), daemon=True).start()
while paced.queue_stats()["queued_rows"] < 8:
    time.sleep(0.001)

def fresh():
    stats = paced.queue_stats()
    return stats["queued_rows"] == 0 and stats["running"] == 0 and in_child()

def close():
    if not in_child():
        return False
    paced.close()
    try:
        predict(1)
    except infersdk.ClosedError:
        return True

assert all(child_passes(fresh) for _ in range(10))
assert child_passes(close)
assert child_passes(lambda: child_passes(fresh) and fresh())    # a child's child
assert paced.queue_stats()["queued_rows"] == 8
os._exit(0)     # the run is never going to end
"""
    )


def test_a_thread_may_fork_while_others_wait(run_program: RunProgram) -> None:
    """The child's main thread is then the one that forked."""
    run_program(
        PRELUDE
        + """
threads = busy(lambda i: predict(i, 1000), n=4)
passed = []
def fork():
    passed.extend(child_passes() for _ in range(5))
forkers = [threading.Thread(target=fork) for _ in range(2)]
for thread in forkers:
    thread.start()
for thread in forkers:
    thread.join()
stop.set()
for thread in threads:
    thread.join()
assert passed == [True] * 10 and failures == []
"""
    )


def test_a_fork_inside_an_event_loop(run_program: RunProgram) -> None:
    """With calls of that loop queued and running; the child has a loop of its own."""
    run_program(
        PRELUDE
        + """
import asyncio

async def gather():
    answers = await asyncio.gather(*(paced.apredict(call(i, 500)) for i in range(16)))
    return [a.tolist() for a in answers] == [[10 + 2.0 * i] for i in range(16)]

def body():
    return in_child() and asyncio.run(gather())

async def main():
    tasks = [asyncio.ensure_future(paced.apredict(call(i, 100_000))) for i in range(8)]
    await asyncio.sleep(0)
    for _ in range(5):
        assert child_passes(body)
        await asyncio.sleep(0)
    assert [(await task).tolist() for task in tasks] == [[10 + 2.0 * i] for i in range(8)]
    assert await gather()

asyncio.run(main())
assert asyncio.run(gather())
"""
    )


def test_multiprocessing_by_fork_beside_a_busy_queue(run_program: RunProgram) -> None:
    run_program(
        PRELUDE
        + """
import multiprocessing
threads = busy(lambda i: predict(i, 1000), n=4)
context = multiprocessing.get_context("fork")
try:
    with context.Pool(2) as pool:
        assert all(pool.map(predict, range(50)))
    for _ in range(5):
        worker = context.Process(target=lambda: sys.exit(0 if in_child() else 1))
        worker.start()
        worker.join(60)
        assert worker.exitcode == 0
finally:
    stop.set()
for thread in threads:
    thread.join()
assert failures == []
"""
    )


def test_multiprocessing_by_spawn_beside_a_busy_queue(
    run_program: RunProgram, tmp_path: Path
) -> None:
    """The Predictor travels by pickle, and has a queue of its own there."""
    program = tmp_path / "spawning.py"
    program.write_text(
        """
import multiprocessing, operator, sys, threading

def ask(predictor, seed):
    from concurrent.futures import ThreadPoolExecutor
    from tests.concurrency.models import rows_of
    with ThreadPoolExecutor(8) as pool:
        return [a.shape for a in pool.map(predictor.predict, rows_of(32, seed))]

if __name__ == "__main__":
    import infersdk
    from tests.concurrency.models import rows_of

    predictor = infersdk.load(sys.argv[1], batching=infersdk.Batching(enabled=True))
    stop = threading.Event()
    def busy():
        while not stop.is_set():
            predictor.predict(rows_of(1, 1)[0])
    threads = [threading.Thread(target=busy) for _ in range(4)]
    for thread in threads:
        thread.start()
    context = multiprocessing.get_context("spawn")
    try:
        with context.Pool(2) as pool:
            answers = pool.starmap(ask, [(predictor, 1), (predictor, 2)])
    finally:
        stop.set()
    for thread in threads:
        thread.join()
    assert answers == [[(1, 3)] * 32] * 2, answers
"""
    )
    run_program(
        f"""
import subprocess
subprocess.run(
    [sys.executable, {str(program)!r}, folder + "/mlp.onnx"], check=True,
    env={{**os.environ, "PYTHONPATH": {str(ROOT)!r}}},
)
"""
    )


# --- exits ----------------------------------------------------------------------------------------

WAITING = """
def daemon(*arguments):
    threading.Thread(target=predict, args=arguments, daemon=True).start()

def until(true):
    while not true():
        time.sleep(0.001)
"""


@pytest.mark.parametrize(
    "end", ["", "sys.exit()", "os.kill(os.getpid(), signal.SIGUSR1)"], ids=["end", "exit", "signal"]
)
def test_the_interpreter_ends_with_threads_waiting_in_the_queue(
    run_program: RunProgram, end: str
) -> None:
    run_program(
        LOAD
        + WAITING
        + f"""
signal.signal(signal.SIGUSR1, lambda *_: sys.exit())
daemon(1, 1_000_000)
until(lambda: paced.queue_stats()["running"] == 1)
for i in range(16):
    daemon(i)
until(lambda: paced.queue_stats()["queued_rows"] == 16 or not paced.queue_stats()["running"])
{end}
"""
    )


def test_the_interpreter_ends_while_a_queued_run_never_does(run_program: RunProgram) -> None:
    """It is stopped at its next node; a thread of ours must not be inside ONNX Runtime any more."""
    run_program(
        LOAD
        + WAITING
        + """
daemon(1, 200_000)
until(lambda: paced.queue_stats()["running"] == 1)
daemon(2, 1e12)
until(lambda: paced.queue_stats()["batches"] == 1)
"""
    )


def test_the_interpreter_ends_while_daemon_threads_keep_calling(run_program: RunProgram) -> None:
    for _ in range(5):
        run_program(
            LOAD
            + """
def work(i):
    while True:
        assert predict(i, 500)

for i in range(16):
    threading.Thread(target=work, args=(i,), daemon=True).start()
while paced.queue_stats()["batches"] < 20:
    time.sleep(0.001)
"""
        )


@pytest.mark.parametrize("how", ["left pending", "cancelled", "loop never closed"])
def test_the_interpreter_ends_with_awaited_calls_in_the_queue(
    run_program: RunProgram, how: str
) -> None:
    run_program(
        LOAD
        + f"""
import asyncio
how = {how!r}

async def main():
    tasks = [asyncio.ensure_future(paced.apredict(call(i, 50_000))) for i in range(8)]
    await asyncio.sleep(0)
    if how == "cancelled":
        for task in tasks:
            task.cancel()

if how == "loop never closed":
    import logging
    logging.disable()       # asyncio complains of tasks that were never awaited
    asyncio.set_event_loop(asyncio.new_event_loop())
    loop = asyncio.get_event_loop()
    loop.run_until_complete(main())
else:
    asyncio.run(main())
"""
    )


def test_a_coroutine_that_nobody_awaited(run_program: RunProgram) -> None:
    """Nothing was started for it."""
    run_program(
        LOAD
        + """
warnings.simplefilter("ignore", RuntimeWarning)
before = paced.queue_stats()
paced.apredict(call(1))
assert paced.queue_stats() == before
assert predict(1)
"""
    )


@pytest.mark.parametrize("waits_in", ["its own run", "the queue"])
def test_sigterm_ends_a_program_in_the_middle_of_a_call(model_folder: Path, waits_in: str) -> None:
    """By default at once; with a handler that raises, as web servers have one, by way of sys.exit."""
    for handled in (False, True):
        source = f"folder = {str(model_folder)!r}\n" + LOAD + WAITING
        if handled:
            source += "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        if waits_in == "the queue":
            source += """
daemon(1, 2_000_000)
until(lambda: paced.queue_stats()["running"] == 1)
"""
        source += """
threading.Timer(0.05, lambda: print("ready", flush=True)).start()
predict(1, 2_000_000)
"""
        with subprocess.Popen(
            [sys.executable, "-c", source],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                process.send_signal(signal.SIGTERM)
                _, stderr = process.communicate(timeout=LIMIT_S)
            finally:
                process.kill()
        assert (process.returncode, stderr) == (7 if handled else -signal.SIGTERM, "")


def test_sigterm_of_a_child_leaves_the_parent_alone(run_program: RunProgram) -> None:
    run_program(
        PRELUDE
        + """
threads = busy(lambda i: predict(i, 1000), n=4)
for _ in range(10):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        stop.set()
        for i in range(4):
            threading.Thread(target=lambda: [predict(1, 5000) for _ in iter(int, 1)], daemon=True).start()
        predict(1)
        os.write(writing, b"x")
        signal.pause()
    os.close(writing)
    assert os.read(reading, 1) == b"x"
    os.close(reading)
    os.kill(pid, signal.SIGTERM)
    assert os.waitpid(pid, 0)[1] == signal.SIGTERM
stop.set()
for thread in threads:
    thread.join()
assert failures == []
assert predict(1)
"""
    )
