"""Outputs that stay on the device, and inputs that are there already: nothing passes through the host."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from infersdk._native.devices import DeviceTensor

from .conftest import DEVICE, Open
from .models import N_FEATURES, mlp, zeros_of_any_shape

TOLERANCE = 2e-4


@pytest.fixture
def torch(device: str):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    if device.startswith("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a PyTorch with CUDA")
    return torch


def test_pytorch_reads_an_output_where_it_is(
    device: str, open_on: Open, rng: np.random.Generator, torch
) -> None:
    model = mlp(rng)
    x = rng.standard_normal((5, N_FEATURES)).astype(np.float32)
    expected = open_on(model, "cpu").run({"x": x})["y"]
    left = open_on(model, device, use_tf32="0").run_on_device({"x": x})["y"]
    assert isinstance(left, DeviceTensor)
    assert left.device == device
    assert left.shape == (5, 10)
    assert left.read_only
    tensor = torch.from_dlpack(left)
    assert str(tensor.device) == device
    assert left.__dlpack_device__() == ((2 if tensor.is_cuda else 1), tensor.device.index or 0)
    np.testing.assert_allclose(tensor.cpu().numpy(), expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_an_input_of_pytorch_is_read_where_it_is(
    device: str, open_on: Open, rng: np.random.Generator, torch
) -> None:
    model = mlp(rng)
    cpu, session = open_on(model, "cpu"), open_on(model, device, use_tf32="0")
    for _ in range(20):
        x = torch.randn(7, N_FEATURES, device=device)
        x = x @ torch.eye(N_FEATURES, device=device)  # work that may still be under way
        y = torch.from_dlpack(session.run_on_device({"x": x})["y"])
        expected = cpu.run({"x": x.cpu().numpy()})["y"]
        np.testing.assert_allclose(y.cpu().numpy(), expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_one_models_output_is_anothers_input(
    device: str, open_on: Open, rng: np.random.Generator, torch
) -> None:
    model = mlp(rng)
    session, cpu = open_on(model, device, use_tf32="0"), open_on(model, "cpu")
    x = rng.standard_normal((3, N_FEATURES)).astype(np.float32)
    there = DeviceTensor.from_dlpack(torch.from_numpy(x).to(device))
    assert there.device == device
    first = session.run_on_device({"x": there})["y"]
    again = session.run_on_device({"x": there})["y"]
    assert first.__dlpack_device__() == there.__dlpack_device__()
    for left in (first, again):
        np.testing.assert_allclose(
            torch.from_dlpack(left).cpu().numpy(),
            cpu.run({"x": x})["y"],
            rtol=TOLERANCE,
            atol=TOLERANCE,
        )


def test_outputs_outlive_their_model_and_do_not_change(
    device: str, open_on: Open, rng: np.random.Generator, torch
) -> None:
    session = open_on(mlp(rng), device)
    kept = []
    for _ in range(10):
        x = rng.standard_normal((4, N_FEATURES)).astype(np.float32)
        left = session.run_on_device({"x": x})["y"]
        tensor = torch.from_dlpack(left)
        kept.append((tensor, tensor.clone()))
    del left
    session.close()
    gc.collect()
    for tensor, copy in kept:
        assert torch.equal(tensor, copy)


def test_numpy_is_told_to_copy_first(cuda_device: str, open_on: Open) -> None:
    session = open_on(zeros_of_any_shape(), cuda_device)
    left = session.run_on_device({"shape": np.array([3], np.int64)})["s"]
    with pytest.raises(BufferError, match=r"torch\.from_dlpack\(tensor\)\.cpu\(\)"):
        left.numpy()


def test_a_child_of_a_fork_gets_an_error_and_not_a_hang(cuda_device: str) -> None:
    # In a process of its own: a fork of this one would take PyTorch's threads along.
    script = f"""
        import os, signal, sys
        import numpy as np
        from infersdk import Execution, load
        from infersdk.errors import InferSDKError
        from tests.gpu.models import zeros_of_any_shape

        model = load(zeros_of_any_shape(), execution=Execution(devices=({DEVICE!r},)))
        model.run({{"shape": np.array([2], np.int64)}})
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            try:
                model.run({{"shape": np.array([2], np.int64)}})
            except InferSDKError as error:
                os._exit(7)
            os._exit(8)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        model.run({{"shape": np.array([2], np.int64)}})      # the parent goes on
        sys.exit(code)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        timeout=180,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7, done.stderr
