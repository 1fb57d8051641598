"""Functions of single numbers that ONNX has no float64 operator for: accurate logarithms, erf, its inverse.

Where a short formula is as accurate as numpy's own, it is used. Smooth functions without one are looked up:
the range is cut into equal pieces, each with its polynomial, which is fitted when the model is converted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_writer import Writer, unsupported, writes

__all__ = ["apply_function", "erf", "expm1", "log1p", "normal_quantile", "tabulated"]

_UNARY = {
    np.absolute: "Abs",
    np.ceil: "Ceil",
    np.cos: "Cos",
    np.exp: "Exp",
    np.fabs: "Abs",
    np.floor: "Floor",
    np.log: "Log",
    np.negative: "Neg",
    np.reciprocal: "Reciprocal",
    np.rint: "Round",
    np.sin: "Sin",
    np.sqrt: "Sqrt",
    np.tanh: "Tanh",
}

_SCALED = {np.deg2rad: np.pi / 180.0, np.radians: np.pi / 180.0}
_UNSCALED = {np.degrees: 180.0 / np.pi, np.rad2deg: 180.0 / np.pi}


@writes("transform", "FunctionTransformer")
def _function_transformer(writer: Writer, model: Any, columns: Columns) -> Columns:
    if model.func is None:
        return columns
    name = getattr(model.func, "__qualname__", repr(model.func))
    if model.kw_args or not isinstance(model.func, np.ufunc):
        raise unsupported(model, f"what the Python function `{name}` does cannot be read")
    made = apply_function(writer, model.func, writer.numbers(columns))
    if made is None:
        raise unsupported(
            model, f"numpy.{model.func.__name__} is not among the functions it can write"
        )
    return writer.new(made, len(columns))


def apply_function(writer: Writer, function: Any, name: str) -> str | None:
    """A numpy function of a float64 tensor; None where it has no exact form here."""
    builder = writer.builder
    if function in _UNARY:
        return builder.op(_UNARY[function], name)
    if function in _SCALED or function in _UNSCALED:
        factor = {**_SCALED, **_UNSCALED}[function]
        return builder.op("Mul", name, builder.constant(factor, np.float64))
    others: dict[Any, Callable[[Writer, str], str]] = {
        np.arcsinh: _arcsinh,
        np.arctanh: _arctanh,
        np.cbrt: _cbrt,
        np.cosh: _cosh,
        np.exp2: _exp2,
        np.expm1: expm1,
        np.log10: _log10,
        np.log1p: log1p,
        np.log2: _log2,
        np.positive: lambda _, given: given,
        np.sign: _sign,
        np.sinh: _sinh,
        np.square: lambda w, given: w.builder.op("Mul", given, given),
        np.tan: _tan,
        np.trunc: _trunc,
    }
    return others[function](writer, name) if function in others else None


def log1p(writer: Writer, name: str) -> str:
    """log(1 + x), to the last digits also where x is small.

    The rounding error of 1 + x is made good by the factor x / ((1 + x) - 1): Goldberg, What every computer
    scientist should know about floating-point arithmetic (1991), theorem 4.
    """
    builder = writer.builder
    one = builder.constant(1.0, np.float64)
    above = builder.op("Add", name, one)
    gained = builder.op("Sub", above, one)
    logarithm = builder.op("Log", above)
    # Nothing was gained for a tiny x; infinity would be divided by itself.
    plain = builder.op("Equal", gained, name)
    safe = builder.op("Where", builder.op("Equal", above, one), one, gained)
    repaired = builder.op("Mul", logarithm, builder.op("Div", name, safe))
    repaired = builder.op("Where", builder.op("Equal", above, one), name, repaired)
    return builder.op("Where", plain, logarithm, repaired)


def expm1(writer: Writer, name: str) -> str:
    """exp(x) - 1, to the last digits also where x is small (Kahan)."""
    builder = writer.builder
    one = builder.constant(1.0, np.float64)
    power = builder.op("Exp", name)
    less = builder.op("Sub", power, one)
    small = builder.op("Less", builder.op("Abs", name), one)
    flat = builder.op("Equal", power, one)
    safe = builder.op("Where", flat, builder.constant(np.e, np.float64), power)
    repaired = builder.op("Mul", less, builder.op("Div", name, builder.op("Log", safe)))
    repaired = builder.op("Where", flat, name, repaired)
    return builder.op("Where", small, repaired, less)


def _log2(writer: Writer, name: str) -> str:
    return _log_to(writer, name, 2.0)


def _log10(writer: Writer, name: str) -> str:
    return _log_to(writer, name, 10.0)


def _log_to(writer: Writer, name: str, base: float) -> str:
    builder = writer.builder
    return builder.op("Div", builder.op("Log", name), builder.constant(np.log(base), np.float64))


def _exp2(writer: Writer, name: str) -> str:
    return writer.builder.op("Pow", writer.builder.constant(2.0, np.float64), name)


def _sign(writer: Writer, name: str) -> str:
    # ONNX Runtime's Sign takes NaN for 0.
    builder = writer.builder
    return builder.op("Where", builder.op("IsNaN", name), name, builder.op("Sign", name))


def _trunc(writer: Writer, name: str) -> str:
    builder = writer.builder
    zero = builder.constant(0.0, np.float64)
    below = builder.op("Less", name, zero)
    return builder.op("Where", below, builder.op("Ceil", name), builder.op("Floor", name))


def _tan(writer: Writer, name: str) -> str:
    builder = writer.builder
    return builder.op("Div", builder.op("Sin", name), builder.op("Cos", name))


def _cbrt(writer: Writer, name: str) -> str:
    builder = writer.builder
    third = builder.constant(1.0 / 3.0, np.float64)
    root = builder.op("Pow", builder.op("Abs", name), third)
    return builder.op("Mul", _sign(writer, name), root)


def _halves(writer: Writer, name: str, op: str) -> str:
    """(exp(x) op exp(-x)) / 2, without the overflow of exp near its end."""
    builder = writer.builder
    half = builder.constant(0.5, np.float64)
    sides = []
    for value in (name, builder.op("Neg", name)):
        root = builder.op("Exp", builder.op("Mul", value, half))
        sides.append(builder.op("Mul", root, builder.op("Mul", root, half)))
    return builder.op(op, *sides)


def _cosh(writer: Writer, name: str) -> str:
    return _halves(writer, name, "Add")


def _sinh(writer: Writer, name: str) -> str:
    builder = writer.builder
    one, half = builder.constant(1.0, np.float64), builder.constant(0.5, np.float64)
    small = builder.op("Less", builder.op("Abs", name), one)
    less = builder.op("Sub", expm1(writer, name), expm1(writer, builder.op("Neg", name)))
    return builder.op("Where", small, builder.op("Mul", less, half), _halves(writer, name, "Sub"))


def _arcsinh(writer: Writer, name: str) -> str:
    builder = writer.builder
    one = builder.constant(1.0, np.float64)
    size = builder.op("Abs", name)
    # The square of a large number would overflow; there the answer is log(2 x).
    limit = builder.constant(1e8, np.float64)
    bounded = builder.op("Min", size, limit)
    square = builder.op("Mul", bounded, bounded)
    root = builder.op("Add", builder.op("Sqrt", builder.op("Add", square, one)), one)
    near = log1p(writer, builder.op("Add", bounded, builder.op("Div", square, root)))
    far = builder.op("Add", builder.op("Log", size), builder.constant(np.log(2.0), np.float64))
    made = builder.op("Where", builder.op("Less", size, limit), near, far)
    return builder.op("Mul", _sign(writer, name), made)


def _arctanh(writer: Writer, name: str) -> str:
    builder = writer.builder
    one, half = builder.constant(1.0, np.float64), builder.constant(0.5, np.float64)
    size = builder.op("Abs", name)
    ratio = builder.op("Div", builder.op("Add", size, size), builder.op("Sub", one, size))
    made = builder.op("Mul", log1p(writer, ratio), half)
    return builder.op("Mul", _sign(writer, name), made)


# ---- looked up


def tabulated(
    writer: Writer,
    name: str,
    function: Callable[[np.ndarray], np.ndarray],
    low: float,
    high: float,
    n_pieces: int = 128,
    degree: int = 9,
) -> str:
    """A smooth function of a float64 tensor, for values between `low` and `high`; others get the ends'."""
    builder = writer.builder
    width = (high - low) / n_pieces
    # Chebyshev nodes of (-1, 1), on which each piece is fitted.
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    middles = low + (np.arange(n_pieces) + 0.5) * width
    values = function(middles[:, None] + nodes * (width / 2.0))
    coefficients = np.linalg.solve(np.vander(nodes, increasing=True), values.T)

    bounded = builder.op("Clip", name, builder.constant(low), builder.constant(high))
    steps = builder.op("Sub", bounded, builder.constant(low, np.float64))
    place = builder.op("Floor", builder.op("Div", steps, builder.constant(width, np.float64)))
    # NaN has no place of its own; it comes back with the number that is looked up with.
    place = builder.op("Where", builder.op("IsNaN", place), builder.constant(0.0), place)
    place = builder.op("Min", place, builder.constant(n_pieces - 1.0, np.float64))
    piece = builder.cast(place, "float64", "int64")
    middle = builder.op("Gather", builder.constant(middles), piece, axis=0)
    half = builder.constant(width / 2.0, np.float64)
    along = builder.op("Div", builder.op("Sub", bounded, middle), half)
    total = builder.op("Gather", builder.constant(coefficients[degree]), piece, axis=0)
    for power in range(degree - 1, -1, -1):
        coefficient = builder.op("Gather", builder.constant(coefficients[power]), piece, axis=0)
        total = builder.op("Add", builder.op("Mul", total, along), coefficient)
    return total


