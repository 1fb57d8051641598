"""A function of a list that is called with one item.

The queue and its threads are native; the function runs with the GIL, as Python does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import Signature
from types import MethodType, TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, cast

from infersdk._native import FunctionQueue, clock_ns
from infersdk.decorators.batched_options import BatchedOptions
from infersdk.decorators.batched_report import BatchedReport
from infersdk.decorators.item_signature import dress
from infersdk.decorators.read_predictors import read_predictors
from infersdk.runtime import Predictor
from infersdk.runtime.waiting import loop_calls

__all__ = ["Answers", "BatchedBase", "BatchedFunction"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)


class Answers(Protocol[Answer_co]):
    """What a batched function returns: a list, tuple, array, tensor or Series."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Answer_co: ...


class BatchedBase(ABC):
    """What batched functions have in common, whether they are awaited or not.

    Attributes
    ----------
    function : callable
        The plain function.
    name : str
        In messages.
    """

    function: Callable[..., Any]
    name: str
    __name__: str
    __qualname__: str

    def __init__(
        self,
        function: Callable[..., Any],
        name: str,
        options: BatchedOptions,
        signature: Signature | None,
    ) -> None:
        dress(self, function, signature)
        self.function = function
        self.name = name
        self._options = options

    @property
    def predictors(self) -> Mapping[str, Predictor]:
        """The Predictors that the function reads from its globals, closure and defaults, by those names."""
        return read_predictors(self.function)

    @abstractmethod
    def queue_stats(self) -> dict[str, int]: ...

    def report(self) -> BatchedReport:
        """What became of the calls of this process so far; printed, it reads as text."""
        return BatchedReport.of(self.name, self.queue_stats())

    def _parts(
        self, items: Iterable[Any], timeout_s: float | None
    ) -> Iterator[tuple[list[Any], float | None]]:
        """What goes into one call of the function, and the time left when it does."""
        items = list(items)
        limit_s = self._options.timeout_s if timeout_s is None else timeout_s
        ends = None if limit_s is None else clock_ns() * 1e-9 + limit_s
        size = self._options.max_batch_size
        for first in range(0, len(items), size):
            # What is left may be nothing: the queue then says so.
            left_s = None if ends is None else limit_s if first == 0 else ends - clock_ns() * 1e-9
            yield items[first : first + size], left_s

    def __repr__(self) -> str:
        return f"<infersdk {type(self).__name__} `{self.name}`>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        if isinstance(self.function, MethodType):
            return getattr, (self.function.__self__, self.function.__name__)
        return getattr(self, "__qualname__", self.name)


class BatchedFunction(BatchedBase, Generic[Item, Answer]):
    """A function of a list that is called with one item: ``answer = embed("text")``.

    Made by :func:`batched`. Calls that come at the same time, from threads, asyncio and gevent, share
    calls of the function. Safe to use from any number of threads, and in the child of a fork; pickled
    by reference, as functions are.

    If the function raises, it is called again with the halves of its list, down to single calls: only
    the call at fault gets the exception, with its traceback. Items must therefore not depend on each
    other, and the function must not mind seeing them again.

    Attributes
    ----------
    function : callable
        The plain function.
    name : str
        In messages.
    """

    function: Callable[[list[Item]], Answers[Answer]]

    def __init__(
        self,
        function: Callable[[list[Item]], Answers[Answer]],
        queue: FunctionQueue,
        options: BatchedOptions,
        signature: Signature | None = None,
    ) -> None:
        super().__init__(function, queue.name, options, signature)
        self._queue = queue

    def __call__(
        self, item: Item, /, *, timeout_s: float | None = None, priority: int = 0
    ) -> Answer:
        """Answer one item.

        Parameters
        ----------
        item : object
        timeout_s : float, optional
            The most seconds that the call may wait; by default that of :func:`batched`. A call that has
            begun in the caller's own thread is finished and answered.
        priority : int
            Where calls wait, those of a higher one go first.

        Raises
        ------
        Exception
            What the function raises for this item.
        TypeError
            The function did not return one answer for each item.
        OverloadedError
            Too many items wait, or too many to be answered in time.
        DeadlineError
            The time ran out.
        ClosedError
            The function was closed.
        """
        answers = self._queue.call([item], timeout_s=timeout_s, priority=priority)
        return cast(Answer, answers[0])

    async def acall(
        self, item: Item, /, *, timeout_s: float | None = None, priority: int = 0
    ) -> Answer:
        """Answer one item from asyncio, without blocking the event loop.

        Cancelling the task takes the item out of the queue.

        Parameters
        ----------
        item, timeout_s, priority
            As for a call.

        Raises
        ------
        Exception
            As a call.
        """
        calls = loop_calls()
        call = self._queue.start([item], calls.completions, timeout_s=timeout_s, priority=priority)
        limit_s = self._options.timeout_s if timeout_s is None else timeout_s
        answers = await calls.wait(call, limit_s, model=self.name)
        return cast(Answer, answers[0])

    def many(
        self, items: Iterable[Item], /, *, timeout_s: float | None = None, priority: int = 0
    ) -> list[Answer]:
        """Answer several items, up to ``max_batch_size`` at a time and one such part after the other.

        Between its parts other callers have their turn. A part that is smaller shares a call of the
        function with other callers' items.

        Parameters
        ----------
        items : iterable
        timeout_s : float, optional
            For all of them together.
        priority : int
            As for a call.

        Returns
        -------
        list
            One answer for each item, in order.

        Raises
        ------
        Exception
            As a call; an error of one item is the error of all.
        """
        answers: list[Answer] = []
        for part, left_s in self._parts(items, timeout_s):
            answers += self._queue.call(part, n_rows=len(part), timeout_s=left_s, priority=priority)
        return answers

    def queue_stats(self) -> dict[str, int]:
        """Count what became of the calls of this process, as :meth:`Predictor.queue_stats` does.

        Returns
        -------
        dict of str to int
            ``inline_runs`` in callers' own threads; ``batches`` and ``batched_rows`` of calls that were
            queued; ``largest_batch``; ``refused``, ``expired``, ``cancelled`` and ``failed`` calls;
            ``queued_rows`` and ``running`` now.
        """
        return self._queue.stats()

    def close(self) -> None:
        """Answer the calls that are under way, then take no more. Calling it again does nothing.

        Raises
        ------
        RuntimeError
            The function itself asks for it.
        """
        self._queue.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
