"""Core ML neural networks (not ML programs), layer by layer, in float32.

Only networks whose inputs have the shapes that they say (``EXACT_ARRAY_MAPPING``, what converters of today write);
the older mapping onto five axes is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from infersdk.convert.sklearn_graph import GraphBuilder
from infersdk.errors import UnsupportedModelError

__all__ = ["Network", "array_of", "layers_of", "padding_of"]

_EXACT = 1


def layers_of(network: Any) -> list[Any]:
    """The layers of a network in order.

    Raises
    ------
    UnsupportedModelError
        It takes images, or maps its inputs onto five axes.
    """
    if network.preprocessing:
        raise UnsupportedModelError(
            "This Core ML network takes images and scales them itself. Convert the model from the "
            "framework that it was trained in"
        )
    if int(network.arrayInputShapeMapping) != _EXACT:
        raise UnsupportedModelError(
            "This Core ML network maps its inputs onto five axes (RANK5_ARRAY_MAPPING). Convert the model "
            "again with a coremltools of this decade, or from the framework that it was trained in"
        )
    return list(network.layers)


def array_of(weights: Any, shape: tuple[int, ...]) -> np.ndarray:
    """float32 array of a layer's parameters."""
    if weights.floatValue:
        values = np.array(weights.floatValue, np.float32)
    elif weights.float16Value:
        values = np.frombuffer(weights.float16Value, np.float16).astype(np.float32)
    else:
        raise UnsupportedModelError(
            "This Core ML network holds quantized weights, which are not read"
        )
    return values.reshape(shape)


