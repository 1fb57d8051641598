"""The extension itself: settings, routes, error handlers.

What belongs to one app is its Service (its models and limits), kept in ``app.extensions["infersdk"]``. The
extension object holds only what it was called with, so that one object can serve several apps.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Unpack

import flask
from flask import Flask, Request, Response, current_app, got_request_exception, has_app_context

from infersdk.errors import InferSDKError
from infersdk.predictors import Predictors, add_resolver, current_predictors
from infersdk.runtime import Predictor
from infersdk.web import wsgi
from infersdk.web.flask.commands import commands
from infersdk.web.problems import Reply, expected_problem, no_page
from infersdk.web.service import Service
from infersdk.web.settings import Options, Settings

__all__ = ["ENDPOINT", "InferSDK"]

ENDPOINT = "infersdk"
"""Of the mounted routes: for ``request.endpoint`` in hooks, and ``url_for``."""

_PREFIX = "INFERSDK_"

# So that a method which a path does not take is refused by us, in problem JSON.
_HTTP_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class InferSDK:
    """Models in a Flask app.

    ::

        app = Flask(__name__)
        infer = InferSDK(app, models={"churn": "churn.onnx"}, url_prefix="/models")

    or, with an app factory, ``infer = InferSDK(models=...)`` and then ``infer.init_app(app)``, for as
    many apps as there are; each has models of its own.

    ``app.config`` has the last word: ``INFERSDK_URL_PREFIX``, ``INFERSDK_MAX_ROWS``, ``INFERSDK_METRICS`` and so
    on, one for each setting, replace the arguments of that name, and models in ``INFERSDK_MODELS`` are added to those that are given here, or replace the one of
    the same name. Code says what is usual, a deployment or a test what differs.

    Parameters
    ----------
    app : flask.Flask, optional
        To be set up at once.
    models : Mapping of str to object, optional
        Name to a :class:`infersdk.ModelConfig`, a dict of its parameters, or just its source: a model
        file's path, a trained model, a Predictor, a function that returns one.
    url_prefix : str, optional
        Where the models' own routes are mounted, e.g. "/models"; by default nowhere.
    **options
        Limits, protocols, metrics and who may ask: see :class:`infersdk.web.settings.Settings`. Flask's
        ``MAX_CONTENT_LENGTH`` holds too, if it is lower than ``max_body_bytes``.

    Raises
    ------
    TypeError, ValueError
        A value is not one of these.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        models: Mapping[str, Any] | None = None,
        url_prefix: str | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._settings = Settings(models=models or {}, url_prefix=url_prefix, **options)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Set up an app: its models, routes, error handlers and commands.

        Where a server's worker imports the app, the models are opened here; see ``opening``.

        Parameters
        ----------
        app : flask.Flask

        Raises
        ------
        RuntimeError
            The app was set up before.
        TypeError, ValueError
            A key or value of ``app.config`` is not valid.
        Exception
            As :meth:`infersdk.Predictors.open`, where models are opened here.
        """
        if not hasattr(app, "extensions"):
            raise TypeError(
                f"Expected a Flask app, got {type(app).__name__}: write InferSDK(app, models={{...}}), "
                "or InferSDK(models={...}) and then init_app(app)"
            )
        if "infersdk" in app.extensions:
            raise RuntimeError(
                "This Flask app has an InferSDK already. Declare all of its models with one: "
                "InferSDK(app, models={...}), or InferSDK(models={...}) and then init_app(app) once"
            )
        settings = self._settings_of(app)
        predictors = Predictors(settings.models, opening=settings.opening)
        service = Service(predictors, settings)
        app.extensions["infersdk"] = service
        _add_error_handler(app, service)
        if settings.url_prefix is not None:
            _add_routes(app, service, settings.url_prefix)
        app.shell_context_processor(lambda: {"predictors": predictors})
        app.cli.add_command(commands)
        predictors.prepare()

    def answer(self, name: str, method: str | None = None) -> Response:
        """Answer the current request with a model, inside a view of one's own.

        ::

            @app.post("/churn")
            @login_required
            def churn():
                return infer.answer("churn", "predict_proba")

        Parameters
        ----------
        name : str
            The model.
        method : str, optional
            The source model's method; by default its main one.

        Returns
        -------
        flask.Response
            JSON, with the same status, limits and problems as the mounted routes. Nothing is raised for
            rows that do not fit.

        Raises
        ------
        RuntimeError
            There is no request, or its app is not set up.
        """
        service = _service_of_current_app()
        request = _request()
        environ = _environ_of(request)
        app = current_app._get_current_object()  # type: ignore[attr-defined]
        return _respond(
            app, wsgi.answer(service, name, method, environ, request.max_content_length)
        )

    @property
    def predictors(self) -> Predictors:
        """The models of the current app; outside of any, those of the only app of this process.

        Raises
        ------
        RuntimeError
            It is not clear which app is meant, or it is not set up.
        """
        if has_app_context():
            return _service_of_current_app().predictors
        return current_predictors.get_predictors()

    def __getitem__(self, name: str) -> Predictor:
        return self.predictors[name]

    def _settings_of(self, app: Flask) -> Settings:
        """The arguments, and over them what the app's configuration says."""
        values = {
            _PREFIX + item.name.upper(): getattr(self._settings, item.name)
            for item in fields(Settings)
        }
        values |= app.config.get_namespace(_PREFIX, lowercase=False, trim_namespace=False)
        models = values[_PREFIX + "MODELS"]
        if isinstance(models, Mapping):
            values[_PREFIX + "MODELS"] = {**self._settings.models, **models}
        return Settings.from_mapping(values, prefix=_PREFIX)


