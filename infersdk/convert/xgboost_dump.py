"""Reading XGBoost's JSON: the trees or weights, the objective and what surrounds them.

The JSON is what ``Booster.save_raw("json")`` writes (XGBoost 2.1 to 3.2). Numbers in it are float32 with
just the digits that tell them apart.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from infersdk.errors import UnsupportedModelError

__all__ = [
    "EXPONENTIAL",
    "KNOWN",
    "LOGISTIC",
    "MULTICLASS",
    "Dump",
    "DumpedTree",
    "agrees",
    "is_booster",
    "read",
    "stored_categories",
]

LOGISTIC = frozenset({"binary:logistic", "reg:logistic"})
EXPONENTIAL = frozenset(
    {"count:poisson", "reg:gamma", "reg:tweedie", "survival:aft", "survival:cox"}
)
IDENTITY = frozenset(
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
MULTICLASS = frozenset({"multi:softmax", "multi:softprob"})
KNOWN = LOGISTIC | EXPONENTIAL | IDENTITY | MULTICLASS | {"binary:hinge"}


@dataclass(frozen=True, slots=True)
class DumpedTree:
    """The arrays of one tree in the booster's JSON, one entry per node."""

    is_split: NDArray[np.bool_]
    is_leaf: NDArray[np.bool_]
    """Neither is a deleted node."""
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
    def of(cls, raw: dict[str, Any]) -> DumpedTree:
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
            is_leaf=reached & (left == -1),
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


@dataclass(frozen=True, slots=True)
class Dump:
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


def is_booster(model: object) -> bool:
    """Whether ``model`` is a Booster and not an estimator around one."""
    return any(
        cls.__name__ == "Booster" and cls.__module__ == "xgboost.core"
        for cls in type(model).__mro__
    )


def read(model: Any) -> Dump:
    """Read a fitted estimator or a Booster.

    Raises
    ------
    UnsupportedModelError
        It is not trained, or its kind of booster is not known.
    """
    import xgboost

    wrapper: Literal["booster", "classifier", "regressor"]
    if is_booster(model):
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
        dump = json.loads(bytes(booster.save_raw("json")))
    except xgboost.core.XGBoostError as error:
        raise UnsupportedModelError(
            f"Expected a trained xgboost.Booster, got one that cannot be saved: {error}"
        ) from error

    learner = dump["learner"]
    param = learner["learner_model_param"]
    name = learner["gradient_booster"]["name"]
    n_features = int(param["num_feature"])
    n_outputs = max(1, int(param["num_class"]), int(param.get("num_target", 1)))
    if not n_features:
        raise UnsupportedModelError("Expected a trained xgboost.Booster, got one without features")
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
    return Dump(
        wrapper=wrapper,
        wrapper_objective=getattr(model, "objective", None),
        n_classes=int(getattr(model, "n_classes_", 0)) if wrapper == "classifier" else 0,
        objective=objective,
        booster=name,
        n_features=n_features,
        n_outputs=n_outputs,
        base=_base_margin(
            param["base_score"], objective, n_outputs, version=tuple(dump["version"])
        ),
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


def _base_margin(
    text: str, objective: str, n_outputs: int, *, version: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return the base score before the link function, as the objective's ProbToMargin does.

    The score is one number up to XGBoost 3.0 and a list of one or n_outputs numbers since.
    """
    score = np.atleast_1d(np.asarray(json.loads(text), dtype=np.float32))
    if objective in LOGISTIC:
        if version >= (3, 2):  # kept from 0 and 1, which training gives where all labels are equal
            score = np.clip(score, np.float32(1e-6), np.float32(1) - np.float32(1e-6))
        with np.errstate(divide="ignore"):
            score = -np.log(np.float32(1) / score - np.float32(1))
    elif objective in EXPONENTIAL:
        with np.errstate(divide="ignore"):
            score = np.log(score)
    return np.broadcast_to(score, (n_outputs,)).astype(np.float32)


def _categories(cats: Any, n_features: int) -> tuple[dict[str, Any] | None, ...]:
    """Return what a booster holds (since XGBoost 3.1) about each column's categories."""
    encoded = cats["enc"] if cats else []
    if not encoded:
        return (None,) * n_features
    return tuple(column if column["values"] else None for column in encoded)


def stored_categories(encoded: dict[str, Any] | None) -> tuple[Any, ...] | None:
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


def agrees(encoded: dict[str, Any], categories: Sequence[Any]) -> bool:
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
