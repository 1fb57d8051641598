"""CatBoost models: CatBoostClassifier, CatBoostRegressor, CatBoostRanker and CatBoost.

The model's own JSON is read and written as one TreeEnsemble node with the loss's link function behind it;
no other converter is involved. CatBoost compares float32 ``x > border``, as the graph does. It sums leaves
in float64 and the graph in float32: raw values differ in the seventh digit.

Covered: symmetric, depthwise and lossguide trees; every loss of CatBoost 1.2 on the CPU; probability
thresholds; missing values below or above all others (``nan_mode``); categorical features, as one-hot
splits and as target statistics (CTR) of any number of columns.

A model keeps only hashes of its categories, so the example has to show all of those that training saw.
What is not among them is a category that training never saw, here as in CatBoost.

CatBoost walks symmetric trees for many rows at once: one row is answered faster here, a batch of hundreds
of rows faster there.

Not covered, and served natively: text and embedding features; custom losses of classifiers; target
statistics over more than 8 million possible combinations; symmetric trees that would become more than
4 million nodes.

Tested with CatBoost 1.2.10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.convert.catboost_dump import Dump, read
from infersdk.convert.catboost_graph import (
    BINARY,
    KNOWN_CLASSIFIERS,
    MULTILABEL,
    add_outputs,
    add_raw_values,
)
from infersdk.convert.catboost_hash import category_hash
from infersdk.convert.registry import Written
from infersdk.convert.tree_graph import FEATURES, Graph
from infersdk.convert.tree_rows import (
    WHOLE_FLOAT32,
    ColumnEdges,
    check_example,
    dtype_of_column,
    frame_dtypes,
    largest_sizes,
    widened,
)
from infersdk.convert.tree_rows import edge_rows as rows_at_edges
from infersdk.errors import UnsupportedModelError
from infersdk.types import Field, Labels, Method, Signature, TensorSpec

__all__ = ["EXTRA", "FRAMEWORK", "call", "can_convert", "edge_rows", "infer_signature", "to_onnx"]

FRAMEWORK = "CatBoost"
EXTRA = "catboost"


def can_convert(model: object) -> bool:
    """Whether ``model`` is one of CatBoost's estimators."""
    return ("catboost.core", "CatBoost") in (
        (cls.__module__, cls.__name__) for cls in type(model).__mro__
    )


def infer_signature(model: Any, example: Any = None) -> Signature:
    """Describe the columns a model takes and the methods it answers.

    Parameters
    ----------
    model : catboost.CatBoost
    example : DataFrame, array or list, optional
        Tells the columns' dtypes and the categories, of which a model keeps hashes only.

    Returns
    -------
    Signature
        One float32 input ``features`` (N, n_features), into which all fields are packed. Without
        fields where the model takes embeddings: rows are then handed on as they are.

    Raises
    ------
    InputError
        The example is a Pool.
    UnsupportedModelError
        The model is not fitted.
    """
    check_example(example)
    return _signature(read(model), example)


def to_onnx(
    model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
) -> Written:
    """Write the model as an ONNX graph.

    Parameters
    ----------
    model : catboost.CatBoost
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
        It reads text or embeddings, its loss has no known link function, its categories are not all
        known, or it would be too large.
    """
    source = read(model)
    if source.withheld:
        kinds = [kind for kind in ("text", "embedding") if source.columns(kind)]
        advice = f". Turn {' and '.join(kinds)} features into numbers before it" if kinds else ""
        raise UnsupportedModelError(
            f"CatBoost does not give the trees of this {type(model).__name__}: {source.withheld}{advice}"
        )
    if source.wrapper == "classifier" and source.loss not in KNOWN_CLASSIFIERS:
        raise UnsupportedModelError(
            f"CatBoost's loss {source.loss!r} has no known link function. Expected one of "
            f"{', '.join(sorted(KNOWN_CLASSIFIERS))} for a classifier."
        )
    hashes = _hashes(source, signature)
    graph = Graph(opset)
    names = [field.name for field in signature.fields]
    add_outputs(graph, add_raw_values(graph, source, hashes, names), source, signature)
    return Written(graph.model(signature))


def call(model: Any, method: str, rows: Any) -> Any:
    """Return what CatBoost answers.

    Parameters
    ----------
    model : catboost.CatBoost
    method : str
        ``"predict"`` or, for classifiers, ``"predict_proba"`` or ``"predict_log_proba"``.
    rows : DataFrame or ndarray of float64
        In the container of the signature.
    """
    return getattr(model, method)(rows)


def edge_rows(
    model: Any, signature: Signature, example: Any, *, n_rows: int, rng: np.random.Generator
) -> Any:
    """Return rows on both sides of every border, with every category and one never seen.

    Parameters
    ----------
    model : catboost.CatBoost
    signature : Signature
    example : DataFrame, array or None
    n_rows : int
    rng : numpy.random.Generator

    Returns
    -------
    DataFrame or ndarray of float64, n_rows rows, or None where categories are not known
    """
    source = read(model)
    borders = source.borders
    edges = [ColumnEdges(borders.get(index, np.empty(0))) for index in range(len(source.names))]
    if any(field.dtype == "string" and field.encoding == "value" for field in signature.fields):
        return None
    return rows_at_edges(signature, edges, example, n_rows=n_rows, rng=rng)


