"""One model that answers at once, and one that waits for a file, in a FastAPI app and over RSGI.

``GATE`` is the file; without it the slow model answers nothing. Each process that opens the models adds its id
to ``OPENED``. ``/process`` says which process answers, ``/stats`` what became of the slow model's calls.
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any, Self

import numpy as np
from fastapi import FastAPI
from sklearn.base import BaseEstimator, ClassifierMixin

import infersdk
from infersdk.web.fastapi import InferSDK

_GATE = Path(os.environ["GATE"])


class Gated(ClassifierMixin, BaseEstimator):
    """Answers 0 once the gate is there. It has no ONNX form, so it runs as it is.

    Attributes
    ----------
    waits : bool
        Not while it is loaded and tried out.
    """

    waits = False

    def fit(self, X: Any, y: Any) -> Self:
        self.classes_ = np.unique(y)
        self.n_features_in_ = np.shape(X)[1]
        return self

    def predict(self, X: Any) -> Any:
        pause = threading.Event()
        while self.waits and not _GATE.exists():
            pause.wait(0.01)
        return np.zeros(len(X), dtype=int)


def _open_slow() -> infersdk.Predictor:
    X = np.arange(12.0).reshape(6, 2)
    model = Gated().fit(X, [0, 1] * 3)
    predictor = infersdk.load(model, example=X, batching=infersdk.Batching.off())
    model.waits = True
    return predictor


def _open_iris() -> infersdk.Predictor:
    with Path(os.environ["OPENED"]).open("a") as opened:
        opened.write(f"{os.getpid()}\n")
    return infersdk.load(os.environ["MODEL"])


app = FastAPI()
infer = InferSDK(app, models={"iris": _open_iris, "slow": _open_slow}, url_prefix="/models")


@app.get("/process")
async def process() -> int:
    return os.getpid()


@app.get("/stats")
async def stats() -> dict[str, int]:
    return infer.predictors["slow"].queue_stats()


class RSGI:
    """The models, and the two pages."""

    def __init__(self) -> None:
        self._models = infer.rsgi
        self.__rsgi_init__ = self._models.__rsgi_init__
        self.__rsgi_del__ = self._models.__rsgi_del__

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        pages = {"/process": os.getpid, "/stats": infer.predictors["slow"].queue_stats}
        if scope.path in pages:
            protocol.response_bytes(200, [], json.dumps(pages[scope.path]()).encode())
        else:
            await self._models.__rsgi__(scope, protocol)


rsgi = RSGI()
