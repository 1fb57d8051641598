"""A client's side of the protocol, for tests and for programs that have no generated one."""

from __future__ import annotations

from typing import Any

from infersdk.web.grpc.messages import (
    HEALTH,
    HEALTH_SERVICE,
    INFERENCE,
    INFERENCE_SERVICE,
    METHODS,
)

__all__ = ["HealthStub", "InferenceStub"]


class InferenceStub:
    """The inference service's methods, as attributes: ``stub.ModelInfer(request, timeout=1.0)``.

    Parameters
    ----------
    channel : grpc.Channel or grpc.aio.Channel
        With the latter, calls are awaited.
    """

    def __init__(self, channel: Any) -> None:
        for name in METHODS:
            call = channel.unary_unary(
                f"/{INFERENCE_SERVICE}/{name}",
                request_serializer=INFERENCE[f"{name}Request"].SerializeToString,
                response_deserializer=INFERENCE[f"{name}Response"].FromString,
            )
            setattr(self, name, call)
        self.ModelStreamInfer = channel.stream_stream(
            f"/{INFERENCE_SERVICE}/ModelStreamInfer",
            request_serializer=INFERENCE["ModelInferRequest"].SerializeToString,
            response_deserializer=INFERENCE["ModelStreamInferResponse"].FromString,
        )

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"The service has no method `{name}`; it has {', '.join(METHODS)}")


class HealthStub:
    """gRPC's health protocol: ``Check`` and ``Watch``.

    Parameters
    ----------
    channel : grpc.Channel or grpc.aio.Channel
    """

    def __init__(self, channel: Any) -> None:
        request = HEALTH["HealthCheckRequest"].SerializeToString
        response = HEALTH["HealthCheckResponse"].FromString
        self.Check = channel.unary_unary(f"/{HEALTH_SERVICE}/Check", request, response)
        self.Watch = channel.unary_stream(f"/{HEALTH_SERVICE}/Watch", request, response)
