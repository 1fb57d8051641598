#include "infersdk/tensor_backend.hpp"

#include <algorithm>
#include <cstring>

namespace infersdk {
namespace {

// Values that end with the scope; a null one is skipped.
class Values {
 public:
  Values(const Api& api, size_t n) : api_(api), values_(n, nullptr) {}
  ~Values() {
    for (OrtValue* value : values_) {
      if (value != nullptr) api_.ReleaseValue(value);
    }
  }
  Values(const Values&) = delete;
  Values& operator=(const Values&) = delete;
  OrtValue** data() { return values_.data(); }
  OrtValue*& operator[](size_t i) { return values_[i]; }

 private:
  const Api& api_;
  std::vector<OrtValue*> values_;
};

// Calls visit(offset in the small block, offset in the large one, elements) for every stretch that
// is contiguous in both; the small block lies at the large one's origin, and each of its axes is at
// most as long.
template <typename Visit>
void for_each_stretch(const std::vector<int64_t>& small, const std::vector<int64_t>& large,
                      Visit&& visit) {
  if (count_elements(small) == 0) return;
  size_t split = small.size();  // the last axis of different length
  while (split > 0 && small[split - 1] == large[split - 1]) --split;
  size_t small_block = 1;
  size_t large_block = 1;
  const size_t outer = split == 0 ? 0 : split - 1;
  for (size_t axis = outer; axis < small.size(); ++axis) {
    small_block *= static_cast<size_t>(small[axis]);
    large_block *= static_cast<size_t>(large[axis]);
  }
  std::vector<int64_t> index(outer, 0);
  size_t from = 0;
  while (true) {
    size_t block = 0;
    for (size_t axis = 0; axis < outer; ++axis) {
      block = block * static_cast<size_t>(large[axis]) + static_cast<size_t>(index[axis]);
    }
    visit(from, block * large_block, small_block);
    from += small_block;
    size_t axis = outer;
    while (axis > 0 && ++index[axis - 1] == small[axis - 1]) index[--axis] = 0;
    if (axis == 0) return;
  }
}

}  // namespace

size_t Padding::size_index(int64_t length) noexcept {
  size_t index = 0;
  for (uint64_t size = 1; index + 1 < kSizes; ++index) {
    // 1, 2, 3, 4, 6, 8, ...: whole octaves at odd indices from 1 on, and between them half more
    if (length <= 0 || static_cast<uint64_t>(length) <= size) break;
    size = index == 0 ? 2 : (index % 2 == 1 ? size + size / 2 : size / 3 * 4);
  }
  return index;
}

void lane_of(const Padding& padding, const std::vector<Tensor>& inputs,
             std::vector<int64_t>* lane) {
  lane->clear();
  std::vector<int64_t> lengths(padding.n_groups, -1);
  bool consistent = true;
  for (size_t i = 0; i < inputs.size() && i < padding.inputs.size(); ++i) {
    for (size_t axis = 1; axis < inputs[i].dims.size(); ++axis) {
      const int group = axis < padding.inputs[i].size() ? padding.inputs[i][axis] : Padding::kExact;
      if (group == Padding::kExact) continue;
      int64_t& length = lengths[static_cast<size_t>(group)];
      if (length >= 0 && length != inputs[i].dims[axis]) consistent = false;
      length = inputs[i].dims[axis];
    }
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    const std::vector<int64_t>& dims = inputs[i].dims;
    lane->push_back(static_cast<int64_t>(dims.size()));
    for (size_t axis = 1; axis < dims.size(); ++axis) {
      const bool padded = consistent && i < padding.inputs.size() &&
                          axis < padding.inputs[i].size() &&
                          padding.inputs[i][axis] != Padding::kExact;
      // An empty axis is not filled up: what a model makes of nothing is its own affair.
      lane->push_back(padded && dims[axis] > 0
                          ? -1 - static_cast<int64_t>(Padding::size_index(dims[axis]))
                          : dims[axis]);
    }
  }
}

TensorBackend::TensorBackend(std::shared_ptr<Session> session,
                             std::shared_ptr<const Padding> padding)
    : session_(std::move(session)),
      padding_(std::move(padding)),
      largest_(padding_->n_groups * Padding::kSizes) {}

int TensorBackend::group_of(const std::vector<std::vector<int>>& groups, size_t value,
                            size_t axis) const {
  if (value >= groups.size() || axis >= groups[value].size()) return Padding::kExact;
  return groups[value][axis];
}

std::vector<int64_t> TensorBackend::lengths_of(const Request& request) const {
  std::vector<int64_t> lengths(padding_->n_groups, -1);
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    for (size_t axis = 1; axis < request.inputs[i].dims.size(); ++axis) {
      const int group = group_of(padding_->inputs, i, axis);
      if (group == Padding::kExact) continue;
      int64_t& length = lengths[static_cast<size_t>(group)];
      if (length >= 0 && length != request.inputs[i].dims[axis]) return {};
      length = request.inputs[i].dims[axis];
    }
  }
  for (int64_t& length : lengths) length = std::max<int64_t>(length, 0);
  return lengths;
}

