"""What a graph consists of, as far as it decides between a GPU and the CPU."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

__all__ = ["GraphOps", "survey"]

# Operators whose work is worth a GPU even with few weights.
_HEAVY = frozenset({"Attention", "Conv", "ConvTranspose", "GRU", "LSTM", "RNN"})

# Standard operators without a kernel in ONNX Runtime's CUDA provider (docs/OperatorKernels.md there).
# Everything of ai.onnx.ml is another: tree ensembles, label encoders, vectorizers.
_CPU_ONLY = frozenset(
    {
        "Acos",
        "Acosh",
        "AffineGrid",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "BitShift",
        "BlackmanWindow",
        "Col2Im",
        "ConvInteger",
        "Cosh",
        "DFT",
        "DeformConv",
        "Det",
        "DynamicQuantizeLinear",
        "HammingWindow",
        "HannWindow",
        "Hardmax",
        "ImageDecoder",
        "LpNormalization",
        "LpPool",
        "MaxRoiPool",
        "MaxUnpool",
        "MeanVarianceNormalization",
        "MelWeightMatrix",
        "Multinomial",
        "QLinearConv",
        "QLinearMatMul",
        "RegexFullMatch",
        "STFT",
        "Sinh",
        "SplitToSequence",
        "StringConcat",
        "StringNormalizer",
        "StringSplit",
        "Tan",
        "TfIdfVectorizer",
        "Unique",
    }
)

_STRING = 8  # onnx.TensorProto.STRING
_ELEMENT_BYTES = {1: 4, 4: 2, 5: 2, 6: 4, 7: 8, 10: 2, 11: 8, 12: 4, 13: 8, 14: 8, 15: 16, 16: 2}


@dataclass(frozen=True, slots=True)
class GraphOps:
    """What a graph consists of, as far as the choice of a provider goes.

    Attributes
    ----------
    n_nodes : int
        Nodes that compute, those of subgraphs and functions included.
    cpu_only : tuple of (str, int)
        Operators that only the CPU has, with how often they occur, the most frequent first.
    weights_bytes : int
        Of the initializers.
    heavy : bool
        Whether there are convolutions, recurrent layers or attention.
    """

    n_nodes: int
    cpu_only: tuple[tuple[str, int], ...] = ()
    weights_bytes: int = 0
    heavy: bool = False

    @property
    def n_cpu_only(self) -> int:
        """Nodes that would run on the CPU whatever the provider."""
        return sum(count for _, count in self.cpu_only)


def survey(model: ModelProto | bytes | str) -> GraphOps:
    """Count a model's operators by whether CUDA has them.

    Parameters
    ----------
    model : onnx.ModelProto, bytes or str
        The model, serialized, or its file; external data is not read.
    """
    if isinstance(model, (bytes, str)):
        import onnx

        if isinstance(model, bytes):
            model = onnx.load_model_from_string(model)
        else:
            model = onnx.load_model(model, load_external_data=False)
    functions = {(function.domain, function.name): function for function in model.functions}
    counts: Counter[tuple[str, bool]] = Counter()
    weights = 0

    def count(nodes: Sequence, text: frozenset[str], depth: int) -> None:
        nonlocal weights
        for node in nodes:
            function = functions.get((node.domain, node.op_type))
            if function is not None and depth < 32:
                count(function.node, frozenset(), depth + 1)
                continue
            for attribute in node.attribute:
                for graph in (attribute.g, *attribute.graphs):
                    if graph.node:
                        count_graph(graph, text, depth + 1)
            if node.op_type == "Constant":
                continue
            cpu_only = (
                node.domain == "ai.onnx.ml"
                or (node.domain in ("", "ai.onnx") and node.op_type in _CPU_ONLY)
                or any(name in text for name in node.input)
            )
            counts[node.op_type, cpu_only] += 1

    def count_graph(graph: GraphProto, text: frozenset[str], depth: int) -> None:
        nonlocal weights
        weights += sum(_size_bytes(tensor) for tensor in graph.initializer)
        strings = {
            value.name
            for value in (*graph.input, *graph.value_info)
            if value.type.tensor_type.elem_type == _STRING
        }
        count(graph.node, text | strings, depth)

    count_graph(model.graph, frozenset(), 0)
    cpu_only: Counter[str] = Counter()
    for (op_type, only), n in counts.items():
        if only:
            cpu_only[op_type] += n
    ranked = sorted(cpu_only.items(), key=lambda item: (-item[1], item[0]))
    heavy = any(op_type in _HEAVY for op_type, _ in counts)
    return GraphOps(sum(counts.values()), tuple(ranked), weights, heavy)


def _size_bytes(tensor: TensorProto) -> int:
    return math.prod(tensor.dims) * _ELEMENT_BYTES.get(tensor.data_type, 1)
