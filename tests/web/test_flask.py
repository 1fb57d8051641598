"""The Flask extension in apps as people write them; the oracle is the source model."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk import current_predictors
from infersdk.web import inspection

flask = pytest.importorskip("flask", reason="these tests are of the Flask extension")

from infersdk.web.flask import InferSDK  # noqa: E402

PROBLEM = "application/problem+json"


@pytest.fixture
def rows(iris: Any) -> list[dict[str, float]]:
    found: list[dict[str, float]] = iris.X.iloc[::30].to_dict("records")
    return found


@pytest.fixture
def make(iris: Any) -> Iterator[Any]:
    """``make(url_prefix="/models")``: an app with the model iris, closed afterwards."""
    apps = []

    def make_app(config: dict[str, Any] | None = None, **settings: Any) -> Any:
        app = flask.Flask("shop")
        app.config.update(config or {})
        app.infer = InferSDK(app, **{"models": {"iris": iris.path}, **settings})
        app.predictors = app.extensions["infersdk"].predictors
        apps.append(app)
        return app

    yield make_app
    for app in apps:
        app.predictors.close()


# -- the mounted routes --------------------------------------------------------------------------


def test_two_lines_make_the_models_routes(make: Any, iris: Any, rows: Any) -> None:
    client = make(url_prefix="/models").test_client()
    for method in ("predict", "predict_proba"):
        reply = client.post(f"/models/iris/{method}", json=rows)
        assert (reply.status_code, reply.mimetype) == (200, "application/json")
        expected = getattr(iris.model, method)(iris.X.iloc[::30])
        np.testing.assert_allclose(reply.json["answers"], expected, rtol=1e-4, atol=1e-6)
    one = client.post("/models/iris", json=rows[0]).json["answers"]
    assert one == iris.model.predict(iris.X.iloc[:1]).tolist()


@pytest.mark.parametrize("prefix", ["/models", "models/", "/api/v1/models", "/"])
def test_the_prefix_may_be_any_path(make: Any, rows: Any, prefix: str) -> None:
    app = make(url_prefix=prefix)
    root = "/" + prefix.strip("/")
    client = app.test_client()
    assert client.get(root).json == {"models": ["iris"]}
    assert client.post(root.rstrip("/") + "/iris", json=rows).status_code == 200
    with app.test_request_context():
        assert flask.url_for("infersdk", path="iris") == root.rstrip("/") + "/iris"


def test_pages_about_the_models(make: Any) -> None:
    client = make(url_prefix="/models").test_client()
    assert client.get("/models/health/live").json == {"state": "live"}
    assert client.get("/models/health/ready").json["state"] == "open"
    assert client.get("/models/iris").json["methods"][0] == "predict"
    document = client.get("/models/openapi.json").json
    assert document["servers"] == [{"url": "/models"}]
    assert "/iris/predict_proba" in document["paths"]
    head = client.head("/models/")
    assert (head.status_code, head.data) == (200, b"")


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "kind"),
    [
        ("POST", "/models/rose", {"json": []}, 404, "unknown-model"),
        ("POST", "/models/iris/transform", {"json": []}, 404, "unknown-method"),
        ("GET", "/models/a/b/c", {}, 404, "unknown-path"),
        ("PUT", "/models/iris", {"json": []}, 405, "method-not-allowed"),
        ("GET", "/models/iris/predict", {}, 405, "method-not-allowed"),
        ("POST", "/models/iris", {"data": b"[", "content_type": "application/json"}, 400, "invalid-json"),
        ("POST", "/models/iris", {"data": b"x", "content_type": "text/csv"}, 415, "unsupported-media-type"),
        ("POST", "/models/iris", {"json": [{"sepal": 1}]}, 422, "rows-do-not-fit"),
        ("POST", "/models/iris", {"json": [{}] * 4}, 413, "too-many-rows"),
        ("POST", "/models/iris", {"json": ["x" * 4000]}, 413, "body-too-large"),
        ("POST", "/models/iris", {"json": ["x" * 90_000]}, 413, "body-too-large"),
        ("POST", "/models/rose", {"json": ["x" * 90_000]}, 404, "unknown-model"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_a_problem(
    make: Any, method: str, path: str, sent: dict[str, Any], status: int, kind: str
) -> None:
    client = make(url_prefix="/models", max_rows=3, max_body_bytes=3000).test_client()
    reply = client.open(path, method=method, **sent)
    assert (reply.status_code, reply.mimetype) == (status, PROBLEM)
    assert reply.json["type"] == f"urn:infersdk:problem:{kind}"
    assert reply.json["status"] == status


def test_options_say_what_each_path_takes(make: Any) -> None:
    """A browser's preflight goes through the app's own hooks, where CORS extensions add their headers."""
    client = make(url_prefix="/models").test_client()
    for path, methods in (
        ("/models/iris/predict", {"POST", "OPTIONS"}),
        ("/models/iris", {"GET", "HEAD", "POST", "OPTIONS"}),
        ("/models/health/live", {"GET", "HEAD", "OPTIONS"}),
    ):
        reply = client.options(path)
        assert reply.status_code == 200
        assert set(reply.allow) == methods
    assert client.options("/models/rose").status_code == 404


def test_without_a_prefix_there_are_no_routes(make: Any) -> None:
    app = make()
    assert [rule.endpoint for rule in app.url_map.iter_rules()] == ["static"]


def test_hooks_of_the_app_guard_the_routes(make: Any, rows: Any) -> None:
    app = make(url_prefix="/models")

    @app.before_request
    def authenticate() -> Any:
        if flask.request.endpoint == "infersdk" and "Authorization" not in flask.request.headers:
            flask.abort(401)

    @app.after_request
    def mark(response: Any) -> Any:
        response.headers["X-Shop"] = "1"
        return response

    client = app.test_client()
    assert client.post("/models/iris", json=rows).status_code == 401
    reply = client.post("/models/iris", json=rows, headers={"Authorization": "Bearer x"})
    assert (reply.status_code, reply.headers["X-Shop"]) == (200, "1")


# -- views of one's own --------------------------------------------------------------------------


def test_a_view_answers_with_a_model(make: Any, iris: Any, rows: Any) -> None:
    app = make()
    blueprint = flask.Blueprint("flowers", __name__, url_prefix="/flowers")

    @blueprint.post("/name")
    def name() -> Any:
        return app.infer.answer("iris")

    @blueprint.post("/odds")
    def odds() -> Any:
        response = app.infer.answer("iris", "predict_proba")
        response.headers["X-Model"] = "iris"
        return response, response.status_code

    app.register_blueprint(blueprint)
    client = app.test_client()
    assert client.post("/flowers/name", json=rows).json == {
        "answers": iris.model.predict(iris.X.iloc[::30]).tolist()
    }
    reply = client.post("/flowers/odds", json=rows)
    assert reply.headers["X-Model"] == "iris"
    np.testing.assert_allclose(
        reply.json["answers"], iris.model.predict_proba(iris.X.iloc[::30]), rtol=1e-4, atol=1e-6
    )
    refused = client.post("/flowers/odds", json=[rows[0], {}])
    assert (refused.status_code, refused.mimetype) == (422, PROBLEM)
    assert refused.json["errors"][0]["row"] == 1


def test_current_predictors_are_those_of_the_app_at_work(iris: Any, mixed: Any) -> None:
    infer = InferSDK(models={"model": iris.path})
    apps = flask.Flask("one"), flask.Flask("two")
    apps[1].config["INFERSDK_MODELS"] = {"model": mixed.path}
    try:
        for app in apps:
            infer.init_app(app)

            @app.get("/")
            def view() -> Any:
                assert infer["model"] is current_predictors["model"]
                return [field.name for field in current_predictors["model"].signature.fields]

        assert apps[0].test_client().get("/").json == list(iris.X.columns)
        assert apps[1].test_client().get("/").json == list(mixed.X.columns)
        with apps[1].app_context():
            assert current_predictors.get_predictors() is infer.predictors
            assert infer.predictors is apps[1].extensions["infersdk"].predictors
        with pytest.raises(RuntimeError, match="none of them is at work here"):
            infer.predictors  # noqa: B018
    finally:
        for app in apps:
            app.extensions["infersdk"].predictors.close()


def test_an_app_that_was_not_set_up(make: Any, iris: Any) -> None:
    infer = InferSDK(models={"iris": iris.path})
    with (
        flask.Flask("bare").app_context(),
        pytest.raises(RuntimeError, match="`bare` has no models"),
    ):
        infer.predictors  # noqa: B018
    with flask.Flask("bare").test_request_context(), pytest.raises(RuntimeError, match="init_app"):
        infer.answer("iris")


def test_outside_of_any_app_the_only_one_is_meant(iris: Any) -> None:
    code = f"""
