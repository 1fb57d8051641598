"""Reading CatBoost's JSON: the trees, the columns and the tables of target statistics.

The JSON is what ``save_model(..., format="json")`` writes (CatBoost 1.2). Borders in it are float32 and
leaf values float64, with all their digits.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from infersdk.errors import UnsupportedModelError

__all__ = ["Ctr", "Dump", "Element", "Feature", "Split", "StoredTree", "read"]

_NO_KEY = (1 << 64) - 1
"""Stands in the empty places of a hash table."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of a row.

    ``kind`` is "float", "categorical", "text" or "embedding". ``nan_right``: whether NaN is above every
    border, and not below. ``number``: by which splits name it among the features of its kind.
    """

    kind: Literal["float", "categorical", "text", "embedding"]
    number: int
    nan_right: bool = False


@dataclass(frozen=True, slots=True)
class Element:
    """A part of what a statistic is taken over: a category, or the yes or no of a split.

    ``column`` is the row's. With ``border`` it is whether the number is above it, with ``value`` whether
    the category has that hash.
    """

    column: int
    border: float | None = None
    value: int | None = None


@dataclass(frozen=True, slots=True)
class Ctr:
    """A target statistic of a combination of elements, computed from counts in a table.

    Parameters
    ----------
    kind : str
        CatBoost's name for how counts become a number: ``"Borders"``, ``"Counter"``, ...
    elements : tuple of Element
        Categories first, then numbers, then hashes: the order of the combination's hash.
    keys : ndarray of uint64, (n,)
        Hashes of the combinations seen in training, sorted.
    records : ndarray of float32, (n, width)
        What was counted of each.
    denominator : float
        For counters: what counts are divided by.
    target_border, numerator, prior, shift, scale
        The parameters of the formula.
    """

    kind: str
    elements: tuple[Element, ...]
    keys: NDArray[np.uint64]
    records: NDArray[np.float32]
    denominator: float
    target_border: int
    numerator: float
    prior: float
    shift: float
    scale: float

    def values(self) -> NDArray[np.float32]:
        """Return the statistic of a combination never seen, then of those in ``keys``."""
        records = np.vstack([np.zeros((1, self.records.shape[1]), np.float32), self.records])
        total = records.sum(axis=1, dtype=np.float32)
        if self.kind == "Borders":
            good = records[:, self.target_border + 1 :].sum(axis=1, dtype=np.float32)
        elif self.kind == "Buckets":
            good = records[:, self.target_border]
        elif self.kind in ("BinarizedTargetMeanValue", "FloatTargetMeanValue"):
            good, total = records[:, 0], records[:, 1]
        elif self.kind in ("Counter", "FeatureFreq"):
            good, total = records[:, 0], np.full(len(records), self.denominator, np.float32)
        else:
            raise UnsupportedModelError(
                f"Expected target statistics of a known kind, got {self.kind!r}. "
                "Train with simple_ctr and combinations_ctr of Borders, Buckets, "
                "BinarizedTargetMeanValue or Counter."
            )
        # In float32 as CatBoost does, since the statistic is compared with borders.
        ratio = (good + np.float32(self.numerator)) / (total + np.float32(self.prior))
        return (ratio + np.float32(self.shift)) * np.float32(self.scale)


@dataclass(frozen=True, slots=True)
class Split:
    """What a split asks. ``source`` is the row's column, or for "ctr" the statistic's number."""

    kind: Literal["float", "one_hot", "ctr"]
    source: int
    border: float = 0.0
    value: int = 0


@dataclass(frozen=True, slots=True)
class StoredTree:
    """One tree. Children are numbered as in :class:`Tree`: the left one is taken on "no"."""

    splits: Sequence[Split]
    """One per level, the last leaf bit first, for symmetric trees; else one per node."""
    left: NDArray[np.int64] | None
    """None for symmetric trees."""
    right: NDArray[np.int64] | None
    leaf: NDArray[np.float64]
    """(n_leaves, n_outputs)."""

    @property
    def n_nodes(self) -> int:
        return 2 * len(self.leaf) - 1


@dataclass(frozen=True)
class Dump:
    """What a model's JSON and its wrapper say, in one place."""

    wrapper: Literal["classifier", "other"]
    loss: str
    prediction_type: str
    """What ``predict`` gives, by CatBoost's name; "Class" for classifiers."""
    class_labels: tuple[Any, ...]
    label_dtype: str
    threshold: float
    """The probability above which a binary classifier says yes."""
    names: tuple[str, ...]
    features: tuple[Feature, ...]
    ctrs: tuple[Ctr, ...]
    trees: tuple[StoredTree, ...]
    scale: float
    bias: NDArray[np.float64]
    withheld: str = ""
    """Why CatBoost does not write the model as JSON; then there are no trees here."""

    @property
    def n_outputs(self) -> int:
        return len(self.bias)

    @property
    def is_named(self) -> bool:
        """Whether training saw names of columns, and not their numbers."""
        return self.names != tuple(str(index) for index in range(len(self.names)))

    def columns(self, kind: str) -> tuple[int, ...]:
        return tuple(i for i, feature in enumerate(self.features) if feature.kind == kind)

    @cached_property
    def used_ctrs(self) -> tuple[int, ...]:
        """Numbers of the statistics that some split compares."""
        numbers = {s.source for tree in self.trees for s in tree.splits if s.kind == "ctr"}
        return tuple(sorted(numbers))

    @cached_property
    def one_hot_values(self) -> dict[int, set[int]]:
        """The hashes that splits ask for, by column."""
        asked: dict[int, set[int]] = {}
        for tree in self.trees:
            for split in tree.splits:
                if split.kind == "one_hot":
                    asked.setdefault(split.source, set()).add(split.value)
        for number in self.used_ctrs:
            for element in self.ctrs[number].elements:
                if element.value is not None:
                    asked.setdefault(element.column, set()).add(element.value)
        return asked

    @cached_property
    def borders(self) -> dict[int, NDArray[np.float64]]:
        """The borders that numbers are compared with, by column, sorted."""
        found: dict[int, set[float]] = {}
        for tree in self.trees:
            for split in tree.splits:
                if split.kind == "float":
                    found.setdefault(split.source, set()).add(split.border)
        for number in self.used_ctrs:
            for element in self.ctrs[number].elements:
                if element.border is not None:
                    found.setdefault(element.column, set()).add(element.border)
        return {column: np.array(sorted(values)) for column, values in found.items()}


