"""Rows as plain JSON: this library's own protocol, and the shortest.

    POST /churn/predict_proba      {"age": 41, "city": "Oslo"}
    {"answers": [[0.81, 0.19]]}

A body is one row, or a list of rows; answers have a batch axis, as the Predictor's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infersdk.errors import InputError, UnknownModelError
from infersdk.runtime import Predictor
from infersdk.web.json_rows import decode, encode
from infersdk.web.openapi import describe, rows_paths
from infersdk.web.problems import ProblemError, Reply, reply_to
from infersdk.web.protocol import Call, Inference, Page, Protocol, method_not_allowed
from infersdk.web.request import Request

__all__ = ["JSON", "RowsProtocol", "check_rows"]

JSON = (("content-type", "application/json"),)
"""The headers of an ordinary answer; hosts know it by its identity."""


class RowsProtocol(Protocol):
    """Answers ``POST /{model}`` and ``POST /{model}/{method}``; ``GET`` describes."""

    name = "rows"

    def route(self, http_method: str, parts: tuple[str, ...]) -> Page | Inference | None:
        """See :class:`infersdk.web.protocol.Protocol`."""
        name = parts[0]
        method = parts[1] if len(parts) == 2 else None
        if len(parts) > 2:
            return None
        if name and name not in self.service.predictors:
            raise UnknownModelError(self.service.unknown(name))
        is_page = not name or method is None
        allowed = ["POST"] if name else []
        if is_page:
            allowed += ["GET", "HEAD"]
        if http_method not in allowed:
            raise method_not_allowed(http_method, allowed)
        if http_method == "POST":
            return Inference(self, name, method)
        if not name:
            return Page(self, self._index)
        return Page(self, lambda request: self._describe(name), opens=name)

    def check_type(self, request: Request) -> None:
        """Expect JSON, or no word of what it is."""
        given = request.header("content-type")
        if not given or given == "application/json":
            return
        kind = given.partition(";")[0].strip().lower()
        if kind == "application/json" or (
            kind.startswith("application/") and kind.endswith("+json")
        ):
            return
        raise ProblemError(
            415,
            "unsupported-media-type",
            "The body has a content type that is not read here",
            f"Expected application/json, got {kind[:100]}",
            [("accept", "application/json")],
        )

    def read(
        self, inference: Inference, predictor: Predictor, request: Request, body: bytes | bytearray
    ) -> Call:
        """See :class:`infersdk.web.protocol.Protocol`."""
        method = self.service.method(inference.model, inference.method, predictor)
        self.check_type(request)
        rows = decode(body)
        n_rows = check_rows(rows, self.service.settings.max_rows)
        return Call(rows, (method,), _write, n_rows)

    def refuse(self, error: BaseException, errors: Sequence[InputError] = ()) -> Reply:
        """Problem JSON."""
        return reply_to(error, errors)

    def paths(self) -> dict[str, Any]:
        """See :class:`infersdk.web.protocol.Protocol`."""
        return rows_paths(self.service)

    def _index(self, request: Request) -> Reply:
        return Reply(200, encode({"models": list(self.service.predictors)}), JSON)

    def _describe(self, name: str) -> Reply:
        return Reply(200, encode(describe(self.service, name)), JSON)


def _write(answers: list[Any]) -> Reply:
    return Reply(200, encode({"answers": answers[0]}), JSON)


def check_rows(rows: Any, max_rows: int) -> int:
    """Count the rows of a JSON body.

    Raises
    ------
    ProblemError
        413: there are more than the setting allows.
    """
    if type(rows) is not list:
        return 1
    if len(rows) > max_rows:
        raise ProblemError(
            413,
            "too-many-rows",
            "The request holds too many rows",
            f"Expected up to {max_rows:,} rows, got {len(rows):,}; send them in several requests",
            max_rows=max_rows,
        )
    return len(rows)
