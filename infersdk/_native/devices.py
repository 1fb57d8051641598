"""What this machine has to run on: ONNX Runtime's providers, CUDA devices and NVIDIA's libraries.

Asking the driver is cheap (it makes no context) and needs no framework, but it is not free of
consequences: a process that has asked cannot use CUDA in its forked children. So it is asked only where
a CUDA provider is installed and wanted.

pip puts NVIDIA's libraries where the dynamic linker does not look (``site-packages/nvidia/*/lib``). They
are opened here before the provider is, which then finds them by their names, as the linker takes a
library of that name that is already open. They are opened with local symbols: PyTorch may have brought
others of another CUDA version into the process.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from .library import find_library
from .providers import DeviceTensor, available_providers

__all__ = [
    "CudaDevice",
    "CudaDevices",
    "DeviceTensor",
    "available_providers",
    "cuda_build",
    "cuda_devices",
    "preload_cuda",
]

_NOT_INITIALIZED = 3
_NO_DEVICE = 100

# What the provider's library needs, or opens at its first use, by CUDA's major version. cuFFT is one
# version behind.
_LIBRARIES = (
    "libcublasLt.so.{cuda}",
    "libcublas.so.{cuda}",
    "libcurand.so.10",
    "libcudart.so.{cuda}",
    "libnvrtc.so.{cuda}",
    "libcufft.so.{fft}",
    "libcudnn.so.9",
)
_TENSORRT = ("libnvinfer.so.10", "libnvinfer_plugin.so.10", "libnvonnxparser.so.10")

_lock = threading.Lock()
_held: list[ctypes.CDLL] = []


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """A GPU that this process may use.

    Attributes
    ----------
    ordinal : int
        CUDA's number for it, which ``CUDA_VISIBLE_DEVICES`` may have changed.
    name : str
        Such as ``"NVIDIA H200"``.
    total_bytes : int
        Its memory.
    free_bytes : int or None
        What is free of it just now; None where NVIDIA's management library does not say.
    """

    ordinal: int
    name: str
    total_bytes: int
    free_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class CudaDevices:
    """What the driver sees.

    Attributes
    ----------
    devices : tuple of CudaDevice
        By ordinal.
    reason : str
        Why there are none; empty where there are.
    driver : tuple of int
        The CUDA version that the driver supports, as (major, minor); (0, 0) where it is not known.
    """

    devices: tuple[CudaDevice, ...] = ()
    reason: str = "no CUDA device was looked for"
    driver: tuple[int, int] = (0, 0)

    def __bool__(self) -> bool:
        return bool(self.devices)


def cuda_devices(
    driver: str = "libcuda.so.1", management: str = "libnvidia-ml.so.1"
) -> CudaDevices:
    """Ask NVIDIA's driver which devices this process may use.

    Parameters
    ----------
    driver, management : str
        The libraries of the driver and of its management interface (for the free memory).

    Returns
    -------
    CudaDevices
        Without devices it says why.

    Notes
    -----
    Makes no CUDA context and takes no memory of a device. Afterwards CUDA cannot be used in children
    that this process forks.
    """
    try:
        cuda = ctypes.CDLL(driver)
    except OSError as error:
        return CudaDevices(reason=f"no NVIDIA driver was found ({error})")
    try:
        return _ask(cuda, management)
    except AttributeError as error:
        return CudaDevices(reason=f"{driver} is no CUDA driver ({error})")


def _ask(cuda: ctypes.CDLL, management: str) -> CudaDevices:
    version = ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))  # needs no initialization
    supported = (version.value // 1000, version.value % 1000 // 10)
    code = cuda.cuInit(0)
    if code == _NO_DEVICE:
        reason = "NVIDIA's driver sees no device"
        if "CUDA_VISIBLE_DEVICES" in os.environ:
            reason += f" (CUDA_VISIBLE_DEVICES is {os.environ['CUDA_VISIBLE_DEVICES']!r})"
        return CudaDevices(reason=reason, driver=supported)
    if code != 0:
        reason = f"NVIDIA's driver does not start: {_error_text(cuda, code)}"
        if code == _NOT_INITIALIZED:
            reason += "; CUDA was used before this process was forked, which it does not survive"
        return CudaDevices(reason=reason, driver=supported)
    count = ctypes.c_int()
    code = cuda.cuDeviceGetCount(ctypes.byref(count))
    if code != 0 or count.value == 0:
        reason = _error_text(cuda, code) if code != 0 else "it counts none"
        return CudaDevices(reason=f"NVIDIA's driver sees no device: {reason}", driver=supported)
    free = _free_memory(cuda, management, count.value)
    devices = []
    for ordinal in range(count.value):
        device = ctypes.c_int()
        name = ctypes.create_string_buffer(256)
        total = ctypes.c_size_t()
        code = cuda.cuDeviceGet(ctypes.byref(device), ordinal)
        code = code or cuda.cuDeviceGetName(name, len(name), device)
        code = code or cuda.cuDeviceTotalMem_v2(ctypes.byref(total), device)
        if code != 0:
            reason = (
                f"NVIDIA's driver does not describe device {ordinal}: {_error_text(cuda, code)}"
            )
            return CudaDevices(reason=reason, driver=supported)
        devices.append(
            CudaDevice(ordinal, name.value.decode(errors="replace"), total.value, free.get(ordinal))
        )
    return CudaDevices(tuple(devices), reason="", driver=supported)


def _error_text(cuda: ctypes.CDLL, code: int) -> str:
    text = ctypes.c_char_p()
    try:
        cuda.cuGetErrorString(code, ctypes.byref(text))
    except AttributeError:
        text = ctypes.c_char_p()
    described = text.value.decode(errors="replace") if text.value else "unknown error"
    return f"{described} (CUDA error {code})"


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def _free_memory(cuda: ctypes.CDLL, management: str, n_devices: int) -> dict[int, int]:
    """Free bytes by CUDA ordinal, as far as they can be had without a context.

    The management library counts devices in its own order, so that they are matched by their place on
    the bus.
    """
    free: dict[int, int] = {}
    try:
        nvml = ctypes.CDLL(management)
        if nvml.nvmlInit_v2() != 0:
            return free
    except (OSError, AttributeError):
        return free
    try:
        for ordinal in range(n_devices):
            device = ctypes.c_int()
            place = ctypes.create_string_buffer(64)
            handle = ctypes.c_void_p()
            memory = _Memory()
            if (
                cuda.cuDeviceGet(ctypes.byref(device), ordinal) == 0
                and cuda.cuDeviceGetPCIBusId(place, len(place), device) == 0
                and nvml.nvmlDeviceGetHandleByPciBusId_v2(place, ctypes.byref(handle)) == 0
                and nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0
            ):
                free[ordinal] = memory.free
    except AttributeError:
        pass
    finally:
        nvml.nvmlShutdown()
    return free


def cuda_build(library: Path | None = None) -> tuple[int, int] | None:
    """The CUDA version, as (major, minor), that an onnxruntime was built for.

    Parameters
    ----------
    library : pathlib.Path, optional
        Of ``libonnxruntime``, by default the installed one; the package says the version in a file
        beside it.

    Returns
    -------
    tuple of int or None
        None where it is no CUDA build.
    """
    folder = (library or find_library()).parent
    try:
        text = (folder / "build_and_package_info.py").read_text()
    except OSError:
        return None
    found = re.search(r"""^cuda_version\s*=\s*["'](\d+)(?:\.(\d+))?""", text, re.MULTILINE)
    return (int(found[1]), int(found[2] or 0)) if found else None


