"""The only doorway to compiled code: every name the rest of the package may use is listed here."""

from __future__ import annotations

# ruff: noqa: E402
from .interpreter import refuse_subinterpreters

refuse_subinterpreters()  # before NumPy and compiled modules fail in a way that nobody understands

from .binder import Bound, RowBinder, TensorBinder, narrowed, take_labels, widen
from .library import find_library, open_library
from .providers import DeviceTensor
from .session import (
    KEEP_GIL_S,
    Call,
    Completions,
    FunctionQueue,
    Session,
    answers_as_list,
    gives_up,
    set_cooperative_wait,
)

__all__ = [
    "KEEP_GIL_S",
    "Bound",
    "Call",
    "Completions",
    "DeviceTensor",
    "FunctionQueue",
    "RowBinder",
    "Session",
    "TensorBinder",
    "answers_as_list",
    "find_library",
    "gives_up",
    "narrowed",
    "open_library",
    "set_cooperative_wait",
    "take_labels",
    "widen",
]
