"""Where and with what a measurement was made."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["machine", "versions"]

PACKAGES = (
    "infersdk",
    "numpy",
    "onnx",
    "onnxruntime",
    "scikit-learn",
    "pandas",
    "xgboost-cpu",
    "xgboost",
    "lightgbm",
    "torch",
    "flask",
    "gunicorn",
    "django",
    "fastapi",
    "uvicorn",
    "uvloop",
    "httptools",
    "granian",
    "orjson",
)


def machine() -> dict[str, Any]:
    """The processor, the cores this process may use, and the system."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": platform.platform(),
        "load_average": os.getloadavg()[0],
    }


def versions() -> dict[str, str]:
    """Python's version and that of each package that takes part, where installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
