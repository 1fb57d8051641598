#include "infersdk/coalescer.hpp"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <thread>
#include <unordered_map>

#include "infersdk/clock.hpp"
#include "infersdk/library.hpp"
#include "infersdk/notifier.hpp"

namespace infersdk {
namespace {

constexpr int64_t kCheckSliceNs = 50'000'000;

// With more requests in the usual batch than this, a caller that finds one of several replicas idle
// queues all the same: its run of one row would take the replica from a batch. Measured on a large
// MLP and two replicas: 1.1 to 1.7 times the throughput at 4 to 32 threads, and a third of the p99.
constexpr double kCompany = 1.5;

// Keeps signals from threads that are started in its scope.
class BlockSignals {
 public:
  BlockSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~BlockSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  BlockSignals(const BlockSignals&) = delete;
  BlockSignals& operator=(const BlockSignals&) = delete;

 private:
  sigset_t before_;
};

void forget(std::atomic<int64_t>* average) {
  const int64_t value = average->load(std::memory_order_relaxed);
  average->store(value - value / 128, std::memory_order_relaxed);
}

struct HashLane {
  size_t operator()(const std::vector<int64_t>& lane) const noexcept {
    size_t hash = lane.size();
    for (int64_t part : lane) {
      hash ^= std::hash<int64_t>()(part) + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
    }
    return hash;
  }
};

// What waits: rows count for batches, units for the cost model.
struct Load {
  size_t requests = 0;
  size_t rows = 0;
  size_t units = 0;
};

size_t units_of(const Request& request, size_t n_rows) {
  if (n_rows == request.n_rows || request.n_rows == 0) return request.units;
  return request.units * n_rows / request.n_rows;
}

}  // namespace

struct Coalescer::State {
  using Queue = std::list<RequestPtr>;
  using Lane = std::map<int, Queue, std::greater<int>>;  // by priority; no queue is empty

  struct ReplicaState {
    std::shared_ptr<Backend> backend;
    size_t concurrency = 1;
    size_t running = 0;
    int failures = 0;          // in a row, not shared by another replica
    int64_t out_until_ns = 0;  // 0: takes work; later: to be probed from then on
    int64_t backoff_ns = 0;
  };

  CoalescerConfig config;
  std::shared_ptr<CostModel> cost;
  uint64_t generation = 0;

  std::mutex mutex;
  std::condition_variable work;   // something may be taken, or the end
  std::condition_variable quiet;  // nothing is queued or running
  std::unordered_map<std::vector<int64_t>, Lane, HashLane> lanes;  // none is empty
  std::map<int, Load, std::greater<int>> waiting;                  // by priority
  Load total;
  size_t queued_bytes = 0;
  uint64_t sequence = 0;
  std::vector<ReplicaState> replicas;
  size_t concurrency = 0;
  size_t running = 0;
  size_t finishing = 0;  // requests taken out unrun, whose callers are being told
  size_t idle_batchers = 0;
  std::vector<std::thread> threads;
  bool stopping = false;
  double company = 1;  // moving average of requests in a batch
  CoalescerStats stats;

  // Everything below expects the mutex to be held.

  // The least loaded replica with room, or -1. A replica that was taken out is offered again, to
  // one batch at a time, once its time has come; with nothing else left it is offered at any time.
  int choose(bool probing) {
    int best = -1;
    bool any_in = false;
    for (const ReplicaState& replica : replicas) any_in = any_in || replica.out_until_ns == 0;
    int64_t now = 0;
    for (size_t i = 0; i < replicas.size(); ++i) {
      ReplicaState& replica = replicas[i];
      if (replica.running >= replica.concurrency) continue;
      if (replica.out_until_ns != 0 && any_in) {
        if (!probing || replica.running > 0) continue;
        if (now == 0) now = now_ns();
        if (now < replica.out_until_ns) continue;
        return static_cast<int>(i);
      }
      if (best < 0 || replica.running * replicas[static_cast<size_t>(best)].concurrency <
                          replicas[static_cast<size_t>(best)].running * replica.concurrency) {
        best = static_cast<int>(i);
      }
    }
    return best;
  }

