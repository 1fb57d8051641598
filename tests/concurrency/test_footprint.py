"""What infersdk leaves alone: threads, the terminal, the user's folders and the environment."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import infersdk
from infersdk import ArtifactError, Execution, InputError, SessionError
from infersdk._native import Session
from tests.concurrency.conftest import RunProgram
from tests.concurrency.models import lookup, mlp


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_no_thread_is_started_that_was_not_asked_for(run_program: RunProgram) -> None:
    run_program(
        """
def n_threads():
    assert threading.active_count() == 1
    return len(os.listdir("/proc/self/task"))

import infersdk
assert n_threads() == 1
predictor = infersdk.load(f"{folder}/mlp.onnx", execution=infersdk.Execution(threads=1))
assert n_threads() == 1
predictor.predict([0.0, 1.0, 2.0, 3.0])
predictor.warm_up()
assert n_threads() == 1
predictor.close()
assert n_threads() == 1
""",
        environment={"OPENBLAS_NUM_THREADS": "1"},  # numpy's own threads are not ours to count
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_the_threads_of_a_session_end_with_it(run_program: RunProgram) -> None:
    run_program(
        """
import infersdk
before = len(os.listdir("/proc/self/task"))
predictor = infersdk.load(f"{folder}/mlp.onnx", execution=infersdk.Execution(threads=3))
assert len(os.listdir("/proc/self/task")) == before + 2     # the caller is the third
predictor.predict([0.0, 1.0, 2.0, 3.0])
predictor.close()
assert len(os.listdir("/proc/self/task")) == before
"""
    )


def test_nothing_is_printed_when_things_fail(
    model_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = mlp().session_model()
    assert isinstance(good, bytes)
    bad_operator = lookup()
    bad_operator.graph.node[0].op_type = "NoSuchOperator"
    bad_types = lookup()
    bad_types.graph.node[0].CopyFrom(helper.make_node("Not", ["index"], ["value"]))
    for model in (bad_operator, bad_types):
        with pytest.raises(SessionError):
            infersdk.load(model)
        with pytest.raises(SessionError):
            Session(model.SerializeToString())
    for data in (b"", b"no model", good[: len(good) // 2], good[:-1]):
        with pytest.raises((ArtifactError, SessionError)):
            infersdk.load(data)
    with pytest.raises(SessionError):
        Session(str(model_folder / "no_such.onnx"))

    for release_gil in (True, False):
        execution = Execution(threads=1, release_gil=release_gil)
        with infersdk.load(model_folder / "lookup.onnx", execution=execution) as predictor:
            for _ in range(3):  # in general, then on prebuilt values
                for bad in ([99], [-99], [0.5], ["text"]):
                    with pytest.raises(InputError):
                        predictor.predict(np.array(bad))
            assert predictor.predict(np.array([1])).tolist() == [20.0]
    output, errors = capfd.readouterr()
    assert (output, errors) == ("", "")


def test_nothing_is_printed_or_left_by_a_run_that_is_stopped(run_program: RunProgram) -> None:
    output = run_program(
        """
import signal
import numpy as np
import infersdk

def stop(*_):
    raise TimeoutError

signal.signal(signal.SIGALRM, stop)
predictor = infersdk.load(
    f"{folder}/counter.onnx", execution=infersdk.Execution(threads=1, calibration_s=0)
)
try:
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    predictor.run({"n": np.array(1 << 60), "x": np.zeros(1, np.float32)})
except TimeoutError:
    pass
else:
    raise AssertionError("the run came to an end")
"""
    )
    assert output == ""


def test_no_file_is_written_and_no_variable_left(run_program: RunProgram, tmp_path: Path) -> None:
    home = tmp_path / "home"
    folders = {
        "HOME": home,
        "XDG_CACHE_HOME": home / "cache",
        "XDG_CONFIG_HOME": home / "config",
        "XDG_DATA_HOME": home / "data",
        "XDG_STATE_HOME": home / "state",
        "TMPDIR": tmp_path / "tmp",
    }
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    before = sorted(tmp_path.rglob("*"))
    environment = {name: str(folder) for name, folder in folders.items()}
    output = run_program(
        """
import subprocess
os.environ.pop("ORT_DISABLE_TELEMETRY", None)
environment = dict(os.environ)
import infersdk
for name in ("mlp", "tree_ensemble"):
    infersdk.load(f"{folder}/{name}.onnx").predict([[0.0, 1.0, 2.0, 3.0]] * 3)
assert dict(os.environ) == environment
child = subprocess.run(["env"], capture_output=True, text=True, check=True)
assert "ORT_DISABLE_TELEMETRY" not in child.stdout
print("done")
""",
        environment={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert output == "done\n"
    assert sorted(tmp_path.rglob("*")) == before


def test_the_users_own_choice_about_telemetry_stays(run_program: RunProgram) -> None:
    run_program(
        """
import infersdk
infersdk.load(f"{folder}/mlp.onnx")
assert os.environ["ORT_DISABLE_TELEMETRY"] == "yes"
""",
        environment={"ORT_DISABLE_TELEMETRY": "yes"},
    )


def test_serving_does_not_import_onnxruntimes_package(run_program: RunProgram) -> None:
    run_program(
        """
import infersdk
infersdk.load(f"{folder}/mlp.onnx").predict([0.0, 1.0, 2.0, 3.0])
assert "onnxruntime" not in sys.modules
"""
    )
