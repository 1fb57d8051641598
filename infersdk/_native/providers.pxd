# For Session, which makes the tensors that it leaves on a device.
from libcpp.memory cimport shared_ptr

from .cprovider cimport DeviceValue
from .csession cimport Library, OrtValue


cdef class DeviceTensor:
    cdef shared_ptr[DeviceValue] held
    cdef OrtValue* value(self) noexcept


cdef DeviceTensor adopt(Library* library, OrtValue* value, bint read_only)
