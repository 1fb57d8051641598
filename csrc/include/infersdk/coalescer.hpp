// Turns concurrent calls into the runs the hardware wants.
//
// A call that finds a replica idle runs at once in its caller's thread: begin() and end() count it.
// One that finds every replica busy is queued; batcher threads, one for each run that may be under
// way, take what waits in batches. Nobody waits for company: a batch closes when a replica is free,
// and the next one forms while it runs.
//
// Why batcher threads and not the callers: a caller needs the interpreter's lock to come back, and
// as a leader it would hold its followers up. In measurements leaders formed batches of one to
// three where a batcher formed batches of eleven to thirty-one. Waiting windows gained nothing.
//
// Requests of one lane (same row shapes) may share a run; rows are counted, not requests. A request
// of more rows than a batch holds is split, and its pieces may run side by side. A run that fails
// is repeated in halves, so that only the requests that fail by themselves fail.
//
// Thread safety: everything may be called from any thread. No thread exists before the first
// request is queued. Locks: one mutex per Coalescer, never held during a run; a Request's own mutex
// is taken under it by nobody. fork: a child starts with an empty queue and no threads on first
// use; requests of the parent's other threads are the parent's. Ownership: batcher threads share
// the State, so that a Coalescer may be destroyed from one of them.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "infersdk/cost_model.hpp"
#include "infersdk/meter.hpp"
#include "infersdk/request.hpp"
#include "infersdk/status.hpp"

namespace infersdk {

// Runs batches on one device.
class Backend {
 public:
  virtual ~Backend() = default;
  // Runs the pieces together. Success: each piece's outputs are in its request. Failure: no outputs
  // matter, and the coalescer tries again with fewer. Up to the replica's concurrency at once, and
  // beyond it where another replica has failed and this one is asked for a second opinion.
  virtual Status run(const Piece* pieces, size_t n) noexcept = 0;
};

struct Replica {
  std::shared_ptr<Backend> backend;
  size_t concurrency = 1;  // runs that may be under way at once
};

struct CoalescerConfig {
  bool merge = true;             // requests may share a run
  size_t max_batch_size = 32;    // rows of a shared run
  size_t split_size = 0;         // requests of more rows are cut into pieces of that many; 0: never
  size_t max_queue_size = 4096;  // rows that may wait
  size_t max_queue_bytes = size_t{256} << 20;
  int64_t first_probe_ns = 200'000'000;  // until a replica that was taken out is tried again
  std::shared_ptr<RunMeter> meter;       // of waits and batches; may be null
};

struct CoalescerStats {
  uint64_t inline_runs = 0;  // in a caller's thread
  uint64_t batches = 0;      // by batcher threads
  uint64_t batched_rows = 0;
  uint64_t largest_batch = 0;
  uint64_t refused = 0;
  uint64_t expired = 0;
  uint64_t cancelled = 0;
  uint64_t failed = 0;        // requests answered with an error of the run
  uint64_t replicas_out = 0;  // how often one was taken out
  uint64_t queued_rows = 0;   // now
  uint64_t running = 0;       // now
};

class Coalescer {
 public:
  // A replica is taken out after this many failures in a row that another replica did not share.
  static constexpr int kMaxFailures = 3;
  static constexpr int64_t kLastProbeNs = 30'000'000'000;

  // The right to run in the caller's thread.
  struct Slot {
    int replica = -1;  // -1: none is idle
    uint64_t generation = 0;
  };

  static Status create(CoalescerConfig config, std::vector<Replica> replicas,
                       std::shared_ptr<CostModel> cost, std::shared_ptr<Coalescer>* out) noexcept;
  ~Coalescer();
  Coalescer(const Coalescer&) = delete;
  Coalescer& operator=(const Coalescer&) = delete;

  Slot begin() noexcept;
  void end(Slot slot) noexcept;

  // Queues a request. kOverloaded: refused, with request->retry_after_ns; kClosed: after stop().
  Status submit(const RequestPtr& request) noexcept;
  // Blocks until it is finished or its deadline has come; gives its status. `check` is asked every
  // 50 ms; nonzero gives the request up and returns kInterrupted.
  Status wait(const RequestPtr& request, int (*check)(void*), void* context) noexcept;
  // Takes a request out of the queue, which finishes it with that code. False: it is running or
  // finished already.
  bool cancel(const RequestPtr& request, StatusCode code) noexcept;

  // The caller has its answer at that time: how wrong the estimate was corrects later ones.
  void record_answer(const Request& request, int64_t now_ns) noexcept;

  // Changes what a later measurement asks for; requests that wait already are taken by the new
  // rule.
  void reconfigure(bool merge, size_t max_batch_size, size_t split_size) noexcept;

  // Waits until nothing is queued or running.
  void drain() noexcept;
  // Answers what is queued with kClosed, lets runs finish, and joins the threads.
  void stop() noexcept;

  CoalescerStats stats() noexcept;
  // Replicas that take work.
  size_t healthy() noexcept;
  size_t n_replicas() const { return replicas_.size(); }

 private:
  struct State;
  using StatePtr = std::shared_ptr<State>;

  Coalescer(CoalescerConfig config, std::vector<Replica> replicas, std::shared_ptr<CostModel> cost)
      : config_(config), replicas_(std::move(replicas)), cost_(std::move(cost)) {}

  StatePtr make_state() const;
  const StatePtr& current();
  // One more batcher thread, if all are busy and there may be more; the caller holds the mutex.
  static Status hire(const StatePtr& state) noexcept;
  static void work(StatePtr state) noexcept;
  static void finish(const std::vector<RequestPtr>& finished) noexcept;
  // That many that were taken out unrun are finished.
  static void told(State* state, size_t n) noexcept;
  static void run_pieces(State* state, size_t replica, const Piece* pieces, size_t n,
                         bool second_opinion) noexcept;
  static void conclude(State* state, const Piece* pieces, size_t n, const Status& status,
                       int64_t ended_ns) noexcept;

  CoalescerConfig config_;
  const std::vector<Replica> replicas_;
  const std::shared_ptr<CostModel> cost_;
  int64_t margin_ns() const noexcept;

  // How much later than estimated answers are with their callers: moving averages of that and of
  // its absolute deviation.
  std::atomic<int64_t> lateness_ns_{0};
  std::atomic<int64_t> lateness_spread_ns_{0};
  std::atomic<bool> stopped_{false};
  // Points to a StatePtr of this process; a fork's child makes a new one and leaves its parent's
  // be.
  std::atomic<StatePtr*> state_{nullptr};
};

}  // namespace infersdk
