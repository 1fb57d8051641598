// One thread: loading, types, the general and the hot way, the cost model, interrupts.
#include <cstdint>

#include "fixture.hpp"

using namespace fixture;

namespace {

using Floats = std::vector<float>;
using Dims = std::vector<int64_t>;

Status open_status(SessionConfig config) {
  std::shared_ptr<Session> session;
  Status status = Session::open(library(), std::move(config), &session);
  CHECK(status.ok() == (session != nullptr));
  return status;
}

Status open_bytes(const std::string& bytes) {
  SessionConfig config;
  config.set_bytes(bytes.data(), bytes.size());
  return open_status(std::move(config));
}

// Stops a run at the `limit`-th time it is asked; counts the times.
struct Stopper {
  int limit;
  int asked = 0;
  static int check(void* context) {
    Stopper* self = static_cast<Stopper*>(context);
    return ++self->asked >= self->limit ? 1 : 0;
  }
};

constexpr int64_t kForEver = INT64_C(1) << 60;  // steps of `counter` that no test waits for

std::vector<Value> counter_inputs(int64_t n) {
  std::vector<Value> inputs;
  inputs.push_back(tensor<int64_t>({n}, {}));
  inputs.push_back(tensor<float>({5}, {1}));
  return inputs;
}

}  // namespace

// --- loading -------------------------------------------------------------------------------------

TEST(a_missing_model_is_a_status) {
  SessionConfig missing = config("no_such_model");
  Status status = open_status(missing);
  CHECK(status.code() == StatusCode::kRuntime);
  CHECK(status.ort_code() != 0);
  CHECK(status.message().find("no_such_model") != std::string::npos);
}

TEST(bytes_that_are_no_model_are_a_status) {
  CHECK(!open_bytes("this is not an ONNX model").ok());
  CHECK(!open_bytes("").ok());
  const std::string good = read_file(model_path("affine"));
  CHECK(open_bytes(good).ok());
  CHECK(!open_bytes(good.substr(0, good.size() / 2)).ok());
}

TEST(an_unknown_operator_is_named) {
  Status status = open_status(config("unknown_operator"));
  CHECK(!status.ok());
  CHECK(status.message().find("NoSuchOperator") != std::string::npos);
}

TEST(a_model_from_bytes_outlives_the_bytes) {
  std::shared_ptr<Session> session;
  {
    std::string bytes = read_file(model_path("affine"));
    SessionConfig config;
    config.set_bytes(bytes.data(), bytes.size());
    REQUIRE(passed(Session::open(library(), std::move(config), &session)));
    bytes.assign(bytes.size(), '\xff');
  }
  CHECK(answers_right(*session, 3, 1));
}

TEST(bytes_find_their_external_data) {
  const std::string bytes = read_file(model_path("external"));
  SessionConfig lost;
  lost.set_bytes(bytes.data(), bytes.size());
  lost.external_folder = model_folder() + "/no_such_folder";
  CHECK(!open_status(lost).ok());

  SessionConfig found;
  found.set_bytes(bytes.data(), bytes.size());
  found.external_folder = model_folder();
  std::shared_ptr<Session> session;
  REQUIRE(passed(Session::open(library(), found, &session)));
  CHECK(answers_right(*session, 3, 2));
  CHECK(answers_right(*open("external"), 3, 2));
}

TEST(every_optimization_level_answers_alike) {
  for (int level : {0, 1, 2, 99}) {
    SessionConfig asked = config("affine");
    asked.graph_optimization = level;
    asked.threads = 2;
    std::shared_ptr<Session> session;
    REQUIRE(passed(Session::open(library(), asked, &session)));
    CHECK(answers_right(*session, 5, level));
  }
}

// --- types ---------------------------------------------------------------------------------------

