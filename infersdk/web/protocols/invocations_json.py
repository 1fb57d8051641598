"""JSON bodies of invocations: MLflow's forms, or plain rows.

An object with one of MLflow's four keys is in its form, any other JSON is a row or a list of rows:

    {"dataframe_split": {"columns": [...], "data": [[...], ...]}}
    {"dataframe_records": [{...}, ...]}
    {"instances": [...]}       rows, as TensorFlow Serving takes them
    {"inputs": {...}}          columns by name, or one tensor

Beside them ``params`` may name the method, as ``predict_method`` or ``method``; other keys are passed over, as MLflow
does and Databricks's clients need (``client_request_id``). MLflow's own client writes NaN and
infinity as Python does, which no JSON has; they are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from infersdk.errors import InputError
from infersdk.web.json_rows import decode_with_nan
from infersdk.web.protocols.invocations_rows import Form, check_count

__all__ = ["FORMS", "METHOD_PARAMS", "read_json"]

FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")

METHOD_PARAMS = ("predict_method", "method")


def read_json(
    body: bytes | bytearray, form: Form, max_rows: int
) -> tuple[Any, int | None, str | None]:
    """Read a body.

    Parameters
    ----------
    body : bytes or bytearray
    form : Form
        Of the model's rows.
    max_rows : int

    Returns
    -------
    rows : object
        As the Predictor takes them.
    n_rows : int or None
    method : str or None
        That ``params`` ask for.

    Raises
    ------
    InvalidJSON, InputError, ProblemError
        It cannot be read, or holds too many rows.
    """
    value = decode_with_nan(body)
    if type(value) is not dict:
        count = len(value) if type(value) is list else 1
        check_count(count, max_rows)
        return value, count, None
    # A field of the model's may be called so.
    keys = [key for key in FORMS if key in value and not form.is_field(key)]
    if not keys:
        return value, 1, None
    if len(keys) > 1:
        _refuse(form, f"only one of {', '.join(FORMS)}", f"also `{keys[1]}`", keys[1])
    key = keys[0]
    method = _method(form, value.get("params"))
    given = value[key]
    rows = _READERS[key](form, given, max_rows)
    return rows, len(rows) if isinstance(rows, list) else None, method


def _method(form: Form, params: Any) -> str | None:
    if params is None:
        return None
    if not isinstance(params, dict):
        _refuse(form, "an object", _kind(params), "params")
    for name, value in params.items():
        if name not in METHOD_PARAMS:
            expected = f"one of the params {', '.join(METHOD_PARAMS)}"
            _refuse(form, expected, f"`{name[:80]}`", "params")
        if not isinstance(value, str):
            _refuse(form, "a method's name", _kind(value), name)
    asked = list(dict.fromkeys(params.values()))
    if len(asked) > 1:
        _refuse(form, "one method", " and ".join(repr(name[:80]) for name in asked), "params")
    return asked[0] if asked else None


def _split(form: Form, given: Any, max_rows: int) -> Any:
    if not isinstance(given, dict):
        _refuse(form, "an object with `columns` and `data`", _kind(given), "dataframe_split")
    unknown = [key for key in given if key not in ("columns", "data", "index")]
    if unknown or "data" not in given:
        told = f"`{unknown[0][:80]}`" if unknown else "no `data`"
        _refuse(form, "`data`, `columns` and `index`", told, "dataframe_split")
    data = given["data"]
    columns = given.get("columns")
    index = given.get("index")
    if not isinstance(data, list):
        _refuse(form, "a list of rows", _kind(data), "data")
    check_count(len(data), max_rows)
    if index is not None and (not isinstance(index, list) or len(index) != len(data)):
        _refuse(form, f"a list of {len(data):,} labels, or none", _kind(index), "index")
    if columns is not None:
        columns = _names(form, columns)
    if not set(map(type, data)) <= {list}:
        row = next(i for i, item in enumerate(data) if type(item) is not list)
        _refuse(form, "a list", _kind(data[row]), "data", row)
    if columns is not None and not set(map(len, data)) <= {len(columns)}:
        row = next(i for i, item in enumerate(data) if len(item) != len(columns))
        expected = f"{len(columns)} values, one for each column"
        _refuse(form, expected, f"{len(data[row])}", "data", row)
    return form.split(columns, data)


def _names(form: Form, columns: Any) -> list[str] | None:
    """The columns' names; 0, 1, 2, ... are none, as in a DataFrame that was made without."""
    if not isinstance(columns, list):
        _refuse(form, "a list of names", _kind(columns), "columns")
    if columns and columns == list(range(len(columns))) and not isinstance(columns[0], bool):
        return None
    other = next((name for name in columns if not isinstance(name, str)), "")
    if other != "":
        _refuse(form, "names", _kind(other), "columns")
    return columns


def _records(form: Form, given: Any, max_rows: int) -> Any:
    if not isinstance(given, list):
        _refuse(form, "a list of records", _kind(given), "dataframe_records")
    check_count(len(given), max_rows)
    _check_all_dicts(form, given, "dataframe_records")
    return form.records(given)


def _check_all_dicts(form: Form, given: Sequence[Any], field: str) -> None:
    if not set(map(type, given)) <= {dict}:
        row = next(i for i, item in enumerate(given) if type(item) is not dict)
        _refuse(form, "an object", _kind(given[row]), field, row)


def _instances(form: Form, given: Any, max_rows: int, key: str = "instances") -> Any:
    if not isinstance(given, list):
        _refuse(form, "a list of rows", _kind(given), key)
    check_count(len(given), max_rows)
    if given and isinstance(given[0], dict):
        _check_all_dicts(form, given, key)
        return form.records(given)
    return form.values(given)


def _inputs(form: Form, given: Any, max_rows: int) -> Any:
    if isinstance(given, dict):
        for values in given.values():
            if isinstance(values, list):
                check_count(len(values), max_rows)
        if not given:
            _refuse(form, "columns by name", "none", "inputs")
        return form.columns(given)
    if isinstance(given, str):
        return form.values([given])
    if not isinstance(given, list):
        _refuse(form, "columns by name, or a list", _kind(given), "inputs")
    return _instances(form, given, max_rows, "inputs")


_READERS = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _instances,
    "inputs": _inputs,
}


def _refuse(form: Form, expected: str, given: str, field: str, row: int | None = None) -> NoReturn:
    raise InputError.mismatch(
        expected=expected, given=given, field=field, row=row, model=form.model
    )


_KINDS = {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "null"}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a number")
