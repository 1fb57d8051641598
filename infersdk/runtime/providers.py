"""Which execution provider runs a model, on which device, and why.

:func:`choose` decides, from what it is given and nothing else: what the user asked for, what ONNX Runtime
was built with, which devices the driver sees, and what the graph consists of. Whatever was not chosen
keeps its reason, in words: a model that quietly runs on the CPU of a machine with a GPU is the mistake
this module exists to prevent.

Providers whose values lie on a GPU go with a kind of device ("cuda", "rocm", "dml"). The others (OpenVINO,
CoreML, XNNPACK, ...) take host memory, choose their hardware by options of their own, and count as "cpu".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infersdk._native.devices import CudaDevices
from infersdk.errors import MissingDependencyError, SessionError
from infersdk.options import Execution
from infersdk.runtime.graph_ops import GraphOps

__all__ = ["DeviceChoice", "Provider", "ProviderChoice", "asks_for_cuda", "choose", "unsuited"]

_SMALL_WEIGHTS_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class _Known:
    """A provider that ONNX Runtime has under some build."""

    name: str  # how infersdk and ONNX Runtime's options name it
    full_name: str
    device: str  # the kind of device that its values lie on: "cpu" where it manages that itself
    install: str


_WITH_GPU = 'pip install "infersdk[gpu]"'
_ELSEWHERE = "a build of ONNX Runtime that has it"
_KNOWN = {
    known.name.lower(): known
    for known in (
        _Known("CPU", "CPUExecutionProvider", "cpu", 'pip install "infersdk[cpu]"'),
        _Known("CUDA", "CUDAExecutionProvider", "cuda", _WITH_GPU),
        _Known("TensorRT", "TensorrtExecutionProvider", "cuda", f"{_WITH_GPU} tensorrt"),
        _Known("NvTensorRTRTX", "NvTensorRTRTXExecutionProvider", "cuda", _ELSEWHERE),
        _Known("ROCM", "ROCMExecutionProvider", "rocm", "pip install onnxruntime-rocm"),
        _Known("MIGraphX", "MIGraphXExecutionProvider", "rocm", _ELSEWHERE),
        _Known("DML", "DmlExecutionProvider", "dml", "pip install onnxruntime-directml"),
        _Known("OpenVINO", "OpenVINOExecutionProvider", "cpu", "pip install onnxruntime-openvino"),
        _Known("CoreML", "CoreMLExecutionProvider", "cpu", "onnxruntime on macOS"),
        _Known("QNN", "QNNExecutionProvider", "cpu", "pip install onnxruntime-qnn"),
        _Known("XNNPACK", "XnnpackExecutionProvider", "cpu", _ELSEWHERE),
        _Known("Dnnl", "DnnlExecutionProvider", "cpu", _ELSEWHERE),
        _Known("VitisAI", "VitisAIExecutionProvider", "cpu", _ELSEWHERE),
        _Known("WebGPU", "WebGpuExecutionProvider", "cpu", _ELSEWHERE),
        _Known("AZURE", "AzureExecutionProvider", "cpu", _ELSEWHERE),
    )
}
_SUFFIX = "executionprovider"
_DEVICE = re.compile(r"(cuda|rocm|dml)(?::(\d{1,4}))?")


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider and the options it is given.

    Attributes
    ----------
    name : str
        ONNX Runtime's name without the ending "ExecutionProvider".
    options : tuple of (str, str)
        In ONNX Runtime's words.
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """A device, and the providers that a session there tries for each node.

    Attributes
    ----------
    device : str
        ``"cpu"``, ``"cuda:0"``, ...
    providers : tuple of Provider
        The preferred one first. What none of them takes is computed by the CPU; empty: all of it.
    """

    device: str
    providers: tuple[Provider, ...] = ()

    @property
    def cuda_ordinal(self) -> int:
        """The number of the CUDA device that holds the session's values; -1 on other devices."""
        kind, _, number = self.device.partition(":")
        return int(number) if kind == "cuda" else -1

    def __str__(self) -> str:
        names = [provider.name for provider in self.providers]
        return f"{self.device}: {', then '.join([*names, 'CPU'])}"


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """What was chosen, and why.

    Attributes
    ----------
    devices : tuple of DeviceChoice
        One session each.
    reason : str
        Why these.
    passed_over : tuple of (str, str)
        Providers and devices that were considered and not chosen, each with the reason.
    may_fall_back : bool
        Whether a provider that does not load may be replaced by the next one or the CPU.
    """

    devices: tuple[DeviceChoice, ...]
    reason: str
    passed_over: tuple[tuple[str, str], ...] = ()
    may_fall_back: bool = False

    @property
    def uses_cuda(self) -> bool:
        """Whether a session needs NVIDIA's libraries."""
        return any(choice.cuda_ordinal >= 0 for choice in self.devices)

    def __str__(self) -> str:
        lines = [f"{choice}" for choice in self.devices]
        lines[0] += f" ({self.reason})"
        lines += [f"not {name}: {reason}" for name, reason in self.passed_over]
        return "\n".join(lines)


