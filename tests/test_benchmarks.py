"""The benchmark runner compares before it measures, and reports what it measured.

Times are not judged here: loads are driven for a tenth of a second, and only their counts, their answers
and what follows from given times are checked.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import importlib.util
import json
import math
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from rich.console import Console

import infersdk
from benchmarks.__main__ import _check_tools, _chosen, main
from benchmarks.cases import CASES
from benchmarks.cases.accelerate import HANDLERS, without_decorator
from benchmarks.cases.web_throughput import WEB
from benchmarks.load.aio import asyncio_load, close_loop
from benchmarks.load.answers import Expected
from benchmarks.load.burner import Burner
from benchmarks.load.closed import closed_load
from benchmarks.load.driver import drive
from benchmarks.load.loadgen import loadgen, read_summary
from benchmarks.load.open import _figures, open_load, poisson_schedule
from benchmarks.load.search import RateSearch
from benchmarks.load_runner import KINDS, LoadResult, best_other
from benchmarks.models import MODELS, N_INPUTS, build, write
from benchmarks.plots import plot_open_load
from benchmarks.rivals.loop_batcher import LoopBatcher
from benchmarks.rivals.thread_batcher import ThreadBatcher
from benchmarks.runner import DifferentAnswersError, compare, ratio
from benchmarks.tables import fill, load_table
from benchmarks.task import Task
from benchmarks.web import wrk
from benchmarks.web.client import ask, check, equal
from benchmarks.web.server import COMMANDS, ServerError, serving
from benchmarks.web_runner import App, Ratio, Target, Turn, order, results_of
from benchmarks.web_tables import app_table, fill_web, markdown, put, ratio_table

ROOT = Path(__file__).parents[1]


class Answering:
    """Stands in for a rival's process: writes the given answers when asked for them."""

    def __init__(self, name: str, *answers: Any) -> None:
        self.name = self.label = name
        self.answers = {f"{i}.0": np.asarray(answer) for i, answer in enumerate(answers)}

    def ask(self, command: str) -> dict[str, Any]:
        verb, _, path = command.split()
        assert verb == "answers"
        np.savez(path, **self.answers)
        return {}


def test_rivals_that_agree_to_rounding_pass(tmp_path: Path) -> None:
    task = Task("one_call", "tiny", tmp_path)
    ours, theirs = Answering("a", [0.25], [1]), Answering("b", [0.25 + 1e-7], [1])
    compare(task, [ours, theirs], 2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([0.25], [2]), "on input 1 a answers"),
        (([0.26], [1]), "on input 0 a answers"),
        (([[0.25]], [1]), "on input 0 a answers"),
        (([0.25],), r"different numbers of arrays for 2 inputs \(2 and 1\)"),
    ],
    ids=["label", "number", "shape", "count"],
)
def test_rivals_that_differ_are_not_measured(tmp_path: Path, given: Any, message: str) -> None:
    task = Task("one_call", "tiny", tmp_path)
    with pytest.raises(DifferentAnswersError, match=message):
        compare(task, [Answering("a", [0.25], [1]), Answering("b", *given)], 2)


def test_ratios_are_taken_within_rounds() -> None:
    """A machine that slows down threefold half-way changes no ratio."""
    rounds = [[10.0, 5.0], [10.0, 5.0], [30.0, 15.0], [30.0, 15.0]]
    assert ratio(rounds, 1) == {"ratio": 0.5, "ratio_low": 0.5, "ratio_high": 0.5}
    assert ratio(rounds, 0)["ratio"] == 1.0


