"""Reading an ONNX graph without running it: its signature, its tensors, and the part one head needs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from infersdk.errors import ArtifactError
from infersdk.types import (
    Dim,
    MapSpec,
    Method,
    OptionalSpec,
    SequenceSpec,
    Signature,
    TensorSpec,
    ValueSpec,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, ValueInfoProto

__all__ = [
    "all_tensors",
    "copy_fields",
    "dtype_name",
    "inputs_needed",
    "prune",
    "signature_from_graph",
]

_MAX_TYPE_DEPTH = 16

_NO_NAMES = frozenset({"", "?", "-1", "None"})
"""Names that some exporters give every axis of any size, unlike ones too."""


def signature_from_graph(model: ModelProto) -> Signature:
    """Derive a signature from the graph alone.

    Initializers that are also listed as inputs (as IR versions before 4 ask) are no inputs here. One
    method, ``predict``, answers the only output as it is, or a dict of every output by its name.

    Parameters
    ----------
    model : onnx.ModelProto
        Its weights are never read; external data need not be there.

    Returns
    -------
    Signature
        Without fields, container ``"tensors"``.

    Raises
    ------
    ArtifactError
        A value has no type, or one that infersdk does not know (sparse tensors, opaque types).
    """
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    constants.update(sparse.values.name for sparse in graph.sparse_initializer)
    inputs = tuple(_value_spec(info) for info in graph.input if info.name not in constants)
    described = list(graph.output)
    if any(info.type.WhichOneof("value") is None for info in described):
        described = _with_inferred_types(model)
    outputs = tuple(_value_spec(info) for info in described)
    names = tuple(spec.name for spec in outputs)
    if len(names) == 1:
        method = Method("predict", names)
    else:
        method = Method("predict", names, form="dict", keys=names)
    return Signature(inputs=inputs, outputs=outputs, methods=(method,))


def dtype_name(element_type: int) -> str:
    """Name an ``onnx.TensorProto.DataType`` as numpy or ml_dtypes do; ``"string"`` for text.

    Raises
    ------
    ArtifactError
        The number is undefined or newer than the installed onnx package.
    """
    from onnx import TensorProto, helper

    if element_type == TensorProto.STRING:
        return "string"
    try:
        return str(helper.tensor_dtype_to_np_dtype(element_type).name)
    except (KeyError, TypeError, ValueError) as exc:
        raise ArtifactError(
            f"Expected an ONNX element type that the installed onnx package knows, got {element_type}"
        ) from exc


def all_tensors(model: ModelProto) -> Iterator[tuple[TensorProto, bool]]:
    """Yield every tensor stored anywhere in a model, and whether it is an initializer.

    That is: initializers and sparse initializers of the graph, its subgraphs, its functions and its
    training graphs, and every tensor that is a node's attribute. Initializers may be stored outside
    the file; ONNX Runtime reads attributes and sparse tensors more reliably from inside.
    """
    graphs: list[GraphProto] = [model.graph]
    for training in model.training_info:
        graphs += (training.initialization, training.algorithm)
    nodes: list[NodeProto] = [node for function in model.functions for node in function.node]
    attributes = [attr for function in model.functions for attr in function.attribute_proto]
    while graphs or nodes or attributes:
        if graphs:
            graph = graphs.pop()
            for tensor in graph.initializer:
                yield tensor, True
            for sparse in graph.sparse_initializer:
                yield sparse.values, False
                yield sparse.indices, False
            nodes.extend(graph.node)
        for node in nodes:
            attributes.extend(node.attribute)
        nodes.clear()
        for attribute in attributes:
            # ListFields names only what is set: most attributes are plain numbers.
            for field, value in attribute.ListFields():
                match field.name:
                    case "t":
                        yield value, False
                    case "tensors":
                        for tensor in value:
                            yield tensor, False
                    case "sparse_tensor":
                        yield value.values, False
                        yield value.indices, False
                    case "sparse_tensors":
                        for sparse in value:
                            yield sparse.values, False
                            yield sparse.indices, False
                    case "g":
                        graphs.append(value)
                    case "graphs":
                        graphs.extend(value)
        attributes.clear()


def prune(
    model: ModelProto, outputs: Collection[str], droppable: Collection[str] = ()
) -> ModelProto:
    """Return a model with only the named outputs and the nodes and weights they need.

    Every input stays, even one that nothing reads any more, so that rows are bound the same way for
    every head; only those named in ``droppable`` go with their readers. Metadata of infersdk is left
    out: it describes the whole model.

    Raises
    ------
    ArtifactError
        An output is not in the graph.
    """
    import onnx

    graph = model.graph
    missing = set(outputs) - {info.name for info in graph.output}
    if missing:
        given = ", ".join(info.name for info in graph.output)
        raise ArtifactError(f"Expected outputs of the graph ({given}), got {sorted(missing)}")
    kept_nodes, alive = _needed(graph, outputs)

    pruned = onnx.ModelProto()
    copy_fields(pruned, model, skip={"graph", "metadata_props", "training_info"})
    for entry in model.metadata_props:
        if not entry.key.startswith("infersdk."):
            pruned.metadata_props.add().CopyFrom(entry)
    target = pruned.graph
    copy_fields(
        target,
        graph,
        skip={
            "node",
            "initializer",
            "sparse_initializer",
            "input",
            "output",
            "value_info",
            "quantization_annotation",
        },
    )
    target.node.extend(node for index, node in enumerate(graph.node) if index in kept_nodes)
    inputs = {info.name for info in graph.input}.difference(set(droppable) - alive)
    alive |= inputs
    target.input.extend(info for info in graph.input if info.name in inputs)
    target.initializer.extend(item for item in graph.initializer if item.name in alive)
    target.sparse_initializer.extend(
        item for item in graph.sparse_initializer if item.values.name in alive
    )
    target.output.extend(info for info in graph.output if info.name in outputs)
    target.value_info.extend(info for info in graph.value_info if info.name in alive)
    target.quantization_annotation.extend(
        item for item in graph.quantization_annotation if item.tensor_name in alive
    )
    return pruned


def inputs_needed(model: ModelProto, outputs: Collection[str]) -> tuple[str, ...]:
    """Names of the graph's inputs that the outputs depend on, in the graph's order."""
    _, alive = _needed(model.graph, outputs)
    return tuple(info.name for info in model.graph.input if info.name in alive)


def copy_fields(target: Message, source: Message, *, skip: Collection[str]) -> None:
    """Copy every set field of a protobuf message but those named in ``skip``."""
    for field, value in source.ListFields():
        if field.name in skip:
            continue
        if hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        elif field.message_type is not None:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def _needed(graph: GraphProto, outputs: Collection[str]) -> tuple[set[int], set[str]]:
    """Indices of the nodes that the outputs need, and the names of every value among them."""
    producer = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    nodes: set[int] = set()
    alive: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if name in alive:
            continue
        alive.add(name)
        index = producer.get(name)
        if index is not None and index not in nodes:
            nodes.add(index)
            alive.update(filter(None, graph.node[index].output))
            waiting.extend(_reads(graph.node[index]))
    return nodes, alive


def _reads(node: NodeProto) -> Iterator[str]:
    """Names a node reads, its subgraphs' included (their own values too, which does no harm)."""
    waiting = [node]
    while waiting:
        current = waiting.pop()
        yield from filter(None, current.input)
        for attribute in current.attribute:
            for subgraph in (
                *attribute.graphs,
                *((attribute.g,) if attribute.HasField("g") else ()),
            ):
                waiting.extend(subgraph.node)
                # A subgraph may hand out an outer value unchanged.
                yield from (info.name for info in subgraph.output)


def _value_spec(info: ValueInfoProto) -> ValueSpec:
    return _spec_of_type(info.type, info.name, info.name, 0)


def _spec_of_type(kind: TypeProto, name: str, where: str, depth: int) -> ValueSpec:
    if depth > _MAX_TYPE_DEPTH:
        raise ArtifactError(f"The type of `{where}` is nested more than {_MAX_TYPE_DEPTH} deep")
    match kind.WhichOneof("value"):
        case "tensor_type":
            tensor = kind.tensor_type
            shape: tuple[Dim, ...] | None = None
            if tensor.HasField("shape"):
                shape = tuple(_dim(dim) for dim in tensor.shape.dim)
            return TensorSpec(name, dtype_name(tensor.elem_type), shape)
        case "sequence_type":
            return SequenceSpec(
                name, _spec_of_type(kind.sequence_type.elem_type, "", where, depth + 1)
            )
        case "optional_type":
            return OptionalSpec(
                name, _spec_of_type(kind.optional_type.elem_type, "", where, depth + 1)
            )
        case "map_type":
            key = dtype_name(kind.map_type.key_type)
            return MapSpec(name, key, _spec_of_type(kind.map_type.value_type, "", where, depth + 1))
        case other:
            raise ArtifactError(
                f"Expected a tensor, sequence, map or optional as the type of `{where}`, "
                f"got {other or 'none'}"
            )


def _dim(dim: Any) -> Dim:
    match dim.WhichOneof("value"):
        case "dim_value":
            # Some exporters write -1 for an axis of any size.
            return int(dim.dim_value) if dim.dim_value >= 0 else None
        case "dim_param":
            # What exporters write for each axis of any size is no name that makes two axes equal.
            return None if dim.dim_param in _NO_NAMES else dim.dim_param
        case _:
            return None


def _with_inferred_types(model: ModelProto) -> list[ValueInfoProto]:
    """Outputs of a graph that left out some of their types, as a few exporters do."""
    import onnx

    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except Exception as exc:  # onnx raises its own C++ exceptions and protobuf's beside ValueError
        raise ArtifactError(f"The types of the graph's outputs cannot be inferred: {exc}") from exc
    return list(inferred.graph.output)
