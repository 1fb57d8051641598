// Many threads on one session, and sessions that come and go. Run under the thread sanitizer too.
#include <atomic>
#include <functional>
#include <thread>

#include "fixture.hpp"

using namespace fixture;

namespace {

void in_threads(int n_threads, const std::function<void(int)>& body) {
  std::atomic<bool> go{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < n_threads; ++i) {
    threads.emplace_back([&, i] {
      while (!go.load()) std::this_thread::yield();
      body(i);
    });
  }
  go.store(true);
  for (std::thread& thread : threads) thread.join();
}

int stop_at_once(void*) {
  return 1;
}

}  // namespace

TEST(every_answer_is_exact_on_a_shared_session) {
  const auto session = open("affine");
  std::atomic<int> hot{0};
  std::atomic<int> wrong{0};
  // More shapes than are kept, so that learning, eviction and use meet.
  const int n_shapes = static_cast<int>(Session::kMaxShapes) + 4;
  constexpr int kRuns = 2500;
  in_threads(8, [&](int thread) {
    std::vector<float> y;
    for (int i = 0; i < kRuns; ++i) {
      // Mostly the same few shapes, as an app has them, and now and then another.
      const int n_rows = i % 8 != 0 ? 1 + i % 3 : 1 + (i / 8 + thread) % n_shapes;
      const std::vector<float> x = affine_rows(n_rows, thread * kRuns + i);
      bool was_hot = false;
      if (!passed(call_affine(*session, x, &y, &was_hot)) || y != affine_answer(x)) ++wrong;
      if (was_hot) ++hot;
    }
  });
  CHECK(wrong.load() == 0);
  CHECK(hot.load() > 8 * kRuns / 2);
}

TEST(outputs_of_changing_shape_are_right_on_a_shared_session) {
  const auto session = open("nonzero");
  std::atomic<int> wrong{0};
  in_threads(8, [&](int thread) {
    for (int i = 0; i < 300; ++i) {
      std::vector<float> x(6, 0.0f);
      std::vector<int64_t> expected;
      for (int64_t j = 0; j < 6; ++j) {
        if ((i + thread) >> j & 1) {
          x[static_cast<size_t>(j)] = 1;
          expected.push_back(j);
        }
      }
      std::vector<int64_t> given;
      const Lease instance = acquire(*session, key_of(6));
      if (instance != nullptr) {
        std::memcpy(instance->inputs[0].data, x.data(), instance->inputs[0].size_bytes);
        if (passed(session->run(instance.get(), nullptr, nullptr))) {
          given = read<int64_t>(instance->results[0]);
        }
      } else {
        const Value input = tensor(x, {6});
        std::vector<Value> outputs;
        if (passed(run(*session, {input.get()}, &outputs))) {
          given = read<int64_t>(outputs[0]);
          OrtValue* result = outputs[0].get();
          session->learn(key_of(6).data(), 2, &result);
        }
      }
      if (given != expected) ++wrong;
    }
  });
  CHECK(wrong.load() == 0);
}

TEST(failing_runs_do_not_touch_their_neighbors) {
  const auto session = open("lookup");
  std::atomic<int> wrong{0};
  in_threads(8, [&](int thread) {
    for (int i = 0; i < 200; ++i) {
      const bool bad = (thread + i) % 3 == 0;
      const Value index = tensor<int64_t>({bad ? 9 : i % 3}, {1});
      std::vector<Value> outputs;
      Status status = run(*session, {index.get()}, &outputs);
      if (status.ok() == bad) ++wrong;
      if (status.ok() && read<float>(outputs[0])[0] != static_cast<float>(10 * (i % 3 + 1))) {
        ++wrong;
      }
    }
  });
  CHECK(wrong.load() == 0);
}

TEST(one_stopped_run_leaves_the_others_running) {
  const auto session = open("counter");
  std::atomic<int> wrong{0};
  in_threads(4, [&](int thread) {
    for (int i = 0; i < 3; ++i) {
      const bool stopped = thread == 0;
      const Value n = tensor<int64_t>({stopped ? INT64_C(1) << 60 : 1000}, {});
      const Value x = tensor<float>({1}, {1});
      std::vector<Value> outputs;
      Status status =
          run(*session, {n.get(), x.get()}, &outputs, stopped ? &stop_at_once : nullptr, nullptr);
      if (stopped) {
        if (status.code() != StatusCode::kInterrupted) ++wrong;
      } else if (!passed(status) || read<float>(outputs[0])[0] != 1001) {
        ++wrong;
      }
    }
  });
  CHECK(wrong.load() == 0);
}

TEST(sessions_come_and_go_in_many_threads) {
  const std::string bytes = read_file(model_path("affine"));
  std::atomic<int> wrong{0};
  in_threads(8, [&](int thread) {
    for (int i = 0; i < 6; ++i) {
      SessionConfig asked = config("affine");
      if (i % 2 == 0) asked.set_bytes(bytes.data(), bytes.size());
      asked.threads = 1 + i % 2;
      std::shared_ptr<Session> session;
      if (!passed(Session::open(library(), asked, &session)) ||
          !answers_right(*session, 1 + i, thread) || !answers_right(*session, 1 + i, thread + 1)) {
        ++wrong;
      }
      std::shared_ptr<Session> broken;
      if (Session::open(library(), config("unknown_operator"), &broken).ok()) ++wrong;
    }
  });
  CHECK(wrong.load() == 0);
}

TEST(the_last_owner_frees_a_session_in_use_elsewhere) {
  std::atomic<int> wrong{0};
  for (int round = 0; round < 10; ++round) {
    std::shared_ptr<Session> shared = open("affine");
    std::vector<std::shared_ptr<Session>> owners(4, shared);
    shared.reset();
    in_threads(4, [&](int thread) {
      for (int i = 0; i < 20 * (thread + 1); ++i) {
        if (!answers_right(*owners[static_cast<size_t>(thread)], 1 + i % 3, i)) ++wrong;
      }
      owners[static_cast<size_t>(thread)].reset();
    });
  }
  CHECK(wrong.load() == 0);
}

TEST(threads_measure_the_same_cost) {
  const auto session = open("affine");
  in_threads(8, [&](int) {
    for (int i = 0; i < 2000; ++i) session->cost()->record(5, 1000);
  });
  CHECK(session->cost()->measured_ns(5) == 1000);
}

RUN_TESTS()
