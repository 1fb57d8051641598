"""Rows that show a wrong conversion of trees: values on both sides of every split.

Random rows almost never fall next to a threshold, so a converter that compares ``<`` for ``<=``, or
rounds a float64 threshold the wrong way, passes on them. The rows made here sit on the float32 numbers
around each threshold, and a quarter of the gap to the next threshold away from it, which shows columns
whose float64 values float32 cannot tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from infersdk.convert.tree_graph import floor_float32
from infersdk.errors import InputError, UnsupportedModelError
from infersdk.types import Field, Signature

__all__ = [
    "FLOAT32_MAX",
    "WHOLE_FLOAT32",
    "WHOLE_FLOAT64",
    "ColumnEdges",
    "check_example",
    "dtype_of_column",
    "edge_rows",
    "example_matrix",
    "frame_dtypes",
    "hold_whole_numbers",
    "largest_sizes",
    "pandas_categories",
    "widened",
]

FLOAT32_MAX = float(np.finfo(np.float32).max)

WHOLE_FLOAT32 = float(1 << 24)
WHOLE_FLOAT64 = float(1 << 53)
"""Up to which size a number of that type holds every whole number."""


@dataclass(frozen=True, slots=True)
class ColumnEdges:
    """What a model asks about one column.

    Parameters
    ----------
    thresholds : ndarray of float64
        Sorted, without repetition; empty where the column is not compared.
    specials : tuple of float
        Further values the model treats in a way of their own.
    n_categories : int
        Where the column holds category codes, one more than the largest code a split names.
    resolution : float
        A distance the model's training data told apart, for a column with one threshold; 0 if unknown.
    exact : bool
        Whether the column's float64 values are compared as they are.
    """

    thresholds: NDArray[np.float64]
    specials: tuple[float, ...] = ()
    n_categories: int = 0
    resolution: float = 0.0
    exact: bool = False

    def values(self, *, whole: bool) -> NDArray[np.float64]:
        """Return the values to try; whole numbers only where ``whole``."""
        limits = self.thresholds[np.abs(self.thresholds) <= FLOAT32_MAX]
        floors = np.floor(limits)
        parts: list[Any] = [self.specials]
        if self.n_categories:
            # One code more than any split knows is a category the model never saw.
            parts.append(np.arange(self.n_categories + 1))
        if whole:
            parts += [floors - 1, floors, floors + 1]
        else:
            at = floor_float32(limits)
            gap = np.full(len(limits), self.resolution)
            if len(limits) > 1:
                steps = np.diff(limits)
                gap = np.minimum(np.append(steps, np.inf), np.insert(steps, 0, np.inf))
            with np.errstate(over="ignore"):  # beyond the largest number; left out below
                neighbors = [np.nextafter(at, np.float32(end)) for end in (-np.inf, np.inf)]
            parts += [*neighbors, at, limits - gap / 4, limits + gap / 4]
            if self.exact:
                parts += [limits, np.nextafter(limits, np.inf), np.nextafter(limits, -np.inf)]
                parts += [floors, np.ceil(limits)]
        every = np.unique(np.concatenate([np.asarray(part, dtype=np.float64) for part in parts]))
        return every[np.isfinite(every) & (np.abs(every) <= FLOAT32_MAX)]


def hold_whole_numbers(thresholds: NDArray[np.float64]) -> bool:
    """Whether thresholds lie on or halfway between whole numbers, so that the column held such.

    LightGBM writes the float64 number above the middle, and one next to zero for zero. Beyond 2**53
    every float64 number is whole, which says nothing.
    """
    if np.any(np.abs(thresholds) >= 2.0**53):
        return False
    doubled = np.where(np.abs(thresholds) < 1e-30, 0.0, thresholds * 2)
    off = np.abs(doubled - np.round(doubled))
    return bool(np.all(off <= 2 * np.spacing(np.abs(doubled))))


def edge_rows(
    signature: Signature,
    edges: Sequence[ColumnEdges],
    example: Any,
    *,
    n_rows: int,
    rng: np.random.Generator,
) -> Any:
    """Return rows around the edges of every column, in the source model's container.

    Parameters
    ----------
    signature : Signature
        Its fields are the columns, its container the kind of rows.
    edges : sequence of ColumnEdges
        One for each field.
    example : DataFrame, 2-D array or None
        Where a row is not at an edge it takes the example's values; without one, values between and
        around the thresholds, and normal draws in columns the model never compares.
    n_rows : int
    rng : numpy.random.Generator
    """
    fields = signature.fields
    known = example_matrix(fields, example)
    matrix = np.empty((n_rows, len(fields)), dtype=np.float64)
    # Half of the rows have every column at an edge. The others have a few there, so that the rest of
    # the row leads to the splits that typical rows reach.
    share = np.where(np.arange(n_rows) % 2 == 0, 1.0, 0.3)
    for index, (field, column) in enumerate(zip(fields, edges, strict=True)):
        whole = field.dtype == "int" and field.encoding == "value"
        if field.encoding == "code":
            # Where a column is not pandas' own kind of category, one more stands for a value never seen.
            more = 0 if field.source_dtype == "category" or field.dtype == "bool" else 1
            values = np.arange(len(field.categories or ()) + more, dtype=np.float64)
        elif field.dtype == "bool":
            values = np.array([0.0, 1.0])
        else:
            values = column.values(whole=whole)
        if known is not None:
            base = rng.choice(known[:, index], n_rows)
        else:
            base = _draw(column, values, whole, field, n_rows, rng)
        if len(values):
            turns = -(-n_rows // len(values))
            chosen = np.concatenate([rng.permutation(values) for _ in range(turns)])[:n_rows]
            base = np.where(rng.random(n_rows) < share, chosen, base)
        if field.missing == "nan" and field.dtype != "bool":
            base = np.where(rng.random(n_rows) < 0.08, np.nan, base)
        matrix[:, index] = base
    return _frame(fields, matrix) if signature.container == "dataframe" else matrix


def _draw(
    column: ColumnEdges,
    values: NDArray[np.float64],
    whole: bool,
    field: Field,
    n_rows: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    limits = column.thresholds[np.abs(column.thresholds) <= FLOAT32_MAX]
    if field.encoding == "code" or field.dtype == "bool" or column.n_categories:
        return rng.choice(values, n_rows)
    if len(limits) == 0:
        drawn = rng.normal(size=n_rows)
    else:
        spread = limits.std() or abs(limits[0]) or 1.0
        drawn = rng.choice(limits, n_rows) + spread * rng.normal(size=n_rows)
    return np.floor(drawn) if whole else drawn


def example_matrix(fields: Sequence[Field], example: Any) -> NDArray[np.float64] | None:
    """Read the example as float64 with codes for categories; None where it is no table."""
    if hasattr(example, "dtypes") and hasattr(example, "columns"):
        columns: list[Any] = []
        for field in fields:
            if field.name not in example.columns:
                return None
            series = example[field.name]
            if field.encoding == "code":
                code = {value: float(i) for i, value in enumerate(field.categories or ())}
                columns.append([code.get(value, np.nan) for value in series.tolist()])
            elif field.dtype == "string":
                columns.append(np.full(len(series), np.nan))
            else:
                columns.append(series.to_numpy(dtype=np.float64, na_value=np.nan))
        matrix = np.column_stack(columns)
    elif isinstance(example, np.ndarray) and example.ndim == 2 and example.dtype.kind in "fiub":
        matrix = example.astype(np.float64)
    else:
        return None
    return matrix if matrix.shape[0] and matrix.shape[1] == len(fields) else None


def _frame(fields: Sequence[Field], matrix: NDArray[np.float64]) -> Any:
    import pandas as pd

    columns: dict[str, Any] = {}
    for index, field in enumerate(fields):
        values = matrix[:, index]
        if field.encoding == "code":
            codes = np.where(np.isnan(values), -1, values).astype(np.int64)
            if field.source_dtype == "category":
                columns[field.name] = pd.Categorical.from_codes(codes, categories=field.categories)
            else:
                columns[field.name] = _values(field)[codes]
        elif field.dtype == "bool":
            columns[field.name] = values != 0
        else:
            columns[field.name] = values
    return pd.DataFrame(columns)


def _values(field: Field) -> NDArray[Any]:
    """Return a field's categories by their codes, and last a value that is none of them."""
    categories: list[Any] = list(field.categories or ())
    if field.dtype == "bool":
        return np.array(categories, dtype=bool)
    if field.dtype == "int":
        return np.array([*categories, max(categories, default=0) + 1])
    return np.array([*categories, "".join(categories)[:40] + "?"], dtype=object)


