"""Encoders: a category becomes the position of its output in one look-up.

Dropped, infrequent, missing and unknown categories, and what an imputer in front fills in, are entries of
the same table and cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
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


@writes("transform", "OneHotEncoder")
def _one_hot_encoder(writer: Writer, model: Any, columns: Columns) -> Columns:
    builder = writer.builder
    codes: list[str] = []
    sources: list[int] = []
    targets: list[int] = []
    for index, (column, categories) in enumerate(zip(columns, model.categories_, strict=True)):
        width = int(model._n_features_outs[index])
        positions, unknown = _one_hot_positions(model, index, width)
        codes.append(codes_of(writer, model, column, categories, positions, unknown))
        sources.extend([index] * width)
        targets.extend(range(width))
    if not targets:
        return ()
    matrix = codes[0] if len(codes) == 1 else builder.op("Concat", *codes, axis=1)
    spread = builder.op("Gather", matrix, builder.constant(sources, np.int64), axis=1)
    hot = builder.op("Equal", spread, builder.constant(targets, np.int64))
    return _whole(writer.new(builder.cast(hot, "bool", "float64"), len(targets)))


def _whole(columns: Columns) -> Columns:
    return tuple(replace(column, whole=True) for column in columns)


def _one_hot_positions(model: Any, index: int, width: int) -> tuple[list[int], int]:
    """Output position of each category, -1 for none, and that of an unknown one."""
    positions = np.arange(len(model.categories_[index]))
    infrequent = -1
    if model._infrequent_enabled and model._infrequent_indices[index] is not None:
        positions = np.asarray(model._default_to_infrequent_mappings[index])
        infrequent = int(positions[model._infrequent_indices[index][0]])
    dropped = None
    if model._drop_idx_after_grouping is not None:
        dropped = model._drop_idx_after_grouping[index]

    def after_drop(position: int) -> int:
        if dropped is None or position < dropped:
            return position
        return -1 if position == dropped else position - 1

    unknown = -1
    if model.handle_unknown in ("infrequent_if_exist", "warn") and infrequent >= 0:
        unknown = after_drop(infrequent)
    return [after_drop(int(position)) for position in positions], unknown


@writes("transform", "OrdinalEncoder")
def _ordinal_encoder(writer: Writer, model: Any, columns: Columns) -> Columns:
    builder = writer.builder
    names = []
    unknown = np.nan if model.unknown_value is None else float(model.unknown_value)
    for index, (column, categories) in enumerate(zip(columns, model.categories_, strict=True)):
        positions = np.arange(len(categories))
        if model._infrequent_enabled and model._infrequent_indices[index] is not None:
            positions = np.asarray(model._default_to_infrequent_mappings[index])
            # The missing category, which comes last, takes no part in grouping.
            absent = np.zeros(len(categories) - len(positions), positions.dtype)
            positions = np.append(positions, absent)
        values = positions.astype(np.float64)
        missing = model._missing_indices.get(index)
        if missing is not None:
            values[missing] = model.encoded_missing_value
        names.append(_lookup(writer, model, column, categories, values, unknown))
    name = names[0] if len(names) == 1 else builder.op("Concat", *names, axis=1)
    made = writer.new(name, len(names))
    fixed = [float(model.encoded_missing_value), float(unknown)]
    return _whole(made) if all(np.isnan(v) or v == np.round(v) for v in fixed) else made


@writes("transform", "TargetEncoder")
def _target_encoder(writer: Writer, model: Any, columns: Columns) -> Columns:
    # encodings_ holds one table per (feature, class) for several classes, else one per feature.
    classes = len(model.classes_) if model.target_type_ == "multiclass" else 1
    means = np.atleast_1d(model.target_mean_)
    names = []
    for table, encoding in enumerate(model.encodings_):
        feature, target = divmod(table, classes)
        values = np.asarray(encoding, np.float64)
        categories = model.categories_[feature]
        names.append(
            _lookup(writer, model, columns[feature], categories, values, float(means[target]))
        )
    builder = writer.builder
    return writer.new(
        names[0] if len(names) == 1 else builder.op("Concat", *names, axis=1), len(names)
    )


def _lookup(
    writer: Writer,
    model: Any,
    column: Column,
    categories: Sequence[Any],
    values: np.ndarray,
    unknown: float,
) -> str:
    """float64 (N, 1): the value of each row's category."""
    builder = writer.builder
    table = builder.constant(np.append(values, unknown), np.float64)
    positions = list(range(len(values)))
    codes = codes_of(writer, model, column, categories, positions, len(values))
    return builder.op("Gather", table, codes, axis=0)


def codes_of(
    writer: Writer,
    model: Any,
    column: Column,
    categories: Sequence[Any],
    positions: Sequence[int],
    unknown: int,
) -> str:
    """int64 (N, 1): the position that belongs to each row's category, ``unknown`` for any other."""
    builder = writer.builder
    if column.is_text:
        table = _text_table(model, column, categories, positions, unknown)
        if any(is_missing(category) for category in categories):
            writer.note(EMPTY_IS_MISSING)
        source = builder.matrix((replace(column, replaced=()),), "string")
        return builder.ml(
            "LabelEncoder",
            source,
            keys_strings=list(table),
            values_int64s=list(table.values()),
            default_int64=unknown,
        )
    keys, values, missing = [], [], unknown
    for category, position in zip(categories, positions, strict=True):
        if is_missing(category):
            missing = position
        elif isinstance(category, str):
            raise unsupported(model, f"category {category!r} is text, but its column is numeric")
        else:
            keys.append(float(category))
            values.append(position)
    code = _number_codes(writer, column, keys, values, unknown)
    if missing == unknown:
        return code
    absent = builder.op("IsNaN", builder.matrix((column,), "float64"))
    return builder.op("Where", absent, builder.constant(missing, np.int64), code)


def _number_codes(
    writer: Writer, column: Column, keys: Sequence[float], values: Sequence[int], unknown: int
) -> str:
    builder = writer.builder
    if keys and column.whole and max(map(abs, keys)) < 2.0**24:
        return builder.ml(
            "LabelEncoder",
            builder.matrix((column,), "float32"),
            keys_floats=list(keys),
            values_int64s=list(values),
            default_int64=unknown,
        )
    # The look-up of ai.onnx.ml 3 knows float32 only, which would take two numbers for one.
    numbers = builder.matrix((column,), "float64")
    hit = builder.op("Equal", numbers, builder.constant(np.asarray(keys).reshape(1, -1)))
    steps = builder.constant(np.asarray([[v - unknown for v in values]], np.int64))
    chosen = builder.op("Mul", builder.cast(hit, "bool", "int64"), steps)
    total = builder.op("ReduceSum", chosen, builder.constant([1], np.int64))
    return builder.op("Add", total, builder.constant(unknown, np.int64))


def _text_table(
    model: Any,
    column: Column,
    categories: Sequence[Any],
    positions: Sequence[int],
    unknown: int,
) -> dict[str, int]:
    table: dict[str, int] = {}
    for category, position in zip(categories, positions, strict=True):
        # Missing text is fed as "".
        key = "" if is_missing(category) else category
        if not isinstance(key, str):
            raise unsupported(model, f"category {category!r} is no text, but its column is")
        if key in table and table[key] != position:
            raise unsupported(
                model, "it tells missing values from the empty text, or None from NaN"
            )
        table[key] = position
    for old, new in column.replaced:
        table[old] = table.get(new, unknown)
    return table
