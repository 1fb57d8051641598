// Providers and places. These machines have no GPU, so that what is proven here is the rest: that a
// provider that is not there is an error in words, that plugins are appended by device, and that
// everything that works with a device works with host memory. The tests of a device itself are in
// tests/gpu, apart from page-locked memory, whose test is here and skipped.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "fixture.hpp"
#include "infersdk/dlpack.hpp"
#include "infersdk/provider.hpp"

using namespace fixture;

namespace {

constexpr unsigned kChildLimit_s = 30;  // ends a child that hangs, by SIGALRM

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

bool has(const std::string& full_name) {
  std::vector<std::string> names;
  REQUIRE(passed(available_providers(*library(), &names)));
  return std::find(names.begin(), names.end(), full_name) != names.end();
}

ProviderConfig provider(const std::string& name) {
  ProviderConfig result;
  result.name = name;
  return result;
}

// Session options, and the environment they are for.
class Options {
 public:
  Options() {
    std::lock_guard<std::mutex> lock(Library::creation_mutex());
    REQUIRE(passed(library()->environment(&env_)));
    REQUIRE(passed(library()->check(library()->api().CreateSessionOptions(&options_))));
  }
  ~Options() { library()->api().ReleaseSessionOptions(options_); }

  Status append(const ProviderConfig& config) {
    return append_provider(*library(), env_, options_, config);
  }
  Status append_by_device(const std::string& name, const std::string& path, size_t ordinal) {
    return append_plugin(*library(), env_, options_, name, path, ordinal, provider(name));
  }
  OrtEnv* env() const { return env_; }
  OrtSessionOptions* get() const { return options_; }

 private:
  OrtEnv* env_ = nullptr;
  OrtSessionOptions* options_ = nullptr;
};

std::shared_ptr<Session> open_placed(const std::string& name,
                                     const std::shared_ptr<Placement>& placement) {
  SessionConfig placed = config(name);
  placed.placement = placement;
  std::shared_ptr<Session> session;
  REQUIRE(passed(Session::open(library(), placed, &session)));
  return session;
}

// `affine` over one value, left at `place`.
Status run_affine(const Placement& placement, const OrtValue* x, ValuePlace place, Value* y) {
  const char* input = "x";
  const char* output = "y";
  return placement.run_bound(&input, &x, 1, &output, 1, place, y->out());
}

// A struct as another library would hand it over, over `data`; counts the calls of its deleter.
struct Foreign {
  std::vector<float> data;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;
  std::atomic<int> deleted{0};
  DLManagedTensorVersioned managed{};

  Foreign(std::vector<float> items, std::vector<int64_t> dims)
      : data(std::move(items)), shape(std::move(dims)) {
    managed.version = {1, 0};
    managed.manager_ctx = this;
    managed.deleter = [](DLManagedTensorVersioned* self) {
      static_cast<Foreign*>(self->manager_ctx)->deleted.fetch_add(1);
    };
    managed.dl_tensor.data = data.data();
    managed.dl_tensor.device = {static_cast<int32_t>(DLDeviceType::kCpu), 0};
    managed.dl_tensor.ndim = static_cast<int32_t>(shape.size());
    managed.dl_tensor.dtype = {2, 32, 1};
    managed.dl_tensor.shape = shape.data();
  }
  void set_strides(std::vector<int64_t> steps) {
    strides = std::move(steps);
    managed.dl_tensor.strides = strides.data();
  }
};

std::string refusal(Foreign& foreign) {
  std::shared_ptr<DeviceValue> taken;
  const Status status = DeviceValue::from_dlpack(*library(), &foreign.managed, &taken);
  CHECK(!status.ok() && taken == nullptr);
  CHECK(foreign.deleted.load() == 1);
  return status.message();
}

}  // namespace

TEST(the_cpu_is_always_available) {
  CHECK(has("CPUExecutionProvider"));
  CHECK(!has("CPU"));
}

TEST(the_cpu_needs_no_appending) {
  Options options;
  ProviderConfig cpu = provider("CPU");
  cpu.set("anything", "at all");
  CHECK(passed(options.append(cpu)));
}

