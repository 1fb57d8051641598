"""Bodies and answers that are compressed."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infersdk.predictors import Predictors
from infersdk.web.encodings import accepts_gzip, decompressed, gzipped
from infersdk.web.problems import ProblemError
from infersdk.web.request import Request
from infersdk.web.service import Reply, Service
from infersdk.web.settings import Settings
from tests.web.conftest import Trained

ROW = b"[5.1, 3.5, 1.4, 0.2]"


def bare_deflate(body: bytes) -> bytes:
    writer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return writer.compress(body) + writer.flush()


@given(body=st.binary(max_size=5000))
def test_what_was_compressed_is_read_again(body: bytes) -> None:
    limit = 5000
    assert decompressed(gzip.compress(body), "gzip", limit) == body
    assert decompressed(bytearray(gzip.compress(body)), " GZIP ", limit) == body
    assert decompressed(zlib.compress(body), "deflate", limit) == body
    assert decompressed(body, "identity", limit) is body
    assert gzip.decompress(gzipped(body)) == body


@given(body=st.binary(min_size=1, max_size=500))
def test_deflate_without_its_header(body: bytes) -> None:
    packed = bare_deflate(body)
    if packed[0] & 0x0F != 8:  # else it cannot be told from one with a header
        assert decompressed(packed, "deflate", 500) == body


def test_a_bomb_is_not_unpacked() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    with pytest.raises(ProblemError) as caught:
        decompressed(bomb, "gzip", 1000)
    assert caught.value.status == 413


@given(body=st.binary(max_size=200))
def test_damaged_bodies_are_refused(body: bytes) -> None:
    whole = gzip.compress(body)
    for damaged in (whole[:-1], whole[:5], whole + b"x", b"no" + whole[2:]):
        with pytest.raises(ProblemError) as caught:
            decompressed(damaged, "gzip", 1000)
        assert caught.value.status == 400


@pytest.mark.parametrize("name", ["br", "zstd", "gzip, gzip", "x" * 10_000])
def test_other_encodings(name: str) -> None:
    with pytest.raises(ProblemError) as caught:
        decompressed(b"", name, 10)
    assert caught.value.status == 415
    assert len(caught.value.detail) < 300


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        (None, False),
        ("", False),
        ("gzip", True),
        ("br, gzip;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0, br", False),
        ("br", False),
    ],
)
def test_who_takes_gzip(accepted: str | None, expected: bool) -> None:
    assert accepts_gzip(accepted) is expected


@pytest.fixture(scope="module")
def predictors(iris: Trained) -> Iterator[Predictors]:
    predictors = Predictors({"iris": iris.path})
    yield predictors
    predictors.close()


def both(service: Service, headers: dict[str, str], body: bytes) -> Reply:
    request = Request("POST", "/iris", headers.get)
    reply = service.handle(request, body)
    assert asyncio.run(service.ahandle(request, body)) == reply
    return reply


def test_a_request_may_be_compressed(predictors: Predictors) -> None:
    service = Service(predictors, Settings(max_body_bytes=2**20))
    reply = both(service, {"content-encoding": "gzip"}, gzip.compress(ROW))
    assert json.loads(reply.body) == {"answers": [0]}
    # Large enough to be unpacked in a thread.
    rows = b"[" + b", ".join([ROW] * 9000) + b"]"
    packed = gzip.compress(rows, compresslevel=0)
    assert len(packed) > 2**16
    reply = both(service, {"content-encoding": "gzip"}, packed)
    assert json.loads(reply.body) == {"answers": [0] * 9000}
    assert both(service, {"content-encoding": "gzip"}, gzip.compress(b" " * 2**21)).status == 413
    assert both(service, {"content-encoding": "gzip"}, b"plain").status == 400
    assert both(service, {"content-encoding": "br"}, ROW).status == 415


def test_answers_are_compressed_where_that_is_set_and_asked_for(predictors: Predictors) -> None:
    service = Service(predictors, Settings(compress_min_bytes=100))
    many = b"[" + b", ".join([ROW] * 100) + b"]"
    plain = both(service, {}, many)
    assert dict(plain.headers)["vary"] == "accept-encoding"
    packed = both(service, {"accept-encoding": "gzip, br"}, many)
    assert dict(packed.headers)["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert both(service, {"accept-encoding": "gzip"}, ROW).headers == plain.headers[:1]
    off = Service(predictors, Settings())
    assert both(off, {"accept-encoding": "gzip"}, many).body == plain.body
