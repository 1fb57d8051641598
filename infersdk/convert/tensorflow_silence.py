"""Keeping quiet what TensorFlow, Keras and their exporters have to say while a model is converted.

Python's side is a matter of loggers and streams. What TensorFlow's C++ writes goes past both, and its own
switch (``TF_CPP_MIN_LOG_LEVEL``) is read once, when it is imported; so the level of the log library inside
it is raised while a conversion runs, where the library can be found, and put back.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import mmap
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator

from infersdk.convert.torch_silence import quiet as quiet_streams

__all__ = ["quiet", "quiet_import"]

_LOGGERS = ("absl", "jax", "jax2onnx", "keras", "tensorflow", "tf2onnx")
_FATAL = 3

_lock = threading.Lock()
_inside = 0
_undo = contextlib.ExitStack()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings, progress and logs. The process's settings are put back when the last one leaves."""
    global _inside
    with _lock:
        if not _inside:
            _silence(_undo)
        _inside += 1
    try:
        with quiet_streams():
            yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _undo.close()


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Silence what TensorFlow's C++ says on its import, unless the user asked to hear it."""
    name = "TF_CPP_MIN_LOG_LEVEL"
    if name in os.environ or "tensorflow" in sys.modules:
        yield
        return
    os.environ[name] = "2"
    try:
        yield
    finally:
        os.environ.pop(name, None)


def _silence(undo: contextlib.ExitStack) -> None:
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        undo.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL + 1)
    # tf2onnx also writes to the root logger, which is everyone's.
    root = logging.getLogger()
    root.addFilter(_is_no_exporters)
    undo.callback(root.removeFilter, _is_no_exporters)
    level = _native_level() if "tensorflow" in sys.modules else None
    if level is not None:
        get, put = level
        undo.callback(put, get())
        put(_FATAL)


def _is_no_exporters(record: logging.LogRecord) -> bool:
    return "tf2onnx" not in record.pathname


@functools.cache
def _native_level() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """Getter and setter of the log level in TensorFlow's library; None where they cannot be found.

    Their names have the log library's version in them, so they are looked up in the table of symbols.
    """
    folder = os.path.dirname(sys.modules["tensorflow"].__file__ or "")
    path = os.path.join(folder, "libtensorflow_framework.so.2")
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = re.search(
                rb"_ZN4absl(\d+lts_\d+)14SetMinLogLevelENS0_18LogSeverityAtLeastE\0", data
            )
            if found is None:
                return None
            version = found.group(1).decode()
        library = ctypes.CDLL(path, mode=ctypes.RTLD_LOCAL)
        get = library[f"_ZN4absl{version}11MinLogLevelEv"]
        put = library[f"_ZN4absl{version}14SetMinLogLevelENS0_18LogSeverityAtLeastE"]
    except (OSError, AttributeError, ValueError):
        return None
    get.restype, get.argtypes = ctypes.c_int, []
    put.restype, put.argtypes = None, [ctypes.c_int]
    return get, put
