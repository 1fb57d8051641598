"""Many threads or tasks with good and bad requests at once: every reply is its request's, every count exact."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest

from infersdk.web.asgi import ASGIApp, InferSDK
from infersdk.web.problems import Reply
from infersdk.web.request import Request
from infersdk.web.service import Service
from infersdk.web.wsgi import respond
from tests.web.asgi_driver import Exchange, run
from tests.web.conftest import Trained

N_THREADS = 32
N_EACH = 80
AUTHORIZED = {"authorization": "Bearer secret"}


class Asked(NamedTuple):
    """A request, what it is answered with, and what of it is counted."""

    number: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int
    counted: tuple[str, str]
    expected: list[float] | str
    call: tuple[str, int] | None = None  # of the model's method, and how many rows were answered


def _requests(iris: Trained, n: int) -> list[Asked]:
    """Of eight kinds in turn; no two rows are the same."""
    rng = np.random.default_rng(3)
    names = list(iris.X)
    table = iris.X.sample(n, replace=True, random_state=3) + rng.uniform(0, 1, (n, len(names)))
    scores = iris.model.decision_function(table).tolist()
    assert len(set(map(tuple, scores))) == n
    asked = []
    for number, (row, score) in enumerate(zip(table.to_numpy().tolist(), scores, strict=True)):
        named = dict(zip(names, row, strict=True))
        body = json.dumps(named).encode()
        headers = {"content-type": "application/json", "x-request-id": f"r-{number}", **AUTHORIZED}
        method, path, status = "POST", "/iris/decision_function", 200
        counted: tuple[str, str] = ("rows", "iris")
        call: tuple[str, int] | None = ("decision_function", 1)
        expected: list[float] | str = score
        match number % 8:
            case 1:
                path, counted = "/v2/models/iris/infer", ("oip", "iris")
                tensor = {"name": "x", "datatype": "FP64", "shape": [1, 4], "data": row}
                wanted = [{"name": "decision_function"}]
                body = json.dumps({"inputs": [tensor], "outputs": wanted}).encode()
            case 2:
                path, counted = "/iris/invocations", ("invocations", "iris")
                params = {"method": "decision_function"}
                body = json.dumps({"dataframe_records": [named], "params": params}).encode()
            case 3:
                status, call, expected = 422, ("decision_function", 0), f"no {number}`"
                body = json.dumps([named, {**named, f"no {number}": 1}]).encode()
            case 4:
                status, call, expected = 404, None, f"model-{number}`"
                path, counted = f"/model-{number}/predict", ("", "")
            case 5:
                status, call, expected = 400, None, f"column {number + 1}"
                body = b" " * number + b"x"
            case 6:
                status, call, expected = 401, None, "token"
                del headers["authorization"]
            case 7:
                method, path, body = "GET", "/health/live", b""
                counted, call, expected = ("pages", ""), None, "live"
        asked.append(Asked(number, method, path, headers, body, status, counted, expected, call))
    return asked


def _check(asked: Asked, reply: Reply) -> None:
    assert reply.status == asked.status, (asked, reply)
    assert dict(reply.headers)["x-request-id"] == f"r-{asked.number}"
    if isinstance(asked.expected, str):
        assert asked.expected in reply.body.decode(), (asked, reply)
        return
    said = json.loads(reply.body)
    if "outputs" in said:
        answer = said["outputs"][0]["data"]
    else:
        (answer,) = said.get("answers") or said["predictions"]
    np.testing.assert_allclose(answer, asked.expected, rtol=1e-5, atol=1e-5)


def _in_threads(service: Service, requests: Sequence[Asked]) -> None:
    barrier = threading.Barrier(N_THREADS)

    def client(number: int) -> None:
        barrier.wait(30)
        for asked in requests[number::N_THREADS]:
            environ = {
                "REQUEST_METHOD": asked.method,
                "CONTENT_LENGTH": str(len(asked.body)),
                "wsgi.input": io.BytesIO(asked.body),
                "CONTENT_TYPE": asked.headers["content-type"],
                **{f"HTTP_{k.upper().replace('-', '_')}": v for k, v in asked.headers.items()},
            }
            _check(asked, respond(service, environ, asked.path))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(N_THREADS) as threads:
            for done in [threads.submit(client, number) for number in range(N_THREADS)]:
                done.result(120)
    finally:
        sys.setswitchinterval(before)


class _Around(InferSDK):
    """An InferSDK of a service that is there already."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.settings = service.settings


def _in_tasks(service: Service, requests: Sequence[Asked]) -> None:
    asgi = ASGIApp(_Around(service))

    async def client(number: int) -> None:
        for asked in requests[number::N_THREADS]:
            half = len(asked.body) // 2
            exchange = Exchange(
                asked.path,
                [asked.body[:half], asked.body[half:]],
                method=asked.method,
                headers=asked.headers.items(),
            )
            await exchange.run(asgi)
            _check(asked, Reply(exchange.status, exchange.body, tuple(exchange.headers.items())))

    async def program() -> None:
        await asyncio.gather(*(client(number) for number in range(N_THREADS)))

    run(program)


class _Lines(logging.Handler):
    """The access log's requests."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int]] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = json.loads(record.getMessage())
        self.seen.append((line["request_id"], line["status"]))


@pytest.fixture
def lines() -> Iterator[_Lines]:
    log, handler = logging.getLogger("infersdk.access"), _Lines()
    log.addHandler(handler)
    yield handler
    log.removeHandler(handler)


@pytest.mark.parametrize("drive", [_in_threads, _in_tasks], ids=["threads", "tasks"])
def test_every_reply_is_its_requests_and_every_count_exact(
    drive: Callable[[Service, Sequence[Asked]], None],
    make_service: Callable[..., Service],
    iris: Trained,
    lines: _Lines,
) -> None:
    service = make_service(token="secret", access_log=True)
    requests = _requests(iris, N_THREADS * N_EACH)
    before = _metrics(service)
    drive(service, requests)
    counted = _metrics(service)
    counted.subtract(before)

    http = Counter((*asked.counted, str(asked.status)) for asked in requests)
    http["pages", "", "200"] += 1  # the first look at the metrics
    calls = Counter(asked.call[0] for asked in requests if asked.call is not None)
    answered = sum(asked.call[1] for asked in requests if asked.call is not None)
    refused = sum(asked.status == 422 for asked in requests)
    expected = {
        **{("http_requests", *key): n for key, n in http.items()},
        **{("calls", "iris", method): n for method, n in calls.items()},
        ("rows", "iris", "decision_function"): answered,
        ("call_errors", "iris", "decision_function", "InputError"): refused,
    }
    assert {key: n for key, n in counted.items() if n} == expected
    logged = Counter(lines.seen)
    assert {(f"r-{asked.number}", asked.status) for asked in requests} <= set(logged)
    assert max(logged.values()) == 1
    assert len(lines.seen) == len(requests) + 2


_SERIES = re.compile(r"infersdk_(http_requests|calls|rows|call_errors)_total\{(.*)\} (\d+)")
_UNCOUNTED = ("version", "pid")


def _metrics(service: Service) -> Counter[tuple[str, ...]]:
    """The counters of /metrics by their labels' values."""
    reply = service.handle(Request("GET", "/metrics", AUTHORIZED.get))
    assert reply.status == 200
    found: Counter[tuple[str, ...]] = Counter()
    for name, labels, value in _SERIES.findall(reply.body.decode()):
        given = re.findall(r'(\w+)="([^"]*)"', labels)
        found[name, *(text for key, text in given if key not in _UNCOUNTED)] = int(value)
    return found
