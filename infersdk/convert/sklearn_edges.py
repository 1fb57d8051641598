"""Rows that show a wrong conversion of a scikit-learn model.

The fitted model says where its answers change: at split thresholds, bin edges and quantiles, followed back
through the scalers and imputers in front of them to the column an app passes; at every category, one it
never saw, and missing values where it takes those; and over the range its scalers were fitted on. Words of
a vocabulary are joined into texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.convert.sklearn_splits import turnover
from infersdk.convert.sklearn_structure import inner_models, parts
from infersdk.convert.sklearn_writer import RESAMPLER, class_name, is_missing
from infersdk.convert.tree_rows import ColumnEdges
from infersdk.types import Field, Signature

__all__ = ["edge_rows"]

_UNSEEN = "never seen before"
_MISSING_SHARE = 0.08
_MOST_THRESHOLDS = 4096
"""Of a column; a forest may have more than any number of rows can show."""


@dataclass(frozen=True, slots=True)
class _Path:
    """How a column inside the model comes from one that an app passes: an increasing function."""

    index: int
    function: Callable[[np.ndarray], np.ndarray] | None = None

    def then(self, function: Callable[[np.ndarray], np.ndarray]) -> _Path:
        inner = self.function
        if inner is None:
            return _Path(self.index, function)
        return _Path(self.index, lambda values: function(inner(values)))


@dataclass(slots=True)
class _Found:
    """What the model does at one column."""

    thresholds: list[NDArray[np.float64]] = field(default_factory=list)
    specials: list[float] = field(default_factory=list)
    center: float = 0.0
    spread: float = 1.0


def edge_rows(
    model: Any,
    signature: Signature,
    example: Any,
    *,
    n_rows: int,
    rng: np.random.Generator,
) -> Any | None:
    """Make up rows where a conversion is most likely to go wrong.

    Parameters
    ----------
    model : sklearn.base.BaseEstimator
        Fitted; only read.
    signature : Signature
        From ``infer_signature``.
    example : rows or None
        Where a row is not at an edge, it takes a value of the example.
    n_rows : int
    rng : numpy.random.Generator

    Returns
    -------
    DataFrame, ndarray of float64 (n_rows, n_fields), list of str, or None
        In the model's own container; None where there is nothing to start from.
    """
    if signature.container == "dicts":
        return None
    if signature.container == "text":
        return _texts(model, example, n_rows, rng)
    fields = signature.fields
    found = [_Found() for _ in fields]
    _walk(model, [_Path(index) for index in range(len(fields))], found)
    columns: list[Any] = []
    # Half of the rows have every column at an edge, the others a few, so that the rest of the row
    # leads to the places that typical rows reach.
    share = np.where(np.arange(n_rows) % 2 == 0, 1.0, 0.3)
    for index, item in enumerate(fields):
        known = _example_values(item, index, example)
        if item.dtype == "string":
            columns.append(_text_column(item, known, n_rows, rng))
        else:
            columns.append(_number_column(item, found[index], known, share, n_rows, rng))
    if signature.container == "array":
        return np.column_stack([np.asarray(column, np.float64) for column in columns])
    import pandas as pd

    return pd.DataFrame(
        {item.name: _series(item, column) for item, column in zip(fields, columns, strict=True)}
    )


# ---- what the model says


def _walk(model: Any, columns: Sequence[_Path | None], found: list[_Found]) -> list[_Path | None]:
    """Note the edges of a model; return the paths of the columns it makes, where it keeps them."""
    name = class_name(model)
    if name == "Pipeline":
        for _, step in model.steps:
            if step is not None and step != "passthrough":
                columns = _walk(step, columns, found)
        return list(columns)
    if name == "ColumnTransformer":
        made: list[_Path | None] = []
        for label, step, _ in model.transformers_:
            chosen = [columns[int(i)] for i in model._transformer_to_input_indices[label]]
            if isinstance(step, str):
                made.extend(chosen if step != "drop" else [])
            elif chosen:
                made.extend(_walk(step, chosen, found))
        return made
    if name == "FeatureUnion":
        made = []
        for _, step in model.transformer_list:
            if not isinstance(step, str):
                made.extend(_walk(step, columns, found))
            elif step == "passthrough":
                made.extend(columns)
        return made
    if name == RESAMPLER:
        return list(columns)
    inner = inner_models(model)
    if inner:
        for part in inner:
            _walk(part, columns, found)
        return []
    if name in ("BaggingClassifier", "BaggingRegressor"):
        for part, features in zip(model.estimators_, model.estimators_features_, strict=True):
            _walk(part, [columns[int(i)] for i in features], found)
        return []
    width = _scaled(model, columns, found)
    if width is not None:
        return width
    if name == "SimpleImputer":
        kept = [i for i, value in enumerate(model.statistics_) if not is_missing(value)]
        for i in kept:
            path, value = columns[i], model.statistics_[i]
            if path is not None and path.function is None and not isinstance(value, str):
                found[path.index].specials.append(float(value))
        extra = [None] * len(model.indicator_.features_) if model.add_indicator else []
        return [columns[i] for i in kept] + extra
    if hasattr(model, "get_support") and not hasattr(model, "predict"):
        return [columns[int(i)] for i in model.get_support(indices=True)]
    if name == "OrdinalEncoder" or name == "OneHotEncoder":
        return [None] * _width_out(model)
    for index, thresholds in _thresholds(model):
        path = columns[index] if index < len(columns) else None
        if path is not None:
            limits = np.asarray(thresholds, np.float64)
            if path.function is not None:
                limits = turnover(path.function, limits)
            found[path.index].thresholds.append(limits[np.isfinite(limits)])
    return [None] * _width_out(model)


def _width_out(model: Any) -> int:
    try:
        return len(model.get_feature_names_out())
    except Exception:  # not a transformer, or one that cannot name its columns
        return 0


def _scaled(
    model: Any, columns: Sequence[_Path | None], found: list[_Found]
) -> list[_Path | None] | None:
    name = class_name(model)
    if name == "StandardScaler":
        offset = model.mean_ if model.with_mean else None
        scale = model.scale_ if model.with_std else None
    elif name == "RobustScaler":
        offset = model.center_ if model.with_centering else None
        scale = model.scale_ if model.with_scaling else None
    elif name == "MaxAbsScaler":
        offset, scale = None, model.scale_
    elif name == "MinMaxScaler":
        offset, scale = model.data_min_, model.data_range_
    else:
        return None
    n_columns = len(columns)
    offset = np.zeros(n_columns) if offset is None else np.asarray(offset, np.float64)
    scale = np.ones(n_columns) if scale is None else np.asarray(scale, np.float64)
    made: list[_Path | None] = []
    for index, path in enumerate(columns):
        if path is None:
            made.append(None)
            continue
        shift, unit = float(offset[index]), float(scale[index]) or 1.0
        if path.function is None:
            item = found[path.index]
            item.center, item.spread = shift, unit
            item.specials += [shift + unit * step for step in (-3.0, -1.0, 0.0, 1.0, 3.0)]
        if name == "MinMaxScaler":
            factor, addend = float(model.scale_[index]), float(model.min_[index])
            made.append(path.then(partial(_times_plus, factor, addend)))
        else:
            made.append(path.then(partial(_minus_over, shift, unit)))
    return made


def _times_plus(factor: float, addend: float, values: np.ndarray) -> np.ndarray:
    return values * factor + addend


def _minus_over(shift: float, unit: float, values: np.ndarray) -> np.ndarray:
    return (values - shift) / unit


def _thresholds(model: Any) -> list[tuple[int, NDArray[np.float64]]]:
    """Feature and thresholds of everything in a model that compares its columns."""
    name = class_name(model)
    if name is not None and name.startswith("HistGradientBoosting"):
        return _hist_thresholds(model)
    if hasattr(model, "bin_edges_"):
        return [(index, np.asarray(edges)) for index, edges in enumerate(model.bin_edges_)]
    if hasattr(model, "quantiles_"):
        return list(enumerate(np.asarray(model.quantiles_).T))
    if name == "Binarizer":
        limit = np.array([float(model.threshold)])
        return [(index, limit) for index in range(int(model.n_features_in_))]
    groups: dict[int, list[NDArray[np.float64]]] = {}
    features_of = getattr(model, "estimators_features_", None)
    for position, tree in enumerate(_trees(model)):
        split = tree.children_left >= 0
        feature = tree.feature[split]
        if features_of is not None and len(features_of) > position:
            feature = np.asarray(features_of[position])[feature]
        for index in np.unique(feature).tolist():
            groups.setdefault(index, []).append(tree.threshold[split][feature == index])
    return [(index, np.concatenate(limits)) for index, limits in groups.items()]


def _trees(model: Any) -> list[Any]:
    tree = getattr(model, "tree_", None)
    if hasattr(tree, "children_left"):  # that of a kernel density is one of neighbors
        return [tree]
    members = np.ravel(np.asarray(getattr(model, "estimators_", []), dtype=object))
    return [member.tree_ for member in members if hasattr(member, "tree_")]


def _hist_thresholds(model: Any) -> list[tuple[int, NDArray[np.float64]]]:
    order = np.arange(int(model.n_features_in_))
    if model.is_categorical_ is not None:
        # The trees count categorical columns first.
        order = np.concatenate(
            [order[model.is_categorical_], order[np.logical_not(model.is_categorical_)]]
        )
    nodes = np.concatenate([p.nodes for stage in model._predictors for p in stage])
    nodes = nodes[(nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0)]
    return [
        (int(order[index]), nodes["num_threshold"][nodes["feature_idx"] == index])
        for index in np.unique(nodes["feature_idx"])
    ]


# ---- columns of rows


def _example_values(item: Field, index: int, example: Any) -> list[Any] | None:
    """The example's values of one column."""
    if example is None:
        return None
    if hasattr(example, "columns"):
        if item.name in example.columns:
            return list(example[item.name].tolist()) or None
        if len(example.columns) > index:
            return list(example.iloc[:, index].tolist()) or None
        return None
    if isinstance(example, list) and example and isinstance(example[0], dict):
        return [row.get(item.name) for row in example]
    array = example.toarray() if hasattr(example, "toarray") else np.asarray(example)
    if array.ndim == 2 and array.shape[1] > index and len(array):
        return list(array[:, index].tolist())
    return None


