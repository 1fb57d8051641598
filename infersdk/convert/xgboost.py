"""XGBoost models: XGBClassifier, XGBRegressor, XGBRanker, their random forests, and Booster.

The booster's own JSON is read and written as one TreeEnsemble node with the objective's link function
behind it; no other converter is involved. XGBoost itself computes in float32 and compares
``x < threshold``, so the graph decides every row as XGBoost does.

Covered: gbtree, dart and gblinear; scalar and vector leaves; multi-class, multi-label, multi-target and
quantile models; every objective of XGBoost 3.2; ``missing=``; early stopping; categorical splits, with
the categories of a DataFrame or with codes in an array.

Whole numbers that float32 does not hold (ids) are rounded as XGBoost rounds them.

Not covered: objectives unknown to this list (the plan then is native), Dask and Spark estimators.
A category that training never saw is refused: XGBoost answers as if it were one it knows.

Tested with XGBoost 2.1 to 3.2; before 3.1 boosters hold no categories, and the example has to tell them.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from infersdk.convert.registry import Written
from infersdk.convert.tree_graph import (
    FEATURES,
    FLOAT,
    INT64,
    Graph,
    MembershipTables,
    Tree,
    add_ensemble,
    add_logistic,
    add_two_classes,
)
from infersdk.convert.tree_rows import (
    WHOLE_FLOAT32,
    ColumnEdges,
    check_example,
    dtype_of_column,
    frame_dtypes,
    largest_sizes,
    pandas_categories,
    widened,
)
from infersdk.convert.tree_rows import edge_rows as rows_at_edges
from infersdk.convert.xgboost_dump import (
    EXPONENTIAL,
    KNOWN,
    LOGISTIC,
    MULTICLASS,
    Dump,
    DumpedTree,
    agrees,
    is_booster,
    read,
    stored_categories,
)
from infersdk.errors import UnsupportedModelError
from infersdk.types import Field, Labels, Method, Signature, TensorSpec

if TYPE_CHECKING:
    pass

__all__ = ["EXTRA", "FRAMEWORK", "call", "can_convert", "edge_rows", "infer_signature", "to_onnx"]

FRAMEWORK = "XGBoost"
EXTRA = "xgboost"

_SOURCE_DTYPES = {"int": "int64", "float": "float64", "q": "float64", "i": "bool", "c": "category"}


def can_convert(model: object) -> bool:
    """Whether ``model`` is one of XGBoost's scikit-learn estimators or a Booster (not Dask, not Spark)."""
    lineage = [(cls.__module__, cls.__name__) for cls in type(model).__mro__]
    if any(module.startswith(("xgboost.dask", "xgboost.spark")) for module, _ in lineage):
        return False
    return ("xgboost.sklearn", "XGBModel") in lineage or ("xgboost.core", "Booster") in lineage


def infer_signature(model: Any, example: Any = None) -> Signature:
    """Describe the columns a model takes and the methods it answers.

    Parameters
    ----------
    model : xgboost.XGBModel or xgboost.Booster
    example : DataFrame or array, optional
        Tells the columns' dtypes and, for boosters that do not hold them, the categories.

    Returns
    -------
    Signature
        One float32 input ``features`` (N, n_features), into which all fields are packed.

    Raises
    ------
    InputError
        The example is a DMatrix.
    UnsupportedModelError
        The model is not fitted, or a category column's categories are not known.
    """
    check_example(example)
    return _signature(read(model), example)


