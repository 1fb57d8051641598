"""The hashes by which a CatBoost model knows categories, and combinations of them.

A model keeps no category's text: one-hot splits compare the low 32 bits of CityHash64 (its first
published version) over the text in UTF-8, and tables of target statistics are looked up by a 64-bit
mixture of such hashes. Whole numbers are hashed as their decimal digits, and booleans as 1 and 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["category_hash", "city_hash", "mix"]

_MASK = (1 << 64) - 1
_K0, _K1 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273
_K2, _K3 = 0x9AE16A3B2F90404F, 0xC949D7C7509E6557
_PAIR = 0x9DDFEA08EB382D69
_MIX = np.uint64(0x4906BA494954CB65)


def category_hash(value: str | int | bool) -> int:
    """Return the signed 32-bit hash of a category.

    Parameters
    ----------
    value : str, int or bool

    Returns
    -------
    int
        From -2**31 to 2**31 - 1.
    """
    text = value if isinstance(value, str) else str(int(value))
    low = city_hash(text.encode()) & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low


def mix(parts: Iterable[NDArray[np.int64]]) -> NDArray[np.uint64]:
    """Return the hash of a combination: of category hashes in order, then of yes and no as 1 and 0.

    Parameters
    ----------
    parts : iterable of ndarray of int64
        They broadcast against each other.
    """
    mixed = np.zeros((), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            mixed = (mixed + part.astype(np.uint64) * _MIX) * _MIX
    return np.asarray(mixed, dtype=np.uint64)


def city_hash(data: bytes) -> int:
    """Return CityHash64 of some bytes, as its version 1.0.0 defines it."""
    size = len(data)
    if size <= 16:
        return _up_to_16(data, size)
    if size <= 32:
        return _up_to_32(data, size)
    if size <= 64:
        return _up_to_64(data, size)
    x = _word(data, 0)
    y = _word(data, size - 16) ^ _K1
    z = _word(data, size - 56) ^ _K0
    v = _weak(data, size - 64, size, y)
    w = _weak(data, size - 32, size * _K1, _K0)
    z += _shift(v[1]) * _K1
    x = _turn(z + x, 39) * _K1
    y = _turn(y, 33) * _K1
    for at in range(0, (size - 1) // 64 * 64, 64):
        x = _turn(x + y + v[0] + _word(data, at + 16), 37) * _K1
        y = _turn(y + v[1] + _word(data, at + 48), 42) * _K1
        x ^= w[1]
        y ^= v[0]
        z = _turn(z ^ w[0], 33)
        v = _weak(data, at, v[1] * _K1, x + w[0])
        w = _weak(data, at + 32, z + w[1], y)
        z, x = x, z
    low = _pair(v[0], w[0]) + _shift(y) * _K1 + z
    return _pair(low, _pair(v[1], w[1]) + x)


def _word(data: bytes, at: int, size: int = 8) -> int:
    return int.from_bytes(data[at : at + size], "little")


def _turn(value: int, bits: int) -> int:
    value &= _MASK
    return (value >> bits | value << (64 - bits)) & _MASK


def _shift(value: int) -> int:
    value &= _MASK
    return value ^ (value >> 47)


def _pair(low: int, high: int) -> int:
    first = _shift(((low ^ high) & _MASK) * _PAIR)
    second = _shift((high ^ first) * _PAIR)
    return second * _PAIR & _MASK


def _up_to_16(data: bytes, size: int) -> int:
    if size > 8:
        first, last = _word(data, 0), _word(data, size - 8)
        return _pair(first, _turn(last + size, size)) ^ last
    if size >= 4:
        return _pair(size + (_word(data, 0, 4) << 3), _word(data, size - 4, 4))
    if size:
        y = data[0] + (data[size >> 1] << 8)
        z = size + (data[size - 1] << 2)
        return _shift(y * _K2 ^ z * _K3) * _K2 & _MASK
    return _K2


def _up_to_32(data: bytes, size: int) -> int:
    a = _word(data, 0) * _K1
    b = _word(data, 8)
    c = _word(data, size - 8) * _K2
    d = _word(data, size - 16) * _K0
    return _pair(
        _turn(a - b, 43) + _turn(c, 30) + d,
        a + _turn(b ^ _K3, 20) - c + size,
    )


def _up_to_64(data: bytes, size: int) -> int:
    start = _half(data, _word(data, 0) + (size + _word(data, size - 16)) * _K0, 0, 24)
    end = _half(data, _word(data, 16) + _word(data, size - 32), size - 32, size - 8)
    mixed = _shift((start[0] + end[1]) * _K2 + (end[0] + start[1]) * _K0)
    return _shift(mixed * _K0 + start[1]) * _K2 & _MASK


def _half(data: bytes, a: int, at: int, last: int) -> tuple[int, int]:
    """Hash the words after ``at`` (8 and 16 bytes on) and the one at ``last``, from ``a`` on."""
    z = _word(data, last)
    b = _turn(a + z, 52)
    c = _turn(a, 37)
    a += _word(data, at + 8)
    c += _turn(a, 7)
    a += _word(data, at + 16)
    return a + z, b + _turn(a, 31) + c


def _weak(data: bytes, at: int, a: int, b: int) -> tuple[int, int]:
    words: Sequence[int] = [_word(data, at + offset) for offset in (0, 8, 16, 24)]
    a += words[0]
    b = _turn(b + a + words[3], 21)
    c = a
    a += words[1] + words[2]
    b += _turn(a, 44)
    return (a + words[3]) & _MASK, (b + c) & _MASK
