"""settings.INFERSDK: what it may say, and what comes of it."""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

import infersdk
from infersdk.errors import ClosedError
from infersdk.predictors import Predictors, current_predictors, registry
from tests.web.django import sources

pytestmark = pytest.mark.usefixtures("django_project")

ROOT = Path(__file__).parents[3]


def overridden(**values: Any) -> Any:
    from django.test import override_settings

    return override_settings(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"MODEL": {}}, "`MODEL` is not a setting of infersdk; did you mean `MODELS`?"),
        ({"MODELS": ["churn.onnx"]}, "Expected MODELS to be a dict"),
        ({"MODELS": {"churn": {"sauce": "x"}}}, "did you mean `source`"),
        ({"MODELS": {"churn": None}}, r"MODELS\['churn'\]: Expected a model's source"),
        ({"TIMEOUT_S": -1}, "Expected TIMEOUT_S to be a positive number"),
        ({"MAX_ROWS": 0}, "Expected MAX_ROWS to be a whole number"),
        ({"OPENING": "soon"}, "Expected OPENING to be 'auto'"),
        ({"URL_PREFIX": "/models"}, "include"),
        (["churn.onnx"], "Expected settings.INFERSDK to be a dict"),
    ],
)
def test_what_is_wrong_with_the_settings_is_said(values: Any, message: str) -> None:
    from django.core.exceptions import ImproperlyConfigured

    from infersdk.web.django import conf

    with overridden(INFERSDK=values), pytest.raises(ImproperlyConfigured, match=message):
        conf.read()


@pytest.mark.parametrize("name", ["health", "openapi.json", "a/b", ""])
def test_names_that_routes_need_or_cannot_have_are_refused(name: str) -> None:
    from django.core.exceptions import ImproperlyConfigured

    from infersdk.web.django import conf

    with (
        overridden(INFERSDK={"MODELS": {name: "x.onnx"}}),
        pytest.raises(ImproperlyConfigured, match=r"settings\.INFERSDK: "),
    ):
        conf.service()


@pytest.mark.parametrize(
    ("djangos", "own", "limit"),
    [
        (2_621_440, {}, 2_621_440),
        (None, {}, 16 * 2**20),
        (50, {"MAX_BODY_BYTES": 80}, 50),
        (80, {"MAX_BODY_BYTES": 50}, 50),
        (None, {"MAX_BODY_BYTES": 50}, 50),
        (64 * 2**20, {}, 64 * 2**20),
    ],
)
def test_the_smaller_limit_of_bodies_counts(
    djangos: int | None, own: dict[str, int], limit: int
) -> None:
    from infersdk.web.django import conf

    with overridden(INFERSDK=own, DATA_UPLOAD_MAX_MEMORY_SIZE=djangos):
        assert conf.read().max_body_bytes == limit


def test_a_project_without_the_setting_has_no_models() -> None:
    from django.conf import settings

    from infersdk.web.django import conf

    with overridden():
        del settings.INFERSDK
        assert conf.read().models == {}


def test_models_are_opened_once_and_found_anywhere(folder: Path) -> None:
    opened = []

    def load() -> infersdk.Predictor:
        opened.append(1)
        return infersdk.load(folder / "iris.onnx")

    with overridden(INFERSDK={"MODELS": {"iris": load}}):
        assert list(current_predictors) == ["iris"]
        assert not opened
        assert current_predictors["iris"] is current_predictors["iris"]
        assert len(opened) == 1


def test_other_models_of_the_process_do_not_hide_the_projects(folder: Path) -> None:
    others = Predictors({"other": folder / "iris.onnx"})
    with overridden(INFERSDK={"MODELS": {"iris": folder / "iris.onnx"}}):
        assert list(current_predictors) == ["iris"]
    others.close()


def test_a_project_without_models_leaves_the_word_to_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Those of other tests, which nobody has closed.
    monkeypatch.setattr(registry, "_all", weakref.WeakValueDictionary())
    with overridden(INFERSDK={}), Predictors({"other": folder / "iris.onnx"}):
        assert list(current_predictors) == ["other"]


def test_changed_settings_have_models_of_their_own_until_they_are_changed_back(
    folder: Path,
) -> None:
    path = folder / "iris.onnx"
    with overridden(INFERSDK={"MODELS": {"one": path}}):
        outer = current_predictors["one"]
        with overridden(INFERSDK={"MODELS": {"two": path}}):
            assert list(current_predictors) == ["two"]
            inner = current_predictors["two"]
        assert current_predictors["one"] is outer
        with pytest.raises(ClosedError):
            inner.run({})
        assert outer.signature.fields
    with pytest.raises(ClosedError):
        outer.run({})


