"""Requests as OpenTelemetry server spans, for hosts that make none themselves.

Names and attributes are those of OpenTelemetry's semantic conventions for HTTP. What a client can make up without
end (queries, headers, paths that lead nowhere) is in none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from opentelemetry import context, propagate
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

__all__ = ["ServerSpan", "start_server_span"]

Header = Callable[[str], str | None]

_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)


class ServerSpan:
    """A request's span, current from ``with`` to its end.

    Parameters
    ----------
    span : Span, optional
        None where there is nothing to do.
    parent : Context, optional
        What the client sent with the request.

    Attributes
    ----------
    status : int
        Of HTTP; 499, for a client that has gone away, until there is another.
    """

    __slots__ = ("_parent", "_span", "_token", "status")

    def __init__(self, span: Span | None = None, parent: Context | None = None) -> None:
        self._span = span
        self._parent = parent
        self.status = 499

    def __enter__(self) -> Self:
        if self._span is not None:
            self._token: Token[Context] = context.attach(
                set_span_in_context(self._span, self._parent)
            )
        return self

    def __exit__(self, *error: object) -> None:
        span = self._span
        if span is None:
            return
        context.detach(self._token)
        if span.is_recording():
            span.set_attribute("http.response.status_code", self.status)
            # A request that the client got wrong is no error of the server's.
            if self.status >= 500:
                span.set_attribute("error.type", str(self.status))
                span.set_status(Status(StatusCode.ERROR))
        span.end()


def start_server_span(
    tracer: Tracer,
    http_method: str,
    header: Header,
    *,
    path: str,
    route: str | None = None,
    client: str | None = None,
    model: str | None = None,
) -> ServerSpan:
    """Start a request's span, as a child of what the client sent.

    Parameters
    ----------
    tracer : Tracer
    http_method : str
    header : callable
        Gives a header by its name in small letters, or None.
    path : str
        Without the query.
    route : str, optional
        The path's pattern; None where there is no such page.
    client : str, optional
        The address of the connection's other end.
    model : str, optional
        The one that is asked.

    Returns
    -------
    ServerSpan
        One that does nothing where there is a span already: the host's own.
    """
    if get_current_span().get_span_context().is_valid:
        return ServerSpan()
    known = http_method in _METHODS
    attributes: dict[str, AttributeValue] = {
        "http.request.method": http_method if known else "_OTHER",
        "url.path": path[:_LONGEST],
    }
    if not known:
        attributes["http.request.method_original"] = http_method[:_LONGEST]
    scheme = header("x-forwarded-proto")
    if scheme in ("http", "https"):
        attributes["url.scheme"] = scheme
    for name, value in (
        ("http.route", route),
        ("client.address", client),
        ("infersdk.model", model),
    ):
        if value is not None:
            attributes[name] = value
    parent = propagate.extract(header, context.Context(), _HEADERS)
    name = http_method if known else "HTTP"
    span = tracer.start_span(
        name if route is None else f"{name} {route}",
        parent,
        kind=SpanKind.SERVER,
        attributes=attributes,
    )
    return ServerSpan(span, parent)


_LONGEST = 256


class _Headers(Getter[Header]):
    def get(self, carrier: Header, key: str) -> list[str] | None:
        value = carrier(key.lower())
        return None if value is None else [value]

    def keys(self, carrier: Header) -> list[str]:
        """Hosts give headers by name alone."""
        return []


_HEADERS = _Headers()
