"""What the rivals over ONNX Runtime's Python API share: a session, its rows, and batches cut up again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.task import Task

__all__ = ["MAX_BATCH_SIZE", "batch_function", "open_session", "read_rows"]

MAX_BATCH_SIZE = 32

Row = np.ndarray
Answer = list[np.ndarray]


def open_session(task: Task, threads: int | None = 1) -> tuple[Any, str]:
    """A session with that many threads (None: ONNX Runtime's own choice), and its input's name."""
    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = threads
    session = onnxruntime.InferenceSession(task.model, options, providers=["CPUExecutionProvider"])
    return session, session.get_inputs()[0].name


def read_rows(task: Task) -> list[Row]:
    """The inputs, each an array of one row."""
    return list(np.load(task.inputs.with_suffix(".npy")))


def batch_function(task: Task) -> Callable[[Sequence[Row]], list[Answer]]:
    """A function of rows that runs them as one batch: each row's outputs, with their batch axis."""
    session, name = open_session(task)
    run = session.run

    def answer(rows: Sequence[Row]) -> list[Answer]:
        if len(rows) == 1:
            return [run(None, {name: rows[0]})]
        outputs = run(None, {name: np.concatenate(rows)})
        return [[output[i : i + 1] for output in outputs] for i in range(len(rows))]

    return answer
