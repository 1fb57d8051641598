"""PyTorch: ``nn.Module``, ``torch.export.ExportedProgram`` and TorchScript modules. Tested with 2.13.

A LightningModule (tested with lightning 2.6) is answered as its ``forward()`` does without a trainer:
``self.log`` does nothing. A ``.ckpt`` file is a pickle and is not opened; pass the module that
``load_from_checkpoint`` returns.

The example
    One tensor or numpy array; a tuple of them, passed by position; or a dict, passed by the names of
    ``forward()``'s parameters (or as the one dict that ``forward()`` takes). It is needed, except by a
    ``Linear`` layer, a ``Sequential`` that begins with one, an ``ExportedProgram`` and a LightningModule
    with an ``example_input_array``, which know their inputs.

Dynamic axes
    The model is run at other sizes to learn which axes it takes at any size, and the graph is run beside
    the model at several sizes to see that it does too. Axis 0 is called ``"N"`` where a row's answer does
    not depend on the rows beside it, and ``"rows"`` where it does. What the exporter must fix is noted.

Whose answers
    Those of ``model.eval()`` under ``torch.inference_mode()`` on the CPU. The user's module is never
    switched, moved or written to: exports and comparisons use a copy that shares its parameters.

Known losses
    A branch on a tensor's values, state kept between calls, random answers, nested answers and TorchScript
    of 1.9 GB or more are refused; such a model is served natively. A bfloat16 model is answered in float32
    by the same weights, because ONNX Runtime has no bfloat16 arithmetic on the CPU. A named tuple becomes
    a tuple, a dataclass a dict.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from infersdk.convert.array_axes import BATCH, ROWS
from infersdk.convert.registry import Written
from infersdk.convert.torch_calls import (
    Subject,
    exported_example,
    prepare,
    take_apart,
    to_tensors,
)
from infersdk.convert.torch_copies import (
    eval_view,
    is_bfloat16,
    is_exported_program,
    is_script,
    unwrap,
    weight_bytes,
)
from infersdk.convert.torch_graph import branches, rename_axis
from infersdk.convert.torch_silence import quiet
from infersdk.convert.torch_study import (
    answers_repeat,
    resized,
    study,
    varied,
)
from infersdk.convert.torch_weights import with_weights
from infersdk.errors import ConversionError, UnsupportedModelError
from infersdk.types import Method, Signature, TensorSpec

if TYPE_CHECKING:
    pass

__all__ = [
    "EXTRA",
    "FRAMEWORK",
    "call",
    "can_convert",
    "edge_rows",
    "infer_signature",
    "reference",
    "to_onnx",
]

FRAMEWORK = "PyTorch"
EXTRA = "torch"

_LARGEST_SCRIPT_BYTES = 1_900_000_000
"""Most weights that TorchScript's exporter gets into one message: protobuf ends at 2 GiB."""

_SYNTHESIZED_ROWS = 4

_CHECKED_ROWS = 8
_EDGE_INPUT_BYTES = 16 * 2**20
_EDGE_WEIGHT_BYTES = 2**31
"""Edge rows times the bytes of a row, and times the bytes of the weights that a row passes through."""


def can_convert(model: Any) -> bool:
    """Whether the model is a torch module or exported program; reads its class only."""
    return is_exported_program(model) or any(
        (base.__module__, base.__name__) == ("torch.nn.modules.module", "Module")
        for base in type(model).__mro__
    )


def infer_signature(model: Any, example: Any = None) -> Signature:
    """Run the model on the example, and at other sizes, to learn what it takes and gives.

    A model whose answer no graph can give (a nested one, say) gets no outputs; it can be served natively.

    Parameters
    ----------
    model : torch.nn.Module, torch.export.ExportedProgram or torch.jit.ScriptModule
        Left as it is.
    example : torch.Tensor, numpy.ndarray, tuple or dict, optional
        What ``forward()`` takes.

    Raises
    ------
    ConversionError
        An example is needed, does not fit ``forward()``, or makes it raise.
    """
    with quiet():
        found = study(prepare(model, _example(model, example)))
    if found.answer is None:
        method = Method("__call__", ())
    else:
        method = Method(
            "__call__",
            tuple(spec.name for spec in found.outputs),
            form=found.answer.form,
            keys=found.answer.keys,
        )
    return Signature(found.inputs, found.outputs, (method,), container="tensors")