from flask import Flask
from infersdk.web.flask import InferSDK, current_predictors
app = Flask("shop")
infer = InferSDK(app, models={{"iris": {str(iris.path)!r}}})
assert infer["iris"] is current_predictors["iris"]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_app_is_set_up_once(make: Any) -> None:
    app = make()
    with pytest.raises(RuntimeError, match="has an InferSDK already"):
        InferSDK(app)
    with pytest.raises(RuntimeError, match="has an InferSDK already"):
        app.infer.init_app(app)


# -- bodies --------------------------------------------------------------------------------------


def test_hooks_may_read_the_body_before_and_after(make: Any, rows: Any) -> None:
    app = make(url_prefix="/models")
    seen = {}

    @app.before_request
    def sign() -> None:
        if "X-Sign" in flask.request.headers:
            seen["before"] = hashlib.sha256(flask.request.get_data()).hexdigest()

    @app.after_request
    def log(response: Any) -> Any:
        seen["after"] = flask.request.get_json()
        return response

    client = app.test_client()
    body = json.dumps(rows).encode()
    for headers in ({}, {"X-Sign": "1"}):
        seen.clear()
        reply = client.post(
            "/models/iris", data=body, headers=headers, content_type="application/json"
        )
        assert reply.status_code == 200
        assert seen.pop("after") == rows
        assert seen == ({"before": hashlib.sha256(body).hexdigest()} if headers else {})


