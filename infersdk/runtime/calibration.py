"""What a run costs, measured when a model is loaded, and what follows from it.

The ways of answering a call differ by far more than the models do, and which one wins can be measured but
not guessed. What we saw on two cores, each against calling ONNX Runtime from Python once per row:

* Runs of 10 to 50 us want to keep the GIL. A thread that gives it up beside a busy one waits up to the
  interpreter's switch interval (5 ms) to get it back: the mean call took 1.4 times as long with the GIL
  released and 0.08 times with it kept, and 32 threads got 1.7 to 3.7 times the throughput. Queues and
  batches lost there, whoever wrote them: a run is cheaper than handing it over.
* From about 100 us on the reverse holds. A CNN of 65 us at 8 threads: 2.3 times with batcher threads, 1.5
  with the GIL kept; a large MLP of 150 us at 32 threads: 2.2 to 6 against 0.7 to 1.25. `KEEP_GIL_S`
  lies between.
* What a batch gains is the model's own affair. 32 rows of a large MLP cost a third of 32 single runs,
  since its weights are read once; a forest gains a tenth; a CNN loses a tenth; gradient boosting costs
  least at 8 rows and twice that at 128. So the best batch is where a measured row costs least, and where
  that is hardly less than alone, calls are not merged at all.

Hence the ladder: 1 row, 2, 4, ... up to 256. Sizes take turns instead of being finished one by one, because
a CPU changes its speed meanwhile, and every run gets other rows, because one row repeated lets a tree
ensemble keep its path in the cache and look three times as fast. The session's own cost model, by which
each call is dispatched, is filled with what was found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infersdk._native import KEEP_GIL_S
from infersdk.errors import InputError, MissingDependencyError, SessionError
from infersdk.options import Batching, Execution
from infersdk.runtime.row_independence import (
    TOLERANCES,
    Runs,
    Verdict,
    check,
    check_padding,
    fill_values,
    first_words,
    made_up_rows,
    numpy_dtype,
    row_variants,
)
from infersdk.runtime.threads import default_threads, thread_budget
from infersdk.types import TensorSpec, ValueSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Calibration", "Point", "calibrate", "choose", "neutral_inputs", "study"]

_LARGEST = 256
_MOST_ROWS = 1024
"""Of an example; more would only take time to pick from."""
_MADE_BYTES = 2**23
_N_ROUNDS = 15
_CLIMB_SHARE = 0.6
"""Of the time, for finding how far the ladder reaches; the rest is for repeats."""

_TEST_SHARE = 0.4
"""Of the time at load, at most, for testing whether rows may share a run."""

_MIN_GAIN = 1.3
"""A batch must make rows this much cheaper to be worth the queue."""
_NEAR_LOWEST = 1.05
"""Costs this close are alike, and then the smaller batch answers sooner."""
_LATENCY_S = 20e-3
_LATENCY_RUNS = 10
"""A batch may take 20 ms, which a web app hides, or ten times what one row takes, where that is more."""
_UNMEASURED_BATCH = 32
"""Rows of a batch where none could be measured, or only on rows whose lengths are a guess."""

Path = Literal["inline", "inline, GIL released", "batched"]


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


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured when a model was loaded, and how its calls are run for that.

    Printed, it is a table. Times are of runs alone, without binding and answering.

    Parameters
    ----------
    curve : tuple of Point
        By ascending rows, from 1; empty if nothing was measured.
    path : {"inline", "inline, GIL released", "batched"}
        How a call of one row is run: at once in its own thread, with the GIL or without, or, when the
        model is busy, together with others. Calls of more rows that take longer go as those do.
    max_batch_size : int
        The most rows that calls put together in a run; 1 where they may not or need not share one.
    instances : int
        Runs that may be under way at once.
    mergeable : bool
        Rows of different calls may share a run.
    reason : str
        Why this path, in one sentence.
    """

    curve: tuple[Point, ...] = ()
    path: Path = "inline, GIL released"
    max_batch_size: int = 1
    instances: int = 1
    mergeable: bool = False
    reason: str = "not tried"

    @property
    def run_s(self) -> float | None:
        """Median seconds of a run of one row; None if not measured."""
        return self.curve[0].run_s if self.curve else None

    @property
    def n_runs(self) -> int:
        """Runs of one row that were counted."""
        return self.curve[0].n_runs if self.curve else 0

    def __str__(self) -> str:
        size = (
            f"up to {self.max_batch_size} rows a run" if self.max_batch_size > 1 else "a call a run"
        )
        copies = "1 instance" if self.instances == 1 else f"{self.instances} instances"
        choice = f"{self.path}, {size}, {copies}: {self.reason}"
        if not self.curve:
            return f"not measured; {choice}"
        lines = [f"  {'rows':>5} {'us/run':>10} {'us/row':>10} {'gain':>6}"]
        for point in self.curve:
            mark = "*" if point.rows == self.max_batch_size > 1 else " "
            gain = self.curve[0].run_s / point.row_s
            lines.append(
                f"{mark} {point.rows:>5} {point.run_s * 1e6:>10.1f} {point.row_s * 1e6:>10.2f}"
                f" {gain:>6.2f}"
            )
        return "\n".join([*lines, choice])

    def figure(self, ax: Axes | None = None) -> Figure:
        """Draw microseconds per row against rows, with the chosen batch size marked.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default in a figure of its own.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        MissingDependencyError
            matplotlib is not installed.
        ValueError
            Nothing was measured.
        """
        if not self.curve:
            raise ValueError(f"There is no curve to draw, as nothing was measured: {self.reason}")
        if ax is None:
            try:
                from matplotlib.figure import Figure
            except ImportError as error:
                raise MissingDependencyError(
                    "Drawing a calibration needs the package `matplotlib`, which is not installed. "
                    "Install it with: pip install matplotlib"
                ) from error
            ax = Figure(figsize=(6, 4), layout="constrained").subplots()
        rows = [point.rows for point in self.curve]
        ax.plot(rows, [point.row_s * 1e6 for point in self.curve], marker="o")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(rows, [str(n) for n in rows])
        ax.set_xlabel("rows in a run")
        ax.set_ylabel("us per row")
        if self.max_batch_size > 1:
            ax.axvline(
                self.max_batch_size,
                linestyle="--",
                label=f"at most {self.max_batch_size} rows",
            )
            ax.legend()
        ax.set_title(self.path)
        figure: Figure = ax.figure  # type: ignore[assignment]
        return figure


