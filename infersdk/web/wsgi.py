"""Requests as WSGI gives them: reading a body within limits, and an app to mount below any prefix.

A body of ordinary size is read before anything is looked at: refusing it unread would save nothing, and most
servers would have to drop the connection. A large one, or one that does not say its length, is refused first if
it can be.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

from infersdk.predictors import Predictors
from infersdk.runtime.waiting import abandoned_when
from infersdk.web.problems import ProblemError, Reply, body_too_large
from infersdk.web.request import Header, Request
from infersdk.web.service import Service
from infersdk.web.settings import Settings
from infersdk.web.wsgi_client import client_watch

__all__ = ["WSGIApp", "answer", "header_of", "read_body", "request_of", "respond"]

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]

_ORDINARY_BYTES = 64 * 1024
"""Bodies up to this length are read at once; servers read in parts of about that."""

_STATUS_LINES = {status.value: f"{status.value} {status.phrase}" for status in HTTPStatus}

_KEYS = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}


class WSGIApp:
    """Models as a WSGI app of their own.

    For WSGI frameworks without an adapter (``DispatcherMiddleware``, Pyramid's ``wsgiapp2``, Falcon's
    sinks), mounted below any path, or for a server alone. Models are opened as :class:`infersdk.Predictors`
    says: by the worker that imports the app, or by the workers that a preloading server forks.

    Parameters
    ----------
    models : Mapping of str to object, Predictors or Service
        The models by name, or what has them already.
    settings : Settings, optional
        Limits; not with a Service, which has its own. Its ``url_prefix`` is only what is written into
        ``openapi.json``: this app is where it is mounted.

    Raises
    ------
    TypeError, ValueError
        A model's name or setting is not valid.
    """

    def __init__(
        self,
        models: Mapping[str, Any] | Service,
        settings: Settings | None = None,
    ) -> None:
        if isinstance(models, Service):
            if settings is not None:
                raise TypeError("Expected no settings with a Service: it has its own")
            self.service = models
        else:
            settings = settings or Settings()
            if not isinstance(models, Predictors):
                models = Predictors(models, opening=settings.opening)
            self.service = Service(models, settings)
        self.service.predictors.prepare()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        # Paths come as bytes of UTF-8, each written as the character of that number (PEP 3333).
        path = environ.get("PATH_INFO", "").encode("latin-1", "replace").decode("utf-8", "replace")
        reply = respond(self.service, environ, path)
        headers = [*reply.headers, ("content-length", str(len(reply.body)))]
        status = _STATUS_LINES.get(reply.status) or f"{reply.status} Unknown"
        start_response(status, headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [reply.body]


def respond(
    service: Service, environ: Environ, path: str, max_body_bytes: int | None = None
) -> Reply:
    """Answer any request below the prefix. Raises nothing.

    Parameters
    ----------
    service : Service
    environ : dict
        The request's WSGI environ.
    path : str
        Below the prefix.
    max_body_bytes : int, optional
        The host's own limit, where it is lower than the service's.
    """
    request = request_of(environ, path)
    if request.method != "POST":
        return service.handle(request)
    try:
        if not _is_ordinary(environ):
            refusal = service.refuse_early(request)
            if refusal is not None:
                return refusal
        body = read_body(environ, _limit(service, max_body_bytes))
    except ProblemError as problem:
        return service.refuse(request, problem)
    is_gone = client_watch(environ)
    if is_gone is None:
        return service.handle(request, body)
    with abandoned_when(is_gone):
        return service.handle(request, body)


def answer(
    service: Service,
    name: str,
    method: str | None,
    environ: Environ,
    max_body_bytes: int | None = None,
) -> Reply:
    """Answer a request to one model, wherever it was mounted. Raises nothing.

    Parameters
    ----------
    service, environ, max_body_bytes
        As for :func:`respond`.
    name : str
        The model.
    method : str or None
        The source model's method; None for the main one.
    """
    try:
        body = read_body(environ, _limit(service, max_body_bytes))
    except ProblemError as problem:
        return problem.reply()
    request = request_of(environ, environ.get("PATH_INFO", ""))
    is_gone = client_watch(environ)
    if is_gone is None:
        return service.answer(name, method, request, body)
    with abandoned_when(is_gone):
        return service.answer(name, method, request, body)


def request_of(environ: Environ, path: str) -> Request:
    """Return the request of an environ.

    Parameters
    ----------
    environ : dict
    path : str
        Below the prefix.
    """
    return Request(
        environ["REQUEST_METHOD"],
        path,
        header_of(environ),
        environ.get("REMOTE_ADDR"),
        environ.get("QUERY_STRING", ""),
    )


def header_of(environ: Environ) -> Header:
    """Return the function that gives a request's header by its name in small letters, or None."""

    def header(name: str) -> str | None:
        key = _KEYS.get(name) or "HTTP_" + name.upper().replace("-", "_")
        value: str | None = environ.get(key)
        return value

    return header