def test_other_settings_change_nothing(folder: Path) -> None:
    with overridden(INFERSDK={"MODELS": {"one": folder / "iris.onnx"}}):
        one = current_predictors["one"]
        with overridden(USE_TZ=False):
            assert current_predictors["one"] is one
        assert current_predictors["one"] is one


def test_threads_that_ask_first_at_once_get_the_same_models(folder: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    barrier = threading.Barrier(8)

    def ask() -> Any:
        barrier.wait()
        return current_predictors["iris"]

    with (
        overridden(INFERSDK={"MODELS": {"iris": folder / "iris.onnx"}}),
        ThreadPoolExecutor(8) as threads,
    ):
        found = [call.result() for call in [threads.submit(ask) for _ in range(8)]]
    assert len(set(map(id, found))) == 1


def test_a_source_may_be_named(
    folder: Path, iris: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, X = iris
    monkeypatch.setattr(sources, "path", str(folder / "iris.onnx"))
    values = {
        "iris": "tests.web.django.sources:iris",
        "file": {"source": "tests.web.django.sources:path", "methods": ["predict_proba"]},
        "nobody": "tests.web.django.sources:nobody",
        "nowhere": "tests.web.nowhere:iris",
    }
    with overridden(INFERSDK={"MODELS": values}):
        assert current_predictors["iris"].predict(X).tolist() == model.predict(X).tolist()
        assert current_predictors["file"].predict(X).tolist() == model.predict(X).tolist()
        with pytest.raises(ImportError, match="has no `nobody`"):
            current_predictors["nobody"]
        with pytest.raises(ImportError, match="nowhere"):
            current_predictors["nowhere"]


SCRIPT = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.web.django.settings"
import django
django.setup()
from infersdk.web.django import conf
print(conf.service().predictors.state)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("opening", "state"), [("auto", "new"), ("lazy", "new"), ("now", "open")])
def test_a_process_that_is_no_server_opens_nothing_unless_told_to(
    folder: Path, opening: str, state: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={
            "PATH": "",
            "PYTHONPATH": str(ROOT),
            "DJANGO_TEST_MODELS": str(folder),
            "DJANGO_TEST_OPENING": opening,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == [state], done.stderr


@pytest.mark.slow
def test_a_command_runs_without_the_model_files(tmp_path: Path) -> None:
    """As when an image is built, or a database migrated: no model is there, and none is needed."""
    done = subprocess.run(
        [sys.executable, "-m", "django", "infersdk", "list"],
        env={
            "PATH": "",
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.web.django.settings",
            "DJANGO_TEST_MODELS": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[:2] == ["iris", "new"]
    assert "infersdk.W005" in done.stderr


PYTEST_DJANGO = """
import pytest
from infersdk import current_predictors

ROW = {ROW!r}
JSON = "application/json"


def test_client(client):
    assert client.post("/models/iris", ROW, content_type=JSON).json() == {{"answers": [0]}}


@pytest.mark.asyncio
async def test_async_client(async_client):
    response = await async_client.post("/models/iris", ROW, content_type=JSON)
    assert response.json() == {{"answers": [0]}}


def test_settings(settings, client):
    before = current_predictors["iris"]
    settings.INFERSDK = {{"MODELS": {{"one": settings.FOLDER / "iris.onnx"}}}}
    settings.INFERSDK = {{"MODELS": {{"two": settings.FOLDER / "iris.onnx"}}}}
    assert client.get("/models/").json() == {{"models": ["two"]}}
    current_predictors["two"]


def test_settings_are_back(client):
    assert client.get("/models/").json() == {{"models": ["iris"]}}
"""


@pytest.mark.slow
def test_a_suite_with_pytest_django(folder: Path, iris: tuple[Any, Any], tmp_path: Path) -> None:
    pytest.importorskip("pytest_django", reason="what is tested here")
    pytest.importorskip("pytest_asyncio", reason="it awaits the async client")
    row = iris[1].iloc[0].to_dict()
    (tmp_path / "test_shop.py").write_text(PYTEST_DJANGO.format(ROW=row))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={
            "PATH": "",
            "PYTHONPATH": str(ROOT),
            "DJANGO_SETTINGS_MODULE": "tests.web.django.settings",
            "DJANGO_TEST_MODELS": str(folder),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout
