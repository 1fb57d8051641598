"""Tensors and texts through the Binder, and `coerce`: onnxruntime's types, numpy's casts as the oracle."""

from __future__ import annotations

import collections
import sys
import types

import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import torch

from infersdk.binding import Binder, coerce
from infersdk.errors import InputError, MissingDependencyError
from infersdk.types import MapSpec, OptionalSpec, SequenceSpec, Signature, TensorSpec


def tensors(*inputs):
    return Binder(Signature(inputs, (), (), (), "tensors"), model="net")


FEATURES = TensorSpec("features", "float32", ("N", 13))
ONE = tensors(FEATURES)
TWO = tensors(TensorSpec("ids", "int64", ("N", "T")), TensorSpec("mask", "int64", ("N", "T")))
IDS, MASK = np.arange(6).reshape(2, 3), np.ones((2, 3), np.int64)


class TestOneTensor:
    @pytest.mark.parametrize(
        "wrap",
        [
            lambda x: x,
            lambda x: (x,),
            lambda x: [x],
            lambda x: {"features": x},
            lambda x: types.MappingProxyType({"features": x}),
            lambda x: collections.UserDict(features=x),
        ],
        ids=["tensor", "tuple", "list", "dict", "mapping", "UserDict"],
    )
    @pytest.mark.parametrize("library", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
    def test_right_tensors_are_not_copied(self, wrap, library):
        given = np.arange(26, dtype=np.float32).reshape(2, 13)
        bound = ONE.bind(wrap(library(given)))
        assert bound.n_rows == 2
        assert bound.torch == (library is torch.from_numpy)
        assert np.shares_memory(bound.arrays[0], given)
        np.testing.assert_array_equal(bound.arrays[0], given)

    @pytest.mark.parametrize(
        "given",
        [
            pytest.param(np.linspace(0, 1, 26).reshape(2, 13), id="float64"),
            pytest.param(np.arange(26, dtype=np.float16).reshape(2, 13), id="float16"),
            pytest.param(np.arange(26).reshape(2, 13), id="int64"),
            pytest.param(np.arange(26, dtype=np.uint8).reshape(2, 13), id="uint8"),
            pytest.param(np.ones((2, 13), bool), id="bool"),
            pytest.param(np.ones((2, 13), ml_dtypes.bfloat16), id="bfloat16"),
            pytest.param(np.arange(26.0).reshape(2, 13).astype(">f4"), id="big endian"),
            pytest.param(np.arange(26, dtype=np.float32).reshape(13, 2).T, id="transposed"),
            pytest.param(np.arange(52, dtype=np.float32).reshape(4, 13)[::2], id="strided"),
            pytest.param(np.arange(26.0).reshape(2, 13).astype(object), id="objects"),
            pytest.param(np.asmatrix(np.ones((2, 13))), id="matrix"),
            pytest.param(np.ma.array(np.ones((2, 13))), id="masked array without masks"),
            pytest.param(np.full((2, 13), np.nan), id="NaN"),
            pytest.param(np.full((2, 13), -np.inf), id="infinity"),
            pytest.param(np.arange(26.0).reshape(2, 13).tolist(), id="nested lists"),
            pytest.param([np.arange(13.0), np.arange(13.0)], id="list of rows"),
            pytest.param(
                torch.arange(26.0, dtype=torch.float64).reshape(2, 13), id="torch float64"
            ),
            pytest.param(torch.ones((2, 13), dtype=torch.bfloat16), id="torch bfloat16"),
            pytest.param(torch.ones((13, 2)).T, id="torch transposed"),
            pytest.param(torch.ones((2, 13), requires_grad=True), id="torch with gradient"),
            pytest.param(torch.ones((2, 13)).to_sparse(), id="torch sparse"),
            pytest.param([torch.ones(13), torch.ones(13)], id="list of torch rows"),
            pytest.param(pd.DataFrame(np.ones((2, 13))), id="DataFrame"),
        ],
    )
    def test_casts(self, given):
        got = ONE.bind(given).arrays[0]
        if isinstance(given, list) and torch.is_tensor(given[0]):
            given = torch.stack(given)
        if torch.is_tensor(given):
            given = given.detach().to_dense().double().numpy()
        expected = np.asarray(given).astype(np.float64).astype(np.float32)
        assert got.dtype == np.float32
        assert got.dtype.isnative
        assert got.flags.c_contiguous
        np.testing.assert_array_equal(got, expected)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (
                np.zeros((8, 12)),
                r"Expected float32 \(N, 13\), got float64 \(8, 12\) - `features`, model `net`",
            ),
            (np.zeros(13, np.float32), r"float32 \(13,\).*Add the batch axis: value\[None\]"),
            (np.zeros((1, 1, 13)), r"float64 \(1, 1, 13\)"),
            (np.float32(1), r"1.0 \(float\)"),
            (3, r"3 \(int\)"),
            (None, "got None"),
            ("text", r"'text' \(str\)"),
            (b"bytes", "bytes"),
            (np.zeros((2, 13), complex), "complex128"),
            (np.zeros((2, 13), "datetime64[s]"), "datetime64"),
            (np.zeros((2, 13), "S1"), r"\|S1"),
            (np.full((2, 13), "1"), "<U1"),
            (np.full((2, 13), None), "an array with None in it"),
            ([[1.0] * 12 + ["a"]], r"<U\d+ \(1, 13\)"),
            ([[1.0] * 12 + [None]], "an array with None in it"),
            ([[1.0] * 13, [1.0] * 12], "a ragged list"),
            ([[1.0] * 12 + [[1.0, 2.0]]], "a ragged list"),
            ([[0] * 12 + [10**400]], "past 64 bits"),
            (np.full((2, 13), 1e39), "out of float32's range"),
            (np.full((2, 13), -1e39), "out of float32's range"),
            (np.ma.array(np.ones((1, 13)), mask=[[True] + [False] * 12]), "masked array"),
            ({1, 2}, "a set of 2"),
            (iter([1]), r"list\(value\)"),
            ({}, "an empty dict"),
            ({"feature": np.zeros((1, 13))}, "Did you mean `features` by `feature`?"),
            ({"features": np.zeros((1, 13)), "more": 1}, "`more`"),
            (object(), "object"),
            ((np.zeros((1, 13)), np.zeros((1, 13))), r"float64 \(2, 1, 13\)"),
            (torch.zeros((8, 12)), r"float32 \(8, 12\)"),
            (torch.zeros((8, 13), dtype=torch.complex64), "complex64"),
        ],
    )
    def test_misfits(self, given, message):
        with pytest.raises(InputError, match=message) as caught:
            ONE.bind(given)
        assert caught.value.model == "net"
        assert len(str(caught.value)) < 300

    def test_no_rows(self):
        bound = ONE.bind(np.zeros((0, 13)))
        assert bound.n_rows == 0
        assert bound.arrays[0].shape == (0, 13)


