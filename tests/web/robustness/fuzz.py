"""Requests that no honest client sends, any number of them, the same for the same seed.

Most begin as good requests of some protocol, and are then damaged: a value, a byte, a length, a header, a path.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Fuzzed", "fuzzed", "good_requests"]

JSON = "application/json"
BINARY = "application/octet-stream"
NPY = "application/x-npy"
CSV = "text/csv"
HEADER = "inference-header-content-length"

IRIS = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
MIXED = {"age": 41, "city": "Oslo", "active": True, "income": None}


class Fuzzed(NamedTuple):
    """A request, good or not."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


# -- good ones --------------------------------------------------------------------------------------


def good_requests() -> list[Fuzzed]:
    """At least one for each route of every protocol; all are answered with 200."""
    row = dict(zip(IRIS, (5.1, 3.5, 1.4, 0.2), strict=True))
    bodies: list[tuple[str, Any]] = [
        ("/iris", row),
        ("/iris/predict_proba", [row, row]),
        ("/iris", [[5.1, 3.5, 1.4, 0.2]]),
        ("/mixed", MIXED),
        ("/mixed/predict_proba", [MIXED, {**MIXED, "income": 51.5}]),
        ("/texts", "good film"),
        ("/texts/predict", ["good film", "an awful one"]),
        ("/network", [[1, 2, 3, 4.5]]),
        ("/network", {"x": [[1, 2, 3, 4.5], [0, 0, 0, 0]]}),
        ("/sums", [[1, 2, 3]]),
        ("/v2/models/iris/infer", {"inputs": [_tensor("x", "FP64", [2, 4], [1.5] * 8)]}),
        (
            "/v2/models/iris/versions/1/infer",
            {
                "id": "7",
                "parameters": {"timeout": 5_000_000, "binary_data_output": True},
                "inputs": [_tensor(name, "FP32", [1, 1], [2.5]) for name in IRIS],
                "outputs": [{"name": "predict_proba"}, {"name": "predict"}],
            },
        ),
        (
            "/v2/models/mixed/infer",
            {
                "inputs": [
                    _tensor("age", "INT64", [1], [41]),
                    _tensor("city", "BYTES", [1], ["Oslo"]),
                    _tensor("active", "BOOL", [1], [True]),
                    _tensor("income", "FP64", [1], [None]),
                ]
            },
        ),
        ("/v2/models/texts/infer", {"inputs": [_tensor("text", "BYTES", [1], ["good film"])]}),
        (
            "/v2/models/network/infer",
            {"inputs": [_tensor("x", "FP32", [1, 4], [[1, 2, 3, 4]])]},
        ),
        ("/v2/models/sums/infer", {"inputs": [_tensor("x", "FP32", [1, 2], [1, 2])]}),
        ("/iris/invocations", {"instances": [row, row]}),
        ("/models/iris/invoke", {"dataframe_records": [row]}),
        (
            "/serving-endpoints/iris/invocations",
            {"dataframe_split": {"columns": IRIS, "data": [[5.1, 3.5, 1.4, 0.2]]}},
        ),
        ("/iris/invocations", {"inputs": {name: [1.5] for name in IRIS}}),
        ("/mixed/invocations", {"dataframe_records": [MIXED], "params": {"method": "predict"}}),
        ("/texts/invocations", {"inputs": ["good film"]}),
        ("/network/invocations", {"inputs": [[1, 2, 3, 4]]}),
        ("/sums/invocations", {"instances": [[1, 2]]}),
    ]
    posted = [
        Fuzzed("POST", path, {"content-type": JSON}, json.dumps(body).encode())
        for path, body in bodies
    ]
    return posted + _raw() + [Fuzzed("GET", path, {}, b"") for path in _PAGES]


_PAGES = (
    *("/", "/iris", "/mixed", "/texts", "/network", "/health/live", "/health/ready"),
    *("/health/startup", "/openapi.json", "/metrics"),
    *("/ping", "/models", "/models/iris", "/version"),
    *("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/stats", "/v2/models/iris"),
    *("/v2/models/mixed/config", "/v2/models/texts/ready", "/v2/models/network/stats"),
    *("/v2/models/iris/versions/1", "/v2/systemsharedmemory/status"),
)


