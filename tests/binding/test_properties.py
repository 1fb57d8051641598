"""Whatever is in the rows: a twin in plain Python decides, and every container must agree."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from unittest import mock

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infersdk.binding import Binder, table
from infersdk.errors import InputError
from infersdk.types import Field, Signature, TensorSpec

FLOAT32_MAX = Fraction(float(np.finfo(np.float32).max))
REFUSED = object()

TEXTS = st.text(st.characters(exclude_categories=()), max_size=5) | st.sampled_from("abc")
NUMBERS = (
    st.floats()
    | st.floats(width=32)
    | st.integers(-5, 5)
    | st.integers()
    | st.sampled_from([2**24, 2**24 + 1, 2**53 + 1, 2**63, 2**63 - 1, 2**70, 10**400, 3.4028236e38])
    | st.booleans()
    | st.decimals(
        allow_nan=False, allow_infinity=False, places=2, min_value=-(10**6), max_value=10**6
    )
    | st.fractions(-(10**6), 10**6, max_denominator=100)
    | st.floats(width=16).map(np.float16)
    | st.floats(width=32).map(np.float32)
    | st.integers(-(2**63), 2**63 - 1).map(np.int64)
    | st.integers(0, 2**64 - 1).map(np.uint64)
    | st.booleans().map(np.bool_)
)
MISSING = st.sampled_from([None, float("nan"), np.float32("nan"), pd.NA])
OTHERS = st.sampled_from([b"bytes", 1j, (), np.datetime64("2026-01-01"), pd.Timestamp(0)])
VALUES = NUMBERS | TEXTS | MISSING | st.just(pd.NaT) | OTHERS


@st.composite
def fields(draw, names=("a", "b", "c", "d")):
    """Draw fields that fill one float32 and one string matrix."""
    made = []
    for name in draw(st.permutations(names))[: draw(st.integers(1, len(names)))]:
        dtype = draw(st.sampled_from(["float", "int", "bool", "string"]))
        options = {
            "string": ("a", "b", "ü"),
            "bool": (False, True),
            "int": (3, 1, 2**24),
            "float": (0.5, -1.0),
        }[dtype]
        categories = draw(st.none() | st.just(options))
        code = categories is not None and draw(st.booleans())
        made.append(
            Field(
                name,
                dtype,
                "strings" if dtype == "string" and not code else "numbers",
                missing=draw(st.sampled_from(["refuse", "nan"])),
                categories=categories,
                unknown=draw(st.sampled_from(["allow", "refuse"])),
                encoding="code" if code else "value",
            )
        )
    widths = {"numbers": 0, "strings": 0}
    placed = []
    for field in made:
        placed.append(
            Field(
                **{**field.to_json(), "column": widths[field.input], "categories": field.categories}
            )
        )
        widths[field.input] += 1
    return tuple(placed)


def binder_of(rows):
    inputs = [
        TensorSpec(name, dtype, ("N", sum(field.input == name for field in rows)))
        for name, dtype in (("numbers", "float32"), ("strings", "string"))
    ]
    inputs = tuple(spec for spec in inputs if spec.shape[1])
    return Binder(Signature(inputs, (), (), rows, "dataframe"), model="twin")


def is_missing(value):
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    return isinstance(value, (float, np.floating, Decimal)) and value != value


def twin(field, value):
    """The rules of one field, in exact arithmetic."""
    if is_missing(value):
        if field.missing == "refuse":
            return REFUSED
        return "" if field.input == "strings" else float("nan")
    if field.dtype == "string":
        if not isinstance(value, str):
            return REFUSED
    elif not isinstance(value, (int, float, np.number, np.bool_, Decimal, Fraction)) or isinstance(
        value, (complex, np.complexfloating)
    ):
        return REFUSED
    if field.categories is not None:
        plain = value.item() if isinstance(value, np.generic) else value
        known = plain in field.categories
        if not known and field.dtype != "string" and not fits(field, plain):
            return REFUSED
        if not known and field.unknown == "refuse":
            return REFUSED
        if field.encoding == "code":
            return float(field.categories.index(plain)) if known else -1.0
    if field.dtype == "string":
        return REFUSED if any(0xD800 <= ord(char) < 0xE000 for char in value) else value
    return twin_number(field, value)


def fits(field, number):
    """Whether a number is one of the field's kind at all."""
    if isinstance(number, float) and np.isinf(number):
        return field.dtype == "float" and field.missing != "refuse"
    exact = Fraction(number)
    return {
        "float": True,
        "int": exact.denominator == 1,
        "bool": exact in (0, 1),
    }[field.dtype]


def twin_number(field, value):
    if isinstance(value, (float, np.floating)) and np.isinf(value):
        return float(value) if field.dtype == "float" and field.missing != "refuse" else REFUSED
    exact = Fraction(value.item() if isinstance(value, np.generic) else value)
    if field.dtype == "bool":
        return float(exact) if exact in (0, 1) else REFUSED
    if field.dtype == "int":
        if exact.denominator != 1 or abs(exact) > FLOAT32_MAX:
            return REFUSED
        return float(exact) if Fraction(float(np.float32(float(exact)))) == exact else REFUSED
    try:
        double = float(exact)
    except OverflowError:
        return REFUSED
    with np.errstate(over="ignore"):
        rounded = np.float32(double)
        if exact.denominator == 1 and abs(exact) < 2**63:
            # One rounding, not two.
            rounded = np.int64(int(exact)).astype(np.float32)
    return REFUSED if np.isinf(rounded) else float(rounded)


