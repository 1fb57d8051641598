"""How `infersdk serve` stops, reloads and replaces workers: nothing that has begun is lost, and nothing is left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import infersdk
from tests.web.load import Load
from tests.web.server.launch import COMMAND, SLOW_MODEL, ask, is_gone, launch, workers_of
from tests.web.servers import RunningServer, children_of, poll_until

for needed in ("granian", "typer", "orjson", "sklearn"):
    pytest.importorskip(needed)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]

ROW = b'{"sepal length (cm)":5.1,"sepal width (cm)":3.5,"petal length (cm)":1.4,"petal width (cm)":0.2}'
OLD, NEW = b'{"answers":[0]}', b'{"answers":[10]}'


class Asking(threading.Thread):
    """A request that takes some seconds, and has begun when this is made."""

    def __init__(self, server: RunningServer, begun: Path, seconds: float) -> None:
        super().__init__()
        self.server, self.seconds = server, seconds
        self.answer: Any = None
        self.start()
        assert poll_until(begun.exists, 20)

    def run(self) -> None:
        try:
            self.answer = ask(self.server, "/slow", {"seconds": self.seconds})
        except Exception as error:
            self.answer = error


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models.py").write_text(SLOW_MODEL)
    return tmp_path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_running_calls_finish(folder: Path, number: int) -> None:
    with launch(folder, "models:slow") as server:
        workers = workers_of(server)
        call = Asking(server, folder / "begun", 2.0)
        if number == signal.SIGINT:
            os.killpg(server.process.pid, number)  # as a terminal sends Ctrl-C: to everybody
        else:
            server.signal(number)
        assert server.wait() == 0
        call.join()
        assert call.answer == (200, {"answers": [7]})
        assert all(is_gone(pid) for pid in workers)
        assert "Unexpected" not in server.log()
        assert "Traceback" not in server.log()


def test_a_call_that_takes_too_long_is_not_waited_for(folder: Path) -> None:
    with launch(folder, "models:slow", "--graceful-timeout-s", "1") as server:
        workers = workers_of(server)
        call = Asking(server, folder / "begun", 30.0)
        server.signal(signal.SIGTERM)
        began = time.monotonic()
        assert server.wait() == 0
        assert time.monotonic() - began < 20
        call.join()
        assert isinstance(call.answer, Exception)
        assert all(is_gone(pid) for pid in workers)


def test_a_second_stop_waits_for_nobody(folder: Path) -> None:
    with launch(folder, "models:slow", "--graceful-timeout-s", "60") as server:
        workers = workers_of(server)
        call = Asking(server, folder / "begun", 50.0)
        server.signal(signal.SIGTERM)
        # Heard as soon as the worker takes no more connections.
        assert poll_until(lambda: not _connects(server), 20)
        server.signal(signal.SIGTERM)
        assert server.wait(20) == 0
        call.join()
        assert all(is_gone(pid) for pid in workers)


def _connects(server: RunningServer) -> bool:
    try:
        server.request("GET", "/health/live")
    except OSError:
        return False
    return True


def test_a_stop_while_models_are_tried(folder: Path) -> None:
    (folder / "long.py").write_text(
        "import pathlib, time\n"
        "def model():\n"
        "    pathlib.Path('begun').touch()\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [*COMMAND, "long:model", "--port", "0"], cwd=folder, start_new_session=True
    )
    try:
        assert poll_until((folder / "begun").exists, 30)
        children = children_of(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert all(is_gone(pid) for pid in children)
    finally:
        process.kill()
        process.wait()


def test_workers_that_end_are_replaced_and_do_not_outlive_the_server(
    iris: Any, folder: Path
) -> None:
    with launch(folder, str(iris.path), n_ready=2) as server:
        first = workers_of(server)
        assert len(first) == 2
        os.kill(min(first), signal.SIGKILL)
        assert poll_until(lambda: len(workers_of(server) - first) == 1)
        assert poll_until(lambda: server.log().count("worker is ready") == 3)
        now = workers_of(server)
        assert len(now) == 2
        assert server.request("POST", "/iris", ROW, {"content-type": "application/json"})[1] == OLD
        server.signal(signal.SIGKILL)
        server.wait()
        assert poll_until(lambda: all(is_gone(pid) for pid in now), 20), server.log()


def test_a_reload_serves_the_new_file_and_loses_no_request(
    iris: Any, broken: Path, folder: Path
) -> None:
    path = folder / "iris.onnx"
    shutil.copy(iris.path, path)

    def put(new: Path) -> None:
        shutil.copy(new, folder / "new")
        os.replace(folder / "new", path)
        server.signal(signal.SIGHUP)

    with launch(folder, str(path)) as server:
        first = workers_of(server)
        put(broken)
        assert poll_until(lambda: "The models stay as they are" in server.log(), 30)
        assert workers_of(server) == first
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(max_iter=500).fit(iris.X, iris.model.predict(iris.X) + 10)
        infersdk.convert(model, example=iris.X).save(folder / "other.onnx")
        with Load(server, "/iris", ROW, (OLD, NEW), n_clients=2) as load:
            put(folder / "other.onnx")
            assert poll_until(lambda: NEW in load.bodies and not first & workers_of(server))
        assert {outcome.kind for outcome in load.outcomes} == {"answered"}
        assert ask(server, "/iris", [5.1, 3.5, 1.4, 0.2]) == (200, {"answers": [10]})


def test_as_the_first_process_of_a_container(folder: Path) -> None:
    if (
        not shutil.which("unshare")
        or subprocess.run(
            ["unshare", "--pid", "--fork", "--mount-proc", "true"], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("needs the right to make a process namespace")
    # --fork: the child is process 1 of its own namespace, which hears only signals that it asks for.
    command = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *COMMAND)
    # A shell leaves a process behind, which then is a child of process 1.
    (folder / "orphans.py").write_text(
        "import models, subprocess\n"
        "def slow():\n"
        "    subprocess.run(['sh', '-c', 'sleep 0.2 &'])\n"
        "    return models.slow()\n"
    )
    with launch(folder, "orphans:slow", command=command) as server:
        [first] = children_of(server.process.pid)

        def children() -> list[str]:
            return Path(f"/proc/{first}/task/{first}/children").read_text().split()

        def helpers() -> list[str]:
            lines = {pid: Path(f"/proc/{pid}/cmdline") for pid in children()}
            return [pid for pid, line in lines.items() if b"resource_tracker" in line.read_bytes()]

        # Python's own helper aside, the worker alone is left, and nobody unburied.
        assert poll_until(lambda: len(children()) - len(helpers()) == 1, 20), children()
        [worker] = children_of(first)
        assert not is_gone(worker)
        call = Asking(server, folder / "begun", 1.0)
        os.kill(first, signal.SIGTERM)
        assert server.wait() == 0
        call.join()
        assert call.answer == (200, {"answers": [7]})
        assert is_gone(worker)
