"""The trace that is being recorded around a call, for those who only want its id.

Nothing is imported: an app that has not imported OpenTelemetry has no span, and is not made to pay for one.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

__all__ = ["CurrentTrace", "current_trace"]


class CurrentTrace(NamedTuple):
    """OpenTelemetry's current span, as ``traceparent`` would have it.

    Attributes
    ----------
    trace_id, span_id : str
        32 and 16 hexadecimal digits.
    is_sampled : bool
    """

    trace_id: str
    span_id: str
    is_sampled: bool


def current_trace() -> CurrentTrace | None:
    """The span that is current in this thread or task; None where there is none."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    # While another thread imports it, it lacks some of its names.
    get_current_span = getattr(trace, "get_current_span", None)
    if get_current_span is None:
        return None
    context = get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return CurrentTrace(
        f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags.sampled
    )
