"""An environment for each rival: made on demand, and again when its requirements change.

The rivals' requirements contradict each other's and ours, so none is installed beside infersdk.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

__all__ = ["EnvironmentFailedError", "interpreter", "versions"]

REQUIREMENTS = Path(__file__).parent
ENVIRONMENTS = Path(__file__).parents[3] / "build" / "rivals"
INSTALL_S = 900.0


class EnvironmentFailedError(Exception):
    """A rival could not be installed; what pip said is in the message."""


def interpreter(name: str) -> Path:
    """The Python of a rival's environment, which is made first where it is not there or is an older one.

    Parameters
    ----------
    name : str
        A folder beside this file, with a ``requirements.txt``.

    Raises
    ------
    EnvironmentFailedError
        pip could not install the requirements.
    """
    wanted = f"{sys.version}\n{(REQUIREMENTS / name / 'requirements.txt').read_text()}"
    folder = ENVIRONMENTS / name
    python = _python(folder)
    installed = folder / "installed.txt"  # written last: half an environment has none
    if installed.exists() and installed.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    _install(python, REQUIREMENTS / name / "requirements.txt")
    installed.write_text(wanted)
    return python


def versions(name: str) -> dict[str, str]:
    """Every package in a rival's environment, and its version; the rival itself comes first."""
    library = next((ENVIRONMENTS / name).glob("lib/python*/site-packages"))
    found = {
        package.name.lower(): package.version
        for package in metadata.distributions(path=[str(library)])
    }
    return {name: found[name], **dict(sorted(found.items()))}


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _install(python: Path, requirements: Path) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*command, "--requirement", str(requirements)],
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFailedError(
            f"{requirements}: pip was not done after {INSTALL_S:.0f} s"
        ) from error
    if done.returncode:
        raise EnvironmentFailedError(f"{requirements}: pip failed:\n{done.stderr[-3000:]}")
