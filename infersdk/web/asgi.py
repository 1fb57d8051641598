"""Models in an ASGI app: one ASGI application that answers, and the app's life cycle around the models.

No framework is needed here. The adapters of FastAPI, Starlette and Litestar put :class:`ASGIApp` into the
framework's routes, and :meth:`InferSDK.lifespan` into its life cycle.

A request costs its server about as much as the model's run, so the way of an ordinary one is kept short.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    MutableMapping,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Never, Unpack

from infersdk.predictors import Predictors, add_resolver, current_predictors
from infersdk.runtime import Predictor
from infersdk.web.disconnects import while_connected
from infersdk.web.problems import ProblemError, Reply, body_too_large, no_page
from infersdk.web.request import Request
from infersdk.web.service import JSON, Service
from infersdk.web.settings import Options, Settings

if TYPE_CHECKING:
    from infersdk.web.rsgi import RSGIApp

__all__ = ["ASGIApp", "InferSDK", "PredictorsMiddleware", "current_predictors"]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]

SMALL_DIGITS = 5
"""A body whose length has no more digits is there already, or about to be: to read it costs less than to look
into the request beforehand for a reason not to."""


class InferSDK:
    """The models of one ASGI app, their life cycle, and their own routes.

    Where there is an adapter for the framework, use its ``InferSDK`` instead, which has all this too.

    Parameters
    ----------
    models : Mapping of str to object
        Name to a model's file, a trained model, an :class:`infersdk.ModelConfig`, or a dict of its
        parameters.
    url_prefix : str, optional
        Where the models' own routes are, e.g. "/models".
    **options
        Limits, protocols, metrics and who may ask: see :class:`infersdk.web.settings.Settings`. Of
        ``opening``, "auto" means: by the lifespan, in each worker, before it takes requests.

    Attributes
    ----------
    predictors : Predictors
        The models; ``infer.predictors["churn"]`` is a Predictor.
    settings : Settings
    app : ASGIApp
        Answers requests: to be mounted in any ASGI framework, or served as it is.

    Raises
    ------
    TypeError, ValueError
        A setting is not valid.

    Examples
    --------
    >>> from infersdk.web.asgi import InferSDK
    >>> infer = InferSDK(models={"churn": "churn.onnx"})
    >>> app = infer.app  # uvicorn module:app
    """

    def __init__(
        self,
        *misplaced: Never,
        models: Mapping[str, Any] | None = None,
        url_prefix: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        if misplaced:
            raise TypeError(
                f"Expected keyword arguments only, got {type(misplaced[0]).__name__}: write "
                "InferSDK(models={...}). Only the adapters of FastAPI, Starlette, Flask and Quart take an app"
            )
        self.settings = Settings(models=models or {}, url_prefix=url_prefix, **options)
        self.predictors = Predictors(self.settings.models, opening=self.settings.opening)
        self.service = Service(self.predictors, self.settings)
        self.app = ASGIApp(self, self.settings.url_prefix or "")
        self._starts = 0
        if self.settings.opening == "now":
            self.predictors.prepare()

    @property
    def rsgi(self) -> RSGIApp:
        """Answers requests over RSGI: ``granian --interface rsgi module:infer.rsgi``."""
        from infersdk.web.rsgi import RSGIApp

        return RSGIApp(self)

    @asynccontextmanager
    async def lifespan(self, app: Any = None) -> AsyncIterator[None]:
        """Have the models open and warm meanwhile: for ``FastAPI(lifespan=infer.lifespan)`` and the like.

        Parameters
        ----------
        app : object
            Not looked at; frameworks pass theirs.

        Raises
        ------
        Exception
            As :meth:`start`.
        """
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    async def start(self) -> None:
        """Open the models and warm them up, in a thread. Every start needs a stop; all but the first do nothing.

        Raises
        ------
        Exception
            What opening a model raised: an app whose models cannot be opened does not start.
        """
        self._starts += 1
        if self._starts == 1:
            self.predictors.renew()
        if self.settings.opening == "lazy":
            return
        try:
            await self.predictors.aopen()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """With the last stop running calls finish, and the models are closed."""
        self._starts -= 1
        if not self._starts:
            await self.predictors.aclose()

    def lifespan_with(self, own: Lifespan) -> Lifespan:
        """Put the models' life around the app's own: its lifespan can use them, at start and at stop.

        Parameters
        ----------
        own : callable
            The app's lifespan function, an ``@asynccontextmanager``. What it yields is passed on.
        """

        @asynccontextmanager
        async def both(app: Any) -> AsyncIterator[Any]:
            async with self.lifespan(app), own(app) as state:
                yield state

        return both

    async def get(self, name: str) -> Predictor:
        """Give a model, and open it if need be without holding up the event loop.

        Parameters
        ----------
        name : str

        Raises
        ------
        UnknownModelError
            No such model was declared.
        Exception
            What opening it raised.
        """
        predictors = self.predictors
        if name in predictors and not predictors.is_open(name):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(None, predictors.__getitem__, name)
        return predictors[name]

    async def reply(
        self,
        request: Request,
        body: AsyncIterable[bytes],
        disconnected: Callable[[], Awaitable[bool]],
        *,
        name: str | None = None,
        method: str | None = None,
    ) -> Reply | None:
        """Answer a request of a framework's: what its adapter's endpoints call.

        Parameters
        ----------
        request : Request
        body : async iterable of bytes
            Read only if the request is not refused before, and no further than is allowed.
        disconnected : callable
            As for :func:`infersdk.web.disconnects.while_connected`.
        name, method : str, optional
            The model and its method, for an endpoint of the app's own; by default the path says.

        Returns
        -------
        Reply or None
            None when the client has gone.
        """
        service = self.service
        refusal = service.refuse_early(request, name)
        if refusal is not None:
            return refusal
        whole: bytes | bytearray = b""
        try:
            if request.method == "POST" or name is not None:
                whole = await collect(body, self.settings.max_body_bytes)
        except ProblemError as problem:
            return service.refuse(request, problem) if name is None else problem.reply()
        if name is None:
            return await while_connected(service.ahandle(request, whole), disconnected)
        return await while_connected(service.aanswer(name, method, request, whole), disconnected)

    def __repr__(self) -> str:
        return f"<InferSDK {self.predictors!r}>"


class ASGIApp:
    """Answers the requests of an app's models. Served as it is, it also opens and closes them.

    Parameters
    ----------
    infer : InferSDK
    prefix : str
        Where it answers, below the path at which it is mounted; by default everywhere.
    """

    def __init__(self, infer: InferSDK, prefix: str = "") -> None:
        self._infer = infer
        self._service = infer.service
        self._prefix = prefix.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; see the ASGI specification."""
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        path = route_path(scope)
        http_method: str = scope["method"]
        if self._prefix:
            rest = below(path, self._prefix)
            if rest is None:
                await _send(send, no_page(path).reply(), http_method)
                return
            path = rest
        headers: dict[bytes, bytes] = dict(scope["headers"])

        def header(name: str) -> str | None:
            value = headers.get(name.encode())
            return None if value is None else value.decode("latin-1")

        client = scope.get("client")
        request = Request(
            http_method,
            path,
            header,
            client[0] if client else None,
            scope["query_string"].decode("latin-1"),
        )
        body: bytes | bytearray = b""
        if http_method == "POST":
            length = headers.get(b"content-length")
            if length is None or len(length) > SMALL_DIGITS:
                refusal = self._service.refuse_early(request)
                if refusal is not None:
                    await _send(send, refusal, http_method)
                    return
            message = await receive()
            body = message.get("body", b"")
            if message["type"] != "http.request" or message.get("more_body"):
                try:
                    body = await collect(
                        _parts(message, receive), self._infer.settings.max_body_bytes
                    )
                except ProblemError as problem:
                    await _send(send, self._service.refuse(request, problem), http_method)
                    return
                except _DisconnectedError:
                    await _send(send, GONE, http_method)
                    return

        async def disconnected() -> bool:
            return (await receive())["type"] == "http.disconnect"

        answering = self._service.ahandle(request, body)
        reply = await while_connected(answering, disconnected)
        await _send(send, GONE if reply is None else reply, http_method)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        else:
            raise NotImplementedError(
                f"Expected a scope of type http, websocket or lifespan, got {scope['type']!r}"
            )

    async def _live(self, receive: Receive, send: Send) -> None:
        """The lifespan protocol, for a server that serves this application itself."""
        await receive()
        done = "startup"
        try:
            async with self._infer.lifespan():
                await send({"type": "lifespan.startup.complete"})
                done = "shutdown"
                await receive()
        except Exception:
            # For the server's log. A worker whose models cannot be opened must not take requests.
            await send({"type": f"lifespan.{done}.failed", "message": traceback.format_exc()})
        else:
            await send({"type": "lifespan.shutdown.complete"})