def calibrate(
    session: Runs,
    rows: Sequence[Any] | None,
    budget_s: float | None = None,
    why_not_mergeable: str = "",
    *,
    execution: Execution | None = None,
    batching: Batching | None = None,
    mergeable: bool = False,
    cores: int | None = None,
    keep_gil_s: float = KEEP_GIL_S,
    clock: Callable[[], float] = time.perf_counter,
) -> Calibration:
    """Measure a session over batch sizes, fill its cost model, and choose how its calls are run.

    Parameters
    ----------
    session : Session
    rows : sequence of numpy.ndarray, optional
        One array for each input, the rows of an example along axis 0: the more there are, the more the
        runs are like those to come. None makes up rows from the session's types.
    budget_s : float, optional
        Seconds after the first run within which further ones must be expected to end; by default, and
        at most, ``execution.calibration_s``. 0 measures nothing.
    why_not_mergeable : str
        For the reason, where they are not.
    execution, batching : Execution, Batching
        What the user has set goes before what was measured.
    mergeable : bool
        Rows of different calls may share a run (:func:`infersdk.runtime.row_independence.check`).
    cores : int, optional
        Cores that this process may use.
    keep_gil_s : float
        Seconds of a run up to which the session keeps the GIL.
    clock : callable
        Gives seconds.

    Returns
    -------
    Calibration

    Raises
    ------
    ClosedError
        The session was closed.
    """
    execution = execution or Execution()
    batching = batching or Batching()
    limit_s = execution.calibration_s if budget_s is None else budget_s
    largest = _LARGEST if batching.max_batch_size is None else batching.max_batch_size
    sizes = _ladder(largest if mergeable and batching.enabled is not False else 1)
    curve: tuple[Point, ...] = ()
    note = "switched off (Execution.calibration_s is 0)"
    if limit_s > 0:
        curve, note = _measure(session, rows, sizes, limit_s, clock)
    return choose(
        curve,
        note,
        execution=execution,
        batching=batching,
        mergeable=mergeable,
        why_not_mergeable=why_not_mergeable,
        cores=thread_budget() if cores is None else cores,
        keep_gil_s=keep_gil_s,
    )


