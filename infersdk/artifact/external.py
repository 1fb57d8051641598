"""Weights that are stored in files beside the model: checked, verified, written and read back.

A location comes from the model file, so from anyone. Each is checked before anything opens it: it must
name a regular file inside the model's own folder, and the tensor must lie within that file.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from infersdk.artifact.graph import all_tensors, copy_fields
from infersdk.errors import ArtifactError

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

__all__ = [
    "ALIGNMENT_BYTES",
    "CHUNK_BYTES",
    "DataWriter",
    "ExternalFile",
    "check_references",
    "embed",
    "external_files_from_json",
    "externalize",
    "refer",
    "sha256_of_file",
    "weights_bytes",
]

ALIGNMENT_BYTES = 4096
"""Each tensor starts on a page of its own, so that it can be mapped."""

CHUNK_BYTES = 2**22
_SMALLEST_EXTERNAL_BYTES = 1024
_WHOLE_NUMBER = re.compile(r"[0-9]{1,18}")
_DRIVE = re.compile(r"[A-Za-z]:")
_DATA_FIELDS = frozenset(
    {
        "raw_data",
        "float_data",
        "int32_data",
        "int64_data",
        "double_data",
        "uint64_data",
        "external_data",
        "data_location",
    }
)


@dataclass(frozen=True, slots=True)
class ExternalFile:
    """One file of external data: its place beside the model, and its content."""

    location: str
    size_bytes: int
    sha256: str

    def to_json(self) -> dict[str, Any]:
        return {"location": self.location, "size_bytes": self.size_bytes, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class _Range:
    """Where an external tensor's bytes are."""

    location: str
    offset: int
    length: int


def external_files_from_json(data: Mapping[str, Any]) -> tuple[ExternalFile, ...]:
    """Read the ``infersdk.external`` document.

    Raises
    ------
    ArtifactError
        It is malformed.
    """
    files = []
    items = data.get("files")
    for item in items if isinstance(items, list) else [None]:
        match item:
            case {"location": str(location), "size_bytes": int(size), "sha256": str(sha256)}:
                files.append(ExternalFile(location, size, sha256))
            case _:
                raise ArtifactError("The metadata `infersdk.external` is malformed")
    return tuple(files)


def check_references(model: ModelProto, folder: str | None, where: str) -> dict[str, int]:
    """Check every reference to external data anywhere in a model.

    Parameters
    ----------
    model : onnx.ModelProto
    folder : str or None
        The model's folder; None when there is none, so that any reference is refused.
    where : str
        The model, for messages.

    Returns
    -------
    dict of str to int
        Size in bytes of each file that is used, by location.

    Raises
    ------
    ArtifactError
        A location leaves the folder, is no regular file, or a tensor lies outside its file.
    """
    sizes: dict[str, int] = {}
    for tensor, _ in all_tensors(model):
        if not _is_external(tensor):
            continue
        part = _range(tensor, where)
        size = sizes.get(part.location)
        if size is None:
            if folder is None:
                raise ArtifactError(
                    f"{where}: tensor `{tensor.name}` is stored in the file {part.location!r}, and no "
                    "folder was given to look for it in"
                )
            size = sizes[part.location] = _size_inside(folder, part.location, where)
        if part.offset + part.length > size:
            raise ArtifactError(
                f"{where}: tensor `{tensor.name}` is bytes {part.offset} to "
                f"{part.offset + part.length} of {part.location!r}, which has {size}; "
                "the file is truncated or another one"
            )
    return sizes


def weights_bytes(model: ModelProto) -> int:
    """Bytes of every tensor inside the model; external ones are not counted."""
    return sum(_inline_bytes(tensor) for tensor, _ in all_tensors(model))