def erf(writer: Writer, name: str) -> str:
    """The error function, within 1e-15; ONNX Runtime has it for float32 only."""
    from scipy import special

    builder = writer.builder
    size = tabulated(writer, builder.op("Abs", name), special.erf, 0.0, 6.0)
    return builder.op("Mul", _sign(writer, name), size)


def normal_quantile(writer: Writer, name: str) -> str:
    """The inverse of the normal distribution's function, for values between 1e-8 and 1 - 1e-8."""
    from scipy import special

    builder = writer.builder
    half = builder.constant(0.5, np.float64)
    above = builder.op("Greater", name, half)
    other = builder.op("Sub", builder.constant(1.0, np.float64), name)
    lower = builder.op("Where", above, other, name)
    # Smooth in r = sqrt(-2 log p), as an inverse of p = exp(-r^2 / 2).
    depth = builder.op("Mul", builder.op("Log", lower), builder.constant(-2.0, np.float64))
    radius = builder.op("Sqrt", depth)
    low, high = np.sqrt(-2.0 * np.log(0.5)), np.sqrt(-2.0 * np.log(1e-8))
    made = tabulated(
        writer, radius, lambda r: special.ndtri(np.exp(-(r**2) / 2.0)), low - 1e-9, high
    )
    return builder.op("Where", above, builder.op("Neg", made), made)
