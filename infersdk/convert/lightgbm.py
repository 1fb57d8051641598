"""LightGBM models: LGBMClassifier, LGBMRegressor, LGBMRanker and Booster.

The booster's own text format is read and written as one TreeEnsemble node with the objective's link
function behind it; no other converter is involved.

LightGBM compares float64 ``x <= threshold`` and the graph takes float32. Thresholds are rounded down,
so that every row of float32 numbers takes the same path in both. A float64 column that float32 cannot
tell apart (unix timestamps) may take another; :func:`edge_rows` makes rows that show it.

Covered: gbdt, dart, goss and rf; linear trees; every objective of LightGBM 4.7, and custom ones, which
answer raw scores as they do in LightGBM; early stopping; missing values of all three kinds
(``use_missing``, ``zero_as_missing``); categorical splits, with the categories of a DataFrame or with
codes in an array.

Not covered: prediction early stopping (``pred_early_stop``), which stops between trees; Dask estimators.

Tested with LightGBM 4.3 to 4.7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from infersdk.convert.tree_graph import (
    FEATURES,
    Graph,
    MembershipTables,
    Tree,
    add_ensemble,
    floor_float32,
)
from infersdk.convert.tree_rows import (
    ColumnEdges,
    dtype_of_column,
    frame_dtypes,
    pandas_categories,
)
from infersdk.convert.tree_rows import edge_rows as rows_at_edges
from infersdk.errors import UnsupportedModelError
from infersdk.types import Field, Labels, Method, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx

__all__ = ["EXTRA", "FRAMEWORK", "call", "can_convert", "edge_rows", "infer_signature", "to_onnx"]

FRAMEWORK = "LightGBM"
EXTRA = "lightgbm"

_IDENTITY = frozenset(
    {"fair", "huber", "lambdarank", "mape", "quantile", "rank_xendcg", "regression_l1"}
)
_EXPONENTIAL = frozenset({"gamma", "poisson", "tweedie"})
_KNOWN = frozenset(
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

# Bits of a split's decision_type, and the kinds of missing value in bits 2 and 3.
_CATEGORICAL, _DEFAULT_LEFT = 1, 2
_MISSING_NONE, _MISSING_ZERO, _MISSING_NAN = 0, 1, 2

_ZERO_THRESHOLD = np.float32(1e-35)
"""Numbers this close to zero are zero to LightGBM (kZeroThreshold)."""


def can_convert(model: object) -> bool:
    """Whether ``model`` is an in-process LightGBM estimator or a Booster."""
    lineage = [(cls.__module__, cls.__name__) for cls in type(model).__mro__]
    if any(module.startswith("lightgbm.dask") for module, _ in lineage):
        return False
    return ("lightgbm.sklearn", "LGBMModel") in lineage or ("lightgbm.basic", "Booster") in lineage


def infer_signature(model: Any, example: Any = None) -> Signature:
    """Describe the columns a model takes and the methods it answers.

    Parameters
    ----------
    model : lightgbm.LGBMModel or lightgbm.Booster
    example : DataFrame or array, optional
        Tells the columns' dtypes, and which columns are categories where the model leaves it open.

    Returns
    -------
    Signature
        One float32 input ``features`` (N, n_features), into which all fields are packed.

    Raises
    ------
    UnsupportedModelError
        The model is not fitted, or its category columns cannot be told.
    """
    return _signature(model, _read(model), example)


def to_onnx(
    model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Write the model as an ONNX graph.

    Parameters
    ----------
    model : lightgbm.LGBMModel or lightgbm.Booster
        Only read.
    signature : Signature
        From :func:`infer_signature`.
    example : optional
        Not needed.
    opset : int, optional
        13 or later; 18 by default.

    Returns
    -------
    (onnx.ModelProto, tuple of str)
        The graph and notes about it.

    Raises
    ------
    UnsupportedModelError
        The objective is not known, predictions stop early, splits disagree about zeros, or the
        categories outgrow the tables.
    """
    source = _read(model)
    if source.objective not in _KNOWN:
        raise UnsupportedModelError(
            f"LightGBM's objective {source.objective!r} has no known link function. Expected one "
            f"of {', '.join(sorted(_KNOWN))}. The nearest is regression, which answers the sum of "
            "the trees as it is."
        )
    if source.stops_early:
        raise UnsupportedModelError(
            f"{type(model).__name__} with pred_early_stop=True stops between trees, which a graph "
            "cannot. Train or load it without pred_early_stop."
        )
    graph = Graph(opset)
    features = _add_missing(graph, FEATURES, source, signature)
    tables = MembershipTables(source.n_features, missing="outside", rounding="truncate")
    if source.is_linear:
        raw = _add_linear_trees(graph, features, source, tables)
    else:
        raw = _add_trees(graph, features, source, tables)
    _add_outputs(graph, raw, source, signature)
    outputs = [
        (spec.name, spec.dtype, spec.shape)
        for spec in signature.outputs
        if isinstance(spec, TensorSpec)
    ]
    notes = [f"{source.objective}, {len(source.trees)} trees: read from the booster's own text"]
    return graph.model(source.n_features, outputs), tuple(notes)  # type: ignore[arg-type]


