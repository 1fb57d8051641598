"""Writing LightGBM's trees into a graph: missing values, thresholds, linear leaves, link functions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infersdk.convert.lightgbm_dump import (
    MISSING_NAN,
    MISSING_NONE,
    MISSING_ZERO,
    ZERO_THRESHOLD,
    Dump,
    DumpedTree,
    effective_thresholds,
)
from infersdk.convert.tree_graph import (
    EXACT,
    FEATURES,
    Graph,
    MembershipTables,
    Tree,
    add_ensemble,
    add_logistic,
    add_ranks,
    add_two_classes,
    floor_float32,
)
from infersdk.errors import UnsupportedModelError
from infersdk.types import Signature

__all__ = ["KNOWN", "add_outputs", "add_scores"]

_IDENTITY = frozenset(
    {"fair", "huber", "lambdarank", "mape", "quantile", "rank_xendcg", "regression_l1"}
)
_EXPONENTIAL = frozenset({"gamma", "poisson", "tweedie"})
KNOWN = frozenset(
    {
        *_IDENTITY,
        *_EXPONENTIAL,
        "binary",
        "cross_entropy",
        "cross_entropy_lambda",
        "custom",
        "multiclass",
        "multiclassova",
        "regression",
    }
)


def add_scores(graph: Graph, source: Dump, signature: Signature) -> str:
    """Add everything up to the raw scores; return the name of a float32 matrix (N, n_outputs).

    Raises
    ------
    UnsupportedModelError
        Splits of one column disagree about zeros (training was continued with other settings), or
        the categories outgrow the tables.
    """
    features, layout = _add_matrix(graph, source, signature)
    features = _add_missing(graph, features, source, signature, layout)
    tables = MembershipTables(source.n_features, missing="outside", rounding="truncate")
    if source.is_linear:
        return _add_linear_trees(graph, features, source, layout, tables)
    return _add_trees(graph, features, source, layout, tables)


class _Layout:
    """Where a feature lies in the matrix the trees see, and how its thresholds are written there.

    Parameters
    ----------
    source : Dump
    signature : Signature
        Its fields say which columns come as float64; they stand last and hold ranks.
    """

    def __init__(self, source: Dump, signature: Signature) -> None:
        fields = signature.fields
        n_plain = sum(field.input == FEATURES for field in fields)
        self.position = np.array(
            [field.column + (n_plain if field.input == EXACT else 0) for field in fields]
        )
        exact = [index for index, field in enumerate(fields) if field.input == EXACT]
        self.has_plain = n_plain > 0
        self.limits = {index: source.thresholds(index) for index in exact}

    def thresholds(self, tree: DumpedTree) -> NDArray[np.float32]:
        """Return a tree's thresholds in the matrix's own terms."""
        values = effective_thresholds(tree.threshold)
        written = floor_float32(values)
        for column, limits in self.limits.items():
            of_column = (tree.column == column) & ~tree.is_categorical
            written[of_column] = np.searchsorted(limits, values[of_column])
        return written


def _add_matrix(graph: Graph, source: Dump, signature: Signature) -> tuple[str, _Layout]:
    """Put the plain columns and the ranks of the exact ones side by side."""
    layout = _Layout(source, signature)
    if not layout.limits:
        return FEATURES, layout
    ranks = add_ranks(graph, EXACT, list(layout.limits.values()))
    if not layout.has_plain:
        return ranks, layout
    return graph.add("Concat", FEATURES, ranks, axis=1), layout


def _add_missing(
    graph: Graph, features: str, source: Dump, signature: Signature, layout: _Layout
) -> str:
    """Turn into NaN what LightGBM takes as missing: zeros where it says so, unknown ordered categories."""
    zero, nan = source.columns_missing(MISSING_ZERO), source.columns_missing(MISSING_NAN)
    if zero & nan or (zero and source.is_linear):
        names = ", ".join(f"`{source.names[column]}`" for column in sorted(zero))
        raise UnsupportedModelError(
            f"Zero is a missing value in splits of {names}, but a number in other splits or in "
            "linear leaves. Expected one setting of zero_as_missing for the whole model."
        )
    if zero:
        near = graph.add("Abs", features)
        near = graph.add("LessOrEqual", near, graph.constant(ZERO_THRESHOLD, "float32"))
        mask = np.zeros(source.n_features, dtype=bool)
        mask[layout.position[sorted(zero)]] = True
        if not mask.all():
            near = graph.add("And", near, graph.constant(mask, "bool"))
        features = graph.add("Where", near, graph.constant(np.nan, "float32"), features)
    ordered = [
        index
        for index, field in enumerate(signature.fields)
        if field.encoding == "code" and len(source.thresholds(index))
    ]
    if ordered:
        # The binder gives -1 for a category that training never saw; LightGBM takes it as missing.
        below = np.full(source.n_features, -np.inf, dtype=np.float32)
        below[layout.position[ordered]] = 0.0
        unknown = graph.add("Less", features, graph.constant(below, "float32"))
        features = graph.add("Where", unknown, graph.constant(np.nan, "float32"), features)
    return features


def _tree(
    raw: DumpedTree,
    layout: _Layout,
    tables: MembershipTables,
    leaf: NDArray[np.float64],
    targets: tuple[int, ...],
) -> Tree:
    column = layout.position[raw.column] if raw.n_splits else raw.column
    threshold = layout.thresholds(raw)
    # NaN counts as zero unless the column's missing values have a direction of their own.
    nan_left = np.where(raw.missing == MISSING_NONE, raw.threshold >= 0.0, raw.default_left)
    for split in np.flatnonzero(raw.is_categorical):
        # Members go left, and the table says 1.0 for members (0.0 for NaN): ask whether it is above
        # 0.5 by exchanging the children below.
        column[split] = tables.column(int(column[split]), raw.members(int(split)))
        threshold[split] = 0.5
    swap = raw.is_categorical
    return Tree(
        column=column,
        threshold=threshold,
        left=np.where(swap, raw.right, raw.left),
        right=np.where(swap, raw.left, raw.right),
        nan_left=nan_left,
        leaf=leaf,
        targets=targets,
    )


def _add_trees(
    graph: Graph, features: str, source: Dump, layout: _Layout, tables: MembershipTables
) -> str:
    n_outputs = source.n_outputs
    base = np.zeros(n_outputs)
    trees = []
    for number, raw in enumerate(source.trees):
        target = number % n_outputs
        leaf, center = _centered(raw.leaf)
        base[target] += center
        trees.append(_tree(raw, layout, tables, leaf[:, None], (target,)))
    widened = tables.widen(graph, features)
    return add_ensemble(graph, widened, trees, base, mode="BRANCH_LEQ", tables=tables)


def _centered(leaf: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Split leaves that are all far from zero into small ones and a constant.

    LightGBM adds the label's mean to the leaves of the first tree. ONNX Runtime sums in float32, so
    a large first term would cost every later tree its last digits; as a base value it is added last.
    """
    low, high = leaf.min(), leaf.max()
    center = (low + high) / 2
    if abs(center) <= high - low:
        return leaf, 0.0
    return leaf - center, center


