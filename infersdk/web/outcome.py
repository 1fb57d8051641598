"""What became of a request: for counts, exemplars and the access log."""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from infersdk.web.request import Request

if TYPE_CHECKING:
    from infersdk.monitor.snapshot import RequestMetrics

__all__ = ["Observer", "Outcome", "RequestCounts", "new_request_id", "request_id_of", "trace_of"]


class Outcome(NamedTuple):
    """A request that was answered.

    Attributes
    ----------
    request : Request
    protocol : str
        ``"rows"``, ``"oip"``, ``"invocations"``, ``"pages"``; empty where no route was found.
    model, method : str or None
        Of a request to a model that is declared.
    status : int
    n_rows : int or None
    body_bytes, reply_bytes : int
    seconds : float
        From the whole body to the whole reply.
    request_id : str or None
        That the reply bears.
    """

    request: Request
    protocol: str
    model: str | None
    method: str | None
    status: int
    n_rows: int | None
    body_bytes: int
    reply_bytes: int
    seconds: float
    request_id: str | None = None


Observer = Callable[[Outcome], None]
"""Is told of every request, in the thread or on the event loop that answered it; it must not block."""


class RequestCounts:
    """How many requests were answered, by protocol, model and status.

    Clients cannot add to the keys: of models only declared ones are named. Counts are exact from any number of
    threads; a fork's child begins at none.
    """

    def __init__(self) -> None:
        self._renew()
        _counts.add(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._counted: dict[tuple[str, str, int], int] = {}

    def add(self, protocol: str, model: str, status: int) -> None:
        """Count a request.

        Parameters
        ----------
        protocol : str
        model : str
            Empty where none that is declared was asked.
        status : int
        """
        key = protocol, model, status
        with self._lock:
            self._counted[key] = self._counted.get(key, 0) + 1

    def snapshot(self) -> RequestMetrics:
        """Copy the counts."""
        from infersdk.monitor.snapshot import RequestMetrics

        with self._lock:
            counted = dict(self._counted)
        return RequestMetrics(counted)


_counts: weakref.WeakSet[RequestCounts] = weakref.WeakSet()


def _begin_anew() -> None:
    for counts in list(_counts):
        counts._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


def request_id_of(request: Request) -> str | None:
    """The client's ``X-Request-ID``, if it may be written into headers and logs."""
    given = request.header("x-request-id")
    return given if given and _REQUEST_ID.fullmatch(given) else None


def new_request_id() -> str:
    """An id for a request whose client has given it none: 32 hexadecimal digits."""
    return os.urandom(16).hex()


class Trace(NamedTuple):
    """A ``traceparent`` header's contents.

    Attributes
    ----------
    trace_id, parent_id : str
        32 and 16 hexadecimal digits.
    is_sampled : bool
    """

    trace_id: str
    parent_id: str
    is_sampled: bool


def trace_of(request: Request) -> Trace | None:
    """Read ``traceparent`` (W3C Trace Context); None where there is none, or it is not valid."""
    given = request.header("traceparent")
    found = _TRACEPARENT.fullmatch(given.strip()) if given else None
    if found is None:
        return None
    version, trace_id, parent_id, flags, more = found.groups()
    if (
        version == "ff"
        or (version == "00" and more)
        or not int(trace_id, 16)
        or not int(parent_id, 16)
    ):
        return None
    return Trace(trace_id, parent_id, bool(int(flags, 16) & 1))
