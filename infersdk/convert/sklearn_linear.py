"""Models that are one product and a link: linear, generalized linear, MLP, SVM.

All in float64, as scikit-learn computes them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_numeric import squared_distances
from infersdk.convert.sklearn_writer import Writer, index_of, unsupported, writes

# ---- linear

_CLASSIFIERS = (
    "LinearDiscriminantAnalysis",
    "LinearSVC",
    "LogisticRegression",
    "LogisticRegressionCV",
    "PassiveAggressiveClassifier",
    "Perceptron",
    "RidgeClassifier",
    "RidgeClassifierCV",
    "SGDClassifier",
)
_REGRESSORS = (
    "ARDRegression",
    "BayesianRidge",
    "ElasticNet",
    "ElasticNetCV",
    "HuberRegressor",
    "Lars",
    "LarsCV",
    "Lasso",
    "LassoCV",
    "LassoLars",
    "LassoLarsCV",
    "LassoLarsIC",
    "LinearRegression",
    "LinearSVR",
    "MultiTaskElasticNet",
    "MultiTaskElasticNetCV",
    "MultiTaskLasso",
    "MultiTaskLassoCV",
    "OrthogonalMatchingPursuit",
    "OrthogonalMatchingPursuitCV",
    "PassiveAggressiveRegressor",
    "QuantileRegressor",
    "Ridge",
    "RidgeCV",
    "SGDRegressor",
    "TheilSenRegressor",
)


def _linear(writer: Writer, model: Any, columns: Columns) -> str:
    coefficients = model.coef_.toarray() if hasattr(model.coef_, "toarray") else model.coef_
    weights = np.atleast_2d(np.asarray(coefficients, np.float64))
    offset = np.atleast_1d(np.asarray(model.intercept_, np.float64))
    return affine(writer, writer.numbers(columns), weights.T, offset)


def affine(writer: Writer, name: str, weights: np.ndarray, offset: np.ndarray | None) -> str:
    """``name @ weights + offset``."""
    builder = writer.builder
    product = builder.op("MatMul", name, builder.constant(weights, np.float64))
    if offset is None or not np.any(offset):
        return product
    return builder.op("Add", product, builder.constant(offset, np.float64))


@writes("predict", *_REGRESSORS)
def _linear_predict(writer: Writer, model: Any, columns: Columns) -> str:
    return _linear(writer, model, columns)


@writes("decision", *_CLASSIFIERS)
def _linear_decision(writer: Writer, model: Any, columns: Columns) -> str:
    return _linear(writer, model, columns)


@writes("label", *_CLASSIFIERS)
def _linear_label(writer: Writer, model: Any, columns: Columns) -> str:
    binarizer = getattr(model, "_label_binarizer", None)
    if binarizer is not None and binarizer.y_type_.startswith("multilabel"):
        raise unsupported(model, "it answers several labels at once")
    return index_of(writer, writer.write("decision", model, columns), _n_decisions(model))


@writes("predict", "RidgeClassifier", "RidgeClassifierCV")
def _ridge_labels(writer: Writer, model: Any, columns: Columns) -> str:
    # Asked for only where there are several labels at once.
    return _above(writer, writer.write("decision", model, columns), 0.0)


def _above(writer: Writer, name: str, limit: float) -> str:
    """float64: 1 where a number is above the limit, else 0."""
    builder = writer.builder
    hit = builder.op("Greater", name, builder.constant(limit, np.float64))
    return builder.cast(hit, "bool", "float64")


def _n_decisions(model: Any) -> int:
    return int(np.atleast_2d(model.coef_).shape[0])


@writes("proba", "LinearDiscriminantAnalysis", "LogisticRegression", "LogisticRegressionCV")
def _logistic_proba(writer: Writer, model: Any, columns: Columns) -> str:
    decision = writer.write("decision", model, columns)
    n_columns = _n_decisions(model)
    # Before scikit-learn 1.8 multi_class= chose between one softmax and one classifier per class.
    multi_class = getattr(model, "multi_class", "auto")
    if n_columns == 1:
        if multi_class == "multinomial":
            decision = writer.builder.op("Mul", decision, writer.builder.constant(2.0, np.float64))
        return two_classes(writer, logistic(writer, decision))
    if multi_class == "ovr" or getattr(model, "solver", None) == "liblinear":
        return _normalized_rows(writer, logistic(writer, decision), n_columns)
    return writer.builder.op("Softmax", decision, axis=1)


@writes("log_proba", "LinearDiscriminantAnalysis")
def _discriminant_log_proba(writer: Writer, model: Any, columns: Columns) -> str:
    # scikit-learn keeps the logarithm finite here, and only here.
    builder = writer.builder
    proba = writer.write("proba", model, columns)
    zero = builder.op("Equal", proba, builder.constant(0.0, np.float64))
    tiny = builder.constant(np.finfo(np.float64).smallest_normal)
    return builder.op("Log", builder.op("Where", zero, tiny, proba))


@writes("proba", "SGDClassifier")
def _sgd_proba(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    decision = writer.write("decision", model, columns)
    n_columns = _n_decisions(model)
    if model.loss == "modified_huber":
        # Zhang and others (2002): (clip(f, -1, 1) + 1) / 2.
        one = builder.constant(1.0, np.float64)
        clipped = builder.op("Clip", decision, builder.constant(-1.0, np.float64), one)
        half = builder.constant(2.0, np.float64)
        score = builder.op("Div", builder.op("Add", clipped, one), half)
    else:
        score = logistic(writer, decision)
    if n_columns == 1:
        return two_classes(writer, score)
    return _normalized_rows(writer, score, n_columns)


def logistic(writer: Writer, name: str) -> str:
    """1 / (1 + exp(-x)). ONNX Runtime's Sigmoid is cut off where its value is small."""
    builder = writer.builder
    one = builder.constant(1.0, np.float64)
    return builder.op(
        "Div", one, builder.op("Add", one, builder.op("Exp", builder.op("Neg", name)))
    )


