"""What kind of file it is: a model over bytes, behind threads."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk import Execution
from tests.packaged.files import ask_onnxruntime, packaged

pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle")

FOLDER = "magika/models/standard_v3_3"
ROOT = Path(__file__).parents[2]
SAMPLES = {
    "python": (ROOT / "infersdk/types.py").read_bytes(),
    "toml": (ROOT / "pyproject.toml").read_bytes(),
    "markdown": (ROOT / "README.md").read_bytes(),
    "cpp": (ROOT / "csrc/src/coalescer.cpp").read_bytes(),
}


@pytest.fixture(scope="module")
def path() -> str:
    try:
        return packaged(f"{FOLDER}/model.onnx")
    except ModuleNotFoundError as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return json.loads(Path(packaged(f"{FOLDER}/config.min.json")).read_text())


def _row(content: bytes, config: dict[str, Any]) -> np.ndarray:
    """The beginning and the end of a file, stripped, filled up with a number that is no byte."""

    def fitted(part: bytes, size: int, *, at_end: bool) -> np.ndarray:
        numbers = np.frombuffer(part, np.uint8).astype(np.int32)
        fill = np.full(size - numbers.size, config["padding_token"], np.int32)
        return np.concatenate([fill, numbers] if at_end else [numbers, fill])

    block = content[: config["block_size"]].lstrip(), content[-config["block_size"] :].rstrip()
    beginning = fitted(block[0][: config["beg_size"]], config["beg_size"], at_end=False)
    end = fitted(block[1][-config["end_size"] :], config["end_size"], at_end=True)
    return np.concatenate([beginning, end])[None]


def test_our_own_files_are_told_apart(path: str, config: dict[str, Any]) -> None:
    rows = np.concatenate([_row(content, config) for content in SAMPLES.values()])
    with infersdk.load(path, execution=Execution(threads=1)) as predictor:
        scores = predictor.predict(rows)
    np.testing.assert_array_equal(scores, ask_onnxruntime(path, "predict", rows))
    labels = config["target_labels_space"]
    assert [labels[best] for best in scores.argmax(axis=1)] == list(SAMPLES)


def test_threads_get_their_own_answers(path: str, config: dict[str, Any]) -> None:
    rows = [_row(content, config) for content in SAMPLES.values()] * 4
    expected = [ask_onnxruntime(path, "predict", row) for row in rows[: len(SAMPLES)]] * 4
    with (
        infersdk.load(path, execution=Execution(threads=1)) as predictor,
        ThreadPoolExecutor(8) as pool,
    ):
        answers = list(pool.map(predictor.predict, rows))
    for ours, theirs in zip(answers, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
