"""Clients that fire HTTP requests at a server and note every answer and how long it took.

They share the machine's cores with the server they measure, so they are lean: sockets, requests made
up beforehand, answers decoded afterwards. Each request has a connection of its own, which is what
gunicorn's sync workers offer.
"""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Outcome", "fire"]


@dataclass(frozen=True)
class Outcome:
    """What came of a number of requests.

    Parameters
    ----------
    answers : list
        The decoded JSON of each request, in the order of the requests.
    latencies_ms : ndarray, float64
        From opening the connection to the last byte of the answer.
    elapsed_s : float
        From the first request to the last answer, pauses between turns left out.
    """

    answers: list[Any]
    latencies_ms: np.ndarray
    elapsed_s: float

    @property
    def requests_per_s(self) -> float:
        return len(self.answers) / self.elapsed_s

    @classmethod
    def joined(cls, turns: Sequence[Outcome]) -> Outcome:
        """What came of several turns, one after the other."""
        return cls(
            [answer for turn in turns for answer in turn.answers],
            np.concatenate([turn.latencies_ms for turn in turns]),
            sum(turn.elapsed_s for turn in turns),
        )


def fire(
    port: int,
    path: str,
    payloads: Sequence[Any],
    *,
    clients: int,
    timeout_s: float = 60.0,
    on_answer: Callable[[], object] = lambda: None,
) -> Outcome:
    """POST each payload as JSON from ``clients`` threads; each sends its next when it has its answer.

    Raises
    ------
    RuntimeError
        A request failed or was not answered with status 200.
    """
    requests = [_request(path, payload) for payload in payloads]
    replies = [b""] * len(requests)
    latencies = np.zeros(len(requests))
    turns = itertools.count()
    failures: list[OSError] = []

    def work() -> None:
        while not failures and (i := next(turns)) < len(requests):
            start = time.perf_counter()
            try:
                replies[i] = _exchange(port, requests[i], timeout_s)
            except OSError as error:
                failures.append(error)
                return
            latencies[i] = 1e3 * (time.perf_counter() - start)
            on_answer()

    threads = [threading.Thread(target=work, daemon=True) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    elapsed_s = time.perf_counter() - start
    if failures:
        raise RuntimeError(f"POST {path} failed: {failures[0]!r}") from failures[0]
    return Outcome([_decode(path, reply) for reply in replies], latencies, elapsed_s)


def _request(path: str, payload: Any) -> bytes:
    body = json.dumps(payload).encode()
    head = (
        f"POST {path} HTTP/1.1\r\n"
        "Host: 127.0.0.1\r\n"
        "Connection: close\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _exchange(port: int, request: bytes, timeout_s: float) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout_s) as connection:
        connection.sendall(request)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def _decode(path: str, reply: bytes) -> Any:
    head, _, body = reply.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].split(b" ", 2)[1:2]
    if status != [b"200"]:
        raise RuntimeError(f"POST {path} was answered with {head[:60]!r}: {body[:300]!r}")
    return json.loads(body)
