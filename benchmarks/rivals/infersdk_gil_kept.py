"""Every run in its caller's thread, with the GIL: infersdk with its choice taken away."""

from __future__ import annotations

from typing import Any

import numpy as np

import infersdk
from benchmarks.task import Task
from infersdk.options import Batching

label = "infersdk, inline, GIL kept"


def setup(task: Task) -> None:
    global call, rows
    call = infersdk.load(
        task.model,
        execution=infersdk.Execution(threads=1, release_gil=False),
        batching=Batching.off(),
    )
    rows = list(np.load(task.inputs.with_suffix(".npy")))


def run(i: int) -> Any:
    return call(rows[i % len(rows)])
