"""Tensors of the Open Inference Protocol, and models seen as taking and giving them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import infersdk
from infersdk.errors import InputError
from infersdk.runtime import Predictor
from infersdk.testing import FakePredictor
from infersdk.web.protocols.oip_models import bind, config, metadata
from infersdk.web.protocols.oip_tensors import (
    DATATYPES,
    Tensor,
    check_shape,
    from_raw,
    from_values,
    to_raw,
    to_tensor,
    to_values,
)

from ..conftest import Trained

NUMBERS = [name for name in DATATYPES if name not in ("BYTES", "BF16")]


def dtype_of(datatype: str) -> Any:
    if datatype == "BF16":
        return pytest.importorskip("ml_dtypes").bfloat16
    return np.dtype(DATATYPES[datatype])


def packed(*texts: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


# -- raw bytes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", [*NUMBERS, "BF16"])
def test_raw_numbers_are_views_and_come_back(datatype: str) -> None:
    sent = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype_of(datatype))
    body = b"odd" + sent.tobytes()
    tensor = from_raw("x", datatype, (3, 2), memoryview(body)[3:])
    assert tensor.data.dtype == sent.dtype
    assert tensor.data.tolist() == sent.tolist()
    assert np.shares_memory(tensor.data, np.frombuffer(body, np.uint8))
    assert bytes(to_raw(tensor)) == sent.tobytes()
    assert bytes(to_raw(to_tensor("x", sent[::-1].T))) == sent[::-1].T.tobytes()
    assert to_tensor("x", sent).datatype == datatype


@pytest.mark.parametrize("n_bytes", [0, 15, 17, 24])
def test_raw_bytes_of_another_length_are_refused(n_bytes: int) -> None:
    with pytest.raises(InputError, match=f"Expected 16 bytes for FP32 .*, got {n_bytes}") as error:
        from_raw("x", "FP32", (2, 2), bytes(n_bytes))
    assert error.value.field == "x"


def test_shapes_that_overflow_are_refused() -> None:
    assert check_shape("x", [3, 0]) == (3, 0)
    for shape in ([-1], [1.0], [True], ["1"], [None], 3, None, "2", [2**63], [1] * 33):
        with pytest.raises(InputError, match="shape of up to 32 whole numbers"):
            check_shape("x", shape)
    for shape in ((2**62, 2**62), (2**32, 2**32), (2**62, 4)):
        with pytest.raises(InputError, match="bytes"):
            from_raw("x", "FP32", shape, bytes(64))
        with pytest.raises(InputError, match="bytes"):
            from_raw("x", "BYTES", shape, bytes(64))
        with pytest.raises(InputError, match="values for the shape"):
            from_values("x", "FP32", shape, [1.0])
    with pytest.raises(InputError, match="shape"):
        from_raw("x", "FP32", (0, 2**62), b"")
    with pytest.raises(InputError, match="shape"):
        from_values("x", "FP32", (0, 2**62), [])
    assert from_raw("x", "FP32", (0, 4), b"").data.shape == (0, 4)


def test_unknown_datatypes_are_refused() -> None:
    with pytest.raises(InputError, match=r"one of the datatypes BOOL.*'FP128'"):
        from_raw("x", "FP128", (1,), b"")
    with pytest.raises(InputError, match="one of the datatypes"):
        from_values("x", "fp32", (1,), [1])


def test_truth_values_are_0_and_1() -> None:
    with pytest.raises(InputError, match="bytes 0 and 1 for BOOL, got the byte 2"):
        from_raw("x", "BOOL", (3,), b"\x00\x02\x01")


@given(st.lists(st.text(max_size=5), max_size=6))
def test_texts_come_back(texts: list[str]) -> None:
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    raw = packed(*(text.encode() for text in texts))
    tensor = from_raw("x", "BYTES", (len(texts),), raw)
    assert tensor.data.tolist() == texts
    assert to_raw(tensor) == raw
    assert to_values(tensor) == texts
    assert from_values("x", "BYTES", (len(texts),), texts).data.tolist() == texts


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "at least 8 bytes"),
        (packed(b"a"), "at least 8 bytes"),
        (packed(b"a", b"b")[:-1], "element of BYTES within"),
        (packed(b"abcdefgh")[:11], "element of BYTES within"),
        (struct.pack("<II", 2**32 - 1, 0), "element of BYTES within"),
        (packed(b"a") + b"\x00\x00\x00", "element of BYTES within"),
        (packed(b"a", b"b", b""), "got 14"),
        (packed(b"a", b"\xff"), "UTF-8.*position 1"),
        (packed(b"a", b"\xed\xa0\x80"), "UTF-8.*position 1"),
    ],
)
def test_texts_of_wrong_lengths_are_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        from_raw("x", "BYTES", (2,), raw)


# -- lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", [*NUMBERS, "BF16"])
def test_values_flat_or_nested(datatype: str) -> None:
    values: list[Any] = [[0, 1, 1], [1, 0, 1]]
    if datatype == "BOOL":
        values = [[bool(value) for value in row] for row in values]
    for given_values in (values, values[0] + values[1]):
        tensor = from_values("x", datatype, (2, 3), given_values)
        assert tensor.data.dtype == dtype_of(datatype)
        assert tensor.data.tolist() == values
        assert to_values(tensor) == values[0] + values[1]


@pytest.mark.parametrize(
    ("datatype", "values", "reason"),
    [
        ("INT64", [1, 2.0], "values of INT64, got 2.0 .float. at position 1"),
        ("INT64", [1, None], "got None at position 1"),
        ("INT64", [1, 2**63], "got 9223372036854775808"),
        ("UINT8", [1, 256], "got 256"),
        ("UINT64", [1, -1], "got -1"),
        ("UINT64", [1, 2**64], "got 18446744073709551616"),
        ("BOOL", [True, 1], "values of BOOL, got 1"),
        ("FP32", [1, "2"], "got '2' .str. at position 1"),
        ("FP32", [1, 1e39], "got 1e.39"),
        ("FP64", [1, 10**400], "an integer of"),
        ("FP16", [1, 70000], "got 70000"),
        ("FP32", [1, {}], "got a dict"),
        ("FP32", [1, [2]], "a list"),
        ("FP32", [[1], 2], "nested as the shape"),
        ("FP32", [[1], [2, 3]], "nested as the shape"),
        ("FP32", [[1, 2]], "got lists of the shape .1, 2."),
        ("FP32", [[[1]], [[2]]], "got lists of the shape .2, 1."),
        ("FP32", [1], "2 values for the shape .2., got 1"),
        ("FP32", [1, 2, 3], "got 3"),
        ("FP32", [], "got 0"),
        ("BYTES", ["a", 1], "text for BYTES, got 1"),
        ("BYTES", [b"a", b"\xff"], "UTF-8"),
    ],
)
def test_values_that_are_something_else_are_refused(
    datatype: str, values: list[Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason) as error:
        from_values("x", datatype, (2,), values)
    assert error.value.field == "x"


def test_no_memory_is_taken_for_text_among_numbers() -> None:
    """NumPy would make every element as long as the longest text."""
    with pytest.raises(InputError, match="at position 0"):
        from_values("x", "FP32", (200_000,), ["a" * 1_000_000, *[""] * 199_999])


def test_exact_numbers() -> None:
    values = [0, 2**53 + 1, 2**64 - 1]
    assert from_values("x", "UINT64", (3,), values).data.tolist() == values
    assert from_values("x", "INT64", (2,), [-(2**63), 2**53 + 1]).data.tolist()[1] == 2**53 + 1
    nan = from_values("x", "FP32", (3,), [1.5, None, 2]).data
    np.testing.assert_array_equal(nan, np.array([1.5, np.nan, 2], np.float32))
    assert from_values("x", "FP32", (1,), [float("inf")]).data[0] == np.inf


# -- answers --------------------------------------------------------------------------------------


def test_answers_become_tensors() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    assert to_tensor("y", np.array(["a", "bc"])).datatype == "BYTES"
    assert to_raw(to_tensor("y", np.array(["a", "é"], dtype=object))) == packed(b"a", "é".encode())
    assert to_tensor("y", np.array([1, 2], dtype=object)).datatype == "INT64"
    assert to_tensor("y", np.array([1, "a"], dtype=object)).datatype == "BYTES"
    assert to_tensor("y", sparse.csr_matrix(np.eye(3))).data.tolist() == np.eye(3).tolist()
    assert to_tensor("y", [1.5, 2.5]).datatype == "FP64"
    with pytest.raises(TypeError, match="`y` is a list, not one tensor"):
        to_tensor("y", [[1], [2, 3]])
    with pytest.raises(TypeError, match="complex128"):
        to_tensor("y", np.array([1j]))
    with pytest.raises(TypeError, match="holds a dict"):
        to_tensor("y", [{"a": 1}])


# -- models ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def iris_predictor(iris: Trained) -> Iterator[Predictor]:
    with infersdk.load(iris.path, name="iris") as predictor:
        yield predictor


@pytest.fixture(scope="module")
def mixed_predictor(mixed: Trained) -> Iterator[Predictor]:
    with infersdk.load(mixed.path, name="mixed") as predictor:
        yield predictor


@pytest.fixture(scope="module")
def sums() -> Iterator[Predictor]:
    """Two inputs, of which one sets the other off; two outputs."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["shift"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["x", "wide"], ["sum"]),
            helper.make_node("Neg", ["sum"], ["negated"]),
        ],
        "sums",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("shift", TensorProto.INT64, ["N", 1]),
        ],
        [
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["N", 3]),
            helper.make_tensor_value_info("negated", TensorProto.FLOAT, ["N", 3]),
        ],
    )
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    with infersdk.load(model.SerializeToString(), name="sums") as predictor:
        yield predictor


