"""A FastAPI app with a model in it: the models' own routes behind a key, and endpoints of the app's own.

    uvicorn --workers 2 examples.fastapi_app:app
    granian --interface asgi --workers 2 examples.fastapi_app:app

Programs ask the routes below ``/models``, with a key in ``X-Api-Key``; ``API_KEY`` in the environment sets another.
``/docs`` documents them all, with schemas made from the model.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Security
from fastapi.security import APIKeyHeader

from infersdk import Predictor, load
from infersdk.web.fastapi import InferSDK

KINDS = ("setosa", "versicolor", "virginica")


def iris_model() -> Predictor:
    """Train a model. Yours comes out of a file: ``InferSDK(app, models={"iris": "iris.onnx"})``."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    X, y = load_iris(return_X_y=True, as_frame=True)
    X.columns = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    return load(LogisticRegression(max_iter=500).fit(X, y), example=X, name="iris")


async def let_in(
    key: Annotated[str | None, Security(APIKeyHeader(name="X-Api-Key", auto_error=False))],
) -> None:
    """Ask programs for their key."""
    if not hmac.compare_digest((key or "").encode(), os.environ.get("API_KEY", "secret").encode()):
        raise HTTPException(401, "The header X-Api-Key is missing or wrong")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """The app's own start and stop; the models are open within."""
    yield {"started_with": infer.predictors["iris"].plan.kind}


app = FastAPI(title="Flowers", lifespan=lifespan)
infer = InferSDK(models={"iris": iris_model}, url_prefix="/models")
infer.init_app(app, dependencies=[Depends(let_in)])

Iris = Annotated[Predictor, Depends(infer.predictor("iris"))]
if TYPE_CHECKING:
    from infersdk.web.pydantic_rows import Row as Flower
else:
    Flower = infer.row_model("iris")


@app.post("/flowers")
async def name_it(flower: Flower, iris: Iris) -> dict[str, str]:
    """An endpoint of one's own: FastAPI checks the row, the model answers without holding up the loop."""
    (kind,) = await iris.apredict(flower.model_dump())
    return {"kind": KINDS[kind]}
