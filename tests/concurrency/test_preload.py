"""Real gunicorn with ``preload_app``: one Predictor made in the master, used in every forked worker.

While workers are forked the master itself never stops predicting, through the queue. Workers are recycled
after a few requests, so that there are many forks. Every answer is compared; a worker that hangs is killed
by gunicorn after its timeout, which fails the test.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.concurrency.conftest import LIMIT_S, ROOT

pytest.importorskip("gunicorn")

APP = """
import json
import os
import threading

import numpy as np

import infersdk

paced = infersdk.load(
    os.environ["MODEL"],
    execution=infersdk.Execution(threads=1, instances=1),
    batching=infersdk.Batching(enabled=True, max_batch_size=32),
)
MASTER = os.getpid()


def call(value):
    return {
        "value": np.array([value], np.float32),
        "index": np.array([int(value) % 3], np.int64),
        "steps": np.array([500], np.float32),
    }


def predict_for_ever():
    value = 0
    while True:
        value = (value + 1) % 1000
        assert paced.run(call(value))["answer"].tolist() == [2.0 * value + 10 * (1 + value % 3)]


assert paced.run(call(1))["answer"].tolist() == [22.0]
for _ in range(3):
    threading.Thread(target=predict_for_ever, daemon=True).start()


def body_of(answer):
    said = {"answer": answer, "pid": os.getpid(), "stats": paced.queue_stats()}
    return json.dumps(said).encode()


def wsgi(environ, start_response):
    body = body_of(paced.run(call(float(environ["QUERY_STRING"])))["answer"].tolist())
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            event = await receive()
            await send({"type": event["type"] + ".complete"})
            if event["type"] == "lifespan.shutdown":
                return
    answer = await paced.apredict(call(float(scope["query_string"])))
    body = body_of(answer.tolist())
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""

WORKERS = {
    "sync": ("sync", "wsgi", ()),
    "gthread": ("gthread", "wsgi", ("--threads", "4")),
    "gevent": ("gevent", "wsgi", ()),
    "asgi": ("asgi", "asgi", ()),  # gunicorn's own
    "uvicorn": ("uvicorn_worker.UvicornWorker", "asgi", ()),
}
NEEDED = {"gevent": "gevent", "uvicorn": "uvicorn_worker"}
REQUESTS_PER_WORKER = 5
N_CLIENTS = 6


@contextmanager
def serving(
    worker: str, folder: Path, model: Path
) -> Iterator[tuple[int, subprocess.Popen[str], Path]]:
    worker_class, app, options = WORKERS[worker]
    (folder / "preloaded.py").write_text(APP)
    errors = folder / "stderr"
    with (
        socket.create_server(("127.0.0.1", 0), backlog=512) as listener,
        errors.open("w") as stderr,
    ):
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", f"preloaded:{app}", "--preload"),
                *("--bind", f"fd://{listener.fileno()}", "--workers", "2"),
                *("--worker-class", worker_class, *options),
                *("--max-requests", str(REQUESTS_PER_WORKER), "--max-requests-jitter", "3"),
                *("--timeout", "60", "--graceful-timeout", "30"),
                *("--log-level", "warning", "--no-control-socket"),
            ],
            cwd=folder,
            env={
                **os.environ,
                "MODEL": str(model),
                "PYTHONPATH": str(ROOT),
                "PYTHONWARNINGS": "ignore",
            },
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr,
            text=True,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
        try:
            yield listener.getsockname()[1], process, errors
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ask(port: int, value: int) -> dict[str, Any]:
    """One answer. A worker that leaves may drop a connection that it has not read from yet."""
    for attempt in range(20):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT_S)
        try:
            connection.request("GET", f"/?{value}", headers={"Connection": "close"})
            response = connection.getresponse()
            said = response.read()
            assert response.status == 200, said
            answer: dict[str, Any] = json.loads(said)
            return answer
        except (ConnectionError, http.client.RemoteDisconnected, http.client.IncompleteRead):
            if attempt == 19:
                raise
        finally:
            connection.close()
    raise AssertionError


@pytest.mark.parametrize(
    "n_workers", [8, pytest.param(25, marks=pytest.mark.slow)], ids=["8 workers", "25 workers"]
)
@pytest.mark.parametrize("worker", WORKERS)
def test_every_worker_answers(
    worker: str, n_workers: int, tmp_path: Path, model_folder: Path
) -> None:
    if worker in NEEDED:
        pytest.importorskip(NEEDED[worker])
    pids: set[int] = set()
    failures: list[BaseException] = []
    values = iter(range(10**9))
    lock = threading.Lock()

    def client(port: int) -> None:
        try:
            while len(pids) < n_workers and not failures:
                with lock:
                    value = next(values)
                said = ask(port, value)
                assert said["answer"] == [2.0 * value + 10 * (1 + value % 3)]
                with lock:
                    pids.add(said["pid"])
        except BaseException as error:
            failures.append(error)

    with serving(worker, tmp_path, model_folder / "paced.onnx") as (port, process, errors):
        clients = [threading.Thread(target=client, args=(port,)) for _ in range(N_CLIENTS)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        assert failures == [], errors.read_text()
        assert process.poll() is None, errors.read_text()
        process.terminate()
        assert process.wait(LIMIT_S) == 0, errors.read_text()
        assert process.pid not in pids
    said = errors.read_text()
    assert "Traceback" not in said, said
    assert "TIMEOUT" not in said, said
    assert "SIGKILL" not in said, said
