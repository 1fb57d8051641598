"""Composition, scaling and missing values, written exactly.

The arithmetic is scikit-learn's, in its order, in float64. Scalers and imputers are increasing functions
of single columns and say so, so that trees behind them can do without their nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from infersdk.convert.sklearn_graph import Column, Columns
from infersdk.convert.sklearn_writer import (
    EMPTY_IS_MISSING,
    Writer,
    is_missing,
    unsupported,
    writes,
)

# ---- composition


@writes("transform", "Pipeline")
def _pipeline(writer: Writer, model: Any, columns: Columns) -> Columns:
    for _, step in model.steps:
        if step is not None and step != "passthrough":
            columns = writer.transform(step, columns)
    return columns


@writes("transform", "ColumnTransformer")
def _column_transformer(writer: Writer, model: Any, columns: Columns) -> Columns:
    # The fitted positions hold names, masks, slices and callables alike.
    positions = model._transformer_to_input_indices
    weights = model.transformer_weights or {}
    result: list[Column] = []
    for name, step, _ in model.transformers_:
        chosen = tuple(columns[int(index)] for index in positions[name])
        if isinstance(step, str):
            made = () if step == "drop" else chosen
        elif not chosen:
            made = ()
        else:
            made = writer.transform(step, chosen)
        result.extend(_weighted(writer, made, weights.get(name)))
    return tuple(result)


@writes("transform", "FeatureUnion")
def _feature_union(writer: Writer, model: Any, columns: Columns) -> Columns:
    weights = model.transformer_weights or {}
    result: list[Column] = []
    for name, step in model.transformer_list:
        if step == "drop":
            continue
        made = columns if step == "passthrough" else writer.transform(step, columns)
        result.extend(_weighted(writer, made, weights.get(name)))
    return tuple(result)


def _weighted(writer: Writer, columns: Columns, weight: float | None) -> Columns:
    if weight is None or not columns:
        return columns
    builder = writer.builder
    scaled = builder.op("Mul", writer.numbers(columns), builder.constant(weight, np.float64))
    return writer.new(scaled, len(columns))


@writes(
    "transform",
    "GenericUnivariateSelect",
    "RFE",
    "RFECV",
    "SelectFdr",
    "SelectFpr",
    "SelectFromModel",
    "SelectFwe",
    "SelectKBest",
    "SelectPercentile",
    "SequentialFeatureSelector",
    "VarianceThreshold",
)
def _selector(writer: Writer, model: Any, columns: Columns) -> Columns:
    return tuple(columns[int(index)] for index in model.get_support(indices=True))


# ---- scaling: increasing functions of single columns


@writes("transform", "StandardScaler")
def _standard_scaler(writer: Writer, model: Any, columns: Columns) -> Columns:
    return _affine(
        writer,
        columns,
        subtract=model.mean_ if model.with_mean else None,
        divide=model.scale_ if model.with_std else None,
    )


@writes("transform", "RobustScaler")
def _robust_scaler(writer: Writer, model: Any, columns: Columns) -> Columns:
    return _affine(
        writer,
        columns,
        subtract=model.center_ if model.with_centering else None,
        divide=model.scale_ if model.with_scaling else None,
    )


@writes("transform", "MaxAbsScaler")
def _max_abs_scaler(writer: Writer, model: Any, columns: Columns) -> Columns:
    clip = (-1.0, 1.0) if getattr(model, "clip", False) else None
    return _affine(writer, columns, divide=model.scale_, clip=clip)


@writes("transform", "MinMaxScaler")
def _min_max_scaler(writer: Writer, model: Any, columns: Columns) -> Columns:
    clip = tuple(float(bound) for bound in model.feature_range) if model.clip else None
    return _affine(writer, columns, multiply=model.scale_, add=model.min_, clip=clip)


def _affine(
    writer: Writer,
    columns: Columns,
    *,
    subtract: np.ndarray | None = None,
    divide: np.ndarray | None = None,
    multiply: np.ndarray | None = None,
    add: np.ndarray | None = None,
    clip: tuple[float, ...] | None = None,
) -> Columns:
    builder = writer.builder
    operations = [
        (op, np.asarray(operand, np.float64))
        for op, operand in (("Sub", subtract), ("Div", divide), ("Mul", multiply), ("Add", add))
        if operand is not None
    ]

    def emit() -> str:
        name = writer.numbers(columns)
        for op, operand in operations:
            name = builder.op(op, name, builder.constant(operand))
        if clip is not None:
            bounds = [builder.constant(bound, np.float64) for bound in clip]
            name = builder.op("Clip", name, *bounds)
        return name

    numpy_ops = {"Sub": np.subtract, "Div": np.divide, "Mul": np.multiply, "Add": np.add}

    def along(index: int) -> Callable[[np.ndarray], np.ndarray]:
        def function(values: np.ndarray) -> np.ndarray:
            for op, operand in operations:
                values = numpy_ops[op](values, operand[index])
            return values if clip is None else np.clip(values, clip[0], clip[1])

        return function

    if any(column.is_text for column in columns):
        writer.numbers(columns)  # raises
    value = builder.lazy("float64", len(columns), emit)
    if not all(np.all(operand > 0) for op, operand in operations if op in ("Div", "Mul")):
        return value.columns()
    return tuple(
        column.followed_by(value, index, along(index)) for index, column in enumerate(columns)
    )


# ---- missing values


@writes("transform", "SimpleImputer")
def _simple_imputer(writer: Writer, model: Any, columns: Columns) -> Columns:
    statistics = list(model.statistics_)
    empty = [index for index, value in enumerate(statistics) if is_missing(value)]
    if model.keep_empty_features and empty:
        raise unsupported(model, "keep_empty_features=True with a column that was always missing")
    kept = [index for index in range(len(columns)) if index not in empty]
    filled: dict[int, Column] = {}
    for index in kept:
        if columns[index].is_text:
            old = "" if is_missing(model.missing_values) else model.missing_values
            if not isinstance(old, str):
                raise unsupported(model, f"missing_values={old!r} over a text column")
            if old == "":
                writer.note(EMPTY_IS_MISSING)
            pair = (old, str(statistics[index]))
            filled[index] = replace(columns[index], replaced=(*columns[index].replaced, pair))
    numeric = [index for index in kept if not columns[index].is_text]
    if numeric:
        chosen = tuple(columns[index] for index in numeric)
        fill = np.asarray([float(statistics[index]) for index in numeric], np.float64)
        builder = writer.builder

        def emit() -> str:
            name = writer.numbers(chosen)
            return builder.op("Where", _missing(writer, model, name), builder.constant(fill), name)

        value = builder.lazy("float64", len(numeric), emit)
        if is_missing(model.missing_values):
            made = [
                column.followed_by(value, index, fill=float(fill[index]))
                for index, column in enumerate(chosen)
            ]
        else:
            made = list(value.columns())
        filled.update(zip(numeric, made, strict=True))
    result = [filled[index] for index in kept]
    if model.add_indicator:
        result.extend(writer.transform(model.indicator_, columns))
    return tuple(result)


@writes("transform", "MissingIndicator")
def _missing_indicator(writer: Writer, model: Any, columns: Columns) -> Columns:
    chosen = tuple(columns[int(index)] for index in model.features_)
    if not chosen:
        return ()
    if any(column.is_text for column in chosen):
        raise unsupported(model, "it marks missing values of a text column")
    hit = _missing(writer, model, writer.numbers(chosen))
    return writer.new(writer.builder.cast(hit, "bool", "float64"), len(chosen))


def _missing(writer: Writer, model: Any, name: str) -> str:
    builder = writer.builder
    if is_missing(model.missing_values):
        return builder.op("IsNaN", name)
    if isinstance(model.missing_values, str):
        raise unsupported(model, f"missing_values={model.missing_values!r} over a numeric column")
    return builder.op("Equal", name, builder.constant(float(model.missing_values), np.float64))
