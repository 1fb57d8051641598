"""How a TensorFlow function is asked: which of its parameters an array is for, and arrays in and out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.convert.array_rows import Shape, made_up
from infersdk.errors import ConversionError, UnsupportedModelError

__all__ = ["Entry", "Layout", "ask", "entry_of", "layout_of"]


@dataclass(frozen=True, slots=True)
class Entry:
    """The function that answers for a model.

    Parameters
    ----------
    function : callable
    method : str
        What its user calls it.
    declared : tuple of (tuple, dict), optional
        The arguments that it declares: TensorSpecs, in containers; other values are passed as they are.
    parameters : tuple of str
        Names of its positional parameters, as far as they are known.
    """

    function: Callable[..., Any]
    method: str
    declared: tuple[tuple[Any, ...], dict[str, Any]] | None
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How tensors are passed to the function.

    Parameters
    ----------
    names : tuple of str
        Of the inputs, in order.
    declared : tuple of (tuple or None)
        What the function says of their shapes.
    method : str
    call : callable
        ``call(tensors) -> answer``
    """

    names: tuple[str, ...]
    declared: tuple[Shape, ...]
    method: str
    call: Callable[[Sequence[Any]], Any]

    @staticmethod
    def flat(answer: Any) -> list[Any]:
        """The tensors of an answer that is no deeper than one container, dicts by their keys' order."""
        if isinstance(answer, Mapping):
            return list(answer.values())
        if isinstance(answer, tuple | list):
            return list(answer)
        return [answer]


def entry_of(model: Any) -> Entry:
    """Find the function that answers for a function, a module or a SavedModel.

    Raises
    ------
    UnsupportedModelError
        There is none.
    """
    import tensorflow as tf

    if hasattr(model, "structured_input_signature"):
        args, kwargs = model.structured_input_signature
        named = tuple(model.function_type.parameters)
        return Entry(model, "__call__", (tuple(args), dict(kwargs)), named)
    if hasattr(model, "python_function"):
        return _of_function(model, "__call__")
    if callable(model):
        called = model.__call__
        if hasattr(called, "python_function"):
            return _of_function(called, "__call__")
        return Entry(model, "__call__", None, _parameters(called))
    serve = getattr(model, "serve", None)
    if hasattr(serve, "python_function"):
        return _of_function(serve, "serve")
    signatures = getattr(model, "signatures", None) or {}
    name = "serving_default" if "serving_default" in signatures else next(iter(signatures), None)
    if name is None:
        kind = "tf.Module" if isinstance(model, tf.Module) else "SavedModel"
        raise UnsupportedModelError(
            f"Expected a {kind} that can be called or has a serving signature, got a "
            f"{type(model).__name__} with neither. Pass one of its functions itself"
        )
    args, kwargs = signatures[name].structured_input_signature
    return Entry(signatures[name], name, (tuple(args), dict(kwargs)), ())


def layout_of(model: Any, rows: Any) -> tuple[Layout, tuple[NDArray[Any], ...]]:
    """Read rows: an array, a tuple or list of arrays, or a dict of arrays by the inputs' names.

    Parameters
    ----------
    rows : rows or None
        None makes an example up, where the function declares its inputs.

    Returns
    -------
    layout : Layout
    arrays : tuple of numpy.ndarray
        In the order of ``layout.names`` and in the dtypes that the function declares.

    Raises
    ------
    ConversionError
        The rows do not fit the function.
    """
    entry = entry_of(model)
    if entry.declared is not None:
        return _declared(model, entry, rows)
    if rows is None:
        raise ConversionError(
            f"An example is needed: {_named(model)} does not say what its inputs are. Pass one batch as "
            "example=: an array, a tuple of arrays, or a dict of arrays"
        )
    names, values, call = _undeclared(entry, rows)
    floats = _float_dtype(model)
    arrays = []
    for name, value in zip(names, values, strict=True):
        array = _array(model, name, value)
        arrays.append(array.astype(floats) if floats and array.dtype == np.float64 else array)
    return Layout(tuple(names), (None,) * len(names), entry.method, call), tuple(arrays)


