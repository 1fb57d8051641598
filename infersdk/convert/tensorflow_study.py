"""What running a TensorFlow or Keras model tells about it: its answer's form, its dynamic axes, its rows.

Any framework's model will do, as long as it can be asked with arrays and answers in arrays. A graph may only
call an axis dynamic that the model takes at other sizes, and may only call axis 0 the batch axis ``"N"``
where a row's answer does not depend on the rows beside it. Both are found by asking the model a dozen times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from infersdk.errors import ConversionError, UnsupportedModelError
from infersdk.types import Dim, Signature, TensorSpec

__all__ = [
    "BATCH",
    "ROWS",
    "Answer",
    "Shape",
    "Study",
    "Subject",
    "agree",
    "answers_repeat",
    "dtype_name",
    "first_sentence",
    "in_kind",
    "made_up",
    "refuse_unwritable",
    "relaxed",
    "resized",
    "study",
    "take_apart",
    "varied",
    "without_lengths",
]

BATCH = "N"
"""Name of an axis of rows that do not influence each other."""

ROWS = "rows"
"""Name of a dynamic axis 0 whose entries do influence each other."""

Shape = tuple[int | None, ...] | None
"""What a model declares of a shape: sizes, None for an axis of any size; None where it declares nothing."""

_FEW_ROWS = 4
_MADE_UP_ROWS = 4
_MADE_UP_LENGTH = 5
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
    """

    names: tuple[str, ...]
    arrays: tuple[NDArray[Any], ...]
    declared: tuple[Shape, ...]
    run: Callable[[Sequence[NDArray[Any]]], Any]
    may_separate: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """The arrays of an answer, and the container that held them."""

    form: Literal["array", "tuple", "list", "dict"]
    arrays: tuple[NDArray[Any], ...]
    keys: tuple[str, ...] | None = None

    def names(self, taken: Sequence[str]) -> tuple[str, ...]:
        """Name the graph's outputs: ``output``, ``output_0``.. or the keys; never an input's name."""
        if self.keys is not None:
            wanted: Sequence[str] = self.keys
        elif self.form == "array":
            wanted = ("output",)
        else:
            wanted = tuple(f"output_{index}" for index in range(len(self.arrays)))
        names: list[str] = []
        for name in wanted:
            while name in taken or name in names:
                name += "_out"
            names.append(name)
        return tuple(names)


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
        base = _with_rows(base, rows, 2)
        first = _attempt(subject, base) or first
    fixed = [list(array.shape) for array in first.arrays]
    answers: list[list[Dim] | None] = [list(shape) for shape in fixed]
    if rows:
        name = _study_rows(subject, base, rows, first, answers)
        for index in rows:
            shapes[index][0] = name
    _study_lengths(subject, base, rows, fixed, shapes, answers)

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
            agree(ours, theirs, exactly=True)
            for ours, theirs in zip(first.arrays, second.arrays, strict=True)
        )
    )


def take_apart(answer: Any) -> Answer:
    """Split an answer into its arrays.

    Raises
    ------
    UnsupportedModelError
        It is nested, empty, or holds something else than arrays.
    """
    if _is_array(answer):
        return Answer("array", (np.asarray(answer),))
    keys: tuple[str, ...] | None = None
    form: Literal["tuple", "list", "dict"]
    if isinstance(answer, Mapping):
        form, keys, values = "dict", tuple(answer), tuple(answer.values())
        if not all(isinstance(key, str) for key in keys):
            raise UnsupportedModelError(
                f"Expected the model to answer with a dict of str keys, got {list(keys)!r}"
            )
    elif isinstance(answer, tuple | list):
        form, values = ("list" if isinstance(answer, list) else "tuple"), tuple(answer)
    else:
        raise UnsupportedModelError(
            f"Expected the model to answer with dense tensors, got a {type(answer).__name__}"
        )
    if not values:
        raise UnsupportedModelError(
            f"Expected the model to answer with tensors, got an empty {form}"
        )
    for place, value in zip(keys or range(len(values)), values, strict=True):
        if not _is_array(value):
            raise UnsupportedModelError(
                f"Expected every element of the model's {form} to be a dense tensor, got a "
                f"{type(value).__name__} at [{place!r}]. Give the tensors flat, in one tuple or dict"
            )
    return Answer(form, tuple(np.asarray(value) for value in values), keys)


def resized(array: NDArray[Any], axis: int, size: int) -> NDArray[Any]:
    """Cut an axis short, or lengthen it by starting over."""
    old = array.shape[axis]
    if old in (size, 0):
        return array
    return np.take(array, np.arange(size) % old, axis=axis)


