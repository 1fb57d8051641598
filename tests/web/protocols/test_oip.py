"""The Open Inference Protocol over REST, as the Service answers it; real servers and clients are in tests/interop."""

from __future__ import annotations

import asyncio
import json
import threading
import tracemalloc
from collections.abc import Iterator
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
from infersdk.web.protocols.oip_binary import HEADER, read_request
from infersdk.web.request import Request
from infersdk.web.service import Service
from infersdk.web.settings import Settings

from ..conftest import Trained

pytest.importorskip("sklearn", reason="the models are scikit-learn's")

N_FLOATS = 1_000_000


@pytest.fixture(scope="module")
def image_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of large tensors with small answers: their largest value, and how many rows there are."""
    from onnx import TensorProto, helper, save

    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["image"], ["largest"], axes=[1, 2], keepdims=0),
        ],
        "largest",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", "H", "W"])],
        [helper.make_tensor_value_info("largest", TensorProto.FLOAT, ["N"])],
    )
    path = tmp_path_factory.mktemp("image") / "image.onnx"
    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def service(iris: Trained, mixed: Trained, image_path: Path) -> Iterator[Service]:
    predictors = Predictors({"iris": iris.path, "mixed": mixed.path, "image": image_path})
    yield Service(predictors, Settings(protocols=("rows", "oip"), max_rows=200, admin=True))
    predictors.close()


def ask(
    service: Service, http_method: str, path: str, body: bytes = b"", /, **headers: str
) -> Reply:
    """Ask as a host would, both ways, and insist that they agree."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(http_method, path, given.get, "127.0.0.1")
    early = service.refuse_early(request)
    if early is not None:
        return early
    reply = service.handle(request, body)
    awaited = asyncio.run(service.ahandle(request, body))
    assert (reply.status, reply.body) == (awaited.status, awaited.body) or reply.status == 500
    return reply


