"""An asyncio batcher with the rules of Ray Serve's ``@serve.batch``, awaited on the event loop.

One task takes batches from a queue: it waits for a first call, then until there are ``max_batch_size`` or
``batch_wait_timeout_s`` has passed, and runs the batch on the loop, one at a time
(``max_concurrent_batches=1``), as a plain handler does. The wait is 0 here, which takes what is there: in
every case of ours longer ones are slower.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.rivals._tensors import MAX_BATCH_SIZE, batch_function, read_rows
from benchmarks.task import Task

label = "Ray-Serve-style batcher"


class LoopBatcher:
    """Calls awaited on one loop become batches of a function of a list."""

    def __init__(
        self,
        function: Callable[[Sequence[Any]], Sequence[Any]],
        max_batch_size: int,
        batch_wait_timeout_s: float,
    ) -> None:
        self._function = function
        self._max_batch_size = max_batch_size
        self._wait_s = batch_wait_timeout_s
        self._queue: asyncio.Queue[tuple[Any, asyncio.Future[Any]]] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None

    async def __call__(self, item: Any) -> Any:
        loop = asyncio.get_running_loop()
        if self._worker is None:
            self._worker = loop.create_task(self._work())
        future = loop.create_future()
        self._queue.put_nowait((item, future))
        return await future

    async def close(self) -> None:
        """End the task that takes batches."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker])

    async def _work(self) -> None:
        while True:
            batch = await self._next_batch()
            try:
                answers = self._function([item for item, _ in batch])
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    async def _next_batch(self) -> list[tuple[Any, asyncio.Future[Any]]]:
        clock = asyncio.get_running_loop().time
        batch = [await self._queue.get()]
        end_s = clock() + self._wait_s
        while len(batch) < self._max_batch_size:
            if not self._queue.empty():
                batch.append(self._queue.get_nowait())
                continue
            remaining_s = end_s - clock()
            if remaining_s <= 0:
                break
            try:
                batch.append(await asyncio.wait_for(self._queue.get(), remaining_s))
            except TimeoutError:
                break
        return batch


def setup(task: Task) -> None:
    global batcher, rows
    batcher = LoopBatcher(batch_function(task), MAX_BATCH_SIZE, 0.0)
    rows = read_rows(task)


async def arun(i: int) -> Any:
    return await batcher(rows[i % len(rows)])
