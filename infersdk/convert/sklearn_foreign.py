"""Estimators that other converters write: sklearn-onnx's, and this package's for boosted trees.

An estimator without a writer of its own is converted alone by sklearn-onnx, over one matrix, and its
nodes are copied into the graph. float64 is asked for wherever sklearn-onnx and ONNX Runtime can do it.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from infersdk.convert.sklearn_graph import ML_OPSET, Columns
from infersdk.convert.sklearn_writer import Kind, Writer, unsupported
from infersdk.errors import InferSDKError, MissingDependencyError, UnsupportedModelError

__all__ = ["leaf", "other_framework"]

# Classes whose nodes ONNX Runtime has for float32 only.
_FLOAT32_ONLY = frozenset({"AdaBoostRegressor", "CategoricalNB", "NuSVC", "SVC"})

_SOLVES = "it solves an optimization of its own for every row"

# What neither is written here nor by sklearn-onnx, in the words of what they do.
_REFUSED = {
    "DictVectorizer": "its rows are dicts of any keys, which no graph takes",
    "FeatureHasher": "its rows are dicts of any keys, which no graph takes",
    "BernoulliRBM": "its scores are drawn at random",
    "DictionaryLearning": _SOLVES,
    "LatentDirichletAllocation": _SOLVES,
    "LocallyLinearEmbedding": "it solves a system of equations for every row",
    "MiniBatchDictionaryLearning": _SOLVES,
    "MiniBatchNMF": _SOLVES,
    "NMF": _SOLVES,
    "SparseCoder": _SOLVES,
}

_CONVERTERS = {"catboost": "catboost", "lightgbm": "lightgbm", "xgboost": "xgboost"}

_CATEGORIES = (
    "its categorical features belong to a DataFrame of its own. Load the booster alone, or encode them "
    "in a step before it"
)


def leaf(kind: Kind) -> Callable[..., Any]:
    """The function that writes one kind of answer of an estimator through sklearn-onnx."""
    return partial(_leaf, kind)


def _leaf(kind: Kind, writer: Writer, model: Any, columns: Columns) -> Any:
    outputs, dtype = _converted(writer, model, columns)
    builder = writer.builder
    if kind == "transform" and not hasattr(model, "predict"):
        name = outputs.get("variable") or next(iter(outputs.values()))
        width = _width(model, columns)
        return writer.new(builder.cast(name, dtype, "float64"), width)
    if kind == "label" and "label" in outputs:
        return builder.op("Reshape", outputs["label"], builder.constant([-1], np.int64))
    if kind == "proba" and "probabilities" in outputs:
        return builder.cast(outputs["probabilities"], dtype, "float64")
    if kind == "predict" and len(outputs) == 1:
        name = next(iter(outputs.values()))
        width = int(getattr(model, "n_outputs_", 0) or _target_width(model))
        name = builder.op("Reshape", name, builder.constant([-1, width], np.int64))
        return builder.cast(name, dtype, "float64")
    if kind == "predict" and "label" in outputs and not hasattr(model, "classes_"):
        return builder.op("Reshape", outputs["label"], builder.constant([-1], np.int64))
    raise unsupported(model, f"its {kind.replace('_', ' ')} is not written by sklearn-onnx")


def _converted(writer: Writer, model: Any, columns: Columns) -> tuple[dict[str, str], str]:
    name = type(model).__name__
    if name in _REFUSED:
        raise unsupported(model, _REFUSED[name])
    dtype = "float32" if name in _FLOAT32_ONLY else "float64"
    matrix = writer.numbers(columns, dtype)
    key = ("converted", id(model), matrix)
    cache = writer.leaves
    if key not in cache:
        proto = _convert(model, len(columns), dtype, writer.builder.opset)
        cache[key] = writer.builder.splice(proto, {"X": matrix})
    return cache[key], dtype


def _convert(model: Any, width: int, dtype: str, opset: int) -> Any:
    try:
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    except ImportError as exc:
        raise MissingDependencyError.for_extra(
            "skl2onnx", "sklearn", f"Converting scikit-learn's {type(model).__name__}"
        ) from exc
    _check_protobuf()
    tensor = FloatTensorType if dtype == "float32" else DoubleTensorType
    failure: Exception | None = None
    # Options that a class does not have are refused, not ignored.
    for options in ({"zipmap": False, "nocl": True}, {"nocl": True}, {"zipmap": False}, None):
        if failure is not None and not isinstance(failure, NameError):
            break
        if options is not None and "nocl" not in options and not _labels_are_indices(model):
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return convert_sklearn(
                    model,
                    initial_types=[("X", tensor([None, width]))],
                    target_opset={"": opset, "ai.onnx.ml": ML_OPSET},
                    options=None if options is None else {id(model): options},
                )
        except Exception as exc:  # sklearn-onnx raises of every kind
            failure = exc
    text = " ".join(str(failure).split())[:200]
    raise unsupported(model, f"sklearn-onnx cannot write it ({text})") from failure


def _labels_are_indices(model: Any) -> bool:
    """Whether a graph that answers labels, which it does without `nocl`, answers indices all the same."""
    classes = getattr(model, "classes_", None)
    return classes is None or np.array_equal(classes, np.arange(len(classes)))


def _check_protobuf() -> None:
    import google.protobuf

    if int(google.protobuf.__version__.split(".")[0]) >= 7:
        raise UnsupportedModelError(
            f"sklearn-onnx needs protobuf before 7, got {google.protobuf.__version__}. "
            'Install it with: pip install "protobuf>=6.31.1,<7"'
        )


def _width(model: Any, columns: Columns) -> int:
    """How many columns a transformer makes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = model.transform(np.zeros((1, len(columns))))
    return int(made.shape[1])


