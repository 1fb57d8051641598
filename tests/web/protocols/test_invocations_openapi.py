"""The document says what the routes do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator

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


@pytest.mark.slow
def test_schemathesis_finds_no_difference(mixed: Trained, tmp_path: Path) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    flask = pytest.importorskip("flask")
    from schemathesis.checks import CHECKS, load_all_checks

    from infersdk.web.flask import InferSDK

    load_all_checks()
    app = flask.Flask("described")
    InferSDK(app, models={"mixed": mixed.path}, url_prefix="/", protocols=["invocations"])
    document = schemathesis.openapi.from_wsgi("/openapi.json", app)
    # Rows may also hold truth values for numbers, which their schema does not say.
    excluded = [CHECKS.get_one("negative_data_rejection")]

    for path in ("/invocations", "/ping", "/version", "/models", "/models/mixed"):
        http_method = "POST" if path == "/invocations" else "GET"

        for operation in document.include(path=path, method=http_method).get_all_operations():
            strategy = operation.ok().as_strategy()
            _validate_all(strategy, excluded)


def _validate_all(strategy: Any, excluded: list[Any]) -> None:
    from hypothesis import given

    @settings(
        max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(case=strategy)
    def check(case: Any) -> None:
        case.call_and_validate(excluded_checks=excluded)

    check()
