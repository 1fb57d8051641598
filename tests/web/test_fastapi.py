"""FastAPI: two lines in an app, its documentation, dependencies, rows as pydantic models."""

# Annotations are no strings here: FastAPI reads those of endpoints, which name what stands in functions.

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import numpy as np
import pytest

import infersdk
from infersdk.errors import UnknownModelError
from infersdk.predictors import current_predictors
from infersdk.runtime import Predictor
from infersdk.types import Field, Signature

pytest.importorskip("fastapi")

from fastapi import Request


@pytest.fixture
def infer(iris: Any, mixed: Any) -> Iterator[Any]:
    from infersdk.web.fastapi import InferSDK

    made = InferSDK(models={"iris": iris.path, "mixed": mixed.path}, url_prefix="/models")
    yield made
    made.predictors.close()


@pytest.fixture
def shop(infer: Any) -> Any:
    from fastapi import FastAPI

    app = FastAPI(title="Shop")
    infer.init_app(app)
    return app


@pytest.fixture
def client(shop: Any) -> Iterator[Any]:
    from fastapi.testclient import TestClient

    with TestClient(shop) as client:
        yield client


def _row(iris: Any, number: int = 0) -> dict[str, Any]:
    row: dict[str, Any] = iris.X.iloc[number].to_dict()
    return row


# -- the models' own routes ----------------------------------------------------------------------


def test_two_lines_in_an_app(client: Any, iris: Any, infer: Any) -> None:
    assert infer.predictors.state == "open"
    reply = client.post("/models/iris", json=_row(iris))
    assert reply.json() == {"answers": iris.model.predict(iris.X.iloc[:1]).tolist()}
    reply = client.post("/models/iris/predict_proba", json=iris.X.to_dict("records"))
    expected = iris.model.predict_proba(iris.X)
    np.testing.assert_allclose(reply.json()["answers"], expected, rtol=1e-5, atol=1e-6)
    assert client.get("/models/").json() == {"models": ["iris", "mixed"]}
    assert client.get("/models").json() == {"models": ["iris", "mixed"]}
    for page in ("live", "ready", "startup"):
        assert client.get(f"/models/health/{page}").status_code == 200


def test_the_models_are_closed_with_the_app_and_opened_with_its_next_start(
    shop: Any, infer: Any, iris: Any
) -> None:
    from fastapi.testclient import TestClient

    for _ in range(2):
        with TestClient(shop) as client:
            assert client.post("/models/iris", json=_row(iris)).status_code == 200
        assert infer.predictors.state == "closed"
        assert TestClient(shop).post("/models/iris", json=_row(iris)).status_code == 503


def test_a_client_that_starts_no_app_opens_the_model_at_its_first_use(shop: Any, iris: Any) -> None:
    from fastapi.testclient import TestClient

    assert TestClient(shop).post("/models/iris", json=_row(iris)).json() == {"answers": [0]}


def test_what_is_refused_is_problem_json_beside_the_apps_own_errors(client: Any) -> None:
    refused = client.post("/models/iris", json={"petal width (cm)": "wide"})
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert len(refused.json()["errors"]) == 4
    assert client.post("/models/wine", json={}).json()["type"].endswith("unknown-model")
    assert client.put("/models/iris", json={}).status_code == 405
    assert client.get("/modelsiris").json() == {"detail": "Not Found"}
    assert client.get("/elsewhere").json() == {"detail": "Not Found"}


def test_the_apps_middleware_sees_requests_to_models(shop: Any, iris: Any) -> None:
    from fastapi.testclient import TestClient

    @shop.middleware("http")
    async def mark(request: Any, call_next: Any) -> Any:
        response = await call_next(request)
        response.headers["x-seen"] = request.url.path
        return response

    with TestClient(shop) as client:
        reply = client.post("/models/iris", json=_row(iris))
    assert (reply.headers["x-seen"], reply.json()) == ("/models/iris", {"answers": [0]})


def test_the_apps_own_lifespan_goes_on(iris: Any) -> None:
    from fastapi import FastAPI, Request
    from fastapi.testclient import TestClient

    from infersdk.web.fastapi import InferSDK

    infer = InferSDK(models={"iris": iris.path})
    ended = []

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        yield {"kept": infer.predictors["iris"].predict(iris.X[:1]).tolist()}
        ended.append(infer.predictors.state)

    app = FastAPI(lifespan=own)
    infer.init_app(app)

    @app.get("/kept")
    def kept(request: Request) -> list[int]:
        found: list[int] = request.state.kept
        return found

    with TestClient(app) as client:
        assert client.get("/kept").json() == [0]
        assert client.post("/models/iris", json={}).status_code == 404  # no prefix, no routes
    assert (ended, infer.predictors.state) == (["open"], "closed")


