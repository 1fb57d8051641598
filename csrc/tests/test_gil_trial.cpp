// GilTrial under a clock of its own: what it settles on when either way gets more done.
#include "check.hpp"
#include "infersdk/gil_trial.hpp"

using namespace infersdk;

namespace {

// A process whose threads make calls at one rate where the lock is kept and at another where not.
struct Process {
  GilTrial trial;
  int64_t kept_ns;      // between calls
  int64_t given_up_ns;  // likewise
  uint64_t n_threads = 8;
  int64_t now_ns = 1'000'000'000;
  uint64_t calls = 0;

  // The share of calls in that many seconds that kept the lock.
  double run(double seconds) {
    const int64_t end_ns = now_ns + static_cast<int64_t>(seconds * 1e9);
    uint64_t kept = 0, total = 0;
    while (now_ns < end_ns) {
      const bool keeps = trial.keeps(now_ns, calls++ % n_threads + 1);
      kept += keeps;
      ++total;
      now_ns += keeps ? kept_ns : given_up_ns;
    }
    return static_cast<double>(kept) / static_cast<double>(total);
  }
};

}  // namespace

TEST(other_cores_help_so_it_is_given_up) {
  Process process{GilTrial(true), 30'000, 15'000};
  process.run(0.2);
  CHECK(process.run(10) < 0.03);
}

TEST(another_thread_computes_so_it_is_kept) {
  Process process{GilTrial(true), 30'000, 5'000'000};
  process.run(0.2);
  CHECK(process.run(10) > 0.99);
  Process longer{GilTrial(false), 120'000, 5'000'000};
  longer.run(0.5);
  CHECK(longer.run(10) > 0.99);
}

TEST(without_a_difference_the_preferred_way_is_taken) {
  Process process{GilTrial(true), 1'000'000, 1'000'000};
  CHECK(process.run(20) > 0.96);
  Process longer{GilTrial(false), 1'000'000, 1'000'000};
  longer.run(0.5);
  CHECK(longer.run(20) < 0.04);
}

TEST(a_change_is_noticed_within_seconds_both_ways) {
  Process process{GilTrial(true), 30'000, 15'000};
  process.run(10);
  process.given_up_ns = 5'000'000;  // another thread begins to compute
  process.kept_ns = 60'000;
  process.run(1);
  CHECK(process.run(5) > 0.98);
  process.given_up_ns = 15'000;
  process.kept_ns = 30'000;
  process.run(1);
  CHECK(process.run(5) < 0.02);
}

TEST(one_thread_keeps_it_and_company_is_tried_at_once) {
  Process process{GilTrial(false), 120'000, 60'000};
  process.n_threads = 1;
  process.run(0.1);
  CHECK(process.run(10) == 1.0);
  process.n_threads = 8;
  process.run(0.2);
  CHECK(process.run(1) < 0.15);  // trials of keeping it, at first often
}

TEST(rare_calls_are_not_compared) {
  Process process{GilTrial(true), 200'000'000, 1'000};
  CHECK(process.run(60) == 1.0);
}

RUN_TESTS()
