"""Columns that are combined: sparse components, pooled features, hidden units, monotone steps, leaves."""

from __future__ import annotations

from typing import Any

import numpy as np

from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_linear import affine, logistic
from infersdk.convert.sklearn_numeric import interpolated
from infersdk.convert.sklearn_trees import leaf_indicators
from infersdk.convert.sklearn_writer import Writer, unsupported, writes


@writes("transform", "MiniBatchSparsePCA", "SparsePCA")
def _sparse_pca(writer: Writer, model: Any, columns: Columns) -> Columns:
    # Ridge regression on the components is one matrix.
    components = np.asarray(model.components_, np.float64)
    gram = components @ components.T + model.ridge_alpha * np.eye(len(components))
    if np.linalg.cond(gram) > 1e12:
        raise unsupported(model, "its components are not independent")
    weights = np.linalg.solve(gram, components).T
    builder = writer.builder
    mean = builder.constant(model.mean_, np.float64)
    centered = builder.op("Sub", writer.numbers(columns), mean)
    return writer.new(affine(writer, centered, weights, None), len(components))


@writes("transform", "PLSSVD")
def _pls_svd(writer: Writer, model: Any, columns: Columns) -> Columns:
    builder = writer.builder
    mean = builder.constant(model._x_mean, np.float64)
    centered = builder.op("Sub", writer.numbers(columns), mean)
    scaled = builder.op("Div", centered, builder.constant(model._x_std, np.float64))
    weights = np.asarray(model.x_weights_, np.float64)
    return writer.new(affine(writer, scaled, weights, None), weights.shape[1])


@writes("transform", "FeatureAgglomeration")
def _feature_agglomeration(writer: Writer, model: Any, columns: Columns) -> Columns:
    builder = writer.builder
    labels = np.asarray(model.labels_)
    groups = np.unique(labels)
    if model.pooling_func is np.mean:
        table = (labels[:, None] == groups).astype(np.float64)
        total = builder.op("MatMul", writer.numbers(columns), builder.constant(table))
        return writer.new(
            builder.op("Div", total, builder.constant(table.sum(axis=0))), len(groups)
        )
    op = {np.max: "ReduceMax", np.min: "ReduceMin", np.sum: "ReduceSum"}.get(model.pooling_func)
    if op is None:
        raise unsupported(model, "what its pooling_func does cannot be read")
    axis = builder.constant([1], np.int64)
    parts = []
    for group in groups:
        chosen = tuple(columns[int(index)] for index in np.flatnonzero(labels == group))
        parts.append(builder.op(op, writer.numbers(chosen), axis))
    name = parts[0] if len(parts) == 1 else builder.op("Concat", *parts, axis=1)
    return writer.new(name, len(groups))


@writes("transform", "BernoulliRBM")
def _hidden_units(writer: Writer, model: Any, columns: Columns) -> Columns:
    weights = np.asarray(model.components_, np.float64).T
    name = affine(writer, writer.numbers(columns), weights, np.asarray(model.intercept_hidden_))
    return writer.new(logistic(writer, name), weights.shape[1])


@writes("predict", "IsotonicRegression")
def _isotonic(writer: Writer, model: Any, columns: Columns) -> str:
    if model.out_of_bounds == "raise":
        raise unsupported(model, 'out_of_bounds="raise" refuses rows that only it can tell')
    builder = writer.builder
    x = np.asarray(model.X_thresholds_, np.float64)
    numbers = writer.numbers(columns)
    name = interpolated(writer, numbers, x, np.asarray(model.y_thresholds_, np.float64))
    if model.out_of_bounds == "clip" or len(x) == 1:
        return name
    below = builder.op("Less", numbers, builder.constant(float(model.X_min_)))
    above = builder.op("Greater", numbers, builder.constant(float(model.X_max_)))
    outside = builder.op("Or", below, above)
    return builder.op("Where", outside, builder.constant(np.nan, np.float64), name)


@writes("transform", "IsotonicRegression")
def _isotonic_transform(writer: Writer, model: Any, columns: Columns) -> Columns:
    return writer.new(writer.write("predict", model, columns), 1)


@writes("transform", "RandomTreesEmbedding")
def _random_trees_embedding(writer: Writer, model: Any, columns: Columns) -> Columns:
    name, width = leaf_indicators(writer, model, columns, model.one_hot_encoder_.categories_)
    return writer.new(name, width)
