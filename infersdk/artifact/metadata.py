"""What infersdk writes into a model's ``metadata_props``, and the seal at the end of the file.

Layout of a file written by infersdk. Protobuf merges messages that stand one after another, so the
three parts read as one ordinary ONNX model::

    header   ModelProto with the ``infersdk.*`` entries of metadata_props, one JSON object each
    body     the ModelProto itself
    trailer  ModelProto with one entry, ``infersdk.digest``: sha256 of everything before it

The header comes first so that a file cut anywhere still says that it is ours, and so that its documents
can be read without parsing the graph. A tool that rewrites the file loses the seal, and `open` says so.
The seal tells damage, not forgery: whoever can write the file can seal it too. That is why everything in
it is checked all the same, and nothing in it is ever executed.

Documents (all JSON objects with a whole number ``version``):

    infersdk.model       name
    infersdk.signature   types.Signature
    infersdk.plan        types.Plan
    infersdk.parity      types.ParityReport, absent where there was nothing to compare with
    infersdk.provenance  Provenance
    infersdk.precision   types.PrecisionReport, where the model is kept in fewer bits
    infersdk.external    location, size and sha256 of each file of external data

Any other ``infersdk.*`` entry is a document of another part of the package and is kept as it is.

Migration: every reader accepts each version up to its own and refuses newer ones. Adding an optional
field with a default keeps the version. Anything else raises the version of that one document, and adds
to ``_MIGRATIONS`` a function that turns the previous version's object into the new one; the functions
run in order when a file is opened, and files are never rewritten in place. So a new infersdk opens
every old file, and an old one refuses a new file by name instead of misreading it.
"""

from __future__ import annotations

import io
import json
import types as pytypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import (
    TYPE_CHECKING,
    Any,
    BinaryIO,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from infersdk.errors import ArtifactError
from infersdk.types import ParityReport, Plan, PrecisionReport, Signature

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = [
    "DIGEST_KEY",
    "MAX_DOCUMENT_BYTES",
    "MAX_DOCUMENT_DEPTH",
    "PREFIX",
    "TRAILER_BYTES",
    "Provenance",
    "check_types",
    "decode",
    "digest_of_trailer",
    "encode",
    "header",
    "leading_entries",
    "parse_parity",
    "parse_plan",
    "parse_provenance",
    "parse_signature",
    "split_entries",
    "trailer",
]

PREFIX = "infersdk."
DIGEST_KEY = PREFIX + "digest"
MAX_DOCUMENT_BYTES = 64 * 2**20
MAX_DOCUMENT_DEPTH = 48

_VERSIONS = {
    "model": 1,
    "signature": 1,
    "plan": 1,
    "parity": 1,
    "provenance": 1,
    "precision": 1,
    "external": 1,
}
_MIGRATIONS: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}

_METADATA_PROPS_TAG = b"\x72"  # field 14, length-delimited


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a model came from.

    Parameters
    ----------
    framework : str
        The source framework, e.g. ``"scikit-learn"``.
    source : str
        The source model's type, e.g. ``"sklearn.pipeline.Pipeline"``.
    versions : tuple of (str, str)
        Package names and versions that took part in the conversion, sorted by name.
    infersdk : str
        Version of infersdk.
    created : str
        UTC time of the conversion, ISO 8601 with seconds, e.g. ``"2026-11-22T12:00:00Z"``.
    """

    framework: str
    source: str
    versions: tuple[tuple[str, str], ...]
    infersdk: str
    created: str

    def to_json(self) -> dict[str, Any]:
        return {
            "framework": self.framework,
            "source": self.source,
            "versions": dict(self.versions),
            "infersdk": self.infersdk,
            "created": self.created,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Provenance:
        return cls(
            framework=data["framework"],
            source=data["source"],
            versions=tuple(sorted(data["versions"].items())),
            infersdk=data["infersdk"],
            created=data["created"],
        )


def header(documents: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Serialize the documents, by key without the prefix, as the first part of a file."""
    import onnx

    model = onnx.ModelProto()
    for key, document in documents.items():
        model.metadata_props.add(key=PREFIX + key, value=encode(key, document))
    return model.SerializeToString()


