# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
# distutils: language = c++
"""Which execution providers there are, and tensors that stay where a run has left them.

A DeviceTensor owns an OrtValue. Other libraries get at its memory by DLPack, without a copy and without
passing through the host: a PyTorch tensor on the GPU can be a model's input, and a model's output a
PyTorch tensor.
"""

from cpython.pycapsule cimport (
    PyCapsule_GetPointer,
    PyCapsule_IsValid,
    PyCapsule_New,
    PyCapsule_SetName,
)
from libcpp.memory cimport shared_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

from .cprovider cimport (
    DeviceValue,
    DLManagedTensor,
    DLManagedTensorVersioned,
    c_available_providers,
    element_name,
    to_dlpack,
    to_dlpack_versioned,
)
from .csession cimport Library, OrtValue, Status, StatusCode

from ..errors import MissingDependencyError, SessionError

__all__ = ["DeviceTensor", "available_providers"]

cdef enum:
    DL_CPU = 1
    DL_CUDA = 2
    DL_CUDA_HOST = 3
    LEGACY_STREAM = 1

cdef const char* PLAIN = b"dltensor"
cdef const char* PLAIN_USED = b"used_dltensor"
cdef const char* VERSIONED = b"dltensor_versioned"
cdef const char* VERSIONED_USED = b"used_dltensor_versioned"


cdef str _text(const string& value):
    return value.data()[:value.size()].decode("utf-8", "replace")


cdef Library* _library() except NULL:
    """This module's own view of the library that Session uses: the same one, opened once."""
    cdef Library* library = Library.current()
    cdef Status status
    cdef string path
    if library == NULL:
        from .library import find_library, open_library
        open_library()
        path = str(find_library()).encode()
        with nogil:
            status = Library.open(path, &library)
        if not status.ok():
            raise MissingDependencyError(f"ONNX Runtime: {_text(status.message())}")
    return library


def available_providers():
    """The execution providers that the installed ONNX Runtime was built with, the preferred one first.

    Being listed does not mean that a device is there.

    Returns
    -------
    tuple of str
        ONNX Runtime's full names, such as ``"CUDAExecutionProvider"``; the CPU's is always among them.

    Raises
    ------
    MissingDependencyError
        ONNX Runtime is not installed.
    """
    cdef Library* library = _library()
    cdef vector[string] names
    cdef Status status = c_available_providers(library[0], &names)
    if not status.ok():
        raise SessionError(f"ONNX Runtime cannot list its providers: {_text(status.message())}",
                           code=status.ort_code())
    return tuple([_text(name) for name in names])


cdef class DeviceTensor:
    """A tensor in ONNX Runtime's hands, on the CPU or on a GPU.

    Any library that speaks DLPack reads it where it is: ``torch.from_dlpack(tensor)``,
    ``numpy.from_dlpack(tensor)`` (CPU only), ``cupy.from_dlpack(tensor)``. The memory lives as long as
    this object or what was made from it. It is marked read-only where it may be the model's own, as
    all outputs of a run are; libraries that know no such mark must not write either.

    Not made directly: :meth:`from_dlpack`, or a run that leaves its outputs on the device.

    Attributes
    ----------
    shape : tuple of int
    dtype : str
        numpy's name, such as ``"float32"``; ``"bfloat16"`` where numpy has none.
    device : str
        ``"cpu"``, ``"cuda:0"``, ..., or ``"cuda_host"`` for page-locked memory of the host.
    size_bytes : int
    read_only : bool
    """

    def __init__(self):
        raise TypeError("a DeviceTensor comes from DeviceTensor.from_dlpack or from a run")

    cdef OrtValue* value(self) noexcept:
        return self.held.get().value()

    @staticmethod
    def from_dlpack(source):
        """Take a tensor of another library without copying it.

        Parameters
        ----------
        source : object
            Anything with ``__dlpack__`` and ``__dlpack_device__``: an ndarray, a PyTorch or CuPy tensor,
            on the CPU or on a CUDA GPU, contiguous. It must not be written to while it is in use.

        Raises
        ------
        TypeError
            It does not speak DLPack.
        BufferError
            It is not contiguous, of a type that ONNX lacks, or on another kind of device.
        """
        if isinstance(source, DeviceTensor):
            return source
        if not hasattr(source, "__dlpack__") or not hasattr(source, "__dlpack_device__"):
            raise TypeError(
                f"Expected an object that speaks DLPack (an ndarray, a tensor), got "
                f"{type(source).__name__}")
        stream = {}
        if int(source.__dlpack_device__()[0]) == DL_CUDA:
            # Orders the producer's work before the device's; the run then waits for the device.
            stream["stream"] = LEGACY_STREAM
        try:
            capsule = source.__dlpack__(max_version=(1, 0), **stream)
        except TypeError:
            capsule = source.__dlpack__(**stream)       # from before versions
        return _from_capsule(capsule)

    def __dlpack_device__(self):
        cdef DeviceValue* value = self.held.get()
        return value.device().device_type, value.device().device_id

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        """A capsule for DLPack's receivers; see the specification of the array API.

        Nothing has to be waited for, whatever the stream: runs end when the device has finished.

        Raises
        ------
        BufferError
            A copy, or another device, was asked for.
        """
        cdef DLManagedTensor* plain = NULL
        cdef DLManagedTensorVersioned* versioned = NULL
        cdef Status status
        if copy:
            raise BufferError(
                "a DeviceTensor hands over its own memory; copy it on the receiver's side")
        if dl_device is not None and tuple(map(int, dl_device)) != self.__dlpack_device__():
            raise BufferError(
                f"the tensor lies on {self.device}; move it on the receiver's side, as in "
                "torch.from_dlpack(tensor).cpu()")
        if max_version is not None and max_version[0] >= 1:
            status = to_dlpack_versioned(self.held, &versioned)
            _check_buffer(status)
            return PyCapsule_New(versioned, VERSIONED, _drop_versioned)
        status = to_dlpack(self.held, &plain)
        _check_buffer(status)
        return PyCapsule_New(plain, PLAIN, _drop_plain)

    def numpy(self):
        """The tensor as an ndarray over the same memory.

        Raises
        ------
        BufferError
            It lies on a GPU: ``torch.from_dlpack(tensor).cpu()`` copies it.
        """
        import numpy as np

        if int(self.held.get().device().device_type) == DL_CUDA:
            raise BufferError(
                f"a tensor on {self.device} is not in NumPy's reach; copy it to the CPU first, as in "
                "torch.from_dlpack(tensor).cpu().numpy()")
        return np.from_dlpack(self)

    @property
    def shape(self):
        cdef DeviceValue* value = self.held.get()
        cdef size_t i
        return tuple([value.dims()[i] for i in range(value.dims().size())])

    @property
    def dtype(self):
        return (<bytes>element_name(self.held.get().element())).decode()

    @property
    def device(self):
        kind, number = self.__dlpack_device__()
        if kind == DL_CPU:
            return "cpu"
        return f"cuda:{number}" if kind == DL_CUDA else "cuda_host"

    @property
    def size_bytes(self):
        return self.held.get().size_bytes()

    @property
    def read_only(self):
        return self.held.get().read_only()

    def __repr__(self):
        return f"<DeviceTensor {self.dtype} {self.shape} on {self.device}>"