def bound_or_none(binder, rows):
    try:
        return binder.bind(rows)
    except InputError as error:
        return error


def same(ours, theirs):
    return ours == theirs or (isinstance(ours, float) and ours != ours and theirs != theirs)


@given(st.data())
def test_a_dict_row_against_the_twin(data):
    drawn = data.draw(fields())
    row = {
        field.name: data.draw(
            VALUES | st.sampled_from(field.categories) if field.categories else VALUES
        )
        for field in drawn
    }
    expected = {field.name: twin(field, row[field.name]) for field in drawn}
    refused = [field.name for field in drawn if expected[field.name] is REFUSED]
    result = bound_or_none(binder_of(drawn), row)
    if refused:
        assert isinstance(result, InputError), (drawn, row)
        assert result.field == refused[0]
        return
    assert not isinstance(result, InputError), (drawn, row, result)
    names = sorted({field.input for field in drawn})
    for field in drawn:
        got = result.arrays[names.index(field.input)].tolist()[0][field.column]
        assert same(got, expected[field.name]), (field, row)


@settings(max_examples=60)
@given(st.data(), st.booleans())
def test_containers_agree(data, large):
    drawn = data.draw(fields())
    names = [field.name for field in drawn]
    cells = {
        field.name: (TEXTS if field.dtype == "string" else st.integers(-3, 3) | st.floats(width=32))
        | MISSING  # without NaT, of which pandas would make a column of dates
        | (st.sampled_from(field.categories) if field.categories else st.nothing())
        for field in drawn
    }
    rows = data.draw(st.lists(st.fixed_dictionaries(cells), min_size=1, max_size=4))
    order = data.draw(st.permutations(names))
    binder = binder_of(drawn)
    frame = pd.DataFrame(rows, dtype=object)
    containers = {
        "lists": [[row[name] for name in names] for row in rows],
        "tuples": tuple(tuple(row[name] for name in names) for row in rows),
        "objects": np.array([[row[name] for name in names] for row in rows], object).reshape(
            len(rows), -1
        ),
        "frame": frame[order],
        "inferred frame": pd.DataFrame(
            {name: [row[name] for row in rows] for name in order}
        ).infer_objects(),
    }
    expected = bound_or_none(binder, rows)
    with mock.patch.object(table, "SMALL_FRAME_CELLS", 0 if large else 4096):
        for kind, container in containers.items():
            result = bound_or_none(binder, container)
            assert isinstance(result, InputError) == isinstance(expected, InputError), (
                kind,
                result,
                expected,
            )
            if isinstance(expected, InputError):
                continue
            for ours, theirs in zip(result.arrays, expected.arrays, strict=True):
                np.testing.assert_array_equal(ours, theirs, err_msg=kind)


MATRIX_FIELDS = (
    Field("x", "float", "numbers", 0),
    Field("y", "float", "numbers", 1, missing="nan"),
    Field("i", "int", "numbers", 2),
    Field("b", "bool", "numbers", 3),
)
MATRIX = binder_of(MATRIX_FIELDS)


@given(
    st.sampled_from([np.float32, np.float64, np.int64, np.int16, np.uint8]).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            st.tuples(st.integers(0, 4), st.just(4)),
            elements=st.integers(0, 3)
            if np.dtype(dtype).kind in "iu"
            else st.integers(0, 1).map(float) | st.floats(width=8 * np.dtype(dtype).itemsize),
            fill=st.just(dtype(1)),
        )
    ),
    st.sampled_from(["C", "F", "strided", "reversed"]),
)
@example(np.array([[1.0, 2.0, 3.0, 1.0]]), "C")
@example(np.array([[1.0, np.inf, 3.0, 1.0]]), "F")
@example(np.array([[1e39, 0.0, 3.0, 1.0]]), "C")
def test_arrays_agree_with_dicts(matrix, layout):
    laid = {
        "C": lambda: np.ascontiguousarray(matrix),
        "F": lambda: np.asfortranarray(matrix),
        "strided": lambda: np.repeat(np.repeat(matrix, 2, 0), 2, 1)[::2, ::2],
        "reversed": lambda: matrix[::-1, ::-1].copy()[::-1, ::-1],
    }[layout]()
    names = [field.name for field in MATRIX_FIELDS]
    dicts = [dict(zip(names, row, strict=True)) for row in matrix.tolist()]
    expected = bound_or_none(MATRIX, dicts)
    containers = {
        "array": laid,
        "frame": pd.DataFrame(laid, columns=names),
        "tensor": torch.from_numpy(np.ascontiguousarray(matrix)),
    }
    for kind, container in containers.items():
        result = bound_or_none(MATRIX, container)
        assert isinstance(result, InputError) == isinstance(expected, InputError), (
            kind,
            result,
            expected,
        )
        if isinstance(expected, InputError):
            continue
        assert result.n_rows == len(matrix)
        np.testing.assert_array_equal(result.arrays[0], expected.arrays[0], err_msg=kind)
        np.testing.assert_array_equal(np.signbit(result.arrays[0]), np.signbit(expected.arrays[0]))