class TestSeveralTensors:
    @pytest.mark.parametrize(
        "values",
        [
            (IDS, MASK),
            [IDS, MASK],
            {"mask": MASK, "ids": IDS},
            collections.UserDict(ids=IDS, mask=MASK),
            (IDS.astype(np.int32), MASK.astype(bool)),
            (IDS.tolist(), MASK.tolist()),
            (torch.from_numpy(IDS), MASK),
        ],
        ids=["tuple", "list", "dict", "UserDict", "other dtypes", "nested lists", "torch"],
    )
    def test_order(self, values):
        bound = TWO.bind(values)
        assert bound.n_rows == 2
        np.testing.assert_array_equal(bound.arrays[0], IDS)
        np.testing.assert_array_equal(bound.arrays[1], MASK)
        assert {array.dtype for array in bound.arrays} == {np.dtype(np.int64)}

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            (IDS, r"2 inputs \(`ids`, `mask`\) as a tuple or a dict, got int64 \(2, 3\)"),
            ((IDS,), "2 inputs"),
            ((IDS, MASK, MASK), "2 inputs"),
            ({"ids": IDS}, "inputs `ids`, `mask`, got `ids`"),
            ({"ids": IDS, "masc": MASK}, "Did you mean `mask` by `masc`?"),
            ((IDS, MASK[:1]), r"N = 2, as in `ids`, got int64 \(1, 3\) - `mask`"),
            ((IDS, MASK[:, :2]), r"T = 3, as in `ids`, got int64 \(2, 2\) - `mask`"),
            ((IDS.tolist(), MASK[:, :2]), "T = 3"),
            ((IDS, MASK.astype(float)), r"float64 \(2, 3\).*np.rint"),
        ],
    )
    def test_misfits(self, values, message):
        with pytest.raises(InputError, match=message):
            TWO.bind(values)


