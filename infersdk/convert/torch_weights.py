"""Large torch models: their weights are written once, and never held twice.

The graph of a large model is exported without its large weights: they are further inputs, so that neither
the exporter nor ONNX Runtime copies or folds them. The proof runs that graph over the model's own tensors.
Only then are they written, tensor by tensor, to a file beside the graph. A weight that the graph
transposes, as every linear layer over sequences does, is written transposed: ONNX Runtime would otherwise
transpose it at every load, and keep both.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from infersdk._native import Session
from infersdk.artifact.external import DataWriter
from infersdk.convert.registry import Written
from infersdk.convert.torch_calls import Subject
from infersdk.convert.torch_copies import is_script, weight_bytes
from infersdk.convert.torch_graph import value_names

if TYPE_CHECKING:
    import numpy as np
    import onnx

__all__ = [
    "LARGE_MODEL_BYTES",
    "GraphSession",
    "detach",
    "large_weights",
    "take_out",
    "with_weights",
    "write",
]

LARGE_MODEL_BYTES = 2**30
"""Weights from which on a model is large: as many as an artifact keeps in one file."""

_LARGE_WEIGHT_BYTES = 2**16
_BLOCK_BYTES = 2**24


def large_weights(subject: Subject) -> dict[str, np.ndarray]:
    """Return the larger weights of a large model, by their names in the graph; views, not copies.

    Empty for other models, and for TorchScript, whose exporter has its own way.
    """
    module = subject.module
    if is_script(module) or weight_bytes(module) < LARGE_MODEL_BYTES:
        return {}
    import torch

    return {
        f"model.{name}": tensor.detach().numpy()
        for name, tensor in module.state_dict(keep_vars=True).items()
        if isinstance(tensor, torch.Tensor)
        and tensor.nbytes >= _LARGE_WEIGHT_BYTES
        and tensor.dtype != torch.bfloat16  # unknown to numpy
        and tensor.is_contiguous()
        and not tensor.is_sparse
    }


def detach(program: Any, weights: Mapping[str, np.ndarray]) -> None:
    """Make large weights inputs of an exporter's program, in place, before it is optimized."""
    graph = program.model.graph
    for name, array in weights.items():
        value = graph.initializers.get(name)
        raw = None if value is None else getattr(value.const_value, "raw", None)
        if raw is None or not hasattr(raw, "data_ptr") or raw.data_ptr() != array.ctypes.data:
            continue
        del graph.initializers[name]
        value.const_value = None
        graph.inputs.append(value)


def take_out(model: onnx.ModelProto, weights: Mapping[str, np.ndarray]) -> None:
    """Leave the inputs that are weights out of a graph, in place: it then reads values that nothing gives."""
    kept = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def with_weights(written: Written, subject: Subject) -> Written:
    """Give a proven graph the weights that were taken out of it, in a folder of its own."""
    weights = large_weights(subject)
    if not weights:
        return written
    lacking = type(written.graph)()
    lacking.CopyFrom(written.graph)
    folder = tempfile.mkdtemp(prefix="infersdk-")
    try:
        whole = write(written.graph, weights, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return replace(
        written,
        graph=whole,
        external_folder=folder,
        open_session=partial(GraphSession, lacking, weights),
    )


class GraphSession:
    """A session of a graph whose weights were taken out, run over weights in memory.

    Parameters
    ----------
    model : onnx.ModelProto
        Of :func:`take_out`, or a whole one.
    weights : Mapping of str to numpy.ndarray
        Those that the graph does not read are ignored. Kept alive, not copied.

    Raises
    ------
    SessionError
        ONNX Runtime does not take the graph.
    """

    def __init__(self, model: onnx.ModelProto, weights: Mapping[str, np.ndarray]) -> None:
        import onnx

        names = [name for name in weights if name in value_names(model.graph)]
        self._weights = [weights[name] for name in names]
        if names:
            whole = onnx.ModelProto()
            whole.CopyFrom(model)
            for name, array in zip(names, self._weights, strict=True):
                kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
                whole.graph.input.append(
                    onnx.helper.make_tensor_value_info(name, kind, array.shape)
                )
            model = whole
        self._session = Session(model.SerializeToString(), name="conversion")
        self.outputs = self._session.outputs

    def run_ordered(self, arrays: Sequence[Any]) -> list[Any]:
        """Run the graph on the inputs of the model itself."""
        return self._session.run_ordered([*arrays, *self._weights])

    def close(self) -> None:
        self._session.close()


def write(
    model: onnx.ModelProto, weights: Mapping[str, np.ndarray], folder: str
) -> onnx.ModelProto:
    """Write the weights that a graph reads to a file in ``folder``; return the graph that refers to it.

    Memory is bounded by one block of 16 MiB. The graph given is changed and must not be used again.
    """
    location = "weights.data"
    graph = model.graph
    transposed = {}
    outputs = {value.name for value in graph.output}
    for node in graph.node:
        if (
            node.op_type == "Transpose"
            and node.input[0] in weights
            and list(node.attribute[0].ints if node.attribute else (1, 0)) == [1, 0]
            and weights[node.input[0]].ndim == 2
            and node.output[0] not in outputs
        ):
            transposed[node.output[0]] = node.input[0]
    kept = [node for node in graph.node if node.output[0] not in transposed]
    del graph.node[:]
    graph.node.extend(kept)
    read = value_names(graph)
    with open(os.path.join(folder, location), "wb") as file:
        writer = DataWriter(file)
        for name, array in weights.items():
            if name in read:
                _place(graph, name, array, writer, location)
        for name, source in transposed.items():
            _place(graph, name, weights[source].T, writer, location)
    return model


def _place(
    graph: onnx.GraphProto, name: str, array: np.ndarray, writer: DataWriter, location: str
) -> None:
    import onnx

    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor = graph.initializer.add(
        name=name,
        data_type=kind,
        dims=array.shape,
        data_location=onnx.TensorProto.EXTERNAL,
    )
    offset = writer.append_parts(_blocks(array))
    for key, value in (("location", location), ("offset", offset), ("length", array.nbytes)):
        tensor.external_data.add(key=key, value=str(value))


def _blocks(array: np.ndarray) -> Iterator[bytes]:
    """Give an array's bytes, in C order and little-endian, a block of rows at a time."""
    flat: Iterable[np.ndarray]
    if array.ndim < 2:
        flat = (array,)
    else:
        step = max(1, _BLOCK_BYTES // max(1, array[:1].nbytes))
        flat = (array[first : first + step] for first in range(0, len(array), step))
    for part in flat:
        yield part.astype(part.dtype.newbyteorder("<"), copy=False).tobytes()
