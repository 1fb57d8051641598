"""Recorded calls can be made again, bit by bit, whatever was in them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk.testing.traffic import from_json, to_json


@pytest.fixture
def churn(predictor_factory: Any) -> infersdk.Predictor:
    made: infersdk.Predictor = predictor_factory(
        "classifier", fields=["age", "income"], labels=["stays", "leaves"], name="churn"
    )
    return made


def test_what_was_recorded_is_answered_again(
    churn: infersdk.Predictor, record_traffic: Any, replay: Any, tmp_path: Path
) -> None:
    recorded = record_traffic(churn)
    row = {"age": 31, "income": 1000}
    assert isinstance(recorded, infersdk.Predictor)
    assert recorded.predict(row).tolist() == churn.predict(row).tolist()
    recorded.predict_proba([row, row])
    recorded(np.array([[1.0, 2.0]]))
    asyncio.run(recorded.apredict(row, method="predict_proba"))
    with pytest.raises(infersdk.InputError):
        recorded.predict({"age": "old", "income": 1})
    assert (recorded.n_calls, recorded.n_left_out) == (5, 0)
    assert Path(recorded.path) == tmp_path / "churn.jsonl"
    report = replay(recorded.path, churn)
    assert report.passed
    assert str(report) == "all of 5 recorded calls are answered as before"


def test_another_model_answers_differently(
    churn: infersdk.Predictor, record_traffic: Any, replay: Any, predictor_factory: Any
) -> None:
    recorded = record_traffic(churn)
    rows = np.random.default_rng(0).normal(size=(50, 2))
    recorded.predict([1, 2])
    recorded.predict_proba(rows)
    with pytest.raises(infersdk.InputError):
        recorded.predict({"years": 1})
    other = predictor_factory(
        "classifier", fields=["years", "income"], labels=["stays", "leaves"], seed=3
    )
    report = replay(recorded.path, other)
    assert not report.passed
    assert "of 3 recorded calls are answered differently" in str(report)
    assert "line 3: predict_proba differs in 50 of 50 rows" in str(report)
    assert "row 0: {'years': 0.125730" in str(report)


def test_errors_that_come_or_go_are_differences(
    fake_predictor: Any, record_traffic: Any, replay: Any
) -> None:
    fake = fake_predictor(1, faults=[None, infersdk.SessionError("broken"), KeyError("x")])
    recorded = record_traffic(fake)
    recorded.predict([1])
    for error in (infersdk.SessionError, KeyError):
        with pytest.raises(error):
            recorded.predict([1])
    other = fake_predictor(1, faults=[ValueError("no"), None, TypeError("y")])
    report = replay(recorded.path, other)
    assert report.differences == (
        "line 2: predict raised ValueError: no",
        "line 3: predict answered instead of raising SessionError: broken",
        "line 4: predict raised TypeError instead of KeyError: y",
    )


def test_the_original_is_left_as_it_is(churn: infersdk.Predictor, record_traffic: Any) -> None:
    before = dict(churn.__dict__)
    recorded = record_traffic(churn)
    recorded.predict([1, 2])
    churn.predict([1, 2])
    assert churn.__dict__ == before
    assert recorded.n_calls == 1
    recorded.finish()
    assert recorded.predict([1, 2]).tolist() == churn.predict([1, 2]).tolist()
    assert recorded.n_calls == 1


def test_the_size_is_limited(churn: infersdk.Predictor, record_traffic: Any, replay: Any) -> None:
    recorded = record_traffic(churn, max_bytes=1000)
    for _ in range(20):
        recorded.predict([1, 2])
    assert recorded.n_calls + recorded.n_left_out == 20
    assert 0 < recorded.n_calls < 20
    assert Path(recorded.path).stat().st_size <= 1000
    assert replay(recorded.path, churn).n_calls == recorded.n_calls


def test_calls_from_many_threads_are_whole_lines(
    churn: infersdk.Predictor, record_traffic: Any, replay: Any, hammer: Any
) -> None:
    recorded = record_traffic(churn)
    hammer(recorded.predict_proba, inputs=[[1, 2], [3, 4]], threads=4, calls=25)
    assert recorded.n_calls == 100
    assert replay(recorded.path, churn).passed


def test_what_has_no_form_is_left_out(fake_predictor: Any, record_traffic: Any) -> None:
    recorded = record_traffic(fake_predictor(1))
    recorded.predict([object(), {}])
    assert (recorded.n_calls, recorded.n_left_out) == (0, 1)


def test_nothing_but_a_recording_is_taken(
    churn: infersdk.Predictor, replay: Any, tmp_path: Path
) -> None:
    path = tmp_path / "other.jsonl"
    for text in ('{"a": 1}\n', "not json\n", '{"infersdk_traffic": 1}\n[]\n'):
        path.write_text(text)
        with pytest.raises(ValueError, match="Expected a recording of infersdk of version 1"):
            replay(path, churn)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        2**70,
        0.1,
        float("inf"),
        "text \ud800 \u2028",
        b"\x00\xff",
        [1, [2.5, "x"]],
        (1, (2, "a")),
        {"a": {"$array": 1}},
        {1: "a", (2, "b"): None},
        {"$bytes": "no bytes"},
    ],
)
def test_values_come_back_as_they_were(value: Any) -> None:
    again = from_json(json.loads(json.dumps(to_json(value), allow_nan=False)))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array([np.nan, -0.0, np.inf]),
        np.zeros((0, 4), np.int64),
        np.array(7, np.uint8),
        np.array([True, False]),
        np.array([1 + 2j]),
        np.arange(4, dtype=">i4"),
        np.arange(12).reshape(3, 4)[:, ::2],
        np.array(["a", "bcd"]),
        np.array([b"a", b"\x00b"]),
        np.array([None, "x", 1.5], object),
        np.array(["2020-01-01"], "datetime64[D]"),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_come_back_bit_by_bit(array: Any) -> None:
    again = from_json(json.loads(json.dumps(to_json(array), allow_nan=False)))
    assert again.dtype == array.dtype.newbyteorder("=") or array.dtype.kind in "OUS"
    assert again.shape == array.shape
    assert again.astype(array.dtype).tobytes() == array.tobytes() or array.dtype.kind == "O"
    assert again.tolist() == array.tolist() or np.isnan(array).any()


def test_numbers_of_numpy_and_nan() -> None:
    again = from_json(json.loads(json.dumps(to_json({"a": np.float32(1.5), "b": float("nan")}))))
    assert again["a"] == 1.5
    assert type(again["a"]) is np.float32
    assert np.isnan(again["b"])


def test_frames_and_tensors_come_back_as_rows_and_arrays() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"age": [31, 32], "city": ["Oslo", "Rome"]})
    assert from_json(to_json(frame)) == [{"age": 31, "city": "Oslo"}, {"age": 32, "city": "Rome"}]
    assert from_json(to_json(frame.iloc[0])) == {"age": 31, "city": "Oslo"}
    sparse = pytest.importorskip("scipy.sparse")
    assert from_json(to_json(sparse.csr_matrix([[0, 1]]))).tolist() == [[0, 1]]
