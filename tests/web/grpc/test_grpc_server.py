"""How the server starts, is found healthy, and stops: on event loops and in threads."""

from __future__ import annotations

import asyncio
import gc
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from infersdk.errors import ClosedError
from infersdk.predictors import Predictors
from infersdk.testing import FakePredictor
from infersdk.web.grpc import TLS, GRPCServer, HealthStub, InferenceStub
from infersdk.web.service import Service
from tests.web.asgi_driver import run, until
from tests.web.grpc.client import health_request, message, request, serving, tensors

LOOPS = ["asyncio", "uvloop"]
SERVING, NOT_SERVING = 1, 2

_ASKED = request("fake", {"a": [1.0]})


def _fake(**models: Any) -> tuple[FakePredictor, Predictors]:
    fake = FakePredictor(fields=["a"])
    return fake, Predictors({"fake": fake, **models})


# -- health -----------------------------------------------------------------------------------------


def test_health_of_the_server_and_of_models(iris: Any) -> None:
    async def program() -> None:
        with _fake(iris=iris.path)[1] as predictors:
            async with serving(predictors, token="secret", admin=True) as client:
                check = client.health.Check
                for name in ("", "inference.GRPCInferenceService", "fake", "iris"):
                    assert (await check(health_request(name))).status == SERVING
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await check(health_request("tulips"))
                assert error.value.code() is grpc.StatusCode.NOT_FOUND
                predictors.unload("iris")
                assert (await check(health_request("iris"))).status == NOT_SERVING
                assert (await check(health_request("fake"))).status == SERVING

    run(program)


def test_models_that_open_at_first_use_are_opened_by_who_asks_whether_they_are_ready(
    iris: Any,
) -> None:
    async def program() -> None:
        predictors = Predictors({"iris": iris.path}, opening="lazy")
        async with serving(predictors) as client:
            assert predictors.state == "new"
            assert (await client.health.Check(health_request("iris"))).status == NOT_SERVING
            assert (await client.health.Check(health_request())).status == SERVING
            assert predictors.state == "open"
        predictors.close()

    run(program)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_watcher_is_told_and_let_go_at_the_end(loop: str) -> None:
    _, predictors = _fake()

    async def program() -> None:
        async with serving(predictors) as client:
            watched = client.health.Watch(health_request("fake"))
            assert (await watched.read()).status == SERVING
            predictors.unload("fake")
            assert (await watched.read()).status == NOT_SERVING
            unknown = client.health.Watch(health_request("tulips"))
            assert (await unknown.read()).status == 3
            whole = client.health.Watch(health_request())
            first = (await whole.read()).status
            await client.server.stop()
            if first == SERVING:
                assert (await whole.read()).status == NOT_SERVING
            assert await whole.read() is grpc.aio.EOF

    run(program, loop)


# -- on event loops ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
def test_running_calls_are_answered_when_it_stops(loop: str) -> None:
    fake, predictors = _fake()

    async def program() -> None:
        async with serving(predictors) as client:
            with fake.busy():
                waiting = client.infer.ModelInfer(_ASKED)
                await until(lambda: fake.queue_stats()["queued_rows"] == 1)
                stopping = asyncio.create_task(client.server.stop(30))
                await asyncio.sleep(0)
                assert not stopping.done()
            assert len((await waiting).outputs) == 1
            await stopping
            assert client.server.port is None
            await client.server.stop()  # again it does nothing

    run(program, loop)


def test_calls_that_run_past_the_grace_are_cancelled() -> None:
    fake, predictors = _fake()

    async def program() -> None:
        async with serving(predictors) as client:
            with fake.busy():
                waiting = client.infer.ModelInfer(_ASKED)
                await until(lambda: fake.queue_stats()["queued_rows"] == 1)
                await client.server.stop(0)
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await waiting
                assert error.value.code() in (
                    grpc.StatusCode.UNAVAILABLE,
                    grpc.StatusCode.CANCELLED,
                )
                await until(lambda: fake.queue_stats()["queued_rows"] == 0)

    run(program)


def test_it_can_be_started_again_but_not_twice() -> None:
    _, predictors = _fake()

    async def program() -> None:
        server = GRPCServer(predictors, "127.0.0.1:0")
        for _ in range(2):
            async with server:
                assert server.port
                with pytest.raises(RuntimeError, match=r"127\.0\.0\.1:0 runs already"):
                    await server.start()

    run(program)


