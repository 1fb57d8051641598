"""Transformers, written exactly: the arithmetic of scikit-learn, in its order, in float64.

Encoders turn a category straight into the position of its output, so that dropped, infrequent,
missing and unknown categories cost nothing. Text is in ``sklearn_text.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from infersdk.convert.sklearn_graph import Column, Columns
from infersdk.convert.sklearn_writer import Writer, unsupported, writes

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
            return values if clip is None else np.clip(values, *clip)

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
    empty = [index for index, value in enumerate(statistics) if _is_missing(value)]
    if model.keep_empty_features and empty:
        raise unsupported(model, "keep_empty_features=True with a column that was always missing")
    kept = [index for index in range(len(columns)) if index not in empty]
    filled: dict[int, Column] = {}
    for index in kept:
        if columns[index].is_text:
            old = "" if _is_missing(model.missing_values) else model.missing_values
            if not isinstance(old, str):
                raise unsupported(model, f"missing_values={old!r} over a text column")
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
        if _is_missing(model.missing_values):
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
    if _is_missing(model.missing_values):
        return builder.op("IsNaN", name)
    if isinstance(model.missing_values, str):
        raise unsupported(model, f"missing_values={model.missing_values!r} over a numeric column")
    return builder.op("Equal", name, builder.constant(float(model.missing_values), np.float64))


def _is_missing(value: Any) -> bool:
    # NaN, None and pandas.NA, which does not compare.
    if value is None or type(value).__name__ == "NAType":
        return True
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


# ---- encoders


@writes("transform", "OneHotEncoder")
def _one_hot_encoder(writer: Writer, model: Any, columns: Columns) -> Columns:
    builder = writer.builder
    codes, sources, targets = [], [], []
    for index, (column, categories) in enumerate(zip(columns, model.categories_, strict=True)):
        width = int(model._n_features_outs[index])
        positions, unknown = _one_hot_positions(model, index, width)
        codes.append(_codes(writer, model, column, categories, positions, unknown))
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
    codes = _codes(writer, model, column, categories, positions, len(values))
    return builder.op("Gather", table, codes, axis=0)


def _codes(
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
        if _is_missing(category):
            missing = position
        elif isinstance(category, str):
            raise unsupported(model, f"category {category!r} is text, but its column is numeric")
        else:
            keys.append(np.float32(category))
            values.append(position)
    if len(set(keys)) < len(keys):
        raise unsupported(model, "two of its categories are the same number in float32")
    source = builder.matrix((column,), "float32")
    if keys:
        code = builder.ml(
            "LabelEncoder",
            source,
            keys_floats=[float(key) for key in keys],
            values_int64s=values,
            default_int64=unknown,
        )
    else:
        shape = builder.op("Shape", source)
        code = builder.op("Expand", builder.constant(unknown, np.int64), shape)
    if missing == unknown:
        return code
    return builder.op(
        "Where", builder.op("IsNaN", source), builder.constant(missing, np.int64), code
    )


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
        key = "" if _is_missing(category) else category
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


# ---- numbers to numbers


@writes("transform", "FunctionTransformer")
def _function_transformer(writer: Writer, model: Any, columns: Columns) -> Columns:
    function = model.func
    if function is None:
        return columns
    builder = writer.builder
    unary = {
        np.abs: "Abs",
        np.ceil: "Ceil",
        np.cos: "Cos",
        np.exp: "Exp",
        np.floor: "Floor",
        np.log: "Log",
        np.negative: "Neg",
        np.reciprocal: "Reciprocal",
        np.sin: "Sin",
        np.sqrt: "Sqrt",
        np.tanh: "Tanh",
    }
    if model.kw_args or not isinstance(function, np.ufunc):
        name = getattr(function, "__qualname__", repr(function))
        raise unsupported(model, f"what the Python function `{name}` does cannot be read")
    if function in unary:
        name = builder.op(unary[function], writer.numbers(columns))
    elif function is np.log1p:
        one = builder.constant(1.0, np.float64)
        name = builder.op("Log", builder.op("Add", writer.numbers(columns), one))
    elif function is np.square:
        numbers = writer.numbers(columns)
        name = builder.op("Mul", numbers, numbers)
    else:
        raise unsupported(
            model, f"numpy.{function.__name__} is not among the functions it can write"
        )
    return writer.new(name, len(columns))


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
    if model.output_distribution != "uniform":
        raise unsupported(model, "ONNX has no inverse of the normal distribution's function")
    # As QuantileTransformer._transform_col: the mean of interpolating from below and from above, so
    # that a value repeated among the quantiles gets the middle of its range.
    builder = writer.builder
    numbers = writer.numbers(columns)
    parts = []
    references = np.asarray(model.references_, np.float64)
    for index, quantiles in enumerate(np.asarray(model.quantiles_, np.float64).T):
        x = builder.op("Gather", numbers, builder.constant([index], np.int64), axis=1)
        forward = interpolated(writer, x, quantiles, references)
        backward = interpolated(writer, builder.op("Neg", x), -quantiles[::-1], -references[::-1])
        both = builder.op("Sub", forward, backward)
        part = builder.op("Mul", both, builder.constant(0.5, np.float64))
        low = builder.op("Equal", x, builder.constant(quantiles[0], np.float64))
        high = builder.op("Equal", x, builder.constant(quantiles[-1], np.float64))
        part = builder.op("Where", high, builder.constant(1.0, np.float64), part)
        parts.append(builder.op("Where", low, builder.constant(0.0, np.float64), part))
    name = parts[0] if len(parts) == 1 else builder.op("Concat", *parts, axis=1)
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
