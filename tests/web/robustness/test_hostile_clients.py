"""Clients that send slowly, too much, not enough or nonsense, against real servers.

What counts is that others are answered meanwhile, and that refusing costs the workers little memory and time. How
many connections may be open, and how long a header may take, is the server's own business.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.web.load import Load
from tests.web.servers import RunningServer, poll_until, serve

LIMIT_BYTES = 2**20
ROUNDS = 5

_ROW = {"age": 41, "city": "Oslo", "active": True, "income": None}
_HEADERS = {"content-type": "application/json"}
_BODY = json.dumps(_ROW).encode()
_DEEP = b"[" * 100_000
_BOMB = gzip.compress(b"[" + b"0," * 20_000_000, 9)
_INPUTS = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": %s}]}'
_RAW = _INPUTS % b'{"binary_data_size": 16}'


class Attack(NamedTuple):
    """What is sent, and the statuses that are an answer to it; 0 is none at all."""

    head: str
    parts: tuple[bytes, ...]
    statuses: tuple[int, ...]


def _post(path: str, *headers: str) -> str:
    lines = [f"POST {path} HTTP/1.1", "host: test", "connection: close", *headers]
    return "\r\n".join([*lines, "", ""])


def _whole(path: str, body: bytes, *headers: str) -> tuple[str, tuple[bytes, ...]]:
    return _post(path, f"content-length: {len(body)}", *headers), (body,)


_CHUNK = b"10000\r\n" + b" " * 65536 + b"\r\n"
_JSON = "content-type: application/json"
_HEADER = "inference-header-content-length"

ATTACKS = {
    "declared too large": Attack(
        _post("/mixed", _JSON, "content-length: 1000000000000"), (b"[",), (413,)
    ),
    "beyond all numbers": Attack(
        _post("/mixed", _JSON, f"content-length: {'9' * 400}"), (b"[",), (400, 413, 0)
    ),
    "too large in chunks": Attack(
        _post("/mixed", _JSON, "transfer-encoding: chunked"), (_CHUNK,) * 400, (413, 0)
    ),
    "both lengths": Attack(
        _post("/mixed", _JSON, "transfer-encoding: chunked", "content-length: 3"),
        (b"zz\r\n",),
        (400, 0),
    ),
    "ends early": Attack(_post("/mixed", _JSON, "content-length: 60000"), (b"{",), (400, 499, 0)),
    "deep": Attack(*_whole("/mixed", _DEEP, _JSON), (400,)),
    "deep oip": Attack(*_whole("/v2/models/network/infer", _DEEP, _JSON), (400,)),
    "bomb": Attack(*_whole("/mixed", _BOMB, _JSON, "content-encoding: gzip"), (413,)),
    "header too long": Attack(
        *_whole("/v2/models/network/infer", _RAW + bytes(16), f"{_HEADER}: 10000000000"), (400,)
    ),
    "header too short": Attack(
        *_whole("/v2/models/network/infer", _RAW + bytes(16), f"{_HEADER}: 5"), (400,)
    ),
    "raw too short": Attack(
        *_whole("/v2/models/network/infer", _RAW + bytes(8), f"{_HEADER}: {len(_RAW)}"), (400,)
    ),
    "long path": Attack(*_whole("/" + "a" * 7000, b"{}", _JSON), (400, 404, 414, 0)),
    "odd path": Attack(*_whole("/%ff%00/..%2f", b"{}", _JSON), (400, 404)),
    # Granian gives no header that is no text; without a word on its type, a body is JSON.
    "bytes in headers": Attack(
        *_whole("/mixed", _BODY, "content-type: \xff\xfe", "x-request-id: \xff"), (200, 400, 415, 0)
    ),
    "noise": Attack("\x16\x03\x01\x02\r\n\r\n", (random.Random(0).randbytes(500),), (400, 404, 0)),
}


def _status(port: int, attack: Attack) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        with suppress(OSError):  # refused before all was sent
            connection.sendall(attack.head.encode("latin-1"))
            for part in attack.parts:
                connection.sendall(part)
            if (
                0 in attack.statuses
            ):  # nothing follows; to some servers that is a client that has gone
                connection.shutdown(socket.SHUT_WR)
        answer = b""
        with suppress(ConnectionError):
            while part := connection.recv(65536):
                answer += part
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


@contextmanager
def _slow(port: int, n: int) -> Iterator[None]:
    """Connections that have begun a header or a body, and send no more."""
    begun = (
        _post("/mixed", _JSON)[:-2].encode(),
        _post("/mixed", _JSON, "content-length: 5000").encode() + b"{",
        _post("/mixed", _JSON, "transfer-encoding: chunked").encode() + b"10\r\n{",
    )
    with ExitStack() as stack:
        for number in range(n):
            connection = socket.create_connection(("127.0.0.1", port), timeout=20)
            stack.enter_context(connection)
            connection.sendall(begun[number % len(begun)])
        yield


def _workers(server: RunningServer) -> set[int]:
    return server.workers() or {server.process.pid}


def _cpu_s(pids: set[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _peak_bytes(pids: set[int]) -> int:
    peaks = []
    for pid in pids:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        peaks.append(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")))
    return max(peaks) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize(
    ("kind", "attribute", "n_slow"),
    [
        # A slow client holds one of 4 threads of one of two workers.
        ("gunicorn gthread", "wsgi()", 3),
        ("uvicorn", "asgi", 150),
        ("granian rsgi", "rsgi", 150),
    ],
)
def test_others_are_answered_and_refusals_are_cheap(
    kind: str, attribute: str, n_slow: int, model_paths: dict[str, Path], mixed: Any, tmp_path: Path
) -> None:
    environment = {
        "MODELS": json.dumps({name: str(model_paths[name]) for name in ("mixed", "network")}),
        "SETTINGS": json.dumps({"max_body_bytes": LIMIT_BYTES}),
    }
    X = mixed.X.iloc[:1].assign(**{**_ROW, "income": np.nan})
    expected = b'{"answers":["%s"]}' % mixed.model.predict(X)[0].encode()
    app = f"tests.web.robustness.served_app:{attribute}"
    with serve(kind, app, tmp_path, environment=environment) as server:
        for _ in range(20):
            assert server.request("POST", "/mixed", _BODY, _HEADERS) == (200, expected)
        pids = _workers(server)
        before_s, before_bytes = _cpu_s(pids), _peak_bytes(pids)
        wrong: list[str] = []
        with _slow(server.port, n_slow):
            for _ in range(ROUNDS):
                for name, attack in ATTACKS.items():
                    status = _status(server.port, attack)
                    if status not in attack.statuses:
                        wrong.append(f"{name}: {status}")
            attacked_s = _cpu_s(pids) - before_s
            grown_bytes = _peak_bytes(pids) - before_bytes
            load = Load(server, "/mixed", _BODY, {expected}, n_clients=2, delays_ms=(0,))
            with load:
                assert poll_until(lambda: load.answered() >= 200)
                for attack in ATTACKS.values():
                    _status(server.port, attack)
        assert load.failures() == []
        assert _workers(server) == pids
        log = server.log()
    assert not wrong, wrong
    assert "Traceback" not in log, log[-3000:]
    assert attacked_s / (ROUNDS * len(ATTACKS)) < 0.1
    assert grown_bytes < 16 * LIMIT_BYTES
