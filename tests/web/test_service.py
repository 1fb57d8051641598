"""The one way of a request: what is answered, and what is refused and how."""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import infersdk
from infersdk.errors import ClosedError, DeadlineError, InputError, OverloadedError, SessionError
from infersdk.predictors import Predictors
from infersdk.web.json_rows import encode
from infersdk.web.problems import reply_to
from infersdk.web.request import Request
from infersdk.web.service import Reply, Service
from infersdk.web.settings import Settings

from .conftest import Trained

pytest.importorskip("sklearn", reason="the models are scikit-learn's")

Header = Callable[[str], str | None]
JSON: Header = {"content-type": "application/json"}.get
ASKED = Request("POST", "/", JSON)


@pytest.fixture(scope="module")
def service(iris: Trained, mixed: Trained) -> Iterator[Service]:
    predictors = Predictors({"iris": iris.path, "mixed": mixed.path})
    yield Service(predictors, Settings(max_rows=50, max_body_bytes=20_000))
    predictors.close()


def ask(
    service: Service,
    name: str,
    method: str | None,
    rows: Any,
    header: Header = JSON,
) -> Reply:
    """Ask both ways, and insist that they agree."""
    body = rows if isinstance(rows, bytes) else json.dumps(rows).encode()
    request = Request("POST", "/", header)
    reply = service.answer(name, method, request, body)
    awaited = asyncio.run(service.aanswer(name, method, request, body))
    assert (reply.status, reply.body) == (awaited.status, awaited.body) or reply.status == 500
    return reply


def content(reply: Reply) -> Any:
    return json.loads(reply.body)


def headers(reply: Reply) -> dict[str, str]:
    return dict(reply.headers)


# -- answers --------------------------------------------------------------------------------------


def test_one_row_and_many_answer_as_the_model_does(service: Service, iris: Trained) -> None:
    rows = iris.X.iloc[:3].to_dict("records")
    reply = ask(service, "iris", "predict_proba", rows)
    assert reply.status == 200
    assert headers(reply)["content-type"] == "application/json"
    np.testing.assert_allclose(
        content(reply)["answers"], iris.model.predict_proba(iris.X.iloc[:3]), rtol=1e-6
    )
    assert content(ask(service, "iris", None, rows[0])) == {"answers": [0]}
    assert content(ask(service, "iris", "predict", [list(row.values()) for row in rows])) == {
        "answers": [0, 0, 0]
    }
    assert content(ask(service, "iris", None, [])) == {"answers": []}


def test_text_whole_and_missing_values(service: Service, mixed: Trained) -> None:
    rows = json.loads(mixed.X.iloc[:20].to_json(orient="records"))
    assert any(row["income"] is None for row in rows)
    answers = content(ask(service, "mixed", "predict", rows))["answers"]
    assert answers == mixed.model.predict(mixed.X.iloc[:20]).tolist()


@given(
    row=st.fixed_dictionaries(
        {
            "age": st.integers(-(10**6), 10**6),
            "city": st.sampled_from(["Oslo", "Rome", "Lima"]),
            "active": st.booleans(),
            "income": st.none() | st.floats(-1e6, 1e6),
        }
    )
)
def test_any_row_answers_as_the_model_does(
    service: Service, mixed: Trained, row: dict[str, Any]
) -> None:
    import pandas as pd

    frame = pd.DataFrame([row]).astype({"income": "float64"})
    expected = mixed.model.predict_proba(frame)
    reply = service.answer("mixed", "predict_proba", ASKED, json.dumps(row).encode())
    np.testing.assert_allclose(content(reply)["answers"], expected, rtol=1e-6)


def test_what_json_has_not_becomes_null() -> None:
    assert (
        encode({"answers": np.array([1.5, math.nan, math.inf])}) == b'{"answers":[1.5,null,null]}'
    )


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (np.array(["a", "b"], dtype=object), ["a", "b"]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.arange(6.0).reshape(2, 3).T, [[0, 3], [1, 4], [2, 5]]),
        (np.arange(3, dtype=">i8"), [0, 1, 2]),
        (np.array([True, False]), [True, False]),
        ({"a": np.float32([0.5]), 3: (1, 2)}, {"a": [0.5], "3": [1, 2]}),
        (np.int64(3), 3),
        (np.array([1.5, None], dtype=object), [1.5, None]),
        (np.array(2.5), 2.5),
        (b"text", "text"),
    ],
)
def test_answers_of_every_kind_become_json(answer: Any, expected: Any) -> None:
    assert json.loads(encode(answer)) == expected