CHUNKED = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}


@pytest.mark.parametrize("hooked", [False, True])
def test_chunked_bodies(make: Any, rows: Any, hooked: bool) -> None:
    app = make(url_prefix="/models", max_body_bytes=1000)
    if hooked:
        app.before_request(lambda: flask.request.get_data() and None)
    client = app.test_client()

    def post(body: bytes, **environ: Any) -> Any:
        return client.post(
            "/models/iris",
            input_stream=io.BytesIO(body),
            content_type="application/json",
            environ_overrides={**CHUNKED, **environ},
        )

    assert post(json.dumps(rows[:2]).encode()).status_code == 200
    refused = post(b"[" + b" " * 1000)
    assert (refused.status_code, refused.mimetype) == (413, PROBLEM)
    assert refused.json["max_body_bytes"] == 1000


def test_a_body_without_length_that_the_server_does_not_end(make: Any) -> None:
    environ = {key: value for key, value in CHUNKED.items() if key != "wsgi.input_terminated"}
    reply = make(url_prefix="/models").test_client().post(
        "/models/iris",
        input_stream=io.BytesIO(b"[]"),
        content_type="application/json",
        environ_overrides=environ,
    )  # fmt: skip
    assert (reply.status_code, reply.mimetype) == (411, PROBLEM)


def test_limits_of_flask_hold_too(make: Any, rows: Any) -> None:
    app = make({"MAX_CONTENT_LENGTH": 100}, url_prefix="/models")
    app.add_url_rule("/own", view_func=lambda: app.infer.answer("iris"), methods=["POST"])

    @app.before_request
    def allow_more() -> None:
        if "More" in flask.request.headers:
            flask.request.max_content_length = 10_000

    client = app.test_client()
    for path in ("/models/iris", "/own"):
        refused = client.post(path, json=rows)
        assert (refused.status_code, refused.json["max_body_bytes"]) == (413, 100)
        assert client.post(path, json=rows, headers={"More": "1"}).status_code == 200


# -- errors in views -----------------------------------------------------------------------------


def _raising(app: Any, error: Exception) -> Any:
    def view() -> Any:
        raise error

    app.add_url_rule("/", view_func=view)
    return app.test_client()


def test_errors_of_models_are_problems_in_any_view(make: Any) -> None:
    app = make()

    @app.get("/predict")
    def predict() -> Any:
        return current_predictors["iris"].predict({"sepal": 1}).tolist()

    reply = app.test_client().get("/predict")
    assert (reply.status_code, reply.mimetype) == (422, PROBLEM)
    assert reply.json["model"] == "iris"
    full = infersdk.OverloadedError("full", model="iris", retry_after_s=1.5)
    reply = _raising(make(), full).get("/")
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "2")
    assert _raising(make(), infersdk.UnknownModelError("no")).get("/").status_code == 404


