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
    CallTimes,
    Completions,
    FunctionQueue,
    MeteredCall,
    MeteredMethod,
    MethodMeter,
    ModelMeter,
    Session,
    advance_clock,
    answers_as_list,
    clock_ns,
    gives_up,
    hold_clock,
    metered_function,
    metered_method,
    metered_run,
    release_clock,
    row_bounds,
    row_count,
    set_call_observer,
    set_cooperative_wait,
    set_metering,
    time_bounds_s,
)

__all__ = [
    "KEEP_GIL_S",
    "Bound",
    "Call",
    "CallTimes",
    "Completions",
    "DeviceTensor",
    "FunctionQueue",
    "MeteredCall",
    "MeteredMethod",
    "MethodMeter",
    "ModelMeter",
    "RowBinder",
    "Session",
    "TensorBinder",
    "advance_clock",
    "answers_as_list",
    "clock_ns",
    "find_library",
    "gives_up",
    "hold_clock",
    "metered_function",
    "metered_method",
    "metered_run",
    "narrowed",
    "open_library",
    "release_clock",
    "row_bounds",
    "row_count",
    "set_call_observer",
    "set_cooperative_wait",
    "set_metering",
    "take_labels",
    "time_bounds_s",
    "widen",
]
