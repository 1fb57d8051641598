"""The picture form: what it answers to people and programs, and what it refuses."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("flask", reason="the example is a Flask app")
Image = pytest.importorskip("PIL.Image", reason="it decodes pictures with Pillow")

from examples.image_form.app import MAX_UPLOAD_BYTES, create_app  # noqa: E402
from examples.image_form.model import COLORS, MEAN, STD, color_model  # noqa: E402
from examples.image_form.pictures import NotAPictureError, PictureError, array_of  # noqa: E402

ROOT = Path(__file__).parents[2]
JSON = {"Accept": "application/json"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def _file(picture: Any, kind: str = "PNG", **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    file.seek(0)
    return file


@pytest.fixture
def halves() -> Any:
    """Two thirds red, one third blue."""
    picture = Image.new("RGB", (300, 200), COLORS["red"])
    picture.paste(COLORS["blue"], (200, 0, 300, 200))
    return picture


@pytest.fixture(scope="module")
def client() -> Any:
    return create_app().test_client()


def _post(client: Any, file: Any, *, name: str = "a.png", headers: Any = JSON) -> Any:
    return client.post("/", data={"picture": (file, name)}, headers=headers)


def test_the_model_is_the_softmax_of_distances_to_the_colors() -> None:
    """onnx's own reference implementation against the formula, pixel by pixel."""
    from onnx.reference import ReferenceEvaluator

    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 3, 64, 64)).astype(np.float32)
    (shares,) = ReferenceEvaluator(color_model()).run(None, {"image": image})
    colors = (np.array(list(COLORS.values())) / 255 - MEAN) / STD
    distances = ((image[:, None] - colors[None, :, :, None, None]) ** 2).sum(axis=2)
    scores = np.exp(-12 * (distances - distances.min(axis=1, keepdims=True)))
    expected = (scores / scores.sum(axis=1, keepdims=True)).mean(axis=(2, 3))
    np.testing.assert_allclose(shares, expected, atol=1e-4)


def test_the_array_is_normalized_upright_and_of_the_networks_size() -> None:
    array = array_of(_file(Image.new("RGB", (10, 500), (255, 0, 128))))
    assert array.shape == (1, 3, 64, 64)
    assert array.dtype == np.float32
    expected = (np.array([255, 0, 128]) / 255 - MEAN) / STD
    np.testing.assert_allclose(array[0, :, 5, 5], expected, rtol=1e-5)

    picture = Image.new("RGB", (64, 64), "black")
    picture.paste("white", (0, 0, 64, 32))  # above
    exif = Image.Exif()
    exif[0x0112] = 3  # the camera was held upside down
    turned = array_of(_file(picture, "JPEG", exif=exif))
    assert turned[0, 0, 60, 30] > turned[0, 0, 4, 30]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("JPEG", "CMYK"),
        ("PNG", "RGBA"),
        ("PNG", "P"),
        ("PNG", "1"),
        ("WEBP", "RGB"),
        ("GIF", "P"),
    ],
)
def test_every_format_and_mode_is_taken(kind: str, mode: str, halves: Any) -> None:
    array = array_of(_file(halves.convert(mode), kind))
    assert array.shape == (1, 3, 64, 64)
    assert np.isfinite(array).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
def test_damaged_files_are_refused_or_read_and_nothing_else(kind: str, halves: Any) -> None:
    whole = _file(halves, kind).getvalue()
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        for place in rng.integers(0, len(damaged), 4):
            damaged[place] = rng.integers(256)
        try:
            array = array_of(io.BytesIO(bytes(damaged)))
        except (NotAPictureError, PictureError):
            continue
        assert array.shape == (1, 3, 64, 64)


def test_programs_get_json(client: Any, halves: Any) -> None:
    answer = _post(client, _file(halves))
    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    top = answer.json["top"]
    assert [one["color"] for one in top[:2]] == ["red", "blue"]
    assert top[0]["share"] == pytest.approx(2 / 3, abs=0.02)
    assert len(top) == 3


