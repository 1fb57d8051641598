# What Cython sees of csrc/include/infersdk: declarations only.
from libc.stddef cimport size_t
from libc.stdint cimport int64_t
from libcpp cimport bool as cbool
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
    cdef cppclass Status:
        Status()
        cbool ok()
        StatusCode code()
        int ort_code()
        const string& message()

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
        Instance* acquire(const int64_t*, size_t)
        Status run_instance "run"(Instance*, InterruptCheck, void*)
        Status describe(const OrtValue*, ElementType*, vector[int64_t]*)
        void release(Instance*)
        void learn(const int64_t*, size_t, OrtValue**)
        cbool instances_possible()
        @staticmethod
        size_t cost_bucket(size_t)
        int64_t expected_ns(size_t)
        void record_ns(size_t, int64_t)
        void set_ns(size_t, int64_t)

    cdef size_t MAX_INSTANCE_BYTES "infersdk::Session::kMaxInstanceBytes"
    size_t element_size(ElementType)
    int64_t now_ns()
