"""Carrying out a choice of providers: what the machine has is asked, and sessions are opened.

:func:`select` asks the machine and leaves the decision to :func:`~infersdk.runtime.providers.choose`;
:func:`open_sessions` opens a session on each chosen device, and goes on to the next provider where one
does not load and that is allowed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from infersdk._native.devices import (
    CudaDevices,
    available_providers,
    cuda_build,
    cuda_devices,
    preload_cuda,
)
from infersdk.errors import SessionError
from infersdk.options import Execution
from infersdk.runtime.graph_ops import GraphOps
from infersdk.runtime.providers import (
    DeviceChoice,
    ProviderChoice,
    asks_for_cuda,
    choose,
    unsuited,
)

__all__ = ["open_sessions", "select"]


# ONNX Runtime tells where in its source a provider failed to load, before it tells why.
_SOURCE_LINE = re.compile(r"/\S+\.cc:\d+ .*?\[ONNXRuntimeError\] : \d+ : \w+ : ")


class _Closes(Protocol):
    def close(self) -> None: ...


S = TypeVar("S", bound=_Closes)


def select(execution: Execution, ops: Callable[[], GraphOps] | None = None) -> ProviderChoice:
    """Ask the machine what it has, and choose.

    NVIDIA's driver is asked only where CUDA is installed and comes into question, since asking it takes
    CUDA from children that this process forks later.

    Parameters
    ----------
    execution : Execution
        What the user asked for.
    ops : callable, optional
        Gives the graph's :class:`GraphOps`; called only where they matter.

    Raises
    ------
    ValueError
        A device or provider is unknown, a provider is named twice, or the two do not go together.
    MissingDependencyError
        ONNX Runtime is not installed, or has no such provider.
    SessionError
        A device that was asked for is not there.
    """
    available = available_providers()
    present = CudaDevices()
    counted = None
    if asks_for_cuda(execution, available):
        if execution.providers == "auto" and ops is not None:
            counted = ops()
        if execution.devices is not None or unsuited(counted) is None:
            present = cuda_devices()
        else:
            present = CudaDevices(reason=unsuited(counted) or "")
    return choose(
        execution,
        available=available,
        devices_present=present,
        ops=counted,
        cuda_version=cuda_build(),
        cache_folder=_tensorrt_cache(execution),
    )


def open_sessions(
    choice: ProviderChoice, open_session: Callable[[DeviceChoice], S]
) -> tuple[list[S], ProviderChoice]:
    """Open a session on every chosen device.

    Parameters
    ----------
    choice : ProviderChoice
        Of :func:`select`.
    open_session : callable
        Opens one; a :class:`SessionError` says that it cannot be.

    Returns
    -------
    sessions : list
        One per device of the choice that is returned.
    choice : ProviderChoice
        What is really used, with a reason for whatever did not load.

    Raises
    ------
    SessionError
        A session cannot be opened, and nothing else may take its place; those that were opened are
        closed again.
    """
    missing = _preload(choice)
    sessions: list[S] = []
    used: list[DeviceChoice] = []
    passed_over = list(choice.passed_over)

    def keep(device: DeviceChoice) -> None:
        sessions.append(open_session(device))
        used.append(device)

    try:
        for device in choice.devices:
            rest: DeviceChoice | None = device
            while rest is not None:
                try:
                    keep(rest)
                    break
                except SessionError as error:
                    if not rest.providers:
                        raise
                    explained = _explained(error, rest, missing)
                    if not choice.may_fall_back:
                        raise explained from error
                    failed = f"{rest.providers[0].name} on {rest.device}"
                    passed_over.append((failed, str(explained)))
                    rest = _without_first(rest)
        if not sessions:
            keep(DeviceChoice("cpu"))
    except BaseException:
        for session in sessions:
            session.close()
        raise
    if tuple(used) == choice.devices:
        return sessions, choice
    return sessions, replace(
        choice,
        devices=tuple(used),
        reason="what was preferred did not load",
        passed_over=tuple(passed_over),
    )


def _without_first(device: DeviceChoice) -> DeviceChoice | None:
    """What to try next on a device; None where nothing is left and the device is not the CPU."""
    rest = replace(device, providers=device.providers[1:])
    return rest if rest.providers or rest.device == "cpu" else None


def _preload(choice: ProviderChoice) -> dict[str, str]:
    """Open NVIDIA's libraries where they are needed; gives those that are not there."""
    build = cuda_build() if choice.uses_cuda else None
    if build is None:
        return {}
    names = {provider.name for device in choice.devices for provider in device.providers}
    return preload_cuda(build[0], tensorrt="TensorRT" in names)


def _explained(
    error: SessionError, device: DeviceChoice, missing: Mapping[str, str]
) -> SessionError:
    text = re.sub(r"\s+", " ", _SOURCE_LINE.sub("", str(error))).strip()
    if missing and "Failed to load" in text:
        tensorrt = [name for name in missing if name.startswith(("libnvinfer", "libnvonnx"))]
        cuda = [name for name in missing if name not in tensorrt]
        if cuda:
            text += (
                f". Not found: {', '.join(cuda)}; NVIDIA's libraries come with: "
                'pip install "onnxruntime-gpu[cuda,cudnn]"'
            )
        if tensorrt and device.providers[0].name == "TensorRT":
            text += f". Not found: {', '.join(tensorrt)}; they come with: pip install tensorrt"
    return SessionError(text, model=error.model, code=error.code)


def _tensorrt_cache(execution: Execution) -> Path | None:
    """A folder that only this user may write, as TensorRT runs what it finds there."""
    if execution.providers == "auto" or not any(
        name.lower().startswith("tensorrt") for name in execution.providers
    ):
        return None
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(base, "infersdk", "tensorrt")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return None
    own = status.st_uid == os.geteuid() and not status.st_mode & 0o022
    return folder if own else None
