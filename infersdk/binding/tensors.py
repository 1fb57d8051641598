"""Tensors, sequences, maps and optionals: values bound to a graph's inputs as they are.

A value already of the input's dtype, rank and layout is passed on without a copy. Else it is cast where
that keeps its meaning: to a wider or equal kind (bool to int to float), to fewer bits of the same kind
as long as every number stays in range (floats are rounded). A float is never cut to an integer, a
number never read as a bool, text never as a number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from infersdk._native import Bound, RowBinder, TensorBinder, narrowed
from infersdk.binding.foreign import (
    array_of,
    dtype_named,
    is_frame,
    is_ml_dtype,
    is_series,
    is_tensor,
)
from infersdk.binding.refusals import MAX_NAMES, Refusals, describe, name_list
from infersdk.errors import InputError
from infersdk.types import Field, MapSpec, OptionalSpec, SequenceSpec, TensorSpec, ValueSpec

__all__ = ["TensorsBinder", "coerce"]


def coerce(spec: ValueSpec, value: Any, *, model: str) -> Any:
    """Convert a value to exactly what a graph's input takes, or refuse it.

    Parameters
    ----------
    spec : ValueSpec
    value : object
        A tensor of any library, a number, nested lists; a list for a sequence, a mapping for a map,
        None for an absent optional.
    model : str
        Name in messages.

    Returns
    -------
    numpy.ndarray, list, dict or None
        Tensors have the spec's dtype, are C-contiguous, aligned and native, and share memory with
        ``value`` where it was so already; strings are an object array of str.

    Raises
    ------
    InputError
        The value's dtype, rank or a fixed size does not fit, or a number is out of range.
    """
    return _coerce(spec, value, spec.name, model)


def _coerce(spec: ValueSpec, value: Any, name: str, model: str) -> Any:
    if isinstance(spec, TensorSpec):
        return _tensor(spec, value, name, model)
    if isinstance(spec, OptionalSpec):
        return None if value is None else _coerce(spec.element, value, name, model)
    if isinstance(spec, SequenceSpec):
        if not isinstance(value, (list, tuple)):
            _refuse(spec, describe(value), name, model, "Pass a list")
        return [_coerce(spec.element, item, name, model) for item in value]
    return _map(spec, value, name, model)


def _map(spec: MapSpec, value: Any, name: str, model: str) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        _refuse(spec, describe(value), name, model, "Pass a dict")
    result = {}
    for key, item in value.items():
        if spec.key == "string":
            if not isinstance(key, str):
                _refuse(spec, f"the key {describe(key)}", name, model)
        elif isinstance(key, bool) or not isinstance(key, (int, np.integer)):
            _refuse(spec, f"the key {describe(key)}", name, model)
        element = _coerce(spec.value, item, name, model)
        # A map's values are scalars in every graph that ONNX Runtime loads.
        result[key] = element.item() if isinstance(element, np.ndarray) else element
    return result


def _refuse(
    spec: ValueSpec | str, given: str, name: str, model: str, hint: str | None = None
) -> NoReturn:
    raise InputError.mismatch(
        expected=str(spec), given=given, field=name or None, model=model, hint=hint
    )


def _tensor(spec: TensorSpec, value: Any, name: str, model: str) -> NDArray[Any]:
    dtype = dtype_named(spec.dtype)
    array = _to_array(spec, value, name, model)
    # An empty list has no dtype of its own; an empty array does.
    untyped = array.size == 0 and isinstance(value, (list, tuple))
    _check_shape(spec, array, name, model)
    if spec.dtype == "string":
        return _text(spec, array, name, model)
    if array.dtype.kind == "O":
        array = _from_objects(spec, array, name, model)
    if array.dtype != dtype:
        array = array.astype(dtype) if untyped else _cast(spec, array, dtype, name, model)
    if not (array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative):
        # Not ascontiguousarray, which turns 0-d into 1-d.
        array = array.astype(dtype.newbyteorder("="), order="C", copy=True)
    return array


def _to_array(spec: TensorSpec, value: Any, name: str, model: str) -> NDArray[Any]:
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        _refuse(
            spec, "a masked array", name, model, "A tensor cannot hold missing values; fill them"
        )
    if value is None or isinstance(value, (set, frozenset, Mapping)) or hasattr(value, "__next__"):
        hint = "Pass list(value)" if hasattr(value, "__next__") else None
        _refuse(spec, describe(value), name, model, hint)
    if is_frame(value) or is_series(value):
        return np.asarray(value.to_numpy())
    if isinstance(value, (list, tuple)):
        return _from_nested(spec, value, name, model)
    if isinstance(value, (str, bytes)):
        if spec.dtype != "string" or isinstance(value, bytes):
            hint = "Decode it first: value.decode()" if spec.dtype == "string" else None
            _refuse(spec, describe(value), name, model, hint)
        return np.array(value, dtype=object)
    array = array_of(value)
    return np.asarray(value if array is None else array)


def _from_nested(spec: TensorSpec, value: Sequence[Any], name: str, model: str) -> NDArray[Any]:
    """Make an array of nested lists; of tensors too, which are stacked."""
    items: Sequence[Any] = value
    if value and is_tensor(value[0]):
        items = [array_of(item) if is_tensor(item) else item for item in value]
    try:
        # As objects, text keeps trailing NULs and is not mixed up with numbers.
        array = np.asarray(items, dtype=object if spec.dtype == "string" else None)
    except (ValueError, OverflowError):
        array = np.empty((), dtype=object)
        ragged = True
    else:
        ragged = array.dtype.kind == "O" and any(
            isinstance(item, (list, tuple)) for item in array.flat
        )
    if ragged:
        _refuse(spec, f"a ragged {type(value).__name__}", name, model, "Pad the rows to one length")
    return array


def _check_shape(spec: TensorSpec, array: NDArray[Any], name: str, model: str) -> None:
    shape = spec.shape
    if shape is None:
        return
    if array.ndim != len(shape):
        hint = None
        if array.ndim == len(shape) - 1 and not isinstance(shape[0], int):
            hint = "Add the batch axis: value[None]"
        _refuse(spec, describe_array(array), name, model, hint)
    for size, wanted in zip(array.shape, shape, strict=True):
        if isinstance(wanted, int) and size != wanted:
            _refuse(spec, describe_array(array), name, model)


def describe_array(array: NDArray[Any]) -> str:
    """Return dtype and shape; a 0-d array is described by its value."""
    if array.ndim == 0:
        return describe(array.item()) if array.dtype.kind != "V" else f"{array.dtype} ()"
    return f"{array.dtype} {array.shape}"


def _text(spec: TensorSpec, array: NDArray[Any], name: str, model: str) -> NDArray[Any]:
    if array.dtype.kind in "UT":
        array = array.astype(object)
    elif array.dtype.kind != "O":
        hint = "Decode it first: np.char.decode(value)" if array.dtype.kind == "S" else None
        _refuse(spec, describe_array(array), name, model, hint)
    # The compiled binder checks each str, and puts subclasses into their plain form.
    flat = TensorSpec(name or "value", "string", ("N",))
    fields = [Field(flat.name, "string", flat.name)]
    binder = RowBinder(fields, [flat], Refusals(fields, [flat], model))
    return binder.bind_values(array.ravel().tolist()).arrays[0].reshape(array.shape)


def _from_objects(spec: TensorSpec, array: NDArray[Any], name: str, model: str) -> NDArray[Any]:
    """Give an object array of numbers (from a DataFrame, say) the dtype that they have in common."""
    for item in array.flat:
        if not isinstance(item, (bool, int, float, np.number, np.bool_)):
            _refuse(spec, f"an array with {describe(item)} in it", name, model)
    typed: NDArray[Any] = np.asarray(array.tolist()).reshape(array.shape)
    if typed.dtype.kind == "O":
        _refuse(spec, "an array with an integer past 64 bits in it", name, model)
    return typed


def _kind(dtype: np.dtype[Any]) -> str:
    """Return the dtype's kind: b, i, u, f or c; "?" for what is no number."""
    if is_ml_dtype(dtype):
        if dtype.name.startswith(("int", "uint")):
            return "i"
        return "f"
    return dtype.kind if dtype.kind in "biufc" else "?"


