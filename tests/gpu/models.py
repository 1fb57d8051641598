"""Networks of random weights, large enough that "auto" takes them to a GPU."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import helper, numpy_helper, parser

N_FEATURES = 256
N_TOKENS = 12
N_CHANNELS = 128
N_HEADS = 4


def _model(text: str, weights: Mapping[str, np.ndarray]) -> bytes:
    graph = parser.parse_graph(text)
    graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in weights.items()
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Weights that keep the size of what they multiply."""
    fan_in = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
    return (rng.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)


def mlp(rng: np.random.Generator) -> bytes:
    return _model(
        f"""
        mlp (float[N, {N_FEATURES}] x) => (float[N, 10] y) {{
            a = MatMul(x, w1)
            b = Relu(a)
            c = MatMul(b, w2)
            d = Relu(c)
            y = MatMul(d, w3)
        }}
        """,
        {
            "w1": _normal(rng, N_FEATURES, 1024),
            "w2": _normal(rng, 1024, 1024),
            "w3": _normal(rng, 1024, 10),
        },
    )


def cnn(rng: np.random.Generator) -> bytes:
    return _model(
        """
        cnn (float[N, 3, 64, 64] x) => (float[N, 10] y) {
            a = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(x, k1)
            b = Relu(a)
            c = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1], strides = [2, 2]>(b, k2)
            d = Relu(c)
            e = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(d)
            f = GlobalAveragePool(e)
            g = Flatten(f)
            y = MatMul(g, w)
        }
        """,
        {
            "k1": _normal(rng, 32, 3, 3, 3),
            "k2": _normal(rng, 64, 32, 3, 3),
            "w": _normal(rng, 64, 10),
        },
    )


def encoder(rng: np.random.Generator) -> bytes:
    """One layer of a Transformer: attention, a feed-forward net, and a mean over the tokens."""
    width = N_CHANNELS // N_HEADS
    ones, zeros = np.ones(N_CHANNELS, np.float32), np.zeros(N_CHANNELS, np.float32)
    return _model(
        f"""
        encoder (float[N, T, {N_CHANNELS}] x) => (float[N, {N_CHANNELS}] y) {{
            q0 = MatMul(x, wq)
            k0 = MatMul(x, wk)
            v0 = MatMul(x, wv)
            q1 = Reshape(q0, split)
            k1 = Reshape(k0, split)
            v1 = Reshape(v0, split)
            q = Transpose<perm = [0, 2, 1, 3]>(q1)
            k = Transpose<perm = [0, 2, 3, 1]>(k1)
            v = Transpose<perm = [0, 2, 1, 3]>(v1)
            scores = MatMul(q, k)
            scaled = Mul(scores, scale)
            weights = Softmax<axis = -1>(scaled)
            mixed = MatMul(weights, v)
            turned = Transpose<perm = [0, 2, 1, 3]>(mixed)
            joined = Reshape(turned, join)
            projected = MatMul(joined, wo)
            sum1 = Add(x, projected)
            h = LayerNormalization<axis = -1>(sum1, ones, zeros)
            up = MatMul(h, w1)
            half = Mul(up, root_half)
            bell = Erf(half)
            bell1 = Add(bell, one)
            gated = Mul(up, bell1)
            active = Mul(gated, one_half)
            down = MatMul(active, w2)
            sum2 = Add(h, down)
            z = LayerNormalization<axis = -1>(sum2, ones, zeros)
            y = ReduceMean<keepdims = 0>(z, axes)
        }}
        """,
        {
            **{name: _normal(rng, N_CHANNELS, N_CHANNELS) for name in ("wq", "wk", "wv", "wo")},
            "w1": _normal(rng, N_CHANNELS, 4 * N_CHANNELS),
            "w2": _normal(rng, 4 * N_CHANNELS, N_CHANNELS),
            "split": np.array([0, 0, N_HEADS, width], np.int64),
            "join": np.array([0, 0, N_CHANNELS], np.int64),
            "scale": np.array(1 / np.sqrt(width), np.float32),
            "root_half": np.array(np.sqrt(0.5), np.float32),
            "one": np.array(1.0, np.float32),
            "one_half": np.array(0.5, np.float32),
            "ones": ones,
            "zeros": zeros,
            "axes": np.array([1], np.int64),
        },
    )


def zeros_of_any_shape() -> bytes:
    """As large an output as is asked for, out of an input of a few bytes."""
    return _model(
        "large (int64[R] shape) => (float s) { y = ConstantOfShape(shape)  s = ReduceSum<keepdims = 0>(y) }",
        {},
    )


MODELS = {
    "mlp": (mlp, (N_FEATURES,)),
    "cnn": (cnn, (3, 64, 64)),
    "encoder": (encoder, (N_TOKENS, N_CHANNELS)),
}
