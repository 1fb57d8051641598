"""Rows with named fields through the Binder: every container, and every way to get them wrong."""

from __future__ import annotations

import collections
import datetime as dt
import pickle
import types
from dataclasses import make_dataclass
from decimal import Decimal
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from infersdk.binding import Binder, table
from infersdk.errors import InputError
from infersdk.types import Field, SequenceSpec, Signature, TensorSpec

FIELDS = (
    Field("age", "int", "numbers", 0),
    Field("city", "string", "strings", 0, missing="empty", categories=("Oslo", "Rome")),
    Field("income", "float", "numbers", 1, missing="nan"),
    Field("note", "string", None),
    Field("vip", "bool", "numbers", 2),
    Field("plan", "string", "strings", 1, categories=("basic", "gold"), unknown="refuse"),
    Field("score", "float", "numbers", 3),
)
MIXED = Binder(
    Signature(
        inputs=(
            TensorSpec("numbers", "float32", ("N", 4)),
            TensorSpec("strings", "string", ("N", 2)),
        ),
        outputs=(),
        methods=(),
        fields=FIELDS,
        container="dataframe",
    ),
    model="churn",
)
ROW = {"age": 41, "city": "Oslo", "income": 5e4, "vip": True, "plan": "gold", "score": 0.25}
NUMBERS = [41.0, 5e4, 1.0, 0.25]
STRINGS = ["Oslo", "gold"]
BY_POSITION = [41, "Oslo", 5e4, "ignored", True, "gold", 0.25]

ARRAY = Binder(
    Signature(
        inputs=(TensorSpec("features", "float32", ("N", 3)),),
        outputs=(),
        methods=(),
        fields=(
            Field("x0", "float", "features", 0),
            Field("x1", "float", "features", 1, missing="nan"),
            Field("x2", "int", "features", 2),
        ),
        container="array",
    ),
    model="iris",
)
MATRIX = np.array([[0.5, 1.5, 3.0], [-2.0, 0.1, -7.0]])

ONE = Binder(
    Signature(
        inputs=(TensorSpec("features", "float32", ("N", 1)),),
        outputs=(),
        methods=(),
        fields=(Field("x", "float", "features"),),
        container="array",
    ),
    model="one",
)


def check_mixed(bound, n_rows=1):
    numbers, strings = bound.arrays
    assert bound.n_rows == n_rows
    assert numbers.dtype == np.float32
    assert numbers.flags.c_contiguous
    assert numbers.tolist() == [NUMBERS] * n_rows
    assert strings.dtype == object
    assert strings.tolist() == [STRINGS] * n_rows


class MultiDict(dict):
    """As web frameworks have it: lists inside, the first value outside."""

    def __getitem__(self, key):
        return super().__getitem__(key)[0]

    def items(self):
        return [(key, values[0]) for key, values in super().items()]


class Row(NamedTuple):
    """Its order is not the fields'."""

    score: float
    plan: str
    vip: bool
    income: float
    city: str
    age: int


RECORD = np.dtype(
    [("plan", "U9"), ("age", "i4"), ("vip", "?"), ("score", "f8"), ("income", "f4"), ("city", "O")]
)
RECORDS = np.array([("gold", 41, True, 0.25, 5e4, "Oslo")] * 2, RECORD)


