"""Flask with a view of the app's own, which infersdk answers."""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask, Response

from infersdk.web.flask import InferSDK

app = Flask(__name__)
infer = InferSDK(app, models={"forest": Path(os.environ["MODELS"]) / "forest.onnx"})


@app.post("/predict")
def predict() -> Response:
    return infer.answer("forest", "predict_proba")
