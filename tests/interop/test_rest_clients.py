"""Clients of other inference servers against apps of several hosts; the source models say what is right."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.interop.conftest import Served, run_client
from tests.web.servers import serve

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="these servers need a POSIX system"),
]

# One worker: models are loaded and unloaded in it.
HOSTS = {
    "flask": ("gunicorn sync", "apps:app", ("--workers", "1"), "/models"),
    "django": ("gunicorn gthread", "django_app:app", ("--workers", "1"), "/models"),
    "fastapi": ("uvicorn", "apps:app", (), ""),
    "rsgi": ("granian rsgi", "apps:app", ("--workers", "1"), ""),
}
"""Server, app, options and prefix."""


@pytest.fixture(scope="module", params=HOSTS)
def url(
    request: pytest.FixtureRequest,
    served: Served,
    client_python: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[str]:
    """An app of each host on its server: host, port and prefix."""
    host = str(request.param)
    server, app, options, prefix = HOSTS[host]
    with serve(
        server,
        app,
        tmp_path_factory.mktemp(host),
        ready=f"{prefix}/v2/health/ready",
        environment={
            "MODELS": str(served.folder),
            "HOST_APP": host,
            "PYTHONPATH": os.pathsep.join(
                (str(Path(__file__).parent), str(Path(__file__).parents[2]))
            ),
        },
        options=options,
    ) as running:
        yield f"127.0.0.1:{running.port}{prefix}"


def test_tritonclient(url: str, served: Served, client_python: str) -> None:
    answers = run_client(client_python, "triton_http.py", url, str(served.folder))
    found = answers["sync"]
    labels, probabilities = served.iris.predict(served.X), served.iris.predict_proba(served.X)
    for name in ("live", "ready", "model_ready", "version_ready"):
        assert found[name] is True, name
    assert found["unknown_ready"] is False
    assert found["server"]["name"] == "infersdk"
    assert {"binary_tensor_data", "model_repository"} <= set(found["server"]["extensions"])
    assert [item["name"] for item in found["metadata"]["inputs"]] == list(served.X)
    assert found["config"]["input"][0]["data_type"] == "TYPE_BOOL"
    assert {item["name"]: item["state"] for item in found["index"]} == dict.fromkeys(
        ("iris", "mixed", "words", "echo"), "READY"
    )
    assert found["id"] == "seven"
    assert found["model"] == ["iris", "1"]
    for name in ("predict", "default", "columns"):
        assert found[name] == labels.tolist(), name
    for name in ("predict_proba", "json", "compressed_gzip", "compressed_deflate"):
        np.testing.assert_allclose(found[name], probabilities, rtol=1e-6, err_msg=name)
    assert found["mixed"] == served.mixed.predict(served.rows).tolist()
    np.testing.assert_allclose(
        found["mixed_proba"], served.mixed.predict_proba(served.rows), rtol=1e-5
    )
    assert found["mixed_json_rows"] == len(served.rows)
    assert found["words"] == [served.words.predict(served.texts).tolist()] * 2
    assert all(found["echo"].values()), found["echo"]
    assert all(found["echo_json"].values()), found["echo_json"]
    assert found["async"] == labels[:8].tolist()
    assert found["empty"] == []
    assert {name: int(status) for name, (status, _) in found["refused"].items()} == {
        "unknown model": 404,
        "unknown version": 404,
        "unknown output": 422,
        "too few columns": 422,
        "missing column": 422,
        "too many rows": 413,
        "classification": 400,
        "unknown page": 404,
        "shared memory": 400,
    }
    assert "petal width (cm)" in found["refused"]["missing column"][1]
    assert found["shared_memory"] == []
    assert found["unloaded"][0] is False
    assert found["unloaded"][1][0] == "503"
    assert "unloaded" in found["unloaded"][1][1]
    assert found["loaded"] is True
    (statistics,) = found["statistics"]["model_stats"]
    assert statistics["inference_count"] > 150
    assert statistics["inference_stats"]["success"]["count"] >= 15
    assert statistics["inference_stats"]["success"]["ns"] > 0
    assert statistics["inference_stats"]["fail"]["count"] >= 1
    assert found["all_statistics"] == 4

    found = answers["aio"]
    assert (found["live"], found["metadata"]) == (True, "iris")
    parts = [labels[i : i + 5].tolist() for i in range(0, 50, 5)]
    assert found["predict"] == [part for part in parts for _ in range(2)]


def test_kserve(url: str, served: Served, client_python: str) -> None:
    found = run_client(client_python, "kserve_rest.py", url, str(served.folder))
    assert (found["live"], found["ready"], found["model_ready"]) == (True, True, True)
    labels, probabilities = served.iris.predict(served.X), served.iris.predict_proba(served.X)
    for given in ("binary", "json"):
        for taken in ("binary", "json"):
            answer = found[f"{given} to {taken}"]
            assert answer["id"] == "seven"
            assert answer["predict"] == labels.tolist()
            np.testing.assert_allclose(answer["predict_proba"], probabilities, rtol=1e-6)
    assert found["mixed"] == served.mixed.predict(served.rows).tolist()
    assert found["dict"] == served.iris.predict(np.array([[1.0, 2, 3, 4]])).tolist()
    refused = found["refused"]
    assert {name: status for name, (status, _) in refused.items()} == {
        "unknown model": 404,
        "too few columns": 422,
        "no inputs": 422,
    }
    # The client finds the reason where it looks for it.
    assert refused["unknown model"][1].startswith("No model `nobody`")


def test_mlserver_types(url: str, served: Served, client_python: str) -> None:
    found = run_client(client_python, "mlserver_types.py", url, str(served.folder))
    assert found["server"] == "infersdk"
    assert found["inputs"]["city"] == ["BYTES", [-1, 1]]
    assert found["id"] == "seven"
    assert found["predict"] == served.iris.predict(served.X).tolist()
    np.testing.assert_allclose(
        found["predict_proba"], served.iris.predict_proba(served.X), rtol=1e-6
    )
    rows = served.rows.assign(income=served.rows["income"].fillna(50.0))
    assert found["mixed"] == served.mixed.predict(rows).tolist()
    assert found["words"] == served.words.predict(served.texts).tolist()
    assert found["refused"][0] == 400
    assert "datatype" in found["refused"][1]


@pytest.mark.parametrize("binary", [False, True])
def test_mlserver_infer(
    url: str, served: Served, client_python: str, tmp_path: Path, binary: bool
) -> None:
    """MLServer's command asks about a file of requests, several in one."""
    if "/" in url:
        pytest.skip("the command is tried where the protocol is at the root")
    requests = [
        {
            "id": str(index),
            "inputs": [
                {"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [row.tolist()]},
            ],
            "outputs": [{"name": "predict_proba"}],
        }
        for index, row in enumerate(served.X.to_numpy()[:60:3])
    ]
    asked, answered = tmp_path / "asked.txt", tmp_path / "answered.txt"
    asked.write_text("".join(json.dumps(request) + "\n" for request in requests))
    command = [client_python, "-W", "ignore", "-m", "mlserver.cli.main", "infer", "-u", url]
    command += ["-m", "iris", "-i", str(asked), "-o", str(answered), "-s", "4", "-w", "2"]
    subprocess.run(
        [*command, *(["-b"] if binary else [])],
        check=True,
        capture_output=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
    )
    found: dict[int, Any] = {}
    for line in answered.read_text().splitlines():
        response = json.loads(line)
        found[response["parameters"]["batch_index"]] = response["outputs"][0]["data"]
    expected = served.iris.predict_proba(served.X)[:60:3]
    np.testing.assert_allclose([found[i] for i in range(20)], expected, rtol=1e-6)