def call(model: Any, method: str, rows: Any) -> Any:
    """Return what LightGBM answers.

    Parameters
    ----------
    model : lightgbm.LGBMModel or lightgbm.Booster
    method : str
        ``"predict"`` or, for classifiers, ``"predict_proba"`` or ``"decision_function"``.
    rows : DataFrame or ndarray of float64
        In the container of the signature.
    """
    return getattr(model, method)(rows)


def edge_rows(
    model: Any, signature: Signature, example: Any, *, n_rows: int, rng: np.random.Generator
) -> Any:
    """Return rows on both sides of every split of every column, with zeros and missing values.

    Parameters
    ----------
    model : lightgbm.LGBMModel or lightgbm.Booster
    signature : Signature
    example : DataFrame, array or None
    n_rows : int
    rng : numpy.random.Generator

    Returns
    -------
    DataFrame or ndarray of float64, n_rows rows
    """
    source = _read(model)
    thresholds: list[list[NDArray[np.float64]]] = [[] for _ in range(source.n_features)]
    n_categories = [0] * source.n_features
    for tree in source.trees:
        numeric = ~tree.is_categorical
        for column in np.unique(tree.column[numeric]):
            thresholds[column].append(tree.threshold[numeric & (tree.column == column)])
        for split in np.flatnonzero(tree.is_categorical):
            column = tree.column[split]
            top = int(tree.members(int(split)).max(initial=0))
            n_categories[column] = max(n_categories[column], top + 1)
    edges = [
        ColumnEdges(
            np.unique(np.concatenate(found)) if found else np.empty(0),
            specials=(0.0,) if found else (),
            n_categories=n,
            # Training told apart at most 255 bins (max_bin) over the column's range.
            resolution=span / 255,
        )
        for found, n, span in zip(thresholds, n_categories, source.spans, strict=True)
    ]
    container: Literal["dataframe", "array"] = (
        "dataframe" if signature.container == "dataframe" else "array"
    )
    return rows_at_edges(signature.fields, container, edges, example, n_rows=n_rows, rng=rng)


