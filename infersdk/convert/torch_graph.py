"""Naming what torch's exporters wrote: values, axes and shapes, as the signature has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from infersdk.types import Dim, TensorSpec

if TYPE_CHECKING:
    import onnx

__all__ = ["branches", "describe", "dynamic_names", "rename_axis", "value_names"]

_SHAPES = ("Shape", "Size")
"""What these give depends on how many values there are, and not on what they are."""


def describe(
    model: onnx.ModelProto,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    named: frozenset[str],
    *,
    relax: bool,
) -> dict[str, int]:
    """Name the graph's values and axes as the signature does, in place; drop what else the exporter noted.

    The exporter's own notes (source lines, paths of this machine, shapes of inner values under its names
    of axes) say nothing to ONNX Runtime.

    Parameters
    ----------
    inputs, outputs : sequence of TensorSpec
        The signature's.
    named : frozenset of str
        The axes that were to be dynamic.
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
    for value, spec in zip(graph.input, inputs, strict=True):
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
    for value, spec in zip(graph.output, outputs, strict=True):
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
    _rename(graph, [spec.name for spec in inputs], [spec.name for spec in outputs])
    for value, shape in zip(graph.input, input_shapes, strict=True):
        _set_shape(value, shape)
    for value, known in zip(graph.output, output_shapes, strict=True):
        _set_shape(value, known)
    return fixed


def dynamic_names(model: onnx.ModelProto) -> frozenset[str]:
    return frozenset(
        dim for value in model.graph.input for dim in _declared(value) if isinstance(dim, str)
    )


def _output_dim(declared: Dim, wanted: Dim, symbols: dict[str, str], dynamic: set[str]) -> Dim:
    if isinstance(wanted, str):
        if wanted in dynamic:
            return wanted
        return declared if isinstance(declared, int) else None
    if isinstance(declared, str):
        # An expression of axes, such as 2*s0, has no name.
        return symbols.get(declared)
    return declared if wanted == declared else None


def branches(graph: onnx.GraphProto) -> bool:
    """Whether a branch depends on the values of the inputs; it is taken for all rows together."""
    return _branches(graph, {value.name for value in graph.input})


def _branches(graph: onnx.GraphProto, depending: set[str]) -> bool:
    """As :func:`branches`, for a part of a graph; names of what depends on the inputs are added."""
    for node in graph.node:
        inner = list(_subgraphs(node))
        if node.op_type == "If" and node.input[0] in depending:
            return True
        reads = not depending.isdisjoint(node.input)
        for part in inner:
            within = depending | {value.name for value in part.input if reads}
            if _branches(part, within):
                return True
            reads = reads or not within.isdisjoint(value.name for value in part.output)
        if reads and node.op_type not in _SHAPES:
            depending.update(name for name in node.output if name)
    return False


def rename_axis(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Call a dynamic axis of inputs and outputs by another name, in place."""
    for value in [*graph.input, *graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == old:
                dim.dim_param = new


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
    present = value_names(graph)
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


def value_names(graph: onnx.GraphProto) -> set[str]:
    """Return every name that a graph and its subgraphs read, write or hold."""
    found = {item.name for item in [*graph.input, *graph.output, *graph.initializer]}
    for node in graph.node:
        found.update(node.input, node.output)
        for inner in _subgraphs(node):
            found |= value_names(inner)
    return found


def _apply_names(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for item in [*graph.input, *graph.output, *graph.initializer]:
        item.name = names.get(item.name, item.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for inner in _subgraphs(node):
            _apply_names(inner, names)
