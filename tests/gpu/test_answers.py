"""A device's answers are the CPU's, from one thread and from many, on one device and on two."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import infersdk
from infersdk import Execution
from infersdk._native.devices import CudaDevices, available_providers
from infersdk.errors import SessionError

from .conftest import Open
from .models import MODELS, N_FEATURES, mlp, zeros_of_any_shape

N_THREADS = 64

# Float32 sums of a few hundred terms in another order; TF32 keeps 10 bits of each factor.
TOLERANCE = 2e-4
TF32_TOLERANCE = 2e-2


@pytest.mark.parametrize("name", MODELS)
def test_a_device_answers_as_the_cpu_does(
    name: str, device: str, open_on: Open, rng: np.random.Generator
) -> None:
    build, shape = MODELS[name]
    model = build(rng)
    ours, cpu = open_on(model, device, use_tf32="0"), open_on(model, "cpu")
    # Shapes come back, with other values: what a run leaves behind must not reach the next one.
    for n_rows in (1, 3, 1, 16, 3, 1, 64, 16):
        x = rng.standard_normal((n_rows, *shape)).astype(np.float32)
        np.testing.assert_allclose(
            ours.run({"x": x})["y"], cpu.run({"x": x})["y"], rtol=TOLERANCE, atol=TOLERANCE
        )


@pytest.mark.parametrize("name", MODELS)
def test_the_defaults_of_a_device_are_close(
    name: str, device: str, open_on: Open, rng: np.random.Generator
) -> None:
    build, shape = MODELS[name]
    model = build(rng)
    x = rng.standard_normal((8, *shape)).astype(np.float32)
    y = open_on(model, "cpu").run({"x": x})["y"]
    np.testing.assert_allclose(
        open_on(model, device).run({"x": x})["y"], y, atol=TF32_TOLERANCE * np.abs(y).max()
    )


def test_auto_takes_the_device_and_says_so(cuda_device: str, rng: np.random.Generator) -> None:
    assert "CUDAExecutionProvider" in available_providers()
    with infersdk.load(mlp(rng)) as model:
        assert str(model.providers).startswith("cuda:0: CUDA, then CPU")
        assert model.run({"x": np.zeros((2, N_FEATURES), np.float32)})["y"].shape == (2, 10)


def call_from_many_threads(model: infersdk.Predictor, x: np.ndarray) -> np.ndarray:
    """Row i's answer in row i; each thread asks for single rows of its own."""
    answers = np.full((len(x), 10), np.nan, np.float32)
    failures: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for i in range(first, len(x), N_THREADS):
                answers[i] = model.run({"x": x[i : i + 1]})["y"][0]
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(N_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return answers


def test_many_threads_get_their_own_answers(
    device: str, open_on: Open, rng: np.random.Generator
) -> None:
    network = mlp(rng)
    x = rng.standard_normal((N_THREADS * 20, N_FEATURES)).astype(np.float32)
    expected = open_on(network, "cpu").run({"x": x})["y"]
    options = {"CUDA": {"use_tf32": "0"}} if device.startswith("cuda") else {}
    with infersdk.load(
        network, execution=Execution(devices=(device,), provider_options=options)
    ) as model:
        answers = call_from_many_threads(model, x)
    np.testing.assert_allclose(answers, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_two_devices_share_the_work(
    cuda_device: str, present: CudaDevices, open_on: Open, rng: np.random.Generator
) -> None:
    if len(present.devices) < 2:
        pytest.skip("needs two CUDA devices")
    network = mlp(rng)
    x = rng.standard_normal((N_THREADS * 20, N_FEATURES)).astype(np.float32)
    expected = open_on(network, "cpu").run({"x": x})["y"]
    for device in ("cuda:0", "cuda:1"):
        alone = open_on(network, device, use_tf32="0").run({"x": x})["y"]
        np.testing.assert_allclose(alone, expected, rtol=TOLERANCE, atol=TOLERANCE)
    execution = Execution(
        devices=("cuda:0", "cuda:1"), provider_options={"CUDA": {"use_tf32": "0"}}
    )
    with infersdk.load(network, execution=execution) as model:
        assert [one.device for one in model.providers.devices] == ["cuda:0", "cuda:1"]
        answers = call_from_many_threads(model, x)
    np.testing.assert_allclose(answers, expected, rtol=TOLERANCE, atol=TOLERANCE)


def test_running_out_of_memory_is_an_error_and_the_model_goes_on(
    cuda_device: str, open_on: Open
) -> None:
    session = open_on(zeros_of_any_shape(), cuda_device)
    for _ in range(3):
        with pytest.raises(SessionError, match="ONNX Runtime failed"):
            session.run({"shape": np.array([2**20, 2**20], np.int64)})  # 4 TiB
        small = session.run({"shape": np.array([10, 10], np.int64)})
        assert small["s"] == 0


def test_a_memory_limit_holds(cuda_device: str, open_on: Open, rng: np.random.Generator) -> None:
    session = open_on(mlp(rng), cuda_device, gpu_mem_limit=str(64 * 2**20))
    with pytest.raises(SessionError):
        session.run({"x": np.zeros((100_000, N_FEATURES), np.float32)})  # 400 MB between the layers
    assert session.run({"x": np.zeros((1, N_FEATURES), np.float32)})["y"].shape == (1, 10)


def test_a_device_that_is_not_there_is_an_error(cuda_device: str, open_on: Open) -> None:
    with pytest.raises(SessionError, match="there is no such device; the driver sees cuda:0"):
        open_on(zeros_of_any_shape(), "cuda:99")


def test_a_wrong_option_is_an_error(cuda_device: str, open_on: Open) -> None:
    with pytest.raises(SessionError, match="no_such_option"):
        open_on(zeros_of_any_shape(), cuda_device, no_such_option="1")
