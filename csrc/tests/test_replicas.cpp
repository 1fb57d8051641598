// Several replicas under one Coalescer: who takes the work, and what becomes of one that fails.
#include "fake.hpp"

using namespace fake;

namespace {

// Taken out for good, or until the next batch.
CoalescerConfig probing_after(int64_t first_probe_ns) {
  CoalescerConfig config;
  config.first_probe_ns = first_probe_ns;
  return config;
}
const CoalescerConfig kNeverProbed = probing_after(kHour_ns);
const CoalescerConfig kProbedAtOnce = probing_after(0);

bool one_by_one_right(Rig& rig, int n) {
  bool result = true;
  for (int i = 0; i < n; ++i) {
    rig.coalescer->drain();
    result = rig.answers_right(request({i})) && result;
  }
  rig.coalescer->drain();
  return result;
}

// The replica of each slot that there is.
std::vector<int> all_slots(Rig& rig) {
  std::vector<Coalescer::Slot> slots;
  std::vector<int> replicas;
  for (Coalescer::Slot slot = rig.coalescer->begin(); slot.replica >= 0;
       slot = rig.coalescer->begin()) {
    slots.push_back(slot);
    replicas.push_back(slot.replica);
  }
  for (const Coalescer::Slot& slot : slots) rig.coalescer->end(slot);
  return replicas;
}

}  // namespace

TEST(the_least_loaded_replica_takes_the_work) {
  Rig even({}, {2, 2, 2});
  CHECK((all_slots(even) == std::vector<int>{0, 1, 2, 0, 1, 2}));
  // By the share of its runs that are under way: 0/1 0/3, 1/1 0/3, 1/1 1/3, ...
  Rig uneven({}, {1, 3});
  CHECK((all_slots(uneven) == std::vector<int>{0, 1, 1, 1}));
  CHECK(uneven.coalescer->n_replicas() == 2 && uneven.coalescer->healthy() == 2);
}

TEST(batches_spread_over_the_replicas) {
  Rig rig({}, {1, 1, 1});
  for (auto& fake : rig.fakes) fake->close();
  std::vector<RequestPtr> requests;
  for (int64_t i = 0; i < 3; ++i) {
    requests.push_back(request({i}, i));
    REQUIRE(passed(rig.submit(requests.back())));
  }
  for (auto& fake : rig.fakes) fake->wait_for_runs(1);
  for (auto& fake : rig.fakes) fake->open();
  for (const RequestPtr& each : requests) CHECK(passed(rig.wait(each)) && right(each));
}

TEST(a_replica_that_always_fails_is_taken_out_and_fails_nobody) {
  Rig rig(kNeverProbed, {1, 1});
  rig.fakes[0]->failing = true;
  CHECK(one_by_one_right(rig, 20));
  CHECK(rig.fakes[0]->n_runs() == Coalescer::kMaxFailures);
  CHECK(rig.fakes[1]->n_runs() == 20);
  CHECK(rig.coalescer->healthy() == 1);
  const CoalescerStats stats = rig.coalescer->stats();
  CHECK(stats.replicas_out == 1 && stats.failed == 0);
  CHECK((all_slots(rig) == std::vector<int>{1}));
}

TEST(failures_in_between_take_nobody_out) {
  Rig rig(kNeverProbed, {1, 1});
  for (int i = 0; i < 20; ++i) {
    rig.fakes[0]->failing = i % Coalescer::kMaxFailures != 0;
    CHECK(one_by_one_right(rig, 1));
  }
  CHECK(rig.coalescer->healthy() == 2 && rig.coalescer->stats().replicas_out == 0);
}

