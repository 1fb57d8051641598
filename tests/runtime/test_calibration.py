"""Calibration: what is measured, on what, and what is said where nothing could be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import parser

from infersdk._native import Session
from infersdk.errors import ClosedError
from infersdk.runtime.calibration import Calibration, calibrate, neutral_inputs
from infersdk.types import MapSpec, OptionalSpec, SequenceSpec, TensorSpec


def session(text: str) -> Session:
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> graph {text}')
    return Session(model.SerializeToString(), name="measured")


NEG = "(float[N, 3] x) => (float[N, 3] y) { y = Neg(x) }"


def test_a_calibration_says_what_was_measured() -> None:
    assert str(Calibration(25e-6, 49, "one row")) == "25.0 us a run, median of 49 (one row)"
    assert str(Calibration(None, 0, "switched off")) == "not measured: switched off"


def test_the_given_row_is_measured() -> None:
    measured = session(NEG)
    row = [np.ones((1, 3), np.float32)]
    result = calibrate(measured, row, 5.0, "a row of the test's")
    assert result.run_s is not None
    assert 0 < result.run_s < 5
    assert result.n_runs > 1
    assert result.reason == "a row of the test's"
    assert measured.expected_run_s(row[0].nbytes) == pytest.approx(result.run_s, abs=2e-9)


@pytest.mark.parametrize("budget_s", [0, -1.0])
def test_without_a_budget_nothing_runs(budget_s: float) -> None:
    measured = session(NEG)
    result = calibrate(measured, None, budget_s, "unused")
    assert result == Calibration(None, 0, "switched off")
    assert measured.expected_run_s(12) is None


def test_a_budget_too_small_for_a_second_run_counts_the_first() -> None:
    result = calibrate(session(NEG), None, 1e-12, "unused")
    assert result.n_runs == 1
    assert result.run_s is not None


def test_neutral_inputs_stand_in_for_a_missing_row() -> None:
    measured = session(
        "(float[N, 3] x, string[N] t, bool b, int64[M] i) => (float[N, 3] y, string[N] u)"
        "{ y = Neg(x) u = Identity(t) }"
    )
    result = calibrate(measured, None, 1.0, "unused")
    assert result.run_s is not None
    assert result.reason == "neutral inputs of the graph's shapes"


@pytest.mark.parametrize(
    "text",
    [
        "(seq(float[N]) s) => (int64 n) { n = SequenceLength(s) }",
        "(optional(float[N]) s) => (bool n) { n = OptionalHasElement(s) }",
        "(float x, seq(float[N]) s) => (int64 n) { n = SequenceLength(s) }",
    ],
)
def test_inputs_that_cannot_be_made_up_are_not_measured(text: str) -> None:
    result = calibrate(session(text), None, 1.0, "unused")
    assert result.run_s is None
    assert "not all tensors of a known rank" in result.reason


@pytest.mark.parametrize(
    "text",
    [
        # Zeros are out of range, or do not add up.
        "(float[3] x, int64[1] i) => (float[1] y) { k = Constant<value_int = 5>() j = Add(i, k) y = Gather(x, j) }",
        "(float[N] x, float[3] z) => (float[K] y) { two = Concat<axis = 0>(x, x) y = Add(two, z) }",
    ],
)
def test_a_model_that_neutral_inputs_make_no_sense_to_still_serves(text: str) -> None:
    measured = session(text)
    result = calibrate(measured, None, 1.0, "unused")
    assert result.run_s is None
    assert result.n_runs == 0
    assert "neutral inputs of the graph's shapes did not run" in result.reason


def test_a_closed_session_says_so() -> None:
    measured = session(NEG)
    measured.close()
    with pytest.raises(ClosedError):
        calibrate(measured, None, 1.0, "unused")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (TensorSpec("x", "float32", ("N", 3)), np.zeros((1, 3), np.float32)),
        (TensorSpec("x", "float64", ()), np.zeros(())),
        (TensorSpec("x", "int64", (None, "M", 2)), np.zeros((1, 1, 2), np.int64)),
        (TensorSpec("x", "bool", ("N",)), np.zeros(1, bool)),
        (TensorSpec("x", "string", ("N", 2)), np.full((1, 2), "", dtype=object)),
        (TensorSpec("x", "uint8", (0,)), np.zeros(0, np.uint8)),
    ],
    ids=str,
)
def test_neutral_tensors(spec: TensorSpec, expected: np.ndarray) -> None:
    inputs = neutral_inputs([spec])
    assert inputs is not None
    (array,) = inputs
    assert array.dtype == expected.dtype
    assert array.shape == expected.shape
    assert array.tolist() == expected.tolist()


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "int4"])
def test_neutral_tensors_of_dtypes_beyond_numpy(dtype: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    inputs = neutral_inputs([TensorSpec("x", dtype, ("N", 2))])
    assert inputs is not None
    assert inputs[0].dtype == np.dtype(getattr(ml_dtypes, dtype))
    assert not inputs[0].astype(np.float32).any()


@pytest.mark.parametrize(
    "spec",
    [
        TensorSpec("x", "float32", None),
        SequenceSpec("x", TensorSpec("", "float32", ("N",))),
        MapSpec("x", "string", TensorSpec("", "float32", ())),
        OptionalSpec("x", TensorSpec("", "float32", ("N",))),
    ],
    ids=str,
)
def test_nothing_is_made_up_for_other_kinds(spec: Any) -> None:
    assert neutral_inputs([TensorSpec("first", "float32", (1,)), spec]) is None


def test_no_inputs_are_no_obstacle() -> None:
    assert neutral_inputs([]) == []
    result = calibrate(
        session("() => (float[2] y) { y = Constant<value_floats = [1.0, 2.0]>() }"), None, 1.0, ""
    )
    assert result.run_s is not None