def ask(layout: Layout, arrays: Sequence[NDArray[Any]]) -> Any:
    """Answer with arrays, in the containers that the function gives."""
    import tensorflow as tf

    return _arrays(layout.call([tf.constant(array) for array in arrays]))


def _of_function(function: Any, method: str) -> Entry:
    """Read what a ``tf.function`` declares; of a restored one, what its first trace for inference takes."""
    import tensorflow as tf

    parameters = _parameters(function.python_function)
    if getattr(function, "input_signature", None) is not None:
        return Entry(function, method, (tuple(function.input_signature), {}), parameters)
    for concrete in getattr(function, "concrete_functions", ()):
        args, kwargs = concrete.structured_input_signature
        others = [item for item in tf.nest.flatten((args, kwargs)) if not _is_spec(item)]
        if all(item is None or item is False for item in others):
            named = tuple(_parameters(concrete)) or parameters
            return Entry(function, method, (tuple(args), dict(kwargs)), named)
    return Entry(function, method, None, parameters)


def _declared(model: Any, entry: Entry, rows: Any) -> tuple[Layout, tuple[NDArray[Any], ...]]:
    import tensorflow as tf

    structure = entry.declared
    assert structure is not None
    leaves = list(_leaves(structure, ()))
    specs = [(path, leaf) for path, leaf in leaves if _is_spec(leaf)]
    if any(not isinstance(leaf, tf.TensorSpec) for _, leaf in specs):
        raise UnsupportedModelError(f"{_named(model)} takes ragged or sparse tensors")
    if not specs:
        raise UnsupportedModelError(f"{_named(model)} takes no tensors")
    names = [_spec_name(path, spec, entry.parameters) for path, spec in specs]
    if len(set(names)) != len(names):
        names = [f"input_{index}" for index in range(len(names))]
    shapes = [None if spec.shape.rank is None else tuple(spec.shape.as_list()) for _, spec in specs]
    dtypes = [spec.dtype.name for _, spec in specs]
    if rows is None:
        rows = tuple(made_up(dtype, shape) for dtype, shape in zip(dtypes, shapes, strict=True))
    arrays = []
    for name, dtype, value in zip(names, dtypes, _in_order(model, names, rows), strict=True):
        array = _array(model, name, value)
        is_text = array.dtype.kind == "O"
        if is_text != (dtype == "string"):
            raise ConversionError(
                f"Expected {dtype}, got {'text' if is_text else array.dtype} - input `{name}` of "
                f"{_named(model)}"
            )
        arrays.append(
            array if is_text else array.astype(tf.as_dtype(dtype).as_numpy_dtype, copy=False)
        )

    def call(tensors: Sequence[Any]) -> Any:
        given = iter(tensors)
        filled = [next(given) if _is_spec(leaf) else leaf for _, leaf in leaves]
        args, kwargs = tf.nest.pack_sequence_as(structure, filled)
        return entry.function(*args, **kwargs)

    known = tuple(
        shape if shape is not None and len(shape) == array.ndim else None
        for shape, array in zip(shapes, arrays, strict=True)
    )
    return Layout(tuple(names), known, entry.method, call), tuple(arrays)


def _undeclared(
    entry: Entry, rows: Any
) -> tuple[list[str], list[Any], Callable[[Sequence[Any]], Any]]:
    function, parameters = entry.function, entry.parameters
    first = parameters[0] if parameters else "input"
    if isinstance(rows, Mapping) and rows:
        names = [str(name) for name in rows]
        if set(names) <= set(parameters):
            return (
                names,
                list(rows.values()),
                lambda given: function(**dict(zip(names, given, strict=True))),
            )
        if names == [f"{first}_{index}" for index in range(len(names))]:
            return names, list(rows.values()), lambda given: function(*given)
        return (
            names,
            list(rows.values()),
            lambda given: function(dict(zip(names, given, strict=True))),
        )
    if isinstance(rows, tuple | list) and _holds_arrays(rows):
        named = list(parameters[: len(rows)])
        if len(named) < len(rows):
            named = [f"{first}_{index}" for index in range(len(rows))]
        return named, list(rows), lambda given: function(*given)
    return [first], [rows], lambda given: function(given[0])


