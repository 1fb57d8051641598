#include "infersdk/session.hpp"

#include <algorithm>
#include <condition_variable>
#include <thread>

namespace infersdk {
namespace {

constexpr auto kInterruptSlice = std::chrono::milliseconds(50);

// Releases a handle of ONNX Runtime when the scope ends.
template <typename T>
class Scoped {
 public:
  explicit Scoped(void (*release)(T*)) : release_(release) {}
  ~Scoped() {
    if (value_ != nullptr) release_(value_);
  }
  Scoped(const Scoped&) = delete;
  Scoped& operator=(const Scoped&) = delete;
  T** out() { return &value_; }
  T* get() const { return value_; }
  T* take() {
    T* value = value_;
    value_ = nullptr;
    return value;
  }

 private:
  T* value_ = nullptr;
  void (*release_)(T*);
};

Status read_tensor_info(const Library& library, const OrtTensorTypeAndShapeInfo* tensor,
                        ValueInfo* out) {
  const Api& api = library.api();
  int element = 0;
  INFERSDK_RETURN_IF_ERROR(library.check(api.GetTensorElementType(tensor, &element)));
  out->element = static_cast<ElementType>(element);
  size_t rank = 0;
  INFERSDK_RETURN_IF_ERROR(library.check(api.GetDimensionsCount(tensor, &rank)));
  // Older libraries give an unknown rank and a scalar alike as rank 0: nothing is then checked.
  out->has_shape = rank > 0;
  if (api.TensorTypeAndShape_HasShape != nullptr) {
    out->has_shape = api.TensorTypeAndShape_HasShape(tensor);
  }
  out->dims.assign(rank, -1);
  out->symbols.assign(rank, std::string());
  if (rank > 0) {
    std::vector<const char*> symbols(rank, nullptr);
    INFERSDK_RETURN_IF_ERROR(library.check(api.GetDimensions(tensor, out->dims.data(), rank)));
    INFERSDK_RETURN_IF_ERROR(
        library.check(api.GetSymbolicDimensions(tensor, symbols.data(), rank)));
    for (size_t i = 0; i < rank; ++i) {
      if (symbols[i] != nullptr) out->symbols[i] = symbols[i];
    }
  }
  return Status();
}

Status read_type(const Library& library, const OrtTypeInfo* type, ValueInfo* out) {
  const Api& api = library.api();
  int kind = 0;
  INFERSDK_RETURN_IF_ERROR(library.check(api.GetOnnxTypeFromTypeInfo(type, &kind)));
  out->kind = static_cast<ValueKind>(kind);
  Scoped<OrtTypeInfo> child(api.ReleaseTypeInfo);
  switch (out->kind) {
    case ValueKind::kTensor:
    case ValueKind::kSparseTensor: {
      const OrtTensorTypeAndShapeInfo* tensor = nullptr;
      INFERSDK_RETURN_IF_ERROR(library.check(api.CastTypeInfoToTensorInfo(type, &tensor)));
      if (tensor != nullptr) INFERSDK_RETURN_IF_ERROR(read_tensor_info(library, tensor, out));
      return Status();
    }
    case ValueKind::kSequence: {
      const OrtSequenceTypeInfo* sequence = nullptr;
      INFERSDK_RETURN_IF_ERROR(library.check(api.CastTypeInfoToSequenceTypeInfo(type, &sequence)));
      INFERSDK_RETURN_IF_ERROR(library.check(api.GetSequenceElementType(sequence, child.out())));
      break;
    }
    case ValueKind::kMap: {
      const OrtMapTypeInfo* map = nullptr;
      int key = 0;
      INFERSDK_RETURN_IF_ERROR(library.check(api.CastTypeInfoToMapTypeInfo(type, &map)));
      INFERSDK_RETURN_IF_ERROR(library.check(api.GetMapKeyType(map, &key)));
      out->element = static_cast<ElementType>(key);
      INFERSDK_RETURN_IF_ERROR(library.check(api.GetMapValueType(map, child.out())));
      break;
    }
    case ValueKind::kOptional: {
      const OrtOptionalTypeInfo* optional = nullptr;
      INFERSDK_RETURN_IF_ERROR(library.check(api.CastTypeInfoToOptionalTypeInfo(type, &optional)));
      INFERSDK_RETURN_IF_ERROR(
          library.check(api.GetOptionalContainedTypeInfo(optional, child.out())));
      break;
    }
    default:
      return Status();
  }
  out->children.emplace_back();
  return read_type(library, child.get(), &out->children.back());
}

bool fits_an_instance(const std::vector<ValueInfo>& values) {
  for (const ValueInfo& value : values) {
    if (value.kind != ValueKind::kTensor) return false;
    if (value.element != ElementType::kString && element_size(value.element) == 0) return false;
  }
  return true;
}

}  // namespace

Status Session::open(Library* library, SessionConfig config,
                     std::shared_ptr<Session>* out) noexcept {
  return guarded([&]() -> Status {
    std::shared_ptr<Session> session(new Session(library, std::move(config)));
    auto state = std::make_unique<State>();
    {
      std::lock_guard<std::mutex> lock(Library::creation_mutex());
      INFERSDK_RETURN_IF_ERROR(session->load(state.get()));
    }
    OrtSession* raw = state->session;
    session->state_.store(state.release(), std::memory_order_release);
    INFERSDK_RETURN_IF_ERROR(session->read_types(raw));
    *out = std::move(session);
    return Status();
  });
}

Session::~Session() {
  State* state = state_.load(std::memory_order_acquire);
  if (state == nullptr) return;
  // A parent's session, seen from a child, is left alone: its locks may be held for ever.
  if (state->generation != Library::process_generation()) return;
  for (Shape& shape : state->shapes) {
    for (auto& instance : shape.idle) destroy(instance.release());
  }
  std::lock_guard<std::mutex> lock(Library::creation_mutex());
  library_->api().ReleaseRunOptions(state->run_options);
  library_->api().ReleaseRunOptions(state->queued_options);
  library_->api().ReleaseSession(state->session);
  delete state;
}

Status Session::load(State* state) {
  const Api& api = library_->api();
  OrtEnv* env = nullptr;
  INFERSDK_RETURN_IF_ERROR(library_->environment(&env));
  Scoped<OrtSessionOptions> options(api.ReleaseSessionOptions);
  INFERSDK_RETURN_IF_ERROR(library_->check(api.CreateSessionOptions(options.out())));
  OrtSessionOptions* raw = options.get();
  INFERSDK_RETURN_IF_ERROR(library_->check(api.SetSessionLogSeverityLevel(raw, kLogFatal)));
  INFERSDK_RETURN_IF_ERROR(library_->check(api.SetIntraOpNumThreads(raw, config_.threads)));
  INFERSDK_RETURN_IF_ERROR(library_->check(api.SetInterOpNumThreads(raw, 1)));
  INFERSDK_RETURN_IF_ERROR(
      library_->check(api.SetSessionGraphOptimizationLevel(raw, config_.graph_optimization)));
  // Spinning pool threads burn a core at a few hundred calls a second; a web app has other uses for
  // it.
  for (const char* key : {"session.intra_op.allow_spinning", "session.inter_op.allow_spinning"}) {
    INFERSDK_RETURN_IF_ERROR(library_->check(api.AddSessionConfigEntry(raw, key, "0")));
  }
  if (config_.placement != nullptr) {
    INFERSDK_RETURN_IF_ERROR(config_.placement->append(*library_, env, raw));
  }
  if (config_.bytes != nullptr) {
    if (!config_.external_folder.empty()) {
      INFERSDK_RETURN_IF_ERROR(library_->check(
          api.AddSessionConfigEntry(raw, "session.model_external_initializers_file_folder_path",
                                    config_.external_folder.c_str())));
    }
    INFERSDK_RETURN_IF_ERROR(library_->check(api.CreateSessionFromArray(
        env, config_.bytes->data(), config_.bytes->size(), raw, &state->session)));
  } else {
    INFERSDK_RETURN_IF_ERROR(
        library_->check(api.CreateSession(env, config_.path.c_str(), raw, &state->session)));
  }
  Status status = library_->check(api.CreateRunOptions(&state->run_options));
  if (status.ok()) {
    status = library_->check(api.CreateRunOptions(&state->queued_options));
    if (!status.ok()) api.ReleaseRunOptions(state->run_options);
  }
  if (!status.ok()) {
    api.ReleaseSession(state->session);
    return status;
  }
  if (config_.placement != nullptr) {
    config_.placement->attach(*library_, state->session);
    // Without prebuilt outputs there is no binding to keep: on a device it would copy its inputs
    // once, when it is made.
    if (config_.placement->on_device()) prebuild_outputs_.store(false, std::memory_order_relaxed);
  }
  state->generation = Library::process_generation();
  return Status();
}

Status Session::current(State** out) noexcept {
  State* state = state_.load(std::memory_order_acquire);
  if (state->generation == Library::process_generation()) {
    *out = state;
    return Status();
  }
  return guarded([&]() -> Status {
    std::lock_guard<std::mutex> lock(Library::creation_mutex());
    State* latest = state_.load(std::memory_order_acquire);
    if (latest->generation != Library::process_generation()) {
      auto fresh = std::make_unique<State>();
      INFERSDK_RETURN_IF_ERROR(load(fresh.get()));
      latest = fresh.release();
      state_.store(latest, std::memory_order_release);
    }
    *out = latest;
    return Status();
  });
}

Status Session::read_types(OrtSession* session) {
  const Api& api = library_->api();
  using Count = OrtStatus* (*)(const OrtSession*, size_t*);
  using Name = OrtStatus* (*)(const OrtSession*, size_t, OrtAllocator*, char**);
  using Type = OrtStatus* (*)(const OrtSession*, size_t, OrtTypeInfo**);
  auto read = [&](Count count, Name get_name, Type get_type,
                  std::vector<ValueInfo>* values) -> Status {
    size_t n = 0;
    INFERSDK_RETURN_IF_ERROR(library_->check(count(session, &n)));
    values->resize(n);
    for (size_t i = 0; i < n; ++i) {
      ValueInfo& value = (*values)[i];
      char* name = nullptr;
      INFERSDK_RETURN_IF_ERROR(library_->check(get_name(session, i, library_->allocator(), &name)));
      value.name = name;
      INFERSDK_RETURN_IF_ERROR(library_->check(api.AllocatorFree(library_->allocator(), name)));
      Scoped<OrtTypeInfo> type(api.ReleaseTypeInfo);
      INFERSDK_RETURN_IF_ERROR(library_->check(get_type(session, i, type.out())));
      INFERSDK_RETURN_IF_ERROR(read_type(*library_, type.get(), &value));
    }
    return Status();
  };
  INFERSDK_RETURN_IF_ERROR(read(api.SessionGetInputCount, api.SessionGetInputName,
                                api.SessionGetInputTypeInfo, &inputs_));
  INFERSDK_RETURN_IF_ERROR(read(api.SessionGetOutputCount, api.SessionGetOutputName,
                                api.SessionGetOutputTypeInfo, &outputs_));
  INFERSDK_RETURN_IF_ERROR(read(api.SessionGetOverridableInitializerCount,
                                api.SessionGetOverridableInitializerName,
                                api.SessionGetOverridableInitializerTypeInfo, &overridable_));
  for (const ValueInfo& value : inputs_) input_names_.push_back(value.name.c_str());
  for (const ValueInfo& value : outputs_) {
    output_names_.push_back(value.name.c_str());
    bool is_input = false;
    for (const ValueInfo& input : inputs_) is_input = is_input || input.name == value.name;
    gives_input_.push_back(is_input);
  }
  instances_possible_ = fits_an_instance(inputs_) && fits_an_instance(outputs_);
  return Status();
}

Status Session::run_once(OrtSession* session, const OrtRunOptions* options,
                         const char* const* input_names, const OrtValue* const* inputs,
                         size_t n_inputs, const char* const* output_names, size_t n_outputs,
                         OrtValue** outputs) noexcept {
  return library_->check(library_->api().Run(session, options, input_names, inputs, n_inputs,
                                             output_names, n_outputs, outputs));
}

Status Session::run_interruptible(OrtSession* session, const char* const* input_names,
                                  const OrtValue* const* inputs, size_t n_inputs,
                                  const char* const* output_names, size_t n_outputs,
                                  OrtValue** outputs, InterruptCheck check,
                                  void* context) noexcept {
  // What the run's thread and this one share.
  struct Exchange {
    explicit Exchange(const Api& api) : options(api.ReleaseRunOptions) {}
    Scoped<OrtRunOptions> options;
    std::mutex mutex;
    std::condition_variable finished;
    bool done = false;
    Status status;
    std::thread runner;
  };
  return guarded([&]() -> Status {
    const Api& api = library_->api();
    const uint64_t generation = Library::process_generation();
    auto exchange = std::make_unique<Exchange>(api);
    Exchange& shared = *exchange;
    INFERSDK_RETURN_IF_ERROR(library_->check(api.CreateRunOptions(shared.options.out())));
    shared.runner = std::thread([&] {
      Status result = run_once(session, shared.options.get(), input_names, inputs, n_inputs,
                               output_names, n_outputs, outputs);
      std::lock_guard<std::mutex> lock(shared.mutex);
      shared.status = std::move(result);
      shared.done = true;
      shared.finished.notify_one();
    });
    bool interrupted = false;
    {
      std::unique_lock<std::mutex> lock(shared.mutex);
      while (!shared.finished.wait_for(lock, kInterruptSlice, [&] { return shared.done; })) {
        if (interrupted) continue;
        lock.unlock();
        const bool stop = check(context) != 0;
        if (Library::process_generation() != generation) {
          // A signal handler has forked and this is the child: the run's thread is not here, so it
          // would be waited for without end, and what it may have been changing is left alone.
          (void)exchange.release();
          return Status(StatusCode::kInternal, "the process was forked during the run");
        }
        if (stop) {
          interrupted = true;
          // The run stops at its next node; its thread and values are needed until then.
          Status ignored = library_->check(api.RunOptionsSetTerminate(shared.options.get()));
          (void)ignored;
        }
        lock.lock();
      }
    }
    shared.runner.join();
    if (!interrupted) return std::move(shared.status);
    return Status(StatusCode::kInterrupted, "interrupted");
  });
}

Status Session::run(const char* const* input_names, const OrtValue* const* inputs, size_t n_inputs,
                    const char* const* output_names, size_t n_outputs, OrtValue** outputs,
                    InterruptCheck check, void* context) noexcept {
  State* state = nullptr;
  INFERSDK_RETURN_IF_ERROR(current(&state));
  for (size_t i = 0; i < n_outputs; ++i) outputs[i] = nullptr;
  Status status = check == nullptr
                      ? run_once(state->session, nullptr, input_names, inputs, n_inputs,
                                 output_names, n_outputs, outputs)
                      : run_interruptible(state->session, input_names, inputs, n_inputs,
                                          output_names, n_outputs, outputs, check, context);
  if (!status.ok()) {
    for (size_t i = 0; i < n_outputs; ++i) {
      if (outputs[i] != nullptr) library_->api().ReleaseValue(outputs[i]);
      outputs[i] = nullptr;
    }
  }
  return status;
}

Status Session::run(const OrtValue* const* inputs, OrtValue** outputs) noexcept {
  State* state = nullptr;
  INFERSDK_RETURN_IF_ERROR(current(&state));
  const size_t n_outputs = output_names_.size();
  for (size_t i = 0; i < n_outputs; ++i) outputs[i] = nullptr;
  Status status = run_once(state->session, state->queued_options, input_names_.data(), inputs,
                           input_names_.size(), output_names_.data(), n_outputs, outputs);
  if (!status.ok()) {
    for (size_t i = 0; i < n_outputs; ++i) {
      if (outputs[i] != nullptr) library_->api().ReleaseValue(outputs[i]);
      outputs[i] = nullptr;
    }
  }
  return status;
}

void Session::end_queued_runs() noexcept {
  State* state = state_.load(std::memory_order_acquire);
  if (state == nullptr || state->generation != Library::process_generation()) return;
  Status ignored = library_->check(library_->api().RunOptionsSetTerminate(state->queued_options));
  (void)ignored;
}

Instance* Session::acquire(const int64_t* key, size_t key_length) noexcept {
  State* state = nullptr;
  if (!current(&state).ok()) return nullptr;  // the general way reports the reason
  std::lock_guard<std::mutex> lock(state->mutex);
  for (Shape& shape : state->shapes) {
    if (shape.key.size() != key_length || !std::equal(shape.key.begin(), shape.key.end(), key)) {
      continue;
    }
    shape.last_use = ++state->clock;
    if (shape.idle.empty()) return nullptr;
    Instance* instance = shape.idle.back().release();
    shape.idle.pop_back();
    return instance;
  }
  return nullptr;
}

Status Session::run(Instance* instance, InterruptCheck check, void* context) noexcept {
  State* state = nullptr;
  INFERSDK_RETURN_IF_ERROR(current(&state));
  const size_t n_inputs = instance->input_values.size();
  const size_t n_outputs = instance->outputs.size();
  bool prebuilt = false;
  for (size_t i = 0; i < n_outputs; ++i) {
    instance->results[i] = instance->outputs[i].value;
    prebuilt = prebuilt || instance->results[i] != nullptr;
  }
  instance->fresh_results = false;
  auto once = [&]() -> Status {
    if (check == nullptr && instance->binding != nullptr && !instance->fresh_results) {
      return library_->check(
          library_->api().RunWithBinding(state->session, state->run_options, instance->binding));
    }
    if (check == nullptr) {
      return run_once(state->session, nullptr, input_names_.data(), instance->input_values.data(),
                      n_inputs, output_names_.data(), n_outputs, instance->results.data());
    }
    return run_interruptible(state->session, input_names_.data(), instance->input_values.data(),
                             n_inputs, output_names_.data(), n_outputs, instance->results.data(),
                             check, context);
  };
  Status status = once();
  const bool refused =
      status.code() == StatusCode::kInvalidArgument || status.code() == StatusCode::kRuntime;
  if (!refused || !prebuilt) return status;
  // The prebuilt outputs may be what failed: the truth is what a run with fresh ones says.
  for (size_t i = 0; i < n_outputs; ++i) {
    if (instance->outputs[i].value == nullptr && instance->results[i] != nullptr) {
      library_->api().ReleaseValue(instance->results[i]);
    }
    instance->results[i] = nullptr;
  }
  instance->fresh_results = true;
  status = once();
  if (status.ok()) prebuild_outputs_.store(false, std::memory_order_relaxed);
  return status;
}

void Session::release(Instance* instance) noexcept {
  const Api& api = library_->api();
  for (size_t i = 0; i < instance->results.size(); ++i) {
    OrtValue* result = instance->results[i];
    if (result != nullptr && result != instance->outputs[i].value) api.ReleaseValue(result);
    instance->results[i] = nullptr;
  }
  std::unique_ptr<Instance> owned(instance);
  State* state = state_.load(std::memory_order_acquire);
  if (state->generation != Library::process_generation()) {
    // Of a parent whose run a fork cut short: its locks may be held for ever.
    (void)owned.release();
    return;
  }
  bool keep = false;
  if (!instance->fresh_results) {
    std::lock_guard<std::mutex> lock(state->mutex);
    for (Shape& shape : state->shapes) {
      if (shape.key != instance->key || shape.idle.size() >= kMaxIdlePerShape) continue;
      // Room was reserved when the shape was learned, so that this never allocates.
      shape.idle.push_back(std::move(owned));
      keep = true;
      break;
    }
  }
  if (!keep) destroy(owned.release());
}

Status Session::bind(State* state, Instance* instance) noexcept {
  for (const Instance::Slot& slot : instance->outputs) {
    if (slot.value == nullptr) return Status();
  }
  const Api& api = library_->api();
  INFERSDK_RETURN_IF_ERROR(
      library_->check(api.CreateIoBinding(state->session, &instance->binding)));
  for (size_t i = 0; i < instance->inputs.size(); ++i) {
    INFERSDK_RETURN_IF_ERROR(library_->check(
        api.BindInput(instance->binding, input_names_[i], instance->inputs[i].value)));
  }
  for (size_t i = 0; i < instance->outputs.size(); ++i) {
    INFERSDK_RETURN_IF_ERROR(library_->check(
        api.BindOutput(instance->binding, output_names_[i], instance->outputs[i].value)));
  }
  return Status();
}

void Session::destroy(Instance* instance) noexcept {
  const Api& api = library_->api();
  if (instance->binding != nullptr) api.ReleaseIoBinding(instance->binding);
  for (Instance::Slot& slot : instance->inputs) {
    if (slot.value != nullptr) api.ReleaseValue(slot.value);
  }
  for (Instance::Slot& slot : instance->outputs) {
    if (slot.value != nullptr) api.ReleaseValue(slot.value);
  }
  delete instance;
}

void Session::learn(const int64_t* key, size_t key_length, OrtValue* const* outputs) noexcept {
  State* state = nullptr;
  if (!instances_possible_ || !current(&state).ok()) return;
  Instance* built = new (std::nothrow) Instance;
  if (built == nullptr) return;
  Status status = guarded([&]() -> Status {
    const Api& api = library_->api();
    built->key.assign(key, key + key_length);
    built->inputs.resize(inputs_.size());
    built->outputs.resize(outputs_.size());
    built->input_values.resize(inputs_.size());
    built->results.assign(outputs_.size(), nullptr);
    size_t total_bytes = 0;
    auto build = [&](Instance::Slot* slot) -> Status {
      slot->n_elements = count_elements(slot->dims);
      if (slot->element == ElementType::kString) {
        return library_->check(
            api.CreateTensorAsOrtValue(library_->allocator(), slot->dims.data(), slot->dims.size(),
                                       static_cast<int>(slot->element), &slot->value));
      }
      slot->size_bytes = slot->n_elements * element_size(slot->element);
      total_bytes += slot->size_bytes;
      if (total_bytes > 2 * kMaxInstanceBytes) {
        return Status(StatusCode::kInternal, "too large for an instance");
      }
      slot->buffer = allocate_aligned(slot->size_bytes);
      slot->data = slot->buffer.get();
      return library_->check(api.CreateTensorWithDataAsOrtValue(
          library_->cpu_memory(), slot->data, slot->size_bytes, slot->dims.data(),
          slot->dims.size(), static_cast<int>(slot->element), &slot->value));
    };
    size_t position = 0;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      Instance::Slot& slot = built->inputs[i];
      const size_t rank = static_cast<size_t>(key[position++]);
      slot.element = inputs_[i].element;
      slot.dims.assign(key + position, key + position + rank);
      position += rank;
      INFERSDK_RETURN_IF_ERROR(build(&slot));
      built->input_values[i] = slot.value;
    }
    for (size_t i = 0; i < outputs_.size(); ++i) {
      Instance::Slot& slot = built->outputs[i];
      INFERSDK_RETURN_IF_ERROR(describe(outputs[i], &slot.element, &slot.dims));
      if (slot.element == ElementType::kString || gives_input_[i] ||
          !prebuild_outputs_.load(std::memory_order_relaxed)) {
        continue;  // made afresh by each run
      }
      INFERSDK_RETURN_IF_ERROR(build(&slot));
    }
    INFERSDK_RETURN_IF_ERROR(bind(state, built));
    std::lock_guard<std::mutex> lock(state->mutex);
    Shape* home = nullptr;
    for (Shape& shape : state->shapes) {
      if (shape.key == built->key) home = &shape;
    }
    if (home == nullptr) {
      if (state->shapes.size() >= kMaxShapes) {
        size_t oldest = 0;
        for (size_t i = 1; i < state->shapes.size(); ++i) {
          if (state->shapes[i].last_use < state->shapes[oldest].last_use) oldest = i;
        }
        for (auto& instance : state->shapes[oldest].idle) destroy(instance.release());
        state->shapes.erase(state->shapes.begin() + static_cast<std::ptrdiff_t>(oldest));
      }
      state->shapes.emplace_back();
      home = &state->shapes.back();
      home->key = built->key;
      home->idle.reserve(kMaxIdlePerShape);
    }
    home->last_use = ++state->clock;
    if (home->idle.size() >= kMaxIdlePerShape) {
      return Status(StatusCode::kInternal, "enough instances of this shape");
    }
    home->idle.emplace_back(built);
    return Status();
  });
  if (!status.ok()) destroy(built);
}

Status Session::describe(const OrtValue* value, ElementType* element,
                         std::vector<int64_t>* dims) const noexcept {
  return guarded([&]() -> Status {
    const Api& api = library_->api();
    Scoped<OrtTensorTypeAndShapeInfo> info(api.ReleaseTensorTypeAndShapeInfo);
    INFERSDK_RETURN_IF_ERROR(library_->check(api.GetTensorTypeAndShape(value, info.out())));
    int type = 0;
    size_t rank = 0;
    INFERSDK_RETURN_IF_ERROR(library_->check(api.GetTensorElementType(info.get(), &type)));
    INFERSDK_RETURN_IF_ERROR(library_->check(api.GetDimensionsCount(info.get(), &rank)));
    dims->resize(rank);
    if (rank > 0) {
      INFERSDK_RETURN_IF_ERROR(library_->check(api.GetDimensions(info.get(), dims->data(), rank)));
    }
    *element = static_cast<ElementType>(type);
    return Status();
  });
}

}  // namespace infersdk
