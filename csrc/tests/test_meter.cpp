// What is counted, by any number of threads, in parents and children; and the times of queued
// calls.
#include <sys/wait.h>
#include <unistd.h>

#include <map>

#include "fake.hpp"
#include "infersdk/meter.hpp"

using namespace fake;

namespace {

constexpr unsigned kChildLimit_s = 30;  // ends a child that hangs, by SIGALRM

struct Read {
  std::vector<int64_t> counts;
  uint64_t sum = 0;

  int64_t total() const {
    int64_t result = 0;
    for (int64_t count : counts) result += count;
    return result;
  }
};

template <typename Which>
Read read(const Which& histogram) {
  Read result;
  result.counts.resize(Which::kBuckets);
  result.sum = histogram.read(result.counts.data());
  return result;
}

// Of one value only, so that it is seen in which bucket it is.
template <typename Which>
bool holds(const Which& histogram, int64_t value, int64_t n = 1) {
  const Read seen = read(histogram);
  return seen.total() == n && seen.sum == static_cast<uint64_t>(value * n) &&
         seen.counts[Which::bucket(value)] == n;
}

std::map<std::string, uint64_t> names(const CallBlock& block) {
  std::map<std::string, uint64_t> result;
  for (const FailureCount& one : read_failures(block)) result[one.name] += one.count;
  return result;
}

template <typename Which>
void check_bounds() {
  int64_t before = 0;
  for (size_t i = 0; i < Which::kBounds; ++i) {
    const int64_t bound = Which::bound(i);
    CHECK(bound > before);
    CHECK(Which::bucket(bound) == i);
    CHECK(Which::bucket(bound + 1) == i + 1);
    // Beyond the first four, which are as wide as they are small.
    if (i >= 4) CHECK(4 * (bound - before) <= before);
    before = bound;
  }
  CHECK(Which::bucket(INT64_MAX) == Which::kBounds);
  CHECK(Which::bucket(0) == 0 && Which::bucket(-1) == 0 && Which::bucket(INT64_MIN) == 0);
}

bool ended_well(pid_t pid) {
  int status = 0;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

struct Held {
  Held() { hold_clock(); }
  ~Held() { release_clock(); }
};

CoalescerConfig metered(const std::shared_ptr<RunMeter>& meter) {
  CoalescerConfig config;
  config.meter = meter;
  return config;
}

}  // namespace

TEST(a_value_is_in_the_bucket_whose_bounds_hold_it) {
  check_bounds<TimeHistogram>();
  check_bounds<RowHistogram>();
  for (int64_t rows = 1; rows <= 8; ++rows)
    CHECK(RowHistogram::bound(RowHistogram::bucket(rows)) == rows);
  CHECK(TimeHistogram::bound(0) == 256);
  CHECK(TimeHistogram::bound(TimeHistogram::kBounds - 1) == INT64_C(1) << 37);
  CHECK(RowHistogram::bound(RowHistogram::kBounds - 1) == INT64_C(1) << 20);
}

TEST(zeros_are_an_empty_block) {
  alignas(64) static unsigned char memory[sizeof(CallBlock)];
  std::memset(memory, 0, sizeof(memory));
  CallBlock* block = reinterpret_cast<CallBlock*>(memory);
  CHECK(names(*block).empty() && read(block->call).total() == 0 && block->rows.load() == 0);
  block->call.record(300, Writers::kMany);
  block->failures.add_one("InputError");
  CHECK(holds(block->call, 300) && names(*block)["InputError"] == 1);
  CallMeter meter;
  CHECK(meter.current().head.version == BlockHead::kVersion);
  CHECK(meter.current().head.size_bytes == sizeof(CallBlock));
}

TEST(no_addition_is_lost_by_many_threads) {
  constexpr int kThreads = 8;
  constexpr int kCalls = 20'000;
  CallMeter calls;
  RunMeter runs;
  std::mutex lock;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kCalls; ++i) {
        if (i % 10 == 0) {
          calls.failed(i % 20 == 0 ? "InputError" : "DeadlineError");
        } else {
          calls.answered(1000, 2, Writers::kMany);
        }
        if (t % 2 == 0) {
          runs.ran(5000, 3, Writers::kMany);
        } else {
          // What has one writer at a time is guarded by a lock of theirs.
          std::lock_guard<std::mutex> guard(lock);
          runs.ran(7000, 1, Writers::kOne);
        }
        if (i % 1000 == 0) (void)read(runs.current().run[0]);  // at any time
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  constexpr int64_t kAll = int64_t{kThreads} * kCalls;
  CHECK(holds(calls.current().call, 1000, kAll * 9 / 10));
  CHECK(calls.current().rows.load() == static_cast<uint64_t>(kAll * 9 / 10 * 2));
  auto errors = names(calls.current());
  CHECK(errors.size() == 2);
  CHECK(errors["InputError"] == kAll / 20 && errors["DeadlineError"] == kAll / 20);
  CHECK(holds(runs.current().run[1], 5000, kAll / 2));
  CHECK(holds(runs.current().run[0], 7000, kAll / 2));
  CHECK(holds(runs.current().run_rows[1], 3, kAll / 2));
}

TEST(more_names_than_places_are_counted_as_other) {
  constexpr int kThreads = 8;
  constexpr int kEach = 500;
  constexpr int kNames = 40;
  CallMeter calls;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kEach * kNames; ++i) {
        calls.failed(("Error" + std::to_string(i % kNames)).c_str());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  uint64_t total = 0;
  const auto errors = names(calls.current());
  for (const auto& one : errors) total += one.second;
  CHECK(total == uint64_t{kThreads} * kEach * kNames);
  CHECK(errors.count("other") == 1 && errors.size() <= NamedCounts::kPlaces);
  const std::string name(100, 'x');
  CallMeter cut;
  cut.failed(name.c_str());
  cut.failed(name.c_str());
  CHECK(names(cut.current())[std::string(NamedCounts::kNameBytes - 1, 'x')] == 2);
}

TEST(switched_off_nothing_is_recorded_of_runs) {
  RunMeter runs;
  set_metering(false);
  runs.ran(1, 1, Writers::kMany);
  runs.waited(1);
  runs.batched(1);
  set_metering(true);
  CHECK(read(runs.current().run[1]).total() == 0 && read(runs.current().queue).total() == 0);
  CHECK(read(runs.current().batch).total() == 0);
}

TEST(a_child_begins_at_zero_and_its_parent_keeps_its_counts) {
  CallMeter calls;
  calls.answered(1000, 2, Writers::kMany);
  calls.failed("InputError");
  std::atomic<bool> over{false};
  // One that counts while the process is forked.
  std::thread other([&] {
    while (!over.load()) calls.answered(500, 1, Writers::kMany);
  });
  for (int i = 0; i < 5; ++i) {
    const pid_t pid = fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      alarm(kChildLimit_s);
      const bool empty = read(calls.current().call).total() == 0 && names(calls.current()).empty();
      calls.answered(3000, 7, Writers::kMany);
      calls.failed("SessionError");
      // A child of the child begins anew, too.
      const pid_t grandchild = fork();
      if (grandchild == 0) {
        alarm(kChildLimit_s);
        _exit(read(calls.current().call).total() == 0 ? 0 : 1);
      }
      _exit(empty && ended_well(grandchild) && holds(calls.current().call, 3000) &&
                    names(calls.current()).size() == 1 && calls.current().rows.load() == 7
                ? 0
                : 1);
    }
    CHECK(ended_well(pid));
  }
  over.store(true);
  other.join();
  const Read seen = read(calls.current().call);
  CHECK(seen.counts[TimeHistogram::bucket(1000)] == 1);
  CHECK(seen.counts[TimeHistogram::bucket(3000)] == 0);
  CHECK(names(calls.current())["InputError"] == 1 && names(calls.current()).size() == 1);
}

