"""Calls as OpenTelemetry server spans: below the client's, and above those of the models."""

from __future__ import annotations

from infersdk.web.grpc.calls import Answer, Context, RefusedError, refusal_in
from infersdk.web.request import Request

__all__ = ["traced"]


def traced(answer: Answer) -> Answer:
    """Make a span around each answer, unless there is one already.

    Parameters
    ----------
    answer : callable
        As for :func:`infersdk.web.grpc.calls.unary`.

    Raises
    ------
    MissingDependencyError
        opentelemetry-api is not installed.
    """
    from infersdk.monitor.opentelemetry import start_server_span, tracer

    own = tracer()

    async def traced_answer(body: bytes, request: Request, context: Context) -> bytes:
        with start_server_span(
            own,
            request.method,
            request.header,
            path=request.path,
            route=request.path,  # there are few
            client=request.client,
        ) as span:
            try:
                reply = await answer(body, request, context)
            except Exception as error:
                refusal = refusal_in(error)
                span.status = refusal.http_status
                raise RefusedError(refusal) from error
            span.status = 200
            return reply

    return traced_answer
