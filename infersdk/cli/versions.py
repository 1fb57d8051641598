"""Installed versions, and conditions on them: ``"skl2onnx"``, ``"protobuf >= 7"``.

Only what ``pip`` has written about packages is read; nothing is imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import metadata

__all__ = ["VARIANTS", "holds", "installed", "release", "requirements"]

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "onnxruntime": (
        "onnxruntime",
        "onnxruntime-gpu",
        "onnxruntime-directml",
        "onnxruntime-openvino",
        "onnxruntime-rocm",
        "onnxruntime-qnn",
    ),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tf-nightly"),
    "xgboost": ("xgboost", "xgboost-cpu"),
}
"""Packages that several distributions install, and which."""

_CONDITION = re.compile(r"\s*([A-Za-z0-9._-]+)\s*(?:(<=|>=|==|<|>)\s*([0-9][0-9.]*))?\s*")


def installed(names: Sequence[str]) -> dict[str, str]:
    """Return the versions of those of the distributions that are installed, in the order given."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def holds(condition: str, versions: Mapping[str, str]) -> bool:
    """Whether a condition is true of the installed versions; a name alone asks whether it is there.

    Examples
    --------
    >>> holds("protobuf >= 7", {"protobuf": "7.1.0"})
    True
    >>> holds("torch", {"protobuf": "7.1.0"})
    False
    """
    match = _CONDITION.fullmatch(condition)
    if match is None:
        raise ValueError(f"Expected a condition such as 'protobuf >= 7', got {condition!r}")
    name, operator, bound = match.groups()
    found = [
        versions[variant] for variant in VARIANTS.get(name, (name,)) if variant in versions
    ] or ([versions[name]] if name in versions else [])
    if operator is None:
        return bool(found)
    return any(_compares(release(version), operator, release(bound)) for version in found)


def release(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, without trailing zeros.

    Examples
    --------
    >>> release("2.13.0+cpu")
    (2, 13)
    """
    match = re.match(r"[0-9]+(?:\.[0-9]+)*", version)
    numbers = [int(part) for part in match[0].split(".")] if match else [0]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def requirements(distribution: str = "infersdk") -> list[tuple[str, str | None, tuple[str, ...]]]:
    """Return what a distribution asks for: name, extra, and conditions such as ``"protobuf < 7"``."""
    try:
        lines = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return []
    asked = []
    for line in lines:
        text, _, marker = line.partition(";")
        match = re.match(r"\s*([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*(.*)", text)
        if match is None:
            continue
        name = match[1]
        extra = re.search(r"""extra\s*==\s*["']([^"']+)["']""", marker)
        bounds = re.findall(r"(<=|>=|==|<|>)\s*([0-9][0-9.]*)", match[2])
        conditions = tuple(f"{name} {operator} {bound}" for operator, bound in bounds)
        asked.append((name, extra[1] if extra else None, conditions))
    return asked


def _compares(left: tuple[int, ...], operator: str, right: tuple[int, ...]) -> bool:
    return {
        "<": left < right,
        "<=": left <= right,
        "==": left == right,
        ">=": left >= right,
        ">": left > right,
    }[operator]
