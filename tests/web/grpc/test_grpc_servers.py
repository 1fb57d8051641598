"""gRPC beside web apps in the workers of real servers: started after the fork, and stopped with them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from infersdk.web.grpc import InferenceStub
from tests.web.grpc.client import request, tensors
from tests.web.servers import SERVERS, RunningServer, free_port, poll_until, serve

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="these servers need a POSIX system"),
]

FLASK = """
import os
from flask import Flask
from infersdk.web.flask import InferSDK
from infersdk.web.grpc import GRPCServer

app = Flask(__name__)
InferSDK(app, models={"iris": os.environ["IRIS"]}, url_prefix="/")


def who(request):
    with open("answered", "ab", buffering=0) as answered:
        answered.write(b"%d\\n" % os.getpid())
    return True


GRPCServer(app.extensions["infersdk"], os.environ["GRPC"], guard=who).serve_in_workers()
"""

ASGI = """
import os
from infersdk.web.asgi import InferSDK
from infersdk.web.grpc import GRPCServer

infer = InferSDK(models={"iris": os.environ["IRIS"]})
server = GRPCServer(infer.service, os.environ["GRPC"])


class App:
    '''The models' own application, with a lifespan of its own around gRPC.'''

    async def __call__(self, scope, receive, send):
        if scope["type"] != "lifespan":
            return await infer.app(scope, receive, send)
        await receive()
        async with infer.lifespan_with(server.lifespan)(self):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})


app = App()
"""

_GUNICORN = (*SERVERS["gunicorn gthread"], "--no-control-socket")

UNDER = {
    "gunicorn": (_GUNICORN, FLASK),
    "gunicorn preload": ((*_GUNICORN, "--preload"), FLASK),
    "gunicorn sync preload": ((*SERVERS["gunicorn preload"], "--no-control-socket"), FLASK),
    "granian wsgi": (SERVERS["granian wsgi"], FLASK),
    "granian asgi": (SERVERS["granian asgi"], ASGI),
    "uvicorn": (SERVERS["uvicorn"], ASGI),
}


@contextmanager
def _served(under: str, folder: Path, iris: Any) -> Iterator[tuple[RunningServer, str]]:
    command, code = UNDER[under]
    (folder / "served.py").write_text(code)
    address = f"127.0.0.1:{free_port()}"
    environment = {"IRIS": str(iris.path), "GRPC": address}
    with serve(command, "served:app", folder, environment=environment) as server:
        yield server, address


def _ask(address: str, iris: Any, n: int = 1) -> None:
    """Each time over a new connection, which any worker may get."""
    asked = request("iris", {"x": iris.X.to_numpy()})
    expected = iris.model.predict(iris.X)
    for _ in range(n):
        options = (("grpc.use_local_subchannel_pool", 1),)
        with grpc.insecure_channel(address, options=options) as channel:
            answer = InferenceStub(channel).ModelInfer(asked, timeout=60, wait_for_ready=True)
            np.testing.assert_array_equal(*tensors(answer).values(), expected)


@pytest.mark.parametrize("under", list(UNDER))
def test_it_answers_and_ends_with_its_worker(under: str, iris: Any, tmp_path: Path) -> None:
    with _served(under, tmp_path, iris) as (server, address):
        _ask(address, iris)
        assert server.request("GET", "/health/ready")[0] == 200
        if "sync" not in under and "granian" not in under:
            _ask_while_it_stops(server, address, iris)
        else:
            server.signal(signal.SIGTERM)
        server.wait()
        assert "Traceback" not in server.log()


def _ask_while_it_stops(server: RunningServer, address: str, iris: Any) -> None:
    """Calls are answered or refused.

    One that arrives while a server tells its clients to go away gRPC itself cancels (grpc/grpc issue 41785), so this
    client, which asks one thing at a time, meets that once a worker.
    """
    asked = request("iris", {"x": iris.X.to_numpy()})
    stopped = threading.Event()
    codes: list[Any] = []

    def go_on() -> None:
        with grpc.insecure_channel(address) as channel:
            stub = InferenceStub(channel)
            while not stopped.is_set():
                try:
                    stub.ModelInfer(asked, timeout=30)
                    codes.append(grpc.StatusCode.OK)
                except grpc.RpcError as error:
                    codes.append(error.code())

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        assert poll_until(lambda: len(codes) > 5)
        server.signal(signal.SIGTERM)
        server.wait()
    finally:
        stopped.set()
        thread.join()
    refused = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert set(codes) <= {grpc.StatusCode.OK, *refused}
    assert codes.count(grpc.StatusCode.CANCELLED) <= 2


def test_every_worker_of_a_preloading_server_answers(iris: Any, tmp_path: Path) -> None:
    with _served("gunicorn preload", tmp_path, iris) as (server, address):

        def all_have_answered() -> bool:
            _ask(address, iris)
            answered = set(map(int, (tmp_path / "answered").read_text().split()))
            return answered >= server.workers() and len(server.workers()) == 2

        assert poll_until(all_have_answered)
        # A new worker, in the place of one that was killed, serves too.
        os.kill(min(server.workers()), signal.SIGKILL)
        assert poll_until(all_have_answered)
