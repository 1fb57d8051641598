"""KServe's gRPC client: ``kserve_grpc.py HOST:PORT FOLDER TOKEN``."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import grpc
from arrays import Inputs, plain
from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc import grpc_predict_v2_pb2_grpc as stubs

URL, FOLDER, TOKEN = sys.argv[1:4]
GIVEN = Inputs(FOLDER)
HEADERS = (("authorization", f"Bearer {TOKEN}"),)


def tensor(name: str, array: Any, datatype: str, raw: bool) -> InferInput:
    made = InferInput(name=name, shape=list(array.shape), datatype=datatype)
    made.set_data_from_numpy(array, binary_data=raw)
    return made


def request(model: str, *inputs: InferInput) -> InferRequest:
    return InferRequest(model_name=model, infer_inputs=list(inputs), request_id="seven")


async def main() -> dict[str, Any]:
    client = InferenceGRPCClient(URL)
    found: dict[str, Any] = {
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model_ready": await client.is_model_ready("iris"),
    }
    for raw in (True, False):
        asked = request("iris", tensor("input-0", GIVEN.X, "FP64", raw))
        response = await client.infer(asked, headers=HEADERS)
        mixed = [
            tensor(name, column.reshape(-1, 1), datatype, raw)
            for name, (datatype, column) in GIVEN.mixed.items()
        ]
        people = await client.infer(request("mixed", *mixed), headers=HEADERS)
        found["raw" if raw else "typed"] = {
            "id": [response.id, response.model_name],
            "predict": plain(response.outputs[0].as_numpy()),
            "mixed": plain(people.outputs[0].as_numpy()),
        }
    try:
        await client.infer(request("nobody", tensor("x", GIVEN.X, "FP64", True)), headers=HEADERS)
    except grpc.RpcError as error:
        found["refused"] = [str(error.code()), error.details()]
    await client.close()
    # The client itself has no methods for these.
    async with grpc.aio.insecure_channel(URL) as channel:
        stub = stubs.GRPCInferenceServiceStub(channel)
        unload = messages.RepositoryModelUnloadRequest(model_name="words")
        gone = await stub.RepositoryModelUnload(unload, metadata=HEADERS)
        load = messages.RepositoryModelLoadRequest(model_name="words")
        back = await stub.RepositoryModelLoad(load, metadata=HEADERS)
        found["repository"] = [
            gone.model_name,
            gone.isUnloaded,
            back.model_name,
            back.isLoaded,
        ]
    return found


sys.stdout.write(json.dumps(asyncio.run(main())))
