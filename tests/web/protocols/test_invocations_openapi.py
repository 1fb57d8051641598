"""The document says what the routes do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import infersdk
from infersdk.predictors import Predictors
from infersdk.web.openapi import openapi
from infersdk.web.service import Service
from infersdk.web.settings import Settings

from ..conftest import Trained

pytest.importorskip("sklearn", reason="the models are scikit-learn's")


@pytest.fixture(scope="module")
def service(iris: Trained, mixed: Trained) -> Iterator[Service]:
    predictors = Predictors({"iris": iris.path, "mixed": mixed.path})
    yield Service(predictors, Settings(protocols=("invocations",)))
    predictors.close()


def test_every_route_is_described_once(service: Service) -> None:
    paths = openapi(service)["paths"]
    identifiers = [
        operation["operationId"] for path in paths.values() for operation in path.values()
    ]
    assert len(set(identifiers)) == len(identifiers)
    # It has no one model.
    assert "/invocations" not in paths
    for name in service.predictors:
        for path in (f"/{name}/invocations", f"/models/{name}/invoke"):
            assert set(paths[path]["post"]["requestBody"]["content"]) == {
                "application/json",
                "text/csv",
                "application/jsonlines",
                "application/x-npy",
            }
    for path in paths.values():
        for operation in path.values():
            for media in operation.get("requestBody", {}).get("content", {}).values():
                Draft202012Validator.check_schema(media.get("schema", {}))


def test_the_schema_of_json_takes_every_form(service: Service, mixed: Trained) -> None:
    paths = openapi(service)["paths"]
    content = paths["/mixed/invocations"]["post"]["requestBody"]["content"]
    validator = Draft202012Validator(content["application/json"]["schema"])
    row = {"age": 41, "city": "Oslo", "active": True, "income": None}
    values = list(row.values())
    for body in (
        row,
        [row],
        {"dataframe_split": {"columns": list(row), "data": [values]}},
        {"dataframe_split": {"data": [values]}},
        {"dataframe_records": [row], "params": {"predict_method": "predict_proba"}},
        {"instances": [values]},
        {"inputs": [row]},
        {"inputs": row, "params": None},
    ):
        assert validator.is_valid(body), body
    for body in (
        {"dataframe_split": {"columns": ["age"], "data": [values]}},
        {"dataframe_records": [{**row, "other": 1}]},
        {"instances": [values[:3]]},
        {"inputs": [row], "params": {"method": "fit"}},
        {"inputs": [{**row, "city": "Paris"}]},
    ):
        assert not validator.is_valid(body), body
    csv = Draft202012Validator(content["text/csv"]["schema"])
    assert csv.is_valid("41,Oslo,True,\n30,Rome,False,1.5\n")
    assert not csv.is_valid("41,Paris,True,\n")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A model of one tensor and one of texts."""
    from onnx import TensorProto, helper, save
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    graph = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["y"])],
        "absolute",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
    )
    path = tmp_path_factory.mktemp("tensors") / "tensors.onnx"
    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    texts = ["who is it", "what is it", "it is red", "red it is"]
    model = make_pipeline(CountVectorizer(), LogisticRegression())
    model.fit(texts, ["asks", "asks", "says", "says"])
    return {"tensors": path, "words": infersdk.load(model, example=texts)}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mixed", "tensors", "words"])
def test_schemathesis_finds_no_difference(
    model: str, mixed: Trained, others: dict[str, Any]
) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    flask = pytest.importorskip("flask")
    from hypothesis import HealthCheck, settings
    from hypothesis import given as given_cases
    from schemathesis.checks import CHECKS, load_all_checks

    from infersdk.web.flask import InferSDK

    load_all_checks()
    # Rows may also hold truth values for numbers, which their schema does not say.
    excluded = [CHECKS.get_one("negative_data_rejection")]
    models = {"mixed": mixed.path, **others}
    app = flask.Flask("described")
    InferSDK(app, models={model: models[model]}, url_prefix="/", protocols=["invocations"])
    document = schemathesis.openapi.from_wsgi("/openapi.json", app)
    checked = 0
    for path in ("/invocations", "/ping", "/version", "/models", f"/models/{model}"):
        for operation in document.include(path=path).get_all_operations():

            @settings(
                max_examples=40,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given_cases(case=operation.ok().as_strategy())
            def check(case: Any) -> None:
                case.call_and_validate(excluded_checks=excluded)

            check()
            checked += 1
    assert checked == 5