@pytest.mark.parametrize(
    ("rows", "n_rows"),
    [
        pytest.param(ROW, 1, id="dict"),
        pytest.param(dict(reversed(ROW.items())), 1, id="dict in another order"),
        pytest.param({**ROW, "note": "anything"}, 1, id="dict with an unread field"),
        pytest.param(collections.OrderedDict(ROW), 1, id="OrderedDict"),
        pytest.param(collections.ChainMap({"age": 41}, ROW), 1, id="ChainMap"),
        pytest.param(types.MappingProxyType(ROW), 1, id="mapping proxy"),
        pytest.param(
            MultiDict({key: [value, "other"] for key, value in ROW.items()}), 1, id="MultiDict"
        ),
        pytest.param([ROW, ROW], 2, id="list of dicts"),
        pytest.param((ROW, ROW), 2, id="tuple of dicts"),
        pytest.param([ROW, types.MappingProxyType(ROW)], 2, id="list of mappings"),
        pytest.param(Row(**ROW), 1, id="named tuple"),
        pytest.param([Row(**ROW), Row(**ROW)], 2, id="list of named tuples"),
        pytest.param(BY_POSITION, 1, id="flat list"),
        pytest.param(tuple(BY_POSITION), 1, id="flat tuple"),
        pytest.param([np.int64(41), *BY_POSITION[1:]], 1, id="flat list of scalars"),
        pytest.param([BY_POSITION, tuple(BY_POSITION)], 2, id="list of lists"),
        pytest.param(np.array([BY_POSITION, BY_POSITION], object), 2, id="object array"),
        pytest.param(np.array(BY_POSITION, object), 1, id="flat object array"),
        pytest.param([np.array(BY_POSITION, object)], 1, id="list of arrays"),
        pytest.param(RECORDS, 2, id="structured array"),
        pytest.param(RECORDS.view(np.recarray), 2, id="record array"),
        pytest.param(RECORDS[0], 1, id="record"),
        pytest.param([RECORDS[0]], 1, id="list of records"),
        pytest.param(pd.DataFrame([ROW, ROW]), 2, id="DataFrame"),
        pytest.param(
            pd.DataFrame([ROW, ROW], index=["a", "a"])[sorted(ROW)], 2, id="DataFrame sorted"
        ),
        pytest.param(pd.DataFrame([ROW]).convert_dtypes(), 1, id="nullable DataFrame"),
        pytest.param(pd.DataFrame([ROW], dtype=object), 1, id="object DataFrame"),
        pytest.param(
            pd.DataFrame([ROW]).astype({"city": "category", "age": "category"}), 1, id="categorical"
        ),
        pytest.param(
            pd.DataFrame([{**ROW, "note": pd.Timestamp(0)}]), 1, id="DataFrame with unread"
        ),
        pytest.param(pd.DataFrame([BY_POSITION] * 2), 2, id="DataFrame without names"),
        pytest.param(pd.Series(BY_POSITION), 1, id="Series without names"),
        pytest.param(pd.Series(ROW), 1, id="Series"),
        pytest.param(pd.DataFrame([ROW, ROW]).iloc[1], 1, id="row of a DataFrame"),
        pytest.param([pd.Series(ROW), pd.Series(ROW)], 2, id="list of Series"),
    ],
)
def test_every_container(rows, n_rows):
    check_mixed(MIXED.bind(rows), n_rows)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(MATRIX, id="float64"),
        pytest.param(MATRIX.astype(np.float32), id="float32"),
        pytest.param(MATRIX.astype(np.longdouble), id="longdouble"),
        pytest.param(MATRIX.astype(object), id="object"),
        pytest.param(np.asfortranarray(MATRIX), id="Fortran order"),
        pytest.param(np.repeat(np.repeat(MATRIX, 2, 0), 2, 1)[::2, ::2], id="strided"),
        pytest.param(MATRIX[::-1].copy()[::-1], id="negative strides"),
        pytest.param(MATRIX.astype(">f8"), id="big endian"),
        pytest.param(
            np.frombuffer(b"\0" + MATRIX.tobytes(), np.uint8)[1:].view("f8").reshape(2, 3),
            id="unaligned",
        ),
        pytest.param(
            MATRIX.view(np.ndarray) * np.ma.array(np.ones((2, 3))), id="masked array without masks"
        ),
        pytest.param(np.asmatrix(MATRIX), id="matrix"),
        pytest.param(MATRIX.tolist(), id="nested lists"),
        pytest.param(list(MATRIX), id="list of arrays"),
        pytest.param(torch.from_numpy(MATRIX), id="torch"),
        pytest.param(torch.from_numpy(MATRIX).requires_grad_(), id="torch with gradient"),
        pytest.param(list(torch.from_numpy(MATRIX)), id="list of torch tensors"),
        pytest.param(sparse.csr_matrix(MATRIX), id="sparse matrix"),
        pytest.param(sparse.csc_array(MATRIX), id="sparse array"),
        pytest.param(pd.DataFrame(MATRIX, columns=["x0", "x1", "x2"]), id="DataFrame"),
        pytest.param(pd.DataFrame(MATRIX), id="DataFrame without names"),
        pytest.param(
            pd.DataFrame(MATRIX, columns=["x0", "x1", "x2"])[["x2", "x0", "x1"]], id="columns moved"
        ),
        pytest.param(
            pd.DataFrame(MATRIX, columns=["x0", "x1", "x2"]).astype(pd.SparseDtype(float, 0.0)),
            id="sparse DataFrame",
        ),
    ],
)
def test_every_array(rows):
    bound = ARRAY.bind(rows)
    assert bound.n_rows == 2
    assert bound.arrays[0].dtype == np.float32
    assert bound.arrays[0].flags.c_contiguous
    assert bound.arrays[0].flags.aligned
    assert bound.arrays[0].tolist() == MATRIX.astype(np.float32).tolist()


