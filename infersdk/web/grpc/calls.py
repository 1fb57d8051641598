"""One call: who asks, what is refused, and the bytes in between.

gRPC hands over bytes and takes bytes, so that a call is guarded before its message is read, and large tensors are
read where they lie.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias
from urllib.parse import unquote

import grpc

from infersdk.web.grpc.messages import INFERENCE, INFERENCE_SERVICE, parse
from infersdk.web.grpc.status import Refusal, refusal_of
from infersdk.web.guard import Guard
from infersdk.web.protocol import Access
from infersdk.web.request import Request

__all__ = [
    "Answer",
    "Context",
    "RefusedError",
    "answer_bytes",
    "refusal_in",
    "request_of",
    "stream",
    "unary",
]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

Answer = Callable[[bytes, Request, Context], Awaitable[bytes]]
"""Awaited with a message's bytes, the request and the context; gives the response's bytes."""

_OF_HTTP = frozenset({"accept-encoding", "content-encoding", "content-length"})
"""Of metadata: what would mean something else about an HTTP request; gRPC has its own."""


class RefusedError(Exception):
    """A call that is refused; what to say is known already."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def unary(
    name: str,
    guard: Guard,
    access: Access,
    answer: Answer,
) -> grpc.RpcMethodHandler[Any, Any]:
    """Make the handler of one method.

    Parameters
    ----------
    name : str
        Of the inference service's method.
    guard : Guard
    access : {"public", "guarded", "admin"}
    answer : callable
        An :data:`Answer`. Whatever it raises becomes a status.
    """
    path = f"/{INFERENCE_SERVICE}/{name}"

    async def call(body: bytes, context: Context) -> bytes:
        request = request_of(path, context)
        try:
            guard.check(request, access)
            return await answer(body, request, context)
        except Exception as error:
            refusal = refusal_in(error)
        await context.abort(refusal.code, refusal.message, refusal.trailing)
        raise AssertionError("abort() raises")

    return grpc.unary_unary_rpc_method_handler(call)


def stream(
    name: str,
    guard: Guard,
    access: Access,
    answer: Answer,
) -> grpc.RpcMethodHandler[Any, Any]:
    """Make the handler of a method that answers each message of a stream, in their order.

    Parameters
    ----------
    name, guard, access
        As for :func:`unary`.
    answer : callable
        As for :func:`unary`; what it raises ends the stream.
    """
    path = f"/{INFERENCE_SERVICE}/{name}"

    async def call(bodies: AsyncIterable[bytes], context: Context) -> AsyncIterator[bytes]:
        request = request_of(path, context)
        try:
            guard.check(request, access)
            async for body in bodies:
                yield await answer(body, request, context)
            return
        except Exception as error:
            refusal = refusal_in(error)
        await context.abort(refusal.code, refusal.message, refusal.trailing)

    return grpc.stream_stream_rpc_method_handler(call)


def refusal_in(error: Exception) -> Refusal:
    """What to say of an exception; that of a RefusedError is known already.

    Parameters
    ----------
    error : Exception
    """
    return error.refusal if isinstance(error, RefusedError) else refusal_of(error)


def answer_bytes(name: str, answer: Callable[[Any], Awaitable[Any]]) -> Answer:
    """Make of a function of messages one of bytes, for :func:`unary`.

    Parameters
    ----------
    name : str
        Of the inference service's method.
    answer : callable
        Awaited with the request's message; gives the fields of the response's, by name.
    """
    response = INFERENCE[f"{name}Response"]

    async def answer_body(body: bytes, request: Request, context: Context) -> bytes:
        fields = await answer(parse(f"{name}Request", body))
        written: bytes = response(**fields).SerializeToString()
        return written

    return answer_body


def request_of(path: str, context: Context) -> Request:
    """What guards, traces and logs read of a call, as they do of an HTTP request.

    Parameters
    ----------
    path : str
    context : grpc.aio.ServicerContext
    """
    metadata = context.invocation_metadata() or ()

    def header(name: str) -> str | None:
        if name in _OF_HTTP:
            return None
        for key, value in metadata:
            if key == name and isinstance(value, str):
                return value
        return None

    return Request("POST", path, header, _client(context.peer()))


def _client(peer: str) -> str:
    """An address as web servers give it, of ``ipv4:127.0.0.1:5000``, ``ipv6:%5B::1%5D:5000`` or ``unix:``."""
    kind, _, rest = peer.partition(":")
    if kind == "ipv4":
        return rest.rpartition(":")[0]
    if kind == "ipv6":
        return unquote(rest).rpartition(":")[0].strip("[]")
    return "" if kind == "unix" else peer
