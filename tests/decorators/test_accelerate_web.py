"""``@accelerate`` on the views of Flask, Django and FastAPI: one line, and the same answers."""

from __future__ import annotations

import asyncio
import json
import sys
from types import SimpleNamespace
from typing import Annotated

import pytest

from infersdk.decorators import accelerate

NOW = {"shadow_calls": 3, "background": False}

model = None
ml_models: dict[str, object] = {}


@pytest.fixture(scope="module")
def rows():
    from sklearn.datasets import load_iris

    return load_iris(as_frame=True).data.to_dict("records")[::7]


@pytest.fixture(scope="module", autouse=True)
def trained():
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    global model
    X, y = load_iris(return_X_y=True, as_frame=True)
    model = make_pipeline(StandardScaler(), RandomForestClassifier(8, random_state=0)).fit(X, y)
    ml_models["iris"] = model
    yield
    model = None
    ml_models.clear()


def expected(row):
    import pandas as pd

    return float(model.predict_proba(pd.DataFrame([row]))[0, 1])


def sent(row):
    """A row as JSON, its fields in the model's order: Flask's own client sorts them."""
    return {"data": json.dumps(row), "content_type": "application/json"}


def check(function, ask, rows, name="model"):
    """Ask often enough for the Predictor to answer, and compare each answer."""
    for row in rows:
        assert ask(row) == pytest.approx(expected(row), abs=1e-6)
    (report,) = function.report().models
    assert (report.name, report.state, report.mismatches) == (name, "converted", 0)
    assert list(function.predictors) == [name]


def test_a_flask_view(rows):
    import pandas as pd
    from flask import Flask, request

    app = Flask(__name__)

    @app.post("/below")
    @accelerate(**NOW)
    def score():
        row = pd.DataFrame([request.get_json()])
        return {"p": float(model.predict_proba(row)[0, 1])}

    @accelerate(**NOW)
    @app.post("/above")
    def score_too():
        row = pd.DataFrame([request.get_json()])
        return {"p": float(model.predict_proba(row)[0, 1])}

    assert set(app.view_functions) >= {"score", "score_too"}
    client = app.test_client()
    for path, function in [("/below", score), ("/above", score_too)]:
        check(function, lambda row, at=path: client.post(at, **sent(row)).json["p"], rows)
        assert client.post(path, data="{").status_code == 415


def test_a_model_on_the_flask_app(rows):
    import pandas as pd
    from flask import Flask, current_app, request

    app = Flask(__name__)
    app.config["MODEL"] = model

    @app.post("/")
    @accelerate(**NOW)
    async def score():
        row = pd.DataFrame([request.get_json()])
        return {"p": float(current_app.config["MODEL"].predict_proba(row)[0, 1])}

    try:
        import asgiref  # noqa: F401
    except ImportError:
        pytest.skip("Flask's async views need asgiref")
    client = app.test_client()
    check(
        score,
        lambda row: client.post("/", **sent(row)).json["p"],
        rows,
        "current_app.config['MODEL']",
    )


def count(monkeypatch):
    """A list that grows with each call of the model itself."""
    from sklearn.pipeline import Pipeline

    asked = []
    original = Pipeline.predict_proba

    def predict_proba(self, X):
        asked.append(X)
        return original(self, X)

    monkeypatch.setattr(Pipeline, "predict_proba", predict_proba)
    return asked


@pytest.fixture(scope="module")
def factory():
    from tests.web.django.project import set_up

    set_up()
    from django.test import RequestFactory

    return RequestFactory()


def body_of(response):
    return json.loads(response.content)["p"]


def test_django_views(rows, factory, monkeypatch):
    import pandas as pd
    from django.http import JsonResponse
    from django.utils.decorators import method_decorator
    from django.views import View
    from django.views.decorators.csrf import csrf_exempt
    from django.views.decorators.http import require_POST

    @csrf_exempt
    @require_POST
    @accelerate(**NOW)
    def innermost(request):
        row = pd.DataFrame([json.loads(request.body)])
        return JsonResponse({"p": float(model.predict_proba(row)[0, 1])})

    @accelerate(**NOW)
    @csrf_exempt
    @require_POST
    def outermost(request):
        row = pd.DataFrame([json.loads(request.body)])
        return JsonResponse({"p": float(model.predict_proba(row)[0, 1])})

    class Score(View):
        @accelerate(**NOW)
        def post(self, request):
            row = pd.DataFrame([json.loads(request.body)])
            return JsonResponse({"p": float(model.predict_proba(row)[0, 1])})

    def post(view, row):
        request = factory.post("/", json.dumps(row), content_type="application/json")
        return body_of(view(request))

    for view in (innermost, outermost):
        assert view.csrf_exempt
        assert view.__name__ in ("innermost", "outermost")
        assert view(factory.get("/")).status_code == 405
        check(view, lambda row, view=view: post(view, row), rows)
    as_view = Score.as_view()
    check(Score.post, lambda row: post(as_view, row), rows)

    @method_decorator(accelerate(**NOW), name="post")
    class Decorated(View):
        def post(self, request):
            row = pd.DataFrame([json.loads(request.body)])
            return JsonResponse({"p": float(model.predict_proba(row)[0, 1])})

    @method_decorator([csrf_exempt, accelerate(**NOW)], name="dispatch")
    class Dispatched(View):
        def post(self, request):
            row = pd.DataFrame([json.loads(request.body)])
            return JsonResponse({"p": float(model.predict_proba(row)[0, 1])})

    asked = count(monkeypatch)
    for kind in (Decorated, Dispatched):
        as_view = kind.as_view()
        for row in rows:
            assert post(as_view, row) == pytest.approx(expected(row), abs=1e-6)
        asked.clear()
        post(as_view, rows[0])
        assert not asked  # the Predictor answered


