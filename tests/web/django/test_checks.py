"""Each system check, by its id."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("django_project")

DOCS = Path(__file__).parents[3] / "docs/django.md"


def found(values: Any, *, deploy: bool = False, **others: Any) -> dict[str, str]:
    """Message by id, as ``manage.py check --tag infersdk`` finds them."""
    from django.core.checks import run_checks
    from django.test import override_settings

    with override_settings(INFERSDK=values, **others):
        messages = run_checks(tags=["infersdk"], include_deployment_checks=deploy)
    return {message.id: str(message) for message in messages}


def test_nothing_is_wrong(folder: Path) -> None:
    assert found({"MODELS": {"iris": folder / "iris.onnx"}}, deploy=True) == {}


def test_e001_settings() -> None:
    assert "did you mean `MODELS`" in found({"MODLES": {}})["infersdk.E001"]
    assert list(found(["churn.onnx"])) == ["infersdk.E001"]


def test_e002_and_w005_there_is_no_such_file(tmp_path: Path) -> None:
    values = {"MODELS": {"churn": tmp_path / "churn.onnx"}}
    messages = found(values)
    assert list(messages) == ["infersdk.W005"]
    assert str(tmp_path / "churn.onnx") in messages["infersdk.W005"]
    assert list(found(values, deploy=True)) == ["infersdk.W005", "infersdk.E002"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a", "git lfs pull"),
        (b"<html>404</html>", "is not an ONNX model"),
    ],
)
def test_e003_and_w006_the_file_is_no_model(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "churn.onnx"
    path.write_bytes(content)
    messages = found({"MODELS": {"churn": path}})
    assert list(messages) == ["infersdk.W006"]
    assert reason in messages["infersdk.W006"]
    messages = found({"MODELS": {"churn": path}}, deploy=True)
    assert list(messages) == ["infersdk.W006", "infersdk.E003"]


@pytest.mark.parametrize("source", ["no_such_module:load", "tests.web.django.nowhere:load"])
def test_e004_the_source_cannot_be_imported(source: str) -> None:
    messages = found({"MODELS": {"churn": source}})
    assert list(messages) == ["infersdk.E004"]
    assert source in messages["infersdk.E004"]


def test_e004_a_source_that_can_be_is_not_imported() -> None:
    assert found({"MODELS": {"churn": "this:s"}}) == {}
    import sys

    assert "this" not in sys.modules


@pytest.mark.parametrize("name", ["health", "openapi.json", "a/b"])
def test_e005_names(name: str, folder: Path) -> None:
    messages = found({"MODELS": {name: folder / "iris.onnx"}})
    assert list(messages) == ["infersdk.E005"]
    assert name in messages["infersdk.E005"]


def test_e006_and_e007_what_is_not_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name in ("orjson", "onnxruntime") else find(name, *rest),
    )
    messages = found({"MODELS": {"iris": folder / "iris.onnx"}})
    assert list(messages) == ["infersdk.E006", "infersdk.E007"]
    assert "infersdk[cpu]" in messages["infersdk.E007"]


def test_e008_a_model_that_does_not_open(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "churn.onnx"
    path.write_bytes((folder / "iris.onnx").read_bytes()[:-100])
    assert found({"MODELS": {"churn": path}}) == {}
    messages = found({"MODELS": {"churn": path, "iris": folder / "iris.onnx"}}, deploy=True)
    assert list(messages) == ["infersdk.E008"]
    assert "ArtifactError" in messages["infersdk.E008"]


def test_w001_no_models() -> None:
    assert list(found({})) == ["infersdk.W001"]


def test_w002_opened_everywhere(folder: Path) -> None:
    values = {"MODELS": {"iris": folder / "iris.onnx"}, "OPENING": "now"}
    assert list(found(values)) == ["infersdk.W002"]


def test_w003_django_reads_less(folder: Path) -> None:
    values = {"MODELS": {"iris": folder / "iris.onnx"}, "MAX_BODY_BYTES": 10**7}
    assert list(found(values)) == ["infersdk.W003"]
    assert found(values, DATA_UPLOAD_MAX_MEMORY_SIZE=10**7) == {}
    assert found(values, DATA_UPLOAD_MAX_MEMORY_SIZE=None) == {}


def test_w004_a_path_from_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert list(found({"MODELS": {"iris": "iris.onnx"}})) == ["infersdk.W004"]


def test_the_documentation_lists_every_id() -> None:
    import re

    from infersdk.web.django import checks

    source = Path(checks.__file__).read_text()
    ids = set(re.findall(r'"(infersdk\.[EW]\d{3})"', source))
    assert ids == {f"infersdk.E{n:03}" for n in range(1, 9)} | {
        f"infersdk.W{n:03}" for n in range(1, 7)
    }
    assert set(re.findall(r"`(infersdk\.[EW]\d{3})`", DOCS.read_text())) >= ids
