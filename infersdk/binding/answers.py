"""Answers: what the source model's method would return, made of a graph's outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from infersdk._native import take_labels, widen
from infersdk.binding.foreign import array_to_tensor, dtype_named
from infersdk.errors import SessionError
from infersdk.types import Method

__all__ = ["Answerer", "answer", "make_answerer"]

Answerer = Callable[[Sequence[Any], int], Any]
"""``answerer(outputs, n_rows)``: the outputs of ``method.outputs`` in that order to the answer."""


def make_answerer(method: Method, *, torch: bool = False) -> Answerer:
    """Prepare what turns outputs into a method's answer.

    Parameters
    ----------
    method : Method
    torch : bool
        Whether numbers are given as torch tensors, as they came. Text has no tensor and stays an array.

    Returns
    -------
    Answerer
        Raises SessionError where the graph's outputs are not what the method says.

    Raises
    ------
    ValueError
        The method lacks what its form needs.
    """
    make = _MAKERS.get(method.form)
    if make is None:
        raise ValueError(f"Method `{method.name}` has the unknown form {method.form!r}")
    answerer = make(method)
    if not torch:
        return answerer
    return lambda outputs, n_rows: _as_tensors(answerer(outputs, n_rows))


def answer(method: Method, outputs: Sequence[Any], n_rows: int, *, torch: bool = False) -> Any:
    """Return what the source model's method would have returned.

    Parameters
    ----------
    method : Method
    outputs : sequence of numpy.ndarray
        Of ``method.outputs``, in that order.
    n_rows : int
        Rows that were bound.
    torch : bool
        Whether to give torch tensors.

    Returns
    -------
    object
        Always with a batch axis. Arrays may share memory with ``outputs``.

    Raises
    ------
    SessionError
        The graph's outputs are not what the method says.
    """
    return make_answerer(method, torch=torch)(outputs, n_rows)


def _as_tensors(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(array_to_tensor(item) for item in value)
    if isinstance(value, dict):
        return {key: array_to_tensor(item) for key, item in value.items()}
    return array_to_tensor(value)


def _misfit(method: Method, error: Exception) -> SessionError:
    return SessionError(f"The graph's answer for `{method.name}` is not what it promises: {error}")


def _array(method: Method) -> Answerer:
    tail = method.shape
    dtype = None if method.dtype is None else dtype_named(method.dtype)
    if dtype is None and tail is None:
        return lambda outputs, n_rows: outputs[0]
    widens = dtype == np.float64

    def answer_array(outputs: Sequence[Any], n_rows: int) -> Any:
        output = outputs[0]
        try:
            shape = output.shape if tail is None else (n_rows, *tail)
            if widens:
                wide = widen(output, shape)
                if wide is not None:
                    return wide
            if dtype is not None:
                output = output.astype(dtype, copy=False)
            return output.reshape(shape)
        except ValueError as error:
            raise _misfit(method, error) from error

    return answer_array


def _labels(method: Method) -> Answerer:
    if method.labels is None:
        raise ValueError(f"Method `{method.name}` gives labels, but has none")
    dtype = np.dtype(method.labels.dtype)
    classes = np.empty(len(method.labels.values), dtype=dtype)
    classes[:] = method.labels.values
    tail = method.shape or None

    def answer_labels(outputs: Sequence[Any], n_rows: int) -> Any:
        try:
            labels = take_labels(outputs[0], classes, n_rows)
            return labels if tail is None else labels.reshape(n_rows, *tail)
        except (IndexError, ValueError) as error:
            raise _misfit(method, error) from error

    return answer_labels


def _sparse(method: Method) -> Answerer:
    dense = _array(method)

    def answer_sparse(outputs: Sequence[Any], n_rows: int) -> Any:
        from scipy.sparse import csr_matrix

        return csr_matrix(dense(outputs, n_rows))

    return answer_sparse


def _dict(method: Method) -> Answerer:
    keys = method.outputs if method.keys is None else method.keys
    if len(keys) != len(method.outputs):
        raise ValueError(
            f"Method `{method.name}` has {len(method.outputs)} outputs, but keys {keys}"
        )
    return lambda outputs, n_rows: dict(zip(keys, outputs, strict=True))


_MAKERS: dict[str, Callable[[Method], Answerer]] = {
    "array": _array,
    "labels": _labels,
    "sparse": _sparse,
    "tuple": lambda method: lambda outputs, n_rows: tuple(outputs),
    "list": lambda method: lambda outputs, n_rows: list(outputs),
    "dict": _dict,
}
