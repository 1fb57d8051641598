"""FastAPI with infersdk's routes mounted: two lines in an app that is there already."""

from __future__ import annotations

import os
from pathlib import Path

from fastapi import FastAPI

from infersdk.web.fastapi import InferSDK

app = FastAPI()
infer = InferSDK(
    app, models={"forest": Path(os.environ["MODELS"]) / "forest.onnx"}, url_prefix="/models"
)
