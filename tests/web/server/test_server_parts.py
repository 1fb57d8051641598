"""What a server's processes are made of, without processes."""

from __future__ import annotations

import asyncio
import json
import logging
import logging.config
import pickle
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("orjson")

from infersdk.errors import ArtifactError
from infersdk.web.problems import Reply
from infersdk.web.request import Request
from infersdk.web.server import ServerOptions, StartError, TLSFiles
from infersdk.web.server.logs import JSONFormatter, configuration
from infersdk.web.server.worker import Arrivals, WorkerLoader
from infersdk.web.settings import Settings


def options(**given: Any) -> ServerOptions:
    settings = given.pop("settings", None) or Settings(models={"iris": "iris.onnx"})
    return ServerOptions(settings=settings, **given)


# -- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"settings": Settings()}, "a model to serve, got none"),
        ({"settings": Settings(models={"a": "a"}, protocols=())}, "a protocol to speak, got none"),
        ({"workers": 0}, "workers to be from 1, got 0"),
        ({"threads": 0}, "threads to be from 1, got 0"),
        ({"max_header_bytes": 100}, "from 8192, got 100"),
        ({"body_timeout_s": -1.0}, "body_timeout_s to be seconds"),
        ({"grpc_port": 8080}, "a port of its own, got 8080 for both"),
    ],
)
def test_values_that_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        options(**given)


@pytest.mark.parametrize(
    ("host", "is_local"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False)],
)
def test_admin_pages_without_a_token_are_for_this_machine(host: str, is_local: bool) -> None:
    settings = Settings(models={"iris": "iris.onnx"}, admin=True)
    if is_local:
        options(settings=settings, host=host)
    else:
        with pytest.raises(ValueError, match="set a token"):
            options(settings=settings, host=host)


def test_the_cores_are_shared_out_among_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infersdk.web.server.options.thread_budget", lambda: 12)
    assert options().workers == 8
    assert options(workers=3).threads_of_a_run == 4
    assert options(workers=50).threads_of_a_run == 1
    assert options(workers=3, threads=2).threads_of_a_run == 2


def test_options_and_loader_reach_processes_that_are_not_forked() -> None:
    given = options(settings=Settings(models={"iris": "iris.onnx"}, token="s3cret"))
    again = pickle.loads(pickle.dumps(WorkerLoader(given, {}, Path("x"))))
    assert again.options == given
    assert again.options.settings.tokens == ("s3cret",)


def test_certificates_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("no certificate")
    with pytest.raises(StartError, match=r"Expected a PEM file for TLS, got .*lost\.pem"):
        TLSFiles(certificate=tmp_path / "lost.pem", key=tmp_path / "x.pem").check()
    with pytest.raises(StartError, match=r"Expected a certificate in .*x\.pem"):
        TLSFiles(certificate=tmp_path / "x.pem", key=tmp_path / "x.pem").check()


def test_a_port_that_is_taken() -> None:
    from infersdk.web.server import _probe

    with socket.socket() as taken:
        # As the workers of another server would share it.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            StartError, match=rf"cannot listen on 127\.0\.0\.1, port {port}: .*in use"
        ):
            _probe("127.0.0.1", port)
    with pytest.raises(StartError, match=r"cannot listen on no-such-host\.invalid"):
        _probe("no-such-host.invalid", 8080)
    assert _probe("localhost", 0)[1] > 0


# -- logs -----------------------------------------------------------------------------------------


def test_a_line_of_json_for_each_record() -> None:
    try:
        raise ArtifactError("broken\nin two lines")
    except ArtifactError:
        import sys

        record = logging.LogRecord(
            "_granian", logging.ERROR, "x.py", 1, "worker %d: %s", (1, "ä"), sys.exc_info()
        )
    text = JSONFormatter().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert line["level"] == "error"
    assert line["logger"] == "granian"
    assert line["message"] == "worker 1: ä"
    assert line["exception"].startswith("Traceback")
    assert line["time"].endswith("Z")


@pytest.fixture
def restored_logs() -> Iterator[None]:
    """dictConfig is for a whole process."""
    names = (None, "infersdk", "infersdk.access", "_granian")
    loggers = [logging.getLogger(name) for name in names]
    before = [(one.level, list(one.handlers), one.propagate) for one in loggers]
    yield
    for one, (level, handlers, propagate) in zip(loggers, before, strict=True):
        one.setLevel(level)
        one.handlers[:] = handlers
        one.propagate = propagate


@pytest.mark.usefixtures("restored_logs")
def test_the_access_log_is_written_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    logging.config.dictConfig(configuration("warning", "json"))
    logging.getLogger("infersdk.access").info('{"status":200}')
    logging.getLogger("infersdk").info("not told")
    logging.getLogger("infersdk").warning("told")
    said = capsys.readouterr()
    assert said.out == '{"status":200}\n'
    assert [json.loads(line)["message"] for line in said.err.splitlines()] == ["told"]


# -- slow bodies ----------------------------------------------------------------------------------


class Answering:
    """In the place of a Service."""

    def refuse_early(self, request: Request, name: str | None = None) -> Reply | None:
        return None

    def refuse(self, request: Request, error: Exception) -> Reply:
        raise NotImplementedError

    async def ahandle(self, request: Request, body: bytes | bytearray = b"") -> Reply:
        await asyncio.Event().wait()
        raise NotImplementedError


def test_only_requests_without_their_bodies_are_ended() -> None:
    async def program() -> None:
        arrivals = Arrivals(Answering(), 10.0)  # type: ignore[arg-type]
        request = Request("POST", "/iris", lambda name: None, None, "")

        async def slow(began: float, arrives: bool) -> None:
            task = asyncio.current_task()
            assert task is not None
            arrivals.begun[task] = began
            if arrives:
                await arrivals.ahandle(request, b"{}")
            await asyncio.Event().wait()

        tasks = [
            asyncio.create_task(slow(began, arrives))
            for began, arrives in ((0.0, True), (0.0, False), (5.0, False))
        ]
        await asyncio.sleep(0)
        arrivals.end_late_ones(10.0)
        assert not arrivals.late
        arrivals.end_late_ones(10.1)
        await asyncio.wait([tasks[1]], timeout=5)
        assert [task.cancelled() for task in tasks] == [False, True, False]
        assert arrivals.late == {tasks[1]}
        assert arrivals.too_slow().status == 408
        for task in tasks:
            task.cancel()

    asyncio.run(program())