def ask(
    predictor: Predictor,
    inputs: list[Tensor],
    requested: list[str] | None = None,
    parameters: dict[str, Any] | None = None,
) -> dict[str, Tensor]:
    methods = [method.name for method in predictor.signature.methods]
    bound = bind(predictor, methods, inputs, requested, parameters)
    answers = [
        predictor(bound.rows) if name == "__call__" else getattr(predictor, name)(bound.rows)
        for name in bound.methods
    ]
    return {tensor.name: tensor for tensor in bound.write(answers)}


def test_a_table_as_one_tensor_or_as_columns(iris_predictor: Predictor, iris: Trained) -> None:
    X = iris.X.to_numpy()
    n = len(X)
    matrices = [
        from_raw("input-0", "FP64", X.shape, X.tobytes()),
        from_raw("input__0", "FP64", X.shape, memoryview(b"x" + X.tobytes())[1:]),
        Tensor("predict", "FP64", X.shape, X.astype(">f8")),
    ]
    columns = [from_values(name, "FP64", (n, 1), iris.X[name].tolist()) for name in iris.X]
    flat = [from_values(name, "FP64", (n,), iris.X[name].tolist()) for name in list(iris.X)[::-1]]
    labels, probabilities = iris.model.predict(iris.X), iris.model.predict_proba(iris.X)
    for inputs in (*([matrix] for matrix in matrices), columns, flat):
        found = ask(iris_predictor, inputs, ["predict_proba", "predict"])
        assert list(found) == ["predict_proba", "predict"]
        np.testing.assert_array_equal(found["predict"].data, labels)
        np.testing.assert_allclose(found["predict_proba"].data, probabilities, rtol=1e-6)
        bound = bind(iris_predictor, ["predict"], inputs)
        assert (bound.methods, bound.n_rows) == (("predict",), n)