@pytest.mark.parametrize("when", ["before", "after"])
def test_handlers_of_the_app_win(iris: Any, when: str) -> None:
    app = flask.Flask("shop")
    infer = InferSDK(models={"iris": iris.path})
    if when == "after":
        infer.init_app(app)

    @app.errorhandler(infersdk.InferSDKError)
    def teapot(error: infersdk.InferSDKError) -> Any:
        return str(error), 418

    @app.errorhandler(infersdk.DeadlineError)
    def later(error: infersdk.DeadlineError) -> Any:
        return "later", 202

    if when == "before":
        infer.init_app(app)
    assert _raising(app, infersdk.InputError("x")).get("/").status_code == 418
    app = flask.Flask("shop")
    app.register_error_handler(infersdk.DeadlineError, later)
    infer.init_app(app)
    late = infersdk.DeadlineError("late", model="iris", timeout_s=1)
    assert _raising(app, late).get("/").status_code == 202


def test_faults_of_the_server_are_logged_and_not_shown(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = make()
    told = []
    error = infersdk.SessionError("cannot open /secret/path")

    def tell(sender: Any, exception: Exception, **extra: Any) -> None:
        told.append(exception)

    with (
        caplog.at_level(logging.ERROR, "infersdk.web"),
        flask.got_request_exception.connected_to(tell, app),
    ):
        reply = _raising(app, error).get("/")
    assert (reply.status_code, reply.mimetype) == (500, PROBLEM)
    assert "secret" not in reply.text
    assert told == [error]
    (record,) = caplog.records
    assert reply.json["instance"] in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.parametrize(
    "config", [{"TESTING": True}, {"DEBUG": True}, {"PROPAGATE_EXCEPTIONS": True}]
)
def test_faults_of_the_server_are_shown_to_developers(make: Any, config: dict[str, Any]) -> None:
    app = make(config)
    with pytest.raises(infersdk.SessionError, match="broken"):
        _raising(app, infersdk.SessionError("broken")).get("/")


@pytest.mark.parametrize("kind", [500, Exception])
def test_an_app_with_a_page_for_faults_shows_that(make: Any, kind: Any) -> None:
    app = make()
    app.register_error_handler(kind, lambda error: ("our own page", 500))
    reply = _raising(app, infersdk.SessionError("broken")).get("/")
    assert (reply.status_code, reply.text) == (500, "our own page")


# -- settings ------------------------------------------------------------------------------------


def test_the_apps_configuration_has_the_last_word(iris: Any, mixed: Any) -> None:
    app = flask.Flask("shop")
    app.config.update(
        INFERSDK_MODELS={"people": {"source": mixed.path, "methods": ["predict"]}},
        INFERSDK_URL_PREFIX="/m",
        INFERSDK_MAX_ROWS=2,
    )
    InferSDK(app, models={"iris": iris.path}, url_prefix="/models", max_rows=9, timeout_s=3)
    service = app.extensions["infersdk"]
    assert (service.settings.url_prefix, service.settings.max_rows) == ("/m", 2)
    assert service.settings.timeout_s == 3
    assert app.test_client().get("/m/").json == {"models": ["iris", "people"]}
    assert app.test_client().get("/models/").status_code == 404


def test_the_environment_can_replace_a_model(
    iris: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_INFERSDK_MODELS__iris", str(iris.path))
    monkeypatch.setenv("SHOP_INFERSDK_MAX_ROWS", "1")
    app = flask.Flask("shop")
    app.config.from_prefixed_env("SHOP")
    InferSDK(app, models={"iris": "nowhere.onnx"}, url_prefix="/models")
    client = app.test_client()
    assert client.post("/models/iris", json=rows[:1]).status_code == 200
    assert client.post("/models/iris", json=rows).status_code == 413
    app.extensions["infersdk"].predictors.close()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("INFERSDK_MAX_ROW", 3, "`INFERSDK_MAX_ROW` is not .*did you mean `INFERSDK_MAX_ROWS`"),
        ("INFERSDK_MAX_ROWS", "3", "Expected INFERSDK_MAX_ROWS to be a whole number"),
        ("INFERSDK_MODELS", ["a.onnx"], "Expected INFERSDK_MODELS to be a dict"),
        ("INFERSDK_MODELS", {"iris": {"sauce": "a.onnx"}}, "did you mean `source`"),
        ("INFERSDK_OPENING", "soon", "Expected INFERSDK_OPENING to be 'auto', 'now' or 'lazy'"),
    ],
)
def test_wrong_settings_are_named(key: str, value: Any, message: str) -> None:
    app = flask.Flask("shop")
    app.config[key] = value
    with pytest.raises((TypeError, ValueError), match=message):
        InferSDK(app)
    assert "infersdk" not in app.extensions


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="Expected max_rows to be"):
        InferSDK(max_rows=0)


