"""What invocations hold, brought to rows as the Predictor takes them.

MLflow's forms are four: a table with its columns' names beside it (`split`), rows by name (`records`), columns by
name (`columns`) and bare rows (`values`). What they mean depends on what the model takes; there is a class for
each. Nothing here goes through a table cell by cell, and whether values fit is for the Predictor to say.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import repeat
from operator import itemgetter
from typing import Any, NoReturn

from numpy.typing import NDArray

from infersdk.errors import InputError
from infersdk.types import Signature
from infersdk.web.problems import ProblemError, problem_of

__all__ = ["Dicts", "Form", "Table", "Tensors", "Texts", "check_count", "form_of"]

_MOST_ERRORS = 100


class Form(ABC):
    """How rows of a model are made.

    Parameters
    ----------
    signature : Signature
    model : str
        Name in messages.
    """

    def __init__(self, signature: Signature, model: str) -> None:
        self.signature = signature
        self.model = model

    @abstractmethod
    def split(self, columns: Sequence[str] | None, data: list[list[Any]]) -> Any:
        """Make rows of lists, all as long as ``columns`` if these are given.

        Parameters
        ----------
        columns : sequence of str or None
            Names, in any order; None where there are none.
        data : list of list

        Raises
        ------
        InputError, ProblemError
            They are not what the model takes.
        """

    @abstractmethod
    def records(self, records: list[dict[str, Any]]) -> Any:
        """Make rows of dicts by name."""

    @abstractmethod
    def columns(self, columns: Mapping[str, Any]) -> Any:
        """Make rows of columns by name; single values instead of lists are one row."""

    @abstractmethod
    def values(self, values: list[Any]) -> Any:
        """Make rows of a list of anything but dicts; single values are the rows of an only column."""

    def of_array(self, array: NDArray[Any]) -> Any:
        """Make rows of an array."""
        return array

    def is_field(self, name: str) -> bool:
        """Whether a plain row may have this key."""
        return False

    def refuse(self, expected: str, given: str, field: str | None = None) -> NoReturn:
        """Raise the usual InputError."""
        raise InputError.mismatch(expected=expected, given=given, field=field, model=self.model)


def form_of(signature: Signature, model: str) -> Form:
    """Choose how rows of a model are made.

    Parameters
    ----------
    signature : Signature
    model : str
        Name in messages.
    """
    if signature.container == "text":
        return Texts(signature, model)
    if signature.container == "tensors":
        return Tensors(signature, model)
    return Table(signature, model) if signature.fields else Dicts(signature, model)


def check_count(n_rows: int, max_rows: int, *, more: bool = False) -> None:
    """Refuse too many rows.

    Parameters
    ----------
    n_rows : int
    max_rows : int
    more : bool
        Whether no more than so many were counted.

    Raises
    ------
    ProblemError
        413.
    """
    if n_rows > max_rows:
        given = "more" if more else f"{n_rows:,}"
        raise ProblemError(
            413,
            "too-many-rows",
            "The request holds too many rows",
            f"Expected up to {max_rows:,} rows, got {given}; send them in several requests",
            max_rows=max_rows,
        )


class Table(Form):
    """Rows of named fields."""

    def __init__(self, signature: Signature, model: str) -> None:
        super().__init__(signature, model)
        self.names = [field.name for field in signature.fields]
        self._places = {name: place for place, name in enumerate(self.names)}
        known = any(field.input is not None for field in signature.fields)
        # Where no field names an input, as under the native plan, every one is read.
        self._read = [field.input is not None or not known for field in signature.fields]

    def is_field(self, name: str) -> bool:
        return name in self._places

    def split(self, columns: Sequence[str] | None, data: list[list[Any]]) -> Any:
        if columns is None or columns == self.names:
            return data
        found = self.places(columns)
        end = len(columns)
        if None in found:
            data = [[*row, None] for row in data]  # for fields that are not read
        places = [end if place is None else place for place in found]
        if len(places) == 1:
            return [[row[places[0]]] for row in data]
        return list(map(itemgetter(*places), data))

    def places(self, columns: Sequence[str]) -> list[int | None]:
        """Say where each field's column is; None for a field that is neither given nor read.

        Raises
        ------
        ProblemError
            422, with an error for each column that is missing, unknown, or there more than once.
        """
        given = {name: place for place, name in enumerate(columns)}
        places = [given.get(name) for name in self.names]
        errors = [
            self._error("a column of this name", "none", name)
            for name, place, read in zip(self.names, places, self._read, strict=True)
            if place is None and read
        ]
        counts = Counter(columns) if len(given) != len(columns) else given
        for name in counts:
            if len(errors) >= _MOST_ERRORS:  # each costs a search for what may have been meant
                break
            if name not in self._places:
                close = get_close_matches(name[:80], self.names, n=1)
                hint = f"Did you mean `{close[0]}`?" if close else None
                errors.append(self._error("no column of this name", "one", name[:80], hint))
            elif counts is not given and counts[name] > 1:
                errors.append(self._error("one column of this name", f"{counts[name]}", name))
        if errors:
            raise problem_of(errors[0], errors[:_MOST_ERRORS])
        return places

    def _error(self, expected: str, given: str, field: str, hint: str | None = None) -> InputError:
        return InputError.mismatch(
            expected=expected, given=given, field=field, model=self.model, hint=hint
        )

    def records(self, records: list[dict[str, Any]]) -> Any:
        return records

    def columns(self, columns: Mapping[str, Any]) -> Any:
        lists = {name: values for name, values in columns.items() if isinstance(values, list)}
        if not lists:
            return dict(columns)  # one row
        if len(lists) < len(columns):
            other = next(name for name in columns if name not in lists)
            self.refuse("a list of values, as the other columns are", "a single value", other)
        places = self.places(list(columns))
        flat = {name: _flat(values) for name, values in lists.items()}
        _check_lengths(self, flat)
        if not any(place is None for place in places):
            return list(zip(*(flat[name] for name in self.names), strict=True))
        n_rows = len(next(iter(flat.values())))
        return list(
            zip(*(flat.get(name, repeat(None, n_rows)) for name in self.names), strict=False)
        )

    def values(self, values: list[Any]) -> Any:
        if not values or isinstance(values[0], list):
            return values
        if len(self.names) > 1:
            expected = f"rows: lists of {len(self.names)} values, or dicts by field"
            self.refuse(expected, "a list of single values")
        return [[value] for value in values]


class Texts(Form):
    """Rows that are texts: the only column of whatever holds them."""

    def split(self, columns: Sequence[str] | None, data: list[list[Any]]) -> Any:
        if any(len(row) != 1 for row in data):
            self.refuse("one column, of texts", f"{len(data[0])} columns")
        return [row[0] for row in data]

    def records(self, records: list[dict[str, Any]]) -> Any:
        if len({key for record in records for key in record}) > 1 or not all(records):
            self.refuse("records of one key, a text's", "several keys, or none")
        return [next(iter(record.values())) for record in records]

    def columns(self, columns: Mapping[str, Any]) -> Any:
        if len(columns) != 1:
            self.refuse("one column, of texts", f"{len(columns)} columns")
        values = next(iter(columns.values()))
        return _flat(values) if isinstance(values, list) else [values]

    def values(self, values: list[Any]) -> Any:
        return _flat(values)

    def of_array(self, array: NDArray[Any]) -> Any:
        if array.dtype.kind != "U":
            self.refuse("an array of text", f"one of {array.dtype}")
        return array.ravel().tolist() if array.ndim != 2 or array.shape[1] == 1 else array


class Tensors(Form):
    """Tensors by the names of the graph's inputs, or the only one."""

    def __init__(self, signature: Signature, model: str) -> None:
        super().__init__(signature, model)
        self.names = [spec.name for spec in signature.inputs]

    def split(self, columns: Sequence[str] | None, data: list[list[Any]]) -> Any:
        if columns is not None and set(columns) == set(self.names) and len(columns) > 1:
            lists = zip(*data, strict=True) if data else repeat((), len(columns))
            return {name: list(values) for name, values in zip(columns, lists, strict=False)}
        self._expect_one("a table without their names")
        return data

    def records(self, records: list[dict[str, Any]]) -> Any:
        if not records:
            return records
        first = records[0]
        if any(record.keys() != first.keys() for record in records):
            self.refuse("records of the same keys", "several sets of keys")
        if set(first) <= set(self.names) or not self.names:
            return {name: [record[name] for record in records] for name in first}
        self._expect_one("records without their names")
        return [list(record.values()) for record in records]

    def columns(self, columns: Mapping[str, Any]) -> Any:
        return dict(columns)

    def values(self, values: list[Any]) -> Any:
        return values

    def of_array(self, array: NDArray[Any]) -> Any:
        self._expect_one("one array")
        return array

    def _expect_one(self, given: str) -> None:
        if len(self.names) > 1:
            listed = ", ".join(f"`{name}`" for name in self.names)
            self.refuse(f"tensors by name: {listed}", given)