def trailer(digest: str) -> bytes:
    """Serialize the seal over everything before it; ``digest`` is sha256 in 64 hex digits."""
    import onnx

    model = onnx.ModelProto()
    model.metadata_props.add(key=DIGEST_KEY, value="sha256:" + digest)
    return model.SerializeToString()


def digest_of_trailer(data: bytes) -> str | None:
    """Read the digest out of a seal; None when it is none."""
    digest = data[-64:].decode("ascii", "replace")
    return digest if data == trailer(digest) else None


# Tag and length of the entry, then tag, length and text of its key and its value.
TRAILER_BYTES = 2 + 2 + len(DIGEST_KEY) + 2 + len("sha256:") + 64


def encode(key: str, document: Mapping[str, Any]) -> str:
    """Write one document as JSON text, adding the version of a document of this module.

    Raises
    ------
    ArtifactError
        The document holds something that is no JSON, or is too large or too deep to be opened again.
    """
    version = _VERSIONS.get(key)
    data = dict(document) if version is None else {"version": version, **document}
    if not isinstance(data.get("version"), int):
        raise ArtifactError(f"The document `{PREFIX}{key}` needs a whole number as its `version`")
    try:
        text = json.dumps(data, separators=(",", ":"), default=_plain)
    except (TypeError, ValueError, RecursionError) as exc:
        raise ArtifactError(
            f"The document `{PREFIX}{key}` cannot be written as JSON: {exc}"
        ) from exc
    decode(key, text)
    return text