def read(model: Any) -> Dump:
    """Read a fitted estimator.

    Raises
    ------
    UnsupportedModelError
        It is not fitted, or holds what is not known.
    """
    name = type(model).__name__
    if not model.is_fitted():
        raise UnsupportedModelError(
            f"Expected a fitted {name}, got one without trees. Call fit() or load_model() first."
        )
    import catboost

    try:
        dump = _json(model)
    except catboost.CatBoostError as error:
        # Without the file and line of CatBoost's source that it starts with.
        return _without_trees(model, re.sub(r"^\S+:\d+: ", "", str(error)))
    info = dump["model_info"]
    params = info.get("params", {})
    params = json.loads(params) if isinstance(params, str) else params
    scale, bias = dump["scale_and_bias"]
    bias = np.atleast_1d(np.asarray(bias, dtype=np.float64))
    names = tuple(str(name) for name in model.feature_names_)
    features = _features(dump["features_info"], len(names))
    ctrs = _ctrs(dump, features)
    starts = _ctr_starts(dump["features_info"])
    classes, dtype = _classes(info.get("class_params") or {}, len(bias))
    is_classifier = hasattr(model, "predict_proba")
    threshold = model.get_probability_threshold() if is_classifier else None
    return Dump(
        wrapper="classifier" if is_classifier else "other",
        loss=str(params.get("loss_function", {}).get("type", "")),
        prediction_type=_prediction_type(model),
        class_labels=classes,
        label_dtype=dtype,
        threshold=0.5 if threshold is None else float(threshold),
        names=names,
        features=features,
        ctrs=ctrs,
        trees=tuple(_trees(dump, features, starts, len(bias))),
        scale=float(scale),
        bias=bias,
    )


