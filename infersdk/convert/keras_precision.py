"""Mixed-precision models, computed in float32.

A layer under the policy ``mixed_float16`` or ``mixed_bfloat16`` keeps its weights in float32 and rounds what it
computes, for the sake of the accelerator that it is trained on. A processor gains nothing by that. So where a
model's own inputs and outputs are float32, a copy of it without the rounding is converted and proven; how far
the two are apart is noted.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from infersdk.convert.keras_calls import ask, flat, layout_of
from infersdk.types import Signature, TensorSpec

__all__ = ["widened", "widened_before", "widening_note"]

_NARROW = ("float16", "bfloat16")

_WIDENED: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""The copy of each model that was converted, for its proof."""


def widened(model: Any, signature: Signature) -> Any | None:
    """Copy a mixed-precision model into float32; None where it is none, or cannot be copied.

    Parameters
    ----------
    model : keras.Model
        Left as it is.
    signature : Signature
        Of the model; where it gives float16 itself, it is converted as it is.
    """
    import keras

    _WIDENED.pop(model, None)
    values = [
        spec for spec in (*signature.inputs, *signature.outputs) if isinstance(spec, TensorSpec)
    ]
    parts = model._flatten_layers() if hasattr(model, "_flatten_layers") else [model]
    if any(spec.dtype in _NARROW for spec in values) or not any(
        part.compute_dtype in _NARROW and part.variable_dtype == "float32" for part in parts
    ):
        return None

    def copied(layer: Any) -> Any:
        return type(layer).from_config(_in_float32(layer.get_config()))

    try:
        copy = keras.models.clone_model(model, clone_function=copied)
        copy.set_weights(model.get_weights())
    except Exception:  # a subclassed model, or a layer that does not tell its configuration
        return None
    _WIDENED[model] = copy
    return copy


def widened_before(model: Any) -> Any | None:
    """The copy that was converted last."""
    return _WIDENED.get(model)


def widening_note(model: Any, copy: Any, rows: Any) -> str:
    """Say how far float32 arithmetic is from the model's own, on some rows."""
    layout, arrays = layout_of(model, rows)
    narrow = flat(ask(model, layout, arrays))
    layout, arrays = layout_of(copy, rows)
    wide = flat(ask(copy, layout, arrays))
    apart = max(
        (
            float(np.nanmax(np.abs(ours.astype(np.float64) - theirs.astype(np.float64))))
            for ours, theirs in zip(wide, narrow, strict=True)
            if theirs.size and theirs.dtype.kind == "f"
        ),
        default=0.0,
    )
    return (
        "Its mixed-precision layers compute in float32; answers differ from the model's own arithmetic by up "
        f"to {apart:.2g}"
    )


def _in_float32(config: Any) -> Any:
    """A layer's configuration without mixed precision, that of layers inside it too."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return "float32" if _is_mixed(config.get("config", {}).get("name")) else config
        return {key: _in_float32(item) for key, item in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(_in_float32(item) for item in config)
    return "float32" if _is_mixed(config) else config


def _is_mixed(name: Any) -> bool:
    return isinstance(name, str) and name in ("mixed_float16", "mixed_bfloat16")
