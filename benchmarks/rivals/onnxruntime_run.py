"""ONNX Runtime's own Python API."""

from __future__ import annotations

from typing import Any

from benchmarks.rivals._tensors import open_session, read_rows
from benchmarks.task import Task

label = "onnxruntime session.run"


def setup(task: Task) -> None:
    global call, feeds
    session, name = open_session(task)
    feeds = [{name: row} for row in read_rows(task)]
    call = session.run


def run(i: int) -> Any:
    return call(None, feeds[i % len(feeds)])
