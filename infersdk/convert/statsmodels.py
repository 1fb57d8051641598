"""statsmodels: fitted results of linear, generalized linear, discrete and robust models.

The fitted parameters are written as one product and a link function in float64. Rows are what
``results.predict`` takes: the columns of ``exog``, with the constant where the model was fitted on one, or
the columns that the formula reads.

Written here
    OLS, WLS, GLS, GLSAR, QuantReg, RLM, MixedLM (the mean of the fixed effects); GLM and GEE with every
    family and the links identity, log, logit, probit, cloglog, loglog, logc, sqrt, inverse, powers and
    negative binomial; Logit, Probit, MNLogit, Poisson, GeneralizedPoisson, NegativeBinomial(P); their
    regularized fits. Formulas of patsy with columns, categories of any coding, products of terms,
    arithmetic and numpy's functions.
Left to statsmodels (native plan)
    formulas of formulaic, splines and functions of the user's own; zero-inflated, ordered, conditional
    and hurdle models, beta regression, survival models, generalized additive models.
Refused
    time series: they forecast steps, not rows.

As statsmodels does, exposure and offset count as absent in new rows. A missing number gives NaN.
``predict`` gives an array here, without the index of a DataFrame.

Tested with statsmodels 0.14 and 0.15, patsy 1.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from infersdk.convert.plain_tables import as_frame, input_columns, packed
from infersdk.convert.plain_tables import edge_rows as rows_around
from infersdk.convert.registry import Written
from infersdk.convert.sklearn_graph import BATCH, Column, GraphBuilder
from infersdk.convert.statsmodels_formula import design, fields_of
from infersdk.convert.statsmodels_links import inverse_link, logistic, normal_cdf
from infersdk.errors import ConversionError, UnsupportedModelError
from infersdk.types import Field, Method, Signature, TensorSpec

__all__ = ["EXTRA", "FRAMEWORK", "call", "can_convert", "edge_rows", "infer_signature", "to_onnx"]

FRAMEWORK = "statsmodels"
EXTRA = "statsmodels"

_LINEAR = frozenset({"GLS", "GLSAR", "MixedLM", "OLS", "QuantReg", "RLM", "WLS"})
_COUNTS = frozenset({"GeneralizedPoisson", "NegativeBinomial", "NegativeBinomialP", "Poisson"})


def can_convert(model: Any) -> bool:
    """Whether ``model`` is the results object of a fitted statsmodels model, or an unfitted model."""
    return any(cls.__module__.split(".")[0] == "statsmodels" for cls in type(model).__mro__)


def infer_signature(model: Any, example: Any = None) -> Signature:
    """Describe the rows that ``results.predict`` takes.

    Parameters
    ----------
    model : statsmodels results
        What ``fit()`` returned.
    example : DataFrame or array, optional
        Rows as ``predict`` takes them; needed for formulas whose results hold no data any more.

    Returns
    -------
    Signature

    Raises
    ------
    UnsupportedModelError
        It is not fitted, or it forecasts steps in time.
    """
    source = _fitted(model)
    spec = _formula(source)
    frame = as_frame(example)
    fields: tuple[Field, ...]
    if spec is not None:
        if frame is None:
            frame = as_frame(getattr(source.data, "frame", None))
        if frame is None:
            raise UnsupportedModelError(
                "The columns of a formula are read from an example: pass rows as a DataFrame"
            )
        fields = fields_of(spec, frame)
    else:
        names = _names(model, source, frame)
        fields = tuple(Field(name, "float", "used") for name in names)
        if frame is not None and not set(names) <= set(frame.columns):
            raise UnsupportedModelError(
                f"Expected the columns {', '.join(names)} in the example, as in the model's exog; "
                f"got {', '.join(map(str, frame.columns))}. sm.add_constant() adds `const`"
            )
        fields = tuple(replace(item, missing="nan", infinity="allow") for item in fields)
    as_array = spec is None and frame is None and not _has_frame(source)
    fields, inputs = packed(fields, numbers="features" if as_array else "numbers")
    shape = (_n_classes(model),) if type(source).__name__ == "MNLogit" else ()
    return Signature(
        inputs=inputs,
        outputs=(TensorSpec("prediction", "float64", (BATCH, shape[0] if shape else 1)),),
        methods=(Method("predict", ("prediction",), dtype="float64", shape=shape),),
        fields=fields,
        container="array" if as_array else "dataframe",
    )


def to_onnx(
    model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
) -> Written:
    """Write the design matrix, its product with the parameters, and the link function.

    Parameters
    ----------
    model : statsmodels results
        Only read.
    signature : Signature
        From :func:`infer_signature`.
    example : optional
        Not needed.
    opset : int, optional
        18 by default.

    Returns
    -------
    Written

    Raises
    ------
    UnsupportedModelError
        The model, its link or its formula has no ONNX form.
    """
    source = _fitted(model)
    builder = GraphBuilder(opset)
    columns: Mapping[str, Column] = input_columns(builder, signature)
    spec = _formula(source)
    if spec is None:
        matrix = builder.matrix(tuple(columns[f.name] for f in signature.fields), "float64")
    elif hasattr(spec, "factor_infos"):
        matrix = design(builder, spec, columns)
    else:
        raise UnsupportedModelError(
            f"Formulas of {type(spec).__module__.split('.')[0]} are not written; fit with patsy, "
            "or on the columns themselves, for a plan without statsmodels"
        )
    mean = _mean(builder, model, source, matrix)
    (output,) = signature.outputs
    assert isinstance(output, TensorSpec)
    assert output.shape is not None
    shape = tuple(BATCH if size is None else size for size in output.shape)
    builder.output("prediction", mean, "float64", shape)
    notes: tuple[str, ...] = ()
    if getattr(source, "_has_offset", False) or getattr(source, "_has_exposure", False):
        notes = ("exposure and offset count as absent, as in predict() for new rows",)
    return Written(builder.build(type(source).__name__), notes)


def call(model: Any, method: str, rows: Any) -> Any:
    """What ``results.predict(rows)`` answers, as an array."""
    return np.asarray(getattr(model, method)(rows))


def edge_rows(
    model: Any, signature: Signature, example: Any, *, n_rows: int, rng: np.random.Generator
) -> Any:
    """Rows around the training data and far outside of it, with missing values.

    Parameters
    ----------
    model : statsmodels results
    signature : Signature
    example : rows or None
        The data that the model was fitted on where there is none.
    n_rows : int
    rng : numpy.random.Generator

    Returns
    -------
    DataFrame or ndarray of float64, n_rows rows
    """
    if example is None:
        data = _fitted(model).data
        example = getattr(data, "frame", None) if _formula(_fitted(model)) else data.exog
    return rows_around(signature, example, n_rows=n_rows, rng=rng)


# ---- reading the results


def _fitted(model: Any) -> Any:
    """The model class behind a results object."""
    source = getattr(model, "model", None)
    kind = type(model)
    if isinstance(model, type) or source is None or not hasattr(model, "predict"):
        raise UnsupportedModelError(
            f"Expected what fit() returned, got `{kind.__module__}.{kind.__qualname__}`. Pass "
            "`model.fit()`, its results object"
        )
    if ".duration." in type(source).__module__:
        raise UnsupportedModelError(
            f"statsmodels' {type(source).__name__} predicts a bundle of hazards, not a value for each row. "
            "Write its linear predictor, exog @ params, as a function of your own"
        )
    if ".tsa." in type(source).__module__:
        raise UnsupportedModelError(
            f"statsmodels' {type(source).__name__} forecasts steps in time, not rows: there is nothing "
            "to answer a row with. Serve its forecast() from a function of your own"
        )
    return source


def _formula(source: Any) -> Any:
    """The design information of a formula; None for a model of a matrix."""
    data = source.data
    spec = getattr(data, "model_spec", None)
    return spec if spec is not None else getattr(data, "design_info", None)


def _has_frame(source: Any) -> bool:
    return type(source.data).__name__ == "PandasData"


def _names(model: Any, source: Any, frame: Any) -> list[str]:
    """The columns of exog."""
    width = _width(model)
    names = source.exog_names
    if names is None:
        # After remove_data(); what the example has is taken by position, as predict() takes it.
        names = [f"x{i}" for i in range(width)] if frame is None else list(frame.columns)
        if len(names) != width:
            raise UnsupportedModelError(
                f"Expected {width} columns in the example, as in the model's exog, got {len(names)}"
            )
    # The names of further parameters come last, those of inflation first.
    inflated = type(source).__name__.startswith("ZeroInflated")
    return [str(name) for name in (names[-width:] if inflated else names[:width])]


def _params(model: Any) -> np.ndarray:
    params = model.fe_params if hasattr(model, "fe_params") else model.params
    return np.asarray(params, np.float64)


def _width(model: Any) -> int:
    """How many columns exog has; many models estimate further parameters."""
    source = model.model
    exog = getattr(source, "exog", None)
    if exog is not None:
        return int(np.shape(exog)[1])
    # After remove_data().
    extra = int(getattr(source, "k_extra", 0)) if type(source).__name__ in _COUNTS else 0
    return int(_params(model).shape[0]) - extra


def _n_classes(model: Any) -> int:
    return int(_params(model).shape[1]) + 1


# ---- writing


def _mean(builder: GraphBuilder, model: Any, source: Any, matrix: str) -> str:
    kind = type(source)
    name = kind.__name__ if kind.__module__.startswith("statsmodels.") else ""
    params = _params(model)
    if name == "MNLogit":
        # The first class is the one that the others are measured against.
        weights = np.column_stack([np.zeros(len(params)), params])
        scores = builder.op("MatMul", matrix, builder.constant(weights))
        return builder.op("Softmax", scores, axis=1)
    weights = params[: _width(model)].reshape(-1, 1)
    linear = builder.op("MatMul", matrix, builder.constant(weights))
    if name in _LINEAR:
        return linear
    if name in ("GEE", "GLM"):
        return inverse_link(builder, source.family.link, linear)
    if name == "Logit":
        return logistic(builder, linear)
    if name == "Probit":
        return normal_cdf(builder, linear)
    if name in _COUNTS:
        return builder.op("Exp", linear)
    raise ConversionError(
        f"statsmodels' {name or kind.__qualname__} is none of the models that are written: "
        f"{', '.join(sorted(_LINEAR | _COUNTS | {'GEE', 'GLM', 'Logit', 'MNLogit', 'Probit'}))}"
    )
