"""Models in OpenTelemetry: their metrics, and their calls as spans, through the providers that an app has set up.

    from infersdk.monitor.opentelemetry import instrument
    instrument()

Only the API is needed; an app brings the SDK and its exporters. Nothing here starts a thread or takes a lock, so it may
be called before a server forks, or after.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple

from infersdk._native import set_call_observer
from infersdk.errors import MissingDependencyError
from infersdk.monitor.snapshot import MetricsSource, ModelMetrics
from infersdk.monitor.sources import all_sources

try:
    from opentelemetry import metrics, trace
except ImportError as error:
    raise MissingDependencyError.for_extra(
        "opentelemetry", "opentelemetry", "OpenTelemetry"
    ) from error

from infersdk.monitor.otel_calls import call_spans
from infersdk.monitor.otel_metrics import Readings, create_instruments
from infersdk.monitor.otel_requests import ServerSpan, start_server_span

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Tracer, TracerProvider

__all__ = [
    "InferSDKInstrumentor",
    "ServerSpan",
    "instrument",
    "start_server_span",
    "tracer",
    "uninstrument",
]

logger = logging.getLogger("infersdk")


class _Active(NamedTuple):
    """What is on."""

    readings: Readings
    meter_provider: MeterProvider | None


_active: _Active | None = None


def instrument(
    predictors: MetricsSource | Sequence[MetricsSource] | None = None,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> None:
    """Switch metrics and spans on, for this process and those that it forks. Again it does nothing.

    Each call of a model below a span that is being recorded becomes a span ``infersdk.predict``. Metrics are read
    when an exporter asks for them.

    Parameters
    ----------
    predictors : Predictors or sequence of Predictors, optional
        Whose metrics to export; by default those of every :class:`infersdk.Predictors` of the process, also of those
        that are made later. Spans are of all calls.
    tracer_provider, meter_provider : optional
        By default the global ones, also if they are set later.
    """
    global _active
    if _active is not None:
        if predictors is not None or tracer_provider is not None or meter_provider is not None:
            logger.warning(
                "OpenTelemetry is on already, and stays as it was; call uninstrument() first"
            )
        return
    if predictors is None:
        sources: Callable[[], Iterable[MetricsSource]] = all_sources
    else:
        given = tuple(predictors) if isinstance(predictors, Sequence) else (predictors,)
        for one in given:
            if not hasattr(one, "metrics"):
                raise TypeError(f"Expected Predictors, got {type(one).__name__}")

        def sources() -> Iterable[MetricsSource]:
            return given

    def read() -> Iterator[ModelMetrics]:
        for source in sources():
            yield from source.metrics()

    # Providers take no instrument back: what it once got reads whatever is on.
    def readings() -> Readings | None:
        active = _active
        if active is None or _real(active.meter_provider) is not _real(meter_provider):
            return None
        return active.readings

    _active = _Active(Readings(read), meter_provider)
    meter = metrics.get_meter("infersdk", _version(), meter_provider)
    create_instruments(meter, readings)
    set_call_observer(call_spans(tracer(tracer_provider)))


def uninstrument() -> None:
    """Switch metrics and spans off."""
    global _active
    if _active is not None:
        _active = None
        set_call_observer(None)


def _before_models_close() -> None:
    """At the end of the process; SDKs that were set up before infersdk was imported export after the models' end."""
    if _active is not None:
        _active.readings.hold()


# Called before what was registered before it: the end of the models, in `predictors.registry`.
atexit.register(_before_models_close)


def tracer(provider: TracerProvider | None = None) -> Tracer:
    """Return the tracer of infersdk's own spans.

    Parameters
    ----------
    provider : TracerProvider, optional
        By default the global one, also if it is set later.
    """
    return trace.get_tracer("infersdk", _version(), provider)


class InferSDKInstrumentor:
    """What ``opentelemetry-instrument`` calls; it asks for nothing that would need a package besides the API."""

    @property
    def is_instrumented_by_opentelemetry(self) -> bool:
        """Whether it is on."""
        return _active is not None

    def instrumentation_dependencies(self) -> tuple[str, ...]:
        """Packages that must be there: none but this one."""
        return ()

    def instrument(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        **others: Any,
    ) -> None:
        """See :func:`instrument`. What else distributions of OpenTelemetry pass is not looked at."""
        instrument(tracer_provider=tracer_provider, meter_provider=meter_provider)

    def uninstrument(self, **others: Any) -> None:
        """See :func:`uninstrument`."""
        uninstrument()


def _real(provider: MeterProvider | None) -> MeterProvider:
    return metrics.get_meter_provider() if provider is None else provider


def _version() -> str:
    try:
        return version("infersdk")
    except PackageNotFoundError:
        return ""  # run from a folder that was never installed
