"""One decoded JSON row, a dict, to class probabilities: what a request asks of a tabular model.

The rival is the source model itself, which takes a one-row DataFrame; making that DataFrame is part
of its answer, as it is in an app. infersdk serves the artifact of the same model. "hybrid" is the forest behind one
more step, an app's own, which stays in scikit-learn.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.task import Task

__all__ = ["KIND", "RIVALS", "TITLE", "VARIANTS", "mixed_frame", "prepare", "train"]

TITLE = "one dict row to predict_proba, one thread"
KIND = "calls"
VARIANTS = ("logistic", "forest", "hist_gradient_boosting", "hybrid", "xgboost", "lightgbm")
RIVALS = dict.fromkeys(VARIANTS, ("source_model", "infersdk_rows"))

N_ROWS = 256


def prepare(task: Task) -> None:
    import joblib

    import infersdk

    frame, labels = mixed_frame()
    model, frame = train(task.variant, frame, labels)
    joblib.dump(model, task.source)
    infersdk.load(model, example=frame).save(task.model)
    rows = frame.sample(N_ROWS, random_state=7).to_dict("records")
    task.inputs.with_suffix(".json").write_text(json.dumps(rows))


def mixed_frame() -> tuple[Any, Any]:
    """Breast cancer, 569 rows: 28 measurements, and two more as a clinic might note them, in words."""
    import pandas as pd
    from sklearn.datasets import load_breast_cancer

    frame, labels = load_breast_cancer(return_X_y=True, as_frame=True)
    frame.columns = [name.replace(" ", "_") for name in frame.columns]
    for name in ("mean_radius", "mean_texture"):
        thirds = pd.qcut(frame[name], 3, labels=["small", "medium", "large"])
        frame[name] = thirds.astype(str)
    return frame, labels


def train(variant: str, frame: Any, labels: Any) -> tuple[Any, Any]:
    """The fitted model, and the frame of what it takes."""
    words = [name for name in frame.columns if name in ("mean_radius", "mean_texture")]
    numbers = frame.columns.drop(words)
    match variant:
        case "xgboost":
            from xgboost import XGBClassifier

            model: Any = XGBClassifier(n_estimators=200, max_depth=6, n_jobs=1, random_state=7)
        case "lightgbm":
            from lightgbm import LGBMClassifier

            model = LGBMClassifier(n_estimators=200, n_jobs=1, random_state=7, verbose=-1)
        case _:
            model = _pipeline(variant, list(numbers), words)
            return model.fit(frame, labels), frame
    frame = frame[numbers]
    return model.fit(frame, labels), frame


def _pipeline(variant: str, numbers: list[str], words: list[str]) -> Any:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from benchmarks.own_step import Shares

    final = {
        "logistic": lambda: LogisticRegression(max_iter=1000),
        "forest": lambda: RandomForestClassifier(200, random_state=7, n_jobs=1),
        "hybrid": lambda: RandomForestClassifier(200, random_state=7, n_jobs=1),
        "hist_gradient_boosting": lambda: HistGradientBoostingClassifier(random_state=7),
    }[variant]()
    scale = StandardScaler() if variant == "logistic" else "passthrough"
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    steps = [("numbers", scale, numbers), ("words", encode, words)]
    if variant == "hybrid":
        steps.append(("own", Shares(), numbers[:4]))
    return make_pipeline(ColumnTransformer(steps), final)
