// Gathering the rows of several requests into one run of a model, and scattering its outputs. The
// oracle is each request alone, run the general way.
#include <limits>
#include <thread>

#include "fixture.hpp"
#include "infersdk/tensor_backend.hpp"

using namespace fixture;

namespace {

template <typename T>
Tensor make(const std::vector<T>& items, const std::vector<int64_t>& dims) {
  Tensor result;
  result.reserve(element_of<T>(), dims);
  REQUIRE(count_elements(dims) == items.size());
  std::copy(items.begin(), items.end(), static_cast<T*>(result.data.get()));
  return result;
}

template <>
Tensor make(const std::vector<std::string>& items, const std::vector<int64_t>& dims) {
  Tensor result;
  result.reserve(ElementType::kString, dims);
  REQUIRE(count_elements(dims) == items.size());
  result.strings = items;
  return result;
}

// A request of these tensors; its rows are the first one's first axis.
template <typename... Tensors>
RequestPtr request(Tensors... inputs) {
  auto result = std::make_shared<Request>();
  (result->inputs.push_back(std::move(inputs)), ...);
  result->n_rows = static_cast<size_t>(result->inputs[0].dims[0]);
  return result;
}

Piece whole(const RequestPtr& request) {
  return Piece{request, 0, request->n_rows};
}

std::vector<Piece> whole(const std::vector<RequestPtr>& requests) {
  std::vector<Piece> pieces;
  for (const RequestPtr& each : requests) pieces.push_back(whole(each));
  return pieces;
}

Status run(TensorBackend& backend, const std::vector<Piece>& pieces) {
  return backend.run(pieces.data(), pieces.size());
}

bool equal(const Tensor& a, const Tensor& b) {
  if (a.element != b.element || a.dims != b.dims) return false;
  if (a.element == ElementType::kString) return a.strings == b.strings;
  const size_t size_bytes = count_elements(a.dims) * element_size(a.element);
  return size_bytes == 0 || std::memcmp(a.bytes, b.bytes, size_bytes) == 0;
}

template <typename T>
std::vector<T> items(const Tensor& tensor) {
  REQUIRE(tensor.element == element_of<T>());
  const T* data = static_cast<const T*>(tensor.data.get());
  return std::vector<T>(data, data + count_elements(tensor.dims));
}

// What the model answers to this request alone.
std::vector<Tensor> alone(Session& session, const Request& request) {
  const Api& api = library()->api();
  std::vector<Value> inputs;
  std::vector<const OrtValue*> values;
  for (const Tensor& tensor : request.inputs) {
    Value value;
    if (tensor.element == ElementType::kString) {
      REQUIRE(passed(library()->check(
          api.CreateTensorAsOrtValue(library()->allocator(), tensor.dims.data(), tensor.dims.size(),
                                     static_cast<int>(tensor.element), value.out()))));
      fill_strings(value.get(), tensor.strings);
    } else {
      REQUIRE(passed(library()->check(api.CreateTensorWithDataAsOrtValue(
          library()->cpu_memory(), tensor.bytes, tensor.size_bytes, tensor.dims.data(),
          tensor.dims.size(), static_cast<int>(tensor.element), value.out()))));
    }
    values.push_back(value.get());
    inputs.push_back(std::move(value));
  }
  std::vector<Value> outputs;
  REQUIRE(passed(fixture::run(session, values, &outputs)));
  std::vector<Tensor> result;
  for (const Value& output : outputs) {
    ElementType element;
    std::vector<int64_t> dims;
    describe(output.get(), &element, &dims);
    Tensor tensor;
    tensor.reserve(element, dims);
    const size_t n = count_elements(dims);
    if (element == ElementType::kString) {
      size_t total = 0;
      REQUIRE(passed(library()->check(api.GetStringTensorDataLength(output.get(), &total))));
      std::string content(total, '\0');
      std::vector<size_t> starts(n + 1, total);
      REQUIRE(passed(library()->check(
          api.GetStringTensorContent(output.get(), &content[0], total, starts.data(), n))));
      for (size_t i = 0; i < n; ++i) {
        tensor.strings[i] = content.substr(starts[i], starts[i + 1] - starts[i]);
      }
    } else {
      void* data = nullptr;
      REQUIRE(passed(library()->check(api.GetTensorMutableData(output.get(), &data))));
      if (tensor.size_bytes > 0) std::memcpy(tensor.data.get(), data, tensor.size_bytes);
    }
    result.push_back(std::move(tensor));
  }
  return result;
}

// Whether the first `n` outputs, by default all, are what the model answers to the request alone.
bool as_alone(Session& session, const RequestPtr& request, size_t n = 99) {
  const std::vector<Tensor> expected = alone(session, *request);
  if (!CHECK(request->outputs.size() == expected.size())) return false;
  for (size_t i = 0; i < std::min(n, expected.size()); ++i) {
    if (!equal(request->outputs[i], expected[i])) {
      std::fprintf(stderr, "output %zu differs\n", i);
      return false;
    }
  }
  return true;
}

// Small, seeded, the same everywhere.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}
  size_t below(size_t n) {
    state_ = state_ * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return static_cast<size_t>(state_ >> 33) % n;
  }

