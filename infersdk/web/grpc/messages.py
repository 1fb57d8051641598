"""The messages and methods of the Open Inference Protocol, of gRPC's health protocol and of its rich errors.

Names, numbers and types are those of the public specifications: KServe's ``open_inference_grpc.proto``, of which
Triton's ``grpc_service.proto`` is a superset, ``grpc/health/v1`` and ``google/rpc``.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.message import DecodeError

from infersdk.errors import InputError
from infersdk.web.grpc.schema import Schema

__all__ = [
    "CONFIG_TYPES",
    "HEALTH",
    "HEALTH_SERVICE",
    "INFERENCE",
    "INFERENCE_SERVICE",
    "METHODS",
    "RPC",
    "parse",
]

INFERENCE_SERVICE = "inference.GRPCInferenceService"
HEALTH_SERVICE = "grpc.health.v1.Health"

METHODS = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "ModelConfig",
    "ModelStatistics",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
    "SystemSharedMemoryStatus",
    "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus",
    "CudaSharedMemoryUnregister",
)
"""Of the inference service: each takes its ``...Request`` and gives its ``...Response``.

There is also ModelStreamInfer, a stream of ModelInferRequests and one of ModelStreamInferResponses.
"""

CONFIG_TYPES = {
    "TYPE_INVALID": 0,
    "TYPE_BOOL": 1,
    "TYPE_UINT8": 2,
    "TYPE_UINT16": 3,
    "TYPE_UINT32": 4,
    "TYPE_UINT64": 5,
    "TYPE_INT8": 6,
    "TYPE_INT16": 7,
    "TYPE_INT32": 8,
    "TYPE_INT64": 9,
    "TYPE_FP16": 10,
    "TYPE_FP32": 11,
    "TYPE_FP64": 12,
    "TYPE_STRING": 13,
    "TYPE_BF16": 14,
}
"""The numbers of Triton's DataType, an enum."""

_CHOICE = (
    "1 bool? bool_param, 2 int64? int64_param, 3 string? string_param, "
    "4 double? double_param, 5 uint64? uint64_param"
)
_TENSOR = (
    "1 string name, 2 string datatype, 3 int64* shape, "
    "4 InferParameter{} parameters, 5 InferTensorContents contents"
)
_NAMED = "1 string name, 2 string version"
_NAMED_TENSOR = "1 string name, 2 string datatype, 3 int64* shape"

