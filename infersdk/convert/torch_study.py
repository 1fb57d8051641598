"""What running a torch model tells about it: its answer's shape, its dynamic axes, its rows' independence.

A graph may only call an axis dynamic that the model itself takes at other sizes, and may only call axis 0
the batch axis ``"N"`` if a row's answer does not depend on the rows beside it: only such rows may be
coalesced with those of other callers. Both are found by running the model a dozen times on a few rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from infersdk.convert.array_axes import (
    BATCH,
    FIVE,
    ROWS,
    THREE,
    name_lengths,
    name_rows,
)
from infersdk.convert.array_study import PULLING_FACTORS
from infersdk.convert.torch_calls import Answer, Subject, loose_tensors, take_apart
from infersdk.errors import ConversionError, UnsupportedModelError
from infersdk.types import Dim, TensorSpec

if TYPE_CHECKING:
    import torch

__all__ = [
    "Study",
    "agree",
    "answers_repeat",
    "dtype_name",
    "resized",
    "study",
    "varied",
]

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
    """Run the model on the example, and on other batch sizes and lengths.

    Raises
    ------
    ConversionError
        The model does not run on its own example.
    """
    names = subject.layout.names
    shapes: list[list[Dim]] = [list(tensor.shape) for tensor in subject.tensors]
    base, first, refusal = _first_answer(subject)
    rows = _batch_inputs(subject, base)
    if rows and base[rows[0]].shape[0] == 1:
        # squeeze() would take the axis of rows away from a single one.
        base = _rows(base, rows, 2)
        first = _attempt(subject, base) or first
    fixed = [list(tensor.shape) for tensor in first.tensors]
    answers: list[list[Dim] | None] = [list(shape) for shape in fixed]
    if rows:
        name = _study_rows(subject, base, rows, answers)
        for index in rows:
            shapes[index][0] = name
    places = [
        (index, axis)
        for index, tensor in enumerate(base)
        for axis in range(tensor.ndim)
        # An axis of size 1 is one that broadcasts; it is no length.
        if not (axis == 0 and index in rows) and tensor.shape[axis] > 1
    ]
    name_lengths(
        base,
        places,
        lambda places: _longer(subject, base, places),
        shapes,
        fixed,
        answers,
        height_axis=2,
    )

    if refusal:
        return Study(_specs(names, subject.tensors, shapes), refusal=refusal)
    output_names = first.names(names)
    try:
        outputs = _specs(output_names, first.tensors, answers)
    except UnsupportedModelError as exc:
        return Study(_specs(names, subject.tensors, shapes), refusal=str(exc))
    return Study(_specs(names, subject.tensors, shapes), outputs, first)


def answers_repeat(subject: Subject) -> bool:
    """Whether the model gives the same answer when it is asked the same twice.

    One that samples (dropout left on, noise) or that keeps state between calls does not.
    """
    first, second = (take_apart(subject.run(subject.tensors)) for _ in range(2))
    return len(first.tensors) == len(second.tensors) and all(
        agree(ours, theirs, exactly=True)
        for ours, theirs in zip(first.tensors, second.tensors, strict=True)
    )


def resized(tensor: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    """Cut an axis short, or lengthen it by starting over."""
    import torch

    old = tensor.shape[axis]
    if old == size or old == 0:
        return tensor
    return tensor.index_select(axis, torch.arange(size) % old)


def varied(
    tensors: Sequence[torch.Tensor],
    rows: Sequence[int],
    n_rows: int | None,
    rng: np.random.Generator,
    *,
    factors: Sequence[float] = (1.0,),
) -> tuple[torch.Tensor, ...]:
    """Make new rows that resemble the example's.

    Floating-point values are multiplied by one of ``factors``, drawn per row, and get noise of a quarter
    of their standard deviation. Integers, booleans and floating-point flags (only 0 and 1) keep to values
    that the example has at the same position, so that an embedding's index stays within its table; those
    of a single example row are shuffled within the row.

    Parameters
    ----------
    rows : sequence of int
        Indices of the inputs whose axis 0 counts rows; the others are varied as one row.
    n_rows : int or None
        How many rows to make; None keeps as many as there are.
    """
    import torch

    count = n_rows if n_rows is not None else max((tensors[i].shape[0] for i in rows), default=1)
    drawn = rng.choice(np.asarray(factors, dtype=np.float64), size=count)
    made = []
    for index, tensor in enumerate(tensors):
        values = tensor if index in rows else tensor[None]
        n = count if index in rows else 1
        if values.numel() == 0:
            made.append(resized(values, 0, n) if index in rows else tensor)
            continue
        if values.is_floating_point() and not _is_flags(values):
            picked = values[torch.from_numpy(rng.integers(values.shape[0], size=n))]
            known = values[torch.isfinite(values)].double()
            spread = float(known.std()) if known.numel() > 1 else 0.0
            noise = (
                torch.from_numpy(rng.standard_normal(tuple(picked.shape))) * 0.25 * (spread or 1.0)
            )
            scale = torch.from_numpy(drawn[:n]).reshape(-1, *[1] * (picked.ndim - 1))
            new = ((picked.double() + noise) * scale).to(tensor.dtype)
        else:
            new = _redrawn(values, n, rng)
        made.append(new if index in rows else new[0])
    return tuple(made)


def agree(ours: torch.Tensor, theirs: torch.Tensor, *, exactly: bool = False) -> bool:
    """Whether two tensors hold the same numbers but for rounding, measured on the tensor's own scale.

    One axis of size 1 more or less does not count: ``squeeze()`` takes it away from a single row.
    """
    import torch

    if ours.numel() != theirs.numel() or ours.dtype != theirs.dtype:
        return False
    ours, theirs = ours.reshape(-1), theirs.reshape(-1)
    if exactly or not (theirs.is_floating_point() or theirs.is_complex()):
        return bool(torch.equal(torch.nan_to_num(ours), torch.nan_to_num(theirs)))
    coarse = theirs.dtype in (torch.float16, torch.bfloat16)
    finite = theirs[torch.isfinite(theirs)].double().abs()
    scale = float(finite.max()) if finite.numel() else 0.0
    tolerance = 2e-2 if coarse else 1e-3
    return bool(
        torch.allclose(
            ours.double(),
            theirs.double(),
            rtol=tolerance,
            atol=tolerance * scale + 1e-7,
            equal_nan=True,
        )
    )


def dtype_name(dtype: Any) -> str:
    """Return numpy's name of a torch dtype.

    Raises
    ------
    UnsupportedModelError
        ONNX has no such tensors.
    """
    name = str(dtype).removeprefix("torch.")
    if name.startswith(("complex", "q", "bits")):
        raise UnsupportedModelError(
            f"Expected tensors of real numbers or booleans, got {name}: no ONNX graph gives or takes it"
        )
    return name


def _first_answer(subject: Subject) -> tuple[tuple[torch.Tensor, ...], Answer, str]:
    """Answer the example, cut to a few rows where the model takes that; and say what speaks against it."""
    whole = subject.tensors
    n_rows = min((tensor.shape[0] for tensor in whole if tensor.ndim), default=0)
    shared = all(tensor.ndim == 0 or tensor.shape[0] == n_rows for tensor in whole)
    few = whole
    if shared and n_rows > _FEW_ROWS:
        cut = tuple(tensor[:_FEW_ROWS] if tensor.ndim else tensor for tensor in whole)
        few = cut if _attempt(subject, cut) is not None else whole
    try:
        returned = subject.run(few)
    except Exception as exc:
        given = ", ".join(
            f"{name} {str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
            for name, tensor in zip(subject.layout.names, whole, strict=True)
        )
        raise ConversionError(
            f"The model does not run on its own example ({given}): {type(exc).__name__}: {exc}"
        ) from exc
    try:
        return few, take_apart(returned), ""
    except UnsupportedModelError as exc:
        return few, loose_tensors(returned), str(exc)


def _attempt(subject: Subject, tensors: Sequence[torch.Tensor]) -> Answer | None:
    try:
        returned = subject.run(tensors)
    except Exception:  # whatever forward() raises on a shape that it was not written for
        return None
    try:
        return take_apart(returned)
    except UnsupportedModelError:
        return loose_tensors(returned)


def _batch_inputs(subject: Subject, base: Sequence[torch.Tensor]) -> tuple[int, ...]:
    """Return the inputs whose axis 0 may be sized at will, together."""
    ranked = [index for index, tensor in enumerate(base) if tensor.ndim and tensor.shape[0]]
    if not ranked:
        return ()
    n_rows = base[ranked[0]].shape[0]
    together = tuple(index for index in ranked if base[index].shape[0] == n_rows)
    for candidate in dict.fromkeys((together, (ranked[0],))):
        if all(_attempt(subject, _rows(base, candidate, n)) for n in (THREE, FIVE)):
            return candidate
    return ()


def _rows(
    tensors: Sequence[torch.Tensor], rows: Sequence[int], n_rows: int
) -> tuple[torch.Tensor, ...]:
    return tuple(
        resized(tensor, 0, n_rows) if index in rows else tensor
        for index, tensor in enumerate(tensors)
    )


def _study_rows(
    subject: Subject,
    base: Sequence[torch.Tensor],
    rows: tuple[int, ...],
    answers: list[list[Dim] | None],
) -> str:
    """Name the axis of rows, in the answers' shapes too, and return the name."""
    three, five = None, None
    for batch in _batches(base, rows):
        three = _attempt(subject, batch)
        if three is not None:
            five = _attempt(subject, _rows(batch, rows, FIVE))
        if three is not None and five is not None:
            break
    if three is None or five is None:
        return ROWS
    axes = name_rows(three.tensors, five.tensors, answers)
    if axes is not None and _rows_are_separate(subject, batch, rows, axes):
        return BATCH
    for shape in answers:
        if shape is not None:
            shape[:] = [ROWS if dim == BATCH else dim for dim in shape]
    return ROWS


