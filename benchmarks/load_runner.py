"""Measure one variant of a load case: rivals set up side by side, equal answers first, then rounds in turn.

As everywhere here, one process works at a time and ratios are taken within rounds; a round is one turn of
each rival under the same load. The search for LoadGen's highest valid rate goes in turns, too: each of its
steps is one run of every rival, each at its own next rate.
"""

from __future__ import annotations

import importlib
import json
import math
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load.search import RateSearch
from benchmarks.runner import (
    DifferentAnswersError,
    Effort,
    RivalProcess,
    compare,
    rival_process,
    rotation,
)
from benchmarks.task import Task

__all__ = ["KINDS", "LoadResult", "best_other", "measure_load"]

KINDS = {
    "closed": "throughput_per_s",
    "asyncio": "throughput_per_s",
    "open": "p99_us",
    "overload": "goodput_per_s",
    "loadgen": "throughput_per_s",
    "cpu": "cpu_percent",
}
"""Kind of load -> the figure that rivals are compared by."""
_CLOSED = ("closed", "asyncio")


@dataclass(frozen=True, slots=True)
class LoadResult:
    """One rival's figures under one load.

    ``figures`` are medians over rounds. ``ratio`` is the deciding figure over the first rival's, within
    rounds: median and quartiles. ``of_best_other`` is it over that of the best of the others.
    """

    load: str
    rival: str
    label: str
    figures: dict[str, float]
    ratio: float
    ratio_low: float
    ratio_high: float
    of_best_other: float


def measure_load(
    case_name: str, variant: str, loads: tuple[str, ...], effort: Effort
) -> list[LoadResult]:
    """Measure one variant under the named loads.

    Raises
    ------
    DifferentAnswersError
        The rivals disagree, or one of them gave a caller another row's answer.
    subprocess.CalledProcessError
        A rival's process ended; its own traceback is on stderr.
    """
    case = importlib.import_module(f"benchmarks.cases.{case_name}")
    results: list[LoadResult] = []
    with tempfile.TemporaryDirectory(prefix="infersdk-bench-") as folder, ExitStack() as stack:
        task = Task(case_name, variant, Path(folder))
        with rival_process(task, "-") as preparing:
            preparing.ask("prepare")
        rivals = [stack.enter_context(rival_process(task, name)) for name in case.RIVALS[task.name]]
        for rival in rivals:
            rival.tell("setup")
        for rival in rivals:
            rival.label = rival.reply()["label"]
        compare(task, rivals, effort.compared)
        turns = _Turns(task, rivals)
        peak_per_s = turns.peak(effort.load_s) if case.KIND == "open" else 0.0
        for name in loads:
            load = dict(case.LOADS[name])
            if case.KIND == "loadgen":
                results += _loadgen(turns, name, load, effort)
                continue
            longer = load.pop("longer", 1)
            share = load.pop("share_of_peak", None)
            if share is not None:
                load["rate_per_s"] = share * peak_per_s
            count = effort.load_rounds if case.KIND in _CLOSED else effort.arrival_rounds
            order = _order(case.KIND, load, effort)
            order["seconds"] *= longer
            rounds = turns.rounds(order, count)
            results += _results(name, case.KIND, rivals, rounds)
    return results


def _order(kind: str, load: dict[str, Any], effort: Effort) -> dict[str, Any]:
    """What each rival is told in each round."""
    order = {"kind": kind, **load}
    match kind:
        case "closed" | "asyncio":
            order["seconds"] = effort.load_s * (2 if load.get("burner") else 1)
        case "overload":
            order |= {"seconds": 2 * effort.arrivals_s, "peak_seconds": 1.5 * effort.arrivals_s}
        case "cpu":
            order["seconds"] = 2 * effort.arrivals_s
        case _:
            order["seconds"] = effort.arrivals_s
    return order


