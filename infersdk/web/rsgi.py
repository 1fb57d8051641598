"""Models over RSGI, Granian's own interface: fewer crossings for each request than ASGI.

    granian --interface rsgi module:infer.rsgi

Granian itself is not imported: what it hands over is all that is needed.
"""

from __future__ import annotations

import asyncio
from typing import Any

from infersdk.web.asgi import InferSDK, below, nothing_here
from infersdk.web.disconnects import while_connected
from infersdk.web.problems import ProblemError, body_too_large
from infersdk.web.service import JSON, Reply

__all__ = ["RSGIApp"]

_JSON = list(JSON)


class RSGIApp:
    """Answers the requests of an app's models, and opens and closes them with Granian's workers.

    Parameters
    ----------
    infer : InferSDK
    """

    def __init__(self, infer: InferSDK) -> None:
        self._infer = infer
        self._service = infer.service
        self._prefix = infer.settings.url_prefix or ""
        self._life: Any = None

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Open the models; Granian calls it in each worker, before that takes connections."""
        self._life = self._infer.lifespan()
        loop.run_until_complete(self._life.__aenter__())

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let running calls finish and close the models; the worker takes no more connections."""
        life, self._life = self._life, None
        if life is not None:
            loop.run_until_complete(life.__aexit__(None, None, None))

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        """Answer one request; see the RSGI specification."""
        if scope.proto != "http":
            protocol.close(403)
            return
        http_method: str = scope.method
        path: str = scope.path
        if self._prefix:
            rest = below(path, self._prefix)
            if rest is None:
                _send(protocol, nothing_here(path), http_method)
                return
            path = rest
        header = scope.headers.get
        body = b""
        if http_method == "POST":
            refusal = self._service.refuse_early(http_method, path, header)
            if refusal is not None:
                _send(protocol, refusal, http_method)
                return
            # What says how long it is may be read at once, as that was looked at.
            try:
                body = await protocol() if header("content-length") else await self._read(protocol)
            except ProblemError as problem:
                _send(protocol, problem.reply(), http_method)
                return

        async def disconnected() -> bool:
            await protocol.client_disconnect()
            return True

        answering = self._service.ahandle(http_method, path, header, body)
        reply = await while_connected(answering, disconnected)
        if reply is not None:
            _send(protocol, reply, http_method)

    async def _read(self, protocol: Any) -> bytes:
        """A body that does not say how long it is."""
        limit = self._infer.settings.max_body_bytes
        parts: list[bytes] = []
        size_bytes = 0
        async for part in protocol:
            parts.append(part)
            size_bytes += len(part)
            if size_bytes > limit:
                raise body_too_large(limit, "more")
        return b"".join(parts)


def _send(protocol: Any, reply: Reply, http_method: str) -> None:
    status, body, headers = reply
    pairs = _JSON if headers is JSON else list(headers)
    if http_method == "HEAD":
        protocol.response_empty(status, [*pairs, ("content-length", str(len(body)))])
    else:
        protocol.response_bytes(status, pairs, body)
