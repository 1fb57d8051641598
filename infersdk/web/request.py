"""A request as every host hands it over: what it asks for, and its headers. Its body comes beside it."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Header", "Request"]

Header = Callable[[str], str | None]
"""Gives a request's header by its name in small letters, or None."""


class Request:
    """A request without its body.

    Parameters
    ----------
    method : str
        The HTTP method, in capitals.
    path : str
        Below the prefix, beginning with ``/``.
    header : callable
        ``header("content-type")``: the request's header, or None. Names are in small letters.
    client : str, optional
        The address that the connection comes from: the client's, or the last proxy's.
    query : str
        What follows the ``?``, as it came.
    """

    __slots__ = ("client", "header", "method", "path", "query")

    def __init__(
        self,
        method: str,
        path: str,
        header: Header,
        client: str | None = None,
        query: str = "",
    ) -> None:
        self.method = method
        self.path = path
        self.header = header
        self.client = client
        self.query = query

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path}>"