def _add_linear_trees(
    graph: Graph, features: str, source: Dump, layout: _Layout, tables: MembershipTables
) -> str:
    """Sum the linear models of all leaves a row reaches, then apply the sum to the row once.

    The sum over trees of ``const + coefficients . x`` is the sum of the constants plus the summed
    coefficients times x. So the ensemble gives, per output, one constant and one coefficient for each
    column that occurs in a leaf. A leaf with NaN among its columns gives its constant value instead,
    which guards between the split and the leaf decide.
    """
    used = sorted(
        {c for tree in source.trees for cols, _ in tree.leaf_terms for c in cols.tolist()}
    )
    width = 1 + len(used)
    slot = {column: 1 + position for position, column in enumerate(used)}
    n_outputs = source.n_outputs
    trees = []
    for number, raw in enumerate(source.trees):
        target = number % n_outputs
        targets = tuple(range(target * width, (target + 1) * width))
        trees.append(_linear_tree(raw, layout, tables, slot, targets))
    widened = tables.widen(graph, features)
    base = np.zeros(n_outputs * width)
    sums = add_ensemble(graph, widened, trees, base, mode="BRANCH_LEQ", tables=tables)
    if not used:
        return sums
    sums = graph.add("Reshape", sums, graph.constant([0, n_outputs, width], "int64"))
    constant = graph.add("Gather", sums, graph.constant(0, "int64"), axis=2)
    factors = graph.add("Gather", sums, graph.constant(np.arange(1, width), "int64"), axis=2)
    terms = graph.add("Gather", features, graph.constant(used, "int64"), axis=1)
    terms = graph.add("Unsqueeze", terms, graph.constant([1], "int64"))
    products = graph.add("Mul", factors, terms)
    # A column that no reached leaf uses adds nothing, be it NaN or infinite.
    unused = graph.add("Equal", factors, graph.constant(0.0, "float32"))
    products = graph.add("Where", unused, graph.constant(0.0, "float32"), products)
    total = graph.add("ReduceSum", products, graph.constant([2], "int64"), keepdims=0)
    return graph.add("Add", constant, total)


