"""Core ML's arithmetic in NumPy, read from the specification anew: what a graph is compared with off macOS.

Core ML itself runs on macOS only. This is a second reading of the same parameters by other means (nodes are walked
one by one, convolutions are sums over windows), so that a slip in one of the two shows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from infersdk.convert.coreml_network import array_of, layers_of, padding_of
from infersdk.convert.coreml_tables import classes_of, kind_of, parts_of

__all__ = ["answer_network", "answer_row"]


def answer_row(spec: Any, values: dict[str, Any]) -> dict[str, Any]:
    """What the parts of a model make of one row: ``prediction``, or ``label`` and ``probabilities``."""
    values = dict(values)
    answers: dict[str, Any] = {}
    for part in parts_of(spec):
        names = [item.name for item in part.description.input]
        kind = kind_of(part)
        model = getattr(part, kind)
        if kind == "featureVectorizer":
            names = [item.inputColumn for item in model.inputList]
        given = [value for name in names for value in np.atleast_1d(values[name]).tolist()]
        step = _step(kind, model, given)
        if step is None:
            answers = _predicted(kind, model, np.array(given, np.float64))
        else:
            values[part.description.output[0].name] = np.array(step)
    return answers


def _step(kind: str, model: Any, given: list[Any]) -> list[Any] | None:
    if kind in ("featureVectorizer", "identity"):
        return given
    if kind == "arrayFeatureExtractor":
        return [given[index] for index in model.extractIndex]
    if kind == "scaler":
        shift = np.resize(model.shiftValue, len(given)).tolist()
        factor = np.resize(model.scaleValue, len(given)).tolist()
        return [f * (x + s) for x, s, f in zip(given, shift, factor, strict=True)]
    if kind == "imputer":
        fill = getattr(model, model.WhichOneof("ImputedValue"))
        fills = np.resize(list(getattr(fill, "vector", [fill])), len(given)).tolist()
        replaced = model.WhichOneof("ReplaceValue")
        missing = float(getattr(model, replaced)) if replaced else math.nan
        return [
            f if (math.isnan(x) if math.isnan(missing) else x == missing) else x
            for x, f in zip(given, fills, strict=True)
        ]
    if kind == "oneHotEncoder":
        known = list(model.stringCategories.vector) or list(model.int64Categories.vector)
        return [float(given[0] == value) for value in known]
    if kind == "normalizer":
        order = {0: math.inf, 1: 1, 2: 2}[int(model.normType)]
        size = float(np.linalg.norm(given, order)) or 1.0
        return [x / size for x in given]
    return None


def _predicted(kind: str, model: Any, row: np.ndarray) -> dict[str, Any]:
    if kind.startswith("supportVector"):
        return _support(model, row, classifies=kind.endswith("Classifier"))
    if kind.startswith("glm"):
        score = np.array(
            [np.dot(w.value, row) + b for w, b in zip(model.weights, model.offset, strict=True)]
        )
        if kind == "glmRegressor":
            link = {0: lambda x: x, 1: _sigmoid, 2: _normal}[int(model.postEvaluationTransform)]
            return {"prediction": np.array([link(x) for x in score])}
        share = _normal if model.postEvaluationTransform == 1 else _sigmoid
        if len(classes_of(model)) == 2 and len(score) == 1:
            upper = share(score[0])
            return _labelled(np.array([1 - upper, upper]))
        if model.classEncoding == 0:
            return _labelled(_softmax(np.concatenate([[0.0], score])))
        shares = np.array([share(x) for x in score])
        return _labelled(shares / shares.sum())
    score = _walk(model.treeEnsemble, row)
    transform = int(model.postEvaluationTransform)
    if kind == "treeEnsembleRegressor":
        return {"prediction": np.array([_sigmoid(x) for x in score]) if transform == 2 else score}
    if transform == 2:
        shares = np.array([_sigmoid(x) for x in score])
        return _labelled(shares if len(shares) > 1 else np.array([1 - shares[0], shares[0]]))
    if transform == 3:
        score = np.concatenate([[0.0], score])
    return _labelled(_softmax(score) if transform in (1, 3) else score)


def _labelled(probabilities: np.ndarray) -> dict[str, Any]:
    return {"label": int(np.argmax(probabilities)), "probabilities": probabilities}


def _sigmoid(x: float) -> float:
    return 0.0 if x < -700 else 1 / (1 + math.exp(-x))


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _softmax(values: np.ndarray) -> np.ndarray:
    power = np.exp(values - values.max())
    shares: np.ndarray = power / power.sum()
    return shares


def _walk(ensemble: Any, row: np.ndarray) -> np.ndarray:
    total = np.zeros(int(ensemble.numPredictionDimensions))
    total += np.array(list(ensemble.basePredictionValue) or [0.0])
    by_tree: dict[int, dict[int, Any]] = {}
    for node in ensemble.nodes:
        by_tree.setdefault(int(node.treeId), {})[int(node.nodeId)] = node
    for nodes in by_tree.values():
        pointed = {n.trueChildNodeId for n in nodes.values() if n.nodeBehavior != 6}
        pointed |= {n.falseChildNodeId for n in nodes.values() if n.nodeBehavior != 6}
        node = next(n for key, n in nodes.items() if key not in pointed)
        while node.nodeBehavior != 6:
            x, limit = row[node.branchFeatureIndex], node.branchFeatureValue
            holds = (x <= limit, x < limit, x >= limit, x > limit, x == limit, x != limit)
            yes = bool(node.missingValueTracksTrueChild if x != x else holds[node.nodeBehavior])
            node = nodes[node.trueChildNodeId if yes else node.falseChildNodeId]
        for item in node.evaluationInfo:
            total[item.evaluationIndex] += item.evaluationValue
    return total


def _support(model: Any, row: np.ndarray, *, classifies: bool) -> dict[str, Any]:
    vectors = []
    if model.WhichOneof("supportVectors") == "denseSupportVectors":
        vectors = [np.array(v.values) for v in model.denseSupportVectors.vectors]
    else:
        for sparse in model.sparseSupportVectors.vectors:
            dense = np.zeros(len(row))
            for node in sparse.nodes:
                dense[node.index - 1] = node.value
            vectors.append(dense)
    kernel = np.array([_kernel(model.kernel, row, vector) for vector in vectors])
    if not classifies:
        return {"prediction": np.array([np.dot(model.coefficients.alpha, kernel) - model.rho])}
    sizes = list(model.numberOfSupportVectorsPerClass)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    k, number = len(sizes), 0
    votes, pairs = np.zeros(k), np.zeros((k, k))
    for i in range(k):
        for j in range(i + 1, k):
            first, second = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
            value = np.dot(model.coefficients[j - 1].alpha[first], kernel[first])
            value += np.dot(model.coefficients[i].alpha[second], kernel[second]) - model.rho[number]
            votes[i if value > 0 else j] += 1
            if model.probA:
                share = _sigmoid(-(value * model.probA[number] + model.probB[number]))
                pairs[i, j] = min(max(share, 1e-7), 1 - 1e-7)
                pairs[j, i] = 1 - pairs[i, j]
            number += 1
    if not model.probA:
        return {"label": int(np.argmax(votes))}
    return _labelled(np.array([pairs[0, 1], pairs[1, 0]]) if k == 2 else _coupled(pairs))


def _coupled(r: np.ndarray) -> np.ndarray:
    """LIBSVM's iteration (Wu, Lin and Weng, 2004)."""
    k = len(r)
    q = -r.T * r
    np.fill_diagonal(q, (r.T**2).sum(axis=1))
    p = np.full(k, 1.0 / k)
    for _ in range(max(100, k)):
        qp = q @ p
        total = p @ qp
        if np.abs(qp - total).max() < 0.005 / k:
            break
        for t in range(k):
            step = (total - qp[t]) / q[t, t]
            p[t] += step
            total = (total + step * (step * q[t, t] + 2 * qp[t])) / (1 + step) ** 2
            qp = (qp + step * q[t]) / (1 + step)
            p /= 1 + step
    return p


