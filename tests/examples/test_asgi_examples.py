"""The ASGI and RSGI examples, started by the commands that they name, over HTTP. The oracle is the source model."""

from __future__ import annotations

import json
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.web.servers import RunningServer, serve

ROOT = Path(__file__).parents[2]
READY = {"fastapi_app": "/openapi.json", "granian_app": "/health/ready"}
PREFIX = {"fastapi_app": "/models", "granian_app": ""}


def _commands() -> list[Any]:
    """Every command of an example's docstring."""
    found = []
    for name in READY:
        for line in (ROOT / "examples" / f"{name}.py").read_text().split('"""')[1].splitlines():
            words = shlex.split(line) if line.startswith("    ") else []
            if words:
                found.append(pytest.param(name, words, id=line.strip()))
    return found


@pytest.fixture(scope="module")
def source() -> tuple[Any, Any]:
    """The model in scikit-learn, and its flowers."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    X, y = load_iris(return_X_y=True, as_frame=True)
    X.columns = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    return LogisticRegression(max_iter=500).fit(X, y), X


def _ask(server: RunningServer, path: str, value: Any, key: str = "") -> tuple[int, Any]:
    headers = {"content-type": "application/json", "x-api-key": key}
    status, body = server.request("POST", path, json.dumps(value).encode(), headers)
    return status, json.loads(body)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "command"), _commands())
def test_the_example(name: str, command: list[str], source: Any, tmp_path: Path) -> None:
    if find_spec(command[0]) is None or find_spec("fastapi") is None:
        pytest.skip(f"{command[0]} or FastAPI is not installed")
    model, X = source
    rows = X.to_dict("records")
    program, *arguments = command
    address = ("--host", "127.0.0.1", "--port", "{port}")
    with serve((program, *address, *arguments), "", tmp_path, ready=READY[name]) as server:
        path = f"{PREFIX[name]}/iris/predict_proba"
        status, reply = _ask(server, path, rows, "secret")
        assert status == 200
        np.testing.assert_allclose(reply["answers"], model.predict_proba(X), rtol=1e-5, atol=1e-6)
        assert _ask(server, path, {**rows[0], "petal_width": "wide"}, "secret")[0] == 422
        if name == "fastapi_app":
            assert _ask(server, path, rows, "guessed")[0] == 401
            kinds = ["setosa", "versicolor", "virginica"]
            for number in (0, 60, 140):
                expected = kinds[model.predict(X.iloc[[number]])[0]]
                assert _ask(server, "/flowers", rows[number]) == (200, {"kind": expected})
            assert _ask(server, "/flowers", {**rows[0], "petal_width": "wide"})[0] == 422
            document = json.loads(server.request("GET", "/openapi.json")[1])
            assert document["paths"][path]["post"]["security"] == [{"APIKeyHeader": []}]


def test_every_command_of_the_examples_is_run() -> None:
    assert len(_commands()) == 4
