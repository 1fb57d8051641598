"""Calls as spans of OpenTelemetry's real SDK: where they hang, how they nest, and when there are none."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode

from infersdk import Batching, DeadlineError, InputError, OverloadedError, Predictor
from infersdk.monitor.current_trace import current_trace
from infersdk.monitor.opentelemetry import InferSDKInstrumentor, instrument, uninstrument
from infersdk.testing import FakePredictor
from tests.monitor.otel import Telemetry, children, inside, telemetry

ROW = [5.1, 3.5, 1.4, 0.2]
WAIT_S = 30


@pytest.fixture
def on() -> Iterator[Telemetry]:
    with telemetry() as providers:
        yield providers


def tracer_of(on: Telemetry) -> trace.Tracer:
    return on.tracer_provider.get_tracer("app")


def only(spans: list[ReadableSpan], name: str) -> ReadableSpan:
    (found,) = [span for span in spans if span.name == name]
    return found


# -- one call ------------------------------------------------------------------------------------


def test_a_call_is_a_span_below_the_current_one(on: Telemetry, predictor: Predictor) -> None:
    before_ns = time.time_ns()
    with tracer_of(on).start_as_current_span("request"):
        answers = predictor.predict([ROW] * 3)
    after_ns = time.time_ns()
    assert answers.shape == (3,)
    spans = on.spans()
    assert sorted(span.name for span in spans) == ["infersdk.predict", "infersdk.run", "request"]
    request, call, run = (only(spans, n) for n in ("request", "infersdk.predict", "infersdk.run"))
    assert children(spans, request) == [call]
    assert children(spans, call) == [run]
    assert dict(call.attributes or {}) == {
        "infersdk.model": "iris",
        "infersdk.method": "predict",
        "infersdk.rows": 3,
    }
    assert dict(run.attributes or {}) == {"infersdk.run_rows": 3}
    assert call.kind is SpanKind.INTERNAL
    assert call.status.status_code is StatusCode.UNSET
    assert inside(run, call)
    # Two clocks are read one after the other.
    assert call.start_time is not None
    assert call.end_time is not None
    assert before_ns - 10_000_000 < call.start_time < call.end_time < after_ns + 10_000_000
    assert call.instrumentation_scope is not None
    assert call.instrumentation_scope.name == "infersdk"


def test_each_method_and_run_names_itself(on: Telemetry, predictor: Predictor) -> None:
    with tracer_of(on).start_as_current_span("request"):
        predictor.predict_proba(ROW)
        predictor(ROW)
        asyncio.run(predictor.apredict(ROW, method="predict_proba"))
    calls = on.spans("infersdk.predict")
    methods = [(call.attributes or {})["infersdk.method"] for call in calls]
    assert methods == ["predict_proba", "predict", "predict_proba"]


def test_errors_have_their_class_and_nothing_of_the_rows(
    on: Telemetry, predictor: Predictor
) -> None:
    with tracer_of(on).start_as_current_span("request"), pytest.raises(InputError):
        predictor.predict([[5.1, 3.5, 1.4, "secret"]])
    call = only(on.spans(), "infersdk.predict")
    assert call.status.status_code is StatusCode.ERROR
    assert call.status.description is None
    assert call.attributes is not None
    assert call.attributes["error.type"] == "InputError"
    assert "infersdk.rows" not in call.attributes
    assert not call.events
    assert "secret" not in call.to_json()
    assert not children(on.spans(), call)


def test_there_are_no_spans_without_a_current_one(on: Telemetry, predictor: Predictor) -> None:
    predictor.predict(ROW)
    asyncio.run(predictor.apredict(ROW))
    assert on.spans() == []


def test_there_are_no_spans_where_nothing_is_sampled(predictor: Predictor) -> None:
    with telemetry(sampler=ALWAYS_OFF) as off:
        with tracer_of(off).start_as_current_span("request"):
            predictor.predict(ROW)
        assert off.spans() == []


class _OnlyRoots(Sampler):
    """Drops every span that has a parent."""

    def should_sample(self, parent_context: Any, *others: Any, **more: Any) -> SamplingResult:
        parent = trace.get_current_span(parent_context).get_span_context()
        return SamplingResult(Decision.DROP if parent.is_valid else Decision.RECORD_AND_SAMPLE)

    def get_description(self) -> str:
        return "only roots"


def test_a_call_that_the_sampler_drops_has_no_parts(predictor: Predictor) -> None:
    with telemetry(sampler=_OnlyRoots()) as some:
        with tracer_of(some).start_as_current_span("request"):
            predictor.predict(ROW)
        assert [span.name for span in some.spans()] == ["request"]


# -- the queue -----------------------------------------------------------------------------------


def test_a_queued_call_waits_then_runs_inside_a_batch(
    on: Telemetry, fake_predictor: Any, infersdk_clock: Any
) -> None:
    fake: FakePredictor = fake_predictor(latency_s=0.25)
    infersdk_clock.automatic = True

    def ask(name: str, rows: list[list[float]]) -> None:
        with tracer_of(on).start_as_current_span(name):
            fake.predict(rows)

    with ThreadPoolExecutor(2) as pool:
        with fake.busy():
            first = pool.submit(ask, "first", [[1.0], [2.0]])
            fake.wait_for_queued(2)
            infersdk_clock.advance(1)
            second = pool.submit(ask, "second", [[3.0]])
            fake.wait_for_queued(3)
            infersdk_clock.advance(0.5)
        first.result(WAIT_S), second.result(WAIT_S)
    spans = on.spans()
    for name, n_rows, waited_ns in (("first", 2, 1.5e9), ("second", 1, 0.5e9)):
        (call,) = children(spans, only(spans, name))
        assert call.attributes is not None
        assert call.attributes["infersdk.rows"] == n_rows
        queue, batch = sorted(children(spans, call), key=lambda span: span.name, reverse=True)
        (run,) = children(spans, batch)
        assert [queue.name, batch.name, run.name] == [
            "infersdk.queue",
            "infersdk.batch",
            "infersdk.run",
        ]
        assert dict(run.attributes or {}) == {"infersdk.run_rows": 3}
        assert inside(queue, call)
        assert inside(batch, call)
        assert inside(run, batch)
        assert queue.end_time == batch.start_time
        assert queue.end_time - (queue.start_time or 0) == pytest.approx(waited_ns)
        assert (run.end_time or 0) - (run.start_time or 0) == pytest.approx(0.25e9)


def test_what_gives_up_in_the_queue_was_in_the_queue(
    on: Telemetry, fake_predictor: Any, infersdk_clock: Any
) -> None:
    fake: FakePredictor = fake_predictor(batching=Batching(max_queue_size=1))

    def ask(timeout_s: float) -> None:
        with tracer_of(on).start_as_current_span("late"):
            fake.predict([[1.0]], timeout_s)

    with ThreadPoolExecutor(1) as pool, fake.busy():
        late = pool.submit(ask, 2.0)
        fake.wait_for_queued(1)
        with tracer_of(on).start_as_current_span("refused"), pytest.raises(OverloadedError):
            fake.predict([[2.0]])
        infersdk_clock.advance(3)
        with pytest.raises(DeadlineError):
            late.result(WAIT_S)
    spans = on.spans()
    (refused,) = children(spans, only(spans, "refused"))
    (expired,) = children(spans, only(spans, "late"))
    assert (refused.attributes or {})["error.type"] == "OverloadedError"
    assert (expired.attributes or {})["error.type"] == "DeadlineError"
    (queue,) = children(spans, expired)
    assert queue.name == "infersdk.queue"
    assert queue.end_time == expired.end_time
    assert (queue.end_time or 0) - (queue.start_time or 0) == pytest.approx(3e9, rel=0.01)


# -- threads and tasks ---------------------------------------------------------------------------


def _check_families(on: Telemetry, n: int) -> None:
    """Each of n requests has one call, of as many rows as its name says, and that has its parts in order."""
    spans = on.spans()
    requests = [span for span in spans if span.parent is None]
    assert len(requests) == n
    for request in requests:
        (call,) = children(spans, request)
        assert call.attributes is not None
        assert call.attributes["infersdk.rows"] == int(request.name)
        assert inside(call, request)
        parts = children(spans, call)
        assert all(inside(part, call) for part in parts)
        names = {part.name: part for part in parts}
        if "infersdk.batch" in names:
            queue, batch = names.pop("infersdk.queue"), names.pop("infersdk.batch")
            assert (queue.end_time or 0) <= (batch.start_time or 0)
            (run,) = children(spans, batch)
            assert run.name == "infersdk.run"
            assert inside(run, batch)
        else:
            names.pop("infersdk.run")
        assert not names


@pytest.mark.parametrize("kind", ["predictor", "queueing"])
def test_threads_have_each_their_own_spans(
    kind: str, on: Telemetry, request: pytest.FixtureRequest
) -> None:
    predictor: Predictor = request.getfixturevalue(kind)
    n = 200

    def ask(i: int) -> None:
        with tracer_of(on).start_as_current_span(str(1 + i % 7)):
            predictor.predict([ROW] * (1 + i % 7))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(ask, range(n)))
    _check_families(on, n)


@pytest.mark.parametrize("kind", ["predictor", "queueing"])
def test_tasks_have_each_their_own_spans(
    kind: str, on: Telemetry, request: pytest.FixtureRequest
) -> None:
    predictor: Predictor = request.getfixturevalue(kind)
    sizes = [1, 3, 300, 2, 5] * 12  # 300 are bound in a thread

    async def ask(n_rows: int) -> None:
        with tracer_of(on).start_as_current_span(str(n_rows)):
            await predictor.apredict([ROW] * n_rows)

    async def all_of_them() -> None:
        await asyncio.gather(*map(ask, sizes))

    asyncio.run(all_of_them())
    if kind == "predictor":
        _check_families(on, len(sizes))
    else:  # calls of more rows than a run may have are cut
        assert len(on.spans("infersdk.predict")) == len(sizes)


# -- switching on and off ------------------------------------------------------------------------


def test_off_means_no_spans_and_no_metrics(predictor: Predictor) -> None:
    with telemetry() as on:
        with tracer_of(on).start_as_current_span("request"):
            predictor.predict(ROW)
        uninstrument()
        uninstrument()
        with tracer_of(on).start_as_current_span("request"):
            predictor.predict(ROW)
        assert len(on.spans("infersdk.predict")) == 1
        assert on.metrics() == {}


def test_on_again_nothing_is_doubled(predictor: Predictor, caplog: Any) -> None:
    with telemetry() as on:
        instrument()
        for _ in range(2):
            uninstrument()
            instrument(tracer_provider=on.tracer_provider, meter_provider=on.meter_provider)
        with tracer_of(on).start_as_current_span("request"):
            predictor.predict(ROW)
        assert len(on.spans("infersdk.predict")) == 1
        on.metrics()  # which refuses a series that comes twice
    assert not caplog.records


def test_on_with_other_providers_says_that_it_stays_as_it_was(caplog: Any) -> None:
    with telemetry(), telemetry() as second:
        assert second.spans() == []
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "uninstrument()" in record.getMessage()


def test_what_is_not_predictors_is_refused() -> None:
    with pytest.raises(TypeError, match="Expected Predictors, got str"):
        instrument(["iris"])  # type: ignore[list-item]
    assert not InferSDKInstrumentor().is_instrumented_by_opentelemetry


def test_the_instrumentor_takes_what_distributions_pass(predictor: Predictor) -> None:
    with telemetry(on=False) as providers:
        instrumentor = InferSDKInstrumentor()
        assert instrumentor.instrumentation_dependencies() == ()
        instrumentor.instrument(
            skip_dep_check=True,
            tracer_provider=providers.tracer_provider,
            meter_provider=providers.meter_provider,
        )
        assert InferSDKInstrumentor().is_instrumented_by_opentelemetry
        with tracer_of(providers).start_as_current_span("request"):
            predictor.predict(ROW)
        instrumentor.uninstrument()
        assert not instrumentor.is_instrumented_by_opentelemetry
        assert len(providers.spans("infersdk.predict")) == 1


def test_it_starts_no_thread(predictor: Predictor) -> None:
    before = threading.active_count()
    with telemetry() as on:
        with tracer_of(on).start_as_current_span("request"):
            predictor.predict(ROW)
        on.metrics()
        assert threading.active_count() == before


def test_the_current_trace_is_that_of_the_span(on: Telemetry) -> None:
    assert current_trace() is None
    with tracer_of(on).start_as_current_span("request") as span:
        found = current_trace()
        assert found is not None
        assert found.trace_id == trace.format_trace_id(span.get_span_context().trace_id)
        assert found.span_id == trace.format_span_id(span.get_span_context().span_id)
        assert found.is_sampled


PROVIDERS_LATER = """
import sys
import infersdk
assert not any(name.partition(".")[0] == "opentelemetry" for name in sys.modules)
from infersdk.monitor.current_trace import current_trace
assert current_trace() is None
assert "opentelemetry" not in sys.modules
from infersdk.monitor.opentelemetry import instrument
instrument()

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