def decode(key: str, text: str) -> dict[str, Any]:
    """Read one document, brought to the current version.

    Raises
    ------
    ArtifactError
        It is no JSON object, too large, too deep, or of a newer version than this infersdk knows.
    """
    where = f"`{PREFIX}{key}`"
    if len(text) > MAX_DOCUMENT_BYTES:
        raise ArtifactError(
            f"Expected at most {MAX_DOCUMENT_BYTES} bytes in {where}, got {len(text)}"
        )
    try:
        data = json.loads(text)
    except RecursionError as exc:
        raise ArtifactError(f"The metadata {where} is nested too deep") from exc
    except ValueError as exc:
        raise ArtifactError(f"The metadata {where} is not JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise ArtifactError(f"Expected a JSON object in {where}, got {type(data).__name__}")
    _check_depth(data, where)
    version = data.get("version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ArtifactError(f"Expected a version of 1 or more in {where}, got {version!r}")
    current = _VERSIONS.get(key)
    if current is None:
        return data
    if version > current:
        raise ArtifactError(
            f"The metadata {where} has version {version}; this infersdk reads versions up to "
            f"{current}. Open the file with the infersdk that wrote it, or upgrade: "
            "pip install --upgrade infersdk"
        )
    while version < current:
        data = _MIGRATIONS[key, version](data)
        version += 1
    return data


def split_entries(model: ModelProto) -> tuple[dict[str, dict[str, Any]], str | None]:
    """Read the documents of a parsed file, and its digest; both empty for other tools' files.

    Raises
    ------
    ArtifactError
        A document is malformed or there twice.
    """
    documents: dict[str, dict[str, Any]] = {}
    digest = None
    for entry in model.metadata_props:
        if not entry.key.startswith(PREFIX):
            continue
        if entry.key == DIGEST_KEY:
            digest = entry.value.removeprefix("sha256:")
            continue
        key = entry.key.removeprefix(PREFIX)
        if key in documents:
            raise ArtifactError(f"The metadata `{entry.key}` is there twice")
        documents[key] = decode(key, entry.value)
    return documents, digest


def leading_entries(stream: BinaryIO) -> dict[str, str]:
    """Read the metadata entries that a file begins with, by their whole key.

    Read from the bytes and stopping at anything odd, so that a file too damaged to parse is still
    known as ours, and so that a large file need not be read.
    """
    entries: dict[str, str] = {}
    while stream.read(1) == _METADATA_PROPS_TAG:
        length = _varint(stream)
        if length is None or length > MAX_DOCUMENT_BYTES + 1024:
            break
        inner = io.BytesIO(stream.read(length))
        text = []
        while inner.read(1):
            size = _varint(inner)
            if size is None:
                break
            text.append(inner.read(size).decode("utf-8", "replace"))
        if len(text) != 2:
            break
        entries[text[0]] = text[1]
    return entries


def parse_signature(data: Mapping[str, Any]) -> Signature:
    return _parse("signature", Signature, data)


def parse_plan(data: Mapping[str, Any]) -> Plan:
    return _parse("plan", Plan, data)


def parse_parity(data: Mapping[str, Any]) -> ParityReport:
    return _parse("parity", ParityReport, data)


def parse_precision(data: Mapping[str, Any]) -> PrecisionReport:
    return _parse("precision", PrecisionReport, data)


def parse_provenance(data: Mapping[str, Any]) -> Provenance:
    return _parse("provenance", Provenance, data)


def _parse(key: str, cls: Any, data: Mapping[str, Any]) -> Any:
    values = {name: value for name, value in data.items() if name != "version"}
    try:
        result = cls.from_json(values)
        check_types(result, cls, cls.__name__)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise ArtifactError(f"The metadata `{PREFIX}{key}` is malformed: {exc!r}") from exc
    return result


def check_types(value: Any, hint: Any, where: str) -> None:
    """Check a value built from JSON against its annotation, dataclass fields and items included.

    Raises
    ------
    TypeError
        Naming the place, what it asks for, and what is there.
    """
    if get_origin(hint) in (Union, pytypes.UnionType):
        fitting = [option for option in get_args(hint) if _fits(value, option)]
        if fitting:
            hint = fitting[0]
    if not _fits(value, hint):
        raise TypeError(f"{where}: expected {hint}, got {value!r:.80}")
    if is_dataclass(value):
        cls: Any = type(value)
        for name, kind in _annotations(cls).items():
            check_types(getattr(value, name), kind, f"{where}.{name}")
    elif get_origin(hint) is tuple:
        kinds = get_args(hint)
        if kinds[1:] == (Ellipsis,):
            kinds = kinds[:1] * len(value)
        if len(kinds) != len(value):
            raise TypeError(f"{where}: expected {len(kinds)} items, got {len(value)}")
        for index, (item, kind) in enumerate(zip(value, kinds, strict=True)):
            check_types(item, kind, f"{where}[{index}]")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of the annotated kind, not looking inside tuples and dataclasses."""
    if hint is None or hint is type(None):
        return value is None
    if get_origin(hint) in (Union, pytypes.UnionType):
        return any(_fits(value, option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


@cache
def _annotations(cls: Any) -> dict[str, Any]:
    """Annotations of a dataclass's fields, names resolved."""
    hints = get_type_hints(cls)
    return {item.name: hints[item.name] for item in fields(cls)}


def _plain(value: Any) -> Any:
    """Turn numpy scalars into Python's, for labels and categories that came from an array."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def _check_depth(data: Any, where: str) -> None:
    level, depth = [data], 0
    while level:
        depth += 1
        if depth > MAX_DOCUMENT_DEPTH:
            raise ArtifactError(f"The metadata {where} is nested deeper than {MAX_DOCUMENT_DEPTH}")
        level = [
            inner
            for item in level
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, (dict, list))
        ]


def _varint(stream: BinaryIO) -> int | None:
    """Read a protobuf varint; None when it is cut or too long."""
    value = 0
    for shift in range(0, 64, 7):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
