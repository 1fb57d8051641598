"""A thread that computes in pure Python and never waits: the rest of a busy app, as the GIL sees it."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

__all__ = ["Burner"]

_STEP = 200


class Burner:
    """A context in which a thread burns, from ``light`` on.

    Attributes
    ----------
    steps : int
        What it got done, in steps of some microseconds.
    """

    def __init__(self) -> None:
        self.steps = 0
        self._lit = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._burn, name="burner", daemon=True)

    def light(self) -> None:
        """Begin to burn."""
        self._lit.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop = True
        self._lit.set()
        self._thread.join()

    def _burn(self) -> None:
        self._lit.wait()
        value = 1
        while not self._stop:
            for _ in range(_STEP):
                value = (value * 1103515245 + 12345) % 2147483648
            self.steps += 1