def test_the_method_as_a_parameter(iris_predictor: Predictor, iris: Trained) -> None:
    rows = [from_raw("x", "FP64", (2, 4), iris.X[:2].to_numpy().tobytes())]
    (tensor,) = ask(iris_predictor, rows, None, {"method": "decision_function"}).values()
    assert tensor.name == "decision_function"
    np.testing.assert_allclose(
        tensor.data, iris.model.decision_function(iris.X[:2]), rtol=1e-5, atol=1e-5
    )
    with pytest.raises(InputError, match=r"one of the methods predict, .*'fit'"):
        ask(iris_predictor, rows, None, {"method": "fit"})
    with pytest.raises(InputError, match="one of the methods"):
        ask(iris_predictor, rows, None, {"method": ["predict"]})
    with pytest.raises(InputError, match=r"one of the outputs predict, .*'predict_log_proba'"):
        bind(iris_predictor, ["predict", "predict_proba"], rows, ["predict_log_proba"])


def test_a_table_of_many_kinds(mixed_predictor: Predictor, mixed: Trained) -> None:
    rows = mixed.X[:30]
    inputs = [
        from_values("age", "INT64", (30,), rows["age"].tolist()),
        from_values("city", "BYTES", (30, 1), rows["city"].tolist()),
        from_raw("active", "BOOL", (30, 1), rows["active"].to_numpy().tobytes()),
        from_raw("income", "FP64", (30,), rows["income"].to_numpy().tobytes()),
    ]
    found = ask(mixed_predictor, inputs, ["predict", "predict_proba"])
    assert found["predict"].datatype == "BYTES"
    assert to_values(found["predict"]) == mixed.model.predict(rows).tolist()
    np.testing.assert_allclose(found["predict_proba"].data, mixed.model.predict_proba(rows), 1e-5)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"city": ("INT64", [1, 2])}, "city"),
        ({"age": ("BYTES", ["1", "2"])}, "age"),
        ({"age": ("FP64", [1.5, 2])}, "age"),
        ({"income": None}, "income"),
        ({"incomes": ("FP64", [1, 2])}, "incomes"),
        ({"age": ("INT64", [1, 2, 3])}, "city"),
    ],
)
def test_the_binder_refuses_columns(
    mixed_predictor: Predictor, change: dict[str, Any], field: str
) -> None:
    columns: dict[str, Any] = {
        "age": ("INT64", [30, 40]),
        "city": ("BYTES", ["Oslo", "Rome"]),
        "active": ("BOOL", [True, False]),
        "income": ("FP64", [1.0, 2.0]),
    } | change
    inputs = [
        from_values(name, given[0], (len(given[1]),), given[1])
        for name, given in columns.items()
        if given is not None
    ]
    with pytest.raises(InputError) as error:
        ask(mixed_predictor, inputs)
    assert error.value.field == field
    assert error.value.model == "mixed"


