"""Calls of a real client over a real port. The oracle is the source model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

import infersdk
from infersdk.options import Batching
from infersdk.predictors import Predictors
from infersdk.testing import FakePredictor
from infersdk.web.grpc.messages import RPC
from infersdk.web.outcome import Outcome, trace_of
from infersdk.web.request import Request
from infersdk.web.service import Service
from infersdk.web.settings import Settings
from tests.web.asgi_driver import run, until
from tests.web.grpc.client import message, request, serving, tensors

LOOPS = ["asyncio", "uvloop"]


@pytest.fixture
def predictors(iris: Any) -> Iterator[Predictors]:
    with Predictors({"iris": iris.path}) as made:
        yield made


def _refused(error: Any) -> tuple[str, str]:
    return error.value.code().name, error.value.details()


# -- answers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("raw", [True, False])
def test_the_source_models_answers(predictors: Predictors, iris: Any, loop: str, raw: bool) -> None:
    rows = iris.X.to_numpy()

    async def program() -> None:
        async with serving(predictors) as client:
            asked = request("iris", {"x": rows}, ["predict_proba", "predict"], raw=raw, id="7")
            response = await client.infer.ModelInfer(asked)
            answers = tensors(response)
            assert bool(response.raw_output_contents) is raw
            assert (response.model_name, response.model_version, response.id) == ("iris", "1", "7")
            assert list(answers) == ["predict_proba", "predict"]
            np.testing.assert_array_equal(answers["predict"], iris.model.predict(iris.X))
            np.testing.assert_allclose(
                answers["predict_proba"], iris.model.predict_proba(iris.X), rtol=1e-5, atol=1e-6
            )

    run(program, loop)


def test_a_column_is_a_tensor_and_text_is_bytes(mixed: Any) -> None:
    X = mixed.X
    columns = {name: X[name].to_numpy()[:, None] for name in X}

    async def program() -> None:
        with Predictors({"mixed": mixed.path}) as predictors:
            async with serving(predictors) as client:
                known = await client.infer.ModelMetadata(
                    message("ModelMetadataRequest", name="mixed")
                )
                assert [tensor.name for tensor in known.inputs] == list(X)
                for raw in (True, False):
                    response = await client.infer.ModelInfer(request("mixed", columns, raw=raw))
                    (answers,) = tensors(response).values()
                    np.testing.assert_array_equal(answers, mixed.model.predict(X))

    run(program)


@pytest.fixture(scope="module")
def same_again() -> Any:
    """A model that gives back each of its inputs, one of every datatype."""
    from onnx import TensorProto, helper

    types = {
        name: getattr(TensorProto, name)
        for name in (
            *("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
            *("FLOAT16", "FLOAT", "DOUBLE", "STRING"),
        )
    }
    graph = helper.make_graph(
        [helper.make_node("Identity", [f"{name}_in"], [f"{name}_out"]) for name in types],
        "same",
        [helper.make_tensor_value_info(f"{n}_in", kind, ["n", 3]) for n, kind in types.items()],
        [helper.make_tensor_value_info(f"{n}_out", kind, ["n", 3]) for n, kind in types.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return infersdk.load(model, name="same")


@pytest.mark.parametrize("raw", [True, False])
def test_every_datatype(same_again: Any, raw: bool) -> None:
    given = {
        "BOOL": np.array([[True, False, True]]),
        "FLOAT16": np.array([[0.5, -2, 65504]], dtype=np.float16),
        "FLOAT": np.array([[0.1, -np.inf, 3e38]], dtype=np.float32),
        "DOUBLE": np.array([[0.1, 1e300, 5e-324]]),
        "STRING": np.array([["", "żółć", "a\0b"]], dtype=object),
    }
    for bits in (8, 16, 32, 64):
        for name, dtype in ((f"INT{bits}", f"int{bits}"), (f"UINT{bits}", f"uint{bits}")):
            limits = np.iinfo(dtype)
            given[name] = np.array([[limits.min, limits.max, 5]], dtype=dtype)
    if not raw:
        inputs = {name: array for name, array in given.items() if name != "FLOAT16"}

    async def program() -> None:
        async with serving(Predictors({"same": same_again})) as client:
            asked = {f"{name}_in": array for name, array in given.items()}
            if raw:
                answers = tensors(await client.infer.ModelInfer(request("same", asked)))
                for name, array in given.items():
                    np.testing.assert_array_equal(answers[f"{name}_out"], array)
                    assert answers[f"{name}_out"].dtype == array.dtype
                return
            # 16 bit floats are raw or not at all.
            mixture = request(
                "same", {f"{name}_in": array for name, array in inputs.items()}, raw=False
            )
            half = mixture.inputs.add(name="FLOAT16_in", datatype="FP16", shape=[1, 3])
            half.contents.fp32_contents.extend([1, 2, 3])
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await client.infer.ModelInfer(mixture)
            code, details = _refused(error)
            assert code == "INVALID_ARGUMENT"
            assert "Expected raw contents, got FP16 in a typed list - `FLOAT16_in`" in details

    run(program)


def test_typed_lists_of_every_datatype_that_has_one(same_again: Any) -> None:
    from infersdk.web.grpc.tensors import read_request, read_tensors

    arrays = {
        "a": np.array([[-128, 127]], dtype=np.int8),
        "b": np.array([65535], dtype=np.uint16),
        "c": np.array([2**64 - 1], dtype=np.uint64),
        "d": np.array([True, False]),
        "e": np.array([0.1], dtype=np.float32),
        "f": np.zeros((0, 4)),
        "g": np.array([["x"], ["é"]], dtype=object),
    }
    typed, raw = read_request(request("same", arrays, raw=False).SerializeToString())
    assert not raw
    for tensor, array in zip(read_tensors(typed, raw), arrays.values(), strict=True):
        assert tensor.data.dtype == array.dtype
        np.testing.assert_array_equal(tensor.data, array)


def test_raw_contents_are_read_where_they_lie() -> None:
    from infersdk.web.grpc.tensors import read_request, read_tensors

    body = request("m", {"x": np.arange(1000.0)}).SerializeToString()
    (tensor,) = read_tensors(*read_request(body))
    at = np.frombuffer(body, np.uint8).__array_interface__["data"][0]
    assert at < tensor.data.__array_interface__["data"][0] < at + len(body)


@pytest.mark.parametrize("loop", LOOPS)
def test_many_at_once_each_get_their_own(predictors: Predictors, iris: Any, loop: str) -> None:
    rows = iris.X.to_numpy()
    expected = iris.model.predict_proba(iris.X)

    async def program() -> None:
        async with serving(predictors) as client:

            async def one(at: int) -> None:
                asked = request("iris", {"x": rows[at : at + 1]}, ["predict_proba"])
                (answer,) = tensors(await client.infer.ModelInfer(asked)).values()
                np.testing.assert_allclose(answer, expected[at : at + 1], rtol=1e-5, atol=1e-6)

            await asyncio.gather(*(one(at) for at in range(len(rows))))

    run(program, loop)


def test_a_stream_is_answered_in_order_and_survives_a_refusal(
    predictors: Predictors, iris: Any
) -> None:
    rows = iris.X.to_numpy()

    async def program() -> None:
        async with serving(predictors, token="secret") as client:
            asked = [request("iris", {"x": rows[n : n + 2]}, id=str(n)) for n in range(6)]
            asked[3].inputs[0].datatype = "FP63"
            metadata = (("authorization", "Bearer secret"),)
            call = client.infer.ModelStreamInfer(iter(asked), metadata=metadata)
            answers = [answer async for answer in call]
            assert [answer.infer_response.id for answer in answers] == list("012345")
            for n, answer in enumerate(answers):
                if n == 3:
                    assert "got 'FP63' - `x`" in answer.error_message
                else:
                    assert not answer.error_message
                    (kinds,) = tensors(answer.infer_response).values()
                    np.testing.assert_array_equal(kinds, iris.model.predict(iris.X[n : n + 2]))
            refused = client.infer.ModelStreamInfer(iter([]))
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await refused.read()
            assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED

    run(program)


# -- descriptions -----------------------------------------------------------------------------------


def test_what_the_server_says_of_itself_and_its_models(predictors: Predictors) -> None:
    async def program() -> None:
        async with serving(predictors) as client:
            infer = client.infer
            assert (await infer.ServerLive(message("ServerLiveRequest"))).live
            assert (await infer.ServerReady(message("ServerReadyRequest"))).ready
            assert (await infer.ModelReady(message("ModelReadyRequest", name="iris"))).ready
            server = await infer.ServerMetadata(message("ServerMetadataRequest"))
            assert server.name == "infersdk"
            assert "model_repository" not in server.extensions
            known = await infer.ModelMetadata(
                message("ModelMetadataRequest", name="iris", version="1")
            )
            assert (known.name, list(known.versions)) == ("iris", ["1"])
            outputs = {
                tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in known.outputs
            }
            assert outputs["predict_proba"] == ("FP64", [-1, 3])
            config = (await infer.ModelConfig(message("ModelConfigRequest", name="iris"))).config
            assert [item.name for item in config.input] == [item.name for item in known.inputs]
            assert config.input[0].data_type == 12  # TYPE_FP64
            status = await infer.SystemSharedMemoryStatus(
                message("SystemSharedMemoryStatusRequest")
            )
            assert not status.ByteSize()

    run(program)


def test_statistics_count_what_was_asked(predictors: Predictors, iris: Any) -> None:
    async def program() -> None:
        async with serving(predictors) as client:
            rows = iris.X.to_numpy()[:4]
            await client.infer.ModelInfer(request("iris", {"x": rows}))
            asked = message("ModelStatisticsRequest", name="iris")
            (counted,) = (await client.infer.ModelStatistics(asked)).model_stats
            assert (counted.name, counted.inference_count) == ("iris", 4)
            assert counted.inference_stats.success.count == 1
            assert counted.inference_stats.success.ns > 0

    run(program)


# -- what is refused --------------------------------------------------------------------------------

_ONE = np.array([[5.1, 3.5, 1.4, 0.2]])


def _with(change: Callable[[Any], Any], raw: bool = True) -> Any:
    made = request("iris", {"x": _ONE}, raw=raw)
    change(made)
    return made


def _both(made: Any) -> None:
    made.inputs[0].contents.fp64_contents.append(1)


def _in_shared_memory(made: Any) -> None:
    made.inputs[0].parameters["shared_memory_region"].string_param = "region"


def _of_an_output(made: Any, parameter: str) -> None:
    made.outputs.add(name="predict").parameters[parameter].int64_param = 2


BAD = {
    "no such model": (
        request("tulips", {"x": _ONE}),
        "NOT_FOUND",
        "No model `tulips`; there is: `iris`",
    ),
    "no such version": (
        request("iris", {"x": _ONE}, model_version="2"),
        "NOT_FOUND",
        "version 1 only",
    ),
    "no such output": (request("iris", {"x": _ONE}, ["odds"]), "INVALID_ARGUMENT", "got 'odds'"),
    "no such datatype": (
        _with(lambda made: setattr(made.inputs[0], "datatype", "FP63")),
        "INVALID_ARGUMENT",
        "got 'FP63' - `x`",
    ),
    "no such datatype in a list": (
        _with(lambda made: setattr(made.inputs[0], "datatype", "FP63"), raw=False),
        "INVALID_ARGUMENT",
        "got 'FP63' - `x`",
    ),
    "too few raw bytes": (
        _with(lambda made: made.raw_input_contents.__setitem__(0, bytes(31))),
        "INVALID_ARGUMENT",
        "Expected 32 bytes for FP64 [1, 4], got 31 - `x`",
    ),
    "raw contents of some inputs": (
        _with(lambda made: made.raw_input_contents.append(b"")),
        "INVALID_ARGUMENT",
        "Expected raw contents for each of the 1 inputs, or for none, got 2",
    ),
    "raw and typed": (_with(_both), "INVALID_ARGUMENT", "not both"),
    "another typed list": (
        _with(lambda made: made.inputs[0].contents.fp32_contents.append(1), raw=False),
        "INVALID_ARGUMENT",
        "Expected `fp64_contents` for FP64, got `fp32_contents` - `x`",
    ),
    "too few typed": (
        _with(lambda made: made.inputs[0].contents.fp64_contents.pop(), raw=False),
        "INVALID_ARGUMENT",
        "Expected 4 values for the shape [1, 4]",
    ),
    "a negative axis": (
        _with(lambda made: made.inputs[0].shape.__setitem__(0, -1)),
        "INVALID_ARGUMENT",
        "whole numbers from 0",
    ),
    "shared memory": (_with(_in_shared_memory), "INVALID_ARGUMENT", "send raw contents"),
    "another number of columns": (
        request("iris", {"x": np.ones((2, 3))}),
        "INVALID_ARGUMENT",
        "got the shape (2, 3)",
    ),
    "more inputs than there are columns": (
        request("iris", {str(number): _ONE for number in range(5)}),
        "INVALID_ARGUMENT",
        "Expected up to 4 inputs, got 5",
    ),
    "text": (
        request("iris", {"x": np.array([list("abcd")], dtype=object)}),
        "INVALID_ARGUMENT",
        "`sepal length (cm)`",
    ),
    "classes": (
        _with(lambda made: _of_an_output(made, "classification")),
        "INVALID_ARGUMENT",
        "`classification`, which is not supported - `predict`",
    ),
    "no inputs": (request("iris", {}), "INVALID_ARGUMENT", "got none"),
    "too many rows": (
        request("iris", {"x": np.ones((101, 4))}),
        "INVALID_ARGUMENT",
        "Expected up to 100 rows, got 101",
    ),
}


def test_what_does_not_fit_is_refused_by_name(predictors: Predictors) -> None:
    async def program() -> None:
        async with serving(Service(predictors, Settings(max_rows=100))) as client:
            for case, (asked, code, words) in BAD.items():
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await client.infer.ModelInfer(asked)
                assert error.value.code().name == code, case
                assert words in error.value.details(), case

    run(program)


def test_each_value_that_does_not_fit_is_in_the_details(predictors: Predictors) -> None:
    async def program() -> None:
        async with serving(predictors) as client:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await client.infer.ModelInfer(request("iris", {"x": np.array([[1, 2, np.nan, 4]])}))
            code, details = _refused(error)
            assert code == "INVALID_ARGUMENT"
            assert "`petal length (cm)`" in details
            trailing = dict(error.value.trailing_metadata())
            status = RPC["Status"].FromString(trailing["grpc-status-details-bin"])
            bad = RPC["BadRequest"].FromString(status.details[0].value)
            assert [violation.field for violation in bad.field_violations] == [
                "petal length (cm)[0]"
            ]

    run(program)


def test_what_is_no_message(predictors: Predictors) -> None:
    async def program() -> None:
        async with serving(predictors) as client:
            address = f"127.0.0.1:{client.server.port}"
            async with grpc.aio.insecure_channel(address) as channel:
                for method in ("ModelInfer", "ModelMetadata"):
                    call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
                    with pytest.raises(grpc.aio.AioRpcError) as error:
                        await call(b"\x0a\xffno message")
                    code, details = _refused(error)
                    assert code == "INVALID_ARGUMENT"
                    assert f"Expected a message {method}Request" in details
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await channel.unary_unary("/inference.GRPCInferenceService/Trace")(b"")
                assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED

    run(program)


def test_a_message_past_the_limit(predictors: Predictors) -> None:
    async def program() -> None:
        async with serving(predictors, max_message_bytes=4096) as client:
            await client.infer.ModelInfer(request("iris", {"x": np.ones((100, 4))}))
            asked = request("iris", {"x": np.ones((2000, 4))})
            for compression in (None, grpc.Compression.Gzip):
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await client.infer.ModelInfer(asked, compression=compression)
                assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    run(program)


def test_what_is_unexpected_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    fake = FakePredictor(fields=["a"], faults=[RuntimeError("the password is sesame")])

    async def program() -> None:
        async with serving(Predictors({"fake": fake})) as client:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await client.infer.ModelInfer(request("fake", {"a": [1.0]}))
            code, details = _refused(error)
            assert code == "INTERNAL"
            assert "sesame" not in str(error.value.trailing_metadata()) + details
            (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
            assert "sesame" in str(record.exc_info)
            instance = details.split()[-1]
            assert instance.startswith("urn:uuid:")
            assert instance in record.getMessage()

    run(program)


# -- time -------------------------------------------------------------------------------------------


def _busy(**options: Any) -> tuple[FakePredictor, Predictors]:
    fake = FakePredictor(fields=["a"], batching=Batching(**options))
    return fake, Predictors({"fake": fake})


_ASKED = request("fake", {"a": [1.0]})


@pytest.mark.parametrize("loop", LOOPS)
def test_a_call_that_is_cancelled_leaves_the_queue(loop: str) -> None:
    fake, predictors = _busy()

    async def program() -> None:
        async with serving(predictors) as client:
            with fake.busy():
                call = client.infer.ModelInfer(_ASKED)
                await until(lambda: fake.queue_stats()["queued_rows"] == 1)
                call.cancel()
                await until(lambda: fake.queue_stats()["cancelled"] == 1)
                assert fake.queue_stats()["queued_rows"] == 0
            assert not fake.runs

    run(program, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_call_whose_client_gives_up_leaves_the_queue(loop: str) -> None:
    fake, predictors = _busy()

    async def program() -> None:
        async with serving(predictors) as client:
            with fake.busy():
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await client.infer.ModelInfer(_ASKED, timeout=0.2)
                assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                await until(lambda: fake.queue_stats()["queued_rows"] == 0)
            assert not fake.runs
            # The model knew how long it had.
            assert 0 < (fake.calls[0].timeout_s or 0) <= 0.2

    run(program, loop)


def test_the_servers_own_deadline() -> None:
    fake, predictors = _busy()

    async def program() -> None:
        async with serving(Service(predictors, Settings(timeout_s=0.05))) as client:
            with fake.busy(), pytest.raises(grpc.aio.AioRpcError) as error:
                await client.infer.ModelInfer(_ASKED, timeout=60)
            code, details = _refused(error)
            assert code == "DEADLINE_EXCEEDED"
            assert "`fake` did not answer in time" in details
            # Triton's parameter, in microseconds, where it is shorter.
            hasty = request("fake", {"a": [1.0]})
            hasty.parameters["timeout"].int64_param = 20_000
            with fake.busy(), pytest.raises(grpc.aio.AioRpcError) as error:
                await client.infer.ModelInfer(hasty)
            assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert [call.timeout_s for call in fake.calls] == [0.05, 0.02]

    run(program)


def test_too_much_at_once_is_refused() -> None:
    fake, predictors = _busy(max_queue_size=1)

    async def program() -> None:
        async with serving(predictors) as client:
            with fake.busy():
                waiting = client.infer.ModelInfer(_ASKED)
                await until(lambda: fake.queue_stats()["queued_rows"] == 1)
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await client.infer.ModelInfer(_ASKED)
                assert error.value.code() is grpc.StatusCode.UNAVAILABLE
                assert "fake" in error.value.details()
            assert len((await waiting).outputs) == 1

    run(program)


def test_closed_models(predictors: Predictors) -> None:
    async def program() -> None:
        async with serving(predictors) as client:
            predictors.close()
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await client.infer.ModelInfer(request("iris", {"x": _ONE}))
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
            assert not (await client.infer.ServerReady(message("ServerReadyRequest"))).ready
            assert not (
                await client.infer.ModelReady(message("ModelReadyRequest", name="iris"))
            ).ready

    run(program)


# -- who asks ---------------------------------------------------------------------------------------


def test_a_token() -> None:
    fake, predictors = _busy()

    async def program() -> None:
        async with serving(predictors, token=["first", "second"]) as client:
            assert (await client.infer.ServerReady(message("ServerReadyRequest"))).ready
            metadata_request = message("ServerMetadataRequest")
            for given in (
                (),
                (("authorization", "Bearer third"),),
                (("authorization", "Basic first"),),
            ):
                for call, asked in (
                    (client.infer.ModelInfer, _ASKED),
                    (client.infer.ServerMetadata, metadata_request),
                ):
                    with pytest.raises(grpc.aio.AioRpcError) as error:
                        await call(asked, metadata=given)
                    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
            token = (("authorization", "Bearer second"),)
            await client.infer.ModelInfer(_ASKED, metadata=token)
            await client.infer.ServerMetadata(metadata_request, metadata=token)
        assert len(fake.calls) == 1

    run(program)


def test_a_guard_sees_the_call() -> None:
    seen: list[tuple[str, str, str | None, str | None]] = []

    def guard(asked: Request) -> bool:
        seen.append((asked.method, asked.path, asked.client, asked.header("x-tenant")))
        return asked.header("x-tenant") == "a"

    async def program() -> None:
        async with serving(_busy()[1], guard=guard) as client:
            await client.infer.ModelInfer(_ASKED, metadata=(("x-tenant", "a"),))
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await client.infer.ModelInfer(_ASKED, metadata=(("x-tenant", "b"),))
            assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED

    run(program)
    path = "/inference.GRPCInferenceService/ModelInfer"
    assert seen == [("POST", path, "127.0.0.1", "a"), ("POST", path, "127.0.0.1", "b")]


def test_models_are_opened_and_closed_by_those_who_may(iris: Any) -> None:
    load = message("RepositoryModelLoadRequest", model_name="iris")
    # KServe's message has the model's name in the place of the repository's.
    unload = message("RepositoryModelUnloadRequest", repository_name="iris")

    async def program() -> None:
        with Predictors({"iris": iris.path}) as predictors:
            async with serving(predictors) as client:
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await client.infer.RepositoryModelUnload(unload)
                assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
            async with serving(predictors, admin=True) as client:
                infer = client.infer
                assert (await infer.RepositoryModelUnload(unload)).isUnloaded
                (state,) = (await infer.RepositoryIndex(message("RepositoryIndexRequest"))).models
                assert (state.name, state.state) == ("iris", "UNAVAILABLE")
                ready = message("RepositoryIndexRequest", ready=True)
                assert not (await infer.RepositoryIndex(ready)).models
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await infer.ModelInfer(request("iris", {"x": _ONE}))
                assert error.value.code() is grpc.StatusCode.UNAVAILABLE
                assert (await infer.RepositoryModelLoad(load)).isLoaded
                assert len((await infer.RepositoryIndex(ready)).models) == 1
                await infer.ModelInfer(request("iris", {"x": _ONE}))
                # A proxy on this machine speaks for others.
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await infer.RepositoryModelLoad(
                        load, metadata=(("x-forwarded-for", "10.0.0.1"),)
                    )
                assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await infer.RepositoryModelLoad(
                        message("RepositoryModelLoadRequest", model_name="tulips")
                    )
                assert error.value.code() is grpc.StatusCode.NOT_FOUND

    run(program)


def test_observers_are_told_as_of_http() -> None:
    told: list[Outcome] = []
    service = Service(_busy()[1], Settings(metrics=True, compress_min_bytes=1))
    service.observe(told.append)
    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def program() -> None:
        async with serving(service) as client:
            metadata = (
                ("traceparent", traceparent),
                ("x-request-id", "r-1"),
                # Of HTTP, and none of gRPC's affair.
                ("content-encoding", "gzip"),
                ("accept-encoding", "gzip"),
            )
            call = client.infer.ModelInfer(_ASKED, metadata=metadata)
            await call
            assert dict(await call.trailing_metadata())["x-request-id"] == "r-1"
            with pytest.raises(grpc.aio.AioRpcError):
                await client.infer.ModelInfer(request("fake", {"b": [1.0]}))

    run(program)
    good, bad = told
    trace = trace_of(good.request)
    assert trace is not None
    assert trace.trace_id in traceparent
    assert (good.protocol, good.model, good.method) == ("grpc", "fake", "predict")
    assert (good.status, good.n_rows, good.body_bytes) == (200, 1, _ASKED.ByteSize())
    assert bad.status == 422
    assert service.requests is not None
    assert service.requests.snapshot().requests == {
        ("grpc", "fake", 200): 1,
        ("grpc", "fake", 422): 1,
    }


def test_a_span_stands_between_the_clients_and_the_models(
    predictors: Predictors, monkeypatch: pytest.MonkeyPatch
) -> None:
    from infersdk.monitor import opentelemetry
    from tests.monitor.otel import children, telemetry

    traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def program() -> None:
        service = Service(predictors, Settings(opentelemetry=True))
        async with serving(service) as client:
            infer = client.infer
            metadata = (("traceparent", traceparent),)
            await infer.ModelInfer(request("iris", {"x": _ONE}), metadata=metadata)
            with pytest.raises(grpc.aio.AioRpcError):
                await infer.ModelInfer(request("tulips", {"x": _ONE}))
            await infer.ServerLive(message("ServerLiveRequest"))

    with telemetry() as on:
        # A process has one global provider.
        own = on.tracer_provider.get_tracer("infersdk")
        monkeypatch.setattr(opentelemetry, "tracer", lambda: own)
        run(program)
        answered, refused = (span for span in on.spans() if span.kind.name == "SERVER")
        assert answered.name == "POST /inference.GRPCInferenceService/ModelInfer"
        assert answered.context is not None
        assert answered.parent is not None
        assert f"{answered.context.trace_id:032x}" in traceparent
        assert f"{answered.parent.span_id:016x}" in traceparent
        assert [span.name for span in children(on.spans(), answered)] == ["infersdk.predict"]
        assert (refused.attributes or {})["http.response.status_code"] == 404