def choose(
    execution: Execution,
    *,
    available: Sequence[str],
    devices_present: CudaDevices,
    ops: GraphOps | None = None,
    cuda_version: tuple[int, int] | None = None,
    cache_folder: Path | None = None,
) -> ProviderChoice:
    """Choose the devices, and the providers on each. Reads nothing but its arguments.

    Parameters
    ----------
    execution : Execution
        What the user asked for.
    available : sequence of str
        ONNX Runtime's providers, by their full names.
    devices_present : CudaDevices
        What NVIDIA's driver sees.
    ops : GraphOps, optional
        Of the graph; without it, "auto" takes any graph for one that suits a GPU.
    cuda_version : tuple of int, optional
        The CUDA version that ONNX Runtime was built for; compared with the driver's.
    cache_folder : pathlib.Path, optional
        Where TensorRT keeps the engines that take it minutes to build; without it they are not kept.

    Raises
    ------
    ValueError
        A device or provider is unknown, a provider is named twice, or the two do not go together.
    MissingDependencyError
        A provider that was asked for is not in this build of ONNX Runtime.
    SessionError
        Its device is not there.
    """
    chooser = _Chooser(
        available, devices_present, cuda_version, cache_folder, _read_options(execution, available)
    )
    if execution.devices is None and execution.providers == "auto":
        return chooser.automatic(ops)
    return chooser.as_asked(
        _wanted_providers(execution, available),
        _wanted_devices(execution),
        strict=not execution.provider_fallback,
        # Naming providers says what the graph suits; naming a device alone does not.
        remark=unsuited(ops) if execution.providers == "auto" else None,
        named=execution.providers != "auto",
    )


def asks_for_cuda(execution: Execution, available: Sequence[str]) -> bool:
    """Whether CUDA comes into question, so that the driver has to be asked for its devices.

    Raises
    ------
    ValueError
        A provider is unknown.
    """
    if not any(known.full_name in available for known in _KNOWN.values() if known.device == "cuda"):
        return False
    if execution.devices is not None:
        return any(device.startswith("cuda") for device in execution.devices)
    wanted = _wanted_providers(execution, available)
    return any(known.device == "cuda" for known in wanted)


