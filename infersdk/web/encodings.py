"""Compressed bodies: read within the limit that holds for plain ones, and written where that is asked for.

Answers are compressed only if the setting says so: nearly every client says that it takes gzip, and for answers of
the usual size that costs the server more time than the network saves.
"""

from __future__ import annotations

import gzip
import zlib

from infersdk.web.problems import ProblemError, body_too_large

__all__ = ["accepts_gzip", "decompressed", "gzipped"]

_READ = ("gzip", "x-gzip", "deflate")
_LEVEL = 1  # the others take several times as long for a few percent
_EITHER = 32 + zlib.MAX_WBITS  # a gzip or a zlib header
_BARE = -zlib.MAX_WBITS  # what some clients mean by deflate


def decompressed(body: bytes | bytearray, encoding: str, limit_bytes: int) -> bytes | bytearray:
    """Read a compressed body.

    Parameters
    ----------
    body : bytes or bytearray
    encoding : str
        The request's ``Content-Encoding``.
    limit_bytes : int
        More than that is never unpacked.

    Raises
    ------
    ProblemError
        415: another encoding. 413: it holds more. 400: it is damaged, or ends early.
    """
    name = encoding.strip().lower()
    if not name or name == "identity":
        return body
    if name not in _READ:
        raise ProblemError(
            415,
            "unsupported-encoding",
            "The body is compressed in a way that is not read here",
            f"Expected a Content-Encoding of gzip or deflate, got {name[:100]}",
            [("accept-encoding", "gzip, deflate")],
        )
    is_bare = name == "deflate" and not _has_zlib_header(body)
    reader = zlib.decompressobj(_BARE if is_bare else _EITHER)
    try:
        plain = reader.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise _damaged(str(error)) from error
    if len(plain) > limit_bytes:
        raise body_too_large(limit_bytes, "more, once unpacked")
    if not reader.eof:
        raise _damaged("it ends early")
    if reader.unused_data:
        raise _damaged("something follows its end")
    return plain


def _has_zlib_header(body: bytes | bytearray) -> bool:
    return len(body) >= 2 and body[0] & 0x0F == 8 and (body[0] * 256 + body[1]) % 31 == 0


def _damaged(reason: str) -> ProblemError:
    return ProblemError(
        400,
        "invalid-compression",
        "The body cannot be unpacked",
        f"Expected what its Content-Encoding says, but {reason}",
    )


def accepts_gzip(accepted: str | None) -> bool:
    """Whether a request's ``Accept-Encoding`` allows gzip."""
    for part in (accepted or "").split(","):
        name, _, parameters = part.partition(";")
        if name.strip().lower() in ("gzip", "x-gzip", "*"):
            quality = parameters.replace(" ", "").lower()
            return quality not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def gzipped(body: bytes) -> bytes:
    """Compress an answer, the same each time."""
    return gzip.compress(body, _LEVEL, mtime=0)
