// A backend without a model, and what the tests of the Coalescer need around it.
//
// A request is a column of whole numbers, its answer is answer_of() each of them. Answers are added
// to zeroed memory: a row that was run twice is as wrong as one that was forgotten. The numbers
// also name the rows, so that a run is recorded as the list of the numbers in it.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "infersdk/clock.hpp"
#include "infersdk/coalescer.hpp"
#include "infersdk/library.hpp"
#include "infersdk/notifier.hpp"

namespace fake {

using namespace infersdk;

using Rows = std::vector<int64_t>;

constexpr int64_t kHour_ns = INT64_C(3'600'000'000'000);
constexpr int64_t kSecond_ns = 1'000'000'000;

inline int64_t answer_of(int64_t x) {
  return 3 * x + 1;
}
// Negative rows make every run fail that they are in.
inline int64_t bad(int64_t x) {
  return -1 - x;
}

class Fake : public Backend {
 public:
  // Without a record nothing here takes a lock, so that a fork may happen at any moment.
  explicit Fake(bool recording = true) : recording_(recording) {}

  Status run(const Piece* pieces, size_t n) noexcept override {
    const int active = active_.fetch_add(1) + 1;
    int most = most_active_.load();
    while (most < active && !most_active_.compare_exchange_weak(most, active)) {
    }
    n_runs_.fetch_add(1);
    bool fails = failing.load();
    Rows rows;
    for (size_t i = 0; i < n; ++i) {
      const int64_t* x = static_cast<const int64_t*>(pieces[i].request->inputs[0].data.get());
      for (size_t k = 0; k < pieces[i].n_rows; ++k) {
        rows.push_back(x[pieces[i].first_row + k]);
        fails = fails || rows.back() < 0;
      }
    }
    if (recording_) {
      std::unique_lock<std::mutex> lock(mutex_);
      runs_.push_back(rows);
      arrived_.notify_all();
      allowed_.wait(lock, [&] { return permits_ > 0; });
      --permits_;
    }
    if (during_run) during_run();
    if (!fails) {
      const int64_t* row = rows.data();
      for (size_t i = 0; i < n; ++i) {
        answer(pieces[i], row);
        row += pieces[i].n_rows;
      }
    }
    active_.fetch_sub(1);
    return fails ? Status(code, "bad row") : Status();
  }

  // From now on a run waits for a permit, after it has been recorded.
  void close() {
    std::lock_guard<std::mutex> lock(mutex_);
    permits_ = 0;
  }
  void permit(int64_t n_runs) {
    std::lock_guard<std::mutex> lock(mutex_);
    permits_ += n_runs;
    allowed_.notify_all();
  }
  void open() { permit(kForever); }

  void wait_for_runs(size_t n) {
    std::unique_lock<std::mutex> lock(mutex_);
    arrived_.wait(lock, [&] { return runs_.size() >= n; });
  }

  std::vector<Rows> runs() {
    std::lock_guard<std::mutex> lock(mutex_);
    return runs_;
  }
  int n_runs() const { return n_runs_.load(); }
  int most_active() const { return most_active_.load(); }

  std::atomic<bool> failing{false};        // every run
  StatusCode code = StatusCode::kRuntime;  // of a failure; set before the first run
  std::function<void()> during_run;        // set before the first run

 private:
  static constexpr int64_t kForever = INT64_C(1) << 40;

  static void answer(const Piece& piece, const int64_t* x) {
    Request& request = *piece.request;
    std::lock_guard<std::mutex> lock(request.outputs_mutex);
    if (request.outputs.empty()) {
      request.outputs.resize(1);
      request.outputs[0].reserve(ElementType::kInt64, {static_cast<int64_t>(request.n_rows)});
      std::memset(request.outputs[0].data.get(), 0, request.outputs[0].size_bytes);
    }
    int64_t* y = static_cast<int64_t*>(request.outputs[0].data.get()) + piece.first_row;
    for (size_t k = 0; k < piece.n_rows; ++k) y[k] += answer_of(x[k]);
  }

