"""Texts: a str or many of them, for models whose rows are a single text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from infersdk._native import Bound, RowBinder
from infersdk.binding.columns import plain_values, unmasked
from infersdk.binding.foreign import is_series
from infersdk.binding.refusals import Refusals, describe
from infersdk.errors import InputError
from infersdk.types import Field, TensorSpec, ValueSpec

__all__ = ["TextBinder"]


class TextBinder:
    """Binds texts to the one string input of a graph.

    Parameters
    ----------
    inputs : sequence of ValueSpec
        A single string tensor of shape (N,) or (N, 1).
    model : str
        Name in messages.

    Raises
    ------
    ValueError
        The graph takes something else.
    """

    def __init__(self, inputs: Sequence[ValueSpec], *, model: str) -> None:
        if len(inputs) != 1 or not isinstance(inputs[0], TensorSpec) or inputs[0].dtype != "string":
            raise ValueError(f"A text model takes one string input, but `{model}` takes {inputs}")
        spec = inputs[0]
        fields = [Field(spec.name, "string", spec.name)]
        self._native = RowBinder(fields, [spec], Refusals(fields, [spec], model))
        self._name = spec.name
        self._model = model

    def fast(self, rows: Any) -> Bound | None:
        """Bind a str or a list; None for anything else."""
        kind = type(rows)
        if kind is str:
            return self._native.bind_row((rows,))
        if kind is list:
            return self._native.bind_values(rows)
        return None

    def bind(self, rows: Any) -> Bound:
        """Bind a str, or a list, tuple, array or Series of str.

        Raises
        ------
        InputError
            Something is not a str, or holds a lone surrogate.
        """
        if isinstance(rows, str):
            return self._native.bind_row((rows,))
        if is_series(rows):
            return self._native.bind_values(rows.to_numpy(dtype=object, na_value=None).tolist())
        if isinstance(rows, (list, tuple)):
            return self._native.bind_values(tuple(rows))
        if isinstance(rows, np.ndarray) and (
            rows.ndim == 1 or (rows.ndim == 2 and rows.shape[1] == 1)
        ):
            values = plain_values(unmasked(rows))
            if values is not None:
                return self._native.bind_values(values.ravel().tolist())
        hint = None
        if hasattr(rows, "__next__") or isinstance(rows, (set, frozenset)):
            hint = "Pass list(rows)"
        elif isinstance(rows, (bytes, bytearray)):
            hint = "Decode it first: rows.decode()"
        raise InputError.mismatch(
            expected="a str or a list of str",
            given=describe(rows),
            field=self._name,
            model=self._model,
            hint=hint,
        )
