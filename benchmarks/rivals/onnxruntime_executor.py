"""What an asyncio app does without a batcher: session.run in the loop's default executor."""

from __future__ import annotations

import asyncio
from typing import Any

from benchmarks.rivals._tensors import open_session, read_rows
from benchmarks.task import Task

label = "run_in_executor, session.run"


def setup(task: Task) -> None:
    global call, feeds
    session, name = open_session(task)
    feeds = [{name: row} for row in read_rows(task)]
    call = session.run


async def arun(i: int) -> Any:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, call, None, feeds[i % len(feeds)])