TEST(waits_and_batches_have_the_times_of_the_clock) {
  const Held held;
  auto meter = std::make_shared<RunMeter>();
  Rig rig(metered(meter));
  rig.fake().during_run = [] { advance_clock(4'000'000); };
  rig.fake().close();
  const RequestPtr first = request({1});
  REQUIRE(passed(rig.submit(first)));
  rig.fake().wait_for_runs(1);
  CHECK(holds(meter->current().queue, 0));
  // These two wait for it, and share the next run.
  const RequestPtr second = request({2, 3});
  const RequestPtr third = request({4});
  REQUIRE(passed(rig.submit(second)));
  advance_clock(1'000'000);
  REQUIRE(passed(rig.submit(third)));
  rig.fake().permit(2);
  for (const RequestPtr& one : {first, second, third}) {
    CHECK(passed(rig.wait(one)) && right(one));
  }
  const Read waits = read(meter->current().queue);
  CHECK(waits.total() == 3);
  CHECK(waits.counts[TimeHistogram::bucket(5'000'000)] == 1);
  CHECK(waits.counts[TimeHistogram::bucket(4'000'000)] == 1);
  CHECK(waits.sum == 9'000'000);
  // Of the first, a millisecond passed before it was let go.
  const Read batches = read(meter->current().batch);
  CHECK(batches.total() == 2 && batches.sum == 9'000'000);
  CHECK(second->taken_ns == third->taken_ns &&
        second->taken_ns == second->submitted_ns + 5'000'000);
  CHECK(second->batch_ended_ns == second->taken_ns + 4'000'000);
  CHECK(second->batch_ended_ns == third->batch_ended_ns);
}