TEST(a_tensor_has_its_axes_and_their_names) {
  const auto session = open("affine");
  REQUIRE(session->inputs().size() == 1 && session->outputs().size() == 1);
  const ValueInfo& x = session->inputs()[0];
  CHECK(x.name == "x" && x.kind == ValueKind::kTensor && x.element == ElementType::kFloat);
  CHECK(x.has_shape && x.dims == (Dims{-1, 4}));
  CHECK(x.symbols == (std::vector<std::string>{"N", ""}));
  CHECK(session->outputs()[0].dims == (Dims{-1, 3}));
  CHECK(session->overridable().empty());
  CHECK(session->instances_possible());
}

TEST(optionals_sequences_maps_and_unknown_ranks_are_described) {
  const auto session = open("kinds");
  REQUIRE(session->inputs().size() == 3 && session->outputs().size() == 3);
  const ValueInfo& maybe = session->inputs()[0];
  CHECK(maybe.kind == ValueKind::kOptional);
  REQUIRE(maybe.children.size() == 1);
  CHECK(maybe.children[0].kind == ValueKind::kTensor);
  CHECK(maybe.children[0].element == ElementType::kFloat);
  CHECK(!session->inputs()[2].has_shape);
  const ValueInfo& there = session->outputs()[0];
  CHECK(there.element == ElementType::kBool && there.has_shape && there.dims.empty());
  const ValueInfo& maps = session->outputs()[1];
  CHECK(maps.kind == ValueKind::kSequence);
  REQUIRE(maps.children.size() == 1 && maps.children[0].children.size() == 1);
  CHECK(maps.children[0].kind == ValueKind::kMap);
  CHECK(maps.children[0].element == ElementType::kInt64);
  CHECK(maps.children[0].children[0].element == ElementType::kFloat);
  CHECK(!session->instances_possible());
}

TEST(an_element_has_its_width) {
  CHECK(element_size(ElementType::kBool) == 1);
  CHECK(element_size(ElementType::kFloat8E4M3FN) == 1);
  CHECK(element_size(ElementType::kBfloat16) == 2);
  CHECK(element_size(ElementType::kFloat) == 4);
  CHECK(element_size(ElementType::kInt64) == 8);
  CHECK(element_size(ElementType::kComplex128) == 16);
  CHECK(element_size(ElementType::kString) == 0);
  CHECK(element_size(ElementType::kInt4) == 0);
  CHECK(element_size(ElementType::kUndefined) == 0);
}

// --- the general way -----------------------------------------------------------------------------

TEST(a_run_answers_exactly_for_any_number_of_rows) {
  const auto session = open("affine");
  for (int n_rows : {0, 1, 2, 17, 1000}) {
    const Floats x = affine_rows(n_rows, 3);
    const Value input = tensor(x, {n_rows, 4});
    std::vector<Value> outputs;
    REQUIRE(passed(run(*session, {input.get()}, &outputs)));
    CHECK(dims_of(outputs[0].get()) == (Dims{n_rows, 3}));
    CHECK(read<float>(outputs[0]) == affine_answer(x));
  }
}

TEST(a_refused_run_is_a_status_and_leaves_no_output) {
  const auto session = open("affine");
  const Value x = tensor(affine_rows(2, 1), {2, 4});
  const char* wrong_name = "z";
  const char* output_name = "y";
  const OrtValue* given = x.get();
  OrtValue* result = nullptr;
  Status status = session->run(&wrong_name, &given, 1, &output_name, 1, &result, nullptr, nullptr);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.ort_code() == kOrtInvalidArgument);
  CHECK(result == nullptr);

  std::vector<Value> outputs;
  const Value wrong_type = tensor(std::vector<double>(8), {2, 4});
  CHECK(run(*session, {wrong_type.get()}, &outputs).code() == StatusCode::kInvalidArgument);
  const Value wrong_shape = tensor(Floats(6), {2, 3});
  CHECK(!run(*session, {wrong_shape.get()}, &outputs).ok());
  CHECK(answers_right(*session, 2, 1));
}

