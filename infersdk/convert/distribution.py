"""How errors are distributed: counts of |ours - theirs| in buckets a tenth of a decade wide.

A largest error alone does not tell one row in a million from all of them. Counts take the same room for
ten numbers and for ten billion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.convert.compare import Leaf

__all__ = ["OutputErrors"]

_PER_DECADE = 10


@dataclass(slots=True)
class OutputErrors:
    """The errors of one output of one method, over all rows that were compared.

    Attributes
    ----------
    method : str
    where : str
        The output's place in the method's answer: ``""`` for the answer itself, ``['logits']``.
    n_rows, n_values : int
        Rows and numbers compared.
    n_equal : int
        Numbers that are equal, NaN to NaN included.
    n_unlike : int
        Numbers of which only one side is NaN or infinite; all of them where the shapes differ.
    n_flips : int or None
        Discrete answers that differ; None for numbers.
    max_abs_error, max_rel_error : float
        Over the finite ones.
    buckets : dict of int to int
        Tenths of a decade to numbers: bucket b counts errors from 10**(b/10) up to 10**((b+1)/10).
    """

    method: str
    where: str = ""
    n_rows: int = 0
    n_values: int = 0
    n_equal: int = 0
    n_unlike: int = 0
    n_flips: int | None = None
    max_abs_error: float = 0.0
    max_rel_error: float = 0.0
    buckets: dict[int, int] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Method and place, as they are shown."""
        return f"{self.method}{self.where}"

    def add(self, ours: Leaf, theirs: Leaf, n_rows: int) -> None:
        """Count the errors of one more lot of rows."""
        mine, other = _dense(ours), _dense(theirs)
        self.n_rows += n_rows
        self.n_values += other.size
        if theirs.is_discrete:
            if mine.shape == other.shape:
                wrong = int(np.count_nonzero(mine != other))
            else:
                wrong = other.size
            self.n_flips = (self.n_flips or 0) + wrong
            self.n_equal += other.size - wrong
            return
        if mine.shape != other.shape or mine.dtype.kind not in "fciub":
            self.n_unlike += other.size
            return
        wide = np.complex128 if other.dtype.kind == "c" else np.float64
        mine, other = mine.astype(wide).ravel(), other.astype(wide).ravel()
        with np.errstate(all="ignore"):
            error = np.abs(mine - other)
            same = (mine == other) | (np.isnan(mine) & np.isnan(other))
            known = np.isfinite(error) & ~same
            relative = error[known] / np.abs(other[known])
        self.n_equal += int(np.count_nonzero(same))
        self.n_unlike += int(np.count_nonzero(~np.isfinite(error) & ~same))
        if not known.any():
            return
        error = error[known]
        self.max_abs_error = max(self.max_abs_error, float(error.max()))
        finite = relative[np.isfinite(relative)]
        if finite.size:
            self.max_rel_error = max(self.max_rel_error, float(finite.max()))
        numbers, counts = np.unique(
            np.floor(np.log10(error) * _PER_DECADE).astype(np.int64), return_counts=True
        )
        for bucket, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def decades(self) -> dict[int, int]:
        """Exponent to how many errors lie from 10**exponent up to ten times that, without gaps."""
        if not self.buckets:
            return {}
        found: dict[int, int] = {}
        for bucket, count in self.buckets.items():
            exponent = bucket // _PER_DECADE
            found[exponent] = found.get(exponent, 0) + count
        return {one: found.get(one, 0) for one in range(min(found), max(found) + 1)}

    def quantile(self, share: float) -> float:
        """An error that at least `share` of all numbers do not exceed, to a tenth of a decade.

        0 where that many are equal, infinity where NaN or infinity stand against numbers.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"Expected a share from 0 to 1, got {share}")
        wanted = math.ceil(share * self.n_values)
        seen = self.n_equal
        if seen >= wanted:
            return 0.0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return float(min(10.0 ** ((bucket + 1) / _PER_DECADE), self.max_abs_error))
        return math.inf

    def cumulative(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Errors, rising, and the share of all numbers that do not exceed each."""
        edges = np.array([10.0 ** ((b + 1) / _PER_DECADE) for b in sorted(self.buckets)])
        counts = np.array([self.buckets[b] for b in sorted(self.buckets)], dtype=np.float64)
        return edges, (self.n_equal + np.cumsum(counts)) / max(self.n_values, 1)

    def to_json(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "where": self.where,
            "n_rows": self.n_rows,
            "n_values": self.n_values,
            "n_equal": self.n_equal,
            "n_unlike": self.n_unlike,
            "n_flips": self.n_flips,
            "max_abs_error": self.max_abs_error,
            "max_rel_error": self.max_rel_error,
            "median_error": _finite(self.quantile(0.5)),
            "p99_error": _finite(self.quantile(0.99)),
            "decades": {str(one): count for one, count in self.decades().items()},
        }


def _dense(leaf: Leaf) -> NDArray[Any]:
    return np.asarray(leaf.value.toarray() if leaf.is_sparse else leaf.value)


def _finite(value: float) -> float | None:
    # JSON knows no infinity.
    return value if math.isfinite(value) else None
