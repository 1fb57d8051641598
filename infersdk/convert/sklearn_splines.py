"""SplineTransformer: between two knots every basis function is a polynomial, which is looked up."""

from __future__ import annotations

from math import factorial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_writer import Writer, unsupported, writes


@writes("transform", "SplineTransformer")
def _spline_transformer(writer: Writer, model: Any, columns: Columns) -> Columns:
    if model.extrapolation == "error":
        raise unsupported(model, 'extrapolation="error" refuses rows that only it can tell')
    if model.degree < {"constant": 1, "linear": 2}.get(model.extrapolation, 0):
        raise unsupported(
            model,
            f"degree={model.degree} with extrapolation={model.extrapolation!r}, which scikit-learn "
            "answers differently from column to column",
        )
    builder = writer.builder
    numbers = writer.numbers(columns)
    parts = []
    width = 0
    for index, spline in enumerate(model.bsplines_):
        x = builder.op("Gather", numbers, builder.constant([index], np.int64), axis=1)
        origins, tables = _pieces(spline, model.extrapolation)
        if not model.include_bias:
            tables = tables[:, :, :-1]
        part = _evaluated(writer, _wrapped(writer, model, spline, x), origins, tables)
        if getattr(model, "handle_missing", "error") == "zeros":
            zero = builder.constant(0.0, np.float64)
            part = builder.op("Where", builder.op("IsNaN", x), zero, part)
        parts.append(part)
        width += tables.shape[2]
    name = parts[0] if len(parts) == 1 else builder.op("Concat", *parts, axis=1)
    return writer.new(name, width)


def _pieces(spline: Any, extrapolation: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where each piece starts (n,), and its polynomials around there (n, degree + 1, n_splines).

    What lies before the first start belongs to the first piece, all behind the last start to the last.
    """
    degree = int(spline.k)
    knots = np.asarray(spline.t, np.float64)[degree : len(spline.t) - degree]
    inner = np.unique(knots[:-1])
    tables = np.stack(
        [
            np.stack([spline(start, nu=power) / factorial(power) for power in range(degree + 1)])
            for start in inner
        ]
    )
    if extrapolation in ("continue", "periodic"):
        return inner, tables
    # The pieces outside are the tangents at the ends, or constant.
    kept = 2 if extrapolation == "linear" else 1
    ends = []
    for bound in (knots[0], knots[-1]):
        end = np.zeros(tables.shape[1:])
        for power in range(kept):
            end[power] = spline(bound, nu=power)
        ends.append(end)
    origins = np.concatenate([[knots[0]], inner, [knots[-1]]])
    return origins, np.concatenate([ends[:1], tables, ends[1:]])


def _wrapped(writer: Writer, model: Any, spline: Any, x: str) -> str:
    """The value as the spline is asked: for a periodic one, moved into its period as numpy's % does."""
    if model.extrapolation != "periodic":
        return x
    builder = writer.builder
    first = float(spline.t[spline.k])
    period = float(spline.t[len(spline.t) - spline.k - 1]) - first
    start = builder.constant(first, np.float64)
    length = builder.constant(period, np.float64)
    rest = builder.op("Mod", builder.op("Sub", x, start), length, fmod=1)
    below = builder.op("Less", rest, builder.constant(0.0, np.float64))
    rest = builder.op("Where", below, builder.op("Add", rest, length), rest)
    return builder.op("Add", rest, start)


def _evaluated(
    writer: Writer, x: str, origins: NDArray[np.float64], tables: NDArray[np.float64]
) -> str:
    """float64 (N, n_splines): the polynomials of each value's piece."""
    builder = writer.builder
    # Values at the first knot belong to the piece that begins there, those at the last to the one before.
    outside = len(origins) > 1 and origins[0] == origins[1]
    limits = origins[1:].reshape(1, -1)
    if outside:
        reached = builder.op("GreaterOrEqual", x, builder.constant(limits[:, :-1]))
        beyond = builder.op("Greater", x, builder.constant(limits[:, -1:]))
        reached = builder.op("Concat", reached, beyond, axis=1)
    else:
        reached = builder.op("GreaterOrEqual", x, builder.constant(limits))
    axis = builder.constant([1], np.int64)
    piece = builder.op(
        "ReduceSum", builder.cast(reached, "bool", "int64"), axis, keepdims=0
    )  # (N,)
    origin = builder.op("Gather", builder.constant(origins.reshape(-1, 1)), piece, axis=0)
    along = builder.op("Sub", x, origin)
    degree = tables.shape[1] - 1
    total = builder.op("Gather", builder.constant(tables[:, degree]), piece, axis=0)
    for power in range(degree - 1, -1, -1):
        coefficient = builder.op("Gather", builder.constant(tables[:, power]), piece, axis=0)
        total = builder.op("Add", builder.op("Mul", total, along), coefficient)
    return total