ALLOWED = {"b": "b", "i": "biu", "u": "biu", "f": "biuf", "c": "biufc"}
"""The kinds from which a value may be cast, by the kind to which."""


def _cast(
    spec: TensorSpec, array: NDArray[Any], dtype: np.dtype[Any], name: str, model: str
) -> NDArray[Any]:
    given, wanted = _kind(array.dtype), _kind(dtype)
    if given not in ALLOWED[wanted]:
        hint = None
        if given == "f" and wanted in "iu":
            hint = (
                "Round it yourself, so that nothing is cut off unseen: np.rint(value).astype(...)"
            )
        _refuse(spec, describe_array(array), name, model, hint)
    if dtype == np.float32:
        quick = narrowed(array)
        if quick is not None:
            return quick
    with np.errstate(over="ignore", invalid="ignore"):
        cast: NDArray[Any] = array.astype(dtype)
    if wanted in "iu":
        fits = _in_range(array, dtype)
    else:
        fits = bool(np.array_equal(np.isfinite(array), np.isfinite(cast)))
    if not fits:
        _refuse(
            spec,
            f"{describe_array(array)} with a number out of {dtype.name}'s range",
            name,
            model,
        )
    return cast


def _in_range(array: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    if array.size == 0 or array.dtype.kind == "b":
        return True
    if is_ml_dtype(dtype):
        import ml_dtypes

        limits: Any = ml_dtypes.iinfo(dtype)
    else:
        limits = np.iinfo(dtype)
    # Python integers compare exactly across signed and unsigned.
    return int(array.min()) >= int(limits.min) and int(array.max()) <= int(limits.max)


class TensorsBinder:
    """Binds a tensor, a tuple of tensors or a dict of tensors to a graph's inputs.

    Parameters
    ----------
    inputs : sequence of ValueSpec
    model : str
        Name in messages.
    """

    def __init__(self, inputs: Sequence[ValueSpec], *, model: str) -> None:
        self._inputs = tuple(inputs)
        self._names = [spec.name for spec in inputs]
        self._model = model
        tensors = [spec for spec in inputs if isinstance(spec, TensorSpec)]
        self._native: TensorBinder | None = None
        if len(tensors) == len(self._inputs):
            self._native = TensorBinder(
                self._names,
                [dtype_named(spec.dtype) for spec in tensors],
                [spec.shape for spec in tensors],
            )
        self.fast: Callable[[Any], Bound | None] = (
            self._native.bind if self._native is not None else lambda values: None
        )
        """The compiled path: a Bound, or None for anything but arrays that are right already."""

    def bind(self, values: Any) -> Bound:
        """Bind values of any form.

        Raises
        ------
        InputError
            A value does not fit its input, an input is missing or unknown, or two inputs disagree on
            a size that they share.
        """
        given = self._arrange(values)
        torch = any(is_tensor(value) for value in given)
        if torch and self._native is not None:
            given = [array_of(value) if is_tensor(value) else value for value in given]
            bound = self._native.accept(given)
            if bound is not None:
                return Bound(bound.arrays, bound.n_rows, torch=True)
        arrays = [
            _coerce(spec, value, spec.name, self._model)
            for spec, value in zip(self._inputs, given, strict=True)
        ]
        self._check_axes(arrays)
        n_rows = self._native.count_rows(arrays) if self._native is not None else 1
        return Bound(arrays, n_rows, torch=torch)

    def _arrange(self, values: Any) -> list[Any]:
        """Return one value per input, in the graph's order."""
        n = len(self._inputs)
        if isinstance(values, Mapping) and not (
            n == 1 and isinstance(self._inputs[0], MapSpec) and self._names[0] not in values
        ):
            return self._by_name(values)
        if n == 1:
            return [self._unwrap(values)]
        if isinstance(values, (tuple, list)) and len(values) == n:
            return list(values)
        given = describe(values)
        raise InputError.mismatch(
            expected=f"{n} inputs ({name_list(self._names)}) as a tuple or a dict",
            given=given,
            model=self._model,
        )

    def _unwrap(self, value: Any) -> Any:
        """Take the only tensor out of a tuple of one, as a model called with its arguments has it."""
        spec = self._inputs[0]
        if isinstance(value, (tuple, list)) and len(value) == 1 and isinstance(spec, TensorSpec):
            ndim = getattr(value[0], "ndim", None)
            if isinstance(ndim, int) and (spec.shape is None or ndim == len(spec.shape)):
                return value[0]
        return value

    def _by_name(self, values: Mapping[Any, Any]) -> list[Any]:
        import difflib

        missing = [
            spec.name
            for spec in self._inputs
            if spec.name not in values and not isinstance(spec, OptionalSpec)
        ]
        extra = [name for name in values if name not in self._names]
        if missing or extra:
            free = [name for name in self._names if name not in values]
            hints = [
                f"Did you mean `{close[0]}` by `{name}`?"
                for name in extra[:3]
                if isinstance(name, str)
                and len(name) <= 60
                and (close := difflib.get_close_matches(name, free, n=1))
            ]
            raise InputError.mismatch(
                expected=f"inputs {name_list(self._names)}",
                given=name_list(values, MAX_NAMES) if values else "an empty dict",
                field=(missing or [str(extra[0])[:60]])[0],
                model=self._model,
                hint=" ".join(hints) or None,
            )
        return [values.get(name) for name in self._names]

    def _check_axes(self, arrays: Sequence[Any]) -> None:
        """Check that inputs which name an axis alike have it of one size."""
        sizes: dict[str, tuple[int, str]] = {}
        for spec, array in zip(self._inputs, arrays, strict=True):
            if not isinstance(spec, TensorSpec) or spec.shape is None:
                continue
            for axis, size in zip(spec.shape, array.shape, strict=True):
                if not isinstance(axis, str):
                    continue
                known, owner = sizes.setdefault(axis, (size, spec.name))
                if known != size:
                    raise InputError.mismatch(
                        expected=f"{spec} with {axis} = {known}, as in `{owner}`",
                        given=describe_array(array),
                        field=spec.name,
                        model=self._model,
                    )
