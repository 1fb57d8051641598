"""Serving a converted model: the Predictor, how many threads it may use, and what a run costs."""

from __future__ import annotations

from infersdk.runtime.calibration import Calibration
from infersdk.runtime.predictor import Predictor

__all__ = ["Calibration", "Predictor"]
