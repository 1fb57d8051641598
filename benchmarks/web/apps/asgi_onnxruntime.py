"""No framework at all: bare ASGI, orjson, ONNX Runtime. One path, no checks, no errors: a lower bound."""

from __future__ import annotations

import json
import os
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import orjson

folder = Path(os.environ["MODELS"])
in_order = itemgetter(*json.loads((folder / "features.json").read_text()))
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(
    folder / "skl2onnx.onnx", options, providers=["CPUExecutionProvider"]
)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    x = np.array([in_order(orjson.loads(body))], dtype=np.float32)
    (probabilities,) = session.run(["probabilities"], {"X": x})
    answer = orjson.dumps({"answers": probabilities}, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(answer)),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
