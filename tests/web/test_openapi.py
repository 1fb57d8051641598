"""OpenAPI and JSON Schema say of a request what the binder says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import infersdk
from infersdk.predictors import Predictors
from infersdk.types import Field, Labels, Method, Signature, TensorSpec
from infersdk.web.openapi import openapi, schema_of_answers, schema_of_rows
from infersdk.web.request import Request
from infersdk.web.service import Service
from infersdk.web.settings import Settings

from .conftest import Trained

pytest.importorskip("sklearn", reason="the models are scikit-learn's")

JSON = {"content-type": "application/json"}.get
ASKED = Request("POST", "/", JSON)


@pytest.fixture(scope="module")
def service(iris: Trained, mixed: Trained) -> Iterator[Service]:
    predictors = Predictors({"iris": iris.path, "mixed": mixed.path})
    yield Service(predictors, Settings(url_prefix="models"))
    predictors.close()


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(-1e6, 1e6)
    | st.sampled_from(["Oslo", "Rome", ""])
    | st.lists(st.integers(), max_size=2)
)
ROWS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("age", "city", "active", "income", "other"), VALUES),
)
FITTING = st.fixed_dictionaries(
    {
        "age": st.integers(0, 90),
        "city": st.text(max_size=5),
        "active": st.booleans(),
        "income": st.none() | st.floats(-1e6, 1e6),
    }
)


@given(row=ROWS | FITTING | st.lists(FITTING, max_size=3))
def test_what_the_schema_takes_is_answered_and_what_it_does_not_is_refused(
    service: Service, row: Any
) -> None:
    """By name; rows by position are taken as well, and not described."""
    schema = schema_of_rows(service.predictors["mixed"].signature)
    valid = Draft202012Validator(schema).is_valid(row)
    reply = service.answer("mixed", "predict", ASKED, json.dumps(row).encode())
    if valid:
        assert reply.status == 200
    elif not _lenient(row):
        assert reply.status == 422


def _lenient(row: Any) -> bool:
    """What the binder takes beyond the schema: 1 and 0 or whole floats where the number is the same."""
    rows = row if isinstance(row, list) else [row]
    return any(
        isinstance(item.get("age"), bool)
        or isinstance(item.get("income"), bool)
        or isinstance(item.get("active"), (int, float))
        for item in rows
    )


def test_answers_are_as_described(service: Service, mixed: Trained, iris: Trained) -> None:
    for name, trained in (("mixed", mixed), ("iris", iris)):
        rows = trained.X.iloc[:5].to_json(orient="records").encode()
        signature = service.predictors[name].signature
        for method in signature.methods:
            reply = service.answer(name, method.name, ASKED, rows)
            assert reply.status == 200
            schema = schema_of_answers(method, signature)
            Draft202012Validator.check_schema(schema)
            Draft202012Validator(schema).validate(json.loads(reply.body))
    labels = schema_of_answers(service.predictors["mixed"].signature.methods[0], signature)
    assert labels["properties"]["answers"]["items"] == {"enum": ["leaves", "stays"]}


def test_the_document_names_every_route_once(service: Service) -> None:
    document = openapi(service, title="Shop", version="3")
    assert document["info"] == {"title": "Shop", "version": "3"}
    assert document["servers"] == [{"url": "/models"}]
    paths = document["paths"]
    assert {"/iris", "/iris/predict", "/mixed/predict_proba", "/health/ready"} <= set(paths)
    operations = [operation for path in paths.values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    for path, described in paths.items():
        for http_method in described:
            header = JSON
            assert service.refuse_early(Request(http_method.upper(), path, header)) is None
    json.dumps(document)


def test_problems_are_as_described(service: Service) -> None:
    schema = openapi(service)["components"]["schemas"]["Problem"]
    validator = Draft202012Validator(schema)
    for body in (b"{}", b"{", b"[[1]]"):
        validator.validate(json.loads(service.answer("iris", None, ASKED, body).body))


def _signature(**more: Any) -> Signature:
    return Signature(inputs=(), outputs=(), methods=(Method("predict", ("y",)),), **more)


def test_categories_are_listed_where_others_are_refused() -> None:
    fields = (
        Field("city", "string", "x", categories=("Oslo", "Rome"), unknown="refuse"),
        Field("size", "int", "x", categories=(1, 2), unknown="refuse", missing="nan"),
        Field("kind", "string", "x", categories=("a", "b")),
        Field("unread", "float", None),
    )
    schema = schema_of_rows(_signature(fields=fields, container="dataframe"))
    row = schema["anyOf"][0]
    assert row["properties"]["city"] == {"enum": ["Oslo", "Rome"]}
    assert row["properties"]["size"] == {"enum": [1, 2, None]}
    assert row["properties"]["kind"] == {"type": "string", "examples": ["a", "b"]}
    assert row["required"] == ["city", "size", "kind"]


def test_whole_numbers_that_the_models_floats_cannot_hold() -> None:
    fields = (Field("n", "int", "x"), Field("f", "float", "x"), Field("s", "int", "y"))
    inputs = (TensorSpec("x", "float32", ("N", 2)), TensorSpec("y", "int8", ("N", 1)))
    method = Method("predict", ("z",))
    row = schema_of_rows(Signature(inputs, (), (method,), fields, "dataframe"))["anyOf"][0]
    limits = {name: item.get("maximum") for name, item in row["properties"].items()}
    assert limits == {"n": 2**24, "f": None, "s": 127}
    assert row["properties"]["f"]["exclusiveMaximum"] == pytest.approx(3.4028e38, rel=1e-3)


def test_texts_and_tensors() -> None:
    assert schema_of_rows(_signature(container="text")) == {
        "anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
        ]
    }
    image = TensorSpec("image", "float32", ("N", 3, 2))
    one = schema_of_rows(Signature((image,), (), (Method("__call__", ("y",)),)))
    validator = Draft202012Validator(one)
    assert validator.is_valid([[[1, 2], [3, 4], [5, 6]]])
    assert validator.is_valid({"image": [[[1, 2], [3, 4], [5, 6]]]})
    assert not validator.is_valid([[[1, 2], [3, 4]]])
    assert not validator.is_valid([])
    assert not validator.is_valid([[[1, 2], [3, 4], [5, 1e39]]])
    two = schema_of_rows(
        Signature((image, TensorSpec("mask", "int64", ("N",))), (), (Method("__call__", ("y",)),))
    )
    assert two["required"] == ["image", "mask"]


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (Method("predict", ("y",), dtype="float64", shape=()), [1.5, None]),
        (Method("predict_proba", ("y",), dtype="float64", shape=(2,)), [[0.5, 0.5]]),
        (Method("predict", ("y",), form="labels", labels=Labels((True, False), "bool")), [True]),
        (Method("__call__", ("y", "z"), form="dict", keys=("a", "b")), {"a": [1.0], "b": [2]}),
        (Method("__call__", ("y", "z"), form="tuple"), [[1.0, None], [2]]),
        (Method("__call__", ("y",)), [1.0, None]),
    ],
)
def test_every_form_of_answer(method: Method, answer: Any) -> None:
    outputs = (TensorSpec("y", "float32", ("N",)), TensorSpec("z", "int64", ("N",)))
    schema = schema_of_answers(method, Signature((), outputs, (method,)))
    Draft202012Validator(schema).validate({"answers": answer})
    assert not Draft202012Validator(schema).is_valid({"answers": "text"})


def test_a_text_model_end_to_end() -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = ["good day", "bad day", "good night", "bad night"]
    model = make_pipeline(CountVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0])
    with Predictors({"mood": infersdk.load(model, example=texts)}) as predictors:
        service = Service(predictors)
        signature = predictors["mood"].signature
        for rows in ("good", ["good", "bad night"]):
            reply = service.answer("mood", "predict", ASKED, json.dumps(rows).encode())
            expected = model.predict([rows] if isinstance(rows, str) else rows).tolist()
            assert json.loads(reply.body) == {"answers": expected}
            Draft202012Validator(schema_of_rows(signature)).validate(rows)
