"""The Flask extension under real servers: who opens the models and when, and how a worker ends."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.web.servers import SERVERS, RunningServer, poll_until, serve

pytest.importorskip("flask", reason="these tests are of the Flask extension")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="these servers need a POSIX system"),
]

_GUNICORN = (*SERVERS["gunicorn sync"], "--no-control-socket")

UNDER = {
    "sync": _GUNICORN,
    "sync preload": (*_GUNICORN, "--preload"),
    "gthread": (*_GUNICORN, "--worker-class", "gthread", "--threads", "4"),
    "gthread preload": (*_GUNICORN, "--preload", "--worker-class", "gthread", "--threads", "4"),
    "gevent": (*_GUNICORN, "--worker-class", "gevent"),
    "gevent preload": (*_GUNICORN, "--preload", "--worker-class", "gevent"),
    "own program, as preload": ("runpy", "own", "127.0.0.1:{port}"),
    "granian": SERVERS["granian wsgi"],
}

APP = '''
"""An app that writes down what happens in which process."""

import os
import time

from flask import Flask, request

from infersdk.predictors import Predictors
from infersdk.web.flask import InferSDK, current_predictors


def note(what):
    with open("events", "ab", buffering=0) as events:
        events.write(f"{what} {os.getpid()}\\n".encode())


class Noted:
    """Predictors' own open and close, and a note of each."""

    open, close = Predictors.open, Predictors.close


def noted_open(self):
    if self.state == "new":
        Noted.open(self)
        note("opened")


def noted_close(self):
    Noted.close(self)
    note("closed")


Predictors.open, Predictors.close = noted_open, noted_close


def create_app():
    note("imported")
    app = Flask(__name__)
    infer = InferSDK(app, models={"iris": "iris.onnx"}, url_prefix="/models")

    @app.before_request
    def say():
        if request.endpoint != "static":
            note("asked")

    @app.post("/held")
    def held():
        note("held")
        while not os.path.exists("go"):  # greenlets can wait like this, and threads
            time.sleep(0.02)
        answer = infer.answer("iris", "predict_proba")
        note("answered")
        return answer

    @app.get("/pid")
    def pid():
        return {"pid": os.getpid(), "models": list(current_predictors)}

    return app


