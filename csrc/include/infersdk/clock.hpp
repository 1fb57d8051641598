// The clock of every measurement and deadline.
//
// A test may hold it: then it stands still but for what advance_clock() adds, so that a deadline
// passes when the test says so. Released, it runs on from where it was and never goes back. Whoever
// waits for a moment on it looks at it every kHeldSlice while it is held; one that began to wait
// before that sees it when it wakes up by itself. Each compiled module has a clock of its own, and
// only the session's is ever held. Thread safety: now_ns() and advance_clock() from any thread;
// the others from one at a time.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace infersdk {

constexpr std::chrono::milliseconds kHeldSlice{1};

namespace clock_state {
inline std::atomic<int64_t> held_ns{0};   // what it shows; 0: it runs
inline std::atomic<int64_t> ahead_ns{0};  // of the steady clock, while it runs
}  // namespace clock_state

inline int64_t steady_ns() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Nanoseconds; the steady clock's, in a process that never held it.
inline int64_t now_ns() noexcept {
  const int64_t held = clock_state::held_ns.load(std::memory_order_acquire);
  if (held != 0) return held;
  return steady_ns() + clock_state::ahead_ns.load(std::memory_order_relaxed);
}

inline bool clock_is_held() noexcept {
  return clock_state::held_ns.load(std::memory_order_relaxed) != 0;
}

// When a condition variable is to look again that waits until `ns`.
inline std::chrono::steady_clock::time_point time_at(int64_t ns) noexcept {
  if (clock_is_held()) return std::chrono::steady_clock::now() + kHeldSlice;
  return std::chrono::steady_clock::time_point(
      std::chrono::duration_cast<std::chrono::steady_clock::duration>(
          std::chrono::nanoseconds(ns - clock_state::ahead_ns.load(std::memory_order_relaxed))));
}

inline void hold_clock() noexcept {
  if (!clock_is_held()) clock_state::held_ns.store(now_ns(), std::memory_order_release);
}

// Adds to a clock that is held. `ns` is not negative.
inline void advance_clock(int64_t ns) noexcept {
  clock_state::held_ns.fetch_add(ns, std::memory_order_acq_rel);
}

inline void release_clock() noexcept {
  const int64_t held = clock_state::held_ns.load(std::memory_order_relaxed);
  if (held == 0) return;
  clock_state::ahead_ns.store(held - steady_ns(), std::memory_order_relaxed);
  clock_state::held_ns.store(0, std::memory_order_release);
}

}  // namespace infersdk
