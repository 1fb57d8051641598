"""The ASGI application and the life of its models, driven by hand and over httpx. The oracle is the source model."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

import infersdk
from infersdk.errors import UnknownModelError
from infersdk.predictors import current_predictors
from infersdk.web.asgi import InferSDK, PredictorsMiddleware
from infersdk.web.disconnects import while_connected
from tests.web.asgi_driver import Exchange, run, until

LOOPS = ["asyncio", "uvloop"]


@pytest.fixture
def infer(iris: Any) -> Iterator[InferSDK]:
    made = InferSDK(models={"iris": iris.path})
    yield made
    made.predictors.close()


def _row(iris: Any, number: int = 0) -> bytes:
    return json.dumps(iris.X.iloc[number].to_dict()).encode()


def test_the_source_models_answers_over_http(infer: InferSDK, iris: Any) -> None:
    import httpx

    async def program() -> None:
        transport = httpx.ASGITransport(infer.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
            one = await client.post("/iris", json=iris.X.iloc[0].to_dict())
            assert one.json() == {"answers": iris.model.predict(iris.X.iloc[:1]).tolist()}
            assert one.headers["content-type"] == "application/json"
            many = await client.post("/iris/predict_proba", json=iris.X.to_dict("records"))
            np.testing.assert_allclose(
                many.json()["answers"], iris.model.predict_proba(iris.X), rtol=1e-5, atol=1e-6
            )
            assert (await client.get("/")).json() == {"models": ["iris"]}
            assert (await client.get("/iris")).json()["name"] == "iris"
            document = (await client.get("/openapi.json")).json()
            assert document["servers"] == [{"url": "."}]  # wherever it is mounted
            refused = await client.post("/iris", json={})
            assert refused.status_code == 422
            assert len(refused.json()["errors"]) == 4
            assert (await client.post("/nothing", json={})).status_code == 404
            assert (await client.delete("/iris")).status_code == 405

    run(program)


@pytest.mark.parametrize("loop", LOOPS)
def test_an_answer_that_does_not_wait_makes_no_task(infer: InferSDK, iris: Any, loop: str) -> None:
    async def program() -> None:
        made: list[Any] = []

        def factory(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
            made.append(coroutine)
            return asyncio.Task(coroutine, loop=loop, **options)

        async with infer.lifespan():
            asyncio.get_running_loop().set_task_factory(factory)
            exchange = await Exchange("/iris", [_row(iris)]).run(infer.app)
            assert exchange.json() == {"answers": [0]}
            assert not made

    run(program, loop)


# -- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "root", "path", "status"),
    [
        (None, "", "/iris", 200),
        (None, "/ml", "/ml/iris", 200),
        (None, "/ml", "/iris", 200),  # a proxy took the root path away
        ("/models", "", "/models/iris", 200),
        ("models/", "/ml", "/ml/models/iris/", 200),
        ("/models", "", "/models", 405),  # the list of models, which takes no POST
        ("/models", "", "/iris", 404),
        ("/models", "", "/modelsiris", 404),
        ("/models", "", "/models/iris/predict/more", 404),
    ],
)
def test_the_prefix_and_the_root_path(
    iris: Any, prefix: str | None, root: str, path: str, status: int
) -> None:
    infer = InferSDK(models={"iris": iris.path}, url_prefix=prefix)
    exchange = run(lambda: Exchange(path, [_row(iris)], root_path=root).run(infer.app))
    assert exchange.status == status
    if status != 200:
        assert exchange.headers["content-type"] == "application/problem+json"
        assert exchange.json()["status"] == status
    infer.predictors.close()


def test_head_has_the_length_and_no_body(infer: InferSDK) -> None:
    whole = run(lambda: Exchange("/", method="GET").run(infer.app))
    head = run(lambda: Exchange("/", method="HEAD").run(infer.app))
    assert head.body == b""
    assert head.headers == whole.headers


def test_a_websocket_is_closed_and_other_scopes_are_refused(infer: InferSDK) -> None:
    async def program() -> None:
        exchange = Exchange("/iris", type="websocket")
        await exchange.run(infer.app)
        assert [message["type"] for message in exchange.sent] == ["websocket.close"]
        with pytest.raises(NotImplementedError, match="got 'telnet'"):
            await Exchange("/iris", type="telnet").run(infer.app)

    run(program)


# -- bodies --------------------------------------------------------------------------------------


def test_a_body_in_parts(infer: InferSDK, iris: Any) -> None:
    body = _row(iris)
    parts = [body[:7], b"", body[7:50], body[50:]]
    assert run(lambda: Exchange("/iris", parts).run(infer.app)).json() == {"answers": [0]}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((("content-type", "application/json"), ("content-length", "12345678")), 413),
        ((("content-type", "text/csv"), ("content-length", "999999")), 415),
        ((("content-type", "text/csv"),), 415),
    ],
)
def test_refused_before_the_body_is_read(iris: Any, headers: Any, status: int) -> None:
    infer = InferSDK(models={"iris": iris.path}, max_body_bytes=1_000_000)
    exchange = run(lambda: Exchange("/iris", [b"{"] * 2, headers=headers).run(infer.app))
    assert (exchange.status, exchange.read) == (status, 0)
    infer.predictors.close()


def test_no_more_is_read_than_is_allowed(iris: Any) -> None:
    infer = InferSDK(models={"iris": iris.path}, max_body_bytes=1000)
    exchange = run(lambda: Exchange("/iris", [b" " * 400] * 100).run(infer.app))
    assert exchange.status == 413
    assert exchange.read == 3
    infer.predictors.close()


@pytest.mark.parametrize("parts_before", [0, 1])
def test_a_client_that_goes_away_while_it_sends(infer: InferSDK, parts_before: int) -> None:
    async def program() -> None:
        exchange = Exchange("/iris", [b"{"] * 9)
        receive = exchange.receive

        async def receive_some() -> dict[str, Any]:
            if exchange.read == parts_before:
                return {"type": "http.disconnect"}
            return await receive()

        await infer.app(exchange.scope, receive_some, exchange.send)
        assert exchange.status == 499

    run(program)


# -- clients that go away while they wait --------------------------------------------------------


class Busy:
    """A model that is let go later, with more calls under way than it has threads: further ones queue."""

    CALLS = 40

    def __init__(self) -> None:
        from tests.web.slow_model import SlowModel

        X = np.arange(12.0).reshape(6, 2)
        self.model = SlowModel().fit(X, [0, 1] * 3)
        self.predictor = infersdk.load(
            self.model, example=X, name="slow", batching=infersdk.Batching.off()
        )
        self.infer = InferSDK(models={"slow": self.predictor})

    async def __aenter__(self) -> Self:
        self.model.go.clear()
        self.calls = [
            asyncio.create_task(self.predictor.apredict([[1.0, 1.0]])) for _ in range(self.CALLS)
        ]
        await until(lambda: self.under_way == self.CALLS)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.model.go.set()
        assert [(await call).tolist() for call in self.calls] == [[0]] * self.CALLS
        self.predictor.close()

    def start(self, exchange: Exchange) -> asyncio.Task[Exchange]:
        return asyncio.create_task(exchange.run(self.infer.app))

    @property
    def under_way(self) -> int:
        stats = self.predictor.queue_stats()
        return stats.get("running", 0) + stats.get("queued_rows", 0)

    @property
    def cancelled(self) -> int:
        return self.predictor.queue_stats()["cancelled"]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_client_that_goes_away_cancels_its_work(loop: str) -> None:
    async def program() -> None:
        async with Busy() as busy:
            exchange = Exchange("/slow", [b"[[1, 2]]"])
            task = busy.start(exchange)
            await until(lambda: busy.under_way == busy.CALLS + 1)
            exchange.gone.set()
            await task  # it ends as if nothing had happened, with a reply that nobody reads
            assert (exchange.status, task.cancelling()) == (499, 0)
            assert (busy.cancelled, busy.under_way) == (1, busy.CALLS)

    run(program, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_who_waits_for_the_answer_gets_it(loop: str) -> None:
    async def program() -> None:
        tasks_before = asyncio.all_tasks()
        async with Busy() as busy:
            exchanges = [Exchange("/slow", [b"[[1, %d]]" % number]) for number in range(8)]
            tasks = [busy.start(exchange) for exchange in exchanges]
            await until(lambda: busy.under_way == busy.CALLS + 8)
            busy.model.go.set()
            await asyncio.gather(*tasks)
            answers = [exchange.json()["answers"][0] for exchange in exchanges]
            assert answers == [(1 + number) % 2 for number in range(8)]
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == tasks_before

    run(program, loop)


def test_a_server_that_cancels_the_request_cancels_the_work_too() -> None:
    async def program() -> None:
        async with Busy() as busy:
            exchange = Exchange("/slow", [b"[[1, 2]]"])
            task = busy.start(exchange)
            await until(lambda: busy.under_way == busy.CALLS + 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (busy.cancelled, busy.under_way) == (1, busy.CALLS)

    run(program)


def test_a_server_whose_receive_fails_gets_the_answer_all_the_same() -> None:
    async def program() -> None:
        async with Busy() as busy:
            exchange = Exchange("/slow", [b"[[1, 2]]"])
            receive = exchange.receive

            async def receive_once() -> dict[str, Any]:
                if exchange.read:
                    raise RuntimeError("there is no more to receive")
                return await receive()

            task = asyncio.create_task(busy.infer.app(exchange.scope, receive_once, exchange.send))
            await until(lambda: busy.under_way == busy.CALLS + 1)
            busy.model.go.set()
            await task
            assert exchange.json() == {"answers": [1]}

    run(program)


async def _never() -> bool:
    await asyncio.Event().wait()
    return True


class TestWhileConnected:
    """What a coroutine may do that is started by hand."""

    @pytest.mark.parametrize("loop", LOOPS)
    def test_it_may_wait_for_anything(self, loop: str) -> None:
        async def answer() -> str:
            running = asyncio.get_running_loop()
            await asyncio.sleep(0)
            future: asyncio.Future[str] = running.create_future()
            running.call_soon(future.set_result, "one")
            one = await future
            async with asyncio.timeout(30), asyncio.TaskGroup() as group:
                two = group.create_task(asyncio.sleep(0, "two"))
            three = await asyncio.wait_for(asyncio.sleep(0, "three"), 30)
            return " ".join([one, two.result(), three])

        assert run(lambda: while_connected(answer(), _never), loop) == "one two three"

    def test_it_may_wait_for_what_is_there_before_the_watching_begins(self) -> None:
        async def program() -> None:
            future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

            async def answer() -> int:
                asyncio.get_running_loop().call_soon(future.set_result, 5)
                return await future

            assert await while_connected(answer(), _never) == 5

        run(program)

    def test_it_stays_in_its_task(self) -> None:
        async def answer() -> list[Any]:
            tasks = [asyncio.current_task()]
            for _ in range(3):
                await asyncio.sleep(0)
                tasks.append(asyncio.current_task())
            return tasks

        async def program() -> None:
            assert await while_connected(answer(), _never) == [asyncio.current_task()] * 4

        run(program)

    def test_its_own_deadline_passes(self) -> None:
        async def answer() -> str:
            try:
                async with asyncio.timeout(0):
                    await asyncio.Event().wait()
            except TimeoutError:
                return "late"
            raise AssertionError("no deadline")

        assert run(lambda: while_connected(answer(), _never)) == "late"

    @pytest.mark.parametrize("waits", [0, 1, 2])
    def test_its_errors_pass(self, waits: int) -> None:
        async def answer() -> None:
            for _ in range(waits):
                await asyncio.sleep(0)
            raise LookupError("as it is")

        with pytest.raises(LookupError, match="as it is"):
            run(lambda: while_connected(answer(), _never))

    def test_the_error_of_what_it_waits_for_reaches_it(self) -> None:
        async def answer() -> str:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(future.set_exception, KeyError("a"))
            try:
                await future
            except KeyError:
                await asyncio.sleep(0)
                return "caught"
            raise AssertionError("no error")

        assert run(lambda: while_connected(answer(), _never)) == "caught"

    def test_it_may_clean_up_when_the_client_goes_away(self) -> None:
        cleaned = []

        async def answer() -> str:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                cleaned.append(True)
            return "nobody wants it"

        async def gone() -> bool:
            return True

        async def program() -> None:
            task = asyncio.current_task()
            assert task is not None
            assert await while_connected(answer(), gone) is None
            assert task.cancelling() == 0
            await asyncio.sleep(0)  # and no cancellation is left

        run(program)
        assert cleaned == [True]

    def test_it_may_answer_though_the_client_went_away(self) -> None:
        async def answer() -> str:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "nobody wants it"
            raise AssertionError

        async def gone() -> bool:
            return True

        async def program() -> None:
            task = asyncio.current_task()
            assert task is not None
            assert await while_connected(answer(), gone) is None
            assert task.cancelling() == 0

        run(program)

    def test_a_cancellation_from_outside_goes_on(self) -> None:
        async def gone() -> bool:
            return True

        async def program() -> None:
            async def request() -> None:
                task = asyncio.current_task()
                assert task is not None
                asyncio.get_running_loop().call_soon(task.cancel)
                await while_connected(_never(), gone)

            task = asyncio.create_task(request())
            with pytest.raises(asyncio.CancelledError):
                await task

        run(program)


# -- the models' life ----------------------------------------------------------------------------


def test_served_as_it_is_it_opens_and_closes_the_models(infer: InferSDK, iris: Any) -> None:
    from asgi_lifespan import LifespanManager

    async def program() -> None:
        async with LifespanManager(infer.app):
            assert infer.predictors.state == "open"
            ready = await Exchange("/health/ready", method="GET").run(infer.app)
            assert ready.status == 200
        assert infer.predictors.state == "closed"
        refused = await Exchange("/iris", [_row(iris)]).run(infer.app)
        assert refused.status == 503

    run(program)


def test_a_model_that_cannot_be_opened_makes_the_start_fail(tmp_path: Path, iris: Any) -> None:
    infer = InferSDK(models={"iris": iris.path, "lost": tmp_path / "lost.onnx"})

    async def program() -> None:
        messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        await infer.app({"type": "lifespan"}, receive, send)
        assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
        assert "while opening model `lost`" in sent[0]["message"]

    run(program)
    assert infer.predictors.state == "closed"


def test_an_app_may_be_started_again_in_its_process(infer: InferSDK, iris: Any) -> None:
    async def program() -> None:
        for _ in range(2):
            async with infer.lifespan():
                exchange = await Exchange("/iris", [_row(iris)]).run(infer.app)
                assert exchange.json() == {"answers": [0]}
            assert infer.predictors.state == "closed"

    run(program)
    run(program)


def test_lives_within_one_another_are_one(infer: InferSDK) -> None:
    async def program() -> None:
        async with infer.lifespan():
            async with infer.lifespan():
                pass
            assert infer.predictors.state == "open"
        assert infer.predictors.state == "closed"

    run(program)


def test_the_apps_own_lifespan_is_inside_the_models(infer: InferSDK, iris: Any) -> None:
    found = []

    @asynccontextmanager
    async def own(app: str) -> AsyncIterator[dict[str, str]]:
        found.append((app, infer.predictors["iris"].predict(iris.X[:1]).tolist()))
        yield {"state": "mine"}
        found.append((app, infer.predictors["iris"].predict(iris.X[-1:]).tolist()))

    async def program() -> None:
        async with infer.lifespan_with(own)("app") as state:
            assert state == {"state": "mine"}

    run(program)
    assert found == [("app", [0]), ("app", [2])]
    assert infer.predictors.state == "closed"


@pytest.mark.parametrize("how", ["no lifespan", "lazy"])
def test_a_model_is_opened_at_its_first_use_beside_the_loop(iris: Any, how: str) -> None:
    threads: list[threading.Thread] = []

    def source() -> Any:
        threads.append(threading.current_thread())
        return infersdk.load(iris.path)

    async def ask(infer: InferSDK) -> None:
        assert not infer.predictors.is_open("iris")
        exchanges = [Exchange("/iris", [_row(iris)]) for _ in range(4)]
        await asyncio.gather(*(exchange.run(infer.app) for exchange in exchanges))
        assert [exchange.json() for exchange in exchanges] == [{"answers": [0]}] * 4
        assert (await infer.get("iris")) is infer.predictors["iris"]

    async def program() -> None:
        infer = InferSDK(models={"iris": source}, opening="lazy" if how == "lazy" else "auto")
        if how == "lazy":
            async with infer.lifespan():
                await ask(infer)
        else:
            await ask(infer)
            await infer.predictors.aclose()

    run(program)
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()


def test_opening_now_opens_where_the_app_is_made(iris: Any) -> None:
    infer = InferSDK(models={"iris": iris.path}, opening="now")
    assert infer.predictors.state == "open"
    infer.predictors.close()


def test_an_override_outlives_the_life_of_the_app(infer: InferSDK, iris: Any) -> None:
    with (
        infersdk.load(iris.path, name="other") as other,
        infer.predictors.override("iris", other),
    ):

        async def program() -> None:
            for _ in range(2):
                async with infer.lifespan():
                    assert await infer.get("iris") is other

        run(program)


def test_a_model_that_was_not_declared(infer: InferSDK) -> None:
    with pytest.raises(UnknownModelError, match="No model `wine` is declared; there is `iris`"):
        run(lambda: infer.get("wine"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_rows": 0}, "Expected max_rows to be a whole number from 1, got 0"),
        ({"timeout_s": -1}, "Expected timeout_s to be a positive number"),
        ({"models": ["a.onnx"]}, "Expected models to be a dict"),
        ({"opening": "soon"}, "Expected opening to be"),
    ],
)
def test_settings_that_are_not_valid(settings: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        InferSDK(**settings)


def test_models_are_named_by_keyword(iris: Any) -> None:
    with pytest.raises(TypeError, match=r"got dict: write InferSDK\(models="):
        InferSDK({"iris": iris.path})  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got ASGIApp: .* Only the adapters of .* take an app"):
        InferSDK(InferSDK().app, models={})  # type: ignore[arg-type]


def test_current_predictors_of_several_apps(iris: Any) -> None:
    infers = [InferSDK(models={"iris": iris.path}) for _ in range(2)]
    found = []

    async def endpoint(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        found.append(current_predictors.get_predictors())

    async def program() -> None:
        apps = [PredictorsMiddleware(endpoint, infer) for infer in infers]
        await asyncio.gather(*(Exchange("/").run(app) for app in apps))
        with pytest.raises(RuntimeError, match="apps of this process"):
            current_predictors.get_predictors()

    run(program)
    assert found == [infer.predictors for infer in infers]
    for infer in infers:
        infer.predictors.close()