def padding_of(params: Any, kernel: list[int], sizes: list[int], stride: list[int]) -> list[int]:
    """Rows before, columns before, rows after, columns after."""
    if params.HasField("same"):
        before, after = [], []
        for size, k, s in zip(sizes, kernel, stride, strict=True):
            total = max((-(-size // s) - 1) * s + k - size, 0)
            less, more = total // 2, total - total // 2
            # Bottom and right take the odd one, unless the model says otherwise.
            top_heavy = int(params.same.asymmetryMode) == 1
            before.append(more if top_heavy else less)
            after.append(less if top_heavy else more)
        return [*before, *after]
    if params.HasField("valid") and params.valid.paddingAmounts.borderAmounts:
        rows, columns = params.valid.paddingAmounts.borderAmounts
        return [
            int(rows.startEdgeSize),
            int(columns.startEdgeSize),
            int(rows.endEdgeSize),
            int(columns.endEdgeSize),
        ]
    return [0, 0, 0, 0]


class Network:
    """Writes layers into a graph.

    Parameters
    ----------
    builder : GraphBuilder
    tensors : dict of str to (str, shape)
        The network's inputs, float32, by blob name.
    """

    def __init__(
        self, builder: GraphBuilder, tensors: dict[str, tuple[str, tuple[int, ...]]]
    ) -> None:
        self.builder = builder
        self.tensors = tensors

    def write(self, layer: Any) -> None:
        """Write a layer.

        Raises
        ------
        UnsupportedModelError
            Of a kind, or with a setting, that is not known.
        """
        kind = str(layer.WhichOneof("layer"))
        function = _LAYERS.get(kind)
        if function is None:
            raise UnsupportedModelError(
                f"Core ML's layer `{kind}` (`{layer.name}`) is none of those that are written. Convert the "
                "model from the framework that it was trained in"
            )
        given = [self.tensors[name] for name in layer.input]
        made = function(self, getattr(layer, kind), given)
        self.tensors[layer.output[0]] = made

    # ---- shapes are known: Core ML's inputs have them

    def _f32(self, values: Any) -> str:
        return self.builder.constant(values, np.float32)

    def dense(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        ((name, shape),) = given
        n_out, n_in = int(p.outputChannels), int(p.inputChannels)
        weights = array_of(p.weights, (n_out, n_in)).T
        name = self.builder.op("MatMul", name, self._f32(weights))
        if p.hasBias:
            name = self.builder.op("Add", name, self._f32(array_of(p.bias, (n_out,))))
        return name, (*shape[:-1], n_out)

    def convolution(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        if p.isDeconvolution or len(given) > 1 or len(given[0][1]) != 4:
            raise UnsupportedModelError(
                "Core ML's deconvolutions and computed kernels are not written"
            )
        ((name, shape),) = given
        kernel = [int(k) for k in p.kernelSize] or [3, 3]
        stride = [int(s) for s in p.stride] or [1, 1]
        spread = [int(d) for d in p.dilationFactor] or [1, 1]
        groups = max(int(p.nGroups), 1)
        wide = [(k - 1) * d + 1 for k, d in zip(kernel, spread, strict=True)]
        pads = padding_of(p, wide, list(shape[2:]), stride)
        n_out = int(p.outputChannels)
        inputs = [name, self._f32(array_of(p.weights, (n_out, int(p.kernelChannels), *kernel)))]
        if p.hasBias:
            inputs.append(self._f32(array_of(p.bias, (n_out,))))
        name = self.builder.op(
            "Conv", *inputs, group=groups, strides=stride, pads=pads, dilations=spread
        )
        return name, (shape[0], n_out, *_sizes(shape[2:], wide, stride, pads))

    def pooling(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        ((name, shape),) = given
        if int(p.type) not in (0, 1) or len(shape) != 4 or p.HasField("includeLastPixel"):
            raise UnsupportedModelError("Core ML's L2 and Caffe-style poolings are not written")
        stem = "Max" if int(p.type) == 0 else "Average"
        if p.globalPooling:
            return self.builder.op(f"Global{stem}Pool", name), (*shape[:2], 1, 1)
        kernel = [int(k) for k in p.kernelSize] or [3, 3]
        stride = [int(s) for s in p.stride] or [1, 1]
        pads = padding_of(p, kernel, list(shape[2:]), stride)
        more: dict[str, Any] = (
            {} if stem == "Max" else {"count_include_pad": int(not p.avgPoolExcludePadding)}
        )
        name = self.builder.op(
            f"{stem}Pool", name, kernel_shape=kernel, strides=stride, pads=pads, **more
        )
        return name, (*shape[:2], *_sizes(shape[2:], kernel, stride, pads))

    def batchnorm(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        ((name, shape),) = given
        if p.computeMeanVar or p.instanceNormalization or len(shape) < 3:
            raise UnsupportedModelError("Core ML's instance normalization is not written")
        n = int(p.channels)
        gamma, beta, mean, variance = (
            array_of(w, (n, 1, 1)) for w in (p.gamma, p.beta, p.mean, p.variance)
        )
        factor = gamma / np.sqrt(variance + np.float32(p.epsilon))
        name = self.builder.op("Mul", name, self._f32(factor))
        return self.builder.op("Add", name, self._f32(beta - mean * factor)), shape

    def activation(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        ((name, shape),) = given
        kind = str(p.WhichOneof("NonlinearityType"))
        s = getattr(p, kind)
        op = self.builder.op
        if kind == "ReLU":
            return op("Relu", name), shape
        if kind == "leakyReLU":
            return op("LeakyRelu", name, alpha=s.alpha), shape
        if kind == "linear":
            return op("Add", op("Mul", name, self._f32(s.alpha)), self._f32(s.beta)), shape
        if kind == "scaledTanh":
            inner = op("Tanh", op("Mul", name, self._f32(s.beta)))
            return op("Mul", inner, self._f32(s.alpha)), shape
        if kind == "sigmoid":
            power = op("Exp", op("Neg", name))
            return op("Reciprocal", op("Add", power, self._f32(1.0))), shape
        if kind == "sigmoidHard":
            return op("HardSigmoid", name, alpha=s.alpha, beta=s.beta), shape
        if kind == "ELU":
            return op("Elu", name, alpha=s.alpha), shape
        plain = {"tanh": "Tanh", "softsign": "Softsign", "softplus": "Softplus"}
        if kind not in plain:
            raise UnsupportedModelError(f"Core ML's activation `{kind}` is not written")
        return op(plain[kind], name), shape

    def softmax(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        ((name, shape),) = given
        axis = int(p.axis) if hasattr(p, "axis") else -3
        return self.builder.op("Softmax", name, axis=axis), shape

    def reshape(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        ((name, shape),) = given
        target = [int(size) for size in p.targetShape]
        return self._reshaped(name, np.empty(shape, np.bool_).reshape(target).shape)

    def flatten(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        ((name, shape),) = given
        axis = int(p.axis) % (len(shape) + 1)
        rows = int(np.prod(shape[:axis], dtype=np.int64))
        return self._reshaped(name, (rows, int(np.prod(shape[axis:], dtype=np.int64))))

    def squeeze(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        ((name, shape),) = given
        axes = tuple(int(axis) for axis in p.axes)
        empty = np.empty(shape, np.bool_)
        made = np.squeeze(empty) if p.squeezeAll else np.squeeze(empty, axis=axes)
        return self._reshaped(name, made.shape)

    def expand(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        ((name, shape),) = given
        axes = tuple(int(axis) for axis in p.axes)
        return self._reshaped(name, np.expand_dims(np.empty(shape, np.bool_), axes).shape)

    def _reshaped(self, name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
        target = self.builder.constant(list(shape), np.int64)
        return self.builder.op("Reshape", name, target), shape

    def transpose(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        ((name, shape),) = given
        axes = [int(axis) for axis in p.axes]
        return self.builder.op("Transpose", name, perm=axes), tuple(shape[a] for a in axes)

    def add(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        return self._joined("Add", p, given)

    def multiply(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        return self._joined("Mul", p, given)

    def subtract(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        return self._joined("Sub", p, given)

    def divide(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        return self._joined("Div", p, given)

    def _joined(self, op: str, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        name, shape = given[0]
        if len(given) == 1:
            return self.builder.op(op, name, self._f32(p.alpha)), shape
        for other, other_shape in given[1:]:
            name = self.builder.op(op, name, other)
            shape = np.broadcast_shapes(shape, other_shape)
        return name, shape

    def concat(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        if getattr(p, "interleave", False):
            raise UnsupportedModelError("Core ML's interleaved concatenation is not written")
        axis = int(p.axis)
        made = np.concatenate([np.empty(shape, np.bool_) for _, shape in given], axis=axis)
        return self.builder.op("Concat", *(name for name, _ in given), axis=axis), made.shape

    def load(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        shape = tuple(int(size) for size in p.shape)
        return self._f32(array_of(p.data, shape)), shape

    def mean(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        ((name, shape),) = given
        axes = tuple(range(len(shape))) if p.reduceAll else tuple(int(a) for a in p.axes)
        made = np.empty(shape, np.bool_).any(axis=axes, keepdims=bool(p.keepDims))
        name = self.builder.op(
            "ReduceMean", name, self.builder.constant(axes, np.int64), keepdims=int(p.keepDims)
        )
        return name, np.shape(made)

    def tanh(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        return self.builder.op("Tanh", given[0][0]), given[0][1]

    def clip(self, p: Any, given: Any) -> tuple[str, tuple[int, ...]]:
        ((name, shape),) = given
        low, high = self._f32(p.minVal), self._f32(p.maxVal)
        return self.builder.op("Clip", name, low, high), shape


def _sizes(sizes: Any, kernel: list[int], stride: list[int], pads: list[int]) -> list[int]:
    return [
        (size + pads[i] + pads[i + 2] - kernel[i]) // stride[i] + 1 for i, size in enumerate(sizes)
    ]


_LAYERS: dict[str, Callable[[Network, Any, Any], tuple[str, tuple[int, ...]]]] = {
    "activation": Network.activation,
    "add": Network.add,
    "addBroadcastable": Network.add,
    "batchnorm": Network.batchnorm,
    "clip": Network.clip,
    "concatND": Network.concat,
    "convolution": Network.convolution,
    "divideBroadcastable": Network.divide,
    "expandDims": Network.expand,
    "flattenTo2D": Network.flatten,
    "innerProduct": Network.dense,
    "loadConstantND": Network.load,
    "multiply": Network.multiply,
    "multiplyBroadcastable": Network.multiply,
    "pooling": Network.pooling,
    "reduceMean": Network.mean,
    "reshapeStatic": Network.reshape,
    "softmax": Network.softmax,
    "softmaxND": Network.softmax,
    "squeeze": Network.squeeze,
    "subtractBroadcastable": Network.subtract,
    "tanh": Network.tanh,
    "transpose": Network.transpose,
}
