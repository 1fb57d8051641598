"""One row of ready-made tensors through one ONNX model, on one thread.

The models are the same for all rivals; inputs rotate, for one row repeated flatters a tree ensemble
threefold (its path stays in the branch predictor).
"""

from __future__ import annotations

import numpy as np

from benchmarks.models import N_INPUTS, build
from benchmarks.task import Task

__all__ = ["KIND", "RIVALS", "TITLE", "VARIANTS", "prepare"]

TITLE = "one row of tensors, one thread"
KIND = "calls"
VARIANTS = ("tiny", "mlp", "rf", "cnn")
RIVALS = dict.fromkeys(VARIANTS, ("onnxruntime_run", "infersdk_run", "infersdk_call"))


def prepare(task: Task) -> None:
    rng = np.random.default_rng(7)
    model, shape = build("forest" if task.variant == "rf" else task.variant, rng)
    task.model.write_bytes(model)
    inputs = rng.standard_normal((N_INPUTS, 1, *shape)).astype(np.float32)
    np.save(task.inputs.with_suffix(".npy"), inputs)
