"""MLServer's types and codecs, sent by httpx: ``mlserver_types.py HOST:PORT[/PREFIX] FOLDER``.

MLServer has no REST client of its own: its users build requests with these, and post them.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx
import pandas as pd
from arrays import Inputs, plain
from mlserver.codecs import NumpyCodec, NumpyRequestCodec, PandasCodec, StringCodec
from mlserver.types import (
    InferenceErrorResponse,
    InferenceRequest,
    InferenceResponse,
    MetadataModelResponse,
    MetadataServerResponse,
    RequestOutput,
)

URL, FOLDER = sys.argv[1:3]
BASE = f"http://{URL}/v2"
GIVEN = Inputs(FOLDER)


def infer(model: str, request: InferenceRequest) -> InferenceResponse:
    reply = httpx.post(
        f"{BASE}/models/{model}/infer",
        content=request.model_dump_json(),
        headers={"content-type": "application/json"},
    )
    assert reply.status_code == 200, reply.text
    return InferenceResponse.model_validate_json(reply.content)


def main() -> dict[str, Any]:
    server = MetadataServerResponse.model_validate_json(httpx.get(BASE).content)
    model = MetadataModelResponse.model_validate_json(httpx.get(f"{BASE}/models/mixed").content)
    found: dict[str, Any] = {
        "server": server.name,
        "inputs": {tensor.name: [tensor.datatype, tensor.shape] for tensor in model.inputs or []},
    }
    request = NumpyRequestCodec.encode_request(GIVEN.X)
    request.id = "seven"
    request.outputs = [RequestOutput(name="predict"), RequestOutput(name="predict_proba")]
    response = infer("iris", request)
    found["id"] = response.id
    found["predict"] = plain(NumpyCodec.decode_output(response.outputs[0]))
    found["predict_proba"] = plain(NumpyCodec.decode_output(response.outputs[1]))

    frame = pd.DataFrame({name: column for name, (_, column) in GIVEN.mixed.items()})
    frame["income"] = frame["income"].fillna(50.0)
    request = PandasCodec.encode_request(frame)
    request.outputs = [RequestOutput(name="predict")]
    found["mixed"] = StringCodec.decode_output(infer("mixed", request).outputs[0])

    texts = StringCodec.encode_input(
        MetadataModelResponse.model_validate_json(httpx.get(f"{BASE}/models/words").content)
        .inputs[0]
        .name,
        GIVEN.texts.tolist(),
    )
    response = infer("words", InferenceRequest(inputs=[texts]))
    found["words"] = plain(NumpyCodec.decode_output(response.outputs[0]))
    reply = httpx.post(f"{BASE}/models/iris/infer", json={"inputs": [{"name": "x"}]})
    found["refused"] = [
        reply.status_code,
        InferenceErrorResponse.model_validate_json(reply.content).error,
    ]
    return found


sys.stdout.write(json.dumps(main()))