 private:
  uint64_t state_;
};

template <typename T>
Tensor random_tensor(Random& random, const std::vector<int64_t>& dims) {
  std::vector<T> values(count_elements(dims));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(random.below(2));
  if (!std::is_same<T, bool>::value && !std::is_same<T, uint16_t>::value) {
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<T>(random.below(100));
  }
  return make(values, dims);
}

Tensor random_texts(Random& random, const std::vector<int64_t>& dims) {
  const std::vector<std::string> words = {
      "", "seven", "eight", "caf\xc3\xa9", std::string(40, 'x'), std::string("nul\0nul", 7)};
  std::vector<std::string> texts(count_elements(dims));
  for (std::string& text : texts) text = words[random.below(words.size())];
  return make(texts, dims);
}

struct Model {
  const char* name;
  RequestPtr (*make)(Random& random, int64_t n_rows);
};

const Model kModels[] = {
    {"affine",
     [](Random& random, int64_t n) { return request(random_tensor<float>(random, {n, 4})); }},
    {"scaled_blocks",
     [](Random& random, int64_t n) {
       return request(random_tensor<double>(random, {n, 2, 3}),
                      random_tensor<int64_t>(random, {n}));
     }},
    {"widths",
     [](Random& random, int64_t n) {
       return request(random_tensor<bool>(random, {n}), random_tensor<int8_t>(random, {n}),
                      random_tensor<uint16_t>(random, {n}), random_tensor<float>(random, {n}),
                      random_tensor<double>(random, {n}));
     }},
    {"strings", [](Random& random, int64_t n) { return request(random_texts(random, {n})); }},
    {"echo", [](Random& random, int64_t n) { return request(random_tensor<float>(random, {n})); }},
    {"nothing",
     [](Random& random, int64_t n) { return request(random_tensor<float>(random, {n, 2})); }},
    {"grids",
     [](Random& random, int64_t n) { return request(random_tensor<float>(random, {n, 3, 2})); }},
};

const std::shared_ptr<const Padding> kUnpadded = std::make_shared<Padding>();

template <typename T>
std::array<unsigned char, 16> bytes_of(T value) {
  std::array<unsigned char, 16> result = {};
  std::memcpy(result.data(), &value, sizeof value);
  return result;
}

// Of the model `lengths`: ids are filled with 100, the mask with 0.
std::shared_ptr<Padding> padding_of_lengths() {
  auto padding = std::make_shared<Padding>();
  padding->n_groups = 1;
  padding->inputs = {{Padding::kExact, 0}, {Padding::kExact, 0}};
  padding->outputs = {
      {Padding::kExact, 0}, {Padding::kExact}, {Padding::kExact}, {Padding::kExact}};
  padding->fill = {bytes_of<int64_t>(100), bytes_of<int64_t>(0)};
  padding->fill_strings = {"", ""};
  return padding;
}

// Of the model `grids`: the groups of its two axes; filled with 1000.
std::shared_ptr<Padding> padding_of_grids(size_t n_groups, int height, int width) {
  auto padding = std::make_shared<Padding>();
  padding->n_groups = n_groups;
  padding->inputs = {{Padding::kExact, height, width}};
  padding->outputs = {{Padding::kExact, height, width}, {Padding::kExact}, {Padding::kExact}};
  padding->fill = {bytes_of<float>(1000)};
  padding->fill_strings = {""};
  return padding;
}

RequestPtr length_request(Random& random, int64_t n_rows, int64_t length) {
  return request(
      random_tensor<int64_t>(random, {n_rows, length}),
      make(std::vector<int64_t>(static_cast<size_t>(n_rows * length), 1), {n_rows, length}));
}

