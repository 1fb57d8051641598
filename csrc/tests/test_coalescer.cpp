// The Coalescer's queue: who runs with whom, in which order, and what becomes of those that are
// refused, dropped, cancelled, cut into pieces or unlucky. Replicas, forks and load have programs
// of their own.
#include <poll.h>
#include <unistd.h>

#include "fake.hpp"

using namespace fake;

namespace {

CoalescerConfig batches_of(size_t max_batch_size) {
  CoalescerConfig config;
  config.max_batch_size = max_batch_size;
  return config;
}

CoalescerConfig pieces_of(size_t split_size, size_t max_batch_size = 32) {
  CoalescerConfig config = batches_of(max_batch_size);
  config.split_size = split_size;
  return config;
}

// Submits all of them while every replica is busy, and waits until they are answered.
void run_all(Rig& rig, const std::vector<RequestPtr>& requests) {
  Busy busy(rig);
  for (const RequestPtr& request : requests) REQUIRE(passed(rig.submit(request)));
  busy.release();
  for (const RequestPtr& request : requests) (void)rig.wait(request);
}

bool all_right(const std::vector<RequestPtr>& requests) {
  return std::all_of(requests.begin(), requests.end(), right);
}

// A check that asks to stop when it has been asked that often.
struct StopAfter {
  int calls_left;
  static int check(void* context) { return --static_cast<StopAfter*>(context)->calls_left <= 0; }
};

}  // namespace

// ---- idle -----------------------------------------------------------------------------------

TEST(an_idle_replica_is_given_to_its_caller) {
  Rig rig({}, {2});
  const Coalescer::Slot first = rig.coalescer->begin();
  const Coalescer::Slot second = rig.coalescer->begin();
  CHECK(first.replica == 0 && second.replica == 0);
  const Coalescer::Slot none = rig.coalescer->begin();
  CHECK(none.replica == -1);
  rig.coalescer->end(none);
  CHECK(rig.coalescer->stats().running == 2);
  rig.coalescer->end(first);
  const Coalescer::Slot third = rig.coalescer->begin();
  CHECK(third.replica == 0);
  rig.coalescer->end(second);
  rig.coalescer->end(third);
  const CoalescerStats stats = rig.coalescer->stats();
  CHECK(stats.running == 0 && stats.inline_runs == 3 && stats.batches == 0);
}

TEST(nobody_runs_ahead_of_what_waits) {
  Rig rig({}, {2});
  Coalescer::Slot first = rig.coalescer->begin();
  Coalescer::Slot second = rig.coalescer->begin();
  rig.fake().close();
  const RequestPtr one = request({1});
  const RequestPtr two = request({2}, 1);
  const RequestPtr three = request({3}, 2);
  for (const RequestPtr& each : {one, two, three}) REQUIRE(passed(rig.submit(each)));
  rig.coalescer->end(first);
  rig.fake().wait_for_runs(1);
  // One is run, two and three wait for the second slot.
  CHECK(rig.coalescer->begin().replica == -1);
  rig.coalescer->end(second);
  rig.fake().wait_for_runs(2);
  CHECK(rig.coalescer->begin().replica == -1);
  rig.fake().open();
  for (const RequestPtr& each : {one, two, three}) CHECK(passed(rig.wait(each)) && right(each));
}

TEST(no_more_runs_than_the_replica_allows) {
  Rig rig(batches_of(2), {3});
  in_threads(8, [&](int thread) {
    for (int64_t i = 0; i < 150; ++i) {
      const RequestPtr own = request({i}, thread % 4);
      const Coalescer::Slot slot = rig.coalescer->begin();
      if (slot.replica >= 0) {
        const Piece piece{own, 0, 1};
        CHECK(rig.fake().run(&piece, 1).ok());
        rig.coalescer->end(slot);
      } else {
        CHECK(rig.answers_right(own));
      }
    }
  });
  rig.coalescer->drain();
  CHECK(rig.fake().most_active() <= 3);
  const CoalescerStats stats = rig.coalescer->stats();
  CHECK(stats.inline_runs + stats.batched_rows == 8 * 150);
}

TEST(a_caller_in_company_queues_although_a_replica_is_idle) {
  Rig rig({}, {2});
  auto n_slots = [&] {
    rig.coalescer->drain();
    const Coalescer::Slot slots[] = {rig.coalescer->begin(), rig.coalescer->begin()};
    int n = 0;
    for (const Coalescer::Slot& slot : slots) n += slot.replica >= 0;
    for (const Coalescer::Slot& slot : slots) rig.coalescer->end(slot);
    return n;
  };
  CHECK(n_slots() == 2);
  std::vector<RequestPtr> requests;
  for (int64_t i = 0; i < 8; ++i) requests.push_back(request({i}));
  run_all(rig, requests);
  CHECK(rig.fake().n_runs() == 1);
  CHECK(n_slots() == 1);
  for (int i = 0; i < 20; ++i) CHECK(rig.answers_right(request({i})));
  CHECK(n_slots() == 2);
}

