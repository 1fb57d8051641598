"""Keeping quiet what a model's forward() and torch's exporters have to say while a model is converted."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
import warnings
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


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings, progress and dumps of graphs: forward()'s own, and the exporters'.

    Prints are dropped for this thread only; Python's warnings and torch's loggers know no threads.
    """
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        if sys.stdout is not None:
            stack.enter_context(contextlib.redirect_stdout(_OtherThreads(sys.stdout)))
        if sys.stderr is not None:
            stack.enter_context(contextlib.redirect_stderr(_OtherThreads(sys.stderr)))
        try:
            for name in _LOGGERS:
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


class _OtherThreads(io.TextIOBase):
    """A stream that drops what this thread writes and passes on what others do."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._silent = threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() == self._silent:
            return len(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()
