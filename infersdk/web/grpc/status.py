"""Every error of a call as a gRPC status: the code, a message, and machine-readable details.

What an error means to a client is :mod:`infersdk.web.problems`' to say; here its HTTP status becomes a code. Details
go as gRPC's richer errors do, in the trailing metadata ``grpc-status-details-bin``: each field that does not fit, when
to ask again, and the id under which the log has the reason.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import grpc

from infersdk.errors import InputError
from infersdk.web.grpc.messages import RPC
from infersdk.web.problems import ProblemError, problem_of

__all__ = ["Refusal", "refusal_of"]

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    # Not RESOURCE_EXHAUSTED, which clients and proxies may take for a reason to try again.
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    499: grpc.StatusCode.CANCELLED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}

# Clients take 8 KiB of trailing metadata, in which a character may need nine bytes and details grow by a third.
_MOST_CHARS = 500
_MOST_DETAIL_BYTES = 2048


class Refusal(NamedTuple):
    """How a call ends that is not answered.

    Attributes
    ----------
    code : grpc.StatusCode
    message : str
    trailing : tuple of (str, str or bytes)
        Metadata.
    http_status : int
        What an HTTP client would be told: for counts and logs.
    """

    code: grpc.StatusCode
    message: str
    trailing: tuple[tuple[str, str | bytes], ...]
    http_status: int


def refusal_of(error: BaseException, errors: Sequence[InputError] = ()) -> Refusal:
    """Say what an exception means to a client; what is unexpected goes to the log.

    Parameters
    ----------
    error : BaseException
    errors : sequence of InputError
        Of an InputError: everything that is wrong with the rows, where that was looked for.
    """
    problem = problem_of(error, errors)
    code = _CODES.get(problem.status, grpc.StatusCode.INTERNAL)
    message = problem.detail
    if "instance" in problem.more:
        message += f" {problem.more['instance']}"
    if len(message) > _MOST_CHARS:
        message = message[: _MOST_CHARS - 3] + "..."
    trailing: list[tuple[str, str | bytes]] = []
    retry_s = _retry_s(problem)
    if retry_s is not None:
        # What clients with a retry policy wait.
        trailing.append(("grpc-retry-pushback-ms", str(math.ceil(retry_s * 1000))))
    details = _details(problem, retry_s)
    if details:
        status = RPC["Status"](code=code.value[0], message=message, details=details)
        trailing.append(("grpc-status-details-bin", status.SerializeToString()))
    return Refusal(code, message, tuple(trailing), problem.status)


def _retry_s(problem: ProblemError) -> float | None:
    given: Any = problem.more.get("retry_after_s")
    if given is None:
        given = dict(problem.headers).get("retry-after", 0)
    # Without knowing when, the client's own back-off is better than "at once".
    return float(given) or None


def _details(problem: ProblemError, retry_s: float | None) -> list[Any]:
    details = []
    if retry_s is not None:
        seconds = int(retry_s)
        delay = RPC["Duration"](seconds=seconds, nanos=int((retry_s - seconds) * 1e9))
        details.append(_any("RetryInfo", retry_delay=delay))
    named = [
        error for error in problem.more.get("errors", ()) if "field" in error or "row" in error
    ]
    if named:
        details.append(_any("BadRequest", field_violations=_violations(named)))
    if "instance" in problem.more:
        details.append(_any("RequestInfo", request_id=problem.more["instance"]))
    return details


def _violations(errors: Sequence[dict[str, Any]]) -> list[Any]:
    violations: list[Any] = []
    left = _MOST_DETAIL_BYTES
    for error in errors:
        row = f"[{error['row']}]" if "row" in error else ""
        violation = RPC["BadRequest.FieldViolation"](
            field=(error.get("field", "") + row)[:_MOST_CHARS],
            description=error["detail"][:_MOST_CHARS],
        )
        left -= violation.ByteSize()
        if left < 0:
            break
        violations.append(violation)
    return violations


def _any(name: str, **values: Any) -> Any:
    message = RPC[name](**values)
    return RPC["Any"](
        type_url=f"type.googleapis.com/google.rpc.{name}", value=message.SerializeToString()
    )
