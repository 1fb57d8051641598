"""Tables of numbers and text, for converters whose models say little about their own columns.

What an app passes is read from an example's dtypes; numbers are packed into one float64 input and text into
another; edge rows reach beyond the example on every side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from infersdk.convert.sklearn_graph import BATCH, Column, GraphBuilder
from infersdk.errors import UnsupportedModelError
from infersdk.types import Field, Signature, TensorSpec

__all__ = ["as_frame", "as_matrix", "edge_rows", "field_of", "input_columns", "packed"]

_UNSEEN = "never seen before"
_USED = "used"
_Dtype = Literal["float", "int", "bool", "string"]


def as_frame(example: Any) -> Any:
    """The example as a DataFrame where it has names: a frame, a dict, a list of dicts; else None."""
    if hasattr(example, "iloc") and hasattr(example, "columns"):
        return example
    if isinstance(example, Mapping):
        example = [example]
    if isinstance(example, list | tuple) and example and isinstance(example[0], Mapping):
        import pandas as pd

        return pd.DataFrame([dict(row) for row in example])
    return None


def as_matrix(example: Any) -> np.ndarray | None:
    """The example as a 2-D array of numbers, else None."""
    if example is None or as_frame(example) is not None:
        return None
    try:
        matrix = np.asarray(example, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if matrix.ndim == 1:
        matrix = matrix.reshape(1, -1)
    return matrix if matrix.ndim == 2 else None


def field_of(series: Any, name: str) -> Field:
    """What an app passes in a DataFrame's column, as a field that is used.

    Raises
    ------
    UnsupportedModelError
        The column holds dates, lists or a mixture.
    """
    import pandas as pd

    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        inner = field_of(pd.Series(dtype.categories), name)
        values = tuple(pd.Series(dtype.categories).tolist())
        return replace(inner, categories=values, source_dtype="category")
    kinds: dict[str, _Dtype] = {
        "string": "string",
        "empty": "string",
        "boolean": "bool",
        "integer": "int",
        "floating": "float",
        "mixed-integer-float": "float",
        "decimal": "float",
    }
    kind = kinds.get(pd.api.types.infer_dtype(series, skipna=True))
    if pd.api.types.is_float_dtype(dtype):
        kind = "float"
    if kind is None:
        raise UnsupportedModelError(
            f"Column `{name}` has dtype {dtype}; expected numbers, True and False, or text. Give the "
            "model a number (a year, a count of days) instead"
        )
    return Field(name, kind, _USED, source_dtype=str(dtype))


def packed(
    fields: Sequence[Field], *, numbers: str = "numbers"
) -> tuple[tuple[Field, ...], tuple[TensorSpec, ...]]:
    """Give every field that is used its place: numbers in one float64 input, text in ``strings``.

    A field's ``input`` says whether it is used: None, or any text.
    """
    counts = {numbers: 0, "strings": 0}
    placed = []
    for item in fields:
        if item.input is None:
            placed.append(item)
            continue
        target = "strings" if item.dtype == "string" else numbers
        placed.append(replace(item, input=target, column=counts[target]))
        counts[target] += 1
    dtypes = {numbers: "float64", "strings": "string"}
    inputs = tuple(
        TensorSpec(name, dtypes[name], (BATCH, width)) for name, width in counts.items() if width
    )
    return tuple(placed), inputs


def input_columns(builder: GraphBuilder, signature: Signature) -> dict[str, Column]:
    """Declare the inputs of a packed table; return a column for each field's name."""
    values = {}
    for spec in signature.inputs:
        if isinstance(spec, TensorSpec) and spec.shape is not None:
            shape = tuple(BATCH if size is None else size for size in spec.shape)
            values[spec.name] = builder.input(spec.name, spec.dtype, shape)
    return {
        item.name: Column(values[item.input], item.column)
        for item in signature.fields
        if item.input is not None
    }


