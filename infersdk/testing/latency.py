"""assert_latency: one function is not slower than another, measured side by side.

A figure in microseconds says more about the machine, and about who else is using it, than about the code. So
two functions are measured in turn on the same inputs, pair by pair, and only their ratio is judged: whatever
slows the machine slows both. The judge is the sign test: how many pairs lie above the limit. It asks for clear
evidence (one chance in a thousand of being wrong), and more pairs are measured until there is some or the time
is up. A true ratio right at the limit stays undecided, and then nothing fails.
"""

from __future__ import annotations

import gc
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

__all__ = ["LatencyReport", "assert_latency", "compare_latency"]

_CHANCE = 0.001
_FIRST_LOOK = 15
_BLOCK_S = 300e-6
"""What is timed at once is at least that long: a clock's own cost is a tenth of a microsecond."""

_NOTHING: Any = object()


@dataclass(frozen=True, slots=True)
class LatencyReport:
    """Two functions side by side.

    Attributes
    ----------
    verdict : {"within", "above", "undecided"}
    at_most : float
        The limit.
    ratios : tuple of float
        Candidate over baseline, one for each pair, ascending.
    candidate_s, baseline_s : float
        Median seconds of a call.
    """

    verdict: Literal["within", "above", "undecided"]
    at_most: float
    ratios: tuple[float, ...]
    candidate_s: float
    baseline_s: float

    @property
    def ratio(self) -> float:
        """The median."""
        return median(self.ratios)

    def __str__(self) -> str:
        verdict = {"within": "within", "above": "ABOVE", "undecided": "too close to"}[self.verdict]
        low, high = _interval(self.ratios)
        lines = [
            f"ratio {self.ratio:.3g} (99.9% sure: {low:.3g} to {high:.3g}) is {verdict} at_most={self.at_most:g}",
            f"  candidate {_time(self.candidate_s)}, baseline {_time(self.baseline_s)} a call, "
            f"{len(self.ratios)} pairs",
            "  "
            + "  ".join(f"p{p} {_quantile(self.ratios, p / 100):.3g}" for p in (5, 25, 50, 75, 95)),
            *_histogram(self.ratios, self.at_most),
        ]
        return "\n".join(lines)


def assert_latency(
    candidate: Callable[..., Any],
    baseline: Callable[..., Any],
    *,
    at_most: float = 1.2,
    inputs: Sequence[Any] | None = None,
    budget_s: float = 5.0,
    timer: Callable[[], float] = time.perf_counter,
) -> LatencyReport:
    """Fail if a function clearly takes longer than another one times a factor.

    Parameters
    ----------
    candidate, baseline : callable
        What is tested, and what it is compared with. Both are called in this thread, with one of the
        inputs if there are any.
    at_most : float
        The largest ratio that is in order: 1.2 for a fifth slower, 0.1 for ten times as fast.
    inputs : sequence, optional
        Are used in turn, the same for both, so that nothing is remembered from the call before.
    budget_s : float
        The most seconds to measure. A clear case takes a small part of it.
    timer : callable
        Seconds.

    Returns
    -------
    LatencyReport

    Raises
    ------
    AssertionError
        With the distribution of ratios.
    ValueError
        There are no inputs, or the limit is not positive.

    Warns
    -----
    UserWarning
        The time was up before it was clear.
    """
    __tracebackhide__ = True
    report = compare_latency(
        candidate, baseline, at_most=at_most, inputs=inputs, budget_s=budget_s, timer=timer
    )
    if report.verdict == "above":
        raise AssertionError(f"Too slow: {report}")
    if report.verdict == "undecided":
        warnings.warn(f"Not clear after {budget_s:g} s: {report}", UserWarning, stacklevel=2)
    return report


