"""What people begin with: the model as joblib wrote it, and a DataFrame of the request."""

from __future__ import annotations

import os
from pathlib import Path

import joblib
import pandas as pd
from flask import Flask, Response, jsonify, request

app = Flask(__name__)
model = joblib.load(Path(os.environ["MODELS"]) / "forest.joblib")


@app.post("/predict")
def predict() -> Response:
    row = pd.DataFrame([request.get_json()])
    return jsonify(answers=model.predict_proba(row).tolist())
