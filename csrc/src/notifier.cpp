#include "infersdk/notifier.hpp"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/eventfd.h>
#endif

#include <cstring>

#include "infersdk/library.hpp"

namespace infersdk {

Status Notifier::create(std::shared_ptr<Notifier>* out) noexcept {
  return guarded([&]() -> Status {
    std::shared_ptr<Notifier> notifier(new Notifier);
    notifier->generation_ = Library::process_generation();
    auto failed = [] {
      return Status(StatusCode::kInternal,
                    std::string("no file descriptor for finished calls: ") + std::strerror(errno));
    };
#if defined(__linux__)
    notifier->read_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (notifier->read_fd_ < 0) return failed();
    notifier->write_fd_ = notifier->read_fd_;
#else
    int fds[2];
    if (pipe(fds) != 0) return failed();
    notifier->read_fd_ = fds[0];
    notifier->write_fd_ = fds[1];
    for (int fd : fds) {
      if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
        return failed();
      }
    }
#endif
    *out = std::move(notifier);
    return Status();
  });
}

Notifier::~Notifier() {
  if (write_fd_ >= 0 && write_fd_ != read_fd_) close(write_fd_);
  if (read_fd_ >= 0) close(read_fd_);
}

void Notifier::push(const RequestPtr* requests, size_t n) noexcept {
  bool wake;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (abandoned_) return;
    wake = finished_.empty();  // otherwise the loop has yet to see the last write
    // Out of memory here would lose an answer: std::terminate is the honest end.
    finished_.insert(finished_.end(), requests, requests + n);
  }
  if (!wake) return;
  const uint64_t one = 1;
  // A full pipe or counter means that the loop has been woken already.
  while (write(write_fd_, &one, write_fd_ == read_fd_ ? sizeof one : 1) < 0 && errno == EINTR) {
  }
}

void Notifier::drain(std::vector<RequestPtr>* out) noexcept {
  // Read first: what is pushed after the swap writes again.
  char bytes[64];
  while (true) {
    const ssize_t n = read(read_fd_, bytes, write_fd_ == read_fd_ ? 8 : sizeof bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < static_cast<ssize_t>(sizeof bytes)) break;
  }
  out->clear();
  std::lock_guard<std::mutex> lock(mutex_);
  out->swap(finished_);
}

void Notifier::abandon() noexcept {
  if (generation_ != Library::process_generation()) return;
  std::vector<RequestPtr> left;  // declared first: they end when the mutex is free again
  std::lock_guard<std::mutex> lock(mutex_);
  abandoned_ = true;
  left.swap(finished_);
}

}  // namespace infersdk
