"""Triton's and KServe's gRPC clients, and the messages that they were generated with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from infersdk.predictors import Predictors
from infersdk.web.grpc import GRPCServer
from infersdk.web.grpc.messages import HEALTH, INFERENCE, RPC
from tests.interop.clients.filled import differences, fields_of, written
from tests.interop.conftest import Served, run_client

pytestmark = pytest.mark.slow

TOKEN = "sesame"


@pytest.fixture(scope="module")
def address(served: Served) -> Iterator[str]:
    """A server in a thread, as beside a Flask app."""
    models = {name: served.folder / f"{name}.onnx" for name in ("iris", "mixed", "words", "echo")}
    with Predictors(models) as predictors:
        server = GRPCServer(predictors, "127.0.0.1:0", token=TOKEN, admin=True)
        with server.serve_in_thread():
            yield f"127.0.0.1:{server.port}"


def test_tritonclient(address: str, served: Served, client_python: str) -> None:
    answers = run_client(client_python, "triton_grpc.py", address, str(served.folder), TOKEN)
    found = answers["sync"]
    labels, probabilities = served.iris.predict(served.X), served.iris.predict_proba(served.X)
    for name in ("live", "ready", "model_ready", "version_ready", "loaded"):
        assert found[name] is True, name
    assert found["server"]["name"] == "infersdk"
    assert [item["name"] for item in found["metadata"]["inputs"]] == list(served.X)
    assert found["config"]["config"]["input"][0]["data_type"] == "TYPE_BOOL"
    assert {item["name"]: item["state"] for item in found["index"]["models"]} == dict.fromkeys(
        ("iris", "mixed", "words", "echo"), "READY"
    )
    assert found["id"] == ["seven", "iris", "1"]
    for name in ("predict", "compressed", "columns"):
        assert found[name] == labels.tolist(), name
    np.testing.assert_allclose(found["predict_proba"], probabilities, rtol=1e-6)
    assert found["mixed"] == served.mixed.predict(served.rows).tolist()
    assert found["words"] == served.words.predict(served.texts).tolist()
    assert all(found["echo"].values()), found["echo"]
    assert found["empty"] == []
    assert found["async"] == labels[:8].tolist()
    assert [answer for n, answer in enumerate(found["stream"]) if n != 2] == labels[
        [0, 1, 3]
    ].tolist()
    assert "No model `nobody`" in found["stream"][2]
    assert {name: status for name, (status, _) in found["refused"].items()} == {
        "no token": "StatusCode.UNAUTHENTICATED",
        "unknown model": "StatusCode.NOT_FOUND",
        "unknown version": "StatusCode.NOT_FOUND",
        "unknown output": "StatusCode.INVALID_ARGUMENT",
        "missing column": "StatusCode.INVALID_ARGUMENT",
        "classification": "StatusCode.INVALID_ARGUMENT",
        "not there": "StatusCode.UNIMPLEMENTED",
        "shared memory": "StatusCode.UNIMPLEMENTED",
    }
    assert "petal width (cm)" in found["refused"]["missing column"][1]
    assert found["shared_memory"] == {}
    assert found["unloaded"][0] is False
    assert found["unloaded"][1][0] == "StatusCode.UNAVAILABLE"
    (statistics,) = found["statistics"]["model_stats"]
    assert int(statistics["inference_count"]) > 150
    assert int(statistics["inference_stats"]["success"]["ns"]) > 0

    found = answers["aio"]
    assert found["live"] is True
    assert found["predict"] == [labels[i : i + 5].tolist() for i in range(20)]


def test_kserve(address: str, served: Served, client_python: str) -> None:
    found = run_client(client_python, "kserve_grpc.py", address, str(served.folder), TOKEN)
    for name in ("live", "ready", "model_ready"):
        assert found[name] is True, name
    for kind in ("raw", "typed"):
        assert found[kind]["id"] == ["seven", "iris"]
        assert found[kind]["predict"] == served.iris.predict(served.X).tolist()
        assert found[kind]["mixed"] == served.mixed.predict(served.rows).tolist()
    assert found["refused"][0] == "StatusCode.NOT_FOUND"
    assert found["repository"] == ["words", True, "words", True]


# Of the two that differ between the servers, ours are Triton's questions and KServe's answers.
_KSERVE = {"RepositoryModelLoadRequest", "RepositoryModelUnloadRequest"}

MESSAGES = {
    "tritonclient": ("tritonclient.grpc.service_pb2", INFERENCE, set()),
    "tritonclient's config": ("tritonclient.grpc.model_config_pb2", INFERENCE, set()),
    "kserve": ("kserve.protocol.grpc.grpc_predict_v2_pb2", INFERENCE, _KSERVE),
    "rich errors": ("google.rpc.error_details_pb2", RPC, set()),
    "their status": ("google.rpc.status_pb2", RPC, set()),
    "health": ("grpc_health.v1.health_pb2", HEALTH, set()),
}
"""Of each client: the generated module, our messages, and those of them that are others."""


@pytest.mark.parametrize("client", MESSAGES)
def test_messages_are_those_of(client: str, client_python: str, tmp_path: Path) -> None:
    module, ours, others = MESSAGES[client]
    names = [name for name in ours if name not in others]
    path = tmp_path / "ours.json"
    path.write_text(
        json.dumps(
            {
                "written": {name: written(ours[name]) for name in names},
                "fields": dict(fields_of(ours[name]) for name in ours),
            }
        )
    )
    found = run_client(client_python, "grpc_messages.py", module, str(path))
    if "missing" in found:
        pytest.skip(f"{found['missing']} is not in the clients' environment")
    assert not found["different"]
    shared = [name for name in names if name in found["written"]]
    assert shared
    for name in shared:
        assert not differences(ours[name], found["written"][name], found["fields"])
