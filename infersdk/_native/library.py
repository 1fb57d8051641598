"""Finding ONNX Runtime's shared library inside whichever onnxruntime distribution is installed.

The Python package `onnxruntime` is located but never imported: its extension module carries a second
copy of the runtime, and importing it costs a quarter of a second.
"""

from __future__ import annotations

import importlib.util
import os
import threading
from pathlib import Path

from ..errors import MissingDependencyError
from .session import open_library as _open_library

__all__ = ["find_library", "open_library"]

_TELEMETRY = "ORT_DISABLE_TELEMETRY"
_lock = threading.Lock()
_opened: str | None = None


def _renew_lock() -> None:
    """In the child of a fork, where a thread of the parent would hold the lock for ever."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def find_library() -> Path:
    """Return the path of ``libonnxruntime`` in the installed onnxruntime distribution.

    Raises
    ------
    MissingDependencyError
        No onnxruntime distribution is installed, or it holds no shared library.
    """
    spec = importlib.util.find_spec("onnxruntime")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    for folder in folders:
        capi = Path(folder) / "capi"
        found = sorted(
            path
            for pattern in ("libonnxruntime.so*", "libonnxruntime*.dylib")
            for path in capi.glob(pattern)
        )
        if found:
            return found[0]
    if folders:
        raise MissingDependencyError(
            f"The onnxruntime package in {folders[0]} holds no libonnxruntime. "
            'Reinstall it: pip install --force-reinstall "infersdk[cpu]"'
        )
    raise MissingDependencyError(
        "Running a model needs ONNX Runtime, which is not installed. "
        'Install it with: pip install "infersdk[cpu]" (or "infersdk[gpu]")'
    )


def open_library() -> str:
    """Open ONNX Runtime once per process and return its version.

    Its telemetry is off unless the user has set ``ORT_DISABLE_TELEMETRY`` themselves; the variable is
    read while the library loads and makes its environment, so it is set for that moment only and child
    processes do not see it.

    Raises
    ------
    MissingDependencyError
        The library is not installed, cannot be opened, or is too old.
    """
    global _opened
    if _opened is None:
        with _lock:
            if _opened is None:
                path = find_library()
                chosen = _TELEMETRY in os.environ
                if not chosen:
                    os.environ[_TELEMETRY] = "1"
                try:
                    _opened = _open_library(str(path))
                finally:
                    if not chosen:
                        del os.environ[_TELEMETRY]
    return _opened