TEST(every_slot_is_used_when_different_lanes_wait) {
  // One notification is all that the threads get for a burst.
  for (int round = 0; round < 20; ++round) {
    Rig rig({}, {3});
    rig.fake().close();
    std::vector<RequestPtr> requests;
    {
      Busy busy(rig);
      for (int64_t i = 0; i < 3; ++i) {
        requests.push_back(request({i}, i));
        REQUIRE(passed(rig.submit(requests.back())));
      }
    }
    rig.fake().wait_for_runs(3);
    rig.fake().open();
    for (const RequestPtr& each : requests) CHECK(passed(rig.wait(each)) && right(each));
  }
}

// ---- batches --------------------------------------------------------------------------------

TEST(what_waits_becomes_one_batch) {
  Rig rig;
  const std::vector<RequestPtr> requests = {request({1}), request({2, 3}), request({4})};
  run_all(rig, requests);
  CHECK(all_right(requests));
  CHECK((rig.fake().runs() == std::vector<Rows>{{1, 2, 3, 4}}));
  const CoalescerStats stats = rig.coalescer->stats();
  CHECK(stats.batches == 1 && stats.batched_rows == 4 && stats.largest_batch == 4);
  CHECK(stats.queued_rows == 0);
}

TEST(a_batch_has_at_most_so_many_rows_in_the_order_they_came) {
  Rig rig(batches_of(4));
  const std::vector<RequestPtr> requests = {
      request({1}),          request({2, 3}), request({4, 5}),       request({6}),
      request(range(10, 5)), request({20}),   request({21, 22, 23}), request({24})};
  run_all(rig, requests);
  CHECK(all_right(requests));
  CHECK((rig.fake().runs() == std::vector<Rows>{{1, 2, 3},
                                                {4, 5, 6},
                                                {10, 11, 12, 13, 14},  // more than a batch: alone
                                                {20, 21, 22, 23},
                                                {24}}));
}

TEST(lanes_are_never_mixed_and_the_oldest_head_goes_first) {
  Rig rig;
  const std::vector<RequestPtr> requests = {request({1}, 7), request({2}, 5), request({3}, 7),
                                            request({4}, 6), request({5}, 5)};
  run_all(rig, requests);
  CHECK(all_right(requests));
  CHECK((rig.fake().runs() == std::vector<Rows>{{1, 3}, {2, 5}, {4}}));

  Rig single(batches_of(1));
  const std::vector<RequestPtr> others = {request({1}, 7), request({2}, 5), request({3}, 7),
                                          request({4}, 6), request({5}, 5)};
  run_all(single, others);
  CHECK((single.fake().runs() == std::vector<Rows>{{1}, {2}, {3}, {4}, {5}}));
}

TEST(higher_priorities_go_first) {
  Rig rig(batches_of(2));
  const std::vector<RequestPtr> requests = {request({1}, 0, 0),  request({2}, 0, 2),
                                            request({3}, 0, 1),  request({4}, 0, 2),
                                            request({5}, 9, -1), request({6}, 8, 1)};
  run_all(rig, requests);
  CHECK(all_right(requests));
  CHECK((rig.fake().runs() == std::vector<Rows>{{2, 4}, {3, 1}, {6}, {5}}));
}

TEST(without_merging_each_runs_alone) {
  CoalescerConfig config;
  config.merge = false;
  Rig rig(config);
  const std::vector<RequestPtr> requests = {request({1}), request({2, 3}), request({4})};
  run_all(rig, requests);
  CHECK(all_right(requests));
  CHECK((rig.fake().runs() == std::vector<Rows>{{1}, {2, 3}, {4}}));
}

TEST(a_request_without_rows_is_answered_too) {
  Rig rig;
  const std::vector<RequestPtr> requests = {request({1}), request({}), request({2})};
  run_all(rig, requests);
  CHECK(all_right(requests));
  const RequestPtr alone = request({});
  CHECK(rig.answers_right(alone));
  rig.coalescer->drain();
  CHECK(rig.coalescer->stats().queued_rows == 0);
}

TEST(what_waits_is_taken_by_the_latest_rule) {
  Rig rig(batches_of(2));
  const std::vector<RequestPtr> requests = {request({1}), request({2}), request({3}),
                                            request(range(10, 6))};
  {
    Busy busy(rig);
    for (const RequestPtr& each : requests) REQUIRE(passed(rig.submit(each)));
    rig.coalescer->reconfigure(true, 4, 4);
  }
  for (const RequestPtr& each : requests) CHECK(passed(rig.wait(each)) && right(each));
  CHECK((rig.fake().runs() == std::vector<Rows>{{1, 2, 3}, {10, 11, 12, 13}, {14, 15}}));
  rig.coalescer->reconfigure(false, 4, 0);
  const std::vector<RequestPtr> others = {request({1}), request(range(10, 6))};
  run_all(rig, others);
  CHECK(all_right(others) && rig.fake().runs().at(4) == range(10, 6));

  // Also of a request of which the first piece has been taken.
  Rig cut(pieces_of(4));
  cut.fake().close();
  const RequestPtr large = request(range(0, 10));
  REQUIRE(passed(cut.submit(large)));
  cut.fake().wait_for_runs(1);
  cut.coalescer->reconfigure(true, 32, 0);
  cut.fake().open();
  CHECK(passed(cut.wait(large)) && right(large));
  CHECK((cut.fake().runs() == std::vector<Rows>{range(0, 4), range(4, 6)}));
}