  const bool recording_;
  std::atomic<int> active_{0};
  std::atomic<int> most_active_{0};
  std::atomic<int> n_runs_{0};
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::condition_variable allowed_;
  int64_t permits_ = kForever;
  std::vector<Rows> runs_;
};

inline RequestPtr request(const Rows& rows, int64_t lane = 0, int priority = 0) {
  auto result = std::make_shared<Request>();
  result->inputs.resize(1);
  result->inputs[0].reserve(ElementType::kInt64, {static_cast<int64_t>(rows.size())});
  if (!rows.empty()) {
    std::memcpy(result->inputs[0].data.get(), rows.data(), rows.size() * sizeof(int64_t));
  }
  result->lane = {lane};
  result->n_rows = rows.size();
  result->units = std::max<size_t>(rows.size(), 1);
  result->size_bytes = result->inputs[0].size_bytes;
  result->priority = priority;
  return result;
}

// Numbers from `first` on.
inline Rows range(int64_t first, size_t n) {
  Rows rows(n);
  for (size_t i = 0; i < n; ++i) rows[i] = first + static_cast<int64_t>(i);
  return rows;
}

// Whether it is finished, and every row of it was run once.
inline bool right(const RequestPtr& request) {
  if (!request->finished() || !request->status.ok() || request->outputs.size() != 1) return false;
  const Tensor& x = request->inputs[0];
  const Tensor& y = request->outputs[0];
  if (y.size_bytes != x.size_bytes) return false;
  for (size_t i = 0; i < request->n_rows; ++i) {
    if (static_cast<const int64_t*>(y.data.get())[i] !=
        answer_of(static_cast<const int64_t*>(x.data.get())[i])) {
      return false;
    }
  }
  return true;
}

inline bool failed_with(const RequestPtr& request, StatusCode code) {
  return request->finished() && request->status.code() == code;
}

inline bool passed(const Status& status) {
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok();
}

// A Coalescer over fakes.
struct Rig {
  explicit Rig(CoalescerConfig config = {}, std::vector<size_t> concurrency = {1},
               bool recording = true) {
    std::vector<Replica> replicas;
    for (size_t n : concurrency) {
      fakes.push_back(std::make_shared<Fake>(recording));
      replicas.push_back({fakes.back(), n});
    }
    REQUIRE(passed(Coalescer::create(config, replicas, cost, &coalescer)));
  }

  Fake& fake() { return *fakes[0]; }
  Status submit(const RequestPtr& request) { return coalescer->submit(request); }
  Status wait(const RequestPtr& request) { return coalescer->wait(request, nullptr, nullptr); }
  // Queues it and waits.
  bool answers_right(const RequestPtr& request) {
    return passed(submit(request)) && passed(wait(request)) && right(request);
  }

  std::shared_ptr<CostModel> cost = std::make_shared<CostModel>();
  std::vector<std::shared_ptr<Fake>> fakes;
  std::shared_ptr<Coalescer> coalescer;
};

// Holds every replica, so that what is submitted waits, until release().
class Busy {
 public:
  explicit Busy(Rig& rig) : coalescer_(rig.coalescer) {
    coalescer_->drain();  // an answer is there a moment before its replica is free
    for (Coalescer::Slot slot = coalescer_->begin(); slot.replica >= 0;
         slot = coalescer_->begin()) {
      slots_.push_back(slot);
    }
    REQUIRE(!slots_.empty());
  }
  ~Busy() { release(); }
  void release() {
    for (const Coalescer::Slot& slot : slots_) coalescer_->end(slot);
    slots_.clear();
  }

 private:
  const std::shared_ptr<Coalescer> coalescer_;
  std::vector<Coalescer::Slot> slots_;
};

inline void in_threads(int n_threads, const std::function<void(int)>& body) {
  std::atomic<bool> go{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < n_threads; ++i) {
    threads.emplace_back([&, i] {
      while (!go.load()) std::this_thread::yield();
      body(i);
    });
  }
  go.store(true);
  for (std::thread& thread : threads) thread.join();
}

// Small, seeded, the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}
  // From 0 to below `n`.
  size_t below(size_t n) {
    state_ = state_ * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return static_cast<size_t>(state_ >> 33) % n;
  }
  bool one_in(size_t n) { return below(n) == 0; }

 private:
  uint64_t state_;
};

}  // namespace fake