def dtype_of(name):
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def rank_of(dtype):
    """Place of a dtype's kind among bool, integer, float and complex."""
    return (
        2 if dtype == ml_dtypes.bfloat16 else {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}[dtype.kind]
    )


class TestCasts:
    """`coerce` against numpy, for every pair of dtypes."""

    DTYPES = (
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
        "bfloat16",
        "complex64",
    )

    @pytest.mark.parametrize("wanted", DTYPES)
    @pytest.mark.parametrize("given", DTYPES)
    def test_small_numbers(self, given, wanted):
        source, target = (dtype_of(name) for name in (given, wanted))
        array = np.array([0, 1, 1], source)
        spec = TensorSpec("x", wanted, ("N",))
        if rank_of(source) > rank_of(target):
            with pytest.raises(InputError, match=f"Expected {wanted}"):
                coerce(spec, array, model="m")
        else:
            got = coerce(spec, array, model="m")
            assert got.dtype == target
            assert got.astype(complex).tolist() == [0, 1, 1]

    @pytest.mark.parametrize(
        ("given", "wanted"),
        [
            (np.int64(2**31), "int32"),
            (np.int64(-(2**31) - 1), "int32"),
            (np.int16(-1), "uint8"),
            (np.uint64(2**63), "int64"),
            (np.int64(-1), "uint64"),
            (np.float64(65520), "float16"),
            (np.int64(70000), "float16"),
            (np.float64(1e39), "float32"),
            (np.float64(1e39), "bfloat16"),
            (np.int64(8), "int4"),
            (np.float32(1e6), "float8_e4m3fn"),
        ],
    )
    def test_out_of_range(self, given, wanted):
        with pytest.raises(InputError, match=f"out of {wanted}'s range"):
            coerce(TensorSpec("x", wanted, (1,)), np.array([given]), model="m")

    @pytest.mark.parametrize(
        ("given", "wanted"),
        [(2**31 - 1, "int32"), (255, "uint8"), (2**63 - 1, "int64"), (7, "int4"), (-8, "int4")],
    )
    def test_at_the_edge(self, given, wanted):
        got = coerce(TensorSpec("x", wanted, ()), np.array(given), model="m")
        assert int(got) == given

    def test_torch_bfloat16(self):
        tensor = torch.tensor([1.5, -2.0], dtype=torch.bfloat16)
        got = coerce(TensorSpec("x", "bfloat16", ("N",)), tensor, model="m")
        assert got.dtype == ml_dtypes.bfloat16
        assert got.astype(float).tolist() == [1.5, -2.0]
        bound = tensors(TensorSpec("x", "bfloat16", ("N",))).bind(tensor)
        assert bound.torch
        assert bound.n_rows == 2

    def test_no_such_dtype(self):
        with pytest.raises(ValueError, match="'float7'"):
            coerce(TensorSpec("x", "float7", ()), 1.0, model="m")

    def test_without_ml_dtypes(self, monkeypatch):
        """Its import tells numpy the names of its dtypes, so an unknown name stands for one of them."""
        monkeypatch.setitem(sys.modules, "ml_dtypes", None)
        with pytest.raises(MissingDependencyError, match="pip install ml_dtypes"):
            coerce(TensorSpec("x", "float7", ()), 1.0, model="m")

    def test_scalars(self):
        got = coerce(TensorSpec("x", "float32", ()), 2.5, model="m")
        assert (got.shape, got.dtype, float(got)) == ((), np.float32, 2.5)
        assert coerce(TensorSpec("x", "int64", None), [[1], [2]], model="m").shape == (2, 1)

    def test_an_empty_list_has_no_dtype(self):
        got = coerce(TensorSpec("x", "int64", ("N",)), [], model="m")
        assert (got.shape, got.dtype) == ((0,), np.int64)
        with pytest.raises(InputError, match="int64"):
            coerce(TensorSpec("x", "int64", ("N",)), np.zeros(0), model="m")

    def test_0d_stays_0d(self):
        swapped = np.array(3.0, ">f4")
        got = coerce(TensorSpec("x", "float32", ()), swapped, model="m")
        assert got.shape == ()
        assert got.dtype.isnative

    def test_a_foreign_array(self):
        class Foreign:
            def __array__(self, dtype=None, copy=None):
                return np.ones((2, 13), dtype or np.float32)

        assert ONE.bind(Foreign()).arrays[0].shape == (2, 13)

    def test_dlpack(self):
        class Capsule:
            def __init__(self, array):
                self.array = array

            def __dlpack__(self, **options):
                return self.array.__dlpack__(**options)

            def __dlpack_device__(self):
                return self.array.__dlpack_device__()

        given = np.ones((2, 13), np.float32)
        assert np.shares_memory(ONE.bind(Capsule(given)).arrays[0], given)