// Output `length` of the model `lengths`, which is the same for every row.
int64_t run_length(const RequestPtr& request) {
  const std::vector<int64_t> lengths = items<int64_t>(request->outputs.at(3));
  REQUIRE(!lengths.empty());
  for (int64_t length : lengths) CHECK(length == lengths[0]);
  return lengths[0];
}

std::vector<int64_t> lane(const Padding& padding, const RequestPtr& request) {
  std::vector<int64_t> result;
  lane_of(padding, request->inputs, &result);
  return result;
}

}  // namespace

// ---- rows -----------------------------------------------------------------------------------

TEST(together_is_as_alone) {
  Random random(1);
  for (const Model& model : kModels) {
    const auto session = open(model.name);
    TensorBackend backend(session, kUnpadded);
    for (int round = 0; round < 25; ++round) {
      std::vector<RequestPtr> requests;
      const size_t n = 1 + random.below(9);
      for (size_t i = 0; i < n; ++i) {
        // Now and then one of no rows, never all of them.
        const size_t n_rows = i > 0 && random.below(8) == 0 ? 0 : 1 + random.below(6);
        requests.push_back(model.make(random, static_cast<int64_t>(n_rows)));
      }
      REQUIRE(passed(run(backend, whole(requests))));
      for (const RequestPtr& each : requests) {
        if (!CHECK(as_alone(*session, each))) std::fprintf(stderr, "of %s\n", model.name);
      }
    }
  }
}

TEST(pieces_of_a_request_make_it_whole) {
  Random random(2);
  for (const Model& model : kModels) {
    const auto session = open(model.name);
    TensorBackend backend(session, kUnpadded);
    for (int round = 0; round < 15; ++round) {
      std::vector<RequestPtr> requests;
      std::vector<Piece> pieces;
      for (size_t i = 0; i < 4; ++i) {
        requests.push_back(model.make(random, 1 + static_cast<int64_t>(random.below(12))));
        for (size_t row = 0; row < requests[i]->n_rows;) {
          const size_t n = std::min(requests[i]->n_rows - row, 1 + random.below(5));
          pieces.push_back({requests[i], row, n});
          row += n;
        }
      }
      // In any order, and with any company.
      for (size_t i = pieces.size(); i > 1; --i) std::swap(pieces[i - 1], pieces[random.below(i)]);
      for (size_t start = 0; start < pieces.size();) {
        const size_t n = std::min(pieces.size() - start, 1 + random.below(4));
        REQUIRE(passed(backend.run(&pieces[start], n)));
        start += n;
      }
      for (const RequestPtr& each : requests) {
        if (!CHECK(as_alone(*session, each))) std::fprintf(stderr, "of %s\n", model.name);
      }
    }
  }
}

