"""ASGI and RSGI under real servers: uvicorn, gunicorn with uvicorn's workers, Granian. The oracle is the source model."""

from __future__ import annotations

import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.web.servers import RunningServer, poll_until, serve

pytest.importorskip("fastapi", reason="the app of these tests is FastAPI's")

pytestmark = pytest.mark.slow

KINDS = ["uvicorn", "uvicorn workers", "gunicorn uvicorn", "granian asgi", "granian rsgi"]
# One worker, so that all requests meet.
ALONE = {
    "uvicorn": ("uvicorn", "--host", "127.0.0.1", "--port", "{port}"),
    "uvicorn h11": (
        *("uvicorn", "--host", "127.0.0.1", "--port", "{port}"),
        "--http",
        "h11",
        "--loop",
        "asyncio",
    ),
    "gunicorn uvicorn": (
        *("gunicorn", "--bind", "127.0.0.1:{port}", "--graceful-timeout", "20"),
        *("--worker-class", "uvicorn_worker.UvicornWorker"),
    ),
    "granian asgi": ("granian", "--host", "127.0.0.1", "--port", "{port}", "--interface", "asgi"),
    "granian rsgi": ("granian", "--host", "127.0.0.1", "--port", "{port}", "--interface", "rsgi"),
}
N_CALLS = 20  # more than a worker has threads


@contextmanager
def _serve(kind: Any, folder: Path, iris: Any) -> Iterator[RunningServer]:
    environment = {
        "MODEL": str(iris.path),
        "GATE": str(folder / "gate"),
        "OPENED": str(folder / "opened"),
    }
    rsgi = "rsgi" in (kind if isinstance(kind, str) else kind[-1])
    app = f"tests.web.asgi_apps:{'rsgi' if rsgi else 'app'}"
    with serve(kind, app, folder, ready="/models/health/ready", environment=environment) as server:
        yield server


def _post(server: RunningServer, path: str, value: Any) -> tuple[int, Any]:
    headers = {"content-type": "application/json"}
    status, body = server.request("POST", path, json.dumps(value).encode(), headers)
    return status, json.loads(body)


def _get(server: RunningServer, path: str) -> Any:
    status, body = server.request("GET", path)
    assert status == 200, body
    return json.loads(body)


@pytest.mark.parametrize("kind", KINDS)
def test_every_worker_answers_with_models_it_has_opened(
    kind: str, iris: Any, tmp_path: Path
) -> None:
    (tmp_path / "gate").touch()
    with _serve(kind, tmp_path, iris) as server:
        rows = iris.X.to_dict("records")
        status, reply = _post(server, "/models/iris/predict_proba", rows)
        assert status == 200
        np.testing.assert_allclose(
            reply["answers"], iris.model.predict_proba(iris.X), rtol=1e-5, atol=1e-6
        )
        answering = set()
        for row, expected in zip(rows[::10], iris.model.predict(iris.X.iloc[::10]), strict=True):
            assert _post(server, "/models/iris", row) == (200, {"answers": [expected]})
            assert _get(server, "/models/health/ready")["state"] == "open"
            answering.add(_get(server, "/process"))
        refused = _post(server, "/models/iris", {"petal width (cm)": "wide"})
        assert (refused[0], len(refused[1]["errors"])) == (422, 4)
        opened = [int(pid) for pid in (tmp_path / "opened").read_text().split()]
        assert answering <= set(opened)
        assert len(opened) == len(set(opened)), "a worker opened its models twice"
        server.signal(signal.SIGTERM)
        assert server.wait() in (0, -signal.SIGTERM)
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("kind", ALONE)
def test_clients_that_hang_up_cancel_their_work(kind: str, iris: Any, tmp_path: Path) -> None:
    with _serve(ALONE[kind], tmp_path, iris) as server, ExitStack() as sockets:
        body = b"[[1, 2]]"
        head = (
            f"POST /models/slow HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        for _ in range(N_CALLS):
            client = sockets.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            client.sendall(head.encode() + body)

        def stats() -> dict[str, int]:
            found: dict[str, int] = _get(server, "/stats")
            return found

        def under_way() -> int:
            found = stats()
            return found.get("running", 0) + found.get("queued_rows", 0)

        assert poll_until(lambda: under_way() == N_CALLS)
        # Only then has the first been taken out of the queue.
        assert poll_until(lambda: stats()["running"] > 0)
        running = stats()["running"]
        assert running < N_CALLS
        sockets.close()  # all clients go away
        assert poll_until(lambda: stats()["queued_rows"] == 0), stats()
        assert stats()["cancelled"] == N_CALLS - running
        (tmp_path / "gate").touch()
        assert _post(server, "/models/slow", [[1, 2]]) == (200, {"answers": [0]})
        assert stats()["batches"] == running + 1
    assert "Traceback" not in server.log(), server.log()


@pytest.mark.parametrize("kind", ALONE)
def test_a_server_that_stops_answers_what_is_under_way(
    kind: str, iris: Any, tmp_path: Path
) -> None:
    replies = []
    with _serve(ALONE[kind], tmp_path, iris) as server:

        def ask() -> None:
            replies.append(_post(server, "/models/slow", [[1, 2]]))

        clients = [threading.Thread(target=ask) for _ in range(N_CALLS)]
        for client in clients:
            client.start()
        assert poll_until(
            lambda: (
                sum(_get(server, "/stats").get(key, 0) for key in ("running", "queued_rows"))
                == N_CALLS
            )
        )
        server.signal(signal.SIGTERM)
        # The listening socket is closed, or nobody accepts any more: the stop has begun.
        assert poll_until(lambda: _refuses(server.port))
        (tmp_path / "gate").touch()
        for client in clients:
            client.join()
        assert server.wait() in (0, -signal.SIGTERM)
    assert replies == [(200, {"answers": [0]})] * N_CALLS
    assert "Traceback" not in server.log(), server.log()


def _refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.2).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("kind", ALONE)
def test_a_server_does_not_start_without_its_models(kind: str, tmp_path: Path) -> None:
    (tmp_path / "lost_app.py").write_text(
        "from infersdk.web.asgi import InferSDK\n"
        "infer = InferSDK(models={'lost': 'lost.onnx'})\n"
        "app, rsgi = infer.app, infer.rsgi\n"
    )
    app = f"lost_app:{'rsgi' if 'rsgi' in kind else 'app'}"
    with (
        pytest.raises(AssertionError, match="while opening model `lost`"),
        serve(ALONE[kind], app, tmp_path),
    ):
        raise AssertionError("it serves")
