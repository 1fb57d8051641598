"""Calls as OpenTelemetry spans, made when a call has ended, of the times that it has left behind.

Nothing is started before a call or held during it: a span cannot be left open, and a call that is not traced costs one
look at the current span. Models that run on an event loop or in a queue need no context handed through them.

    infersdk.predict
        infersdk.queue          from the queue's end to where a run took its first row
        infersdk.batch          a shared run with gathering its rows and scattering its answers
            infersdk.run        the run of the model
"""

from __future__ import annotations

from collections.abc import Callable
from time import time_ns
from typing import TYPE_CHECKING

from opentelemetry.trace import Status, StatusCode, Tracer, get_current_span, set_span_in_context

from infersdk._native import clock_ns

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.util.types import AttributeValue

    from infersdk._native import CallTimes

__all__ = ["call_spans"]


def call_spans(tracer: Tracer) -> Callable[[str, str, CallTimes], None]:
    """Return an observer of calls that makes spans of those below a span that is being recorded.

    Parameters
    ----------
    tracer : Tracer
    """

    def observe(model: str, method: str, times: CallTimes) -> None:
        if get_current_span().is_recording():
            _record(tracer, model, method, times)

    return observe


_APART_NS = 5_000


def _since_1970_ns() -> int:
    """What to add to a time of the calls' clock for that of the wall clock."""
    best_ns, offset_ns = 2**63, 0
    for _ in range(5):
        before_ns = clock_ns()
        wall_ns = time_ns()
        apart_ns = clock_ns() - before_ns
        # Another thread may run between one clock and the other, for milliseconds.
        if apart_ns < best_ns:
            best_ns, offset_ns = apart_ns, wall_ns - before_ns - apart_ns // 2
        if apart_ns < _APART_NS:
            break
    return offset_ns


def _record(tracer: Tracer, model: str, method: str, times: CallTimes) -> None:
    # Spans are of the wall clock. What it is set by during a call does not change how long that took.
    since_1970_ns = _since_1970_ns()
    attributes: dict[str, AttributeValue] = {"infersdk.model": model, "infersdk.method": method}
    if times.n_rows:
        attributes["infersdk.rows"] = times.n_rows
    if times.error is not None:
        attributes["error.type"] = times.error
    call = tracer.start_span(
        "infersdk.predict", attributes=attributes, start_time=since_1970_ns + times.started_ns
    )
    if times.error is not None:
        call.set_status(Status(StatusCode.ERROR))
    if call.is_recording():

        def part(
            name: str,
            parent: Context,
            started_ns: int,
            ended_ns: int,
            attributes: dict[str, AttributeValue] | None = None,
        ) -> Context:
            span = tracer.start_span(
                name, parent, attributes=attributes, start_time=since_1970_ns + started_ns
            )
            # A part of which nobody knows the end went on until the call gave up.
            span.end(since_1970_ns + (ended_ns or times.ended_ns))
            return set_span_in_context(span)

        parent = set_span_in_context(call)
        if times.queued_ns:
            part("infersdk.queue", parent, times.queued_ns, times.batch_started_ns)
        if times.batch_started_ns:
            parent = part("infersdk.batch", parent, times.batch_started_ns, times.batch_ended_ns)
        if times.run_started_ns:
            rows: dict[str, AttributeValue] = {"infersdk.run_rows": times.run_rows}
            part("infersdk.run", parent, times.run_started_ns, times.run_ended_ns, rows)
    call.end(since_1970_ns + times.ended_ns)
