"""The model: which share of a picture has which color. Put a network of yours in its place.

It is written down as an ONNX graph, so that the example needs neither a training nor a download: a convolution
compares each pixel with the colors that have a name, a softmax decides, and the mean over all pixels is the
answer.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["COLORS", "MEAN", "SIZE", "STD", "color_model"]

COLORS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "gray": (128, 128, 128),
    "red": (210, 30, 40),
    "orange": (245, 140, 20),
    "yellow": (250, 225, 50),
    "green": (40, 150, 60),
    "blue": (30, 80, 200),
    "purple": (130, 50, 160),
    "pink": (250, 150, 190),
    "brown": (115, 70, 35),
}
SIZE = 64
"""Pixels on each side of what the model takes."""

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
"""How networks trained on ImageNet want their pixels, as most that you will put here."""

_SHARPNESS = 12.0


def color_model() -> onnx.ModelProto:
    """Build the graph: float32 ``image`` of shape (N, 3, 64, 64) to ``shares`` of shape (N, 11)."""
    colors = (np.array(list(COLORS.values()), np.float32) / 255 - MEAN) / STD
    # -|pixel - color|^2 but for the |pixel|^2, which softmax does not see: all colors have it in common.
    weights = (2 * _SHARPNESS * colors)[:, :, None, None]
    bias = -_SHARPNESS * (colors**2).sum(axis=1)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weights", "bias"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["colors"], axis=1),
            helper.make_node("ReduceMean", ["colors"], ["shares"], axes=[2, 3], keepdims=0),
        ],
        "colors",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("shares", TensorProto.FLOAT, ["N", len(COLORS)])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model
