"""The only doorway to compiled code: every name the rest of the package may use is listed here."""

from __future__ import annotations

from .binder import Bound, RowBinder, TensorBinder, narrowed, take_labels, widen
from .library import find_library, open_library
from .session import Session

__all__ = [
    "Bound",
    "RowBinder",
    "Session",
    "TensorBinder",
    "find_library",
    "narrowed",
    "open_library",
    "take_labels",
    "widen",
]
