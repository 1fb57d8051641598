"""How callers wait that must not block their thread: asyncio tasks and gevent's greenlets.

A queued call is finished on a batcher thread, which writes to one file descriptor per event loop, once
per batch. The loop watches it, collects what is finished, and resumes who waits. Nothing is polled, and no
thread of Python's is involved.

gevent, once it has patched `threading`, runs every "thread" of a worker as a greenlet in one real thread,
where a native wait would stop them all. So the native layer asks `Greenlets` first, each time before it
would wait.

A task whose client has gone is cancelled by its server. A thread is told by nobody: `abandoned_when` lets it
look for itself while it waits.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
import weakref
from collections.abc import Callable
from typing import Any

from infersdk._native import Call, Completions, gives_up, set_cooperative_wait
from infersdk.errors import AbandonedError, DeadlineError

__all__ = ["LoopCalls", "abandoned_when", "call_later", "loop_calls", "set_call_later"]

_LOOK_S = 0.05
"""Between two looks whether an answer is still wanted, as in native waits."""


class abandoned_when:  # noqa: N801 - used as a function is; a generator would cost a request 2 us
    """Give up calls of this thread, or greenlet, that wait when nobody wants their answers any more.

    A call that is answered at once never asks. One that waits in a queue, or whose run of the model takes
    long, asks every 50 ms; if the answer is True the call leaves the queue, or its run is stopped between
    two nodes, and it raises AbandonedError. Calls that share its batch are not disturbed.

    Calls that are awaited do not ask: their tasks can be cancelled.

    Parameters
    ----------
    is_gone : callable
        Returns at once. An exception that it raises ends the call too.
    """

    __slots__ = ("_is_gone", "_token")

    def __init__(self, is_gone: Callable[[], bool]) -> None:
        self._is_gone = is_gone

    def __enter__(self) -> None:
        self._token = gives_up.set(self._is_gone)

    def __exit__(self, *error: object) -> None:
        gives_up.reset(self._token)


_call_later: Callable[..., Any] | None = None


def call_later(
    loop: asyncio.AbstractEventLoop,
    delay_s: float,
    callback: Callable[..., object],
    *arguments: Any,
) -> Any:
    """Have an event loop call something when the time of a call is up.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        The running one.
    delay_s : float
        Seconds on the clock of deadlines.
    callback : callable
    *arguments : object

    Returns
    -------
    object
        With ``cancel()``.
    """
    if _call_later is not None:
        return _call_later(loop, delay_s, callback, *arguments)
    return loop.call_later(delay_s, callback, *arguments)


def set_call_later(function: Callable[..., Any] | None) -> None:
    """Give what stands in for :func:`call_later` while a test holds the clock; None takes it back.

    Parameters
    ----------
    function : callable or None
    """
    global _call_later
    _call_later = function


class LoopCalls:
    """The queued calls of one asyncio loop.

    The loop owns it, as what to call for a file descriptor, and lets go of it when it is closed: calls
    that are still under way then end with nobody to tell.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        It must watch file descriptors, as all loops do except Windows' proactor.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.completions = Completions()
        loop.add_reader(self.completions.fileno(), self._drain)

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
            timer = call_later(loop, timeout_s, _expire, call, future, timeout_s, model)
        try:
            return await future
        except BaseException:
            call.cancel()  # the task was cancelled; otherwise it is over, and this does nothing
            raise
        finally:
            if timer is not None:
                timer.cancel()
            call.attach(None)

    def _drain(self) -> None:
        for call in self.completions.drain():
            future = call.waiter
            if future is None or future.done():
                continue  # cancelled, or past its deadline
            try:
                result = call.result()
            except StopIteration as error:
                # A future refuses it, as it would end the coroutine that awaits it.
                future.set_exception(RuntimeError(f"a call raised StopIteration: {error}"))
            except BaseException as error:
                # Whatever it is, it belongs to this call; the others still have to be told.
                future.set_exception(error)
            else:
                future.set_result(result)


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


_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[LoopCalls]] = (
    weakref.WeakKeyDictionary()
)