@pytest.mark.slow
def test_a_quick_run_writes_every_figure(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "one_call/tiny", "rows_from_dicts/xgboost"),
            *("import_and_load/import", "--quick", "--json", str(path)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(path.read_text())
    assert report["versions"]["numpy"] == np.__version__
    assert report["machine"]["cores"] >= 1
    results = {(item["case"], item["rival"]): item for item in report["results"]}
    assert len(results) == 7
    for (case, rival), item in results.items():
        assert item["label"] in done.stdout.replace("\n", " ") or len(item["label"]) > 20
        assert 0 < item["p50_us"] <= item["p99_us"], (case, rival)
        assert item["throughput_per_s"] == pytest.approx(1e6 / item["call_us"])
    assert results["one_call", "onnxruntime_run"]["ratio"] == 1.0


def test_an_unknown_case_is_refused_by_name() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "one_call/huge"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "expected a variant of one_call (tiny, mlp, rf, cnn), got 'huge'" in done.stderr


# -- the models of the loads --------------------------------------------------------------------------

_QUICKLY_MADE = [name for name in MODELS if name != "forest"]


@pytest.mark.parametrize("axis", ["N", "batch"])
@pytest.mark.parametrize("name", [*_QUICKLY_MADE, pytest.param("forest", marks=pytest.mark.slow)])
def test_a_model_answers_single_rows_as_it_does_the_batch(
    tmp_path: Path, name: str, axis: str
) -> None:
    """What a load expects is what infersdk gives row by row, whatever the batch axis is called."""
    import onnx

    task = Task("closed_load", f"{name}@{axis}", tmp_path)
    write(task)
    graph = onnx.load(task.model).graph
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == axis
    expected = Expected(task.expected)
    assert expected.n_rows == N_INPUTS
    rows = np.load(task.inputs.with_suffix(".npy"))
    predictor = infersdk.load(task.model, execution=infersdk.Execution(threads=1))
    assert expected.wrong([(i, predictor(rows[i])) for i in range(0, N_INPUTS, 16)]) == 0


def test_weights_are_seeded() -> None:
    made = [build("mlp", np.random.default_rng(seed))[0] for seed in (7, 7, 8)]
    assert made[0] == made[1] != made[2]


# -- loads ---------------------------------------------------------------------------------------------


@pytest.fixture
def expected(tmp_path: Path) -> Expected:
    """Row i's answer is [i, i + 0.5], for 256 rows."""
    rows = np.arange(256, dtype=np.float32)[:, None]
    np.savez(tmp_path / "expected.npz", **{"0": np.hstack([rows, rows + 0.5])})
    return Expected(tmp_path / "expected.npz")


def right(i: int) -> np.ndarray:
    return np.array([[i % 256, i % 256 + 0.5]], np.float32)


def anothers(i: int) -> np.ndarray:
    return right(i + 1)


async def awaited(i: int) -> np.ndarray:
    await asyncio.sleep(0)
    return right(i)


async def awaited_anothers(i: int) -> np.ndarray:
    return anothers(i)


@pytest.mark.parametrize(
    "answer",
    [anothers(3), right(3)[0], [right(3), right(3)], np.vstack([right(3), right(4)])],
    ids=["another row's", "no batch axis", "one output too many", "one row too many"],
)
def test_an_answer_that_is_not_the_rows_is_found(expected: Expected, answer: Any) -> None:
    assert expected.wrong([(3, answer), (3, right(3)), (259, {"y": right(3)})]) == 1


@pytest.mark.parametrize("burner", [False, True])
def test_closed_load_counts_calls_and_checks_answers(expected: Expected, burner: bool) -> None:
    calls: list[int] = []

    def run(i: int) -> np.ndarray:
        calls.append(i)
        return right(i)

    figures = closed_load(run, n_threads=3, seconds=0.1, burner=burner, expected=expected)
    # Each thread's last call is over time, and not counted.
    assert figures["calls"] == len(calls) - 3
    assert figures["throughput_per_s"] == pytest.approx(figures["calls"] / 0.1)
    assert 0 <= figures["fewest_calls"] <= figures["calls"] / 3
    assert figures["wrong"] == 0
    assert figures["p50_us"] <= figures["p99_us"]
    assert len({i % 256 for i in calls}) > 3
    assert ("burner_per_s" in figures) == burner


def test_asyncio_load_lets_every_task_call(expected: Expected) -> None:
    try:
        figures = asyncio_load(awaited, n_tasks=8, seconds=0.1, expected=expected)
        wrong = asyncio_load(awaited_anothers, n_tasks=8, seconds=0.1, expected=expected)["wrong"]
    finally:
        close_loop()
    assert figures["fewest_calls"] > 0
    assert figures["throughput_per_s"] == pytest.approx(figures["calls"] / 0.1)
    assert figures["wrong"] == 0 < wrong


def test_a_load_that_gets_wrong_answers_says_so(expected: Expected) -> None:
    figures = closed_load(anothers, n_threads=2, seconds=0.05, expected=expected)
    assert figures["calls"] > 0
    assert figures["wrong"] > 0


def test_an_error_of_a_rival_ends_the_load() -> None:
    def run(i: int) -> None:
        if i > 40:
            raise ZeroDivisionError("from call 41 on")

    with pytest.raises(ZeroDivisionError, match="from call 41 on"):
        closed_load(run, n_threads=2, seconds=60)


def test_the_burner_computes_once_lit_until_it_is_left() -> None:
    with Burner() as burner:
        closed_load(right, n_threads=1, seconds=0.02)
        assert burner.steps == 0
        burner.light()
        closed_load(right, n_threads=1, seconds=0.05)
        assert burner.steps > 0
    stopped_at = burner.steps
    closed_load(right, n_threads=1, seconds=0.02)
    assert burner.steps == stopped_at


def test_arrivals_are_poisson_and_seeded() -> None:
    due = poisson_schedule(2000, 10, seed=7)
    assert np.array_equal(due, poisson_schedule(2000, 10, seed=7))
    assert not np.array_equal(due[:100], poisson_schedule(2000, 10, seed=8)[:100])
    assert due.dtype == np.int64
    assert (np.diff(due) >= 0).all()
    assert 0 <= due[0] <= due[-1] < 10e9
    # Counts of a Poisson process have their mean for variance; gaps have their mean for deviation.
    assert abs(len(due) - 20_000) < 5 * math.sqrt(20_000)
    gaps = np.diff(due)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)


