"""Keras 3 models: functional, sequential and subclassed, on the tensorflow, torch and jax backends, and
``.keras`` and ``.h5`` files by their path. Tested with Keras 3.15 on TensorFlow 2.21, PyTorch 2.13 and JAX 0.10.

The example
    One array; a tuple, list or dict of arrays as ``predict()`` takes them; or, where ``call()`` has several
    parameters, a tuple of arrays in their order. A functional or sequential model over numbers says itself what
    it takes, and needs none: one is made up then.

Methods
    ``predict`` and calling the model (``__call__``); both answer with arrays, as in inference: dropout is off,
    batch normalization uses what it learned. Of a model whose ``predict`` is its own code, or whose rows depend
    on each other, Keras answers ``predict``.

Dynamic axes
    Axes that the model declares open are open in the graph, or the model is served natively. Of a subclassed
    model they are found by asking it at other sizes.

Files
    Opened with ``safe_mode=True`` and without their optimizer: code that a file brings (a Lambda layer) is refused.

Known losses
    - Text through TextVectorization or Hashing, strings in answers, ragged and sparse tensors, nested answers and
      random answers have no graph; such a model is served natively. StringLookup and IntegerLookup with a
      vocabulary convert on the tensorflow backend.
    - A stateful RNN is refused: calls of different users would meet in its state.
    - What the exporters of the torch and jax backends cannot write (recurrent layers over any length; pooling,
      resizing, 3-D convolutions) goes through the tensorflow backend in a second process, where TensorFlow is
      installed and the model is made of Keras's own layers; else it is served natively.
    - A functional or sequential model in mixed precision with float32 outputs is converted in float32 arithmetic,
      by the same weights; how far that is from its own is noted.
    - Models that take or give bfloat16 are served natively, because ONNX Runtime has no such arithmetic on the CPU.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from infersdk.convert.array_answers import in_kind
from infersdk.convert.array_axes import BATCH, ROWS, relaxed
from infersdk.convert.array_proof import edges, prove
from infersdk.convert.array_rows import made_up
from infersdk.convert.array_study import (
    Subject,
    answers_repeat,
    first_sentence,
    refuse_unwritable,
    study,
    without_lengths,
)
from infersdk.convert.keras_calls import (
    Layout,
    ask,
    declared_inputs,
    layout_of,
    predicts_as_called,
    state_kept,
)
from infersdk.convert.keras_precision import widened, widened_before, widening_note
from infersdk.convert.registry import Written
from infersdk.convert.tensorflow_silence import quiet, quiet_import
from infersdk.errors import (
    ArtifactError,
    ConversionError,
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
    "reference",
    "to_onnx",
]

FRAMEWORK = "Keras"
EXTRA = "keras"

_SUFFIXES = (".keras", ".h5", ".hdf5")


def can_convert(model: Any) -> bool:
    """Whether this is a Keras model or layer, or the path of a saved one; imports nothing."""
    if isinstance(model, str | os.PathLike):
        path = os.fspath(model)
        return isinstance(path, str) and path.lower().endswith(_SUFFIXES)
    return any(
        (base.__module__, base.__name__) == ("keras.src.layers.layer", "Layer")
        for base in type(model).__mro__
    )


def open_source(model: Any) -> Any:
    """Return the model that a path leads to; a model itself as it is.

    Raises
    ------
    ArtifactError
        There is no such file, it is damaged, or it holds code or layers that are not known here.
    MissingDependencyError
        Keras is not installed.
    """
    if not isinstance(model, str | os.PathLike):
        return model
    path = os.path.abspath(os.fspath(model))
    if not os.path.isfile(path):
        raise ArtifactError(f"Expected a Keras file, found none at `{path}`")
    return _load(path)


def infer_signature(model: Any, example: Any = None) -> Signature:
    """Ask the model about the example, and at other sizes, to learn what it takes and gives.

    Raises
    ------
    UnsupportedModelError
        It is not built yet, or keeps state between calls.
    ConversionError
        An example is needed, or does not fit the model.
    """
    with quiet():
        _refuse_unserved(model)
        layout, subject = _subject(model, example)
        with state_kept(model):
            found = study(_inspected(model, layout, subject))
    outputs = () if found.answer is None else tuple(spec.name for spec in found.outputs)
    form = "array" if found.answer is None else found.answer.form
    keys = None if found.answer is None else found.answer.keys
    called = Method("__call__", outputs, form=form, keys=keys)
    methods: tuple[Method, ...] = (called,)
    if hasattr(model, "predict") and _predictable(model, subject):
        rows_separate = any(spec.shape and spec.shape[0] == BATCH for spec in found.inputs)
        if predicts_as_called(model) and rows_separate:
            methods = (Method("predict", outputs, form=form, keys=keys), called)
        else:
            # No graph has such an output, and so Keras answers.
            methods = (called, Method("predict", ("answer of predict",)))
    return Signature(found.inputs, found.outputs, methods, container="tensors")


def to_onnx(
    model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
) -> Written:
    """Export the model by its backend's exporter, and prove the graph at several sizes.

    Raises
    ------
    UnsupportedModelError
        The answer is nested or no dense tensor, or the model is random or keeps state.
    ConversionError
        The exporter cannot write it, or the graph answers differently.
    """
    with quiet():
        layout, subject = _subject(model, example)
        refuse_unwritable(type(model).__name__, subject, signature)
        if not answers_repeat(subject):
            raise UnsupportedModelError(
                f"{type(model).__name__} gives two answers to the same rows: it is random also in inference"
            )
        notes = _notes(model, signature, example)
        copy = widened(model, signature)
        if copy is not None:
            rows = dict(zip(subject.names, subject.arrays, strict=True))
            notes.append(widening_note(model, copy, rows))
            model = copy
            layout, subject = _subject(model, rows)
        written = _proven(model, layout, subject, signature, opset)
        return replace(written, notes=(*notes, *written.notes))


def call(model: Any, method: str, rows: Any) -> Any:
    """Answer rows as the model itself does in inference.

    Returns
    -------
    numpy.ndarray, or a tuple, list or dict of them
        Torch tensors where the rows were torch tensors.
    """
    layout, arrays = layout_of(model, rows)
    if method == "predict" and not predicts_as_called(model):
        (given,), _ = layout.arrange(arrays)
        return model.predict(given, verbose=0)
    if method not in ("predict", "__call__"):
        raise UnsupportedModelError(
            f"Expected method `predict` or `__call__` of a Keras model, got `{method}`"
        )
    return in_kind(rows, ask(model, layout, arrays))


def reference(model: Any, method: str, rows: Any) -> Any:
    """Answer rows as the graph should: as :func:`call`, but a mixed-precision model in float32.

    A comparison with float16 arithmetic would measure its rounding, and not the conversion.
    """
    copy = widened_before(model)
    return call(model if copy is None else copy, method, rows)


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


def _proven(
    model: Any, layout: Layout, subject: Subject, signature: Signature, opset: int | None
) -> Written:
    """Export with every axis open that the model leaves open, or only with those that it declares."""
    from infersdk.convert.keras_export import export

    inputs = [spec for spec in signature.inputs if isinstance(spec, TensorSpec)]
    outputs = [spec for spec in signature.outputs if isinstance(spec, TensorSpec)]
    try:
        written = export(model, layout, subject.arrays, inputs, outputs, opset)
        _prove(written, subject, inputs)
        return written
    except UnsupportedModelError:
        raise
    except ConversionError as exc:
        failure = str(exc)
        if any(shape is not None for shape in layout.declared):
            graph = _rebuilt(model, inputs, outputs, opset, exc)
            prove(graph, subject, inputs)
            return Written(graph, (f"Exported through the tensorflow backend: {failure}",))
        fixed, sizes = without_lengths(inputs, subject.arrays)
        if not sizes:
            raise
    written = export(model, layout, subject.arrays, fixed, relaxed(outputs, sizes), opset)
    _prove(written, subject, fixed)
    note = f"Fixed at the example's size: {', '.join(sorted(sizes))}. {failure}"
    return replace(written, notes=(note, *written.notes))


def _prove(written: Written, subject: Subject, specs: Sequence[TensorSpec]) -> None:
    """Prove a graph that holds its weights; one whose weights lie beside it was proven as it was written."""
    if written.external_folder is None:
        prove(written.graph, subject, specs)


def _rebuilt(
    model: Any,
    inputs: list[TensorSpec],
    outputs: list[TensorSpec],
    opset: int | None,
    failure: ConversionError,
) -> ModelProto:
    """Try the tensorflow backend, where the model's own has failed.

    Raises
    ------
    ConversionError
        The model is on that backend already, or it fails there as well.
    """
    import keras

    from infersdk.convert.keras_rebuild import rebuild

    if keras.config.backend() == "tensorflow":
        raise failure
    try:
        return rebuild(model, inputs, outputs, opset)
    except ConversionError as exc:
        raise ConversionError(f"{failure}. Nor through the tensorflow backend: {exc}") from exc


def _subject(model: Any, example: Any) -> tuple[Layout, Subject]:
    if example is None:
        declared = declared_inputs(model)
        if declared is not None:
            example = tuple(
                made_up(dtype or "float32", shape)
                for dtype, shape in zip(declared.dtypes, declared.declared, strict=True)
            )
    layout, arrays = layout_of(model, example)
    if any(array.ndim and not array.shape[0] for array in arrays):
        raise ConversionError("Expected at least one row as the example, got none")
    return layout, Subject(
        layout.names, arrays, layout.declared, lambda given: ask(model, layout, given)
    )


def _inspected(model: Any, layout: Layout, subject: Subject) -> Subject:
    """Say what is known of the rows before the model is asked."""
    from infersdk.convert.keras_export import rows_may_separate

    inputs = [
        TensorSpec(name, array.dtype.name, array.shape)
        for name, array in zip(subject.names, subject.arrays, strict=True)
    ]
    return replace(subject, may_separate=rows_may_separate(model, layout, inputs))


def _predictable(model: Any, subject: Subject) -> bool:
    """Whether ``predict`` could take these inputs: it passes one argument."""
    layout, _ = layout_of(model, dict(zip(subject.names, subject.arrays, strict=True)))
    args, kwargs = layout.arrange(subject.arrays)
    return len(args) == 1 and not kwargs


def _refuse_unserved(model: Any) -> None:
    if not model.built:
        raise UnsupportedModelError(
            f"{type(model).__name__} is not built yet, so it has no weights. Call it on a batch, fit it, or "
            "load its weights first"
        )
    parts = model._flatten_layers() if hasattr(model, "_flatten_layers") else [model]
    for part in parts:
        if getattr(part, "stateful", False):
            raise UnsupportedModelError(
                f"Layer `{part.name}` is stateful: it carries its state from call to call, where calls of "
                "different users would meet. Build the model with stateful=False"
            )


def _notes(model: Any, signature: Signature, example: Any) -> list[str]:
    notes = []
    if example is None:
        notes.append("The example was made up from the inputs that the model declares")
    names = {dim for spec in signature.inputs for dim in getattr(spec, "shape", None) or ()}
    if ROWS in names:
        notes.append(
            "A row's answer depends on the rows beside it, so rows of different callers are not put "
            "into one batch"
        )
    elif BATCH not in names:
        notes.append("The model takes the example's number of rows only")
    return notes


def _load(path: str) -> Any:
    try:
        with quiet_import():
            import keras
    except ModuleNotFoundError as exc:
        if exc.name != "keras":
            raise
        raise MissingDependencyError.for_extra("keras", EXTRA, "Opening a Keras file") from exc
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as exc:
        # Keras raises whatever its reader met: OSError, ValueError, TypeError, KeyError, ...
        raise ArtifactError(
            f"Keras cannot open `{path}`: {first_sentence(exc)}. If it holds layers of your own, import the "
            "module that registers them (keras.saving.register_keras_serializable), or load it yourself and "
            "pass the model"
        ) from exc
