"""Closed load by asyncio tasks on one event loop, which stays the same for the whole process.

A task lets the others run before each call, as one that serves a connection would when it reads the next
request; the time until the loop comes back to it is part of its latency. Otherwise an answer that is
computed on the loop itself would look instant while everybody else waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter_ns
from typing import Any

from benchmarks.load.answers import EVERY, Expected
from benchmarks.load.figures import summarize

__all__ = ["answer", "asyncio_load", "close_loop"]

_APART = 37
_loop: asyncio.AbstractEventLoop | None = None


def asyncio_load(
    arun: Callable[[int], Awaitable[Any]],
    *,
    n_tasks: int,
    seconds: float,
    expected: Expected | None = None,
) -> dict[str, float]:
    """Let tasks await ``arun(i)`` one after the other for some seconds; figures as ``closed_load``."""
    times: list[list[int]] = [[] for _ in range(n_tasks)]
    kept: list[tuple[int, Any]] = []

    async def caller(task: int, end: int) -> None:
        clock, record = perf_counter_ns, times[task].append
        i = task * _APART
        while True:
            start = clock()
            await asyncio.sleep(0)
            answer = await arun(i)
            now = clock()
            record(now - start)
            if now > end:
                return
            if i % EVERY == 0:
                kept.append((i, answer))
            i += 1

    async def everyone() -> None:
        end = perf_counter_ns() + int(seconds * 1e9)
        await asyncio.gather(*(caller(task, end) for task in range(n_tasks)))

    _the_loop().run_until_complete(everyone())
    figures = summarize(times, seconds)
    if expected is not None:
        figures["wrong"] = expected.wrong(kept)
    return figures


def answer(arun: Callable[[int], Awaitable[Any]], i: int) -> Any:
    """One call, from code that is not asynchronous."""

    async def once() -> Any:
        return await arun(i)

    return _the_loop().run_until_complete(once())


def close_loop() -> None:
    """End what still runs on the loop."""
    global _loop
    loop, _loop = _loop, None
    if loop is None:
        return
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()


def _the_loop() -> asyncio.AbstractEventLoop:
    global _loop
    if _loop is None:
        _loop = asyncio.new_event_loop()
        asyncio.set_event_loop(_loop)
    return _loop