def test_open_latency_runs_from_the_due_time() -> None:
    """Ten calls due 1 ms apart, all issued and answered at once 10 ms after the first was due."""
    due = np.arange(10) * 1_000_000
    done = np.full(10, 10_000_000)
    records = np.stack([np.arange(10), done - 1000, done, np.zeros(10)], axis=1).astype(np.int64)
    figures = _figures(records, due, 0, seconds=0.02, deadline_s=0.005)
    assert figures["mean_us"] == pytest.approx(5500)
    assert figures["p50_us"] == pytest.approx(5500)
    assert figures["lag_p99_us"] == pytest.approx(9999 - 90)
    assert figures["offered_per_s"] == figures["throughput_per_s"] == 500
    # Answered within 5 ms: the calls that were due at 5, 6, 7, 8 and 9 ms.
    assert figures["goodput_per_s"] == 250
    # Answers that come when no more calls do are no sign of what can be kept up.
    assert _figures(records, due, 0, seconds=0.01, deadline_s=0.005)["throughput_per_s"] == 0


def test_refusals_and_abandoned_calls_are_no_goodput() -> None:
    due = np.zeros(4)
    #                    call, issued, done, outcome: answered, refused, expired, abandoned
    records = np.array([[0, 0, 2000, 0], [1, 0, 500, 1], [2, 0, 900, 2], [3, 10**7, 10**7, 3]])
    figures = _figures(records, due, 0, seconds=1.0, deadline_s=1.0)
    counts = {key: figures[key] for key in ("calls", "refused", "expired", "abandoned")}
    assert counts == {"calls": 4, "refused": 1, "expired": 1, "abandoned": 1}
    assert figures["throughput_per_s"] == figures["goodput_per_s"] == 1
    assert figures["refusal_p50_us"] == figures["refusal_p99_us"] == 0.5
    assert figures["p50_us"] == pytest.approx((2 + 10_000) / 2)


class RefusedError(Exception):
    pass


class ExpiredError(Exception):
    pass


def test_open_load_makes_every_call_once(expected: Expected) -> None:
    calls: list[int] = []

    def run(i: int) -> np.ndarray:
        calls.append(i)
        if i % 3 == 1:
            raise RefusedError
        if i % 3 == 2:
            raise ExpiredError
        return right(i)

    figures = open_load(
        run,
        rate_per_s=1000,
        seconds=0.1,
        n_threads=4,
        deadline_s=60,
        refused=(RefusedError,),
        expired=(ExpiredError,),
        expected=expected,
    )
    n_calls = len(poisson_schedule(1000, 0.1, seed=7))
    assert sorted(calls) == list(range(n_calls))
    assert figures["calls"] == n_calls
    assert figures["refused"] == len(range(1, n_calls, 3))
    assert figures["expired"] == len(range(2, n_calls, 3))
    assert figures["goodput_per_s"] == pytest.approx(len(range(0, n_calls, 3)) / 0.1)
    assert figures["wrong"] == 0
    assert figures["cpu_percent"] > 0


