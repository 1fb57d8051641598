"""How callers wait that must not block their thread: asyncio tasks and gevent's greenlets.

A queued call is finished on a batcher thread, which writes to one file descriptor per event loop, once
per batch. The loop watches it, collects what is finished, and resumes who waits. Nothing is polled, and no
thread of Python's is involved.

gevent, once it has patched `threading`, runs every "thread" of a worker as a greenlet in one real thread,
where a native wait would stop them all. So the native layer asks `Greenlets` first, each time before it
would wait.
"""

from __future__ import annotations

import asyncio
import os
import sys
import weakref
from typing import Any

from infersdk._native import Call, Completions, set_cooperative_wait
from infersdk.errors import DeadlineError

__all__ = ["LoopCalls", "loop_calls"]


class LoopCalls:
    """The queued calls of one asyncio loop.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        It must watch file descriptors, as all loops do except Windows' proactor.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.completions = Completions()
        # The loop must not be kept alive by what it keeps alive itself.
        drain = weakref.WeakMethod(self._drain)
        loop.add_reader(self.completions.fileno(), _call_weak, drain)

    async def wait(self, call: Call, timeout_s: float | None, *, model: str) -> Any:
        """Give the call's result; take it out of the queue if the task is cancelled.

        Raises
        ------
        asyncio.CancelledError
            The task was cancelled.
        DeadlineError
            The time is up.
        Exception
            What the call itself ended with.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        call.attach(future)
        timer = None
        if timeout_s is not None and timeout_s < 1e9:
            timer = loop.call_later(timeout_s, _expire, call, future, timeout_s, model)
        try:
            return await future
        except asyncio.CancelledError:
            call.cancel()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _drain(self) -> None:
        for call in self.completions.drain():
            future = call.waiter
            if future is None or future.done():
                continue  # cancelled, or past its deadline
            try:
                result = call.result()
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)


def _call_weak(method: weakref.WeakMethod[Any]) -> None:
    function = method()
    if function is not None:
        function()


def _expire(call: Call, future: asyncio.Future[Any], timeout_s: float, model: str) -> None:
    # Taken out of the queue, it is finished and comes back by itself; a run goes on without it.
    if not call.cancel(expired=True) and not future.done():
        future.set_exception(
            DeadlineError(
                f"Model `{model}` did not answer within {timeout_s:g} s: still running",
                timeout_s=timeout_s,
                model=model,
            )
        )


_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopCalls] = (
    weakref.WeakKeyDictionary()
)


def loop_calls() -> LoopCalls:
    """The running loop's."""
    loop = asyncio.get_running_loop()
    calls = _by_loop.get(loop)
    if calls is None:
        calls = _by_loop[loop] = LoopCalls(loop)
    return calls


class Greenlets:
    """Waits by yielding to gevent's hub, where gevent has patched `threading`."""

    def __init__(self) -> None:
        self._by_hub: weakref.WeakKeyDictionary[Any, tuple[int, Completions, Any]] = (
            weakref.WeakKeyDictionary()
        )

    def active(self) -> bool:
        """Whether this process's threads are greenlets. Asked only where gevent is imported."""
        monkey = sys.modules.get("gevent.monkey")
        return monkey is not None and monkey.is_module_patched("threading")

    def completions(self) -> Completions:
        """What the calls of this thread's hub are to be started with."""
        from gevent import get_hub

        hub = get_hub()
        entry = self._by_hub.get(hub)
        if entry is None or entry[0] != os.getpid():
            completions = Completions()
            watcher = hub.loop.io(completions.fileno(), 1)
            watcher.start(_drain_greenlets, completions)
            entry = self._by_hub[hub] = (os.getpid(), completions, watcher)
        return entry[1]

    def wait(self, call: Call, timeout_s: float) -> bool:
        """Yield until the call is finished; False when the time is up first. 0 waits without limit."""
        from gevent.event import Event

        event = Event()
        call.attach(event)
        try:
            if event.wait(timeout_s or None):
                return True
        except BaseException:
            call.cancel()  # killed, or timed out by gevent.Timeout
            raise
        # What could be taken out of the queue is finished by that.
        return call.cancel(expired=True)


def _drain_greenlets(completions: Completions) -> None:
    for call in completions.drain():
        if call.waiter is not None:
            call.waiter.set()


greenlets = Greenlets()
set_cooperative_wait(greenlets)


def _forget_the_parents_loops() -> None:
    # A child's loop has its own descriptors; the parent's are shared with the parent.
    _by_loop.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents_loops)