TEST(pieces_of_one_request_run_in_many_threads) {
  Random random(3);
  const auto session = open("affine");
  TensorBackend backend(session, kUnpadded);
  const RequestPtr large = request(random_tensor<float>(random, {64, 4}));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (size_t k = 0; k < 4; ++k) {
        const Piece piece{large, 8 * i + 2 * k, 2};
        CHECK(passed(backend.run(&piece, 1)));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(as_alone(*session, large));
}

TEST(borrowed_memory_is_read_where_it_is) {
  Random random(18);
  const auto session = open("affine");
  TensorBackend backend(session, kUnpadded);
  // Of one array, whose rows are the requests': nothing else is aligned as an owned tensor is.
  std::vector<float> rows(4 * 10);
  for (float& value : rows) value = static_cast<float>(random.below(100));
  const std::vector<float> before = rows;
  std::vector<RequestPtr> requests;
  for (int64_t first = 0, n = 1; first < 10; first += n, ++n) {
    requests.push_back(std::make_shared<Request>());
    requests.back()->n_rows = static_cast<size_t>(n);
    requests.back()->inputs.resize(1);
    requests.back()->inputs[0].borrow(ElementType::kFloat, {n, 4}, &rows[4 * first]);
  }
  REQUIRE(requests.size() == 4);
  REQUIRE(passed(run(backend, whole(std::vector<RequestPtr>{requests[0], requests[1]}))));
  REQUIRE(passed(run(backend, {whole(requests[2])})));
  REQUIRE(passed(run(backend, {Piece{requests[3], 3, 1}})));
  REQUIRE(passed(run(backend, {Piece{requests[3], 0, 3}, whole(requests[0])})));
  for (const RequestPtr& each : requests) CHECK(as_alone(*session, each));
  CHECK(rows == before);
}

TEST(a_run_may_be_repeated) {
  // As after a failed batch: what is there already is written again.
  Random random(4);
  const auto session = open("affine");
  TensorBackend backend(session, kUnpadded);
  const std::vector<RequestPtr> requests = {request(random_tensor<float>(random, {2, 4})),
                                            request(random_tensor<float>(random, {1, 4}))};
  REQUIRE(passed(run(backend, whole(requests))));
  for (const RequestPtr& each : requests) {
    REQUIRE(passed(run(backend, {whole(each)})));
    CHECK(as_alone(*session, each));
  }
}

TEST(a_failing_run_says_so) {
  const auto session = open("lookup");
  TensorBackend backend(session, kUnpadded);
  const RequestPtr good = request(make<int64_t>({0, 2}, {2}));
  const RequestPtr poor = request(make<int64_t>({1, 9}, {2}));
  Status status = run(backend, whole(std::vector<RequestPtr>{good, poor}));
  CHECK(!status.ok() && status.message().find("Gather") != std::string::npos);
  CHECK(passed(run(backend, {whole(good)})) && as_alone(*session, good));
  CHECK(!run(backend, {whole(poor)}).ok());
  // A model that has failed once goes on sharing runs.
  const RequestPtr other = request(make<int64_t>({1}, {1}));
  CHECK(passed(run(backend, whole(std::vector<RequestPtr>{good, other}))));
  CHECK(as_alone(*session, good) && as_alone(*session, other));
}

TEST(outputs_that_are_not_rows_are_never_scattered) {
  Random random(5);
  const auto session = open("columns");
  TensorBackend backend(session, kUnpadded);
  std::vector<RequestPtr> requests;
  for (int64_t n_rows : {1, 2, 1}) {
    requests.push_back(request(random_tensor<float>(random, {n_rows, 5})));
  }
  Status status = run(backend, whole(requests));
  CHECK(status.code() == StatusCode::kInternal);
  CHECK(status.message() == "output `columns` has 5 rows for 4");
  // From then on, one by one.
  CHECK(passed(run(backend, whole(requests))));
  for (const RequestPtr& each : requests) CHECK(as_alone(*session, each));
  // A piece of one of them cannot be put together again.
  const RequestPtr large = request(random_tensor<float>(random, {4, 5}));
  CHECK(run(backend, {Piece{large, 0, 2}}).code() == StatusCode::kInternal);
}

TEST(outputs_that_are_not_rows_answer_right_through_a_queue) {
  Random random(6);
  const auto session = open("columns");
  std::shared_ptr<Coalescer> coalescer;
  REQUIRE(passed(Coalescer::create({}, {{std::make_shared<TensorBackend>(session, kUnpadded), 1}},
                                   session->cost(), &coalescer)));
  for (int round = 0; round < 3; ++round) {
    coalescer->drain();
    const Coalescer::Slot slot = coalescer->begin();
    REQUIRE(slot.replica >= 0);
    std::vector<RequestPtr> requests;
    for (int64_t i = 0; i < 10; ++i) {
      requests.push_back(request(random_tensor<float>(random, {1 + i % 3, 5})));
      REQUIRE(passed(coalescer->submit(requests.back())));
    }
    coalescer->end(slot);
    for (const RequestPtr& each : requests) {
      CHECK(passed(coalescer->wait(each, nullptr, nullptr)) && as_alone(*session, each));
    }
  }
}

TEST(inputs_of_other_rows_never_share_a_run) {
  // One factor for all rows of a call: together, it would scale another call's rows.
  const auto session = open("scaled_blocks");
  TensorBackend backend(session, kUnpadded);
  Random random(17);
  const std::vector<RequestPtr> requests = {
      request(random_tensor<double>(random, {3, 2, 3}), make<int64_t>({10}, {1})),
      request(random_tensor<double>(random, {1, 2, 3}), make<int64_t>({100}, {1}))};
  Status status = run(backend, whole(requests));
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(status.message() == "input `factor` has 1 rows for 3");
  CHECK(run(backend, {Piece{requests[0], 1, 2}}).code() == StatusCode::kInvalidArgument);
  for (const RequestPtr& each : requests) {
    CHECK(passed(run(backend, {whole(each)})) && as_alone(*session, each));
  }
  // A factor without axes neither.
  const auto counter = open("counter");
  TensorBackend counting(counter, kUnpadded);
  auto numbers = std::make_shared<Request>();
  numbers->inputs.push_back(make<int64_t>({5}, {}));
  numbers->inputs.push_back(make<float>({1}, {1}));
  CHECK(run(counting, {whole(numbers), whole(numbers)}).message() == "input `n` has no rows for 1");
  CHECK(passed(run(counting, {whole(numbers)})) && as_alone(*counter, numbers));
}

// ---- lanes ----------------------------------------------------------------------------------

TEST(a_lane_is_all_but_the_number_of_rows) {
  Random random(7);
  auto block = [&](int64_t n, int64_t height, int64_t width) {
    return lane(*kUnpadded, request(random_tensor<float>(random, {n, height, width})));
  };
  CHECK(block(1, 2, 3) == block(7, 2, 3));
  CHECK(block(1, 2, 3) != block(1, 3, 2));
  CHECK(block(1, 2, 3) != block(1, 6, 1));
  CHECK(lane(*kUnpadded, request(make<float>({1}, {1}))) !=
        lane(*kUnpadded, request(make<float>({1}, {1, 1}))));
  CHECK(lane(*kUnpadded, request(make<float>({1, 2}, {1, 2}), make<float>({1}, {1}))) !=
        lane(*kUnpadded, request(make<float>({1}, {1}), make<float>({1, 2}, {1, 2}))));
}

TEST(sizes_go_by_two_to_the_octave) {
  const std::vector<int64_t> sizes = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};
  size_t expected = 0;
  for (int64_t length = 1; length <= sizes.back(); ++length) {
    while (sizes[expected] < length) ++expected;
    CHECK(Padding::size_index(length) == expected);
  }
  CHECK(Padding::size_index(0) == 0);
  for (int octave = 3; octave < 63; ++octave) {
    const int64_t size = INT64_C(1) << octave;
    const size_t index = Padding::size_index(size);
    CHECK(index == static_cast<size_t>(2 * octave - 1));
    CHECK(Padding::size_index(size - 1) == index);
    CHECK(Padding::size_index(size / 4 * 3) == index - 1);
    CHECK(Padding::size_index(size + 1) == index + 1);
  }
  CHECK(Padding::size_index(std::numeric_limits<int64_t>::max()) < Padding::kSizes);
}