TEST(a_failing_run_fails_alone) {
  const auto session = open("lookup");
  std::vector<Value> outputs;
  for (int round = 0; round < 3; ++round) {
    const Value outside = tensor<int64_t>({0, 7}, {2});
    Status status = run(*session, {outside.get()}, &outputs);
    CHECK(!status.ok() && status.message().find("Gather") != std::string::npos);
    const Value inside = tensor<int64_t>({2, 0}, {2});
    REQUIRE(passed(run(*session, {inside.get()}, &outputs)));
    CHECK(read<float>(outputs[0]) == (Floats{30, 10}));
  }
}

TEST(strings_go_in_and_come_out) {
  const auto session = open("strings");
  const std::vector<std::string> items = {"seven", "", "eight", std::string(1000, 'x'), "\xc3\xb8"};
  const Value text = strings(items);
  std::vector<Value> outputs;
  REQUIRE(passed(run(*session, {text.get()}, &outputs)));
  CHECK(read_strings(outputs[0].get()) == items);
  CHECK(read<int64_t>(outputs[1]) == (Dims{7, -1, 8, -1, -1}));
}

TEST(sequences_go_in_and_come_out) {
  const auto session = open("sequence");
  CHECK(!session->instances_possible());
  const Api& api = library()->api();
  const Value first = tensor<float>({1, 2}, {2});
  const Value second = tensor<float>({3}, {1});
  const OrtValue* parts[] = {first.get(), second.get()};
  Value items;
  REQUIRE(passed(library()->check(
      api.CreateValue(parts, 2, static_cast<int>(ValueKind::kSequence), items.out()))));
  std::vector<Value> outputs;
  REQUIRE(passed(run(*session, {items.get()}, &outputs)));
  CHECK(read<int64_t>(outputs[0]) == (Dims{2}));
  CHECK(read<float>(outputs[1]) == (Floats{1, 2, 3}));
  size_t n = 0;
  REQUIRE(passed(library()->check(api.GetValueCount(outputs[2].get(), &n))));
  REQUIRE(n == 2);
  Value swapped;
  REQUIRE(passed(
      library()->check(api.GetValue(outputs[2].get(), 1, library()->allocator(), swapped.out()))));
  CHECK(read<float>(swapped) == (Floats{1, 2}));
  // Nothing to keep for the hot way: learning says no by doing nothing.
  OrtValue* results[] = {outputs[0].get(), outputs[1].get(), outputs[2].get()};
  session->learn(key_of(2).data(), 2, results);
  CHECK(acquire(*session, key_of(2)) == nullptr);
}

TEST(an_initializer_may_be_replaced) {
  const auto session = open("scaled");
  REQUIRE(session->inputs().size() == 1 && session->overridable().size() == 1);
  CHECK(session->overridable()[0].name == "factor");
  const Value x = tensor<float>({1, 2}, {2});
  const Value factor = tensor<float>({10}, {1});
  const char* names[] = {"x", "factor"};
  const char* output_name = "y";
  const OrtValue* given[] = {x.get(), factor.get()};
  for (size_t n_inputs : {1, 2}) {
    Value y;
    REQUIRE(
        passed(session->run(names, given, n_inputs, &output_name, 1, y.out(), nullptr, nullptr)));
    CHECK(read<float>(y) == (n_inputs == 1 ? Floats{2, 4} : Floats{10, 20}));
  }
}

// --- the hot way ---------------------------------------------------------------------------------

TEST(an_instance_comes_after_a_finished_run) {
  const auto session = open("affine");
  CHECK(acquire(*session, key_of(2, 4)) == nullptr);
  for (int call = 0; call < 4; ++call) {
    const Floats x = affine_rows(2, call);
    Floats y;
    bool was_hot = false;
    REQUIRE(passed(call_affine(*session, x, &y, &was_hot)));
    CHECK(was_hot == (call > 0));
    CHECK(y == affine_answer(x));
  }
  CHECK(acquire(*session, key_of(3, 4)) == nullptr);
}

