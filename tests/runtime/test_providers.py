"""Which provider is chosen, and why; and tensors that are handed over by DLPack.

The chooser is a pure function, so that machines with GPUs are described to it here. A fake driver, built
with the compiler that built infersdk, stands in for NVIDIA's. tests/gpu asks real devices.
"""

from __future__ import annotations

import gc
import re
import shutil
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import TensorProto, helper, numpy_helper, parser

import infersdk
from infersdk._native.devices import (
    CudaDevice,
    CudaDevices,
    DeviceTensor,
    available_providers,
    cuda_build,
    cuda_devices,
    preload_cuda,
)
from infersdk.errors import MissingDependencyError, SessionError
from infersdk.options import Execution
from infersdk.runtime import placement
from infersdk.runtime.graph_ops import GraphOps, survey
from infersdk.runtime.placement import open_sessions, select
from infersdk.runtime.providers import (
    DeviceChoice,
    Provider,
    ProviderChoice,
    asks_for_cuda,
    choose,
)

CPU_BUILD = ("AzureExecutionProvider", "CPUExecutionProvider")
GPU_BUILD = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider")
OPENVINO_BUILD = ("OpenVINOExecutionProvider", "CPUExecutionProvider")
ROCM_BUILD = ("MIGraphXExecutionProvider", "ROCMExecutionProvider", "CPUExecutionProvider")

NO_DRIVER = CudaDevices(reason="no NVIDIA driver was found (libcuda.so.1: ...)")
TWO_GPUS = CudaDevices(
    (
        CudaDevice(0, "NVIDIA H200", 141 * 10**9, 140 * 10**9),
        CudaDevice(1, "NVIDIA L4", 24 * 10**9),
    ),
    reason="",
    driver=(13, 0),
)

TRANSFORMER = GraphOps(120, (("Unique", 2),), weights_bytes=400_000_000)
FOREST = GraphOps(3, (("TreeEnsembleClassifier", 1), ("LabelEncoder", 1)), weights_bytes=0)
LOGISTIC = GraphOps(4, (), weights_bytes=240)
SMALL_CNN = GraphOps(9, (), weights_bytes=9_000, heavy=True)


def decide(
    execution: Execution | None = None,
    *,
    available: tuple[str, ...] = GPU_BUILD,
    present: CudaDevices = TWO_GPUS,
    ops: GraphOps | None = TRANSFORMER,
    cuda_version: tuple[int, int] | None = (13, 0),
    cache_folder: Path | None = None,
) -> ProviderChoice:
    return choose(
        execution or Execution(),
        available=available,
        devices_present=present,
        ops=ops,
        cuda_version=cuda_version,
        cache_folder=cache_folder,
    )


def names(choice: ProviderChoice) -> list[tuple[str, list[str]]]:
    return [(one.device, [provider.name for provider in one.providers]) for one in choice.devices]


# -- "auto" ------------------------------------------------------------------------------------------


def test_auto_takes_the_first_gpu_for_a_graph_that_gains_from_it() -> None:
    choice = decide()
    assert names(choice) == [("cuda:0", ["CUDA"])]
    assert choice.devices[0].cuda_ordinal == 0
    assert choice.may_fall_back
    assert str(choice) == (
        "cuda:0: CUDA, then CPU (NVIDIA H200 is there and has kernels for 118 of 120 nodes)"
    )


@pytest.mark.parametrize(
    ("ops", "reason"),
    [
        (FOREST, r"2 of the graph's 3 nodes run on the CPU only \(TreeEnsembleClassifier, Label"),
        (LOGISTIC, r"the model is small \(0 kB of weights\)"),
        (GraphOps(0), "0 of the graph's 0 nodes"),
    ],
)
def test_auto_takes_the_cpu_for_a_graph_that_gains_nothing(ops: GraphOps, reason: str) -> None:
    choice = decide(ops=ops)
    assert names(choice) == [("cpu", [])]
    assert choice.devices[0].cuda_ordinal == -1
    ((name, why),) = choice.passed_over
    assert name == "CUDA"
    assert re.search(reason, why)


def test_auto_takes_a_small_network_of_convolutions_to_the_gpu() -> None:
    assert names(decide(ops=SMALL_CNN)) == [("cuda:0", ["CUDA"])]


def test_auto_without_a_look_at_the_graph_takes_the_gpu() -> None:
    assert names(decide(ops=None)) == [("cuda:0", ["CUDA"])]


def test_auto_takes_the_cpu_where_cuda_is_not_installed_and_says_how_to_get_it() -> None:
    choice = decide(available=CPU_BUILD, present=CudaDevices())
    assert names(choice) == [("cpu", [])]
    text = str(choice)
    assert text.startswith(
        "cpu: CPU (always there)\nnot CUDA: the installed ONNX Runtime has no CUDA"
    )
    assert "it has: AZURE, CPU" in text
    assert 'pip install "infersdk[gpu]"' in text


def test_auto_takes_the_cpu_where_no_device_is_visible_and_says_why() -> None:
    choice = decide(present=NO_DRIVER)
    assert names(choice) == [("cpu", [])]
    assert "not CUDA: no NVIDIA driver was found" in str(choice)


