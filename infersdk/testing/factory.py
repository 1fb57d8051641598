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

__all__ = ["make_predictor"]

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
        "classifier", "regressor" or "network"; else as for :func:`infersdk.load`.
    execution, batching
        A tiny model is not measured by default.
    **options
        Of ``tiny_model``, or of :func:`infersdk.load`.

    Raises
    ------
    Exception
        As these.
    """
    if not isinstance(model, str) or model not in KINDS:
        return api.load(model, execution=execution, batching=batching, **options)
    key = json.dumps([model, options], sort_keys=True, default=repr)
    artifact = _written.get(key)
    if artifact is None:
        artifact = _written[key] = tiny_model(model, **options)  # type: ignore[arg-type]
    conversion = Conversion(
        artifact.plan,
        artifact.signature,
        artifact,
        None,
        None,
        cast(Any, onnx_file),
        str(artifact.name),
    )
    execution = execution or Execution(threads=1, calibration_s=0)
    return Predictor(conversion, execution=execution, batching=batching)