TEST(cuda_that_is_not_built_in_is_an_error_in_words) {
  if (has("CUDAExecutionProvider")) SKIP("this ONNX Runtime has CUDA");
  Options options;
  CHECK(contains(options.append(provider("CUDA")).message(), "not enabled in this build"));
  ProviderConfig with_options = provider("CUDA");
  with_options.set("device_id", "0");
  CHECK(contains(options.append(with_options).message(), "not enabled in this build"));
}

TEST(tensorrt_that_is_not_built_in_is_an_error_in_words) {
  if (has("TensorrtExecutionProvider")) SKIP("this ONNX Runtime has TensorRT");
  Options options;
  const Status status = options.append(provider("TensorRT"));
  CHECK(!status.ok() && contains(status.message(), "TensorRT"));
}

TEST(other_providers_are_named_to_onnx_runtime) {
  Options options;
  Status status = options.append(provider("NoSuchThing"));
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(contains(status.message(), "NoSuchThing"));
  if (has("XnnpackExecutionProvider")) SKIP("this ONNX Runtime has XNNPACK");
  status = options.append(provider("XNNPACK"));
  CHECK(!status.ok() && contains(status.message(), "XNNPACK"));
}

TEST(an_empty_option_is_refused) {
  Options options;
  ProviderConfig openvino = provider("OpenVINO");
  openvino.set("device_type", "");
  CHECK(options.append(openvino).code() == StatusCode::kInvalidArgument);
}

TEST(options_that_are_not_in_pairs_are_refused) {
  Options options;
  ProviderConfig cuda = provider("CUDA");
  cuda.keys.push_back("device_id");
  CHECK(options.append(cuda).code() == StatusCode::kInternal);
}

TEST(a_session_whose_provider_is_missing_does_not_open) {
  if (has("CUDAExecutionProvider")) SKIP("this ONNX Runtime has CUDA");
  SessionConfig placed = config("affine");
  placed.placement = std::make_shared<Placement>(std::vector<ProviderConfig>{provider("CUDA")}, 0);
  std::shared_ptr<Session> session;
  const Status status = Session::open(library(), placed, &session);
  CHECK(!status.ok() && session == nullptr);
  CHECK(contains(status.message(), "CUDA"));
  CHECK(!placed.placement->pins());
}

TEST(a_plugin_is_appended_by_device) {
  if (library()->api().SessionOptionsAppendExecutionProvider_V2 == nullptr) {
    SKIP("this ONNX Runtime is too old for plugins");
  }
  // The CPU is listed as a device too, so that the way is the one a plugin goes.
  Options options;
  REQUIRE(passed(options.append_by_device("CPUExecutionProvider", "", 0)));
  OrtSession* raw = nullptr;
  REQUIRE(passed(library()->check(library()->api().CreateSession(
      options.env(), model_path("affine").c_str(), options.get(), &raw))));
  const std::vector<float> x = affine_rows(3, 1);
  const Value input = tensor(x, {3, 4});
  const char* input_name = "x";
  const char* output_name = "y";
  const OrtValue* given = input.get();
  Value answer;
  CHECK(passed(library()->check(
      library()->api().Run(raw, nullptr, &input_name, &given, 1, &output_name, 1, answer.out()))));
  CHECK(read<float>(answer) == affine_answer(x));
  library()->api().ReleaseSession(raw);
}

TEST(a_plugin_that_is_not_there_is_an_error_in_words) {
  if (library()->api().SessionOptionsAppendExecutionProvider_V2 == nullptr) {
    SKIP("this ONNX Runtime is too old for plugins");
  }
  Options options;
  Status status = options.append_by_device("CPUExecutionProvider", "", 9);
  CHECK(contains(status.message(), "device 9") && contains(status.message(), "sees 1"));
  status = options.append_by_device("NoSuchExecutionProvider", "", 0);
  CHECK(contains(status.message(), "NoSuchExecutionProvider"));
  status = options.append_by_device("NoSuchExecutionProvider", "/no/such/plugin.so", 0);
  CHECK(!status.ok() && contains(status.message(), "/no/such/plugin.so"));
}

