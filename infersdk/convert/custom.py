"""ONNX functions that users write for estimators of their own: ``@infersdk.convert.register``.

The function gets an :class:`Ops`, the fitted estimator and its input as a :class:`Tensor`, and returns the
tensor that the estimator's method would answer. It is checked against the estimator where it is used: on its
own, over numbers of several sizes, and as part of the whole model's parity check.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from infersdk.convert.sklearn_graph import BATCH, Columns, GraphBuilder
from infersdk.convert.sklearn_writer import Kind, Writer, unsupported
from infersdk.errors import InferSDKError

__all__ = ["Ops", "OwnFunction", "Tensor", "register", "writer_of"]

OwnMethod = Literal["transform", "predict", "predict_proba", "decision_function"]

OwnFunction = Callable[["Ops", Any, "Tensor"], "Tensor"]
"""``function(op, estimator, x)``: what the estimator's method answers, as a tensor (N, k)."""

_KIND_OF: dict[str, Kind] = {
    "transform": "transform",
    "predict": "predict",
    "predict_proba": "proba",
    "decision_function": "decision",
}
_TOLERANCE = 1e-6
_registered: dict[tuple[type, Kind], OwnFunction] = {}
_lock = threading.Lock()

F = TypeVar("F", bound=OwnFunction)


class Tensor:
    """A tensor of the graph that is being written; has Python's arithmetic, operator by operator.

    A number or array on the other side becomes a constant: float64, or int64 where this is int64.
    """

    __array_ufunc__ = None
    """numpy arrays on the left leave the operation to this class."""

    __slots__ = ("_ops", "name")

    def __init__(self, ops: Ops, name: str) -> None:
        self._ops = ops
        self.name = name

    def __add__(self, other: Any) -> Tensor:
        return self._ops.Add(self, _number(other))

    def __radd__(self, other: Any) -> Tensor:
        return self._ops.Add(_number(other), self)

    def __sub__(self, other: Any) -> Tensor:
        return self._ops.Sub(self, _number(other))

    def __rsub__(self, other: Any) -> Tensor:
        return self._ops.Sub(_number(other), self)

    def __mul__(self, other: Any) -> Tensor:
        return self._ops.Mul(self, _number(other))

    def __rmul__(self, other: Any) -> Tensor:
        return self._ops.Mul(_number(other), self)

    def __truediv__(self, other: Any) -> Tensor:
        return self._ops.Div(self, _number(other))

    def __rtruediv__(self, other: Any) -> Tensor:
        return self._ops.Div(_number(other), self)

    def __pow__(self, other: Any) -> Tensor:
        return self._ops.Pow(self, _number(other))

    def __matmul__(self, other: Any) -> Tensor:
        return self._ops.MatMul(self, _number(other))

    def __neg__(self) -> Tensor:
        return self._ops.Neg(self)

    def __gt__(self, other: Any) -> Tensor:
        return self._ops.Greater(self, _number(other))

    def __ge__(self, other: Any) -> Tensor:
        return self._ops.GreaterOrEqual(self, _number(other))

    def __lt__(self, other: Any) -> Tensor:
        return self._ops.Less(self, _number(other))

    def __le__(self, other: Any) -> Tensor:
        return self._ops.LessOrEqual(self, _number(other))

    def columns(self, *index: int) -> Tensor:
        """The columns at these positions, as a matrix."""
        return self._ops.Gather(self, np.asarray(index, np.int64), axis=1)


class Ops:
    """Every operator of ONNX, those of ``ai.onnx.ml`` too, as a function: ``op.Log(x)``, ``op.Concat(a, b, axis=1)``.

    Inputs are tensors, numbers, arrays or None for one that is left out; Python floats become float64
    constants, whole numbers and lists of them int64. Attributes go by keyword, with ONNX's own names
    (``to=`` of Cast takes a dtype's name).
    """

    def __init__(self, builder: GraphBuilder) -> None:
        self._builder = builder

    def __getattr__(self, op_type: str) -> Callable[..., Tensor]:
        import onnx

        builder = self._builder
        domain = "" if onnx.defs.has(op_type) else "ai.onnx.ml"
        if op_type.startswith("_") or not onnx.defs.has(op_type, domain):
            raise AttributeError(f"ONNX has no operator {op_type!r}")

        def add(*inputs: Any, **attributes: Any) -> Tensor:
            if op_type == "Cast" and isinstance(attributes.get("to"), str):
                dtype = np.dtype(attributes["to"])
                attributes["to"] = onnx.helper.np_dtype_to_tensor_dtype(dtype)
            names = [self._name(value) for value in inputs]
            return Tensor(self, builder.op(op_type, *names, domain=domain, **attributes))

        return add

    def constant(self, values: Any, dtype: str = "float64") -> Tensor:
        """A constant of this dtype."""
        return Tensor(self, self._builder.constant(values, np.dtype(dtype)))

    def _name(self, value: Any) -> str:
        if value is None:
            return ""
        return value.name if isinstance(value, Tensor) else self._builder.constant(_array(value))


