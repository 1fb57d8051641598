"""assert_parity: a Predictor answers as another model does, row by row."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from infersdk import api
from infersdk.artifact import Artifact
from infersdk.convert import registry
from infersdk.convert.compare import Comparison, Leaf, compare, leaves, scales
from infersdk.convert.parity import TOLERANCE, in_source_form
from infersdk.errors import UnsupportedModelError
from infersdk.runtime import Predictor
from infersdk.testing.factory import open_artifact
from infersdk.types import Signature

__all__ = ["assert_parity", "differences"]

_SHOWN_ROWS = 5
_SHOWN_CHARACTERS = 300
_PART = "given"


def assert_parity(
    predictor: Any,
    model: Any,
    rows: Any,
    *,
    rtol: float = TOLERANCE[0],
    atol: float = TOLERANCE[1],
    methods: Sequence[str] | None = None,
) -> None:
    """Fail unless both give the same answers to the same rows.

    Numbers agree when ``abs(ours - theirs) <= atol * scale + rtol * abs(theirs)``, where the scale is the
    median of the answers where that is above 1; labels and other whole numbers agree when they are equal.

    Parameters
    ----------
    predictor : Predictor, Artifact or path
        What is tested.
    model : object
        The oracle: a trained model that infersdk can load, anything else with the methods, a Predictor, an
        Artifact, or a model file's path.
    rows : rows
        At least one.
    rtol, atol : float
    methods : sequence of str, optional
        By default all that both have.

    Raises
    ------
    AssertionError
        With the rows that differ, and both answers to them.
    ValueError
        There is nothing to compare.
    """
    __tracebackhide__ = True
    with ExitStack() as closing:
        ours = _opened(predictor, closing)
        theirs = _Oracle(_opened_if_stored(model, closing), ours)
        names = list(methods or theirs.common_methods())
        if not names:
            raise ValueError(
                f"Expected methods that both have; the predictor's are "
                f"{', '.join(method.name for method in ours.signature.methods) or 'none'}"
            )
        found = []
        for name in names:
            call: Any = ours if name == "__call__" else getattr(ours, name)
            found += differences(
                call(rows),
                theirs.ask(name, rows),
                rows,
                signature=ours.signature,
                method=name,
                rtol=rtol,
                atol=atol,
            )
    if found:
        raise AssertionError("\n".join([f"`{ours.name}` answers differently:", *found]))


def differences(
    ours: Any,
    theirs: Any,
    rows: Any,
    *,
    signature: Signature,
    method: str,
    rtol: float,
    atol: float,
) -> list[str]:
    """Compare two answers to the same rows; nothing where they agree, else what to say about it."""
    mine, other = leaves(ours), leaves(theirs)
    n_rows = next((leaf.value.shape[0] for leaf in other if leaf.value.shape), 1)
    found = Comparison()
    compare(
        found,
        mine,
        other,
        rtol=rtol,
        atol=atol,
        scale=scales([other]),
        n_rows=n_rows,
        part=_PART,
    )
    if not found.problems:
        return []
    different = sorted(row for _, row in found.rows)
    title = f"{method} differs in {len(different)} of {n_rows} rows"
    if found.max_abs_error:
        title += f", by up to {found.max_abs_error:.3g} (rtol {rtol:g}, atol {atol:g})"
    lines = [f"{title}: {found.problems[0].replace(f'in {_PART} row', 'in row')}"]
    names = [field.name for field in signature.fields]
    for row in different[:_SHOWN_ROWS]:
        values = _row(rows, row)
        if names and isinstance(values, (list, tuple)) and len(values) == len(names):
            values = dict(zip(names, values, strict=True))
        lines.append(f"  row {row}: {_short(values)}")
        lines.append(f"    got      {_answer(mine, row, n_rows)}")
        lines.append(f"    expected {_answer(other, row, n_rows)}")
    if len(different) > _SHOWN_ROWS:
        lines.append(f"  and {len(different) - _SHOWN_ROWS} rows more")
    return lines


class _Oracle:
    """Whatever knows the right answers."""

    def __init__(self, model: Any, asked: Predictor) -> None:
        self._asked = asked
        self._model = model
        self._converted: Callable[[Any, str, Any], Any] | None = None
        if isinstance(model, Predictor):
            return
        try:
            converter = registry.find(model)
        except UnsupportedModelError:
            return  # it has the methods itself
        self._model = registry.open_source(model, converter)
        self._converted = getattr(converter, "reference", converter.call)

    def common_methods(self) -> list[str]:
        names = [method.name for method in self._asked.signature.methods]
        if isinstance(self._model, Predictor):
            known = {method.name for method in self._model.signature.methods}
            return [name for name in names if name in known]
        return [
            name for name in names if self._converted or callable(getattr(self._model, name, None))
        ]

    def ask(self, method: str, rows: Any) -> Any:
        if self._converted is not None:
            return self._converted(self._model, method, in_source_form(self._asked.signature, rows))
        call = self._model if method == "__call__" else getattr(self._model, method)
        return call(rows)


def _opened(predictor: Any, closing: ExitStack) -> Predictor:
    opened = _opened_if_stored(predictor, closing)
    if not isinstance(opened, Predictor):
        raise TypeError(
            f"Expected a Predictor, an Artifact or a model file's path, got {type(predictor).__name__}"
        )
    return opened


def _opened_if_stored(model: Any, closing: ExitStack) -> Any:
    if isinstance(model, Artifact):
        return closing.enter_context(open_artifact(model))
    if isinstance(model, (str, os.PathLike)):
        return closing.enter_context(api.load(os.fspath(model)))
    return model


def _row(rows: Any, index: int) -> Any:
    if hasattr(rows, "iloc"):
        return rows.iloc[index].to_dict()
    if isinstance(rows, Mapping):
        values = list(rows.values())
        if values and all(np.ndim(value) for value in values):
            return {name: value[index] for name, value in rows.items()}
        return dict(rows)
    if isinstance(rows, (list, tuple)) and rows and np.ndim(rows[0]) == 0 and index >= len(rows):
        return rows
    if isinstance(rows, (str, bytes)):
        return rows
    try:
        row = rows[index]
    except (IndexError, KeyError, TypeError):
        return rows
    return row.tolist() if hasattr(row, "tolist") else row


def _answer(answer: list[Leaf], row: int, n_rows: int) -> str:
    parts = []
    for leaf in answer:
        own = leaf.row(row, n_rows)
        value = leaf.value if own is None else own.value
        if leaf.is_sparse:
            value = value.toarray()
        text = np.array2string(np.asarray(value if own is None else value[0]), threshold=20)
        parts.append(f"{leaf.where} {' '.join(text.split())}".strip())
    return _short(", ".join(parts), quote=False)


def _short(value: Any, *, quote: bool = True) -> str:
    text = repr(value) if quote else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