def study(
    session: Runs,
    rows: Sequence[Any] | None,
    budget_s: float | None = None,
    *,
    execution: Execution,
    batching: Batching,
    cores: int | None = None,
    keep_gil_s: float = KEEP_GIL_S,
    tolerances: Mapping[str, tuple[float, float]] = TOLERANCES,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Calibration, dict[str, Verdict]]:
    """Test whether rows may share a run and be filled up for it, and calibrate, all in one time.

    Parameters
    ----------
    session : Session
    rows, execution, batching, cores, keep_gil_s, clock
        As for :func:`calibrate`.
    budget_s : float, optional
        Seconds for everything after the first run, by default ``execution.calibration_s``. What the tests
        leave of it, measuring has.
    tolerances : Mapping of str to (float, float)
        As for :func:`infersdk.runtime.row_independence.check`: ``REDUCED_PRECISION`` on a GPU.

    Returns
    -------
    tuple of (Calibration, dict of str to Verdict)
        The dict says for each axis of ``batching.pad`` whether rows may be filled up along it.

    Raises
    ------
    ValueError
        ``batching.pad`` does not fit the model.
    ClosedError
        The session was closed.
    """
    budget_s = execution.calibration_s if budget_s is None else budget_s
    share_s = budget_s * (_TEST_SHARE / 2 if batching.pad else _TEST_SHARE)
    for axis, fill in batching.pad.items():
        fill_values(session, axis, fill)
    started = clock()
    if batching.enabled is False:
        verdict = Verdict(False, "batching is switched off")
    else:
        verdict = check(session, rows, budget_s=share_s, tolerances=tolerances, clock=clock)
    if verdict.mergeable:
        pads = check_padding(
            session, rows, batching, budget_s=share_s, tolerances=tolerances, clock=clock
        )
    else:
        pads = {axis: Verdict(False, verdict.reason) for axis in batching.pad}
    spent_s = min(clock() - started, _TEST_SHARE * budget_s)
    calibration = calibrate(
        session,
        rows,
        budget_s - spent_s,
        "" if verdict.mergeable else verdict.reason,
        execution=execution,
        batching=batching,
        mergeable=verdict.mergeable,
        cores=cores,
        keep_gil_s=keep_gil_s,
        clock=clock,
    )
    return calibration, pads


# -- measuring -----------------------------------------------------------------------------------


def _ladder(largest: int) -> list[int]:
    """1, 2, 4, ..., and the largest."""
    sizes = [2**i for i in range(min(largest, _LARGEST).bit_length())]
    return sizes if sizes[-1] == largest or largest > _LARGEST else [*sizes, largest]


