"""Exporting a Keras model, by the exporter of the backend that it was loaded with.

tensorflow
    A traced function, through tf2onnx.
torch
    A module around the model, through torch.export, as a PyTorch model.
jax
    The model's stateless call, through jax2onnx.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from infersdk.convert.array_study import first_sentence
from infersdk.convert.keras_calls import Layout, flat, takes_training
from infersdk.convert.registry import Written
from infersdk.convert.tensorflow_graph import (
    branches,
    keeps_state,
    refuse_unknown_operators,
    set_shapes,
    write,
)
from infersdk.errors import ConversionError, InferSDKError, UnsupportedModelError
from infersdk.types import TensorSpec

__all__ = ["export", "rows_may_separate"]


def export(
    model: Any,
    layout: Layout,
    arrays: Sequence[NDArray[Any]],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    opset: int | None,
) -> Written:
    """Write the model's graph, with named axes open.

    Parameters
    ----------
    arrays : sequence of numpy.ndarray
        An example, which the torch backend traces.

    Returns
    -------
    Written
        Of a large model on the torch backend the weights are beside the graph, which that backend's exporter
        has proven then.

    Raises
    ------
    ConversionError
        The backend's exporter cannot, or fixes an axis.
    ModuleNotFoundError
        The exporter is not installed.
    """
    import keras

    backend = keras.config.backend()
    exporter = {"tensorflow": _tensorflow, "torch": _torch, "jax": _jax}.get(backend)
    if exporter is None:
        raise ConversionError(
            f"Expected a model on Keras's tensorflow, torch or jax backend, got {backend}"
        )
    try:
        return exporter(model, layout, arrays, inputs, outputs, opset)
    except (InferSDKError, ModuleNotFoundError):
        raise
    except Exception as exc:
        raise ConversionError(
            f"The exporter of Keras's {backend} backend failed: {first_sentence(exc)}"
        ) from exc


def rows_may_separate(model: Any, layout: Layout, inputs: Sequence[TensorSpec]) -> bool:
    """Whether nothing is known that makes rows influence each other: a branch in a layer of the user's own."""
    import keras

    parts = model._flatten_layers() if hasattr(model, "_flatten_layers") else [model]
    if keras.config.backend() != "tensorflow" or all(
        type(part).__module__.partition(".")[0] == "keras" for part in parts
    ):
        return True
    try:
        return not branches(_traced(model, layout, inputs))
    except Exception:  # what cannot be traced is not exported either
        return False


def _tensorflow(
    model: Any,
    layout: Layout,
    arrays: Sequence[NDArray[Any]],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    opset: int | None,
) -> Written:
    import tf2onnx  # noqa: F401

    concrete = _traced(model, layout, inputs)
    written = keeps_state(concrete)
    if written is not None:
        raise UnsupportedModelError(
            f"{type(model).__name__} writes to its variables in inference ({written})"
        )
    return Written(write(concrete, inputs, outputs, opset))


def _traced(model: Any, layout: Layout, inputs: Sequence[TensorSpec]) -> Any:
    """Trace the model's call with every named axis open; a flat list of tensors comes out."""
    import tensorflow as tf

    def answer(*tensors: Any) -> list[Any]:
        # An output may be an input, or be given twice; each gets a node of its own.
        return [tf.identity(item) for item in flat(_call(model, layout, tensors))]

    specs = [
        tf.TensorSpec(
            [dim if isinstance(dim, int) else None for dim in spec.shape or ()],
            tf.string if spec.dtype in ("string", "object") else tf.as_dtype(spec.dtype),
            name=f"input_{index}",
        )
        for index, spec in enumerate(inputs)
    ]
    return tf.function(answer, input_signature=specs, autograph=False).get_concrete_function()


