"""Asking a fitted model with one row what it takes: missing values, categories it never saw."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from infersdk.convert.sklearn_structure import Hint, has_names, parts, plain
from infersdk.convert.sklearn_writer import is_missing
from infersdk.types import Field

__all__ = ["asked", "positional", "probe_rows"]

_MOST_PROBED = 256
"""Above this many columns, whether one may be missing is asked for all of a kind at once."""

_UNSEEN_TEXT = "\x01unseen"


def probe_rows(
    container: str,
    fields: Sequence[Field],
    hints: Sequence[Hint],
    frame: Any,
    array: np.ndarray | None,
) -> Any:
    """Two equal rows without missing values."""
    if container == "array":
        if array is None and frame is not None:
            array = frame.to_numpy(dtype=np.float64, na_value=np.nan)
        if array is not None and len(array):
            values = array.astype(np.float64)
            whole = np.flatnonzero(np.isfinite(values).all(axis=1))
            row = values[whole[0]] if len(whole) else np.nan_to_num(np.nanmean(values, axis=0))
        else:
            row = np.array([_typical(item, hint) for item, hint in zip(fields, hints, strict=True)])
        return np.vstack([row, row]).astype(np.float64)
    import pandas as pd

    columns: dict[str, Any] = {}
    complete = None
    if frame is not None and len(frame):
        whole = np.flatnonzero(~frame.isna().any(axis=1).to_numpy())
        complete = int(whole[0]) if len(whole) else None
    for index, (item, hint) in enumerate(zip(fields, hints, strict=True)):
        if frame is not None and len(frame):
            series = frame[item.name] if item.name in frame.columns else frame.iloc[:, index]
            known = series.dropna()
            if complete is not None:
                columns[item.name] = series.iloc[[complete, complete]].reset_index(drop=True)
                continue
            if len(known):
                columns[item.name] = known.iloc[[0, 0]].reset_index(drop=True)
                continue
        value = _typical(item, hint)
        if array is not None and len(array) and not is_missing(array[0, index]):
            value = plain(array[0, index])
        columns[item.name] = pd.Series([value, value])
    return pd.DataFrame(columns)


def _typical(item: Field, hint: Hint) -> Any:
    if item.categories:
        return item.categories[0]
    if item.dtype == "string":
        return "some words" if hint.vector else "a"
    return True if item.dtype == "bool" else 1.0 if item.dtype == "float" else 1


def asked(
    model: Any,
    container: str,
    fields: list[Field],
    hints: Sequence[Hint],
    rows: Any,
) -> tuple[Any, list[Field]]:
    """Fill in what the model does about missing values and unseen categories."""
    ask = _question(model)
    if ask is None or not ask(rows):
        return None, [
            replace(item, unknown="allow") if item.input is None else item for item in fields
        ]
    used = [index for index, item in enumerate(fields) if item.input is not None]
    missing = _allowed(
        lambda chosen: ask(_changed(rows, fields, chosen, container, _gap)),
        [
            [i for i in used if fields[i].dtype != "string"],
            [i for i in used if fields[i].dtype == "string"],
        ],
    )
    unseen = _allowed(
        lambda chosen: ask(_changed(rows, fields, chosen, container, _unseen)),
        [[i for i in used if hints[i].categories is not None]],
    )
    infinite = _allowed(
        lambda chosen: ask(_changed(rows, fields, chosen, container, _infinity)),
        [[i for i in used if fields[i].dtype == "float"]],
    )
    result = []
    for index, item in enumerate(fields):
        if item.input is None:
            result.append(item)
            continue
        may_miss: Literal["refuse", "nan", "empty"] = "refuse"
        if index in missing:
            may_miss = "empty" if item.dtype == "string" else "nan"
        knows = hints[index].categories is not None
        refuses = knows and index not in unseen
        result.append(
            replace(
                item,
                missing=may_miss,
                infinity="allow" if index in infinite else "refuse",
                unknown="refuse" if refuses else "allow",
            )
        )
    return rows, result


def _question(model: Any) -> Callable[[Any], bool] | None:
    methods = ("predict", "transform", "score_samples")
    method = next((m for m in methods if hasattr(model, m)), None)
    if method is None:
        return None
    function = getattr(model, method)

    def ask(rows: Any) -> bool:
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                function(positional(model, rows))
        except Exception:  # whatever the steps raise is a refusal
            return False
        return True

    return ask


def positional(model: Any, rows: Any) -> Any:
    """Rows as a model takes them that was fitted on columns without names."""
    if not hasattr(rows, "columns") or has_names(model):
        return rows
    width = rows.shape[1]
    if list(rows.columns) != [f"x{index}" for index in range(width)]:
        return rows
    if _fitted_on_objects(model):
        return rows.astype(object).to_numpy()
    return rows.set_axis(range(width), axis=1)


def _fitted_on_objects(model: Any) -> bool:
    """Whether numbers came as Python objects: the training data was one array with text in it."""
    for part in parts(model):
        for categories in getattr(part, "categories_", ()):
            values = np.asarray(categories)
            if values.dtype.kind == "O" and any(
                isinstance(value, int | float) and not is_missing(value) for value in values
            ):
                return True
    return False


def _allowed(accepts: Callable[[list[int]], bool], groups: Sequence[list[int]]) -> set[int]:
    """Which columns may be changed: a group at once where the model takes that, else one by one."""
    result: set[int] = set()
    for group in groups:
        if not group:
            continue
        if accepts(group):
            result.update(group)
        elif len(group) <= _MOST_PROBED:
            result.update(index for index in group if accepts([index]))
    return result


def _changed(
    rows: Any,
    fields: Sequence[Field],
    chosen: Sequence[int],
    container: str,
    value: Callable[[Field], Any],
) -> Any:
    """The rows with another value in the chosen columns."""
    if container == "array":
        changed = rows.copy()
        for index in chosen:
            changed[:, index] = value(fields[index])
        return changed
    import pandas as pd

    changed = rows.copy()
    for index in chosen:
        item = fields[index]
        if value is _gap:
            # pandas would make None in a column of bool False.
            holds_nan = rows[item.name].dtype.kind not in "biu"
            dtype = rows[item.name].dtype if holds_nan else np.float64
            series = pd.Series([np.nan, np.nan], dtype=dtype)
            changed[item.name] = series
        else:
            changed[item.name] = pd.Series([value(item)] * 2)
    return changed


def _gap(item: Field) -> float:
    return float("nan")


def _infinity(item: Field) -> float:
    return float("inf")


def _unseen(item: Field) -> Any:
    if item.dtype == "string":
        return _UNSEEN_TEXT
    numbers = [float(value) for value in item.categories or (0,)]
    return int(max(numbers)) + 1
