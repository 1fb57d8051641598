"""scikit-learn's trees: forests, gradient boosting, isolation forests, and boosted stumps.

Every ensemble becomes one ``TreeEnsembleRegressor`` that sums leaf values; means, links and labels
follow in float64. Where its comparisons are made is in ``sklearn_splits.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_linear import logistic, two_classes
from infersdk.convert.sklearn_splits import Ranks, Rounded, TreeInput
from infersdk.convert.sklearn_writer import (
    Writer,
    class_name,
    class_values,
    index_of,
    unsupported,
    writes,
)
from infersdk.convert.tree_graph import MembershipTables, Tree, add_ensemble

__all__ = ["leaf_indicators"]


def _tree(
    source: TreeInput,
    *,
    is_leaf: NDArray[np.bool_],
    feature: NDArray[np.int64],
    threshold: NDArray[np.float64],
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    nan_left: NDArray[np.bool_],
    leaf: NDArray[np.float64],
    targets: tuple[int, ...],
) -> Tree:
    """Number splits and leaves apart. All arrays but ``leaf`` and ``targets`` have one entry a node."""
    is_split = ~is_leaf
    split_number = np.cumsum(is_split) - 1
    leaf_number = np.cumsum(is_leaf) - 1

    def child(node: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(is_leaf[node], ~leaf_number[node], split_number[node])

    at, limit = feature[is_split].astype(np.int64), threshold[is_split]
    return Tree(
        column=at,
        threshold=source.threshold(at, limit),
        left=child(left[is_split].astype(np.int64)),
        right=child(right[is_split].astype(np.int64)),
        nan_left=source.nan_left(at, limit, nan_left[is_split].astype(bool)),
        leaf=leaf[is_leaf],
        targets=targets,
    )


def _cart(
    source: TreeInput,
    estimator: Any,
    leaf: NDArray[np.float64],
    targets: tuple[int, ...],
    features: NDArray[np.int64] | None = None,
) -> Tree:
    """One ``sklearn.tree`` estimator; ``leaf`` (n_nodes, n_targets) is what its nodes add."""
    tree = estimator.tree_
    feature = tree.feature if features is None else np.asarray(features)[tree.feature]
    return _tree(
        source,
        is_leaf=tree.children_left == -1,
        feature=feature,
        threshold=np.asarray(tree.threshold, np.float64),
        left=tree.children_left,
        right=tree.children_right,
        nan_left=np.asarray(tree.missing_go_to_left).astype(bool),
        leaf=leaf,
        targets=targets,
    )


def _sum(
    writer: Writer,
    source: TreeInput,
    trees: Sequence[Tree],
    n_targets: int,
    *,
    tables: MembershipTables | None = None,
) -> str:
    """float64 (N, n_targets): the sum of the trees."""
    builder: Any = writer.builder  # has what these functions ask of a tree_graph.Graph
    features = source.matrix(writer)
    if tables is not None:
        features = tables.widen(builder, features)
    total = add_ensemble(
        builder, features, trees, np.zeros(n_targets), mode="BRANCH_LEQ", tables=tables
    )
    return builder.cast(total, "float32", "float64")


def _plus(writer: Writer, name: str, offset: Any) -> str:
    if not np.any(offset):
        return name
    return writer.builder.op("Add", name, writer.builder.constant(offset, np.float64))


# ---- single trees and forests

_TREE_CLASSIFIERS = ("DecisionTreeClassifier", "ExtraTreeClassifier")
_TREE_REGRESSORS = ("DecisionTreeRegressor", "ExtraTreeRegressor")
_FOREST_CLASSIFIERS = ("RandomForestClassifier", "ExtraTreesClassifier")
_FOREST_REGRESSORS = ("RandomForestRegressor", "ExtraTreesRegressor")


@writes("proba", *_TREE_CLASSIFIERS, *_FOREST_CLASSIFIERS)
def _forest_proba(writer: Writer, model: Any, columns: Columns) -> str:
    trees = _members(model)
    source = Rounded(columns)
    builder = writer.builder
    n_classes = len(model.classes_)
    if n_classes == 2:
        # One target is summed; the other is what remains of 1.
        parts = [_cart(source, tree, tree.tree_.value[:, 0, 1:], (0,)) for tree in trees]
        upper = _mean(writer, _sum(writer, source, parts, 1), len(trees))
        lower = builder.op("Sub", builder.constant(1.0, np.float64), upper)
        return builder.op("Concat", lower, upper, axis=1)
    targets = tuple(range(n_classes))
    parts = [_cart(source, tree, tree.tree_.value[:, 0, :], targets) for tree in trees]
    return _mean(writer, _sum(writer, source, parts, n_classes), len(trees))


@writes("proba_list", *_TREE_CLASSIFIERS, *_FOREST_CLASSIFIERS)
def _forest_proba_list(writer: Writer, model: Any, columns: Columns) -> list[str]:
    # All targets are summed by one ensemble and cut apart behind it.
    builder = writer.builder
    trees = _members(model)
    source = Rounded(columns)
    sizes = [len(classes) for classes in model.classes_]
    targets = tuple(range(sum(sizes)))

    def leaves(tree: Any) -> NDArray[np.float64]:
        return np.hstack([tree.tree_.value[:, i, :size] for i, size in enumerate(sizes)])

    parts = [_cart(source, tree, leaves(tree), targets) for tree in trees]
    mean = _mean(writer, _sum(writer, source, parts, len(targets)), len(trees))
    starts = np.cumsum([0, *sizes])
    return [
        builder.op("Gather", mean, builder.constant(np.arange(a, b), np.int64), axis=1)
        for a, b in pairwise(starts.tolist())
    ]


@writes("predict", *_TREE_CLASSIFIERS, *_FOREST_CLASSIFIERS)
def _forest_values(writer: Writer, model: Any, columns: Columns) -> str:
    probas = writer.write("proba_list", model, columns)
    labels = [writer.builder.op("ArgMax", proba, axis=1, keepdims=1) for proba in probas]
    return class_values(writer, model, labels, model.classes_)


@writes("predict", *_TREE_REGRESSORS, *_FOREST_REGRESSORS)
def _forest_predict(writer: Writer, model: Any, columns: Columns) -> str:
    trees = _members(model)
    source = Rounded(columns)
    targets = tuple(range(model.n_outputs_))
    values = [tree.tree_.value[:, :, 0] for tree in trees]
    # Sums of float32 keep more digits around zero, so the trees add up what differs from the mean.
    center = np.mean([value[0] for value in values], axis=0)
    if len(trees) == 1:
        center = np.zeros_like(center)
    parts = [_cart(source, t, v - center, targets) for t, v in zip(trees, values, strict=True)]
    total = _sum(writer, source, parts, len(targets))
    return _plus(writer, _mean(writer, total, len(trees)), center)


def _members(model: Any) -> list[Any]:
    return list(model.estimators_) if hasattr(model, "estimators_") else [model]


def _mean(writer: Writer, total: str, n_trees: int) -> str:
    if n_trees == 1:
        return total
    return writer.builder.op("Div", total, writer.builder.constant(float(n_trees), np.float64))


# ---- gradient boosting


def _gradient_boosting(writer: Writer, model: Any, columns: Columns) -> str:
    source = Rounded(columns)
    trees = [
        _cart(source, tree, tree.tree_.value[:, 0, :1] * model.learning_rate, (target,))
        for stage in model.estimators_
        for target, tree in enumerate(stage)
    ]
    n_targets = model.estimators_.shape[1]
    total = _sum(writer, source, trees, n_targets)
    init = model.init_
    if isinstance(init, str) or class_name(init) in ("DummyClassifier", "DummyRegressor"):
        start = model._raw_predict_init(np.zeros((1, model.n_features_in_), np.float32))
        return _plus(writer, total, np.asarray(start, np.float64)[0])
    if class_name(model) == "GradientBoostingClassifier":
        raise unsupported(model, "init= is a classifier of its own")
    return writer.builder.op("Add", total, writer.write("predict", init, columns))


@writes("decision", "GradientBoostingClassifier")
def _gb_decision(writer: Writer, model: Any, columns: Columns) -> str:
    return _gradient_boosting(writer, model, columns)


@writes("predict", "GradientBoostingRegressor")
def _gb_predict(writer: Writer, model: Any, columns: Columns) -> str:
    return _gradient_boosting(writer, model, columns)


@writes("label", "GradientBoostingClassifier")
def _gb_label(writer: Writer, model: Any, columns: Columns) -> str:
    decision = writer.write("decision", model, columns)
    return index_of(writer, decision, model.estimators_.shape[1], inclusive=True)


@writes("proba", "GradientBoostingClassifier")
def _gb_proba(writer: Writer, model: Any, columns: Columns) -> str:
    decision = writer.write("decision", model, columns)
    if model.loss == "exponential":
        # sklearn._loss.ExponentialLoss: the half logit.
        decision = writer.builder.op("Mul", decision, writer.builder.constant(2.0, np.float64))
    return probabilities(writer, decision, model.estimators_.shape[1])


def probabilities(writer: Writer, decision: str, n_columns: int) -> str:
    """float64 (N, K): the logistic function of one column, the softmax of several."""
    if n_columns == 1:
        return two_classes(writer, logistic(writer, decision))
    return writer.builder.op("Softmax", decision, axis=1)


# ---- histogram gradient boosting


def _hist_gradient_boosting(writer: Writer, model: Any, columns: Columns) -> str:
    if model._preprocessor is not None:
        columns = _encoded(writer, model._preprocessor, columns)
    splits = []
    for stage in model._predictors:
        for predictor in stage:
            nodes = predictor.nodes[predictor.nodes["is_leaf"] == 0]
            nodes = nodes[nodes["is_categorical"] == 0]
            splits.append((nodes["feature_idx"].astype(np.int64), nodes["num_threshold"]))
    source = Ranks(columns, splits)
    tables = MembershipTables(len(columns), missing="missing", rounding="truncate")
    trees = [
        _hist_tree(source, predictor, target, tables)
        for stage in model._predictors
        for target, predictor in enumerate(stage)
    ]
    n_targets = model.n_trees_per_iteration_
    total = _sum(writer, source, trees, n_targets, tables=tables if tables else None)
    return _plus(writer, total, np.asarray(model._baseline_prediction, np.float64).reshape(-1))


def _encoded(writer: Writer, preprocessor: Any, columns: Columns) -> Columns:
    """Categories as codes, in front of the numbers: the order in which the trees count columns."""
    positions = preprocessor._transformer_to_input_indices
    result: list[Any] = []
    for name, step, _ in preprocessor.transformers_:
        chosen = tuple(columns[int(index)] for index in positions[name])
        if chosen:
            # The numbers are only checked.
            is_encoder = class_name(step) == "OrdinalEncoder"
            result.extend(writer.transform(step, chosen) if is_encoder else chosen)
    return tuple(result)


def _hist_tree(source: TreeInput, predictor: Any, target: int, tables: MembershipTables) -> Tree:
    nodes = predictor.nodes
    is_leaf = nodes["is_leaf"].astype(bool)
    tree = _tree(
        source,
        is_leaf=is_leaf,
        feature=nodes["feature_idx"].astype(np.int64),
        threshold=nodes["num_threshold"].astype(np.float64),
        left=nodes["left"].astype(np.int64),
        right=nodes["right"].astype(np.int64),
        nan_left=nodes["missing_go_to_left"].astype(bool),
        leaf=nodes["value"].astype(np.float64)[:, None],
        targets=(target,),
    )
    splits = nodes[~is_leaf]
    for number in np.flatnonzero(splits["is_categorical"]):
        bits = predictor.raw_left_cat_bitsets[splits["bitset_idx"][number]]
        goes_left = np.unpackbits(bits.astype("<u4").view(np.uint8), bitorder="little")
        # A member is 1.0 and 1.0 <= 0.5 is false, so the table holds what goes right.
        tree.column[number] = tables.column(
            int(tree.column[number]), np.flatnonzero(goes_left == 0)
        )
        tree.threshold[number] = 0.5
        tree.nan_left[number] = splits["missing_go_to_left"][number]
    return tree


@writes("decision", "HistGradientBoostingClassifier")
def _hist_decision(writer: Writer, model: Any, columns: Columns) -> str:
    return _hist_gradient_boosting(writer, model, columns)


@writes("label", "HistGradientBoostingClassifier")
def _hist_label(writer: Writer, model: Any, columns: Columns) -> str:
    return index_of(writer, writer.write("decision", model, columns), model.n_trees_per_iteration_)


@writes("proba", "HistGradientBoostingClassifier")
def _hist_proba(writer: Writer, model: Any, columns: Columns) -> str:
    decision = writer.write("decision", model, columns)
    return probabilities(writer, decision, model.n_trees_per_iteration_)


@writes("predict", "HistGradientBoostingRegressor")
def _hist_predict(writer: Writer, model: Any, columns: Columns) -> str:
    raw = _hist_gradient_boosting(writer, model, columns)
    return writer.builder.op("Exp", raw) if model.loss in ("gamma", "poisson") else raw


def leaf_indicators(
    writer: Writer, model: Any, columns: Columns, leaves: Sequence[NDArray[np.int64]]
) -> tuple[str, int]:
    """float64 (N, n) and n: 1 for the leaf of each tree that a row comes to, among the given ones."""
    width = sum(len(part) for part in leaves)
    source = Rounded(columns)
    trees, start = [], 0
    for tree, known in zip(_members(model), leaves, strict=True):
        hit = np.zeros((tree.tree_.node_count, len(known)))
        hit[np.asarray(known, np.int64), np.arange(len(known))] = 1.0
        trees.append(_cart(source, tree, hit, tuple(range(start, start + len(known)))))
        start += len(known)
    return _sum(writer, source, trees, width), width


# ---- isolation forest


@writes("score_samples", "IsolationForest")
def _isolation_scores(writer: Writer, model: Any, columns: Columns) -> str:
    # Liu, Ting and Zhou (2008): 2 ** (-mean depth / expected depth).
    builder = writer.builder
    source = Rounded(columns)
    depths = [
        (lengths + extra - 1.0)[:, None]
        for lengths, extra in zip(
            model._decision_path_lengths, model._average_path_length_per_tree, strict=True
        )
    ]
    # The limit between inlier and outlier is a score that training rows reached, so the sum has to be
    # exact to more than float32: whole 1/256ths, whose sums are exact, and what remains of them.
    limit = 2.0**24 / 256.0
    if sum(float(np.max(depth)) for depth in depths) >= limit:
        raise unsupported(model, "the sum of its depths does not fit into float32")
    trees = []
    for tree, depth, features in zip(
        model.estimators_, depths, model.estimators_features_, strict=True
    ):
        coarse = np.round(depth * 256.0) / 256.0
        trees.append(_cart(source, tree, np.hstack([coarse, depth - coarse]), (0, 1), features))
    both = _sum(writer, source, trees, 2)
    total = builder.op("ReduceSum", both, builder.constant([1], np.int64), keepdims=1)
    expected = len(trees) * float(_average_path_length(model._max_samples))
    if expected == 0:
        # A single training sample: scikit-learn sets every score to 1.
        total, expected = builder.op("Mul", total, builder.constant(0.0, np.float64)), 1.0
        total = builder.op("Add", total, builder.constant(1.0, np.float64))
    exponent = builder.op("Div", total, builder.constant(-expected, np.float64))
    power = builder.op("Pow", builder.constant(2.0, np.float64), exponent)
    return builder.op("Neg", power)


def _average_path_length(n_samples: int) -> float:
    """Expected path length of an unsuccessful search in a binary search tree of ``n_samples``."""
    if n_samples <= 1:
        return 0.0
    if n_samples == 2:
        return 1.0
    return float(
        2.0 * (np.log(n_samples - 1.0) + np.euler_gamma) - 2.0 * (n_samples - 1.0) / n_samples
    )


# ---- AdaBoost over trees


@writes("decision", "AdaBoostClassifier")
def _ada_boost_decision(writer: Writer, model: Any, columns: Columns) -> str:
    if getattr(model, "algorithm", "SAMME") == "SAMME.R":
        # scikit-learn before 1.6.
        raise unsupported(model, "algorithm='SAMME.R', which scikit-learn has given up")
    builder = writer.builder
    n_classes = len(model.classes_)
    weights = model.estimator_weights_[: len(model.estimators_)]
    if all(class_name(member) in _TREE_CLASSIFIERS for member in model.estimators_):
        source = Rounded(columns)
        trees = []
        for member, weight in zip(model.estimators_, weights, strict=True):
            chosen = np.searchsorted(model.classes_, member.classes_)[
                np.argmax(member.tree_.value[:, 0, :], axis=1)
            ]
            votes = np.full((len(chosen), n_classes), -weight / (n_classes - 1))
            votes[np.arange(len(chosen)), chosen] = weight
            trees.append(_cart(source, member, votes, tuple(range(n_classes))))
        total = _sum(writer, source, trees, n_classes)
    else:
        parts = []
        for member, weight in zip(model.estimators_, weights, strict=True):
            table = np.full((len(member.classes_), n_classes), -weight / (n_classes - 1))
            at = np.searchsorted(model.classes_, member.classes_)
            table[np.arange(len(at)), at] = weight
            label = writer.write("label", member, columns)
            parts.append(builder.op("Gather", builder.constant(table), label, axis=0))
        total = builder.op("Sum", *parts)
    total = builder.op(
        "Div", total, builder.constant(float(model.estimator_weights_.sum()), np.float64)
    )
    if n_classes == 2:
        total = builder.op("MatMul", total, builder.constant([[-1.0], [1.0]], np.float64))
    return total


@writes("label", "AdaBoostClassifier")
def _ada_boost_label(writer: Writer, model: Any, columns: Columns) -> str:
    n_classes = len(model.classes_)
    decision = writer.write("decision", model, columns)
    return index_of(writer, decision, 1 if n_classes == 2 else n_classes)


@writes("proba", "AdaBoostClassifier")
def _ada_boost_proba(writer: Writer, model: Any, columns: Columns) -> str:
    # SAMME: softmax of (-d, d) / 2, which is the logistic function of d, or of d / (K - 1).
    n_classes = len(model.classes_)
    decision = writer.write("decision", model, columns)
    if n_classes == 2:
        return probabilities(writer, decision, 1)
    scale = writer.builder.constant(float(n_classes - 1), np.float64)
    return probabilities(writer, writer.builder.op("Div", decision, scale), n_classes)


def reads_float32(name: str) -> bool:
    """Whether a class rounds its rows to float32 itself."""
    return name in _FLOAT32_READERS


_FLOAT32_READERS = frozenset(
    {
        *_TREE_CLASSIFIERS,
        *_TREE_REGRESSORS,
        *_FOREST_CLASSIFIERS,
        *_FOREST_REGRESSORS,
        "GradientBoostingClassifier",
        "GradientBoostingRegressor",
        "IsolationForest",
    }
)


@writes("predict", "AdaBoostRegressor")
def _ada_median(writer: Writer, model: Any, columns: Columns) -> str:
    # Drucker (1997): the prediction that half of the members' weight does not exceed.
    builder = writer.builder
    members = model.estimators_
    if all(class_name(member) in _TREE_REGRESSORS for member in members):
        source = Rounded(columns)
        trees = [
            _cart(source, member, member.tree_.value[:, 0, :], (index,))
            for index, member in enumerate(members)
        ]
        answers = _sum(writer, source, trees, len(trees))
    else:
        parts = [writer.write("predict", member, columns) for member in members]
        answers = builder.op("Concat", *parts, axis=1)
    amount = builder.constant([len(members)], np.int64)
    ordered, whose = builder.ops("TopK", answers, amount, n_outputs=2, axis=1, largest=0)
    weights = np.asarray(model.estimator_weights_[: len(members)], np.float64)
    weight = builder.op("Gather", builder.constant(weights), whose, axis=0)
    along = builder.constant(1, np.int64)
    reached = builder.op("CumSum", weight, along)
    whole = builder.op("Gather", reached, builder.constant([len(members) - 1], np.int64), axis=1)
    half = builder.op("Mul", whole, builder.constant(0.5, np.float64))
    above = builder.cast(builder.op("GreaterOrEqual", reached, half), "bool", "int64")
    place = builder.op("ArgMax", above, axis=1, keepdims=1)
    return builder.op("GatherElements", ordered, place, axis=1)
