"""Real servers that reload and stop under load: no request is lost that the app has begun.

What the table of docs/deployment.md promises. Every request is counted. Where a server loses connections by
itself, before an app hears of them, that is said in `CLOSES_UNREAD`, and a plain app without infersdk loses as
many (``HELLO=1`` in paced_apps.py).
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import infersdk
from tests.web.load import REFUSED, UNANSWERED, Load
from tests.web.servers import SERVERS, RunningServer, children_of, poll_until, serve

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]

CLOSES_UNREAD = ("gunicorn uvicorn", "uvicorn workers", "uvicorn")
"""uvicorn, when it stops, closes connections that it has accepted and not read from yet."""

ROW = b'{"sepal length (cm)":5.1,"sepal width (cm)":3.5,"petal length (cm)":1.4,"petal width (cm)":0.2}'
OLD, NEW = b'{"answers":[0]}', b'{"answers":[10]}'
N_ANSWERS = 60  # before and after each thing that is done to a server


@dataclass
class Deployment:
    """A server, and the files it lives on."""

    kind: str
    server: RunningServer
    folder: Path

    def load(self, *expected: bytes) -> Load:
        return Load(self.server, "/models/iris", ROW, expected)

    def begun(self) -> set[int]:
        """Numbers of the requests that an app got."""
        return {int(number) for number in (self.folder / "begun").read_text().split()}

    def is_complete(self, n_started: int = 2) -> bool:
        """Whether so many of Granian's workers have started; others are, when they answer."""
        said = self.server.log()
        return "granian" not in self.kind or said.count("] Started worker-") >= n_started


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same classifier twice, the second with other labels."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("models")
    X, y = load_iris(return_X_y=True, as_frame=True)
    for name, labels in (("old", y), ("new", y + 10)):
        model = LogisticRegression(max_iter=500).fit(X, labels)
        infersdk.convert(model, example=X, name="iris").save(folder / f"{name}.onnx")
    return folder


