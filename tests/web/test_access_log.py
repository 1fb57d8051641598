"""The access log: one line of JSON for each request, whatever is in it and wherever it goes."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infersdk.predictors import Predictors
from infersdk.web.access_log import AccessLog, members_of
from infersdk.web.outcome import Outcome
from infersdk.web.problems import Reply
from infersdk.web.request import Request
from infersdk.web.service import Service
from infersdk.web.settings import Settings
from tests.web.conftest import Trained

ROW = b"[5.1, 3.5, 1.4, 0.2]"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(record.getMessage()) for record in self.records]


@pytest.fixture
def kept() -> Iterator[Kept]:
    """What comes to a handler of the log's own."""
    log, handler = logging.getLogger("infersdk.access"), Kept()
    level = log.level
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)
    log.setLevel(level)


@pytest.fixture(scope="module")
def predictors(iris: Trained) -> Iterator[Predictors]:
    predictors = Predictors({"iris": iris.path})
    yield predictors
    predictors.close()


@pytest.fixture
def service(predictors: Predictors) -> Service:
    return Service(predictors, Settings(access_log=True, token="secret-token"))


def asked(path: str, headers: dict[str, str] | None = None, method: str = "POST") -> Request:
    headers = {"authorization": "Bearer secret-token", **(headers or {})}
    return Request(method, path, headers.get, "203.0.113.7", "key=secret-query")


def request_id_in(reply: Reply) -> str:
    (found,) = [value for name, value in reply.headers if name == "x-request-id"]
    return found


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_line_says_what_became_of_a_request(how: str, service: Service, kept: Kept) -> None:
    request = asked("/iris/predict_proba", {"x-request-id": "order-17", "traceparent": TRACE})
    body = b"[" + ROW + b"," + ROW + b"]"
    if how == "sync":
        reply = service.handle(request, body)
    else:
        reply = asyncio.run(service.ahandle(request, body))
    (line,) = kept.lines()
    said = datetime.fromisoformat(line.pop("time"))
    assert timedelta(0) <= datetime.now(UTC) - said < timedelta(minutes=1)
    assert line.pop("duration_ms") > 0
    assert line == {
        "request_id": "order-17",
        "protocol": "rows",
        "http_method": "POST",
        "path": "/iris/predict_proba",
        "status": 200,
        "body_bytes": len(body),
        "reply_bytes": len(reply.body),
        "model": "iris",
        "method": "predict_proba",
        "rows": 2,
        "client": "203.0.113.7",
        "trace_id": TRACE[3:35],
        "span_id": TRACE[36:52],
    }
    assert request_id_in(reply) == "order-17"


def test_every_request_has_one_line_and_an_id(service: Service, kept: Kept) -> None:
    replies = [
        service.handle(asked("/iris"), ROW),
        service.handle(asked("/iris"), b"no json"),
        service.handle(asked("/iris"), b'["secret-value"]'),
        service.handle(asked("/no-model"), ROW),
        service.handle(asked("/health/live", method="GET")),
        service.handle(asked("/iris", {"authorization": "Bearer wrong"}), ROW),
        service.answer("iris", None, asked("/shop"), ROW),
    ]
    refused = service.refuse_early(asked("/iris", {"content-length": str(10**9)}))
    assert refused is not None
    replies.append(refused)
    lines = kept.lines()
    assert [line["status"] for line in lines] == [200, 400, 422, 404, 200, 401, 200, 413]
    assert [reply.status for reply in replies] == [line["status"] for line in lines]
    assert [request_id_in(reply) for reply in replies] == [line["request_id"] for line in lines]
    assert len({line["request_id"] for line in lines}) == len(lines)
    assert all(re.fullmatch("[0-9a-f]{32}", line["request_id"]) for line in lines)
    assert "model" not in lines[3]
    assert "secret" not in "".join(record.getMessage() for record in kept.records)


def test_a_client_that_goes_away_has_a_line(
    service: Service, predictors: Predictors, kept: Kept, fake_predictor: Any
) -> None:
    fake = fake_predictor()

    async def give_up() -> None:
        task = asyncio.create_task(service.ahandle(asked("/iris"), b"[[1.0]]"))
        while not fake.queue_stats()["queued_rows"]:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with predictors.override("iris", fake), fake.busy():
        asyncio.run(give_up())
    (line,) = kept.lines()
    assert (line["status"], line["model"], line["reply_bytes"]) == (499, "iris", 0)


