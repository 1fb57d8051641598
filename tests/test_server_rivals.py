"""The benchmark of other model servers: environments, processes, and what its rivals answer."""

from __future__ import annotations

import os
import py_compile
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import _chosen
from benchmarks.cases.servers import WEB
from benchmarks.rivals.servers import environments
from benchmarks.rivals.servers.environments import REQUIREMENTS, EnvironmentFailedError
from benchmarks.web import processes
from benchmarks.web.server import COMMANDS
from benchmarks.web_tables import put

RIVALS = sorted({app.environment for app in WEB["forest"].apps} - {""})


def test_the_servers_are_measured_only_when_they_are_named() -> None:
    assert "servers" not in _chosen([], quick=False)
    assert _chosen(["servers"], quick=False) == {"servers": {"forest": ()}}


def test_every_rival_has_a_command_and_pinned_requirements() -> None:
    apps = WEB["forest"].apps
    assert {app.server for app in apps} <= COMMANDS.keys()
    assert {name for item in WEB["forest"].targets for name in (item.app, item.rival)} <= {
        app.name for app in apps
    }
    for name in RIVALS:
        text = (REQUIREMENTS / name / "requirements.txt").read_text()
        pins = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert pins[0].partition("[")[0].partition("==")[0] == name
        assert all("==" in pin for pin in pins)
        assert {pin for pin in pins if pin.startswith("onnxruntime")} == {"onnxruntime==1.31.1"}
        for module in (REQUIREMENTS / name).glob("*.py"):
            py_compile.compile(str(module), doraise=True)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The requirements that were installed, one after the other; nothing is in fact."""
    seen: list[str] = []
    (tmp_path / "rival").mkdir()
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path / "build")
    monkeypatch.setattr(
        environments.venv, "create", lambda folder, with_pip: folder.mkdir(parents=True)
    )

    def install(python: Path, requirements: Path) -> None:
        text = requirements.read_text()
        if "nowhere" in text:
            raise EnvironmentFailedError("pip failed")
        seen.append(text)

    monkeypatch.setattr(environments, "_install", install)
    return seen


def test_an_environment_is_made_once_and_again_when_it_is_another(
    installed: list[str], tmp_path: Path
) -> None:
    requirements = tmp_path / "rival" / "requirements.txt"
    requirements.write_text("rival==1\n")
    python = environments.interpreter("rival")
    assert python == tmp_path / "build" / "rival" / "bin" / "python"
    assert environments.interpreter("rival") == python
    assert installed == ["rival==1\n"]
    requirements.write_text("rival==2\n")
    environments.interpreter("rival")
    assert installed == ["rival==1\n", "rival==2\n"]


def test_half_an_environment_is_none(installed: list[str], tmp_path: Path) -> None:
    requirements = tmp_path / "rival" / "requirements.txt"
    requirements.write_text("nowhere==1\n")
    with pytest.raises(EnvironmentFailedError):
        environments.interpreter("rival")
    with pytest.raises(EnvironmentFailedError):
        environments.interpreter("rival")
    requirements.write_text("rival==1\n")
    environments.interpreter("rival")
    assert installed == ["rival==1\n"]


def test_the_versions_of_an_environment_begin_with_the_rival(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = tmp_path / "rival" / "lib" / "python3.11" / "site-packages"
    for name, version in (("Another", "1.0"), ("rival", "2.0"), ("zlib-ng", "3.0")):
        folder = library / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path)
    assert list(environments.versions("rival").items()) == [
        ("rival", "2.0"),
        ("another", "1.0"),
        ("zlib-ng", "3.0"),
    ]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_servers_processes_are_found_and_ended() -> None:
    """Also those that its children have started, and that have a session of their own."""
    code = (
        "import subprocess, sys, time\n"
        "if sys.argv[1] == '0': print('up', flush=True); time.sleep(600)\n"
        "subprocess.run([sys.executable, '-c', sys.argv[2], '0', ''], start_new_session=True)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, "1", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent:
        assert parent.stdout.readline() == b"up\n"
        found = processes.tree(parent.pid)
        assert len(found) == 2
        assert found[0].pid == parent.pid
        assert processes.cpu_s(parent.pid) >= 0
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        another = processes.Process(os.getpid(), 1)  # our number, but not when we started
        processes.kill([another, *found])
        _await(lambda: not _lives(found[1]))


def _lives(process: processes.Process) -> bool:
    """Whether it is there, and not merely waiting for somebody to read its status."""
    try:
        state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z" and process in processes.tree(process.pid)


def _await(condition: Callable[[], Any]) -> None:
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_a_table_goes_between_the_marks_of_its_name() -> None:
    page = "a\n<!-- web figures: begin -->\n<!-- web figures: end -->\n<!-- servers figures: begin -->\nold\n<!-- servers figures: end -->\nb"
    given = put(page, "new", "servers")
    assert "old" not in given
    assert given.startswith("a\n<!-- web figures: begin -->\n<!-- web figures: end -->\n")
    with pytest.raises(ValueError, match="nowhere figures: begin"):
        put(page, "new", "nowhere")


@pytest.mark.slow
def test_the_forest_of_the_rivals_is_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    from benchmarks.rivals.servers.forest import Forest
    from benchmarks.web.client import equal
    from benchmarks.web.workload import Workload, write

    write(tmp_path)
    ready = tmp_path / "ready"
    ready.mkdir()
    monkeypatch.setenv("MODELS", str(tmp_path))
    monkeypatch.setenv("READY", str(ready))
    workload = Workload(tmp_path)
    rows = [json.loads(body) for body in workload.bodies()]
    forest = Forest()
    assert [path.name for path in ready.iterdir()] == [str(os.getpid())]
    assert equal(forest.answers(rows), workload.expected())
    assert equal([forest.answer(row) for row in rows[:20]], workload.expected()[:20])
