"""The model in its own framework, on a one-row DataFrame."""

from __future__ import annotations

import json
from typing import Any

import joblib
import pandas as pd

from benchmarks.task import Task

label = "source model, DataFrame row"


def setup(task: Task) -> None:
    global model, rows, columns
    model = joblib.load(task.source)
    rows = json.loads(task.inputs.with_suffix(".json").read_text())
    columns = list(rows[0])


def run(i: int) -> Any:
    return model.predict_proba(pd.DataFrame([rows[i % len(rows)]], columns=columns))