// ---- pieces ---------------------------------------------------------------------------------

TEST(pieces_of_a_large_request_run_side_by_side) {
  Rig rig(pieces_of(4), {3});
  rig.fake().close();
  const RequestPtr large = request(range(0, 10));
  REQUIRE(passed(rig.submit(large)));
  rig.fake().wait_for_runs(3);  // all of them before the first has ended
  CHECK(!large->finished());
  rig.fake().permit(2);
  rig.fake().open();
  CHECK(passed(rig.wait(large)) && right(large));
  std::vector<Rows> runs = rig.fake().runs();
  std::sort(runs.begin(), runs.end());
  CHECK((runs == std::vector<Rows>{{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9}}));
}

TEST(the_last_piece_has_company) {
  Rig rig(pieces_of(4, 8));
  const std::vector<RequestPtr> requests = {request(range(0, 6)), request({10}),
                                            request(range(20, 4)), request({30})};
  run_all(rig, requests);
  CHECK(all_right(requests));
  CHECK((rig.fake().runs() == std::vector<Rows>{{0, 1, 2, 3}, {4, 5, 10, 20, 21, 22, 23, 30}}));
}

TEST(every_row_is_run_once_whatever_the_cuts) {
  Random random(1);
  for (int round = 0; round < 60; ++round) {
    CoalescerConfig config = pieces_of(random.below(6), 1 + random.below(12));
    config.merge = !random.one_in(4);
    Rig rig(config, {1 + random.below(3)});
    std::vector<RequestPtr> requests;
    int64_t next = 0;
    for (size_t i = 0; i < 20; ++i) {
      const size_t n = random.below(14);
      requests.push_back(request(range(next, n), static_cast<int64_t>(random.below(2)),
                                 static_cast<int>(random.below(2))));
      next += static_cast<int64_t>(n);
    }
    run_all(rig, requests);
    CHECK(all_right(requests));
    Rows rows;
    for (const Rows& run : rig.fake().runs()) rows.insert(rows.end(), run.begin(), run.end());
    std::sort(rows.begin(), rows.end());
    CHECK(rows == range(0, static_cast<size_t>(next)));
  }
}

TEST(a_partly_taken_request_can_be_cancelled) {
  Rig rig(pieces_of(4));
  rig.fake().close();
  const RequestPtr large = request(range(0, 10));
  REQUIRE(passed(rig.submit(large)));
  rig.fake().wait_for_runs(1);
  CHECK(!rig.coalescer->cancel(large, StatusCode::kCancelled));  // its first rows are running
  CHECK(!large->finished());
  CHECK(!rig.coalescer->cancel(large, StatusCode::kCancelled));
  rig.fake().open();
  CHECK(rig.wait(large).code() == StatusCode::kCancelled);
  rig.coalescer->drain();
  CHECK(rig.fake().n_runs() == 1);
  const CoalescerStats stats = rig.coalescer->stats();
  CHECK(stats.cancelled == 1 && stats.queued_rows == 0);
  CHECK(rig.answers_right(request({1})));
}

TEST(a_bad_piece_fails_its_request_and_takes_the_rest_out) {
  Rig rig(pieces_of(4));
  Rows rows = range(0, 20);
  rows[5] = bad(5);
  const std::vector<RequestPtr> requests = {request(rows), request({30})};
  run_all(rig, requests);
  CHECK(failed_with(requests[0], StatusCode::kRuntime));
  CHECK(right(requests[1]));
  // The first two pieces, and the other request: what is left of the first is not run.
  CHECK(rig.fake().n_runs() == 3);
  const CoalescerStats stats = rig.coalescer->stats();
  CHECK(stats.failed == 1 && stats.queued_rows == 0);
}

TEST(a_failed_request_is_finished_when_its_last_piece_is) {
  // Its inputs and outputs are in use until then.
  Rig rig(pieces_of(4), {3});
  rig.fake().close();
  Rows rows = range(0, 12);
  for (int64_t& row : rows) row = bad(row);
  const RequestPtr large = request(rows);
  REQUIRE(passed(rig.submit(large)));
  rig.fake().wait_for_runs(3);
  rig.fake().permit(2);
  while (rig.coalescer->stats().running > 1) std::this_thread::yield();
  CHECK(rig.coalescer->stats().failed == 1);
  CHECK(!large->finished());
  rig.fake().open();
  CHECK(rig.wait(large).code() == StatusCode::kRuntime);
  CHECK(rig.coalescer->stats().failed == 1);
}

// ---- bounds ---------------------------------------------------------------------------------

TEST(a_full_queue_refuses_by_rows) {
  CoalescerConfig config;
  config.max_queue_size = 4;
  Rig rig(config);
  Busy busy(rig);
  const std::vector<RequestPtr> taken = {request({1, 2}), request({3, 4})};
  for (const RequestPtr& each : taken) REQUIRE(passed(rig.submit(each)));
  const RequestPtr refused = request({5});
  Status status = rig.submit(refused);
  CHECK(status.code() == StatusCode::kOverloaded);
  CHECK(status.message().find("4 rows wait") != std::string::npos);
  CHECK(refused->retry_after_ns > 0 && !refused->finished());
  CHECK(rig.coalescer->stats().refused == 1 && rig.coalescer->stats().queued_rows == 4);
  CHECK(rig.coalescer->cancel(taken[1], StatusCode::kCancelled));
  const RequestPtr next = request({6, 7});
  CHECK(passed(rig.submit(next)));
  busy.release();
  CHECK(passed(rig.wait(taken[0])) && passed(rig.wait(next)));
  CHECK((rig.fake().runs() == std::vector<Rows>{{1, 2, 6, 7}}));
}

