"""Bodies of invocations by their content type: JSON, CSV, lines of JSON, a NumPy array."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from infersdk.web.json_rows import InvalidJSON, decode_with_nan
from infersdk.web.problems import ProblemError
from infersdk.web.protocols.invocations_csv import read_csv
from infersdk.web.protocols.invocations_json import read_json
from infersdk.web.protocols.invocations_npy import read_npy
from infersdk.web.protocols.invocations_rows import Form, check_count

__all__ = ["JSON_LINES", "TYPES", "Parsed", "body_format", "check_charset", "read_body"]

JSON_LINES = ("application/jsonlines", "application/jsonl", "application/x-ndjson")

TYPES = {
    "application/json": "json",
    "text/csv": "csv",
    **dict.fromkeys(JSON_LINES, "jsonlines"),
    "application/x-npy": "npy",
}
"""What is read, by content type."""


class Parsed(NamedTuple):
    """A body.

    Attributes
    ----------
    rows : object
        As the Predictor takes them.
    n_rows : int or None
    method : str or None
        That the body asks for.
    """

    rows: Any
    n_rows: int | None
    method: str | None = None


@lru_cache(maxsize=64)
def _content_type(given: str) -> tuple[str, dict[str, str]]:
    kind, *parameters = given.split(";")
    pairs = (parameter.partition("=") for parameter in parameters)
    return kind.strip().lower(), {
        key.strip().lower(): value.strip().strip('"').lower() for key, _, value in pairs
    }


def body_format(content_type: str | None) -> str:
    """Say how a body is read: "json", "csv", "jsonlines" or "npy".

    Parameters
    ----------
    content_type : str or None
        The request's header; None is JSON.

    Raises
    ------
    ProblemError
        415: it is not read here.
    """
    if not content_type:
        return "json"
    kind = _content_type(content_type)[0]
    found = TYPES.get(kind)
    if found is not None:
        return found
    if kind.startswith("application/") and kind.endswith("+json"):
        return "json"
    raise ProblemError(
        415,
        "unsupported-media-type",
        "The body has a content type that is not read here",
        f"Expected application/json, text/csv, application/jsonlines or application/x-npy, got {kind[:100]}",
        [("accept", ", ".join(TYPES))],
    )


def check_charset(content_type: str | None) -> None:
    """Expect UTF-8, or no word of it.

    Raises
    ------
    ProblemError
        415: it is another.
    """
    charset = _content_type(content_type)[1].get("charset") if content_type else None
    if charset not in (None, "utf-8", "utf8", "us-ascii"):
        raise ProblemError(
            415,
            "unsupported-charset",
            "The body has a charset that is not read here",
            f"Expected UTF-8, got {charset[:100]}",
        )


def read_body(
    body: bytes | bytearray, content_type: str | None, form: Form, max_rows: int
) -> Parsed:
    """Read a body of any content type.

    Parameters
    ----------
    body : bytes or bytearray
    content_type : str or None
        The request's header.
    form : Form
        Of the model's rows.
    max_rows : int

    Raises
    ------
    InputError, ProblemError, InvalidJSON
        It cannot be read, or holds too many rows.
    """
    kind = body_format(content_type)
    if kind == "json":
        return Parsed(*read_json(body, form, max_rows))
    if kind == "npy":
        rows = form.of_array(read_npy(body, model=form.model))
        n_rows = len(rows) if isinstance(rows, list) or rows.ndim > 1 else 1
        check_count(n_rows, max_rows)
        return Parsed(rows, n_rows)
    if kind == "jsonlines":
        listed = _read_lines(body, max_rows)
        return Parsed(listed, len(listed))
    header = _content_type(content_type or "")[1].get("header")
    has_header = {"present": True, "absent": False}.get(header or "")
    return Parsed(*read_csv(_text(body), form, has_header, max_rows))


def _read_lines(body: bytes | bytearray, max_rows: int) -> list[Any]:
    lines = bytes(body).split(b"\n")
    rows: list[Any] = []
    for number, line in enumerate(lines, 1):
        if not line or line.isspace():
            continue
        if len(rows) == max_rows:
            check_count(max_rows + 1, max_rows, more=True)
        try:
            rows.append(decode_with_nan(line))
        except InvalidJSON as error:
            raise ProblemError(
                400,
                "invalid-json",
                "The body is not JSON",
                f"Expected JSON in each line, got {error.msg} at line {number}, column {error.colno}",
            ) from error
    return rows


def _text(body: bytes | bytearray) -> str:
    try:
        return str(body, "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ProblemError(
            400,
            "invalid-text",
            "The body is not text in UTF-8",
            f"Expected UTF-8, got another byte at position {error.start:,}",
        ) from None
