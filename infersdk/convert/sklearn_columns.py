"""What a fitted scikit-learn model takes, column by column.

A row's fields are read from the example's dtypes, else from what the fitted steps remember (categories,
imputed values). Whether a column may be missing, and whether a category that training never saw is
taken, is not guessed from the steps: the model itself is asked with one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from infersdk.convert.sklearn_probe import asked, probe_rows
from infersdk.convert.sklearn_structure import (
    HOLDERS,
    TEXT_VECTORIZERS,
    Hint,
    first_step,
    follow,
    has_names,
    parts,
    plain,
)
from infersdk.convert.sklearn_trees import reads_float32
from infersdk.convert.sklearn_writer import class_name, is_missing
from infersdk.errors import UnsupportedModelError
from infersdk.types import Field, TensorSpec

__all__ = ["Layout", "layout_of"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The container, the fields and the graph inputs of a model."""

    container: Literal["dataframe", "array", "text", "dicts"]
    fields: tuple[Field, ...]
    inputs: tuple[TensorSpec, ...]
    probe: Any = field(default=None, compare=False)
    """Two equal rows the model answers, in its container; None where none was found."""


def layout_of(model: Any, example: Any) -> Layout:
    """Describe a fitted model's rows.

    Raises
    ------
    UnsupportedModelError
        Its rows are no table and no text, or a column holds dates or mixed values.
    """
    first = first_step(model)
    if class_name(first) in TEXT_VECTORIZERS:
        spec = TensorSpec("text", "string", ("N",))
        return Layout("text", (), (spec,), probe=["some words", "some words"])
    if class_name(first) in ("DictVectorizer", "FeatureHasher"):
        return _of_dicts(first, example)
    frame, array = _table(example)
    names = _names(model, frame, array)
    hints = [Hint() for _ in names]
    follow(model, [[index] for index in range(len(names))], hints)
    fields = [_field(name, index, hints[index], frame, array) for index, name in enumerate(names)]
    named = has_names(model)
    any_text = any(item.dtype == "string" and item.input is not None for item in fields)
    as_frame = named or any_text or (frame is not None and _takes_frames(model))
    fields, inputs = _packed(model, fields, as_frame, frame, array)
    container: Literal["dataframe", "array"] = "dataframe" if as_frame else "array"
    rows = probe_rows(container, fields, hints, frame, array)
    rows, fields = asked(model, container, fields, hints, rows)
    return Layout(container, tuple(fields), inputs, probe=rows)


def _of_dicts(first: Any, example: Any) -> Layout:
    """Rows that are dicts of any keys: their vectorizer stays in scikit-learn."""
    if getattr(first, "input_type", "dict") != "dict":
        raise UnsupportedModelError(
            f"scikit-learn's {type(first).__name__} with input_type={first.input_type!r} takes rows that are "
            "lists of any length; expected dicts, a table with fixed columns, or texts"
        )
    row: Any = dict.fromkeys(getattr(first, "vocabulary_", ()), 1.0)
    if isinstance(example, dict):
        row = example
    elif isinstance(example, list | tuple) and example and isinstance(example[0], dict):
        row = example[0]
    return Layout("dicts", (), (), probe=[row, row])


# ---- names and dtypes


def _takes_frames(model: Any) -> bool:
    """Whether columns are taken by name although no names were remembered."""
    return getattr(model, "n_features_in_", None) is None


def _table(example: Any) -> tuple[Any, np.ndarray | None]:
    """The example as a DataFrame or as a 2-D array; neither where it is no table."""
    if example is None:
        return None, None
    if hasattr(example, "iloc") and hasattr(example, "columns"):
        return example, None
    if hasattr(example, "toarray"):
        return None, example.toarray()
    if isinstance(example, dict):
        example = [example]
    if isinstance(example, list | tuple) and example and isinstance(example[0], dict):
        import pandas as pd

        return pd.DataFrame(list(example)), None
    array = np.asarray(example)
    if array.ndim == 1 and array.dtype.kind in "fiub":
        array = array.reshape(1, -1)
    return None, array if array.ndim == 2 else None


def _names(model: Any, frame: Any, array: np.ndarray | None) -> list[str]:
    if has_names(model):
        return [str(name) for name in model.feature_names_in_]
    width = getattr(model, "n_features_in_", None)
    if frame is not None and (width is None or frame.shape[1] == width):
        return [
            name if isinstance(name, str) else f"x{index}"
            for index, name in enumerate(frame.columns)
        ]
    if width is None and array is not None:
        width = array.shape[1]
    if width is None:
        raise UnsupportedModelError(
            f"scikit-learn's {type(model).__name__} does not remember how many columns it was fitted "
            "on. Pass an example with some rows of its training data"
        )
    return [f"x{index}" for index in range(int(width))]


