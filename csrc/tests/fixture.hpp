// What the tests of sessions share: the library, the model files, values with an owner, and a
// caller that chooses between the hot and the general way as the Cython session does.
//
// The environment names the places: INFERSDK_TEST_RUNTIME is libonnxruntime, INFERSDK_TEST_MODELS
// the folder that models.py has written.
#pragma once

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "check.hpp"
#include "infersdk/session.hpp"

namespace fixture {

using namespace infersdk;

inline std::string environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) {
    std::fprintf(stderr, "%s is not set; run these programs through csrc/tests/run\n", name);
    std::_Exit(2);
  }
  return value;
}

inline std::string runtime_path() {
  return environment("INFERSDK_TEST_RUNTIME");
}
inline std::string model_folder() {
  return environment("INFERSDK_TEST_MODELS");
}
inline std::string model_path(const std::string& name) {
  return model_folder() + "/" + name + ".onnx";
}

inline bool passed(const Status& status) {
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok();
}

inline Library* library() {
  static Library* opened = [] {
    Library* result = nullptr;
    REQUIRE(passed(Library::open(runtime_path(), &result)));
    return result;
  }();
  return opened;
}

inline SessionConfig config(const std::string& name) {
  SessionConfig result;
  result.path = model_path(name);
  return result;
}

inline std::shared_ptr<Session> open(const std::string& name) {
  std::shared_ptr<Session> session;
  REQUIRE(passed(Session::open(library(), config(name), &session)));
  return session;
}

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
}

template <typename T>
constexpr ElementType element_of();
template <>
constexpr ElementType element_of<float>() {
  return ElementType::kFloat;
}
template <>
constexpr ElementType element_of<double>() {
  return ElementType::kDouble;
}
template <>
constexpr ElementType element_of<int64_t>() {
  return ElementType::kInt64;
}
template <>
constexpr ElementType element_of<int8_t>() {
  return ElementType::kInt8;
}
template <>
constexpr ElementType element_of<uint16_t>() {
  return ElementType::kFloat16;
}
template <>
constexpr ElementType element_of<bool>() {
  return ElementType::kBool;
}

// An OrtValue and its owner.
class Value {
 public:
  Value() = default;
  explicit Value(OrtValue* value) : value_(value) {}
  Value(Value&& other) noexcept : value_(other.value_) { other.value_ = nullptr; }
  ~Value() {
    if (value_ != nullptr) library()->api().ReleaseValue(value_);
  }

  OrtValue* get() const { return value_; }
  OrtValue** out() { return &value_; }

 private:
  OrtValue* value_ = nullptr;
};

inline void describe(const OrtValue* value, ElementType* element, std::vector<int64_t>* dims) {
  static const std::shared_ptr<Session> session = open("affine");
  REQUIRE(passed(session->describe(value, element, dims)));
}

inline std::vector<int64_t> dims_of(const OrtValue* value) {
  ElementType element;
  std::vector<int64_t> dims;
  describe(value, &element, &dims);
  return dims;
}

template <typename T>
std::vector<T> read(OrtValue* value) {
  ElementType element;
  std::vector<int64_t> dims;
  describe(value, &element, &dims);
  REQUIRE(element == element_of<T>());
  size_t n = 1;
  for (int64_t dim : dims) n *= static_cast<size_t>(dim);
  void* data = nullptr;
  REQUIRE(passed(library()->check(library()->api().GetTensorMutableData(value, &data))));
  const T* items = static_cast<const T*>(data);
  return std::vector<T>(items, items + n);
}

template <typename T>
std::vector<T> read(const Value& value) {
  return read<T>(value.get());
}

inline std::vector<std::string> read_strings(const OrtValue* value) {
  const Api& api = library()->api();
  const size_t n = static_cast<size_t>(dims_of(value).at(0));
  size_t total = 0;
  REQUIRE(passed(library()->check(api.GetStringTensorDataLength(value, &total))));
  std::string content(total, '\0');
  std::vector<size_t> starts(n + 1, total);
  REQUIRE(passed(
      library()->check(api.GetStringTensorContent(value, &content[0], total, starts.data(), n))));
  std::vector<std::string> result;
  for (size_t i = 0; i < n; ++i) {
    result.push_back(content.substr(starts[i], starts[i + 1] - starts[i]));
  }
  return result;
}

// A tensor that owns a copy of `items`.
template <typename T>
Value tensor(const std::vector<T>& items, const std::vector<int64_t>& dims) {
  const Api& api = library()->api();
  Value value;
  REQUIRE(passed(library()->check(
      api.CreateTensorAsOrtValue(library()->allocator(), dims.data(), dims.size(),
                                 static_cast<int>(element_of<T>()), value.out()))));
  void* data = nullptr;
  REQUIRE(passed(library()->check(api.GetTensorMutableData(value.get(), &data))));
  std::copy(items.begin(), items.end(), static_cast<T*>(data));
  return value;
}

inline void fill_strings(OrtValue* value, const std::vector<std::string>& items) {
  for (size_t i = 0; i < items.size(); ++i) {
    char* target = nullptr;
    REQUIRE(passed(library()->check(
        library()->api().GetResizedStringTensorElementBuffer(value, i, items[i].size(), &target))));
    std::copy(items[i].begin(), items[i].end(), target);
  }
}

