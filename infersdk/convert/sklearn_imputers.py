"""Missing values filled in from other columns: by the nearest rows of training, or by regressions."""

from __future__ import annotations

from typing import Any

import numpy as np

from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_neighbors import nearest, weights_of
from infersdk.convert.sklearn_writer import Writer, is_missing, unsupported, writes

_MOST_REGRESSIONS = 500


@writes("transform", "IterativeImputer")
def _iterative_imputer(writer: Writer, model: Any, columns: Columns) -> Columns:
    builder = writer.builder
    if model.sample_posterior:
        raise unsupported(model, "sample_posterior=True answers at random")
    if not is_missing(model.missing_values):
        raise unsupported(model, f"missing_values={model.missing_values!r}")
    if len(model.imputation_sequence_) > _MOST_REGRESSIONS:
        raise unsupported(model, f"it has {len(model.imputation_sequence_)} regressions in a row")
    made = list(writer.transform(model.initial_imputer_, columns))
    if (
        len(made) != len(columns)
        or np.isnan(np.asarray(model.initial_imputer_.statistics_, np.float64)).any()
    ):
        raise unsupported(model, "a column that was always missing")
    low, high = (
        np.broadcast_to(np.asarray(values, np.float64), (len(columns),))
        for values in (model._min_value, model._max_value)
    )
    numbers = writer.numbers(columns)
    absent = builder.op("IsNaN", numbers)
    for step in model.imputation_sequence_:
        feature = int(step.feat_idx)
        reads = tuple(made[int(index)] for index in step.neighbor_feat_idx)
        guess = writer.write("predict", step.estimator, reads)
        guess = builder.op("Reshape", guess, builder.constant([-1, 1], np.int64))
        bounded = builder.op(
            "Min",
            builder.op("Max", guess, builder.constant(low[feature], np.float64)),
            builder.constant(high[feature], np.float64),
        )
        place = builder.constant([feature], np.int64)
        given = builder.op("Gather", numbers, place, axis=1)
        hole = builder.op("Gather", absent, place, axis=1)
        made[feature] = writer.new(builder.op("Where", hole, bounded, given), 1)[0]
    if model.add_indicator:
        made.extend(writer.transform(model.indicator_, columns))
    return tuple(made)


@writes("transform", "KNNImputer")
def _knn_imputer(writer: Writer, model: Any, columns: Columns) -> Columns:
    builder = writer.builder
    if model.metric != "nan_euclidean" or not is_missing(model.missing_values):
        raise unsupported(
            model, f"metric={model.metric!r}, missing_values={model.missing_values!r}"
        )
    fitted = np.asarray(model._fit_X, np.float64)
    known = ~np.isnan(fitted)
    if not known.any(axis=0).all() or model.add_indicator:
        raise unsupported(model, "a column without any value, or add_indicator=True")
    if np.array_equal(fitted[known], np.round(fitted[known])):
        raise unsupported(
            model,
            "its columns are whole numbers: which of many equally near rows counts is arbitrary",
        )
    numbers = writer.numbers(columns)
    absent = builder.op("IsNaN", numbers)
    distance = _distances_of_known(writer, numbers, absent, fitted, known)
    infinite = builder.op("IsNaN", distance)
    far = builder.op("Where", infinite, builder.constant(np.inf, np.float64), distance)
    made = []
    for index in range(len(columns)):
        donors = np.flatnonzero(known[:, index])
        values = fitted[donors, index]
        offered = builder.op("Gather", far, builder.constant(donors, np.int64), axis=1)
        nearby, whose = nearest(writer, offered, min(model.n_neighbors, len(donors)))
        filled = _knn_mean(writer, model, nearby, whose, values)
        column = builder.op("Gather", numbers, builder.constant([index], np.int64), axis=1)
        hole = builder.op("IsNaN", column)
        made.append(builder.op("Where", hole, filled, column))
    name = made[0] if len(made) == 1 else builder.op("Concat", *made, axis=1)
    return writer.new(name, len(made))


def _distances_of_known(
    writer: Writer, numbers: str, absent: str, fitted: np.ndarray, known: np.ndarray
) -> str:
    """float64 (N, n_fitted): Euclidean over the columns both have, scaled up to all; NaN without any."""
    # As nan_euclidean_distances: products over the columns that are there, zero for those that are not.
    builder = writer.builder
    zero = builder.constant(0.0, np.float64)
    rows = builder.op("Where", absent, zero, numbers)
    there = builder.cast(builder.op("Not", absent), "bool", "float64")
    given = np.where(known, fitted, 0.0)
    both = np.asarray(known, np.float64).T
    product = builder.op("MatMul", rows, builder.constant(-2.0 * given.T))
    own = builder.op("MatMul", builder.op("Mul", rows, rows), builder.constant(both))
    theirs = builder.op("MatMul", there, builder.constant((given**2).T))
    squared = builder.op("Max", builder.op("Sum", product, own, theirs), zero)
    count = builder.op("MatMul", there, builder.constant(both))
    width = builder.constant(float(fitted.shape[1]), np.float64)
    mean = builder.op("Div", squared, count)  # 0 / 0 is NaN
    return builder.op("Sqrt", builder.op("Mul", mean, width))


def _knn_mean(writer: Writer, model: Any, distance: str, whose: str, values: np.ndarray) -> str:
    """float64 (N, 1): the neighbors' weighted mean; the column's own where no distance is known."""
    builder = writer.builder
    axis = builder.constant([1], np.int64)
    infinity = builder.constant(np.inf, np.float64)
    used = builder.op("Less", distance, infinity)
    weights = weights_of(writer, model, distance, used)
    chosen = builder.op("Gather", builder.constant(values), whose, axis=0)
    total = builder.op("ReduceSum", builder.op("Mul", chosen, weights), axis)
    count = builder.op("ReduceSum", weights, axis)
    nobody = builder.op("Equal", count, builder.constant(0.0, np.float64))
    safe = builder.op("Where", nobody, builder.constant(1.0, np.float64), count)
    mean = builder.constant(values.mean(), np.float64)
    return builder.op("Where", nobody, mean, builder.op("Div", total, safe))
