"""What running a JAX model tells about it: its answer's shape, its dynamic axes, its rows' independence.

Shapes at other sizes come from ``jax.eval_shape``, which computes nothing; only whether a row's answer
depends on the rows beside it is found by computing. Axis 0 is called ``"N"`` where it does not: only such
rows may share a run with those of other callers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from infersdk.convert.jax_calls import Answer, Subject, take_apart
from infersdk.errors import ConversionError, UnsupportedModelError
from infersdk.types import Dim, TensorSpec

__all__ = ["BATCH", "ROWS", "Study", "agree", "resized", "study", "varied"]

BATCH = "N"
"""Name of an axis of rows that do not influence each other."""

ROWS = "rows"
"""Name of a dynamic axis 0 whose entries do influence each other."""

_FEW_ROWS = 4
_SEED = 20011


@dataclass(frozen=True, slots=True)
class Study:
    """What was learned; ``outputs`` is empty where ``refusal`` says why no graph can give the answer."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...] = ()
    answer: Answer | None = None
    refusal: str = ""


def study(subject: Subject) -> Study:
    """Look at the model's answer to the example, and at other numbers of rows and lengths.

    Raises
    ------
    ConversionError
        The model does not run on its own example.
    """
    shapes: list[list[Dim]] = [list(array.shape) for array in subject.arrays]
    base, answer, refusal = _first_answer(subject)
    if answer is None:
        rows = _batch_inputs(subject, base)
        for index in rows:
            shapes[index][0] = ROWS
        return Study(_specs(subject.layout.names, subject.arrays, shapes), refusal=refusal)
    rows = _batch_inputs(subject, base)
    if rows and base[rows[0]].shape[0] == 1:
        # A single row would not tell an axis of rows from one that broadcasts.
        base = _rows(base, rows, 2)
        answer = replace(answer, arrays=subject.shapes(base) or answer.arrays)
    outputs: list[list[Dim] | None] = [list(item.shape) for item in answer.arrays]
    fixed = [tuple(item.shape) for item in answer.arrays]
    if rows:
        name = _study_rows(subject, base, rows, outputs)
        for index in rows:
            shapes[index][0] = name
    _study_lengths(subject, base, rows, fixed, shapes, outputs)
    names = subject.layout.names
    return Study(
        _specs(names, subject.arrays, shapes),
        _specs(answer.names(names), answer.arrays, outputs),
        answer,
    )


