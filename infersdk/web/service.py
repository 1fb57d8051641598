"""The one way of a request: path -> protocol -> rows -> Predictor -> answer.

Every host's adapter hands over a :class:`Request` and its body, and writes the Reply back. What is wrong with a
request is found here, in this order: the path, the HTTP method, who asks, the length and the content type before
the body is read (:meth:`Service.refuse_early`), then what the body says, and at last the rows themselves.

How paths and bodies look is the affair of the protocols (`web/protocols`); the Service routes, guards, unpacks, runs the
models, and tells observers (counts, the access log) what became of each request.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from time import perf_counter
from typing import Any

from infersdk.errors import InputError, UnknownModelError
from infersdk.monitor.exemplars import Exemplars
from infersdk.predictors import Predictors
from infersdk.runtime import Predictor
from infersdk.web.access_log import AccessLog
from infersdk.web.encodings import accepts_gzip, decompressed, gzipped
from infersdk.web.guard import Guard
from infersdk.web.outcome import (
    Observer,
    Outcome,
    RequestCounts,
    new_request_id,
    request_id_of,
)
from infersdk.web.pages import Pages
from infersdk.web.problems import ProblemError, Reply, body_too_large, no_page, reply_to
from infersdk.web.protocol import EVERY_MODEL, Call, Inference, Page, Protocol
from infersdk.web.protocols import protocol_class
from infersdk.web.protocols.rows import JSON, RowsProtocol
from infersdk.web.request import Header, Request
from infersdk.web.settings import Settings
from infersdk.web.tracing import keep_exemplar, trace_requests

__all__ = ["JSON", "Header", "Reply", "Request", "Service"]

logger = logging.getLogger("infersdk.web")

_MOST_ROUTES = 1024
"""Remembered; methods are not looked up here, so clients can make up any number."""

_LONGEST_ROUTE = 512
"""Characters of a path that is remembered."""

_UNPACKED_HERE_BYTES = 2**16
"""Larger compressed bodies are unpacked in a thread, not on the event loop."""

Route = Page | Inference


class Service:
    """Answers the requests of one app.

    Safe to use from any number of threads and event loops.

    Parameters
    ----------
    predictors : Predictors
        The app's models.
    settings : Settings, optional
        Its limits. Its ``models`` are not looked at.

    Attributes
    ----------
    protocols : tuple of Protocol
        Those that are on, in the order in which they are asked for a path.
    requests : RequestCounts or None
        With the setting ``metrics``: how many were answered.

    Raises
    ------
    ValueError
        A model has a name that a route needs.
    """

    def __init__(self, predictors: Predictors, settings: Settings | None = None) -> None:
        self.predictors = predictors
        self.settings = settings = settings or Settings()
        self._rows = RowsProtocol(self)
        self._pages = Pages(self)
        others = [
            protocol_class(name)(self) for name in settings.protocols if name != RowsProtocol.name
        ]
        # Rows come last: a model's name may be anything that no other protocol needs.
        last = [self._rows] if RowsProtocol.name in settings.protocols else []
        self.protocols: tuple[Protocol, ...] = (self._pages, *others, *last)
        reserved = frozenset().union(*(protocol.reserved for protocol in self.protocols))
        if not settings.metrics:
            reserved -= {"metrics"}
        for name in reserved.intersection(predictors):
            raise ValueError(
                f"A model cannot be called `{name}`, as a route has that name; rename it"
            )
        self._max_body_bytes = settings.max_body_bytes
        self._timeout_s = settings.timeout_s
        self._compress_min_bytes = settings.compress_min_bytes
        self._guard = Guard(settings.tokens, settings.guard)
        self._is_guarded = self._guard.asks
        self._observers: tuple[Observer, ...] = ()
        self._is_observed = settings.metrics
        self.requests: RequestCounts | None = None
        self.exemplars: Exemplars | None = None
        self._start_observing()
        self._methods: dict[tuple[str, str | None], tuple[Predictor, str]] = {}
        # Of paths that were asked for; models can be added to an app, and are never taken away.
        self._routes: dict[tuple[str, str], Route] = {}

    def _start_observing(self) -> None:
        if self.settings.metrics:
            self.requests = RequestCounts()
            self.exemplars = Exemplars()
        self._gives_ids = self.settings.access_log
        if self.settings.access_log:
            self.observe(AccessLog())
        if self.settings.opentelemetry:
            self.__dict__.update(trace_requests(self))

    def observe(self, observer: Observer) -> None:
        """Have a function told what became of each request, from now on.

        Parameters
        ----------
        observer : callable
            Takes an :class:`infersdk.web.outcome.Outcome`.
        """
        self._observers = (*self._observers, observer)
        self._is_observed = True

    def mounted_at(self, url_prefix: str) -> Service:
        """The same, for a description of the routes below another prefix.

        Parameters
        ----------
        url_prefix : str
        """
        return Service(self.predictors, replace(self.settings, url_prefix=url_prefix))

    # -- what protocols ask ----------------------------------------------------------------------

    def methods(self, name: str) -> list[str]:
        """The methods that may be asked of a model, the main one first.

        Parameters
        ----------
        name : str
            Of a declared model; it is opened if need be.
        """
        allowed = self.predictors.config(name).methods
        if allowed is not None:
            return list(allowed)
        return [method.name for method in self.predictors[name].signature.methods]

    def method(self, name: str, method: str | None, predictor: Predictor) -> str:
        """Say which of a model's methods is meant.

        Parameters
        ----------
        name : str
            The model.
        method : str or None
            None: the main one.
        predictor : Predictor
            The model itself.

        Raises
        ------
        ProblemError
            404: it has no such method, or it may not be asked for.
        """
        found = self._methods.get((name, method))
        if found is None or found[0] is not predictor:
            found = predictor, self._find_method(name, method)
            self._methods[name, method] = found
        return found[1]

    def _find_method(self, name: str, method: str | None) -> str:
        known = self.methods(name)
        if method is None:
            return known[0]
        if method not in known:
            raise ProblemError(
                404,
                "unknown-method",
                "The model has no such method",
                f"Model `{name}` has no method `{method[:100]}`; it has: {', '.join(known)}",
                model=name,
            )
        return method

    def unknown(self, name: str) -> str:
        """The sentence for a model that there is not."""
        known = ", ".join(f"`{model}`" for model in self.predictors) or "none"
        return f"No model `{name[:100]}`; there is: {known}"

    # -- before the body -------------------------------------------------------------------------

    def refuse_early(self, request: Request, name: str | None = None) -> Reply | None:
        """Refuse a request before its body is read, if there is reason to.

        Parameters
        ----------
        request : Request
        name : str, optional
            The model, for a view of the app's own: the path is not looked at, and nothing is guarded.
        """
        route: Route | None = None
        try:
            if name is None:
                route = self._route(request)
                self._guard.check(request, _access(route))
            else:
                self.predictors.config(name)
                route = Inference(self._rows, name)
            length = request.header("content-length")
            # So many digits are too many, whatever follows; int() refuses thousands of them.
            size_bytes = int(length[:19]) if length is not None and length.isdecimal() else 0
            if size_bytes > self._max_body_bytes:
                raise body_too_large(self._max_body_bytes, f"{size_bytes:,}")
            if isinstance(route, Inference):
                route.protocol.check_type(request)
        except Exception as error:
            return self._finish(request, self._refuse(route, error), route)
        return None

    def refuse(self, request: Request, error: Exception) -> Reply:
        """Refuse a request whose body could not be read, in the form of its protocol.

        Parameters
        ----------
        request : Request
        error : Exception
        """
        route: Route | None = None
        try:
            route = self._route(request)
        except Exception as unroutable:
            error = unroutable
        return self._finish(request, self._refuse(route, error), route)

    def problem(self, error: BaseException) -> Reply:
        """Write any exception as problem JSON: the way for an app's own error handlers.

        Parameters
        ----------
        error : BaseException
            infersdk's own become 4xx or 5xx by their kind; others become 500, with their traceback in
            the log only.
        """
        return reply_to(error)

    # -- everything that is mounted --------------------------------------------------------------

    def handle(self, request: Request, body: bytes | bytearray = b"") -> Reply:
        """Answer any request below the prefix. Raises nothing.

        Parameters
        ----------
        request : Request
        body : bytes or bytearray
        """
        started = perf_counter() if self._is_observed else 0.0
        route: Route | None = None
        try:
            route = self._route(request)
            if self._is_guarded or route.__class__ is Page:
                self._guard.check(request, _access(route))
            if isinstance(route, Inference):
                return self._infer(route, request, body, started)
            reply = self._turn(route, request)
        except Exception as error:
            reply = self._refuse(route, error)
        return self._finish(request, reply, route, body, started)

    async def ahandle(self, request: Request, body: bytes | bytearray = b"") -> Reply:
        """Answer any request below the prefix, from asyncio. Raises nothing but CancelledError.

        Parameters
        ----------
        request, body
            As for :meth:`handle`.
        """
        started = perf_counter() if self._is_observed else 0.0
        route: Route | None = None
        try:
            route = self._route(request)
            if self._is_guarded or route.__class__ is Page:
                self._guard.check(request, _access(route))
            if isinstance(route, Inference):
                return await self._ainfer(route, request, body, started)
            if route.blocks or self._must_open(route):
                loop = asyncio.get_running_loop()
                reply = await loop.run_in_executor(None, self._turn, route, request)
            else:
                reply = route.answer(request)
        except Exception as error:
            reply = self._refuse(route, error)
        return self._finish(request, reply, route, body, started)

    def answer(
        self, name: str, method: str | None, request: Request, body: bytes | bytearray
    ) -> Reply:
        """Answer a request to one model with plain JSON, wherever it was mounted. Raises nothing.

        Nothing is guarded here: the app has let the request through.

        Parameters
        ----------
        name : str
            The model.
        method : str or None
            The source model's method; None for the main one.
        request : Request
            Its path is not looked at.
        body : bytes or bytearray
            JSON: a row, or a list of rows.
        """
        return self._infer(Inference(self._rows, name, method), request, body, perf_counter())

    async def aanswer(
        self, name: str, method: str | None, request: Request, body: bytes | bytearray
    ) -> Reply:
        """Answer a request to one model, from asyncio. Raises nothing but CancelledError.

        Cancelling it takes its work out of the queue.

        Parameters
        ----------
        name, method, request, body
            As for :meth:`answer`.
        """
        route = Inference(self._rows, name, method)
        return await self._ainfer(route, request, body, perf_counter())

    async def ainfer(self, route: Inference, request: Request, body: bytes | bytearray) -> Reply:
        """Answer a request that a protocol's own server has routed and let through, as gRPC's.

        Parameters
        ----------
        route : Inference
        request : Request
        body : bytes or bytearray

        Returns
        -------
        Reply
            Raises nothing but CancelledError.
        """
        return await self._ainfer(route, request, body, perf_counter())

    # -- routes ----------------------------------------------------------------------------------

    def route(self, request: Request) -> Route | None:
        """Say what a request's path means; None if nothing.

        Parameters
        ----------
        request : Request
        """
        try:
            return self._route(request)
        except Exception:
            return None

    def _route(self, request: Request) -> Route:
        found = self._routes.get((request.method, request.path))
        if found is None:
            found = self._read_route(request.method, request.path)
            if len(request.path) <= _LONGEST_ROUTE:
                if len(self._routes) >= _MOST_ROUTES:
                    self._routes.clear()  # of made-up ones, which would be there for good
                self._routes[request.method, request.path] = found
        return found

    def _read_route(self, http_method: str, path: str) -> Route:
        parts = tuple(path.strip("/").split("/"))
        for protocol in self.protocols:
            route = protocol.route(http_method, parts)
            if route is not None:
                return route
        raise no_page(path)

    def allowed(self, path: str) -> tuple[str, ...]:
        """The HTTP methods that a path takes; none where there is nothing.

        Parameters
        ----------
        path : str
            Below the prefix.
        """
        try:
            self._read_route("OPTIONS", path)
        except ProblemError as problem:
            return (
                tuple(dict(problem.headers).get("allow", "").split(", "))
                if problem.status == 405
                else ()
            )
        except UnknownModelError:
            pass
        return ()

    # -- pages -----------------------------------------------------------------------------------

    def _must_open(self, page: Page) -> bool:
        """Whoever waits until we are ready may send nothing that would open the models before."""
        if page.opens is None:
            return False
        if page.opens != EVERY_MODEL:
            return page.opens in self.predictors and not self.predictors.is_open(page.opens)
        if page.waits:
            return not self.predictors.is_ready
        return self.predictors.state in ("new", "failed")

    def _turn(self, page: Page, request: Request) -> Reply:
        if page.opens == EVERY_MODEL and self._must_open(page):
            try:
                self.predictors.open()
            except Exception:
                logger.exception("the models could not be opened")
        return page.answer(request)

    # -- answers ---------------------------------------------------------------------------------

    def _infer(
        self, route: Inference, request: Request, body: bytes | bytearray, started: float
    ) -> Reply:
        call: Call | None = None
        try:
            predictor = self.predictors[route.model]
            call = self._read(route, predictor, request, body)
            answers = [self._run(predictor, method, call) for method in call.methods]
            reply = call.write(answers)
        except Exception as error:
            reply = self._refuse_call(route, error, call)
        return self._finish(request, reply, route, body, started, call)

    async def _ainfer(
        self, route: Inference, request: Request, body: bytes | bytearray, started: float
    ) -> Reply:
        call: Call | None = None
        try:
            if not self.predictors.is_open(route.model):
                await self._open(route.model)
            predictor = self.predictors[route.model]
            if len(body) > _UNPACKED_HERE_BYTES and request.header("content-encoding"):
                loop = asyncio.get_running_loop()
                body = await loop.run_in_executor(None, self._unpacked, request, body)
                call = route.protocol.read(route, predictor, request, body)
            else:
                call = self._read(route, predictor, request, body)
            answers = [await self._arun(predictor, method, call) for method in call.methods]
            reply = call.write(answers)
        except asyncio.CancelledError:
            self._finish(request, _GONE, route, body, started, call)  # for the observers alone
            raise
        except Exception as error:
            reply = self._refuse_call(route, error, call)
        return self._finish(request, reply, route, body, started, call)

    async def _open(self, name: str) -> None:
        """Open a model that is not yet, without holding up the event loop."""
        if name in self.predictors:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, self.predictors.__getitem__, name)

    def _read(
        self, route: Inference, predictor: Predictor, request: Request, body: bytes | bytearray
    ) -> Call:
        if len(body) > self._max_body_bytes:
            raise body_too_large(self._max_body_bytes, f"{len(body):,}")
        if request.header("content-encoding"):
            body = self._unpacked(request, body)
        return route.protocol.read(route, predictor, request, body)

    def _unpacked(self, request: Request, body: bytes | bytearray) -> bytes | bytearray:
        encoding = request.header("content-encoding") or ""
        return decompressed(body, encoding, self._max_body_bytes)

    def _run(self, predictor: Predictor, method: str, call: Call) -> Any:
        timeout_s = self._timeout_s if call.timeout_s is None else self._time_for(call.timeout_s)
        if call.priority:
            function = predictor if method == "__call__" else getattr(predictor, method)
            return function(call.rows, timeout_s=timeout_s, priority=call.priority)
        if method == "__call__":
            return predictor(call.rows, timeout_s=timeout_s)
        return getattr(predictor, method)(call.rows, timeout_s)

    async def _arun(self, predictor: Predictor, method: str, call: Call) -> Any:
        timeout_s = self._timeout_s if call.timeout_s is None else self._time_for(call.timeout_s)
        if call.priority:
            return await predictor.apredict(
                call.rows, method=method, timeout_s=timeout_s, priority=call.priority
            )
        return await predictor.apredict(call.rows, method=method, timeout_s=timeout_s)

    def _time_for(self, asked_s: float) -> float:
        """A client may ask for less time than it has, not for more."""
        return asked_s if self._timeout_s is None else min(asked_s, self._timeout_s)

    # -- replies ---------------------------------------------------------------------------------

    def _refuse(self, route: Route | None, error: Exception) -> Reply:
        if route is None:
            return reply_to(error)
        return route.protocol.refuse(error)

    def _refuse_call(self, route: Inference, error: Exception, call: Call | None) -> Reply:
        """The refusal of a model stops at its first reason; a client wants them all."""
        errors: list[InputError] = []
        if isinstance(error, InputError) and call is not None:
            try:
                errors = self.predictors[route.model].check(call.rows)
            except Exception as unexpected:
                error = unexpected
        return route.protocol.refuse(error, errors)

    def _finish(
        self,
        request: Request,
        reply: Reply,
        route: Route | None,
        body: bytes | bytearray = b"",
        started: float = 0.0,
        call: Call | None = None,
    ) -> Reply:
        """What belongs to every reply: its encoding, the request's id, and word to the observers."""
        if self._compress_min_bytes is not None and len(reply.body) >= self._compress_min_bytes:
            reply = _compressed(request, reply)
        request_id = None
        if request.header("x-request-id") is not None:
            request_id = request_id_of(request)
        if request_id is None and self._gives_ids:
            request_id = new_request_id()
        if request_id is not None:
            reply = reply._replace(headers=(*reply.headers, ("x-request-id", request_id)))
        if self._is_observed:
            seconds = perf_counter() - started if started else 0.0
            self._tell(request, reply, route, len(body), seconds, call, request_id)
        return reply

    def _tell(
        self,
        request: Request,
        reply: Reply,
        route: Route | None,
        body_bytes: int,
        seconds: float,
        call: Call | None,
        request_id: str | None,
    ) -> None:
        protocol = "" if route is None else route.protocol.name
        model = None
        if isinstance(route, Inference) and (call is not None or route.model in self.predictors):
            model = route.model
        if self.requests is not None:
            self.requests.add(protocol, model or "", reply.status)
        if self.exemplars is not None and model and call is not None and reply.status == 200:
            keep_exemplar(self.exemplars, request, model, call.methods[0], seconds)
        if not self._observers:
            return
        outcome = Outcome(
            request,
            protocol,
            model,
            None if call is None else call.methods[0],
            reply.status,
            None if call is None else call.n_rows,
            body_bytes,
            len(reply.body),
            seconds,
            request_id,
        )
        for observe in self._observers:
            try:
                observe(outcome)
            except Exception:
                logger.exception("an observer of requests failed")


_GONE = Reply(499, b"", ())
"""For a client that has gone away."""


def _access(route: Route) -> Any:
    return route.access if isinstance(route, Page) else "guarded"


def _compressed(request: Request, reply: Reply) -> Reply:
    headers = (*reply.headers, ("vary", "accept-encoding"))
    if not accepts_gzip(request.header("accept-encoding")):
        return reply._replace(headers=headers)
    return Reply(reply.status, gzipped(reply.body), (*headers, ("content-encoding", "gzip")))
