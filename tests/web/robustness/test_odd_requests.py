"""Single requests that were answered wrongly once, each the smallest of its kind."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from infersdk.web.request import Request
from infersdk.web.service import Service

HALF = "\udc80"  # of a surrogate pair: a byte that is no UTF-8, as some hosts decode it
DEEP = b"[" * 1000 + b"]" * 1000  # the JSON is read; to print it would take more than the stack


@pytest.fixture
def ask(make_service: Callable[..., Service]) -> Callable[..., tuple[int, bytes]]:
    service = make_service()

    def asked(path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        reply = service.handle(Request("POST", path, named.get), body)
        return reply.status, reply.body

    return asked


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (f"/{HALF}", {}, 404),
        (f"/iris/{HALF}", {}, 404),
        (f"/v2/{HALF}", {}, 404),
        (f"/v2/models/{HALF}/infer", {}, 404),
        ("/iris", {"content_type": HALF}, 415),
        ("/iris", {"content_encoding": HALF}, 415),
        ("/v2/models/iris/infer", {"inference_header_content_length": HALF}, 400),
    ],
)
def test_text_that_is_no_utf8_is_refused_in_words(
    ask: Callable[..., tuple[int, bytes]], path: str, headers: dict[str, str], status: int
) -> None:
    given, body = ask(path, b"[]", **headers)
    assert given == status
    assert json.loads(body)


def test_a_token_that_is_no_utf8(make_service: Callable[..., Service]) -> None:
    service = make_service(token="secret")
    for token in ("\udc80", "\ud800", "?"):
        given = {"authorization": f"Bearer {token}"}
        assert service.handle(Request("GET", "/iris", given.get)).status == 401


@pytest.mark.parametrize(
    ("member", "status"),
    [
        (b'"shape": %s, "data": []' % DEEP, 422),
        (b'"shape": [1, %s], "data": []' % DEEP, 422),
        (b'"shape": [1, 4], "data": %s' % DEEP, 422),
        (b'"shape": [1, 4], "datatype": %s' % DEEP, 400),
        (b'"shape": [1, 4], "parameters": {"binary_data_size": %s}' % DEEP, 400),
        (
            b'"shape": [1, 4], "data": [1, 2, 3, 4]}], "parameters": {"method": %s}, "a": [{'
            % DEEP,
            422,
        ),
        (b'"shape": [1, 4], "data": [1, 2, 3, 4]}], "outputs": [{"name": %s' % DEEP, 400),
        (b'"shape": [1, 4], "data": [1, 2, 3, 4]}], "id": %s, "a": [{' % DEEP, 400),
    ],
)
def test_lists_in_lists_are_refused_in_few_words(
    ask: Callable[..., tuple[int, bytes]], member: bytes, status: int
) -> None:
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", %s}]}' % member
    given, reply = ask(
        "/v2/models/network/infer", body, inference_header_content_length=str(len(body))
    )
    assert given == status
    assert len(reply) < 500


@pytest.mark.parametrize("shape", ["[30000000, 0]", "[9000000000000, 0]", "[20000, 20000, 0]"])
def test_nobody_asks_for_millions_of_answers_to_nothing(
    ask: Callable[..., tuple[int, bytes]], shape: str
) -> None:
    path = "/v2/models/sums/infer"
    given, reply = ask(
        path,
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": %s, "data": []}]}'
        % shape.encode(),
    )
    assert given == 422
    assert b"rows that are empty" in reply
    # None at all, or some: as ever.
    for shape in ("[0, 50000]", "[3, 0]"):
        body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": %s, "data": []}]}'
        assert ask(path, body % shape.encode())[0] == 200


def test_what_was_meant_is_looked_for_a_few_times_only(
    ask: Callable[..., tuple[int, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each search takes a tenth of a millisecond, and a body has room for a million names."""
    from infersdk.web.protocols import invocations_rows

    searched = []

    def search(name: str, names: list[str], n: int) -> list[str]:
        searched.append(len(name))
        return []

    monkeypatch.setattr(invocations_rows, "get_close_matches", search)
    names = ["x" * 5000, *(f"column {number}" for number in range(20_000))]
    columns = json.dumps(names).encode()
    split = b'{"dataframe_split": {"columns": %s, "data": []}}' % columns
    for path, body, content_type in (
        ("/iris/invocations", split, "application/json"),
        ("/iris/invocations", ",".join(names).encode(), "text/csv; header=present"),
    ):
        searched.clear()
        status, reply = ask(path, body, content_type=content_type)
        assert (status, len(reply) < 50_000) == (422, True)
        assert 0 < len(searched) <= 100
        assert max(searched) <= 80


def test_paths_that_clients_make_up_take_no_memory(make_service: Callable[..., Service]) -> None:
    """Nor the place of those that are asked for every day."""
    service = make_service()
    held = service._routes

    def ask(path: str) -> int:
        headers = {"content-type": "application/json"}
        return service.handle(Request("POST", path, headers.get), b"[1, 2, 3, 4]").status

    for number in range(3000):
        assert ask(f"/iris/{number}") == 404
        assert len(held) <= 1024
    assert ask("/iris/predict") == 200
    assert ("POST", "/iris/predict") in held
    assert ask("/iris/" + "x" * 60_000) == 404
    assert max(len(path) for _, path in held) <= 512