def test_auto_takes_the_cpu_where_the_driver_is_too_old() -> None:
    old = CudaDevices(TWO_GPUS.devices, reason="", driver=(12, 4))
    choice = decide(present=old)
    assert names(choice) == [("cpu", [])]
    assert "supports CUDA 12.4, and this ONNX Runtime is built for CUDA 13.0" in str(choice)
    # Within a major version any driver serves, and what is not known is not held against it.
    newer_build = decide(present=old, cuda_version=(12, 8))
    assert names(newer_build) == [("cuda:0", ["CUDA"])]
    assert names(decide(present=old, cuda_version=None)) == [("cuda:0", ["CUDA"])]


def test_auto_does_not_take_providers_that_nobody_asked_for() -> None:
    assert names(decide(available=OPENVINO_BUILD, present=CudaDevices())) == [("cpu", [])]


# -- devices -----------------------------------------------------------------------------------------


def test_each_device_has_a_session_with_its_number() -> None:
    choice = decide(Execution(devices=("cuda:0", "cuda:1")))
    assert names(choice) == [("cuda:0", ["CUDA"]), ("cuda:1", ["CUDA"])]
    assert [one.cuda_ordinal for one in choice.devices] == [0, 1]
    options = [dict(one.providers[0].options) for one in choice.devices]
    assert [one["device_id"] for one in options] == ["0", "1"]
    assert not choice.may_fall_back
    assert str(choice).splitlines() == [
        "cuda:0: CUDA, then CPU (as asked for)",
        "cuda:1: CUDA, then CPU",
    ]


def test_the_cpu_may_work_beside_a_gpu() -> None:
    choice = decide(Execution(devices=("cuda", "cpu")))
    assert names(choice) == [("cuda:0", ["CUDA"]), ("cpu", [])]


def test_a_named_device_is_taken_for_a_graph_that_gains_nothing_and_that_is_said() -> None:
    choice = decide(Execution(devices=("cuda",)), ops=FOREST)
    assert names(choice) == [("cuda:0", ["CUDA"])]
    assert "as asked for, although 2 of the graph's 3 nodes" in str(choice)


def test_the_cpu_by_name_is_the_cpu() -> None:
    choice = decide(Execution(devices=("cpu",)))
    assert names(choice) == [("cpu", [])]
    assert str(choice) == "cpu: CPU (as asked for)"


@pytest.mark.parametrize(
    "device", ["gpu", "cuda:", "cuda:x", "cuda:-1", "CUDA", "cpu:0", "", "cuda:0 ", "cuda:12345"]
)
def test_a_device_that_is_none_is_refused(device: str) -> None:
    with pytest.raises(ValueError, match='expected "cpu", "cuda" or "cuda:1"'):
        decide(Execution(devices=(device,)))


@pytest.mark.parametrize("devices", [("cpu", "cpu"), ("cuda:1", "cuda:1")])
def test_a_device_twice_has_two_copies(devices: tuple[str, str]) -> None:
    choice = decide(Execution(devices=devices))
    assert tuple(one.device for one in choice.devices) == devices
    sessions, _ = open_sessions(choice, Opener())
    assert len(sessions) == 2


def test_a_device_that_is_not_there_is_an_error_that_names_those_that_are() -> None:
    with pytest.raises(
        SessionError, match=r"CUDA on cuda:2, .* cuda:0 \(NVIDIA H200\), cuda:1 \(NVIDIA L4\)"
    ):
        decide(Execution(devices=("cuda:0", "cuda:2")))


def test_a_device_that_is_not_there_is_left_out_where_that_is_allowed() -> None:
    choice = decide(Execution(devices=("cuda:0", "cuda:2"), provider_fallback=True))
    assert names(choice) == [("cuda:0", ["CUDA"])]
    assert "not CUDA on cuda:2: there is no such device" in str(choice)


def test_a_device_and_a_provider_of_another_kind_are_refused() -> None:
    with pytest.raises(
        ValueError, match="device 'cuda:0' needs one of the providers CUDA, TensorRT"
    ):
        decide(Execution(devices=("cuda:0",), providers=("OpenVINO",)))


def test_an_amd_gpu_goes_by_its_own_name() -> None:
    choice = decide(Execution(devices=("rocm:1",)), available=ROCM_BUILD, present=CudaDevices())
    assert names(choice) == [("rocm:1", ["ROCM", "MIGraphX"])]
    assert dict(choice.devices[0].providers[0].options) == {"device_id": "1"}
    assert choice.devices[0].cuda_ordinal == -1
    with pytest.raises(MissingDependencyError, match="no ROCM provider"):
        decide(Execution(devices=("rocm",)), available=CPU_BUILD)


# -- providers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["CUDA", "cuda", "CUDAExecutionProvider", "cudaexecutionprovider"])
def test_a_provider_has_several_spellings(name: str) -> None:
    assert names(decide(Execution(providers=(name,)))) == [("cuda:0", ["CUDA"])]


def test_a_provider_by_onnx_runtimes_spelling_is_the_same_one() -> None:
    execution = Execution(providers=("TensorrtExecutionProvider",))
    assert names(decide(execution)) == [("cuda:0", ["TensorRT", "CUDA"])]


def test_what_tensorrt_leaves_goes_to_cuda() -> None:
    for providers in (("TensorRT",), ("TensorRT", "CUDA"), ("TensorRT", "CPU")):
        choice = decide(Execution(providers=providers))
        assert names(choice) == [("cuda:0", ["TensorRT", "CUDA"])]