def preload_cuda(
    cuda_major: int, *, tensorrt: bool = False, folders: tuple[Path, ...] | None = None
) -> dict[str, str]:
    """Open the libraries that ONNX Runtime's CUDA provider needs, where pip has put them.

    Parameters
    ----------
    cuda_major : int
        CUDA's major version, of :func:`cuda_build`.
    tensorrt : bool
        Whether TensorRT's libraries are needed, too.
    folders : tuple of pathlib.Path, optional
        Where to look before the system's own places. By default where the packages ``nvidia-*`` and
        ``tensorrt`` put their libraries.

    Returns
    -------
    dict
        Those that could not be opened, each with the linker's reason.
    """
    if not sys.platform.startswith("linux"):
        return {}
    names = [name.format(cuda=cuda_major, fft=cuda_major - 1) for name in _LIBRARIES]
    if tensorrt:
        names += _TENSORRT
    if folders is None:
        folders = _pip_folders(cuda_major)
    missing = {}
    with _lock:
        for name in names:
            reason = _open(name, folders)
            if reason is not None:
                missing[name] = reason
    return missing


def _open(name: str, folders: tuple[Path, ...]) -> str | None:
    """Why a library cannot be opened, or None."""
    try:
        ctypes.CDLL(name, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        return None  # somebody has opened it: a second copy would not be the same library
    except OSError:
        pass
    places = [str(folder / name) for folder in folders if (folder / name).is_file()]
    reason = None
    for place in [*places, name]:
        try:
            _held.append(ctypes.CDLL(place))
            return None
        except OSError as error:
            reason = reason or str(error)
    return reason


def _pip_folders(cuda_major: int) -> tuple[Path, ...]:
    roots = _locations("nvidia")
    # Since CUDA 13 one folder holds everything but cuDNN; before, each library had its own.
    folders = [root / f"cu{cuda_major}" / "lib" for root in roots]
    for root in roots:
        folders += sorted(
            path for path in root.glob("*/lib") if not re.fullmatch(r"cu\d+", path.parent.name)
        )
    return (*folders, *_locations("tensorrt_libs"))


def _locations(package: str) -> list[Path]:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return []
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
