"""What a fitted scikit-learn model takes, column by column.

A row's fields are read from the example's dtypes, else from what the fitted steps remember (categories,
imputed values). Whether a column may be missing, and whether a category that training never saw is
taken, is not guessed from the steps: the model itself is asked with one row.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from infersdk.convert.sklearn_trees import reads_float32
from infersdk.convert.sklearn_writer import class_name
from infersdk.errors import UnsupportedModelError
from infersdk.types import Field, TensorSpec

__all__ = ["Layout", "inner_models", "is_missing", "layout_of", "parts", "positional"]

_TEXT_VECTORIZERS = frozenset({"CountVectorizer", "HashingVectorizer", "TfidfVectorizer"})
_ENCODERS = frozenset({"OneHotEncoder", "OrdinalEncoder", "TargetEncoder"})
_MOST_PROBED = 256
"""Above this many columns, whether one may be missing is asked for all of a kind at once."""

_UNSEEN_TEXT = "\x01unseen"


@dataclass(frozen=True, slots=True)
class Layout:
    """The container, the fields and the graph inputs of a model."""

    container: Literal["dataframe", "array", "text"]
    fields: tuple[Field, ...]
    inputs: tuple[TensorSpec, ...]
    probe: Any = field(default=None, compare=False)
    """Two equal rows the model answers, in its container; None where none was found."""


@dataclass(slots=True)
class _Hint:
    """What the fitted steps say about one column of the input."""

    used: bool = False
    text: bool = False
    vector: bool = False
    categories: tuple[Any, ...] | None = None


def layout_of(model: Any, example: Any) -> Layout:
    """Describe a fitted model's rows.

    Raises
    ------
    UnsupportedModelError
        Its rows are no table and no text, or a column holds dates or mixed values.
    """
    first = _first_step(model)
    if class_name(first) in _TEXT_VECTORIZERS:
        spec = TensorSpec("text", "string", ("N",))
        return Layout("text", (), (spec,), probe=["some words", "some words"])
    if class_name(first) in ("DictVectorizer", "FeatureHasher"):
        raise UnsupportedModelError(
            f"scikit-learn's {type(first).__name__} takes dicts of any keys; expected a model over a "
            "table with fixed columns or over text. Use a ColumnTransformer with a OneHotEncoder"
        )
    frame, array = _table(example)
    names = _names(model, frame, array)
    hints = [_Hint() for _ in names]
    _visit(model, [[index] for index in range(len(names))], hints)
    fields = [_field(name, index, hints[index], frame, array) for index, name in enumerate(names)]
    named = _has_names(model)
    any_text = any(item.dtype == "string" and item.input is not None for item in fields)
    as_frame = named or any_text or (frame is not None and _takes_frames(model))
    fields, inputs = _packed(model, fields, as_frame, frame, array)
    container: Literal["dataframe", "array"] = "dataframe" if as_frame else "array"
    rows = _probe_rows(container, fields, hints, frame, array)
    rows, fields = _asked(model, container, fields, hints, rows)
    return Layout(container, tuple(fields), inputs, probe=rows)


# ---- the model's structure


def parts(model: Any) -> Iterator[Any]:
    """Every fitted estimator inside a model, itself first, in the order rows pass them."""
    yield model
    name = class_name(model)
    if name is None:
        return
    inner: list[Any] = []
    if name == "Pipeline":
        inner = [step for _, step in model.steps]
    elif name == "ColumnTransformer":
        inner = [step for _, step, _ in model.transformers_]
    elif name == "FeatureUnion":
        inner = [step for _, step in model.transformer_list]
    elif name == "CalibratedClassifierCV":
        inner = [part.estimator for part in model.calibrated_classifiers_]
    elif hasattr(model, "best_estimator_"):
        inner = [model.best_estimator_]
    elif name in ("StackingClassifier", "StackingRegressor"):
        inner = [*model.estimators_, model.final_estimator_]
    elif name in _HOLDERS:
        inner = list(np.ravel(np.asarray(model.estimators_, dtype=object)))
    elif name == "TransformedTargetRegressor":
        inner = [model.regressor_]
    elif name == "FixedThresholdClassifier":
        inner = [getattr(model, "estimator_", model.estimator)]
    elif name in ("TunedThresholdClassifierCV", "SelfTrainingClassifier", "RANSACRegressor"):
        inner = [model.estimator_]
    elif name in ("RFE", "RFECV"):
        inner = [model.estimator_]
    for part in inner:
        if part is not None and not isinstance(part, str):
            yield from parts(part)


_HOLDERS = frozenset(
    {
        "AdaBoostClassifier",
        "BaggingClassifier",
        "BaggingRegressor",
        "ClassifierChain",
        "MultiOutputClassifier",
        "MultiOutputRegressor",
        "OneVsOneClassifier",
        "OneVsRestClassifier",
        "RegressorChain",
        "VotingClassifier",
        "VotingRegressor",
    }
)

_CONTAINERS = frozenset({"Pipeline", "FeatureUnion", "ColumnTransformer"})


def _first_step(model: Any) -> Any:
    """The first estimator that reads the rows itself."""
    for part in parts(model):
        name = class_name(part)
        holds = name in _CONTAINERS or name in _HOLDERS or hasattr(part, "best_estimator_")
        wraps = name in ("CalibratedClassifierCV", "StackingClassifier", "StackingRegressor")
        wraps = wraps or name in ("FixedThresholdClassifier", "TunedThresholdClassifierCV")
        if name == "ColumnTransformer" or not (holds or wraps):
            return part
    return model


def _visit(model: Any, columns: Sequence[Sequence[int]], hints: list[_Hint]) -> list[list[int]]:
    """Follow columns through a model and note what its steps say about them.

    ``columns`` holds, for each column that reaches the model, the input columns it is made of one to
    one (one or none). Returned is the same for what the model makes of them.
    """
    name = class_name(model)
    if name == "Pipeline":
        for _, step in model.steps:
            if step is not None and step != "passthrough":
                columns = _visit(step, columns, hints)
        return [list(item) for item in columns]
    if name == "ColumnTransformer":
        result: list[list[int]] = []
        positions = model._transformer_to_input_indices
        for label, step, _ in model.transformers_:
            chosen = [columns[int(index)] for index in positions[label]]
            if step == "drop":
                continue
            if isinstance(step, str):
                _use(chosen, hints)
                result.extend(list(item) for item in chosen)
            elif chosen:
                result.extend(_visit(step, chosen, hints))
        return result
    inner = inner_models(model)
    if inner:
        made: list[list[int]] = []
        for part in inner:
            made = _visit(part, columns, hints)
        return made if len(inner) == 1 else []
    _use(columns, hints)
    if name in _ENCODERS:
        for item, categories in zip(columns, model.categories_, strict=False):
            for index in item:
                values = [_plain(value) for value in categories]
                known = tuple(value for value in values if not is_missing(value))
                hints[index].categories = hints[index].categories or known
                if any(isinstance(value, str) for value in known):
                    hints[index].text = True
        return []
    if name == "SimpleImputer":
        for item, value in zip(columns, model.statistics_, strict=False):
            for index in item:
                hints[index].text |= isinstance(value, str)
        if len(columns) == len(model.statistics_) and not model.add_indicator:
            kept = [i for i, value in enumerate(model.statistics_) if not is_missing(value)]
            return [list(columns[i]) for i in kept]
        return []
    if name in _TEXT_VECTORIZERS:
        for item in columns:
            for index in item:
                hints[index].text = hints[index].vector = True
        return []
    if getattr(model, "_preprocessor", None) is not None:
        # HistGradientBoosting with categorical columns.
        _visit(model._preprocessor, columns, hints)
        return []
    if name in ("MaxAbsScaler", "MinMaxScaler", "RobustScaler", "StandardScaler"):
        return [list(item) for item in columns]
    return []


def inner_models(model: Any) -> list[Any]:
    """Estimators inside one that read the very columns it is given."""
    name = class_name(model)
    if name is None or name in _CONTAINERS:
        return (
            [step for _, step in model.transformer_list if not isinstance(step, str)]
            if (name == "FeatureUnion")
            else []
        )
    if hasattr(model, "best_estimator_"):
        return [model.best_estimator_]
    if name == "CalibratedClassifierCV":
        return [part.estimator for part in model.calibrated_classifiers_]
    if name in ("VotingClassifier", "VotingRegressor", "StackingClassifier", "StackingRegressor"):
        return list(model.estimators_)
    if name == "TransformedTargetRegressor":
        return [model.regressor_]
    if name == "FixedThresholdClassifier":
        return [getattr(model, "estimator_", model.estimator)]
    if name in ("TunedThresholdClassifierCV", "SelfTrainingClassifier"):
        return [model.estimator_]
    if name in ("MultiOutputRegressor", "MultiOutputClassifier", "OneVsRestClassifier"):
        return list(model.estimators_)
    return []


def _use(columns: Sequence[Sequence[int]], hints: list[_Hint]) -> None:
    for item in columns:
        for index in item:
            hints[index].used = True


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def _has_names(model: Any) -> bool:
    return getattr(model, "feature_names_in_", None) is not None


def _takes_frames(model: Any) -> bool:
    """Whether columns are taken by name although no names were remembered."""
    return getattr(model, "n_features_in_", None) is None


# ---- names and dtypes


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
    names = getattr(model, "feature_names_in_", None)
    if names is not None:
        return [str(name) for name in names]
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


def _field(name: str, index: int, hint: _Hint, frame: Any, array: np.ndarray | None) -> Field:
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
        values = tuple(_plain(value) for value in dtype.categories)
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
_HELD = _HOLDERS | {"CalibratedClassifierCV"}
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


# ---- asking the model


def _probe_rows(
    container: str,
    fields: Sequence[Field],
    hints: Sequence[_Hint],
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
            value = _plain(array[0, index])
        columns[item.name] = pd.Series([value, value])
    return pd.DataFrame(columns)


def _typical(item: Field, hint: _Hint) -> Any:
    if item.categories:
        return item.categories[0]
    if item.dtype == "string":
        return "some words" if hint.vector else "a"
    return True if item.dtype == "bool" else 1.0 if item.dtype == "float" else 1


def _asked(
    model: Any,
    container: str,
    fields: list[Field],
    hints: Sequence[_Hint],
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
        lambda chosen: ask(_changed(rows, fields, chosen, container, missing=True)),
        [
            [i for i in used if fields[i].dtype != "string"],
            [i for i in used if fields[i].dtype == "string"],
        ],
    )
    unseen = _allowed(
        lambda chosen: ask(_changed(rows, fields, chosen, container, missing=False)),
        [[i for i in used if hints[i].categories is not None]],
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
        result.append(replace(item, missing=may_miss, unknown="refuse" if refuses else "allow"))
    return rows, result


def _question(model: Any) -> Callable[[Any], bool] | None:
    method = next((m for m in ("predict", "transform") if hasattr(model, m)), None)
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
    """Rows under the names that a model without names was fitted with: none."""
    if hasattr(rows, "columns") and not _has_names(model):
        width = rows.shape[1]
        if list(rows.columns) == [f"x{index}" for index in range(width)]:
            return rows.set_axis(range(width), axis=1)
    return rows


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
    rows: Any, fields: Sequence[Field], chosen: Sequence[int], container: str, *, missing: bool
) -> Any:
    if container == "array":
        changed = rows.copy()
        for index in chosen:
            changed[:, index] = np.nan if missing else _unseen(fields[index])
        return changed
    import pandas as pd

    changed = rows.copy()
    for index in chosen:
        item = fields[index]
        if missing:
            # pandas would make None in a column of bool False.
            holds_none = rows[item.name].dtype.kind not in "biu"
            dtype = rows[item.name].dtype if holds_none else np.float64
            series = pd.Series([None, None], dtype=dtype)
            changed[item.name] = series
        else:
            changed[item.name] = pd.Series([_unseen(item)] * 2)
    return changed


def _unseen(item: Field) -> Any:
    if item.dtype == "string":
        return _UNSEEN_TEXT
    numbers = [float(value) for value in item.categories or (0,)]
    return int(max(numbers)) + 1
