// Sessions in the child of a fork, also while the parent's other threads are in the middle of a
// run, of loading a model, or of taking an Instance. A child leaves by _exit: exit handlers are its
// parent's.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>

#include "fixture.hpp"

using namespace fixture;

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

// Whether `body` returned true in a child of this process.
bool in_child(const std::function<bool()>& body) {
  const pid_t pid = fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    alarm(kChildLimit_s);
    _exit(body() ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  if (WIFSIGNALED(status)) {
    std::fprintf(stderr, "the child was ended by signal %d\n", WTERMSIG(status));
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// Threads that run `body` over and over until the scope ends.
class Busy {
 public:
  Busy(int n_threads, const std::function<void(int)>& body) {
    for (int i = 0; i < n_threads; ++i) {
      threads_.emplace_back([this, body, i] {
        for (int round = 0; !stop_.load(); ++round) {
          body(round);
          started_.fetch_or(1 << i);
        }
      });
    }
    while (started_.load() != (1 << n_threads) - 1) std::this_thread::yield();
  }
  ~Busy() {
    stop_.store(true);
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::atomic<int> started_{0};
  std::vector<std::thread> threads_;
};

}  // namespace

TEST(a_child_runs_the_parents_session) {
  const auto session = open("affine");
  CHECK(answers_right(*session, 2, 1) && answers_right(*session, 2, 2));
  const uint64_t generation = Library::process_generation();
  CHECK(in_child([&] {
    bool was_hot = true;
    std::vector<float> y;
    const std::vector<float> x = affine_rows(2, 3);
    return Library::process_generation() == generation + 1 &&
           call_affine(*session, x, &y, &was_hot).ok() && !was_hot && y == affine_answer(x) &&
           answers_right(*session, 2, 4);
  }));
  CHECK(Library::process_generation() == generation);
  CHECK(answers_right(*session, 2, 5));
}

TEST(a_child_of_a_child_runs_it_too) {
  const auto session = open("affine");
  CHECK(in_child([&] {
    if (!answers_right(*session, 1, 1)) return false;
    return in_child([&] { return answers_right(*session, 1, 2); }) && answers_right(*session, 1, 3);
  }));
}

TEST(a_child_may_destroy_a_session_used_or_not) {
  auto used = open("affine");
  auto unused = open("affine");
  CHECK(answers_right(*used, 1, 1) && answers_right(*unused, 1, 1));
  CHECK(in_child([&] {
    if (!answers_right(*used, 1, 2)) return false;
    used.reset();
    unused.reset();
    return answers_right(*open("affine"), 1, 3);
  }));
  CHECK(answers_right(*used, 1, 4) && answers_right(*unused, 1, 5));
}

TEST(a_child_runs_while_the_parents_threads_run) {
  if (!kAllocatorSurvivesFork) SKIP(kAllocatorReason);
  const auto session = open("affine");
  const auto counter = open("counter");
  const Busy runs(3, [&](int round) { CHECK(answers_right(*session, 1 + round % 4, round)); });
  const Busy long_runs(1, [&](int) {
    const Value n = tensor<int64_t>({20000}, {});
    const Value x = tensor<float>({0}, {1});
    std::vector<Value> outputs;
    CHECK(passed(run(*counter, {n.get(), x.get()}, &outputs)));
  });
  for (int fork = 0; fork < 15; ++fork) {
    CHECK(in_child([&] {
      for (int i = 0; i < 20; ++i) {
        if (!answers_right(*session, 1 + i % 4, fork + i)) return false;
      }
      return true;
    }));
  }
}

TEST(a_child_loads_while_the_parents_threads_load) {
  if (!kAllocatorSurvivesFork) SKIP(kAllocatorReason);
  const auto session = open("affine");
  const Busy loads(3, [&](int round) { CHECK(answers_right(*open("affine"), 2, round)); });
  for (int fork = 0; fork < 10; ++fork) {
    CHECK(in_child([&] {
      return answers_right(*session, 1, fork) && answers_right(*open("affine"), 1, fork);
    }));
  }
}

TEST(threads_of_a_child_share_its_session) {
  const auto session = open("affine");
  CHECK(answers_right(*session, 1, 0));
  CHECK(in_child([&] {
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 4; ++thread) {
      threads.emplace_back([&, thread] {
        for (int i = 0; i < 50; ++i) {
          if (!answers_right(*session, 1 + i % 3, thread)) ++wrong;
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return wrong.load() == 0;
  }));
}

TEST(an_instance_of_the_parent_is_left_alone_by_the_child) {
  const auto session = open("affine");
  learn(*session, key_of(1, 4));
  Lease held = acquire(*session, key_of(1, 4));
  REQUIRE(held != nullptr);
  CHECK(in_child([&] {
    held.reset();
    return answers_right(*session, 1, 1) && answers_right(*session, 1, 2);
  }));
  held.reset();
  CHECK(acquire(*session, key_of(1, 4)) != nullptr);
}

TEST(a_run_cut_by_a_fork_ends_in_the_child) {
  if (!kAllocatorSurvivesFork) SKIP(kAllocatorReason);
  // As when a signal handler forks while the main thread waits for a long run.
  const auto session = open("counter");
  const Value n = tensor<int64_t>({INT64_C(1) << 60}, {});
  const Value x = tensor<float>({0}, {1});
  std::vector<Value> outputs;
  pid_t pid = -1;
  Status status = run(
      *session, {n.get(), x.get()}, &outputs,
      [](void* context) -> int {
        pid_t* forked = static_cast<pid_t*>(context);
        *forked = fork();
        if (*forked == 0) alarm(kChildLimit_s);
        return 1;  // in the parent; the child has nothing to stop
      },
      &pid);
  if (pid == 0) {
    const bool cut = status.code() == StatusCode::kInternal;
    const Value few = tensor<int64_t>({2}, {});
    _exit(cut && run(*session, {few.get(), x.get()}, &outputs).ok() &&
                  read<float>(outputs[0])[0] == 2
              ? 0
              : 1);
  }
  CHECK(status.code() == StatusCode::kInterrupted);
  int child = -1;
  REQUIRE(pid > 0 && waitpid(pid, &child, 0) == pid);
  CHECK(WIFEXITED(child) && WEXITSTATUS(child) == 0);
}

RUN_TESTS()
