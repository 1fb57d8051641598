"""Rows that are made up: they fit the graph, differ from each other, and come again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infersdk.runtime.sample_rows import made_up_rows, neutral_inputs, row_variants
from infersdk.types import MapSpec, OptionalSpec, SequenceSpec, TensorSpec


def test_made_up_rows_fit_the_graph_and_come_again() -> None:
    specs = (
        TensorSpec("a", "float32", ("N", "L", 2)),
        TensorSpec("b", "int64", ("N", "L")),
        TensorSpec("c", "bool", (None, None)),
        TensorSpec("d", "string", ("N",)),
        TensorSpec("e", "uint8", (5, "K")),
        TensorSpec("f", "complex64", ("N",)),
        TensorSpec("g", "bfloat16", ("N", 1)),
    )
    pytest.importorskip("ml_dtypes")
    rows = made_up_rows(specs, 3, sizes=6)
    again = made_up_rows(specs, 3, sizes=6)
    assert rows is not None
    assert again is not None
    assert [array.shape for array in rows] == [
        (3, 6, 2),
        (3, 6),
        (3, 6),
        (3,),
        (5, 6),
        (3,),
        (3, 1),
    ]
    assert [str(array.dtype) for array in rows] == [
        "float32", "int64", "bool", "object", "uint8", "complex64", "bfloat16",
    ]  # fmt: skip
    assert set(rows[3]) <= {"", "a", "a b"}
    assert (rows[1][:, 0] == 1).all()
    assert set(np.unique(rows[1])) == {0, 1}
    for array, same in zip(rows, again, strict=True):
        assert array.tolist() == same.tolist()


def test_rows_of_other_kinds_are_not_made_up() -> None:
    tensor = TensorSpec("x", "float32", ("N",))
    assert made_up_rows((tensor, SequenceSpec("s", tensor)), 2) is None
    assert made_up_rows((TensorSpec("x", "float32", None),), 2) is None


def test_variants_are_like_the_row_and_unlike_each_other() -> None:
    specs = (
        TensorSpec("a", "float32", ("N", 3)),
        TensorSpec("b", "int64", ("N", 2, 4)),
        TensorSpec("c", "string", ("N",)),
        TensorSpec("d", "float16", ("N", 1)),
    )
    rows = [
        np.array([[1.5, 0.0, -2.0]], np.float32),
        np.arange(8).reshape(1, 2, 4),
        np.array(["x"], dtype=object),
        np.array([[2.0]], np.float16),
    ]
    varied = row_variants(specs, rows, 9)
    for array, row in zip(varied, rows, strict=True):
        assert array.shape == (9, *row.shape[1:])
        assert array.dtype == row.dtype
        assert array[:1].tolist() == row.tolist()
    assert len(np.unique(varied[0], axis=0)) == 9
    assert (np.sign(varied[0]) == np.sign(rows[0])).all()
    assert len(np.unique(varied[1], axis=0)) == 4
    assert all((np.sort(one, axis=-1) == rows[1][0]).all() for one in varied[1])
    assert set(varied[2]) == {"x"}
    assert row_variants(specs, rows, 1)[1].tolist() == rows[1].tolist()


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
    assert neutral_inputs([]) == []
