"""What a worker pays before its first answer: each figure is one call in a fresh process.

``import`` is the import alone, ``load`` a session on an artifact that is on disk (the import is done
before), ``first_answer`` everything from a bare interpreter to the first prediction.
"""

from __future__ import annotations

import json

from benchmarks.cases.rows_from_dicts import mixed_frame, train
from benchmarks.task import Task

__all__ = ["KIND", "RIVALS", "TITLE", "VARIANTS", "prepare"]

TITLE = "before the first answer, a fresh process each"
KIND = "fresh"
VARIANTS = ("import", "load", "first_answer")
RIVALS = {
    "import": ("import_numpy", "import_infersdk"),
    "load": ("load_onnxruntime", "load_infersdk"),
    "first_answer": ("first_answer_source", "first_answer_infersdk"),
}


def prepare(task: Task) -> None:
    if task.variant == "import":
        return
    import joblib

    import infersdk

    frame, labels = mixed_frame()
    model, frame = train("forest", frame, labels)
    joblib.dump(model, task.source)
    infersdk.convert(model, example=frame).save(task.model)
    rows = frame.head(1).to_dict("records")
    task.inputs.with_suffix(".json").write_text(json.dumps(rows))
