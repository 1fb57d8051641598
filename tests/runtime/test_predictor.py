"""The Predictor: its methods, its heads, both plans, its life, asyncio.

The oracle is the source model itself, written in numpy (see conftest).
"""

from __future__ import annotations

import asyncio
import copy
import gc
import inspect
import pickle
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import parser

import infersdk
from infersdk import Batching, Execution, Predictor
from infersdk.binding import Bound
from infersdk.convert.conversion import Conversion
from infersdk.errors import (
    ArtifactError,
    ClosedError,
    ConversionError,
    InputError,
    SessionError,
    UnsupportedModelError,
)
from infersdk.runtime import predictor as predictor_module
from infersdk.types import Method, Plan

METHODS = ("predict", "predict_proba", "decision_function")
ROW = {"age": 2.0, "income": -1.0}


def graph(text: str) -> bytes:
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]> graph {text}')
    return model.SerializeToString()


def assert_agrees(predictor: Predictor, source: Any, frame: Any) -> None:
    """Every method answers what the source model answers."""
    np.testing.assert_array_equal(predictor.predict(frame), source.predict(frame))
    for name in ("predict_proba", "decision_function"):
        ours, theirs = getattr(predictor, name)(frame), getattr(source, name)(frame)
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


# -- answers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["onnx", "native"])
def test_methods_answer_as_the_sources(
    request: pytest.FixtureRequest, plan: str, source: Any, frame: Any
) -> None:
    predictor = Predictor(request.getfixturevalue(f"{plan}_conversion"))
    assert predictor.plan.kind == plan
    assert_agrees(predictor, source, frame)
    np.testing.assert_array_equal(predictor(frame), predictor.predict(frame))


@pytest.mark.parametrize("plan", ["onnx", "native"])
@pytest.mark.parametrize(
    "rows",
    [
        ROW,
        {**ROW, "age": 2},
        [ROW],
        [ROW, ROW],
        [],
        [2.0, -1.0],
        [[2.0, -1.0], [2, -1]],
        np.array([[2.0, -1.0]]),
        np.array([2.0, -1.0], np.float32),
        np.array([[2.0, -1.0]])[:0],
        (2.0, -1.0),
    ],
)
def test_rows_of_every_form(request: pytest.FixtureRequest, plan: str, rows: Any) -> None:
    predictor = Predictor(request.getfixturevalue(f"{plan}_conversion"))
    n = 1 if isinstance(rows, (dict, tuple)) or np.ndim(rows) == 1 else len(rows)
    n = len(rows) if isinstance(rows, list) and (not rows or isinstance(rows[0], dict)) else n
    scores = predictor.decision_function(rows)
    assert scores.shape == (n,)
    np.testing.assert_allclose(scores, np.full(n, 2.25), rtol=1e-6)
    assert predictor.predict(rows).tolist() == ["yes"] * n


def test_named_arguments_make_a_row(onnx_conversion: Conversion) -> None:
    predictor = Predictor(onnx_conversion)
    assert predictor(age=2.0, income=-1.0).tolist() == ["yes"]
    with pytest.raises(InputError, match="by position or by name, got both"):
        predictor(ROW, age=2.0)


@pytest.mark.parametrize("plan", ["onnx", "native"])
def test_no_argument_is_no_row(request: pytest.FixtureRequest, plan: str) -> None:
    predictor = Predictor(request.getfixturevalue(f"{plan}_conversion"))
    with pytest.raises(InputError, match="Expected rows, got no argument - model `linear`"):
        predictor()


def test_tensors_by_position_and_by_name() -> None:
    predictor = infersdk.load(
        graph("(float[N] a, float[N] b) => (float[N] y) { y = Sub(a, b) }"), name="difference"
    )
    a, b = np.array([5, 7], np.float32), np.array([1, 1], np.float32)
    expected = [4.0, 6.0]
    for answer in (
        predictor(a, b),
        predictor((a, b)),
        predictor(b=b, a=a),
        predictor({"a": a, "b": b}),
        predictor.predict((a, b)),
        predictor([5, 7], [1, 1]),
        predictor(a.astype(np.float64), b),
    ):
        assert answer.dtype == np.float32
        assert answer.tolist() == expected
    with pytest.raises(InputError, match="2 inputs"):
        predictor(a)
    with pytest.raises(InputError, match="`b`"):
        predictor(a=a)