TEST(a_full_queue_refuses_by_bytes) {
  CoalescerConfig config;
  config.max_queue_bytes = 4 * sizeof(int64_t);
  Rig rig(config);
  Busy busy(rig);
  const RequestPtr taken = request({1, 2, 3});
  REQUIRE(passed(rig.submit(taken)));
  const RequestPtr refused = request({4, 5});
  Status status = rig.submit(refused);
  CHECK(status.code() == StatusCode::kOverloaded);
  CHECK(status.message().find("24 bytes wait") != std::string::npos);
  CHECK(refused->retry_after_ns > 0);
  const RequestPtr small = request({6});
  CHECK(passed(rig.submit(small)));
  busy.release();
  CHECK(passed(rig.wait(taken)) && passed(rig.wait(small)) && right(small));
  // What has been taken waits no longer.
  const std::vector<RequestPtr> next = {request({7, 8, 9}), request({10})};
  run_all(rig, next);
  CHECK(all_right(next));
}

TEST(a_request_larger_than_the_queue_is_taken_when_nothing_waits) {
  CoalescerConfig config;
  config.max_queue_size = 4;
  config.max_queue_bytes = 32;
  Rig rig(config);
  CHECK(rig.answers_right(request(range(0, 10))));
  Busy busy(rig);
  const RequestPtr large = request(range(0, 100));
  CHECK(passed(rig.submit(large)));
  CHECK(rig.submit(request({1})).code() == StatusCode::kOverloaded);
  busy.release();
  CHECK(passed(rig.wait(large)) && right(large));
  CHECK(rig.answers_right(request({1})));
}

// ---- deadlines ------------------------------------------------------------------------------

TEST(a_deadline_that_has_passed_is_refused_at_once) {
  Rig rig;
  const RequestPtr late = request({1});
  late->deadline_ns = now_ns() - 1;
  CHECK(rig.submit(late).code() == StatusCode::kDeadline);
  CHECK(rig.coalescer->stats().expired == 1 && rig.fake().n_runs() == 0);
}

TEST(a_deadline_that_cannot_be_met_is_refused_while_busy) {
  Rig rig;
  Busy busy(rig);
  const RequestPtr unknown = request({1});
  unknown->deadline_ns = now_ns() + 60 * kSecond_ns;
  CHECK(passed(rig.submit(unknown)));  // nothing is known of the run time yet
  rig.cost->set(CostModel::bucket(1), 100 * kSecond_ns);
  const RequestPtr late = request({2});
  late->deadline_ns = now_ns() + 60 * kSecond_ns;
  CHECK(rig.submit(late).code() == StatusCode::kOverloaded);
  CHECK(late->retry_after_ns > 30 * kSecond_ns && late->retry_after_ns < 10000 * kSecond_ns);
  const RequestPtr patient = request({3});
  patient->deadline_ns = now_ns() + 10 * kHour_ns;
  CHECK(passed(rig.submit(patient)));
  CHECK(rig.coalescer->stats().refused == 1);
}

TEST(the_estimate_counts_what_waits_ahead) {
  Rig rig(batches_of(1));
  rig.cost->set(CostModel::bucket(1), kSecond_ns);
  Busy busy(rig);
  // Hours, so that the test's own time is nothing: a queue of 3600 is an hour.
  size_t accepted = 0;
  RequestPtr next;
  do {
    next = request({1});
    next->deadline_ns = now_ns() + kHour_ns;
    ++accepted;
  } while (rig.submit(next).ok() && accepted < 5000);
  CHECK(accepted > 3300 && accepted < 3700);
  const RequestPtr urgent = request({1}, 0, 1);
  urgent->deadline_ns = now_ns() + kHour_ns;
  CHECK(passed(rig.submit(urgent)));  // nothing of its priority waits
  const RequestPtr least = request({1}, 0, -1);
  least->deadline_ns = now_ns() + kHour_ns;
  CHECK(rig.submit(least).code() == StatusCode::kOverloaded);
  rig.coalescer->stop();
  busy.release();
}

TEST(the_estimate_knows_that_batches_are_shared) {
  Rig rig(batches_of(32));
  for (size_t bucket = 0; bucket < 6; ++bucket) rig.cost->set(bucket, kSecond_ns);
  Busy busy(rig);
  // A batch of 32 takes as long as one row: a thousand seconds are enough for 32000 rows.
  size_t accepted = 0;
  RequestPtr next;
  do {
    next = request({1});
    next->deadline_ns = now_ns() + 1000 * kSecond_ns;
    ++accepted;
  } while (rig.submit(next).ok() && accepted < 4000);
  CHECK(accepted == 4000);
  const RequestPtr hurried = request({1});
  hurried->deadline_ns = now_ns() + 60 * kSecond_ns;
  CHECK(rig.submit(hurried).code() == StatusCode::kOverloaded);
  rig.coalescer->stop();
  busy.release();
}