class PredictorsMiddleware:
    """Let ``current_predictors`` mean this app's models while it answers a request.

    ``init_app`` of the adapters adds it. Elsewhere it is needed only in a process that serves several apps with
    models of their own.

    Parameters
    ----------
    app : ASGI application
        Around which it is put, as frameworks do: ``add_middleware(PredictorsMiddleware, infer=infer)``.
    infer : InferSDK
    """

    def __init__(self, app: Application, infer: InferSDK) -> None:
        self.app = app
        self.infer = infer
        add_resolver(_current.get)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        token = _current.set(self.infer.predictors)
        try:
            await self.app(scope, receive, send)
        finally:
            _current.reset(token)


_current: ContextVar[Predictors | None] = ContextVar("infersdk.current_predictors", default=None)


async def collect(parts: AsyncIterable[bytes], limit_bytes: int) -> bytes | bytearray:
    """Read a body that comes in parts, and copy it no more than once.

    Raises
    ------
    ProblemError
        It is longer than the limit.
    """
    first = b""
    whole: bytearray | None = None
    async for part in parts:
        if whole is None and not first:
            first = part  # all of it, as often as not
        else:
            if whole is None:
                whole = bytearray(first)
            whole += part
        if len(first if whole is None else whole) > limit_bytes:
            raise body_too_large(limit_bytes, "more")
    return first if whole is None else whole


