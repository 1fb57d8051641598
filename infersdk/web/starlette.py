"""Models in a Starlette app.

Two lines in an app::

    app = Starlette()
    infer = InferSDK(app, models={"churn": "churn.onnx"}, url_prefix="/models")

``init_app``, which this calls, puts the models' life around the app's own lifespan, adds the models' routes as one route of the
app (so that its middleware sees them), and lets infersdk's errors in the app's endpoints become problem JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Unpack

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route

from infersdk.errors import InferSDKError
from infersdk.predictors import current_predictors
from infersdk.web import asgi
from infersdk.web import request as models_request
from infersdk.web.asgi import GONE, ASGIApp, PredictorsMiddleware, below, route_path
from infersdk.web.problems import expected_problem
from infersdk.web.settings import Options

__all__ = ["InferSDK", "PredictorsMiddleware", "current_predictors", "refuse"]


class InferSDK(asgi.InferSDK):
    """The models of a Starlette app.

    ``InferSDK(app, models=...)``, or where the app is made later ``infer = InferSDK(models=...)`` and then
    ``infer.init_app(app)``.

    Parameters
    ----------
    app : starlette.applications.Starlette, optional
        To be set up at once.
    models, url_prefix, **options
        As for :class:`infersdk.web.asgi.InferSDK`.

    Raises
    ------
    TypeError, ValueError
        A value is not valid.
    RuntimeError
        As :meth:`init_app`.

    Examples
    --------
    >>> from starlette.applications import Starlette
    >>> from infersdk.web.starlette import InferSDK
    >>> app = Starlette()
    >>> infer = InferSDK(app, models={"churn": "churn.onnx"}, url_prefix="/models")
    """

    def __init__(
        self,
        app: Starlette | None = None,
        *,
        models: Mapping[str, Any] | None = None,
        url_prefix: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        if app is not None:
            _check(app)  # before models are opened for it
        super().__init__(models=models, url_prefix=url_prefix, **options)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Starlette, *, url_prefix: str | None = None) -> None:
        """Add the models to an app: their life, their routes, and a handler for infersdk's errors.

        Parameters
        ----------
        app : Starlette
        url_prefix : str, optional
            Where the models' routes are; by default the ``url_prefix`` of the class. With neither the app's
            own endpoints answer.

        Raises
        ------
        TypeError
            It is no app.
        RuntimeError
            The app has models already, or has begun to serve.
        """
        prefix = self._prepare(app, url_prefix)
        if prefix is not None:
            add_route(app, self, prefix)

    async def answer(self, request: Request, name: str, method: str | None = None) -> Response:
        """Answer a request with a model, in an endpoint of one's own.

        ::

            async def churn(request):
                return await infer.answer(request, "churn", "predict_proba")

        Parameters
        ----------
        request : starlette.requests.Request
        name : str
            The model.
        method : str, optional
            The source model's method; by default its main one.

        Returns
        -------
        starlette.responses.Response
            JSON, with the same status, limits and problems as the models' own routes. Nothing is raised
            for rows that do not fit.
        """
        return await self._respond(request, "", name, method)

    async def _respond(
        self, request: Request, path: str, name: str | None = None, method: str | None = None
    ) -> Response:
        async def disconnected() -> bool:
            return (await request.receive())["type"] == "http.disconnect"

        seen = models_request.Request(
            request.method,
            path,
            request.headers.get,
            request.client.host if request.client else None,
            request.url.query,
        )
        try:
            reply = await self.reply(seen, request.stream(), disconnected, name=name, method=method)
        except ClientDisconnect:
            reply = None
        if reply is None:
            reply = GONE
        return Response(reply.body, reply.status, dict(reply.headers))

    def _prepare(self, app: Starlette, url_prefix: str | None) -> str | None:
        """What every app gets. Returns the prefix, without a slash at its end."""
        _check(app)
        app.state.infersdk = self
        app.router.lifespan_context = self.lifespan_with(app.router.lifespan_context)
        app.add_middleware(PredictorsMiddleware, infer=self)
        # The app's own handler, if it has one, stays.
        app.exception_handlers.setdefault(InferSDKError, refuse)
        prefix = self.settings.url_prefix if url_prefix is None else url_prefix
        return None if prefix is None else "/" + prefix.strip("/") if prefix.strip("/") else ""


def _check(app: Any) -> None:
    """Raise an error unless models can be added to an app."""
    if not isinstance(app, Starlette):
        raise TypeError(
            f"Expected an app, got {type(app).__name__}: write InferSDK(app, models={{...}}), "
            "or InferSDK(models={...}) and then init_app(app)"
        )
    if getattr(app.state, "infersdk", None) is not None:
        raise RuntimeError(
            "This app has its models already: declare all of them in one InferSDK, and call its init_app once"
        )
    if app.middleware_stack is not None:
        raise RuntimeError("The app serves already; call init_app where the app is made")


def add_route(app: Starlette, infer: asgi.InferSDK, prefix: str) -> None:
    """Add the models' route to an app, after every route that could take the same requests.

    Routes are tried in turn, each with a regular expression. So ours goes before those at the end that can
    match nothing of it, such as FastAPI's documentation.
    """
    routes = app.router.routes
    position = len(routes)
    while position and _is_elsewhere(routes[position - 1], prefix + "/"):
        position -= 1
    routes.insert(position, ModelsRoute(infer, prefix))


def _is_elsewhere(route: BaseRoute, prefix: str) -> bool:
    """Whether nothing below the prefix matches a route, nor would with a slash more or less."""
    path = getattr(route, "path_format", None)
    if path is None:
        return False
    fixed, brace, _ = path.partition("{")
    if brace and prefix.startswith(fixed):
        return False
    return not (fixed + "/").startswith(prefix)


class ModelsRoute(Route):
    """All of the models' routes as one: nothing is looked up by regular expressions.

    Parameters
    ----------
    infer : InferSDK
    prefix : str
        As ``"/models"``, or empty.
    """

    def __init__(self, infer: asgi.InferSDK, prefix: str) -> None:
        super().__init__(
            prefix + "/{path:path}",
            ASGIApp(infer, prefix),
            name="infersdk",
            include_in_schema=False,
        )
        self._prefix = prefix

    def matches(self, scope: Any) -> tuple[Match, Any]:
        """Take every request below the prefix."""
        if scope["type"] != "http":
            return Match.NONE, {}
        if below(route_path(scope), self._prefix) is None:
            return Match.NONE, {}
        return Match.FULL, {"endpoint": self.endpoint, "path_params": {}}


async def refuse(request: Request, error: Exception) -> Response:
    """Write infersdk's errors as problem JSON: the exception handler that ``init_app`` adds.

    Faults of the server's own are the app's affair, as any other: they are raised again.
    """
    problem = expected_problem(error)
    if problem is None:
        raise error
    reply = problem.reply()
    return Response(reply.body, reply.status, dict(reply.headers))