def test_overload_offers_a_multiple_of_the_peak(expected: Expected) -> None:
    turn = threading.Lock()
    timeouts: list[float] = []

    def run(i: int) -> np.ndarray:
        with turn:
            threading.Event().wait(1e-3)
            return right(i)

    def run_within(i: int, timeout_s: float) -> np.ndarray:
        timeouts.append(timeout_s)
        if turn.locked():
            raise RefusedError
        return run(i)

    rival = SimpleNamespace(run=run, run_within=run_within, refused=(RefusedError,))
    order = {"factor": 3, "seconds": 0.1, "peak_seconds": 0.1, "n_threads": 16, "deadline_s": 0.5}
    figures = drive(rival, expected, {"kind": "overload", **order})
    n_calls = len(poisson_schedule(3 * figures["peak_per_s"], 0.1, seed=7))
    assert figures["calls"] == n_calls == len(timeouts)
    assert all(0 < timeout_s <= 0.5 for timeout_s in timeouts)
    assert figures["refused"] > 0
    assert figures["goodput_of_peak"] == figures["goodput_per_s"] / figures["peak_per_s"]
    with pytest.raises(ValueError, match="Expected a kind of load, got 'flood'"):
        drive(rival, expected, {"kind": "flood"})


@pytest.mark.parametrize("scenario", ["server", "offline"])
def test_loadgen_gives_its_verdict_and_our_figures(expected: Expected, scenario: Any) -> None:
    pytest.importorskip("mlperf_loadgen", reason="no mlcommons-loadgen for this Python")
    figures = loadgen(
        right, scenario=scenario, target_per_s=500, seconds=0.3, n_rows=256, expected=expected
    )
    assert figures["wrong"] == 0
    assert figures["throughput_per_s"] > 0
    assert figures["valid"] in (0.0, 1.0)
    assert figures["p50_us"] <= figures["p99_us"]


def test_loadgens_summary_is_read() -> None:
    summary = """Scenario : Server
Completed samples per second    : 1957.64
Result is : INVALID
Mean latency (ns)               : 1210651
50.00 percentile latency (ns)   : 1205247
99.00 percentile latency (ns)   : 1345660
"""
    assert read_summary(summary) == pytest.approx(
        {
            "valid": 0.0,
            "throughput_per_s": 1957.64,
            "mean_us": 1210.651,
            "p50_us": 1205.247,
            "p99_us": 1345.66,
        }
    )
    with pytest.raises(ValueError, match="a line `Result is`"):
        read_summary("nothing of the kind")


@drawn(st.floats(1, 1e6), st.floats(1, 1e6))
def test_the_search_closes_in_on_the_highest_valid_rate(first: float, highest: float) -> None:
    search = RateSearch(first)
    tried = []
    for _ in range(60):
        tried.append(search.rate_per_s)
        search.say(search.rate_per_s <= highest)
    assert search.highest_per_s == max(rate for rate in tried if rate <= highest)
    assert search.highest_per_s == pytest.approx(highest, rel=1e-3)


# -- the batchers that stand for others ----------------------------------------------------------------


