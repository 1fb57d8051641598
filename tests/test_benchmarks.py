"""The benchmark runner compares before it measures, and reports what it measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.runner import DifferentAnswersError, compare, ratio
from benchmarks.task import Task

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
