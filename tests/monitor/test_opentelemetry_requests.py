"""Requests as server spans, for hosts that make none; and exemplars of traced requests."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from infersdk import Predictors
from infersdk.monitor import Exemplar
from infersdk.web.problems import Reply
from infersdk.web.request import Request
from infersdk.web.service import Service
from infersdk.web.settings import Settings
from tests.monitor.otel import Telemetry, children, inside, telemetry
from tests.web.servers import poll_until, serve

ROW = b"[5.1, 3.5, 1.4, 0.2]"
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}
UNSAMPLED = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-00"}


@pytest.fixture(scope="module")
def predictors(artifact: Path) -> Iterator[Predictors]:
    with Predictors({"iris": artifact}) as made:
        yield made


@pytest.fixture
def on(predictors: Predictors, monkeypatch: pytest.MonkeyPatch) -> Iterator[Telemetry]:
    """The service takes the global tracer, which a process can set once only."""
    from infersdk.monitor import opentelemetry

    with telemetry(predictors) as providers:
        tracer = providers.tracer_provider.get_tracer("infersdk")
        monkeypatch.setattr(opentelemetry, "tracer", lambda provider=None: tracer)
        yield providers


def asked(path: str, headers: dict[str, str] | None = None, method: str = "POST") -> Request:
    return Request(method, path, (headers or {}).get, "203.0.113.7", "key=secret")


def answer(service: Service, request: Request, body: bytes, how: str) -> Reply:
    if how == "sync":
        return service.handle(request, body)
    return asyncio.run(service.ahandle(request, body))


def server_span(on: Telemetry) -> ReadableSpan:
    (span,) = [one for one in on.spans() if one.kind is SpanKind.SERVER]
    return span


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_request_is_a_span_below_its_clients(
    how: str, on: Telemetry, predictors: Predictors
) -> None:
    service = Service(predictors, Settings(opentelemetry=True, url_prefix="/models"))
    reply = answer(service, asked("/iris/predict_proba", SAMPLED), ROW, how)
    assert reply.status == 200
    span = server_span(on)
    assert span.name == "POST /models/{model}/{method}"
    assert dict(span.attributes or {}) == {
        "http.request.method": "POST",
        "http.route": "/models/{model}/{method}",
        "url.path": "/models/iris/predict_proba",
        "client.address": "203.0.113.7",
        "infersdk.model": "iris",
        "http.response.status_code": 200,
    }
    assert span.context is not None
    assert span.parent is not None
    assert span.context.trace_id == int(TRACE_ID, 16)
    assert span.parent.span_id == int(PARENT_ID, 16)
    assert span.status.status_code is StatusCode.UNSET
    (call,) = children(on.spans(), span)
    assert call.name == "infersdk.predict"
    assert inside(call, span)


def test_a_request_of_no_trace_begins_one_and_one_that_is_not_sampled_has_none(
    on: Telemetry, predictors: Predictors
) -> None:
    service = Service(predictors, Settings(opentelemetry=True))
    assert service.handle(asked("/iris", UNSAMPLED), ROW).status == 200
    assert on.spans() == []
    assert service.handle(asked("/iris"), ROW).status == 200
    assert server_span(on).parent is None


@pytest.mark.parametrize("how", ["sync", "async"])
def test_the_hosts_own_span_is_the_parent(how: str, on: Telemetry, predictors: Predictors) -> None:
    service = Service(predictors, Settings(opentelemetry=True))
    tracer = on.tracer_provider.get_tracer("flask")
    with tracer.start_as_current_span("POST /iris", kind=SpanKind.SERVER):
        assert answer(service, asked("/iris", SAMPLED), ROW, how).status == 200
    span = server_span(on)
    assert span.name == "POST /iris"
    assert [child.name for child in children(on.spans(), span)] == ["infersdk.predict"]


def test_fastapis_own_span_is_the_parent(on: Telemetry, predictors: Predictors) -> None:
    import inspect

    fastapi = pytest.importorskip("fastapi")
    if "telemetry" not in inspect.signature(fastapi.FastAPI.__init__).parameters:
        pytest.skip("this FastAPI makes no spans by itself")
    from fastapi.testclient import TestClient

    from infersdk.web.fastapi import InferSDK

    host = fastapi.FastAPI(telemetry={"tracer_provider": on.tracer_provider})
    InferSDK(host, models=predictors, url_prefix="/models", opentelemetry=True)
    client = TestClient(host)
    assert client.post("/models/iris", content=ROW, headers=SAMPLED).status_code == 200
    span = server_span(on)
    assert span.context is not None
    assert span.context.trace_id == int(TRACE_ID, 16)
    assert [child.name for child in children(on.spans(), span)] == ["infersdk.predict"]


def test_what_a_client_makes_up_is_in_no_name(on: Telemetry, predictors: Predictors) -> None:
    service = Service(predictors, Settings(opentelemetry=True))
    for request, body, status, name in (
        (asked("/made-up/123"), ROW, 404, "POST"),
        (asked("/iris/made_up"), ROW, 404, "POST /{model}/{method}"),
        (asked("/iris"), b"no json", 400, "POST /{model}"),
        (asked("/iris", method="GET"), b"", 200, "GET /{model}"),
        (asked("/iris", method="BREW"), b"", 405, "HTTP"),
    ):
        on.exporter.clear()
        assert service.handle(request, body).status == status
        span = server_span(on)
        assert span.name == name
        assert (span.attributes or {})["http.response.status_code"] == status
        assert span.status.status_code is StatusCode.UNSET
        assert "secret" not in span.to_json()
    assert (span.attributes or {})["http.request.method_original"] == "BREW"


def test_a_fault_of_the_servers_is_an_error(
    on: Telemetry, predictors: Predictors, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(predictors, Settings(opentelemetry=True))

    def fail(*arguments: Any) -> None:
        raise RuntimeError("the disk is full of secret")

    monkeypatch.setattr(service._rows, "read", fail)
    assert service.handle(asked("/iris"), ROW).status == 500
    span = server_span(on)
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "500"
    assert "secret" not in span.to_json()


def test_health_and_metrics_are_not_traced(on: Telemetry, predictors: Predictors) -> None:
    service = Service(predictors, Settings(opentelemetry=True, metrics=True, protocols=("oip",)))
    for path in ("/health/live", "/health/ready", "/metrics", "/v2/health/live"):
        assert service.handle(asked(path, method="GET")).status == 200
    assert on.spans() == []


def test_views_of_an_app_are_traced_too(on: Telemetry, predictors: Predictors) -> None:
    service = Service(predictors, Settings(opentelemetry=True))
    service.answer("iris", None, asked("/shop/7/kind"), ROW)
    asyncio.run(service.aanswer("iris", "predict", asked("/shop/8/kind"), ROW))
    servers = [span for span in on.spans() if span.kind is SpanKind.SERVER]
    assert [span.name for span in servers] == ["POST", "POST"]
    assert [(span.attributes or {})["url.path"] for span in servers] == [
        "/shop/7/kind",
        "/shop/8/kind",
    ]


def test_threads_and_tasks_keep_their_traces(on: Telemetry, predictors: Predictors) -> None:
    service = Service(predictors, Settings(opentelemetry=True))
    n = 100

    def request(i: int) -> Request:
        return asked("/iris", {"traceparent": f"00-{i:032x}-{i:016x}-01"})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: service.handle(request(i), ROW), range(1, n + 1)))

    async def tasks() -> None:
        many = b"[" + b",".join([ROW] * 300) + b"]"  # bound in a thread
        await asyncio.gather(
            *[service.ahandle(request(i), many if i % 2 else ROW) for i in range(n + 1, 2 * n + 1)]
        )

    asyncio.run(tasks())
    spans = on.spans()
    servers = [span for span in spans if span.kind is SpanKind.SERVER]
    assert len(servers) == 2 * n
    for span in servers:
        assert span.parent is not None
        assert span.parent.span_id == span.parent.trace_id
        assert len(children(spans, span)) == 1
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_request_that_is_cancelled_ends_its_span(
    on: Telemetry, fake_predictor: Any, predictors: Predictors
) -> None:
    fake = fake_predictor()
    service = Service(predictors, Settings(opentelemetry=True, protocols=("rows",)))

    async def give_up() -> None:
        task = asyncio.create_task(service.ahandle(asked("/iris"), b"[[1.0]]"))
        while not fake.queue_stats()["queued_rows"]:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with predictors.override("iris", fake), fake.busy():
        asyncio.run(give_up())
    span = server_span(on)
    assert (span.attributes or {})["http.response.status_code"] == 499


def test_the_setting_off_leaves_the_service_as_it_was(predictors: Predictors) -> None:
    service = Service(predictors)
    assert not {"handle", "ahandle", "answer", "aanswer"} & set(vars(service))


# -- exemplars -----------------------------------------------------------------------------------


def test_answered_requests_of_sampled_traces_are_exemplars(predictors: Predictors) -> None:
    service = Service(predictors, Settings(metrics=True))
    assert service.exemplars is not None
    for path, headers, body in (
        ("/iris/predict", {}, ROW),
        ("/iris/predict", UNSAMPLED, ROW),
        ("/iris/predict", {"traceparent": "00-nothing-01"}, ROW),
        ("/iris/predict", SAMPLED, b"no json"),
        ("/other/predict", SAMPLED, ROW),
    ):
        service.handle(asked(path, headers), body)
    assert service.exemplars.of("iris", "predict") == []
    assert service.handle(asked("/iris", SAMPLED), ROW).status == 200
    (kept,) = service.exemplars.of("iris", "predict")
    assert isinstance(kept, Exemplar)
    assert kept.trace_id == TRACE_ID
    assert kept.seconds > 0
    page = service.handle(
        asked("/metrics", {"accept": "application/openmetrics-text"}, method="GET")
    )
    assert f'# {{trace_id="{TRACE_ID}"}}'.encode() in page.body


def test_an_exemplar_is_of_the_current_span_before_the_clients(
    on: Telemetry, predictors: Predictors
) -> None:
    service = Service(predictors, Settings(metrics=True))
    assert service.exemplars is not None
    with on.tracer_provider.get_tracer("flask").start_as_current_span("request") as span:
        asyncio.run(service.ahandle(asked("/iris", SAMPLED), ROW))
    (kept,) = service.exemplars.of("iris", "predict")
    assert kept.trace_id == trace.format_trace_id(span.get_span_context().trace_id)


def test_without_metrics_there_are_no_exemplars(predictors: Predictors) -> None:
    assert Service(predictors).exemplars is None


# -- servers -------------------------------------------------------------------------------------

APP = """
from infersdk.web.asgi import InferSDK
from tests.monitor.otel_app import set_up