def to_onnx(
    model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
) -> Written:
    """Write the model as an ONNX graph.

    Parameters
    ----------
    model : xgboost.XGBModel or xgboost.Booster
        Only read.
    signature : Signature
        From :func:`infer_signature`.
    example : optional
        Not needed.
    opset : int, optional
        13 or later; 18 by default.

    Returns
    -------
    Written
        The graph and notes about it.

    Raises
    ------
    UnsupportedModelError
        The objective or booster is not known, or its categories outgrow the tables.
    """
    source = read(model)
    if source.objective not in KNOWN:
        raise UnsupportedModelError(
            f"XGBoost's objective {source.objective!r} has no known link function. Expected one of "
            f"{', '.join(sorted(KNOWN))}. The nearest is reg:squarederror, which answers the sum "
            "of the trees as it is."
        )
    graph = Graph(opset)
    features = FEATURES
    if not np.isnan(source.missing):
        marked = graph.add("Equal", features, graph.constant(source.missing, "float32"))
        features = graph.add("Where", marked, graph.constant(np.nan, "float32"), features)
    margin = (
        _add_linear(graph, features, source)
        if source.booster == "gblinear"
        else _add_trees(graph, features, source)
    )
    _add_outputs(graph, margin, source)
    notes = []
    if source.n_rounds_used < source.n_rounds:
        notes.append(
            f"early stopping: the first {source.n_rounds_used} of {source.n_rounds} rounds answer"
        )
    return Written(graph.model(signature), tuple(notes))


def call(model: Any, method: str, rows: Any) -> Any:
    """Return what XGBoost answers.

    Parameters
    ----------
    model : xgboost.XGBModel or xgboost.Booster
    method : str
        ``"predict"`` or, for classifiers, ``"predict_proba"``.
    rows : DataFrame or ndarray of float64
        In the container of the signature.
    """
    if not is_booster(model):
        return getattr(model, method)(rows)
    import xgboost

    types = None if hasattr(rows, "columns") else model.feature_types
    names = None if hasattr(rows, "columns") else model.feature_names
    data = xgboost.DMatrix(rows, feature_names=names, feature_types=types, enable_categorical=True)
    return getattr(model, method)(data)


def edge_rows(
    model: Any, signature: Signature, example: Any, *, n_rows: int, rng: np.random.Generator
) -> Any:
    """Return rows on both sides of every split of every column, with missing values among them.

    Parameters
    ----------
    model : xgboost.XGBModel or xgboost.Booster
    signature : Signature
    example : DataFrame, array or None
    n_rows : int
    rng : numpy.random.Generator

    Returns
    -------
    DataFrame or ndarray of float64, n_rows rows
    """
    source = read(model)
    limits, n_categories = _limits(source)
    specials = () if np.isnan(source.missing) else (source.missing,)
    edges = [
        ColumnEdges(of_column, specials=specials, n_categories=n)
        for of_column, n in zip(limits, n_categories, strict=True)
    ]
    return rows_at_edges(signature, edges, example, n_rows=n_rows, rng=rng)


def _limits(source: Dump) -> tuple[list[NDArray[np.float64]], list[int]]:
    """Return each column's thresholds, sorted, and one more than the largest category a split names."""
    columns, conditions = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    n_categories = [0] * source.n_features
    for parsed in map(DumpedTree.of, source.trees):
        numeric = parsed.is_split & ~parsed.is_categorical
        columns.append(parsed.column[numeric])
        conditions.append(parsed.condition[numeric])
        for node in np.flatnonzero(parsed.is_categorical & parsed.is_split).tolist():
            column = int(parsed.column[node])
            top = int(parsed.members(node).max(initial=0))
            n_categories[column] = max(n_categories[column], top + 1)
    order = np.argsort(np.concatenate(columns), kind="stable")
    sorted_columns = np.concatenate(columns)[order]
    sorted_limits = np.concatenate(conditions)[order].astype(np.float64)
    bounds = np.searchsorted(sorted_columns, np.arange(source.n_features + 1))
    limits = [
        np.unique(sorted_limits[start:stop]) for start, stop in itertools.pairwise(bounds.tolist())
    ]
    return limits, n_categories


