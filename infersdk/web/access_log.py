"""The access log: a line of JSON for each request, in the log ``infersdk.access``.

What a client sends cannot break a line or fill the disk: a path is written as it came over the wire, percent-encoded,
and cut; of bodies, queries and tokens there is nothing. Where lines go is for `logging` to say.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from functools import lru_cache
from time import time_ns
from typing import Any
from urllib.parse import quote

from infersdk.web.json_rows import encode
from infersdk.web.outcome import Outcome
from infersdk.web.tracing import trace_ids

__all__ = ["AccessLog"]

_LONGEST = 256
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))


class AccessLog:
    """Writes a line for each request: an Observer.

    A handler gets the JSON as the record's message, and its members as attributes of the record. Those that a
    request does not have are left out:

    ``time`` (RFC 3339), ``request_id``, ``protocol``, ``http_method``, ``path`` (below the prefix), ``status``,
    ``body_bytes``, ``reply_bytes``, ``duration_ms``; ``model``, ``method``, ``rows``, ``client``, ``trace_id``,
    ``span_id``.

    Parameters
    ----------
    log : Logger, optional
        By default ``infersdk.access``, which is given the level INFO if it has none of its own.
    """

    def __init__(self, log: logging.Logger | None = None) -> None:
        if log is None:
            log = logging.getLogger("infersdk.access")
            if log.level == logging.NOTSET:
                log.setLevel(logging.INFO)
        self._log = log
        self._has_failed = False

    def __call__(self, outcome: Outcome) -> None:
        """Write one. What handlers raise is logged once, and does no harm."""
        log = self._log
        if not log.isEnabledFor(logging.INFO):
            return
        try:
            members = members_of(outcome)
            line = encode(members).decode()
            # As log.info() does it, but for the search of the stack for a caller, who is always this one.
            record = log.makeRecord(log.name, logging.INFO, __file__, 0, line, (), None)
            record.__dict__.update(members)
            log.handle(record)
        except Exception:
            if not self._has_failed:
                self._has_failed = True
                with suppress(Exception):
                    logging.getLogger("infersdk.web").exception("the access log failed")


def members_of(outcome: Outcome) -> dict[str, Any]:
    """What the log says of a request.

    Parameters
    ----------
    outcome : Outcome
    """
    (
        request,
        protocol,
        model,
        method,
        status,
        n_rows,
        body_bytes,
        reply_bytes,
        seconds,
        request_id,
    ) = outcome
    seconds_since_1970, ms = divmod(time_ns() // 1_000_000, 1000)
    members: dict[str, Any] = {
        "time": f"{_second(seconds_since_1970)}.{ms:03d}Z",
        "request_id": request_id,
        "protocol": protocol,
        "http_method": _plain(request.method),
        "path": _plain(request.path),
        "status": status,
        "body_bytes": body_bytes,
        "reply_bytes": reply_bytes,
        "duration_ms": round(seconds * 1e3, 3),
    }
    if model is not None:
        members["model"] = model
        if method is not None:
            members["method"] = method
        if n_rows is not None:
            members["rows"] = n_rows
    if request.client is not None:
        members["client"] = _plain(request.client)
    trace_id, span_id = trace_ids(request)
    if trace_id is not None:
        members["trace_id"] = trace_id
        members["span_id"] = span_id
    return members


@lru_cache(maxsize=2)
def _second(seconds_since_1970: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds_since_1970))


def _plain(text: str) -> str:
    """Printable ASCII, of a length that logs can take."""
    if len(text) > _LONGEST:
        text = text[:_LONGEST]
    if not (text.isascii() and text.isprintable()):
        text = quote(text, _PRINTABLE, errors="replace")[:_LONGEST]
    return text
