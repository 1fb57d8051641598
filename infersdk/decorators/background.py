"""Conversions in threads: of their own, not gevent's, and waited for when the process ends."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from infersdk.runtime.waiting import greenlets

__all__ = ["in_background"]

_EXIT_S = 30.0

_under_way: set[Callable[[float], object]] = set()
"""Waits for each conversion in a thread."""


def in_background(work: Callable[[], None], *, name: str) -> None:
    """Call a function in a thread.

    Raises
    ------
    RuntimeError
        There is no thread to be had.
    """
    if "gevent" in sys.modules and greenlets.active():
        # A thread of gevent's would be a greenlet, and hold up all others.
        from gevent import get_hub

        wait = get_hub().threadpool.spawn(work).wait
    else:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        wait = thread.join
    _under_way.difference_update([each for each in _under_way if _has_ended(each)])
    _under_way.add(wait)


def _has_ended(wait: Any) -> bool:
    owner = wait.__self__
    return not owner.is_alive() if isinstance(owner, threading.Thread) else bool(owner.ready())


def _finish() -> None:
    """At exit: exporters' native threads abort a process that ends while they work."""
    until = time.monotonic() + _EXIT_S
    for wait in list(_under_way):
        wait(max(until - time.monotonic(), 0.0))


atexit.register(_finish)

if hasattr(os, "register_at_fork"):
    # A child has none of its parent's threads to wait for.
    os.register_at_fork(after_in_child=_under_way.clear)
