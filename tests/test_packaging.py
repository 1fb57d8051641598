"""What is built and installed is what pyproject.toml promises."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata, resources
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTENSIONS = PROJECT["tool"]["setuptools"]["ext-modules"]
EXTRAS = PROJECT["project"]["optional-dependencies"]
FRAMEWORKS = (
    "sklearn",
    "xgboost",
    "lightgbm",
    "torch",
    "catboost",
    "keras",
    "tensorflow",
    "jax",
    "transformers",
    "sentence-transformers",
    "skorch",
    "lightning",
    "libsvm",
    "coreml",
    "statsmodels",
)


def test_the_version_is_written_once() -> None:
    version = PROJECT["project"]["version"]
    assert metadata.version("infersdk") == version
    written = [
        path for path in (ROOT / "infersdk").rglob("*.py") if f'"{version}"' in path.read_text()
    ]
    assert written == []


def test_the_installed_package_says_that_it_is_typed() -> None:
    assert resources.files("infersdk").joinpath("py.typed").is_file()


def test_every_cython_module_is_built_and_has_a_stub() -> None:
    modules = {path.with_suffix("") for path in (ROOT / "infersdk").rglob("*.pyx")}
    listed = {ROOT / name for name in (item["name"].replace(".", "/") for item in EXTENSIONS)}
    assert modules == listed
    assert modules, "no compiled module found"
    assert [module.name for module in modules if not module.with_suffix(".pyi").exists()] == []


def test_every_source_of_an_extension_exists() -> None:
    sources = {source for item in EXTENSIONS for source in item["sources"]}
    assert [source for source in sorted(sources) if not (ROOT / source).exists()] == []
    in_csrc = {str(path.relative_to(ROOT)) for path in (ROOT / "csrc" / "src").glob("*.cpp")}
    # A module that needs a source of another one includes it: modules are built side by side, and
    # would write one object file.
    modules = "".join((ROOT / name).read_text() for name in sources if "csrc/modules/" in name)
    included = {f"csrc/src/{name}" for name in re.findall(r'#include "\.\./src/(.+)"', modules)}
    assert in_csrc <= sources | included


@pytest.mark.parametrize("extra", ["cpu", "gpu", *FRAMEWORKS, "all", "demo", "test"])
def test_extras(extra: str) -> None:
    assert EXTRAS[extra]


def test_the_extra_all_has_the_runtime_and_every_framework() -> None:
    (everything,) = EXTRAS["all"]
    inner = re.fullmatch(r"infersdk\[(.+)\]", everything)
    assert inner is not None
    # Spark brings a gigabyte and asks for Java.
    serving = {"grpc", "opentelemetry", "prometheus", "serve", "web"}
    assert set(inner[1].split(",")) == {"cpu", "cli", "quantize", "skops", *serving, *FRAMEWORKS}


@pytest.mark.slow
def test_all_frameworks_live_together() -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_extra_that_a_message_names_exists() -> None:
    named = set()
    for path in (ROOT / "infersdk").rglob("*.py"):
        text = path.read_text()
        named |= set(re.findall(r"infersdk\[([\w-]+)\]", text))
        named |= set(re.findall(r'^EXTRA = "([\w-]+)"', text, re.MULTILINE))
    assert named
    assert named <= set(EXTRAS)


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source distribution of the files that git knows, made in a copy of them."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs the git repository: it tells sources from what was built")
    folder = tmp_path_factory.mktemp("sdist")
    copy = folder / "copy"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    build = (
        "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", build, str(folder)],
        cwd=copy,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip makes of that source distribution."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--no-index", "--wheel-dir", str(folder), str(sdist)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_the_sdist_holds_what_a_build_needs_and_nothing_that_was_built(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {source for item in EXTENSIONS for source in item["sources"]}
    needed |= {str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*.hpp")}
    needed |= {str(path.relative_to(ROOT)) for path in (ROOT / "infersdk").rglob("*.pxd")}
    needed |= {"build_native.py", "LICENSE", "README.md", "Makefile", "constraints.txt"}
    assert needed - names == set()
    assert [name for name in names if name.endswith((".so", ".pyc", ".o"))] == []
    assert [name for name in names if re.match(r"infersdk/.*\.cpp", name)] == []


@pytest.mark.slow
def test_the_wheel_holds_modules_stubs_and_no_sources(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "infersdk/py.typed" in names
    for item in EXTENSIONS:
        stem = item["name"].replace(".", "/")
        assert f"{stem}.pyi" in names
        assert [name for name in names if name.startswith(f"{stem}.") and name.endswith(".so")]
    assert [name for name in names if name.endswith((".cpp", ".hpp", ".pyx", ".pxd", ".c"))] == []
    assert {name.split("/")[0] for name in names} == {
        "infersdk",
        f"infersdk-{PROJECT['project']['version']}.dist-info",
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_wheel_imports_away_from_the_repository(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); "
        "import infersdk, infersdk._native; print(infersdk.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(tmp_path)