cdef DeviceTensor _wrap(shared_ptr[DeviceValue] held):
    cdef DeviceTensor tensor = DeviceTensor.__new__(DeviceTensor)
    tensor.held = held
    return tensor


cdef DeviceTensor adopt(Library* library, OrtValue* value, bint read_only):
    """Takes the value, also where it raises."""
    cdef shared_ptr[DeviceValue] held
    cdef shared_ptr[void] nothing
    try:
        _library()       # so that this module, too, counts forks
    except BaseException:
        library.api().ReleaseValue(value)
        raise
    cdef Status status = DeviceValue.adopt(library[0], value, read_only, nothing, &held)
    _check_buffer(status)
    return _wrap(held)


cdef object _from_capsule(capsule):
    cdef Library* library = _library()
    cdef shared_ptr[DeviceValue] held
    cdef Status status
    cdef void* managed
    if PyCapsule_IsValid(capsule, VERSIONED):
        managed = PyCapsule_GetPointer(capsule, VERSIONED)
        PyCapsule_SetName(capsule, VERSIONED_USED)
        status = DeviceValue.from_dlpack_versioned(
            library[0], <DLManagedTensorVersioned*>managed, &held)
    elif PyCapsule_IsValid(capsule, PLAIN):
        managed = PyCapsule_GetPointer(capsule, PLAIN)
        PyCapsule_SetName(capsule, PLAIN_USED)
        status = DeviceValue.from_dlpack(library[0], <DLManagedTensor*>managed, &held)
    else:
        raise BufferError("__dlpack__ gave no DLPack capsule, or one that is used up")
    if not status.ok():
        if status.code() == StatusCode.kOutOfMemory:
            raise MemoryError()
        raise BufferError(f"the tensor cannot be taken over: {_text(status.message())}")
    return _wrap(held)


cdef int _check_buffer(Status status) except -1:
    if status.ok():
        return 0
    if status.code() == StatusCode.kOutOfMemory:
        raise MemoryError()
    raise BufferError(_text(status.message()))


cdef void _drop_plain(object capsule) noexcept:
    """Of a capsule that nobody took."""
    cdef DLManagedTensor* managed
    if PyCapsule_IsValid(capsule, PLAIN):
        managed = <DLManagedTensor*>PyCapsule_GetPointer(capsule, PLAIN)
        managed.deleter(managed)


cdef void _drop_versioned(object capsule) noexcept:
    cdef DLManagedTensorVersioned* managed
    if PyCapsule_IsValid(capsule, VERSIONED):
        managed = <DLManagedTensorVersioned*>PyCapsule_GetPointer(capsule, VERSIONED)
        managed.deleter(managed)
