"""Real server processes for tests: started on a port of their own, waited for, and always stopped.

    with serve("gunicorn gthread", "app:wsgi", folder) as server:
        ...

``serve`` comes back when the app answers. The process group is killed at the end, so that no worker outlives
a test; what the server has said is in ``server.log()``, and in the error if it does not start.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

__all__ = ["SERVERS", "RunningServer", "children_of", "free_port", "poll_until", "serve"]

ROOT = Path(__file__).parents[2]
START_S = 60
STOP_S = 30

_GUNICORN = ("gunicorn", "--bind", "127.0.0.1:{port}", "--workers", "2", "--graceful-timeout", "20")
_UVICORN = ("uvicorn", "--host", "127.0.0.1", "--port", "{port}", "--no-access-log")
# Granian's workers do not hear a stop while they import the app: the timeout ends those.
_GRANIAN = (
    *("granian", "--host", "127.0.0.1", "--port", "{port}", "--workers", "2"),
    # The interval must be longer than an app takes to start.
    *("--workers-kill-timeout", "5", "--respawn-interval", "4"),
)

SERVERS: Mapping[str, tuple[str, ...]] = {
    "gunicorn sync": _GUNICORN,
    "gunicorn gthread": (*_GUNICORN, "--worker-class", "gthread", "--threads", "4"),
    "gunicorn gevent": (*_GUNICORN, "--worker-class", "gevent"),
    "gunicorn preload": (*_GUNICORN, "--preload"),
    "gunicorn preload gthread": (
        *_GUNICORN,
        "--preload",
        "--worker-class",
        "gthread",
        "--threads",
        "4",
    ),
    "gunicorn uvicorn": (*_GUNICORN, "--worker-class", "uvicorn_worker.UvicornWorker"),
    "uvicorn": _UVICORN,
    # How long a new worker may take to start, at a reload.
    "uvicorn workers": (*_UVICORN, "--workers", "2", "--timeout-worker-healthcheck", "60"),
    "granian asgi": (*_GRANIAN, "--interface", "asgi"),
    "granian rsgi": (*_GRANIAN, "--interface", "rsgi"),
    "granian wsgi": (*_GRANIAN, "--interface", "wsgi", "--blocking-threads", "2"),
}
"""The command of each server; the app comes last. Two workers, except for ``uvicorn``."""

_NEEDS = {"gunicorn gevent": "gevent", "gunicorn uvicorn": "uvicorn_worker"}


class RunningServer:
    """A server that answers.

    Attributes
    ----------
    port : int
        On 127.0.0.1.
    process : subprocess.Popen
        The server's first process: the one to send signals to.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
        self.process = process
        self.port = port
        self._log_path = log_path

    def connect(self, timeout_s: float = 30) -> http.client.HTTPConnection:
        """A connection of one's own."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Status and body, over a new connection."""
        connection = self.connect()
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def workers(self) -> set[int]:
        """Process ids of its children that serve. Linux only."""
        return children_of(self.process.pid)

    def signal(self, number: int) -> None:
        """Send a signal to the first process."""
        self.process.send_signal(number)

    def wait(self, timeout_s: float = STOP_S) -> int:
        """Wait for the end of the first process; its exit status."""
        return self.process.wait(timeout_s)

    def log(self) -> str:
        """What the server and the app have written to stdout and stderr."""
        return self._log_path.read_text(errors="replace")


def children_of(pid: int) -> set[int]:
    """Process ids of a process's children that serve. Linux only."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(child) for child in listed.split() if _serves(child)}


def _serves(pid: str) -> bool:
    """Not Python's own helper of multiprocessing, nor a process that has ended."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return command != b"" and b"resource_tracker" not in command


@contextmanager
def serve(
    server: str | Sequence[str],
    app: str,
    folder: Path,
    *,
    ready: str = "/health/ready",
    environment: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> Iterator[RunningServer]:
    """Start a server and wait until a GET of ``ready`` is answered with 200; stop it at the end.

    Parameters
    ----------
    server : str or sequence of str
        A key of `SERVERS`, or a command, with ``{port}`` where that belongs.
    app : str
        ``module:attribute``, imported from ``folder``; nothing where the arguments say it already.
    folder : Path
        The server's working directory; its output goes to ``server.log`` there.
    ready : str
        A path.
    environment : Mapping of str to str, optional
        Added to this process's.
    options : sequence of str
        Further arguments.

    Raises
    ------
    AssertionError
        The server ended, or did not answer in time.
    """
    command = SERVERS[server] if isinstance(server, str) else tuple(server)
    for module in (command[0], _NEEDS.get(server) if isinstance(server, str) else None):
        if module is not None:
            pytest.importorskip(module)
    for attempt in range(3):
        port = free_port()
        arguments = [part.format(port=port) for part in command]
        log_path = folder / "server.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [*_program(arguments[0]), *arguments[1:], *options, *([app] if app else [])],
                cwd=folder,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))),
                    "PYTHONUNBUFFERED": "1",
                    **(environment or {}),
                },
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = RunningServer(process, port, log_path)
        try:
            if not _starts(running, ready):
                said = running.log()
                if "in use" in said.lower() and attempt < 2:
                    continue  # somebody else was quicker to take the port
                raise AssertionError(f"{' '.join(arguments)} did not start:\n{said[-4000:]}")
            yield running
            return
        finally:
            _stop(process)


def _program(name: str) -> list[str]:
    """The command as users start it. gunicorn that was started as a module cannot replace its own binary."""
    script = Path(sys.executable).with_name(name)
    return [str(script)] if script.exists() else [sys.executable, "-m", name]


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def poll_until(condition: Callable[[], object], timeout_s: float = START_S) -> bool:
    """Ask every 20 ms until it is true; False when the time is up."""
    pause = threading.Event()
    ends = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > ends:
            return False
        pause.wait(0.02)
    return True


def _starts(server: RunningServer, ready: str) -> bool:
    def ended_or_answers() -> bool:
        if server.process.poll() is not None:
            return True
        with suppress(OSError, http.client.HTTPException):
            return server.request("GET", ready)[0] == 200
        return False

    return poll_until(ended_or_answers) and server.process.poll() is None


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask it to end, then see to it that nothing of it is left."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