@dataclass(frozen=True, slots=True)
class _RawTree:
    """One tree of the text format. Children are numbered as in :class:`Tree`."""

    column: NDArray[np.int64]
    threshold: NDArray[np.float64]
    """Of numeric splits; of categorical ones, the number of their set."""
    decision: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    leaf: NDArray[np.float64]
    set_bounds: NDArray[np.int64]
    set_words: NDArray[np.int64]
    """Sets of categories as 32-bit words; set i has words ``set_bounds[i]:set_bounds[i + 1]``."""
    leaf_const: NDArray[np.float64] | None
    leaf_terms: tuple[tuple[NDArray[np.int64], NDArray[np.float64]], ...]
    """Linear trees: the columns and coefficients of each leaf."""

    @classmethod
    def of(cls, text: dict[str, str]) -> _RawTree:
        n_leaves = int(text["num_leaves"])
        # A tree with one leaf has no split, but some versions still write empty split arrays.
        n_splits = n_leaves - 1
        const, terms = None, ()
        if text.get("is_linear", "0") == "1":
            const = _numbers(text, "leaf_const", np.float64)
            sizes = _numbers(text, "num_features", np.int64)
            bounds = np.insert(np.cumsum(sizes), 0, 0)
            columns = _numbers(text, "leaf_features", np.int64)
            factors = _numbers(text, "leaf_coeff", np.float64)
            terms = tuple(
                (columns[start:stop], factors[start:stop])
                for start, stop in zip(bounds[:-1], bounds[1:], strict=True)
            )
        return cls(
            column=_numbers(text, "split_feature", np.int64)[:n_splits],
            threshold=_numbers(text, "threshold", np.float64)[:n_splits],
            decision=_numbers(text, "decision_type", np.int64)[:n_splits],
            left=_numbers(text, "left_child", np.int64)[:n_splits],
            right=_numbers(text, "right_child", np.int64)[:n_splits],
            leaf=_numbers(text, "leaf_value", np.float64),
            set_bounds=_numbers(text, "cat_boundaries", np.int64),
            set_words=_numbers(text, "cat_threshold", np.int64),
            leaf_const=const,
            leaf_terms=terms,
        )

    @property
    def is_categorical(self) -> NDArray[np.bool_]:
        return (self.decision & _CATEGORICAL) != 0

    @property
    def default_left(self) -> NDArray[np.bool_]:
        return (self.decision & _DEFAULT_LEFT) != 0

    @property
    def missing(self) -> NDArray[np.int64]:
        """The kind of missing value of each split."""
        return (self.decision >> 2) & 3

    def members(self, split: int) -> NDArray[np.int64]:
        """Return the categories that go left at a categorical split."""
        number = int(self.threshold[split])
        words = self.set_words[self.set_bounds[number] : self.set_bounds[number + 1]]
        bits = (words[:, None] >> np.arange(32)) & 1
        return np.flatnonzero(bits.ravel())


@dataclass(frozen=True, slots=True)
class _Source:
    """What a model's text and its wrapper say, in one place."""

    wrapper: Literal["booster", "classifier", "model"]
    classes: NDArray[Any] | None
    custom: bool
    """A classifier trained with a callable objective answers raw scores."""
    stops_early: bool
    has_decision_function: bool
    objective: str
    options: dict[str, str]
    """What follows the objective's name: ``sigmoid:1``, ``sqrt``, ..."""
    n_features: int
    n_outputs: int
    averages: bool
    """rf: the mean of the rounds, not their sum."""
    names: tuple[str, ...]
    spans: tuple[float, ...]
    """Width of each column's range in training; 0 where unknown."""
    categorical: tuple[int, ...]
    """Columns that training was told are categorical."""
    pandas_categorical: list[list[Any]] | None
    trees: Sequence[_RawTree]

    @property
    def is_linear(self) -> bool:
        return any(tree.leaf_const is not None for tree in self.trees)

    @property
    def is_named(self) -> bool:
        """Whether training saw column names: a DataFrame, or names given by hand."""
        plain = tuple(f"Column_{index}" for index in range(self.n_features))
        return self.pandas_categorical is not None or self.names != plain


def _is_booster(model: object) -> bool:
    return any(
        cls.__name__ == "Booster" and cls.__module__ == "lightgbm.basic"
        for cls in type(model).__mro__
    )


