"""Obeys the runner's orders of a load, in the process of one rival.

An order is a dict with ``kind`` and the parameters of that kind's function. ``overload`` measures the peak
and then offers a multiple of it, so that both fall into the same round.
"""

from __future__ import annotations

import ctypes
import signal
import sys
from typing import Any

from benchmarks.load.aio import asyncio_load
from benchmarks.load.answers import Expected
from benchmarks.load.closed import closed_load
from benchmarks.load.loadgen import loadgen
from benchmarks.load.open import open_load

__all__ = ["die_with_parent", "drive"]

PEAK_THREADS = 32


def die_with_parent() -> None:
    """End this process with the runner, where Linux is asked to: a stopped one cannot notice by itself."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)


def drive(rival: Any, expected: Expected, order: dict[str, Any]) -> dict[str, float]:
    """Load the rival as ordered; its figures."""
    parameters = dict(order)
    kind = parameters.pop("kind")
    match kind:
        case "closed":
            return closed_load(rival.run, **parameters, expected=expected)
        case "asyncio":
            return asyncio_load(rival.arun, **parameters, expected=expected)
        case "open" | "cpu":
            return open_load(rival.run, **parameters, expected=expected)
        case "overload":
            return _overload(rival, expected, **parameters)
        case "loadgen":
            return loadgen(
                getattr(rival, "run", None),
                arun=getattr(rival, "arun", None),
                **parameters,
                n_rows=expected.n_rows,
                expected=expected,
            )
        case _:
            raise ValueError(f"Expected a kind of load, got {kind!r}")


def _overload(
    rival: Any,
    expected: Expected,
    *,
    factor: float,
    seconds: float,
    peak_seconds: float,
    n_threads: int,
    deadline_s: float,
) -> dict[str, float]:
    """Offer ``factor`` times the calls that were just answered at most."""
    peak = closed_load(rival.run, n_threads=PEAK_THREADS, seconds=peak_seconds, expected=expected)
    figures = open_load(
        rival.run,
        run_within=getattr(rival, "run_within", None),
        rate_per_s=factor * peak["throughput_per_s"],
        seconds=seconds,
        n_threads=n_threads,
        deadline_s=deadline_s,
        refused=getattr(rival, "refused", ()),
        expired=getattr(rival, "expired", ()),
        expected=expected,
    )
    figures["peak_per_s"] = peak["throughput_per_s"]
    figures["goodput_of_peak"] = figures["goodput_per_s"] / peak["throughput_per_s"]
    figures["wrong"] += peak["wrong"]
    return figures