def test_a_model_without_inputs_is_called_without_arguments() -> None:
    predictor = infersdk.load(
        graph("() => (float[2] y) { y = Constant<value_floats = [1.0, 2.0]>() }")
    )
    for _ in range(2):
        assert predictor().tolist() == [1.0, 2.0]
        assert predictor.run({})["y"].tolist() == [1.0, 2.0]


def test_several_outputs_are_a_dict() -> None:
    predictor = infersdk.load(
        graph("(float[N] x) => (float[N] b, float[N] a) { a = Neg(x) b = Abs(x) }")
    )
    answer = predictor([-1.0])
    assert list(answer) == ["b", "a"]
    assert {name: value.tolist() for name, value in answer.items()} == {"b": [1.0], "a": [1.0]}


def test_outputs_of_a_head_in_another_order_than_the_graphs(onnx_conversion: Conversion) -> None:
    """A method may want its head's outputs in any order."""
    signature = onnx_conversion.signature
    both = Method("both", ("probabilities", "label"), form="tuple")
    signature = replace(signature, methods=(both, *signature.methods))
    assert onnx_conversion.artifact is not None
    artifact = onnx_conversion.artifact.revised(
        signature=signature, plan=onnx_conversion.plan, parity=None
    )
    predictor = Predictor(replace(onnx_conversion, signature=signature, artifact=artifact))
    probabilities, label = predictor.both(ROW)  # type: ignore[attr-defined]
    assert probabilities.shape == (1, 2)
    assert label.tolist() == [1]


# -- methods that are there, and not -------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["onnx", "native"])
def test_methods_present_and_absent(request: pytest.FixtureRequest, plan: str) -> None:
    predictor = Predictor(request.getfixturevalue(f"{plan}_conversion"))
    for name in METHODS:
        assert hasattr(predictor, name)
        assert name in dir(predictor)
        assert getattr(predictor, name).__name__ == name
        assert "`linear`" in (inspect.getdoc(getattr(predictor, name)) or "")
    for name in ("transform", "score_samples", "predict_log_proba"):
        assert not hasattr(predictor, name)
        with pytest.raises(
            AttributeError, match=f"Model `linear` has no method `{name}`"
        ) as caught:
            getattr(predictor, name)
        assert "it has: predict, predict_proba, decision_function" in str(caught.value)
    with pytest.raises(AttributeError, match="'Predictor' object has no attribute 'predicct'"):
        _ = predictor.predicct  # type: ignore[attr-defined]


def test_a_method_that_was_left_out_says_why(onnx_conversion: Conversion) -> None:
    note = "left out: transform differs in 3 rows"
    plan = replace(onnx_conversion.plan, notes=("something else", note))
    predictor = Predictor(replace(onnx_conversion, plan=plan))
    with pytest.raises(AttributeError, match=note):
        _ = predictor.transform


def test_methods_that_the_graph_lacks_are_answered_by_the_source(
    onnx_conversion: Conversion, source: Any, frame: Any, tmp_path: Path
) -> None:
    """decision_function was not proven, so that the artifact does not have it."""
    signature = onnx_conversion.signature
    *proven, scores = signature.methods
    signature = replace(signature, methods=tuple(proven))
    assert onnx_conversion.artifact is not None
    artifact = onnx_conversion.artifact.revised(
        signature=signature, plan=onnx_conversion.plan, parity=None
    )
    conversion = replace(
        onnx_conversion, signature=signature, artifact=artifact, source_methods=(scores,)
    )
    predictor = Predictor(conversion)
    assert_agrees(predictor, source, frame)
    source.calls.clear()
    predictor.predict(frame)
    predictor.predict_proba(frame)
    assert source.calls == []
    predictor.decision_function(ROW)
    assert source.calls == ["decision_function"]
    # With the process's own copies it stays, in a file it cannot.
    assert_agrees(pickle.loads(pickle.dumps(predictor)), source, frame)
    assert_agrees(copy.deepcopy(predictor), source, frame)
    reopened = infersdk.load(predictor.save(tmp_path / "linear.onnx"))
    assert not hasattr(reopened, "decision_function")
    predictor.close()
    with pytest.raises(ClosedError):
        predictor.decision_function(ROW)


