"""Binder: rows of any usual form to a graph's input arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from infersdk._native import Bound
from infersdk.binding.refusals import first_refusal
from infersdk.binding.table import TableBinder
from infersdk.binding.tensors import TensorsBinder
from infersdk.binding.text import TextBinder
from infersdk.errors import InputError
from infersdk.types import Signature

__all__ = ["Binder"]


class Binder:
    """Turns rows into the input arrays of a model's graph.

    Safe to use from any number of threads.

    Parameters
    ----------
    signature : Signature
        With the graph's inputs; models without a graph have a SourceBinder.
    model : str
        The model's name in messages.

    Raises
    ------
    ValueError
        The signature contradicts itself: its fields do not fill its inputs exactly.
    """

    __slots__ = ("_table", "fast", "general", "signature")

    fast: Callable[[Any], Bound | None]
    """The compiled way alone: None for rows that only the general way takes or can refuse."""

    general: Callable[[Any], Bound]
    """The general way alone, for any rows."""

    def __init__(self, signature: Signature, *, model: str) -> None:
        self.signature = signature
        binder: TableBinder | TextBinder | TensorsBinder
        if signature.container == "text":
            binder = TextBinder(signature.inputs, model=model)
        elif signature.container == "tensors":
            binder = TensorsBinder(signature.inputs, model=model)
        else:
            binder = TableBinder(signature.fields, signature.inputs, model=model)
        self._table = binder if isinstance(binder, TableBinder) else None
        self.fast = binder.fast
        self.general = binder.bind

    def bind(self, rows: Any) -> Bound:
        """Bind rows.

        Parameters
        ----------
        rows : object
            For tables: a dict (one row), a list of dicts or of lists, a flat list (one row), an
            array of shape (n_rows, n_fields) or (n_fields,), a DataFrame or Series, a torch tensor.
            For texts: a str or a list of str. For tensors: the only tensor, a tuple of tensors, or a
            dict by input name.

        Returns
        -------
        Bound
            The arrays in order of ``signature.inputs``. An array that is already what the graph takes
            is passed on, not copied.

        Raises
        ------
        InputError
            A row does not fit the signature.
        """
        bound = self.fast(rows)
        return self.general(rows) if bound is None else bound

    def refusals(self, rows: Any, limit: int) -> list[InputError]:
        """Find every reason why rows do not fit; :meth:`bind` stops at the first.

        Parameters
        ----------
        rows : object
            As for :meth:`bind`.
        limit : int
            The most that are looked for. Only rows of named fields may have more than one.
        """
        if self._table is not None:
            return self._table.refusals(rows, limit)
        return first_refusal(self.bind, rows)
