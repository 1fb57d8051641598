"""The commands as they are typed: what they print, and with which status they end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("typer", reason="the command line needs it")
pytest.importorskip("sklearn", reason="the models are scikit-learn's")

from typer.testing import CliRunner, Result

APP = """
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

rng = np.random.default_rng(0)
X = rng.normal(size=(80, 3))
y = np.where(X[:, 0] > 0, "yes", "no")
model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)

class First(RegressorMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.n_features_in_ = X.shape[1]
        return self
    def predict(self, X):
        return np.asarray(X)[:, 0]

def own():
    return First().fit(X)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop_models.py").write_text(APP)
    np.save(folder / "rows.npy", np.random.default_rng(1).normal(size=(40, 3)))
    np.save(folder / "narrow.npy", np.zeros((4, 2)))
    return folder


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    yield
    sys.modules.pop("shop_models", None)


def _typed(*words: str) -> Result:
    from infersdk.cli.app import app

    return CliRunner().invoke(app, list(words))


def _json(result: Result) -> Any:
    assert not isinstance(result.exception, Exception), result.exception
    return json.loads(result.stdout)


def test_version() -> None:
    result = _typed("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("infersdk ")


def test_without_a_command_there_is_help() -> None:
    result = _typed()
    for name in ("doctor", "convert", "info"):
        assert name in result.output


def test_doctor_shows_the_environment() -> None:
    result = _typed("doctor")
    assert "ONNX Runtime" in result.stdout
    assert "scikit-learn" in result.stdout
    data = _json(_typed("doctor", "--json"))
    assert data["sound"] is (result.exit_code == 0)
    assert data["environment"]["infersdk"]
    assert "model" not in data


def test_doctor_proves_a_model() -> None:
    result = _typed("doctor", "shop_models:model", "--example", "rows.npy")
    assert "proven" in result.stdout
    assert "predict_proba" in result.stdout
    assert "StandardScaler" in result.stdout
    found = _json(_typed("doctor", "shop_models:model", "--example", "rows.npy", "--json"))
    assert found["model"]["sound"] is True
    assert found["model"]["parity"]["n_example_rows"] == 40
    assert result.exit_code == (0 if found["environment"]["findings"] == [] else 1)


def test_doctor_says_why_a_model_stays_and_what_to_do() -> None:
    result = _typed("doctor", "shop_models:own", "--example", "shop_models:X")
    assert result.exit_code == 1
    assert "native" in result.stdout
    assert "infersdk.convert.register(First)" in result.stdout


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_doctor_draws(folder: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib", reason="it draws")
    result = _typed(
        "doctor", "shop_models:model", "--example", "rows.npy", "--plot", f"errors.{suffix}"
    )
    assert f"errors.{suffix}" in result.stdout
    assert (folder / f"errors.{suffix}").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("doctor", "nowhere.onnx"), "does not exist"),
        (("doctor", "shop_models:nothing"), "there is no 'nothing'"),
        (("doctor", "shop_models:model", "--example", "nowhere.npy"), "does not exist"),
        (("doctor", "shop_models:model", "--example", "narrow.npy"), "example"),
        (("doctor", "--example", "rows.npy"), "need a MODEL"),
        (("doctor", "shop_models:model", "--plot", "errors.doc"), ".png, .svg, .pdf"),
        (("doctor", "--no-such-option"), "no-such-option"),
        (("convert", "shop_models:model"), "--output"),
        (("info", "nowhere.onnx"), "nowhere.onnx"),
    ],
)
def test_mistakes_end_with_status_two(words: tuple[str, ...], message: str) -> None:
    result = _typed(*words)
    assert result.exit_code == 2
    assert message in result.output


def test_convert_writes_a_file_that_info_and_doctor_read(folder: Path) -> None:
    import infersdk

    result = _typed("convert", "shop_models:model", "-o", "shop.onnx", "--example", "rows.npy")
    assert result.exit_code == 0, result.output
    rows = np.load(folder / "rows.npy")
    import shop_models  # type: ignore[import-not-found]

    with infersdk.load(folder / "shop.onnx") as predictor:
        np.testing.assert_array_equal(predictor.predict(rows), shop_models.model.predict(rows))
    shown = _typed("info", "shop.onnx")
    assert shown.exit_code == 0
    for word in ("sklearn.pipeline.Pipeline", "predict_proba", "labels, 2 classes", "x0"):
        assert word in shown.stdout
    data = _json(_typed("info", "shop.onnx", "--json"))
    assert data["provenance"]["framework"] == "scikit-learn"
    assert len(data["sha256"]) == 64
    assert _json(_typed("doctor", "shop.onnx", "--json"))["model"]["verdict"] == "proven"


def test_convert_refuses_what_does_not_convert(folder: Path) -> None:
    result = _typed("convert", "shop_models:own", "-o", "own.onnx", "--example", "shop_models:X")
    assert result.exit_code == 1
    assert "register(First)" in result.output
    assert not (folder / "own.onnx").exists()


@pytest.mark.slow
def test_convert_in_fewer_bits(folder: Path) -> None:
    pytest.importorskip("torch", reason="the model is PyTorch's")
    (folder / "net.py").write_text(
        "import torch\n"
        "torch.manual_seed(0)\n"
        "model = torch.nn.Sequential(torch.nn.Linear(3, 512), torch.nn.ReLU(), torch.nn.Linear(512, 2)).eval()\n"
        "rows = torch.randn(64, 3)\n"
    )
    words = ("convert", "net:model", "-o", "net.onnx", "--precision", "fp16")
    refused = _typed(*words)
    assert refused.exit_code == 2
    assert "example" in refused.output
    done = _typed(*words, "--example", "net:rows")
    assert done.exit_code == 0, done.output
    assert "fp16" in done.stdout
    report = _json(_typed("info", "net.onnx", "--json"))["precision"]
    assert report["precision"] == "fp16"
    assert _typed(*words, "--example", "net:rows", "--max-drop", "0").exit_code == 1


def test_pickles_are_opened_on_trust_only(folder: Path) -> None:
    import pickle

    import shop_models

    (folder / "model.pkl").write_bytes(pickle.dumps(shop_models.model))
    words = ("doctor", "model.pkl", "--example", "rows.npy", "--json")
    refused = _typed(*words)
    assert refused.exit_code == 2
    assert "--trust" in refused.output
    assert _json(_typed(*words, "--trust"))["model"]["verdict"] == "proven"


@pytest.mark.slow
def test_the_module_runs_as_a_command_and_keeps_noise_off_its_answer(folder: Path) -> None:
    (folder / "noisy.py").write_text(
        "import os, shop_models\n"
        "print('hello from the app')\n"
        "os.write(1, b'from below Python too')\n"
        "model = shop_models.model\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "infersdk",
            "doctor",
            "noisy:model",
            "--example",
            "rows.npy",
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert json.loads(done.stdout)["model"]["verdict"] == "proven"
    assert "hello from the app" in done.stderr


def test_without_its_packages_the_command_names_the_extra() -> None:
    code = """
import sys
sys.modules["typer"] = None
import infersdk.cli
infersdk.cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith('pip install "infersdk[cli]"')
    assert len(done.stderr.strip().splitlines()) == 1