TEST(values_of_the_cpu_lie_in_host_memory_wherever_they_are_asked_for) {
  auto placement = std::make_shared<Placement>(std::vector<ProviderConfig>{});
  CHECK(placement->memory(ValuePlace::kHost) == nullptr);
  const std::shared_ptr<Session> session = open_placed("affine", placement);
  CHECK(!placement->on_device() && !placement->pins());
  for (ValuePlace place : {ValuePlace::kHost, ValuePlace::kPinned, ValuePlace::kDevice}) {
    CHECK(placement->memory(place) == library()->cpu_memory());
    const std::vector<float> x = affine_rows(5, static_cast<int>(place));
    const Value input = tensor(x, {5, 4});
    Value answer;
    REQUIRE(passed(run_affine(*placement, input.get(), place, &answer)));
    CHECK(read<float>(answer) == affine_answer(x));
  }
  CHECK(answers_right(*session, 4, 1));  // the usual ways go on working
}

TEST(a_session_on_a_device_keeps_no_binding) {
  // The ordinal says that values are copied. No provider is needed to see what a session does then.
  auto placement = std::make_shared<Placement>(std::vector<ProviderConfig>{}, 0);
  const std::shared_ptr<Session> session = open_placed("affine", placement);
  CHECK(placement->on_device() && !placement->pins());
  learn(*session, key_of(2, 4));
  const Lease instance = acquire(*session, key_of(2, 4));
  REQUIRE(instance != nullptr);
  CHECK(instance->binding == nullptr);
  for (int seed = 0; seed < 3; ++seed) {
    const std::vector<float> x = affine_rows(2, seed);
    std::memcpy(instance->inputs[0].data, x.data(), instance->inputs[0].size_bytes);
    REQUIRE(passed(session->run(instance.get(), nullptr, nullptr)));
    CHECK(read<float>(instance->results[0]) == affine_answer(x));
    library()->api().ReleaseValue(instance->results[0]);
    instance->results[0] = nullptr;
  }
}

TEST(outputs_outlive_their_session) {
  const std::vector<float> x = affine_rows(6, 3);
  Value answer;
  {
    auto placement = std::make_shared<Placement>(std::vector<ProviderConfig>{});
    const std::shared_ptr<Session> session = open_placed("affine", placement);
    const Value input = tensor(x, {6, 4});
    REQUIRE(passed(run_affine(*placement, input.get(), ValuePlace::kDevice, &answer)));
  }
  CHECK(read<float>(answer) == affine_answer(x));
}

TEST(a_bound_run_that_fails_gives_no_values) {
  auto placement = std::make_shared<Placement>(std::vector<ProviderConfig>{});
  const Value input = tensor(affine_rows(2, 1), {2, 4});
  Value answer;
  Status status = run_affine(*placement, input.get(), ValuePlace::kHost, &answer);
  CHECK(!status.ok() && answer.get() == nullptr);
  CHECK(contains(status.message(), "not been loaded"));

  const std::shared_ptr<Session> session = open_placed("affine", placement);
  const Value wrong = tensor(std::vector<float>(6), {2, 3});
  CHECK(!run_affine(*placement, wrong.get(), ValuePlace::kHost, &answer).ok());
  CHECK(answer.get() == nullptr);
  const char* no_such = "no_such";
  const OrtValue* given = input.get();
  CHECK(!placement->run_bound(&no_such, &given, 1, &no_such, 1, ValuePlace::kHost, answer.out())
             .ok());
  CHECK(answer.get() == nullptr);
  CHECK(passed(run_affine(*placement, input.get(), ValuePlace::kHost, &answer)));
}

