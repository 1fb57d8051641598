"""An async function of a list that is awaited with one item."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from inspect import Signature
from types import CodeType, TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from infersdk.decorators.async_queue import AsyncQueue
from infersdk.decorators.batched_function import Answers, BatchedBase
from infersdk.decorators.batched_options import BatchedOptions

__all__ = ["AsyncBatchedFunction"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class AsyncBatchedFunction(BatchedBase, Generic[Item, Answer]):
    """An async function of a list that is awaited with one item: ``answer = await embed("text")``.

    Made by :func:`batched`. Calls that come at the same time share calls of the function; each event loop
    has its own queue. It counts as a coroutine function, and is pickled by reference.

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

    function: Callable[[list[Item]], Awaitable[Answers[Answer]]]

    def __init__(
        self,
        function: Callable[[list[Item]], Awaitable[Answers[Answer]]],
        queue: AsyncQueue,
        options: BatchedOptions,
        signature: Signature | None = None,
    ) -> None:
        super().__init__(function, queue.name, options, signature)
        self._queue = queue

    async def __call__(
        self, item: Item, /, *, timeout_s: float | None = None, priority: int = 0
    ) -> Answer:
        """Answer one item.

        Cancelling the task takes the item out of the queue. A call of the function in which nobody waits
        for any item any more is cancelled too.

        Parameters
        ----------
        item : object
        timeout_s : float, optional
            The most seconds that the call may take; by default that of :func:`batched`.
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
        answers = await self._queue.call([item], timeout_s=timeout_s, priority=priority)
        return cast(Answer, answers[0])

    # What inspect.iscoroutinefunction() looks at, from its caller's side.
    __code__: CodeType = __call__.__code__
    __defaults__: tuple[Any, ...] | None = __call__.__defaults__
    __kwdefaults__: dict[str, Any] | None = __call__.__kwdefaults__

    async def many(
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
            answers += await self._queue.call(part, timeout_s=left_s, priority=priority)
        return answers

    def queue_stats(self) -> dict[str, int]:
        """Count what became of the calls of this process.

        Returns
        -------
        dict of str to int
            ``inline_runs`` that found the function idle and had it alone; ``batches`` and
            ``batched_rows`` of all others; ``largest_batch``; ``refused``, ``expired``, ``cancelled`` and
            ``failed`` calls; ``queued_rows`` and ``running`` now.
        """
        return self._queue.stats()

    def close(self) -> None:
        """Take no more calls. What waits is answered; :meth:`aclose` waits for that."""
        self._queue.close()

    async def aclose(self) -> None:
        """Answer the calls of this event loop that are under way, and take no more.

        Raises
        ------
        RuntimeError
            The function itself asks for it.
        """
        await self._queue.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
