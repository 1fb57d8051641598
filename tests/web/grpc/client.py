"""A gRPC server in this process and a client of it, which reads and writes tensors by itself."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np

from infersdk.web.grpc import GRPCServer, HealthStub, InferenceStub
from infersdk.web.grpc.messages import HEALTH, INFERENCE

DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


class Client:
    """The stubs of a running server, and its port."""

    def __init__(self, server: GRPCServer, channel: Any) -> None:
        self.server = server
        self.infer = InferenceStub(channel)
        self.health = HealthStub(channel)


@asynccontextmanager
async def serving(models: Any, *, channel: Any = None, **options: Any) -> AsyncIterator[Client]:
    """Serve on a free port meanwhile."""
    server = GRPCServer(models, "127.0.0.1:0", **options)
    async with server, grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as own:
        yield Client(server, own)


def message(name: str, /, **fields: Any) -> Any:
    """A message of the inference service."""
    return INFERENCE[name](**fields)


def health_request(service: str = "") -> Any:
    return HEALTH["HealthCheckRequest"](service=service)


def request(
    model: str,
    inputs: Mapping[str, Any],
    outputs: Sequence[str] = (),
    *,
    raw: bool = True,
    **fields: Any,
) -> Any:
    """A request with arrays as inputs; arrays of objects or text are BYTES."""
    made = INFERENCE["ModelInferRequest"](model_name=model, **fields)
    for name, array in inputs.items():
        array = np.asarray(array)
        datatype = DATATYPES.get(array.dtype.name, "BYTES")
        tensor = made.inputs.add(name=name, datatype=datatype, shape=array.shape)
        if datatype == "BYTES":
            texts = [str(text).encode() for text in array.ravel()]
            if raw:
                made.raw_input_contents.append(
                    b"".join(struct.pack("<I", len(text)) + text for text in texts)
                )
            else:
                tensor.contents.bytes_contents.extend(texts)
        elif raw:
            made.raw_input_contents.append(np.ascontiguousarray(array).tobytes())
        else:
            getattr(tensor.contents, CONTENTS[datatype]).extend(array.ravel().tolist())
    for name in outputs:
        made.outputs.add(name=name)
    return made


def tensors(response: Any) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a response, whether raw or typed; text as str."""
    dtypes = {datatype: dtype for dtype, datatype in DATATYPES.items()}
    arrays = {}
    for position, output in enumerate(response.outputs):
        array: Any
        if output.datatype == "BYTES":
            texts = (
                _texts(response.raw_output_contents[position])
                if response.raw_output_contents
                else output.contents.bytes_contents
            )
            array = np.array([text.decode() for text in texts], dtype=object)
        elif response.raw_output_contents:
            array = np.frombuffer(response.raw_output_contents[position], dtypes[output.datatype])
        else:
            values = list(getattr(output.contents, CONTENTS[output.datatype]))
            array = np.array(values, dtypes[output.datatype])
        arrays[output.name] = array.reshape(tuple(output.shape))
    return arrays


def _texts(raw: bytes) -> list[bytes]:
    texts = []
    while raw:
        (size,) = struct.unpack_from("<I", raw)
        texts.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    return texts
