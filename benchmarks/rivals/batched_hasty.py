"""PyPI's `batched` with its wait cut from 5 ms to 0.2: shorter ones only burn CPU."""

from __future__ import annotations

from typing import Any

import batched

from benchmarks.rivals._tensors import MAX_BATCH_SIZE, batch_function, read_rows
from benchmarks.task import Task

label = "batched, timeout_ms=0.2"


def setup(task: Task) -> None:
    global call, rows
    dynamically = batched.dynamically(batch_size=MAX_BATCH_SIZE, timeout_ms=0.2)
    call = dynamically(batch_function(task))
    rows = read_rows(task)


def run(i: int) -> Any:
    return call(rows[i % len(rows)])
