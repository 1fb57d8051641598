// Everything at once, for a while: threads and event loops with rows, lanes, priorities, deadlines,
// cancellations and failures drawn at random, over replicas of which one at a time is broken, under
// a load that comes and goes. Whatever happens, every answer is right, nothing is lost or answered
// twice, and the counts add up.
//
// INFERSDK_SOAK_S says for how many seconds; 3 without it.
#include <poll.h>
#include <unistd.h>

#include <cstdlib>

#include "fake.hpp"

using namespace fake;

namespace {

double soak_s() {
  const char* value = std::getenv("INFERSDK_SOAK_S");
  return value == nullptr ? 3 : std::atof(value);
}

// What has become of requests.
struct Counts {
  uint64_t submitted = 0;
  uint64_t answered = 0;
  uint64_t failed = 0;
  uint64_t refused = 0;
  uint64_t expired = 0;
  uint64_t cancelled = 0;
  uint64_t inline_runs = 0;
  uint64_t left_running = 0;  // by their callers; counted above too, by what became of them
  uint64_t wrong = 0;

  void add(const Counts& other) {
    submitted += other.submitted;
    answered += other.answered;
    failed += other.failed;
    refused += other.refused;
    expired += other.expired;
    cancelled += other.cancelled;
    inline_runs += other.inline_runs;
    left_running += other.left_running;
    wrong += other.wrong;
  }
  void print() const {
    std::printf(
        "  submitted %lu = answered %lu + failed %lu + refused %lu + expired %lu + cancelled "
        "%lu; inline %lu, left running %lu, wrong %lu\n",
        submitted, answered, failed, refused, expired, cancelled, inline_runs, left_running, wrong);
  }
};

bool is_poor(const Request& request) {
  const int64_t* x = static_cast<const int64_t*>(request.inputs[0].data.get());
  return std::any_of(x, x + request.n_rows, [](int64_t row) { return row < 0; });
}

// Counts a finished request, and looks at its answer.
void settle(const RequestPtr& request, Counts* counts) {
  switch (request->status.code()) {
    case StatusCode::kOk:
      ++counts->answered;
      if (!right(request) || is_poor(*request)) ++counts->wrong;
      break;
    case StatusCode::kRuntime:
      ++counts->failed;
      if (!is_poor(*request)) ++counts->wrong;
      break;
    case StatusCode::kDeadline:
      ++counts->expired;
      if (request->deadline_ns == 0) ++counts->wrong;
      break;
    case StatusCode::kCancelled:
    case StatusCode::kInterrupted:
      ++counts->cancelled;
      break;
    default:
      ++counts->wrong;
  }
}

// Whether it was refused, and counts that.
bool refused(const Status& status, const RequestPtr& request, Counts* counts) {
  if (status.ok()) return false;
  if (status.code() == StatusCode::kOverloaded) {
    ++counts->refused;
    if (request->retry_after_ns <= 0) ++counts->wrong;
  } else if (status.code() == StatusCode::kDeadline) {
    ++counts->expired;
  } else {
    ++counts->wrong;
  }
  if (request->finished()) ++counts->wrong;
  return true;
}

RequestPtr draw(Random& random, int64_t* next) {
  size_t n_rows = 1 + (random.one_in(4) ? random.below(6) : 0);
  if (random.one_in(40)) n_rows = 1 + random.below(60);
  Rows rows = range(*next, n_rows);
  *next += static_cast<int64_t>(n_rows);
  if (random.one_in(60)) {
    int64_t& row = rows[random.below(n_rows)];
    row = bad(row);
  }
  const RequestPtr result =
      request(rows, static_cast<int64_t>(random.below(3)), static_cast<int>(random.below(3)) - 1);
  if (random.one_in(5)) {
    // From what has passed already to what is never reached, by powers of two from 1 us.
    const int64_t left_ns = random.one_in(20) ? -1 : INT64_C(1000) << random.below(20);
    result->deadline_ns = now_ns() + left_ns;
  }
  return result;
}

// Half of the callers come and go.
class Load {
 public:
  bool over() const { return over_.load(); }
  void await_turn(int thread) {
    if (thread % 2 == 0) return;
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [&] { return high_ || over_.load(); });
  }
  void set(bool high) {
    std::lock_guard<std::mutex> lock(mutex_);
    high_ = high;
    changed_.notify_all();
  }
  void end() {
    std::lock_guard<std::mutex> lock(mutex_);
    over_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool high_ = true;
  std::atomic<bool> over_{false};
};

// How far every caller is: two steps of all of them, and all that was under way before is over.
using Steps = std::vector<std::atomic<uint64_t>>;

// Calls and waits, as a web app's threads do.
void call(Rig& rig, Load& load, int thread, std::atomic<uint64_t>* steps, Counts* counts) {
  Random random(static_cast<uint64_t>(thread) + 1);
  int64_t next = static_cast<int64_t>(thread) << 40;
  std::vector<RequestPtr> left;  // by this caller, and still running
  while (!load.over()) {
    load.await_turn(thread);
    ++*steps;
    const RequestPtr own = draw(random, &next);
    ++counts->submitted;
    if (!is_poor(*own) && random.one_in(2)) {
      const Coalescer::Slot slot = rig.coalescer->begin();
      if (slot.replica >= 0) {
        const Piece piece{own, 0, own->n_rows};
        Fake& fake = *rig.fakes[static_cast<size_t>(slot.replica)];
        const bool ran = fake.run(&piece, 1).ok();
        rig.coalescer->end(slot);
        if (ran) {
          ++counts->inline_runs;
          continue;
        }
        // The replica is broken: the queue knows of others.
      }
    }
    if (refused(rig.submit(own), own, counts)) {
      std::this_thread::yield();
      continue;
    }
    if (random.one_in(12)) {
      if (rig.coalescer->cancel(own, StatusCode::kCancelled)) {
        if (!failed_with(own, StatusCode::kCancelled)) ++counts->wrong;
        ++counts->cancelled;
        continue;
      }
    }
    struct Impatience {
      int calls_left;
      static int check(void* context) {
        return --static_cast<Impatience*>(context)->calls_left == 0;
      }
    } impatience{1 + static_cast<int>(random.below(3))};
    Status status =
        random.one_in(3) ? rig.coalescer->wait(own, Impatience::check, &impatience) : rig.wait(own);
    if (own->finished()) {
      if (own->status.code() != status.code() && status.code() != StatusCode::kInterrupted &&
          status.code() != StatusCode::kDeadline) {
        ++counts->wrong;
      }
      settle(own, counts);
    } else {
      if (status.code() != StatusCode::kInterrupted && status.code() != StatusCode::kDeadline) {
        ++counts->wrong;
      }
      ++counts->left_running;
      left.push_back(own);
    }
  }
  rig.coalescer->drain();
  for (const RequestPtr& each : left) {
    if (each->finished()) {
      settle(each, counts);
    } else {
      ++counts->wrong;  // lost
    }
  }
}

// Keeps up to 64 calls in flight on one descriptor, as an event loop does.
void loop(Rig& rig, Load& load, int thread, std::atomic<uint64_t>* steps, Counts* counts) {
  Random random(static_cast<uint64_t>(thread) + 1);
  int64_t next = static_cast<int64_t>(thread) << 40;
  std::shared_ptr<Notifier> notifier;
  REQUIRE(passed(Notifier::create(&notifier)));
  std::vector<RequestPtr> in_flight(64);  // by ticket
  size_t n_in_flight = 0;
  while (!load.over() || n_in_flight > 0) {
    ++*steps;
    for (size_t ticket = 0; ticket < in_flight.size() && !load.over(); ++ticket) {
      if (in_flight[ticket] != nullptr) {
        // An asyncio task that is cancelled: its request is heard of all the same.
        if (random.one_in(400)) {
          (void)rig.coalescer->cancel(in_flight[ticket], StatusCode::kCancelled);
        }
        continue;
      }
      const RequestPtr own = draw(random, &next);
      own->notifier = notifier;
      own->ticket = ticket;
      ++counts->submitted;
      if (refused(rig.submit(own), own, counts)) break;
      in_flight[ticket] = own;
      ++n_in_flight;
    }
    if (n_in_flight == 0) continue;
    pollfd descriptor{notifier->fd(), POLLIN, 0};
    REQUIRE(poll(&descriptor, 1, -1) == 1);  // for ever, if one was lost
    std::vector<RequestPtr> drained;
    notifier->drain(&drained);
    const int64_t now = now_ns();
    for (const RequestPtr& each : drained) {
      if (each->ticket >= in_flight.size() || in_flight[each->ticket] != each) {
        ++counts->wrong;  // twice
        continue;
      }
      in_flight[each->ticket].reset();
      --n_in_flight;
      rig.coalescer->record_answer(*each, now);
      settle(each, counts);
    }
  }
}

void soak(CoalescerConfig config, const std::vector<size_t>& concurrency, bool breaking,
          double seconds) {
  constexpr int kCallers = 10;
  constexpr int kLoops = 2;
  config.first_probe_ns = 1'000'000;
  Rig rig(config, concurrency, false);
  for (auto& fake : rig.fakes) {
    fake->during_run = [] {
      thread_local Random random(static_cast<uint64_t>(now_ns()));
      // Mostly short, and now and then long enough for its callers to leave.
      const size_t most_ns = random.one_in(200) ? 60'000'000 : 40'000;
      const int64_t until = now_ns() + static_cast<int64_t>(random.below(most_ns));
      while (now_ns() < until) std::this_thread::yield();
    };
  }
  Load load;
  std::vector<Counts> counts(kCallers + kLoops);
  Steps steps(kCallers + kLoops);
  const int64_t end_ns = now_ns() + static_cast<int64_t>(seconds * 1e9);
  in_threads(kCallers + kLoops + 1, [&](int thread) {
    const size_t own = static_cast<size_t>(thread);
    if (thread < kCallers) {
      call(rig, load, thread, &steps[own], &counts[own]);
    } else if (thread < kCallers + kLoops) {
      loop(rig, load, thread, &steps[own], &counts[own]);
    } else {
      for (size_t round = 0; now_ns() < end_ns; ++round) {
        load.set(round % 2 == 0);
        Fake& broken = *rig.fakes[round % rig.fakes.size()];
        broken.failing = breaking;
        const int runs = broken.n_runs() + 200;
        while (now_ns() < end_ns && broken.n_runs() < runs && breaking) std::this_thread::yield();
        broken.failing = false;
        // What it has failed may still be on its way to another one.
        load.set(true);
        std::vector<uint64_t> seen;
        for (const auto& step : steps) seen.push_back(step.load());
        for (size_t i = 0; i < steps.size(); ++i) {
          while (now_ns() < end_ns && steps[i].load() < seen[i] + 2) std::this_thread::yield();
        }
      }
      load.end();
    }
  });
  rig.coalescer->drain();
  Counts all;
  for (const Counts& each : counts) all.add(each);
  all.print();
  const CoalescerStats stats = rig.coalescer->stats();
  CHECK(all.wrong == 0);
  CHECK(all.submitted ==
        all.answered + all.inline_runs + all.failed + all.refused + all.expired + all.cancelled);
  CHECK(stats.failed == all.failed && stats.refused == all.refused);
  CHECK(stats.expired + stats.cancelled == all.expired + all.cancelled);
  CHECK(stats.queued_rows == 0 && stats.running == 0);
  CHECK(stats.largest_batch <= config.max_batch_size || config.split_size == 0);
  CHECK(all.answered > 0 && all.failed > 0 && all.cancelled > 0 && all.expired > 0);
  rig.coalescer->stop();
}

}  // namespace

TEST(one_replica) {
  CoalescerConfig config;
  config.max_batch_size = 16;
  config.split_size = 16;
  config.max_queue_size = 150;
  soak(config, {1}, false, soak_s() / 3);
}

TEST(replicas_that_break) {
  CoalescerConfig config;
  config.max_batch_size = 8;
  config.split_size = 5;
  config.max_queue_size = 400;
  soak(config, {1, 2, 1}, true, soak_s() / 3);
}

TEST(nothing_is_merged_or_split) {
  CoalescerConfig config;
  config.merge = false;
  config.max_queue_bytes = 2000;
  soak(config, {3}, false, soak_s() / 3);
}

RUN_TESTS()
