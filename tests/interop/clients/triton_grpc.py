"""Triton's gRPC client, its stream, and its twin for asyncio: ``triton_grpc.py HOST:PORT FOLDER TOKEN``."""

from __future__ import annotations

import asyncio
import json
import queue
import sys
from typing import Any

import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from arrays import ECHOED, Inputs, array_of, plain, same
from tritonclient.utils import InferenceServerException

URL, FOLDER, TOKEN = sys.argv[1:4]
GIVEN = Inputs(FOLDER)
HEADERS = {"authorization": f"Bearer {TOKEN}"}


def tensor(name: str, array: Any, datatype: str) -> Any:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def matrix(rows: Any = slice(None)) -> list[Any]:
    return [tensor("input-0", GIVEN.X[rows], "FP64")]


def outputs(*names: str) -> list[Any]:
    return [triton.InferRequestedOutput(name) for name in names]


def refusal(function: Any, *arguments: Any, **named: Any) -> list[str]:
    try:
        function(*arguments, **{"headers": HEADERS, **named})
    except InferenceServerException as error:
        return [str(error.status()), str(error.message())]
    return ["", "it was not refused"]


def sync_client() -> dict[str, Any]:
    client = triton.InferenceServerClient(URL)
    found: dict[str, Any] = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready("iris"),
        "version_ready": client.is_model_ready("iris", "1"),
        "server": client.get_server_metadata(HEADERS, as_json=True),
        "metadata": client.get_model_metadata("iris", headers=HEADERS, as_json=True),
        "config": client.get_model_config("echo", headers=HEADERS, as_json=True),
        "index": client.get_model_repository_index(HEADERS, as_json=True),
    }
    both = outputs("predict", "predict_proba")
    first = client.infer("iris", matrix(), outputs=both, request_id="seven", headers=HEADERS)
    response = first.get_response()
    found["id"] = [response.id, response.model_name, response.model_version]
    found["predict"] = plain(first.as_numpy("predict"))
    found["predict_proba"] = plain(first.as_numpy("predict_proba"))
    packed = client.infer("iris", matrix(), headers=HEADERS, compression_algorithm="gzip")
    found["compressed"] = plain(packed.as_numpy("predict"))
    columns = [
        tensor(name, GIVEN.X[:, index].astype("float32"), "FP32")
        for index, name in enumerate(GIVEN.fields)
    ]
    found["columns"] = plain(client.infer("iris", columns, headers=HEADERS).as_numpy("predict"))
    mixed = [
        tensor(name, column.reshape(-1, 1), datatype)
        for name, (datatype, column) in GIVEN.mixed.items()
    ]
    found["mixed"] = plain(client.infer("mixed", mixed, headers=HEADERS).as_numpy("predict"))
    name = found["words_input"] = client.get_model_metadata("words", headers=HEADERS).inputs[0].name
    words = client.infer("words", [tensor(name, GIVEN.texts, "BYTES")], headers=HEADERS)
    found["words"] = plain(words.as_numpy("predict"))
    echoed = [tensor(f"in_{dtype}", array_of(dtype), ECHOED[dtype][0]) for dtype in ECHOED]
    answer = client.infer("echo", echoed, headers=HEADERS)
    found["echo"] = {dtype: same(answer.as_numpy(f"out_{dtype}"), dtype) for dtype in ECHOED}
    empty = client.infer("iris", matrix(slice(0)), outputs=both, headers=HEADERS)
    found["empty"] = plain(empty.as_numpy("predict_proba"))
    found["async"] = asynchronous(client)
    found["stream"] = stream(client)
    found["refused"] = {
        "no token": refusal(client.infer, "iris", matrix(), headers={}),
        "unknown model": refusal(client.infer, "nobody", matrix()),
        "unknown version": refusal(client.infer, "iris", matrix(), model_version="3"),
        "unknown output": refusal(client.infer, "iris", matrix(), outputs=outputs("nothing")),
        "missing column": refusal(client.infer, "iris", columns[:3]),
        "classification": refusal(
            client.infer,
            "iris",
            matrix(),
            outputs=[triton.InferRequestedOutput("predict_proba", class_count=2)],
        ),
        "not there": refusal(client.get_trace_settings),
        "shared memory": refusal(client.register_system_shared_memory, "region", "/key", 64),
    }
    client.unregister_system_shared_memory(headers=HEADERS)
    client.unregister_cuda_shared_memory(headers=HEADERS)
    found["shared_memory"] = client.get_system_shared_memory_status(headers=HEADERS, as_json=True)
    client.unload_model("words", headers=HEADERS)
    found["unloaded"] = [
        client.is_model_ready("words"),
        refusal(client.get_model_metadata, "words"),
    ]
    client.load_model("words", headers=HEADERS)
    found["loaded"] = client.is_model_ready("words")
    found["statistics"] = client.get_inference_statistics("iris", headers=HEADERS, as_json=True)
    client.close()
    return found


def asynchronous(client: Any) -> list[Any]:
    done: queue.Queue[Any] = queue.Queue()
    for row in range(8):
        client.async_infer(
            "iris",
            matrix(slice(row, row + 1)),
            lambda result, error: done.put((result, error)),
            request_id=str(row),
            headers=HEADERS,
        )
    answers = {}
    for _ in range(8):
        result, error = done.get(timeout=60)
        assert error is None, error
        answers[int(result.get_response().id)] = plain(result.as_numpy("predict"))[0]
    return [answers[row] for row in range(8)]


def stream(client: Any) -> list[Any]:
    done: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: done.put((result, error)), headers=HEADERS)
    for row in range(4):
        model = "nobody" if row == 2 else "iris"
        client.async_stream_infer(model, matrix(slice(row, row + 1)), request_id=str(row))
    answers = []
    for _ in range(4):
        result, error = done.get(timeout=60)
        answers.append(str(error) if error else plain(result.as_numpy("predict"))[0])
    client.stop_stream()
    return answers


async def aio_client() -> dict[str, Any]:
    async with triton_aio.InferenceServerClient(URL) as client:
        answers = await asyncio.gather(
            *(client.infer("iris", matrix(slice(i, i + 5)), headers=HEADERS) for i in range(20))
        )
        return {
            "live": await client.is_server_live(),
            "predict": [plain(answer.as_numpy("predict")) for answer in answers],
        }


sys.stdout.write(json.dumps({"sync": sync_client(), "aio": asyncio.run(aio_client())}))