def two_classes(writer: Writer, upper: str) -> str:
    """(1 - p, p) of the second class's probability (N, 1)."""
    builder = writer.builder
    lower = builder.op("Sub", builder.constant(1.0, np.float64), upper)
    return builder.op("Concat", lower, upper, axis=1)


def _normalized_rows(writer: Writer, name: str, n_columns: int) -> str:
    """Rows that sum to 1; where all are zero, every class alike."""
    builder = writer.builder
    total = builder.op("ReduceSum", name, builder.constant([1], np.int64))
    zero = builder.op("Equal", total, builder.constant(0.0, np.float64))
    safe = builder.op("Where", zero, builder.constant(1.0, np.float64), total)
    alike = builder.constant(1.0 / n_columns, np.float64)
    return builder.op("Where", zero, alike, builder.op("Div", name, safe))


@writes("transform", "LinearDiscriminantAnalysis")
def _discriminant_transform(writer: Writer, model: Any, columns: Columns) -> Columns:
    builder = writer.builder
    name = writer.numbers(columns)
    if model.solver == "svd":
        name = builder.op("Sub", name, builder.constant(model.xbar_, np.float64))
    weights = model.scalings_[:, : model._max_components]
    return writer.new(affine(writer, name, weights, None), weights.shape[1])


@writes("predict", "GammaRegressor", "PoissonRegressor", "TweedieRegressor")
def _glm_predict(writer: Writer, model: Any, columns: Columns) -> str:
    raw = _linear(writer, model, columns)
    identity = type(model._base_loss.link).__name__ == "IdentityLink"
    return raw if identity else writer.builder.op("Exp", raw)


