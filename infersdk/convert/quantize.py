"""Writing a graph in fewer bits, with ONNX Runtime's own tools; the only place that imports its package.

fp16
    Either weights and arithmetic in float16, which only few CPUs have, or weights in float16 that are
    widened when the model is loaded. Inputs and outputs stay as they are, and so do comparisons: their
    thresholds are never rounded.
int8, calibrated
    Weights and what flows between layers as 8 bit whole numbers, with scales from the ranges that the
    calibration rows gave. Weights use 7 of the 8 bits: processors without VNNI instructions would
    overflow, and a model file goes to other machines.
int8, dynamic
    Weights as 8 bit numbers; the scales of what flows are computed in each run, over all of its rows.
int4
    Weights of matrix products as 4 bit numbers, in blocks of 32 with a scale each; arithmetic in float32.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import onnx

__all__ = ["Feeds", "Precision", "Recipe", "obstacle", "recipes"]

Precision = Literal["fp16", "int8", "int4"]

logger = logging.getLogger("infersdk")

_LOG_LOCK = threading.RLock()
_BLOCK_WEIGHTS = 32
_LEAST_WEIGHTS = 256
_WEIGHTED = ("MatMul", "Gemm", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN", "Attention")
_OPERATORS = {
    "fp16": _WEIGHTED,
    "int8": ("MatMul", "Gemm", "Conv", "LSTM"),
    "int4": ("MatMul", "Gemm"),
}
_THRESHOLDS = ("TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble", "SVMClassifier")
_COMPARISONS = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "ArgMax", "TopK")
_LARGEST_BYTES = 1_900_000_000
_LEAST_OPSET = 13  # scales for each output channel

Feeds = Sequence[dict[str, np.ndarray]]


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to fewer bits: what it is called, and what writes it.

    ``mixes_rows``: a row's answer depends on the rows beside it, which share its scales. ``may_crash``: ONNX
    Runtime 1.31 is known to crash when it loads such graphs.
    """

    name: str
    write: Callable[[onnx.ModelProto, Feeds], onnx.ModelProto]
    mixes_rows: bool = False
    may_crash: bool = False


def recipes(precision: Precision, model: onnx.ModelProto) -> tuple[Recipe, ...]:
    """Return the ways to a precision that fit a graph, for the caller to measure and choose from."""
    if precision == "fp16":
        return (
            Recipe("float16 weights and arithmetic", _float16, may_crash=True),
            Recipe("float16 weights, float32 arithmetic", _float16_weights),
        )
    if precision == "int4":
        return (Recipe(f"4 bit weights in blocks of {_BLOCK_WEIGHTS}", _int4),)
    kinds = {node.op_type for node in model.graph.node}
    calibrated = Recipe("8 bit weights and activations, calibrated", _int8_calibrated)
    dynamic = Recipe(
        "8 bit weights, activations scaled in each run", _int8_dynamic, mixes_rows=True
    )
    if kinds.isdisjoint(("MatMul", "Gemm", "Conv")):
        return (dynamic,)
    # Convolutions of whole numbers with scales found at run time are slower than those of floats.
    return (calibrated,) if "Conv" in kinds else (calibrated, dynamic)


def obstacle(precision: Precision, model: onnx.ModelProto, size_bytes: int) -> str | None:
    """Say why a precision does not apply to a graph; None where it may."""
    kinds = {node.op_type for node in model.graph.node}
    decisions = sorted(kinds.intersection(_THRESHOLDS))
    if decisions:
        return (
            f"{precision} does not apply: the graph decides by thresholds ({', '.join(decisions)}), and "
            "fewer bits would move rows across them"
        )
    operators = _OPERATORS[precision]
    weights = _weights(model.graph)
    dtypes = {
        weights[name] for node in model.graph.node if node.op_type in operators
        for name in node.input if name in weights
    }  # fmt: skip
    if not dtypes:
        shown = ", ".join(sorted(kinds)[:8]) or "none"
        return (
            f"{precision} does not apply: the graph has no {', '.join(operators[:-1])} or {operators[-1]} "
            f"with weights of its own (its operators: {shown})"
        )
    if "float32" not in dtypes:
        return (
            f"{precision} does not apply: the weights are {', '.join(sorted(dtypes))}, and ONNX Runtime's "
            "tools reduce float32"
        )
    if size_bytes > _LARGEST_BYTES:
        return (
            f"Expected at most {_LARGEST_BYTES / 1e9:.1f} GB of weights to reduce, got "
            f"{size_bytes / 1e9:.1f} GB: ONNX Runtime's tools hold several copies of a model"
        )
    return None


def _weights(graph: onnx.GraphProto) -> dict[str, str]:
    """Dtypes of the constants of two and more axes, by name."""
    from onnx import TensorProto

    tensors = {item.name: item for item in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].HasField("t"):
            tensors[node.output[0]] = node.attribute[0].t
    names = {
        TensorProto.FLOAT: "float32",
        TensorProto.DOUBLE: "float64",
        TensorProto.FLOAT16: "float16",
        TensorProto.BFLOAT16: "bfloat16",
    }
    return {
        name: names[item.data_type]
        for name, item in tensors.items()
        if len(item.dims) > 1 and item.data_type in names
    }


def _float16(model: onnx.ModelProto, feeds: Feeds) -> onnx.ModelProto:
    from onnxruntime.quantization import onnx_model
    from onnxruntime.transformers import float16

    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, *_COMPARISONS]
    with warnings.catch_warnings():
        # Tiny weights become the smallest float16; the comparison of answers judges that.
        warnings.simplefilter("ignore")
        reduced = float16.convert_float_to_float16(
            _copy(model), keep_io_types=True, op_block_list=blocked
        )
    # The casts of inputs come last.
    sortable = onnx_model.ONNXModel(reduced)
    sortable.topological_sort()
    sorted_model: onnx.ModelProto = sortable.model
    return sorted_model


