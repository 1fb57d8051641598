"""A project that is not ours uses the plugin from the installed wheel: two apps, under xdist, no model file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_packaging import sdist, wheel

__all__ = ["sdist", "wheel"]  # fixtures

PROJECT = Path(__file__).parent / "outside" / "project"

# And what they need; neither scikit-learn nor pandas is among that.
PACKAGES = (
    "django",
    "flask",
    "numpy",
    "onnx",
    "onnxruntime",
    "orjson",
    "pytest",
    "pytest-asyncio",
    "pytest-django",
    "pytest-flask",
    "pytest-xdist",
)


def _with_requirements(names: tuple[str, ...]) -> Iterator[metadata.Distribution]:
    """These distributions of our environment, and all that they require."""
    seen: set[str] = set()
    wanted = [Requirement(name) for name in names]
    while wanted:
        name = canonicalize_name(wanted.pop().name)
        if name in seen:
            continue
        seen.add(name)
        found = metadata.distribution(name)
        yield found
        for text in found.requires or ():
            required = Requirement(text)
            if required.marker is None or required.marker.evaluate({"extra": ""}):
                wanted.append(required)


def _link(distribution: metadata.Distribution, site: Path) -> None:
    """Make it importable from there, as if it had been installed there."""
    ours = Path(str(distribution.locate_file("")))
    for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
        if (ours / top).exists() and not (site / top).exists():
            (site / top).symlink_to(ours / top)


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel; what else it has is linked from ours, as nothing can be fetched."""
    folder = tmp_path_factory.mktemp("outside") / "venv"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    site = Path(done.stdout.strip())
    for distribution in _with_requirements(PACKAGES):
        _link(distribution, site)
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*install, "--target", str(site), str(wheel)], check=True)
    return python


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform == "win32", reason="links packages from one environment to another"
)
def test_twenty_tests_over_a_flask_and_a_django_app(python: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("__pycache__"))
    environ = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("COV_", "DJANGO_", "FLASK_", "INFERSDK_", "PYTEST_", "PYTHON"))
    }
    done = subprocess.run(
        [
            python,
            "-m",
            "pytest",
            "-n",
            "2",
            "-p",
            "no:cacheprovider",
            "-W",
            "error::pytest.PytestWarning",
        ],
        cwd=project,
        env=environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20 passed" in done.stdout, done.stdout
