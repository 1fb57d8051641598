"""A client that goes away cancels its work, at no cost for requests that are answered at once.

Most models answer without ever waiting, and a coroutine that does not wait needs nobody to watch over it. So it
is started by hand, outside a task; only if it comes to wait for something, a task beside it listens whether
the client goes away.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["while_connected"]

_Answer = TypeVar("_Answer")


async def while_connected(
    answering: Coroutine[Any, Any, _Answer], disconnected: Callable[[], Awaitable[bool]]
) -> _Answer | None:
    """Await a coroutine, unless the client goes away meanwhile: then cancel it.

    It runs in the caller's task from start to end, so that what it asks of its task (``asyncio.timeout``, context
    variables) is as ever. That task is cancelled as ``asyncio.timeout`` does it: the cancellation ends here.

    Parameters
    ----------
    answering : coroutine
        Not started yet.
    disconnected : callable
        Returns an awaitable that gives True when the client has gone, and False if it will not know.

    Returns
    -------
    object or None
        What the coroutine returns; None when the client has gone.
    """
    try:
        waits_for = answering.send(None)
    except StopIteration as stop:
        answer: _Answer = stop.value
        return answer
    task = asyncio.current_task()
    if task is None:  # a server with tasks of its own, which nobody else can cancel
        return await _go_on(answering, waits_for)
    before = task.cancelling()
    gone = False

    async def watch() -> None:
        nonlocal gone
        with suppress(Exception):  # whoever cannot say does not say that the client has gone
            gone = await disconnected() and task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        answer = await _go_on(answering, waits_for)
    except asyncio.CancelledError:
        if gone and task.uncancel() <= before:
            return None
        raise  # somebody else cancelled it: the server ends
    finally:
        watcher.cancel()
    if gone:
        task.uncancel()
        return None
    return answer


@types.coroutine
def _go_on(coroutine: Coroutine[Any, Any, _Answer], waits_for: Any) -> Generator[Any, Any, _Answer]:
    """Await a coroutine that was started by hand, and gave what it waits for."""
    try:
        while True:
            try:
                yield waits_for
            except BaseException as error:
                waits_for = coroutine.throw(error)
            else:
                break
    except StopIteration as stop:
        answer: _Answer = stop.value
        return answer
    return (yield from coroutine)
