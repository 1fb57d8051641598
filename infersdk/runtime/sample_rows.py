"""Rows to run a model on when nobody is asking yet: an example's, variants of one, or made-up ones.

Testing and measuring at load need rows that the model can run on and tells apart. An example's are best. One
row alone is varied: floats scaled, everything else moved along its last axis, so that what comes are values the
model knows. Without any, rows are random numbers of the graph's own types, zeros where even those make no
sense to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from infersdk.types import TensorSpec, ValueSpec

__all__ = [
    "distinct_rows",
    "is_floating",
    "made_up_rows",
    "neutral_inputs",
    "numpy_dtype",
    "row_key",
    "row_variants",
    "samples",
    "take_rows",
]

_N_ROWS = 5
_N_CANDIDATES = 64
_N_GROUPS = 3
_INNER_SIZES = (4, 32, 1)


def samples(specs: Sequence[ValueSpec], rows: Sequence[Any] | None) -> Iterator[list[Any]]:
    """Groups of distinct rows, the likeliest to run and to tell rows apart first."""
    sizes: list[Mapping[tuple[int, int], int] | int]
    example = _as_rows(specs, rows)
    if example is not None:
        distinct = distinct_rows(example)
        n_distinct = len(distinct[0])
        if n_distinct >= 2:
            step = max(1, n_distinct // _N_ROWS)
            for first in range(min(_N_GROUPS, step)):
                yield take_rows(distinct, list(range(first, n_distinct, step))[:_N_ROWS])
        varied = distinct_rows(row_variants(specs, distinct, _N_ROWS))
        if len(varied[0]) >= 2:
            yield take_rows(varied, list(range(min(_N_ROWS, len(varied[0])))))
        sizes = [
            {
                (position, axis): size
                for position, array in enumerate(example)
                for axis, size in enumerate(array.shape)
            }
        ]
    else:
        has_inner = any(
            not isinstance(dim, int)
            for spec in specs
            if isinstance(spec, TensorSpec) and spec.shape is not None
            for dim in spec.shape[1:]
        )
        sizes = list(_INNER_SIZES if has_inner else _INNER_SIZES[:1])
    for scale in (1.0, 30.0):
        for size in sizes:
            made = made_up_rows(specs, 4 * _N_ROWS, sizes=size, scale=scale, seed=int(scale))
            if made is None:
                return
            made = distinct_rows(made)
            if len(made[0]) >= 2:
                yield take_rows(made, list(range(min(_N_ROWS, len(made[0])))))


def _as_rows(specs: Sequence[ValueSpec], rows: Sequence[Any] | None) -> list[Any] | None:
    """The rows given, if they are rows: arrays of one length, which is not 0."""
    if rows is None or len(rows) != len(specs) or not len(rows):
        return None
    if not all(isinstance(array, np.ndarray) and array.ndim for array in rows):
        return None
    lengths = {len(array) for array in rows}
    return list(rows) if len(lengths) == 1 and lengths != {0} else None


def take_rows(arrays: Sequence[Any], rows: Sequence[int]) -> list[Any]:
    return [np.ascontiguousarray(array[np.asarray(rows, np.intp)]) for array in arrays]


def distinct_rows(arrays: Sequence[Any]) -> list[Any]:
    """Rows that differ from each other, out of some that are spread over all."""
    n_rows = len(arrays[0])
    spread = np.unique(np.linspace(0, n_rows - 1, min(n_rows, _N_CANDIDATES)).astype(np.intp))
    kept = {row_key([array[i] for array in arrays]): int(i) for i in spread[::-1]}
    return take_rows(arrays, sorted(kept.values()))


def row_key(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(
        tuple(value.ravel().tolist())
        if isinstance(value, np.ndarray) and value.dtype == object
        else value
        if isinstance(value, str)
        else value.tobytes()
        for value in values
    )


def is_floating(dtype: str) -> bool:
    return dtype.startswith(("float", "bfloat"))


def made_up_rows(
    specs: Sequence[ValueSpec],
    n_rows: int,
    *,
    sizes: Mapping[tuple[int, int], int] | int = 4,
    scale: float = 1.0,
    seed: int = 0,
) -> list[Any] | None:
    """Random rows of the graph's own dtypes and shapes, the same ones for the same seed.

    Parameters
    ----------
    specs : sequence of ValueSpec
        The inputs; axis 0 becomes ``n_rows`` where it is dynamic.
    n_rows : int
    sizes : int, or Mapping of (input, axis) positions to int
        Of the other dynamic axes.
    scale : float
        Standard deviation of floating-point numbers, which are normal. Integers are 0 or 1, the first
        along the last axis always 1, as in a mask; strings are "", "a" or "a b".
    seed : int

    Returns
    -------
    list of numpy.ndarray or None
        None where an input is not a tensor of a known rank.
    """
    rng = np.random.default_rng(seed)
    arrays: list[Any] = []
    for position, spec in enumerate(specs):
        if not isinstance(spec, TensorSpec) or spec.shape is None:
            return None
        shape = []
        for axis, dim in enumerate(spec.shape):
            if isinstance(dim, int):
                shape.append(dim)
            elif axis == 0:
                shape.append(n_rows)
            else:
                shape.append(sizes if isinstance(sizes, int) else sizes[position, axis])
        dtype = numpy_dtype(spec.dtype)
        if dtype.kind == "c" or is_floating(spec.dtype):
            array = (rng.normal(size=shape) * scale).astype(dtype)
        else:
            bits = rng.integers(0, 2, shape)
            if len(shape) == 1 or 0 < np.prod(shape[1:]) == 1:
                bits = (np.arange(bits.size) % 2).reshape(shape)
            elif shape[-1] > 1:
                bits[..., 0] = 1
            if spec.dtype == "string":
                # Two words, where what splits texts would give a row as many columns as its mates have.
                texts = np.array(["", "a", "a b"], dtype=object)
                array = texts[bits * rng.integers(1, 3, shape)]
            else:
                array = bits.astype(dtype)
        arrays.append(array)
    return arrays


def row_variants(specs: Sequence[ValueSpec], rows: Sequence[Any], n_rows: int) -> list[Any]:
    """Rows like the first one, which is the first: floats scaled at random, all else moved along.

    Parameters
    ----------
    specs : sequence of ValueSpec
        The inputs.
    rows : sequence of numpy.ndarray
        One array for each input; only row 0 is read.
    n_rows : int

    Returns
    -------
    list of numpy.ndarray
    """
    rng = np.random.default_rng(0)
    varied = []
    for spec, array in zip(specs, rows, strict=True):
        first = array[:1]
        if isinstance(spec, TensorSpec) and is_floating(spec.dtype):
            scales = rng.lognormal(size=(n_rows - 1, *first.shape[1:]))
            varied.append(np.concatenate([first, (first * scales).astype(array.dtype)]))
        else:
            n_turns = min(n_rows, first.shape[-1]) if first.ndim > 1 else 1
            turned = np.concatenate([np.roll(first, i, axis=-1) for i in range(max(n_turns, 1))])
            varied.append(turned[np.arange(n_rows) % len(turned)])
    return varied


def numpy_dtype(name: str) -> np.dtype[Any]:
    """numpy's dtype of a TensorSpec's; strings are objects."""
    if name == "string":
        return np.dtype(object)
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def neutral_inputs(specs: Sequence[ValueSpec]) -> list[Any] | None:
    """Zeros, False or empty strings of the smallest shape that each input allows."""
    arrays: list[Any] = []
    for spec in specs:
        if not isinstance(spec, TensorSpec) or spec.shape is None:
            return None
        shape = tuple(dim if isinstance(dim, int) else 1 for dim in spec.shape)
        if spec.dtype == "string":
            arrays.append(np.full(shape, "", dtype=object))
        else:
            arrays.append(np.zeros(shape, numpy_dtype(spec.dtype)))
    return arrays