def _measure(
    session: Runs,
    rows: Sequence[Any] | None,
    sizes: Sequence[int],
    budget_s: float,
    clock: Callable[[], float],
) -> tuple[tuple[Point, ...], str]:
    """The curve, and what it was measured on or why it was not."""
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
        self.largest = 1 if not has_rows else _UNMEASURED_BATCH if guessed else _LARGEST
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
    return int(np.clip(_MADE_BYTES // max(size_bytes, 1), 8, _LARGEST))


def _may_have_rows(spec: ValueSpec) -> bool:
    if not isinstance(spec, TensorSpec):
        return False
    return spec.shape is None or (bool(spec.shape) and not isinstance(spec.shape[0], int))


class _Climb:
    """Runs of growing size within a time, then repeats of all sizes in turn."""

    def __init__(
        self, session: Runs, source: _Source, budget_s: float, clock: Callable[[], float]
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
            for _ in range(3):
                if not self._count(size, until=climbing_ends):
                    break
            if before is not None:
                rose = self._fastest(size) / size > self._fastest(before) / before
                n_rises = n_rises + 1 if rose else 0
                limit_s = max(_LATENCY_S, _LATENCY_RUNS * self._fastest(1))
                if n_rises == 2 or self._fastest(size) > limit_s:
                    break
            before = size
        for _ in range(_N_ROUNDS):
            counted = [self._count(size, until=self.ends) for size in self.warm_up_s]
            if not any(counted):
                break

    def curve(self) -> tuple[Point, ...]:
        """The medians, which the session is told as well."""
        points = []
        set_cost = getattr(self.session, "set_cost", None)
        for size, warm_up_s in self.warm_up_s.items():
            counted = self.runs_s[size] or [warm_up_s]
            points.append(Point(size, median(counted), len(counted)))
            if set_cost is not None:
                set_cost(self.size_bytes[size], points[-1].run_s)
        return tuple(points)

    def _warm_up(self, size: int) -> None:
        self.warm_up_s[size] = self._run(size)
        self.runs_s[size] = []

    def _count(self, size: int, *, until: float) -> bool:
        """Run once more if that can end in time."""
        counted = self.runs_s[size]
        # How long the very first run took tells nothing about the second.
        expected_s = 0.0 if size == 1 and not counted else self._fastest(size)
        if self.clock() + expected_s >= until:
            return False
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


# -- choosing ------------------------------------------------------------------------------------


def choose(
    curve: Sequence[Point],
    note: str,
    *,
    execution: Execution,
    batching: Batching,
    mergeable: bool,
    why_not_mergeable: str,
    cores: int,
    keep_gil_s: float = KEEP_GIL_S,
) -> Calibration:
    """Choose from a curve how calls are run.

    Parameters
    ----------
    curve : sequence of Point
        By ascending rows, from 1; may be empty.
    note : str
        What it was measured on, or why it was not.
    execution, batching, mergeable, why_not_mergeable, cores, keep_gil_s
        As for :func:`calibrate`.
    """
    threads = execution.threads or min(default_threads(), cores)
    instances = execution.instances or max(1, cores // threads)
    asked = []
    if execution.instances is not None:
        asked.append("instances")
    may_merge = mergeable and batching.enabled is not False

    best = _cheapest(curve, 2 if batching.enabled else 1) if curve else None
    gain = curve[0].run_s / best.row_s if best is not None else 0.0
    size = 1
    if may_merge:
        if batching.max_batch_size is not None:
            size = batching.max_batch_size
            asked.append("max_batch_size")
        elif batching.enabled:
            size = best.rows if best is not None else _UNMEASURED_BATCH
            asked.append("batching")
        elif best is not None and gain >= _MIN_GAIN:
            size = best.rows
    elif batching.enabled is False and mergeable:
        asked.append("no batching")

    short = bool(curve) and curve[0].run_s <= keep_gil_s
    keeps_gil = short and not batching.enabled if execution.release_gil is None else False
    if execution.release_gil is not None:
        keeps_gil = not execution.release_gil
        asked.append(f"the GIL {'kept' if keeps_gil else 'released'}")
    path: Path = (
        "inline" if keeps_gil else "batched" if size > 1 and may_merge else "inline, GIL released"
    )

    if not curve:
        parts = [note]
        if may_merge and size == 1 and batching.enabled is None:
            parts.append("calls are not merged unless Batching(enabled=True) asks for it")
    else:
        row = f"a row takes {_us(curve[0].run_s)}"
        if short and keeps_gil:
            parts = [f"{row}, less than getting the GIL back may ({_us(keep_gil_s)})"]
        else:
            parts = [row]
        if size > 1 and best is not None and best.rows > 1:
            parts.append(f"in a batch of {best.rows} {_us(best.row_s)}, a gain of {gain:.1f}")
        elif may_merge and size == 1 and path != "inline":
            parts.append(
                f"a batch gains too little ({gain:.2f} at {best.rows if best else 1} rows)"
            )
    if not mergeable:
        parts.append(f"calls may not share a run: {why_not_mergeable or 'rows were not tested'}")
    if asked:
        parts.append(f"{', '.join(asked)} as asked")
    reason = "; ".join(parts) + (f" ({note})" if curve else "")
    return Calibration(tuple(curve), path, size, instances, may_merge, reason)


def _cheapest(curve: Sequence[Point], at_least: int) -> Point | None:
    """The smallest batch whose rows cost about as little as any within the latency that is allowed."""
    limit_s = max(_LATENCY_S, _LATENCY_RUNS * curve[0].run_s)
    fitting = [point for point in curve if point.rows >= at_least and point.run_s <= limit_s]
    if not fitting:
        return None
    lowest_s = min(point.row_s for point in fitting)
    return next(point for point in fitting if point.row_s <= _NEAR_LOWEST * lowest_s)


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.3g} us" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"
