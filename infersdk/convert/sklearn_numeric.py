"""Transformers of numbers: functions, bins, polynomials, power and quantile transforms, projections."""

from __future__ import annotations

from typing import Any

import numpy as np

from infersdk.convert.sklearn_functions import normal_quantile
from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_writer import Writer, writes

_NEAR_BOUND = 1e-7
"""What QuantileTransformer takes for its lowest and highest quantile."""

__all__ = ["interpolated", "normalized", "squared_distances"]


@writes("transform", "Binarizer")
def _binarizer(writer: Writer, model: Any, columns: Columns) -> Columns:
    builder = writer.builder
    threshold = builder.constant(float(model.threshold), np.float64)
    above = builder.op("Greater", writer.numbers(columns), threshold)
    return writer.new(builder.cast(above, "bool", "float64"), len(columns))


@writes("transform", "Normalizer")
def _normalizer(writer: Writer, model: Any, columns: Columns) -> Columns:
    name = normalized(writer, writer.numbers(columns), model.norm)
    return writer.new(name, len(columns))


def normalized(writer: Writer, name: str, norm: str) -> str:
    """Rows divided by their norm; a row of zeros stays as it is, as in ``preprocessing.normalize``."""
    builder = writer.builder
    if norm == "max":
        size = builder.op("ReduceMax", builder.op("Abs", name), builder.constant([1], np.int64))
    else:
        op = "ReduceL1" if norm == "l1" else "ReduceL2"
        size = builder.op(op, name, builder.constant([1], np.int64))
    zero = builder.op("Equal", size, builder.constant(0.0, np.float64))
    safe = builder.op("Where", zero, builder.constant(1.0, np.float64), size)
    return builder.op("Div", name, safe)


@writes("transform", "PolynomialFeatures")
def _polynomial_features(writer: Writer, model: Any, columns: Columns) -> Columns:
    # Every output is a product of at most `degree` inputs; a constant 1 pads the shorter products.
    builder = writer.builder
    factors = [np.repeat(np.arange(len(columns)), powers) for powers in model.powers_]
    degree = max((len(factor) for factor in factors), default=0)
    padded = np.array(
        [np.append(f, [len(columns)] * (degree - len(f))) for f in factors], np.int64
    ).reshape(len(factors), degree)
    numbers = writer.numbers(columns)
    first = builder.op("Gather", numbers, builder.constant([0], np.int64), axis=1)
    one = builder.op("Expand", builder.constant(1.0, np.float64), builder.op("Shape", first))
    source = builder.op("Concat", numbers, one, axis=1)
    if degree == 0:
        return writer.new(one, len(factors))
    name = builder.op("Gather", source, builder.constant(padded[:, 0]), axis=1)
    for position in range(1, degree):
        factor = builder.op("Gather", source, builder.constant(padded[:, position]), axis=1)
        name = builder.op("Mul", name, factor)
    return writer.new(name, len(factors))


@writes("transform", "KBinsDiscretizer")
def _k_bins_discretizer(writer: Writer, model: Any, columns: Columns) -> Columns:
    # A bin's number is how many inner edges a value has reached; infinite edges pad the shorter rows.
    builder = writer.builder
    inner = [np.asarray(edges[1:-1], np.float64) for edges in model.bin_edges_]
    longest = max((len(edges) for edges in inner), default=0)
    table = np.full((len(inner), max(longest, 1)), np.inf)
    for row, edges in zip(table, inner, strict=True):
        row[: len(edges)] = edges
    axis = builder.constant([2], np.int64)
    numbers = builder.op("Unsqueeze", writer.numbers(columns), axis)
    reached = builder.op("GreaterOrEqual", numbers, builder.constant(table))
    codes = builder.op("ReduceSum", builder.cast(reached, "bool", "int64"), axis, keepdims=0)
    if model.encode == "ordinal":
        return writer.new(builder.cast(codes, "int64", "float64"), len(columns))
    widths = [int(width) for width in model.n_bins_]
    sources = np.repeat(np.arange(len(widths)), widths)
    targets = np.concatenate([np.arange(width) for width in widths])
    spread = builder.op("Gather", codes, builder.constant(sources, np.int64), axis=1)
    hot = builder.op("Equal", spread, builder.constant(targets, np.int64))
    return writer.new(builder.cast(hot, "bool", "float64"), len(targets))


