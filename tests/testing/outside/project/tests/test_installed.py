import importlib.util
import sys
from pathlib import Path

import infersdk


def test_the_wheel_is_what_is_tested_and_no_framework_is_there():
    assert Path(infersdk.__file__).is_relative_to(sys.prefix)
    for name in ("sklearn", "pandas", "torch", "skl2onnx"):
        assert importlib.util.find_spec(name) is None, name
    assert not list(Path().rglob("*.onnx"))
