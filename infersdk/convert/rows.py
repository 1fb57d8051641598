"""Counting and taking rows of whatever a source model takes: frames, matrices, texts and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.types import Dim, Signature, TensorSpec

__all__ = ["bytes_per_row", "can_split", "count", "take"]


def count(rows: Any) -> int:
    """Number of rows; of several tensors the first decides."""
    if isinstance(rows, Mapping):
        rows = next(iter(rows.values()))
    elif isinstance(rows, tuple):
        rows = rows[0]
    shape = getattr(rows, "shape", None)
    return int(shape[0]) if shape else len(rows)


def take(rows: Any, index: NDArray[np.int64]) -> Any:
    """Return the rows at ``index``, in that order and in the same kind of container."""
    if isinstance(rows, Mapping):
        return {name: take(item, index) for name, item in rows.items()}
    if isinstance(rows, tuple):
        return tuple(take(item, index) for item in rows)
    if hasattr(rows, "iloc"):
        return rows.iloc[index]
    if isinstance(rows, list):
        return [rows[i] for i in index]
    return rows[index]


def can_split(rows: Any, signature: Signature) -> bool:
    """Whether a part of the rows is an input of the model too.

    Rows of a table and texts always are. Tensors are when all have the same number of rows and the
    graph leaves that axis open, unless a name other than "N" says that it counts something else than
    independent rows.
    """
    if signature.container != "tensors":
        return True
    parts = _parts(rows)
    if not all(getattr(part, "shape", ()) for part in parts):
        return False
    if len({int(part.shape[0]) for part in parts}) != 1:
        return False
    return bool(signature.inputs) and all(
        isinstance(spec, TensorSpec) and _is_open(spec.shape) for spec in signature.inputs
    )


def bytes_per_row(rows: Any) -> int:
    """Roughly how much memory a row takes as it is handed to the source model."""
    total = 0
    for part in _parts(rows):
        shape = getattr(part, "shape", None)
        if shape:
            total += 8 * int(np.prod(shape[1:], dtype=np.int64))
    return max(total, 1)


def _is_open(shape: tuple[Dim, ...] | None) -> bool:
    return shape is not None and len(shape) > 0 and shape[0] in (None, "N")


def _parts(rows: Any) -> list[Any]:
    if isinstance(rows, Mapping):
        return list(rows.values())
    if isinstance(rows, tuple):
        return list(rows)
    return [rows]
