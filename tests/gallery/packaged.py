"""Real models, as other people trained and exported them: ONNX files out of packages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.gallery.entry import Entry, Made
from tests.packaged.files import ask_onnxruntime, packaged

SECTION = "Real models"

_LIGHT = (
    ("AlexNet", "light_bvlc_alexnet"),
    ("DenseNet-121", "light_densenet121"),
    ("Inception v1", "light_inception_v1"),
    ("Inception v2", "light_inception_v2"),
    ("ResNet-50", "light_resnet50"),
    ("ShuffleNet", "light_shufflenet"),
    ("SqueezeNet", "light_squeezenet"),
    ("VGG-19", "light_vgg19"),
    ("ZFNet-512", "light_zfnet512"),
)
"""Of the onnx package: well-known architectures; all weights of a layer are one number."""


def _made(path: str, rows: Callable[[np.random.Generator], Any]) -> Made:
    rng = np.random.default_rng(0)
    example, others = rows(rng), rows(rng)
    return Made(packaged(path), example, others, ask=ask_onnxruntime)


def _file_bytes(rng: np.random.Generator) -> np.ndarray:
    # 256 stands for "the file is shorter".
    return rng.integers(0, 257, (3, 2048)).astype(np.int32)


def _speech(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "input": rng.normal(0, 0.1, (3, 576)).astype(np.float32),
        "state": rng.normal(0, 0.1, (2, 3, 128)).astype(np.float32),
        "sr": np.array(16000, np.int64),
    }


def _images(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-1, 1, (2, 3, height, width)).astype(np.float32)


def _light(name: str) -> Made:
    import onnx

    path = Path(onnx.__file__).parent / "backend/test/data/light" / f"{name}.onnx"
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 1, (1, 3, 224, 224)).astype(np.float32)
    # These files list their weights as inputs too.
    return Made(str(path), image, image[:, :, ::-1].copy(), ask=ask_onnxruntime)


def _rapidocr(name: str, height: int, width: int) -> Made:
    return _made(f"rapidocr_onnxruntime/models/{name}.onnx", partial(_images, height, width))


ENTRIES = [
    Entry(
        SECTION,
        "Magika: 214 kinds of files",
        partial(_made, "magika/models/standard_v3_3/model.onnx", _file_bytes),
    ),
    Entry(
        SECTION,
        "Silero: speech or silence, with a state",
        partial(_made, "silero_vad/data/silero_vad.onnx", _speech),
    ),
    Entry(
        SECTION,
        "PP-OCRv4: where text is",
        partial(_rapidocr, "ch_PP-OCRv4_det_infer", 96, 160),
    ),
    Entry(
        SECTION,
        "PP-OCRv4: what it says",
        partial(_rapidocr, "ch_PP-OCRv4_rec_infer", 48, 192),
    ),
    Entry(
        SECTION,
        "PP-OCRv2: which way is up",
        partial(_rapidocr, "ch_ppocr_mobile_v2.0_cls_infer", 48, 192),
    ),
    *(Entry(SECTION, title, partial(_light, name), slow=True) for title, name in _LIGHT),
]
