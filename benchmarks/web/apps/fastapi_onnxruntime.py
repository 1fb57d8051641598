"""FastAPI and ONNX Runtime by hand, the way FastAPI's tutorial goes: a typed body, a dict returned.

``async def``: a plain ``def`` would go to a thread, which takes longer than the model does.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
from fastapi import FastAPI

app = FastAPI()
folder = Path(os.environ["MODELS"])
features = json.loads((folder / "features.json").read_text())
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    folder / "skl2onnx.onnx", options, providers=["CPUExecutionProvider"]
)


@app.post("/predict")
async def predict(row: dict[str, float]) -> dict[str, list[list[float]]]:
    x = np.array([[row[name] for name in features]], dtype=np.float32)
    (probabilities,) = session.run(["probabilities"], {"X": x})
    return {"answers": probabilities.tolist()}
