// The clock in the hands of a test: deadlines pass when it says so, and not before.
#include "fake.hpp"

using namespace fake;

namespace {

struct Held {
  Held() { hold_clock(); }
  ~Held() { release_clock(); }
};

// The real clock goes on meanwhile.
void let_real_time_pass(int64_t ns) {
  const int64_t until = steady_ns() + ns;
  while (steady_ns() < until) std::this_thread::yield();
}

}  // namespace

TEST(it_runs_by_itself) {
  const int64_t before = now_ns();
  let_real_time_pass(1'000'000);
  CHECK(now_ns() - before >= 1'000'000);
}

TEST(held_it_stands_still_but_for_what_is_added) {
  const Held held;
  const int64_t before = now_ns();
  let_real_time_pass(1'000'000);
  CHECK(now_ns() == before);
  advance_clock(3 * kSecond_ns);
  CHECK(now_ns() == before + 3 * kSecond_ns);
}

TEST(holding_it_twice_is_holding_it) {
  const Held held;
  const int64_t before = now_ns();
  let_real_time_pass(1'000'000);
  hold_clock();
  CHECK(now_ns() == before);
}

TEST(released_it_goes_on_and_never_back) {
  int64_t before;
  for (const int64_t step : {INT64_C(0), kHour_ns}) {
    {
      const Held held;
      advance_clock(step);
      let_real_time_pass(1'000'000);
      before = now_ns();
    }
    const int64_t after = now_ns();
    CHECK(after >= before && after - before < kHour_ns / 2);
  }
  release_clock();
  CHECK(now_ns() >= before);
}

TEST(a_deadline_after_a_release_is_waited_for_in_real_time) {
  {
    const Held held;
    advance_clock(kHour_ns);
  }
  Rig rig;
  Busy busy(rig);
  const RequestPtr late = request({1});
  late->deadline_ns = now_ns() + 5'000'000;
  REQUIRE(passed(rig.submit(late)));
  const int64_t started = steady_ns();
  CHECK(rig.wait(late).code() == StatusCode::kDeadline);
  CHECK(steady_ns() - started < kHour_ns / 2);
}

TEST(a_call_that_waits_expires_when_its_time_is_added) {
  const Held held;
  Rig rig;
  Busy busy(rig);
  const RequestPtr late = request({1});
  late->deadline_ns = now_ns() + kSecond_ns;
  REQUIRE(passed(rig.submit(late)));
  std::atomic<bool> over{false};
  std::thread caller([&] {
    CHECK(rig.wait(late).code() == StatusCode::kDeadline);
    over.store(true);
  });
  advance_clock(kSecond_ns - 1);
  let_real_time_pass(5'000'000);
  CHECK(!over.load());
  advance_clock(1);
  caller.join();
  CHECK(rig.coalescer->stats().expired == 1);
}

TEST(real_time_is_no_reason_to_expire) {
  const Held held;
  Rig rig;
  const RequestPtr patient = request({1});
  {
    Busy busy(rig);
    patient->deadline_ns = now_ns() + 1'000'000;
    REQUIRE(passed(rig.submit(patient)));
    let_real_time_pass(5'000'000);
  }
  CHECK(passed(rig.wait(patient)) && right(patient));
}

TEST(many_callers_expire_in_the_order_of_their_deadlines) {
  const Held held;
  Rig rig;
  Busy busy(rig);
  std::atomic<int> expired{0};
  std::vector<std::thread> callers;
  for (int64_t i = 0; i < 6; ++i) {
    const RequestPtr late = request({i});
    late->deadline_ns = now_ns() + (i + 1) * kSecond_ns;
    REQUIRE(passed(rig.submit(late)));
    callers.emplace_back([&, late] {
      CHECK(rig.wait(late).code() == StatusCode::kDeadline);
      expired.fetch_add(1);
    });
  }
  for (int i = 1; i <= 6; ++i) {
    advance_clock(kSecond_ns);
    while (expired.load() < i) std::this_thread::yield();
    CHECK(expired.load() == i);
  }
  for (std::thread& caller : callers) caller.join();
}

RUN_TESTS()
