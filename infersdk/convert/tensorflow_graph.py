"""From a traced TensorFlow function to an ONNX graph, by way of tf2onnx.

tf2onnx is given a graph that it can take: variables, captured tensors and lookup tables are constants in it,
and functions that were to be compiled by XLA (grouped convolutions) are inlined as others are. Operators that
it does not know and that have an exact ONNX form get one here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from infersdk.errors import ConversionError
from infersdk.types import Dim, TensorSpec

if TYPE_CHECKING:
    import onnx

__all__ = ["branches", "keeps_state", "refuse_unknown_operators", "set_shapes", "write"]

OPSET = 18
"""The newest that tf2onnx writes."""

_CONVERSION_LOCK = threading.Lock()
"""tf2onnx keeps its registry of functions outside the call."""

_LARGEST_BYTES = 1_900_000_000

_BRANCHES = ("If", "StatelessIf", "Case", "StatelessCase", "Switch")

_WRITES = (
    "Assign",
    "ResourceApply",
    "ResourceScatter",
    "ScatterNdUpdate",
    "TensorListPushBackBatch",
)


def keeps_state(concrete: Any) -> str | None:
    """The name of an operator by which a traced function writes to variables; None where it writes none."""
    for node in _nodes(concrete.graph.as_graph_def()):
        if node.op.startswith(_WRITES):
            return str(node.op)
    return None


def branches(concrete: Any) -> bool:
    """Whether a traced function takes a branch by its inputs, which is one for all of its rows."""
    return any(node.op in _BRANCHES for node in _nodes(concrete.graph.as_graph_def()))


def write(
    concrete: Any,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    opset: int | None,
) -> onnx.ModelProto:
    """Write a traced function's graph.

    Parameters
    ----------
    concrete : tf.types.experimental.ConcreteFunction
        Takes the inputs in order, and gives a flat list of the outputs.
    inputs, outputs : sequence of TensorSpec
        What the graph's values are called, and their axes.
    opset : int, optional

    Raises
    ------
    ConversionError
        tf2onnx lacks an operator, or cannot convert one.
    """
    import tensorflow as tf
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    n_bytes = sum(
        variable.dtype.size * (variable.shape.num_elements() or 0)
        for variable in concrete.graph.variables
    )
    if n_bytes > _LARGEST_BYTES:
        raise ConversionError(
            f"Expected at most {_LARGEST_BYTES / 1e9:.1f} GB of weights, got {n_bytes / 1e9:.1f} GB"
        )
    with _CONVERSION_LOCK, tf.device("/cpu:0"):
        frozen = convert_variables_to_constants_v2(
            concrete, lower_control_flow=False, aggressive_inlining=True
        )
        definition = frozen.graph.as_graph_def(add_shapes=True)
        tables = _settle_captures(concrete, definition)
        given = [tensor.name for tensor in concrete.inputs[: len(inputs)]]
        # The flat outputs: one that is an input too, or is given twice, has a node of its own in the trace.
        wanted = [tensor.name for tensor in concrete.outputs]
        definition = _inlined(definition, [*given, *wanted])
        names = dict(
            zip([*given, *wanted], [spec.name for spec in (*inputs, *outputs)], strict=True)
        )
        model, _ = tf2onnx.convert.from_graph_def(
            definition,
            name="main",
            input_names=given,
            output_names=wanted,
            opset=OPSET if opset is None else opset,
            custom_op_handlers=_handlers(tables),
            extra_opset=[tf2onnx.utils.make_opsetid("ai.onnx.ml", 2)],
            tensors_to_rename=names,
        )
    refuse_unknown_operators(model)
    _order(model, [spec.name for spec in inputs], [spec.name for spec in outputs])
    set_shapes(model, inputs, outputs)
    return model


def refuse_unknown_operators(model: onnx.ModelProto) -> None:
    """Raise where the exporter left operators in the graph that ONNX does not have.

    Raises
    ------
    ConversionError
        Naming them, and where they come from.
    """
    import onnx.defs

    unknown: dict[str, str] = {}
    for node in _onnx_nodes(model.graph):
        if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type):
            unknown.setdefault(node.op_type, node.name)
    if unknown:
        named = ", ".join(f"{kind} (`{_place(name)}`)" for kind, name in unknown.items())
        raise ConversionError(f"ONNX has no form of these TensorFlow operators: {named}")


def set_shapes(
    model: onnx.ModelProto, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> None:
    """Declare the graph's shapes as the signature has them, in place, and drop those of inner values."""
    graph = model.graph
    del graph.value_info[:]
    del model.metadata_props[:]
    graph.doc_string = ""
    for value, spec in zip([*graph.input, *graph.output], [*inputs, *outputs], strict=True):
        _set_shape(value, spec.shape)
        value.doc_string = ""


def _set_shape(value: onnx.ValueInfoProto, shape: tuple[Dim, ...] | None) -> None:
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


