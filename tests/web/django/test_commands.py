"""``manage.py infersdk``."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("served")


def run(*words: str) -> str:
    from django.core.management import call_command

    out = io.StringIO()
    call_command("infersdk", *words, stdout=out, stderr=out, skip_checks=True)
    return out.getvalue()


def test_list_opens_nothing(folder: Path) -> None:
    from django.test import override_settings

    values = {"MODELS": {"iris": folder / "iris.onnx", "by-name": "shop.models:load"}}
    with override_settings(INFERSDK=values):
        lines = [line.split() for line in run("list").splitlines()]
    assert lines == [
        ["iris", "new", str(folder / "iris.onnx")],
        ["by-name", "new", "shop.models:load"],
    ]


def test_check_shows_the_plan_and_the_proof() -> None:
    text = run("check")
    assert "iris: plan onnx; predict" in text
    assert "parity: equal on 150 example" in text
    assert "few" not in run("check", "iris")


def test_check_fails_where_a_model_does_and_tries_the_others(folder: Path, tmp_path: Path) -> None:
    from django.core.management import CommandError, call_command
    from django.test import override_settings

    values = {"MODELS": {"gone": tmp_path / "gone.onnx", "iris": folder / "iris.onnx"}}
    out = io.StringIO()
    with (
        override_settings(INFERSDK=values),
        pytest.raises(CommandError, match="1 of the models failed: gone"),
    ):
        call_command("infersdk", "check", stdout=out, stderr=out, skip_checks=True)
    assert "gone: " in out.getvalue()
    assert "iris: plan onnx" in out.getvalue()


def test_info() -> None:
    described = json.loads(run("info", "iris"))
    assert described["name"] == "iris"
    assert described["parity"]["passed"]


def test_predict_answers_as_the_source_model(
    iris: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, X = iris
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(X.iloc[:3].to_dict("records")))
    answers = json.loads(run("predict", "iris", "--method", "predict_proba", "--rows", str(path)))
    np.testing.assert_allclose(answers["answers"], model.predict_proba(X.iloc[:3]), rtol=1e-6)
    stdin = io.TextIOWrapper(io.BytesIO(path.read_bytes()))
    monkeypatch.setattr("sys.stdin", stdin)
    assert json.loads(run("predict", "iris"))["answers"] == model.predict(X.iloc[:3]).tolist()


def test_predict_says_what_does_not_fit(tmp_path: Path) -> None:
    from django.core.management import CommandError

    path = tmp_path / "rows.json"
    path.write_text('[{"petal length (cm)": "long"}]')
    with pytest.raises(CommandError, match=r"(?s)do not fit.*petal length.*petal width"):
        run("predict", "iris", "--rows", str(path))
    with pytest.raises(CommandError, match="No such file"):
        run("predict", "iris", "--rows", str(tmp_path / "none"))
    with pytest.raises(CommandError, match="No model `nobody`"):
        run("predict", "nobody", "--rows", str(path))


def test_openapi() -> None:
    document = json.loads(run("openapi", "--title", "Flowers"))
    assert document["info"]["title"] == "Flowers"
    assert document["servers"] == [{"url": "/models"}]
    moved = json.loads(run("openapi", "--prefix", "api/v1"))
    assert moved["servers"] == [{"url": "/api/v1"}]
