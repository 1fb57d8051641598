"""The examples do what they say, from start to end."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from examples.client import fire
from examples.demo import _different
from examples.server import serving

ROOT = Path(__file__).parents[1]

pytest.importorskip("flask", reason="the examples are Flask apps")
pytest.importorskip("gunicorn", reason="the demo serves with gunicorn")


def test_different_counts_numbers_that_are_off_and_classes_that_flip() -> None:
    expected = np.array([[0.2, 0.8], [0.5, 0.5 - 1e-9], [0.1, 0.9]])
    answers = [
        {"answers": [[0.2, 0.8]]},
        {"answers": [[0.5 - 1e-9, 0.5]]},
        {"answers": [[0.1, 0.91]]},
    ]
    assert _different(answers, expected) == 2
    assert _different([{"answers": [row]} for row in expected.tolist()], expected) == 0


def test_the_client_reports_a_server_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(RuntimeError, match="POST /a/b failed"):
        fire(port, "/a/b", [{}] * 3, clients=2, timeout_s=5)


def test_a_server_that_cannot_start_is_an_error_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match=r"gunicorn could not start examples\.client:nothing"),
        serving("examples.client:nothing", tmp_path, workers=1),
    ):
        raise AssertionError("the server has no app")


@pytest.mark.slow
def test_the_demo_serves_until_it_is_interrupted(tmp_path: Path) -> None:
    """One run for all of it: a demo trains and converts three models."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-u", "-m", "examples.demo", "--serve"),
            *("--requests", "66", "--folder", str(tmp_path)),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        assert process.stdout is not None
        output = ""
        while not re.search(r"\ncurl .*\n", output):
            ready, _, _ = select.select([process.stdout], [], [], 240)
            assert ready, f"the demo went silent after:\n{output}"
            part = os.read(process.stdout.fileno(), 65536).decode()
            assert part, f"the demo ended early:\n{output}"
            output += part
        assert output.count("parity: equal") >= 2
        assert "all 66 answers equal the source models'" in output

        command = output[output.index("\ncurl ") :]
        url = re.search(r"http://127\.0\.0\.1:\d+/\S+", command)
        body = re.search(r"-d '(.*)'", command)
        assert url is not None
        assert body is not None
        assert _post(url[0], body[1]) == 200
        assert _post(url[0], body[1].replace("mean_texture", "texture")) == 422
        assert _post(url[0].replace("/tumors/", "/nothing/"), body[1]) == 404

        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 0
        with pytest.raises(urllib.error.URLError, match="refused"):
            _post(url[0], body[1])
    finally:
        process.kill()
        process.wait()


def _post(url: str, body: str) -> int:
    request = urllib.request.Request(
        url, body.encode(), {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            status: int = response.status
            return status
    except urllib.error.HTTPError as error:
        return error.code