def test_servers_share_a_port_if_they_may() -> None:
    _, predictors = _fake()

    async def program() -> None:
        async with GRPCServer(predictors, "127.0.0.1:0") as first:
            address = f"127.0.0.1:{first.port}"
            async with GRPCServer(predictors, address) as second:
                assert second.port == first.port
            alone = GRPCServer(predictors, address, share_port=False)
            with pytest.raises(RuntimeError, match=address):
                await alone.start()
            await alone.stop()

    run(program)


def test_models_that_cannot_be_opened() -> None:
    def refuse() -> Any:
        raise OSError("no such disk")

    async def program() -> None:
        server = GRPCServer(Predictors({"broken": refuse}), "127.0.0.1:0")
        with pytest.raises(OSError, match="no such disk"):
            await server.start()
        assert server.port is None
        closed = Predictors({})
        closed.close()
        with pytest.raises(ClosedError):
            await GRPCServer(closed, "127.0.0.1:0").start()

    run(program)


def test_a_unix_socket(tmp_path: Path) -> None:
    _, predictors = _fake()
    seen = []

    def guard(asked: Any) -> bool:
        seen.append(asked.client)
        return True

    async def program() -> None:
        address = f"unix:{tmp_path}/models.sock"
        async with (
            GRPCServer(predictors, address, guard=guard),
            grpc.aio.insecure_channel(address) as channel,
        ):
            await InferenceStub(channel).ModelInfer(_ASKED)
        assert seen == [""]

    run(program)


def test_tls_and_certificates_of_clients(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("makes its certificates with openssl")
    certificate, key = tmp_path / "server.crt", tmp_path / "server.key"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=DNS:localhost -keyout {key} -out {certificate}"
    )
    subprocess.run(command.split(), check=True, capture_output=True, timeout=60)
    pem = certificate.read_bytes()
    _, predictors = _fake()

    async def program() -> None:
        anybody = grpc.ssl_channel_credentials(pem)
        known = grpc.ssl_channel_credentials(pem, key.read_bytes(), pem)
        for tls, welcome, refused in (
            (TLS(certificate, key), anybody, None),
            (TLS(certificate, key, certificate), known, anybody),
        ):
            async with GRPCServer(predictors, "localhost:0", tls=tls) as server:
                address = f"localhost:{server.port}"
                async with grpc.aio.secure_channel(address, welcome) as channel:
                    await InferenceStub(channel).ModelInfer(_ASKED)
                if refused is not None:
                    async with grpc.aio.secure_channel(address, refused) as channel:
                        with pytest.raises(grpc.aio.AioRpcError) as error:
                            await InferenceStub(channel).ModelInfer(_ASKED, timeout=10)
                        assert error.value.code() is grpc.StatusCode.UNAVAILABLE

    run(program)


def test_beside_the_models_of_an_asgi_app(iris: Any) -> None:
    from infersdk.web.asgi import InferSDK

    infer = InferSDK(models={"iris": iris.path})
    server = GRPCServer(infer.service, "127.0.0.1:0")

    async def program() -> None:
        async with infer.lifespan_with(server.lifespan)(None):
            channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}")
            asked = request("iris", {"x": iris.X.to_numpy()})
            (answers,) = tensors(await InferenceStub(channel).ModelInfer(asked)).values()
            np.testing.assert_array_equal(answers, iris.model.predict(iris.X))
            await channel.close()
        assert infer.predictors.state == "closed"

    run(program)


def test_what_it_is_made_of() -> None:
    _, predictors = _fake()
    with pytest.raises(TypeError, match=r"Expected models to be Predictors or a Service, got dict"):
        GRPCServer({})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Expected address"):
        GRPCServer(predictors, "")
    with pytest.raises(ValueError, match="Expected token"):
        GRPCServer(predictors, token="")
    assert repr(GRPCServer(Service(predictors))) == "<GRPCServer 127.0.0.1:8001: stopped>"


# -- in threads -------------------------------------------------------------------------------------