def _add_routes(app: Flask, service: Service, url_prefix: str) -> None:
    """One view for all that is below the prefix, behind the app's own hooks."""

    def answer_mounted(path: str = "") -> Response:
        request = _request()
        if request.method == "OPTIONS":
            return _options(app, service, "/" + path)
        environ = _environ_of(request)
        return _respond(app, wsgi.respond(service, environ, "/" + path, request.max_content_length))

    root = url_prefix.rstrip("/")
    for rule in (root + "/", root + "/<path:path>"):
        app.add_url_rule(
            rule, ENDPOINT, answer_mounted, methods=_HTTP_METHODS, strict_slashes=False
        )


def _options(app: Flask, service: Service, path: str) -> Response:
    """What Flask answers by itself, with the methods of this path; CORS extensions build on it."""
    allowed = service.allowed(path)
    if not allowed:
        return _respond(app, no_page(path).reply())
    return app.response_class(headers={"allow": ", ".join((*allowed, "OPTIONS"))})


def _add_error_handler(app: Flask, service: Service) -> None:
    """Errors that views let through become problem JSON, unless the app says otherwise."""
    if InferSDKError in app.error_handler_spec[None][None]:
        return

    def answer_error(error: InferSDKError) -> Response:
        problem = expected_problem(error)
        if problem is not None:
            return _respond(app, problem.reply())
        # A fault of the server's. In tests and while debugging Flask shows it, an app may have a page for
        # it, and services that collect errors listen to the signal.
        if _propagates(app) or _has_page_for_faults(app):
            raise error
        got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=error)
        return _respond(app, service.problem(error))

    app.register_error_handler(InferSDKError, answer_error)


def _propagates(app: Flask) -> bool:
    propagate = app.config["PROPAGATE_EXCEPTIONS"]
    return bool(app.testing or app.debug if propagate is None else propagate)


def _has_page_for_faults(app: Flask) -> bool:
    for scope in (*flask.request.blueprints, None):
        handlers = app.error_handler_spec.get(scope, {})
        if handlers.get(500) or Exception in handlers.get(None, {}):
            return True
    return False


def _respond(app: Flask, reply: Reply) -> Response:
    return app.response_class(reply.body, reply.status, reply.headers)


def _request() -> Request:
    """The request itself: each look at it through ``flask.request`` costs."""
    request: Request = flask.request._get_current_object()  # type: ignore[attr-defined]
    return request


def _environ_of(request: Request) -> dict[str, Any]:
    """The request's environ, with its body in it even if a hook has read that already."""
    environ = request.environ
    if "stream" in request.__dict__:
        environ["wsgi.input"] = io.BytesIO(request.get_data())
    return environ


def _service_of_current_app() -> Service:
    service: Service | None = current_app.extensions.get("infersdk")
    if service is None:
        raise RuntimeError(
            f"The Flask app `{current_app.name}` has no models: call init_app(app) of your InferSDK first"
        )
    return service


def _predictors_of_current_app() -> Predictors | None:
    if not has_app_context():
        return None
    service: Service | None = current_app.extensions.get("infersdk")
    return None if service is None else service.predictors


add_resolver(_predictors_of_current_app)
