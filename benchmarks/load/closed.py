"""Closed load: each of k threads makes its next call when its last one is answered.

It shows capacity. It hides starvation: a caller that is not served does not call again, so an unfair
server looks fast. So each thread's last call, which ends after the time is up, counts among the
latencies (though not in the throughput), and ``fewest_calls`` tells what the least served thread got.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from time import perf_counter_ns
from typing import Any

from benchmarks.load.answers import EVERY, Expected
from benchmarks.load.burner import Burner
from benchmarks.load.figures import summarize

__all__ = ["closed_load", "run_threads"]

_APART = 37
"""Threads start this many rows apart, so that they do not ask for the same row at the same time."""


def closed_load(
    run: Callable[[int], Any],
    *,
    n_threads: int,
    seconds: float,
    burner: bool = False,
    expected: Expected | None = None,
) -> dict[str, float]:
    """Let threads call ``run(i)`` one after the other for some seconds.

    Returns
    -------
    dict
        ``throughput_per_s``, ``mean_us``, ``p50_us``, ``p99_us``, ``calls``, ``fewest_calls``,
        ``wrong``; with a burner ``burner_per_s``, the steps that it got done.
    """
    times: list[list[int]] = [[] for _ in range(n_threads)]
    kept: list[list[tuple[int, Any]]] = [[] for _ in range(n_threads)]
    start_ns = 0
    fire = Burner() if burner else None

    def open_gate() -> None:
        nonlocal start_ns
        start_ns = perf_counter_ns()
        if fire is not None:
            fire.light()

    gate = threading.Barrier(n_threads, action=open_gate)

    def caller(thread: int) -> None:
        clock, record, keep = perf_counter_ns, times[thread].append, kept[thread].append
        i = thread * _APART
        gate.wait()
        last = start_ns
        end = start_ns + int(seconds * 1e9)
        while True:
            answer = run(i)
            now = clock()
            record(now - last)
            if now > end:
                return
            if i % EVERY == 0:
                keep((i, answer))
                now = clock()
            last = now
            i += 1

    with fire or nullcontext():
        run_threads(caller, n_threads)
        steps, burned_ns = fire.steps if fire else 0, perf_counter_ns() - start_ns
    figures = summarize(times, seconds)
    if expected is not None:
        figures["wrong"] = sum(map(expected.wrong, kept))
    if burner:
        figures["burner_per_s"] = steps / (burned_ns / 1e9)
    return figures


def run_threads(target: Callable[[int], None], n_threads: int) -> None:
    """Run ``target(0) ... target(n_threads - 1)``, each in a thread; raise the first error of any."""
    errors: list[BaseException] = []

    def guarded(thread: int) -> None:
        try:
            target(thread)
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=guarded, args=(thread,), daemon=True) for thread in range(n_threads)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
