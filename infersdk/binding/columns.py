"""Columns of numpy arrays and pandas DataFrames, brought to the few dtypes the compiled binder takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.binding.foreign import is_ml_dtype

__all__ = ["Columns", "plain_series", "plain_values", "unmasked"]

INT64_MAX = np.iinfo(np.int64).max


class Columns:
    """Rows by their columns: what a DataFrame is, without pandas.

    Parameters
    ----------
    arrays : Mapping of str to numpy.ndarray
        The column of each field, all of one shape (n_rows,).
    """

    __slots__ = ("arrays", "n_rows")

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.arrays = arrays
        self.n_rows = len(next(iter(arrays.values()), ()))

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.n_rows, len(self.arrays)


def plain_values(values: NDArray[Any]) -> NDArray[Any] | None:
    """Return an array as float32, float64, int64, bool or object, native and aligned, losing nothing.

    Strides are kept where the dtype is; None where no field takes the dtype (complex, dates, bytes).
    """
    dtype = values.dtype
    target: Any = None
    if dtype.kind == "f":
        target = {2: np.float32, 4: np.float32, 8: np.float64}.get(dtype.itemsize, object)
    elif dtype.kind == "i":
        target = np.int64
    elif dtype.kind == "u":
        wide = dtype.itemsize == 8 and values.size and values.max() > INT64_MAX
        target = object if wide else np.int64
    elif dtype.kind in "bO":
        target = dtype
    elif dtype.kind in "UT":
        target = object
    elif is_ml_dtype(dtype):
        target = np.float32
    if target is None:
        return None
    if dtype == target and dtype.isnative and values.flags.aligned:
        return values
    return values.astype(target)


def plain_series(series: Any) -> NDArray[Any] | None:
    """Return a pandas Series' values as :func:`plain_values` does, missing ones as NaN or None.

    Only whole-column operations of pandas are used, whatever the extension type.
    """
    dtype = series.dtype
    if isinstance(dtype, np.dtype):
        return plain_values(series.to_numpy())
    kind = type(dtype).__name__
    if kind == "CategoricalDtype":
        # Missing values have the code -1, which takes the None at the end.
        categories = dtype.categories.to_numpy(dtype=object)
        values: NDArray[Any] = np.concatenate([categories, np.array([None])])
        return values.take(series.cat.codes.to_numpy())
    if kind == "SparseDtype":
        return plain_values(np.asarray(series))
    if dtype.kind in "biuf" and hasattr(dtype, "numpy_dtype"):
        if not series.hasnans:
            return plain_values(series.to_numpy(dtype=dtype.numpy_dtype))
        if dtype.kind == "f":
            return plain_values(series.to_numpy(dtype=dtype.numpy_dtype, na_value=np.nan))
    if dtype.kind in "mMc":
        return None
    objects: NDArray[Any] = series.to_numpy(dtype=object, na_value=None)
    return objects


def unmasked(values: NDArray[Any]) -> NDArray[Any]:
    """Return a plain ndarray; the masked values of a masked array become None."""
    if isinstance(values, np.ma.MaskedArray):
        if np.ma.is_masked(values):
            objects = values.data.astype(object)
            objects[np.ma.getmaskarray(values)] = None
            return objects
        values = values.data
    return np.asarray(values)
