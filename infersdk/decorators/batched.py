"""``@batched``: a Python function of a list, called with one item at a time from anywhere.

Encoders, tokenizers, remote models and everything else that is cheaper by the list get the queue that
models have: a call that finds the function idle runs at once in its own thread; whatever comes while it is
busy waits, and goes into its next call together. There is no waiting window. The queue and its threads are
native; the function runs with the GIL, as Python does.

Whether a function is one of items or a method is read from its signature: one parameter that must be given,
or two. A method has a queue for each instance, made when it is first used and gone with the instance.
"""

from __future__ import annotations

import functools
import inspect
import time
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import MethodType, TracebackType
from typing import Any, Generic, NoReturn, Protocol, Self, TypeVar, cast, overload

from infersdk._native import FunctionQueue
from infersdk.options import Batching
from infersdk.runtime.waiting import loop_calls

__all__ = ["BatchedFunction", "BatchedMethod", "batched"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Owner = TypeVar("Owner")
Answer_co = TypeVar("Answer_co", covariant=True)


class Answers(Protocol[Answer_co]):
    """What a batched function returns: a list, tuple, array, tensor or Series."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Answer_co: ...


@dataclass(frozen=True, slots=True)
class _Options:
    max_batch_size: int
    instances: int
    max_queue_size: int
    timeout_s: float | None
    name: str | None

    def __post_init__(self) -> None:
        Batching(
            max_batch_size=self.max_batch_size,
            max_queue_size=self.max_queue_size,
            timeout_s=self.timeout_s,
        )
        whole = isinstance(self.instances, int) and not isinstance(self.instances, bool)
        if not (whole and 1 <= self.instances <= 1024):
            raise ValueError(
                f"batched(instances=) must be a whole number from 1 to 1024, got {self.instances!r}"
            )

    def queue(
        self, function: Callable[[list[Any]], Any], named: Callable[..., Any]
    ) -> FunctionQueue:
        name: str = getattr(named, "__qualname__", type(named).__qualname__)
        return FunctionQueue(
            function,
            name=self.name or name.rpartition("<locals>.")[2],
            max_batch_size=self.max_batch_size,
            instances=self.instances,
            max_queue_size=self.max_queue_size,
            timeout_s=self.timeout_s,
            many=True,
        )


class BatchedFunction(Generic[Item, Answer]):
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
    name: str
    __name__: str
    __qualname__: str

    def __init__(
        self,
        function: Callable[[list[Item]], Answers[Answer]],
        queue: FunctionQueue,
        options: _Options,
    ) -> None:
        # Attributes of the function are not taken over: they could be called as ours are.
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self.name = queue.name
        self._queue = queue
        self._options = options

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
        items = list(items)
        limit_s = self._options.timeout_s if timeout_s is None else timeout_s
        ends = None if limit_s is None else time.monotonic() + limit_s
        answers: list[Answer] = []
        size = self._options.max_batch_size
        for first in range(0, len(items), size):
            part = items[first : first + size]
            # What is left may be nothing: the queue then says so.
            left_s = None if ends is None else limit_s if first == 0 else ends - time.monotonic()
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

    def __repr__(self) -> str:
        return f"<infersdk BatchedFunction `{self.name}`>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        if isinstance(self.function, MethodType):
            return getattr, (self.function.__self__, self.function.__name__)
        return getattr(self, "__qualname__", self.name)


class BatchedMethod(Generic[Owner, Item, Answer]):
    """A method of a list that is called with one item: ``answer = encoder.embed("text")``.

    Made by :func:`batched` in a class. Looked up on an instance it is a :class:`BatchedFunction` with
    that instance's own queue, which ends with the instance.

    Attributes
    ----------
    function : callable
        The plain function of ``self`` and a list.
    """

    function: Callable[[Owner, list[Item]], Answers[Answer]]
    __name__: str
    __qualname__: str

    def __init__(
        self, function: Callable[[Owner, list[Item]], Answers[Answer]], options: _Options
    ) -> None:
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self._options = options
        # By identity: instances may be equal, or have no hash. Only setdefault() and pop(), which are
        # atomic: no lock that a fork could find taken.
        self._queues: dict[int, tuple[weakref.ref[Owner], FunctionQueue]] = {}

    @overload
    def __get__(self, instance: None, owner: type[Owner], /) -> Self: ...
    @overload
    def __get__(
        self, instance: Owner, owner: type[Owner] | None = None, /
    ) -> BatchedFunction[Item, Answer]: ...
    def __get__(
        self, instance: Owner | None, owner: type[Owner] | None = None, /
    ) -> Self | BatchedFunction[Item, Answer]:
        if instance is None:
            return self
        entry = self._queues.get(id(instance))
        if entry is None:
            entry = self._queues.setdefault(id(instance), self._new_entry(instance))
        bound = cast(Callable[[list[Item]], Answers[Answer]], MethodType(self.function, instance))
        return BatchedFunction(bound, entry[1], self._options)

    def _new_entry(self, instance: Owner) -> tuple[weakref.ref[Owner], FunctionQueue]:
        key, queues = id(instance), self._queues
        try:
            reference = weakref.ref(instance, lambda _: queues.pop(key, None))
        except TypeError as error:
            raise TypeError(
                f"{type(instance).__name__} has __slots__ without `__weakref__`, so its batched method "
                f"`{self.__name__}` cannot have a queue for each instance; add '__weakref__' to __slots__"
            ) from error
        function = self.function

        def call(items: list[Item]) -> Answers[Answer]:
            # Whoever waits for an answer holds the instance; if it is gone, so is the caller.
            owner = reference()
            if owner is None:
                raise ReferenceError("the instance is gone")
            return function(owner, items)

        return reference, self._options.queue(call, self.function)

    def __call__(self, *arguments: Any, **named: Any) -> NoReturn:
        raise TypeError(
            f"`{self.__qualname__}` takes more than a list of items, so it is a method: call it on an "
            "instance of its class. A function that is batched must have one parameter without a default"
        )

    def __repr__(self) -> str:
        return f"<infersdk BatchedMethod `{self.__qualname__}`>"

    def __reduce__(self) -> str:
        return self.__qualname__


class _Decorator(Protocol):
    @overload
    def __call__(
        self, function: Callable[[list[Item]], Answers[Answer]], /
    ) -> BatchedFunction[Item, Answer]: ...
    @overload
    def __call__(
        self, function: Callable[[Owner, list[Item]], Answers[Answer]], /
    ) -> BatchedMethod[Owner, Item, Answer]: ...


@overload
def batched(
    function: Callable[[list[Item]], Answers[Answer]], /
) -> BatchedFunction[Item, Answer]: ...
@overload
def batched(
    function: Callable[[Owner, list[Item]], Answers[Answer]], /
) -> BatchedMethod[Owner, Item, Answer]: ...
@overload
def batched(
    *,
    max_batch_size: int = 32,
    instances: int = 1,
    max_queue_size: int = 4096,
    timeout_s: float | None = None,
    name: str | None = None,
) -> _Decorator: ...
def batched(
    function: Callable[..., Any] | None = None,
    /,
    *,
    max_batch_size: int = 32,
    instances: int = 1,
    max_queue_size: int = 4096,
    timeout_s: float | None = None,
    name: str | None = None,
) -> Any:
    """Let calls with one item share calls of a function of a list.

    A call that finds the function idle runs at once, in its caller's own thread. Items that come while
    it is busy wait and go into its next call together.

    Parameters
    ----------
    function : callable
        ``function(items: list) -> answers``: one answer for each item, in order, as a list, a tuple, an
        array (its rows are copied), a tensor or a Series. Or a method, ``function(self, items)``.
    max_batch_size : int
        The most items in one call of the function.
    instances : int
        Calls of the function that may be under way at once.
    max_queue_size : int
        The most items that may wait; a call beyond it is refused with :class:`OverloadedError`.
    timeout_s : float, optional
        How long a call may take when it does not say so itself.
    name : str, optional
        In messages; by default the function's own.

    Returns
    -------
    BatchedFunction, BatchedMethod or, without a function, a decorator

    Raises
    ------
    TypeError
        The function is not one of a list: it is async, a generator, or has other parameters.
    ValueError
        A number is out of range or not whole.

    Examples
    --------
    >>> import infersdk
    >>> @infersdk.batched(max_batch_size=64)
    ... def squares(numbers: list[int]) -> list[int]:
    ...     return [number * number for number in numbers]
    >>> squares(3)  # from any thread
    9
    >>> squares.many([1, 2, 3])
    [1, 4, 9]
    """
    options = _Options(max_batch_size, instances, max_queue_size, timeout_s, name)
    if function is None:
        return functools.partial(_decorate, options=options)
    return _decorate(function, options=options)


def _decorate(
    function: Callable[..., Any], /, *, options: _Options
) -> BatchedFunction[Any, Any] | BatchedMethod[Any, Any, Any]:
    if isinstance(function, (staticmethod, classmethod)):
        kind = type(function).__name__
        raise TypeError(
            f"batched takes the function itself, got a {kind}; "
            + ("put @staticmethod above @batched" if kind == "staticmethod" else "make it a method")
        )
    if not callable(function):
        raise TypeError(f"batched takes a function of a list, got {type(function).__name__}")
    n_parameters = _n_parameters(function)
    if n_parameters == 1:
        return BatchedFunction(function, options.queue(function, function), options)
    return BatchedMethod(function, options)


def _n_parameters(function: Callable[..., Any]) -> int:
    """How many arguments must be given by position: 1 or 2."""
    name = getattr(function, "__qualname__", repr(function))
    # An object may be called by an async method of its class.
    calls = (function, function if inspect.isroutine(function) else type(function).__call__)
    if any(inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in calls):
        raise TypeError(
            f"`{name}` is async; batched takes a plain function of a list, which is run in threads, and "
            f"gives it `acall` to be awaited"
        )
    if any(inspect.isgeneratorfunction(f) for f in calls):
        raise TypeError(f"`{name}` is a generator; batched takes a function that returns a list")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1  # of a compiled module, which does not say
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [item for item in parameters if item.default is item.empty]
    n = sum(item.kind in by_position for item in needed)
    if n == 0:
        # Of parameters that may be left out, the first takes the items.
        n = int(any(item.kind in (*by_position, item.VAR_POSITIONAL) for item in parameters))
    named = [item.name for item in needed if item.kind is item.KEYWORD_ONLY]
    if n not in (1, 2) or named:
        given = ", ".join(map(str, parameters)) or "none"
        raise TypeError(
            f"batched takes a function of one parameter, a list of items (and self), got `{name}` with "
            f"the parameters: {given}. Give the others defaults, or use functools.partial"
        )
    return n
