"""What is counted of calls and runs: every call once, whichever way it takes, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infersdk import (
    Batching,
    ClosedError,
    DeadlineError,
    Execution,
    InputError,
    OverloadedError,
    Predictor,
    SessionError,
)
from infersdk._native import (
    CallTimes,
    MethodMeter,
    ModelMeter,
    Session,
    advance_clock,
    clock_ns,
    hold_clock,
    release_clock,
    row_bounds,
    set_call_observer,
    set_metering,
)
from infersdk.convert.conversion import Conversion
from infersdk.monitor import Histogram, MethodMetrics, ModelMetrics
from infersdk.testing import FakePredictor

WAIT_S = 30
ROW = {"age": 40.0, "income": 2.0}
WRONG = {"age": "forty", "income": 2.0}
FAST = Execution(calibration_s=0.05)


@pytest.fixture
def predictor(onnx_conversion: Conversion) -> Iterator[Predictor]:
    """Nothing is ever queued."""
    batching = Batching(enabled=False)
    with Predictor(onnx_conversion, execution=FAST, batching=batching) as made:
        yield made


@pytest.fixture
def queueing(onnx_conversion: Conversion) -> Iterator[Predictor]:
    """Every call goes through the queue, unless it finds the model idle."""
    batching = Batching(enabled=True, max_batch_size=16)
    with Predictor(onnx_conversion, execution=FAST, batching=batching) as made:
        assert made.calibration.mergeable
        yield made


@pytest.fixture
def observed() -> Iterator[list[tuple[str, str, CallTimes]]]:
    seen: list[tuple[str, str, CallTimes]] = []
    set_call_observer(lambda *told: seen.append(told))
    yield seen
    set_call_observer(None)


def method(metrics: ModelMetrics, name: str = "predict") -> MethodMetrics:
    (found,) = [one for one in metrics.methods if one.method == name]
    assert found.calls == found.call_s.count + sum(found.errors.values())
    return found


def only_value(histogram: Histogram, value: float, n: int = 1) -> bool:
    """Whether it holds that value, `n` times, and nothing else."""
    bucket = int(np.searchsorted(histogram.bounds, value, side="left"))
    return (
        histogram.count == n
        and histogram.counts[bucket] == n
        and histogram.sum == pytest.approx(n * value)
    )


# -- the numbers ---------------------------------------------------------------------------------


@given(st.integers(0, 2**41))
def test_a_time_is_in_the_bucket_whose_bounds_hold_it(ns: int) -> None:
    meter = MethodMeter(ModelMeter("m"), "predict")
    hold_clock()
    try:
        call = meter.begin()
        call.n_rows = 3
        advance_clock(ns)
        call.answered()
    finally:
        release_clock()
    rows, errors, counts, sum_s = meter.read()
    assert (rows, errors, counts.sum()) == (3, {}, 1)
    assert sum_s == pytest.approx(ns * 1e-9)
    bounds_ns = np.array([0, *np.round(_time_bounds() * 1e9).astype(int)])
    assert len(counts) == len(bounds_ns)
    bucket = int(np.argmax(counts))
    if bucket == len(bounds_ns) - 1:
        assert ns > bounds_ns[-1] >= 120e9
        return
    low, high = bounds_ns[bucket], bounds_ns[bucket + 1]
    assert ns == low == 0 or low < ns <= high
    assert high - low <= max(low / 4, 256)


def _time_bounds() -> np.ndarray:
    from infersdk._native import time_bounds_s

    return time_bounds_s()


@given(st.integers(0, 2**21))
def test_rows_are_in_the_bucket_whose_bounds_hold_them(n_rows: int) -> None:
    model = ModelMeter("m")
    MethodMeter(model, "predict").begin().run(lambda method, rows: rows, "predict", 0, n_rows)
    counts, total = model.read()["run_rows"]
    bounds = [0.0, *row_bounds()]
    bucket = int(np.argmax(counts))
    assert (counts.sum(), total) == (1, n_rows)
    if bucket == len(bounds) - 1:
        assert n_rows > bounds[-1]
    else:
        assert n_rows == 0 or bounds[bucket] < n_rows <= bounds[bucket + 1]
        assert n_rows > 8 or bounds[bucket + 1] == max(n_rows, 1)


def test_bounds_ascend_and_are_shared_and_read_only(predictor: Predictor) -> None:
    metrics = predictor.metrics()
    for histogram in (metrics.queue_s, metrics.batch_s, metrics.run_s, metrics.run_rows):
        assert (np.diff(histogram.bounds) > 0).all()
        assert len(histogram.counts) == len(histogram.bounds) + 1
        assert not histogram.bounds.flags.writeable
    assert metrics.run_s.bounds is metrics.queue_s.bounds


# -- calls in threads ----------------------------------------------------------------------------


def test_every_way_counts_once(predictor: Predictor) -> None:
    assert [one.method for one in predictor.metrics().methods] == [
        "predict",
        "predict_proba",
        "decision_function",
        "run",
    ]
    predictor.predict([ROW] * 3)
    predictor(ROW)
    predictor.predict_proba([ROW] * 2)
    predictor.decision_function(ROW)  # a head of its own, opened now
    predictor.run({"numbers": np.zeros((5, 2), np.float32)})
    predictor.run({"numbers": np.zeros((5, 2), np.float32)}, ["scores"])
    predictor.run({"numbers": [[1.0, 2.0]]})  # put right first
    predictor.run_on_device({"numbers": np.zeros((2, 2), np.float32)})
    metrics = predictor.metrics()
    assert (metrics.model, metrics.version) == ("linear", "1")
    assert {one.method: (one.calls, one.rows) for one in metrics.methods} == {
        "predict": (2, 4),
        "predict_proba": (1, 2),
        "decision_function": (1, 1),
        "run": (3, 11),
        "run_on_device": (1, 2),
    }
    assert all(not one.errors for one in metrics.methods)
    assert metrics.run_s.count == metrics.run_rows.count == 8
    assert metrics.run_rows.sum == 20
    assert 0 < metrics.run_s.sum < sum(one.call_s.sum for one in metrics.methods)
    assert metrics.queue_s.count == metrics.batch_s.count == 0  # all ran at once
    assert (metrics.queued_rows, metrics.running) == (0, 0)


def test_measurements_and_warm_up_are_not_counted(
    onnx_conversion: Conversion, native_conversion: Conversion
) -> None:
    for conversion in (onnx_conversion, native_conversion):
        with Predictor(conversion, example=[ROW] * 8, execution=FAST) as predictor:
            predictor.warm_up()
            predictor.warm_up([ROW] * 4)
            metrics = predictor.metrics()
            assert sum(one.calls for one in metrics.methods) == 0
            assert metrics.run_s.count == metrics.run_rows.count == 0


@pytest.mark.parametrize("plan", ["onnx", "native"])
def test_errors_are_counted_by_their_class(
    plan: str, onnx_conversion: Conversion, native_conversion: Conversion
) -> None:
    predictor = Predictor(onnx_conversion if plan == "onnx" else native_conversion)
    for _ in range(2):
        with pytest.raises(InputError):
            predictor.predict(WRONG)
    with pytest.raises(InputError, match="no argument"):
        predictor()
    with pytest.raises(InputError, match="both"):
        predictor(ROW, age=1.0)
    with pytest.raises(DeadlineError):
        predictor.predict(ROW, timeout_s=-1) if plan == "onnx" else _expire(predictor)
    with pytest.raises((InputError, SessionError)):
        predictor.run({"other": 1})
    predictor.close()
    with pytest.raises(ClosedError):
        predictor.predict(ROW)
    with pytest.raises(ClosedError):
        predictor.run({"numbers": np.zeros((1, 2), np.float32)})
    metrics = predictor.metrics()  # also of one that is closed
    found = method(metrics)
    assert found.errors == {"InputError": 4, "DeadlineError": 1, "ClosedError": 1}
    assert (found.calls, found.rows, found.call_s.count) == (6, 0, 0)
    run = "InputError" if plan == "onnx" else "SessionError"
    assert method(metrics, "run").errors == {run: 1, "ClosedError": 1}
    assert metrics.run_s.count == 0


def _expire(predictor: Predictor) -> None:
    asyncio.run(predictor.apredict(ROW, timeout_s=-1))


def test_threads_that_call_together_lose_no_count(
    predictor: Predictor, queueing: Predictor
) -> None:
    n_threads, n_calls = 32, 60
    kinds: list[Callable[[Predictor], Any]] = [
        lambda p: p.predict(ROW),
        lambda p: p.predict_proba([ROW] * 3),
        lambda p: p.decision_function([ROW] * 2),
        lambda p: p.run({"numbers": np.zeros((2, 2), np.float32)}),
        lambda p: p.predict(WRONG),
        lambda p: p.run({"nothing": 1}),
    ]
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            for one in predictor.metrics().methods:
                assert one.calls == one.call_s.count + sum(one.errors.values())

    def call(start: int) -> None:
        for i in range(start, start + n_calls):
            for target in (predictor, queueing):
                try:
                    kinds[i % len(kinds)](target)
                except InputError:
                    assert i % len(kinds) >= 4

    with ThreadPoolExecutor(n_threads + 1) as pool:
        reader = pool.submit(read)
        for done in [pool.submit(call, i) for i in range(n_threads)]:
            done.result()
        over.set()
        reader.result()
    times = [0] * len(kinds)
    for start in range(n_threads):
        for i in range(start, start + n_calls):
            times[i % len(kinds)] += 1
    for target in (predictor, queueing):
        metrics = target.metrics()
        for name, good, n_rows, bad in (
            ("predict", 0, 1, 4),
            ("predict_proba", 1, 3, None),
            ("decision_function", 2, 2, None),
            ("run", 3, 2, 5),
        ):
            found = method(metrics, name)
            assert found.errors == ({} if bad is None else {"InputError": times[bad]})
            assert found.calls == times[good] + (0 if bad is None else times[bad])
            assert found.rows == times[good] * n_rows
        # Every row was run once, however runs were made.
        answered = sum(one.rows for one in metrics.methods)
        assert metrics.run_rows.sum == answered
        assert metrics.run_s.count == metrics.run_rows.count
    stats, metrics = queueing.queue_stats(), queueing.metrics()
    assert metrics.batch_s.count == stats["batches"] > 0
    # A queued call waits once; a batch holds at least one of them.
    assert stats["batches"] <= metrics.queue_s.count <= stats["batched_rows"]
    assert predictor.metrics().queue_s.count == predictor.metrics().batch_s.count == 0


# -- the queue -----------------------------------------------------------------------------------


def test_queued_calls_have_the_times_of_the_clock(
    fake_predictor: Any, infersdk_clock: Any, observed: list[tuple[str, str, CallTimes]]
) -> None:
    fake: FakePredictor = fake_predictor(latency_s=0.25)
    infersdk_clock.automatic = True
    with ThreadPoolExecutor(2) as pool:
        with fake.busy():
            first = pool.submit(fake.predict, [[1.0], [2.0]])
            fake.wait_for_queued(2)
            infersdk_clock.advance(1)
            second = pool.submit(fake.predict, [[3.0]])
            fake.wait_for_queued(3)
            infersdk_clock.advance(0.5)
            now = fake.metrics()
            assert (now.queued_rows, now.running) == (3, 1)
        first.result(WAIT_S), second.result(WAIT_S)
    metrics = fake.metrics()
    assert len(fake.runs) == 1
    found = method(metrics)
    assert (found.calls, found.rows, found.errors) == (2, 3, {})
    assert found.call_s.sum == pytest.approx(1.75 + 0.75)
    assert metrics.queue_s.count == 2
    assert metrics.queue_s.sum == pytest.approx(1.5 + 0.5)
    assert only_value(metrics.batch_s, 0.25)
    assert only_value(metrics.run_s, 0.25)
    assert only_value(metrics.run_rows, 3)
    assert (metrics.queued_rows, metrics.running) == (0, 0)
    for _, _, times in observed:
        assert times.started_ns == times.queued_ns
        assert times.batch_started_ns == times.run_started_ns
        assert times.run_ended_ns - times.run_started_ns == pytest.approx(0.25e9)
        assert times.batch_ended_ns == times.run_ended_ns == times.ended_ns
        assert times.run_rows == 3
        assert times.error is None
    assert sorted(times.n_rows for _, _, times in observed) == [1, 2]


def test_what_expires_or_is_refused_in_the_queue(fake_predictor: Any, infersdk_clock: Any) -> None:
    fake: FakePredictor = fake_predictor(batching=Batching(max_queue_size=1))
    with ThreadPoolExecutor(1) as pool, fake.busy():
        late = pool.submit(fake.predict, [[1.0]], 2.0)
        fake.wait_for_queued(1)
        with pytest.raises(OverloadedError):
            fake.predict([[2.0]])
        infersdk_clock.advance(3)
        with pytest.raises(DeadlineError):
            late.result(WAIT_S)
    metrics = fake.metrics()
    assert method(metrics).errors == {"OverloadedError": 1, "DeadlineError": 1}
    assert metrics.queue_s.count == metrics.run_s.count == 0


def test_a_fake_counts_as_any_predictor(fake_predictor: Any) -> None:
    fake: FakePredictor = fake_predictor(faults={2: ValueError("told to"), 3: SessionError("so")})
    fake.predict([[1.0], [2.0]])
    with pytest.raises(ValueError, match="told to"):
        fake.predict([[1.0]])
    with pytest.raises(SessionError):
        asyncio.run(fake.apredict([[1.0]]))
    asyncio.run(fake.apredict([[1.0]] * 4, method="predict_proba"))
    asyncio.run(fake.apredict([[1.0]] * 300))
    metrics = fake.metrics()
    assert metrics.model == "fake"
    found = method(metrics)
    assert (found.calls, found.rows) == (4, 302)
    assert found.errors == {"ValueError": 1, "SessionError": 1}
    assert method(metrics, "predict_proba").rows == 4
    assert metrics.run_rows.sum == 306
    assert metrics.run_s.count == 3


def test_calls_that_share_runs_of_the_graph(queueing: Predictor) -> None:
    with ThreadPoolExecutor(16) as pool:
        rows = [[ROW] * (1 + i % 5) for i in range(400)]
        for answer, given_rows in zip(pool.map(queueing.predict, rows), rows, strict=True):
            assert len(answer) == len(given_rows)
    metrics = queueing.metrics()
    n_rows = sum(map(len, rows))
    assert (method(metrics).calls, method(metrics).rows) == (400, n_rows)
    assert metrics.run_rows.sum == n_rows
    stats = queueing.queue_stats()
    assert metrics.run_s.count == stats["batches"] + stats["inline_runs"]
    assert metrics.queue_s.count == 400 - stats["inline_runs"]
    assert metrics.run_s.sum <= metrics.batch_s.sum + method(metrics).call_s.sum


# -- asyncio -------------------------------------------------------------------------------------


def test_awaited_calls_count_once_whichever_way_they_take(
    predictor: Predictor, queueing: Predictor
) -> None:
    large = {"age": np.zeros(700), "income": np.ones(700)}

    async def calls() -> None:
        for target in (predictor, queueing):
            await target.apredict(ROW)
            await asyncio.gather(*[target.apredict([ROW] * 2) for _ in range(10)])
            await target.apredict(_frame(large))  # bound in a thread
            await target.apredict(ROW, method="decision_function")
            for wrong in (WRONG, [WRONG] * 300):
                with pytest.raises(InputError):
                    await target.apredict(wrong)

    asyncio.run(calls())
    for target in (predictor, queueing):
        metrics = target.metrics()
        found = method(metrics)
        assert (found.calls, found.rows, found.errors) == (14, 721, {"InputError": 2})
        assert method(metrics, "decision_function").calls == 1
        assert metrics.run_rows.sum == 722
    assert predictor.metrics().queue_s.count == 0
    assert queueing.metrics().queue_s.count >= 11


def _frame(columns: dict[str, Any]) -> Any:
    import pandas as pd

    return pd.DataFrame(columns)


def test_cancelled_tasks_are_counted_as_such(fake_predictor: Any) -> None:
    fake: FakePredictor = fake_predictor()

    async def calls() -> None:
        with fake.busy():
            tasks = [asyncio.create_task(fake.apredict([[1.0]])) for _ in range(8)]
            while fake.queue_stats()["queued_rows"] < 8:
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            ended = await asyncio.gather(*tasks[::2], return_exceptions=True)
            assert all(isinstance(error, asyncio.CancelledError) for error in ended)
        await asyncio.gather(*tasks[1::2])

    asyncio.run(calls())
    found = method(fake.metrics())
    assert (found.calls, found.rows, found.errors) == (8, 4, {"CancelledError": 4})
    assert fake.metrics().queue_s.count == 4


def test_a_task_that_is_cancelled_while_a_thread_answers_counts_once(
    predictor: Predictor,
) -> None:
    async def calls() -> None:
        task = asyncio.create_task(predictor.apredict([ROW] * 2000))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(calls())
    predictor._threads().shutdown(wait=True)
    found = method(predictor.metrics())
    assert (found.calls, found.errors) == (1, {"CancelledError": 1})


# -- models without a graph ----------------------------------------------------------------------


@pytest.mark.parametrize("awaited", [False, True])
def test_runs_of_a_source_model_are_counted(native_conversion: Conversion, awaited: bool) -> None:
    with Predictor(native_conversion, execution=Execution(calibration_s=0)) as predictor:

        def call(rows: Any, name: str = "predict") -> Any:
            if awaited:
                return asyncio.run(predictor.apredict(rows, method=name))
            return getattr(predictor, name)(rows)

        call(ROW)
        call([ROW] * 300)
        call([ROW] * 2, "predict_proba")
        with pytest.raises(InputError):
            call(WRONG)
        metrics = predictor.metrics()
    found = method(metrics)
    assert (found.calls, found.rows, found.errors) == (3, 301, {"InputError": 1})
    assert method(metrics, "predict_proba").rows == 2
    assert metrics.run_s.count == 3
    assert metrics.run_rows.sum == 303
    assert metrics.queue_s.count == (4 if awaited else 0)  # awaited calls need the queue's threads


def test_methods_beside_a_graph(onnx_conversion: Conversion) -> None:
    source = replace(onnx_conversion.signature.methods[1], name="transform")

    class Both:
        FRAMEWORK = "Both"

        def call(self, model: Any, method: str, rows: Any) -> Any:
            return np.zeros(len(rows))

    both: Any = Both()
    conversion = replace(onnx_conversion, converter=both, source_methods=(source,))
    with Predictor(conversion, execution=FAST) as predictor:
        predictor.predict(ROW)
        predictor.transform([ROW] * 4)
        metrics = predictor.metrics()
    assert (method(metrics).rows, method(metrics, "transform").rows) == (1, 4)
    assert metrics.run_rows.sum == 5


# -- observers -----------------------------------------------------------------------------------


def test_an_observer_is_told_of_every_call(
    predictor: Predictor, observed: list[tuple[str, str, CallTimes]]
) -> None:
    before = clock_ns()
    predictor.predict([ROW] * 3)
    with pytest.raises(InputError):
        predictor.predict(WRONG)
    asyncio.run(predictor.apredict([ROW] * 2))
    asyncio.run(predictor.apredict([ROW] * 700))
    predictor.run({"numbers": np.zeros((5, 2), np.float32)})
    after = clock_ns()
    assert [(name, what) for name, what, _ in observed] == [("linear", "predict")] * 4 + [
        ("linear", "run")
    ]
    assert [times.n_rows for _, _, times in observed] == [3, 0, 2, 700, 5]
    assert [times.error for _, _, times in observed] == [None, "InputError", None, None, None]
    for _, _, times in observed:
        assert before <= times.started_ns < times.ended_ns <= after
        assert times.queued_ns == times.batch_started_ns == times.batch_ended_ns == 0
        if times.error is None:
            assert times.started_ns < times.run_started_ns < times.run_ended_ns <= times.ended_ns
            assert times.run_rows == times.n_rows
        else:
            assert times.run_started_ns == times.run_ended_ns == times.run_rows == 0


def test_an_observer_is_told_in_the_callers_thread_or_task(predictor: Predictor) -> None:
    seen: list[Any] = []

    def observe(model: str, name: str, times: CallTimes) -> None:
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        seen.append((threading.current_thread(), task))

    async def call() -> Any:
        await predictor.apredict([ROW] * 2000)  # answered by a thread
        return asyncio.current_task()

    set_call_observer(observe)
    try:
        predictor.predict(ROW)
        task = asyncio.run(call())
    finally:
        set_call_observer(None)
    predictor.predict(ROW)
    assert seen == [(threading.current_thread(), None), (threading.current_thread(), task)]


def test_an_observer_that_fails_harms_nobody_and_is_logged_once(
    predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*told: Any) -> None:
        raise RuntimeError("no span")

    set_call_observer(fail)
    try:
        with caplog.at_level(logging.ERROR, logger="infersdk"):
            for _ in range(3):
                assert len(predictor.predict(ROW)) == 1
            with pytest.raises(InputError):
                predictor.predict(WRONG)
            asyncio.run(predictor.apredict(ROW))
    finally:
        set_call_observer(None)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert method(predictor.metrics()).calls == 5
    with pytest.raises(TypeError, match="function or None"):
        set_call_observer(3)  # type: ignore[arg-type]


# -- processes -----------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_begins_at_zero_and_its_parent_goes_on(
    predictor: Predictor, native_conversion: Conversion
) -> None:
    native = Predictor(native_conversion, execution=Execution(calibration_s=0))
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            predictor.predict_proba(ROW)

    for target in (predictor, native):
        target.predict(ROW)
        with pytest.raises(InputError):
            target.predict(WRONG)
    busy = threading.Thread(target=call)
    busy.start()
    try:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            told = b"failed"
            try:
                told = repr([_in_child(target) for target in (predictor, native)]).encode()
            finally:
                os.write(write, told)
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            told_by_child = pipe.read()
        os.waitpid(pid, 0)
    finally:
        over.set()
        busy.join()
    assert told_by_child == repr([(0, 2, {"InputError": 1}, 2, 1)] * 2)
    for target in (predictor, native):
        found = method(target.metrics())
        assert (found.calls, found.rows, found.errors) == (2, 1, {"InputError": 1})
    native.close()


def _in_child(target: Predictor) -> tuple[Any, ...]:
    before = target.metrics()
    zero = sum(one.calls + one.rows for one in before.methods) + before.run_s.count
    target.predict([ROW] * 2)
    with contextlib.suppress(InputError):
        target.predict(WRONG)
    after = target.metrics()
    found = method(after)
    return zero, found.rows, dict(found.errors), int(after.run_rows.sum), after.run_s.count


def test_a_session_by_itself_counts_only_with_a_meter(onnx_conversion: Conversion) -> None:
    assert onnx_conversion.artifact is not None
    model = onnx_conversion.artifact.session_model()
    meter = ModelMeter("m")
    session = Session(model, meter=meter)
    rows = [np.zeros((4, 2), np.float32)]
    session.run_alone(rows)
    session.measure(rows, 0.01)
    assert meter.read()["run_s"][0].sum() == 0
    session.run_ordered(rows)
    session.run_short(rows)
    assert meter.read()["run_s"][0].sum() == 2
    assert meter.read()["run_rows"][1] == 8
    Session(model).run_ordered(rows)
    assert meter.read()["run_s"][0].sum() == 2


def test_switched_off_nothing_is_counted(
    queueing: Predictor, observed: list[tuple[str, str, CallTimes]]
) -> None:
    set_metering(False)
    try:
        queueing.predict(ROW)
        asyncio.run(queueing.apredict([ROW] * 2))
        with pytest.raises(InputError):
            queueing.predict(WRONG)
        queueing.run({"numbers": np.zeros((5, 2), np.float32)})
    finally:
        set_metering(True)
    metrics = queueing.metrics()
    assert sum(one.calls for one in metrics.methods) == metrics.run_s.count == 0
    assert metrics.queue_s.count == 0
    assert not observed
    queueing.predict(ROW)
    assert method(queueing.metrics()).calls == 1