def _field(name: str, index: int, hint: Hint, frame: Any, array: np.ndarray | None) -> Field:
    dtype: Literal["float", "int", "bool", "string"]
    categories: tuple[Any, ...] | None = hint.categories
    source: str | None = None
    if frame is not None and (name in frame.columns or index < frame.shape[1]):
        series = frame[name] if name in frame.columns else frame.iloc[:, index]
        dtype, source, declared = _series_dtype(series, name, used=hint.used)
        if declared is not None:
            # to_source rebuilds the column with these.
            categories = declared
    elif array is not None and array.dtype.kind in "OUS":
        values = array[:, index]
        dtype = "string" if any(isinstance(value, str) for value in values) else "float"
        source = "object" if dtype == "string" else "float64"
    elif hint.text:
        dtype, source = "string", "object"
    elif categories and all(isinstance(value, bool) for value in categories):
        dtype, source = "bool", "bool"
    elif categories and all(isinstance(value, int) for value in categories):
        dtype, source = "int", "int64"
    else:
        dtype, source = "float", "float64"
    if categories is not None and not _fits(dtype, categories):
        if hint.used:
            raise UnsupportedModelError(
                f"Column `{name}` is {dtype} in the example, but the model was fitted on the "
                f"categories {list(categories)[:5]}. Pass an example with the training data's dtypes"
            )
        categories = None
    return Field(
        name,
        dtype,
        "used" if hint.used else None,
        categories=categories or None,
        source_dtype=source,
    )


def _fits(dtype: str, categories: Sequence[Any]) -> bool:
    is_text = [isinstance(value, str) for value in categories]
    return all(is_text) if dtype == "string" else not any(is_text)


def _series_dtype(
    series: Any, name: str, *, used: bool
) -> tuple[Literal["float", "int", "bool", "string"], str, tuple[Any, ...] | None]:
    """What an app passes in a DataFrame column, its dtype, and the categories it declares."""
    import pandas as pd

    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        values = tuple(plain(value) for value in dtype.categories)
        inner, _, _ = _series_dtype(pd.Series(dtype.categories), name, used=used)
        return inner, "category", values
    if pd.api.types.is_bool_dtype(dtype):
        return "bool", str(dtype), None
    if pd.api.types.is_integer_dtype(dtype):
        return "int", str(dtype), None
    if pd.api.types.is_float_dtype(dtype):
        return "float", str(dtype), None
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind in ("string", "empty"):
        return "string", str(dtype), None
    if kind == "boolean":
        return "bool", "object", None
    if kind == "integer":
        return "int", "object", None
    if kind in ("floating", "mixed-integer-float", "decimal"):
        return "float", "object", None
    if not used:
        return "string", str(dtype), None
    hint = "a part of it (a year, an age in days) as a number" if "date" in kind else "one dtype"
    raise UnsupportedModelError(
        f"Column `{name}` holds {kind} values (dtype {dtype}); expected numbers, True and False, or "
        f"text. Give the model {hint}"
    )


def _packed(
    model: Any, fields: Sequence[Field], as_frame: bool, frame: Any, array: np.ndarray | None
) -> tuple[list[Field], tuple[TensorSpec, ...]]:
    """Give every column that is used its place in the inputs."""
    dtype = _number_dtype(model, fields, frame, array)
    if not as_frame:
        spec = TensorSpec("features", dtype, ("N", len(fields)))
        return [
            replace(item, input="features", column=index) for index, item in enumerate(fields)
        ], (spec,)
    packed, counts = [], {"numbers": 0, "strings": 0}
    for item in fields:
        if item.input is None:
            packed.append(item)
            continue
        target = "strings" if item.dtype == "string" else "numbers"
        packed.append(replace(item, input=target, column=counts[target]))
        counts[target] += 1
    inputs = []
    if counts["numbers"]:
        inputs.append(TensorSpec("numbers", dtype, ("N", counts["numbers"])))
    if counts["strings"]:
        inputs.append(TensorSpec("strings", "string", ("N", counts["strings"])))
    return packed, tuple(inputs)


# ---- the dtype of numbers

_COMPARED_AS_GIVEN = frozenset(
    {
        "ColumnTransformer",
        "FeatureUnion",
        "OneHotEncoder",
        "OrdinalEncoder",
        "Pipeline",
        "SelectFromModel",
        "SelectKBest",
        "SelectPercentile",
        "SimpleImputer",
        "VarianceThreshold",
    }
)
_HELD = HOLDERS | {"CalibratedClassifierCV"}
_FLOAT32_WHOLE = 2.0**22


def _number_dtype(
    model: Any, fields: Sequence[Field], frame: Any, array: np.ndarray | None
) -> Literal["float32", "float64"]:
    """float64 as scikit-learn has it, or float32 where all that reads numbers rounds to it anyway."""
    trees = False
    for part in parts(model):
        name = class_name(part)
        if name is None:
            return "float64"
        if reads_float32(name):
            # A model that predictions start from reads the rows itself.
            if class_name(getattr(part, "init_", None)) not in (
                None,
                "DummyClassifier",
                "DummyRegressor",
            ):
                return "float64"
            trees = True
        elif name == "SimpleImputer":
            if part.add_indicator or not is_missing(part.missing_values):
                return "float64"
        elif name not in _COMPARED_AS_GIVEN | _HELD and not hasattr(part, "best_estimator_"):
            return "float64"
    if not trees:
        return "float64"
    for index, item in enumerate(fields):
        # Whole numbers that float32 does not hold would be refused, not rounded.
        if item.dtype == "int" and item.input is not None:
            values = _numbers_of(item.name, index, frame, array)
            if values is None or np.nanmax(np.abs(values), initial=0.0) > _FLOAT32_WHOLE:
                return "float64"
    return "float32"


def _numbers_of(name: str, index: int, frame: Any, array: np.ndarray | None) -> np.ndarray | None:
    if frame is not None:
        series = frame[name] if name in frame.columns else frame.iloc[:, index]
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    if array is not None and array.dtype.kind in "fiub":
        return array[:, index].astype(np.float64)
    return None