def to_onnx(
    model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
) -> Written:
    """Export the model, weights included, and prove the graph at several sizes.

    Parameters
    ----------
    model : torch.nn.Module, torch.export.ExportedProgram or torch.jit.ScriptModule
        Left as it is.
    signature : Signature
        Of :func:`infer_signature`. Where the exporter fixed an axis that the signature calls dynamic, the
        graph says so and a note tells why: read the graph's shapes, not the signature's, from then on.
    example : torch.Tensor, numpy.ndarray, tuple or dict, optional
        The example that the signature was inferred from.
    opset : int, optional
        ONNX opset; by default the exporter's own.

    Raises
    ------
    UnsupportedModelError
        The model decides by tensors' values, keeps state, is random, or answers in a nested container.
    ConversionError
        torch cannot export it, the graph answers differently, or TorchScript is too large for one file.
    MissingDependencyError
        onnxscript is not installed.
    """
    n_bytes = weight_bytes(unwrap(model))
    if n_bytes > _LARGEST_SCRIPT_BYTES and is_script(unwrap(model)):
        raise ConversionError(
            f"Expected at most {_LARGEST_SCRIPT_BYTES / 1e9:.1f} GB of weights in a TorchScript module, got "
            f"{n_bytes / 1e9:.1f} GB - {type(model).__name__}. Pass the module that was scripted"
        )
    with quiet():
        return _to_onnx(model, signature, example, opset)


def _to_onnx(model: Any, signature: Signature, example: Any, opset: int | None) -> Written:
    from infersdk.convert.torch_export import export

    rows = _example(model, example)
    subject = prepare(model, rows, for_export=True)
    if not signature.outputs:
        raise UnsupportedModelError(
            f"No ONNX graph can give the answer of {type(model).__name__}: {study(subject).refusal}"
        )
    if not answers_repeat(subject):
        raise UnsupportedModelError(
            f"{type(model).__name__} gives two answers to the same rows: it samples at random (dropout "
            "called with training=True?) or keeps state between calls. A graph would do neither alike"
        )
    graph, found = export(subject, signature, opset=opset)
    other = None
    if branches(graph.graph):
        # torch.cond, which may not have shown on the example's rows.
        rename_axis(graph.graph, BATCH, ROWS)
        other = signature = _dependent(signature)
    notes = (*_notes(model, subject, rows, signature, example), *found)
    return with_weights(Written(graph, notes, other), subject)


