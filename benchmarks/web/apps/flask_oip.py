"""Flask with a model of images, by the Open Inference Protocol."""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask

from infersdk.web.flask import InferSDK

app = Flask(__name__)
InferSDK(
    app,
    models={"image": Path(os.environ["MODELS"]) / "image.onnx"},
    url_prefix="/models",
    protocols=("oip",),
)
