"""Who may ask: a bearer token, a function of the app's, and for admin pages at least this machine."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from ipaddress import ip_address

from infersdk.web.problems import ProblemError
from infersdk.web.protocol import Access
from infersdk.web.request import Request

__all__ = ["Guard", "GuardFunction", "is_loopback"]

GuardFunction = Callable[[Request], bool]

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


class Guard:
    """Lets a request through, or refuses it before its body is read.

    Parameters
    ----------
    tokens : sequence of str
        Any of them will do; none: no token is asked for.
    function : callable, optional
        Of the app's: True lets a request through, False refuses it with 403. It is called in the thread or on
        the event loop that answers, and must not block. A ProblemError that it raises is the reply.
    """

    def __init__(self, tokens: Sequence[str], function: GuardFunction | None = None) -> None:
        self._tokens = [token.encode() for token in tokens]
        self._function = function

    @property
    def asks(self) -> bool:
        """Whether anything is asked of a request at all."""
        return bool(self._tokens) or self._function is not None

    def check(self, request: Request, access: Access) -> None:
        """Refuse a request that may not be answered.

        Raises
        ------
        ProblemError
            401: there is no valid token. 403: the function says no, or an admin page is asked for from
            elsewhere and nothing guards it.
        """
        if access == "public":
            return
        if self._tokens:
            self._check_token(request.header("authorization") or "")
        if self._function is not None and not self._function(request):
            raise _forbidden("The request may not be answered: the app's guard refused it")
        if access == "admin" and not self.asks and not _is_of_this_machine(request):
            raise _forbidden(
                "Admin pages without a token or guard answer to this machine alone; set `token` or `guard`"
            )

    def _check_token(self, given: str) -> None:
        scheme, _, token = given.partition(" ")
        encoded = token.strip().encode("utf-8", "surrogatepass")
        # All are compared, each in a time that does not depend on where it differs.
        matches = [hmac.compare_digest(encoded, known) for known in self._tokens]
        if scheme.lower() != "bearer" or not any(matches):
            challenge = "Bearer" if not given else 'Bearer error="invalid_token"'
            raise ProblemError(
                401,
                "unauthorized",
                "A token is needed",
                "Expected a header `Authorization: Bearer ...` with a valid token, "
                + ("got another" if given else "got none"),
                [("www-authenticate", challenge)],
            )


def is_loopback(address: str | None) -> bool:
    """Whether an address is this machine's own loopback; a Unix socket's empty one is too.

    Parameters
    ----------
    address : str or None
        As hosts give it, with or without a port.
    """
    if address is None:
        return False
    if not address:
        return True
    host = address
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        parsed = ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost"
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def _is_of_this_machine(request: Request) -> bool:
    """A proxy on this machine speaks for clients that need not be."""
    return is_loopback(request.client) and not any(request.header(name) for name in _FORWARDED)


def _forbidden(detail: str) -> ProblemError:
    return ProblemError(403, "forbidden", "The request may not be answered", detail)
