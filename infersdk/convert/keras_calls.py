"""How a Keras model is asked: which of its inputs an array is for, and arrays in and out on every backend."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.convert.array_rows import Shape
from infersdk.errors import ConversionError, UnsupportedModelError

__all__ = [
    "Layout",
    "ask",
    "declared_inputs",
    "flat",
    "layout_of",
    "predicts_as_called",
    "state_kept",
    "takes_training",
]

_UNNAMED = re.compile(r"(keras_tensor|input_layer)(_\d+)?")
"""Names that Keras gives; they count the process's tensors, and say nothing."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How tensors are passed to the model.

    Parameters
    ----------
    names : tuple of str
        Of the inputs, in order.
    declared : tuple of (tuple or None)
        What the model says of their shapes.
    dtypes : tuple of (str or None)
        What the model says of their dtypes.
    arrange : callable
        ``arrange(tensors) -> (args, kwargs)`` of the model's call.
    """

    names: tuple[str, ...]
    declared: tuple[Shape, ...]
    dtypes: tuple[str | None, ...]
    arrange: Callable[[Sequence[Any]], tuple[tuple[Any, ...], dict[str, Any]]]


def layout_of(model: Any, rows: Any) -> tuple[Layout, tuple[NDArray[Any], ...]]:
    """Read rows: an array, a tuple or list of arrays, or a dict of arrays by the inputs' names.

    Returns
    -------
    layout : Layout
    arrays : tuple of numpy.ndarray
        In the order of ``layout.names`` and in the dtypes that the model takes.

    Raises
    ------
    ConversionError
        The rows do not fit the model's inputs.
    """
    layout = declared_inputs(model)
    if layout is None:
        layout, values = _undeclared(model, rows)
    else:
        values = _in_order(model, layout.names, rows)
    floats = _float_dtype(model)
    arrays = []
    for name, dtype, value in zip(layout.names, layout.dtypes, values, strict=True):
        arrays.append(_array(model, name, value, dtype, floats))
    declared = tuple(
        shape if shape is not None and len(shape) == array.ndim else None
        for shape, array in zip(layout.declared, arrays, strict=True)
    )
    return Layout(layout.names, declared, layout.dtypes, layout.arrange), tuple(arrays)


def declared_inputs(model: Any) -> Layout | None:
    """What a functional or sequential model says of its inputs; None for one that says nothing."""
    import keras

    try:
        structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    except (AttributeError, TypeError, ValueError):
        return None
    tensors = keras.tree.flatten(structure)
    if not tensors or not all(isinstance(tensor, keras.KerasTensor) for tensor in tensors):
        return None
    if isinstance(structure, Mapping) and len(structure) == len(tensors):
        positions = keras.tree.flatten(
            keras.tree.pack_sequence_as(structure, list(range(len(tensors))))
        )
        keys = {id(tensor): key for key, tensor in structure.items()}
        names = [str(keys.get(id(tensors[index]), f"input_{index}")) for index in positions]
    else:
        names = [_name(tensor.name, index, len(tensors)) for index, tensor in enumerate(tensors)]
    if len(set(names)) != len(names):
        names = [f"input_{index}" for index in range(len(names))]

    def arrange(values: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (keras.tree.pack_sequence_as(structure, list(values)),), {}

    return Layout(
        tuple(names),
        # Whatever the number of rows it was built with, a functional model takes any.
        tuple((None, *tensor.shape[1:]) for tensor in tensors),
        tuple(str(tensor.dtype) for tensor in tensors),
        arrange,
    )


def ask(model: Any, layout: Layout, arrays: Sequence[NDArray[Any]]) -> Any:
    """Answer as the model does in inference: arrays, in the containers that the model gives."""
    args, kwargs = layout.arrange([_tensor(array) for array in arrays])
    if takes_training(model):
        kwargs["training"] = False
    with _no_gradients():
        return _arrays(model(*args, **kwargs))


def flat(answer: Any) -> list[Any]:
    """The tensors of an answer that is no deeper than one container, dicts by their keys' order."""
    if isinstance(answer, Mapping):
        return list(answer.values())
    if isinstance(answer, tuple | list):
        return list(answer)
    return [answer]


