"""A small model in both forms: numpy as its own framework, and the ONNX graph that answers as it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper, parser

from infersdk.artifact import Artifact
from infersdk.convert import registry
from infersdk.convert.conversion import Conversion
from infersdk.convert.registry import Written
from infersdk.types import Field, Labels, Method, Plan, Signature, TensorSpec

WEIGHTS = np.array([[0.5], [-0.25]])
BIAS = np.array([1.0])
CLASSES = ("no", "yes")

FIELDS = (
    Field("age", "float", "numbers", 0),
    Field("income", "float", "numbers", 1, missing="nan"),
)
METHODS = (
    Method("predict", ("label",), form="labels", labels=Labels(CLASSES, "object")),
    Method("predict_proba", ("probabilities",), dtype="float64", shape=(2,)),
    Method("decision_function", ("scores",), dtype="float64", shape=(), head="scores"),
)
SIGNATURE = Signature(
    inputs=(TensorSpec("numbers", "float32", ("N", 2)),),
    outputs=(
        TensorSpec("label", "int64", ("N",)),
        TensorSpec("probabilities", "float32", ("N", 2)),
        TensorSpec("scores", "float32", ("N", 1)),
    ),
    methods=METHODS,
    fields=FIELDS,
    container="dataframe",
)


@dataclass
class Linear:
    """The source model: takes a DataFrame, answers with numpy."""

    calls: list[str] = field(default_factory=list)

    def scores(self, rows: Any) -> np.ndarray:
        assert list(rows.columns) == ["age", "income"]
        return (rows.to_numpy(dtype=np.float64) @ WEIGHTS + BIAS).ravel()

    def decision_function(self, rows: Any) -> np.ndarray:
        self.calls.append("decision_function")
        return self.scores(rows)

    def predict_proba(self, rows: Any) -> np.ndarray:
        self.calls.append("predict_proba")
        share = 1 / (1 + np.exp(-self.scores(rows)))
        return np.column_stack([1 - share, share])

    def predict(self, rows: Any) -> np.ndarray:
        self.calls.append("predict")
        return np.array(CLASSES, dtype=object)[(self.scores(rows) > 0).astype(int)]


def linear_graph(bias: float = 1.0) -> ModelProto:
    """The graph of a Linear, with another bias where it is to be wrong."""
    model = parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]>
        linear (float[N, 2] numbers) => (int64[N] label, float[N, 2] probabilities, float[N, 1] scores)
        {
            scores = Gemm(numbers, weights, bias)
            yes = Sigmoid(scores)
            one = Constant<value_float = 1.0>()
            no = Sub(one, yes)
            probabilities = Concat<axis = 1>(no, yes)
            label = ArgMax<axis = 1, keepdims = 0>(probabilities)
        }"""
    )
    for name, value in (("weights", WEIGHTS), ("bias", np.array([bias]))):
        model.graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
    return model


@dataclass
class LinearConverter:
    """What converts a Linear; ``bias`` other than 1 makes a graph that answers differently."""

    FRAMEWORK = "Linear"
    EXTRA = "linear"
    bias: float = 1.0
    failure: Exception | None = None

    def can_convert(self, model: Any) -> bool:
        return isinstance(model, Linear)

    def infer_signature(self, model: Any, example: Any = None) -> Signature:
        return SIGNATURE

    def to_onnx(self, model: Any, signature: Any, *, example: Any = None, opset: Any = None) -> Any:
        if self.failure is not None:
            raise self.failure
        return Written(linear_graph(self.bias))

    def call(self, model: Any, method: str, rows: Any) -> Any:
        return getattr(model, method)(rows)

    def edge_rows(self, *args: Any, **kwargs: Any) -> None:
        return None


@pytest.fixture
def converter(monkeypatch: pytest.MonkeyPatch) -> LinearConverter:
    """The converter of Linear models, registered for the length of the test."""
    made = LinearConverter()
    monkeypatch.setattr(registry, "_registered", [made])
    return made


@pytest.fixture
def source() -> Linear:
    """A source model that counts its calls."""
    return Linear()


@pytest.fixture
def onnx_conversion(converter: LinearConverter, source: Linear) -> Conversion:
    """The model under the onnx plan, with two heads."""
    plan = Plan("onnx", "converted by hand")
    artifact = Artifact(linear_graph(), signature=SIGNATURE, plan=plan, name="linear")
    return Conversion(plan, SIGNATURE, artifact, None, source, converter, "linear")


@pytest.fixture
def native_conversion(converter: LinearConverter, source: Linear) -> Conversion:
    """The model under the native plan."""
    plan = Plan("native", "it has no graph")
    return Conversion(plan, SIGNATURE, None, None, source, converter, "linear")


@pytest.fixture
def frame() -> Any:
    """Ten rows as the source model takes them."""
    import pandas as pd

    rng = np.random.default_rng(0)
    return pd.DataFrame(rng.normal(size=(10, 2)).round(3), columns=["age", "income"])
