// A tensor of a call that does not run in its own thread: with memory of its own, or with the
// caller's, who then keeps it until the call is finished.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "infersdk/ort_api.hpp"

namespace infersdk {

// Bytes of one element in memory; 0 for strings and for types packed below a byte.
size_t element_size(ElementType type) noexcept;

struct AlignedFree {
  void operator()(void* pointer) const noexcept;
};
using AlignedBuffer = std::unique_ptr<void, AlignedFree>;

// 64-byte aligned; throws std::bad_alloc.
AlignedBuffer allocate_aligned(size_t size_bytes);

size_t count_elements(const std::vector<int64_t>& dims) noexcept;

struct Tensor {
  ElementType element = ElementType::kUndefined;
  std::vector<int64_t> dims;
  AlignedBuffer data;     // its own memory; empty for strings and where it is borrowed
  void* bytes = nullptr;  // what is read and written: `data`, or the caller's
  size_t size_bytes = 0;
  std::vector<std::string> strings;

  // Makes room for a tensor of that shape; its contents are undefined. Throws std::bad_alloc.
  void reserve(ElementType type, const std::vector<int64_t>& shape);
  // Takes `memory`, of that shape, which has to outlive every run of the request.
  void borrow(ElementType type, const std::vector<int64_t>& shape, void* memory);
};

}  // namespace infersdk
