"""Naive Bayes: log likelihoods that are products or sums, in float64 and without underflow."""

from __future__ import annotations

from typing import Any

import numpy as np

from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_linear import affine
from infersdk.convert.sklearn_writer import Writer, unsupported, writes

__all__ = ["NAMES"]

NAMES = ("BernoulliNB", "CategoricalNB", "ComplementNB", "GaussianNB", "MultinomialNB")


def _joint(writer: Writer, model: Any, columns: Columns) -> str:
    """float64 (N, K): log of each class's share and of what the row says about it."""
    name = type(model).__name__
    if name == "GaussianNB":
        return _gaussian(writer, model, columns)
    if name == "CategoricalNB":
        return _categorical(writer, model, columns)
    logs = np.asarray(model.feature_log_prob_, np.float64)
    prior = np.asarray(model.class_log_prior_, np.float64)
    if name == "ComplementNB":
        return affine(
            writer, writer.numbers(columns), logs.T, prior if len(model.classes_) == 1 else None
        )
    if name == "MultinomialNB":
        return affine(writer, writer.numbers(columns), logs.T, prior)
    builder = writer.builder
    numbers = writer.numbers(columns)
    if model.binarize is not None:
        threshold = builder.constant(float(model.binarize), np.float64)
        numbers = builder.cast(builder.op("Greater", numbers, threshold), "bool", "float64")
    absent = np.log(1.0 - np.exp(logs))
    return affine(writer, numbers, (logs - absent).T, prior + absent.sum(axis=1))


def _gaussian(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    means, variances = np.asarray(model.theta_, np.float64), np.asarray(model.var_, np.float64)
    level = np.log(model.class_prior_) - 0.5 * np.log(2.0 * np.pi * variances).sum(axis=1)
    numbers = writer.numbers(columns)
    axis = builder.constant([1], np.int64)
    parts = []
    for mean, variance in zip(means, variances, strict=True):
        centered = builder.op("Sub", numbers, builder.constant(mean))
        scaled = builder.op(
            "Div", builder.op("Mul", centered, centered), builder.constant(variance)
        )
        parts.append(builder.op("ReduceSum", scaled, axis))
    squared = builder.op("Concat", *parts, axis=1)
    half = builder.op("Mul", squared, builder.constant(-0.5, np.float64))
    return builder.op("Add", half, builder.constant(level))


def _categorical(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    if any(column.is_text for column in columns):
        raise unsupported(model, "a text column")
    codes = builder.cast(writer.numbers(columns), "float64", "int64")
    # A negative place would be counted from the end; one that is not there is refused.
    negative = builder.op("Less", codes, builder.constant(0, np.int64))
    codes = builder.op("Where", negative, builder.constant(2**31, np.int64), codes)
    parts = []
    for index, logs in enumerate(model.feature_log_prob_):
        code = builder.op("Gather", codes, builder.constant(index, np.int64), axis=1)
        table = builder.constant(np.asarray(logs, np.float64).T)
        parts.append(builder.op("Gather", table, code, axis=0))
    total = parts[0] if len(parts) == 1 else builder.op("Sum", *parts)
    return builder.op("Add", total, builder.constant(model.class_log_prior_, np.float64))


@writes("label", *NAMES)
def _bayes_label(writer: Writer, model: Any, columns: Columns) -> str:
    return writer.builder.op("ArgMax", _joint(writer, model, columns), axis=1, keepdims=0)


@writes("proba", *NAMES)
def _bayes_proba(writer: Writer, model: Any, columns: Columns) -> str:
    return writer.builder.op("Softmax", _joint(writer, model, columns), axis=1)


@writes("log_proba", *NAMES)
def _bayes_log_proba(writer: Writer, model: Any, columns: Columns) -> str:
    return writer.builder.op("LogSoftmax", _joint(writer, model, columns), axis=1)
