// Runs batches of tensors on a Session: gathers the rows of several requests into one input, runs,
// and scatters the outputs.
//
// A single request is not gathered: the run reads its memory. Rows of different lengths may be
// filled up to one length along axes that the user has named; outputs are cut back. Outputs whose
// first axis turns out not to be the batch are never scattered: the requests are then run one by
// one.
//
// Thread safety: run() from any number of threads. Blocking: run() runs the model.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "infersdk/coalescer.hpp"
#include "infersdk/session.hpp"

namespace infersdk {

// Which axes may be filled up, and with what. Axes of one group have one length within a request.
struct Padding {
  static constexpr int kExact = -1;
  static constexpr size_t kSizes = 2 * 63;

  size_t n_groups = 0;
  std::vector<std::vector<int>> inputs;   // of each input, of each axis: its group or kExact
  std::vector<std::vector<int>> outputs;  // likewise, to cut back
  std::vector<std::array<unsigned char, 16>> fill;  // of each input, one element
  std::vector<std::string> fill_strings;            // of each input of strings
  bool learned_sizes = false;  // fill up to the largest length seen of about that size

  // The bytes of the next input's fill element; none where there is nothing to fill.
  void add_fill(const char* bytes, size_t n) {
    fill.emplace_back();
    for (size_t i = 0; i < n && i < fill.back().size(); ++i) {
      fill.back()[i] = static_cast<unsigned char>(bytes[i]);
    }
  }

  // Two sizes to the octave: 1, 2, 3, 4, 6, 8, 12, 16, ... The index of the first not below
  // `length`.
  static size_t size_index(int64_t length) noexcept;
};

// The lane of a request: what has to be equal for two requests to share a run.
void lane_of(const Padding& padding, const std::vector<Tensor>& inputs, std::vector<int64_t>* lane);

class TensorBackend : public Backend {
 public:
  TensorBackend(std::shared_ptr<Session> session, std::shared_ptr<const Padding> padding);

  Status run(const Piece* pieces, size_t n) noexcept override;

 private:
  Status run_together(const Piece* pieces, size_t n);
  Status gather(size_t input, const Piece* pieces, size_t n, const std::vector<int64_t>& lengths,
                StagingBuffer* buffer, OrtValue** value);
  Status scatter(size_t output, OrtValue* value, const Piece* pieces, size_t n, int64_t n_rows,
                 bool together);
  int group_of(const std::vector<std::vector<int>>& groups, size_t value, size_t axis) const;
  // Of each group; empty where a group has several, and nothing can be filled up.
  std::vector<int64_t> lengths_of(const Request& request) const;

  const std::shared_ptr<Session> session_;
  const std::shared_ptr<const Padding> padding_;
  std::vector<std::atomic<int64_t>> largest_;  // of each group and size
  std::atomic<bool> rows_scatter_{true};
};

inline std::shared_ptr<Backend> make_tensor_backend(std::shared_ptr<Session> session,
                                                    std::shared_ptr<Padding> padding) {
  return std::make_shared<TensorBackend>(std::move(session), std::move(padding));
}

}  // namespace infersdk