set_up()
infer = InferSDK(models={"iris": "MODEL"}, opentelemetry=True)
rsgi, asgi = infer.rsgi, infer.app
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tested on Linux only")
@pytest.mark.parametrize("interface", ["rsgi", "asgi"])
def test_traces_through_granian(interface: str, artifact: Path, tmp_path: Path) -> None:
    pytest.importorskip("granian")
    (tmp_path / "traced.py").write_text(APP.replace("MODEL", str(artifact)))
    environment = {
        "SETUP": "app",
        "MODEL": str(artifact),
        "OPENING": "lazy",
        "EXPORTED": str(tmp_path),
    }
    app = f"traced:{interface}"
    many = b"[" + b",".join([ROW] * 300) + b"]"
    with serve(f"granian {interface}", app, tmp_path, environment=environment) as server:

        def ask(i: int) -> int:
            headers = {"traceparent": f"00-{i:032x}-{i:016x}-01"}
            return server.request("POST", "/iris", many if i % 2 else ROW, headers)[0]

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(ask, range(1, 41))) == [200] * 40

        def spans() -> list[dict[str, Any]]:
            # Of the last line there may be a part only.
            texts = [path.read_text().rpartition("\n")[0] for path in tmp_path.glob("spans-*")]
            files = [text.splitlines() for text in texts]
            return [json.loads(line) for lines in files for line in lines]

        poll_until(lambda: len(spans()) >= 120)
        log = server.log()
    listed = spans()
    assert "Failed to detach context" not in log
    servers = [span for span in listed if span["name"] == "POST /{model}"]
    assert {int(span["context"]["trace_id"], 16) for span in servers} == set(range(1, 41))
    calls = [span for span in listed if span["name"] == "infersdk.predict"]
    assert len(calls) == len(servers) == 40
    by_id = {span["context"]["span_id"]: span for span in servers}
    for call in calls:
        parent = by_id[call["parent_id"]]
        assert parent["context"]["trace_id"] == call["context"]["trace_id"]
