"""Boosted trees as an ONNX graph: one TreeEnsemble node for all trees, and little around it.

Both gradient boosting converters read their library's own dump of a model into :class:`Tree` arrays
and build the graph here. Three decisions make the graph exact and fast:

* ``TreeEnsembleRegressor`` with SUM is the only tree operator in use, for classifiers, rankers and
  multi-output models alike; the link function follows as ordinary nodes. The classifier operator's own
  conventions about binary models are where converters go wrong.
* Thresholds are float32, as the operator compares float32. A library that compares float64 gets the
  largest float32 that is not above its threshold (:func:`floor_float32`): for every float32 ``x``,
  ``x <= floor_float32(t)`` exactly when ``x <= t``.
* A categorical split asks whether a category is a member of a set. All such questions about one column
  are answered by one look-up in a table (:class:`MembershipTables`), whose 0/1 answers become further
  columns of the feature matrix. The trees then hold one kind of comparison only, which is the fast path
  of the operator, however large the sets are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from infersdk.errors import UnsupportedModelError
from infersdk.types import Signature

if TYPE_CHECKING:
    import onnx

__all__ = [
    "EXACT",
    "FEATURES",
    "FLOAT",
    "INT64",
    "Graph",
    "MembershipTables",
    "Tree",
    "add_ensemble",
    "add_logistic",
    "add_ranks",
    "add_two_classes",
    "floor_float32",
]

FEATURES = "features"
"""Name of the graph input that takes the columns as float32, (N, n_columns)."""

EXACT = "exact"
"""Name of the graph input that takes as float64 the columns float32 cannot tell apart, (N, k)."""

FLOAT, INT64 = 1, 7
"""onnx.TensorProto's numbers for the ``to`` of a Cast."""

DEFAULT_OPSET = 18
_ML_OPSET = 3
_MAX_TABLE_ENTRIES = 1 << 24
"""Membership tables above 64 MiB would outgrow the trees they serve."""


def floor_float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 that is not above each float64 value.

    Parameters
    ----------
    values : ndarray of float64
        No NaN.

    Returns
    -------
    ndarray of float32, same shape
        Values beyond the float32 range become its largest number, or minus infinity.
    """
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore"):
        nearest = values.astype(np.float32)
        below = np.nextafter(nearest, np.float32(-np.inf))
    above = nearest.astype(np.float64) > values
    return np.where(above, below, nearest)


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree as flat arrays. A child ``c >= 0`` is a split, ``c < 0`` is leaf ``~c``; the root is
    split 0, or leaf 0 in a tree without splits.

    Parameters
    ----------
    column : ndarray of int64, (n_splits,)
        Column that a split compares; at or above the number of features, a membership column
        (see :meth:`MembershipTables.column`).
    threshold : ndarray of float32, (n_splits,)
    left, right : ndarray of int64, (n_splits,)
        Child taken when the comparison holds, and when it does not.
    nan_left : ndarray of bool, (n_splits,)
        Whether NaN goes left.
    leaf : ndarray of float64, (n_leaves, n_outputs)
        What a leaf adds to each of the targets in ``targets``.
    targets : tuple of int, n_outputs entries
    """

    column: NDArray[np.int64]
    threshold: NDArray[np.float32]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    nan_left: NDArray[np.bool_]
    leaf: NDArray[np.float64]
    targets: tuple[int, ...]

    @property
    def n_splits(self) -> int:
        return len(self.column)


class Graph:
    """Collects nodes and constants; names values by itself unless told.

    Parameters
    ----------
    opset : int, optional
        Version of the default operator set, 13 or later; 18 by default.

    Raises
    ------
    UnsupportedModelError
        The opset is too old for the nodes in use.
    """

    def __init__(self, opset: int | None = None) -> None:
        self.opset = DEFAULT_OPSET if opset is None else opset
        if self.opset < 13:
            raise UnsupportedModelError(
                f"Expected opset 13 or later for a tree ensemble, got {self.opset}. "
                f"Leave opset unset for {DEFAULT_OPSET}."
            )
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, dtype: str) -> str:
        """Add an initializer and return its name."""
        from onnx import numpy_helper

        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def add(
        self,
        operator: str,
        *inputs: str,
        output: str | None = None,
        domain: str = "",
        attributes: Sequence[onnx.AttributeProto] = (),
        **scalars: Any,
    ) -> str:
        """Add a node with one output and return the output's name."""
        from onnx import helper

        name = output if output is not None else f"v{len(self._nodes)}"
        node = helper.make_node(operator, list(inputs), [name], domain=domain, **scalars)
        node.attribute.extend(attributes)
        self._nodes.append(node)
        return name

    def model(self, signature: Signature) -> onnx.ModelProto:
        """Close the graph under the inputs and outputs of ``signature``, all of them tensors."""
        import onnx
        from onnx import helper

        graph = helper.make_graph(
            self._nodes,
            "trees",
            [_value_info(spec) for spec in signature.inputs],
            [_value_info(spec) for spec in signature.outputs],
            self._constants,
        )
        opsets = [
            helper.make_opsetid("", self.opset),
            helper.make_opsetid("ai.onnx.ml", _ML_OPSET),
        ]
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=helper.find_min_ir_version_for(opsets),
            producer_name="infersdk",
        )
        onnx.checker.check_model(model)
        return model


