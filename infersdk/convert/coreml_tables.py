"""Core ML's models over numbers and text: linear models, trees, SVMs, and pipelines of steps in front of them.

Every function reads a part of the specification and writes it in float64. What flows between the models of a
pipeline is columns by feature name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from infersdk.convert import libsvm
from infersdk.convert.sklearn_graph import Columns, GraphBuilder
from infersdk.convert.sklearn_splits import Ranks
from infersdk.convert.sklearn_writer import Writer
from infersdk.convert.statsmodels_links import logistic, normal_cdf
from infersdk.convert.tree_graph import Tree, add_ensemble
from infersdk.errors import UnsupportedModelError

__all__ = ["Tables", "classes_of", "kind_of", "parts_of", "thresholds_of"]

_LESS_EQUAL, _LESS, _GREATER_EQUAL, _GREATER, _EQUAL, _NOT_EQUAL, _LEAF = range(7)


def kind_of(spec: Any) -> str:
    """Which of Core ML's model types a specification is."""
    return str(spec.WhichOneof("Type"))


def parts_of(spec: Any) -> list[Any]:
    """The models of a pipeline in order, those of inner pipelines too; else the model itself."""
    kind = kind_of(spec)
    if kind not in ("pipeline", "pipelineClassifier", "pipelineRegressor"):
        return [spec]
    holder = spec.pipeline if kind == "pipeline" else getattr(spec, kind).pipeline
    return [part for model in holder.models for part in parts_of(model)]


def classes_of(model: Any) -> list[Any]:
    """The class labels of a classifier's parameters."""
    names = list(model.stringClassLabels.vector)
    return names or [int(value) for value in model.int64ClassLabels.vector]


def thresholds_of(spec: Any) -> dict[int, list[float]]:
    """What a tree ensemble compares its features with."""
    found: dict[int, list[float]] = defaultdict(list)
    kind = kind_of(spec)
    if kind.startswith("treeEnsemble"):
        for node in getattr(spec, kind).treeEnsemble.nodes:
            if node.nodeBehavior != _LEAF:
                found[int(node.branchFeatureIndex)].append(float(node.branchFeatureValue))
    return found


def _unwritten(what: str, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"Core ML's {what} has no exact ONNX form: {reason}. Convert the model from the framework that "
        "it was trained in"
    )


