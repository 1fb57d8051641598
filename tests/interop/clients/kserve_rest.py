"""KServe's REST client: ``kserve_rest.py HOST:PORT[/PREFIX] FOLDER``."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import httpx
from arrays import Inputs, plain
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

URL, FOLDER = sys.argv[1:3]
BASE = f"http://{URL}"
GIVEN = Inputs(FOLDER)


def request(
    model: str,
    inputs: list[InferInput],
    names: list[str] | None = None,
    binary: bool | None = None,
) -> InferRequest:
    outputs = None
    if names is not None:
        outputs = [RequestedOutput(name, {"binary_data": bool(binary)}) for name in names]
    return InferRequest(
        model_name=model, infer_inputs=inputs, request_id="seven", request_outputs=outputs
    )


def tensor(name: str, array: Any, datatype: str, binary: bool) -> InferInput:
    made = InferInput(name=name, shape=list(array.shape), datatype=datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def answer(response: Any, name: str) -> list[Any]:
    return plain(next(output for output in response.outputs if output.name == name).as_numpy())


async def main() -> dict[str, Any]:
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    found: dict[str, Any] = {
        "live": await client.is_server_live(BASE),
        "ready": await client.is_server_ready(BASE),
        "model_ready": await client.is_model_ready(BASE, "iris"),
    }
    for binary in (True, False):
        matrix = [tensor("input-0", GIVEN.X, "FP64", binary)]
        for binary_out in (True, False):
            asked = request("iris", matrix, ["predict", "predict_proba"], binary_out)
            response = await client.infer(BASE, asked, model_name="iris")
            key = f"{'binary' if binary else 'json'} to {'binary' if binary_out else 'json'}"
            found[key] = {
                "id": response.id,
                "predict": answer(response, "predict"),
                "predict_proba": answer(response, "predict_proba"),
            }
    mixed = [
        tensor(name, column, datatype, True) for name, (datatype, column) in GIVEN.mixed.items()
    ]
    response = await client.infer(BASE, request("mixed", mixed, ["predict"], True), "mixed")
    found["mixed"] = answer(response, "predict")
    body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [[1, 2, 3, 4]]}]}
    response = await client.infer(BASE, body, model_name="iris")
    found["dict"] = answer(response, "predict")
    refused = {}
    for name, model, asked in (
        ("unknown model", "nobody", body),
        ("too few columns", "iris", request("iris", [tensor("x", GIVEN.X[:, :3], "FP64", True)])),
        ("no inputs", "iris", {"inputs": []}),
    ):
        try:
            await client.infer(BASE, asked, model_name=model)
        except httpx.HTTPStatusError as error:
            refused[name] = [error.response.status_code, str(error)]
    found["refused"] = refused
    return found


sys.stdout.write(json.dumps(asyncio.run(main())))
