"""Running an exported graph beside its source, at sizes and on values that the example has not.

The parity check compares the example's rows; here it is the sizes that matter: an exporter may have frozen
an axis, or a branch, as it was when the model was traced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infersdk._native import Session
from infersdk.convert.array_answers import dtype_name, take_apart
from infersdk.convert.array_axes import BATCH, ROWS, rows_of, sizes_of
from infersdk.convert.array_rows import agree, resized, varied, with_rows
from infersdk.convert.array_study import Subject
from infersdk.errors import ConversionError, InferSDKError, SessionError, UnsupportedModelError
from infersdk.types import Signature, TensorSpec

if TYPE_CHECKING:
    import onnx

__all__ = ["SAMPLE_ROWS", "SMALL_VALUES", "check_integers", "edges", "prove", "trials"]

SAMPLE_ROWS = 3
"""Rows of the first two trials; a graph that is traced from an example is traced with as many."""

SMALL_VALUES = 2**15
"""Values in an example up to which axes are tried at three times its size too."""

_EDGE_ROWS = 64
_EDGE_BYTES = 16 * 2**20

_LEAST_AGREEMENT = 0.9
"""Share of integers that must be equal: a class on the border of two may round either way."""


def prove(model: onnx.ModelProto, subject: Subject, specs: Sequence[TensorSpec]) -> None:
    """Run graph and source side by side, at other sizes and on other values.

    Parameters
    ----------
    model : onnx.ModelProto
        Its inputs are the subject's, in order.
    specs : sequence of TensorSpec
        Of the graph's inputs; their named axes are tried.

    Raises
    ------
    ConversionError
        ONNX Runtime does not run the graph, or it answers differently.
    """
    try:
        session = Session(model.SerializeToString(), name="conversion")
    except SessionError as exc:
        raise ConversionError(f"ONNX Runtime does not take the exported graph: {exc}") from exc
    rng = np.random.default_rng(20051)
    rows = rows_of(specs)
    n_compared, n_integers, n_equal = 0, 0, 0
    try:
        small = sum(array.size for array in subject.arrays) < SMALL_VALUES
        for sizes, factor in trials(sizes_of(specs, subject.arrays), small=small):
            trial = _trial(subject, specs, rows, sizes, factor, rng)
            if trial is None:
                continue
            arrays, theirs = trial
            shown = ", ".join(f"{name}={size}" for name, size in sizes.items()) or "the example"
            try:
                ours = session.run_ordered([_plain(array) for array in arrays])
            except InferSDKError as exc:
                raise ConversionError(
                    f"The graph fails where the model does not, at {shown}: {exc}"
                ) from exc
            for value, mine, other in zip(model.graph.output, ours, theirs, strict=True):
                mine = np.asarray(mine)
                same = mine.shape == other.shape and _same_dtype(mine, other)
                if same and other.dtype.kind in "iub":
                    if factor != 0.0:  # equal scores all over; which is the largest is arbitrary
                        n_integers += other.size
                        n_equal += int((mine == other).sum())
                elif same:
                    same = (
                        agree(mine, other, tolerance=subject.tolerance)
                        if other.dtype.kind not in "OSU"
                        else _same_text(mine, other)
                    )
                if not same:
                    raise ConversionError(
                        f"The exported graph answers differently from the model at {shown} (output "
                        f"`{value.name}`: expected {other.dtype} {other.shape}, got {mine.dtype} "
                        f"{mine.shape})"
                    )
            n_compared += 1
    finally:
        session.close()
    if n_compared == 0:
        raise ConversionError("The model ran on none of the inputs made from its example")
    check_integers(n_equal, n_integers)


def check_integers(n_equal: int, n_integers: int) -> None:
    """Raise where too many integers differ.

    Raises
    ------
    ConversionError
        Fewer than 90% of them are equal.
    """
    if n_equal < _LEAST_AGREEMENT * n_integers:
        raise ConversionError(
            f"The exported graph answers differently from the model: {n_integers - n_equal} of "
            f"{n_integers} integers differ"
        )


def trials(
    example: dict[str, int], *, small: bool
) -> Iterator[tuple[dict[str, int], float | None]]:
    """Give sizes of the dynamic axes, and what to multiply values by (None: leave them alone).

    Parameters
    ----------
    example : dict of str to int
        The dynamic axes, and their sizes in the example.
    small : bool
        Whether the example is small enough to be tried at three times its size.
    """
    lengths: dict[str, Callable[[int], int]] = {
        "same": lambda size: size,
        "longer": lambda size: size + 1,
        "much longer": lambda size: 3 * size + 1 if small else size + 1,
        "shorter": lambda size: max(1, size - 1),
        "one": lambda size: 1,
    }
    plan: list[tuple[int, str, float | None]] = [
        (SAMPLE_ROWS, "same", None),
        (SAMPLE_ROWS, "same", 1.0),
        (2, "longer", 1.0),
        (1, "same", -1.0),
        (5, "much longer", 0.0),
        (3, "shorter", 10.0),
        (1, "same", 1.0),
        (2, "one", 1.0),
        (1, "longer", 1.0),
    ]
    if not example:
        plan = [(0, "same", factor) for factor in (None, 1.0, -1.0, 0.0, 10.0)]
    for n_rows, length, factor in plan:
        sizes = {
            name: n_rows if name in (BATCH, ROWS) else lengths[length](size)
            for name, size in example.items()
        }
        yield sizes, factor


def edges(
    subject: Subject, signature: Signature, n_rows: int, rng: np.random.Generator
) -> dict[str, Any] | None:
    """Edge rows of any subject, or its example's where it takes none of those made up; None where neither."""
    specs = [spec for spec in signature.inputs if isinstance(spec, TensorSpec)]
    rows = rows_of(specs)
    row_bytes = sum(subject.arrays[index][:1].nbytes for index in rows)
    count = min(n_rows, _EDGE_ROWS, max(8, _EDGE_BYTES // max(row_bytes, 1))) if rows else None
    factors = [1.0, -1.0, 0.1, 3.0]
    if all("int" not in spec.dtype for spec in signature.outputs if isinstance(spec, TensorSpec)):
        # A row of zeros often gives equal scores; which of them is the largest is arbitrary then.
        factors.append(0.0)
    made = varied(subject.arrays, rows, count, rng, factors=factors)
    plain = subject.arrays if count is None else with_rows(subject.arrays, rows, count)
    for arrays in (made, plain):
        try:
            subject.run([array[:2] if i in rows else array for i, array in enumerate(arrays)])
        except Exception:  # values that the model does not take
            continue
        return dict(zip(subject.names, arrays, strict=True))
    return None


def _trial(
    subject: Subject,
    specs: Sequence[TensorSpec],
    rows: Sequence[int],
    sizes: dict[str, int],
    factor: float | None,
    rng: np.random.Generator,
) -> tuple[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...]] | None:
    """Make one input and have the model answer it; None where the model itself does not take it."""
    n_rows = next((sizes[name] for name in (BATCH, ROWS) if name in sizes), None)
    kinds = [subject.arrays]
    if factor is not None:
        kinds = [varied(subject.arrays, rows, n_rows, rng, factors=(factor,)), subject.arrays]
    for arrays in kinds:
        fitted = []
        for spec, array in zip(specs, arrays, strict=True):
            for axis, dim in enumerate(spec.shape or ()):
                if isinstance(dim, str):
                    array = resized(array, axis, sizes[dim])
            fitted.append(np.ascontiguousarray(array).reshape(array.shape))
        try:
            return tuple(fitted), take_apart(subject.run(fitted)).arrays
        except UnsupportedModelError:
            raise
        except Exception:  # values or sizes that the model does not take: no one will send them
            continue
    return None


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Text as objects of str, which is what a session takes."""
    return array.astype(object) if array.dtype.kind in "SU" else array


def _same_dtype(mine: NDArray[Any], other: NDArray[Any]) -> bool:
    return dtype_name(mine.dtype) == dtype_name(other.dtype)


def _same_text(mine: NDArray[Any], other: NDArray[Any]) -> bool:
    return bool(np.array_equal(mine.astype(str), other.astype(str)))
