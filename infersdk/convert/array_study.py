"""What asking a model tells about it: its answer's form, its dynamic axes, its rows.

Any framework's model will do, as long as it can be asked with arrays and answers in arrays. A graph may only
call an axis dynamic that the model takes at other sizes, and may only call axis 0 the batch axis ``"N"``
where a row's answer does not depend on the rows beside it. Both are found by asking the model a dozen times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.convert.array_answers import Answer, dtype_name, loose, take_apart
from infersdk.convert.array_axes import (
    BATCH,
    FIVE,
    ROWS,
    THREE,
    fixed_but,
    name_lengths,
    name_rows,
    sizes_of,
)
from infersdk.convert.array_rows import TOLERANCE, Shape, agree, resized, varied, with_rows
from infersdk.errors import ConversionError, UnsupportedModelError
from infersdk.types import Dim, Signature, TensorSpec

__all__ = [
    "PULLING_FACTORS",
    "Study",
    "Subject",
    "answers_repeat",
    "first_sentence",
    "refuse_unwritable",
    "study",
    "without_lengths",
]

PULLING_FACTORS = (-3.0, -1.0, 1.0, 5.0)
"""By which rows are multiplied so that they pull apart: one way together, another way each alone."""

_FEW_ROWS = 4
_SEED = 20047


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that is studied on an example.

    Parameters
    ----------
    names : tuple of str
        Of its inputs.
    arrays : tuple of numpy.ndarray
        The example, one array for each; text as objects.
    declared : tuple of (tuple or None)
        What the model itself says of each input's shape.
    run : callable
        ``run(arrays) -> answer``: arrays in, arrays in whatever container the model uses out.
    may_separate : bool
        False where it is known that rows can influence each other, whatever a few of them show.
    shapes : callable, optional
        ``shapes(arrays)``: what stands for the answer's arrays, with a ``shape`` each, where a framework knows
        them without computing; None where the model does not take the arrays.
    tolerance : float
        Difference that counts as rounding, as a share of the largest value.
    advice : callable, optional
        ``advice(exc)``: a sentence to end the message with where the model does not run on its own example.
    """

    names: tuple[str, ...]
    arrays: tuple[NDArray[Any], ...]
    declared: tuple[Shape, ...]
    run: Callable[[Sequence[NDArray[Any]]], Any]
    may_separate: bool = True
    shapes: Callable[[Sequence[NDArray[Any]]], Sequence[Any] | None] | None = None
    tolerance: float = TOLERANCE
    advice: Callable[[Exception], str] | None = None


@dataclass(frozen=True, slots=True)
class Study:
    """What was learned; ``outputs`` is empty where ``refusal`` says why no graph can give the answer."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...] = ()
    answer: Answer | None = None
    refusal: str = ""


def study(subject: Subject) -> Study:
    """Ask the model about the example, and about other numbers of rows and lengths.

    Raises
    ------
    ConversionError
        The model does not run on its own example.
    """
    shapes: list[list[Dim]] = [list(array.shape) for array in subject.arrays]
    base, first, refusal = _first_answer(subject)
    rows = _batch_inputs(subject, base)
    if rows and base[rows[0]].shape[0] == 1:
        # squeeze() would take the axis of rows away from a single one.
        base = with_rows(base, rows, 2)
        first = _attempt(subject, base) or first
    fixed = [list(array.shape) for array in first.arrays]
    answers: list[list[Dim] | None] = [list(shape) for shape in fixed]
    if rows:
        name = _study_rows(subject, base, rows, answers)
        for index in rows:
            shapes[index][0] = name
    name_lengths(
        base,
        _open_places(subject, base, rows),
        lambda places: _longer(subject, base, places),
        shapes,
        fixed,
        answers,
    )

    inputs = _specs(subject.names, subject.arrays, shapes)
    if refusal:
        return Study(inputs, refusal=refusal)
    try:
        outputs = _specs(first.names(subject.names), first.arrays, answers)
    except UnsupportedModelError as exc:
        return Study(inputs, refusal=str(exc))
    return Study(inputs, outputs, first)


def answers_repeat(subject: Subject) -> bool:
    """Whether the model answers alike when it is asked the same twice: it neither samples nor keeps state."""
    base, first, _ = _first_answer(subject)
    second = _attempt(subject, base)
    return (
        second is not None
        and len(first.arrays) == len(second.arrays)
        and all(
            agree(ours, theirs, tolerance=0.0)
            for ours, theirs in zip(first.arrays, second.arrays, strict=True)
        )
    )


def refuse_unwritable(kind: str, subject: Subject, signature: Signature) -> None:
    """Raise where no graph can give the answer, whatever the exporter.

    Raises
    ------
    UnsupportedModelError
        It is nested, no dense tensor, text or bfloat16.
    """
    if not signature.outputs:
        raise UnsupportedModelError(
            f"No ONNX graph can give the answer of {kind}: {study(subject).refusal}"
        )
    outputs = {spec.dtype for spec in signature.outputs if isinstance(spec, TensorSpec)}
    inputs = {spec.dtype for spec in signature.inputs if isinstance(spec, TensorSpec)}
    if "string" in outputs:
        raise UnsupportedModelError(f"{kind} answers with text, which is left to its framework")
    if "bfloat16" in inputs | outputs:
        raise UnsupportedModelError(
            f"{kind} takes or gives bfloat16, for which ONNX Runtime has no arithmetic on the CPU; give it "
            "float32 inputs and outputs"
        )


def without_lengths(
    specs: Sequence[TensorSpec], arrays: Sequence[NDArray[Any]]
) -> tuple[list[TensorSpec], set[str]]:
    """Fix every dynamic axis but that of the rows at the example's size, and name those that were fixed."""
    fixed = set(sizes_of(specs, arrays)) - {BATCH, ROWS}
    return fixed_but(specs, arrays, frozenset({BATCH, ROWS})), fixed


