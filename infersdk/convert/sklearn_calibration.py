"""Calibrated probabilities, and decision thresholds of one's own."""

from __future__ import annotations

from typing import Any

import numpy as np

from infersdk.convert.sklearn_ensembles import average, delegate, response
from infersdk.convert.sklearn_graph import Columns
from infersdk.convert.sklearn_linear import logistic, two_classes
from infersdk.convert.sklearn_numeric import interpolated
from infersdk.convert.sklearn_writer import Writer, unsupported, writes

# ---- calibration


@writes("proba", "CalibratedClassifierCV")
def _calibrated_proba(writer: Writer, model: Any, columns: Columns) -> str:
    parts = [_calibrated(writer, model, part, columns) for part in model.calibrated_classifiers_]
    return average(writer, parts, None)


def _calibrated(writer: Writer, model: Any, part: Any, columns: Columns) -> str:
    builder = writer.builder
    n_classes = len(part.classes)
    estimator = part.estimator
    is_decision = hasattr(estimator, "decision_function")
    method = "decision_function" if is_decision else "predict_proba"
    name, width = response(writer, method, estimator, columns)
    if part.method == "temperature":
        return _temperature(writer, part.calibrators[0], name, width, is_decision)
    if n_classes == 2:
        upper = builder.op("Gather", name, builder.constant([width - 1], np.int64), axis=1)
        return two_classes(writer, _calibrate(writer, model, part.calibrators[0], upper))
    if width != n_classes or len(part.calibrators) != n_classes:
        raise unsupported(model, "one of its folds did not see every class")
    scores = [
        _calibrate(
            writer,
            model,
            calibrator,
            builder.op("Gather", name, builder.constant([index], np.int64), axis=1),
        )
        for index, calibrator in enumerate(part.calibrators)
    ]
    proba = builder.op("Concat", *scores, axis=1)
    total = builder.op("ReduceSum", proba, builder.constant([1], np.int64))
    zero = builder.op("Equal", total, builder.constant(0.0, np.float64))
    safe = builder.op("Where", zero, builder.constant(1.0, np.float64), total)
    alike = builder.constant(1.0 / n_classes, np.float64)
    return builder.op("Where", zero, alike, builder.op("Div", proba, safe))


def _calibrate(writer: Writer, model: Any, calibrator: Any, name: str) -> str:
    builder = writer.builder
    if hasattr(calibrator, "a_"):
        # Platt (1999): 1 / (1 + exp(a f + b)).
        scaled = builder.op("Mul", name, builder.constant(-float(calibrator.a_), np.float64))
        return logistic(
            writer, builder.op("Sub", scaled, builder.constant(float(calibrator.b_), np.float64))
        )
    if not hasattr(calibrator, "X_thresholds_"):
        raise unsupported(model, f"its calibrator {type(calibrator).__name__} is not known")
    x = np.asarray(calibrator.X_thresholds_, np.float64)
    return interpolated(writer, name, x, np.asarray(calibrator.y_thresholds_, np.float64))


def _temperature(writer: Writer, calibrator: Any, name: str, width: int, is_decision: bool) -> str:
    builder = writer.builder
    if is_decision:
        if width == 1:
            name = builder.op("MatMul", name, builder.constant([[-1.0, 1.0]], np.float64))
    else:
        tiny = builder.constant(1e-12, np.float64)  # as in sklearn.calibration._convert_to_logits
        name = builder.op("Log", builder.op("Add", name, tiny))
    scaled = builder.op("Mul", name, builder.constant(float(calibrator.beta_), np.float64))
    return builder.op("Softmax", scaled, axis=1)


# ---- thresholds


@writes("label", "FixedThresholdClassifier", "TunedThresholdClassifierCV")
def _threshold_label(writer: Writer, model: Any, columns: Columns) -> str:
    builder = writer.builder
    estimator = getattr(model, "estimator_", None) or model.estimator
    method = model._get_response_method()
    if not isinstance(method, str):
        method = next(name for name in method if hasattr(estimator, name))
    positive = getattr(model, "pos_label", None)
    if hasattr(model, "best_threshold_"):
        threshold = float(model.best_threshold_)
        positive = model._curve_scorer._get_pos_label()
    elif model.threshold == "auto":
        threshold = 0.5 if method == "predict_proba" else 0.0
    else:
        threshold = float(model.threshold)
    classes = list(estimator.classes_)
    index = 1 if positive is None else classes.index(positive)
    name, width = response(writer, method, estimator, columns)
    if width == 1:
        flat = builder.op("Reshape", name, builder.constant([-1], np.int64))
        score = flat if index == 1 else builder.op("Neg", flat)
    else:
        score = builder.op("Gather", name, builder.constant(index, np.int64), axis=1)
    reached = builder.op("GreaterOrEqual", score, builder.constant(threshold, np.float64))
    hit = builder.cast(reached, "bool", "int64")
    return hit if index == 1 else builder.op("Sub", builder.constant(1, np.int64), hit)


for _kind in ("proba", "log_proba", "decision"):
    delegate(_kind, "estimator_", "FixedThresholdClassifier")
