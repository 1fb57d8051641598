"""Answers: the outputs of a graph as the source model would have given them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_iris
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression

from infersdk.binding import answer, make_answerer
from infersdk.errors import SessionError
from infersdk.types import Labels, Method

PROBABILITIES = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)


@pytest.mark.parametrize("names", [(0, 1, 2), ("setosa", "versicolor", "virginica")])
def test_a_classifier(names):
    X, y = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(X, np.array(names)[y])
    index = np.argmax(model.decision_function(X), axis=1)
    labels = Labels(tuple(model.classes_.tolist()), str(model.classes_.dtype))
    got = answer(Method("predict", ("label",), "labels", labels=labels), [index], len(X))
    expected = model.predict(X)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)

    single = model.predict_proba(X).astype(np.float32)
    method = Method("predict_proba", ("probabilities",), "array", "float64", (3,))
    got = answer(method, [single], len(X))
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, single.astype(np.float64))


def test_a_regressor():
    X, y = load_iris(return_X_y=True)
    model = LinearRegression().fit(X, y)
    expected = model.predict(X)
    got = answer(
        Method("predict", ("prediction",), "array", "float64", ()),
        [expected.reshape(-1, 1).astype(np.float32)],
        len(X),
    )
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", [None, "float32", "float64", "int64", "float16", "bfloat16"])
@pytest.mark.parametrize("shape", [None, (2,), (1, 2), ()])
@pytest.mark.parametrize(
    "output", [PROBABILITIES, PROBABILITIES.astype(np.float64), PROBABILITIES.T]
)
def test_arrays(output, shape, dtype):
    if shape == ():
        output = output[:, :1]
    got = answer(Method("m", ("o",), "array", dtype, shape), [output], 2)
    expected = output if shape is None else output.reshape((2, *shape))
    assert got.shape == expected.shape
    assert str(got.dtype) == (dtype or str(output.dtype))
    np.testing.assert_array_equal(got.astype(float), expected.astype(got.dtype).astype(float))


def test_no_rows():
    assert answer(
        Method("m", ("o",), "array", "float64", ()), [np.zeros((0, 1), np.float32)], 0
    ).shape == (0,)
    labels = Labels(("a", "b"), "object")
    got = answer(Method("m", ("o",), "labels", labels=labels), [np.zeros(0, np.int64)], 0)
    assert (got.shape, got.dtype) == ((0,), object)


def test_right_outputs_are_not_copied():
    for method in (Method("m", ("o",)), Method("m", ("o",), dtype="float32", shape=(2,))):
        assert np.shares_memory(answer(method, [PROBABILITIES], 2), PROBABILITIES)


def test_sparse():
    texts = ["one two", "two two three"]
    expected = CountVectorizer().fit_transform(texts)
    method = Method("transform", ("o",), "sparse", str(expected.dtype), (3,))
    got = answer(method, [expected.toarray().astype(np.float32)], 2)
    assert sparse.issparse(got)
    assert (got.format, got.dtype) == (expected.format, expected.dtype)
    np.testing.assert_array_equal(got.toarray(), expected.toarray())


def test_several_outputs():
    first, second = PROBABILITIES, np.array([1, 2])
    got = answer(Method("m", ("a", "b"), "tuple"), [first, second], 2)
    assert isinstance(got, tuple)
    assert got[0] is first
    assert got[1] is second
    got = answer(Method("m", ("a", "b"), "list"), [first, second], 2)
    assert isinstance(got, list)
    assert got[0] is first
    got = answer(Method("m", ("a", "b"), "dict", keys=("x", "y")), [first, second], 2)
    assert list(got) == ["x", "y"]
    assert got["y"] is second
    assert list(answer(Method("m", ("a", "b"), "dict"), [first, second], 2)) == ["a", "b"]


class TestTorch:
    def test_tensors_share_memory(self):
        output = PROBABILITIES.copy()
        got = answer(Method("__call__", ("o",)), [output], 2, torch=True)
        assert torch.is_tensor(got)
        assert got.dtype == torch.float32
        output[0, 0] = 9
        assert got[0, 0] == 9

    def test_every_form(self):
        outputs = [PROBABILITIES.copy(), np.array([1, 2])]
        for form in ("tuple", "list", "dict"):
            got = answer(Method("m", ("a", "b"), form), outputs, 2, torch=True)
            values = list(got.values()) if form == "dict" else list(got)
            assert all(torch.is_tensor(value) for value in values)
            assert type(got).__name__ == form

    def test_bfloat16(self):
        method = Method("m", ("o",), dtype="bfloat16")
        got = answer(method, [PROBABILITIES], 2, torch=True)
        assert got.dtype == torch.bfloat16
        assert got.float().tolist() == PROBABILITIES.tolist()

    def test_what_is_no_tensor_stays(self):
        labels = Method("predict", ("o",), "labels", labels=Labels(("a", "b"), "object"))
        got = answer(labels, [np.array([1])], 1, torch=True)
        assert isinstance(got, np.ndarray)
        sequence = [np.zeros(1)]
        assert answer(Method("m", ("o",), "tuple"), [sequence], 1, torch=True)[0] is sequence

    def test_read_only_outputs_are_copied(self, recwarn):
        output = PROBABILITIES.copy()
        output.flags.writeable = False
        got = answer(Method("m", ("o",)), [output], 2, torch=True)
        got[0, 0] = 9
        assert output[0, 0] == np.float32(0.25)
        assert not recwarn


@pytest.mark.parametrize(
    ("method", "outputs", "message"),
    [
        (Method("predict", ("o",), "array", "float64", (3,)), [PROBABILITIES], "reshape"),
        (Method("predict", ("o",), "array", "int64", (3,)), [PROBABILITIES], "reshape"),
        (
            Method("predict", ("o",), "labels", labels=Labels(("a",), "object")),
            [np.array([0, 1])],
            "index below 1, got 1 in row 1",
        ),
        (
            Method("predict", ("o",), "labels", labels=Labels(("a",), "object")),
            [np.array([0])],
            "each of 2 rows",
        ),
    ],
)
def test_outputs_that_are_not_as_promised(method, outputs, message):
    with pytest.raises(SessionError, match=message):
        answer(method, outputs, 2)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Method("m", ("o",), "labels"), "has none"),
        (Method("m", ("a", "b"), "dict", keys=("x",)), "2 outputs"),
        (Method("m", ("o",), "unheard"), "unknown form"),
    ],
)
def test_contradictory_methods(method, message):
    with pytest.raises(ValueError, match=message):
        make_answerer(method)