def test_people_get_a_page(client: Any, halves: Any) -> None:
    form = client.get("/", headers=BROWSER)
    assert form.status_code == 200
    fields = _tags(form.text, "input")
    assert [(field["type"], field["name"]) for field in fields] == [("file", "picture")]
    assert _tags(form.text, "form")[0]["enctype"] == "multipart/form-data"

    answer = _post(client, _file(halves), name="<b>.png", headers=BROWSER)
    assert answer.mimetype == "text/html"
    assert len(_tags(answer.text, "meter")) == 3
    assert "red" in answer.text
    assert "<b>" not in answer.text


@pytest.mark.parametrize(
    ("file", "status", "message"),
    [
        (b"%PDF-1.7 not a picture", 415, "Expected a picture"),
        (b"", 415, "Expected a picture"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415, "Expected a picture"),
        (b"x" * (MAX_UPLOAD_BYTES + 1), 413, "exceeds"),
    ],
)
@pytest.mark.parametrize("headers", [JSON, BROWSER])
def test_what_is_no_picture_or_too_large_is_refused(
    client: Any, file: bytes, status: int, message: str, headers: dict[str, str]
) -> None:
    answer = _post(client, io.BytesIO(file), name="a.png", headers=headers)
    assert answer.status_code == status
    assert message in answer.text
    if headers is JSON:
        assert answer.content_type == "application/problem+json"
        assert answer.json["status"] == status


def test_a_truncated_picture_is_refused(client: Any, halves: Any) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    whole = _file(Image.fromarray(noise)).getvalue()
    answer = _post(client, io.BytesIO(whole[: len(whole) // 2]))
    assert answer.status_code == 422
    assert "damaged" in answer.json["detail"]


@pytest.mark.parametrize("side", [7_100, 14_000])
def test_a_small_file_of_very_many_pixels_is_refused(client: Any, side: int) -> None:
    answer = _post(client, _file(Image.new("1", (side, side))))
    assert answer.status_code == 422
    assert "at most 50,000,000 pixels" in answer.json["detail"]


def test_a_missing_file_is_refused(client: Any) -> None:
    answer = client.post("/", data={"picture": "no file"}, headers=JSON)
    assert answer.status_code == 422
    assert "picture" in answer.json["detail"]
    assert client.get("/nothing", headers=JSON).json["status"] == 404


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The app under gunicorn, by the command that its module names."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "gunicorn", "--workers", "2"),
                *("--bind", f"fd://{listener.fileno()}", "--log-level", "warning"),
                *("--no-control-socket", "examples.image_form.app:create_app()"),
            ],
            cwd=ROOT,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
    try:
        yield f"http://127.0.0.1:{port}/"  # the socket listens: requests wait until there is a worker
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.mark.slow
def test_under_gunicorn_many_clients_get_the_answer_of_their_own_picture(url: str) -> None:
    names = [name for name in COLORS for _ in range(6)]

    def ask(name: str) -> str:
        picture = _file(Image.new("RGB", (90, 90), COLORS[name]))
        answer = httpx.post(url, files={"picture": ("a.png", picture)}, headers=JSON, timeout=60)
        assert answer.status_code == 200, answer.text
        color: str = answer.json()["top"][0]["color"]
        return color

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, names)) == names


@pytest.mark.slow
def test_the_curl_line_of_the_readme(url: str, tmp_path: Path, halves: Any) -> None:
    """Also with a file that is too large: curl reads the refusal that comes before its last byte is sent."""
    halves.save(tmp_path / "photo.jpg")
    (tmp_path / "large.jpg").write_bytes(b"x" * (MAX_UPLOAD_BYTES + 1))
    answers = [
        subprocess.run(
            ["curl", "-sS", "-F", f"picture=@{name}", "-H", "Accept: application/json", url],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        ).stdout
        for name in ("photo.jpg", "large.jpg")
    ]
    assert json.loads(answers[0])["top"][0]["color"] == "red"
    assert json.loads(answers[1])["status"] == 413


def _tags(page: str, name: str) -> list[dict[str, str | None]]:
    found = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag == name:
                found.append(dict(attrs))

    Parser().feed(page)
    return found
