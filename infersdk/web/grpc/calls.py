"""One unary call: who asks, what is refused, and the bytes in between.

gRPC hands over bytes and takes bytes, so that a call is guarded before its message is read, and large tensors are
read where they lie.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError

from infersdk.errors import InputError
from infersdk.web.grpc.messages import INFERENCE, INFERENCE_SERVICE
from infersdk.web.grpc.status import Refusal, refusal_of
from infersdk.web.guard import Guard
from infersdk.web.protocol import Access
from infersdk.web.request import Request

__all__ = ["Context", "RefusedError", "answer_bytes", "parse", "request_of", "unary"]

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

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
    answer: Callable[[bytes, Request, Context], Awaitable[bytes]],
) -> grpc.RpcMethodHandler[Any, Any]:
    """Make the handler of one method.

    Parameters
    ----------
    name : str
        Of the inference service's method.
    guard : Guard
    access : {"public", "guarded", "admin"}
    answer : callable
        Awaited with the message's bytes, the request and the context; gives the response's bytes. Whatever it
        raises becomes a status.
    """
    path = f"/{INFERENCE_SERVICE}/{name}"

    async def call(body: bytes, context: Context) -> bytes:
        request = request_of(path, context)
        try:
            guard.check(request, access)
            return await answer(body, request, context)
        except RefusedError as refused:
            refusal = refused.refusal
        except Exception as error:
            refusal = refusal_of(error)
        await context.abort(refusal.code, refusal.message, refusal.trailing)
        raise AssertionError("abort() raises")

    return grpc.unary_unary_rpc_method_handler(call)


def answer_bytes(
    name: str, answer: Callable[[Any], Awaitable[Any]]
) -> Callable[[bytes, Request, Context], Awaitable[bytes]]:
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
        fields = await answer(parse(name, body))
        written: bytes = response(**fields).SerializeToString()
        return written

    return answer_body


def parse(name: str, body: bytes) -> Any:
    """Read a method's request.

    Raises
    ------
    InputError
        The bytes are none.
    """
    try:
        return INFERENCE[f"{name}Request"].FromString(body)
    except DecodeError:
        raise InputError.mismatch(
            expected=f"a message {name}Request", given=f"{len(body):,} bytes that are none"
        ) from None


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
