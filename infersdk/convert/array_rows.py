"""Rows to ask a model: the example's, resized and varied, or made up; and whether two answers agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.errors import ConversionError

__all__ = ["TOLERANCE", "Shape", "agree", "made_up", "resized", "varied", "with_rows"]

Shape = tuple[int | None, ...] | None
"""What a model declares of a shape: sizes, None for an axis of any size; None where it declares nothing."""

TOLERANCE = 1e-3
"""Difference that counts as rounding, as a share of the largest value."""

_HALF_TOLERANCE = 2e-2

_MADE_UP_ROWS = 4
_MADE_UP_LENGTH = 5
_SEED = 20047


def resized(array: NDArray[Any], axis: int, size: int) -> NDArray[Any]:
    """Cut an axis short, or lengthen it by starting over."""
    old = array.shape[axis]
    if old in (size, 0):
        return array
    return np.take(array, np.arange(size) % old, axis=axis)


def with_rows(
    arrays: Sequence[NDArray[Any]], rows: Sequence[int], n_rows: int
) -> tuple[NDArray[Any], ...]:
    """Give each input that counts rows as many of them as asked."""
    return tuple(
        resized(array, 0, n_rows) if index in rows else array for index, array in enumerate(arrays)
    )


def varied(
    arrays: Sequence[NDArray[Any]],
    rows: Sequence[int],
    n_rows: int | None,
    rng: np.random.Generator,
    *,
    factors: Sequence[float] = (1.0,),
) -> tuple[NDArray[Any], ...]:
    """Make new rows that resemble the example's.

    Numbers are multiplied by one of ``factors``, drawn per row, and get noise of a quarter of their standard
    deviation. Integers, truth values, text and flags (numbers that are 0 or 1 only) keep to what the example
    has at the same position, so that an index stays within its table; those of a single row are shuffled.

    Parameters
    ----------
    rows : sequence of int
        Inputs whose axis 0 counts rows; the others are varied as one row.
    n_rows : int or None
        How many rows to make; None keeps as many as there are.
    """
    count = n_rows if n_rows is not None else max((arrays[i].shape[0] for i in rows), default=1)
    drawn = rng.choice(np.asarray(factors, dtype=np.float64), size=count)
    made = []
    for index, array in enumerate(arrays):
        values = array if index in rows else array[None]
        n = count if index in rows else 1
        if values.size == 0:
            made.append(resized(array, 0, n) if index in rows else array)
            continue
        if _is_float(values.dtype) and not _is_flags(values):
            picked = values[rng.integers(len(values), size=n)].astype(np.float64)
            known = values[np.isfinite(values.astype(np.float64))].astype(np.float64)
            spread = float(known.std()) if known.size > 1 else 0.0
            noise = rng.standard_normal(picked.shape) * 0.25 * (spread or 1.0)
            scale = drawn[:n].reshape(-1, *[1] * (picked.ndim - 1))
            new = ((picked + noise) * scale).astype(array.dtype)
        else:
            new = _redrawn(values, n, rng)
        made.append(new if index in rows else new[0])
    return tuple(made)


def agree(ours: NDArray[Any], theirs: NDArray[Any], *, tolerance: float = TOLERANCE) -> bool:
    """Whether two arrays hold the same values but for rounding, measured on their own scale.

    Parameters
    ----------
    tolerance : float
        As a share of the largest value; at least 0.02 for half precision. 0 compares exactly.
    """
    if ours.size != theirs.size or ours.dtype != theirs.dtype:
        return False
    ours, theirs = ours.ravel(), theirs.ravel()
    if not (_is_float(theirs.dtype) or theirs.dtype.kind == "c"):
        return bool(np.array_equal(ours, theirs))
    wide = np.complex128 if theirs.dtype.kind == "c" else np.float64
    left, right = ours.astype(wide), theirs.astype(wide)
    if tolerance == 0.0:
        return bool(np.array_equal(left, right, equal_nan=True))
    finite = np.abs(right[np.isfinite(right)])
    scale = float(finite.max()) if finite.size else 0.0
    if theirs.dtype.itemsize <= 2:
        tolerance = max(tolerance, _HALF_TOLERANCE)
    return bool(
        np.allclose(left, right, rtol=tolerance, atol=tolerance * scale + 1e-7, equal_nan=True)
    )


def made_up(dtype: str, shape: Shape) -> NDArray[Any]:
    """An example of what a model declares: normal numbers, zeros and ones where it takes integers.

    Raises
    ------
    ConversionError
        Nothing can be made up: the rank is unknown, or the input takes text.
    """
    if shape is None or dtype == "string":
        what = "text" if dtype == "string" else "tensors of any rank"
        raise ConversionError(
            f"An example is needed: the model takes {what}. Pass rows as example="
        )
    sizes = [
        (_MADE_UP_ROWS if axis == 0 else _MADE_UP_LENGTH) if size is None else size
        for axis, size in enumerate(shape)
    ]
    rng = np.random.default_rng(_SEED)
    if dtype.startswith(("int", "uint", "bool")):
        return rng.integers(2, size=sizes).astype(dtype)
    return rng.standard_normal(sizes).astype(dtype)


def _is_float(dtype: np.dtype[Any]) -> bool:
    # bfloat16 and its like come from ml_dtypes, with a kind of their own.
    return dtype.kind == "f" or "float" in dtype.name


def _is_flags(values: NDArray[Any]) -> bool:
    return bool(np.isin(values, (0, 1)).all())


def _redrawn(values: NDArray[Any], n_rows: int, rng: np.random.Generator) -> NDArray[Any]:
    if len(values) == 1:
        rows = np.repeat(values, n_rows, axis=0)
        for row in rows[1:].reshape(n_rows - 1, -1):
            rng.shuffle(row)
        return rows
    flat = values.reshape(len(values), -1)
    picked = rng.integers(len(values), size=(n_rows, flat.shape[1]))
    drawn: NDArray[Any] = np.take_along_axis(flat, picked, axis=0)
    return drawn.reshape(n_rows, *values.shape[1:])