def test_the_cpu_first_is_the_cpu() -> None:
    assert names(decide(Execution(providers=("CPU", "CUDA")))) == [("cpu", [])]
    assert names(decide(Execution(providers=("CPU",)))) == [("cpu", [])]


def test_a_provider_on_host_memory_has_no_device_number() -> None:
    choice = decide(
        Execution(providers=("OpenVINO",), provider_options={"OpenVINO": {"device_type": "CPU"}}),
        available=OPENVINO_BUILD,
        present=CudaDevices(),
    )
    assert choice.devices == (
        DeviceChoice("cpu", (Provider("OpenVINO", (("device_type", "CPU"),)),)),
    )
    assert str(choice) == "cpu: OpenVINO, then CPU (as asked for)"


def test_a_provider_newer_than_this_library_is_taken_by_its_name() -> None:
    choice = decide(
        Execution(providers=("contoso",)),
        available=("ContosoExecutionProvider", "CPUExecutionProvider"),
    )
    assert names(choice) == [("cpu", ["Contoso"])]


def test_an_unknown_provider_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected providers .*OpenVINO.*, got 'CUDNN'"):
        decide(Execution(providers=("CUDNN",)))
    with pytest.raises(ValueError, match=r"provider_options: expected providers .* got 'CUDNN'"):
        decide(Execution(provider_options={"CUDNN": {}}))


def test_a_provider_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="names 'CUDA' twice"):
        decide(Execution(providers=("CUDA", "CUDAExecutionProvider")))
    with pytest.raises(ValueError, match="provider_options names 'CUDA' twice"):
        decide(Execution(provider_options={"CUDA": {}, "cuda": {}}))


@pytest.mark.parametrize(
    ("provider", "advice"),
    [
        ("CUDA", 'pip install "infersdk[gpu]"'),
        ("TensorRT", 'pip install "infersdk[gpu]" tensorrt'),
        ("OpenVINO", "pip install onnxruntime-openvino"),
        ("ROCM", "pip install onnxruntime-rocm"),
        ("XNNPACK", "a build of ONNX Runtime that has it"),
    ],
)
def test_a_provider_that_is_not_installed_is_an_error_with_advice(
    provider: str, advice: str
) -> None:
    with pytest.raises(MissingDependencyError) as caught:
        decide(Execution(providers=(provider,)), available=CPU_BUILD, present=CudaDevices())
    text = str(caught.value)
    assert f"no {provider} provider (it has: AZURE, CPU)" in text
    assert advice in text
    assert "provider_fallback=True" in text


def test_a_provider_without_a_device_is_an_error() -> None:
    with pytest.raises(SessionError, match=r"CUDA on cuda:0, .*: no NVIDIA driver was found"):
        decide(Execution(providers=("CUDA",)), present=NO_DRIVER)


def test_the_cpu_at_the_end_of_the_list_is_no_leave_to_fall_back() -> None:
    with pytest.raises(SessionError, match="no NVIDIA driver"):
        decide(Execution(providers=("CUDA", "CPU")), present=NO_DRIVER)


def test_fallback_goes_on_to_the_next_provider_and_says_why() -> None:
    execution = Execution(providers=("CUDA", "OpenVINO"), provider_fallback=True)
    choice = decide(execution, available=OPENVINO_BUILD, present=CudaDevices())
    assert names(choice) == [("cpu", ["OpenVINO"])]
    assert "cpu: OpenVINO, then CPU (provider_fallback allows it)" in str(choice)
    assert "not CUDA on cuda:0: the installed ONNX Runtime has no CUDA provider" in str(choice)
    last = decide(execution, available=CPU_BUILD, present=CudaDevices())
    assert names(last) == [("cpu", [])]
    assert [name for name, _ in last.passed_over] == ["CUDA on cuda:0", "OpenVINO"]


def test_fallback_from_tensorrt_stays_on_the_gpu() -> None:
    choice = decide(
        Execution(providers=("TensorRT",), provider_fallback=True),
        available=("CUDAExecutionProvider", "CPUExecutionProvider"),
    )
    assert names(choice) == [("cuda:0", ["CUDA"])]
    assert choice.passed_over[0][0] == "TensorRT on cuda:0"


def test_a_provider_that_none_of_the_devices_can_use_is_said() -> None:
    choice = decide(Execution(providers=("CUDA",), devices=("cpu",)))
    assert names(choice) == [("cpu", [])]
    assert "not CUDA: its devices are of kind cuda, and it is cpu" in str(choice)


# -- options -----------------------------------------------------------------------------------------


def test_cuda_has_defaults_for_a_server_and_the_user_has_the_last_word() -> None:
    options = dict(decide().devices[0].providers[0].options)
    assert options == {
        "device_id": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "do_copy_in_default_stream": "1",
    }
    mine = {"cudnn_conv_algo_search": "EXHAUSTIVE", "gpu_mem_limit": "1000000", "use_tf32": False}
    changed = dict(
        decide(Execution(provider_options={"CUDAExecutionProvider": mine}))  # type: ignore[dict-item]
        .devices[0]
        .providers[0]
        .options
    )
    assert changed == {
        **options,
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "gpu_mem_limit": "1000000",
        "use_tf32": "0",
    }