def takes_training(model: Any) -> bool:
    """Whether the model's call tells training from inference."""
    parameters = inspect.signature(model.call).parameters
    return "training" in parameters


def predicts_as_called(model: Any) -> bool:
    """Whether ``predict`` gives what calling the model gives: nobody has written another."""
    kind = type(model)
    return hasattr(kind, "predict") and all(
        _is_of_keras(kind, name) and name not in vars(model)
        for name in ("predict", "predict_step", "make_predict_function", "predict_on_batch")
    )


@contextlib.contextmanager
def state_kept(model: Any) -> Iterator[None]:
    """Put back what asking the model has changed in it, and refuse the model if it did.

    Raises
    ------
    UnsupportedModelError
        The model writes to its variables also in inference.
    """
    import keras

    def values() -> list[NDArray[Any]]:
        return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]

    variables = list(model.non_trainable_variables)
    before = values()
    changed: list[str] = []
    try:
        yield
    finally:
        for variable, old, new in zip(variables, before, values(), strict=True):
            if not np.array_equal(old, new):
                variable.assign(old)
                changed.append(variable.path)
    if changed:
        raise UnsupportedModelError(
            f"{type(model).__name__} keeps state between calls (it writes to {changed[0]}), so calls of "
            "different users would meet in it. Pass state in and out as tensors instead"
        )


def _is_of_keras(kind: type, name: str) -> bool:
    owner = next((base for base in kind.__mro__ if name in vars(base)), None)
    return owner is None or owner.__module__.partition(".")[0] == "keras"


def _name(name: str, index: int, count: int) -> str:
    if not _UNNAMED.fullmatch(name):
        return name
    return "input" if count == 1 else f"input_{index}"


def _in_order(model: Any, names: Sequence[str], rows: Any) -> list[Any]:
    """One value for each declared input."""
    if isinstance(rows, Mapping):
        if set(rows) != set(names):
            raise ConversionError(
                f"Expected inputs {', '.join(names)}, got {', '.join(map(str, rows))} - example of "
                f"{type(model).__name__}"
            )
        return [rows[name] for name in names]
    if isinstance(rows, tuple | list) and len(rows) == len(names) and _holds_arrays(rows):
        return list(rows)
    if len(names) == 1:
        return [rows]
    raise ConversionError(
        f"Expected {len(names)} inputs ({', '.join(names)}) as a tuple or a dict, got {_described(rows)} - "
        f"example of {type(model).__name__}"
    )


def _undeclared(model: Any, rows: Any) -> tuple[Layout, list[Any]]:
    """Read the rows of a subclassed model by the parameters of its ``call``."""
    parameters = [
        item
        for item in inspect.signature(model.call).parameters.values()
        if item.name not in ("training", "mask")
        and item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)
    ]
    first = parameters[0].name if parameters else "inputs"
    required = [item.name for item in parameters if item.default is item.empty]
    several = len(required) > 1
    if isinstance(rows, Mapping) and rows:
        names = [str(name) for name in rows]
        values = list(rows.values())
        if names == [f"{first}_{index}" for index in range(len(names))]:
            return _layout(names, lambda given: ((tuple(given),), {})), values
        if names == [first]:
            return _layout(names, lambda given: ((given[0],), {})), values
        if several and set(required) <= set(names) <= {item.name for item in parameters}:
            names = [item.name for item in parameters if item.name in rows]
            ordered = [rows[name] for name in names]
            return (
                _layout(names, lambda given: (tuple(given), {}))
                if names == [item.name for item in parameters[: len(names)]]
                else _layout(names, lambda given: ((), dict(zip(names, given, strict=True))))
            ), ordered
        return _layout(names, lambda given: ((dict(zip(names, given, strict=True)),), {})), values
    if isinstance(rows, tuple | list) and _holds_arrays(rows):
        if several and len(required) <= len(rows) <= len(parameters):
            names = [item.name for item in parameters[: len(rows)]]
            return _layout(names, lambda given: (tuple(given), {})), list(rows)
        names = [f"{first}_{index}" for index in range(len(rows))]
        return _layout(names, lambda given: ((tuple(given),), {})), list(rows)
    if rows is None:
        raise ConversionError(
            f"An example is needed: {type(model).__name__} does not say what its inputs are. Pass one "
            "batch as example=: an array, a tuple of arrays, or a dict of arrays"
        )
    return _layout([first], lambda given: ((given[0],), {})), [rows]