@writes("predict", "CCA", "PLSCanonical", "PLSRegression")
def _pls_predict(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    mean = builder.constant(model._x_mean, np.float64)
    centered = builder.op("Sub", writer.numbers(columns), mean)
    offset = np.asarray(model.intercept_, np.float64)
    return affine(writer, centered, np.asarray(model.coef_, np.float64).T, offset)


# ---- neural networks


def _mlp(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    name = writer.numbers(columns)
    hidden = {"tanh": "Tanh", "relu": "Relu", "logistic": "Sigmoid"}
    layers = list(zip(model.coefs_, model.intercepts_, strict=True))
    for index, (weights, offset) in enumerate(layers):
        name = affine(writer, name, np.asarray(weights, np.float64), np.asarray(offset))
        if index < len(layers) - 1 and model.activation != "identity":
            name = builder.op(hidden[model.activation], name)
    return name


@writes("proba", "MLPClassifier")
def _mlp_proba(writer: Writer, model: Any, columns: Columns) -> str:
    raw = _mlp(writer, model, columns)
    if model._label_binarizer.y_type_.startswith("multilabel"):
        return logistic(writer, raw)
    if model.out_activation_ == "softmax":
        return writer.builder.op("Softmax", raw, axis=1)
    return two_classes(writer, logistic(writer, raw))


@writes("label", "MLPClassifier")
def _mlp_label(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    proba = writer.write("proba", model, columns)
    if len(model.classes_) > 2:
        return builder.op("ArgMax", proba, axis=1, keepdims=0)
    # LabelBinarizer takes the second class above one half.
    upper = builder.op("Gather", proba, builder.constant(1, np.int64), axis=1)
    above = builder.op("Greater", upper, builder.constant(0.5, np.float64))
    return builder.cast(above, "bool", "int64")


@writes("predict", "MLPClassifier")
def _mlp_labels(writer: Writer, model: Any, columns: Columns) -> str:
    # Asked for only where there are several labels at once.
    return _above(writer, writer.write("proba", model, columns), 0.5)


@writes("predict", "MLPRegressor")
def _mlp_predict(writer: Writer, model: Any, columns: Columns) -> str:
    raw = _mlp(writer, model, columns)
    if model.out_activation_ == "exp":
        return writer.builder.op("Exp", raw)
    return raw


# ---- kernels


def kernel_matrix(
    writer: Writer,
    columns: Columns,
    points: np.ndarray,
    kind: str,
    *,
    gamma: float,
    degree: float,
    coef0: float,
) -> str | None:
    """float64 (N, len(points)): the kernel between rows and points; None for a kind not known."""
    builder = writer.builder
    if kind == "rbf":
        squared = squared_distances(writer, columns, points)
        return builder.op("Exp", builder.op("Mul", squared, builder.constant(-gamma, np.float64)))
    if kind not in ("linear", "poly", "polynomial", "sigmoid"):
        return None
    name = affine(writer, writer.numbers(columns), points.T, None)
    if kind == "linear":
        return name
    name = builder.op("Mul", name, builder.constant(gamma, np.float64))
    name = builder.op("Add", name, builder.constant(coef0, np.float64))
    if kind == "sigmoid":
        return builder.op("Tanh", name)
    return builder.op("Pow", name, builder.constant(float(degree), np.float64))


def _support_kernel(writer: Writer, model: Any, columns: Columns) -> str:
    vectors = model.support_vectors_
    vectors = vectors.toarray() if hasattr(vectors, "toarray") else vectors
    name = None
    if isinstance(model.kernel, str):
        name = kernel_matrix(
            writer,
            columns,
            np.asarray(vectors, np.float64),
            model.kernel,
            gamma=model._gamma,
            degree=model.degree,
            coef0=model.coef0,
        )
    if name is None:
        raise unsupported(model, f"kernel={model.kernel!r} is computed in Python")
    return name


def _dual(model: Any) -> np.ndarray:
    dual = model._dual_coef_
    return np.asarray(dual.toarray() if hasattr(dual, "toarray") else dual, np.float64)


@writes("predict", "SVR", "NuSVR")
def _svr_predict(writer: Writer, model: Any, columns: Columns) -> str:
    kernel = _support_kernel(writer, model, columns)
    return affine(writer, kernel, _dual(model).T, np.asarray(model._intercept_))


@writes("decision", "OneClassSVM")
def _one_class_decision(writer: Writer, model: Any, columns: Columns) -> str:
    kernel = _support_kernel(writer, model, columns)
    return affine(writer, kernel, _dual(model).T, np.asarray(model._intercept_))


def _pairs(n_classes: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(n_classes) for j in range(i + 1, n_classes)]


def _one_vs_one(writer: Writer, model: Any, columns: Columns) -> str:
    """float64 (N, K (K - 1) / 2): libsvm's decision for each pair, positive for the first class."""
    kernel = _support_kernel(writer, model, columns)
    dual = _dual(model)
    starts = np.concatenate([[0], np.cumsum(model._n_support)])
    pairs = _pairs(len(model.classes_))
    weights = np.zeros((dual.shape[1], len(pairs)))
    for column, (i, j) in enumerate(pairs):
        # A vector of class i holds its coefficient against class j in row j - 1, one of j in row i.
        weights[starts[i] : starts[i + 1], column] = dual[j - 1, starts[i] : starts[i + 1]]
        weights[starts[j] : starts[j + 1], column] = dual[i, starts[j] : starts[j + 1]]
    return affine(writer, kernel, weights, np.asarray(model._intercept_, np.float64))


@writes("decision", "SVC", "NuSVC")
def _svc_decision(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    decision = _one_vs_one(writer, model, columns)
    n_classes = len(model.classes_)
    if n_classes == 2:
        # libsvm counts for the first class, scikit-learn for the second.
        return builder.op("Neg", decision)
    if model.decision_function_shape == "ovo":
        return decision
    confidence = builder.op("MatMul", decision, builder.constant(_toward(n_classes), np.float64))
    size = builder.op("Add", builder.op("Abs", confidence), builder.constant(1.0, np.float64))
    bounded = builder.op(
        "Div", confidence, builder.op("Mul", size, builder.constant(3.0, np.float64))
    )
    return builder.op("Add", _votes(writer, decision, n_classes, strict=False), bounded)


def _toward(n_classes: int) -> np.ndarray:
    table = np.zeros((n_classes * (n_classes - 1) // 2, n_classes))
    for row, (i, j) in enumerate(_pairs(n_classes)):
        table[row, i], table[row, j] = 1.0, -1.0
    return table


def _votes(writer: Writer, decision: str, n_classes: int, *, strict: bool) -> str:
    """float64 (N, K): pairs won. ``strict``: a pair at exactly zero goes to its second class."""
    builder = writer.builder
    comparison = "Greater" if strict else "GreaterOrEqual"
    first = builder.op(comparison, decision, builder.constant(0.0, np.float64))
    won = builder.cast(first, "bool", "float64")
    # One vote for i where it won, and one for j where it did not.
    gain = builder.op("MatMul", won, builder.constant(_toward(n_classes), np.float64))
    base = np.array([j for _, j in _pairs(n_classes)])
    return builder.op(
        "Add", gain, builder.constant(np.bincount(base, minlength=n_classes), np.float64)
    )


@writes("label", "SVC", "NuSVC")
def _svc_label(writer: Writer, model: Any, columns: Columns) -> str:
    n_classes = len(model.classes_)
    if model.break_ties and model.decision_function_shape == "ovr" and n_classes > 2:
        return index_of(writer, writer.write("decision", model, columns), n_classes)
    votes = _votes(writer, _one_vs_one(writer, model, columns), n_classes, strict=True)
    return writer.builder.op("ArgMax", votes, axis=1, keepdims=0)