def test_tensorrt_keeps_its_engines_where_it_is_told(tmp_path: Path) -> None:
    execution = Execution(providers=("TensorRT",))
    options = dict(decide(execution, cache_folder=tmp_path).devices[0].providers[0].options)
    assert options == {
        "device_id": "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(tmp_path),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(tmp_path),
    }
    without = decide(execution, cache_folder=None).devices[0].providers[0].options
    assert dict(without) == {"device_id": "0"}


def test_a_device_may_be_named_by_its_option() -> None:
    execution = Execution(provider_options={"CUDA": {"device_id": "1"}})
    assert names(decide(execution)) == [("cuda:1", ["CUDA"])]
    execution = Execution(providers=("TensorRT",), provider_options={"CUDA": {"device_id": "1"}})
    choice = decide(execution)
    assert choice.devices[0].device == "cuda:1"
    assert [dict(one.options)["device_id"] for one in choice.devices[0].providers] == ["1", "1"]


def test_two_ways_of_naming_a_device_must_agree() -> None:
    options = {"CUDA": {"device_id": "1"}}
    agreed = Execution(devices=("cuda:1",), provider_options=options)
    assert names(decide(agreed)) == [("cuda:1", ["CUDA"])]
    with pytest.raises(ValueError, match="says device_id 1, and the model goes to cuda:0, cuda:1"):
        decide(Execution(devices=("cuda:0", "cuda:1"), provider_options=options))
    with pytest.raises(ValueError, match="expected a number as device_id, got 'first'"):
        decide(Execution(provider_options={"CUDA": {"device_id": "first"}}))


def test_options_of_a_provider_that_is_not_used_do_no_harm() -> None:
    execution = Execution(provider_options={"CUDA": {"gpu_mem_limit": "1"}})
    assert names(decide(execution, available=CPU_BUILD)) == [("cpu", [])]


@given(
    available=st.sampled_from([CPU_BUILD, GPU_BUILD, OPENVINO_BUILD, ROCM_BUILD]),
    present=st.sampled_from([NO_DRIVER, TWO_GPUS, CudaDevices()]),
    ops=st.sampled_from([None, TRANSFORMER, FOREST, LOGISTIC]),
    devices=st.none()
    | st.lists(
        st.sampled_from(["cpu", "cuda:0", "cuda:1", "cuda:7", "rocm"]), min_size=1, unique=True
    ).map(tuple),
    providers=st.just("auto")
    | st.lists(
        st.sampled_from(["CPU", "CUDA", "TensorRT", "OpenVINO", "ROCM"]), min_size=1, unique=True
    ).map(tuple),
)
def test_with_fallback_there_is_always_a_way_and_without_it_nothing_else_than_asked(
    available: tuple[str, ...],
    present: CudaDevices,
    ops: GraphOps | None,
    devices: tuple[str, ...] | None,
    providers: tuple[str, ...] | str,
) -> None:
    def attempt(fallback: bool) -> ProviderChoice:
        execution = Execution(devices=devices, providers=providers, provider_fallback=fallback)  # type: ignore[arg-type]
        return decide(execution, available=available, present=present, ops=ops)

    try:
        choice = attempt(True)
    except ValueError as error:  # a device and the providers do not go together
        assert "needs one of the providers" in str(error)  # noqa: PT017
        return
    assert choice.devices
    assert len({one.device for one in choice.devices}) == len(choice.devices)
    for one in choice.devices:
        assert one.cuda_ordinal < len(present.devices)
        for provider in one.providers:
            assert any(full.lower().startswith(provider.name.lower()) for full in available)
    assert all(reason for _, reason in choice.passed_over)
    assert str(choice)
    try:
        strict = attempt(False)
    except (SessionError, MissingDependencyError):
        assert choice.passed_over
        return
    assert strict.devices == choice.devices


# -- the graph ---------------------------------------------------------------------------------------


def test_a_graph_is_surveyed_by_what_cuda_has() -> None:
    model = parser.parse_model(
        """
        <ir_version: 9, opset_import: ["": 18, "ai.onnx.ml": 3]>
        graph (float[N, 4] x, string[N] city) => (float[N, 3] y, float[N, 2] z)
        <float[4, 3] w = {1,2,3,4,5,6,7,8,9,10,11,12}>
        {
            product = MatMul(x, w)
            y = Relu(product)
            same = Identity(city)
            angle = Atan(x)
            z = ai.onnx.ml.Scaler<offset = [0.0], scale = [1.0]>(angle)
        }
        """
    )
    ops = survey(model)
    assert ops.n_nodes == 5
    assert ops.cpu_only == (("Atan", 1), ("Identity", 1), ("Scaler", 1))
    assert ops.n_cpu_only == 3
    assert ops.weights_bytes == 48
    assert not ops.heavy
    assert survey(model.SerializeToString()) == ops


def test_subgraphs_and_functions_are_surveyed_too() -> None:
    body = helper.make_graph(
        [helper.make_node("Conv", ["x", "k"], ["c"]), helper.make_node("Unique", ["c"], ["u"])],
        "branch",
        [],
        [helper.make_tensor_value_info("u", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((1, 1, 3, 3), np.float64), "k")],
    )
    function = helper.make_function(
        "local",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Det", ["a"], ["d"]), helper.make_node("Add", ["d", "d"], ["b"])],
        [helper.make_opsetid("", 18)],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Constant", [], ["one"], value_float=1.0),
            helper.make_node("If", ["flag"], ["y"], then_branch=body, else_branch=body),
            helper.make_node("Twice", ["x"], ["t"], domain="local"),
        ],
        "graph",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 8, 8]),
            helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("local", 1)],
        functions=[function],
    )
    ops = survey(model)
    assert ops.n_nodes == 7  # If, twice Conv and Unique, Det and Add
    assert ops.cpu_only == (("Unique", 2), ("Det", 1))
    assert ops.weights_bytes == 2 * 72
    assert ops.heavy


