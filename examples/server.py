"""A gunicorn server that lives as long as a ``with`` block."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Server", "serving"]


@dataclass(frozen=True)
class Server:
    """A running server: its process and its port on 127.0.0.1."""

    process: subprocess.Popen[bytes]
    port: int


@contextmanager
def serving(app: str, models: Path, *, workers: int) -> Iterator[Server]:
    """Serve a Flask app factory with ``workers`` sync workers on a free loopback port.

    The port is bound here and handed over as a file descriptor, so that nobody can take it in between.
    The block starts when every worker has loaded the app. The server gets a process group of its own:
    Ctrl-C reaches only us, and we stop it, whatever happens in the block.

    Raises
    ------
    RuntimeError
        The server ended before all its workers were ready; its own message is on stderr.
    """
    ready, ready_in_worker = os.pipe()
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", app),
                *("--bind", f"fd://{listener.fileno()}"),
                *("--workers", str(workers), "--worker-class", "sync"),
                *("--config", "python:examples.gunicorn_ready"),
                *("--log-level", "warning", "--no-control-socket"),
            ],
            env={
                **os.environ,
                "MODELS": str(models),
                "OMP_NUM_THREADS": "1",
                "READY_FD": str(ready_in_worker),
            },
            pass_fds=[listener.fileno(), ready_in_worker],
            start_new_session=True,
        )
    os.close(ready_in_worker)
    try:
        _await_workers(ready, workers, app)
        yield Server(process, port)
    finally:
        os.close(ready)
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _await_workers(ready: int, workers: int, app: str) -> None:
    """Read one byte from each worker; the pipe ends early when the server does."""
    missing = workers
    while missing:
        said = os.read(ready, missing)
        if not said:
            raise RuntimeError(f"gunicorn could not start {app}; its message is above")
        missing -= len(said)
