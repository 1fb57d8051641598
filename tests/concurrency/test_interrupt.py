"""Ctrl-C and other signals reach the main thread in the middle of a long run."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.concurrency.conftest import LIMIT_S, ROOT, RunProgram

# Another thread acts when it gets the GIL, and that is when the run has given it up: until then no
# thread is made to. `n` is so large that no run would end by itself.
PRELUDE = """
import os, signal, sys, threading
import numpy as np
import infersdk

# A shell's background job ignores it, and so would this process.
signal.signal(signal.SIGINT, signal.default_int_handler)

execution = infersdk.Execution(threads=1, calibration_s=0)
counter = infersdk.load(f"{folder}/counter.onnx", execution=execution)
few = {"n": np.array(3), "x": np.zeros(1, np.float32)}
for_ever = {"n": np.array(1 << 60), "x": np.zeros(1, np.float32)}

def during(run, action):
    ready = threading.Event()
    def act():
        ready.wait()
        action()
    thread = threading.Thread(target=act)
    thread.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        ready.set()
        return run()
    finally:
        sys.setswitchinterval(interval)
        thread.join()

def send(number):
    return lambda: os.kill(os.getpid(), number)

class Alarm(Exception):
    pass

def raise_alarm(*_):
    raise Alarm("rang")

signal.signal(signal.SIGALRM, raise_alarm)
"""


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGALRM, "Alarm")]
)
@pytest.mark.parametrize("call", ["run", "__call__"])
def test_a_signal_ends_a_run_that_would_not_end(
    run_program: RunProgram, number: int, error: str, call: str
) -> None:
    run_program(
        PRELUDE
        + f"""
for _ in range(2):
    try:
        during(lambda: counter.{call}(for_ever), send({int(number)}))
    except BaseException as caught:
        assert type(caught) is {error}, repr(caught)
        assert caught.__context__ is None, repr(caught.__context__)
    else:
        raise AssertionError("the run came to an end")
assert counter.run(few)["y"].tolist() == [3.0]
assert counter.predict(few).tolist() == [3.0]
counter.close()
"""
    )


def test_a_signal_ends_a_run_on_prebuilt_values(run_program: RunProgram) -> None:
    """The second run of a shape; the first has shown that runs of this model are long."""
    run_program(
        PRELUDE
        + """
import time
n, elapsed_s = 10_000, 0.0
while elapsed_s < 0.5:
    counter = infersdk.load(f"{folder}/counter.onnx", execution=execution)
    steps = {"n": np.array(n), "x": np.zeros(1, np.float32)}
    start = time.perf_counter()
    counter.run(steps)
    elapsed_s = time.perf_counter() - start
    n *= 4
try:
    during(lambda: counter.run(for_ever), send(signal.SIGINT))
except KeyboardInterrupt:
    pass
else:
    raise AssertionError("the run came to an end")
assert counter.run(few)["y"].tolist() == [3.0]
"""
    )


def test_a_handler_that_returns_is_called_within_the_run(run_program: RunProgram) -> None:
    """It does not end the run; what it does to others is seen while the run goes on."""
    run_program(
        PRELUDE
        + """
called = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: called.set())

def signal_twice():
    os.kill(os.getpid(), signal.SIGUSR1)
    called.wait()
    os.kill(os.getpid(), signal.SIGINT)

try:
    during(lambda: counter.run(for_ever), signal_twice)
except KeyboardInterrupt:
    pass
else:
    raise AssertionError("the run came to an end")
assert called.is_set()
"""
    )


def test_signals_that_are_handled_change_no_answer(run_program: RunProgram) -> None:
    run_program(
        PRELUDE
        + """
count = 0

def tick(*_):
    global count
    count += 1

signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
n = 1000
while count < 100:
    answer = counter.run({"n": np.array(n), "x": np.zeros(1, np.float32)})["y"].tolist()
    assert answer == [float(n)]
    n = min(2 * n, 1 << 14)
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    )


def test_a_thread_that_is_not_the_main_one_lets_the_main_one_be_interrupted(
    run_program: RunProgram,
) -> None:
    run_program(
        PRELUDE
        + """
released = infersdk.load(
    f"{folder}/counter.onnx", execution=infersdk.Execution(threads=1, release_gil=True)
)
steps = {"n": np.array(100_000), "x": np.zeros(1, np.float32)}
answers = []
thread = threading.Thread(target=lambda: answers.append(released.run(steps)["y"].tolist()))
thread.start()
try:
    during(lambda: counter.run(for_ever), send(signal.SIGINT))
except KeyboardInterrupt:
    pass
else:
    raise AssertionError("the run came to an end")
thread.join()
assert answers == [[100_000.0]]
"""
    )


def test_ctrl_c_from_a_shell_ends_the_program(model_folder: Path) -> None:
    """Nothing catches the exception: the program ends as Python programs do on SIGINT."""
    source = f"""
folder = {str(model_folder)!r}
{PRELUDE}
during(lambda: counter.run(for_ever), lambda: print("running", flush=True))
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
            assert process.stdout.readline() == "running\n"
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode == -signal.SIGINT
