"""Tensors as the Open Inference Protocol has them: a name, one of its datatypes, a shape, and data.

Here they are made of raw bytes or of lists, and become raw bytes or lists again; nothing here knows of HTTP, JSON
or gRPC. Raw bytes are little-endian, in C order. An element of BYTES is its length in 4 bytes and then itself;
models take and give text, so these are UTF-8 here.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infersdk.binding.foreign import dtype_named
from infersdk.binding.refusals import describe
from infersdk.errors import InputError

__all__ = [
    "DATATYPES",
    "Tensor",
    "check_shape",
    "datatype_of",
    "from_raw",
    "from_values",
    "to_raw",
    "to_tensor",
    "to_values",
]

DATATYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BF16": "bfloat16",
    "BYTES": "string",
}
"""Each datatype, and what a TensorSpec calls it."""

_DATATYPE_OF = {dtype: datatype for datatype, dtype in DATATYPES.items()}
_DTYPES = {
    datatype: np.dtype(dtype)
    for datatype, dtype in DATATYPES.items()
    if datatype not in ("BYTES", "BF16")
}
_MOST_AXES = 32
_MOST_EMPTY_ROWS = 10_000
"""A request of some bytes could otherwise ask for answers to billions of rows, each of nothing."""

_LENGTH = struct.Struct("<I")


class Tensor(NamedTuple):
    """A tensor that a request brings or a response carries.

    Attributes
    ----------
    name : str
    datatype : str
        A key of :data:`DATATYPES`.
    shape : tuple of int
    data : numpy.ndarray
        Of this shape, and of the datatype's dtype; BYTES are an object array of str (of str or bytes, where
        a model gives them). It may share memory with what it was made of, be read-only, and not be aligned.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: NDArray[Any]


def datatype_of(dtype: str) -> str | None:
    """Return the datatype of a TensorSpec's dtype; None where there is none (complex numbers, float8)."""
    return _DATATYPE_OF.get(dtype)


def _dtype(name: str, datatype: str) -> np.dtype[Any]:
    dtype = _DTYPES.get(datatype)
    if dtype is None:
        if datatype == "BF16":
            return dtype_named("bfloat16")
        raise InputError.mismatch(
            expected=f"one of the datatypes {', '.join(DATATYPES)}",
            given=f"{datatype[:40]!r}",
            field=name,
        )
    return dtype


def check_shape(name: str, shape: Any) -> tuple[int, ...]:
    """Return a shape that came from outside as a tuple.

    Raises
    ------
    InputError
        It is not a short list of whole numbers from 0, or of very many empty rows.
    """
    if not isinstance(shape, (list, tuple)) or len(shape) > _MOST_AXES:
        raise _bad_shape(name, shape)
    for size in shape:
        if type(size) is not int or not 0 <= size < 2**63:
            raise _bad_shape(name, shape)
    if 0 in shape:
        n_empty = math.prod(shape[: shape.index(0)])
        if n_empty > _MOST_EMPTY_ROWS:
            raise InputError.mismatch(
                expected=f"up to {_MOST_EMPTY_ROWS:,} rows that are empty",
                given=f"the shape {_shown(shape)}",
                field=name,
            )
    return tuple(shape)


def _shown(shape: Any) -> str:
    """What came for a shape may be lists in lists, any number deep, or very long."""
    if not isinstance(shape, (list, tuple)) or len(shape) > _MOST_AXES:
        return describe(shape)
    sizes = ", ".join(repr(size) if type(size) is int else describe(size) for size in shape)
    return f"[{sizes}]"[:80]


def _bad_shape(name: str, shape: Any) -> InputError:
    return InputError.mismatch(
        expected=f"a shape of up to {_MOST_AXES} whole numbers from 0",
        given=_shown(shape),
        field=name,
    )


# -- raw bytes --------------------------------------------------------------------------------------


def from_raw(
    name: str, datatype: str, shape: tuple[int, ...], raw: bytes | bytearray | memoryview
) -> Tensor:
    """Make a tensor of raw bytes.

    Parameters
    ----------
    name, datatype : str
    shape : tuple of int
        As :func:`check_shape` returns it.
    raw : bytes-like
        All of them, and nothing else. Numbers are read where they are, without a copy.

    Raises
    ------
    InputError
        The bytes are more or fewer than the shape takes, or not what the datatype holds.
    MissingDependencyError
        The datatype is BF16, and ml_dtypes is not installed.
    """
    n = math.prod(shape)
    if datatype == "BYTES":
        return Tensor(name, datatype, shape, _texts_from_raw(name, shape, n, raw))
    dtype = _dtype(name, datatype)
    if n * dtype.itemsize != len(raw):
        raise InputError.mismatch(
            expected=f"{n * dtype.itemsize:,} bytes for {datatype} {list(shape)}",
            given=f"{len(raw):,}",
            field=name,
        )
    flat: NDArray[Any] = np.frombuffer(raw, dtype.newbyteorder("<")) if n else np.empty(0, dtype)
    if datatype == "BOOL" and n and int(flat.view(np.uint8).max()) > 1:
        raise InputError.mismatch(
            expected="bytes 0 and 1 for BOOL",
            given=f"the byte {int(flat.view(np.uint8).max())}",
            field=name,
        )
    return Tensor(name, datatype, shape, _reshaped(name, flat, shape))


