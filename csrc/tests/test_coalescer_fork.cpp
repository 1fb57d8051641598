// The Coalescer in the child of a fork, while its parent's threads run and wait. A child leaves by
// _exit: exit handlers are its parent's.
#include <sys/wait.h>
#include <unistd.h>

#include "fake.hpp"

using namespace fake;

namespace {

constexpr unsigned kChildLimit_s = 30;  // ends a child that hangs, by SIGALRM

// A thread that allocates at the moment of a fork leaves the allocator's lock taken in the child.
// glibc and the thread sanitizer see to that; the address sanitizer does not.
#ifdef __SANITIZE_ADDRESS__
constexpr bool kAllocatorSurvivesFork = false;
#else
constexpr bool kAllocatorSurvivesFork = true;
#endif
constexpr char kAllocatorReason[] = "the address sanitizer's allocator hangs in such a child";

// A child's thread may get the memory, and so the name, of one of its parent's threads.
#ifdef __SANITIZE_THREAD__
constexpr bool kChildrenMayJoin = false;
#else
constexpr bool kChildrenMayJoin = true;
#endif
constexpr char kJoinReason[] = "the thread sanitizer takes a child's threads for its parent's";

bool ended_well(pid_t pid) {
  int status = 0;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  if (WIFSIGNALED(status)) {
    std::fprintf(stderr, "the child was ended by signal %d\n", WTERMSIG(status));
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// Whether `body` returned true in a child of this process.
bool in_child(const std::function<bool()>& body) {
  const pid_t pid = fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    alarm(kChildLimit_s);
    _exit(body() ? 0 : 1);
  }
  return ended_well(pid);
}

// Whether a child's own calls work: in its thread, and queued, several at once.
bool works(Rig& rig, int64_t first) {
  const Coalescer::Slot slot = rig.coalescer->begin();
  if (!CHECK(slot.replica >= 0)) return false;
  const RequestPtr one = request({first});
  const RequestPtr two = request(range(first + 1, 3), 1);
  if (!CHECK(rig.submit(one).ok()) || !CHECK(rig.submit(two).ok())) return false;
  rig.coalescer->end(slot);
  if (!CHECK(rig.wait(one).ok()) || !CHECK(rig.wait(two).ok())) return false;
  rig.coalescer->drain();
  return CHECK(right(one)) && CHECK(right(two)) && CHECK(rig.coalescer->healthy() > 0);
}

}  // namespace

TEST(a_child_has_an_empty_queue_of_its_own) {
  Rig rig({}, {1}, false);
  CHECK(works(rig, 1));
  CHECK(in_child([&] {
    return rig.coalescer->stats().batches == 0 && works(rig, 2) &&
           in_child([&] { return works(rig, 3); }) && works(rig, 4);
  }));
  CHECK(works(rig, 5));
}

TEST(a_child_made_while_runs_are_under_way_and_requests_wait) {
  Rig rig({}, {2, 1});
  for (auto& fake : rig.fakes) fake->close();
  std::vector<RequestPtr> requests;
  for (int64_t i = 0; i < 10; ++i) {
    requests.push_back(request({i}, i % 5));
    REQUIRE(passed(rig.submit(requests.back())));
  }
  rig.fakes[0]->wait_for_runs(2);
  rig.fakes[1]->wait_for_runs(1);
  CHECK(in_child([&] {
    for (auto& fake : rig.fakes) fake->open();
    const CoalescerStats stats = rig.coalescer->stats();
    if (!CHECK(stats.queued_rows == 0) || !CHECK(stats.running == 0)) return false;
    // What its parent's threads are to answer is none of its own.
    for (const RequestPtr& each : requests) {
      if (!CHECK(!rig.coalescer->cancel(each, StatusCode::kCancelled))) return false;
      if (!CHECK(rig.wait(each).code() == StatusCode::kInternal)) return false;
    }
    return works(rig, 100);
  }));
  CHECK(rig.coalescer->stats().running == 3);
  for (auto& fake : rig.fakes) fake->open();
  for (const RequestPtr& each : requests) CHECK(passed(rig.wait(each)) && right(each));
}

TEST(a_slot_of_the_parent_is_none_of_the_childs) {
  Rig rig({}, {1}, false);
  const Coalescer::Slot held = rig.coalescer->begin();
  REQUIRE(held.replica >= 0);
  CHECK(in_child([&] {
    rig.coalescer->end(held);
    return works(rig, 1) && rig.coalescer->stats().running == 0;
  }));
  CHECK(rig.coalescer->begin().replica == -1);
  rig.coalescer->end(held);
  CHECK(works(rig, 2));
}

TEST(a_fork_while_a_call_waits) {
  // As when a signal handler forks: the child comes back from it in the middle of wait().
  Rig rig;
  rig.fake().close();
  const RequestPtr running = request({1});
  REQUIRE(passed(rig.submit(running)));
  rig.fake().wait_for_runs(1);
  struct Fork {
    Fake* fake;
    pid_t pid = -1;
    static int check(void* context) {
      Fork* fork_once = static_cast<Fork*>(context);
      if (fork_once->pid >= 0) return 0;
      fork_once->pid = fork();
      if (fork_once->pid == 0) alarm(kChildLimit_s);
      fork_once->fake->open();
      return 0;
    }
  } fork_once{&rig.fake()};
  Status status = rig.coalescer->wait(running, Fork::check, &fork_once);
  if (fork_once.pid == 0) {
    _exit(CHECK(status.code() == StatusCode::kInternal) && works(rig, 2) ? 0 : 1);
  }
  CHECK(passed(status) && right(running));
  CHECK(ended_well(fork_once.pid));
}

TEST(a_child_may_destroy_a_coalescer_used_or_not) {
  if (!kChildrenMayJoin) SKIP(kJoinReason);
  auto used = std::make_unique<Rig>();
  auto unused = std::make_unique<Rig>();
  CHECK(works(*used, 1) && works(*unused, 1));
  unused->coalescer->drain();
  const Coalescer::Slot slot = unused->coalescer->begin();
  REQUIRE(slot.replica >= 0 && passed(unused->submit(request({1}))));
  CHECK(in_child([&] {
    if (!works(*used, 2)) return false;
    used.reset();
    unused.reset();
    Rig fresh;
    return works(fresh, 3);
  }));
  unused->coalescer->end(slot);
  CHECK(works(*used, 3));
  unused->coalescer->drain();
  CHECK(works(*unused, 4));
}

TEST(what_was_stopped_stays_so_in_a_child) {
  Rig rig;
  CHECK(works(rig, 1));
  rig.coalescer->stop();
  CHECK(in_child([&] {
    return CHECK(rig.submit(request({2})).code() == StatusCode::kClosed) &&
           CHECK(rig.coalescer->begin().replica == -1);
  }));
  Rig other;
  CHECK(in_child([&] {
    other.coalescer->stop();
    return CHECK(other.submit(request({2})).code() == StatusCode::kClosed);
  }));
  CHECK(works(other, 3));
}

TEST(a_hundred_children_of_a_busy_parent) {
  if (!kAllocatorSurvivesFork) SKIP(kAllocatorReason);
  Rig rig({}, {2, 1}, false);
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::atomic<int64_t> answered{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      for (int64_t i = 0; !stop.load(); ++i) {
        const RequestPtr own = request(range(i, 1 + static_cast<size_t>(i) % 3), (i + thread) % 3);
        if (!rig.answers_right(own)) ++wrong;
        ++answered;
      }
    });
  }
  for (int64_t i = 0; i < 100; ++i) {
    const int64_t before = answered.load();
    CHECK(in_child([&] { return works(rig, i); }));
    while (answered.load() < before + 4) std::this_thread::yield();
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong.load() == 0);
}

RUN_TESTS()
