"""Tidying a finished graph: nodes that only rename, and what no output depends on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["drop_identities", "drop_unread", "names_read"]


def drop_identities(graph: Any) -> None:
    """Remove Identity nodes.

    Where an Identity only names a graph output, the node that computes the tensor takes the output's
    name. The Identity stays if the tensor is an input, a constant, or another output already.
    """
    outputs = {value.name for value in graph.output}
    fixed = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    alias = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Identity" and node.output[0] not in outputs
    }

    def source(name: str) -> str:
        while name in alias:
            name = alias[name]
        return name

    promoted: dict[str, str] = {}
    kept = []
    for node in graph.node:
        if node.op_type == "Identity":
            if node.output[0] not in outputs:
                continue
            origin = source(node.input[0])
            if origin not in fixed and origin not in promoted:
                promoted[origin] = node.output[0]
                continue
        kept.append(node)

    def rename(name: str) -> str:
        name = source(name)
        return promoted.get(name, name)

    for node in kept:
        _rename_node(node, rename)
    del graph.node[:]
    graph.node.extend(kept)


def drop_unread(graph: Any) -> None:
    """Remove nodes that no output depends on, and initializers that nothing reads."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed |= names_read([node])
    kept.reverse()
    del graph.node[:]
    graph.node.extend(kept)
    initializers = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.initializer[:]
    graph.initializer.extend(initializers)


def _rename_node(node: Any, rename: Callable[[str], str]) -> None:
    # The body of a Scan or If reads outer tensors by name, so it is renamed as well.
    node.input[:] = [rename(name) for name in node.input]
    node.output[:] = [rename(name) for name in node.output]
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inner in attribute.g.node:
                _rename_node(inner, rename)


def names_read(nodes: Iterable[Any]) -> set[str]:
    """Names that nodes read, those inside their subgraphs included."""
    names: set[str] = set()
    for node in nodes:
        names.update(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                names |= names_read(attribute.g.node)
    return names