TEST(lengths_of_about_one_size_share_a_lane) {
  Random random(8);
  const auto padding = padding_of_lengths();
  auto of = [&](int64_t length) { return lane(*padding, length_request(random, 1, length)); };
  CHECK(of(5) == of(6) && of(9) == of(12) && of(13) == of(16));
  CHECK(of(4) != of(5) && of(6) != of(7) && of(12) != of(13));
  CHECK(of(0) != of(1));
  // Unequal lengths in one group are no other request's.
  const RequestPtr unequal =
      request(random_tensor<int64_t>(random, {1, 5}), random_tensor<int64_t>(random, {1, 6}));
  CHECK(lane(*padding, unequal) != of(5) && lane(*padding, unequal) != of(6));
  const RequestPtr others =
      request(random_tensor<int64_t>(random, {1, 6}), random_tensor<int64_t>(random, {1, 5}));
  CHECK(lane(*padding, unequal) != lane(*padding, others));
}

// ---- padding --------------------------------------------------------------------------------

TEST(rows_are_filled_up_to_the_longest_and_cut_back) {
  Random random(9);
  const auto session = open("lengths");
  TensorBackend backend(session, padding_of_lengths());
  for (int round = 0; round < 40; ++round) {
    std::vector<RequestPtr> requests;
    int64_t longest = 0;
    const size_t n = 1 + random.below(6);
    for (size_t i = 0; i < n; ++i) {
      const int64_t length = 1 + static_cast<int64_t>(random.below(12));
      longest = std::max(longest, length);
      requests.push_back(length_request(random, 1 + static_cast<int64_t>(random.below(4)), length));
    }
    REQUIRE(passed(run(backend, whole(requests))));
    for (const RequestPtr& each : requests) {
      // What the mask hides makes no difference, and `twice` has the request's own length.
      CHECK(as_alone(*session, each, 2));
      // What is not masked shows the fill: 100 for every item of the longest that is not its own.
      CHECK(run_length(each) == longest);
      const std::vector<int64_t> sums = items<int64_t>(each->outputs[2]);
      const std::vector<int64_t> own = items<int64_t>(alone(*session, *each)[2]);
      for (size_t row = 0; row < sums.size(); ++row) {
        CHECK(sums[row] == own[row] + 100 * (longest - each->inputs[0].dims[1]));
      }
    }
  }
}

