"""``@batched``: a Python function of a list, called with one item at a time from anywhere.

Encoders, tokenizers, remote models and everything else that is cheaper by the list get the queue that
models have: a call that finds the function idle runs at once; whatever comes while it is busy waits, and goes
into its next call together. There is no waiting window. Plain functions run in threads, async ones on the
event loops of their callers.

Whether a function is one of items or a method is read from its signature: one parameter that must be
given, or two. A method has a queue for each instance, made when it is first used and gone with the
instance.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, overload

from infersdk.decorators.async_queue import AsyncQueue
from infersdk.decorators.batched_async import AsyncBatchedFunction
from infersdk.decorators.batched_function import Answers, BatchedFunction
from infersdk.decorators.batched_method import AsyncBatchedMethod, BatchedMethod, new_queue
from infersdk.decorators.batched_options import BatchedOptions
from infersdk.decorators.item_signature import item_signature

__all__ = ["batched"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Owner = TypeVar("Owner")


class _Decorator(Protocol):
    @overload
    def __call__(
        self, function: Callable[[list[Item]], Awaitable[Answers[Answer]]], /
    ) -> AsyncBatchedFunction[Item, Answer]: ...
    @overload
    def __call__(
        self, function: Callable[[Owner, list[Item]], Awaitable[Answers[Answer]]], /
    ) -> AsyncBatchedMethod[Owner, Item, Answer]: ...
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
    function: Callable[[list[Item]], Awaitable[Answers[Answer]]], /
) -> AsyncBatchedFunction[Item, Answer]: ...
@overload
def batched(
    function: Callable[[Owner, list[Item]], Awaitable[Answers[Answer]]], /
) -> AsyncBatchedMethod[Owner, Item, Answer]: ...
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
    it is busy wait and go into its next call together. An async function becomes one that is awaited with
    one item; it runs on its callers' event loop, and each loop has a queue of its own.

    Parameters
    ----------
    function : callable
        ``function(items: list) -> answers``: one answer for each item, in order, as a list, a tuple, an
        array (its rows are copied), a tensor or a Series. Or a method, ``function(self, items)``. Or
        either of them with ``async def``.
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
    BatchedFunction, BatchedMethod, AsyncBatchedFunction, AsyncBatchedMethod or, without a function, a decorator

    Raises
    ------
    TypeError
        The function is not one of a list: it is a generator, or has other parameters.
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
    options = BatchedOptions(max_batch_size, instances, max_queue_size, timeout_s, name)
    if function is None:
        return functools.partial(_decorate, options=options)
    return _decorate(function, options=options)


def _decorate(
    function: Callable[..., Any], /, *, options: BatchedOptions
) -> (
    BatchedFunction[Any, Any]
    | BatchedMethod[Any, Any, Any]
    | AsyncBatchedFunction[Any, Any]
    | AsyncBatchedMethod[Any, Any, Any]
):
    if isinstance(function, (staticmethod, classmethod)):
        kind = type(function).__name__
        raise TypeError(
            f"batched takes the function itself, got a {kind}; "
            + ("put @staticmethod above @batched" if kind == "staticmethod" else "make it a method")
        )
    if not callable(function):
        raise TypeError(f"batched takes a function of a list, got {type(function).__name__}")
    is_async, is_method = _is_async(function), _n_parameters(function) == 2
    if is_method:
        return (AsyncBatchedMethod if is_async else BatchedMethod)(function, options)
    name, signature = options.name_of(function), item_signature(function)
    if is_async:
        queue = AsyncQueue(function, name, options)
        return AsyncBatchedFunction(function, queue, options, signature)
    return BatchedFunction(function, new_queue(function, name, options), options, signature)


def _is_async(function: Callable[..., Any]) -> bool:
    """Whether what it returns is to be awaited; a generator of either kind is refused."""
    # An object may be called by an async method of its class.
    calls = (function, function if inspect.isroutine(function) else type(function).__call__)
    if any(inspect.isgeneratorfunction(f) or inspect.isasyncgenfunction(f) for f in calls):
        name = getattr(function, "__qualname__", repr(function))
        raise TypeError(f"`{name}` is a generator; batched takes a function that returns a list")
    return any(inspect.iscoroutinefunction(f) for f in calls)


def _n_parameters(function: Callable[..., Any]) -> int:
    """How many arguments must be given by position: 1 or 2."""
    name = getattr(function, "__qualname__", repr(function))
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