class _DisconnectedError(Exception):
    """The client went away while it sent."""


async def _parts(message: MutableMapping[str, Any], receive: Receive) -> AsyncIterator[bytes]:
    while message["type"] == "http.request":
        yield message.get("body", b"")
        if not message.get("more_body"):
            return
        message = await receive()
    raise _DisconnectedError


# -- replies -------------------------------------------------------------------------------------

GONE = Reply(499, b"", ())
"""For a client that went away. Servers send nothing more to it, but middleware waits for a response, and logs have
its status."""

_JSON = (b"content-type", b"application/json")


async def _send(send: Send, reply: Reply, http_method: str) -> None:
    status, body, headers = reply
    length = (b"content-length", b"%d" % len(body))
    if headers is JSON:
        pairs = [_JSON, length]
    else:
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        pairs.append(length)
    if http_method == "HEAD":
        body = b""
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def route_path(scope: Mapping[str, Any]) -> str:
    """The path below the application's own root, which servers and mounts leave in the path."""
    path: str = scope["path"]
    root: str | None = scope.get("root_path")
    if not root:
        return path
    rest = below(path, root)
    if rest is None and "app_root_path" in scope:
        # Mounted by Starlette, behind a proxy that takes the app's root away.
        rest = below(path, root[len(scope["app_root_path"]) :])
    return path if rest is None else rest


def below(path: str, prefix: str) -> str | None:
    """The rest of a path; None where it does not begin with the prefix."""
    if not path.startswith(prefix):
        return None
    rest = path[len(prefix) :]
    return rest if not rest or rest[0] == "/" else None
