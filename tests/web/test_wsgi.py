"""The plain WSGI app, below other people's prefixes and under servers with habits of their own."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import numpy as np
import pytest

import infersdk
from infersdk.web.problems import ProblemError
from infersdk.web.service import Service
from infersdk.web.settings import Settings
from infersdk.web.wsgi import WSGIApp, read_body, respond
from tests.web.servers import serve


class Caller:
    """Calls an app as a server would."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, method: str, path: str, body: bytes = b"", **environ: Any) -> Any:
        given = environ_of(method, path, body, **environ)
        started: list[Any] = []
        parts = self.app(
            given, lambda status, headers, exc_info=None: started.append((status, headers))
        )
        try:
            sent = b"".join(parts)
        finally:
            getattr(parts, "close", lambda: None)()
        ((status, headers),) = started
        return status, dict(headers), sent


def environ_of(method: str, path: str, body: bytes = b"", **environ: Any) -> dict[str, Any]:
    given = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": "",
        "SERVER_NAME": "test",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        **environ,
    }
    return {key: value for key, value in given.items() if value is not None}


@pytest.fixture(scope="module")
def models_app(iris: Any) -> Any:
    with infersdk.Predictors({"iris": iris.path, "größe": iris.path}) as predictors:
        yield WSGIApp(predictors)


def test_it_answers_as_the_model_does(models_app: Any, iris: Any) -> None:
    rows = iris.X.iloc[::50].to_dict("records")
    body = json.dumps(rows).encode()
    status, headers, sent = Caller(validator(models_app))("POST", "/iris/predict_proba", body)
    assert status == "200 OK"
    assert headers == {"content-type": "application/json", "content-length": str(len(sent))}
    np.testing.assert_allclose(
        json.loads(sent)["answers"],
        iris.model.predict_proba(iris.X.iloc[::50]),
        rtol=1e-4,
        atol=1e-6,
    )


def test_it_keeps_to_the_protocol(models_app: Any) -> None:
    call = Caller(validator(models_app))
    assert call("GET", "/")[0] == "200 OK"
    assert call("POST", "/iris", b"[")[0] == "400 Bad Request"
    assert call("POST", "/iris", b"{}")[0].startswith("422 ")
    assert call("PUT", "/iris")[1]["allow"] == "POST, GET, HEAD"
    status, headers, sent = call("HEAD", "/")
    assert (status, sent) == ("200 OK", b"")
    assert int(headers["content-length"]) > 0


def test_paths_are_utf8(models_app: Any) -> None:
    assert Caller(models_app)("GET", "/größe")[0] == "200 OK"
    for path in ("/\udcff".encode("utf-8", "surrogateescape").decode("latin-1"), "/模"):
        status, _, _ = Caller(models_app)("GET", "/", PATH_INFO=path)
        assert status == "404 Not Found"


def test_below_other_apps(models_app: Any, iris: Any) -> None:
    dispatcher = pytest.importorskip("werkzeug.middleware.dispatcher")

    def not_found(environ: Any, start_response: Any) -> list[bytes]:
        start_response("404 Not Found", [])
        return []

    call = Caller(dispatcher.DispatcherMiddleware(not_found, {"/api/models": models_app}))
    assert json.loads(call("GET", "/api/models/")[2]) == {"models": ["iris", "größe"]}
    assert call("GET", "/elsewhere")[0] == "404 Not Found"


def test_it_takes_models_predictors_or_a_service(iris: Any) -> None:
    settings = Settings(max_rows=1)
    body = json.dumps(iris.X.iloc[:2].to_dict("records")).encode()
    with infersdk.Predictors({"iris": iris.path}) as predictors:
        for app in (
            WSGIApp(predictors, settings),
            WSGIApp(Service(predictors, settings)),
        ):
            assert Caller(app)("POST", "/iris", body)[0].startswith("413 ")
        with pytest.raises(TypeError, match="no settings with a Service"):
            WSGIApp(Service(predictors), settings)
    made = WSGIApp({"iris": iris.path}, settings)
    assert Caller(made)("POST", "/iris", body)[0].startswith("413 ")
    made.service.predictors.close()


# -- bodies --------------------------------------------------------------------------------------


class Dribble(io.RawIOBase):
    """Gives what has arrived, not what was asked for."""

    def __init__(self, body: bytes) -> None:
        self.left = body
        self.asked: list[int] = []

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "an unlimited read could wait for ever"
        self.asked.append(size)
        part, self.left = self.left[: min(size, 3)], self.left[min(size, 3) :]
        return part