@dataclass(slots=True)
class Tables:
    """Writes the parts of a model into one graph.

    Parameters
    ----------
    builder : GraphBuilder
    columns : dict of str to Columns
        By feature name.
    """

    builder: GraphBuilder
    columns: dict[str, Columns]

    def write(self, spec: Any) -> dict[str, str]:
        """Write one part; return a predictor's answers: ``prediction``, or ``label`` and ``probabilities``."""
        kind = kind_of(spec)
        given = tuple(c for item in spec.description.input for c in self._read(item.name))
        step = _STEPS.get(kind)
        if step is not None:
            made = step(self, getattr(spec, kind), given)
            self.columns[spec.description.output[0].name] = made
            return {}
        predictor = _PREDICTORS.get(kind)
        if predictor is None:
            raise _unwritten(kind, "it is none of the types that are written")
        return predictor(self, getattr(spec, kind), given)

    def _read(self, name: str) -> Columns:
        if name not in self.columns:
            raise _unwritten("pipeline", f"feature `{name}` comes from no step that is written")
        return self.columns[name]

    def _matrix(self, columns: Columns) -> str:
        if any(column.is_text for column in columns):
            raise _unwritten("model", "a text feature reaches a step that takes numbers only")
        return self.builder.matrix(columns, "float64")

    def _new(self, tensor: str, width: int) -> Columns:
        return self.builder.value(tensor, "float64", width).columns()

    # ---- steps

    def vectorizer(self, part: Any, columns: Columns) -> Columns:
        order = [c for item in part.inputList for c in self._read(item.inputColumn)]
        return tuple(order)

    def identity(self, part: Any, columns: Columns) -> Columns:
        return columns

    def extractor(self, part: Any, columns: Columns) -> Columns:
        return tuple(columns[int(index)] for index in part.extractIndex)

    def scaler(self, part: Any, columns: Columns) -> Columns:
        builder = self.builder
        shift = np.asarray(part.shiftValue, np.float64)
        factor = np.asarray(part.scaleValue, np.float64)
        shifted = builder.op("Add", self._matrix(columns), builder.constant(shift))
        return self._new(builder.op("Mul", shifted, builder.constant(factor)), len(columns))

    def imputer(self, part: Any, columns: Columns) -> Columns:
        builder = self.builder
        kind = part.WhichOneof("ImputedValue")
        if kind == "imputedDoubleArray":
            values = np.asarray(part.imputedDoubleArray.vector, np.float64)
        elif kind in ("imputedDoubleValue", "imputedInt64Value"):
            values = np.asarray([getattr(part, kind)], np.float64)
        elif kind == "imputedInt64Array":
            values = np.asarray(part.imputedInt64Array.vector, np.float64)
        else:
            raise _unwritten("imputer", f"it fills in {kind}")
        replaced = part.WhichOneof("ReplaceValue")
        missing = float(getattr(part, replaced)) if replaced else np.nan
        matrix = self._matrix(columns)
        if np.isnan(missing):
            absent = builder.op("IsNaN", matrix)
        else:
            absent = builder.op("Equal", matrix, builder.constant(missing, np.float64))
        fill = builder.constant(values[None, :], np.float64)
        return self._new(builder.op("Where", absent, fill, matrix), len(columns))

    def one_hot(self, part: Any, columns: Columns) -> Columns:
        builder = self.builder
        (column,) = columns
        names = list(part.stringCategories.vector)
        if names:
            if not column.is_text:
                raise _unwritten("oneHotEncoder", "its categories are text and its feature is not")
            code = builder.ml(
                "LabelEncoder",
                builder.matrix((column,), "string"),
                keys_strings=names,
                values_int64s=list(range(len(names))),
                default_int64=-1,
            )
            hot = builder.op("Equal", code, builder.constant([list(range(len(names)))], np.int64))
            return self._new(builder.cast(hot, "bool", "float64"), len(names))
        numbers = np.array([part.int64Categories.vector], np.float64)
        hot = builder.op("Equal", self._matrix(columns), builder.constant(numbers))
        return self._new(builder.cast(hot, "bool", "float64"), numbers.shape[1])

    def normalizer(self, part: Any, columns: Columns) -> Columns:
        builder = self.builder
        matrix = self._matrix(columns)
        axis = builder.constant([1], np.int64)
        if part.normType == 0:
            size = builder.op("ReduceMax", builder.op("Abs", matrix), axis)
        else:
            size = builder.op("ReduceL1" if part.normType == 1 else "ReduceL2", matrix, axis)
        zero = builder.op("Equal", size, builder.constant(0.0, np.float64))
        safe = builder.op("Where", zero, builder.constant(1.0, np.float64), size)
        return self._new(builder.op("Div", matrix, safe), len(columns))

    # ---- predictors

    def _affine(self, part: Any, columns: Columns) -> str:
        builder = self.builder
        weights = np.array([list(row.value) for row in part.weights], np.float64)
        product = builder.op("MatMul", self._matrix(columns), builder.constant(weights.T.copy()))
        return builder.op("Add", product, builder.constant(np.asarray(part.offset, np.float64)))

    def glm_regressor(self, part: Any, columns: Columns) -> dict[str, str]:
        value = self._affine(part, columns)
        if part.postEvaluationTransform == 1:
            value = logistic(self.builder, value)
        elif part.postEvaluationTransform == 2:
            if len(part.weights) > 1:
                raise _unwritten("glmRegressor", "the probit of several outputs")
            value = normal_cdf(self.builder, value)
        return {"prediction": value}

    def glm_classifier(self, part: Any, columns: Columns) -> dict[str, str]:
        builder = self.builder
        score = self._affine(part, columns)
        if part.postEvaluationTransform == 1:
            if len(part.weights) > 1:
                raise _unwritten("glmClassifier", "the probit of several classes")
            return self._elected(self._two(normal_cdf(builder, score)))
        n_classes = len(classes_of(part))
        if n_classes == 2 and len(part.weights) == 1:
            return self._elected(self._two(logistic(builder, score)))
        if part.classEncoding == 0:
            # The first class is the one that the others are measured against.
            first = builder.op("Gather", score, builder.constant([0], np.int64), axis=1)
            zero = builder.op("Sub", first, first)
            return self._elected(
                builder.op("Softmax", builder.op("Concat", zero, score, axis=1), axis=1)
            )
        shares = logistic(builder, score)
        total = builder.op("ReduceSum", shares, builder.constant([1], np.int64))
        return self._elected(builder.op("Div", shares, total))

    def _two(self, upper: str) -> str:
        builder = self.builder
        lower = builder.op("Sub", builder.constant(1.0, np.float64), upper)
        return builder.op("Concat", lower, upper, axis=1)

    def _elected(self, probabilities: str) -> dict[str, str]:
        label = self.builder.op("ArgMax", probabilities, axis=1, keepdims=0)
        return {"label": label, "probabilities": probabilities}

    def _trees(self, part: Any, columns: Columns) -> str:
        """float64 (N, n_dimensions): the sum of the trees and the base values."""
        parameters = part.treeEnsemble
        n_outputs = int(parameters.numPredictionDimensions)
        base = np.zeros(n_outputs)
        base[:] = np.asarray(parameters.basePredictionValue or [0.0], np.float64)
        trees: dict[int, dict[int, Any]] = defaultdict(dict)
        for node in parameters.nodes:
            trees[int(node.treeId)][int(node.nodeId)] = node
        read = [_Read(nodes, n_outputs) for nodes in trees.values()]
        source = Ranks(columns, [(tree.column, tree.limit) for tree in read])
        writer = Writer(self.builder)
        graph: Any = self.builder
        written = [tree.written(source) for tree in read]
        total = add_ensemble(
            graph, source.matrix(writer), written, np.zeros(n_outputs), mode="BRANCH_LEQ"
        )
        total = self.builder.cast(total, "float32", "float64")
        return self.builder.op("Add", total, self.builder.constant(base))

    def tree_regressor(self, part: Any, columns: Columns) -> dict[str, str]:
        value = self._trees(part, columns)
        transform = int(part.postEvaluationTransform)
        if transform not in (0, 2):
            raise _unwritten("treeEnsembleRegressor", f"its transform {transform} is of classes")
        return {"prediction": logistic(self.builder, value) if transform == 2 else value}

    def tree_classifier(self, part: Any, columns: Columns) -> dict[str, str]:
        builder = self.builder
        score = self._trees(part, columns)
        transform = int(part.postEvaluationTransform)
        n_outputs, n_classes = int(part.treeEnsemble.numPredictionDimensions), len(classes_of(part))
        if transform == 2 and n_outputs == 1:
            return self._elected(self._two(logistic(builder, score)))
        if transform == 3:
            first = builder.op("Gather", score, builder.constant([0], np.int64), axis=1)
            score = builder.op("Concat", builder.op("Sub", first, first), score, axis=1)
            return self._elected(builder.op("Softmax", score, axis=1))
        if n_outputs != n_classes:
            raise _unwritten(
                "treeEnsembleClassifier", f"{n_outputs} values for {n_classes} classes"
            )
        if transform == 1:
            score = builder.op("Softmax", score, axis=1)
        elif transform == 2:
            score = logistic(builder, score)
        return self._elected(score)

    def svm(self, part: Any, columns: Columns) -> dict[str, str]:
        model = _as_libsvm(part, len(columns))
        decision = libsvm.decision_values(self.builder, model, self._matrix(columns), len(columns))
        if model.nr_class == 0:
            return {"prediction": decision}
        answers = {"label": libsvm.elected(self.builder, decision, model.nr_class)}
        if model.probA:
            answers["probabilities"] = libsvm.probabilities(self.builder, model, decision)
            # Core ML names the likeliest class, where LIBSVM counts votes.
            answers["label"] = self.builder.op(
                "ArgMax", answers["probabilities"], axis=1, keepdims=0
            )
        return answers