def _torch(
    model: Any,
    layout: Layout,
    arrays: Sequence[NDArray[Any]],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    opset: int | None,
) -> Written:
    import torch

    from infersdk.convert import torch as pytorch

    class Shared:
        """The model beside its weights: never copied, and never traced through its own parameters."""

        def __deepcopy__(self, memo: Any) -> Shared:
            return self

    class Module(torch.nn.Module):
        """Gives the model its weights with every call, so that the exporter has nothing of it to change."""

        def __init__(self) -> None:
            super().__init__()
            self.shared = Shared()
            for index, variable in enumerate(model.trainable_variables):
                self.register_buffer(f"trainable_{index}", variable.value.detach())
            for index, variable in enumerate(model.non_trainable_variables):
                self.register_buffer(f"other_{index}", variable.value.detach())

        def forward(self, *tensors: Any) -> Any:
            args, kwargs = layout.arrange(tensors)
            if takes_training(model):
                kwargs["training"] = False
            n_trainable = len(model.trainable_variables)
            values = list(self._buffers.values())
            answer, _ = model.stateless_call(
                values[:n_trainable], values[n_trainable:], *args, **kwargs
            )
            return answer

    if any(spec.dtype == "string" for spec in inputs):
        raise ConversionError(
            "A model on Keras's torch backend cannot be exported with text inputs"
        )
    module = Module().eval()
    signature = pytorch.infer_signature(
        module, tuple(torch.from_numpy(array.copy()) for array in arrays)
    )
    # The axes are known already; only its way of naming the values is needed.
    asked = replace(
        signature,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
    )
    written = pytorch.to_onnx(
        module,
        asked,
        example=tuple(torch.from_numpy(array.copy()) for array in arrays),
        opset=opset,
    )
    open_axes = {dim for spec in inputs for dim in spec.shape or () if isinstance(dim, str)}
    kept = {
        dim.dim_param
        for value in written.graph.graph.input
        for dim in value.type.tensor_type.shape.dim
    }
    if open_axes - kept:
        if written.external_folder is not None:
            shutil.rmtree(written.external_folder, ignore_errors=True)
        raise ConversionError(
            f"torch.export fixes the size of {', '.join(sorted(open_axes - kept))}, which the model takes "
            "at any size (on the torch backend Keras unrolls recurrent layers). Load the saved model with "
            "KERAS_BACKEND=tensorflow and convert it there"
        )
    # It speaks of the module above, which nobody knows.
    return replace(written, notes=())


def _jax(
    model: Any,
    layout: Layout,
    arrays: Sequence[NDArray[Any]],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    opset: int | None,
) -> Written:
    import jax
    import jax2onnx

    if any(spec.dtype == "string" for spec in inputs):
        raise ConversionError("A model on Keras's jax backend cannot be exported with text inputs")
    trainable = [variable.value for variable in model.trainable_variables]
    others = [variable.value for variable in model.non_trainable_variables]

    def answer(*tensors: Any) -> tuple[Any, ...]:
        args, kwargs = layout.arrange(tensors)
        if takes_training(model):
            kwargs["training"] = False
        given, _ = model.stateless_call(trainable, others, *args, **kwargs)
        return tuple(flat(given))

    scope = jax.export.SymbolicScope()
    shapes = [
        jax.export.symbolic_shape(
            ",".join(str(dim) for dim in spec.shape or ()) or "()", scope=scope
        )
        if spec.shape
        else ()
        for spec in inputs
    ]
    structs = [
        jax.ShapeDtypeStruct(shape, spec.dtype) for shape, spec in zip(shapes, inputs, strict=True)
    ]
    model_proto = jax2onnx.to_onnx(
        answer,
        structs,
        model_name="main",
        enable_double_precision=any(spec.dtype == "float64" for spec in (*inputs, *outputs)),
        input_names=[spec.name for spec in inputs],
        output_names=[spec.name for spec in outputs],
        **({} if opset is None else {"opset": opset}),
    )
    graph = model_proto.graph
    for values, specs in ((graph.input, inputs), (graph.output, outputs)):
        if [value.name for value in values] != [spec.name for spec in specs]:
            raise ConversionError(
                f"Expected a graph with {', '.join(spec.name for spec in specs)}, jax2onnx gave "
                f"{', '.join(value.name for value in values)}"
            )
    refuse_unknown_operators(model_proto)
    set_shapes(model_proto, inputs, outputs)
    return Written(model_proto)


def _call(model: Any, layout: Layout, tensors: Sequence[Any]) -> Any:
    args, kwargs = layout.arrange(tensors)
    if takes_training(model):
        kwargs["training"] = False
    return model(*args, **kwargs)
