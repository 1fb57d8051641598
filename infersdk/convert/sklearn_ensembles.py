"""Estimators made of other estimators: each part is asked for what scikit-learn asks it for.

Searches, pipelines with a predictor, voting, stacking, bagging, one classifier per class, several targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from infersdk.convert.sklearn_functions import apply_function
from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_linear import two_classes
from infersdk.convert.sklearn_writer import Kind, Writer, class_values, unsupported, writes

_KINDS: tuple[Kind, ...] = (
    "transform",
    "label",
    "proba",
    "proba_list",
    "log_proba",
    "decision",
    "predict",
    "score_samples",
)

# ---- wrappers that answer as another estimator does


def delegate(kind: Kind, attribute: str, *names: str) -> None:
    @writes(kind, *names)
    def delegated(writer: Writer, model: Any, columns: Columns) -> Any:
        return writer.write(kind, getattr(model, attribute), columns)


for _kind in _KINDS:
    delegate(
        _kind,
        "best_estimator_",
        "GridSearchCV",
        "HalvingGridSearchCV",
        "HalvingRandomSearchCV",
        "RandomizedSearchCV",
    )
    if _kind not in ("label", "transform"):
        delegate(_kind, "estimator_", "TunedThresholdClassifierCV")
    if _kind != "transform":
        delegate(_kind, "estimator_", "SelfTrainingClassifier", "RANSACRegressor")


def _after_steps(kind: Kind) -> None:
    @writes(kind, "Pipeline")
    def pipeline(writer: Writer, model: Any, columns: Columns) -> Any:
        for _, step in model.steps[:-1]:
            if step is not None and step != "passthrough":
                columns = writer.transform(step, columns)
        return writer.write(kind, model.steps[-1][1], columns)

    @writes(kind, "RFE", "RFECV")
    def selected(writer: Writer, model: Any, columns: Columns) -> Any:
        return writer.write(kind, model.estimator_, writer.transform(model, columns))


for _kind in _KINDS:
    if _kind != "transform":
        _after_steps(_kind)


# ---- what an estimator is asked for by those that hold it


def response(writer: Writer, method: str, estimator: Any, columns: Columns) -> tuple[str, int]:
    """float64 (N, k) and k: what ``getattr(estimator, method)`` gives, as columns."""
    from sklearn.base import is_classifier

    builder = writer.builder
    if method == "predict_proba":
        return writer.write("proba", estimator, columns), len(estimator.classes_)
    if method == "decision_function":
        return writer.write("decision", estimator, columns), n_decisions(estimator)
    if is_classifier(estimator):
        classes = np.asarray(estimator.classes_)
        if classes.dtype.kind not in "biuf":
            raise unsupported(estimator, "its labels, which are text, are features of another one")
        label = writer.write("label", estimator, columns)
        values = builder.op("Gather", builder.constant(classes, np.float64), label, axis=0)
        return builder.op("Unsqueeze", values, builder.constant([1], np.int64)), 1
    return writer.write("predict", estimator, columns), n_targets(estimator)


def n_decisions(estimator: Any) -> int:
    """How many columns a decision function has."""
    inner = estimator
    while hasattr(inner, "best_estimator_") or hasattr(inner, "steps"):
        inner = inner.best_estimator_ if hasattr(inner, "best_estimator_") else inner.steps[-1][1]
    n_classes = len(inner.classes_)
    if n_classes == 2:
        return 1
    if getattr(inner, "decision_function_shape", None) == "ovo":
        return n_classes * (n_classes - 1) // 2
    return n_classes


def n_targets(estimator: Any) -> int:
    """How many columns a regressor's predictions have."""
    inner = estimator
    while True:
        if hasattr(inner, "best_estimator_"):
            inner = inner.best_estimator_
        elif hasattr(inner, "steps"):
            inner = inner.steps[-1][1]
        else:
            break
    if hasattr(inner, "n_outputs_"):
        return int(inner.n_outputs_)
    coefficients = np.asarray(getattr(inner, "coef_", 0.0))
    return int(coefficients.shape[0]) if coefficients.ndim == 2 else 1


def average(writer: Writer, parts: Sequence[str], weights: np.ndarray | None) -> str:
    """The weighted mean, summed in order as numpy does."""
    builder = writer.builder
    if weights is None:
        weights = np.ones(len(parts))
    weights = np.asarray(weights, np.float64)
    terms = [
        part if weight == 1.0 else builder.op("Mul", part, builder.constant(weight, np.float64))
        for part, weight in zip(parts, weights, strict=True)
    ]
    total = terms[0] if len(terms) == 1 else builder.op("Sum", *terms)
    scale = float(weights.sum())
    return total if scale == 1.0 else builder.op("Div", total, builder.constant(scale, np.float64))


# ---- voting


