"""Steps of other packages that work as scikit-learn's: category_encoders and imbalanced-learn.

Encoders of category_encoders are asked for every category they know, one they do not know and a missing
one; the answers are a table that the graph looks up. That holds for every encoder whose columns each depend
on one column of a row: all but HashingEncoder, and encoders of composite columns.

imbalanced-learn's samplers change the training rows only; its ensembles and its Pipeline answer as the classes
of scikit-learn that they inherit from (``sklearn_writer.class_name``).

Tested with category_encoders 2.11 and imbalanced-learn 0.14.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from infersdk.convert.sklearn_encoders import codes_of
from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_writer import (
    RESAMPLER,
    Writer,
    is_missing,
    unsupported,
    writes,
)

__all__ = ["known_categories"]

_ENCODERS = (
    "BackwardDifferenceEncoder",
    "BaseNEncoder",
    "BinaryEncoder",
    "CatBoostEncoder",
    "CountEncoder",
    "CountTargetEncoder",
    "GLMMEncoder",
    "GrayEncoder",
    "HelmertEncoder",
    "JamesSteinEncoder",
    "LeaveOneOutEncoder",
    "MEstimateEncoder",
    "OneHotEncoder",
    "OrdinalEncoder",
    "PolynomialEncoder",
    "QuantileEncoder",
    "RankHotEncoder",
    "SumEncoder",
    "SummaryEncoder",
    "TargetEncoder",
    "WOEEncoder",
)

_UNSEEN_TEXT = "\x01unseen"


@writes("transform", RESAMPLER)
def _resampler(writer: Writer, model: Any, columns: Columns) -> Columns:
    return columns


# ---- category_encoders


def known_categories(encoder: Any, position: int) -> tuple[Any, ...] | None:
    """The values that an encoder learned for one of its columns; None for a column that it passes on."""
    name = encoder.feature_names_in_[position]
    if name not in encoder.cols:
        return None
    values: list[Any] = []
    for value in _learned(encoder, name):
        plain = value.item() if isinstance(value, np.generic) else value
        if not is_missing(plain) and plain not in values:
            values.append(plain)
    return tuple(values)


def _learned(encoder: Any, name: Any) -> list[Any]:
    holders = [encoder, getattr(encoder, "ordinal_encoder", None)]
    holders += [getattr(encoder, "base_n_encoder", None), *getattr(encoder, "encoder_list", ())]
    found: list[Any] = []
    for holder in holders:
        mapping = getattr(holder, "mapping", None)
        if holder is not encoder and hasattr(holder, "ordinal_encoder"):
            found += _learned(holder, name)
        if isinstance(mapping, Mapping) and name in mapping:
            # Encoders by way of an ordinal one have its codes here, not categories.
            if getattr(holder, "ordinal_encoder", None) is None:
                found += list(mapping[name].index)
        elif isinstance(mapping, list) and type(holder).__name__ == "OrdinalEncoder":
            for item in mapping:
                if item["col"] == name:
                    table = item["mapping"]
                    found += list(table.index if hasattr(table, "index") else table)
    return found


@writes("transform", *(f"category_encoders.{name}" for name in _ENCODERS))
def _encoder(writer: Writer, model: Any, columns: Columns) -> Columns:
    if getattr(model, "min_group_size", None) is not None:
        raise unsupported(model, "min_group_size= lumps categories that it does not remember")
    if getattr(model, "composite_cols", None):
        raise unsupported(model, "composite_cols= encodes several columns at once")
    names = list(model.feature_names_in_)
    if len(names) != len(columns):
        raise unsupported(model, f"it was fitted on {len(names)} columns, not {len(columns)}")
    known = [known_categories(model, index) for index in range(len(names))]
    tables = _Tables(model, names, known)
    made: dict[int, Columns] = {}
    result = []
    for name, index, place in tables.outputs:
        if place is None:
            result.append(columns[index])
            continue
        if index not in made:
            made[index] = tables.looked_up(writer, columns, index, name)
        result.append(made[index][place])
    return tuple(result)


class _Tables:
    """What an encoder answers to each value of each of its columns.

    Attributes
    ----------
    outputs : list of (name, input position, place)
        Of each output column: the place among the outputs of that input; None for one passed on.
    """

    def __init__(self, model: Any, names: list[Any], known: list[tuple[Any, ...] | None]) -> None:
        self._model = model
        self._known = known
        base = {
            name: (1.0 if values is None else values[0] if values else "a")
            for name, values in zip(names, known, strict=True)
        }
        self._base = base
        self._names = names
        encoded = [index for index, values in enumerate(known) if values is not None]
        self._answers = {index: self._ask_column(index) for index in encoded}
        kept = {name: i for i, name in enumerate(names) if known[i] is None}
        made = list(model.get_feature_names_out())
        depends = self._dependence(len(made))
        counts: dict[int, int] = {}
        self._columns: dict[int, list[int]] = {}
        self.outputs: list[tuple[Any, int, int | None]] = []
        for position, name in enumerate(made):
            if name in kept and not depends[position]:
                self.outputs.append((name, kept[name], None))
                continue
            if len(depends[position]) > 1:
                raise unsupported(model, f"its column {name!r} depends on several columns")
            # A column that never changes belongs to any.
            if not encoded:
                raise unsupported(model, f"where its column {name!r} comes from is not known")
            index = next(iter(depends[position]), encoded[0])
            place = counts[index] = counts.get(index, -1) + 1
            self._columns.setdefault(index, []).append(position)
            self.outputs.append((name, index, place))

    def _ask_column(self, index: int) -> np.ndarray:
        """float64 (n_categories + 2, n_outputs): known values, one never seen, a missing one."""
        values = list(self._known[index] or ())
        is_text = all(isinstance(value, str) for value in values)
        unseen: Any = _UNSEEN_TEXT if is_text else float(max(map(float, values))) + 1.0
        rows = [self._ask(index, values)] if values else []
        for extra in (unseen, np.nan):
            # What is refused by the encoder is refused when rows are bound.
            answer = self._ask(index, [extra], refused=True)
            rows.append(answer)
        return np.concatenate(rows)

    def _ask(self, index: int, values: list[Any], *, refused: bool = False) -> np.ndarray:
        import pandas as pd

        frame = pd.DataFrame({name: [value] * len(values) for name, value in self._base.items()})
        name = self._names[index]
        dtype = object if any(isinstance(v, str) for v in self._known[index] or ()) else None
        frame[name] = pd.Series(values, dtype=dtype)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                answer = self._model.transform(frame)
        except Exception as exc:
            if not refused:
                raise unsupported(
                    self._model, f"it does not answer its own categories: {exc}"
                ) from exc
            width = len(self._model.get_feature_names_out())
            return np.full((len(values), width), np.nan)
        return np.asarray(answer, dtype=np.float64)

    def _dependence(self, n_outputs: int) -> list[set[int]]:
        """The encoded inputs that each output changes with."""
        found: list[set[int]] = [set() for _ in range(n_outputs)]
        for index, answers in self._answers.items():
            first = answers[:1]
            differs = ~((answers == first) | (np.isnan(answers) & np.isnan(first)))
            # A refused value answers NaN everywhere.
            differs &= ~np.isnan(answers).all(axis=1, keepdims=True)
            for position in np.flatnonzero(differs.any(axis=0)):
                found[position].add(index)
        return found

    def looked_up(self, writer: Writer, columns: Columns, index: int, name: Any) -> Columns:
        builder = writer.builder
        categories = list(self._known[index] or ())
        answers = self._answers[index][:, self._columns[index]]
        unknown, missing = len(categories), len(categories) + 1
        if any(value == "" for value in categories):
            raise unsupported(self._model, f"column {name!r} tells the empty text from missing")
        positions = [*range(len(categories)), missing]
        codes = codes_of(
            writer, self._model, columns[index], [*categories, np.nan], positions, unknown
        )
        table = builder.constant(answers, np.float64)
        flat = builder.op("Reshape", codes, builder.constant([-1], np.int64))
        return writer.new(builder.op("Gather", table, flat, axis=0), answers.shape[1])