reader, exporter = InMemoryMetricReader(), InMemorySpanExporter()
metrics.set_meter_provider(MeterProvider([reader]))
tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(tracers)

from infersdk import Predictors
with Predictors({"iris": sys.argv[1]}) as models:
    with trace.get_tracer("app").start_as_current_span("request"):
        models["iris"].predict([5.1, 3.5, 1.4, 0.2])
    (resource,) = reader.get_metrics_data().resource_metrics
    names = [metric.name for scope in resource.scope_metrics for metric in scope.metrics]
assert "infersdk.calls" in names and len(names) == len(set(names)), names
assert [span.name for span in exporter.get_finished_spans()] == [
    "infersdk.run", "infersdk.predict", "request"
]
print("right")
"""


@pytest.mark.slow
def test_providers_may_be_set_later_and_nothing_is_imported_before(artifact: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROVIDERS_LATER, str(artifact)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "right\n", done.stderr


PROVIDERS_BEFORE = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader

metrics.set_meter_provider(MeterProvider([PeriodicExportingMetricReader(ConsoleMetricExporter())]))

import sys
from infersdk import Predictors
from infersdk.monitor.opentelemetry import instrument

instrument()
models = Predictors({"iris": sys.argv[1]})
models["iris"].predict([[5.1, 3.5, 1.4, 0.2]] * 321)
"""


@pytest.mark.slow
def test_the_last_words_of_a_process_have_all_counts(artifact: Path) -> None:
    """`opentelemetry-instrument` sets the SDK up first, so models are closed before it exports for the last time."""
    done = subprocess.run(
        [sys.executable, "-c", PROVIDERS_BEFORE, str(artifact)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"value": 321' in done.stdout
