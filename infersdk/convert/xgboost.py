"""XGBoost models: XGBClassifier, XGBRegressor, XGBRanker, their random forests, and Booster.

The booster's own JSON is read and written as one TreeEnsemble node with the objective's link function
behind it; no other converter is involved. XGBoost itself computes in float32 and compares
``x < threshold``, so the graph decides every row as XGBoost does.

Covered: gbtree, dart and gblinear; scalar and vector leaves; multi-class, multi-label, multi-target and
quantile models; every objective of XGBoost 3.2; ``missing=``; early stopping; categorical splits, with
the categories of a DataFrame or with codes in an array.

Not covered: objectives unknown to this list (the plan then is native), Dask and Spark estimators.
A category that training never saw is refused: XGBoost answers as if it were one it knows.

Tested with XGBoost 2.1 to 3.2.
"""

from __future__ import annotations

import itertools
import json
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

FRAMEWORK = "XGBoost"
EXTRA = "xgboost"

_LOGISTIC = frozenset({"binary:logistic", "reg:logistic"})
_EXPONENTIAL = frozenset(
    {"count:poisson", "reg:gamma", "reg:tweedie", "survival:aft", "survival:cox"}
)
_IDENTITY = frozenset(
    {
        "binary:logitraw",
        "rank:map",
        "rank:ndcg",
        "rank:pairwise",
        "reg:absoluteerror",
        "reg:linear",
        "reg:pseudohubererror",
        "reg:quantileerror",
        "reg:squarederror",
        "reg:squaredlogerror",
    }
)
_MULTICLASS = frozenset({"multi:softmax", "multi:softprob"})
_KNOWN = _LOGISTIC | _EXPONENTIAL | _IDENTITY | _MULTICLASS | {"binary:hinge"}

_SOURCE_DTYPES = {"int": "int64", "float": "float64", "q": "float64", "i": "bool", "c": "category"}


