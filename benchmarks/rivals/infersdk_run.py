"""Named tensors in, named tensors out."""

from __future__ import annotations

from typing import Any

import numpy as np

import infersdk
from benchmarks.task import Task

label = "infersdk Predictor.run"


def setup(task: Task) -> None:
    global call, feeds
    predictor = infersdk.load(task.model, execution=infersdk.Execution(threads=1))
    name = predictor.signature.inputs[0].name
    feeds = [{name: row} for row in np.load(task.inputs.with_suffix(".npy"))]
    call = predictor.run


def run(i: int) -> Any:
    return call(feeds[i % len(feeds)])
