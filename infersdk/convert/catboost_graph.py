"""Writing CatBoost's trees into a graph: symmetric trees, target statistics, link functions.

A target statistic is a number looked up by a combination: categories, and the yes or no of splits. Every
part of a combination is a digit (0 for a category never seen), a combination is the number that the digits
make, and all statistics are found at once by one product of matrices and one look-up. Combinations too many
for a table of all of them are numbered first, by those that training saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from infersdk.convert.catboost_dump import Ctr, Dump, Element, StoredTree
from infersdk.convert.catboost_hash import mix
from infersdk.convert.tree_graph import (
    FEATURES,
    FLOAT,
    INT64,
    Graph,
    MembershipTables,
    Tree,
    add_ensemble,
    add_logistic,
)
from infersdk.errors import UnsupportedModelError
from infersdk.types import Signature

__all__ = ["KNOWN_CLASSIFIERS", "add_outputs", "add_raw_values"]

BINARY = frozenset({"Logloss", "CrossEntropy", "Focal"})
MULTICLASS = frozenset({"MultiClass"})
ONE_VERSUS_ALL = frozenset({"MultiClassOneVsAll"})
MULTILABEL = frozenset({"MultiLogloss", "MultiCrossEntropy"})
KNOWN_CLASSIFIERS = BINARY | MULTICLASS | ONE_VERSUS_ALL | MULTILABEL

_MAX_NODES = 1 << 22
_MAX_TABLE = 1 << 16
"""Combinations of one statistic beyond this are numbered by a hash table instead."""
_MAX_COMBINATIONS = 1 << 23
"""All combinations of known categories are hashed to find those that training saw: 64 MiB of them."""


def add_raw_values(
    graph: Graph, source: Dump, hashes: Mapping[int, NDArray[np.int64]], names: Sequence[str]
) -> str:
    """Add everything up to the raw values; return the name of a float32 matrix (N, n_outputs).

    Parameters
    ----------
    graph : Graph
    source : Dump
    hashes : Mapping of int to ndarray of int64
        For each categorical column the hashes of its categories, by their codes.
    names : sequence of str
        Of the columns, for messages.

    Raises
    ------
    UnsupportedModelError
        A split asks for a category that is not among the known ones, or the trees or tables would be
        too large.
    """
    n_nodes = sum(tree.n_nodes for tree in source.trees)
    if n_nodes > _MAX_NODES:
        raise UnsupportedModelError(
            f"CatBoost's symmetric trees would become {n_nodes} nodes of a graph, more than "
            f"{_MAX_NODES}. Train fewer or less deep trees."
        )
    for column, asked in source.one_hot_values.items():
        if not asked <= set(hashes[column].tolist()):
            raise _unknown(names[column])
    features = FEATURES
    position: dict[int, int] = {}
    if source.used_ctrs:
        used = [source.ctrs[number] for number in source.used_ctrs]
        statistics = _Statistics(source, hashes, names).add(graph, features, used)
        features = graph.add("Concat", features, statistics, axis=1)
        position = {
            number: len(source.names) + place for place, number in enumerate(source.used_ctrs)
        }
    tables = MembershipTables(
        len(source.names) + len(position), missing="outside", rounding="truncate"
    )
    written = [_tree(tree, source, position, hashes, tables) for tree in source.trees]
    widened = tables.widen(graph, features)
    return add_ensemble(graph, widened, written, source.bias, mode="BRANCH_LEQ", tables=tables)


def add_outputs(graph: Graph, raw: str, source: Dump, signature: Signature) -> None:
    """Add the link function and, for classifiers, the class index."""
    outputs = {spec.name for spec in signature.outputs}
    if source.wrapper != "classifier":
        if source.prediction_type == "Exponent":
            graph.add("Exp", raw, output="prediction")
        elif source.prediction_type == "RMSEWithUncertainty":
            # The mean, and twice the logarithm's exponential: the variance.
            mean = graph.add("Gather", raw, graph.constant([0], "int64"), axis=1)
            spread = graph.add("Gather", raw, graph.constant([1], "int64"), axis=1)
            spread = graph.add("Mul", spread, graph.constant(2.0, "float32"))
            spread = graph.add("Exp", spread)
            graph.add("Concat", mean, spread, axis=1, output="prediction")
        else:
            graph.add("Identity", raw, output="prediction")
        return
    threshold = float(np.log(source.threshold) - np.log1p(-source.threshold))
    above = None
    if source.loss in BINARY or source.loss in MULTILABEL:
        above = graph.add("Greater", raw, graph.constant(threshold, "float32"))
    if source.loss in BINARY:
        assert above is not None
        flat = graph.add("Reshape", above, graph.constant([-1], "int64"))
        graph.add("Cast", flat, to=INT64, output="label")
        both = graph.add("Mul", raw, graph.constant([0.0, 1.0], "float32"))
        graph.add("Softmax", both, axis=1, output="probabilities")
        if "log_probabilities" in outputs:
            graph.add("LogSoftmax", both, axis=1, output="log_probabilities")
        return
    if above is not None:
        graph.add("Cast", above, to=INT64, output="label")
    else:
        graph.add("ArgMax", raw, axis=1, keepdims=0, output="label")
    if source.loss in MULTICLASS:
        graph.add("Softmax", raw, axis=1, output="probabilities")
        if "log_probabilities" in outputs:
            graph.add("LogSoftmax", raw, axis=1, output="log_probabilities")
        return
    add_logistic(graph, raw, output="probabilities")
    if "log_probabilities" in outputs:
        # log(sigmoid(z)) = -softplus(-z) = min(z, 0) - log(1 + exp(-|z|))
        low = graph.add("Min", raw, graph.constant(0.0, "float32"))
        size = graph.add("Neg", graph.add("Abs", raw))
        rest = graph.add("Add", graph.add("Exp", size), graph.constant(1.0, "float32"))
        graph.add("Sub", low, graph.add("Log", rest), output="log_probabilities")


def _unknown(name: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"The model keeps hashes of the categories of `{name}`, not their text, and the example "
        "does not show all of those that training saw. Pass the training rows as example=."
    )


def _tree(
    stored: StoredTree,
    source: Dump,
    position: Mapping[int, int],
    hashes: Mapping[int, NDArray[np.int64]],
    tables: MembershipTables,
) -> Tree:
    columns, thresholds, nan_left = [], [], []
    for split in stored.splits:
        if split.kind == "one_hot":
            members = np.flatnonzero(hashes[split.source] == split.value)
            columns.append(tables.column(split.source, members))
            thresholds.append(0.5)
            nan_left.append(True)
        elif split.kind == "ctr":
            columns.append(position[split.source])
            thresholds.append(split.border)
            nan_left.append(True)
        else:
            columns.append(split.source)
            thresholds.append(split.border)
            nan_left.append(not source.features[split.source].nan_right)
    column = np.array(columns, dtype=np.int64)
    threshold = np.array(thresholds, dtype=np.float32)
    nan = np.array(nan_left, dtype=bool)
    left, right = stored.left, stored.right
    if left is None or right is None:
        level, left, right = _symmetric(len(column))
        column, threshold, nan = column[level], threshold[level], nan[level]
    return Tree(
        column=column,
        threshold=threshold,
        left=left,
        right=right,
        nan_left=nan,
        leaf=stored.leaf * source.scale,
        targets=tuple(range(source.n_outputs)),
    )


@cache
def _symmetric(depth: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return each split's level and its children, of a full tree in the order of a heap."""
    n_splits = (1 << depth) - 1
    node = np.arange(n_splits)
    level = np.repeat(np.arange(depth), 1 << np.arange(depth))
    left = 2 * node + 1
    right = left + 1
    last = node >= n_splits // 2
    return (
        level,
        np.where(last, ~(left - n_splits), left),
        np.where(last, ~(right - n_splits), right),
    )