def _json(model: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.json")
        model.save_model(path, format="json")
        with open(path, encoding="utf-8") as file:
            dump: dict[str, Any] = json.load(file)
    return dump


def _prediction_type(model: Any) -> str:
    if hasattr(model, "predict_proba"):
        return "Class"
    # CatBoostRegressor decides by the loss; the others answer raw values.
    ask = getattr(model, "_get_default_prediction_type", None)
    return "RawFormulaVal" if ask is None else str(ask())


def _without_trees(model: Any, reason: str) -> Dump:
    """Describe a model that has no JSON: one over text or embeddings, or with infinite borders."""
    names = tuple(str(name) for name in model.feature_names_)
    features = [Feature("float", -1)] * len(names)
    found: tuple[tuple[Literal["categorical", "text", "embedding"], Any], ...] = (
        ("categorical", model.get_cat_feature_indices()),
        ("text", model.get_text_feature_indices()),
        ("embedding", model.get_embedding_feature_indices()),
    )
    for kind, columns in found:
        for column in columns:
            features[column] = Feature(kind, -1)
    classes = tuple(np.asarray(getattr(model, "classes_", ())).tolist())
    loss = "Logloss" if len(classes) == 2 else "MultiClass" if classes else ""
    return Dump(
        wrapper="classifier" if hasattr(model, "predict_proba") else "other",
        loss=loss,
        prediction_type=_prediction_type(model),
        class_labels=classes,
        label_dtype="object",
        threshold=0.5,
        names=names,
        features=tuple(features),
        ctrs=(),
        trees=(),
        scale=1.0,
        bias=np.zeros(max(1, len(classes)) if len(classes) != 2 else 1),
        withheld=reason,
    )


def _features(info: Mapping[str, Any], n_features: int) -> tuple[Feature, ...]:
    kinds: tuple[tuple[Literal["float", "categorical"], str], ...] = (
        ("float", "float_features"),
        ("categorical", "categorical_features"),
    )
    # A column that no split reads may be left out; it counts as a number.
    features = [Feature("float", -1)] * n_features
    for kind, key in kinds:
        for item in info.get(key, ()):
            features[item["flat_feature_index"]] = Feature(
                kind,
                item["feature_index"],
                item.get("nan_value_treatment") == "AsTrue",
            )
    return tuple(features)


def _positions(features: Sequence[Feature], kind: str) -> dict[int, int]:
    """Where the features of a kind stand in a row."""
    return {f.number: column for column, f in enumerate(features) if f.kind == kind}


def _ctr_starts(info: Mapping[str, Any]) -> dict[int, int]:
    """Return each statistic by the split_index of its borders, which come after all other splits."""
    if not info.get("ctrs"):
        return {}
    index = sum(len(item.get("borders") or ()) for item in info.get("float_features", ()))
    index += sum(len(item.get("values") or ()) for item in info.get("categorical_features", ()))
    found = {}
    for number, item in enumerate(info["ctrs"]):
        for _ in item["borders"]:
            found[index] = number
            index += 1
    return found


def _ctrs(dump: Mapping[str, Any], features: Sequence[Feature]) -> tuple[Ctr, ...]:
    numbers, categories = _positions(features, "float"), _positions(features, "categorical")
    tables: dict[str, tuple[NDArray[np.uint64], NDArray[np.float32], float]] = {}
    ctrs = []
    for item in dump["features_info"].get("ctrs", ()):
        identifier = item["identifier"]
        if identifier not in tables:
            tables[identifier] = _table(dump["ctr_data"][identifier])
        elements: list[list[Element]] = [[], [], []]
        for part in item["elements"]:
            kind = part["combination_element"]
            if kind == "cat_feature_value":
                elements[0].append(Element(categories[part["cat_feature_index"]]))
            elif kind == "float_feature":
                column = numbers[part["float_feature_index"]]
                elements[1].append(Element(column, border=float(part["border"])))
            elif kind == "cat_feature_exact_value":
                column = categories[part["cat_feature_index"]]
                elements[2].append(Element(column, value=int(part["value"])))
            else:
                raise UnsupportedModelError(f"CatBoost's combination element {kind!r} is not known")
        keys, records, denominator = tables[identifier]
        ctrs.append(
            Ctr(
                kind=item["ctr_type"],
                elements=tuple(elements[0] + elements[1] + elements[2]),
                keys=keys,
                records=records,
                denominator=denominator,
                target_border=int(item["target_border_idx"]),
                numerator=float(item["prior_numerator"]),
                prior=float(item["prior_denomerator"]),  # spelled so in the file
                shift=float(item["shift"]),
                scale=float(item["scale"]),
            )
        )
    return tuple(ctrs)


def _table(raw: Mapping[str, Any]) -> tuple[NDArray[np.uint64], NDArray[np.float32], float]:
    stride = int(raw["hash_stride"])
    flat = raw["hash_map"]
    keys = [int(key) for key in flat[::stride]]
    places = [place for place, key in enumerate(keys) if key != _NO_KEY]
    places.sort(key=lambda place: keys[place])
    columns = [np.array(flat[offset::stride], dtype=np.float32) for offset in range(1, stride)]
    return (
        np.array([keys[place] for place in places], dtype=np.uint64),
        np.column_stack(columns)[places],
        float(raw["counter_denominator"]),
    )


def _classes(raw: Mapping[str, Any], n_outputs: int) -> tuple[tuple[Any, ...], str]:
    names = raw.get("class_names") or list(range(max(2, n_outputs)))
    kinds: dict[str, tuple[Any, str]] = {
        "Integer": (int, "int64"),
        "Float": (float, "float64"),
        "String": (str, "object"),
        "Boolean": (bool, "bool"),
    }
    convert, dtype = kinds.get(raw.get("class_label_type", "Integer"), (str, "object"))
    return tuple(convert(name) for name in names), dtype


def _trees(
    dump: Mapping[str, Any],
    features: Sequence[Feature],
    ctr_starts: Mapping[int, int],
    n_outputs: int,
) -> Iterator[StoredTree]:
    numbers, categories = _positions(features, "float"), _positions(features, "categorical")

    def split(raw: Mapping[str, Any]) -> Split:
        kind = raw["split_type"]
        if kind == "FloatFeature":
            return Split("float", numbers[raw["float_feature_index"]], float(raw["border"]))
        if kind == "OneHotFeature":
            column = categories[raw["cat_feature_index"]]
            return Split("one_hot", column, value=int(raw["value"]))
        if kind == "OnlineCtr":
            return Split("ctr", ctr_starts[raw["split_index"]], float(raw["border"]))
        raise UnsupportedModelError(
            f"CatBoost's split {kind!r} is not known; expected FloatFeature, OneHotFeature or OnlineCtr"
        )

    for raw in dump.get("oblivious_trees", ()):
        leaf = np.asarray(raw["leaf_values"], dtype=np.float64).reshape(-1, n_outputs)
        splits = [split(item) for item in reversed(raw.get("splits") or ())]
        yield StoredTree(splits, None, None, leaf)
    for raw in dump.get("trees", ()):
        yield _nested(raw, split, n_outputs)


def _nested(raw: Mapping[str, Any], split: Any, n_outputs: int) -> StoredTree:
    """Flatten a tree of dicts without recursion."""
    splits: list[Split] = []
    left: list[int] = []
    right: list[int] = []
    leaves: list[Any] = []
    waiting: list[tuple[Mapping[str, Any], list[int], int]] = []

    def place(node: Mapping[str, Any]) -> int:
        if "split" not in node:
            leaves.append(node["value"])
            return ~(len(leaves) - 1)
        splits.append(split(node["split"]))
        left.append(0)
        right.append(0)
        number = len(splits) - 1
        waiting.append((node["left"], left, number))
        waiting.append((node["right"], right, number))
        return number

    place(raw)
    while waiting:
        node, side, parent = waiting.pop()
        side[parent] = place(node)
    return StoredTree(
        splits,
        np.array(left, dtype=np.int64),
        np.array(right, dtype=np.int64),
        np.asarray(leaves, dtype=np.float64).reshape(-1, n_outputs),
    )