def test_models_are_opened_when_the_policy_says(make: Any, tmp_path: Path) -> None:
    missing = tmp_path / "missing.onnx"
    for opening in ("auto", "lazy"):  # no server imports this test
        app = make(models={"iris": missing}, opening=opening, url_prefix="/models")
        assert app.predictors.state == "new"
        app.predictors.close()
    with pytest.raises(infersdk.ArtifactError, match="missing"):
        make(models={"iris": missing}, opening="now")
    assert make(opening="now").predictors.is_ready


# -- the command line ----------------------------------------------------------------------------


@pytest.fixture
def run(make: Any) -> Any:
    """``run("list", models=...)``: what ``flask infersdk list`` writes, with its exit status."""

    def invoke(*arguments: str, stdin: str | None = None, **settings: Any) -> Any:
        app = make(**settings)
        result = app.test_cli_runner().invoke(args=["infersdk", *arguments], input=stdin)
        result.app = app
        return result

    return invoke


def test_list(run: Any, iris: Any) -> None:
    result = run("list")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.output.splitlines() == inspection.list_models(result.app.extensions["infersdk"])
    assert result.app.predictors.state == "new"


def test_check(run: Any, iris: Any, tmp_path: Path) -> None:
    models = {"gone": tmp_path / "gone.onnx", "iris": iris.path}
    result = run("check", models=models)
    assert result.exit_code == 1
    assert "iris: fine\n  plan: onnx" in result.stdout
    assert result.stderr.startswith("gone: failed\n  ArtifactError: ")
    assert result.stderr.endswith("\nError: 1 of 2 models failed: gone\n")
    chosen = run("check", "iris", models=models)
    assert (chosen.exit_code, chosen.stderr) == (0, "")


def test_info(run: Any, iris: Any) -> None:
    result = run("info", "iris")
    service = result.app.extensions["infersdk"]
    assert result.output.splitlines() == inspection.describe_model(service, "iris")
    served = run("info", "iris", "--json", url_prefix="/models")
    assert json.loads(served.output) == served.app.test_client().get("/models/iris").json


def test_predict(run: Any, iris: Any, rows: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    result = run("predict", "iris", "--method", "predict_proba", "--rows", str(path))
    assert result.exit_code == 0, result.output
    expected = iris.model.predict_proba(iris.X.iloc[::30])
    answers = json.loads(result.output)["answers"]
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-6)
    result = run("predict", "iris", stdin=json.dumps(rows[0]))
    assert json.loads(result.output) == {"answers": iris.model.predict(iris.X.iloc[:1]).tolist()}


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (("predict", "iris"), '[{"sepal": 1}]', "another one - `sepal`"),
        (("predict", "iris"), "[", "not JSON"),
        (("predict", "iris", "--method", "transform"), "[]", "it has: predict, predict_proba"),
        (("predict", "rose"), "[]", "there is `iris`"),
        (("info", "rose"), None, "there is `iris`"),
        (("check", "rose"), None, "there is `iris`"),
    ],
)
def test_commands_say_what_is_wrong(
    run: Any, arguments: tuple[str, ...], stdin: str | None, message: str
) -> None:
    result = run(*arguments, stdin=stdin)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_openapi(run: Any) -> None:
    result = run("openapi", url_prefix="/models")
    served = result.app.test_client().get("/models/openapi.json").json
    assert json.loads(result.output) == served
    moved = json.loads(
        run("openapi", "--title", "Flowers", "--version", "3", "--prefix", "api/v1").output
    )
    assert moved["info"] == {"title": "Flowers", "version": "3"}
    assert moved["servers"] == [{"url": "/api/v1"}]


def test_the_shell_has_the_predictors(make: Any) -> None:
    app = make()
    assert app.make_shell_context()["predictors"] is app.predictors


# -- importing -----------------------------------------------------------------------------------


def test_flask_is_asked_for_by_its_extra() -> None:
    code = "import sys; sys.modules['flask'] = None; import infersdk.web.flask"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'pip install "infersdk[flask]"' in done.stderr


def test_models_in_the_place_of_the_app() -> None:
    with pytest.raises(
        TypeError, match=r"Expected a Flask app, got dict: write InferSDK\(app, models="
    ):
        InferSDK({"iris": "iris.onnx"})  # type: ignore[arg-type]
