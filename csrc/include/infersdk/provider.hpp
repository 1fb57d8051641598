// Execution providers: what computes a session's nodes, and where its values lie.
//
// A Placement belongs to one session. It appends the session's providers to the options, and once
// the model is loaded it knows the handle that page-locked memory and bindings are made from.
// Without a CUDA device everything here works on host memory, so that callers need no second way.
//
// Why a binding is never kept on a device: binding an input copies it there and then. A binding
// made once over a buffer that is filled later would compute with the first row for ever.
//
// Thread safety: append() and attach() are called under Library::creation_mutex(); everything else
// from any thread. Blocking: run_bound() runs the model and waits for the device. Ownership: a
// StagingBuffer keeps its Placement; values that run_bound() gives are the caller's to release, and
// outlive the session. fork: a child's first use of the session attaches the child's handle; what
// the parent had allocated is left alone. CUDA itself cannot be used in the child of a process that
// has used it: loading such a session there fails with CUDA's own error.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "infersdk/library.hpp"
#include "infersdk/ort_api.hpp"
#include "infersdk/status.hpp"

namespace infersdk {

// A provider by ONNX Runtime's name without the ending "ExecutionProvider" ("CUDA", "TensorRT",
// "OpenVINO", ...), and its options in ONNX Runtime's words.
struct ProviderConfig {
  std::string name;
  std::vector<std::string> keys;
  std::vector<std::string> values;  // as many as keys

  void set(const std::string& key, const std::string& value) {
    keys.push_back(key);
    values.push_back(value);
  }
};

// The full names of the providers that the library was built with, preferred first. Being listed
// does not mean that a device is there.
Status available_providers(const Library& library, std::vector<std::string>* out) noexcept;

// Adds one provider to a session's options. The library of a provider is loaded here, so that a
// missing one is an error now and not a slow session later.
Status append_provider(const Library& library, OrtEnv* env, OrtSessionOptions* options,
                       const ProviderConfig& config) noexcept;

// Adds a provider that ONNX Runtime knows by device (a plugin), on the `ordinal`-th device that has
// it; `library_path` is loaded first, unless it is empty.
Status append_plugin(const Library& library, OrtEnv* env, OrtSessionOptions* options,
                     const std::string& full_name, const std::string& library_path, size_t ordinal,
                     const ProviderConfig& config) noexcept;

// Where the outputs of a run are left.
enum class ValuePlace : int {
  kHost = 0,    // ordinary memory
  kPinned = 1,  // page-locked memory; ordinary memory where there is no CUDA device
  kDevice = 2,  // the session's CUDA device; ordinary memory where there is none
};

class Placement {
 public:
  // `cuda_device` is the ordinal of the CUDA device that holds the session's values, or -1.
  explicit Placement(std::vector<ProviderConfig> providers, int cuda_device = -1)
      : providers_(std::move(providers)), cuda_device_(cuda_device) {}
  ~Placement();
  Placement(const Placement&) = delete;
  Placement& operator=(const Placement&) = delete;

  // Before the model is loaded: the providers, in their order.
  Status append(const Library& library, OrtEnv* env, OrtSessionOptions* options) const noexcept;
  // After it: the handle. Does not fail: without page-locked memory, ordinary memory serves.
  void attach(const Library& library, OrtSession* session) noexcept;

  const std::vector<ProviderConfig>& providers() const { return providers_; }
  int cuda_device() const { return cuda_device_; }
  // Whether inputs are copied to another memory before they are computed with; bindings may then
  // not be kept from run to run.
  bool on_device() const { return cuda_device_ >= 0; }
  // Whether staging buffers are page-locked.
  bool pins() const noexcept;
  // What describes memory at a place; null before attach().
  const OrtMemoryInfo* memory(ValuePlace place) const noexcept;

  // Runs named values into fresh ones at `place`. The device has finished when it returns.
  Status run_bound(const char* const* input_names, const OrtValue* const* inputs, size_t n_inputs,
                   const char* const* output_names, size_t n_outputs, ValuePlace place,
                   OrtValue** outputs) const noexcept;

 private:
  friend class StagingBuffer;
  // What belongs to the handle, and so to one process.
  struct Attached {
    const Library* library = nullptr;
    OrtSession* session = nullptr;
    uint64_t generation = 0;
    OrtMemoryInfo* pinned = nullptr;
    OrtMemoryInfo* device = nullptr;
    OrtAllocator* pinned_allocator = nullptr;
  };
  const Attached* attached() const noexcept;

  std::vector<ProviderConfig> providers_;
  int cuda_device_;
  std::atomic<Attached*> attached_{nullptr};
};

// Host memory that a device reads and writes without a further copy: page-locked where the
// placement has a CUDA device, otherwise ordinary; aligned to 64 bytes either way. For inputs and
// outputs that are filled again and again. May be moved between threads.
class StagingBuffer {
 public:
  StagingBuffer() = default;
  ~StagingBuffer() { reset(); }
  StagingBuffer(StagingBuffer&& other) noexcept { take(other); }
  StagingBuffer& operator=(StagingBuffer&& other) noexcept {
    if (this != &other) {
      reset();
      take(other);
    }
    return *this;
  }

  // The placement may be null: ordinary memory.
  static Status allocate(const Library& library, std::shared_ptr<Placement> placement,
                         size_t size_bytes, StagingBuffer* out) noexcept;

  void* data() const { return data_; }
  size_t size_bytes() const { return size_bytes_; }
  bool pinned() const { return allocator_ != nullptr; }
  // For values over data(): tells ONNX Runtime that copies need not go through a buffer of its own.
  const OrtMemoryInfo* memory() const { return memory_; }

 private:
  void take(StagingBuffer& other) noexcept;
  void reset() noexcept;

  const Library* library_ = nullptr;
  std::shared_ptr<Placement> placement_;
  OrtAllocator* allocator_ = nullptr;  // null: std::free
  const OrtMemoryInfo* memory_ = nullptr;
  uint64_t generation_ = 0;
  void* data_ = nullptr;
  size_t size_bytes_ = 0;
};

}  // namespace infersdk
