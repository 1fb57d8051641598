"""Models over gRPC, in the Open Inference Protocol: ``GRPCServer(infer.service, "[::]:8001")``."""

from __future__ import annotations

from infersdk.errors import MissingDependencyError

try:
    from infersdk.web.grpc.server import TLS, GRPCServer
    from infersdk.web.grpc.stub import HealthStub, InferenceStub
    from infersdk.web.grpc.thread import ServerThread
except ModuleNotFoundError as error:
    if error.name != "grpc":
        raise
    raise MissingDependencyError.for_extra("grpcio", "grpc", "Serving by gRPC") from error

__all__ = ["TLS", "GRPCServer", "HealthStub", "InferenceStub", "ServerThread"]