Status TensorBackend::run(const Piece* pieces, size_t n) noexcept {
  return guarded([&]() -> Status {
    if (n == 1 || rows_scatter_.load(std::memory_order_relaxed)) return run_together(pieces, n);
    for (size_t i = 0; i < n; ++i) INFERSDK_RETURN_IF_ERROR(run_together(pieces + i, 1));
    return Status();
  });
}

Status TensorBackend::run_together(const Piece* pieces, size_t n) {
  const Request& first = *pieces[0].request;
  std::vector<int64_t> lengths;
  if (padding_->n_groups > 0) {
    // Empty where a group's lengths are unequal: all requests of such a lane have the same shape.
    lengths = lengths_of(first);
    for (size_t i = 1; i < n; ++i) {
      const std::vector<int64_t> own = lengths_of(*pieces[i].request);
      for (size_t group = 0; group < own.size(); ++group) {
        lengths[group] = std::max(lengths[group], own[group]);
      }
    }
    for (size_t group = 0; padding_->learned_sizes && group < lengths.size(); ++group) {
      if (lengths[group] == 0) continue;
      std::atomic<int64_t>& largest =
          largest_[group * Padding::kSizes + Padding::size_index(lengths[group])];
      int64_t seen = largest.load(std::memory_order_relaxed);
      while (seen < lengths[group] &&
             !largest.compare_exchange_weak(seen, lengths[group], std::memory_order_relaxed)) {
      }
      lengths[group] = std::max(lengths[group], seen);
    }
  }
  const Api& api = session_->library()->api();
  std::vector<StagingBuffer> buffers(first.inputs.size());
  Values inputs(api, first.inputs.size());
  for (size_t i = 0; i < first.inputs.size(); ++i) {
    INFERSDK_RETURN_IF_ERROR(gather(i, pieces, n, lengths, &buffers[i], &inputs[i]));
  }
  int64_t n_rows = 0;
  for (size_t i = 0; i < n; ++i) n_rows += static_cast<int64_t>(pieces[i].n_rows);
  Values outputs(api, session_->outputs().size());
  const int64_t started = now_ns();
  INFERSDK_RETURN_IF_ERROR(session_->run(inputs.data(), outputs.data()));
  const int64_t ended = now_ns();
  if (session_->meter() != nullptr) {
    session_->meter()->ran(ended - started, n_rows, Writers::kMany);
  }
  for (size_t i = 0; i < n; ++i) pieces[i].request->ran(started, ended, n_rows);
  const bool together = n > 1 || !pieces[0].whole();
  for (size_t i = 0; i < session_->outputs().size(); ++i) {
    Status status = scatter(i, outputs[i], pieces, n, n_rows, together);
    if (!status.ok()) {
      // A repetition of rows that are already there is harmless: the same values are written.
      if (n > 1) rows_scatter_.store(false, std::memory_order_relaxed);
      return status;
    }
  }
  return Status();
}

