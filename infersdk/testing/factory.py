"""What the fixture ``predictor_factory`` makes."""

from __future__ import annotations

import json
from typing import Any, cast

from infersdk import api
from infersdk.artifact import Artifact
from infersdk.convert import onnx_file
from infersdk.convert.conversion import Conversion
from infersdk.options import Batching, Execution
from infersdk.runtime import Predictor
from infersdk.testing.tiny_models import KINDS, tiny_model

__all__ = ["make_predictor", "open_artifact"]

_written: dict[str, Artifact] = {}
"""Tiny models by their options: they never change, so one process writes each once."""


def make_predictor(
    model: Any,
    *,
    execution: Execution | None = None,
    batching: Batching | None = None,
    **options: Any,
) -> Predictor:
    """Open a tiny model of a kind, or whatever infersdk can load.

    Parameters
    ----------
    model : str or object
        "classifier", "regressor" or "network"; an Artifact; else as for :func:`infersdk.load`.
    execution, batching
        A tiny model is not measured by default.
    **options
        Of ``tiny_model``, or of :func:`infersdk.load`.

    Raises
    ------
    Exception
        As these.
    """
    if isinstance(model, Artifact):
        return open_artifact(model, execution=execution, batching=batching, **options)
    if not isinstance(model, str) or model not in KINDS:
        return api.load(model, execution=execution, batching=batching, **options)
    key = json.dumps([model, options], sort_keys=True, default=repr)
    artifact = _written.get(key)
    if artifact is None:
        artifact = _written[key] = tiny_model(model, **options)  # type: ignore[arg-type]
    execution = execution or Execution(threads=1, calibration_s=0)
    return open_artifact(artifact, execution=execution, batching=batching)


def open_artifact(
    artifact: Artifact,
    *,
    name: str | None = None,
    execution: Execution | None = None,
    batching: Batching | None = None,
) -> Predictor:
    """Open what :func:`infersdk.convert` gave, without a file."""
    conversion = Conversion(
        artifact.plan,
        artifact.signature,
        artifact,
        artifact.parity,
        None,
        cast(Any, onnx_file),
        name or artifact.name or "model",
    )
    return Predictor(conversion, execution=execution, batching=batching)
