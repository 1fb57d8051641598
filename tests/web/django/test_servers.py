"""The Django app behind the servers that run Django projects."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.web.django.server import Server, serving

pytestmark = pytest.mark.slow

WSGI = "tests.web.django.wsgi:application"
ASGI = "tests.web.django.asgi:application"
GUNICORN = ["gunicorn", "--bind", "fd://{fd}", "--no-control-socket"]

SERVERS = {
    "gunicorn": [*GUNICORN, "--workers", "2", WSGI],
    "gunicorn --preload": [*GUNICORN, "--workers", "2", "--preload", WSGI],
    "gunicorn threads": [*GUNICORN, "--threads", "4", WSGI],
    "gunicorn gevent": [*GUNICORN, "--worker-class", "gevent", WSGI],
    "gunicorn uvicorn-worker": [*GUNICORN, "--worker-class", "uvicorn_worker.UvicornWorker", ASGI],
    "uvicorn": ["uvicorn", "--fd", "{fd}", ASGI],
    "uvicorn --workers 2": ["uvicorn", "--fd", "{fd}", "--workers", "2", ASGI],
    "hypercorn": ["hypercorn", "--bind", "fd://{fd}", ASGI],
    "granian wsgi": ["granian", "--port", "{port}", "--interface", "wsgi", WSGI],
    "granian asgi": ["granian", "--port", "{port}", "--interface", "asginl", ASGI],
}


@pytest.mark.parametrize("name", SERVERS)
def test_workers_have_open_models_when_they_are_ready_and_answer_as_the_source_model(
    name: str, folder: Path, iris: tuple[Any, Any], tmp_path: Path
) -> None:
    command = SERVERS[name]
    package = (
        "uvicorn_worker"
        if "uvicorn-worker" in name
        else name.split()[-1 if "gevent" in name else 0]
    )
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    model, X = iris
    rows = X.iloc[:10].to_dict("records")
    environ = {"DJANGO_TEST_MODELS": str(folder)}
    # Asked first of all, this page says how the worker was when it took its first request.
    with serving(command, environ=environ, log=tmp_path / "log", ready="/process") as server:
        for _ in range(4):
            assert server.ask("GET", "/process")[1]["state"] == "open", server.log.read_text()
        assert server.ask("GET", "/models/health/ready")[0] == 200
        for path in ("/models/iris/predict_proba", "/own", "/async_own"):
            status, reply = server.ask("POST", path, rows)
            assert status == 200
            np.testing.assert_allclose(
                reply["answers"], model.predict_proba(X.iloc[:10]), rtol=1e-6
            )
        assert server.ask("POST", "/models/iris", rows)[1]["answers"] == (
            model.predict(X.iloc[:10]).tolist()
        )
        status, reply = server.ask("POST", "/models/iris", {"petal length (cm)": "long"})
        assert (status, len(reply["errors"])) == (422, 4)
    text = server.log.read_text()
    assert "Traceback" not in text
    assert server.process.returncode in (0, -signal.SIGTERM), text


@pytest.mark.parametrize("name", ["gunicorn", "gunicorn --preload", "uvicorn"])
def test_a_worker_whose_model_does_not_open_does_not_start(
    name: str, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "iris.onnx").write_bytes((folder / "iris.onnx").read_bytes()[:-100])
    environ = {"DJANGO_TEST_MODELS": str(tmp_path)}
    with (
        pytest.raises(RuntimeError, match=r"(?s)the server ended with [^0].*model `iris`"),
        serving(SERVERS[name], environ=environ, log=tmp_path / "log"),
    ):
        raise AssertionError("it started")


def test_settings_that_are_wrong_do_not_start_a_worker(folder: Path, tmp_path: Path) -> None:
    environ = {"DJANGO_TEST_MODELS": str(folder), "DJANGO_TEST_OPENING": "soon"}
    with (
        pytest.raises(RuntimeError, match=r"(?s)settings.INFERSDK: Expected OPENING to be"),
        serving(SERVERS["gunicorn"], environ=environ, log=tmp_path / "log"),
    ):
        raise AssertionError("it started")


@pytest.mark.parametrize("name", ["gunicorn", "uvicorn"])
def test_a_body_that_is_too_large_is_refused_by_its_length(
    name: str, folder: Path, tmp_path: Path
) -> None:
    """WSGI servers hand over the length before the body; ASGI projects of Django read it first."""
    environ = {"DJANGO_TEST_MODELS": str(folder)}
    size = 3_000_000
    with (
        serving(SERVERS[name], environ=environ, log=tmp_path / "log") as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection,
    ):
        head = f"POST /models/iris HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\r\n"
        connection.sendall(head.encode())
        if name == "uvicorn":
            connection.sendall(b" " * size)
        status, body = _reply(connection)
    assert status == 413
    assert body["max_body_bytes"] == 2_621_440


def _reply(connection: socket.socket) -> tuple[int, Any]:
    with connection.makefile("rb") as stream:
        status = int(stream.readline().split()[1])
        length = 0
        while (line := stream.readline().strip()) != b"":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return status, json.loads(stream.read(length))


def test_stopping_lets_requests_finish(folder: Path, iris: tuple[Any, Any], tmp_path: Path) -> None:
    """A request whose body is still on its way when the server is told to stop."""
    model, X = iris
    body = json.dumps(X.iloc[0].to_dict()).encode()
    begun = tmp_path / "begun"
    environ = {"DJANGO_TEST_MODELS": str(folder), "BEGUN": str(begun)}
    with (
        serving([*GUNICORN, WSGI], environ=environ, log=tmp_path / "log") as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection,
    ):
        connection.sendall(
            b"POST /begun HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(body) + body[:10]
        )
        deadline = time.monotonic() + 20
        while not begun.exists():
            assert time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.01)
        os.kill(server.process.pid, signal.SIGTERM)
        connection.sendall(body[10:])
        status, reply = _reply(connection)
    assert (status, reply["answers"]) == (200, model.predict(X.iloc[:1]).tolist())
    assert "Traceback" not in server.log.read_text()


def test_every_process_opens_its_own(folder: Path, tmp_path: Path) -> None:
    environ = {"DJANGO_TEST_MODELS": str(folder), "LOG_LEVEL": "INFO"}
    command = [*GUNICORN, "--workers", "2", "--preload", WSGI]
    with serving(command, environ=environ, log=tmp_path / "log") as server:
        _both_are_up(server)
    assert server.log.read_text().count("opened 1 model in") == 2


def _both_are_up(server: Server) -> None:
    pids = set()
    for _ in range(2000):
        pids.add(server.ask("GET", "/process")[1]["pid"])
        if len(pids) == 2:
            return
    raise AssertionError(f"only {pids} answered")
