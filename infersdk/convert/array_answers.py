"""The form of a model's answer: which arrays it holds, in what container, and of which dtypes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from infersdk.errors import UnsupportedModelError

__all__ = ["Answer", "dtype_name", "in_kind", "is_array", "loose", "take_apart"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The arrays of an answer (or what stands for them while a model is traced), and what held them."""

    form: Literal["array", "tuple", "list", "dict"]
    arrays: tuple[Any, ...]
    keys: tuple[str, ...] | None = None

    def names(self, taken: Sequence[str]) -> tuple[str, ...]:
        """Name the graph's outputs: ``output``, ``output_0``.. or the keys; never an input's name."""
        if self.keys is not None:
            wanted: Sequence[str] = self.keys
        elif self.form == "array":
            wanted = ("output",)
        else:
            wanted = tuple(f"output_{index}" for index in range(len(self.arrays)))
        names: list[str] = []
        for name in wanted:
            while name in taken or name in names:
                name += "_out"
            names.append(name)
        return tuple(names)

    def holding(self, arrays: Sequence[Any]) -> Any:
        """Return other arrays in a container as this answer's."""
        if self.form == "array":
            return arrays[0]
        if self.keys is not None:
            return dict(zip(self.keys, arrays, strict=True))
        return tuple(arrays) if self.form == "tuple" else list(arrays)


def is_array(value: Any) -> bool:
    """Whether this is an array of numpy."""
    return isinstance(value, np.ndarray | np.generic)


def take_apart(answer: Any, is_array: Callable[[Any], bool] = is_array) -> Answer:
    """Split an answer into its arrays.

    Parameters
    ----------
    is_array : callable
        What counts as one; numpy's by default.

    Raises
    ------
    UnsupportedModelError
        It is nested, empty, or holds something else than arrays.
    """
    if is_array(answer):
        return Answer("array", (answer,))
    keys: tuple[str, ...] | None = None
    form: Literal["tuple", "list", "dict"]
    if isinstance(answer, Mapping):
        form, keys, values = "dict", tuple(answer), tuple(answer.values())
        if not all(isinstance(key, str) for key in keys):
            raise UnsupportedModelError(
                f"Expected the model to answer with a dict of str keys, got {list(keys)!r}"
            )
    elif isinstance(answer, tuple | list):
        form, values = ("list" if isinstance(answer, list) else "tuple"), tuple(answer)
    else:
        raise UnsupportedModelError(
            f"Expected the model to answer with dense tensors, got a {type(answer).__name__}"
        )
    if not values:
        raise UnsupportedModelError(
            f"Expected the model to answer with tensors, got an empty {form}"
        )
    for place, value in zip(keys or range(len(values)), values, strict=True):
        if not is_array(value):
            raise UnsupportedModelError(
                f"Expected every element of the model's {form} to be a dense tensor, got a "
                f"{type(value).__name__} at [{place!r}]. Give the tensors flat, in one tuple or dict"
            )
    return Answer(form, values, keys)


def loose(answer: Any) -> Answer:
    """Return every array of an answer, however nested, as one tuple."""
    return Answer("tuple", tuple(_leaves(answer)))


def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return the name that a TensorSpec has for a dtype.

    Raises
    ------
    UnsupportedModelError
        ONNX Runtime has no such tensors.
    """
    if dtype.kind in "OSU":
        return "string"
    if dtype.kind == "c":
        raise UnsupportedModelError(
            f"Expected tensors of real numbers or booleans, got {dtype.name}"
        )
    return dtype.name


def in_kind(rows: Any, answer: Any) -> Any:
    """Torch tensors for torch tensors; other answers stay arrays."""
    if isinstance(rows, Mapping):
        values = list(rows.values())
    else:
        values = list(rows) if isinstance(rows, tuple | list) else [rows]
    if not any(hasattr(value, "detach") for value in values):
        return answer
    import torch

    def tensor(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: tensor(item) for key, item in value.items()}
        if isinstance(value, tuple | list):
            return type(value)(tensor(item) for item in value)
        is_number = isinstance(value, np.ndarray) and value.dtype.kind in "biufc"
        return torch.from_numpy(value) if is_number else value

    return tensor(answer)


def _leaves(answer: Any) -> Iterator[NDArray[Any]]:
    if isinstance(answer, Mapping):
        answer = tuple(answer.values())
    if isinstance(answer, tuple | list):
        for item in answer:
            yield from _leaves(item)
    elif is_array(answer):
        yield np.asarray(answer)
