"""The models that are measured, as ONNX with seeded weights: small enough to be made anew for every run.

The batch axis is called "N", by which infersdk's own conversions say that rows are proven independent; a
model of anyone else's calls it otherwise ("batch"), and infersdk then tests it at load. Both are measured
by asking for a variant as ``mlp`` or as ``mlp@batch``.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from benchmarks.task import Task

__all__ = ["MODELS", "N_INPUTS", "build", "write"]

N_INPUTS = 256
OPSET = 18

Built = tuple[bytes, tuple[int, ...]]
"""A serialized model, and the shape of one row."""


def build(name: str, rng: np.random.Generator, axis: str = "N") -> Built:
    """Make one of ``MODELS``; the same generator state gives the same weights."""
    return MODELS[name](rng, axis)


def write(task: Task) -> None:
    """Write the model of a load case, its rows, and what ONNX Runtime answers to all of them at once."""
    import onnxruntime

    rng = np.random.default_rng(7)
    model, shape = build(task.name, rng, task.axis)
    task.model.write_bytes(model)
    rows = rng.standard_normal((N_INPUTS, 1, *shape)).astype(np.float32)
    np.save(task.inputs.with_suffix(".npy"), rows)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: rows[:, 0]})
    np.savez(task.expected, **{str(j): output for j, output in enumerate(outputs)})


def _tiny(rng: np.random.Generator, axis: str) -> Built:
    """x + 1 on [N, 4]: what remains is the cost of a call."""
    from onnx import helper

    nodes = [helper.make_node("Add", ["x", "one"], ["y"])]
    return _graph(nodes, {"one": np.ones(4, np.float32)}, (axis, 4), (axis, 4)), (4,)


def _mlp(rng: np.random.Generator, axis: str) -> Built:
    """64-256-256-10, ReLU."""
    return _dense((64, 256, 256, 10), rng, axis)


def _mlp_large(rng: np.random.Generator, axis: str) -> Built:
    """256-1024-1024-1024-10, ReLU: 9.4 MB of weights, and a run is reading them."""
    return _dense((256, 1024, 1024, 1024, 10), rng, axis)


def _dense(sizes: tuple[int, ...], rng: np.random.Generator, axis: str) -> Built:
    from onnx import helper

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
    return _graph(nodes, weights, (axis, sizes[0]), (axis, sizes[-1])), (sizes[0],)


def _cnn(rng: np.random.Generator, axis: str) -> Built:
    """Three 3x3 convolutions with stride 2 on 3x64x64, mean over the image, ten outputs."""
    return _convolutions(((16, 2), (32, 2), (32, 2)), rng, axis)


def _cnn_deep(rng: np.random.Generator, axis: str) -> Built:
    """Some milliseconds a row, and nothing gained by a batch: what overload is shown on.

    Making three times the calls that a smaller model answers would take this process more than the
    model does.
    """
    return _convolutions(((64, 1), (64, 1), (128, 2), (128, 2)), rng, axis)


def _convolutions(
    layers: tuple[tuple[int, int], ...], rng: np.random.Generator, axis: str
) -> Built:
    from onnx import helper

    channels = (3, *(n_out for n_out, _ in layers))
    nodes, weights, value = [], {}, "x"
    for i, ((n_in, n_out), (_, stride)) in enumerate(zip(pairwise(channels), layers, strict=True)):
        scale = np.sqrt(2 / (9 * n_in))
        weights[f"w{i}"] = (scale * rng.standard_normal((n_out, n_in, 3, 3))).astype(np.float32)
        weights[f"b{i}"] = (0.1 * rng.standard_normal(n_out)).astype(np.float32)
        nodes.append(
            helper.make_node(
                "Conv",
                [value, f"w{i}", f"b{i}"],
                [f"c{i}"],
                strides=[stride, stride],
                pads=[1, 1, 1, 1],
            )
        )
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"a{i}"]))
        value = f"a{i}"
    weights["w"] = rng.standard_normal((channels[-1], 10)).astype(np.float32)
    weights["b"] = rng.standard_normal(10).astype(np.float32)
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
    nodes.append(helper.make_node("Gemm", ["flat", "w", "b"], ["y"]))
    return _graph(nodes, weights, (axis, 3, 64, 64), (axis, 10)), (3, 64, 64)


def _forest(rng: np.random.Generator, axis: str) -> Built:
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
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = axis
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


MODELS: dict[str, Callable[[np.random.Generator, str], Built]] = {
    "tiny": _tiny,
    "mlp": _mlp,
    "mlp_large": _mlp_large,
    "forest": _forest,
    "cnn": _cnn,
    "cnn_deep": _cnn_deep,
}
