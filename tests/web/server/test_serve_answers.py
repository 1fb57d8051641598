"""`infersdk serve` as it is typed: what it answers, to whom, and what it says when it cannot start."""

from __future__ import annotations

import json
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.web.server.launch import JSON, OWN_MODEL, ask, launch, run_to_the_end, workers_of
from tests.web.servers import RunningServer, free_port, poll_until

for needed in ("granian", "typer", "orjson", "sklearn"):
    pytest.importorskip(needed)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]

TOKEN = "t0ken-of-a-test"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def forest(iris: Any) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(10, random_state=0).fit(iris.X, iris.model.predict(iris.X))


@pytest.fixture(scope="module")
def several(
    iris: Any, forest: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """Models of three kinds, with a token."""
    import joblib

    folder = tmp_path_factory.mktemp("several")
    (folder / "models.py").write_text(OWN_MODEL)
    joblib.dump(forest, folder / "forest.joblib")
    with launch(
        folder,
        *(str(iris.path), "trees=forest.joblib", "own=models:make", "--trust", "--access-log"),
        environment={"INFERSDK_TOKEN": TOKEN, "INFERSDK_URL_PREFIX": "/m"},
    ) as server:
        yield server


def test_every_kind_of_model_answers_as_its_source(
    several: RunningServer, iris: Any, forest: Any
) -> None:
    X = iris.X.iloc[::30]
    rows = json.loads(X.to_json(orient="records"))
    status, reply = ask(several, "/m/iris/predict_proba", rows, BEARER)
    assert status == 200
    assert abs(iris.model.predict_proba(X) - reply["answers"]).max() < 1e-6
    assert ask(several, "/m/trees", rows, BEARER) == (200, {"answers": forest.predict(X).tolist()})
    own = ask(several, "/m/own", [[0.0, 0.0], [1.0, 0.0]], BEARER)
    assert own == (200, {"answers": [0, 1]})


def test_all_protocols_and_pages_are_there(several: RunningServer) -> None:
    def get(path: str) -> tuple[int, bytes]:
        return several.request("GET", path, headers=BEARER)

    assert several.request("GET", "/m/health/ready")[0] == 200
    assert several.request("GET", "/m/ping")[0] == 200
    assert get("/m/v2/models/iris/ready")[0] == 200
    assert "/iris/predict_proba" in json.dumps(json.loads(get("/m/openapi.json")[1]))
    assert b"infersdk_calls_total" in get("/m/metrics")[1]


def test_without_the_token_nothing_but_health_is_told(several: RunningServer) -> None:
    assert ask(several, "/m/iris", [[1, 2, 3, 4]])[0] == 401
    wrong = {"authorization": "Bearer wrong"}
    assert ask(several, "/m/iris", [[1, 2, 3, 4]], wrong)[0] == 401
    assert several.request("GET", "/m/metrics")[0] == 401


def test_no_secret_is_told_to_other_users_or_the_log(several: RunningServer) -> None:
    processes = {several.process.pid, *workers_of(several)}
    assert len(processes) == 2
    for pid in processes:
        assert TOKEN.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert TOKEN not in several.log()


def test_the_access_log_is_json(several: RunningServer) -> None:
    assert ask(several, "/m/trees", [[5.1, 3.5, 1.4, 0.2]], BEARER)[0] == 200

    def logged() -> bool:
        lines = [line for line in several.log().splitlines() if line.startswith("{")]
        return any(json.loads(line).get("model") == "trees" for line in lines)

    assert poll_until(logged, 10), several.log()


def test_what_had_to_be_converted_was_converted_once(several: RunningServer) -> None:
    # By the process that tried the models; the worker has opened what came of it.
    assert several.log().count("`trees`: converted from scikit-learn") == 1


def test_a_container_that_is_only_told_to_serve(iris: Any, tmp_path: Path) -> None:
    models = tmp_path / "model"
    models.mkdir()
    shutil.copy(iris.path, models / "iris.onnx")
    port = free_port()
    environment = {
        "INFERSDK_MODEL_DIR": str(models),
        "INFERSDK_HOST": "0.0.0.0",
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "INFERSDK_LOG_FORMAT": "json",
    }
    with launch(tmp_path, environment=environment, port=port) as server:
        assert server.port == port
        assert server.request("GET", "/ping")[0] == 200
        row = iris.X.iloc[0].to_dict()
        assert ask(server, "/invocations", {"instances": [row]}) == (200, {"predictions": [0]})
        for line in server.log().splitlines():
            assert json.loads(line)["level"] == "info"


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text"])
def test_whichever_worker_is_asked_tells_of_all(two_workers: RunningServer, accept: str) -> None:
    pytest.importorskip("prometheus_client")
    from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
    from prometheus_client.parser import text_string_to_metric_families as plain

    def counted(name: str) -> dict[str, float]:
        _, body = two_workers.request("GET", "/metrics", headers={"accept": accept})
        read = plain if accept == "text/plain" else openmetrics
        found: dict[str, float] = {}
        for family in read(body.decode()):
            for sample in family.samples:
                if sample.name == name and sample.labels.get("model") == "iris":
                    pid = sample.labels["pid"]
                    found[pid] = found.get(pid, 0) + sample.value
        return found

    before = sum(counted("infersdk_calls_total").values())
    for _ in range(30):  # each over a connection of its own, so that both workers get some
        assert ask(two_workers, "/iris", [5.1, 3.5, 1.4, 0.2])[0] == 200
    for _ in range(6):
        now = counted("infersdk_calls_total")
        assert set(now) == {str(pid) for pid in workers_of(two_workers)}
        assert sum(now.values()) == before + 30
        assert min(now.values()) > 0
        assert sum(counted("infersdk_http_requests_total").values()) == before + 30


@pytest.fixture(scope="module")
def two_workers(iris: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with launch(tmp_path_factory.mktemp("two"), str(iris.path), n_ready=2) as server:
        yield server


def test_admin_pages(iris: Any, tmp_path: Path) -> None:
    with launch(tmp_path, str(iris.path), "--admin") as server:
        row = iris.X.iloc[0].to_dict()
        assert server.request("POST", "/v2/repository/models/iris/unload", b"", JSON)[0] == 200
        assert ask(server, "/iris", row)[0] == 503
        assert server.request("POST", "/v2/repository/models/iris/load", b"", JSON)[0] == 200
        assert ask(server, "/iris", row)[0] == 200


# -- what cannot be served ------------------------------------------------------------------------


def test_every_model_that_cannot_be_opened_is_named(
    iris: Any, broken: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text("def model():\n    return {}['lost']\n")
    status, said = run_to_the_end(tmp_path, str(iris.path), str(broken), "mine=own:model")
    assert status == 2
    assert re.search(r"Model `broken` cannot be opened: .*broken\.onnx", said)
    assert "Model `mine` cannot be opened: KeyError: 'lost'" in said
    assert "Traceback" not in said
    assert "iris" not in said.replace(str(tmp_path), "")


def test_a_model_that_takes_the_process_with_it(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import os, signal\ndef model():\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    status, said = run_to_the_end(tmp_path, "own:model")
    assert status == 2
    assert "was ended by SIGKILL, perhaps for want of memory" in said.replace("\n", " ")


def test_names_and_ports_that_are_taken(iris: Any, tmp_path: Path) -> None:
    status, said = run_to_the_end(tmp_path, f"v2={iris.path}", "--port", "0")
    assert status == 2
    assert "A model cannot be called `v2`" in said
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        status, said = run_to_the_end(tmp_path, str(iris.path), "--port", port)
    assert status == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in said
