"""Models in a Quart app, as Flask's extension has them.

::

    infer = InferSDK(app, models={"churn": "churn.onnx"}, url_prefix="/models")
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Unpack

from quart import Quart, Response, current_app, has_app_context, request

from infersdk.errors import InferSDKError
from infersdk.predictors import Predictors, add_resolver, current_predictors
from infersdk.runtime import Predictor
from infersdk.web import asgi
from infersdk.web.problems import Reply, body_too_large, expected_problem
from infersdk.web.request import Request
from infersdk.web.settings import Options, Settings

__all__ = ["InferSDK", "current_predictors"]

_PREFIX = "INFERSDK_"
_HTTP_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_TOO_LARGE = 413


class InferSDK:
    """Models in a Quart app.

    ``InferSDK(app, models=...)``, or with an app factory ``infer = InferSDK(models=...)`` and then
    ``infer.init_app(app)``. ``app.config`` has the last word: ``INFERSDK_MODELS``, ``INFERSDK_URL_PREFIX`` and so
    on, one for each setting.

    Parameters
    ----------
    app : quart.Quart, optional
        To be set up at once.
    models, url_prefix, **options
        As for :class:`infersdk.web.asgi.InferSDK`.

    Raises
    ------
    TypeError, ValueError
        A value is not valid.
    """

    def __init__(
        self,
        app: Quart | None = None,
        *,
        models: Mapping[str, Any] | None = None,
        url_prefix: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._settings = Settings(models=models or {}, url_prefix=url_prefix, **options)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Quart) -> None:
        """Set up an app: its models, opened before it serves and closed after, routes and error handlers.

        Parameters
        ----------
        app : quart.Quart

        Raises
        ------
        RuntimeError
            The app was set up before.
        TypeError, ValueError
            A key or value of ``app.config`` is not valid.
        """
        if not hasattr(app, "extensions"):
            raise TypeError(
                f"Expected a Quart app, got {type(app).__name__}: write InferSDK(app, models={{...}}), "
                "or InferSDK(models={...}) and then init_app(app)"
            )
        if "infersdk" in app.extensions:
            raise RuntimeError(
                "This Quart app has an InferSDK already. Declare all of its models with one: "
                "InferSDK(app, models={...}), or InferSDK(models={...}) and then init_app(app) once"
            )
        infer = asgi.InferSDK(**self._arguments(app))
        app.extensions["infersdk"] = infer
        app.before_serving(infer.start)
        app.after_serving(infer.stop)
        if InferSDKError not in app.error_handler_spec[None][None]:
            app.register_error_handler(InferSDKError, _refuse)
        prefix = infer.settings.url_prefix
        if prefix is not None:
            root = prefix.rstrip("/")
            for rule in (root + "/", root + "/<path:path>"):
                app.add_url_rule(
                    rule, "infersdk", _answer_mounted, methods=_HTTP_METHODS, strict_slashes=False
                )

    async def answer(self, name: str, method: str | None = None) -> Response:
        """Answer the current request with a model, in a view of one's own: ``await infer.answer("churn")``.

        Parameters
        ----------
        name : str
            The model.
        method : str, optional
            The source model's method; by default its main one.

        Returns
        -------
        quart.Response
            JSON, with the same status, limits and problems as the models' own routes. Nothing is raised
            for rows that do not fit.
        """
        return await _respond("", name, method)

    @property
    def predictors(self) -> Predictors:
        """The models of the current app; outside of any, those of the only app of this process.

        Raises
        ------
        RuntimeError
            It is not clear which app is meant.
        """
        return current_predictors.get_predictors()

    def __getitem__(self, name: str) -> Predictor:
        return self.predictors[name]

    def _arguments(self, app: Quart) -> dict[str, Any]:
        """The arguments, and over them what the app's configuration says."""
        values = {
            _PREFIX + item.name.upper(): getattr(self._settings, item.name)
            for item in fields(Settings)
        }
        values |= {key: value for key, value in app.config.items() if key.startswith(_PREFIX)}
        models = values[_PREFIX + "MODELS"]
        if isinstance(models, Mapping):
            values[_PREFIX + "MODELS"] = {**self._settings.models, **models}
        settings = Settings.from_mapping(values, prefix=_PREFIX)
        return {item.name: getattr(settings, item.name) for item in fields(settings)}


async def _answer_mounted(path: str = "") -> Response:
    return await _respond("/" + path)


async def _respond(path: str, name: str | None = None, method: str | None = None) -> Response:
    infer: asgi.InferSDK = current_app.extensions["infersdk"]
    seen = Request(
        request.method,
        path,
        request.headers.get,
        request.remote_addr,
        request.query_string.decode("latin-1"),
    )
    try:
        reply = await infer.reply(seen, request.body, _never, name=name, method=method)
    except Exception as error:
        if getattr(error, "code", None) != _TOO_LARGE:
            raise
        # The app's own limit is lower than that of the models.
        reply = body_too_large(current_app.config["MAX_CONTENT_LENGTH"], "more").reply()
    return _response(asgi.GONE if reply is None else reply)


async def _never() -> bool:
    """Quart cancels a request itself when its client goes away."""
    await asyncio.Event().wait()
    return True


async def _refuse(error: InferSDKError) -> Response:
    problem = expected_problem(error)
    if problem is None:
        raise error  # a fault of the server's own is the app's affair, as any other
    return _response(problem.reply())


def _response(reply: Reply) -> Response:
    return Response(reply.body, reply.status, dict(reply.headers))


def _predictors_of_current_app() -> Predictors | None:
    if not has_app_context():
        return None
    infer: asgi.InferSDK | None = current_app.extensions.get("infersdk")
    return None if infer is None else infer.predictors


add_resolver(_predictors_of_current_app)
