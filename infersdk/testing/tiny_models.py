"""Small real models, written as ONNX: for tests that want ONNX Runtime itself, and no framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infersdk.artifact import Artifact
from infersdk.types import Field, Labels, Method, Plan, Signature, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto

__all__ = ["KINDS", "Kind", "tiny_model"]

Kind = Literal["classifier", "regressor", "network"]
KINDS = ("classifier", "regressor", "network")

_OPSET = 17
_IR_VERSION = 8  # of that opset; older runtimes refuse what onnx writes by default


def tiny_model(
    kind: Kind,
    *,
    n_features: int = 4,
    labels: Sequence[str | int] = (0, 1, 2),
    fields: Sequence[str] | None = None,
    seed: int = 0,
    name: str | None = None,
) -> Artifact:
    """Write a linear model with made-up weights.

    Parameters
    ----------
    kind : {"classifier", "regressor", "network"}
        "classifier" has ``predict`` and ``predict_proba`` of rows, "regressor" has ``predict``, and
        "network" takes and gives a float32 tensor of shape (N, n_features).
    n_features : int
        How many numbers a row has.
    labels : sequence of str or int
        A classifier's classes, at least two.
    fields : sequence of str, optional
        The names of a row's columns; by default ``x0``, ``x1``, ...
    seed : int
        Of the weights.
    name : str, optional
        The model's name; by default its kind.

    Raises
    ------
    ValueError
        There is no such kind, or a size is not possible.
    """
    from onnx import TensorProto, helper, numpy_helper

    if kind not in KINDS:
        raise ValueError(f"Expected one of {', '.join(KINDS)}, got {kind!r}")
    if fields is not None:
        n_features = len(fields)
    if n_features < 1 or len(labels) < 2:
        raise ValueError(
            f"Expected at least one feature and two labels, got {n_features} and {len(labels)}"
        )
    rng = np.random.default_rng(seed)
    n_outputs = {"classifier": len(labels), "regressor": 1, "network": n_features}[kind]
    weights: dict[str, NDArray[Any]] = {
        "weights": rng.normal(size=(n_features, n_outputs)).astype(np.float32),
        "bias": rng.normal(size=n_outputs).astype(np.float32),
    }
    nodes: list[NodeProto] = [
        helper.make_node("MatMul", ["x", "weights"], ["products"]),
        helper.make_node("Add", ["products", "bias"], ["scores"]),
    ]
    outputs: tuple[TensorSpec, ...] = (TensorSpec("scores", "float32", ("N", n_outputs)),)
    methods: tuple[Method, ...] = (Method("__call__", ("scores",)),)
    if kind == "regressor":
        methods = (Method("predict", ("scores",), dtype="float64", shape=()),)
    elif kind == "classifier":
        nodes += [
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["scores"], ["class"], axis=1, keepdims=0),
        ]
        outputs = (
            TensorSpec("class", "int64", ("N",)),
            TensorSpec("probabilities", "float32", ("N", n_outputs)),
        )
        dtype = np.asarray(labels).dtype
        methods = (
            Method(
                "predict",
                ("class",),
                "labels",
                labels=Labels(tuple(labels), "object" if dtype.kind == "U" else dtype.name),
                shape=(),
            ),
            Method("predict_proba", ("probabilities",), dtype="float64", shape=(n_outputs,)),
        )
    inputs = (TensorSpec("x", "float32", ("N", n_features)),)
    columns: tuple[Field, ...] = ()
    if kind != "network":
        names = fields or [f"x{i}" for i in range(n_features)]
        columns = tuple(Field(column, "float", "x", i) for i, column in enumerate(names))
    types = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}

    def value_info(spec: TensorSpec) -> Any:
        return helper.make_tensor_value_info(spec.name, types[spec.dtype], spec.shape)

    graph = helper.make_graph(
        nodes,
        kind,
        [value_info(spec) for spec in inputs],
        [value_info(spec) for spec in outputs],
        [numpy_helper.from_array(array, key) for key, array in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
    )
    return Artifact(
        model,
        signature=Signature(inputs, outputs, methods, columns, "array" if columns else "tensors"),
        plan=Plan("onnx", "a tiny model for tests"),
        name=name or kind,
    )