TEST(pieces_are_filled_up_too) {
  Random random(10);
  const auto session = open("lengths");
  TensorBackend backend(session, padding_of_lengths());
  const RequestPtr large = length_request(random, 7, 5);
  const RequestPtr longer = length_request(random, 2, 8);
  REQUIRE(passed(run(backend, {Piece{large, 0, 3}})));
  REQUIRE(passed(run(backend, {Piece{large, 3, 4}, whole(longer)})));
  CHECK(as_alone(*session, large, 2) && as_alone(*session, longer));
  CHECK((items<int64_t>(large->outputs[3]) == std::vector<int64_t>{5, 5, 5, 8, 8, 8, 8}));
}

TEST(a_request_alone_is_not_filled_up) {
  Random random(11);
  const auto session = open("lengths");
  TensorBackend backend(session, padding_of_lengths());
  for (int64_t length : {1, 7, 0, 12}) {
    const RequestPtr single = length_request(random, 2, length);
    REQUIRE(passed(run(backend, {whole(single)})));
    CHECK(as_alone(*session, single));
  }
}

TEST(rows_of_no_length_are_not_filled_up) {
  Random random(12);
  const auto session = open("lengths");
  for (bool learned : {false, true}) {
    auto padding = padding_of_lengths();
    padding->learned_sizes = learned;
    TensorBackend backend(session, padding);
    const RequestPtr before = length_request(random, 1, 1);
    REQUIRE(passed(run(backend, {whole(before)})));
    const std::vector<RequestPtr> requests = {length_request(random, 1, 0),
                                              length_request(random, 2, 0)};
    REQUIRE(passed(run(backend, whole(requests))));
    for (const RequestPtr& each : requests) CHECK(as_alone(*session, each));
  }
}

TEST(texts_are_filled_up_with_a_text) {
  Random random(13);
  const auto session = open("texts");
  auto padding = std::make_shared<Padding>();
  padding->n_groups = 1;
  padding->inputs = {{Padding::kExact, 0}};
  padding->outputs = {{Padding::kExact, 0}, {Padding::kExact}};
  padding->fill.resize(1);
  padding->fill_strings = {"<pad>"};
  TensorBackend backend(session, padding);
  for (int round = 0; round < 20; ++round) {
    std::vector<RequestPtr> requests;
    int64_t longest = 0;
    for (size_t i = 0; i < 4; ++i) {
      const int64_t length = 1 + static_cast<int64_t>(random.below(5));
      longest = std::max(longest, length);
      requests.push_back(
          request(random_texts(random, {1 + static_cast<int64_t>(random.below(3)), length})));
    }
    REQUIRE(passed(run(backend, whole(requests))));
    for (const RequestPtr& each : requests) {
      CHECK(as_alone(*session, each, 1));
      for (int64_t n_pads : items<int64_t>(each->outputs[1])) {
        CHECK(n_pads == longest - each->inputs[0].dims[1]);
      }
    }
  }
}

TEST(two_axes_of_one_length_and_of_two) {
  Random random(14);
  const auto session = open("grids");
  for (size_t n_groups : {1u, 2u}) {
    TensorBackend backend(session, padding_of_grids(n_groups, 0, n_groups == 1 ? 0 : 1));
    for (int round = 0; round < 30; ++round) {
      std::vector<RequestPtr> requests;
      int64_t height = 0;
      int64_t width = 0;
      for (size_t i = 0; i < 4; ++i) {
        const int64_t h = 1 + static_cast<int64_t>(random.below(5));
        const int64_t w = n_groups == 1 ? h : 1 + static_cast<int64_t>(random.below(5));
        height = std::max(height, h);
        width = std::max(width, w);
        requests.push_back(request(
            random_tensor<float>(random, {1 + static_cast<int64_t>(random.below(3)), h, w})));
      }
      REQUIRE(passed(run(backend, whole(requests))));
      for (const RequestPtr& each : requests) {
        CHECK(as_alone(*session, each, 1));
        const int64_t filled = height * width - each->inputs[0].dims[1] * each->inputs[0].dims[2];
        const std::vector<float> sums = items<float>(each->outputs[1]);
        const std::vector<float> own = items<float>(alone(*session, *each)[1]);
        for (size_t row = 0; row < sums.size(); ++row) {
          CHECK(sums[row] == own[row] + 1000 * static_cast<float>(filled));
        }
      }
    }
  }
}