TEST(an_instance_belongs_to_one_caller_at_a_time) {
  const auto session = open("affine");
  learn(*session, key_of(1, 4));
  Lease first = acquire(*session, key_of(1, 4));
  REQUIRE(first != nullptr);
  CHECK(acquire(*session, key_of(1, 4)) == nullptr);
  Instance* const address = first.get();
  first.reset();
  const Lease again = acquire(*session, key_of(1, 4));
  CHECK(again.get() == address);
}

TEST(no_rows_are_a_shape_like_any_other) {
  const auto session = open("affine");
  learn(*session, key_of(0, 4));
  const Lease instance = acquire(*session, key_of(0, 4));
  REQUIRE(instance != nullptr);
  CHECK(passed(session->run(instance.get(), nullptr, nullptr)));
  CHECK(instance->outputs[0].n_elements == 0);
}

TEST(a_model_without_inputs_has_instances_too) {
  const auto session = open("constant");
  const std::vector<int64_t> no_key;
  CHECK(acquire(*session, no_key) == nullptr);
  std::vector<Value> outputs;
  REQUIRE(passed(run(*session, {}, &outputs)));
  CHECK(read<float>(outputs[0]) == (Floats{1, 2, 3}));
  OrtValue* result = outputs[0].get();
  session->learn(no_key.data(), 0, &result);
  const Lease instance = acquire(*session, no_key);
  REQUIRE(instance != nullptr);
  REQUIRE(passed(session->run(instance.get(), nullptr, nullptr)));
  CHECK(read<float>(instance->results[0]) == (Floats{1, 2, 3}));
}

TEST(buffers_are_aligned_for_every_element) {
  const auto session = open("widths");
  for (int64_t n : {1, 3, 33}) {
    std::vector<Value> inputs;
    const size_t size = static_cast<size_t>(n);
    inputs.push_back(tensor(std::vector<bool>(size, true), {n}));
    inputs.push_back(tensor(std::vector<int8_t>(size, -5), {n}));
    inputs.push_back(tensor(std::vector<uint16_t>(size, 0x3c00), {n}));
    inputs.push_back(tensor(Floats(size, 1.5f), {n}));
    inputs.push_back(tensor(std::vector<double>(size, 2.5), {n}));
    std::vector<const OrtValue*> given;
    std::vector<int64_t> key;
    for (const Value& input : inputs) {
      given.push_back(input.get());
      key.insert(key.end(), {1, n});
    }
    std::vector<Value> outputs;
    REQUIRE(passed(run(*session, given, &outputs)));
    std::vector<OrtValue*> results;
    for (const Value& output : outputs) results.push_back(output.get());
    session->learn(key.data(), key.size(), results.data());
    const Lease instance = acquire(*session, key);
    REQUIRE(instance != nullptr);
    for (size_t i = 0; i < instance->inputs.size(); ++i) {
      const Instance::Slot& slot = instance->inputs[i];
      CHECK(slot.size_bytes == size * element_size(slot.element));
      std::memset(slot.data, static_cast<int>(i + 1), slot.size_bytes);
    }
    std::memset(instance->inputs[0].data, 1, instance->inputs[0].size_bytes);  // bools
    for (const auto* slots : {&instance->inputs, &instance->outputs}) {
      for (const Instance::Slot& slot : *slots) {
        CHECK(reinterpret_cast<uintptr_t>(slot.data) % 64 == 0);
      }
    }
    REQUIRE(passed(session->run(instance.get(), nullptr, nullptr)));
    for (size_t i = 0; i < instance->inputs.size(); ++i) {
      CHECK(std::memcmp(instance->inputs[i].data, instance->outputs[i].data,
                        instance->inputs[i].size_bytes) == 0);
    }
  }
}

