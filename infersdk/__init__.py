"""Any trained model inside your Flask, Django or FastAPI app, at native speed."""

from __future__ import annotations

from infersdk.api import convert, load
from infersdk.artifact import Artifact
from infersdk.errors import (
    ArtifactError,
    ClosedError,
    ConversionError,
    InferSDKError,
    InputError,
    MissingDependencyError,
    ParityError,
    SessionError,
    UnsupportedModelError,
)
from infersdk.options import Execution
from infersdk.runtime import Calibration, Predictor
from infersdk.types import ParityReport, Plan, Signature

__all__ = [
    "Artifact",
    "ArtifactError",
    "Calibration",
    "ClosedError",
    "ConversionError",
    "Execution",
    "InferSDKError",
    "InputError",
    "MissingDependencyError",
    "ParityError",
    "ParityReport",
    "Plan",
    "Predictor",
    "SessionError",
    "Signature",
    "UnsupportedModelError",
    "convert",
    "load",
]
