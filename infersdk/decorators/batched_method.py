"""Methods of a list that are called with one item: a queue for each instance."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable
from types import CodeType, MethodType
from typing import Any, Generic, NoReturn, Self, TypeVar, cast, overload

from infersdk._native import FunctionQueue
from infersdk.decorators.async_queue import AsyncQueue
from infersdk.decorators.batched_async import AsyncBatchedFunction
from infersdk.decorators.batched_function import Answers, BatchedFunction
from infersdk.decorators.batched_options import BatchedOptions
from infersdk.decorators.item_signature import dress, item_signature, with_self

__all__ = ["AsyncBatchedMethod", "BatchedMethod", "new_queue"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Owner = TypeVar("Owner")
Queue = TypeVar("Queue")


def new_queue(
    function: Callable[[list[Any]], Any], name: str, options: BatchedOptions
) -> FunctionQueue:
    """The native queue of a function of a list."""
    return FunctionQueue(
        function,
        name=name,
        max_batch_size=options.max_batch_size,
        instances=options.instances,
        max_queue_size=options.max_queue_size,
        timeout_s=options.timeout_s,
        many=True,
    )


class _Method(Generic[Owner, Queue]):
    """Keeps the queues of the instances on which a method is looked up."""

    function: Callable[..., Any]
    __name__: str
    __qualname__: str

    def __init__(self, function: Callable[..., Any], options: BatchedOptions) -> None:
        self._signature = item_signature(function, method=True)
        dress(self, function, with_self(self._signature))
        self.function = function
        self._options = options
        # By identity: instances may be equal, or have no hash. Only setdefault() and pop(), which are
        # atomic: no lock that a fork could find taken.
        self._queues: dict[int, tuple[weakref.ref[Owner], Queue]] = {}

    def _queue_of(self, instance: Owner) -> Queue:
        entry = self._queues.get(id(instance))
        if entry is None:
            entry = self._queues.setdefault(id(instance), self._new_entry(instance))
        return entry[1]

    def _new_entry(self, instance: Owner) -> tuple[weakref.ref[Owner], Queue]:
        key, queues = id(instance), self._queues
        try:
            reference = weakref.ref(instance, lambda _: queues.pop(key, None))
        except TypeError as error:
            raise TypeError(
                f"{type(instance).__name__} has __slots__ without `__weakref__`, so its batched method "
                f"`{self.__name__}` cannot have a queue for each instance; add '__weakref__' to __slots__"
            ) from error

        def owner() -> Owner:
            # Whoever waits for an answer holds the instance; if it is gone, so is the caller.
            instance = reference()
            if instance is None:
                raise ReferenceError("the instance is gone")
            return instance

        return reference, self._new_queue(owner)

    def _new_queue(self, owner: Callable[[], Owner]) -> Queue:
        raise NotImplementedError

    def __call__(self, *arguments: Any, **named: Any) -> NoReturn:
        raise TypeError(
            f"`{self.__qualname__}` takes more than a list of items, so it is a method: call it on an "
            "instance of its class. A function that is batched must have one parameter without a default"
        )

    def __repr__(self) -> str:
        return f"<infersdk {type(self).__name__} `{self.__qualname__}`>"

    def __reduce__(self) -> str:
        return self.__qualname__


class BatchedMethod(_Method[Owner, FunctionQueue], Generic[Owner, Item, Answer]):
    """A method of a list that is called with one item: ``answer = encoder.embed("text")``.

    Made by :func:`batched` in a class. Looked up on an instance it is a :class:`BatchedFunction` with
    that instance's own queue, which ends with the instance.

    Attributes
    ----------
    function : callable
        The plain function of ``self`` and a list.
    """

    function: Callable[[Owner, list[Item]], Answers[Answer]]

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
        bound = cast(Callable[[list[Item]], Answers[Answer]], MethodType(self.function, instance))
        return BatchedFunction(bound, self._queue_of(instance), self._options, self._signature)

    def _new_queue(self, owner: Callable[[], Owner]) -> FunctionQueue:
        function = self.function

        def call(items: list[Item]) -> Answers[Answer]:
            return function(owner(), items)

        return new_queue(call, self._options.name_of(function), self._options)


class AsyncBatchedMethod(_Method[Owner, AsyncQueue], Generic[Owner, Item, Answer]):
    """An async method of a list that is awaited with one item: ``answer = await client.embed("text")``.

    Made by :func:`batched` in a class. Looked up on an instance it is an :class:`AsyncBatchedFunction`
    with that instance's own queues, which end with the instance.

    Attributes
    ----------
    function : callable
        The plain function of ``self`` and a list.
    """

    function: Callable[[Owner, list[Item]], Awaitable[Answers[Answer]]]

    # What inspect.iscoroutinefunction() looks at.
    __code__: CodeType = AsyncBatchedFunction.__code__
    __defaults__: tuple[Any, ...] | None = AsyncBatchedFunction.__defaults__
    __kwdefaults__: dict[str, Any] | None = AsyncBatchedFunction.__kwdefaults__

    @overload
    def __get__(self, instance: None, owner: type[Owner], /) -> Self: ...
    @overload
    def __get__(
        self, instance: Owner, owner: type[Owner] | None = None, /
    ) -> AsyncBatchedFunction[Item, Answer]: ...
    def __get__(
        self, instance: Owner | None, owner: type[Owner] | None = None, /
    ) -> Self | AsyncBatchedFunction[Item, Answer]:
        if instance is None:
            return self
        bound = cast(
            Callable[[list[Item]], Awaitable[Answers[Answer]]], MethodType(self.function, instance)
        )
        return AsyncBatchedFunction(bound, self._queue_of(instance), self._options, self._signature)

    def _new_queue(self, owner: Callable[[], Owner]) -> AsyncQueue:
        function = self.function

        async def call(items: list[Item]) -> Answers[Answer]:
            return await function(owner(), items)

        return AsyncQueue(call, self._options.name_of(function), self._options)
