"""``infersdk init``: what is written, and that it runs, by the commands of its own README."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infersdk

pytest.importorskip("typer", reason="the command line needs it")

from typer.testing import CliRunner, Result

from infersdk.cli.project import HOSTS, opened_model
from infersdk.cli.starter_model import ROW, starter_model

STARTUP_S = 60


def _init(*words: str | Path) -> Result:
    from infersdk.cli.app import app

    return CliRunner().invoke(app, ["init", *map(str, words)])


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# -- the model -----------------------------------------------------------------------------------


def test_the_starter_model_knows_irises(tmp_path: Path) -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="it has Fisher's irises")
    flowers = datasets.load_iris()
    starter_model().save(tmp_path / "iris.onnx")
    with infersdk.load(tmp_path / "iris.onnx") as iris:
        answers = iris.predict(flowers.data)
        assert (answers == flowers.target_names[flowers.target]).sum() == 146
        assert iris.predict(ROW).tolist() == ["setosa"]
        shares = iris.predict_proba(flowers.data)
        np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
        assert (flowers.target_names[shares.argmax(axis=1)] == answers).all()


# -- what is written -----------------------------------------------------------------------------


@pytest.mark.parametrize("host", HOSTS)
def test_a_project_is_whole_and_names_its_files(host: str, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    result = _init(host, folder)
    assert result.exit_code == 0, result.output
    files = _files(folder)
    assert {"README.md", "requirements.txt", ".gitignore", "models/iris.onnx"} < files
    assert any(Path(file).name.startswith("test_") for file in files)
    for file in files:
        assert f"wrote {folder / file}\n" in result.output
        if file.endswith(".onnx"):
            continue
        text = (folder / file).read_text()
        assert "{{" not in text
        if file.endswith(".py"):
            compile(text, file, "exec")
    assert f"infersdk[cpu,{host}]" in (folder / "requirements.txt").read_text()
    assert f"cd {folder}\n" in result.output


@pytest.mark.parametrize("host", HOSTS)
def test_what_is_written_is_formatted(host: str, tmp_path: Path) -> None:
    _init(host, tmp_path)
    for check in (["format", "--check", "--line-length", "100"], ["check", "--select", "E4,F,I,B"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, "--isolated", "."],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


def test_the_current_folder_is_the_default(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    result = _init("flask")
    assert result.exit_code == 0
    assert (tmp_path / "app.py").exists()
    assert "cd " not in result.output


def test_nothing_is_overwritten_unless_asked_for(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("mine")
    (tmp_path / "other.py").write_text("mine")
    result = _init("flask", tmp_path)
    assert result.exit_code == 2
    assert "app.py already" in result.output
    assert "--force" in result.output
    assert _files(tmp_path) == {"app.py", "other.py"}
    assert (tmp_path / "app.py").read_text() == "mine"

    assert _init("flask", tmp_path, "--force").exit_code == 0
    assert "InferSDK" in (tmp_path / "app.py").read_text()
    assert (tmp_path / "other.py").read_text() == "mine"


def test_an_unknown_host_is_not_understood(tmp_path: Path) -> None:
    result = _init("bottle", tmp_path)
    assert result.exit_code == 2
    assert not _files(tmp_path)


# -- a model of one's own ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a category, a name that needs quotes, and a file name that cannot be a model's."""
    pd = pytest.importorskip("pandas", reason="the model's rows are a DataFrame")
    pytest.importorskip("skl2onnx", reason="the model is scikit-learn's")
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    rows = pd.DataFrame(
        {"customer's age": [20.0, 30.0, 40.0, 50.0] * 5, "plan": ["basic", "pro"] * 10}
    )
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["plan"]), remainder="passthrough"),
        LogisticRegression(),
    ).fit(rows, rows["plan"] == "pro")
    path = tmp_path_factory.mktemp("own") / "churn 2.onnx"
    infersdk.convert(model, example=rows).save(path)
    return path


@pytest.mark.parametrize("host", HOSTS)
def test_a_model_of_ones_own_is_served(host: str, own_model: Path, tmp_path: Path) -> None:
    result = _init(host, tmp_path, "--model", own_model)
    assert result.exit_code == 0, result.output
    model = opened_model(own_model)
    assert model.name == "churn_2"
    assert model.row == {"customer's age": 1.0, "plan": "basic"}
    with infersdk.load(tmp_path / "models" / "churn_2.onnx") as served:
        assert served(model.row).shape == (1,)
        with pytest.raises(infersdk.InputError):
            served(model.wrong_row)