def first_sentence(exc: BaseException) -> str:
    """What an exception says, without a framework's colors, pictures and lists of arguments."""
    import re

    text = re.sub(r"\x1b\[[0-9;]*m", "", str(exc))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith(("Exception encountered when", "Graph execution")):
        lines = lines[1:]
    return f"{type(exc).__name__}: {lines[0][:300]}" if lines else type(exc).__name__


def _first_answer(subject: Subject) -> tuple[tuple[NDArray[Any], ...], Answer, str]:
    """Answer the example, cut to a few rows where the model takes that; and say what speaks against it."""
    whole = subject.arrays
    n_rows = min((array.shape[0] for array in whole if array.ndim), default=0)
    shared = all(array.ndim == 0 or array.shape[0] == n_rows for array in whole)
    few = whole
    if shared and n_rows > _FEW_ROWS:
        cut = tuple(array[:_FEW_ROWS] if array.ndim else array for array in whole)
        few = cut if _attempt(subject, cut) is not None else whole
    try:
        answer = subject.run(few)
    except UnsupportedModelError:
        raise
    except Exception as exc:
        given = ", ".join(
            f"{name} {array.dtype} {array.shape}"
            for name, array in zip(subject.names, whole, strict=True)
        )
        declared = ", ".join(
            f"{name} {tuple('?' if size is None else size for size in shape)}"
            for name, shape in zip(subject.names, subject.declared, strict=True)
            if shape is not None
        )
        expected = f"; it declares {declared}".replace("'", "") if declared else ""
        advice = "" if subject.advice is None else subject.advice(exc)
        raise ConversionError(
            f"The model does not run on its own example ({given}{expected}): {first_sentence(exc)}{advice}"
        ) from exc
    try:
        return few, take_apart(answer), ""
    except UnsupportedModelError as exc:
        return few, loose(answer), str(exc)


def _attempt(subject: Subject, arrays: Sequence[NDArray[Any]]) -> Answer | None:
    try:
        answer = subject.run(arrays)
    except Exception:  # whatever a model raises on a shape that it was not made for
        return None
    try:
        return take_apart(answer)
    except UnsupportedModelError:
        return loose(answer)


def _shapes(subject: Subject, arrays: Sequence[NDArray[Any]]) -> Sequence[Any] | None:
    """Return arrays, or what stands for them, of the answers' shapes; None where the model takes no such rows."""
    if subject.shapes is not None:
        return subject.shapes(arrays)
    answer = _attempt(subject, arrays)
    return None if answer is None else answer.arrays