class _Chooser:
    def __init__(
        self,
        available: Sequence[str],
        present: CudaDevices,
        cuda_version: tuple[int, int] | None,
        cache_folder: Path | None,
        options: Mapping[str, Mapping[str, str]],
    ) -> None:
        self.available = available
        self.present = present
        self.cuda_version = cuda_version
        self.cache_folder = cache_folder
        self.options = options

    def automatic(self, ops: GraphOps | None) -> ProviderChoice:
        """CUDA where it is there, for a graph that gains from it; else the CPU."""
        cuda = _KNOWN["cuda"]
        ordinal = self.ordinal("cuda")
        problem = self.problem(cuda, ordinal)
        against = unsuited(ops) if problem is None else problem[1]
        if against is not None:
            cpu = (DeviceChoice("cpu"),)
            return ProviderChoice(cpu, "always there", (("CUDA", against),), may_fall_back=True)
        reason = f"{self.present.devices[ordinal].name} is there"
        if ops is not None:
            reason += f" and has kernels for {ops.n_nodes - ops.n_cpu_only} of {ops.n_nodes} nodes"
        device = DeviceChoice(f"cuda:{ordinal}", (self.provider(cuda, ordinal),))
        return ProviderChoice((device,), reason, may_fall_back=True)

    def as_asked(
        self,
        wanted: Sequence[_Known],
        devices: Sequence[tuple[str, int]] | None,
        *,
        strict: bool,
        remark: str | None,
        named: bool,
    ) -> ProviderChoice:
        """The providers or devices that were named, and nothing else unless not `strict`."""
        passed_over: dict[str, str] = {}
        if devices is None:
            devices = [self.first_device(wanted, strict, passed_over)]
        self.check_ordinals(devices)
        chosen = []
        for kind, ordinal in devices:
            label = _label(kind, ordinal)
            here = [known for known in wanted if known.device == kind and known.name != "CPU"]
            if kind != "cpu" and not here:
                able = [known.name for known in _KNOWN.values() if known.device == kind]
                raise ValueError(
                    f"Execution: device {label!r} needs one of the providers {', '.join(able)}, got "
                    f"providers={tuple(known.name for known in wanted)!r}; name one of them, or leave "
                    'providers="auto"'
                )
            providers = []
            for known in here:
                problem = self.problem(known, ordinal)
                if problem is None:
                    providers.append(self.provider(known, ordinal))
                elif strict:
                    raise self.error(known, label, *problem)
                else:
                    passed_over.setdefault(_with_device(known, label), problem[1])
            if providers or kind == "cpu":
                chosen.append(DeviceChoice(label, tuple(providers)))
        if not chosen:
            chosen.append(DeviceChoice("cpu"))
        reason = "as asked for"
        if passed_over:
            reason = "provider_fallback allows it"
        elif remark is not None and any(choice.cuda_ordinal >= 0 for choice in chosen):
            reason += f", although {remark}"
        kinds = {kind for kind, _ in devices}
        for known in wanted if named and not passed_over else ():
            if known.name != "CPU" and known.device not in kinds:
                text = ", ".join(choice.device for choice in chosen)
                passed_over[known.name] = (
                    f"its devices are of kind {known.device}, and it is {text}"
                )
        return ProviderChoice(
            tuple(chosen), reason, tuple(passed_over.items()), may_fall_back=not strict
        )

    def first_device(
        self, wanted: Sequence[_Known], strict: bool, passed_over: dict[str, str]
    ) -> tuple[str, int]:
        """The device of the first provider that is there, where no device was named."""
        for known in wanted:
            ordinal = self.ordinal(known.device)
            problem = self.problem(known, ordinal)
            if problem is None:
                return known.device, ordinal
            label = _label(known.device, ordinal)
            if strict:
                raise self.error(known, label, *problem)
            passed_over[_with_device(known, label)] = problem[1]
        return "cpu", 0

    def ordinal(self, kind: str) -> int:
        """The number of the device, where no device was named: what the options say, else 0."""
        if kind == "cpu":
            return 0
        for name, options in self.options.items():
            if _kind(name) == kind and "device_id" in options:
                return int(options["device_id"])
        return 0

    def check_ordinals(self, devices: Sequence[tuple[str, int]]) -> None:
        for name, options in self.options.items():
            ordinals = {ordinal for kind, ordinal in devices if kind == _kind(name)}
            if "device_id" in options and ordinals and ordinals != {int(options["device_id"])}:
                labels = ", ".join(_label(kind, ordinal) for kind, ordinal in devices)
                raise ValueError(
                    f"Execution.provider_options[{name!r}] says device_id {options['device_id']}, and the "
                    f"model goes to {labels}; leave device_id out and name Execution.devices"
                )

    def problem(
        self, known: _Known, ordinal: int
    ) -> tuple[type[SessionError | MissingDependencyError], str] | None:
        """Why a provider cannot run on a device, as far as can be seen without loading it."""
        if known.name == "CPU":
            return None
        if known.full_name not in self.available:
            names = ", ".join(_short(name) for name in self.available)
            return MissingDependencyError, (
                f"the installed ONNX Runtime has no {known.name} provider (it has: {names}); "
                f"{_how_to_install(known)}"
            )
        if known.device != "cuda":
            return None
        if not self.present:
            return SessionError, self.present.reason
        if ordinal >= len(self.present.devices):
            seen = ", ".join(
                f"cuda:{device.ordinal} ({device.name})" for device in self.present.devices
            )
            return SessionError, f"there is no such device; the driver sees {seen}"
        driver, build = self.present.driver, self.cuda_version
        if build is not None and driver != (0, 0) and driver[0] < build[0]:
            return SessionError, (
                f"NVIDIA's driver supports CUDA {driver[0]}.{driver[1]}, and this ONNX Runtime is built "
                f"for CUDA {build[0]}.{build[1]}: update the driver, or install an onnxruntime-gpu "
                f"built for CUDA {driver[0]}"
            )
        return None

    def error(
        self,
        known: _Known,
        label: str,
        kind: type[SessionError | MissingDependencyError],
        reason: str,
    ) -> SessionError | MissingDependencyError:
        where = "" if label == "cpu" else f" on {label}"
        return kind(
            f"Execution asks for provider {known.name}{where}, and it cannot be used: {reason}. "
            "provider_fallback=True goes on with the next provider or the CPU instead"
        )

    def provider(self, known: _Known, ordinal: int) -> Provider:
        """The provider with its defaults, which the user's options replace."""
        options: dict[str, str] = {}
        if known.device != "cpu":
            options["device_id"] = str(ordinal)
        if known.name == "CUDA":
            # An exhaustive search is made anew for each new shape, of which a server sees many.
            options["cudnn_conv_algo_search"] = "HEURISTIC"
            # The next power of two may be twice what is needed, of memory that others share.
            options["arena_extend_strategy"] = "kSameAsRequested"
            options["do_copy_in_default_stream"] = "1"
        if known.name == "TensorRT" and self.cache_folder is not None:
            options["trt_engine_cache_enable"] = "1"
            options["trt_engine_cache_path"] = str(self.cache_folder)
            options["trt_timing_cache_enable"] = "1"
            options["trt_timing_cache_path"] = str(self.cache_folder)
        options.update(self.options.get(known.name, {}))
        return Provider(known.name, tuple(options.items()))