class TestStrings:
    spec = TensorSpec("words", "string", ("N", 2))

    @pytest.mark.parametrize(
        "given",
        [
            [["a", "b\0"], ["", "🎉"]],
            (("a", "b\0"), ("", "🎉")),
            np.array([["a", "b\0"], ["", "🎉"]], object),
            pd.DataFrame([["a", "b\0"], ["", "🎉"]]),
            np.array([["a", "b\0"], ["", "🎉"]], np.dtypes.StringDType()),
        ],
        ids=["lists", "tuples", "objects", "DataFrame", "StringDType"],
    )
    def test_text(self, given):
        got = coerce(self.spec, given, model="m")
        assert got.dtype == object
        assert got.tolist() == [["a", "b\0"], ["", "🎉"]]
        assert {type(item) for item in got.flat} == {str}

    def test_fixed_width(self):
        assert coerce(self.spec, np.array([["a", "bc"]]), model="m").tolist() == [["a", "bc"]]
        assert coerce(TensorSpec("w", "string", ()), "abc", model="m").item() == "abc"

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ([["a", 1]], r"a str, got 1 \(int\)"),
            ([["a", None]], "a str, got None"),
            ([["a", b"b"]], "Decode"),
            ([["a", "\udc80"]], "UTF-8"),
            ([["a"], ["b", "c"]], "ragged"),
            (np.array([[b"a", b"b"]]), "np.char.decode"),
            (np.zeros((1, 2)), r"float64 \(1, 2\)"),
            ("abc", r"string \(N, 2\)"),
            (b"abc", "decode"),
            (None, "None"),
        ],
    )
    def test_misfits(self, given, message):
        with pytest.raises(InputError, match=message) as caught:
            coerce(self.spec, given, model="m")
        assert caught.value.field == "words"