  // The least loaded other replica, full or not: for a second opinion; -1 if there is none. One
  // that was taken out is asked where no other is left: it may have recovered.
  int another(size_t than) const {
    int best = -1;
    for (size_t i = 0; i < replicas.size(); ++i) {
      if (i == than) continue;
      const ReplicaState* seen = best < 0 ? nullptr : &replicas[static_cast<size_t>(best)];
      const bool out = replicas[i].out_until_ns != 0;
      if (seen == nullptr || out < (seen->out_until_ns != 0) ||
          (out == (seen->out_until_ns != 0) && replicas[i].running < seen->running)) {
        best = static_cast<int>(i);
      }
    }
    return best;
  }

  bool probe_due() {
    if (replicas.size() < 2) return false;
    for (const ReplicaState& replica : replicas) {
      if (replica.out_until_ns != 0 && replica.running == 0 && now_ns() >= replica.out_until_ns) {
        return true;
      }
    }
    return false;
  }

  void started(size_t replica) {
    ++replicas[replica].running;
    ++running;
  }

  // `wake`: somebody else has to take what waits.
  void ended(size_t replica, bool wake) {
    --replicas[replica].running;
    --running;
    if (total.requests > 0) {
      if (wake && idle_batchers > 0) work.notify_one();
    } else {
      tell_if_quiet();
    }
  }

  bool is_quiet() const { return total.requests == 0 && running == 0 && finishing == 0; }

  void tell_if_quiet() {
    if (is_quiet()) quiet.notify_all();
  }

  void count(int priority, size_t requests, size_t rows, size_t units, bool add) {
    Load& load = waiting[priority];
    auto change = [&](Load* which) {
      which->requests = add ? which->requests + requests : which->requests - requests;
      which->rows = add ? which->rows + rows : which->rows - rows;
      which->units = add ? which->units + units : which->units - units;
    };
    change(&load);
    change(&total);
    if (load.requests == 0) waiting.erase(priority);
  }

  void push(const RequestPtr& request) {
    Queue& queue = lanes[request->lane][request->priority];
    queue.push_back(request);
    request->position_ = std::prev(queue.end());
    request->sequence_ = ++sequence;
    request->queued_ = true;
    queued_bytes += request->size_bytes;
    count(request->priority, 1, request->n_rows, request->units, true);
  }

  void remove(Request* request) {
    const auto lane = lanes.find(request->lane);
    const auto queue = lane->second.find(request->priority);
    const size_t rows = request->n_rows - request->rows_taken_;
    const size_t units =
        request->units - (request->rows_taken_ == 0 ? 0 : units_of(*request, request->rows_taken_));
    request->queued_ = false;
    queued_bytes -= request->size_bytes;
    count(request->priority, 1, rows, units, false);
    queue->second.erase(request->position_);  // may end the request, unless the caller holds it
    if (queue->second.empty()) lane->second.erase(queue);
    if (lane->second.empty()) lanes.erase(lane);
  }

  // Takes up to `n_rows` more rows of the front of its queue.
  void take_rows(const RequestPtr& request, size_t n_rows, int64_t now,
                 std::vector<Piece>* pieces) {
    if (request->rows_taken_ == 0 && request->taken_ns == 0) {
      request->taken_ns = now;
      if (config.meter != nullptr) config.meter->waited(now - request->submitted_ns);
    }
    pieces->push_back({request, request->rows_taken_, n_rows});
    ++request->pieces_in_flight_;
    if (request->rows_taken_ + n_rows == request->n_rows) {
      remove(request.get());
      request->rows_taken_ = request->n_rows;
      return;
    }
    const size_t before = request->rows_taken_ == 0 ? 0 : units_of(*request, request->rows_taken_);
    request->rows_taken_ += n_rows;
    count(request->priority, 0, n_rows, units_of(*request, request->rows_taken_) - before, false);
  }

