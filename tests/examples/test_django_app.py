"""The Django example, over HTTP, under gunicorn and under uvicorn."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.web.django.server import Server, serving

for package in ("django", "rest_framework", "gunicorn", "uvicorn"):
    pytest.importorskip(package, reason="the Django example")

pytestmark = pytest.mark.slow

APP = Path(__file__).parents[2] / "examples/django_app"
COMMANDS = {
    "gunicorn": ["gunicorn", "--bind", "fd://{fd}", "--chdir", str(APP), "shop.wsgi"],
    "uvicorn": ["uvicorn", "--fd", "{fd}", "--app-dir", str(APP), "shop.asgi:application"],
}


@pytest.fixture(scope="module")
def training() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_churn", APP / "train_churn.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def source(training: ModuleType) -> tuple[Any, Any]:
    """The model in scikit-learn, and its customers."""
    model, customers = training.train()
    return model, customers


@pytest.fixture(scope="module")
def environ(training: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    path = tmp_path_factory.mktemp("churn") / "churn.onnx"
    training.save(path)
    return {"CHURN_MODEL": str(path)}


@pytest.fixture(scope="module", params=COMMANDS)
def server(
    request: pytest.FixtureRequest,
    environ: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log") / "log"
    with serving(COMMANDS[request.param], environ=environ, log=log) as server:
        yield server
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("path", ["/models/churn/predict_proba", "/api/risk"])
def test_the_api_answers_as_the_model(server: Server, source: tuple[Any, Any], path: str) -> None:
    model, customers = source
    status, reply = server.ask("POST", path, customers.iloc[:200].to_dict("records"))
    assert status == 200
    np.testing.assert_allclose(
        reply["answers"], model.predict_proba(customers.iloc[:200]), rtol=1e-4, atol=1e-5
    )


def test_the_rest_framework_view_answers_as_the_model(
    server: Server, source: tuple[Any, Any]
) -> None:
    model, customers = source
    status, reply = server.ask("POST", "/api/churn", customers.iloc[:200].to_dict("records"))
    assert status == 200
    assert reply["answers"] == model.predict(customers.iloc[:200]).tolist()
    status, reply = server.ask("POST", "/api/churn", {"plan": "gold", "months": "three"})
    assert (status, set(reply)) == (400, {"months", "calls", "spent"})


def test_rows_that_do_not_fit_are_problems(server: Server) -> None:
    status, reply = server.ask("POST", "/api/risk", {"plan": "gold", "months": "three"})
    assert status == 422
    assert {error["field"] for error in reply["errors"]} == {"months", "calls", "spent"}


def test_the_page_shows_the_risk(server: Server, source: tuple[Any, Any]) -> None:
    model, customers = source
    row = customers.iloc[0].to_dict()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", "/")
    reply = connection.getresponse()
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', reply.read().decode())
    cookie = reply.getheader("set-cookie")
    assert token is not None
    assert cookie is not None
    form = urllib.parse.urlencode({**row, "csrfmiddlewaretoken": token[1]})
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "cookie": cookie.partition(";")[0],
    }
    connection.request("POST", "/", form, headers)
    reply = connection.getresponse()
    page = reply.read().decode()
    connection.close()
    shown = re.search(r'id="risk">([\d.]+)<', page)
    assert shown is not None, page
    assert float(shown[1]) == pytest.approx(model.predict_proba(customers.iloc[:1])[0, 0], abs=6e-4)


def test_commands(environ: dict[str, str]) -> None:
    def manage(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *words],
            cwd=APP,
            env={**os.environ, **environ, "PYTHONPATH": str(APP.parents[1])},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "no issues" in manage("check", "--deploy", "--tag", "infersdk")
    checked = manage("infersdk", "check")
    assert "churn: fine" in checked
    assert "plan: onnx" in checked
    assert json.loads(manage("infersdk", "info", "churn", "--json"))["name"] == "churn"
