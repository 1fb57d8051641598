// The clock of every measurement and deadline.
#pragma once

#include <chrono>
#include <cstdint>

namespace infersdk {

// Nanoseconds on the steady clock.
inline int64_t now_ns() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace infersdk