def check_example(example: Any) -> None:
    """Refuse a booster's own container, whose rows cannot be read back.

    Raises
    ------
    InputError
        The example is a DMatrix, a Dataset or a Pool.
    """
    kind = type(example)
    package = kind.__module__.partition(".")[0]
    names = {cls.__name__ for cls in kind.__mro__}
    if package in ("xgboost", "lightgbm", "catboost") and names & {"DMatrix", "Dataset", "Pool"}:
        raise InputError(
            f"Expected rows as a DataFrame, an array or a list as example=, got a {package}."
            f"{kind.__name__}, whose rows cannot be read. Pass what it was made of"
        )


def frame_dtypes(example: Any) -> Mapping[str, Any] | None:
    """Return an example DataFrame's dtypes by column name, or None for anything else."""
    if not (hasattr(example, "dtypes") and hasattr(example, "columns")):
        return None
    return {str(name): dtype for name, dtype in zip(example.columns, example.dtypes, strict=True)}


def dtype_of_column(dtype: Any) -> Literal["float", "int", "bool"]:
    """Return what an app passes in a numeric DataFrame column of this dtype (nullable ones too)."""
    kind = getattr(dtype, "kind", "f")
    if kind == "b":
        return "bool"
    return "int" if kind in "iu" else "float"