def edge_rows(
    signature: Signature,
    example: Any,
    *,
    n_rows: int,
    rng: np.random.Generator,
    specials: Mapping[str, Sequence[float]] | None = None,
) -> Any:
    """Rows inside, around and far outside of the example, in the source model's container.

    Parameters
    ----------
    signature : Signature
        Of a table.
    example : rows or None
    n_rows : int
    rng : numpy.random.Generator
    specials : mapping of str to sequence of float, optional
        Numbers to try in a column: thresholds, bounds, what counts as missing.

    Returns
    -------
    DataFrame or ndarray of float64 (n_rows, n_fields)
    """
    frame, matrix = as_frame(example), as_matrix(example)
    # Half of the rows have every column at an edge, the others a few.
    share = np.where(np.arange(n_rows) % 2 == 0, 1.0, 0.3)
    columns: dict[str, Any] = {}
    for index, item in enumerate(signature.fields):
        known: Any = None
        if frame is not None and item.name in frame.columns:
            known = frame[item.name].dropna().tolist()
        elif matrix is not None and index < matrix.shape[1]:
            known = matrix[:, index][np.isfinite(matrix[:, index])].tolist()
        special = list((specials or {}).get(item.name, ()))
        if item.input is None:
            columns[item.name] = np.full(n_rows, np.nan)
        elif item.dtype == "string":
            columns[item.name] = _texts(item, known, n_rows, rng)
        else:
            columns[item.name] = _numbers(item, known, special, share, n_rows, rng)
    if signature.container == "array":
        return np.column_stack([np.asarray(c, np.float64) for c in columns.values()])
    import pandas as pd

    return pd.DataFrame({item.name: _series(item, columns[item.name]) for item in signature.fields})


def _texts(item: Field, known: Any, n_rows: int, rng: np.random.Generator) -> list[Any]:
    values = list(dict.fromkeys([*(item.categories or ()), *(known or ())])) or ["a", "b"]
    if item.categories is not None and item.unknown == "refuse":
        values = list(item.categories)
    elif item.source_dtype != "category":
        values.append(_UNSEEN)
    if item.missing == "empty":
        values.append(None)
    return [values[i] for i in rng.integers(len(values), size=n_rows)]


def _numbers(
    item: Field,
    known: Any,
    special: Sequence[float],
    share: np.ndarray,
    n_rows: int,
    rng: np.random.Generator,
) -> np.ndarray:
    if item.dtype == "bool":
        return rng.integers(0, 2, size=n_rows).astype(bool)
    if item.categories is not None and item.unknown == "refuse":
        return rng.choice(np.asarray(item.categories), n_rows)
    inside = np.asarray(known if known else rng.normal(size=n_rows), np.float64)
    low, high = float(inside.min()), float(inside.max())
    width = (high - low) or abs(high) or 1.0
    # Twice as wide as what was seen, and some rows ten times as far.
    edges = [rng.uniform(low - width, high + width, n_rows // 2 + 1)]
    edges.append(rng.uniform(low - 10 * width, high + 10 * width, n_rows // 10 + 1))
    edges.append(np.array([0.0, 1.0, -1.0, low, high]))
    if len(special):
        at = np.asarray(special, np.float64)
        at = at[np.isfinite(at)]
        near = np.concatenate([at, np.nextafter(at, np.inf), np.nextafter(at, -np.inf)])
        edges.append(np.tile(near, -(-n_rows // max(len(near), 1)))[:n_rows])
    values = np.where(
        rng.random(n_rows) < share,
        rng.choice(np.concatenate(edges), n_rows),
        rng.choice(inside, n_rows),
    )
    if item.dtype == "int":
        values = np.round(values)
    if item.missing == "nan":
        values = np.where(rng.random(n_rows) < 0.06, np.nan, values)
    return values


def _series(item: Field, values: Any) -> Any:
    import pandas as pd

    if item.source_dtype == "category":
        return pd.Categorical(values, categories=list(item.categories or ()))
    if item.dtype == "int" and not np.isnan(np.asarray(values, np.float64)).any():
        return pd.Series(np.asarray(values, np.int64))
    if item.dtype == "string":
        return pd.Series(values, dtype=item.source_dtype or "object")
    return pd.Series(values)
