"""OpenTelemetry's SDK with its threads in a preloading gunicorn: nothing hangs, and no span is lost.

Spans are exported every 20 ms, so that the SDK's threads are at work while the master forks. Workers are recycled, so
that it forks often. A worker that hangs is killed by gunicorn, which its log says.
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")
pytest.importorskip("gunicorn")

from tests.web.servers import ROOT, serve

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks beside threads"),
]

N_REQUESTS = 240
ROWS = b"[[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3]]"
HEADERS = {"content-type": "application/json", "connection": "close"}


def exported(folder: Path, kind: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for path in folder.glob(f"{kind}-*"):
        yield path.name, [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("setup", "opening", "worker_class"),
    [
        ("import", "now", "gthread"),
        ("import", "auto", "sync"),
        ("post_fork", "now", "sync"),
        ("post_fork", "auto", "gthread"),
    ],
)
def test_nothing_hangs_and_no_span_is_lost(
    setup: str, opening: str, worker_class: str, artifact: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "exported"
    folder.mkdir()
    command = (
        *("gunicorn", "--preload", "--bind", "127.0.0.1:{port}", "--workers", "3"),
        *("--worker-class", worker_class, "--threads", "3" if worker_class == "gthread" else "1"),
        *("--max-requests", "25", "--max-requests-jitter", "10", "--timeout", "30"),
        *("--config", str(ROOT / "tests/monitor/otel_app.py")),
    )
    environment = {
        "SETUP": setup,
        "OPENING": opening,
        "MODEL": str(artifact),
        "EXPORTED": str(folder),
    }
    statuses: list[int] = []
    with serve(command, "tests.monitor.otel_app:wsgi", tmp_path, environment=environment) as server:

        def ask(i: int) -> None:
            traceparent = f"00-{i:032x}-{i:016x}-01"
            # A worker that is replaced may close a connection that it has not read from.
            for _ in range(20):
                try:
                    status, _ = server.request(
                        "POST", "/iris/predict", ROWS, {**HEADERS, "traceparent": traceparent}
                    )
                except OSError:
                    continue
                statuses.append(status)
                return

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(ask, range(1, N_REQUESTS + 1)))
        assert statuses == [200] * N_REQUESTS
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        log = server.log()
    assert "WORKER TIMEOUT" not in log
    assert "SIGKILL" not in log
    # The SDK says in a traceback of its own what it had no time for.
    assert "/infersdk/" not in log, log
    assert len(set(re.findall(r"Booting worker with pid: (\d+)", log))) > 5

    spans: dict[str, dict[str, Any]] = {}
    for _, listed in exported(folder, "spans"):
        for span in listed:
            assert span["context"]["span_id"] not in spans
            spans[span["context"]["span_id"]] = span
    by_name: dict[str, list[dict[str, Any]]] = {}
    for span in spans.values():
        by_name.setdefault(span["name"], []).append(span)
    servers = by_name["POST /{model}/{method}"]
    calls, runs = by_name["infersdk.predict"], by_name["infersdk.run"]
    assert len(servers) == len(calls) == len(runs) == N_REQUESTS
    assert {int(span["context"]["trace_id"], 16) for span in servers} == set(
        range(1, N_REQUESTS + 1)
    )
    for span in servers:
        assert int(span["parent_id"], 16) == int(span["context"]["trace_id"], 16)
        assert span["attributes"]["http.response.status_code"] == 200
    for span in (*calls, *runs):
        parent = spans[span["parent_id"]]
        assert parent["context"]["trace_id"] == span["context"]["trace_id"]
        assert parent["start_time"] <= span["start_time"] <= span["end_time"] <= parent["end_time"]
    assert {spans[span["parent_id"]]["name"] for span in calls} == {"POST /{model}/{method}"}

    # Each worker's last words are all that it has counted.
    n_calls = n_rows = 0
    for _, collections in exported(folder, "metrics"):
        last = values_of(collections[-1])
        n_calls += last.get("infersdk.calls", 0)
        n_rows += last.get("infersdk.rows", 0)
    assert (n_calls, n_rows) == (N_REQUESTS, 2 * N_REQUESTS)


def values_of(collected: dict[str, Any]) -> dict[str, int]:
    """Sums of all series."""
    return {
        metric["name"]: sum(point["value"] for point in metric["data"]["data_points"])
        for resource in collected["resource_metrics"]
        for scope in resource["scope_metrics"]
        for metric in scope["metrics"]
    }