def _order(model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Put the graph's inputs and outputs into the signature's order; an input that is unused is missing."""
    graph = model.graph
    for values, names, kind in (
        (graph.input, inputs, "inputs"),
        (graph.output, outputs, "outputs"),
    ):
        by_name = {value.name: value for value in values}
        if set(by_name) != set(names):
            raise ConversionError(
                f"Expected a graph with the {kind} {', '.join(names)}, tf2onnx gave "
                f"{', '.join(by_name)}"
            )
        ordered = [by_name[name] for name in names]
        del values[:]
        values.extend(ordered)


def _settle_captures(concrete: Any, definition: Any) -> dict[str, tuple[Any, Any]]:
    """Make constants of the tensors that the function captured, and return its tables by placeholder."""
    import tensorflow as tf

    captured = {inner.op.name: outer for outer, inner in concrete.graph.captures}
    finds = [node for node in _nodes(definition) if node.op == "LookupTableFindV2"]
    by_name = {node.name: node for node in definition.node}
    tables: dict[str, tuple[Any, Any]] = {}
    for node in definition.node:
        outer = captured.get(node.name)
        if node.op != "Placeholder" or outer is None:
            continue
        if outer.dtype == tf.resource:
            kinds = {
                (find.attr["Tin"].type, find.attr["Tout"].type)
                for find in finds
                if _origin(find.input[0], by_name) == node.name
            }
            if len(kinds) != 1:
                raise ConversionError(
                    f"The function keeps a resource that a graph cannot hold: `{_place(node.name)}`"
                )
            ((key, value),) = kinds
            keys, values = tf.raw_ops.LookupTableExportV2(
                table_handle=outer, Tkeys=tf.as_dtype(key), Tvalues=tf.as_dtype(value)
            )
            tables[node.name] = (keys.numpy(), values.numpy())
            node.op = "HashTableV2"
            node.attr.clear()
            node.attr["shared_name"].s = node.name.encode()
            node.attr["key_dtype"].type = key
            node.attr["value_dtype"].type = value
        else:
            node.op = "Const"
            node.attr.clear()
            node.attr["dtype"].type = outer.dtype.as_datatype_enum
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(outer))
    return tables


def _origin(name: str, by_name: dict[str, Any]) -> str:
    """The node that a value comes from, past those that hand it on."""
    name = name.split(":")[0]
    while name in by_name and by_name[name].op == "Identity":
        name = by_name[name].input[0].split(":")[0]
    return name


def _inlined(definition: Any, kept: Sequence[str]) -> Any:
    """Inline the functions that XLA was to compile (grouped convolutions), which others are already."""
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, rewriter_config_pb2
    from tensorflow.python.grappler import tf_optimizer
    from tensorflow.python.training.saver import export_meta_graph

    calls = [node for node in _nodes(definition) if node.op.endswith("PartitionedCall")]
    if not calls:
        return definition
    for part in (*_nodes(definition), *definition.library.function):
        for name in ("_XlaMustCompile", "_noinline"):
            part.attr.pop(name, None)
    with tf.Graph().as_default() as graph:
        tf.graph_util.import_graph_def(definition, name="")
        meta_graph = export_meta_graph(graph_def=definition, graph=graph)
    fetched = meta_graph_pb2.CollectionDef()
    fetched.node_list.value.extend(kept)
    meta_graph.collection_def["train_op"].CopyFrom(fetched)
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1
    options.optimizers.append("function")
    options.function_optimization = rewriter_config_pb2.RewriterConfig.AGGRESSIVE
    return tf_optimizer.OptimizeGraph(config, meta_graph)


def _handlers(tables: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    """Write the operators that tf2onnx lacks, in the form that it asks for."""
    import numpy as np
    from onnx import TensorProto

    def with_one(kind: str, *, reverse: bool) -> Any:
        def write_node(context: Any, node: Any, name: str, args: Any) -> None:
            dtype, shape = context.get_dtype(node.output[0]), context.get_shape(node.output[0])
            width = {TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}
            one = context.make_const(f"{name}_one", np.array(1, width.get(dtype, np.float32)))
            (given,), produced = list(node.input), list(node.output)
            context.remove_node(node.name)
            inner = context.make_node(kind, [given], shapes=[shape], dtypes=[dtype])
            pair = [inner.output[0], one.output[0]]
            context.make_node(
                "Sub",
                pair[::-1] if reverse else pair,
                outputs=produced,
                shapes=[shape],
                dtypes=[dtype],
            )

        return write_node

    def bucketize(context: Any, node: Any, name: str, args: Any) -> None:
        """Count the boundaries that a number is not below; of NaN that is all of them."""
        edges = np.asarray(node.get_attr_value("boundaries"), dtype=np.float32)
        given, produced = node.input[0], list(node.output)
        shape = context.get_shape(node.output[0])
        dtype = context.get_dtype(given)
        context.remove_node(node.name)
        if dtype not in (TensorProto.FLOAT, TensorProto.DOUBLE):
            given = context.make_node("Cast", [given], attr={"to": TensorProto.FLOAT}).output[0]
        elif dtype == TensorProto.DOUBLE:
            edges = edges.astype(np.float64)
        last = context.make_const(f"{name}_axis", np.array([-1], np.int64)).output[0]
        column = context.make_node("Unsqueeze", [given, last]).output[0]
        sorted_edges = context.make_const(f"{name}_edges", edges).output[0]
        below = context.make_node("Less", [column, sorted_edges]).output[0]
        passed = context.make_node("Not", [below]).output[0]
        ones = context.make_node("Cast", [passed], attr={"to": TensorProto.INT32}).output[0]
        context.make_node(
            "ReduceSum",
            [ones, last],
            attr={"keepdims": 0},
            outputs=produced,
            shapes=[shape],
            dtypes=[TensorProto.INT32],
        )

    def bitcast(context: Any, node: Any, name: str, args: Any) -> None:
        """Only where nothing but the sign bit is asked for, as Keras's argmax does: -0.0 has it, 0.0 not."""
        given, produced = node.input[0], list(node.output)
        shape = context.get_shape(node.output[0])
        readers = context.find_output_consumers(node.output[0])
        from_float = context.get_dtype(given) == TensorProto.FLOAT
        to_whole = context.get_dtype(node.output[0]) == TensorProto.INT32
        if not (from_float and to_whole and all(_asks_for_sign(reader) for reader in readers)):
            return  # It stays, and is refused with the others.
        context.remove_node(node.name)
        zero = context.make_const(f"{name}_zero", np.array(0, np.float32)).output[0]
        one = context.make_const(f"{name}_one", np.array(1, np.float32)).output[0]
        inverse = context.make_node("Div", [one, given]).output[0]
        signs = [context.make_node("Less", [value, zero]).output[0] for value in (given, inverse)]
        has_sign = context.make_node("Or", signs).output[0]
        whole = context.make_node("Cast", [has_sign], attr={"to": TensorProto.INT32}).output[0]
        context.make_node(
            "Neg", [whole], outputs=produced, shapes=[shape], dtypes=[TensorProto.INT32]
        )

    def lookup(context: Any, node: Any, name: str, args: Any) -> None:
        """A table without numbers that are no whole ones is a LabelEncoder."""
        table = node.inputs[0]
        while table.type == "Identity":
            table = table.inputs[0]
        keys, values = tables[table.get_attr_value("shared_name").decode()]
        default = node.inputs[2]
        if not default.is_const():
            raise ConversionError("A table's default is computed by the model, which ONNX cannot")
        given, produced = node.input[1], list(node.output)
        dtype, shape = context.get_dtype(node.output[0]), context.get_shape(node.output[0])
        attributes: dict[str, Any] = {}
        for what, items in (("keys", keys), ("values", values)):
            kind = "strings" if items.dtype.kind in "OSU" else "int64s"
            if items.dtype.kind not in "OSUiu":
                raise ConversionError(f"ONNX has no table of {items.dtype} {what}")
            attributes[f"{what}_{kind}"] = items.tolist()
        missing = np.asarray(default.get_tensor_value(as_list=False)).item()
        attributes["default_int64" if values.dtype.kind in "iu" else "default_string"] = missing
        context.remove_node(node.name)
        if keys.dtype == np.int32:
            given = context.make_node("Cast", [given], attr={"to": TensorProto.INT64}).output[0]
        narrow = values.dtype == np.int32
        wide = context.make_node(
            "LabelEncoder",
            [given],
            domain="ai.onnx.ml",
            attr=attributes,
            outputs=None if narrow else produced,
            shapes=[shape],
            dtypes=[TensorProto.INT64 if narrow else dtype],
        )
        if narrow:
            context.make_node(
                "Cast",
                [wide.output[0]],
                attr={"to": TensorProto.INT32},
                outputs=produced,
                shapes=[shape],
                dtypes=[dtype],
            )

    return {
        "Erfc": (with_one("Erf", reverse=True), []),
        "Expm1": (with_one("Exp", reverse=False), []),
        "Bucketize": (bucketize, []),
        "Bitcast": (bitcast, []),
        "LookupTableFindV2": (lookup, []),
    }


def _asks_for_sign(node: Any) -> bool:
    """Whether a node compares its first input with 0, or cuts its sign bit out."""
    import numpy as np

    other = node.inputs[1]
    if node.type not in ("BitwiseAnd", "Less") or not other.is_const():
        return False
    wanted = np.iinfo(np.int32).min if node.type == "BitwiseAnd" else 0
    return bool((other.get_tensor_value(as_list=False) == wanted).all())


def _nodes(definition: Any) -> Iterator[Any]:
    """Every node of a GraphDef, those inside functions too."""
    yield from definition.node
    for function in definition.library.function:
        yield from function.node_def


def _onnx_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _onnx_nodes(inner)


def _place(name: str) -> str:
    """The layer that a node stands in."""
    parts = name.split("/")
    return parts[-2] if len(parts) > 1 else name
