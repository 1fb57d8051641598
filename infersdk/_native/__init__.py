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
    advance_clock,
    answers_as_list,
    clock_ns,
    gives_up,
    hold_clock,
    release_clock,
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
    "advance_clock",
    "answers_as_list",
    "clock_ns",
    "find_library",
    "gives_up",
    "hold_clock",
    "narrowed",
    "open_library",
    "release_clock",
    "set_cooperative_wait",
    "take_labels",
    "widen",
]
