"""The compiled binder alone: what it takes without help, what it refuses, and that it can be shared."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from infersdk._native.binder import Bound, RowBinder, TensorBinder, narrowed, take_labels, widen
from infersdk.types import Field, TensorSpec


class RefusedError(Exception):
    """What the tests' `refuse` raises, with its arguments."""


def refuse(reason, value, field, row):
    raise RefusedError(reason, value, field, row)


def binder(*fields, **dtypes):
    """Make a binder; `numbers="float64"` gives the dtype of an input."""
    widths = {}
    for field in fields:
        if field.input is not None:
            widths[field.input] = widths.get(field.input, 0) + 1
    inputs = [
        TensorSpec(
            name, dtypes.get(name, "string" if name == "strings" else "float32"), ("N", width)
        )
        for name, width in widths.items()
    ]
    return RowBinder(fields, inputs, refuse)


NUMBER = Field("x", "float", "numbers")


class TestUsualForms:
    fields = (
        Field("a", "float", "numbers", 1),
        Field("b", "string", "strings"),
        Field("c", "int", "numbers"),
    )

    def test_a_dict_is_one_row(self):
        bound = binder(*self.fields).bind({"a": 1.5, "b": "text", "c": 3})
        numbers, strings = bound.arrays
        assert bound.n_rows == 1
        assert not bound.torch
        assert numbers.dtype == np.float32
        assert numbers.flags.c_contiguous
        assert numbers.tolist() == [[3.0, 1.5]]
        assert strings.dtype == object
        assert strings.tolist() == [["text"]]

    def test_rows_by_name_and_by_position_agree(self):
        rows = [{"a": 0.5, "b": "x", "c": 1}, {"c": 2, "a": -0.5, "b": "y"}]
        shared = binder(*self.fields)
        by_name = shared.bind(rows)
        by_position = shared.bind([[row["a"], row["b"], row["c"]] for row in rows])
        tuples = shared.bind([(row["a"], row["b"], row["c"]) for row in rows])
        for ours, others, more in zip(
            by_name.arrays, by_position.arrays, tuples.arrays, strict=True
        ):
            assert ours.tolist() == others.tolist() == more.tolist()

    def test_a_flat_list_is_one_row(self):
        bound = binder(*self.fields).bind([1.5, "text", 3])
        assert [array.tolist() for array in bound.arrays] == [[[3.0, 1.5]], [["text"]]]

    def test_no_rows(self):
        bound = binder(*self.fields).bind([])
        assert bound.n_rows == 0
        assert [array.shape for array in bound.arrays] == [(0, 2), (0, 1)]

    def test_an_unread_field_may_be_there_or_not(self):
        shared = binder(NUMBER, Field("note", "string", None))
        assert shared.bind({"x": 1.0}).arrays[0].tolist() == [[1.0]]
        assert shared.bind({"x": 1.0, "note": object()}).arrays[0].tolist() == [[1.0]]
        assert shared.bind([2.0, "by position it has its place"]).arrays[0].tolist() == [[2.0]]

    def test_many_inputs_of_one_column(self):
        """More inputs than the binder keeps pointers for on the stack."""
        fields = [Field(f"f{i}", "float", f"in{i}") for i in range(40)]
        bound = binder(*fields).bind([{f"f{i}": float(i + k) for i in range(40)} for k in range(3)])
        assert [array.ravel().tolist() for array in bound.arrays] == [
            [float(i + k) for k in range(3)] for i in range(40)
        ]

    def test_an_input_of_rank_one(self):
        spec = TensorSpec("numbers", "float32", ("N",))
        bound = RowBinder([NUMBER], [spec], refuse).bind([{"x": 1.0}, {"x": 2.0}])
        assert bound.arrays[0].shape == (2,)

    @pytest.mark.parametrize(
        "rows",
        [
            None,
            "text",
            3,
            (1.0,),
            iter([]),
            {1.0},
            np.float32(1),
            np.zeros((1, 1), np.int8),
            np.zeros((2, 3)),
        ],
        ids=lambda rows: type(rows).__name__,
    )
    def test_other_forms_are_left_to_python(self, rows):
        assert binder(NUMBER).bind(rows) is None


