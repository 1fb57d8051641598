"""Exported by skl2onnx and run by ONNX Runtime, by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnxruntime
from flask import Flask, Response, jsonify, request

app = Flask(__name__)
folder = Path(os.environ["MODELS"])
features = json.loads((folder / "features.json").read_text())
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    folder / "skl2onnx.onnx", options, providers=["CPUExecutionProvider"]
)


@app.post("/predict")
def predict() -> Response:
    row = request.get_json()
    x = np.array([[row[name] for name in features]], dtype=np.float32)
    (probabilities,) = session.run(["probabilities"], {"X": x})
    return jsonify(answers=probabilities.tolist())
