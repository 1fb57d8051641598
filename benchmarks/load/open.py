"""Open load: calls come when they are due, whether or not earlier ones were answered.

Arrivals are a Poisson process from a seeded schedule, so that every rival gets the same ones. Latency runs
from the moment a call was due, not from when a thread got to it: what a stalled server makes callers wait
before they are even heard is its own doing. Waiting threads take the next arrival from a common ticket; as
long as one is free, a call is issued when it is due. ``lag_p99_us`` is how late calls were issued: where it
is large while the rival answers quickly, this process was the limit and the figures say little.
"""

from __future__ import annotations

import ctypes
import itertools
import sys
import threading
from collections.abc import Callable
from time import perf_counter_ns, process_time_ns, sleep
from typing import Any

import numpy as np

from benchmarks.load.answers import EVERY, Expected
from benchmarks.load.closed import run_threads
from benchmarks.load.figures import latencies, percentiles

__all__ = ["open_load", "poisson_schedule"]

_ANSWERED, _REFUSED, _EXPIRED, _ABANDONED = range(4)
_HEAD_START_NS = 50_000_000
_STACK_BYTES = 512 * 1024


def poisson_schedule(rate_per_s: float, seconds: float, seed: int) -> np.ndarray:
    """When calls are due: int64 nanoseconds from the start, increasing, all before ``seconds``."""
    rng = np.random.default_rng(seed)
    mean_count = rate_per_s * seconds
    gaps = rng.exponential(1e9 / rate_per_s, int(mean_count + 8 * mean_count**0.5 + 16))
    due = np.cumsum(gaps)
    return due[due < seconds * 1e9].astype(np.int64)


def open_load(
    run: Callable[[int], Any],
    *,
    rate_per_s: float,
    seconds: float,
    n_threads: int,
    deadline_s: float,
    run_within: Callable[[int, float], Any] | None = None,
    seed: int = 7,
    refused: tuple[type[BaseException], ...] = (),
    expired: tuple[type[BaseException], ...] = (),
    grace_s: float = 1.0,
    expected: Expected | None = None,
) -> dict[str, float]:
    """Make calls when they are due.

    Parameters
    ----------
    run : callable
        ``run(i)`` answers, or raises one of ``refused`` or ``expired``.
    rate_per_s, seconds
        Offered load.
    n_threads : int
        Calls that may be under way at once.
    deadline_s : float
        Answers within that time of being due are goodput.
    run_within : callable, optional
        ``run_within(i, timeout_s)`` is called in place of ``run(i)``, with what is left of the deadline.
    refused, expired : tuple of exception types
        What a rival raises for a call it does not take, and for one that ran out of time.
    grace_s : float
        A call that no thread has got to this long after the last was due is given up.

    Returns
    -------
    dict
        ``offered_per_s``; ``throughput_per_s`` and ``goodput_per_s``, answers while calls came;
        ``mean_us``, ``p50_us``, ``p99_us`` from due to answered; ``calls``, ``refused``, ``expired``,
        ``abandoned``; ``refusal_p50_us``, ``refusal_p99_us`` from issued to raised; ``lag_p99_us``;
        ``cpu_percent`` of one core; ``wrong``.
    """
    offsets = poisson_schedule(rate_per_s, seconds, seed)
    n_calls = len(offsets)
    ticket = itertools.count().__next__
    records: list[list[tuple[int, int, int, int]]] = [[] for _ in range(n_threads)]
    kept: list[list[tuple[int, Any]]] = [[] for _ in range(n_threads)]
    due: list[int] = []
    start_ns = 0

    def open_gate() -> None:
        nonlocal start_ns
        start_ns = perf_counter_ns() + _HEAD_START_NS
        due.extend((offsets + start_ns).tolist())

    gate = threading.Barrier(n_threads, action=open_gate)

    def caller(thread: int) -> None:
        clock, record, keep = perf_counter_ns, records[thread].append, kept[thread].append
        gate.wait()
        give_up_ns = start_ns + int((seconds + grace_s) * 1e9)
        while (k := ticket()) < n_calls:
            wait_ns = due[k] - clock()
            if wait_ns > 0:
                sleep(wait_ns / 1e9)
            issued = clock()
            if issued > give_up_ns:
                record((k, issued, issued, _ABANDONED))
                continue
            try:
                if run_within is None:
                    answer = run(k)
                else:
                    answer = run_within(k, max(deadline_s - (issued - due[k]) / 1e9, 1e-6))
                done, outcome = clock(), _ANSWERED
            except refused:
                done, outcome, answer = clock(), _REFUSED, None
            except expired:
                done, outcome, answer = clock(), _EXPIRED, None
            record((k, issued, done, outcome))
            if k % EVERY == 0 and outcome == _ANSWERED:
                keep((k, answer))

    _sleep_exactly()
    previous = threading.stack_size(_STACK_BYTES)
    cpu_ns, wall_ns = process_time_ns(), perf_counter_ns()
    try:
        run_threads(caller, n_threads)
    finally:
        threading.stack_size(previous)
    cpu_ns, wall_ns = process_time_ns() - cpu_ns, perf_counter_ns() - wall_ns
    columns = np.array([record for thread in records for record in thread], np.int64).reshape(-1, 4)
    figures = _figures(columns, offsets + start_ns, start_ns, seconds, deadline_s)
    figures["cpu_percent"] = 100 * cpu_ns / wall_ns
    if expected is not None:
        figures["wrong"] = sum(map(expected.wrong, kept))
    return figures


def _figures(
    records: np.ndarray, due: np.ndarray, start_ns: int, seconds: float, deadline_s: float
) -> dict[str, float]:
    calls, issued, done, outcome = records.T
    due = due[calls]
    latency = done - due
    answered = outcome == _ANSWERED
    counted = answered & (done < start_ns + seconds * 1e9)
    refused = outcome == _REFUSED
    abandoned = outcome == _ABANDONED
    return {
        "offered_per_s": len(records) / seconds,
        "throughput_per_s": int(counted.sum()) / seconds,
        "goodput_per_s": int((counted & (latency <= deadline_s * 1e9)).sum()) / seconds,
        # A call that was given up waited at least that long.
        **latencies(latency[answered | abandoned]),
        "calls": len(records),
        "refused": int(refused.sum()),
        "expired": int((outcome == _EXPIRED).sum()),
        "abandoned": int(abandoned.sum()),
        **percentiles((done - issued)[refused], "refusal_"),
        "lag_p99_us": percentiles((issued - due)[~abandoned])["p99_us"],
    }


def _sleep_exactly() -> None:
    """Linux rounds sleeps up to 50 us; threads started after this one asked not to inherit that."""
    if sys.platform == "linux":
        pr_set_timerslack = 29
        ctypes.CDLL(None).prctl(pr_set_timerslack, 1, 0, 0, 0)
