"""Reading LightGBM's text format: the trees and what surrounds them.

The text is what ``Booster.model_to_string()`` writes (format v4, LightGBM 4.x). It is flat, so that deep
trees cost no recursion, and holds float64 numbers with all their digits.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from infersdk.errors import UnsupportedModelError

__all__ = [
    "MISSING_NAN",
    "MISSING_NONE",
    "MISSING_ZERO",
    "ZERO_THRESHOLD",
    "Dump",
    "DumpedTree",
    "effective_thresholds",
    "read",
]

# Bits of a split's decision_type, and the kinds of missing value in bits 2 and 3.
CATEGORICAL, DEFAULT_LEFT = 1, 2
MISSING_NONE, MISSING_ZERO, MISSING_NAN = 0, 1, 2

ZERO_THRESHOLD = float(np.float32(1e-35))
"""LightGBM reads numbers this close to zero as zero (kZeroThreshold)."""


def effective_thresholds(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the thresholds LightGBM in effect compares with.

    It reads numbers next to zero as zero before it compares, so that a threshold among them stands for
    an edge of that range.
    """
    near = np.abs(values) <= ZERO_THRESHOLD
    edges = np.where(values >= 0, ZERO_THRESHOLD, np.nextafter(-ZERO_THRESHOLD, -np.inf))
    return np.where(near, edges, values)


@dataclass(frozen=True, slots=True)
class DumpedTree:
    """One tree of the text format. Children are numbered as in :class:`Tree`."""

    column: NDArray[np.int64]
    threshold: NDArray[np.float64]
    """Of numeric splits; of categorical ones, the number of their set."""
    decision: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    leaf: NDArray[np.float64]
    set_bounds: NDArray[np.int64]
    set_words: NDArray[np.int64]
    """Sets of categories as 32-bit words; set i has words ``set_bounds[i]:set_bounds[i + 1]``."""
    leaf_const: NDArray[np.float64] | None
    leaf_terms: tuple[tuple[NDArray[np.int64], NDArray[np.float64]], ...]
    """Linear trees: the columns and coefficients of each leaf."""

    @classmethod
    def of(cls, text: dict[str, str]) -> DumpedTree:
        n_leaves = int(text["num_leaves"])
        # A tree with one leaf has no split, but some versions still write empty split arrays.
        n_splits = n_leaves - 1
        const: NDArray[np.float64] | None = None
        terms: tuple[tuple[NDArray[np.int64], NDArray[np.float64]], ...] = ()
        if text.get("is_linear", "0") == "1":
            const = _numbers(text, "leaf_const", np.float64)
            sizes = _numbers(text, "num_features", np.int64)
            bounds = np.insert(np.cumsum(sizes), 0, 0)
            columns = _numbers(text, "leaf_features", np.int64)
            factors = _numbers(text, "leaf_coeff", np.float64)
            terms = tuple(
                (columns[start:stop], factors[start:stop])
                for start, stop in itertools.pairwise(bounds)
            )
        return cls(
            column=_numbers(text, "split_feature", np.int64)[:n_splits],
            threshold=_numbers(text, "threshold", np.float64)[:n_splits],
            decision=_numbers(text, "decision_type", np.int64)[:n_splits],
            left=_numbers(text, "left_child", np.int64)[:n_splits],
            right=_numbers(text, "right_child", np.int64)[:n_splits],
            leaf=_numbers(text, "leaf_value", np.float64),
            set_bounds=_numbers(text, "cat_boundaries", np.int64),
            set_words=_numbers(text, "cat_threshold", np.int64),
            leaf_const=const,
            leaf_terms=terms,
        )

    @property
    def n_splits(self) -> int:
        return len(self.column)

    @property
    def is_categorical(self) -> NDArray[np.bool_]:
        return (self.decision & CATEGORICAL) != 0

    @property
    def default_left(self) -> NDArray[np.bool_]:
        return (self.decision & DEFAULT_LEFT) != 0

    @property
    def missing(self) -> NDArray[np.int64]:
        """The kind of missing value of each split."""
        return (self.decision >> 2) & 3

    def members(self, split: int) -> NDArray[np.int64]:
        """Return the categories that go left at a categorical split."""
        number = int(self.threshold[split])
        words = self.set_words[self.set_bounds[number] : self.set_bounds[number + 1]]
        bits = (words[:, None] >> np.arange(32)) & 1
        return np.flatnonzero(bits.ravel())


