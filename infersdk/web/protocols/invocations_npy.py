"""NumPy's .npy format, read as a view of the request's body; never a pickle."""

from __future__ import annotations

import math
import sys
from functools import lru_cache
from io import BytesIO
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from infersdk.errors import InputError

__all__ = ["read_npy", "write_npy"]

_MOST_HEADER_BYTES = 10_000  # NumPy itself refuses longer ones
_READERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy(body: bytes | bytearray, *, model: str) -> NDArray[Any]:
    """Read an array from the .npy format, version 1 or 2.

    Parameters
    ----------
    body : bytes or bytearray
    model : str
        Name in messages.

    Returns
    -------
    ndarray
        Over the memory of the body, whatever its order and byte order.

    Raises
    ------
    InputError
        It is no such array, one of objects, or its bytes are more or fewer than its header says.
    """
    start = _start_of_data(body)
    try:
        shape, is_fortran, dtype = _header(bytes(body[:start]))
    except Exception:
        # What is read may be anything, and NumPy evaluates it as a literal: even its MemoryError is about the text.
        _refuse(
            "an array in NumPy's .npy format, version 1 or 2", "a body with another header", model
        )
    if dtype.hasobject:
        _refuse("an array of numbers, truth values or text", "one of Python objects", model)
    if any(size < 0 for size in shape) or not dtype.itemsize:
        _refuse("an array of a plain shape and dtype", f"{dtype} {shape}", model)
    count = math.prod(shape)
    size_bytes = len(body) - start
    if count * dtype.itemsize != size_bytes:
        _refuse(f"{count * dtype.itemsize:,} bytes for {dtype} {shape}", f"{size_bytes:,}", model)
    try:
        flat = np.frombuffer(body, dtype, count, start) if count else np.empty(0, dtype)
        array = flat.reshape(shape, order="F" if is_fortran else "C")
    except ValueError:  # an axis of 0 beside enormous ones
        _refuse("an array of a plain shape and dtype", f"{dtype} {shape}", model)
    if not _is_unicode(flat):
        _refuse("an array of text", "characters that Unicode does not have", model)
    return array


def _start_of_data(body: bytes | bytearray) -> int:
    """After the magic text, the version, the header's length and the header; too far where these are not."""
    first = 10 if body[6:7] == b"\x01" else 12
    length = int.from_bytes(body[8:first], "little")
    return first + min(length, _MOST_HEADER_BYTES + 1)


@lru_cache(maxsize=64)
def _header(head: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Reading one takes several times as long as all the rest, and clients send the same again."""
    stream = BytesIO(head)
    read = _READERS[np.lib.format.read_magic(stream)]
    shape, is_fortran, dtype = read(stream)
    return shape, is_fortran, dtype


def _is_unicode(flat: NDArray[Any]) -> bool:
    """NumPy takes any four bytes for a character, Python does not."""
    if flat.dtype.names:
        return all(_is_unicode(flat[name]) for name in flat.dtype.names)
    if flat.dtype.kind != "U" or not flat.size:
        return True
    native = np.ascontiguousarray(flat).astype(flat.dtype.newbyteorder("="), copy=False)
    codes = native.reshape(-1).view(np.uint32)
    is_surrogate = (codes >= 0xD800) & (codes <= 0xDFFF)
    return bool(codes.max() <= sys.maxunicode) and not is_surrogate.any()


def _refuse(expected: str, given: str, model: str) -> NoReturn:
    raise InputError.mismatch(expected=expected, given=given[:200], model=model)


def write_npy(array: NDArray[Any]) -> bytes:
    """Write an array in the .npy format.

    Raises
    ------
    ValueError
        It is one of objects.
    """
    buffer = BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()