def test_a_file_is_surveyed_without_its_external_data(tmp_path: Path) -> None:
    import onnx

    model = parser.parse_model(
        """
        <ir_version: 9, opset_import: ["": 18]>
        graph (float[N, 1024] x) => (float[N, 1024] y) { y = MatMul(x, w) }
        """
    )
    weights = numpy_helper.from_array(np.zeros((1024, 1024), np.float32), "w")
    model.graph.initializer.append(weights)
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin")
    (tmp_path / "weights.bin").unlink()
    assert survey(str(path)).weights_bytes == 4 * 2**20


# -- the machine -------------------------------------------------------------------------------------


def test_the_cpu_is_among_the_available_providers() -> None:
    assert "CPUExecutionProvider" in available_providers()


def test_cuda_comes_into_question_only_where_it_is_installed_and_wanted() -> None:
    assert not asks_for_cuda(Execution(devices=("cuda",)), CPU_BUILD)
    assert asks_for_cuda(Execution(), GPU_BUILD)
    assert asks_for_cuda(Execution(devices=("cpu", "cuda:1")), GPU_BUILD)
    assert asks_for_cuda(Execution(providers=("TensorRT",)), GPU_BUILD)
    assert not asks_for_cuda(Execution(devices=("cpu",)), GPU_BUILD)
    assert not asks_for_cuda(Execution(providers=("CPU",)), GPU_BUILD)


@pytest.mark.skipif(
    "CUDAExecutionProvider" in available_providers(), reason="this ONNX Runtime has CUDA"
)
def test_this_machine_without_cuda_runs_on_the_cpu_and_says_why() -> None:
    def unneeded() -> GraphOps:
        raise AssertionError("the graph does not matter here")

    choice = select(Execution(), unneeded)
    assert names(choice) == [("cpu", [])]
    assert "not CUDA: the installed ONNX Runtime has no CUDA provider" in str(choice)
    with pytest.raises(MissingDependencyError, match=r"infersdk\[gpu\]"):
        select(Execution(devices=("cuda",)))
    fallen = select(Execution(devices=("cuda:1",), provider_fallback=True))
    assert names(fallen) == [("cpu", [])]


DRIVER = """
#include <stddef.h>
#include <string.h>
int cuDriverGetVersion(int* v) { *v = VERSION; return 0; }
int cuInit(unsigned flags) { return flags == 0 ? INIT : 1; }
int cuDeviceGetCount(int* n) { *n = COUNT; return 0; }
int cuDeviceGet(int* d, int i) { *d = 100 + i; return i < COUNT ? 0 : 101; }
int cuDeviceGetName(char* s, int n, int d) { strncpy(s, d == 100 ? "First" : "Second", n); return NAMED; }
int cuDeviceTotalMem_v2(size_t* b, int d) { *b = (size_t)d * 1000000000u; return 0; }
int cuDeviceGetPCIBusId(char* s, int n, int d) { strncpy(s, d == 100 ? "b" : "a", n); return 0; }
int cuGetErrorString(int c, const char** s) { *s = "in other words"; return 0; }
"""

MANAGEMENT = """
#include <string.h>
static int up;
struct memory { unsigned long long total, free, used; };
int nvmlInit_v2(void) { up++; return 0; }
int nvmlShutdown(void) { up--; return 0; }
/* counts devices in another order than CUDA */
int nvmlDeviceGetHandleByPciBusId_v2(const char* s, void** h) {
  *h = strcmp(s, "a") == 0 ? (void*)7 : strcmp(s, "b") == 0 ? (void*)8 : 0; return up && *h ? 0 : 1; }
int nvmlDeviceGetMemoryInfo(void* h, struct memory* m) { m->free = (unsigned long)h; return up ? 0 : 1; }
"""


@pytest.fixture(scope="module")
def compiler() -> str:
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("c++")
    if found is None:
        pytest.skip("no C compiler for the fake driver")
    return found


def build(compiler: str, folder: Path, name: str, source: str, **defines: int) -> str:
    path, library = folder / f"{name}.c", folder / f"{name}.so"
    path.write_text(source)
    flags = [f"-D{key}={value}" for key, value in defines.items()]
    subprocess.run(
        [compiler, "-x", "c", "-shared", "-fPIC", *flags, str(path), "-o", str(library)], check=True
    )
    return str(library)


GOOD = {"VERSION": 13020, "INIT": 0, "COUNT": 2, "NAMED": 0}


