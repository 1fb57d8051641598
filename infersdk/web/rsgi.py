"""Models over RSGI, Granian's own interface: fewer crossings for each request than ASGI.

    granian --interface rsgi module:infer.rsgi

Granian itself is not imported: what it hands over is all that is needed.
"""

from __future__ import annotations

import asyncio
from typing import Any

from infersdk.web.asgi import GONE, SMALL_DIGITS, InferSDK, below, collect
from infersdk.web.disconnects import while_connected
from infersdk.web.problems import ProblemError, Reply, no_page
from infersdk.web.request import Request
from infersdk.web.service import JSON

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
        self._prefix = (infer.settings.url_prefix or "").rstrip("/")

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Open the models; Granian calls it in each worker, before that takes connections."""
        loop.run_until_complete(self._infer.start())

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let running calls finish and close the models; the worker takes no more connections."""
        loop.run_until_complete(self._infer.stop())

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
                _send(protocol, no_page(path).reply(), http_method)
                return
            path = rest
        header = scope.headers.get
        request = Request(http_method, path, header, scope.client, scope.query_string)
        body: bytes | bytearray = b""
        if http_method == "POST":
            length = header("content-length")
            if length is None or len(length) > SMALL_DIGITS:
                refusal = self._service.refuse_early(request)
                if refusal is not None:
                    _send(protocol, refusal, http_method)
                    return
            try:
                if length is not None:
                    body = await protocol()
                else:
                    body = await collect(protocol, self._infer.settings.max_body_bytes)
            except ProblemError as problem:
                _send(protocol, self._service.refuse(request, problem), http_method)
                return
            except Exception:  # RSGIProtocolClosed and its like: the client went away while it sent
                _send(protocol, GONE, http_method)
                return

        async def disconnected() -> bool:
            await protocol.client_disconnect()
            return True

        answering = self._service.ahandle(request, body)
        reply = await while_connected(answering, disconnected)
        _send(protocol, GONE if reply is None else reply, http_method)


def _send(protocol: Any, reply: Reply, http_method: str) -> None:
    status, body, headers = reply
    pairs = _JSON if headers is JSON else list(headers)
    if http_method == "HEAD":
        protocol.response_empty(status, [*pairs, ("content-length", str(len(body)))])
    else:
        protocol.response_bytes(status, pairs, body)
