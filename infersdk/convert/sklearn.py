"""scikit-learn models: estimators, pipelines, column transformers, ensembles and searches.

The fitted model is written step by step, in float64, with scikit-learn's own arithmetic; trees become
one node each ensemble, with the scalers and imputers in front of them folded into their thresholds.
Estimators without a writer of their own go through sklearn-onnx. All numeric columns of a DataFrame
are one input, ``numbers``, and all text columns another, ``strings``; an array is ``features``.

Written here
    linear models, SVMs, MLPs, trees, forests, gradient boosting (also with categorical features),
    isolation forests, AdaBoost; voting, stacking, bagging, calibration, searches, thresholds; scalers,
    imputers, encoders (also infrequent, dropped, missing and unknown categories), feature selection,
    PCA and other projections, polynomials, splines, bins, power transforms; word counts, character
    n-grams, hashed words and tf-idf; naive Bayes, nearest neighbors, Gaussian processes, mixtures,
    discriminants; several targets; numpy's functions in a FunctionTransformer.
Through sklearn-onnx
    what has no writer here.
Left to scikit-learn (hybrid plan; native where nothing else would be left)
    transformers written in Python, subclasses of scikit-learn's classes, and what the table of models in
    docs/frameworks.md says; vectorizers of dicts. DataFrames as output make a model native.

XGBoost and LightGBM estimators inside a pipeline are written by their own converters.

Tested with scikit-learn 1.9; its fitted attributes are read, the model is never changed.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, Literal

import numpy as np

from infersdk.convert.registry import Written
from infersdk.convert.sklearn_columns import Layout, layout_of
from infersdk.convert.sklearn_edges import edge_rows
from infersdk.convert.sklearn_graph import BATCH, Column, Columns, GraphBuilder, Value
from infersdk.convert.sklearn_hybrid import Parts
from infersdk.convert.sklearn_probe import positional
from infersdk.convert.sklearn_writer import Kind, Writer
from infersdk.errors import MissingDependencyError, UnsupportedModelError
from infersdk.types import Labels, Method, Signature, TensorSpec

__all__ = ["EXTRA", "FRAMEWORK", "call", "can_convert", "edge_rows", "infer_signature", "to_onnx"]

FRAMEWORK = "scikit-learn"
EXTRA = "sklearn"

_KIND_OF: dict[str, Kind] = {
    "predict_proba": "proba",
    "predict_log_proba": "log_proba",
    "decision_function": "decision",
    "score_samples": "score_samples",
    "transform": "transform",
}
_OUTPUT_OF = {
    "predict_proba": "probabilities",
    "predict_log_proba": "log_probabilities",
    "decision_function": "decision",
    "score_samples": "scores",
    "transform": "transformed",
}


def can_convert(model: Any) -> bool:
    """Whether ``model`` is a scikit-learn estimator, or made of one."""
    return any(cls.__module__.split(".")[0] == "sklearn" for cls in type(model).__mro__)


def infer_signature(model: Any, example: Any = None) -> Signature:
    """Describe the rows a fitted model takes and the answers it gives.

    The model is asked for a few answers about one row (of the example, or made up).

    Parameters
    ----------
    model : sklearn.base.BaseEstimator
        Fitted.
    example : DataFrame, array, list of dict or list of str, optional
        Some rows of the training data. Without them, dtypes are read from the fitted steps.

    Returns
    -------
    Signature

    Raises
    ------
    UnsupportedModelError
        The model is not fitted, has nothing to answer, or its rows are neither a table of numbers and
        text nor text.
    """
    _check_fitted(model)
    layout = layout_of(model, example)
    methods: list[Method] = []
    outputs: dict[str, TensorSpec] = {}
    for name in ("predict", "transform", "predict_proba", "predict_log_proba", "decision_function"):
        _describe(model, name, layout, methods, outputs)
    _describe(model, "score_samples", layout, methods, outputs)
    if not methods:
        raise UnsupportedModelError(
            f"scikit-learn's {type(model).__name__} has none of the methods predict, transform, "
            "predict_proba, decision_function and score_samples for new rows, or refused to answer "
            "the example"
        )
    return Signature(
        inputs=layout.inputs,
        outputs=tuple(outputs.values()),
        methods=tuple(methods),
        fields=layout.fields,
        container=layout.container,
    )


def to_onnx(
    model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
) -> Written:
    """Write a fitted model as one ONNX graph.

    Parameters
    ----------
    model : sklearn.base.BaseEstimator
        Only read.
    signature : Signature
        From :func:`infer_signature`.
    example : optional
        Asked what parts that stay in scikit-learn answer.
    opset : int, optional
        Version of the default operator set, 18 by default.

    Returns
    -------
    Written
        The graph and notes about it. A method other than the first that has no exact ONNX form is
        left out: its output is not in the graph, and a note says why.

    Raises
    ------
    UnsupportedModelError
        The first method has no exact ONNX form; the message names the class and the reason.
    MissingDependencyError
        An estimator needs sklearn-onnx, which is not installed.
    """
    _register_writers()
    return _written(model, signature, example, opset, distrusts_others=False)


def _written(
    model: Any, signature: Signature, example: Any, opset: int | None, *, distrusts_others: bool
) -> Written:
    builder = GraphBuilder(opset)
    parts = Parts(model, signature, example, distrusts_others=distrusts_others)
    writer = Writer(builder, parts)
    columns = _input_columns(builder, signature)
    parts.rows_enter(columns)
    for position, method in enumerate(signature.methods):
        # A secondary method alone makes no model hybrid: scikit-learn answers it as a whole.
        parts.accepts_more = position == 0
        try:
            _write_method(writer, model, method, signature, columns)
        except UnsupportedModelError as exc:
            if position == 0:
                raise
            builder.notes.append(f"{method.name} is left out: {exc}")
    graph = builder.build(type(model).__name__)
    described, plan_parts = parts.finish(graph.graph)
    retry = None
    if parts.used_others and not distrusts_others:
        # Should what sklearn-onnx or a registered function wrote be wrong, scikit-learn runs just that.
        retry = partial(_written, model, signature, example, opset, distrusts_others=True)
    return Written(
        graph,
        tuple(builder.notes),
        signature=described,
        parts=plan_parts,
        sources=parts.sources,
        retry=retry,
    )


def call(model: Any, method: str, rows: Any) -> Any:
    """What the model itself answers; ``rows`` are in its own container."""
    with warnings.catch_warnings():
        # An unknown category that is ignored is warned about at each call.
        warnings.simplefilter("ignore")
        return getattr(model, method)(positional(model, rows))


def _register_writers() -> None:
    # Importing registers them; sklearn itself is not imported by these modules.
    from infersdk.convert import (  # noqa: F401
        sklearn_bayes,
        sklearn_calibration,
        sklearn_densities,
        sklearn_encoders,
        sklearn_ensembles,
        sklearn_functions,
        sklearn_imputers,
        sklearn_kernels,
        sklearn_linear,
        sklearn_multiclass,
        sklearn_neighbors,
        sklearn_numeric,
        sklearn_projections,
        sklearn_splines,
        sklearn_text,
        sklearn_thirdparty,
        sklearn_transformers,
        sklearn_trees,
        sklearn_unsupervised,
    )


def _check_fitted(model: Any) -> None:
    try:
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted
    except ImportError as exc:
        raise MissingDependencyError.for_extra(
            "scikit-learn", EXTRA, "A scikit-learn model"
        ) from exc
    if isinstance(model, type):
        raise UnsupportedModelError(
            f"Expected a fitted estimator, got the class {model.__name__} itself"
        )
    try:
        check_is_fitted(model)
    except NotFittedError as exc:
        raise UnsupportedModelError(
            f"Expected a fitted model, got an unfitted {type(model).__name__}. Call fit() first"
        ) from exc
    except TypeError as exc:
        raise UnsupportedModelError(
            f"Expected a scikit-learn estimator, got {type(model).__name__}: {exc}"
        ) from exc


# ---- methods


def _describe(
    model: Any,
    name: str,
    layout: Layout,
    methods: list[Method],
    outputs: dict[str, TensorSpec],
) -> None:
    """Add a method, if the model has it, and the graph output it is made of."""
    if not hasattr(model, name):
        return
    answer = None
    if layout.probe is not None:
        try:
            answer = call(model, name, layout.probe)
        except Exception:  # the model offers the method but cannot answer
            return
    head = "main" if not methods or name == "predict_proba" else name
    if isinstance(answer, list):
        # One array of probabilities for each of several targets.
        names = tuple(f"{_OUTPUT_OF.get(name, name)}_{index}" for index in range(len(answer)))
        for output, part in zip(names, answer, strict=True):
            outputs[output] = TensorSpec(output, "float64", (BATCH, np.shape(part)[1]))
        methods.append(Method(name, names, form="list", head=head))
        return
    shape = None if answer is None else tuple(int(size) for size in answer.shape[1:])
    if hasattr(answer, "columns"):
        answer = np.asarray(answer)  # a DataFrame
    if name == "predict":
        labels = _labels(model)
        if labels is not None and shape in ((), (1,), None):  # CatBoost answers a column
            outputs["label"] = TensorSpec("label", "int64", (BATCH,))
            methods.append(
                Method(name, ("label",), form="labels", labels=labels, shape=shape, head=head)
            )
            return
        if _gives_integers(model):
            outputs["prediction"] = TensorSpec("prediction", "int64", (BATCH,))
            dtype = "int64" if answer is None else str(answer.dtype)
            methods.append(Method(name, ("prediction",), dtype=dtype, shape=(), head=head))
            return
    output = _OUTPUT_OF.get(name, "prediction")
    dtype = "float64"
    if answer is not None and hasattr(answer, "dtype") and answer.dtype.kind in "fiub":
        dtype = str(answer.dtype)
    width: int | None = None
    if shape is not None:
        width = shape[0] if len(shape) == 1 else 1 if shape == () else None
    outputs[output] = TensorSpec(output, "float64", (BATCH, width))
    form: Literal["array", "sparse"] = "sparse" if hasattr(answer, "tocsr") else "array"
    methods.append(Method(name, (output,), form=form, dtype=dtype, shape=shape, head=head))


def _labels(model: Any) -> Labels | None:
    classes = getattr(model, "classes_", None)
    from sklearn.base import is_classifier

    if classes is None or not is_classifier(model) or not isinstance(classes, np.ndarray):
        return None
    if classes.ndim != 1 or classes.dtype.kind not in "OUSbiuf":
        return None
    values = tuple(value.item() if isinstance(value, np.generic) else value for value in classes)
    return Labels(values, str(classes.dtype))


def _gives_integers(model: Any) -> bool:
    """Whether ``predict`` answers with a cluster, a component, or -1 and 1."""
    last = model
    while hasattr(last, "steps") or hasattr(last, "best_estimator_"):
        last = last.best_estimator_ if hasattr(last, "best_estimator_") else last.steps[-1][1]
    kinds = ("ClusterMixin", "OutlierMixin", "BaseMixture")
    return any(cls.__name__ in kinds for cls in type(last).__mro__)


def _input_columns(builder: GraphBuilder, signature: Signature) -> Columns:
    values: dict[str, Value] = {}
    for spec in signature.inputs:
        if not isinstance(spec, TensorSpec) or spec.shape is None:
            raise UnsupportedModelError(f"Expected a tensor as input `{spec.name}`, got {spec}")
        shape = _shape(spec)
        value = builder.input(spec.name, spec.dtype, shape)
        if len(shape) == 1:
            flat = builder.op("Reshape", value.name, builder.constant([-1, 1], np.int64))
            value = builder.value(flat, spec.dtype, 1)
        values[spec.name] = value
    if signature.container == "text":
        return values[signature.inputs[0].name].columns()

    def unread() -> str:
        raise UnsupportedModelError(
            "A column that the model was found not to use is read after all"
        )

    return tuple(
        Column(builder.lazy("string" if item.dtype == "string" else "float64", 1, unread), 0)
        if item.input is None
        else Column(values[item.input], item.column, whole=item.dtype in ("bool", "int"))
        for item in signature.fields
    )


def _write_method(
    writer: Writer, model: Any, method: Method, signature: Signature, columns: Columns
) -> None:
    builder = writer.builder
    specs = {spec.name: spec for spec in signature.outputs if isinstance(spec, TensorSpec)}
    spec = specs[method.outputs[0]]
    shape = _shape(spec)
    if method.form == "list":
        if method.name != "predict_proba":
            raise UnsupportedModelError(
                f"{type(model).__name__}.{method.name} answers for several targets at once"
            )
        for output, part in zip(
            method.outputs, writer.write("proba_list", model, columns), strict=True
        ):
            builder.output(output, part, "float64", _shape(specs[output]))
        return
    if method.name == "transform":
        if _gives_frames(model):
            raise UnsupportedModelError(
                f"{type(model).__name__}.transform gives a DataFrame. Call "
                'set_output(transform="default") for arrays, which ONNX can give'
            )
        made = writer.transform(model, columns)
        name = writer.numbers(made)
    elif method.name == "predict":
        name = writer.write("label" if method.form == "labels" else "predict", model, columns)
    else:
        name = writer.write(_KIND_OF[method.name], model, columns)
    builder.output(spec.name, name, spec.dtype, shape)


def _shape(spec: TensorSpec) -> tuple[int | str, ...]:
    return tuple(BATCH if size is None else size for size in spec.shape or ())


def _gives_frames(model: Any) -> bool:
    from sklearn import get_config

    last = model
    while hasattr(last, "steps"):
        last = last.steps[-1][1]
    own = getattr(last, "_sklearn_output_config", {}).get("transform")
    return (own or get_config().get("transform_output", "default")) != "default"
