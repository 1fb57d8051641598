"""Class probabilities of pairs of classes, joined into one distribution by LIBSVM's iteration.

The second method of Wu, Lin and Weng (2004) is iterated until no class is off by 0.005 / K, so its answer depends
on when it stops. The graph iterates as LIBSVM does, and each row stops at its own time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from infersdk.convert.sklearn_graph import BATCH, GraphBuilder

__all__ = ["coupled"]


def coupled(builder: GraphBuilder, pairs: str, n_classes: int) -> str:
    """float64 (N, K): the probabilities of K > 2 classes.

    Parameters
    ----------
    builder : GraphBuilder
    pairs : str
        float64 (N, K (K - 1) / 2): the probability of the first class of each pair (0, 1), (0, 2), ...,
        (1, 2), ...
    n_classes : int
    """
    k = n_classes
    # r[s, t]: the probability of s against t. The pairs, then 1 - pairs, then a zero for r[t, t].
    one = builder.constant(1.0, np.float64)
    rest = builder.op("Sub", one, pairs)
    half = k * (k - 1) // 2
    zero = builder.op(
        "Mul",
        builder.op("Gather", pairs, builder.constant([0], np.int64), axis=1),
        builder.constant(0.0, np.float64),
    )
    everything = builder.op("Concat", pairs, rest, zero, axis=1)
    place = np.full((k, k), 2 * half)
    upper = np.triu_indices(k, 1)
    place[upper] = np.arange(half)
    place.T[upper] = half + np.arange(half)
    shape = builder.constant([-1, k, k], np.int64)

    def spread(index: np.ndarray) -> str:
        gathered = builder.op(
            "Gather", everything, builder.constant(index.ravel(), np.int64), axis=1
        )
        return builder.op("Reshape", gathered, shape)

    r, transposed = spread(place), spread(place.T)
    squares = builder.op("Mul", transposed, transposed)
    diagonal = builder.op("ReduceSum", squares, builder.constant([2], np.int64))
    eye = builder.constant(np.eye(k)[None], np.float64)
    q = builder.op("Sub", builder.op("Mul", diagonal, eye), builder.op("Mul", r, transposed))
    flat = builder.op("Mul", zero, builder.constant(np.zeros((1, k)), np.float64))
    start = builder.op("Add", flat, builder.constant(np.full((1, k), 1.0 / k), np.float64))
    trips = builder.constant(max(100, k), np.int64)
    body = _body(k, builder.fresh("body"), builder.opset)
    go = builder.constant(np.True_, np.bool_)
    _, probabilities = builder.ops("Loop", trips, go, q, start, n_outputs=2, body=body)
    return probabilities


def _body(k: int, prefix: str, opset: int) -> Any:
    """One round over the classes; q (N, K, K) is passed on, p (N, K) changes where it is not done."""
    from onnx.compose import add_prefix_graph

    inner = GraphBuilder(opset)
    inner.input("round", "int64", ())
    inner.input("go", "bool", ())
    q = inner.input("q", "float64", (BATCH, k, k)).name
    p = inner.input("p", "float64", (BATCH, k)).name
    last = inner.constant([-1], np.int64)
    column = inner.op("MatMul", q, inner.op("Unsqueeze", p, last))
    qp = inner.op("Squeeze", column, last)
    total = inner.op("ReduceSum", inner.op("Mul", p, qp), last)
    error = inner.op("Abs", inner.op("Sub", qp, total))
    worst = inner.op("ReduceMax", error, last)
    open_rows = inner.op("GreaterOrEqual", worst, inner.constant(0.005 / k, np.float64))
    one = inner.constant(1.0, np.float64)
    made = p
    for t in range(k):
        row = inner.op("Gather", q, inner.constant(t, np.int64), axis=1)
        at = inner.constant([t], np.int64)
        pivot = inner.op("Gather", row, at, axis=1)
        here = inner.op("Gather", qp, at, axis=1)
        step = inner.op("Div", inner.op("Sub", total, here), pivot)
        scale = inner.op("Add", one, step)
        # p' Q p after the step, before p and Q p themselves change.
        gain = inner.op("Add", inner.op("Mul", step, pivot), inner.op("Add", here, here))
        total = inner.op("Add", total, inner.op("Mul", step, gain))
        total = inner.op("Div", total, inner.op("Mul", scale, scale))
        qp = inner.op("Div", inner.op("Add", qp, inner.op("Mul", step, row)), scale)
        unit = inner.constant(np.eye(k)[[t]], np.float64)
        made = inner.op("Div", inner.op("Add", made, inner.op("Mul", step, unit)), scale)
    inner.output("p_out", inner.op("Where", open_rows, made, p), "float64", (BATCH, k))
    counted = inner.cast(open_rows, "bool", "int64")
    left = inner.op("ReduceMax", counted, keepdims=0)
    inner.output("go_out", inner.cast(left, "int64", "bool"), "bool", ())
    inner.output("q_out", q, "float64", (BATCH, k, k))
    graph = inner.build("coupling").graph
    # In the order of a Loop: whether to go on, then what is carried.
    ordered = {value.name: value for value in graph.output}
    values = [ordered[name] for name in ("go_out", "q_out", "p_out")]
    copies = [type(value).FromString(value.SerializeToString()) for value in values]
    del graph.output[:]
    graph.output.extend(copies)
    add_prefix_graph(graph, prefix + "_", inplace=True)
    return graph
