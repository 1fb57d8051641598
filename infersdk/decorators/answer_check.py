"""The form of what a model was asked with, and whether two answers to it are the same.

A Predictor takes rows in more forms than the model it was made of: columns in any order, one row alone,
None for NaN. Where the model raised, the Predictor would answer. So a Predictor is only asked in forms in
which it was compared with the model: the kind of container, its dtypes, its columns in their order, its
number of axes. Whatever comes in another form goes to the model.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from infersdk.binding.containers import concatenate, kind
from infersdk.binding.foreign import is_frame, is_series, is_tensor
from infersdk.convert import compare, parity
from infersdk.convert import rows as row_access
from infersdk.types import Signature, TensorSpec

__all__ = [
    "AnswerCheck",
    "example_of",
    "form_of",
    "is_given",
    "joint",
    "kept",
    "name_of",
    "size_bytes",
]

_KEPT_ROWS = 64
_KEPT_BYTES = 2**20
"""Of one call, for the example."""

_SCALE_ANSWERS = 64
"""The model's answers that tell how large they are."""


def form_of(rows: Any) -> Hashable | None:
    """Return what must be the same for a comparison to say anything about these rows; None: ask the model.

    Nothing about values, and not the number of rows, which may be any but 0.
    """
    container = type(rows)
    if container is np.ndarray:
        return ("array", rows.dtype, rows.ndim) if rows.ndim and len(rows) else None
    if container is list:
        if not rows:
            return None
        first = rows[0]
        if type(first) in (list, tuple):
            return ("list", type(first), type(first[0])) if first else None
        return "list", type(first)
    if container is str:
        return "text"
    if is_frame(rows):
        return ("frame", tuple(rows.columns.tolist()), _dtypes(rows)) if len(rows) else None
    if is_tensor(rows):
        if rows.requires_grad or (rows.ndim and not len(rows)):
            return None
        # With gradients an answer is another: what asks for them later must have been compared so.
        gradients = sys.modules["torch"].is_grad_enabled()
        return "tensor", container, rows.dtype, rows.ndim, rows.device, gradients
    if container is tuple or container is dict:
        forms = tuple(map(form_of, rows if container is tuple else rows.values()))
        if not forms or None in forms:
            return None
        return (container, *forms) if container is tuple else (container, *rows, *forms)
    if is_series(rows):
        return ("series", str(rows.dtype)) if len(rows) else None
    return None


def _dtypes(frame: Any) -> Hashable:
    try:
        # A tenth of what DataFrame.dtypes costs, which makes a Series of them.
        return tuple(frame._mgr.get_dtypes().tolist())
    except AttributeError:
        return tuple(map(str, frame.dtypes))


def kept(rows: Any) -> Any:
    """Return a copy of some rows of a call, which the app cannot change any more."""
    if isinstance(rows, np.ndarray) and rows.ndim:
        return rows[: _most(rows)].copy()
    if hasattr(rows, "iloc"):
        return rows.iloc[: _most(rows)].copy()
    # Of tensors the first axis may be anything, and several belong together.
    if is_tensor(rows):
        return rows.detach().clone()
    if type(rows) is tuple:
        return tuple(part.copy() if isinstance(part, np.ndarray) else kept(part) for part in rows)
    if type(rows) is dict:
        return dict(zip(rows, kept(tuple(rows.values())), strict=True))
    return copy.deepcopy(rows[:_KEPT_ROWS] if type(rows) is list else rows)