class Doubling:
    """Doubles lists of numbers, records them, and holds its first call until told to go on."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.began = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        self.began.set()
        assert self.go_on.wait(60)
        if 13 in items:
            raise ValueError("13 is in this batch")
        return [2 * item for item in items]


def test_what_comes_in_during_a_run_shares_the_next() -> None:
    function = Doubling()
    batcher = ThreadBatcher(function, max_batch_size=4)
    with ThreadPoolExecutor(7) as pool:
        first = pool.submit(batcher, 0)
        assert function.began.wait(60)
        others = [pool.submit(batcher, item) for item in range(1, 7)]
        while batcher._queue.qsize() < 6:
            threading.Event().wait(1e-3)
        function.go_on.set()
        assert [call.result(60) for call in (first, *others)] == [0, 2, 4, 6, 8, 10, 12]
    assert [len(batch) for batch in function.batches] == [1, 4, 2]


def test_an_error_reaches_every_call_of_its_batch_and_no_other() -> None:
    function = Doubling()
    function.go_on.set()
    batcher = ThreadBatcher(function, max_batch_size=1, n_threads=2)
    with pytest.raises(ValueError, match="13 is in this batch"):
        batcher(13)
    assert batcher(14) == 28


def test_the_loop_batcher_waits_for_a_full_batch_or_its_time() -> None:
    function = Doubling()
    function.go_on.set()

    async def scenario() -> list[Any]:
        patient = LoopBatcher(function, max_batch_size=3, batch_wait_timeout_s=60)
        full = await asyncio.gather(*map(patient, range(6)))
        await patient.close()
        hasty = LoopBatcher(function, max_batch_size=3, batch_wait_timeout_s=0.0)
        lonely = await hasty(6)
        failed = await asyncio.gather(hasty(13), hasty(14), return_exceptions=True)
        await hasty.close()
        return [*full, lonely, *map(str, failed)]

    error = "13 is in this batch"
    assert asyncio.run(scenario()) == [0, 2, 4, 6, 8, 10, 12, error, error]
    assert function.batches == [[0, 1, 2], [3, 4, 5], [6], [13, 14]]


# -- what is shown ---------------------------------------------------------------------------------------


def result(load: str, label: str, **figures: float) -> LoadResult:
    return LoadResult(load, label, label, figures, 1.5, 1.25, 1.75, 1.1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_load_has_a_table(kind: str) -> None:
    table = load_table("title", kind)
    figures = {"throughput_per_s": 1234.0, "goodput_per_s": 1234.0, "cpu_percent": 1234.0}
    fill(table, "mlp", kind, [result("8", "us", **figures), result("8", "them", p99_us=math.nan)])
    console = Console(width=200)
    with console.capture() as shown:
        console.print(table)
    text = shown.get()
    assert "1,234" in text
    assert text.count("mlp") == text.count(" 8 ") == 1
    assert "them" in text


def test_the_best_of_the_others_is_chosen_over_all_rounds() -> None:
    """The second is best in the median, although the third wins a round."""
    values = np.array([[10.0, 20.0, 5.0], [10.0, 20.0, 40.0], [10.0, 40.0, 5.0]])
    assert best_other(values, 0, more_is_better=True) == 0.5
    assert best_other(values, 1, more_is_better=True) == 2.0
    assert best_other(values, 0, more_is_better=False) == 2.0
    assert math.isnan(best_other(values[:, :1], 0, more_is_better=True))


def test_open_load_is_drawn(tmp_path: Path) -> None:
    results = [
        result(
            f"{share}", label, offered_per_s=share * 1e4, throughput_per_s=9e3, p99_us=share * 1e3
        )
        for share in (0.5, 1.0)
        for label in ("us", "them")
    ]
    paths = plot_open_load("mlp", results, tmp_path / "pictures")
    assert [path.name for path in paths] == ["throughput-mlp.png", "p99-mlp.png"]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_cases_variants_and_loads_are_chosen_by_name() -> None:
    every = _chosen([], quick=False)
    assert tuple(every) == CASES
    assert every["one_call"] == dict.fromkeys(("tiny", "mlp", "rf", "cnn"), ())
    assert every["closed_load"]["mlp"] == ("1", "8", "32", "8+burner", "32+burner")
    assert _chosen(["closed_load/mlp@batch/8", "closed_load/mlp@batch/32"], quick=False) == {
        "closed_load": {"mlp@batch": ("8", "32")}
    }
    assert _chosen(["closed_load/*/32"], quick=True)["closed_load"] == {
        "mlp": ("32",),
        "mlp_large": ("32",),
    }
    with pytest.raises(ValueError, match="expected a load of asyncio_load \\(64\\), got '65'"):
        _chosen(["asyncio_load/mlp/65"], quick=False)
    with pytest.raises(ValueError, match="it has none"):
        _chosen(["one_call/mlp/8"], quick=False)


@pytest.mark.slow
def test_a_quick_look_at_every_load(tmp_path: Path) -> None:
    """All rivals of all loads answer alike, and every load gives its figures."""
    path = tmp_path / "results.json"
    cases = (
        "closed_load/tiny/8",
        "asyncio_load/tiny",
        "open_load/cnn_deep/0.3",
        "loadgen/mlp_large/server",
        "cpu_use",
    )
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", *cases, "--quick", "--json", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(path.read_text())["results"]
    deciding: dict[str, Callable[[dict[str, float]], float]] = {
        "closed_load": lambda figures: figures["throughput_per_s"],
        "asyncio_load": lambda figures: figures["throughput_per_s"],
        "open_load": lambda figures: figures["goodput_per_s"] + 1,
        "loadgen": lambda figures: figures["throughput_per_s"] + 1,
        "cpu_use": lambda figures: figures["cpu_percent"],
    }
    assert {item["case"] for item in results} == set(deciding)
    for item in results:
        assert deciding[item["case"]](item["figures"]) > 0, item


# -- whole web apps --------------------------------------------------------------------------------------

FIGURES = (
    'FIGURES {"requests": 8000, "duration_us": 2000000, "p50_us": 7000, "p99_us": 9500, "max_us": 12000, '
    '"errors": {"connect": 0, "read": 3, "write": 0, "status": 2, "timeout": 0}}'
)


def web_load(requests: int, **errors: int) -> wrk.Load:
    return wrk.Load(float(requests), 7.0, 9.0, 12.0, requests, errors)


def turn(requests: int, **errors: int) -> Turn:
    return Turn(web_load(requests, **errors), 300.0)


def test_the_figures_of_wrk_are_read() -> None:
    said = f"Running 2s test @ http://127.0.0.1:8000\n{FIGURES}\nRequests/sec: 1\n"
    assert wrk.read(said) == wrk.Load(4000.0, 7.0, 9.5, 12.0, 8000, {"read": 3, "status": 2})
    with pytest.raises(wrk.WrkError, match="Expected wrk to print a line that begins with"):
        wrk.read("Requests/sec: 1\n")


def test_a_machine_without_wrk_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cases that were asked for by name end it; otherwise they are left out."""
    monkeypatch.setenv("PATH", "")
    console = Console(width=200)
    chosen = _chosen(["accelerate", "one_call"], quick=True)
    with pytest.raises(wrk.MissingToolError, match="apt-get install wrk"):
        _check_tools(console, chosen, named=True)
    with console.capture() as shown:
        _check_tools(console, chosen, named=False)
    assert list(chosen) == ["one_call"]
    assert "left out: accelerate. The web benchmarks need wrk" in shown.get()
    _check_tools(console, chosen, named=True)