class TestValues:
    @pytest.mark.parametrize(
        ("dtype", "value", "expected"),
        [
            ("float", 1.5, 1.5),
            ("float", 7, 7.0),
            ("float", True, 1.0),
            ("float", -0.0, -0.0),
            ("float", 16777217, 16777216.0),
            ("float", 0.1, float(np.float32(0.1))),
            ("float", 5e-324, 0.0),
            ("float", 2**70, 2.0**70),
            ("float", np.float64(2.5), 2.5),
            ("float", np.float32(2.5), 2.5),
            ("float", np.float16(2.5), 2.5),
            ("float", np.longdouble(2.5), 2.5),
            ("float", np.int8(-3), -3.0),
            ("float", np.uint64(2**64 - 1), 2.0**64),
            ("float", np.bool_(True), 1.0),
            ("float", np.array(4.5), 4.5),
            ("float", Decimal("2.25"), 2.25),
            ("float", Fraction(1, 4), 0.25),
            ("int", 3, 3.0),
            ("int", 3.0, 3.0),
            ("int", 2**24, 2.0**24),
            ("int", 2**70, 2.0**70),
            ("int", -(2**63), -(2.0**63)),
            ("int", np.int64(5), 5.0),
            ("int", Decimal("5"), 5.0),
            ("int", True, 1.0),
            ("bool", True, 1.0),
            ("bool", False, 0.0),
            ("bool", 1, 1.0),
            ("bool", 0.0, 0.0),
            ("bool", np.bool_(False), 0.0),
        ],
    )
    def test_numbers(self, dtype, value, expected):
        shared = binder(Field("x", dtype, "numbers"))
        for rows in ({"x": value}, [[value]], [{"x": value}]):
            got = shared.bind(rows).arrays[0]
            assert got.tolist() == [[expected]]
            assert np.signbit(got[0, 0]) == np.signbit(np.float64(expected))

    @pytest.mark.parametrize(
        ("dtype", "value", "reason"),
        [
            ("float", "1", "mistyped"),
            ("float", b"1", "mistyped"),
            ("float", 1j, "mistyped"),
            ("float", np.complex64(1), "mistyped"),
            ("float", np.datetime64("2026-01-01"), "mistyped"),
            ("float", np.timedelta64(1, "s"), "mistyped"),
            ("float", np.str_("1"), "mistyped"),
            ("float", [1.0], "mistyped"),
            ("float", {"a": 1}, "mistyped"),
            ("float", np.array([1.0]), "mistyped"),
            ("float", object(), "mistyped"),
            ("float", None, "missing"),
            ("float", float("nan"), "missing"),
            ("float", np.float32("nan"), "missing"),
            ("float", Decimal("nan"), "missing"),
            ("float", Decimal("sNaN"), "mistyped"),
            ("float", float("inf"), "infinite"),
            ("float", -float("inf"), "infinite"),
            ("float", 1e39, "overflow"),
            ("float", 10**400, "overflow"),
            ("float", Fraction(10**400), "overflow"),
            ("float", Decimal("1e400"), "overflow"),
            ("int", 2.5, "fraction"),
            ("int", Decimal("2.00000000000000000000001"), "fraction"),
            ("int", 2**24 + 1, "inexact"),
            ("int", 16777217.0, "inexact"),
            ("int", 2**63 - 1, "inexact"),
            ("int", 2**70 + 1, "inexact"),
            ("int", float("inf"), "infinite"),
            ("int", "3", "mistyped"),
            ("bool", 2, "mistyped"),
            ("bool", 0.5, "mistyped"),
            ("bool", 10**30, "mistyped"),
            ("bool", "True", "mistyped"),
        ],
    )
    def test_refused_numbers(self, dtype, value, reason):
        shared = binder(Field("y", "float", "numbers"), Field("x", dtype, "numbers", 1))
        with pytest.raises(RefusedError) as caught:
            shared.bind({"y": 0.0, "x": value})
        assert caught.value.args[0] == reason
        assert caught.value.args[1] is value
        assert caught.value.args[2:] == (1, None)
        with pytest.raises(RefusedError) as caught:
            shared.bind([{"y": 0.0, "x": 0}, {"y": 0.0, "x": value}])
        assert caught.value.args[2:] == (1, 1)

    @pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan"), Decimal("nan")])
    def test_missing_numbers(self, missing):
        for dtype in ("float", "int", "bool"):
            shared = binder(Field("x", dtype, "numbers", missing="nan"))
            assert np.isnan(shared.bind({"x": missing}).arrays[0]).all()

    def test_infinity_where_it_is_allowed(self):
        for missing in ("nan", "refuse"):
            refusing = binder(Field("x", "float", "numbers", missing=missing))
            for rows in ({"x": float("inf")}, np.array([[-np.inf]]), np.array([[np.inf]], "f4")):
                with pytest.raises(RefusedError, match="infinite"):
                    refusing.bind(rows)
        shared = binder(Field("x", "float", "numbers", missing="nan", infinity="allow"))
        assert shared.bind({"x": float("inf")}).arrays[0].tolist() == [[float("inf")]]
        assert shared.bind(np.array([[np.inf]])).arrays[0].tolist() == [[float("inf")]]
        with pytest.raises(RefusedError, match="overflow"):
            shared.bind(np.array([[1e39]]))

    @pytest.mark.parametrize(
        ("store", "value", "expected"),
        [
            ("float64", 2**53, 2.0**53),
            ("int64", 2**63 - 1, 2**63 - 1),
            ("int64", -5.0, -5),
            ("int32", -(2**31), -(2**31)),
            ("bool", 1, True),
        ],
    )
    def test_other_matrices(self, store, value, expected):
        got = binder(Field("x", "int", "numbers"), numbers=store).bind({"x": value}).arrays[0]
        assert got.dtype == store
        assert got.tolist() == [[expected]]

    def test_float64_keeps_a_float(self):
        assert binder(NUMBER, numbers="float64").bind({"x": 0.1}).arrays[0].tolist() == [[0.1]]

    @pytest.mark.parametrize(
        ("store", "value", "reason"),
        [
            ("float64", 2**53 + 1, "inexact"),
            ("int64", 2**63, "overflow"),
            ("int64", 2.0**63, "overflow"),
            ("int64", 0.5, "fraction"),
            ("int32", 2**31, "overflow"),
            ("int32", 2.0**31, "overflow"),
            ("bool", 2, "mistyped"),
        ],
    )
    def test_what_other_matrices_cannot_hold(self, store, value, reason):
        with pytest.raises(RefusedError, match=reason):
            binder(Field("x", "int", "numbers"), numbers=store).bind({"x": value})