def test_a_model_that_cannot_be_opened_stops_the_start(tmp_path: Any) -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from infersdk.web.fastapi import InferSDK

    app = FastAPI()
    InferSDK(app, models={"lost": tmp_path / "lost.onnx"})
    with (
        pytest.raises(infersdk.ArtifactError, match="lost") as caught,
        TestClient(app),
    ):
        raise AssertionError("it started")
    assert caught.value.__notes__ == ["while opening model `lost`"]


@pytest.mark.parametrize("root_path", ["", "/api"])
def test_the_lifespan_and_a_mount_instead_of_init_app(iris: Any, root_path: str) -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from infersdk.web.asgi import InferSDK

    infer = InferSDK(models={"iris": iris.path})
    app = FastAPI(lifespan=infer.lifespan)
    app.mount("/models", infer.app)
    with TestClient(app, root_path=root_path) as client:
        assert infer.predictors.state == "open"
        for path in ("/models/iris", f"{root_path}/models/iris"):
            assert client.post(path, json=_row(iris)).json() == {"answers": [0]}
    assert infer.predictors.state == "closed"


def test_an_app_is_set_up_where_the_models_are_declared(iris: Any) -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from infersdk.web.fastapi import InferSDK

    app = FastAPI()
    infer = InferSDK(app, models={"iris": iris.path}, url_prefix="/models", max_rows=1)
    with TestClient(app) as client:
        assert infer.predictors.state == "open"
        assert client.post("/models/iris", json=_row(iris)).json() == {"answers": [0]}
        assert client.post("/models/iris", json=[_row(iris)] * 2).status_code == 413
        assert "/models/iris" in client.get("/openapi.json").json()["paths"]
    with pytest.raises(TypeError, match=r"got dict: write InferSDK\(app, models="):
        InferSDK({"iris": iris.path})  # type: ignore[arg-type]


def test_a_second_init_app_is_refused(shop: Any, infer: Any) -> None:
    with pytest.raises(RuntimeError, match="declare all of them in one InferSDK"):
        infer.init_app(shop)


def test_an_app_that_serves_already_is_refused(infer: Any) -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    app = FastAPI()
    TestClient(app).get("/")
    with pytest.raises(RuntimeError, match="call init_app where the app is made"):
        infer.init_app(app)


# -- dependencies before the models' routes ------------------------------------------------------


@pytest.mark.parametrize("of", ["app", "models"])
def test_dependencies_are_solved_before_a_model_answers(iris: Any, infer: Any, of: str) -> None:
    from fastapi import Depends, FastAPI, HTTPException, Response, Security
    from fastapi.security import APIKeyHeader
    from fastapi.testclient import TestClient

    key_header = APIKeyHeader(name="x-key", auto_error=False)

    async def check(response: Response, key: Annotated[str | None, Security(key_header)]) -> None:
        if key != "open sesame":
            raise HTTPException(403, "not yours")
        response.headers["x-left"] = "9"

    app = FastAPI(dependencies=[Depends(check)] if of == "app" else [])
    infer.init_app(app, dependencies=[Depends(check)] if of == "models" else [])
    with TestClient(app) as client:
        assert client.post("/models/iris", json=_row(iris)).status_code == 403
        assert client.get("/models/iris").status_code == 403
        headers = {"x-key": "open sesame"}
        reply = client.post("/models/iris", json=_row(iris), headers=headers)
        assert (reply.json(), reply.headers["x-left"]) == ({"answers": [0]}, "9")
        assert client.get("/models/", headers=headers).json() == {"models": ["iris", "mixed"]}
        refused = client.post(
            "/models/iris", content=b"a,b", headers={**headers, "content-type": "text/csv"}
        )
        assert refused.status_code == 415
        document = client.get("/openapi.json").json()
    assert document["paths"]["/models/iris"]["post"]["security"] == [{"APIKeyHeader": []}]
    assert document["components"]["securitySchemes"]["APIKeyHeader"]["name"] == "x-key"
    assert not [path for path in document["paths"] if "{" in path]


# -- OpenAPI -------------------------------------------------------------------------------------