def loop_calls() -> LoopCalls:
    """The running loop's."""
    loop = asyncio.get_running_loop()
    reference = _by_loop.get(loop)
    calls = None if reference is None else reference()
    if calls is None:
        calls = LoopCalls(loop)
        _by_loop[loop] = weakref.ref(calls)
    return calls


class HubCalls:
    """The queued calls of the greenlets of one thread.

    Parameters
    ----------
    hub : gevent.hub.Hub
        The thread's.
    """

    def __init__(self, hub: Any) -> None:
        self.completions = Completions()
        # While no call is under way there is nothing to wait for, and gevent.wait() may come back.
        self._watcher = hub.loop.io(self.completions.fileno(), 1, ref=False)
        # A hub that ends with its thread lets go of us, not of the watcher.
        self._watcher.start(_drain_weak, weakref.ref(self))

    def wait(self, call: Call, timeout_s: float) -> bool:
        """Yield until the call is finished; False when the time is up first. 0 waits without limit."""
        from gevent.event import Event

        event = Event()
        call.attach(event)
        self._watcher.ref = True
        try:
            if _look_while(event.wait, timeout_s or None):
                return True
        except BaseException:
            call.cancel()  # killed, or timed out by gevent.Timeout
            raise
        finally:
            call.attach(None)
        # What could be taken out of the queue is finished by that.
        return call.cancel(expired=True)

    def drain(self) -> None:
        for call in self.completions.drain():
            if call.waiter is not None:
                call.waiter.set()
        if not len(self.completions):
            self._watcher.ref = False

    def stop(self) -> None:
        """Look no more."""
        self._watcher.stop()


def _look_while(wait: Callable[[float | None], bool], timeout_s: float | None) -> bool:
    """``wait(timeout_s)``, in slices where `abandoned_when` has something to ask between them."""
    is_gone = gives_up.get()
    if is_gone is None:
        return wait(timeout_s)
    ends = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left_s = _LOOK_S if ends is None else ends - time.monotonic()
        if wait(max(0, min(left_s, _LOOK_S))):
            return True
        if left_s <= _LOOK_S and ends is not None:
            return False
        if is_gone():
            raise AbandonedError("Nobody waits any more for the answer; the call was given up")


def _drain_weak(reference: weakref.ref[HubCalls]) -> None:
    calls = reference()
    if calls is not None:
        calls.drain()


class Greenlets:
    """Waits by yielding to gevent's hub, where gevent has patched `threading`."""

    def __init__(self) -> None:
        self._by_hub: weakref.WeakKeyDictionary[Any, HubCalls] = weakref.WeakKeyDictionary()

    def active(self) -> bool:
        """Whether this process's threads are greenlets. Asked only where gevent is imported."""
        monkey = sys.modules.get("gevent.monkey")
        return monkey is not None and monkey.is_module_patched("threading")

    def completions(self) -> Completions:
        """What the calls of this thread's hub are to be started with."""
        return self._calls().completions

    def wait(self, call: Call, timeout_s: float) -> bool:
        """Yield until the call is finished; False when the time is up first. 0 waits without limit."""
        return self._calls().wait(call, timeout_s)

    def pause(self) -> None:
        """Let other greenlets go on for a moment."""
        import gevent

        gevent.sleep(0.001)

    def forget(self) -> None:
        """In the child of a fork: look no more for the calls of the parent.

        Descriptors are shared: a child that read them would take from its parent the news that calls
        are finished.
        """
        for calls in self._by_hub.values():
            calls.stop()
        self._by_hub.clear()

    def _calls(self) -> HubCalls:
        from gevent import get_hub

        hub = get_hub()
        calls = self._by_hub.get(hub)
        if calls is None:
            calls = self._by_hub[hub] = HubCalls(hub)
        return calls


greenlets = Greenlets()
set_cooperative_wait(greenlets)


def _forget_the_parents_loops() -> None:
    # A child's loop has its own descriptors; the parent's are shared with the parent.
    _by_loop.clear()
    greenlets.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents_loops)