TEST(the_least_recently_used_shape_is_dropped) {
  const auto session = open("affine");
  const int64_t n_shapes = static_cast<int64_t>(Session::kMaxShapes);
  for (int64_t n = 1; n <= n_shapes; ++n) learn(*session, key_of(n, 4));
  CHECK(acquire(*session, key_of(1, 4)) != nullptr);  // used again, so 2 is the oldest now
  learn(*session, key_of(n_shapes + 1, 4));
  CHECK(acquire(*session, key_of(2, 4)) == nullptr);
  for (int64_t n : {int64_t{1}, int64_t{3}, n_shapes, n_shapes + 1}) {
    CHECK(acquire(*session, key_of(n, 4)) != nullptr);
  }
}

TEST(an_instance_outlives_the_eviction_of_its_shape) {
  const auto session = open("affine");
  learn(*session, key_of(1, 4));
  Lease held = acquire(*session, key_of(1, 4));
  REQUIRE(held != nullptr);
  for (size_t n = 2; n <= Session::kMaxShapes + 1; ++n) {
    learn(*session, key_of(static_cast<int64_t>(n), 4));
  }
  const Floats x = affine_rows(1, 5);
  std::memcpy(held->inputs[0].data, x.data(), held->inputs[0].size_bytes);
  REQUIRE(passed(session->run(held.get(), nullptr, nullptr)));
  const float* y = static_cast<const float*>(held->outputs[0].data);
  CHECK(Floats(y, y + 3) == affine_answer(x));
  held.reset();
  CHECK(acquire(*session, key_of(1, 4)) == nullptr);
}

TEST(idle_instances_of_a_shape_are_bounded) {
  const auto session = open("affine");
  for (size_t i = 0; i < Session::kMaxIdlePerShape + 2; ++i) learn(*session, key_of(1, 4));
  std::vector<Lease> held;
  for (Lease lease = acquire(*session, key_of(1, 4)); lease != nullptr;
       lease = acquire(*session, key_of(1, 4))) {
    held.push_back(std::move(lease));
  }
  CHECK(held.size() == Session::kMaxIdlePerShape);
  learn(*session, key_of(1, 4));  // one more than can be given back
  held.clear();
  for (Lease lease = acquire(*session, key_of(1, 4)); lease != nullptr;
       lease = acquire(*session, key_of(1, 4))) {
    held.push_back(std::move(lease));
  }
  CHECK(held.size() == Session::kMaxIdlePerShape);
}

TEST(large_values_are_not_kept) {
  const auto session = open("affine");
  const int64_t n_rows = static_cast<int64_t>(3 * Session::kMaxInstanceBytes / 16);
  learn(*session, key_of(n_rows, 4));
  CHECK(acquire(*session, key_of(n_rows, 4)) == nullptr);
  CHECK(answers_right(*session, static_cast<int>(n_rows), 6));
}

TEST(outputs_that_change_shape_are_made_afresh_from_then_on) {
  const auto session = open("nonzero");
  auto indices = [&](const Floats& x) -> Dims {
    const Lease instance = acquire(*session, key_of(static_cast<int64_t>(x.size())));
    if (instance == nullptr) return {-1};
    std::memcpy(instance->inputs[0].data, x.data(), instance->inputs[0].size_bytes);
    if (!passed(session->run(instance.get(), nullptr, nullptr))) return {-2};
    return read<int64_t>(instance->results[0]);
  };
  learn(*session, key_of(4));  // of four zeros: the prebuilt output holds no index
  CHECK(indices({0, 0, 0, 0}) == (Dims{}));
  learn(*session, key_of(4));  // another one, for the second of the next two
  CHECK(indices({0, 5, 0, 6}) == (Dims{1, 3}));
  CHECK(indices({1, 2, 3, 4}) == (Dims{0, 1, 2, 3}));
  CHECK(acquire(*session, key_of(4)) == nullptr);  // both are gone: they would fail again
  // What is learned from now on prebuilds no output.
  learn(*session, key_of(5));
  {
    const Lease instance = acquire(*session, key_of(5));
    REQUIRE(instance != nullptr);
    CHECK(instance->outputs[0].value == nullptr);
  }
  for (int round = 0; round < 3; ++round) {
    CHECK(indices({0, 1, 0, 0, 1}) == (Dims{1, 4}));
    CHECK(indices({0, 0, 0, 0, 0}) == (Dims{}));
  }
}