class TestText:
    text = Field("t", "string", "strings")

    @pytest.mark.parametrize("value", ["", "abc", "é", "日本", "🎉", "nul\0inside", "x" * 10_000])
    def test_text_is_passed_on(self, value):
        assert binder(self.text).bind({"t": value}).arrays[0][0, 0] == value

    def test_subclasses_become_plain_str(self):
        got = binder(self.text).bind({"t": np.str_("abc")}).arrays[0][0, 0]
        assert type(got) is str
        assert got == "abc"

    @pytest.mark.parametrize(
        ("value", "reason"),
        [
            ("\ud800", "surrogate"),
            ("ok \udfff", "surrogate"),
            ("🎉\udc80", "surrogate"),
            (b"abc", "mistyped"),
            (3, "mistyped"),
            (1.5, "mistyped"),
            (True, "mistyped"),
            (None, "missing"),
            (float("nan"), "missing"),
            (np.float32("nan"), "missing"),
        ],
    )
    def test_refused_text(self, value, reason):
        with pytest.raises(RefusedError, match=reason):
            binder(self.text).bind({"t": value})

    def test_missing_text(self):
        shared = binder(Field("t", "string", "strings", missing="empty"))
        rows = [{"t": None}, {"t": float("nan")}, {"t": ""}]
        assert shared.bind(rows).arrays[0].tolist() == [[""], [""], [""]]

    def test_references_are_kept_and_let_go(self):
        value = "a text of its own" + str(id(self))
        before = sys.getrefcount(value)
        bound = binder(self.text).bind([{"t": value}] * 10)
        assert sys.getrefcount(value) == before + 10
        del bound
        assert sys.getrefcount(value) == before

    def test_a_refused_row_leaks_nothing(self):
        value = "a text of its own" + str(id(self))
        shared = binder(self.text, Field("x", "float", "numbers"))
        before = sys.getrefcount(value)
        for _ in range(3):
            with pytest.raises(RefusedError):
                shared.bind([{"t": value, "x": 1.0}, {"t": value, "x": None}])
        gc.collect()
        assert sys.getrefcount(value) == before


