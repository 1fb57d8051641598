"""The only doorway to compiled code: every name the rest of the package may use is listed here."""

from __future__ import annotations

from .binder import RowBinder
from .library import find_library, open_library
from .session import Session

__all__ = ["RowBinder", "Session", "find_library", "open_library"]
