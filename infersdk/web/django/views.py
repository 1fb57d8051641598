"""Django's requests handed to the Service, and its replies to Django.

Each function is there twice: for WSGI, where a view runs in a thread, and for ASGI, where it runs on the event
loop and is cancelled when its client has gone. Under WSGI a client that has gone is noticed by the calls
that wait, where the server lets us look.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, UnreadablePostError

from infersdk.runtime.waiting import abandoned_when
from infersdk.web.django import conf
from infersdk.web.problems import ProblemError, Reply, body_too_large
from infersdk.web.request import Request
from infersdk.web.service import Service
from infersdk.web.wsgi import read_body
from infersdk.web.wsgi_client import client_watch

__all__ = ["aanswer", "amounted", "answer", "mounted", "to_response", "unlogged", "while_wanted"]

_READ_ANYWAY_BYTES = 2**16
"""A body up to this size is read before we look whether the request is one of ours."""

_OPENAPI = "/openapi.json"


def answer(request: HttpRequest, model: str, method: str | None = None) -> HttpResponse:
    """Answer a request with a model, in a view of your own. Raises nothing.

    Parameters
    ----------
    request : HttpRequest
        Its body is JSON: a row, or a list of rows.
    model : str
        A name in ``INFERSDK["MODELS"]``.
    method : str, optional
        Of the source model; its main one by default.

    Returns
    -------
    HttpResponse
        ``{"answers": [...]}``, or a problem (RFC 9457): 422 where rows do not fit the model, 503 where
        too many requests wait, and so on.
    """
    return to_response(_answer(conf.service(), request, model, method))


async def aanswer(request: HttpRequest, model: str, method: str | None = None) -> HttpResponse:
    """Answer a request with a model, in an async view of your own.

    Raises nothing but CancelledError: when Django cancels the view, as its client has gone, the work is
    taken out of the queue.

    Parameters
    ----------
    request, model, method
        As for :func:`answer`.
    """
    return to_response(await _aanswer(conf.service(), request, model, method))


def mounted(request: HttpRequest, path: str) -> HttpResponse:
    """Answer a request to the models' own routes.

    Parameters
    ----------
    request : HttpRequest
    path : str
        Below the prefix, beginning with ``/``.
    """
    service, seen = conf.service(), _seen(request, path)
    try:
        early, body = _received(service, request, seen)
    except ProblemError as error:
        return to_response(service.refuse(seen, error))
    if early is not None:
        return to_response(early)
    service = _for_path(service, request, path)
    with while_wanted(request):
        reply = service.handle(seen, body)
    return to_response(reply, is_head=request.method == "HEAD")


async def amounted(request: HttpRequest, path: str) -> HttpResponse:
    """Answer a request to the models' own routes, from an event loop.

    Parameters
    ----------
    request, path
        As for :func:`mounted`.
    """
    service, seen = conf.service(), _seen(request, path)
    try:
        early, body = _received(service, request, seen)
    except ProblemError as error:
        return to_response(service.refuse(seen, error))
    if early is not None:
        return to_response(early)
    reply = await _for_path(service, request, path).ahandle(seen, body)
    return to_response(reply, is_head=request.method == "HEAD")


def to_response(reply: Reply, *, is_head: bool = False) -> HttpResponse:
    """Write a Reply as Django does.

    Parameters
    ----------
    reply : Reply
    is_head : bool
        Leave the body out, though not its length.
    """
    if reply.status == 200 and not is_head:
        response = HttpResponse(reply.body, content_type=reply.headers[0][1])
        for name, value in reply.headers[1:]:
            response.headers[name] = value
        return response
    response = HttpResponse(reply.body, status=reply.status, headers=dict(reply.headers))
    if is_head:
        response.headers["Content-Length"] = str(len(reply.body))
        response.content = b""
    return unlogged(response)


def unlogged(response: HttpResponse) -> HttpResponse:
    """Keep a refusal out of Django's log, which has it as an error, and from the mail of the ADMINS.

    Under load, refusing is ordinary.

    Parameters
    ----------
    response : HttpResponse
        Changed only if it is 503 or 504.
    """
    if response.status_code in (503, 504):
        response._has_been_logged = True
    return response


def _answer(service: Service, request: HttpRequest, model: str, method: str | None) -> Reply:
    try:
        body = _body(service, request)
    except ProblemError as error:
        return error.reply()
    with while_wanted(request):
        return service.answer(model, method, _seen(request, request.path), body)


async def _aanswer(service: Service, request: HttpRequest, model: str, method: str | None) -> Reply:
    try:
        body = _body(service, request)
    except ProblemError as error:
        return error.reply()
    return await service.aanswer(model, method, _seen(request, request.path), body)


def _for_path(service: Service, request: HttpRequest, path: str) -> Service:
    """The description of the routes says where they are mounted, which only a request knows."""
    if path != _OPENAPI:
        return service
    prefix = request.path.rstrip("/").removesuffix(_OPENAPI)
    return service.mounted_at(prefix)


def while_wanted(request: HttpRequest) -> AbstractContextManager[None]:
    """Let calls of this thread that wait end when the request's client has gone, where that can be seen.

    Parameters
    ----------
    request : HttpRequest
    """
    environ = getattr(request, "environ", None)  # of a WSGIRequest
    watch = None if environ is None else client_watch(environ)
    return nullcontext() if watch is None else abandoned_when(watch)


# -- reading requests --------------------------------------------------------------------------------


def _headers(request: HttpRequest) -> Callable[[str], str | None]:
    # request.headers would copy all of them first.
    return partial(_header, request.META)


def _header(meta: dict[str, Any], name: str) -> str | None:
    key = name.replace("-", "_").upper()
    if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        key = "HTTP_" + key
    value: str | None = meta.get(key)
    return value


def _length(request: HttpRequest) -> int | None:
    given = request.META.get("CONTENT_LENGTH")
    try:
        return int(given) if given else None
    except ValueError:
        return None


def _seen(request: HttpRequest, path: str) -> Request:
    meta = request.META
    return Request(
        request.method or "",
        path,
        _headers(request),
        meta.get("REMOTE_ADDR"),
        meta.get("QUERY_STRING", ""),
    )


def _received(service: Service, request: HttpRequest, seen: Request) -> tuple[Reply | None, bytes]:
    """The body of a request to the models' own routes, or why it is refused unread."""
    if request.method != "POST":
        return None, b""
    if (_length(request) or 0) > _READ_ANYWAY_BYTES:
        refusal = service.refuse_early(seen)
        if refusal is not None:
            return refusal, b""
    return None, _body(service, request)


def _body(service: Service, request: HttpRequest) -> bytes:
    """The request's body, if it is no larger than it may be."""
    limit = service.settings.max_body_bytes
    length = _length(request)
    try:
        if length is not None:
            if length > limit:
                raise body_too_large(limit, f"{length:,}")
            body: bytes = request.body
            return body
        environ = getattr(request, "environ", None)
        if environ is not None:
            # Of a WSGI request without a length Django reads nothing; some servers say where it ends.
            return read_body(environ, limit)
        body = request.read(limit + 1)
    except RequestDataTooBig as error:
        raise body_too_large(limit, "more") from error
    except UnreadablePostError as error:
        raise ProblemError(
            400,
            "incomplete-body",
            "The body is incomplete",
            "The connection ended before all of the body had come; send it again",
        ) from error
    if len(body) > limit:
        raise body_too_large(limit, "more")
    return body
