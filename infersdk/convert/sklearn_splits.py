"""Comparisons with thresholds, moved to where ONNX Runtime makes them exactly.

The tree operator compares float32 numbers, and so does ``sklearn.tree``, which rounds every value first
(:class:`Rounded`). HistGradientBoosting compares float64 numbers, and its thresholds may be training
values themselves, so that rounding would send rows the other way (:class:`Ranks`).

Steps in front that are increasing functions of single columns (imputers, and before ranks also scalers)
are not written at all: the threshold, or the way that missing values take, moves instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_writer import Writer
from infersdk.convert.tree_graph import add_ranks, floor_float32

__all__ = ["Ranks", "Rounded", "TreeInput", "turnover"]

_FLOAT32_WHOLE = 2.0**24
"""Up to here float32 holds every whole number."""


class Rounded:
    """What ``sklearn.tree`` compares: each column rounded to float32."""

    def __init__(self, columns: Columns) -> None:
        # An imputer alone (no function) changes where NaN goes and nothing else.
        self._columns = tuple(
            column
            if column.origin is not None and column.function is None
            else replace(column, origin=None, missing=float("nan"))
            for column in columns
        )
        self._missing = np.array([c.missing for c in self._columns], np.float64)

    def matrix(self, writer: Writer) -> str:
        """float32 (N, n_columns)."""
        return writer.numbers(
            tuple(c if c.origin is None else c.origin for c in self._columns), "float32"
        )

    def threshold(
        self, feature: NDArray[np.int64], threshold: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """What the operator compares with."""
        return floor_float32(threshold)

    def nan_left(
        self,
        feature: NDArray[np.int64],
        threshold: NDArray[np.float64],
        nan_left: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Which way NaN goes: where it is imputed, the way of what is filled in."""
        missing = self._missing[feature]
        filled = missing.astype(np.float32) <= threshold
        return np.where(np.isnan(missing), nan_left, filled)


class Ranks:
    """What HistGradientBoosting compares, as ranks: how many thresholds lie below a value.

    ``x <= t[i]`` exactly when ``rank(x) <= i``, for the sorted thresholds ``t`` of the column. Columns of
    whole numbers are taken as they are.

    Parameters
    ----------
    columns : tuple of Column
    splits : sequence of (feature, threshold)
        All splits of the ensemble.
    """

    def __init__(
        self,
        columns: Columns,
        splits: Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]],
    ) -> None:
        self._columns = columns
        self._missing = np.array([c.missing for c in columns], np.float64)
        self._sources = [c if c.origin is None else c.origin for c in columns]
        self._tables: dict[int, NDArray[np.float64]] = {}
        features = np.concatenate([feature for feature, _ in splits])
        limits = np.concatenate([threshold for _, threshold in splits])
        for index in np.unique(features).tolist():
            moved = np.unique(self._moved(index, limits[features == index]))
            finite = moved[np.isfinite(moved)]
            small = np.all(np.abs(finite) < _FLOAT32_WHOLE)
            if not (self._sources[index].whole and small):
                self._tables[index] = moved

    def _moved(self, index: int, threshold: NDArray[np.float64]) -> NDArray[np.float64]:
        function = self._columns[index].function
        return threshold if function is None else turnover(function, threshold)

    def matrix(self, writer: Writer) -> str:
        """float32 (N, n_columns)."""
        builder: Any = writer.builder  # has what add_ranks asks of a tree_graph.Graph
        sources = list(self._sources)
        ranked = sorted(self._tables)
        if ranked:
            values = writer.numbers(tuple(sources[index] for index in ranked))
            ranks = add_ranks(builder, values, [self._tables[index] for index in ranked])
            made = writer.new(ranks, len(ranked), "float32")
            for index, column in zip(ranked, made, strict=True):
                sources[index] = column
        return writer.numbers(tuple(sources), "float32")

    def threshold(
        self, feature: NDArray[np.int64], threshold: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """What the operator compares with."""
        result = np.empty(len(threshold), np.float32)
        for index in np.unique(feature).tolist():
            chosen = feature == index
            moved = self._moved(index, threshold[chosen])
            table = self._tables.get(index)
            if table is None:
                result[chosen] = floor_float32(moved)
            else:
                result[chosen] = np.searchsorted(table, moved)
        return result

    def nan_left(
        self,
        feature: NDArray[np.int64],
        threshold: NDArray[np.float64],
        nan_left: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Which way NaN goes: where it is imputed, the way of what is filled in."""
        missing = self._missing[feature]
        return np.where(np.isnan(missing), nan_left, missing <= threshold)


def turnover(
    function: Callable[[np.ndarray], np.ndarray], threshold: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The largest float64 whose function value is at most the threshold; -inf where there is none.

    Bisection over the float64 numbers in their order, for an increasing function.
    """
    low = np.full(len(threshold), -_INFINITY, np.int64)
    high = np.full(len(threshold), _INFINITY, np.int64)
    while np.any(low < high):
        # The upper middle, without the overflow of low + high.
        middle = low // 2 + high // 2 + (low % 2 + high % 2 + 1) // 2
        with np.errstate(over="ignore", invalid="ignore"):
            below = function(_float64_at(middle)) <= threshold
        low = np.where(below, middle, low)
        high = np.where(below, high, middle - 1)
    return _float64_at(low)


_INFINITY = int(np.float64(np.inf).view(np.int64))


def _float64_at(ordinal: NDArray[np.int64]) -> NDArray[np.float64]:
    """The float64 at a place in the order of all of them; zero is at 0."""
    magnitude = np.abs(ordinal).view(np.float64)
    return np.where(ordinal < 0, -magnitude, magnitude)


TreeInput = Rounded | Ranks