# -- run ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        np.array([[2, -1]], np.float32),
        np.array([[2.0, -1.0]]),
        np.array([[2, -1]]),
        [[2.0, -1.0]],
        [(2, -1)],
        np.asfortranarray([[2.0, -1.0]]),
        np.array([[2.0, -1.0]], np.float16),
        np.array([[2.0, -1.0]], ">f4"),
    ],
    ids=lambda value: f"{type(value).__name__} {getattr(value, 'dtype', '')}",
)
def test_run_takes_what_fits_without_loss(onnx_conversion: Conversion, value: Any) -> None:
    predictor = Predictor(onnx_conversion)
    answer = predictor.run({"numbers": value})
    assert list(answer) == ["label", "probabilities", "scores"]
    assert answer["label"].tolist() == [1]
    assert answer["scores"].tolist() == [[2.25]]
    assert answer["scores"].dtype == np.float32


def test_run_gives_the_outputs_asked_for(onnx_conversion: Conversion) -> None:
    predictor = Predictor(onnx_conversion)
    rows = np.array([[2, -1]], np.float32)
    assert list(predictor.run({"numbers": rows}, ["scores", "label"])) == ["scores", "label"]
    assert list(predictor.run({"numbers": rows}, outputs=("scores",))) == ["scores"]
    with pytest.raises(InputError, match="Expected outputs among label, probabilities, scores"):
        predictor.run({"numbers": rows}, ["score"])


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ({}, "Expected inputs `numbers`"),
        ({"number": [[1, 2]]}, "`numbers`"),
        ({"numbers": [[1, 2]], "other": 1}, "`other`"),
        ({"numbers": [[1, 2, 3]]}, r"Expected float32 \(N, 2\)"),
        ({"numbers": [1, 2]}, r"Expected float32 \(N, 2\)"),
        ({"numbers": [["a", "b"]]}, r"Expected float32 \(N, 2\)"),
        ({"numbers": [[1e300, 0.0]]}, "float32's range"),
        ({"numbers": None}, "None"),
        ({"numbers": [[1j, 2]]}, "complex"),
    ],
)
def test_run_refuses_what_does_not_fit(
    onnx_conversion: Conversion, inputs: Any, complaint: str
) -> None:
    predictor = Predictor(onnx_conversion)
    for _ in range(2):
        with pytest.raises(InputError, match=complaint) as caught:
            predictor.run(inputs)
        assert caught.value.model == "linear"
        assert predictor.run({"numbers": [[2, -1]]})["label"].tolist() == [1]


