"""The TensorFlow converter, judged by TensorFlow itself."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import numpy as np
import pytest

import infersdk
from infersdk import Execution
from infersdk.convert import tensorflow as converter
from infersdk.convert.conversion import convert_model
from infersdk.errors import (
    ArtifactError,
    ConversionError,
    InputError,
    MissingDependencyError,
    UnsupportedModelError,
)

for _package in ("tensorflow", "tf2onnx"):
    if importlib.util.find_spec(_package) is None:
        pytest.skip(f"{_package} is not installed", allow_module_level=True)

# Imported when the first test runs: collecting the tests must not take as long as TensorFlow's import.
tf: Any = None

QUICK = Execution(calibration_s=0.0, threads=1)


@pytest.fixture(autouse=True)
def imported():
    global tf
    import tensorflow as tf


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def linear() -> Any:
    class Linear(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = tf.Variable(normal(4, 3))

        @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="features")])
        def __call__(self, features):
            return features @ self.weights

        @tf.function(
            input_signature=[
                tf.TensorSpec((None, 4), tf.float32, name="features"),
                tf.TensorSpec((None, 1), tf.float32, name="offset"),
            ]
        )
        def score(self, features, offset):
            logits = features @ self.weights + offset
            return {"logits": logits, "best": tf.argmax(logits, axis=1), "same": features}

    return Linear()


def assert_served(model: Any, example: Any, rows: Any, expected: Any) -> infersdk.Predictor:
    """As ONNX, with TensorFlow's own dtypes, shapes and containers."""
    with infersdk.load(model, example=example, execution=QUICK) as served:
        assert served.plan.kind == "onnx", served.plan
        answer = served(rows)
        ours, theirs = tf.nest.flatten(answer), tf.nest.flatten(expected)
        tf.nest.assert_same_structure(answer, expected)
        for mine, other in zip(ours, theirs, strict=True):
            other = other.numpy()
            assert (mine.dtype, mine.shape) == (other.dtype, other.shape)
            np.testing.assert_allclose(mine, other, atol=1e-5)
    return served


def test_a_function_over_variables_and_captured_tensors():
    weights, shift = tf.Variable(normal(4, 3)), tf.constant(normal(3))

    @tf.function
    def score(features):
        return tf.nn.softmax(features @ weights + shift)

    rows = normal(7, 4)
    served = assert_served(score, normal(5, 4, seed=1), rows, score(rows))
    assert str(served.signature.inputs[0]) == "float32 (N, 4)"


def test_a_module_with_several_inputs_and_a_dict_of_outputs():
    model = linear()
    rows = (normal(7, 4), normal(7, 1))
    served = assert_served(model.score, rows, rows, model.score(*rows))
    assert [spec.name for spec in served.signature.inputs] == ["features", "offset"]
    named = {"offset": rows[1], "features": rows[0]}
    assert_served(model.score, named, named, model.score(*rows))


def test_a_concrete_function():
    model = linear()
    rows = {"features": normal(7, 4), "offset": normal(7, 1)}
    assert_served(model.score.get_concrete_function(), rows, rows, model.score(**rows))


def test_a_function_of_one_dict():
    @tf.function
    def total(columns):
        return columns["b"] - columns["a"], columns["a"]

    rows = {"a": normal(5, 2), "b": normal(5, 2, seed=1)}
    assert_served(total, rows, rows, total({key: tf.constant(item) for key, item in rows.items()}))


