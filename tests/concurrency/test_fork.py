"""A Predictor made before a fork works in the child, whatever the parent's other threads are doing.

Each test runs in a fresh interpreter: a child inherits everything that the test run has loaded. Children
that hang are ended by SIGALRM.
"""

from __future__ import annotations

import os

import pytest

from tests.concurrency.conftest import RunProgram

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

# Since Python 3.12 a fork beside threads warns; that it works all the same is the point here.
PRELUDE = """
import signal, warnings
import numpy as np
import infersdk
from tests.concurrency.models import rows_of

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
rows = rows_of(8, seed=1)
mlp = infersdk.load(f"{folder}/mlp.onnx")
trees = infersdk.load(f"{folder}/tree_ensemble.onnx")
expected = [(mlp.predict(row).tobytes(), trees.predict(row).tobytes()) for row in rows]

def right():
    return all(
        (mlp.predict(row).tobytes(), trees.predict(row).tobytes()) == want
        for row, want in zip(rows, expected)
    )

def child_passes(body, leave=os._exit):
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        passed = False
        try:
            passed = body()
        finally:
            leave(0 if passed else 1)
    return os.waitpid(pid, 0)[1] == 0

stop = threading.Event()

def busy(body):
    started = threading.Event()
    def work():
        while not stop.is_set():
            body()
            started.set()
    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    return thread
"""


def test_a_child_answers_as_its_parent(run_program: RunProgram) -> None:
    run_program(
        PRELUDE
        + """
assert child_passes(right)
assert child_passes(lambda: right() and child_passes(right))
assert right()
"""
    )


def test_a_child_may_leave_as_any_process_does(run_program: RunProgram) -> None:
    """sys.exit in the child: exit handlers, modules and libraries are torn down there too."""
    run_program(
        PRELUDE
        + """
assert child_passes(right, sys.exit)
assert child_passes(lambda: True, sys.exit)      # without having used it
assert right()
"""
    )


@pytest.mark.parametrize("leave", ["os._exit", "sys.exit"])
def test_a_child_answers_while_the_parents_threads_predict(
    run_program: RunProgram, leave: str
) -> None:
    run_program(
        PRELUDE
        + f"""
counter = infersdk.load(
    f"{{folder}}/counter.onnx", execution=infersdk.Execution(threads=1, release_gil=True)
)
released = infersdk.load(
    f"{{folder}}/mlp.onnx", execution=infersdk.Execution(threads=2, release_gil=True)
)
some = {{"n": np.array(3000), "x": np.zeros(1, np.float32)}}
busy(lambda: right())
busy(lambda: released.predict(rows))
busy(lambda: counter.run(some))

def body():
    return (
        right()
        and counter.run(some)["y"].tolist() == [3000.0]
        and released.predict(rows).shape == (8, 3)
    )

try:
    assert all(child_passes(body, {leave}) for _ in range(10))
finally:
    stop.set()
assert right()
"""
    )


def test_a_child_answers_while_the_parents_threads_load(run_program: RunProgram) -> None:
    run_program(
        PRELUDE
        + """
def load():
    with infersdk.load(f"{folder}/mlp.onnx") as predictor:
        assert predictor.predict(rows[0]).tobytes() == expected[0][0]

busy(load)
busy(load)
try:
    assert all(child_passes(lambda: right() and load() is None) for _ in range(10))
finally:
    stop.set()
"""
    )


def test_a_child_may_close_while_a_parents_thread_is_in_a_run(run_program: RunProgram) -> None:
    """The parent's runs do not count in the child, where they will never end."""
    run_program(
        PRELUDE
        + """
counter = infersdk.load(
    f"{folder}/counter.onnx", execution=infersdk.Execution(threads=1, release_gil=True)
)
long = {"n": np.array(200_000), "x": np.zeros(1, np.float32)}
few = {"n": np.array(3), "x": np.zeros(1, np.float32)}
thread = busy(lambda: counter.run(long))

def body():
    if counter.run(few)["y"].tolist() != [3.0]:
        return False
    counter.close()
    try:
        counter.run(few)
    except infersdk.ClosedError:
        return True

def close_only():
    counter.close()
    return True

try:
    for _ in range(4):
        assert child_passes(body)
        assert child_passes(close_only)
finally:
    stop.set()
thread.join()
assert counter.run(few)["y"].tolist() == [3.0]
counter.close()
"""
    )


# A source model that is served as it is: what its methods do is up to each test.
SOURCE = """
from infersdk.convert import registry
from infersdk.convert.conversion import Conversion
from infersdk.types import Method, Plan, Signature

class Converter:
    @staticmethod
    def call(model, method, rows):
        return model(rows)

def serve(model):
    plan = Plan("native", "served by its own framework")
    signature = Signature((), (), (Method("predict", ()),), container="text")
    return infersdk.Predictor(Conversion(plan, signature, None, None, model, Converter, "source"))
"""


