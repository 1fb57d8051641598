"""A thread that computes in pure Python and never waits: the rest of a busy app, as the GIL sees it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

__all__ = ["Burner", "burning"]

_STEP = 200


class Burner:
    """What the burner got done, in steps of a few microseconds."""

    def __init__(self) -> None:
        self.steps = 0
        self.stop = False

    def run(self) -> None:
        value = 1
        while not self.stop:
            for _ in range(_STEP):
                value = (value * 1103515245 + 12345) % 2147483648
            self.steps += 1


@contextmanager
def _burn() -> Iterator[Burner]:
    burner = Burner()
    thread = threading.Thread(target=burner.run, name="burner", daemon=True)
    thread.start()
    try:
        yield burner
    finally:
        burner.stop = True
        thread.join()


def burning(wanted: bool) -> AbstractContextManager[Burner | None]:
    """A context in which one burner runs, if wanted; gives the Burner or None."""
    return _burn() if wanted else nullcontext()