def can_convert(model: object) -> bool:
    """Whether ``model`` is a fitted-in-process XGBoost estimator or a Booster."""
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
    UnsupportedModelError
        The model is not fitted, or a category column's categories are not known.
    """
    return _signature(model, _read(model), example)


def to_onnx(
    model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
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
    (onnx.ModelProto, tuple of str)
        The graph and notes about it.

    Raises
    ------
    UnsupportedModelError
        The objective or booster is not known, or its categories outgrow the tables.
    """
    source = _read(model)
    if source.objective not in _KNOWN:
        raise UnsupportedModelError(
            f"XGBoost's objective {source.objective!r} has no known link function. Expected one of "
            f"{', '.join(sorted(_KNOWN))}. The nearest is reg:squarederror, which answers the sum "
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
    outputs = [
        (spec.name, spec.dtype, spec.shape)
        for spec in signature.outputs
        if isinstance(spec, TensorSpec)
    ]
    notes = [f"{source.objective}, {source.booster}: read from the booster's own JSON"]
    if source.n_rounds_used < source.n_rounds:
        notes.append(
            f"early stopping: the first {source.n_rounds_used} of {source.n_rounds} rounds answer"
        )
    return graph.model(source.n_features, outputs), tuple(notes)  # type: ignore[arg-type]


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
    if not _is_booster(model):
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
    source = _read(model)
    thresholds: list[list[NDArray[np.float64]]] = [[] for _ in range(source.n_features)]
    n_categories = [0] * source.n_features
    if source.booster != "gblinear":
        for parsed in map(_RawTree.of, source.trees):
            numeric = parsed.is_split & ~parsed.is_categorical
            for column in np.unique(parsed.column[numeric]):
                chosen = parsed.condition[numeric & (parsed.column == column)]
                thresholds[column].append(chosen.astype(np.float64))
            for node in np.flatnonzero(parsed.is_categorical & parsed.is_split):
                column = parsed.column[node]
                top = int(parsed.members(int(node)).max(initial=0))
                n_categories[column] = max(n_categories[column], top + 1)
    specials = () if np.isnan(source.missing) else (source.missing,)
    edges = [
        ColumnEdges(
            np.unique(np.concatenate(found)) if found else np.empty(0),
            specials=specials,
            n_categories=n,
        )
        for found, n in zip(thresholds, n_categories, strict=True)
    ]
    container: Literal["dataframe", "array"] = (
        "dataframe" if signature.container == "dataframe" else "array"
    )
    return rows_at_edges(signature.fields, container, edges, example, n_rows=n_rows, rng=rng)


@dataclass(frozen=True, slots=True)
class _Source:
    """What a model's JSON and its wrapper say, in one place."""

    wrapper: Literal["booster", "classifier", "regressor"]
    wrapper_objective: Any
    n_classes: int
    objective: str
    booster: str
    n_features: int
    n_outputs: int
    """Columns of the margin."""
    base: NDArray[np.float32]
    """Base score in margin space, one per output."""
    missing: float
    feature_names: tuple[str, ...]
    feature_types: tuple[str, ...]
    categories: tuple[dict[str, Any] | None, ...]
    """Per feature, as the JSON has them; None for numbers and for boosters that do not hold them."""
    trees: Sequence[dict[str, Any]]
    """Of the rounds that answer."""
    tree_outputs: Sequence[int]
    tree_weights: Sequence[float] | None
    """dart: what each tree counts."""
    weights: NDArray[np.float32]
    """gblinear: (n_features + 1, n_outputs), the bias last."""
    n_rounds: int
    n_rounds_used: int


def _is_booster(model: object) -> bool:
    return any(
        cls.__name__ == "Booster" and cls.__module__ == "xgboost.core"
        for cls in type(model).__mro__
    )


def _read(model: Any) -> _Source:
    import xgboost

    wrapper: Literal["booster", "classifier", "regressor"]
    if _is_booster(model):
        wrapper, booster = "booster", model
    else:
        wrapper = "classifier" if hasattr(model, "predict_proba") else "regressor"
        try:
            booster = model.get_booster()
        except Exception as error:
            raise UnsupportedModelError(
                f"Expected a fitted {type(model).__name__}, got one without a booster. "
                "Call fit() or load_model() first."
            ) from error
    try:
        learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    except xgboost.core.XGBoostError as error:
        raise UnsupportedModelError(
            f"Expected a trained xgboost.Booster, got one that cannot be saved: {error}"
        ) from error

    param = learner["learner_model_param"]
    name = learner["gradient_booster"]["name"]
    n_features = int(param["num_feature"])
    n_outputs = max(1, int(param["num_class"]), int(param.get("num_target", 1)))
    objective = learner["objective"]["name"]
    best = learner["attributes"].get("best_iteration") if wrapper != "booster" else None

    categories: tuple[dict[str, Any] | None, ...] = (None,) * n_features
    trees: Sequence[dict[str, Any]] = ()
    tree_outputs: Sequence[int] = ()
    tree_weights: Sequence[float] | None = None
    weights = np.zeros((n_features + 1, n_outputs), dtype=np.float32)
    n_rounds = used = 0
    if name == "gblinear":
        flat = learner["gradient_booster"]["model"]["weights"]
        weights = np.asarray(flat, dtype=np.float32).reshape(n_features + 1, n_outputs)
    elif name in ("gbtree", "dart"):
        holder = learner["gradient_booster"]
        forest = holder["gbtree"]["model"] if name == "dart" else holder["model"]
        bounds = forest["iteration_indptr"]
        n_rounds = used = len(bounds) - 1
        if best is not None:
            used = min(int(best) + 1, n_rounds)
        trees = forest["trees"][: bounds[used]]
        tree_outputs = forest["tree_info"][: bounds[used]]
        if name == "dart":
            tree_weights = holder["weight_drop"][: bounds[used]]
        categories = _categories(forest.get("cats"), n_features)
    else:
        raise UnsupportedModelError(
            f"XGBoost's booster {name!r} is not known; expected gbtree, dart or gblinear"
        )
    return _Source(
        wrapper=wrapper,
        wrapper_objective=getattr(model, "objective", None),
        n_classes=int(getattr(model, "n_classes_", 0)) if wrapper == "classifier" else 0,
        objective=objective,
        booster=name,
        n_features=n_features,
        n_outputs=n_outputs,
        base=_base_margin(param["base_score"], objective, n_outputs),
        missing=_missing(model) if wrapper != "booster" else float("nan"),
        feature_names=tuple(learner["feature_names"]),
        feature_types=tuple(learner["feature_types"]),
        categories=categories,
        trees=trees,
        tree_outputs=tree_outputs,
        tree_weights=tree_weights,
        weights=weights,
        n_rounds=n_rounds,
        n_rounds_used=used,
    )


def _missing(model: Any) -> float:
    value = getattr(model, "missing", None)
    return float("nan") if value is None else float(np.float32(value))


def _base_margin(text: str, objective: str, n_outputs: int) -> NDArray[np.float32]:
    """Return the base score before the link function, as the objective's ProbToMargin does.

    The score is one number up to XGBoost 3.0 and a list of one or n_outputs numbers since.
    """
    score = np.atleast_1d(np.asarray(json.loads(text), dtype=np.float32))
    if objective in _LOGISTIC:
        with np.errstate(divide="ignore"):
            score = -np.log(np.float32(1) / score - np.float32(1))
    elif objective in _EXPONENTIAL:
        with np.errstate(divide="ignore"):
            score = np.log(score)
    return np.broadcast_to(score, (n_outputs,)).astype(np.float32)


def _categories(cats: Any, n_features: int) -> tuple[dict[str, Any] | None, ...]:
    """Return what a booster holds (since XGBoost 3.1) about each column's categories."""
    encoded = cats["enc"] if cats else []
    if not encoded:
        return (None,) * n_features
    return tuple(column if column["values"] else None for column in encoded)


def _stored_categories(encoded: dict[str, Any] | None) -> tuple[Any, ...] | None:
    """Decode one column's categories: numbers, or text as bytes with offsets.

    XGBoost counts the offsets in characters and cuts the bytes off at the same count, so that text
    outside ASCII cannot be read back; it counts as not held.
    """
    if encoded is None:
        return None
    values, bounds = encoded["values"], encoded.get("offsets")
    if bounds is None:
        return tuple(values)
    if any(not 0 <= value < 128 for value in values):
        return None
    text = bytes(values).decode("ascii")
    return tuple(text[start:stop] for start, stop in itertools.pairwise(bounds))


def _agrees(encoded: dict[str, Any], categories: Sequence[Any]) -> bool:
    """Whether what a booster holds, cut off or not, can stem from these categories."""
    bounds = encoded.get("offsets")
    if bounds is None:
        return list(encoded["values"]) == list(categories)
    if not all(isinstance(value, str) for value in categories):
        return False
    stored = bytes(value & 0xFF for value in encoded["values"])
    lengths = [0, *itertools.accumulate(len(value) for value in categories)]
    sizes = [0, *itertools.accumulate(len(value.encode()) for value in categories)]
    return "".join(categories).encode().startswith(stored) and list(bounds) in (lengths, sizes)


def _signature(model: Any, source: _Source, example: Any) -> Signature:
    dtypes = frame_dtypes(example)
    named = bool(source.feature_names)
    names = source.feature_names or tuple(f"f{i}" for i in range(source.n_features))
    fields = tuple(_field(source, index, name, example, dtypes) for index, name in enumerate(names))

    methods: list[Method] = []
    outputs: list[TensorSpec] = []
    n_outputs = source.n_outputs
    if source.wrapper == "classifier":
        kind = _classifier_kind(source)
        n_columns = n_outputs if n_outputs > 1 else 2
        if kind == "multilabel":
            methods.append(
                Method("predict", ("label",), dtype="float64", shape=(n_outputs,))
            )
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


def _field(
    source: _Source, index: int, name: str, example: Any, dtypes: Any
) -> Field:
    kind = source.feature_types[index] if source.feature_types else "float"
    dtype = None if dtypes is None else dtypes.get(name)
    if kind == "c" and source.feature_names:
        encoded = source.categories[index]
        categories = _stored_categories(encoded)
        if categories is None and hasattr(dtype, "categories"):
            categories = tuple(dtype.categories)
            if encoded is not None and not _agrees(encoded, categories):
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
            name, dtype_of_column(dtype), FEATURES, index, missing="nan", source_dtype=str(dtype)
        )
    source_dtype = _SOURCE_DTYPES.get(kind, "float64") if source.feature_names else "float64"
    plain: Literal["float", "int", "bool"] = "float"
    if source.feature_names and kind in ("int", "i"):
        plain = "int" if kind == "int" else "bool"
    return Field(name, plain, FEATURES, index, missing="nan", source_dtype=source_dtype)