inline Value strings(const std::vector<std::string>& items) {
  const int64_t n = static_cast<int64_t>(items.size());
  Value value;
  REQUIRE(passed(library()->check(library()->api().CreateTensorAsOrtValue(
      library()->allocator(), &n, 1, static_cast<int>(ElementType::kString), value.out()))));
  fill_strings(value.get(), items);
  return value;
}

// The general way: every output of the model for all its inputs in order.
inline Status run(Session& session, const std::vector<const OrtValue*>& inputs,
                  std::vector<Value>* outputs, InterruptCheck check = nullptr,
                  void* context = nullptr) {
  std::vector<const char*> input_names, output_names;
  for (const ValueInfo& info : session.inputs()) input_names.push_back(info.name.c_str());
  for (const ValueInfo& info : session.outputs()) output_names.push_back(info.name.c_str());
  std::vector<OrtValue*> results(output_names.size(), nullptr);
  Status status = session.run(input_names.data(), inputs.data(), inputs.size(), output_names.data(),
                              output_names.size(), results.data(), check, context);
  outputs->clear();
  for (OrtValue* result : results) {
    CHECK(status.ok() || result == nullptr);
    outputs->emplace_back(result);
  }
  return status;
}

// Ends an Instance's use with the scope.
struct Release {
  Session* session;
  void operator()(Instance* instance) const { session->release(instance); }
};
using Lease = std::unique_ptr<Instance, Release>;

inline Lease acquire(Session& session, const std::vector<int64_t>& key) {
  return Lease(session.acquire(key.data(), key.size()), Release{&session});
}

// The key of one two-dimensional or one-dimensional input.
inline std::vector<int64_t> key_of(int64_t n_rows, int64_t n_columns) {
  return {2, n_rows, n_columns};
}
inline std::vector<int64_t> key_of(int64_t n) {
  return {1, n};
}

// Runs one float input in general and keeps an Instance of its shape.
inline void learn(Session& session, const std::vector<int64_t>& key) {
  const std::vector<int64_t> dims(key.begin() + 1, key.end());
  size_t n = 1;
  for (int64_t dim : dims) n *= static_cast<size_t>(dim);
  const Value x = tensor(std::vector<float>(n), dims);
  std::vector<Value> outputs;
  REQUIRE(passed(run(session, {x.get()}, &outputs)));
  std::vector<OrtValue*> results;
  for (const Value& output : outputs) results.push_back(output.get());
  session.learn(key.data(), key.size(), results.data());
}

// Row i of `n_rows` rows for the model `affine`, different for each `seed`; small whole numbers.
inline std::vector<float> affine_rows(int n_rows, int seed) {
  std::vector<float> x(static_cast<size_t>(n_rows) * 4);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>((static_cast<int>(i) * 7 + seed * 13) % 101 - 50);
  }
  return x;
}

// What `affine` answers: the weights of models.py, in exact arithmetic.
inline std::vector<float> affine_answer(const std::vector<float>& x) {
  static constexpr float weights[4][3] = {{1, -2, 3}, {0, 5, -1}, {2, 2, 2}, {-3, 1, 4}};
  static constexpr float bias[3] = {10, 20, 30};
  const size_t n_rows = x.size() / 4;
  std::vector<float> y(n_rows * 3);
  for (size_t row = 0; row < n_rows; ++row) {
    for (size_t j = 0; j < 3; ++j) {
      float sum = bias[j];
      for (size_t i = 0; i < 4; ++i) sum += x[row * 4 + i] * weights[i][j];
      y[row * 3 + j] = sum;
    }
  }
  return y;
}

// One call of `affine`: on an Instance where one is idle, else in general and learning. `was_hot`,
// where given, says which.
inline Status call_affine(Session& session, const std::vector<float>& x, std::vector<float>* y,
                          bool* was_hot = nullptr) {
  const int64_t n_rows = static_cast<int64_t>(x.size() / 4);
  const std::vector<int64_t> key = key_of(n_rows, 4);
  const Lease instance = acquire(session, key);
  if (was_hot != nullptr) *was_hot = instance != nullptr;
  if (instance != nullptr) {
    std::memcpy(instance->inputs[0].data, x.data(), instance->inputs[0].size_bytes);
    Status status = session.run(instance.get(), nullptr, nullptr);
    if (!status.ok()) return status;
    const float* data = static_cast<const float*>(instance->outputs[0].data);
    y->assign(data, data + instance->outputs[0].n_elements);
    return status;
  }
  const Value input = tensor(x, {n_rows, 4});
  std::vector<Value> outputs;
  Status status = run(session, {input.get()}, &outputs);
  if (!status.ok()) return status;
  *y = read<float>(outputs[0]);
  OrtValue* result = outputs[0].get();
  session.learn(key.data(), key.size(), &result);
  return status;
}

inline bool answers_right(Session& session, int n_rows, int seed) {
  const std::vector<float> x = affine_rows(n_rows, seed);
  std::vector<float> y;
  return passed(call_affine(session, x, &y)) && y == affine_answer(x);
}

}  // namespace fixture
