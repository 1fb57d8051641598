// What a model did in service: counts, sums and histograms, and nothing else.
//
// A block is plain data: a fixed size, no pointer, a version at its head, and atomics without a
// lock; zeros are an empty block. So the same block can lie in a segment of shared memory, one for
// each worker of a host, and whoever reads adds them up. Today it lies in the process's own memory:
// Meter::current() is the one place that knows where, and the one that has to change.
//
// Histograms are log-linear, four buckets to an octave: a bucket is a quarter as wide as its lower
// bound at most, whatever the value, and recording is a few shifts and two additions. No percentile
// is computed here; whoever reads has the buckets.
//
// Thread safety: everything from any thread, exact under any number of them. Additions are relaxed:
// a reader sees each number as it was at some moment, not all of them as of one. An atomic addition
// costs 8 ns and a call makes seven, so those that happen under the interpreter's lock are a load
// and a store (Writers::kOne) in numbers that nobody else writes. Blocking: never, and recording
// allocates nothing, but for the first time in the child of a fork. fork: a child begins at zero;
// its parent's block is left as it is. Ownership: Meter owns the blocks, of every process it was
// carried through.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string>
#include <type_traits>
#include <vector>

#include "infersdk/library.hpp"

namespace infersdk {

using Count = std::atomic<uint64_t>;
static_assert(Count::is_always_lock_free, "blocks must be free of locks");

// Who else may write the same number meanwhile.
enum class Writers : int {
  kOne = 0,   // nobody: the caller holds the lock that all of its writers hold
  kMany = 1,  // any thread
};

inline void add(Count& count, uint64_t value, Writers writers) noexcept {
  if (writers == Writers::kOne) {
    count.store(count.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
  } else {
    count.fetch_add(value, std::memory_order_relaxed);
  }
}

// Whole numbers by size. Bounds are inclusive and multiples of 2^kShift: four buckets of that
// width, then four to each of `kOctaves` octaves, then one of all that is larger.
template <int kShift, int kOctaves>
class Histogram {
 public:
  static constexpr size_t kBounds = 4 * (kOctaves + 1);
  static constexpr size_t kBuckets = kBounds + 1;

  // The largest value of a bucket but the last.
  static constexpr int64_t bound(size_t bucket) noexcept {
    const size_t next = bucket + 1;
    if (next < 4) return static_cast<int64_t>(next) << kShift;
    return static_cast<int64_t>(4 + next % 4) << (next / 4 - 1 + kShift);
  }

  static size_t bucket(int64_t value) noexcept {
    if (value < 1) return 0;
    // Upper bounds are inclusive: one less has the bucket's lower bound as its first.
    const uint64_t units = static_cast<uint64_t>(value - 1) >> kShift;
    if (units < 4) return static_cast<size_t>(units);
    const int octave = 63 - __builtin_clzll(units);  // 2 or more
    const size_t found =
        static_cast<size_t>(octave - 1) * 4 + static_cast<size_t>((units >> (octave - 2)) & 3);
    return found < kBounds ? found : kBounds;
  }

  void record(int64_t value, Writers writers) noexcept {
    add(counts_[bucket(value)], 1, writers);
    add(sum_, value < 0 ? 0 : static_cast<uint64_t>(value), writers);
  }

  // Adds to `counts[kBuckets]` and gives the sum of all values.
  uint64_t read(int64_t* counts) const noexcept {
    for (size_t i = 0; i < kBuckets; ++i) {
      counts[i] += static_cast<int64_t>(counts_[i].load(std::memory_order_relaxed));
    }
    return sum_.load(std::memory_order_relaxed);
  }

 private:
  Count counts_[kBuckets] = {};
  Count sum_{0};
};

using TimeHistogram = Histogram<8, 27>;  // nanoseconds: 256 ns to 137 s
using RowHistogram = Histogram<0, 18>;   // 1, 2, ... 8, 10, ... 1,048,576

struct BlockHead {
  static constexpr uint32_t kVersion = 1;

  uint32_t version = kVersion;
  uint32_t size_bytes = 0;
};

// Counts of a few names that are not known before. Nobody waits for anybody: a thread that finds a
// name half written takes the next place, so that one name may have two, which a reader adds up.
class NamedCounts {
 public:
  static constexpr size_t kPlaces = 16;
  static constexpr size_t kNameBytes = 48;  // with the zero at its end; longer ones are cut

  // Adds one. When all places are taken, the last one counts all other names, as "other".
  void add_one(const char* name) noexcept {
    char cut[kNameBytes] = {};
    std::strncpy(cut, name, kNameBytes - 1);
    for (size_t i = 0; i + 1 < kPlaces; ++i) {
      if (count_at(&places_[i], cut)) return;
    }
    char other[kNameBytes] = "other";
    if (!count_at(&places_[kPlaces - 1], other)) {
      // It is being written by somebody else, who writes the same.
      places_[kPlaces - 1].count.fetch_add(1, std::memory_order_relaxed);
    }
  }

  // Calls visit(name, count) for each place that is taken.
  template <typename Visit>
  void read(Visit&& visit) const {
    for (const Place& place : places_) {
      if (place.state.load(std::memory_order_acquire) != kNamed) continue;
      visit(static_cast<const char*>(place.name), place.count.load(std::memory_order_relaxed));
    }
  }

 private:
  static constexpr uint32_t kFree = 0;
  static constexpr uint32_t kTaken = 1;
  static constexpr uint32_t kNamed = 2;

  struct Place {
    std::atomic<uint32_t> state{kFree};
    char name[kNameBytes] = {};
    Count count{0};
  };

  static bool count_at(Place* place, const char* name) noexcept {
    uint32_t state = place->state.load(std::memory_order_acquire);
    if (state == kFree && place->state.compare_exchange_strong(state, kTaken)) {
      std::memcpy(place->name, name, kNameBytes);
      place->state.store(kNamed, std::memory_order_release);
    } else if (state != kNamed || std::strcmp(place->name, name) != 0) {
      return false;
    }
    place->count.fetch_add(1, std::memory_order_relaxed);
    return true;
  }

  Place places_[kPlaces];
};

// The calls of one method. Those that were answered are counted by the histogram.
struct alignas(64) CallBlock {
  BlockHead head;
  Count rows{0};         // of calls that were answered
  TimeHistogram call;    // from call to answer
  NamedCounts failures;  // by class of error
};

// The runs of one model.
struct alignas(64) RunBlock {
  BlockHead head;
  TimeHistogram queue;  // from the queue to the run that takes a call's first row
  TimeHistogram batch;  // a shared run with what belongs to it
  // Runs in callers' threads under the interpreter's lock, and all others.
  TimeHistogram run[2];
  RowHistogram run_rows[2];
};

static_assert(std::is_standard_layout<CallBlock>::value &&
                  std::is_trivially_destructible<CallBlock>::value,
              "plain data");
static_assert(std::is_standard_layout<RunBlock>::value &&
                  std::is_trivially_destructible<RunBlock>::value,
              "plain data");

// Whether anything is recorded; only measurements of what that costs switch it off.
inline std::atomic<bool>& metering() noexcept {
  static std::atomic<bool> on{true};
  return on;
}
inline bool is_metering() noexcept {
  return metering().load(std::memory_order_relaxed);
}
inline void set_metering(bool on) noexcept {
  metering().store(on, std::memory_order_relaxed);
}

// A block for this process.
template <typename Block>
class Meter {
 public:
  Meter() : place_(new Place) { Library::watch_forks(); }
  ~Meter() {
    for (Place* place = place_.load(std::memory_order_acquire); place != nullptr;) {
      Place* before = place->before;
      delete place;
      place = before;
    }
  }
  Meter(const Meter&) = delete;
  Meter& operator=(const Meter&) = delete;

  Block& current() noexcept {
    Place* place = place_.load(std::memory_order_acquire);
    if (place->generation == Library::process_generation()) return place->block;
    return renewed(place);
  }

 private:
  struct Place {
    Place() { block.head.size_bytes = sizeof(Block); }
    Block block;
    uint64_t generation = Library::process_generation();
    Place* before = nullptr;
  };

  // In the child of a fork. Another of its threads may have been first.
  Block& renewed(Place* seen) noexcept {
    Place* own = new (std::nothrow) Place;
    if (own == nullptr) return seen->block;  // better counted with the parent's than not at all
    own->before = seen;
    if (place_.compare_exchange_strong(seen, own, std::memory_order_acq_rel)) return own->block;
    delete own;
    return seen->block;
  }

  std::atomic<Place*> place_;
};

class CallMeter : public Meter<CallBlock> {
 public:
  void answered(int64_t elapsed_ns, int64_t n_rows, Writers writers) noexcept {
    CallBlock& block = current();
    block.call.record(elapsed_ns, writers);
    add(block.rows, n_rows < 0 ? 0 : static_cast<uint64_t>(n_rows), writers);
  }
  void failed(const char* error) noexcept { current().failures.add_one(error); }
};

class RunMeter : public Meter<RunBlock> {
 public:
  void waited(int64_t elapsed_ns) noexcept {
    if (is_metering()) current().queue.record(elapsed_ns, Writers::kMany);
  }
  void batched(int64_t elapsed_ns) noexcept {
    if (is_metering()) current().batch.record(elapsed_ns, Writers::kMany);
  }
  void ran(int64_t elapsed_ns, int64_t n_rows, Writers writers) noexcept {
    if (!is_metering()) return;
    RunBlock& block = current();
    const auto whose = static_cast<size_t>(writers);
    block.run[whose].record(elapsed_ns, writers);
    block.run_rows[whose].record(n_rows, writers);
  }
};

struct FailureCount {
  std::string name;
  uint64_t count = 0;
};

// One name may come twice.
inline std::vector<FailureCount> read_failures(const CallBlock& block) {
  std::vector<FailureCount> result;
  block.failures.read([&](const char* name, uint64_t count) { result.push_back({name, count}); });
  return result;
}

// Where the time of one call went, on now_ns()'s clock; 0 for what there was not.
struct CallTimes {
  int64_t started_ns = 0;
  int64_t queued_ns = 0;
  int64_t batch_started_ns = 0;
  int64_t run_started_ns = 0;
  int64_t run_ended_ns = 0;
  int64_t batch_ended_ns = 0;
  int64_t ended_ns = 0;
  int64_t n_rows = 0;
  int64_t run_rows = 0;  // of the run that it was a part of
};

}  // namespace infersdk
