"""infersdk's own ASGI application, served as it is."""

from __future__ import annotations

import os
from pathlib import Path

from infersdk.web.asgi import InferSDK

infer = InferSDK(
    models={"forest": Path(os.environ["MODELS"]) / "forest.onnx"}, url_prefix="/models"
)
app = infer.app
