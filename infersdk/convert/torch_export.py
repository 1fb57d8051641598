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
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from infersdk._native import Session
from infersdk.convert.torch_calls import Subject, is_script, quiet, take_apart, with_gradients
from infersdk.convert.torch_study import BATCH, ROWS, agree, resized, sizes_of, varied
from infersdk.errors import (
    ConversionError,
    InferSDKError,
    MissingDependencyError,
    SessionError,
    UnsupportedModelError,
)
from infersdk.types import Dim, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = ["export"]

_EXPORT_LOCK = threading.Lock()
"""Both exporters keep state of their own outside the call; one export at a time."""

_SAMPLE_ROWS = 3
"""Rows that a model is exported with; torch.export takes a single row for a constant."""

_FIXED_ROWS = (
    "torch.export fixed the number of rows, because forward() turns it into a plain number "
    "(int(x.shape[0]), a loop over rows)"
)

_SMALL_VALUES = 2**15
"""Values in an example up to which axes are tried at three times its size too."""

_LEAST_AGREEMENT = 0.9
"""Share of integers that must be equal: a class on the border of two may round either way."""


class _FixedRowsError(ConversionError):
    """The exporter took the number of rows for a constant."""


class _WrongAtEverySizeError(ConversionError):
    """The graph differs at the very sizes that it was exported with, so fixing axes cannot help."""


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
        except _WrongAtEverySizeError as exc:
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
    if named <= _dynamic_names(model) or is_script(subject.module):
        return model, notes
    try:
        read, read_notes = _attempt(subject, signature, named, opset, strict=True)
    except ConversionError:
        return model, notes
    if len(named & _dynamic_names(read)) > len(named & _dynamic_names(model)):
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
    sizes = _describe(model, signature, named, relax=recurrent)
    example = sizes_of(specs, subject.tensors)
    dynamic = _dynamic_names(model)
    notes = []
    for name in sorted(named - dynamic):
        if name in (BATCH, ROWS):
            raise _FixedRowsError(_FIXED_ROWS)
        if sizes.get(name, example[name]) != example[name]:
            raise ConversionError(f"torch.export fixed `{name}` at {sizes[name]}")
        notes.append(
            f"`{name}` is fixed at {example[name]}: torch.export found forward() to need it"
        )
    notes += _prove(model, subject, specs, dynamic)
    return model, notes


def _sample(
    subject: Subject, specs: Sequence[TensorSpec], named: frozenset[str]
) -> tuple[torch.Tensor, ...]:
    """Return the example at sizes of two and more: torch.export takes a size of 1 for a constant."""
    sample = []
    for spec, tensor in zip(specs, subject.tensors, strict=True):
        for axis, dim in enumerate(spec.shape or ()):
            if dim in named:
                size = _SAMPLE_ROWS if dim in (BATCH, ROWS) else max(2, tensor.shape[axis])
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
    exported = torch.onnx.export(program, dynamo=True, verbose=False, opset_version=opset)
    return exported.model_proto


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


def _describe(
    model: onnx.ModelProto, signature: Signature, named: frozenset[str], *, relax: bool
) -> dict[str, int]:
    """Name the graph's values and axes as the signature does; drop what else the exporter noted.

    The exporter's own notes (source lines, paths of this machine, shapes of inner values under its names
    of axes) say nothing to ONNX Runtime.

    Parameters
    ----------
    relax : bool
        Call a named axis dynamic even if the exporter fixed it; the proof must then follow. An LSTM's
        length is such an axis: its ONNX operator takes any, but torch.export unrolls it while tracing.

    Returns
    -------
    dict of str to int
        The size of each axis that the exporter fixed.
    """
    graph = model.graph
    del model.metadata_props[:]
    del graph.metadata_props[:]
    _strip(graph)
    symbols: dict[str, str] = {}
    fixed: dict[str, int] = {}
    input_shapes: list[list[Dim]] = []
    for value, spec in zip(graph.input, _tensor_specs(signature.inputs), strict=True):
        shape: list[Dim] = []
        for declared, wanted in zip(_declared(value), spec.shape or (), strict=True):
            if isinstance(declared, str):
                shape.append(symbols.setdefault(declared, str(wanted)))
            elif isinstance(wanted, str) and wanted in named and relax:
                shape.append(wanted)
            else:
                if isinstance(wanted, str) and isinstance(declared, int):
                    fixed[wanted] = declared
                shape.append(declared)
        input_shapes.append(shape)
    dynamic = {dim for shape in input_shapes for dim in shape if isinstance(dim, str)}
    output_shapes: list[list[Dim] | None] = []
    for value, spec in zip(graph.output, _tensor_specs(signature.outputs), strict=True):
        declared_shape = _declared(value)
        if spec.shape is None or len(spec.shape) != len(declared_shape):
            output_shapes.append(None)
            continue
        output_shapes.append(
            [
                _output_dim(declared, wanted, symbols, dynamic)
                for declared, wanted in zip(declared_shape, spec.shape, strict=True)
            ]
        )
    _rename(
        graph,
        [spec.name for spec in signature.inputs],
        [spec.name for spec in signature.outputs],
    )
    for value, shape in zip(graph.input, input_shapes, strict=True):
        _set_shape(value, shape)
    for value, known in zip(graph.output, output_shapes, strict=True):
        _set_shape(value, known)
    return fixed