def compare_latency(
    candidate: Callable[..., Any],
    baseline: Callable[..., Any],
    *,
    at_most: float,
    inputs: Sequence[Any] | None = None,
    budget_s: float = 5.0,
    timer: Callable[[], float] = time.perf_counter,
) -> LatencyReport:
    """Measure as :func:`assert_latency` does, and only report."""
    if not at_most > 0:
        raise ValueError(f"Expected at_most to be a positive ratio, got {at_most!r}")
    if inputs is not None and len(inputs) == 0:
        raise ValueError("Expected at least one input, got none")
    given: Sequence[Any] = (_NOTHING,) if inputs is None else inputs
    ends = timer() + budget_s
    for value in given[:3]:  # the first calls load and fill what later ones find
        _block(candidate, value, 1, timer)
        _block(baseline, value, 1, timer)
    calls = [_calls_in_a_block(function, given[0], timer) for function in (candidate, baseline)]
    pairs: list[tuple[float, float]] = []
    look = _FIRST_LOOK
    verdict: Literal["within", "above", "undecided"] = "undecided"
    collects = gc.isenabled()
    gc.disable()
    try:
        while verdict == "undecided":
            while len(pairs) < look and (len(pairs) < 3 or timer() < ends):
                value = given[len(pairs) % len(given)]
                if len(pairs) % 2:
                    theirs = _block(baseline, value, calls[1], timer)
                    ours = _block(candidate, value, calls[0], timer)
                else:
                    ours = _block(candidate, value, calls[0], timer)
                    theirs = _block(baseline, value, calls[1], timer)
                pairs.append((ours, theirs))
            above = sum(ours > at_most * theirs for ours, theirs in pairs)
            if _chance(len(pairs) - above, len(pairs)) < _CHANCE:
                verdict = "within"
            elif _chance(above, len(pairs)) < _CHANCE:
                verdict = "above"
            elif timer() >= ends:
                break
            look *= 2
    finally:
        if collects:
            gc.enable()
    return LatencyReport(
        verdict,
        at_most,
        tuple(sorted(ours / theirs if theirs else math.inf for ours, theirs in pairs)),
        median(ours for ours, _ in pairs),
        median(theirs for _, theirs in pairs),
    )


def _block(
    function: Callable[..., Any], value: Any, n_calls: int, timer: Callable[[], float]
) -> float:
    """Seconds of one of that many calls."""
    if value is _NOTHING:
        started = timer()
        for _ in range(n_calls):
            function()
    else:
        started = timer()
        for _ in range(n_calls):
            function(value)
    return (timer() - started) / n_calls


def _calls_in_a_block(function: Callable[..., Any], value: Any, timer: Callable[[], float]) -> int:
    once_s = min(_block(function, value, 1, timer) for _ in range(3))
    return max(1, min(math.ceil(_BLOCK_S / once_s), 10_000)) if once_s > 0 else 1


def _chance(n_heads: int, n: int) -> float:
    """How likely a fair coin gives at least that many heads."""
    return sum(math.comb(n, k) for k in range(n_heads, n + 1)) / 2**n


def _interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Where the median is, but for a chance of one in a thousand: by the order of the values alone."""
    n = len(ratios)
    cut = 0
    while cut < n // 2 and 2 * _chance(n - cut, n) < _CHANCE:
        cut += 1
    cut = max(cut - 1, 0)
    return ratios[cut], ratios[n - 1 - cut]


def _quantile(ordered: Sequence[float], share: float) -> float:
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def _histogram(ordered: Sequence[float], at_most: float) -> list[str]:
    """A few bars between the 2nd and the 98th percentile, the limit marked."""
    low, high = _quantile(ordered, 0.02), _quantile(ordered, 0.98)
    if not 0 < low < high < math.inf:
        return []
    n_bars, lines = 8, []
    width = (high - low) / n_bars
    for i in range(n_bars):
        start, end = low + i * width, low + (i + 1) * width
        n = sum(start <= ratio < end or (i == n_bars - 1 and ratio == end) for ratio in ordered)
        mark = " <- at_most" if start <= at_most < end else ""
        lines.append(f"  {start:8.3g} {'#' * round(40 * n / len(ordered))}{mark}")
    return lines


def _time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{seconds * 1e6:.3g} us"
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
