"""What a user may set: what is taken, what is refused and in which words."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infersdk.options import Batching, Execution

BATCHING = Batching(
    enabled=True,
    max_batch_size=8,
    max_queue_size=100,
    max_queue_bytes=2**20,
    timeout_s=0.5,
    pad={"L": {"ids": 0, "mask": 0}},
    pad_to="buckets",
)
EXECUTION = Execution(
    threads=2,
    instances=3,
    devices=("cuda:0", "cuda:1"),
    providers=("CUDA", "CPU"),
    provider_options={"CUDA": {"cudnn_conv_algo_search": "HEURISTIC"}},
    provider_fallback=True,
    release_gil=True,
    graph_optimization="basic",
    calibration_s=1.5,
)


@pytest.mark.parametrize("options", [Batching(), BATCHING, Execution(), EXECUTION], ids=repr)
def test_options_keep_what_they_are_given(options: Any) -> None:
    values = {item.name: getattr(options, item.name) for item in fields(options)}
    assert type(options)(**values) == options
    assert pickle.loads(pickle.dumps(options)) == options
    assert copy.deepcopy(options) == options
    for name, value in values.items():
        with pytest.raises(FrozenInstanceError):
            setattr(options, name, value)


@pytest.mark.parametrize("kind", [Batching, Execution])
def test_options_are_given_by_name(kind: Any) -> None:
    with pytest.raises(TypeError):
        kind(1)
    with pytest.raises(TypeError, match="max_wait"):
        kind(max_wait=1)


def test_nothing_is_chosen_before_it_is_measured() -> None:
    batching, execution = Batching(), Execution()
    assert (batching.enabled, batching.max_batch_size, batching.timeout_s) == (None, None, None)
    assert (execution.threads, execution.instances, execution.release_gil) == (None, None, None)
    assert execution.devices is None
    assert execution.providers == "auto"
    assert dict(batching.pad) == dict(execution.provider_options) == {}


def test_switching_batching_off_changes_nothing_else() -> None:
    assert Batching.off() == replace(Batching(), enabled=False)


def test_defaults_are_not_shared() -> None:
    assert Batching().pad is not Batching().pad
    assert Execution().provider_options is not Execution().provider_options


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("max_batch_size", 1, 2**20),
        ("max_queue_size", 1, 2**31),
        ("max_queue_bytes", 1, 2**62),
    ],
)
@given(data=st.data())
def test_batching_takes_whole_numbers_within_limits(
    name: str, low: int, high: int, data: st.DataObject
) -> None:
    value = data.draw(st.sampled_from([low, high]) | st.integers(low, high))
    assert getattr(Batching(**{name: value}), name) == value
    bad = data.draw(
        st.sampled_from([low - 1, high + 1, -1, True, float(low), "1"])
        | st.integers(max_value=low - 1)
        | st.integers(min_value=high + 1)
    )
    with pytest.raises(
        ValueError, match=rf"Batching\.{name} must be a whole number from {low} to {high}, got "
    ):
        Batching(**{name: bad})


@pytest.mark.parametrize("name", ["threads", "instances"])
@given(data=st.data())
def test_execution_takes_whole_numbers_within_limits(name: str, data: st.DataObject) -> None:
    value = data.draw(st.integers(1, 1024))
    assert getattr(Execution(**{name: value}), name) == value
    bad = data.draw(st.sampled_from([0, 1025, -1, True, 1.0, "1"]) | st.integers(min_value=1025))
    with pytest.raises(
        ValueError, match=rf"Execution\.{name} must be a whole number from 1 to 1024, got "
    ):
        Execution(**{name: bad})


@pytest.mark.parametrize("timeout_s", [0, -1, 0.0, float("inf"), float("nan"), -float("inf")])
def test_a_timeout_is_a_time(timeout_s: float) -> None:
    with pytest.raises(
        ValueError, match=r"Batching\.timeout_s must be a positive number of seconds"
    ):
        Batching(timeout_s=timeout_s)
    assert Batching(timeout_s=1e-3).timeout_s == 1e-3


@pytest.mark.parametrize("calibration_s", [-1e-9, -1, 60.1, float("nan"), float("inf")])
def test_calibration_takes_a_minute_at_most(calibration_s: float) -> None:
    with pytest.raises(ValueError, match=r"calibration_s must be between 0 and 60 seconds, got"):
        Execution(calibration_s=calibration_s)
    for value in (0, 0.2, 60):
        assert Execution(calibration_s=value).calibration_s == value


@pytest.mark.parametrize("pad_to", ["longest", "", None, 8])
def test_pad_to_is_one_of_two(pad_to: Any) -> None:
    with pytest.raises(ValueError, match=r"pad_to must be 'batch' or 'buckets', got"):
        Batching(pad_to=pad_to)


@pytest.mark.parametrize("level", ["fast", "", None, 1])
def test_graph_optimization_is_one_of_four(level: Any) -> None:
    with pytest.raises(ValueError, match=r"must be 'all', 'extended', 'basic' or 'off', got"):
        Execution(graph_optimization=level)


@pytest.mark.parametrize("name", ["devices", "providers"])
@pytest.mark.parametrize("value", ["cuda", (), [], ("cuda", 1), (None,)], ids=repr)
def test_devices_and_providers_are_tuples_of_names(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"Execution\.{name} must be a tuple of names"):
        Execution(**{name: value})


@pytest.mark.parametrize("name", ["devices", "providers"])
def test_a_list_of_names_becomes_a_tuple(name: str) -> None:
    assert getattr(Execution(**{name: ["a", "b"]}), name) == ("a", "b")
