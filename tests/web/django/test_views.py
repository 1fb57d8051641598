"""The models' routes and the project's own views, through both of Django's handlers."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import socket
import sys
import threading
from typing import Any

import numpy as np
import pytest

from infersdk.errors import AbandonedError, DeadlineError, OverloadedError
from infersdk.predictors import override

ROUTES = ["/models/iris/predict_proba", "/models/iris/predict_proba/", "/own", "/async_own"]


class Asker:
    """Sends a request through one of the handlers."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, method: str, path: str, body: Any = b"", **headers: str) -> Any:
        from django.test import AsyncClient, Client

        text = body if isinstance(body, (bytes, str)) else json.dumps(body)
        options = {"content_type": headers.pop("content_type", "application/json")}
        if self.name == "wsgi":
            return Client().generic(method, path, text, headers=headers, **options)
        return asyncio.run(AsyncClient().generic(method, path, text, headers=headers, **options))


@pytest.fixture(params=["wsgi", "asgi"])
def ask(request: pytest.FixtureRequest, served: dict[str, Any]) -> Asker:
    return Asker(request.param)


def problem(response: Any, status: int, kind: str) -> dict[str, Any]:
    assert response.status_code == status, response.content
    assert response["content-type"] == "application/problem+json"
    found = response.json()
    assert found["type"] == f"urn:infersdk:problem:{kind}"
    assert found["status"] == status
    assert "Traceback" not in response.content.decode()
    return found


@pytest.mark.parametrize("route", ROUTES)
def test_rows_are_answered_as_the_source_model_would(
    ask: Asker, iris: tuple[Any, Any], route: str
) -> None:
    model, X = iris
    rows = X.iloc[:20].to_dict("records")
    response = ask("POST", route, rows)
    assert response.status_code == 200
    assert response["content-type"] == "application/json"
    np.testing.assert_allclose(
        response.json()["answers"], model.predict_proba(X.iloc[:20]), rtol=1e-6
    )
    one = ask("POST", route, rows[0]).json()["answers"]
    np.testing.assert_allclose(one, model.predict_proba(X.iloc[:1]), rtol=1e-6)


@pytest.mark.parametrize("route", ["/models/iris", "/by_hand", "/async_by_hand"])
def test_the_main_method_gives_labels(ask: Asker, iris: tuple[Any, Any], route: str) -> None:
    model, X = iris
    response = ask("POST", route, X.to_dict("records"))
    assert response.json()["answers"] == model.predict(X).tolist()


def test_only_the_methods_that_are_declared_are_answered(ask: Asker, iris: tuple[Any, Any]) -> None:
    model, X = iris
    row = X.iloc[0].to_dict()
    answers = ask("POST", "/models/few", row).json()["answers"]
    np.testing.assert_allclose(answers, model.predict_proba(X.iloc[:1]), rtol=1e-6)
    found = problem(ask("POST", "/models/few/predict", row), 404, "unknown-method")
    assert "predict_proba" in found["detail"]


def test_pages(ask: Asker) -> None:
    assert ask("GET", "/models/").json() == {"models": ["iris", "few"]}
    described = ask("GET", "/models/iris").json()
    assert described["plan"]["kind"] == "onnx"
    assert len(described["fields"]) == 4
    for page in ("live", "ready", "startup"):
        response = ask("GET", f"/models/health/{page}")
        assert response.status_code == 200
        assert response["cache-control"] == "no-store"


def test_head_has_the_length_and_no_body(ask: Asker) -> None:
    response = ask("HEAD", "/models/iris")
    assert response.content == b""
    assert response["content-length"] == str(len(ask("GET", "/models/iris").content))


@pytest.mark.parametrize("script", ["", "/shop"])
def test_the_openapi_document_says_where_it_is_mounted(served: dict[str, Any], script: str) -> None:
    from django.test import Client

    response = Client().get("/models/openapi.json", SCRIPT_NAME=script)
    document = response.json()
    assert document["servers"] == [{"url": f"{script}/models"}]
    assert "/iris/predict_proba" in document["paths"]


def test_refusals(ask: Asker, iris: tuple[Any, Any]) -> None:
    row = iris[1].iloc[0].to_dict()
    problem(ask("POST", "/models/nobody", row), 404, "unknown-model")
    problem(ask("GET", "/models/health/fine"), 404, "unknown-path")
    problem(ask("POST", "/models/iris", b"{"), 400, "invalid-json")
    problem(ask("POST", "/models/iris", b""), 400, "invalid-json")
    problem(
        ask("POST", "/models/iris", row, content_type="text/csv"), 415, "unsupported-media-type"
    )
    response = ask("PUT", "/models/iris", row)
    problem(response, 405, "method-not-allowed")
    assert response["allow"] == "POST, GET, HEAD"
    problem(ask("POST", "/models/iris", [row] * 1001), 413, "too-many-rows")