def _value_info(spec: Any) -> onnx.ValueInfoProto:
    from onnx import helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(spec.name, kind, spec.shape)


class MembershipTables:
    """Answers "is the category in this set?" for every categorical split, one look-up per column.

    Parameters
    ----------
    n_features : int
        Columns of the feature matrix; membership columns are numbered from here.
    missing : {"missing", "outside"}
        NaN in the categorical column makes the answer NaN (so that a split's own missing direction
        decides), or makes it "not a member".
    rounding : {"floor", "truncate"}
        How a fractional category becomes a whole one. They differ between -1 and 0.
    """

    def __init__(
        self,
        n_features: int,
        *,
        missing: Literal["missing", "outside"],
        rounding: Literal["floor", "truncate"],
    ) -> None:
        self._n_features = n_features
        self._missing = missing
        self._rounding = rounding
        self._ids: dict[tuple[int, bytes], int] = {}
        self._sets: list[tuple[int, NDArray[np.int64]]] = []
        self._position: NDArray[np.int64] | None = None

    def __bool__(self) -> bool:
        return bool(self._sets)

    def column(self, feature: int, members: NDArray[np.int64]) -> int:
        """Return the number of the column that is 1.0 where ``feature`` is in ``members``, else 0.0."""
        members = np.unique(np.asarray(members, dtype=np.int64))
        key = (feature, members.tobytes())
        number = self._ids.get(key)
        if number is None:
            number = self._ids[key] = len(self._sets)
            self._sets.append((feature, members))
        return self._n_features + number

    def _by_feature(self) -> dict[int, list[int]]:
        groups: dict[int, list[int]] = {}
        for number, (feature, _) in enumerate(self._sets):
            groups.setdefault(feature, []).append(number)
        return groups

    def place(self, column: NDArray[np.int64]) -> NDArray[np.int64]:
        """Map numbers given by :meth:`column` to columns of the matrix that :meth:`widen` makes."""
        if not self._sets:
            return column
        if self._position is None or len(self._position) != len(self._sets):
            order = [number for group in self._by_feature().values() for number in group]
            self._position = np.empty(len(order), dtype=np.int64)
            self._position[order] = np.arange(len(order))
        placed = column.copy()
        outside = column >= self._n_features
        placed[outside] = self._n_features + self._position[column[outside] - self._n_features]
        return placed

    def widen(self, graph: Graph, features: str) -> str:
        """Add the nodes that append the membership columns to ``features``; return the new matrix.

        Raises
        ------
        UnsupportedModelError
            The tables would be larger than 64 MiB.
        """
        if not self._sets:
            return features
        groups = self._by_feature()
        # One row per category up to the largest member of any set; then one row for anything
        # above, one (first) for anything below, and one before that for NaN.
        largest = [
            max((int(self._sets[number][1].max(initial=-1)) for number in group), default=-1)
            for group in groups.values()
        ]
        n_entries = sum(
            (top + 4) * len(group) for top, group in zip(largest, groups.values(), strict=True)
        )
        if n_entries > _MAX_TABLE_ENTRIES:
            raise UnsupportedModelError(
                f"The categorical splits need tables of {n_entries} entries, more than "
                f"{_MAX_TABLE_ENTRIES}: {len(self._sets)} distinct sets over up to "
                f"{max(largest) + 1} categories. Encode high-cardinality columns as numbers."
            )
        columns = list(groups)
        codes = graph.add("Gather", features, graph.constant(columns, "int64"), axis=1)
        missing = graph.add("IsNaN", codes)
        bounded = graph.add("Max", codes, graph.constant([-1.0], "float32"))
        bounded = graph.add("Min", bounded, graph.constant([n + 1 for n in largest], "float32"))
        if self._rounding == "floor":
            bounded = graph.add("Floor", bounded)
        known = graph.add("Where", missing, graph.constant([-2.0], "float32"), bounded)
        whole = graph.add("Cast", known, to=INT64)  # truncates toward zero
        rows = graph.add("Add", whole, graph.constant([2], "int64"))
        pieces = [features]
        for position, (group, top) in enumerate(zip(groups.values(), largest, strict=True)):
            table = np.zeros((top + 4, len(group)), dtype=np.float32)
            table[0] = np.nan if self._missing == "missing" else 0.0
            for slot, number in enumerate(group):
                table[self._sets[number][1] + 2, slot] = 1.0
            row = graph.add("Gather", rows, graph.constant(position, "int64"), axis=1)
            pieces.append(graph.add("Gather", graph.constant(table, "float32"), row, axis=0))
        return graph.add("Concat", *pieces, axis=1)


