"""The end of a Predictor, and of the interpreter, while calls are under way."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk import ClosedError, Execution, Predictor
from tests.concurrency.conftest import RunProgram
from tests.concurrency.models import rows_of

ROW = rows_of(1, seed=1)[0]


def steps(n: int) -> dict[str, np.ndarray]:
    return {"n": np.array(n), "x": np.zeros(1, np.float32)}


@pytest.fixture
def mlp(model_folder: Path) -> Predictor:
    return infersdk.load(model_folder / "mlp.onnx", name="mlp")


USES: dict[str, Callable[[Predictor], Any]] = {
    "predict": lambda predictor: predictor.predict(ROW),
    "call": lambda predictor: predictor(ROW),
    "run": lambda predictor: predictor.run({"features": np.zeros((1, 4), np.float32)}),
    "apredict": lambda predictor: asyncio.run(predictor.apredict(ROW)),
    "warm_up": lambda predictor: predictor.warm_up(),
    "pickle": pickle.dumps,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_use_after_close_is_refused_by_name(mlp: Predictor, use: Callable[..., Any]) -> None:
    use(mlp)
    mlp.close()
    mlp.close()
    with pytest.raises(ClosedError, match="Model `mlp` is closed"):
        use(mlp)
    assert "closed" in repr(mlp)


def in_background(
    n_threads: int, work: Callable[[], None], *meanwhile: Callable[[], Any]
) -> list[BaseException]:
    """Run `work` in threads and `meanwhile` here; return what the threads raised."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for action in meanwhile:
        action()
    for thread in threads:
        thread.join()
    return failures


@pytest.mark.parametrize("release_gil", [None, True, False])
def test_calls_under_way_finish_and_later_ones_are_refused(
    model_folder: Path, release_gil: bool | None
) -> None:
    execution = Execution(release_gil=release_gil, threads=1)
    predictor = infersdk.load(model_folder / "mlp.onnx", execution=execution)
    expected = predictor.predict(ROW).tobytes()
    warm = threading.Barrier(9)

    def work() -> None:
        assert predictor.predict(ROW).tobytes() == expected
        warm.wait()
        try:
            while True:
                assert predictor.predict(ROW).tobytes() == expected
        except ClosedError:
            pass

    assert in_background(8, work, warm.wait, predictor.close) == []


@pytest.mark.usefixtures("no_forced_switch")
def test_close_waits_for_a_long_run(model_folder: Path) -> None:
    """This thread gets the GIL when the run has given it up, and closes in the middle of it."""
    predictor = infersdk.load(
        model_folder / "counter.onnx", execution=Execution(release_gil=True, threads=1)
    )
    order: list[Any] = []
    started = threading.Event()

    def work() -> None:
        started.set()
        order.append(predictor.run(steps(100_000))["y"].tolist())

    def close() -> None:
        predictor.close()
        order.append("closed")

    assert in_background(1, work, started.wait, close) == []
    assert order == [[100_000.0], "closed"]


def test_threads_may_close_at_once(model_folder: Path) -> None:
    for _ in range(20):
        predictor = infersdk.load(model_folder / "mlp.onnx")
        barrier = threading.Barrier(4)

        def work(predictor: Predictor = predictor, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            predictor.close()
            with pytest.raises(ClosedError):
                predictor.predict(ROW)

        assert in_background(4, work) == []


def test_leaving_a_with_block_closes(model_folder: Path) -> None:
    with infersdk.load(model_folder / "mlp.onnx") as predictor:
        predictor.predict(ROW)
    with pytest.raises(ClosedError):
        predictor.predict(ROW)


def test_a_predictor_that_is_dropped_in_one_thread_lives_in_another(model_folder: Path) -> None:
    def work() -> None:
        for _ in range(20):
            infersdk.load(model_folder / "mlp.onnx").predict(ROW)

    assert in_background(4, work) == []


# --- the end of the interpreter -------------------------------------------------------------------

LIVE = """
import numpy as np
import infersdk
from tests.concurrency.models import rows_of

rows = rows_of(8, seed=1)
mlp = infersdk.load(f"{folder}/mlp.onnx")
released = infersdk.load(f"{folder}/mlp.onnx", execution=infersdk.Execution(release_gil=True))
counter = infersdk.load(
    f"{folder}/counter.onnx", execution=infersdk.Execution(threads=1, release_gil=True)
)
for_ever = {"n": np.array(1 << 60), "x": np.zeros(1, np.float32)}
some = {"n": np.array(2000), "x": np.zeros(1, np.float32)}

def daemon(body):
    started = threading.Event()
    def work():
        while True:
            started.set()
            body()
    threading.Thread(target=work, daemon=True).start()
    started.wait()
"""


def test_the_interpreter_ends_with_live_predictors(run_program: RunProgram) -> None:
    run_program(LIVE + "mlp.predict(rows)\nreleased.predict(rows)\ncounter.run(some)\n")


@pytest.mark.parametrize(
    "body",
    [
        "lambda: mlp.predict(rows)",
        "lambda: released.predict(rows)",
        "lambda: counter.run(some)",
        "lambda: infersdk.load(f'{folder}/mlp.onnx').predict(rows)",
    ],
    ids=["short", "released", "long", "loading"],
)
def test_the_interpreter_ends_with_daemon_threads_in_a_run(
    run_program: RunProgram, body: str
) -> None:
    for _ in range(4):
        run_program(LIVE + f"for _ in range(3): daemon({body})\n")


def test_the_interpreter_ends_while_a_run_never_does(run_program: RunProgram) -> None:
    run_program(LIVE + "daemon(lambda: counter.run(for_ever))\nmlp.predict(rows)\n")


def test_the_interpreter_ends_after_an_uncaught_exception(run_program: RunProgram) -> None:
    run_program(LIVE + "daemon(lambda: released.predict(rows))\nraise SystemExit(0)\n")


def test_the_interpreter_ends_with_awaited_calls_under_way(run_program: RunProgram) -> None:
    """asyncio.run is left while the Predictor's own threads are still at work."""
    run_program(
        LIVE
        + """
import asyncio
slow = infersdk.load(
    f"{folder}/counter.onnx", execution=infersdk.Execution(threads=1, calibration_s=0)
)

async def main():
    tasks = [asyncio.ensure_future(slow.apredict(some)) for _ in range(8)]
    await tasks[0]
    for task in tasks:
        task.cancel()

asyncio.run(main())
"""
    )