def test_members_are_attributes_of_the_record(service: Service, kept: Kept) -> None:
    service.handle(asked("/iris"), ROW)
    (record,) = kept.records
    assert record.name == "infersdk.access"
    assert record.levelno == logging.INFO
    for name, value in json.loads(record.getMessage()).items():
        assert getattr(record, name) == value
    assert "%" not in logging.Formatter("%(message)s").format(record)


text = st.text(st.characters(codec=None), max_size=600)  # also lone surrogates


@given(text, text, text)
def test_nothing_a_client_sends_breaks_a_line(method: str, path: str, client: str) -> None:
    request = Request(method, path, {}.get, client)
    handler = Kept()
    log = logging.Logger("alone", logging.INFO)
    log.addHandler(handler)
    AccessLog(log)(Outcome(request, "", None, None, 404, None, 0, 0, 0.0, None))
    (record,) = handler.records
    line = record.getMessage()
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 2000  # a quote is two characters
    assert json.loads(line)["status"] == 404


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/iris", "/iris"),
        ("/a b%20c/~é", "/a b%20c/~%C3%A9"),
        ("/a\r\nstatus: 200\x1b[2J\x7f\u2028", "/a%0D%0Astatus: 200%1B[2J%7F%E2%80%A8"),
        ("/" + "a" * 1000, "/" + "a" * 255),
    ],
)
def test_a_path_is_written_as_it_came_over_the_wire(path: str, written: str) -> None:
    outcome = Outcome(asked(path), "", None, None, 404, None, 0, 0, 0.0, None)
    assert members_of(outcome)["path"] == written


def test_an_id_that_could_break_a_header_is_replaced(service: Service, kept: Kept) -> None:
    reply = service.handle(asked("/iris", {"x-request-id": "a\r\nset-cookie: x"}), ROW)
    assert re.fullmatch("[0-9a-f]{32}", request_id_in(reply))
    assert kept.lines()[0]["request_id"] == request_id_in(reply)


def test_the_trace_is_the_current_span_before_the_clients(service: Service, kept: Kept) -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    tracer = sdk.TracerProvider(shutdown_on_exit=False).get_tracer("app")
    with tracer.start_as_current_span("request") as span:
        service.handle(asked("/iris", {"traceparent": TRACE}), ROW)
    (line,) = kept.lines()
    assert line["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert line["span_id"] == f"{span.get_span_context().span_id:016x}"


# -- logging -------------------------------------------------------------------------------------


def test_a_handler_that_raises_breaks_nothing_and_is_told_of_once(
    service: Service, kept: Kept, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(record: logging.LogRecord) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(kept, "emit", fail)
    for _ in range(3):
        assert service.handle(asked("/iris"), ROW).status == 200
    told = [record for record in caplog.records if record.name == "infersdk.web"]
    assert [record.getMessage() for record in told] == ["the access log failed"]


def test_logging_that_fails_altogether_breaks_nothing(
    service: Service, kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **more: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(logging.Logger, "handle", fail)
    assert service.handle(asked("/iris"), ROW).status == 200


def test_the_level_of_the_log_is_the_apps(predictors: Predictors, kept: Kept) -> None:
    log = logging.getLogger("infersdk.access")
    log.setLevel(logging.NOTSET)
    service = Service(predictors, Settings(access_log=True))
    assert log.level == logging.INFO
    log.setLevel(logging.WARNING)
    service = Service(predictors, Settings(access_log=True))
    assert log.level == logging.WARNING
    service.handle(asked("/iris"), ROW)
    assert kept.records == []


def test_without_the_setting_there_are_neither_lines_nor_ids(
    predictors: Predictors, kept: Kept
) -> None:
    logging.getLogger("infersdk.access").setLevel(logging.INFO)
    reply = Service(predictors).handle(asked("/iris"), ROW)
    assert kept.records == []
    assert "x-request-id" not in dict(reply.headers)
