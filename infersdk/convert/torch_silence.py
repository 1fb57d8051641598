"""Keeping quiet what a model's forward() and torch's exporters have to say while a model is converted.

What is silenced belongs to the process: streams, loggers, warning filters. So the first thread that enters
sets it up and the last that leaves puts it back; in between, only the threads inside are not heard.
Python's warnings and torch's loggers know no threads, and are off for all of them for that time.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

__all__ = ["quiet"]

_LOGGERS = (
    "torch",
    "torch.export",
    "torch.onnx",
    "torch.fx",
    "torch._dynamo",
    "onnxscript",
    "onnx_ir",
)

_lock = threading.Lock()
_inside: Counter[int] = Counter()
_undo = contextlib.ExitStack()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings, progress and dumps of graphs; prints of this thread only."""
    thread = threading.get_ident()
    with _lock:
        if not _inside:
            _silence(_undo)
        _inside[thread] += 1
    try:
        # Where filters belong to a thread's context, each thread has to ignore for itself.
        with _ignoring() if _filters_are_local() else contextlib.nullcontext():
            yield
    finally:
        with _lock:
            _inside[thread] -= 1
            if not _inside[thread]:
                del _inside[thread]
            if not _inside:
                _undo.close()


def _silence(undo: contextlib.ExitStack) -> None:
    if not _filters_are_local():
        undo.enter_context(_ignoring())
    if sys.stdout is not None:
        undo.enter_context(contextlib.redirect_stdout(_OtherThreads(sys.stdout)))
    if sys.stderr is not None:
        undo.enter_context(contextlib.redirect_stderr(_OtherThreads(sys.stderr)))
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        undo.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.CRITICAL + 1)


@contextlib.contextmanager
def _ignoring() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _filters_are_local() -> bool:
    return bool(getattr(sys.flags, "context_aware_warnings", False))


class _OtherThreads(io.TextIOBase):
    """A stream that drops what the threads inside write and passes on what others do."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if threading.get_ident() in _inside:
            return len(text)
        return int(self._stream.write(text))

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return int(self._stream.fileno())

    def isatty(self) -> bool:
        return bool(self._stream.isatty())
