"""The artifact, given the text as it is; infersdk decides how a run is made."""

from __future__ import annotations

import json
from typing import Any

import infersdk
from benchmarks.task import Task

label = "infersdk Predictor.encode"


def setup(task: Task) -> None:
    global encode, texts
    texts = json.loads(task.inputs.with_suffix(".json").read_text())
    execution = infersdk.Execution(threads=1)
    encode = infersdk.load(task.model, example=texts[:64], execution=execution).encode


def run(i: int) -> Any:
    return encode(texts[i % len(texts)])
