"""Times of many calls to the few numbers that tables show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["latencies", "percentiles", "summarize"]


def percentiles(times_ns: Sequence[int] | np.ndarray, prefix: str = "") -> dict[str, float]:
    """p50 and p99 in microseconds; NaN where there are no times."""
    if len(times_ns) == 0:
        return {f"{prefix}p50_us": float("nan"), f"{prefix}p99_us": float("nan")}
    p50, p99 = np.percentile(times_ns, [50, 99]) / 1e3
    return {f"{prefix}p50_us": float(p50), f"{prefix}p99_us": float(p99)}


def latencies(times_ns: Sequence[int] | np.ndarray) -> dict[str, float]:
    """Mean, p50 and p99 in microseconds."""
    mean_us = float(np.mean(times_ns)) / 1e3 if len(times_ns) else float("nan")
    return {"mean_us": mean_us, **percentiles(times_ns)}


def summarize(times_ns: Sequence[Sequence[int]], seconds: float) -> dict[str, float]:
    """Figures of a closed load: the times of each caller's calls, the last of which ended too late."""
    counts = [len(times) - 1 for times in times_ns]
    return {
        "throughput_per_s": sum(counts) / seconds,
        **latencies([time for times in times_ns for time in times]),
        "calls": sum(counts),
        "fewest_calls": min(counts),
    }