TEST(an_output_that_is_an_input_is_the_input_of_this_run) {
  const auto session = open("echo");
  learn(*session, key_of(2));
  for (float start : {1.0f, 10.0f}) {
    const Lease instance = acquire(*session, key_of(2));
    REQUIRE(instance != nullptr);
    const Floats x = {start, start + 1};
    std::memcpy(instance->inputs[0].data, x.data(), instance->inputs[0].size_bytes);
    REQUIRE(passed(session->run(instance.get(), nullptr, nullptr)));
    CHECK(read<float>(instance->results[0]) == x);
    const float* negated = static_cast<const float*>(instance->outputs[1].data);
    CHECK(Floats(negated, negated + 2) == (Floats{-start, -start - 1}));
  }
}

TEST(a_hot_run_that_fails_is_a_status) {
  const auto session = open("lookup");
  {
    const Value index = tensor<int64_t>({1, 1}, {2});
    std::vector<Value> outputs;
    REQUIRE(passed(run(*session, {index.get()}, &outputs)));
    OrtValue* result = outputs[0].get();
    session->learn(key_of(2).data(), 2, &result);
  }
  {
    const Lease instance = acquire(*session, key_of(2));
    REQUIRE(instance != nullptr);
    static_cast<int64_t*>(instance->inputs[0].data)[0] = 99;
    static_cast<int64_t*>(instance->inputs[0].data)[1] = 0;
    CHECK(!session->run(instance.get(), nullptr, nullptr).ok());
  }
  const Value index = tensor<int64_t>({0, 2}, {2});
  std::vector<Value> outputs;
  REQUIRE(passed(run(*session, {index.get()}, &outputs)));
  CHECK(read<float>(outputs[0]) == (Floats{10, 30}));
}

TEST(hot_strings_are_rewritten_in_place) {
  const auto session = open("strings");
  const Value text = strings({"seven", "eight"});
  std::vector<Value> outputs;
  REQUIRE(passed(run(*session, {text.get()}, &outputs)));
  OrtValue* results[] = {outputs[0].get(), outputs[1].get()};
  session->learn(key_of(2).data(), 2, results);
  const std::vector<std::vector<std::string>> rounds = {
      {"eight", std::string(500, 'y')}, {"", "seven"}, {"seven", "eight"}};
  for (const std::vector<std::string>& items : rounds) {
    const Lease instance = acquire(*session, key_of(2));
    REQUIRE(instance != nullptr);
    CHECK(instance->outputs[0].value == nullptr);  // strings are always made afresh
    CHECK(instance->outputs[1].value != nullptr);
    fill_strings(instance->inputs[0].value, items);
    REQUIRE(passed(session->run(instance.get(), nullptr, nullptr)));
    CHECK(read_strings(instance->results[0]) == items);
    const int64_t* codes = static_cast<const int64_t*>(instance->outputs[1].data);
    for (size_t i = 0; i < 2; ++i) {
      CHECK(codes[i] == (items[i] == "seven" ? 7 : items[i] == "eight" ? 8 : -1));
    }
  }
}

// --- the cost model ------------------------------------------------------------------------------

TEST(buckets_are_powers_of_two) {
  CHECK(CostModel::bucket(0) == 0 && CostModel::bucket(1) == 0);
  CHECK(CostModel::bucket(2) == 1 && CostModel::bucket(3) == 1);
  CHECK(CostModel::bucket(4) == 2 && CostModel::bucket(1023) == 9);
  CHECK(CostModel::bucket(1024) == 10);
  CHECK(CostModel::bucket(SIZE_MAX) == CostModel::kBuckets - 1);
}

