"""Flask with infersdk's routes mounted: two lines in an app that is there already."""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask

from infersdk.web.flask import InferSDK

app = Flask(__name__)
models = {"forest": Path(os.environ["MODELS"]) / "forest.onnx"}
infer = InferSDK(app, models=models, url_prefix="/models")