def _signature(source: Dump, example: Any) -> Signature:
    dtypes = frame_dtypes(example)
    named = bool(source.feature_names)
    names = source.feature_names or tuple(f"f{i}" for i in range(source.n_features))
    fields = tuple(_field(source, index, name, dtypes) for index, name in enumerate(names))
    if any(field.dtype == "int" for field in fields):
        largest = largest_sizes(fields, example)
        split = [float(np.abs(limits).max(initial=0.0)) for limits in _limits(source)[0]]
        # XGBoost itself rounds to float32.
        fields = widened(fields, np.maximum(largest, split).tolist(), {FEATURES: WHOLE_FLOAT32})

    methods: list[Method] = []
    outputs: list[TensorSpec] = []
    n_outputs = source.n_outputs
    if source.wrapper == "classifier":
        kind = _classifier_kind(source)
        n_columns = n_outputs if n_outputs > 1 else 2
        if kind == "multilabel":
            methods.append(Method("predict", ("label",), dtype="float64", shape=(n_outputs,)))
            outputs.append(TensorSpec("label", "int64", ("N", n_outputs)))
        else:
            dtype = "int32" if source.wrapper_objective == "multi:softmax" else "int64"
            labels = Labels(tuple(range(n_columns)), dtype)
            methods.append(Method("predict", ("label",), form="labels", labels=labels))
            outputs.append(TensorSpec("label", "int64", ("N",)))
        methods.append(
            Method("predict_proba", ("probabilities",), dtype="float32", shape=(n_columns,))
        )
        outputs.append(TensorSpec("probabilities", "float32", ("N", n_columns)))
    else:
        width = 1 if source.objective == "multi:softmax" else n_outputs
        shape = () if width == 1 else (width,)
        methods.append(Method("predict", ("prediction",), dtype="float32", shape=shape))
        outputs.append(TensorSpec("prediction", "float32", ("N", width)))
    return Signature(
        inputs=(TensorSpec(FEATURES, "float32", ("N", source.n_features)),),
        outputs=tuple(outputs),
        methods=tuple(methods),
        fields=fields,
        container="dataframe" if named else "array",
    )


def _field(source: Dump, index: int, name: str, dtypes: Any) -> Field:
    # A DMatrix, which a Booster is asked with, refuses infinity; scikit-learn's way in does not.
    infinity: Literal["refuse", "allow"] = "refuse" if source.wrapper == "booster" else "allow"
    kind = source.feature_types[index] if source.feature_types else "float"
    dtype = None if dtypes is None else dtypes.get(name)
    if kind == "c" and source.feature_names:
        encoded = source.categories[index]
        categories = stored_categories(encoded)
        if categories is None and dtype is not None and hasattr(dtype, "categories"):
            categories = tuple(dtype.categories)
            if encoded is not None and not agrees(encoded, categories):
                raise UnsupportedModelError(
                    f"Expected the categories of column `{name}` as in training, got others in "
                    "the example. Pass an example with the training DataFrame's dtypes."
                )
        if categories is None:
            raise UnsupportedModelError(
                f"Expected to know the categories of column `{name}`, but this booster does not "
                "hold them (before XGBoost 3.1 none does, and text outside ASCII is cut off). "
                "Pass a DataFrame with the training data's dtypes as example=."
            )
        value_dtype, values = pandas_categories(categories)
        return Field(
            name,
            value_dtype,
            FEATURES,
            index,
            missing="nan",
            categories=values,
            unknown="refuse",
            encoding="code",
            source_dtype="category",
        )
    if dtype is not None:
        return Field(
            name,
            dtype_of_column(dtype),
            FEATURES,
            index,
            missing="nan",
            infinity=infinity,
            source_dtype=str(dtype),
        )
    source_dtype = _SOURCE_DTYPES.get(kind, "float64") if source.feature_names else "float64"
    plain: Literal["float", "int", "bool"] = "float"
    if source.feature_names and kind in ("int", "i"):
        plain = "int" if kind == "int" else "bool"
    return Field(
        name, plain, FEATURES, index, missing="nan", infinity=infinity, source_dtype=source_dtype
    )


def _classifier_kind(source: Dump) -> Literal["multiclass", "multilabel", "binary"]:
    """Tell how XGBClassifier.predict reads the booster's answer (the branches in its source)."""
    if source.objective == "multi:softmax":
        return "multiclass"
    if source.n_outputs == 1:
        return "binary"
    return "multilabel" if source.n_classes == 2 else "multiclass"


