"""Messages made of a table, and large tensors in and out of them. The oracle is protobuf."""

from __future__ import annotations

import logging
import subprocess
import sys
from random import Random

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infersdk.errors import InputError, OverloadedError
from infersdk.web.grpc.gone_clients import pass_over_gone_clients
from infersdk.web.grpc.messages import HEALTH, INFERENCE, METHODS, RPC
from infersdk.web.grpc.schema import Schema
from infersdk.web.grpc.status import refusal_of
from infersdk.web.grpc.wire import with_raw, without_raw
from infersdk.web.problems import ProblemError


class TestSchema:
    def test_every_kind_of_field(self) -> None:
        shop = Schema(
            "shop",
            {
                "Item": "1 string name, 2 Item.Size size, 17 double* prices",
                "Item.Size": "1 int32 n",
                "Order": "1 Item* items, 2 Item{} by_name, 3 bool? paid, 4 string? owed",
            },
        )
        order = shop["Order"](
            items=[{"name": "pen", "size": {"n": 3}, "prices": [0.5, 1.5]}],
            by_name={"pen": shop["Item"](name="pen")},
            owed="all",
        )
        read = shop["Order"].FromString(order.SerializeToString())
        assert read == order
        assert read.by_name["pen"].name == "pen"
        assert read.WhichOneof("parameter_choice") == "owed"
        assert "Order" in shop
        assert "Basket" not in shop

    def test_field_numbers_are_those_on_the_wire(self) -> None:
        # Key 5 << 3 | 2, length 8; in it the keys of name and datatype.
        request = INFERENCE["ModelInferRequest"](inputs=[{"name": "x", "datatype": "FP32"}])
        assert request.SerializeToString() == b"\x2a\x09\x0a\x01x\x12\x04FP32"
        assert INFERENCE["ModelInferRequest"](raw_input_contents=[b"r"]).SerializeToString() == (
            b"\x3a\x01r"
        )
        assert HEALTH["HealthCheckResponse"](status=1).SerializeToString() == b"\x08\x01"

    def test_every_method_has_its_messages(self) -> None:
        for method in METHODS:
            assert f"{method}Request" in INFERENCE
            assert f"{method}Response" in INFERENCE

    def test_the_default_pool_stays_free_for_clients(self) -> None:
        code = (
            "from google.protobuf import descriptor_pool, descriptor_pb2\n"
            "import infersdk.web.grpc\n"
            "file = descriptor_pb2.FileDescriptorProto(name='s.proto', package='inference')\n"
            "file.message_type.add(name='ModelInferRequest')\n"
            "descriptor_pool.Default().Add(file)\n"
            "descriptor_pool.Default().FindMessageTypeByName('inference.ModelInferRequest')\n"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


Request = INFERENCE["ModelInferRequest"]
Response = INFERENCE["ModelInferResponse"]


class TestRawContents:
    @given(
        st.lists(st.binary(max_size=300), max_size=4),
        st.text(max_size=5),
        st.lists(st.text(max_size=5), max_size=3),
        st.randoms(),
    )
    def test_they_are_cut_out_of_a_request_wherever_they_lie(
        self, contents: list[bytes], name: str, inputs: list[str], random: Random
    ) -> None:
        parts = [Request(model_name=name).SerializeToString()]
        parts += [Request(inputs=[{"name": name}]).SerializeToString() for name in inputs]
        for raw in contents:
            at = random.randint(0, len(parts))
            parts.insert(at, Request(raw_input_contents=[raw]).SerializeToString())
        body = b"".join(parts)
        whole = Request.FromString(body)
        cut = without_raw(body)
        assert cut is not None
        others, views = cut
        assert [bytes(view) for view in views] == list(whole.raw_input_contents)
        del whole.raw_input_contents[:]
        assert Request.FromString(others) == whole

    @given(st.binary(max_size=60))
    def test_other_bytes_are_left_to_protobuf(self, body: bytes) -> None:
        cut = without_raw(body)
        if cut is not None:
            assert sum(len(view) for view in cut[1]) <= len(body)

    @pytest.mark.parametrize(
        "body",
        [
            b"\x3a",  # no length
            b"\x3a\x05abc",  # cut off
            b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a length past every limit
            b"\x08\x01",  # no length-delimited field
            b"\xfa\x7f\x01a",  # a key of two bytes
        ],
    )
    def test_what_is_no_such_message_is_not_touched(self, body: bytes) -> None:
        assert without_raw(body) is None

    def test_they_are_views_of_the_request(self) -> None:
        body = Request(raw_input_contents=[bytes(1000)]).SerializeToString()
        cut = without_raw(body)
        assert cut is not None
        assert cut[1][0].obj is body

    @given(st.lists(st.binary(max_size=300), max_size=3))
    def test_they_are_put_behind_a_response(self, contents: list[bytes]) -> None:
        head = Response(model_name="m").SerializeToString()
        assert Response.FromString(with_raw(head, contents)) == Response(
            model_name="m", raw_output_contents=contents
        )

    def test_a_long_one(self) -> None:
        array = np.arange(100_000, dtype=np.float32)
        body = with_raw(b"", [memoryview(array.view(np.uint8))])
        (raw,) = Response.FromString(body).raw_output_contents
        np.testing.assert_array_equal(np.frombuffer(raw, np.float32), array)


class TestRefusals:
    def test_each_field_that_does_not_fit(self) -> None:
        errors = [
            InputError("Expected a number, got None - `age`", field="age", row=2),
            InputError("Expected text, got 5 - `city`", field="city"),
        ]
        refusal = refusal_of(errors[0], errors)
        assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
        assert refusal.message == "Expected a number, got None - `age` (and 1 more)"
        status = RPC["Status"].FromString(dict(refusal.trailing)["grpc-status-details-bin"])
        assert (status.code, status.message) == (3, refusal.message)
        (detail,) = status.details
        assert detail.type_url == "type.googleapis.com/google.rpc.BadRequest"
        bad = RPC["BadRequest"].FromString(detail.value)
        assert [violation.field for violation in bad.field_violations] == ["age[2]", "city"]
        assert bad.field_violations[1].description == "Expected text, got 5 - `city`"

    def test_a_thousand_of_them_fit_into_what_clients_read(self) -> None:
        errors = [InputError("é" * 400, field="å" * 300, row=row) for row in range(1000)]
        refusal = refusal_of(errors[0], errors)
        details = dict(refusal.trailing)["grpc-status-details-bin"]
        # Text is percent-encoded, binary metadata in base64.
        assert 3 * len(refusal.message.encode()) + len(details) * 4 / 3 < 8192 - 512

    def test_when_to_ask_again(self) -> None:
        refusal = refusal_of(OverloadedError("The queue is full", retry_after_s=1.25))
        assert refusal.code is grpc.StatusCode.UNAVAILABLE
        trailing = dict(refusal.trailing)
        assert trailing["grpc-retry-pushback-ms"] == "1250"
        status = RPC["Status"].FromString(trailing["grpc-status-details-bin"])
        delay = RPC["RetryInfo"].FromString(status.details[0].value).retry_delay
        assert (delay.seconds, delay.nanos) == (1, 250_000_000)

    def test_nobody_is_told_to_ask_again_at_once(self) -> None:
        refusal = refusal_of(OverloadedError("The queue is full", retry_after_s=0.0))
        assert (refusal.code, refusal.trailing) == (grpc.StatusCode.UNAVAILABLE, ())

    @pytest.mark.parametrize(
        ("http", "code"),
        [
            (401, grpc.StatusCode.UNAUTHENTICATED),
            (403, grpc.StatusCode.PERMISSION_DENIED),
            (404, grpc.StatusCode.NOT_FOUND),
            (413, grpc.StatusCode.INVALID_ARGUMENT),
            (499, grpc.StatusCode.CANCELLED),
            (503, grpc.StatusCode.UNAVAILABLE),
            (504, grpc.StatusCode.DEADLINE_EXCEEDED),
            (418, grpc.StatusCode.INTERNAL),
        ],
    )
    def test_the_codes(self, http: int, code: grpc.StatusCode) -> None:
        assert refusal_of(ProblemError(http, "kind", "Title", "Detail")).code is code


class ExecuteBatchError(Exception):
    """Called as gRPC's own is."""


@pytest.mark.parametrize(
    ("error", "method", "is_logged"),
    [
        (ExecuteBatchError(), "/inference.GRPCInferenceService/ModelInfer", False),
        (ExecuteBatchError(), "/shop.Orders/Add", True),
        (ValueError(), "/inference.GRPCInferenceService/ModelInfer", True),
    ],
)
def test_clients_that_went_away_are_no_errors_in_the_log(
    caplog: pytest.LogCaptureFixture, error: Exception, method: str, is_logged: bool
) -> None:
    pass_over_gone_clients()
    logger = logging.getLogger("grpc._cython.cygrpc")
    logger.error("%s raised by servicer method [%s]", type(error).__name__, method, exc_info=error)
    assert bool(caplog.records) is is_logged
