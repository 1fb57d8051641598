// One call on its way through a Coalescer.
//
// Who may touch what: the caller fills a Request before submit(); from then on its inputs are
// constant and everything under "progress" is guarded by the Coalescer. Who runs it writes its
// outputs. After finished() the Request belongs to the caller again. It is shared: a caller may
// walk away (deadline, cancellation, Ctrl-C) while a run still reads its inputs,
// and then keeps what they borrow until it is finished.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <vector>

#include "infersdk/status.hpp"
#include "infersdk/tensor.hpp"

namespace infersdk {

class Notifier;
struct Request;
using RequestPtr = std::shared_ptr<Request>;

struct Request {
  // The call.
  std::vector<Tensor> inputs;
  std::vector<int64_t> lane;  // requests of one lane may share a run
  void* context = nullptr;    // what a function's backend needs
  size_t n_rows = 1;
  size_t units = 1;  // its size, in the cost model's unit
  size_t size_bytes = 0;
  int priority = 0;                    // higher goes first
  int64_t deadline_ns = 0;             // on now_ns()'s clock; 0: none
  std::shared_ptr<Notifier> notifier;  // null: a thread waits for it
  uint64_t ticket = 0;                 // the notifier's name for it

  // The answer.
  Status status;
  std::vector<Tensor> outputs;
  std::mutex outputs_mutex;  // pieces of a split request finish on several threads
  int64_t submitted_ns = 0;
  int64_t expected_ns = 0;     // from then to its answer, by the cost model; 0: unknown
  int64_t finished_ns = 0;     // when it was there
  int64_t retry_after_ns = 0;  // of one that was refused
  // How it was run, once it is finished; of several runs from the first one's start to the last
  // one's end. 0 where it was not.
  int64_t taken_ns = 0;  // from the queue, by the batch of its first row
  int64_t batch_ended_ns = 0;
  int64_t run_started_ns = 0;  // these three by its backend, under outputs_mutex
  int64_t run_ended_ns = 0;
  int64_t run_rows = 0;  // of the latest run, those of others with it

  // A backend has run rows of it.
  void ran(int64_t started_ns, int64_t ended_ns, int64_t n_rows) {
    std::lock_guard<std::mutex> lock(outputs_mutex);
    if (run_started_ns == 0 || started_ns < run_started_ns) run_started_ns = started_ns;
    if (ended_ns > run_ended_ns) run_ended_ns = ended_ns;
    run_rows = n_rows;
  }

  bool finished() {
    std::lock_guard<std::mutex> lock(mutex_);
    return finished_;
  }

 private:
  friend class Coalescer;
  std::mutex mutex_;
  std::condition_variable done_;
  bool finished_ = false;

  // Progress, guarded by the Coalescer's mutex.
  bool queued_ = false;
  size_t rows_taken_ = 0;
  size_t pieces_in_flight_ = 0;
  bool failed_ = false;
  std::list<RequestPtr>::iterator position_;
  uint64_t sequence_ = 0;
  uint64_t generation_ = 0;  // of the process whose queue it is in
};

// Some or all rows of a request, within one run.
struct Piece {
  RequestPtr request;
  size_t first_row = 0;
  size_t n_rows = 0;

  bool whole() const { return n_rows == request->n_rows; }
};

}  // namespace infersdk
