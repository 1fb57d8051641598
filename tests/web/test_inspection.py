"""What commands of every host show of an app's models; the oracle is the source model."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk.testing import FakePredictor
from infersdk.web import inspection
from infersdk.web.inspection import InspectionError
from infersdk.web.openapi import describe, openapi
from infersdk.web.service import Service
from infersdk.web.settings import Settings


@pytest.fixture
def serve() -> Iterator[Any]:
    """``serve(iris="iris.onnx")``: a Service of these models, closed afterwards."""
    services = []

    def make(settings: Settings | None = None, **models: Any) -> Service:
        services.append(Service(infersdk.Predictors(models), settings))
        return services[-1]

    yield make
    for service in services:
        service.predictors.close()


@pytest.fixture
def iris_only(serve: Any, iris: Any) -> Service:
    service: Service = serve(iris=iris.path)
    return service


@pytest.fixture
def ask(tmp_path: Path) -> Any:
    """``ask(service, "iris", rows)``: the answers to rows, or to the text of a file."""

    def answer(service: Service, name: str, rows: Any, method: str | None = None) -> Any:
        path = tmp_path / "rows.json"
        path.write_text(rows if isinstance(rows, str) else json.dumps(rows))
        text = inspection.answer_rows(service, name, method, str(path))
        assert "\n" not in text
        return json.loads(text)["answers"]

    return answer


# -- the list ------------------------------------------------------------------------------------


def load_iris_model() -> Any:
    raise AssertionError("listing opens nothing")


class Named(partial[Any]):
    name = "shop.models:load"


def test_the_list_opens_nothing(serve: Any, iris: Any) -> None:
    service = serve(
        **{
            "iris": infersdk.ModelConfig(source=iris.path, methods=["predict", "predict_proba"]),
            "in-memory": iris.model,
            "made": load_iris_model,
            "made-of": partial(load_iris_model),
            "named": Named(load_iris_model),
        }
    )
    lines = [line.split(maxsplit=3) for line in inspection.list_models(service)]
    function = f"{__name__}:load_iris_model"
    assert lines == [
        ["model", "state", "source", "methods"],
        ["iris", "new", str(iris.path), "predict, predict_proba"],
        ["in-memory", "new", "LogisticRegression", "all"],
        ["made", "new", function, "all"],
        ["made-of", "new", function, "all"],
        ["named", "new", "shop.models:load", "all"],
    ]
    assert service.predictors.state == "new"


def test_the_list_shows_states(serve: Any, iris: Any, tmp_path: Path) -> None:
    service = serve(iris=iris.path, gone=tmp_path / "gone.onnx")
    for _ in inspection.check_models(service, ["iris"]):
        pass
    with pytest.raises(infersdk.ArtifactError):
        service.predictors["gone"]
    states = [line.split()[1] for line in inspection.list_models(service)]
    assert states == ["state", "open", "failed"]


def test_the_list_of_no_models(serve: Any) -> None:
    assert inspection.list_models(serve()) == ["No model is declared."]


# -- checking ------------------------------------------------------------------------------------


def test_a_check_says_how_models_run(serve: Any, iris: Any, mixed: Any) -> None:
    service = serve(iris=iris.path, people=mixed.path)
    checked = list(inspection.check_models(service))
    assert [one.headline for one in checked] == ["iris: fine", "people: fine"]
    for one in checked:
        text = "\n".join(one.details)
        for word in ("  plan: onnx", "  parity: equal", "  calibration: "):
            assert f"\n{word}" in f"\n{text}"


def test_a_check_without_anything_to_compare_with(serve: Any) -> None:
    with FakePredictor() as fake:
        (checked,) = inspection.check_models(serve(fake=fake))
    assert "  parity: there was nothing to compare with" in checked.details


def test_a_check_warms_models_up_with_their_rows(serve: Any, iris: Any) -> None:
    config = infersdk.ModelConfig(source=iris.path, warm_up_rows=[{"sepal": 1}])
    results = inspection.check_models(serve(iris=config))
    checked = next(results)
    assert (checked.headline, checked.is_fine) == ("iris: failed", False)
    assert checked.details[0].startswith("  InputError: ")
    with pytest.raises(InspectionError, match=r"^1 of 1 models failed: iris$"):
        next(results)


def test_a_check_goes_on_after_a_model_that_fails(serve: Any, iris: Any, tmp_path: Path) -> None:
    (tmp_path / "torn.onnx").write_bytes(b"torn")
    service = serve(torn=tmp_path / "torn.onnx", gone=tmp_path / "gone.onnx", iris=iris.path)
    results = inspection.check_models(service)
    checked = [next(results) for _ in range(3)]
    assert [one.headline for one in checked] == ["torn: failed", "gone: failed", "iris: fine"]
    for one in checked[:2]:
        assert "ArtifactError" in one.details[0]
        assert f"{one.name}.onnx" in "".join(one.details)
    with pytest.raises(InspectionError, match=r"^2 of 3 models failed: torn, gone$"):
        next(results)


def test_a_check_of_chosen_models(serve: Any, iris: Any, tmp_path: Path) -> None:
    service = serve(iris=iris.path, gone=tmp_path / "gone.onnx")
    checked = list(inspection.check_models(service, ["iris", "iris"]))
    assert [one.name for one in checked] == ["iris"]
    with pytest.raises(InspectionError, match=r"No model `rose` .* there is `iris`, `gone`"):
        next(inspection.check_models(service, ["gone", "rose"]))
    assert not service.predictors.is_open("gone")


# -- describing ----------------------------------------------------------------------------------


def test_a_description_has_all_that_a_caller_needs(serve: Any, mixed: Any) -> None:
    service = serve(people={"source": mixed.path, "methods": ["predict_proba"]})
    lines = inspection.describe_model(service, "people")
    assert lines[0] == "people"
    assert "  methods: predict_proba" in lines
    cells = [line.split() for line in lines]
    assert ["field", "takes", "missing", "values"] in cells
    assert ["city", "string", "refused"] in cells
    assert ["income", "float", "become", "nan"] in cells
    assert {cell[0] for cell in cells if cell} >= {*mixed.X.columns, "plan:", "parity:", "output"}
    described = json.loads(inspection.describe_as_json(service, "people"))
    assert described == describe(service, "people")


# -- answering -----------------------------------------------------------------------------------


def test_rows_are_answered_as_by_the_source_model(ask: Any, iris_only: Service, iris: Any) -> None:
    X = iris.X.iloc[::30]
    rows = X.to_dict("records")
    assert ask(iris_only, "iris", rows) == iris.model.predict(X).tolist()
    assert ask(iris_only, "iris", rows[0]) == iris.model.predict(X.iloc[:1]).tolist()
    np.testing.assert_allclose(
        ask(iris_only, "iris", rows, "predict_proba"), iris.model.predict_proba(X), rtol=1e-4
    )


def test_rows_of_standard_input(
    iris_only: Service, iris: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps(iris.X.iloc[:2].to_dict("records")).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    answers = json.loads(inspection.answer_rows(iris_only, "iris", None, "-"))["answers"]
    assert answers == iris.model.predict(iris.X.iloc[:2]).tolist()


def test_methods_are_those_of_requests(ask: Any, serve: Any, iris: Any) -> None:
    service = serve(iris={"source": iris.path, "methods": ["predict_proba"]})
    row = iris.X.iloc[:1].to_dict("records")
    np.testing.assert_allclose(
        ask(service, "iris", row), iris.model.predict_proba(iris.X.iloc[:1]), rtol=1e-4
    )
    for method in ("predict", "transform"):
        with pytest.raises(InspectionError, match=f"no method `{method}`; it has: predict_proba$"):
            ask(service, "iris", row, method)


def test_limits_of_requests_do_not_hold(ask: Any, serve: Any, iris: Any) -> None:
    service = serve(Settings(max_rows=1, max_body_bytes=1), iris=iris.path)
    assert len(ask(service, "iris", iris.X.to_dict("records"))) == len(iris.X)


def test_every_reason_of_refused_rows_is_said(ask: Any, iris_only: Service, iris: Any) -> None:
    rows = iris.X.iloc[:3].to_dict("records")
    rows[0]["petal length (cm)"] = "long"
    del rows[2]["petal width (cm)"]
    with pytest.raises(InspectionError) as caught:
        ask(iris_only, "iris", rows)
    first, *reasons = str(caught.value).splitlines()
    assert first == "The rows do not fit model `iris`:"
    assert len(reasons) == 2
    assert "petal length" in reasons[0]
    assert "petal width" in reasons[1]


def test_faults_of_the_model_are_said(ask: Any, serve: Any) -> None:
    fake = FakePredictor(fields=["a"], faults=infersdk.SessionError("out of memory"))
    with fake, pytest.raises(InspectionError) as caught:
        ask(serve(iris=fake), "iris", {"a": 1})
    assert str(caught.value) == "Model `iris` could not answer:\n  SessionError: out of memory"


def test_rows_that_cannot_be_read(ask: Any, iris_only: Service, tmp_path: Path) -> None:
    with pytest.raises(InspectionError, match=r"not JSON: .* at line 1, column \d"):
        ask(iris_only, "iris", "[")
    with pytest.raises(InspectionError, match=r"cannot be read: .*No such file.*none\.json"):
        inspection.answer_rows(iris_only, "iris", None, str(tmp_path / "none.json"))


# -- the document --------------------------------------------------------------------------------


def test_the_document_is_that_of_the_route(serve: Any, iris: Any) -> None:
    service = serve(Settings(url_prefix="/models"), iris=iris.path)
    text = inspection.openapi_as_json(service)
    assert json.loads(text) == openapi(service)
    assert text.splitlines()[1].startswith("  ")
    moved = json.loads(
        inspection.openapi_as_json(service, title="Flowers", version="3", prefix="api/v1/")
    )
    assert moved["info"] == {"title": "Flowers", "version": "3"}
    assert moved["servers"] == [{"url": "/api/v1"}]
    assert json.loads(text)["paths"] == moved["paths"]


# -- models that are not there -------------------------------------------------------------------

NEEDING_A_MODEL = [
    inspection.describe_model,
    inspection.describe_as_json,
    lambda service, name: inspection.answer_rows(service, name, None, "never read"),
]


@pytest.mark.parametrize("look", NEEDING_A_MODEL)
def test_unknown_models_are_told_what_there_is(serve: Any, iris: Any, look: Any) -> None:
    service = serve(iris=iris.path, other=iris.path)
    with pytest.raises(InspectionError, match=r"No model `rose` .* there is `iris`, `other`"):
        look(service, "rose")
    assert service.predictors.state == "new"


@pytest.mark.parametrize(
    "look", [*NEEDING_A_MODEL, lambda service, name: inspection.openapi_as_json(service)]
)
def test_a_model_that_cannot_be_opened(serve: Any, tmp_path: Path, look: Any) -> None:
    service = serve(iris=tmp_path / "gone.onnx")
    with pytest.raises(
        InspectionError, match=r"^Model `iris` could not be opened:\n  ArtifactError: .*gone\.onnx"
    ):
        look(service, "iris")
