"""JSON to rows and answers to JSON, by orjson: the only place that reads or writes JSON for requests.

orjson gives dicts and lists, which the compiled binder reads straight into the columns of the model's inputs;
numpy arrays are written without becoming lists first. NaN and infinity, which JSON does not have, become null.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from infersdk.errors import MissingDependencyError

try:
    import orjson
except ImportError as error:
    raise MissingDependencyError.for_extra("orjson", "web", "Answering requests") from error

__all__ = ["InvalidJSON", "decode", "decode_with_nan", "encode"]

InvalidJSON = orjson.JSONDecodeError
decode = orjson.loads

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def decode_with_nan(body: bytes | bytearray) -> Any:
    """Read JSON in which NaN and infinity may stand as Python writes them.

    Raises
    ------
    InvalidJSON
        It is not even that.
    """
    try:
        return decode(body)
    except InvalidJSON as error:
        if b"NaN" not in body and b"Infinity" not in body:
            raise
        try:
            value = json.loads(body)
            # Python's own reader takes deeper nesting, and text that is not Unicode.
            orjson.dumps(value)
        except (ValueError, TypeError, RecursionError):
            raise error from None
        return value


def encode(value: Any) -> bytes:
    """Write a model's answer, or what holds one, as JSON.

    Halves of surrogate pairs, which UTF-8 does not have and a path or a header can bring, become question marks.

    Parameters
    ----------
    value : object
        Of dicts, lists, tuples, numbers, text, numpy and scipy sparse arrays, torch tensors, DataFrames.

    Raises
    ------
    TypeError
        Something in it has no JSON form.
    """
    try:
        return orjson.dumps(value, _plain, _OPTIONS)
    except TypeError:
        # An array of another byte order, deep inside: now every array becomes a list first.
        try:
            return orjson.dumps(value, _plain, orjson.OPT_NON_STR_KEYS)
        except TypeError:
            return orjson.dumps(_writable(value), _plain, orjson.OPT_NON_STR_KEYS)


def _writable(value: Any) -> Any:
    """The same, with text that UTF-8 can write."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_writable(key): _writable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_writable(item) for item in value]
    if isinstance(value, np.ndarray) and value.dtype.kind in "OU":
        return _writable(value.tolist())
    return value


def _plain(value: Any) -> Any:
    """What orjson does not know by itself, as something that it does."""
    if isinstance(value, np.ndarray):
        # Objects, text, odd strides and byte orders.
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    for name in ("toarray", "numpy"):  # sparse matrices, tensors
        method = getattr(value, name, None)
        if method is not None:
            return np.ascontiguousarray(method())
    if hasattr(value, "to_dict"):  # DataFrames, Series
        return value.to_dict("records") if getattr(value, "ndim", 1) == 2 else value.tolist()
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "replace")
    if isinstance(value, (set, frozenset)):
        return list(value)
    raise TypeError(f"An answer of type {type(value).__name__} has no JSON form")
