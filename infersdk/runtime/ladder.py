"""Measuring runs of 1, 2, 4, ... rows within a time.

Sizes take turns instead of being finished one by one, because a CPU changes its speed meanwhile, and every run
gets other rows, because one row repeated lets a tree ensemble keep its path in the cache and look three times
as fast. A first run of each size is not counted: it allocates.

Runs of up to 20 ms are made with the GIL kept, by telling the session's cost model beforehand that they are
short. Given up beside a busy thread, getting it back would take 5 ms and be mistaken for the model's own time:
a quick model would be run as a slow one for good.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol

import numpy as np

from infersdk.errors import InputError, SessionError
from infersdk.runtime.row_independence import Runs, first_words
from infersdk.runtime.sample_rows import made_up_rows, neutral_inputs, row_variants
from infersdk.types import TensorSpec, ValueSpec

__all__ = [
    "LARGEST_BATCH",
    "UNMEASURED_BATCH",
    "Measurable",
    "Point",
    "longest_run_s",
    "measure",
    "sizes_up_to",
]

LARGEST_BATCH = 256
_MOST_ROWS = 1024
"""Of an example; more would only take time to pick from."""
_MADE_BYTES = 2**23
"""Of rows that are made up."""
_N_ROUNDS = 15
_CLIMB_SHARE = 0.6
"""Of the time, for finding how far the ladder reaches; the rest is for repeats."""
UNMEASURED_BATCH = 32
"""Rows of a batch where none could be measured, or only on rows whose lengths are a guess."""

_SETTLED_S = 1e-3
"""Longer runs are measured as they come."""
_GIL_KEPT_S = 20e-3
_SHORT_S = 1e-9

_LATENCY_S = 20e-3
_LATENCY_RUNS = 10


def longest_run_s(row_s: float) -> float:
    """How long a batch may take: 20 ms, which a web app hides, or ten single runs, if that is more."""
    return max(_LATENCY_S, _LATENCY_RUNS * row_s)


class Measurable(Runs, Protocol):
    """What is asked of a session here."""

    def set_cost(self, size_bytes: int, run_s: float) -> None: ...


@dataclass(frozen=True, slots=True)
class Point:
    """A batch size that was measured.

    Parameters
    ----------
    rows : int
    run_s : float
        Median seconds of a run.
    n_runs : int
        Runs that the median is over.
    """

    rows: int
    run_s: float
    n_runs: int

    @property
    def row_s(self) -> float:
        """Seconds per row."""
        return self.run_s / self.rows


def sizes_up_to(largest: int) -> list[int]:
    """1, 2, 4, ..., and the largest."""
    sizes = [2**i for i in range(min(largest, LARGEST_BATCH).bit_length())]
    return sizes if sizes[-1] == largest or largest > LARGEST_BATCH else [*sizes, largest]


def measure(
    session: Measurable,
    rows: Sequence[Any] | None,
    sizes: Sequence[int],
    budget_s: float,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[tuple[Point, ...], str]:
    """Measure a session, and fill its cost model.

    Parameters
    ----------
    session : Session
    rows : sequence of numpy.ndarray, optional
        One array for each input, the rows of an example along axis 0; None makes rows up.
    sizes : sequence of int
        Rows of a run, ascending, from 1.
    budget_s : float
        Seconds after the first run within which further ones must be expected to end.
    clock : callable
        Gives seconds.

    Returns
    -------
    tuple of (tuple of Point, str)
        The curve, and what it was measured on or why it was not.
    """
    note = "the graph's inputs are not all tensors of a known rank"
    for source in _sources(session.inputs, rows):
        climb = _Climb(session, source, budget_s, clock)
        try:
            climb.start()
            climb.go([size for size in sizes if size <= source.largest])
        except (InputError, SessionError) as error:
            # Made-up inputs need not make sense to the model (an index out of range, a shape that
            # does not add up); real calls are measured as they come.
            note = f"{source.what} did not run: {first_words(error)}"
            continue
        return climb.curve(), f"measured on {source.what}"
    return (), note


class _Source:
    """Inputs for any number of rows, other ones each time.

    Rows whose lengths are a guess say little about those to come, and nothing about large batches.
    """

    def __init__(
        self, arrays: Sequence[Any], what: str, *, has_rows: bool, guessed: bool = False
    ) -> None:
        self.arrays = list(arrays)
        self.what = what
        self.largest = 1 if not has_rows else UNMEASURED_BATCH if guessed else LARGEST_BATCH
        self._rng = np.random.default_rng(0)

    def take(self, n_rows: int) -> list[Any]:
        if self.largest == 1:
            return self.arrays
        order = self._rng.permutation(len(self.arrays[0]))
        return [array[np.resize(order, n_rows)] for array in self.arrays]


def _sources(specs: Sequence[ValueSpec], rows: Sequence[Any] | None) -> Iterator[_Source]:
    """What to measure on, the likeliest to be like real calls first."""
    dynamic = bool(specs) and all(_may_have_rows(spec) for spec in specs)
    if rows is not None:
        n_rows = {len(array) if getattr(array, "ndim", 0) else -1 for array in rows}
        (n,) = n_rows if len(n_rows) == 1 else (-1,)
        if dynamic and n == 1:
            variants = row_variants(specs, rows, _n_made(rows))
            yield _Source(variants, "variants of a row", has_rows=True)
            yield _Source(rows, "a row of the example", has_rows=True)
        elif dynamic and n > 1:
            examples = [array[:_MOST_ROWS] for array in rows]
            yield _Source(examples, f"{n} rows of the example", has_rows=True)
        if n != 0:
            yield _Source(rows, "the example", has_rows=False)
            return
    guessed = any(
        not isinstance(dim, int)
        for spec in specs
        if isinstance(spec, TensorSpec)
        for dim in (spec.shape or ())[1:]
    )
    if dynamic:
        for size in (4, 32):
            one = made_up_rows(specs, 1, sizes=size)
            made = None if one is None else made_up_rows(specs, _n_made(one), sizes=size)
            if made is not None:
                what = "made-up rows" + (f", {size} along each dynamic axis" if guessed else "")
                yield _Source(made, what, has_rows=True, guessed=guessed)
    neutral = neutral_inputs(specs)
    if neutral is not None:
        what = "neutral inputs of the graph's shapes"
        yield _Source(neutral, what, has_rows=dynamic, guessed=guessed)


def _n_made(row: Sequence[Any]) -> int:
    """How many rows to make up: as many as the largest batch has, if they are not too large."""
    size_bytes = sum(array.nbytes for array in row)
    return int(np.clip(_MADE_BYTES // max(size_bytes, 1), 8, LARGEST_BATCH))


def _may_have_rows(spec: ValueSpec) -> bool:
    if not isinstance(spec, TensorSpec):
        return False
    return spec.shape is None or (bool(spec.shape) and not isinstance(spec.shape[0], int))


class _Climb:
    """Runs of growing size within a time, then repeats of all sizes in turn."""

    def __init__(
        self, session: Measurable, source: _Source, budget_s: float, clock: Callable[[], float]
    ) -> None:
        self.session = session
        self.source = source
        self.budget_s = budget_s
        self.clock = clock
        self.ends = 0.0
        self.warm_up_s: dict[int, float] = {}
        self.runs_s: dict[int, list[float]] = {}
        self.size_bytes: dict[int, int] = {}

    def start(self) -> None:
        """Make the first run, which prepares what later ones find ready."""
        self._warm_up(1)
        self.ends = self.clock() + self.budget_s

    def go(self, sizes: Sequence[int]) -> None:
        climbing_ends = self.ends - (1 - _CLIMB_SHARE) * self.budget_s
        n_rises = 0
        before: int | None = None
        for size in sizes:
            if before is not None:
                # Twice, without any gain: what is there already is kept safe from one run too many.
                expected_s = 2 * self._fastest(before) * size / before
                if self.clock() + expected_s > climbing_ends:
                    break
                try:
                    self._warm_up(size)
                except (InputError, SessionError, MemoryError):
                    break
            # Of long runs one is enough to go on; the way up would take all the time there is.
            for _ in range(3 if self._fastest(size) <= _SETTLED_S else 1):
                if not self._count(size, until=climbing_ends):
                    break
            if before is not None:
                rose = self._fastest(size) / size > self._fastest(before) / before
                n_rises = n_rises + 1 if rose else 0
                limit_s = longest_run_s(self._fastest(1))
                if n_rises == 2 or self._fastest(size) > limit_s:
                    break
            before = size
        for _ in range(_N_ROUNDS):
            counted = [self._count(size, until=self.ends, settle=True) for size in self.warm_up_s]
            if not any(counted):
                break

    def curve(self) -> tuple[Point, ...]:
        """The medians, which the session is told as well."""
        points = []
        for size, warm_up_s in self.warm_up_s.items():
            counted = self.runs_s[size] or [warm_up_s]
            points.append(Point(size, median(counted), len(counted)))
            self.session.set_cost(self.size_bytes[size], points[-1].run_s)
        return tuple(points)

    def _warm_up(self, size: int) -> None:
        self.warm_up_s[size] = self._run(size)
        self.runs_s[size] = []

    def _count(self, size: int, *, until: float, settle: bool = False) -> bool:
        """Run once more if that can end in time.

        With ``settle`` a short run is made twice and only the second counts: a run of another size
        has just put this one's weights and buffers out of the cache, where a busy model has them.
        """
        counted = self.runs_s[size]
        # How long the very first run took tells nothing about the second.
        expected_s = 0.0 if size == 1 and not counted else self._fastest(size)
        settle = settle and expected_s <= _SETTLED_S
        if self.clock() + (2 if settle else 1) * expected_s >= until:
            return False
        if self._fastest(size) <= _GIL_KEPT_S:
            self.session.set_cost(self.size_bytes[size], _SHORT_S)
        if settle:
            self._run(size)
        counted.append(self._run(size))
        return True

    def _run(self, size: int) -> float:
        arrays = self.source.take(size)
        self.size_bytes[size] = sum(getattr(array, "nbytes", 0) for array in arrays)
        started = self.clock()
        self.session.run_ordered(arrays)
        return self.clock() - started

    def _fastest(self, size: int) -> float:
        return min(self.runs_s[size] or [self.warm_up_s[size]])
