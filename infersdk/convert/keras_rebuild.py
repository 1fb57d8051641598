"""Exporting a Keras model of another backend through the tensorflow backend, in a process of its own.

A process has one Keras backend. So the model is saved, a second Python opens it on tensorflow, whose exporter
knows the most layers, and writes the graph; the first proves that graph against its own model. It works for
models that a Keras file holds without code: those of Keras's own layers.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from infersdk.convert.array_study import first_sentence
from infersdk.errors import ConversionError
from infersdk.types import TensorSpec

if TYPE_CHECKING:
    import onnx

__all__ = ["rebuild"]

_LONGEST_S = 600.0


def rebuild(
    model: Any, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], opset: int | None
) -> onnx.ModelProto:
    """Write the graph of a functional or sequential model by way of the tensorflow backend.

    Raises
    ------
    ConversionError
        TensorFlow or tf2onnx is missing, the model cannot be saved or opened, or tf2onnx cannot write it.
    """
    import onnx

    if not os.path.basename(sys.executable).startswith("python"):
        # A server that has Python inside it; run again, it would be a second server.
        raise ConversionError(f"no second process can be run from {sys.executable}")
    if any(importlib.util.find_spec(name) is None for name in ("tensorflow", "tf2onnx")):
        raise ConversionError("tensorflow and tf2onnx, which might, are not installed")
    with tempfile.TemporaryDirectory(prefix="infersdk-") as folder:
        saved = os.path.join(folder, "model.keras")
        try:
            model.save(saved)
        except Exception as exc:  # whatever a layer's configuration or a custom class raises
            raise ConversionError(f"Keras cannot save it: {first_sentence(exc)}") from exc
        asked = {
            "inputs": [spec.to_json() for spec in inputs],
            "outputs": [spec.to_json() for spec in outputs],
            "opset": opset,
        }
        with open(os.path.join(folder, "asked.json"), "w", encoding="utf-8") as file:
            json.dump(asked, file)
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "2"}
        # What this process can import, the other one can.
        environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "infersdk.convert.keras_rebuild", folder],
                env=environment,
                capture_output=True,
                text=True,
                timeout=_LONGEST_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as exc:
            raise ConversionError(f"no second process could be run: {exc}") from exc
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise ConversionError(lines[-1][:300] if lines else f"it ended with {done.returncode}")
        return onnx.load(os.path.join(folder, "model.onnx"))


def _main(folder: str) -> None:
    """Answer for the second process."""
    import keras
    import onnx

    from infersdk.convert.keras_calls import declared_inputs
    from infersdk.convert.keras_export import export

    with open(os.path.join(folder, "asked.json"), encoding="utf-8") as file:
        asked = json.load(file)
    model = keras.saving.load_model(os.path.join(folder, "model.keras"), compile=False)
    layout = declared_inputs(model)
    if layout is None:
        raise ConversionError("the model does not declare its inputs")
    specs = [tuple(_spec(item) for item in asked[kind]) for kind in ("inputs", "outputs")]
    graph = export(model, layout, (), specs[0], specs[1], asked["opset"]).graph
    onnx.save(graph, os.path.join(folder, "model.onnx"))


def _spec(data: dict[str, Any]) -> TensorSpec:
    return TensorSpec(
        data["name"], data["dtype"], None if data["shape"] is None else tuple(data["shape"])
    )


if __name__ == "__main__":
    try:
        _main(sys.argv[1])
    except Exception as exc:  # told in one line to the process that asked
        sys.exit(first_sentence(exc))
