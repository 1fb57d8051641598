"""MLflow itself decides: its scoring server's answers to the same bodies, and its client with a real server.

It is in an environment of its own, which ``make interop`` makes.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infersdk.predictors import Predictors
from infersdk.web.request import Request
from infersdk.web.service import Service
from infersdk.web.settings import Settings
from tests.web.servers import RunningServer, serve

from ..conftest import Trained

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-mlflow" / "bin" / "python"

APP = """
import os
from flask import Flask
from infersdk.web.flask import InferSDK

app = Flask("app")
InferSDK(app, models={"iris": os.environ["IRIS"]}, url_prefix="/", protocols=["invocations"])
"""

needs_mlflow = pytest.mark.skipif(
    not PYTHON.exists(), reason="needs MLflow in .venv-mlflow; see this file's docstring"
)
pytestmark = pytest.mark.slow


def run_mlflow(*arguments: str) -> Any:
    done = subprocess.run(
        [PYTHON, Path(__file__).with_name("mlflow_client.py"), *arguments],
        capture_output=True,
        check=False,
        timeout=120,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def payloads(X: Any) -> list[tuple[str, bytes]]:
    names = list(X.columns)
    rows = X.to_numpy().tolist()
    records = X.to_dict("records")
    split = {"columns": names, "data": rows}
    bodies: list[Any] = [
        {"dataframe_split": split},
        {"dataframe_split": {**split, "index": list(range(len(rows)))}},
        {"dataframe_split": {"columns": names[::-1], "data": [row[::-1] for row in rows]}},
        {"dataframe_records": records},
        {"instances": records},
        {"inputs": {name: X[name].tolist() for name in names}},
        {"inputs": records},
        {"inputs": records[0]},
        # What is wrong with these, both see.
        {"dataframe_split": {"columns": names[:2], "data": [row[:2] for row in rows]}},
        {"dataframe_split": {"columns": names, "data": [row[:2] for row in rows]}},
        {"dataframe_split": {"columns": names}},
        {"dataframe_split": rows},
        {"dataframe_split": {**split, "other": 1}},
        {"dataframe_records": split},
        {"inputs": records, "instances": records},
        {"inputs": records, "signature_name": "x"},
        {"instances": [{names[0]: "x"}]},
        {"other": 1},
        3,
    ]
    csv = X.to_csv(index=False)
    return [
        *(("application/json", json.dumps(body).encode()) for body in bodies),
        ("application/json", b"{"),
        ("application/json; charset=utf-8", json.dumps(bodies[0]).encode()),
        ("application/json; charset=latin-1", json.dumps(bodies[0]).encode()),
        ("text/csv", csv.encode()),
        ("text/csv; charset=utf-8", X[names[::-1]].to_csv(index=False).encode()),
        ("text/csv", X[names[:2]].to_csv(index=False).encode()),
        ("text/csv", b"\xff"),
        ("text/plain", csv.encode()),
    ]


@needs_mlflow
def test_answers_are_mlflows(iris: Trained, tmp_path: Path) -> None:
    X = iris.X.iloc[::17]
    sent = payloads(X)
    model = {
        "names": list(X.columns),
        "coefficients": iris.model.coef_.tolist(),
        "intercepts": iris.model.intercept_.tolist(),
    }
    (tmp_path / "model.json").write_text(json.dumps(model))
    listed = [
        {"content_type": content_type, "body": base64.b64encode(body).decode()}
        for content_type, body in sent
    ]
    (tmp_path / "payloads.json").write_text(json.dumps(listed))
    expected = run_mlflow(str(tmp_path / "model.json"), str(tmp_path / "payloads.json"))
    assert sum(status == 200 for status, _ in expected) >= 11
    service = Service(Predictors({"iris": iris.path}), Settings(protocols=("invocations",)))
    for (content_type, body), (status, content) in zip(sent, expected, strict=True):
        request = Request("POST", "/invocations", {"content-type": content_type}.get)
        reply = service.handle(request, body)
        said = json.loads(reply.body)
        if status == 200:
            assert (reply.status, said) == (200, {"predictions": content}), body
        elif status == 415:
            assert reply.status == 415
        else:
            # What does not fit the model has a status of its own here.
            assert reply.status in (status, 422), body
            assert said["error_code"] in (content, "INVALID_PARAMETER_VALUE")
    service.predictors.close()


@pytest.fixture(scope="module")
def server(iris: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    if os.name != "posix":
        pytest.skip("these servers need a POSIX system")
    pytest.importorskip("flask")
    folder = tmp_path_factory.mktemp("server")
    (folder / "served.py").write_text(APP)
    environment = {"IRIS": str(iris.path)}
    with serve(
        "gunicorn gthread", "served:app", folder, ready="/ping", environment=environment
    ) as running:
        yield running


def test_a_real_server_answers_as_sagemaker_asks(server: RunningServer, iris: Trained) -> None:
    status, body = server.request("GET", "/ping")
    assert (status, json.loads(body)) == (200, {"status": "Healthy"})
    X = iris.X.iloc[::17]
    status, body = server.request(
        "POST",
        "/invocations",
        X.to_csv(index=False, header=False).encode(),
        {
            "Content-Type": "text/csv",
            "Accept": "text/csv",
            "X-Amzn-SageMaker-Custom-Attributes": "method=predict_proba",
        },
    )
    assert status == 200
    given = [[float(cell) for cell in line.split(",")] for line in body.decode().splitlines()]
    np.testing.assert_allclose(given, iris.model.predict_proba(X), rtol=1e-5)
    status, body = server.request("POST", "/invocations", b"1,2", {"Content-Type": "text/csv"})
    assert status == 422
    assert json.loads(body)["error_code"] == "INVALID_PARAMETER_VALUE"
    status, body = server.request("POST", "/invocations", b"x", {"Content-Type": "text/x"})
    assert status == 415
    status, body = server.request("GET", "/models")
    assert json.loads(body)["models"][0]["modelName"] == "iris"


@needs_mlflow
def test_mlflows_client_is_answered(server: RunningServer, iris: Trained, tmp_path: Path) -> None:
    X = iris.X.iloc[::17]
    (tmp_path / "rows.json").write_text(X.to_json(orient="records"))
    answers = run_mlflow("--client", f"127.0.0.1:{server.port}", str(tmp_path / "rows.json"))
    expected = [[label] for label in iris.model.predict(X).tolist()]
    assert answers["frame"] == answers["array"] == answers["list"] == expected
    np.testing.assert_allclose(answers["probabilities"], iris.model.predict_proba(X), rtol=1e-5)
    assert "error code 422" in answers["refusal"]
    assert iris.X.columns[0] in answers["refusal"]
    assert answers["version"]
