"""OpenTelemetry's SDK for tests: what it was given, kept in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Sampler

from infersdk.monitor.opentelemetry import instrument, uninstrument

__all__ = ["Telemetry", "children", "inside", "telemetry"]

Series = dict[tuple[tuple[str, Any], ...], float]


@dataclass
class Telemetry:
    """Providers of an app."""

    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """Those that have ended, in the order of their starts."""
        ended = sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
        return [span for span in ended if name in (None, span.name)]

    def metrics(self) -> dict[str, Series]:
        """Collect them: the values of each instrument by their attributes, sorted by name."""
        data = self.reader.get_metrics_data()
        found: dict[str, Series] = {}
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    series = found.setdefault(metric.name, {})
                    for point in metric.data.data_points:
                        key = tuple(sorted((point.attributes or {}).items()))
                        assert key not in series
                        series[key] = point.value
        return found


@contextmanager
def telemetry(
    predictors: Any = None, *, sampler: Sampler = DEFAULT_ON, on: bool = True
) -> Iterator[Telemetry]:
    """Providers, and infersdk exporting to them meanwhile."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider([reader], shutdown_on_exit=False)
    if on:
        instrument(predictors, tracer_provider=tracers, meter_provider=meters)
    try:
        yield Telemetry(tracers, meters, exporter, reader)
    finally:
        uninstrument()
        tracers.shutdown()
        meters.shutdown()


def children(spans: list[ReadableSpan], parent: ReadableSpan) -> list[ReadableSpan]:
    """The spans right below one, of its trace."""
    assert parent.context is not None
    return [
        span
        for span in spans
        if span.parent is not None
        and span.parent.span_id == parent.context.span_id
        and span.parent.trace_id == parent.context.trace_id
    ]


def inside(inner: ReadableSpan, outer: ReadableSpan) -> bool:
    """Whether one lies within the other."""
    times = outer.start_time, inner.start_time, inner.end_time, outer.end_time
    return None not in times and list(times) == sorted(times)  # type: ignore[type-var]
