"""What the concurrency tests share: model files, Predictors, and fresh interpreters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

import infersdk
from tests.concurrency import models

ROOT = Path(__file__).parents[2]
LIMIT_S = 120  # a program that takes longer hangs

RunProgram = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_all(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module", params=["mlp", "tree_ensemble"])
def predictor(request: pytest.FixtureRequest, model_folder: Path) -> Iterator[infersdk.Predictor]:
    """Without batching: kernels round differently in a batch, and answers are compared bit by bit."""
    path = model_folder / f"{request.param}.onnx"
    with infersdk.load(path, name=request.param, batching=infersdk.Batching.off()) as opened:
        yield opened


@pytest.fixture
def run_program(model_folder: Path) -> RunProgram:
    """Run source text in a fresh interpreter, which has ``folder`` (the models') and a prelude.

    The program must exit with 0, within `LIMIT_S` and without a word on stderr. Its process group is
    killed in any case, so that a child that hangs does not outlive the test.
    """

    def run(source: str, *, environment: Mapping[str, str] | None = None) -> str:
        prelude = f"import os, sys, threading\nfolder = {str(model_folder)!r}\n"
        process = subprocess.Popen(
            [sys.executable, "-c", prelude + textwrap.dedent(source)],
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            pytest.fail(f"the program hangs\n{stdout}\n{stderr}")
        assert (process.returncode, stderr) == (0, ""), f"{stdout}\n{stderr}"
        return stdout

    return run


def switch_interval(seconds: float) -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(seconds)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@pytest.fixture
def tiny_switch_interval() -> Iterator[None]:
    """Threads change places as often as the interpreter allows."""
    yield from switch_interval(1e-5)


@pytest.fixture
def no_forced_switch() -> Iterator[None]:
    """A thread keeps the GIL until it gives it up by itself."""
    yield from switch_interval(1000)