@dataclass(frozen=True)
class Dump:
    """What a model's text and its wrapper say, in one place."""

    wrapper: Literal["booster", "classifier", "model"]
    classes: NDArray[Any]
    """Of a classifier, else empty."""
    custom: bool
    """A classifier trained with a callable objective answers raw scores."""
    stops_early: bool
    has_decision_function: bool
    objective: str
    options: dict[str, str]
    """What follows the objective's name: ``sigmoid:1``, ``sqrt``, ..."""
    n_features: int
    n_outputs: int
    averages: bool
    """rf: the mean of the rounds, not their sum."""
    names: tuple[str, ...]
    spans: tuple[float, ...]
    """Width of each column's range in training; 0 where unknown."""
    categorical: tuple[int, ...]
    """Columns that training was told are categorical."""
    pandas_categorical: list[list[Any]] | None
    trees: Sequence[DumpedTree]

    @cached_property
    def _numeric(self) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """Columns, effective thresholds and kinds of missing value of all numeric splits, by column."""
        picked = [~tree.is_categorical for tree in self.trees]
        columns = np.concatenate(
            [np.empty(0, np.int64), *(t.column[k] for t, k in zip(self.trees, picked, strict=True))]
        )
        limits = np.concatenate(
            [np.empty(0), *(t.threshold[k] for t, k in zip(self.trees, picked, strict=True))]
        )
        missing = np.concatenate(
            [
                np.empty(0, np.int64),
                *(t.missing[k] for t, k in zip(self.trees, picked, strict=True)),
            ]
        )
        order = np.argsort(columns, kind="stable")
        return columns[order], effective_thresholds(limits[order]), missing[order]

    def thresholds(self, column: int) -> NDArray[np.float64]:
        """Return the effective thresholds of a column's numeric splits, sorted, without repetition."""
        columns, limits, _ = self._numeric
        start, stop = np.searchsorted(columns, [column, column + 1])
        return np.unique(limits[start:stop])

    def columns_missing(self, kind: int) -> set[int]:
        """Return the columns with numeric splits of this kind of missing value."""
        columns, _, missing = self._numeric
        return set(np.unique(columns[missing == kind]).tolist())

    @cached_property
    def _largest_categories(self) -> dict[int, int]:
        largest: dict[int, int] = {}
        for tree in self.trees:
            for split in np.flatnonzero(tree.is_categorical).tolist():
                column = int(tree.column[split])
                top = int(tree.members(split).max(initial=0))
                largest[column] = max(top, largest.get(column, 0))
        return largest

    def n_categories(self, column: int) -> int:
        """Return one more than the largest category that a split on the column names, or 0."""
        return self._largest_categories.get(column, -1) + 1

    @property
    def is_linear(self) -> bool:
        return any(tree.leaf_const is not None for tree in self.trees)

    @property
    def is_named(self) -> bool:
        """Whether training saw column names: a DataFrame, or names given by hand."""
        plain = tuple(f"Column_{index}" for index in range(self.n_features))
        return self.pandas_categorical is not None or self.names != plain


def _is_booster(model: object) -> bool:
    return any(
        cls.__name__ == "Booster" and cls.__module__ == "lightgbm.basic"
        for cls in type(model).__mro__
    )


def read(model: Any) -> Dump:
    """Read a fitted estimator or a Booster.

    Raises
    ------
    UnsupportedModelError
        It is not fitted.
    """
    wrapper: Literal["booster", "classifier", "model"]
    classes, custom, stops_early = np.empty(0), False, False
    if _is_booster(model):
        wrapper, booster = "booster", model
    else:
        wrapper = "classifier" if hasattr(model, "predict_proba") else "model"
        try:
            booster = model.booster_
        except Exception as error:
            raise UnsupportedModelError(
                f"Expected a fitted {type(model).__name__}, got one without a booster. "
                "Call fit() first."
            ) from error
        if wrapper == "classifier":
            classes = np.asarray(model.classes_)
            custom = callable(model.objective_)
        stops_early = bool(model.get_params().get("pred_early_stop"))

    # Without num_iteration the text holds the rounds that predict() uses: up to the best iteration.
    head, _, rest = booster.model_to_string().partition("\nTree=")
    body, _, tail = rest.partition("\nend of trees")
    header = _pairs(head)
    n_features = int(header["max_feature_idx"]) + 1
    objective, *options = header.get("objective", "custom").split()
    return Dump(
        wrapper=wrapper,
        classes=classes,
        custom=custom,
        stops_early=stops_early,
        has_decision_function=hasattr(model, "decision_function"),
        objective=objective,
        options=dict(_split_pair(option, ":") for option in options),
        n_features=n_features,
        n_outputs=int(header["num_tree_per_iteration"]),
        averages="average_output" in head.splitlines(),
        names=tuple(header["feature_names"].split(" ")),
        spans=tuple(_span(info) for info in header["feature_infos"].split(" ")),
        categorical=_declared_categorical(tail, header["feature_infos"].split(" ")),
        pandas_categorical=booster.pandas_categorical,
        trees=[DumpedTree.of(_pairs(text)) for text in body.split("\nTree=") if text],
    )


def _pairs(text: str) -> dict[str, str]:
    return dict(_split_pair(line, "=") for line in text.splitlines() if "=" in line)


def _split_pair(text: str, mark: str) -> tuple[str, str]:
    key, _, value = text.partition(mark)
    return key, value


def _numbers(text: dict[str, str], key: str, dtype: Any) -> NDArray[Any]:
    return np.array(text.get(key, "").split(), dtype=np.float64).astype(dtype)


def _span(info: str) -> float:
    """Return the width of a column's range from ``[low:high]``; 0 for categories and unused columns."""
    if not info.startswith("["):
        return 0.0
    low, high = info[1:-1].split(":")
    return float(high) - float(low)


def _declared_categorical(tail: str, infos: Sequence[str]) -> tuple[int, ...]:
    """Return the categorical columns from the recorded parameters, else from the columns' kinds."""
    for line in tail.splitlines():
        if line.startswith("[categorical_feature: ") and line != "[categorical_feature: ]":
            listed = line.removeprefix("[categorical_feature: ").removesuffix("]")
            if all(part.isdigit() for part in listed.split(",")):
                return tuple(sorted(int(part) for part in listed.split(",")))
    return tuple(i for i, info in enumerate(infos) if info != "none" and not info.startswith("["))