def _onnx(path: Path, *shapes: list[int | str]) -> Path:
    import onnx
    from onnx import TensorProto, helper

    names = [f"x{number}" for number in range(len(shapes))]
    graph = helper.make_graph(
        [helper.make_node("Sum", names, ["y"])],
        "sum",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in zip(names, shapes, strict=True)
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shapes[0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("shapes", "row"),
    [
        ([["N", 2]], [[0.0, 0.0]]),
        ([["N", 1], ["N", 1]], {"x0": [[0.0]], "x1": [[0.0]]}),
    ],
)
def test_rows_of_other_peoples_graphs_are_made_up(
    shapes: list[Any], row: Any, tmp_path: Path
) -> None:
    path = _onnx(tmp_path / "health.onnx", *shapes)
    model = opened_model(path)
    assert model.name == "health_model"  # a route has the name itself
    assert model.row == row
    with infersdk.load(path) as served:
        served(row)
        with pytest.raises(infersdk.InputError):
            served(model.wrong_row)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.joblib", b"", "infersdk convert"),
        ("missing.onnx", None, "missing.onnx"),
        ("damaged.onnx", b"no model", "damaged.onnx"),
    ],
)
def test_what_is_no_onnx_model_is_refused(
    name: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    result = _init("flask", tmp_path / "app", "--model", tmp_path / name)
    assert result.exit_code == 2
    assert message in result.output
    assert not (tmp_path / "app").exists()


# -- it runs -------------------------------------------------------------------------------------


def _environ() -> dict[str, str]:
    environ = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("DJANGO_", "FLASK_", "GUNICORN_", "INFERSDK_", "PYTEST_"))
    }
    environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), environ["PATH"]))
    return environ


def _commands(folder: Path, heading: str) -> list[str]:
    """The lines of the first block under a heading of the README, but for installing."""
    readme = (folder / "README.md").read_text()
    block = re.search(rf"^## {heading}\n.*?```sh\n(.*?)```", readme, re.DOTALL | re.MULTILINE)
    assert block is not None, readme
    lines = [line for line in block[1].splitlines() if not line.startswith("pip install")]
    assert lines
    return lines


@contextlib.contextmanager
def _serving(command: str, folder: Path) -> Iterator[int]:
    """Run a server's command at a port of its own, until it listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "8000" in command
    command = command.replace("8000", str(port)).replace("0.0.0.0", "127.0.0.1")
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env=_environ(),
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + STARTUP_S
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("host", HOSTS)
def test_a_projects_own_tests_pass(host: str, own_model: Path, tmp_path: Path) -> None:
    for name, model in (("irises", ()), ("churn", ("--model", own_model))):
        folder = tmp_path / name
        assert _init(host, folder, *model).exit_code == 0
        (command,) = _commands(folder, "Test it")
        done = subprocess.run(
            [*shlex.split(command), "-p", "no:cacheprovider"],
            cwd=folder,
            env=_environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout
        assert "4 passed" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("heading", ["Start it", "Production"])
def test_a_project_answers_as_its_readme_says(host: str, heading: str, tmp_path: Path) -> None:
    import httpx

    assert _init(host, tmp_path).exit_code == 0
    (command,) = _commands(tmp_path, heading)
    (curl,) = _commands(tmp_path, "Ask it")
    with _serving(command, tmp_path) as port:
        said = subprocess.run(
            ["bash", "-c", curl.replace("8000", str(port))],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert json.loads(said.stdout) == {"answers": ["setosa"]}, said
        with httpx.Client(base_url=f"http://localhost:{port}", timeout=60) as client:
            assert client.post("/ask", json=[ROW, ROW]).json() == {"answers": ["setosa", "setosa"]}
            assert client.post("/ask", json=[{**ROW, "petal_width": "wide"}]).status_code == 422
            assert client.get("/models/iris").status_code == 200
            ready = client.get("/models/health/ready")
            if heading == "Production":
                assert ready.status_code == 200
            assert client.get("/models/openapi.json").json()["openapi"].startswith("3.1")
    log = (tmp_path / "server.log").read_text()
    assert "Traceback" not in log, log


@pytest.mark.slow
def test_the_templates_are_packed(tmp_path: Path) -> None:
    """As wheels are: setuptools leaves out what package-data does not name, and hidden files."""
    root = Path(__file__).parents[2]
    subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-c", "from setuptools import setup; setup()"),
            *("--quiet", "build_py", "--build-lib", tmp_path),
        ],
        cwd=root,
        check=True,
        timeout=120,
    )
    folder = Path("infersdk/cli/projects")
    assert _files(tmp_path / folder) == _files(root / folder)
