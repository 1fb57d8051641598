"""When a run gives up the GIL: told to or measured to be long; and when it keeps it."""

from __future__ import annotations

import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

import infersdk
from infersdk import Execution, Predictor
from infersdk._native import Session
from tests.concurrency.models import counter, rows_of

pytestmark = pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="this interpreter has no GIL"
)

LONG = {"n": np.array(50_000), "x": np.zeros(1, np.float32)}  # tens of milliseconds


class Ticker:
    """A thread that counts whenever it gets the GIL, which it gives up again at once."""

    def __init__(self) -> None:
        self.count = 0
        self._stop = False
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        self._started.set()
        while not self._stop:
            self.count += 1
            time.sleep(0)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop = True
        self._thread.join()

    def during(self, function: Callable[[], Any]) -> int:
        before = self.count
        function()
        return self.count - before


@pytest.fixture
def ticker(no_forced_switch: None) -> Iterator[Ticker]:
    """No thread is made to give up the GIL, so whoever lets this one count has done so by itself."""
    with Ticker() as ticker:
        yield ticker


def load(folder: Path, name: str, **execution: Any) -> Predictor:
    return infersdk.load(folder / f"{name}.onnx", execution=Execution(threads=1, **execution))


def test_the_ticker_sees_what_it_should(ticker: Ticker) -> None:
    assert ticker.during(lambda: sum(range(200_000))) == 0
    assert ticker.during(lambda: time.sleep(0.05)) > 0


def test_a_run_gives_up_the_gil_when_told_to(model_folder: Path, ticker: Ticker) -> None:
    with load(model_folder, "counter", release_gil=True) as predictor:
        assert ticker.during(lambda: predictor.run(LONG)) > 0


def test_a_run_keeps_the_gil_when_told_to(model_folder: Path, ticker: Ticker) -> None:
    with load(model_folder, "counter", release_gil=False) as predictor:
        assert ticker.during(lambda: predictor.run(LONG)) == 0


def test_a_short_run_keeps_the_gil(model_folder: Path, ticker: Ticker) -> None:
    row = rows_of(1, seed=1)[0]
    with load(model_folder, "mlp") as predictor:

        def calls() -> None:
            for _ in range(200):
                predictor.predict(row)

        # A run that the system interrupts passes for a long one and makes some next ones let go; if
        # every run did, no round of so many would go by without a tick.
        assert min(ticker.during(calls) for _ in range(20)) == 0


def test_a_run_measured_to_be_long_gives_up_the_gil(model_folder: Path, ticker: Ticker) -> None:
    with load(model_folder, "counter", calibration_s=0) as predictor:
        for _ in range(2):  # unmeasured, then measured
            assert ticker.during(lambda: predictor.run(LONG)) > 0


def test_a_run_on_an_instance_gives_up_the_gil_too(model_folder: Path, ticker: Ticker) -> None:
    with load(model_folder, "counter", release_gil=True) as predictor:
        predictor.run({"n": np.array(1), "x": np.zeros(1, np.float32)})
        assert ticker.during(lambda: predictor.run(LONG)) > 0


@pytest.mark.usefixtures("ticker")
@pytest.mark.parametrize("release_gil", [True, False])
def test_calls_overlap_outside_of_the_gil_only(model_folder: Path, release_gil: bool) -> None:
    barrier = threading.Barrier(2)
    windows: dict[int, tuple[float, float]] = {}
    with load(model_folder, "counter", release_gil=release_gil) as predictor:

        def work(thread: int) -> None:
            barrier.wait()
            begin = time.perf_counter()
            predictor.run(LONG)
            windows[thread] = begin, time.perf_counter()

        threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    (begin_a, end_a), (begin_b, end_b) = windows[0], windows[1]
    assert (begin_a < end_b and begin_b < end_a) == release_gil


@pytest.mark.usefixtures("no_forced_switch")
def test_waiting_for_the_gil_is_no_part_of_what_a_run_costs() -> None:
    """Else one wait would make a short run pass for a long one, which gives up the GIL and waits."""
    session = Session(counter().SerializeToString(), release_gil=True)
    started = threading.Event()

    def work() -> None:
        started.set()
        session.run({"n": np.array(1000), "x": np.zeros(1, np.float32)})

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()  # until the run has given up the GIL
    waited_s = 0.5
    end = time.perf_counter() + waited_s
    while time.perf_counter() < end:
        pass
    thread.join()
    measured_s = session.expected_run_s(12)
    assert measured_s is not None
    assert 0 < measured_s < waited_s / 2
