"""Ask a server about rows, and compare its answers with the model's."""

from __future__ import annotations

import http.client
import json
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import Any

from benchmarks.runner import ATOL, RTOL, DifferentAnswersError

__all__ = ["ask", "await_answer", "check", "equal"]

THREADS = 4
"""Enough that all workers are asked."""
START_S = 30.0


def ask(port: int, path: str, body: bytes) -> Any:
    """POST a body on a connection of its own; give the answer's JSON, or its text where that is none.

    Raises
    ------
    DifferentAnswersError
        The status is not 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        said = response.read()
    finally:
        connection.close()
    if response.status != 200:
        raise DifferentAnswersError(
            f"expected an answer with status 200 to {body[:60]!r}..., got {response.status}: {said[:500]!r}"
        )
    try:
        return json.loads(said)
    except ValueError:
        return said.decode()


def await_answer(port: int, path: str, body: bytes) -> None:
    """Ask until there is an answer: a proxy may listen before it knows its workers.

    Raises
    ------
    DifferentAnswersError
        There is none after half a minute.
    """
    ends = time.monotonic() + START_S
    while True:
        try:
            ask(port, path, body)
            return
        except (DifferentAnswersError, OSError) as error:
            if time.monotonic() > ends:
                raise DifferentAnswersError(f"no answer after {START_S:.0f} s: {error}") from error
        time.sleep(0.1)


def check(port: int, path: str, bodies: Sequence[bytes], expected: Sequence[Any]) -> None:
    """Ask about all these bodies, from several connections at a time.

    Raises
    ------
    DifferentAnswersError
        An answer is none, or not the one expected.
    """
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(ask, repeat(port), repeat(path), bodies))
    for i, (answer, wanted) in enumerate(zip(answers, expected, strict=True)):
        if not equal(answer, wanted):
            raise DifferentAnswersError(f"row {i}: expected {wanted!r}, got {answer!r}")


def equal(given: Any, expected: Any) -> bool:
    """Whether two JSON values are the same, but for the rounding of numbers that are not whole."""
    if isinstance(expected, float) and isinstance(given, (float, int)):
        return math.isclose(given, expected, rel_tol=RTOL, abs_tol=ATOL)
    if type(given) is not type(expected):
        return False
    if isinstance(expected, dict):
        return given.keys() == expected.keys() and all(
            equal(given[key], value) for key, value in expected.items()
        )
    if isinstance(expected, list):
        return len(given) == len(expected) and all(map(equal, given, expected))
    return bool(given == expected)