class TestCategories:
    def test_unknown_is_refused(self):
        shared = binder(Field("t", "string", "strings", categories=("a", "b"), unknown="refuse"))
        assert shared.bind({"t": "b"}).arrays[0].tolist() == [["b"]]
        with pytest.raises(RefusedError, match="unknown"):
            shared.bind({"t": "c"})

    def test_unknown_is_allowed(self):
        shared = binder(Field("t", "string", "strings", categories=("a", "b")))
        assert shared.bind({"t": "c"}).arrays[0].tolist() == [["c"]]

    @pytest.mark.parametrize("store", ["float32", "int64"])
    def test_codes(self, store):
        field = Field("t", "string", "numbers", categories=("a", "b"), encoding="code")
        got = binder(field, numbers=store).bind([{"t": "b"}, {"t": "a"}, {"t": "other"}]).arrays[0]
        assert got.dtype == store
        assert got.tolist() == [[1], [0], [-1]]

    def test_missing_code(self):
        field = Field("t", "string", "numbers", categories=("a",), encoding="code", missing="nan")
        assert np.isnan(binder(field).bind({"t": None}).arrays[0]).all()

    @pytest.mark.parametrize("value", [20, 20.0, np.int8(20), np.float32(20), Decimal(20)])
    def test_numbers_as_categories(self, value):
        field = Field("x", "int", "numbers", categories=(10, 20), encoding="code", unknown="refuse")
        assert binder(field).bind({"x": value}).arrays[0].tolist() == [[1.0]]
        with pytest.raises(RefusedError, match="unknown"):
            binder(field).bind({"x": 30})

    def test_number_category_passed_as_value(self):
        field = Field("x", "float", "numbers", categories=(0.5, 1.5), unknown="refuse")
        assert binder(field).bind(np.array([[1.5], [0.5]])).arrays[0].tolist() == [[1.5], [0.5]]

    @pytest.mark.parametrize(
        ("dtype", "value", "reason"),
        [
            ("int", 2.5, "fraction"),
            ("int", Decimal("2.5"), "fraction"),
            ("int", float("inf"), "infinite"),
            ("int", "1", "mistyped"),
            ("bool", 2, "mistyped"),
            ("bool", 0.5, "mistyped"),
        ],
    )
    def test_an_unknown_category_must_still_be_of_the_fields_type(self, dtype, value, reason):
        field = Field("x", dtype, "numbers", categories=(True,), encoding="code")
        assert binder(field).bind({"x": 0}).arrays[0].tolist() == [[-1.0]]
        with pytest.raises(RefusedError, match=reason):
            binder(field).bind({"x": value})

    def test_bool_categories(self):
        field = Field("x", "bool", "numbers", categories=(False, True), encoding="code")
        assert binder(field).bind([{"x": True}, {"x": 0}]).arrays[0].tolist() == [[1.0], [0.0]]


