"""Clients that ask a server without pause and count, exactly, what becomes of every request.

Half of them open a connection for each request. The others keep theirs, and send a request again over a new one
when the server has closed it before any byte of an answer: a server may close an idle connection at any time
(RFC 9112, 9.3.1), and HTTP libraries do the same.
"""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Self

from tests.web.servers import RunningServer

__all__ = ["REFUSED", "UNANSWERED", "Load", "Outcome"]

ANSWERED = "answered"
REFUSED = "refused"  # no connection
UNANSWERED = "unanswered"  # a connection, and not one byte of an answer
TRUNCATED = "truncated"  # part of an answer
WRONG = "wrong"  # another status, or another answer

_GONE = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)


@dataclass(frozen=True)
class Outcome:
    """What became of one request."""

    number: int
    kind: str
    sent_s: float  # time.monotonic()
    detail: str = ""


@dataclass
class Load:
    """Clients in threads, from ``with load:`` until its end.

    Parameters
    ----------
    server : RunningServer
    body : bytes
        Of every request, which is a POST to ``path``.
    expected : collection of bytes
        The bodies that an answer may have.
    delays_ms : sequence of int
        Taken in turn: how long the app is to think, as the header ``x-delay-ms``.
    """

    server: RunningServer
    path: str
    body: bytes
    expected: Collection[bytes]
    n_clients: int = 6
    delays_ms: tuple[int, ...] = (0, 0, 0, 40)
    headers: Mapping[str, str] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    bodies: set[bytes] = field(default_factory=set)
    sent_again: int = 0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._numbers = itertools.count()
        self._threads = [
            threading.Thread(target=self._client, args=(n % 2 == 1,)) for n in range(self.n_clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def count(self) -> Counter[str]:
        """How many requests had each outcome."""
        return Counter(outcome.kind for outcome in self.outcomes)

    def failures(self, *but: str) -> list[Outcome]:
        """All that were not answered, but for those outcomes."""
        return [one for one in self.outcomes if one.kind not in (ANSWERED, *but)]

    def answered(self) -> int:
        """How many were, so far."""
        return sum(outcome.kind == ANSWERED for outcome in list(self.outcomes))

    def _client(self, keeps: bool) -> None:
        kept: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            number = next(self._numbers)
            fresh = kept is None
            connection = kept or self.server.connect()
            outcome = self._ask(connection, number, keeps)
            if outcome.kind == UNANSWERED and not fresh:
                self.sent_again += 1
                connection.close()
                connection = self.server.connect()
                outcome = self._ask(connection, number, keeps)
            self.outcomes.append(outcome)
            if keeps and outcome.kind == ANSWERED and connection.sock is not None:
                kept = connection
            else:
                connection.close()
                kept = None
            if outcome.kind == REFUSED:
                self._stop.wait(0.01)
        if kept is not None:
            kept.close()

    def _ask(self, connection: http.client.HTTPConnection, number: int, keeps: bool) -> Outcome:
        headers = {
            "content-type": "application/json",
            "connection": "keep-alive" if keeps else "close",
            "x-number": str(number),
            "x-delay-ms": str(self.delays_ms[number % len(self.delays_ms)]),
            **self.headers,
        }
        sent_s = time.monotonic()
        begun = False
        try:
            if connection.sock is None:
                connection.connect()
            connection.request("POST", self.path, self.body, headers)
            response = connection.getresponse()
            begun = True
            body = response.read()
        except ConnectionRefusedError as error:
            return Outcome(number, REFUSED, sent_s, repr(error))
        except (OSError, http.client.HTTPException) as error:
            kind = UNANSWERED if isinstance(error, _GONE) and not begun else TRUNCATED
            return Outcome(number, kind, sent_s, repr(error))
        if response.status != 200 or body not in self.expected:
            return Outcome(number, WRONG, sent_s, f"{response.status} {body[:200]!r}")
        self.bodies.add(body)
        return Outcome(number, ANSWERED, sent_s)
