"""The array alone, as a function or a PyTorch module would take it."""

from __future__ import annotations

from typing import Any

import numpy as np

import infersdk
from benchmarks.task import Task

label = "infersdk Predictor.__call__"


def setup(task: Task) -> None:
    global call, rows
    call = infersdk.load(task.model, execution=infersdk.Execution(threads=1))
    rows = list(np.load(task.inputs.with_suffix(".npy")))


def run(i: int) -> Any:
    return call(rows[i % len(rows)])