def test_the_routes_are_in_the_apps_own_documentation(client: Any, shop: Any, mixed: Any) -> None:
    from jsonschema import Draft202012Validator

    @shop.get("/mine", operation_id="mine")
    def mine() -> dict[str, int]:
        return {}

    document = client.get("/openapi.json").json()
    assert document["info"]["title"] == "Shop"
    assert {"/mine", "/models/iris", "/models/mixed/predict_proba", "/models/health/ready"} <= set(
        document["paths"]
    )
    operation = document["paths"]["/models/mixed/predict"]["post"]
    assert {"200", "422", "503", "504"} <= set(operation["responses"])
    refers = operation["responses"]["422"]["content"]["application/problem+json"]["schema"]["$ref"]
    problem = document["components"]["schemas"][refers.rpartition("/")[2]]
    Draft202012Validator(problem).validate(client.post("/models/mixed", json={}).json())
    rows = Draft202012Validator(operation["requestBody"]["content"]["application/json"]["schema"])
    answers = Draft202012Validator(
        operation["responses"]["200"]["content"]["application/json"]["schema"]
    )
    for row in json.loads(mixed.X[:20].to_json(orient="records")):
        rows.validate(row)
        answers.validate(client.post("/models/mixed/predict", json=row).json())
    for wrong in ({}, {**row, "age": "old"}, {**row, "more": 1}, "text"):
        assert not rows.is_valid(wrong)
        assert client.post("/models/mixed/predict", json=wrong).status_code == 422
    assert client.get("/docs").status_code == 200


def test_the_document_is_made_once_and_again_when_the_app_has_more_routes(shop: Any) -> None:
    document = shop.openapi()
    assert shop.openapi() is document

    @shop.get("/later")
    def later() -> None: ...

    shop.openapi_schema = None  # for FastAPIs that do not notice themselves
    assert "/later" in shop.openapi()["paths"]
    assert "/models/iris" in shop.openapi()["paths"]


def test_an_app_with_a_problem_of_its_own_keeps_it(infer: Any) -> None:
    from fastapi import FastAPI
    from pydantic import BaseModel

    class Problem(BaseModel):
        mine: int

    app = FastAPI()

    @app.get("/problem")
    def problem() -> Problem:
        return Problem(mine=1)

    infer.init_app(app)
    schemas = app.openapi()["components"]["schemas"]
    assert list(schemas["Problem"]["properties"]) == ["mine"]
    assert "detail" in schemas["InferSDKProblem"]["properties"]


def test_routes_that_are_left_out_of_the_documentation(infer: Any) -> None:
    from fastapi import FastAPI

    app = FastAPI()
    infer.init_app(app, include_in_schema=False)
    assert app.openapi()["paths"] == {}


# -- endpoints of one's own ----------------------------------------------------------------------


def test_a_model_as_a_dependency(shop: Any, client: Any, infer: Any, iris: Any) -> None:
    from fastapi import Depends

    Iris = Annotated[Predictor, Depends(infer.predictor("iris"))]

    async def ask(row: dict[str, float], model: Iris) -> int:
        return int((await model.apredict(row))[0])

    def ask_in_a_thread(row: dict[str, float], model: Iris) -> int:
        assert current_predictors["iris"] is model
        return int(model.predict(row)[0])

    for function in (ask, ask_in_a_thread):
        shop.post(f"/{function.__name__}")(function)
        for number in (0, 60, 140):
            reply = client.post(f"/{function.__name__}", json=_row(iris, number))
            assert reply.json() == iris.model.predict(iris.X.iloc[[number]])[0]


def test_current_predictors_of_several_apps(iris: Any) -> None:
    from fastapi import FastAPI
    from fastapi.testclient import TestClient

    from infersdk.web.fastapi import InferSDK

    clients = []
    for name in ("one", "two"):

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
            yield {"found": list(current_predictors)}

        app = FastAPI(lifespan=lifespan)
        InferSDK(app, models={name: iris.path})
        app.get("/async")(_names_async)
        app.get("/thread")(_names)
        clients.append(TestClient(app))
    with clients[0], clients[1]:
        for path in ("/async", "/thread"):
            assert [client.get(path).json() for client in clients] == [["one"] * 2, ["two"] * 2]


def _names(request: Request) -> list[str]:
    return [*current_predictors, *request.state.found]


async def _names_async(request: Request) -> list[str]:
    return _names(request)


def test_a_dependency_may_be_overridden(shop: Any, client: Any, infer: Any, iris: Any) -> None:
    from fastapi import Depends

    async def name_of(model: Annotated[Any, Depends(infer.predictor("iris"))]) -> str:
        return str(model.name)

    shop.get("/name")(name_of)
    assert client.get("/name").json() == "iris"
    with infersdk.load(iris.path, name="other") as other:
        shop.dependency_overrides[infer.predictor("iris")] = lambda: other
        assert client.get("/name").json() == "other"
        shop.dependency_overrides.clear()
        with infer.predictors.override("iris", other):
            assert client.get("/name").json() == "other"
            assert client.post("/models/iris", json=_row(iris)).json() == {"answers": [0]}


def test_a_model_that_was_not_declared_is_refused_where_the_app_is_made(infer: Any) -> None:
    with pytest.raises(UnknownModelError, match="No model `wine` is declared"):
        infer.predictor("wine")


