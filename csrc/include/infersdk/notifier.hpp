// Tells an event loop that requests are finished: one file descriptor per loop, written once per
// batch, however many of the loop's requests were in it.
//
// Thread safety: push() from any thread, drain() from the loop's. The descriptor is an eventfd on
// Linux and a pipe elsewhere, non-blocking, closed on exec.
#pragma once

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

 private:
  Notifier() = default;

  int read_fd_ = -1;
  int write_fd_ = -1;
  std::mutex mutex_;
  std::vector<RequestPtr> finished_;
};

}  // namespace infersdk
