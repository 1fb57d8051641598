"""Calls of an async function of a list that share its calls: the queue of one event loop.

The native queue runs functions in threads; a coroutine function must run on its caller's loop, so this one is
made of the loop's own futures and tasks. It has the same rules. A call that finds the function idle starts it;
as a task begins one turn of the loop after it was made, calls of the same turn go along. Calls that come while
`instances` runs are under way wait, and go into the next one together. There is no waiting window.

Everything of a queue happens on its loop, without locks. A queue exists while calls are under way: it is held by
those alone, so that a loop that was closed takes its queue with it.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from infersdk._native import answers_as_list, clock_ns
from infersdk.decorators.batched_options import BatchedOptions
from infersdk.errors import ClosedError, DeadlineError, OverloadedError
from infersdk.runtime.waiting import call_later

__all__ = ["AsyncQueue"]

_NO_LIMIT_S = 1e9
"""A timeout beyond it is none."""

_FUNCTIONS: contextvars.ContextVar[tuple[AsyncQueue, ...]] = contextvars.ContextVar(
    "infersdk_inside_batched", default=()
)
"""Whose functions are under way around the code that asks."""


@dataclass(eq=False, slots=True)
class _Call:
    """One caller's items."""

    items: list[Any]
    future: asyncio.Future[list[Any]]
    priority: int
    batch: _Batch | None = None  # None: it waits
    over: bool = False  # answered, or its caller has left


@dataclass(eq=False, slots=True)
class _Batch:
    """Calls that share one call of the function."""

    calls: list[_Call] = field(default_factory=list)
    at_once: bool = False  # nothing in it had to wait
    n_items: int = 0
    n_wanted: int = 0  # calls whose callers are there
    task: asyncio.Task[None] | None = None
    over: bool = False

    def add(self, call: _Call) -> None:
        self.calls.append(call)
        self.n_items += len(call.items)
        self.n_wanted += 1
        call.batch = self


@dataclass(slots=True)
class _Counts:
    inline_runs: int = 0
    batches: int = 0
    batched_rows: int = 0
    largest_batch: int = 0
    refused: int = 0
    expired: int = 0
    cancelled: int = 0
    failed: int = 0


@dataclass(slots=True)
class _Level:
    """What waits at one priority, in order."""

    calls: OrderedDict[_Call, None] = field(default_factory=OrderedDict)
    n_items: int = 0


class AsyncQueue:
    """An async function of a list behind a queue on each event loop that calls it.

    Parameters
    ----------
    function : callable
        ``await function(items: list) -> answers``, one for each item.
    name : str
        In messages.
    options : BatchedOptions
        ``instances`` and ``max_queue_size`` are those of one loop.
    """

    def __init__(
        self,
        function: Callable[[list[Any]], Awaitable[Any]],
        name: str,
        options: BatchedOptions,
    ) -> None:
        self.function = function
        self.name = name
        self.options = options
        self.closed = False
        self.begin_anew()
        _queues.add(self)

    def begin_anew(self) -> None:
        """In the child of a fork: the loops and calls are the parent's."""
        self.counts = _Counts()
        self.lock = threading.Lock()  # of the counts, and of what follows
        self._loops: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, weakref.ref[_LoopQueue]
        ] = weakref.WeakKeyDictionary()

    async def call(
        self, items: list[Any], *, timeout_s: float | None = None, priority: int = 0
    ) -> list[Any]:
        """Answer items that share one call of the function, together with others'.

        Raises
        ------
        OverloadedError, DeadlineError, ClosedError
            It was not run, or not in time.
        Exception
            What the function raised for these items.
        """
        limit_s = self.options.timeout_s if timeout_s is None else timeout_s
        if limit_s is not None:
            limit_s = self._checked_limit_s(limit_s)
        if self in _FUNCTIONS.get():
            # In the queue it would wait for the call of the function that it is a part of.
            return answers_as_list(await self.function(list(items)), len(items), self.name)
        if self.closed:
            raise ClosedError(f"`{self.name}` is closed; it takes no more calls")
        return await self._of_this_loop().answer(items, limit_s, priority)

    def stats(self) -> dict[str, int]:
        """Counts since the start, and what waits and runs now."""
        with self.lock:
            alive = [queue for reference in self._loops.values() if (queue := reference())]
            counts = {name: getattr(self.counts, name) for name in _Counts.__slots__}
        queued = sum(queue.n_waiting for queue in alive)
        return {**counts, "queued_rows": queued, "running": sum(queue.n_running for queue in alive)}

    def count(self, **more: int) -> None:
        """Add to the counts; of ``largest_batch`` keep the largest."""
        with self.lock:
            largest = max(self.counts.largest_batch, more.pop("largest_batch", 0))
            self.counts.largest_batch = largest
            for name, number in more.items():
                setattr(self.counts, name, getattr(self.counts, name) + number)

    def close(self) -> None:
        """Take no more calls; those that wait are answered."""
        self.closed = True

    async def aclose(self) -> None:
        """Take no more calls, and wait until this loop's are answered.

        Raises
        ------
        RuntimeError
            The function itself asks for it, and would wait for itself.
        """
        if self in _FUNCTIONS.get():
            raise RuntimeError(f"`{self.name}` cannot be closed from inside its own function")
        self.close()
        await self._of_this_loop().quiet()

    def _of_this_loop(self) -> _LoopQueue:
        loop = asyncio.get_running_loop()
        with self.lock:
            reference = self._loops.get(loop)
            queue = None if reference is None else reference()
            if queue is None:
                queue = _LoopQueue(self)
                self._loops[loop] = weakref.ref(queue)
        return queue

    def _checked_limit_s(self, timeout_s: float) -> float | None:
        if timeout_s != timeout_s:
            raise ValueError("timeout_s must be a number of seconds, got nan")
        if timeout_s <= 0:
            raise DeadlineError(
                f"`{self.name}` was given {timeout_s:g} s, in which nothing can be done; "
                "give a timeout_s above 0",
                timeout_s=timeout_s,
                model=self.name,
            )
        return None if timeout_s > _NO_LIMIT_S else timeout_s


