"""Containers of other libraries, met only when the app brings them: nothing is imported here.

An object can be a DataFrame or a torch tensor only if its library is already imported, so
``sys.modules`` answers the question at no cost.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.errors import InputError, MissingDependencyError

__all__ = [
    "array_of",
    "array_to_tensor",
    "dtype_named",
    "is_frame",
    "is_ml_dtype",
    "is_series",
    "is_tensor",
    "tensor_to_array",
]


def _is_instance(value: object, library: str, name: str) -> bool:
    kind = getattr(sys.modules.get(library), name, None)
    return kind is not None and isinstance(value, kind)


def is_frame(value: object) -> bool:
    """Whether the value is a pandas DataFrame."""
    return _is_instance(value, "pandas", "DataFrame")


def is_series(value: object) -> bool:
    """Whether the value is a pandas Series."""
    return _is_instance(value, "pandas", "Series")


def is_tensor(value: object) -> bool:
    """Whether the value is a torch tensor."""
    return _is_instance(value, "torch", "Tensor")


def is_ml_dtype(dtype: np.dtype[Any]) -> bool:
    """Whether the dtype is one of ml_dtypes: bfloat16, the 8-bit floats, 4-bit integers."""
    return dtype.type.__module__.startswith("ml_dtypes")


def dtype_named(name: str) -> np.dtype[Any]:
    """Return the dtype of a TensorSpec; strings are kept as objects.

    Raises
    ------
    MissingDependencyError
        The dtype is one of ml_dtypes, which is not installed.
    ValueError
        There is no such dtype.
    """
    if name == "string":
        return np.dtype(object)
    try:
        return np.dtype(name)
    except TypeError:
        pass
    try:
        import ml_dtypes
    except ImportError as error:
        raise MissingDependencyError(
            f"A tensor of {name} needs the package `ml_dtypes`, which is not installed. "
            "Install it with: pip install ml_dtypes"
        ) from error
    kind = getattr(ml_dtypes, name, None)
    if kind is None:
        raise ValueError(f"Expected the name of a numpy or ml_dtypes dtype, got {name!r}")
    return np.dtype(kind)


def tensor_to_array(tensor: Any) -> NDArray[Any]:
    """Return a torch tensor's values as an array; without a copy for a dense tensor in host memory.

    bfloat16, which numpy lacks, becomes ml_dtypes.bfloat16.

    Raises
    ------
    InputError
        The tensor has no values (it is on the meta device) or is quantized.
    """
    torch = sys.modules["torch"]
    if tensor.dtype != torch.bfloat16:
        try:
            direct: NDArray[Any] = tensor.numpy()
        except (RuntimeError, TypeError):
            # It asks for a gradient, lies on another device, is sparse or lazily conjugated.
            pass
        else:
            return direct
    tensor = tensor.detach()
    if tensor.is_meta or tensor.is_quantized:
        kind = "quantized" if tensor.is_quantized else "meta"
        raise InputError.mismatch(
            expected="a tensor of plain numbers",
            given=f"a {kind} tensor",
            hint="Call dequantize() on it first" if tensor.is_quantized else "It has no values",
        )
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    tensor = tensor.cpu().resolve_conj().resolve_neg()
    if tensor.dtype == torch.bfloat16:
        words: NDArray[Any] = tensor.contiguous().view(torch.int16).numpy()
        return words.view(dtype_named("bfloat16"))
    array: NDArray[Any] = tensor.numpy()
    return array


def array_to_tensor(value: Any) -> Any:
    """Return an array of numbers as a torch tensor over the same memory; anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    torch = sys.modules["torch"]
    # torch has no read-only tensors, and warns of writes that would go through.
    array = value if value.flags.writeable else value.copy()
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    if array.dtype.kind not in "biufc":
        return value
    return torch.from_numpy(array)


def array_of(value: Any) -> NDArray[Any] | None:
    """Return the array behind an object that offers one (a tensor of any library, a sparse matrix).

    None where the object is not array-like.
    """
    if isinstance(value, np.ndarray):
        return value
    if is_tensor(value):
        return tensor_to_array(value)
    kind = type(value)
    if kind.__module__.startswith("scipy.sparse") and hasattr(value, "toarray"):
        dense: NDArray[Any] = value.toarray()
        return dense
    if hasattr(kind, "__array__"):
        return np.asarray(value)
    if hasattr(kind, "__dlpack__"):
        return np.from_dlpack(value)
    return None