# -- heads ----------------------------------------------------------------------------------------------


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The outputs of each session that a Predictor opens, in order."""
    seen: list[tuple[str, ...]] = []
    session_type = predictor_module.Session

    def open_session(*args: Any, **kwargs: Any) -> Any:
        session = session_type(*args, **kwargs)
        seen.append(tuple(spec.name for spec in session.outputs))
        return session

    monkeypatch.setattr(predictor_module, "Session", open_session)
    return seen


def test_a_head_is_opened_when_it_is_first_used(
    onnx_conversion: Conversion, opened: list[tuple[str, ...]]
) -> None:
    predictor = Predictor(onnx_conversion)
    assert opened == [("label", "probabilities")]
    predictor.predict(ROW)
    predictor.predict_proba(ROW)
    assert len(opened) == 1
    for _ in range(2):
        predictor.decision_function(ROW)
        assert opened[1:] == [("scores",)]
    for _ in range(2):
        predictor.run({"numbers": [[1, 2]]})
        assert opened[2:] == [("label", "probabilities", "scores")]


def test_one_head_with_every_output_serves_run_too(opened: list[tuple[str, ...]]) -> None:
    predictor = infersdk.load(graph("(float[N] x) => (float[N] y) { y = Neg(x) }"))
    predictor.predict([1.0])
    predictor.run({"x": [1.0]})
    assert opened == [("y",)]


def test_threads_that_need_a_head_at_once_open_it_once(
    onnx_conversion: Conversion, opened: list[tuple[str, ...]]
) -> None:
    predictor = Predictor(onnx_conversion)
    start = threading.Barrier(8)
    answers = []

    def work() -> None:
        start.wait()
        answers.append(predictor.decision_function(ROW).tolist())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[2.25]] * 8
    assert opened[1:] == [("scores",)]


def test_warm_up_opens_every_head_and_measures(
    onnx_conversion: Conversion, opened: list[tuple[str, ...]], frame: Any
) -> None:
    predictor = Predictor(onnx_conversion, execution=Execution(calibration_s=0))
    assert predictor.calibration.run_s is None
    calibration = predictor.warm_up(frame)
    assert set(opened) == {
        ("label", "probabilities"),
        ("scores",),
        ("label", "probabilities", "scores"),
    }
    assert calibration is predictor.calibration
    assert calibration.run_s is not None
    assert calibration.run_s > 0
    assert "rows of the example" in str(calibration)
    assert "made-up rows" in str(predictor.warm_up())
    n_opened = len(opened)
    predictor.decision_function(ROW)
    assert len(opened) == n_opened


def test_warm_up_refuses_bad_rows(onnx_conversion: Conversion) -> None:
    with pytest.raises(InputError, match="`age`"):
        Predictor(onnx_conversion).warm_up({"age": "old", "income": 1})


def test_warm_up_of_a_native_plan_calls_the_model(
    native_conversion: Conversion, source: Any
) -> None:
    predictor = Predictor(native_conversion)
    assert predictor.warm_up() is predictor.calibration
    assert source.calls == []
    predictor.warm_up(ROW)
    assert source.calls == ["predict"]


# -- calibration and execution ----------------------------------------------------------------------------


def test_the_example_is_what_calibration_runs_on(onnx_conversion: Conversion, frame: Any) -> None:
    calibration = Predictor(onnx_conversion, example=frame).calibration
    assert calibration.run_s is not None
    assert 0 < calibration.run_s < 1
    assert calibration.n_runs >= 1
    assert f"{len(frame)} rows of the example" in calibration.reason


@pytest.mark.parametrize("example", [None, "nonsense", {"age": "x"}, [], 3, [[]], object()])
def test_an_example_that_cannot_be_bound_leaves_made_up_rows(
    onnx_conversion: Conversion, example: Any
) -> None:
    calibration = Predictor(onnx_conversion, example=example).calibration
    assert calibration.run_s is not None
    assert "made-up rows" in calibration.reason


def test_calibration_can_be_switched_off(onnx_conversion: Conversion, frame: Any) -> None:
    predictor = Predictor(onnx_conversion, execution=Execution(calibration_s=0), example=frame)
    assert predictor.calibration.curve == ()
    assert "switched off" in predictor.calibration.reason
    assert predictor.predict(ROW).tolist() == ["yes"]


@pytest.mark.parametrize(
    "execution",
    [
        Execution(threads=1),
        Execution(threads=2),
        Execution(release_gil=True),
        Execution(release_gil=False),
        Execution(graph_optimization="off"),
        Execution(graph_optimization="basic", threads=2, calibration_s=0),
    ],
)
def test_execution_changes_no_answer(
    onnx_conversion: Conversion, source: Any, frame: Any, execution: Execution
) -> None:
    predictor = Predictor(onnx_conversion, execution=execution)
    assert predictor.execution is execution
    assert_agrees(predictor, source, frame)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"threads": 0}, "threads must be a whole number from 1 to 1024, got 0"),
        ({"threads": 1.5}, "threads must be a whole number from 1 to 1024, got 1.5"),
        ({"threads": -1}, "threads"),
        ({"threads": 5000}, "threads"),
        ({"graph_optimization": "fast"}, "graph_optimization must be .* got 'fast'"),
        ({"graph_optimization": None}, "graph_optimization"),
        ({"calibration_s": -0.1}, "calibration_s must be between 0 and 60 seconds"),
        ({"calibration_s": 61}, "calibration_s"),
        ({"calibration_s": float("nan")}, "calibration_s"),
    ],
)
def test_execution_is_checked(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Execution(**options)


def test_execution_is_frozen_and_by_keyword() -> None:
    with pytest.raises(TypeError):
        Execution(2)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        Execution().threads = 2  # type: ignore[misc]


# -- life -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", ["onnx", "native"])
def test_close(request: pytest.FixtureRequest, plan: str) -> None:
    predictor = Predictor(request.getfixturevalue(f"{plan}_conversion"))
    assert repr(predictor) == (
        f"<Predictor `linear`: {plan} plan, predict, predict_proba, decision_function>"
    )
    kept = predictor.predict
    predictor.close()
    predictor.close()
    assert repr(predictor).endswith(", closed>")
    for call in (
        lambda: predictor(ROW),
        lambda: kept(ROW),
        lambda: predictor.predict_proba(ROW),
        lambda: predictor.decision_function(ROW),  # never opened before
        lambda: predictor.run({"numbers": [[1, 2]]}),
        lambda: predictor.warm_up(),
        lambda: asyncio.run(predictor.apredict(ROW)),
        lambda: pickle.dumps(predictor),
        lambda: copy.deepcopy(predictor),
    ):
        with pytest.raises(ClosedError, match="`linear` is closed"):
            call()
    # What it was remains to be read.
    assert predictor.plan.kind == plan
    assert hasattr(predictor, "predict")


@pytest.mark.parametrize("plan", ["onnx", "native"])
def test_context_manager(request: pytest.FixtureRequest, plan: str) -> None:
    conversion = request.getfixturevalue(f"{plan}_conversion")
    with Predictor(conversion) as predictor:
        assert predictor.predict(ROW).tolist() == ["yes"]
    with pytest.raises(ClosedError):
        predictor.predict(ROW)
    with pytest.raises(KeyError), Predictor(conversion) as predictor:
        raise KeyError
    with pytest.raises(ClosedError):
        predictor.predict(ROW)


def test_closing_one_leaves_another_of_the_same_model(onnx_conversion: Conversion) -> None:
    first, second = Predictor(onnx_conversion), Predictor(onnx_conversion)
    first.close()
    assert second.predict(ROW).tolist() == ["yes"]


def test_close_lets_a_running_native_call_finish(
    native_conversion: Conversion, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, may_go = threading.Event(), threading.Event()
    real = type(source).predict

    def slow(self: Any, rows: Any) -> Any:
        entered.set()
        assert may_go.wait(60)
        return real(self, rows)

    monkeypatch.setattr(type(source), "predict", slow)
    predictor = Predictor(native_conversion)
    answers: list[Any] = []
    caller = threading.Thread(target=lambda: answers.append(predictor.predict(ROW).tolist()))
    caller.start()
    assert entered.wait(60)
    closer = threading.Thread(target=predictor.close)
    closer.start()
    # From the moment that it closes, new calls are refused, while the old one runs on.
    while True:
        try:
            predictor.predict_proba(ROW)
        except ClosedError:
            break
    assert closer.is_alive()
    assert answers == []
    may_go.set()
    caller.join()
    closer.join()
    assert answers == [["yes"]]


@pytest.mark.parametrize("plan", ["onnx", "native"])
@pytest.mark.parametrize(
    "duplicate",
    [
        lambda predictor: pickle.loads(pickle.dumps(predictor)),
        lambda predictor: pickle.loads(pickle.dumps(predictor, protocol=2)),
        copy.deepcopy,
        copy.copy,
    ],
    ids=["pickle", "pickle protocol 2", "deepcopy", "copy"],
)
def test_copies_are_predictors_of_their_own(
    request: pytest.FixtureRequest, plan: str, duplicate: Any, source: Any, frame: Any
) -> None:
    execution = Execution(threads=1, calibration_s=0)
    predictor = Predictor(request.getfixturevalue(f"{plan}_conversion"), execution=execution)
    other = duplicate(predictor)
    assert other is not predictor
    assert other.name == "linear"
    assert other.plan == predictor.plan
    assert other.signature == predictor.signature
    assert other.execution == execution
    assert_agrees(other, source, frame)
    predictor.close()
    assert_agrees(other, source, frame)
    other.close()


def test_a_pickle_of_the_onnx_plan_does_not_need_the_source(
    onnx_conversion: Conversion, frame: Any
) -> None:
    unpicklable = threading.Lock()
    predictor = Predictor(replace(onnx_conversion, source=unpicklable))
    other = pickle.loads(pickle.dumps(predictor))
    np.testing.assert_array_equal(other.predict(frame), predictor.predict(frame))


def test_save_and_load(
    onnx_conversion: Conversion, source: Any, frame: Any, tmp_path: Path
) -> None:
    predictor = Predictor(onnx_conversion)
    path = predictor.save(tmp_path / "saved.onnx")
    assert path == str(tmp_path / "saved.onnx")
    for reference in (path, Path(path), Path(path).read_bytes()):
        reopened = infersdk.load(reference)
        assert reopened.name == "linear"
        assert reopened.signature == predictor.signature
        assert reopened.plan == predictor.plan
        assert_agrees(reopened, source, frame)
    assert infersdk.load(path, name="other").name == "other"


# -- the native plan ----------------------------------------------------------------------------------------


def test_a_graph_that_answers_differently_is_not_served(
    converter: Any, source: Any, frame: Any, tmp_path: Path
) -> None:
    converter.bias = -1.0
    predictor = infersdk.load(source, example=frame)
    assert predictor.plan.kind == "native"
    assert "answers differently" in predictor.plan.reason
    assert predictor.parity is not None
    assert not predictor.parity.passed
    assert predictor.artifact is None
    assert predictor.name == "Linear"
    assert_agrees(predictor, source, frame)
    with pytest.raises(SessionError, match=r"has no graph to run.*native.*predict_proba"):
        predictor.run({"numbers": [[1, 2]]})
    with pytest.raises(ArtifactError, match=r"runs in .*, which has no file that is safe to open"):
        predictor.save(tmp_path / "never.onnx")
    assert list(tmp_path.iterdir()) == []
    assert_agrees(pickle.loads(pickle.dumps(predictor)), source, frame)


def test_a_model_that_cannot_be_converted_is_served_as_it_is(
    converter: Any, source: Any, frame: Any
) -> None:
    converter.failure = ConversionError("no graph for this one")
    predictor = infersdk.load(source, example=frame)
    assert predictor.plan == Plan("native", "it cannot be converted: no graph for this one")
    assert predictor.parity is None
    assert predictor.calibration.reason.startswith(
        "the model runs in its own framework; a row takes"
    )
    assert_agrees(predictor, source, frame)


def test_native_rows_are_checked_as_ever(native_conversion: Conversion, source: Any) -> None:
    predictor = Predictor(native_conversion)
    for rows, field in (({"age": "x", "income": 1}, "age"), ({"age": 1.0}, "income")):
        with pytest.raises(InputError) as caught:
            predictor.predict(rows)
        assert caught.value.field == field
    assert source.calls == []
    assert predictor.predict(ROW).tolist() == ["yes"]


def test_what_the_native_model_raises_comes_through(
    native_conversion: Conversion, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, rows: Any) -> Any:
        raise ZeroDivisionError("the model's own")

    predictor = Predictor(native_conversion)
    with monkeypatch.context() as patch:
        patch.setattr(type(source), "predict", fail)
        with pytest.raises(ZeroDivisionError, match="the model's own"):
            predictor.predict(ROW)
    assert predictor.predict(ROW).tolist() == ["yes"]
    predictor.close()  # nothing is in flight any more


# -- torch ------------------------------------------------------------------------------------------------


def test_torch_in_torch_out(onnx_conversion: Conversion) -> None:
    torch = pytest.importorskip("torch")
    predictor = Predictor(onnx_conversion)
    rows = torch.tensor([[2.0, -1.0], [-9.0, 1.0]])
    scores = predictor.decision_function(rows)
    assert isinstance(scores, torch.Tensor)
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores, torch.tensor([2.25, -3.75], dtype=torch.float64))
    # Text has no tensor.
    assert predictor.predict(rows).tolist() == ["yes", "no"]
    assert isinstance(predictor.decision_function(rows.numpy()), np.ndarray)


def test_torch_tensors_of_any_layout() -> None:
    torch = pytest.importorskip("torch")
    predictor = infersdk.load(graph("(float[N, 2] x) => (float[N, 2] y) { y = Neg(x) }"))
    x = torch.arange(4.0).reshape(2, 2)
    for given in (
        x,
        x.T.contiguous().T,
        x.repeat(1, 2)[:, ::2][:, [0, 0]] * 0 + x,
        x.clone().requires_grad_(),
        x.to(torch.float64),
        x.to(torch.int64),
        x.to(torch.float16),
        x.to(torch.bfloat16),
        torch.stack([x, x])[0],
    ):
        answer = predictor(given)
        assert isinstance(answer, torch.Tensor)
        assert answer.dtype == torch.float32
        assert not answer.requires_grad
        torch.testing.assert_close(answer, -x)
        answer.fill_(9)  # writes into nothing that is used again
        torch.testing.assert_close(predictor(given), -x)


# -- asyncio ------------------------------------------------------------------------------------------------


class Spy:
    """Rows that note in which thread they are bound."""

    def __init__(self, rows: Any) -> None:
        self.rows = np.asarray(rows, dtype=np.float32)
        self.shape = self.rows.shape
        self.threads: list[threading.Thread] = []

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        self.threads.append(threading.current_thread())
        return self.rows


def test_apredict_answers_as_the_method(onnx_conversion: Conversion, frame: Any) -> None:
    predictor = Predictor(onnx_conversion)

    async def ask() -> None:
        np.testing.assert_array_equal(await predictor.apredict(frame), predictor.predict(frame))
        for name in METHODS:
            np.testing.assert_array_equal(
                await predictor.apredict(frame, method=name), getattr(predictor, name)(frame)
            )
        np.testing.assert_array_equal(
            await predictor.apredict(frame, method="__call__"), predictor(frame)
        )
        with pytest.raises(AttributeError, match="has no method `transform`"):
            await predictor.apredict(frame, method="transform")
        with pytest.raises(InputError, match="`age`"):
            await predictor.apredict({"age": "x", "income": 1})

    asyncio.run(ask())


@pytest.mark.parametrize(("n_rows", "inline"), [(1, True), (150, True), (10_000, False)])
def test_apredict_binds_many_rows_in_a_thread(
    onnx_conversion: Conversion, n_rows: int, inline: bool
) -> None:
    predictor = Predictor(onnx_conversion)
    rows = Spy(np.tile([2.0, -1.0], (n_rows, 1)))
    answer = asyncio.run(predictor.apredict(rows))
    assert answer.tolist() == ["yes"] * n_rows
    (thread,) = set(rows.threads)
    assert (thread is threading.main_thread()) is inline
    if not inline:
        assert thread.name.startswith("infersdk-linear")
    predictor.close()


def test_apredict_counts_the_rows_of_named_tensors() -> None:
    predictor = infersdk.load(
        graph("(float[N, 2] a, float[N, 2] b) => (float[N, 2] y) { y = Sub(a, b) }")
    )
    for n_rows, inline in ((1, True), (10_000, False)):
        for make in (lambda a, b: {"a": a, "b": b}, lambda a, b: (a, b)):
            a, b = Spy(np.ones((n_rows, 2))), np.zeros((n_rows, 2), np.float32)
            answer = asyncio.run(predictor.apredict(make(a, b)))
            assert answer.shape == (n_rows, 2)
            assert (a.threads[0] is threading.main_thread()) is inline
    predictor.close()


def test_awaited_calls_share_runs(onnx_conversion: Conversion) -> None:
    predictor = Predictor(onnx_conversion, batching=Batching(enabled=True, max_batch_size=8))

    async def ask() -> list[Any]:
        rows = [{"age": float(i), "income": -1.0} for i in range(40)]
        answers = await asyncio.gather(
            *(predictor.apredict(row, method="predict_proba") for row in rows)
        )
        assert [a.tolist() for a in answers] == [predictor.predict_proba(r).tolist() for r in rows]
        return answers

    assert len(asyncio.run(ask())) == 40
    stats = predictor.queue_stats()
    assert stats["batched_rows"] >= 40
    assert 1 < stats["largest_batch"] <= 8
    assert stats["queued_rows"] == stats["running"] == 0
    predictor.close()


@pytest.mark.parametrize(
    "rows",
    [
        ROW,
        [ROW],
        [[2.0, -1.0]],
        (2.0, -1.0),
        [2.0, -1.0],
        np.array([2.0, -1.0]),
        {"age": 2, "income": -1},
    ],
)
def test_apredict_takes_rows_of_every_form(onnx_conversion: Conversion, rows: Any) -> None:
    assert asyncio.run(Predictor(onnx_conversion).apredict(rows)).tolist() == ["yes"]


@pytest.mark.parametrize(
    "rows",
    [{}, None, 3, "text", (1,), [None], {"age": 1}, np.array(3.0), {1, 2}, object()],
)
def test_apredict_refuses_what_the_method_refuses(onnx_conversion: Conversion, rows: Any) -> None:
    predictor = Predictor(onnx_conversion)
    with pytest.raises(InputError) as direct:
        predictor.predict(rows)
    with pytest.raises(InputError) as awaited:
        asyncio.run(predictor.apredict(rows))
    assert str(awaited.value) == str(direct.value)


def test_a_native_call_does_not_block_the_event_loop(
    native_conversion: Conversion, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go = threading.Event()
    real = type(source).predict

    def slow(self: Any, rows: Any) -> Any:
        assert may_go.wait(60)
        return real(self, rows)

    monkeypatch.setattr(type(source), "predict", slow)
    predictor = Predictor(native_conversion)

    async def ask() -> list[Any]:
        calls = [asyncio.ensure_future(predictor.apredict(ROW)) for _ in range(3)]
        await asyncio.sleep(0)
        may_go.set()  # only a loop that is not blocked comes here
        return [answer.tolist() for answer in await asyncio.gather(*calls)]

    assert asyncio.run(ask()) == [["yes"]] * 3
    predictor.close()


def test_a_loop_per_run_may_share_a_predictor(onnx_conversion: Conversion) -> None:
    predictor = Predictor(onnx_conversion, batching=Batching(enabled=True))
    for _ in range(2):
        assert asyncio.run(predictor.apredict(ROW)).tolist() == ["yes"]
    predictor.close()
    with pytest.raises(ClosedError):
        asyncio.run(predictor.apredict(ROW))


# -- real frameworks --------------------------------------------------------------------------------------------


def test_a_real_estimator_under_the_native_plan(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression

    from infersdk.convert import sklearn as sklearn_converter

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise ConversionError("no exact graph")

    monkeypatch.setattr(sklearn_converter, "to_onnx", refuse)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    model = LogisticRegression().fit(X, np.where(X[:, 0] > 0, "up", "down"))
    predictor = infersdk.load(model, example=X)
    assert predictor.plan.kind == "native"
    names = [field.name for field in predictor.signature.fields]
    forms = [X[:5], X[:5].tolist(), [dict(zip(names, row, strict=True)) for row in X[:5].tolist()]]
    for method in predictor.signature.methods:
        expected = getattr(model, method.name)(X[:5])
        for rows in forms:
            np.testing.assert_array_equal(getattr(predictor, method.name)(rows), expected)
        np.testing.assert_array_equal(getattr(predictor, method.name)(X[0]), expected[:1])
    other = pickle.loads(pickle.dumps(predictor))
    np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
    pytest.importorskip("skops")
    opened = infersdk.load(predictor.save(tmp_path / "native.onnx"))
    np.testing.assert_array_equal(opened.predict_proba(X), model.predict_proba(X))


def test_what_no_converter_knows_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="object"):
        infersdk.load(object())


def test_a_converted_model_is_not_kept_alive() -> None:
    sklearn_linear = pytest.importorskip("sklearn.linear_model")
    X = np.eye(4)
    model = sklearn_linear.LinearRegression().fit(X, [1.0, 2.0, 3.0, 4.0])
    gone = weakref.ref(model)
    predictor = infersdk.load(model, example=X)
    expected = model.predict(X)
    del model
    gc.collect()
    assert gone() is None
    np.testing.assert_allclose(predictor.predict(X), expected)
    assert pickle.loads(pickle.dumps(predictor)).name == "LinearRegression"


def test_the_short_rows_of_an_example_are_measured() -> None:
    """Where rows are filled up to the longest, long ones would hide what a batch gains."""

    class Lengths:
        def bind(self, rows: list[str]) -> Any:
            return Bound([np.zeros((len(rows), max(map(len, rows))), np.int64)], len(rows))

    predictor = object.__new__(Predictor)
    predictor.__dict__["_binders"] = {"main": Lengths()}
    texts = ["aaaaaaaa", "a", "aaaa", "aa", "aaaaa", "aaa", "aaaaaa", "aaaaaaa"]
    assert [texts[i] for i in predictor._shorter_rows(texts)] == ["a", "aa"]
    assert predictor._shorter_rows(["a"]).tolist() == [0]