class _LoopQueue:
    """The calls of one loop."""

    def __init__(self, owner: AsyncQueue) -> None:
        self.n_running = 0
        self.n_waiting = 0  # items
        self._owner = owner
        self._options = owner.options
        self._levels: dict[int, _Level] = {}  # by priority
        self._forming: _Batch | None = None  # has room, and has not begun
        self._run_s = 0.0  # what a call of the function took lately
        self._began_s: float | None = None  # the latest of them
        self._when_quiet: list[asyncio.Future[None]] = []

    async def answer(self, items: list[Any], timeout_s: float | None, priority: int) -> list[Any]:
        loop = asyncio.get_running_loop()
        call = _Call(items, loop.create_future(), priority)
        self._place(call, timeout_s)
        timer = None
        if timeout_s is not None:
            timer = call_later(loop, timeout_s, self._expire, call, timeout_s)
        try:
            return await call.future
        except GeneratorExit:
            raise  # the loop is gone
        except BaseException:
            if not call.over:
                self._leave(call)
                self._owner.count(cancelled=1)
            elif call.future.done() and not call.future.cancelled():
                call.future.exception()  # came together with the cancellation: nobody else reads it
            raise
        finally:
            if timer is not None:
                timer.cancel()
            del call  # an exception knows this frame, which must not know the exception

    async def quiet(self) -> None:
        """Wait until nothing waits or runs."""
        while self.n_running:
            future = asyncio.get_running_loop().create_future()
            self._when_quiet.append(future)
            await future

    # -- who waits -------------------------------------------------------------------------------

    def _place(self, call: _Call, timeout_s: float | None) -> None:
        """Into the batch that is about to begin, a new one, or the queue."""
        n = len(call.items)
        forming = self._forming
        if forming is not None and forming.n_items + n <= self._options.max_batch_size:
            forming.add(call)
        elif self.n_running < self._options.instances:
            self._begin([call], at_once=True)
        else:
            self._refuse_if_too_much(n, timeout_s, call.priority)
            level = self._levels.setdefault(call.priority, _Level())
            level.calls[call] = None
            level.n_items += n
            self.n_waiting += n

    def _refuse_if_too_much(self, n: int, timeout_s: float | None, priority: int) -> None:
        most = self._options.max_queue_size
        if self.n_waiting and self.n_waiting + n > most:
            too_many = self.n_waiting + n - most
            reason = f"{self.n_waiting} items wait, max_queue_size is {most}"
            self._refuse(reason, self._wait_s(too_many))
        if timeout_s is None:
            return
        ahead = sum(level.n_items for p, level in self._levels.items() if p >= priority)
        # What is known for sure: whole batches that go before. The one under way may end any time.
        wait_s = self._wait_s(ahead - ahead % self._options.max_batch_size)
        if wait_s > timeout_s:
            self._refuse(
                f"it would wait {wait_s:.3g} s of the {timeout_s:.3g} s it has", wait_s - timeout_s
            )

    def _refuse(self, reason: str, retry_after_s: float) -> None:
        self._owner.count(refused=1)
        name = self._owner.name
        raise OverloadedError(
            f"`{name}` is overloaded: {reason}; retry in {retry_after_s:.3g} s",
            retry_after_s=retry_after_s,
            model=name,
        )

    def _wait_s(self, n_items: int) -> float:
        """How long that many items that wait take to be begun."""
        run_s = self._run_s
        if not run_s and self._began_s is not None:
            # The first has not ended: as long as it has taken by now.
            run_s = _clock_s() - self._began_s
        n_batches = -(-n_items // self._options.max_batch_size)
        return n_batches * run_s / self._options.instances

    def _take(self) -> list[_Call]:
        """The next batch: the highest priority first, then in order, as far as they fit."""
        calls: list[_Call] = []
        room = self._options.max_batch_size
        for priority in sorted(self._levels, reverse=True):
            level = self._levels[priority]
            while level.calls:
                call = next(iter(level.calls))
                if calls and len(call.items) > room:
                    return calls
                room -= len(call.items)
                self._remove(call)
                calls.append(call)
        return calls

    def _remove(self, call: _Call) -> None:
        level = self._levels[call.priority]
        del level.calls[call]
        level.n_items -= len(call.items)
        if not level.calls:
            del self._levels[call.priority]
        self.n_waiting -= len(call.items)

    def _leave(self, call: _Call) -> None:
        """Its caller is gone, or told."""
        call.over = True
        batch = call.batch
        if batch is None:
            self._remove(call)
            return
        batch.n_wanted -= 1
        if batch.n_wanted == 0 and batch.task is not None:
            if self._forming is batch:
                self._forming = None
            batch.task.cancel()  # nobody wants any of its answers

    def _expire(self, call: _Call, timeout_s: float) -> None:
        if call.over or call.future.done():
            return
        where = "dropped from the queue" if call.batch is None else "still running"
        self._leave(call)
        self._owner.count(expired=1)
        call.future.set_exception(
            DeadlineError(
                f"`{self._owner.name}` did not answer within {timeout_s:g} s: {where}",
                timeout_s=timeout_s,
                model=self._owner.name,
            )
        )

    # -- what runs -------------------------------------------------------------------------------

    def _begin(self, calls: list[_Call], *, at_once: bool) -> None:
        batch = _Batch(at_once=at_once)
        for call in calls:
            batch.add(call)
        self.n_running += 1
        self._forming = batch
        # In a context of its own: that of the first caller is no business of the others.
        context = contextvars.Context()
        context.run(_FUNCTIONS.set, (self._owner,))
        loop = asyncio.get_running_loop()
        batch.task = loop.create_task(self._run(batch), context=context)
        # A task that is cancelled before its first step never gets to the end of _run.
        batch.task.add_done_callback(partial(self._ended, batch))

    async def _run(self, batch: _Batch) -> None:
        if self._forming is batch:
            self._forming = None
        loop = asyncio.get_running_loop()
        self._began_s = began_s = _clock_s()
        calls = _wanted(batch.calls)
        if batch.at_once and len(calls) == 1:
            self._owner.count(inline_runs=1)
        else:
            n = sum(len(call.items) for call in calls)
            self._owner.count(batches=1, batched_rows=n, largest_batch=n)
        try:
            await self._apply(calls)
            elapsed_s = _clock_s() - began_s
            self._run_s += (elapsed_s - self._run_s) / 8 if self._run_s else elapsed_s
        finally:
            if not loop.is_closed():
                self._go_on(batch)

    async def _apply(self, calls: list[_Call]) -> None:
        """Call the function, and again with the halves where it fails, so that only those at fault fail."""
        calls = _wanted(calls)
        if not calls:
            return
        answers, failure = await self._attempt([item for call in calls for item in call.items])
        if failure is None:
            first = 0
            for call in calls:
                last = first + len(call.items)
                if not call.future.done():
                    call.over = True
                    call.future.set_result(answers[first:last])
                first = last
        elif len(calls) > 1:
            failure = None
            middle = len(calls) // 2
            await self._apply(calls[:middle])
            await self._apply(calls[middle:])
        elif not calls[0].future.done():
            calls[0].over = True
            self._owner.count(failed=1)
            if isinstance(failure, asyncio.CancelledError):
                calls[0].future.cancel()
            else:
                calls[0].future.set_exception(failure)

    async def _attempt(self, items: list[Any]) -> tuple[list[Any], BaseException | None]:
        n = len(items)  # the function may change its list
        try:
            return answers_as_list(await self._owner.function(items), n, self._owner.name), None
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # this run was cancelled, not something that the function awaits
            return [], error
        except Exception as error:
            return [], error

    def _ended(self, batch: _Batch, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # only what ends the loop too, which has it already
        self._go_on(batch)

    def _go_on(self, batch: _Batch) -> None:
        """With what waits, in the turn in which a batch has ended."""
        if batch.over:
            return
        batch.over = True
        self.n_running -= 1
        if self._forming is batch:
            self._forming = None
        for call in batch.calls:  # of a run that was cancelled, as loops do when they end
            if not call.over:
                call.over = True
                call.future.cancel()
        batch.calls.clear()  # they know the batch
        while self.n_running < self._options.instances and (calls := self._take()):
            self._begin(calls, at_once=False)
        if not self.n_running:
            for future in self._when_quiet:
                if not future.done():
                    future.set_result(None)
            self._when_quiet.clear()


def _clock_s() -> float:
    return clock_ns() * 1e-9


def _wanted(calls: list[_Call]) -> list[_Call]:
    return [call for call in calls if not call.over and not call.future.done()]


_queues: weakref.WeakSet[AsyncQueue] = weakref.WeakSet()


def _forget_the_parents_calls() -> None:
    for queue in list(_queues):
        queue.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents_calls)
