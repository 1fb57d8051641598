"""A model as a view of Django REST framework, and its rows as serializers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infersdk.errors import ClosedError, DeadlineError, InputError, OverloadedError, SessionError
from infersdk.predictors import override
from infersdk.types import Field, Signature

pytest.importorskip("rest_framework", reason="the tests of the REST framework view")
pytestmark = pytest.mark.usefixtures("served")


@pytest.fixture
def api() -> Any:
    from rest_framework.test import APIClient

    return APIClient()


def test_rows_are_answered_as_the_source_model_would(api: Any, iris: tuple[Any, Any]) -> None:
    model, X = iris
    rows = X.iloc[:20].to_dict("records")
    response = api.post("/drf/iris", rows, format="json")
    assert response.status_code == 200
    np.testing.assert_allclose(
        response.json()["answers"], model.predict_proba(X.iloc[:20]), rtol=1e-6
    )
    one = api.post("/drf/iris", rows[0], format="json").json()["answers"]
    np.testing.assert_allclose(one, model.predict_proba(X.iloc[:1]), rtol=1e-6)


def test_a_row_that_does_not_fit_is_a_validation_error_by_field(
    api: Any, iris: tuple[Any, Any]
) -> None:
    row = iris[1].iloc[0].to_dict()
    bad = {**row, "petal length (cm)": "long"}
    del bad["petal width (cm)"]
    response = api.post("/drf/iris", bad, format="json")
    assert response.status_code == 400
    errors = {
        "petal length (cm)": ["Expected a number, got 'long' (str)"],
        "petal width (cm)": ["Expected a number, got no such field"],
    }
    assert response.json() == errors
    assert api.post("/drf/iris", [row, bad], format="json").json() == [{}, errors]


def test_what_concerns_no_field(api: Any) -> None:
    response = api.post("/drf/iris", 5, format="json")
    assert response.status_code == 400
    assert list(response.json()) == ["non_field_errors"]
    response = api.post("/drf/iris", "{", content_type="application/json")
    assert response.status_code == 400
    assert "JSON parse error" in response.json()["detail"]
    assert api.get("/drf/iris").status_code == 405
    assert api.post("/drf/iris", "a,b", content_type="text/csv").status_code == 415


def test_bodies_and_rows_are_bounded(
    api: Any, iris: tuple[Any, Any], served: dict[str, Any]
) -> None:
    from django.test import override_settings

    row = iris[1].iloc[0].to_dict()
    assert api.post("/drf/iris", [row] * 1001, format="json").status_code == 413
    with override_settings(INFERSDK={**served, "MAX_BODY_BYTES": 100}):
        assert api.post("/drf/iris", [row, row], format="json").status_code == 413


def test_throttles_work_as_usual(api: Any, iris: tuple[Any, Any]) -> None:
    model, X = iris
    row = X.iloc[0].to_dict()
    first = api.post("/drf/throttled", row, format="json")
    assert first.json()["answers"] == model.predict(X.iloc[:1]).tolist()
    assert api.post("/drf/throttled", row, format="json").status_code == 429


class Failing:
    """Stands in for a Predictor that fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def predict_proba(self, rows: Any, *, timeout_s: float | None) -> Any:
        raise self.error

    def check(self, rows: Any) -> list[InputError]:
        return []