def test_tensors_that_are_no_columns(iris_predictor: Predictor) -> None:
    three = from_raw("x", "FP64", (2, 3), bytes(48))
    with pytest.raises(InputError, match=r"shape \(n,\).*\(n, 4\) for all.*got the shape \(2, 3\)"):
        ask(iris_predictor, [three])
    with pytest.raises(InputError, match="inputs of different names, got an input more than once"):
        ask(iris_predictor, [three, three])
    with pytest.raises(InputError, match="got none"):
        ask(iris_predictor, [])
    with pytest.raises(InputError):
        ask(iris_predictor, [from_raw("x", "FP64", (4,), bytes(32))])
    with pytest.raises(InputError):
        ask(iris_predictor, [from_raw("x", "FP64", (), bytes(8))])
    with pytest.raises(InputError):
        ask(iris_predictor, [from_values("x", "BYTES", (1, 4), ["1"] * 4)])


def test_a_model_over_tensors(sums: Predictor) -> None:
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    inputs = [
        from_values("shift", "INT64", (2, 1), [10, 20]),
        from_raw("x", "FP32", (2, 3), memoryview(b"." + x.tobytes())[1:]),
    ]
    expected = x + np.array([[10], [20]], np.float32)
    found = ask(sums, inputs)
    assert list(found) == ["sum", "negated"]
    np.testing.assert_array_equal(found["sum"].data, expected)
    np.testing.assert_array_equal(ask(sums, inputs, ["negated"])["negated"].data, -expected)
    with pytest.raises(InputError, match="outputs sum, negated, predict, got 'total'"):
        ask(sums, inputs, ["total"])
    with pytest.raises(InputError, match="`x`"):
        ask(sums, inputs[:1])
    with pytest.raises(InputError, match=r"float32.*float64"):
        ask(sums, [inputs[0], from_values("x", "FP64", (2, 4), [0.0] * 8)])


def test_what_models_say_of_themselves(
    iris_predictor: Predictor, mixed_predictor: Predictor, sums: Predictor
) -> None:
    iris = metadata("flowers", iris_predictor, ["predict", "predict_proba"])
    assert (iris["name"], iris["versions"]) == ("flowers", ["1"])
    assert iris["inputs"][0] == {
        "name": "sepal length (cm)",
        "datatype": "FP64",
        "shape": [-1, 1],
    }
    assert iris["outputs"] == [
        {"name": "predict", "datatype": "INT64", "shape": [-1]},
        {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 3]},
    ]
    mixed = metadata("mixed", mixed_predictor, ["predict"])
    assert [item["datatype"] for item in mixed["inputs"]] == ["INT64", "BYTES", "BOOL", "FP64"]
    assert mixed["outputs"][0]["datatype"] == "BYTES"
    tensors = metadata("sums", sums, ["predict"])
    assert tensors["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "shift", "datatype": "INT64", "shape": [-1, 1]},
    ]
    assert [item["name"] for item in tensors["outputs"]] == ["sum", "negated"]
    assert config("sums", sums, ["predict"])["input"][1] == {
        "name": "shift",
        "data_type": "TYPE_INT64",
        "dims": [-1, 1],
    }


