"""Metric families: the names, types and labels under which the numbers of a snapshot are exported.

Both ways to Prometheus, our own text and the `prometheus_client` registry, write what is listed here, so that a
dashboard works with either.

Native histograms have hundreds of buckets, each of which would be a series. What is exported are some of their own
bounds, so that the counts below a bound stay exact: those next to four per decade from 10 µs to 10 s, and to the
powers of two for rows. The choice depends on the bounds alone; the series of a histogram never change. They begin
with its first value.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infersdk.monitor.exemplars import Exemplar, Exemplars
from infersdk.monitor.snapshot import Histogram, ModelMetrics, RequestMetrics

__all__ = ["Buckets", "Family", "Labels", "added", "buckets", "check_labels", "families", "number"]

Labels = tuple[tuple[str, str], ...]
Kind = Literal["counter", "gauge", "histogram", "summary", "info"]

SECONDS = tuple(10 ** (quarter / 4) for quarter in range(-20, 5))
ROWS = tuple(2.0**power for power in range(15))

COMMON_ERRORS = ("InputError", "OverloadedError", "DeadlineError")
"""Exported from zero on: the rate of a series that begins at one misses the first error."""

_OWN_LABELS = frozenset({"code", "error", "le", "method", "model", "model_name", "protocol"})
_LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


class Buckets(NamedTuple):
    """A histogram as it is exported; without bounds, only how many values there were, and their sum.

    Attributes
    ----------
    bounds : tuple of float, length n
        Ascending, inclusive.
    counts : list of int, length n + 1
        Values up to each bound; the last: all.
    sum : float
    exemplars : Mapping of int to Exemplar
        By the place of their bucket in ``counts``.
    """

    bounds: tuple[float, ...]
    counts: list[int]
    sum: float
    exemplars: Mapping[int, Exemplar] = {}


class Family(NamedTuple):
    """All series of one name.

    Attributes
    ----------
    name : str
        As series have it: with ``_total`` and ``_info``, without ``_bucket``, ``_count`` and ``_sum``.
    kind : str
    help : str
    series : list of (Labels, value)
        The value is a number; for histograms and summaries, Buckets.
    """

    name: str
    kind: Kind
    help: str
    series: list[tuple[Labels, int | float | Buckets]]


def families(
    models: Sequence[ModelMetrics],
    *,
    exemplars: Exemplars | None = None,
    requests: RequestMetrics | None = None,
) -> list[Family]:
    """List what is exported under infersdk's own names.

    Parameters
    ----------
    models : sequence of ModelMetrics
        Each model and version once.
    exemplars : Exemplars, optional
    requests : RequestMetrics, optional
    """
    build = Family(
        "infersdk_build_info",
        "info",
        "The version of infersdk that answers.",
        [((("version", _version()),), 1)],
    )
    calls = Family("infersdk_calls_total", "counter", "Calls that ended, answered or not.", [])
    errors = Family(
        "infersdk_call_errors_total",
        "counter",
        "Calls that were not answered, by the class of the error.",
        [],
    )
    rows = Family("infersdk_rows_total", "counter", "Rows of calls that were answered.", [])
    call_s = Family(
        "infersdk_call_duration_seconds",
        "histogram",
        "From call to answer, of calls that were answered.",
        [],
    )
    queue_s = Family(
        "infersdk_queue_duration_seconds",
        "histogram",
        "What a queued call waited until a run took its first row.",
        [],
    )
    batch_s = Family(
        "infersdk_batch_duration_seconds",
        "histogram",
        "One shared run with gathering its rows and scattering its answers.",
        [],
    )
    run_s = Family(
        "infersdk_run_duration_seconds", "histogram", "One run of the model, shared or not.", []
    )
    run_rows = Family(
        "infersdk_run_rows", "histogram", "Rows of one run of the model, shared or not.", []
    )
    queued = Family("infersdk_queued_rows", "gauge", "Rows that wait in the queue now.", [])
    running = Family("infersdk_running", "gauge", "Queued or replica-bound runs under way now.", [])
    for model in models:
        labels: Labels = (("model", model.model), ("version", model.version))
        for method in model.methods:
            inner = (*labels, ("method", method.method))
            calls.series.append((inner, method.calls))
            for error, count in {**dict.fromkeys(COMMON_ERRORS, 0), **method.errors}.items():
                errors.series.append(((*inner, ("error", error)), count))
            rows.series.append((inner, method.rows))
            traced = exemplars.of(model.model, method.method) if exemplars is not None else ()
            _append(call_s, inner, method.call_s, SECONDS, traced)
        _append(queue_s, labels, model.queue_s, SECONDS)
        _append(batch_s, labels, model.batch_s, SECONDS)
        _append(run_s, labels, model.run_s, SECONDS)
        _append(run_rows, labels, model.run_rows, ROWS)
        queued.series.append((labels, model.queued_rows))
        running.series.append((labels, model.running))
    listed = [
        build,
        calls,
        errors,
        rows,
        call_s,
        queue_s,
        batch_s,
        run_s,
        run_rows,
        queued,
        running,
    ]
    if requests is not None:
        listed.append(
            Family(
                "infersdk_http_requests_total",
                "counter",
                "Requests that were answered, by protocol, model and HTTP status code.",
                [
                    ((("protocol", protocol), ("model", name), ("code", str(code))), count)
                    for (protocol, name, code), count in requests.requests.items()
                ],
            )
        )
    return listed


def _append(
    family: Family,
    labels: Labels,
    histogram: Histogram,
    targets: tuple[float, ...],
    traced: Collection[Exemplar] = (),
) -> None:
    if histogram.count:
        # Most methods are never asked, and most models never queue: dozens of series of nothing.
        family.series.append((labels, buckets(histogram, targets, traced)))


def buckets(
    histogram: Histogram, targets: tuple[float, ...], traced: Collection[Exemplar] = ()
) -> Buckets:
    """Coarsen a histogram to those of its own bounds that are next to some targets.

    Parameters
    ----------
    histogram : Histogram
    targets : tuple of float
        Positive, ascending. A histogram that has no more bounds than these keeps them all.
    traced : collection of Exemplar
        Those to show; the last of each bucket is.
    """
    places, bounds = _chosen(np.asarray(histogram.bounds, np.float64).tobytes(), targets)
    below = np.cumsum(histogram.counts)
    shown: dict[int, Exemplar] = {}
    for one in traced:
        place = bisect_left(bounds, one.seconds)
        if place not in shown or shown[place].time_s < one.time_s:
            shown[place] = one
    return Buckets(bounds, below[places].tolist(), float(histogram.sum), shown)


def added(histograms: Iterable[Histogram]) -> Histogram:
    """Add histograms up, over the bounds that all of them have: below those, counts stay exact.

    Parameters
    ----------
    histograms : iterable of Histogram
        At least one.
    """
    first, *others = histograms
    for other in others:
        first = _sum_of(first, other)
    return first


def check_labels(labels: Mapping[str, str]) -> Labels:
    """Look over the labels that a caller adds to every series.

    Raises
    ------
    ValueError
        One is no label name, or is one of the metrics' own.
    """
    for name in labels:
        if not _LABEL.fullmatch(name):
            raise ValueError(
                f"Expected labels to be named with letters, digits and `_`, got {name!r}"
            )
        if name in _OWN_LABELS or name in ("version", "reason"):
            raise ValueError(f"The label `{name}` is one of the metrics' own; choose another name")
    return tuple((name, str(value)) for name, value in labels.items())


def number(value: float | np.integer[Any]) -> str:
    """Write a number as the text formats have it: ``3``, ``0.25``, ``1e-05``, ``+Inf``, ``NaN``."""
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return float.__repr__(value)


def _sum_of(one: Histogram, other: Histogram) -> Histogram:
    if np.array_equal(one.bounds, other.bounds):
        return Histogram(one.bounds, one.counts + other.counts, one.sum + other.sum)
    bounds, *places = np.intersect1d(one.bounds, other.bounds, return_indices=True)
    below = np.zeros(len(bounds) + 1, np.int64)
    for histogram, place in zip((one, other), places, strict=True):
        counted = np.cumsum(histogram.counts)
        below[:-1] += counted[place]
        below[-1] += counted[-1]
    return Histogram(bounds, np.diff(below, prepend=0), one.sum + other.sum)


@lru_cache(maxsize=64)
def _chosen(
    bounds: bytes, targets: tuple[float, ...]
) -> tuple[NDArray[np.intp], tuple[float, ...]]:
    """Places of the cumulated counts to export, the last of all included; and the bounds that belong to them."""
    own: NDArray[np.float64] = np.frombuffer(bounds)
    if len(own) > len(targets):
        between = np.sqrt(own[:-1] * own[1:])
        chosen = np.unique(np.searchsorted(between, targets))
    else:
        chosen = np.arange(len(own))
    return np.append(chosen, len(own)), tuple(own[chosen].tolist())


@cache
def _version() -> str:
    import importlib.metadata  # half as dear to import as numpy

    try:
        return importlib.metadata.version("infersdk")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"  # run from a source tree that was never installed
