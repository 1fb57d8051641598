"""Spark's trees, read node by node through its gateway, and written as one ensemble.

Spark compares float64 with ``<=`` and sends NaN right; a category outside of those a split knows goes the way of
the larger side. Both are kept exactly (``sklearn_splits.Ranks``, ``tree_graph.MembershipTables``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_splits import Ranks
from infersdk.convert.sklearn_writer import Writer
from infersdk.convert.tree_graph import MembershipTables, Tree, add_ensemble

__all__ = ["SparkTree", "read_tree", "summed"]


@dataclass(slots=True)
class SparkTree:
    """One tree; children as in ``tree_graph.Tree``: a split, or ``~leaf``."""

    column: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    members: list[tuple[list[int], bool] | None] = field(default_factory=list)
    """Of a categorical split: categories, and whether it is they that go left."""
    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    leaf: list[np.ndarray] = field(default_factory=list)


def read_tree(root: Any, *, n_classes: int = 0) -> SparkTree:
    """Read a tree from its root node in the JVM.

    Parameters
    ----------
    root : py4j.java_gateway.JavaObject
        ``rootNode()``.
    n_classes : int
        Above 0, a leaf gives the share of each class; else its prediction.
    """
    tree = SparkTree()

    def visit(node: Any) -> int:
        kind = node.getClass().getSimpleName()
        if kind == "LeafNode":
            tree.leaf.append(_leaf(node, n_classes))
            return ~(len(tree.leaf) - 1)
        split = node.split()
        number = len(tree.column)
        tree.column.append(int(split.featureIndex()))
        if split.getClass().getSimpleName() == "ContinuousSplit":
            tree.threshold.append(float(split.threshold()))
            tree.members.append(None)
        else:
            left, right = list(split.leftCategories()), list(split.rightCategories())
            # Spark looks for the value among the smaller half.
            goes_left = len(left) <= (len(left) + len(right)) // 2
            tree.threshold.append(0.5)
            tree.members.append(([int(c) for c in (left if goes_left else right)], goes_left))
        tree.left.append(0)
        tree.right.append(0)
        tree.left[number] = visit(node.leftChild())
        tree.right[number] = visit(node.rightChild())
        return number

    visit(root)
    return tree


def _leaf(node: Any, n_classes: int) -> np.ndarray:
    if not n_classes:
        return np.array([float(node.prediction())])
    stats = np.array(list(node.impurityStats().stats()), np.float64)
    total = stats.sum()
    return stats / total if total else stats


def summed(
    writer: Writer, columns: Columns, trees: Sequence[SparkTree], weights: Sequence[float]
) -> str:
    """float64 (N, n_outputs): the weighted sum of all trees' leaves."""
    splits = [
        (
            np.array([c for c, m in zip(t.column, t.members, strict=True) if m is None], np.int64),
            np.array([v for v, m in zip(t.threshold, t.members, strict=True) if m is None]),
        )
        for t in trees
    ]
    source = Ranks(columns, splits)
    tables = MembershipTables(len(columns), missing="outside", rounding="floor")
    written = [_written(tree, w, source, tables) for tree, w in zip(trees, weights, strict=True)]
    builder: Any = writer.builder
    features = source.matrix(writer)
    if tables:
        features = tables.widen(builder, features)
    n_outputs = len(trees[0].leaf[0])
    total = add_ensemble(
        builder,
        features,
        written,
        np.zeros(n_outputs),
        mode="BRANCH_LEQ",
        tables=tables if tables else None,
    )
    return writer.builder.cast(total, "float32", "float64")


def _written(tree: SparkTree, weight: float, source: Ranks, tables: MembershipTables) -> Tree:
    column = np.array(tree.column, np.int64)
    limits = np.array(tree.threshold, np.float64)
    threshold = np.full(len(column), 0.5, np.float32)
    numeric = np.array([m is None for m in tree.members], np.bool_)
    if numeric.any():
        threshold[numeric] = source.threshold(column[numeric], limits[numeric])
    left, right = list(tree.left), list(tree.right)
    for number, members in enumerate(tree.members):
        if members is None:
            continue
        known, goes_left = members
        column[number] = tables.column(int(column[number]), np.array(known, np.int64))
        if goes_left:
            # A member is 1.0, and 1.0 <= 0.5 is false.
            left[number], right[number] = right[number], left[number]
    leaf = np.array(tree.leaf, np.float64).reshape(len(tree.leaf), -1) * weight
    return Tree(
        column=column,
        threshold=threshold,
        left=np.array(left, np.int64),
        right=np.array(right, np.int64),
        nan_left=np.zeros(len(column), np.bool_),
        leaf=leaf,
        targets=tuple(range(leaf.shape[1])),
    )