INFERENCE = Schema(
    "inference",
    {
        "ServerLiveRequest": "",
        "ServerLiveResponse": "1 bool live",
        "ServerReadyRequest": "",
        "ServerReadyResponse": "1 bool ready",
        "ModelReadyRequest": _NAMED,
        "ModelReadyResponse": "1 bool ready",
        "ServerMetadataRequest": "",
        "ServerMetadataResponse": "1 string name, 2 string version, 3 string* extensions",
        "ModelMetadataRequest": _NAMED,
        "ModelMetadataResponse": (
            "1 string name, 2 string* versions, 3 string platform, "
            "4 ModelMetadataResponse.TensorMetadata* inputs, "
            "5 ModelMetadataResponse.TensorMetadata* outputs"
        ),
        "ModelMetadataResponse.TensorMetadata": _NAMED_TENSOR,
        "InferParameter": _CHOICE,
        "InferTensorContents": (
            "1 bool* bool_contents, 2 int32* int_contents, 3 int64* int64_contents, "
            "4 uint32* uint_contents, 5 uint64* uint64_contents, 6 float* fp32_contents, "
            "7 double* fp64_contents, 8 bytes* bytes_contents"
        ),
        "ModelInferRequest": (
            "1 string model_name, 2 string model_version, 3 string id, "
            "4 InferParameter{} parameters, 5 ModelInferRequest.InferInputTensor* inputs, "
            "6 ModelInferRequest.InferRequestedOutputTensor* outputs, 7 bytes* raw_input_contents"
        ),
        "ModelInferRequest.InferInputTensor": _TENSOR,
        "ModelInferRequest.InferRequestedOutputTensor": (
            "1 string name, 2 InferParameter{} parameters"
        ),
        "ModelInferResponse": (
            "1 string model_name, 2 string model_version, 3 string id, "
            "4 InferParameter{} parameters, 5 ModelInferResponse.InferOutputTensor* outputs, "
            "6 bytes* raw_output_contents"
        ),
        "ModelInferResponse.InferOutputTensor": _TENSOR,
        # What follows is Triton's alone.
        "ModelStreamInferResponse": "1 string error_message, 2 ModelInferResponse infer_response",
        "ModelConfigRequest": _NAMED,
        "ModelConfigResponse": "1 ModelConfig config",
        "ModelConfig": (
            "1 string name, 2 string platform, 4 int32 max_batch_size, 5 ModelInput* input, "
            "6 ModelOutput* output, 17 string backend"
        ),
        "ModelInput": "1 string name, 2 int32 data_type, 4 int64* dims",
        "ModelOutput": "1 string name, 2 int32 data_type, 3 int64* dims",
        "ModelStatisticsRequest": _NAMED,
        "ModelStatisticsResponse": "1 ModelStatistics* model_stats",
        "ModelStatistics": (
            "1 string name, 2 string version, 3 uint64 last_inference, "
            "4 uint64 inference_count, 5 uint64 execution_count, 6 InferStatistics inference_stats, "
            "7 InferBatchStatistics* batch_stats"
        ),
        "InferBatchStatistics": (
            "1 uint64 batch_size, 2 StatisticDuration compute_input, "
            "3 StatisticDuration compute_infer, 4 StatisticDuration compute_output"
        ),
        "InferStatistics": (
            "1 StatisticDuration success, 2 StatisticDuration fail, 3 StatisticDuration queue, "
            "4 StatisticDuration compute_input, 5 StatisticDuration compute_infer, "
            "6 StatisticDuration compute_output, 7 StatisticDuration cache_hit, "
            "8 StatisticDuration cache_miss"
        ),
        "StatisticDuration": "1 uint64 count, 2 uint64 ns",
        "RepositoryIndexRequest": "1 string repository_name, 2 bool ready",
        "RepositoryIndexResponse": "1 RepositoryIndexResponse.ModelIndex* models",
        "RepositoryIndexResponse.ModelIndex": (
            "1 string name, 2 string version, 3 string state, 4 string reason"
        ),
        "ModelRepositoryParameter": (
            "1 bool? bool_param, 2 int64? int64_param, 3 string? string_param, 4 bytes? bytes_param"
        ),
        # KServe's has model_name as its field 1, and nothing else.
        "RepositoryModelLoadRequest": (
            "1 string repository_name, 2 string model_name, 3 ModelRepositoryParameter{} parameters"
        ),
        # KServe's has these fields; Triton's is empty, and its clients pass over them.
        "RepositoryModelLoadResponse": "1 string model_name, 2 bool isLoaded",
        "RepositoryModelUnloadRequest": (
            "1 string repository_name, 2 string model_name, 3 ModelRepositoryParameter{} parameters"
        ),
        "RepositoryModelUnloadResponse": "1 string model_name, 2 bool isUnloaded",
        # There is none; clients ask that what was left of earlier runs be forgotten.
        "SystemSharedMemoryStatusRequest": "1 string name",
        "SystemSharedMemoryStatusResponse": "",
        "SystemSharedMemoryUnregisterRequest": "1 string name",
        "SystemSharedMemoryUnregisterResponse": "",
        "CudaSharedMemoryStatusRequest": "1 string name",
        "CudaSharedMemoryStatusResponse": "",
        "CudaSharedMemoryUnregisterRequest": "1 string name",
        "CudaSharedMemoryUnregisterResponse": "",
    },
)

HEALTH = Schema(
    "grpc.health.v1",
    {
        "HealthCheckRequest": "1 string service",
        # An enum in the specification, which is sent as this is.
        "HealthCheckResponse": "1 int32 status",
    },
)

RPC = Schema(
    "google.rpc",
    {
        "Any": "1 string type_url, 2 bytes value",  # google.protobuf's, as it is sent
        "Status": "1 int32 code, 2 string message, 3 Any* details",
        "Duration": "1 int64 seconds, 2 int32 nanos",
        "RetryInfo": "1 Duration retry_delay",
        "BadRequest": "1 BadRequest.FieldViolation* field_violations",
        "BadRequest.FieldViolation": "1 string field, 2 string description",
        "RequestInfo": "1 string request_id",
    },
)


def parse(name: str, body: bytes) -> Any:
    """Read a message of the inference service.

    Parameters
    ----------
    name : str
    body : bytes

    Raises
    ------
    InputError
        The bytes are none.
    """
    try:
        return INFERENCE[name].FromString(body)
    except DecodeError:
        raise InputError.mismatch(
            expected=f"a message {name}", given=f"{len(body):,} bytes that are none"
        ) from None
