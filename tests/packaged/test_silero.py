"""Speech detection with a state: many listeners through one Predictor, each with its own."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk import Execution
from infersdk.runtime.stream import Stream
from tests.packaged.files import packaged, runtime_session

pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle")

RATE = np.array(16000, np.int64)
WINDOW, CONTEXT = 512, 64
N_WINDOWS = 20


@pytest.fixture(scope="module")
def path() -> str:
    try:
        return packaged("silero_vad/data/silero_vad.onnx")
    except ModuleNotFoundError as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="module")
def predictor(path: str) -> Any:
    with infersdk.load(path, execution=Execution(threads=1)) as predictor:
        yield predictor


def _windows(seed: int) -> list[np.ndarray]:
    """Sound with pauses; each window starts with the end of the one before, as the model wants it."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(N_WINDOWS * WINDOW) / 16000
    pitch_hz = rng.uniform(90, 220)
    voice = sum(np.sin(2 * np.pi * pitch_hz * k * time_s) / k for k in range(1, 12))
    loudness = (np.sin(2 * np.pi * rng.uniform(2, 5) * time_s) > 0) * rng.uniform(0.05, 0.3)
    sound = (voice * loudness + rng.normal(0, 0.003, time_s.size)).astype(np.float32)
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), sound])
    return [
        padded[None, start : start + CONTEXT + WINDOW] for start in range(0, sound.size, WINDOW)
    ]


def _alone(path: str, windows: list[np.ndarray]) -> np.ndarray:
    session = runtime_session(path)
    state = np.zeros((2, 1, 128), np.float32)
    answers = []
    for window in windows:
        speech, state = session.run(
            ["output", "stateN"], {"input": window, "state": state, "sr": RATE}
        )
        answers.append(speech)
    return np.concatenate(answers)


def _listen(predictor: Any) -> Stream:
    return predictor.stream({"state": "stateN"}, fixed={"sr": RATE})


def test_one_listener_hears_what_onnxruntime_hears(predictor: Any, path: str) -> None:
    windows = _windows(0)
    stream = _listen(predictor)
    ours = np.concatenate([stream(window) for window in windows])
    np.testing.assert_array_equal(ours, _alone(path, windows))
    # The state matters: without it the answers are others.
    fresh = np.concatenate([_listen(predictor)(window) for window in windows])
    assert np.abs(fresh - ours).max() > 1e-3


def test_many_listeners_in_threads(predictor: Any, path: str) -> None:
    signals = [_windows(seed) for seed in range(1, 9)]

    def follow(windows: list[np.ndarray]) -> np.ndarray:
        stream = _listen(predictor)
        return np.concatenate([stream(window) for window in windows])

    with ThreadPoolExecutor(len(signals)) as pool:
        heard = list(pool.map(follow, signals))
    for ours, windows in zip(heard, signals, strict=True):
        np.testing.assert_array_equal(ours, _alone(path, windows))


def test_many_listeners_in_tasks(predictor: Any, path: str) -> None:
    signals = [_windows(seed) for seed in range(9, 15)]

    async def follow(windows: list[np.ndarray]) -> np.ndarray:
        stream = _listen(predictor)
        return np.concatenate([await stream.acall(window) for window in windows])

    async def all_of_them() -> list[np.ndarray]:
        return await asyncio.gather(*map(follow, signals))

    for ours, windows in zip(asyncio.run(all_of_them()), signals, strict=True):
        np.testing.assert_array_equal(ours, _alone(path, windows))


def test_listeners_may_share_a_call(predictor: Any, path: str) -> None:
    """The state has a row for each: one stream of three listeners answers as three streams do."""
    signals = [_windows(seed) for seed in range(3)]
    together = predictor.stream(
        {"state": "stateN"},
        fixed={"sr": RATE},
        initial={"state": np.zeros((2, 3, 128), np.float32)},
    )
    ours = np.stack(
        [together(np.concatenate(windows)) for windows in zip(*signals, strict=True)], axis=1
    )
    for heard, windows in zip(ours, signals, strict=True):
        np.testing.assert_allclose(heard, _alone(path, windows), rtol=1e-4, atol=1e-5)
