"""PyPI's `batched` as it comes, for threads: batches of up to 32, a sleep of 5 ms while there are fewer."""

from __future__ import annotations

from typing import Any

import batched

from benchmarks.rivals._tensors import batch_function, read_rows
from benchmarks.task import Task

label = "batched"


def setup(task: Task) -> None:
    global call, rows
    call = batched.dynamically(batch_function(task))
    rows = read_rows(task)


def run(i: int) -> Any:
    return call(rows[i % len(rows)])