class TestOtherValues:
    sequence = SequenceSpec("xs", TensorSpec("", "float32", ("N",)))
    mapping = MapSpec("weights", "int64", TensorSpec("", "float32", ()))
    optional = OptionalSpec("maybe", TensorSpec("", "int64", ("N",)))

    def test_sequence(self):
        got = coerce(self.sequence, [[1, 2], np.zeros(3)], model="m")
        assert [array.dtype for array in got] == [np.float32, np.float32]
        assert [array.shape for array in got] == [(2,), (3,)]
        assert coerce(self.sequence, (), model="m") == []
        assert tensors(self.sequence).bind([[1.0], [2.0]]).n_rows == 1

    def test_map(self):
        assert coerce(self.mapping, {1: 2, np.int64(3): 0.5}, model="m") == {1: 2.0, 3: 0.5}
        texts = MapSpec("weights", "string", TensorSpec("", "int64", ()))
        assert coerce(texts, {"a": 1}, model="m") == {"a": 1}
        assert tensors(self.mapping).bind({1: 2.0}).arrays == [{1: 2.0}]
        assert tensors(self.mapping).bind({"weights": {1: 2.0}}).arrays == [{1: 2.0}]

    def test_optional(self):
        assert coerce(self.optional, None, model="m") is None
        assert coerce(self.optional, [1], model="m").tolist() == [1]
        both = tensors(FEATURES, self.optional)
        assert both.bind({"features": np.ones((2, 13))}).arrays[1] is None

    @pytest.mark.parametrize(
        ("spec", "given", "message"),
        [
            (sequence, np.zeros(3), "sequence of float32"),
            (sequence, 3, "Pass a list"),
            (sequence, [["a"]], "got <U1"),
            (mapping, [1], "Pass a dict"),
            (mapping, {"a": 1}, r"the key 'a' \(str\)"),
            (mapping, {True: 1}, "the key True"),
            (mapping, {1: "a"}, "'a'"),
            (MapSpec("w", "string", TensorSpec("", "float32", ())), {1: 1}, "the key 1"),
            (optional, 0.5, "0.5"),
        ],
    )
    def test_misfits(self, spec, given, message):
        with pytest.raises(InputError, match=message):
            coerce(spec, given, model="m")


class TestTexts:
    flat = Binder(
        Signature((TensorSpec("text", "string", ("N",)),), (), (), (), "text"), model="spam"
    )
    column = Binder(
        Signature((TensorSpec("text", "string", ("N", 1)),), (), (), (), "text"), model="spam"
    )

    @pytest.mark.parametrize(
        "given",
        [
            ["a", "b\0c", ""],
            ("a", "b\0c", ""),
            np.array(["a", "b\0c", ""]),
            np.array([["a"], ["b\0c"], [""]], object),
            pd.Series(["a", "b\0c", ""]),
            pd.Series(["a", "b\0c", ""], dtype="category"),
        ],
        ids=["list", "tuple", "array", "column", "Series", "categorical"],
    )
    def test_texts(self, given):
        for binder, expected in (
            (self.flat, ["a", "b\0c", ""]),
            (self.column, [["a"], ["b\0c"], [""]]),
        ):
            bound = binder.bind(given)
            assert bound.n_rows == 3
            assert bound.arrays[0].tolist() == expected

    def test_one_text(self):
        for given in ("hello", np.str_("hello")):
            bound = self.flat.bind(given)
            assert bound.n_rows == 1
            assert bound.arrays[0].tolist() == ["hello"]

    def test_no_texts(self):
        assert self.flat.bind([]).arrays[0].shape == (0,)
        assert self.column.bind([]).arrays[0].shape == (0, 1)

    @pytest.mark.parametrize(
        ("given", "message", "row"),
        [
            (None, "a str or a list of str, got None", None),
            (b"hello", "decode", None),
            (3, r"3 \(int\)", None),
            ({"text": "hello"}, "a dict of 1", None),
            ({"hello"}, r"list\(rows\)", None),
            ((text for text in ["a"]), r"list\(rows\)", None),
            (np.ones(3), "a str, got 1.0", 0),
            (np.array([b"a"]), r"\|S1", None),
            (np.array([["a", "b"]]), r"\(1, 2\)", None),
            (["a", None], "a str, got None", 1),
            (["a", 3], r"a str, got 3 \(int\)", 1),
            (["a", ["b"]], "a list of 1", 1),
            (pd.Series(["a", None]), "a str, got None", 1),
            ("\ud800", "UTF-8", None),
            (["a", "\ud800"], "UTF-8", 1),
        ],
    )
    def test_misfits(self, given, message, row):
        with pytest.raises(InputError, match=message) as caught:
            self.flat.bind(given)
        assert caught.value.row == row
        assert caught.value.model == "spam"
