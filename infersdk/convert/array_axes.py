"""Which axes are dynamic, told from shapes alone: those of the answers to other numbers of rows and lengths.

The arrays may be any framework's, or stand for ones that were never computed, as long as they have a shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from infersdk.types import Dim, TensorSpec

__all__ = [
    "BATCH",
    "FIVE",
    "ROWS",
    "THREE",
    "fixed_but",
    "name_lengths",
    "name_rows",
    "relaxed",
    "rows_of",
    "sizes_of",
]

BATCH = "N"
"""Name of an axis of rows that do not influence each other."""

ROWS = "rows"
"""Name of a dynamic axis 0 whose entries do influence each other."""

THREE, FIVE = 3, 5
"""Numbers of rows by which an axis of rows is recognized."""


def name_rows(
    three: Sequence[Any], five: Sequence[Any], answers: list[list[Dim] | None]
) -> list[int | None] | None:
    """Name the axis of rows ``"N"`` in the answers' shapes, told from those to three and to five rows.

    Returns
    -------
    axes : list of (int or None), or None
        Where each answer has its rows, None for one that has none; None if no row of an answer can be told
        from the others.
    """
    axes: list[int | None] = []
    separate = len(three) == len(five) == len(answers)
    for index, (small, large) in enumerate(zip(three, five, strict=False)):
        shape = answers[index] if index < len(answers) else None
        if shape is None or not len(small.shape) == len(large.shape) == len(shape):
            if index < len(answers):
                answers[index] = None
            separate = False
            continue
        pairs = list(zip(small.shape, large.shape, strict=True))
        grown = [axis for axis, pair in enumerate(pairs) if pair == (THREE, FIVE)]
        for axis, (before, after) in enumerate(pairs):
            if before != after:
                shape[axis] = BATCH if axis in grown else None
        axes.append(grown[0] if len(grown) == 1 else None)
        separate = separate and len(grown) <= 1 and (bool(grown) or None not in shape)
    return axes if separate else None


def name_lengths(
    base: Sequence[Any],
    places: Sequence[tuple[int, int]],
    longer: Callable[[Sequence[tuple[int, int]]], Sequence[Any] | None],
    shapes: list[list[Dim]],
    fixed: Sequence[Sequence[int]],
    answers: list[list[Dim] | None],
    *,
    height_axis: int = 1,
) -> None:
    """Name the axes that the model takes at another size: each alone, or all of one size.

    Parameters
    ----------
    base : sequence of arrays
        What was asked.
    places : sequence of (int, int)
        Inputs and their axes that may be dynamic.
    longer : callable
        ``longer(places)``: the answers where these axes are longer by one; None where that is not taken.
    shapes, answers : list
        Of the inputs and the answers; the names are written into them.
    fixed : sequence
        The answers' shapes as they are for ``base``.
    height_axis : int
        Of images; their width is the next axis.
    """
    tied: dict[int, list[tuple[int, int]]] = {}
    groups = []
    for place in places:
        if (answer := longer([place])) is not None:
            groups.append(([place], answer))
        else:
            tied.setdefault(base[place[0]].shape[place[1]], []).append(place)
    for group in tied.values():
        if len(group) > 1 and (answer := longer(group)) is not None:
            groups.append((group, answer))
    taken: set[str] = set()
    for group, answer in sorted(groups, key=lambda item: item[0]):
        index, axis = group[0]
        size = base[index].shape[axis]
        name = _axis_name(len(base[index].shape), axis, height_axis, taken)
        for index, axis in group:
            shapes[index][axis] = name
        for position, (old, array) in enumerate(zip(fixed, answer, strict=False)):
            shape = answers[position]
            if shape is None or len(array.shape) != len(shape):
                answers[position] = None
                continue
            for axis, (before, after) in enumerate(zip(old, array.shape, strict=True)):
                if before != after and isinstance(shape[axis], int):
                    shape[axis] = name if (before, after) == (size, size + 1) else None


def sizes_of(specs: Sequence[TensorSpec], arrays: Sequence[Any]) -> dict[str, int]:
    """Return the example's size of every named axis."""
    sizes: dict[str, int] = {}
    for spec, array in zip(specs, arrays, strict=True):
        for axis, dim in enumerate(spec.shape or ()):
            if isinstance(dim, str):
                sizes.setdefault(dim, array.shape[axis])
    return sizes


def rows_of(specs: Sequence[TensorSpec]) -> list[int]:
    """Return the inputs whose axis 0 counts rows."""
    return [i for i, spec in enumerate(specs) if spec.shape and spec.shape[0] in (BATCH, ROWS)]


def fixed_but(
    specs: Sequence[TensorSpec], arrays: Sequence[Any], dynamic: frozenset[str]
) -> list[TensorSpec]:
    """Fix every named axis at the example's size but for those that stay dynamic."""
    return [
        replace(
            spec,
            shape=tuple(
                array.shape[axis] if isinstance(dim, str) and dim not in dynamic else dim
                for axis, dim in enumerate(spec.shape or ())
            ),
        )
        for spec, array in zip(specs, arrays, strict=True)
    ]


def relaxed(specs: Sequence[TensorSpec], sizes: set[str]) -> list[TensorSpec]:
    """Outputs without the names of axes that were fixed."""
    return [
        replace(spec, shape=tuple(None if dim in sizes else dim for dim in spec.shape))
        if spec.shape is not None
        else spec
        for spec in specs
    ]


def _axis_name(ndim: int, axis: int, height_axis: int, taken: set[str]) -> str:
    """Name an axis after what it usually is: an image's height and width, a sequence's length."""
    name = "length"
    if ndim == 4 and axis in (height_axis, height_axis + 1):
        name = "height" if axis == height_axis else "width"
    unique, number = name, 1
    while unique in taken:
        number += 1
        unique = f"{name}_{number}"
    taken.add(unique)
    return unique