TEST(the_expected_time_is_a_moving_average) {
  const auto session = open("affine");
  CHECK(session->cost()->measured_ns(3) == 0);
  session->cost()->record(3, 800);
  CHECK(session->cost()->measured_ns(3) == 800);
  session->cost()->record(3, 1600);
  CHECK(session->cost()->measured_ns(3) == 900);
  for (int i = 0; i < 200; ++i) session->cost()->record(3, 10000);
  CHECK(session->cost()->measured_ns(3) > 9900 && session->cost()->measured_ns(3) <= 10000);
  CHECK(session->cost()->measured_ns(4) == 0);
  session->cost()->set(3, 5);
  CHECK(session->cost()->measured_ns(3) == 5);
  session->cost()->record(4, 0);  // measured, though faster than the clock's tick
  CHECK(session->cost()->measured_ns(4) == 1);
  session->cost()->set(4, -7);
  CHECK(session->cost()->measured_ns(4) == 1);
}

// --- interrupts ----------------------------------------------------------------------------------

TEST(a_check_can_stop_a_general_run) {
  const auto session = open("counter");
  const std::vector<Value> inputs = counter_inputs(kForEver);
  std::vector<Value> outputs;
  Stopper stopper{2};
  Status status =
      run(*session, {inputs[0].get(), inputs[1].get()}, &outputs, &Stopper::check, &stopper);
  CHECK(status.code() == StatusCode::kInterrupted);
  CHECK(stopper.asked == 2);  // once stopping it is not asked again
  const std::vector<Value> few = counter_inputs(3);
  REQUIRE(passed(run(*session, {few[0].get(), few[1].get()}, &outputs)));
  CHECK(read<float>(outputs[0]) == (Floats{8}));
}

TEST(a_check_can_stop_a_hot_run) {
  const auto session = open("counter");
  const std::vector<Value> inputs = counter_inputs(3);
  std::vector<Value> outputs;
  REQUIRE(passed(run(*session, {inputs[0].get(), inputs[1].get()}, &outputs)));
  OrtValue* result = outputs[0].get();
  const std::vector<int64_t> key = {0, 1, 1};
  session->learn(key.data(), key.size(), &result);
  for (int64_t n : {kForEver, int64_t{4}}) {
    const Lease instance = acquire(*session, key);
    REQUIRE(instance != nullptr);
    *static_cast<int64_t*>(instance->inputs[0].data) = n;
    *static_cast<float*>(instance->inputs[1].data) = 1;
    Stopper stopper{n == kForEver ? 1 : 1 << 30};
    Status status = session->run(instance.get(), &Stopper::check, &stopper);
    if (n == kForEver) {
      CHECK(status.code() == StatusCode::kInterrupted);
      CHECK(stopper.asked == 1);
    } else {
      CHECK(passed(status));
      CHECK(*static_cast<const float*>(instance->outputs[0].data) == 5);
    }
  }
}

TEST(a_check_that_lets_a_run_be_changes_nothing) {
  const auto session = open("counter");
  // Longer and longer runs, until one takes long enough to be asked about.
  Stopper patient{1 << 30};
  for (int64_t n = 1; patient.asked == 0; n *= 2) {
    const std::vector<Value> inputs = counter_inputs(n);
    std::vector<Value> outputs;
    REQUIRE(passed(
        run(*session, {inputs[0].get(), inputs[1].get()}, &outputs, &Stopper::check, &patient)));
    if (n < 1 << 20) CHECK(read<float>(outputs[0]) == (Floats{static_cast<float>(n + 5)}));
  }
}

TEST(a_failing_run_fails_under_a_check_too) {
  const auto session = open("lookup");
  const Value index = tensor<int64_t>({50}, {1});
  std::vector<Value> outputs;
  Stopper patient{1 << 30};
  Status status = run(*session, {index.get()}, &outputs, &Stopper::check, &patient);
  CHECK(!status.ok() && status.code() != StatusCode::kInterrupted);
}

RUN_TESTS()
