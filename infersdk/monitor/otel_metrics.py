"""Metrics as OpenTelemetry's observable instruments: an exporter reads the native counts, and calls pay nothing.

What is exported is what Prometheus gets (`families`), so that a dashboard reads the same numbers. OpenTelemetry's API
has no observable histogram, and recording each call in a histogram of its own would cost a small model half of its
speed. So each histogram becomes three counters, ``.sum``, ``.count`` and ``.bucket`` (the calls up to the bound ``le``),
which backends can add up over processes and take rates of; and a gauge, ``.quantile``, of what this process did in
about the last minute, for those that cannot.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from infersdk.monitor.families import Buckets, Family, Labels, families, number
from infersdk.monitor.snapshot import Histogram, ModelMetrics

__all__ = ["Readings", "create_instruments", "quantile"]

QUANTILES = (0.5, 0.9, 0.99)

_ATTRIBUTES = {
    "model": "infersdk.model",
    "version": "infersdk.model_version",
    "method": "infersdk.method",
    "error": "error.type",
}

_NUMBERS = {
    "infersdk_calls_total": ("infersdk.calls", "{call}"),
    "infersdk_call_errors_total": ("infersdk.call.errors", "{call}"),
    "infersdk_rows_total": ("infersdk.rows", "{row}"),
    "infersdk_queued_rows": ("infersdk.queued_rows", "{row}"),
    "infersdk_running": ("infersdk.running", "{run}"),
}

_HISTOGRAMS = {
    "infersdk_call_duration_seconds": ("infersdk.call.duration", "s"),
    "infersdk_queue_duration_seconds": ("infersdk.queue.duration", "s"),
    "infersdk_batch_duration_seconds": ("infersdk.batch.duration", "s"),
    "infersdk_run_duration_seconds": ("infersdk.run.duration", "s"),
    "infersdk_run_rows": ("infersdk.run.rows", "{row}"),
}

_WINDOW_S = 60.0
_KEPT_EVERY_S = 5.0

Source = Callable[[], Iterable[ModelMetrics]]


class Readings:
    """The numbers of some models as observations. All instruments of one collection are answered by one reading.

    There is no lock, so none that a fork could leave locked: two exporters that read at the same moment read twice.

    Parameters
    ----------
    source : callable
        Copies the counts. Models that several apps have are added up.
    clock : callable
        Seconds.
    """

    def __init__(self, source: Source, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._observed: dict[str, list[Observation]] = {}
        self._given: set[str] = set()
        self._pid = 0
        self._is_held = False
        self._recent = _Recent()

    def of(self, instrument: str) -> list[Observation]:
        """What an instrument observes. Asked again it reads again.

        Parameters
        ----------
        instrument : str
            Its name.
        """
        if self._is_held:
            return self._observed.get(instrument, [])
        pid = os.getpid()
        if instrument in self._given or self._pid != pid:  # a fork's child has counts of its own
            self._observed = self._read()
            self._given = set()
            self._pid = pid
        self._given.add(instrument)
        return self._observed.get(instrument, [])

    def hold(self) -> None:
        """Read once more and for the last time: models are about to be closed, exporters to say their last words."""
        self._observed = self._read()
        self._is_held = True

    def _read(self) -> dict[str, list[Observation]]:
        models = list(self._source())
        values: dict[str, dict[Labels, float]] = {}
        for family in families(models):
            _add(values, family)
        for (name, labels), histogram in self._recent.since(self._clock(), _histograms(models)):
            for share in QUANTILES:
                found = quantile(histogram, share)
                if found is not None:
                    inner = (*labels, ("quantile", str(share)))
                    values.setdefault(f"{name}.quantile", {})[inner] = found
        return {
            name: [Observation(value, dict(labels)) for labels, value in series.items()]
            for name, series in values.items()
        }


def create_instruments(meter: Meter, readings: Callable[[], Readings | None]) -> None:
    """Create the instruments of all metrics.

    Parameters
    ----------
    meter : Meter
    readings : callable
        Asked at each collection; None where there is nothing to read.
    """

    def callback(name: str) -> Callable[[CallbackOptions], Sequence[Observation]]:
        def observe(options: CallbackOptions) -> Sequence[Observation]:
            found = readings()
            return [] if found is None else found.of(name)

        return observe

    for family in families([]):
        if family.name in _NUMBERS:
            name, unit = _NUMBERS[family.name]
            create = (
                meter.create_observable_counter
                if family.kind == "counter"
                else meter.create_observable_up_down_counter  # adds up over processes
            )
            create(name, [callback(name)], unit, family.help)
        elif family.name in _HISTOGRAMS:
            name, unit = _HISTOGRAMS[family.name]
            for suffix, of_part, what in (
                ("sum", unit, "the sum"),
                ("count", "1", "how many"),
                ("bucket", "1", "how many up to the bound `le`"),
            ):
                inner = f"{name}.{suffix}"
                meter.create_observable_counter(
                    inner, [callback(inner)], of_part, f"{family.help} Here {what}."
                )
            inner = f"{name}.quantile"
            meter.create_observable_gauge(
                inner, [callback(inner)], unit, f"{family.help} Here quantiles of the last minute."
            )


def quantile(histogram: Histogram, share: float) -> float | None:
    """Estimate a quantile, as if values lay evenly between the bounds of their bucket.

    Parameters
    ----------
    histogram : Histogram
    share : float
        From 0 to 1.

    Returns
    -------
    float or None
        None without values. What is beyond every bound is taken for the last bound.
    """
    below = np.cumsum(histogram.counts)
    total = int(below[-1])
    if not total:
        return None
    rank = share * total
    place = int(np.searchsorted(below, rank))
    if place >= len(histogram.bounds):
        return float(histogram.bounds[-1])
    lower = float(histogram.bounds[place - 1]) if place else 0.0
    before = int(below[place - 1]) if place else 0
    within = (rank - before) / max(int(histogram.counts[place]), 1)
    return lower + within * (float(histogram.bounds[place]) - lower)


def _add(values: dict[str, dict[Labels, float]], family: Family) -> None:
    """A family's series, added up where two have the same labels."""

    def add(name: str, labels: Labels, value: float) -> None:
        series = values.setdefault(name, {})
        series[labels] = series.get(labels, 0) + value

    for given, value in family.series:
        labels = _attributes(given)
        if not isinstance(value, Buckets):
            if family.name in _NUMBERS:
                add(_NUMBERS[family.name][0], labels, value)
        elif family.name in _HISTOGRAMS:
            name, _ = _HISTOGRAMS[family.name]
            add(f"{name}.sum", labels, value.sum)
            add(f"{name}.count", labels, value.counts[-1])
            for bound, count in zip((*value.bounds, float("inf")), value.counts, strict=True):
                add(f"{name}.bucket", (*labels, ("le", number(bound))), count)