def _read(model: Any) -> _Source:
    wrapper: Literal["booster", "classifier", "model"]
    classes, custom, stops_early = None, False, False
    if _is_booster(model):
        wrapper, booster = "booster", model
    else:
        wrapper = "classifier" if hasattr(model, "predict_proba") else "model"
        try:
            booster = model.booster_
        except Exception as error:
            raise UnsupportedModelError(
                f"Expected a fitted {type(model).__name__}, got one without a booster. "
                "Call fit() first."
            ) from error
        if wrapper == "classifier":
            classes = np.asarray(model.classes_)
            custom = callable(model.objective_)
        stops_early = bool(model.get_params().get("pred_early_stop"))

    # Without num_iteration the text holds the rounds that predict() uses: up to the best iteration.
    head, _, rest = booster.model_to_string().partition("\nTree=")
    body, _, tail = rest.partition("\nend of trees")
    header = _pairs(head)
    n_features = int(header["max_feature_idx"]) + 1
    objective, *options = header.get("objective", "custom").split()
    return _Source(
        wrapper=wrapper,
        classes=classes,
        custom=custom,
        stops_early=stops_early,
        has_decision_function=hasattr(model, "decision_function"),
        objective=objective,
        options=dict(_split_pair(option, ":") for option in options),
        n_features=n_features,
        n_outputs=int(header["num_tree_per_iteration"]),
        averages="average_output" in head.splitlines(),
        names=tuple(header["feature_names"].split(" ")),
        spans=tuple(_span(info) for info in header["feature_infos"].split(" ")),
        categorical=_declared_categorical(tail, header["feature_infos"].split(" ")),
        pandas_categorical=booster.pandas_categorical,
        trees=[_RawTree.of(_pairs(text)) for text in body.split("\nTree=") if text],
    )


def _pairs(text: str) -> dict[str, str]:
    return dict(_split_pair(line, "=") for line in text.splitlines() if "=" in line)


def _split_pair(text: str, mark: str) -> tuple[str, str]:
    key, _, value = text.partition(mark)
    return key, value


def _numbers(text: dict[str, str], key: str, dtype: Any) -> NDArray[Any]:
    return np.array(text.get(key, "").split(), dtype=np.float64).astype(dtype)


def _span(info: str) -> float:
    """Return the width of a column's range from ``[low:high]``; 0 for categories and unused columns."""
    if not info.startswith("["):
        return 0.0
    low, high = info[1:-1].split(":")
    return float(high) - float(low)


def _declared_categorical(tail: str, infos: Sequence[str]) -> tuple[int, ...]:
    """Return the categorical columns from the recorded parameters, else from the columns' kinds."""
    for line in tail.splitlines():
        if line.startswith("[categorical_feature: ") and line != "[categorical_feature: ]":
            listed = line.removeprefix("[categorical_feature: ").removesuffix("]")
            if all(part.isdigit() for part in listed.split(",")):
                return tuple(sorted(int(part) for part in listed.split(",")))
    return tuple(i for i, info in enumerate(infos) if info != "none" and not info.startswith("["))


def _signature(model: Any, source: _Source, example: Any) -> Signature:
    n_outputs = source.n_outputs
    methods: list[Method] = []
    outputs: list[TensorSpec] = []
    if source.wrapper == "classifier" and not source.custom:
        classes = source.classes
        assert classes is not None
        n_columns = n_outputs if n_outputs > 1 else 2
        dtype = classes.dtype.str if classes.dtype.kind in "US" else classes.dtype.name
        labels = Labels(tuple(classes.tolist()), dtype)
        methods = [
            Method("predict", ("label",), form="labels", labels=labels),
            Method("predict_proba", ("probabilities",), dtype="float64", shape=(n_columns,)),
        ]
        outputs = [
            TensorSpec("label", "int64", ("N",)),
            TensorSpec("probabilities", "float32", ("N", n_columns)),
        ]
    else:
        shape = () if n_outputs == 1 else (n_outputs,)
        methods = [Method("predict", ("prediction",), dtype="float64", shape=shape)]
        if source.wrapper == "classifier":
            methods.append(Method("predict_proba", ("prediction",), dtype="float64", shape=shape))
        outputs = [TensorSpec("prediction", "float32", ("N", n_outputs))]
    if source.wrapper == "classifier" and source.has_decision_function:
        shape = () if n_outputs == 1 else (n_outputs,)
        methods.append(
            Method("decision_function", ("scores",), dtype="float64", shape=shape, head="scores")
        )
        outputs.append(TensorSpec("scores", "float32", ("N", n_outputs)))
    return Signature(
        inputs=(TensorSpec(FEATURES, "float32", ("N", source.n_features)),),
        outputs=tuple(outputs),
        methods=tuple(methods),
        fields=_fields(model, source, example),
        container="dataframe" if source.is_named else "array",
    )


