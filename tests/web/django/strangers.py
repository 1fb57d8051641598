"""A middleware that knows nobody, without sessions and their tables."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.utils.decorators import sync_and_async_middleware


@sync_and_async_middleware
def anonymous(get_response: Any) -> Any:
    """Give every request an anonymous user."""
    import inspect

    if inspect.iscoroutinefunction(get_response):

        async def asynchronous(request: Any) -> Any:
            request.user = AnonymousUser()
            return await get_response(request)

        return asynchronous

    def sync(request: Any) -> Any:
        request.user = AnonymousUser()
        return get_response(request)

    return sync
