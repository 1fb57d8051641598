#include "infersdk/provider.hpp"

#include <dlfcn.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>

namespace infersdk {
namespace {

constexpr size_t kAlignment = 64;

// Pointers to the option strings, as the C API takes them.
struct OptionList {
  explicit OptionList(const ProviderConfig& config) {
    for (const std::string& key : config.keys) keys.push_back(key.c_str());
    for (const std::string& value : config.values) values.push_back(value.c_str());
  }
  // The same, and this pair where nothing else is said.
  OptionList(const ProviderConfig& config, const char* key, const char* value)
      : OptionList(config) {
    if (!keys.empty()) return;
    keys.push_back(key);
    values.push_back(value);
  }
  size_t size() const { return keys.size(); }
  std::vector<const char*> keys;
  std::vector<const char*> values;
};

Status check_pairs(const ProviderConfig& config) {
  if (config.keys.size() == config.values.size()) return Status();
  return Status(StatusCode::kInternal, "options of provider " + config.name + " are not in pairs");
}

// The value of an option as a device's number; 0 where it is not given.
size_t ordinal_of(const ProviderConfig& config, const char* key) {
  for (size_t i = 0; i < config.keys.size(); ++i) {
    if (config.keys[i] == key) return std::strtoul(config.values[i].c_str(), nullptr, 10);
  }
  return 0;
}

// Builds of ONNX Runtime that have CUDA as a plugin say so; the bridge's functions then refuse.
bool has_cuda_plugin(const Api& api) {
  return api.SessionOptionsAppendExecutionProvider_V2 != nullptr &&
         std::strstr(api.GetBuildInfoString(), ", cuda-plugin-ep=") != nullptr;
}

std::string beside(const std::string& library_path, const char* file) {
  const size_t slash = library_path.rfind('/');
  return slash == std::string::npos ? std::string(file) : library_path.substr(0, slash + 1) + file;
}

bool exists(const std::string& path) {
  struct stat ignored;
  return stat(path.c_str(), &ignored) == 0;
}

Status append_cuda(const Library& library, OrtEnv* env, OrtSessionOptions* options,
                   const ProviderConfig& config) {
  const Api& api = library.api();
  if (has_cuda_plugin(api)) {
#ifdef __APPLE__
    const std::string plugin = beside(library.path(), "libonnxruntime_providers_cuda.dylib");
#else
    const std::string plugin = beside(library.path(), "libonnxruntime_providers_cuda.so");
#endif
    // The device is chosen by its place in the list; a plugin knows no option of that name.
    ProviderConfig rest;
    rest.name = config.name;
    for (size_t i = 0; i < config.keys.size(); ++i) {
      if (config.keys[i] != "device_id") rest.set(config.keys[i], config.values[i]);
    }
    return append_plugin(library, env, options, "CUDAExecutionProvider",
                         exists(plugin) ? plugin : std::string(), ordinal_of(config, "device_id"),
                         rest);
  }
  // Null options crash instead of failing, so they are created first. They are then updated even
  // where there is nothing to say but the default: it is the update that tells why a provider's
  // library, or one that it needs, cannot be loaded.
  OrtCUDAProviderOptionsV2* cuda = nullptr;
  INFERSDK_RETURN_IF_ERROR(library.check(api.CreateCUDAProviderOptions(&cuda)));
  if (cuda == nullptr) {
    return Status(StatusCode::kRuntime, "ONNX Runtime gave no options for the CUDA provider");
  }
  const OptionList list(config, "device_id", "0");
  Status status = library.check(
      api.UpdateCUDAProviderOptions(cuda, list.keys.data(), list.values.data(), list.size()));
  if (status.ok()) {
    status = library.check(api.SessionOptionsAppendExecutionProvider_CUDA_V2(options, cuda));
  }
  api.ReleaseCUDAProviderOptions(cuda);
  return status;
}

Status append_tensorrt(const Library& library, OrtSessionOptions* options,
                       const ProviderConfig& config) {
  const Api& api = library.api();
  OrtTensorRTProviderOptionsV2* tensorrt = nullptr;
  INFERSDK_RETURN_IF_ERROR(library.check(api.CreateTensorRTProviderOptions(&tensorrt)));
  if (tensorrt == nullptr) {
    return Status(StatusCode::kRuntime, "ONNX Runtime gave no options for the TensorRT provider");
  }
  const OptionList list(config, "device_id", "0");
  Status status = library.check(api.UpdateTensorRTProviderOptions(tensorrt, list.keys.data(),
                                                                  list.values.data(), list.size()));
  if (status.ok()) {
    status =
        library.check(api.SessionOptionsAppendExecutionProvider_TensorRT_V2(options, tensorrt));
  }
  api.ReleaseTensorRTProviderOptions(tensorrt);
  return status;
}

// The part of NVIDIA's driver that waits for a device.
struct CudaDriver {
  using Device = int;
  using Context = void*;
  int (*get)(Device*, int) = nullptr;
  int (*retain)(Context*, Device) = nullptr;
  int (*release)(Device) = nullptr;
  int (*push)(Context) = nullptr;
  int (*pop)(Context*) = nullptr;
  int (*synchronize)() = nullptr;