def _classifier_kind(source: _Source) -> Literal["multiclass", "multilabel", "binary"]:
    """Tell how XGBClassifier.predict reads the booster's answer (the branches in its source)."""
    if source.objective == "multi:softmax":
        return "multiclass"
    if source.n_outputs == 1:
        return "binary"
    return "multilabel" if source.n_classes == 2 else "multiclass"


def _add_outputs(graph: Graph, margin: str, source: _Source) -> None:
    """Add the link function and, for classifiers, the class index."""
    if source.wrapper != "classifier":
        if source.objective == "multi:softmax":
            label = graph.add("ArgMax", margin, axis=1, keepdims=1)
            graph.add("Cast", label, to=1, output="prediction")
        else:
            _add_link(graph, margin, source.objective, "prediction")
        return
    kind = _classifier_kind(source)
    if kind == "multiclass":
        _add_link(graph, margin, source.objective, "probabilities")
        graph.add("ArgMax", "probabilities", axis=1, keepdims=0, output="label")
    elif kind == "multilabel":
        values = _add_link(graph, margin, source.objective, "probabilities")
        above = graph.add("Greater", values, graph.constant(0.5, "float32"))
        graph.add("Cast", above, to=7, output="label")
    else:
        if source.objective in _LOGISTIC:
            # softmax(0, z) is (1 - sigmoid(z), sigmoid(z)), and accurate for small probabilities,
            # where ONNX Runtime's Sigmoid is cut off.
            both = graph.add("Mul", margin, graph.constant([0.0, 1.0], "float32"))
            graph.add("Softmax", both, axis=1, output="probabilities")
        else:
            value = _add_link(graph, margin, source.objective, None)
            rest = graph.add("Sub", graph.constant(1.0, "float32"), value)
            graph.add("Concat", rest, value, axis=1, output="probabilities")
        graph.add("ArgMax", "probabilities", axis=1, keepdims=0, output="label")


