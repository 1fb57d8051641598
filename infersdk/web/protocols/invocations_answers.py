"""Answers of invocations, in the form that ``Accept`` asks for: JSON, CSV, lines of JSON, a NumPy array."""

from __future__ import annotations

import csv
from collections.abc import Callable
from functools import lru_cache, partial
from io import StringIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.types import Method
from infersdk.web.json_rows import encode
from infersdk.web.problems import ProblemError, Reply
from infersdk.web.protocols.invocations_npy import write_npy

__all__ = ["answer_format", "writer"]

_JSON = (("content-type", "application/json"),)
_WRITTEN = (
    "application/json",
    "text/csv",
    "application/jsonlines",
    "application/jsonl",
    "application/x-ndjson",
    "application/x-npy",
)
"""In the order of preference, where a client likes several equally."""

_PARTS = frozenset({"tuple", "list", "dict"})


def answer_format(accept: str | None) -> str:
    """Say what a client wants of :data:`_WRITTEN`.

    Parameters
    ----------
    accept : str or None
        The request's header; None is JSON.

    Raises
    ------
    ProblemError
        406: none of these.
    """
    if not accept or accept in ("*/*", "application/json"):
        return "application/json"
    found = _chosen(accept)
    if found is None:
        raise _not_acceptable(f"got {accept[:100]}")
    return found


@lru_cache(maxsize=64)
def _chosen(accept: str) -> str | None:
    """By quality, then by how closely a range names a type (RFC 9110, 12.5.1)."""
    ranges: dict[str, float] = {}
    for part in accept.split(","):
        name, *parameters = (item.strip().lower() for item in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                quality = _quality(value)
        ranges[name] = quality
    best, best_quality = None, 0.0
    for kind in _WRITTEN:
        names = (kind, kind.partition("/")[0] + "/*", "*/*")
        quality = next((ranges[name] for name in names if name in ranges), 0.0)
        if quality > best_quality:
            best, best_quality = kind, quality
    return best


def _quality(value: str) -> float:
    try:
        quality = float(value)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0


def writer(content_type: str, method: Method | None) -> Callable[[list[Any]], Reply]:
    """Choose how answers of a method are written.

    Parameters
    ----------
    content_type : str
        As :func:`answer_format` gives it.
    method : Method or None

    Raises
    ------
    ProblemError
        406: its answers have several parts, which only JSON can hold.
    """
    if content_type == "application/json":
        return _as_json
    if method is not None and method.form in _PARTS:
        raise _not_acceptable(f"got {content_type}: the model answers in several parts")
    if content_type == "text/csv":
        return _as_csv
    if content_type == "application/x-npy":
        return _as_npy
    return partial(_as_lines, content_type)


def _as_json(answers: list[Any]) -> Reply:
    return Reply(200, encode({"predictions": answers[0]}), _JSON)


def _as_lines(content_type: str, answers: list[Any]) -> Reply:
    answer = _array(answers[0])
    body = b"".join(encode(row) + b"\n" for row in answer)
    return Reply(200, body, (("content-type", content_type),))


def _as_csv(answers: list[Any]) -> Reply:
    answer = _array(answers[0])
    if answer.ndim not in (1, 2):
        raise _not_acceptable(f"got text/csv: an answer of the shape {answer.shape} has no rows")
    buffer = StringIO()
    rows = answer.reshape(len(answer), -1) if answer.size else answer.reshape(len(answer), 0)
    csv.writer(buffer, lineterminator="\n").writerows(rows.tolist())
    return Reply(
        200,
        buffer.getvalue().encode("utf-8", "replace"),
        (("content-type", "text/csv; charset=utf-8"),),
    )


def _as_npy(answers: list[Any]) -> Reply:
    answer = _array(answers[0])
    if answer.dtype.kind in "OT":
        texts = answer.ravel().tolist()
        if not all(isinstance(text, str) for text in texts):
            raise _not_acceptable("got application/x-npy: the answer holds objects")
        answer = np.array(texts, dtype=np.str_).reshape(answer.shape)
    return Reply(200, write_npy(answer), (("content-type", "application/x-npy"),))


def _array(answer: Any) -> NDArray[Any]:
    """One array of any answer that is one."""
    if isinstance(answer, np.ndarray) and answer.ndim:
        return answer
    for name in ("toarray", "numpy", "to_numpy"):  # sparse matrices, tensors, DataFrames
        convert = getattr(answer, name, None)
        if convert is not None:
            return np.asarray(convert())
    if isinstance(answer, list):
        try:
            return np.asarray(answer)
        except ValueError:  # of several lengths
            pass
    raise _not_acceptable("and the model's answer is not one array")


def _not_acceptable(reason: str) -> ProblemError:
    return ProblemError(
        406,
        "not-acceptable",
        "The answer has no such form",
        f"Expected Accept to name application/json or another of {', '.join(_WRITTEN[1:])}, {reason}",
    )
