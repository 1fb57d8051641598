"""The same with everything of FastAPI passed by that costs time: the raw request, orjson, the raw response.

Nothing checks the row any more: a missing field or a text is a 500.
"""

from __future__ import annotations

import json
import os
from operator import itemgetter
from pathlib import Path

import numpy as np
import onnxruntime
import orjson
from fastapi import FastAPI, Request, Response

app = FastAPI()
folder = Path(os.environ["MODELS"])
in_order = itemgetter(*json.loads((folder / "features.json").read_text()))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    folder / "skl2onnx.onnx", options, providers=["CPUExecutionProvider"]
)


@app.post("/predict")
async def predict(request: Request) -> Response:
    row = orjson.loads(await request.body())
    x = np.array([in_order(row)], dtype=np.float32)
    (probabilities,) = session.run(["probabilities"], {"X": x})
    body = orjson.dumps({"answers": probabilities}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, media_type="application/json")