def test_sparse_arrays_frames_and_tensors_become_json() -> None:
    import pandas as pd
    from scipy import sparse

    assert json.loads(encode(sparse.csr_matrix([[0, 1], [2, 0]]))) == [[0, 1], [2, 0]]
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert json.loads(encode(frame)) == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    assert json.loads(encode(frame["a"])) == [1, 2]


# -- refusals -------------------------------------------------------------------------------------


def test_every_field_that_does_not_fit_is_listed(service: Service) -> None:
    rows = [
        {"age": 30, "city": "Oslo", "active": True, "income": None},
        {"age": "30", "city": 7, "active": 1.5, "income": 2.0},
        {"age": 30, "city": "Oslo", "income": 2.0, "cty": "x"},
        [1, 2],
        {"age": 2.5, "city": "Oslo", "active": True, "income": []},
    ]
    reply = ask(service, "mixed", None, rows)
    assert reply.status == 422
    assert headers(reply)["content-type"] == "application/problem+json"
    problem = content(reply)
    assert problem["status"] == 422
    assert problem["type"] == "urn:infersdk:problem:rows-do-not-fit"
    found = [(error.get("row"), error.get("field")) for error in problem["errors"]]
    assert found == [
        (1, "age"),
        (1, "city"),
        (1, "active"),
        (2, "cty"),
        (2, "active"),
        (3, None),
        (4, "age"),
        (4, "income"),
    ]
    pointers = [error["pointer"] for error in problem["errors"]]
    assert pointers[0] == "#/1/age"
    assert pointers[5] == "#/3"
    by_field = {(error.get("row"), error.get("field")): error for error in problem["errors"]}
    assert by_field[1, "city"]["expected"] == "a str"
    assert by_field[2, "active"]["given"] == "no such field"
    assert "Did you mean" not in by_field[2, "cty"]["detail"]


def test_of_a_single_row_the_pointer_has_no_row(service: Service, iris: Trained) -> None:
    row = {**iris.X.iloc[0].to_dict(), "sepal length (cm)": None}
    row["sepal widht (cm)"] = row.pop("sepal width (cm)")
    errors = content(ask(service, "iris", None, row))["errors"]
    assert [error["pointer"] for error in errors] == [
        "#/sepal widht (cm)",
        "#/sepal length (cm)",
        "#/sepal width (cm)",
    ]
    assert "Did you mean `sepal width (cm)`" in errors[0]["detail"]


def test_errors_are_listed_up_to_a_limit(service: Service) -> None:
    problem = content(ask(service, "mixed", None, [{} for _ in range(50)]))
    assert len(problem["errors"]) == 100
    assert "(and 99 more)" in problem["detail"]


@pytest.mark.parametrize(
    "rows", [3, None, "text", [1, 2, 3], [[[1]]], {"age": 1}, [None], [[], {}]]
)
def test_what_is_no_row_is_refused(service: Service, rows: Any) -> None:
    reply = ask(service, "mixed", None, rows)
    assert reply.status == 422
    assert content(reply)["errors"]


def test_a_body_that_is_no_json(service: Service) -> None:
    reply = ask(service, "iris", None, b'{"a": 1,\n "b": }')
    assert reply.status == 400
    assert "line 2, column 7" in content(reply)["detail"]
    assert ask(service, "iris", None, b"").status == 400
    assert ask(service, "iris", None, b"\xff\xfe").status == 400
    assert ask(service, "iris", None, b"[" * 10_000).status == 400
    assert ask(service, "iris", None, b'{"a": NaN}').status == 400


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (None, 422),
        ("application/json; charset=utf-8", 422),
        ("Application/JSON", 422),
        ("application/vnd.shop+json", 422),
        ("text/csv", 415),
        ("application/x-www-form-urlencoded", 415),
        ("x" * 10_000, 415),
    ],
)
def test_content_types(service: Service, kind: str | None, status: int) -> None:
    reply = ask(service, "iris", None, {}, {"content-type": kind}.get)
    assert reply.status == status
    if status == 415:
        assert headers(reply)["accept"] == "application/json"
        assert len(reply.body) < 1000