def resized(array: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Cut an axis short, or lengthen it by starting over."""
    old = array.shape[axis]
    return array if old in (size, 0) else np.take(array, np.arange(size) % old, axis=axis)


def varied(
    arrays: Sequence[np.ndarray],
    rows: Sequence[int],
    n_rows: int | None,
    rng: np.random.Generator,
    *,
    factors: Sequence[float] = (1.0,),
) -> tuple[np.ndarray, ...]:
    """Make new rows that resemble the example's.

    Floating-point values are multiplied by one of ``factors``, drawn per row, and get noise of a quarter
    of their standard deviation. Integers and booleans keep to values that the example has at the same
    position, so that an embedding's index stays within its table.

    Parameters
    ----------
    rows : sequence of int
        Indices of the inputs whose axis 0 counts rows; the others are varied as one row.
    n_rows : int or None
        How many rows to make; None keeps as many as there are.
    """
    count = n_rows or max((arrays[index].shape[0] for index in rows), default=1)
    drawn = rng.choice(np.asarray(factors, dtype=np.float64), size=count)
    made = []
    for index, array in enumerate(arrays):
        values = array if index in rows else array[None]
        n = count if index in rows else 1
        if values.size == 0:
            made.append(resized(array, 0, n) if index in rows else array)
            continue
        if values.dtype.kind in "fV":
            picked = values[rng.integers(values.shape[0], size=n)].astype(np.float64)
            known = values.astype(np.float64)
            known = known[np.isfinite(known)]
            spread = float(known.std()) if known.size > 1 else 0.0
            noise = rng.standard_normal(picked.shape) * 0.25 * (spread or 1.0)
            scale = drawn[:n].reshape(-1, *[1] * (picked.ndim - 1))
            new = ((picked + noise) * scale).astype(array.dtype)
        else:
            chosen = rng.integers(values.shape[0], size=(n, *values.shape[1:]))
            new = np.take_along_axis(values, chosen, axis=0)
        made.append(
            np.ascontiguousarray(new if index in rows else new[0]).reshape(
                new.shape[index not in rows :]
            )
        )
    return tuple(made)


def agree(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether two arrays hold the same numbers but for rounding, measured on the answer's own scale."""
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return False
    if theirs.dtype.kind not in "fcV":
        return bool(np.array_equal(ours, theirs))
    tolerance = 1e-4 if theirs.dtype.itemsize >= 4 else 2e-2
    wide = np.complex128 if theirs.dtype.kind == "c" else np.float64
    ours, theirs = ours.astype(wide), theirs.astype(wide)
    finite = np.abs(theirs[np.isfinite(theirs)])
    scale = float(finite.max()) if finite.size else 0.0
    return bool(
        np.allclose(ours, theirs, rtol=tolerance, atol=tolerance * scale + 1e-7, equal_nan=True)
    )


def _first_answer(
    subject: Subject,
) -> tuple[tuple[np.ndarray, ...], Answer | None, str]:
    """Answer the example, cut to a few rows where the model takes that."""
    whole = subject.arrays
    n_rows = min((array.shape[0] for array in whole if array.ndim), default=0)
    few = whole
    if n_rows > _FEW_ROWS and all(not a.ndim or a.shape[0] == n_rows for a in whole):
        few = tuple(array[:_FEW_ROWS] if array.ndim else array for array in whole)
    try:
        returned = subject.run(few)
    except Exception:
        few = whole
        try:
            returned = subject.run(few)
        except Exception as exc:
            raise _not_its_example(subject, exc) from exc
    try:
        answer = take_apart(returned)
        for item in answer.arrays:
            _dtype_name(item.dtype)
    except UnsupportedModelError as exc:
        return few, None, str(exc)
    return few, answer, ""


def _not_its_example(subject: Subject, exc: Exception) -> ConversionError:
    given = ", ".join(
        f"{name} {array.dtype} {array.shape}"
        for name, array in zip(subject.layout.names, subject.arrays, strict=True)
    )
    text = " ".join(str(exc).split())[:300]
    hint = ""
    if "ropout" in text or "key" in text:
        hint = (
            ". Switch dropout off before the model is wrapped: eqx.nn.inference_mode(model), model.eval(), "
            "or bind the argument that does so"
        )
    elif isinstance(exc, TypeError) and "missing" in text:
        hint = (
            ". Bind other arguments first: functools.partial(module.apply, variables, train=False)"
        )
    elif isinstance(exc, TypeError | ValueError):
        hint = (
            ". A model written for one row takes many as jax.vmap(model); pass that, and an example of "
            "several rows"
        )
    return ConversionError(
        f"The model does not run on its own example ({given}): {type(exc).__name__}: "
        f"{text.rstrip('.')}{hint}"
    )


def _batch_inputs(subject: Subject, base: Sequence[np.ndarray]) -> tuple[int, ...]:
    """Return the inputs whose axis 0 may be sized at will, together."""
    ranked = [index for index, array in enumerate(base) if array.ndim and array.shape[0]]
    if not ranked:
        return ()
    n_rows = base[ranked[0]].shape[0]
    together = tuple(index for index in ranked if base[index].shape[0] == n_rows)
    for candidate in dict.fromkeys((together, (ranked[0],))):
        if all(subject.shapes(_rows(base, candidate, n)) is not None for n in (3, 5)):
            return candidate
    return ()


def _rows(arrays: Sequence[np.ndarray], rows: Sequence[int], n_rows: int) -> tuple[np.ndarray, ...]:
    return tuple(
        resized(array, 0, n_rows) if index in rows else array for index, array in enumerate(arrays)
    )


def _study_rows(
    subject: Subject,
    base: Sequence[np.ndarray],
    rows: tuple[int, ...],
    outputs: list[list[Dim] | None],
) -> str:
    """Name the axis of rows, in the answers' shapes too, and return the name."""
    three, five = (subject.shapes(_rows(base, rows, n)) for n in (3, 5))
    if three is None or five is None or len(three) != len(outputs):
        return ROWS
    axes: list[int | None] = []
    separate = True
    for index, (small, large) in enumerate(zip(three, five, strict=True)):
        shape = outputs[index]
        if shape is None or not len(small.shape) == len(large.shape) == len(shape):
            outputs[index], separate = None, False
            continue
        pairs = list(zip(small.shape, large.shape, strict=True))
        grown = [axis for axis, pair in enumerate(pairs) if pair == (3, 5)]
        for axis, (before, after) in enumerate(pairs):
            if before != after:
                shape[axis] = BATCH if axis in grown else None
        axes.append(grown[0] if len(grown) == 1 else None)
        separate = separate and len(grown) == 1 and None not in shape
    if separate and _rows_are_separate(subject, base, rows, axes):
        return BATCH
    for shape in outputs:
        if shape is not None:
            shape[:] = [ROWS if dim == BATCH else dim for dim in shape]
    return ROWS


def _rows_are_separate(
    subject: Subject, base: Sequence[np.ndarray], rows: Sequence[int], axes: Sequence[int | None]
) -> bool:
    made = varied(base, rows, 3, np.random.default_rng(_SEED))
    for batch in (made, _rows(base, rows, 3)):
        try:
            together = subject.answer(batch)
            for row in range(3):
                lone = [a[row : row + 1] if i in rows else a for i, a in enumerate(batch)]
                alone = subject.answer(lone)
                for ours, theirs, axis in zip(alone, together, axes, strict=True):
                    if not agree(ours, np.take(theirs, [row], axis=axis)):
                        return False
        except Exception:  # values or sizes that the model does not take
            continue
        return True
    return False


def _study_lengths(
    subject: Subject,
    base: Sequence[np.ndarray],
    rows: Sequence[int],
    fixed: Sequence[Sequence[int]],
    shapes: list[list[Dim]],
    outputs: list[list[Dim] | None],
) -> None:
    """Name the other axes that the model takes at another size: each alone, or all of one size."""
    places = [
        (index, axis)
        for index, array in enumerate(base)
        for axis in range(array.ndim)
        # An axis of size 1 is one that broadcasts; it is no length.
        if not (axis == 0 and index in rows) and array.shape[axis] > 1
    ]
    groups: list[tuple[list[tuple[int, int]], tuple[Any, ...]]] = []
    tied: dict[int, list[tuple[int, int]]] = {}
    for place in places:
        if (answer := _longer(subject, base, [place])) is not None:
            groups.append(([place], answer))
        else:
            tied.setdefault(base[place[0]].shape[place[1]], []).append(place)
    for group in tied.values():
        if len(group) > 1 and (answer := _longer(subject, base, group)) is not None:
            groups.append((group, answer))
    taken: set[str] = set()
    for group, answer in sorted(groups, key=lambda item: item[0]):
        first, axis = group[0]
        size = base[first].shape[axis]
        name = _axis_name(base[first].ndim, axis, taken)
        for index, axis in group:
            shapes[index][axis] = name
        for position, (old, item) in enumerate(zip(fixed, answer, strict=False)):
            shape = outputs[position]
            if shape is None or len(item.shape) != len(shape):
                outputs[position] = None
                continue
            for axis, (before, after) in enumerate(zip(old, item.shape, strict=True)):
                if before != after and isinstance(shape[axis], int):
                    shape[axis] = name if (before, after) == (size, size + 1) else None


def _longer(
    subject: Subject, base: Sequence[np.ndarray], places: Sequence[tuple[int, int]]
) -> tuple[Any, ...] | None:
    """The answer's shapes at one size more; None where that, or three more, is not taken.

    Pooling hides an image's odd last line from the layers behind it, so that one more is no proof.
    """
    answers = []
    for more in (3, 1):
        longer = list(base)
        for index, axis in places:
            longer[index] = resized(longer[index], axis, longer[index].shape[axis] + more)
        answers.append(subject.shapes(longer))
    return answers[1] if all(answers) else None


def _axis_name(ndim: int, axis: int, taken: set[str]) -> str:
    """Name an axis after what it usually is: an image's height and width, a sequence's length."""
    name = {1: "height", 2: "width"}.get(axis, "length") if ndim == 4 else "length"
    unique, count = name, 2
    while unique in taken:
        unique, count = f"{name}_{count}", count + 1
    taken.add(unique)
    return unique


def _specs(
    names: Sequence[str], arrays: Sequence[Any], shapes: Sequence[Sequence[Dim] | None]
) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, _dtype_name(array.dtype), None if shape is None else tuple(shape))
        for name, array, shape in zip(names, arrays, shapes, strict=True)
    )


def _dtype_name(dtype: Any) -> str:
    name = str(dtype)
    if name.startswith(("complex", "key")):
        raise UnsupportedModelError(
            f"Expected arrays of real numbers or booleans, got {name}: no ONNX graph gives or takes it"
        )
    return name
