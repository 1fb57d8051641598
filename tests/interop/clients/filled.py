"""Messages with something in every field: read alike by two sets of descriptors only if these agree.

What a field holds follows from its name and type; so where one set has another number or type for a field, its
neighbor reads something else, or nothing. Runs in the clients' environment and in the tests' own.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from typing import Any

CHOICES = ("bool_param", "int64_param", "string_param", "double_param", "uint64_param")
"""Of a oneof: which one is filled in turn."""

_BOOL, _STRING, _MESSAGE, _BYTES, _ENUM, _INT32, _FLOAT, _DOUBLE = 8, 9, 11, 12, 14, 5, 2, 1


def written(made: Any) -> list[str]:
    """A class's messages, filled with each choice, in base64."""
    filled = (fill(made(), choice) for choice in CHOICES)
    return [base64.b64encode(message.SerializeToString()).decode() for message in filled]


def differences(made: Any, given: list[str], fields: Mapping[str, list[str]]) -> list[str]:
    """Read what :func:`written` made with other descriptors; the fields that hold something else.

    ``fields`` has the names of fields that those descriptors know, by message.
    """
    found = []
    for choice, text in zip(CHOICES, given, strict=True):
        given_here = made.FromString(base64.b64decode(text))
        found += _differences(given_here, fill(made(), choice), fields, choice)
    return found


def fields_of(made: Any) -> tuple[str, list[str]]:
    """A class's name, without its package, and its fields."""
    descriptor = made.DESCRIPTOR
    return _name(descriptor), [field.name for field in descriptor.fields]


def fill(message: Any, choice: str) -> Any:
    """Fill a message."""
    for field in message.DESCRIPTOR.fields:
        oneof = field.containing_oneof
        if oneof is not None:
            names = [one.name for one in oneof.fields]
            if field.name != (choice if choice in names else names[0]):
                continue
        own = getattr(message, field.name)
        if _is_map(field):
            key, value = field.message_type.fields
            if value.type == _MESSAGE:
                fill(own[_value(key, 0)], choice)
            else:
                own[_value(key, 0)] = _value(value, 0)
        elif _is_repeated(field):
            for number in range(2):
                if field.type == _MESSAGE:
                    fill(own.add(), choice)
                else:
                    own.append(_value(field, number))
        elif field.type == _MESSAGE:
            own.SetInParent()  # it may have no fields
            fill(own, choice)
        else:
            setattr(message, field.name, _value(field, 0))
    return message


def _differences(given: Any, own: Any, fields: Mapping[str, list[str]], choice: str) -> list[str]:
    name = _name(own.DESCRIPTOR)
    known = fields.get(name, ())
    found = []
    for field in own.DESCRIPTOR.fields:
        if field.name not in known:
            continue  # only these descriptors know it
        if field.containing_oneof is not None:
            names = [one.name for one in field.containing_oneof.fields]
            if (choice in names) != (choice in known):
                continue  # only one of the two can choose so
        one, other = getattr(given, field.name), getattr(own, field.name)
        if field.type != _MESSAGE:
            pairs, is_same = [], one == other
        elif _is_map(field):
            is_same = set(one) == set(other)
            pairs = [(one[key], other[key]) for key in other if is_same]
        elif _is_repeated(field):
            is_same = len(one) == len(other)
            pairs = list(zip(one, other, strict=False))
        else:
            pairs, is_same = [(one, other)], True
        if not is_same:
            found.append(f"{name}.{field.name}")
        for left, right in pairs:
            if hasattr(right, "DESCRIPTOR"):
                found += _differences(left, right, fields, choice)
            elif left != right:
                found.append(f"{name}.{field.name}")
    return found


def _name(descriptor: Any) -> str:
    return str(descriptor.full_name).removeprefix(f"{descriptor.file.package}.")


def _is_map(field: Any) -> bool:
    return field.type == _MESSAGE and bool(field.message_type.GetOptions().map_entry)


def _is_repeated(field: Any) -> bool:
    known = getattr(field, "is_repeated", None)
    return bool(field.label == 3 if known is None else known)


def _value(field: Any, number: int) -> Any:
    seed = zlib.crc32(field.name.encode()) + number
    if field.type == _BOOL:
        return number == 0
    if field.type == _STRING:
        return f"{field.name} {number} é"
    if field.type == _BYTES:
        return f"{field.name} {number}".encode()
    if field.type in (_ENUM, _INT32):  # sent alike
        return 1
    if field.type in (_FLOAT, _DOUBLE):
        return seed % 1000 / 8
    return seed % 2**31
