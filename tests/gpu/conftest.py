"""Tests on a real device: ``pytest tests/gpu`` on a machine with an NVIDIA GPU and onnxruntime-gpu.

They are skipped where there is none. ``INFERSDK_TEST_DEVICE=cpu pytest tests/gpu`` runs what does not need
a GPU on the CPU, which proves the tests, not the device.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from infersdk._native import Session
from infersdk._native.devices import CudaDevices, available_providers, cuda_devices
from infersdk.options import Execution
from infersdk.runtime.placement import open_sessions, select
from infersdk.runtime.providers import DeviceChoice

DEVICE = os.environ.get("INFERSDK_TEST_DEVICE", "cuda:0")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def present() -> CudaDevices:
    return cuda_devices() if DEVICE.startswith("cuda") else CudaDevices()


@pytest.fixture(autouse=True)
def _needs_a_device(present: CudaDevices) -> None:
    if not DEVICE.startswith("cuda"):
        return
    if not present:
        pytest.skip(f"no CUDA device: {present.reason}")
    if "CUDAExecutionProvider" not in available_providers():
        pytest.skip("no CUDA device that ONNX Runtime can use: it is not onnxruntime-gpu")


@pytest.fixture
def device() -> str:
    return DEVICE


@pytest.fixture
def cuda_device(device: str) -> str:
    """For what has no meaning on the CPU."""
    if not device.startswith("cuda"):
        pytest.skip("no CUDA device: INFERSDK_TEST_DEVICE names another")
    return device


Open = Callable[..., Session]


@pytest.fixture
def open_on() -> Iterator[Open]:
    """Opens a session of a model on a device; closes it after the test."""
    opened: list[Session] = []

    def open_one(model: bytes, device: str, **options: str) -> Session:
        def open_session(choice: DeviceChoice) -> Session:
            return Session(
                model,
                providers=[(one.name, one.options) for one in choice.providers],
                cuda_device=choice.cuda_ordinal,
            )

        given = {"CUDA": options} if device.startswith("cuda") else {}
        execution = Execution(devices=(device,), provider_options=given)
        sessions, used = open_sessions(select(execution), open_session)
        opened.extend(sessions)
        assert [one.device for one in used.devices] == [device]
        return sessions[0]

    yield open_one
    for session in opened:
        session.close()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