@writes("transform", "PowerTransformer")
def _power_transformer(writer: Writer, model: Any, columns: Columns) -> Columns:
    builder = writer.builder
    numbers = writer.numbers(columns)
    lambdas = np.asarray(model.lambdas_, np.float64)
    one = builder.constant(1.0, np.float64)
    if model.method == "box-cox":
        name = _box_cox(writer, numbers, lambdas)
    else:
        # Yeo and Johnson (2000): Box-Cox of x + 1, and of 1 - x with 2 - lambda below zero.
        above = _box_cox(writer, builder.op("Add", numbers, one), lambdas)
        below = _box_cox(writer, builder.op("Sub", one, numbers), 2.0 - lambdas)
        positive = builder.op("GreaterOrEqual", numbers, builder.constant(0.0, np.float64))
        name = builder.op("Where", positive, above, builder.op("Neg", below))
    made = writer.new(name, len(columns))
    return writer.transform(model._scaler, made) if model.standardize else made


def _box_cox(writer: Writer, name: str, lambdas: np.ndarray) -> str:
    builder = writer.builder
    flat = np.abs(lambdas) < np.finfo(np.float64).eps
    safe = np.where(flat, 1.0, lambdas)
    one = builder.constant(1.0, np.float64)
    power = builder.op("Sub", builder.op("Pow", name, builder.constant(safe)), one)
    power = builder.op("Div", power, builder.constant(safe))
    if not flat.any():
        return power
    return builder.op("Where", builder.constant(flat), builder.op("Log", name), power)


@writes("transform", "PCA", "IncrementalPCA")
def _pca(writer: Writer, model: Any, columns: Columns) -> Columns:
    builder = writer.builder
    name = writer.numbers(columns)
    if model.mean_ is not None:
        name = builder.op("Sub", name, builder.constant(model.mean_, np.float64))
    name = builder.op("MatMul", name, builder.constant(model.components_.T, np.float64))
    if model.whiten:
        scale = np.sqrt(model.explained_variance_)
        # As in _BasePCA._transform, which keeps a vanishing component finite.
        scale = np.where(scale < np.finfo(scale.dtype).eps, np.finfo(scale.dtype).eps, scale)
        name = builder.op("Div", name, builder.constant(scale, np.float64))
    return writer.new(name, len(model.components_))


@writes("transform", "TruncatedSVD", "GaussianRandomProjection", "SparseRandomProjection")
def _projection(writer: Writer, model: Any, columns: Columns) -> Columns:
    components = model.components_
    dense = components.toarray() if hasattr(components, "toarray") else components
    return _product(writer, columns, dense.T)


@writes("transform", "FastICA")
def _fast_ica(writer: Writer, model: Any, columns: Columns) -> Columns:
    mean = model.mean_ if model.whiten else None
    return _product(writer, columns, model.components_.T, subtract=mean)


@writes("transform", "NeighborhoodComponentsAnalysis")
def _nca(writer: Writer, model: Any, columns: Columns) -> Columns:
    return _product(writer, columns, model.components_.T)


@writes("transform", "PLSCanonical", "PLSRegression", "CCA")
def _pls_transform(writer: Writer, model: Any, columns: Columns) -> Columns:
    builder = writer.builder
    centered = builder.op(
        "Sub", writer.numbers(columns), builder.constant(model._x_mean, np.float64)
    )
    scaled = builder.op("Div", centered, builder.constant(model._x_std, np.float64))
    rotated = builder.op("MatMul", scaled, builder.constant(model.x_rotations_, np.float64))
    return writer.new(rotated, model.x_rotations_.shape[1])