  bool too_late(const Request& request, int64_t now) const {
    if (request.deadline_ns == 0) return false;
    // What could only be answered after its deadline would take the place of one that can be. The
    // last one takes nobody's: it is tried, or an estimate that has become too high would drop
    // every call and never be corrected.
    const int64_t run_ns = request.rows_taken_ > 0 || total.requests == 1
                               ? 0
                               : cost->expected_ns(std::min(request.units, split_units(request)));
    return now + run_ns > request.deadline_ns;
  }

  size_t split_units(const Request& request) const {
    if (config.split_size == 0 || request.n_rows <= config.split_size) return request.units;
    return units_of(request, config.split_size);
  }

  // The next batch: of the highest priority, then of the lane whose head has waited longest.
  void take(std::vector<Piece>* pieces, std::vector<RequestPtr>* expired) {
    const int64_t now = now_ns();
    while (pieces->empty() && !lanes.empty()) {
      auto best = lanes.begin();
      const Request* head = nullptr;
      for (auto lane = lanes.begin(); lane != lanes.end(); ++lane) {
        const Request* front = lane->second.begin()->second.front().get();
        if (head == nullptr || front->priority > head->priority ||
            (front->priority == head->priority && front->sequence_ < head->sequence_)) {
          best = lane;
          head = front;
        }
      }
      // remove() erases a lane with its last request, and this must not look at it then.
      size_t left = 0;
      for (const auto& queue : best->second) left += queue.second.size();
      Lane& lane = best->second;
      size_t rows = 0;
      while (left > 0) {
        RequestPtr request = lane.begin()->second.front();
        if (too_late(*request, now) && request->pieces_in_flight_ == 0) {
          --left;
          remove(request.get());
          request->status = Status(StatusCode::kDeadline, "dropped from the queue");
          expired->push_back(std::move(request));
          ++stats.expired;
          continue;
        }
        if (!pieces->empty() && !config.merge) break;
        size_t n_rows = request->n_rows - request->rows_taken_;
        const bool splits = config.split_size > 0 && request->n_rows > config.split_size;
        if (splits) n_rows = std::min(n_rows, config.split_size);
        if (!pieces->empty() && rows + n_rows > config.max_batch_size) break;
        const bool last = request->rows_taken_ + n_rows == request->n_rows;
        if (last) --left;
        take_rows(request, n_rows, now, pieces);
        rows += n_rows;
        if (!last) break;
      }
      if (rows > 0) {
        company += (static_cast<double>(pieces->size()) - company) / 8;
        ++stats.batches;
        stats.batched_rows += rows;
        stats.largest_batch = std::max<uint64_t>(stats.largest_batch, rows);
      }
    }
  }

  // Nanoseconds until a request put in now would be answered, by the cost model; 0: unknown.
  int64_t expected_ns(const Request& request) const {
    Load ahead;
    for (const auto& [priority, load] : waiting) {
      if (priority < request.priority) break;
      ahead.requests += load.requests;
      ahead.rows += load.rows;
      ahead.units += load.units;
    }
    const int64_t own = cost->expected_ns(split_units(request));
    if (own == 0) return 0;
    const auto slots = static_cast<int64_t>(std::max<size_t>(concurrency, 1));
    int64_t result = 0;
    if (config.merge && request.n_rows > 0) {
      const size_t row_units = std::max<size_t>(request.units / request.n_rows, 1);
      const size_t limit = std::max<size_t>(config.max_batch_size, 1);
      const int64_t full = cost->expected_ns(row_units * limit);
      const size_t rows = ahead.rows + request.n_rows;
      const auto batches = static_cast<int64_t>((rows - 1) / limit);
      result = batches * full / slots +
               cost->expected_ns(row_units * (rows - static_cast<size_t>(batches) * limit));
    } else {
      const int64_t each =
          ahead.requests == 0
              ? 0
              : cost->expected_ns(std::max<size_t>(ahead.units / ahead.requests, 1));
      result = static_cast<int64_t>(ahead.requests) * each / slots + own;
    }
    if (running >= concurrency) {
      // The runs under way end one after the other; half of one is what is left on the average.
      const int64_t full = config.merge && request.n_rows > 0
                               ? cost->expected_ns(request.units / request.n_rows *
                                                   std::max<size_t>(config.max_batch_size, 1))
                               : own;
      result += std::max<int64_t>(full / (2 * slots), 0);
    }
    return result;
  }