class _Read:
    """One tree of a specification as flat arrays; every comparison as ``x <= limit``."""

    def __init__(self, nodes: dict[int, Any], n_outputs: int) -> None:
        inner = [key for key, node in nodes.items() if node.nodeBehavior != _LEAF]
        outer = [key for key, node in nodes.items() if node.nodeBehavior == _LEAF]
        children = {
            child
            for key in inner
            for child in (nodes[key].trueChildNodeId, nodes[key].falseChildNodeId)
        }
        (root,) = set(nodes) - children
        if root in inner:
            inner.remove(root)
            inner.insert(0, root)
        place = {key: index for index, key in enumerate(inner)}
        place.update({key: ~index for index, key in enumerate(outer)})
        self.leaf = np.zeros((len(outer), n_outputs))
        for row, key in enumerate(outer):
            for item in nodes[key].evaluationInfo:
                self.leaf[row, int(item.evaluationIndex)] += item.evaluationValue
        column, limit, left, right, nan_left = [], [], [], [], []
        for key in inner:
            node = nodes[key]
            behavior, value = int(node.nodeBehavior), float(node.branchFeatureValue)
            if behavior in (_EQUAL, _NOT_EQUAL):
                raise _unwritten("tree ensemble", "a branch compares for equality")
            true, false = place[node.trueChildNodeId], place[node.falseChildNodeId]
            missing = bool(node.missingValueTracksTrueChild)
            if behavior in (_LESS, _GREATER_EQUAL):
                # x < v is x <= the number below v.
                value = float(np.nextafter(value, -np.inf))
            if behavior in (_GREATER, _GREATER_EQUAL):
                true, false, missing = false, true, not missing
            column.append(int(node.branchFeatureIndex))
            limit.append(value)
            left.append(true)
            right.append(false)
            nan_left.append(missing)
        self.column = np.array(column, np.int64)
        self.limit = np.array(limit, np.float64)
        self.left, self.right = np.array(left, np.int64), np.array(right, np.int64)
        self.nan_left = np.array(nan_left, np.bool_)

    def written(self, source: Ranks) -> Tree:
        threshold = np.empty(0, np.float32)
        if len(self.column):
            threshold = source.threshold(self.column, self.limit)
        return Tree(
            column=self.column,
            threshold=threshold,
            left=self.left,
            right=self.right,
            nan_left=self.nan_left,
            leaf=self.leaf,
            targets=tuple(range(self.leaf.shape[1])),
        )


