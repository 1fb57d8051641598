"""SageMaker's and MLflow's protocol, as the Service answers it; real servers and clients are in the files beside this."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import infersdk
from infersdk.predictors import Predictors
from infersdk.testing import FakePredictor
from infersdk.web.problems import Reply
from infersdk.web.request import Request
from infersdk.web.service import Service
from infersdk.web.settings import Settings

from ..conftest import Trained

pytest.importorskip("sklearn", reason="the models are scikit-learn's")

JSON = "application/json"
NPY = "application/x-npy"
LINES = "application/jsonlines"
FIELDS = ["age", "city", "active", "income"]


@pytest.fixture(scope="module")
def words_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of texts that tells questions from statements."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = ["who is it", "what is it", "it is red", "red it is", "who was it", "it was blue"]
    model = make_pipeline(CountVectorizer(), LogisticRegression())
    model.fit(texts, ["asks", "asks", "says", "says", "asks", "says"])
    path = tmp_path_factory.mktemp("words") / "words.onnx"
    infersdk.convert(model, example=texts).save(path)
    return path


@pytest.fixture(scope="module")
def tensors_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Absolute values of one tensor."""
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["y"])],
        "absolute",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
    )
    return _saved(graph, tmp_path_factory.mktemp("tensors") / "tensors.onnx")