def _fields(model: Any, source: _Source, example: Any) -> tuple[Field, ...]:
    dtypes = frame_dtypes(example) if source.is_named else None
    names = source.names
    if dtypes is not None and tuple(name.replace(" ", "_") for name in dtypes) == names:
        names = tuple(dtypes)  # LightGBM writes underscores for the blanks in names
    elif not source.is_named:
        names = tuple(f"f{index}" for index in range(source.n_features))
    columns = _pandas_columns(model, source, names, dtypes)
    fields = []
    for index, name in enumerate(names):
        if index in columns:
            value_dtype, values = pandas_categories(columns[index])
            fields.append(
                Field(
                    name,
                    value_dtype,
                    FEATURES,
                    index,
                    missing="nan",
                    categories=values,
                    encoding="code",
                    source_dtype="category",
                )
            )
            continue
        dtype = None if dtypes is None else dtypes.get(name)
        fields.append(
            Field(
                name,
                "float" if dtype is None else dtype_of_column(dtype),
                FEATURES,
                index,
                missing="nan",
                source_dtype="float64" if dtype is None else str(dtype),
            )
        )
    return tuple(fields)


def _pandas_columns(
    model: Any, source: _Source, names: Sequence[str], dtypes: Any
) -> dict[int, Sequence[Any]]:
    """Tell which columns the lists of categories belong to, which the booster does not record.

    They are the columns of category dtype in order. The columns declared categorical are the same
    ones unless some are ordered, or were declared by number; then the example decides.
    """
    lists = source.pandas_categorical or []
    if not lists:
        return {}
    columns = list(source.categorical)
    if dtypes is not None:
        seen = [i for i, name in enumerate(names) if hasattr(dtypes.get(name), "categories")]
        if len(seen) == len(lists):
            columns = seen
    if len(columns) != len(lists):
        raise UnsupportedModelError(
            f"{type(model).__name__} holds the categories of {len(lists)} columns and names "
            f"{len(columns)} categorical columns, so it cannot be told which is which. Pass a "
            "DataFrame with the training data's dtypes as example=."
        )
    return dict(zip(columns, lists, strict=True))


def _add_missing(graph: Graph, features: str, source: _Source, signature: Signature) -> str:
    """Turn into NaN what LightGBM treats as missing: zeros where zero is, unknown ordered categories.

    Raises
    ------
    UnsupportedModelError
        Splits of one column disagree (training was continued with other settings).
    """
    zero, nan = set(), set()
    for tree in source.trees:
        numeric = ~tree.is_categorical
        zero.update(tree.column[numeric & (tree.missing == _MISSING_ZERO)].tolist())
        nan.update(tree.column[numeric & (tree.missing == _MISSING_NAN)].tolist())
    if zero & nan:
        names = ", ".join(f"`{source.names[column]}`" for column in sorted(zero & nan))
        raise UnsupportedModelError(
            f"Zero is missing in some splits and a number in others of {names}. Expected one "
            "setting of zero_as_missing for the whole model."
        )
    if zero:
        near = graph.add("Abs", features)
        near = graph.add("LessOrEqual", near, graph.constant(_ZERO_THRESHOLD, "float32"))
        if len(zero) < source.n_features:
            mask = np.isin(np.arange(source.n_features), sorted(zero))
            near = graph.add("And", near, graph.constant(mask, "bool"))
        features = graph.add("Where", near, graph.constant(np.nan, "float32"), features)
    codes = [f.column for f in signature.fields if f.encoding == "code"]
    compared = {c for t in source.trees for c in t.column[~t.is_categorical].tolist()}
    ordered = sorted(compared.intersection(codes))
    if ordered:
        # The binder gives -1 for a category that training never saw; LightGBM takes it as missing.
        below = np.full(source.n_features, -np.inf, dtype=np.float32)
        below[ordered] = 0.0
        unknown = graph.add("Less", features, graph.constant(below, "float32"))
        features = graph.add("Where", unknown, graph.constant(np.nan, "float32"), features)
    return features


