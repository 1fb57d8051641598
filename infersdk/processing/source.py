"""A part of the source model that has no ONNX form, called in its own framework.

What it answers becomes an input of the graph, so it must be a matrix, a vector of classes or texts, with one
row for each row that came. It is called with what scikit-learn itself would hand it: the rows' own columns, or
the array that the steps before it computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk.errors import SessionError
from infersdk.types import Step, TensorSpec

__all__ = ["SourcePart", "ask"]

METHODS = {
    "transform": "transform",
    "proba": "predict_proba",
    "log_proba": "predict_log_proba",
    "decision": "decision_function",
    "predict": "predict",
    "label": "predict",
    "score_samples": "score_samples",
}
"""What a part is asked, by the kind of answer that the graph reads."""


def ask(part: Any, kind: str, rows: Any) -> NDArray[Any]:
    """Ask a fitted part for one kind of answer.

    Parameters
    ----------
    part : object
        With scikit-learn's methods.
    kind : str
        A key of ``METHODS``; "label" is the int64 index into ``part.classes_`` of what it predicts.
    rows : DataFrame, ndarray or list
        As the part takes them.

    Returns
    -------
    ndarray
        float64 (n_rows, k), int64 (n_rows,), or object (n_rows, k) of str.

    Raises
    ------
    SessionError
        The answer is no matrix.
    """
    answer = getattr(part, METHODS[kind])(rows)
    if hasattr(answer, "toarray"):
        answer = answer.toarray()
    array = np.asarray(answer)
    if kind == "label":
        classes = np.asarray(part.classes_)
        order = np.argsort(classes)
        index = order[np.searchsorted(classes, array, sorter=order).clip(0, len(classes) - 1)]
        if not np.array_equal(classes[index], array):
            raise SessionError(f"{type(part).__name__} predicts classes that it was not fitted on")
        return index.astype(np.int64)
    if array.ndim == 1 and kind == "predict" and array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.ndim == 1:
        array = array.reshape(-1, 1)
    if array.ndim != 2:
        raise SessionError(
            f"Expected {type(part).__name__}.{METHODS[kind]} to give a matrix, got shape {array.shape}"
        )
    if array.dtype.kind in "biuf":
        return np.ascontiguousarray(array, np.float64)
    texts = np.empty(array.shape, object)
    for position, value in np.ndenumerate(array):
        if isinstance(value, str):
            texts[position] = value
        else:
            break
    else:
        return texts
    try:
        return np.ascontiguousarray(array, np.float64)
    except (TypeError, ValueError) as exc:
        raise SessionError(
            f"Expected {type(part).__name__}.{METHODS[kind]} to give numbers or text, got {array.dtype}"
        ) from exc


class SourcePart:
    """A step of kind "source".

    As safe for threads as the part itself.

    Parameters
    ----------
    part : object
    step : Step
    spec : TensorSpec
        The graph input that it fills.
    model : str
        The model's name in messages.
    """

    __slots__ = ("_kind", "_name", "_part", "_spec", "_text", "_width")

    def __init__(self, part: Any, step: Step, spec: TensorSpec, *, model: str) -> None:
        assert step.method is not None
        self._part = part
        self._kind = step.method
        self._spec = spec
        self._text = spec.dtype == "string"
        self._width = spec.shape[1] if spec.shape is not None and len(spec.shape) > 1 else None
        self._name = f"part `{step.name}` of model `{model}`"

    def __call__(self, rows: Any, n_rows: int) -> list[NDArray[Any]]:
        """Answer rows.

        Raises
        ------
        SessionError
            The part gives something else than when the model was converted.
        Exception
            What the part itself raises, with a note that says where.
        """
        try:
            array = ask(self._part, self._kind, rows)
        except Exception as exc:
            exc.add_note(f"raised by {self._name}, which runs in its own framework")
            raise
        shape = (n_rows,) if self._width is None else (n_rows, self._width)
        if array.shape != shape or (array.dtype == object) != self._text:
            raise SessionError(
                f"Expected {self._spec.dtype} of shape {shape} from the {self._name}, "
                f"got {array.dtype} of shape {array.shape}"
            )
        return [array]
