"""Running an exported graph beside its torch model, at sizes and on values that the example has not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from infersdk.convert.array_axes import BATCH, ROWS, rows_of, sizes_of
from infersdk.convert.array_proof import SAMPLE_ROWS, SMALL_VALUES, check_integers, trials
from infersdk.convert.torch_calls import Subject, take_apart
from infersdk.convert.torch_study import agree, resized, varied
from infersdk.convert.torch_weights import GraphSession, large_weights
from infersdk.errors import ConversionError, InferSDKError, SessionError
from infersdk.types import TensorSpec

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = ["WrongAtEverySizeError", "prove"]


class WrongAtEverySizeError(ConversionError):
    """The graph differs at the very sizes that it was exported with, so fixing axes cannot help."""


def prove(
    model: onnx.ModelProto,
    subject: Subject,
    specs: Sequence[TensorSpec],
    dynamic: frozenset[str],
) -> list[str]:
    """Run graph and model side by side on other sizes and values.

    Sizes 1, 2, 3 and 5 of the axis of rows and, beside them, shorter and longer lengths; the example's own
    values, negated, zero and enlarged, so that a branch taken wrongly shows.

    Raises
    ------
    ConversionError
        ONNX Runtime does not run the graph, or it answers differently.
    """
    rng = np.random.default_rng(20021)
    example = sizes_of(specs, subject.tensors)
    rows = rows_of(specs)
    notes: list[str] = []
    n_equal, n_integers, n_compared = 0, 0, 0
    try:
        session = GraphSession(model, large_weights(subject))
    except SessionError as exc:
        raise ConversionError(f"ONNX Runtime does not take the exported graph: {exc}") from exc
    try:
        n_values = sum(tensor.numel() for tensor in subject.tensors)
        tried = {name: size for name, size in example.items() if name in dynamic}
        for sizes, factor in trials(tried, small=n_values < SMALL_VALUES):
            trial = _trial(subject, specs, rows, sizes, factor, rng)
            if trial is None:
                continue
            tensors, theirs = trial
            shown = ", ".join(f"{name}={size}" for name, size in sizes.items()) or "the example"
            try:
                given = session.run_ordered([_contiguous(tensor) for tensor in tensors])
            except InferSDKError as exc:
                if _is_short(sizes):
                    notes.append(f"The graph refuses {shown}, which the model takes")
                    continue
                raise ConversionError(
                    f"The graph fails where the model does not, at {shown}: {exc}"
                ) from exc
            for value, ours, their in zip(model.graph.output, given, theirs, strict=True):
                ours = _tensor(ours)
                if their.is_floating_point():
                    same = agree(ours, their)
                elif factor == 0.0:
                    continue  # equal scores all over; which of them is the largest is arbitrary
                else:
                    same = ours.numel() == their.numel() and ours.dtype == their.dtype
                    if same:
                        n_integers += their.numel()
                        n_equal += int((ours.reshape(-1) == their.reshape(-1)).sum())
                if not same:
                    exported = all(
                        size == (SAMPLE_ROWS if name in (BATCH, ROWS) else max(2, example[name]))
                        for name, size in sizes.items()
                    )
                    kind = WrongAtEverySizeError if exported else ConversionError
                    raise kind(
                        f"The exported graph answers differently from the model at {shown} (output "
                        f"`{value.name}`: expected {str(their.dtype).removeprefix('torch.')} "
                        f"{tuple(their.shape)}, got {tuple(ours.shape)}){_known_cause(subject.module)}"
                    )
                if ours.shape != their.shape:
                    notes.append(
                        f"At {shown} the model gives `{value.name}` as {tuple(their.shape)} (squeezed); "
                        f"the graph keeps {tuple(ours.shape)}"
                    )
            n_compared += 1
    finally:
        session.close()
    if n_compared == 0:
        raise ConversionError("The model ran on none of the inputs made from its example")
    check_integers(n_equal, n_integers)
    return list(dict.fromkeys(notes))


def _trial(
    subject: Subject,
    specs: Sequence[TensorSpec],
    rows: Sequence[int],
    sizes: dict[str, int],
    factor: float | None,
    rng: np.random.Generator,
) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]] | None:
    """Make one input and have the model answer it; None where the model itself does not take it."""
    n_rows = next((sizes[name] for name in (BATCH, ROWS) if name in sizes), None)
    kinds = [subject.tensors] if factor is None else []
    if factor is not None:
        kinds = [varied(subject.tensors, rows, n_rows, rng, factors=(factor,)), subject.tensors]
    for tensors in kinds:
        fitted = []
        for spec, tensor in zip(specs, tensors, strict=True):
            for axis, dim in enumerate(spec.shape or ()):
                if isinstance(dim, str) and dim in sizes:
                    tensor = resized(tensor, axis, sizes[dim])
            fitted.append(tensor)
        try:
            return tuple(fitted), take_apart(subject.run(fitted)).tensors
        except Exception:  # values or sizes that forward() does not take: no one will send them
            continue
    return None


def _is_short(sizes: dict[str, int]) -> bool:
    return any(size == 1 for name, size in sizes.items() if name not in (BATCH, ROWS))


def _contiguous(tensor: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().numpy()).reshape(tuple(tensor.shape))


def _tensor(value: Any) -> torch.Tensor:
    import torch

    return torch.from_numpy(np.array(value))


def _known_cause(module: Any) -> str:
    """Name what is known to make a model and its graph differ."""
    import torch

    for item in module.modules():
        if isinstance(item, torch.nn.TransformerEncoder) and item.enable_nested_tensor:
            return (
                ". TransformerEncoder zeroes padded positions, and cuts those that every row pads, in eval "
                "mode only; build it with enable_nested_tensor=False, or pool over unmasked positions"
            )
    return ""
