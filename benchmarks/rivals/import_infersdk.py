"""infersdk, with all that it imports."""

from __future__ import annotations

import importlib
from typing import Any

from benchmarks.task import Task

label = "import infersdk"


def setup(task: Task) -> None:
    """The import is what is measured."""


def run(i: int) -> Any:
    return importlib.import_module("infersdk")
