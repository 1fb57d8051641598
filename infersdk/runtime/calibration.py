"""What a run costs, measured when a model is loaded, and what follows from it.

The ways of answering a call differ by far more than the models do, and which one wins can be measured but
not guessed. What we saw on two cores, each against calling ONNX Runtime from Python once per row:

* Runs of up to some 12 us want to keep the GIL, always: a run is cheaper than handing it over. 32 threads
  made 1.7 to 3.7 times the calls, and queues and batches, whoever wrote them, a tenth to 1.6.
* Up to some hundred microseconds it depends on the rest of the process, which nothing at load can tell. Beside
  a thread that computes in Python, who gives up the GIL waits up to the switch interval (5 ms) to get it back:
  a tenth of the calls or less. Otherwise other cores help, and a run of 28 us goes through the queue 2.5 times
  as often as with the GIL kept. So sessions try both in service; `KEEP_GIL_S` is how long a run may be to keep
  it until then, and never to block an event loop.
* Beyond, the queue wins: a large MLP of 110 us at 32 threads 2.5 to 3.4 times, with a twentieth of the p99.
* What a batch gains is the model's own affair. 32 rows of a large MLP cost a third of 32 single runs,
  since its weights are read once; a forest gains a tenth; a CNN loses a tenth; gradient boosting costs
  least at 8 rows and twice that at 128. So the best batch is where a measured row costs least, and where
  that is hardly less than alone, calls are not merged at all.

Hence the ladder of batch sizes (`ladder`), and a choice that can be read off it. The session's own cost
model, by which each call is dispatched, is filled with what was found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from infersdk._native import KEEP_GIL_S
from infersdk.errors import MissingDependencyError
from infersdk.options import Batching, Execution
from infersdk.runtime.ladder import (
    LARGEST_BATCH,
    UNMEASURED_BATCH,
    Measurable,
    Point,
    longest_run_s,
    measure,
    sizes_up_to,
)
from infersdk.runtime.row_independence import (
    TOLERANCES,
    Verdict,
    check,
    check_padding,
    fill_values,
)
from infersdk.runtime.threads import default_threads, thread_budget

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Calibration", "Point", "calibrate", "choose", "study"]

_TEST_SHARE = 0.4
"""Of the time at load, at most, for testing whether rows may share a run."""

_MIN_GAIN = 1.3
"""A batch must make rows this much cheaper to be worth the queue."""
_NEAR_LOWEST = 1.05
"""Costs this close are alike, and then the smaller batch answers sooner."""

Path = Literal["inline", "inline, GIL released", "batched"]


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
    session: Measurable,
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
    largest = LARGEST_BATCH if batching.max_batch_size is None else batching.max_batch_size
    sizes = sizes_up_to(largest if mergeable and batching.enabled is not False else 1)
    curve: tuple[Point, ...] = ()
    note = "switched off (Execution.calibration_s is 0)"
    if limit_s > 0:
        curve, note = measure(session, rows, sizes, limit_s, clock)
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
    session: Measurable,
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
            size = best.rows if best is not None else UNMEASURED_BATCH
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
            parts.append(_too_little(curve))
    if not mergeable:
        parts.append(f"calls may not share a run: {why_not_mergeable or 'rows were not tested'}")
    if asked:
        parts.append(f"{', '.join(asked)} as asked")
    reason = "; ".join(parts) + (f" ({note})" if curve else "")
    return Calibration(tuple(curve), path, size, instances, may_merge, reason)


def _cheapest(curve: Sequence[Point], at_least: int) -> Point | None:
    """The smallest batch whose rows cost about as little as any within the latency that is allowed."""
    limit_s = longest_run_s(curve[0].run_s)
    fitting = [point for point in curve if point.rows >= at_least and point.run_s <= limit_s]
    if not fitting:
        return None
    lowest_s = min(point.row_s for point in fitting)
    return next(point for point in fitting if point.row_s <= _NEAR_LOWEST * lowest_s)


def _too_little(curve: Sequence[Point]) -> str:
    if len(curve) == 1:
        return "no batch could be measured in the time there was"
    best = min(curve[1:], key=lambda point: point.row_s)
    return f"a batch gains too little ({curve[0].run_s / best.row_s:.2f} at {best.rows} rows)"


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.3g} us" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"