def test_a_plain_module_takes_numpys_wider_numbers():
    class Plain(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(normal(4, 3))

        def __call__(self, features):
            return features @ self.weights

    model, rows = Plain(), normal(6, 4).astype(np.float64)
    assert_served(model, rows, rows, model(rows.astype(np.float32)))


def test_float64_stays_where_the_function_takes_it():
    @tf.function
    def half(numbers):
        return numbers / 2

    rows = normal(5, 3).astype(np.float64) + 1e-12
    assert_served(half, rows, rows, half(rows))


def test_no_example_is_needed_where_the_inputs_are_declared():
    conversion = convert_model(linear())
    assert conversion.plan.kind == "onnx"
    assert any("made up" in note for note in conversion.plan.notes)


def test_lengths_are_open_where_the_function_leaves_them_open():
    @tf.function(input_signature=[tf.TensorSpec((None, None, 2), tf.float32)])
    def roll(sequence):
        state = tf.zeros_like(sequence[:, 0])
        for step in tf.range(tf.shape(sequence)[1]):
            state = tf.tanh(state + sequence[:, step])
        return state

    rows = normal(3, 11, 2)
    served = assert_served(roll, normal(5, 4, 2), rows, roll(rows))
    assert str(served.signature.inputs[0]) == "float32 (N, length, 2)"


def test_a_branch_on_the_whole_batch_is_no_independent_row():
    @tf.function
    def choose(batch):
        return tf.cond(tf.reduce_sum(batch) > 1000.0, lambda: batch * 2.0, lambda: batch - 1.0)

    rows = normal(5, 4) + 500
    served = assert_served(choose, normal(6, 4), rows, choose(rows))
    assert str(served.signature.inputs[0]) == "float32 (rows, length)"


def test_rows_that_depend_on_each_other_are_found():
    @tf.function
    def centered(rows):
        return rows - tf.reduce_mean(rows, axis=0)

    signature = converter.infer_signature(centered, normal(6, 4))
    assert signature.inputs[0].shape[0] == "rows"


def test_a_table_goes_into_the_graph_and_other_text_does_not():
    pairs = tf.lookup.KeyValueTensorInitializer(["Oslo", "Łódź"], tf.constant([5, 7], tf.int64))
    table = tf.lookup.StaticHashTable(pairs, default_value=-1)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def look_up(city):
        return table.lookup(city)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def lower(city):
        return tf.strings.lower(city)

    rows = np.array(["Oslo", "", "Łódź", "oslo"], dtype=object)
    assert_served(look_up, rows, rows, look_up(rows))
    assert_served(look_up, rows.tolist(), rows.tolist(), look_up(rows))
    with infersdk.load(lower, example=rows, execution=QUICK) as served:
        assert served.plan.kind == "native"
        assert "text" in served.plan.reason
        assert served(rows).tolist() == [item.decode() for item in lower(rows).numpy()]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda rows: {"a": (rows, rows)}, "Give the tensors flat"),
        (lambda rows: rows + tf.random.normal(tf.shape(rows)), "random"),
        (lambda rows: tf.RaggedTensor.from_tensor(rows), "RaggedTensor"),
        (lambda rows: tf.cast(rows, tf.bfloat16), "bfloat16"),
    ],
)
def test_what_no_graph_can_give_is_answered_by_tensorflow(answer, reason):
    with infersdk.load(tf.function(answer), example=normal(4, 3), execution=QUICK) as served:
        assert served.plan.kind == "native"
        assert reason in served.plan.reason
        served(normal(2, 3))


def test_a_function_that_writes_to_variables_is_refused_before_it_is_asked():
    count = tf.Variable(0.0)

    @tf.function
    def counting(rows):
        return rows * count.assign_add(1.0)

    with pytest.raises(UnsupportedModelError, match="writes to variables"):
        convert_model(counting, example=normal(4, 3))
    assert float(count) == 0.0


def test_a_wrong_example_is_refused_in_one_sentence():
    model = linear()
    with pytest.raises(ConversionError, match=r"float32 \(2, 5\)"):
        convert_model(model, example=normal(2, 5))
    with pytest.raises(ConversionError, match=r"Expected 2 inputs \(features, offset\)"):
        convert_model(model.score, example=normal(2, 4))
    with pytest.raises(ConversionError, match="An example is needed"):
        convert_model(tf.function(lambda x: x))


def test_rows_that_do_not_fit_are_refused():
    with (
        infersdk.load(linear(), example=normal(5, 4), execution=QUICK) as served,
        pytest.raises(InputError, match=r"float32 \(N, 4\)"),
    ):
        served(normal(2, 5))


def test_a_missing_exporter_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(MissingDependencyError, match=r"tf2onnx.*infersdk\[tensorflow\]"):
        convert_model(linear(), example=normal(5, 4))


# -- SavedModels -----------------------------------------------------------------------------------


def test_a_saved_model_by_its_path_and_as_an_object(tmp_path):
    model, rows = linear(), normal(7, 4)
    tf.saved_model.save(model, tmp_path / "linear")
    assert converter.can_convert(tmp_path / "linear")
    assert not converter.can_convert(tmp_path)
    for source in (tmp_path / "linear", tf.saved_model.load(tmp_path / "linear")):
        assert_served(source, normal(5, 4, seed=1), rows, model(rows))


def test_a_serving_signature_where_there_is_no_call(tmp_path):
    class Only(tf.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

    model = linear()
    tf.saved_model.save(Only(model), tmp_path / "only", signatures=model.score)
    rows = {"features": normal(7, 4), "offset": normal(7, 1)}
    expected = tf.saved_model.load(tmp_path / "only").signatures["serving_default"](
        **{key: tf.constant(item) for key, item in rows.items()}
    )
    with infersdk.load(tmp_path / "only", example=rows, execution=QUICK) as served:
        assert served.plan.kind == "onnx"
        assert served.name == "only"
        assert [method.name for method in served.signature.methods] == ["serving_default"]
        answer = served.serving_default(rows)
        assert set(answer) == set(expected)
        for key, value in expected.items():
            np.testing.assert_allclose(answer[key], value, atol=1e-6)


def test_a_saved_model_with_nothing_to_call_is_refused(tmp_path):
    empty = tf.Module()
    empty.weights = tf.Variable(1.0)
    tf.saved_model.save(empty, tmp_path / "empty")
    with pytest.raises(UnsupportedModelError, match="neither"):
        convert_model(tmp_path / "empty")


def test_a_damaged_saved_model_is_refused(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"nothing of the kind")
    with pytest.raises(ArtifactError, match="cannot open"):
        convert_model(tmp_path)
