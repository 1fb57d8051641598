"""Traces to look at: for each range of durations the last sampled one, so that a slow bucket leads to a slow call.

Recording is one look-up and one assignment, which the interpreter makes whole by itself. There is no lock, so none
that a fork could leave locked.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from typing import NamedTuple

__all__ = ["Exemplar", "Exemplars"]

_RANGES_S = tuple(10 ** (quarter / 4) for quarter in range(-20, 5))
"""One exemplar is kept for each: about the buckets that are exported."""

_MOST_METHODS = 1000
"""More methods of models than that have no exemplars."""

_LONGEST_TRACE_ID = 100
"""OpenMetrics allows the labels of an exemplar 128 characters in all."""


class Exemplar(NamedTuple):
    """One call that was traced.

    Attributes
    ----------
    seconds : float
        It took.
    trace_id : str
    time_s : float
        When it ended, as Unix time.
    """

    seconds: float
    trace_id: str
    time_s: float


class Exemplars:
    """The last traced call of each model, method and range of durations.

    Safe to use from any number of threads. Memory is bounded: about 26 exemplars for each of at most 1,000 methods.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], list[Exemplar | None]] = {}

    def record(self, model: str, method: str, seconds: float, trace_id: str) -> None:
        """Keep a call whose trace is sampled, in place of the last one that took about as long.

        Parameters
        ----------
        model, method : str
        seconds : float
            From call to answer.
        trace_id : str
            As traceparent has it: 32 hexadecimal digits.

        Raises
        ------
        ValueError
            The trace id is longer than exemplars may be.
        """
        if len(trace_id) > _LONGEST_TRACE_ID:
            raise ValueError(
                f"Expected a trace id of 32 hexadecimal digits, got {len(trace_id):,} characters"
            )
        kept = self._kept.get((model, method))
        if kept is None:
            if len(self._kept) >= _MOST_METHODS:
                return
            kept = self._kept.setdefault((model, method), [None] * (len(_RANGES_S) + 1))
        kept[bisect_left(_RANGES_S, seconds)] = Exemplar(seconds, trace_id, time.time())

    def of(self, model: str, method: str) -> list[Exemplar]:
        """Those of one method, by duration."""
        return [one for one in self._kept.get((model, method), ()) if one is not None]
