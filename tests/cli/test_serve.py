"""What `infersdk serve` understands, and what it refuses before there is a server. The server: tests/web/server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("typer", reason="the command line needs it")

from typer.testing import CliRunner, Result

from infersdk.cli.inputs import UsageError
from infersdk.cli.served_models import named_models


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("iris.onnx", "a=b.onnx", "wine.cbm", "old one.pkl", "notes.txt"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What the server was told, instead of a server."""
    pytest.importorskip("orjson")
    found: list[Any] = []
    monkeypatch.setattr(
        "infersdk.web.server.serve", lambda options, announce: found.append(options)
    )
    return found


def run(*arguments: str, environment: Mapping[str, str] | None = None) -> Result:
    from infersdk.cli.app import app

    return CliRunner().invoke(app, ["serve", *arguments], env=dict(environment or {}))


# -- which models ---------------------------------------------------------------------------------


def test_models_are_called_as_their_files_or_as_was_said(folder: Path) -> None:
    found = named_models(["iris.onnx", "churn=iris.onnx", "a=b.onnx"], trust=False, folder=None)
    assert found == {
        "iris": str(folder / "iris.onnx"),
        "churn": str(folder / "iris.onnx"),
        "a_b": str(folder / "a=b.onnx"),
    }


def test_what_is_to_be_imported_is_imported_later(folder: Path) -> None:
    (folder / "shop_of_serve.py").write_text("raise RuntimeError\n")
    found = named_models(["shop_of_serve:make", "x=shop_of_serve:make"], trust=False, folder=None)
    assert list(found) == ["make", "x"]
    with pytest.raises(RuntimeError):
        found["x"]()


def test_a_folder_of_models(folder: Path) -> None:
    found = named_models([], trust=False, folder=str(folder))
    assert list(found) == ["a_b", "iris", "wine"]
    assert "old_one" in named_models([], trust=True, folder=str(folder))


@pytest.mark.parametrize(
    ("texts", "folder_name", "message"),
    [
        (["lost.onnx"], None, r"got 'lost\.onnx', which does not exist"),
        (["x=lost.onnx"], None, r"got 'lost\.onnx', which does not exist"),
        (["old one.pkl"], None, "Say --trust"),
        (["iris.onnx", "iris=wine.cbm"], None, "got `iris` twice; say name=path"),
        ([], "lost", "lost does not exist. Name models as arguments"),
        ([], "pickles", "got none. Opening the pickles there .* say --trust"),
        ([], None, "/opt/ml/model does not exist"),
    ],
)
def test_models_that_there_are_not(
    folder: Path, texts: list[str], folder_name: str | None, message: str
) -> None:
    (folder / "pickles").mkdir()
    (folder / "pickles" / "a.pkl").touch()
    with pytest.raises(UsageError, match=message):
        named_models(texts, trust=False, folder=folder_name)


# -- options --------------------------------------------------------------------------------------


def test_everything_is_on_by_default_but_for_strangers(folder: Path, started: list[Any]) -> None:
    assert run("iris.onnx").exit_code == 0
    [options] = started
    assert (options.host, options.port, options.grpc_port) == ("127.0.0.1", 8080, None)
    assert options.settings.protocols == ("rows", "oip", "invocations")
    assert options.settings.metrics
    assert not options.settings.admin
    assert options.settings.tokens == ()
    assert 1 <= options.workers <= 8


def test_containers_say_it_in_the_environment(folder: Path, started: list[Any]) -> None:
    environment = {
        "INFERSDK_MODEL_DIR": str(folder),
        "INFERSDK_HOST": "0.0.0.0",
        "SAGEMAKER_BIND_TO_PORT": "8443",
        "INFERSDK_PROTOCOL": "rows oip",
        "INFERSDK_WORKERS": "3",
        "INFERSDK_TIMEOUT_S": "0",
        "INFERSDK_METRICS": "0",
        "INFERSDK_TOKEN": "s3cret",
        "INFERSDK_LOG_FORMAT": "json",
    }
    assert run(environment=environment).exit_code == 0
    [options] = started
    assert list(options.settings.models) == ["a_b", "iris", "wine"]
    assert (options.host, options.port, options.workers) == ("0.0.0.0", 8443, 3)
    assert options.settings.protocols == ("rows", "oip")
    assert options.settings.timeout_s is None
    assert not options.settings.metrics
    assert options.settings.tokens == ("s3cret",)
    assert options.log_format == "json"
    assert "s3cret" not in repr(options)


def test_tokens_of_a_file(folder: Path, started: list[Any]) -> None:
    (folder / "tokens").write_text("one\n\n two \n")
    assert run("iris.onnx", "--token-file", "tokens").exit_code == 0
    assert started[0].settings.tokens == ("one", "two")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lost.onnx"], "which does not exist"),
        (["iris.onnx", "--protocol", "soap"], "Expected protocols to be of rows, oip, invocations"),
        (["iris.onnx", "--metrics-alias", "soap"], "Expected metrics_aliases to be of"),
        (["iris.onnx", "--token-env", "LOST"], "environment variable LOST, which is not set"),
        (["iris.onnx", "--token-file", "lost"], "'lost' cannot be read"),
        (["iris.onnx", "--token-file", "notes.txt"], "got an empty file"),
        (["iris.onnx", "--admin", "--host", "0.0.0.0"], "would let anybody open and close models"),
        (["iris.onnx", "--tls-cert", "notes.txt"], "needs both --tls-cert and --tls-key"),
        (["iris.onnx", "--port", "70000"], "Expected port to be from 0 to 65535"),
        (["iris.onnx", "--port", "9000", "--grpc-port", "9000"], "gRPC to have a port of its own"),
        (["iris.onnx", "--idle-timeout-s", "0"], "Expected idle_timeout_s to be seconds"),
        (["iris.onnx", "--timeout-s", "-1"], "Expected timeout_s to be a positive number"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(
    folder: Path, started: list[Any], arguments: list[str], message: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.output.replace("\n", " ")
    assert "Traceback" not in result.output
    assert not started


@pytest.mark.parametrize("guarded", [["--token-env", "MINE"], ["--host", "127.0.0.1"]])
def test_admin_pages_need_a_guard(folder: Path, started: list[Any], guarded: list[str]) -> None:
    host = [] if "--host" in guarded else ["--host", "0.0.0.0"]
    result = run("iris.onnx", "--admin", *host, *guarded, environment={"MINE": "x"})
    assert result.exit_code == 0
    assert started[0].settings.admin