def add_logistic(graph: Graph, margin: str, slope: float = 1.0, output: str | None = None) -> str:
    """Add ``1 / (1 + exp(-slope * margin))``, elementwise.

    ONNX Runtime's Sigmoid is a rational approximation, 7 % off at probabilities of 1e-6.
    """
    power = graph.add("Mul", margin, graph.constant(-slope, "float32"))
    power = graph.add("Exp", power)
    power = graph.add("Add", power, graph.constant(1.0, "float32"))
    return graph.add("Reciprocal", power, output=output)


def add_two_classes(graph: Graph, margin: str, slope: float = 1.0) -> None:
    """Add the outputs ``probabilities`` (N, 2) and ``label`` (N,) of a binary logistic model.

    softmax(0, z) is (1 - sigmoid(z), sigmoid(z)), with all digits of small probabilities.
    """
    both = graph.add("Mul", margin, graph.constant([0.0, slope], "float32"))
    graph.add("Softmax", both, axis=1, output="probabilities")
    graph.add("ArgMax", "probabilities", axis=1, keepdims=0, output="label")


def add_ranks(graph: Graph, values: str, thresholds: Sequence[NDArray[np.float64]]) -> str:
    """Replace float64 columns by the number of thresholds below each value.

    ``x <= thresholds[i]`` exactly when the rank of ``x`` is at most ``i``; ranks are small whole
    numbers, which the tree operator compares in float32 without loss. NaN stays NaN.

    Parameters
    ----------
    graph : Graph
    values : str
        float64 matrix (N, k).
    thresholds : sequence of k ndarrays of float64
        Each sorted, without repetition.

    Returns
    -------
    str
        Name of a float32 matrix (N, k).
    """
    width = max(1, *(len(limits) for limits in thresholds))
    padded = np.full((len(thresholds), width), np.inf)
    for row, limits in zip(padded, thresholds, strict=True):
        row[: len(limits)] = limits
    wide = graph.add("Unsqueeze", values, graph.constant([2], "int64"))
    above = graph.add("Greater", wide, graph.constant(padded, "float64"))
    counted = graph.add("Cast", above, to=FLOAT)
    ranks = graph.add("ReduceSum", counted, graph.constant([2], "int64"), keepdims=0)
    missing = graph.add("IsNaN", values)
    return graph.add("Where", missing, graph.constant(np.nan, "float32"), ranks)


