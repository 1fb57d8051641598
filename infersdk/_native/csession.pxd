# What Cython sees of csrc/include/infersdk: declarations only.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint64_t
from libcpp cimport bool as cbool
from libcpp.atomic cimport atomic
from libcpp.memory cimport shared_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

cdef extern from "infersdk/ort_api.hpp" namespace "infersdk" nogil:
    cdef enum class ElementType(int):
        pass
    cdef enum class ValueKind(int):
        pass
    cdef cppclass OrtValue:
        pass
    cdef cppclass OrtAllocator:
        pass
    cdef cppclass OrtMemoryInfo:
        pass
    cdef cppclass OrtStatus:
        pass
    cdef cppclass Api:
        OrtStatus* CreateTensorAsOrtValue(OrtAllocator*, const int64_t*, size_t, int, OrtValue**)
        OrtStatus* CreateTensorWithDataAsOrtValue(
            const OrtMemoryInfo*, void*, size_t, const int64_t*, size_t, int, OrtValue**)
        OrtStatus* GetTensorMutableData(OrtValue*, void**)
        OrtStatus* GetStringTensorDataLength(const OrtValue*, size_t*)
        OrtStatus* GetStringTensorContent(const OrtValue*, void*, size_t, size_t*, size_t)
        OrtStatus* GetValueType(const OrtValue*, int*)
        OrtStatus* GetValue(const OrtValue*, int, OrtAllocator*, OrtValue**)
        OrtStatus* GetValueCount(const OrtValue*, size_t*)
        OrtStatus* CreateValue(const OrtValue**, size_t, int, OrtValue**)
        OrtStatus* HasValue(const OrtValue*, int*)
        OrtStatus* GetResizedStringTensorElementBuffer(OrtValue*, size_t, size_t, char**)
        void ReleaseValue(OrtValue*)

cdef extern from "infersdk/status.hpp" namespace "infersdk" nogil:
    cdef enum class StatusCode(int):
        kOk
        kMissingLibrary
        kInvalidArgument
        kRuntime
        kOutOfMemory
        kInterrupted
        kInternal
        kOverloaded
        kDeadline
        kCancelled
        kClosed
    cdef cppclass Status:
        Status()
        cbool ok()
        StatusCode code()
        int ort_code()
        const string& message()

cdef extern from "infersdk/cost_model.hpp" namespace "infersdk" nogil:
    cdef cppclass CostModel:
        CostModel() except +
        @staticmethod
        size_t bucket(size_t)
        int64_t measured_ns(size_t)
        int64_t expected_ns(size_t)
        void record(size_t, int64_t)
        void set(size_t, int64_t)

    cdef size_t COST_BUCKETS "infersdk::CostModel::kBuckets"

cdef extern from "infersdk/meter.hpp" namespace "infersdk" nogil:
    cdef enum class Writers(int):
        kOne
        kMany
    cdef cppclass Times "infersdk::CallTimes":
        Times()
        int64_t started_ns
        int64_t queued_ns
        int64_t batch_started_ns
        int64_t run_started_ns
        int64_t run_ended_ns
        int64_t batch_ended_ns
        int64_t ended_ns
        int64_t n_rows
        int64_t run_rows

    cdef cppclass TimeHistogram:
        uint64_t read(int64_t*)
        @staticmethod
        int64_t bound(size_t)

    cdef cppclass RowHistogram:
        uint64_t read(int64_t*)
        @staticmethod
        int64_t bound(size_t)

    cdef size_t TIME_BOUNDS "infersdk::TimeHistogram::kBounds"
    cdef size_t ROW_BOUNDS "infersdk::RowHistogram::kBounds"

    cdef cppclass RunBlock:
        TimeHistogram queue
        TimeHistogram batch
        TimeHistogram run[2]
        RowHistogram run_rows[2]

    cdef cppclass CallBlock:
        atomic[uint64_t] rows
        TimeHistogram call

    cdef cppclass FailureCount:
        string name
        uint64_t count

    vector[FailureCount] read_failures(const CallBlock&) except +

    cdef cppclass CallMeter:
        CallMeter() except +
        void answered(int64_t, int64_t, Writers)
        void failed(const char*)
        CallBlock& current()

    cdef cppclass RunMeter:
        RunMeter() except +
        void ran(int64_t, int64_t, Writers)
        RunBlock& current()

    cbool is_metering()
    void c_set_metering "infersdk::set_metering"(cbool)

cdef extern from "infersdk/library.hpp" namespace "infersdk" nogil:
    cdef cppclass Library:
        @staticmethod
        Status open(const string& path, Library** out)
        @staticmethod
        Library* current()
        const Api& api()
        const string& version()
        const string& path()
        const OrtMemoryInfo* cpu_memory()
        OrtAllocator* allocator()
        Status check(OrtStatus*)

cdef extern from "infersdk/provider.hpp" namespace "infersdk" nogil:
    cdef cppclass ProviderConfig:
        ProviderConfig() except +
        string name
        void set(const string&, const string&) except +

    cdef enum class ValuePlace(int):
        kHost
        kPinned
        kDevice

    cdef cppclass Placement:
        Placement(vector[ProviderConfig], int) except +
        Status run_bound(const char**, const OrtValue**, size_t, const char**, size_t, ValuePlace,
                         OrtValue**)

