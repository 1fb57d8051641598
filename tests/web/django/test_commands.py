"""``manage.py infersdk``."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infersdk.web import inspection

pytestmark = pytest.mark.usefixtures("served")


def run(*words: str) -> str:
    from django.core.management import call_command

    out = io.StringIO()
    call_command("infersdk", *words, stdout=out, stderr=out, skip_checks=True, no_color=True)
    return out.getvalue()


@pytest.fixture
def service(served: Any) -> Any:
    from infersdk.web.django import conf

    return conf.service()


def test_list(folder: Path) -> None:
    from django.test import override_settings

    from infersdk.web.django import conf

    values = {"MODELS": {"iris": folder / "iris.onnx", "by-name": "shop.models:load"}}
    with override_settings(INFERSDK=values):
        lines = run("list").splitlines()
        assert lines == inspection.list_models(conf.service())
    assert lines[-1].split() == ["by-name", "new", "shop.models:load", "all"]


def test_check() -> None:
    text = run("check")
    assert "iris: fine\n  plan: onnx" in text
    assert "few: fine\n" in text
    assert "few" not in run("check", "iris")


def test_check_fails_where_a_model_does_and_tries_the_others(folder: Path, tmp_path: Path) -> None:
    from django.core.management import CommandError, call_command
    from django.test import override_settings

    values = {"MODELS": {"gone": tmp_path / "gone.onnx", "iris": folder / "iris.onnx"}}
    out, err = io.StringIO(), io.StringIO()
    with (
        override_settings(INFERSDK=values),
        pytest.raises(CommandError, match=r"^1 of 2 models failed: gone$") as caught,
    ):
        call_command("infersdk", "check", stdout=out, stderr=err, skip_checks=True, no_color=True)
    assert caught.value.returncode == 1
    assert err.getvalue().startswith("gone: failed\n  ArtifactError: ")
    assert out.getvalue().startswith("iris: fine\n  plan: onnx")


def test_info(service: Any, client: Any) -> None:
    assert run("info", "iris").splitlines() == inspection.describe_model(service, "iris")
    assert json.loads(run("info", "iris", "--json")) == client.get("/models/iris").json()


def test_predict(iris: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, X = iris
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(X.iloc[:3].to_dict("records")))
    answers = json.loads(run("predict", "iris", "--method", "predict_proba", "--rows", str(path)))
    np.testing.assert_allclose(answers["answers"], model.predict_proba(X.iloc[:3]), rtol=1e-6)
    stdin = io.TextIOWrapper(io.BytesIO(path.read_bytes()))
    monkeypatch.setattr("sys.stdin", stdin)
    assert json.loads(run("predict", "iris"))["answers"] == model.predict(X.iloc[:3]).tolist()


def test_commands_say_what_is_wrong(tmp_path: Path) -> None:
    from django.core.management import CommandError

    path = tmp_path / "rows.json"
    path.write_text('[{"petal length (cm)": "long"}]')
    with pytest.raises(CommandError, match=r"(?s)do not fit.*petal length.*petal width"):
        run("predict", "iris", "--rows", str(path))
    with pytest.raises(CommandError, match="No such file"):
        run("predict", "iris", "--rows", str(tmp_path / "none"))
    with pytest.raises(CommandError, match="it has: predict_proba"):
        run("predict", "few", "--method", "predict")
    for word in ("predict", "info", "check"):
        with pytest.raises(CommandError, match="there is `iris`, `few`"):
            run(word, "nobody")


def test_openapi() -> None:
    document = json.loads(run("openapi", "--title", "Flowers", "--version", "3"))
    assert document["info"] == {"title": "Flowers", "version": "3"}
    assert document["servers"] == [{"url": "/models"}]
    moved = json.loads(run("openapi", "--prefix", "api/v1"))
    assert moved["servers"] == [{"url": "/api/v1"}]