Status TensorBackend::gather(size_t input, const Piece* pieces, size_t n,
                             const std::vector<int64_t>& lengths, StagingBuffer* buffer,
                             OrtValue** value) {
  Library* library = session_->library();
  const Api& api = library->api();
  const Tensor& model = pieces[0].request->inputs[input];
  if (n > 1 || !pieces[0].whole()) {
    // A value that all rows of one request share has nothing to do with another's.
    for (size_t i = 0; i < n; ++i) {
      const Request& request = *pieces[i].request;
      const std::vector<int64_t>& own = request.inputs[input].dims;
      if (!own.empty() && own[0] == static_cast<int64_t>(request.n_rows)) continue;
      return Status(StatusCode::kInvalidArgument,
                    "input `" + session_->inputs()[input].name + "` has " +
                        (own.empty() ? "no" : std::to_string(own[0])) + " rows for " +
                        std::to_string(request.n_rows));
    }
  }
  std::vector<int64_t> dims = model.dims;  // of the batch
  bool exact = true;                       // nothing is filled up
  if (n > 1 || !pieces[0].whole()) {
    dims[0] = 0;
    for (size_t i = 0; i < n; ++i) dims[0] += static_cast<int64_t>(pieces[i].n_rows);
  }
  for (size_t axis = 1; axis < dims.size() && !lengths.empty(); ++axis) {
    const int group = group_of(padding_->inputs, input, axis);
    if (group == Padding::kExact) continue;
    bool own = true;
    for (size_t i = 0; i < n; ++i) {
      own = own && pieces[i].request->inputs[input].dims[axis] == dims[axis];
    }
    const int64_t length = lengths[static_cast<size_t>(group)];
    if (n == 1 && !padding_->learned_sizes) continue;
    if (own && dims[axis] == length) continue;
    if (dims[axis] == 0) continue;
    dims[axis] = length;
    exact = false;
  }
  size_t row = 1;  // elements
  for (size_t axis = 1; axis < dims.size(); ++axis) row *= static_cast<size_t>(dims[axis]);

  if (model.element == ElementType::kString) {
    INFERSDK_RETURN_IF_ERROR(library->check(api.CreateTensorAsOrtValue(
        library->allocator(), dims.data(), dims.size(), static_cast<int>(model.element), value)));
    auto put = [&](size_t index, const std::string& text) -> Status {
      char* target = nullptr;
      INFERSDK_RETURN_IF_ERROR(library->check(
          api.GetResizedStringTensorElementBuffer(*value, index, text.size(), &target)));
      if (!text.empty()) std::memcpy(target, text.data(), text.size());
      return Status();
    };
    if (!exact) {
      const size_t total = count_elements(dims);
      for (size_t i = 0; i < total; ++i) {
        INFERSDK_RETURN_IF_ERROR(put(i, padding_->fill_strings[input]));
      }
    }
    size_t start = 0;
    for (size_t i = 0; i < n; ++i) {
      const Tensor& tensor = pieces[i].request->inputs[input];
      std::vector<int64_t> block = tensor.dims;
      size_t offset = 0;
      if (!block.empty() && !pieces[i].whole()) {
        offset = pieces[i].first_row * (count_elements(block) / static_cast<size_t>(block[0]));
        block[0] = static_cast<int64_t>(pieces[i].n_rows);
      }
      std::vector<int64_t> room = dims;
      if (!room.empty()) room[0] = block[0];
      Status status;
      for_each_stretch(block, room, [&](size_t from, size_t to, size_t length) {
        for (size_t k = 0; k < length && status.ok(); ++k) {
          status = put(start + to + k, tensor.strings[offset + from + k]);
        }
      });
      INFERSDK_RETURN_IF_ERROR(std::move(status));
      start += pieces[i].n_rows * row;
    }
    return Status();
  }

  const size_t element = element_size(model.element);
  void* data = nullptr;
  const OrtMemoryInfo* memory = library->cpu_memory();
  if (n == 1 && exact) {
    const size_t offset = pieces[0].whole() ? 0 : pieces[0].first_row * row * element;
    data = static_cast<char*>(model.bytes) + offset;
  } else {
    // Page-locked where the session is on a GPU, which then reads it without a copy in between.
    INFERSDK_RETURN_IF_ERROR(StagingBuffer::allocate(*library, session_->placement(),
                                                     count_elements(dims) * element, buffer));
    data = buffer->data();
    memory = buffer->memory();
    if (!exact) {
      char* target = static_cast<char*>(data);
      const size_t total = count_elements(dims);
      for (size_t i = 0; i < total; ++i) {
        std::memcpy(target + i * element, padding_->fill[input].data(), element);
      }
    }
    char* target = static_cast<char*>(data);
    for (size_t i = 0; i < n; ++i) {
      const Tensor& tensor = pieces[i].request->inputs[input];
      std::vector<int64_t> block = tensor.dims;
      const char* source = static_cast<const char*>(tensor.bytes);
      if (!pieces[i].whole()) {
        source += pieces[i].first_row * (tensor.size_bytes / static_cast<size_t>(block[0]));
        block[0] = static_cast<int64_t>(pieces[i].n_rows);
      }
      if (exact) {
        const size_t size_bytes = pieces[i].n_rows * row * element;
        if (size_bytes > 0) std::memcpy(target, source, size_bytes);
      } else {
        std::vector<int64_t> room = dims;
        room[0] = block[0];
        for_each_stretch(block, room, [&](size_t from, size_t to, size_t length) {
          std::memcpy(target + to * element, source + from * element, length * element);
        });
      }
      target += pieces[i].n_rows * row * element;
    }
  }
  return library->check(
      api.CreateTensorWithDataAsOrtValue(memory, data, count_elements(dims) * element, dims.data(),
                                         dims.size(), static_cast<int>(model.element), value));
}

