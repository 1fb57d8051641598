#include "infersdk/tensor.hpp"

#include <cstdlib>
#include <new>

namespace infersdk {
namespace {

constexpr size_t kAlignment = 64;

}  // namespace

AlignedBuffer allocate_aligned(size_t size_bytes) {
  const size_t rounded = (size_bytes + kAlignment - 1) / kAlignment * kAlignment;
  void* pointer = std::aligned_alloc(kAlignment, rounded == 0 ? kAlignment : rounded);
  if (pointer == nullptr) throw std::bad_alloc();
  return AlignedBuffer(pointer);
}

size_t count_elements(const std::vector<int64_t>& dims) noexcept {
  size_t n = 1;
  for (int64_t dim : dims) n *= static_cast<size_t>(dim);
  return n;
}

void Tensor::reserve(ElementType type, const std::vector<int64_t>& shape) {
  element = type;
  dims = shape;
  const size_t n = count_elements(shape);
  if (type == ElementType::kString) {
    strings.assign(n, std::string());
    return;
  }
  size_bytes = n * element_size(type);
  data = allocate_aligned(size_bytes);
  bytes = data.get();
}

void Tensor::borrow(ElementType type, const std::vector<int64_t>& shape, void* memory) {
  element = type;
  dims = shape;
  size_bytes = count_elements(shape) * element_size(type);
  bytes = memory;
}

void AlignedFree::operator()(void* pointer) const noexcept {
  std::free(pointer);
}

size_t element_size(ElementType type) noexcept {
  switch (type) {
    case ElementType::kUint8:
    case ElementType::kInt8:
    case ElementType::kBool:
    case ElementType::kFloat8E4M3FN:
    case ElementType::kFloat8E4M3FNUZ:
    case ElementType::kFloat8E5M2:
    case ElementType::kFloat8E5M2FNUZ:
    case ElementType::kFloat8E8M0:
      return 1;
    case ElementType::kUint16:
    case ElementType::kInt16:
    case ElementType::kFloat16:
    case ElementType::kBfloat16:
      return 2;
    case ElementType::kFloat:
    case ElementType::kInt32:
    case ElementType::kUint32:
      return 4;
    case ElementType::kInt64:
    case ElementType::kDouble:
    case ElementType::kUint64:
    case ElementType::kComplex64:
      return 8;
    case ElementType::kComplex128:
      return 16;
    default:
      return 0;
  }
}

}  // namespace infersdk