def _add_outputs(graph: Graph, margin: str, source: Dump) -> None:
    """Add the link function and, for classifiers, the class index."""
    if source.wrapper != "classifier":
        if source.objective == "multi:softmax":
            label = graph.add("ArgMax", margin, axis=1, keepdims=1)
            graph.add("Cast", label, to=FLOAT, output="prediction")
        else:
            _add_link(graph, margin, source.objective, "prediction")
        return
    kind = _classifier_kind(source)
    if kind == "binary" and source.objective in LOGISTIC:
        add_two_classes(graph, margin)
    elif kind == "multiclass":
        _add_link(graph, margin, source.objective, "probabilities")
        graph.add("ArgMax", "probabilities", axis=1, keepdims=0, output="label")
    elif kind == "multilabel":
        values = _add_link(graph, margin, source.objective, "probabilities")
        above = graph.add("Greater", values, graph.constant(0.5, "float32"))
        graph.add("Cast", above, to=INT64, output="label")
    else:
        value = _add_link(graph, margin, source.objective, None)
        rest = graph.add("Sub", graph.constant(1.0, "float32"), value)
        graph.add("Concat", rest, value, axis=1, output="probabilities")
        graph.add("ArgMax", "probabilities", axis=1, keepdims=0, output="label")


def _add_link(graph: Graph, margin: str, objective: str, output: str | None) -> str:
    if objective in LOGISTIC:
        return add_logistic(graph, margin, output=output)
    if objective in EXPONENTIAL:
        return graph.add("Exp", margin, output=output)
    if objective == "binary:hinge":
        above = graph.add("Greater", margin, graph.constant(0.0, "float32"))
        return graph.add("Cast", above, to=FLOAT, output=output)
    if objective in MULTICLASS:
        return graph.add("Softmax", margin, axis=1, output=output)
    return graph.add("Identity", margin, output=output)


def _add_linear(graph: Graph, features: str, source: Dump) -> str:
    """gblinear: a missing value adds nothing, and every output starts from the first base score."""
    missing = graph.add("IsNaN", features)
    present = graph.add("Where", missing, graph.constant(0.0, "float32"), features)
    bias = source.weights[-1] + source.base[0]
    weights = graph.constant(source.weights[:-1], "float32")
    return graph.add("Gemm", present, weights, graph.constant(bias, "float32"))


def _add_trees(graph: Graph, features: str, source: Dump) -> str:
    tables = MembershipTables(source.n_features, missing="missing", rounding="floor")
    trees = [
        _tree(raw, output, weight, source, tables)
        for raw, output, weight in zip(
            source.trees,
            source.tree_outputs,
            source.tree_weights or [1.0] * len(source.trees),
            strict=True,
        )
    ]
    widened = tables.widen(graph, features)
    base = source.base.astype(np.float64)
    return add_ensemble(graph, widened, trees, base, mode="BRANCH_LT", tables=tables)


def _tree(
    raw: dict[str, Any],
    output: int,
    weight: float,
    source: Dump,
    tables: MembershipTables,
) -> Tree:
    parsed = DumpedTree.of(raw)
    is_split, is_leaf = parsed.is_split, parsed.is_leaf
    split_number = np.cumsum(is_split) - 1
    leaf_number = np.cumsum(is_leaf) - 1

    def child(node: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.where(is_leaf[node], ~leaf_number[node], split_number[node])

    column = parsed.column.copy()
    threshold = parsed.condition.copy()
    for node in np.flatnonzero(is_split & parsed.is_categorical):
        # Members go right: 1.0 < 0.5 is false. NaN keeps the split's own direction.
        column[node] = tables.column(int(column[node]), parsed.members(int(node)))
        threshold[node] = 0.5
    leaf = parsed.leaf[is_leaf] * np.float32(weight)
    targets = (output,) if leaf.shape[1] == 1 else tuple(range(source.n_outputs))
    return Tree(
        column=column[is_split],
        threshold=threshold[is_split],
        left=child(parsed.left[is_split]),
        right=child(parsed.right[is_split]),
        nan_left=parsed.nan_left[is_split],
        leaf=leaf.astype(np.float64),
        targets=targets,
    )
