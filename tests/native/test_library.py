"""Finding and opening ONNX Runtime, each in a process of its own, as a process opens it once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from infersdk._native import find_library, open_library
from infersdk.errors import MissingDependencyError

ROOT = Path(__file__).parents[2]

# Hides the package from the import system, as if it had never been installed.
HIDE = """
import sys
class Absent:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "onnxruntime":
            return None
        return self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = [Absent(finder) for finder in sys.meta_path]
"""

MODEL = """
from onnx import parser
model = parser.parse_model(
    '<ir_version: 10, opset_import: ["": 21]> g (float[N] x) => (float[N] y) { y = Neg(x) }'
).SerializeToString()
"""


def run(code: str, **environment: str | None) -> str:
    """What a fresh process prints."""
    variables = {**os.environ, **environment}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={name: value for name, value in variables.items() if value is not None},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def stub_package(folder: Path, *files: str) -> str:
    """A package `onnxruntime` with other files in its capi folder; returns where to import it from."""
    capi = folder / "onnxruntime/capi"
    capi.mkdir(parents=True)
    (folder / "onnxruntime/__init__.py").write_text("raise AssertionError('imported')")
    for name in files:
        (capi / name).write_bytes(b"not a library")
    return str(folder)


def test_the_library_is_that_of_the_installed_package() -> None:
    path = find_library()
    assert path.is_file()
    assert re.match(r"libonnxruntime[.\d]*\.(so|dylib)", path.name)
    version = open_library()
    assert version == open_library()
    assert version in {
        metadata.version(name)
        for name in ("onnxruntime", "onnxruntime-gpu")
        if any(item.metadata["Name"] == name for item in metadata.distributions())
    }


def test_the_python_package_is_never_imported() -> None:
    code = f"""{MODEL}
import sys, numpy as np
from infersdk._native import Session
print(Session(model).run_ordered([np.ones(2, np.float32)])[0].tolist())
print([name for name in sys.modules if name.partition(".")[0] == "onnxruntime"])
"""
    assert run(code).splitlines() == ["[-1.0, -1.0]", "[]"]


def test_without_onnxruntime_the_package_still_imports() -> None:
    code = f"{HIDE}\nimport infersdk, infersdk.types\nprint(infersdk.__all__ != [])"
    assert run(code) == "True"


@pytest.mark.parametrize(
    "call",
    [
        "infersdk.load(model)",
        "infersdk._native.Session(model)",
        "infersdk._native.open_library()",
        "infersdk._native.find_library()",
    ],
)
def test_without_onnxruntime_the_error_names_the_extra(call: str) -> None:
    code = f"""{HIDE}{MODEL}
import infersdk, infersdk._native
for attempt in range(2):
    try:
        {call}
    except infersdk.MissingDependencyError as error:
        print(isinstance(error, ImportError), error)
"""
    lines = run(code).splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("True ")
        assert "infersdk[cpu]" in line
        assert "infersdk[gpu]" in line


def test_a_package_without_a_library_is_told_from_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(stub_package(tmp_path))
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    with pytest.raises(MissingDependencyError, match="holds no libonnxruntime") as caught:
        find_library()
    assert str(tmp_path) in str(caught.value)
    assert "--force-reinstall" in str(caught.value)


def test_a_file_that_is_no_library_is_refused_by_path(tmp_path: Path) -> None:
    folder = stub_package(tmp_path, "libonnxruntime.so.1.0")
    code = f"""
import sys
sys.path.insert(0, {folder!r})
from infersdk._native import open_library
from infersdk.errors import MissingDependencyError
for attempt in range(2):
    try:
        open_library()
    except MissingDependencyError as error:
        print(error)
"""
    for line in run(code).splitlines():
        assert f"{folder}/onnxruntime/capi/libonnxruntime.so.1.0" in line
        assert "infersdk[cpu]" in line


def test_another_library_is_no_onnxruntime(tmp_path: Path) -> None:
    """One that opens, but without ONNX Runtime's entry point."""
    import infersdk._native.session as compiled

    folder = stub_package(tmp_path)
    (tmp_path / "onnxruntime/capi/libonnxruntime.so").symlink_to(compiled.__file__)
    code = f"""
import sys
sys.path.insert(0, {folder!r})
from infersdk._native import open_library
from infersdk.errors import MissingDependencyError
try:
    open_library()
except MissingDependencyError as error:
    print(error)
"""
    assert "is not an ONNX Runtime library" in run(code)


# Tells the variable's value while the library loads, and after.
TELEMETRY = """
import os, subprocess, sys
import infersdk._native.library as library
seen = []
real = library._open_library
def watch(path):
    seen.append(os.environ.get("ORT_DISABLE_TELEMETRY"))
    return real(path)
library._open_library = watch
library.open_library()
print(seen, os.environ.get("ORT_DISABLE_TELEMETRY"))
"""


def test_telemetry_is_off_while_the_library_loads_and_the_environment_left_as_it_was() -> None:
    assert run(TELEMETRY, ORT_DISABLE_TELEMETRY=None) == "['1'] None"


@pytest.mark.parametrize("value", ["0", "1", ""])
def test_a_telemetry_choice_of_the_users_own_is_kept(value: str) -> None:
    assert run(TELEMETRY, ORT_DISABLE_TELEMETRY=value) == f"[{value!r}] {value}".strip()


def test_telemetry_is_put_back_when_opening_fails(tmp_path: Path) -> None:
    folder = stub_package(tmp_path, "libonnxruntime.so")
    code = f"""
import os, sys
sys.path.insert(0, {folder!r})
from infersdk._native import open_library
from infersdk.errors import MissingDependencyError
try:
    open_library()
except MissingDependencyError:
    print(os.environ.get("ORT_DISABLE_TELEMETRY"))
"""
    assert run(code, ORT_DISABLE_TELEMETRY=None) == "None"


def test_loading_and_running_write_nothing_to_the_terminal_or_the_home_folder(
    tmp_path: Path,
) -> None:
    code = f"""{MODEL}
import os
import numpy as np
from infersdk._native import Session
from infersdk.errors import InferSDKError
Session(model).run_ordered([np.ones(2, np.float32)])
try:
    Session(b"garbage")
except InferSDKError:
    print("refused", flush=True)
child = os.fork()
if child == 0:
    Session(model).run_ordered([np.ones(2, np.float32)])
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    home = str(tmp_path)
    assert run(code, HOME=home, XDG_CACHE_HOME=home, ORT_DISABLE_TELEMETRY=None) == "refused"
    assert list(tmp_path.iterdir()) == []


def test_many_threads_open_it_once() -> None:
    code = """
import threading
import infersdk._native.library as library
calls = []
real = library._open_library
def watch(path):
    calls.append(path)
    return real(path)
library._open_library = watch
start = threading.Barrier(8)
versions = []
def work():
    start.wait()
    versions.append(library.open_library())
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(calls), len(versions), len(set(versions)))
"""
    assert run(code) == "1 8 1"