TEST(estimates_that_were_too_short_are_corrected_until_that_is_forgotten) {
  Rig rig;
  rig.cost->set(CostModel::bucket(1), 1000);
  Busy busy(rig);
  auto is_taken = [&] {
    const RequestPtr hurried = request({1});
    hurried->deadline_ns = now_ns() + 60 * kSecond_ns;
    Status status = rig.submit(hurried);
    CHECK(status.ok() || status.code() == StatusCode::kOverloaded);
    return status.ok();
  };
  const RequestPtr before = request({1});
  CHECK(passed(rig.submit(before)));
  for (int i = 0; i < 100; ++i) {
    rig.coalescer->record_answer(*before, before->submitted_ns + before->expected_ns);
  }
  CHECK(is_taken());
  for (int i = 0; i < 100; ++i) {
    rig.coalescer->record_answer(*before, before->submitted_ns + kHour_ns);
  }
  CHECK(!is_taken());
  // What is refused is never recorded: without forgetting, all would be refused for ever.
  int n_refused = 0;
  while (n_refused < 10000 && !is_taken()) ++n_refused;
  CHECK(n_refused > 100 && n_refused < 10000);
}

TEST(an_idle_replica_refuses_nobody_and_corrects_the_estimate) {
  Rig rig;
  rig.cost->set(CostModel::bucket(1), kHour_ns);
  for (int i = 0; i < 3; ++i) {
    const RequestPtr hurried = request({i});
    hurried->deadline_ns = now_ns() + 60 * kSecond_ns;
    CHECK(rig.answers_right(hurried));
    rig.coalescer->drain();
  }
  CHECK(rig.cost->measured_ns(CostModel::bucket(1)) < kHour_ns);
}

TEST(what_has_expired_is_dropped_unrun) {
  Rig rig;
  Busy busy(rig);
  const RequestPtr late = request({1});
  const RequestPtr other = request({2});
  late->deadline_ns = now_ns() + 1'000'000;
  Status status = rig.submit(late);
  if (status.code() == StatusCode::kDeadline) return;  // a slow machine
  REQUIRE(passed(status));
  REQUIRE(passed(rig.submit(other)));
  while (now_ns() <= late->deadline_ns) std::this_thread::yield();
  busy.release();
  CHECK(passed(rig.wait(other)));
  rig.coalescer->drain();
  CHECK(failed_with(late, StatusCode::kDeadline));
  CHECK((rig.fake().runs() == std::vector<Rows>{{2}}));
  CHECK(rig.coalescer->stats().expired == 1);
}

TEST(what_would_come_too_late_gives_way_to_others) {
  Rig rig(batches_of(1));
  Busy busy(rig);
  const RequestPtr late = request({1});
  late->deadline_ns = now_ns() + 60 * kSecond_ns;
  const RequestPtr other = request({2});
  REQUIRE(passed(rig.submit(late)));
  REQUIRE(passed(rig.submit(other)));
  rig.cost->set(CostModel::bucket(1), kHour_ns);
  busy.release();
  CHECK(passed(rig.wait(other)) && right(other));
  CHECK(rig.wait(late).code() == StatusCode::kDeadline);
  CHECK((rig.fake().runs() == std::vector<Rows>{{2}}));
}

TEST(a_large_request_is_as_late_as_its_next_piece) {
  Rig rig(pieces_of(4));
  Busy busy(rig);
  const RequestPtr large = request(range(0, 64));
  large->deadline_ns = now_ns() + 60 * kSecond_ns;
  const RequestPtr other = request({100});
  REQUIRE(passed(rig.submit(large)));
  REQUIRE(passed(rig.submit(other)));
  rig.cost->set(CostModel::bucket(4), 1000);
  rig.cost->set(CostModel::bucket(64), kHour_ns);
  busy.release();
  CHECK(passed(rig.wait(large)) && right(large));
  CHECK(passed(rig.wait(other)) && right(other));
}

TEST(drain_hears_of_what_was_dropped) {
  Rig rig;
  Busy busy(rig);
  const RequestPtr late = request({1});
  late->deadline_ns = now_ns() + 20'000'000;
  Status status = rig.submit(late);
  if (status.code() == StatusCode::kDeadline) return;  // a slow machine
  REQUIRE(passed(status));
  std::thread drainer([&] { rig.coalescer->drain(); });
  while (now_ns() <= late->deadline_ns) std::this_thread::yield();
  busy.release();
  drainer.join();
  CHECK(failed_with(late, StatusCode::kDeadline));
}

TEST(a_waiting_caller_leaves_at_its_deadline) {
  Rig rig;
  Busy busy(rig);
  const RequestPtr late = request({1});
  late->deadline_ns = now_ns() + 20'000'000;
  Status status = rig.submit(late);
  if (status.ok()) status = rig.wait(late);
  CHECK(status.code() == StatusCode::kDeadline && now_ns() >= late->deadline_ns);
  CHECK(rig.coalescer->stats().expired == 1 && rig.coalescer->stats().queued_rows == 0);
  busy.release();
  rig.coalescer->drain();
  CHECK(rig.fake().n_runs() == 0);
}