def _as_libsvm(part: Any, width: int) -> Any:
    """A Core ML SVM with the names that LIBSVM's own models have."""
    kernel = part.kernel.WhichOneof("kernel")
    kinds = {"linearKernel": 0, "polyKernel": 1, "rbfKernel": 2, "sigmoidKernel": 3}
    settings = getattr(part.kernel, kernel)
    if part.WhichOneof("supportVectors") == "denseSupportVectors":
        vectors = [
            {index + 1: value for index, value in enumerate(vector.values)}
            for vector in part.denseSupportVectors.vectors
        ]
    else:
        vectors = [
            {int(node.index): node.value for node in vector.nodes}
            for vector in part.sparseSupportVectors.vectors
        ]
    is_classifier = hasattr(part, "numberOfSupportVectorsPerClass")
    if is_classifier:
        coefficients = np.array([list(row.alpha) for row in part.coefficients]).T
        rho = list(part.rho)
    else:
        coefficients = np.array(part.coefficients.alpha)[:, None]
        rho = [float(part.rho)]
    return SimpleNamespace(
        param=SimpleNamespace(
            svm_type=0 if is_classifier else 3,
            kernel_type=kinds[kernel],
            gamma=float(getattr(settings, "gamma", 0.0)),
            coef0=float(getattr(settings, "c", 0.0)),
            degree=int(getattr(settings, "degree", 0)),
        ),
        nr_class=len(part.numberOfSupportVectorsPerClass) if is_classifier else 0,
        l=len(vectors),
        nSV=list(part.numberOfSupportVectorsPerClass) if is_classifier else [],
        rho=rho,
        probA=list(getattr(part, "probA", ())),
        probB=list(getattr(part, "probB", ())),
        get_SV=lambda: vectors,
        get_sv_coef=lambda: coefficients,
    )


_STEPS: dict[str, Callable[[Tables, Any, Columns], Columns]] = {
    "arrayFeatureExtractor": Tables.extractor,
    "featureVectorizer": Tables.vectorizer,
    "identity": Tables.identity,
    "imputer": Tables.imputer,
    "normalizer": Tables.normalizer,
    "oneHotEncoder": Tables.one_hot,
    "scaler": Tables.scaler,
}

_PREDICTORS: dict[str, Callable[[Tables, Any, Columns], dict[str, str]]] = {
    "glmClassifier": Tables.glm_classifier,
    "glmRegressor": Tables.glm_regressor,
    "supportVectorClassifier": Tables.svm,
    "supportVectorRegressor": Tables.svm,
    "treeEnsembleClassifier": Tables.tree_classifier,
    "treeEnsembleRegressor": Tables.tree_regressor,
}
