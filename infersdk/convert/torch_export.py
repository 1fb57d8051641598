"""From a studied torch model to an ONNX graph that was seen to answer as the model does.

``nn.Module`` and ``ExportedProgram`` go through ``torch.export``, which refuses what it cannot follow: a
branch on a tensor's values raises. The older tracer, which would freeze such a branch as the example
took it, is used for TorchScript only, where the branches are part of the program already.

``torch.export`` may fix an axis at the example's size, or be right for sizes of two and more only. So the
graph is run beside the model at several sizes before it is handed on, and the dynamic axes are given up,
step by step, where the two differ.
"""

from __future__ import annotations

import io
import re
import sysconfig
import threading
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infersdk.convert.array_axes import BATCH, ROWS, sizes_of
from infersdk.convert.array_proof import SAMPLE_ROWS
from infersdk.convert.torch_calls import Subject, take_apart
from infersdk.convert.torch_copies import is_script, with_gradients
from infersdk.convert.torch_graph import describe, dynamic_names
from infersdk.convert.torch_proof import WrongAtEverySizeError, prove
from infersdk.convert.torch_silence import quiet
from infersdk.convert.torch_study import resized
from infersdk.convert.torch_weights import detach, large_weights, take_out
from infersdk.errors import (
    ConversionError,
    InferSDKError,
    MissingDependencyError,
    UnsupportedModelError,
)
from infersdk.types import Signature, TensorSpec

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = ["export"]

_EXPORT_LOCK = threading.Lock()
"""Both exporters keep state of their own outside the call; one export at a time."""

_FIXED_ROWS = (
    "torch.export fixed the number of rows, because forward() turns it into a plain number "
    "(int(x.shape[0]), a loop over rows)"
)


class _FixedRowsError(ConversionError):
    """The exporter took the number of rows for a constant."""


def export(
    subject: Subject, signature: Signature, *, opset: int | None
) -> tuple[onnx.ModelProto, list[str]]:
    """Export, keeping as many of the signature's named axes dynamic as are proven right.

    The axis of rows is given up only with the export itself: a graph for one number of rows would refuse
    what the model answers. A length may be fixed at the example's.

    Returns
    -------
    model : onnx.ModelProto
        Inputs, outputs and axes are named as in the signature; an axis that had to be fixed is an int.
    notes : list of str

    Raises
    ------
    UnsupportedModelError
        A branch of the model depends on the values of a tensor.
    ConversionError
        No graph was produced, or none that answers as the model does.
    """
    specs = _tensor_specs(signature.inputs)
    named = frozenset(sizes_of(specs, subject.tensors))
    failures: list[str] = []

    def attempt(dynamic: frozenset[str]) -> tuple[onnx.ModelProto, list[str]] | None:
        try:
            return _attempt_both(subject, signature, dynamic, opset)
        except (UnsupportedModelError, MissingDependencyError):
            raise
        except WrongAtEverySizeError as exc:
            raise ConversionError(str(exc)) from exc
        except ConversionError as exc:
            failures.append(str(exc))
            return None

    if found := attempt(named):
        return found
    rows = named & {BATCH, ROWS}
    best, kept = (attempt(rows) if rows < named else None), rows
    if best is not None or not rows:
        # Which of the other axes it was is not known; each is tried beside those that are proven.
        for name in sorted(named - rows):
            if kept | {name} != named and (found := attempt(kept | {name})):
                best, kept = found, kept | {name}
    if best is None and named and not rows:
        best, kept = attempt(frozenset()), frozenset()
    if best is None:
        raise ConversionError(failures[0])
    model, notes = best
    fixed = ", ".join(f"`{name}`" for name in sorted(named - kept))
    return model, [f"Fixed at the example's size: {fixed}. {failures[0]}", *notes]


def _attempt_both(
    subject: Subject, signature: Signature, named: frozenset[str], opset: int | None
) -> tuple[onnx.ModelProto, list[str]]:
    """Export by running forward(), and where that fixes an axis, by reading its bytecode.

    Running is what torch.export does by default; but ``len(x)`` then is a plain number, a constant.
    """
    try:
        model, notes = _attempt(subject, signature, named, opset)
    except _FixedRowsError as exc:
        if is_script(subject.module):
            raise
        try:
            return _attempt(subject, signature, named, opset, strict=True)
        except ConversionError:
            raise exc from None
    if named <= dynamic_names(model) or is_script(subject.module):
        return model, notes
    try:
        read, read_notes = _attempt(subject, signature, named, opset, strict=True)
    except ConversionError:
        return model, notes
    if len(named & dynamic_names(read)) > len(named & dynamic_names(model)):
        return read, read_notes
    return model, notes


