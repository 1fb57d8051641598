"""ONNX Runtime's own Python API as it comes: a thread per core, which spins when it waits."""

from __future__ import annotations

from typing import Any

from benchmarks.rivals._tensors import open_session, read_rows
from benchmarks.task import Task

label = "session.run, default threads"


def setup(task: Task) -> None:
    global call, feeds
    session, name = open_session(task, threads=None)
    feeds = [{name: row} for row in read_rows(task)]
    call = session.run


def run(i: int) -> Any:
    return call(None, feeds[i % len(feeds)])
