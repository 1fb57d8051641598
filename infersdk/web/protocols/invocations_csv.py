"""CSV as rows: with a header, as MLflow and pandas write it, or without, as SageMaker wants it.

The first line is a header if a cell of it is a field's name, or if the content type says ``header=present``; it then
names the columns, in any order. Without one the columns are the fields, in the model's order. An empty cell is a
missing value. Tables of numbers are read by NumPy in one go, others by column.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from io import StringIO
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.binding.columns import Columns
from infersdk.errors import InputError
from infersdk.types import Field
from infersdk.web.problems import ProblemError, problem_of
from infersdk.web.protocols.invocations_rows import Form, Table, Tensors, Texts, check_count

__all__ = ["read_csv"]

_MOST_ERRORS = 100

_HEAD_CHARS = 2**16
"""In which the first line is looked for, before all of the text."""

_SMALL_CELLS = 4096
"""Up to here rows are tuples, of which a refusal can name every value that does not fit."""

_EXACT = 2**53
"""From here on float64 does not tell all whole numbers apart."""

_BOOLS = {
    **dict.fromkeys(("True", "true", "TRUE", "1"), True),
    **dict.fromkeys(("False", "false", "FALSE", "0"), False),
    "": None,
}


def read_csv(text: str, form: Form, has_header: bool | None, max_rows: int) -> tuple[Any, int]:
    """Read a table.

    Parameters
    ----------
    text : str
    form : Form
        Of the model's rows.
    has_header : bool or None
        None: to be seen from the first line.
    max_rows : int

    Returns
    -------
    rows : object
        As the Predictor takes them.
    n_rows : int

    Raises
    ------
    InputError, ProblemError
        It is no CSV, holds too many rows, or not what the model takes.
    """
    if not isinstance(form, (Table, Texts, Tensors)):
        form.refuse("rows with names, as JSON has them", "CSV")
    first = _first_line(text)
    if has_header is None:
        has_header = isinstance(form, Table) and any(form.is_field(cell) for cell in first)
        has_header = has_header or (isinstance(form, Texts) and first == ["text"])
    names = first if has_header and first else None
    if isinstance(form, Texts):
        return _texts(_cells(text, has_header, max_rows), form)
    if isinstance(form, Tensors):
        matrix = _numbers(text, has_header, max_rows)
        if matrix is None or not matrix.size:
            form.refuse("numbers", "a cell that is none, or lines of several lengths")
        return form.of_array(matrix), len(matrix)
    return _table(text, form, names, has_header, max_rows)


def _table(
    text: str, form: Table, names: list[str] | None, has_header: bool, max_rows: int
) -> tuple[Any, int]:
    fields = form.signature.fields
    given = form.names if names is None else names
    places: list[Any] = list(range(len(fields)))
    if given != form.names:
        places = list(form.places(given))
    if None not in places and all(field.dtype in ("float", "int") for field in fields):
        matrix = _numbers(text, has_header, max_rows)
        if matrix is not None and _is_exact(matrix, fields, places, len(given)):
            ordered = matrix if places == list(range(len(given))) else matrix[:, places]
            return ordered, len(matrix)
    rows = _cells(text, has_header, max_rows)
    for number, row in enumerate(rows):
        if len(row) != len(given):
            raise InputError.mismatch(
                expected=f"{len(given)} values, one for each column",
                given=f"{len(row)}",
                row=number,
                model=form.model,
                hint=None if names else f"The columns are, in order: {', '.join(form.names[:20])}",
            )
    if not rows:
        return [], 0
    columns = list(zip(*rows, strict=True))
    errors: list[InputError] = []
    arrays = {
        field.name: _column(form, field, columns[place], errors)
        for field, place in zip(fields, places, strict=True)
        if place is not None
    }
    if errors:
        errors.sort(key=lambda error: error.row or 0)
        raise problem_of(errors[0], errors[:_MOST_ERRORS])
    if None not in places and len(rows) * len(fields) <= _SMALL_CELLS:
        return list(zip(*(array.tolist() for array in arrays.values()), strict=True)), len(rows)
    return Columns(arrays), len(rows)


def _texts(rows: list[list[str]], form: Texts) -> tuple[list[str], int]:
    return form.split(None, rows), len(rows)


# -- reading ---------------------------------------------------------------------------------------


def _first_line(text: str) -> list[str]:
    try:
        return _first_of(text[:_HEAD_CHARS])
    except csv.Error as error:
        if len(text) <= _HEAD_CHARS:
            raise _no_csv(error) from None
    try:
        return _first_of(text)  # the line may be longer
    except csv.Error as error:
        raise _no_csv(error) from None


def _first_of(text: str) -> list[str]:
    return next(filter(None, csv.reader(StringIO(text, newline=""), strict=True)), [])


def _cells(text: str, has_header: bool, max_rows: int) -> list[list[str]]:
    """All lines but the header; empty ones are none."""
    lines = filter(None, csv.reader(StringIO(text, newline=""), strict=True))
    try:
        rows = list(islice(lines, int(has_header), max_rows + 1 + has_header))
    except csv.Error as error:
        raise _no_csv(error) from None
    check_count(len(rows), max_rows, more=True)
    return rows


def _numbers(text: str, has_header: bool, max_rows: int) -> NDArray[np.float64] | None:
    """All lines but the header as a matrix; None if there is a cell that is no number, or no line."""
    lines = filter(str.strip, StringIO(text, newline=None))
    chosen = islice(lines, int(has_header), max_rows + 1 + has_header)
    first = next(chosen, None)
    if first is None:
        return None
    try:
        matrix: NDArray[np.float64] = np.loadtxt(
            chain((first,), chosen), delimiter=",", comments=None, quotechar='"', ndmin=2
        )
    except ValueError:
        return None
    check_count(len(matrix), max_rows, more=True)
    return matrix


def _is_exact(
    matrix: NDArray[np.float64], fields: Sequence[Field], places: Sequence[Any], n_columns: int
) -> bool:
    if matrix.shape[1] != n_columns:
        return False
    whole = [place for field, place in zip(fields, places, strict=True) if field.dtype == "int"]
    return not whole or not (np.abs(matrix[:, whole]) >= _EXACT).any()


def _no_csv(error: csv.Error) -> ProblemError:
    return ProblemError(
        400, "invalid-csv", "The body is not CSV", f"Expected CSV (RFC 4180), but: {error}"
    )


# -- columns ---------------------------------------------------------------------------------------


def _column(
    form: Table, field: Field, cells: Sequence[str], errors: list[InputError]
) -> NDArray[Any]:
    """Make a column of its cells; what is wrong with them is added to the errors."""
    if field.dtype == "string":
        return _objects([cell or None for cell in cells])
    if field.dtype == "bool":
        if _BOOLS.keys() >= set(cells):
            return _objects([_BOOLS[cell] for cell in cells])
        return _refused(form, field, cells, "True or False", lambda cell: _BOOLS[cell], errors)
    joined = "".join(cells)
    # Python reads 1_000 and the digits of other scripts, CSV has none.
    if joined.isascii() and "_" not in joined:
        try:
            if field.dtype == "float":
                return np.array([cell or "nan" for cell in cells], dtype=np.float64)
            return np.array(cells, dtype=np.int64)
        except (ValueError, OverflowError):
            pass
    if field.dtype == "float":
        return _refused(form, field, cells, "a number", _number, errors)
    return _refused(form, field, cells, "a whole number", _whole, errors)


def _refused(
    form: Table,
    field: Field,
    cells: Sequence[str],
    expected: str,
    convert: Callable[[str], Any],
    errors: list[InputError],
) -> NDArray[Any]:
    """Cell by cell, as one of them is not plain."""
    values: list[Any] = []
    found = 0
    for row, cell in enumerate(cells):
        try:
            values.append(convert(cell))
        except (ValueError, KeyError):
            errors.append(
                InputError.mismatch(
                    expected=expected,
                    given=repr(cell[:80]),
                    field=field.name,
                    row=row,
                    model=form.model,
                )
            )
            found += 1
            if found == _MOST_ERRORS:
                break
    return _objects(values)


def _number(cell: str) -> float | None:
    if not cell:
        return None
    if not cell.isascii() or "_" in cell:
        raise ValueError(cell)
    return float(cell)


def _whole(cell: str) -> int | float | None:
    """A fraction is for the Predictor to refuse."""
    number = _number(cell)
    if number is None:
        return None
    try:
        return int(cell)
    except ValueError:
        return number


def _objects(values: list[Any]) -> NDArray[Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array
