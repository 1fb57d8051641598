"""Rows in the source model's own container, for models that run in their own framework.

The rows are bound by the same rules as for a graph, then put into a DataFrame, an array, a list of str
or a dict of tensors. Whole numbers go through int64 and others through float64, so nothing is rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.binding.foreign import array_to_tensor, is_frame, is_series
from infersdk.binding.refusals import describe, first_refusal
from infersdk.binding.table import TableBinder
from infersdk.binding.tensors import TensorsBinder
from infersdk.binding.text import TextBinder
from infersdk.errors import InputError, MissingDependencyError
from infersdk.types import Field, Signature, TensorSpec

__all__ = ["SourceBinder", "to_source"]


def to_source(signature: Signature, rows: Any, *, model: str = "model") -> Any:
    """Return rows in the form the source model takes; see :class:`SourceBinder`.

    Prepares a SourceBinder for the one call; keep one for many.
    """
    return SourceBinder(signature, model=model).bind(rows)


class SourceBinder:
    """Turns rows into what the source model itself takes.

    Safe to use from any number of threads.

    Parameters
    ----------
    signature : Signature
        Its ``inputs`` may be empty, as for a model without a graph. Where no field names an input,
        every field is taken as read.
    model : str
        The model's name in messages.
    columns : sequence of int, optional
        Of a table, only the fields at these positions are put into the container, in this order; rows
        are checked as a whole all the same.
    """

    __slots__ = ("_container", "_model", "_table", "_tensors", "_text", "signature")

    def __init__(
        self, signature: Signature, *, model: str, columns: Sequence[int] | None = None
    ) -> None:
        self.signature = signature
        self._model = model
        self._container = signature.container
        self._table: _SourceTable | None = None
        self._tensors: TensorsBinder | None = None
        self._text: TextBinder | None = None
        if signature.container == "text":
            # Where steps stand in front of the graph, its inputs are theirs to fill.
            inputs = () if signature.steps else signature.inputs
            self._text = TextBinder(inputs or (TensorSpec("text", "string", ("N",)),), model=model)
        elif signature.container == "tensors":
            if signature.inputs:
                self._tensors = TensorsBinder(signature.inputs, model=model)
        elif signature.fields:
            self._table = _SourceTable(signature, model, columns)

    def bind(self, rows: Any) -> Any:
        """Return rows in the source model's container.

        Parameters
        ----------
        rows : object
            As for :meth:`Binder.bind`.

        Returns
        -------
        pandas.DataFrame, numpy.ndarray, list of str or dict, or dict
            A DataFrame has the trained columns in the trained order, with the trained dtypes where the
            values fit them. An array is float64 of shape (n_rows, n_fields). A dict has a tensor for
            each input by its name: torch's where the rows were, else arrays.

        Raises
        ------
        InputError
            A row does not fit the signature.
        """
        if self._table is not None:
            return self._table.bind(rows)
        if self._text is not None:
            bound = self._text.fast(rows) or self._text.bind(rows)
            return bound.arrays[0].ravel().tolist()
        if self._tensors is not None:
            bound = self._tensors.fast(rows) or self._tensors.bind(rows)
            # By name: a position says nothing where the model has arguments that were left out.
            names = (spec.name for spec in self.signature.inputs)
            values = map(array_to_tensor, bound.arrays) if bound.torch else bound.arrays
            return dict(zip(names, values, strict=True))
        return self._as_given(rows)

    def refusals(self, rows: Any, limit: int) -> list[InputError]:
        """Find every reason why rows do not fit; :meth:`bind` stops at the first.

        Parameters
        ----------
        rows : object
            As for :meth:`bind`.
        limit : int
            The most that are looked for. Only rows of named fields may have more than one.
        """
        if self._table is not None:
            return self._table.refusals(rows, limit)
        return first_refusal(self.bind, rows)

    def _as_given(self, rows: Any) -> Any:
        """Put rows into the container of a model of which nothing else is known."""
        if self._container == "dicts":
            return self._dicts(rows)
        if self._container == "tensors":
            return rows if isinstance(rows, (tuple, Mapping)) else (rows,)
        if self._container == "array":
            array = np.asarray(rows, dtype=np.float64)
            return array.reshape(1, -1) if array.ndim == 1 else array
        if is_frame(rows):
            return rows
        pandas = _pandas()
        if is_series(rows):
            return rows.to_frame().T
        if isinstance(rows, Mapping):
            return pandas.DataFrame([dict(rows)])
        if isinstance(rows, (list, tuple)) and all(isinstance(row, Mapping) for row in rows):
            return pandas.DataFrame([dict(row) for row in rows])
        raise InputError.mismatch(
            expected="a DataFrame, a dict or a list of dicts",
            given=describe(rows),
            model=self._model,
        )

    def _dicts(self, rows: Any) -> list[Any]:
        """Rows as dicts of any keys; what their values are is for the model to say."""
        if isinstance(rows, Mapping):
            return [rows]
        if is_frame(rows):
            records: list[Any] = rows.to_dict("records")
            return records
        if isinstance(rows, (list, tuple)):
            for position, row in enumerate(rows):
                if not isinstance(row, Mapping):
                    raise InputError.mismatch(
                        expected="a dict", given=describe(row), row=position, model=self._model
                    )
            return list(rows)
        raise InputError.mismatch(
            expected="a dict or a list of dicts", given=describe(rows), model=self._model
        )


def _pandas() -> Any:
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingDependencyError(
            "This model takes a DataFrame, which needs the package `pandas`, and that is not "
            "installed. Install it with: pip install pandas"
        ) from error
    return pd


class _SourceTable:
    """The fields of a table, bound at full width and put together again."""

    def __init__(self, signature: Signature, model: str, columns: Sequence[int] | None) -> None:
        self._as_array = signature.container == "array"
        widths = {"numbers": 0, "integers": 0, "strings": 0}
        fields = []
        # Without a graph the fields may say nothing about who reads them; then all are read.
        known = any(item.input is not None for item in signature.fields)
        for item in signature.fields:
            if item.input is None and known:
                fields.append(item)
                continue
            target = self._target(item)
            fields.append(replace(item, input=target, column=widths[target], encoding="value"))
            widths[target] += 1
        dtypes = {"numbers": "float64", "integers": "int64", "strings": "string"}
        inputs = [
            TensorSpec(name, dtypes[name], ("N", width)) for name, width in widths.items() if width
        ]
        self._fields = tuple(fields if columns is None else (fields[i] for i in columns))
        self._names = [item.name for item in self._fields]
        self._index = None if columns is None else list(columns)
        self._positions = {spec.name: position for position, spec in enumerate(inputs)}
        # One matrix whose columns are the fields in order needs no taking apart.
        self._whole = widths["numbers"] == len(fields) and all(
            self._as_array or (item.dtype == "float" and item.source_dtype in (None, "float64"))
            for item in fields
        )
        # NaN is what pandas holds in place of missing text, and what encoders were fitted on.
        self._binder = TableBinder(fields, inputs, model=model, blank=float("nan"))

    def _target(self, item: Field) -> str:
        if item.dtype == "string":
            return "strings"
        if item.dtype == "int" and item.missing == "refuse" and not self._as_array:
            return "integers"
        return "numbers"

    def refusals(self, rows: Any, limit: int) -> list[InputError]:
        return self._binder.refusals(rows, limit)

    def bind(self, rows: Any) -> Any:
        bound = self._binder.fast(rows) or self._binder.bind(rows)
        if self._whole:
            matrix = bound.arrays[0] if self._index is None else bound.arrays[0][:, self._index]
            return matrix if self._as_array else _pandas().DataFrame(matrix, columns=self._names)
        columns = [self._column(item, bound.arrays) for item in self._fields]
        if not self._as_array:
            return self._frame(columns, bound.n_rows)
        dtype = object if "strings" in self._positions else np.float64
        matrix = np.zeros((bound.n_rows, len(columns)), dtype=dtype)
        for position, column in enumerate(columns):
            if column is not None:
                matrix[:, position] = column
        return matrix

    def _column(self, item: Field, arrays: list[NDArray[Any]]) -> NDArray[Any] | None:
        """Return a field's values; None for one that the model never reads."""
        if item.input is None:
            return None
        return arrays[self._positions[item.input]][:, item.column]

    def _frame(self, columns: list[NDArray[Any] | None], n_rows: int) -> Any:
        pandas = _pandas()
        data = {}
        for item, column in zip(self._fields, columns, strict=True):
            if column is None:
                # Never read, but some models check that all their columns are there.
                whole = item.dtype in ("int", "bool")
                column = np.full(
                    n_rows,
                    0 if whole else np.nan,
                    dtype=object if item.dtype == "string" else np.float64,
                )
            data[item.name] = _restore(pandas, item, column)
        return pandas.DataFrame(data)


