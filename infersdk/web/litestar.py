"""Models in a Litestar app: a plugin.

::

    infer = InferSDK(models={"churn": "churn.onnx"}, url_prefix="/models")
    app = Litestar(plugins=[infer.plugin], dependencies={"churn": infer.provide("churn")})
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litestar import Request, Response, asgi
from litestar.config.app import AppConfig
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.middleware import DefineMiddleware
from litestar.plugins import InitPlugin
from litestar.types import Receive, Scope, Send

from infersdk.errors import InferSDKError
from infersdk.predictors import current_predictors
from infersdk.runtime import Predictor
from infersdk.web import asgi as base
from infersdk.web.asgi import ASGIApp, PredictorsMiddleware
from infersdk.web.problems import reply_to

__all__ = ["InferSDK", "InferSDKPlugin", "PredictorsMiddleware", "current_predictors", "refuse"]


class InferSDK(base.InferSDK):
    """The models of a Litestar app; see :class:`infersdk.web.asgi.InferSDK` for the parameters."""

    @property
    def plugin(self) -> InferSDKPlugin:
        """For ``Litestar(plugins=[infer.plugin])``: the models' life, their routes, a handler for errors."""
        return InferSDKPlugin(self)

    def provide(self, name: str) -> Provide:
        """Make a dependency that gives a model; handlers take it as ``churn: Predictor``.

        Parameters
        ----------
        name : str

        Raises
        ------
        UnknownModelError
            No such model was declared.
        """
        self.predictors.config(name)

        async def predictor() -> Predictor:
            return await self.get(name)

        return Provide(predictor)


class InferSDKPlugin(InitPlugin):
    """Adds models to a Litestar app.

    Parameters
    ----------
    infer : InferSDK
    """

    def __init__(self, infer: base.InferSDK) -> None:
        self.infer = infer

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the models' life around the app's own, their routes, and a handler for infersdk's errors."""
        app_config.lifespan.insert(0, self.infer.lifespan)
        current: Any = PredictorsMiddleware  # Litestar's own types of messages are narrower
        app_config.middleware.insert(0, DefineMiddleware(current, infer=self.infer))
        # The app's own handler, if it has one, stays.
        handlers: dict[Any, Any] = {InferSDKError: refuse, **app_config.exception_handlers}
        app_config.exception_handlers = handlers
        app_config.signature_types = [*app_config.signature_types, Predictor]
        prefix = self.infer.settings.url_prefix
        if prefix is not None:
            app_config.route_handlers.append(_mounted(self.infer, prefix))
        return app_config


def _mounted(infer: base.InferSDK, prefix: str) -> Any:
    answer: Callable[..., Any] = ASGIApp(infer)

    @asgi(prefix, is_mount=True, copy_scope=False, name="infersdk")
    async def models(scope: Scope, receive: Receive, send: Send) -> None:
        # Litestar takes the prefix away but leaves the root path, and lets "/modelsfoo" come as "foo/".
        if scope["path"][:1] != "/":
            raise NotFoundException
        await answer({**scope, "root_path": ""}, receive, send)

    return models


def refuse(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Write infersdk's errors as problem JSON: the exception handler that the plugin adds."""
    status, body, pairs = reply_to(error)
    headers = dict(pairs)
    return Response(
        body, status_code=status, media_type=headers.pop("content-type"), headers=headers
    )