def varied(
    arrays: Sequence[NDArray[Any]],
    rows: Sequence[int],
    n_rows: int | None,
    rng: np.random.Generator,
    *,
    factors: Sequence[float] = (1.0,),
) -> tuple[NDArray[Any], ...]:
    """Make new rows that resemble the example's.

    Numbers are multiplied by one of ``factors``, drawn per row, and get noise of a quarter of their standard
    deviation. Integers, truth values, text and flags (numbers that are 0 or 1 only) keep to what the example
    has at the same position, so that an index stays within its table; those of a single row are shuffled.

    Parameters
    ----------
    rows : sequence of int
        Inputs whose axis 0 counts rows; the others are varied as one row.
    n_rows : int or None
        How many rows to make; None keeps as many as there are.
    """
    count = n_rows if n_rows is not None else max((arrays[i].shape[0] for i in rows), default=1)
    drawn = rng.choice(np.asarray(factors, dtype=np.float64), size=count)
    made = []
    for index, array in enumerate(arrays):
        values = array if index in rows else array[None]
        n = count if index in rows else 1
        if values.size == 0:
            made.append(resized(array, 0, n) if index in rows else array)
            continue
        if _is_float(values.dtype) and not _is_flags(values):
            picked = values[rng.integers(len(values), size=n)].astype(np.float64)
            known = values[np.isfinite(values.astype(np.float64))].astype(np.float64)
            spread = float(known.std()) if known.size > 1 else 0.0
            noise = rng.standard_normal(picked.shape) * 0.25 * (spread or 1.0)
            scale = drawn[:n].reshape(-1, *[1] * (picked.ndim - 1))
            new = ((picked + noise) * scale).astype(array.dtype)
        else:
            new = _redrawn(values, n, rng)
        made.append(new if index in rows else new[0])
    return tuple(made)


def agree(ours: NDArray[Any], theirs: NDArray[Any], *, exactly: bool = False) -> bool:
    """Whether two arrays hold the same values but for rounding, measured on their own scale."""
    if ours.size != theirs.size or ours.dtype != theirs.dtype:
        return False
    ours, theirs = ours.ravel(), theirs.ravel()
    if not (_is_float(theirs.dtype) or theirs.dtype.kind == "c"):
        return bool(np.array_equal(ours, theirs))
    wide = np.complex128 if theirs.dtype.kind == "c" else np.float64
    left, right = ours.astype(wide), theirs.astype(wide)
    if exactly:
        return bool(np.array_equal(left, right, equal_nan=True))
    finite = np.abs(right[np.isfinite(right)])
    scale = float(finite.max()) if finite.size else 0.0
    tolerance = 2e-2 if theirs.dtype.itemsize <= 2 else 1e-3
    return bool(
        np.allclose(left, right, rtol=tolerance, atol=tolerance * scale + 1e-7, equal_nan=True)
    )


