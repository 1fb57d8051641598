"""Every error of a request as problem JSON (RFC 9457), and nothing of the inside with it.

What a client can mend is said in full: each field that does not fit, in its row, with what was expected. What
it cannot is said in one sentence; the traceback goes to the log, under the ``instance`` that the client sees.
"""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from infersdk.errors import (
    AbandonedError,
    ClosedError,
    DeadlineError,
    InputError,
    OverloadedError,
    UnknownModelError,
)
from infersdk.web.json_rows import InvalidJSON, encode

__all__ = [
    "CONTENT_TYPE",
    "ProblemError",
    "Reply",
    "body_too_large",
    "expected_problem",
    "no_page",
    "problem_of",
    "reply_to",
]

CONTENT_TYPE = "application/problem+json"

logger = logging.getLogger("infersdk.web")


class Reply(NamedTuple):
    """What goes back to the client.

    Attributes
    ----------
    status : int
    body : bytes
    headers : tuple of (str, str)
        With the content type, without the length.
    """

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...]


class ProblemError(Exception):
    """A request that is refused, in the words of RFC 9457.

    Parameters
    ----------
    status : int
        The HTTP status.
    kind : str
        The last part of ``type``, which clients can rely on.
    title : str
        The same for every problem of the kind.
    detail : str
        About this one.
    headers : sequence of (str, str)
        Besides the content type.
    **more : object
        Further members of the problem's JSON.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        detail: str,
        headers: Sequence[tuple[str, str]] = (),
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.title = title
        self.detail = detail
        self.headers = tuple(headers)
        self.more = more

    def reply(self) -> Reply:
        """Write it."""
        body = {
            "type": f"urn:infersdk:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        return Reply(self.status, encode(body), (("content-type", CONTENT_TYPE), *self.headers))


def reply_to(error: BaseException, errors: Sequence[InputError] = ()) -> Reply:
    """Write any exception as a reply.

    Parameters
    ----------
    error : BaseException
    errors : sequence of InputError
        Of an InputError: everything that is wrong with the rows, where that was looked for.
    """
    return problem_of(error, errors).reply()


def problem_of(error: BaseException, errors: Sequence[InputError] = ()) -> ProblemError:
    """Say what an exception means to a client.

    Parameters
    ----------
    error, errors
        As for :func:`reply_to`.
    """
    return expected_problem(error, errors) or _unexpected(error)


def expected_problem(
    error: BaseException, errors: Sequence[InputError] = ()
) -> ProblemError | None:
    """Say what an exception means to a client, unless it is a fault of the server's, which is none of theirs.

    Parameters
    ----------
    error, errors
        As for :func:`reply_to`.
    """
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, InputError):
        return _rows_do_not_fit(error, errors)
    if isinstance(error, InvalidJSON):
        return ProblemError(
            400,
            "invalid-json",
            "The body is not JSON",
            f"Expected JSON, got {error.msg} at line {error.lineno}, column {error.colno}",
        )
    if isinstance(error, UnknownModelError):
        return ProblemError(404, "unknown-model", "There is no such model", str(error))
    if isinstance(error, OverloadedError):
        return ProblemError(
            503,
            "overloaded",
            "Too many requests are waiting",
            str(error),
            [("retry-after", str(max(1, math.ceil(error.retry_after_s))))],
            model=error.model,
            retry_after_s=error.retry_after_s,
        )
    if isinstance(error, DeadlineError):
        return ProblemError(
            504,
            "deadline-exceeded",
            "The answer did not come in time",
            str(error),
            model=error.model,
            timeout_s=error.timeout_s,
        )
    if isinstance(error, ClosedError):
        return ProblemError(
            503,
            "closed",
            "The server is shutting down",
            "The models of this process are closed; ask again",
            [("retry-after", "1")],
        )
    if isinstance(error, AbandonedError):
        # For the log alone; nginx writes this number too.
        return ProblemError(499, "abandoned", "The client did not wait", str(error))
    return None


def body_too_large(limit_bytes: int, given: str) -> ProblemError:
    """Refuse a body for its length.

    Parameters
    ----------
    limit_bytes : int
    given : str
        Its length as far as it is known, e.g. "17,000,000" or "more".
    """
    return ProblemError(
        413,
        "body-too-large",
        "The body is too large",
        f"Expected a body of up to {limit_bytes:,} bytes, got {given}",
        max_body_bytes=limit_bytes,
    )


def no_page(path: str) -> ProblemError:
    """Refuse a path that nothing answers.

    Parameters
    ----------
    path : str
    """
    return ProblemError(404, "unknown-path", "There is nothing here", f"No page `{path[:200]}`")


def _rows_do_not_fit(error: InputError, errors: Sequence[InputError]) -> ProblemError:
    listed = [_member(item) for item in errors or (error,)]
    detail = str(error)
    if len(listed) > 1:
        detail += f" (and {len(listed) - 1} more)"
    return ProblemError(
        422,
        "rows-do-not-fit",
        "The rows do not fit the model",
        detail,
        model=error.model,
        errors=listed,
    )


def _member(error: InputError) -> dict[str, Any]:
    """One of a problem's errors, with a JSON pointer (RFC 6901) to its value in the body."""
    member: dict[str, Any] = {"detail": str(error)}
    parts = [] if error.row is None else [str(error.row)]
    if error.field is not None:
        parts.append(error.field.replace("~", "~0").replace("/", "~1"))
    member["pointer"] = "#" + "".join(f"/{part}" for part in parts)
    for name in ("field", "row", "expected", "given"):
        value = getattr(error, name)
        if value is not None:
            member[name] = value
    return member


def _unexpected(error: BaseException) -> ProblemError:
    instance = f"urn:uuid:{uuid.uuid4()}"
    logger.error("a request failed (%s)", instance, exc_info=error)
    return ProblemError(
        500,
        "internal",
        "The request could not be answered",
        "The server failed; its log has the reason under the instance",
        instance=instance,
    )