class TestNames:
    @pytest.mark.parametrize(
        "row",
        [{}, {"x": 1.0}, {"x": 1.0, "z": 1.0}, {"x": 1.0, "y": 1.0, "z": 1.0}, {1: 2, "x": 1.0}],
    )
    def test_missing_and_unknown_names(self, row):
        shared = binder(NUMBER, Field("y", "float", "numbers", 1))
        with pytest.raises(RefusedError) as caught:
            shared.bind([{"x": 1.0, "y": 1.0}, row])
        assert caught.value.args == ("names", row, None, 1)

    @pytest.mark.parametrize("row", [[], [1.0], [1.0, 2.0, 3.0], (1.0,)])
    def test_length(self, row):
        shared = binder(NUMBER, Field("y", "float", "numbers", 1))
        with pytest.raises(RefusedError, match="length"):
            shared.bind([[1.0, 2.0], row])

    def test_a_refuse_that_returns_is_an_error(self):
        shared = RowBinder([NUMBER], [TensorSpec("numbers", "float32", ("N", 1))], lambda *_: None)
        with pytest.raises(RuntimeError, match="refuse"):
            shared.bind({"x": "text"})


class TestArrays:
    fields = tuple(Field(f"f{i}", "float", "numbers", i) for i in range(4))

    def test_the_right_array_is_not_copied(self):
        given = np.arange(8, dtype=np.float32).reshape(2, 4)
        given.flags.writeable = False
        bound = binder(*self.fields).bind(given)
        assert bound.arrays[0] is given
        assert bound.n_rows == 2

    def test_one_row_is_not_copied_either(self):
        given = np.arange(4, dtype=np.float32)
        got = binder(*self.fields).bind(given).arrays[0]
        assert got.shape == (1, 4)
        assert np.shares_memory(got, given)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
    @pytest.mark.parametrize("n_rows", [0, 1, 7, 1500])
    @pytest.mark.parametrize(
        "layout",
        [
            lambda x: x,
            np.asfortranarray,
            lambda x: np.repeat(x, 2, axis=0)[::2],
            lambda x: np.repeat(x, 3, axis=1)[:, ::3],
            lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
        ],
        ids=["C", "Fortran", "row strides", "column strides", "negative strides"],
    )
    def test_layouts(self, dtype, n_rows, layout):
        given = layout(np.random.default_rng(0).normal(scale=100, size=(n_rows, 4)).astype(dtype))
        bound = binder(*self.fields).bind(given)
        assert bound.n_rows == n_rows
        assert bound.arrays[0].dtype == np.float32
        assert bound.arrays[0].flags.c_contiguous
        np.testing.assert_array_equal(bound.arrays[0], given.astype(np.float32))

    def test_columns_out_of_order(self):
        fields = (
            Field("a", "float", "numbers", 1),
            Field("skip", "float", None),
            Field("b", "int", "numbers", 0),
        )
        for dtype in (np.float32, np.float64, np.int64):
            given = np.arange(6).reshape(2, 3).astype(dtype)
            assert binder(*fields).bind(given).arrays[0].tolist() == [[2.0, 0.0], [5.0, 3.0]]

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, dtype, value):
        given = np.zeros((900, 4), dtype)
        given[700, 2] = value
        reason = "missing" if np.isnan(value) else "infinite"
        for layout in (given, np.asfortranarray(given)):
            with pytest.raises(RefusedError) as caught:
                binder(*self.fields).bind(layout)
            assert caught.value.args[0] == reason
            assert caught.value.args[2:] == (2, 700)
        with pytest.raises(RefusedError) as caught:
            binder(*self.fields).bind(given[700])
        assert caught.value.args[2:] == (2, None)

    def test_nan_only_where_it_may_be(self):
        fields = (NUMBER, Field("y", "float", "numbers", 1, missing="nan"))
        good = np.array([[1, np.nan], [2, 3]], np.float32)
        assert binder(*fields).bind(good).arrays[0] is good
        with pytest.raises(RefusedError, match="missing"):
            binder(*fields).bind(good[:, ::-1].copy())

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
    def test_whole_and_bool_fields(self, dtype):
        fields = (Field("i", "int", "numbers"), Field("b", "bool", "numbers", 1))
        shared = binder(*fields)
        assert shared.bind(np.array([[5, 1], [-3, 0]], dtype)).arrays[0].tolist() == [
            [5, 1],
            [-3, 0],
        ]
        with pytest.raises(RefusedError, match="mistyped"):
            shared.bind(np.array([[5, 2]], dtype))
        if dtype != np.int64:
            with pytest.raises(RefusedError, match="fraction"):
                shared.bind(np.array([[5.5, 1]], dtype))

    def test_int64_is_compared_without_rounding(self):
        shared = binder(Field("i", "int", "numbers"))
        for value in (2**24, -(2**63), 2**62):
            assert shared.bind(np.array([[value]])).arrays[0].tolist() == [[float(value)]]
        for value in (2**24 + 1, 2**53 + 1, 2**63 - 1):
            with pytest.raises(RefusedError, match="inexact"):
                shared.bind(np.array([[value]]))

    def test_int64_matrix(self):
        fields = (Field("i", "int", "numbers"), Field("b", "bool", "numbers", 1))
        shared = binder(*fields, numbers="int64")
        given = np.array([[2**63 - 1, 1]])
        assert shared.bind(given).arrays[0] is given
        with pytest.raises(RefusedError, match="mistyped"):
            shared.bind(np.array([[1, 5]]))

    def test_a_large_array(self):
        """Large enough for the pass that releases the GIL."""
        given = np.random.default_rng(0).normal(size=(200_000, 4))
        shared = binder(*self.fields)
        np.testing.assert_array_equal(shared.bind(given).arrays[0], given.astype(np.float32))
        single = given.astype(np.float32)
        assert shared.bind(single).arrays[0] is single
        single[199_999, 3] = np.nan
        with pytest.raises(RefusedError) as caught:
            shared.bind(single)
        assert caught.value.args[2:] == (3, 199_999)

    def test_unusual_memory_is_left_to_python(self):
        shared = binder(*self.fields)
        swapped = np.zeros((2, 4), np.dtype(np.float32).newbyteorder())
        odd = np.frombuffer(bytearray(33), np.uint8)[1:].view(np.float32).reshape(2, 4)
        assert not odd.flags.aligned
        assert shared.bind(swapped) is None
        assert shared.bind(odd) is None


