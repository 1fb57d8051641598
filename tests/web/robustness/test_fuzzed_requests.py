"""Ten thousand damaged requests of every protocol: none is answered with 5xx, none raises, none leaves anything.

INFERSDK_FUZZ is how many (by default 10,000), INFERSDK_FUZZ_SEED where they begin.
"""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import os
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infersdk.web.asgi import ASGIApp, InferSDK
from infersdk.web.problems import Reply
from infersdk.web.request import Request
from infersdk.web.service import Service
from infersdk.web.wsgi import WSGIApp
from tests.web.asgi_driver import Exchange
from tests.web.robustness.fuzz import Fuzzed, fuzzed, good_requests

N = int(os.environ.get("INFERSDK_FUZZ", "10000"))
SEED = int(os.environ.get("INFERSDK_FUZZ_SEED", "1"))
LIMIT_BYTES = 2**20

Door = Callable[[Fuzzed], Reply]


def doors(service: Service, loop: asyncio.AbstractEventLoop) -> list[Door]:
    """The ways into a service, each from a Fuzzed to a Reply."""
    wsgi = WSGIApp(service)
    asgi = ASGIApp(_Around(service))  # type: ignore[arg-type]

    def asked(fuzz: Fuzzed) -> Request:
        return Request(fuzz.method, fuzz.path, fuzz.headers.get, "203.0.113.7", "a=%ff&b")

    def handle(fuzz: Fuzzed) -> Reply:
        return service.handle(asked(fuzz), fuzz.body)

    def ahandle(fuzz: Fuzzed) -> Reply:
        return loop.run_until_complete(service.ahandle(asked(fuzz), bytearray(fuzz.body)))

    def over_wsgi(fuzz: Fuzzed) -> Reply:
        environ = {
            "REQUEST_METHOD": fuzz.method,
            "PATH_INFO": fuzz.path.encode("utf-8", "surrogatepass").decode("latin-1"),
            "CONTENT_LENGTH": str(len(fuzz.body)),
            "wsgi.input": io.BytesIO(fuzz.body),
            "wsgi.input_terminated": True,
        }
        for name, value in fuzz.headers.items():
            key = name.upper().replace("-", "_")
            key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
            environ[key] = value.encode().decode("latin-1")
        started: list[Any] = []
        content = wsgi(environ, lambda status, headers: started.append((status, headers)))
        ((status, headers),) = started
        return Reply(int(status[:3]), b"".join(content), tuple(headers))

    def over_asgi(fuzz: Fuzzed) -> Reply:
        path = fuzz.path.encode("utf-8", "replace").decode()
        headers = {"content-length": str(len(fuzz.body)), **fuzz.headers}
        exchange = Exchange(path, [fuzz.body], method=fuzz.method, headers=headers.items())
        loop.run_until_complete(exchange.run(asgi))
        return Reply(exchange.status, exchange.body, tuple(exchange.headers.items()))

    return [handle, ahandle, over_wsgi, over_asgi]


class _Around(InferSDK):
    """An InferSDK of a service that is there already."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.settings = service.settings


class Lines(logging.Handler):
    """Counts the access log's lines that are whole: one of JSON each, and not long."""

    n = 0

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        self.n += len(line.splitlines()) == 1 and len(line) < 5000 and "status" in json.loads(line)


@contextmanager
def read_as_lines() -> Iterator[Lines]:
    """Also in the place of pytest's own handler, which keeps every record."""
    log = logging.getLogger("infersdk.access")
    before = log.handlers, log.propagate
    handler = Lines()
    log.handlers, log.propagate = [handler], False
    try:
        yield handler
    finally:
        log.handlers, log.propagate = before


@pytest.fixture
def entrances(make_service: Callable[..., Service]) -> Iterator[list[Door]]:
    service = make_service(max_body_bytes=LIMIT_BYTES, access_log=True)
    with asyncio.Runner() as runner:
        yield doors(service, runner.get_loop())


def test_the_good_ones_are_answered(entrances: list[Door]) -> None:
    """By which it is known that the others are damaged ones of these."""
    for request in good_requests():
        for door in entrances:
            reply = door(request)
            assert reply.status == 200, (request, reply)


def wrong_with(request: Fuzzed, reply: Reply) -> str | None:
    """What is wrong with a reply; None if it is one that a client can read."""
    status, body, headers = reply
    if not (200 <= status < 500 or (status == 504 and b'"timeout"' in request.body)):
        return f"status {status}"
    if request.method == "HEAD":
        return None
    kind = dict(headers).get("content-type", "").partition(";")[0]
    if status < 400:
        return None if body or kind else "an empty answer"
    try:
        said = json.loads(body)
    except ValueError:
        return "no JSON"
    if kind == "application/problem+json":
        fine = said["status"] == status and bool(said["title"]) and isinstance(said["detail"], str)
        if status == 422:
            fine = fine and all("pointer" in one and "detail" in one for one in said["errors"])
    else:
        # Of the Open Inference Protocol, and of MLflow.
        fine = kind == "application/json" and isinstance(
            said.get("error", said.get("message")), str
        )
    if len(body) > 20_000 + 100 * 1000:
        return f"a refusal of {len(body):,} bytes"
    return None if fine else "another form"


# NumPy reads the headers of its arrays as literals.
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
@pytest.mark.slow
def test_damaged_requests(entrances: list[Door]) -> None:
    statuses: Counter[int] = Counter()
    bad: list[str] = []

    def ask(seed: int, n: int) -> None:
        for number, request in enumerate(fuzzed(seed, n)):
            try:
                reply = entrances[number % 4](request)
            except Exception as error:
                bad.append(f"{number}, door {number % 4}: {error!r} of {str(request)[:1000]}")
                continue
            statuses[reply.status] += 1
            wrong = wrong_with(request, reply)
            if wrong is not None:
                bad.append(f"{number}: {wrong}: {str(reply)[:600]} of {str(request)[:1000]}")

    with read_as_lines() as lines:
        ask(SEED, N // 2)
        gc.collect()
        tracemalloc.start()
        try:
            ask(SEED + 1, N // 4)
            before_bytes, before_resident_bytes = _held_bytes(), _resident_bytes()
            ask(SEED + 2, N // 4)
            grown_bytes = _held_bytes() - before_bytes
            grown_resident_bytes = _resident_bytes() - before_resident_bytes
        finally:
            tracemalloc.stop()
    assert not bad, f"{len(bad)} of {N}, e.g.\n" + "\n".join(bad[:8])
    assert lines.n == N // 2 + 2 * (N // 4)
    assert {200, 400, 404, 405, 413, 415, 422} <= set(statuses), statuses
    assert grown_bytes < 200_000
    assert grown_resident_bytes < 4 * 2**20  # what the allocator keeps for later included


def _held_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