def _layout(
    names: Sequence[str],
    arrange: Callable[[Sequence[Any]], tuple[tuple[Any, ...], dict[str, Any]]],
) -> Layout:
    return Layout(tuple(names), (None,) * len(names), (None,) * len(names), arrange)


def _holds_arrays(rows: Sequence[Any]) -> bool:
    return bool(rows) and all(hasattr(item, "shape") and len(item.shape) for item in rows)


def _float_dtype(model: Any) -> str:
    """What numbers of any width become: a model casts them itself, to the dtype it computes in."""
    return "float64" if getattr(model, "compute_dtype", None) == "float64" else "float32"


def _array(model: Any, name: str, value: Any, dtype: str | None, floats: str) -> NDArray[Any]:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if "bfloat16" in str(value.dtype) else value).numpy()
    try:
        array = np.asarray(value)
    except ValueError as exc:
        raise ConversionError(
            f"Expected an array, got a ragged {type(value).__name__} - input `{name}` of "
            f"{type(model).__name__}. Pad the rows to one length"
        ) from exc
    if dtype == "string" or array.dtype.kind in "OSU":
        if array.dtype.kind not in "OSU" or dtype not in (None, "string"):
            raise ConversionError(
                f"Expected an array of {dtype or 'numbers'}, got {array.dtype} - input `{name}` of "
                f"{type(model).__name__}"
            )
        return array.astype(object)
    if dtype is not None:
        return array.astype(_dtype(dtype), copy=False)
    return array.astype(floats, copy=False) if array.dtype == np.float64 else array


def _dtype(name: str) -> np.dtype[Any]:
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def _tensor(array: NDArray[Any]) -> Any:
    import keras

    if array.dtype.kind == "O":
        if keras.config.backend() != "tensorflow":
            return array
        import tensorflow as tf

        return tf.constant(array)
    # A copy: torch has no read-only tensors, and jax may keep the memory.
    return keras.ops.convert_to_tensor(np.array(array, order="C"))


def _arrays(answer: Any) -> Any:
    """Arrays for tensors; what is no dense tensor stays what it is."""
    import keras

    def array(value: Any) -> Any:
        if not keras.ops.is_tensor(value) or not hasattr(value, "shape"):
            return value
        if not isinstance(value, np.ndarray) and type(value).__name__ in (
            "RaggedTensor",
            "SparseTensor",
            "BCOO",
        ):
            return value
        given = np.asarray(keras.ops.convert_to_numpy(value))
        if given.dtype.kind == "O":
            return np.array(
                [item.decode() if isinstance(item, bytes) else item for item in given.ravel()],
                object,
            ).reshape(given.shape)
        return given

    return keras.tree.map_structure(array, answer)


def _no_gradients() -> AbstractContextManager[Any]:
    import keras

    if keras.config.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    guard: AbstractContextManager[Any] = torch.no_grad()
    return guard


def _described(rows: Any) -> str:
    shape = getattr(rows, "shape", None)
    if shape is not None:
        return f"one array of shape {tuple(shape)}"
    return f"a {type(rows).__name__}"