@pytest.mark.parametrize(
    "dtype",
    [
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "bool",
        "bfloat16",
    ],
)
def test_every_dtype(dtype):
    if dtype == "bfloat16":
        given = torch.tensor([[1, 0, 1]], dtype=torch.bfloat16)
    else:
        given = np.array([[1, 0, 1]], dtype)
    assert ARRAY.bind(given).arrays[0].tolist() == [[1.0, 0.0, 1.0]]


def test_one_row():
    for given in (
        MATRIX[0],
        MATRIX[0].astype(np.float32),
        MATRIX[0].astype(np.float16),
        pd.Series(MATRIX[0]),
    ):
        bound = ARRAY.bind(given)
        assert bound.n_rows == 1
        assert bound.arrays[0].tolist() == [[0.5, 1.5, 3.0]]
    assert ARRAY.bind(torch.from_numpy(MATRIX[0])).arrays[0].tolist() == [[0.5, 1.5, 3.0]]


def test_no_copy_of_what_is_right():
    given = np.ones((2, 3), np.float32)
    assert ARRAY.bind(given).arrays[0] is given
    given.flags.writeable = False
    assert ARRAY.bind(given).arrays[0] is given
    tensor = torch.ones((2, 3))
    assert np.shares_memory(ARRAY.bind(tensor).arrays[0], tensor.numpy())


def test_torch_is_remembered():
    assert ARRAY.bind(torch.ones((2, 3))).torch
    assert ARRAY.bind([torch.ones(3)]).torch
    assert not ARRAY.bind(np.ones((2, 3))).torch