@pytest.mark.parametrize(
    ("given", "expected", "is_equal"),
    [
        ({"answers": [[0.25, 0.75]]}, {"answers": [[0.25 + 1e-7, 0.75]]}, True),
        ({"answers": [[0, 1]]}, {"answers": [[0.0, 1.0]]}, True),
        ({"answers": [[0.26, 0.74]]}, {"answers": [[0.25, 0.75]]}, False),
        ({"answers": [[0.25]]}, {"answers": [[0.25, 0.75]]}, False),
        ({"answer": 1}, {"answers": 1}, False),
        ({"label": "a", "p": 0.5}, {"label": "b", "p": 0.5}, False),
        (1, True, False),
        ([0.5], 0.5, False),
        (None, 0.5, False),
        ("hello", "hello", True),
    ],
)
def test_json_answers_are_compared_to_rounding(given: Any, expected: Any, is_equal: bool) -> None:
    assert equal(given, expected) is is_equal


class _Web(ThreadingHTTPServer):
    """Answers {"n": ...} with the n of the body; where that is 13 with 500."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: set[bytes] = set()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """wrk breaks its connections off when its time is up."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        assert isinstance(self.server, _Web)
        self.server.seen.add(body)
        n = json.loads(body)["n"]
        answer = json.dumps({"n": n}).encode() if n != 14 else b"hello"
        self.send_response(500 if n == 13 else 200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def web() -> Iterator[_Web]:
    with _Web() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_answers_of_a_server_are_checked(web: _Web) -> None:
    bodies = [f'{{"n": {n}}}'.encode() for n in range(12)]
    check(web.server_port, "/", bodies, [{"n": n} for n in range(12)])
    assert web.seen == set(bodies)
    check(web.server_port, "/", [b'{"n": 14}'], ["hello"])
    with pytest.raises(DifferentAnswersError, match=r"row 1: expected \{'n': 2\}, got \{'n': 1\}"):
        check(web.server_port, "/", bodies[:2], [{"n": 0}, {"n": 2}])
    with pytest.raises(DifferentAnswersError, match=r"status 200 .* got 500"):
        check(web.server_port, "/", [b'{"n": 13}'], [{"n": 13}])


needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


@needs_wrk
@pytest.mark.slow
def test_wrk_sends_every_body_and_counts_what_fails(web: _Web, tmp_path: Path) -> None:
    path = tmp_path / "bodies.txt"
    bodies = [f'{{"n": {n}}}' for n in range(10)]
    path.write_text("".join(f"{body}\n" for body in bodies))
    figures = wrk.load(web.server_port, "/", path, seconds=1)
    assert web.seen == {body.encode() for body in bodies}
    assert figures.requests > 0
    assert figures.errors == {}
    assert 0 < figures.p50_ms <= figures.p99_ms <= figures.max_ms
    path.write_text('{"n": 13}\n')
    figures = wrk.load(web.server_port, "/", path, seconds=1)
    assert figures.errors["status"] > 0


@pytest.mark.slow
def test_a_server_is_up_with_both_workers_and_gone_afterwards(tmp_path: Path) -> None:
    with serving("gunicorn", "benchmarks.web.apps.flask_hello", tmp_path) as server:
        assert len(set(server.workers)) == 2
        check(server.port, "/predict", [b"{}"] * 8, ["hello"] * 8)
        assert server.cpu_s() >= 0 or not Path("/proc/self/stat").exists()
    with pytest.raises(ConnectionRefusedError):
        ask(server.port, "/predict", b"{}")


@pytest.mark.slow
def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    (tmp_path / "broken_app.py").write_text("raise RuntimeError('no such luck')\n")
    with (
        pytest.raises(ServerError, match=r"(?s)gunicorn with broken_app ended with .*no such luck"),
        serving("gunicorn", "broken_app", tmp_path),
    ):
        pass


@needs_wrk
def test_an_app_that_fails_takes_no_other_figures_with_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(case: str, variant: str, effort: Any) -> Any:
        if variant == "flask":
            raise ServerError("flask: no such luck")
        return results_of(APPS, [Target("us", "them", 2.5)], [{"us": turn(3), "them": turn(1)}])

    monkeypatch.setattr("benchmarks.__main__.measure_web", measured)
    path = tmp_path / "report.json"
    assert main(["accelerate", "--quick", "--json", str(path)]) == 1
    assert "flask: no such luck" in capsys.readouterr().out
    results = json.loads(path.read_text())["results"]
    assert [item["variant"] for item in results] == ["django", "django"]


def test_every_app_has_its_turn_in_a_drawn_order() -> None:
    apps = WEB["asgi"].apps
    orders = [tuple(app.name for app in order(apps, number)) for number in range(5)]
    assert all(sorted(names) == sorted(app.name for app in apps) for names in orders)
    assert len(set(orders)) > 1
    assert orders[0] == tuple(app.name for app in order(apps, 0))


@pytest.mark.parametrize("case", ["web_throughput", "accelerate"])
def test_what_web_cases_compare_is_there(case: str) -> None:
    """The apps of `accelerate` are written when it is prepared."""
    module = importlib.import_module(f"benchmarks.cases.{case}")
    for variant in module.WEB.values():
        names = [app.name for app in variant.apps]
        assert len(set(names)) == len(names)
        assert {name for target in variant.targets for name in (target.app, target.rival)} <= {
            *names
        }
        for app in variant.apps:
            assert app.server in COMMANDS
            if app.module.startswith("benchmarks."):
                assert importlib.util.find_spec(app.module) is not None


def test_a_variant_without_an_app_has_no_ratio_of_it_either() -> None:
    less = WEB["flask"].without("flask_hello")
    assert [app.name for app in less.apps] == [app.name for app in WEB["flask"].apps[1:]]
    assert less.targets
    assert "flask_hello" not in {name for item in less.targets for name in (item.app, item.rival)}


APPS = (App("us", "ours", "a", "gunicorn"), App("them", "theirs", "b", "gunicorn"))


def test_web_ratios_are_taken_within_rounds() -> None:
    rounds = [
        {"us": turn(300), "them": turn(100)},
        {"us": turn(60), "them": turn(30)},
        {"us": turn(400), "them": turn(100)},
    ]
    ours, theirs = results_of(APPS, [Target("us", "them", 2.5)], rounds)
    assert ours.ratios == [Ratio("them", "theirs", 3.0, 2.0, 4.0, 2.5)]
    assert (ours.requests_per_s, ours.requests_per_s_low, ours.requests_per_s_high) == (
        300,
        60,
        400,
    )
    assert (ours.requests, ours.invalid, ours.errors) == (760, "", {})
    assert [item["load"]["requests"] for item in theirs.rounds] == [100, 30, 100]
    assert theirs.ratios == []
    json.dumps(asdict(ours))


def test_a_request_that_failed_makes_a_run_invalid() -> None:
    rounds = [
        {"us": turn(300, read=2), "them": turn(100)},
        {"us": turn(300, read=1, status=4), "them": turn(0)},
    ]
    ours, theirs = results_of(APPS, [Target("us", "them", 2.5)], rounds)
    assert ours.errors == {"read": 3, "status": 4}
    assert ours.invalid == "3 read errors, 4 status errors"
    assert theirs.invalid == "a round without an answer"
    assert math.isnan(ours.ratios[0].high)


def test_web_figures_are_shown_with_what_is_wanted() -> None:
    rounds = [{"us": turn(3000), "them": turn(1000, timeout=1)}]
    targets = [Target("us", "them", 2.5), Target("them", "us", 0.9), Target("us", "us")]
    apps, ratios = app_table("title"), ratio_table()
    fill_web(apps, ratios, "flask", results_of(APPS, targets, rounds))
    console = Console(width=200)
    with console.capture() as shown:
        console.print(apps, ratios)
    text = shown.get()
    assert "3,000" in text
    assert "1 timeout errors" in text
    assert "2.5x: met" in text
    assert "0.9x: missed" in text
    assert text.count("x: ") == 2


def web_report(*, quick: bool = False, **errors: int) -> dict[str, Any]:
    rounds = [{"us": turn(3000, **errors), "them": turn(1000)}]
    names = ("python", "gunicorn", "uvicorn", "granian", "flask", "django", "fastapi")
    return {
        "machine": {"processor": "a processor", "cores": 2},
        "versions": dict.fromkeys(names, "1.0"),
        "quick": quick,
        "results": [
            {"case": "one_call", "label": "another case"},
            *(
                {"case": "web_throughput", "variant": "flask", **asdict(item)}
                for item in results_of(APPS, [Target("us", "them", 2.5)], rounds)
            ),
        ],
    }


def test_the_page_gets_the_figures_of_a_report() -> None:
    table = markdown(web_report())
    ours, theirs = table.splitlines()[2:4]
    assert ours == (
        "| `web_throughput/flask` | ours | 3,000 | 7.00 | 9.00 | 300 | theirs: 3x (3 - 3) |"
    )
    assert theirs.startswith("|  | theirs | 1,000 |")
    assert "a processor, 2 cores; python 1.0, gunicorn 1.0" in table
    page = put("a\n<!-- web figures: begin -->\nold\n<!-- web figures: end -->\nb\n", table)
    assert page.startswith("a\n<!-- web figures: begin -->\n\n| | |")
    assert page.endswith("\n\n<!-- web figures: end -->\nb\n")
    assert "old" not in page
    assert put(page, table) == page


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (web_report(read=2), "Expected a run without errors, got 2 read errors of ours"),
        (web_report(quick=True), "Expected a full run"),
        ({"results": []}, "found none"),
    ],
    ids=["errors", "quick", "none"],
)
def test_a_report_that_proves_nothing_fills_no_page(report: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        markdown(report)


def test_the_documentation_has_a_place_for_the_figures() -> None:
    assert "a table" in put((ROOT / "docs" / "benchmarks.md").read_text(), "a table\n")


@pytest.mark.parametrize("host", ["flask", "django"])
def test_one_line_is_all_that_accelerate_takes(host: str) -> None:
    source = (HANDLERS / f"{host}_handler.py").read_text()
    plain = without_decorator(source)
    lines = source.splitlines()
    lines.remove("@infersdk.accelerate")
    assert plain.splitlines() == lines
    ast.parse(plain)
    with pytest.raises(ValueError, match=r"Expected one line `@infersdk\.accelerate`"):
        without_decorator(plain)
