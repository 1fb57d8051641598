"""The artifact opened, checked and ready to answer."""

from __future__ import annotations

from typing import Any

import infersdk
from benchmarks.task import Task

label = "infersdk.load"


def setup(task: Task) -> None:
    global execution, path
    execution = infersdk.Execution(threads=1)
    path = task.model


def run(i: int) -> Any:
    return infersdk.load(path, execution=execution)