@pytest.mark.parametrize(
    "rows",
    [
        [],
        (),
        np.zeros((0, 3)),
        np.zeros((0, 3), np.float32),
        np.zeros((0, 3), object),
        torch.zeros((0, 3)),
        pd.DataFrame({"x0": [], "x1": [], "x2": []}),
        pd.DataFrame({"x0": pd.Series([], dtype="str"), "x1": [], "x2": []}),
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_no_rows(rows):
    bound = ARRAY.bind(rows)
    assert bound.n_rows == 0
    assert bound.arrays[0].shape == (0, 3)


def test_masked_values_are_missing():
    given = np.ma.array([[1.0, 2.0, 3.0]], mask=[[False, True, False]])
    got = ARRAY.bind(given).arrays[0]
    assert np.isnan(got[0, 1])
    with pytest.raises(InputError, match="missing"):
        ARRAY.bind(np.ma.array([[1.0, 2.0, 3.0]], mask=[[True, False, False]]))
    records = np.ma.array(RECORDS.copy())
    records["income"][0] = np.ma.masked
    got = MIXED.bind(records).arrays[0]
    np.testing.assert_array_equal(got[:, 1], [np.nan, 5e4])


def test_a_single_field():
    assert ONE.bind([3.0]).arrays[0].tolist() == [[3.0]]
    assert ONE.bind(np.array([3.0])).arrays[0].tolist() == [[3.0]]
    assert ONE.bind([[1.0], [2.0]]).arrays[0].tolist() == [[1.0], [2.0]]
    assert ONE.bind(pd.Series([1.0, 2.0], name="x")).arrays[0].tolist() == [[1.0], [2.0]]
    with pytest.raises(InputError, match=r"reshape\(-1, 1\)"):
        ONE.bind(np.array([1.0, 2.0]))
    with pytest.raises(InputError, match="1 value"):
        ONE.bind([1.0, 2.0])


MISSING = [None, float("nan"), np.float64("nan"), np.float32("nan"), Decimal("nan"), pd.NA, pd.NaT]


@pytest.mark.parametrize("missing", MISSING, ids=repr)
def test_missing_values(missing):
    row = {**ROW, "income": missing}
    assert np.isnan(MIXED.bind(row).arrays[0][0, 1])
    assert np.isnan(MIXED.bind(pd.DataFrame([row], dtype=object)).arrays[0][0, 1])
    with pytest.raises(InputError, match="The model does not take missing values here") as caught:
        MIXED.bind({**ROW, "score": missing})
    assert caught.value.field == "score"
    if not isinstance(missing, Decimal):
        assert MIXED.bind({**ROW, "city": missing}).arrays[1].tolist() == [["", "gold"]]


@pytest.mark.parametrize("n_rows", [2, 3000], ids=["small", "large"])
def test_missing_values_of_every_column_type(n_rows):
    half = n_rows // 2
    columns = {
        "float64": pd.Series([1.5, np.nan] * half),
        "float32": pd.Series([1.5, np.nan] * half, dtype="float32"),
        "Float64": pd.Series([1.5, None] * half, dtype="Float64"),
        "object": pd.Series([1.5, None] * half, dtype=object),
        "category": pd.Series([1.5, None] * half, dtype="category"),
        "Sparse": pd.Series([1.5, np.nan] * half).astype(pd.SparseDtype(float)),
    }
    base = pd.DataFrame([ROW] * n_rows)
    for name, column in columns.items():
        got = MIXED.bind(base.assign(income=column)).arrays[0][:, 1]
        np.testing.assert_array_equal(got, [1.5, np.nan] * half, err_msg=name)
    whole = pd.Series([7, None] * half, dtype="Int64")
    np.testing.assert_array_equal(
        MIXED.bind(base.assign(income=whole)).arrays[0][:, 1], [7, np.nan] * half
    )
    flags = pd.Series([True, None] * half, dtype="boolean")
    np.testing.assert_array_equal(
        MIXED.bind(base.assign(income=flags)).arrays[0][:, 1], [1, np.nan] * half
    )
    for dtype in ("str", "string", "object", "category"):
        texts = pd.Series(["Rome", None] * half, dtype=dtype)
        assert MIXED.bind(base.assign(city=texts)).arrays[1][:, 0].tolist() == ["Rome", ""] * half


def test_large_frames_keep_row_numbers():
    frame = pd.DataFrame([ROW] * 3000)
    frame.loc[2345, "score"] = np.nan
    with pytest.raises(InputError) as caught:
        MIXED.bind(frame)
    assert (caught.value.field, caught.value.row) == ("score", 2345)


def test_wide_integers_are_not_rounded_on_the_way():
    for value in (2**53 + 1, 2**62 + 1, 2**24 + 1):
        for dtype in ("int64", "Int64", "uint64", "UInt64"):
            frame = (
                pd.DataFrame([ROW])
                .astype({"age": dtype})
                .assign(age=pd.array([value], dtype=dtype))
            )
            with pytest.raises(InputError, match="float32 holds exactly"):
                MIXED.bind(frame)
            with pytest.raises(InputError, match="float32 holds exactly"):
                MIXED.bind(pd.concat([frame] * 800))
    with pytest.raises(InputError, match="float32 holds exactly"):
        ARRAY.bind(np.array([[1, 2, 2**64 - 1]], np.uint64))
    assert ARRAY.bind(np.array([[1, 2, 2**63]], np.uint64)).arrays[0].tolist() == [
        [1.0, 2.0, 2.0**63]
    ]


def generator():
    yield ROW


Point = make_dataclass("Point", ["age"])

# rows, the message, the field at fault, the row at fault
BAD = {
    # --- names
    "missing field": (
        {k: v for k, v in ROW.items() if k != "age"},
        "Expected field `age`, got a row without it",
        "age",
        None,
    ),
    "missing fields": ({"age": 1}, "`city`, `income`, `vip`, `plan`, `score`", "city", None),
    "unknown field": ({**ROW, "shoe": 1}, "only the model's fields, got also `shoe`", "shoe", None),
    "unknown fields": ({**ROW, "shoe": 1, "hat": 2}, "`shoe`, `hat`", "shoe", None),
    "misspelled field": (
        {("agee" if k == "age" else k): v for k, v in ROW.items()},
        "Did you mean `age` by `agee`",
        "age",
        None,
    ),
    "key that is no str": ({**ROW, 7: 1}, r"`7 \(int\)`", "7 (int)", None),
    "surrogate in a key": ({**ROW, "\ud800": 1}, "ud800", "\\ud800", None),
    "empty dict": ({}, "`age`, `city`", "age", None),
    "second row": ([ROW, {**ROW, "shoe": 1}], "`shoe`, row 1", "shoe", 1),
    "missing column": (
        pd.DataFrame([ROW]).drop(columns=["vip", "age"]),
        "fields `age`, `vip`, got a DataFrame",
        "age",
        None,
    ),
    "unknown column": (pd.DataFrame([{**ROW, "shoe": 1}]), "`shoe`", "shoe", None),
    "repeated column": (
        pd.DataFrame([[*ROW.values(), 1]], columns=[*ROW, "age"]),
        "more than one `age`",
        None,
        None,
    ),
    "columns of two levels": (
        pd.DataFrame([list(ROW.values())], columns=pd.MultiIndex.from_product([["a"], ROW])),
        "`age`",
        "age",
        None,
    ),
    "Series of something else": (pd.Series([1.0, 2.0]), "`age`", "age", None),
    "Series with a name twice": (
        pd.Series([*ROW.values(), 1], index=[*ROW, "age"]),
        "more than one `age`",
        None,
        None,
    ),
    "table of records": (RECORDS.reshape(2, 1), "(2, 1)", None, None),
    "record without a field": (
        RECORDS[["age", "city"]],
        "structured array without",
        "income",
        None,
    ),
    # --- types of values
    "str for a number": (
        {**ROW, "score": "0.5"},
        r"Expected a number, got '0.5' \(str\)",
        "score",
        None,
    ),
    "str for a whole number": ({**ROW, "age": "41"}, "Expected a whole number", "age", None),
    "number for text": ({**ROW, "city": 3}, r"Expected a str, got 3 \(int\)", "city", None),
    "bytes for text": ({**ROW, "city": b"Oslo"}, "decode", "city", None),
    "bytes for a number": ({**ROW, "score": b"1"}, "Expected a number", "score", None),
    "complex number": ({**ROW, "score": 1 + 2j}, "complex", "score", None),
    "date": ({**ROW, "score": dt.date(2026, 1, 1)}, "date", "score", None),
    "datetime64": (
        {**ROW, "score": np.datetime64("2026-01-01")},
        "Expected a number",
        "score",
        None,
    ),
    "timedelta": ({**ROW, "score": dt.timedelta(1)}, "timedelta", "score", None),
    "timestamp": ({**ROW, "score": pd.Timestamp("2026-01-01")}, "Timestamp", "score", None),
    "nested dict": ({**ROW, "score": {"value": 1}}, "a dict of 1", "score", None),
    "list of values": (
        {**ROW, "score": [0.1, 0.2]},
        "many rows are a list of dicts",
        "score",
        None,
    ),
    "set for a value": ({**ROW, "score": {1}}, "a set of 1", "score", None),
    "array for a value": ({**ROW, "score": np.ones(3)}, r"float64 \(3,\)", "score", None),
    "generator for a value": ({**ROW, "score": generator()}, "generator", "score", None),
    "fraction for a whole number": (
        {**ROW, "age": 41.5},
        r"whole number, got 41.5 \(float\)",
        "age",
        None,
    ),
    "Decimal with a fraction": ({**ROW, "age": Decimal("41.5")}, "whole number", "age", None),
    "number for a bool": ({**ROW, "vip": 2}, "True or False", "vip", None),
    "str for a bool": ({**ROW, "vip": "yes"}, "True or False", "vip", None),
    # --- values
    "unknown category": (
        {**ROW, "plan": "silver"},
        "one of 'basic', 'gold', got 'silver'",
        "plan",
        None,
    ),
    "None where refused": ({**ROW, "score": None}, "got None", "score", None),
    "None in a list": ([ROW, ROW, {**ROW, "age": None}], "row 2", "age", 2),
    "None for a category": ({**ROW, "plan": None}, "a str, got None", "plan", None),
    "NaN where refused": ({**ROW, "score": float("nan")}, "got nan", "score", None),
    "infinity": ({**ROW, "score": float("-inf")}, "finite number, got -inf", "score", None),
    "infinite whole number": ({**ROW, "age": float("inf")}, "finite whole number", "age", None),
    "overflow": ({**ROW, "score": 1e39}, r"3.4e38 \(float32\), got 1e\+39", "score", None),
    "overflow where missing is allowed": ({**ROW, "income": -1e39}, "3.4e38", "income", None),
    "huge integer": ({**ROW, "score": 10**400}, "an integer of 1329 bits", "score", None),
    "inexact integer": (
        {**ROW, "age": 16777217},
        "float32 holds exactly, got 16777217",
        "age",
        None,
    ),
    "lone surrogate": ({**ROW, "city": "Os\ud800lo"}, "UTF-8", "city", None),
    # --- columns and arrays
    "text column for numbers": (
        pd.DataFrame([{**ROW, "score": "high"}]),
        "Expected a number, got 'high'",
        "score",
        0,
    ),
    "number column for text": (
        pd.DataFrame([{**ROW, "city": 3}] * 1000),
        "Expected a str, got 3",
        "city",
        0,
    ),
    "date column": (
        pd.DataFrame([{**ROW, "score": pd.Timestamp(0)}]),
        "Expected a number",
        "score",
        0,
    ),
    "long date column": (
        pd.DataFrame([{**ROW, "score": pd.Timestamp(0)}] * 1000),
        "a number column, got datetime64",
        "score",
        None,
    ),
    "long complex column": (
        pd.DataFrame([{**ROW, "score": 1j}] * 1000),
        "complex128",
        "score",
        None,
    ),
    "long column of periods": (
        pd.DataFrame([{**ROW, "score": pd.Period("2026")}] * 1000),
        "Period",
        "score",
        0,
    ),
    "float array for text fields": (np.ones((2, 7)), "Expected a str", "city", 0),
    # --- what is no row at all
    "None": (None, "got None", None, None),
    "number": (3.0, r"got 3.0 \(float\)", None, None),
    "numpy number": (np.float64(3), "float64", None, None),
    "str": ('{"age": 41}', "json.loads", None, None),
    "bytes": (b"{}", "json.loads", None, None),
    "set": ({1, 2}, "no order", None, None),
    "generator": (generator(), r"list\(rows\)", None, None),
    "iterator": (iter([ROW]), r"list\(rows\)", None, None),
    "dataclass": (Point(1), "asdict", None, None),
    "list with None": ([ROW, None], "a row of 7 fields .*, got None", None, 1),
    "list of sets": ([ROW, {1}], "a set of 1", None, 1),
    "list of frames": ([pd.DataFrame([ROW])], "Concatenate", None, None),
    "list of matrices": ([np.ones((2, 7))], "Concatenate", None, None),
    "too few values": ([1, 2], "Expected 7 values", None, None),
    "too many values": ([BY_POSITION, [*BY_POSITION, 1]], "got 8 values", None, 1),
    "ragged lists": ([BY_POSITION, BY_POSITION[:3]], "got 3 values", None, 1),
    "0-d array": (np.array(3.0), "single number", None, None),
    "3-d array": (np.ones((1, 2, 7)), "Rows are the first axis", None, None),
    "wrong width": (np.ones((8, 12)), r"7\)\), got float64 \(8, 12\)", None, None),
    "wrong length": (np.ones(12), r"float64 \(12,\)", None, None),
    "complex array": (np.ones((2, 7), complex), "complex128", None, None),
    "date array": (np.zeros((2, 7), "datetime64[ns]"), "Turn dates into numbers", None, None),
    "bytes array": (np.zeros((2, 7), "S3"), "decode", None, None),
    "wrong tensor": (torch.ones((8, 12)), r"float32 \(8, 12\)", None, None),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_bad_rows(case):
    rows, message, field, row = case
    with pytest.raises(InputError, match=message) as caught:
        MIXED.bind(rows)
    assert (caught.value.field, caught.value.row) == (field, row)
    assert caught.value.model == "churn"
    assert "`churn`" in str(caught.value)
    assert len(str(caught.value)) < 600
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.field, again.row) == (str(caught.value), field, row)


@pytest.mark.parametrize("layout", ["dicts", "lists", "frame", "matrix", "tensor"])
def test_the_cell_at_fault_is_named_alike(layout):
    given = np.ones((5, 3))
    given[3, 0] = np.nan
    rows = {
        "dicts": [dict(zip(["x0", "x1", "x2"], row, strict=True)) for row in given.tolist()],
        "lists": given.tolist(),
        "frame": pd.DataFrame(given, columns=["x0", "x1", "x2"]),
        "matrix": given,
        "tensor": torch.from_numpy(given),
    }[layout]
    with pytest.raises(InputError, match="Expected a number, got nan") as caught:
        ARRAY.bind(rows)
    assert (caught.value.field, caught.value.row) == ("x0", 3)


@pytest.mark.parametrize(
    ("method", "hint"),
    [("model_dump", r"row.model_dump\(\)"), ("to_pandas", r"rows.to_pandas\(\)")],
)
def test_objects_that_could_be_rows(method, hint):
    """Validation models and the frames of other libraries say how they become rows."""
    kind = type("Foreign", (), {method: lambda self: None})
    with pytest.raises(InputError, match=hint):
        MIXED.bind(kind())


class TestHostileValues:
    """Messages must stay short and cheap whatever is in the request."""

    def test_long_values_are_cut(self):
        with pytest.raises(InputError) as caught:
            MIXED.bind({**ROW, "score": "9" * 10_000_000})
        assert len(str(caught.value)) < 300

    def test_long_and_many_keys_are_cut(self):
        flood = {f"key{i}" * 1000: i for i in range(5000)}
        with pytest.raises(InputError, match="and 4980 more") as caught:
            MIXED.bind({**ROW, **flood})
        assert len(str(caught.value)) < 3000

    def test_digits_beyond_what_python_prints(self):
        with pytest.raises(InputError, match="bits"):
            MIXED.bind({**ROW, "plan": 10**10_000})

    def test_a_repr_that_fails(self):
        class Shy:
            def __repr__(self):
                raise RuntimeError("no repr")

        with pytest.raises(InputError, match="an object of type Shy"):
            MIXED.bind({**ROW, "score": Shy()})


def test_a_field_that_may_be_missing_must_still_be_named():
    with pytest.raises(InputError, match="given as None"):
        MIXED.bind({k: v for k, v in ROW.items() if k != "income"})


def test_small_and_large_frames_take_different_ways_to_the_same(monkeypatch):
    frame = pd.DataFrame([{**ROW, "income": None}, ROW, {**ROW, "city": "Rome", "vip": False}])
    small = MIXED.bind(frame)
    monkeypatch.setattr(table, "SMALL_FRAME_CELLS", 0)
    large = MIXED.bind(frame)
    np.testing.assert_array_equal(small.arrays[0], large.arrays[0])
    assert small.arrays[1].tolist() == large.arrays[1].tolist()


def test_integer_column_names():
    """Frameworks that take any column name make a str of it in the signature."""

    def numbered(*names):
        fields = tuple(Field(name, "float", "n", i) for i, name in enumerate(names))
        inputs = (TensorSpec("n", "float32", ("N", len(names))),)
        return Binder(Signature(inputs, (), (), fields, "dataframe"), model="numbered")

    for frame in (pd.DataFrame({20: [2.0], 10: [1.0]}), pd.DataFrame({"10": [1.0], "20": [2.0]})):
        assert numbered("10", "20").bind(frame).arrays[0].tolist() == [[1.0, 2.0]]
        assert numbered("10", "20").bind(frame.iloc[0]).arrays[0].tolist() == [[1.0, 2.0]]
        assert numbered("10", "20").bind([frame.iloc[0]]).arrays[0].tolist() == [[1.0, 2.0]]
    # A column that is a field's name is never taken by position.
    assert numbered("1", "0").bind(pd.DataFrame([[5.0, 6.0]])).arrays[0].tolist() == [[6.0, 5.0]]
    assert numbered("1", "0").bind(pd.Series([5.0, 6.0])).arrays[0].tolist() == [[6.0, 5.0]]


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (Signature((), (), (), (Field("x", "float", "n"),), "array"), "no input"),
        (
            Signature(
                (SequenceSpec("n", TensorSpec("", "float32", ("N",))),),
                (),
                (),
                (Field("x", "float", "n"),),
                "array",
            ),
            "only fill tensors",
        ),
        (Signature((TensorSpec("t", "float32", ("N",)),), (), (), (), "text"), "one string input"),
    ],
)
def test_contradictory_signatures(signature, message):
    with pytest.raises(ValueError, match=message):
        Binder(signature, model="wrong")
