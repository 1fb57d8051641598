"""What counting costs: ``python -m benchmarks.cases.metrics_cost [MODEL ...] [--seconds 20]``

Not part of ``make bench``: the rival is the same Predictor in the same process with counting switched off, and
the difference is smaller than that between two processes. Turns with and without take each other's place every few
hundredths of a second, in the order on, off, off, on, so that what drifts meanwhile meets both alike. Each such
four gives one ratio; printed are their median and quartiles, beside what a call costs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

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
        f"{'model':8} {'threads':>7} {'us/call':>8} {'ns more':>8}   throughput on/off (quartiles)"
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
                        rates = measure(turn(predictor, rows), set_metering, options.seconds)
                    finally:
                        set_metering(True)
                        if isinstance(turn, Threads):
                            turn.stop()
                    print(line(name, n_threads, rates), flush=True)
    return 0


def measure(
    turn: Callable[[], float], set_metering: Callable[[bool], None], seconds: float
) -> np.ndarray:
    """Calls per second, on and off: an array of shape (turns, 2)."""
    rates = []
    ends = perf_counter() + seconds
    while perf_counter() < ends:
        found: dict[bool, list[float]] = {True: [], False: []}
        for on in (True, False, False, True):
            set_metering(on)
            found[on].append(turn())
        rates.append([np.mean(found[True]), np.mean(found[False])])
    return np.array(rates)


def line(name: str, n_threads: int, rates: np.ndarray) -> str:
    on, off = np.median(rates, axis=0)
    low, median, high = np.percentile(rates[:, 0] / rates[:, 1], [25, 50, 75])
    more_ns = (1 / median - 1) * 1e9 / off
    return (
        f"{name:8} {n_threads:7} {1e6 / on:8.2f} {more_ns:8.0f}   "
        f"{median:.4f} ({low:.4f} to {high:.4f}, {len(rates)} fours)"
    )


def one_thread(predictor: Any, rows: list[Any]) -> Callable[[], float]:
    def turn() -> float:
        calls = 0
        start = now = perf_counter()
        while now - start < TURN_S:
            for row in rows:
                predictor(row)
            calls += len(rows)
            now = perf_counter()
        return calls / (now - start)

    turn()
    return turn


class Threads:
    """Threads that call without pause, through all turns."""

    def __init__(self, n_threads: int) -> None:
        self._counts = [0] * n_threads
        self._over = False
        self._threads: list[threading.Thread] = []

    def __call__(self, predictor: Any, rows: list[Any]) -> Callable[[], float]:
        def work(i: int) -> None:
            while not self._over:
                predictor(rows[self._counts[i] % len(rows)])
                self._counts[i] += 1

        for i in range(len(self._counts)):
            self._threads.append(threading.Thread(target=work, args=(i,), daemon=True))
            self._threads[-1].start()
        sleep(1)

        def turn() -> float:
            sleep(SETTLE_S)
            calls, start = sum(self._counts), perf_counter()
            sleep(4 * TURN_S)  # beside 32 threads this one comes late
            return (sum(self._counts) - calls) / (perf_counter() - start)

        return turn

    def stop(self) -> None:
        self._over = True
        for thread in self._threads:
            thread.join()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