  CudaDriver() {
    void* handle = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return;
    find(handle, "cuDeviceGet", &get);
    find(handle, "cuDevicePrimaryCtxRetain", &retain);
    find(handle, "cuDevicePrimaryCtxRelease_v2", &release);
    find(handle, "cuCtxPushCurrent_v2", &push);
    find(handle, "cuCtxPopCurrent_v2", &pop);
    find(handle, "cuCtxSynchronize", &synchronize);
  }
  bool complete() const {
    return get != nullptr && retain != nullptr && release != nullptr && push != nullptr &&
           pop != nullptr && synchronize != nullptr;
  }

 private:
  template <typename Function>
  static void find(void* handle, const char* name, Function* out) {
    *out = reinterpret_cast<Function>(dlsym(handle, name));
  }
};

// Waits for all that is under way on a CUDA device, whichever library began it. ONNX Runtime's own
// way of waiting for inputs waits for the device that is current in this thread, which need not be
// the one that holds the input.
Status wait_for_cuda(int ordinal) {
  static const CudaDriver driver;
  if (!driver.complete()) {
    return Status(StatusCode::kRuntime, "an input lies on a CUDA device, and there is no driver");
  }
  CudaDriver::Device device = 0;
  CudaDriver::Context context = nullptr;
  int code = driver.get(&device, ordinal);
  if (code == 0) code = driver.retain(&context, device);
  if (code == 0) {
    code = driver.push(context);
    if (code == 0) {
      code = driver.synchronize();
      (void)driver.pop(&context);
    }
    (void)driver.release(device);
  }
  if (code == 0) return Status();
  return Status(StatusCode::kRuntime, "CUDA device " + std::to_string(ordinal) +
                                          " cannot be waited for: CUDA error " +
                                          std::to_string(code));
}

// The number of the CUDA device that holds a value, or -1.
Status cuda_device_of(const Library& library, const OrtValue* value, int* out) {
  const Api& api = library.api();
  *out = -1;
  int kind = 0;
  INFERSDK_RETURN_IF_ERROR(library.check(api.GetValueType(value, &kind)));
  if (static_cast<ValueKind>(kind) != ValueKind::kTensor) return Status();
  const OrtMemoryInfo* memory = nullptr;
  const char* name = nullptr;
  INFERSDK_RETURN_IF_ERROR(library.check(api.GetTensorMemoryInfo(value, &memory)));
  INFERSDK_RETURN_IF_ERROR(library.check(api.MemoryInfoGetName(memory, &name)));
  if (std::strcmp(name, "Cuda") != 0) return Status();
  return library.check(api.MemoryInfoGetId(memory, out));
}

}  // namespace

Status available_providers(const Library& library, std::vector<std::string>* out) noexcept {
  return guarded([&]() -> Status {
    const Api& api = library.api();
    char** names = nullptr;
    int n = 0;
    INFERSDK_RETURN_IF_ERROR(library.check(api.GetAvailableProviders(&names, &n)));
    out->clear();
    for (int i = 0; i < n; ++i) out->emplace_back(names[i]);
    return library.check(api.ReleaseAvailableProviders(names, n));
  });
}

Status append_provider(const Library& library, OrtEnv* env, OrtSessionOptions* options,
                       const ProviderConfig& config) noexcept {
  return guarded([&]() -> Status {
    INFERSDK_RETURN_IF_ERROR(check_pairs(config));
    if (config.name == "CPU") return Status();  // always there, always last
    if (config.name == "CUDA") return append_cuda(library, env, options, config);
    if (config.name == "TensorRT") return append_tensorrt(library, options, config);
    const OptionList list(config);
    return library.check(library.api().SessionOptionsAppendExecutionProvider(
        options, config.name.c_str(), list.keys.data(), list.values.data(), list.size()));
  });
}

Status append_plugin(const Library& library, OrtEnv* env, OrtSessionOptions* options,
                     const std::string& full_name, const std::string& library_path, size_t ordinal,
                     const ProviderConfig& config) noexcept {
  return guarded([&]() -> Status {
    INFERSDK_RETURN_IF_ERROR(check_pairs(config));
    const Api& api = library.api();
    if (api.SessionOptionsAppendExecutionProvider_V2 == nullptr) {
      return Status(StatusCode::kRuntime, "ONNX Runtime " + library.version() + " is too old for " +
                                              full_name + " as a plugin");
    }
    auto count = [&](std::vector<const OrtEpDevice*>* found) -> Status {
      const OrtEpDevice* const* devices = nullptr;
      size_t n = 0;
      INFERSDK_RETURN_IF_ERROR(library.check(api.GetEpDevices(env, &devices, &n)));
      for (size_t i = 0; i < n; ++i) {
        if (full_name == api.EpDevice_EpName(devices[i])) found->push_back(devices[i]);
      }
      return Status();
    };
    std::vector<const OrtEpDevice*> devices;
    INFERSDK_RETURN_IF_ERROR(count(&devices));
    if (devices.empty() && !library_path.empty()) {
      INFERSDK_RETURN_IF_ERROR(library.check(
          api.RegisterExecutionProviderLibrary(env, full_name.c_str(), library_path.c_str())));
      INFERSDK_RETURN_IF_ERROR(count(&devices));
    }
    if (ordinal >= devices.size()) {
      return Status(StatusCode::kRuntime, full_name + " device " + std::to_string(ordinal) +
                                              " was asked for and ONNX Runtime sees " +
                                              std::to_string(devices.size()));
    }
    const OptionList list(config);
    return library.check(api.SessionOptionsAppendExecutionProvider_V2(
        options, env, &devices[ordinal], 1, list.keys.data(), list.values.data(), list.size()));
  });
}

Placement::~Placement() {
  Attached* state = attached_.load(std::memory_order_acquire);
  if (state == nullptr || state->generation != Library::process_generation()) return;
  const Api& api = state->library->api();
  if (state->pinned_allocator != nullptr) api.ReleaseAllocator(state->pinned_allocator);
  if (state->pinned != nullptr) api.ReleaseMemoryInfo(state->pinned);
  if (state->device != nullptr) api.ReleaseMemoryInfo(state->device);
  delete state;
}

Status Placement::append(const Library& library, OrtEnv* env,
                         OrtSessionOptions* options) const noexcept {
  for (const ProviderConfig& provider : providers_) {
    INFERSDK_RETURN_IF_ERROR(append_provider(library, env, options, provider));
  }
  return Status();
}

void Placement::attach(const Library& library, OrtSession* session) noexcept {
  auto* state = new (std::nothrow) Attached;
  if (state == nullptr) return;  // attached() then says so
  state->library = &library;
  state->session = session;
  state->generation = Library::process_generation();
  if (cuda_device_ >= 0) {
    const Api& api = library.api();
    Status status = library.check(api.CreateMemoryInfo("Cuda", kAllocatorDevice, cuda_device_,
                                                       kMemTypeDefault, &state->device));
    if (!status.ok()) state->device = nullptr;
    // Older libraries have one kind of page-locked memory, and number it 0 on every device.
    for (int ordinal : {cuda_device_, 0}) {
      status = library.check(api.CreateMemoryInfo("CudaPinned", kAllocatorDevice, ordinal,
                                                  kMemTypeCpuOutput, &state->pinned));
      if (!status.ok()) {
        state->pinned = nullptr;
        continue;
      }
      status = library.check(api.CreateAllocator(session, state->pinned, &state->pinned_allocator));
      if (status.ok()) break;
      // Nothing can be allocated there: outputs and buffers go to ordinary memory.
      api.ReleaseMemoryInfo(state->pinned);
      state->pinned = nullptr;
      state->pinned_allocator = nullptr;
    }
  }
  // A parent's state is left alone: its allocator's locks may be held for ever.
  attached_.store(state, std::memory_order_release);
}

const Placement::Attached* Placement::attached() const noexcept {
  const Attached* state = attached_.load(std::memory_order_acquire);
  if (state == nullptr || state->generation != Library::process_generation()) return nullptr;
  return state;
}

bool Placement::pins() const noexcept {
  const Attached* state = attached();
  return state != nullptr && state->pinned_allocator != nullptr;
}

const OrtMemoryInfo* Placement::memory(ValuePlace place) const noexcept {
  const Attached* state = attached();
  if (state == nullptr) return nullptr;
  const OrtMemoryInfo* info = nullptr;
  if (place == ValuePlace::kDevice) info = state->device;
  if (place == ValuePlace::kPinned) info = state->pinned;
  return info != nullptr ? info : state->library->cpu_memory();
}

Status Placement::run_bound(const char* const* input_names, const OrtValue* const* inputs,
                            size_t n_inputs, const char* const* output_names, size_t n_outputs,
                            ValuePlace place, OrtValue** outputs) const noexcept {
  for (size_t i = 0; i < n_outputs; ++i) outputs[i] = nullptr;
  const Attached* state = attached();
  if (state == nullptr) {
    return Status(StatusCode::kRuntime, "the model has not been loaded in this process");
  }
  return guarded([&]() -> Status {
    const Library& library = *state->library;
    const Api& api = library.api();
    OrtIoBinding* raw = nullptr;
    INFERSDK_RETURN_IF_ERROR(library.check(api.CreateIoBinding(state->session, &raw)));
    const std::unique_ptr<OrtIoBinding, void (*)(OrtIoBinding*)> binding(raw, api.ReleaseIoBinding);
    int waited_for = -1;
    for (size_t i = 0; i < n_inputs; ++i) {
      int device = -1;
      INFERSDK_RETURN_IF_ERROR(cuda_device_of(library, inputs[i], &device));
      if (device < 0 || device == waited_for) continue;
      INFERSDK_RETURN_IF_ERROR(wait_for_cuda(device));
      waited_for = device;
    }
    for (size_t i = 0; i < n_inputs; ++i) {
      INFERSDK_RETURN_IF_ERROR(library.check(api.BindInput(raw, input_names[i], inputs[i])));
    }
    const OrtMemoryInfo* where = memory(place);
    for (size_t i = 0; i < n_outputs; ++i) {
      INFERSDK_RETURN_IF_ERROR(library.check(api.BindOutputToDevice(raw, output_names[i], where)));
    }
    INFERSDK_RETURN_IF_ERROR(library.check(api.SynchronizeBoundInputs(raw)));
    INFERSDK_RETURN_IF_ERROR(library.check(api.RunWithBinding(state->session, nullptr, raw)));
    INFERSDK_RETURN_IF_ERROR(library.check(api.SynchronizeBoundOutputs(raw)));
    OrtValue** values = nullptr;
    size_t n = 0;
    INFERSDK_RETURN_IF_ERROR(
        library.check(api.GetBoundOutputValues(raw, library.allocator(), &values, &n)));
    const bool as_bound = n == n_outputs;  // in the order of binding
    for (size_t i = 0; i < n; ++i) {
      if (as_bound) {
        outputs[i] = values[i];
      } else {
        api.ReleaseValue(values[i]);
      }
    }
    Status status;
    if (values != nullptr) status = library.check(api.AllocatorFree(library.allocator(), values));
    (void)status;  // the values are there; the list of them is a few bytes
    if (!as_bound) {
      return Status(StatusCode::kInternal, "ONNX Runtime gave " + std::to_string(n) + " of " +
                                               std::to_string(n_outputs) + " outputs");
    }
    return Status();
  });
}

Status StagingBuffer::allocate(const Library& library, std::shared_ptr<Placement> placement,
                               size_t size_bytes, StagingBuffer* out) noexcept {
  return guarded([&]() -> Status {
    StagingBuffer buffer;
    buffer.library_ = &library;
    buffer.size_bytes_ = size_bytes;
    buffer.generation_ = Library::process_generation();
    buffer.memory_ = library.cpu_memory();
    const size_t rounded = (size_bytes + kAlignment - 1) / kAlignment * kAlignment;
    const size_t taken = rounded == 0 ? kAlignment : rounded;
    const Placement::Attached* state = placement == nullptr ? nullptr : placement->attached();
    if (state != nullptr && state->pinned_allocator != nullptr) {
      void* data = nullptr;
      const Status status =
          library.check(library.api().AllocatorAlloc(state->pinned_allocator, taken, &data));
      // Page-locked memory is scarce; ordinary memory is slower and always right.
      if (status.ok() && data != nullptr) {
        buffer.data_ = data;
        buffer.allocator_ = state->pinned_allocator;
        buffer.memory_ = state->pinned;
        buffer.placement_ = std::move(placement);
      }
    }
    if (buffer.data_ == nullptr) {
      buffer.data_ = std::aligned_alloc(kAlignment, taken);
      if (buffer.data_ == nullptr) return Status(StatusCode::kOutOfMemory, "out of memory");
    }
    *out = std::move(buffer);
    return Status();
  });
}

void StagingBuffer::take(StagingBuffer& other) noexcept {
  library_ = other.library_;
  placement_ = std::move(other.placement_);
  allocator_ = std::exchange(other.allocator_, nullptr);
  memory_ = std::exchange(other.memory_, nullptr);
  generation_ = other.generation_;
  data_ = std::exchange(other.data_, nullptr);
  size_bytes_ = std::exchange(other.size_bytes_, 0);
}

void StagingBuffer::reset() noexcept {
  if (data_ == nullptr) return;
  if (allocator_ == nullptr) {
    std::free(data_);
  } else if (generation_ == Library::process_generation()) {
    const Status ignored = library_->check(library_->api().AllocatorFree(allocator_, data_));
    (void)ignored;
  }
  data_ = nullptr;
  allocator_ = nullptr;
  placement_.reset();
}

}  // namespace infersdk
