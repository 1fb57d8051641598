"""LIBSVM models of the official package: ``svm_model``, trained or loaded from a ``.model`` file.

Support vectors, kernel and votes are written in float64 with plain operators, as LIBSVM computes them.

Written here
    C-SVC, nu-SVC, one-class, epsilon-SVR and nu-SVR with linear, polynomial, RBF and sigmoid kernels;
    class probabilities (``-b 1``), with LIBSVM's own iteration for more than two classes.
Left to LIBSVM (native plan)
    other kernels than these; density marks of one-class models have no method.
Refused
    precomputed kernels, whose rows are kernel values against the training data; sparse rows given as dicts.

Rows are dense: column j is LIBSVM's index j + 1. ``predict`` gives what ``svm_predict`` gives as labels,
``decision_function`` its decision values (one for each pair of classes, in the order of ``model.label``), and
``predict_proba`` the probabilities in the order of ``model.label``.

The package's own ``svm_predict`` writes beyond its buffer for nu-SVC with three and more classes; ``call`` asks
the library below it.

Tested with libsvm-official 3.37.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from infersdk.convert.pairwise_coupling import coupled
from infersdk.convert.plain_tables import as_frame, as_matrix, input_columns, packed
from infersdk.convert.plain_tables import edge_rows as rows_around
from infersdk.convert.registry import Written
from infersdk.convert.sklearn_graph import BATCH, GraphBuilder
from infersdk.errors import UnsupportedModelError
from infersdk.types import Field, Labels, Method, Signature, TensorSpec

__all__ = ["EXTRA", "FRAMEWORK", "call", "can_convert", "edge_rows", "infer_signature", "to_onnx"]

FRAMEWORK = "LIBSVM"
EXTRA = "libsvm"

_CLASSIFIERS = (0, 1)
_ONE_CLASS = 2
_LINEAR, _POLYNOMIAL, _RBF, _SIGMOID, _PRECOMPUTED = range(5)
_SMALLEST_PROBABILITY = 1e-7


def can_convert(model: Any) -> bool:
    """Whether ``model`` is an ``svm_model`` of the official ``libsvm`` package."""
    return any(
        cls.__module__.split(".")[0] == "libsvm" and cls.__name__ == "svm_model"
        for cls in type(model).__mro__
    )


def infer_signature(model: Any, example: Any = None) -> Signature:
    """Describe a model's rows and answers.

    Parameters
    ----------
    model : libsvm.svm.svm_model
    example : DataFrame or array, optional
        Tells the number of columns, and their names; without it, the largest index of a support vector.

    Returns
    -------
    Signature

    Raises
    ------
    UnsupportedModelError
        The kernel is precomputed, or the example holds LIBSVM's sparse dicts.
    """
    if int(model.param.kernel_type) == _PRECOMPUTED:
        raise UnsupportedModelError(
            "LIBSVM's precomputed kernel takes kernel values against the training data, not rows"
        )
    fields, as_array = _fields(model, example)
    fields, inputs = packed(fields, numbers="features" if as_array else "numbers")
    methods, outputs = [], []
    if int(model.param.svm_type) in _CLASSIFIERS:
        labels = Labels(tuple(float(label) for label in model.get_labels()), "float64")
        k = len(labels.values)
        n_pairs = k * (k - 1) // 2
        methods.append(Method("predict", ("label",), form="labels", labels=labels))
        outputs.append(TensorSpec("label", "int64", (BATCH,)))
        if model.is_probability_model():
            methods.append(Method("predict_proba", ("probabilities",), dtype="float64", shape=(k,)))
            outputs.append(TensorSpec("probabilities", "float64", (BATCH, k)))
        methods.append(
            Method("decision_function", ("decision",), dtype="float64", shape=(n_pairs,))
        )
        outputs.append(TensorSpec("decision", "float64", (BATCH, n_pairs)))
    elif int(model.param.svm_type) == _ONE_CLASS:
        labels = Labels((-1.0, 1.0), "float64")
        methods.append(Method("predict", ("label",), form="labels", labels=labels))
        outputs.append(TensorSpec("label", "int64", (BATCH,)))
        methods.append(Method("decision_function", ("decision",), dtype="float64", shape=(1,)))
        outputs.append(TensorSpec("decision", "float64", (BATCH, 1)))
    else:
        methods.append(Method("predict", ("prediction",), dtype="float64", shape=()))
        outputs.append(TensorSpec("prediction", "float64", (BATCH, 1)))
    return Signature(
        inputs=inputs,
        outputs=tuple(outputs),
        methods=tuple(methods),
        fields=fields,
        container="array" if as_array else "dataframe",
    )


def to_onnx(
    model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
) -> Written:
    """Write the kernel, the decisions and what follows from them.

    Parameters
    ----------
    model : libsvm.svm.svm_model
        Only read.
    signature : Signature
        From :func:`infer_signature`.
    example : optional
        Not needed.
    opset : int, optional
        18 by default.

    Returns
    -------
    Written

    Raises
    ------
    UnsupportedModelError
        The kernel is none of LIBSVM's own.
    """
    builder = GraphBuilder(opset)
    columns = input_columns(builder, signature)
    rows = builder.matrix(tuple(columns[item.name] for item in signature.fields), "float64")
    decision = decision_values(builder, model, rows, len(signature.fields))
    outputs = {"decision": decision, "prediction": decision}
    if signature.method("predict_proba") is not None:
        outputs["probabilities"] = probabilities(builder, model, decision)
    if int(model.param.svm_type) == _ONE_CLASS:
        outputs["label"] = _above_zero(builder, decision)
    elif int(model.param.svm_type) in _CLASSIFIERS:
        outputs["label"] = elected(builder, decision, int(model.nr_class))
    for spec in signature.outputs:
        assert isinstance(spec, TensorSpec)
        assert spec.shape is not None
        shape = tuple(BATCH if size is None else size for size in spec.shape)
        builder.output(spec.name, outputs[spec.name], spec.dtype, shape)
    return Written(builder.build("svm"))


def call(model: Any, method: str, rows: Any) -> Any:
    """What LIBSVM answers, row by row.

    Parameters
    ----------
    model : libsvm.svm.svm_model
    method : {"predict", "predict_proba", "decision_function"}
    rows : DataFrame or ndarray of float64

    Returns
    -------
    ndarray of float64, (n_rows,) or (n_rows, k)
    """
    from ctypes import c_double

    from libsvm.svm import gen_svm_nodearray, libsvm

    k = int(model.nr_class)
    n_values = k if method == "predict_proba" else 1
    if method != "predict_proba" and int(model.param.svm_type) in _CLASSIFIERS:
        n_values = k * (k - 1) // 2
    matrix = np.ascontiguousarray(rows, dtype=np.float64)
    labels = np.empty(len(matrix))
    values = np.empty((len(matrix), n_values))
    buffer = (c_double * n_values)()
    ask = libsvm.svm_predict_values
    if method == "predict_proba":
        ask = libsvm.svm_predict_probability
    for index, row in enumerate(matrix):
        nodes, _ = gen_svm_nodearray(row.tolist())
        labels[index] = ask(model, nodes, buffer)
        values[index] = buffer[:]
    return labels if method == "predict" else values


def edge_rows(
    model: Any, signature: Signature, example: Any, *, n_rows: int, rng: np.random.Generator
) -> Any:
    """Rows among the support vectors and around them, many of them far outside.

    Parameters
    ----------
    model : libsvm.svm.svm_model
    signature : Signature
    example : DataFrame, array or None
    n_rows : int
    rng : numpy.random.Generator

    Returns
    -------
    DataFrame or ndarray of float64, n_rows rows
    """
    if example is None:
        example = _vectors(model, len(signature.fields))
        if signature.container == "dataframe":
            import pandas as pd

            example = pd.DataFrame(example, columns=[item.name for item in signature.fields])
    return rows_around(signature, example, n_rows=n_rows, rng=rng)


def _fields(model: Any, example: Any) -> tuple[tuple[Field, ...], bool]:
    if isinstance(example, dict):
        example = [example]
    first = example[0] if isinstance(example, list | tuple) and example else None
    if isinstance(first, dict) and any(isinstance(key, int) for key in first):
        raise UnsupportedModelError(
            "Expected rows with a value for every column, got LIBSVM's sparse dicts. Pass an array; "
            "what a dict leaves out is 0 there, and index j is column j - 1"
        )
    width = max((max(vector, default=0) for vector in model.get_SV()), default=0)
    frame, matrix = as_frame(example), as_matrix(example)
    given = width if frame is None and matrix is None else 0
    if frame is not None:
        given = frame.shape[1]
    elif matrix is not None:
        given = matrix.shape[1]
    if given < width:
        raise UnsupportedModelError(
            f"Expected at least {width} columns in the example, the largest index of a support vector; "
            f"got {given}"
        )
    names = [f"x{index}" for index in range(given)] if frame is None else list(frame.columns)
    return tuple(Field(str(name), "float", "used") for name in names), frame is None


# ---- writing


def _vectors(model: Any, width: int) -> np.ndarray:
    """float64 (n_vectors, width)."""
    dense = np.zeros((int(model.l), width))
    for row, vector in enumerate(model.get_SV()):
        for index, value in vector.items():
            dense[row, index - 1] = value
    return dense


def _kernel(builder: GraphBuilder, model: Any, rows: str, vectors: np.ndarray) -> str:
    """float64 (N, n_vectors)."""
    constant = builder.constant
    kind = int(model.param.kernel_type)
    gamma = float(model.param.gamma)
    # Factors go into the vectors: behind a MatMul, ONNX Runtime's optimizer rounds them to float32.
    factor = {_LINEAR: 1.0, _RBF: 2.0 * gamma}.get(kind, gamma)
    product = builder.op("MatMul", rows, constant(np.ascontiguousarray(factor * vectors.T)))
    if kind == _LINEAR:
        return product
    if kind == _RBF:
        squares = builder.op("Mul", rows, rows)
        own = builder.op("MatMul", squares, constant(np.full((vectors.shape[1], 1), gamma)))
        squared = builder.op("Add", own, constant(gamma * (vectors**2).sum(axis=1)[None, :]))
        return builder.op("Exp", builder.op("Sub", product, squared))
    inner = builder.op("Add", product, constant(float(model.param.coef0), np.float64))
    if kind == _SIGMOID:
        return builder.op("Tanh", inner)
    if kind == _POLYNOMIAL:
        return builder.op("Pow", inner, constant(float(model.param.degree), np.float64))
    raise UnsupportedModelError(f"LIBSVM's kernel type {kind} is not known")


def decision_values(builder: GraphBuilder, model: Any, rows: str, width: int) -> str:
    """float64 (N, K (K - 1) / 2), positive for the first class of a pair; (N, 1) without classes."""
    kernel = _kernel(builder, model, rows, _vectors(model, width))
    coefficients = np.array(model.get_sv_coef(), np.float64)
    if int(model.param.svm_type) not in _CLASSIFIERS:
        weights, n_values = coefficients[:, :1], 1
    else:
        k = int(model.nr_class)
        counts = [int(model.nSV[i]) for i in range(k)]
        starts = np.concatenate([[0], np.cumsum(counts)])
        pairs = _pairs(k)
        n_values = len(pairs)
        weights = np.zeros((int(model.l), n_values))
        for column, (i, j) in enumerate(pairs):
            # A vector of class i has its weight against class j at j - 1, one of j its at i.
            first, second = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
            weights[first, column] = coefficients[first, j - 1]
            weights[second, column] = coefficients[second, i]
    rho = np.array([float(model.rho[i]) for i in range(n_values)])
    total = builder.op("MatMul", kernel, builder.constant(np.ascontiguousarray(weights)))
    return builder.op("Sub", total, builder.constant(rho))


def _pairs(k: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(k) for j in range(i + 1, k)]


def _above_zero(builder: GraphBuilder, decision: str) -> str:
    flat = builder.op("Reshape", decision, builder.constant([-1], np.int64))
    above = builder.op("Greater", flat, builder.constant(0.0, np.float64))
    return builder.cast(above, "bool", "int64")


def elected(builder: GraphBuilder, decision: str, k: int) -> str:
    """int64 (N,): the class that wins most pairs, the first of those that win as many."""
    first = np.zeros((len(_pairs(k)), k))
    lost = np.zeros(k)
    for row, (i, j) in enumerate(_pairs(k)):
        first[row, i], first[row, j] = 1.0, -1.0
        lost[j] += 1.0
    above = builder.op("Greater", decision, builder.constant(0.0, np.float64))
    won = builder.op("MatMul", builder.cast(above, "bool", "float64"), builder.constant(first))
    votes = builder.op("Add", won, builder.constant(lost))
    return builder.op("ArgMax", votes, axis=1, keepdims=0)


def probabilities(builder: GraphBuilder, model: Any, decision: str) -> str:
    """float64 (N, K)."""
    constant = builder.constant
    k = int(model.nr_class)
    n_pairs = len(_pairs(k))
    slope = np.array([float(model.probA[i]) for i in range(n_pairs)])
    offset = np.array([float(model.probB[i]) for i in range(n_pairs)])
    power = builder.op("Add", builder.op("Mul", decision, constant(slope)), constant(offset))
    one = constant(1.0, np.float64)
    pairs = builder.op("Div", one, builder.op("Add", one, builder.op("Exp", power)))
    low = constant(_SMALLEST_PROBABILITY, np.float64)
    pairs = builder.op("Min", builder.op("Max", pairs, low), builder.op("Sub", one, low))
    if k == 2:
        return builder.op("Concat", pairs, builder.op("Sub", one, pairs), axis=1)
    return coupled(builder, pairs, k)
