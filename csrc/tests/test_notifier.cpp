// The descriptor that wakes an event loop, and the requests behind it. The tests ask nothing of the
// kind of descriptor: test_notifier_pipe.cpp runs them on a pipe.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "check.hpp"
#include "infersdk/notifier.hpp"

using namespace infersdk;

namespace {

#if defined(__linux__)
constexpr bool kIsPipe = false;
#else
constexpr bool kIsPipe = true;
#endif

std::shared_ptr<Notifier> make() {
  std::shared_ptr<Notifier> result;
  REQUIRE(Notifier::create(&result).ok());
  return result;
}

std::vector<RequestPtr> requests(uint64_t first, uint64_t n) {
  std::vector<RequestPtr> result;
  for (uint64_t ticket = first; ticket < first + n; ++ticket) {
    result.push_back(std::make_shared<Request>());
    result.back()->ticket = ticket;
  }
  return result;
}

void push(Notifier& notifier, const std::vector<RequestPtr>& finished) {
  notifier.push(finished.data(), finished.size());
}

std::vector<uint64_t> drain(Notifier& notifier) {
  std::vector<RequestPtr> drained = requests(1000, 1);  // what was in it is replaced
  notifier.drain(&drained);
  std::vector<uint64_t> tickets;
  for (const RequestPtr& request : drained) tickets.push_back(request->ticket);
  return tickets;
}

bool readable(const Notifier& notifier) {
  pollfd descriptor{notifier.fd(), POLLIN, 0};
  return poll(&descriptor, 1, 0) == 1;
}

// How often it was written to since it was last read.
uint64_t take_writes(const Notifier& notifier) {
  if (kIsPipe) {
    char bytes[64];
    const ssize_t n = read(notifier.fd(), bytes, sizeof bytes);
    return n < 0 ? 0 : static_cast<uint64_t>(n);
  }
  uint64_t count = 0;
  return read(notifier.fd(), &count, sizeof count) == sizeof count ? count : 0;
}

// Writes until it takes no more.
void fill(const Notifier& notifier) {
  if (!kIsPipe) {
    const uint64_t most = std::numeric_limits<uint64_t>::max() - 1;
    REQUIRE(write(notifier.fd(), &most, sizeof most) == sizeof most);
    return;
  }
  const std::string end = "/proc/self/fd/" + std::to_string(notifier.fd());
  const int fd = open(end.c_str(), O_WRONLY | O_NONBLOCK);
  REQUIRE(fd >= 0);
  const std::vector<char> bytes(4096, 1);
  while (write(fd, bytes.data(), bytes.size()) > 0) {
  }
  while (write(fd, bytes.data(), 1) > 0) {
  }
  close(fd);
}

}  // namespace

TEST(the_descriptor_neither_blocks_nor_outlives_an_exec) {
  const auto notifier = make();
  CHECK((fcntl(notifier->fd(), F_GETFL) & O_NONBLOCK) != 0);
  CHECK((fcntl(notifier->fd(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK(!readable(*notifier));
  CHECK(drain(*notifier).empty());
}

TEST(the_descriptor_is_closed_in_the_end) {
  auto notifier = make();
  const int fd = notifier->fd();
  notifier.reset();
  CHECK(fcntl(fd, F_GETFD) == -1);
}

TEST(what_was_pushed_is_drained_once_in_order) {
  const auto notifier = make();
  push(*notifier, requests(0, 3));
  push(*notifier, requests(3, 1));
  CHECK(readable(*notifier));
  CHECK((drain(*notifier) == std::vector<uint64_t>{0, 1, 2, 3}));
  CHECK(!readable(*notifier));
  CHECK(drain(*notifier).empty());
  push(*notifier, requests(4, 1));
  CHECK(readable(*notifier));
  CHECK((drain(*notifier) == std::vector<uint64_t>{4}));
}

TEST(one_write_wakes_for_many_pushes) {
  const auto notifier = make();
  for (uint64_t i = 0; i < 1000; ++i) push(*notifier, requests(2 * i, 2));
  CHECK(take_writes(*notifier) == 1);
  CHECK(!readable(*notifier));
  CHECK(drain(*notifier).size() == 2000);
  push(*notifier, requests(0, 1));
  CHECK(take_writes(*notifier) == 1);
}

TEST(a_full_descriptor_loses_nothing) {
  const auto notifier = make();
  fill(*notifier);
  push(*notifier, requests(0, 2));  // does not block
  CHECK(readable(*notifier));
  CHECK((drain(*notifier) == std::vector<uint64_t>{0, 1}));
  CHECK(!readable(*notifier));
  push(*notifier, requests(2, 1));
  CHECK(readable(*notifier));
  CHECK((drain(*notifier) == std::vector<uint64_t>{2}));
}

TEST(a_loop_that_sleeps_misses_nothing) {
  const auto notifier = make();
  constexpr uint64_t kThreads = 4;
  constexpr uint64_t kEach = 5000;
  std::vector<std::thread> threads;
  for (uint64_t thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (uint64_t i = 0; i < kEach;) {
        const uint64_t n = std::min<uint64_t>(1 + i % 3, kEach - i);
        push(*notifier, requests(thread * kEach + i, n));
        i += n;
      }
    });
  }
  std::vector<int> seen(kThreads * kEach, 0);
  std::vector<uint64_t> last(kThreads, 0);
  bool in_order = true;
  for (uint64_t n = 0; n < seen.size();) {
    pollfd descriptor{notifier->fd(), POLLIN, 0};
    REQUIRE(poll(&descriptor, 1, -1) == 1);  // sleeps for ever if a wake was lost
    for (uint64_t ticket : drain(*notifier)) {
      ++seen[ticket];
      ++n;
      in_order = in_order && (ticket % kEach == 0 || ticket > last[ticket / kEach]);
      last[ticket / kEach] = ticket;
    }
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(in_order);
  CHECK(std::all_of(seen.begin(), seen.end(), [](int count) { return count == 1; }));
  CHECK(drain(*notifier).empty());
}

RUN_TESTS()