def _batches(
    base: Sequence[torch.Tensor], rows: Sequence[int]
) -> Iterator[tuple[torch.Tensor, ...]]:
    """Give three rows that differ from each other, or failing that the example's own."""
    yield varied(base, rows, THREE, np.random.default_rng(_SEED))
    yield _rows(base, rows, THREE)


def _rows_are_separate(
    subject: Subject,
    batch: Sequence[torch.Tensor],
    rows: Sequence[int],
    axes: Sequence[int | None],
) -> bool:
    """Whether each of three rows is answered alone as it is among the others."""
    # A branch that the whole batch decides together shows where rows pull in different directions.
    pulling = varied(batch, rows, THREE, np.random.default_rng(_SEED), factors=PULLING_FACTORS)
    for tensors in (batch, pulling):
        together = _attempt(subject, tensors)
        if together is None:
            if tensors is batch:
                return False
            continue
        for row in range(THREE):
            alone = _attempt(
                subject,
                [item[row : row + 1] if i in rows else item for i, item in enumerate(tensors)],
            )
            if alone is None or len(alone.tensors) != len(together.tensors):
                return False
            for ours, theirs, axis in zip(alone.tensors, together.tensors, axes, strict=True):
                if not agree(ours, theirs if axis is None else theirs.narrow(axis, row, 1)):
                    return False
    return True