@pytest.mark.parametrize("route", ROUTES)
def test_every_field_that_does_not_fit_is_named(
    ask: Asker, iris: tuple[Any, Any], route: str
) -> None:
    row = iris[1].iloc[0].to_dict()
    bad = {**row, "petal length (cm)": "long"}
    del bad["petal width (cm)"]
    found = problem(ask("POST", route, [row, bad]), 422, "rows-do-not-fit")
    assert {error["pointer"] for error in found["errors"]} == {
        "#/1/petal length (cm)",
        "#/1/petal width (cm)",
    }


def test_bodies_are_bounded_by_djangos_own_limit(
    ask: Asker, iris: tuple[Any, Any], served: dict[str, Any]
) -> None:
    from django.test import override_settings

    row = iris[1].iloc[0].to_dict()
    size = len(json.dumps([row]))
    for settings in (
        {"DATA_UPLOAD_MAX_MEMORY_SIZE": size},
        {"INFERSDK": {**served, "MAX_BODY_BYTES": size}},
    ):
        with override_settings(**settings):
            for route in ("/models/iris", "/own", "/async_own"):
                assert ask("POST", route, [row]).status_code == 200
                found = problem(ask("POST", route, [row, row]), 413, "body-too-large")
                assert found["max_body_bytes"] == size


def test_a_large_body_for_nobody_is_not_read(served: dict[str, Any]) -> None:
    from django.test import RequestFactory

    from infersdk.web.django.views import mounted

    class Unread:
        def read(self, *_: Any) -> bytes:
            raise AssertionError("the body was read")

        readline = read

    request = RequestFactory().generic(
        "POST",
        "/models/nobody",
        content_type="application/json",
        **{"CONTENT_LENGTH": str(10**6), "wsgi.input": Unread()},
    )
    assert mounted(request, "/nobody").status_code == 404


def test_a_body_in_chunks_is_read_where_the_server_says_where_it_ends(
    client: Any, iris: tuple[Any, Any]
) -> None:
    from django.test import override_settings

    model, X = iris
    body = json.dumps(X.iloc[0].to_dict()).encode()
    options = {
        "content_type": "application/json",
        "HTTP_TRANSFER_ENCODING": "chunked",
        "CONTENT_LENGTH": "",
        "wsgi.input_terminated": True,
    }
    response = client.generic("POST", "/models/iris", **options, **{"wsgi.input": io.BytesIO(body)})
    assert response.json()["answers"] == model.predict(X.iloc[:1]).tolist()
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=len(body) - 1):
        response = client.generic(
            "POST", "/models/iris", **options, **{"wsgi.input": io.BytesIO(body)}
        )
    problem(response, 413, "body-too-large")


def test_a_body_in_chunks_is_refused_under_other_wsgi_servers(client: Any) -> None:
    response = client.generic(
        "POST", "/models/iris", content_type="application/json", HTTP_TRANSFER_ENCODING="chunked"
    )
    problem(response, 411, "length-required")


def test_a_body_in_chunks_is_bounded_under_asgi(
    served: dict[str, Any], iris: tuple[Any, Any]
) -> None:
    from django.test import override_settings

    model, X = iris
    row = json.dumps(X.iloc[0].to_dict()).encode()
    status, body = asyncio.run(_asgi("/models/iris", [row[:20], row[20:]]))
    assert (status, json.loads(body)["answers"]) == (200, model.predict(X.iloc[:1]).tolist())
    with override_settings(INFERSDK={**served, "MAX_BODY_BYTES": len(row) - 1}):
        status, body = asyncio.run(_asgi("/models/iris", [row[:20], row[20:]]))
    assert (status, json.loads(body)["type"]) == (413, "urn:infersdk:problem:body-too-large")


async def _asgi(path: str, parts: list[bytes], gone: asyncio.Event | None = None) -> Any:
    """Call Django as an ASGI server does, with a body of unknown length; the client leaves at ``gone``."""
    from django.core.handlers.asgi import ASGIHandler

    left = list(parts)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if left:
            body = left.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(left)}
        await (gone or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [(b"content-type", b"application/json"), (b"host", b"testserver")],
    }
    await ASGIHandler()(scope, receive, send)
    if not sent:
        return None, b""
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


class Stuck:
    """Stands in for a Predictor whose answer takes for ever."""

    def __init__(self, signature: Any) -> None:
        self.signature = signature
        self.asked = asyncio.Event()
        self.cancelled = False

    async def apredict(self, rows: Any, **_: Any) -> Any:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


