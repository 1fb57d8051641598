"""The model file: what is written is what is read, and whatever was damaged or made up is refused."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import stat
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from infersdk.artifact import Artifact, Provenance, metadata, signature_from_graph
from infersdk.artifact import artifact as artifact_module
from infersdk.artifact.graph import all_tensors
from infersdk.errors import ArtifactError
from infersdk.types import (
    Field,
    Labels,
    MapSpec,
    Method,
    MethodParity,
    OptionalSpec,
    ParityReport,
    Plan,
    SequenceSpec,
    Signature,
    TensorSpec,
)

RNG = np.random.default_rng(7)
WEIGHT = RNG.normal(size=(8, 64)).astype(np.float32)
BIAS = RNG.normal(size=(512,)).astype(np.float32)
ROWS = RNG.normal(size=(5, 8)).astype(np.float32)
PLAN = Plan("onnx", "converted from nothing", ("a note",))
PARITY = ParityReport(
    100,
    20,
    (MethodParity("predict", 1e-7, float("inf"), None, 0, True),),
    1e-4,
    1e-5,
    ("sampled",),
)
PROVENANCE = Provenance(
    "scikit-learn",
    "sklearn.pipeline.Pipeline",
    (("onnx", "1.23.2"), ("scikit-learn", "1.9.1")),
    "0.1.0",
    "2026-11-22T12:00:00Z",
)


def make_model(*, bias_as_floats: bool = False) -> onnx.ModelProto:
    """Two outputs that share a product: `scores` (n, 64), and `gated` through an If with a weight."""
    gate = helper.make_graph(
        [helper.make_node("Add", ["product", "inner"], ["raised"])],
        "raise",
        [],
        [helper.make_tensor_value_info("raised", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(BIAS[:64], "inner")],
    )
    keep = helper.make_graph(
        [helper.make_node("Identity", ["product"], ["kept"])],
        "keep",
        [],
        [helper.make_tensor_value_info("kept", TensorProto.FLOAT, None)],
    )
    bias = (
        helper.make_tensor("bias", TensorProto.FLOAT, [512], BIAS.tolist())
        if bias_as_floats
        else numpy_helper.from_array(BIAS, "bias")
    )
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["rows", "weight"], ["product"]),
            helper.make_node("Sigmoid", ["product"], ["scores"]),
            helper.make_node("ReduceSum", ["bias"], ["total"], keepdims=0),
            helper.make_node(
                "Constant",
                [],
                ["zero"],
                value=helper.make_tensor("z", TensorProto.FLOAT, [], [0.0]),
            ),
            helper.make_node("Greater", ["total", "zero"], ["condition"]),
            helper.make_node("If", ["condition"], ["gated"], then_branch=gate, else_branch=keep),
        ],
        "two_heads",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["N", 8])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 64]),
            helper.make_tensor_value_info("gated", TensorProto.FLOAT, ["N", 64]),
        ],
        [numpy_helper.from_array(WEIGHT, "weight"), bias],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    model.producer_name = "a test"
    model.metadata_props.add(key="author", value="someone")
    return model


def signature_of(model: onnx.ModelProto) -> Signature:
    methods = (Method("predict", ("scores",)), Method("gate", ("gated",), head="gate"))
    return replace(signature_from_graph(model), methods=methods)


def make_artifact(**changes) -> Artifact:
    model = changes.pop("model", None) or make_model()
    values = {
        "signature": signature_of(model),
        "plan": PLAN,
        "parity": PARITY,
        "provenance": PROVENANCE,
        "name": "churn",
    }
    return Artifact(model, **(values | changes))


def run(model: bytes | str, folder: str | None = None, rows=ROWS) -> dict[str, np.ndarray]:
    options = ort.SessionOptions()
    if isinstance(model, bytes) and folder is not None:
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", folder
        )
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    feeds = {value.name: rows for value in session.get_inputs()}
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.fixture(scope="module")
def answers() -> dict[str, np.ndarray]:
    return run(make_model().SerializeToString())


@pytest.fixture(scope="module")
def sealed() -> bytes:
    """The bytes of one written file."""
    model = make_artifact().session_model()
    assert isinstance(model, bytes)
    return model


@pytest.fixture
def external(tmp_path) -> str:
    """Path of a file written with external data."""
    return make_artifact().save(tmp_path / "churn.onnx", external_data_threshold_bytes=0)


def data_files(folder) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.endswith(".onnx.data"))


# -- round trips -------------------------------------------------------------------------------------


def test_everything_written_is_read_back(tmp_path):
    documents = {"profile": {"version": 3, "bins": [1, 2.5, None, "x"]}}
    artifact = make_artifact(documents=documents)
    path = artifact.save(tmp_path / "churn.onnx")
    opened = Artifact.open(path)
    assert opened.signature == artifact.signature
    assert opened.plan == PLAN
    assert opened.parity == PARITY
    assert opened.provenance == PROVENANCE
    assert opened.name == "churn"
    assert opened.documents == documents
    assert opened.digest == artifact.digest
    assert opened.size_bytes == artifact.size_bytes == os.path.getsize(path)
    assert opened.path == path
    assert artifact.path is None


def test_a_written_file_is_an_ordinary_onnx_model(tmp_path, answers):
    path = make_artifact().save(tmp_path / "churn.onnx")
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert model.producer_name == "a test"
    assert {entry.key: entry.value for entry in model.metadata_props}["author"] == "someone"
    for name, value in run(path).items():
        np.testing.assert_array_equal(value, answers[name])


def test_metadata_are_json_with_a_version(sealed):
    entries = {e.key: e.value for e in onnx.load_from_string(sealed).metadata_props}
    documents = {
        key: json.loads(entries[key])
        for key in entries
        if key.startswith("infersdk.") and key != "infersdk.digest"
    }
    assert set(documents) == {
        f"infersdk.{key}" for key in ("model", "signature", "plan", "parity", "provenance")
    }
    assert all(document["version"] == 1 for document in documents.values())


def test_the_same_content_gives_the_same_bytes():
    assert make_artifact().session_model() == make_artifact().session_model()


def test_reading_from_bytes_equals_reading_from_a_file(tmp_path, sealed):
    path = tmp_path / "churn.onnx"
    path.write_bytes(sealed)
    opened, held = Artifact.open(path), Artifact.from_bytes(sealed)
    assert held.signature == opened.signature
    assert held.digest == opened.digest
    assert held.session_model() == opened.session_model() == sealed
    assert held.path is None


def test_a_model_given_as_bytes_makes_the_same_artifact():
    model = make_model()
    from_bytes = Artifact(
        model.SerializeToString(),
        signature=signature_of(model),
        plan=PLAN,
        parity=PARITY,
        provenance=PROVENANCE,
        name="churn",
    )
    assert from_bytes.digest == make_artifact().digest


def test_the_given_model_is_not_changed(tmp_path):
    model = make_model()
    before = model.SerializeToString()
    artifact = make_artifact(model=model)
    artifact.save(tmp_path / "a.onnx", external_data_threshold_bytes=0)
    assert model.SerializeToString() == before


def test_metadata_of_an_earlier_conversion_are_replaced(sealed):
    model = onnx.load_from_string(sealed)
    again = make_artifact(model=model, name="renamed")
    opened = Artifact.from_bytes(again.session_model())
    assert opened.name == "renamed"
    keys = [entry.key for entry in onnx.load_from_string(again.session_model()).metadata_props]
    assert len(keys) == len(set(keys))


def test_numpy_scalars_in_labels_are_written_as_numbers():
    model = make_model()
    labels = Labels(tuple(np.array([3, 5])), "int64")
    methods = (Method("predict", ("scores",), labels=labels),)
    signature = replace(signature_of(model), methods=methods)
    opened = Artifact.from_bytes(make_artifact(model=model, signature=signature).session_model())
    assert opened.signature.methods[0].labels.values == (3, 5)


@pytest.mark.parametrize("location", ["bytes", "file", "external"])
def test_an_artifact_survives_pickling(tmp_path, answers, location):
    artifact = make_artifact()
    if location != "bytes":
        threshold = 0 if location == "external" else None
        path = artifact.save(tmp_path / "a.onnx", external_data_threshold_bytes=threshold)
        artifact = Artifact.open(path)
    copy = pickle.loads(pickle.dumps(artifact))
    assert copy.digest == artifact.digest
    assert copy.signature == artifact.signature
    np.testing.assert_array_equal(run(copy.session_model())["scores"], answers["scores"])
    pruned = run(copy.session_model("gate"), copy.external_folder)
    np.testing.assert_array_equal(pruned["gated"], answers["gated"])


def test_repr_names_the_model_and_its_methods():
    text = repr(make_artifact())
    assert text.startswith("<Artifact churn: predict, gate;")
    assert "bytes" in text


def test_opening_executes_nothing_and_needs_no_runtime(tmp_path):
    path = make_artifact().save(tmp_path / "churn.onnx")
    script = (
        "import sys; from infersdk.artifact import Artifact; "
        f"Artifact.open({path!r}); "
        "bad = {'onnxruntime', 'pickle', 'skops', 'sklearn', 'torch'} & set(sys.modules); "
        "import numpy; bad.discard('pickle'); "  # numpy itself imports pickle
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_digest_is_the_sha256_of_what_is_sealed(tmp_path, sealed):
    expected = hashlib.sha256(sealed[: -metadata.TRAILER_BYTES]).hexdigest()
    assert sealed.endswith(expected.encode())
    assert Artifact.from_bytes(sealed).digest == expected
    assert Artifact.from_bytes(sealed, verify=False).digest == expected
    plain = make_model().SerializeToString()
    (tmp_path / "plain.onnx").write_bytes(plain)
    assert Artifact.from_bytes(plain).digest == hashlib.sha256(plain).hexdigest()
    assert Artifact.open(tmp_path / "plain.onnx").digest == hashlib.sha256(plain).hexdigest()


# -- signatures ----------------------------------------------------------------------------------------


def test_a_signature_is_read_from_the_graph():
    signature = signature_from_graph(make_model())
    assert signature.inputs == (TensorSpec("rows", "float32", ("N", 8)),)
    assert signature.outputs == (
        TensorSpec("scores", "float32", ("N", 64)),
        TensorSpec("gated", "float32", ("N", 64)),
    )
    assert signature.methods == (
        Method("predict", ("scores", "gated"), form="dict", keys=("scores", "gated")),
    )
    assert signature.container == "tensors"


def test_initializers_listed_as_inputs_are_no_inputs():
    model = make_model()
    model.graph.input.append(helper.make_tensor_value_info("weight", TensorProto.FLOAT, [8, 64]))
    assert [spec.name for spec in signature_from_graph(model).inputs] == ["rows"]


def test_sequences_maps_and_optionals_are_read():
    tensor = helper.make_tensor_type_proto(TensorProto.FLOAT, ["N"])
    types = {
        "seq": helper.make_sequence_type_proto(tensor),
        "opt": helper.make_optional_type_proto(tensor),
        "map": helper.make_map_type_proto(TensorProto.STRING, tensor),
        "zip": helper.make_sequence_type_proto(
            helper.make_map_type_proto(TensorProto.INT64, tensor)
        ),
    }
    infos = [helper.make_value_info(name, kind) for name, kind in types.items()]
    graph = helper.make_graph([], "kinds", infos, infos[:1])
    signature = signature_from_graph(helper.make_model(graph))
    inner = TensorSpec("", "float32", ("N",))
    assert signature.inputs == (
        SequenceSpec("seq", inner),
        OptionalSpec("opt", inner),
        MapSpec("map", "string", inner),
        SequenceSpec("zip", MapSpec("", "int64", inner)),
    )
    assert signature.methods == (Method("predict", ("seq",)),)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [(None, None), ([], ()), ([None, 3], (None, 3)), (["batch", -1], ("batch", None))],
)
def test_shapes_are_read_as_they_are(shape, expected):
    info = helper.make_tensor_value_info("x", TensorProto.STRING, shape)
    graph = helper.make_graph([], "g", [info], [info])
    assert signature_from_graph(helper.make_model(graph)).inputs == (
        TensorSpec("x", "string", expected),
    )


@pytest.mark.parametrize("name", [n for n in TensorProto.DataType.keys() if n != "UNDEFINED"])  # noqa: SIM118
def test_every_element_type_has_a_name(name):
    info = helper.make_tensor_value_info("x", TensorProto.DataType.Value(name), ["N"])
    graph = helper.make_graph([], "g", [info], [info])
    spec = signature_from_graph(helper.make_model(graph)).inputs[0]
    expected = {"FLOAT": "float32", "DOUBLE": "float64", "STRING": "string", "BFLOAT16": "bfloat16"}
    if name in expected:
        assert spec.dtype == expected[name]
    else:
        assert spec.dtype.replace("_", "").startswith(name.lower().replace("_", ""))


def test_missing_types_of_outputs_are_inferred():
    model = make_model()
    model.graph.output[0].ClearField("type")
    assert signature_from_graph(model).outputs[0].dtype == "float32"


def test_an_opaque_type_is_refused():
    info = onnx.ValueInfoProto(name="x")
    info.type.sparse_tensor_type.elem_type = TensorProto.FLOAT
    graph = helper.make_graph([], "g", [info], [info])
    with pytest.raises(ArtifactError, match="type of `x`, got sparse_tensor_type"):
        signature_from_graph(helper.make_model(graph))


def test_a_type_nested_without_end_is_refused():
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    for _ in range(30):
        kind = helper.make_sequence_type_proto(kind)
    info = helper.make_value_info("x", kind)
    with pytest.raises(ArtifactError, match="nested more than"):
        signature_from_graph(helper.make_model(helper.make_graph([], "g", [info], [info])))


def changed(signature: Signature, **changes) -> Signature:
    return replace(signature, **changes)


WRONG_SIGNATURES = {
    "another input name": (
        {"inputs": (TensorSpec("other", "float32", ("N", 8)),)},
        "expected the graph's inputs",
    ),
    "another input dtype": (
        {"inputs": (TensorSpec("rows", "float64", ("N", 8)),)},
        "expected the graph's inputs",
    ),
    "an output less": (
        {"outputs": (TensorSpec("scores", "float32", ("N", 64)),)},
        "expected the graph's outputs",
    ),
    "no method": ({"methods": ()}, "has no method"),
    "a method twice": (
        {"methods": (Method("predict", ("scores",)), Method("predict", ("gated",)))},
        "a method twice",
    ),
    "an unknown output": (
        {"methods": (Method("predict", ("labels",)),)},
        "needs outputs of the graph",
    ),
    "a method without outputs": (
        {"methods": (Method("predict", ()),)},
        "needs outputs of the graph",
    ),
    "a field of no input": (
        {"fields": (Field("age", "float", "columns"),)},
        "field `age` fills the input 'columns'",
    ),
    "a field past the width": (
        {"fields": (Field("age", "float", "rows", column=8),)},
        "fills column 8 of 'rows', which has 8",
    ),
    "a negative column": (
        {"fields": (Field("age", "float", "rows", column=-1),)},
        "fills column -1",
    ),
}


@pytest.mark.parametrize(("changes", "message"), WRONG_SIGNATURES.values(), ids=WRONG_SIGNATURES)
def test_a_signature_that_does_not_fit_the_graph_is_refused(changes, message):
    model = make_model()
    with pytest.raises(ArtifactError, match=message):
        make_artifact(model=model, signature=changed(signature_of(model), **changes))


@pytest.mark.parametrize(("changes", "message"), WRONG_SIGNATURES.values(), ids=WRONG_SIGNATURES)
def test_a_file_whose_signature_does_not_fit_is_refused(changes, message):
    signature = changed(signature_of(make_model()), **changes)
    with pytest.raises(ArtifactError, match=message):
        Artifact.from_bytes(forge({"signature": signature.to_json()}))


def test_a_signature_may_know_shapes_better_than_the_graph():
    model = make_model()
    inputs = (TensorSpec("rows", "float32", ("batch", 8)),)
    artifact = make_artifact(model=model, signature=replace(signature_of(model), inputs=inputs))
    assert Artifact.from_bytes(artifact.session_model()).signature.inputs == inputs


# -- heads ---------------------------------------------------------------------------------------------


def test_heads_come_in_order_of_first_use():
    assert make_artifact().heads == ("main", "gate")


@pytest.mark.parametrize("as_external", [False, True])
def test_each_head_answers_as_the_whole_model(tmp_path, answers, as_external):
    artifact = make_artifact()
    if as_external:
        artifact = Artifact.open(
            artifact.save(tmp_path / "a.onnx", external_data_threshold_bytes=0)
        )
    for head, output in (("main", "scores"), ("gate", "gated")):
        result = run(artifact.session_model(head), artifact.external_folder)
        assert list(result) == [output]
        np.testing.assert_array_equal(result[output], answers[output])


def test_a_head_holds_only_what_it_needs():
    artifact = make_artifact()
    main = onnx.load_from_string(artifact.session_model("main"))
    onnx.checker.check_model(main, full_check=True)
    assert [node.op_type for node in main.graph.node] == ["MatMul", "Sigmoid"]
    assert [tensor.name for tensor in main.graph.initializer] == ["weight"]
    gate = onnx.load_from_string(artifact.session_model("gate"))
    onnx.checker.check_model(gate, full_check=True)
    # The If reads `product` from inside its branches only.
    assert [node.op_type for node in gate.graph.node] == [
        "MatMul",
        "ReduceSum",
        "Constant",
        "Greater",
        "If",
    ]


def test_a_head_keeps_inputs_that_it_does_not_read():
    graph = helper.make_graph(
        [helper.make_node("Abs", ["a"], ["x"]), helper.make_node("Neg", ["b"], ["y"])],
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N"]) for n in ("a", "b")],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N"]) for n in ("x", "y")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    methods = (Method("p", ("x",)), Method("q", ("y",), head="second"))
    artifact = make_artifact(
        model=model, signature=replace(signature_from_graph(model), methods=methods)
    )
    for head in artifact.heads:
        pruned = onnx.load_from_string(artifact.session_model(head))
        assert [info.name for info in pruned.graph.input] == ["a", "b"]


def test_a_single_head_is_the_whole_model(sealed):
    artifact = Artifact.from_bytes(sealed)
    whole = make_artifact(signature=signature_from_graph(make_model()))
    assert whole.session_model("main") is whole.session_model()
    assert artifact.session_model("main") is artifact.session_model("main")


def test_an_unknown_head_is_refused():
    with pytest.raises(
        ArtifactError, match=r"Expected one of the heads \('main', 'gate'\), got 'raw'"
    ):
        make_artifact().session_model("raw")


def test_heads_can_be_asked_from_many_threads():
    artifact = make_artifact()
    results = []
    barrier = threading.Barrier(4)

    def ask():
        barrier.wait()
        results.append(artifact.session_model("gate"))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert len({id(result) for result in results}) == 1


# -- other tools' files ----------------------------------------------------------------------------------


def test_a_plain_onnx_file_opens(tmp_path, answers):
    path = tmp_path / "plain.onnx"
    onnx.save(make_model(), path)
    artifact = Artifact.open(path)
    assert artifact.signature == signature_from_graph(make_model())
    assert artifact.plan == Plan("onnx", "the model is ONNX already")
    assert artifact.parity is None
    assert artifact.provenance is None
    assert artifact.name is None
    np.testing.assert_array_equal(run(artifact.session_model())["scores"], answers["scores"])


def test_a_plain_onnx_file_is_sealed_when_saved(tmp_path):
    path = tmp_path / "plain.onnx"
    onnx.save(make_model(), path)
    opened = Artifact.open(Artifact.open(path).save(tmp_path / "sealed.onnx"))
    assert opened.signature == signature_from_graph(make_model())
    damaged = bytearray((tmp_path / "sealed.onnx").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    with pytest.raises(ArtifactError):
        Artifact.from_bytes(bytes(damaged))


def test_external_data_of_another_tool_are_used(tmp_path, answers):
    path = tmp_path / "plain.onnx"
    onnx.save(make_model(), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    artifact = Artifact.open(path)
    assert artifact.session_model() == str(path)
    assert artifact.external_folder == str(tmp_path)
    assert artifact.size_bytes == path.stat().st_size + (tmp_path / "w.bin").stat().st_size
    np.testing.assert_array_equal(run(artifact.session_model())["gated"], answers["gated"])


def test_many_data_files_become_one(tmp_path, answers):
    source = tmp_path / "source"
    source.mkdir()
    onnx.save(
        make_model(),
        source / "m.onnx",
        save_as_external_data=True,
        all_tensors_to_one_file=False,
        size_threshold=0,
        convert_attribute=True,
    )
    assert len(list(source.iterdir())) > 3
    target = tmp_path / "target"
    target.mkdir()
    path = Artifact.open(source / "m.onnx").save(target / "m.onnx")
    shutil.rmtree(source)
    assert len(data_files(target)) == 1
    opened = Artifact.open(path)
    for name, value in run(opened.session_model()).items():
        np.testing.assert_array_equal(value, answers[name])


@pytest.mark.parametrize("with_folder", [True, False])
def test_bytes_with_external_data_need_their_folder(tmp_path, answers, with_folder):
    onnx.save(make_model(), tmp_path / "m.onnx", save_as_external_data=True, size_threshold=0)
    data = (tmp_path / "m.onnx").read_bytes()
    if not with_folder:
        with pytest.raises(ArtifactError, match="no folder was given"):
            Artifact.from_bytes(data)
        return
    artifact = Artifact.from_bytes(data, external_folder=tmp_path)
    result = run(artifact.session_model(), artifact.external_folder)
    np.testing.assert_array_equal(result["scores"], answers["scores"])


# -- external data -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias_as_floats", [False, True])
def test_large_weights_go_to_one_aligned_file(tmp_path, answers, bias_as_floats):
    artifact = make_artifact(model=make_model(bias_as_floats=bias_as_floats))
    path = artifact.save(tmp_path / "churn.onnx", external_data_threshold_bytes=1000)
    assert len(data_files(tmp_path)) == 1
    model = onnx.load(path, load_external_data=False)
    moved = [tensor for tensor, _ in all_tensors(model) if tensor.external_data]
    assert {tensor.name for tensor in moved} == {"weight", "bias"}
    for tensor in moved:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        assert int(entries["offset"]) % 4096 == 0
    assert not any(tensor.raw_data or tensor.float_data for tensor in moved)
    opened = Artifact.open(path)
    assert opened.session_model() == path
    for name, value in run(opened.session_model()).items():
        np.testing.assert_array_equal(value, answers[name])
    onnx.checker.check_model(path)


def test_weights_of_subgraphs_are_moved_too(tmp_path):
    large = np.arange(4096, dtype=np.float32).reshape(64, 64)
    model = make_model()
    (branch,) = [a.g for a in model.graph.node[5].attribute if a.name == "then_branch"]
    branch.initializer[0].CopyFrom(numpy_helper.from_array(large, "inner"))
    branch.node[0].op_type = "MatMul"
    expected = run(model.SerializeToString())
    path = make_artifact(model=model).save(tmp_path / "m.onnx", external_data_threshold_bytes=0)
    assert os.path.getsize(path) < large.nbytes
    np.testing.assert_array_equal(run(path)["gated"], expected["gated"])


def test_below_the_threshold_there_is_one_file(tmp_path):
    make_artifact().save(tmp_path / "churn.onnx", external_data_threshold_bytes=10**6)
    assert os.listdir(tmp_path) == ["churn.onnx"]


def test_a_model_without_large_weights_needs_no_data_file(tmp_path):
    info = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["N"])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])
    graph = helper.make_graph([helper.make_node("Abs", ["rows"], ["y"])], "g", [info], [out])
    model = helper.make_model(graph)
    artifact = make_artifact(model=model, signature=signature_from_graph(model))
    path = artifact.save(tmp_path / "m.onnx", external_data_threshold_bytes=-1)
    assert os.listdir(tmp_path) == ["m.onnx"]
    assert Artifact.open(path).external_folder is None


def test_external_data_stay_external_when_saved_elsewhere(tmp_path, external, answers):
    target = tmp_path / "elsewhere"
    target.mkdir()
    first = Artifact.open(external)
    path = first.save(target / "churn.onnx")
    assert data_files(target) == data_files(tmp_path)
    # The same name and content give the same file, wherever it is.
    assert Artifact.open(path).digest == first.digest
    os.unlink(external)
    np.testing.assert_array_equal(run(path)["scores"], answers["scores"])


def test_external_data_can_come_back_inside(tmp_path, external, answers):
    path = Artifact.open(external).save(tmp_path / "one.onnx", external_data_threshold_bytes=10**6)
    assert onnx.load(path, load_external_data=False).graph.initializer[0].HasField("raw_data")
    opened = Artifact.open(path)
    assert opened.external_folder is None
    np.testing.assert_array_equal(run(opened.session_model())["gated"], answers["gated"])


def test_saving_over_its_own_file_keeps_the_artifact_usable(external, answers):
    artifact = Artifact.open(external)
    artifact.save(external)
    np.testing.assert_array_equal(run(artifact.session_model())["scores"], answers["scores"])
    artifact.save(external, external_data_threshold_bytes=10**6)
    assert data_files(os.path.dirname(external)) == []
    np.testing.assert_array_equal(run(artifact.session_model())["scores"], answers["scores"])


def test_replacing_an_artifact_removes_its_data_and_nothing_else(tmp_path, external):
    (tmp_path / "churn.0123456789ab.onnx.data").write_bytes(b"someone else's")
    old = set(data_files(tmp_path)) - {"churn.0123456789ab.onnx.data"}
    model = make_model()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(WEIGHT * 2, "weight"))
    make_artifact(model=model).save(external, external_data_threshold_bytes=0)
    after = set(data_files(tmp_path))
    assert not old & after
    assert "churn.0123456789ab.onnx.data" in after
    assert len(after) == 2
    np.testing.assert_allclose(
        run(external)["scores"], 1 / (1 + np.exp(-2 * ROWS @ WEIGHT)), rtol=1e-5, atol=1e-6
    )


def test_a_listed_file_that_is_not_the_artifacts_own_is_never_removed(tmp_path):
    """A crafted file cannot make `save` delete what it names."""
    precious = tmp_path / "precious.onnx.data"
    precious.write_bytes(bytes(4096))
    listed = {"files": [{"location": precious.name, "size_bytes": 4096, "sha256": "0" * 64}]}
    (tmp_path / "m.onnx").write_bytes(forge({"external": listed}))
    make_artifact().save(tmp_path / "m.onnx")
    assert precious.exists()


def test_weights_too_large_for_memory_wait_in_a_folder_of_their_own(monkeypatch, tmp_path, answers):
    monkeypatch.setattr(artifact_module, "EXTERNAL_DATA_THRESHOLD_BYTES", 1000)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    artifact = make_artifact()
    (folder,) = tmp_path.iterdir()
    assert artifact.path is None
    assert artifact.external_folder == str(folder)
    np.testing.assert_array_equal(run(artifact.session_model())["scores"], answers["scores"])
    with pytest.raises(ArtifactError, match="Save it"):
        pickle.dumps(artifact)
    target = tmp_path / "saved"
    target.mkdir()
    path = artifact.save(target / "m.onnx")
    np.testing.assert_array_equal(run(path)["gated"], answers["gated"])
    del artifact
    assert not folder.exists()


@pytest.mark.parametrize("location", ["bytes", "temporary", "file"])
def test_a_revised_artifact_is_the_same_model_with_other_words(
    monkeypatch, tmp_path, answers, location
):
    if location == "temporary":
        monkeypatch.setattr(artifact_module, "EXTERNAL_DATA_THRESHOLD_BYTES", 1000)
    artifact = make_artifact(parity=None, documents={"notes": {"version": 1, "x": 2}})
    if location == "file":
        path = artifact.save(tmp_path / "first.onnx", external_data_threshold_bytes=0)
        artifact = Artifact.open(path)
    signature = replace(artifact.signature, methods=artifact.signature.methods[1:])
    plan = Plan("onnx", "revised")
    revised = artifact.revised(signature=signature, plan=plan, parity=PARITY)
    assert artifact.plan == PLAN
    assert artifact.parity is None
    del artifact
    assert revised.heads == ("gate",)
    result = run(revised.session_model("gate"), revised.external_folder)
    np.testing.assert_array_equal(result["gated"], answers["gated"])
    opened = Artifact.open(revised.save(tmp_path / "second.onnx"))
    assert opened.signature == signature
    assert opened.plan == plan
    assert opened.parity == PARITY
    assert opened.name == "churn"
    assert opened.documents == {"notes": {"version": 1, "x": 2}}
    np.testing.assert_array_equal(run(opened.session_model())["gated"], answers["gated"])


def test_a_revised_signature_must_fit_too(external):
    artifact = Artifact.open(external)
    wrong_one = replace(artifact.signature, methods=(Method("predict", ("nothing",)),))
    with pytest.raises(ArtifactError, match="needs outputs of the graph"):
        artifact.revised(signature=wrong_one, plan=PLAN, parity=None)


def test_external_data_given_to_the_constructor_are_copied(tmp_path, answers):
    source = tmp_path / "source"
    source.mkdir()
    onnx.save(make_model(), source / "m.onnx", save_as_external_data=True, size_threshold=0)
    model = onnx.load(source / "m.onnx", load_external_data=False)
    artifact = make_artifact(model=model, external_folder=source)
    shutil.rmtree(source)
    np.testing.assert_array_equal(run(artifact.session_model())["scores"], answers["scores"])


def test_opening_keeps_no_weights_in_memory(tmp_path):
    model = make_model()
    large = np.zeros((2048, 2048), dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(large, "unused"))
    path = make_artifact(model=model).save(tmp_path / "m.onnx", external_data_threshold_bytes=0)
    assert len(pickle.dumps(Artifact.open(path))) < 10_000


def test_large_files_are_handed_on_by_path(tmp_path, monkeypatch):
    path = make_artifact().save(tmp_path / "m.onnx")
    monkeypatch.setattr(artifact_module, "_HELD_BYTES", 100)
    artifact = Artifact.open(path)
    assert artifact.session_model() == path
    assert artifact.external_folder is None
    assert list(run(artifact.session_model("gate"))) == ["gated"]
    copy = artifact.save(tmp_path / "copy.onnx")
    assert Artifact.open(copy).digest == artifact.digest


# -- atomic writes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [None, 0])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, threshold):
    path = make_artifact(name="old").save(
        tmp_path / "m.onnx", external_data_threshold_bytes=threshold
    )
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    model = make_model()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(WEIGHT * 2, "weight"))

    def fail(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        make_artifact(model=model).save(path, external_data_threshold_bytes=threshold)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert Artifact.open(path).name == "old"


def test_an_interruption_between_data_and_model_leaves_the_old_artifact_whole(
    external, monkeypatch
):
    folder = os.path.dirname(external)
    replace_file = os.replace
    model = make_model()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(WEIGHT * 2, "weight"))

    def only_data(source, target):
        if target.endswith(".onnx"):
            raise KeyboardInterrupt
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", only_data)
    with pytest.raises(KeyboardInterrupt):
        make_artifact(model=model).save(external, external_data_threshold_bytes=0)
    assert len(data_files(folder)) == 2
    assert not [name for name in os.listdir(folder) if name.endswith(".tmp")]
    np.testing.assert_allclose(
        run(Artifact.open(external).session_model())["scores"],
        1 / (1 + np.exp(-ROWS @ WEIGHT)),
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_reader_beside_a_writer_sees_whole_files(tmp_path):
    path = tmp_path / "m.onnx"
    versions = [make_artifact(name=f"v{i}") for i in range(2)]
    versions[0].save(path)
    stop = threading.Event()

    def write():
        for i in range(40):
            versions[i % 2].save(path)
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not stop.is_set():
        seen.add(Artifact.open(path).name)
    writer.join()
    assert seen <= {"v0", "v1"}
    assert seen


def test_the_umask_decides_who_may_read(tmp_path):
    old = os.umask(0o027)
    try:
        path = make_artifact().save(tmp_path / "m.onnx", external_data_threshold_bytes=0)
    finally:
        os.umask(old)
    modes = {stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in os.listdir(tmp_path)}
    assert modes == {0o640}
    assert path


def test_a_folder_is_no_place_to_save_to(tmp_path):
    with pytest.raises(ArtifactError, match="got the folder"):
        make_artifact().save(tmp_path)


def test_a_missing_folder_is_not_made_up(tmp_path):
    with pytest.raises(FileNotFoundError):
        make_artifact().save(tmp_path / "missing" / "m.onnx")


# -- damage --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sixteenth", range(16))
def test_a_truncated_file_is_refused(sealed, sixteenth):
    with pytest.raises(ArtifactError):
        Artifact.from_bytes(sealed[: len(sealed) * sixteenth // 16])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_cut_is_noticed(sealed, data):
    size = data.draw(st.integers(0, len(sealed) - 1))
    with pytest.raises(ArtifactError):
        Artifact.from_bytes(sealed[:size])


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_byte_is_noticed(sealed, data):
    at = data.draw(st.integers(0, len(sealed) - 1))
    flip = data.draw(st.integers(1, 255))
    damaged = bytearray(sealed)
    damaged[at] ^= flip
    with pytest.raises(ArtifactError):
        Artifact.from_bytes(bytes(damaged))


@pytest.mark.parametrize("region", ["header", "trailer"])
def test_every_byte_of_both_ends_is_covered(sealed, region):
    size = 140
    for at in range(size) if region == "header" else range(len(sealed) - size, len(sealed)):
        damaged = bytearray(sealed)
        damaged[at] ^= 0x20
        with pytest.raises(ArtifactError):
            Artifact.from_bytes(bytes(damaged))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(extra=st.binary(min_size=1, max_size=200), at_front=st.booleans())
def test_anything_added_is_noticed(sealed, extra, at_front):
    with pytest.raises(ArtifactError):
        Artifact.from_bytes(extra + sealed if at_front else sealed + extra)


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data):
    with pytest.raises(ArtifactError):
        Artifact.from_bytes(data)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_plain_file_opens_or_is_refused(data):
    """No seal says whether it was damaged, but no other exception may come out."""
    plain = bytearray(make_model().SerializeToString())
    at = data.draw(st.integers(0, len(plain) - 1))
    plain[at] ^= data.draw(st.integers(1, 255))
    try:
        artifact = Artifact.from_bytes(bytes(plain))
    except ArtifactError:
        return
    assert artifact.signature.outputs


def test_damage_is_said_in_plain_words(tmp_path, sealed):
    path = tmp_path / "m.onnx"
    path.write_bytes(sealed[:-1])
    with pytest.raises(ArtifactError, match="truncated or changed after it was written") as caught:
        Artifact.open(path)
    assert str(path) in str(caught.value)


def test_a_file_rewritten_by_another_tool_is_refused_unless_asked(tmp_path, sealed):
    path = tmp_path / "m.onnx"
    model = onnx.load_from_string(sealed)
    model.doc_string = "rewritten"
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match="verify=False"):
        Artifact.open(path)
    artifact = Artifact.open(path, verify=False)
    assert artifact.name == "churn"
    # Saving seals it again.
    again = Artifact.open(artifact.save(tmp_path / "again.onnx"))
    assert again.signature == artifact.signature


def test_a_rewritten_file_with_functions_at_its_end_is_refused_too(sealed):
    model = onnx.load_from_string(sealed)
    node = helper.make_node("Abs", ["a"], ["b"])
    model.functions.append(
        helper.make_function("local", "f", ["a"], ["b"], [node], [helper.make_opsetid("", 18)])
    )
    data = model.SerializeToString()
    assert b"infersdk." not in data[-100:]
    with pytest.raises(ArtifactError, match="changed after it was written"):
        Artifact.from_bytes(data)


def test_changed_external_data_are_noticed(tmp_path, external):
    (name,) = data_files(tmp_path)
    data = bytearray((tmp_path / name).read_bytes())
    data[5] ^= 1
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ArtifactError, match="truncated or changed"):
        Artifact.open(external)
    assert Artifact.open(external, verify=False).name == "churn"


@pytest.mark.parametrize("verify", [True, False])
def test_truncated_external_data_are_noticed(tmp_path, external, verify):
    (name,) = data_files(tmp_path)
    os.truncate(tmp_path / name, 100)
    with pytest.raises(ArtifactError, match="truncated or another one"):
        Artifact.open(external, verify=verify)


def test_lengthened_external_data_are_noticed(tmp_path, external):
    (name,) = data_files(tmp_path)
    with open(tmp_path / name, "ab") as file:
        file.write(b"more")
    with pytest.raises(ArtifactError, match="truncated or changed"):
        Artifact.open(external)


def test_missing_external_data_are_named(tmp_path, external):
    (name,) = data_files(tmp_path)
    os.unlink(tmp_path / name)
    with pytest.raises(ArtifactError, match=f"{name}.*Keep it beside the model"):
        Artifact.open(external)


def test_a_file_replaced_after_opening_is_not_used_unawares(tmp_path, external):
    artifact = Artifact.open(external)
    make_artifact(name="a longer name than before").save(external, external_data_threshold_bytes=0)
    with pytest.raises(ArtifactError, match="Open it again"):
        artifact.session_model()
    with pytest.raises(ArtifactError, match="Open it again"):
        artifact.save(tmp_path / "other.onnx")


# -- what is no model ------------------------------------------------------------------------------------------


def test_a_missing_file_is_an_artifact_error_with_its_cause(tmp_path):
    with pytest.raises(ArtifactError, match="No such file") as caught:
        Artifact.open(tmp_path / "missing.onnx")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_an_empty_file_is_refused(tmp_path):
    path = tmp_path / "m.onnx"
    path.touch()
    with pytest.raises(ArtifactError, match="is empty"):
        Artifact.open(path)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ArtifactError, match="no regular file"):
        Artifact.open(tmp_path)


def test_a_named_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ArtifactError, match="no regular file"):
        Artifact.open(tmp_path / "pipe.onnx")


def test_an_oversized_file_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = make_artifact().save(tmp_path / "m.onnx")
    size = os.path.getsize(path)
    with pytest.raises(ArtifactError, match=f"Expected at most {size - 1} bytes .* got {size}"):
        Artifact.open(path, max_size_bytes=size - 1)
    assert Artifact.open(path, max_size_bytes=size).name == "churn"


def test_a_file_beyond_protobufs_limit_is_refused(tmp_path):
    path = tmp_path / "m.onnx"
    path.touch()
    os.truncate(path, 3 * 2**30)
    with pytest.raises(ArtifactError, match="Expected at most 2147483647 bytes"):
        Artifact.open(path)


def test_external_data_count_towards_the_limit(external):
    size = Artifact.open(external).size_bytes
    with pytest.raises(ArtifactError, match="and its external data, got"):
        Artifact.open(external, max_size_bytes=size - 1)
    assert Artifact.open(external, max_size_bytes=size).size_bytes == size


def test_a_pickle_is_refused_and_not_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    (tmp_path / "m.onnx").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ArtifactError):
        Artifact.open(tmp_path / "m.onnx")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("what", ["no graph", "no outputs", "no opset", "no IR version"])
def test_a_model_without_a_usable_graph_is_refused(what):
    model = make_model()
    if what == "no graph":
        model.ClearField("graph")
    elif what == "no outputs":
        del model.graph.output[:]
    elif what == "no opset":
        del model.opset_import[:]
    else:
        model.ClearField("ir_version")
    with pytest.raises(ArtifactError, match="is no ONNX model"):
        Artifact.from_bytes(model.SerializeToString())


# -- forged metadata -----------------------------------------------------------------------------------------


def forge(documents: dict, model: onnx.ModelProto | None = None, raw: dict | None = None) -> bytes:
    """A file with a valid seal over whatever metadata an attacker likes."""
    model = make_model() if model is None else model
    base = {
        "model": {"version": 1, "name": None},
        "signature": {"version": 1, **signature_of(make_model()).to_json()},
        "plan": {"version": 1, **PLAN.to_json()},
    }
    texts = {key: json.dumps({"version": 1, **value}) for key, value in (base | documents).items()}
    head = onnx.ModelProto()
    for key, text in (texts | (raw or {})).items():
        head.metadata_props.add(key=f"infersdk.{key}", value=text)
    content = head.SerializeToString() + model.SerializeToString()
    return content + metadata.trailer(hashlib.sha256(content).hexdigest())


def test_forging_without_changes_gives_a_good_file():
    assert Artifact.from_bytes(forge({})).plan == PLAN


BAD_TEXTS = {
    "not JSON": ("{", "is not JSON"),
    "no object": ("[1]", "Expected a JSON object"),
    "no version": ("{}", "Expected a version"),
    "a version as text": ('{"version": "1"}', "Expected a version"),
    "a version as truth": ('{"version": true}', "Expected a version"),
    "version zero": ('{"version": 0}', "Expected a version"),
    "a newer version": ('{"version": 2}', "has version 2; this infersdk reads versions up to 1"),
    "too deep": ('{"version": 1, "a": ' + "[" * 100 + "]" * 100 + "}", "nested deeper than"),
    "far too deep": ("[" * 200_000 + "]" * 200_000, "nested too deep"),
    "a number without end": ('{"version": ' + "9" * 10_000 + "}", "is not JSON"),
}


@pytest.mark.parametrize(("text", "message"), BAD_TEXTS.values(), ids=BAD_TEXTS)
@pytest.mark.parametrize("key", ["model", "signature", "plan", "parity", "provenance", "external"])
def test_malformed_documents_are_refused(key, text, message):
    with pytest.raises(ArtifactError, match=message) as caught:
        Artifact.from_bytes(forge({}, raw={key: text}))
    assert f"infersdk.{key}" in str(caught.value)


@pytest.mark.parametrize("key", ["model", "signature", "plan", "parity", "provenance", "external"])
@pytest.mark.parametrize("verify", [True, False])
def test_documents_are_checked_with_and_without_verifying(key, verify):
    with pytest.raises(ArtifactError):
        Artifact.from_bytes(forge({}, raw={key: '{"version": 9}'}), verify=verify)


def test_an_oversized_document_is_refused(monkeypatch):
    monkeypatch.setattr(metadata, "MAX_DOCUMENT_BYTES", 1000)
    with pytest.raises(ArtifactError, match=r"Expected at most 1000 bytes in `infersdk\.notes`"):
        Artifact.from_bytes(forge({"notes": {"text": "x" * 2000}}))
    with pytest.raises(ArtifactError, match="Expected at most 1000 bytes"):
        make_artifact(documents={"notes": {"version": 1, "text": "x" * 2000}})


def test_a_document_given_twice_is_refused():
    data = forge({})
    extra = onnx.ModelProto()
    extra.metadata_props.add(key="infersdk.plan", value='{"version": 1}')
    with pytest.raises(ArtifactError, match="there twice"):
        Artifact.from_bytes(extra.SerializeToString() + data, verify=False)


def test_a_sealed_file_without_signature_is_refused():
    head = onnx.ModelProto()
    head.metadata_props.add(key="infersdk.model", value='{"version": 1, "name": null}')
    content = head.SerializeToString() + make_model().SerializeToString()
    with pytest.raises(ArtifactError, match="has no signature"):
        Artifact.from_bytes(content + metadata.trailer(hashlib.sha256(content).hexdigest()))


def wrong(key: str, **changes) -> dict:
    base = {
        "signature": signature_of(make_model()).to_json(),
        "plan": PLAN.to_json(),
        "parity": PARITY.to_json(),
        "provenance": PROVENANCE.to_json(),
        "model": {"name": "x"},
        "external": {"files": []},
    }[key]
    return {key: {**base, **changes}}


WRONG_DOCUMENTS = {
    "a name that is a number": wrong("model", name=5),
    "an unknown plan": wrong("plan", kind="shell"),
    "a reason that is a list": wrong("plan", reason=["x"]),
    "notes that are numbers": wrong("plan", notes=[1]),
    "an unknown field of a plan": {"plan": {"kind": "onnx"}},
    "inputs that are text": wrong("signature", inputs="rows"),
    "an unknown container": wrong("signature", container="pickle"),
    "an unknown form": wrong(
        "signature", methods=[{**Method("predict", ("scores",)).to_json(), "form": "eval"}]
    ),
    "outputs that are numbers": wrong(
        "signature", methods=[{**Method("predict", ("scores",)).to_json(), "outputs": [1]}]
    ),
    "labels that are lists": wrong(
        "signature",
        methods=[
            {
                **Method("predict", ("scores",)).to_json(),
                "labels": {"values": [[1]], "dtype": "int64"},
            }
        ],
    ),
    "an unknown field dtype": wrong(
        "signature", fields=[{**Field("a", "float", "rows").to_json(), "dtype": "object"}]
    ),
    "a column that is text": wrong(
        "signature", fields=[{**Field("a", "float", "rows").to_json(), "column": "0"}]
    ),
    "an unknown key of a field": wrong(
        "signature", fields=[{**Field("a", "float", "rows").to_json(), "callback": "os.system"}]
    ),
    "a shape of fractions": wrong(
        "signature",
        inputs=[{"kind": "tensor", "name": "rows", "dtype": "float32", "shape": [1.5, 8]}],
    ),
    "an unknown kind of value": wrong("signature", inputs=[{"kind": "pickle", "name": "rows"}]),
    "rows that are text": wrong("parity", n_example_rows="many"),
    "methods that are text": wrong("parity", methods="all"),
    "a verdict that is text": wrong(
        "parity", methods=[{**PARITY.to_json()["methods"][0], "passed": "yes"}]
    ),
    "versions that are a list": wrong("provenance", versions=["1"]),
    "a time that is a number": wrong("provenance", created=0),
    "files that are text": wrong("external", files="x"),
    "a file without size": wrong("external", files=[{"location": "x"}]),
}


@pytest.mark.parametrize("documents", WRONG_DOCUMENTS.values(), ids=WRONG_DOCUMENTS)
def test_documents_of_wrong_types_are_refused(documents):
    with pytest.raises(ArtifactError):
        Artifact.from_bytes(forge(documents))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=200)
@given(
    key=st.sampled_from(["model", "signature", "plan", "parity", "provenance", "external"]),
    name=st.sampled_from(
        [
            "inputs",
            "methods",
            "fields",
            "container",
            "kind",
            "notes",
            "rtol",
            "versions",
            "files",
            "name",
        ]
    ),
    value=json_values,
)
def test_no_document_brings_out_another_exception(key, name, value):
    documents = wrong(key)
    if name in documents[key]:
        documents[key][name] = value
    try:
        artifact = Artifact.from_bytes(forge(documents))
    except ArtifactError:
        return
    artifact.signature.to_json()
    assert artifact.heads == ("main", "gate") or name == "methods"


def test_reserved_documents_cannot_be_given():
    with pytest.raises(ArtifactError, match=r"\['plan'\] are infersdk's own"):
        make_artifact(documents={"plan": {"version": 1}})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"x": 1}, "needs a whole number as its `version`"),
        ({"version": 1, "x": object()}, "cannot be written as JSON"),
        ({"version": 1, "x": {1: {2}}}, "cannot be written as JSON"),
    ],
)
def test_a_document_that_could_not_be_read_back_is_refused(document, message):
    with pytest.raises(ArtifactError, match=message):
        make_artifact(documents={"notes": document})


# -- unsafe references -------------------------------------------------------------------------------------------


def refer_to(location: str | None, *, offset=None, length=None, extra=(), flag=True) -> TensorProto:
    tensor = TensorProto(name="weight", data_type=TensorProto.FLOAT, dims=[8, 64])
    if flag:
        tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length), *extra):
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return tensor


def with_weight(tensor: TensorProto) -> onnx.ModelProto:
    model = make_model()
    model.graph.initializer[0].CopyFrom(tensor)
    return model


@pytest.fixture
def folder(tmp_path):
    """A folder with weights in it, inside one with secrets."""
    inner = tmp_path / "models"
    inner.mkdir()
    (inner / "w.bin").write_bytes(WEIGHT.tobytes())
    (tmp_path / "secret.bin").write_bytes(WEIGHT.tobytes())
    return inner


BAD_LOCATIONS = {
    "absolute": ("/etc/passwd", "is absolute"),
    "a drive": ("C:secret.bin", "is absolute"),
    "parent": ("../secret.bin", "leaves the model's folder"),
    "parent inside": ("sub/../../secret.bin", "leaves the model's folder"),
    "backslash": ("..\\secret.bin", "holds a backslash"),
    "zero byte": ("w.bin\0.txt", "holds a backslash or a zero byte"),
    "nothing": ("", "is missing"),
    "no location": (None, "is missing"),
    "memory": ("*/_ORT_MEM_ADDR_/*", "is reserved by ONNX Runtime"),
    "not there": ("missing.bin", "cannot be opened"),
    "a folder": ("sub", "is no regular file"),
    "the folder itself": (".", "is no regular file"),
}


@pytest.mark.parametrize(("location", "message"), BAD_LOCATIONS.values(), ids=BAD_LOCATIONS)
def test_a_location_outside_the_folder_is_refused(folder, location, message):
    (folder / "sub").mkdir()
    path = folder / "m.onnx"
    path.write_bytes(with_weight(refer_to(location)).SerializeToString())
    with pytest.raises(ArtifactError, match=message):
        Artifact.open(path)


def test_a_location_inside_the_folder_is_allowed(folder, answers):
    (folder / "sub").mkdir()
    shutil.move(folder / "w.bin", folder / "sub" / "w.bin")
    path = folder / "m.onnx"
    path.write_bytes(with_weight(refer_to("sub/w.bin", offset=0, length=2048)).SerializeToString())
    np.testing.assert_array_equal(
        run(Artifact.open(path).session_model())["scores"], answers["scores"]
    )


@pytest.mark.parametrize("link", ["file", "folder"])
def test_a_link_that_leaves_the_folder_is_refused(folder, link):
    if link == "file":
        (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
        location = "link.bin"
    else:
        (folder / "out").symlink_to(folder.parent)
        location = "out/secret.bin"
    path = folder / "m.onnx"
    path.write_bytes(with_weight(refer_to(location)).SerializeToString())
    with pytest.raises(ArtifactError, match="is a link that leaves the model's folder"):
        Artifact.open(path)


def test_a_link_inside_the_folder_is_allowed(folder):
    (folder / "link.bin").symlink_to("w.bin")
    path = folder / "m.onnx"
    path.write_bytes(with_weight(refer_to("link.bin")).SerializeToString())
    assert Artifact.open(path).external_folder == str(folder)


def test_a_folder_reached_through_a_link_is_allowed(folder):
    (folder.parent / "current").symlink_to(folder)
    (folder / "m.onnx").write_bytes(with_weight(refer_to("w.bin")).SerializeToString())
    assert Artifact.open(folder.parent / "current" / "m.onnx").size_bytes > WEIGHT.nbytes


BAD_RANGES = {
    "negative offset": ({"offset": -4}, "expected a whole number as its offset, got '-4'"),
    "negative length": ({"length": -2048}, "expected a whole number as its length"),
    "offset as text": ({"offset": "0x10"}, "expected a whole number as its offset"),
    "offset with a sign": ({"offset": "+4"}, "expected a whole number as its offset"),
    "offset with spaces": ({"offset": " 4"}, "expected a whole number as its offset"),
    "offset with underscores": ({"offset": "1_0"}, "expected a whole number as its offset"),
    "an empty offset": ({"offset": ""}, "expected a whole number as its offset"),
    "a huge offset": ({"offset": 2**63}, "expected a whole number as its offset"),
    "offset past the end": ({"offset": 2048}, "is bytes 2048 to 4096 of 'w.bin', which has 2048"),
    "one byte past the end": ({"offset": 1}, "is bytes 1 to 2049 of 'w.bin'"),
    "too short": ({"length": 2044}, "expected 2048 bytes"),
    "too long": ({"length": 4096}, "expected 2048 bytes"),
    "offset twice": (
        {"extra": (("offset", 0), ("offset", 4))},
        "gives its external 'offset' twice",
    ),
    "location twice": ({"extra": (("location", "other"),)}, "gives its external 'location' twice"),
    "not marked": ({"flag": False}, "is not marked as external"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_RANGES.values(), ids=BAD_RANGES)
def test_a_range_outside_the_file_is_refused(folder, changes, message):
    path = folder / "m.onnx"
    path.write_bytes(with_weight(refer_to("w.bin", **changes)).SerializeToString())
    with pytest.raises(ArtifactError, match=message):
        Artifact.open(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dims": [-8, 64]}, "negative dimension"),
        ({"dims": [2**40, 2**40]}, "is bytes 0 to"),
        ({"data_type": TensorProto.STRING}, "string cannot be stored as external data"),
        ({"data_type": 0}, "cannot be stored as external data"),
        ({"data_type": 999}, "element type 999 cannot be stored"),
    ],
)
def test_an_impossible_tensor_is_refused(folder, changes, message):
    tensor = refer_to("w.bin")
    for name, value in changes.items():
        if name == "dims":
            del tensor.dims[:]
            tensor.dims.extend(value)
        else:
            setattr(tensor, name, value)
    path = folder / "m.onnx"
    path.write_bytes(with_weight(tensor).SerializeToString())
    with pytest.raises(ArtifactError, match=message):
        Artifact.open(path)


def hide_in_subgraph(model, tensor):
    model.graph.node[5].attribute[0].g.initializer.add().CopyFrom(tensor)


def hide_in_constant(model, tensor):
    node = helper.make_node("Constant", [], ["hidden"])
    attribute = node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    attribute.t.CopyFrom(tensor)
    model.graph.node.append(node)


def hide_in_tensor_list(model, tensor):
    attribute = model.graph.node[0].attribute.add(name="x", type=onnx.AttributeProto.TENSORS)
    attribute.tensors.add().CopyFrom(tensor)


def hide_in_graph_list(model, tensor):
    attribute = model.graph.node[0].attribute.add(name="x", type=onnx.AttributeProto.GRAPHS)
    attribute.graphs.add().initializer.add().CopyFrom(tensor)


def hide_in_sparse_values(model, tensor):
    model.graph.sparse_initializer.add().values.CopyFrom(tensor)


def hide_in_sparse_indices(model, tensor):
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(numpy_helper.from_array(np.zeros(1, np.float32), "s"))
    sparse.indices.CopyFrom(tensor)


def hide_in_sparse_attribute(model, tensor):
    attribute = model.graph.node[0].attribute.add(name="x", type=onnx.AttributeProto.SPARSE_TENSOR)
    attribute.sparse_tensor.values.CopyFrom(tensor)


def hide_in_sparse_list(model, tensor):
    attribute = model.graph.node[0].attribute.add(name="x", type=onnx.AttributeProto.SPARSE_TENSORS)
    attribute.sparse_tensors.add().indices.CopyFrom(tensor)


def hide_in_function(model, tensor):
    function = model.functions.add(name="f", domain="local")
    function.node.add(op_type="Constant").attribute.add(
        name="value", type=onnx.AttributeProto.TENSOR
    ).t.CopyFrom(tensor)


def hide_in_function_default(model, tensor):
    function = model.functions.add(name="f", domain="local")
    function.attribute_proto.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(tensor)


def hide_in_training(model, tensor):
    model.training_info.add().algorithm.initializer.add().CopyFrom(tensor)


HIDING_PLACES = [value for name, value in list(globals().items()) if name.startswith("hide_in_")]


@pytest.mark.parametrize("hide", HIDING_PLACES, ids=lambda hide: hide.__name__)
def test_a_reference_is_found_wherever_it_hides(folder, hide):
    model = make_model()
    hide(model, refer_to("../secret.bin"))
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match="leaves the model's folder"):
        Artifact.open(path)
    with pytest.raises(ArtifactError, match="leaves the model's folder"):
        make_artifact(model=model, external_folder=folder)


@pytest.mark.parametrize(
    ("dtype", "count", "size"),
    [(TensorProto.INT4, 5, 3), (TensorProto.UINT4, 8, 4), (TensorProto.BFLOAT16, 3, 6)],
)
def test_sizes_of_packed_types_are_known(folder, dtype, count, size):
    tensor = refer_to("w.bin", offset=2048 - size, length=size)
    tensor.data_type = dtype
    del tensor.dims[:]
    tensor.dims.append(count)
    model = make_model()
    hide_in_constant(model, tensor)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    assert Artifact.open(folder / "m.onnx").external_folder == str(folder)
    tensor.external_data[1].value = str(2048 - size + 1)
    hide_in_constant(model, tensor)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ArtifactError, match="which has 2048"):
        Artifact.open(folder / "m.onnx")