TEST(unequal_lengths_in_one_group_are_taken_as_they_are) {
  Random random(15);
  const auto session = open("grids");
  for (bool learned : {false, true}) {
    auto padding = padding_of_grids(1, 0, 0);
    padding->learned_sizes = learned;
    TensorBackend backend(session, padding);
    // Equal ones of those sizes have been there before.
    const RequestPtr before = request(random_tensor<float>(random, {1, 6, 6}));
    REQUIRE(passed(run(backend, {whole(before)})));
    const std::vector<RequestPtr> requests = {request(random_tensor<float>(random, {2, 3, 5})),
                                              request(random_tensor<float>(random, {1, 3, 5}))};
    CHECK(lane(*padding, requests[0]) == lane(*padding, requests[1]));
    REQUIRE(passed(run(backend, whole(requests))));
    for (const RequestPtr& each : requests) CHECK(as_alone(*session, each));
    REQUIRE(passed(run(backend, {whole(requests[0])})));
    CHECK(as_alone(*session, requests[0]));
  }
}

TEST(learned_sizes_are_the_largest_seen_of_about_that_size) {
  Random random(16);
  const auto session = open("lengths");
  auto padding = padding_of_lengths();
  padding->learned_sizes = true;
  TensorBackend backend(session, padding);
  auto length_of_run = [&](int64_t length) {
    const RequestPtr single = length_request(random, 2, length);
    REQUIRE(passed(run(backend, {whole(single)})));
    CHECK(as_alone(*session, single, 2));  // cut back, and masked
    return run_length(single);
  };
  CHECK(length_of_run(9) == 9);  // nothing of 9 to 12 has been seen
  CHECK(length_of_run(11) == 11);
  CHECK(length_of_run(9) == 11);
  CHECK(length_of_run(10) == 11);
  CHECK(length_of_run(7) == 7);  // another size
  CHECK(length_of_run(12) == 12);
  CHECK(length_of_run(11) == 12);
  CHECK(length_of_run(8) == 8);
  CHECK(length_of_run(7) == 8);
  const std::vector<RequestPtr> requests = {length_request(random, 1, 9),
                                            length_request(random, 2, 10)};
  REQUIRE(passed(run(backend, whole(requests))));
  for (const RequestPtr& each : requests) {
    CHECK(run_length(each) == 12 && as_alone(*session, each, 2));
  }
}

// ---- all together ---------------------------------------------------------------------------

TEST(threads_share_runs_of_any_length) {
  const auto session = open("lengths");
  auto padding = padding_of_lengths();
  padding->learned_sizes = true;
  CoalescerConfig config;
  config.max_batch_size = 8;
  config.split_size = 6;
  const std::vector<Replica> replicas = {{std::make_shared<TensorBackend>(session, padding), 2},
                                         {std::make_shared<TensorBackend>(session, padding), 1}};
  std::shared_ptr<Coalescer> coalescer;
  REQUIRE(passed(Coalescer::create(config, replicas, session->cost(), &coalescer)));
  std::vector<std::thread> threads;
  for (uint64_t thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&, thread] {
      Random random(thread + 100);
      for (int i = 0; i < 60; ++i) {
        const RequestPtr own = length_request(random, 1 + static_cast<int64_t>(random.below(9)),
                                              1 + static_cast<int64_t>(random.below(16)));
        own->lane = lane(*padding, own);
        own->size_bytes = own->units = own->inputs[0].size_bytes;
        if (!CHECK(passed(coalescer->submit(own)))) continue;
        if (!CHECK(passed(coalescer->wait(own, nullptr, nullptr)))) continue;
        CHECK(as_alone(*session, own, 2));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  coalescer->drain();
  CHECK(coalescer->stats().failed == 0 && coalescer->healthy() == 2);
  CHECK(coalescer->stats().largest_batch <= config.max_batch_size);
}

RUN_TESTS()
