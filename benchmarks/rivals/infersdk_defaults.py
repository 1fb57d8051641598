"""infersdk as it comes, without a word about threads."""

from __future__ import annotations

from typing import Any

import numpy as np

import infersdk
from benchmarks.task import Task

label = "infersdk, default threads"


def setup(task: Task) -> None:
    global call, rows
    call = infersdk.load(task.model)
    rows = list(np.load(task.inputs.with_suffix(".npy")))


def run(i: int) -> Any:
    return call(rows[i % len(rows)])
