"""A Flask handler around a pipeline."""

import os
from pathlib import Path

import joblib
import pandas as pd
from flask import Flask, jsonify, request

import infersdk

app = Flask(__name__)
pipeline = joblib.load(Path(os.environ["MODELS"]) / "pipeline.joblib")
CLASSES = ["stays", "leaves"]


@app.post("/predict")
@infersdk.accelerate
def predict():
    payload = request.get_json()
    if not isinstance(payload, dict):
        return jsonify(error="expected one customer, a JSON object"), 400
    row = pd.DataFrame([payload])
    probabilities = pipeline.predict_proba(row)[0].tolist()
    best = max(range(len(CLASSES)), key=probabilities.__getitem__)
    return jsonify(
        answer=CLASSES[best],
        probability=probabilities[best],
        all=dict(zip(CLASSES, probabilities, strict=True)),
    )
