"""Quart: the extension, its configuration, and views that a model answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import infersdk
from infersdk.errors import SessionError
from infersdk.predictors import current_predictors

pytest.importorskip("quart")


def _row(iris: Any, number: int = 0) -> dict[str, Any]:
    row: dict[str, Any] = iris.X.iloc[number].to_dict()
    return row


def _serve(app: Any, program: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
    async def serve() -> None:
        async with asyncio.timeout(60), app.test_app() as running:
            await program(running.test_client())

    asyncio.run(serve())


@pytest.fixture
def shop(iris: Any) -> Any:
    from quart import Quart

    from infersdk.web.quart import InferSDK

    app = Quart(__name__)
    InferSDK(app, models={"iris": iris.path}, url_prefix="/models", max_body_bytes=1000)
    return app


def test_the_extension_adds_the_models(shop: Any, iris: Any) -> None:
    async def program(client: Any) -> None:
        assert shop.extensions["infersdk"].predictors.state == "open"
        for number in (0, 60, 140):
            expected = iris.model.predict(iris.X.iloc[[number]]).tolist()
            reply = await client.post("/models/iris", json=_row(iris, number))
            assert await reply.json == {"answers": expected}
        assert await (await client.get("/models/")).json == {"models": ["iris"]}
        assert (await client.get("/models/health/ready")).status_code == 200
        refused = await client.post("/models/iris", json={})
        assert refused.status_code == 422
        assert refused.content_type == "application/problem+json"
        assert (await client.put("/models/iris")).status_code == 405
        assert (await client.post("/models/iris", data=b" " * 1001)).status_code == 413
        assert (await client.post("/models/wine", json={})).content_type.endswith("problem+json")

    for _ in range(2):
        _serve(shop, program)
        assert shop.extensions["infersdk"].predictors.state == "closed"


def test_the_configuration_has_the_last_word(iris: Any) -> None:
    from quart import Quart

    from infersdk.web.quart import InferSDK

    infer = InferSDK(models={"iris": "lost.onnx"}, url_prefix="/models")
    app = Quart(__name__)
    app.config.update(INFERSDK_MODELS={"iris": iris.path}, INFERSDK_URL_PREFIX="/ml")
    infer.init_app(app)

    async def program(client: Any) -> None:
        reply = await client.post("/ml/iris", json=_row(iris))
        assert await reply.json == {"answers": [0]}
        assert (await client.post("/models/iris", json=_row(iris))).status_code == 404

    _serve(app, program)
    wrong = Quart(__name__)
    wrong.config["INFERSDK_MAX_ROW"] = 5
    with pytest.raises(ValueError, match="did you mean `INFERSDK_MAX_ROWS`"):
        infer.init_app(wrong)


def test_views_of_ones_own(iris: Any) -> None:
    from quart import Quart, request

    from infersdk.web.quart import InferSDK

    app = Quart(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 2000
    infer = InferSDK(app, models={"iris": iris.path})
    other = Quart("other")
    InferSDK(other, models={"wine": iris.path})

    @app.post("/answer")
    async def answer() -> Any:
        return await infer.answer("iris", request.args.get("method"))

    @app.post("/ask")
    async def ask() -> Any:
        assert infer["iris"] is current_predictors["iris"]
        return (await current_predictors["iris"].apredict(await request.get_json())).tolist()

    async def program(client: Any) -> None:
        for number in (0, 140):
            expected = iris.model.predict(iris.X.iloc[[number]]).tolist()
            reply = await client.post("/answer", json=_row(iris, number))
            assert await reply.json == {"answers": expected}
            assert await (await client.post("/ask", json=_row(iris, number))).json == expected
        assert (await client.post("/answer?method=fly", json=_row(iris))).status_code == 404
        for path in ("/answer", "/ask"):
            refused = await client.post(path, json={})
            assert refused.status_code == 422
            assert refused.content_type == "application/problem+json"
        too_large = await client.post("/answer", data=b" " * 2001)
        assert too_large.status_code == 413
        assert (await too_large.get_json(force=True))["max_body_bytes"] == 2000

    _serve(app, program)


def test_a_fault_of_the_servers_is_the_apps_affair(shop: Any) -> None:
    @shop.get("/broken")
    async def broken() -> None:
        raise SessionError("the secret inside")

    async def program(client: Any) -> None:
        fault = await client.get("/broken")
        assert fault.status_code == 500
        assert b"secret" not in await fault.get_data()

    _serve(shop, program)


def test_the_apps_own_handler_stays(iris: Any) -> None:
    from quart import Quart

    from infersdk.web.quart import InferSDK

    app = Quart(__name__)

    @app.errorhandler(infersdk.InferSDKError)
    async def mine(error: infersdk.InferSDKError) -> tuple[str, int]:
        return "mine", 418

    infer = InferSDK(app, models={"iris": iris.path})

    @app.get("/ask")
    async def ask() -> str:
        return str(infer["iris"].predict({}))

    async def program(client: Any) -> None:
        assert (await client.get("/ask")).status_code == 418

    _serve(app, program)


def test_a_second_extension_is_refused(shop: Any) -> None:
    from infersdk.web.quart import InferSDK

    with pytest.raises(RuntimeError, match="Declare all of its models with one"):
        InferSDK(shop)


def test_a_client_that_goes_away_cancels_its_work() -> None:
    from quart import Quart

    from infersdk.web.quart import InferSDK
    from tests.web.asgi_driver import Exchange, until
    from tests.web.test_asgi import Busy

    async def program() -> None:
        async with Busy() as busy:
            app = Quart(__name__)
            InferSDK(app, models={"slow": busy.predictor}, url_prefix="/models")
            exchange = Exchange("/models/slow", [b"[[1, 2]]"])
            task = asyncio.create_task(exchange.run(app))
            await until(lambda: busy.under_way == busy.CALLS + 1)
            exchange.gone.set()
            await until(lambda: busy.cancelled == 1)
            await task
            assert exchange.sent == []

    asyncio.run(program())


def test_models_in_the_place_of_the_app() -> None:
    from infersdk.web.quart import InferSDK

    with pytest.raises(
        TypeError, match=r"Expected a Quart app, got dict: write InferSDK\(app, models="
    ):
        InferSDK({"iris": "iris.onnx"})  # type: ignore[arg-type]