def _longer(
    subject: Subject, base: Sequence[torch.Tensor], places: Sequence[tuple[int, int]]
) -> Sequence[torch.Tensor] | None:
    """Return the answers at one size more; None where that is not taken."""
    longer = list(base)
    for index, axis in places:
        longer[index] = resized(longer[index], axis, longer[index].shape[axis] + 1)
    answer = _attempt(subject, longer)
    return None if answer is None else answer.tensors


def _specs(
    names: Sequence[str],
    tensors: Sequence[torch.Tensor],
    shapes: Sequence[Sequence[Dim] | None],
) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, dtype_name(tensor.dtype), None if shape is None else tuple(shape))
        for name, tensor, shape in zip(names, tensors, shapes, strict=True)
    )


def _is_flags(values: torch.Tensor) -> bool:
    """Whether values look like a mask: both 0 and 1 occur, and nothing else."""
    zeros, ones = values == 0, values == 1
    return bool(zeros.any() and ones.any() and (zeros | ones).all())


def _redrawn(values: torch.Tensor, n_rows: int, rng: np.random.Generator) -> torch.Tensor:
    """Draw values that the example has at the same position; pad a mask that has nothing masked."""
    import torch

    flat = values.reshape(values.shape[0], -1)
    n_given, n_places = flat.shape
    if values.ndim > 1 and n_places > 1 and _is_open_mask(values):
        kept = torch.from_numpy(rng.integers(1, values.shape[-1] + 1, size=(n_rows, 1)))
        masked = torch.arange(values.shape[-1]) >= kept
        made = values[:1].expand(n_rows, *values.shape[1:]).clone()
        masked = masked.reshape(n_rows, *[1] * (values.ndim - 2), -1).expand_as(made)
        return torch.where(masked, (made == 0).to(made.dtype), made)
    if n_given > 1:
        chosen = torch.from_numpy(rng.integers(n_given, size=(n_rows, n_places)))
        made = flat.gather(0, chosen)
    else:
        order = np.argsort(rng.random((n_rows, n_places)), axis=1)
        made = flat[0][torch.from_numpy(order)]
    return made.reshape(n_rows, *values.shape[1:])


def _is_open_mask(values: torch.Tensor) -> bool:
    """Whether values look like a mask that lets everything through.

    An index of 0 is as valid as one of 1, so nothing is lost where this is an index after all. Zeros
    are taken for a mask only where they are truth values: 1 may lie outside a table of one entry.
    """
    import torch

    return bool((values == 1).all()) or (values.dtype == torch.bool and not bool(values.any()))
