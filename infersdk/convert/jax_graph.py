"""Repairs of what jax2onnx writes.

JAX pools over every axis of an image, with windows of size 1 over rows and channels, and so four axes come
out as four axes of space; ONNX Runtime knows three at most for a maximum, and is slow at the rest. Here rows
and channels take the places that ONNX has for them. A product over batches without a common axis is written
as an Einsum that names the batch twice, and a product of half precision gets a float32 bias of zeros. An
output that is an input, a weight or another output gets a value of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

__all__ = ["repair_pooling", "repair_products", "separate_outputs"]

_MOST_AXES = 3
"""Axes of space that ONNX Runtime pools over."""


def repair_pooling(graph: onnx.GraphProto) -> int:
    """Rewrite ``Unsqueeze, MaxPool or Conv of ones, Squeeze`` in place, in the graph and those within.

    Returns
    -------
    int
        How many were rewritten.
    """
    count = 0
    producers = {name: node for node in graph.node for name in node.output}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    constants = {item.name: item for item in graph.initializer}
    given = {value.name for value in graph.output}
    replaced: dict[int, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                count += repair_pooling(inner)
        if node.op_type not in ("MaxPool", "Conv", "LpPool"):
            continue
        after = consumers.get(node.output[0], [])
        if node.output[0] in given or len(after) != 1 or after[0].op_type != "Squeeze":
            continue
        source, n_added = node.input[0], 0
        while (before := producers.get(source)) is not None and before.op_type == "Unsqueeze":
            source, n_added = before.input[0], n_added + _n_axes(before, constants)
        made = _pooling(node, source, after[0].output[0], constants) if n_added == 2 else None
        if made is not None:
            replaced[id(node)] = made
            replaced[id(after[0])] = []
            count += 1
    if replaced:
        nodes = [new for node in graph.node for new in replaced.get(id(node), [node])]
        copies = [_copied(node) for node in nodes]
        del graph.node[:]
        graph.node.extend(_needed(copies, given))
        _drop_unread(graph, given)
    return count


def repair_products(graph: onnx.GraphProto) -> None:
    """Name each axis of an Einsum's answer once, and leave out a bias that counts for nothing."""
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                repair_products(inner)
            if node.op_type == "Einsum" and attribute.name == "equation":
                operands, _, answer = attribute.s.decode().partition("->")
                attribute.s = f"{operands}->{''.join(dict.fromkeys(answer))}".encode()
            if node.op_type == "Gemm" and attribute.name == "beta" and attribute.f == 0.0:
                del node.input[2:]


def separate_outputs(graph: onnx.GraphProto) -> None:
    """Let each output of the graph, in place, be the output of a node, and of no other output's."""
    from onnx import helper

    made = {name for node in graph.node for name in node.output}
    seen: set[str] = set()
    for index, value in enumerate(graph.output):
        if value.name in made and value.name not in seen:
            seen.add(value.name)
            continue
        name = f"{value.name}_output_{index}"
        graph.node.append(helper.make_node("Identity", [value.name], [name]))
        value.name = name


def _pooling(
    node: onnx.NodeProto, source: str, target: str, constants: dict[str, Any]
) -> list[onnx.NodeProto] | None:
    """Return Transpose, pooling, Transpose instead of a node; None where that is not what it does."""
    from onnx import helper, numpy_helper

    given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if node.op_type == "Conv":
        kernel = constants.get(node.input[1]) if len(node.input) == 2 else None
        if kernel is None or given.get("group", 1) != 1:
            return None
        values = numpy_helper.to_array(kernel)
        if values.shape[:2] != (1, 1) or not bool((values == 1).all()):
            return None
        sizes = list(values.shape[2:])
    elif node.op_type == "LpPool" and given.get("p") != 1:
        return None
    else:
        sizes = list(given["kernel_shape"])
    n = len(sizes)
    strides, dilations = given.get("strides", [1] * n), given.get("dilations", [1] * n)
    pads = given.get("pads", [0] * (2 * n))
    if given.get("auto_pad", b"NOTSET") != b"NOTSET" or given.get("ceil_mode", 0):
        return None
    idle = [
        axis
        for axis in range(n)
        if (sizes[axis], strides[axis], dilations[axis], pads[axis], pads[axis + n])
        == (1, 1, 1, 0, 0)
    ]
    moving = [axis for axis in range(n) if axis not in idle[:2]]
    if len(idle) < 2 or not 1 <= len(moving) <= _MOST_AXES:
        return None
    order = [*idle[:2], *moving]
    attributes: dict[str, Any] = {
        "kernel_shape": [sizes[axis] for axis in moving],
        "strides": [strides[axis] for axis in moving],
        "pads": [pads[axis] for axis in moving] + [pads[axis + n] for axis in moving],
    }
    if any(dilations[axis] != 1 for axis in moving):
        attributes["dilations"] = [dilations[axis] for axis in moving]
    name = node.output[0]
    turned = order != sorted(order)
    nodes = []
    if turned:
        nodes.append(helper.make_node("Transpose", [source], [f"{name}_turned"], perm=order))
    inner = f"{name}_turned" if turned else source
    pooled = f"{name}_pooled" if turned else target
    if node.op_type == "Conv":
        # The sum over a window is its mean times its size.
        size = np.asarray(np.prod([sizes[axis] for axis in moving]), dtype=values.dtype)
        constant = numpy_helper.from_array(size, f"{name}_size")
        nodes += [
            helper.make_node("Constant", [], [f"{name}_size"], value=constant),
            helper.make_node(
                "AveragePool", [inner], [f"{name}_mean"], count_include_pad=1, **attributes
            ),
            helper.make_node("Mul", [f"{name}_mean", f"{name}_size"], [pooled]),
        ]
    else:
        if node.op_type == "LpPool":
            attributes["p"] = 1
        nodes.append(helper.make_node(node.op_type, [inner], [pooled], **attributes))
    if turned:
        back = np.argsort(order).tolist()
        nodes.append(helper.make_node("Transpose", [pooled], [target], perm=back))
    return nodes


def _n_axes(node: onnx.NodeProto, constants: dict[str, Any]) -> int:
    """Axes that an Unsqueeze puts in front; 9, which fits nothing, where they stand elsewhere."""
    from onnx import numpy_helper

    axes = constants.get(node.input[1])
    if axes is None:
        return 9
    values = sorted(numpy_helper.to_array(axes).ravel().tolist())
    return len(values) if set(values) <= {0, 1} else 9


def _copied(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = type(node)()
    copy.CopyFrom(node)
    return copy


def _needed(nodes: list[onnx.NodeProto], given: set[str]) -> list[onnx.NodeProto]:
    """Leave out Unsqueeze nodes that nobody reads any longer."""
    while True:
        read = {name for node in nodes for name in _inputs(node)} | given
        kept = [n for n in nodes if n.op_type != "Unsqueeze" or read.intersection(n.output)]
        if len(kept) == len(nodes):
            return kept
        nodes = kept


def _drop_unread(graph: onnx.GraphProto, given: set[str]) -> None:
    """Leave out constants that nobody reads any longer, of which ONNX Runtime would warn."""
    read = {name for node in graph.node for name in _inputs(node)} | given
    kept = [
        type(item).FromString(item.SerializeToString())
        for item in graph.initializer
        if item.name in read
    ]
    if len(kept) < len(graph.initializer):
        del graph.initializer[:]
        graph.initializer.extend(kept)


def _inputs(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, also those that graphs within it read."""
    names = set(node.input)
    for attribute in node.attribute:
        for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            for item in inner.node:
                names |= _inputs(item)
            names.update(value.name for value in inner.output)
    return names
