"""Comparing two answers to the same rows: how far apart, in how many rows, and where.

A number agrees when ``abs(ours - theirs) <= atol * scale + rtol * abs(theirs)``; NaN agrees with NaN and
an infinity with the same infinity. ``scale`` is 1, or more where the answers are large numbers: the
median of ``abs(theirs)`` over the compared rows, taken for each column of a two-dimensional answer and
over everything else at once. A float32 graph adds terms of the size of its answers, so that where
prices around 1e6 come out, a price that happens to be near 0 cannot be right to 1e-5. The median and not
the mean, so that a few huge answers do not excuse the small ones.

Whole numbers, truth values and text are discrete: they agree when equal, and every row where one does
not is a flip.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Comparison", "Leaf", "compare", "leaves", "scales"]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One array of an answer.

    Attributes
    ----------
    where : str
        Its place in the answer: ``""`` for the answer itself, ``[1]``, ``['logits']``.
    value : numpy.ndarray or scipy sparse matrix
    dtype : str
        The dtype that the user sees, e.g. ``"bfloat16"`` where ``value`` is float32.
    """

    where: str
    value: Any
    dtype: str

    @property
    def is_sparse(self) -> bool:
        return hasattr(self.value, "tocsr")

    @property
    def is_discrete(self) -> bool:
        return self.value.dtype.kind not in "fcV"

    def row(self, index: int, n_rows: int) -> Leaf | None:
        """The leaf of one row alone; None where its first axis is not the rows."""
        if not self.value.shape or self.value.shape[0] != n_rows:
            return None
        return Leaf(self.where, self.value[[index]], self.dtype)


@dataclass(slots=True)
class Comparison:
    """What was found over any number of comparisons.

    ``rows`` are the rows that disagree, as (part, row), where the part tells lots of rows apart;
    ``flipped`` are those of them with a discrete answer that differs. ``eased`` counts numbers that agree
    only because the scale of the answers is above 1. ``problems`` are sentences, the first one first.
    """

    max_abs_error: float = 0.0
    max_rel_error: float = 0.0
    eased: int = 0
    is_discrete: bool = False
    rows: set[tuple[str, int]] = field(default_factory=set)
    flipped: set[tuple[str, int]] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    @property
    def flips(self) -> int | None:
        """Rows with another discrete answer; None when nothing discrete was compared."""
        return len(self.flipped) if self.is_discrete else None

    def report(
        self, part: str, rows: Iterable[int], problem: str, *, flipped: bool = False
    ) -> None:
        """Add rows that disagree."""
        places = {(part, int(row)) for row in rows}
        self.rows |= places
        if flipped:
            self.flipped |= places
        self.problems.append(problem)


def leaves(answer: Any, where: str = "") -> list[Leaf]:
    """Take an answer apart into its arrays, in order; dicts by their keys' order."""
    if isinstance(answer, Mapping):
        return [leaf for key, item in answer.items() for leaf in leaves(item, f"{where}[{key!r}]")]
    if isinstance(answer, (tuple, list)):
        return [leaf for i, item in enumerate(answer) for leaf in leaves(item, f"{where}[{i}]")]
    if hasattr(answer, "tocsr"):
        return [Leaf(where, answer.tocsr(), str(answer.dtype))]
    if hasattr(answer, "detach"):
        tensor = answer.detach().cpu()
        dtype = str(tensor.dtype).removeprefix("torch.")
        # numpy has no dtype for bfloat16 and the float8 types; float32 holds all of their values.
        value = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        return [Leaf(where, value, dtype)]
    value = np.asarray(answer)
    # What ml_dtypes adds is of kind "V" and has no arithmetic that numpy could test for NaN.
    return [
        Leaf(
            where, value.astype(np.float32) if value.dtype.kind == "V" else value, value.dtype.name
        )
    ]


def scales(parts: list[list[Leaf]]) -> list[NDArray[np.float64] | float]:
    """The scale of each leaf's tolerance, from the source's answers to several lots of rows."""
    result: list[NDArray[np.float64] | float] = []
    for same in zip(*parts, strict=False):
        first = same[0]
        if first.is_discrete or first.is_sparse:
            result.append(1.0)
            continue
        by_column = first.value.ndim == 2 and all(
            leaf.value.shape[1:] == first.value.shape[1:] for leaf in same
        )
        if by_column:
            values = np.abs(np.concatenate([leaf.value for leaf in same], dtype=np.float64))
        else:
            values = np.abs(np.concatenate([leaf.value.ravel() for leaf in same], dtype=np.float64))
        result.append(np.maximum(_finite_median(values), 1.0))
    return result