def test_a_driver_is_asked_for_its_devices(compiler: str, tmp_path: Path) -> None:
    driver = build(compiler, tmp_path, "driver", DRIVER, **GOOD)
    management = build(compiler, tmp_path, "management", MANAGEMENT)
    seen = cuda_devices(driver, management)
    assert seen == CudaDevices(
        (CudaDevice(0, "First", 100 * 10**9, 8), CudaDevice(1, "Second", 101 * 10**9, 7)),
        reason="",
        driver=(13, 2),
    )
    assert seen
    unmanaged = cuda_devices(driver, str(tmp_path / "no_such.so"))
    assert [device.free_bytes for device in unmanaged.devices] == [None, None]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"INIT": 100}, "sees no device"),
        ({"COUNT": 0}, "it counts none"),
        ({"INIT": 803}, r"does not start: in other words \(CUDA error 803\)"),
        ({"INIT": 3}, "does not start: .*used before this process was forked"),
        ({"NAMED": 999}, r"does not describe device 0: in other words \(CUDA error 999\)"),
    ],
)
def test_a_driver_without_a_device_says_why(
    compiler: str, tmp_path: Path, change: dict[str, int], reason: str
) -> None:
    seen = cuda_devices(build(compiler, tmp_path, "driver", DRIVER, **GOOD | change), "no_such.so")
    assert not seen
    assert seen.driver == (13, 2)
    with pytest.raises(SessionError, match=reason):
        decide(Execution(devices=("cuda",)), present=seen)


