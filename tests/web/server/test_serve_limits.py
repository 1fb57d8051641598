"""`infersdk serve` against clients that mean it no good, and over connections that are encrypted."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.web.server.launch import ask, launch, run_to_the_end
from tests.web.servers import RunningServer, free_port

for needed in ("granian", "typer", "orjson", "sklearn"):
    pytest.importorskip(needed)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]

POST = b"POST /iris HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def server(iris: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    limits = ("--idle-timeout-s", "1", "--body-timeout-s", "1", "--max-body-bytes", "100000")
    folder = tmp_path_factory.mktemp("limits")
    with launch(folder, str(iris.path), *limits, "--max-header-bytes", "16384") as running:
        yield running


def send(server: RunningServer, *parts: bytes) -> bytes:
    """All that comes back until the server ends the connection, as it must."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        said = b""
        try:
            for part in parts:
                connection.sendall(part)
            while data := connection.recv(65536):
                said += data
        except (BrokenPipeError, ConnectionResetError):
            pass  # it did not read all of it
        return said


def status_of(said: bytes) -> int:
    return int(said.split(b" ", 2)[1])


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /iris HT",
        b"POST /iris HTTP/1.1\r\nHost: x\r\nContent-",
        b"\x16\x03\x01\x02\x00\x01",
    ],
    ids=["nothing", "half a line", "half of the headers", "TLS"],
)
def test_connections_without_a_request_end(server: RunningServer, sent: bytes) -> None:
    assert send(server, sent)[:12] in (b"", b"HTTP/1.1 400")


def test_idle_connections_end(server: RunningServer) -> None:
    said = send(server, b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status_of(said) == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"Content-Length: 50\r\n\r\n{",
        b"Content-Length: 50\r\n\r\n",
        b"Content-Length: 90000\r\n\r\n{" + b" " * 50_000,
        b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    ],
)
def test_half_a_body_is_not_waited_for(server: RunningServer, sent: bytes) -> None:
    said = send(server, POST + sent)
    assert status_of(said) == 408
    assert json.loads(said.partition(b"\r\n\r\n")[2])["type"].endswith("body-too-slow")


def test_slow_clients_hold_up_nobody(server: RunningServer, iris: Any) -> None:
    slow = []
    try:
        for _ in range(300):
            connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
            connection.sendall(POST + b"Content-Length: 50\r\n\r\n{")
            slow.append(connection)
        assert ask(server, "/iris", iris.X.iloc[0].to_dict()) == (200, {"answers": [0]})
        assert status_of(slow[-1].recv(65536)) == 408
    finally:
        for connection in slow:
            connection.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"X-Long: " + b"a" * 40_000, 431),
        (b"\r\n".join(b"X-%d: a" % number for number in range(500)), 431),
        (b"Content-Length: -5", 400),
        (b"Content-Length: five", 400),
        (b"Content-Length: 2\r\nContent-Length: 7", 400),
        (b"Content-Length: 5000000000", 413),
        (b"Content-Length: " + b"9" * 40, 400),
    ],
)
def test_headers_that_cannot_be(server: RunningServer, headers: bytes, status: int) -> None:
    said = send(server, POST + headers + b"\r\n\r\n{}")
    assert status_of(said) == status
    assert server.request("GET", "/health/live")[0] == 200


@pytest.mark.parametrize("length", [b"", b"Content-Length: 5\r\n"])
def test_a_body_without_end_is_not_read_to_its_end(server: RunningServer, length: bytes) -> None:
    # Some 100 MB, if they were taken; with a length that belies them, too.
    part = b"10000\r\n" + b" " * 2**16 + b"\r\n"
    said = send(server, POST + length + b"Transfer-Encoding: chunked\r\n\r\n", *[part] * 1600)
    assert said == b"" or status_of(said) == 413  # a reset may overtake the answer
    [worker] = server.workers()
    peak = Path(f"/proc/{worker}/status").read_text().partition("VmHWM:")[2].split()[0]
    assert int(peak) < 400_000  # KiB


# -- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's certificate and a client's."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl to make certificates")
    folder = tmp_path_factory.mktemp("tls")
    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl(*new, "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")
    for name in ("server", "client"):
        openssl(
            *(*new, "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-addext", "basicConstraints=critical,CA:FALSE", "-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-keyout", f"{name}.key", "-out", f"{name}.pem"),
        )
    return folder


def test_tls_with_certificates_of_both_sides(iris: Any, certificates: Path, tmp_path: Path) -> None:
    files = [
        f"--{name}={certificates / file}"
        for name, file in (
            ("tls-cert", "server.pem"),
            ("tls-key", "server.key"),
            ("tls-client-ca", "ca.pem"),
        )
    ]
    with launch(tmp_path, str(iris.path), *files) as server:
        context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _get(server, context)
        context.load_cert_chain(certificates / "client.pem", certificates / "client.key")
        assert _get(server, context).startswith(b"HTTP/1.1 200")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert _get(server, context).startswith(b"HTTP/1.1 200")
        # Whoever does not speak TLS gets nowhere.
        assert b"200" not in send(server, b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")[:12]


def _get(server: RunningServer, context: ssl.SSLContext) -> bytes:
    plain = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        said = b""
        while data := connection.recv(65536):
            said += data
        if not said:
            raise ConnectionError("closed without a word")
        return said


def test_a_key_that_is_not_the_certificates(iris: Any, certificates: Path, tmp_path: Path) -> None:
    status, said = run_to_the_end(
        tmp_path,
        *(str(iris.path), "--port", "0", "--tls-cert", str(certificates / "server.pem")),
        *("--tls-key", str(certificates / "client.key")),
    )
    assert status == 2
    assert "its private key, not encrypted, in" in said
    assert "Traceback" not in said


# -- gRPC -----------------------------------------------------------------------------------------


def test_grpc_beside_http(iris: Any, tmp_path: Path) -> None:
    grpc = pytest.importorskip("grpc")
    pytest.importorskip("google.protobuf")
    from infersdk.web.grpc import InferenceStub
    from infersdk.web.grpc.messages import INFERENCE

    port = str(free_port())
    environment = {"INFERSDK_TOKEN": "t0ken-of-a-test", "INFERSDK_GRPC_PORT": port}
    with launch(tmp_path, str(iris.path), environment=environment, n_ready=2) as server:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = InferenceStub(channel)
            assert stub.ServerReady(INFERENCE["ServerReadyRequest"](), timeout=20).ready
            asked = INFERENCE["ModelInferRequest"](model_name="iris")
            tensor = asked.inputs.add(name="X", datatype="FP32", shape=[len(iris.X), 4])
            tensor.contents.fp32_contents.extend(iris.X.to_numpy().ravel().tolist())
            with pytest.raises(grpc.RpcError) as refused:
                stub.ModelInfer(asked, timeout=20)
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
            bearer = (("authorization", "Bearer t0ken-of-a-test"),)
            answer = stub.ModelInfer(asked, timeout=20, metadata=bearer)
            assert answer.model_name == "iris"
            assert len(answer.outputs) > 0
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "Traceback" not in server.log()
