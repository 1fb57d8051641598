"""A web server that lives as long as a ``with`` block."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "Server", "serving"]

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Server:
    """A running server: its process, its port on 127.0.0.1, and what it has written."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def ask(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> tuple[int, Any]:
        """Send one request over a connection of its own; status, and what the JSON of the reply says."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"content-type": content_type})
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            connection.close()


@contextmanager
def serving(
    command: Sequence[str],
    *,
    environ: Mapping[str, str],
    log: Path,
    ready: str = "/models/health/ready",
    timeout_s: float = 60,
) -> Iterator[Server]:
    """Run a server until the block ends; the block begins when it answers ``ready``.

    Parameters
    ----------
    command : sequence of str
        After ``python -m``. ``{fd}`` stands for a socket that listens already, ``{port}`` for a free port
        of servers that take no socket.
    environ : Mapping of str to str
        Besides what is needed to find the packages.
    log : path
        Takes what the server writes.
    ready : str
    timeout_s : float

    Raises
    ------
    RuntimeError
        It ended before it answered, or did not answer in time; the message has what it wrote.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener, log.open("wb") as out:
        port = listener.getsockname()[1]
        words = [word.format(fd=listener.fileno(), port=port) for word in command]
        takes_socket = words != list(command) and any("{fd}" in word for word in command)
        if not takes_socket:
            listener.close()
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environ},
            pass_fds=[listener.fileno()] if takes_socket else [],
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    server = Server(process, port, log)
    try:
        _wait(server, ready, time.monotonic() + timeout_s)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(server: Server, path: str, deadline: float) -> None:
    while True:
        if server.process.poll() is not None:
            raise RuntimeError(
                f"the server ended with {server.process.returncode}:\n{server.log.read_text()}"
            )
        with suppress(OSError, ValueError, http.client.HTTPException):
            if server.ask("GET", path)[0] == 200:
                return
        if time.monotonic() > deadline:
            raise RuntimeError(f"the server does not answer:\n{server.log.read_text()}")
        time.sleep(0.05)
