"""The walk over a fitted scikit-learn model, and the table of what is known about each class.

Every kind of answer an estimator can give has its own function, registered under the class's name by
:func:`writes`. A class nobody registered goes to sklearn-onnx (``sklearn_foreign.py``). Only the
exact classes of scikit-learn are looked up: a subclass may override anything, so it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infersdk.convert.sklearn_graph import Columns, GraphBuilder
from infersdk.errors import UnsupportedModelError

if TYPE_CHECKING:
    from infersdk.convert.sklearn_hybrid import Parts

__all__ = [
    "EMPTY_IS_MISSING",
    "RESAMPLER",
    "Kind",
    "Writer",
    "class_name",
    "class_values",
    "index_of",
    "is_missing",
    "unsupported",
    "writes",
]

Kind = Literal[
    "transform",
    "label",
    "proba",
    "proba_list",
    "log_proba",
    "decision",
    "predict",
    "score_samples",
]
"""What is asked of an estimator.

"transform" gives columns; every other kind the name of a tensor: "label" an int64 index into
``classes_`` (N,), "proba" and "log_proba" float64 (N, K), "decision" float64 (N, 1) or (N, K),
"predict" float64 (N, k) of a regressor or of a classifier with several targets, or int64 (N,) of a
clusterer or outlier detector, "score_samples" float64 (N, 1); "proba_list" is a list of such names.
"""

EMPTY_IS_MISSING = "an empty text counts as a missing one"
"""A note: the graph is given the same for both, where scikit-learn tells them apart."""

_WRITERS: dict[tuple[str, str], Callable[..., Any]] = {}


def writes(kind: Kind, *names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function ``f(writer, estimator, columns)`` for one kind of answer of these classes.

    Raises
    ------
    ValueError
        The class has a function for that kind already.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            if (kind, name) in _WRITERS:
                raise ValueError(f"{name} already has a writer for {kind!r}")
            _WRITERS[kind, name] = function
        return function

    return register


_ANSWERS_AS = {
    "BalancedBaggingClassifier": "BaggingClassifier",
    "BalancedRandomForestClassifier": "RandomForestClassifier",
    "EasyEnsembleClassifier": "BaggingClassifier",
    "Pipeline": "Pipeline",
    "RUSBoostClassifier": "AdaBoostClassifier",
}
"""imbalanced-learn's subclasses that are only fitted otherwise, and what they answer as."""

RESAMPLER = "imblearn.resampler"
"""A step of imbalanced-learn that changes the training rows and passes over all others."""


_ANSWERS_AS = {
    "BalancedBaggingClassifier": "BaggingClassifier",
    "BalancedRandomForestClassifier": "RandomForestClassifier",
    "EasyEnsembleClassifier": "BaggingClassifier",
    "Pipeline": "Pipeline",
    "RUSBoostClassifier": "AdaBoostClassifier",
}
"""imbalanced-learn's subclasses that are only fitted otherwise, and what they answer as."""

RESAMPLER = "imblearn.resampler"
"""A step of imbalanced-learn that changes the training rows and passes over all others."""


def class_name(estimator: Any) -> str | None:
    """What an estimator's class is known as, else None.

    scikit-learn's own classes have their name, other packages' ``package.Name``; imbalanced-learn's have
    the name of the scikit-learn class that they answer as, or are a ``RESAMPLER``.
    """
    cls = type(estimator)
    package = cls.__module__.split(".")[0]
    if package == "sklearn":
        return cls.__name__
    if package == "category_encoders":
        return f"{package}.{cls.__name__}"
    if package == "imblearn":
        known = _ANSWERS_AS.get(cls.__name__)
        # A Pipeline has fit_resample too.
        return RESAMPLER if known is None and hasattr(cls, "fit_resample") else known
    return None


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN or pandas.NA (which does not compare)."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float | np.floating) and bool(np.isnan(value))


def unsupported(estimator: Any, reason: str) -> UnsupportedModelError:
    """The error for an estimator, or a configuration of one, without an exact ONNX form."""
    cls = type(estimator)
    return UnsupportedModelError(
        f"{cls.__module__.split('.')[0]}.{cls.__qualname__} has no exact ONNX form: {reason}"
    )