def _restore(pandas: Any, item: Field, column: NDArray[Any]) -> Any:
    """Give a column the dtype that it had in training, or the nearest one that holds its values."""
    if item.source_dtype == "category":
        return _categorical(pandas, item, column)
    if item.dtype == "string":
        return (
            column if item.source_dtype is None else pandas.Series(column, dtype=item.source_dtype)
        )
    missing = column.dtype.kind == "f" and bool(np.isnan(column).any())
    if not missing and item.dtype in ("int", "bool"):
        column = column.astype(np.int64 if item.dtype == "int" else np.bool_, copy=False)
    if item.source_dtype is None or item.source_dtype == column.dtype.name:
        return column
    try:
        dtype = np.dtype(item.source_dtype)
    except TypeError:
        # A dtype of pandas; those hold missing values.
        return pandas.Series(column).astype(item.source_dtype)
    if dtype.kind not in "biuf":
        return column
    if missing and dtype.kind != "f":
        return column
    with np.errstate(over="ignore"):
        cast = column.astype(dtype)
    if dtype.kind == "f":
        fits = np.array_equal(np.isfinite(cast), np.isfinite(column))
    else:
        fits = np.array_equal(cast, column)
    return cast if fits else column


def _categorical(pandas: Any, item: Field, column: NDArray[Any]) -> Any:
    """Return the column as a categorical; a category that training never saw is missing there."""
    if item.categories is None:
        return pandas.Series(column).astype("category")
    codes = {category: code for code, category in enumerate(item.categories)}
    dtype = pandas.CategoricalDtype(list(item.categories))
    return pandas.Categorical.from_codes(
        np.fromiter((codes.get(value, -1) for value in column.tolist()), np.int64, len(column)),
        dtype=dtype,
    )
