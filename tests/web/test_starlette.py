"""Starlette: init_app, or its own Mount and lifespan; endpoints that a model answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import infersdk
from infersdk.errors import SessionError
from infersdk.predictors import current_predictors

pytest.importorskip("starlette")


@pytest.fixture
def infer(iris: Any) -> Iterator[Any]:
    from infersdk.web.starlette import InferSDK

    made = InferSDK(models={"iris": iris.path}, url_prefix="/models", max_body_bytes=1000)
    yield made
    made.predictors.close()


def _row(iris: Any, number: int = 0) -> dict[str, Any]:
    row: dict[str, Any] = iris.X.iloc[number].to_dict()
    return row


def test_two_lines_in_an_app(infer: Any, iris: Any) -> None:
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[dict[str, Any]]:
        yield {"kept": infer.predictors["iris"].predict(iris.X[:1]).tolist()}

    app = Starlette(lifespan=own)
    infer.init_app(app)
    with TestClient(app) as client:
        assert infer.predictors.state == "open"
        for number in (0, 60, 140):
            expected = iris.model.predict(iris.X.iloc[[number]]).tolist()
            reply = client.post("/models/iris", json=_row(iris, number))
            assert reply.json() == {"answers": expected}
        assert client.get("/models").json() == {"models": ["iris"]}
        assert client.put("/models/iris").headers["content-type"] == "application/problem+json"
        assert client.get("/modelsiris").text == "Not Found"
        assert client.post("/models/iris", content=b" " * 1001).status_code == 413
        assert client.post("/models/iris", content=iter([b" " * 600] * 9)).status_code == 413
    assert infer.predictors.state == "closed"


def test_an_app_is_set_up_where_the_models_are_declared(iris: Any) -> None:
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    from infersdk.web.starlette import InferSDK

    app = Starlette()
    infer = InferSDK(app, models={"iris": iris.path}, url_prefix="/models", max_rows=1)
    with TestClient(app) as client:
        assert infer.predictors.state == "open"
        assert client.post("/models/iris", json=_row(iris)).json() == {"answers": [0]}
        assert client.post("/models/iris", json=[_row(iris)] * 2).status_code == 413
    opened: list[str] = []
    with pytest.raises(RuntimeError, match="declare all of them in one InferSDK"):
        InferSDK(app, models={"more": lambda: opened.append("more")}, opening="now")
    assert opened == []


@pytest.mark.parametrize("first", [{"iris": "iris.onnx"}, {}, "iris.onnx"])
def test_what_is_no_app_says_where_models_go(first: Any) -> None:
    from infersdk.web.starlette import InferSDK

    with pytest.raises(TypeError, match=rf"got {type(first).__name__}: .*\(app, models="):
        InferSDK(first)
    with pytest.raises(TypeError, match="and then init_app"):
        InferSDK().init_app(first)


@pytest.mark.parametrize("root_path", ["", "/api"])
def test_a_mount_and_the_lifespan_instead_of_init_app(iris: Any, root_path: str) -> None:
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.testclient import TestClient

    from infersdk.web.asgi import InferSDK

    infer = InferSDK(models={"iris": iris.path})
    app = Starlette(routes=[Mount("/models", infer.app)], lifespan=infer.lifespan)
    with TestClient(app, root_path=root_path) as client:
        assert infer.predictors.state == "open"
        for path in ("/models/iris", f"{root_path}/models/iris"):
            assert client.post(path, json=_row(iris)).json() == {"answers": [0]}
        assert client.get("/models/").json() == {"models": ["iris"]}


def test_an_endpoint_that_a_model_answers(infer: Any, iris: Any) -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.testclient import TestClient

    async def iris_(request: Request) -> Response:
        answered: Response = await infer.answer(request, "iris", request.query_params.get("method"))
        return answered

    async def iris_read(request: Request) -> Response:
        assert await request.body()  # by a signature's check, say
        return await iris_(request)

    routes = [
        Route("/iris", iris_, methods=["POST", "PUT"]),
        Route("/read", iris_read, methods=["POST"]),
    ]
    app = Starlette(routes=routes)
    infer.init_app(app)
    with TestClient(app) as client:
        for path in ("/iris", "/read"):
            assert client.post(path, json=_row(iris, 140)).json() == {"answers": [2]}
            assert client.post(path, json={"a": 1}).status_code == 422
            assert client.post(path, content=b"a,b").status_code == 400
            assert client.post(path, content=b" " * 1001).status_code == 413
        assert client.put("/iris", json=_row(iris)).json() == {"answers": [0]}
        assert client.post("/iris", content=iter([b" " * 600] * 9)).status_code == 413
        assert client.post("/iris?method=fly", json=_row(iris)).status_code == 404
        csv = client.post("/iris", content=b"a,b", headers={"content-type": "text/csv"})
        assert csv.status_code == 415
        proba = client.post("/iris?method=predict_proba", json=_row(iris)).json()["answers"]
        assert len(proba[0]) == 3


def test_infersdks_errors_in_endpoints(infer: Any, iris: Any) -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    async def ask(request: Request) -> JSONResponse:
        row = await request.json()
        return JSONResponse((await current_predictors["iris"].apredict(row)).tolist())

    async def broken(request: Request) -> JSONResponse:
        raise SessionError("the secret inside")

    routes = [Route("/ask", ask, methods=["POST"]), Route("/broken", broken)]
    app = Starlette(routes=routes)
    infer.init_app(app)
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.post("/ask", json=_row(iris)).json() == [0]
        refused = client.post("/ask", json={})
        assert (refused.status_code, refused.json()["status"]) == (422, 422)
        fault = client.get("/broken")
        assert fault.status_code == 500
        assert "secret" not in fault.text
    with TestClient(app) as client, pytest.raises(SessionError, match="the secret inside"):
        client.get("/broken")  # the app's own tests see it, as any other fault


def test_the_apps_own_handler_stays(infer: Any) -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    async def mine(request: Request, error: Exception) -> PlainTextResponse:
        return PlainTextResponse("mine", 418)

    async def ask(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(current_predictors["iris"].predict({})))

    app = Starlette(routes=[Route("/ask", ask)], exception_handlers={infersdk.InferSDKError: mine})
    infer.init_app(app)
    with TestClient(app) as client:
        assert client.get("/ask").text == "mine"


def test_the_prefix_may_be_given_to_init_app(iris: Any) -> None:
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    from infersdk.web.starlette import InferSDK

    for prefix, path in (("ml/", "/ml/iris"), ("/", "/iris")):
        infer = InferSDK(models={"iris": iris.path})
        app = Starlette()
        infer.init_app(app, url_prefix=prefix)
        with TestClient(app) as client:
            assert client.post(path, json=_row(iris)).json() == {"answers": [0]}


@pytest.mark.parametrize(
    ("path", "asked", "is_the_apps"),
    [
        ("/models/mine", "/models/mine", True),
        ("/models/", "/models/", True),
        ("/models", "/models", True),
        ("/{any}", "/models", True),
        ("/{any:path}", "/models/iris", True),
        ("/mod{any:path}", "/models/iris", True),
        ("/models/{any}", "/models/iris", True),
        ("/model/{any}", "/models/iris", False),
        ("/other", "/models/iris", False),
    ],
)
def test_routes_that_the_app_had_before_come_first(
    infer: Any, path: str, asked: str, is_the_apps: bool
) -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route
    from starlette.testclient import TestClient

    async def mine(request: Request) -> PlainTextResponse:
        return PlainTextResponse("mine")

    app = Starlette(routes=[Route(path, mine), Mount("/static", mine), Route("/last", mine)])
    infer.init_app(app)
    client = TestClient(app)
    assert (client.get(asked).text == "mine") == is_the_apps
    assert client.get("/last").text == "mine"


def test_a_mount_that_the_app_had_before_comes_first(infer: Any) -> None:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route
    from starlette.testclient import TestClient

    async def mine(request: Request) -> PlainTextResponse:
        return PlainTextResponse("mine")

    for path, is_the_apps in (
        ("/models", True),
        ("/models/iris", True),
        ("", True),
        ("/mo", False),
    ):
        app = Starlette(routes=[Mount(path, routes=[Route("/{any:path}", mine)])])
        infer.init_app(app)
        reply = TestClient(app).get("/models/iris/predict")
        assert (reply.text == "mine") == is_the_apps, path


def test_a_second_init_app_is_refused(infer: Any) -> None:
    from starlette.applications import Starlette

    app = Starlette()
    infer.init_app(app)
    with pytest.raises(RuntimeError, match="declare all of them in one InferSDK"):
        infer.init_app(app)


@pytest.mark.parametrize("how", ["route", "endpoint"])
@pytest.mark.parametrize("has_middleware", [False, True])
def test_a_client_that_goes_away_cancels_its_work(how: str, has_middleware: bool) -> None:
    from starlette.applications import Starlette
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from infersdk.web.starlette import InferSDK
    from tests.web.asgi_driver import Exchange, run, until
    from tests.web.test_asgi import Busy

    async def program() -> None:
        async with Busy() as busy:
            infer = InferSDK(models={"slow": busy.predictor}, url_prefix="/models")
            passed = []

            async def slow(request: Request) -> Response:
                return await infer.answer(request, "slow")

            async def log(request: Request, call_next: Any) -> Any:
                response = await call_next(request)
                passed.append(response.status_code)
                return response

            app = Starlette(routes=[Route("/slow", slow, methods=["POST"])])
            infer.init_app(app)
            if has_middleware:
                app.add_middleware(BaseHTTPMiddleware, dispatch=log)
            exchange = Exchange("/slow" if how == "endpoint" else "/models/slow", [b"[[1, 2]]"])
            task = asyncio.create_task(exchange.run(app))
            await until(lambda: busy.under_way == busy.CALLS + 1)
            exchange.gone.set()
            await task
            assert (busy.cancelled, busy.under_way, task.cancelling()) == (1, busy.CALLS, 0)
            assert passed == [499] * has_middleware

    run(program)


def test_websockets_of_the_app_are_left_alone(infer: Any) -> None:
    from starlette.applications import Starlette
    from starlette.testclient import TestClient
    from starlette.websockets import WebSocketDisconnect

    app = Starlette()
    infer.init_app(app)
    with (
        TestClient(app) as client,
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/models/iris"),
    ):
        raise AssertionError("accepted")