def _tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def _raw() -> list[Fuzzed]:
    """Bodies that are no JSON, or not only."""
    array = np.array([[5.1, 3.5, 1.4, 0.2]])
    npy = io.BytesIO()
    np.save(npy, array)
    csv = b"5.1,3.5,1.4,0.2\n6.1,3.5,1.4,0.2\n"
    texts = b"".join(len(text).to_bytes(4, "little") + text for text in (b"good", b"film"))
    return [
        _binary("/v2/models/iris/infer", [("x", "FP64", [1, 4], array.tobytes())]),
        _binary("/v2/models/network/infer", [("x", "FP32", [2, 4], bytes(32))]),
        _binary("/v2/models/sums/infer", [("x", "FP32", [2, 1], bytes(8))]),
        _binary("/v2/models/texts/infer", [("text", "BYTES", [2], texts)]),
        _binary(
            "/v2/models/mixed/infer",
            [
                ("age", "INT64", [1, 1], (41).to_bytes(8, "little")),
                ("city", "BYTES", [1, 1], b"\x04\0\0\0Oslo"),
                ("active", "BOOL", [1, 1], b"\1"),
                ("income", "FP64", [1, 1], bytes(8)),
            ],
        ),
        Fuzzed("POST", "/iris/invocations", {"content-type": CSV}, csv),
        Fuzzed("POST", "/iris/invocations", {"content-type": NPY}, npy.getvalue()),
    ]


def _binary(path: str, tensors: list[tuple[str, str, list[int], bytes]]) -> Fuzzed:
    inputs = [
        {
            "name": name,
            "datatype": datatype,
            "shape": shape,
            "parameters": {"binary_data_size": len(raw)},
        }
        for name, datatype, shape, raw in tensors
    ]
    head = json.dumps({"inputs": inputs}).encode()
    headers = {"content-type": BINARY, HEADER: str(len(head))}
    return Fuzzed("POST", path, headers, head + b"".join(raw for *_, raw in tensors))


# -- and what becomes of them -------------------------------------------------------------------------