def _most(rows: Any) -> int:
    return min(_KEPT_ROWS, max(_KEPT_BYTES // row_access.bytes_per_row(rows), 1))


def is_given(answer: Any) -> bool:
    """Whether a Predictor may give an answer of this kind."""
    return type(answer) in (np.ndarray, dict, list, tuple) or is_tensor(answer)


def size_bytes(rows: Any) -> int:
    """Roughly how much memory kept rows take, where that may be much: of arrays, frames and tensors."""
    if isinstance(rows, (tuple, dict)):
        return sum(size_bytes(part) for part in (rows.values() if isinstance(rows, dict) else rows))
    shape = getattr(rows, "shape", None)
    return shape[0] * row_access.bytes_per_row(rows) if shape else 0


def joint(rows: Any) -> Hashable | None:
    """Return what rows of several calls must have in common to be one example; None: they stay alone.

    Not their dtypes: JSON gives 3 in one request and 3.5 in the next, and the example should have both.
    """
    if is_frame(rows):
        return "frame", tuple(rows.columns)
    if type(rows) is np.ndarray and rows.ndim:
        return "array", rows.dtype.kind in "biuf", rows.shape[1:]
    if type(rows) is str:
        return "list"
    try:
        return kind(rows)
    except ValueError:
        return None


def example_of(calls: Sequence[Any]) -> Any:
    """Put the rows of several calls together: those that go with the first."""
    first = joint(calls[0])
    fitting = [rows for rows in calls if joint(rows) == first]
    if type(calls[0]) is str or first == "list":
        return [row for rows in fitting for row in ([rows] if type(rows) is str else rows)]
    if first is None or len(fitting) == 1:
        return calls[0]
    try:
        return concatenate(fitting, checked=True)
    except (AttributeError, ValueError):  # columns of categories that differ from call to call
        return max(fitting, key=len)


class AnswerCheck:
    """Compares answers with those of the model, by the tolerances of the proof.

    Parameters
    ----------
    signature : Signature
        Of the converted model.
    """

    def __init__(self, signature: Signature) -> None:
        half = any(
            isinstance(spec, TensorSpec) and spec.dtype in ("float16", "bfloat16")
            for spec in (*signature.inputs, *signature.outputs)
        )
        self._rtol, self._atol = parity.HALF_TOLERANCE if half else parity.TOLERANCE
        self._answers: list[list[compare.Leaf]] = []
        self.max_abs_error = 0.0

    def learn(self, theirs: Any) -> None:
        """See how large the model's answers are."""
        if len(self._answers) < _SCALE_ANSWERS:
            self._answers.append(compare.leaves(copy.deepcopy(theirs)))

    def other_kind(self, ours: Any, theirs: Any) -> str:
        """Say how an answer is another kind of object than the model's; "" where it is not."""
        if type(ours) is not type(theirs):
            return f"the model answers with a {name_of(theirs)}, not a {name_of(ours)}"
        if isinstance(theirs, np.ndarray):
            if ours.dtype.kind != theirs.dtype.kind:
                return f"the model answers with {theirs.dtype}, not {ours.dtype}"
            if ours.shape != theirs.shape:
                return f"the model's answer has the shape {theirs.shape}, not {ours.shape}"
            if theirs.flags.writeable and not ours.flags.writeable:
                return "the model's answer can be written to"
        if is_tensor(theirs):
            if (ours.shape, ours.device) != (theirs.shape, theirs.device):
                return (
                    f"the model's answer has the shape {tuple(theirs.shape)} on {theirs.device}, not "
                    f"{tuple(ours.shape)} on {ours.device}"
                )
            if theirs.requires_grad:
                return "the model's answer has gradients; ask it under torch.no_grad()"
        pairs: Any = ()
        if isinstance(theirs, dict):
            if list(ours) != list(theirs):
                return f"the model answers with {list(theirs)}, not {list(ours)}"
            pairs = zip(ours.values(), theirs.values(), strict=True)
        elif isinstance(theirs, (list, tuple)):
            if len(ours) != len(theirs):
                return f"the model answers with {len(theirs)} items, not {len(ours)}"
            pairs = zip(ours, theirs, strict=True)
        return next(filter(None, (self.other_kind(one, two) for one, two in pairs)), "")

    def difference(self, ours: Any, theirs: Any, rows: Any) -> str:
        """Say how far an answer is from the model's; "" where it is within the tolerance."""
        self.learn(theirs)
        n_rows = 1 if isinstance(rows, str) else row_access.count(rows)
        mine, other = compare.leaves(ours), compare.leaves(theirs)
        found = compare.Comparison()
        same_places = [
            leaves
            for leaves in self._answers
            if [leaf.where for leaf in leaves] == [leaf.where for leaf in other]
        ]
        compare.compare(
            found,
            mine,
            other,
            rtol=self._rtol,
            atol=self._atol,
            scale=compare.scales(same_places or [other]),
            n_rows=n_rows,
            part="call",
        )
        self.max_abs_error = max(self.max_abs_error, found.max_abs_error)
        return found.problems[0] if found.problems else ""


def name_of(value: Any) -> str:
    """Return a value's type with its module, as messages name it."""
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
