"""Requests and traces: the ids of the one that a request belongs to, exemplars, and spans of requests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from infersdk.monitor.current_trace import current_trace
from infersdk.monitor.exemplars import Exemplars
from infersdk.web.outcome import trace_of
from infersdk.web.problems import Reply
from infersdk.web.protocol import Inference, Page
from infersdk.web.request import Request

if TYPE_CHECKING:
    from infersdk.web.service import Service

__all__ = ["keep_exemplar", "trace_ids", "trace_requests"]


def trace_ids(request: Request) -> tuple[str, str] | tuple[None, None]:
    """The ids of the trace and of the span in which a request is answered, or else of those that its client sent.

    Parameters
    ----------
    request : Request
    """
    current = current_trace()
    if current is not None:
        return current.trace_id, current.span_id
    sent = trace_of(request)
    return (None, None) if sent is None else (sent.trace_id, sent.parent_id)


def keep_exemplar(
    exemplars: Exemplars, request: Request, model: str, method: str, seconds: float
) -> None:
    """Keep an answered request as an exemplar, if it belongs to a sampled trace.

    Parameters
    ----------
    exemplars : Exemplars
    request : Request
    model, method : str
    seconds : float
        The request's, from its whole body to its whole reply.
    """
    # Asking for the current span costs more than all else here; without the SDK there is none to be had.
    trace = current_trace() if _SDK in sys.modules else None
    if trace is None and request.header("traceparent") is not None:
        sent = trace_of(request)
        if sent is not None and sent.is_sampled:
            exemplars.record(model, method, seconds, sent.trace_id)
    elif trace is not None and trace.is_sampled:
        exemplars.record(model, method, seconds, trace.trace_id)


_SDK = "opentelemetry.sdk.trace"


def trace_requests(service: Service) -> dict[str, Callable[..., Any]]:
    """Return a Service's functions that answer requests, each of which makes a span around the answer.

    The span is the parent of those of the models' calls. There is none where the host has made one, nor for
    health and metrics.

    Parameters
    ----------
    service : Service

    Raises
    ------
    MissingDependencyError
        opentelemetry-api is not installed.
    """
    from infersdk.monitor.opentelemetry import ServerSpan, instrument, start_server_span, tracer

    instrument()
    own = tracer()
    prefix = service.settings.url_prefix or ""

    def start(
        request: Request, path: str, pattern: str | None = None, model: str | None = None
    ) -> ServerSpan:
        return start_server_span(
            own,
            request.method,
            request.header,
            path=path,
            route=pattern,
            client=request.client,
            model=model,
        )

    def start_routed(request: Request) -> ServerSpan:
        route = service.route(request)
        if isinstance(route, Page) and (route.protocol.name == "pages" or route.access == "public"):
            return ServerSpan()
        pattern = None if route is None else prefix + _pattern(request.path, route)
        model = route.model if isinstance(route, Inference) else None
        return start(request, prefix + request.path, pattern, model)

    handle, ahandle = service.handle, service.ahandle
    answer, aanswer = service.answer, service.aanswer

    def traced_handle(request: Request, body: bytes | bytearray = b"") -> Reply:
        with start_routed(request) as span:
            reply = handle(request, body)
            span.status = reply.status
            return reply

    async def traced_ahandle(request: Request, body: bytes | bytearray = b"") -> Reply:
        with start_routed(request) as span:
            reply = await ahandle(request, body)
            span.status = reply.status
            return reply

    def traced_answer(
        name: str, method: str | None, request: Request, body: bytes | bytearray
    ) -> Reply:
        with start(request, request.path, model=name) as span:
            reply = answer(name, method, request, body)
            span.status = reply.status
            return reply

    async def traced_aanswer(
        name: str, method: str | None, request: Request, body: bytes | bytearray
    ) -> Reply:
        with start(request, request.path, model=name) as span:
            reply = await aanswer(name, method, request, body)
            span.status = reply.status
            return reply

    return {
        "handle": traced_handle,
        "ahandle": traced_ahandle,
        "answer": traced_answer,
        "aanswer": traced_aanswer,
    }


def _pattern(path: str, route: Page | Inference) -> str:
    """A path with ``{model}`` and ``{method}`` in the places of theirs: there are few of them, whatever clients ask."""
    names = {}
    if isinstance(route, Inference):
        if route.method is not None:
            names[route.method] = "{method}"
        names[route.model] = "{model}"
    elif route.opens is not None:
        names[route.opens] = "{model}"
    return "/".join(names.get(part, part) for part in path.split("/"))
