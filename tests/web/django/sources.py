"""Models that settings name as ``"tests.web.django.sources:iris"``."""

from __future__ import annotations

import os
from pathlib import Path

import infersdk

__all__ = ["iris", "not_callable", "path"]

path: str | None = None
"""Where ``iris`` finds its file; tests set it."""

not_callable = 5


def iris() -> infersdk.Predictor:
    """Open the model that `path`, or the environment, names."""
    return infersdk.load(path or Path(os.environ["DJANGO_TEST_MODELS"]) / "iris.onnx")
