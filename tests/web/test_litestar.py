"""Litestar: the plugin, and a model as a dependency."""

# Annotations are no strings here: Litestar reads those of handlers, which name what is imported in functions.

from collections.abc import Iterator
from typing import Any

import pytest

import infersdk
from infersdk.errors import SessionError, UnknownModelError
from infersdk.predictors import current_predictors
from infersdk.runtime import Predictor

pytest.importorskip("litestar")


@pytest.fixture
def infer(iris: Any) -> Iterator[Any]:
    from infersdk.web.litestar import InferSDK

    made = InferSDK(models={"iris": iris.path}, url_prefix="/models")
    yield made
    made.predictors.close()


def _row(iris: Any, number: int = 0) -> dict[str, Any]:
    row: dict[str, Any] = iris.X.iloc[number].to_dict()
    return row


@pytest.mark.parametrize("root_path", ["", "/iris"])
def test_the_plugin_adds_the_models(infer: Any, iris: Any, root_path: str) -> None:
    from litestar import Litestar, get
    from litestar.testing import TestClient

    @get("/mine")
    async def mine() -> str:
        return "mine"

    app = Litestar([mine], plugins=[infer.plugin])
    for _ in range(2):
        with TestClient(app, root_path=root_path) as client:
            assert infer.predictors.state == "open"
            for number in (0, 60, 140):
                expected = iris.model.predict(iris.X.iloc[[number]]).tolist()
                for path in ("/models/iris", "/models/iris/predict"):
                    reply = client.post(root_path + path, json=_row(iris, number))
                    assert reply.json() == {"answers": expected}
            assert client.get(f"{root_path}/models").json() == {"models": ["iris"]}
            assert client.get(f"{root_path}/models/health/ready").status_code == 200
            assert client.get(f"{root_path}/mine").text == "mine"
            assert client.post(f"{root_path}/modelsiris", json=_row(iris)).status_code == 404
            refused = client.post(f"{root_path}/models/iris", json={})
            assert refused.status_code == 422
            assert refused.headers["content-type"] == "application/problem+json"
        assert infer.predictors.state == "closed"


def test_a_model_as_a_dependency(infer: Any, iris: Any) -> None:
    from litestar import Litestar, post
    from litestar.di import NamedDependency
    from litestar.params import JSONBody
    from litestar.testing import TestClient

    @post("/ask")
    async def ask(data: JSONBody[dict[str, Any]], iris: NamedDependency[Predictor]) -> int:
        assert current_predictors["iris"] is iris
        return int((await iris.apredict(data))[0])

    app = Litestar([ask], plugins=[infer.plugin], dependencies={"iris": infer.provide("iris")})
    with TestClient(app) as client:
        assert client.post("/ask", json=_row(iris, 140)).json() == 2
        refused = client.post("/ask", json={"petal width (cm)": "wide"})
        assert refused.status_code == 422
        assert refused.headers["content-type"] == "application/problem+json"
        assert len(refused.json()["errors"]) >= 1
        with (
            infersdk.load(iris.path, name="other") as other,
            infer.predictors.override("iris", other),
        ):
            assert client.post("/ask", json=_row(iris, 60)).json() == 1


def test_a_model_that_was_not_declared(infer: Any) -> None:
    with pytest.raises(UnknownModelError, match="No model `wine` is declared"):
        infer.provide("wine")


def test_a_fault_of_the_servers_shows_nothing_of_it(infer: Any) -> None:
    from litestar import Litestar, get
    from litestar.testing import TestClient

    @get("/broken")
    async def broken() -> None:
        raise SessionError("the secret inside")

    with TestClient(Litestar([broken], plugins=[infer.plugin])) as client:
        fault = client.get("/broken")
        assert fault.status_code == 500
        assert "secret" not in fault.text
        assert fault.json()["instance"].startswith("urn:uuid:")


def test_the_apps_own_handler_stays(infer: Any) -> None:
    from litestar import Litestar, Request, Response, get
    from litestar.testing import TestClient

    @get("/ask")
    async def ask() -> list[int]:
        answers: list[int] = infer.predictors["iris"].predict({}).tolist()
        return answers

    def mine(request: Request[Any, Any, Any], error: Exception) -> Response[str]:
        return Response("mine", status_code=418)

    app = Litestar([ask], plugins=[infer.plugin], exception_handlers={infersdk.InferSDKError: mine})
    with TestClient(app) as client:
        assert client.get("/ask").status_code == 418


def test_models_are_named_by_keyword(iris: Any) -> None:
    from infersdk.web.litestar import InferSDK

    with pytest.raises(TypeError, match=r"got dict: write InferSDK\(models="):
        InferSDK({"iris": iris.path})  # type: ignore[arg-type]


def test_without_a_prefix_there_are_no_routes(iris: Any) -> None:
    from litestar import Litestar
    from litestar.testing import TestClient

    from infersdk.web.litestar import InferSDK

    infer = InferSDK(models={"iris": iris.path})
    with TestClient(Litestar(plugins=[infer.plugin])) as client:
        assert infer.predictors.state == "open"
        assert client.post("/models/iris", json=_row(iris)).status_code == 404


def test_a_model_that_cannot_be_opened_stops_the_start(tmp_path: Any) -> None:
    from litestar import Litestar
    from litestar.testing import TestClient

    from infersdk.web.litestar import InferSDK

    infer = InferSDK(models={"lost": tmp_path / "lost.onnx"})
    with (
        pytest.raises(ExceptionGroup) as caught,
        TestClient(Litestar(plugins=[infer.plugin])),
    ):
        raise AssertionError("it started")
    assert caught.value.subgroup(infersdk.ArtifactError) is not None
    assert infer.predictors.state == "closed"
