"""Awaited calls: many tasks at once, cancellation, and an event loop that goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk import Execution, InputError, Predictor
from tests.concurrency.models import rows_of

N_TASKS = 64


@pytest.fixture(params=["on the loop", "in threads"])
def awaited(request: pytest.FixtureRequest, model_folder: Path) -> Iterator[Predictor]:
    """A Predictor measured to be quick enough for the event loop, and one that was not measured."""
    execution = Execution(threads=1, calibration_s=0 if request.param == "in threads" else 0.1)
    with infersdk.load(model_folder / "mlp.onnx", execution=execution) as predictor:
        yield predictor


def test_every_task_gets_its_own_answer(awaited: Predictor) -> None:
    rows = rows_of(N_TASKS, seed=1)
    expected = [awaited.predict(row).tobytes() for row in rows]
    assert len(set(expected)) == N_TASKS

    async def gather() -> list[Any]:
        return await asyncio.gather(*(awaited.apredict(row) for row in rows))

    for _ in range(5):
        assert [answer.tobytes() for answer in asyncio.run(gather())] == expected


def test_a_cancelled_task_leaves_the_others_right(awaited: Predictor) -> None:
    rows = rows_of(N_TASKS, seed=2)
    expected = [awaited.predict(row).tobytes() for row in rows]

    async def main() -> list[Any]:
        tasks = [asyncio.ensure_future(awaited.apredict(row)) for row in rows]
        tasks[10].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    for _ in range(5):
        answers = asyncio.run(main())
        assert isinstance(answers.pop(10), asyncio.CancelledError)
        assert [answer.tobytes() for answer in answers] == expected[:10] + expected[11:]


def test_a_refused_task_leaves_the_others_right(awaited: Predictor) -> None:
    rows: list[Any] = rows_of(N_TASKS, seed=3)
    expected = [awaited.predict(row).tobytes() for row in rows]
    rows[20] = {"age": "old"}

    async def main() -> list[Any]:
        return await asyncio.gather(
            *(awaited.apredict(row) for row in rows), return_exceptions=True
        )

    answers = asyncio.run(main())
    assert isinstance(answers.pop(20), InputError)
    assert [answer.tobytes() for answer in answers] == expected[:20] + expected[21:]


def test_a_task_cancelled_in_the_middle_of_its_run(model_folder: Path) -> None:
    """The run goes on in its thread; nobody waits for it, and nobody gets its answer."""
    execution = Execution(threads=1, calibration_s=0, release_gil=True)
    with infersdk.load(model_folder / "counter.onnx", execution=execution) as predictor:

        def steps(n: int) -> dict[str, np.ndarray]:
            return {"n": np.array(n), "x": np.zeros(1, np.float32)}

        async def main() -> list[Any]:
            tasks = [asyncio.ensure_future(predictor.apredict(steps(20_000 + i))) for i in range(8)]
            await asyncio.sleep(0)  # all of them have been handed to threads
            tasks[0].cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

        first, *others = asyncio.run(main())
        assert isinstance(first, asyncio.CancelledError)
        assert [answer.tolist() for answer in others] == [[20_000.0 + i] for i in range(1, 8)]
        assert predictor.predict(steps(3)).tolist() == [3.0]


def test_the_event_loop_goes_on_during_a_long_run(model_folder: Path) -> None:
    execution = Execution(threads=1, calibration_s=0, release_gil=True)
    with infersdk.load(model_folder / "counter.onnx", execution=execution) as predictor:

        async def main() -> int:
            task = asyncio.ensure_future(
                predictor.apredict({"n": np.array(200_000), "x": np.zeros(1, np.float32)})
            )
            turns = 0
            while not task.done():
                await asyncio.sleep(0)
                turns += 1
            assert (await task).tolist() == [200_000.0]
            return turns

        # Handing the call over and its answer back takes a few turns by itself.
        assert asyncio.run(main()) > 100


def test_event_loops_of_several_threads_share_a_predictor(awaited: Predictor) -> None:
    rows = rows_of(N_TASKS, seed=4)
    expected = [awaited.predict(row).tobytes() for row in rows]
    answers: dict[int, list[bytes]] = {}

    async def gather() -> list[Any]:
        return await asyncio.gather(*(awaited.apredict(row) for row in rows))

    def work(thread: int) -> None:
        answers[thread] = [answer.tobytes() for answer in asyncio.run(gather())]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == dict.fromkeys(range(4), expected)
