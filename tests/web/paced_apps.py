"""Models behind each interface, in an app that takes as long as it is told and notes which requests it got.

``x-delay-ms`` is how long a request takes besides its model; its ``x-number`` is written to the file ``BEGUN``
before anything else. ``OPENING_S`` is how long its model takes to open. With HELLO set there is no infersdk: what a server loses then, it loses by itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

_BEGUN = os.open(os.environ["BEGUN"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_HELLO = os.environ.get("HELLO")
HELLO = b'{"answers":[0]}'


def _begin(number: str | None, delay_ms: str | None) -> float:
    if number:
        os.write(_BEGUN, f"{number}\n".encode())
    return int(delay_ms or 0) / 1000


def _plain_wsgi(environ: Any, start_response: Any) -> list[bytes]:
    environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("content-length", str(len(HELLO)))])
    return [HELLO]


async def _plain_asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return
    while (await receive()).get("more_body"):
        pass
    length = (b"content-length", str(len(HELLO)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": HELLO})


class _PlainRSGI:
    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        await protocol()
        protocol.response_bytes(200, [], HELLO)


class PacedRSGI:
    def __init__(self, inner: Any) -> None:
        self.inner = inner
        for name in ("__rsgi_init__", "__rsgi_del__"):
            if hasattr(inner, name):
                setattr(self, name, getattr(inner, name))

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        if scope.proto == "http":
            header = scope.headers.get
            await asyncio.sleep(_begin(header("x-number"), header("x-delay-ms")))
        await self.inner.__rsgi__(scope, protocol)


if _HELLO:
    _wsgi, _asgi, _rsgi = _plain_wsgi, _plain_asgi, _PlainRSGI()
else:
    from flask import Flask

    from infersdk.web import asgi as asgi_adapter
    from infersdk.web import flask as flask_adapter

    def _source() -> str:
        time.sleep(float(os.environ.get("OPENING_S", "0")))  # a large model
        return os.environ["MODEL"]

    _models = {"iris": _source}
    _wsgi = Flask(__name__)
    flask_adapter.InferSDK(_wsgi, models=_models, url_prefix="/models")
    _infer = asgi_adapter.InferSDK(models=_models, url_prefix="/models")
    _asgi, _rsgi = _infer.app, _infer.rsgi


def wsgi(environ: Any, start_response: Any) -> Any:
    time.sleep(_begin(environ.get("HTTP_X_NUMBER"), environ.get("HTTP_X_DELAY_MS")))
    return _wsgi(environ, start_response)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        await asyncio.sleep(_begin(headers.get("x-number"), headers.get("x-delay-ms")))
    await _asgi(scope, receive, send)


rsgi = PacedRSGI(_rsgi)
