"""A Flask app that was there before infersdk: one line of it is new.

    gunicorn --workers 2 examples.flask_accelerate:app
    curl --json '{"alcohol": 13.2, "hue": 1.05, "magnesium": 127}' localhost:8000/wine

The forest answers the first calls itself. After a while its ONNX form does, in a hundredth of the time;
``/report`` says how far it is in this worker.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from flask import Flask, request
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import infersdk

COLUMNS = ["alcohol", "hue", "magnesium"]

app = Flask(__name__)
X, y = load_wine(return_X_y=True, as_frame=True)
model = make_pipeline(StandardScaler(), RandomForestClassifier(200, random_state=0))
model.fit(X[COLUMNS], y)


@app.post("/wine")
@infersdk.accelerate  # the new line
def wine() -> dict[str, Any]:
    row = pd.DataFrame([request.get_json()], columns=COLUMNS)
    return {"probabilities": model.predict_proba(row)[0].tolist()}


@app.get("/report")
def report() -> str:
    return f"{wine.report()}\n"
