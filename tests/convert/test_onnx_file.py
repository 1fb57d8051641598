"""Models that are ONNX already: what is recognized, what is read, and what is refused."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import infersdk
from infersdk.convert import onnx_file as converter
from infersdk.convert.conversion import convert_model
from infersdk.errors import ArtifactError, ConversionError, UnsupportedModelError
from infersdk.types import MapSpec, Method, OptionalSpec, SequenceSpec, TensorSpec

WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3) / 8


def tensor(name, dtype, shape):
    return helper.make_tensor_value_info(name, dtype, shape)


def model_of(nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


@pytest.fixture
def linear():
    """``y = x @ w``, the weights listed as an input too, as IR versions before 4 ask."""
    return model_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [tensor("x", TensorProto.FLOAT, ["batch", 4]), tensor("w", TensorProto.FLOAT, [4, 3])],
        [tensor("y", TensorProto.FLOAT, [None, 3])],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )


@pytest.fixture
def path(linear, tmp_path):
    file = tmp_path / "linear.onnx"
    onnx.save(linear, file)
    return file


@pytest.fixture
def external(linear, tmp_path):
    file = tmp_path / "external.onnx"
    # save_model() moves the weights out of the model that it is given.
    onnx.save_model(
        copy.deepcopy(linear),
        file,
        save_as_external_data=True,
        location="external.data",
        size_threshold=0,
    )
    return file


def test_paths_bytes_and_protos_are_recognized(linear):
    for model in ("a/b.onnx", Path("B.ONNX"), b"", linear):
        assert converter.can_convert(model)
    for model in ("model.pt", Path("onnx"), bytearray(), None, object(), linear.graph):
        assert not converter.can_convert(model)


def test_recognizing_imports_no_onnx():
    code = (
        "import sys\n"
        "from infersdk.convert import onnx_file\n"
        "assert onnx_file.can_convert('m.onnx') and not onnx_file.can_convert(object())\n"
        "assert 'onnx' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_form_of_a_model_has_the_same_signature(linear, path, external):
    forms = [linear, linear.SerializeToString(), path, str(path), external]
    signatures = [converter.infer_signature(form) for form in forms]
    first = signatures[0]
    assert first.inputs == (TensorSpec("x", "float32", ("batch", 4)),)
    assert first.outputs == (TensorSpec("y", "float32", (None, 3)),)
    assert first.methods == (Method("predict", ("y",)),)
    assert first.container == "tensors"
    assert all(signature == first for signature in signatures)


def test_several_outputs_are_a_dict():
    model = model_of(
        [helper.make_node("Identity", ["x"], ["a"]), helper.make_node("Neg", ["x"], ["b"])],
        [tensor("x", TensorProto.DOUBLE, None)],
        [tensor("a", TensorProto.DOUBLE, None), tensor("b", TensorProto.DOUBLE, None)],
    )
    signature = converter.infer_signature(model)
    assert signature.inputs == (TensorSpec("x", "float64", None),)
    assert signature.methods == (Method("predict", ("a", "b"), form="dict", keys=("a", "b")),)


def test_sequences_maps_and_optionals_are_described():
    of_float = helper.make_tensor_type_proto(TensorProto.FLOAT, [2])
    scores = helper.make_map_type_proto(TensorProto.INT64, of_float)
    values = {
        "sequence": helper.make_sequence_type_proto(of_float),
        "maps": helper.make_sequence_type_proto(scores),
        "optional": helper.make_optional_type_proto(of_float),
        "text": helper.make_tensor_type_proto(TensorProto.STRING, ["N"]),
        "brain": helper.make_tensor_type_proto(TensorProto.BFLOAT16, []),
    }
    infos = [helper.make_value_info(name, kind) for name, kind in values.items()]
    outputs = [helper.make_value_info(f"{name}_out", kind) for name, kind in values.items()]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in values]
    signature = converter.infer_signature(model_of(nodes, infos, outputs))
    element = TensorSpec("", "float32", (2,))
    assert signature.inputs == (
        SequenceSpec("sequence", element),
        SequenceSpec("maps", MapSpec("", "int64", element)),
        OptionalSpec("optional", element),
        TensorSpec("text", "string", ("N",)),
        TensorSpec("brain", "bfloat16", ()),
    )


@pytest.mark.parametrize("form", ["proto", "bytes", "path", "external"])
def test_the_graph_is_copied_with_its_weights(linear, path, external, form):
    model = {
        "proto": linear,
        "bytes": linear.SerializeToString(),
        "path": path,
        "external": external,
    }[form]
    written = converter.to_onnx(model, converter.infer_signature(model))
    graph, notes = written.graph, written.notes
    assert notes == ()
    assert graph is not model
    (weights,) = graph.graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(weights), WEIGHTS)
    graph.graph.name = "changed"
    assert linear.graph.name == "graph"


def test_another_opset_is_refused(linear):
    signature = converter.infer_signature(linear)
    assert converter.to_onnx(linear, signature, opset=18).graph.opset_import[0].version == 18
    with pytest.raises(UnsupportedModelError, match="Expected opset 21, got a model of opset 18"):
        converter.to_onnx(linear, signature, opset=21)


def test_external_data_too_large_for_memory_are_refused(external, monkeypatch):
    monkeypatch.setattr(converter, "_LARGEST_BYTES", 100)
    with pytest.raises(ConversionError, match="Open it by its path"):
        converter.to_onnx(external, converter.infer_signature(external))


def test_external_data_outside_the_folder_are_refused(linear, tmp_path):
    (weights,) = linear.graph.initializer
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../secret")
    file = tmp_path / "model.onnx"
    file.write_bytes(linear.SerializeToString())
    with pytest.raises(ArtifactError, match="secret"):
        converter.infer_signature(file)
    with pytest.raises(ArtifactError, match="secret"):
        converter.to_onnx(linear, converter.infer_signature(linear))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04 a zip file",
        b"\x00" * 64,
        b"not a model at all",
        onnx.ModelProto().SerializeToString(),
    ],
    ids=["empty", "zip", "zeros", "text", "no graph"],
)
def test_garbage_is_no_model(data, tmp_path):
    with pytest.raises(ArtifactError):
        converter.infer_signature(data)
    file = tmp_path / "garbage.onnx"
    file.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"garbage\.onnx"):
        converter.infer_signature(file)


def test_a_truncated_file_is_no_model(path):
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ArtifactError, match=r"linear\.onnx"):
        converter.infer_signature(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"missing\.onnx"):
        converter.infer_signature(tmp_path / "missing.onnx")


def test_incomplete_protos_are_refused(linear):
    with pytest.raises(ArtifactError, match="with a graph and an output"):
        converter.infer_signature(onnx.ModelProto())
    del linear.opset_import[:]
    with pytest.raises(ArtifactError, match="an opset"):
        converter.to_onnx(linear, converter.infer_signature)


def test_there_is_no_source_to_ask(linear):
    with pytest.raises(ConversionError, match="no source framework"):
        converter.call(linear, "predict", np.zeros((1, 4), np.float32))
    rng = np.random.default_rng(0)
    signature = converter.infer_signature(linear)
    assert converter.edge_rows(linear, signature, None, n_rows=3, rng=rng) is None


@pytest.mark.parametrize("form", ["proto", "bytes", "path", "external"])
def test_models_are_served_as_they_are(linear, path, external, form):
    model = {
        "proto": linear,
        "bytes": linear.SerializeToString(),
        "path": str(path),
        "external": external,
    }[form]
    conversion = convert_model(model)
    assert conversion.plan.kind == "onnx"
    assert conversion.parity is None
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    np.testing.assert_allclose(infersdk.load(model).predict(x), x @ WEIGHTS, rtol=1e-5, atol=1e-6)