def register(cls: type, *, method: OwnMethod = "transform") -> Callable[[F], F]:
    """Register the ONNX function of an estimator's class; see :meth:`infersdk.convert.register`."""
    if not isinstance(cls, type):
        raise TypeError(f"Expected the class of an estimator, got {cls!r}")
    if method not in get_args(OwnMethod):
        raise ValueError(f"Expected a method of {', '.join(get_args(OwnMethod))}, got {method!r}")

    def keep(function: F) -> F:
        if not callable(function):
            raise TypeError(f"Expected a function (op, estimator, x), got {function!r}")
        with _lock:
            _registered[cls, _KIND_OF[method]] = function
        return function

    return keep


def writer_of(kind: Kind, estimator: Any) -> Callable[[Writer, Any, Columns], Any] | None:
    """The writer of a class with a registered function; None for others. Subclasses are others."""
    function = _registered.get((type(estimator), kind))
    if function is not None:
        return _Written(kind, function)
    if kind == "label":
        proba = _registered.get((type(estimator), "proba"))
        return None if proba is None else _likeliest
    return None


def _likeliest(writer: Writer, estimator: Any, columns: Columns) -> str:
    return writer.builder.op(
        "ArgMax", writer.write("proba", estimator, columns), axis=1, keepdims=0
    )


class _Written:
    """Writes a registered function into a graph, once it was checked."""

    def __init__(self, kind: Kind, function: OwnFunction) -> None:
        self._kind = kind
        self._function = function

    def __call__(self, writer: Writer, estimator: Any, columns: Columns) -> Any:
        texts = [column.is_text for column in columns]
        if any(texts) and not all(texts):
            raise unsupported(estimator, "its registered function would get text and numbers mixed")
        dtype = "string" if texts and texts[0] else "float64"
        width = self._checked(estimator, dtype, len(columns), writer.builder.opset)
        name = self._add(writer.builder, estimator, writer.builder.matrix(columns, dtype))
        return writer.new(name, width) if self._kind == "transform" else name

    def _add(self, builder: GraphBuilder, estimator: Any, matrix: str) -> str:
        ops = Ops(builder)
        try:
            made = self._function(ops, estimator, Tensor(ops, matrix))
        except InferSDKError:
            raise
        except Exception as exc:
            raise unsupported(
                estimator, f"its registered function raised {type(exc).__name__}: {exc}"
            ) from exc
        if not isinstance(made, Tensor):
            raise unsupported(
                estimator, f"its registered function should return a tensor, got {made!r:.80}"
            )
        return builder.cast(made.name, "", "float64")

    def _checked(self, estimator: Any, dtype: str, width: int, opset: int) -> int:
        """Compare the function alone with the estimator; returned is its number of columns."""
        from infersdk._native import Session
        from infersdk.processing.source import ask

        builder = GraphBuilder(opset)
        value = builder.input("x", dtype, (BATCH, width))
        name = self._add(builder, estimator, value.name)
        builder.output("y", name, "float64", (BATCH, "k"))
        try:
            session = Session(builder.build("own").SerializeToString(), name="own function")
        except Exception as exc:
            raise unsupported(
                estimator, f"its registered function makes no valid graph: {exc}"
            ) from exc
        columns = 0
        try:
            for rows in _trials(dtype, width):
                try:
                    ours = session.run_ordered([rows])[0]
                except InferSDKError as exc:
                    raise unsupported(
                        estimator, f"its registered function does not run: {exc}"
                    ) from exc
                if ours.ndim != 2 or len(ours) != len(rows):
                    raise unsupported(
                        estimator,
                        f"its registered function should give a matrix with {len(rows)} rows, got "
                        f"shape {ours.shape}",
                    )
                columns = ours.shape[1]
                try:
                    with warnings.catch_warnings(), np.errstate(all="ignore"):
                        warnings.simplefilter("ignore")
                        theirs = ask(estimator, self._kind, rows)
                except Exception:  # made-up rows need not be to its taste
                    continue
                self._compare(estimator, ours, theirs)
        finally:
            session.close()
        return columns

    def _compare(self, estimator: Any, ours: Any, theirs: Any) -> None:
        if ours.shape != theirs.shape:
            raise unsupported(
                estimator,
                f"its registered function answers with shape {ours.shape}, the estimator with "
                f"{theirs.shape}",
            )
        if not np.allclose(ours, theirs, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True):
            error = np.abs(ours - theirs)
            worst = float(np.max(error, initial=0.0, where=np.isfinite(error)))
            how = f"by up to {worst:.3g}" if worst else "where numbers are missing or infinite"
            raise unsupported(
                estimator,
                f"its registered function answers differently from the estimator, {how}",
            )


def _trials(dtype: str, width: int) -> Sequence[Any]:
    """Rows to compare on."""
    rng = np.random.default_rng(0)
    if dtype == "string":
        return [np.full((2, width), "a", dtype=object)]
    return [
        np.zeros((2, width)),
        rng.normal(size=(16, width)),
        rng.uniform(0.01, 100.0, size=(16, width)),
    ]


def _number(value: Any) -> Any:
    """In arithmetic, whole numbers stand beside float64."""
    return value if isinstance(value, Tensor) else np.asarray(value, np.float64)


def _array(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    return array.astype(np.float64) if array.dtype.kind == "f" else array