cdef extern from "infersdk/session.hpp" namespace "infersdk" nogil:
    cdef cppclass ValueInfo:
        string name
        ValueKind kind
        ElementType element
        cbool has_shape
        vector[int64_t] dims
        vector[string] symbols
        vector[ValueInfo] children

    cdef cppclass SessionConfig:
        string path
        string external_folder
        int threads
        int graph_optimization
        shared_ptr[Placement] placement
        shared_ptr[RunMeter] meter
        void set_bytes(const char*, size_t) except +

    ctypedef int (*InterruptCheck)(void*) noexcept nogil

    cdef cppclass InstanceSlot "infersdk::Instance::Slot":
        OrtValue* value
        void* data
        size_t size_bytes
        size_t n_elements
        vector[int64_t] dims

    cdef cppclass Instance:
        vector[InstanceSlot] inputs
        vector[InstanceSlot] outputs
        vector[OrtValue*] results

    cdef cppclass CSession "infersdk::Session":
        @staticmethod
        Status open(Library*, SessionConfig, shared_ptr[CSession]*)
        const vector[ValueInfo]& inputs()
        const vector[ValueInfo]& outputs()
        const vector[ValueInfo]& overridable()
        Library* library()
        Status run(const char**, const OrtValue**, size_t, const char**, size_t, OrtValue**,
                   InterruptCheck, void*)
        void end_queued_runs()
        Instance* acquire(const int64_t*, size_t)
        Status run_instance "run"(Instance*, InterruptCheck, void*)
        Status describe(const OrtValue*, ElementType*, vector[int64_t]*)
        void release(Instance*)
        void learn(const int64_t*, size_t, OrtValue**)
        cbool instances_possible()
        const shared_ptr[CostModel]& cost()
        const shared_ptr[RunMeter]& meter()

    cdef size_t MAX_INSTANCE_BYTES "infersdk::Session::kMaxInstanceBytes"

cdef extern from "infersdk/gil_trial.hpp" namespace "infersdk" nogil:
    cdef cppclass GilTrial:
        GilTrial(cbool) except +
        cbool keeps(int64_t, uint64_t)

cdef extern from "infersdk/clock.hpp" namespace "infersdk" nogil:
    int64_t now_ns()
    cbool clock_is_held()
    void c_hold_clock "infersdk::hold_clock"()
    void c_advance_clock "infersdk::advance_clock"(int64_t)
    void c_release_clock "infersdk::release_clock"()

cdef extern from "infersdk/tensor.hpp" namespace "infersdk" nogil:
    size_t element_size(ElementType)
    cdef cppclass AlignedBuffer:
        void* get()
        void* release()

    cdef cppclass Tensor:
        ElementType element
        vector[int64_t] dims
        AlignedBuffer data
        size_t size_bytes
        vector[string] strings
        void* bytes
        void reserve(ElementType, const vector[int64_t]&) except +
        void borrow(ElementType, const vector[int64_t]&, void*) except +

cdef extern from "infersdk/notifier.hpp" namespace "infersdk" nogil:
    cdef cppclass Notifier:
        @staticmethod
        Status create(shared_ptr[Notifier]*)
        int fd()
        void drain(vector[shared_ptr[Request]]*)
        void abandon()

cdef extern from "infersdk/request.hpp" namespace "infersdk" nogil:
    cdef cppclass Request:
        Request() except +
        vector[Tensor] inputs
        vector[int64_t] lane
        void* context
        size_t n_rows
        size_t units
        size_t size_bytes
        int priority
        int64_t deadline_ns
        shared_ptr[Notifier] notifier
        uint64_t ticket
        Status status
        vector[Tensor] outputs
        int64_t finished_ns
        int64_t retry_after_ns
        int64_t submitted_ns
        int64_t taken_ns
        int64_t batch_ended_ns
        int64_t run_started_ns
        int64_t run_ended_ns
        int64_t run_rows
        cbool finished()
        void ran(int64_t, int64_t, int64_t)

    cdef cppclass Piece:
        shared_ptr[Request] request
        size_t first_row
        size_t n_rows

cdef extern from "infersdk/coalescer.hpp" namespace "infersdk" nogil:
    cdef cppclass Backend:
        pass

    cdef cppclass Replica:
        shared_ptr[Backend] backend
        size_t concurrency

    cdef cppclass CoalescerConfig:
        cbool merge
        size_t max_batch_size
        size_t split_size
        size_t max_queue_size
        size_t max_queue_bytes
        shared_ptr[RunMeter] meter

    cdef cppclass CoalescerStats:
        uint64_t inline_runs
        uint64_t batches
        uint64_t batched_rows
        uint64_t largest_batch
        uint64_t refused
        uint64_t expired
        uint64_t cancelled
        uint64_t failed
        uint64_t replicas_out
        uint64_t queued_rows
        uint64_t running

    cdef cppclass Slot "infersdk::Coalescer::Slot":
        int replica
        uint64_t generation

    cdef cppclass Coalescer:
        @staticmethod
        Status create(CoalescerConfig, vector[Replica], shared_ptr[CostModel],
                      shared_ptr[Coalescer]*)
        Slot begin()
        void end(Slot)
        Status submit(const shared_ptr[Request]&)
        Status wait(const shared_ptr[Request]&, InterruptCheck, void*)
        cbool cancel(const shared_ptr[Request]&, StatusCode)
        void record_answer(const Request&, int64_t)
        void reconfigure(cbool, size_t, size_t)
        void drain()
        void stop()
        CoalescerStats stats()
        size_t healthy()

cdef extern from "infersdk/tensor_backend.hpp" namespace "infersdk" nogil:
    cdef cppclass Padding:
        Padding() except +
        size_t n_groups
        vector[vector[int]] inputs
        vector[vector[int]] outputs
        vector[string] fill_strings
        cbool learned_sizes
        void add_fill(const char*, size_t) except +

    cdef cppclass TensorBackend(Backend):
        pass

    shared_ptr[Backend] make_tensor_backend(shared_ptr[CSession], shared_ptr[Padding]) except +
    void lane_of(const Padding&, const vector[Tensor]&, vector[int64_t]*) except +