def externalize(
    model: ModelProto, folder: str | None, writer: DataWriter
) -> tuple[ModelProto, list[tuple[TensorProto, int, int]]]:
    """Copy a model without its large weights, and write those to ``writer``.

    Weights that are external already are copied range by range, so memory stays bounded by the
    largest tensor held inside the model.

    Parameters
    ----------
    model : onnx.ModelProto
        Not changed; its references have been checked.
    folder : str or None
        Where its external data are now.
    writer : DataWriter

    Returns
    -------
    tuple of (onnx.ModelProto, list)
        The copy, and (tensor, offset, length) of each tensor in the new file; :func:`refer` then
        gives the tensors their location.
    """
    import onnx

    slim = onnx.ModelProto()
    copy_fields(slim, model, skip={"graph"})
    copy_fields(slim.graph, model.graph, skip={"initializer"})
    placed: list[tuple[TensorProto, int, int]] = []
    written: dict[_Range, int] = {}

    def place(source: TensorProto, target: TensorProto) -> None:
        if _is_external(source):
            part = _range(source, "model")
            offset = written.get(part)
            if offset is None:
                offset = written[part] = writer.append_range(
                    os.path.join(folder or "", part.location), part.offset, part.length
                )
            placed.append((target, offset, part.length))
        else:
            data = _raw_bytes(source)
            placed.append((target, writer.append(data), len(data)))

    for source in model.graph.initializer:
        target = slim.graph.initializer.add()
        if _is_external(source) or _is_movable(source):
            copy_fields(target, source, skip=_DATA_FIELDS)
            place(source, target)
        else:
            target.CopyFrom(source)
    # The graph's own weights are empty by now; what is left are those of subgraphs and attributes.
    for tensor, is_initializer in all_tensors(slim):
        if _is_external(tensor) or (is_initializer and _is_movable(tensor)):
            place(tensor, tensor)
            for name in _DATA_FIELDS:
                tensor.ClearField(name)
    return slim, placed


def refer(placed: list[tuple[TensorProto, int, int]], location: str) -> None:
    """Give the tensors that :func:`externalize` moved their place in the written file."""
    from onnx import TensorProto

    for tensor, offset, length in placed:
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=str(value))


def embed(model: ModelProto, folder: str) -> None:
    """Read every external tensor into the model, in place; its references have been checked."""
    from onnx import TensorProto

    for tensor, _ in all_tensors(model):
        if not _is_external(tensor):
            continue
        part = _range(tensor, "model")
        with open(os.path.join(folder, part.location), "rb") as file:
            file.seek(part.offset)
            data = file.read(part.length)
        if len(data) != part.length:
            raise ArtifactError(f"{part.location!r} was truncated while it was read")
        tensor.ClearField("external_data")
        tensor.data_location = TensorProto.DEFAULT
        tensor.raw_data = data


