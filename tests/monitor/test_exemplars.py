"""Traces that are kept for the buckets: the last of each range, and no more than a bounded number."""

from __future__ import annotations

import threading

import pytest

from infersdk.monitor import Exemplars


def test_the_last_of_each_range_is_kept() -> None:
    exemplars = Exemplars()
    for seconds, trace_id in [(0.0100, "a"), (0.0101, "b"), (3.0, "c"), (0.0, "d"), (1e9, "e")]:
        exemplars.record("iris", "predict", seconds, trace_id * 32)
    kept = exemplars.of("iris", "predict")
    assert [(one.seconds, one.trace_id[0]) for one in kept] == [
        (0.0, "d"),
        (0.0100, "a"),
        (0.0101, "b"),
        (3.0, "c"),
        (1e9, "e"),
    ]
    exemplars.record("iris", "predict", 3.1, "f" * 32)
    assert [one.trace_id[0] for one in exemplars.of("iris", "predict")] == list("dabfe")


def test_methods_are_kept_apart() -> None:
    exemplars = Exemplars()
    exemplars.record("iris", "predict", 0.1, "a" * 32)
    assert exemplars.of("iris", "predict_proba") == []
    assert exemplars.of("other", "predict") == []


def test_memory_is_bounded() -> None:
    exemplars = Exemplars()
    for model in range(1_200):
        exemplars.record(str(model), "predict", 0.1, "a" * 32)
    assert sum(bool(exemplars.of(str(model), "predict")) for model in range(1_200)) == 1_000
    for step in range(10_000):
        exemplars.record("0", "predict", step / 100, "a" * 32)
    assert len(exemplars.of("0", "predict")) <= 26


def test_a_trace_id_that_no_exemplar_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="got 101 characters"):
        Exemplars().record("iris", "predict", 0.1, "a" * 101)


def test_threads_may_record_and_read_together() -> None:
    exemplars = Exemplars()
    start = threading.Barrier(5)
    failed: list[BaseException] = []

    def record(thread: int) -> None:
        start.wait()
        for step in range(2_000):
            exemplars.record(f"{thread}-{step % 50}", "predict", step / 1e3, f"{thread:032x}")

    def read() -> None:
        start.wait()
        try:
            for step in range(2_000):
                for thread in range(4):
                    for one in exemplars.of(f"{thread}-{step % 50}", "predict"):
                        assert one.trace_id == f"{thread:032x}"
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=record, args=(thread,)) for thread in range(4)]
    threads.append(threading.Thread(target=read))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    # Steps s, s + 50, ... of one name take 0 to 2 s, the last of which is 1.95 s.
    assert [round(one.seconds, 2) for one in exemplars.of("3-0", "predict")][-1] == 1.95
