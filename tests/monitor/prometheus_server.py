"""A real Prometheus for tests, on a port and in a folder of its own, stopped at the end.

`tests/monitor/get_prometheus` brings one into .venv; one in PATH serves as well. Without any, tests are skipped.
"""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.web.servers import ROOT, free_port, poll_until

__all__ = ["RunningPrometheus", "program", "prometheus"]

_UNPACKED = ROOT / ".venv" / "prometheus" / "usr" / "bin"
_STOP_S = 20

_CONFIG = """
global:
  scrape_interval: 250ms
  scrape_timeout: 250ms
scrape_configs:
  - job_name: models
    metrics_path: {path}
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""


def program(name: str) -> str:
    """Where ``prometheus`` or ``promtool`` is; skips the test if it is nowhere."""
    unpacked = _UNPACKED / name
    found = str(unpacked) if unpacked.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name}: tests/monitor/get_prometheus fetches it on Debian")
    return found


class RunningPrometheus:
    """A Prometheus that answers queries.

    Attributes
    ----------
    port : int
        On 127.0.0.1.
    """

    def __init__(self, process: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
        self.process = process
        self.port = port
        self._log_path = log_path

    def query(self, promql: str) -> list[dict[str, Any]]:
        """The series of an instant query: ``metric`` (its labels) and ``value`` (time, number as text)."""
        found: list[dict[str, Any]] = self.get("query", query=promql)["result"]
        return found

    def number(self, promql: str) -> float | None:
        """The value of a query of one series at most; None where there is none yet."""
        found = self.query(promql)
        assert len(found) <= 1, found
        return float(found[0]["value"][1]) if found else None

    def get(self, page: str, **arguments: str) -> Any:
        """The data of a page of its API."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", f"/api/v1/{page}?{urllib.parse.urlencode(arguments)}")
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert answer["status"] == "success", answer
        return answer["data"]

    def log(self) -> str:
        """What it has written."""
        return self._log_path.read_text(errors="replace")

    def is_ready(self) -> bool:
        """Whether it takes queries, or has ended."""
        if self.process.poll() is not None:
            return True
        with suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == 200
        return False


@contextmanager
def prometheus(folder: Path, target_port: int, path: str) -> Iterator[RunningPrometheus]:
    """Start a Prometheus that scrapes ``path`` of a port of this machine four times a second.

    Parameters
    ----------
    folder : Path
        For its data, configuration and log.
    target_port : int
    path : str

    Raises
    ------
    AssertionError
        It did not start.
    """
    found = program("prometheus")
    config = folder / "prometheus.yml"
    config.write_text(_CONFIG.format(port=target_port, path=path))
    for attempt in range(3):
        port = free_port()
        log_path = folder / "prometheus.log"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [
                    found,
                    f"--config.file={config}",
                    f"--storage.tsdb.path={folder / 'prometheus'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--enable-feature=exemplar-storage",
                ],
                cwd=folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        running = RunningPrometheus(process, port, log_path)
        try:
            if not poll_until(running.is_ready) or process.poll() is not None:
                if "address already in use" in running.log() and attempt < 2:
                    continue  # somebody else was quicker to take the port
                raise AssertionError(f"Prometheus did not start:\n{running.log()[-4000:]}")
            yield running
            return
        finally:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
