# What Cython sees of csrc's providers and DLPack: declarations only.
from libc.stddef cimport size_t
from libc.stdint cimport int32_t, int64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

from .csession cimport ElementType, Library, OrtValue, Status

cdef extern from "infersdk/provider.hpp" namespace "infersdk" nogil:
    Status c_available_providers "infersdk::available_providers"(const Library&, vector[string]*)

cdef extern from "infersdk/dlpack.hpp" namespace "infersdk" nogil:
    cdef struct DLDevice:
        int32_t device_type
        int32_t device_id

    cdef cppclass DLManagedTensor:
        void deleter(DLManagedTensor*)

    cdef cppclass DLManagedTensorVersioned:
        void deleter(DLManagedTensorVersioned*)

    const char* element_name(ElementType)

    cdef cppclass DeviceValue:
        @staticmethod
        Status adopt(const Library&, OrtValue*, cbool, shared_ptr[void], shared_ptr[DeviceValue]*)
        @staticmethod
        Status from_dlpack(const Library&, DLManagedTensor*, shared_ptr[DeviceValue]*)
        @staticmethod
        Status from_dlpack_versioned "from_dlpack"(const Library&, DLManagedTensorVersioned*,
                                                   shared_ptr[DeviceValue]*)
        OrtValue* value()
        ElementType element()
        const vector[int64_t]& dims()
        DLDevice device()
        size_t size_bytes()
        cbool read_only()

    Status to_dlpack(shared_ptr[DeviceValue], DLManagedTensor**)
    Status to_dlpack_versioned "infersdk::to_dlpack"(shared_ptr[DeviceValue],
                                                     DLManagedTensorVersioned**)