def test_an_async_django_view(rows, factory):
    import pandas as pd
    from asgiref.sync import iscoroutinefunction, sync_to_async
    from django.http import JsonResponse

    @accelerate(**NOW)
    async def view(request):
        row = pd.DataFrame([json.loads(request.body)])
        proba = await sync_to_async(model.predict_proba)(row)
        return JsonResponse({"p": float(proba[0, 1])})

    assert iscoroutinefunction(view)

    def post(row):
        request = factory.post("/", json.dumps(row), content_type="application/json")
        return body_of(asyncio.run(view(request)))

    check(view, post, rows)


def test_fastapi_endpoints(rows):
    import pandas as pd
    from fastapi import Depends, FastAPI, Request
    from fastapi.testclient import TestClient
    from pydantic import create_model

    fields = {f"x{i}": (float, ...) for i in range(len(rows[0]))}
    Row = create_model("Row", **fields)
    columns = list(rows[0])
    app = FastAPI()
    app.state.model = model

    def frame(row):
        return pd.DataFrame([dict(zip(columns, row.model_dump().values(), strict=True))])

    def get_model(request: Request):
        return request.app.state.model

    def plain(row: Row):
        return {"p": float(ml_models["iris"].predict_proba(frame(row))[0, 1])}

    async def state(row: Row, request: Request, times: int = 1):
        return {"p": times * float(request.app.state.model.predict_proba(frame(row))[0, 1])}

    def injected(row: Row, chosen: Annotated[object, Depends(get_model)]):
        return {"p": float(chosen.predict_proba(frame(row))[0, 1])}

    for function in (plain, state, injected):
        # What `from __future__ import annotations` makes of names inside a function.
        function.__annotations__ = {
            key: {"Row": Row, "Request": Request}.get(value, value)
            for key, value in function.__annotations__.items()
        }
    get_model.__annotations__["request"] = Request
    injected.__annotations__["chosen"] = Annotated[object, Depends(get_model)]
    views = {}
    for function in (plain, state, injected):
        views[function.__name__] = app.post(f"/{function.__name__}")(accelerate(**NOW)(function))

    with TestClient(app) as client:
        for name, expression in [
            ("plain", "ml_models['iris']"),
            ("state", "request.app.state.model"),
            ("injected", "chosen"),
        ]:

            def ask(row, name=name):
                named = dict(zip(fields, row.values(), strict=True))
                response = client.post(f"/{name}", json=named)
                assert response.status_code == 200, response.text
                return response.json()["p"]

            check(views[name], ask, rows, expression)
            assert client.post(f"/{name}", json={"x0": "wide"}).status_code == 422
        document = client.get("/openapi.json").json()
        assert [p["name"] for p in document["paths"]["/state"]["post"]["parameters"]] == ["times"]


def test_a_django_app_config(rows, monkeypatch):
    """A model kept as an attribute of something of another module."""
    import pandas as pd

    apps = SimpleNamespace(get_app_config=lambda name: SimpleNamespace(model=model))
    monkeypatch.setattr(sys.modules[__name__], "apps", apps, raising=False)

    @accelerate(**NOW)
    def score(row):
        config = apps.get_app_config("iris")
        return float(config.model.predict_proba(pd.DataFrame([row]))[0, 1])

    check(score, score, rows, "config.model")


def test_the_example():
    import time

    from examples import flask_accelerate as example

    rows = example.X[example.COLUMNS].to_dict("records")
    expected = example.model.predict_proba(example.X[example.COLUMNS])
    client = example.app.test_client()

    def ask(i):
        answer = client.post("/wine", json=rows[i]).json["probabilities"]
        assert answer == pytest.approx(expected[i].tolist(), abs=1e-6)

    until = time.monotonic() + 60
    while example.wine.report().models == () or "conver" not in client.get("/report").text:
        ask(0)
    while example.wine.report().models[0].state == "converting":
        assert time.monotonic() < until
        ask(1)
    for i in range(len(rows)):
        ask(i)
    assert "converted" in client.get("/report").text
