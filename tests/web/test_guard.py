"""Who may ask: tokens, an app's own function, and admin pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from infersdk.predictors import Predictors
from infersdk.web.guard import Guard, is_loopback
from infersdk.web.problems import ProblemError
from infersdk.web.request import Request
from infersdk.web.service import Service
from infersdk.web.settings import Settings
from tests.web.conftest import Trained


def asked(
    headers: dict[str, str] | None = None,
    *,
    client: str | None = "203.0.113.7",
    method: str = "GET",
    path: str = "/",
) -> Request:
    return Request(method, path, (headers or {}).get, client)


def refusal(guard: Guard, request: Request, access: Any = "guarded") -> int | None:
    try:
        guard.check(request, access)
    except ProblemError as problem:
        return problem.status
    return None


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("Bearer secre", 401),
        ("Bearer secret2", 401),
        ("Basic secret", 401),
        ("secret", 401),
        ("Bearer \udce9", 401),
        ("Bearer secret", None),
        ("bearer secret", None),
        ("Bearer  older ", None),
    ],
)
def test_a_token(given: str | None, status: int | None) -> None:
    guard = Guard(["secret", "older"])
    request = asked({} if given is None else {"authorization": given})
    assert refusal(guard, request) == status
    assert refusal(guard, request, "public") is None


def test_the_challenge_says_what_is_missing() -> None:
    with pytest.raises(ProblemError) as none:
        Guard(["secret"]).check(asked(), "guarded")
    assert none.value.headers == (("www-authenticate", "Bearer"),)
    with pytest.raises(ProblemError) as wrong:
        Guard(["secret"]).check(asked({"authorization": "Bearer guess"}), "guarded")
    assert wrong.value.headers == (("www-authenticate", 'Bearer error="invalid_token"'),)
    assert "secret" not in str(wrong.value)
    assert "guess" not in str(wrong.value)


def test_a_function_of_the_app() -> None:
    guard = Guard([], lambda request: request.header("x-team") == "risk")
    assert refusal(guard, asked({"x-team": "risk"})) is None
    assert refusal(guard, asked()) == 403

    def own(request: Request) -> bool:
        raise ProblemError(402, "unpaid", "Not paid", "The month is not paid")

    assert refusal(Guard([], own), asked()) == 402


@pytest.mark.parametrize(
    ("client", "headers", "status"),
    [
        ("127.0.0.1", {}, None),
        ("127.0.0.1:5000", {}, None),
        ("127.8.8.8", {}, None),
        ("::1", {}, None),
        ("[::1]:80", {}, None),
        ("::ffff:127.0.0.1", {}, None),
        ("", {}, None),
        (None, {}, 403),
        ("203.0.113.7", {}, 403),
        ("::ffff:203.0.113.7", {}, 403),
        ("localhost.example.com", {}, 403),
        ("127.0.0.1", {"x-forwarded-for": "203.0.113.7"}, 403),
        ("127.0.0.1", {"forwarded": "for=203.0.113.7"}, 403),
        ("127.0.0.1", {"via": "1.1 proxy"}, 403),
    ],
)
def test_admin_pages_without_a_guard_are_for_this_machine(
    client: str | None, headers: dict[str, str], status: int | None
) -> None:
    assert refusal(Guard([]), asked(headers, client=client), "admin") == status
    # With one, the guard decides.
    assert (
        refusal(
            Guard(["s"]), asked({"authorization": "Bearer s", **headers}, client=client), "admin"
        )
        is None
    )


def test_loopback_addresses() -> None:
    assert is_loopback("localhost")
    assert not is_loopback("10.0.0.1")
    assert not is_loopback("fe80::1%eth0")


@pytest.fixture(scope="module")
def predictors(iris: Trained) -> Iterator[Predictors]:
    predictors = Predictors({"iris": iris.path})
    yield predictors
    predictors.close()


def test_health_is_for_everybody_and_the_rest_is_guarded_before_the_body(
    predictors: Predictors,
) -> None:
    service = Service(predictors, Settings(token="secret", metrics=True, max_body_bytes=10))
    for page in ("live", "ready", "startup"):
        assert service.handle(asked(path=f"/health/{page}")).status == 200
    for path in ("/", "/iris", "/openapi.json", "/metrics"):
        assert service.handle(asked(path=path)).status == 401, path
    large = asked({"content-length": "11"}, method="POST", path="/iris")
    early = service.refuse_early(large)
    assert early is not None
    assert early.status == 401
    named = asked(
        {"content-length": "11", "authorization": "Bearer secret"}, method="POST", path="/iris"
    )
    early = service.refuse_early(named)
    assert early is not None
    assert early.status == 413
    document = json.loads(
        service.handle(asked({"authorization": "Bearer secret"}, path="/openapi.json")).body
    )
    assert document["security"] == [{"token": []}]
    assert document["paths"]["/health/live"]["get"]["security"] == []
    assert "secret" not in repr(service.settings)


def test_the_apps_own_views_are_guarded_by_the_app(predictors: Predictors) -> None:
    service = Service(predictors, Settings(token="secret"))
    request = asked(method="POST", path="/anything")
    assert service.answer("iris", None, request, b"[5.1, 3.5, 1.4, 0.2]").status == 200
