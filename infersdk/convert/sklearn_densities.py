"""Gaussian densities: scores of PCA and factor analysis, quadratic discriminants, Bayesian mixtures."""

from __future__ import annotations

from typing import Any

import numpy as np

from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_linear import affine
from infersdk.convert.sklearn_unsupervised import component_densities
from infersdk.convert.sklearn_writer import Writer, unsupported, writes


@writes("score_samples", "FactorAnalysis", "PCA")
def _gaussian_scores(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    precision = np.asarray(model.get_precision(), np.float64)
    centered = builder.op("Sub", writer.numbers(columns), builder.constant(model.mean_, np.float64))
    product = builder.op("Mul", centered, affine(writer, centered, precision, None))
    squared = builder.op("ReduceSum", product, builder.constant([1], np.int64))
    sign, log_determinant = np.linalg.slogdet(precision)
    if sign <= 0:
        raise unsupported(model, "its precision matrix is singular")
    level = 0.5 * (log_determinant - len(columns) * np.log(2.0 * np.pi))
    half = builder.op("Mul", squared, builder.constant(-0.5, np.float64))
    return builder.op("Add", half, builder.constant(level, np.float64))


# ---- quadratic discriminants


def _discriminants(writer: Writer, model: Any, columns: Columns) -> str:
    """float64 (N, K): log posterior of each class, but for a constant."""
    builder = writer.builder
    numbers = writer.numbers(columns)
    axis = builder.constant([1], np.int64)
    parts = []
    for mean, rotation, scaling in zip(
        model.means_, model.rotations_, model.scalings_, strict=True
    ):
        centered = builder.op("Sub", numbers, builder.constant(mean, np.float64))
        weights = np.asarray(rotation, np.float64) * np.asarray(scaling, np.float64) ** -0.5
        parts.append(builder.op("ReduceSumSquare", affine(writer, centered, weights, None), axis))
    squared = builder.op("Concat", *parts, axis=1)
    spread = np.array([np.log(scaling).sum() for scaling in model.scalings_])
    half = builder.op(
        "Mul", builder.op("Add", squared, builder.constant(spread)), _minus_half(writer)
    )
    return builder.op("Add", half, builder.constant(np.log(model.priors_), np.float64))


def _minus_half(writer: Writer) -> str:
    return writer.builder.constant(-0.5, np.float64)


@writes("decision", "QuadraticDiscriminantAnalysis")
def _discriminant_decision(writer: Writer, model: Any, columns: Columns) -> str:
    scores = _discriminants(writer, model, columns)
    if len(model.classes_) > 2:
        return scores
    builder = writer.builder
    return builder.op("MatMul", scores, builder.constant([[-1.0], [1.0]], np.float64))


@writes("proba", "QuadraticDiscriminantAnalysis")
def _discriminant_proba(writer: Writer, model: Any, columns: Columns) -> str:
    return writer.builder.op("Softmax", _discriminants(writer, model, columns), axis=1)


@writes("log_proba", "QuadraticDiscriminantAnalysis")
def _discriminant_log_proba(writer: Writer, model: Any, columns: Columns) -> str:
    return writer.builder.op("LogSoftmax", _discriminants(writer, model, columns), axis=1)


@writes("label", "QuadraticDiscriminantAnalysis")
def _discriminant_label(writer: Writer, model: Any, columns: Columns) -> str:
    return writer.builder.op("ArgMax", _discriminants(writer, model, columns), axis=1, keepdims=0)


# ---- Bayesian mixtures


def _bayesian(writer: Writer, model: Any, columns: Columns) -> str:
    """float64 (N, K): expected log density of each component; Bishop (2006), 10.2."""
    from scipy.special import digamma

    n_features = len(columns)
    freedom = np.asarray(model.degrees_of_freedom_, np.float64)
    order = np.arange(n_features)[:, None]
    log_lambda = n_features * np.log(2.0) + digamma(0.5 * (freedom - order)).sum(axis=0)
    level = 0.5 * (log_lambda - n_features / np.asarray(model.mean_precision_, np.float64))
    level = level - 0.5 * n_features * np.log(freedom) + model._estimate_log_weights()
    return component_densities(writer, model, columns, np.asarray(level, np.float64))


@writes("predict", "BayesianGaussianMixture")
def _bayesian_predict(writer: Writer, model: Any, columns: Columns) -> str:
    return writer.builder.op("ArgMax", _bayesian(writer, model, columns), axis=1, keepdims=0)


@writes("proba", "BayesianGaussianMixture")
def _bayesian_proba(writer: Writer, model: Any, columns: Columns) -> str:
    return writer.builder.op("Softmax", _bayesian(writer, model, columns), axis=1)


@writes("score_samples", "BayesianGaussianMixture")
def _bayesian_scores(writer: Writer, model: Any, columns: Columns) -> str:
    axis = writer.builder.constant([1], np.int64)
    return writer.builder.op("ReduceLogSumExp", _bayesian(writer, model, columns), axis)
