"""Which process of a web server is this, and when does a preloading server fork its workers?

An app module is imported in many processes: workers, the master of a preloading server, shells, migrations,
tests. Only workers answer requests, and only they should spend seconds on opening models. A server offers
no common way to ask, but its own functions stand on the stack while it imports the app; so that is where
we look. Where nothing is found, models are opened at their first use, which is right, if later.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Literal

__all__ = ["after_fork_in_workers", "before_forked_child_ends", "role"]

Role = Literal["worker", "master", "other"]

# (beginning of the module's name, function or None for any) -> what the process is. First match from the
# innermost frame outwards.
_ROLES: tuple[tuple[str, str | None, Role], ...] = (
    ("gunicorn.workers.", "init_process", "worker"),
    ("gunicorn.workers.", "load_wsgi", "worker"),
    ("gunicorn.arbiter", "spawn_worker", "worker"),
    ("gunicorn.arbiter", "setup", "master"),
    ("granian.", None, "worker"),
    ("uvicorn.", None, "worker"),
    ("hypercorn.", None, "worker"),
    ("daphne.", None, "worker"),
    ("waitress.", None, "worker"),
)

BOOT_ERROR = 3
"""The status with which a gunicorn worker says that it cannot start; its master then stops too."""


def role() -> Role:
    """What this process is to the server that is importing the app just now.

    Returns
    -------
    {"worker", "master", "other"}
        "master": a preloading gunicorn, which will fork workers. "other": no server is importing the app,
        or none that is known.
    """
    for module, function in _callers():
        for beginning, name, found in _ROLES:
            if module.startswith(beginning) and name in (None, function):
                return found
    return "other"


def after_fork_in_workers(prepare: Callable[[], object]) -> None:
    """Have a method called in every worker that a gunicorn forks of this process.

    Of a preloading one, that is, or of one that a program has started by itself. It is called inside the
    fork, before the worker reports ready or takes a connection. If it raises, the worker ends as one
    whose app cannot be imported does.

    Parameters
    ----------
    prepare : bound method
        It is forgotten with its object.
    """
    global _is_hooked
    if not hasattr(os, "register_at_fork"):
        return
    if not _is_hooked:
        _is_hooked = True
        os.register_at_fork(after_in_child=_after_fork)
    _to_prepare[:] = [known for known in _to_prepare if known() is not None]
    method = weakref.WeakMethod(prepare)
    if method not in _to_prepare:
        _to_prepare.append(method)


def _after_fork() -> None:
    # A worker's own children, and gunicorn's other ones, are forked by somebody else.
    if not _is_forked_by_gunicorn():
        return
    for reference in _to_prepare:
        prepare = reference()
        if prepare is not None:
            _prepare_worker(prepare)


def _is_forked_by_gunicorn() -> bool:
    for module, function in _callers():
        # gevent may stand in for os.fork.
        if module != __name__ and not module.startswith("gevent."):
            return (module, function) == ("gunicorn.arbiter", "spawn_worker")
    return False


_is_hooked = False
_to_prepare: list[weakref.WeakMethod[Callable[[], object]]] = []


def before_forked_child_ends(function: Callable[[], object]) -> None:
    """Have a function called at the end of this process, if it is one that multiprocessing forked.

    Granian's workers are: multiprocessing ends its forked children without what `atexit` knows. In other
    processes this does nothing.

    Parameters
    ----------
    function : callable
    """
    multiprocessing = sys.modules.get("multiprocessing")
    if multiprocessing is None or multiprocessing.parent_process() is None:
        return
    from multiprocessing.util import Finalize

    Finalize(None, function, exitpriority=0)


def _prepare_worker(prepare: Callable[[], object]) -> None:
    # The child still has the master's handlers, which put a signal into a queue that only the master reads.
    # Until the worker sets its own it has taken no connection, and a signal may simply end it.
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
    try:
        prepare()
    except BaseException:
        import traceback

        # An exception would be printed and passed over: this is called by the interpreter.
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(BOOT_ERROR)


def _callers() -> Iterator[tuple[str, str]]:
    """Module and function of each frame, from here outwards."""
    frame = sys._getframe(1)
    while frame is not None:
        yield frame.f_globals.get("__name__") or "", frame.f_code.co_name
        frame = frame.f_back  # type: ignore[assignment]