def _reshaped(name: str, flat: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    try:
        return flat.reshape(shape)
    except ValueError:  # an axis of 0 beside enormous ones
        raise _bad_shape(name, shape) from None


def _texts_from_raw(
    name: str, shape: tuple[int, ...], n: int, raw: bytes | bytearray | memoryview
) -> NDArray[Any]:
    # Each takes at least its length: nothing is made for elements that cannot be there.
    if n * _LENGTH.size > len(raw):
        raise InputError.mismatch(
            expected=f"at least {n * _LENGTH.size:,} bytes for BYTES {list(shape)}",
            given=f"{len(raw):,}",
            field=name,
        )
    view = memoryview(raw)
    end = len(view)
    texts = np.empty(n, dtype=object)
    at = 0
    for index in range(n):
        first = at + _LENGTH.size
        last = first + _LENGTH.unpack_from(view, at)[0] if first <= end else end + 1
        if last > end:
            raise InputError.mismatch(
                expected=f"an element of BYTES within the tensor's {end:,} bytes",
                given=f"one at position {index} that is not",
                field=name,
            )
        texts[index] = _text(name, index, view[first:last])
        at = last
    if at != end:
        raise InputError.mismatch(
            expected=f"{at:,} bytes for the {n:,} elements of BYTES {list(shape)}",
            given=f"{end:,}",
            field=name,
        )
    return _reshaped(name, texts, shape)


def _text(name: str, index: int, raw: bytes | memoryview) -> str:
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError:
        raise InputError.mismatch(
            expected="text in UTF-8", given=f"other bytes at position {index}", field=name
        ) from None


def to_raw(tensor: Tensor) -> bytes | memoryview:
    """Give a tensor's raw bytes; numbers without a copy where they lie in order already."""
    if tensor.datatype == "BYTES":
        parts: list[bytes] = []
        for element in tensor.data.ravel().tolist():
            encoded = _encoded(element)
            parts += (_LENGTH.pack(len(encoded)), encoded)
        return b"".join(parts)
    data = tensor.data
    if sys.byteorder == "big" or not data.dtype.isnative:
        data = data.astype(data.dtype.newbyteorder("<"))
    if not data.size:
        return b""
    # As plain bytes: a memoryview knows neither float16 nor bfloat16.
    return np.ascontiguousarray(data).reshape(-1).view(np.uint8).data


def _encoded(element: Any) -> bytes:
    if isinstance(element, bytes):
        return element
    return ("" if element is None else str(element)).encode("utf-8", "replace")


# -- lists ------------------------------------------------------------------------------------------


def from_values(name: str, datatype: str, shape: tuple[int, ...], values: Sequence[Any]) -> Tensor:
    """Make a tensor of a list of values, flat or nested as the shape says.

    Parameters
    ----------
    name, datatype : str
    shape : tuple of int
        As :func:`check_shape` returns it.
    values : sequence
        Numbers, truth values, or text; text may be bytes of UTF-8. None is NaN for floats, as JSON has no NaN.

    Raises
    ------
    InputError
        They are more or fewer than the shape takes, nested otherwise, or not what the datatype holds.
    MissingDependencyError
        The datatype is BF16, and ml_dtypes is not installed.
    """
    flat = _flat(name, shape, values)
    kinds = set(map(type, flat))
    data: NDArray[Any]
    if datatype == "BYTES":
        data = np.empty(len(flat), dtype=object)
        data[:] = flat if kinds <= {str} else _texts(name, flat)
        return Tensor(name, datatype, shape, _reshaped(name, data, shape))
    dtype = _dtype(name, datatype)
    # NumPy would read numbers in text, and cut off fractions.
    takes = _TAKES[datatype]
    if not kinds <= takes:
        index, other = next((i, v) for i, v in enumerate(flat) if type(v) not in takes)
        raise _bad_value(name, datatype, other, index)
    try:
        if datatype in _NARROW:
            data = _narrowed(name, datatype, flat, dtype)
        else:
            data = np.array(flat, dtype=dtype)
    except OverflowError:
        index, other = _first_too_large(flat, dtype)
        raise _bad_value(name, datatype, other, index) from None
    return Tensor(name, datatype, shape, _reshaped(name, data, shape))


_NARROW = frozenset({"FP16", "FP32", "BF16"})
_WHOLE = frozenset({int, bool})
_REAL: frozenset[type] = frozenset({int, float, bool, type(None)})
_TAKES: dict[str, frozenset[type]] = {
    "BOOL": frozenset({bool}),
    **{datatype: _WHOLE for datatype, dtype in _DTYPES.items() if dtype.kind in "iu"},
    **dict.fromkeys(("FP16", "FP32", "FP64", "BF16"), _REAL),
}


def _flat(name: str, shape: tuple[int, ...], values: Sequence[Any]) -> Sequence[Any]:
    """Take nested lists apart, which may be flat or as the shape says."""
    level: Sequence[Any] = values
    sizes = [len(level)]
    while level and isinstance(level[0], (list, tuple)) and len(sizes) <= len(shape):
        if not set(map(type, level)) <= {list, tuple} or len(set(map(len, level))) > 1:
            raise InputError.mismatch(
                expected=f"values nested as the shape {list(shape)} says",
                given="lists of several lengths, or values beside lists",
                field=name,
            )
        sizes.append(len(level[0]))
        level = list(chain.from_iterable(level))
    n = math.prod(shape)
    if len(level) != n or (len(sizes) > 1 and tuple(sizes) != shape):
        given = f"{len(level):,}" if len(sizes) == 1 else f"lists of the shape {sizes}"
        raise InputError.mismatch(
            expected=f"{n:,} values for the shape {list(shape)}", given=given, field=name
        )
    return level


def _narrowed(name: str, datatype: str, flat: Sequence[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Infinity itself is no error here; a number that becomes infinite is."""
    with np.errstate(over="ignore"):
        data: NDArray[Any] = np.array(flat, dtype=dtype)
    for index in np.flatnonzero(np.isinf(data)).tolist():
        if math.isfinite(flat[index]):
            raise _bad_value(name, datatype, flat[index], index)
    return data


def _texts(name: str, flat: Sequence[Any]) -> list[str]:
    texts = []
    for index, value in enumerate(flat):
        if isinstance(value, bytes):
            value = _text(name, index, value)
        elif type(value) is not str:
            raise _bad_value(name, "BYTES", value, index)
        texts.append(value)
    return texts


def _bad_value(name: str, datatype: str, value: Any, index: int) -> InputError:
    expected = "text for BYTES" if datatype == "BYTES" else f"values of {datatype}"
    return InputError.mismatch(
        expected=expected, given=f"{describe(value)} at position {index}", field=name
    )


def _first_too_large(flat: Sequence[Any], dtype: np.dtype[Any]) -> tuple[int, Any]:
    for index, value in enumerate(flat):
        try:
            np.array(value, dtype=dtype)
        except OverflowError:
            return index, value
    return 0, flat[0]


def to_values(tensor: Tensor) -> list[Any]:
    """Give a tensor's values as a flat list, text as str."""
    values: list[Any] = tensor.data.ravel().tolist()
    if tensor.datatype == "BYTES":
        return [
            value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
            for value in ("" if value is None else value for value in values)
        ]
    return values


# -- answers ----------------------------------------------------------------------------------------


def to_tensor(name: str, answer: Any) -> Tensor:
    """Make a tensor of what a model answered.

    Parameters
    ----------
    name : str
    answer : object
        An array of any library, a sparse matrix, a DataFrame, a list.

    Raises
    ------
    TypeError
        It has no form as one tensor.
    """
    if type(answer) is not np.ndarray:
        answer = _dense(name, answer)
    dtype = answer.dtype
    datatype = _DATATYPE_OF.get(dtype.name)
    if datatype is None:
        if dtype.kind in "UST":
            return Tensor(name, "BYTES", answer.shape, answer.astype(object))
        if dtype.kind == "O":
            return _of_objects(name, answer)
        raise TypeError(
            f"The output `{name}` is of {dtype}, for which the protocol has no datatype"
        )
    return Tensor(name, datatype, answer.shape, answer)


def _dense(name: str, answer: Any) -> NDArray[Any]:
    for method in ("toarray", "numpy"):  # sparse matrices, tensors
        convert = getattr(answer, method, None)
        if convert is not None:
            return np.asarray(convert())
    if hasattr(answer, "to_numpy"):  # DataFrames, Series
        return np.asarray(answer.to_numpy())
    try:
        return np.asarray(answer)
    except ValueError as error:
        raise TypeError(
            f"The output `{name}` is a {type(answer).__name__}, not one tensor"
        ) from error


def _of_objects(name: str, answer: NDArray[Any]) -> Tensor:
    """Objects are text, unless all of them are numbers."""
    values = answer.ravel().tolist()
    kinds = {type(value) for value in values}
    if values and kinds <= {bool, int, float}:
        typed = np.array(values).reshape(answer.shape)
        if typed.dtype != object:
            return to_tensor(name, typed)
    if not all(isinstance(value, (str, bytes, int, float, type(None))) for value in values):
        other = next(v for v in values if not isinstance(v, (str, bytes, int, float, type(None))))
        raise TypeError(f"The output `{name}` holds a {type(other).__name__}, which no tensor does")
    return Tensor(name, "BYTES", answer.shape, answer)
