"""Rows of several calls in one container, and answers cut: what is put together comes apart as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infersdk.binding.containers import concatenate, cut, kind

sparse = pytest.importorskip("scipy.sparse")

COUNTS = st.lists(st.integers(1, 4), min_size=1, max_size=6)
SEEDS = st.integers(0, 2**31)


def frame(rng: np.random.Generator, n: int) -> pd.DataFrame:
    texts = np.array(["a", "bb", None, float("nan")], dtype=object)
    return pd.DataFrame(
        {
            "double": rng.normal(size=n),
            "single": rng.normal(size=n).astype(np.float32),
            "short": rng.integers(-5, 5, n).astype(np.int16),
            "truth": rng.integers(0, 2, n).astype(bool),
            "text": pd.Series(texts[rng.integers(0, 4, n)], dtype=object),
            "category": pd.Categorical.from_codes(rng.integers(-1, 3, n), ["z", "a", "k"]),
            "maybe": pd.array(rng.integers(0, 9, n), dtype="Int64"),
            7: pd.Series(rng.choice(["x", "y"], n), dtype="string"),
        }
    )


def tensor(rng: np.random.Generator, n: int) -> Any:
    torch = pytest.importorskip("torch")
    return torch.from_numpy(rng.normal(size=(n, 3)))


MAKERS = {
    "frame": frame,
    "numbers": lambda rng, n: pd.DataFrame(rng.normal(size=(n, 3)), columns=list("abc")),
    "series": lambda rng, n: pd.Series(rng.normal(size=n), name="s"),
    "categories": lambda rng, n: pd.Series(
        pd.Categorical.from_codes(rng.integers(-1, 2, n), ["b", "a"], ordered=True)
    ),
    "array": lambda rng, n: rng.normal(size=(n, 2, 3)),
    "objects": lambda rng, n: np.array(["a", None, 3], dtype=object)[rng.integers(0, 3, (n, 2))],
    "fortran": lambda rng, n: np.asfortranarray(rng.integers(0, 9, (n, 3)).astype(np.int8)),
    "texts": lambda rng, n: [str(i) for i in rng.integers(0, 99, n)],
    "csr": lambda rng, n: sparse.random(n, 5, 0.4, format="csr", random_state=rng),
    "csr_array": lambda rng, n: sparse.csr_array(rng.integers(0, 2, (n, 4)).astype(np.float32)),
    "tensor": tensor,
    "tuple": lambda rng, n: (rng.normal(size=n), tensor(rng, n)),
    "dict": lambda rng, n: {"x": rng.normal(size=(n, 1)), "y": (tensor(rng, n),)},
}


def assert_same(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(ours, pd.DataFrame):
        pd.testing.assert_frame_equal(ours, theirs, check_index_type=False)
    elif isinstance(ours, pd.Series):
        pd.testing.assert_series_equal(ours, theirs, check_index_type=False)
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for name in ours:
            assert_same(ours[name], theirs[name])
    elif isinstance(ours, tuple) or (isinstance(ours, list) and ours and hasattr(ours[0], "shape")):
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            assert_same(mine, other)
    elif isinstance(ours, list):
        assert ours == theirs
    elif hasattr(ours, "tocsr"):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert (ours.toarray() == theirs.toarray()).all()
    else:
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert bool((ours == theirs).all())


@pytest.mark.parametrize("name", MAKERS)
@given(counts=COUNTS, seed=SEEDS)
def test_what_is_put_together_comes_apart(name: str, counts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [MAKERS[name](rng, n) for n in counts]
    assert len({kind(part) for part in parts}) == 1
    whole = concatenate(parts)
    assert kind(whole) == kind(parts[0])
    assert_same(concatenate(parts, checked=True), whole)
    for mine, part in zip(cut(whole, counts), parts, strict=True):
        assert_same(mine, part)


@given(counts=COUNTS, seed=SEEDS)
def test_outputs_in_a_list_are_cut_one_by_one(counts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    answer = [rng.normal(size=(sum(counts), 2)), rng.normal(size=sum(counts))]
    parts = cut(answer, counts)
    assert [len(part) for part in parts] == [2] * len(counts)
    for i in range(2):
        assert_same(np.concatenate([part[i] for part in parts]), answer[i])


def test_parts_share_nothing() -> None:
    whole = np.arange(6.0).reshape(3, 2)
    first, second = cut(whole, [1, 2])
    first[:] = -1
    assert second.base is None
    assert whole.tolist() == [[0, 1], [2, 3], [4, 5]]


CATEGORIES = [
    pd.DataFrame({"c": pd.Categorical(["a"], list(values))}) for values in ("ab", "ba", "abc")
]


@pytest.mark.parametrize(
    "parts",
    [
        [np.zeros((1, 2)), np.zeros((1, 3))],
        [np.zeros((1, 2)), np.zeros((1, 2), np.float32)],
        [np.zeros((1, 2)), [1]],
        [pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})],
        [pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1.5]})],
        CATEGORIES[:2],
        CATEGORIES[::2],
        [
            pd.DataFrame({"c": pd.Categorical(["a"], ["a"], ordered=ordered)})
            for ordered in (True, False)
        ],
        [(np.zeros(1),), (np.zeros(1), np.zeros(1))],
        [{"a": np.zeros(1)}, {"b": np.zeros(1)}],
        [sparse.csr_matrix((1, 2)), sparse.csr_matrix((1, 3))],
    ],
)
def test_containers_that_differ_are_refused(parts: list[Any]) -> None:
    with pytest.raises(ValueError, match="cannot be put together"):
        concatenate(parts)


@pytest.mark.parametrize("container", ["text", 3, None, np.float64(1), np.array(3), (), {}, {1}])
def test_what_holds_no_rows_is_refused(container: Any) -> None:
    with pytest.raises(ValueError, match="cannot be put together"):
        kind(container)


def test_masked_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="MaskedArray cannot be put together"):
        concatenate([np.ma.zeros(2), np.ma.zeros(2)])


@pytest.mark.parametrize(
    "answer",
    [
        np.zeros(2),
        np.zeros(4),
        np.array(3),
        None,
        "abc",
        3.0,
        [1, 2],
        (),
        {},
        (np.zeros(3), np.zeros(2)),
        {"a": np.zeros(3), "b": 3},
        [np.zeros(2), np.zeros(2), np.zeros(2)],
        {1, 2, 3},
        pd.Series([1, 2, 3], index=[3, 4, 5]),
    ],
)
def test_answers_without_a_row_for_each_row_are_refused(answer: Any) -> None:
    with pytest.raises(ValueError, match=r"rows"):
        cut(answer, [1, 2])
