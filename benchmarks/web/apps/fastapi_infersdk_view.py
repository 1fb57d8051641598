"""FastAPI with an endpoint of the app's own, whose body FastAPI reads and checks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI

from infersdk.runtime import Predictor
from infersdk.web.fastapi import InferSDK

app = FastAPI()
infer = InferSDK(app, models={"forest": Path(os.environ["MODELS"]) / "forest.onnx"})
Forest = Annotated[Predictor, Depends(infer.predictor("forest"))]


@app.post("/predict")
async def predict(row: dict[str, float], forest: Forest) -> dict[str, list[list[float]]]:
    answers = await forest.apredict(row, method="predict_proba")
    return {"answers": answers.tolist()}