@pytest.fixture(scope="module", params=SERVERS)
def deployment(
    request: pytest.FixtureRequest, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    kind: str = request.param
    folder = tmp_path_factory.mktemp("app")
    shutil.copy(models / "old.onnx", folder / "iris.onnx")
    environment = {"MODEL": str(folder / "iris.onnx"), "BEGUN": str(folder / "begun")}
    interface = "asgi" if "uvicorn" in kind else "wsgi"
    interface = kind.split()[1] if kind.startswith("granian") else interface
    app = f"tests.web.paced_apps:{interface}"
    with serve(kind, app, folder, ready="/models/health/ready", environment=environment) as server:
        yield Deployment(kind, server, folder)


def test_a_reload_changes_the_model_and_loses_no_request(
    deployment: Deployment, models: Path
) -> None:
    server = deployment.server
    if deployment.kind == "uvicorn":
        pytest.skip("one process without a master has no reload")
    assert poll_until(deployment.is_complete)
    with deployment.load(OLD, NEW) as load:
        assert poll_until(lambda: load.answered() > N_ANSWERS), load.count()
        shutil.copy(models / "new.onnx", deployment.folder / "next.onnx")
        os.replace(deployment.folder / "next.onnx", deployment.folder / "iris.onnx")
        old = server.workers()
        assert len(old) == 2
        server.signal(signal.SIGHUP)
        assert poll_until(lambda: not server.workers() & old and len(server.workers()) == 2)
        n = load.answered()
        assert poll_until(lambda: load.answered() > n + N_ANSWERS), load.count()
    if deployment.kind in CLOSES_UNREAD:
        failures = load.failures(UNANSWERED)
        unanswered = {outcome.number for outcome in load.failures()}
        assert not unanswered & deployment.begun()
        assert len(unanswered) <= 2 * load.n_clients
    else:
        failures = load.failures()
    assert not failures, (load.count(), failures[:5], server.log()[-2000:])
    for _ in range(10):
        headers = {"content-type": "application/json"}
        assert server.request("POST", "/models/iris", ROW, headers) == (200, NEW)
    assert "Traceback" not in server.log(), server.log()


def test_a_stop_answers_what_was_begun(deployment: Deployment) -> None:
    server = deployment.server
    n_reloads = int(deployment.kind != "uvicorn")
    assert poll_until(lambda: deployment.is_complete(2 + 2 * n_reloads))
    (deployment.folder / "begun").write_text("")
    answers: list[Any] = []

    def ask_slowly() -> None:
        headers = {
            "content-type": "application/json",
            "x-number": "1000000",
            "x-delay-ms": "1000",
        }
        answers.append(server.request("POST", "/models/iris", ROW, headers))

    slow = threading.Thread(target=ask_slowly)
    with deployment.load(OLD, NEW) as load:
        assert poll_until(lambda: load.answered() > N_ANSWERS), load.count()
        slow.start()
        assert poll_until(lambda: 1_000_000 in deployment.begun())
        server.signal(signal.SIGTERM)
        status = server.wait()
    slow.join()
    assert [answer[0] for answer in answers] == [200]
    # Some connections waited to be accepted, or to be read from: no app has heard of their requests.
    failures = load.failures(REFUSED)
    assert {outcome.kind for outcome in failures} <= {UNANSWERED}, failures[:5]
    assert not {outcome.number for outcome in failures} & deployment.begun()
    assert len(failures) <= 2 * load.n_clients
    # uvicorn ends by the signal that it was sent, once it is done.
    assert status == (-signal.SIGTERM if deployment.kind == "uvicorn" else 0), server.log()[-2000:]
    assert "Traceback" not in server.log(), server.log()[-2000:]


def test_a_second_master_of_gunicorn_takes_over_without_a_pause(
    models: Path, tmp_path: Path
) -> None:
    """USR2, and TERM to the first once the second's workers have opened their models."""
    shutil.copy(models / "old.onnx", tmp_path / "iris.onnx")
    begun, pid_file = tmp_path / "begun", tmp_path / "server.pid"
    environment = {"MODEL": str(tmp_path / "iris.onnx"), "BEGUN": str(begun), "OPENING_S": "1"}
    with serve(
        "gunicorn gthread",
        "tests.web.paced_apps:wsgi",
        tmp_path,
        ready="/models/health/ready",
        environment=environment,
        options=("--pid", str(pid_file)),
    ) as server:
        deployment = Deployment("gunicorn gthread", server, tmp_path)
        with deployment.load(OLD, NEW) as load:
            assert poll_until(lambda: load.answered() > N_ANSWERS), load.count()
            shutil.copy(models / "new.onnx", tmp_path / "next.onnx")
            os.replace(tmp_path / "next.onnx", tmp_path / "iris.onnx")
            server.signal(signal.SIGUSR2)
            assert poll_until(pid_file.with_suffix(".pid.2").exists)
            second = int(pid_file.with_suffix(".pid.2").read_text())
            assert poll_until(lambda: len(children_of(second)) == 2)
            before = load.answered()
            assert poll_until(lambda: NEW in load.bodies), load.count()
            # Its workers answer, one second after they were there. The first ones did so all the time.
            assert load.answered() > before + N_ANSWERS
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            n = load.answered()
            assert poll_until(lambda: load.answered() > n + N_ANSWERS), load.count()
        assert not load.failures(), (load.count(), load.failures()[:5], server.log()[-2000:])
        headers = {"content-type": "application/json"}
        assert server.request("POST", "/models/iris", ROW, headers) == (200, NEW)


@pytest.mark.parametrize(("kind", "ends"), [("gunicorn sync", True), ("uvicorn workers", False)])
def test_a_reload_with_a_model_that_cannot_be_opened(
    kind: str, ends: bool, models: Path, tmp_path: Path
) -> None:
    """gunicorn ends as a whole; uvicorn goes on with the workers that it has."""
    model = tmp_path / "iris.onnx"
    shutil.copy(models / "old.onnx", model)
    app = f"tests.web.paced_apps:{'asgi' if 'uvicorn' in kind else 'wsgi'}"
    environment = {"MODEL": str(model), "BEGUN": str(tmp_path / "begun")}
    with serve(
        kind, app, tmp_path, ready="/models/health/ready", environment=environment
    ) as server:
        (tmp_path / "broken.onnx").write_bytes(b"broken")
        os.replace(tmp_path / "broken.onnx", model)
        old = server.workers()
        server.signal(signal.SIGHUP)
        assert poll_until(lambda: "while opening model `iris`" in server.log()), server.log()
        assert "is no ONNX model" in server.log()
        if ends:
            assert server.wait() != 0
        else:
            assert server.workers() >= old
            headers = {"content-type": "application/json"}
            assert server.request("POST", "/models/iris", ROW, headers) == (200, OLD)
