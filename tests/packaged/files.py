"""Real models that the tests take out of packages: `make test` puts them into the environment's own folder.

The packages themselves are not imported, and what they depend on is not installed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["ask_onnxruntime", "packaged", "runtime_session"]

FOLDER = Path(sys.prefix) / "packaged"


def packaged(path: str) -> str:
    """Return where a packaged file is.

    Raises
    ------
    ModuleNotFoundError
        Its package is not there; whoever asks skips with that reason.
    """
    found = FOLDER / path
    if not found.exists():
        package = path.partition("/")[0]
        raise ModuleNotFoundError(
            f"{package} is not in {FOLDER}; `make test` puts it there", name=package
        )
    return str(found)


def runtime_session(model: str) -> Any:
    """The same file in onnxruntime's own Python API, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def ask_onnxruntime(model: str, method: str, rows: Any) -> Any:
    """What onnxruntime answers: the only output, or a dict of all."""
    session = runtime_session(model)
    if not isinstance(rows, dict):
        rows = {session.get_inputs()[0].name: np.asarray(rows)}
    names = [value.name for value in session.get_outputs()]
    values = session.run(None, rows)
    return values[0] if len(values) == 1 else dict(zip(names, values, strict=True))
