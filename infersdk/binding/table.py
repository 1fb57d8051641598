"""Rows with named fields: dicts, lists, DataFrames and arrays, bound to packed matrices.

By name: dicts, DataFrames, Series and structured arrays; the order is free, unknown names are refused.
By position: lists, tuples, arrays, and DataFrames without names (0, 1, 2, ...), which hold one value for
every field, also for those that the model never reads. A flat sequence or a 1-D array is one row; where the model has a single field, more
than one value in it is refused rather than guessed at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from infersdk._native import Bound, RowBinder
from infersdk.binding.columns import Columns, plain_series, plain_values, unmasked
from infersdk.binding.foreign import array_of, is_frame, is_series, is_tensor, tensor_to_array
from infersdk.binding.refusals import MAX_NAMES, Refusals, describe, first_refusal, name_list
from infersdk.errors import InputError
from infersdk.types import Field, TensorSpec, ValueSpec

__all__ = ["TableBinder"]

SMALL_FRAME_CELLS = 4096
"""Up to here one object matrix of a DataFrame costs less than taking it apart column by column."""


class TableBinder:
    """Binds rows of named fields.

    Parameters
    ----------
    fields : sequence of Field
    inputs : sequence of TensorSpec
        The packed matrices that the fields fill.
    model : str
        Name in messages.
    blank : object
        What missing text becomes.

    Raises
    ------
    ValueError
        The fields do not fill the inputs exactly.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        inputs: Sequence[ValueSpec],
        *,
        model: str,
        blank: object = "",
    ) -> None:
        tensors = [spec for spec in inputs if isinstance(spec, TensorSpec)]
        if len(tensors) != len(inputs):
            raise ValueError(f"The fields of model `{model}` can only fill tensors")
        self._fields = list(fields)
        self._tensors = tensors
        self._blank = blank
        self._refusals = Refusals(fields, tensors, model)
        self._native = RowBinder(fields, tensors, self._refusals, blank=blank)
        self._names = [field.name for field in fields]
        self._read = [field.input is not None for field in fields]
        # Columns 0, 1, 2, ... are no names, unless a field has such a name.
        numbers = list(range(len(self._names)))
        named_so = not {str(number) for number in numbers}.isdisjoint(self._names)
        self._unnamed: list[int] | None = None if named_so else numbers
        self.fast = self._native.bind
        """The compiled path: a Bound, or None for anything but dicts, lists and plain arrays."""

    def bind(self, rows: Any) -> Bound:
        """Bind rows of any form; see the module's docstring.

        Raises
        ------
        InputError
            A row does not fit.
        """
        bound = self._native.bind(rows)
        if bound is not None:
            return bound
        if is_tensor(rows):
            bound = self._bind_array(tensor_to_array(rows))
            return Bound(bound.arrays, bound.n_rows, torch=True)
        if isinstance(rows, np.ndarray):
            return self._bind_array(rows)
        if type(rows) is Columns:
            return self._bind_columns(rows)
        if is_frame(rows):
            return self._bind_frame(rows)
        if is_series(rows):
            return self._bind_series(rows)
        if isinstance(rows, (Mapping, tuple, np.void)):
            row = _row(rows)
            if isinstance(row, dict):
                return self._native.bind(row)
        if isinstance(rows, (tuple, list)):
            return self._bind_sequence(list(rows))
        if not isinstance(rows, (str, bytes, bytearray, np.generic)):
            array = array_of(rows)
            if array is not None:
                return self._bind_array(array)
        return self._refuse(rows)

    def refusals(self, rows: Any, limit: int) -> list[InputError]:
        """Find every reason why rows do not fit; :meth:`bind` stops at the first.

        Rows of dicts, lists and tuples are gone through field by field, others are only bound.

        Parameters
        ----------
        rows : object
            As for :meth:`bind`.
        limit : int
            The most that are looked for.

        Returns
        -------
        list of InputError
            By row, then by field; empty where the rows fit.
        """
        single = isinstance(rows, Mapping)
        listed = [rows] if single else rows
        if not isinstance(listed, (list, tuple)) or not all(
            isinstance(row, (Mapping, list, tuple)) for row in listed
        ):
            return first_refusal(self.bind, rows)
        plain = [_row(row) for row in listed]
        errors = self._refused_names(plain, single, limit)
        refuse = Refusals(self._fields, self._tensors, self._refusals.model)
        known = set(self._names)
        at: list[int] = []

        def mapped(reason: str, value: Any, field: int | None, row: int | None) -> NoReturn:
            refuse(reason, value, field, None if single or row is None else at[row])

        native = RowBinder(self._fields, self._tensors, mapped, blank=self._blank)
        for index, name in enumerate(self._names):
            if not self._read[index] or len(errors) >= limit:
                continue
            at = []
            values = []
            for position, row in enumerate(plain):
                if isinstance(row, dict):
                    if name in row and (len(row) <= len(known) or known.issuperset(row)):
                        at.append(position)
                        values.append(row[name])
                elif row is not None and len(row) == len(self._names):
                    at.append(position)
                    values.append(row[index])
            while values and len(errors) < limit:
                column = np.fromiter(values, dtype=object, count=len(values))
                try:
                    native.fill(index, column, native.allocate(len(values)))
                    break
                except InputError as error:
                    errors.append(error)
                    # What follows the refused value has not been looked at.
                    next_one = 1 + (0 if single or error.row is None else at.index(error.row))
                    del at[:next_one], values[:next_one]
        order = {name: index for index, name in enumerate(self._names)}
        errors.sort(key=lambda error: (error.row or 0, order.get(error.field or "", -1)))
        return errors[:limit] or first_refusal(self.bind, rows)

    def _refused_names(
        self, rows: Sequence[dict[Any, Any] | tuple[Any, ...] | None], single: bool, limit: int
    ) -> list[InputError]:
        """Say which fields are missing or unknown, one by one."""
        errors: list[InputError] = []
        known = dict.fromkeys(self._names)
        needed = [name for name, read in zip(self._names, self._read, strict=True) if read]
        for position, row in enumerate(rows):
            if len(errors) >= limit:
                break
            place = None if single else position
            if isinstance(row, dict):
                missing = [name for name in needed if name not in row]
                extra = [name for name in row if name not in known]
                for name in (*missing, *extra)[: limit - len(errors)]:
                    errors.append(self._refusals.name_refused(name, row=place, given=row))
            elif row is not None and len(row) != len(self._names):
                errors.append(self._refusals.length_refused(len(row), row=place))
        return errors

    def _refuse(self, rows: Any) -> NoReturn:
        hint = None
        if isinstance(rows, (set, frozenset)):
            hint = "A set has no order; pass a dict or a list"
        elif hasattr(rows, "__next__"):
            hint = "Pass list(rows)"
        elif hasattr(rows, "__dataclass_fields__"):
            hint = "Pass dataclasses.asdict(row)"
        elif hasattr(rows, "model_dump"):
            hint = "Pass row.model_dump()"
        elif hasattr(rows, "to_pandas"):
            hint = "Pass rows.to_pandas()"
        elif isinstance(rows, (str, bytes)):
            hint = "Decode it first: json.loads(rows)"
        self._refusals.refuse_rows(describe(rows), hint=hint)

    def _bind_sequence(self, rows: list[Any]) -> Bound:
        """Bind a list with something else than dicts, lists and tuples in it, or a tuple."""
        if not rows or _row(rows[0]) is None:
            if rows and (is_frame(rows[0]) or getattr(rows[0], "ndim", 0) > 0):
                self._refusals.refuse_rows(
                    f"a list of {describe(rows[0])}", hint="Concatenate them first"
                )
            return self._native.bind_row(tuple(rows)) if rows else self._bind_empty()
        plain: list[dict[Any, Any] | tuple[Any, ...]] = []
        for index, item in enumerate(rows):
            row = _row(item)
            if row is None:
                self._refusals.refuse_rows(describe(item), row=index)
            plain.append(row)
        bound = self._native.bind(plain)
        return Bound(bound.arrays, bound.n_rows, torch=is_tensor(rows[0]))

    def _bind_empty(self) -> Bound:
        return Bound(self._native.allocate(0), 0)

    # ---- arrays

    def _bind_array(self, given: NDArray[Any]) -> Bound:
        if given.dtype.names:
            return self._bind_structured(given)
        array = unmasked(given)
        n = len(self._names)
        if array.ndim not in (1, 2) or array.shape[-1] != n:
            self._refuse_shape(array)
        plain = plain_values(array)
        if plain is None:
            self._refusals.refuse_rows(describe(array), hint=_dtype_hint(array.dtype))
        bound = self._native.bind(plain)
        if bound is not None:
            return bound
        if plain.ndim == 1:
            return self._native.bind_row(tuple(plain.tolist()))
        arrays = self._native.allocate(len(plain))
        for index in range(n):
            self._native.fill(index, plain[:, index], arrays)
        return Bound(arrays, len(plain))

    def _refuse_shape(self, array: NDArray[Any]) -> NoReturn:
        n = len(self._names)
        hint = None
        if array.ndim == 0:
            hint = "A single number is no row; pass a list or a dict"
        elif array.ndim == 1 and n == 1:
            hint = "One row per value is array.reshape(-1, 1)"
        elif array.ndim > 2:
            hint = "Rows are the first axis, fields the second"
        else:
            hint = f"The fields are, in order: {name_list(self._names, MAX_NAMES)}"
        self._refusals.refuse_rows(describe(array), hint=hint)

    def _bind_structured(self, array: NDArray[Any]) -> Bound:
        if array.ndim > 1:
            self._refuse_shape(array)
        array = np.atleast_1d(array)
        positions = self._positions(list(array.dtype.names or ()), "a structured array")
        arrays = self._native.allocate(len(array))
        for index, position in enumerate(positions):
            if position is not None:
                column = unmasked(array[array.dtype.names[position]])  # type: ignore[index]
                self._fill(index, plain_values(column), column.dtype, arrays)
        return Bound(arrays, len(array))

    def _bind_columns(self, columns: Columns) -> Bound:
        positions = self._positions(list(columns.arrays), "columns")
        listed = list(columns.arrays.values())
        arrays = self._native.allocate(columns.n_rows)
        for index, position in enumerate(positions):
            if position is not None:
                column = listed[position]
                self._fill(index, plain_values(column), column.dtype, arrays)
        return Bound(arrays, columns.n_rows)

    # ---- pandas

    def _bind_frame(self, frame: Any) -> Bound:
        positions = self._positions(frame.columns.tolist(), "a DataFrame")
        n_rows = len(frame)
        arrays = self._native.allocate(n_rows)
        if frame.size <= SMALL_FRAME_CELLS:
            cells = frame.to_numpy(dtype=object)
            for index, position in enumerate(positions):
                if position is not None:
                    self._native.fill(index, cells[:, position], arrays)
            return Bound(arrays, n_rows)
        for index, position in enumerate(positions):
            if position is not None and self._read[index]:
                series = frame.iloc[:, position]
                self._fill(index, plain_series(series), series.dtype, arrays)
        return Bound(arrays, n_rows)

    def _fill(
        self, field: int, column: NDArray[Any] | None, dtype: object, arrays: list[NDArray[Any]]
    ) -> None:
        if column is None:
            self._refusals.refuse_dtype(field, dtype)
        self._native.fill(field, column, arrays)

    def _positions(self, columns: list[Hashable], what: str) -> list[int | None]:
        """Return where each field's column is; None for a field that is neither given nor read."""
        names = self._names
        if columns == names:
            return list(range(len(names)))
        if columns == self._unnamed:
            return list(range(len(names)))
        given = {str(name): position for position, name in enumerate(columns)}
        if len(given) != len(columns):
            self._refuse_repeated(columns, what)
        positions = [given.get(name) for name in names]
        missing = any(
            position is None and read for position, read in zip(positions, self._read, strict=True)
        )
        if missing or len(given) > sum(position is not None for position in positions):
            self._refusals.refuse_names(given, row=None, what=what)
        return positions

    def _bind_series(self, series: Any) -> Bound:
        """A Series is a row of a DataFrame, or the column of a single field."""
        if len(self._names) == 1 and series.name == self._names[0]:
            return self._bind_frame(series.to_frame())
        index = series.index.tolist()
        if index == self._unnamed:
            return self._native.bind_row(tuple(series.tolist()))
        row = _series_row(series)
        if len(row) != len(index):
            self._refuse_repeated(index, "a Series")
        return self._native.bind(row)

    def _refuse_repeated(self, names: list[Hashable], what: str) -> NoReturn:
        counts = Counter(str(name) for name in names)
        repeated = [name for name, count in counts.items() if count > 1]
        self._refusals.refuse_rows(f"{what} with more than one {name_list(repeated, MAX_NAMES)}")


