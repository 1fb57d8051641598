#include "infersdk/dlpack.hpp"

#include <cstring>
#include <utility>

namespace infersdk {
namespace {

constexpr DLPackVersion kVersion{1, 0};

// DLPack's kinds of elements.
constexpr uint8_t kInt = 0;
constexpr uint8_t kUint = 1;
constexpr uint8_t kFloat = 2;
constexpr uint8_t kBfloat = 4;
constexpr uint8_t kComplex = 5;
constexpr uint8_t kBool = 6;

struct Element {
  ElementType type;
  uint8_t code;
  uint8_t bits;
  const char* name;
};

// What DLPack 1.1 calls float8 is not understood by receivers of 1.0, so that these have no form
// here.
constexpr Element kElements[] = {
    {ElementType::kFloat, kFloat, 32, "float32"},
    {ElementType::kUint8, kUint, 8, "uint8"},
    {ElementType::kInt8, kInt, 8, "int8"},
    {ElementType::kUint16, kUint, 16, "uint16"},
    {ElementType::kInt16, kInt, 16, "int16"},
    {ElementType::kInt32, kInt, 32, "int32"},
    {ElementType::kInt64, kInt, 64, "int64"},
    {ElementType::kBool, kBool, 8, "bool"},
    {ElementType::kFloat16, kFloat, 16, "float16"},
    {ElementType::kDouble, kFloat, 64, "float64"},
    {ElementType::kUint32, kUint, 32, "uint32"},
    {ElementType::kUint64, kUint, 64, "uint64"},
    {ElementType::kComplex64, kComplex, 64, "complex64"},
    {ElementType::kComplex128, kComplex, 128, "complex128"},
    {ElementType::kBfloat16, kBfloat, 16, "bfloat16"},
};

const Element* find(ElementType type) {
  for (const Element& element : kElements) {
    if (element.type == type) return &element;
  }
  return nullptr;
}

const Element* find(DLDataType dtype) {
  for (const Element& element : kElements) {
    if (element.code == dtype.code && element.bits == dtype.bits && dtype.lanes == 1) {
      return &element;
    }
  }
  return nullptr;
}

Status no_form(const std::string& what) {
  return Status(StatusCode::kInvalidArgument, what);
}

// What a struct points into, and what keeps the memory.
template <typename Managed>
struct Export {
  std::shared_ptr<DeviceValue> value;
  std::vector<int64_t> dims;
  std::vector<int64_t> strides;
  Managed managed{};
};

template <typename Managed>
Status export_as(std::shared_ptr<DeviceValue> value, Managed** out) {
  const Element* element = find(value->element());
  if (element == nullptr) return no_form("a tensor of this element type has no DLPack form");
  auto made = std::make_unique<Export<Managed>>();
  made->dims = value->dims();
  made->strides.resize(made->dims.size());
  int64_t step = 1;
  for (size_t i = made->dims.size(); i-- > 0;) {
    made->strides[i] = step;
    step *= made->dims[i] > 0 ? made->dims[i] : 1;
  }
  DLTensor& tensor = made->managed.dl_tensor;
  tensor.data = value->data();
  tensor.device = value->device();
  tensor.ndim = static_cast<int32_t>(made->dims.size());
  tensor.dtype = DLDataType{element->code, element->bits, 1};
  tensor.shape = made->dims.data();
  tensor.strides = made->strides.data();
  tensor.byte_offset = 0;
  made->value = std::move(value);
  made->managed.manager_ctx = made.get();
  made->managed.deleter = [](Managed* self) {
    delete static_cast<Export<Managed>*>(self->manager_ctx);
  };
  *out = &made.release()->managed;
  return Status();
}

// Calls a producer's deleter once.
template <typename Managed>
std::shared_ptr<void> keeper(Managed* managed) {
  return std::shared_ptr<void>(managed, [](void* pointer) {
    auto* self = static_cast<Managed*>(pointer);
    if (self->deleter != nullptr) self->deleter(self);
  });
}

bool compact(const DLTensor& tensor) {
  if (tensor.strides == nullptr) return true;
  for (int32_t i = 0; i < tensor.ndim; ++i) {
    if (tensor.shape[i] == 0) return true;  // no element lies anywhere
  }
  int64_t step = 1;
  for (int32_t i = tensor.ndim; i-- > 0;) {
    if (tensor.shape[i] != 1 && tensor.strides[i] != step) return false;
    step *= tensor.shape[i];
  }
  return true;
}

Status import_tensor(const Library& library, const DLTensor& tensor, bool read_only,
                     std::shared_ptr<void> keep, std::shared_ptr<DeviceValue>* out) {
  const Element* element = find(tensor.dtype);
  if (element == nullptr) return no_form("its element type has no ONNX form");
  if (!compact(tensor)) return no_form("it is not contiguous; make it so first");
  const Api& api = library.api();
  OrtMemoryInfo* made = nullptr;
  const OrtMemoryInfo* memory = library.cpu_memory();
  switch (static_cast<DLDeviceType>(tensor.device.device_type)) {
    case DLDeviceType::kCpu:
      break;
    case DLDeviceType::kCuda:
      INFERSDK_RETURN_IF_ERROR(library.check(api.CreateMemoryInfo(
          "Cuda", kAllocatorDevice, tensor.device.device_id, kMemTypeDefault, &made)));
      break;
    case DLDeviceType::kCudaHost:
      INFERSDK_RETURN_IF_ERROR(library.check(api.CreateMemoryInfo(
          "CudaPinned", kAllocatorDevice, tensor.device.device_id, kMemTypeCpuOutput, &made)));
      break;
    default:
      return no_form("it lies on a device that is neither the CPU nor a CUDA GPU");
  }
  if (made != nullptr) memory = made;
  size_t size_bytes = element->bits / 8;
  for (int32_t i = 0; i < tensor.ndim; ++i) size_bytes *= static_cast<size_t>(tensor.shape[i]);
  void* data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  OrtValue* value = nullptr;
  const Status status = library.check(api.CreateTensorWithDataAsOrtValue(
      memory, data, size_bytes, tensor.shape, static_cast<size_t>(tensor.ndim),
      static_cast<int>(element->type), &value));
  if (made != nullptr) api.ReleaseMemoryInfo(made);  // the value has a copy
  if (!status.ok()) return status;
  return DeviceValue::adopt(library, value, read_only, std::move(keep), out);
}

Status device_of(const Library& library, const OrtMemoryInfo* memory, DLDevice* out) {
  const Api& api = library.api();
  const char* name = nullptr;
  int id = 0;
  INFERSDK_RETURN_IF_ERROR(library.check(api.MemoryInfoGetName(memory, &name)));
  INFERSDK_RETURN_IF_ERROR(library.check(api.MemoryInfoGetId(memory, &id)));
  auto give = [&](DLDeviceType type) {
    *out = DLDevice{static_cast<int32_t>(type), type == DLDeviceType::kCpu ? 0 : id};
    return Status();
  };
  // By name first: the numbers of kinds of memory differ between versions of ONNX Runtime.
  if (std::strcmp(name, "Cuda") == 0) return give(DLDeviceType::kCuda);
  if (std::strcmp(name, "CudaPinned") == 0) return give(DLDeviceType::kCudaHost);
  // A plugin names its memory as it likes, and says whose it is.
  if (api.MemoryInfoGetVendorId != nullptr && api.MemoryInfoGetVendorId(memory) == kVendorNvidia) {
    return give(api.MemoryInfoGetDeviceMemType(memory) == kDeviceMemDefault
                    ? DLDeviceType::kCuda
                    : DLDeviceType::kCudaHost);
  }
  int type = 0;
  api.MemoryInfoGetDeviceType(memory, &type);
  if (type != kDeviceGpu && std::strncmp(name, "Cpu", 3) == 0) return give(DLDeviceType::kCpu);
  return no_form(std::string("a tensor in memory of kind ") + name + " has no DLPack form");
}

}  // namespace

const char* element_name(ElementType element) noexcept {
  const Element* found = find(element);
  return found == nullptr ? nullptr : found->name;
}

Status DeviceValue::adopt(const Library& library, OrtValue* value, bool read_only,
                          std::shared_ptr<void> keep, std::shared_ptr<DeviceValue>* out) noexcept {
  DeviceValue* made = new (std::nothrow) DeviceValue(library, value, read_only, std::move(keep));
  if (made == nullptr) {
    library.api().ReleaseValue(value);
    return Status(StatusCode::kOutOfMemory, "out of memory");
  }
  return guarded([&]() -> Status {
    std::shared_ptr<DeviceValue> owned(made);
    INFERSDK_RETURN_IF_ERROR(owned->describe());
    *out = std::move(owned);
    return Status();
  });
}

Status DeviceValue::from_dlpack(const Library& library, DLManagedTensor* managed,
                                std::shared_ptr<DeviceValue>* out) noexcept {
  return guarded([&]() -> Status {
    std::shared_ptr<void> keep = keeper(managed);
    return import_tensor(library, managed->dl_tensor, false, std::move(keep), out);
  });
}

Status DeviceValue::from_dlpack(const Library& library, DLManagedTensorVersioned* managed,
                                std::shared_ptr<DeviceValue>* out) noexcept {
  return guarded([&]() -> Status {
    std::shared_ptr<void> keep = keeper(managed);
    if (managed->version.major != kVersion.major) {
      return no_form("it is of DLPack version " + std::to_string(managed->version.major));
    }
    return import_tensor(library, managed->dl_tensor, (managed->flags & kDLReadOnly) != 0,
                         std::move(keep), out);
  });
}

Status DeviceValue::describe() {
  const Api& api = library_.api();
  int kind = 0;
  INFERSDK_RETURN_IF_ERROR(library_.check(api.GetValueType(value_, &kind)));
  if (static_cast<ValueKind>(kind) != ValueKind::kTensor) {
    return no_form("a value that is no dense tensor has no DLPack form");
  }
  OrtTensorTypeAndShapeInfo* raw = nullptr;
  INFERSDK_RETURN_IF_ERROR(library_.check(api.GetTensorTypeAndShape(value_, &raw)));
  const std::unique_ptr<OrtTensorTypeAndShapeInfo, void (*)(OrtTensorTypeAndShapeInfo*)> info(
      raw, api.ReleaseTensorTypeAndShapeInfo);
  int type = 0;
  size_t rank = 0;
  INFERSDK_RETURN_IF_ERROR(library_.check(api.GetTensorElementType(raw, &type)));
  INFERSDK_RETURN_IF_ERROR(library_.check(api.GetDimensionsCount(raw, &rank)));
  dims_.resize(rank);
  if (rank > 0) {
    INFERSDK_RETURN_IF_ERROR(library_.check(api.GetDimensions(raw, dims_.data(), rank)));
  }
  element_ = static_cast<ElementType>(type);
  const Element* element = find(element_);
  if (element == nullptr) {
    return no_form(element_ == ElementType::kString
                       ? "a tensor of text has no DLPack form"
                       : "a tensor of ONNX element type " + std::to_string(type) +
                             " has no DLPack form");
  }
  size_bytes_ = element->bits / 8;
  for (int64_t dim : dims_) size_bytes_ *= static_cast<size_t>(dim);
  INFERSDK_RETURN_IF_ERROR(library_.check(api.GetTensorMutableData(value_, &data_)));

  const OrtMemoryInfo* memory = nullptr;
  INFERSDK_RETURN_IF_ERROR(library_.check(api.GetTensorMemoryInfo(value_, &memory)));
  return device_of(library_, memory, &device_);
}

DeviceValue::~DeviceValue() {
  if (generation_ == Library::process_generation()) library_.api().ReleaseValue(value_);
}

Status to_dlpack(std::shared_ptr<DeviceValue> value, DLManagedTensor** out) noexcept {
  return guarded([&]() -> Status { return export_as(std::move(value), out); });
}

Status to_dlpack(std::shared_ptr<DeviceValue> value, DLManagedTensorVersioned** out) noexcept {
  return guarded([&]() -> Status {
    const bool read_only = value->read_only();
    INFERSDK_RETURN_IF_ERROR(export_as(std::move(value), out));
    (*out)->version = kVersion;
    (*out)->flags = read_only ? kDLReadOnly : 0;
    return Status();
  });
}

}  // namespace infersdk