def add_ensemble(
    graph: Graph,
    features: str,
    trees: Sequence[Tree],
    base: NDArray[np.float64],
    *,
    mode: Literal["BRANCH_LT", "BRANCH_LEQ"],
    tables: MembershipTables | None = None,
    output: str | None = None,
) -> str:
    """Add the sum of all trees and ``base`` as one node.

    Parameters
    ----------
    graph : Graph
    features : str
        float32 matrix (N, n_columns).
    trees : sequence of Tree
    base : ndarray of float64, (n_targets,)
        What each target starts from.
    mode : {"BRANCH_LT", "BRANCH_LEQ"}
        The comparison that sends a row left.
    tables : MembershipTables, optional
        Whose columns were appended to ``features``.
    output : str, optional
        Name of the result.

    Returns
    -------
    str
        Name of a float32 matrix (N, n_targets).
    """
    base = np.array(base, dtype=np.float64)
    nodes: dict[str, list[NDArray[Any]]] = defaultdict(list)
    leaves: dict[str, list[NDArray[Any]]] = defaultdict(list)
    walked = [tree for tree in trees if tree.n_splits]
    for tree in trees:
        if not tree.n_splits:  # the same for every row
            np.add.at(base, np.asarray(tree.targets), tree.leaf[0])
    if not walked:
        return _constant_rows(graph, features, base, output)
    for number, tree in enumerate(walked):
        targets = np.asarray(tree.targets, dtype=np.int64)
        n_splits, n_leaves = tree.n_splits, len(tree.leaf)
        n_nodes = n_splits + n_leaves
        zeros = np.zeros(n_leaves, dtype=np.int64)
        column = tree.column if tables is None else tables.place(tree.column)

        def ids(child: NDArray[np.int64], n_splits: int = n_splits) -> NDArray[np.int64]:
            return np.where(child >= 0, child, n_splits + ~child)

        nodes["tree"].append(np.full(n_nodes, number))
        nodes["node"].append(np.arange(n_nodes))
        nodes["column"].append(np.concatenate([column, zeros]))
        nodes["value"].append(np.concatenate([tree.threshold, zeros.astype(np.float32)]))
        nodes["true"].append(np.concatenate([ids(tree.left), zeros]))
        nodes["false"].append(np.concatenate([ids(tree.right), zeros]))
        nodes["nan"].append(np.concatenate([tree.nan_left.astype(np.int64), zeros]))
        nodes["leaf"].append(np.arange(n_nodes) >= n_splits)

        # Zeros of wide leaves are left out. But ONNX Runtime adds the base value only to targets that
        # some leaf adds to, and a leaf needs one entry to be a leaf.
        kept = (tree.leaf != 0) | (base[targets] != 0)
        kept[:, 0] |= ~kept.any(axis=1)
        which, slot = np.nonzero(kept)
        leaves["tree"].append(np.full(len(which), number))
        leaves["node"].append(n_splits + which)
        leaves["target"].append(targets[slot])
        leaves["weight"].append(tree.leaf[which, slot])

    is_leaf = np.concatenate(nodes["leaf"])
    modes = np.where(is_leaf, b"LEAF", mode.encode()).tolist()
    attributes = [
        _ints("nodes_treeids", nodes["tree"]),
        _ints("nodes_nodeids", nodes["node"]),
        _ints("nodes_featureids", nodes["column"]),
        _floats("nodes_values", nodes["value"]),
        _strings("nodes_modes", modes),
        _ints("nodes_truenodeids", nodes["true"]),
        _ints("nodes_falsenodeids", nodes["false"]),
        _ints("nodes_missing_value_tracks_true", nodes["nan"]),
        _ints("target_treeids", leaves["tree"]),
        _ints("target_nodeids", leaves["node"]),
        _ints("target_ids", leaves["target"]),
        _floats("target_weights", leaves["weight"]),
    ]
    reached = np.isin(np.arange(len(base)), [target for tree in walked for target in tree.targets])
    in_node = bool(reached[base != 0].all())
    if in_node and base.any():
        attributes.append(_floats("base_values", [base]))
    total = graph.add(
        "TreeEnsembleRegressor",
        features,
        output=output if in_node else None,
        domain="ai.onnx.ml",
        attributes=attributes,
        n_targets=len(base),
        aggregate_function="SUM",
        post_transform="NONE",
    )
    if in_node:
        return total
    return graph.add("Add", total, graph.constant(base, "float32"), output=output)


def _constant_rows(
    graph: Graph, features: str, base: NDArray[np.float64], output: str | None
) -> str:
    """Repeat ``base`` for every row of ``features``."""
    n_rows = graph.add("Shape", features)
    n_rows = graph.add("Gather", n_rows, graph.constant([0], "int64"))
    shape = graph.add("Concat", n_rows, graph.constant([len(base)], "int64"), axis=0)
    return graph.add("Expand", graph.constant(base[None, :], "float32"), shape, output=output)


def _ints(name: str, parts: Sequence[NDArray[Any]]) -> onnx.AttributeProto:
    from onnx import AttributeProto

    attribute = AttributeProto(name=name, type=AttributeProto.INTS)
    attribute.ints.extend(np.concatenate(parts).astype(np.int64).tolist())
    return attribute


def _floats(name: str, parts: Sequence[NDArray[Any]]) -> onnx.AttributeProto:
    from onnx import AttributeProto

    attribute = AttributeProto(name=name, type=AttributeProto.FLOATS)
    attribute.floats.extend(np.concatenate(parts).astype(np.float32).tolist())
    return attribute


def _strings(name: str, values: Sequence[bytes]) -> onnx.AttributeProto:
    from onnx import AttributeProto

    attribute = AttributeProto(name=name, type=AttributeProto.STRINGS)
    attribute.strings.extend(values)
    return attribute