class Writer:
    """Writes the answers of fitted estimators into one graph, each at most once."""

    def __init__(self, builder: GraphBuilder, parts: Parts | None = None) -> None:
        self.builder = builder
        self.parts = parts
        """Where estimators go that cannot be written; without it they are refused."""
        self._done: dict[tuple[Any, ...], Any] = {}
        self.leaves: dict[tuple[Any, ...], Any] = {}
        self._kept: list[Any] = []

    def note(self, text: str) -> None:
        """Record a repair, once."""
        if text not in self.builder.notes:
            self.builder.notes.append(text)

    def transform(self, estimator: Any, columns: Columns) -> Columns:
        """The columns that ``estimator.transform`` gives."""
        return self.write("transform", estimator, columns)

    def write(self, kind: Kind, estimator: Any, columns: Columns) -> Any:
        """One kind of answer; shared when it is asked for again.

        Raises
        ------
        UnsupportedModelError
            There is no exact ONNX form of it.
        """
        key = (kind, id(estimator), tuple((id(c.value), c.index, c.replaced) for c in columns))
        if key not in self._done:
            self._kept.append((estimator, columns))
            try:
                self._done[key] = self._find(kind, estimator)(self, estimator, columns)
            except UnsupportedModelError as exc:
                if self.parts is None:
                    raise
                self._done[key] = self.parts.leave(self, kind, estimator, columns, exc)
        return self._done[key]

    def knows(self, kind: Kind, estimator: Any) -> bool:
        """Whether a function is registered for this estimator."""
        name = class_name(estimator)
        return name is not None and (kind, name) in _WRITERS

    def _find(self, kind: Kind, estimator: Any) -> Callable[..., Any]:
        from infersdk.convert import custom, sklearn_foreign

        own = custom.writer_of(kind, estimator)
        if own is not None:
            self._doubt(estimator, "its registered function answers differently inside the model")
            return own
        name = class_name(estimator)
        if name is None:
            return sklearn_foreign.other_framework(kind, estimator)
        function = _WRITERS.get((kind, name))
        if function is not None:
            return function
        if kind == "log_proba":
            return _log_of_proba
        if kind == "label" and ("proba", name) in _WRITERS:
            return _likeliest
        if "." in name:
            raise unsupported(estimator, f"its {kind.replace('_', ' ')} is not written here")
        if "." in name:
            raise unsupported(estimator, f"its {kind.replace('_', ' ')} is not written here")
        self._doubt(estimator, "what sklearn-onnx writes answers differently")
        return sklearn_foreign.leaf(kind)

    def _doubt(self, estimator: Any, reason: str) -> None:
        """Note that what others write is used; refuse it where that failed the proof before."""
        if self.parts is not None:
            self.parts.used_others = True
            if self.parts.distrusts_others:
                raise unsupported(estimator, reason)

    def numbers(self, columns: Columns, dtype: str = "float64") -> str:
        """The tensor (N, n) of numeric columns.

        Raises
        ------
        UnsupportedModelError
            One of them is text.
        """
        if not columns:
            raise UnsupportedModelError("A step leaves no columns over")
        if any(column.is_text for column in columns):
            raise UnsupportedModelError(
                "A text column reaches a step that takes numbers only; encode it first"
            )
        return self.builder.matrix(columns, dtype)

    def new(self, name: str, width: int, dtype: str = "float64") -> Columns:
        """Columns of a tensor just written."""
        return self.builder.value(name, dtype, width).columns()


def _log_of_proba(writer: Writer, estimator: Any, columns: Columns) -> str:
    return writer.builder.op("Log", writer.write("proba", estimator, columns))


def _likeliest(writer: Writer, estimator: Any, columns: Columns) -> str:
    proba = writer.write("proba", estimator, columns)
    return writer.builder.op("ArgMax", proba, axis=1, keepdims=0)


def index_of(writer: Writer, decision: str, n_columns: int, *, inclusive: bool = False) -> str:
    """The class index (N,) of decision values: the sign of one column, the largest of several."""
    builder = writer.builder
    if n_columns > 1:
        return builder.op("ArgMax", decision, axis=1, keepdims=0)
    flat = builder.op("Reshape", decision, builder.constant([-1], np.int64))
    comparison = "GreaterOrEqual" if inclusive else "Greater"
    above = builder.op(comparison, flat, builder.constant(0.0, np.float64))
    return builder.cast(above, "bool", "int64")


def class_values(
    writer: Writer, estimator: Any, labels: Sequence[str], classes: Sequence[Any]
) -> str:
    """float64 (N, len(labels)): the class values of several targets, from class indices (N, 1).

    Raises
    ------
    UnsupportedModelError
        The classes of a target are text.
    """
    builder = writer.builder
    parts = []
    for label, values in zip(labels, classes, strict=True):
        table = np.asarray(values)
        if table.dtype.kind not in "biuf":
            raise unsupported(estimator, "several targets whose classes are text")
        parts.append(builder.op("Gather", builder.constant(table, np.float64), label, axis=0))
    return parts[0] if len(parts) == 1 else builder.op("Concat", *parts, axis=1)