def _kernel(kernel: Any, row: np.ndarray, vector: np.ndarray) -> float:
    kind = kernel.WhichOneof("kernel")
    p = getattr(kernel, kind)
    if kind == "rbfKernel":
        return math.exp(-p.gamma * float(((row - vector) ** 2).sum()))
    product = float(np.dot(row, vector))
    if kind == "linearKernel":
        return product
    if kind == "sigmoidKernel":
        return math.tanh(p.gamma * product + p.c)
    return float((p.gamma * product + p.c) ** p.degree)


# ---- networks


def answer_network(network: Any, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every blob of a network, in float64."""
    blobs = {name: np.asarray(value, np.float64) for name, value in given.items()}
    for layer in layers_of(network):
        kind = str(layer.WhichOneof("layer"))
        values = [blobs[name] for name in layer.input]
        blobs[layer.output[0]] = _layer(kind, getattr(layer, kind), values)
    return blobs


def _layer(kind: str, p: Any, values: list[np.ndarray]) -> np.ndarray:
    x = values[0] if values else np.empty(0)
    if kind in _ELEMENTWISE:
        function = _ELEMENTWISE[kind]
        others = values[1:] if len(values) > 1 else [np.float64(p.alpha)]
        for other in others:
            x = function(x, other)
        return x
    if kind == "innerProduct":
        weights = array_of(p.weights, (int(p.outputChannels), int(p.inputChannels)))
        made = np.einsum("...i,oi->...o", x, weights.astype(np.float64))
        return made + array_of(p.bias, (int(p.outputChannels),)) if p.hasBias else made
    if kind == "activation":
        return _activation(p, x)
    if kind in ("convolution", "pooling"):
        return _convolved(p, x) if kind == "convolution" else _pooled(p, x)
    if kind == "batchnorm":
        gamma, beta, mean, variance = (
            array_of(w, (int(p.channels), 1, 1)).astype(np.float64)
            for w in (p.gamma, p.beta, p.mean, p.variance)
        )
        return gamma * (x - mean) / np.sqrt(variance + p.epsilon) + beta
    if kind in ("softmax", "softmaxND"):
        axis = p.axis if kind == "softmaxND" else -3
        power = np.exp(x - x.max(axis=axis, keepdims=True))
        return np.asarray(power / power.sum(axis=axis, keepdims=True))
    if kind == "reduceMean":
        axes = None if p.reduceAll else tuple(p.axes)
        return np.asarray(x.mean(axis=axes, keepdims=bool(p.keepDims)))
    if kind == "flattenTo2D":
        return x.reshape(int(np.prod(x.shape[: p.axis % (x.ndim + 1)])), -1)
    simple = {
        "clip": lambda: np.clip(x, p.minVal, p.maxVal),
        "concatND": lambda: np.concatenate(values, axis=p.axis),
        "expandDims": lambda: np.expand_dims(x, tuple(p.axes)),
        "loadConstantND": lambda: array_of(p.data, tuple(p.shape)),
        "reshapeStatic": lambda: x.reshape([int(size) for size in p.targetShape]),
        "squeeze": lambda: np.squeeze(x, None if p.squeezeAll else tuple(p.axes)),
        "tanh": lambda: np.tanh(x),
        "transpose": lambda: x.transpose([int(axis) for axis in p.axes]),
    }
    return np.asarray(simple[kind](), np.float64)


_ELEMENTWISE: dict[str, Any] = {
    "add": np.add,
    "addBroadcastable": np.add,
    "divideBroadcastable": np.divide,
    "multiply": np.multiply,
    "multiplyBroadcastable": np.multiply,
    "subtractBroadcastable": np.subtract,
}


def _activation(p: Any, x: np.ndarray) -> np.ndarray:
    kind = str(p.WhichOneof("NonlinearityType"))
    s = getattr(p, kind)
    functions = {
        "ELU": lambda: np.where(x >= 0, x, s.alpha * np.expm1(np.minimum(x, 0))),
        "ReLU": lambda: np.maximum(x, 0),
        "leakyReLU": lambda: np.where(x >= 0, x, s.alpha * x),
        "linear": lambda: s.alpha * x + s.beta,
        "scaledTanh": lambda: s.alpha * np.tanh(s.beta * x),
        "sigmoid": lambda: 1 / (1 + np.exp(-x)),
        "sigmoidHard": lambda: np.clip(s.alpha * x + s.beta, 0, 1),
        "softplus": lambda: np.logaddexp(0, x),
        "softsign": lambda: x / (1 + np.abs(x)),
        "tanh": lambda: np.tanh(x),
    }
    return np.asarray(functions[kind]())


def _windows(x: np.ndarray, kernel: Any, stride: Any, spread: Any, pads: Any, fill: float) -> Any:
    """(B, C, H', W', kh, kw)."""
    top, left, bottom, right = pads
    wide = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, spread, strict=True)]
    views = np.lib.stride_tricks.sliding_window_view(wide, reach, axis=(2, 3))
    return views[:, :, :: stride[0], :: stride[1], :: spread[0], :: spread[1]]


def _convolved(p: Any, x: np.ndarray) -> np.ndarray:
    kernel, stride = list(p.kernelSize) or [3, 3], list(p.stride) or [1, 1]
    spread, groups = list(p.dilationFactor) or [1, 1], max(int(p.nGroups), 1)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, spread, strict=True)]
    pads = padding_of(p, reach, list(x.shape[2:]), stride)
    weights = array_of(p.weights, (int(p.outputChannels), int(p.kernelChannels), *kernel))
    views = _windows(x, kernel, stride, spread, pads, 0.0)
    parts = [
        np.einsum("bchwij,ocij->bohw", v, w)
        for v, w in zip(np.split(views, groups, axis=1), np.split(weights, groups), strict=True)
    ]
    made = np.concatenate(parts, axis=1)
    return made + array_of(p.bias, (int(p.outputChannels), 1, 1)) if p.hasBias else made


def _pooled(p: Any, x: np.ndarray) -> np.ndarray:
    largest = int(p.type) == 0
    if p.globalPooling:
        return np.asarray(
            x.max((2, 3), keepdims=True) if largest else x.mean((2, 3), keepdims=True)
        )
    kernel, stride = list(p.kernelSize) or [3, 3], list(p.stride) or [1, 1]
    pads = padding_of(p, kernel, list(x.shape[2:]), stride)
    views = _windows(x, kernel, stride, [1, 1], pads, -np.inf if largest else np.nan)
    if largest:
        return np.asarray(views.max(axis=(4, 5)))
    if p.avgPoolExcludePadding:
        return np.asarray(np.nanmean(views, axis=(4, 5)))
    return np.asarray(np.nan_to_num(views).mean(axis=(4, 5)))
