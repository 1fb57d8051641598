"""The Celery example with a real worker: prefork processes, and messages in files."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infersdk

pytest.importorskip("celery", reason="the example is a Celery app")
pytest.importorskip("skl2onnx", reason="its model is scikit-learn's")

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STARTUP_S = 90


class Worker:
    """A worker, and what it has logged so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.log = ""
        assert process.stdout is not None
        self._selector = selectors.DefaultSelector()
        self._selector.register(process.stdout, selectors.EVENT_READ)

    def wait_for(self, pattern: str, count: int = 1) -> list[str]:
        """Read the log until the pattern was found `count` times."""
        assert self.process.stdout is not None
        until = time.monotonic() + STARTUP_S
        while len(found := re.findall(pattern, self.log)) < count:
            assert self._selector.select(until - time.monotonic()), f"no {pattern} in:\n{self.log}"
            part = os.read(self.process.stdout.fileno(), 65536).decode()
            assert part, f"the worker ended:\n{self.log}"
            self.log += part
        return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("celery")


@pytest.fixture(scope="module")
def worker(folder: Path) -> Iterator[Worker]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "celery", "-A", "examples.celery_task", "worker"),
            *("--pool", "prefork", "--concurrency", "2", "--loglevel", "INFO"),
        ],
        cwd=ROOT,
        env=_environ(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield Worker(process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="module")
def classify(folder: Path) -> Iterator[Any]:
    """The task, as another process sends it."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _environ(folder).items():
            patch.setenv(name, value)
        sys.modules.pop("examples.celery_task", None)
        from examples import celery_task

        yield celery_task.classify
        sys.modules.pop("examples.celery_task", None)


def _environ(folder: Path) -> dict[str, str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("CELERY_")}
    return {**environ, "CELERY_FOLDER": str(folder)}


def test_a_worker_answers_as_the_model_and_closes_what_it_opened(
    worker: Worker, classify: Any
) -> None:
    """One worker for all of it: it takes seconds to start."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    opened = worker.wait_for(r"process (\d+): models open\b", 2)
    assert len(set(opened)) == 2
    assert str(worker.process.pid) not in opened  # after the fork, not before

    flowers = load_iris(as_frame=True)
    kinds = flowers.target_names[flowers.target]
    model = LogisticRegression(max_iter=500).fit(flowers.data, kinds)
    rows = flowers.data.to_dict("records")
    tasks = [classify.delay(rows[first : first + 10]) for first in range(0, len(rows), 10)]
    answers = [answer for task in tasks for answer in task.get(timeout=60)]
    np.testing.assert_array_equal(answers, model.predict(flowers.data))

    with pytest.raises(infersdk.InputError, match="petal width"):
        classify.delay([{**rows[0], "petal width (cm)": "wide"}]).get(timeout=60)
    said = subprocess.run(
        [sys.executable, "-m", "examples.celery_task", "5.1", "3.5", "1.4", "0.2"],
        cwd=ROOT,
        env=_environ(Path(os.environ["CELERY_FOLDER"])),
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert said.stdout == "['setosa']\n", said.stderr

    worker.process.send_signal(signal.SIGTERM)
    assert sorted(worker.wait_for(r"process (\d+): models closed\b", 2)) == sorted(opened)
    assert worker.process.wait(30) == 0
    assert "Traceback" not in worker.log
