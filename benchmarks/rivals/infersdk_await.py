"""Awaited on the event loop."""

from __future__ import annotations

from typing import Any

import numpy as np

import infersdk
from benchmarks.task import Task

label = "infersdk Predictor.apredict"


def setup(task: Task) -> None:
    global predictor, call, rows
    predictor = infersdk.load(task.model, execution=infersdk.Execution(threads=1))
    call = predictor.apredict
    rows = list(np.load(task.inputs.with_suffix(".npy")))


async def arun(i: int) -> Any:
    return await call(rows[i % len(rows)])


def run(i: int) -> Any:
    """From a thread, where a load needs to know what about can be answered."""
    return predictor(rows[i % len(rows)])
