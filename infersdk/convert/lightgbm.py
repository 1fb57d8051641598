"""LightGBM models: LGBMClassifier, LGBMRegressor, LGBMRanker and Booster.

The booster's own text format is read and written as one TreeEnsemble node with the objective's link
function behind it; no other converter is involved.

LightGBM compares float64 ``x <= threshold`` and ONNX Runtime's trees float32. Thresholds are rounded
down, so that every row of float32 numbers takes the same path in both. Columns whose float64 values
float32 cannot tell apart (unix timestamps, coordinates, ids) get an input of their own, float64, and are
replaced in the graph by the rank of the value among the column's thresholds, which is exact.

Covered: gbdt, dart, goss and rf; linear trees; every objective of LightGBM 4.7, and custom ones, which
answer raw scores as they do in LightGBM; early stopping; missing values of all three kinds
(``use_missing``, ``zero_as_missing``); categorical splits, with the categories of a DataFrame or with
codes in an array.

Not covered: prediction early stopping (``pred_early_stop``), which stops between trees; linear trees over
columns that float32 cannot tell apart, whose proof fails; Dask estimators.

Tested with LightGBM 4.6 and 4.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infersdk.convert.lightgbm_dump import MISSING_ZERO, Dump, read
from infersdk.convert.lightgbm_graph import KNOWN, add_outputs, add_scores
from infersdk.convert.registry import Written
from infersdk.convert.tree_graph import EXACT, FEATURES, Graph, floor_float32
from infersdk.convert.tree_rows import (
    FLOAT32_MAX,
    WHOLE_FLOAT32,
    WHOLE_FLOAT64,
    ColumnEdges,
    check_example,
    dtype_of_column,
    example_matrix,
    frame_dtypes,
    hold_whole_numbers,
    largest_sizes,
    pandas_categories,
    widened,
)
from infersdk.convert.tree_rows import edge_rows as rows_at_edges
from infersdk.errors import UnsupportedModelError
from infersdk.types import Field, Labels, Method, Signature, TensorSpec

if TYPE_CHECKING:
    pass

__all__ = ["EXTRA", "FRAMEWORK", "call", "can_convert", "edge_rows", "infer_signature", "to_onnx"]

FRAMEWORK = "LightGBM"
EXTRA = "lightgbm"

_BINS = 255
"""LightGBM's max_bin: training told apart about this many values over a column's range."""
_COARSE_GAP = 1 << 14
"""Thresholds fewer float32 numbers apart than this are compared as float64: 1 row in 16384 or more
would fall into the float32 number that holds a threshold."""
_COLLAPSED_GAP = 8
"""And so are thresholds this close even if alone: a quarter of their gap is lost in float32."""
_MAX_RANKS = 1 << 12
"""A column with more thresholds is left to float32: ranking it would cost more than the trees."""


def can_convert(model: object) -> bool:
    """Whether ``model`` is one of LightGBM's scikit-learn estimators or a Booster (not Dask)."""
    lineage = [(cls.__module__, cls.__name__) for cls in type(model).__mro__]
    if any(module.startswith("lightgbm.dask") for module, _ in lineage):
        return False
    return ("lightgbm.sklearn", "LGBMModel") in lineage or ("lightgbm.basic", "Booster") in lineage


def infer_signature(model: Any, example: Any = None) -> Signature:
    """Describe the columns a model takes and the methods it answers.

    Parameters
    ----------
    model : lightgbm.LGBMModel or lightgbm.Booster
    example : DataFrame or array, optional
        Tells the columns' dtypes, and which columns are categories where the model leaves it open.

    Returns
    -------
    Signature
        One float32 input ``features`` (N, n_features) into which all fields are packed, save those
        that float32 cannot tell apart: they are packed into a float64 input ``exact``.

    Raises
    ------
    InputError
        The example is a Dataset.
    UnsupportedModelError
        The model is not fitted, or its category columns cannot be told.
    """
    check_example(example)
    return _signature(model, read(model), example)


