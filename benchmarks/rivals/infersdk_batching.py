"""Every model batched: infersdk with its choice taken away."""

from __future__ import annotations

from typing import Any

import numpy as np

import infersdk
from benchmarks.task import Task
from infersdk.options import Batching

label = "infersdk, batching on"


def setup(task: Task) -> None:
    global call, rows
    call = infersdk.load(
        task.model,
        execution=infersdk.Execution(threads=1),
        batching=Batching(enabled=True),
    )
    rows = list(np.load(task.inputs.with_suffix(".npy")))


def run(i: int) -> Any:
    return call(rows[i % len(rows)])