TEST(bound_runs_of_many_threads_do_not_mix) {
  auto placement = std::make_shared<Placement>(std::vector<ProviderConfig>{});
  const std::shared_ptr<Session> session = open_placed("affine", placement);
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 50; ++round) {
        const std::vector<float> x = affine_rows(1 + i, i * 50 + round);
        const Value input = tensor(x, {1 + i, 4});
        Value answer;
        REQUIRE(passed(run_affine(*placement, input.get(), ValuePlace::kDevice, &answer)));
        CHECK(read<float>(answer) == affine_answer(x));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(a_staging_buffer_without_a_device_is_aligned_memory) {
  auto placement = std::make_shared<Placement>(std::vector<ProviderConfig>{});
  const std::shared_ptr<Session> session = open_placed("affine", placement);
  const std::vector<float> x = affine_rows(7, 2);
  const size_t size_bytes = x.size() * sizeof(float);
  for (const std::shared_ptr<Placement>& where : {placement, std::shared_ptr<Placement>()}) {
    StagingBuffer buffer;
    REQUIRE(passed(StagingBuffer::allocate(*library(), where, size_bytes, &buffer)));
    CHECK(!buffer.pinned());
    CHECK(buffer.size_bytes() == size_bytes);
    CHECK(reinterpret_cast<uintptr_t>(buffer.data()) % 64 == 0);
    std::memcpy(buffer.data(), x.data(), size_bytes);

    const std::vector<int64_t> dims = {7, 4};
    Value input;
    REQUIRE(passed(library()->check(library()->api().CreateTensorWithDataAsOrtValue(
        buffer.memory(), buffer.data(), size_bytes, dims.data(), dims.size(),
        static_cast<int>(ElementType::kFloat), input.out()))));
    Value answer;
    REQUIRE(passed(run_affine(*placement, input.get(), ValuePlace::kPinned, &answer)));
    CHECK(read<float>(answer) == affine_answer(x));
  }
}

TEST(staging_buffers_move_and_may_be_empty) {
  StagingBuffer first;
  CHECK(first.data() == nullptr && first.size_bytes() == 0);
  REQUIRE(passed(StagingBuffer::allocate(*library(), nullptr, 100, &first)));
  void* data = first.data();
  StagingBuffer second(std::move(first));
  CHECK(second.data() == data && second.size_bytes() == 100);
  CHECK(first.data() == nullptr && first.size_bytes() == 0);
  REQUIRE(passed(StagingBuffer::allocate(*library(), nullptr, 0, &first)));
  CHECK(first.data() != nullptr && first.size_bytes() == 0);
  first = std::move(second);
  CHECK(first.data() == data && second.data() == nullptr);
  REQUIRE(passed(StagingBuffer::allocate(*library(), nullptr, 10, &first)));  // frees what it had
  CHECK(first.size_bytes() == 10);
}

TEST(a_child_of_a_fork_attaches_its_own_session) {
  auto placement = std::make_shared<Placement>(std::vector<ProviderConfig>{});
  const std::shared_ptr<Session> session = open_placed("affine", placement);
  StagingBuffer buffer;
  REQUIRE(passed(StagingBuffer::allocate(*library(), placement, 64, &buffer)));
  const std::vector<float> x = affine_rows(3, 5);
  const Value input = tensor(x, {3, 4});
  const pid_t pid = fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    alarm(kChildLimit_s);
    Value answer;
    bool right = !run_affine(*placement, input.get(), ValuePlace::kDevice, &answer).ok();
    right = right && placement->memory(ValuePlace::kHost) == nullptr;
    right = right && answers_right(*session, 3, 5);  // loads the model in this process
    right = right && passed(run_affine(*placement, input.get(), ValuePlace::kDevice, &answer));
    right = right && read<float>(answer) == affine_answer(x);
    buffer = StagingBuffer();
    _exit(right ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  Value answer;
  CHECK(passed(run_affine(*placement, input.get(), ValuePlace::kDevice, &answer)));
}

TEST(a_value_is_handed_over_without_a_copy) {
  const std::vector<float> x = affine_rows(3, 1);
  Value made = tensor(x, {3, 4});
  void* data = nullptr;
  REQUIRE(passed(library()->check(library()->api().GetTensorMutableData(made.get(), &data))));
  OrtValue* raw = std::exchange(*made.out(), nullptr);
  std::shared_ptr<DeviceValue> held;
  REQUIRE(passed(DeviceValue::adopt(*library(), raw, true, nullptr, &held)));
  CHECK(held->data() == data && held->size_bytes() == 48 && held->read_only());
  CHECK(std::strcmp(element_name(held->element()), "float32") == 0);

  DLManagedTensorVersioned* versioned = nullptr;
  DLManagedTensor* plain = nullptr;
  REQUIRE(passed(to_dlpack(held, &versioned)));
  REQUIRE(passed(to_dlpack(held, &plain)));
  held.reset();  // the structs hold the memory now
  CHECK(versioned->version.major == 1 && versioned->flags == kDLReadOnly);
  for (const DLTensor& given : {versioned->dl_tensor, plain->dl_tensor}) {
    CHECK(given.data == data && given.byte_offset == 0);
    CHECK(given.device.device_type == static_cast<int32_t>(DLDeviceType::kCpu));
    CHECK(given.ndim == 2 && given.shape[0] == 3 && given.shape[1] == 4);
    CHECK(given.strides[0] == 4 && given.strides[1] == 1);
    CHECK(given.dtype.code == 2 && given.dtype.bits == 32 && given.dtype.lanes == 1);
  }
  versioned->deleter(versioned);
  const float* items = static_cast<const float*>(plain->dl_tensor.data);
  CHECK(std::vector<float>(items, items + x.size()) == x);
  std::thread elsewhere([&] { plain->deleter(plain); });
  elsewhere.join();
}

TEST(a_tensor_of_another_library_is_an_input) {
  auto placement = std::make_shared<Placement>(std::vector<ProviderConfig>{});
  const std::shared_ptr<Session> session = open_placed("affine", placement);
  Foreign foreign(affine_rows(3, 4), {2, 4});
  foreign.managed.dl_tensor.byte_offset = 4 * sizeof(float);  // the second and third row
  foreign.set_strides({4, 1});
  std::shared_ptr<DeviceValue> taken;
  REQUIRE(passed(DeviceValue::from_dlpack(*library(), &foreign.managed, &taken)));
  CHECK(!taken->read_only());
  Value answer;
  REQUIRE(passed(run_affine(*placement, taken->value(), ValuePlace::kHost, &answer)));
  const std::vector<float> rows(foreign.data.begin() + 4, foreign.data.end());
  CHECK(read<float>(answer) == affine_answer(rows));
  CHECK(foreign.deleted.load() == 0);
  taken.reset();
  CHECK(foreign.deleted.load() == 1);
}

TEST(tensors_that_cannot_be_taken_are_refused_and_deleted) {
  Foreign gaps(std::vector<float>(16), {2, 4});
  gaps.set_strides({8, 1});
  CHECK(contains(refusal(gaps), "contiguous"));
  Foreign transposed(std::vector<float>(8), {2, 4});
  transposed.set_strides({1, 2});
  CHECK(contains(refusal(transposed), "contiguous"));
  Foreign lanes(std::vector<float>(8), {2, 4});
  lanes.managed.dl_tensor.dtype.lanes = 4;
  CHECK(contains(refusal(lanes), "element type"));
  Foreign elsewhere(std::vector<float>(8), {2, 4});
  elsewhere.managed.dl_tensor.device.device_type = 8;  // Metal
  CHECK(contains(refusal(elsewhere), "device"));
  Foreign newer(std::vector<float>(8), {2, 4});
  newer.managed.version.major = 2;
  CHECK(contains(refusal(newer), "version 2"));
}

TEST(strides_of_axes_that_do_not_matter_are_not_looked_at) {
  Foreign one_row(std::vector<float>(4), {1, 4});
  one_row.set_strides({99, 1});
  std::shared_ptr<DeviceValue> taken;
  CHECK(passed(DeviceValue::from_dlpack(*library(), &one_row.managed, &taken)));
  Foreign empty(std::vector<float>(1), {0, 4});
  empty.set_strides({7, 3});
  CHECK(passed(DeviceValue::from_dlpack(*library(), &empty.managed, &taken)));
  CHECK(taken->size_bytes() == 0);
  Foreign scalar(std::vector<float>{5}, {});
  CHECK(passed(DeviceValue::from_dlpack(*library(), &scalar.managed, &taken)));
  CHECK(taken->size_bytes() == sizeof(float) && taken->dims().empty());
}

TEST(an_input_on_a_device_that_is_not_there_is_an_error) {
  auto placement = std::make_shared<Placement>(std::vector<ProviderConfig>{});
  const std::shared_ptr<Session> session = open_placed("affine", placement);
  Foreign foreign(affine_rows(2, 1), {2, 4});
  foreign.managed.dl_tensor.device = {static_cast<int32_t>(DLDeviceType::kCuda), 99};
  std::shared_ptr<DeviceValue> taken;
  REQUIRE(passed(DeviceValue::from_dlpack(*library(), &foreign.managed, &taken)));
  CHECK(taken->device().device_type == static_cast<int32_t>(DLDeviceType::kCuda));
  CHECK(taken->device().device_id == 99);
  Value answer;
  const Status status = run_affine(*placement, taken->value(), ValuePlace::kHost, &answer);
  CHECK(!status.ok() && answer.get() == nullptr && contains(status.message(), "CUDA device"));
}

TEST(openvino_computes_what_the_cpu_computes) {
  if (!has("OpenVINOExecutionProvider")) SKIP("this ONNX Runtime has no OpenVINO");
  ProviderConfig openvino = provider("OpenVINO");
  openvino.set("device_type", "CPU");
  auto placement = std::make_shared<Placement>(std::vector<ProviderConfig>{openvino});
  const std::shared_ptr<Session> session = open_placed("affine", placement);
  for (int seed = 0; seed < 3; ++seed) {
    CHECK(answers_right(*session, 4, seed));
    const std::vector<float> x = affine_rows(5, seed);
    const Value input = tensor(x, {5, 4});
    Value answer;
    REQUIRE(passed(run_affine(*placement, input.get(), ValuePlace::kDevice, &answer)));
    CHECK(read<float>(answer) == affine_answer(x));
  }
  Options options;
  openvino.set("no_such_option", "1");
  CHECK(!options.append(openvino).ok());
}

TEST(a_cuda_device_reads_and_writes_page_locked_memory) {
  if (!has("CUDAExecutionProvider")) SKIP("this ONNX Runtime has no CUDA");
  ProviderConfig cuda = provider("CUDA");
  cuda.set("device_id", "0");
  cuda.set("use_tf32", "0");
  auto placement = std::make_shared<Placement>(std::vector<ProviderConfig>{cuda}, 0);
  SessionConfig placed = config("affine");
  placed.placement = placement;
  std::shared_ptr<Session> session;
  if (!Session::open(library(), placed, &session).ok()) SKIP("no CUDA device");
  CHECK(placement->pins() && placement->on_device());
  std::vector<StagingBuffer> buffers(4);
  for (int seed = 0; seed < 20; ++seed) {
    CHECK(answers_right(*session, 7, seed));  // the usual ways, with other rows each time
    const std::vector<float> x = affine_rows(7, seed);
    const size_t size_bytes = x.size() * sizeof(float);
    StagingBuffer& buffer = buffers[static_cast<size_t>(seed) % buffers.size()];
    REQUIRE(passed(StagingBuffer::allocate(*library(), placement, size_bytes, &buffer)));
    CHECK(buffer.pinned() && buffer.memory() == placement->memory(ValuePlace::kPinned));
    std::memcpy(buffer.data(), x.data(), size_bytes);
    const std::vector<int64_t> dims = {7, 4};
    Value input;
    REQUIRE(passed(library()->check(library()->api().CreateTensorWithDataAsOrtValue(
        buffer.memory(), buffer.data(), size_bytes, dims.data(), dims.size(),
        static_cast<int>(ElementType::kFloat), input.out()))));
    for (ValuePlace place : {ValuePlace::kHost, ValuePlace::kPinned}) {
      Value answer;
      REQUIRE(passed(run_affine(*placement, input.get(), place, &answer)));
      CHECK(read<float>(answer) == affine_answer(x));
    }
    Value left;
    REQUIRE(passed(run_affine(*placement, input.get(), ValuePlace::kDevice, &left)));
    std::shared_ptr<DeviceValue> held;
    REQUIRE(passed(
        DeviceValue::adopt(*library(), std::exchange(*left.out(), nullptr), true, nullptr, &held)));
    CHECK(held->device().device_type == static_cast<int32_t>(DLDeviceType::kCuda));
    CHECK(held->device().device_id == 0);
  }
  session.reset();
  placement.reset();
  buffers.clear();  // outlive their session
}

TEST(text_has_no_dlpack_form) {
  Value text = strings({"a", "b"});
  OrtValue* raw = std::exchange(*text.out(), nullptr);
  std::shared_ptr<DeviceValue> held;
  const Status status = DeviceValue::adopt(*library(), raw, false, nullptr, &held);
  CHECK(!status.ok() && held == nullptr && contains(status.message(), "text"));
}

RUN_TESTS()
