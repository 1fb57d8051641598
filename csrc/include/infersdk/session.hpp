// A model loaded into ONNX Runtime, and the two ways of running it.
//
// The general way takes and gives OrtValues: any kind, any shape. The hot way runs an Instance:
// OrtValues built once over buffers that the Instance owns (64-byte aligned), for input shapes that
// keep coming back. It saves the creation and release of every value, which is half the cost of a
// tiny model.
//
// Why outputs may be prebuilt although their shapes are only known after a run: an Instance is
// built from the shapes of a finished run. Should a later run of the same input shapes give other
// output shapes (NonZero, NonMaxSuppression), ONNX Runtime refuses to write into the prebuilt
// value; that run is then repeated with fresh values and the session never prebuilds outputs again.
//
// Thread safety: a Session may be used by any number of threads at once; an Instance belongs to the
// thread that acquired it until release(). Blocking: open() and the runs; nothing here takes the
// GIL. Ownership: Session owns its Instances; the caller owns every OrtValue that run() hands out.
// fork: a child's first use loads the model anew and leaves the parent's state untouched.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "infersdk/clock.hpp"
#include "infersdk/cost_model.hpp"
#include "infersdk/library.hpp"
#include "infersdk/meter.hpp"
#include "infersdk/ort_api.hpp"
#include "infersdk/provider.hpp"
#include "infersdk/status.hpp"
#include "infersdk/tensor.hpp"

namespace infersdk {

// The type of one graph value; `children` holds a sequence's or optional's element, or a map's
// value.
struct ValueInfo {
  std::string name;
  ValueKind kind = ValueKind::kUnknown;
  ElementType element = ElementType::kUndefined;  // tensors: the element; maps: the key
  bool has_shape = false;
  std::vector<int64_t> dims;         // -1 where dynamic
  std::vector<std::string> symbols;  // "" where unnamed
  std::vector<ValueInfo> children;
};

struct SessionConfig {
  std::string path;                          // the model's file, or
  std::shared_ptr<const std::string> bytes;  // the model itself
  std::string external_folder;               // where `bytes` finds its external data; may be empty
  int threads = 1;                           // intra-op
  int graph_optimization = 99;               // ONNX Runtime's level: 0, 1, 2 or 99
  std::shared_ptr<Placement> placement;      // providers before the CPU; null: the CPU alone
  std::shared_ptr<RunMeter> meter;           // of runs; null: they are not counted

  void set_bytes(const char* data, size_t size) {
    bytes = std::make_shared<const std::string>(data, size);
  }
};

// Called about every 50 ms on the thread that waits for a run; nonzero asks to stop it.
using InterruptCheck = int (*)(void* context);

// One prebuilt set of values for one combination of input shapes.
struct Instance {
  struct Slot {
    OrtValue* value = nullptr;  // null: an output made afresh by each run
    AlignedBuffer buffer;       // empty for strings
    void* data = nullptr;       // = buffer.get()
    size_t size_bytes = 0;
    size_t n_elements = 0;
    ElementType element = ElementType::kUndefined;
    std::vector<int64_t> dims;
  };
  std::vector<int64_t> key;
  std::vector<Slot> inputs;
  std::vector<Slot> outputs;
  std::vector<OrtValue*> input_values;
  OrtIoBinding* binding = nullptr;  // names and values, looked up once; null if outputs are fresh
  std::vector<OrtValue*> results;   // of the last run: a prebuilt value or a fresh one
  bool fresh_results = false;       // results are to be released, not the prebuilt values
};

class Session {
 public:
  static constexpr size_t kMaxInstanceBytes = 256 * 1024;  // larger values are cheaper uncopied
  static constexpr size_t kMaxShapes = 16;
  static constexpr size_t kMaxIdlePerShape = 64;

  static Status open(Library* library, SessionConfig config,
                     std::shared_ptr<Session>* out) noexcept;
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  const std::vector<ValueInfo>& inputs() const { return inputs_; }
  const std::vector<ValueInfo>& outputs() const { return outputs_; }
  // Initializers that a caller may replace by feeding a value of that name.
  const std::vector<ValueInfo>& overridable() const { return overridable_; }
  Library* library() const { return library_; }
  // Where its values lie; may be null.
  const std::shared_ptr<Placement>& placement() const { return config_.placement; }