@pytest.mark.parametrize("route", ["/models/iris", "/async_own"])
def test_the_work_of_a_client_that_has_gone_is_cancelled(
    served: dict[str, Any], iris: tuple[Any, Any], route: str
) -> None:
    from infersdk.web.django import conf

    row = json.dumps(iris[1].iloc[0].to_dict()).encode()

    async def scene() -> Stuck:
        stuck = Stuck(conf.service().predictors["iris"].signature)
        with override("iris", stuck):  # type: ignore[arg-type]
            await asyncio.wait_for(_asgi(route, [row], gone=stuck.asked), 20)
        return stuck

    assert asyncio.run(scene()).cancelled


@pytest.mark.parametrize("route", ["/models/iris", "/own", "/by_hand", "/drf/iris"])
def test_a_thread_can_tell_that_its_client_has_gone(
    client: Any, iris: tuple[Any, Any], route: str
) -> None:
    """Under gunicorn, which puts the connection into the environ."""
    from infersdk._native import gives_up
    from infersdk.web.django import conf

    seen: list[bool] = []

    class Waiting:
        signature = conf.service().predictors["iris"].signature

        def predict(self, rows: Any, timeout_s: float | None = None) -> Any:
            asked = gives_up.get()
            seen.append(asked is not None and asked())
            raise AbandonedError("Nobody waits for the answer", model="iris")

        predict_proba = predict

    ours, theirs = socket.socketpair()
    theirs.close()
    row = json.dumps(iris[1].iloc[0].to_dict())
    with ours, override("iris", Waiting()):  # type: ignore[arg-type]
        options = {"content_type": "application/json", "gunicorn.socket": ours}
        client.post(route, row, **options)
    # A view that calls a model by itself does not look; the rest does.
    assert seen == [route != "/by_hand" and sys.platform == "linux"]


class Failing:
    """Stands in for a Predictor that refuses."""

    def __init__(self, signature: Any, error: Exception) -> None:
        self.signature = signature
        self.error = error

    def predict(self, rows: Any, timeout_s: Any = None) -> Any:
        raise self.error

    predict_proba = predict

    async def apredict(self, rows: Any, **_: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "route", ["/models/iris", "/own", "/async_own", "/by_hand", "/async_by_hand"]
)
def test_overload_and_lateness(
    ask: Asker, iris: tuple[Any, Any], route: str, caplog: pytest.LogCaptureFixture
) -> None:
    from infersdk.web.django import conf

    row = iris[1].iloc[0].to_dict()
    signature = conf.service().predictors["iris"].signature
    overloaded = OverloadedError("The queue is full", retry_after_s=1.2, model="iris")
    late = DeadlineError("Too late", timeout_s=0.5, model="iris")
    with override("iris", Failing(signature, overloaded)):  # type: ignore[arg-type]
        response = ask("POST", route, row)
    problem(response, 503, "overloaded")
    assert response["retry-after"] == "2"
    with override("iris", Failing(signature, late)):  # type: ignore[arg-type]
        problem(ask("POST", route, row), 504, "deadline-exceeded")
    # Django mails what it logs as an error.
    assert "django.request" not in {record.name for record in caplog.records}


def test_a_failure_says_nothing_of_the_inside(
    ask: Asker, iris: tuple[Any, Any], caplog: pytest.LogCaptureFixture
) -> None:
    from infersdk.web.django import conf

    signature = conf.service().predictors["iris"].signature
    secret = Failing(signature, RuntimeError("a secret"))
    with override("iris", secret):  # type: ignore[arg-type]
        response = ask("POST", "/models/iris", iris[1].iloc[0].to_dict())
    found = problem(response, 500, "internal")
    assert "secret" not in response.content.decode()
    assert found["instance"] in caplog.text
    assert "a secret" in caplog.text


def test_requests_of_djangos_factories(served: dict[str, Any], iris: tuple[Any, Any]) -> None:
    from django.test import AsyncRequestFactory, RequestFactory

    from infersdk.web.django.views import aanswer, answer

    model, X = iris
    row = X.iloc[0].to_dict()
    options = {"data": row, "content_type": "application/json"}
    sync = answer(RequestFactory().post("/", **options), "iris")
    asynchronous = asyncio.run(aanswer(AsyncRequestFactory().post("/", **options), "iris"))
    expected = {"answers": model.predict(X.iloc[:1]).tolist()}
    assert json.loads(sync.content) == json.loads(asynchronous.content) == expected


