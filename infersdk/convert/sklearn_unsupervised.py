"""Clusters, mixtures, outlier detectors, and the dummies that look at no column."""

from __future__ import annotations

from typing import Any

import numpy as np

from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_linear import affine
from infersdk.convert.sklearn_numeric import squared_distances
from infersdk.convert.sklearn_writer import Writer, unsupported, writes

__all__ = ["component_densities", "constant_rows"]

# ---- clusters and outliers


@writes("predict", "KMeans", "MiniBatchKMeans")
def _k_means_predict(writer: Writer, model: Any, columns: Columns) -> str:
    squared = squared_distances(writer, columns, model.cluster_centers_)
    return writer.builder.op("ArgMin", squared, axis=1, keepdims=0)


@writes("score_samples", "EllipticEnvelope")
def _envelope_scores(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    centered = builder.op(
        "Sub", writer.numbers(columns), builder.constant(model.location_, np.float64)
    )
    moved = affine(writer, centered, np.asarray(model.get_precision(), np.float64), None)
    axis = builder.constant([1], np.int64)
    squared = builder.op("ReduceSum", builder.op("Mul", moved, centered), axis)
    return builder.op("Neg", squared)


@writes("decision", "SGDOneClassSVM")
def _sgd_one_class_decision(writer: Writer, model: Any, columns: Columns) -> str:
    weights = np.atleast_2d(np.asarray(model.coef_, np.float64)).T
    return affine(writer, writer.numbers(columns), weights, -np.asarray(model.offset_, np.float64))


@writes("score_samples", "OneClassSVM", "SGDOneClassSVM")
def _one_class_scores(writer: Writer, model: Any, columns: Columns) -> str:
    decision = writer.write("decision", model, columns)
    offset = writer.builder.constant(model.offset_, np.float64)
    return writer.builder.op("Add", decision, offset)


@writes("decision", "EllipticEnvelope", "IsolationForest")
def _outlier_decision(writer: Writer, model: Any, columns: Columns) -> str:
    scores = writer.write("score_samples", model, columns)
    return writer.builder.op("Sub", scores, writer.builder.constant(model.offset_, np.float64))


@writes("predict", "EllipticEnvelope", "IsolationForest", "OneClassSVM", "SGDOneClassSVM")
def _outlier_predict(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    decision = writer.write("decision", model, columns)
    flat = builder.op("Reshape", decision, builder.constant([-1], np.int64))
    comparison = "Greater" if type(model).__name__ == "OneClassSVM" else "GreaterOrEqual"
    inside = builder.op(comparison, flat, builder.constant(0.0, np.float64))
    return builder.op(
        "Where", inside, builder.constant(1, np.int64), builder.constant(-1, np.int64)
    )


def _mixture(writer: Writer, model: Any, columns: Columns) -> str:
    """float64 (N, K): log of each component's weighted density."""
    return component_densities(writer, model, columns, np.log(model.weights_))


def component_densities(writer: Writer, model: Any, columns: Columns, weights: np.ndarray) -> str:
    """float64 (N, K): the Gaussian log density of each component, and ``weights`` (K,) added to it."""
    builder = writer.builder
    numbers = writer.numbers(columns)
    n_features = len(columns)
    axis = builder.constant([1], np.int64)
    parts = []
    for index, mean in enumerate(np.asarray(model.means_, np.float64)):
        factor = np.asarray(model.precisions_cholesky_, np.float64)
        factor = factor if model.covariance_type == "tied" else factor[index]
        if model.covariance_type == "spherical":
            factor = np.full(n_features, float(factor))
        diagonal = np.diag(factor) if factor.ndim == 2 else factor
        centered = builder.op("Sub", numbers, builder.constant(mean))
        op = "MatMul" if factor.ndim == 2 else "Mul"
        scaled = builder.op(op, centered, builder.constant(factor))
        squared = builder.op("ReduceSumSquare", scaled, axis)
        # Bishop, Pattern Recognition and Machine Learning, 2.43.
        level = weights[index] + np.log(diagonal).sum()
        level -= 0.5 * n_features * np.log(2.0 * np.pi)
        half = builder.op("Mul", squared, builder.constant(-0.5, np.float64))
        parts.append(builder.op("Add", half, builder.constant(level, np.float64)))
    return parts[0] if len(parts) == 1 else builder.op("Concat", *parts, axis=1)


@writes("predict", "GaussianMixture")
def _mixture_predict(writer: Writer, model: Any, columns: Columns) -> str:
    return writer.builder.op("ArgMax", _mixture(writer, model, columns), axis=1, keepdims=0)


@writes("proba", "GaussianMixture")
def _mixture_proba(writer: Writer, model: Any, columns: Columns) -> str:
    return writer.builder.op("Softmax", _mixture(writer, model, columns), axis=1)


@writes("score_samples", "GaussianMixture")
def _mixture_scores(writer: Writer, model: Any, columns: Columns) -> str:
    axis = writer.builder.constant([1], np.int64)
    return writer.builder.op("ReduceLogSumExp", _mixture(writer, model, columns), axis)


# ---- dummies


@writes("predict", "DummyRegressor")
def _dummy_predict(writer: Writer, model: Any, columns: Columns) -> str:
    return constant_rows(writer, columns, np.asarray(model.constant_, np.float64).reshape(1, -1))


@writes("proba", "DummyClassifier")
def _dummy_proba(writer: Writer, model: Any, columns: Columns) -> str:
    if model.n_outputs_ != 1 or model.strategy in ("stratified", "uniform"):
        raise unsupported(model, f"strategy={model.strategy!r} answers at random")
    n_features = getattr(model, "n_features_in_", 1)
    row = model.predict_proba(np.zeros((1, n_features)))
    return constant_rows(writer, columns, np.asarray(row, np.float64))


def constant_rows(writer: Writer, columns: Columns, row: np.ndarray) -> str:
    """float64 (N, k): the same ``row`` (1, k) for every row."""
    builder = writer.builder
    source = builder.matrix(columns[:1], columns[0].value.dtype)
    n_rows = builder.op("Gather", builder.op("Shape", source), builder.constant([0], np.int64))
    shape = builder.op("Concat", n_rows, builder.constant([row.shape[1]], np.int64), axis=0)
    return builder.op("Expand", builder.constant(row, np.float64), shape)
