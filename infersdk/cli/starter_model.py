"""The model of a new project: small enough to be written down, so that no framework has to train it."""

from __future__ import annotations

import numpy as np

from infersdk.artifact import Artifact
from infersdk.types import Field, Labels, Method, Plan, Signature, TensorSpec

__all__ = ["ROW", "starter_model"]

ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
"""Fisher's first flower, in cm; a setosa."""

_CLASSES = ("setosa", "versicolor", "virginica")
# Logistic regression on Fisher's iris: 146 of its 150 flowers are told right.
_WEIGHTS = ((-0.42, 0.97, -2.52, -1.08), (0.53, -0.32, -0.21, -0.94), (-0.11, -0.65, 2.72, 2.03))
_BIAS = (9.86, 2.23, -12.09)


def starter_model() -> Artifact:
    """Build a classifier of irises by their four measures, with ``predict`` and ``predict_proba``.

    Returns
    -------
    Artifact
    """
    from onnx import TensorProto, helper, numpy_helper

    flower = helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", len(ROW)])
    label = helper.make_tensor_value_info("label", TensorProto.INT64, ["N"])
    shares = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(_CLASSES)])
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["X", "weights"], ["weighted"]),
            helper.make_node("Add", ["weighted", "bias"], ["scores"]),
            helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
            helper.make_node("Softmax", ["scores"], ["probabilities"], axis=1),
        ],
        "iris",
        [flower],
        [label, shares],
        [
            numpy_helper.from_array(np.array(_WEIGHTS, np.float32).T.copy(), "weights"),
            numpy_helper.from_array(np.array(_BIAS, np.float32), "bias"),
        ],
    )
    # Versions that every ONNX Runtime opens which infersdk takes.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    signature = Signature(
        inputs=(TensorSpec("X", "float32", ("N", len(ROW))),),
        outputs=(
            TensorSpec("label", "int64", ("N",)),
            TensorSpec("probabilities", "float32", ("N", len(_CLASSES))),
        ),
        methods=(
            Method("predict", ("label",), "labels", labels=Labels(_CLASSES, "object")),
            Method("predict_proba", ("probabilities",), head="predict_proba"),
        ),
        fields=tuple(Field(name, "float", "X", column) for column, name in enumerate(ROW)),
        container="array",
    )
    plan = Plan("onnx", "logistic regression on Fisher's iris, written by `infersdk init`")
    return Artifact(model, signature=signature, plan=plan, name="iris")