_BIG = b"9" * 100_000
_DEEP = (
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"[" * 1000 + b"]" * 1000,
    b'{"a":' * 1000 + b"1" + b"}" * 1000,
    b"[" * 300 + b"1" + b"]" * 300,
)
_VALUES = (
    *(b"null", b"true", b"0", b"-1", b"1e400", b"-1e400", b"1e-400", b"1e308", b"3.5e38"),
    *(b"NaN", b"Infinity", b"-Infinity", b"nan", b"0x10", b"1_000", b"01", b"1.", b".5", b"+1"),
    *(b"9223372036854775807", b"9223372036854775808", b"-9223372036854775809", b"0.1", b"1e5"),
    *(b"18446744073709551615", b"18446744073709551616", b"4294967296", b"1e18", b"-0.0"),
    *(b'""', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff"', b'"\\u0000"', b'"\xed\xa0\x80"'),
    *(b'"NaN"', b'"1.5"', b'"' + b"a" * 10_000 + b'"', b'"\xf0\x9f\x98\x80"', b'"__proto__"'),
    *(b"[]", b"{}", b"[[]]", b"[null]", b'{"":0}', b"[[1,2],[3]]", b'[1,"a"]', b"[[[[1]]]]"),
    *(b"[0,9000000000]", b"[9000000000,0]", b"[-1,4]", b"[1,4.0]", b"[true,4]", b'["1",4]'),
    *(b"[" + b"1," * 40 + b"1]", b"[30000,0]", b"[2147483648,2147483648]"),
)
_KEYS = (
    *(b'"inputs"', b'"outputs"', b'"parameters"', b'"name"', b'"datatype"', b'"shape"', b'"data"'),
    *(b'"id"', b'"binary_data"', b'"binary_data_size"', b'"binary_data_output"', b'"timeout"'),
    *(b'"instances"', b'"dataframe_split"', b'"dataframe_records"', b'"columns"', b'"index"'),
    *(b'"classification"', b'"shared_memory_region"', b'"method"', b'"params"', b'"text"', b'"x"'),
    *(b'"age"', b'"city"', b'"priority"', b'"sequence_id"', b'"a/b~c"', b'"\\ud800"', b'""'),
)
_DATATYPES = (
    *(b"BOOL", b"UINT8", b"UINT64", b"INT8", b"INT16", b"INT64", b"FP16", b"FP32", b"FP64"),
    *(b"BF16", b"BYTES", b"FP128", b"fp32", b"TYPE_FP32", b"\xff"),
)
_TYPES = (
    *("", JSON, BINARY, NPY, CSV, "text/plain", "application/x-www-form-urlencoded", "text/html"),
    *("application/json; charset=utf-16", "application/problem+json", "application/", "/", ";"),
    *("multipart/form-data; boundary=x", "application/jsonlines", "\xff\xfe", "a" * 10_000),
    *("text/csv; header=present", "text/csv;header=absent", "application/json,text/csv", "*/*"),
    *("application/x-npz", "application/json\t", "APPLICATION/JSON", "application/x-parquet"),
)
_ENCODINGS = (
    "gzip",
    "deflate",
    "x-gzip",
    "identity",
    "br",
    "zstd",
    "gzip, gzip",
    "",
    "\xff",
    "GZIP",
)
_PATHS = (
    *("", "//", "/..", "/../../etc/passwd", "/%2e%2e/iris", "/iris/..", "/iris%2fpredict", "/\0"),
    *(
        "/iris\0",
        "/iris/\0",
        "/iris/predict/",
        "/iris//predict",
        "/iris/predict/x",
        "/Iris",
        "/ïris",
    ),
    *("/\ufffd", "/\udcff", "/iris/\udcff", "/v2/\udcff", "/v2/models/\udcff/infer", "/\U0001f600"),
    *(
        "/v2/models",
        "/v2/models//infer",
        "/v2/models/iris/versions/2/infer",
        "/v2/models/iris/infer/",
    ),
    *("/v2/models/iris/versions//infer", "/v2/repository/index", "/v2/repository/models/iris/load"),
    *(
        "/v2/repository/models/iris/unload",
        "/v2/systemsharedmemory/region/a/register",
        "/v3",
        "/v2/",
    ),
    *(
        "/health",
        "/health/x",
        "/openapi.json/x",
        "/metrics/x",
        "/health/live/",
        "/ping/x",
        "/invocations",
    ),
    *("/iris/__class__", "/iris/close", "/iris/__call__", "/iris/predictor", "/invocations/iris"),
    *("/__class__", "/iris/" + "a" * 10_000, "/" + "a" * 10_000, "/" * 10_000, "/v2" + "/a" * 5000),
    *(
        "/models/iris/invoke",
        "/models",
        "/version",
        "/iris?x=1",
        "/iris#x",
        "/iris;x=1",
        "iris",
        "*",
    ),
)
_METHODS = (
    "GET",
    "HEAD",
    "PUT",
    "DELETE",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "CONNECT",
    "BREW",
    "post",
    "",
)
_HEADERS = (
    *("authorization", "x-request-id", "traceparent", "tracestate", "accept", "accept-encoding"),
    *("content-length", HEADER, "content-encoding", "x-forwarded-for", "host", "expect", "cookie"),
    *("transfer-encoding", "x-amzn-sagemaker-custom-attributes", "x-amzn-sagemaker-target-model"),
    *("x-amzn-sagemaker-inference-component", "accept-language", "baggage", "range"),
)
_TEXTS = (
    *(
        "",
        " ",
        "0",
        "-1",
        "1" * 5000,
        "NaN",
        "\xff",
        "a" * 10_000,
        "\0",
        "Bearer",
        "Bearer \xff",
        ",,",
    ),
    *(
        "00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        "gzip;q=x",
        "*/*;q=2",
        "²",
        "٣",
        "12 ",
        "1e3",
        "0x10",
    ),
    *(
        "application/openmetrics-text",
        "application/octet-stream",
        "text/csv",
        "\r\nx: y",
        "1,2",
        ";" * 99,
    ),
)


def fuzzed(seed: int, n: int) -> Iterator[Fuzzed]:
    """Give ``n`` requests.

    Parameters
    ----------
    seed, n : int
    """
    rng = random.Random(seed)
    good = good_requests()
    posted = [request for request in good if request.method == "POST"]
    for _ in range(n):
        request = rng.choice(posted if rng.random() < 0.95 else good)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            damage = rng.choices(_DAMAGES, _WEIGHTS)[0]
            request = damage(request, rng)
        yield request


def _on_body(change: Callable[[bytes, random.Random], bytes]) -> Any:
    def damage(request: Fuzzed, rng: random.Random) -> Fuzzed:
        changed = change(request.body, rng)
        length = request.headers.get(HEADER, "")
        headers = request.headers
        # As often as not the JSON's length is right, so that what is behind it is read.
        if length.isascii() and length.isdecimal() and len(length) < 9 and rng.random() < 0.5:
            moved = int(length) + len(changed) - len(request.body)
            headers = {**headers, HEADER: str(max(0, moved))}
        return request._replace(body=changed, headers=headers)

    return damage


def _noise(body: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice((0, 1, 2, 16, 500, 5000)))


def _cut(body: bytes, rng: random.Random) -> bytes:
    return body[: rng.randint(0, len(body))]


def _doubled(body: bytes, rng: random.Random) -> bytes:
    begin, end = sorted((rng.randint(0, len(body)), rng.randint(0, len(body))))
    return body[:end] + body[begin:end] + body[end:]


def _flipped(body: bytes, rng: random.Random) -> bytes:
    changed = bytearray(body or b"0")
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] = rng.choice((rng.randrange(256), *b'[]{},:"\\0-'))
    return bytes(changed)


