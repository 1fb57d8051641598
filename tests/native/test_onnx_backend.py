"""What onnxruntime's Python API runs, a Session runs too, with identical outputs.

The models are those of the onnx package's own backend tests: nearly two thousand of single nodes, which it
makes up in Python, and some hundred of its data folder. Python's `InferenceSession`, with the same options,
is the judge of every one; where it takes no array of a dtype (bfloat16, 8 bits and fewer), the outputs that
the case itself expects are.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from infersdk._native import Session
from infersdk.errors import InputError, SessionError

N_SHARDS = 6

DATA = Path(onnx.__file__).parent / "backend/test/data"

RANDOM = {
    "Bernoulli": "draws from a generator that the session seeds",
    "Multinomial": "draws from a generator that the session seeds",
    "RandomNormal": "draws from a generator that the session seeds",
    "RandomNormalLike": "draws from a generator that the session seeds",
    "RandomUniform": "draws from a generator that the session seeds",
    "RandomUniformLike": "draws from a generator that the session seeds",
}
RANDOM_CASES = {
    "test_training_dropout": "draws its mask anew in each run",
    "test_training_dropout_mask": "draws its mask anew in each run",
    "test_training_dropout_default": "draws its mask anew in each run",
    "test_training_dropout_default_mask": "draws its mask anew in each run",
}

# numpy_helper reads those into dtypes of ml_dtypes, which onnxruntime's Python API does not know.
FOREIGN_TO_PYTHON = frozenset(
    {
        "bfloat16",
        "float4_e2m1fn",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
        "int2",
        "int4",
        "uint2",
        "uint4",
    }
)


@dataclass(frozen=True)
class Case:
    name: str
    model: bytes
    random: bool
    data_sets: tuple[tuple[list[Any], list[Any]], ...]


def _value(item: Any) -> Any:
    """A value of a test case as the Python APIs take it."""
    if isinstance(item, onnx.TensorProto):
        return numpy_helper.to_array(item)
    if isinstance(item, (np.generic, int, float, str)):
        return np.asarray(item)
    return item


def _case(name: str, model: onnx.ModelProto, data_sets: Any) -> Case:
    ops = {node.op_type for node in model.graph.node}
    read = tuple(
        ([_value(item) for item in _listed(inputs)], [_value(item) for item in _listed(outputs)])
        for inputs, outputs in data_sets
    )
    random = name in RANDOM_CASES or not ops.isdisjoint(RANDOM)
    return Case(name, model.SerializeToString(), random, read)


def _listed(values: Any) -> list[Any]:
    return list(values.values()) if isinstance(values, dict) else list(values)


@pytest.fixture(scope="module")
def node_cases() -> list[Case]:
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cases of overflow and of division by zero
        found = load_model_tests(kind="node")
    return [_case(item.name, item.model, item.data_sets) for item in found]


def _read(path: Path, kind: onnx.TypeProto) -> Any:
    content = path.read_bytes()
    form = kind.WhichOneof("value")
    if form == "tensor_type":
        return numpy_helper.to_array(onnx.TensorProto.FromString(content))
    if form == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(content))
    return numpy_helper.to_optional(onnx.OptionalProto.FromString(content))


def _stored_cases(folder: str) -> Iterator[Case]:
    for path in sorted((DATA / folder).glob("*/model.onnx")):
        model = onnx.load(path)
        initialized = {item.name for item in model.graph.initializer}
        inputs = [item for item in model.graph.input if item.name not in initialized]
        data_sets = [
            (
                [_read(data / f"input_{i}.pb", item.type) for i, item in enumerate(inputs)],
                [],
            )
            for data in sorted(path.parent.glob("test_data_set_*"))
        ]
        yield _case(path.parent.name, model, data_sets)


@pytest.fixture(scope="module")
def onnxruntime() -> Any:
    # Its telemetry thread would outlive the module.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime
    onnxruntime.set_default_logger_severity(4)
    return onnxruntime


def _reference(onnxruntime: Any, model: bytes, level: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.graph_optimization_level = {
        "all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
        "off": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
    }[level]
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def difference(ours: Any, theirs: Any, *, values: bool = True) -> str | None:
    """What distinguishes two outputs, bit for bit; None where nothing does."""
    if isinstance(theirs, np.ndarray):
        if not isinstance(ours, np.ndarray):
            return f"{type(ours).__name__} for an array"
        if ours.dtype != theirs.dtype or ours.shape != theirs.shape:
            return f"{ours.dtype} {ours.shape} for {theirs.dtype} {theirs.shape}"
        if not values:
            return None
        if theirs.dtype == object:
            return None if ours.tolist() == theirs.tolist() else "other strings"
        if ours.tobytes() != theirs.tobytes() and not _equal(ours, theirs):
            return f"other values: {ours.ravel()[:5]} for {theirs.ravel()[:5]}"
        return None
    if type(ours) is not type(theirs):
        return f"{type(ours).__name__} for {type(theirs).__name__}"
    if isinstance(theirs, list):
        if len(ours) != len(theirs):
            return f"{len(ours)} items for {len(theirs)}"
        found = (difference(a, b, values=values) for a, b in zip(ours, theirs, strict=True))
        return next((text for text in found if text), None)
    return None if ours == theirs else f"{ours!r} for {theirs!r}"


def _equal(ours: Any, theirs: Any) -> bool:
    """Whether arrays are equal apart from the bits of their NaNs."""
    if ours.dtype.kind != "V" and ours.dtype.name not in FOREIGN_TO_PYTHON:
        return bool(np.array_equal(ours, theirs, equal_nan=ours.dtype.kind in "fc"))
    return bool(np.array_equal(ours.astype(np.float64), theirs.astype(np.float64), equal_nan=True))


def _foreign(case: Case) -> bool:
    values = [item for pair in case.data_sets for side in pair for item in side]
    return any(str(getattr(item, "dtype", "")) in FOREIGN_TO_PYTHON for item in values)


def _compare(onnxruntime: Any, case: Case, level: str) -> tuple[str, list[str]]:
    """Run one case both ways: what came of it, and the complaints."""
    try:
        theirs = _reference(onnxruntime, case.model, level)
    except Exception:
        theirs = None
    try:
        ours = Session(case.model, name=case.name, graph_optimization=level)
    except SessionError as error:
        if theirs is not None:
            return "refused", [f"load: {error}"]
        return "refused by both", [] if case.name in str(error) else [f"message: {error}"]
    if theirs is None:
        return "loaded", ["onnxruntime refuses to load it"]
    inputs = [value.name for value in theirs.get_inputs()]
    outputs = [value.name for value in theirs.get_outputs()]
    complaints = []
    if [spec.name for spec in ours.inputs] != inputs:
        complaints.append("other inputs")
    if [spec.name for spec in ours.outputs] != outputs:
        complaints.append("other outputs")
    verdict = "equal"
    for given, expected in case.data_sets:
        feed = dict(zip(inputs, given, strict=True))
        try:
            reference = theirs.run(None, feed)
        except Exception as error:
            if _foreign(case):
                reference, verdict = expected, "equal to the expectation"
            else:
                verdict = "run refused by both"
                try:
                    ours.run(feed)
                    complaints.append(f"onnxruntime refuses to run it: {error}")
                except (InputError, SessionError):
                    pass
                continue
        # The first run takes the general way, later ones the hot way where there is one.
        for attempt in range(3):
            answer = ours.run(feed)
            complaints += [
                f"run {attempt}, {name}: {text}"
                for name, wanted in zip(outputs, reference, strict=True)
                if (text := difference(answer[name], wanted, values=not case.random))
            ]
        ordered = ours.run_ordered(given)
        complaints += [
            f"run_ordered, {name}: {text}"
            for name, got, wanted in zip(outputs, ordered, reference, strict=True)
            if (text := difference(got, wanted, values=not case.random))
        ]
    return verdict, complaints


@pytest.mark.parametrize("level", ["all", pytest.param("off", marks=pytest.mark.slow)])
@pytest.mark.parametrize("shard", range(N_SHARDS))
def test_node_cases_run_as_in_python(
    node_cases: list[Case], onnxruntime: Any, shard: int, level: str
) -> None:
    verdicts: Counter[str] = Counter()
    failures = {}
    for case in node_cases[shard::N_SHARDS]:
        verdict, complaints = _compare(onnxruntime, case, level)
        verdicts[verdict] += 1
        if complaints:
            failures[case.name] = complaints
    assert not failures
    # Most run: a loader that finds nothing, or a Session that refuses all, is no success.
    assert verdicts["equal"] > sum(verdicts.values()) / 2, verdicts


def test_dtypes_unknown_to_python_were_among_the_cases(
    node_cases: list[Case], onnxruntime: Any
) -> None:
    judged = [_compare(onnxruntime, case, "all")[0] for case in node_cases if _foreign(case)]
    assert judged.count("equal to the expectation") > 0


@pytest.mark.parametrize("folder", ["simple", "pytorch-converted", "pytorch-operator"])
def test_stored_cases_run_as_in_python(onnxruntime: Any, folder: str) -> None:
    verdicts: Counter[str] = Counter()
    failures = {}
    for case in _stored_cases(folder):
        verdict, complaints = _compare(onnxruntime, case, "all")
        verdicts[verdict] += 1
        if complaints:
            failures[case.name] = complaints
    assert not failures
    assert verdicts["equal"] > sum(verdicts.values()) / 2, verdicts


# The other light models (VGG, AlexNet, ...) have the same operators and up to 550 MB of weights.
@pytest.mark.parametrize("name", ["densenet121", "inception_v1", "shufflenet", "squeezenet"])
def test_whole_networks_run_as_in_python(onnxruntime: Any, name: str) -> None:
    model = (DATA / "light" / f"light_{name}.onnx").read_bytes()
    theirs = _reference(onnxruntime, model, "all")
    ours = Session(model, name=name)
    (spec,) = ours.inputs
    rng = np.random.default_rng(0)
    image = rng.normal(size=spec.shape).astype(np.float32)
    (wanted,) = theirs.run(None, {spec.name: image})
    for _ in range(2):
        (got,) = ours.run_ordered([image])
        assert difference(got, wanted) is None