def _batch_inputs(subject: Subject, base: Sequence[NDArray[Any]]) -> tuple[int, ...]:
    """Return the inputs whose axis 0 may be sized at will, together."""
    ranked = [index for index, array in enumerate(base) if array.ndim and array.shape[0]]
    ranked = [index for index in ranked if _may_vary(subject, index, 0)]
    if not ranked:
        return ()
    n_rows = base[ranked[0]].shape[0]
    together = tuple(index for index in ranked if base[index].shape[0] == n_rows)
    for candidate in dict.fromkeys((together, (ranked[0],))):
        if all(_shapes(subject, with_rows(base, candidate, n)) for n in (THREE, FIVE)):
            return candidate
    return ()


def _may_vary(subject: Subject, index: int, axis: int) -> bool:
    shape = subject.declared[index]
    return shape is None or shape[axis] is None


def _study_rows(
    subject: Subject,
    base: Sequence[NDArray[Any]],
    rows: tuple[int, ...],
    answers: list[list[Dim] | None],
) -> str:
    """Name the axis of rows, in the answers' shapes too, and return the name."""
    three, five = None, None
    # Three rows that differ from each other, or failing that the example's own.
    for batch in (
        varied(base, rows, THREE, np.random.default_rng(_SEED)),
        with_rows(base, rows, THREE),
    ):
        three = _attempt(subject, batch)
        if three is not None:
            five = _shapes(subject, with_rows(batch, rows, FIVE))
        if three is not None and five is not None:
            break
    if three is None or five is None:
        return ROWS
    axes = name_rows(three.arrays, five, answers)
    if axes is not None and _rows_are_separate(subject, batch, rows, axes):
        return BATCH
    for shape in answers:
        if shape is not None:
            shape[:] = [ROWS if dim == BATCH else dim for dim in shape]
    return ROWS


def _rows_are_separate(
    subject: Subject,
    batch: Sequence[NDArray[Any]],
    rows: Sequence[int],
    axes: Sequence[int | None],
) -> bool:
    """Whether each of three rows is answered alone as it is among the others."""
    if not subject.may_separate:
        return False
    # A branch that the whole batch decides together shows where rows pull in different directions.
    pulling = varied(batch, rows, THREE, np.random.default_rng(_SEED), factors=PULLING_FACTORS)
    for arrays in (batch, pulling):
        together = _attempt(subject, arrays)
        if together is None:
            if arrays is batch:
                return False
            continue
        for row in range(THREE):
            alone = _attempt(
                subject,
                [item[row : row + 1] if i in rows else item for i, item in enumerate(arrays)],
            )
            if alone is None or len(alone.arrays) != len(together.arrays):
                return False
            for ours, theirs, axis in zip(alone.arrays, together.arrays, axes, strict=True):
                beside = theirs if axis is None else np.take(theirs, [row], axis=axis)
                if not agree(ours, beside, tolerance=subject.tolerance):
                    return False
    return True


def _open_places(
    subject: Subject, base: Sequence[NDArray[Any]], rows: Sequence[int]
) -> list[tuple[int, int]]:
    """Return inputs and their axes that may be lengths."""
    return [
        (index, axis)
        for index, array in enumerate(base)
        for axis in range(array.ndim)
        # An axis of size 1 is one that broadcasts, unless the model says that it may be of any.
        if not (axis == 0 and index in rows)
        and _may_vary(subject, index, axis)
        and (array.shape[axis] > 1 or subject.declared[index] is not None)
    ]


def _longer(
    subject: Subject, base: Sequence[NDArray[Any]], places: Sequence[tuple[int, int]]
) -> Sequence[Any] | None:
    """Return the answers at one size more; None where that, or three more, is not taken.

    Pooling hides an image's odd last line from the layers behind it, so that one more alone is no proof.
    """
    found: Sequence[Any] | None = None
    for more in (3, 1):
        longer = list(base)
        for index, axis in places:
            longer[index] = resized(longer[index], axis, longer[index].shape[axis] + more)
        found = _shapes(subject, longer)
        if found is None:
            return None
    return found


def _specs(
    names: Sequence[str], arrays: Sequence[NDArray[Any]], shapes: Sequence[list[Dim] | None]
) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, dtype_name(array.dtype), None if shape is None else tuple(shape))
        for name, array, shape in zip(names, arrays, shapes, strict=True)
    )