@writes("proba", "VotingClassifier")
def _voting_proba(writer: Writer, model: Any, columns: Columns) -> str:
    parts = [writer.write("proba", member, columns) for member in model.estimators_]
    return average(writer, parts, model._weights_not_none)


@writes("label", "VotingClassifier")
def _voting_label(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    if model.voting == "soft":
        return builder.op("ArgMax", writer.write("proba", model, columns), axis=1, keepdims=0)
    n_classes = len(model.classes_)
    votes = [_one_hot(writer, member, columns, n_classes) for member in model.estimators_]
    return builder.op("ArgMax", average(writer, votes, model._weights_not_none), axis=1, keepdims=0)


def _one_hot(writer: Writer, member: Any, columns: Columns, n_classes: int) -> str:
    """float64 (N, n_classes): 1 at the encoded class that a member of an ensemble predicts."""
    builder = writer.builder
    # Members are fitted on encoded labels; a member may not have seen all of them.
    table = np.zeros((len(member.classes_), n_classes))
    table[np.arange(len(member.classes_)), np.asarray(member.classes_, np.int64)] = 1.0
    label = writer.write("label", member, columns)
    return builder.op("Gather", builder.constant(table), label, axis=0)


@writes("transform", "VotingClassifier")
def _voting_transform(writer: Writer, model: Any, columns: Columns) -> Columns:
    if model.voting == "soft":
        if not model.flatten_transform:
            raise unsupported(model, "flatten_transform=False gives three axes")
        parts = [response(writer, "predict_proba", m, columns) for m in model.estimators_]
    else:
        parts = [response(writer, "predict", m, columns) for m in model.estimators_]
    return tuple(column for name, width in parts for column in writer.new(name, width))


@writes("predict", "VotingRegressor")
def _voting_predict(writer: Writer, model: Any, columns: Columns) -> str:
    parts = [writer.write("predict", member, columns) for member in model.estimators_]
    return average(writer, parts, model._weights_not_none)


@writes("transform", "VotingRegressor")
def _voting_columns(writer: Writer, model: Any, columns: Columns) -> Columns:
    parts = [response(writer, "predict", member, columns) for member in model.estimators_]
    return tuple(column for name, width in parts for column in writer.new(name, width))


# ---- stacking


@writes("transform", "StackingClassifier", "StackingRegressor")
def _stacking_transform(writer: Writer, model: Any, columns: Columns) -> Columns:
    result: list[Any] = []
    for member, method in zip(model.estimators_, model.stack_method_, strict=True):
        if isinstance(getattr(model, "classes_", None), list):
            raise unsupported(model, "it answers several labels at once")
        name, width = response(writer, method, member, columns)
        made = writer.new(name, width)
        # Of two probabilities, only the second is passed on.
        result.extend(made[1:] if method == "predict_proba" and width == 2 else made)
    if model.passthrough:
        result.extend(columns)
    return tuple(result)


def _stacked(kind: Kind, *names: str) -> None:
    @writes(kind, *names)
    def stacked(writer: Writer, model: Any, columns: Columns) -> Any:
        return writer.write(kind, model.final_estimator_, writer.transform(model, columns))


for _kind in ("label", "proba", "decision"):
    _stacked(_kind, "StackingClassifier")
_stacked("predict", "StackingRegressor")


# ---- bagging


def _bags(model: Any, columns: Columns) -> list[tuple[Any, Columns]]:
    return [
        (member, tuple(columns[int(index)] for index in features))
        for member, features in zip(model.estimators_, model.estimators_features_, strict=True)
    ]


@writes("proba", "BaggingClassifier")
def _bagging_proba(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    n_classes = len(model.classes_)
    parts = []
    for member, chosen in _bags(model, columns):
        if not hasattr(member, "predict_proba"):
            parts.append(_one_hot(writer, member, chosen, n_classes))
            continue
        part = writer.write("proba", member, chosen)
        if len(member.classes_) < n_classes:
            spread = np.zeros((len(member.classes_), n_classes))
            at = np.asarray(member.classes_, np.int64)
            spread[np.arange(len(at)), at] = 1.0
            part = builder.op("MatMul", part, builder.constant(spread))
        parts.append(part)
    return average(writer, parts, None)


@writes("decision", "BaggingClassifier")
def _bagging_decision(writer: Writer, model: Any, columns: Columns) -> str:
    parts = [writer.write("decision", member, chosen) for member, chosen in _bags(model, columns)]
    return average(writer, parts, None)


@writes("predict", "BaggingRegressor")
def _bagging_predict(writer: Writer, model: Any, columns: Columns) -> str:
    parts = [writer.write("predict", member, chosen) for member, chosen in _bags(model, columns)]
    return average(writer, parts, None)


# ---- one classifier per class


@writes("proba", "OneVsRestClassifier")
def _one_vs_rest_proba(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    parts = []
    for member in model.estimators_:
        proba = writer.write("proba", member, columns)
        parts.append(builder.op("Gather", proba, builder.constant([1], np.int64), axis=1))
    if model.multilabel_:
        return builder.op("Concat", *parts, axis=1)
    if len(parts) == 1:
        return two_classes(writer, parts[0])
    proba = builder.op("Concat", *parts, axis=1)
    total = builder.op("ReduceSum", proba, builder.constant([1], np.int64))
    zero = builder.op("Equal", total, builder.constant(0.0, np.float64))
    safe = builder.op("Where", zero, builder.constant(1.0, np.float64), total)
    return builder.op("Div", proba, safe)


@writes("decision", "OneVsRestClassifier")
def _one_vs_rest_decision(writer: Writer, model: Any, columns: Columns) -> str:
    parts = [writer.write("decision", member, columns) for member in model.estimators_]
    return parts[0] if len(parts) == 1 else writer.builder.op("Concat", *parts, axis=1)


@writes("label", "OneVsRestClassifier")
def _one_vs_rest_label(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    if model.multilabel_:
        raise unsupported(model, "it answers several labels at once")
    parts, threshold = [], 0.0
    for member in model.estimators_:
        if hasattr(member, "decision_function"):
            parts.append(writer.write("decision", member, columns))
        else:
            proba = writer.write("proba", member, columns)
            parts.append(builder.op("Gather", proba, builder.constant([1], np.int64), axis=1))
            threshold = 0.5
    if len(parts) > 1:
        return builder.op("ArgMax", builder.op("Concat", *parts, axis=1), axis=1, keepdims=0)
    flat = builder.op("Reshape", parts[0], builder.constant([-1], np.int64))
    above = builder.op("Greater", flat, builder.constant(threshold, np.float64))
    return builder.cast(above, "bool", "int64")


@writes("predict", "OneVsRestClassifier")
def _one_vs_rest_labels(writer: Writer, model: Any, columns: Columns) -> str:
    # Asked for only where there are several labels at once.
    builder = writer.builder
    parts = []
    for member in model.estimators_:
        if hasattr(member, "decision_function"):
            score, limit = writer.write("decision", member, columns), 0.0
        else:
            proba, limit = writer.write("proba", member, columns), 0.5
            score = builder.op("Gather", proba, builder.constant([1], np.int64), axis=1)
        above = builder.op("Greater", score, builder.constant(limit, np.float64))
        parts.append(builder.cast(above, "bool", "float64"))
    return builder.op("Concat", *parts, axis=1)


# ---- several targets


@writes("proba_list", "MultiOutputClassifier")
def _multi_output_probas(writer: Writer, model: Any, columns: Columns) -> list[str]:
    return [writer.write("proba", member, columns) for member in model.estimators_]


@writes("predict", "MultiOutputClassifier")
def _multi_output_values(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    axis = builder.constant([1], np.int64)
    labels = [
        builder.op("Unsqueeze", writer.write("label", member, columns), axis)
        for member in model.estimators_
    ]
    return class_values(writer, model, labels, [m.classes_ for m in model.estimators_])


@writes("predict", "MultiOutputRegressor")
def _multi_output_predict(writer: Writer, model: Any, columns: Columns) -> str:
    parts = [writer.write("predict", member, columns) for member in model.estimators_]
    return parts[0] if len(parts) == 1 else writer.builder.op("Concat", *parts, axis=1)


@writes("predict", "RegressorChain")
def _chain_predict(writer: Writer, model: Any, columns: Columns) -> str:
    made: list[Columns] = []
    for member in model.estimators_:
        earlier = tuple(column for part in made for column in part)
        made.append(writer.new(writer.write("predict", member, (*columns, *earlier)), 1))
    position = {int(target): index for index, target in enumerate(model.order_)}
    ordered = [made[position[target]] for target in range(len(made))]
    return writer.numbers(tuple(column for part in ordered for column in part))


@writes("predict", "TransformedTargetRegressor")
def _transformed_target(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    name = writer.write("predict", model.regressor_, columns)
    transformer = model.transformer_
    kind = type(transformer).__name__
    if kind == "FunctionTransformer":
        inverse = transformer.inverse_func
        if inverse is None:
            return name
        made = apply_function(writer, inverse, name)
        if made is not None:
            return made
        raise unsupported(model, "what its inverse function does cannot be read")
    if kind == "StandardScaler":
        if transformer.with_std:
            name = builder.op("Mul", name, builder.constant(transformer.scale_, np.float64))
        if transformer.with_mean:
            name = builder.op("Add", name, builder.constant(transformer.mean_, np.float64))
        return name
    if kind == "MinMaxScaler":
        name = builder.op("Sub", name, builder.constant(transformer.min_, np.float64))
        return builder.op("Div", name, builder.constant(transformer.scale_, np.float64))
    raise unsupported(model, f"the inverse of {kind} is not known")
