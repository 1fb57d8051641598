"""The array alone, as a function or a PyTorch module would take it; infersdk decides how a run is made."""

from __future__ import annotations

from typing import Any

import numpy as np

import infersdk
from benchmarks.task import Task
from infersdk.errors import DeadlineError, OverloadedError

label = "infersdk Predictor.__call__"
refused = (OverloadedError,)
expired = (DeadlineError,)


def setup(task: Task) -> None:
    global call, rows
    call = infersdk.load(task.model, execution=infersdk.Execution(threads=1))
    rows = list(np.load(task.inputs.with_suffix(".npy")))


def run(i: int) -> Any:
    return call(rows[i % len(rows)])


def run_within(i: int, timeout_s: float) -> Any:
    return call(rows[i % len(rows)], timeout_s=timeout_s)