def _float16_weights(model: onnx.ModelProto, feeds: Feeds) -> onnx.ModelProto:
    from onnx import TensorProto, helper, numpy_helper

    reduced = _copy(model)
    graph = reduced.graph
    compared = {name for node in graph.node if node.op_type in _COMPARISONS for name in node.input}
    given = {value.name for value in (*graph.input, *graph.output)}
    casts = []
    for item in graph.initializer:
        is_weight = item.data_type == TensorProto.FLOAT and prod(item.dims) >= _LEAST_WEIGHTS
        if not is_weight or item.name in compared or item.name in given:
            continue
        values = numpy_helper.to_array(item)
        if not np.abs(values).max() <= np.finfo(np.float16).max:
            continue
        name = item.name
        item.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_float16"))
        casts.append(helper.make_node("Cast", [item.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return reduced


def _int8_calibrated(model: onnx.ModelProto, feeds: Feeds) -> onnx.ModelProto:
    from onnxruntime import quantization

    class Rows(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._feeds, None)

    with _folder() as folder:
        prepared = _prepared(model, folder)
        target = os.path.join(folder, "int8.onnx")
        quantization.quantize_static(
            prepared,
            target,
            Rows(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=[
                "MatMul",
                "Gemm",
                "Conv",
                "Relu",
                "Add",
                "MaxPool",
                "AveragePool",
            ],
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return _read(target)


def _int8_dynamic(model: onnx.ModelProto, feeds: Feeds) -> onnx.ModelProto:
    from onnxruntime import quantization

    with _folder() as folder:
        target = os.path.join(folder, "int8.onnx")
        quantization.quantize_dynamic(
            _prepared(model, folder),
            target,
            per_channel=True,
            reduce_range=True,
            weight_type=quantization.QuantType.QInt8,
        )
        return _read(target)


def _int4(model: onnx.ModelProto, feeds: Feeds) -> onnx.ModelProto:
    with _quiet():
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        quantizer = MatMulNBitsQuantizer(
            _with_matmuls(_copy(model)),
            bits=4,
            block_size=_BLOCK_WEIGHTS,
            is_symmetric=False,
            accuracy_level=4,  # products of 8 bit numbers, which is fastest on a CPU
        )
        quantizer.process()
    reduced: onnx.ModelProto = quantizer.model.model
    return reduced


def _with_matmuls(model: onnx.ModelProto) -> onnx.ModelProto:
    """Write Gemm nodes over constant weights as MatMul and Add, in place: only those become 4 bit."""
    from onnx import helper, numpy_helper

    graph = model.graph
    weights = {item.name: item for item in graph.initializer}
    nodes = []
    for node in graph.node:
        options = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        plain = options.get("alpha", 1.0) == options.get("beta", 1.0) == 1.0
        fits = node.op_type == "Gemm" and plain and not options.get("transA", 0)
        if not fits or node.input[1] not in weights:
            nodes.append(node)
            continue
        weight = node.input[1]
        if options.get("transB", 0):
            turned = f"{weight}_transposed"
            if turned not in weights:
                array = np.ascontiguousarray(numpy_helper.to_array(weights[weight]).T)
                weights[turned] = numpy_helper.from_array(array, turned)
                graph.initializer.append(weights[turned])
            weight = turned
        has_bias = len(node.input) > 2 and node.input[2]
        product = f"{node.output[0]}_product" if has_bias else node.output[0]
        nodes.append(helper.make_node("MatMul", [node.input[0], weight], [product], name=node.name))
        if has_bias:
            nodes.append(helper.make_node("Add", [product, node.input[2]], [node.output[0]]))
    del graph.node[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    kept = [item for item in graph.initializer if item.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return model


def _prepared(model: onnx.ModelProto, folder: str) -> str:
    """Write the graph as the quantizer wants it: shapes inferred, normalizations folded into weights.

    By path: given a graph itself, the tools would move its weights out of it, into a file.
    """
    import onnx
    from onnx import version_converter
    from onnxruntime.quantization.shape_inference import quant_pre_process

    opset = next((item.version for item in model.opset_import if item.domain == ""), 0)
    if 0 < opset < _LEAST_OPSET:
        model = version_converter.convert_version(model, _LEAST_OPSET)
    path, prepared = os.path.join(folder, "full.onnx"), os.path.join(folder, "prepared.onnx")
    onnx.save(model, path)
    try:
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
    except Exception:  # it helps, and is not needed
        logger.info("the graph is quantized as it is", exc_info=True)
        return path
    return prepared


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    other = type(model)()
    other.CopyFrom(model)
    return other


def _read(path: str) -> onnx.ModelProto:
    import onnx

    return onnx.load(path)


@contextmanager
def _folder() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="infersdk-") as folder, _quiet():
        yield folder


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tools' remarks from the user's log, and the log as it is.

    One of the modules calls ``logging.basicConfig`` when it is imported, others log to the root logger.
    """

    def refuse(record: Any) -> bool:
        return "onnxruntime" not in record.pathname

    root, tools = logging.getLogger(), logging.getLogger("onnxruntime")
    with _LOG_LOCK:
        before = root.handlers[:], root.level, tools.level
        root.addFilter(refuse)
        tools.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            root.removeFilter(refuse)
            root.handlers[:] = before[0]
            root.setLevel(before[1])
            tools.setLevel(before[2])
