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

    The port is bound here and handed over as a file descriptor, so that it cannot be taken in between
    and requests wait in its queue until the first worker is up. The server gets a process group of its
    own: Ctrl-C reaches only us, and we stop it, whatever happens in the block.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", app),
                *("--bind", f"fd://{listener.fileno()}"),
                *("--workers", str(workers), "--worker-class", "sync"),
                *("--log-level", "warning", "--no-control-socket"),
            ],
            env={**os.environ, "MODELS": str(models), "OMP_NUM_THREADS": "1"},
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
    try:
        yield Server(process, port)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