def test_limits(service: Service, iris: Trained) -> None:
    row = list(iris.X.iloc[0])
    assert ask(service, "iris", None, [row] * 50).status == 200
    reply = ask(service, "iris", None, [row] * 51)
    assert reply.status == 413
    assert content(reply)["max_rows"] == 50
    reply = ask(service, "iris", None, b" " * 20_001)
    assert reply.status == 413
    assert content(reply)["max_body_bytes"] == 20_000


def test_models_and_methods_that_are_not_there(service: Service) -> None:
    reply = ask(service, "churn", None, {})
    assert reply.status == 404
    assert content(reply)["type"] == "urn:infersdk:problem:unknown-model"
    reply = ask(service, "iris", "transform", {})
    assert reply.status == 404
    assert "predict_proba" in content(reply)["detail"]
    assert ask(service, "iris", "close", {}).status == 404
    assert ask(service, "iris", "_conversion", {}).status == 404


def test_only_the_methods_that_were_allowed(iris: Trained) -> None:
    predictors = Predictors({"iris": {"source": iris.path, "methods": ["predict_proba"]}})
    service = Service(predictors)
    row = list(iris.X.iloc[0])
    assert len(content(ask(service, "iris", None, row))["answers"][0]) == 3
    assert ask(service, "iris", "predict", row).status == 404
    predictors.close()


@pytest.mark.parametrize(
    ("error", "status", "kind", "more"),
    [
        (OverloadedError("full", retry_after_s=2.2, model="m"), 503, "overloaded", "3"),
        (OverloadedError("full"), 503, "overloaded", "1"),
        (DeadlineError("late", timeout_s=0.5), 504, "deadline-exceeded", None),
        (ClosedError("closed"), 503, "closed", "1"),
    ],
)
def test_errors_of_the_server_have_a_status_of_their_own(
    error: Exception, status: int, kind: str, more: str | None
) -> None:
    reply = reply_to(error)
    assert reply.status == status
    assert content(reply)["type"] == f"urn:infersdk:problem:{kind}"
    assert headers(reply).get("retry-after") == more


@pytest.mark.parametrize("error", [SessionError("/srv/secret failed"), RuntimeError("secret")])
def test_the_inside_goes_to_the_log_and_not_to_the_client(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, logger="infersdk.web"):
        reply = reply_to(error)
    problem = content(reply)
    assert reply.status == 500
    assert b"secret" not in reply.body
    assert problem["instance"].startswith("urn:uuid:")
    (record,) = caplog.records
    assert problem["instance"] in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_a_model_that_cannot_be_opened_is_the_servers_fault(tmp_path: Path) -> None:
    service = Service(Predictors({"churn": tmp_path / "secret.onnx"}))
    reply = ask(service, "churn", None, {})
    assert reply.status == 500
    assert b"secret" not in reply.body
    assert service.handle(Request("GET", "/health/live", JSON)).status == 200
    for page in ("ready", "startup"):
        reply = service.handle(Request("GET", f"/health/{page}", JSON))
        assert reply.status == 503
        assert content(reply)["models"]["churn"] == {"state": "failed", "error": "ArtifactError"}
    service.predictors.close()


def test_a_json_pointer_is_escaped() -> None:
    error = InputError("no", field="a/b~c", row=2)
    assert content(reply_to(error))["errors"][0]["pointer"] == "#/2/a~1b~0c"


# -- everything that is mounted -------------------------------------------------------------------


def handle(service: Service, http_method: str, path: str, body: bytes = b"") -> Reply:
    request = Request(http_method, path, JSON)
    reply = service.handle(request, body)
    awaited = asyncio.run(service.ahandle(request, body))
    assert (reply.status, reply.body) == (awaited.status, awaited.body)
    return reply


def test_the_routes(service: Service, iris: Trained) -> None:
    row = json.dumps(list(iris.X.iloc[0])).encode()
    assert content(handle(service, "POST", "/iris", row)) == {"answers": [0]}
    assert content(handle(service, "POST", "/iris/predict", row)) == {"answers": [0]}
    assert content(handle(service, "POST", "/iris/predict/", row)) == {"answers": [0]}
    assert content(handle(service, "GET", "/")) == {"models": ["iris", "mixed"]}
    described = content(handle(service, "GET", "/mixed"))
    assert described["plan"]["kind"] == "onnx"
    assert [field["name"] for field in described["fields"]] == ["age", "city", "active", "income"]
    assert described["fields"][3]["may_be_missing"] is True
    assert content(handle(service, "GET", "/openapi.json"))["openapi"] == "3.1.0"


