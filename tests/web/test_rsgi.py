"""The RSGI application, driven by a protocol double with what Granian's has. Granian itself: test_asgi_servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import infersdk
from infersdk.web.asgi import InferSDK
from tests.web.asgi_driver import run, until
from tests.web.test_asgi import Busy


class Protocol:
    """One request as Granian hands it over."""

    def __init__(
        self,
        path: str,
        parts: Sequence[bytes] = (),
        *,
        method: str = "POST",
        headers: Sequence[tuple[str, str]] = (("content-type", "application/json"),),
    ) -> None:
        named = dict(headers)
        if len(parts) == 1:
            named.setdefault("content-length", str(len(parts[0])))
        self.scope = SimpleNamespace(
            proto="http",
            method=method,
            path=path,
            headers=named,
            client="127.0.0.1:5000",
            query_string="",
        )
        self.parts = list(parts)
        self.read = 0
        self.gone = asyncio.Event()
        self.sent: list[tuple[int, dict[str, str], bytes]] = []

    async def __call__(self) -> bytes:
        self.read += len(self.parts)
        return b"".join(self.parts)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            self.read += 1
            yield part

    async def client_disconnect(self) -> None:
        await self.gone.wait()

    def response_bytes(self, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        self.sent.append((status, dict(headers), body))

    def response_empty(self, status: int, headers: Sequence[tuple[str, str]]) -> None:
        self.sent.append((status, dict(headers), b""))

    def close(self, status: int) -> None:
        self.sent.append((status, {}, b""))

    async def answered(self, infer: InferSDK) -> tuple[int, Any]:
        await infer.rsgi.__rsgi__(self.scope, self)
        [(status, _, body)] = self.sent
        return status, json.loads(body) if body else None


@pytest.fixture
def infer(iris: Any) -> Iterator[InferSDK]:
    made = InferSDK(models={"iris": iris.path}, max_body_bytes=100_000)
    yield made
    made.predictors.close()


def _row(iris: Any, number: int = 0) -> bytes:
    return json.dumps(iris.X.iloc[number].to_dict()).encode()


def test_the_source_models_answers(infer: InferSDK, iris: Any) -> None:
    for number in (0, 60, 140):
        expected = {"answers": iris.model.predict(iris.X.iloc[[number]]).tolist()}
        body = _row(iris, number)
        for parts in ([body], [body[:9], body[9:]]):

            async def ask(parts: list[bytes] = parts) -> tuple[int, Any]:
                return await Protocol("/iris/predict", parts).answered(infer)

            assert run(ask) == (200, expected)


def test_the_worker_opens_and_closes_the_models(infer: InferSDK, tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        app = infer.rsgi
        app.__rsgi_init__(runner.get_loop())
        assert infer.predictors.state == "open"
        app.__rsgi_del__(runner.get_loop())
        assert infer.predictors.state == "closed"
        lost = InferSDK(models={"lost": tmp_path / "lost.onnx"})
        with pytest.raises(infersdk.ArtifactError, match=r"lost\.onnx"):
            lost.rsgi.__rsgi_init__(runner.get_loop())


def test_other_pages_and_refusals(infer: InferSDK) -> None:
    async def program() -> None:
        status, health = await Protocol("/health/ready", method="GET").answered(infer)
        assert (status, health["state"]) == (200, "open")
        assert await Protocol("/", method="GET").answered(infer) == (200, {"models": ["iris"]})
        assert (await Protocol("/iris", [b"{}"]).answered(infer))[0] == 422
        assert (await Protocol("/wine", [b"{}"]).answered(infer))[0] == 404
        assert (await Protocol("/iris", method="DELETE").answered(infer))[0] == 405
        head = Protocol("/", method="HEAD")
        assert await head.answered(infer) == (200, None)
        assert head.sent[0][1]["content-length"] == "19"
        socket = Protocol("/iris")
        socket.scope.proto = "ws"
        assert await socket.answered(infer) == (403, None)

    run(program)


@pytest.mark.parametrize(
    ("headers", "status", "read"),
    [
        ((("content-type", "application/json"), ("content-length", "100001")), 413, 0),
        ((("content-type", "text/csv"),), 415, 0),
        ((("content-type", "application/json"),), 413, 3),
    ],
)
def test_a_body_that_is_refused(infer: InferSDK, headers: Any, status: int, read: int) -> None:
    async def program() -> None:
        protocol = Protocol("/iris", [b" " * 40_000] * 50, headers=headers)
        answered, problem = await protocol.answered(infer)
        assert (answered, problem["status"], protocol.read) == (status, status, read)

    run(program)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/models/iris", 200), ("/models", 405), ("/iris", 404), ("/modelsiris", 404)],
)
def test_the_prefix(iris: Any, path: str, status: int) -> None:
    infer = InferSDK(models={"iris": iris.path}, url_prefix="/models")
    assert run(lambda: Protocol(path, [_row(iris)]).answered(infer))[0] == status
    infer.predictors.close()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_client_that_goes_away_cancels_its_work(loop: str) -> None:
    async def program() -> None:
        async with Busy() as busy:
            protocol = Protocol("/slow", [b"[[1, 2]]"])
            app = busy.infer.rsgi
            task = asyncio.create_task(app.__rsgi__(protocol.scope, protocol))
            await until(lambda: busy.under_way == busy.CALLS + 1)
            protocol.gone.set()
            await task
            assert [status for status, _, _ in protocol.sent] == [499]  # nobody reads it
            assert (busy.cancelled, busy.under_way) == (1, busy.CALLS)

    run(program, loop)
