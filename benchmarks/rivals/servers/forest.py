"""The forest as every rival server runs it: onnxruntime's session, one thread, rows as JSON objects.

A row runs in a few microseconds, for which a pool of threads is only in the way. NumPy, orjson and onnxruntime
are all that this needs, so each rival imports it in an environment of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

__all__ = ["Forest"]


class Forest:
    """The model in ``$MODELS``. A process that has opened it leaves a file named after itself in ``$READY``."""

    def __init__(self) -> None:
        folder = Path(os.environ["MODELS"])
        self._in_order = itemgetter(*json.loads((folder / "features.json").read_text()))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            folder / "skl2onnx.onnx", options, providers=["CPUExecutionProvider"]
        )
        (Path(os.environ["READY"]) / str(os.getpid())).touch()

    def answer(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one row, in the form that the benchmark expects."""
        return {"answers": self._run([row])}

    def answers(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Answer each of several rows, in one run."""
        return [{"answers": [probabilities]} for probabilities in self._run(rows)]

    def _run(self, rows: Sequence[Mapping[str, Any]]) -> list[list[float]]:
        x = np.array([self._in_order(row) for row in rows], dtype=np.float32)
        (probabilities,) = self._session.run(["probabilities"], {"X": x})
        answers: list[list[float]] = probabilities.tolist()
        return answers