def test_several_targets_are_an_output_each() -> None:
    pytest.importorskip("sklearn", reason="the model is scikit-learn's")
    from sklearn.ensemble import RandomForestClassifier

    X = np.random.default_rng(3).normal(size=(60, 3))
    y = np.stack([X[:, 0] > 0, X[:, 1] > 1], axis=1).astype(int)
    model = RandomForestClassifier(5, random_state=0).fit(X, y)
    with infersdk.load(model, example=X, name="targets") as predictor:
        described = metadata("targets", predictor, ["predict", "predict_proba"])
        names = [item["name"] for item in described["outputs"]]
        rows = [from_raw("x", "FP64", (5, 3), X[:5].tobytes())]
        found = ask(predictor, rows, ["predict", "predict_proba"])
        assert list(found) == ["predict", "predict_proba.0", "predict_proba.1"]
        assert names[-2:] == ["predict_proba.0", "predict_proba.1"]
        assert list(ask(predictor, rows, ["predict_proba.1"])) == ["predict_proba.1"]
    np.testing.assert_array_equal(found["predict"].data, model.predict(X[:5]))
    for index, expected in enumerate(model.predict_proba(X[:5])):
        np.testing.assert_allclose(found[f"predict_proba.{index}"].data, expected, rtol=1e-6)


def test_texts() -> None:
    pytest.importorskip("sklearn", reason="the model is scikit-learn's")
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = ["good and fine", "bad", "fine day", "bad and worse", "good"]
    model = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, list("10101"))
    with infersdk.load(model, example=texts, name="words") as predictor:
        (described,) = metadata("words", predictor, ["predict"])["inputs"]
        assert (described["datatype"], described["shape"]) == ("BYTES", [-1])
        name = described["name"]
        for shape in ((5,), (5, 1)):
            found = ask(predictor, [from_values(name, "BYTES", shape, texts)])
            assert to_values(found["predict"]) == model.predict(texts).tolist()
        with pytest.raises(InputError, match=f"the only input `{name}`, got `prompt`"):
            ask(predictor, [from_values("prompt", "BYTES", (1,), ["a"])])
        with pytest.raises(InputError, match=r"texts .BYTES., got INT64"):
            ask(predictor, [from_values(name, "INT64", (1,), [1])])


def test_a_fake_predictor_is_asked_as_any_other() -> None:
    with FakePredictor({"Oslo": "stays", ...: "leaves"}, fields={"city": str}) as fake:
        found = ask(fake, [from_values("city", "BYTES", (2,), ["Oslo", "Rome"])], ["predict"])
        assert to_values(found["predict"]) == ["stays", "leaves"]
        assert metadata("fake", fake, ["predict"])["inputs"][0]["name"] == "city"


def test_a_model_in_its_own_framework() -> None:
    sklearn = pytest.importorskip("sklearn.base", reason="the model is scikit-learn's")

    class Sums(sklearn.BaseEstimator):  # type: ignore[misc, name-defined]
        """Has no ONNX form."""

        def fit(self, X: Any, y: Any) -> Any:
            self.n_features_in_ = X.shape[1]
            return self

        def predict(self, X: Any) -> Any:
            return np.asarray(X).sum(axis=1)

    X = np.arange(12.0).reshape(4, 3)
    model = Sums().fit(X, None)
    with infersdk.load(model, example=X, name="sums") as predictor:
        assert predictor.plan.kind == "native"
        body = b"." + X.tobytes()
        found = ask(predictor, [from_raw("x", "FP64", (4, 3), memoryview(body)[1:])])
        assert metadata("sums", predictor, ["predict"])["platform"] == "python"
    assert found["predict"].data.tolist() == X.sum(axis=1).tolist()
