"""Models of every kind of request, in one app: what clients may not break."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infersdk.predictors import Predictors
from infersdk.web.service import Service
from infersdk.web.settings import Settings
from tests.web.conftest import Trained

# What servers and schemathesis import.
collect_ignore = ["served_app.py", "schemathesis_checks.py"]

PROTOCOLS = ("rows", "oip", "invocations")


@pytest.fixture(scope="session")
def model_paths(
    iris: Trained, mixed: Trained, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Numbers, a table of text and missing values, texts, a tensor, and one with axes that vary."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    import infersdk
    from infersdk.testing.tiny_models import tiny_model

    folder = tmp_path_factory.mktemp("robust")
    texts = ["good film", "bad film", "nice one", "awful thing"] * 5
    words = make_pipeline(CountVectorizer(), LogisticRegression())
    words.fit(texts, ["yes", "no", "yes", "no"] * 5)
    infersdk.convert(words, example=texts).save(folder / "texts.onnx")
    tiny_model("network").save(folder / "network.onnx")
    _sums().save(folder / "sums.onnx")
    own = {name: folder / f"{name}.onnx" for name in ("texts", "network", "sums")}
    return {"iris": iris.path, "mixed": mixed.path, **own}


def _sums() -> Any:
    """The sum of each row, of rows of any length."""
    from onnx import TensorProto, helper

    from infersdk.artifact import Artifact
    from infersdk.types import Method, Plan, Signature, TensorSpec

    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x", "axes"], ["sums"], keepdims=0)],
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", "T"))],
        [helper.make_tensor_value_info("sums", TensorProto.FLOAT, ("N",))],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    signature = Signature(
        (TensorSpec("x", "float32", ("N", "T")),),
        (TensorSpec("sums", "float32", ("N",)),),
        (Method("__call__", ("sums",)),),
        (),
        "tensors",
    )
    return Artifact(model, signature=signature, plan=Plan("onnx", "a test's"), name="sums")


@pytest.fixture
def make_service(model_paths: dict[str, Path]) -> Iterator[Callable[..., Service]]:
    """``make_service(**settings)``: every protocol, and the counts of requests."""
    opened: list[Predictors] = []

    def make(**settings: Any) -> Service:
        predictors = Predictors(model_paths)
        opened.append(predictors)
        predictors.open()
        return Service(
            predictors, Settings(**{"protocols": PROTOCOLS, "metrics": True, **settings})
        )

    yield make
    for predictors in opened:
        predictors.close()
