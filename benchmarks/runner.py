"""Measure one case: a process per rival, equal answers first, then rounds in turn.

All rivals of a variant stay alive and wait on their pipe; the runner lets exactly one of them work at
a time. Each round goes through all rivals, in an order that rotates, so that a slow minute of the
machine slows every rival's same round. Within a round calls are timed in chunks of about a millisecond,
whose median leaves out those in which the process was not running. Ratios are taken within rounds.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.task import Task

__all__ = [
    "FULL",
    "QUICK",
    "DifferentAnswersError",
    "Effort",
    "Result",
    "RivalProcess",
    "compare",
    "measure",
    "ratio",
    "rival_process",
    "rotation",
]

ROOT = Path(__file__).parents[1]
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ORT_DISABLE_TELEMETRY"), "1"
)
CHUNK_S = 1e-3
"""A chunk is short enough that most are not interrupted, long enough that reading the clock is nothing."""
RTOL, ATOL = 1e-4, 1e-5
"""Answers agree when abs(a - b) <= ATOL + RTOL * abs(b): float32 kernels add in different orders."""


class DifferentAnswersError(Exception):
    """Two rivals answer the same input differently; their times mean nothing."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure.

    Parameters
    ----------
    rounds : int
    round_s : float
        Seconds that each rival works in a round; at least five chunks.
    timed_calls : int
        Calls timed one by one for the percentiles; a tenth of it for calls beyond a millisecond.
    compared : int
        Inputs whose answers are compared.
    fresh_processes : int
        Processes of each rival, where a figure is one call in a fresh process.
    load_rounds : int
        Rounds of a load; one more, which is not counted, warms up.
    load_s : float
        Seconds of one rival's turn under closed load; twice that with a burner, beside which some
        callers wait for a tenth of a second.
    arrival_rounds : int
    arrivals_s, loadgen_s : float
        Rounds and seconds of one rival's turn under open load; seconds of a run of LoadGen.
    search_steps : int
        Runs of LoadGen that the search for the highest valid rate may take.
    web_rounds : int
        Times that each web app's server is started anew.
    web_warm_up_s, web_s : int
        Seconds of wrk before and during the measurement of one web app in a round.
    """

    rounds: int
    round_s: float
    timed_calls: int
    compared: int
    fresh_processes: int
    load_rounds: int
    load_s: float
    arrival_rounds: int
    arrivals_s: float
    loadgen_s: float
    search_steps: int
    web_rounds: int
    web_warm_up_s: int
    web_s: int


FULL = Effort(
    rounds=15,
    round_s=0.1,
    timed_calls=5000,
    compared=64,
    fresh_processes=9,
    load_rounds=5,
    load_s=0.2,
    arrival_rounds=3,
    arrivals_s=1.0,
    loadgen_s=3.0,
    search_steps=6,
    web_rounds=5,
    web_warm_up_s=1,
    web_s=4,
)
QUICK = Effort(
    rounds=3,
    round_s=0.01,
    timed_calls=500,
    compared=8,
    fresh_processes=3,
    load_rounds=2,
    load_s=0.05,
    arrival_rounds=1,
    arrivals_s=0.3,
    loadgen_s=0.5,
    search_steps=3,
    web_rounds=1,
    web_warm_up_s=1,
    web_s=1,
)


@dataclass(frozen=True, slots=True)
class Result:
    """One rival's figures. Times are microseconds; ``ratio`` is time over the first rival's time."""

    rival: str
    label: str
    call_us: float
    p50_us: float
    p99_us: float
    throughput_per_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    cpu_ms: float | None = None


def measure(case_name: str, variant: str, effort: Effort) -> list[Result]:
    """Measure one variant of a case; the first result is the one the ratios refer to.

    Raises
    ------
    DifferentAnswersError
        The rivals disagree.
    subprocess.CalledProcessError
        A rival's process ended; its own traceback is on stderr.
    """
    case = importlib.import_module(f"benchmarks.cases.{case_name}")
    with tempfile.TemporaryDirectory(prefix="infersdk-bench-") as folder:
        task = Task(case_name, variant, Path(folder))
        with rival_process(task, "-") as preparing:
            preparing.ask("prepare")
        rivals = case.RIVALS[variant]
        if case.KIND == "fresh":
            return _measure_fresh(task, rivals, effort)
        return _measure_calls(task, rivals, effort)


def _measure_calls(task: Task, names: tuple[str, ...], effort: Effort) -> list[Result]:
    with ExitStack() as stack:
        rivals = [stack.enter_context(rival_process(task, name)) for name in names]
        for rival in rivals:
            rival.setup()
        compare(task, rivals, effort.compared)
        chunks = [rival.ask(f"calibrate {CHUNK_S}") for rival in rivals]
        orders = [
            f"round {max(5, round(effort.round_s / chunk['seconds']))} {chunk['calls']}"
            for chunk in chunks
        ]
        rounds = []
        for i in range(effort.rounds):
            times = [0.0] * len(rivals)
            for j in rotation(len(rivals), i):
                times[j] = rivals[j].ask(orders[j])["call_us"]
            rounds.append(times)
        tails = [
            rival.ask(f"percentiles {effort.timed_calls // (10 if chunk['calls'] == 1 else 1)}")
            for rival, chunk in zip(rivals, chunks, strict=True)
        ]
    ratios = [ratio(rounds, j) for j in range(len(rivals))]
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    return [
        Result(rival.name, rival.label, call_us, **tail, throughput_per_s=1e6 / call_us, **spread)
        for rival, call_us, tail, spread in zip(rivals, medians, tails, ratios, strict=True)
    ]


def _measure_fresh(task: Task, names: tuple[str, ...], effort: Effort) -> list[Result]:
    labels = {}
    samples: list[list[dict[str, float]]] = []
    for i in range(effort.fresh_processes + 1):
        row: list[dict[str, float]] = [{}] * len(names)
        for j in rotation(len(names), i):
            with rival_process(task, names[j]) as rival:
                rival.setup()
                labels[names[j]] = rival.label
                row[j] = rival.ask("once")
        samples.append(row)
    samples = samples[1:]  # the first of each filled the page cache and the bytecode cache
    walls = [[sample["wall_ms"] * 1e3 for sample in row] for row in samples]
    cpus = [[sample["cpu_ms"] for sample in row] for row in samples]
    results = []
    for j, name in enumerate(names):
        wall = np.array([row[j] for row in walls])
        p50, p99 = np.percentile(wall, [50, 99])
        results.append(
            Result(
                name,
                labels[name],
                float(p50),
                float(p50),
                float(p99),
                throughput_per_s=1e6 / float(p50),
                **ratio(cpus, j),
                cpu_ms=statistics.median(row[j] for row in cpus),
            )
        )
    return results


def rotation(count: int, start: int) -> Iterator[int]:
    """0 ... count - 1, another one first each time."""
    return ((start + j) % count for j in range(count))


def ratio(rounds: list[list[float]], j: int) -> dict[str, float]:
    """Time of rival ``j`` over that of the first, in each round: median and quartiles."""
    ratios = np.array([row[j] / row[0] for row in rounds])
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    return {"ratio": float(middle), "ratio_low": float(low), "ratio_high": float(high)}


class Rival(Protocol):
    """One who answers when asked; see ``benchmarks.worker`` for the commands."""

    name: str
    label: str

    def ask(self, command: str) -> dict[str, Any]: ...


def compare(task: Task, rivals: Sequence[Rival], count: int) -> None:
    """Have all rivals answer the first inputs of a task.

    Raises
    ------
    DifferentAnswersError
        One of them answers differently from the first.
    """
    answers = []
    for rival in rivals:
        path = task.folder / f"{rival.name}.npz"
        rival.ask(f"answers {count} {path}")
        with np.load(path) as arrays:
            answers.append(dict(arrays))
    first = answers[0]
    for rival, answer in zip(rivals[1:], answers[1:], strict=True):
        if first.keys() != answer.keys():
            raise DifferentAnswersError(
                f"{task.case}/{task.variant}: {rivals[0].label} and {rival.label} give different "
                f"numbers of arrays for {count} inputs ({len(first)} and {len(answer)})"
            )
        for key, expected in first.items():
            given = answer[key]
            if expected.dtype.kind in "fc":
                equal = np.allclose(given, expected, rtol=RTOL, atol=ATOL, equal_nan=True)
            else:
                equal = np.array_equal(given, expected)
            if given.shape != expected.shape or not equal:
                raise DifferentAnswersError(
                    f"{task.case}/{task.variant}: on input {key.split('.')[0]} {rivals[0].label} "
                    f"answers {expected!r}, {rival.label} {given!r}"
                )


class RivalProcess:
    """The process of one rival, and a pipe to tell it what to do."""

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        self.process = process
        self.name = name
        self.label = name

    def setup(self) -> None:
        self.label = self.ask("setup")["label"]

    def ask(self, command: str) -> dict[str, Any]:
        self.tell(command)
        return self.reply()

    def tell(self, command: str) -> None:
        """Send a command; ``reply`` waits for what comes of it. A process that has ended says so there."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()

    def pause(self) -> None:
        """Stop the process, threads that poll included; ``resume`` lets it go on. Both are POSIX only."""
        if hasattr(signal, "SIGSTOP"):
            self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if hasattr(signal, "SIGCONT"):
            self.process.send_signal(signal.SIGCONT)

    def reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise subprocess.CalledProcessError(self.process.wait(), self.process.args)
        reply: dict[str, Any] = json.loads(line)
        return reply


def _environment() -> dict[str, str]:
    """One thread each, and compiled bytecode kept: an installed app imports from its cache too."""
    environment = {**os.environ, **ONE_THREAD}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return environment


@contextmanager
def rival_process(task: Task, name: str) -> Iterator[RivalProcess]:
    """The process of a rival, not set up yet; "-" is one that only prepares."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "benchmarks.worker",
            task.case,
            task.variant,
            str(task.folder),
            name,
        ],
        cwd=ROOT,
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    rival = RivalProcess(process, name)
    try:
        yield rival
    finally:
        rival.resume()
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.close()  # the worker ends with its input
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