def read_body(environ: Environ, max_body_bytes: int) -> bytes:
    """Read a request's body.

    It is put back, so that a hook or middleware which reads it later gets it again.

    Parameters
    ----------
    environ : dict
    max_body_bytes : int
        Never more than one byte beyond it is read.

    Raises
    ------
    ProblemError
        413: it is larger. 411: its length is not known, and the server does not say where it ends. 400:
        it ended early.
    """
    try:
        body = _read(environ, max_body_bytes)
    except (OSError, ValueError) as error:  # what servers raise when the connection breaks
        raise _incomplete() from error
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _read(environ: Environ, max_body_bytes: int) -> bytes:
    stream = environ["wsgi.input"]
    length = environ.get("CONTENT_LENGTH")
    if length and "HTTP_TRANSFER_ENCODING" not in environ:
        size_bytes = int(length[:19]) if length.isdecimal() else 0  # as in Service.refuse_early
        if size_bytes > max_body_bytes:
            raise body_too_large(max_body_bytes, f"{size_bytes:,}")
        body: bytes = stream.read(size_bytes)
        return body if len(body) == size_bytes else _read_rest(stream, body, size_bytes)
    if environ.get("wsgi.input_terminated"):
        body = _read_parts(stream, b"", max_body_bytes + 1)
        if len(body) > max_body_bytes:
            raise body_too_large(max_body_bytes, "more")
        return body
    if "HTTP_TRANSFER_ENCODING" in environ:
        raise ProblemError(
            411,
            "length-required",
            "The body does not say its length",
            "Expected a content-length header: this server takes no body that is sent in chunks",
        )
    return b""


def _read_rest(stream: Any, body: bytes, size_bytes: int) -> bytes:
    """Some servers give what has arrived rather than what was asked for."""
    body = _read_parts(stream, body, size_bytes)
    if len(body) < size_bytes:
        raise _incomplete()
    return body


def _read_parts(stream: Any, begun: bytes, size_bytes: int) -> bytes:
    """Read on until there are so many bytes, or no more."""
    parts = [begun]
    missing_bytes = size_bytes - len(begun)
    while missing_bytes > 0:
        part = stream.read(min(missing_bytes, 2**20))
        if not part:
            break
        parts.append(part)
        missing_bytes -= len(part)
    return b"".join(parts)


def _is_ordinary(environ: Environ) -> bool:
    length = environ.get("CONTENT_LENGTH") or ""
    return length.isdecimal() and int(length[:19]) <= _ORDINARY_BYTES


def _limit(service: Service, max_body_bytes: int | None) -> int:
    limit = service.settings.max_body_bytes
    return limit if max_body_bytes is None else min(limit, max_body_bytes)


def _incomplete() -> ProblemError:
    return ProblemError(
        400,
        "incomplete-body",
        "The body is incomplete",
        "The connection ended before all of the body had come; send it again",
    )
