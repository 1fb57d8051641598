"""Large tensors in and out of messages without the copies that protobuf would make of them.

A message is a sequence of fields in any order: key, length, contents. So the raw tensors of a request can be cut
out of it where they lie, before protobuf reads the rest; and those of a response can be put behind what protobuf has
written of it.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["in_stream", "with_raw", "without_raw"]

_RAW_INPUT_CONTENTS = 7 << 3 | 2
_RAW_OUTPUT_CONTENTS = bytes([6 << 3 | 2])
_INFER_RESPONSE = bytes([2 << 3 | 2])
_LENGTH_DELIMITED = 2


def without_raw(body: bytes) -> tuple[bytes, list[memoryview]] | None:
    """Cut ``raw_input_contents`` out of a ModelInferRequest.

    Parameters
    ----------
    body : bytes

    Returns
    -------
    tuple of bytes and list of memoryview, or None
        The other fields, and the contents where they lie. None for a message that protobuf must read whole, or
        refuse.
    """
    view = memoryview(body)
    end = len(body)
    raw: list[memoryview] = []
    others: list[memoryview] = []
    at = others_from = 0
    while at < end:
        begin = at
        key = body[at]
        if key & 7 != _LENGTH_DELIMITED or key >= 0x80:
            return None
        size = shift = 0
        while True:
            at += 1
            if at >= end or shift > 28:
                return None
            byte = body[at]
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        at += 1 + size
        if at > end:
            return None
        if key == _RAW_INPUT_CONTENTS:
            raw.append(view[at - size : at])
            if begin > others_from:
                others.append(view[others_from:begin])
            others_from = at
    others.append(view[others_from:])
    return b"".join(others), raw


def with_raw(head: bytes, raw: Sequence[bytes | memoryview]) -> bytes:
    """Put ``raw_output_contents`` behind the other fields of a ModelInferResponse.

    Parameters
    ----------
    head : bytes
        The others, serialized.
    raw : sequence of bytes-like
        Of one byte an element.
    """
    parts: list[bytes | memoryview] = [head]
    for contents in raw:
        parts += (_RAW_OUTPUT_CONTENTS, _varint(len(contents)), contents)
    return b"".join(parts)


def in_stream(response: bytes) -> bytes:
    """Make a ModelStreamInferResponse of a ModelInferResponse.

    Parameters
    ----------
    response : bytes
    """
    return b"".join((_INFER_RESPONSE, _varint(len(response)), response))


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    digits = bytearray()
    while number >= 0x80:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)
