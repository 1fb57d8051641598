// Whether short runs had better keep the interpreter's lock: found by trying, in service.
//
// Which is better cannot be told from the run. Kept, a run of 30 us costs nothing beyond itself,
// but one core is all the process uses. Given up, other cores help (two cores, 32 threads: 1.5
// to 2.5 times as many calls), unless some other thread computes in Python: then getting it back
// takes up to the switch interval (5 ms), and a process makes a tenth of the calls or less. So one
// way is usual, and now and then the other is tried for 40 ms: whichever gets more calls done
// becomes usual. Where calls are few both do as many, and the preferred way is taken; where one
// thread makes them all the lock is kept, as nobody is there to use another core.
//
// The clock is the caller's, so that tests need no sleep. Thread safety: keeps() from any thread.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>

namespace infersdk {

class GilTrial {
 public:
  static constexpr int64_t kWindowNs = 20'000'000;
  static constexpr int64_t kStaleNs = 5 * kWindowNs;  // a window this long says nothing
  static constexpr int kTrial = 2;                    // windows of one; the last one counts
  static constexpr int kFirstTrial = 3;               // windows before it, and
  static constexpr int kSoonest = 6;                  // between two trials; that doubles
  static constexpr int kLatest = 800;                 // up to this while nothing changes

  explicit GilTrial(bool prefers_keeping) : preferred_(prefers_keeping), usual_(prefers_keeping) {}

  // Counts a call that a thread makes now; whether it is to keep the lock.
  bool keeps(int64_t now_ns, uint64_t thread) noexcept {
    if (busy_.test_and_set(std::memory_order_acquire)) {
      return mode_.load(std::memory_order_relaxed);  // without a lock two may come at once
    }
    ++calls_;
    shared_ = shared_ || thread != last_thread_;
    last_thread_ = thread;
    const int64_t elapsed = now_ns - start_ns_;
    if (elapsed >= kWindowNs) {
      if (elapsed >= kStaleNs) {
        trying_ = 0;
      } else if (!shared_) {
        trying_ = 0;
        usual_ = true;
        usual_rate_ = 0;
        until_trial_ = kFirstTrial;
        pause_ = kSoonest;
      } else {
        conclude(static_cast<double>(elapsed));
      }
      start_ns_ = now_ns;
      calls_ = 0;
      shared_ = false;
    }
    const bool mode = usual_ != (trying_ > 0);
    mode_.store(mode, std::memory_order_relaxed);
    busy_.clear(std::memory_order_release);
    return mode;
  }

 private:
  void conclude(double elapsed_ns) noexcept {
    const double calls = static_cast<double>(calls_);
    const double rate = calls / elapsed_ns;
    if (trying_ == 0) {
      usual_rate_ = usual_rate_ == 0 ? rate : usual_rate_ + (rate - usual_rate_) / 4;
      if (usual_rate_ > 1.6 * settled_rate_ || settled_rate_ > 1.6 * usual_rate_) {
        // Something has begun or ended beside these calls.
        settled_rate_ = usual_rate_;
        until_trial_ = std::min(until_trial_, kFirstTrial);
        pause_ = kSoonest;
      }
      if (--until_trial_ <= 0) trying_ = kTrial;
      return;
    }
    // Threads take some switch intervals to spread over the cores: only the last window counts.
    if (--trying_ > 0) return;
    const double usual = usual_rate_ * elapsed_ns;
    // Back to the preferred way as soon as nothing is lost by it; away from it only for a gain
    // beyond what chance gives.
    const bool better = usual_ == preferred_
                            ? calls > 1.15 * usual && calls - usual > 3 * std::sqrt(calls + usual)
                            : calls > 0.95 * usual;
    if (better) {
      usual_ = !usual_;
      usual_rate_ = rate;
      pause_ = kSoonest;
    } else {
      pause_ = std::min(2 * pause_, kLatest);
    }
    until_trial_ = pause_;
    settled_rate_ = usual_rate_;
  }

  const bool preferred_;
  bool usual_;
  int trying_ = 0;  // windows of a trial that are left
  int64_t start_ns_ = 0;
  int64_t calls_ = 0;
  bool shared_ = false;  // more than one thread calls in this window
  uint64_t last_thread_ = 0;
  double usual_rate_ = 0;    // calls per nanosecond
  double settled_rate_ = 0;  // the same when it was last decided
  int until_trial_ = kFirstTrial;
  int pause_ = kSoonest;
  std::atomic<bool> mode_{true};
  std::atomic_flag busy_ = ATOMIC_FLAG_INIT;
};

}  // namespace infersdk
