"""``opentelemetry-instrument gunicorn app:app``: spans of an app's models without a line of code."""

from __future__ import annotations

import json
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.instrumentation.flask")
pytest.importorskip("gunicorn")

from tests.web.servers import serve

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="tested on Linux only"),
]

APP = """
from flask import Flask
from infersdk.web.flask import InferSDK

app = Flask(__name__)
infer = InferSDK(app, models={"iris": "MODEL"}, url_prefix="/models")
"""
ENTRY_POINT = """[opentelemetry_instrumentor]
infersdk = infersdk.monitor.opentelemetry:InferSDKInstrumentor
"""

# What the command `opentelemetry-instrument` runs.
COMMAND = """
if __name__ == "__main__":
    from opentelemetry.instrumentation.auto_instrumentation import run
    run()
"""


@pytest.mark.parametrize("preload", [False, True])
def test_a_flask_app_is_traced_down_to_its_model(
    preload: bool, artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "opentelemetry_instrument.py").write_text(COMMAND)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "instrumented.py").write_text(APP.replace("MODEL", str(artifact)))
    # As the installed package has it: tests may run from a source tree.
    described = tmp_path / "instrumented-0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: instrumented\nVersion: 0\n")
    (described / "entry_points.txt").write_text(ENTRY_POINT)
    command = (
        *("opentelemetry_instrument", sys.executable, "-m", "gunicorn"),
        *("--bind", "127.0.0.1:{port}", "--workers", "1", *(["--preload"] if preload else [])),
    )
    environment = {
        "OTEL_TRACES_EXPORTER": "console",
        "OTEL_METRICS_EXPORTER": "console",
        "OTEL_LOGS_EXPORTER": "none",
    }
    with serve(
        command, "instrumented:app", tmp_path, ready="/models/health/ready", environment=environment
    ) as server:
        for _ in range(5):
            status, _ = server.request(
                "POST",
                "/models/iris/predict",
                b"[5.1, 3.5, 1.4, 0.2]",
                {"content-type": "application/json"},
            )
            assert status == 200
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        log = server.log()
    said = written_to(log)
    spans = {one["context"]["span_id"]: one for one in said if "context" in one}
    calls = [span for span in spans.values() if span["name"] == "infersdk.predict"]
    assert len(calls) == 5
    for call in calls:
        assert spans[call["parent_id"]]["name"] == "POST /models/<path:path>"
    counted = [
        sum(point["value"] for point in metric["data"]["data_points"])
        for one in said
        for resource in one.get("resource_metrics", ())
        for scope in resource["scope_metrics"]
        for metric in scope["metrics"]
        if metric["name"] == "infersdk.calls"
    ]
    assert max(counted) == 5


def written_to(log: str) -> list[dict[str, Any]]:
    """The JSON objects that begin at the beginning of a line."""
    decoder, found = json.JSONDecoder(), []
    for match in re.finditer(r"^\{", log, re.MULTILINE):
        with suppress(ValueError):
            found.append(decoder.raw_decode(log, match.start())[0])
    return found
