"""Reading text in a picture: three networks and the NumPy between them, as an app would write it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk import Execution
from tests.packaged.files import packaged, runtime_session

pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle")
Image = pytest.importorskip("PIL.Image", reason="Pillow draws the picture")

FOLDER = "rapidocr_onnxruntime/models"
FILES = {
    "find": "ch_PP-OCRv4_det_infer",
    "turn": "ch_ppocr_mobile_v2.0_cls_infer",
    "read": "ch_PP-OCRv4_rec_infer",
}
LINES = ("Invoice 2026", "Total 41.50 EUR")
HEIGHT = 48
"""Pixels of a line as the two later networks take it."""

Ask = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def paths() -> dict[str, str]:
    try:
        return {name: packaged(f"{FOLDER}/{file}.onnx") for name, file in FILES.items()}
    except ModuleNotFoundError as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module")
def letters(paths: dict[str, str]) -> list[str]:
    import onnx

    model = onnx.load(paths["read"], load_external_data=False)
    known = {entry.key: entry.value for entry in model.metadata_props}["character"]
    # The first output of each step says "no letter"; the last is a space.
    return ["", *known.splitlines(), " "]


@pytest.fixture(scope="module")
def ours(paths: dict[str, str]) -> Any:
    opened = {
        name: infersdk.load(path, execution=Execution(threads=1)) for name, path in paths.items()
    }
    yield {name: predictor.predict for name, predictor in opened.items()}
    for predictor in opened.values():
        predictor.close()


@pytest.fixture(scope="module")
def theirs(paths: dict[str, str]) -> dict[str, Ask]:
    def asked(path: str) -> Ask:
        session = runtime_session(path)
        return lambda image: session.run(None, {"x": image})[0]

    return {name: asked(path) for name, path in paths.items()}


def _picture(lines: tuple[str, ...] = LINES, *, size: tuple[int, int] = (480, 192)) -> np.ndarray:
    from PIL import ImageDraw, ImageFont

    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=36)
    for index, line in enumerate(lines):
        draw.text((24, 24 + 80 * index), line, fill="black", font=font)
    return np.asarray(picture)


def _network_input(pixels: np.ndarray) -> np.ndarray:
    scaled = (pixels.astype(np.float32) / 255 - 0.5) / 0.5
    return np.ascontiguousarray(scaled.transpose(2, 0, 1)[None])


def _boxes(text: np.ndarray) -> list[tuple[slice, slice]]:
    """Lines of text, from top to bottom: runs of rows that hold some, with a margin."""
    found = []
    rows = np.concatenate([[False], (text > 0.3).any(axis=1), [False]])
    edges = np.flatnonzero(np.diff(rows.astype(np.int8)))
    for top, bottom in zip(edges[::2], edges[1::2], strict=True):
        columns = np.flatnonzero((text[top:bottom] > 0.3).any(axis=0))
        margin = (bottom - top) // 2
        found.append(
            (
                slice(max(top - margin, 0), bottom + margin),
                slice(max(columns[0] - margin, 0), columns[-1] + margin),
            )
        )
    return found


def _line(pixels: np.ndarray) -> np.ndarray:
    width = max(round(pixels.shape[1] * HEIGHT / pixels.shape[0]), HEIGHT)
    return np.asarray(Image.fromarray(pixels).resize((width, HEIGHT)))


def _upright(line: np.ndarray, turned: np.ndarray) -> np.ndarray:
    return line[::-1, ::-1] if turned[0, 1] > 0.9 else line


def _spelled(steps: np.ndarray, letters: list[str]) -> str:
    best = steps.argmax(axis=-1)
    kept = best[np.concatenate([[True], best[1:] != best[:-1]])]
    return "".join(letters[index] for index in kept)


def _read(ask: dict[str, Ask], picture: np.ndarray, letters: list[str]) -> list[str]:
    texts = []
    for box in _boxes(ask["find"](_network_input(picture))[0, 0]):
        line = _line(np.ascontiguousarray(picture[box]))
        turned = ask["turn"](
            _network_input(np.asarray(Image.fromarray(line).resize((192, HEIGHT))))
        )
        line = _upright(line, turned)
        texts.append(_spelled(ask["read"](_network_input(line))[0], letters))
    return texts


def test_the_chain_reads_what_was_drawn(ours: Any, theirs: Any, letters: list[str]) -> None:
    picture = _picture()
    texts = _read(ours, picture, letters)
    assert texts == _read(theirs, picture, letters)
    assert [text.replace(" ", "") for text in texts] == [line.replace(" ", "") for line in LINES]


@pytest.mark.parametrize("size", [(480, 192), (320, 96), (352, 256)])
def test_pictures_of_any_size_answer_as_in_onnxruntime(
    ours: Any, theirs: Any, size: tuple[int, int]
) -> None:
    image = _network_input(_picture(size=size))
    np.testing.assert_array_equal(ours["find"](image), theirs["find"](image))


def test_lines_of_several_widths_at_once(ours: Any, theirs: Any, letters: list[str]) -> None:
    picture = _picture()
    full = [_line(picture[:96, : 96 + 32 * step]) for step in range(8)]
    lines = [_network_input(line) for line in full]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ours["read"], lines))
    for answer, line in zip(answers, lines, strict=True):
        np.testing.assert_allclose(answer, theirs["read"](line), rtol=1e-4, atol=1e-6)
        assert answer.shape[2] == len(letters)


def test_a_batch_is_turned_as_its_rows_are(ours: Any) -> None:
    picture = np.asarray(Image.fromarray(_picture()[:96]).resize((192, HEIGHT)))
    rows = np.concatenate([_network_input(picture), _network_input(picture[::-1, ::-1])])
    turned = ours["turn"](rows)
    assert turned.argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(turned[1:], ours["turn"](rows[1:]), rtol=1e-4, atol=1e-5)