def _number_column(
    item: Field,
    found: _Found,
    known: list[Any] | None,
    share: NDArray[np.float64],
    n_rows: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    whole = item.dtype == "int"
    if item.dtype == "bool":
        values = np.array([0.0, 1.0])
    elif item.categories is not None:
        values = np.asarray(item.categories, np.float64)
        if item.unknown == "allow":
            values = np.append(values, np.floor(values.max()) + 1.0)
    else:
        values = _edges(found, whole, rng)
    only_these = item.dtype == "bool" or item.categories is not None
    numbers = None if known is None else np.array([_number(value) for value in known])
    if numbers is not None and not np.isnan(numbers).all():
        base = rng.choice(numbers[np.isfinite(numbers)], n_rows)
    elif only_these:
        base = rng.choice(values, n_rows)
    else:
        base = found.center + found.spread * rng.normal(size=n_rows)
        if len(values):
            base = np.where(rng.random(n_rows) < 0.5, base, rng.choice(values, n_rows))
        base = np.floor(base) if whole else base
    if len(values):
        turns = -(-n_rows // len(values))
        chosen = np.concatenate([rng.permutation(values) for _ in range(turns)])[:n_rows]
        base = np.where(rng.random(n_rows) < share, chosen, base)
    if item.missing == "nan":
        base = np.where(rng.random(n_rows) < _MISSING_SHARE, np.nan, base)
    return base


def _edges(found: _Found, whole: bool, rng: np.random.Generator) -> NDArray[np.float64]:
    limits = np.unique(np.concatenate([*found.thresholds, np.empty(0)]))
    if len(limits) > _MOST_THRESHOLDS:
        limits = np.sort(rng.choice(limits, _MOST_THRESHOLDS, replace=False))
    values = ColumnEdges(limits, tuple(found.specials)).values(whole=whole)
    if whole:
        return np.unique(np.floor(values))
    # A comparison in float64 turns over between the threshold and the next number.
    exact = np.concatenate([limits, np.nextafter(limits, np.inf), np.nextafter(limits, -np.inf)])
    return np.unique(np.concatenate([values, exact]))


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _text_column(
    item: Field, known: list[Any] | None, n_rows: int, rng: np.random.Generator
) -> list[Any]:
    pool: list[Any] = list(item.categories or ())
    seen = {value for value in known or () if isinstance(value, str)}
    pool += sorted(seen.difference(item.categories or ()))
    if item.unknown == "allow" or not pool:
        pool.append(_UNSEEN)
    turns = -(-n_rows // len(pool))
    order = np.concatenate([rng.permutation(len(pool)) for _ in range(turns)])[:n_rows]
    column = [pool[index] for index in order.tolist()]
    if item.missing == "empty":
        # scikit-learn tells None from NaN; pandas makes NaN of both, unless the dtype is object.
        blank: Any = None if any(value is None for value in known or ()) else float("nan")
        absent = rng.random(n_rows) < max(_MISSING_SHARE, 1.0 / (len(pool) + 1))
        column = [
            blank if gone else value for value, gone in zip(column, absent.tolist(), strict=True)
        ]
    return column


def _series(item: Field, column: Any) -> Any:
    import pandas as pd

    if item.source_dtype == "category":
        known = [None if is_missing(value) else value for value in column]
        categories = list(item.categories or ())
        unseen = {value for value in known if value is not None}.difference(categories)
        return pd.Categorical(known, categories=[*categories, *sorted(unseen)])
    if item.dtype == "string":
        try:
            return pd.Series(column, dtype=item.source_dtype or "object")
        except (TypeError, ValueError):
            return pd.Series(column, dtype="object")
    values = np.asarray(column, np.float64)
    if item.dtype == "float" and item.source_dtype in ("float16", "float32"):
        return pd.Series(values, dtype=item.source_dtype)
    if np.isnan(values).any():
        return pd.Series(values)
    if item.dtype == "bool":
        return pd.Series(values != 0.0)
    if item.dtype == "int" and np.abs(values).max(initial=0.0) < 2.0**62:
        return pd.Series(values.astype(np.int64))
    return pd.Series(values)


# ---- texts


def _texts(model: Any, example: Any, n_rows: int, rng: np.random.Generator) -> list[str] | None:
    """Texts of known words, in other cases, with signs between them, and a few of something else."""
    words: list[str] = []
    for part in parts(model):
        vocabulary = getattr(part, "vocabulary_", None)
        if isinstance(vocabulary, dict):
            words.extend(str(word) for word in vocabulary)
    known = (
        [text for text in example or () if isinstance(text, str)]
        if (isinstance(example, list | tuple))
        else []
    )
    if not words and not known:
        return None
    words = sorted({*words, *(word for text in known for word in text.split())})
    words += ["zzunseen", "x", "42", "snake_case", "naïve", "Straße", "don't", "e-mail"]
    signs = np.array([" ", "  ", ", ", ". ", "-", "\n", "! "])
    texts = ["", " ", "..."]
    while len(texts) < n_rows:
        chosen = rng.choice(len(words), size=int(rng.integers(1, 12)))
        pieces = []
        for index in chosen.tolist():
            word = words[index]
            case = rng.random()
            pieces.append(word.upper() if case < 0.15 else word.title() if case < 0.3 else word)
            pieces.append(str(rng.choice(signs)))
        texts.append("".join(pieces))
    return texts[:n_rows]
