"""PyPI's `batched` for asyncio, as it comes: batches of up to 32, waiting 5 ms while there are fewer."""

from __future__ import annotations

from typing import Any

import batched

from benchmarks.rivals._tensors import batch_function, read_rows
from benchmarks.task import Task

label = "batched.aio"


def setup(task: Task) -> None:
    global call, rows
    call = batched.aio.dynamically(batch_function(task))
    rows = read_rows(task)


async def arun(i: int) -> Any:
    return await call(rows[i % len(rows)])