def test_hidden_devices_are_told_apart(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    seen = cuda_devices(build(compiler, tmp_path, "driver", DRIVER, **GOOD | {"INIT": 100}))
    assert "CUDA_VISIBLE_DEVICES is ''" in seen.reason


def test_what_is_no_driver_is_said() -> None:
    assert "no NVIDIA driver was found (no_such.so" in cuda_devices("no_such.so").reason
    if sys.platform.startswith("linux"):
        assert "libm.so.6 is no CUDA driver" in cuda_devices("libm.so.6").reason


def test_the_cuda_version_of_a_build_is_read_from_its_package(tmp_path: Path) -> None:
    library = tmp_path / "libonnxruntime.so.1.31.1"
    assert cuda_build(library) is None
    info = tmp_path / "build_and_package_info.py"
    info.write_text("package_name = 'onnxruntime'\n__version__ = '1.31.1'\n")
    assert cuda_build(library) is None
    info.write_text("package_name = 'onnxruntime-gpu'\ncuda_version = '13.0'\n")
    assert cuda_build(library) == (13, 0)
    info.write_text('cuda_version = "12"\n')
    assert cuda_build(library) == (12, 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="NVIDIA's wheels are for Linux")
def test_libraries_are_opened_where_pip_put_them(compiler: str, tmp_path: Path) -> None:
    # Of a CUDA version that nobody has, so that none of them is open already.
    folder = tmp_path / "nvidia" / "lib"
    folder.mkdir(parents=True)
    for name in ("libcublasLt.so.97", "libcublas.so.97"):
        built = build(compiler, tmp_path, name.replace(".", "_"), "int nothing;")
        Path(built).rename(folder / name)
    (folder / "libnvrtc.so.97").write_text("no library")
    missing = preload_cuda(97, folders=(tmp_path / "nowhere", folder))
    assert "libcublas.so.97" not in missing
    assert "libcublasLt.so.97" not in missing
    assert "libcudart.so.97" in missing
    assert "libcufft.so.96" in missing
    assert (
        str(folder / "libnvrtc.so.97") in missing["libnvrtc.so.97"]
    )  # the first reason is the better
    opened = Path("/proc/self/maps").read_text()
    assert str(folder / "libcublas.so.97") in opened
    assert "libnvinfer.so.10" not in missing
    assert "libnvinfer.so.10" in preload_cuda(97, tensorrt=True, folders=())


# -- opening -----------------------------------------------------------------------------------------


class Opened:
    """What open_sessions opens here: a name, and whether it was closed."""

    def __init__(self, device: DeviceChoice) -> None:
        self.device = device
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Opener:
    """Opens, except where the first provider's name and device are in `broken`."""

    def __init__(self, *broken: str) -> None:
        self.broken = broken
        self.opened: list[Opened] = []
        self.tried: list[str] = []

    def __call__(self, device: DeviceChoice) -> Opened:
        self.tried.append(str(device))
        name = f"{device.providers[0].name if device.providers else 'CPU'} on {device.device}"
        if name in self.broken:
            raise SessionError(f"{name} does not load", model="m", code=6)
        self.opened.append(Opened(device))
        return self.opened[-1]


CUDA = Provider("CUDA")
TENSORRT = Provider("TensorRT")
STRICT = ProviderChoice(
    (DeviceChoice("cuda:0", (TENSORRT, CUDA)), DeviceChoice("cuda:1", (TENSORRT, CUDA))),
    "as asked for",
)
LENIENT = ProviderChoice(STRICT.devices, STRICT.reason, may_fall_back=True)


def test_every_device_is_opened_in_order() -> None:
    sessions, used = open_sessions(STRICT, Opener())
    assert [session.device for session in sessions] == list(STRICT.devices)
    assert used == STRICT


def test_a_device_that_does_not_open_is_an_error_and_the_others_are_closed() -> None:
    opener = Opener("TensorRT on cuda:1")
    with pytest.raises(SessionError, match="TensorRT on cuda:1 does not load") as caught:
        open_sessions(STRICT, opener)
    assert caught.value.code == 6
    assert caught.value.model == "m"
    assert [session.closed for session in opener.opened] == [True]


def test_where_it_is_allowed_the_next_provider_is_tried() -> None:
    sessions, used = open_sessions(LENIENT, Opener("TensorRT on cuda:1"))
    assert names(used) == [("cuda:0", ["TensorRT", "CUDA"]), ("cuda:1", ["CUDA"])]
    assert len(sessions) == 2
    assert str(used).splitlines() == [
        "cuda:0: TensorRT, then CUDA, then CPU (what was preferred did not load)",
        "cuda:1: CUDA, then CPU",
        "not TensorRT on cuda:1: TensorRT on cuda:1 does not load",
    ]


def test_a_device_that_cannot_be_used_is_left_out_where_another_can() -> None:
    opener = Opener("TensorRT on cuda:0", "CUDA on cuda:0")
    _, used = open_sessions(LENIENT, opener)
    assert names(used) == [("cuda:1", ["TensorRT", "CUDA"])]
    assert [name for name, _ in used.passed_over] == ["TensorRT on cuda:0", "CUDA on cuda:0"]


def test_the_cpu_stands_in_when_no_device_can_be_used() -> None:
    broken = [f"{name} on cuda:{i}" for name in ("TensorRT", "CUDA") for i in (0, 1)]
    opener = Opener(*broken)
    sessions, used = open_sessions(LENIENT, opener)
    assert names(used) == [("cpu", [])]
    assert len(sessions) == 1
    assert opener.tried == [
        "cuda:0: TensorRT, then CUDA, then CPU",
        "cuda:0: CUDA, then CPU",
        "cuda:1: TensorRT, then CUDA, then CPU",
        "cuda:1: CUDA, then CPU",
        "cpu: CPU",
    ]


def test_a_model_that_nothing_can_load_is_an_error() -> None:
    choice = ProviderChoice((DeviceChoice("cuda:0", (CUDA,)),), "", may_fall_back=True)
    with pytest.raises(SessionError, match="CPU on cpu does not load"):
        open_sessions(choice, Opener("CUDA on cuda:0", "CPU on cpu"))


def test_host_providers_fall_back_to_the_cpu_itself() -> None:
    choice = ProviderChoice((DeviceChoice("cpu", (Provider("OpenVINO"),)),), "", may_fall_back=True)
    _, used = open_sessions(choice, Opener("OpenVINO on cpu"))
    assert names(used) == [("cpu", [])]
    assert used.passed_over == (("OpenVINO on cpu", "OpenVINO on cpu does not load"),)


@pytest.mark.parametrize("provider", [CUDA, TENSORRT])
def test_libraries_that_are_missing_are_named_with_their_packages(
    monkeypatch: pytest.MonkeyPatch, provider: Provider
) -> None:
    absent = {"libcublas.so.13": "cannot open", "libnvinfer.so.10": "cannot open"}
    monkeypatch.setattr(placement, "cuda_build", lambda: (13, 0))
    monkeypatch.setattr(placement, "preload_cuda", lambda major, tensorrt: absent)

    def fails(device: DeviceChoice) -> Opened:
        raise SessionError(
            "ONNX Runtime cannot load model `m`: /onnxruntime_src/session/provider_bridge_ort.cc:2043 "
            "onnxruntime::Provider& Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library x.so "
            "with error: libcublas.so.13: cannot open\n"
        )

    choice = ProviderChoice((DeviceChoice("cuda:0", (provider,)),), "")
    with pytest.raises(SessionError) as caught:
        open_sessions(choice, fails)
    text = str(caught.value)
    assert text.startswith(
        "ONNX Runtime cannot load model `m`: Failed to load library x.so with error: libcublas.so.13: "
        "cannot open. Not found: libcublas.so.13; NVIDIA's libraries come with: pip install "
        '"onnxruntime-gpu[cuda,cudnn]"'
    )
    assert ("libnvinfer.so.10" in text) == (provider is TENSORRT)


@pytest.mark.skipif(
    "OpenVINOExecutionProvider" not in available_providers(),
    reason="this ONNX Runtime has no OpenVINO provider (pip install onnxruntime-openvino)",
)
def test_openvino_answers_as_the_cpu_does() -> None:
    rng = np.random.default_rng(3)
    graph = parser.parse_graph(
        "mlp (float[N, 32] x) => (float[N, 5] y) { h = MatMul(x, w1)  r = Relu(h)  y = MatMul(r, w2) }"
    )
    for name, shape in (("w1", (32, 128)), ("w2", (128, 5))):
        weights = (rng.standard_normal(shape) / 8).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(weights, name))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    serialized = model.SerializeToString()
    execution = Execution(
        providers=("OpenVINO",), provider_options={"OpenVINO": {"device_type": "CPU"}}
    )
    with infersdk.load(serialized, execution=execution) as ours, infersdk.load(serialized) as cpu:
        assert str(ours.providers) == "cpu: OpenVINO, then CPU (as asked for)"
        for n_rows in (1, 4, 1, 9):
            x = rng.standard_normal((n_rows, 32)).astype(np.float32)
            np.testing.assert_allclose(ours.run({"x": x})["y"], cpu.run({"x": x})["y"], atol=1e-4)
    missing = Execution(
        providers=("OpenVINO",), provider_options={"OpenVINO": {"no_such_option": "1"}}
    )
    with pytest.raises(SessionError, match="OpenVINO"):
        infersdk.load(serialized, execution=missing)


# -- tensors by DLPack -------------------------------------------------------------------------------

DTYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
]


