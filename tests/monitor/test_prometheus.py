"""Prometheus itself scrapes, and its answers to queries are the numbers of calls that were made."""

from __future__ import annotations

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infersdk.monitor import Exemplars, MetricsSource, RequestMetrics
from infersdk.monitor.exposition import render
from tests.monitor.prometheus_server import RunningPrometheus, program, prometheus
from tests.monitor.snapshots import FixedSource, histogram_of, model_metrics
from tests.web.servers import SERVERS, poll_until, serve


def test_promtool_finds_nothing_to_say_of_the_names() -> None:
    promtool = program("promtool")
    body, _ = render(
        FixedSource([model_metrics()]),
        requests=RequestMetrics({("rows", "iris", 200): 9}),
        labels={"pid": "71"},
    )
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=body, capture_output=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@contextmanager
def served(source: MetricsSource, **arguments: Any) -> Iterator[tuple[int, set[str]]]:
    """A server of /metrics alone: its port, and the content types it has given."""
    given: set[str] = set()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body, content_type = render(source, accept=self.headers.get("accept"), **arguments)
            given.add(content_type)
            self.send_response(200)
            self.send_header("content-type", content_type)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port, given
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def becomes(prometheus: RunningPrometheus, promql: str, expected: float) -> None:
    """Wait until a query gives a number: scraping takes its time."""
    assert poll_until(lambda: prometheus.number(promql) == expected, 30), (
        f"{promql} is {prometheus.number(promql)}, not {expected}\n{prometheus.log()[-2000:]}"
    )


@pytest.mark.slow
def test_prometheus_reads_every_family(tmp_path: Path) -> None:
    exemplars = Exemplars()
    exemplars.record("iris", "predict", 0.4, "a" * 32)
    source = FixedSource([model_metrics(), model_metrics('a "quoted"\\\nname')])
    with (
        served(source, exemplars=exemplars, aliases=("triton", "kserve", "mlserver")) as (
            port,
            given,
        ),
        prometheus(tmp_path, port, "/metrics") as running,
    ):
        becomes(running, 'infersdk_calls_total{model="iris",method="predict"}', 8)
        assert given == {"application/openmetrics-text; version=1.0.0; charset=utf-8"}
        of = {"model": 'a "quoted"\\\nname', "version": "3", "method": "predict"}
        found = [one["metric"] for one in running.query("infersdk_calls_total")]
        assert any(of.items() <= labels.items() for labels in found)
        becomes(running, 'sum(infersdk_call_errors_total{model="iris"})', 2)
        becomes(running, 'infersdk_run_rows_bucket{model="iris",le="2.0"}', 2)
        becomes(running, 'nv_inference_request_success{model="iris"}', 7)
        becomes(running, 'request_predict_seconds_count{model_name="iris"}', 7)
        becomes(running, 'model_infer_request_duration_count{model="iris"}', 7)
        # Half of the calls took 2 ms or less; the answer is as fine as the buckets are.
        median = running.number(
            'histogram_quantile(0.5, infersdk_call_duration_seconds_bucket{model="iris",method="predict"})'
        )
        assert median is not None
        assert 0.002 / 1.8 < median < 0.002 * 1.8
        traced = running.get(
            "query_exemplars",
            query="infersdk_call_duration_seconds_bucket",
            start="2020-01-01T00:00:00Z",
            end="2100-01-01T00:00:00Z",
        )
        assert [one["labels"] for series in traced for one in series["exemplars"]] == [
            {"trace_id": "a" * 32}
        ]
        # What comes later is counted on.
        more = replace(
            model_metrics().methods[0], calls=20, call_s=histogram_of([0.001] * 20), errors={}
        )
        source.models = [replace(model_metrics(), methods=(more,))]
        becomes(running, 'infersdk_calls_total{model="iris",method="predict"}', 20)


APP = """
from flask import Flask

from infersdk.web.flask import InferSDK

flask_app = Flask(__name__)
flask_app.config["INFERSDK_METRICS"] = True
flask_app.config["INFERSDK_METRICS_ALIASES"] = ["triton", "kserve"]
InferSDK(flask_app, models={"iris": "iris.onnx"}, url_prefix="/models")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Flask app and its model."""
    pytest.importorskip("flask", reason="this app is a Flask app")
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    import infersdk

    path = tmp_path_factory.mktemp("scraped")
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(X, y)
    infersdk.convert(model, example=X).save(path / "iris.onnx")
    (path / "scraped.py").write_text(APP)
    return path


@pytest.mark.slow
def test_a_query_gives_the_calls_of_all_workers(folder: Path) -> None:
    program("prometheus")
    command = (*SERVERS["gunicorn sync"], "--no-control-socket")
    with (
        serve(command, "scraped:flask_app", folder, ready="/models/health/ready") as server,
        prometheus(folder, server.port, "/models/metrics") as running,
    ):
        row = [5.1, 3.5, 1.4, 0.2]
        json_type = {"content-type": "application/json"}
        for count in range(1, 31):
            body = json.dumps([row] * count).encode()
            assert server.request("POST", "/models/iris/predict", body, json_type)[0] == 200
        for _ in range(5):
            assert server.request("POST", "/models/iris/predict", b'["x"]', json_type)[0] == 422
        # A scrape hears of one worker. Whoever answered a call is heard of within some of them.
        of = '{model="iris",method="predict"}'
        for name, expected in {
            f"infersdk_calls_total{of}": 35,
            'infersdk_call_errors_total{model="iris",error="InputError"}': 5,
            f"infersdk_rows_total{of}": 465,
            f"infersdk_call_duration_seconds_count{of}": 30,
            'infersdk_call_duration_seconds_bucket{model="iris",method="predict",le="+Inf"}': 30,
            'infersdk_run_rows_count{model="iris"}': 30,
            'infersdk_run_rows_sum{model="iris"}': 465,
            'infersdk_http_requests_total{protocol="rows",model="iris",code="200"}': 30,
            'infersdk_http_requests_total{protocol="rows",model="iris",code="422"}': 5,
            'nv_inference_count{model="iris"}': 465,
            'request_predict_seconds_count{model_name="iris"}': 30,
        }.items():
            becomes(running, f"sum(max_over_time({name}[1h]))", expected)