def to_onnx(
    model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
) -> Written:
    """Write the model as an ONNX graph.

    Parameters
    ----------
    model : lightgbm.LGBMModel or lightgbm.Booster
        Only read.
    signature : Signature
        From :func:`infer_signature`.
    example : optional
        Not needed.
    opset : int, optional
        13 or later; 18 by default.

    Returns
    -------
    Written
        The graph and notes about it.

    Raises
    ------
    UnsupportedModelError
        The objective is not known, predictions stop early, splits disagree about zeros, or the
        categories outgrow the tables.
    """
    source = read(model)
    if source.objective not in KNOWN:
        raise UnsupportedModelError(
            f"LightGBM's objective {source.objective!r} has no known link function. Expected one "
            f"of {', '.join(sorted(KNOWN))}. The nearest is regression, which answers the sum of "
            "the trees as it is."
        )
    if source.stops_early:
        raise UnsupportedModelError(
            f"{type(model).__name__} with pred_early_stop=True stops between trees, which a graph "
            "cannot. Train or load it without pred_early_stop."
        )
    graph = Graph(opset)
    add_outputs(graph, add_scores(graph, source, signature), source, signature)
    notes = []
    exact = [f"`{field.name}`" for field in signature.fields if field.input == EXACT]
    if exact:
        notes.append(f"compared as float64, which float32 could not tell apart: {', '.join(exact)}")
    return Written(graph.model(signature), tuple(notes))


def call(model: Any, method: str, rows: Any) -> Any:
    """Return what LightGBM answers.

    Parameters
    ----------
    model : lightgbm.LGBMModel or lightgbm.Booster
    method : str
        ``"predict"`` or, for classifiers, ``"predict_proba"`` or ``"decision_function"``.
    rows : DataFrame or ndarray of float64
        In the container of the signature.
    """
    return getattr(model, method)(rows)


def edge_rows(
    model: Any, signature: Signature, example: Any, *, n_rows: int, rng: np.random.Generator
) -> Any:
    """Return rows on both sides of every split of every column, with zeros and missing values.

    Parameters
    ----------
    model : lightgbm.LGBMModel or lightgbm.Booster
    signature : Signature
    example : DataFrame, array or None
    n_rows : int
    rng : numpy.random.Generator

    Returns
    -------
    DataFrame or ndarray of float64, n_rows rows
    """
    source = read(model)
    edges = []
    for index, (field, span) in enumerate(zip(signature.fields, source.spans, strict=True)):
        limits = source.thresholds(index)
        edges.append(
            ColumnEdges(
                limits,
                specials=(0.0,) if len(limits) else (),
                n_categories=source.n_categories(index),
                resolution=span / _BINS,
                exact=field.input == EXACT,
            )
        )
    return rows_at_edges(signature, edges, example, n_rows=n_rows, rng=rng)


def _signature(model: Any, source: Dump, example: Any) -> Signature:
    n_outputs = source.n_outputs
    methods: list[Method] = []
    outputs: list[TensorSpec] = []
    if source.wrapper == "classifier" and not source.custom:
        classes = source.classes
        n_columns = n_outputs if n_outputs > 1 else 2
        dtype = classes.dtype.str if classes.dtype.kind in "US" else classes.dtype.name
        labels = Labels(tuple(classes.tolist()), dtype)
        methods = [
            Method("predict", ("label",), form="labels", labels=labels),
            Method("predict_proba", ("probabilities",), dtype="float64", shape=(n_columns,)),
        ]
        outputs = [
            TensorSpec("label", "int64", ("N",)),
            TensorSpec("probabilities", "float32", ("N", n_columns)),
        ]
    else:
        shape = () if n_outputs == 1 else (n_outputs,)
        methods = [Method("predict", ("prediction",), dtype="float64", shape=shape)]
        if source.wrapper == "classifier":
            methods.append(Method("predict_proba", ("prediction",), dtype="float64", shape=shape))
        outputs = [TensorSpec("prediction", "float32", ("N", n_outputs))]
    if source.wrapper == "classifier" and source.has_decision_function:
        shape = () if n_outputs == 1 else (n_outputs,)
        methods.append(
            Method("decision_function", ("scores",), dtype="float64", shape=shape, head="scores")
        )
        outputs.append(TensorSpec("scores", "float32", ("N", n_outputs)))
    fields, inputs = _inputs(source, _fields(model, source, example), example)
    return Signature(
        inputs=inputs,
        outputs=tuple(outputs),
        methods=tuple(methods),
        fields=fields,
        container="dataframe" if source.is_named else "array",
    )


def _fields(model: Any, source: Dump, example: Any) -> tuple[Field, ...]:
    dtypes = frame_dtypes(example) if source.is_named else None
    names = source.names
    if dtypes is not None and tuple(name.replace(" ", "_") for name in dtypes) == names:
        names = tuple(dtypes)  # LightGBM writes underscores for the blanks in names
    elif not source.is_named:
        names = tuple(f"f{index}" for index in range(source.n_features))
    columns = _pandas_columns(model, source, names, dtypes)
    fields = []
    for index, name in enumerate(names):
        if index in columns:
            value_dtype, values = pandas_categories(columns[index])
            fields.append(
                Field(
                    name,
                    value_dtype,
                    FEATURES,
                    index,
                    missing="nan",
                    categories=values,
                    encoding="code",
                    source_dtype="category",
                )
            )
            continue
        dtype = None if dtypes is None else dtypes.get(name)
        fields.append(
            Field(
                name,
                "float" if dtype is None else dtype_of_column(dtype),
                FEATURES,
                index,
                missing="nan",
                infinity="allow",
                source_dtype="float64" if dtype is None else str(dtype),
            )
        )
    return tuple(fields)


