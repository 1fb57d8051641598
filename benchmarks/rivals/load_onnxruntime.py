"""A session of ONNX Runtime's own Python API on the same file."""

from __future__ import annotations

from typing import Any

import onnxruntime

from benchmarks.task import Task

label = "onnxruntime.InferenceSession"


def setup(task: Task) -> None:
    global options, path
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = task.model


def run(i: int) -> Any:
    return onnxruntime.InferenceSession(path, options)