@writes("transform", "QuantileTransformer")
def _quantile_transformer(writer: Writer, model: Any, columns: Columns) -> Columns:
    # As QuantileTransformer._transform_col: the mean of interpolating from below and from above, so
    # that a value repeated among the quantiles gets the middle of its range.
    builder = writer.builder
    is_normal = model.output_distribution == "normal"
    numbers = writer.numbers(columns)
    parts = []
    references = np.asarray(model.references_, np.float64)
    for index, quantiles in enumerate(np.asarray(model.quantiles_, np.float64).T):
        x = builder.op("Gather", numbers, builder.constant([index], np.int64), axis=1)
        forward = interpolated(writer, x, quantiles, references)
        backward = interpolated(writer, builder.op("Neg", x), -quantiles[::-1], -references[::-1])
        both = builder.op("Sub", forward, backward)
        part = builder.op("Mul", both, builder.constant(0.5, np.float64))
        lowest = builder.constant(quantiles[0], np.float64)
        highest = builder.constant(quantiles[-1], np.float64)
        if is_normal:
            near = builder.constant(_NEAR_BOUND, np.float64)
            low = builder.op("Less", builder.op("Sub", x, near), lowest)
            high = builder.op("Greater", builder.op("Add", x, near), highest)
        else:
            low = builder.op("Equal", x, lowest)
            high = builder.op("Equal", x, highest)
        part = builder.op("Where", high, builder.constant(1.0, np.float64), part)
        parts.append(builder.op("Where", low, builder.constant(0.0, np.float64), part))
    name = parts[0] if len(parts) == 1 else builder.op("Concat", *parts, axis=1)
    if is_normal:
        from scipy.special import ndtri

        # scikit-learn's own limits: what would be infinite ends there.
        limits = ndtri([_NEAR_BOUND - np.spacing(1), 1.0 - (_NEAR_BOUND - np.spacing(1))])
        bounds = [builder.constant(limit, np.float64) for limit in limits]
        name = builder.op("Clip", normal_quantile(writer, name), *bounds)
    return writer.new(name, len(parts))


def interpolated(writer: Writer, name: str, x: np.ndarray, y: np.ndarray) -> str:
    """float64 (N, 1): ``numpy.interp`` of a column; ``x`` may repeat values."""
    builder = writer.builder
    if len(x) == 1:
        zero = builder.op("Mul", name, builder.constant(0.0, np.float64))
        return builder.op("Add", zero, builder.constant(y[0], np.float64))
    # numpy.interp takes the last i with x[i] <= value; the last point belongs to the last segment.
    # Values outside get the first or the last y, also where the first or last x is repeated.
    bounded = builder.op("Clip", name, builder.constant(x[0]), builder.constant(x[-1]))
    reached = builder.op("GreaterOrEqual", name, builder.constant(x[None, 1:]))
    axis = builder.constant([1], np.int64)
    segment = builder.op("ReduceSum", builder.cast(reached, "bool", "int64"), axis)
    width = np.append(np.diff(x), 1.0)
    slope = np.divide(np.append(np.diff(y), 0.0), width, out=np.zeros(len(x)), where=width != 0)
    start = builder.op("Gather", builder.constant(x), segment, axis=0)
    base = builder.op("Gather", builder.constant(y), segment, axis=0)
    steepness = builder.op("Gather", builder.constant(slope), segment, axis=0)
    step = builder.op("Mul", builder.op("Sub", bounded, start), steepness)
    return builder.op("Add", base, step)


@writes("transform", "FactorAnalysis")
def _factor_analysis(writer: Writer, model: Any, columns: Columns) -> Columns:
    # Posterior mean of the factors: Barber, Bayesian Reasoning and Machine Learning, 21.2.
    psi = model.components_ / model.noise_variance_
    covariance = np.linalg.inv(np.eye(len(model.components_)) + psi @ model.components_.T)
    return _product(writer, columns, psi.T @ covariance, subtract=model.mean_)


def _product(
    writer: Writer, columns: Columns, weights: np.ndarray, subtract: np.ndarray | None = None
) -> Columns:
    builder = writer.builder
    name = writer.numbers(columns)
    if subtract is not None:
        name = builder.op("Sub", name, builder.constant(subtract, np.float64))
    name = builder.op("MatMul", name, builder.constant(weights, np.float64))
    return writer.new(name, weights.shape[1])


@writes("transform", "KMeans", "MiniBatchKMeans", "BisectingKMeans")
def _k_means_distances(writer: Writer, model: Any, columns: Columns) -> Columns:
    squared = squared_distances(writer, columns, model.cluster_centers_)
    return writer.new(writer.builder.op("Sqrt", squared), len(model.cluster_centers_))


def squared_distances(writer: Writer, columns: Columns, points: np.ndarray) -> str:
    """float64 (N, len(points)): squared Euclidean distances to fixed points, as one product."""
    builder = writer.builder
    points = np.asarray(points, np.float64)
    rows = writer.numbers(columns)
    product = builder.op("MatMul", rows, builder.constant(-2.0 * points.T))
    size = builder.op("ReduceSumSquare", rows, builder.constant([1], np.int64))
    moved = builder.op("Add", product, builder.constant((points**2).sum(axis=1)))
    return builder.op("Max", builder.op("Add", moved, size), builder.constant(0.0, np.float64))