class TestFill:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, bool, object])
    def test_columns(self, dtype):
        shared = binder(NUMBER, Field("y", "float", "numbers", 1))
        column = np.array([1, 0, 1, 1, 0, 1], dtype=dtype)
        arrays = shared.allocate(3)
        shared.fill(0, column[::2], arrays)
        shared.fill(1, column[:3], arrays)
        assert arrays[0].tolist() == [[1, 1], [1, 0], [0, 1]]

    def test_an_unread_field_is_passed_over(self):
        shared = binder(NUMBER, Field("note", "string", None))
        shared.fill(1, np.array(["any"], object), shared.allocate(1))

    @pytest.mark.parametrize(
        "column", [np.zeros(2), np.zeros((3, 1)), np.zeros(3, np.int8), np.zeros(3, complex)]
    )
    def test_unfit_columns(self, column):
        shared = binder(NUMBER)
        with pytest.raises(TypeError, match="Expected a column"):
            shared.fill(0, column, shared.allocate(3))

    def test_no_such_field(self):
        shared = binder(NUMBER)
        with pytest.raises(IndexError):
            shared.fill(1, np.zeros(1), shared.allocate(1))

    def test_numbers_for_a_text_field(self):
        shared = binder(Field("t", "string", "strings", missing="empty"))
        arrays = shared.allocate(2)
        shared.fill(0, np.array([np.nan, np.nan]), arrays)
        assert arrays[0].tolist() == [[""], [""]]
        with pytest.raises(RefusedError) as caught:
            shared.fill(0, np.array([np.nan, 1.0]), arrays)
        assert caught.value.args == ("mistyped", 1.0, 0, 1)