@pytest.fixture(scope="module")
def pair_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sum and the difference of two tensors."""
    from onnx import TensorProto, helper

    def value(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"])

    graph = helper.make_graph(
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Sub", ["a", "b"], ["difference"]),
        ],
        "pair",
        [value("a"), value("b")],
        [value("sum"), value("difference")],
    )
    return _saved(graph, tmp_path_factory.mktemp("pair") / "pair.onnx")


def _saved(graph: Any, path: Path) -> Path:
    from onnx import helper, save

    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def service(
    iris: Trained, mixed: Trained, words_path: Path, tensors_path: Path, pair_path: Path
) -> Iterator[Service]:
    predictors = Predictors(
        {
            "iris": iris.path,
            "mixed": mixed.path,
            "words": words_path,
            "tensors": tensors_path,
            "pair": pair_path,
        }
    )
    yield Service(predictors, Settings(protocols=("rows", "invocations"), max_rows=100))
    predictors.close()


@pytest.fixture(scope="module")
def alone(iris: Trained) -> Iterator[Service]:
    """An app of one model."""
    predictors = Predictors({"iris": iris.path})
    yield Service(predictors, Settings(protocols=("invocations",), max_rows=100))
    predictors.close()


def ask(
    service: Service, path: str, body: Any = b"", /, http_method: str = "POST", **headers: str
) -> Reply:
    """Ask as a host would, both ways, and insist that they agree."""
    if not isinstance(body, (bytes, bytearray)):
        body = json.dumps(body).encode()
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(http_method, path, given.get, "127.0.0.1")
    early = service.refuse_early(request)
    if early is not None:
        return early
    reply = service.handle(request, body)
    awaited = asyncio.run(service.ahandle(request, body))
    assert reply == awaited or reply.status == 500
    return reply


def predictions(reply: Reply) -> Any:
    assert reply.status == 200, reply.body
    assert dict(reply.headers)["content-type"] == JSON
    content = json.loads(reply.body)
    assert list(content) == ["predictions"]
    return content["predictions"]


def refused(reply: Reply, status: int, *words: str) -> dict[str, Any]:
    assert reply.status == status, reply.body
    assert dict(reply.headers)["content-type"] == JSON
    content: dict[str, Any] = json.loads(reply.body)
    assert content["error_code"].isupper()
    for word in words:
        assert word in content["message"]
    assert "Traceback" not in content["message"]
    return content


def npy(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def plain(frame: Any) -> Any:
    """Records as JSON has them: null for what is missing."""
    return json.loads(frame.to_json(orient="records"))


# -- routes -----------------------------------------------------------------------------------------


def test_every_path_reaches_its_model(service: Service, alone: Service, iris: Trained) -> None:
    body = {"inputs": iris.X.iloc[:3].to_numpy().tolist()}
    expected = iris.model.predict(iris.X.iloc[:3]).tolist()
    for path in ("/iris/invocations", "/models/iris/invoke", "/serving-endpoints/iris/invocations"):
        assert predictions(ask(service, path, body)) == expected
        assert predictions(ask(alone, path, body)) == expected
        refused(ask(service, path, http_method="GET"), 405, "POST")
    assert predictions(ask(alone, "/invocations", body)) == expected


def test_several_models_have_no_one_path(service: Service, iris: Trained) -> None:
    content = refused(ask(service, "/invocations", []), 400, "`iris`", "/iris/invocations")
    assert content["error_code"] == "BAD_REQUEST"
    grown = Service(Predictors({"iris": iris.path}), Settings(protocols=("invocations",)))
    assert predictions(ask(grown, "/invocations", [])) == []
    grown.predictors.add("other", iris.path)
    refused(ask(grown, "/invocations", []), 400, "`other`")
    grown.predictors.close()
    empty = Service(Predictors({}), Settings(protocols=("invocations",)))
    refused(ask(empty, "/invocations", []), 404)


def test_unknown_models_and_paths_are_refused_in_the_same_form(service: Service) -> None:
    for path in ("/no/invocations", "/models/no/invoke", "/serving-endpoints/no/invocations"):
        content = refused(ask(service, path, []), 404, "`no`", "`iris`")
        assert content["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    refused(ask(service, "/models/no", http_method="GET"), 404)
    refused(ask(service, "/models/iris/other", []), 404)
    refused(ask(service, "/ping/more", http_method="GET"), 404)
    refused(ask(service, "/ping"), 405, "GET")
    assert ask(service, "/iris/predict", []).status == 200  # of plain rows


def test_models_are_listed_and_not_loaded_by_requests(service: Service) -> None:
    listed = json.loads(ask(service, "/models", http_method="GET").body)["models"]
    assert [model["modelName"] for model in listed] == list(service.predictors)
    assert json.loads(ask(service, "/models/iris", http_method="GET").body) == listed[0]
    refused(ask(service, "/models", {"model_name": "a", "url": "/opt"}), 405, "started with")
    refused(ask(service, "/models/iris", http_method="DELETE"), 405)


def test_version(service: Service) -> None:
    reply = ask(service, "/version", http_method="GET")
    assert (reply.status, reply.body.decode()) == (200, metadata.version("infersdk"))


def test_no_model_can_have_the_name_of_a_route(iris: Trained) -> None:
    for name in ("ping", "invocations", "models", "version", "serving-endpoints"):
        with pytest.raises(ValueError, match=name):
            Service(Predictors({name: iris.path}), Settings(protocols=("invocations",)))


def test_ping_answers_while_models_are_being_opened() -> None:
    begun, may_end = threading.Event(), threading.Event()

    def slow() -> Any:
        begun.set()
        assert may_end.wait(30)
        return FakePredictor(0)

    service = Service(Predictors({"slow": slow}), Settings(protocols=("invocations",)))
    request = Request("GET", "/ping", {}.get)
    try:
        assert service.handle(request).status == 503
        assert begun.wait(30)
        assert service.handle(request).status == 503
    finally:
        may_end.set()
    for thread in threading.enumerate():
        if thread.name == "infersdk-open":
            thread.join(30)
    assert service.handle(request).status == 200
    assert len(service.handle(request).body) < 100
    service.predictors.close()
    assert service.handle(request).status == 503


def test_ping_of_models_that_cannot_be_opened(caplog: pytest.LogCaptureFixture) -> None:
    service = Service(Predictors({"lost": "lost.onnx"}), Settings(protocols=("invocations",)))
    request = Request("GET", "/ping", {}.get)
    for _ in range(2):
        assert service.handle(request).status == 503
        for thread in threading.enumerate():
            if thread.name == "infersdk-open":
                thread.join(30)
    assert "could not be opened" in caplog.text
    service.predictors.close()
    assert service.handle(request).status == 503


def test_ping_is_open_to_all_and_answers_are_not(iris: Trained) -> None:
    settings = Settings(protocols=("invocations",), token="secret")
    service = Service(Predictors({"iris": iris.path}), settings)
    assert ask(service, "/ping", http_method="GET").status in (200, 503)
    content = refused(ask(service, "/invocations", []), 401)
    assert content["error_code"] == "UNAUTHENTICATED"
    assert predictions(ask(service, "/invocations", [], authorization="Bearer secret")) == []
    service.predictors.close()


# -- MLflow's JSON ----------------------------------------------------------------------------------


def forms(frame: Any) -> dict[str, Any]:
    """A DataFrame in each of the forms."""
    records = plain(frame)
    names = list(frame.columns)
    rows = [list(record.values()) for record in records]
    return {
        "split": {"dataframe_split": {"columns": names, "data": rows}},
        "split with an index": {
            "dataframe_split": {"index": list(range(len(rows))), "columns": names, "data": rows}
        },
        "split without names": {"dataframe_split": {"data": rows}},
        "split with numbers": {
            "dataframe_split": {"columns": list(range(len(names))), "data": rows}
        },
        "split in another order": {
            "dataframe_split": {"columns": names[::-1], "data": [row[::-1] for row in rows]}
        },
        "records": {"dataframe_records": records},
        "instances by name": {"instances": records},
        "instances": {"instances": rows},
        "inputs by name": {"inputs": {name: [r[name] for r in records] for name in names}},
        "inputs in another order": {
            "inputs": {name: [[r[name]] for r in records] for name in names[::-1]}
        },
        "inputs as records": {"inputs": records},
        "inputs": {"inputs": rows},
        "plain records": records,
        "plain rows": rows,
    }


def test_every_form_of_json_answers_as_the_model_does(
    service: Service, iris: Trained, mixed: Trained
) -> None:
    for name, trained in (("iris", iris), ("mixed", mixed)):
        frame = trained.X.iloc[::13]
        expected = trained.model.predict(frame).tolist()
        probabilities = trained.model.predict_proba(frame)
        for form, body in forms(frame).items():
            assert predictions(ask(service, f"/{name}/invocations", body)) == expected, form
            if isinstance(body, dict):
                for param in ("predict_method", "method"):
                    asked = {**body, "params": {param: "predict_proba"}}
                    given = predictions(ask(service, f"/{name}/invocations", asked))
                    np.testing.assert_allclose(given, probabilities, rtol=1e-5, err_msg=form)


def test_other_keys_are_passed_over(service: Service, iris: Trained) -> None:
    body = {"inputs": iris.X.iloc[:1].to_numpy().tolist(), "client_request_id": "a"}
    assert predictions(ask(service, "/iris/invocations", body)) == [0]


def test_one_row_by_name(service: Service, iris: Trained) -> None:
    row = iris.X.iloc[0].to_dict()
    for body in (row, {"inputs": row}):
        assert predictions(ask(service, "/iris/invocations", body)) == [0]


def test_nan_as_mlflows_client_writes_it(service: Service, mixed: Trained) -> None:
    frame = mixed.X.iloc[:20]
    assert frame["income"].isna().any()
    body = json.dumps({"dataframe_split": frame.to_dict("split")}).encode()
    assert b"NaN" in body
    expected = mixed.model.predict(frame).tolist()
    assert predictions(ask(service, "/mixed/invocations", body)) == expected
    infinite = json.dumps({"inputs": [[40, "Oslo", True, float("inf")]]}).encode()
    assert ask(service, "/mixed/invocations", infinite).status == 200
    for damaged in (b'{"inputs": NaN', b'["\\ud800", NaN]', b"NaN" + b"[" * 100_000):
        refused(ask(service, "/mixed/invocations", damaged), 400)


def test_names_of_columns_are_checked_one_by_one(service: Service) -> None:
    body = {"dataframe_split": {"columns": ["age", "town", "age"], "data": [[1, "Oslo", 2]]}}
    content = refused(ask(service, "/mixed/invocations", body), 422)
    assert content["error_code"] == "INVALID_PARAMETER_VALUE"
    found = {(error["field"], error["expected"]) for error in content["errors"]}
    assert found == {
        ("city", "a column of this name"),
        ("active", "a column of this name"),
        ("income", "a column of this name"),
        ("town", "no column of this name"),
        ("age", "one column of this name"),
    }


def test_every_value_that_does_not_fit_is_named(service: Service) -> None:
    body = {
        "dataframe_split": {
            "columns": ["city", "age", "income", "active"],
            "data": [["Oslo", 1, 1, True], [3, 1.5, "x", True]],
        }
    }
    content = refused(ask(service, "/mixed/invocations", body), 422)
    assert [(error["field"], error["row"]) for error in content["errors"]] == [
        ("age", 1),
        ("city", 1),
        ("income", 1),
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": FIELDS, "data": [[1, 2]]}},
        {"dataframe_split": {"columns": FIELDS, "data": [1]}},
        {"dataframe_split": {"columns": FIELDS, "data": 1}},
        {"dataframe_split": {"columns": FIELDS}},
        {"dataframe_split": {"columns": [["a"]], "data": []}},
        {"dataframe_split": {"columns": 3, "data": []}},
        {"dataframe_split": {"columns": [], "data": [[]]}},
        {"dataframe_split": {"data": [], "other": 1}},
        {"dataframe_split": {"data": [[1, "Oslo", True, 1]], "index": [1, 2]}},
        {"dataframe_split": []},
        {"dataframe_records": {}},
        {"dataframe_records": [1]},
        {"dataframe_records": [{}, 1]},
        {"dataframe_records": [{"age": 1}]},
        {"instances": 1},
        {"instances": [1, 2, 3, 4]},
        {"instances": [{"age": 1}, 1]},
        {"inputs": {}},
        {"inputs": 1},
        {"inputs": {"age": [1], "city": ["Oslo", "Rome"], "active": [True], "income": [1]}},
        {"inputs": {"age": [1], "city": "Oslo", "active": [True], "income": [1]}},
        {"inputs": [], "instances": []},
        {"inputs": [], "params": {"top_k": 3}},
        {"inputs": [], "params": {"method": 3}},
        {"inputs": [], "params": {"method": "fit"}},
        {"inputs": [], "params": {"method": "predict", "predict_method": "predict_proba"}},
        {"inputs": [], "params": []},
        {"age": 1},
        None,
        "x",
        1e308,
        [[[[1]]]],
    ],
)
def test_json_that_is_no_rows_is_refused(service: Service, body: Any) -> None:
    content = refused(ask(service, "/mixed/invocations", body), 422)
    assert content["errors"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"inputs": [1' + b"0" * 5000]
)
def test_json_that_is_none_is_refused(service: Service, body: bytes) -> None:
    assert refused(ask(service, "/mixed/invocations", body), 400)["error_code"] == "BAD_REQUEST"


def test_a_field_may_be_called_as_a_form() -> None:
    import pandas as pd
    from sklearn.linear_model import LinearRegression

    X = pd.DataFrame({"inputs": [0.0, 1, 2, 3], "b": [1.0, 0, 1, 0]})
    predictor = infersdk.load(LinearRegression().fit(X, [0.0, 1, 2, 3]), example=X)
    service = Service(Predictors({"m": predictor}), Settings(protocols=("invocations",)))
    row = {"inputs": 2.0, "b": 1.0}
    np.testing.assert_allclose(predictions(ask(service, "/invocations", row)), [2], atol=1e-6)
    given = predictions(ask(service, "/invocations", {"instances": [row]}))
    np.testing.assert_allclose(given, [2], atol=1e-6)
    service.predictors.close()


def test_an_only_column_may_be_a_list_of_values() -> None:
    from sklearn.linear_model import LinearRegression

    X = np.array([[0.0], [1], [2]])
    predictor = infersdk.load(LinearRegression().fit(X, [0.0, 2, 4]), example=X)
    service = Service(Predictors({"m": predictor}), Settings(protocols=("invocations",)))
    for body in ({"inputs": [1.0, 3]}, {"instances": [1.0, 3]}, {"instances": [[1.0], [3]]}):
        given = predictions(ask(service, "/invocations", body))
        np.testing.assert_allclose(given, [2, 6], atol=1e-6)
    assert ask(service, "/invocations", b"1\n3\n", content_type="text/csv").status == 200
    service.predictors.close()


# -- texts and tensors ------------------------------------------------------------------------------


def test_texts_in_every_form(service: Service) -> None:
    texts = ["who is red", "it, it is blue"]
    for body in (
        texts,
        {"inputs": texts},
        {"instances": texts},
        {"instances": [[text] for text in texts]},
        {"inputs": {"text": texts}},
        {"dataframe_split": {"columns": ["any"], "data": [[text] for text in texts]}},
        {"dataframe_records": [{"any": text} for text in texts]},
    ):
        assert predictions(ask(service, "/words/invocations", body)) == ["asks", "says"], body
    assert predictions(ask(service, "/words/invocations", {"inputs": texts[0]})) == ["asks"]
    for body in (b'who is red\n"it, it is blue"\n', b'text\nwho is red\n"it, it is blue"\n'):
        reply = ask(service, "/words/invocations", body, content_type="text/csv")
        assert predictions(reply) == ["asks", "says"]
    named = b'any\nwho is red\n"it, it is blue"\n'
    reply = ask(service, "/words/invocations", named, content_type="text/csv; header=present")
    assert predictions(reply) == ["asks", "says"]
    reply = ask(service, "/words/invocations", npy(np.array(texts)), content_type=NPY)
    assert predictions(reply) == ["asks", "says"]
    for refusal in (
        {"dataframe_records": [{"a": "x", "b": "y"}]},
        {"dataframe_records": [{}]},
        {"inputs": {"a": ["x"], "b": ["y"]}},
        {"inputs": [1]},
        {"dataframe_split": {"data": [["a", "b"]]}},
    ):
        refused(ask(service, "/words/invocations", refusal), 422)
    refused(ask(service, "/words/invocations", b"a,b\n", content_type="text/csv"), 422)
    refused(ask(service, "/words/invocations", npy(np.ones(2)), content_type=NPY), 422)


def test_a_tensor_in_every_form(service: Service) -> None:
    rows = [[-1.0, 2, 3], [4, -5, 6]]
    expected = np.abs(rows).tolist()
    for body in (
        rows,
        {"inputs": rows},
        {"instances": rows},
        {"inputs": {"x": rows}},
        {"instances": [{"x": row} for row in rows]},
        {"dataframe_split": {"columns": ["a", "b", "c"], "data": rows}},
        {"dataframe_records": [dict(zip("abc", row, strict=True)) for row in rows]},
    ):
        assert predictions(ask(service, "/tensors/invocations", body)) == expected, body
    for dtype in ("float32", "float64"):
        body = npy(np.array(rows, dtype))
        assert predictions(ask(service, "/tensors/invocations", body, content_type=NPY)) == expected
    reply = ask(service, "/tensors/invocations", b"-1,2,3\n4,-5,6\n", content_type="text/csv")
    assert predictions(reply) == expected
    reply = ask(service, "/tensors/invocations", b"-1,2,x\n", content_type="text/csv")
    refused(reply, 422, "numbers")


def test_several_tensors_in_and_out(service: Service) -> None:
    expected = {"sum": [5.0, 7.0], "difference": [-3.0, -3.0]}
    for body in (
        {"inputs": {"a": [1.0, 2], "b": [4.0, 5]}},
        {"instances": [{"a": 1.0, "b": 4.0}, {"a": 2.0, "b": 5.0}]},
        {"dataframe_split": {"columns": ["b", "a"], "data": [[4.0, 1.0], [5.0, 2.0]]}},
        {"dataframe_records": [{"a": 1.0, "b": 4.0}, {"a": 2.0, "b": 5.0}]},
    ):
        assert predictions(ask(service, "/pair/invocations", body)) == expected, body
    body = {"inputs": {"a": [1.0], "b": [4.0]}}
    refused(ask(service, "/pair/invocations", body, accept="text/csv"), 406)
    refused(ask(service, "/pair/invocations", npy(np.ones(2)), content_type=NPY), 422, "`a`")
    refused(ask(service, "/pair/invocations", {"dataframe_split": {"data": [[1]]}}), 422, "`a`")


# -- CSV --------------------------------------------------------------------------------------------


def test_csv_with_and_without_a_header(service: Service, iris: Trained, mixed: Trained) -> None:
    for name, trained in (("iris", iris), ("mixed", mixed)):
        frame = trained.X.iloc[::13]
        expected = trained.model.predict(frame).tolist()
        for text in (
            frame.to_csv(index=False),
            frame.to_csv(index=False, header=False),
            frame[frame.columns[::-1]].to_csv(index=False),
            frame.to_csv(index=False, lineterminator="\r\n"),
            frame.to_csv(index=False, quoting=1),
            "\ufeff" + frame.to_csv(index=False),
            frame.to_csv(index=False).rstrip("\n"),
            frame.to_csv(index=False) + "\n\n",
        ):
            reply = ask(service, f"/{name}/invocations", text.encode(), content_type="text/csv")
            assert predictions(reply) == expected, text[:200]


def test_csv_says_what_does_not_fit(service: Service) -> None:
    def sent(text: str, **headers: str) -> Reply:
        headers = {"content_type": "text/csv", **headers}
        return ask(service, "/mixed/invocations", text.encode(), **headers)

    content = refused(sent("41,Oslo,yes,1\n4_1,Rome,,x\n"), 422)
    assert [(error["field"], error["row"]) for error in content["errors"]] == [
        ("active", 0),
        ("age", 1),
        ("income", 1),
    ]
    content = refused(sent("41.5,Oslo,True,1\n41,Paris,True,1"), 422)
    assert [(error["field"], error["row"]) for error in content["errors"]] == [
        ("age", 0),
        ("city", 1),
    ]
    content = refused(sent(",age,city,active,income\n0,41,Oslo,True,1\n"), 422)
    assert content["errors"][0]["expected"] == "no column of this name"
    refused(sent("41,Oslo,True\n"), 422, "4 values", "got 3")
    refused(sent("age,city\n41,Oslo\n"), 422, "`active`")
    refused(sent("41,,True,1\n"), 422, "`city`")
    refused(sent('41,"Oslo,True,1\n'), 400, "CSV")
    refused(sent('41,"Os"lo,True,1\n'), 400, "CSV")
    refused(sent("41,Oslo,True,1\n", content_type="text/csv; header=present"), 422, "`age`")
    refused(sent("age,city,active,income\n", content_type="text/csv; header=absent"), 422, "'age'")
    refused(sent("x" * 200_000), 400, "CSV")
    for empty in ("", "\n", "age,city,active,income\n"):
        assert predictions(sent(empty)) == []
    refused(ask(service, "/mixed/invocations", b"\xff", content_type="text/csv"), 400, "UTF-8")


def test_numbers_that_float64_cannot_hold(mixed: Trained, service: Service) -> None:
    text = f"{2**53 + 1},Oslo,True,\n"
    reply = ask(service, "/mixed/invocations", text.encode(), content_type="text/csv")
    assert reply.status in (200, 422)
    huge = f"{10**400},Oslo,True,1e999\n".encode()
    assert ask(service, "/mixed/invocations", huge, content_type="text/csv").status == 422


CELLS = st.fixed_dictionaries(
    {
        "age": st.none() | st.integers(-(10**6), 10**6),
        "city": st.sampled_from(["Oslo", "Rome", "Lima"]),
        "active": st.booleans(),
        "income": st.none() | st.floats(-1e6, 1e6),
    }
)


@given(records=st.lists(CELLS, min_size=1, max_size=8), data=st.data())
def test_any_table_answers_alike_in_every_form(
    service: Service, mixed: Trained, records: list[dict[str, Any]], data: st.DataObject
) -> None:
    import pandas as pd

    names = data.draw(st.permutations(FIELDS))
    frame = pd.DataFrame(records)
    expected = mixed.model.predict(frame.astype({"age": "float64", "income": "float64"})).tolist()
    body = {
        "dataframe_split": {
            "columns": names,
            "data": [[record[name] for name in names] for record in records],
        }
    }
    assert predictions(ask(service, "/mixed/invocations", body)) == expected
    body = {"inputs": {name: [record[name] for record in records] for name in names}}
    assert predictions(ask(service, "/mixed/invocations", body)) == expected
    ages = [None if r["age"] is None else str(r["age"]) for r in records]
    text = frame.assign(age=ages)[list(names)].to_csv(index=False)
    reply = ask(service, "/mixed/invocations", text.encode(), content_type="text/csv")
    assert predictions(reply) == expected


@given(
    matrix=st.lists(
        st.lists(st.floats(-1e6, 1e6, width=32), min_size=4, max_size=4), min_size=1, max_size=6
    )
)
def test_any_numbers_come_through_exactly(
    service: Service, iris: Trained, matrix: list[list[float]]
) -> None:
    expected = predictions(
        ask(service, "/iris/invocations", {"inputs": matrix, "params": {"method": "predict_proba"}})
    )
    attributes = {"x_amzn_sagemaker_custom_attributes": "trace=7, method=predict_proba"}
    text = "".join(",".join(map(repr, row)) + "\n" for row in matrix)
    lines = "".join(json.dumps(row) + "\n" for row in matrix)
    for body, content_type in (
        (text.encode(), "text/csv"),
        (lines.encode(), LINES),
        (npy(np.array(matrix)), NPY),
    ):
        reply = ask(service, "/iris/invocations", body, content_type=content_type, **attributes)
        assert predictions(reply) == expected


@given(body=st.binary(max_size=60) | st.text(alphabet='1,"\n\r x', max_size=30).map(str.encode))
def test_any_bytes_are_answered_or_refused(service: Service, body: bytes) -> None:
    for model in ("iris", "mixed", "words", "tensors", "pair"):
        for content_type in (JSON, "text/csv", LINES, NPY):
            reply = ask(service, f"/{model}/invocations", body, content_type=content_type)
            assert reply.status in (200, 400, 413, 422), (model, content_type, body)


# -- lines and arrays -------------------------------------------------------------------------------


def test_lines_of_json(service: Service, mixed: Trained) -> None:
    records = plain(mixed.X.iloc[:9])
    expected = mixed.model.predict(mixed.X.iloc[:9]).tolist()
    text = "\n".join(json.dumps(record) for record in records).replace("null", "NaN")
    for body in (text, text + "\n", text.replace("\n", "\r\n\r\n")):
        for content_type in (LINES, "application/x-ndjson", "application/jsonl"):
            reply = ask(service, "/mixed/invocations", body.encode(), content_type=content_type)
            assert predictions(reply) == expected
    for damaged in (b'{"age": 1}\n{', b"[1\n2]", b"1 2"):
        reply = ask(service, "/mixed/invocations", damaged, content_type=LINES)
        refused(reply, 400, "line")


def test_arrays_in_any_order(service: Service, iris: Trained) -> None:
    X = iris.X.iloc[::13].to_numpy()
    expected = iris.model.predict(iris.X.iloc[::13]).tolist()
    for array in (X, np.asfortranarray(X), X.astype(">f8"), X.astype("float32"), X[::1].copy("F")):
        reply = ask(service, "/iris/invocations", npy(array), content_type=NPY)
        assert predictions(reply) == expected
        reply = ask(service, "/iris/invocations", bytearray(npy(array)), content_type=NPY)
        assert predictions(reply) == expected
    version_2 = io.BytesIO()
    np.lib.format.write_array(version_2, X, version=(2, 0))
    body = version_2.getvalue()
    assert predictions(ask(service, "/iris/invocations", body, content_type=NPY)) == expected
    named = np.array(
        [tuple(row[::-1]) for row in X], dtype=[(name, "f8") for name in iris.X.columns[::-1]]
    )
    assert predictions(ask(service, "/iris/invocations", npy(named), content_type=NPY)) == expected
    assert predictions(ask(service, "/iris/invocations", npy(X[0]), content_type=NPY)) == [0]


class _Evil:
    def __reduce__(self) -> Any:
        raise AssertionError("a pickle was made")


def header(text: str, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00",
        b"\x93NUMPY\x03\x00\x02\x00\x00\x00{}",
        b"\x93NUMPY\x01\x00\xff\xff{",
        npy(np.ones((2, 4)))[:-1],
        npy(np.ones((2, 4))) + b"\0",
        npy(np.ones((2, 4)))[:40],
        npy(np.array([[{}, 1, 2, 3]], dtype=object), allow_pickle=True),
        npy(np.ones((2, 3))),
        npy(np.ones((2, 4, 1))),
        npy(np.ones((2, 4), dtype=complex)),
        npy(np.array(["a", "b", "c", "d"])),
        npy(np.array([b"a", b"b", b"c", b"d"])),
        npy(np.array(1.0)),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -4), }\n", bytes(32)),
        header("{'descr': '<f8', 'fortran_order': False, 'shape': (10**9, 4), }\n", bytes(32)),
        header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**30}, 4), }}\n"),
        header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': (0, {10**30}), }}\n"),
        header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': (0, {2**62}), }}\n"),
        header("{'descr': '|V0', 'fortran_order': False, 'shape': (0,), }\n"),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (0, 4), }\n"),
        header("(" * 5000),
        header("-" * 9000 + "1"),
        header("__import__('os').getpid()"),
    ],
)
def test_arrays_that_are_none_are_refused(service: Service, body: bytes) -> None:
    content = refused(ask(service, "/iris/invocations", body, content_type=NPY), 422)
    assert len(content["message"]) < 1000


def test_text_in_arrays_is_unicode(service: Service, mixed: Trained) -> None:
    for code in (0xD800, 0xDFFF, 0x110000, 0xFFFFFFFF):
        for order in "<>":
            texts = np.array([code, 65], dtype=f"{order}u4").view(f"{order}U2")
            reply = ask(service, "/words/invocations", npy(texts), content_type=NPY)
            refused(reply, 422, "Unicode")
    kinds = [("age", "i8"), ("city", "U4"), ("active", "?"), ("income", "f4")]
    rows = np.array([(41, "Oslo", True, np.nan), (30, "Rome", False, 5)], dtype=kinds)
    expected = mixed.model.predict(
        mixed.X.iloc[:2].assign(
            age=[41, 30], city=["Oslo", "Rome"], active=[True, False], income=[np.nan, 5]
        )
    )
    reply = ask(service, "/mixed/invocations", npy(rows), content_type=NPY)
    assert predictions(reply) == expected.tolist()
    damaged = npy(rows).replace("Oslo".encode("utf-32-le"), b"\xff" * 16)
    refused(ask(service, "/mixed/invocations", damaged, content_type=NPY), 422, "Unicode")


DTYPES = st.sampled_from(
    [
        "<f8",
        ">f4",
        "<f2",
        "<i4",
        "|u1",
        "<U3",
        "|S2",
        "|b1",
        "<c16",
        "<M8[ns]",
        "|V3",
        "<f16",
        "(2,)<f8",
    ]
)


@given(
    dtype=DTYPES | st.lists(DTYPES, min_size=1, max_size=4),
    shape=st.lists(st.integers(0, 5), max_size=3),
    is_fortran=st.booleans(),
    data=st.binary(min_size=16, max_size=16),
)
def test_any_array_is_answered_or_refused(
    service: Service, dtype: Any, shape: list[int], is_fortran: bool, data: bytes
) -> None:
    given_dtype = dtype
    if isinstance(dtype, list):
        given_dtype = [(name, kind) for name, kind in zip(FIELDS, dtype, strict=False)]
    size_bytes = np.dtype(given_dtype).itemsize * int(np.prod(shape, dtype=int))
    text = f"{{'descr': {given_dtype!r}, 'fortran_order': {is_fortran}, 'shape': {tuple(shape)}}}\n"
    body = header(text, (data * (size_bytes // 16 + 1))[:size_bytes])
    for model in ("iris", "mixed", "words", "tensors"):
        reply = ask(service, f"/{model}/invocations", body, content_type=NPY)
        assert reply.status in (200, 422), (model, text)


# -- answers ----------------------------------------------------------------------------------------


def test_answers_in_every_form(service: Service, iris: Trained, mixed: Trained) -> None:
    for name, trained in (("iris", iris), ("mixed", mixed)):
        frame = trained.X.iloc[::13]
        body = plain(frame)
        for method in ("predict", "predict_proba"):
            attributes = {"x_amzn_sagemaker_custom_attributes": f"method={method}"}
            expected = getattr(trained.model, method)(frame)

            def check(given: Any, expected: Any = expected) -> None:
                if expected.dtype.kind == "f":
                    np.testing.assert_allclose(np.array(given, dtype=float), expected, rtol=1e-5)
                else:
                    assert np.array(given, dtype=expected.dtype).tolist() == expected.tolist()

            def sent(accept: str, attributes: Any = attributes, body: Any = body) -> Reply:
                return ask(service, f"/{name}/invocations", body, accept=accept, **attributes)  # noqa: B023

            check(predictions(sent("*/*")))
            check(predictions(sent("text/html, application/json;q=0.5, */*;q=0.1")))
            reply = sent("text/csv")
            assert dict(reply.headers)["content-type"] == "text/csv; charset=utf-8"
            cells = [line.split(",") for line in reply.body.decode().splitlines()]
            check(cells if expected.ndim == 2 else [cell for (cell,) in cells])
            reply = sent("application/jsonlines")
            assert dict(reply.headers)["content-type"] == LINES
            check([json.loads(line) for line in reply.body.splitlines()])
            reply = sent("application/x-npy, text/csv;q=0.9")
            assert dict(reply.headers)["content-type"] == NPY
            check(np.load(io.BytesIO(reply.body), allow_pickle=False))


def test_no_rows_in_every_form(service: Service) -> None:
    for accept in (JSON, "text/csv", LINES, NPY):
        assert ask(service, "/mixed/invocations", [], accept=accept).status == 200


def test_what_cannot_be_accepted_is_refused(service: Service) -> None:
    for accept in ("image/png", "application/json;q=0", "text/csv;q=x", "*/*;q=0"):
        refused(ask(service, "/iris/invocations", [], accept=accept), 406, "application/json")
    assert predictions(ask(service, "/iris/invocations", [], accept="application/*")) == []


def test_methods_by_custom_attributes(service: Service) -> None:
    row = [5.1, 3.5, 1.4, 0.2]

    def sent(attributes: str, body: Any = row) -> Reply:
        return ask(
            service, "/iris/invocations", body, x_amzn_sagemaker_custom_attributes=attributes
        )

    assert predictions(sent("")) == [0]
    assert predictions(sent("c000b4f9-df62, a=b=c")) == [0]
    assert len(predictions(sent("a=1,method=predict_proba"))[0]) == 3
    # What the body says goes before it.
    assert predictions(
        sent("method=predict_proba", {"inputs": [row], "params": {"method": "predict"}})
    ) == [0]
    refused(sent("method=fit"), 422, "predict_proba")


# -- limits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (JSON, [[1, 2, 3, 4]] * 101),
        (JSON, {"inputs": [[1, 2, 3, 4]] * 101}),
        (JSON, {"instances": [[1, 2, 3, 4]] * 101}),
        (JSON, {"dataframe_split": {"data": [[1, 2, 3, 4]] * 101}}),
        (JSON, {"dataframe_records": [{}] * 101}),
        (JSON, {"inputs": {"a": [1] * 101}}),
        ("text/csv", b"1,2,3,4\n" * 101),
        ("text/csv", b"1,2,3,x\n" * 101),
        (LINES, b"[1,2,3,4]\n" * 101),
        (NPY, npy(np.ones((101, 4)))),
    ],
)
def test_too_many_rows(service: Service, content_type: str, body: Any) -> None:
    reply = ask(service, "/iris/invocations", body, content_type=content_type)
    assert refused(reply, 413, "100")["max_rows"] == 100


def test_as_many_rows_as_there_may_be(service: Service) -> None:
    for content_type, body in (
        ("text/csv", b"1,2,3,4\n" * 100),
        (LINES, b"[1,2,3,4]\n" * 100),
        (NPY, npy(np.ones((100, 4)))),
    ):
        reply = ask(service, "/iris/invocations", body, content_type=content_type)
        assert len(predictions(reply)) == 100


def test_content_types_that_are_not_read(service: Service) -> None:
    for content_type in (
        "text/plain",
        "application/x-parquet",
        "application/octet-stream",
        "application/json; charset=latin-1",
        "text/csv; charset=utf-16",
    ):
        reply = ask(service, "/iris/invocations", [], content_type=content_type)
        assert refused(reply, 415)["error_code"] == "BAD_REQUEST"
    for content_type in ('application/json; charset="UTF-8"', "text/csv; label_size=0", ""):
        reply = ask(service, "/iris/invocations", [], content_type=content_type)
        assert reply.status in (200, 422)


def test_faults_of_the_server_say_nothing_of_it(caplog: pytest.LogCaptureFixture) -> None:
    broken = FakePredictor(RuntimeError("the secret reason"))
    service = Service(Predictors({"broken": broken}), Settings(protocols=("invocations",)))
    content = refused(ask(service, "/invocations", [[1]]), 500)
    assert content["error_code"] == "INTERNAL_ERROR"
    assert "secret" not in str(content)
    assert content["instance"] in caplog.text


def test_dicts_of_any_keys() -> None:
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rows = [{"a": 1.0}, {"b": 2.0}, {"a": 2.0, "b": 1.0}, {"b": 3.0}]
    model = make_pipeline(DictVectorizer(), LogisticRegression()).fit(rows, [0, 1, 0, 1])
    predictor = infersdk.load(model, example=rows)
    assert predictor.signature.container == "dicts"
    service = Service(Predictors({"m": predictor}), Settings(protocols=("invocations",)))
    table = [{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 2.0}]
    for body in (
        {"dataframe_records": table},
        {"dataframe_split": {"columns": ["b", "a"], "data": [[0.0, 1.0], [2.0, 0.0]]}},
        {"instances": table},
        {"inputs": {"a": [1.0, 0.0], "b": [[0.0], [2.0]]}},
        table,
    ):
        assert predictions(ask(service, "/invocations", body)) == [0, 1], body
    assert predictions(ask(service, "/invocations", {"inputs": rows[1]})) == [1]
    refused(ask(service, "/invocations", {"dataframe_split": {"data": [[1]]}}), 422)
    body = {"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}
    refused(ask(service, "/invocations", body), 422, "more than once")
    refused(ask(service, "/invocations", b"a,b\n1,2\n", content_type="text/csv"), 422, "CSV")
    refused(ask(service, "/invocations", npy(np.ones((1, 2))), content_type=NPY), 422, "array")
    service.predictors.close()
