"""An app whose spans and metrics go to a file per process, as OpenTelemetry's SDK sets it up in real ones.

SETUP says where the SDK is set up: "import" (in the master of a preloading gunicorn: what people do) or "post_fork" (in
each worker: what they should do). OPENING is as in the models' settings.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from infersdk.web.settings import Settings
from infersdk.web.wsgi import WSGIApp


def _write(kind: str, lines: list[dict[str, Any]]) -> None:
    with Path(os.environ["EXPORTED"], f"{kind}-{os.getpid()}").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


class FileSpans(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        _write("spans", [json.loads(span.to_json(indent=None)) for span in spans])
        return SpanExportResult.SUCCESS


class FileMetrics(MetricExporter):
    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 0, **kwargs: Any
    ) -> MetricExportResult:
        _write("metrics", [json.loads(metrics_data.to_json(indent=None))])
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 0) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 0, **kwargs: Any) -> None:
        pass


def set_up() -> None:
    tracers = TracerProvider()
    tracers.add_span_processor(BatchSpanProcessor(FileSpans(), schedule_delay_millis=20))
    trace.set_tracer_provider(tracers)
    # The SDK renews no lock of its reader in a fork's child: in a master it must not be exporting just then, which
    # with its usual minute it hardly is.
    interval_ms = 60_000 if os.environ["SETUP"] == "import" else 250
    reader = PeriodicExportingMetricReader(FileMetrics(), export_interval_millis=interval_ms)
    metrics.set_meter_provider(MeterProvider([reader]))


if os.environ["SETUP"] == "import":
    set_up()


def post_fork(server: Any, worker: Any) -> None:
    """gunicorn's, when this file is its configuration as well."""
    if os.environ["SETUP"] == "post_fork":
        set_up()


wsgi = WSGIApp(
    {"iris": os.environ["MODEL"]},
    Settings(opentelemetry=True, opening=os.environ["OPENING"]),  # type: ignore[arg-type]
)