def _row(item: Any) -> dict[Any, Any] | tuple[Any, ...] | None:
    """Return one row as a dict (by name) or a tuple (by position); None where it is not a row."""
    if isinstance(item, Mapping):
        return dict(item.items())
    if isinstance(item, tuple):
        as_dict = getattr(item, "_asdict", None)
        return dict(as_dict()) if as_dict is not None else tuple(item)
    if isinstance(item, list):
        return tuple(item)
    if isinstance(item, np.void) and item.dtype.names:
        return {name: item[name] for name in item.dtype.names}
    if is_series(item):
        return _series_row(item)
    if is_tensor(item) and item.ndim == 1:
        return tuple(item.tolist())
    if isinstance(item, np.ndarray) and item.ndim == 1:
        # tolist() turns dates of nanoseconds into integers.
        return tuple(item if item.dtype.kind in "mM" else unmasked(item).tolist())
    return None


def _series_row(series: Any) -> dict[str, Any]:
    names = (str(name) for name in series.index.tolist())
    return dict(zip(names, series.astype(object).tolist(), strict=True))


def _dtype_hint(dtype: np.dtype[Any]) -> str | None:
    if dtype.kind == "S":
        return "Decode it first: np.char.decode(array)"
    if dtype.kind in "mM":
        return "Turn dates into numbers as in training"
    if dtype.kind == "c":
        return "Fields are real numbers"
    return None