def _target_width(model: Any) -> int:
    for name in ("y_train_", "_y", "coef_"):
        values = np.asarray(getattr(model, name, 0.0))
        if values.ndim == 2 and name != "coef_":
            return int(values.shape[1])
        if values.ndim == 2:
            return int(values.shape[0])
    return 1


def other_framework(kind: Kind, estimator: Any) -> Callable[..., Any]:
    """The function that writes an estimator of XGBoost, LightGBM or CatBoost inside a scikit-learn model.

    Raises
    ------
    UnsupportedModelError
        The estimator is of neither, or the user's own.
    """
    root = type(estimator).__module__.split(".")[0]
    if root not in _CONVERTERS:
        raise unsupported(
            estimator, "it is not a class of scikit-learn, XGBoost, LightGBM or CatBoost"
        )
    converter = importlib.import_module(f"infersdk.convert.{_CONVERTERS[root]}")
    if not converter.can_convert(estimator):
        raise unsupported(estimator, "its own converter does not take it")
    return partial(_boosted, converter, kind)


def _boosted(converter: Any, kind: Kind, writer: Writer, model: Any, columns: Columns) -> str:
    wanted = {"label": "predict", "predict": "predict", "proba": "predict_proba"}.get(kind)
    builder = writer.builder
    if getattr(model, "get_cat_feature_indices", list)():  # CatBoost's
        raise unsupported(model, _CATEGORIES)
    matrix = writer.numbers(columns, "float32")
    key = ("boosted", id(model), matrix)
    cache = writer.leaves
    if key not in cache:
        try:
            signature = converter.infer_signature(model, None)
            if any(f.encoding == "code" or f.dtype == "string" for f in signature.fields):
                raise unsupported(model, _CATEGORIES)
            written = converter.to_onnx(model, signature, opset=builder.opset)
        except InferSDKError:
            raise
        except Exception as exc:
            raise unsupported(model, f"its converter failed ({exc})") from exc
        for note in written.notes:
            writer.note(note)
        # LightGBM has a float64 input of its own for columns that float32 cannot tell apart.
        feeds = {
            spec.name: writer.numbers(
                tuple(
                    column
                    for column, field in zip(columns, signature.fields, strict=True)
                    if field.input == spec.name
                ),
                spec.dtype,
            )
            for spec in signature.inputs
        }
        outputs = builder.splice(written.graph, feeds)
        cache[key] = (signature, outputs)
    signature, outputs = cache[key]
    method = None if wanted is None else signature.method(wanted)
    if method is None or len(method.outputs) != 1 or method.form not in ("array", "labels"):
        raise unsupported(model, f"its {kind.replace('_', ' ')} is not written")
    name = outputs[method.outputs[0]]
    dtype = next(spec.dtype for spec in signature.outputs if spec.name == method.outputs[0])
    if kind == "label":
        if method.form != "labels":
            raise unsupported(model, "it answers several labels at once")
        return builder.op("Reshape", name, builder.constant([-1], np.int64))
    if method.labels is not None and method.labels.values != tuple(
        range(len(method.labels.values))
    ):
        raise unsupported(model, "its labels are no numbers that could be computed with")
    return builder.cast(name, dtype, "float64")