def test_a_child_may_close_what_the_source_model_of_its_parent_answers(
    run_program: RunProgram,
) -> None:
    run_program(
        PRELUDE
        + SOURCE
        + """
inside, answered = threading.Event(), threading.Event()

def wait(texts):
    if texts == ["wait"]:
        inside.set()
        answered.wait()
    return texts

predictor = serve(wait)
thread = threading.Thread(target=predictor.predict, args=(["wait"],))
thread.start()
inside.wait()

def body():
    if predictor.predict(["go"]) != ["go"]:
        return False
    predictor.close()
    try:
        predictor.predict(["go"])
    except infersdk.ClosedError:
        return True

try:
    assert child_passes(body)
finally:
    answered.set()
thread.join()
predictor.close()
"""
    )


def test_a_child_may_call_a_source_model_that_its_parents_threads_are_calling(
    run_program: RunProgram,
) -> None:
    """A thread that the fork finds on its way in or out holds a lock, in the child for ever."""
    run_program(
        PRELUDE
        + SOURCE
        + """
predictor = serve(lambda texts: texts)
sys.setswitchinterval(1e-5)
busy(lambda: predictor.predict(["parent"]))
busy(lambda: predictor.predict(["parent"]))
try:
    assert all(
        child_passes(lambda: predictor.predict(["child"]) == ["child"]) for _ in range(30)
    )
finally:
    stop.set()
"""
    )


def test_a_child_may_open_a_head_that_a_thread_of_its_parent_is_opening(
    run_program: RunProgram,
) -> None:
    run_program(
        PRELUDE
        + """
from tests.concurrency.models import two_heads

model = two_heads()

def fork_while_opening():
    predictor = infersdk.load(model)
    started = threading.Event()
    def open_head():
        started.set()
        predictor.decision_function(rows)
    thread = threading.Thread(target=open_head)
    thread.start()
    started.wait()
    passed = child_passes(lambda: predictor.decision_function(rows).shape == (8, 3))
    thread.join()
    return passed

assert all(fork_while_opening() for _ in range(20))
"""
    )


def test_multiprocessing_pools_of_forked_workers(run_program: RunProgram) -> None:
    run_program(
        PRELUDE
        + """
import multiprocessing
busy(right)

def answer(i):
    return mlp.predict(rows[i]).tobytes(), trees.predict(rows[i]).tobytes()

context = multiprocessing.get_context("fork")
try:
    with context.Pool(2) as pool:
        assert pool.map(answer, range(8)) == expected
    worker = context.Process(target=lambda: sys.exit(0 if right() else 1))
    worker.start()
    worker.join(30)
    assert worker.exitcode == 0
finally:
    stop.set()
"""
    )


def test_threads_of_a_child_answer_too(run_program: RunProgram) -> None:
    run_program(
        PRELUDE
        + """
from concurrent.futures import ThreadPoolExecutor

def body():
    with ThreadPoolExecutor(8) as pool:
        return all(pool.map(lambda _: right(), range(16)))

assert child_passes(body)
assert child_passes(body, sys.exit)
"""
    )


def test_awaited_calls_work_in_a_child(run_program: RunProgram) -> None:
    """The parent's batcher threads do not exist in the child, which makes its own."""
    run_program(
        PRELUDE
        + """
import asyncio

slow = infersdk.load(f"{folder}/mlp.onnx", batching=infersdk.Batching(enabled=True))

async def gather():
    return await asyncio.gather(*(slow.apredict(row) for row in rows))

def body():
    answers = asyncio.run(gather())
    return all(np.allclose(a.ravel(), np.frombuffer(b, a.dtype)) for a, (b, _) in zip(answers, expected))

assert body()
assert slow.queue_stats()["batches"] > 0
assert child_passes(body)
assert child_passes(body, sys.exit)
assert body()
"""
    )


def test_a_signal_handler_may_fork_during_a_run(run_program: RunProgram) -> None:
    run_program(
        PRELUDE
        + """
counter = infersdk.load(
    f"{folder}/counter.onnx", execution=infersdk.Execution(threads=1, calibration_s=0)
)
children = []

class Enough(Exception):
    pass

def fork(*_):
    children.append(os.fork())
    if children[-1] == 0:
        signal.alarm(30)
    raise Enough

signal.signal(signal.SIGUSR1, fork)
ready = threading.Event()

def interrupt():
    ready.wait()
    os.kill(os.getpid(), signal.SIGUSR1)

thread = threading.Thread(target=interrupt)
thread.start()
sys.setswitchinterval(1000)     # the thread gets the GIL when the run has given it up
ready.set()
try:
    counter.run({"n": np.array(1 << 60), "x": np.zeros(1, np.float32)})
except Enough:
    pass
else:
    os._exit(3)
sys.setswitchinterval(0.005)
if children[-1] == 0:
    few = {"n": np.array(2), "x": np.zeros(1, np.float32)}
    os._exit(0 if counter.run(few)["y"].tolist() == [2.0] and right() else 1)
thread.join()
assert os.waitpid(children[-1], 0)[1] == 0
assert right()
"""
    )
