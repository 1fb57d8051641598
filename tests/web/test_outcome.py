"""What observers are told of requests, how requests are counted, and what a request says of itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from infersdk.predictors import Predictors
from infersdk.web.outcome import Outcome, RequestCounts, request_id_of, trace_of
from infersdk.web.problems import body_too_large
from infersdk.web.request import Request
from infersdk.web.service import Service
from infersdk.web.settings import Settings
from tests.web.conftest import Trained

ROW = b"[5.1, 3.5, 1.4, 0.2]"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def predictors(iris: Trained) -> Iterator[Predictors]:
    predictors = Predictors({"iris": iris.path})
    yield predictors
    predictors.close()


def asked(method: str, path: str, headers: dict[str, str] | None = None) -> Request:
    return Request(method, path, (headers or {}).get)


def test_every_request_is_told_of_once(predictors: Predictors) -> None:
    service = Service(predictors, Settings(max_body_bytes=1000))
    told: list[Outcome] = []
    service.observe(told.append)
    requests = [
        (asked("POST", "/iris/predict_proba"), b"[" + ROW + b"," + ROW + b"]"),
        (asked("POST", "/iris"), b"{"),
        (asked("POST", "/iris/nothing"), ROW),
        (asked("POST", "/nothing"), ROW),
        (asked("GET", "/health/live"), b""),
    ]
    for request, body in requests:
        service.handle(request, body)
        asyncio.run(service.ahandle(request, body))
    seen = [(one.protocol, one.model, one.method, one.status, one.n_rows) for one in told]
    assert seen[::2] == seen[1::2]
    assert seen[::2] == [
        ("rows", "iris", "predict_proba", 200, 2),
        ("rows", "iris", None, 400, None),
        ("rows", "iris", None, 404, None),
        ("", None, None, 404, None),
        ("pages", None, None, 200, None),
    ]
    assert told[0].body_bytes == len(requests[0][1])
    assert 0 < told[0].seconds < 60
    told.clear()
    request = asked("POST", "/iris", {"content-length": "2000"})
    service.refuse_early(request)
    service.refuse(request, body_too_large(1000, "more"))
    service.refuse_early(asked("POST", "/iris"))
    assert [one.status for one in told] == [413, 413]


def test_an_observer_that_fails_breaks_nothing(
    predictors: Predictors, caplog: pytest.LogCaptureFixture
) -> None:
    service = Service(predictors)
    told: list[Outcome] = []

    def fail(outcome: Outcome) -> None:
        raise RuntimeError("full")

    service.observe(fail)
    service.observe(told.append)
    assert service.handle(asked("POST", "/iris"), ROW).status == 200
    assert len(told) == 1
    assert "an observer of requests failed" in caplog.text


def test_counts_are_exact_and_name_declared_models_only(predictors: Predictors) -> None:
    service = Service(predictors, Settings(metrics=True))
    assert service.requests is not None
    with ThreadPoolExecutor(32) as threads:
        for number in range(640):
            path = ("/iris", f"/made-up-{number}", "/iris/none")[number % 3]
            threads.submit(service.handle, asked("POST", path), ROW)
    assert service.requests.snapshot().requests == {
        ("rows", "iris", 200): 214,
        ("", "", 404): 213,
        ("rows", "iris", 404): 213,
    }
    assert Service(predictors).requests is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_the_child_of_a_fork_begins_at_none() -> None:
    counts = RequestCounts()
    counts.add("rows", "", 200)
    counts._lock.acquire()  # as another thread of the parent's might have it
    pid = os.fork()
    if pid == 0:
        os._exit(0 if not counts.snapshot().requests else 1)
    counts._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert counts.snapshot().requests == {("rows", "", 200): 1}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("7f3a", "7f3a"),
        ("a" * 128, "a" * 128),
        ("a" * 129, None),
        ("", None),
        (None, None),
        ("two words", None),
        ("new\nline", None),
        ("café", None),
    ],
)
def test_request_ids_come_back_if_they_are_harmless(
    predictors: Predictors, given: str | None, expected: str | None
) -> None:
    request = asked("POST", "/iris", {} if given is None else {"x-request-id": given})
    assert request_id_of(request) == expected
    service = Service(predictors)
    for body in (ROW, b"{"):
        reply = service.handle(request, body)
        assert dict(reply.headers).get("x-request-id") == expected


def test_a_traceparent() -> None:
    found = trace_of(asked("GET", "/", {"traceparent": TRACE}))
    assert found == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True)
    not_sampled = trace_of(asked("GET", "/", {"traceparent": TRACE[:-1] + "0"}))
    assert not_sampled is not None
    assert not not_sampled.is_sampled
    later = trace_of(asked("GET", "/", {"traceparent": "01" + TRACE[2:] + "-what-comes-then"}))
    assert later is not None


@pytest.mark.parametrize(
    "given",
    [
        "",
        TRACE.upper(),
        TRACE[:-1],
        TRACE + "-more",
        "ff" + TRACE[2:],
        TRACE.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32),
        TRACE.replace("b7ad6b7169203331", "0" * 16),
        "00-" + "g" * 32 + TRACE[35:],
    ],
)
def test_a_traceparent_that_is_none(given: str) -> None:
    assert trace_of(asked("GET", "/", {"traceparent": given})) is None
