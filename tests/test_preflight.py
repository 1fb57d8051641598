"""`.ci/preflight` names what a machine lacks, one sentence each."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PREFLIGHT = Path(__file__).parents[1] / ".ci" / "preflight"

pytestmark = pytest.mark.skipif(
    not PREFLIGHT.exists() or shutil.which("sh") is None, reason="needs the repository and a shell"
)


def preflight(python: str, compiler: str) -> tuple[int, list[str]]:
    done = subprocess.run(
        ["sh", str(PREFLIGHT), python, compiler], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def fake_python(folder: Path, *, old: bool = False, venv: bool = True, headers: bool = True) -> str:
    """A shell script that answers the questions preflight asks a Python interpreter."""
    include = folder / "include"
    if headers:
        include.mkdir()
        (include / "Python.h").touch()
    script = folder / "fake-python"
    script.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f"*version_info*) exit {int(old)} ;;\n"
        '*--version*) echo "Python 3.9.2" ;;\n'
        f"*ensurepip*) exit {int(not venv)} ;;\n"
        f'*sysconfig*) echo "{include}" ;;\n'
        "esac\n"
    )
    script.chmod(0o755)
    return str(script)


def test_says_nothing_where_nothing_is_missing(tmp_path: Path) -> None:
    assert preflight(fake_python(tmp_path), "sh") == (0, [])


@pytest.mark.parametrize(
    ("lacking", "sentence"),
    [
        ({"old": True}, "apt-get install python3.11, then run: make PYTHON=python3.11"),
        ({"venv": False}, "apt-get install python3-venv"),
        ({"headers": False}, "apt-get install python3-dev"),
    ],
)
def test_names_the_package_for_each_missing_part_of_python(
    tmp_path: Path, lacking: dict[str, bool], sentence: str
) -> None:
    status, lines = preflight(fake_python(tmp_path, **lacking), "sh")
    assert status == 1
    assert len(lines) == 1
    assert lines[0].startswith("infersdk: ")
    assert lines[0].endswith(sentence)


def test_names_the_package_of_a_missing_compiler(tmp_path: Path) -> None:
    status, lines = preflight(fake_python(tmp_path), "no-such-compiler")
    assert status == 1
    assert lines == [
        "infersdk: a C++17 compiler is needed and `no-such-compiler` was not found; "
        "install it with: apt-get install g++"
    ]


def test_names_every_missing_part_at_once(tmp_path: Path) -> None:
    python = fake_python(tmp_path, venv=False, headers=False)
    status, lines = preflight(python, "no-such-compiler")
    assert status == 1
    assert [line.rsplit(" ", 1)[1] for line in lines] == ["python3-venv", "python3-dev", "g++"]


def test_names_python_where_there_is_none() -> None:
    status, lines = preflight("no-such-python", "sh")
    assert status == 1
    assert len(lines) == 1
    assert "`no-such-python` was not found" in lines[0]
    assert lines[0].endswith("apt-get install python3")


def test_accepts_the_interpreter_that_runs_the_tests() -> None:
    status, lines = preflight(sys.executable, "sh")
    assert (status, lines) == (0, []) or lines[0].endswith("python3-dev")
