// Tensors handed over without a copy, by DLPack: to NumPy, PyTorch, CuPy and JAX, and from them.
//
// The structs are DLPack's own, as its specification lays them out (version 1.0, and the form
// before versions). A DeviceValue is an OrtValue with an owner; each hand-over holds it until the
// receiver calls the deleter, so that the memory lives as long as the last of them.
//
// Thread safety: a DeviceValue is immutable; deleters may be called from any thread. Blocking:
// none. Ownership: as above; the caller owns a struct until a receiver has taken it. fork: a value
// of the parent that ends in a child is left alone, as its allocator's locks may be held for ever.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "infersdk/library.hpp"
#include "infersdk/ort_api.hpp"
#include "infersdk/status.hpp"

namespace infersdk {

enum class DLDeviceType : int32_t {
  kCpu = 1,
  kCuda = 2,
  kCudaHost = 3,  // page-locked host memory
};

struct DLDevice {
  int32_t device_type;
  int32_t device_id;
};

struct DLDataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};

struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; may be null: compact, row by row
  uint64_t byte_offset;
};

struct DLManagedTensor {
  DLTensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensor* self);
};

struct DLPackVersion {
  uint32_t major;
  uint32_t minor;
};

constexpr uint64_t kDLReadOnly = 1;  // a flag: the receiver must not write

struct DLManagedTensorVersioned {
  DLPackVersion version;
  void* manager_ctx;
  void (*deleter)(DLManagedTensorVersioned* self);
  uint64_t flags;
  DLTensor dl_tensor;
};

// numpy's name of an element type ("float32", "bfloat16", ...); null for text and the undefined.
const char* element_name(ElementType element) noexcept;

class DeviceValue {
 public:
  // Takes `value`, a dense tensor of whole bytes; on failure it is released. `keep` is let go after
  // it.
  static Status adopt(const Library& library, OrtValue* value, bool read_only,
                      std::shared_ptr<void> keep, std::shared_ptr<DeviceValue>* out) noexcept;

  // A value over the memory of another library. The struct is consumed: its deleter is called when
  // the last user is gone, and on failure at once.
  static Status from_dlpack(const Library& library, DLManagedTensor* managed,
                            std::shared_ptr<DeviceValue>* out) noexcept;
  static Status from_dlpack(const Library& library, DLManagedTensorVersioned* managed,
                            std::shared_ptr<DeviceValue>* out) noexcept;

  ~DeviceValue();
  DeviceValue(const DeviceValue&) = delete;
  DeviceValue& operator=(const DeviceValue&) = delete;

  OrtValue* value() const { return value_; }
  void* data() const { return data_; }
  ElementType element() const { return element_; }
  const std::vector<int64_t>& dims() const { return dims_; }
  DLDevice device() const { return device_; }
  size_t size_bytes() const { return size_bytes_; }
  bool read_only() const { return read_only_; }

 private:
  DeviceValue(const Library& library, OrtValue* value, bool read_only, std::shared_ptr<void> keep)
      : library_(library), value_(value), read_only_(read_only), keep_(std::move(keep)) {}
  Status describe();

  const Library& library_;
  OrtValue* value_;
  bool read_only_;
  std::shared_ptr<void> keep_;
  uint64_t generation_ = Library::process_generation();
  void* data_ = nullptr;
  ElementType element_ = ElementType::kUndefined;
  std::vector<int64_t> dims_;
  DLDevice device_{};
  size_t size_bytes_ = 0;
};

// A struct that a receiver may take. The form before versions cannot say that it is read-only.
Status to_dlpack(std::shared_ptr<DeviceValue> value, DLManagedTensor** out) noexcept;
Status to_dlpack(std::shared_ptr<DeviceValue> value, DLManagedTensorVersioned** out) noexcept;

}  // namespace infersdk