TEST(one_that_recovers_is_put_back) {
  Rig rig(kProbedAtOnce, {1, 1});
  rig.fakes[0]->failing = true;
  CHECK(one_by_one_right(rig, Coalescer::kMaxFailures));
  CHECK(rig.coalescer->healthy() == 1);
  // A probe is due: it is a batcher's, which can turn to the other replica.
  CHECK(rig.coalescer->begin().replica == -1);
  CHECK(one_by_one_right(rig, 2));
  CHECK(rig.coalescer->healthy() == 1 && rig.coalescer->stats().replicas_out == 1);
  rig.fakes[0]->failing = false;
  CHECK(one_by_one_right(rig, 1));
  CHECK(rig.coalescer->healthy() == 2);
  CHECK((all_slots(rig) == std::vector<int>{0, 1}));
}

TEST(each_probe_that_fails_doubles_the_time_to_the_next) {
  constexpr int64_t kFirstProbe_ns = 5'000'000;
  Rig rig(probing_after(kFirstProbe_ns), {1, 1});
  rig.fakes[0]->failing = true;
  CHECK(one_by_one_right(rig, Coalescer::kMaxFailures - 1));
  // When the call began that the broken replica was given last: a pause begins after that.
  int64_t last_ns = now_ns();
  CHECK(one_by_one_right(rig, 1));
  int64_t pause_ns = kFirstProbe_ns;
  for (int n_runs = Coalescer::kMaxFailures; n_runs < Coalescer::kMaxFailures + 4; ++n_runs) {
    int64_t began_ns = 0;
    while (rig.fakes[0]->n_runs() == n_runs) {
      began_ns = now_ns();
      CHECK(one_by_one_right(rig, 1));
    }
    CHECK(now_ns() - last_ns >= pause_ns);
    last_ns = began_ns;
    pause_ns *= 2;
  }
  CHECK(rig.coalescer->healthy() == 1 && rig.coalescer->stats().replicas_out == 1);
}

TEST(one_batch_at_a_time_probes) {
  Rig rig(kProbedAtOnce, {3, 3});
  rig.fakes[0]->failing = true;
  CHECK(one_by_one_right(rig, Coalescer::kMaxFailures));
  rig.fakes[0]->failing = false;
  for (auto& fake : rig.fakes) fake->close();
  std::vector<RequestPtr> requests;
  for (int64_t i = 0; i < 4; ++i) {
    requests.push_back(request({i}, i));
    REQUIRE(passed(rig.submit(requests.back())));
  }
  const size_t before = Coalescer::kMaxFailures;
  rig.fakes[1]->wait_for_runs(before + 3);
  rig.fakes[0]->wait_for_runs(before + 1);
  CHECK(rig.fakes[0]->most_active() == 1);
  for (auto& fake : rig.fakes) fake->open();
  for (const RequestPtr& each : requests) CHECK(passed(rig.wait(each)) && right(each));
  CHECK(rig.coalescer->healthy() == 2);
}

TEST(a_failure_that_all_share_is_the_requests_own) {
  Rig rig(kNeverProbed, {1, 1, 1});
  for (int i = 0; i < 10; ++i) {
    const RequestPtr poor = request({bad(i)});
    REQUIRE(passed(rig.submit(poor)));
    CHECK(rig.wait(poor).code() == StatusCode::kRuntime);
    rig.coalescer->drain();
  }
  CHECK(rig.coalescer->healthy() == 3);
  CHECK(rig.coalescer->stats().failed == 10 && rig.coalescer->stats().replicas_out == 0);
  CHECK(one_by_one_right(rig, 3));
}

TEST(all_replicas_failing_fail_every_request_and_may_recover) {
  Rig rig(kNeverProbed, {1, 1});
  for (auto& fake : rig.fakes) fake->failing = true;
  for (int i = 0; i < 10; ++i) {
    const RequestPtr poor = request({i});
    REQUIRE(passed(rig.submit(poor)));
    CHECK(rig.wait(poor).code() == StatusCode::kRuntime);
  }
  CHECK(rig.coalescer->stats().failed == 10);
  for (auto& fake : rig.fakes) fake->failing = false;
  CHECK(one_by_one_right(rig, 3));
}