def made_up(dtype: str, shape: Shape) -> NDArray[Any]:
    """An example of what a model declares: normal numbers, zeros and ones where it takes integers.

    Raises
    ------
    ConversionError
        Nothing can be made up: the rank is unknown, or the input takes text.
    """
    if shape is None or dtype == "string":
        what = "text" if dtype == "string" else "tensors of any rank"
        raise ConversionError(
            f"An example is needed: the model takes {what}. Pass rows as example="
        )
    sizes = [
        (_MADE_UP_ROWS if axis == 0 else _MADE_UP_LENGTH) if size is None else size
        for axis, size in enumerate(shape)
    ]
    rng = np.random.default_rng(_SEED)
    if dtype.startswith(("int", "uint", "bool")):
        return rng.integers(2, size=sizes).astype(dtype)
    return rng.standard_normal(sizes).astype(dtype)


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return the name that a TensorSpec has for a dtype.

    Raises
    ------
    UnsupportedModelError
        ONNX Runtime has no such tensors.
    """
    if dtype.kind in "OSU":
        return "string"
    if dtype.kind == "c":
        raise UnsupportedModelError(
            f"Expected tensors of real numbers or booleans, got {dtype.name}"
        )
    return dtype.name


def first_sentence(exc: BaseException) -> str:
    """What an exception of Keras or TensorFlow says, without its colors, pictures and lists of arguments."""
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
        raise ConversionError(
            f"The model does not run on its own example ({given}{expected}): {first_sentence(exc)}"
        ) from exc
    try:
        return few, take_apart(answer), ""
    except UnsupportedModelError as exc:
        return few, _loose(answer), str(exc)


def _attempt(subject: Subject, arrays: Sequence[NDArray[Any]]) -> Answer | None:
    try:
        answer = subject.run(arrays)
    except Exception:  # whatever a model raises on a shape that it was not made for
        return None
    try:
        return take_apart(answer)
    except UnsupportedModelError:
        return _loose(answer)


def _loose(answer: Any) -> Answer:
    """Return every array of an answer, however nested, as one tuple."""
    return Answer("tuple", tuple(_leaves(answer)))


def _leaves(answer: Any) -> Iterator[NDArray[Any]]:
    if isinstance(answer, Mapping):
        answer = tuple(answer.values())
    if isinstance(answer, tuple | list):
        for item in answer:
            yield from _leaves(item)
    elif _is_array(answer):
        yield np.asarray(answer)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic)


def _batch_inputs(subject: Subject, base: Sequence[NDArray[Any]]) -> tuple[int, ...]:
    """Return the inputs whose axis 0 may be sized at will, together."""
    ranked = [index for index, array in enumerate(base) if array.ndim and array.shape[0]]
    ranked = [index for index in ranked if _may_vary(subject, index, 0)]
    if not ranked:
        return ()
    n_rows = base[ranked[0]].shape[0]
    together = tuple(index for index in ranked if base[index].shape[0] == n_rows)
    for candidate in dict.fromkeys((together, (ranked[0],))):
        if all(_attempt(subject, _with_rows(base, candidate, n)) for n in (3, 5)):
            return candidate
    return ()


def _may_vary(subject: Subject, index: int, axis: int) -> bool:
    shape = subject.declared[index]
    return shape is None or shape[axis] is None


def _with_rows(
    arrays: Sequence[NDArray[Any]], rows: Sequence[int], n_rows: int
) -> tuple[NDArray[Any], ...]:
    return tuple(
        resized(array, 0, n_rows) if index in rows else array for index, array in enumerate(arrays)
    )


def _study_rows(
    subject: Subject,
    base: Sequence[NDArray[Any]],
    rows: tuple[int, ...],
    first: Answer,
    answers: list[list[Dim] | None],
) -> str:
    """Name the axis of rows, in the answers' shapes too, and return the name."""
    three, five = None, None
    # Three rows that differ from each other, or failing that the example's own.
    for batch in (
        varied(base, rows, 3, np.random.default_rng(_SEED)),
        _with_rows(base, rows, 3),
    ):
        three = _attempt(subject, batch)
        if three is not None:
            five = _attempt(subject, _with_rows(batch, rows, 5))
        if three is not None and five is not None:
            break
    if three is None or five is None:
        return ROWS
    axes: list[int | None] = []
    separate = len(three.arrays) == len(five.arrays) == len(first.arrays)
    for index, (small, large) in enumerate(zip(three.arrays, five.arrays, strict=False)):
        if not small.ndim == large.ndim == first.arrays[index].ndim:
            answers[index] = None
            separate = False
            continue
        grown = [
            axis for axis in range(small.ndim) if (small.shape[axis], large.shape[axis]) == (3, 5)
        ]
        shape = answers[index]
        for axis in range(small.ndim):
            if shape is not None and small.shape[axis] != large.shape[axis]:
                shape[axis] = BATCH if axis in grown else None
        axes.append(grown[0] if len(grown) == 1 else None)
        separate = separate and len(grown) <= 1 and (bool(grown) or None not in (shape or ()))
    if separate and _rows_are_separate(subject, batch, rows, axes):
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
    pulling = varied(batch, rows, 3, np.random.default_rng(_SEED), factors=(-3.0, -1.0, 1.0, 5.0))
    for arrays in (batch, pulling):
        together = _attempt(subject, arrays)
        if together is None:
            if arrays is batch:
                return False
            continue
        for row in range(3):
            alone = _attempt(
                subject,
                [item[row : row + 1] if i in rows else item for i, item in enumerate(arrays)],
            )
            if alone is None or len(alone.arrays) != len(together.arrays):
                return False
            for ours, theirs, axis in zip(alone.arrays, together.arrays, axes, strict=True):
                if not agree(ours, theirs if axis is None else np.take(theirs, [row], axis=axis)):
                    return False
    return True