class _Turns:
    """Rivals that work one at a time. Once it has had a turn, one that waits is stopped: some poll."""

    def __init__(self, task: Task, rivals: list[RivalProcess]) -> None:
        self.task = task
        self.rivals = rivals

    def order(self, j: int, order: dict[str, Any]) -> dict[str, float]:
        rival = self.rivals[j]
        rival.resume()
        figures = rival.ask("load " + json.dumps(order, separators=(",", ":")))
        rival.pause()
        if figures.get("wrong"):
            raise DifferentAnswersError(
                f"{self.task.case}/{self.task.variant}: under load {rival.label} gave "
                f"{figures['wrong']:.0f} callers an answer that is not their row's ({order})"
            )
        return figures

    def round(self, i: int, order: dict[str, Any]) -> list[dict[str, float]]:
        figures: list[dict[str, float]] = [{}] * len(self.rivals)
        for j in rotation(len(self.rivals), i):
            figures[j] = self.order(j, order)
        return figures

    def rounds(self, order: dict[str, Any], count: int) -> list[list[dict[str, float]]]:
        self.round(0, {**order, "seconds": min(order["seconds"], 0.1)})  # warms up
        return [self.round(i, order) for i in range(count)]

    def peak(self, seconds: float) -> float:
        """What the fastest of the rivals answers to 32 threads."""
        order = {"kind": "closed", "n_threads": 32, "seconds": seconds}
        self.round(0, order)
        return max(figures["throughput_per_s"] for figures in self.round(1, order))


def _results(
    load: str, kind: str, rivals: list[RivalProcess], rounds: list[list[dict[str, float]]]
) -> list[LoadResult]:
    deciding = KINDS[kind]
    more_is_better = deciding.endswith("_per_s")
    values = np.array([[figures[deciding] for figures in row] for row in rounds])
    results = []
    for j, rival in enumerate(rivals):
        with np.errstate(divide="ignore", invalid="ignore"):
            low, middle, high = np.percentile(values[:, j] / values[:, 0], [25, 50, 75])
        figures = {key: statistics.median(row[j][key] for row in rounds) for key in rounds[0][j]}
        other = best_other(values, j, more_is_better)
        ratios = map(float, (middle, low, high, other))
        results.append(LoadResult(load, rival.name, rival.label, figures, *ratios))
    return results


def best_other(values: np.ndarray, j: int, more_is_better: bool) -> float:
    """Median within rounds of rival ``j``'s figure over that of the best of the others.

    The best is the one with the best median over all rounds: the best of each round would be chosen
    by chance.
    """
    others = [k for k in range(values.shape[1]) if k != j]
    if not others:
        return math.nan
    medians = np.median(values[:, others], axis=0)
    best = others[int(np.argmax(medians) if more_is_better else np.argmin(medians))]
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.median(values[:, j] / values[:, best]))


def _loadgen(turns: _Turns, name: str, load: dict[str, Any], effort: Effort) -> list[LoadResult]:
    closed = {"kind": "closed", "n_threads": load["n_threads"], "seconds": effort.load_s}
    turns.round(0, closed)
    peaks = [figures["throughput_per_s"] for figures in turns.round(1, closed)]
    order = {"kind": "loadgen", **load, "seconds": effort.loadgen_s}
    if load["scenario"] == "offline":
        rounds = []
        for i in range(2):
            row: list[dict[str, float]] = [{}] * len(peaks)
            for j in rotation(len(peaks), i):
                row[j] = turns.order(j, {**order, "target_per_s": 1.2 * peaks[j]})
            rounds.append(row)
        return _results(name, "loadgen", turns.rivals, rounds)
    searches = [RateSearch(0.7 * peak) for peak in peaks]
    best = [{"throughput_per_s": 0.0, "valid": 0.0}] * len(peaks)
    for i in range(effort.search_steps):
        for j in rotation(len(peaks), i):
            rate = searches[j].rate_per_s
            figures = turns.order(j, {**order, "target_per_s": rate})
            searches[j].say(bool(figures["valid"]))
            if figures["valid"] and rate == searches[j].highest_per_s:
                best[j] = figures
    return _results(name, "loadgen", turns.rivals, [best])