  // General: runs `n_inputs` named values into `n_outputs` fresh ones, which the caller releases.
  // With `check`, the run happens on a helper thread while this one waits in slices and asks
  // `check`.
  Status run(const char* const* input_names, const OrtValue* const* inputs, size_t n_inputs,
             const char* const* output_names, size_t n_outputs, OrtValue** outputs,
             InterruptCheck check, void* context) noexcept;
  // The same for all inputs and outputs, in order, from a queue: end_queued_runs() reaches it.
  Status run(const OrtValue* const* inputs, OrtValue** outputs) noexcept;
  // Lets every queued run, and every later one, fail at its next node: the process is ending, and
  // nobody waits for them.
  void end_queued_runs() noexcept;

  // Hot: an idle Instance for these input shapes ([rank, dims...] of each input in order), or null.
  Instance* acquire(const int64_t* key, size_t key_length) noexcept;
  // Runs it; instance->results then holds every output.
  Status run(Instance* instance, InterruptCheck check, void* context) noexcept;
  // Gives it back; fresh results are released.
  void release(Instance* instance) noexcept;
  // After a general run of all outputs: keeps an Instance of these shapes for the next one. Failure
  // to do so is no error: the general way goes on working.
  void learn(const int64_t* key, size_t key_length, OrtValue* const* outputs) noexcept;

  // Whether every input and output is a tensor of whole bytes or strings, so that Instances can
  // serve.
  bool instances_possible() const { return instances_possible_; }

  // Run time by bytes of inputs. Shared with the Coalescer that runs this session.
  const std::shared_ptr<CostModel>& cost() const { return cost_; }
  // Who runs it records its runs there: which of them count is not known here. May be null.
  const std::shared_ptr<RunMeter>& meter() const { return config_.meter; }

  // Shape and element type of a tensor value.
  Status describe(const OrtValue* value, ElementType* element,
                  std::vector<int64_t>* dims) const noexcept;

 private:
  struct Shape {
    std::vector<int64_t> key;
    std::vector<std::unique_ptr<Instance>> idle;
    uint64_t last_use = 0;
  };
  // All that a fork must not share.
  struct State {
    OrtSession* session = nullptr;
    OrtRunOptions* run_options = nullptr;  // the defaults; made afresh by each run that gets null
    OrtRunOptions* queued_options = nullptr;  // of runs that end_queued_runs() ends
    uint64_t generation = 0;
    std::mutex mutex;  // guards shapes and clock
    std::vector<Shape> shapes;
    uint64_t clock = 0;
  };

  explicit Session(Library* library, SessionConfig config)
      : library_(library), config_(std::move(config)) {}

  Status load(State* state);  // the caller holds Library::creation_mutex()
  Status current(State** out) noexcept;
  Status read_types(OrtSession* session);
  Status run_once(OrtSession* session, const OrtRunOptions* options, const char* const* input_names,
                  const OrtValue* const* inputs, size_t n_inputs, const char* const* output_names,
                  size_t n_outputs, OrtValue** outputs) noexcept;
  Status run_interruptible(OrtSession* session, const char* const* input_names,
                           const OrtValue* const* inputs, size_t n_inputs,
                           const char* const* output_names, size_t n_outputs, OrtValue** outputs,
                           InterruptCheck check, void* context) noexcept;
  Status bind(State* state, Instance* instance) noexcept;
  void destroy(Instance* instance) noexcept;

  Library* library_;
  SessionConfig config_;
  std::atomic<State*> state_{nullptr};
  std::vector<ValueInfo> inputs_;
  std::vector<ValueInfo> outputs_;
  std::vector<ValueInfo> overridable_;
  std::vector<const char*> input_names_;
  std::vector<const char*> output_names_;
  std::vector<bool> gives_input_;  // outputs that are an input itself: nothing is written for them
  bool instances_possible_ = false;
  std::atomic<bool> prebuild_outputs_{true};
  const std::shared_ptr<CostModel> cost_ = std::make_shared<CostModel>();
};

}  // namespace infersdk