def unsuited(ops: GraphOps | None) -> str | None:
    """Why a GPU would not make a graph faster, or None; also where the graph is not known."""
    if ops is None:
        return None
    if 2 * ops.n_cpu_only >= ops.n_nodes:
        names = ", ".join(name for name, _ in ops.cpu_only[:3])
        more = ", ..." if len(ops.cpu_only) > 3 else ""
        what = f" ({names}{more})" if names else ""
        return f"{ops.n_cpu_only} of the graph's {ops.n_nodes} nodes run on the CPU only{what}"
    if ops.weights_bytes < _SMALL_WEIGHTS_BYTES and not ops.heavy:
        return (
            f"the model is small ({ops.weights_bytes / 1000:.0f} kB of weights): a CPU is done before a "
            'GPU has begun; devices=("cuda",) takes the GPU all the same'
        )
    return None


def _wanted_devices(execution: Execution) -> list[tuple[str, int]] | None:
    if execution.devices is None:
        return None
    devices: list[tuple[str, int]] = []
    for text in execution.devices:
        found = _DEVICE.fullmatch(text)
        if text != "cpu" and found is None:
            raise ValueError(
                'Execution.devices: expected "cpu", "cuda" or "cuda:1" (or rocm, dml likewise), '
                f"got {text!r}"
            )
        # One that is named twice has two copies of the model.
        devices.append(("cpu", 0) if found is None else (found[1], int(found[2] or 0)))
    return devices


def _wanted_providers(execution: Execution, available: Sequence[str]) -> list[_Known]:
    if execution.providers == "auto":
        # One for each kind of device; those that take host memory are used when they are named.
        amd = [_KNOWN["rocm"], _KNOWN["migraphx"]]
        amd = [known for known in amd if known.full_name in available] or amd[:1]
        return [_KNOWN["cuda"], *amd, _KNOWN["dml"]]
    wanted: list[_Known] = []
    for name in execution.providers:
        known = _known(name, available, "Execution.providers")
        if known in wanted:
            raise ValueError(f"Execution.providers names {known.name!r} twice")
        wanted.append(known)
    if _KNOWN["tensorrt"] in wanted and _KNOWN["cuda"] not in wanted:
        # What TensorRT does not take had better run beside it than on the CPU.
        wanted.insert(wanted.index(_KNOWN["tensorrt"]) + 1, _KNOWN["cuda"])
    return wanted


def _read_options(execution: Execution, available: Sequence[str]) -> dict[str, dict[str, str]]:
    options: dict[str, dict[str, str]] = {}
    for name, given in execution.provider_options.items():
        known = _known(name, available, "Execution.provider_options")
        if known.name in options:
            raise ValueError(f"Execution.provider_options names {known.name!r} twice")
        texts = {str(key): _option_text(value) for key, value in given.items()}
        if "device_id" in texts and not texts["device_id"].isdecimal():
            raise ValueError(
                f"Execution.provider_options[{name!r}]: expected a number as device_id, got "
                f"{given['device_id']!r}"
            )
        options[known.name] = texts
    return options


def _option_text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _known(name: str, available: Sequence[str], where: str) -> _Known:
    bare = name.lower().removesuffix(_SUFFIX)
    if bare in _KNOWN:
        return _KNOWN[bare]
    for known in _KNOWN.values():
        if known.full_name.lower().removesuffix(_SUFFIX) == bare:
            return known
    for full_name in available:  # a provider of a build that is newer than this table
        if full_name.lower().removesuffix(_SUFFIX) == bare:
            return _Known(_short(full_name), full_name, "cpu", _ELSEWHERE)
    raise ValueError(
        f"{where}: expected providers that ONNX Runtime knows "
        f"({', '.join(known.name for known in _KNOWN.values())}), got {name!r}"
    )


def _label(kind: str, ordinal: int) -> str:
    return kind if kind == "cpu" else f"{kind}:{ordinal}"


def _with_device(known: _Known, label: str) -> str:
    return known.name if label == "cpu" else f"{known.name} on {label}"


def _kind(name: str) -> str:
    known = _KNOWN.get(name.lower())
    return "cpu" if known is None else known.device


def _short(full_name: str) -> str:
    for known in _KNOWN.values():
        if known.full_name == full_name:
            return known.name
    return full_name.removesuffix("ExecutionProvider")


def _how_to_install(known: _Known) -> str:
    if known.install.startswith("pip"):
        return (
            f"{known.install} brings it (first pip uninstall the onnxruntime that is there: the "
            "distributions share a folder)"
        )
    return f"it takes {known.install}"
