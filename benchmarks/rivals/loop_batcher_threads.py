"""The asyncio batcher under threads: its loop has a thread of its own, calls cross over to it."""

from __future__ import annotations

import asyncio
import atexit
import threading
from typing import Any

from benchmarks.rivals._tensors import MAX_BATCH_SIZE, batch_function, read_rows
from benchmarks.rivals.loop_batcher import LoopBatcher
from benchmarks.task import Task

label = "Ray-Serve-style batcher"


def setup(task: Task) -> None:
    global batcher, loop, rows
    batcher = LoopBatcher(batch_function(task), MAX_BATCH_SIZE, 0.0)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="loop batcher", daemon=True).start()
    rows = read_rows(task)
    atexit.register(_close)


def run(i: int) -> Any:
    return asyncio.run_coroutine_threadsafe(batcher(rows[i % len(rows)]), loop).result()


def _close() -> None:
    asyncio.run_coroutine_threadsafe(batcher.close(), loop).result(timeout=5)
