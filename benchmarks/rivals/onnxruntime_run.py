"""ONNX Runtime's own Python API."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime

from benchmarks.task import Task

label = "onnxruntime session.run"


def setup(task: Task) -> None:
    global call, feeds
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(task.model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    feeds = [{name: row} for row in np.load(task.inputs.with_suffix(".npy"))]
    call = session.run


def run(i: int) -> Any:
    return call(None, feeds[i % len(feeds)])