def _dependent(signature: Signature) -> Signature:
    """Say of a signature that a row's answer depends on the rows beside it."""

    def renamed(specs: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(
            dataclasses.replace(
                spec, shape=tuple(ROWS if dim == BATCH else dim for dim in spec.shape)
            )
            if isinstance(spec, TensorSpec) and spec.shape is not None
            else spec
            for spec in specs
        )

    return dataclasses.replace(
        signature, inputs=renamed(signature.inputs), outputs=renamed(signature.outputs)
    )


def call(model: Any, method: str, rows: Any) -> Any:
    """Answer rows as the model itself would in eval mode, on its own device and in its own dtype.

    Safe to call from several threads, also while the user trains the model: its flags are not touched.

    Parameters
    ----------
    rows : torch.Tensor, numpy.ndarray, tuple or dict
        As the example. Inputs of a bfloat16 model may be float32.

    Returns
    -------
    torch.Tensor, tuple, list or dict
        What ``forward()`` returns, on the CPU; a dataclass becomes a dict. Where the rows hold no
        torch tensor, arrays take the tensors' places (bfloat16, which numpy lacks, as float32).
    """
    import torch

    _refuse_other_methods(method)
    view = eval_view(model)
    layout, tensors = to_tensors(model, rows)
    weights = next(iter(model.parameters()), None)
    if is_bfloat16(model):
        tensors = tuple(
            tensor.bfloat16() if tensor.dtype == torch.float32 else tensor for tensor in tensors
        )
    if weights is not None and weights.device.type != "cpu":
        tensors = tuple(tensor.to(weights.device) for tensor in tensors)
    with torch.inference_mode():
        return _in_kind(rows, _on_cpu(layout.call(view, tensors)))


def reference(model: Any, method: str, rows: Any) -> Any:
    """Answer rows as the graph should: as :func:`call`, but always on the CPU, and bfloat16 in float32.

    A comparison with the model's own arithmetic on a GPU, or in bfloat16, would measure that arithmetic's
    rounding and not the conversion.
    """
    _refuse_other_methods(method)
    with quiet():
        subject = prepare(model, rows)
        return _in_kind(rows, _on_cpu(subject.run(subject.tensors)))


def edge_rows(
    model: Any,
    signature: Signature,
    example: Any,
    *,
    n_rows: int,
    rng: np.random.Generator,
) -> Any:
    """Make rows that provoke differences: noisy, negated, zero, enlarged.

    Integers and masks keep to values that the example has at the same position. Lengths are the
    example's: :func:`to_onnx` has proven the others already.

    Returns
    -------
    torch.Tensor, tuple, dict or None
        The example's container with ``n_rows`` rows; fewer where rows or weights are large, so that
        answering them stays cheap; as many as the example where the number of rows is fixed; None
        without an example.
    """
    with quiet():
        return _edge_rows(model, signature, example, n_rows, rng)


def _edge_rows(
    model: Any, signature: Signature, example: Any, n_rows: int, rng: np.random.Generator
) -> Any:
    try:
        subject = prepare(model, _example(model, example))
    except ConversionError:
        return None
    specs = [spec for spec in signature.inputs if isinstance(spec, TensorSpec)]
    if len(specs) != len(subject.tensors):
        return None
    rows = [
        index for index, spec in enumerate(specs) if spec.shape and spec.shape[0] in (BATCH, ROWS)
    ]
    if rows:
        count = _affordable(model, subject, rows, n_rows)
    else:
        count = None
    factors = [1.0, -1.0, 0.1, 3.0]
    if all(isinstance(spec, TensorSpec) and "int" not in spec.dtype for spec in signature.outputs):
        # A row of zeros often gives equal scores; which of them is the largest is arbitrary then.
        factors.append(0.0)
    made = varied(subject.tensors, rows, count, rng, factors=factors)
    plain = tuple(
        resized(tensor, 0, count) if count is not None and index in rows else tensor
        for index, tensor in enumerate(subject.tensors)
    )
    for tensors in (made, plain):
        few = [
            tensor[:_CHECKED_ROWS] if index in rows else tensor
            for index, tensor in enumerate(tensors)
        ]
        try:
            subject.run(few)
        except Exception:  # values that forward() does not take
            continue
        return subject.layout.to_rows(tensors)
    return None


def _affordable(model: Any, subject: Subject, rows: list[int], n_rows: int) -> int:
    row_bytes = sum(subject.tensors[index][:1].nbytes for index in rows)
    by_input = _EDGE_INPUT_BYTES // max(row_bytes, 1)
    by_weights = _EDGE_WEIGHT_BYTES // max(weight_bytes(unwrap(model)), 1)
    return max(min(n_rows, _CHECKED_ROWS), min(n_rows, by_input, by_weights))


def _example(model: Any, example: Any) -> Any:
    """Return the example, or one made from what the model knows of its inputs.

    Raises
    ------
    ConversionError
        The model does not know.
    """
    if example is not None:
        return example
    model = unwrap(model)
    if is_exported_program(model) and model.example_inputs is not None:
        return exported_example(model)
    if (own := _own_example(model)) is not None:
        return own
    first = model
    while not is_script(first) and type(first).__name__ == "Sequential" and len(first):
        first = first[0]
    n_features = getattr(first, "in_features", None)
    if type(first).__name__ == "Linear" and isinstance(n_features, int) and n_features > 0:
        generator = np.random.default_rng(20029)
        return generator.standard_normal((_SYNTHESIZED_ROWS, n_features)).astype(np.float32)
    raise ConversionError(
        f"An example is needed: {type(model).__name__} does not say what its inputs are. Pass one "
        "batch as example=: a tensor, a tuple of tensors, or a dict by the names of forward()'s parameters"
    )


def _own_example(model: Any) -> Any:
    """The ``example_input_array`` of a LightningModule, if it has one."""
    own = getattr(unwrap(model), "example_input_array", None)
    return tuple(own) if isinstance(own, list) else own


def _notes(
    model: Any, subject: Subject, rows: Any, signature: Signature, example: Any
) -> list[str]:
    notes = []
    if example is None and not is_exported_program(model) and _own_example(model) is None:
        notes.append("The example was made up from the first layer's in_features")
    if not is_exported_program(model):
        training = sum(module.training for module in model.modules())
        if training:
            notes.append(
                f"{training} of its modules are in training mode; it was converted as eval() answers"
            )
    if subject.widened:
        notes.append(_widening_note(model, subject, rows))
    names = {dim for spec in signature.inputs for dim in getattr(spec, "shape", None) or ()}
    if ROWS in names:
        notes.append(
            "A row's answer depends on the rows beside it, so rows of different callers are not put "
            "into one batch"
        )
    elif BATCH not in names:
        notes.append("The model takes the example's number of rows only")
    return notes


def _widening_note(model: Any, subject: Subject, rows: Any) -> str:
    """Say how far float32 arithmetic is from the model's own bfloat16, on the example."""
    note = "The bfloat16 weights were widened to float32, exactly; arithmetic is float32"
    try:
        narrow = take_apart(call(model, "__call__", rows)).tensors
    except (
        Exception
    ):  # torch may lack a bfloat16 kernel on this device; the note goes without numbers
        return note
    wide = take_apart(subject.run(subject.tensors)).tensors
    errors = [
        float((ours.double() - theirs.double()).abs().max())
        for ours, theirs in zip(wide, narrow, strict=True)
        if theirs.is_floating_point() and theirs.numel()
    ]
    return (
        f"{note}. Answers differ from bfloat16 arithmetic by up to {max(errors, default=0.0):.2g}"
    )


def _on_cpu(answer: Any) -> Any:
    """Bring an answer's tensors to the CPU and make a dataclass a dict; leave all else as it is."""
    import torch
    from torch.utils import _pytree as pytree

    if dataclasses.is_dataclass(answer) and not isinstance(answer, Mapping | type):
        answer = {item.name: getattr(answer, item.name) for item in dataclasses.fields(answer)}
    if isinstance(answer, torch.Tensor):
        return answer.cpu()
    if all(
        item.device.type == "cpu"
        for item in pytree.tree_leaves(answer)
        if isinstance(item, torch.Tensor)
    ):
        return answer
    return pytree.tree_map_only(torch.Tensor, lambda item: item.cpu(), answer)


def _in_kind(rows: Any, answer: Any) -> Any:
    """Return arrays for arrays."""
    import torch
    from torch.utils import _pytree as pytree

    def array(tensor: torch.Tensor) -> np.ndarray:
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()

    given = pytree.tree_leaves(rows)
    if any(isinstance(item, torch.Tensor) for item in given):
        return answer
    return pytree.tree_map_only(torch.Tensor, array, answer)


def _refuse_other_methods(method: str) -> None:
    if method != "__call__":
        raise UnsupportedModelError(f"Expected method `__call__` of a torch model, got `{method}`")
