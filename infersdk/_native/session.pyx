# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=True
# distutils: language = c++
"""Session: the thin glue between numpy arrays and csrc's Session.

Two ways in. `run_ordered` and `run` first try the hot way: every input is already the right array, so
its bytes are copied into an Instance's own buffers, the model runs on prebuilt values, and the outputs
are copied into new arrays. Anything else takes the general way, which converts value by value (strings,
sequences, maps, optionals), checks, and explains what is wrong.

Outputs are always copies: ONNX Runtime may hand out a weight or an input itself as an output, and an
answer that a caller may write into must not alias either.

Whether a run keeps the GIL follows the session's cost model. Up to SURE_NS it is always kept: giving it up
and getting it back costs as much as the run. Beyond, up to TRIED_NS, that depends on what the process does
besides, and is found by trying (csrc's GilTrial); until then runs up to KEEP_GIL_NS keep it. Runs that are
expected to be long, or whose length is unknown, happen on a helper thread while the main thread waits in
slices, so that Ctrl-C works; so does any thread that has set `gives_up`.

Once start_batching() was called, runs that give up the GIL go through csrc's Coalescer: in the caller's
thread where a replica is idle, through its queue otherwise. A caller that waits lends its arrays; should it
leave while a run still reads them (deadline, Ctrl-C), they are kept until that is over. Calls of event loops
are copied.

Calls from an event loop do not wait: start() queues them, and a Completions object, one for each loop,
says when they are finished.
"""

import atexit
import contextvars
import logging
import os
import sys
import threading
import weakref
from collections.abc import Mapping

import numpy as np

cimport cython
cimport numpy as cnp
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.exc cimport PyErr_Occurred, PyErr_SetObject
from cpython.list cimport PyList_GET_ITEM
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.stddef cimport size_t
from libc.stdint cimport int8_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy
from libcpp cimport bool as cbool
from libcpp.atomic cimport atomic
from libcpp.memory cimport make_shared, shared_ptr
from libcpp.utility cimport move
from libcpp.string cimport string
from libcpp.vector cimport vector

from .csession cimport (
    COST_BUCKETS,
    MAX_INSTANCE_BYTES,
    Backend,
    CallBlock,
    CallMeter,
    Coalescer,
    CoalescerConfig,
    CoalescerStats,
    CostModel,
    Placement,
    ProviderConfig,
    ValuePlace,
    CSession,
    ElementType,
    FailureCount,
    GilTrial,
    Instance,
    InstanceSlot,
    InterruptCheck,
    Library,
    Notifier,
    OrtValue,
    Padding,
    Piece,
    ROW_BOUNDS,
    Replica,
    Request,
    RowHistogram,
    RunBlock,
    RunMeter,
    SessionConfig,
    Slot,
    Status,
    StatusCode,
    TIME_BOUNDS,
    Tensor,
    TimeHistogram,
    Times,
    ValueInfo,
    Writers,
    c_advance_clock,
    c_hold_clock,
    c_release_clock,
    c_set_metering,
    clock_is_held,
    element_size,
    is_metering,
    lane_of,
    make_tensor_backend,
    now_ns,
    read_failures,
)

from .binder cimport Bound
from .providers cimport DeviceTensor, adopt

from ..errors import (
    AbandonedError,
    ClosedError,
    DeadlineError,
    InputError,
    MissingDependencyError,
    OverloadedError,
    SessionError,
)
from ..types import MapSpec, OptionalSpec, SequenceSpec, TensorSpec

cnp.import_array()

cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept
    unsigned long PyThread_get_thread_ident() noexcept
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL
    object PyUnicode_DecodeUTF8(const char*, Py_ssize_t, const char*)
    int PyUnicode_Check(object)

__all__ = ["KEEP_GIL_S", "Call", "CallTimes", "Completions", "FunctionQueue", "MeteredCall",
           "MeteredMethod", "MethodMeter", "ModelMeter", "Session", "answers_as_list", "gives_up",
           "metered_function", "metered_method", "metered_run", "open_library", "row_bounds",
           "row_count", "set_call_observer", "set_cooperative_wait", "set_metering",
           "time_bounds_s"]

cdef enum:
    KIND_TENSOR = 1
    KIND_SEQUENCE = 2
    KIND_MAP = 3
    KIND_SPARSE = 5
    KIND_OPTIONAL = 6
    ELEMENT_STRING = 8
    N_ELEMENTS = 27
    MAX_KEY = 128       # ints in the hot way's key: inputs of a model with more axes go the general way
    HAND_OVER_BYTES = 64 * 1024     # larger outputs of a queued call are handed over, not copied

cdef int64_t SURE_NS = 12_000
cdef int64_t KEEP_GIL_NS = 60_000
cdef int64_t TRIED_NS = 500_000
KEEP_GIL_S = KEEP_GIL_NS * 1e-9
cdef int64_t INTERRUPTIBLE_NS = 100_000_000

_NAMES = (
    None, "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool",
    "float16", "float64", "uint32", "uint64", "complex64", "complex128", "bfloat16",
    "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "uint4", "int4",
    "float4_e2m1fn", "uint2", "int2", "float8_e8m0fnu",
)
_EXTENDED = frozenset(_NAMES[16:])      # dtypes that ml_dtypes adds to numpy
_OPTIMIZATION = {"off": 0, "basic": 1, "extended": 2, "all": 99}

# numpy's type number -> element type, for numpy's own dtypes of native byte order
cdef int8_t _element_of_typenum[64]
for _i in range(64):
    _element_of_typenum[_i] = 0
for _i, _name in enumerate(_NAMES):
    if _name is not None and _name != "string" and _name not in _EXTENDED:
        _element_of_typenum[np.dtype(_name).num] = _i
for _name in ("longlong", "ulonglong", "intc", "uintc", "long", "ulong"):
    # C has two names for one width; numpy gives each a number
    _dtype = np.dtype(_name)
    _element_of_typenum[_dtype.num] = _NAMES.index(f"{_dtype.name}")

cdef dict _dtypes = {}


cdef object _element_name(int element):
    """The name in a TensorSpec; None for an element that is not defined."""
    if not 0 <= element < N_ELEMENTS:
        raise SessionError(f"ONNX element type {element} is not known to infersdk")
    return _NAMES[element]


cdef int _packed_bits(int element) noexcept nogil:
    """Bits of an element that shares its byte with others, as ONNX Runtime lays it out; else 0."""
    if 21 <= element <= 23:     # uint4, int4, float4_e2m1fn
        return 4
    if 24 <= element <= 25:     # uint2, int2
        return 2
    return 0


cdef object _dtype_of(int element):
    """numpy's dtype of an element type; bfloat16 and smaller come from ml_dtypes."""
    dtype = _dtypes.get(element)
    if dtype is None:
        name = _element_name(element)
        if name is None:
            raise SessionError("a tensor of an undefined element type has no numpy form")
        if name == "string":
            dtype = np.dtype(object)
        elif name in _EXTENDED:
            try:
                import ml_dtypes
            except ImportError as error:
                raise MissingDependencyError(
                    f"A {name} tensor needs the package `ml_dtypes`: pip install ml_dtypes"
                ) from error
            dtype = np.dtype(getattr(ml_dtypes, name))
        else:
            dtype = np.dtype(name)
        _dtypes[element] = dtype
    return dtype


cdef struct InputCheck:
    int typenum          # -1: never on the hot way
    int element
    bint string
    bint has_shape
    int ndim
    int64_t dims[16]     # -1 where dynamic


def open_library(str path):
    """Open ONNX Runtime's shared library (once per process) and return its version."""
    cdef Library* library = NULL
    cdef Status status
    cdef string c_path = path.encode()
    with nogil:
        status = Library.open(c_path, &library)
    if not status.ok():
        raise MissingDependencyError(
            f"ONNX Runtime: {_text(status.message())}. "
            'Install a current one with: pip install -U "infersdk[cpu]"'
        )
    return _text(library.version())


cdef str _text(const string& value):
    return PyUnicode_DecodeUTF8(value.data(), value.size(), b"replace")


# What the calling thread, or greenlet, asks to know whether its answer is still wanted; None asks nothing.
gives_up = contextvars.ContextVar("infersdk_gives_up", default=None)


cdef int _check_caller(void* question) noexcept nogil:
    """Nonzero ends a wait: a signal handler raised, or the answer is not wanted any more."""
    with gil:
        if PyErr_CheckSignals():        # does nothing outside the main thread
            return -1
        if question == NULL:
            return 0
        try:
            return 1 if (<object>question)() else 0
        except BaseException as error:
            PyErr_SetObject(type(error), error)
            return -1


cdef InterruptCheck _check_for(object question):
    """What a wait has to look after, if anything; ``question`` is that of `gives_up`."""
    if question is not None or _in_main_thread():
        return _check_caller
    return NULL


cdef void* _context_of(object question):
    """Borrowed from whoever calls."""
    return NULL if question is None else <void*>question


cdef object _spec(const ValueInfo& info):
    cdef int kind = <int>info.kind
    cdef int element = <int>info.element
    cdef size_t i
    name = _text(info.name)
    if kind == KIND_TENSOR or kind == KIND_SPARSE:
        shape = None
        if info.has_shape:
            shape = tuple([
                info.dims[i] if info.dims[i] >= 0 else (_text(info.symbols[i]) or None)
                for i in range(info.dims.size())
            ])
        return TensorSpec(name, _element_name(element) or "undefined", shape)
    if kind == KIND_SEQUENCE:
        return SequenceSpec(name, _spec(info.children[0]))
    if kind == KIND_MAP:
        return MapSpec(name, _element_name(element), _spec(info.children[0]))
    if kind == KIND_OPTIONAL:
        return OptionalSpec(name, _spec(info.children[0]))
    raise SessionError(f"value `{name}` is of an ONNX kind ({kind}) that infersdk cannot pass")


