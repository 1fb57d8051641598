"""The front door: which names there are, and what importing them costs."""

from __future__ import annotations

import inspect
import subprocess
import sys
import types
from pathlib import Path

import pytest

import infersdk
from infersdk import errors

ROOT = Path(__file__).parents[1]


def test_the_names_are_sorted_and_there() -> None:
    assert list(infersdk.__all__) == sorted(infersdk.__all__)
    assert len(set(infersdk.__all__)) == len(infersdk.__all__)
    for name in infersdk.__all__:
        assert getattr(infersdk, name) is not None


def test_no_public_name_is_left_out() -> None:
    public = {
        name
        for name, value in vars(infersdk).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    public -= {"annotations"}  # from __future__
    assert public <= set(infersdk.__all__)


def test_every_error_is_exported() -> None:
    assert set(errors.__all__) <= set(infersdk.__all__)


def test_every_public_object_has_a_docstring_and_knows_its_module() -> None:
    for name in infersdk.__all__:
        value = getattr(infersdk, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, name
            assert value.__module__.startswith("infersdk"), name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = infersdk.no_such_name  # type: ignore[attr-defined]


def test_importing_infersdk_imports_numpy_and_no_framework() -> None:
    heavy = (
        "google.protobuf",
        "lightgbm",
        "onnx",
        "onnxmltools",
        "onnxruntime",
        "pandas",
        "scipy",
        "skl2onnx",
        "sklearn",
        "torch",
        "xgboost",
    )
    code = f"import sys, infersdk; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