@pytest.mark.parametrize(
    ("fields", "inputs", "message"),
    [
        ([Field("x", "string", "a")], [("a", "float32", ("N", 1))], "cannot hold"),
        ([Field("x", "float", "a")], [("a", "string", ("N", 1))], "cannot hold"),
        ([Field("x", "float", "a")], [("a", "float16", ("N", 1))], "cannot fill"),
        ([Field("x", "float", "a")], [("a", "float32", None)], "cannot fill"),
        ([Field("x", "float", "a")], [("a", "float32", ("N", 2))], "2 columns"),
        ([Field("x", "float", "a", 1)], [("a", "float32", ("N", "k"))], "each column"),
        ([Field("x", "float", "b")], [], "no input"),
        (
            [Field("x", "float", "a"), Field("x", "float", "a", 1)],
            [("a", "float32", ("N", 2))],
            "same name",
        ),
        ([Field("x", "int", "a", missing="nan")], [("a", "int64", ("N", 1))], "may be missing"),
        ([Field("x", "string", "a", encoding="code")], [("a", "int64", ("N", 1))], "no categories"),
    ],
)
def test_contradictory_signatures(fields, inputs, message):
    with pytest.raises(ValueError, match=message):
        RowBinder(fields, [TensorSpec(*spec) for spec in inputs], refuse)


def test_a_row_may_change_while_it_is_read():
    """A value's own code runs in the middle of the binding."""
    row = {}

    class Meddler:
        def __float__(self):
            row.clear()
            row.update(z=1)
            return 1.0

    row.update(x=Meddler(), y=Meddler())
    shared = binder(NUMBER, Field("y", "float", "numbers", 1))
    with pytest.raises(RefusedError, match="names"):
        shared.bind(row)

    rows = [{"x": None}]

    class Shrinker:
        def __float__(self):
            rows.clear()
            gc.collect()
            return 1.0

    rows[:] = [{"x": Shrinker()}, {"x": 2.0}]
    assert binder(NUMBER).bind(rows).arrays[0].tolist() == [[1.0], [2.0]]


def test_an_error_of_a_value_comes_through():
    class Broken:
        def __float__(self):
            raise ZeroDivisionError("its own")

    with pytest.raises(ZeroDivisionError, match="its own"):
        binder(NUMBER).bind({"x": Broken()})


def test_one_binder_serves_many_threads():
    """Each thread's rows come out as it put them in, with the interpreter switching all the time."""
    fields = [Field(f"f{i}", "float", "numbers", i) for i in range(8)]
    fields.append(Field("t", "string", "strings", categories=("a", "b"), unknown="refuse"))
    shared = binder(*fields)
    wrong = []
    start = threading.Barrier(8)

    def work(seed):
        row = {f"f{i}": float(seed * 100 + i) for i in range(8)} | {"t": "ab"[seed % 2]}
        expected = [[float(seed * 100 + i) for i in range(8)]]
        start.wait()
        for turn in range(300):
            if turn % 10 == 0:
                with pytest.raises(RefusedError):
                    shared.bind(row | {"t": "c"})
            numbers, strings = shared.bind(row).arrays
            if numbers.tolist() != expected or strings.tolist() != [["ab"[seed % 2]]]:
                wrong.append(seed)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert wrong == []


