"""Steps before the graph: which inputs they fill, for which head, and what a file may say about them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from onnx import parser

from infersdk import ArtifactError, SessionError
from infersdk._native import Session
from infersdk.artifact import Artifact
from infersdk.processing import RowSteps
from infersdk.processing.source import ask
from infersdk.types import Field, Method, Plan, Signature, Step, TensorSpec

GRAPH = """
<ir_version: 9, opset_import: ["" : 18]>
g (double[N, 2] features, double[N, 1] own, double[N, 1] late)
    => (double[N, 2] scaled, double[N, 2] total, double[N, 1] only)
{
    scaled = Add(features, features)
    total = Add(scaled, own)
    only = Identity(late)
}
"""
SIGNATURE = Signature(
    inputs=(
        TensorSpec("features", "float64", ("N", 2)),
        TensorSpec("own", "float64", ("N", 1)),
        TensorSpec("late", "float64", ("N", 1)),
    ),
    outputs=(
        TensorSpec("scaled", "float64", ("N", 2)),
        TensorSpec("total", "float64", ("N", 2)),
        TensorSpec("only", "float64", ("N", 1)),
    ),
    methods=(
        Method("predict", ("total",)),
        Method("transform", ("only",), head="transform"),
    ),
    fields=(Field("a", "float", "features", 0), Field("b", "float", "features", 1)),
    container="array",
    steps=(
        Step("own", "source", ("own",), method="transform", columns=(1,)),
        Step("late", "source", ("late",), method="predict", tensors=("scaled",)),
    ),
)


class Part:
    """Sums its columns, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def transform(self, X: Any) -> Any:
        self.calls += 1
        return X.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> Any:
        self.calls += 1
        return X.sum(axis=1)


def artifact(signature: Signature = SIGNATURE) -> Artifact:
    return Artifact(parser.parse_model(GRAPH), signature=signature, plan=Plan("hybrid", "a test"))


def steps_of(model: Artifact, **sources: Any) -> RowSteps:
    return RowSteps(
        model, sources, model="m", open_session=lambda data: Session(data, name="stage")
    )


def test_each_head_asks_only_the_parts_that_it_reads() -> None:
    model, own, late = artifact(), Part(), Part()
    steps = steps_of(model, own=own, late=late)
    assert steps.is_slow
    rows = np.array([[1.0, 2.0], [3.0, 4.0]])
    main = Session(model.session_model("main"), name="m")
    assert [spec.name for spec in main.inputs] == ["features", "own"]
    bound = steps.binder("main").bind(rows)
    assert (own.calls, late.calls) == (1, 0)
    (total,) = main.run_ordered(bound.arrays)
    np.testing.assert_array_equal(total, rows * 2 + rows[:, 1:])

    other = Session(model.session_model("transform"), name="m")
    assert [spec.name for spec in other.inputs] == ["features", "late"]
    bound = steps.binder("transform").bind([{"a": 1, "b": 2}])
    assert (own.calls, late.calls) == (1, 1)
    (only,) = other.run_ordered(bound.arrays)
    np.testing.assert_array_equal(only, [[6.0]])
    steps.close()


def test_a_stage_has_no_input_beside_its_own() -> None:
    stage = Session(artifact().stage_model(("scaled",)), name="stage")
    assert [spec.name for spec in stage.inputs] == ["features"]


def test_a_missing_part_is_told() -> None:
    with pytest.raises(ArtifactError, match=r"part `late`.*predictor.save\(\)"):
        steps_of(artifact(), own=Part())


def test_signatures_with_steps_travel_as_json() -> None:
    assert Signature.from_json(SIGNATURE.to_json()) == SIGNATURE
    assert artifact().signature == SIGNATURE
    data = SIGNATURE.to_json()
    del data["steps"]
    assert Signature.from_json(data).steps == ()


STEP = SIGNATURE.steps[0]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (replace(STEP, outputs=("nothing",)), "should fill inputs of the graph"),
        (replace(STEP, outputs=("features",)), "that nothing else fills"),
        (replace(STEP, outputs=()), "should fill inputs"),
        (replace(STEP, outputs=("late",)), "that nothing else fills"),
        (replace(STEP, name="late"), "has a step twice"),
        (replace(STEP, tensors=("nothing",)), "reads outputs of the graph"),
        (replace(STEP, columns=(2,)), "reads fields 0 to 1"),
        (replace(STEP, columns=(-1,)), "reads fields 0 to 1"),
        (replace(STEP, method=None), "has the method None"),
        (replace(STEP, kind="tokenize"), "has the method 'transform'"),
    ],
)
def test_steps_that_cannot_be(step: Step, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        artifact(replace(SIGNATURE, steps=(step, SIGNATURE.steps[1])))


class Answers:
    """A part that answers what it is told to."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.classes_ = np.array(["b", "a"])

    def transform(self, rows: Any) -> Any:
        return self.answer

    predict = transform


def test_what_parts_answer_becomes_a_matrix() -> None:
    import scipy.sparse

    sparse = scipy.sparse.csr_matrix(np.eye(2))
    np.testing.assert_array_equal(ask(Answers(sparse), "transform", None), np.eye(2))
    assert ask(Answers(np.array([1, 2])), "transform", None).tolist() == [[1.0], [2.0]]
    assert ask(Answers(np.array([1, 2])), "predict", None).dtype == np.int64
    texts = ask(Answers(np.array([["x"], ["y"]])), "transform", None)
    assert texts.dtype == object
    assert texts.tolist() == [["x"], ["y"]]
    assert ask(Answers(np.array([[1, 2.5]], object)), "transform", None).tolist() == [[1.0, 2.5]]
    assert ask(Answers(np.array(["a", "b", "a"])), "label", None).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("kind", "answer", "message"),
    [
        ("transform", np.zeros((2, 2, 2)), r"a matrix, got shape \(2, 2, 2\)"),
        ("transform", np.array([[1, "x"]], object), "numbers or text"),
        ("transform", np.array([[{}]]), "numbers or text"),
        ("label", np.array(["c"]), "classes that it was not fitted on"),
    ],
)
def test_answers_that_no_graph_can_read(kind: str, answer: Any, message: str) -> None:
    with pytest.raises(SessionError, match=message):
        ask(Answers(answer), kind, None)
