"""SageMaker's container contract and MLflow's scoring protocol, which share their paths.

    POST /invocations              {"dataframe_split": {"columns": ["age", "city"], "data": [[41, "Oslo"]]}}
    {"predictions": ["stays"]}

Bodies are JSON as MLflow's scoring server takes it (`invocations_json`), plain JSON rows, CSV, lines of JSON or a
NumPy array; answers are JSON, or what ``Accept`` asks for (`invocations_answers`). Errors have MLflow's form.

An app of one model answers at ``/invocations``. Those of several are told apart as Databricks does it
(``/serving-endpoints/{model}/invocations``), as SageMaker's multi-model containers do it
(``/models/{model}/invoke``), or in short: ``/{model}/invocations``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from infersdk.errors import ClosedError, InputError
from infersdk.runtime import Predictor
from infersdk.web.json_rows import encode
from infersdk.web.problems import ProblemError, Reply, no_page, problem_of
from infersdk.web.protocol import Call, Inference, Page, Protocol, method_not_allowed
from infersdk.web.protocols.invocations_answers import answer_format, writer
from infersdk.web.protocols.invocations_bodies import body_format, check_charset, read_body
from infersdk.web.protocols.invocations_openapi import invocations_paths
from infersdk.web.protocols.invocations_rows import Form, form_of
from infersdk.web.request import Request

__all__ = ["InvocationsProtocol", "RefusalError"]

logger = logging.getLogger("infersdk.web")

_JSON = (("content-type", "application/json"),)
_UNCACHED = (*_JSON, ("cache-control", "no-store"))
_ATTRIBUTES = "x-amzn-sagemaker-custom-attributes"

_GET = ("GET", "HEAD")
_POST = ("POST",)

_ERROR_CODES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    422: "INVALID_PARAMETER_VALUE",
    499: "CANCELLED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""MLflow's names; for any other status ``BAD_REQUEST``."""


