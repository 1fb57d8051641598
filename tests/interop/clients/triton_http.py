"""Triton's HTTP client, and its twin for asyncio: ``triton_http.py HOST:PORT[/PREFIX] FOLDER``."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from arrays import ECHOED, Inputs, array_of, plain, same
from tritonclient.utils import InferenceServerException

URL, FOLDER = sys.argv[1:3]
GIVEN = Inputs(FOLDER)


def tensor(name: str, array: Any, datatype: str, binary: bool = True) -> Any:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def matrix(binary: bool = True, rows: Any = slice(None)) -> list[Any]:
    return [tensor("input-0", GIVEN.X[rows], "FP64", binary)]


def mixed(binary: bool) -> list[Any]:
    columns = dict(GIVEN.mixed)
    if not binary:
        # JSON has no NaN, and the client writes one all the same.
        datatype, income = columns["income"]
        columns["income"] = datatype, income[:]
        columns["income"][1][income != income] = 50.0
    return [
        tensor(name, column.reshape(-1, 1), datatype, binary)
        for name, (datatype, column) in columns.items()
    ]


def outputs(*names: str, binary: bool = True) -> list[Any]:
    return [triton.InferRequestedOutput(name, binary_data=binary) for name in names]


def refusal(function: Any, *arguments: Any, **named: Any) -> list[str]:
    try:
        function(*arguments, **named)
    except InferenceServerException as error:
        return [str(error.status()), str(error.message())]
    return ["", "it was not refused"]


def sync_client() -> dict[str, Any]:
    client = triton.InferenceServerClient(URL, concurrency=4)
    both = outputs("predict", "predict_proba")
    found: dict[str, Any] = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "model_ready": client.is_model_ready("iris"),
        "version_ready": client.is_model_ready("iris", "1"),
        "unknown_ready": client.is_model_ready("nobody"),
        "server": client.get_server_metadata(),
        "metadata": client.get_model_metadata("iris"),
        "config": client.get_model_config("echo"),
        "index": client.get_model_repository_index(),
    }
    first = client.infer("iris", matrix(), outputs=both, request_id="seven")
    found["id"] = first.get_response()["id"]
    found["model"] = [first.get_response()["model_name"], first.get_response()["model_version"]]
    found["predict"] = plain(first.as_numpy("predict"))
    found["predict_proba"] = plain(first.as_numpy("predict_proba"))
    found["default"] = plain(client.infer("iris", matrix()).as_numpy("predict"))
    asked = outputs("predict_proba", binary=False)
    found["json"] = plain(
        client.infer("iris", matrix(False), outputs=asked).as_numpy("predict_proba")
    )
    columns = [
        tensor(name, GIVEN.X[:, index].astype("float32"), "FP32", index % 2 == 0)
        for index, name in enumerate(GIVEN.fields)
    ]
    found["columns"] = plain(client.infer("iris", columns).as_numpy("predict"))
    found["mixed"] = plain(client.infer("mixed", mixed(True)).as_numpy("predict"))
    found["mixed_proba"] = plain(
        client.infer("mixed", mixed(True), outputs=outputs("predict_proba")).as_numpy(
            "predict_proba"
        )
    )
    found["mixed_json_rows"] = len(
        client.infer("mixed", mixed(False), outputs=outputs("predict", binary=False)).as_numpy(
            "predict"
        )
    )
    name = client.get_model_metadata("words")["inputs"][0]["name"]
    found["words"] = [
        plain(
            client.infer("words", [tensor(name, GIVEN.texts, "BYTES", binary)]).as_numpy("predict")
        )
        for binary in (True, False)
    ]
    echoed = [tensor(f"in_{dtype}", array_of(dtype), ECHOED[dtype][0]) for dtype in ECHOED]
    answer = client.infer("echo", echoed)
    found["echo"] = {dtype: same(answer.as_numpy(f"out_{dtype}"), dtype) for dtype in ECHOED}
    # The client sends neither of the two as JSON.
    flat = {"float16", "bfloat16"}
    echoed = [
        tensor(f"in_{dtype}", array_of(dtype), ECHOED[dtype][0], dtype in flat) for dtype in ECHOED
    ]
    answer = client.infer(
        "echo", echoed, outputs=outputs(*(f"out_{d}" for d in ECHOED), binary=False)
    )
    found["echo_json"] = {dtype: same(answer.as_numpy(f"out_{dtype}"), dtype) for dtype in ECHOED}
    for algorithm in ("gzip", "deflate"):
        packed = client.infer(
            "iris",
            matrix(),
            outputs=both,
            request_compression_algorithm=algorithm,
            response_compression_algorithm="gzip",
        )
        found[f"compressed_{algorithm}"] = plain(packed.as_numpy("predict_proba"))
    waiting = [client.async_infer("iris", matrix(rows=slice(i, i + 1))) for i in range(8)]
    found["async"] = [plain(one.get_result().as_numpy("predict"))[0] for one in waiting]
    empty = [tensor("input-0", GIVEN.X[:0], "FP64")]
    found["empty"] = plain(client.infer("iris", empty, outputs=both).as_numpy("predict_proba"))
    found["refused"] = {
        "unknown model": refusal(client.infer, "nobody", matrix()),
        "unknown version": refusal(client.infer, "iris", matrix(), model_version="3"),
        "unknown output": refusal(client.infer, "iris", matrix(), outputs=outputs("nothing")),
        "too few columns": refusal(
            client.infer, "iris", [tensor("input-0", GIVEN.X[:, :3].copy(), "FP64")]
        ),
        "missing column": refusal(client.infer, "iris", columns[:3]),
        "too many rows": refusal(
            client.infer, "iris", [tensor("input-0", GIVEN.X.repeat(2, 0), "FP64")]
        ),
        "classification": refusal(
            client.infer,
            "iris",
            matrix(),
            outputs=[triton.InferRequestedOutput("predict_proba", class_count=2)],
        ),
        "unknown page": refusal(client.get_trace_settings),
        "shared memory": refusal(client.register_system_shared_memory, "region", "/key", 64),
    }
    client.unregister_system_shared_memory()
    client.unregister_cuda_shared_memory()
    found["shared_memory"] = client.get_system_shared_memory_status()
    client.unload_model("words")
    found["unloaded"] = [
        client.is_model_ready("words"),
        refusal(client.get_model_metadata, "words"),
    ]
    client.load_model("words")
    found["loaded"] = client.is_model_ready("words")
    found["statistics"] = client.get_inference_statistics("iris")
    found["all_statistics"] = len(client.get_inference_statistics()["model_stats"])
    client.close()
    return found


async def aio_client() -> dict[str, Any]:
    async with triton_aio.InferenceServerClient(URL) as client:
        answers = await asyncio.gather(
            *(
                client.infer("iris", matrix(binary, slice(i, i + 5)), outputs=outputs("predict"))
                for i in range(0, 50, 5)
                for binary in (True, False)
            )
        )
        return {
            "live": await client.is_server_live(),
            "metadata": (await client.get_model_metadata("iris"))["name"],
            "predict": [plain(answer.as_numpy("predict")) for answer in answers],
        }


sys.stdout.write(json.dumps({"sync": sync_client(), "aio": asyncio.run(aio_client())}))