@given(
    hnp.arrays(
        dtype=st.sampled_from(DTYPES),
        shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
    )
)
def test_numpy_gets_back_what_it_gave_without_a_copy(array: np.ndarray) -> None:
    tensor = DeviceTensor.from_dlpack(array)
    assert tensor.shape == array.shape
    assert tensor.dtype == array.dtype.name
    assert tensor.device == "cpu"
    assert tensor.size_bytes == array.nbytes
    back = np.from_dlpack(tensor)
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()
    if array.size:
        assert np.shares_memory(back, array)
        assert np.shares_memory(tensor.numpy(), array)


def test_pytorch_shares_the_memory_too() -> None:
    torch = pytest.importorskip("torch")
    source = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    tensor = DeviceTensor.from_dlpack(source)
    assert repr(tensor) == "<DeviceTensor bfloat16 (2, 3) on cpu>"
    back = torch.from_dlpack(tensor)
    assert back.data_ptr() == source.data_ptr()
    assert torch.equal(back, source)
    array = np.ones((2, 2), np.float32)
    assert torch.from_dlpack(DeviceTensor.from_dlpack(array)).sum().item() == 4


def test_both_forms_of_capsule_are_taken_and_given() -> None:
    array = np.arange(4.0)

    class Before1:
        """A producer that knows no versions."""

        def __dlpack__(self) -> object:
            return array.__dlpack__()

        def __dlpack_device__(self) -> tuple[int, int]:
            return array.__dlpack_device__()

    tensor = DeviceTensor.from_dlpack(Before1())
    assert np.shares_memory(tensor.numpy(), array)
    assert "dltensor_versioned" in repr(tensor.__dlpack__(max_version=(1, 0)))
    assert '"dltensor"' in repr(tensor.__dlpack__())
    assert '"dltensor"' in repr(tensor.__dlpack__(max_version=(0, 8)))
    assert tensor.__dlpack_device__() == (1, 0)


def test_memory_that_must_not_be_written_stays_so() -> None:
    array = np.arange(4.0)
    assert DeviceTensor.from_dlpack(array).numpy().flags.writeable
    array.flags.writeable = False
    tensor = DeviceTensor.from_dlpack(array)
    assert tensor.read_only
    assert not tensor.numpy().flags.writeable


def test_the_memory_lives_as_long_as_its_last_user() -> None:
    class Owned(np.ndarray):
        pass

    array = np.arange(1000.0).view(Owned)
    alive = weakref.ref(array)
    tensor = DeviceTensor.from_dlpack(array)
    capsule = tensor.__dlpack__(max_version=(1, 0))
    back = np.from_dlpack(tensor)
    del array, tensor, capsule
    gc.collect()
    assert alive() is not None
    assert back.sum() == 499500
    del back
    gc.collect()
    assert alive() is None


def test_capsules_that_nobody_takes_leave_nothing_behind() -> None:
    class Owned(np.ndarray):
        pass

    array = np.arange(10.0).view(Owned)
    alive = weakref.ref(array)
    tensor = DeviceTensor.from_dlpack(array)
    for version in (None, (1, 0), (0, 5)):
        tensor.__dlpack__(max_version=version)
    del array, tensor
    gc.collect()
    assert alive() is None


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        (np.zeros((3, 4)).T, BufferError, "not contiguous"),
        (np.zeros((3, 4))[:, ::2], BufferError, "not contiguous"),
        ([1, 2, 3], TypeError, "speaks DLPack .*got list"),
        ("text", TypeError, "speaks DLPack .*got str"),
        (np.array(["a"]), BufferError, "dtype"),
        (np.zeros(3, np.complex64), BufferError, "not supported"),  # by ONNX Runtime
    ],
)
def test_what_cannot_be_taken_is_refused(
    source: object, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        DeviceTensor.from_dlpack(source)  # type: ignore[arg-type]


def test_a_used_capsule_is_refused() -> None:
    capsule = np.arange(3.0).__dlpack__()

    class Once:
        def __dlpack__(self, **kwargs: object) -> object:
            return capsule

        def __dlpack_device__(self) -> tuple[int, int]:
            return 1, 0

    DeviceTensor.from_dlpack(Once())
    with pytest.raises(BufferError, match="used up"):
        DeviceTensor.from_dlpack(Once())


def test_what_only_a_copy_could_give_is_refused() -> None:
    tensor = DeviceTensor.from_dlpack(np.arange(3.0))
    with pytest.raises(BufferError, match="copy it on the receiver's side"):
        tensor.__dlpack__(copy=True)
    with pytest.raises(BufferError, match="lies on cpu"):
        tensor.__dlpack__(dl_device=(2, 0))
    assert tensor.__dlpack__(dl_device=(1, 0), copy=False) is not None
    with pytest.raises(TypeError, match="comes from"):
        DeviceTensor()


def test_a_device_tensor_is_its_own_source() -> None:
    tensor = DeviceTensor.from_dlpack(np.arange(3.0))
    assert DeviceTensor.from_dlpack(tensor) is tensor


def test_many_threads_may_hand_over_one_tensor() -> None:
    array = np.arange(4096, dtype=np.int64)
    tensor = DeviceTensor.from_dlpack(array)
    sums: list[int] = []

    def work() -> None:
        for _ in range(200):
            sums.append(int(np.from_dlpack(tensor)[-1]))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [4095] * 1600