class InvocationsProtocol(Protocol):
    """Answers ``/ping``, ``/version``, ``/models`` and everything that ends with ``/invocations``."""

    name = "invocations"
    reserved = frozenset({"ping", "version", "invocations", "models", "serving-endpoints"})

    def __init__(self, service: Any) -> None:
        super().__init__(service)
        self._forms: dict[str, tuple[Predictor, Form]] = {}
        self._opener: threading.Thread | None = None

    # -- routes ----------------------------------------------------------------------------------

    def route(self, http_method: str, parts: tuple[str, ...]) -> Page | Inference | None:
        """See :class:`infersdk.web.protocol.Protocol`."""
        try:
            return self._route(http_method, parts)
        except ProblemError as problem:
            raise RefusalError.of(problem) from None

    def _route(self, http_method: str, parts: tuple[str, ...]) -> Page | Inference | None:
        allowed: tuple[str, ...] = _GET
        route: Page | Inference
        match parts:
            case ("ping",):
                route = Page(self, self._ping, access="public")
            case ("version",):
                route = Page(self, _version)
            case ("models",):
                if http_method == "POST":
                    raise _no_loading()
                route = Page(self, self._list)
            case ("models", name):
                self._check_model(name)
                route = Page(self, lambda request: Reply(200, encode(_listed(name)), _JSON))
            case ("invocations",):
                allowed, route = _POST, Inference(self, self._only_model())
            case (
                (name, "invocations")
                | ("models", name, "invoke")
                | ("serving-endpoints", name, "invocations")
            ):
                self._check_model(name)
                allowed, route = _POST, Inference(self, name)
            case _:
                if parts[0] in self.reserved:
                    raise no_page("/" + "/".join(parts))
                return None
        if http_method not in allowed:
            raise method_not_allowed(http_method, allowed)
        return route

    def _check_model(self, name: str) -> None:
        if name not in self.service.predictors:
            raise ProblemError(
                404, "unknown-model", "There is no such model", self.service.unknown(name)
            )

    def _only_model(self) -> str:
        names = list(self.service.predictors)
        if len(names) == 1:
            return names[0]
        if not names:
            raise ProblemError(404, "unknown-model", "There is no such model", "There is no model")
        listed = ", ".join(f"`{name}`" for name in names)
        raise ProblemError(
            400,
            "several-models",
            "There are several models",
            f"Expected a path that names one of the models {listed}: /{names[0]}/invocations, "
            f"/models/{names[0]}/invoke or /serving-endpoints/{names[0]}/invocations",
        )

    # -- requests to a model ---------------------------------------------------------------------

    def check_type(self, request: Request) -> None:
        """Expect JSON, CSV, lines of JSON or a NumPy array, in UTF-8; without a word JSON."""
        given = request.header("content-type")
        body_format(given)
        check_charset(given)

    def read(
        self, inference: Inference, predictor: Predictor, request: Request, body: bytes | bytearray
    ) -> Call:
        """See :class:`infersdk.web.protocol.Protocol`."""
        if len(self.service.predictors) > 1 and request.path.strip("/") == "invocations":
            self._only_model()  # more were added since the path was looked up
        self.check_type(request)
        accepted = answer_format(request.header("accept"))
        content_type = request.header("content-type")
        form = self._form(inference.model, predictor)
        parsed = read_body(body, content_type, form, self.service.settings.max_rows)
        asked = parsed.method or _method_in(request.header(_ATTRIBUTES))
        method = self._method(inference.model, predictor, asked)
        write = writer(accepted, predictor.signature.method(method))
        return Call(parsed.rows, (method,), write, parsed.n_rows)

    def _form(self, name: str, predictor: Predictor) -> Form:
        found = self._forms.get(name)
        if found is None or found[0] is not predictor:
            found = predictor, form_of(predictor.signature, predictor.name)
            self._forms[name] = found
        return found[1]

    def _method(self, name: str, predictor: Predictor, asked: str | None) -> str:
        known = self.service.methods(name) if asked is not None else ()
        if asked is not None and asked not in known:
            raise InputError.mismatch(
                expected=f"one of the methods {', '.join(known)}",
                given=repr(asked[:80]),
                field="method",
                model=predictor.name,
            )
        return self.service.method(name, asked, predictor)

    def refuse(self, error: BaseException, errors: Sequence[InputError] = ()) -> Reply:
        """MLflow's ``error_code`` and ``message``."""
        return RefusalError.of(problem_of(error, errors)).reply()

    # -- pages -----------------------------------------------------------------------------------

    def paths(self) -> dict[str, Any]:
        """See :class:`infersdk.web.protocol.Protocol`."""
        return invocations_paths(self.service)

    def _ping(self, request: Request) -> Reply:
        """Answer at once: SageMaker waits 2 s, and opening models may take longer."""
        predictors = self.service.predictors
        # In a fork's child the parent's thread is not alive. Two at once would wait for each other.
        is_opening = self._opener is not None and self._opener.is_alive()
        if predictors.state in ("new", "failed") and not is_opening:
            self._opener = threading.Thread(target=self._open, name="infersdk-open", daemon=True)
            self._opener.start()
        is_ready = predictors.is_ready
        body = {"status": "Healthy" if is_ready else "Unhealthy"}
        return Reply(200 if is_ready else 503, encode(body), _UNCACHED)

    def _open(self) -> None:
        try:
            self.service.predictors.open()
        except ClosedError:
            pass  # the app is ending
        except Exception:
            logger.exception("the models could not be opened")

    def _list(self, request: Request) -> Reply:
        states = self.service.predictors.health()["models"]
        models = [_listed(name) for name, health in states.items() if health["state"] != "unloaded"]
        return Reply(200, encode({"models": models}), _UNCACHED)


class RefusalError(ProblemError):
    """A problem in MLflow's form, and after that in ours."""

    @classmethod
    def of(cls, problem: ProblemError) -> RefusalError:
        """Make one of any problem."""
        return cls(
            problem.status,
            problem.kind,
            problem.title,
            problem.detail,
            problem.headers,
            **problem.more,
        )

    def reply(self) -> Reply:
        """Write it."""
        body: dict[str, Any] = {
            "error_code": _ERROR_CODES.get(self.status, "BAD_REQUEST"),
            "message": self.detail,
            "type": f"urn:infersdk:problem:{self.kind}",
        }
        body |= {key: value for key, value in self.more.items() if value is not None}
        if "errors" in body:
            # Pointers are into plain rows.
            body["errors"] = [
                {key: value for key, value in error.items() if key != "pointer"}
                for error in body["errors"]
            ]
        return Reply(self.status, encode(body), (*_JSON, *self.headers))


def _listed(name: str) -> dict[str, str]:
    # Where its file lies is no affair of clients.
    return {"modelName": name, "modelUrl": f"/models/{name}"}


def _version(request: Request) -> Reply:
    text = metadata.version("infersdk").encode()
    return Reply(200, text, (("content-type", "text/plain; charset=utf-8"),))


def _no_loading() -> ProblemError:
    return ProblemError(
        405,
        "no-loading",
        "Models cannot be loaded by requests",
        "The models of this container are those that it was started with, and are asked at "
        "/models/{model}/invoke; none is loaded by a request",
        [("allow", ", ".join(_GET))],
    )


def _method_in(attributes: str | None) -> str | None:
    """``method=predict_proba`` among SageMaker's custom attributes; the rest is for others."""
    for attribute in (attributes or "").split(","):
        key, _, value = attribute.partition("=")
        if key.strip() == "method":
            return value.strip()
    return None
