"""Calibration: what is measured, on what, in what time, what follows, and what is said about it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import parser

from infersdk._native import KEEP_GIL_S, Session
from infersdk.errors import ClosedError, InputError, MissingDependencyError, SessionError
from infersdk.options import Batching, Execution
from infersdk.runtime.calibration import (
    Calibration,
    calibrate,
    choose,
    study,
)
from infersdk.runtime.ladder import Point
from infersdk.types import TensorSpec

ONE_THREAD = Execution(threads=1)
LADDER = [1, 2, 4, 8, 16, 32, 64, 128, 256]


def session(text: str) -> Session:
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> graph {text}')
    return Session(model.SerializeToString(), name="measured")


NEG = "(float[N, 3] x) => (float[N, 3] y) { y = Neg(x) }"


@dataclass
class Fake:
    """A session whose runs take what the test says, on a clock of its own."""

    cost_s: Callable[[int], float] = lambda n: 1e-4 * n
    first_run_s: float = 0.0
    slow: Callable[[float], float] = lambda now: 1.0
    inputs: tuple[Any, ...] = (TensorSpec("x", "float32", ("N", 3)),)
    outputs: tuple[Any, ...] = (TensorSpec("y", "float32", ("N", 3)),)
    now: float = 50.0
    runs: list[np.ndarray] = field(default_factory=list)
    costs: dict[int, float] = field(default_factory=dict)

    def run_ordered(self, inputs: Sequence[Any]) -> list[Any]:
        n_rows = len(inputs[0])
        self.now += self.cost_s(n_rows) * self.slow(self.now)
        self.now += self.first_run_s if n_rows not in self.sizes else 0.0
        self.runs.append(inputs[0])
        return [-inputs[0]]

    def set_cost(self, size_bytes: int, run_s: float) -> None:
        self.costs[size_bytes] = run_s

    def clock(self) -> float:
        return self.now

    @property
    def sizes(self) -> list[int]:
        return [len(run) for run in self.runs]


def measure(fake: Fake, n_rows: int | None = 20, **options: Any) -> Calibration:
    rows = None if n_rows is None else [np.arange(3.0 * n_rows, dtype="f4").reshape(-1, 3)]
    options = {"execution": ONE_THREAD, "mergeable": True, "cores": 4, **options}
    return calibrate(fake, rows, clock=fake.clock, **options)


# -- what is measured ----------------------------------------------------------------------------


def test_the_curve_is_what_runs_cost() -> None:
    fake = Fake(lambda n: 1e-4 + 1e-5 * n)
    calibration = measure(fake)
    assert [point.rows for point in calibration.curve] == LADDER
    for point in calibration.curve:
        assert point.run_s == pytest.approx(1e-4 + 1e-5 * point.rows)
        assert point.row_s == pytest.approx(point.run_s / point.rows)
        assert point.n_runs > 10
    assert calibration.run_s == calibration.curve[0].run_s
    assert calibration.n_runs == calibration.curve[0].n_runs


def test_the_sessions_cost_model_is_told() -> None:
    fake = Fake(lambda n: 1e-4 + 1e-5 * n)
    curve = measure(fake).curve
    assert fake.costs == {12 * point.rows: point.run_s for point in curve}


def test_what_another_thread_does_with_the_gil_is_not_the_models_time() -> None:
    class Contended(Fake):
        def run_ordered(self, inputs: Sequence[Any]) -> list[Any]:
            # The session's rule: a run that is not known to be short gives the GIL up.
            if self.costs.get(inputs[0].nbytes, 1.0) > KEEP_GIL_S:
                self.now += 5e-3
            return super().run_ordered(inputs)

    calibration = measure(Contended(lambda n: 1e-5 + 1e-4 * n))
    for point in calibration.curve:
        assert point.run_s == pytest.approx(1e-5 + 1e-4 * point.rows)
    # Nobody is kept waiting for longer than that.
    long = Contended(lambda n: 0.1)
    assert measure(long, budget_s=1).run_s == pytest.approx(0.105)


def test_first_runs_are_not_counted() -> None:
    fake = Fake(lambda n: 1e-5 * n, first_run_s=5e-3)
    assert [point.run_s for point in measure(fake).curve] == pytest.approx(
        [1e-5 * n for n in LADDER]
    )


def test_a_first_run_that_is_the_only_one_is_counted() -> None:
    (point,) = measure(Fake(lambda n: 0.5 * n), budget_s=1e-9).curve
    assert point == Point(1, 0.5, 1)


def test_sizes_take_turns() -> None:
    fake = Fake(lambda n: 1e-6 * n)
    measure(fake)
    repeats = fake.sizes[-len(LADDER) * 30 :]
    assert repeats == [size for size in LADDER for _ in range(2)] * 15


def test_every_run_gets_other_rows_and_no_row_is_left_out() -> None:
    fake = Fake(lambda n: 1e-6 * n)
    measure(fake, n_rows=20)
    for size in (1, 4, 16):
        runs = [run for run in fake.runs if len(run) == size]
        assert len({run.tobytes() for run in runs}) > len(runs) // 3
        assert all(len(np.unique(run[:, 0])) == size for run in runs)
    whole = next(run for run in fake.runs if len(run) == 256)
    counts = np.unique(whole[:, 0], return_counts=True)[1]
    assert len(counts) == 20
    assert counts.max() - counts.min() <= 1


def test_one_row_is_varied_as_trees_would_find_it_too_easy() -> None:
    fake = Fake()
    assert "(measured on variants of a row)" in measure(fake, n_rows=1).reason
    assert len({run.tobytes() for run in fake.runs if len(run) == 1}) > 5


@pytest.mark.parametrize(
    ("largest", "sizes"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (48, [1, 2, 4, 8, 16, 32, 48]), (256, LADDER), (9999, LADDER)],
)  # fmt: skip
def test_nothing_beyond_the_largest_batch_is_measured(largest: int, sizes: list[int]) -> None:
    calibration = measure(Fake(lambda n: 1e-6 * n), batching=Batching(max_batch_size=largest))
    assert [point.rows for point in calibration.curve] == sizes
    assert calibration.max_batch_size == largest


@pytest.mark.parametrize("options", [{"mergeable": False}, {"batching": Batching.off()}])
def test_what_is_never_merged_is_measured_with_one_row(options: dict[str, Any]) -> None:
    fake = Fake()
    assert [point.rows for point in measure(fake, **options).curve] == [1]
    assert set(fake.sizes) == {1}


def test_the_climb_ends_where_rows_become_dearer() -> None:
    calibration = measure(Fake(lambda n: 1e-4 * n * (1 if n <= 8 else n / 8)))
    assert [point.rows for point in calibration.curve] == [1, 2, 4, 8, 16, 32]


def test_the_climb_ends_where_a_batch_takes_too_long() -> None:
    calibration = measure(Fake(lambda n: 1e-3 * n), execution=Execution(calibration_s=60))
    assert [point.rows for point in calibration.curve] == [1, 2, 4, 8, 16, 32]


def test_a_batch_that_does_not_run_ends_the_climb() -> None:
    class Small(Fake):
        def run_ordered(self, inputs: Sequence[Any]) -> list[Any]:
            if len(inputs[0]) > 8:
                raise SessionError("out of memory")
            return super().run_ordered(inputs)

    calibration = measure(Small(lambda n: 1e-4))
    assert [point.rows for point in calibration.curve] == [1, 2, 4, 8]
    assert calibration.max_batch_size == 8


# -- in what time --------------------------------------------------------------------------------


@given(
    row_s=st.floats(1e-7, 0.5),
    share=st.floats(0, 1),
    budget_s=st.floats(1e-4, 1),
    first_run_s=st.floats(0, 2),
)
def test_it_ends_in_time(row_s: float, share: float, budget_s: float, first_run_s: float) -> None:
    fake = Fake(lambda n: row_s * (share + (1 - share) * n))
    fake.now -= first_run_s
    calibration = measure(fake, execution=Execution(threads=1, calibration_s=budget_s))
    # The first run is always made, and a second one, as the first tells nothing.
    assert fake.now - 50 <= row_s + max(budget_s, row_s) + 1e-6 - first_run_s
    assert calibration.curve[0].run_s == pytest.approx(row_s)


def test_the_time_left_may_be_less_than_the_options() -> None:
    fake = Fake(lambda n: 1e-3 * n)
    measure(fake, budget_s=0.01)
    assert fake.now - 50 <= 0.011 + 1e-9


@given(
    fixed_s=st.floats(1e-4, 1e-3),
    row_s=st.floats(1e-6, 1e-3),
    period_s=st.floats(1e-3, 0.05),
    factor=st.floats(1.1, 2.5),
)
def test_a_cpu_that_changes_its_speed_changes_little(
    fixed_s: float, row_s: float, period_s: float, factor: float
) -> None:
    def cost_s(n: int) -> float:
        return fixed_s + row_s * n

    steady = measure(Fake(cost_s), execution=Execution(threads=1, calibration_s=2))
    slow = Fake(cost_s, slow=lambda now: factor if int(now / period_s) % 2 else 1.0)
    changing = measure(slow, execution=Execution(threads=1, calibration_s=2))
    assume(len(steady.curve) > 1)
    size = max(changing.max_batch_size, 1)
    best = max(steady.max_batch_size, 1)
    # What a row costs in the batch that was chosen, beside what it costs in the best one.
    assert cost_s(size) / size <= factor * 1.3 * cost_s(best) / best


# -- what follows --------------------------------------------------------------------------------


def curve(t1_s: float, **gains: float) -> list[Point]:
    """A curve from its gains: ``n8=2.0`` says that 8 rows together cost half of 8 alone."""
    points = [Point(1, t1_s, 9)]
    for name, gain in gains.items():
        rows = int(name[1:])
        points.append(Point(rows, rows * t1_s / gain, 9))
    return points


def chosen(points: Sequence[Point], **options: Any) -> Calibration:
    execution = options.pop("execution", ONE_THREAD)
    batching = options.pop("batching", Batching())
    settings = {"mergeable": True, "why_not_mergeable": "", "cores": 4, **options}
    return choose(points, "by hand", execution=execution, batching=batching, **settings)


@pytest.mark.parametrize(
    ("points", "path", "size"),
    [
        # The models that the policy was made for.
        (curve(1.5e-6, n8=9, n32=33, n128=105), "inline", 128),
        (curve(8e-6, n8=4.3, n32=7.5, n128=7.6), "inline", 32),
        (curve(20e-6, n8=1.2, n32=1.2, n128=1.05), "inline", 1),
        (curve(65e-6, n8=1.2, n32=1.0, n128=0.85), "inline, GIL released", 1),
        (curve(150e-6, n8=2.0, n32=3.2, n128=3.3), "batched", 32),
        (curve(100e-6, n8=2.7, n128=1.25), "batched", 8),
        # On either side of each limit.
        (curve(60e-6), "inline", 1),
        (curve(61e-6), "inline, GIL released", 1),
        (curve(1e-3, n2=1.29), "inline, GIL released", 1),
        (curve(1e-3, n2=1.31), "batched", 2),
        (curve(1e-3, n2=1.5, n4=1.57), "batched", 2),
        (curve(1e-3, n2=1.5, n4=1.6), "batched", 4),
        # 20 ms, or ten runs.
        (curve(1e-3, n16=2.0, n64=3.0), "batched", 16),
        (curve(5e-3, n16=2.0, n64=3.0), "batched", 16),
        (curve(5e-3, n16=2.0, n64=8.0), "batched", 64),
    ],
)
def test_the_path_and_the_batch_follow_from_the_curve(
    points: list[Point], path: str, size: int
) -> None:
    calibration = chosen(points)
    assert (calibration.path, calibration.max_batch_size) == (path, size)
    assert calibration.mergeable
    assert calibration.curve == tuple(points)


@given(
    st.floats(1e-6, 1),
    st.lists(st.floats(0.5, 30), min_size=0, max_size=8),
)
def test_the_batch_is_the_smallest_of_the_cheapest(t1_s: float, gains: list[float]) -> None:
    points = curve(t1_s, **{f"n{2 ** (i + 1)}": gain for i, gain in enumerate(gains)})
    calibration = chosen(points)
    limit_s = max(0.02, 10 * t1_s)
    fitting = [point for point in points if point.run_s <= limit_s]
    lowest_s = min((point.row_s for point in fitting), default=t1_s)
    by_rows = {point.rows: point for point in points}
    picked = by_rows[calibration.max_batch_size]
    if picked.rows > 1:
        assert picked.run_s <= limit_s
        assert picked.row_s <= 1.05 * lowest_s * (1 + 1e-9)
        assert t1_s / picked.row_s >= 1.3 * (1 - 1e-9)
        assert not any(
            point.row_s <= 1.05 * lowest_s * (1 - 1e-9)
            for point in fitting
            if point.rows < picked.rows
        )
    else:
        # Sharing would have gained less than 1.3 within the 5 % that count as alike.
        assert lowest_s * 1.05 >= t1_s / 1.3 * (1 - 1e-9)
    assert (calibration.path == "inline") is (t1_s <= KEEP_GIL_S)
    assert (calibration.path == "batched") is (t1_s > KEEP_GIL_S and picked.rows > 1)


GAINS = curve(1e-3, n8=4.0, n16=4.1)
NO_GAIN = curve(1e-3, n8=1.0, n16=0.9)
SHORT = curve(1e-5, n8=4.0, n16=4.1)


@pytest.mark.parametrize(
    ("points", "options", "path", "size", "mergeable", "words"),
    [
        (GAINS, {"mergeable": False, "why_not_mergeable": "axis 0 is fixed"}, "inline, GIL released", 1, False, "may not share a run: axis 0 is fixed"),
        (SHORT, {"mergeable": False}, "inline", 1, False, "a row takes 10 us, less than getting the GIL back may (60 us); calls may not share a run: rows were not tested"),
        (GAINS, {"batching": Batching(enabled=False)}, "inline, GIL released", 1, False, "no batching as asked"),
        (GAINS, {"batching": Batching(enabled=False, max_batch_size=8)}, "inline, GIL released", 1, False, "no batching as asked"),
        (NO_GAIN, {"batching": Batching(enabled=True)}, "batched", 8, True, "batching as asked"),
        (SHORT, {"batching": Batching(enabled=True)}, "batched", 8, True, "batching as asked"),
        (GAINS, {"batching": Batching(enabled=True), "mergeable": False}, "inline, GIL released", 1, False, "may not share a run"),
        (curve(1e-3), {"batching": Batching(enabled=True)}, "batched", 32, True, "batching as asked"),
        (GAINS, {"batching": Batching(max_batch_size=12)}, "batched", 12, True, "max_batch_size as asked"),
        (NO_GAIN, {"batching": Batching(max_batch_size=12)}, "batched", 12, True, "max_batch_size as asked"),
        (SHORT, {"batching": Batching(max_batch_size=12)}, "inline", 12, True, "max_batch_size as asked"),
        (GAINS, {"batching": Batching(max_batch_size=1)}, "inline, GIL released", 1, True, "max_batch_size as asked"),
        (GAINS, {"execution": Execution(release_gil=False, threads=1)}, "inline", 8, True, "the GIL kept as asked"),
        (SHORT, {"execution": Execution(release_gil=True, threads=1)}, "batched", 8, True, "the GIL released as asked"),
        (curve(1e-5), {"execution": Execution(release_gil=True, threads=1)}, "inline, GIL released", 1, True, "the GIL released as asked"),
        (GAINS, {"keep_gil_s": 2e-3}, "inline", 8, True, "less than getting the GIL back may (2 ms)"),
        (GAINS, {}, "batched", 8, True, "a row takes 1 ms; in a batch of 8 250 us, a gain of 4.0 (by hand)"),
        (NO_GAIN, {}, "inline, GIL released", 1, True, "a batch gains too little (1.00 at 8 rows)"),
    ],
)  # fmt: skip
def test_what_the_user_has_set_goes_first(
    points: list[Point], options: dict[str, Any], path: str, size: int, mergeable: bool, words: str
) -> None:
    calibration = chosen(points, **options)
    assert (calibration.path, calibration.max_batch_size) == (path, size)
    assert calibration.mergeable is mergeable
    assert words in calibration.reason


@pytest.mark.parametrize(
    ("threads", "cores", "instances"), [(1, 4, 4), (2, 4, 2), (3, 4, 1), (8, 4, 1), (1, 1, 1)]
)
def test_instances_share_the_cores(threads: int, cores: int, instances: int) -> None:
    calibration = chosen(GAINS, execution=Execution(threads=threads), cores=cores)
    assert calibration.instances == instances
    asked = chosen(GAINS, execution=Execution(threads=threads, instances=7), cores=cores)
    assert asked.instances == 7
    assert "instances as asked" in asked.reason


def test_outside_of_workers_one_instance_has_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infersdk.runtime.calibration.default_threads", lambda: 4)
    assert chosen(GAINS, execution=Execution(), cores=4).instances == 1
    monkeypatch.setattr("infersdk.runtime.calibration.default_threads", lambda: 1)
    assert chosen(GAINS, execution=Execution(), cores=4).instances == 4


@pytest.mark.parametrize(
    ("batching", "mergeable", "path", "size"),
    [
        (Batching(), True, "inline, GIL released", 1),
        (Batching(), False, "inline, GIL released", 1),
        (Batching(enabled=True), True, "batched", 32),
        (Batching(enabled=True), False, "inline, GIL released", 1),
        (Batching(max_batch_size=6), True, "batched", 6),
    ],
)
def test_without_a_measurement_only_what_was_asked_for_is_merged(
    batching: Batching, mergeable: bool, path: str, size: int
) -> None:
    fake = Fake()
    options = {"mergeable": mergeable, "batching": batching}
    calibration = measure(fake, execution=Execution(threads=1, calibration_s=0), **options)
    assert fake.runs == []
    assert (calibration.path, calibration.max_batch_size) == (path, size)
    assert calibration.run_s is None
    assert calibration.n_runs == 0
    assert calibration.reason.startswith("switched off (Execution.calibration_s is 0)")


# -- what is said --------------------------------------------------------------------------------


def test_a_calibration_prints_as_a_table() -> None:
    points = (Point(1, 150e-6, 9), Point(16, 800e-6, 8))
    text = str(Calibration(points, "batched", 16, 2, True, "it gains"))
    assert text.splitlines() == [
        "   rows     us/run     us/row   gain",
        "      1      150.0     150.00   1.00",
        "*    16      800.0      50.00   3.00",
        "batched, up to 16 rows a run, 2 instances: it gains",
    ]
    alone = str(Calibration(points[:1], "inline", 1, 1, False, "it is short"))
    assert alone.endswith("\ninline, a call a run, 1 instance: it is short")
    assert "*" not in alone
    nothing = Calibration(reason="the model runs in its own framework")
    assert str(nothing).startswith("not measured; ")
    assert str(nothing).endswith(": the model runs in its own framework")


class Axes:
    """Keeps what is drawn."""

    def __init__(self) -> None:
        self.drawn: dict[str, Any] = {}
        self.figure = object()

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values, **_: self.drawn.__setitem__(name, values)


def test_the_figure_is_the_curve() -> None:
    points = (Point(1, 150e-6, 9), Point(16, 800e-6, 8))
    ax = Axes()
    calibration = Calibration(points, "batched", 16, 2, True, "it gains")
    assert calibration.figure(ax) is ax.figure  # type: ignore[arg-type]
    rows, us = ax.drawn["plot"]
    assert rows == [1, 16]
    assert us == pytest.approx([150.0, 50.0])
    assert ax.drawn["axvline"] == (16,)
    assert ax.drawn["set_title"] == ("batched",)
    assert ax.drawn["set_xscale"] == ax.drawn["set_yscale"] == ("log",)
    alone = Axes()
    Calibration(points[:1], "inline").figure(alone)  # type: ignore[arg-type]
    assert "axvline" not in alone.drawn


def test_the_figure_stands_alone() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib draws the figure")
    figure = measure(Fake(lambda n: 1e-3)).figure()
    (ax,) = figure.axes
    (line, mark) = ax.get_lines()
    assert list(line.get_xdata()) == LADDER
    assert mark.get_xdata()[0] == 256
    assert ax.get_title() == "batched"
    figure.canvas.draw()


def test_without_matplotlib_there_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match="pip install matplotlib"):
        measure(Fake()).figure()


def test_without_a_measurement_there_is_no_figure() -> None:
    with pytest.raises(ValueError, match="nothing was measured: switched off"):
        Calibration(reason="switched off").figure()


# -- on real sessions ----------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [1, 5])
def test_the_given_rows_are_measured(n_rows: int) -> None:
    measured = session(NEG)
    row = [np.ones((n_rows, 3), np.float32)]
    result = calibrate(measured, row, execution=ONE_THREAD, mergeable=True)
    assert result.run_s is not None
    assert 0 < result.run_s < 5
    assert result.n_runs > 1
    assert result.max_batch_size > 1
    assert measured.expected_run_s(12) == pytest.approx(result.run_s, abs=2e-9)


def test_without_rows_some_are_made_up() -> None:
    measured = session(
        "(float[N, 3] x, string[N] t, int64[N, M] i) => (float[N, 3] y, string[N] u, int64[N, M] j)"
        "{ y = Neg(x) u = Identity(t) j = Neg(i) }"
    )
    result = calibrate(measured, None, execution=ONE_THREAD, mergeable=True)
    assert [point.rows for point in result.curve[:4]] == [1, 2, 4, 8]
    assert "measured on made-up rows, 4 along each dynamic axis" in result.reason


@pytest.mark.parametrize("n_rows", [None, 20])
@pytest.mark.parametrize("length", ["L", 3])
def test_rows_of_a_guessed_length_do_not_speak_for_large_batches(
    n_rows: int | None, length: Any
) -> None:
    specs = (TensorSpec("x", "float32", ("N", length)),)
    calibration = measure(Fake(lambda n: 1e-4, inputs=specs, outputs=specs), n_rows)
    guessed = n_rows is None and length == "L"
    assert calibration.max_batch_size == (32 if guessed else 256)
    assert ("along each dynamic axis" in calibration.reason) is guessed


@pytest.mark.parametrize(
    "text",
    [
        "(float[N, 3] x, string[N] t, bool b, int64[M] i) => (float[N, 3] y, string[N] u)"
        "{ y = Neg(x) u = Identity(t) }",
        # Only zeros are an index into it.
        "(int64[N, 1] x) => (float[N, 1] y) { k = Constant<value_floats = [1.0]>() y = Gather(k, x) }",
    ],
)
def test_neutral_inputs_stand_in_where_rows_make_no_sense(text: str) -> None:
    result = calibrate(session(text), None, execution=ONE_THREAD)
    assert result.run_s is not None
    assert "neutral inputs of the graph's shapes" in result.reason


@pytest.mark.parametrize(
    "rows", [[np.ones((3, 1), "f4"), np.ones(2, "f4")], [np.ones((2, 1), "f4")] * 2]
)
def test_an_example_without_rows_is_run_as_it_is(rows: list[Any]) -> None:
    measured = session("(float[?, 1] x, float[2] z) => (float[?, ?] y) { y = Add(x, z) }")
    result = calibrate(measured, [rows[0], np.ones(2, "f4")], execution=ONE_THREAD)
    assert [point.rows for point in result.curve] == [1]
    assert "(measured on the example)" in result.reason


def test_an_empty_example_is_as_good_as_none() -> None:
    result = calibrate(session(NEG), [np.ones((0, 3), "f4")], execution=ONE_THREAD)
    assert "(measured on made-up rows)" in result.reason


def test_an_example_that_does_not_run_is_not_measured() -> None:
    result = calibrate(session(NEG), [np.ones((4, 2), "f4")], execution=ONE_THREAD)
    assert result.run_s is None
    assert "the example did not run: " in result.reason
    assert "\n" not in result.reason


@pytest.mark.parametrize(
    "text",
    [
        "(seq(float[N]) s) => (int64 n) { n = SequenceLength(s) }",
        "(optional(float[N]) s) => (bool n) { n = OptionalHasElement(s) }",
        "(float x, seq(float[N]) s) => (int64 n) { n = SequenceLength(s) }",
    ],
)
def test_inputs_that_cannot_be_made_up_are_not_measured(text: str) -> None:
    result = calibrate(session(text), None, execution=ONE_THREAD)
    assert result.run_s is None
    assert "not all tensors of a known rank" in result.reason


def test_sequences_of_an_example_are_measured() -> None:
    measured = session("(seq(float[N]) s) => (int64 n) { n = SequenceLength(s) }")
    result = calibrate(measured, [[np.ones(2, np.float32)]], execution=ONE_THREAD)
    assert result.run_s is not None
    assert [point.rows for point in result.curve] == [1]


@pytest.mark.parametrize(
    "text",
    [
        # Zeros and ones are out of range, or do not add up.
        "(float[3] x, int64[1] i) => (float[1] y) { k = Constant<value_int = 5>() j = Add(i, k) y = Gather(x, j) }",
        "(float[N] x, float[3] z) => (float[K] y) { two = Concat<axis = 0>(x, x) y = Add(two, z) }",
    ],
)
def test_a_model_that_made_up_inputs_make_no_sense_to_still_serves(text: str) -> None:
    result = calibrate(session(text), None, execution=ONE_THREAD)
    assert result.run_s is None
    assert result.n_runs == 0
    assert "neutral inputs of the graph's shapes did not run" in result.reason


def test_a_closed_session_says_so() -> None:
    measured = session(NEG)
    measured.close()
    with pytest.raises(ClosedError):
        calibrate(measured, None, execution=ONE_THREAD)


def test_no_inputs_are_no_obstacle() -> None:
    text = "() => (float[2] y) { y = Constant<value_floats = [1.0, 2.0]>() }"
    for rows in (None, []):
        assert calibrate(session(text), rows, execution=ONE_THREAD).run_s is not None


def test_made_up_inputs_that_a_session_refuses_are_told_in_one_line() -> None:
    class Choosy(Fake):
        def run_ordered(self, inputs: Sequence[Any]) -> list[Any]:
            raise InputError("not these\nat all")

    calibration = measure(Choosy(), n_rows=None)
    assert calibration.curve == ()
    assert "neutral inputs of the graph's shapes did not run: not these;" in calibration.reason


# -- tests and measurements in one time ----------------------------------------------------------


@given(
    row_s=st.floats(1e-6, 0.1),
    budget_s=st.floats(1e-3, 1),
    pad=st.booleans(),
)
def test_loading_takes_no_longer_than_it_may(row_s: float, budget_s: float, pad: bool) -> None:
    specs = (TensorSpec("x", "float32", ("b", "L")),)
    fake = Fake(lambda n: row_s * n, inputs=specs, outputs=specs)
    calibration, pads = study(
        fake,
        [np.random.default_rng(0).normal(size=(20, 3)).astype("f4")],
        execution=Execution(threads=1, calibration_s=budget_s),
        batching=Batching(pad={"L": 0} if pad else {}),
        cores=2,
        clock=fake.clock,
    )
    # Each of the three begins with a run, or two, that tell how long the others will be.
    assert fake.now - 50 <= budget_s + 6 * row_s + 1e-6
    assert calibration.run_s == pytest.approx(row_s)
    assert set(pads) == ({"L"} if pad else set())
    if budget_s > 200 * row_s:
        assert calibration.mergeable
        assert all(verdict.mergeable for verdict in pads.values())


@pytest.mark.parametrize("axis", ["N", "b"])
def test_a_study_tests_and_measures(axis: str) -> None:
    measured = session(f"(float[{axis}, L] x) => (float[{axis}, L] y) {{ y = Neg(x) }}")
    execution, batching = Execution(threads=1, calibration_s=5), Batching(pad={"L": 0})
    calibration, pads = study(measured, None, execution=execution, batching=batching)
    assert calibration.mergeable
    assert calibration.max_batch_size > 1
    assert len(calibration.curve) > 1
    assert pads["L"].mergeable


def test_a_study_of_rows_that_meet_measures_one_row_and_fills_nothing_up() -> None:
    measured = session("(float[N, L] x) => (float[N, L] y) { y = Softmax<axis = 0>(x) }")
    execution, batching = Execution(threads=1, release_gil=True), Batching(pad={"L": 0})
    calibration, pads = study(measured, None, execution=execution, batching=batching)
    assert not calibration.mergeable
    assert len(calibration.curve) == 1
    assert "depends on the rows beside it" in calibration.reason
    assert not pads["L"].mergeable
    assert "depends on the rows beside it" in pads["L"].reason


def test_a_study_of_what_is_not_batched_tests_nothing() -> None:
    fake = Fake(lambda n: 1e-3 * n)
    calibration, _ = study(
        fake, None, execution=ONE_THREAD, batching=Batching.off(), cores=2, clock=fake.clock
    )
    assert set(fake.sizes) == {1}
    assert not calibration.mergeable
    assert "batching is switched off" in calibration.reason


@pytest.mark.parametrize(
    "batching", [Batching(pad={"M": 0}), Batching(enabled=False, pad={"M": 0})]
)
def test_a_study_refuses_axes_that_are_not_there(batching: Batching) -> None:
    with pytest.raises(ValueError, match="names axis `M`"):
        study(Fake(), None, execution=ONE_THREAD, batching=batching)


def test_a_study_without_time_runs_nothing() -> None:
    fake = Fake()
    execution = Execution(threads=1, calibration_s=0)
    calibration, _ = study(fake, None, execution=execution, batching=Batching(), cores=2)
    assert fake.runs == []
    assert calibration.mergeable
    assert calibration.max_batch_size == 1
    asked, _ = study(fake, None, execution=execution, batching=Batching(enabled=True), cores=2)
    assert asked.max_batch_size == 32
