"""infersdk's own ASGI application with a model of images, by the Open Inference Protocol."""

from __future__ import annotations

import os
from pathlib import Path

from infersdk.web.asgi import InferSDK

infer = InferSDK(
    models={"image": Path(os.environ["MODELS"]) / "image.onnx"},
    url_prefix="/models",
    protocols=("oip",),
)
app = infer.app
