"""Models that are ONNX already: the path of an ``.onnx`` file, its bytes, or an ``onnx.ModelProto``.

Nothing is converted and there is no other source to compare with, so there is no parity report: ONNX
Runtime's answers are the model's answers. The signature is read from the graph, or from the metadata that
infersdk wrote into it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from infersdk.artifact import Artifact, signature_from_graph
from infersdk.artifact.external import check_references, embed
from infersdk.convert.registry import Written
from infersdk.errors import ArtifactError, ConversionError, UnsupportedModelError
from infersdk.types import Signature

if TYPE_CHECKING:
    import numpy as np
    from onnx import ModelProto

__all__ = ["EXTRA", "FRAMEWORK", "call", "can_convert", "edge_rows", "infer_signature", "to_onnx"]

FRAMEWORK = "ONNX"
EXTRA = "cpu"

_LARGEST_BYTES = 1_900_000_000
"""Most bytes of a model held in memory as one message; protobuf ends at 2 GiB."""


def can_convert(model: Any) -> bool:
    """Whether this is the path of an ``.onnx`` file, bytes, or an ``onnx.ModelProto``; imports nothing."""
    if isinstance(model, str | os.PathLike):
        path = os.fspath(model)
        return isinstance(path, str) and path.lower().endswith(".onnx")
    return isinstance(model, bytes) or _is_proto(model)


def infer_signature(model: Any, example: Any = None) -> Signature:
    """Read the signature; ``example`` is not needed.

    Initializers that are listed as inputs too are none. One method answers the graph's only output, or a
    dict of all of them by name.

    Raises
    ------
    ArtifactError
        The file is missing, damaged or unsafe, is no ONNX model, or a value has a type that infersdk
        does not know.
    """
    if _is_proto(model):
        _check_proto(model)
        return signature_from_graph(model)
    return _open(model).signature


def to_onnx(
    model: Any, signature: Signature, *, example: Any = None, opset: int | None = None
) -> Written:
    """Return a copy of the model, external data read into it. Its opset stays what it is.

    Raises
    ------
    ArtifactError
        The file is missing, damaged or unsafe, or is no ONNX model.
    ConversionError
        Model and external data together are too large for one message.
    UnsupportedModelError
        Another opset is asked for.
    """
    import onnx

    if _is_proto(model):
        _check_proto(model)
        proto = onnx.ModelProto()
        proto.CopyFrom(model)
        folder = None
    else:
        artifact = _open(model)
        stored = artifact.session_model()
        if isinstance(stored, str):
            with open(stored, "rb") as file:
                stored = file.read()
        proto = onnx.ModelProto.FromString(stored)
        folder = artifact.external_folder
    given = {entry.domain: entry.version for entry in proto.opset_import}
    if opset is not None and given.get("") != opset:
        raise UnsupportedModelError(
            f"Expected opset {opset}, got a model of opset {given.get('')}. Leave opset= out, or change "
            "the model with onnx.version_converter first"
        )
    sizes = check_references(proto, folder, "The model")
    if sizes:
        total = proto.ByteSize() + sum(sizes.values())
        if total > _LARGEST_BYTES:
            raise ConversionError(
                f"Expected at most {_LARGEST_BYTES / 1e9:.1f} GB in one model, got {total / 1e9:.1f} GB "
                "with its external data. Open it by its path, which maps the data"
            )
        assert folder is not None  # check_references refuses references without one
        embed(proto, folder)
    return Written(proto)


def call(model: Any, method: str, rows: Any) -> Any:
    """Refuse: there is no source framework to ask.

    Raises
    ------
    ConversionError
        Always.
    """
    raise ConversionError(
        "An ONNX model has no source framework that could answer; it is run by ONNX Runtime only"
    )


def edge_rows(
    model: Any,
    signature: Signature,
    example: Any,
    *,
    n_rows: int,
    rng: np.random.Generator,
) -> None:
    """Return None: there is nothing to compare with."""


def _is_proto(model: Any) -> bool:
    return any(
        base.__name__ == "ModelProto" and base.__module__.partition(".")[0] == "onnx"
        for base in type(model).__mro__
    )


def _open(model: Any) -> Artifact:
    if isinstance(model, str | os.PathLike):
        return Artifact.open(model)
    return Artifact.from_bytes(model)


def _check_proto(model: ModelProto) -> None:
    if not model.HasField("graph") or not model.graph.output:
        raise ArtifactError(
            "Expected an onnx.ModelProto with a graph and an output, got one without"
        )
    if model.ir_version < 1 or not model.opset_import:
        raise ArtifactError(
            "Expected an onnx.ModelProto with an IR version and an opset, got one without; "
            "onnx.helper.make_model() sets both"
        )
