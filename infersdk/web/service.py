"""The one way of a request: body -> rows -> Predictor -> answer.

Every host's adapter hands over what it got (a method, a path, headers, a body) and writes the Reply back. What
is wrong with a request is found here, in this order: the path, the method, the content type and the length
before the body is read (:meth:`Service.refuse_early`), then the JSON, the number of rows, and the rows themselves.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from infersdk.errors import InputError, UnknownModelError
from infersdk.predictors import Predictors
from infersdk.runtime import Predictor
from infersdk.web.json_rows import decode, encode
from infersdk.web.openapi import describe, openapi
from infersdk.web.problems import ProblemError, Reply, body_too_large, reply_to
from infersdk.web.settings import Settings

__all__ = ["Header", "Reply", "Service"]

Header = Callable[[str], str | None]
"""Gives a request's header by its name in small letters, or None."""

logger = logging.getLogger("infersdk.web")

JSON = (("content-type", "application/json"),)

RESERVED = frozenset({"health", "openapi.json"})
"""What models cannot be called, as the routes are."""


_MOST_ROUTES = 1024
"""Remembered; methods are not looked up here, so clients can make up any number."""


class Service:
    """Answers the requests of one app.

    Safe to use from any number of threads and event loops.

    Parameters
    ----------
    predictors : Predictors
        The app's models.
    settings : Settings, optional
        Its limits. Its ``models`` are not looked at.

    Raises
    ------
    ValueError
        A model has a name that a route needs.
    """

    def __init__(self, predictors: Predictors, settings: Settings | None = None) -> None:
        self.predictors = predictors
        self.settings = settings or Settings()
        for name in RESERVED.intersection(predictors):
            raise ValueError(
                f"A model cannot be called `{name}`, as a route has that name; rename it"
            )
        self._max_rows = self.settings.max_rows
        self._timeout_s = self.settings.timeout_s
        self._found: dict[tuple[str, str | None], tuple[Predictor, str]] = {}
        # Of paths that were asked for; models can be added to an app, and are never taken away.
        self._routes: dict[tuple[str, str], tuple[str, str | None]] = {}

    # -- one model's answer ----------------------------------------------------------------------

    def answer(self, name: str, method: str | None, body: bytes, header: Header) -> Reply:
        """Answer a request to one model. Raises nothing.

        Parameters
        ----------
        name : str
            The model.
        method : str or None
            The source model's method; None for the main one.
        body : bytes
            JSON: a row, or a list of rows.
        header : callable
            ``header("content-type")``: the request's header, or None.
        """
        rows: Any = None
        try:
            predictor, method = self._find(name, method)
            rows = self._rows(body, header)
            if method == "__call__":
                answers = predictor(rows, timeout_s=self._timeout_s)
            else:
                answers = getattr(predictor, method)(rows, self._timeout_s)
            return Reply(200, encode({"answers": answers}), JSON)
        except InputError as error:
            return self._refuse_rows(error, name, rows)
        except Exception as error:
            return reply_to(error)

    async def aanswer(self, name: str, method: str | None, body: bytes, header: Header) -> Reply:
        """Answer a request to one model, from asyncio. Raises nothing but CancelledError.

        Cancelling it takes its work out of the queue.

        Parameters
        ----------
        name, method, body, header
            As for :meth:`answer`.
        """
        rows: Any = None
        try:
            if not self.predictors.is_open(name):
                await self._open(name)
            predictor, method = self._find(name, method)
            rows = self._rows(body, header)
            answers = await predictor.apredict(rows, method=method, timeout_s=self._timeout_s)
            return Reply(200, encode({"answers": answers}), JSON)
        except InputError as error:
            return self._refuse_rows(error, name, rows)
        except Exception as error:
            return reply_to(error)

    async def _open(self, name: str) -> None:
        """Open a model that is not yet, without holding up the event loop."""
        if name in self.predictors:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(None, self.predictors.__getitem__, name)

    def _find(self, name: str, method: str | None) -> tuple[Predictor, str]:
        predictor = self.predictors[name]
        found = self._found.get((name, method))
        if found is None or found[0] is not predictor:
            found = predictor, self._method(name, method, predictor)
            self._found[name, method] = found
        return found

    def _method(self, name: str, method: str | None, predictor: Predictor) -> str:
        known = self.predictors.config(name).methods or [
            known.name for known in predictor.signature.methods
        ]
        if method is None:
            return known[0]
        if method not in known:
            raise ProblemError(
                404,
                "unknown-method",
                "The model has no such method",
                f"Model `{name}` has no method `{method}`; it has: {', '.join(known)}",
                model=name,
            )
        return method

    def _rows(self, body: bytes, header: Header) -> Any:
        if len(body) > self.settings.max_body_bytes:
            raise self._too_large(len(body))
        self._check_type(header)
        rows = decode(body)
        if type(rows) is list and len(rows) > self._max_rows:
            raise ProblemError(
                413,
                "too-many-rows",
                "The request holds too many rows",
                f"Expected up to {self._max_rows:,} rows, got {len(rows):,}; send them in several requests",
                max_rows=self._max_rows,
            )
        return rows

    def _check_type(self, header: Header) -> None:
        given = header("content-type")
        if not given or given == "application/json":
            return
        kind = given.partition(";")[0].strip().lower()
        if kind == "application/json" or (
            kind.startswith("application/") and kind.endswith("+json")
        ):
            return
        raise ProblemError(
            415,
            "unsupported-media-type",
            "The body has a content type that is not read here",
            f"Expected application/json, got {kind[:100]}",
            [("accept", "application/json")],
        )

    def _too_large(self, size_bytes: int) -> ProblemError:
        return body_too_large(self.settings.max_body_bytes, f"{size_bytes:,}")

    def _refuse_rows(self, error: InputError, name: str, rows: Any) -> Reply:
        """The refusal of a model stops at its first reason; a client wants them all."""
        errors = []
        try:
            errors = self.predictors[name].check(rows)
        except Exception as unexpected:
            return reply_to(unexpected)
        return reply_to(error, errors)

    # -- everything that is mounted --------------------------------------------------------------

    def refuse_early(self, http_method: str, path: str, header: Header) -> Reply | None:
        """Refuse a request before its body is read, if there is reason to.

        Parameters
        ----------
        http_method : str
            In capitals.
        path : str
            Below the prefix, beginning with ``/``.
        header : callable
            As for :meth:`answer`.
        """
        try:
            self._route(http_method, path)
            length = header("content-length")
            # So many digits are too many, whatever follows; int() refuses thousands of them.
            size_bytes = int(length[:19]) if length is not None and length.isdecimal() else 0
            if size_bytes > self.settings.max_body_bytes:
                raise self._too_large(size_bytes)
            if http_method == "POST":
                self._check_type(header)
        except Exception as error:
            return reply_to(error)
        return None

    def handle(self, http_method: str, path: str, header: Header, body: bytes) -> Reply:
        """Answer any request below the prefix. Raises nothing.

        Parameters
        ----------
        http_method : str
            In capitals.
        path : str
            Below the prefix, beginning with ``/``: ``/``, ``/{model}``, ``/{model}/{method}``,
            ``/health/live``, ``/health/ready``, ``/health/startup`` or ``/openapi.json``.
        header : callable
            As for :meth:`answer`.
        body : bytes
        """
        try:
            name, method = self._route(http_method, path)
            if http_method == "POST":
                return self.answer(name, method, body, header)
            if self._is_to_be_opened(name, method):
                self._try(self.predictors.open)
            return self._get(name, method)
        except Exception as error:
            return reply_to(error)

    async def ahandle(self, http_method: str, path: str, header: Header, body: bytes) -> Reply:
        """Answer any request below the prefix, from asyncio. Raises nothing but CancelledError.

        Parameters
        ----------
        http_method, path, header, body
            As for :meth:`handle`.
        """
        try:
            name, method = self._route(http_method, path)
            if http_method == "POST":
                return await self.aanswer(name, method, body, header)
            if self._is_to_be_opened(name, method):
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(None, self._try, self.predictors.open)
            elif name and name not in RESERVED and not self.predictors.is_open(name):
                await self._open(name)
            return self._get(name, method)
        except Exception as error:
            return reply_to(error)

    def problem(self, error: BaseException) -> Reply:
        """Write any exception as problem JSON: the way for an app's own error handlers.

        Parameters
        ----------
        error : BaseException
            infersdk's own become 4xx or 5xx by their kind; others become 500, with their traceback in
            the log only.
        """
        return reply_to(error)

    def _route(self, http_method: str, path: str) -> tuple[str, str | None]:
        """The model and method that a path names; for GET also a page of ours."""
        found = self._routes.get((http_method, path))
        if found is None:
            found = self._read_route(http_method, path)
            if len(self._routes) < _MOST_ROUTES:
                self._routes[http_method, path] = found
        return found

    def _read_route(self, http_method: str, path: str) -> tuple[str, str | None]:
        parts = path.strip("/").split("/")
        name, method = parts[0], parts[1] if len(parts) == 2 else None
        if len(parts) > 2 or (name and name not in RESERVED and name not in self.predictors):
            known = name not in self.predictors and len(parts) <= 2
            raise UnknownModelError(self._unknown(name)) if known else _no_page(path)
        pages = not name or name in RESERVED or method is None
        if name == "health" and method not in ("live", "ready", "startup"):
            raise _no_page(path)
        if name == "openapi.json" and method is not None:
            raise _no_page(path)
        allowed = [] if not name or name in RESERVED else ["POST"]
        if pages:
            allowed += ["GET", "HEAD"]
        if http_method not in allowed:
            raise ProblemError(
                405,
                "method-not-allowed",
                "The path does not take this HTTP method",
                f"Expected {' or '.join(allowed)}, got {http_method[:20]}",
                [("allow", ", ".join(allowed))],
            )
        return name, method

    def _unknown(self, name: str) -> str:
        known = ", ".join(f"`{model}`" for model in self.predictors) or "none"
        return f"No model `{name[:100]}`; there is: {known}"

    def _is_to_be_opened(self, name: str, page: str | None) -> bool:
        """Whoever waits until we are ready may send nothing that would open the models before."""
        if name == "openapi.json":
            return not self.predictors.is_ready
        asked = name == "health" and page in ("ready", "startup")
        return asked and self.predictors.state in ("new", "failed")

    def _try(self, open_models: Callable[[], None]) -> None:
        try:
            open_models()
        except Exception:
            logger.exception("the models could not be opened")

    def _get(self, name: str, page: str | None) -> Reply:
        if name == "health":
            return self._health(page)
        if name == "openapi.json":
            return Reply(200, encode(openapi(self)), JSON)
        if name:
            return Reply(200, encode(describe(self, name)), JSON)
        return Reply(200, encode({"models": list(self.predictors)}), JSON)

    def _health(self, page: str | None) -> Reply:
        health = self.predictors.health()
        if page == "live":
            fine = True
            health = {"state": "live"}
        elif page == "startup":
            fine = health["state"] in ("open", "closed")
        else:
            fine = self.predictors.is_ready
        headers = (*JSON, ("cache-control", "no-store"))
        return Reply(200 if fine else 503, encode(health), headers)


def _no_page(path: str) -> ProblemError:
    return ProblemError(404, "unknown-path", "There is nothing here", f"No page `{path[:200]}`")