def test_infersdks_errors_in_endpoints_become_problems(shop: Any, client: Any) -> None:
    @shop.post("/ask")
    async def ask(row: dict[str, Any]) -> Any:
        return (await current_predictors["iris"].apredict(row)).tolist()

    @shop.get("/lost")
    def lost() -> Any:
        return current_predictors["wine"]

    refused = client.post("/ask", json={"petal width (cm)": "wide"})
    assert refused.status_code == 422
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["errors"]
    assert client.get("/lost").status_code == 404


def test_the_apps_own_handler_stays(infer: Any) -> None:
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse
    from fastapi.testclient import TestClient

    app = FastAPI()

    @app.exception_handler(infersdk.InferSDKError)
    async def mine(request: Any, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("mine", 418)

    infer.init_app(app)

    @app.get("/ask")
    def ask() -> Any:
        return current_predictors["iris"].predict({})

    with TestClient(app) as client:
        assert client.get("/ask").text == "mine"


# -- rows as pydantic models ---------------------------------------------------------------------


def test_a_row_model_in_an_endpoint(shop: Any, client: Any, infer: Any, iris: Any) -> None:
    IrisRow: Any = infer.row_model("iris")
    assert IrisRow.__name__ == "IrisRow"

    async def ask(row: IrisRow) -> int:
        return int(infer.predictors["iris"].predict(row.model_dump())[0])

    shop.post("/ask")(ask)
    assert client.post("/ask", json=_row(iris, 140)).json() == 2
    refused = client.post("/ask", json={**_row(iris), "petal width (cm)": "0.2"})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "petal width (cm)"]
    schema = client.get("/openapi.json").json()["components"]["schemas"]["IrisRow"]
    assert list(schema["properties"]) == list(iris.X.columns)


def test_a_row_models_fields_by_their_python_names(infer: Any, iris: Any) -> None:
    row = infer.row_model("iris")(
        sepal_length_cm=5.1, sepal_width_cm=3.5, petal_length_cm=1.4, petal_width_cm=0.2
    )
    assert row.model_dump() == _row(iris)
    assert row.petal_width_cm == 0.2


_VALUES: list[Any] = [None, True, 0, 7, -1, 2.5, "Oslo", "Bergen", "", [1], {}]


def test_a_row_model_takes_what_the_documentation_says(infer: Any, mixed: Any) -> None:
    from jsonschema import Draft202012Validator
    from pydantic import ValidationError

    from infersdk.web.openapi import schema_of_rows

    Row = infer.row_model("mixed")
    predictor = infer.predictors["mixed"]
    documented = Draft202012Validator(schema_of_rows(predictor.signature))
    valid = {"age": 30, "city": "Oslo", "active": True, "income": 51.5}
    assert predictor.check(Row(**valid).model_dump()) == []
    for field in valid:
        for value in _VALUES:
            row = {**valid, field: value}
            try:
                taken = Row.model_validate_json(json.dumps(row)).model_dump()
            except ValidationError:
                taken = None
            assert (taken is not None) == documented.is_valid(row), row
            if taken is not None:
                assert taken == row
                assert predictor.check(row) == []
        without = {name: value for name, value in valid.items() if name != field}
        with pytest.raises(ValidationError, match="Field required"):
            Row.model_validate(without)
        assert predictor.check(without)


def _signature(*fields: Field) -> Signature:
    return Signature((), (), (), fields, "dataframe")


def test_odd_names_and_categories() -> None:
    from pydantic import ValidationError

    from infersdk.web.pydantic_rows import row_model

    names = ["class", "2nd", "a b", "a-b", "copy", "model_x", "ça", "", "_x"]
    fields = tuple(Field(name, "float", "x", column) for column, name in enumerate(names))
    color = Field("color", "string", "c", categories=("red", "blue"), unknown="refuse")
    size = Field("size", "int", "s", categories=(1, 2), unknown="refuse", missing="nan")
    width = Field("width", "float", "w", categories=(0.5, 1.5), unknown="refuse")
    unread = Field("unread", "string", None)
    Row = row_model("my-model.v2", _signature(*fields, color, size, width, unread))
    assert Row.__name__ == "MyModelV2Row"
    valid = dict.fromkeys(names, 1.5) | {"color": "red", "size": None, "width": 1.5}
    row = Row.model_validate(valid)
    assert row.model_dump(exclude_unset=True) == valid
    assert Row.model_validate({**valid, "unread": "it"}).model_dump()["unread"] == "it"
    for wrong in ({"color": "green"}, {"size": 3}, {"width": 1.0}, {"color": None}):
        with pytest.raises(ValidationError):
            Row.model_validate({**valid, **wrong})


def test_a_model_of_texts_has_no_row_model() -> None:
    from infersdk.web.pydantic_rows import row_model

    with pytest.raises(TypeError, match="as it takes texts: take a `str`"):
        row_model("spam", Signature((), (), (), container="text"))
