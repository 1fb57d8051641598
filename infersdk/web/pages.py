"""The pages that every app has, whichever protocols it speaks: health, OpenAPI and metrics."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from infersdk.errors import InputError
from infersdk.runtime import Predictor
from infersdk.web.json_rows import encode
from infersdk.web.openapi import health_paths, metrics_paths, openapi
from infersdk.web.problems import Reply, no_page, reply_to
from infersdk.web.protocol import (
    EVERY_MODEL,
    Call,
    Inference,
    Page,
    Protocol,
    method_not_allowed,
)
from infersdk.web.request import Request

__all__ = ["Pages"]

_JSON = ("content-type", "application/json")
_UNCACHED = ("cache-control", "no-store")
_HEALTH = ("live", "ready", "startup")


class Pages(Protocol):
    """Answers ``GET`` of ``/health/live|ready|startup``, ``/openapi.json`` and, if it is on, ``/metrics``."""

    name = "pages"
    # "ping" also without its protocol: hosts leave it open to everybody, which a model must not be.
    reserved = frozenset({"health", "openapi.json", "metrics", "ping"})

    def route(self, http_method: str, parts: tuple[str, ...]) -> Page | None:
        """See :class:`infersdk.web.protocol.Protocol`."""
        page = self._page(parts)
        if page is None:
            if parts[0] in ("health", "openapi.json"):
                raise no_page("/" + "/".join(parts))
            return None
        if http_method not in ("GET", "HEAD"):
            raise method_not_allowed(http_method, ["GET", "HEAD"])
        return page

    def _page(self, parts: tuple[str, ...]) -> Page | None:
        match parts:
            case ("health", "live"):
                return Page(self, self._live, access="public")
            case ("health", "ready"):
                return Page(self, self._ready, EVERY_MODEL, waits=False, access="public")
            case ("health", "startup"):
                return Page(self, self._startup, EVERY_MODEL, waits=False, access="public")
            case ("openapi.json",):
                return Page(self, self._openapi, EVERY_MODEL)
            case ("metrics",) if self.service.settings.metrics:
                return Page(self, self._metrics)
        return None

    def read(
        self, inference: Inference, predictor: Predictor, request: Request, body: bytes | bytearray
    ) -> Call:
        """Never asked: no page is answered by a model."""
        raise NotImplementedError

    def refuse(self, error: BaseException, errors: Sequence[InputError] = ()) -> Reply:
        """Problem JSON."""
        return reply_to(error, errors)

    def paths(self) -> dict[str, Any]:
        """See :class:`infersdk.web.protocol.Protocol`."""
        paths = health_paths()
        return paths | metrics_paths() if self.service.settings.metrics else paths

    def _live(self, request: Request) -> Reply:
        return _health(True, {"state": "live"})

    def _ready(self, request: Request) -> Reply:
        predictors = self.service.predictors
        return _health(predictors.is_ready, predictors.health())

    def _startup(self, request: Request) -> Reply:
        health = self.service.predictors.health()
        return _health(health["state"] in ("open", "closed"), health)

    def _openapi(self, request: Request) -> Reply:
        return Reply(200, encode(openapi(self.service)), (_JSON,))

    def _metrics(self, request: Request) -> Reply:
        from infersdk.monitor.exposition import render

        service = self.service
        body, content_type = render(
            service.predictors,
            accept=request.header("accept") or "",
            aliases=service.settings.metrics_aliases,
            exemplars=service.exemplars,
            requests=None if service.requests is None else service.requests.snapshot(),
            labels={"pid": str(os.getpid())},
        )
        return Reply(200, body, (("content-type", content_type), _UNCACHED))


def _health(is_fine: bool, health: dict[str, Any]) -> Reply:
    return Reply(200 if is_fine else 503, encode(health), (_JSON, _UNCACHED))