Status TensorBackend::scatter(size_t output, OrtValue* value, const Piece* pieces, size_t n,
                              int64_t n_rows, bool together) {
  Library* library = session_->library();
  const Api& api = library->api();
  ElementType type = ElementType::kUndefined;
  std::vector<int64_t> dims;
  INFERSDK_RETURN_IF_ERROR(session_->describe(value, &type, &dims));
  if (together && (dims.empty() || dims[0] != n_rows)) {
    return Status(StatusCode::kInternal, "output `" + session_->outputs()[output].name + "` has " +
                                             (dims.empty() ? "no" : std::to_string(dims[0])) +
                                             " rows for " + std::to_string(n_rows));
  }
  const char* source = nullptr;
  std::vector<char> content;
  std::vector<size_t> starts;
  const size_t total = count_elements(dims);
  if (type == ElementType::kString) {
    size_t length = 0;
    INFERSDK_RETURN_IF_ERROR(library->check(api.GetStringTensorDataLength(value, &length)));
    content.resize(length + 1);
    starts.resize(total + 1);
    INFERSDK_RETURN_IF_ERROR(library->check(
        api.GetStringTensorContent(value, content.data(), length, starts.data(), total)));
    starts[total] = length;
  } else {
    void* data = nullptr;
    INFERSDK_RETURN_IF_ERROR(library->check(api.GetTensorMutableData(value, &data)));
    source = static_cast<const char*>(data);
  }
  const size_t element = element_size(type);
  size_t start = 0;  // of the piece, in elements
  for (size_t i = 0; i < n; ++i) {
    Request& request = *pieces[i].request;
    std::vector<int64_t> own = dims;  // of the request
    if (padding_->n_groups > 0 && !own.empty()) {
      const std::vector<int64_t> lengths = lengths_of(request);
      for (size_t axis = 1; axis < own.size() && !lengths.empty(); ++axis) {
        const int group = group_of(padding_->outputs, output, axis);
        if (group != Padding::kExact) {
          own[axis] = std::min(own[axis], lengths[static_cast<size_t>(group)]);
        }
      }
    }
    if (together) own[0] = static_cast<int64_t>(request.n_rows);
    std::lock_guard<std::mutex> lock(request.outputs_mutex);
    if (request.outputs.size() < session_->outputs().size()) {
      request.outputs.resize(session_->outputs().size());
    }
    Tensor& target = request.outputs[output];
    if (target.dims != own || target.element != type) {
      if (target.element != ElementType::kUndefined && !pieces[i].whole()) {
        return Status(StatusCode::kInternal, "output `" + session_->outputs()[output].name +
                                                 "` has another shape for other rows of one call");
      }
      target.reserve(type, own);
    }
    std::vector<int64_t> block = own;
    size_t offset = 0;  // in the request's output, in elements
    if (together) {
      if (own[0] > 0) {
        offset = pieces[i].first_row * (count_elements(own) / static_cast<size_t>(own[0]));
      }
      block[0] = static_cast<int64_t>(pieces[i].n_rows);
    }
    std::vector<int64_t> room = dims;
    if (together) room[0] = block[0];
    for_each_stretch(block, room, [&](size_t to, size_t from, size_t length) {
      if (type == ElementType::kString) {
        for (size_t k = 0; k < length; ++k) {
          const size_t at = start + from + k;
          target.strings[offset + to + k].assign(content.data() + starts[at],
                                                 starts[at + 1] - starts[at]);
        }
      } else if (length > 0) {
        std::memcpy(static_cast<char*>(target.data.get()) + (offset + to) * element,
                    source + (start + from) * element, length * element);
      }
    });
    if (together) start += count_elements(room);
  }
  return Status();
}

}  // namespace infersdk