TEST(refused_inputs_need_no_second_opinion) {
  Rig rig(kNeverProbed, {1, 1});
  for (auto& fake : rig.fakes) fake->code = StatusCode::kInvalidArgument;
  const RequestPtr poor = request({bad(1)});
  REQUIRE(passed(rig.submit(poor)));
  CHECK(rig.wait(poor).code() == StatusCode::kInvalidArgument);
  CHECK(rig.fakes[0]->n_runs() + rig.fakes[1]->n_runs() == 1);
}

TEST(a_bad_request_on_a_failing_replica_fails_alone) {
  for (size_t broken = 0; broken < 2; ++broken) {
    for (size_t position = 0; position < 32; position += 5) {
      Rig rig(kNeverProbed, {1, 1});
      rig.fakes[broken]->failing = true;
      std::vector<RequestPtr> requests;
      for (size_t i = 0; i < 32; ++i) {
        const int64_t row = static_cast<int64_t>(i);
        requests.push_back(request({i == position ? bad(row) : row}));
      }
      Busy busy(rig);
      for (const RequestPtr& each : requests) REQUIRE(passed(rig.submit(each)));
      busy.release();
      for (size_t i = 0; i < 32; ++i) {
        (void)rig.wait(requests[i]);
        CHECK(i == position ? failed_with(requests[i], StatusCode::kRuntime) : right(requests[i]));
      }
      CHECK(rig.coalescer->stats().failed == 1);
    }
  }
}

TEST(one_that_was_taken_out_helps_when_the_others_fail) {
  Rig rig(kNeverProbed, {1, 1});
  rig.fakes[0]->failing = true;
  CHECK(one_by_one_right(rig, Coalescer::kMaxFailures));
  CHECK(rig.coalescer->healthy() == 1);
  rig.fakes[0]->failing = false;
  rig.fakes[1]->failing = true;
  CHECK(one_by_one_right(rig, 1));
  CHECK(rig.coalescer->healthy() == 2);  // its answer has put it back
  CHECK(one_by_one_right(rig, 10));
}

TEST(replicas_that_come_and_go_under_load_fail_nobody) {
  Rig rig(kProbedAtOnce, {2, 2, 2}, false);
  constexpr int kThreads = 6;
  constexpr int64_t kRequests = 400;
  std::atomic<int> wrong{0};
  std::atomic<int64_t> answered[kThreads] = {};
  auto all_answered = [&] {
    return std::all_of(std::begin(answered), std::end(answered),
                       [](const std::atomic<int64_t>& n) { return n.load() == kRequests; });
  };
  in_threads(kThreads + 1, [&](int thread) {
    if (thread == kThreads) {
      // Never more than one of them: the others have to answer for it.
      for (size_t round = 0; !all_answered(); ++round) {
        Fake& fake = *rig.fakes[round % 3];
        const int before = fake.n_runs();
        fake.failing = true;
        while (!all_answered() && fake.n_runs() < before + 10) std::this_thread::yield();
        fake.failing = false;
        // A request that it failed may still be on its way to another one.
        int64_t seen[kThreads];
        for (int i = 0; i < kThreads; ++i) seen[i] = answered[i].load();
        for (int i = 0; i < kThreads; ++i) {
          while (answered[i].load() == seen[i] && seen[i] < kRequests) std::this_thread::yield();
        }
      }
      return;
    }
    for (int64_t i = 0; i < kRequests; ++i) {
      const bool poor = i % 50 == 7;
      const RequestPtr own = request({poor ? bad(i) : i, i}, i % 2);
      Status status = rig.submit(own);
      if (status.ok()) status = rig.wait(own);
      if (poor ? !failed_with(own, StatusCode::kRuntime) : !right(own)) ++wrong;
      ++answered[thread];
    }
  });
  CHECK(wrong.load() == 0);
  CHECK(rig.coalescer->stats().failed == kThreads * 8);
}

RUN_TESTS()