cdef class _Leftover:
    """Arrays whose caller has left while a run reads them."""

    cdef shared_ptr[Request] request
    cdef list arrays


@cython.no_gc_clear         # __dealloc__ waits for runs that may read what the session keeps
cdef class Session:
    """A model in ONNX Runtime.

    Safe to use from any number of threads, and in the child of a fork (which loads the model anew on
    its first run).

    Parameters
    ----------
    model : bytes or str
        The serialized model, or the path of its file.
    name : str
        The model's name in messages.
    threads : int
        Threads of one run (intra-op).
    graph_optimization : {"all", "extended", "basic", "off"}
        ONNX Runtime's level.
    release_gil : bool, optional
        None: by the measured run time.
    external_folder : str, optional
        Where a model given as bytes finds its external data.
    coerce : callable, optional
        ``coerce(spec, value)``: turns an input that is not yet the right array into one.
    providers : sequence of (str, sequence of (str, str))
        Execution providers, the preferred one first, each with its options. The CPU takes the rest.
    cuda_device : int
        The CUDA device that the providers use; -1 for none.
    meter : ModelMeter, optional
        Counts its runs, but for those of :meth:`run_alone` and :meth:`measure`.

    Raises
    ------
    SessionError
        ONNX Runtime refuses the model, or cannot load a provider.
    MissingDependencyError
        ONNX Runtime is not installed.
    """

    cdef shared_ptr[CSession] session
    cdef shared_ptr[Placement] placement
    cdef Library* library
    cdef readonly str name
    cdef readonly tuple inputs
    cdef readonly tuple outputs
    cdef tuple input_names
    cdef tuple output_names
    cdef dict input_position
    cdef dict output_position
    cdef dict overridable_position
    cdef vector[InputCheck] checks
    cdef vector[string] output_name_bytes
    cdef vector[int] output_typenums
    cdef int release_gil
    cdef bint hot
    cdef object coerce
    cdef atomic[int] in_flight
    cdef atomic[int] closed
    cdef shared_ptr[Coalescer] coalescer     # null until start_batching()
    cdef shared_ptr[Padding] padding
    cdef vector[shared_ptr[CSession]] replicas
    cdef bint merges
    cdef bint always_queue
    cdef bint queues_short
    cdef GilTrial* short_runs
    cdef GilTrial* longer_runs
    cdef size_t split_size
    cdef list leftovers
    cdef double default_timeout_s            # 0: none
    cdef object __weakref__

    def __cinit__(self, *args, **kwargs):
        self.closed.store(1)
        self.short_runs = new GilTrial(True)
        self.longer_runs = new GilTrial(False)

    def __dealloc__(self):
        del self.short_runs
        del self.longer_runs
        # Joins the batcher threads, which may need the GIL.
        with nogil:
            self.coalescer.reset()
            self.replicas.clear()
            self.session.reset()

    def __init__(self, model, *, str name="model", int threads=1,
                 str graph_optimization="all", release_gil=None, external_folder=None, coerce=None,
                 providers=(), int cuda_device=-1, ModelMeter meter=None):
        cdef SessionConfig config
        cdef vector[ProviderConfig] chosen
        cdef ProviderConfig one
        cdef Status status
        cdef shared_ptr[CSession] session
        cdef Library* library
        from .library import open_library as find_and_open
        find_and_open()
        self.name = name
        self.leftovers = []
        self.coerce = coerce
        self.release_gil = -1 if release_gil is None else (1 if release_gil else 0)
        if isinstance(model, bytes):
            config.set_bytes(PyBytes_AS_STRING(model), PyBytes_GET_SIZE(model))
        elif isinstance(model, str):
            config.path = os.fsencode(model)
        else:
            raise TypeError(f"model must be bytes or str, got {type(model).__name__}")
        if external_folder is not None:
            config.external_folder = os.fsencode(external_folder)
        config.threads = threads
        config.graph_optimization = _OPTIMIZATION[graph_optimization]
        for provider, options in providers:
            one = ProviderConfig()
            one.name = provider.encode()
            for key, value in options:
                one.set(key.encode(), value.encode())
            chosen.push_back(one)
        config.placement = shared_ptr[Placement](new Placement(chosen, cuda_device))
        self.placement = config.placement
        if meter is not None:
            config.meter = meter.runs
        library = Library.current()
        with nogil:
            status = CSession.open(library, config, &session)
        if not status.ok():
            if status.code() == StatusCode.kOutOfMemory:
                raise MemoryError()
            raise SessionError(
                f"ONNX Runtime cannot load model `{name}`: {_text(status.message())}",
                model=name, code=status.ort_code(),
            )
        self.library = library
        self.session = session
        self._read_types()
        _sessions.add(self)
        self.closed.store(0)

    cdef _read_types(self):
        cdef CSession* session = self.session.get()
        cdef size_t i, j
        cdef InputCheck check
        cdef int element
        self.inputs = tuple([_spec(session.inputs()[i]) for i in range(session.inputs().size())])
        self.outputs = tuple([_spec(session.outputs()[i]) for i in range(session.outputs().size())])
        self.input_names = tuple([spec.name for spec in self.inputs])
        self.output_names = tuple([spec.name for spec in self.outputs])
        self.input_position = {value: i for i, value in enumerate(self.input_names)}
        self.output_position = {value: i for i, value in enumerate(self.output_names)}
        self.overridable_position = {
            _text(session.overridable()[i].name): i for i in range(session.overridable().size())
        }
        self.hot = session.instances_possible()
        for i in range(session.outputs().size()):
            self.output_name_bytes.push_back(session.outputs()[i].name)
            if self.hot:
                self.output_typenums.push_back(
                    (<cnp.dtype>_dtype_of(<int>session.outputs()[i].element)).type_num)
        for i in range(session.inputs().size()):
            element = <int>session.inputs()[i].element
            check.element = element
            check.string = element == ELEMENT_STRING
            check.has_shape = session.inputs()[i].has_shape
            check.ndim = <int>session.inputs()[i].dims.size()
            check.typenum = -1
            if self.hot and check.ndim <= 16:
                check.typenum = (<cnp.dtype>_dtype_of(element)).type_num
                for j in range(session.inputs()[i].dims.size()):
                    check.dims[j] = session.inputs()[i].dims[j]
            self.checks.push_back(check)

    def __repr__(self):
        state = " closed" if self.closed.load() else ""
        return f"<infersdk Session `{self.name}`{state}>"

    def close(self):
        """Wait for running calls, then free the model. Calling it again does nothing."""
        cdef shared_ptr[Coalescer] coalescer
        if self.closed.exchange(1):
            return
        try:
            while self.in_flight.load() > 0:
                _pause()
        except BaseException:
            self.closed.store(0)
            raise
        coalescer.swap(self.coalescer)      # with the GIL: others look at it
        with nogil:
            if coalescer.get() != NULL:
                coalescer.get().drain()     # calls of event loops, which nobody waits for here
                coalescer.get().stop()
                coalescer.reset()
            self.replicas.clear()
            self.session.reset()

    def run(self, inputs, outputs=None, *, timeout_s=None, int priority=0):
        """Run the model on named inputs.

        Parameters
        ----------
        inputs : Mapping of str to object
            A value for each input: an ndarray of exactly the input's dtype (strings: an object array
            of str), a list for a sequence, a dict for a map, None for an absent optional.
        outputs : sequence of str, optional
            The outputs to give; all by default.
        timeout_s : float, optional
            The most seconds that the call may wait for a run.
        priority : int
            Where calls wait, those of a higher one go first.

        Returns
        -------
        dict
            Output name to value, in the graph's order (or the order asked for).

        Raises
        ------
        InputError
            A name, dtype or shape does not fit the model.
        OverloadedError
            The queue is full, or too long for the call to be answered in time.
        DeadlineError
            The time ran out.
        SessionError
            ONNX Runtime failed.
        ClosedError
            The session was closed.
        """
        cdef Times times
        return self._run_mapping(inputs, outputs, timeout_s, priority, &times)

    cdef dict _run_mapping(self, inputs, outputs, timeout_s, int priority, Times* times):
        cdef list ordered, results
        cdef dict named, given
        cdef PyObject* found
        cdef Py_ssize_t i
        cdef Py_ssize_t n = len(self.input_names)
        if type(inputs) is dict:
            given = <dict>inputs
        elif isinstance(inputs, Mapping):
            given = dict(inputs)
        else:
            raise InputError.mismatch(expected="a dict of inputs by name", given=_describe(inputs),
                                      model=self.name)
        if outputs is None and len(given) == n:
            ordered = []
            for i in range(n):
                found = PyDict_GetItem(given, self.input_names[i])
                if found == NULL:
                    break
                ordered.append(<object>found)
            else:
                results = self._run_list(ordered, self._deadline(timeout_s), priority, times)
                named = {}
                for i in range(len(results)):
                    named[self.output_names[i]] = results[i]
                return named
        return self._run_named(given, outputs, times)

    def run_ordered(self, inputs, timeout_s=None, int priority=0):
        """Run the model on all its inputs, in the graph's order.

        Parameters
        ----------
        inputs : list or tuple
            As the values of :meth:`run`.
        timeout_s, priority
            As for :meth:`run`.

        Returns
        -------
        list
            All outputs, in the graph's order.

        Raises
        ------
        InputError, OverloadedError, DeadlineError, SessionError, ClosedError
            As :meth:`run`.
        """
        cdef Times times
        return self._run_list(inputs if type(inputs) is list else list(inputs),
                              self._deadline(timeout_s), priority, &times)

    cdef int64_t _deadline(self, timeout_s) except -1:
        """The time a call may take until, on now_ns()'s clock; 0 for no limit."""
        cdef double seconds
        if timeout_s is None:
            if self.default_timeout_s == 0:
                return 0
            seconds = self.default_timeout_s
        else:
            seconds = timeout_s
        return _deadline_after(seconds, self.name)

    # What is run with `times` is counted; without, it is a measurement and is not.

    cdef list _run_list(self, list inputs, int64_t deadline_ns, int priority, Times* times):
        cdef list result
        cdef dict named
        self.in_flight.fetch_add(1)
        try:
            if self.closed.load():
                self._raise_closed()
            if self.hot:
                result = self._run_hot(inputs, deadline_ns, priority, times)
                if result is not None:
                    return result
            self._check_count(inputs)
            if self.hot and self.coalescer.get() != NULL and len(inputs) == len(self.input_names):
                # Of the wrong dtype or layout: put right, it may be queued like any other.
                inputs = self._arranged(inputs)
                result = self._run_hot(inputs, deadline_ns, priority, times)
                if result is not None:
                    return result
            named = dict(zip(self.input_names, inputs))
            times.n_rows = times.run_rows = _first_axis(named)
            return self._run_general(self.session.get(), named, None, times)
        finally:
            self.in_flight.fetch_sub(1)

    cdef int _check_count(self, list inputs) except -1:
        if len(inputs) > len(self.input_names):
            raise InputError.mismatch(expected=f"{len(self.input_names)} inputs",
                                      given=f"{len(inputs)}", model=self.name)
        return 0

    cdef list _arranged(self, list inputs):
        """Arrays of the graph's own dtypes, shapes and layout."""
        cdef list arranged = []
        cdef size_t i
        for i in range(self.checks.size()):
            given = inputs[i]
            if self.coerce is not None:
                given = self.coerce(self.inputs[i], given)
            arranged.append(self._checked_array(self.session.get().inputs()[i], given,
                                                self.input_names[i]))
        return arranged

    def expected_run_s(self, Py_ssize_t size_bytes):
        """The measured seconds of a run over inputs of that many bytes; None while unmeasured."""
        cdef int64_t expected
        self.in_flight.fetch_add(1)
        try:
            if self.closed.load():
                self._raise_closed()
            expected = self.session.get().cost().get().measured_ns(CostModel.bucket(size_bytes))
        finally:
            self.in_flight.fetch_sub(1)
        return None if expected == 0 else expected * 1e-9

    def measure(self, inputs, double budget_s, int max_runs=50):
        """Run the model repeatedly to fill the cost model.

        Parameters
        ----------
        inputs : list or tuple
            As for :meth:`run_ordered`.
        budget_s : float
            No further run starts after this many seconds.
        max_runs : int
            The most runs, the first (which warms caches and is not counted) included; one is always
            made.

        Returns
        -------
        tuple of (float, int)
            The median seconds of a run, and how many were counted. A model so slow that only the first
            run fits has that one counted.

        Raises
        ------
        InputError, SessionError, ClosedError
            As :meth:`run`.
        """
        cdef int64_t started = now_ns()
        cdef int64_t before
        cdef size_t size_bytes = 0
        times = []
        for value in inputs:
            size_bytes += getattr(value, "nbytes", 0)
        while True:
            before = now_ns()
            self.run_alone(list(inputs))
            times.append((now_ns() - before) * 1e-9)
            if len(times) >= max_runs or (now_ns() - started) * 1e-9 >= budget_s:
                break
        counted = sorted(times[1:] or times)
        median = counted[len(counted) // 2]
        self.in_flight.fetch_add(1)
        try:
            if self.closed.load():
                self._raise_closed()
            self.session.get().cost().get().set(
                CostModel.bucket(size_bytes), <int64_t>(median * 1e9))
        finally:
            self.in_flight.fetch_sub(1)
        return median, len(counted)

    def set_cost(self, Py_ssize_t size_bytes, double run_s):
        """Tell the cost model what a run over inputs of that many bytes takes, in seconds."""
        self.in_flight.fetch_add(1)
        try:
            if self.closed.load():
                self._raise_closed()
            self.session.get().cost().get().set(CostModel.bucket(size_bytes),
                                                <int64_t>(run_s * 1e9))
        finally:
            self.in_flight.fetch_sub(1)

    def costs(self):
        """The moving averages of run time in service.

        Returns
        -------
        dict of int to float
            The least bytes of inputs of each measured size class (a power of two), and its seconds.
        """
        cdef size_t bucket
        cdef int64_t measured
        result = {}
        self.in_flight.fetch_add(1)
        try:
            if self.closed.load():
                return result
            for bucket in range(COST_BUCKETS):
                measured = self.session.get().cost().get().measured_ns(bucket)
                if measured > 0:
                    result[1 << bucket] = measured * 1e-9
        finally:
            self.in_flight.fetch_sub(1)
        return result

    def run_alone(self, inputs):
        """Run in this thread and at once, whatever waits in the queue: for measurements and tests.

        Parameters, results and errors are those of :meth:`run_ordered`.
        """
        cdef list result
        cdef list arrays = inputs if type(inputs) is list else list(inputs)
        self.in_flight.fetch_add(1)
        try:
            if self.closed.load():
                self._raise_closed()
            self._check_count(arrays)
            if self.hot:
                result = self._run_unqueued(arrays)
                if result is not None:
                    return result
            return self._run_general(
                self.session.get(), dict(zip(self.input_names, arrays)), None, NULL)
        finally:
            self.in_flight.fetch_sub(1)

    def run_on_device(self, inputs, outputs=None, MeteredCall metered=None):
        """Run the model and leave its outputs where they were computed.

        Parameters
        ----------
        inputs : Mapping of str to object
            A value for each input. A :class:`DeviceTensor` and whatever speaks DLPack is taken where it
            is, without a copy; it must not be written to meanwhile.
        outputs : sequence of str, optional
            The outputs to give; all by default.
        metered : MeteredCall, optional
            The call that it is a part of; the run is counted then.

        Returns
        -------
        dict
            Output name to DeviceTensor, read-only.

        Raises
        ------
        InputError
            A name, dtype or shape does not fit.
        SessionError
            ONNX Runtime failed; out of memory on the device is one way.
        BufferError
            An input or output has no DLPack form, such as text.
        ClosedError
            The session was closed.
        """
        cdef vector[const char*] c_inputs, c_outputs
        cdef vector[const OrtValue*] values
        cdef vector[OrtValue*] results
        cdef Status status
        cdef DeviceTensor tensor
        cdef size_t i
        cdef OrtValue* value
        cdef Instance* instance
        cdef list keep = []
        cdef int64_t started, elapsed
        cdef Py_ssize_t n_rows = -1
        names = self.output_names if outputs is None else tuple(outputs)
        for name in names:
            if name not in self.output_position:
                raise InputError.mismatch(
                    expected=f"outputs among {', '.join(self.output_names)}", given=repr(name),
                    model=self.name)
            encoded = name.encode()
            keep.append(encoded)
            c_outputs.push_back(PyBytes_AS_STRING(encoded))
        for name, given in inputs.items():
            if name not in self.input_position:
                raise InputError.mismatch(
                    expected=f"inputs among {', '.join(self.input_names)}", given=repr(name),
                    model=self.name)
            if not hasattr(given, "__dlpack__") and self.coerce is not None:
                given = self.coerce(self.inputs[self.input_position[name]], given)
            tensor = DeviceTensor.from_dlpack(given)
            if n_rows < 0:
                n_rows = tensor.shape[0] if tensor.shape else 1
            keep.append(tensor)
            values.push_back(tensor.value())
            encoded = name.encode()
            keep.append(encoded)
            c_inputs.push_back(PyBytes_AS_STRING(encoded))
        results.resize(c_outputs.size(), NULL)
        self.in_flight.fetch_add(1)
        try:
            if self.closed.load():
                self._raise_closed()
            with nogil:
                # In the child of a fork this loads the model.
                instance = self.session.get().acquire(NULL, 0)
                if instance != NULL:
                    self.session.get().release(instance)
                started = now_ns()
                status = self.placement.get().run_bound(
                    c_inputs.data(), values.data(), values.size(), c_outputs.data(),
                    c_outputs.size(), ValuePlace.kDevice, results.data())
                elapsed = now_ns() - started
            if status.ok() and metered is not None:
                metered.times.n_rows = metered.times.run_rows = n_rows if n_rows >= 0 else 1
                self._count_run(&metered.times, started, elapsed)
        finally:
            self.in_flight.fetch_sub(1)
        self._check(status)
        left = {}
        try:
            for i in range(results.size()):
                value = results[i]
                results[i] = <OrtValue*>NULL
                left[names[i]] = adopt(self.library, value, True)
        finally:
            for i in range(results.size()):
                if results[i] != NULL:
                    self.library.api().ReleaseValue(results[i])
        return left

    cdef _raise_closed(self):
        raise ClosedError(f"Model `{self.name}` is closed; load it again to use it")

    cdef dict _run_named(self, dict inputs, outputs, Times* times):
        cdef list result
        names = self.output_names if outputs is None else tuple(outputs)
        for name in names:
            if name not in self.output_position:
                raise InputError.mismatch(
                    expected=f"outputs among {', '.join(self.output_names)}", given=repr(name),
                    model=self.name,
                )
        self.in_flight.fetch_add(1)
        try:
            if self.closed.load():
                self._raise_closed()
            times.n_rows = times.run_rows = _first_axis(inputs)
            result = self._run_general(self.session.get(), inputs, names, times)
        finally:
            self.in_flight.fetch_sub(1)
        return dict(zip(names, result))

    # --- the hot way ------------------------------------------------------------------------------

    cdef bint _key_of(self, list inputs, int64_t* key, size_t* key_length, size_t* total_bytes,
                      int64_t* n_rows) except -1:
        """Shapes and size of inputs that are the right arrays already; False where they are not.

        ``n_rows`` becomes the length of the first axis that all inputs share, or -1.
        """
        cdef size_t n = self.checks.size()
        cdef size_t i
        cdef int axis, ndim
        cdef InputCheck* check
        cdef cnp.ndarray array
        key_length[0] = 0
        total_bytes[0] = 0
        n_rows[0] = -1
        if <size_t>len(inputs) != n:
            return False
        for i in range(n):
            value = <object>PyList_GET_ITEM(inputs, i)
            check = &self.checks[i]
            if type(value) is not cnp.ndarray:
                return False
            array = <cnp.ndarray>value
            ndim = cnp.PyArray_NDIM(array)
            if (cnp.PyArray_TYPE(array) != check.typenum
                    and not self._same_width(array, check)):
                return False
            if not cnp.PyArray_ISCARRAY_RO(array):
                return False
            if check.has_shape and ndim != check.ndim:
                return False
            if key_length[0] + ndim + 1 > MAX_KEY:
                return False
            key[key_length[0]] = ndim
            key_length[0] += 1
            for axis in range(ndim):
                key[key_length[0]] = cnp.PyArray_DIM(array, axis)
                if (check.has_shape and check.dims[axis] >= 0
                        and check.dims[axis] != key[key_length[0]]):
                    return False
                key_length[0] += 1
            total_bytes[0] += cnp.PyArray_NBYTES(array)
            if ndim == 0 or (i > 0 and cnp.PyArray_DIM(array, 0) != n_rows[0]):
                n_rows[0] = -1
            elif i == 0:
                n_rows[0] = cnp.PyArray_DIM(array, 0)
        return True

    cdef list _run_hot(self, list inputs, int64_t deadline_ns, int priority, Times* times):
        """Run arrays that need no conversion; None where they need one."""
        cdef int64_t expected
        cdef bint keep
        cdef int64_t key[MAX_KEY]
        cdef size_t key_length, total_bytes
        cdef int64_t n_rows
        if not self._key_of(inputs, key, &key_length, &total_bytes, &n_rows):
            return None
        times.n_rows = times.run_rows = n_rows if n_rows >= 0 else 1
        expected = self.session.get().cost().get().measured_ns(CostModel.bucket(total_bytes))
        if self.release_gil < 0 and not self.always_queue and 0 < expected <= TRIED_NS:
            # What it does by itself; for longer runs, and where it is set, there is nothing to try.
            if expected <= SURE_NS:
                keep = True
            elif expected <= KEEP_GIL_NS:
                keep = self.short_runs.keeps(now_ns(), PyThread_get_thread_ident())
            else:
                keep = self.longer_runs.keeps(now_ns(), PyThread_get_thread_ident())
        else:
            keep = self.release_gil == 0
        if not keep and self.coalescer.get() != NULL and n_rows != 0 and (
            self.queues_short or self.always_queue or not 0 < expected <= KEEP_GIL_NS
        ) and (n_rows > 0 or not self.merges):
            return self._run_coalesced(inputs, key, key_length, total_bytes, n_rows, deadline_ns,
                                       priority, times)
        return self._run_arrays(self.session.get(), inputs, key, key_length, total_bytes, keep, times)

    cdef list _run_unqueued(self, list inputs):
        """Run arrays that need no conversion in this thread; None where they need one."""
        cdef int64_t key[MAX_KEY]
        cdef size_t key_length, total_bytes
        cdef int64_t n_rows
        if not self._key_of(inputs, key, &key_length, &total_bytes, &n_rows):
            return None
        return self._run_arrays(self.session.get(), inputs, key, key_length, total_bytes, -1, NULL)

    cdef list _run_arrays(self, CSession* session, list inputs, const int64_t* key,
                          size_t key_length, size_t total_bytes, int keep, Times* times):
        """Run in this thread: on an Instance, where there is one for these shapes."""
        cdef size_t n = self.checks.size()
        cdef size_t i
        cdef cnp.ndarray array
        cdef Instance* instance
        cdef InstanceSlot* slot
        cdef list result
        if total_bytes > MAX_INSTANCE_BYTES:
            return self._run_general(session, dict(zip(self.input_names, inputs)), None, times, keep)
        instance = session.acquire(key, key_length)
        if instance == NULL:
            return self._run_general(session, dict(zip(self.input_names, inputs)), None, times, keep,
                                     key, key_length)
        try:
            for i in range(n):
                array = <cnp.ndarray>PyList_GET_ITEM(inputs, i)
                slot = &instance.inputs[i]
                if self.checks[i].string:
                    self._fill_strings(slot.value, array, i)
                else:
                    memcpy(slot.data, cnp.PyArray_DATA(array), slot.size_bytes)
            self._run_instance(session, instance, total_bytes, keep, times)
            result = []
            for i in range(instance.outputs.size()):
                slot = &instance.outputs[i]
                if instance.results[i] == slot.value:
                    result.append(_copy_out(
                        slot.dims, self.output_typenums[i], slot.data, slot.size_bytes))
                else:
                    result.append(self._to_python(instance.results[i]))
            return result
        finally:
            session.release(instance)

    cdef bint _same_width(self, cnp.ndarray array, InputCheck* check) noexcept:
        # numpy has two type numbers for integers of one width (long and long long)
        cdef int typenum = cnp.PyArray_TYPE(array)
        return (check.typenum >= 0 and 0 <= typenum < 64
                and _element_of_typenum[typenum] == check.element and not check.string)

    cdef int _run_instance(self, CSession* session, Instance* instance, size_t total_bytes,
                           int keep, Times* times) except -1:
        cdef size_t bucket = CostModel.bucket(total_bytes)
        cdef CostModel* cost = self.session.get().cost().get()
        cdef int64_t expected = cost.measured_ns(bucket)
        cdef int64_t started, elapsed
        cdef Status status
        cdef InterruptCheck interrupt = NULL
        cdef void* context = NULL
        if self._keeps_gil(expected, keep):
            started = now_ns()
            status = session.run_instance(instance, NULL, NULL)
            elapsed = now_ns() - started
        else:
            if expected == 0 or expected > INTERRUPTIBLE_NS:
                question = gives_up.get()
                interrupt = _check_for(question)
                context = _context_of(question)
            with nogil:
                started = now_ns()
                status = session.run_instance(instance, interrupt, context)
                elapsed = now_ns() - started    # before the GIL is back, which may take longer
        if not status.ok():
            self._raise(status)
        cost.record(bucket, elapsed)
        self._count_run(times, started, elapsed)
        return 0

    cdef inline void _count_run(self, Times* times, int64_t started, int64_t elapsed) noexcept:
        """With the GIL."""
        cdef RunMeter* meter
        if times == NULL:
            return
        times.run_started_ns = started
        times.run_ended_ns = started + elapsed
        meter = self.session.get().meter().get()
        if meter != NULL:
            meter.ran(elapsed, times.run_rows, UNDER_GIL)

    cdef inline bint _keeps_gil(self, int64_t expected, int keep) noexcept:
        """Whether this run does; ``keep`` is -1 where it was not decided by trial."""
        if self.release_gil >= 0:
            return self.release_gil == 0
        if keep >= 0:
            return keep
        return 0 < expected <= KEEP_GIL_NS

    # --- the queue ----------------------------------------------------------------------------------

    def start_batching(self, *, bint merge, Py_ssize_t max_batch_size, Py_ssize_t split_size=0,
                       Py_ssize_t instances=1, Py_ssize_t max_queue_size=4096,
                       Py_ssize_t max_queue_bytes=256 * 2**20, timeout_s=None, bint always=False,
                       bint queues_short=True,
                       replicas=(), pad=None, bint learned_sizes=False):
        """From now on, let runs that give up the GIL share replicas and batches.

        Called again, it changes ``merge``, ``max_batch_size`` and ``split_size``, and nothing else.

        Parameters
        ----------
        merge : bool
            Rows of different calls may share a run; every input and output must have them along its
            first axis.
        max_batch_size : int
            The most rows in a shared run.
        split_size : int
            Calls of more rows are cut into runs of that many; 0 never does.
        instances : int
            Runs that may be under way at once on each replica.
        max_queue_size, max_queue_bytes : int
            The most rows, and bytes of their inputs, that may wait.
        timeout_s : float, optional
            How long a call may take that does not say so itself.
        always : bool
            Short runs too, which would keep the GIL otherwise.
        queues_short : bool
            Short runs that give up the GIL, where that was found better, are queued as longer ones are;
            False lets them run in their callers' threads.
        replicas : sequence of Session
            The same model on other devices.
        pad : dict, optional
            Axis name to ``{input name: fill value}``: axes that may be filled up.
        learned_sizes : bool
            Fill up to a few sizes that come back, not to the longest of each batch.

        Raises
        ------
        SessionError
            ONNX Runtime failed, or the graph's values cannot be queued (sequences, maps, ...).
        """
        cdef CoalescerConfig config
        cdef vector[Replica] backends
        cdef Replica replica
        cdef Session other
        cdef Status status
        cdef shared_ptr[Coalescer] coalescer
        if self.closed.load():
            self._raise_closed()
        if not self.hot:
            raise SessionError(f"Model `{self.name}` has inputs or outputs that are not tensors, "
                               "which cannot be queued", model=self.name)
        self.merges = merge
        self.split_size = split_size
        self.always_queue = always
        self.queues_short = queues_short
        if self.coalescer.get() != NULL:
            self.coalescer.get().reconfigure(merge, max_batch_size, split_size)
            return
        config.merge = merge
        config.max_batch_size = max_batch_size
        config.split_size = split_size
        config.max_queue_size = max_queue_size
        config.max_queue_bytes = max_queue_bytes
        config.meter = self.session.get().meter()
        self.padding = self._make_padding(pad or {}, learned_sizes)
        self.replicas.clear()
        for other in (self, *replicas):
            self.replicas.push_back(other.session)
            replica.backend = make_tensor_backend(other.session, self.padding)
            replica.concurrency = instances
            backends.push_back(replica)
        status = Coalescer.create(config, backends, self.session.get().cost(), &coalescer)
        self._check(status)
        self.default_timeout_s = timeout_s or 0
        self.coalescer = coalescer

    def queue_stats(self):
        """Counts since batching was started, and what waits and runs now; {} without batching."""
        cdef CoalescerStats stats
        cdef shared_ptr[Coalescer] coalescer = self.coalescer       # close() takes the other
        if coalescer.get() == NULL:
            return {}
        with nogil:
            stats = coalescer.get().stats()
        return _stats(stats, coalescer.get().healthy())

    cdef shared_ptr[Padding] _make_padding(self, pad, bint learned_sizes) except *:
        cdef shared_ptr[Padding] padding = make_shared[Padding]()
        cdef vector[int] groups
        cdef bytes fill
        names = list(pad)
        padding.get().n_groups = len(names)
        padding.get().learned_sizes = learned_sizes
        for specs, is_input in ((self.inputs, True), (self.outputs, False)):
            for spec in specs:
                groups.clear()
                fill = b""
                text = ""
                for axis, dim in enumerate(spec.shape or ()):
                    if axis == 0 or dim not in names:
                        groups.push_back(-1)
                        continue
                    groups.push_back(names.index(dim))
                    if not is_input:
                        continue
                    value = pad[dim][spec.name]
                    if spec.dtype == "string":
                        text = str(value)
                    else:
                        fill = np.asarray(value).astype(_dtype_of(_NAMES.index(spec.dtype))).tobytes()
                if is_input:
                    padding.get().inputs.push_back(groups)
                    padding.get().fill_strings.push_back(text.encode())
                    padding.get().add_fill(fill, len(fill))
                else:
                    padding.get().outputs.push_back(groups)
        return padding

    cdef list _run_coalesced(self, list inputs, const int64_t* key, size_t key_length,
                             size_t total_bytes, int64_t n_rows, int64_t deadline_ns, int priority,
                             Times* times):
        cdef Coalescer* coalescer = self.coalescer.get()
        cdef Slot slot
        if _cooperates():
            return self._yield_for(inputs, deadline_ns, priority, times)
        cdef shared_ptr[Request] request
        cdef Status status
        cdef InterruptCheck interrupt
        cdef void* context
        cdef bint queued
        if self.split_size == 0 or n_rows <= <int64_t>self.split_size:
            slot = coalescer.begin()
            if slot.replica >= 0:
                try:
                    return self._run_arrays(self.replicas[slot.replica].get(), inputs, key,
                                            key_length, total_bytes, False, times)
                except SessionError:
                    if self.replicas.size() == 1:
                        raise
                    # The queue knows how to ask another replica.
                finally:
                    coalescer.end(slot)
        request = self._request(inputs, total_bytes, n_rows, deadline_ns, priority, True)
        if self.leftovers:
            self._drop_leftovers()
        question = gives_up.get()
        interrupt = _check_for(question)
        context = _context_of(question)
        with nogil:
            status = coalescer.submit(request)
            queued = status.ok()
            if queued:
                status = coalescer.wait(request, interrupt, context)
        if queued and not status.ok() and not request.get().finished():
            self._keep_for(request, inputs)
        if not self.closed.load() and (status.code() == StatusCode.kClosed
                                       or (_ending and status.code() == StatusCode.kRuntime)):
            # The interpreter is ending, and with it the batcher threads; this call can still be run.
            return self._run_arrays(self.session.get(), inputs, key, key_length, total_bytes, False,
                                    times)
        if queued:
            _take_times(times, request.get(), request.get().finished())
        return self._answer(coalescer, request, status)

    cdef int _keep_for(self, shared_ptr[Request] request, list arrays) except -1:
        cdef _Leftover leftover = _Leftover.__new__(_Leftover)
        leftover.request = request
        leftover.arrays = arrays
        self.leftovers.append(leftover)
        return 0

    cdef int _drop_leftovers(self) except -1:
        self.leftovers = [
            leftover for leftover in self.leftovers
            if not (<_Leftover>leftover).request.get().finished()
        ]
        return 0

    cdef list _yield_for(self, list inputs, int64_t deadline_ns, int priority, Times* times):
        cdef double timeout_s = 0 if deadline_ns == 0 else (deadline_ns - now_ns()) * 1e-9
        cdef Call call = self.start(inputs, _cooperative.completions(), timeout_s or None, priority)
        try:
            if not _cooperative.wait(call, timeout_s):
                raise DeadlineError(f"Model `{self.name}` did not answer in time: still running",
                                    timeout_s=timeout_s, model=self.name)
        finally:
            _take_times(times, call.request.get(), call.request.get().finished())
        return call.result()

    cdef list _answer(self, Coalescer* coalescer, shared_ptr[Request] request, const Status& status):
        cdef list result = []
        cdef size_t i
        cdef Request* finished = request.get()
        if (<Status*>&status).ok() or (<Status*>&status).code() == StatusCode.kDeadline:
            # From here on it has the GIL, which it may have waited for.
            coalescer.record_answer(finished[0], now_ns())
        if not (<Status*>&status).ok():
            self._raise_refused(finished, status)
        for i in range(finished.outputs.size()):
            result.append(self._tensor_out(&finished.outputs[i], i))
        return result

    cdef int _raise_refused(self, Request* request, const Status& status) except -1:
        cdef StatusCode code = (<Status*>&status).code()
        if code == StatusCode.kOverloaded:
            raise OverloadedError(
                f"Model `{self.name}` is overloaded: {_text((<Status*>&status).message())}; "
                f"retry in {request.retry_after_ns * 1e-9:.3g} s",
                retry_after_s=request.retry_after_ns * 1e-9, model=self.name)
        return self._raise(status)

    cdef shared_ptr[Request] _request(self, list inputs, size_t total_bytes, int64_t n_rows,
                                      int64_t deadline_ns, int priority, bint borrow) except *:
        """The call, which borrows its inputs or has a copy of them."""
        cdef shared_ptr[Request] request = make_shared[Request]()
        cdef Tensor* tensor
        cdef cnp.ndarray array
        cdef vector[int64_t] dims
        cdef PyObject** items
        cdef const char* text
        cdef Py_ssize_t i, k, length
        cdef int axis
        cdef Py_ssize_t n = self.checks.size()
        cdef void* data
        request.get().inputs.resize(n)
        for i in range(n):
            array = <cnp.ndarray>PyList_GET_ITEM(inputs, i)
            tensor = &request.get().inputs[i]
            dims.clear()
            for axis in range(cnp.PyArray_NDIM(array)):
                dims.push_back(cnp.PyArray_DIM(array, axis))
            if borrow and not self.checks[i].string:
                tensor.borrow(<ElementType>self.checks[i].element, dims, cnp.PyArray_DATA(array))
                continue
            tensor.reserve(<ElementType>self.checks[i].element, dims)
            if self.checks[i].string:
                items = <PyObject**>cnp.PyArray_DATA(array)
                for k in range(cnp.PyArray_SIZE(array)):
                    text = self._utf8(items, k, &length, i)
                    tensor.strings[k].assign(text, length)
                    total_bytes += length
            elif tensor.size_bytes > HAND_OVER_BYTES:
                data = cnp.PyArray_DATA(array)
                with nogil:
                    memcpy(tensor.data.get(), data, tensor.size_bytes)
            elif tensor.size_bytes > 0:
                memcpy(tensor.data.get(), cnp.PyArray_DATA(array), tensor.size_bytes)
        lane_of(self.padding.get()[0], request.get().inputs, &request.get().lane)
        if n_rows <= 0:
            # Without rows that all inputs share it is run on its own: its lane is nobody else's.
            request.get().lane.push_back(<int64_t><size_t>request.get())
        request.get().n_rows = n_rows if n_rows > 0 else 1
        request.get().units = total_bytes if total_bytes > 0 else 1
        request.get().size_bytes = total_bytes
        request.get().deadline_ns = deadline_ns
        request.get().priority = priority
        return request

    cdef object _tensor_out(self, Tensor* tensor, size_t position):
        cdef cnp.npy_intp shape[32]
        cdef size_t i
        cdef list items
        cdef cnp.ndarray array
        if self.outputs[position].dtype == "string":
            items = [
                PyUnicode_DecodeUTF8(tensor.strings[i].data(), tensor.strings[i].size(), b"replace")
                for i in range(tensor.strings.size())
            ]
            strings = np.empty(len(items), dtype=object)
            strings[:] = items
            return strings.reshape([tensor.dims[i] for i in range(tensor.dims.size())])
        if tensor.size_bytes < HAND_OVER_BYTES:
            return _copy_out(tensor.dims, self.output_typenums[position], tensor.data.get(),
                             tensor.size_bytes)
        for i in range(tensor.dims.size()):
            shape[i] = tensor.dims[i]
        owner = PyCapsule_New(tensor.data.get(), NULL, _free_capsule)
        array = cnp.PyArray_SimpleNewFromData(
            <int>tensor.dims.size(), shape, self.output_typenums[position], tensor.data.release())
        cnp.set_array_base(array, owner)
        return array

    def run_short(self, inputs):
        """Run at once in this thread, with the GIL kept, what takes less than handing it over would.

        Parameters
        ----------
        inputs : list
            As for :meth:`run_ordered`.

        Returns
        -------
        list or None
            All outputs; None, and nothing was run, where the run may take longer or where it has been
            set that it is to be queued or to give up the GIL.

        Raises
        ------
        InputError, SessionError, ClosedError
            As :meth:`run`.
        """
        cdef Times times
        return self._run_short(inputs if type(inputs) is list else list(inputs), &times)

    cdef list _run_short(self, list arrays, Times* times):
        cdef int64_t key[MAX_KEY]
        cdef size_t key_length, total_bytes
        cdef int64_t n_rows, expected
        self.in_flight.fetch_add(1)
        try:
            if self.closed.load():
                self._raise_closed()
            if not self.hot or self.always_queue or self.release_gil > 0:
                return None
            if not self._key_of(arrays, key, &key_length, &total_bytes, &n_rows):
                return None
            expected = self.session.get().cost().get().measured_ns(CostModel.bucket(total_bytes))
            if not 0 < expected <= KEEP_GIL_NS:
                return None
            times.run_rows = n_rows if n_rows >= 0 else 1
            return self._run_arrays(self.session.get(), arrays, key, key_length, total_bytes, True,
                                    times)
        finally:
            self.in_flight.fetch_sub(1)

    def start(self, inputs, Completions completions, timeout_s=None, int priority=0):
        """Queue a run and come back at once.

        Parameters
        ----------
        inputs : list
            As for :meth:`run_ordered`.
        completions : Completions
            What will tell that the call is finished.
        timeout_s, priority
            As for :meth:`run`.

        Returns
        -------
        Call or None
            None where these inputs cannot be queued: no batching, or no rows.

        Raises
        ------
        InputError, OverloadedError, DeadlineError, ClosedError
            As :meth:`run`.
        """
        cdef int64_t key[MAX_KEY]
        cdef size_t key_length, total_bytes
        cdef int64_t n_rows
        cdef list arrays = inputs if type(inputs) is list else list(inputs)
        cdef shared_ptr[Request] request
        cdef Status status
        cdef Call call
        self.in_flight.fetch_add(1)
        try:
            if self.closed.load():
                self._raise_closed()
            if self.coalescer.get() == NULL:
                return None
            if not self._key_of(arrays, key, &key_length, &total_bytes, &n_rows):
                self._check_count(arrays)
                if <size_t>len(arrays) != self.checks.size():
                    return None
                arrays = self._arranged(arrays)
                if not self._key_of(arrays, key, &key_length, &total_bytes, &n_rows):
                    return None
            if n_rows == 0 or (n_rows < 0 and self.merges):
                return None
            request = self._request(arrays, total_bytes, n_rows, self._deadline(timeout_s), priority,
                                    False)
            call = Call.__new__(Call)
            call.session = self
            call.coalescer = self.coalescer
            call.request = request
            completions.add(call)
            status = self.coalescer.get().submit(request)
            if not status.ok():
                completions.forget(call)
                self._raise_refused(request.get(), status)
            return call
        finally:
            self.in_flight.fetch_sub(1)

    cdef list _result(self, Call call):
        # By the call's own coalescer: the session may have been closed in the meantime.
        return self._answer(call.coalescer.get(), call.request, call.request.get().status)

    # --- the general way ----------------------------------------------------------------------------

    cdef list _run_general(self, CSession* session, dict inputs, names, Times* times,
                           int keep=-1, const int64_t* key=NULL, size_t key_length=0):
        """Run on fresh values; `names` None means all outputs. With `key`, keep an Instance after."""
        cdef CostModel* cost = self.session.get().cost().get()
        cdef vector[OrtValue*] values
        cdef vector[OrtValue*] results
        cdef vector[const char*] c_inputs
        cdef vector[const char*] c_outputs
        cdef vector[string] name_bytes
        cdef size_t i
        cdef size_t total_bytes = 0
        cdef size_t bucket
        cdef int64_t expected, started, elapsed
        cdef Status status
        cdef InterruptCheck interrupt = NULL
        cdef void* context = NULL
        cdef list kept = []
        cdef list result
        cdef OrtValue* value
        names = self.output_names if names is None else names
        self._check_names(inputs)
        try:
            for name, given in inputs.items():
                position = self.input_position.get(name)
                if position is not None:
                    if given is None and isinstance(self.inputs[position], OptionalSpec):
                        continue    # what is not fed is absent
                    if self.coerce is not None:
                        given = self.coerce(self.inputs[position], given)
                    value = self._to_value(session.inputs()[<size_t>position], given, name, kept,
                                           &total_bytes)
                else:
                    position = self.overridable_position[name]
                    value = self._to_value(session.overridable()[<size_t>position], given, name,
                                           kept, &total_bytes)
                values.push_back(value)
                name_bytes.push_back(name.encode())
            for i in range(values.size()):
                c_inputs.push_back(name_bytes[i].c_str())
            for name in names:
                c_outputs.push_back(self.output_name_bytes[<size_t>self.output_position[name]].c_str())
            results.resize(c_outputs.size())
            bucket = CostModel.bucket(total_bytes)
            expected = cost.measured_ns(bucket)
            if self._keeps_gil(expected, keep):
                started = now_ns()
                status = session.run(c_inputs.data(), <const OrtValue**>values.data(), values.size(),
                                     c_outputs.data(), c_outputs.size(), results.data(), NULL, NULL)
                elapsed = now_ns() - started
            else:
                if expected == 0 or expected > INTERRUPTIBLE_NS:
                    question = gives_up.get()
                    interrupt = _check_for(question)
                    context = _context_of(question)
                with nogil:
                    started = now_ns()
                    status = session.run(c_inputs.data(), <const OrtValue**>values.data(),
                                         values.size(), c_outputs.data(), c_outputs.size(),
                                         results.data(), interrupt, context)
                    elapsed = now_ns() - started
            if not status.ok():
                self._raise(status)
            cost.record(bucket, elapsed)
            self._count_run(times, started, elapsed)
            if key != NULL:
                session.learn(key, key_length, results.data())
            result = []
            for i in range(results.size()):
                result.append(self._to_python(results[i]))
            return result
        finally:
            for i in range(values.size()):
                self.library.api().ReleaseValue(values[i])
            for i in range(results.size()):
                if results[i] != NULL:
                    self.library.api().ReleaseValue(results[i])

    cdef _check_names(self, dict inputs):
        missing = [
            spec.name for spec in self.inputs
            if spec.name not in inputs and not isinstance(spec, OptionalSpec)
        ]
        extra = [
            name for name in inputs
            if name not in self.input_position and name not in self.overridable_position
        ]
        if missing or extra:
            given = ", ".join(f"`{name}`" for name in inputs) or "nothing"
            raise InputError.mismatch(
                expected="inputs " + ", ".join(f"`{name}`" for name in self.input_names),
                given=given, model=self.name, field=(missing or extra)[0],
            )

    cdef OrtValue* _to_value(self, const ValueInfo& info, given, str name, list keep,
                             size_t* total_bytes) except NULL:
        cdef int kind = <int>info.kind
        if kind == KIND_TENSOR:
            return self._to_tensor(info, given, name, keep, total_bytes)
        if kind == KIND_OPTIONAL:
            return self._to_value(info.children[0], given, name, keep, total_bytes)
        if kind == KIND_SEQUENCE:
            if not isinstance(given, (list, tuple)):
                raise InputError.mismatch(expected="a list", given=_describe(given),
                                          model=self.name, field=name)
            if len(given) == 0:
                return self._empty(info, name, keep)
            return self._to_composite(
                info.children[0], info.children[0], list(given), KIND_SEQUENCE, name, keep,
                total_bytes)
        if kind == KIND_MAP:
            return self._to_map(info, given, name, keep, total_bytes)
        raise InputError.mismatch(expected="a tensor, sequence, map or optional",
                                  given=f"an input of ONNX kind {kind}",
                                  model=self.name, field=name)

    cdef OrtValue* _to_composite(self, const ValueInfo& first, const ValueInfo& rest, list items,
                                 int kind, str name, list keep, size_t* total_bytes) except NULL:
        cdef vector[OrtValue*] parts
        cdef OrtValue* value = NULL
        cdef Status status
        cdef size_t i
        try:
            for i in range(<size_t>len(items)):
                if i == 0:
                    parts.push_back(self._to_value(first, items[i], name, keep, total_bytes))
                else:
                    parts.push_back(self._to_value(rest, items[i], name, keep, total_bytes))
            status = self.library.check(self.library.api().CreateValue(
                <const OrtValue**>parts.data(), parts.size(), kind, &value))
        finally:
            for i in range(parts.size()):
                self.library.api().ReleaseValue(parts[i])
        if not status.ok():
            self._raise(status)
        return value

    cdef OrtValue* _to_map(self, const ValueInfo& info, given, str name, list keep,
                           size_t* total_bytes) except NULL:
        cdef ValueInfo keys
        if not isinstance(given, dict):
            raise InputError.mismatch(expected="a dict", given=_describe(given),
                                      model=self.name, field=name)
        keys.kind = info.children[0].kind
        keys.element = info.element
        keys.has_shape = False
        key_dtype = _dtype_of(<int>info.element)
        value_dtype = _dtype_of(<int>info.children[0].element)
        try:
            parts = [_column(list(given.keys()), key_dtype),
                     _column(list(given.values()), value_dtype)]
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError.mismatch(
                expected=str(_spec(info)), given=_describe(given),
                model=self.name, field=name) from error
        cdef ValueInfo values
        values.kind = info.children[0].kind
        values.element = info.children[0].element
        values.has_shape = False
        return self._to_composite(keys, values, parts, KIND_MAP, name, keep, total_bytes)

    cdef OrtValue* _to_tensor(self, const ValueInfo& info, given, str name, list keep,
                              size_t* total_bytes) except NULL:
        cdef int element = <int>info.element
        cdef cnp.ndarray array
        cdef OrtValue* value = NULL
        cdef Status status
        cdef vector[int64_t] dims
        cdef size_t i
        cdef size_t size_bytes
        cdef Py_ssize_t index
        array = self._checked_array(info, given, name)
        for i in range(<size_t>cnp.PyArray_NDIM(array)):
            dims.push_back(cnp.PyArray_DIM(array, <int>i))
        total_bytes[0] += cnp.PyArray_NBYTES(array)
        if element == ELEMENT_STRING:
            status = self.library.check(self.library.api().CreateTensorAsOrtValue(
                self.library.allocator(), dims.data(), dims.size(), element, &value))
            if not status.ok():
                self._raise(status)
            try:
                index = self.input_position.get(name, len(self.input_names))
                self._fill_strings(value, array, index)
            except BaseException:
                self.library.api().ReleaseValue(value)
                raise
            return value
        if _packed_bits(element):
            array = _pack(array, _packed_bits(element))
        keep.append(array)
        size_bytes = cnp.PyArray_NBYTES(array)
        status = self.library.check(self.library.api().CreateTensorWithDataAsOrtValue(
            self.library.cpu_memory(), cnp.PyArray_DATA(array), size_bytes, dims.data(),
            dims.size(), element, &value))
        if not status.ok():
            self._raise(status)
        return value

    cdef cnp.ndarray _checked_array(self, const ValueInfo& info, given, str name):
        """An array of the value's dtype and shape, in C order."""
        cdef cnp.ndarray array
        cdef size_t i
        spec = _spec(info)
        expected = f"{spec.dtype} {_shape_text(spec.shape)}"
        if not isinstance(given, np.ndarray):
            raise InputError.mismatch(expected=expected, given=_describe(given), model=self.name,
                                      field=name)
        array = self._layout(given, <int>info.element, expected, name)
        if info.has_shape:
            fits = cnp.PyArray_NDIM(array) == <int>info.dims.size()
            if fits:
                for i in range(info.dims.size()):
                    if info.dims[i] >= 0 and info.dims[i] != cnp.PyArray_DIM(array, <int>i):
                        fits = False
            if not fits:
                raise InputError.mismatch(expected=expected, given=_describe(given),
                                          model=self.name, field=name)
        return array

    cdef cnp.ndarray _layout(self, given, int element, str expected, str name):
        """The array in C order and native byte order; its dtype must already be right."""
        dtype = given.dtype
        if element == ELEMENT_STRING:
            if dtype.kind in "UT":
                given = given.astype(object)
            elif dtype.kind != "O":
                raise InputError.mismatch(expected=expected, given=_describe(given),
                                          model=self.name, field=name)
        elif dtype.newbyteorder("=") != _dtype_of(element):
            raise InputError.mismatch(expected=expected, given=_describe(given), model=self.name,
                                      field=name)
        elif not dtype.isnative:
            given = given.astype(dtype.newbyteorder("="))
        if not (given.flags.c_contiguous and given.flags.aligned):
            given = given.copy(order="C")      # (np.ascontiguousarray would make 0-d arrays 1-d)
        return given

    cdef const char* _utf8(self, PyObject** items, Py_ssize_t i, Py_ssize_t* length,
                           Py_ssize_t position) except NULL:
        """The text of one element of input `position`; borrowed from it."""
        cdef const char* text = NULL
        if items[i] == NULL or not PyUnicode_Check(<object>items[i]):
            self._raise_string(position, i, None if items[i] == NULL else <object>items[i], None)
        try:
            text = PyUnicode_AsUTF8AndSize(<object>items[i], length)
        except UnicodeEncodeError as error:
            self._raise_string(position, i, <object>items[i], error)
        return text

    cdef int _fill_strings(self, OrtValue* value, cnp.ndarray array, Py_ssize_t position) except -1:
        cdef Py_ssize_t n = cnp.PyArray_SIZE(array)
        cdef PyObject** items = <PyObject**>cnp.PyArray_DATA(array)
        cdef Py_ssize_t i, length
        cdef const char* text
        cdef char* target = NULL
        cdef Status status
        for i in range(n):
            text = self._utf8(items, i, &length, position)
            status = self.library.check(self.library.api().GetResizedStringTensorElementBuffer(
                value, i, length, &target))
            if not status.ok():
                self._raise(status)
            if length > 0:
                memcpy(target, text, length)
        return 0

    cdef _raise_string(self, Py_ssize_t position, Py_ssize_t index, item, error):
        name = self.input_names[position] if position < len(self.input_names) else None
        if error is None:
            raise InputError.mismatch(
                expected="str", given=f"{type(item).__name__} {_short(item)} at flat index {index}",
                model=self.name, field=name)
        raise InputError.mismatch(
            expected="text that UTF-8 can encode",
            given=f"{_short(item)} at flat index {index} (lone surrogate)",
            model=self.name, field=name) from error

    cdef OrtValue* _empty(self, const ValueInfo& info, str name, list keep) except NULL:
        """An empty sequence, which the C API cannot make; a model of one node can."""
        cdef Session maker = _empty_maker(_spec(info), name, self.name)
        cdef OrtValue* value = NULL
        cdef const char* output = b"value"
        cdef Status status
        keep.append(maker)
        status = maker.session.get().run(NULL, NULL, 0, &output, 1, &value, NULL, NULL)
        if not status.ok():
            self._raise(status)
        return value

    # --- values to Python ---------------------------------------------------------------------------

    cdef object _to_python(self, OrtValue* value):
        cdef int kind = 0
        cdef int has_value = 1
        cdef size_t n = 0
        cdef size_t i
        cdef OrtValue* part
        cdef list parts
        if value == NULL:
            return None
        self._check(self.library.check(self.library.api().HasValue(value, &has_value)))
        if not has_value:
            return None
        self._check(self.library.check(self.library.api().GetValueType(value, &kind)))
        if kind == KIND_TENSOR:
            return self._tensor_to_python(value)
        if kind != KIND_SEQUENCE and kind != KIND_MAP:
            raise SessionError(
                f"Model `{self.name}` gave a value of ONNX kind {kind}, which has no Python form; "
                "give it a dense tensor, sequence or map as output", model=self.name)
        if kind == KIND_MAP:
            n = 2
        else:
            self._check(self.library.check(self.library.api().GetValueCount(value, &n)))
        parts = []
        for i in range(n):
            part = NULL
            self._check(self.library.check(self.library.api().GetValue(
                value, <int>i, self.library.allocator(), &part)))
            try:
                parts.append(self._to_python(part))
            finally:
                self.library.api().ReleaseValue(part)
        if kind == KIND_MAP:
            return dict(zip(parts[0].tolist(), parts[1].tolist()))
        return parts

    cdef object _tensor_to_python(self, OrtValue* value):
        cdef ElementType element
        cdef vector[int64_t] dims
        cdef void* data = NULL
        cdef size_t n = 1
        cdef size_t i
        self._check(self.session.get().describe(value, &element, &dims))
        for i in range(dims.size()):
            n *= <size_t>dims[i]
        if <int>element == ELEMENT_STRING:
            return self._strings_to_python(value, dims, n)
        self._check(self.library.check(self.library.api().GetTensorMutableData(value, &data)))
        if _packed_bits(<int>element):
            return _unpack(<const uint8_t*>data, dims, n, <int>element)
        if element_size(element) == 0:
            raise SessionError(
                f"Model `{self.name}` gave a tensor of ONNX element type {<int>element}, which has "
                "no numpy form", model=self.name)
        return _copy_out(dims, (<cnp.dtype>_dtype_of(<int>element)).type_num, data,
                         n * element_size(element))

    cdef object _strings_to_python(self, OrtValue* value, const vector[int64_t]& dims, size_t n):
        cdef size_t total = 0
        cdef size_t i, end
        cdef vector[char] content
        cdef vector[size_t] offsets
        cdef list items = []
        self._check(self.library.check(self.library.api().GetStringTensorDataLength(value, &total)))
        content.resize(total + 1)
        offsets.resize(n + 1)
        self._check(self.library.check(self.library.api().GetStringTensorContent(
            value, content.data(), total, offsets.data(), n)))
        offsets[n] = total
        for i in range(n):
            end = offsets[i + 1]
            items.append(PyUnicode_DecodeUTF8(
                content.data() + offsets[i], <Py_ssize_t>(end - offsets[i]), b"replace"))
        array = np.empty(n, dtype=object)
        array[:] = items
        return array.reshape([dims[i] for i in range(dims.size())])

    # --- errors -------------------------------------------------------------------------------------

    cdef int _check(self, Status status) except -1:
        if not status.ok():
            self._raise(status)
        return 0

    cdef int _raise(self, const Status& status) except -1:
        cdef StatusCode code = (<Status*>&status).code()
        if PyErr_Occurred() != NULL:
            return -1           # a signal handler raised while the run was stopped
        message = _text((<Status*>&status).message())
        ort_code = (<Status*>&status).ort_code()
        if code == StatusCode.kOutOfMemory:
            raise MemoryError()
        if code == StatusCode.kInterrupted:
            raise AbandonedError(f"Nobody waits any more for the answer of model `{self.name}`; the call "
                                 "was given up", model=self.name)
        if code == StatusCode.kClosed:
            self._raise_closed()
        if code == StatusCode.kDeadline:
            raise DeadlineError(f"Model `{self.name}` did not answer in time: {message}",
                                model=self.name)
        if code == StatusCode.kInvalidArgument:
            raise InputError(f"ONNX Runtime refused the inputs of model `{self.name}`: {message}",
                             model=self.name)
        raise SessionError(f"ONNX Runtime failed in model `{self.name}`: {message}",
                           model=self.name, code=ort_code)


cdef extern from *:
    """
    #include <chrono>
    #include <thread>
    static inline void infersdk_sleep_a_little() {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    """
    void _sleep_a_little "infersdk_sleep_a_little"() noexcept nogil


cdef void _free_capsule(object capsule) noexcept:
    free(PyCapsule_GetPointer(capsule, NULL))


cdef int64_t _deadline_after(double seconds, str name) except -1:
    """Seconds from now on now_ns()'s clock."""
    if seconds != seconds:
        raise ValueError("timeout_s must be a number of seconds, got nan")
    if seconds <= 0:
        raise DeadlineError(f"Model `{name}` was given {seconds:g} s, in which nothing can be done; "
                            "give a timeout_s above 0", timeout_s=seconds, model=name)
    if seconds > 1e9:
        return 0
    return now_ns() + <int64_t>(seconds * 1e9)


def clock_ns():
    """Nanoseconds on the clock of deadlines and measurements."""
    return now_ns()


def hold_clock():
    """Let that clock stand still, for the tests of an app.

    Raises
    ------
    RuntimeError
        It is held already.
    """
    if clock_is_held():
        raise RuntimeError("the clock is held already; only one test at a time can hold it")
    c_hold_clock()


def advance_clock(int64_t ns):
    """Add to the clock while it is held; what waits for a moment that is passed by it wakes up.

    Raises
    ------
    RuntimeError
        It is not held.
    ValueError
        The nanoseconds are negative.
    """
    if not clock_is_held():
        raise RuntimeError("the clock runs by itself; hold it first")
    if ns < 0:
        raise ValueError(f"expected 0 nanoseconds or more, got {ns}")
    c_advance_clock(ns)


def release_clock():
    """Let the clock run again, from where it is."""
    c_release_clock()


cdef dict _stats(const CoalescerStats& stats, size_t healthy):
    return {
        "inline_runs": stats.inline_runs,
        "batches": stats.batches,
        "batched_rows": stats.batched_rows,
        "largest_batch": stats.largest_batch,
        "refused": stats.refused,
        "expired": stats.expired,
        "cancelled": stats.cancelled,
        "failed": stats.failed,
        "replicas_out": stats.replicas_out,
        "replicas_in": healthy,
        "queued_rows": stats.queued_rows,
        "running": stats.running,
    }


cdef cnp.ndarray _copy_out(const vector[int64_t]& dims, int typenum, const void* data,
                           size_t size_bytes):
    cdef cnp.npy_intp shape[32]
    cdef size_t i
    cdef cnp.ndarray array
    for i in range(dims.size()):
        shape[i] = dims[i]
    array = cnp.PyArray_SimpleNew(<int>dims.size(), shape, typenum)
    if size_bytes > 0:      # an empty output may have no data at all
        memcpy(cnp.PyArray_DATA(array), data, size_bytes)
    return array


cdef int _pause() except -1:
    """Let what is under way go on for a moment; raises what a signal handler raised."""
    if _cooperates():
        _cooperative.pause()
    else:
        with nogil:
            _sleep_a_little()
    if PyErr_CheckSignals():
        _reraise()
    return 0


cdef int _reraise() except -1:
    # A signal handler has already set the exception.
    return -1


# Who waits instead of the thread, where threads are greenlets; see set_cooperative_wait().
cdef object _cooperative = None
cdef dict _modules = sys.modules


def set_cooperative_wait(waiter):
    """Give an object that waits without blocking the thread, in processes that have gevent imported.

    Parameters
    ----------
    waiter : object
        ``active() -> bool``, ``completions() -> Completions``, ``pause()`` for a moment, and
        ``wait(call, timeout_s: float) -> bool``: False if the time was up first, 0 meaning no limit.
    """
    global _cooperative
    _cooperative = waiter


cdef bint _cooperates() except -1:
    if PyDict_GetItem(_modules, "gevent") == NULL or _cooperative is None:
        return False
    return _cooperative.active()


cdef bint _in_main_thread():
    return threading.current_thread() is threading.main_thread()


cdef Py_ssize_t _first_axis(dict inputs):
    """The rows of values that may be anything: as the first array has them, 1 without any."""
    for value in inputs.values():
        if type(value) is cnp.ndarray and cnp.PyArray_NDIM(value) > 0:
            return cnp.PyArray_DIM(value, 0)
    return 1


cdef str _shape_text(shape):
    if shape is None:
        return "of any shape"
    inner = ", ".join("?" if dim is None else str(dim) for dim in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"


cdef str _short(value):
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


cdef str _describe(value):
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {_shape_text(value.shape)}"
    return f"{type(value).__name__} {_short(value)}"


cdef object _column(list items, dtype):
    if dtype != object and items and not np.can_cast(np.array(items).dtype, dtype, "same_kind"):
        raise TypeError
    column = np.array(items, dtype=dtype)
    if column.ndim != 1:
        raise TypeError
    return column


cdef cnp.ndarray _pack(cnp.ndarray array, int bits):
    """Several values to a byte, the first in its lowest bits, as ONNX lays them out."""
    cdef int per_byte = 8 // bits
    # ml_dtypes keeps each value in the lowest bits of a byte of its own.
    flat = array.reshape(-1).view(np.uint8) & <uint8_t>((1 << bits) - 1)
    flat = np.append(flat, np.zeros(-flat.size % per_byte, np.uint8)).reshape(-1, per_byte)
    shifts = np.arange(per_byte, dtype=np.uint8) * np.uint8(bits)
    return np.bitwise_or.reduce(flat << shifts, axis=1)


cdef object _unpack(const uint8_t* data, const vector[int64_t]& dims, size_t n, int element):
    cdef size_t i
    cdef int bits = _packed_bits(element)
    cdef int per_byte = 8 // bits
    cdef int mask = (1 << bits) - 1
    cdef cnp.npy_intp length = <cnp.npy_intp>n
    cdef cnp.ndarray flat = cnp.PyArray_EMPTY(1, &length, cnp.NPY_UINT8, 0)
    cdef uint8_t* out = <uint8_t*>cnp.PyArray_DATA(flat)
    for i in range(n):
        out[i] = <uint8_t>((data[i // per_byte] >> (bits * <int>(i % per_byte))) & mask)
    shape = [dims[i] for i in range(dims.size())]
    return flat.view(_dtype_of(element)).reshape(shape)


_sessions = weakref.WeakSet()
_function_queues = weakref.WeakSet()


cdef bint _ending = False


def _stop_all():
    # Batcher threads must not be inside ONNX Runtime, or waiting for the GIL, when the process ends.
    # Who waits for their runs by now are daemon threads, if anybody: a run without end is not waited for.
    global _ending
    cdef Session session
    cdef vector[shared_ptr[CSession]] replicas
    cdef size_t i
    cdef FunctionQueue queue
    cdef shared_ptr[Coalescer] coalescer
    _ending = True
    for session in list(_sessions):
        coalescer = session.coalescer
        replicas = session.replicas
        with nogil:
            if coalescer.get() != NULL:
                for i in range(replicas.size()):
                    replicas[i].get().end_queued_runs()
                coalescer.get().stop()
    for queue in list(_function_queues):
        with nogil:
            if queue.coalescer.get() != NULL:
                queue.coalescer.get().stop()


atexit.register(_stop_all)


def _forget_the_parents_runs():
    # They never end in the child of a fork, where close() would wait for them.
    cdef Session session
    cdef FunctionQueue queue
    for session in list(_sessions):
        session.in_flight.store(0)
    for queue in list(_function_queues):
        queue.in_flight.store(0)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents_runs)


_empty_makers = {}


def _empty_maker(spec, name, model_name):
    """The Session of a one-node model that gives an empty sequence of the spec's elements."""
    if not isinstance(spec.element, TensorSpec):
        raise InputError.mismatch(expected=f"a {spec} with something in it", given="an empty one",
                                  model=model_name, field=name)
    dtype = spec.element.dtype
    maker = _empty_makers.get(dtype)
    if maker is None:
        from onnx import TensorProto, helper

        if dtype == "string":
            element = TensorProto.STRING
        else:
            element = helper.np_dtype_to_tensor_dtype(_dtype_of(_NAMES.index(dtype)))
        kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(element, None))
        node = helper.make_node("SequenceEmpty", [], ["value"], dtype=element)
        graph = helper.make_graph([node], "empty", [], [helper.make_value_info("value", kind)])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
        maker = _empty_makers.setdefault(dtype, Session(model.SerializeToString(), name="empty"))
    return maker


include "calls.pxi"
include "meter.pxi"