@pytest.mark.parametrize(
    ("error", "status", "retry_after"),
    [
        (OverloadedError("The queue is full", retry_after_s=1.2), 503, "2"),
        (OverloadedError("The queue is full", retry_after_s=0.0), 503, "1"),
        (ClosedError("closed"), 503, "1"),
        (DeadlineError("Too late"), 504, None),
        (InputError("Expected rows"), 400, None),
    ],
)
def test_errors(
    api: Any,
    iris: tuple[Any, Any],
    error: Exception,
    status: int,
    retry_after: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    row = iris[1].iloc[0].to_dict()
    with override("iris", Failing(error)):  # type: ignore[arg-type]
        response = api.post("/drf/iris", row, format="json")
    assert response.status_code == status
    assert response.headers.get("retry-after") == retry_after
    # Django mails what it logs as an error.
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_errors_of_the_server_are_left_to_django(api: Any, iris: tuple[Any, Any]) -> None:
    failing = Failing(SessionError("a secret"))
    with override("iris", failing), pytest.raises(SessionError):  # type: ignore[arg-type]
        api.post("/drf/iris", iris[1].iloc[0].to_dict(), format="json")


def test_nan_becomes_null_for_every_renderer(api: Any, iris: tuple[Any, Any]) -> None:
    class Unsure(Failing):
        def predict_proba(self, rows: Any, *, timeout_s: float | None) -> Any:
            return np.array([[np.nan, 0.5, np.inf]])

    with override("iris", Unsure(ValueError())):  # type: ignore[arg-type]
        response = api.post("/drf/iris", iris[1].iloc[0].to_dict(), format="json")
    assert response.json() == {"answers": [[None, 0.5, None]]}


def test_the_browsable_api_shows_a_row_to_fill_in(client: Any, iris: tuple[Any, Any]) -> None:
    page = client.get("/drf/iris", HTTP_ACCEPT="text/html").content.decode()
    for name in iris[1].columns:
        assert name in page
    row = json.dumps(iris[1].iloc[0].to_dict())
    response = client.post(
        "/drf/iris", row, content_type="application/json", HTTP_ACCEPT="text/html"
    )
    assert response.status_code == 200
    assert "answers" in response.content.decode()


# -- serializers ------------------------------------------------------------------------------------


def test_a_row_serializer_takes_what_the_model_takes(iris: tuple[Any, Any]) -> None:
    from infersdk.predictors import current_predictors
    from infersdk.web.django.drf import row_serializer

    model, X = iris
    made = row_serializer("iris")
    assert made.__name__ == "IrisRowSerializer"
    rows = made(data=json.loads(X.iloc[:5].to_json(orient="records")), many=True)
    assert rows.is_valid(), rows.errors
    answers = current_predictors["iris"].predict([dict(row) for row in rows.validated_data])
    assert answers.tolist() == model.predict(X.iloc[:5]).tolist()
    bad = made(data={"petal length (cm)": "long"})
    assert not bad.is_valid()
    assert set(bad.errors) == set(X.columns)


def test_fields_of_every_kind() -> None:
    from rest_framework import serializers

    from infersdk.web.django.drf import row_serializer

    signature = Signature(
        (),
        (),
        (),
        fields=(
            Field("data", "float", "numbers"),
            Field("errors", "int", "numbers", missing="nan"),
            Field("is_valid", "bool", "numbers"),
            Field("text", "string", "strings", missing="empty"),
            Field("plan", "string", "strings", categories=("a", "b"), unknown="refuse"),
            Field("size", "int", "numbers", categories=(1, 2), unknown="refuse", missing="nan"),
            Field("color", "string", "strings", categories=("red",), unknown="allow"),
            Field("unread", "float", None),
        ),
    )
    made = row_serializer(signature)
    kinds = {name: type(field) for name, field in made().fields.items()}
    assert kinds == {
        "data": serializers.FloatField,
        "errors": serializers.IntegerField,
        "is_valid": serializers.BooleanField,
        "text": serializers.CharField,
        "plan": serializers.ChoiceField,
        "size": serializers.ChoiceField,
        "color": serializers.CharField,
        "unread": serializers.FloatField,
    }
    row = {
        "data": 1.5,
        "errors": None,
        "is_valid": True,
        "text": " kept as it is ",
        "plan": "b",
        "size": 2,
        "color": "blue",
    }
    filled = made(data=row)
    assert filled.is_valid(), filled.errors
    assert dict(filled.validated_data) == row
    wrong = made(data={**row, "plan": "c", "data": None})
    assert not wrong.is_valid()
    assert set(wrong.errors) == {"plan", "data"}


def test_a_serializer_may_have_fields_of_its_own(iris: tuple[Any, Any]) -> None:
    from rest_framework import serializers

    from infersdk.web.django.drf import row_serializer

    class WithNote(row_serializer("iris")):  # type: ignore[misc]
        note = serializers.CharField()

    assert [*WithNote().fields] == [*iris[1].columns, "note"]


def test_models_without_fields_have_no_serializer() -> None:
    from infersdk.web.django.drf import row_serializer

    with pytest.raises(TypeError, match="takes text"):
        row_serializer(Signature((), (), (), container="text"))


# -- schemas ----------------------------------------------------------------------------------------


def test_the_schema_describes_rows_and_answers(iris: tuple[Any, Any]) -> None:
    from jsonschema import Draft202012Validator

    from tests.web.django.urls import Iris

    model, X = iris
    view = Iris()
    view.request = None
    schema = Iris.schema.__get__(view, Iris)
    body = schema.get_request_body("/drf/iris", "POST")["content"]["application/json"]["schema"]
    answers = schema.get_responses("/drf/iris", "POST")["200"]["content"]["application/json"]
    Draft202012Validator(body).validate(X.iloc[:2].to_dict("records"))
    Draft202012Validator(body).validate(X.iloc[0].to_dict())
    assert not Draft202012Validator(body).is_valid({"petal length (cm)": "long"})
    Draft202012Validator(answers["schema"]).validate(
        {"answers": model.predict_proba(X.iloc[:2]).tolist()}
    )


def test_schemas_are_of_openapi_3_0() -> None:
    from infersdk.web.django.drf import _as_openapi_3_0

    fields = (
        Field("a", "float", "x", missing="nan"),
        Field("b", "string", "s", categories=("u", "v"), unknown="refuse", missing="empty"),
        Field("c", "string", "s", categories=("u", "v")),
    )
    from infersdk.web.openapi import schema_of_rows

    schema = _as_openapi_3_0(schema_of_rows(Signature((), (), (), fields=fields)))
    properties = schema["anyOf"][0]["properties"]
    assert properties == {
        "a": {"type": "number", "nullable": True},
        "b": {"enum": ["u", "v", None], "nullable": True},
        "c": {"type": "string", "example": "u"},
    }
    assert _as_openapi_3_0({"type": "array", "prefixItems": [{"type": "number"}]}) == {
        "type": "array",
        "items": {"anyOf": [{"type": "number"}]},
    }


def test_other_generators_of_schemas_are_left_their_own() -> None:
    from django.test import override_settings
    from rest_framework.schemas import DefaultSchema

    from infersdk.web.django import drf

    assert isinstance(drf._schema(), drf.PredictSchema)
    other = {"DEFAULT_SCHEMA_CLASS": "rest_framework.schemas.inspectors.ViewInspector"}
    with override_settings(REST_FRAMEWORK=other):
        assert isinstance(drf._schema(), DefaultSchema)


def test_generated_schemas() -> None:
    pytest.importorskip("uritemplate", reason="REST framework generates no schema without it")
    from django.urls import path
    from rest_framework.schemas.openapi import SchemaGenerator

    from tests.web.django.urls import Iris

    patterns = [path("drf/iris", Iris.as_view())]
    document = SchemaGenerator(title="Flowers", patterns=patterns).get_schema()
    operation = document["paths"]["/drf/iris"]["post"]
    assert operation["operationId"] == "createiris"
    assert operation["description"] == "Asks the model for probabilities."
    assert "200" in operation["responses"]


def test_a_predictor_that_is_called_itself(api: Any, tmp_path: Path) -> None:
    """Tensors in, tensors out: the model has no methods by name."""
    onnx = pytest.importorskip("onnx")
    from django.test import override_settings
    from rest_framework.test import APIRequestFactory

    from infersdk.web.django.drf import PredictView

    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "double",
        [helper.make_tensor_value_info("x", number, ["N", 2])],
        [helper.make_tensor_value_info("y", number, ["N", 2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(tmp_path / "double.onnx"))

    class Double(PredictView):
        model_name = "double"

    with override_settings(INFERSDK={"MODELS": {"double": tmp_path / "double.onnx"}}):
        request = APIRequestFactory().post("/", [[1.0, 2.0]], format="json")
        response = Double.as_view()(request)
    assert response.data == {"answers": [[2.0, 4.0]]}
