"""From the linear predictor to the mean: the inverses of statsmodels' link functions, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from infersdk.convert.sklearn_graph import GraphBuilder
from infersdk.errors import UnsupportedModelError

__all__ = ["inverse_link", "logistic", "normal_cdf"]

_NORMAL_DEGREE = 30


def inverse_link(builder: GraphBuilder, link: Any, linear: str) -> str:
    """The mean (N, 1) of a linear predictor (N, 1).

    Parameters
    ----------
    builder : GraphBuilder
    link : statsmodels.genmod.families.links.Link
    linear : str

    Raises
    ------
    UnsupportedModelError
        The link is none of statsmodels' own, or has no ONNX form in float64.
    """
    kind = type(link)
    name = kind.__name__ if kind.__module__.startswith("statsmodels.") else ""
    one = builder.constant(1.0, np.float64)
    if name in ("Power", "Identity", "InversePower", "InverseSquared", "Sqrt"):
        return _power(builder, linear, float(link.power))
    if name in ("Logit", "logit"):
        return logistic(builder, linear)
    if name in ("Log", "log"):
        return builder.op("Exp", linear)
    if name == "LogC":
        return builder.op("Sub", one, builder.op("Exp", linear))
    if name in ("CLogLog", "cloglog"):
        inner = builder.op("Exp", builder.op("Neg", builder.op("Exp", linear)))
        return builder.op("Sub", one, inner)
    if name in ("LogLog", "loglog"):
        return builder.op("Exp", builder.op("Neg", builder.op("Exp", builder.op("Neg", linear))))
    if name == "Probit" or (name == "CDFLink" and getattr(link.dbn, "name", "") == "norm"):
        return normal_cdf(builder, linear)
    if name == "NegativeBinomial":
        # -1 / (alpha (1 - exp(-z)))
        inner = builder.op("Sub", one, builder.op("Exp", builder.op("Neg", linear)))
        return builder.op("Div", builder.constant(-1.0 / link.alpha, np.float64), inner)
    raise UnsupportedModelError(
        f"The inverse of the link {kind.__module__}.{kind.__name__} has no ONNX form"
    )


def _power(builder: GraphBuilder, linear: str, power: float) -> str:
    if power == 1.0:
        return linear
    if power == -1.0:
        return builder.op("Reciprocal", linear)
    return builder.op("Pow", linear, builder.constant(1.0 / power, np.float64))


def logistic(builder: GraphBuilder, linear: str) -> str:
    """1 / (1 + exp(-x)); ONNX Runtime's Sigmoid is cut off where its value is small."""
    one = builder.constant(1.0, np.float64)
    inner = builder.op("Add", one, builder.op("Exp", builder.op("Neg", linear)))
    return builder.op("Div", one, inner)


def normal_cdf(builder: GraphBuilder, linear: str) -> str:
    """The standard normal distribution function of (N, 1), to about 1e-13.

    ONNX Runtime's Erf is float32. With z = |x| / sqrt(2), the function (1 + 2z) exp(z**2) erfc(z) is a
    smooth one of t = (z - k) / (z + k), -1 <= t < 1, which a polynomial holds.
    """
    from scipy.special import erfcx

    k = 3.0

    def smooth(t: np.ndarray) -> np.ndarray:
        z = k * (1 + t) / (1 - t)
        return np.asarray((1 + 2 * z) * erfcx(z))

    fitted = np.polynomial.Chebyshev.interpolate(smooth, _NORMAL_DEGREE)
    coefficients = fitted.convert(kind=np.polynomial.Polynomial).coef
    constant = builder.constant
    z = builder.op("Mul", builder.op("Abs", linear), constant(np.sqrt(0.5), np.float64))
    # Beyond this both tails are what float64 calls 0 and 1, and squares stay finite.
    z = builder.op("Min", z, constant(30.0, np.float64))
    offset = constant(k, np.float64)
    t = builder.op("Div", builder.op("Sub", z, offset), builder.op("Add", z, offset))
    powers = builder.op("Pow", t, constant(np.arange(len(coefficients))[None, :], np.float64))
    polynomial = builder.op("MatMul", powers, constant(coefficients[:, None], np.float64))
    scale = builder.op("Add", constant(1.0, np.float64), builder.op("Add", z, z))
    gauss = builder.op("Exp", builder.op("Neg", builder.op("Mul", z, z)))
    tail = builder.op("Mul", builder.op("Div", polynomial, scale), gauss)
    tail = builder.op("Mul", tail, constant(0.5, np.float64))
    upper = builder.op("Sub", constant(1.0, np.float64), tail)
    positive = builder.op("Greater", linear, constant(0.0, np.float64))
    return builder.op("Where", positive, upper, tail)