def widened(
    fields: Sequence[Field], largest: Sequence[float], limits: Mapping[str, float]
) -> tuple[Field, ...]:
    """Let columns of large whole numbers, as of ids, take any number.

    A field of dtype "int" refuses numbers that the input does not hold exactly. A booster that rounds
    them itself takes them.

    Parameters
    ----------
    fields : sequence of Field
    largest : sequence of float
        The largest size of a number known of each column.
    limits : Mapping of str to float
        Up to which size each input holds every whole number.
    """
    return tuple(
        replace(field, dtype="float", infinity="allow")
        if field.dtype == "int"
        and field.encoding == "value"
        and size > limits.get(field.input or "", np.inf)
        else field
        for field, size in zip(fields, largest, strict=True)
    )


def largest_sizes(fields: Sequence[Field], example: Any) -> NDArray[np.float64]:
    """Return the largest size of a finite number in each column of the example; zeros without one."""
    seen = example_matrix(fields, example)
    if seen is None:
        return np.zeros(len(fields))
    return np.where(np.isfinite(seen), np.abs(seen), 0.0).max(axis=0)


def pandas_categories(
    categories: Sequence[Any],
) -> tuple[Literal["float", "int", "bool", "string"], tuple[Any, ...]]:
    """Return the field dtype and the plain Python values of a category column.

    Raises
    ------
    UnsupportedModelError
        The categories are of several kinds, or of one that a field has no dtype for.
    """
    values = tuple(value.item() if isinstance(value, np.generic) else value for value in categories)
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return "bool", values
    if kinds <= {int}:
        return "int", values
    if kinds <= {int, float}:
        return "float", values
    if kinds == {str}:
        return "string", values
    raise UnsupportedModelError(
        "Expected categories that are all text, all numbers or all booleans, got "
        f"{', '.join(sorted(kind.__name__ for kind in kinds))}"
    )