def _attributes(labels: Labels) -> Labels:
    return tuple((_ATTRIBUTES[name], value) for name, value in labels)


_Key = tuple[str, Labels]


def _histograms(models: Iterable[ModelMetrics]) -> dict[_Key, Histogram]:
    """Those of which there are quantiles, with all their bounds."""
    found: dict[_Key, Histogram] = {}

    def add(name: str, labels: Labels, histogram: Histogram) -> None:
        key = f"infersdk.{name}", _attributes(labels)
        other = found.get(key)
        if other is not None:
            histogram = Histogram(
                histogram.bounds, histogram.counts + other.counts, histogram.sum + other.sum
            )
        found[key] = histogram

    for model in models:
        labels: Labels = (("model", model.model), ("version", model.version))
        for method in model.methods:
            add("call.duration", (*labels, ("method", method.method)), method.call_s)
        add("queue.duration", labels, model.queue_s)
        add("batch.duration", labels, model.batch_s)
        add("run.duration", labels, model.run_s)
        add("run.rows", labels, model.run_rows)
    return found


class _Kept(NamedTuple):
    time_s: float
    counts: dict[_Key, NDArray[np.int64]]


class _Recent:
    """What was added to histograms in about the last minute, however often and by how many it is asked."""

    def __init__(self) -> None:
        self._kept: tuple[_Kept, ...] = ()

    def since(
        self, now_s: float, histograms: dict[_Key, Histogram]
    ) -> list[tuple[_Key, Histogram]]:
        """Take away what was there a minute ago, or at the first reading if that is later."""
        kept = self._kept
        old = [one for one in kept if now_s - one.time_s >= _WINDOW_S]
        base = old[-1].counts if old else kept[0].counts if kept else {}
        if not kept or now_s - kept[-1].time_s >= _KEPT_EVERY_S:
            kept_now = {key: histogram.counts for key, histogram in histograms.items()}
            self._kept = (*old[-1:], *kept[len(old) :], _Kept(now_s, kept_now))
        recent = []
        for key, histogram in histograms.items():
            before = base.get(key)
            counts = histogram.counts
            # A model that was opened again, or a fork's child, begins at zero.
            if before is not None and before.shape == counts.shape and (before <= counts).all():
                counts = counts - before
            recent.append((key, Histogram(histogram.bounds, counts, 0.0)))
        return recent