def _pandas_columns(
    model: Any, source: Dump, names: Sequence[str], dtypes: Any
) -> dict[int, Sequence[Any]]:
    """Tell which columns the lists of categories belong to, which the booster does not record.

    They are the columns of category dtype in order. The columns declared categorical are the same
    ones unless some are ordered, or were declared by number; then the example decides.
    """
    lists = source.pandas_categorical or []
    if not lists:
        return {}
    columns = list(source.categorical)
    if dtypes is not None:
        seen = [i for i, name in enumerate(names) if hasattr(dtypes.get(name), "categories")]
        if len(seen) == len(lists):
            columns = seen
    if len(columns) != len(lists):
        raise UnsupportedModelError(
            f"{type(model).__name__} holds the categories of {len(lists)} columns and names "
            f"{len(columns)} categorical columns, so it cannot be told which is which. Pass a "
            "DataFrame with the training data's dtypes as example=."
        )
    return dict(zip(columns, lists, strict=True))


def _inputs(
    source: Dump, fields: tuple[Field, ...], example: Any
) -> tuple[tuple[Field, ...], tuple[TensorSpec, ...]]:
    """Give the columns that float32 cannot tell apart an input of their own."""
    seen = example_matrix(fields, example)
    zero_missing = source.columns_missing(MISSING_ZERO)
    exact = [
        index
        for index, field in enumerate(fields)
        if index not in zero_missing
        and _needs_float64(source, index, field, None if seen is None else seen[:, index])
    ]
    plain = [index for index in range(len(fields)) if index not in exact]
    placed = {index: (EXACT, column) for column, index in enumerate(exact)}
    placed |= {index: (FEATURES, column) for column, index in enumerate(plain)}
    fields = tuple(
        replace(field, input=placed[index][0], column=placed[index][1])
        for index, field in enumerate(fields)
    )
    limits = {FEATURES: WHOLE_FLOAT32, EXACT: WHOLE_FLOAT64}
    fields = widened(fields, largest_sizes(fields, example).tolist(), limits)
    inputs = []
    if plain:
        inputs.append(TensorSpec(FEATURES, "float32", ("N", len(plain))))
    if exact:
        inputs.append(TensorSpec(EXACT, "float64", ("N", len(exact))))
    return fields, tuple(inputs)


def _needs_float64(
    source: Dump, index: int, field: Field, seen: NDArray[np.float64] | None
) -> bool:
    """Whether rounding a column's values to float32 may lead rows to other leaves.

    It may where an example row shows it, for whole numbers beyond 2**24, and where the thresholds lie
    within a few thousand float32 numbers of each other (timestamps with fractions, coordinates). It
    does not where all numbers of the example are float32.
    """
    limits = source.thresholds(index)
    size = np.inf if seen is None else np.abs(seen[np.isfinite(seen)]).max(initial=0.0)
    if seen is None or size <= FLOAT32_MAX:
        limits = limits[np.abs(limits) <= FLOAT32_MAX]  # beyond is a split between numbers and NaN
    if (
        not len(limits) <= _MAX_RANKS
        or field.dtype not in ("float", "int")
        or field.encoding == "code"
        or source.n_categories(index)
        or source.is_linear
    ):
        return False
    if seen is not None and size > (WHOLE_FLOAT32 if field.dtype == "int" else FLOAT32_MAX):
        return True  # also where nothing is compared: float32 does not hold it
    if not len(limits):
        return False
    whole = hold_whole_numbers(limits)
    large = bool(np.abs(limits).max() >= WHOLE_FLOAT32)
    if seen is not None:
        values = seen[np.isfinite(seen)]
        rounded = values.astype(np.float32).astype(np.float64)
        written = floor_float32(limits).astype(np.float64)
        if np.any(np.searchsorted(limits, values) != np.searchsorted(written, rounded)):
            return True
        if field.dtype == "float" and len(values) and np.array_equal(values, rounded):
            return False
    if whole or field.dtype == "int":
        return large
    gaps = np.diff(limits) if len(limits) > 1 else np.array([source.spans[index] / _BINS])
    spacing = np.spacing(np.abs(limits[: len(gaps)]).astype(np.float32)).astype(np.float64)
    apart = gaps / spacing
    return bool(np.median(apart) < _COARSE_GAP or apart.min() < _COLLAPSED_GAP)