@dataclass
class _Statistics:
    """Writes the target statistics of a model."""

    source: Dump
    hashes: Mapping[int, NDArray[np.int64]]
    names: Sequence[str]
    _digits: dict[Element, int] = field(default_factory=dict)
    _found: dict[int, tuple[NDArray[np.int64], NDArray[np.int64]]] = field(default_factory=dict)

    def add(self, graph: Graph, features: str, ctrs: Sequence[Ctr]) -> str:
        """Add the nodes; return the name of a float32 matrix (N, len(ctrs))."""
        for ctr in ctrs:
            for element in ctr.elements:
                self._digits.setdefault(element, len(self._digits))
        digits = self._add_digits(graph, features)
        width = len(self._digits)
        wide = [ctr for ctr in ctrs if self._n_combinations(ctr) > _MAX_TABLE]
        numbered: dict[int, int] = {}  # by the table that the combinations are looked up in
        pieces = [digits]
        for ctr in wide:
            if id(ctr.keys) not in numbered:
                numbered[id(ctr.keys)] = width + len(numbered)
                pieces.append(self._add_numbering(graph, digits, ctr))
        if numbered:
            digits = graph.add("Concat", *pieces, axis=1)
        # Of each statistic: what a digit counts, where its table starts, and the table.
        weights = np.zeros((width + len(numbered), len(ctrs)), dtype=np.int64)
        starts = np.zeros(len(ctrs), dtype=np.int64)
        parts: list[NDArray[np.float32]] = []
        start = 0
        for place, ctr in enumerate(ctrs):
            values = ctr.values()
            combination, row = self._seen(ctr)
            if id(ctr.keys) in numbered:
                weights[numbered[id(ctr.keys)], place] = 1
                table = np.concatenate([values[:1], values[1 + row]])
            else:
                for element, stride in zip(ctr.elements, self._strides(ctr), strict=True):
                    weights[self._digits[element], place] = stride
                table = np.full(self._n_combinations(ctr), values[0], dtype=np.float32)
                table[combination] = values[1 + row]
            starts[place] = start
            start += len(table)
            parts.append(table)
        places = graph.add("MatMul", digits, graph.constant(weights, "int64"))
        places = graph.add("Add", places, graph.constant(starts, "int64"))
        return graph.add("Gather", graph.constant(np.concatenate(parts), "float32"), places)

    def _size(self, element: Element) -> int:
        if element.border is None and element.value is None:
            return len(self.hashes[element.column]) + 1
        return 2

    def _n_combinations(self, ctr: Ctr) -> int:
        product = 1
        for element in ctr.elements:
            product *= self._size(element)
        return product

    def _strides(self, ctr: Ctr) -> list[int]:
        strides, stride = [], 1
        for element in reversed(ctr.elements):
            strides.append(stride)
            stride *= self._size(element)
        return strides[::-1]

    def _seen(self, ctr: Ctr) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the combinations that training saw, as numbers, and their rows in the table."""
        if id(ctr.keys) in self._found:  # shared by statistics that differ in their formula only
            return self._found[id(ctr.keys)]
        if self._n_combinations(ctr) > _MAX_COMBINATIONS:
            columns = ", ".join(f"`{self.names[element.column]}`" for element in ctr.elements)
            raise UnsupportedModelError(
                f"The target statistics over {columns} have {self._n_combinations(ctr)} possible "
                f"combinations, more than {_MAX_COMBINATIONS}. Train with a smaller "
                "max_ctr_complexity."
            )
        parts = [
            self.hashes[element.column]
            if element.border is None and element.value is None
            else np.array([0, 1], dtype=np.int64)
            for element in ctr.elements
        ]
        hashed = mix(np.ix_(*parts))
        place = np.flatnonzero(np.isin(hashed, ctr.keys))
        row = np.searchsorted(ctr.keys, hashed.ravel()[place])
        if len(np.unique(row)) != len(ctr.keys):
            lacking = [e for e in ctr.elements if e.border is None and e.value is None]
            raise _unknown("`, `".join(self.names[element.column] for element in lacking))
        digits = np.unravel_index(place, hashed.shape)
        number = np.zeros(len(place), dtype=np.int64)
        for element, digit, stride in zip(ctr.elements, digits, self._strides(ctr), strict=True):
            known = element.border is None and element.value is None
            number += (digit + (1 if known else 0)) * stride  # 0 is a category never seen
        self._found[id(ctr.keys)] = number, row
        return number, row

    def _add_digits(self, graph: Graph, features: str) -> str:
        """Add a matrix of int64 with a column for each element, in the order of their digits."""
        columns = graph.constant([element.column for element in self._digits], "int64")
        values = graph.add("Gather", features, columns, axis=1)
        elements = list(self._digits)
        kinds = [
            "code" if e.border is None and e.value is None else "above" if e.value is None else "is"
            for e in elements
        ]
        # Adding 1 to a code, asking whether a number is above and whether a code is equal.
        pieces = {"code": graph.add("Add", values, graph.constant(1.0, "float32"))}
        if "above" in kinds:
            borders = [0.0 if e.border is None else e.border for e in elements]
            above = graph.add("Greater", values, graph.constant(borders, "float32"))
            rises = [
                e.border is not None and self.source.features[e.column].nan_right for e in elements
            ]
            if any(rises):
                missing = graph.add(
                    "And", graph.add("IsNaN", values), graph.constant(rises, "bool")
                )
                above = graph.add("Or", above, missing)
            pieces["above"] = graph.add("Cast", above, to=FLOAT)
        if "is" in kinds:
            codes = [
                -2 if e.value is None else int(np.flatnonzero(self.hashes[e.column] == e.value)[0])
                for e in elements
            ]
            same = graph.add("Equal", values, graph.constant(codes, "float32"))
            pieces["is"] = graph.add("Cast", same, to=FLOAT)
        chosen = pieces.pop("code")
        for kind, name in pieces.items():
            mask = graph.constant([k == kind for k in kinds], "bool")
            chosen = graph.add("Where", mask, name, chosen)
        return graph.add("Cast", chosen, to=INT64)

    def _add_numbering(self, graph: Graph, digits: str, ctr: Ctr) -> str:
        """Add a column (N, 1) with the place of a row's combination among those seen, from 1; else 0."""
        weights = np.zeros((len(self._digits), 1), dtype=np.int64)
        for element, stride in zip(ctr.elements, self._strides(ctr), strict=True):
            weights[self._digits[element], 0] = stride
        number = graph.add("MatMul", digits, graph.constant(weights, "int64"))
        combination, _ = self._seen(ctr)
        return graph.add(
            "LabelEncoder",
            number,
            domain="ai.onnx.ml",
            keys_int64s=combination.tolist(),
            values_int64s=list(range(1, len(combination) + 1)),
            default_int64=0,
        )