def _linear_tree(
    raw: DumpedTree,
    layout: _Layout,
    tables: MembershipTables,
    slot: dict[int, int],
    targets: tuple[int, ...],
) -> Tree:
    n_splits, n_leaves = raw.n_splits, len(raw.leaf)
    linear = np.zeros((n_leaves, len(targets)))
    linear[:, 0] = raw.leaf if raw.leaf_const is None else raw.leaf_const
    guards: list[tuple[int, int, int]] = []  # column, where a number leads, where NaN leads
    entry = ~np.arange(n_leaves)  # what a child that names a leaf becomes
    fallbacks: list[int] = []
    for leaf, (columns, factors) in enumerate(raw.leaf_terms):
        if not len(columns):
            continue
        linear[leaf, [slot[column] for column in columns.tolist()]] = factors
        first = n_splits + len(guards)
        following = [*range(first + 1, first + len(columns)), ~leaf]
        for guarded, go in zip(columns.tolist(), following, strict=True):
            # One constant leaf for each guard: ONNX Runtime takes no leaf with two parents.
            guards.append((guarded, go, ~(n_leaves + len(fallbacks))))
            fallbacks.append(leaf)
        entry[leaf] = first
    plain = np.zeros((len(fallbacks), len(targets)))
    plain[:, 0] = raw.leaf[fallbacks]
    inner = _tree(raw, layout, tables, np.concatenate([linear, plain]), targets)
    if not guards:
        return inner
    column, number, missing = np.array(guards, dtype=np.int64).T

    def through_guards(child: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(child < 0, entry[np.where(child < 0, ~child, 0)], child)

    return Tree(
        column=np.concatenate([inner.column, column]),
        threshold=np.concatenate([inner.threshold, np.full(len(guards), np.inf, np.float32)]),
        left=np.concatenate([through_guards(inner.left), number]),
        right=np.concatenate([through_guards(inner.right), missing]),
        nan_left=np.concatenate([inner.nan_left, np.zeros(len(guards), dtype=bool)]),
        leaf=inner.leaf,
        targets=targets,
    )


def add_outputs(graph: Graph, raw: str, source: Dump, signature: Signature) -> None:
    """Add the link function and, for classifiers, the class index."""
    outputs = {spec.name for spec in signature.outputs}
    if "scores" in outputs:
        graph.add("Identity", raw, output="scores")
    if source.averages:  # raw scores are sums even so
        n_rounds = max(1, len(source.trees) // source.n_outputs)
        raw = graph.add("Mul", raw, graph.constant(1.0 / n_rounds, "float32"))
    if "probabilities" not in outputs:
        _add_link(graph, raw, source, "prediction")
        return
    if source.n_outputs > 1:
        _add_link(graph, raw, source, "probabilities")
    elif source.objective in ("binary", "cross_entropy"):
        add_two_classes(graph, raw, _slope(source))
        return
    else:
        value = _add_link(graph, raw, source, None)
        rest = graph.add("Sub", graph.constant(1.0, "float32"), value)
        graph.add("Concat", rest, value, axis=1, output="probabilities")
    graph.add("ArgMax", "probabilities", axis=1, keepdims=0, output="label")


def _slope(source: Dump) -> float:
    return float(source.options.get("sigmoid", 1.0))


def _add_link(graph: Graph, raw: str, source: Dump, output: str | None) -> str:
    """Add the objective's ConvertOutput."""
    objective = source.objective
    if objective in _EXPONENTIAL:
        return graph.add("Exp", raw, output=output)
    if objective == "multiclass":
        return graph.add("Softmax", raw, axis=1, output=output)
    if objective in ("binary", "multiclassova", "cross_entropy"):
        return add_logistic(graph, raw, _slope(source), output)
    if objective == "cross_entropy_lambda":
        return graph.add("Softplus", raw, output=output)
    if "sqrt" in source.options:  # trained on the signed square root of the label (reg_sqrt)
        size = graph.add("Abs", raw)
        return graph.add("Mul", raw, size, output=output)
    return graph.add("Identity", raw, output=output)