def _in_order(model: Any, names: Sequence[str], rows: Any) -> list[Any]:
    """One value for each declared input."""
    if isinstance(rows, Mapping):
        if set(rows) != set(names):
            raise ConversionError(
                f"Expected inputs {', '.join(names)}, got {', '.join(map(str, rows))} - example of "
                f"{_named(model)}"
            )
        return [rows[name] for name in names]
    if isinstance(rows, tuple | list) and len(rows) == len(names) and _holds_arrays(rows):
        return list(rows)
    if len(names) == 1:
        return [rows]
    raise ConversionError(
        f"Expected {len(names)} inputs ({', '.join(names)}) as a tuple or a dict, got a "
        f"{type(rows).__name__} - example of {_named(model)}"
    )


def _parameters(function: Any) -> tuple[str, ...]:
    """Names of what can be passed by position."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ()
    return tuple(
        item.name
        for item in found
        if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD) and item.name != "self"
    )


def _leaves(structure: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """What a structure holds, and where, in TensorFlow's own order."""
    if isinstance(structure, Mapping):
        for key in sorted(structure):
            yield from _leaves(structure[key], (*path, key))
    elif isinstance(structure, tuple | list):
        for index, item in enumerate(structure):
            yield from _leaves(item, (*path, index))
    else:
        yield path, structure


def _spec_name(path: tuple[Any, ...], spec: Any, parameters: Sequence[str]) -> str:
    """What the user calls an input: the key of a dict or keyword, else the parameter, else the spec's name."""
    is_keyword, place = path[0] == 1, path[1:]
    if is_keyword or len(place) > 1:
        return str(place[-1])
    if place[0] < len(parameters):
        return parameters[place[0]]
    return str(spec.name) if spec.name else f"input_{place[0]}"


def _is_spec(item: Any) -> bool:
    import tensorflow as tf

    return isinstance(item, tf.TypeSpec)


def _float_dtype(model: Any) -> str | None:
    """What float64 arrays become, numpy's default: the one dtype of the model's variables, where it has one."""
    dtypes = {
        variable.dtype.name
        for variable in getattr(model, "variables", None) or ()
        if variable.dtype.is_floating
    }
    return dtypes.pop() if len(dtypes) == 1 else None


def _array(model: Any, name: str, value: Any) -> NDArray[Any]:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError as exc:
        raise ConversionError(
            f"Expected an array, got a ragged {type(value).__name__} - input `{name}` of "
            f"{_named(model)}. Pad the rows to one length"
        ) from exc
    return array.astype(object) if array.dtype.kind in "SU" else array


def _arrays(answer: Any) -> Any:
    """Arrays for tensors; what is no dense tensor stays what it is."""
    import tensorflow as tf

    if isinstance(answer, Mapping):
        return {key: _arrays(item) for key, item in answer.items()}
    if isinstance(answer, tuple | list):
        return (tuple if isinstance(answer, tuple) else list)(_arrays(item) for item in answer)
    if not isinstance(answer, tf.Tensor | tf.Variable):
        return answer
    given = np.asarray(answer.numpy())
    if given.dtype.kind not in "OS":
        return given
    text = [item.decode() if isinstance(item, bytes) else item for item in given.ravel().tolist()]
    return np.array(text, dtype=object).reshape(given.shape)


def _holds_arrays(rows: Sequence[Any]) -> bool:
    return bool(rows) and all(hasattr(item, "shape") and len(item.shape) for item in rows)


def _named(model: Any) -> str:
    name = getattr(model, "__name__", None) or type(model).__name__
    return str(name)
