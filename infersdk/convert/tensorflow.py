"""TensorFlow: ``tf.function``, ``tf.Module``, concrete functions, and SavedModels, as ``tf.saved_model.load`` gives
them or by the path of their folder. Tested with 2.21. Keras models have a converter of their own.

The example
    One array; a tuple of arrays, passed by position; or a dict, passed by the names of the function's parameters
    (or as the one dict that it takes). A function with an input signature over numbers, and a SavedModel, say
    themselves what they take, and need none: one is made up then.

Method
    ``__call__``. Of a SavedModel without a function of its own it is its serving signature, ``serve`` or
    ``serving_default``, and is called that.

Dynamic axes
    Axes that the input signature leaves open are open in the graph. Of a function without one they are found by
    asking it at other sizes; what cannot be kept open is noted.

Known losses
    - Text that is split, hashed or matched, strings in answers, ragged and sparse tensors, nested answers, random
      answers and loops that gather a varying number of tensors have no graph; such a model is served natively. A
      lookup table (``tf.lookup.StaticHashTable``) becomes part of the graph.
    - A function that writes to variables is refused: calls of different users would meet in its state.
    - bfloat16 models are served natively, because ONNX Runtime has no such arithmetic on the CPU.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from infersdk.convert.array_answers import in_kind
from infersdk.convert.array_axes import BATCH, ROWS, relaxed
from infersdk.convert.array_proof import edges, prove
from infersdk.convert.array_study import (
    Subject,
    answers_repeat,
    first_sentence,
    refuse_unwritable,
    study,
    without_lengths,
)
from infersdk.convert.registry import Written
from infersdk.convert.tensorflow_calls import Layout, ask, entry_of, layout_of
from infersdk.convert.tensorflow_silence import quiet, quiet_import
from infersdk.errors import (
    ArtifactError,
    ConversionError,
    InferSDKError,
    MissingDependencyError,
    UnsupportedModelError,
)
from infersdk.types import Method, Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import ModelProto

__all__ = [
    "EXTRA",
    "FRAMEWORK",
    "call",
    "can_convert",
    "edge_rows",
    "infer_signature",
    "open_source",
    "to_onnx",
]

FRAMEWORK = "TensorFlow"
EXTRA = "tensorflow"

_KINDS = {
    ("tensorflow.python.eager.polymorphic_function.polymorphic_function", "Function"),
    ("tensorflow.python.eager.polymorphic_function.concrete_function", "ConcreteFunction"),
    ("tensorflow.python.trackable.autotrackable", "AutoTrackable"),
}


def can_convert(model: Any) -> bool:
    """Whether this is a function, a module, or the folder of a SavedModel; imports nothing."""
    if isinstance(model, str | os.PathLike):
        return os.path.isfile(os.path.join(os.fspath(model), "saved_model.pb"))
    return any((base.__module__, base.__name__) in _KINDS for base in type(model).__mro__)


def open_source(model: Any) -> Any:
    """Return the SavedModel that a path leads to; a model itself as it is.

    Raises
    ------
    ArtifactError
        TensorFlow cannot open it.
    MissingDependencyError
        TensorFlow is not installed.
    """
    if not isinstance(model, str | os.PathLike):
        return model
    return _load(os.path.abspath(os.fspath(model)))


def infer_signature(model: Any, example: Any = None) -> Signature:
    """Ask the function about the example, and at other sizes, to learn what it takes and gives.

    Raises
    ------
    UnsupportedModelError
        It is not callable, or writes to variables.
    ConversionError
        An example is needed, or does not fit the function.
    """
    with quiet():
        layout, subject = _subject(model, example)
        found = study(_inspected(layout, subject))
    method = Method(
        layout.method,
        tuple(spec.name for spec in found.outputs),
        form="array" if found.answer is None else found.answer.form,
        keys=None if found.answer is None else found.answer.keys,
    )
    return Signature(found.inputs, found.outputs, (method,), container="tensors")


def to_onnx(
    model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
) -> Written:
    """Trace the function, write its graph by tf2onnx, and prove it at several sizes.

    Raises
    ------
    UnsupportedModelError
        The answer is nested or no dense tensor, or the function is random.
    ConversionError
        It cannot be traced or written, or the graph answers differently.
    """
    with quiet():
        layout, subject = _subject(model, example)
        kind = type(model).__name__
        refuse_unwritable(kind, subject, signature)
        if not answers_repeat(subject):
            raise UnsupportedModelError(f"{kind} gives two answers to the same rows: it is random")
        inputs = [spec for spec in signature.inputs if isinstance(spec, TensorSpec)]
        outputs = [spec for spec in signature.outputs if isinstance(spec, TensorSpec)]
        notes = (
            ["The example was made up from the inputs that the model declares"]
            if example is None
            else []
        )
        try:
            graph = _export(layout, inputs, outputs, opset)
            prove(graph, subject, inputs)
        except UnsupportedModelError:
            raise
        except ConversionError as exc:
            fixed, sizes = without_lengths(inputs, subject.arrays)
            if not sizes or any(shape is not None for shape in layout.declared):
                raise
            graph = _export(layout, fixed, relaxed(outputs, sizes), opset)
            prove(graph, subject, fixed)
            notes.append(f"Fixed at the example's size: {', '.join(sorted(sizes))}. {exc}")
        return Written(graph, (*notes, *_notes(signature)))


def call(model: Any, method: str, rows: Any) -> Any:
    """Answer rows as the function itself does.

    Returns
    -------
    numpy.ndarray, or a tuple, list or dict of them
        Torch tensors where the rows were torch tensors.
    """
    layout, arrays = layout_of(model, rows)
    if method != layout.method:
        raise UnsupportedModelError(
            f"Expected method `{layout.method}` of {type(model).__name__}, got `{method}`"
        )
    return in_kind(rows, ask(layout, arrays))


def edge_rows(
    model: Any,
    signature: Signature,
    example: Any,
    *,
    n_rows: int,
    rng: np.random.Generator,
) -> Any:
    """Make rows that provoke differences: noisy, negated, zero, enlarged. Integers and text stay as they are.

    Returns
    -------
    dict of numpy.ndarray, or None
        By the inputs' names; fewer than ``n_rows`` where rows are large.
    """
    with quiet():
        try:
            _, subject = _subject(model, example)
        except ConversionError:
            return None
        return edges(subject, signature, n_rows, rng)


def _subject(model: Any, example: Any) -> tuple[Layout, Subject]:
    layout, arrays = layout_of(model, example)
    if any(array.ndim and not array.shape[0] for array in arrays):
        raise ConversionError("Expected at least one row as the example, got none")
    return layout, Subject(layout.names, arrays, layout.declared, lambda given: ask(layout, given))


def _inspected(layout: Layout, subject: Subject) -> Subject:
    """Look at the function's graph before it is asked for the first time, and say what is known from it.

    A function that cannot be traced is asked as it is.

    Raises
    ------
    UnsupportedModelError
        It writes to variables.
    """
    import tensorflow as tf

    from infersdk.convert.tensorflow_graph import branches, keeps_state

    specs = [
        TensorSpec(name, array.dtype.name, array.shape)
        for name, array in zip(subject.names, subject.arrays, strict=True)
    ]
    try:
        concrete = _traced(layout, specs)
    except (TypeError, ValueError, NotImplementedError, AttributeError, tf.errors.OpError):
        return subject
    written = keeps_state(concrete)
    if written is not None:
        raise UnsupportedModelError(
            f"The function writes to variables ({written}), so calls of different users would meet in its "
            "state. Pass state in and out as tensors instead"
        )
    return replace(subject, may_separate=not branches(concrete))


def _export(
    layout: Layout,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    opset: int | None,
) -> ModelProto:
    import tf2onnx  # noqa: F401

    from infersdk.convert.tensorflow_graph import write

    try:
        return write(_traced(layout, inputs), inputs, outputs, opset)
    except (InferSDKError, ModuleNotFoundError):
        raise
    except Exception as exc:
        # tf2onnx and TensorFlow raise whatever they met: ValueError, KeyError, AttributeError, ...
        raise ConversionError(f"tf2onnx cannot write the function: {first_sentence(exc)}") from exc


def _traced(layout: Layout, inputs: Sequence[TensorSpec]) -> Any:
    """Trace the function with every named axis open; a flat list of tensors comes out."""
    import tensorflow as tf

    def answer(*tensors: Any) -> list[Any]:
        # An output may be an input, or be given twice; each gets a node of its own.
        return [tf.identity(item) for item in layout.flat(layout.call(tensors))]

    specs = [
        tf.TensorSpec(
            [dim if isinstance(dim, int) else None for dim in spec.shape or ()],
            tf.string if spec.dtype in ("string", "object") else tf.as_dtype(spec.dtype),
            name=f"input_{index}",
        )
        for index, spec in enumerate(inputs)
    ]
    return tf.function(answer, input_signature=specs, autograph=False).get_concrete_function()


def _notes(signature: Signature) -> list[str]:
    names = {dim for spec in signature.inputs for dim in getattr(spec, "shape", None) or ()}
    if ROWS in names:
        return [
            "A row's answer depends on the rows beside it, so rows of different callers are not put "
            "into one batch"
        ]
    return [] if BATCH in names else ["The model takes the example's number of rows only"]


def _load(path: str) -> Any:
    try:
        with quiet_import():
            import tensorflow as tf
    except ModuleNotFoundError as exc:
        if exc.name != "tensorflow":
            raise
        raise MissingDependencyError.for_extra("tensorflow", EXTRA, "Opening a SavedModel") from exc
    try:
        with quiet():
            model = tf.saved_model.load(path)
    except Exception as exc:
        # Of a damaged folder it raises OSError, DecodeError, KeyError, ...
        raise ArtifactError(f"TensorFlow cannot open `{path}`: {first_sentence(exc)}") from exc
    entry_of(model)
    return model