def test_threads_and_clients_of_every_kind(iris: Any) -> None:
    rows = iris.X.to_numpy()
    expected = iris.model.predict(iris.X)
    with Predictors({"iris": iris.path}) as predictors:
        server = GRPCServer(predictors, "127.0.0.1:0")
        with (
            server.serve_in_thread(),
            grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
            ThreadPoolExecutor(4) as pool,
        ):
            stub = InferenceStub(channel)

            def ask(at: int) -> Any:
                direct = predictors["iris"].predict(rows[at : at + 1])
                answer = stub.ModelInfer(request("iris", {"x": rows[at : at + 1]}), timeout=30)
                return direct[0], *tensors(answer).values()

            for at, (direct, answer) in enumerate(pool.map(ask, range(100))):
                assert direct == answer[0] == expected[at]
            assert HealthStub(channel).Check(health_request()).status == SERVING
    assert not [thread for thread in threading.enumerate() if thread.name == "infersdk-grpc"]


def test_two_event_loops_in_one_process(caplog: pytest.LogCaptureFixture) -> None:
    _, predictors = _fake()
    in_thread = GRPCServer(predictors, "127.0.0.1:0")

    async def program() -> None:
        async with serving(predictors) as client:
            address = f"127.0.0.1:{in_thread.port}"
            async with grpc.aio.insecure_channel(address) as channel:
                other = InferenceStub(channel)
                for _ in range(20):
                    await asyncio.gather(
                        *(call(_ASKED) for call in (client.infer.ModelInfer, other.ModelInfer))
                    )

    with in_thread.serve_in_thread():
        run(program)
    assert not caplog.records


def test_a_thread_that_cannot_start_says_why() -> None:
    _, predictors = _fake()
    server = GRPCServer(predictors, "256.0.0.1:no")
    with pytest.raises(RuntimeError, match=r"256\.0\.0\.1"):
        server.serve_in_thread()
    thread = GRPCServer(predictors, "127.0.0.1:0").serve_in_thread()
    thread.stop()
    thread.stop()


def test_workers_alone_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    from infersdk.web.grpc import server as module

    _, predictors = _fake()
    forked: list[Any] = []
    monkeypatch.setattr(module, "after_fork_in_workers", forked.append)
    server = GRPCServer(predictors, "127.0.0.1:0")

    monkeypatch.setattr(module, "role", lambda: "other")
    server.serve_in_workers()
    assert server.port is None

    monkeypatch.setattr(module, "role", lambda: "master")
    with pytest.raises(RuntimeError, match="about to fork"):
        server.serve_in_thread()
    server.serve_in_workers()
    assert server.port is None

    monkeypatch.setattr(module, "role", lambda: "worker")
    server.serve_in_workers()
    try:
        assert server.port
    finally:
        server._thread.stop()  # type: ignore[union-attr]


def _in_a_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


_START = """
from infersdk.predictors import Predictors
from infersdk.testing import FakePredictor
from infersdk.web.grpc import GRPCServer
server = GRPCServer(Predictors({"fake": FakePredictor(fields=["a"])}), "127.0.0.1:0")
"""


def test_a_process_ends_though_nobody_stopped_the_thread() -> None:
    assert _in_a_process(_START + "server.serve_in_thread(); print('served')") == "served\n"


def test_a_forked_child_leaves_its_parents_server_alone() -> None:
    said = _in_a_process(
        _START
        + """
import multiprocessing, grpc
from infersdk.web.grpc import InferenceStub
from infersdk.web.grpc.messages import INFERENCE

def ask():
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        live = INFERENCE["ServerLiveRequest"]()
        return InferenceStub(channel).ServerLive(live, timeout=30).live

thread = server.serve_in_thread()
child = multiprocessing.get_context("fork").Process(target=thread.stop)
child.start()
child.join(30)
assert child.exitcode == 0, child.exitcode
assert ask()
print("served")
"""
    )
    assert "served" in said.splitlines()


def test_gevents_greenlets_are_no_threads() -> None:
    pytest.importorskip("gevent")
    _in_a_process(
        "from gevent import monkey; monkey.patch_all()\n"
        + _START
        + """
try:
    server.serve_in_thread()
except RuntimeError as error:
    assert "gevent has made greenlets" in str(error), error
else:
    raise AssertionError("it started")
"""
    )


def test_nothing_is_left_of_it() -> None:
    async def program() -> None:
        async with serving(_fake()[1]) as client:
            assert (await client.infer.ServerLive(message("ServerLiveRequest"))).live

    run(program)
    gc.collect()
    assert not [thread for thread in threading.enumerate() if thread.name == "infersdk-grpc"]
