"""A framework that is not installed: one sentence that names the extra which installs it."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import infersdk
from infersdk.convert import registry

HEAVY = (
    "catboost",
    "coremltools",
    "equinox",
    "flax",
    "jax",
    "keras",
    "lightgbm",
    "lightning",
    "onnx",
    "onnxruntime",
    "pandas",
    "pyspark",
    "sentence_transformers",
    "skl2onnx",
    "skops",
    "skorch",
    "sklearn",
    "statsmodels",
    "tensorflow",
    "tf2onnx",
    "tokenizers",
    "torch",
    "transformers",
    "xgboost",
)


def keras_file(folder: Path) -> Path:
    path = folder / "model.keras"
    path.write_bytes(b"PK\x03\x04")
    return path


def saved_model(folder: Path) -> Path:
    (folder / "saved_model.pb").write_bytes(b"\x08\x01")
    return folder


def transformer(folder: Path) -> Path:
    (folder / "config.json").write_text('{"model_type": "bert", "architectures": ["BertModel"]}')
    return folder


def sentence_transformer(folder: Path) -> Path:
    (folder / "modules.json").write_text("[]")
    return transformer(folder)


def named(name: str, content: bytes):
    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content)
        return path

    write.__name__ = name
    return write


@pytest.mark.parametrize(
    ("package", "extra", "write"),
    [
        ("keras", "keras", keras_file),
        ("tensorflow", "tensorflow", saved_model),
        ("transformers", "transformers", transformer),
        ("sentence_transformers", "sentence-transformers", sentence_transformer),
        ("xgboost", "xgboost", named("m.ubj", b"{L\x00")),
        ("lightgbm", "lightgbm", named("m.txt", b"tree\nversion=v4\n")),
        ("catboost", "catboost", named("m.cbm", b"CBM1")),
        ("libsvm", "libsvm", named("m.model", b"svm_type c_svc\n")),
        ("coremltools", "coreml", named("m.mlmodel", b"\x08\x01")),
        ("skops", "skops", named("m.skops", b"PK\x03\x04")),
    ],
)
def test_a_file_of_a_missing_framework(tmp_path, monkeypatch, package, extra, write):
    path = write(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(infersdk.MissingDependencyError) as caught:
        infersdk.load(path)
    text = str(caught.value)
    assert f'pip install "infersdk[{extra}]"' in text
    assert len(re.findall(r"[.!?](?:\s|$)", text)) <= 2, text
    assert "\n" not in text


def test_looking_for_a_converter_imports_no_framework():
    code = f"""
import sys
from infersdk.convert import registry
from infersdk.errors import UnsupportedModelError
try:
    registry.find(object())
except UnsupportedModelError:
    print([name for name in {HEAVY!r} if name in sys.modules and name not in ("onnx",)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_every_converter_is_registered_and_named_once():
    converters = [importlib.import_module(f"infersdk.convert.{n}") for n in registry._BUILT_IN]
    frameworks = [converter.FRAMEWORK for converter in converters]
    assert len(set(frameworks)) == len(frameworks) >= 15
    # A subclass's converter is asked before that of its base.
    order = registry._BUILT_IN.index
    for first, then in [
        ("skorch", "sklearn"),
        ("xgboost", "sklearn"),
        ("catboost", "sklearn"),
        ("keras", "torch"),
        ("transformers", "torch"),
        ("sentence_transformers", "transformers"),
    ]:
        assert order(first) < order(then)
