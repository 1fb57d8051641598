"""Which converter takes which model, and what is said to the others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from infersdk.convert import registry
from infersdk.convert.registry import find, naming_the_extra, register
from infersdk.errors import MissingDependencyError, UnsupportedModelError

FUNCTIONS = ("can_convert", "infer_signature", "to_onnx", "call", "edge_rows")


class Gadget:
    """A model of a framework that infersdk has never heard of."""


def make_converter(framework: str = "Gadgets", takes: type = Gadget) -> SimpleNamespace:
    converter = SimpleNamespace(**dict.fromkeys(FUNCTIONS, lambda *args, **kwargs: None))
    converter.FRAMEWORK = framework
    converter.EXTRA = "gadgets"
    converter.can_convert = lambda model: isinstance(model, takes)
    return converter


@pytest.fixture(autouse=True)
def _only_built_in(monkeypatch):
    monkeypatch.setattr(registry, "_registered", [])


@pytest.mark.parametrize(
    ("module", "make", "framework"),
    [
        ("xgboost", lambda m: m.XGBClassifier(), "XGBoost"),
        ("xgboost", lambda m: m.XGBRanker(), "XGBoost"),
        ("lightgbm", lambda m: m.LGBMRegressor(), "LightGBM"),
        ("sklearn.linear_model", lambda m: m.LogisticRegression(), "scikit-learn"),
        ("sklearn.pipeline", lambda m: m.make_pipeline("passthrough"), "scikit-learn"),
        ("torch", lambda m: m.nn.Linear(2, 1), "PyTorch"),
        ("onnx", lambda m: m.ModelProto(), "ONNX"),
    ],
)
def test_each_framework_has_its_converter(module, make, framework):
    model = make(pytest.importorskip(module))
    converter = find(model)
    assert framework == converter.FRAMEWORK
    assert all(callable(getattr(converter, name)) for name in FUNCTIONS)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("churn.onnx", "churn"),
        (Path("models/churn.v2.ubj"), "churn.v2"),
        (b"\x08\x01", "model"),
        (Gadget(), "Gadget"),
        ((Gadget(), object()), "Gadget"),
    ],
    ids=["file", "path", "bytes", "model", "model and tokenizer"],
)
def test_what_a_model_without_a_name_is_called(model, name):
    assert registry.name_of(model) == name


def test_a_folder_is_called_as_it_is(tmp_path, monkeypatch):
    for folder, name in (("bert-v1.5", "bert-v1.5"), ("Net.mlpackage", "Net")):
        (tmp_path / folder).mkdir()
        assert registry.name_of(f"{tmp_path / folder}/") == name
    monkeypatch.chdir(tmp_path / "bert-v1.5")
    assert registry.name_of(".") == "bert-v1.5"


def test_a_path_is_opened_only_where_the_converter_takes_paths():
    converter = make_converter()
    assert registry.open_source("gadget", converter) == "gadget"
    converter.open_source = lambda model: Gadget() if model == "gadget" else model
    assert isinstance(registry.open_source("gadget", converter), Gadget)


@pytest.mark.parametrize("model", ["churn.onnx", b"\x08\x01"])
def test_onnx_files_are_taken_by_path_and_as_bytes(model):
    assert find(model).FRAMEWORK == "ONNX"


def test_a_subclass_in_the_users_own_module_is_found():
    linear_model = pytest.importorskip("sklearn.linear_model")

    class Mine(linear_model.Ridge):
        pass

    assert Mine.__module__ == __name__
    assert find(Mine()).FRAMEWORK == "scikit-learn"


def test_looking_up_imports_no_framework():
    script = (
        "import sys; from infersdk.convert.registry import find\n"
        "from infersdk.errors import UnsupportedModelError\n"
        "try: find(object())\n"
        "except UnsupportedModelError: pass\n"
        "bad = {'sklearn', 'xgboost', 'lightgbm', 'torch', 'pandas', 'skl2onnx', 'onnxmltools', 'onnx'}\n"
        "bad &= set(sys.modules)\n"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_unknown_type_is_named_with_what_is_supported():
    with pytest.raises(UnsupportedModelError) as caught:
        find(Gadget())
    message = str(caught.value)
    assert f"got `{__name__}.Gadget`" in message
    for framework in ("scikit-learn", "XGBoost", "LightGBM", "PyTorch", "ONNX"):
        assert framework in message
    assert "register" in message


def test_a_class_instead_of_a_model_is_pointed_out():
    linear_model = pytest.importorskip("sklearn.linear_model")
    with pytest.raises(UnsupportedModelError, match="Pass a fitted `Ridge`, not the class itself"):
        find(linear_model.Ridge)


@pytest.mark.parametrize(
    ("package", "way"),
    [("paddle", "paddle2onnx")],
)
def test_a_framework_with_its_own_export_is_told_how(package, way):
    model = type("Model", (), {"__module__": f"{package}.core"})()
    with pytest.raises(UnsupportedModelError, match=f"Write an ONNX file with .*{way}"):
        find(model)


def test_a_path_that_is_no_model_is_pointed_out():
    with pytest.raises(
        UnsupportedModelError, match=r"got 'model\.bin', and there is no such file or folder"
    ):
        find("model.bin")
    with pytest.raises(UnsupportedModelError, match=r"Opened by their path are \.onnx, \.keras"):
        find(__file__)


def test_a_registered_converter_is_found():
    converter = make_converter()
    register(converter)
    assert find(Gadget()) is converter


def test_a_registered_converter_is_asked_first():
    class SpecialPath(str):
        pass

    converter = make_converter(takes=SpecialPath)
    register(converter)
    assert find(SpecialPath("m.onnx")) is converter
    assert find("m.onnx").FRAMEWORK == "ONNX"


@pytest.mark.parametrize("framework", ["scikit-learn", "Scikit-Learn", "ONNX"])
def test_a_built_in_framework_cannot_be_registered_again(framework):
    with pytest.raises(ValueError, match="has a converter already"):
        register(make_converter(framework))


def test_a_framework_cannot_be_registered_twice():
    first = make_converter()
    register(first)
    with pytest.raises(ValueError, match="Gadgets has a converter already"):
        register(make_converter())
    assert find(Gadget()) is first


@pytest.mark.parametrize("name", [*FUNCTIONS, "FRAMEWORK", "EXTRA"])
def test_a_converter_with_a_name_missing_is_refused(name):
    converter = make_converter()
    delattr(converter, name)
    with pytest.raises(TypeError, match=f"Expected a converter with {name}"):
        register(converter)
    with pytest.raises(UnsupportedModelError):
        find(Gadget())


def test_a_missing_exporter_names_the_extra():
    with (
        pytest.raises(MissingDependencyError, match=r'pip install "infersdk\[gadgets\]"') as caught,
        naming_the_extra(make_converter()),
    ):
        raise ModuleNotFoundError("No module named 'skl2onnx'", name="skl2onnx.common")
    assert "`skl2onnx`" in str(caught.value)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_an_import_error_of_the_users_own_code_stays_what_it_is():
    with (
        pytest.raises(ModuleNotFoundError, match="theirs") as caught,
        naming_the_extra(make_converter()),
    ):
        raise ModuleNotFoundError("No module named 'theirs'", name="theirs")
    assert not isinstance(caught.value, MissingDependencyError)