  void blame(size_t index) {
    ReplicaState& replica = replicas[index];
    ++replica.failures;
    if (replica.out_until_ns == 0 && replica.failures < kMaxFailures) return;
    if (replica.out_until_ns == 0) {
      ++stats.replicas_out;
      replica.backoff_ns = config.first_probe_ns;
    } else {
      replica.backoff_ns = std::min(2 * replica.backoff_ns, kLastProbeNs);
    }
    replica.out_until_ns = now_ns() + replica.backoff_ns;
  }

  void praise(size_t index) {
    ReplicaState& replica = replicas[index];
    replica.failures = 0;
    replica.out_until_ns = 0;
  }
};

Status Coalescer::create(CoalescerConfig config, std::vector<Replica> replicas,
                         std::shared_ptr<CostModel> cost,
                         std::shared_ptr<Coalescer>* out) noexcept {
  return guarded([&]() -> Status {
    Library::watch_forks();
    if (config.max_batch_size == 0) config.max_batch_size = 1;
    std::shared_ptr<Coalescer> coalescer(
        new Coalescer(config, std::move(replicas), std::move(cost)));
    coalescer->state_.store(new StatePtr(coalescer->make_state()), std::memory_order_release);
    *out = std::move(coalescer);
    return Status();
  });
}

Coalescer::StatePtr Coalescer::make_state() const {
  auto state = std::make_shared<State>();
  state->config = config_;
  state->cost = cost_;
  state->generation = Library::process_generation();
  state->stopping = stopped_.load();
  for (const Replica& replica : replicas_) {
    State::ReplicaState own;
    own.backend = replica.backend;
    own.concurrency = std::max<size_t>(replica.concurrency, 1);
    state->concurrency += own.concurrency;
    state->replicas.push_back(std::move(own));
  }
  return state;
}

Coalescer::~Coalescer() {
  StatePtr* state = state_.load(std::memory_order_acquire);
  if (state == nullptr) return;
  if ((*state)->generation != Library::process_generation()) return;  // a parent's: left alone
  stop();
  delete state;
}

const Coalescer::StatePtr& Coalescer::current() {
  StatePtr* state = state_.load(std::memory_order_acquire);
  if ((*state)->generation == Library::process_generation()) return *state;
  std::lock_guard<std::mutex> lock(Library::creation_mutex());
  state = state_.load(std::memory_order_acquire);
  if ((*state)->generation != Library::process_generation()) {
    state = new StatePtr(make_state());
    state_.store(state, std::memory_order_release);
  }
  return *state;
}

Coalescer::Slot Coalescer::begin() noexcept {
  Slot slot;
  Status status = guarded([&]() -> Status {
    const StatePtr& state = current();
    std::lock_guard<std::mutex> lock(state->mutex);
    if (state->running > 0 && state->company > kCompany) return Status();
    if (state->stopping || state->total.requests > 0 || state->running >= state->concurrency) {
      return Status();
    }
    if (state->probe_due()) return Status();  // a batcher tries it, and can turn to another
    const int replica = state->choose(false);
    if (replica < 0) return Status();
    state->started(static_cast<size_t>(replica));
    ++state->stats.inline_runs;
    slot.replica = replica;
    slot.generation = state->generation;
    return Status();
  });
  (void)status;  // without a slot the call is queued, where the error shows
  return slot;
}

void Coalescer::end(Slot slot) noexcept {
  StatePtr* latest = state_.load(std::memory_order_acquire);
  State* state = latest->get();
  // A signal handler may have forked during the run: the parent's slot is none of the child's.
  if (slot.replica < 0 || slot.generation != Library::process_generation() ||
      state->generation != slot.generation) {
    return;
  }
  std::lock_guard<std::mutex> lock(state->mutex);
  state->ended(static_cast<size_t>(slot.replica), true);
}

Status Coalescer::submit(const RequestPtr& request) noexcept {
  return guarded([&]() -> Status {
    const StatePtr& shared = current();
    State* state = shared.get();
    std::unique_lock<std::mutex> lock(state->mutex);
    if (state->stopping) return Status(StatusCode::kClosed, "closed");
    const int64_t now = now_ns();
    if (request->deadline_ns != 0 && now >= request->deadline_ns) {
      ++state->stats.expired;
      return Status(StatusCode::kDeadline, "expired before it was queued");
    }
    const bool over_rows = state->total.rows + request->n_rows > config_.max_queue_size;
    const bool over_bytes = state->queued_bytes + request->size_bytes > config_.max_queue_bytes;
    if ((over_rows || over_bytes) && state->total.requests > 0) {
      ++state->stats.refused;
      request->retry_after_ns = std::max<int64_t>(state->expected_ns(*request), 1'000'000);
      return Status(
          StatusCode::kOverloaded,
          over_rows
              ? "the queue is full: " + std::to_string(state->total.rows) +
                    " rows wait, max_queue_size is " + std::to_string(config_.max_queue_size)
              : "the queue is full: " + std::to_string(state->queued_bytes) +
                    " bytes wait, max_queue_bytes is " + std::to_string(config_.max_queue_bytes));
    }
    request->submitted_ns = now;
    request->expected_ns = state->expected_ns(*request);
    if (request->deadline_ns != 0 && request->expected_ns > 0 &&
        (state->running >= state->concurrency || state->total.requests > 0)) {
      // A call that finds a replica idle is always taken: otherwise an estimate that has become too
      // high would refuse every call and never be corrected.
      const int64_t expected = request->expected_ns + margin_ns();
      const int64_t late = now + expected - request->deadline_ns;
      if (late > 0) {
        ++state->stats.refused;
        request->retry_after_ns = late;
        // What is refused teaches nothing: were the margin not forgotten, it would stay for ever.
        forget(&lateness_ns_);
        forget(&lateness_spread_ns_);
        return Status(StatusCode::kOverloaded,
                      "its answer would take about " +
                          std::to_string((expected + 500'000) / 1'000'000) + " ms");
      }
    }
    Status hired = hire(shared);
    if (!hired.ok() && state->threads.empty()) return hired;
    request->generation_ = state->generation;
    state->push(request);
    const bool wake = state->idle_batchers > 0 && state->running < state->concurrency;
    lock.unlock();
    if (wake) state->work.notify_one();
    return Status();
  });
}

Status Coalescer::wait(const RequestPtr& request, int (*check)(void*), void* context) noexcept {
  const uint64_t generation = Library::process_generation();
  auto forked = [] {
    return Status(StatusCode::kInternal, "the process was forked while the call waited");
  };
  // The threads that would answer are the parent's, and one of them may have held the mutex.
  if (request->generation_ != generation) return forked();
  std::unique_lock<std::mutex> lock(request->mutex_);
  while (!request->finished_) {
    const int64_t deadline = request->deadline_ns;
    if (deadline == 0 && check == nullptr) {
      request->done_.wait(lock);
      continue;
    }
    int64_t until = check == nullptr ? deadline : now_ns() + kCheckSliceNs;
    if (deadline != 0) until = std::min(until, deadline);
    request->done_.wait_until(lock, time_at(until));
    if (request->finished_) break;
    if (deadline != 0 && now_ns() >= deadline) {
      lock.unlock();
      if (cancel(request, StatusCode::kDeadline)) {
        return Status(StatusCode::kDeadline, "dropped from the queue");
      }
      lock.lock();
      if (request->finished_) break;
      return Status(StatusCode::kDeadline, "still running");
    }
    if (check != nullptr) {
      lock.unlock();
      const bool stop = check(context) != 0;
      if (Library::process_generation() != generation) return forked();
      if (stop) {
        cancel(request, StatusCode::kInterrupted);
        return Status(StatusCode::kInterrupted, "interrupted");
      }
      lock.lock();
    }
  }
  return request->status;
}

bool Coalescer::cancel(const RequestPtr& request, StatusCode code) noexcept {
  bool last = false;
  Status ignored = guarded([&]() -> Status {
    const StatePtr& state = current();
    if (request->generation_ != state->generation) return Status();  // in the parent's queue
    std::lock_guard<std::mutex> lock(state->mutex);
    if (!request->queued_) return Status();
    const RequestPtr keep = request;
    state->remove(keep.get());
    ++(code == StatusCode::kDeadline ? state->stats.expired : state->stats.cancelled);
    request->failed_ = true;
    request->status = Status(code, "taken out of the queue");
    last = request->pieces_in_flight_ == 0;  // otherwise its last piece finishes it
    if (last) ++state->finishing;
    return Status();
  });
  (void)ignored;
  if (last) {
    finish({request});
    told(current().get(), 1);
  }
  return last;
}

void Coalescer::finish(const std::vector<RequestPtr>& finished) noexcept {
  const int64_t now = now_ns();
  // All of them before the first is told: one write to a loop stands for all of its requests here.
  for (const RequestPtr& request : finished) {
    std::lock_guard<std::mutex> lock(request->mutex_);
    request->finished_ns = now;
    request->finished_ = true;
  }
  std::vector<RequestPtr> of_loop;
  for (size_t i = 0; i < finished.size(); ++i) {
    Request& request = *finished[i];
    if (request.notifier == nullptr) {
      request.done_.notify_one();
      continue;
    }
    bool seen = false;
    for (size_t j = 0; j < i && !seen; ++j) seen = finished[j]->notifier == request.notifier;
    if (seen) continue;
    of_loop.clear();
    for (size_t j = i; j < finished.size(); ++j) {
      if (finished[j]->notifier == request.notifier) of_loop.push_back(finished[j]);
    }
    request.notifier->push(of_loop.data(), of_loop.size());
  }
}

void Coalescer::told(State* state, size_t n) noexcept {
  if (n == 0) return;
  std::lock_guard<std::mutex> lock(state->mutex);
  state->finishing -= n;
  state->tell_if_quiet();
}

void Coalescer::conclude(State* state, const Piece* pieces, size_t n, const Status& status,
                         int64_t ended_ns) noexcept {
  std::vector<RequestPtr> finished;
  finished.reserve(n);
  {
    std::lock_guard<std::mutex> lock(state->mutex);
    for (size_t i = 0; i < n; ++i) {
      const RequestPtr& request = pieces[i].request;
      --request->pieces_in_flight_;
      request->batch_ended_ns = std::max(request->batch_ended_ns, ended_ns);
      if (!status.ok() && !request->failed_) {
        request->failed_ = true;
        request->status = status;
        ++state->stats.failed;
        if (request->queued_) state->remove(request.get());
      }
      const bool all = request->failed_ || request->rows_taken_ == request->n_rows;
      if (all && request->pieces_in_flight_ == 0) finished.push_back(request);
    }
  }
  finish(finished);
}

void Coalescer::run_pieces(State* state, size_t replica, const Piece* pieces, size_t n,
                           bool second_opinion) noexcept {
  int64_t ended = 0;
  auto run_on = [&](size_t index) {
    size_t units = 0;
    for (size_t i = 0; i < n; ++i) units += units_of(*pieces[i].request, pieces[i].n_rows);
    const int64_t started = now_ns();
    Status status = state->replicas[index].backend->run(pieces, n);
    ended = now_ns();
    if (status.ok()) {
      state->cost->record(CostModel::bucket(units), ended - started);
      if (state->config.meter != nullptr) state->config.meter->batched(ended - started);
    }
    return status;
  };
  Status status = run_on(replica);
  if (status.ok()) {
    if (state->replicas.size() > 1) {
      std::lock_guard<std::mutex> lock(state->mutex);
      state->praise(replica);
    }
    conclude(state, pieces, n, status, ended);
    return;
  }
  if (second_opinion && status.code() != StatusCode::kInvalidArgument) {
    int other;
    {
      std::lock_guard<std::mutex> lock(state->mutex);
      other = state->another(replica);
      if (other >= 0) state->started(static_cast<size_t>(other));
    }
    if (other >= 0) {
      Status second = run_on(static_cast<size_t>(other));
      {
        std::lock_guard<std::mutex> lock(state->mutex);
        state->ended(static_cast<size_t>(other), true);
        if (second.ok()) {
          state->praise(static_cast<size_t>(other));
          state->blame(replica);
        }
      }
      if (second.ok()) {
        conclude(state, pieces, n, second, ended);
        return;
      }
    }
  }
  if (n == 1) {
    conclude(state, pieces, n, status, ended);
    return;
  }
  // Both halves, each of which may be halved again: one bad request of 32 takes eleven runs. With a
  // second opinion on each that fails: a bad request says nothing about the replica it was run on.
  run_pieces(state, replica, pieces, n / 2, second_opinion);
  run_pieces(state, replica, pieces + n / 2, n - n / 2, second_opinion);
}

Status Coalescer::hire(const StatePtr& state) noexcept {
  if (state->idle_batchers > 0 || state->threads.size() >= state->concurrency) return Status();
  return guarded([&]() -> Status {
    try {
      // The host's signals are for its own threads: a new thread inherits the mask it is started
      // with.
      const BlockSignals blocked;
      state->threads.emplace_back(work, state);
    } catch (const std::system_error& error) {
      return Status(StatusCode::kInternal,
                    std::string("no thread could be started: ") + error.what());
    }
    return Status();
  });
}

void Coalescer::work(StatePtr shared) noexcept {
  State* state = shared.get();
  std::vector<Piece> pieces;
  std::vector<RequestPtr> expired;
  std::unique_lock<std::mutex> lock(state->mutex);
  while (true) {
    int replica = -1;
    ++state->idle_batchers;
    state->work.wait(lock, [&] {
      if (state->stopping) return true;
      if (state->total.requests == 0) return false;
      replica = state->choose(true);
      return replica >= 0;
    });
    --state->idle_batchers;
    if (state->total.requests == 0 || replica < 0) return;  // stopping
    state->take(&pieces, &expired);
    if (!pieces.empty()) state->started(static_cast<size_t>(replica));
    // What one notification was for may be more than this batch: other lanes, further pieces.
    if (state->total.requests > 0) {
      if (state->idle_batchers > 0 && state->running < state->concurrency) {
        state->work.notify_one();
      } else {
        Status ignored = hire(shared);
        (void)ignored;  // this thread comes back for what is left
      }
    }
    state->finishing += expired.size();
    lock.unlock();
    if (!expired.empty()) finish(expired);
    told(state, expired.size());
    if (!pieces.empty()) {
      run_pieces(state, static_cast<size_t>(replica), pieces.data(), pieces.size(),
                 state->replicas.size() > 1);
    }
    // Requests end here, unless their callers hold them: not under the mutex.
    const bool ran = !pieces.empty();
    pieces.clear();
    expired.clear();
    lock.lock();
    if (ran) state->ended(static_cast<size_t>(replica), false);  // the loop goes on
  }
}

void Coalescer::record_answer(const Request& request, int64_t now_ns) noexcept {
  if (request.expected_ns == 0) return;
  const int64_t late = now_ns - request.submitted_ns - request.expected_ns;
  const int64_t mean = lateness_ns_.load(std::memory_order_relaxed);
  const int64_t spread = lateness_spread_ns_.load(std::memory_order_relaxed);
  const int64_t error = late - mean;
  lateness_ns_.store(mean + error / 16, std::memory_order_relaxed);
  lateness_spread_ns_.store(spread + ((error < 0 ? -error : error) - spread) / 16,
                            std::memory_order_relaxed);
}

int64_t Coalescer::margin_ns() const noexcept {
  // Three mean absolute deviations: about one answer in a hundred is later than that.
  const int64_t margin = lateness_ns_.load(std::memory_order_relaxed) +
                         3 * lateness_spread_ns_.load(std::memory_order_relaxed);
  return std::max<int64_t>(margin, 0);
}

void Coalescer::reconfigure(bool merge, size_t max_batch_size, size_t split_size) noexcept {
  Status ignored = guarded([&]() -> Status {
    const StatePtr& state = current();
    std::lock_guard<std::mutex> lock(state->mutex);
    for (CoalescerConfig* config : {&config_, &state->config}) {
      config->merge = merge;
      config->max_batch_size = std::max<size_t>(max_batch_size, 1);
      config->split_size = split_size;
    }
    return Status();
  });
  (void)ignored;
}

void Coalescer::drain() noexcept {
  Status ignored = guarded([&]() -> Status {
    const StatePtr state = current();
    std::unique_lock<std::mutex> lock(state->mutex);
    state->quiet.wait(lock, [&] { return state->is_quiet(); });
    return Status();
  });
  (void)ignored;
}

void Coalescer::stop() noexcept {
  stopped_.store(true);  // in children too
  Status ignored = guarded([&]() -> Status {
    const StatePtr state = current();
    std::vector<RequestPtr> left;
    std::vector<std::thread> threads;
    {
      std::lock_guard<std::mutex> lock(state->mutex);
      state->stopping = true;
      while (!state->lanes.empty()) {
        RequestPtr request = state->lanes.begin()->second.begin()->second.front();
        state->remove(request.get());
        request->failed_ = true;
        request->status = Status(StatusCode::kClosed, "closed");
        if (request->pieces_in_flight_ == 0) left.push_back(std::move(request));
      }
      threads.swap(state->threads);
      state->work.notify_all();
      state->finishing += left.size();
      state->tell_if_quiet();
    }
    finish(left);
    told(state.get(), left.size());
    for (std::thread& thread : threads) {
      // A function that a batcher runs may be what ends the last use of this coalescer.
      if (thread.get_id() == std::this_thread::get_id()) {
        thread.detach();
      } else {
        thread.join();
      }
    }
    return Status();
  });
  (void)ignored;
}

CoalescerStats Coalescer::stats() noexcept {
  CoalescerStats result;
  Status ignored = guarded([&]() -> Status {
    const StatePtr& state = current();
    std::lock_guard<std::mutex> lock(state->mutex);
    result = state->stats;
    result.queued_rows = state->total.rows;
    result.running = state->running;
    return Status();
  });
  (void)ignored;
  return result;
}

size_t Coalescer::healthy() noexcept {
  size_t n = 0;
  Status ignored = guarded([&]() -> Status {
    const StatePtr& state = current();
    std::lock_guard<std::mutex> lock(state->mutex);
    for (const auto& replica : state->replicas) n += replica.out_until_ns == 0;
    return Status();
  });
  (void)ignored;
  return n;
}

}  // namespace infersdk
