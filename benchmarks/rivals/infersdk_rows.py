"""The artifact, given the dict as it is."""

from __future__ import annotations

import json
from typing import Any

import infersdk
from benchmarks.task import Task

OWN = ("benchmarks.own_step.Shares",)
label = "infersdk Predictor.predict_proba"


def setup(task: Task) -> None:
    global call, rows
    execution = infersdk.Execution(threads=1)
    call = infersdk.load(task.model, trust=OWN, execution=execution).predict_proba
    rows = json.loads(task.inputs.with_suffix(".json").read_text())


def run(i: int) -> Any:
    return call(rows[i % len(rows)])
