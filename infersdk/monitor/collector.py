"""Metrics in a `prometheus_client` registry, beside those that an app counts itself.

A collector, not metrics of that library: nothing is counted twice, and scraping reads the native counts. It starts
no thread and takes no lock, so it may be registered before a fork.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from infersdk.errors import MissingDependencyError
from infersdk.monitor.aliases import alias_families, check_aliases
from infersdk.monitor.exemplars import Exemplar, Exemplars
from infersdk.monitor.families import Buckets, Family, Labels, check_labels, families, number
from infersdk.monitor.snapshot import MetricsSource

if TYPE_CHECKING:
    from prometheus_client import Metric
    from prometheus_client.samples import Exemplar as ClientExemplar

__all__ = ["PrometheusCollector"]


class PrometheusCollector:
    """The metrics of models, for a `prometheus_client` registry.

    ``REGISTRY.register(PrometheusCollector(models))``

    Parameters
    ----------
    source : MetricsSource
        :class:`infersdk.Predictors`, or what an app's own extension holds of them.
    aliases : collection of str
        Names of servers whose names to export besides: "triton", "kserve", "mlserver".
    exemplars : Exemplars, optional
        Traces for the buckets of ``infersdk_call_duration_seconds``.
    labels : Mapping of str to str, or a callable that gives one, optional
        Added to every series. A callable is asked at each scrape, in the process that answers it:
        ``lambda: {"pid": str(os.getpid())}``.

    Raises
    ------
    MissingDependencyError
        prometheus_client is not installed.
    TypeError, ValueError
        An alias is not known, or a label is not possible.
    """

    def __init__(
        self,
        source: MetricsSource,
        *,
        aliases: Collection[str] = (),
        exemplars: Exemplars | None = None,
        labels: Mapping[str, str] | Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        try:
            import prometheus_client  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError.for_extra(
                "prometheus_client", "prometheus", "A collector for Prometheus's registry"
            ) from error
        check_aliases(aliases)
        self._source = source
        self._aliases = tuple(aliases)
        self._exemplars = exemplars
        self._labels = labels
        self._constant()

    def collect(self) -> Iterable[Metric]:
        """What the registry asks at each scrape."""
        constant = self._constant()
        models = self._source.metrics()
        listed = families(models, exemplars=self._exemplars)
        return [_metric(one, constant) for one in listed + alias_families(models, self._aliases)]

    def describe(self) -> Iterable[Metric]:
        """The names alone: what the registry asks when this is registered, before any model is open."""
        return [_metric(one, ()) for one in families([]) + alias_families([], self._aliases)]

    def _constant(self) -> Labels:
        labels = self._labels() if callable(self._labels) else self._labels
        return check_labels(labels or {})


def _metric(family: Family, constant: Labels) -> Metric:
    from prometheus_client import Metric

    name, kind = family.name, str(family.kind)
    suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
    if not name.endswith(suffix):
        kind = "unknown"  # another server's counter: the library would append _total
    elif suffix:
        name = name.removesuffix(suffix)
    metric = Metric(name, family.help, kind)
    for labels, value in family.series:
        of = dict((*labels, *constant))
        if isinstance(value, Buckets):
            _add_buckets(metric, of, value)
        else:
            metric.add_sample(family.name, of, value)
    return metric


def _add_buckets(metric: Metric, labels: dict[str, str], value: Buckets) -> None:
    if metric.type == "histogram":
        bounds = (*value.bounds, float("inf"))
        for place, (bound, count) in enumerate(zip(bounds, value.counts, strict=True)):
            traced = value.exemplars.get(place)
            metric.add_sample(
                f"{metric.name}_bucket",
                {**labels, "le": number(bound)},
                count,
                exemplar=None if traced is None else _exemplar(traced),
            )
    metric.add_sample(f"{metric.name}_count", labels, value.counts[-1])
    metric.add_sample(f"{metric.name}_sum", labels, value.sum)


def _exemplar(one: Exemplar) -> ClientExemplar:
    from prometheus_client.samples import Exemplar as ClientExemplar

    return ClientExemplar({"trace_id": one.trace_id}, one.seconds, one.time_s)
