"""One row of ready-made tensors through one ONNX model, on one thread.

The models are the same for all rivals; inputs rotate, for one row repeated flatters a tree ensemble
threefold (its path stays in the branch predictor).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from benchmarks.task import Task

__all__ = ["KIND", "RIVALS", "TITLE", "VARIANTS", "prepare"]

TITLE = "one row of tensors, one thread"
KIND = "calls"
VARIANTS = ("tiny", "mlp", "rf", "cnn")
RIVALS = dict.fromkeys(VARIANTS, ("onnxruntime_run", "infersdk_run", "infersdk_call"))

N_INPUTS = 256
OPSET = 18


def prepare(task: Task) -> None:
    rng = np.random.default_rng(7)
    make = {"tiny": _tiny, "mlp": _mlp, "rf": _forest, "cnn": _cnn}[task.variant]
    model, shape = make(rng)
    task.model.write_bytes(model)
    inputs = rng.standard_normal((N_INPUTS, 1, *shape)).astype(np.float32)
    np.save(task.inputs.with_suffix(".npy"), inputs)


def _tiny(rng: np.random.Generator) -> tuple[bytes, tuple[int, ...]]:
    """x + 1 on [N, 4]: what remains is the cost of a call."""
    from onnx import helper

    nodes = [helper.make_node("Add", ["x", "one"], ["y"])]
    return _graph(nodes, {"one": np.ones(4, np.float32)}, ("N", 4), ("N", 4)), (4,)


def _mlp(rng: np.random.Generator) -> tuple[bytes, tuple[int, ...]]:
    """64-256-256-10, ReLU."""
    from onnx import helper

    sizes = (64, 256, 256, 10)
    nodes, weights, value = [], {}, "x"
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        scale = np.sqrt(2 / n_in)
        weights[f"w{i}"] = (scale * rng.standard_normal((n_in, n_out))).astype(np.float32)
        weights[f"b{i}"] = (0.1 * rng.standard_normal(n_out)).astype(np.float32)
        last = i == len(sizes) - 2
        result = "y" if last else f"h{i}"
        nodes.append(helper.make_node("Gemm", [value, f"w{i}", f"b{i}"], [result]))
        if not last:
            nodes.append(helper.make_node("Relu", [result], [f"a{i}"]))
            value = f"a{i}"
    return _graph(nodes, weights, ("N", sizes[0]), ("N", sizes[-1])), (sizes[0],)


def _cnn(rng: np.random.Generator) -> tuple[bytes, tuple[int, ...]]:
    """Three 3x3 convolutions with stride 2 on 3x64x64, mean over the image, ten outputs."""
    from onnx import helper

    channels = (3, 16, 32, 32)
    nodes, weights, value = [], {}, "x"
    for i, (n_in, n_out) in enumerate(pairwise(channels)):
        scale = np.sqrt(2 / (9 * n_in))
        weights[f"w{i}"] = (scale * rng.standard_normal((n_out, n_in, 3, 3))).astype(np.float32)
        weights[f"b{i}"] = (0.1 * rng.standard_normal(n_out)).astype(np.float32)
        nodes.append(
            helper.make_node(
                "Conv", [value, f"w{i}", f"b{i}"], [f"c{i}"], strides=[2, 2], pads=[1, 1, 1, 1]
            )
        )
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"a{i}"]))
        value = f"a{i}"
    weights["w"] = rng.standard_normal((channels[-1], 10)).astype(np.float32)
    weights["b"] = rng.standard_normal(10).astype(np.float32)
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    nodes.append(helper.make_node("Gemm", ["flat", "w", "b"], ["y"]))
    return _graph(nodes, weights, ("N", 3, 64, 64), ("N", 10)), (3, 64, 64)


def _forest(rng: np.random.Generator) -> tuple[bytes, tuple[int, ...]]:
    """200 trees on 30 features, as skl2onnx writes them."""
    from skl2onnx import to_onnx
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier

    features, labels = make_classification(
        n_samples=2000, n_features=30, n_informative=15, random_state=7
    )
    forest = RandomForestClassifier(200, random_state=7).fit(features.astype(np.float32), labels)
    model = to_onnx(
        forest,
        features[:1].astype(np.float32),
        options={id(forest): {"zipmap": False}},
        target_opset={"": OPSET, "ai.onnx.ml": 3},
    )
    return model.SerializeToString(), (30,)


def _graph(nodes: list, weights: dict[str, np.ndarray], shape_in: tuple, shape_out: tuple) -> bytes:
    from onnx import TensorProto, checker, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "benchmark",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape_in)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape_out)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    checker.check_model(model)
    return model.SerializeToString()