def infer(service: Service, model: str, content: Any, raw: bytes = b"", **headers: str) -> Reply:
    """Post a request, with raw bytes behind it if there are any."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    if raw:
        headers = {HEADER.replace("-", "_"): str(len(body)), **headers}
    return ask(service, "POST", f"/v2/models/{model}/infer", body + raw, **headers)


def matrix(X: Any, **more: Any) -> dict[str, Any]:
    rows = np.asarray(X)
    return {
        "inputs": [
            {
                "name": "x",
                "datatype": "FP64",
                "shape": list(rows.shape),
                "data": rows.ravel().tolist(),
            }
        ],
        **more,
    }


def binary(X: Any, **more: Any) -> tuple[dict[str, Any], bytes]:
    rows = np.asarray(X)
    tensor = {
        "name": "x",
        "datatype": "FP64",
        "shape": list(rows.shape),
        "parameters": {"binary_data_size": rows.nbytes},
    }
    return {"inputs": [tensor], **more}, rows.tobytes()


def error_of(reply: Reply) -> str:
    assert dict(reply.headers)["content-type"] == "application/json"
    (key,) = json.loads(reply.body)
    assert key == "error"
    error: str = json.loads(reply.body)[key]
    return error


# -- answers --------------------------------------------------------------------------------------


def test_json_in_and_out(service: Service, iris: Trained) -> None:
    outputs = [{"name": "predict_proba"}, {"name": "predict"}]
    reply = infer(service, "iris", matrix(iris.X[:5], id="seven", outputs=outputs))
    assert reply.status == 200
    response = json.loads(reply.body)
    assert (response["model_name"], response["model_version"]) == ("iris", "1")
    assert response["id"] == "seven"
    probabilities, labels = response["outputs"]
    assert probabilities["shape"] == [5, 3]
    assert (labels["name"], labels["datatype"], labels["shape"]) == ("predict", "INT64", [5])
    np.testing.assert_allclose(
        np.reshape(probabilities["data"], (5, 3)), iris.model.predict_proba(iris.X[:5]), rtol=1e-6
    )
    assert labels["data"] == iris.model.predict(iris.X[:5]).tolist()
    plain = json.loads(infer(service, "iris", matrix(iris.X[:1])).body)
    assert "id" not in plain
    assert [output["name"] for output in plain["outputs"]] == ["predict"]


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_raw_bytes_in_and_out(service: Service, iris: Trained, version: str) -> None:
    outputs = [
        {"name": "predict", "parameters": {"binary_data": True}},
        {"name": "predict_proba", "parameters": {"binary_data": False}},
        {"name": "decision_function"},
    ]
    content, raw = binary(iris.X[:7], outputs=outputs, parameters={"binary_data_output": True})
    reply = infer(service, f"iris{version}", content, raw, content_type="application/octet-stream")
    headers = dict(reply.headers)
    assert headers["content-type"] == "application/octet-stream"
    length = int(headers[HEADER])
    labels, probabilities, scores = json.loads(reply.body[:length])["outputs"]
    assert "data" not in labels
    assert len(probabilities["data"]) == 21
    sizes = [labels["parameters"]["binary_data_size"], scores["parameters"]["binary_data_size"]]
    assert sizes == [7 * 8, 7 * 3 * 8]
    assert len(reply.body) == length + sum(sizes)
    found = np.frombuffer(reply.body, "<i8", 7, length)
    np.testing.assert_array_equal(found, iris.model.predict(iris.X[:7]))
    np.testing.assert_allclose(
        np.frombuffer(reply.body, "<f8", 21, length + 56).reshape(7, 3),
        iris.model.decision_function(iris.X[:7]),
        rtol=1e-5,
        atol=1e-5,
    )


def test_labels_as_raw_bytes(service: Service, mixed: Trained) -> None:
    rows = mixed.X[:3]
    inputs = [
        {"name": name, "datatype": datatype, "shape": [3, 1], "data": rows[name].tolist()}
        for name, datatype in (("age", "INT64"), ("city", "BYTES"), ("active", "BOOL"))
    ]
    income = rows["income"].to_numpy()
    inputs.append(
        {
            "name": "income",
            "datatype": "FP64",
            "shape": [3, 1],
            "parameters": {"binary_data_size": income.nbytes},
        }
    )
    content = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    reply = infer(service, "mixed", content, income.tobytes())
    raw = reply.body[int(dict(reply.headers)[HEADER]) :]
    expected = [label.encode() for label in mixed.model.predict(rows)]
    assert raw == b"".join(len(label).to_bytes(4, "little") + label for label in expected)


def test_the_method_as_a_parameter(service: Service, iris: Trained) -> None:
    reply = infer(service, "iris", matrix(iris.X[:1], parameters={"method": "predict_proba"}))
    assert json.loads(reply.body)["outputs"][0]["name"] == "predict_proba"


def test_no_rows(service: Service, iris: Trained) -> None:
    outputs = [{"name": "predict_proba", "parameters": {"binary_data": True}}]
    response = infer(service, "iris", {**matrix(iris.X[:0]), "outputs": outputs})
    (output,) = json.loads(response.body)["outputs"]
    assert output["shape"] == [0, 3]
    assert output["parameters"] == {"binary_data_size": 0}


def test_a_timeout_of_the_clients() -> None:
    with (
        FakePredictor(0, fields=["x"], latency_s=0.3) as fake,
        Predictors({"fake": fake}) as predictors,
    ):
        service = Service(predictors, Settings(protocols=("oip",)))
        content = {
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [1]}],
            "parameters": {"timeout": 20_000},
        }
        body = json.dumps(content).encode()
        request = Request("POST", "/v2/models/fake/infer", {}.get)
        asyncio.run(_twice(service, request, body))


async def _twice(service: Service, request: Request, body: bytes) -> None:
    """The first is being run; the second waits longer than its client."""
    replies = await asyncio.gather(service.ahandle(request, body), service.ahandle(request, body))
    assert 504 in {reply.status for reply in replies}


# -- memory ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("padding", "copies"), [(0, 0.0), (1, 1.0)])
def test_a_body_is_copied_at_most_once(service: Service, padding: int, copies: float) -> None:
    """Raw bytes that lie at a multiple of their size are not copied at all, others once."""
    image = np.arange(N_FLOATS, dtype=np.float32).reshape(2, 500, 1000)
    tensor = {
        "name": "image",
        "datatype": "FP32",
        "shape": list(image.shape),
        "parameters": {"binary_data_size": image.nbytes},
    }
    content = json.dumps({"inputs": [tensor]}).encode()
    # The protocol allows for spaces; a bytes object's own data begin at a multiple of 16.
    content += b" " * (-len(content) % 16 + padding)
    body = content + image.tobytes()
    request = Request("POST", "/v2/models/image/infer", {HEADER: str(len(content))}.get)
    assert service.handle(request, body).status == 200
    tracemalloc.start()
    try:
        reply = service.handle(request, body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert json.loads(reply.body)["outputs"][0]["data"] == [499_999.0, 999_999.0]
    assert peak < (copies + 0.05) * len(body)
    read = read_request(body, str(len(content)))
    assert np.shares_memory(read.inputs[0].data, np.frombuffer(body, np.uint8))


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "length",
    [
        "-1",
        "+5",
        "5.0",
        "abc",
        "",
        " ",
        "0x10",
        "1e2",
        "5, 5",
        "٣",
        "9" * 5000,
        "999999999999999999",
    ],
)
def test_lengths_of_the_json_that_are_none(service: Service, iris: Trained, length: str) -> None:
    content, raw = binary(iris.X[:2])
    reply = infer(service, "iris", content, raw, inference_header_content_length=length)
    assert reply.status == 400
    assert "Inference-Header-Content-Length to be from 0 to" in error_of(reply)


def test_lengths_of_the_json_that_are_others(service: Service, iris: Trained) -> None:
    content, raw = binary(iris.X[:2])
    size = len(json.dumps(content))
    for length in (0, size - 1, size + 1, size + len(raw)):
        reply = infer(service, "iris", content, raw, inference_header_content_length=str(length))
        assert reply.status == 400
        assert "Expected JSON" in error_of(reply)
    plain = json.dumps(matrix(iris.X[:2])).encode()
    reply = infer(service, "iris", plain, inference_header_content_length=str(len(plain)))
    assert reply.status == 200


@pytest.mark.parametrize("size", [-1, 63, 65, 2**63, 2**70, 1.5, "64", True, [64], {}])
def test_lengths_of_tensors_that_are_wrong(service: Service, iris: Trained, size: Any) -> None:
    content, raw = binary(iris.X[:2])
    content["inputs"][0]["parameters"]["binary_data_size"] = size
    reply = infer(service, "iris", content, raw)
    assert reply.status in (400, 422)
    assert "bytes" in error_of(reply)


def test_lengths_that_overlap_or_leave_gaps(service: Service, iris: Trained) -> None:
    column = iris.X[:2].to_numpy()[:, :1].copy()
    tensors = [
        {
            "name": name,
            "datatype": "FP64",
            "shape": [2, 1],
            "parameters": {"binary_data_size": column.nbytes},
        }
        for name in iris.X
    ]
    raw = column.tobytes() * 4
    assert infer(service, "iris", {"inputs": tensors}, raw).status == 200
    for wrong, words in (
        (raw[:-8], "from 0 to 8, the bytes that are left"),
        (raw + b"x", "Expected 64 raw bytes behind the JSON"),
        (raw[:48], "from 0 to 0"),
    ):
        reply = infer(service, "iris", {"inputs": tensors}, wrong)
        assert reply.status == 400
        assert words in error_of(reply)
    reply = infer(service, "iris", {"inputs": tensors})
    assert reply.status == 400
    assert "no header Inference-Header-Content-Length" in error_of(reply)
    both = [dict(tensors[0], data=[1, 2]), *tensors[1:]]
    assert "both `data` and `binary_data_size`" in error_of(
        infer(service, "iris", {"inputs": both}, raw)
    )


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"", 400, "Expected JSON"),
        (b"{", 400, "Expected JSON"),
        (
            b'{"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 4], "data": [NaN]}]}',
            400,
            "",
        ),
        ([], 400, "a JSON object, got a list"),
        ({}, 400, "`inputs` to be a list of objects, got none"),
        ({"inputs": {}}, 400, "`inputs` to be a list"),
        ({"inputs": [1]}, 400, "`inputs` to be a list of objects"),
        ({"inputs": []}, 422, "inputs of different names, got none"),
        ({"inputs": [{}]}, 400, "a `name` of each of the inputs"),
        ({"inputs": [{"name": 1}]}, 400, "a `name`"),
        ({"inputs": [{"name": "x"}]}, 400, "a `datatype` of the input `x`"),
        ({"inputs": [{"name": "x", "datatype": "FP64"}]}, 422, "a shape"),
        ({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 4]}]}, 400, "a list as `data`"),
        (
            {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, 4], "data": 3}]},
            400,
            "a list as `data` of the input `x`",
        ),
        (
            {"inputs": [{"name": "x", "datatype": "F64", "shape": [1, 4], "data": [1, 2, 3, 4]}]},
            422,
            "one of the datatypes",
        ),
        (matrix([[1.0, 2, 3, 4]], parameters=[]), 400, "`parameters`"),
        (matrix([[1.0, 2, 3, 4]], id=3), 400, "`id` to be text"),
        (matrix([[1.0, 2, 3, 4]], outputs={}), 400, "`outputs` to be a list"),
        (matrix([[1.0, 2, 3, 4]], outputs=[{"name": "y"}]), 422, "one of the outputs predict"),
        (
            matrix(
                [[1.0, 2, 3, 4]], outputs=[{"name": "predict", "parameters": {"binary_data": 1}}]
            ),
            400,
            "`binary_data` to be true or false",
        ),
        (
            matrix(
                [[1.0, 2, 3, 4]],
                outputs=[{"name": "predict", "parameters": {"classification": 2}}],
            ),
            400,
            "`classification`",
        ),
        (
            {
                "inputs": [
                    {
                        "name": "x",
                        "datatype": "FP64",
                        "shape": [1, 4],
                        "parameters": {"shared_memory_region": "a"},
                    }
                ]
            },
            400,
            "shared memory",
        ),
        (matrix([[1.0, 2, 3]]), 422, "shape"),
        ({"inputs": [{"name": str(i)} for i in range(5)]}, 400, "up to 4 inputs, got 5"),
    ],
)
def test_requests_that_are_built_otherwise(
    service: Service, content: Any, status: int, words: str
) -> None:
    reply = infer(service, "iris", content)
    assert (reply.status, words in error_of(reply)) == (status, True), reply.body


def test_too_many_rows(service: Service) -> None:
    reply = infer(service, "iris", matrix(np.zeros((201, 4))))
    assert reply.status == 413
    assert "up to 200 rows, got 201" in error_of(reply)
    # Before anything is made of them.
    tensor = {"name": "city", "datatype": "BYTES", "shape": [10**9], "data": []}
    assert infer(service, "mixed", {"inputs": [tensor]}).status == 413
    # Of tensors too, along the axis whose length the model leaves open.
    assert infer(service, "image", {"inputs": [_zeros(201, 1, 2)]}).status == 413
    wide = infer(service, "image", {"inputs": [_zeros(1, 201, 2)]})
    assert wide.status == 200


def _zeros(*shape: int) -> dict[str, Any]:
    n = int(np.prod(shape))
    return {"name": "image", "datatype": "FP32", "shape": shape, "data": [0] * n}


def test_rows_that_do_not_fit(service: Service) -> None:
    columns = [
        {"name": "age", "datatype": "INT64", "shape": [2], "data": [30, 40]},
        {"name": "city", "datatype": "INT64", "shape": [2], "data": [1, 2]},
        {"name": "active", "datatype": "BOOL", "shape": [2], "data": [True, False]},
        {"name": "income", "datatype": "FP64", "shape": [2], "data": [1, None]},
    ]
    reply = infer(service, "mixed", {"inputs": columns})
    assert reply.status == 422
    assert error_of(reply).startswith("Expected a str, got 1 (int) - `city`, row 0")
    columns[1] = {"name": "city", "datatype": "BYTES", "shape": [2], "data": ["Oslo", "Rome"]}
    assert infer(service, "mixed", {"inputs": columns}).status == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "text/html"])
def test_other_content_types(service: Service, iris: Trained, kind: str) -> None:
    reply = infer(service, "iris", matrix(iris.X[:1]), content_type=kind)
    assert reply.status == 415
    assert kind in error_of(reply)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "shape", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["x", "sepal length (cm)"]) | JSON_VALUES,
        "datatype": st.sampled_from(["FP64", "BYTES", "INT8"]) | JSON_VALUES,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | JSON_VALUES,
        "parameters": st.fixed_dictionaries(
            {}, optional={"binary_data_size": st.integers(-1, 40) | JSON_VALUES}
        )
        | JSON_VALUES,
        "data": st.lists(st.floats(-5, 5), max_size=8) | JSON_VALUES,
    },
)


@given(
    content=st.fixed_dictionaries(
        {},
        optional={
            "inputs": st.lists(TENSORS, max_size=3) | JSON_VALUES,
            "outputs": st.lists(TENSORS, max_size=2) | JSON_VALUES,
            "parameters": JSON_VALUES,
            "id": JSON_VALUES,
        },
    )
    | JSON_VALUES,
    raw=st.binary(max_size=40),
    length=st.none() | st.integers(-2, 5),
)
def test_nothing_that_clients_send_is_a_fault_of_the_server(
    service: Service, content: Any, raw: bytes, length: int | None
) -> None:
    body = json.dumps(content).encode()
    headers = {} if length is None else {HEADER: str(len(body) + length)}
    reply = service.handle(Request("POST", "/v2/models/iris/infer", headers.get), body + raw)
    assert reply.status in (200, 400, 413, 422), (reply, body)


# -- pages ----------------------------------------------------------------------------------------


def test_pages(service: Service) -> None:
    server = json.loads(ask(service, "GET", "/v2").body)
    assert server["name"] == "infersdk"
    assert server["version"]
    assert "binary_tensor_data" in server["extensions"]
    assert json.loads(ask(service, "GET", "/v2/health/live").body) == {"live": True}
    assert json.loads(ask(service, "GET", "/v2/health/ready").body) == {"ready": True}
    for path in ("/v2/models/iris", "/v2/models/iris/versions/1", "/v2/models/iris/"):
        described = json.loads(ask(service, "GET", path).body)
        assert described["name"] == "iris"
        assert len(described["inputs"]) == 4
    assert ask(service, "HEAD", "/v2/models/iris").status == 200
    ready = json.loads(ask(service, "GET", "/v2/models/iris/ready").body)
    assert ready == {"name": "iris", "ready": True}
    assert json.loads(ask(service, "GET", "/v2/models/iris/config").body)["name"] == "iris"


def test_statistics(service: Service, iris: Trained) -> None:
    def counted() -> dict[str, Any]:
        (model,) = json.loads(ask(service, "GET", "/v2/models/iris/stats").body)["model_stats"]
        found: dict[str, Any] = model
        return found

    infer(service, "iris", matrix(iris.X[:1]))
    before = counted()
    infer(service, "iris", matrix(iris.X[:3]))
    infer(service, "iris", matrix(iris.X.assign(extra=1)))
    infer(service, "iris", matrix(iris.X[:0]))
    after = counted()
    # Each request is asked both ways.
    assert after["inference_count"] - before["inference_count"] == 6
    success = after["inference_stats"]["success"]
    assert success["count"] - before["inference_stats"]["success"]["count"] == 4
    assert success["ns"] > before["inference_stats"]["success"]["ns"]
    names = json.loads(ask(service, "GET", "/v2/models/stats").body)["model_stats"]
    assert {model["name"] for model in names} == {"iris", "mixed", "image"}


@pytest.mark.parametrize(
    ("http_method", "path", "status", "words"),
    [
        ("GET", "/v2/models/nobody", 404, "No model `nobody`"),
        ("POST", "/v2/models/nobody/infer", 404, "No model `nobody`"),
        ("GET", "/v2/models/nobody/ready", 404, "No model `nobody`"),
        ("POST", "/v2/models/iris/versions/2/infer", 404, "no version '2'"),
        ("GET", "/v2/models/iris/versions", 404, "No page"),
        ("GET", "/v2/models", 404, "No page"),
        ("GET", "/v2/models/iris/infer", 405, "Expected POST, got GET"),
        ("DELETE", "/v2/models/iris", 405, "Expected GET or HEAD"),
        ("POST", "/v2", 405, "Expected GET"),
        ("GET", "/v2/logging", 404, "No page"),
        ("GET", "/v2/health", 404, "No page"),
        ("GET", "/v2/repository/index", 405, "Expected POST"),
        ("POST", "/v2/systemsharedmemory/region/a/register", 400, "not supported"),
        ("POST", "/v2/cudasharedmemory/region/a/register", 400, "not supported"),
    ],
)
def test_other_pages(
    service: Service, http_method: str, path: str, status: int, words: str
) -> None:
    reply = ask(service, http_method, path)
    assert (reply.status, words in error_of(reply)) == (status, True), reply.body
    if status == 405:
        assert dict(reply.headers)["allow"]


def test_models_are_loaded_and_unloaded(iris: Trained) -> None:
    with Predictors({"iris": iris.path}) as predictors:
        service = Service(predictors, Settings(protocols=("oip",), admin=True))

        def state() -> tuple[str, int]:
            (model,) = json.loads(ask(service, "POST", "/v2/repository/index").body)
            return model["state"], ask(service, "GET", "/v2/models/iris/ready").status

        assert state() == ("READY", 200)
        assert ask(service, "POST", "/v2/repository/models/iris/unload").status == 200
        assert state() == ("UNAVAILABLE", 503)
        reply = infer(service, "iris", matrix(iris.X[:1]))
        assert reply.status == 503
        assert "was unloaded" in error_of(reply)
        assert ask(service, "POST", "/v2/repository/models/iris/load").status == 200
        assert state() == ("READY", 200)
        assert infer(service, "iris", matrix(iris.X[:1])).status == 200
        assert ask(service, "POST", "/v2/repository/models/nobody/load").status == 404


def test_a_model_is_unloaded_while_the_event_loop_has_calls_of_it() -> None:
    """Closing waits for them, and the loop has other things to do."""
    from sklearn.base import BaseEstimator

    began, goes_on = threading.Event(), threading.Event()
    went_on: list[bool] = []

    class Slow(BaseEstimator):  # type: ignore[misc]
        """Has no ONNX form."""

        def fit(self, X: Any, y: Any = None) -> Any:
            self.n_features_in_ = np.shape(X)[1]
            return self

        def predict(self, X: Any) -> Any:
            began.set()
            went_on.append(goes_on.wait(10))
            return np.asarray(X).sum(axis=1)

    X = np.ones((2, 4))
    goes_on.set()
    predictors = Predictors({"slow": lambda: infersdk.load(Slow().fit(X), example=X)})
    predictors.open()
    service = Service(predictors, Settings(protocols=("oip",), admin=True))
    began.clear()
    goes_on.clear()

    async def unload_meanwhile() -> tuple[Reply, Reply]:
        loop = asyncio.get_running_loop()
        body = json.dumps(matrix(X)).encode()
        asked = Request("POST", "/v2/models/slow/infer", {}.get)
        answered = asyncio.create_task(service.ahandle(asked, body))
        await loop.run_in_executor(None, began.wait, 10)
        unload = Request("POST", "/v2/repository/models/slow/unload", {}.get, "127.0.0.1")
        unloaded = asyncio.create_task(service.ahandle(unload))
        await asyncio.sleep(0)
        goes_on.set()
        return await answered, await unloaded

    answered, unloaded = asyncio.run(asyncio.wait_for(unload_meanwhile(), 20))
    assert (answered.status, unloaded.status) == (200, 200)
    assert all(went_on)
    assert json.loads(answered.body)["outputs"][0]["data"] == [4.0, 4.0]
    assert infer(service, "slow", matrix(X)).status == 503
    predictors.close()


def test_the_repository_is_closed_unless_it_is_opened(iris: Trained) -> None:
    with Predictors({"iris": iris.path}) as predictors:
        service = Service(predictors, Settings(protocols=("oip",)))
        for path in ("index", "models/iris/load", "models/iris/unload"):
            reply = ask(service, "POST", f"/v2/repository/{path}")
            assert reply.status == 403
            assert "setting `admin`" in error_of(reply)
        assert ask(service, "GET", "/v2/models/iris/ready").status == 200
        elsewhere = Service(predictors, Settings(protocols=("oip",), admin=True))
        request = Request("POST", "/v2/repository/models/iris/unload", {}.get, "10.0.0.8")
        assert elsewhere.handle(request, b"").status == 403


def test_a_token_is_asked_for_everywhere_but_health(iris: Trained) -> None:
    with Predictors({"iris": iris.path}) as predictors:
        service = Service(predictors, Settings(protocols=("oip",), token="secret"))
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/iris/ready"):
            assert ask(service, "GET", path).status == 200, path
        for path in ("/v2", "/v2/models/iris", "/v2/models/stats"):
            reply = ask(service, "GET", path)
            assert reply.status == 401
            assert "token" in error_of(reply)
        assert infer(service, "iris", matrix(iris.X[:1])).status == 401
        token = "Bearer secret"
        assert infer(service, "iris", matrix(iris.X[:1]), authorization=token).status == 200


def test_no_model_is_called_v2() -> None:
    with FakePredictor() as fake, pytest.raises(ValueError, match="cannot be called `v2`"):
        Service(Predictors({"v2": fake}), Settings(protocols=("oip",)))


def test_models_open_when_they_are_first_asked_about(iris: Trained) -> None:
    predictors = Predictors({"iris": iris.path, "broken": "missing.onnx"}, opening="lazy")
    service = Service(predictors, Settings(protocols=("oip",)))
    assert json.loads(ask(service, "GET", "/v2/models/stats").body) == {"model_stats": []}
    assert ask(service, "GET", "/v2/models/iris/ready").status == 200
    assert ask(service, "GET", "/v2/models/broken/ready").status == 503
    assert ask(service, "GET", "/v2/health/ready").status == 503
    predictors.close()


def test_the_description_of_the_routes_has_them(service: Service) -> None:
    from jsonschema import Draft202012Validator

    document = json.loads(ask(service, "GET", "/openapi.json").body)
    operation = document["paths"]["/v2/models/iris/infer"]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    Draft202012Validator(content["schema"]).validate(content["example"])
    reply = infer(service, "iris", content["example"])
    assert reply.status == 200
    answered = operation["responses"]["200"]["content"]["application/json"]["schema"]
    Draft202012Validator(answered).validate(json.loads(reply.body))
    identifiers = [
        operation["operationId"]
        for path in document["paths"].values()
        for operation in path.values()
    ]
    assert len(identifiers) == len(set(identifiers))
    assert "/v2/repository/models/iris/load" in document["paths"]
