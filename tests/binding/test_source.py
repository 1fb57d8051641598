"""Rows for the source model: what its own framework would have been given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from infersdk.binding import SourceBinder, to_source
from infersdk.errors import InputError
from infersdk.types import Field, Signature, TensorSpec

FIELDS = (
    Field("age", "int", "numbers", 0, source_dtype="int64"),
    Field("income", "float", "numbers", 1, missing="nan", source_dtype="float64"),
    Field("vip", "bool", "numbers", 2, source_dtype="bool"),
    Field("city", "string", "strings", 0, missing="empty", source_dtype="str"),
    Field(
        "plan",
        "string",
        "strings",
        1,
        categories=("gold", "basic"),
        source_dtype="category",
        missing="empty",
    ),
    Field(
        "grade",
        "int",
        "numbers",
        3,
        categories=(3, 1, 2),
        encoding="code",
        source_dtype="category",
        missing="nan",
    ),
)
TRAINED = pd.DataFrame(
    {
        "age": [41, 22],
        "income": [5e4, np.nan],
        "vip": [True, False],
        "city": pd.Series(["Oslo", None], dtype="str"),
        "plan": pd.Categorical(["gold", None], categories=["gold", "basic"]),
        "grade": pd.Categorical([1, None], categories=[3, 1, 2]),
    }
)
NATIVE = Signature((), (), (), FIELDS, "dataframe")
GRAPH = Signature(
    (TensorSpec("numbers", "float32", ("N", 4)), TensorSpec("strings", "string", ("N", 2))),
    (),
    (),
    FIELDS,
    "dataframe",
)


@pytest.mark.parametrize("signature", [NATIVE, GRAPH], ids=["without graph", "with graph"])
@pytest.mark.parametrize(
    "rows",
    [
        TRAINED,
        TRAINED[reversed(TRAINED.columns)],
        TRAINED.astype(object),
        TRAINED.convert_dtypes(),
        TRAINED.to_dict("records"),
        TRAINED.astype(object).to_numpy(),
    ],
    ids=["trained", "moved", "objects", "nullable", "dicts", "array"],
)
def test_a_frame_is_as_in_training(signature, rows):
    pd.testing.assert_frame_equal(to_source(signature, rows), TRAINED)


def test_one_row():
    got = to_source(NATIVE, TRAINED.iloc[0].to_dict())
    pd.testing.assert_frame_equal(got, TRAINED.iloc[:1])


def test_a_pipeline_answers_the_same():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "size": rng.normal(size=40),
            "count": rng.integers(0, 9, 40),
            "color": rng.choice(["red", "green"], 40),
        }
    )
    model = make_pipeline(
        make_column_transformer(
            (StandardScaler(), ["size", "count"]), (OneHotEncoder(), ["color"])
        ),
        LogisticRegression(),
    ).fit(frame, frame["count"] > 4)
    fields = (
        Field("size", "float", None, source_dtype="float64"),
        Field("count", "int", None, source_dtype="int64"),
        Field("color", "string", None, source_dtype="str"),
    )
    binder = SourceBinder(Signature((), (), (), fields, "dataframe"), model="m")
    expected = model.predict_proba(frame)
    np.testing.assert_array_equal(
        model.predict_proba(binder.bind(frame.to_dict("records"))), expected
    )
    np.testing.assert_array_equal(
        model.predict_proba(binder.bind(frame[["color", "size", "count"]])), expected
    )


@pytest.mark.parametrize(
    ("dtype", "source", "values"),
    [
        ("int", "int8", [1, -2]),
        ("int", "uint16", [1, 2]),
        ("int", "Int64", [1, None]),
        ("int", "Int8", [1, 2]),
        ("int", "int64", [2**53 + 1, -(2**63)]),
        ("float", "float32", [0.5, np.nan]),
        ("float", "Float64", [0.5, None]),
        ("bool", "boolean", [True, None]),
        ("bool", "bool", [True, False]),
        ("string", "string", ["a", None]),
        ("string", "str", ["a", None]),
        ("string", "object", ["a", "b"]),
    ],
)
def test_dtypes_are_restored(dtype, source, values):
    missing = "refuse" if None not in values and np.nan not in values else "nan"
    field = Field("x", dtype, None, missing=missing, source_dtype=source)
    expected = pd.DataFrame({"x": pd.Series(values, dtype=source)})
    signature = Signature((), (), (), (field,), "dataframe")
    pd.testing.assert_frame_equal(
        to_source(signature, [{"x": value} for value in values]), expected
    )
    pd.testing.assert_frame_equal(to_source(signature, expected), expected)


@pytest.mark.parametrize(
    ("dtype", "source", "values", "kept"),
    [
        ("int", "int8", [300], "int64"),
        ("int", "int64", [1, None], "float64"),
        ("bool", "bool", [True, None], "float64"),
        ("float", "float32", [1e300], "float64"),
        ("float", None, [0.1], "float64"),
        ("int", None, [3], "int64"),
    ],
)
def test_values_that_do_not_fit_keep_a_wider_dtype(dtype, source, values, kept):
    field = Field("x", dtype, None, missing="nan", source_dtype=source)
    got = to_source(Signature((), (), (), (field,), "dataframe"), [{"x": v} for v in values])
    assert str(got["x"].dtype) == kept
    for ours, given in zip(got["x"], values, strict=True):
        assert ours == given or (given is None and np.isnan(ours))


def test_missing_text_is_missing_for_pandas():
    field = Field("x", "string", None, missing="empty", source_dtype="object")
    got = to_source(Signature((), (), (), (field,), "dataframe"), [{"x": None}, {"x": ""}])
    assert got["x"].isna().tolist() == [True, False]


def test_an_unknown_category_is_missing():
    got = to_source(NATIVE, {**TRAINED.iloc[0].to_dict(), "plan": "silver"})
    assert got["plan"].isna().tolist() == [True]
    assert got["plan"].cat.categories.tolist() == ["gold", "basic"]


def test_unread_fields_are_filled_in():
    fields = (
        Field("x", "float", "n", source_dtype="float64"),
        Field("id", "int", None, source_dtype="int64"),
        Field("note", "string", None, source_dtype="str"),
        Field("kind", "string", None, categories=("a",), source_dtype="category"),
        Field("rate", "float", None, source_dtype="float32"),
    )
    inputs = (TensorSpec("n", "float32", ("N", 1)),)
    got = to_source(
        Signature(inputs, (), (), fields, "dataframe"), [{"x": 1.0}, {"x": 2.0, "id": 7}]
    )
    assert got.columns.tolist() == ["x", "id", "note", "kind", "rate"]
    assert got.dtypes.astype(str).tolist() == ["float64", "int64", "str", "category", "float32"]
    assert got["x"].tolist() == [1.0, 2.0]
    got = to_source(Signature(inputs, (), (), fields[:2], "array"), np.array([[1.0, 7.0]]))
    assert got.tolist() == [[1.0, 0.0]]


class TestArrays:
    fields = (Field("a", "float", "n", 0, missing="nan"), Field("b", "int", "n", 1))
    signature = Signature((TensorSpec("n", "float32", ("N", 2)),), (), (), fields, "array")

    @pytest.mark.parametrize(
        "rows",
        [
            np.array([[0.1, 2], [np.nan, 4]]),
            [{"b": 2, "a": 0.1}, {"a": None, "b": 4}],
            pd.DataFrame({"b": [2, 4], "a": [0.1, np.nan]}),
            [[0.1, 2], [None, 4]],
            torch.tensor([[0.1, 2], [torch.nan, 4]], dtype=torch.float64),
        ],
        ids=lambda rows: type(rows).__name__,
    )
    def test_float64(self, rows):
        got = to_source(self.signature, rows)
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got, [[0.1, 2], [np.nan, 4]])

    def test_nothing_is_rounded_to_the_graphs_dtype(self):
        got = to_source(self.signature, [1e300, 2**24 + 1])
        assert got.tolist() == [[1e300, 2**24 + 1]]

    def test_text_makes_an_object_array(self):
        fields = (Field("a", "float", None), Field("b", "string", None))
        got = to_source(Signature((), (), (), fields, "array"), [[1.5, "x"]])
        assert got.dtype == object
        assert got.tolist() == [[1.5, "x"]]


def test_texts():
    graph = Signature((TensorSpec("t", "string", ("N", 1)),), (), (), (), "text")
    for signature in (graph, Signature((), (), (), (), "text")):
        assert to_source(signature, "one") == ["one"]
        assert to_source(signature, pd.Series(["one", "two"])) == ["one", "two"]
        with pytest.raises(InputError, match="a str"):
            to_source(signature, ["one", None])


def test_tensors():
    inputs = (TensorSpec("x", "float32", ("N", 2)), TensorSpec("k", "int64", ("N",)))
    signature = Signature(inputs, (), (), (), "tensors")
    got = to_source(signature, (np.ones((1, 2)), [1]))
    assert list(got) == ["x", "k"]
    assert (got["x"].dtype, got["k"].dtype) == (np.float32, np.int64)
    x = torch.ones((1, 2), dtype=torch.float64)
    got = to_source(signature, {"k": torch.tensor([1]), "x": x})
    assert list(got) == ["x", "k"]
    assert (got["x"].dtype, got["k"].dtype) == (torch.float32, torch.int64)


class TestNothingKnown:
    """A model without fields or inputs in its signature gets rows much as they came."""

    def test_frames(self):
        signature = Signature((), (), (), (), "dataframe")
        frame = pd.DataFrame({"a": [1], "when": [pd.Timestamp(0)]})
        assert to_source(signature, frame) is frame
        pd.testing.assert_frame_equal(
            to_source(signature, frame.iloc[0].to_dict()), frame, check_dtype=False
        )
        pd.testing.assert_frame_equal(
            to_source(signature, frame.to_dict("records")), frame, check_dtype=False
        )
        assert to_source(signature, frame.iloc[0]).columns.tolist() == ["a", "when"]
        with pytest.raises(InputError, match="Expected a DataFrame"):
            to_source(signature, [1, 2])

    def test_arrays(self):
        signature = Signature((), (), (), (), "array")
        assert to_source(signature, [1, 2]).tolist() == [[1.0, 2.0]]
        assert to_source(signature, np.ones((2, 3))).shape == (2, 3)

    def test_tensors(self):
        signature = Signature((), (), (), (), "tensors")
        tensor = torch.ones(2)
        assert to_source(signature, tensor)[0] is tensor
        assert to_source(signature, (tensor, 1)) == (tensor, 1)
        assert to_source(signature, {"x": tensor}) == {"x": tensor}


def test_bad_rows_are_refused():
    with pytest.raises(InputError, match="model `m`") as caught:
        SourceBinder(NATIVE, model="m").bind({**TRAINED.iloc[0].to_dict(), "age": "old"})
    assert caught.value.field == "age"
    with pytest.raises(InputError, match="`agee`"):
        to_source(NATIVE, TRAINED.rename(columns={"age": "agee"}))
