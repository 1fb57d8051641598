// Tells an event loop that requests are finished: one file descriptor per loop, written once per
// batch, however many of the loop's requests were in it.
//
// Thread safety: push() from any thread, drain() from the loop's. The descriptor is an eventfd on
// Linux and a pipe elsewhere, non-blocking, closed on exec.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "infersdk/request.hpp"
#include "infersdk/status.hpp"

namespace infersdk {

class Notifier {
 public:
  static Status create(std::shared_ptr<Notifier>* out) noexcept;
  ~Notifier();
  Notifier(const Notifier&) = delete;
  Notifier& operator=(const Notifier&) = delete;

  int fd() const { return read_fd_; }
  // Hands finished requests over and wakes the loop.
  void push(const RequestPtr* requests, size_t n) noexcept;
  // Everything finished since the last drain.
  void drain(std::vector<RequestPtr>* out) noexcept;
  // Its loop is gone: lets go of what was not drained, and takes no more. Requests hold their
  // notifier, and it would hold them, for ever. In the child of a fork, where a thread of the
  // parent may have taken the mutex, it does nothing.
  void abandon() noexcept;

 private:
  Notifier() = default;

  uint64_t generation_ = 0;  // of the process that made it
  int read_fd_ = -1;
  int write_fd_ = -1;
  std::mutex mutex_;
  bool abandoned_ = false;
  std::vector<RequestPtr> finished_;
};

}  // namespace infersdk
