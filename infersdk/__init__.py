"""Any trained model inside your Flask, Django or FastAPI app, at native speed."""

from __future__ import annotations

from infersdk import _native as _native  # first: it refuses to be where it would not work
from infersdk.api import convert, load
from infersdk.artifact import Artifact
from infersdk.decorators import accelerate, batched
from infersdk.errors import (
    AbandonedError,
    ArtifactError,
    ClosedError,
    ConversionError,
    DeadlineError,
    InferSDKError,
    InputError,
    MissingDependencyError,
    OverloadedError,
    ParityError,
    PrecisionError,
    SessionError,
    UnknownModelError,
    UnsupportedModelError,
)
from infersdk.options import Batching, Execution
from infersdk.predictors import ModelConfig, Predictors, current_predictors
from infersdk.runtime import Calibration, Predictor
from infersdk.types import ParityReport, Plan, PrecisionReport, Signature

__all__ = [
    "AbandonedError",
    "Artifact",
    "ArtifactError",
    "Batching",
    "Calibration",
    "ClosedError",
    "ConversionError",
    "DeadlineError",
    "Execution",
    "InferSDKError",
    "InputError",
    "MissingDependencyError",
    "ModelConfig",
    "OverloadedError",
    "ParityError",
    "ParityReport",
    "Plan",
    "PrecisionError",
    "PrecisionReport",
    "Predictor",
    "Predictors",
    "SessionError",
    "Signature",
    "UnknownModelError",
    "UnsupportedModelError",
    "accelerate",
    "batched",
    "convert",
    "current_predictors",
    "load",
]
