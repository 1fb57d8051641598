"""Whether the client of a WSGI request is still there.

WSGI has no word for it, but some servers put the connection into the environ: gunicorn (sync, gthread and
gevent workers) and Werkzeug's development server. Nothing is read from it, so a request that a client has
sent ahead on the same connection is neither lost nor mistaken for anything.

A client that has shut down its sending half looks like one that is gone, until something is written to it.
HTTP allows that, and browsers, proxies and HTTP libraries do not do it; nginx, in front of an app, takes it
for a departure too.
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["client_watch"]

_CONNECTIONS = ("gunicorn.socket", "gunicorn.sock", "werkzeug.socket")

# "The other side sends no more": what was sent before, and not read yet, does not hide it. Linux has it.
_GONE: int = getattr(select, "POLLRDHUP", 0)


def client_watch(environ: Mapping[str, Any]) -> Callable[[], bool] | None:
    """How to ask whether the request's client is gone; None where nobody can tell.

    Parameters
    ----------
    environ : mapping
        The request's WSGI environ.

    Returns
    -------
    callable or None
        ``is_gone() -> bool``, which takes microseconds and never blocks; for
        :func:`infersdk.runtime.waiting.abandoned_when`. None on systems other than Linux, and under
        servers that keep the connection to themselves (uWSGI, mod_wsgi, Granian).
    """
    if not _GONE:
        return None
    connection = next((environ[key] for key in _CONNECTIONS if key in environ), None)
    try:
        descriptor = connection.fileno() if connection is not None else -1
    except (AttributeError, OSError, ValueError):
        return None
    if descriptor < 0:
        return None
    poll = _real_poll()
    poll.register(descriptor, _GONE)  # what ends it altogether is always told

    def is_gone() -> bool:
        return bool(poll.poll(0))

    return is_gone


def _real_poll() -> Any:
    # gevent's own knows of nothing but reading and writing; the kernel's, asked for no time, blocks nobody.
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original("select", "poll")()
    return select.poll()
