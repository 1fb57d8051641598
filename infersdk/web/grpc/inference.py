"""The methods of the Open Inference Protocol's gRPC service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import grpc

from infersdk.errors import InputError, UnknownModelError
from infersdk.runtime import Predictor
from infersdk.types import Signature
from infersdk.web.grpc.calls import (
    Answer,
    Context,
    RefusedError,
    answer_bytes,
    refusal_in,
    stream,
    unary,
)
from infersdk.web.grpc.health import open_if_new
from infersdk.web.grpc.messages import CONFIG_TYPES, INFERENCE, INFERENCE_SERVICE
from infersdk.web.grpc.spans import traced
from infersdk.web.grpc.status import Refusal, refusal_of
from infersdk.web.grpc.tensors import parameters_of, read_request, read_tensors, write_response
from infersdk.web.grpc.wire import in_stream
from infersdk.web.guard import Guard
from infersdk.web.problems import ProblemError, Reply
from infersdk.web.protocol import Access, Call, Inference, Page, Protocol
from infersdk.web.protocols.oip_binary import too_many_rows
from infersdk.web.protocols.oip_models import (
    VERSION,
    bind,
    config,
    metadata,
    most_inputs,
    timeout_s_of,
)
from infersdk.web.protocols.oip_statistics import statistics
from infersdk.web.request import Request
from infersdk.web.service import Service

__all__ = ["InferenceService"]


class InferenceService:
    """Answers calls with the models of one app.

    Parameters
    ----------
    service : Service
    guard : Guard
    admin : bool
        Whether models can be opened and closed.
    """

    def __init__(self, service: Service, guard: Guard, *, admin: bool) -> None:
        self._service = service
        self._predictors = service.predictors
        self._guard = guard
        self._admin = admin

    def handler(self) -> grpc.GenericRpcHandler[Any, Any]:
        """For a server. Methods that are not there are UNIMPLEMENTED."""
        methods: dict[str, tuple[Access, Callable[[Any], Awaitable[dict[str, Any]]]]] = {
            "ServerLive": ("public", self._live),
            "ServerReady": ("public", self._ready),
            "ModelReady": ("public", self._model_ready),
            "ServerMetadata": ("guarded", self._server_metadata),
            "ModelMetadata": ("guarded", self._model_metadata),
            "ModelConfig": ("guarded", self._config),
            "ModelStatistics": ("guarded", self._statistics),
            "SystemSharedMemoryStatus": ("guarded", self._no_shared_memory),
            "SystemSharedMemoryUnregister": ("guarded", self._no_shared_memory),
            "CudaSharedMemoryStatus": ("guarded", self._no_shared_memory),
            "CudaSharedMemoryUnregister": ("guarded", self._no_shared_memory),
        }
        if self._admin:
            methods["RepositoryIndex"] = ("admin", self._index)
            methods["RepositoryModelLoad"] = ("admin", self._load)
            methods["RepositoryModelUnload"] = ("admin", self._unload)
        guard = self._guard
        handlers = {
            name: unary(name, guard, access, answer_bytes(name, answer))
            for name, (access, answer) in methods.items()
        }
        infer: Answer = self._infer
        stream_infer: Answer = self._stream_infer
        if self._service.settings.opentelemetry:
            infer, stream_infer = traced(infer), traced(stream_infer)
        handlers["ModelInfer"] = unary("ModelInfer", guard, "guarded", infer)
        handlers["ModelStreamInfer"] = stream("ModelStreamInfer", guard, "guarded", stream_infer)
        return grpc.method_handlers_generic_handler(INFERENCE_SERVICE, handlers)

    # -- health and descriptions -----------------------------------------------------------------

    async def _live(self, message: Any) -> dict[str, Any]:
        return {"live": True}

    async def _ready(self, message: Any) -> dict[str, Any]:
        await open_if_new(self._predictors)
        return {"ready": self._predictors.is_ready}

    async def _model_ready(self, message: Any) -> dict[str, Any]:
        self._check(message.name, message.version)
        try:
            await self._opened(message.name)
        except Exception:
            # Why, the log says when it is to answer; here it is a state.
            return {"ready": False}
        return {"ready": True}

    async def _server_metadata(self, message: Any) -> dict[str, Any]:
        extensions = ["statistics"] + (["model_repository"] if self._admin else [])
        return {"name": "infersdk", "version": _version(), "extensions": extensions}

    async def _model_metadata(self, message: Any) -> dict[str, Any]:
        self._check(message.name, message.version)
        predictor = await self._opened(message.name)
        return metadata(message.name, predictor, self._service.methods(message.name))

    async def _config(self, message: Any) -> dict[str, Any]:
        self._check(message.name, message.version)
        predictor = await self._opened(message.name)
        known = config(message.name, predictor, self._service.methods(message.name))
        for tensor in (*known["input"], *known["output"]):
            tensor["data_type"] = CONFIG_TYPES[tensor["data_type"]]
        return {"config": known}

    async def _statistics(self, message: Any) -> dict[str, Any]:
        if message.name:
            self._check(message.name, message.version)
        counted = self._predictors.metrics()
        return statistics(model for model in counted if message.name in ("", model.model))

    async def _no_shared_memory(self, message: Any) -> dict[str, Any]:
        return {}

    def _check(self, name: str, version: str) -> None:
        if name not in self._predictors:
            raise UnknownModelError(self._service.unknown(name))
        if version not in ("", VERSION):
            raise ProblemError(
                404,
                "unknown-version",
                "The model has no such version",
                f"Model `{name}` has the version {VERSION} only, got {version[:40]!r}",
            )

    async def _opened(self, name: str) -> Predictor:
        if not self._predictors.is_open(name):
            return await _in_thread(self._predictors.__getitem__, name)
        return self._predictors[name]

    # -- opening and closing ---------------------------------------------------------------------

    async def _index(self, message: Any) -> dict[str, Any]:
        models = []
        for name, state in self._predictors.health()["models"].items():
            is_open = state["state"] == "open"
            if is_open or not message.ready:
                entry = {"name": name, "version": VERSION}
                entry["state"] = "READY" if is_open else "UNAVAILABLE"
                entry["reason"] = state.get("error", "")
                models.append(entry)
        return {"models": models}

    async def _load(self, message: Any) -> dict[str, Any]:
        name = _model_of(message)
        self._check(name, "")
        await _in_thread(self._predictors.load, name)
        return {"model_name": name, "isLoaded": True}

    async def _unload(self, message: Any) -> dict[str, Any]:
        name = _model_of(message)
        self._check(name, "")
        await _in_thread(self._predictors.unload, name)
        return {"model_name": name, "isUnloaded": True}

    # -- answers ---------------------------------------------------------------------------------

    async def _infer(self, body: bytes, request: Request, context: Context) -> bytes:
        message, raw = read_request(body)
        self._check(message.model_name, message.model_version)
        call = _InferCall(self._service, message, raw, context.time_remaining())
        route = Inference(call, message.model_name)
        # The service's own way of a request: its limits, its deadline, and word to its observers.
        reply = await self._service.ainfer(route, request, body)
        if call.refusal is not None:
            raise RefusedError(call.refusal)
        request_id = dict(reply.headers).get("x-request-id")
        if request_id is not None:
            context.set_trailing_metadata((("x-request-id", request_id),))
        return reply.body

    async def _stream_infer(self, body: bytes, request: Request, context: Context) -> bytes:
        try:
            return in_stream(await self._infer(body, request, context))
        except Exception as error:
            refusal = refusal_in(error)
        # The stream goes on; the id says which of its requests this is about.
        about = {"id": read_request(body)[0].id}
        response = INFERENCE["ModelStreamInferResponse"](
            error_message=refusal.message, infer_response=about
        )
        written: bytes = response.SerializeToString()
        return written


class _InferCall(Protocol):
    """How one ModelInfer is read and written."""

    name = "grpc"

    def __init__(
        self,
        service: Service,
        message: Any,
        raw: Sequence[bytes | memoryview],
        timeout_s: float | None,
    ) -> None:
        super().__init__(service)
        self._message = message
        self._raw = raw
        self._timeout_s = timeout_s
        self.refusal: Refusal | None = None

    def route(self, http_method: str, parts: tuple[str, ...]) -> Page | Inference | None:
        """Never asked: gRPC has found the method."""
        raise NotImplementedError

    def read(
        self, inference: Inference, predictor: Predictor, request: Request, body: bytes | bytearray
    ) -> Call:
        """See :class:`infersdk.web.protocol.Protocol`."""
        message = self._message
        _check_size(message, predictor.signature, self.service.settings.max_rows)
        tensors = read_tensors(message, self._raw)
        requested = [_requested(output) for output in message.outputs]
        parameters = parameters_of(message.parameters)
        methods = self.service.methods(inference.model)
        bound = bind(predictor, methods, tensors, requested, parameters)
        max_rows = self.service.settings.max_rows
        if bound.n_rows is not None and bound.n_rows > max_rows:
            raise too_many_rows(bound.n_rows, max_rows)
        raw = bool(self._raw) or not tensors

        def write(answers: list[Any]) -> Reply:
            response = INFERENCE["ModelInferResponse"](
                model_name=message.model_name, model_version=VERSION, id=message.id
            )
            return Reply(200, write_response(response, bound.write(answers), raw=raw), ())

        timeout_s = _shorter(self._timeout_s, timeout_s_of(parameters))
        return Call(bound.rows, bound.methods, write, bound.n_rows, timeout_s)

    def refuse(self, error: BaseException, errors: Sequence[InputError] = ()) -> Reply:
        """See :class:`infersdk.web.protocol.Protocol`."""
        self.refusal = refusal_of(error, errors)
        return Reply(self.refusal.http_status, b"", ())


def _check_size(message: Any, signature: Signature, max_rows: int) -> None:
    """Before anything is made of what it says."""
    inputs = message.inputs
    most = most_inputs(signature)
    if most is not None and len(inputs) > most:
        raise InputError.mismatch(expected=f"up to {most} inputs", given=f"{len(inputs):,}")
    if signature.container == "tensors":
        return
    for tensor in inputs:
        if tensor.shape and tensor.shape[0] > max_rows:
            raise too_many_rows(tensor.shape[0], max_rows)


def _requested(output: Any) -> str:
    name: str = output.name
    for option in ("classification", "shared_memory_region"):
        if option in output.parameters:
            raise InputError.mismatch(
                expected="the output itself",
                given=f"the parameter `{option}`, which is not supported",
                field=name[:80],
            )
    return name


def _shorter(deadline_s: float | None, timeout_s: float | None) -> float | None:
    """The call's deadline, or the time that its parameters give it."""
    given = [value for value in (deadline_s, timeout_s) if value is not None]
    return min(given, default=None)


def _model_of(message: Any) -> str:
    # KServe's message has the model's name where Triton's has the repository's.
    return str(message.model_name or message.repository_name)


def _version() -> str:
    try:
        return version("infersdk")
    except PackageNotFoundError:
        return "0"  # run from a folder that was never installed


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)
