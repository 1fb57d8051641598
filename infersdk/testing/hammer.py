"""hammer: one function from many threads or tasks at once, with a switch interval that brings races out."""

from __future__ import annotations

import asyncio
import faulthandler
import inspect
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["Hammer"]


class Hammer:
    """Calls a function from many threads, or a coroutine function from many tasks.

    The fixture ``hammer`` is one.
    """

    def __call__(
        self,
        function: Callable[..., Any],
        *,
        threads: int = 8,
        calls: int = 50,
        inputs: Sequence[Any] | None = None,
        switch_interval_s: float = 1e-6,
        timeout_s: float = 60.0,
    ) -> list[Any]:
        """Call a function from several threads, which begin at the same moment.

        Parameters
        ----------
        function : callable
            Without arguments, or of one input.
        threads : int
        calls : int
            Of each thread.
        inputs : sequence, optional
            Given in turn: call ``i`` of all gets input ``i % len(inputs)``.
        switch_interval_s : float
            After how long Python hands the GIL from one thread to another; its own default is 5 ms.
        timeout_s : float
            How long all of it may take.

        Returns
        -------
        list
            One answer for each call, ``threads * calls`` in all: call ``i`` is thread ``i // calls``'s.

        Raises
        ------
        ExceptionGroup
            Whatever was raised, all of it.
        AssertionError
            Some threads did not end in time; the message shows where each of them is.
        """
        __tracebackhide__ = True
        _check(threads=threads, calls=calls, inputs=inputs)
        answers: list[Any] = [None] * (threads * calls)
        errors: list[BaseException] = []
        start = threading.Barrier(threads)

        def work(number: int) -> None:
            start.wait()
            for i in range(number * calls, (number + 1) * calls):
                try:
                    answers[i] = function() if inputs is None else function(inputs[i % len(inputs)])
                except BaseException as error:
                    error.add_note(f"in call {i % calls} of thread {number}")
                    errors.append(error)

        workers = [
            threading.Thread(target=work, args=(i,), name=f"hammer-{i}", daemon=True)
            for i in range(threads)
        ]
        with _switching(switch_interval_s):
            for worker in workers:
                worker.start()
            ends = time.monotonic() + timeout_s
            for worker in workers:
                worker.join(max(ends - time.monotonic(), 0))
        alive = [worker.name for worker in workers if worker.is_alive()]
        if alive:
            raise AssertionError(
                f"{len(alive)} of {threads} threads did not end within {timeout_s:g} s: "
                f"{', '.join(alive)}\n{_stacks()}"
            )
        _raise(errors, threads * calls)
        return answers

    async def tasks(
        self,
        function: Callable[..., Awaitable[Any]],
        *,
        tasks: int = 32,
        calls: int = 10,
        inputs: Sequence[Any] | None = None,
        timeout_s: float = 60.0,
    ) -> list[Any]:
        """Await a coroutine function from several asyncio tasks.

        Parameters
        ----------
        function : callable
            Without arguments, or of one input; what it returns is awaited.
        tasks : int
        calls : int
            Of each task, one after the other.
        inputs, timeout_s
            As for threads.

        Returns
        -------
        list
            One answer for each call.

        Raises
        ------
        ExceptionGroup, AssertionError
            As for threads.
        """
        _check(tasks=tasks, calls=calls, inputs=inputs)
        answers: list[Any] = [None] * (tasks * calls)
        errors: list[BaseException] = []

        async def work(number: int) -> None:
            for i in range(number * calls, (number + 1) * calls):
                try:
                    answers[i] = await (
                        function() if inputs is None else function(inputs[i % len(inputs)])
                    )
                except asyncio.CancelledError:
                    raise
                except BaseException as error:
                    error.add_note(f"in call {i % calls} of task {number}")
                    errors.append(error)

        running = [asyncio.create_task(work(i), name=f"hammer-{i}") for i in range(tasks)]
        try:
            _, late = await asyncio.wait(running, timeout=timeout_s)
        finally:
            stacks = [(task.get_name(), _where(task)) for task in running if not task.done()]
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
        if late:
            lines = "\n".join(f"  {name}: {where}" for name, where in stacks)
            raise AssertionError(
                f"{len(late)} of {tasks} tasks did not end within {timeout_s:g} s\n{lines}\n{_stacks()}"
            )
        _raise(errors, tasks * calls)
        return answers


def _check(*, inputs: Sequence[Any] | None, **counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"Expected at least 1 of {name}, got {value}")
    if inputs is not None and len(inputs) == 0:
        raise ValueError("Expected at least one input, got none")


@contextmanager
def _switching(interval_s: float) -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(interval_s)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _raise(errors: list[BaseException], n_calls: int) -> None:
    __tracebackhide__ = True
    if errors:
        raise BaseExceptionGroup(f"{len(errors)} of {n_calls} calls failed", errors)


def _stacks() -> str:
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file=file, all_threads=True)
        file.seek(0)
        return file.read()


def _where(task: asyncio.Task[Any]) -> str:
    """The innermost frame that a task waits in."""
    waits: Any = task.get_coro()
    while inspect.iscoroutine(waits) and waits.cr_await is not None:
        if not inspect.iscoroutine(waits.cr_await):
            break
        waits = waits.cr_await
    frame = getattr(waits, "cr_frame", None)
    return "not started" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
