"""The models' own routes: ``path("models/", include("infersdk.web.django.urls"))``.

=========================  ====================  =======================================================
``models/``                ``infersdk:models``   the models' names
``models/churn``           ``infersdk:model``    GET: its methods and fields; POST: its main method
``models/churn/predict``   ``infersdk:method``   POST
``models/health/ready``    ``infersdk:health``   also ``live`` and ``startup``; no login is asked for
``models/openapi.json``    ``infersdk:openapi``  OpenAPI 3.1
``models/v2/...``          ``infersdk:oip``      the Open Inference Protocol, if it is on
=========================  ====================  =======================================================

Models' routes work with a slash at their end as well. All are exempt from CSRF, as they read neither cookies nor forms, and
from ATOMIC_REQUESTS, as they use no database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, re_path
from django.views.decorators.csrf import csrf_exempt

from infersdk.web.django.views import amounted, mounted

__all__ = ["EitherPattern", "app_name", "urlpatterns"]

View = Callable[..., Any]


class EitherPattern(URLPattern):
    """A route with two views: one for ASGI, one for WSGI.

    Django runs a sync view of an ASGI app in a thread, and an async view of a WSGI app in an event loop made
    for the request. It asks for a route's view in the thread that is going to call it, so that is where
    to tell the two apart. Should somebody have put a decorator around `callback`, it answers everywhere.

    Parameters
    ----------
    of : URLPattern
        The route, with its sync view.
    async_view : callable
    """

    def __init__(self, of: URLPattern, async_view: View) -> None:
        super().__init__(of.pattern, of.callback, of.default_args, of.name)
        self.sync_view = of.callback
        self.async_view = async_view

    def resolve(self, path: str) -> Any:
        """Find the view, if the path is this route's."""
        match = super().resolve(path)
        if match is not None and match.func is self.sync_view and asyncio._get_running_loop():
            match.func = self.async_view
        return match


def _route(route: str, below: str, name: str, *, is_public: bool = False) -> EitherPattern:
    """Mount a path of the Service, ``below`` the prefix, with the route's groups put in."""

    def view(request: HttpRequest, **groups: str) -> HttpResponse:
        return mounted(request, below.format_map(groups))

    async def async_view(request: HttpRequest, **groups: str) -> HttpResponse:
        return await amounted(request, below.format_map(groups))

    sync, asynchronous = (_exempt(function, is_public) for function in (view, async_view))
    pattern = re_path if route.startswith("^") else path
    return EitherPattern(pattern(route, sync, name=name), asynchronous)


def _exempt(view: View, is_public: bool) -> View:
    view = csrf_exempt(view)
    for alias in connections.settings:
        view = transaction.non_atomic_requests(using=alias)(view)
    return login_not_required(view) if is_public else view


app_name = "infersdk"

urlpatterns = [
    _route("", "/", "models"),
    _route("openapi.json", "/openapi.json", "openapi"),
    _route(r"^health/(?P<page>[^/]+)/?$", "/health/{page}", "health", is_public=True),
    _route(r"^v2/health/(?P<page>[^/]+)/?$", "/v2/health/{page}", "oip-health", is_public=True),
    _route(r"^v2/(?P<page>.+)$", "/v2/{page}", "oip"),
    _route("ping", "/ping", "ping", is_public=True),
    _route(r"^models/(?P<model>[^/]+)/invoke$", "/models/{model}/invoke", "invoke"),
    _route(
        r"^serving-endpoints/(?P<model>[^/]+)/invocations$",
        "/serving-endpoints/{model}/invocations",
        "serving-endpoint",
    ),
    _route(r"^(?P<model>[^/]+)/?$", "/{model}", "model"),
    _route(r"^(?P<model>[^/]+)/(?P<method>[^/]+)/?$", "/{model}/{method}", "method"),
]
