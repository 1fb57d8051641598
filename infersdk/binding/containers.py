"""Putting the rows of several calls into one container of the source model's, and cutting its answer.

Only what is sure to come apart again as it was put together is put together: plain containers of one kind,
whose columns and dtypes are the same. Whatever else comes is refused, and the caller answers each call alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from infersdk.binding.foreign import is_frame, is_series, is_tensor

__all__ = ["concatenate", "cut", "kind"]


def kind(container: Any) -> Hashable:
    """What containers must have in common for their rows to be put into one.

    Categories are not part of it, as comparing them takes longer than all the rest; :func:`concatenate`
    does.

    Raises
    ------
    ValueError
        The container is of no kind that can be put together.
    """
    if is_frame(container):
        return "frame", tuple(container.columns), tuple(map(_dtype, container.dtypes))
    if is_series(container):
        return "series", container.name, _dtype(container.dtype)
    if type(container) is np.ndarray and container.ndim:
        return "array", container.dtype, container.shape[1:]
    if is_tensor(container) and container.ndim:
        return "tensor", container.dtype, container.device, container.shape[1:]
    if hasattr(container, "tocsr"):
        return "sparse", type(container), container.dtype, container.shape[1:]
    if type(container) is list:
        return "list"
    if type(container) is tuple and container:
        return "tuple", *map(kind, container)
    if type(container) is dict and container:
        return "dict", *((name, kind(part)) for name, part in container.items())
    raise ValueError(f"rows in a {type(container).__name__} cannot be put together")


def concatenate(containers: Sequence[Any], *, checked: bool = False) -> Any:
    """Put the rows of containers of one kind into one, in order.

    Parameters
    ----------
    containers : sequence of DataFrame, Series, ndarray, scipy sparse matrix, tensor, list, or tuples or
            dicts of these
        At least one.
    checked : bool
        Their :func:`kind` is known to be the same; finding it out takes longer than all the rest.

    Returns
    -------
    object
        A new container of their kind, with a fresh index where there is one.

    Raises
    ------
    ValueError
        They differ in columns, dtypes, categories or the shape of a row, or are of no such kind.
    """
    if not checked and len({kind(container) for container in containers}) > 1:
        raise ValueError("rows of containers that differ cannot be put together")
    return _joined(containers)


def _joined(containers: Sequence[Any]) -> Any:
    first = containers[0]
    if type(first) is np.ndarray:
        return np.concatenate(containers)
    if type(first) is list:
        return [row for rows in containers for row in rows]
    if type(first) is tuple:
        return tuple(_joined(parts) for parts in zip(*containers, strict=True))
    if type(first) is dict:
        return {name: _joined([each[name] for each in containers]) for name in first}
    if is_tensor(first):
        import torch

        return torch.cat(list(containers))
    if hasattr(first, "tocsr"):
        from scipy import sparse

        return sparse.vstack(containers, format=first.format, dtype=first.dtype)
    import pandas as pd

    for position in _categorical(first):
        # Unordered ones in another order are equal to pandas, but have other codes.
        dtypes = [_column(each, position).dtype for each in containers]
        categories = dtypes[0].categories
        if not all(
            other.ordered == dtypes[0].ordered and other.categories.equals(categories)
            for other in dtypes[1:]
        ):
            raise ValueError("columns of other categories cannot be put together")
    return pd.concat(containers, ignore_index=True)


def cut(answer: Any, n_rows: Sequence[int]) -> list[Any]:
    """Cut an answer to the rows of several calls into the answer to each.

    Arrays and tensors are copied, so that no answer keeps the others in memory.

    Parameters
    ----------
    answer : object
        Array, sparse matrix, tensor, DataFrame or Series with a row for each row that was asked about; a
        list with an item for each; or a tuple, dict or list of arrays and tensors that have.
    n_rows : sequence of int
        Of each call, in order.

    Returns
    -------
    list
        One answer for each call.

    Raises
    ------
    ValueError
        The answer does not have a row for each row.
    """
    ends = list(accumulate(n_rows, initial=0))
    return _cut(answer, list(pairwise(ends)), ends[-1])


def _cut(answer: Any, spans: list[tuple[int, int]], total: int) -> list[Any]:
    # Lists are read in one way only, whatever their length: with arrays in it, it is one of outputs.
    if type(answer) is dict and answer:
        parts = {name: _cut(part, spans, total) for name, part in answer.items()}
        return [{name: part[i] for name, part in parts.items()} for i in range(len(spans))]
    if (isinstance(answer, tuple) and answer) or (
        type(answer) is list and any(hasattr(item, "shape") for item in answer)
    ):
        columns = [_cut(part, spans, total) for part in answer]
        make = getattr(type(answer), "_make", type(answer))
        return [make(column[i] for column in columns) for i in range(len(spans))]
    if type(answer) is list:
        _check(len(answer), total)
        return [answer[first:last] for first, last in spans]
    if not getattr(answer, "shape", ()):
        raise ValueError(f"a {type(answer).__name__} has no rows")
    _check(answer.shape[0], total)
    if hasattr(answer, "iloc"):
        if not np.array_equal(answer.index, np.arange(total)):
            raise ValueError("the index of the answer does not count its rows")
        return [answer.iloc[first:last].reset_index(drop=True) for first, last in spans]
    rows = [answer[first:last] for first, last in spans]
    if is_tensor(answer):
        return [part.clone() for part in rows]
    return [part.copy() for part in rows]


def _check(have: int, total: int) -> None:
    if have != total:
        raise ValueError(f"the answer has {have} rows for {total}")


def _dtype(dtype: Any) -> Hashable:
    return dtype if isinstance(dtype, np.dtype) else str(dtype)


def _categorical(container: Any) -> list[Any]:
    """Positions of categorical columns; None is the only column of a Series."""
    if is_series(container):
        return [None] if hasattr(container.dtype, "categories") else []
    return [i for i, dtype in enumerate(container.dtypes) if hasattr(dtype, "categories")]


def _column(container: Any, position: int | None) -> Any:
    return container if position is None else container.iloc[:, position]
