"""`infersdk serve` as a process of a test: started on a port that it takes itself, and always stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from tests.web.servers import ROOT, RunningServer, children_of, poll_until

__all__ = [
    "COMMAND",
    "JSON",
    "OWN_MODEL",
    "SLOW_MODEL",
    "ask",
    "is_gone",
    "launch",
    "run_to_the_end",
    "workers_of",
]

COMMAND = (str(Path(sys.executable).with_name("infersdk")), "serve")
JSON = {"content-type": "application/json"}

OWN_MODEL = '''
"""A model of an app, that has no ONNX form."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin


class First(ClassifierMixin, BaseEstimator):
    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.n_features_in_ = np.shape(X)[1]
        return self

    def predict(self, X):
        return (np.asarray(X, dtype=float)[:, 0] > 0.5).astype(int)


def make():
    return First().fit([[0.0, 0.0], [1.0, 0.0]], [0, 1])
'''

SLOW_MODEL = '''
"""A model that takes as long as its rows say, and leaves word when it has begun."""

import os

from infersdk.testing import FakePredictor


def latency_s(rows):
    seconds = max(row["seconds"] for row in rows)
    if seconds >= 1:
        with open(os.environ["BEGUN"], "a") as begun:
            begun.write("x")
        return seconds
    return 0.0


def slow():
    return FakePredictor(7, fields=["seconds"], latency_s=latency_s)
'''


@contextmanager
def launch(
    folder: Path,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = COMMAND,
    port: int = 0,
    n_ready: int = 1,
) -> Iterator[RunningServer]:
    """Start a server and wait until its workers are ready; nothing of it is left at the end.

    Parameters
    ----------
    folder : Path
        Its working directory; its output goes to ``server.log`` there.
    *arguments : str
        After ``infersdk serve``.
    environment : Mapping of str to str, optional
        Added to this process's.
    command : sequence of str
        Before the arguments.
    port : int
        0: it takes a free one and says which.
    n_ready : int
        Workers to wait for.
    """
    log_path = folder / "server.log"
    own = {
        "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT))),
        "PYTHONUNBUFFERED": "1",
        "INFERSDK_WORKERS": str(n_ready),
        **({} if port else {"INFERSDK_PORT": "0"}),
        "BEGUN": str(folder / "begun"),
    }
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env={**os.environ, **own, **(environment or {})},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = RunningServer(process, port, log_path)
    try:
        poll_until(
            lambda: process.poll() is not None or server.log().count("worker is ready") >= n_ready
        )
        said = server.log()
        serving = re.search(r"serving at https?://\S+?:(\d+)", said)
        assert serving is not None, f"{' '.join(arguments)} did not start:\n{said[-4000:]}"
        server.port = int(serving[1])
        assert poll_until(partial(_listens, server.port)), said[-4000:]
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False


def run_to_the_end(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Run a server that does not start: its exit status, and what it said."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout.decode()


def ask(
    server: RunningServer, path: str, rows: Any, headers: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    """POST JSON and read JSON."""
    body = json.dumps(rows).encode()
    status, reply = server.request("POST", path, body, {**JSON, **(headers or {})})
    return status, json.loads(reply)


def workers_of(server: RunningServer) -> set[int]:
    """Process ids of those that answer."""
    return children_of(server.process.pid)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, also one that nobody has awaited."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
