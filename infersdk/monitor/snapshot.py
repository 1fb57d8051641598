"""The numbers of models in service, at one moment: what every exporter reads, wherever they were counted.

Counting is native and happens in the call; reading copies the counts into these plain values. Whoever exports them
asks a :class:`MetricsSource`, and does not know whether the counts are of this process alone.

No count is lost or made twice, but numbers are read one after the other: a call that ends meanwhile may be in
one of them and not yet in another. Within one method, ``calls`` is always the answered and the failed ones together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Histogram", "MethodMetrics", "MetricsSource", "ModelMetrics", "RequestMetrics"]


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """How often values fell into each of some ranges.

    Attributes
    ----------
    bounds : ndarray of float64, shape (n,)
        The largest value of each bucket but the last, ascending; inclusive. Read-only, and shared by
        histograms of one unit.
    counts : ndarray of int64, shape (n + 1,)
        Of each bucket by itself; the last holds what is beyond every bound.
    sum : float
        Of all values.
    """

    bounds: NDArray[np.float64]
    counts: NDArray[np.int64]
    sum: float

    @property
    def count(self) -> int:
        """How many values there were."""
        return int(self.counts.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodMetrics:
    """The calls of one method of a model. A call that was made is in ``calls`` when it has ended.

    Attributes
    ----------
    method : str
        ``"predict"``, ``"predict_proba"``, ``"run"``, ...
    calls : int
        That ended, well or not.
    rows : int
        Of calls that were answered.
    errors : Mapping of str to int
        Calls that were not answered, by the class of the error: ``"InputError"``, ``"DeadlineError"``, and
        ``"CancelledError"`` of tasks. Of more than 15 classes the rest are ``"other"``.
    call_s : Histogram
        Seconds from call to answer, of calls that were answered.
    """

    method: str
    calls: int
    rows: int
    errors: Mapping[str, int]
    call_s: Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelMetrics:
    """What one model did since it was opened.

    Attributes
    ----------
    model : str
        Its name.
    version : str
        ``"1"``: files name none.
    methods : tuple of MethodMetrics
        The main one first; those that were never called have zeros.
    queue_s : Histogram
        Seconds that a queued call waited until a run took its first row. Calls that ran at once, in their
        caller's thread, are not in it, nor are those that left the queue unanswered.
    batch_s : Histogram
        Seconds of one run for calls of the queue, with all that belongs to it: gathering rows, running,
        scattering answers. Of runs that succeeded, as the next two.
    run_s : Histogram
        Seconds of one run of the model itself, shared or not: in ONNX Runtime, or of a model without a graph
        in its own framework. Runs that measure or warm up are not in it.
    run_rows : Histogram
        Rows of one run of the model.
    queued_rows : int
        That wait now.
    running : int
        Queued or replica-bound runs under way now.
    """

    model: str
    version: str
    methods: tuple[MethodMetrics, ...]
    queue_s: Histogram
    batch_s: Histogram
    run_s: Histogram
    run_rows: Histogram
    queued_rows: int
    running: int


@dataclass(frozen=True, slots=True)
class RequestMetrics:
    """What was asked over HTTP.

    Attributes
    ----------
    requests : Mapping of (str, str, int) to int
        How many requests were answered, by protocol, model and HTTP status code. The model is ``""`` where a
        request named none that is known: names that clients make up would be series without end.
    """

    requests: Mapping[tuple[str, str, int], int]


class MetricsSource(Protocol):
    """Where exporters read. :class:`infersdk.Predictors` is one."""

    def metrics(self) -> Sequence[ModelMetrics]:
        """Copy the counts, of every model that is open. Each model and version comes once."""
        ...