def _output_dim(declared: Dim, wanted: Dim, symbols: dict[str, str], dynamic: set[str]) -> Dim:
    if isinstance(wanted, str):
        if wanted in dynamic:
            return wanted
        return declared if isinstance(declared, int) else None
    if isinstance(declared, str):
        # An expression of axes, such as 2*s0, has no name.
        return symbols.get(declared)
    return declared if wanted == declared else None


def _declared(value: onnx.ValueInfoProto) -> list[Dim]:
    dims: list[Dim] = []
    for dim in value.type.tensor_type.shape.dim:
        if dim.HasField("dim_value"):
            dims.append(dim.dim_value)
        elif dim.dim_param.isdigit():  # how torch writes an axis that it found to be constant
            dims.append(int(dim.dim_param))
        else:
            dims.append(dim.dim_param or None)
    return dims


def _set_shape(value: onnx.ValueInfoProto, shape: Sequence[Dim] | None) -> None:
    tensor = value.type.tensor_type
    tensor.ClearField("shape")
    if shape is None:
        return
    tensor.shape.SetInParent()
    for dim in shape:
        entry = tensor.shape.dim.add()
        if isinstance(dim, int):
            entry.dim_value = dim
        elif dim is not None:
            entry.dim_param = dim


def _dynamic_names(model: onnx.ModelProto) -> frozenset[str]:
    return frozenset(
        dim for value in model.graph.input for dim in _declared(value) if isinstance(dim, str)
    )


def _strip(graph: onnx.GraphProto) -> None:
    del graph.value_info[:]
    graph.doc_string = ""
    for value in [*graph.input, *graph.output, *graph.initializer]:
        value.doc_string = ""
        del value.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for inner in _subgraphs(node):
            _strip(inner)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _rename(graph: onnx.GraphProto, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Give the graph's inputs and outputs their names; inner values that bear one get another."""
    names = {
        old.name: new
        for old, new in zip([*graph.input, *graph.output], [*inputs, *outputs], strict=True)
    }
    present = _value_names(graph)
    used = present | set(names.values())
    for new in list(names.values()):
        if new in present and new not in names:
            spare = next(
                name
                for count in range(len(used) + 1)
                if (name := f"{new}_inner_{count}") not in used
            )
            names[new] = spare
            used.add(spare)
    _apply_names(graph, names)


def _value_names(graph: onnx.GraphProto) -> set[str]:
    found = {item.name for item in [*graph.input, *graph.output, *graph.initializer]}
    for node in graph.node:
        found.update(node.input, node.output)
        for inner in _subgraphs(node):
            found |= _value_names(inner)
    return found


def _apply_names(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for item in [*graph.input, *graph.output, *graph.initializer]:
        item.name = names.get(item.name, item.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for inner in _subgraphs(node):
            _apply_names(inner, names)


def _prove(
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
    rows = [
        index for index, spec in enumerate(specs) if spec.shape and spec.shape[0] in (BATCH, ROWS)
    ]
    notes: list[str] = []
    n_equal, n_integers, n_compared = 0, 0, 0
    try:
        session = Session(model.SerializeToString(), name="conversion")
    except SessionError as exc:
        raise ConversionError(f"ONNX Runtime does not take the exported graph: {exc}") from exc
    try:
        n_values = sum(tensor.numel() for tensor in subject.tensors)
        for sizes, factor in _trials(example, dynamic, small=n_values < _SMALL_VALUES):
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
                        size == (_SAMPLE_ROWS if name in (BATCH, ROWS) else max(2, example[name]))
                        for name, size in sizes.items()
                    )
                    kind = _WrongAtEverySizeError if exported else ConversionError
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
    if n_integers and n_equal < _LEAST_AGREEMENT * n_integers:
        raise ConversionError(
            f"The exported graph answers differently from the model: {n_integers - n_equal} of "
            f"{n_integers} integers differ"
        )
    return list(dict.fromkeys(notes))


def _trials(
    example: dict[str, int], dynamic: frozenset[str], *, small: bool
) -> Iterator[tuple[dict[str, int], float | None]]:
    """Give sizes of the dynamic axes, and what to multiply values by (None: leave them alone)."""
    lengths = {
        "same": lambda size: size,
        "longer": lambda size: size + 1,
        "much longer": lambda size: 3 * size + 1 if small else size + 1,
        "shorter": lambda size: max(1, size - 1),
        "one": lambda size: 1,
    }
    plan: list[tuple[int, str, float | None]] = [
        (_SAMPLE_ROWS, "same", None),
        (_SAMPLE_ROWS, "same", 1.0),
        (2, "longer", 1.0),
        (1, "same", -1.0),
        (5, "much longer", 0.0),
        (3, "shorter", 10.0),
        (1, "same", 1.0),
        (2, "one", 1.0),
        (1, "longer", 1.0),
    ]
    if not dynamic:
        plan = [(0, "same", factor) for factor in (None, 1.0, -1.0, 0.0, 10.0)]
    for n_rows, length, factor in plan:
        sizes = {
            name: n_rows if name in (BATCH, ROWS) else lengths[length](size)
            for name, size in example.items()
            if name in dynamic
        }
        yield sizes, factor


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


def _is_recurrent(module: Any) -> bool:
    import torch

    return any(isinstance(item, torch.nn.RNNBase) for item in module.modules()) or any(
        node.op == "call_function"
        and str(node.target).startswith(("aten.lstm", "aten.gru", "aten.rnn"))
        for item in module.modules()
        if isinstance(item, torch.fx.GraphModule)
        for node in item.graph.nodes
    )


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
