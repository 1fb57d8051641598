"""Clients that hang up: real gunicorn workers stop working for them, and only for them."""

from __future__ import annotations

import http.client
import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.concurrency import models
from tests.web.servers import RunningServer, poll_until, serve

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not sys.platform.startswith("linux"), reason="only Linux tells a departure without reading"
    ),
]

APP = """
from flask import Flask, request

import infersdk
from infersdk.predictors import ModelConfig
from infersdk.web.flask import InferSDK
from infersdk.web.wsgi_client import while_client_waits

app = Flask(__name__)
paced = ModelConfig(
    source="paced.onnx",
    execution=infersdk.Execution(threads=1, instances=1, release_gil=True),
    batching=infersdk.Batching(enabled=True, max_batch_size=8),
    # Runs take long, so each may be stopped.
    warm_up_rows={"value": [1.0], "index": [0], "steps": [100_000.0]},
)
infer = InferSDK(app, models={"paced": paced}, url_prefix="/models", timeout_s=100)


@app.post("/own")
def own():
    with while_client_waits(request.environ):
        return infer["paced"](request.get_json()).tolist()


@app.get("/stats")
def stats():
    return infer["paced"].queue_stats()
"""

ENDLESS = 2.0**30  # a float32 that is counted up by one stands still before
SECONDS = 2.0**20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "paced.onnx").write_bytes(models.paced().SerializeToString())
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def options(*more: str) -> tuple[str, ...]:
    return ("gunicorn", "--bind", "127.0.0.1:{port}", "--timeout", "60", *more)


def ask(
    server: RunningServer, steps: float, path: str = "/models/paced"
) -> http.client.HTTPConnection:
    """Send a request, and do not wait for the answer."""
    connection = server.connect(60)
    row = json.dumps({"value": [4.0], "index": [0], "steps": [steps]})
    headers = {"content-type": "application/json"}
    connection.request("POST", path, row, headers)
    return connection


def answer(connection: http.client.HTTPConnection) -> Any:
    response = connection.getresponse()
    body = response.read()
    connection.close()
    assert response.status == 200, body
    return json.loads(body)["answers"]


def stats(server: RunningServer) -> dict[str, int]:
    counts: dict[str, int] = json.loads(server.request("GET", "/stats")[1])
    return counts


def test_a_worker_that_runs_for_nobody_is_free_again(folder: Path) -> None:
    with serve(options(), "app:app", folder, ready="/models/health/ready") as server:
        for path in ("/models/paced", "/own"):
            endless = ask(server, ENDLESS, path)
            behind = ask(server, 10)  # waits for the only worker
            endless.close()
            assert answer(behind) == [18.0]
        assert server.workers()  # it was not killed for its timeout
        assert "timeout" not in server.log().lower()


def test_a_call_leaves_the_queue_and_others_stay(folder: Path) -> None:
    command = options("--worker-class", "gthread", "--threads", "6")
    with serve(command, "app:app", folder, ready="/models/health/ready") as server:
        endless = ask(server, ENDLESS)
        assert poll_until(lambda: stats(server)["running"] == 1)
        leaves, stays = ask(server, 10), ask(server, 10)
        assert poll_until(lambda: stats(server)["queued_rows"] == 2)
        leaves.close()
        assert poll_until(lambda: stats(server)["queued_rows"] == 1)
        assert stats(server)["cancelled"] == 1
        endless.close()  # which runs in its own thread
        assert answer(stays) == [18.0]
        assert "Traceback" not in server.log()


def test_greenlets(folder: Path) -> None:
    command = options("--worker-class", "gevent")
    with serve(command, "app:app", folder, ready="/models/health/ready") as server:
        long = ask(server, SECONDS)
        assert poll_until(lambda: stats(server)["running"] == 1)
        leaves, stays = ask(server, 10), ask(server, 10)
        assert poll_until(lambda: stats(server)["queued_rows"] == 2)
        leaves.close()
        assert poll_until(lambda: stats(server)["queued_rows"] == 1)
        assert stats(server)["cancelled"] == 1
        assert answer(long) == answer(stays) == [18.0]
        assert "Traceback" not in server.log()


def test_the_development_server(folder: Path) -> None:
    """Werkzeug's, with a thread for each request."""
    command = ("flask", "--app", "app", "run", "--port", "{port}")
    with serve(command, "", folder, ready="/models/health/ready") as server:
        endless = ask(server, ENDLESS)
        assert poll_until(lambda: stats(server)["running"] == 1)
        leaves = ask(server, 10)
        assert poll_until(lambda: stats(server)["queued_rows"] == 1)
        leaves.close()
        assert poll_until(lambda: stats(server)["cancelled"] == 1)
        endless.close()
        assert poll_until(lambda: stats(server)["running"] == 0)


def test_a_client_that_stays_is_answered_however_long_it_takes(folder: Path) -> None:
    with serve(options(), "app:app", folder, ready="/models/health/ready") as server:
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(answer(ask(server, 300_000))))
        thread.start()
        thread.join(60)
        assert answers == [[18.0]]
