"""The Open Inference Protocol, version 2, over REST: what KServe, Triton and MLServer speak, and their clients.

    POST /v2/models/churn/infer
    {"inputs": [{"name": "age", "datatype": "INT64", "shape": [1, 1], "data": [41]}, ...]}

Besides what the protocol itself has: the binary tensor extension (`oip_binary`), Triton's model configuration and
statistics, and with the setting ``admin`` its model repository. What Triton's clients ask of shared memory is
answered as by a server that has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import metadata as packages
from typing import Any

from infersdk.errors import ClosedError, InputError
from infersdk.runtime import Predictor
from infersdk.web.json_rows import encode
from infersdk.web.problems import ProblemError, Reply, no_page, problem_of
from infersdk.web.protocol import (
    EVERY_MODEL,
    Call,
    Inference,
    Page,
    Protocol,
    method_not_allowed,
)
from infersdk.web.protocols.oip_binary import HEADER, read_request, too_many_rows, write_reply
from infersdk.web.protocols.oip_models import (
    VERSION,
    bind,
    config,
    metadata,
    most_inputs,
    timeout_s_of,
)
from infersdk.web.protocols.oip_openapi import oip_paths
from infersdk.web.protocols.oip_statistics import statistics
from infersdk.web.request import Request

__all__ = ["OIPProtocol"]

_JSON = (("content-type", "application/json"),)
_UNCACHED = (*_JSON, ("cache-control", "no-store"))

_GET = ("GET", "HEAD")
_POST = ("POST",)
_TYPES = ("application/json", "application/octet-stream")


class OIPProtocol(Protocol):
    """Answers everything below ``/v2``."""

    name = "oip"
    reserved = frozenset({"v2"})

    # -- routes ----------------------------------------------------------------------------------

    def route(self, http_method: str, parts: tuple[str, ...]) -> Page | Inference | None:
        """See :class:`infersdk.web.protocol.Protocol`."""
        if parts[0] != "v2":
            return None
        try:
            return self._model_route(http_method, parts) or self._page(http_method, parts)
        except ProblemError as problem:
            raise RefusalError.of(problem) from None

    def _page(self, http_method: str, parts: tuple[str, ...]) -> Page:
        allowed: tuple[str, ...] = _GET
        match parts[1:]:
            case ():
                page = Page(self, self._server)
            case ("health", "live"):
                page = Page(self, lambda request: _health("live", True), access="public")
            case ("health", "ready"):
                page = Page(self, self._ready, EVERY_MODEL, waits=False, access="public")
            case ("models", "stats"):
                page = Page(self, self._statistics)
            case ("repository", "index"):
                allowed, page = _POST, Page(self, self._index, access="admin")
            case ("repository", "models", name, "load"):
                page = Page(self, lambda request: self._load(name), access="admin", blocks=True)
                allowed = _POST
            case ("repository", "models", name, "unload"):
                # It waits for the calls that are under way.
                page = Page(self, lambda request: self._unload(name), access="admin", blocks=True)
                allowed = _POST
            case ("systemsharedmemory" | "cudasharedmemory", *rest):
                allowed, page = self._shared_memory(tuple(rest))
            case _:
                raise no_page("/" + "/".join(parts))
        if parts[1:2] == ("repository",) and not self.service.settings.admin:
            page = Page(self, _refuse_admin)
        if http_method not in allowed:
            raise method_not_allowed(http_method, allowed)
        return page

    def _model_route(self, http_method: str, parts: tuple[str, ...]) -> Page | Inference | None:
        if len(parts) < 3 or parts[1] != "models":
            return None
        name, rest = parts[2], parts[3:]
        if name not in self.service.predictors:
            if name == "stats" and not rest:
                return None
            raise ProblemError(
                404, "unknown-model", "There is no such model", self.service.unknown(name)
            )
        if rest[:1] == ("versions",) and len(rest) > 1:
            if rest[1] != VERSION:
                raise ProblemError(
                    404,
                    "unknown-version",
                    "The model has no such version",
                    f"Model `{name}` has no version {rest[1][:40]!r}; it has: {VERSION}",
                )
            rest = rest[2:]
        allowed: tuple[str, ...] = _GET
        route: Page | Inference
        match rest:
            case ():
                route = Page(self, lambda request: self._describe(name, metadata), name)
            case ("config",):
                route = Page(self, lambda request: self._describe(name, config), name)
            case ("ready",):
                route = Page(self, lambda request: self._model_ready(name), name, access="public")
            case ("stats",):
                route = Page(self, lambda request: self._statistics(request, name))
            case ("infer",):
                allowed, route = _POST, Inference(self, name)
            case _:
                raise no_page("/" + "/".join(parts))
        if http_method not in allowed:
            raise method_not_allowed(http_method, allowed)
        return route

    def _shared_memory(self, parts: tuple[str, ...]) -> tuple[tuple[str, ...], Page]:
        """No region is ever registered; many a client unregisters all before it begins."""
        if parts[:1] == ("region",):
            parts = parts[2:]
        match parts:
            case ("status",):
                return _GET, Page(self, lambda request: Reply(200, b"[]", _JSON))
            case ("unregister",):
                return _POST, Page(self, lambda request: Reply(200, b"{}", _JSON))
        return _POST, Page(self, _refuse_shared_memory)

    # -- requests to a model ---------------------------------------------------------------------

    def check_type(self, request: Request) -> None:
        """Expect JSON or raw bytes, or no word of what it is."""
        given = request.header("content-type")
        if not given or given in _TYPES:
            return
        kind = given.partition(";")[0].strip().lower()
        if kind in _TYPES or (kind.startswith("application/") and kind.endswith("+json")):
            return
        raise ProblemError(
            415,
            "unsupported-media-type",
            "The body has a content type that is not read here",
            f"Expected {' or '.join(_TYPES)}, got {kind[:100]}",
            [("accept", ", ".join(_TYPES))],
        )

    def read(
        self, inference: Inference, predictor: Predictor, request: Request, body: bytes | bytearray
    ) -> Call:
        """See :class:`infersdk.web.protocol.Protocol`."""
        self.check_type(request)
        name = inference.model
        signature = predictor.signature
        max_rows = self.service.settings.max_rows
        asked = read_request(
            body,
            request.header(HEADER),
            max_inputs=most_inputs(signature),
            max_rows=None if signature.container == "tensors" else max_rows,
        )
        bound = bind(
            predictor, self.service.methods(name), asked.inputs, asked.outputs, asked.parameters
        )
        if bound.n_rows is not None and bound.n_rows > max_rows:
            raise too_many_rows(bound.n_rows, max_rows)

        def write(answers: list[Any]) -> Reply:
            return write_reply(name, VERSION, asked, bound.write(answers))

        return Call(bound.rows, bound.methods, write, bound.n_rows, timeout_s_of(asked.parameters))

    def refuse(self, error: BaseException, errors: Sequence[InputError] = ()) -> Reply:
        """An object with the ``error``."""
        refusal = RefusalError.of(problem_of(error, errors))
        if isinstance(error, ClosedError):
            refusal.detail = str(error)  # one model may be closed, and the others not
        return refusal.reply()

    # -- pages -----------------------------------------------------------------------------------

    def paths(self) -> dict[str, Any]:
        """See :class:`infersdk.web.protocol.Protocol`."""
        return oip_paths(self.service)

    def _server(self, request: Request) -> Reply:
        extensions = ["binary_tensor_data", "model_configuration", "statistics"]
        if self.service.settings.admin:
            extensions.append("model_repository")
        body = {
            "name": "infersdk",
            "version": packages.version("infersdk"),
            "extensions": extensions,
        }
        return Reply(200, encode(body), _JSON)

    def _ready(self, request: Request) -> Reply:
        return _health("ready", self.service.predictors.is_ready)

    def _model_ready(self, name: str) -> Reply:
        predictors = self.service.predictors
        try:
            predictors[name]
            is_ready = True
        except Exception:
            # Why, the log says when it is to answer; here it is a state.
            is_ready = False
        body = {"name": name, "ready": is_ready}
        return Reply(200 if is_ready else 503, encode(body), _UNCACHED)

    def _describe(
        self, name: str, describe: Callable[[str, Predictor, Sequence[str]], dict[str, Any]]
    ) -> Reply:
        predictor = self.service.predictors[name]
        return Reply(200, encode(describe(name, predictor, self.service.methods(name))), _JSON)

    def _statistics(self, request: Request, name: str | None = None) -> Reply:
        counted = [
            model
            for model in self.service.predictors.metrics()
            if name is None or model.model == name
        ]
        return Reply(200, encode(statistics(counted)), _UNCACHED)

    def _index(self, request: Request) -> Reply:
        listed = []
        for name, health in self.service.predictors.health()["models"].items():
            is_ready = health["state"] == "open"
            listed.append(
                {
                    "name": name,
                    "version": VERSION,
                    "state": "READY" if is_ready else "UNAVAILABLE",
                    "reason": "" if is_ready else health.get("error", _REASONS[health["state"]]),
                }
            )
        return Reply(200, encode(listed), _UNCACHED)

    def _load(self, name: str) -> Reply:
        self.service.predictors.load(name)
        return Reply(200, b"{}", _JSON)

    def _unload(self, name: str) -> Reply:
        self.service.predictors.unload(name)
        return Reply(200, b"{}", _JSON)


_REASONS = {"new": "not loaded yet", "unloaded": "unloaded", "failed": "it could not be loaded"}


class RefusalError(ProblemError):
    """A problem in the protocol's own form."""

    @classmethod
    def of(cls, problem: ProblemError) -> RefusalError:
        instance = problem.more.get("instance")
        detail = problem.detail if instance is None else f"{problem.detail} {instance}"
        return cls(problem.status, problem.kind, problem.title, detail, problem.headers)

    def reply(self) -> Reply:
        """Write it."""
        return Reply(self.status, encode({"error": self.detail}), (*_JSON, *self.headers))


def _health(name: str, is_fine: bool) -> Reply:
    return Reply(200 if is_fine else 503, encode({name: is_fine}), _UNCACHED)


def _refuse_admin(request: Request) -> Reply:
    raise ProblemError(
        403,
        "not-admin",
        "Models cannot be loaded and unloaded here",
        "The model repository is not open to clients; the app's setting `admin` opens it",
    )


def _refuse_shared_memory(request: Request) -> Reply:
    raise ProblemError(
        400,
        "no-shared-memory",
        "There is no shared memory",
        "Shared memory is not supported here; send tensors in the request",
    )
