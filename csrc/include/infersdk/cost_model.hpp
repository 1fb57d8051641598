// What a run costs: a moving average of its time by the size of its inputs.
//
// The unit of size is the holder's own (bytes of inputs for a model, rows for a function). Sizes
// are kept by powers of two: a run of twice the rows has a bucket of its own, and one of a few rows
// more shares it. Thread safety: any number of threads; a lost update costs one sample of an
// average.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace infersdk {

class CostModel {
 public:
  static constexpr size_t kBuckets = 64;

  static size_t bucket(size_t units) noexcept {
    size_t result = 0;
    while (units > 1 && result + 1 < kBuckets) {
      units >>= 1;
      ++result;
    }
    return result;
  }

  // Nanoseconds measured for that bucket; 0 while unmeasured.
  int64_t measured_ns(size_t bucket) const noexcept {
    return ns_[bucket].load(std::memory_order_relaxed);
  }

  // Nanoseconds of a run of that size, also where it was never measured: the nearest measured size
  // below it, and in proportion to the size where there is only one above. 0 while nothing is
  // known.
  int64_t expected_ns(size_t units) const noexcept {
    const size_t wanted = bucket(units);
    if (const int64_t exact = measured_ns(wanted)) return exact;
    for (size_t below = wanted; below-- > 0;) {
      // Cost grows at most in proportion to the size; that bound is the safe estimate.
      if (const int64_t ns = measured_ns(below)) {
        const size_t shift = wanted - below;
        return shift > 20 ? ns << 20 : ns << shift;
      }
    }
    for (size_t above = wanted + 1; above < kBuckets; ++above) {
      if (const int64_t ns = measured_ns(above)) return ns;
    }
    return 0;
  }

  void record(size_t bucket, int64_t elapsed_ns) noexcept {
    if (elapsed_ns < 1) elapsed_ns = 1;
    const int64_t old = measured_ns(bucket);
    const int64_t next = old == 0 ? elapsed_ns : old + (elapsed_ns - old) / 8;
    set(bucket, next);
  }

  void set(size_t bucket, int64_t elapsed_ns) noexcept {
    ns_[bucket].store(elapsed_ns < 1 ? 1 : elapsed_ns, std::memory_order_relaxed);
  }

 private:
  std::atomic<int64_t> ns_[kBuckets] = {};
};

}  // namespace infersdk