TEST(a_running_call_is_left_at_its_deadline) {
  Rig rig;
  rig.fake().close();
  const RequestPtr slow = request({1});
  REQUIRE(passed(rig.submit(slow)));
  rig.fake().wait_for_runs(1);
  slow->deadline_ns = now_ns() + 1'000'000;  // from here on only its caller looks at it
  Status status = rig.wait(slow);
  CHECK(status.code() == StatusCode::kDeadline && status.message() == "still running");
  CHECK(!slow->finished());
  rig.fake().open();
  rig.coalescer->drain();
  CHECK(right(slow));  // the run went on, into memory that is still there
}

// ---- cancelling and waiting -----------------------------------------------------------------

TEST(only_what_waits_can_be_cancelled) {
  Rig rig;
  rig.fake().close();
  const RequestPtr running = request({1});
  const RequestPtr waiting = request({2});
  const RequestPtr other = request({3});
  REQUIRE(passed(rig.submit(running)));
  rig.fake().wait_for_runs(1);
  REQUIRE(passed(rig.submit(waiting)) && passed(rig.submit(other)));
  CHECK(!rig.coalescer->cancel(running, StatusCode::kCancelled));
  CHECK(rig.coalescer->cancel(waiting, StatusCode::kCancelled));
  CHECK(failed_with(waiting, StatusCode::kCancelled));
  CHECK(!rig.coalescer->cancel(waiting, StatusCode::kCancelled));
  rig.fake().open();
  CHECK(passed(rig.wait(running)) && passed(rig.wait(other)));
  CHECK(!rig.coalescer->cancel(running, StatusCode::kCancelled));
  CHECK(right(running) && right(other));
  CHECK((rig.fake().runs() == std::vector<Rows>{{1}, {3}}));
  CHECK(rig.coalescer->stats().cancelled == 1);
}

TEST(a_cancelled_call_wakes_its_waiter) {
  Rig rig;
  Busy busy(rig);
  const RequestPtr waiting = request({1});
  REQUIRE(passed(rig.submit(waiting)));
  std::thread waiter([&] { CHECK(rig.wait(waiting).code() == StatusCode::kCancelled); });
  CHECK(rig.coalescer->cancel(waiting, StatusCode::kCancelled));
  waiter.join();
}

TEST(a_check_gives_a_waiting_call_up) {
  Rig rig;
  Busy busy(rig);
  const RequestPtr waiting = request({1});
  REQUIRE(passed(rig.submit(waiting)));
  StopAfter stop{3};
  Status status = rig.coalescer->wait(waiting, StopAfter::check, &stop);
  CHECK(status.code() == StatusCode::kInterrupted && stop.calls_left == 0);
  CHECK(rig.coalescer->stats().queued_rows == 0);
  busy.release();
  rig.coalescer->drain();
  CHECK(rig.fake().n_runs() == 0);
}

TEST(a_check_gives_a_running_call_up_and_the_run_goes_on) {
  Rig rig;
  rig.fake().close();
  const RequestPtr running = request({1});
  REQUIRE(passed(rig.submit(running)));
  rig.fake().wait_for_runs(1);
  StopAfter stop{1};
  CHECK(rig.coalescer->wait(running, StopAfter::check, &stop).code() == StatusCode::kInterrupted);
  rig.fake().open();
  rig.coalescer->drain();
  CHECK(right(running));
}

TEST(a_check_that_is_content_changes_nothing) {
  Rig rig;
  rig.fake().close();
  const RequestPtr running = request({1});
  REQUIRE(passed(rig.submit(running)));
  struct Open {
    Fake* fake;
    int calls = 0;
    static int check(void* context) {
      Open* open = static_cast<Open*>(context);
      if (++open->calls == 2) open->fake->open();
      return 0;
    }
  } open{&rig.fake()};
  CHECK(passed(rig.coalescer->wait(running, Open::check, &open)) && right(running));
  CHECK(open.calls >= 2);
  // One that is there already is not asked about.
  StopAfter never{1};
  CHECK(passed(rig.coalescer->wait(running, StopAfter::check, &never)) && never.calls_left == 1);
}

// ---- the end --------------------------------------------------------------------------------

TEST(stop_answers_what_waits_and_lets_runs_finish) {
  Rig rig(pieces_of(4), {1});
  rig.fake().close();
  const RequestPtr running = request({1});
  REQUIRE(passed(rig.submit(running)));
  rig.fake().wait_for_runs(1);
  std::vector<RequestPtr> waiting;
  for (int64_t i = 0; i < 100; ++i) {
    waiting.push_back(request(range(10 * i, 1 + static_cast<size_t>(i) % 9), i % 3, i % 2));
    REQUIRE(passed(rig.submit(waiting.back())));
  }
  std::thread opener([&] {
    for (const RequestPtr& each : waiting) CHECK(rig.wait(each).code() == StatusCode::kClosed);
    rig.fake().open();
  });
  rig.coalescer->stop();
  opener.join();
  CHECK(right(running));  // joined: no wait is needed
  CHECK(rig.fake().n_runs() == 1);
  CHECK(rig.coalescer->stats().queued_rows == 0);
  CHECK(rig.submit(request({2})).code() == StatusCode::kClosed);
  CHECK(rig.coalescer->begin().replica == -1);
  rig.coalescer->stop();
  rig.coalescer->drain();
}