def compare(
    found: Comparison,
    ours: list[Leaf],
    theirs: list[Leaf],
    *,
    rtol: float,
    atol: float,
    scale: list[NDArray[np.float64] | float],
    n_rows: int,
    part: str,
    first_row: int = 0,
    remark: str = "",
) -> bool:
    """Compare two answers to the same ``n_rows`` rows and add what differs to ``found``.

    ``part`` and ``first_row`` say which rows they are, counted from the part's beginning; ``remark`` is
    added to the sentences about them.

    Returns
    -------
    bool
        Whether they agree.
    """
    every = range(first_row, first_row + n_rows)
    if [leaf.where for leaf in ours] != [leaf.where for leaf in theirs]:
        problem = f"expected an answer made of {_places(theirs)}, got {_places(ours)}"
        found.report(part, every, problem + remark)
        return False
    agree = True
    for mine, other, factor in zip(ours, theirs, scale, strict=True):
        at = f" at {other.where}" if other.where else ""
        if np.ndim(factor) and np.shape(factor) != other.value.shape[1:]:
            # Rows of another length have other columns.
            factor = float(np.median(factor))
        if mine.is_sparse != other.is_sparse or mine.value.shape != other.value.shape:
            problem = f"expected {_kind(other)}, got {_kind(mine)}{at}"
            found.report(part, every, problem + remark)
        elif _dtype(mine) != _dtype(other):
            problem = f"expected dtype {other.dtype}, got {mine.dtype}{at}"
            found.report(part, every, problem + remark)
        else:
            wrong = _wrong_elements(found, mine, other, rtol, atol, factor)
            if not len(wrong[0]):
                continue
            whole = other.value.shape[:1] != (n_rows,)
            first = tuple(int(axis[0]) for axis in wrong)
            place = f"{part} rows" if whole else f"{part} row {first_row + first[0]}"
            found.report(
                part,
                every if whole else first_row + np.unique(wrong[0]),
                f"{_element(mine, first)} instead of {_element(other, first)}{at} in {place}{remark}",
                flipped=other.is_discrete,
            )
        agree = False
    return agree


def _wrong_elements(
    found: Comparison, mine: Leaf, other: Leaf, rtol: float, atol: float, scale: Any
) -> tuple[NDArray[np.int64], ...]:
    """Indices of the elements that disagree, one array for each axis, rows in order."""
    if other.is_discrete:
        found.is_discrete = True
        if other.is_sparse:
            return _in_order((mine.value != other.value).nonzero())
        return np.nonzero(np.atleast_1d(mine.value != other.value))
    if other.is_sparse:
        # Only places where one of the two stores something can differ.
        at = (abs(mine.value) + abs(other.value)).nonzero()
        if not len(at[0]):
            return at  # Indexing with nothing would give a matrix, not numbers.
        left, right = (np.asarray(item.value[at]).ravel() for item in (mine, other))
        bad = _differs(found, left, right, rtol, atol, scale)
        return _in_order((at[0][bad], at[1][bad]))
    return np.nonzero(np.atleast_1d(_differs(found, mine.value, other.value, rtol, atol, scale)))


def _differs(
    found: Comparison,
    ours: NDArray[Any],
    theirs: NDArray[Any],
    rtol: float,
    atol: float,
    scale: Any,
) -> NDArray[np.bool_]:
    wide = np.complex128 if theirs.dtype.kind == "c" else np.float64
    left, right = ours.astype(wide), theirs.astype(wide)
    with np.errstate(all="ignore"):
        error = np.abs(left - right)
        same = (left == right) | (np.isnan(left) & np.isnan(right))
        error = np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))
        size = np.abs(right)
        # Of infinities only equal ones agree, however wide the tolerance.
        finite = np.isfinite(left) & np.isfinite(right)
        bad: NDArray[np.bool_] = ~same & ~(finite & (error <= atol * scale + rtol * size))
        found.eased += int(np.count_nonzero(~bad & (error > atol + rtol * size)))
        relative = np.where(same | (size == 0), 0.0, error / size)
    if error.size:
        found.max_abs_error = max(found.max_abs_error, float(error.max()))
        found.max_rel_error = max(
            found.max_rel_error, float(np.nan_to_num(relative, nan=np.inf).max())
        )
    return bad


def _finite_median(values: NDArray[np.float64]) -> NDArray[np.float64] | float:
    values = np.where(np.isfinite(values), values, np.nan)
    if values.ndim < 2:
        finite = values[~np.isnan(values)]
        return float(np.median(finite)) if finite.size else 1.0
    known = ~np.isnan(values).all(axis=0)
    result = np.ones(values.shape[1])
    if known.any() and len(values):
        result[known] = np.nanmedian(values[:, known], axis=0)
    return result


def _element(leaf: Leaf, index: tuple[int, ...]) -> str:
    value = leaf.value[index] if leaf.is_sparse else np.atleast_1d(leaf.value)[index]
    return repr(value.item() if hasattr(value, "item") else value)


def _in_order(places: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...]:
    order = np.lexsort(places[::-1])
    return tuple(axis[order] for axis in places)


def _dtype(leaf: Leaf) -> str:
    # How many characters the longest text has is no property of the answer's kind.
    return "str" if leaf.value.dtype.kind == "U" else leaf.dtype


def _kind(leaf: Leaf) -> str:
    return f"{'a sparse matrix' if leaf.is_sparse else 'an array'} of shape {leaf.value.shape}"


def _places(answer: list[Leaf]) -> str:
    return ", ".join(leaf.where or "one array" for leaf in answer) or "nothing"