app = create_app()
'''

OWN = """
import sys

from gunicorn.app.base import BaseApplication


class Own(BaseApplication):
    def load_config(self):
        self.cfg.set("bind", sys.argv[1])
        self.cfg.set("workers", 2)
        self.cfg.set("control_socket_disable", True)
        self.cfg.set("post_worker_init", lambda worker: note("ready"))

    def load(self):
        return app


if __name__ == "__main__":
    from shop import app, note

    Own().run()
"""

CONFIG = """
def post_worker_init(worker):
    import shop

    shop.note("ready")
"""


@pytest.fixture
def folder(iris: Any, tmp_path: Path) -> Path:
    shutil.copy(iris.path, tmp_path / "iris.onnx")
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "gunicorn.conf.py").write_text(CONFIG)
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


class Events:
    """What the app has noted: [(what, pid), ...]."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "events"

    def __iter__(self) -> Iterator[tuple[str, int]]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        for line in lines:
            what, pid = line.split()
            yield what, int(pid)

    def pids(self, what: str) -> list[int]:
        return [pid for noted, pid in self if noted == what]

    def of(self, pid: int) -> list[str]:
        return [what for what, noted in self if noted == pid]


def post(server: RunningServer, path: str, rows: Any) -> tuple[int, Any]:
    status, body = server.request(
        "POST", path, json.dumps(rows).encode(), {"content-type": "application/json"}
    )
    return status, json.loads(body)


@pytest.mark.parametrize("under", list(UNDER))
def test_each_worker_opens_before_it_is_asked_and_closes_when_it_has_answered(
    under: str, folder: Path, iris: Any
) -> None:
    """One server's life: two workers start, answer, are told to stop while a request runs, and end."""
    events = Events(folder)
    rows = iris.X.iloc[::30].to_dict("records")
    expected = iris.model.predict_proba(iris.X.iloc[::30])
    with serve(UNDER[under], "shop:app", folder, ready="/models/health/ready") as server:
        started = "opened" if under == "granian" else "ready"
        assert poll_until(lambda: len(events.pids(started)) == 2)
        workers = set(events.pids("opened"))
        assert len(events.pids("opened")) == len(workers) == 2
        assert set(events.pids(started)) == workers
        assert server.process.pid not in workers
        imported = events.pids("imported")
        if "preload" in under:
            assert imported == [server.process.pid]  # by the master, which opened nothing
        else:
            assert set(imported) == workers
        for pid in set(events.pids("asked")):
            assert events.of(pid).index("opened") < events.of(pid).index("asked")
        if started == "ready":
            assert all(
                events.of(pid).index("opened") < events.of(pid).index("ready") for pid in workers
            )

        status, reply = post(server, "/models/iris/predict_proba", rows)
        assert status == 200
        np.testing.assert_allclose(reply["answers"], expected, rtol=1e-4, atol=1e-6)
        assert post(server, "/models/iris", [{}])[0] == 422

        held: list[Any] = []
        thread = threading.Thread(target=lambda: held.append(post(server, "/held", rows)))
        thread.start()
        assert poll_until(lambda: events.pids("held"))
        (busy,) = events.pids("held")
        (idle,) = workers - {busy}
        server.signal(signal.SIGTERM)
        assert poll_until(lambda: "closed" in events.of(idle)), server.log()
        assert "closed" not in events.of(busy)
        (folder / "go").touch()
        thread.join(30)
        assert held, server.log()
        assert held[0][0] == 200
        np.testing.assert_allclose(held[0][1]["answers"], expected, rtol=1e-4, atol=1e-6)
        assert server.wait() == 0
        assert events.of(busy)[-2:] == ["answered", "closed"], server.log()
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("under", ["sync", "sync preload", "gevent preload", "granian"])
def test_a_server_whose_model_does_not_open_stops_and_says_why(under: str, folder: Path) -> None:
    (folder / "iris.onnx").unlink()
    with (
        pytest.raises(AssertionError, match=r"while opening model `iris`") as caught,
        serve(UNDER[under], "shop:app", folder, ready="/models/health/ready"),
    ):
        pass
    said = str(caught.value)
    assert "did not start" in said
    assert "`iris.onnx` cannot be opened" in said
    assert Events(folder).pids("asked") == []


@pytest.mark.parametrize("under", ["sync", "gthread", "gevent", "granian"])
def test_bodies_of_every_kind(under: str, folder: Path, iris: Any) -> None:
    rows = iris.X.to_dict("records")
    body = json.dumps(rows).encode()
    expected = iris.model.predict(iris.X).tolist()
    (folder / "shop.py").write_text(
        APP.replace('url_prefix="/models"', 'url_prefix="/models", max_body_bytes=100_000')
    )

    def parts(count: int) -> Iterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]
        for _ in range(count):
            yield b" " * 1000

    with serve(UNDER[under], "shop:app", folder, ready="/models/health/ready") as server:
        connection = server.connect()
        headers = {"content-type": "application/json"}
        connection.request("POST", "/models/iris", parts(0), headers, encode_chunked=True)
        reply = connection.getresponse()
        assert json.loads(reply.read()) == {"answers": expected}
        connection.close()

        connection = server.connect()
        connection.putrequest("POST", "/models/iris")
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", "100001")
        connection.endheaders()
        reply = connection.getresponse()  # though nothing of the body was sent
        assert (reply.status, json.loads(reply.read())["max_body_bytes"]) == (413, 100_000)
        connection.close()

        connection = server.connect()
        with suppress(BrokenPipeError, ConnectionResetError):  # the server had enough of it
            connection.request("POST", "/models/iris", parts(200), headers, encode_chunked=True)
        try:
            assert connection.getresponse().status == 413
        except (ConnectionError, http.client.HTTPException):
            assert under != "sync", "an answer was lost"
        connection.close()

        assert post(server, "/models/iris", rows) == (200, {"answers": expected})


def test_calls_of_greenlets_and_threads_at_once(folder: Path, iris: Any) -> None:
    """Many clients, each with rows of its own: nobody gets another's answer."""
    X = iris.X
    expected = iris.model.predict_proba(X)
    for under in ("gthread", "gevent"):
        with serve(UNDER[under], "shop:app", folder, ready="/models/health/ready") as server:
            different: list[int] = []

            def ask(
                start: int, server: RunningServer = server, found: list[int] = different
            ) -> None:
                for number in range(start, len(X), 8):
                    row = X.iloc[number].to_dict()
                    status, reply = post(server, "/models/iris/predict_proba", row)
                    if status != 200 or not np.allclose(
                        reply["answers"], expected[number : number + 1], rtol=1e-4, atol=1e-6
                    ):
                        found.append(number)

            threads = [threading.Thread(target=ask, args=(start,)) for start in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert different == []
