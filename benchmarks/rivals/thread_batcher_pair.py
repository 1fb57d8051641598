"""The Python coalescer with two threads, which can keep two cores busy where runs are long."""

from __future__ import annotations

from typing import Any

from benchmarks.rivals._tensors import MAX_BATCH_SIZE, batch_function, read_rows
from benchmarks.rivals.thread_batcher import ThreadBatcher
from benchmarks.task import Task

label = "Python coalescer, 2 threads"


def setup(task: Task) -> None:
    global batcher, rows
    batcher = ThreadBatcher(batch_function(task), MAX_BATCH_SIZE, n_threads=2)
    rows = read_rows(task)


def run(i: int) -> Any:
    return batcher(rows[i % len(rows)])
