"""The best coalescer we could write in Python: a queue, a thread that drains it, a lock for each call.

No waiting window: whatever has come in during a run goes into the next one. SimpleQueue is written in C,
and a plain lock is the cheapest thing that a thread can wait for; futures and events cost several times as
much.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from benchmarks.rivals._tensors import MAX_BATCH_SIZE, batch_function, read_rows
from benchmarks.task import Task

label = "Python coalescer, 1 thread"


class _Call:
    """A row that waits for its answer."""

    __slots__ = ("answer", "done", "error", "item")

    def __init__(self, item: Any) -> None:
        self.item = item
        self.answer: Any = None
        self.error: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()


class ThreadBatcher:
    """Concurrent calls become batches of a function of a list."""

    def __init__(
        self,
        function: Callable[[Sequence[Any]], Sequence[Any]],
        max_batch_size: int,
        n_threads: int = 1,
    ) -> None:
        self._function = function
        self._max_batch_size = max_batch_size
        self._queue: SimpleQueue[_Call] = SimpleQueue()
        for _ in range(n_threads):
            threading.Thread(target=self._work, name="thread batcher", daemon=True).start()

    def __call__(self, item: Any) -> Any:
        call = _Call(item)
        self._queue.put(call)
        call.done.acquire()
        if call.error is not None:
            raise call.error
        return call.answer

    def _work(self) -> None:
        take, take_nowait = self._queue.get, self._queue.get_nowait
        most = self._max_batch_size
        while True:
            batch = [take()]
            try:
                while len(batch) < most:
                    batch.append(take_nowait())
            except Empty:
                pass
            try:
                answers = self._function([call.item for call in batch])
            except BaseException as error:
                for call in batch:
                    call.error = error
                    call.done.release()
                continue
            for call, answer in zip(batch, answers, strict=True):
                call.answer = answer
                call.done.release()


def setup(task: Task) -> None:
    global batcher, rows
    batcher = ThreadBatcher(batch_function(task), MAX_BATCH_SIZE)
    rows = read_rows(task)


def run(i: int) -> Any:
    return batcher(rows[i % len(rows)])
