"""Damaged and made-up requests: each is answered or refused as the client's fault, and none as the server's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infersdk.predictors import Predictors
from infersdk.web.grpc.calls import refusal_in, request_of
from infersdk.web.grpc.inference import InferenceService
from infersdk.web.grpc.messages import INFERENCE
from infersdk.web.guard import Guard
from infersdk.web.protocols.oip_tensors import DATATYPES
from infersdk.web.service import Service
from tests.web.grpc.client import request

_CLIENTS_FAULT = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}


class _Context:
    """What a call has of gRPC's, without a server."""

    def time_remaining(self) -> float | None:
        return None

    def invocation_metadata(self) -> Any:
        return ()

    def peer(self) -> str:
        return "ipv4:127.0.0.1:5000"


@pytest.fixture(scope="module")
def service(iris: Any, mixed: Any) -> Iterator[InferenceService]:
    with Predictors({"iris": iris.path, "mixed": mixed.path}) as predictors:
        yield InferenceService(Service(predictors), Guard([]), admin=False)


def _ask(service: InferenceService, body: bytes) -> Any:
    """The code that a client would see."""
    context: Any = _Context()
    try:
        answer = asyncio.run(service._infer(body, request_of("/", context), context))
    except Exception as error:
        return refusal_in(error).code
    assert INFERENCE["ModelInferResponse"].FromString(answer).outputs
    return grpc.StatusCode.OK


_BODIES = [
    request("iris", {"x": np.array([[5.1, 3.5, 1.4, 0.2]])}, raw=raw).SerializeToString()
    for raw in (True, False)
] + [
    request(
        "mixed",
        {
            "age": np.array([40, 50]),
            "city": np.array(["Oslo", "Łódź"], dtype=object),
            "active": np.array([True, False]),
            "income": np.array([1.5, np.nan]),
        },
        raw=raw,
    ).SerializeToString()
    for raw in (True, False)
]


@given(st.sampled_from(_BODIES), st.integers(1, 4), st.randoms())
def test_damaged_bytes(service: InferenceService, body: bytes, n: int, random: Random) -> None:
    damaged = bytearray(body)
    for _ in range(n):
        at = random.randrange(len(damaged))
        what = random.random()
        if what < 0.7:
            damaged[at] = random.randrange(256)
        elif what < 0.85:
            del damaged[at : at + random.randrange(1, 9)]
        else:
            damaged[at:at] = random.randbytes(random.randrange(1, 9))
        if not damaged:
            break
    assert _ask(service, bytes(damaged)) in {grpc.StatusCode.OK, *_CLIENTS_FAULT}


_TENSOR = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "age", "city", "active", "income", ""]),
        "datatype": st.sampled_from([*DATATYPES, "", "FP8"]),
        "shape": st.lists(
            st.one_of(st.integers(-1, 5), st.sampled_from([2**31, 2**62, -(2**63)])), max_size=4
        ),
    }
)


@given(
    st.sampled_from(["iris", "mixed", "tulips"]),
    st.lists(_TENSOR, max_size=5),
    st.lists(st.one_of(st.binary(max_size=64), st.integers(0, 64).map(bytes)), max_size=5),
    st.lists(st.sampled_from(["predict", "predict_proba", "nothing"]), max_size=2),
    st.dictionaries(
        st.sampled_from(["int64_contents", "fp64_contents", "bool_contents"]),
        st.lists(st.integers(0, 1), max_size=8),
        max_size=2,
    ),
)
def test_made_up_messages(
    service: InferenceService,
    model: str,
    inputs: list[Any],
    raw: list[bytes],
    outputs: list[str],
    contents: dict[str, list[int]],
) -> None:
    made = INFERENCE["ModelInferRequest"](
        model_name=model,
        inputs=inputs,
        raw_input_contents=raw,
        outputs=[{"name": name} for name in outputs],
    )
    if contents and made.inputs:
        for name, values in contents.items():
            getattr(made.inputs[0].contents, name).extend(values)
    code = _ask(service, made.SerializeToString())
    assert code in {grpc.StatusCode.OK, *_CLIENTS_FAULT}
