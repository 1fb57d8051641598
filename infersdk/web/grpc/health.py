"""gRPC's own health protocol, which Kubernetes, Envoy and client-side load balancing ask."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc

from infersdk.predictors import Predictors
from infersdk.web.grpc.messages import HEALTH, HEALTH_SERVICE, INFERENCE_SERVICE

__all__ = ["Health", "open_if_new"]

logger = logging.getLogger("infersdk.grpc")

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3

_LOOK_S = 0.5
"""Between two looks of a watcher; models tell nobody that they are open."""


class Health:
    """Answers ``Check`` and ``Watch``, of the server (no name, or the inference service's) and of each model.

    Parameters
    ----------
    predictors : Predictors
    """

    def __init__(self, predictors: Predictors) -> None:
        self._predictors = predictors
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Be healthy no more, and let watchers go."""
        self._stopping.set()

    def status(self, name: str) -> int:
        """One of the specification's numbers, of a service or a model.

        Parameters
        ----------
        name : str
            Empty for the server.
        """
        if name in ("", INFERENCE_SERVICE):
            is_fine = self._predictors.is_ready
        elif name in self._predictors:
            is_fine = self._predictors.is_open(name) and self._predictors.state != "closed"
        else:
            return SERVICE_UNKNOWN
        return SERVING if is_fine and not self._stopping.is_set() else NOT_SERVING

    async def check(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        """Give the status. Who asks for the server's has models opened that are not, as nobody else may call."""
        if request.service in ("", INFERENCE_SERVICE):
            await open_if_new(self._predictors)
        status = self.status(request.service)
        if status == SERVICE_UNKNOWN:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"No service or model `{request.service[:100]}`"
            )
        return HEALTH["HealthCheckResponse"](status=status)

    async def watch(
        self, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[Any]:
        """Give the status, and again whenever it changes."""
        last = None
        while True:
            status = self.status(request.service)
            if status != last:
                last = status
                yield HEALTH["HealthCheckResponse"](status=status)
            if self._stopping.is_set():
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _LOOK_S)

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """For a server."""
        request = HEALTH["HealthCheckRequest"].FromString
        response = HEALTH["HealthCheckResponse"].SerializeToString
        return grpc.method_handlers_generic_handler(
            HEALTH_SERVICE,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self.check, request, response),
                "Watch": grpc.unary_stream_rpc_method_handler(self.watch, request, response),
            },
        )


async def open_if_new(predictors: Predictors) -> None:
    """Open models that are not open yet, or could not be opened; what it raises goes to the log.

    For questions whether they are ready: whoever waits for that may send nothing that would open them before.

    Parameters
    ----------
    predictors : Predictors
    """
    if predictors.state in ("new", "failed"):
        try:
            await predictors.aopen()
        except Exception:
            logger.exception("the models could not be opened")
