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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from infersdk.runtime.waiting import abandoned_when

__all__ = ["client_watch", "while_client_waits"]

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
    for key in _CONNECTIONS:
        connection = environ.get(key)
        if connection is not None:
            return _Watch(connection)
    return None


class _Watch:
    """Asks the kernel about a connection; nearly all requests are answered before anything is asked."""

    __slots__ = ("_connection", "_poll")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._poll: Any = None

    def __call__(self) -> bool:
        if self._poll is None:
            try:
                descriptor = self._connection.fileno()
            except (AttributeError, OSError, ValueError):
                return False  # nothing that can be asked
            if descriptor < 0:
                return False
            self._poll = _real_poll()
            self._poll.register(descriptor, _GONE)  # what ends it altogether is always told
        return bool(self._poll.poll(0))


@contextmanager
def while_client_waits(environ: Mapping[str, Any]) -> Iterator[None]:
    """Give up calls of models in the block when the request's client has gone away.

    For views of an app's own; the adapters' routes do it by themselves. A call that is answered at once
    asks nothing, and where nobody can tell, nothing happens.

    Parameters
    ----------
    environ : mapping
        The request's WSGI environ: ``request.environ`` in Flask, ``request.META`` in Django.

    Raises
    ------
    AbandonedError
        The client has gone, and the call was given up.

    Examples
    --------
    >>> from infersdk.web.wsgi_client import while_client_waits
    >>> with while_client_waits({"REQUEST_METHOD": "POST"}):
    ...     answer = 1  # model.predict(row)
    """
    is_gone = client_watch(environ)
    if is_gone is None:
        yield
        return
    with abandoned_when(is_gone):
        yield


def _real_poll() -> Any:
    # gevent's own knows of nothing but reading and writing; the kernel's, asked for no time, blocks nobody.
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None:
        return monkey.get_original("select", "poll")()
    return select.poll()