@pytest.mark.parametrize(
    ("http_method", "path", "status", "allow"),
    [
        ("GET", "/iris/predict", 405, "POST"),
        ("DELETE", "/iris", 405, "POST, GET, HEAD"),
        ("POST", "/", 405, "GET, HEAD"),
        ("POST", "/health/live", 405, "GET, HEAD"),
        ("POST", "/openapi.json", 405, "GET, HEAD"),
        ("GET", "/nothing", 404, None),
        ("POST", "/nothing/predict", 404, None),
        ("GET", "/iris/predict/more", 404, None),
        ("GET", "/health", 404, None),
        ("GET", "/health/other", 404, None),
        ("GET", "/openapi.json/x", 404, None),
        ("GET", "/../../etc/passwd", 404, None),
    ],
)
def test_what_no_route_takes(
    service: Service, http_method: str, path: str, status: int, allow: str | None
) -> None:
    reply = handle(service, http_method, path)
    assert reply.status == status
    assert headers(reply).get("allow") == allow
    early = service.refuse_early(Request(http_method, path, JSON))
    assert early == reply


def test_what_is_refused_before_the_body_is_read(service: Service) -> None:
    large: Header = {"content-type": "application/json", "content-length": "20001"}.get
    early = service.refuse_early(Request("POST", "/iris", large))
    assert early is not None
    assert early.status == 413
    early = service.refuse_early(Request("POST", "/iris", {"content-type": "text/csv"}.get))
    assert early is not None
    assert early.status == 415
    for length in ("20000", "abc", "-1", None):
        header: Header = {"content-type": "application/json", "content-length": length}.get
        assert service.refuse_early(Request("POST", "/iris", header)) is None


def test_health_follows_the_life_of_the_models(iris: Trained) -> None:
    service = Service(Predictors({"iris": iris.path}))
    assert handle(service, "GET", "/health/live").status == 200
    assert service.predictors.state == "new"
    reply = handle(service, "GET", "/health/ready")  # asking opens them
    assert reply.status == 200
    assert content(reply) == {"state": "open", "models": {"iris": {"state": "open"}}}
    assert headers(reply)["cache-control"] == "no-store"
    assert handle(service, "GET", "/health/startup").status == 200
    service.predictors.close()
    assert handle(service, "GET", "/health/live").status == 200
    assert handle(service, "GET", "/health/ready").status == 503
    assert ask(service, "iris", None, {}).status == 503


def test_a_model_with_the_name_of_a_route(iris: Trained) -> None:
    with pytest.raises(ValueError, match="cannot be called `health`"):
        Service(Predictors({"health": iris.path}))


# -- deadlines and cancellation -------------------------------------------------------------------


def test_the_deadline_reaches_the_model_and_its_errors_the_client(iris: Trained) -> None:
    """A model whose queue is never short of callers."""
    with infersdk.load(iris.path) as real:
        timeouts = []

        class Busy:
            signature = real.signature

            def predict(self, rows: Any, timeout_s: float | None) -> Any:
                timeouts.append(timeout_s)
                raise DeadlineError("too late", timeout_s=timeout_s or 0.0)

            async def apredict(self, rows: Any, *, method: str, timeout_s: float | None) -> Any:
                timeouts.append(timeout_s)
                raise OverloadedError("too many", retry_after_s=7)

        predictors = Predictors({"iris": iris.path})
        service = Service(predictors, Settings(timeout_s=0.05))
        with predictors.override("iris", Busy()):  # type: ignore[arg-type]
            assert service.answer("iris", "predict", ASKED, b"[]").status == 504
            reply = asyncio.run(service.aanswer("iris", "predict", ASKED, b"[]"))
        assert (reply.status, headers(reply)["retry-after"]) == (503, "7")
        assert timeouts == [0.05, 0.05]


def test_cancelling_the_awaited_answer_passes_on(service: Service) -> None:
    async def run() -> None:
        coroutine = service.aanswer("iris", None, ASKED, b"[[1,2,3,4]]")
        task = asyncio.ensure_future(coroutine)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