class Dicts(Form):
    """Rows that are dicts of any keys."""

    def is_field(self, name: str) -> bool:
        return False

    def split(self, columns: Sequence[str] | None, data: list[list[Any]]) -> Any:
        if columns is None:
            self.refuse("the columns' names", "none")
        if len(set(columns)) < len(columns):
            self.refuse("columns of different names", "a name more than once")
        return [dict(zip(columns, row, strict=True)) for row in data]

    def records(self, records: list[dict[str, Any]]) -> Any:
        return records

    def columns(self, columns: Mapping[str, Any]) -> Any:
        if not any(isinstance(values, list) for values in columns.values()):
            return dict(columns)
        flat = {
            name: _flat(values) if isinstance(values, list) else [values]
            for name, values in columns.items()
        }
        _check_lengths(self, flat)
        return [dict(zip(flat, row, strict=True)) for row in zip(*flat.values(), strict=True)]

    def values(self, values: list[Any]) -> Any:
        return values

    def of_array(self, array: NDArray[Any]) -> Any:
        self.refuse("rows with names, as JSON has them", "an array")


def _flat(values: list[Any]) -> list[Any]:
    """A column, which may be one of lists of one value each."""
    if (
        values
        and isinstance(values[0], list)
        and all(isinstance(value, list) and len(value) == 1 for value in values)
    ):
        return [value for (value,) in values]
    return values


def _check_lengths(form: Form, columns: Mapping[str, list[Any]]) -> None:
    first = next(iter(columns))
    n_rows = len(columns[first])
    for name, values in columns.items():
        if len(values) != n_rows:
            form.refuse(f"{n_rows:,} rows, as in `{first}`", f"{len(values):,}", name[:80])