def _study_lengths(
    subject: Subject,
    base: Sequence[NDArray[Any]],
    rows: Sequence[int],
    fixed: Sequence[Sequence[int]],
    shapes: list[list[Dim]],
    answers: list[list[Dim] | None],
) -> None:
    """Name the other axes that the model takes at another size: each alone, or all of one size."""
    places = [
        (index, axis)
        for index, array in enumerate(base)
        for axis in range(array.ndim)
        # An axis of size 1 is one that broadcasts, unless the model says that it may be of any.
        if not (axis == 0 and index in rows)
        and _may_vary(subject, index, axis)
        and (array.shape[axis] > 1 or subject.declared[index] is not None)
    ]
    tied: dict[int, list[tuple[int, int]]] = {}
    groups = []
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
        index, axis = group[0]
        size = base[index].shape[axis]
        name = _axis_name(base[index].ndim, axis, taken)
        for index, axis in group:
            shapes[index][axis] = name
        for position, (old, array) in enumerate(zip(fixed, answer.arrays, strict=False)):
            shape = answers[position]
            if shape is None or array.ndim != len(shape):
                answers[position] = None
                continue
            for axis, (before, after) in enumerate(zip(old, array.shape, strict=True)):
                if before != after and isinstance(shape[axis], int):
                    shape[axis] = name if (before, after) == (size, size + 1) else None


def _longer(
    subject: Subject, base: Sequence[NDArray[Any]], places: Sequence[tuple[int, int]]
) -> Answer | None:
    longer = list(base)
    for index, axis in places:
        longer[index] = resized(longer[index], axis, longer[index].shape[axis] + 1)
    return _attempt(subject, longer)


def _axis_name(ndim: int, axis: int, taken: set[str]) -> str:
    """Name an axis after what it usually is: an image's height and width, a sequence's length."""
    if ndim == 4 and axis in (1, 2):
        name = "height" if axis == 1 else "width"
    else:
        name = "length"
    unique, number = name, 1
    while unique in taken:
        number += 1
        unique = f"{name}_{number}"
    taken.add(unique)
    return unique


def _specs(
    names: Sequence[str], arrays: Sequence[NDArray[Any]], shapes: Sequence[list[Dim] | None]
) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, dtype_name(array.dtype), None if shape is None else tuple(shape))
        for name, array, shape in zip(names, arrays, shapes, strict=True)
    )


def _is_float(dtype: np.dtype[Any]) -> bool:
    # bfloat16 and its like come from ml_dtypes, with a kind of their own.
    return dtype.kind == "f" or "float" in dtype.name


def _is_flags(values: NDArray[Any]) -> bool:
    return bool(np.isin(values, (0, 1)).all())


def _redrawn(values: NDArray[Any], n_rows: int, rng: np.random.Generator) -> NDArray[Any]:
    if len(values) == 1:
        rows = np.repeat(values, n_rows, axis=0)
        for row in rows[1:].reshape(n_rows - 1, -1):
            rng.shuffle(row)
        return rows
    flat = values.reshape(len(values), -1)
    picked = rng.integers(len(values), size=(n_rows, flat.shape[1]))
    drawn: NDArray[Any] = np.take_along_axis(flat, picked, axis=0)
    return drawn.reshape(n_rows, *values.shape[1:])


def without_lengths(
    specs: Sequence[TensorSpec], arrays: Sequence[NDArray[Any]]
) -> tuple[list[TensorSpec], set[str]]:
    """Fix every dynamic axis but that of the rows at the example's size, and name those that were fixed."""
    sizes = {dim for spec in specs for dim in spec.shape or () if isinstance(dim, str)}
    sizes -= {BATCH, ROWS}
    fixed = [
        replace(
            spec,
            shape=tuple(
                array.shape[axis] if dim in sizes else dim
                for axis, dim in enumerate(spec.shape or ())
            ),
        )
        for spec, array in zip(specs, arrays, strict=True)
    ]
    return fixed, sizes


def relaxed(specs: Sequence[TensorSpec], sizes: set[str]) -> list[TensorSpec]:
    """Outputs without the names of axes that were fixed."""
    return [
        replace(spec, shape=tuple(None if dim in sizes else dim for dim in spec.shape))
        if spec.shape is not None
        else spec
        for spec in specs
    ]


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


def in_kind(rows: Any, answer: Any) -> Any:
    """Torch tensors for torch tensors; other answers stay arrays."""
    if isinstance(rows, Mapping):
        values = list(rows.values())
    else:
        values = list(rows) if isinstance(rows, tuple | list) else [rows]
    if not any(hasattr(value, "detach") for value in values):
        return answer
    import torch

    def tensor(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: tensor(item) for key, item in value.items()}
        if isinstance(value, tuple | list):
            return type(value)(tensor(item) for item in value)
        is_number = isinstance(value, np.ndarray) and value.dtype.kind in "biufc"
        return torch.from_numpy(value) if is_number else value

    return tensor(answer)
