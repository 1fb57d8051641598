"""One Predictor, many threads: every answer is the single thread's, bit for bit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk import InputError, Predictor
from tests.concurrency.models import COLUMNS, rows_of

N_THREADS = 16


def in_threads(n_threads: int, body: Callable[[int], Any]) -> list[Any]:
    """Start `body(0)`, `body(1)`, ... at the same moment; an exception in one is raised here."""
    barrier = threading.Barrier(n_threads)

    def start(thread: int) -> Any:
        barrier.wait()
        return body(thread)

    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(start, range(n_threads)))


def requests() -> list[Any]:
    """What an app may pass: single dicts, lists of one, two and seven, and arrays."""
    singles: list[Any] = rows_of(40, seed=3)
    lists = [rows_of(n, seed=4 + n) for n in (1, 2, 7)]
    arrays = [
        np.array([[row[name] for name in COLUMNS] for row in rows_of(n, seed=20 + n)])
        for n in (1, 3)
    ]
    return [*singles, *lists, *arrays]


def wrong_answers(
    predictor: Predictor, given: Sequence[Any], expected: Sequence[np.ndarray], n_calls: int
) -> list[int]:
    """Indices of the requests that some thread got another answer to."""
    predict = predictor.predict
    want = [(answer.tobytes(), answer.shape, answer.dtype) for answer in expected]

    def work(thread: int) -> list[int]:
        wrong = []
        for call in range(n_calls // N_THREADS):
            i = (call * 7 + thread * 5) % len(given)
            answer = predict(given[i])
            if (answer.tobytes(), answer.shape, answer.dtype) != want[i]:
                wrong.append(i)
        return wrong

    return [i for wrong in in_threads(N_THREADS, work) for i in wrong]


def test_100_000_calls_answer_as_one_thread_does(predictor: Predictor) -> None:
    given = requests()
    expected = [predictor.predict(rows).copy() for rows in given]
    assert len({answer.tobytes() for answer in expected}) == len(given)
    assert wrong_answers(predictor, given, expected, 100_000) == []


@pytest.mark.usefixtures("tiny_switch_interval")
def test_answers_hold_when_threads_change_places_all_the_time(predictor: Predictor) -> None:
    given = requests()
    expected = [predictor.predict(rows).copy() for rows in given]
    assert wrong_answers(predictor, given, expected, 16_000) == []


@pytest.mark.usefixtures("tiny_switch_interval")
@pytest.mark.parametrize("release_gil", [True, False])
def test_answers_hold_whatever_the_gil_does(model_folder: Path, release_gil: bool) -> None:
    execution = infersdk.Execution(release_gil=release_gil, threads=2)
    with infersdk.load(model_folder / "mlp.onnx", execution=execution) as predictor:
        given = requests()
        expected = [predictor.predict(rows).copy() for rows in given]
        assert wrong_answers(predictor, given, expected, 8_000) == []


def test_an_answer_is_the_callers_own(predictor: Predictor) -> None:
    """A caller may write into an answer or keep it; no later call changes it or sees the change."""
    row = rows_of(1, seed=9)[0]
    expected = predictor.predict(row).copy()

    def work(thread: int) -> None:
        kept = []
        for _ in range(200):
            answer = predictor.predict(row)
            assert answer.tobytes() == expected.tobytes()
            answer[...] = thread
            kept.append(answer)
        assert all((answer == thread).all() for answer in kept)

    in_threads(8, work)


def test_a_bad_row_fails_alone(predictor: Predictor) -> None:
    good = rows_of(1, seed=11)[0]
    bad = {**good, "balance": "much"}
    expected = predictor.predict(good).tobytes()

    def work(thread: int) -> int:
        refused = 0
        for call in range(300):
            if (call + thread) % 3 == 0:
                with pytest.raises(InputError, match="`balance`"):
                    predictor.predict(bad)
                refused += 1
            else:
                assert predictor.predict(good).tobytes() == expected
        return refused

    assert in_threads(8, work) == [100] * 8


def test_a_failing_run_fails_alone(model_folder: Path) -> None:
    with infersdk.load(model_folder / "lookup.onnx") as predictor:

        def work(thread: int) -> None:
            for call in range(200):
                index = (call + thread) % 4
                rows = np.array([index, 0])
                if index == 3:
                    with pytest.raises(InputError, match="model `lookup`"):
                        predictor.predict(rows)
                else:
                    assert predictor.predict(rows).tolist() == [10.0 * (index + 1), 10.0]

        in_threads(8, work)


def test_threads_may_load_at_once(model_folder: Path) -> None:
    row = rows_of(1, seed=12)[0]

    def work(thread: int) -> list[bytes]:
        name = ("mlp", "tree_ensemble")[thread % 2]
        with infersdk.load(model_folder / f"{name}.onnx") as predictor:
            return [predictor.predict(row).tobytes() for _ in range(5)]

    answers = in_threads(8, work)
    for kind in (0, 1):
        assert len({answer for each in answers[kind::2] for answer in each}) == 1
