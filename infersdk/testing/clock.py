"""A clock in the hands of a test.

While a :class:`Clock` is held, the deadlines of every Predictor and batched function of this process pass when
the test says so, and never because the machine was slow. Fakes spend their latencies on it too. Real time goes
on for everything else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

from infersdk._native import advance_clock, clock_ns, hold_clock, release_clock
from infersdk.runtime.waiting import set_call_later

if TYPE_CHECKING:
    import asyncio

__all__ = ["Clock", "held_clock"]

_PATIENCE_S = 30.0
"""Real seconds after which somebody who waits for the clock is told that nobody moves it."""

_held: Clock | None = None


def held_clock() -> Clock | None:
    """The clock that is held just now; None while time runs by itself."""
    return _held


class Clock:
    """Time that stands still until it is advanced.

    A context manager; the fixture ``infersdk_clock`` holds it for a test. Deadlines of calls that wait
    in a queue, of awaited calls, and the latencies of fakes are on it. Safe to use from any thread.

    Attributes
    ----------
    automatic : bool
        Whether a fake's latency passes at once, by advancing the clock itself. Otherwise a fake waits
        until somebody else advances it.
    """

    def __init__(self) -> None:
        self.automatic = False
        self._changed = threading.Condition()
        self._sleepers: set[object] = set()
        self._timers: list[_Timer] = []
        self._began_ns = 0

    def __enter__(self) -> Self:
        global _held
        hold_clock()
        self._began_ns = clock_ns()
        set_call_later(self._call_later)
        _held = self
        return self

    def __exit__(self, *error: object) -> None:
        global _held
        _held = None
        set_call_later(None)
        release_clock()
        with self._changed:
            self._changed.notify_all()

    @property
    def elapsed_s(self) -> float:
        """Seconds by which it was advanced."""
        return (clock_ns() - self._began_ns) * 1e-9

    def advance(self, seconds: float) -> None:
        """Let time pass; whoever waits for a moment that is passed by it goes on.

        They do so in their own threads and tasks, and may need a moment for it: wait for what they do, not
        for the clock.

        Parameters
        ----------
        seconds : float
            At least 0.

        Raises
        ------
        ValueError
            The seconds are negative.
        RuntimeError
            The clock is not held.
        """
        advance_clock(round(seconds * 1e9))
        now = clock_ns()
        with self._changed:
            due = [timer for timer in self._timers if timer.due_ns <= now]
            self._timers = [timer for timer in self._timers if timer.due_ns > now]
            self._changed.notify_all()
        for timer in sorted(due, key=lambda timer: timer.due_ns):
            timer.ring()

    def sleep(self, seconds: float, *, unless: Callable[[], bool] = lambda: False) -> None:
        """Wait in this thread until the clock has been advanced by that.

        Parameters
        ----------
        seconds : float
        unless : callable
            Ends the wait when it gives True; asked at every change, and after :meth:`wake`.

        Raises
        ------
        TimeoutError
            Nobody advanced the clock for half a minute of real time.
        """
        if self.automatic:
            self.advance(seconds)
            return
        due_ns = clock_ns() + round(seconds * 1e9)
        sleeper = object()
        with self._changed:
            self._sleepers.add(sleeper)
            self._changed.notify_all()
            try:
                done = self._changed.wait_for(
                    lambda: clock_ns() >= due_ns or held_clock() is not self or unless(),
                    _PATIENCE_S,
                )
            finally:
                self._sleepers.discard(sleeper)
                self._changed.notify_all()
        if not done:
            raise TimeoutError(
                f"A fake waits for {seconds:g} s on a clock that nobody advances. Call "
                "infersdk_clock.advance() from the test while another thread or task makes the call, or set "
                "infersdk_clock.automatic = True"
            )

    def wake(self) -> None:
        """Have whoever sleeps look at its ``unless``."""
        with self._changed:
            self._changed.notify_all()

    def wait_for_sleepers(self, n: int = 1, *, timeout_s: float = 10.0) -> None:
        """Wait, in real time, until that many fakes are in the middle of a run.

        Raises
        ------
        TimeoutError
            They are fewer after `timeout_s` real seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._sleepers) >= n, timeout_s):
                raise TimeoutError(
                    f"Expected {n} runs that wait for the clock, got {len(self._sleepers)} after {timeout_s:g} s"
                )

    def _call_later(
        self,
        loop: asyncio.AbstractEventLoop,
        delay_s: float,
        function: Callable[..., Any],
        *args: Any,
    ) -> _Timer:
        timer = _Timer(loop, clock_ns() + int(delay_s * 1e9), function, args)
        with self._changed:
            self._timers.append(timer)
        return timer


class _Timer:
    """A callback of an event loop that waits for the clock."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        due_ns: int,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
    ) -> None:
        self.due_ns = due_ns
        self._loop = loop
        self._function = function
        self._arguments = arguments
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def ring(self) -> None:
        if not self._cancelled and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._call)

    def _call(self) -> None:
        if not self._cancelled:
            self._function(*self._arguments)
