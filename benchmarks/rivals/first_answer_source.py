"""The pickled model in its own framework, from a bare interpreter."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.task import Task

label = "joblib.load, one-row DataFrame"


def setup(task: Task) -> None:
    global source, row
    source = task.source
    row = json.loads(task.inputs.with_suffix(".json").read_text())[0]


def run(i: int) -> Any:
    import joblib
    import pandas as pd

    return joblib.load(source).predict_proba(pd.DataFrame([row]))