def test_a_body_that_was_read_before_is_answered(
    served: dict[str, Any], iris: tuple[Any, Any]
) -> None:
    """As by a middleware that logs or signs bodies; and it can be read afterwards."""
    from django.test import RequestFactory

    from infersdk.web.django.views import answer

    request = RequestFactory().post("/", iris[1].iloc[0].to_dict(), "application/json")
    before = request.body
    assert answer(request, "iris").status_code == 200
    assert request.body == before
    request = RequestFactory().post("/", iris[1].iloc[0].to_dict(), "application/json")
    assert answer(request, "iris").status_code == 200
    assert request.body == before


def test_a_body_that_breaks_off_is_no_fault_of_the_server(
    client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def read(self, *_: Any) -> bytes:
            raise ConnectionResetError

        readline = read

    response = client.generic(
        "POST",
        "/models/iris",
        content_type="application/json",
        **{"CONTENT_LENGTH": "50", "wsgi.input": Broken()},
    )
    problem(response, 400, "incomplete-body")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


# -- which view answers ----------------------------------------------------------------------------


def test_the_event_loop_gets_the_async_view_and_threads_the_sync_one(
    served: dict[str, Any],
) -> None:
    from django.urls import resolve

    assert not inspect.iscoroutinefunction(resolve("/models/iris").func)

    async def scene() -> Any:
        here = resolve("/models/iris").func
        loop = asyncio.get_running_loop()
        there = await loop.run_in_executor(None, lambda: resolve("/models/iris").func)
        return here, there

    here, there = asyncio.run(scene())
    assert inspect.iscoroutinefunction(here)
    assert not inspect.iscoroutinefunction(there)


def test_under_asgi_no_thread_answers(served: dict[str, Any], iris: tuple[Any, Any]) -> None:
    from infersdk.web.django import conf

    _, X = iris
    threads: list[int] = []
    predictor = conf.service().predictors["iris"]

    class Noting:
        signature = predictor.signature

        async def apredict(self, rows: Any, **options: Any) -> Any:
            threads.append(threading.get_ident())
            return await predictor.apredict(rows, **options)

    with override("iris", Noting()):  # type: ignore[arg-type]
        body = json.dumps(X.iloc[0].to_dict()).encode()
        status, _ = asyncio.run(_asgi("/models/iris", [body]))
    assert (status, threads) == (200, [threading.get_ident()])


def test_a_decorator_around_the_mounted_views_is_not_gone_around(served: dict[str, Any]) -> None:
    from django.http import HttpResponseForbidden
    from django.urls import path

    from infersdk.web.django.urls import EitherPattern

    async def open_to_all(request: Any) -> Any:
        raise AssertionError

    pattern = EitherPattern(path("x", lambda request: None), open_to_all)

    def forbid(request: Any) -> Any:
        return HttpResponseForbidden()

    pattern.callback = forbid

    async def scene() -> Any:
        return pattern.resolve("x").func

    assert asyncio.run(scene()) is forbid


def test_mounted_views_need_no_csrf_token(served: dict[str, Any], iris: tuple[Any, Any]) -> None:
    from django.test import Client

    strict = Client(enforce_csrf_checks=True)
    row = json.dumps(iris[1].iloc[0].to_dict())
    assert strict.post("/models/iris", row, content_type="application/json").status_code == 200


def test_where_a_login_is_needed_only_health_goes_without(
    ask: Asker, settings_middleware: None
) -> None:
    assert ask("GET", "/models/health/live").status_code == 200
    response = ask("GET", "/models/")
    assert response.status_code == 302


@pytest.fixture
def settings_middleware(served: dict[str, Any]) -> Any:
    from django.test import modify_settings

    names = [
        "tests.web.django.strangers.anonymous",
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    with modify_settings(MIDDLEWARE={"append": names}):
        yield


def test_routes_have_names(served: dict[str, Any]) -> None:
    from django.urls import reverse

    assert reverse("infersdk:models") == "/models/"
    assert reverse("infersdk:model", args=["iris"]) == "/models/iris"
    assert reverse("infersdk:method", kwargs={"model": "iris", "method": "predict"}) == (
        "/models/iris/predict"
    )
    assert reverse("infersdk:health", args=["ready"]) == "/models/health/ready"
    assert reverse("infersdk:openapi") == "/models/openapi.json"


# -- the middleware ---------------------------------------------------------------------------------


def test_errors_of_views_become_problems(ask: Asker, iris: tuple[Any, Any]) -> None:
    bad = {**iris[1].iloc[0].to_dict(), "petal length (cm)": "long"}
    for route in ("/by_hand", "/async_by_hand"):
        found = problem(ask("POST", route, bad), 422, "rows-do-not-fit")
        assert found["errors"][0]["field"] == "petal length (cm)"


def test_other_errors_of_views_are_left_to_django(client: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        client.post("/broken")
    client.raise_request_exception = False
    response = client.post("/broken")
    assert response.status_code == 500
    assert response["content-type"].startswith("text/html")