def _threshold(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round thresholds to float32, so that every float32 number is decided as LightGBM does.

    LightGBM reads numbers next to zero as zero before it compares; a threshold among them therefore
    stands for the edge of that range.
    """
    rounded = floor_float32(values)
    near = np.abs(values) <= _ZERO_THRESHOLD
    below_all = np.nextafter(-_ZERO_THRESHOLD, np.float32(-np.inf))
    return np.where(near, np.where(values >= 0, _ZERO_THRESHOLD, below_all), rounded)


def _tree(
    raw: _RawTree,
    tables: MembershipTables,
    leaf: NDArray[np.float64],
    targets: tuple[int, ...],
) -> Tree:
    column = raw.column.copy()
    threshold = _threshold(raw.threshold)
    # NaN counts as zero unless the column's missing values have a direction of their own.
    nan_left = np.where(raw.missing == _MISSING_NONE, raw.threshold >= 0.0, raw.default_left)
    for split in np.flatnonzero(raw.is_categorical):
        # Members go left, and the table says 1.0 for members: ask whether 1.0 > 0.5 by exchanging
        # the children below.
        column[split] = tables.column(int(column[split]), raw.members(int(split)))
        threshold[split] = 0.5
        nan_left[split] = False
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


def _add_trees(graph: Graph, features: str, source: _Source, tables: MembershipTables) -> str:
    n_outputs = source.n_outputs
    base = np.zeros(n_outputs)
    trees = []
    for number, raw in enumerate(source.trees):
        target = number % n_outputs
        leaf, center = _centered(raw.leaf)
        base[target] += center
        trees.append(_tree(raw, tables, leaf[:, None], (target,)))
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
    graph: Graph, features: str, source: _Source, tables: MembershipTables
) -> str:
    """Sum the linear models of all leaves a row reaches, then apply the sum to the row once.

    The sum over trees of ``const + coefficients . x`` is the sum of the constants plus the summed
    coefficients times x. So the ensemble gives, per output, one constant and one coefficient for each
    column that occurs in a leaf. A leaf with a NaN among its columns gives its constant value instead,
    which splits below the leaf decide.
    """
    used = sorted({c for tree in source.trees for cols, _ in tree.leaf_terms for c in cols.tolist()})
    width = 1 + len(used)
    slot = {column: 1 + position for position, column in enumerate(used)}
    n_outputs = source.n_outputs
    trees = []
    for number, raw in enumerate(source.trees):
        target = number % n_outputs
        targets = tuple(range(target * width, (target + 1) * width))
        trees.append(_linear_tree(raw, tables, slot, targets))
    widened = tables.widen(graph, features)
    base = np.zeros(n_outputs * width)
    sums = add_ensemble(graph, widened, trees, base, mode="BRANCH_LEQ", tables=tables)
    if not used:
        return sums
    shape = graph.constant([0, n_outputs, width], "int64")
    sums = graph.add("Reshape", sums, shape)
    missing = graph.add("IsNaN", features)
    present = graph.add("Where", missing, graph.constant(0.0, "float32"), features)
    terms = graph.add("Gather", present, graph.constant(used, "int64"), axis=1)
    ones = graph.add("Gather", present, graph.constant([0], "int64"), axis=1)
    ones = graph.add("Mul", ones, graph.constant(0.0, "float32"))
    ones = graph.add("Add", ones, graph.constant(1.0, "float32"))
    terms = graph.add("Concat", ones, terms, axis=1)
    terms = graph.add("Unsqueeze", terms, graph.constant([2], "int64"))
    product = graph.add("MatMul", sums, terms)
    return graph.add("Squeeze", product, graph.constant([2], "int64"))


def _linear_tree(
    raw: _RawTree,
    tables: MembershipTables,
    slot: dict[int, int],
    targets: tuple[int, ...],
) -> Tree:
    assert raw.leaf_const is not None
    n_splits, n_leaves = len(raw.column), len(raw.leaf)
    wide = np.zeros((n_leaves, len(targets)))
    wide[:, 0] = raw.leaf_const
    plain = np.zeros((n_leaves, len(targets)))
    plain[:, 0] = raw.leaf
    guards: list[tuple[int, int, int]] = []  # column, left, right
    entry = ~np.arange(n_leaves)  # where a child that names a leaf has to point
    constants: list[int] = []
    for leaf, (columns, factors) in enumerate(raw.leaf_terms):
        if not len(columns):
            continue
        wide[leaf, [slot[column] for column in columns.tolist()]] = factors
        below = ~leaf
        for column in columns.tolist():
            fallback = ~(n_leaves + len(constants))
            constants.append(leaf)
            guards.append((column, below, fallback))
            below = n_splits + len(guards) - 1
        entry[leaf] = below
    inner = _tree(raw, tables, np.concatenate([wide, plain[constants]]), targets)

    def redirect(child: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(child < 0, entry[np.minimum(~child, n_leaves - 1)], child)

    added = np.array(guards, dtype=np.int64).reshape(-1, 3)
    return Tree(
        column=np.concatenate([inner.column, added[:, 0]]),
        threshold=np.concatenate([inner.threshold, np.full(len(added), np.inf, np.float32)]),
        left=np.concatenate([redirect(inner.left), added[:, 1]]),
        right=np.concatenate([redirect(inner.right), added[:, 2]]),
        nan_left=np.concatenate([inner.nan_left, np.zeros(len(added), dtype=bool)]),
        leaf=inner.leaf,
        targets=targets,
    )


def _add_outputs(graph: Graph, raw: str, source: _Source, signature: Signature) -> None:
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
        # softmax(0, s z) is (1 - sigmoid(s z), sigmoid(s z)), and accurate for small probabilities,
        # where ONNX Runtime's Sigmoid is cut off.
        both = graph.add("Mul", raw, graph.constant([0.0, _sigmoid(source)], "float32"))
        graph.add("Softmax", both, axis=1, output="probabilities")
    else:
        value = _add_link(graph, raw, source, None)
        rest = graph.add("Sub", graph.constant(1.0, "float32"), value)
        graph.add("Concat", rest, value, axis=1, output="probabilities")
    graph.add("ArgMax", "probabilities", axis=1, keepdims=0, output="label")


def _sigmoid(source: _Source) -> float:
    return float(source.options.get("sigmoid", 1.0))


def _add_link(graph: Graph, raw: str, source: _Source, output: str | None) -> str:
    """Add the objective's ConvertOutput."""
    objective = source.objective
    if objective in _EXPONENTIAL:
        return graph.add("Exp", raw, output=output)
    if objective == "multiclass":
        return graph.add("Softmax", raw, axis=1, output=output)
    if objective in ("binary", "multiclassova", "cross_entropy"):
        slope = _sigmoid(source)
        if slope != 1.0:
            raw = graph.add("Mul", raw, graph.constant(slope, "float32"))
        return graph.add("Sigmoid", raw, output=output)
    if objective == "cross_entropy_lambda":
        return graph.add("Softplus", raw, output=output)
    if "sqrt" in source.options:  # trained on the signed square root of the label (reg_sqrt)
        size = graph.add("Abs", raw)
        return graph.add("Mul", raw, size, output=output)
    return graph.add("Identity", raw, output=output)