def _attempt(
    subject: Subject,
    signature: Signature,
    named: frozenset[str],
    opset: int | None,
    *,
    strict: bool = False,
) -> tuple[onnx.ModelProto, list[str]]:
    specs = _tensor_specs(signature.inputs)
    sample = _sample(subject, specs, named)
    model = _run_exporter(subject, specs, sample, named, signature, opset, strict)
    recurrent = _is_recurrent(subject.module)
    sizes = describe(model, specs, _tensor_specs(signature.outputs), named, relax=recurrent)
    example = sizes_of(specs, subject.tensors)
    dynamic = dynamic_names(model)
    notes = []
    for name in sorted(named - dynamic):
        if name in (BATCH, ROWS):
            raise _FixedRowsError(_FIXED_ROWS)
        if sizes.get(name, example[name]) != example[name]:
            raise ConversionError(f"torch.export fixed `{name}` at {sizes[name]}")
        notes.append(
            f"`{name}` is fixed at {example[name]}: torch.export found forward() to need it"
        )
    notes += prove(model, subject, specs, dynamic)
    return model, notes


def _sample(
    subject: Subject, specs: Sequence[TensorSpec], named: frozenset[str]
) -> tuple[torch.Tensor, ...]:
    """Return the example at sizes of two and more: torch.export takes a size of 1 for a constant."""
    sample = []
    for spec, tensor in zip(specs, subject.tensors, strict=True):
        for axis, dim in enumerate(spec.shape or ()):
            if dim in named:
                size = SAMPLE_ROWS if dim in (BATCH, ROWS) else max(2, tensor.shape[axis])
                tensor = resized(tensor, axis, size)
        sample.append(tensor.clone())
    return tuple(sample)


def _run_exporter(
    subject: Subject,
    specs: Sequence[TensorSpec],
    sample: Sequence[torch.Tensor],
    named: frozenset[str],
    signature: Signature,
    opset: int | None,
    strict: bool,
) -> onnx.ModelProto:
    import torch

    try:
        import onnxscript  # noqa: F401
    except ImportError as exc:
        raise MissingDependencyError.for_extra(
            "onnxscript", "torch", "Converting a PyTorch model"
        ) from exc
    axes = [[axis for axis, dim in enumerate(spec.shape or ()) if dim in named] for spec in specs]
    with _EXPORT_LOCK, quiet(), torch.no_grad():
        try:
            if is_script(subject.module):
                model = _legacy(subject, sample, axes, len(signature.outputs), opset)
            else:
                model = _dynamo(subject, sample, specs, axes, opset, strict)
        except InferSDKError:
            raise
        except Exception as exc:
            raise _translated(exc) from exc
    if len(model.graph.input) != len(specs) or len(model.graph.output) != len(signature.outputs):
        raise ConversionError(
            f"Expected a graph of {len(specs)} inputs and {len(signature.outputs)} outputs, the "
            f"exporter gave {len(model.graph.input)} and {len(model.graph.output)}"
        )
    return model


def _dynamo(
    subject: Subject,
    sample: Sequence[torch.Tensor],
    specs: Sequence[TensorSpec],
    axes: Sequence[Sequence[int]],
    opset: int | None,
    strict: bool,
) -> onnx.ModelProto:
    import torch

    auto = torch.export.Dim.AUTO
    if strict:
        # Weights that ask for a gradient keep a Transformer off its fused kernel, which has no ONNX form.
        subject = replace(subject, module=with_gradients(subject.module))
    with torch.set_grad_enabled(strict):
        program = torch.export.export(
            _flat_module(subject),
            tuple(sample),
            dynamic_shapes=(tuple(dict.fromkeys(item, auto) for item in axes),),
            strict=strict,
        )
    placeholders = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    for name, spec, dynamic in zip(program.graph_signature.user_inputs, specs, axes, strict=True):
        counts_rows = 0 in dynamic and spec.shape is not None and spec.shape[0] in (BATCH, ROWS)
        if counts_rows and isinstance(placeholders[name].meta["val"].shape[0], int):
            raise _FixedRowsError(_FIXED_ROWS)
    weights = large_weights(subject)
    exported = torch.onnx.export(
        program, dynamo=True, verbose=False, opset_version=opset, optimize=not weights
    )
    if weights:
        detach(exported, weights)
        exported.optimize()
    model = exported.model_proto
    take_out(model, weights)
    return model