def _hashes(source: Dump, signature: Signature) -> dict[int, NDArray[np.int64]]:
    """Return the hashes of each categorical column's known categories, by their codes."""
    return {
        column: np.array(
            [category_hash(value) for value in signature.fields[column].categories or ()],  # type: ignore[arg-type]
            dtype=np.int64,
        )
        for column in source.columns("categorical")
    }


def _signature(source: Dump, example: Any) -> Signature:
    methods, outputs = _methods(source)
    if source.columns("embedding"):
        return Signature((), (), methods, container="dataframe")
    fields = tuple(_fields(source, example))
    # CatBoost itself rounds to float32.
    limits = {FEATURES: WHOLE_FLOAT32}
    fields = widened(fields, largest_sizes(fields, example).tolist(), limits)
    plain = not source.is_named and all(field.dtype == "float" for field in fields)
    return Signature(
        inputs=(TensorSpec(FEATURES, "float32", ("N", len(fields))),),
        outputs=outputs,
        methods=methods,
        fields=fields,
        # CatBoost takes no array of float64 where some columns are categories.
        container="array" if plain else "dataframe",
    )


def _methods(source: Dump) -> tuple[tuple[Method, ...], tuple[TensorSpec, ...]]:
    n_outputs = source.n_outputs
    if source.wrapper != "classifier":
        shape = () if n_outputs == 1 else (n_outputs,)
        return (
            (Method("predict", ("prediction",), dtype="float64", shape=shape),),
            (TensorSpec("prediction", "float32", ("N", n_outputs)),),
        )
    if source.loss in MULTILABEL:
        predict = Method("predict", ("label",), dtype="int64", shape=(n_outputs,))
        label = TensorSpec("label", "int64", ("N", n_outputs))
    else:
        predict = Method(
            "predict",
            ("label",),
            form="labels",
            # Of several classes CatBoost answers a column.
            shape=() if source.loss in BINARY else (1,),
            labels=Labels(source.class_labels, source.label_dtype),
        )
        label = TensorSpec("label", "int64", ("N",))
    width = 2 if source.loss in BINARY else n_outputs
    return (
        (
            predict,
            Method("predict_proba", ("probabilities",), dtype="float64", shape=(width,)),
            Method(
                "predict_log_proba",
                ("log_probabilities",),
                dtype="float64",
                shape=(width,),
                head="log_probabilities",
            ),
        ),
        (
            label,
            TensorSpec("probabilities", "float32", ("N", width)),
            TensorSpec("log_probabilities", "float32", ("N", width)),
        ),
    )


def _fields(source: Dump, example: Any) -> list[Field]:
    dtypes = frame_dtypes(example)
    columns = _example_columns(source.names, example)
    fields = []
    for index, (name, feature) in enumerate(zip(source.names, source.features, strict=True)):
        if feature.kind == "categorical" and columns is not None:
            fields.append(_categorical(name, index, columns[index]))
        elif feature.kind in ("categorical", "text"):
            fields.append(Field(name, "string", FEATURES, index))
        else:
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
    return fields


def _categorical(name: str, index: int, values: Sequence[Any]) -> Field:
    """Describe a column of categories by those that the example shows; CatBoost takes none missing."""
    plain = (value.item() if isinstance(value, np.generic) else value for value in values)
    seen = {value for value in plain if isinstance(value, str | int)}
    if all(isinstance(value, bool) for value in seen) and seen:
        return Field(
            name,
            "bool",
            FEATURES,
            index,
            categories=tuple(sorted(seen)),
            encoding="code",
            source_dtype="bool",
        )
    if all(isinstance(value, int) and not isinstance(value, bool) for value in seen) and seen:
        return Field(
            name,
            "int",
            FEATURES,
            index,
            categories=tuple(sorted(seen)),
            encoding="code",
            source_dtype="int64",
        )
    # CatBoost reads a number among text as its digits.
    texts = {value if isinstance(value, str) else str(int(value)) for value in seen}
    return Field(name, "string", FEATURES, index, categories=tuple(sorted(texts)), encoding="code")


def _example_columns(names: Sequence[str], example: Any) -> list[Sequence[Any]] | None:
    """Return the example's columns in the model's order; None where it is no table of them."""
    if hasattr(example, "columns") and hasattr(example, "dtypes"):
        known = {str(name): name for name in example.columns}
        if not all(name in known for name in names):
            return None
        # What is there counts, not how often.
        columns = (example[known[name]].unique() for name in names)
        return [np.asarray(column, dtype=object).tolist() for column in columns]
    if isinstance(example, Mapping):
        example = [example]
    if isinstance(example, np.ndarray):
        example = example.reshape(1, -1) if example.ndim == 1 else example
        return list(example.T) if example.ndim == 2 and example.shape[1] == len(names) else None
    if not isinstance(example, list | tuple) or not len(example):
        return None
    if all(isinstance(row, Mapping) for row in example):
        return [[row.get(name) for row in example] for name in names]
    if all(
        isinstance(row, list | tuple | np.ndarray) and len(row) == len(names) for row in example
    ):
        return [[row[index] for row in example] for index in range(len(names))]
    return None
