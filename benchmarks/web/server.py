"""Servers with two workers on a free port of 127.0.0.1, as their users start them.

Each is one command; what differs from its defaults is only where it listens, the number of workers, and that
it writes no line for each request.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.runner import ONE_THREAD, ROOT
from benchmarks.web import processes

__all__ = ["COMMANDS", "ServerError", "Serving", "serving"]

WORKERS = 2
_START_S = 60.0
_STOP_S = 15.0
_SAID_READY = re.compile(r"\[(\d+)\] worker is ready")
"""In the log of ``infersdk serve``, whose workers leave no files."""

COMMANDS: dict[str, tuple[str, ...]] = {
    "gunicorn": (
        *("gunicorn", "{app}", "--bind", "127.0.0.1:{port}", "--workers", "{workers}"),
        *("--worker-class", "sync", "--log-level", "warning", "--no-control-socket"),
    ),
    "uvicorn": (
        *("uvicorn", "{app}", "--host", "127.0.0.1", "--port", "{port}", "--workers", "{workers}"),
        *("--no-access-log", "--log-level", "warning"),
    ),
    "granian": (
        *("granian", "{app}", "--host", "127.0.0.1", "--port", "{port}", "--workers", "{workers}"),
        *("--interface", "rsgi", "--no-access-log", "--log-level", "warning"),
    ),
    "granian-asgi": (
        *("granian", "{app}", "--host", "127.0.0.1", "--port", "{port}", "--workers", "{workers}"),
        *("--interface", "asgi", "--no-access-log", "--log-level", "warning"),
    ),
    "infersdk": (
        *("infersdk", "serve", "{models}/forest.onnx", "--host", "127.0.0.1", "--port", "{port}"),
        *("--workers", "{workers}"),
    ),
    "mosec": (
        *("benchmarks.rivals.servers.mosec.server", "--address", "127.0.0.1", "--port", "{port}"),
        *("--log-level", "warning"),
    ),
    "mosec-batches": (
        *("benchmarks.rivals.servers.mosec.server", "--address", "127.0.0.1", "--port", "{port}"),
        *("--log-level", "warning", "--in-batches"),
    ),
    "litserve": ("benchmarks.rivals.servers.litserve.server", "{port}"),
    "bentoml": (
        *("bentoml", "serve", "benchmarks.rivals.servers.bentoml.service:Predictor"),
        *("--host", "127.0.0.1", "--port", "{port}"),
    ),
    "ray": ("benchmarks.rivals.servers.ray.server", "{port}"),
    "ray-haproxy": ("benchmarks.rivals.servers.ray.server", "{port}", "--high-throughput"),
}
"""Server -> its command after ``python -m``. uvicorn must be uvicorn[standard]: without uvloop, and with
``--workers``, it leaves Nagle's algorithm on, and a request takes 44 ms."""


class ServerError(Exception):
    """A server did not come up; its log is in the message."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A server whose workers have all imported their app.

    Parameters
    ----------
    port : int
        On 127.0.0.1.
    pid : int
        The process that was started.
    workers : tuple of int
        The numbers of those that have the model.
    folder : Path
        Where its workers may leave files.
    """

    port: int
    pid: int
    workers: tuple[int, ...]
    folder: Path

    def log(self) -> str:
        """The end of what it has written to stdout and stderr."""
        return _tail(self.folder / "log")

    def cpu_s(self) -> float:
        """Seconds of processor time that all its processes have taken; NaN where the system does not say."""
        return processes.cpu_s(self.pid)


@contextmanager
def serving(server: str, app: str, models: Path, python: str = sys.executable) -> Iterator[Serving]:
    """Start a server, wait until its workers have their app and one of them listens; stop it at the end.

    Parameters
    ----------
    server : str
        One of ``COMMANDS``.
    app : str
        The module whose ``app`` is served; it may lie in ``models``.
    models : Path
        The workload's folder, ``$MODELS`` to the app.
    python : str
        The interpreter that runs the server.

    Raises
    ------
    ServerError
        The server ended, or its workers were not ready within a minute.
    """
    port = _free_port()
    values = {
        "app": "benchmarks.web.served:app",
        "port": port,
        "workers": WORKERS,
        "models": models,
    }
    command = [part.format(**values) for part in COMMANDS[server]]
    with tempfile.TemporaryDirectory(prefix="infersdk-bench-server-") as name:
        folder = Path(name)
        log = folder / "log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [python, "-m", *command],
                cwd=ROOT,
                env=_environment(app, models, folder),
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                start_new_session=True,  # a Ctrl-C reaches us alone, and we stop the server
            )
        try:
            workers = _await_workers(process, port, folder, f"{server} with {app}", log)
            yield Serving(port, process.pid, workers, folder)
        finally:
            _stop(process)


def _environment(app: str, models: Path, folder: Path) -> dict[str, str]:
    environment = {**os.environ, **ONE_THREAD}
    environment |= {"APP": app, "MODELS": str(models), "READY": str(folder)}
    paths = [str(models), str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment.pop("WEB_CONCURRENCY", None)
    return environment


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _await_workers(
    process: subprocess.Popen[bytes], port: int, folder: Path, what: str, log: Path
) -> tuple[int, ...]:
    ends = time.monotonic() + _START_S
    while True:
        # A master may import the app, too; it answers nothing.
        pids = {int(path.name) for path in folder.iterdir() if path.name.isdecimal()}
        pids |= {int(pid) for pid in _SAID_READY.findall(log.read_text(errors="replace"))}
        pids.discard(process.pid)
        if len(pids) >= WORKERS and _listens(port):
            return tuple(sorted(pids))
        if process.poll() is not None:
            raise ServerError(f"{what} ended with {process.returncode}:\n{_tail(log)}")
        if time.monotonic() > ends:
            raise ServerError(
                f"{what}: {len(pids)} of {WORKERS} workers were ready after {_START_S:.0f} s:\n{_tail(log)}"
            )
        time.sleep(0.02)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]


def _stop(process: subprocess.Popen[bytes]) -> None:
    started = processes.tree(process.pid)
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_STOP_S)
    # Also what a server that ended badly has left behind.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    processes.kill(started)
    process.wait()
