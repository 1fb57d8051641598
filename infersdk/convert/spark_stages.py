"""Fitted stages of Spark ML, written one by one in float64.

What flows between stages is a DataFrame's columns by name: numbers, text, and vectors, which are several
numbers. Predictors are at the end of the file; each gives Spark's own three columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from infersdk.convert.sklearn_graph import Columns, GraphBuilder
from infersdk.convert.sklearn_writer import Writer
from infersdk.convert.spark_trees import SparkTree, read_tree, summed
from infersdk.convert.statsmodels_links import logistic, normal_cdf
from infersdk.errors import UnsupportedModelError

__all__ = ["Answers", "Stages", "inputs_of", "is_predictor", "outputs_of", "refuses", "stages_of"]

_LINKS = {"binomial": "logit", "gamma": "inverse", "gaussian": "identity", "poisson": "log"}
_INPUTS = ("inputCol", "inputCols", "featuresCol")
_OUTPUTS = ("outputCol", "outputCols", "predictionCol", "probabilityCol", "rawPredictionCol")


def stages_of(model: Any) -> list[Any]:
    """The fitted stages of a PipelineModel, those of inner pipelines too; else the model itself."""
    if type(model).__name__ != "PipelineModel":
        return [model]
    return [stage for part in model.stages for stage in stages_of(part)]


def _value(stage: Any, name: str) -> Any:
    """A parameter, or None where the stage does not have it or it is not set."""
    if not stage.hasParam(name):
        return None
    param = stage.getParam(name)
    return stage.getOrDefault(param) if stage.isSet(param) or stage.hasDefault(param) else None


def _names(stage: Any, params: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for name in params:
        # A default outputCol stands beside outputCols.
        if name in ("inputCol", "outputCol") and _value(stage, name + "s"):
            continue
        value = _value(stage, name)
        if value:
            found.extend([value] if isinstance(value, str) else value)
    return found


def inputs_of(stage: Any) -> list[str]:
    """The columns that a stage reads; empty where its parameters do not say."""
    return _names(stage, _INPUTS)


def outputs_of(stage: Any) -> list[str]:
    """The columns that a stage adds."""
    return _names(stage, _OUTPUTS)


def is_predictor(stage: Any) -> bool:
    return _value(stage, "predictionCol") is not None


def refuses(stage: Any) -> str:
    """What a stage does with invalid values: "error", "keep" or "skip"."""
    return str(_value(stage, "handleInvalid") or "error")


@dataclass(slots=True)
class Answers:
    """What the predictor gives, by method: tensor names; ``label`` is an index (N,)."""

    tensors: dict[str, str] = field(default_factory=dict)


def _unwritten(stage: Any, reason: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"Spark's {type(stage).__name__} has no exact ONNX form: {reason}. Served by Spark itself, every "
        "worker process starts a Java virtual machine, and an answer takes a Spark job"
    )


class Stages:
    """Writes stages into one graph.

    Parameters
    ----------
    builder : GraphBuilder
    columns : dict of str to Columns
        What the rows have; several columns for a vector.
    """

    def __init__(self, builder: GraphBuilder, columns: dict[str, Columns]) -> None:
        self.builder = builder
        self.writer = Writer(builder)
        self.columns = columns
        self.thresholds: list[tuple[Columns, SparkTree]] = []

    def write(self, stage: Any) -> Answers | None:
        """Write a stage; return a predictor's answers.

        Raises
        ------
        UnsupportedModelError
            There is no exact form of it.
        """
        name = type(stage).__name__
        transform = _TRANSFORMERS.get(name)
        if transform is not None:
            transform(self, stage)
            return None
        predict = _PREDICTORS.get(name)
        if predict is None:
            raise _unwritten(stage, "it is none of the stages that are written")
        if _value(stage, "thresholds") is not None:
            raise _unwritten(stage, "its thresholds= weigh the classes")
        answers: Answers = predict(self, stage, self._read(stage, stage.getFeaturesCol()))
        return answers

    def _read(self, stage: Any, name: str) -> Columns:
        if name not in self.columns:
            raise _unwritten(stage, f"its column `{name}` is made by a stage that is not written")
        return self.columns[name]

    def _numbers(self, stage: Any, name: str) -> str:
        columns = self._read(stage, name)
        if any(column.is_text for column in columns):
            raise _unwritten(stage, f"its column `{name}` is text")
        return self.builder.matrix(columns, "float64")

    def _put(self, name: str, tensor: str, width: int) -> None:
        self.columns[name] = self.writer.new(tensor, width)

    # ---- transformers

    def string_indexer(self, stage: Any) -> None:
        builder = self.builder
        keeps = refuses(stage) == "keep"
        pairs = zip(inputs_of(stage), outputs_of(stage), stage.labelsArray, strict=True)
        for given, made, labels in pairs:
            (column,) = self._read(stage, given)
            unknown = len(labels) if keeps else -1
            if column.is_text:
                code = builder.ml(
                    "LabelEncoder",
                    builder.matrix((column,), "string"),
                    keys_strings=list(labels),
                    values_int64s=list(range(len(labels))),
                    default_int64=unknown,
                )
                if keeps and "" in labels:
                    raise _unwritten(stage, "it tells missing text from the empty text")
                tensor = builder.cast(code, "int64", "float64")
            else:
                values = np.array([[float(label) for label in labels]])
                numbers = builder.matrix((column,), "float64")
                hit = builder.op("Equal", numbers, builder.constant(values))
                steps = builder.constant(np.arange(len(labels))[None, :] - float(unknown))
                hot = builder.op("Mul", builder.cast(hit, "bool", "float64"), steps)
                total = builder.op("ReduceSum", hot, builder.constant([1], np.int64))
                tensor = builder.op("Add", total, builder.constant(float(unknown), np.float64))
            self._put(made, tensor, 1)

    def one_hot(self, stage: Any) -> None:
        builder = self.builder
        keeps, drops = refuses(stage) == "keep", bool(stage.getDropLast())
        pairs = zip(inputs_of(stage), outputs_of(stage), stage.categorySizes, strict=True)
        for given, made, size in pairs:
            number = self._numbers(stage, given)
            if keeps:
                top = builder.constant(float(size), np.float64)
                number = builder.op("Where", builder.op("IsNaN", number), top, number)
                number = builder.op("Min", number, top)
            width = int(size) + int(keeps) - int(drops)
            places = builder.constant(np.arange(width, dtype=np.float64)[None, :])
            hot = builder.op("Equal", number, places)
            self._put(made, builder.cast(hot, "bool", "float64"), width)

    def assembler(self, stage: Any) -> None:
        made: list[Any] = []
        for name in inputs_of(stage):
            columns = self._read(stage, name)
            if any(column.is_text for column in columns):
                raise _unwritten(stage, f"its column `{name}` is text")
            made.extend(columns)
        self.columns[stage.getOutputCol()] = tuple(made)

    def _scaled(self, stage: Any, shift: Any, factor: np.ndarray, offset: Any = None) -> None:
        builder = self.builder
        (given,) = inputs_of(stage)
        number = self._numbers(stage, given)
        if shift is not None:
            number = builder.op("Sub", number, builder.constant(shift, np.float64))
        number = builder.op("Mul", number, builder.constant(factor, np.float64))
        if offset is not None:
            number = builder.op("Add", number, builder.constant(offset, np.float64))
        self._put(stage.getOutputCol(), number, len(factor))

    def standard_scaler(self, stage: Any) -> None:
        deviation = np.asarray(stage.std.toArray(), np.float64)
        safe = np.where(deviation == 0, 1.0, deviation)
        factor = np.where(deviation == 0, 0.0, 1.0 / safe)
        if not stage.getWithStd():
            factor = np.ones_like(factor)
        shift = np.asarray(stage.mean.toArray()) if stage.getWithMean() else None
        self._scaled(stage, shift, factor)

    def min_max_scaler(self, stage: Any) -> None:
        low = np.asarray(stage.originalMin.toArray(), np.float64)
        width = np.asarray(stage.originalMax.toArray(), np.float64) - low
        bottom, top = float(stage.getMin()), float(stage.getMax())
        safe = np.where(width == 0, 1.0, width)
        factor = np.where(width == 0, 0.0, (top - bottom) / safe)
        self._scaled(stage, low, factor, np.where(width == 0, (bottom + top) / 2, bottom))

    def max_abs_scaler(self, stage: Any) -> None:
        largest = np.asarray(stage.maxAbs.toArray(), np.float64)
        self._scaled(stage, None, 1.0 / np.where(largest == 0, 1.0, largest))

    def imputer(self, stage: Any) -> None:
        builder = self.builder
        missing = float(stage.getMissingValue())
        fills = stage.surrogateDF.collect()[0].asDict()
        for given, made in zip(inputs_of(stage), outputs_of(stage), strict=True):
            number = self._numbers(stage, given)
            absent = builder.op("IsNaN", number)
            if not np.isnan(missing):
                absent = builder.op("Equal", number, builder.constant(missing, np.float64))
            fill = builder.constant(float(fills[given]), np.float64)
            self._put(made, builder.op("Where", absent, fill, number), 1)

    def bucketizer(self, stage: Any) -> None:
        builder = self.builder
        several = _value(stage, "splitsArray")
        splits = several if several else [_value(stage, "splits")]
        for given, made, limits in zip(inputs_of(stage), outputs_of(stage), splits, strict=True):
            if not (np.isneginf(limits[0]) and np.isposinf(limits[-1])):
                raise _unwritten(stage, "it refuses values outside of its splits")
            number = self._numbers(stage, given)
            inner = np.asarray(limits[1:-1], np.float64)[None, :]
            reached = builder.op("GreaterOrEqual", number, builder.constant(inner))
            count = builder.op(
                "ReduceSum",
                builder.cast(reached, "bool", "float64"),
                builder.constant([1], np.int64),
            )
            if refuses(stage) == "keep":
                last = builder.constant(float(len(limits) - 1), np.float64)
                count = builder.op("Where", builder.op("IsNaN", number), last, count)
            self._put(made, count, 1)

    def binarizer(self, stage: Any) -> None:
        builder = self.builder
        several = _value(stage, "thresholds")
        names = inputs_of(stage)
        limits = several if several else [stage.getThreshold()] * len(names)
        for given, made, limit in zip(names, outputs_of(stage), limits, strict=True):
            number = self._numbers(stage, given)
            above = builder.op("Greater", number, builder.constant(float(limit), np.float64))
            self._put(made, builder.cast(above, "bool", "float64"), len(self._read(stage, given)))

    def pca(self, stage: Any) -> None:
        weights = np.asarray(stage.pc.toArray(), np.float64)
        (given,) = inputs_of(stage)
        product = self.builder.op(
            "MatMul", self._numbers(stage, given), self.builder.constant(weights)
        )
        self._put(stage.getOutputCol(), product, weights.shape[1])

    # ---- predictors

    def _affine(self, columns: Columns, weights: Any, offset: Any) -> str:
        builder = self.builder
        matrix = builder.matrix(columns, "float64")
        table = np.atleast_2d(np.asarray(weights, np.float64))
        product = builder.op("MatMul", matrix, builder.constant(np.ascontiguousarray(table.T)))
        return builder.op("Add", product, builder.constant(np.atleast_1d(offset), np.float64))

    def _both(self, margin: str) -> str:
        """(-m, m)."""
        return self.builder.op("Concat", self.builder.op("Neg", margin), margin, axis=1)

    def _above(self, raw: str, limit: float) -> str:
        """int64 (N,): whether the second column is above the limit."""
        builder = self.builder
        second = builder.op("Gather", raw, builder.constant(1, np.int64), axis=1)
        above = builder.op("Greater", second, builder.constant(limit, np.float64))
        return builder.cast(above, "bool", "int64")

    def _largest(self, scores: str) -> str:
        return self.builder.op("ArgMax", scores, axis=1, keepdims=0)

    def _normalized(self, raw: str) -> str:
        builder = self.builder
        return builder.op("Div", raw, builder.op("ReduceSum", raw, builder.constant([1], np.int64)))

    def _two(self, margin: str, slope: float = 1.0) -> str:
        """(1 - p, p) of p = 1 / (1 + exp(-slope * m)), with all digits of both."""
        builder = self.builder
        one = builder.constant(1.0, np.float64)
        parts = []
        for sign in (slope, -slope):
            power = builder.op("Mul", margin, builder.constant([sign], np.float64))
            parts.append(builder.op("Reciprocal", builder.op("Add", one, builder.op("Exp", power))))
        return builder.op("Concat", *parts, axis=1)

    def logistic_regression(self, stage: Any, columns: Columns) -> Answers:
        weights = np.asarray(stage.coefficientMatrix.toArray(), np.float64)
        offset = np.asarray(stage.interceptVector.toArray(), np.float64)
        margin = self._affine(columns, weights, offset)
        if len(weights) > 1:
            proba = self.builder.op("Softmax", margin, axis=1)
            label = self._largest(margin)
            if len(weights) == 2:
                raise _unwritten(stage, "two classes with the multinomial family")
            return Answers({"label": label, "probability": proba, "rawPrediction": margin})
        if int(stage.numClasses) != 2:
            raise _unwritten(stage, "it was fitted on one class")
        raw = self._both(margin)
        share = float(stage.getThreshold())
        with np.errstate(divide="ignore"):
            limit = float(np.log(share) - np.log1p(-share)) if 0 < share < 1 else share
        limit = {0.0: -np.inf, 1.0: np.inf}.get(share, limit)
        return Answers(
            {
                "label": self._above(raw, limit),
                "probability": self._two(margin),
                "rawPrediction": raw,
            }
        )

    def linear_svc(self, stage: Any, columns: Columns) -> Answers:
        margin = self._affine(columns, stage.coefficients.toArray(), stage.intercept)
        raw = self._both(margin)
        return Answers(
            {"label": self._above(raw, float(stage.getThreshold())), "rawPrediction": raw}
        )

    def linear_regression(self, stage: Any, columns: Columns) -> Answers:
        return Answers(
            {"prediction": self._affine(columns, stage.coefficients.toArray(), stage.intercept)}
        )

    def generalized(self, stage: Any, columns: Columns) -> Answers:
        builder = self.builder
        if _value(stage, "offsetCol"):
            raise _unwritten(stage, "it reads an offset")
        linear = self._affine(columns, stage.coefficients.toArray(), stage.intercept)
        link = _value(stage, "link") or _LINKS.get(str(stage.getFamily()))
        one = builder.constant(1.0, np.float64)
        if link == "identity":
            return Answers({"prediction": linear})
        if link == "log":
            return Answers({"prediction": builder.op("Exp", linear)})
        if link == "logit":
            return Answers({"prediction": logistic(builder, linear)})
        if link == "inverse":
            return Answers({"prediction": builder.op("Reciprocal", linear)})
        if link == "sqrt":
            return Answers({"prediction": builder.op("Mul", linear, linear)})
        if link == "probit":
            return Answers({"prediction": normal_cdf(builder, linear)})
        if link == "cloglog":
            inner = builder.op("Exp", builder.op("Neg", builder.op("Exp", linear)))
            return Answers({"prediction": builder.op("Sub", one, inner)})
        raise _unwritten(stage, f"its link {link!r} is not written")

    def naive_bayes(self, stage: Any, columns: Columns) -> Answers:
        builder = self.builder
        kind = str(stage.getModelType())
        prior = np.asarray(stage.pi.toArray(), np.float64)
        theta = np.asarray(stage.theta.toArray(), np.float64)
        if kind == "multinomial":
            raw = self._affine(columns, theta, prior)
        elif kind == "gaussian":
            sigma = np.asarray(stage.sigma.toArray(), np.float64)
            matrix = builder.matrix(columns, "float64")
            wide = builder.op("Unsqueeze", matrix, builder.constant([1], np.int64))
            off = builder.op("Sub", wide, builder.constant(theta[None]))
            squares = builder.op(
                "Mul", builder.op("Mul", off, off), builder.constant(-0.5 / sigma[None])
            )
            total = builder.op("ReduceSum", squares, builder.constant([2], np.int64), keepdims=0)
            start = prior - 0.5 * np.log(sigma).sum(axis=1)
            raw = builder.op("Add", total, builder.constant(start))
        else:
            raise _unwritten(stage, f"modelType={kind!r} checks every value")
        proba = builder.op("Softmax", raw, axis=1)
        return Answers({"label": self._largest(raw), "probability": proba, "rawPrediction": raw})

    def k_means(self, stage: Any, columns: Columns) -> Answers:
        builder = self.builder
        if stage.getDistanceMeasure() != "euclidean":
            raise _unwritten(stage, f"distanceMeasure={stage.getDistanceMeasure()!r}")
        centers = np.array(stage.clusterCenters(), np.float64)
        distance = self._affine(columns, -2.0 * centers, (centers**2).sum(axis=1))
        return Answers({"cluster": builder.op("ArgMin", distance, axis=1, keepdims=0)})

    def perceptron(self, stage: Any, columns: Columns) -> Answers:
        builder = self.builder
        sizes = list(stage.getLayers())
        flat = np.asarray(stage.weights.toArray(), np.float64)
        name, at = builder.matrix(columns, "float64"), 0
        for layer, (n_in, n_out) in enumerate(pairwise(sizes)):
            # Stored by column: (n_out, n_in).
            weights = flat[at : at + n_in * n_out].reshape(n_in, n_out)
            at += n_in * n_out
            offset = flat[at : at + n_out]
            at += n_out
            name = builder.op("MatMul", name, builder.constant(weights))
            name = builder.op("Add", name, builder.constant(offset))
            if layer < len(sizes) - 2:
                one = builder.constant(1.0, np.float64)
                power = builder.op("Exp", builder.op("Neg", name))
                name = builder.op("Reciprocal", builder.op("Add", one, power))
        proba = builder.op("Softmax", name, axis=1)
        return Answers({"label": self._largest(name), "probability": proba, "rawPrediction": name})

    def _trees(self, stage: Any, columns: Columns, n_classes: int) -> list[SparkTree]:
        members = stage.trees if hasattr(stage, "trees") else [stage]
        trees = [read_tree(m._call_java("rootNode"), n_classes=n_classes) for m in members]
        self.thresholds += [(columns, tree) for tree in trees]
        return trees

    def tree_classifier(self, stage: Any, columns: Columns) -> Answers:
        trees = self._trees(stage, columns, int(stage.numClasses))
        # A forest weighs all trees alike.
        raw = summed(self.writer, columns, trees, [1.0] * len(trees))
        if not hasattr(stage, "trees"):
            # A single tree's raw prediction counts training rows; its probabilities are its shares.
            return Answers({"label": self._largest(raw), "probability": raw})
        return Answers(
            {
                "label": self._largest(raw),
                "probability": self._normalized(raw),
                "rawPrediction": raw,
            }
        )

    def tree_regressor(self, stage: Any, columns: Columns) -> Answers:
        trees = self._trees(stage, columns, 0)
        # Around zero, sums of float32 keep more digits.
        center = float(np.mean([np.mean(tree.leaf) for tree in trees]))
        for tree in trees:
            tree.leaf = [leaf - center for leaf in tree.leaf]
        total = summed(self.writer, columns, trees, [1.0 / len(trees)] * len(trees))
        offset = self.builder.constant(center, np.float64)
        return Answers({"prediction": self.builder.op("Add", total, offset)})

    def boosted_regressor(self, stage: Any, columns: Columns) -> Answers:
        trees = self._trees(stage, columns, 0)
        return Answers({"prediction": summed(self.writer, columns, trees, list(stage.treeWeights))})

    def boosted_classifier(self, stage: Any, columns: Columns) -> Answers:
        trees = self._trees(stage, columns, 0)
        margin = summed(self.writer, columns, trees, list(stage.treeWeights))
        raw = self._both(margin)
        return Answers(
            {
                "label": self._above(raw, 0.0),
                "probability": self._two(margin, 2.0),
                "rawPrediction": raw,
            }
        )


_TRANSFORMERS: dict[str, Callable[[Stages, Any], None]] = {
    "Binarizer": Stages.binarizer,
    "Bucketizer": Stages.bucketizer,
    "ImputerModel": Stages.imputer,
    "MaxAbsScalerModel": Stages.max_abs_scaler,
    "MinMaxScalerModel": Stages.min_max_scaler,
    "OneHotEncoderModel": Stages.one_hot,
    "PCAModel": Stages.pca,
    "StandardScalerModel": Stages.standard_scaler,
    "StringIndexerModel": Stages.string_indexer,
    "VectorAssembler": Stages.assembler,
}

_PREDICTORS: dict[str, Callable[[Stages, Any, Columns], Answers]] = {
    "DecisionTreeClassificationModel": Stages.tree_classifier,
    "DecisionTreeRegressionModel": Stages.tree_regressor,
    "GBTClassificationModel": Stages.boosted_classifier,
    "GBTRegressionModel": Stages.boosted_regressor,
    "GeneralizedLinearRegressionModel": Stages.generalized,
    "KMeansModel": Stages.k_means,
    "LinearRegressionModel": Stages.linear_regression,
    "LinearSVCModel": Stages.linear_svc,
    "LogisticRegressionModel": Stages.logistic_regression,
    "MultilayerPerceptronClassificationModel": Stages.perceptron,
    "NaiveBayesModel": Stages.naive_bayes,
    "RandomForestClassificationModel": Stages.tree_classifier,
    "RandomForestRegressionModel": Stages.tree_regressor,
}
