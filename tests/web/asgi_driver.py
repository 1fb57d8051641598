"""Drives an ASGI application by hand, message by message: for what no ordinary client does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

JSON = "application/json"


class Exchange:
    """One request, and what the application sends.

    Parameters
    ----------
    path, method : str
    parts : iterable of bytes
        The body as it comes in.
    headers : iterable of (str, str)
        Without the length, which is added where the body is one part.
    **scope : object
        Further members of the scope.
    """

    def __init__(
        self,
        path: str,
        parts: Iterable[bytes] = (),
        *,
        method: str = "POST",
        headers: Iterable[tuple[str, str]] = (("content-type", JSON),),
        **scope: Any,
    ) -> None:
        self.parts = list(parts)
        named = list(headers)
        if len(self.parts) == 1 and not any(name == "content-length" for name, _ in named):
            named.append(("content-length", str(len(self.parts[0]))))
        self.scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "scheme": "http",
            "headers": [(name.encode(), value.encode()) for name, value in named],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            **scope,
        }
        self.read = 0
        self.sent: list[dict[str, Any]] = []
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        if self.read < max(len(self.parts), 1):
            part = self.parts[self.read] if self.parts else b""
            self.read += 1
            return {"type": "http.request", "body": part, "more_body": self.read < len(self.parts)}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    async def run(self, app: Any) -> Exchange:
        await app(self.scope, self.receive, self.send)
        return self

    @property
    def status(self) -> int:
        assert [message["type"] for message in self.sent] == [
            "http.response.start",
            "http.response.body",
        ]
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return bytes(self.sent[1]["body"])

    def json(self) -> Any:
        assert int(self.headers["content-length"]) == len(self.body)
        return json.loads(self.body)


def run(program: Callable[[], Coroutine[Any, Any, Any]], loop: str = "asyncio") -> Any:
    """Run a coroutine to its end, on asyncio's loop or uvloop's; one that hangs fails."""

    async def limited() -> Any:
        return await asyncio.wait_for(program(), 60)

    if loop == "uvloop":
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(limited())
    return asyncio.run(limited())


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)
