"""What counting costs: ``python -m benchmarks.cases.metrics_cost [MODEL ...] [--seconds 20]``

Not part of ``make bench``: the rival is the same Predictor in the same process with counting switched off, and
the difference is smaller than that between two processes. Turns with and without take each other's place every few
hundredths of a second, in the order on, off, off, on, so that what drifts meanwhile meets both alike. Each such
four gives one ratio; printed are their median and quartiles. Beside them stands what a call costs, and how many
nanoseconds more of the processor's time it takes: that says more on a machine that does other things too.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time_ns, sleep
from typing import Any, NamedTuple

import numpy as np

from benchmarks.models import write
from benchmarks.task import Task

__all__ = ["MODELS", "N_THREADS", "main"]

MODELS = ("tiny", "mlp", "forest")
N_THREADS = (1, 32)
TURN_S = 0.05
SETTLE_S = 0.01  # of a turn: calls that began before it


def main(arguments: list[str] | None = None) -> int:
    import infersdk
    from infersdk._native import set_metering

    parser = argparse.ArgumentParser(prog="python -m benchmarks.cases.metrics_cost")
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each line")
    options = parser.parse_args(arguments)
    print(
        f"{'model':8} {'threads':>7} {'us/call':>8} {'CPU ns':>7}   throughput on/off (quartiles)"
    )
    for name in options.models:
        with tempfile.TemporaryDirectory() as folder:
            task = Task("metrics_cost", name, Path(folder))
            write(task)
            rows = list(np.load(task.inputs.with_suffix(".npy")))
            execution = infersdk.Execution(threads=1)
            with infersdk.load(task.model, execution=execution) as predictor:
                for n_threads in N_THREADS:
                    turn = one_thread if n_threads == 1 else Threads(n_threads)
                    try:
                        fours = measure(turn(predictor, rows), set_metering, options.seconds)
                    finally:
                        set_metering(True)
                        if isinstance(turn, Threads):
                            turn.stop()
                    print(line(name, n_threads, fours), flush=True)
    return 0


class Turn(NamedTuple):
    calls: int
    wall_s: float
    cpu_ns: int


def measure(
    turn: Callable[[], Turn], set_metering: Callable[[bool], None], seconds: float
) -> np.ndarray:
    """Seconds, and nanoseconds of the processor, for a call: shape (fours, on and off, 2)."""
    fours = []
    ends = perf_counter() + seconds
    while perf_counter() < ends:
        found: dict[bool, list[Turn]] = {True: [], False: []}
        for on in (True, False, False, True):
            set_metering(on)
            found[on].append(turn())
        totals = [np.sum(found[on], axis=0) for on in (True, False)]
        fours.append([total[1:] / total[0] for total in totals])
    return np.array(fours)


def line(name: str, n_threads: int, fours: np.ndarray) -> str:
    wall_us = 1e6 * np.median(fours[:, 0, 0])
    more_ns = np.median(fours[:, 0, 1] - fours[:, 1, 1])
    low, median, high = np.percentile(fours[:, 1, 0] / fours[:, 0, 0], [25, 50, 75])
    return (
        f"{name:8} {n_threads:7} {wall_us:8.2f} {more_ns:+7.0f}   "
        f"{median:.4f} ({low:.4f} to {high:.4f}, {len(fours)} fours)"
    )


def one_thread(predictor: Any, rows: list[Any]) -> Callable[[], Turn]:
    def turn() -> Turn:
        calls = 0
        start = now = perf_counter()
        cpu_ns = process_time_ns()
        while now - start < TURN_S:
            for row in rows:
                predictor(row)
            calls += len(rows)
            now = perf_counter()
        return Turn(calls, now - start, process_time_ns() - cpu_ns)

    turn()
    return turn


class Threads:
    """Threads that call without pause, through all turns."""

    def __init__(self, n_threads: int) -> None:
        self._counts = [0] * n_threads
        self._over = False
        self._threads: list[threading.Thread] = []

    def __call__(self, predictor: Any, rows: list[Any]) -> Callable[[], Turn]:
        def work(i: int) -> None:
            while not self._over:
                predictor(rows[self._counts[i] % len(rows)])
                self._counts[i] += 1

        for i in range(len(self._counts)):
            self._threads.append(threading.Thread(target=work, args=(i,), daemon=True))
            self._threads[-1].start()
        sleep(1)

        def turn() -> Turn:
            sleep(SETTLE_S)
            calls, start, cpu_ns = sum(self._counts), perf_counter(), process_time_ns()
            sleep(4 * TURN_S)  # beside 32 threads this one comes late
            calls = sum(self._counts) - calls
            return Turn(calls, perf_counter() - start, process_time_ns() - cpu_ns)

        return turn

    def stop(self) -> None:
        self._over = True
        for thread in self._threads:
            thread.join()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
