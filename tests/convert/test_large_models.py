"""Models whose weights are written beside the graph, and never held twice."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import infersdk

pytest.importorskip("torch", reason="needs PyTorch")
pytest.importorskip("onnxscript", reason="needs PyTorch's ONNX exporter")

torch_weights = importlib.import_module("infersdk.convert.torch_weights")


@pytest.fixture
def large_from_64_kib(monkeypatch):
    """Take every model of more than 64 KiB for a large one."""
    monkeypatch.setattr(torch_weights, "LARGE_MODEL_BYTES", 2**16)


def encoder(width: int = 160):
    """A model that transposes weights, uses one twice, and has one that is not transposed."""
    import torch
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(500, width)
            self.layer = nn.TransformerEncoderLayer(width, 4, 2 * width, batch_first=True)
            self.convolution = nn.Conv1d(width, width, 3, padding=1)
            self.register_buffer("shift", torch.randn(2 * 2**13))

        def forward(self, tokens):
            y = self.layer(self.embedding(tokens))
            y = y + self.convolution(y.transpose(1, 2)).transpose(1, 2)
            return y @ self.embedding.weight.T, y.mean(1) + self.shift[:width]

    torch.manual_seed(0)
    return Encoder().eval(), torch.randint(0, 500, (4, 6))


@pytest.mark.slow
def test_weights_lie_beside_the_graph_and_answers_are_the_models(large_from_64_kib, tmp_path):
    import torch

    model, tokens = encoder()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    artifact = infersdk.convert(model, example=tokens)
    assert artifact.parity is not None
    assert artifact.parity.passed
    assert artifact.external_folder is not None
    folder = artifact.external_folder
    path = artifact.save(tmp_path / "encoder.onnx")
    assert os.path.getsize(path) < 2**17, "large weights are still in the graph"

    with infersdk.load(path) as served:
        for rows in (tokens, tokens[:1], tokens[:, :3]):
            with torch.inference_mode():
                scores, pooled = model(rows)
            answer = served(rows.numpy())
            np.testing.assert_allclose(answer[0], scores.numpy(), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(answer[1], pooled.numpy(), rtol=1e-4, atol=1e-5)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)

    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    stored = {tensor.name for tensor in graph.initializer}
    turned = [node.input[0] for node in graph.node if node.op_type == "Transpose"]
    assert not stored.intersection(turned), "ONNX Runtime would transpose these at every load"

    assert os.path.isdir(folder)
    del artifact
    assert not os.path.isdir(folder), "the temporary folder outlives its artifact"


@pytest.mark.slow
def test_a_large_exported_program_converts_too(large_from_64_kib, tmp_path):
    import torch

    model, tokens = encoder()
    program = torch.export.export(
        model, (tokens,), dynamic_shapes=({0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO},)
    )
    artifact = infersdk.convert(program, example=tokens)
    assert artifact.external_folder is not None
    with infersdk.load(artifact.save(tmp_path / "program.onnx")) as served:
        with torch.inference_mode():
            scores = model(tokens[:2])[0]
        np.testing.assert_allclose(served(tokens[:2].numpy())[0], scores, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_half_precision_model_keeps_its_dtype(large_from_64_kib):
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 4)).half().eval()
    artifact = infersdk.convert(model, example=torch.randn(8, 256).half())
    assert artifact.external_folder is not None
    assert artifact.signature.outputs[0].dtype == "float16"


def test_blocks_are_an_arrays_bytes_in_c_order(monkeypatch):
    monkeypatch.setattr(torch_weights, "_BLOCK_BYTES", 64)
    for array in (np.arange(7.0), np.arange(60.0).reshape(6, 10), np.float32(3.0)):
        array = np.asarray(array)
        assert b"".join(torch_weights._blocks(array)) == array.tobytes()
        assert b"".join(torch_weights._blocks(array.T)) == np.ascontiguousarray(array.T).tobytes()


MEASURED = """
    import importlib, json, resource, sys
    import infersdk

    def peak_bytes():
        with open("/proc/self/status") as file:
            return 1024 * next(int(x.split()[1]) for x in file if x.startswith("VmHWM"))

    if sys.argv[1] == "convert":
        import torch
        weights = importlib.import_module("infersdk.convert.torch_weights")
        weights.LARGE_MODEL_BYTES = 2**26

        def build(width, layers):
            torch.manual_seed(0)
            made = [
                torch.nn.TransformerEncoderLayer(width, 8, 4 * width, batch_first=True)
                for _ in range(layers)
            ]
            return torch.nn.Sequential(*made).eval()

        # A tiny model first: what torch's exporter itself takes is part of the base.
        weights.LARGE_MODEL_BYTES = 1
        infersdk.convert(build(128, 1), example=torch.randn(2, 4, 128))
        base = peak_bytes()
        model = build(1024, 6)
        size = sum(item.nbytes for item in model.parameters())
        infersdk.convert(model, example=torch.randn(2, 4, 1024)).save(sys.argv[2])
    else:
        import numpy as np, onnx
        base = peak_bytes()
        with infersdk.load(sys.argv[2]) as served:
            served(np.ones((1, 4, 1024), np.float32))
            size = served.artifact.size_bytes
    print(json.dumps({"base": base, "size": size, "peak": peak_bytes()}))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_peak_of_memory_is_the_model_and_little_more(tmp_path):
    """Measured in processes of their own, the source model's own weights included."""
    path = str(tmp_path / "large.onnx")
    for what in ("convert", "load"):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(MEASURED), what, path],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        measured = json.loads(done.stdout.splitlines()[-1])
        assert measured["size"] > 280e6
        ratio = (measured["peak"] - measured["base"]) / measured["size"]
        assert ratio <= 1.3, f"{what}: {ratio:.2f} times the model's size"