TEST(stop_closes_a_partly_taken_request) {
  Rig rig(pieces_of(4));
  rig.fake().close();
  const RequestPtr large = request(range(0, 10));
  REQUIRE(passed(rig.submit(large)));
  rig.fake().wait_for_runs(1);
  std::thread stopper([&] { rig.coalescer->stop(); });
  while (rig.coalescer->stats().queued_rows > 0) std::this_thread::yield();
  CHECK(!large->finished());
  rig.fake().open();
  stopper.join();
  CHECK(failed_with(large, StatusCode::kClosed));
}

TEST(stop_meets_submitters) {
  for (int round = 0; round < 30; ++round) {
    Rig rig({}, {2}, false);
    std::atomic<int> wrong{0};
    std::atomic<int> submitted{0};
    in_threads(4, [&](int thread) {
      if (thread == 0) {
        while (submitted.load() < 20) std::this_thread::yield();
        rig.coalescer->stop();
        return;
      }
      while (true) {
        const RequestPtr own = request({thread});
        Status status = rig.submit(own);
        ++submitted;
        if (status.ok()) status = rig.wait(own);
        if (status.code() == StatusCode::kClosed) return;
        if (!right(own)) ++wrong;
      }
    });
    CHECK(wrong.load() == 0);
  }
}

TEST(drain_waits_for_all_that_waits_and_runs) {
  Rig rig(batches_of(2), {2});
  rig.coalescer->drain();
  rig.fake().close();
  std::vector<RequestPtr> requests;
  for (int64_t i = 0; i < 20; ++i) {
    requests.push_back(request({i}, i % 3));
    REQUIRE(passed(rig.submit(requests.back())));
  }
  std::atomic<bool> drained{false};
  std::thread drainer([&] {
    rig.coalescer->drain();
    drained = true;
    CHECK(all_right(requests));
  });
  rig.fake().wait_for_runs(2);
  CHECK(!drained.load());
  rig.fake().open();
  drainer.join();
  CHECK(rig.coalescer->stats().running == 0);
  // The last one out may also be a caller, a cancellation or a deadline.
  Coalescer::Slot slot = rig.coalescer->begin();
  REQUIRE(slot.replica >= 0);
  std::thread inline_drainer([&] { rig.coalescer->drain(); });
  rig.coalescer->end(slot);
  inline_drainer.join();
}

TEST(a_batcher_thread_may_destroy_the_coalescer) {
  for (int round = 0; round < 20; ++round) {
    std::shared_ptr<Fake> backend = std::make_shared<Fake>();
    std::shared_ptr<Coalescer> coalescer;
    REQUIRE(
        passed(Coalescer::create({}, {{backend, 2}}, std::make_shared<CostModel>(), &coalescer)));
    const RequestPtr other = request({1}, 1);
    const RequestPtr last = request({2}, 2);
    std::atomic<bool> mine{false};
    backend->during_run = [&] {
      if (!mine.exchange(true)) coalescer.reset();
    };
    // One of the two runs ends the coalescer, while the other runs or waits.
    backend->close();
    REQUIRE(passed(coalescer->submit(other)));
    REQUIRE(passed(coalescer->submit(last)));
    backend->wait_for_runs(2);
    backend->open();
    while (!other->finished() || !last->finished()) std::this_thread::yield();
    CHECK(right(other) && right(last));
    // The destroying thread is nobody's to join: what it uses has to outlive it.
    while (backend.use_count() > 1) std::this_thread::yield();
  }
}

TEST(an_end_without_stop_answers_what_waits) {
  RequestPtr waiting = request({1});
  {
    Rig rig;
    Busy busy(rig);
    REQUIRE(passed(rig.submit(waiting)));
    rig.coalescer->stop();
  }
  CHECK(failed_with(waiting, StatusCode::kClosed));
  waiting = request({2});
  auto rig = std::make_unique<Rig>();
  Coalescer::Slot slot = rig->coalescer->begin();
  REQUIRE(slot.replica >= 0);
  REQUIRE(passed(rig->submit(waiting)));
  rig.reset();
  CHECK(failed_with(waiting, StatusCode::kClosed));
}

// ---- failures -------------------------------------------------------------------------------

TEST(one_bad_request_of_a_batch_fails_alone) {
  for (size_t position = 0; position < 32; ++position) {
    Rig rig;
    std::vector<RequestPtr> requests;
    for (size_t i = 0; i < 32; ++i) {
      const int64_t row = static_cast<int64_t>(i);
      requests.push_back(request({i == position ? bad(row) : row}));
    }
    run_all(rig, requests);
    for (size_t i = 0; i < 32; ++i) {
      CHECK(i == position ? failed_with(requests[i], StatusCode::kRuntime) : right(requests[i]));
    }
    CHECK(requests[position]->status.message() == "bad row");
    CHECK(rig.fake().n_runs() == 11);
    CHECK(rig.coalescer->stats().failed == 1);
  }
}

