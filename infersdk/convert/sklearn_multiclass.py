"""Several classifiers that answer as one: one against one, output codes, chains; frozen estimators."""

from __future__ import annotations

from typing import Any

import numpy as np

from infersdk.convert.sklearn_ensembles import delegate, n_decisions
from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_unsupervised import constant_rows
from infersdk.convert.sklearn_writer import Kind, Writer, class_values, unsupported, writes

_FROZEN: tuple[Kind, ...] = (
    "transform",
    "label",
    "proba",
    "proba_list",
    "log_proba",
    "decision",
    "predict",
    "score_samples",
)
for _kind in _FROZEN:
    delegate(_kind, "estimator", "FrozenEstimator")


def _score(writer: Writer, estimator: Any, columns: Columns) -> str:
    """float64 (N, 1): how much a member is for its second class, as scikit-learn asks it."""
    from sklearn.base import is_regressor

    builder = writer.builder
    if is_regressor(estimator):
        return writer.write("predict", estimator, columns)
    if hasattr(estimator, "decision_function"):
        name = writer.write("decision", estimator, columns)
        return builder.op("Reshape", name, builder.constant([-1, 1], np.int64))
    proba = writer.write("proba", estimator, columns)
    return builder.op("Gather", proba, builder.constant([1], np.int64), axis=1)


def _side(writer: Writer, estimator: Any, columns: Columns) -> str:
    """float64 (N, 1): 0 or 1, the class of a pair that a member predicts."""
    from sklearn.base import is_regressor

    builder = writer.builder
    if is_regressor(estimator):
        raise unsupported(estimator, "it is a regressor that votes between two classes")
    label = writer.write("label", estimator, columns)
    table = builder.constant(np.asarray(estimator.classes_, np.float64).reshape(-1, 1))
    return builder.op("Gather", table, label, axis=0)


@writes("decision", "_ConstantPredictor")
def _constant_decision(writer: Writer, model: Any, columns: Columns) -> str:
    return constant_rows(writer, columns, np.asarray(model.y_, np.float64).reshape(1, 1))


@writes("proba", "_ConstantPredictor")
def _constant_proba(writer: Writer, model: Any, columns: Columns) -> str:
    upper = float(np.asarray(model.y_).ravel()[0])
    return constant_rows(writer, columns, np.array([[1.0 - upper, upper]]))


# ---- one against one


def _pair_scores(writer: Writer, model: Any, columns: Columns) -> str:
    """float64 (N, K): votes, and a part of the summed confidence that only breaks ties between them."""
    builder = writer.builder
    n_classes = len(model.classes_)
    pairs = [(i, j) for i in range(n_classes) for j in range(i + 1, n_classes)]
    chosen = model.pairwise_indices_
    rows = [
        columns if chosen is None else tuple(columns[int(index)] for index in chosen[position])
        for position in range(len(pairs))
    ]
    members = list(zip(model.estimators_, rows, strict=True))
    sides = builder.op("Concat", *(_side(writer, m, part) for m, part in members), axis=1)
    scores = builder.op("Concat", *(_score(writer, m, part) for m, part in members), axis=1)
    toward = np.zeros((len(pairs), n_classes))
    lost = np.zeros(n_classes)
    for row, (i, j) in enumerate(pairs):
        toward[row, i], toward[row, j] = -1.0, 1.0
        lost[i] += 1.0
    gained = builder.op("MatMul", sides, builder.constant(toward))
    votes = builder.op("Add", gained, builder.constant(lost))
    confidence = builder.op("MatMul", scores, builder.constant(toward))
    size = builder.op("Add", builder.op("Abs", confidence), builder.constant(1.0, np.float64))
    three = builder.constant(3.0, np.float64)
    bounded = builder.op("Div", confidence, builder.op("Mul", size, three))
    return builder.op("Add", votes, bounded)


@writes("decision", "OneVsOneClassifier")
def _one_vs_one_decision(writer: Writer, model: Any, columns: Columns) -> str:
    scores = _pair_scores(writer, model, columns)
    if len(model.classes_) > 2:
        return scores
    index = writer.builder.constant([1], np.int64)
    return writer.builder.op("Gather", scores, index, axis=1)


@writes("label", "OneVsOneClassifier")
def _one_vs_one_label(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    scores = _pair_scores(writer, model, columns)
    if len(model.classes_) > 2:
        return builder.op("ArgMax", scores, axis=1, keepdims=0)
    upper = builder.op("Gather", scores, builder.constant(1, np.int64), axis=1)
    limit = 0.0 if hasattr(model.estimators_[0], "decision_function") else 0.5
    above = builder.op("Greater", upper, builder.constant(limit, np.float64))
    return builder.cast(above, "bool", "int64")


# ---- output codes


@writes("label", "OutputCodeClassifier")
def _output_code_label(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    scores = [_score(writer, member, columns) for member in model.estimators_]
    code = builder.op("Unsqueeze", builder.op("Concat", *scores, axis=1), _axis(writer, 1))
    gaps = builder.op("Sub", code, builder.constant(model.code_book_, np.float64))
    squared = builder.op("ReduceSumSquare", gaps, _axis(writer, 2), keepdims=0)
    return builder.op("ArgMin", squared, axis=1, keepdims=0)


def _axis(writer: Writer, axis: int) -> str:
    return writer.builder.constant([axis], np.int64)


# ---- chains


def _chain(writer: Writer, model: Any, columns: Columns) -> list[tuple[Any, Columns]]:
    """Each member, by its target, and the columns that it reads: its predecessors' answers are among them."""
    builder = writer.builder
    reads = columns
    found: dict[int, tuple[Any, Columns]] = {}
    for member, target in zip(model.estimators_, model.order_, strict=True):
        found[int(target)] = (member, reads)
        method = getattr(model, "chain_method_", "predict")
        if method == "predict":
            label = writer.write("label", member, reads)
            column = builder.op("Unsqueeze", label, _axis(writer, 1))
            made = class_values(writer, model, [column], [member.classes_])
        elif len(member.classes_) != 2:
            raise unsupported(model, f"chain_method={method!r} with more than two classes")
        elif method == "decision_function":
            made = writer.write("decision", member, reads)
        else:
            kind: Kind = "proba" if method == "predict_proba" else "log_proba"
            made = builder.op("Gather", writer.write(kind, member, reads), _axis(writer, 1), axis=1)
        reads = (*reads, *writer.new(made, 1))
    return [found[target] for target in range(len(found))]


@writes("predict", "ClassifierChain")
def _chain_predict(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    members = _chain(writer, model, columns)
    labels = [
        builder.op("Unsqueeze", writer.write("label", member, reads), _axis(writer, 1))
        for member, reads in members
    ]
    return class_values(writer, model, labels, [member.classes_ for member, _ in members])


@writes("proba", "ClassifierChain")
def _chain_proba(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    parts = []
    for member, reads in _chain(writer, model, columns):
        if len(member.classes_) != 2:
            raise unsupported(model, "a target with more than two classes")
        proba = writer.write("proba", member, reads)
        parts.append(builder.op("Gather", proba, _axis(writer, 1), axis=1))
    return builder.op("Concat", *parts, axis=1)


@writes("decision", "ClassifierChain")
def _chain_decision(writer: Writer, model: Any, columns: Columns) -> str:
    members = _chain(writer, model, columns)
    if any(n_decisions(member) != 1 for member, _ in members):
        raise unsupported(model, "a target with more than two classes")
    parts = [writer.write("decision", member, reads) for member, reads in members]
    return writer.builder.op("Concat", *parts, axis=1)
