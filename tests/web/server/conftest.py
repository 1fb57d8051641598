"""What the server's tests need, and where they can run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def broken(iris: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a model, of which the end is missing."""
    path = tmp_path_factory.mktemp("broken") / "broken.onnx"
    whole = iris.path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path