def sha256_of_file(path: str) -> str:
    """Hash a file in bounded memory; 64 hex digits."""
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class DataWriter:
    """Append tensors to a file at aligned offsets, hashing on the way.

    Parameters
    ----------
    file : binary file
        Written from its start; stays the caller's to close.

    Attributes
    ----------
    size_bytes : int
        Bytes written so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        import hashlib

        self._file = file
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """sha256 of everything written so far, 64 hex digits."""
        return self._hash.hexdigest()

    def append(self, data: bytes | memoryview) -> int:
        """Write a tensor and return its offset."""
        offset = self._align()
        self._write(data)
        return offset

    def append_parts(self, parts: Iterable[bytes]) -> int:
        """Write a tensor that comes in pieces and return its offset."""
        offset = self._align()
        for part in parts:
            self._write(part)
        return offset

    def append_range(self, path: str, offset: int, length: int) -> int:
        """Copy ``length`` bytes of another file in chunks and return their offset in this one."""
        start = self._align()
        with open(path, "rb") as source:
            source.seek(offset)
            while length:
                chunk = source.read(min(length, CHUNK_BYTES))
                if not chunk:
                    raise ArtifactError(f"{path} was truncated while it was copied")
                self._write(chunk)
                length -= len(chunk)
        return start

    def _align(self) -> int:
        self._write(bytes(-self.size_bytes % ALIGNMENT_BYTES))
        return self.size_bytes

    def _write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size_bytes += len(data)


def _is_external(tensor: TensorProto) -> bool:
    # A list of external data without the flag is refused by _range: readers disagree about it.
    return bool(tensor.data_location == 1 or len(tensor.external_data))


def _range(tensor: TensorProto, where: str) -> _Range:
    """Read where an external tensor is, refusing whatever two readers could understand differently."""
    where = f"{where}: tensor `{tensor.name}`"
    if tensor.data_location != 1:
        raise ArtifactError(f"{where} names a file of external data but is not marked as external")
    values: dict[str, str] = {}
    for entry in tensor.external_data:
        if entry.key in values:
            raise ArtifactError(f"{where} gives its external {entry.key!r} twice")
        values[entry.key] = entry.value
    location = values.get("location", "")
    _check_location(location, where)
    numbers = {}
    for key in ("offset", "length"):
        text = values.get(key, "0")
        if not _WHOLE_NUMBER.fullmatch(text):
            raise ArtifactError(f"{where}: expected a whole number as its {key}, got {text!r}")
        numbers[key] = int(text)
    size = _size_of(tensor, where)
    if "length" in values and numbers["length"] != size:
        raise ArtifactError(
            f"{where}: expected {size} bytes of {_dtype_text(tensor)} {tuple(tensor.dims)}, "
            f"got a length of {numbers['length']}"
        )
    return _Range(location, numbers["offset"], size)


def _check_location(location: str, where: str) -> None:
    problem = None
    if not location:
        problem = "is missing"
    elif "\\" in location or "\0" in location:
        problem = "holds a backslash or a zero byte"
    elif location.startswith("/") or _DRIVE.match(location):
        problem = "is absolute"
    elif ".." in location.split("/"):
        problem = "leaves the model's folder"
    elif "_ORT_MEM_ADDR_" in location:
        # ONNX Runtime takes such a "location" as an address in this process's memory.
        problem = "is reserved by ONNX Runtime"
    if problem:
        raise ArtifactError(
            f"{where}: expected the name of a file in the model's folder as its external location, "
            f"got {location!r}, which {problem}"
        )


def _size_inside(folder: str, location: str, where: str) -> int:
    """Size of a file of external data, after making sure that it really is in the folder."""
    root = os.path.realpath(folder)
    path = os.path.join(root, location)
    real = os.path.realpath(path)
    if os.path.commonpath([root, real]) != root:
        raise ArtifactError(
            f"{where}: the external data {location!r} is a link that leaves the model's folder, to "
            f"{real}. Copy the file itself beside the model"
        )
    try:
        status = os.stat(real)
    except OSError as exc:
        raise ArtifactError(
            f"{where}: the external data {location!r} cannot be opened: {exc.strerror}. "
            "Keep it beside the model"
        ) from exc
    if not stat.S_ISREG(status.st_mode):
        raise ArtifactError(f"{where}: the external data {location!r} is no regular file")
    return status.st_size


def _size_of(tensor: TensorProto, where: str) -> int:
    """Bytes of a tensor of fixed-size elements."""
    if any(dim < 0 for dim in tensor.dims):
        raise ArtifactError(f"{where} has a negative dimension: {tuple(tensor.dims)}")
    bits = _element_bits(tensor.data_type)
    if bits is None:
        raise ArtifactError(f"{where}: {_dtype_text(tensor)} cannot be stored as external data")
    return (prod(tensor.dims) * bits + 7) // 8


def _element_bits(data_type: int) -> int | None:
    """Bits of one stored element; None for strings and unknown types. 4- and 2-bit types are packed."""
    from onnx import TensorProto, helper

    try:
        name = TensorProto.DataType.Name(data_type)
    except ValueError:
        return None
    if name in ("UNDEFINED", "STRING"):
        return None
    for prefix, bits in (("UINT4", 4), ("INT4", 4), ("FLOAT4", 4), ("UINT2", 2), ("INT2", 2)):
        if name.startswith(prefix):
            return bits
    return int(helper.tensor_dtype_to_np_dtype(data_type).itemsize) * 8


def _dtype_text(tensor: TensorProto) -> str:
    from onnx import TensorProto

    try:
        return str(TensorProto.DataType.Name(tensor.data_type)).lower()
    except ValueError:
        return f"element type {tensor.data_type}"


def _typed_values(tensor: TensorProto) -> tuple[Any, str] | None:
    """The typed field of a tensor without raw data, where each item is one element, and its dtype."""
    from onnx import TensorProto

    match tensor.data_type:
        case TensorProto.FLOAT:
            return tensor.float_data, "<f4"
        case TensorProto.DOUBLE:
            return tensor.double_data, "<f8"
        case TensorProto.INT64:
            return tensor.int64_data, "<i8"
        case TensorProto.INT32:
            return tensor.int32_data, "<i4"
    return None


def _inline_bytes(tensor: TensorProto) -> int:
    if _is_external(tensor):
        return 0
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data)
    typed = _typed_values(tensor)
    return 0 if typed is None else len(typed[0]) * int(np.dtype(typed[1]).itemsize)


def _is_movable(tensor: TensorProto) -> bool:
    return _inline_bytes(tensor) >= _SMALLEST_EXTERNAL_BYTES


def _raw_bytes(tensor: TensorProto) -> bytes:
    if tensor.HasField("raw_data"):
        return bytes(tensor.raw_data)
    typed = _typed_values(tensor)
    if typed is None:
        raise ArtifactError(f"Tensor `{tensor.name}` holds no data")
    return np.array(typed[0], dtype=typed[1]).tobytes()
