"""Errors of infersdk that leave a view become problem JSON (RFC 9457)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponse

from infersdk.errors import InferSDKError
from infersdk.web.django.views import to_response
from infersdk.web.problems import ProblemError, expected_problem

__all__ = ["ProblemMiddleware"]

GetResponse = Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]


class ProblemMiddleware:
    """``MIDDLEWARE = [..., "infersdk.web.django.middleware.ProblemMiddleware"]``, last.

    A view may then call a model without catching anything: rows that do not fit are answered with 422, an
    overload with 503 and ``Retry-After``, as by the models' own routes. Errors that say nothing to a client
    (a model file that cannot be read, for one) are left to Django.

    Parameters
    ----------
    get_response : callable
        Sync or async.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        """Pass the request on; an awaitable, under ASGI, is passed back as it is."""
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer for an error of infersdk; None leaves it to Django."""
        if not isinstance(error, (InferSDKError, ProblemError)):
            return None
        problem = expected_problem(error)
        return None if problem is None else to_response(problem.reply())