def _add_link(graph: Graph, margin: str, objective: str, output: str | None) -> str:
    if objective in _LOGISTIC:
        return graph.add("Sigmoid", margin, output=output)
    if objective in _EXPONENTIAL:
        return graph.add("Exp", margin, output=output)
    if objective == "binary:hinge":
        above = graph.add("Greater", margin, graph.constant(0.0, "float32"))
        return graph.add("Cast", above, to=1, output=output)
    if objective in _MULTICLASS:
        return graph.add("Softmax", margin, axis=1, output=output)
    return graph.add("Identity", margin, output=output)


def _add_linear(graph: Graph, features: str, source: _Source) -> str:
    """gblinear: a missing value adds nothing, and every output starts from the first base score."""
    missing = graph.add("IsNaN", features)
    present = graph.add("Where", missing, graph.constant(0.0, "float32"), features)
    bias = source.weights[-1] + source.base[0]
    weights = graph.constant(source.weights[:-1], "float32")
    return graph.add("Gemm", present, weights, graph.constant(bias, "float32"))


def _add_trees(graph: Graph, features: str, source: _Source) -> str:
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


@dataclass(frozen=True, slots=True)
class _RawTree:
    """The arrays of one tree in the booster's JSON, one entry per node."""

    is_split: NDArray[np.bool_]
    is_categorical: NDArray[np.bool_]
    column: NDArray[np.int64]
    condition: NDArray[np.float32]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    nan_left: NDArray[np.bool_]
    leaf: NDArray[np.float32]
    """(n_nodes, n_outputs); of use at leaves."""
    categories: NDArray[np.int64]
    segments: dict[int, tuple[int, int]]
    """Split node to (start, size) within ``categories``."""

    @classmethod
    def of(cls, raw: dict[str, Any]) -> _RawTree:
        left = np.asarray(raw["left_children"], dtype=np.int64)
        right = np.asarray(raw["right_children"], dtype=np.int64)
        condition = np.asarray(raw["split_conditions"], dtype=np.float64).astype(np.float32)
        n_outputs = max(1, int(raw["tree_param"].get("size_leaf_vector", 1)))
        if n_outputs == 1:
            leaf = condition[:, None]
        elif "leaf_weights" in raw:
            # Vector leaves are stored apart since XGBoost 3.2; a leaf's right child is its index.
            table = np.asarray(raw["leaf_weights"], dtype=np.float32).reshape(-1, n_outputs)
            leaf = table[np.where(left == -1, right, 0)]
        else:
            leaf = np.asarray(raw["base_weights"], dtype=np.float32).reshape(-1, n_outputs)
        # Pruning leaves deleted nodes behind; only what the root reaches counts.
        reached = np.zeros(len(left), dtype=bool)
        front = np.array([0])
        while len(front):
            reached[front] = True
            parents = front[left[front] != -1]
            front = np.concatenate([left[parents], right[parents]])
        starts = zip(raw["categories_segments"], raw["categories_sizes"], strict=True)
        return cls(
            is_split=reached & (left != -1),
            is_categorical=np.asarray(raw["split_type"], dtype=np.int64) == 1,
            column=np.asarray(raw["split_indices"], dtype=np.int64),
            condition=condition,
            left=left,
            right=right,
            nan_left=np.asarray(raw["default_left"], dtype=np.int64) == 1,
            leaf=leaf,
            categories=np.asarray(raw["categories"], dtype=np.int64),
            segments=dict(zip(raw["categories_nodes"], starts, strict=True)),
        )

    def members(self, node: int) -> NDArray[np.int64]:
        """Return the categories that go right at a categorical split."""
        start, size = self.segments[node]
        return self.categories[start : start + size]

    @property
    def is_leaf(self) -> NDArray[np.bool_]:
        """Leaves; among them deleted nodes, which no split refers to."""
        return self.left == -1


def _tree(
    raw: dict[str, Any],
    output: int,
    weight: float,
    source: _Source,
    tables: MembershipTables,
) -> Tree:
    parsed = _RawTree.of(raw)
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
