"""The artifact, from a bare interpreter."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.task import Task

label = "infersdk.load, dict row"


def setup(task: Task) -> None:
    global path, row
    path = task.model
    row = json.loads(task.inputs.with_suffix(".json").read_text())[0]


def run(i: int) -> Any:
    import infersdk

    predictor = infersdk.load(path, execution=infersdk.Execution(threads=1))
    return predictor.predict_proba(row)