TEST(each_call_waits_once_however_many_runs_it_takes) {
  auto meter = std::make_shared<RunMeter>();
  CoalescerConfig config = metered(meter);
  config.split_size = 4;
  config.max_batch_size = 4;
  Rig rig(config, {2});
  REQUIRE(rig.answers_right(request(range(0, 22))));
  rig.coalescer->drain();
  CHECK(read(meter->current().queue).total() == 1);
  CHECK(read(meter->current().batch).total() == 6);
  // One bad row among eight: its run is repeated in halves, and only those that end well count.
  Rig other(metered(meter));
  other.fake().close();
  std::vector<RequestPtr> calls = {request({0})};
  REQUIRE(passed(other.submit(calls[0])));
  other.fake().wait_for_runs(1);
  for (int64_t i = 1; i < 8; ++i) {
    calls.push_back(request({i == 3 ? bad(i) : i}));
    REQUIRE(passed(other.submit(calls.back())));
  }
  other.fake().open();
  for (const RequestPtr& one : calls) (void)other.wait(one);
  other.coalescer->drain();
  CHECK(read(meter->current().queue).total() == 9);
  CHECK(failed_with(calls[3], StatusCode::kRuntime));
}

TEST(what_leaves_the_queue_unrun_has_not_waited) {
  const Held held;
  auto meter = std::make_shared<RunMeter>();
  Rig rig(metered(meter));
  rig.fake().close();
  const RequestPtr first = request({1});
  REQUIRE(passed(rig.submit(first)));
  rig.fake().wait_for_runs(1);
  const RequestPtr late = request({2});
  late->deadline_ns = now_ns() + 1000;
  const RequestPtr taken_back = request({3});
  REQUIRE(passed(rig.submit(late)) && passed(rig.submit(taken_back)));
  CHECK(rig.coalescer->cancel(taken_back, StatusCode::kCancelled));
  advance_clock(2000);
  CHECK(rig.wait(late).code() == StatusCode::kDeadline);
  rig.fake().open();
  CHECK(passed(rig.wait(first)));
  rig.coalescer->drain();
  CHECK(read(meter->current().queue).total() == 1);
  CHECK(late->taken_ns == 0 && late->batch_ended_ns == 0);
}

RUN_TESTS()