def _another_value(body: bytes, rng: random.Random) -> bytes:
    """Put some value in the place of another; what is no JSON is left alone."""
    spans = list(_spans(body))
    if not spans:
        return body
    value = rng.choice(_VALUES)
    if rng.random() < 0.03:
        value = rng.choice((_BIG, *_DEEP))
    begin, end = rng.choice(spans)
    if body[begin : begin + 1] == b'"' and rng.random() < 0.5:
        value = rng.choice((*_KEYS, *(b'"' + name + b'"' for name in _DATATYPES)))
    return body[:begin] + value + body[end:]


def _another_member(body: bytes, rng: random.Random) -> bytes:
    """Add a member to an object: often one that is there already."""
    places = [at + 1 for at, byte in enumerate(body[:2000]) if byte == ord("{")]
    if not places:
        return body
    at = rng.choice(places)
    return body[:at] + rng.choice(_KEYS) + b":" + rng.choice(_VALUES) + b"," + body[at:]


def _spans(body: bytes) -> Iterator[tuple[int, int]]:
    """Where the scalars of a JSON text are, and its innermost lists and objects."""
    at = 0
    while at < min(len(body), 2000):
        byte = body[at : at + 1]
        if byte in (b"[", b"{"):
            close = body.find(b"]" if byte == b"[" else b"}", at)
            if close > 0:
                yield at, close + 1
            at += 1
            continue
        if byte == b'"':
            end = body.find(b'"', at + 1) + 1
        elif byte and byte in b"-0123456789tfn":
            end = at + 1
            while end < len(body) and body[end : end + 1] not in (b",", b"]", b"}", b" "):
                end += 1
        else:
            end = 0
        if end <= at:
            at += 1
            continue
        yield at, end
        at = end


def _compressed(request: Fuzzed, rng: random.Random) -> Fuzzed:
    pack = rng.choice(
        (gzip.compress, zlib.compress, lambda body: gzip.compress(gzip.compress(body)))
    )
    body = pack(request.body)
    if rng.random() < 0.5:
        body = rng.choice((_cut, _flipped, _doubled))(body, rng)
    return request._replace(
        body=body, headers={**request.headers, "content-encoding": rng.choice(_ENCODINGS)}
    )


def _bomb(request: Fuzzed, rng: random.Random) -> Fuzzed:
    body = gzip.compress(b"[" + b"0," * 600_000, 9)
    return request._replace(body=body, headers={**request.headers, "content-encoding": "gzip"})


def _typed(request: Fuzzed, rng: random.Random) -> Fuzzed:
    return request._replace(headers={**request.headers, "content-type": rng.choice(_TYPES)})


def _headed(request: Fuzzed, rng: random.Random) -> Fuzzed:
    headers = {**request.headers, rng.choice(_HEADERS): rng.choice(_TEXTS)}
    return request._replace(headers=headers)


def _measured(request: Fuzzed, rng: random.Random) -> Fuzzed:
    """Another length of the JSON before raw bytes."""
    n = len(request.body)
    length = rng.choice((0, 1, n - 1, n, n + 1, 2**31, 2**63, rng.randint(0, n)))
    text = rng.choice((str(length), f" {length} ", f"+{length}", f"-{length}", f"{length}.0", "x"))
    return request._replace(headers={**request.headers, HEADER: text})


def _moved(request: Fuzzed, rng: random.Random) -> Fuzzed:
    if rng.random() < 0.5:
        return request._replace(path=rng.choice(_PATHS))
    path = request.path + rng.choice(_PATHS)
    if rng.random() < 0.5:
        at = rng.randint(0, len(path))
        path = (
            path[:at]
            + chr(rng.choice((0, 10, 47, 46, 37, 92, 0xDC80, 0xFFFD, 0x1F600)))
            + path[at:]
        )
    return request._replace(path=path)


def _elsewhere(request: Fuzzed, rng: random.Random) -> Fuzzed:
    """The body of one route to another."""
    return request._replace(path=rng.choice([other.path for other in good_requests()]))


def _meant(request: Fuzzed, rng: random.Random) -> Fuzzed:
    return request._replace(method=rng.choice(_METHODS))


_DAMAGES, _WEIGHTS = zip(
    (_on_body(_another_value), 30),
    (_on_body(_another_member), 10),
    (_on_body(_flipped), 12),
    (_on_body(_cut), 8),
    (_on_body(_doubled), 4),
    (_on_body(_noise), 5),
    (_measured, 5),
    (_typed, 6),
    (_headed, 6),
    (_moved, 8),
    (_meant, 4),
    (_compressed, 5),
    (_elsewhere, 3),
    (_bomb, 0.2),
    strict=True,
)