def _legacy(
    subject: Subject,
    sample: Sequence[torch.Tensor],
    axes: Sequence[Sequence[int]],
    n_outputs: int,
    opset: int | None,
) -> onnx.ModelProto:
    import onnx
    import torch

    layout = subject.layout
    if layout.as_mapping or isinstance(subject.run(sample), dict):
        raise UnsupportedModelError(
            "TorchScript's exporter knows no dicts; let forward() take and return tensors or tuples, or "
            "pass the module that was scripted"
        )
    keyword = dict(
        zip(layout.names[layout.n_positional :], sample[layout.n_positional :], strict=True)
    )
    inputs = [f"infersdk_input_{index}" for index in range(len(sample))]
    outputs = [f"infersdk_output_{index}" for index in range(n_outputs)]
    dynamic = {
        name: {axis: f"axis_{index}_{axis}" for axis in item}
        for index, (name, item) in enumerate(zip(inputs, axes, strict=True))
        if item
    }
    buffer = io.BytesIO()
    torch.onnx.export(
        subject.module,
        tuple(sample[: layout.n_positional]),
        buffer,
        kwargs=keyword or None,
        dynamo=False,
        input_names=inputs,
        output_names=outputs,
        dynamic_axes=dynamic,
        opset_version=opset,
    )
    return onnx.load_model_from_string(buffer.getvalue())


def _flat_module(subject: Subject) -> Any:
    """Wrap the model so that it takes and gives plain tensors, whatever containers it uses itself."""
    import torch

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = subject.module
            self.training = False

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return take_apart(subject.layout.call(self.model, tensors)).tensors

    return Flat()


def _is_recurrent(module: Any) -> bool:
    import torch

    return any(isinstance(item, torch.nn.RNNBase) for item in module.modules()) or any(
        node.op == "call_function"
        and str(node.target).startswith(("aten.lstm", "aten.gru", "aten.rnn"))
        for item in module.modules()
        if isinstance(item, torch.fx.GraphModule)
        for node in item.graph.nodes
    )


def _tensor_specs(values: Sequence[Any]) -> tuple[TensorSpec, ...]:
    return tuple(value for value in values if isinstance(value, TensorSpec))


def _translated(exc: Exception) -> ConversionError:
    """Put an exporter's error into one sentence: where forward() stands, and what is wrong there."""
    chain: list[BaseException] = [exc]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    place = _user_line(exc)
    if any(_is_data_dependent(item) for item in chain):
        return UnsupportedModelError(
            f"forward() takes a decision by the values of a tensor{place}, which a graph of fixed shape "
            "cannot follow. Write it with torch.where or torch.cond; until then the model is served "
            "natively"
        )
    reason = _first_line(chain[-1]) or _first_line(exc) or type(exc).__name__
    return ConversionError(f"torch cannot export the model{place}: {reason}")


def _is_data_dependent(exc: BaseException) -> bool:
    names = {base.__name__ for base in type(exc).__mro__}
    return bool(
        names & {"GuardOnDataDependentSymNode", "DataDependentOutputException"}
    ) or "data-dependent" in str(exc)


def _user_line(exc: BaseException) -> str:
    import torch

    others = {Path(torch.__file__).parent, Path(__file__).parent}
    library = Path(sysconfig.get_path("stdlib"))
    for frame in reversed(traceback.extract_tb(exc.__traceback__)):
        path = Path(frame.filename)
        in_library = library in path.parents and "site-packages" not in path.parts
        if path.is_absolute() and not in_library and not others & set(path.parents):
            line = f" `{frame.line}`" if frame.line else ""
            return f" at {path.name}:{frame.lineno}{line}"
    return ""


def _first_line(exc: BaseException) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(exc))
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