class Broken(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        raise ConnectionResetError("the client has gone")


def test_a_body_that_comes_in_parts() -> None:
    environ = environ_of("POST", "/", CONTENT_LENGTH="10")
    environ["wsgi.input"] = Dribble(b"0123456789and the next request")
    assert read_body(environ, 10) == b"0123456789"
    assert environ["wsgi.input"].read() == b"0123456789"  # again, for whoever wants it too


@pytest.mark.parametrize("stream", [Dribble(b"short"), Broken()])
def test_a_body_that_ends_early_is_not_taken_for_all_of_it(stream: Any) -> None:
    environ = environ_of("POST", "/", CONTENT_LENGTH="10")
    environ["wsgi.input"] = stream
    with pytest.raises(ProblemError, match="send it again") as caught:
        read_body(environ, 10)
    assert caught.value.status == 400


def test_never_more_is_read_than_the_limit_and_one() -> None:
    chunked: dict[str, Any] = {
        "CONTENT_LENGTH": None,
        "HTTP_TRANSFER_ENCODING": "chunked",
        "wsgi.input_terminated": True,
    }
    environ = environ_of("POST", "/", **chunked)
    environ["wsgi.input"] = Dribble(b"x" * 10)
    assert read_body(environ, 10) == b"x" * 10
    stream = environ["wsgi.input"] = Dribble(b"x" * 10**6)
    with pytest.raises(ProblemError, match="up to 10 bytes, got more") as caught:
        read_body(environ, 10)
    assert caught.value.status == 413
    assert len(stream.left) == 10**6 - 11
    stream = environ["wsgi.input"] = Dribble(b"x" * 100)
    environ["CONTENT_LENGTH"] = "100"
    del environ["HTTP_TRANSFER_ENCODING"]
    with pytest.raises(ProblemError, match="got 100"):
        read_body(environ, 10)
    assert stream.asked == []


@pytest.mark.parametrize("length", [None, "", "-1", "abc", "0"])
def test_without_a_length_there_is_no_body(length: str | None) -> None:
    environ = environ_of("POST", "/", CONTENT_LENGTH=length)
    environ["wsgi.input"] = Dribble(b"the next request")
    assert read_body(environ, 10) == b""
    assert environ["wsgi.input"].read() == b""


def test_a_large_body_is_refused_unread(models_app: Any) -> None:
    for path, headers, status in (
        ("/iris", {"CONTENT_LENGTH": str(2**40)}, "413"),
        ("/iris", {"CONTENT_LENGTH": "9" * 5000}, "413"),
        ("/rose", {"CONTENT_LENGTH": "100000"}, "404"),
        ("/iris", {"CONTENT_LENGTH": "100000", "CONTENT_TYPE": "text/csv"}, "415"),
        ("/iris/predict/x", {"CONTENT_LENGTH": "100000"}, "404"),
    ):
        stream = Dribble(b"")
        environ: dict[str, Any] = {"wsgi.input": stream, **headers}
        answered = Caller(models_app)("POST", path, **environ)
        assert answered[0].startswith(status)
        assert stream.asked == []


# -- clients that leave --------------------------------------------------------------------------


def test_a_client_that_is_there_is_answered(models_app: Any, iris: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        body = json.dumps(iris.X.iloc[0].to_dict()).encode()
        status, _, _ = Caller(models_app)("POST", "/iris", body, **{"gunicorn.socket": ours})
    assert status == "200 OK"


def test_an_abandoned_call_is_not_logged_as_a_fault(
    models_app: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def give_up(*arguments: Any, **named: Any) -> Any:
        raise infersdk.AbandonedError("nobody waits", model="iris")

    monkeypatch.setattr(models_app.service, "_read", give_up)
    reply = respond(models_app.service, environ_of("POST", "/iris", b"[]"), "/iris")
    assert reply.status == 499
    assert caplog.records == []


# -- under servers -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("server", ["gunicorn preload gthread", "gunicorn gevent", "granian wsgi"])
def test_a_server_needs_no_framework(server: str, iris: Any, tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text(
        f"from infersdk.web.wsgi import WSGIApp\napp = WSGIApp({{'iris': {str(iris.path)!r}}})\n"
    )
    rows = iris.X.iloc[::30].to_dict("records")
    body = json.dumps(rows).encode()
    with serve(server, "bare:app", tmp_path) as running:
        ready = running.request("GET", "/health/ready")
        assert (ready[0], json.loads(ready[1])["state"]) == (200, "open")
        status, sent = running.request(
            "POST", "/iris/predict_proba", body, {"content-type": "application/json"}
        )
        assert status == 200
        expected = iris.model.predict_proba(iris.X.iloc[::30])
        np.testing.assert_allclose(json.loads(sent)["answers"], expected, rtol=1e-4, atol=1e-6)
        assert running.request("HEAD", "/") == (200, b"")
        assert running.request("GET", "/nothing")[0] == 404
        assert running.request("POST", "/iris", body, {"content-type": "text/csv"})[0] == 415