TEST(any_number_of_bad_requests_fail_alone) {
  Random random(2);
  for (int round = 0; round < 40; ++round) {
    const size_t n = 1 + random.below(32);
    const size_t rate = 1 + random.below(8);  // 1: all of them
    Rig rig(batches_of(64), {1 + random.below(2)});
    std::vector<RequestPtr> requests;
    std::vector<bool> is_bad;
    for (size_t i = 0; i < n; ++i) {
      is_bad.push_back(random.one_in(rate));
      Rows rows = range(static_cast<int64_t>(10 * i), 1 + random.below(3));
      if (is_bad.back()) rows.back() = bad(rows.back());
      requests.push_back(request(rows, static_cast<int64_t>(random.below(2))));
    }
    run_all(rig, requests);
    uint64_t n_bad = 0;
    for (size_t i = 0; i < n; ++i) {
      CHECK(is_bad[i] ? failed_with(requests[i], StatusCode::kRuntime) : right(requests[i]));
      n_bad += is_bad[i];
    }
    CHECK(rig.coalescer->stats().failed == n_bad);
    CHECK(rig.fake().n_runs() < 2 * static_cast<int>(n));
  }
}

TEST(a_failure_is_no_measurement) {
  Rig rig;
  const RequestPtr poor = request({bad(1)});
  REQUIRE(passed(rig.submit(poor)));
  CHECK(rig.wait(poor).code() == StatusCode::kRuntime);
  rig.coalescer->drain();
  CHECK(rig.cost->measured_ns(CostModel::bucket(1)) == 0);
  CHECK(rig.answers_right(request({1})));
  rig.coalescer->drain();
  CHECK(rig.cost->measured_ns(CostModel::bucket(1)) > 0);
}

// ---- event loops ----------------------------------------------------------------------------

TEST(a_batch_wakes_each_of_its_loops_once) {
  Rig rig;
  std::shared_ptr<Notifier> loops[2];
  for (auto& loop : loops) REQUIRE(passed(Notifier::create(&loop)));
  std::vector<RequestPtr> requests;
  for (uint64_t i = 0; i < 9; ++i) {
    requests.push_back(request({static_cast<int64_t>(i)}));
    if (i % 3 != 2) requests.back()->notifier = loops[i % 3];
    requests.back()->ticket = i;
  }
  {
    Busy busy(rig);
    for (const RequestPtr& each : requests) REQUIRE(passed(rig.submit(each)));
  }
  for (uint64_t i = 2; i < 9; i += 3) CHECK(passed(rig.wait(requests[i])));
  rig.coalescer->drain();
  for (uint64_t which = 0; which < 2; ++which) {
    pollfd readable{loops[which]->fd(), POLLIN, 0};
    CHECK(poll(&readable, 1, 0) == 1);
    std::vector<RequestPtr> drained;
    loops[which]->drain(&drained);
    REQUIRE(drained.size() == 3);
    for (uint64_t i = 0; i < 3; ++i) {
      CHECK(drained[i] == requests[3 * i + which] && drained[i]->ticket == 3 * i + which);
      CHECK(right(drained[i]));
    }
    CHECK(poll(&readable, 1, 0) == 0);
  }
  CHECK(all_right(requests));
  CHECK(rig.fake().n_runs() == 1);
}

TEST(a_loop_hears_of_what_is_finished_and_of_nothing_else) {
  Rig rig(batches_of(64), {1}, false);
  std::shared_ptr<Notifier> loop;
  REQUIRE(passed(Notifier::create(&loop)));
  int early = 0;
  for (int round = 0; round < 100; ++round) {
    std::vector<RequestPtr> requests;
    Busy busy(rig);
    for (int64_t i = 0; i < 64; ++i) {
      requests.push_back(request({i}));
      requests.back()->notifier = loop;
      REQUIRE(passed(rig.submit(requests.back())));
    }
    busy.release();
    for (size_t n = 0; n < requests.size();) {
      std::vector<RequestPtr> drained;
      loop->drain(&drained);
      for (const RequestPtr& each : drained) early += !right(each);
      n += drained.size();
    }
  }
  CHECK(early == 0);
}

TEST(a_loop_hears_of_all_that_was_not_run_too) {
  Rig rig;
  std::shared_ptr<Notifier> loop;
  REQUIRE(passed(Notifier::create(&loop)));
  std::vector<RequestPtr> requests = {request({1}), request({bad(2)}), request({3}), request({4})};
  requests[0]->deadline_ns = now_ns() + kSecond_ns / 10;
  for (const RequestPtr& each : requests) each->notifier = loop;
  Busy busy(rig);
  bool taken = rig.submit(requests[0]).ok();
  for (size_t i = 1; i < 3; ++i) REQUIRE(passed(rig.submit(requests[i])));
  CHECK(rig.coalescer->cancel(requests[2], StatusCode::kCancelled));
  while (now_ns() <= requests[0]->deadline_ns) std::this_thread::yield();
  busy.release();
  rig.coalescer->drain();
  Busy again(rig);
  REQUIRE(passed(rig.submit(requests[3])));
  rig.coalescer->stop();
  std::vector<RequestPtr> drained;
  loop->drain(&drained);
  CHECK(drained.size() == (taken ? 4u : 3u));
  CHECK(!taken || failed_with(requests[0], StatusCode::kDeadline));
  CHECK(failed_with(requests[1], StatusCode::kRuntime));
  CHECK(failed_with(requests[2], StatusCode::kCancelled));
  CHECK(failed_with(requests[3], StatusCode::kClosed));
}

RUN_TESTS()