class TestTensorBinder:
    shared = TensorBinder(
        ["x", "mask"],
        [np.dtype(np.float32), np.dtype(np.int64)],
        [("N", 3), ("N", "T")],
    )

    def test_right_tensors_are_passed_on(self):
        x, mask = np.zeros((2, 3), np.float32), np.zeros((2, 7), np.int64)
        for values in ((x, mask), {"mask": mask, "x": x}):
            bound = self.shared.bind(values)
            assert bound.arrays[0] is x
            assert bound.arrays[1] is mask
            assert bound.n_rows == 2

    @pytest.mark.parametrize(
        ("x", "mask"),
        [
            (np.zeros((2, 3)), np.zeros((2, 7), np.int64)),
            (np.zeros((2, 4), np.float32), np.zeros((2, 7), np.int64)),
            (np.zeros((2, 3), np.float32), np.zeros((3, 7), np.int64)),
            (np.zeros((2, 3), np.float32), np.zeros(2, np.int64)),
            (np.zeros((3, 2), np.float32).T, np.zeros((2, 7), np.int64)),
            (np.zeros((2, 3), ">f4"), np.zeros((2, 7), np.int64)),
            ([[1.0, 2.0, 3.0]], np.zeros((1, 7), np.int64)),
        ],
        ids=["dtype", "size", "shared size", "rank", "order", "byte order", "list"],
    )
    def test_anything_else_is_left_to_python(self, x, mask):
        assert self.shared.bind((x, mask)) is None

    def test_wrong_number_or_names(self):
        x = np.zeros((2, 3), np.float32)
        assert self.shared.bind(x) is None
        assert self.shared.bind((x,)) is None
        assert self.shared.bind({"x": x}) is None
        assert self.shared.bind({"x": x, "masc": x}) is None

    def test_equivalent_dtypes(self):
        """long and long long are one type to a graph."""
        alone = TensorBinder(["x"], [np.dtype(np.int64)], [("N",)])
        assert alone.bind(np.zeros(2, np.longlong)).n_rows == 2

    def test_rows_of_models_without_a_batch_axis(self):
        alone = TensorBinder(["x"], [np.dtype(np.float32)], [(3,)])
        assert alone.bind(np.zeros(3, np.float32)).n_rows == 1
        free = TensorBinder(["x"], [np.dtype(np.float32)], [None])
        assert free.bind(np.zeros((5, 2), np.float32)).n_rows == 5


class TestAnswers:
    @pytest.mark.parametrize(
        "classes",
        [
            np.array([10, 20, 30]),
            np.array([1, 2, 3], np.int8),
            np.array(["no", "maybe", "certainly"]),
            np.array(["no", None, 3.5], object),
            np.array([0.5, 1.5, 2.5]),
            np.array([False, True, False]),
        ],
        ids=lambda classes: str(classes.dtype),
    )
    @pytest.mark.parametrize("index", [[], [2], [0, 1, 2, 1]])
    def test_labels(self, classes, index):
        got = take_labels(np.array(index, np.int64), classes, len(index))
        assert got.dtype == classes.dtype
        assert got.tolist() == [classes.tolist()[i] for i in index]
        column = take_labels(np.array(index, np.int64).reshape(-1, 1), classes, len(index))
        assert column.tolist() == got.tolist()

    @pytest.mark.parametrize("index", [-1, 3, 2**40])
    def test_no_such_class(self, index):
        with pytest.raises(IndexError, match="row 1"):
            take_labels(np.array([0, index]), np.array(["a", "b", "c"]), 2)

    def test_not_one_index_per_row(self):
        with pytest.raises(ValueError, match="for each of 2 rows"):
            take_labels(np.array([0]), np.array(["a"]), 2)

    def test_objects_are_kept_alive(self):
        class Label:
            pass

        label = Label()
        watch = weakref.ref(label)
        classes = np.array([label], object)
        got = take_labels(np.array([0]), classes, 1)
        del label, classes
        assert watch() is got[0]
        del got
        assert watch() is None

    def test_widen(self):
        given = np.arange(6, dtype=np.float32).reshape(3, 2)
        got = widen(given, (3, 2))
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got, given)
        assert widen(given, (6,)).shape == (6,)
        assert widen(given.astype(np.float64), (3, 2)) is None
        assert widen(given[:, ::2], (3, 1)) is None
        with pytest.raises(ValueError, match="reshape"):
            widen(given, (4, 2))

    def test_narrowed(self):
        given = np.array([[0.1, 1e-50], [-0.0, 3e38]])
        np.testing.assert_array_equal(narrowed(given), given.astype(np.float32))
        assert narrowed(np.array([1e39])) is None
        assert narrowed(np.array([np.nan])) is None
        assert narrowed(np.asfortranarray(given)) is None
        assert narrowed(given.astype(np.float32)) is None
        assert narrowed(np.array(1.5)).shape == ()


def test_bound_shows_what_it_holds():
    bound = Bound([np.zeros((2, 3), np.float32)], 2, torch=True)
    assert repr(bound) == "Bound(float32 (2, 3); n_rows=2, torch=True)"
    with pytest.raises(AttributeError):
        bound.n_rows = 3
