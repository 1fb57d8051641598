# Part of session.pyx: what calls and runs leave behind in numbers, and the calls that do so.
#
# Runs are counted where they happen. A call is counted where it ends, once: by the function that stands
# for a method, or, where Python leads it (a task of asyncio, a model without a graph), by its MeteredCall.

cdef extern from *:
    """
    // Numbers that are only written under the interpreter's lock need no atomic addition.
    #ifdef Py_GIL_DISABLED
    #define INFERSDK_UNDER_GIL infersdk::Writers::kMany
    #else
    #define INFERSDK_UNDER_GIL infersdk::Writers::kOne
    #endif
    """
    Writers UNDER_GIL "INFERSDK_UNDER_GIL"

cdef Py_ssize_t AWAITED_ROWS = 256      # awaited calls of more are bound in a thread too

_logger = logging.getLogger("infersdk")
cdef object _observer = None
cdef bint _observer_has_failed = False


def set_call_observer(observer):
    """Have a function called after every metered call of this process.

    It is called in the thread of the caller, or in the task of the event loop, before the answer is given:
    what it does is added to the time of the call. What it raises is logged once, and does no harm.

    Parameters
    ----------
    observer : callable or None
        ``observer(model: str, method: str, times: CallTimes)``. None, as at first, calls nothing.
    """
    global _observer, _observer_has_failed
    if observer is not None and not callable(observer):
        raise TypeError(f"Expected a function or None, got {type(observer).__name__}")
    _observer_has_failed = False
    _observer = observer


def set_metering(bint on):
    """Switch all counting in this process off and on again: to measure what it costs, and for nothing else."""
    c_set_metering(on)


def time_bounds_s():
    """The bounds of all histograms of seconds: float64."""
    return np.array([TimeHistogram.bound(i) for i in range(TIME_BOUNDS)], np.float64) * 1e-9


def row_bounds():
    """The bounds of all histograms of rows: float64."""
    return np.array([RowHistogram.bound(i) for i in range(ROW_BOUNDS)], np.float64)


@cython.final
cdef class CallTimes:
    """When what happened in one call: nanoseconds on the clock of :func:`clock_ns`; 0 for what there was not.

    Attributes
    ----------
    started_ns, ended_ns : int
        The whole call.
    queued_ns : int
        When it was put into the queue; 0 for a call that ran at once.
    batch_started_ns, batch_ended_ns : int
        From where its first row was taken from the queue to where its last run had been cut into answers.
    run_started_ns, run_ended_ns : int
        The run of the model; the first and the last of several.
    n_rows : int
        Of the call; 0 where they were refused.
    run_rows : int
        Of the run, those of other calls with it.
    error : str or None
        The class of the error that it ended with.
    """

    cdef readonly int64_t started_ns
    cdef readonly int64_t queued_ns
    cdef readonly int64_t batch_started_ns
    cdef readonly int64_t run_started_ns
    cdef readonly int64_t run_ended_ns
    cdef readonly int64_t batch_ended_ns
    cdef readonly int64_t ended_ns
    cdef readonly int64_t n_rows
    cdef readonly int64_t run_rows
    cdef readonly object error

    def __repr__(self):
        return (f"CallTimes({(self.ended_ns - self.started_ns) * 1e-9:.6f} s, {self.n_rows} rows, "
                f"error={self.error!r})")


cdef int _take_times(Times* times, Request* request, bint finished) noexcept:
    """What a request knows of its way; most of it belongs to others while it is not finished."""
    times.queued_ns = request.submitted_ns
    if finished:
        times.batch_started_ns = request.taken_ns
        times.batch_ended_ns = request.batch_ended_ns
        times.run_started_ns = request.run_started_ns
        times.run_ended_ns = request.run_ended_ns
        times.run_rows = request.run_rows
    return 0


cdef tuple _read_times(const TimeHistogram& one, const TimeHistogram* two):
    """Counts as int64, and the sum in seconds."""
    counts = np.zeros(TIME_BOUNDS + 1, np.int64)
    cdef int64_t* data = <int64_t*>cnp.PyArray_DATA(counts)
    cdef uint64_t total = (<TimeHistogram*>&one).read(data)
    if two != NULL:
        total += (<TimeHistogram*>two).read(data)
    return counts, total * 1e-9


@cython.final
cdef class ModelMeter:
    """What the runs of one model leave behind. Sessions and queues of it are made with it.

    Parameters
    ----------
    model : str
        Its name.
    """

    cdef readonly str model
    cdef shared_ptr[RunMeter] runs

    def __cinit__(self, str model not None):
        self.model = model
        self.runs = make_shared[RunMeter]()

    def __repr__(self):
        return f"<infersdk ModelMeter `{self.model}`>"

    def read(self):
        """Copy the counts of this process.

        Returns
        -------
        dict of str to (ndarray of int64, float)
            ``queue_s``, ``batch_s``, ``run_s`` (bounds: :func:`time_bounds_s`) and ``run_rows``
            (:func:`row_bounds`): the counts of each bucket and the sum of all values.
        """
        cdef RunBlock* block = &self.runs.get().current()
        rows = np.zeros(ROW_BOUNDS + 1, np.int64)
        cdef int64_t* data = <int64_t*>cnp.PyArray_DATA(rows)
        cdef uint64_t total = block.run_rows[0].read(data)
        total += block.run_rows[1].read(data)
        return {
            "queue_s": _read_times(block.queue, NULL),
            "batch_s": _read_times(block.batch, NULL),
            "run_s": _read_times(block.run[0], &block.run[1]),
            "run_rows": (rows, float(total)),
        }


@cython.final
cdef class MethodMeter:
    """What the calls of one method leave behind.

    Parameters
    ----------
    model : ModelMeter
        Of the method's model.
    method : str
        Its name.
    """

    cdef readonly str model
    cdef readonly str method
    cdef shared_ptr[RunMeter] runs
    cdef CallMeter calls

    def __cinit__(self, ModelMeter model not None, str method not None):
        self.model = model.model
        self.method = method
        self.runs = model.runs

    def __repr__(self):
        return f"<infersdk MethodMeter `{self.model}`.{self.method}>"

    def begin(self):
        """A call that begins now."""
        cdef MeteredCall call = MeteredCall.__new__(MeteredCall)
        if is_metering():
            call.meter = self
            call.is_open = True
            call.times.started_ns = now_ns()
        return call

    def read(self):
        """Copy the counts of this process.

        Returns
        -------
        tuple of (int, dict of str to int, ndarray of int64, float)
            Rows of answered calls, errors by class, counts of seconds from call to answer, and their sum.
        """
        errors = {}
        cdef CallBlock* block = &self.calls.current()
        cdef vector[FailureCount] failures = read_failures(block[0])
        cdef size_t i
        for i in range(failures.size()):
            name = _text(failures[i].name)
            errors[name] = errors.get(name, 0) + failures[i].count
        counts, sum_s = _read_times(block.call, NULL)
        return block.rows.load(), errors, counts, sum_s

    cdef int answered(self, Times* times) except -1:
        times.ended_ns = now_ns()
        self.calls.answered(times.ended_ns - times.started_ns, times.n_rows, UNDER_GIL)
        if _observer is not None:
            self._tell(times, None)
        return 0

    cdef int failed(self, Times* times, error) except -1:
        cdef bytes name = type(error).__name__.encode("utf-8", "replace")
        times.ended_ns = now_ns()
        self.calls.failed(PyBytes_AS_STRING(name))
        if _observer is not None:
            self._tell(times, type(error).__name__)
        return 0

    cdef int _tell(self, Times* times, error) except -1:
        global _observer_has_failed
        cdef CallTimes told = CallTimes.__new__(CallTimes)
        told.started_ns = times.started_ns
        told.queued_ns = times.queued_ns
        told.batch_started_ns = times.batch_started_ns
        told.run_started_ns = times.run_started_ns
        told.run_ended_ns = times.run_ended_ns
        told.batch_ended_ns = times.batch_ended_ns
        told.ended_ns = times.ended_ns
        told.n_rows = times.n_rows
        told.run_rows = times.run_rows
        told.error = error
        observer = _observer
        try:
            observer(self.model, self.method, told)
        except Exception:
            if not _observer_has_failed:
                _observer_has_failed = True
                _logger.exception("The observer of calls failed; it will not be logged again")
        return 0


@cython.final
@cython.freelist(16)
cdef class MeteredCall:
    """One call that Python leads: it ends with :meth:`answered` or :meth:`failed`, and counts once.

    Attributes
    ----------
    bound : Bound or None
        The rows of a call that :meth:`MeteredMethod.short` has only bound.
    in_thread : bool
        It is to be answered in a thread, from the binding on.
    n_rows : int
    """

    cdef MethodMeter meter      # None: nothing is counted
    cdef bint is_open           # it has not been counted yet
    cdef Times times
    cdef Call queued
    cdef readonly Bound bound
    cdef readonly bint in_thread

    @property
    def n_rows(self):
        return self.times.n_rows

    @n_rows.setter
    def n_rows(self, Py_ssize_t n_rows):
        self.times.n_rows = n_rows

    def waits_for(self, Call call not None):
        """It was put into a queue."""
        self.queued = call

    def run(self, function, method, rows, Py_ssize_t n_rows):
        """``function(method, rows)``, which is a run of the model."""
        cdef int64_t started = now_ns()
        cdef int64_t ended
        answer = function(method, rows)
        ended = now_ns()
        self.times.run_started_ns = started
        self.times.run_ended_ns = ended
        self.times.run_rows = n_rows
        if self.meter is not None:
            self.meter.runs.get().ran(ended - started, n_rows, UNDER_GIL)
        return answer

    def part(self):
        """What a thread writes to that this call may not wait for; see :meth:`take`."""
        cdef MeteredCall part = MeteredCall.__new__(MeteredCall)
        part.meter = self.meter
        return part

    def take(self, MeteredCall part not None):
        """A part that has come to its end: its times are this call's."""
        cdef int64_t started = self.times.started_ns
        self.times = part.times
        self.times.started_ns = started

    def answered(self):
        """It has its answer."""
        if self.is_open:
            self.is_open = False
            self._look_into_queue()
            self.meter.answered(&self.times)

    def failed(self, error):
        """It ended with an error."""
        if self.is_open:
            self.is_open = False
            self._look_into_queue()
            self.meter.failed(&self.times, error)

    cdef int _look_into_queue(self) except -1:
        cdef Request* request
        cdef Call call = self.queued
        cdef Times known = self.times
        if call is None:
            return 0
        self.queued = None
        request = call.request.get()
        _take_times(&self.times, request, request.finished())
        if known.run_ended_ns != 0:     # by the run itself, which knows better than its queue
            self.times.run_started_ns = known.run_started_ns
            self.times.run_ended_ns = known.run_ended_ns
            self.times.run_rows = known.run_rows
        return 0


@cython.final
cdef class MeteredMethod:
    """One method of a model with a graph: rows to an answer, in one crossing.

    Parameters
    ----------
    meter : MethodMeter
    head : object
        Its ``session`` is the Session of the method's outputs; opened by the first call if it is not yet.
    fast, general : callable
        The binder's: ``fast(rows)`` may give None, ``general(rows)`` gives a Bound or raises.
    answer, answer_tensors : callable
        ``answer(outputs, n_rows)``; the other where rows came as torch tensors.
    positions : list of int, optional
        Of the method's outputs among the session's; None for all in order.
    slow : bool
        The general way runs parts of the source model, which is not for an event loop.
    """

    cdef MethodMeter meter
    cdef object head
    cdef Session opened
    cdef object fast
    cdef object general
    cdef object answer
    cdef object answer_tensors
    cdef list positions
    cdef bint slow

    def __init__(self, MethodMeter meter not None, head, *, fast, general, answer, answer_tensors,
                 list positions=None, bint slow=False):
        self.meter = meter
        self.head = head
        self.fast = fast
        self.general = general
        self.answer = answer
        self.answer_tensors = answer_tensors
        self.positions = positions
        self.slow = slow
        if head.is_open:
            self.opened = head.session

    cdef Session _session(self):
        if self.opened is None:
            self.opened = self.head.session
        return self.opened

    cdef Bound _bind(self, rows):
        bound = self.fast(rows)
        if bound is None:
            bound = self.general(rows)
        return bound

    cdef object _finish(self, list outputs, Bound bound):
        if self.positions is not None:
            outputs = [outputs[position] for position in self.positions]
        if bound.torch:
            return self.answer_tensors(outputs, bound.n_rows)
        return self.answer(outputs, bound.n_rows)

    cdef object _answer(self, rows, timeout_s, int priority, Times* times):
        cdef Bound bound = self._bind(rows)
        cdef Session session = self._session()
        cdef list outputs
        times.n_rows = bound.n_rows
        outputs = session._run_list(bound.arrays, session._deadline(timeout_s), priority, times)
        times.n_rows = bound.n_rows
        return self._finish(outputs, bound)

    def short(self, rows):
        """Answer at once what takes less than handing it over would.

        Returns
        -------
        object
            The answer; or a MeteredCall, which still has to be answered.

        Raises
        ------
        InputError, SessionError, ClosedError
            As the method itself; the call is counted then.
        """
        cdef Times times
        cdef Bound bound = None
        cdef list outputs
        cdef bint in_thread = False
        times.started_ns = now_ns()
        try:
            if row_count(rows) > AWAITED_ROWS:
                in_thread = True
            else:
                bound = self.fast(rows)
                if bound is None and not self.slow:
                    bound = self.general(rows)
            if bound is not None:
                times.n_rows = bound.n_rows
                outputs = self._session()._run_short(bound.arrays, &times)
                times.n_rows = bound.n_rows
                if outputs is not None:
                    answer = self._finish(outputs, bound)
                    if is_metering():
                        self.meter.answered(&times)
                    return answer
        except BaseException as error:
            if is_metering() and times.ended_ns == 0:
                self.meter.failed(&times, error)
            raise
        return self._pending(times, bound, in_thread)

    cdef MeteredCall _pending(self, Times times, Bound bound, bint in_thread):
        cdef MeteredCall call = MeteredCall.__new__(MeteredCall)
        if is_metering():
            call.meter = self.meter
            call.is_open = True
        call.times = times
        call.bound = bound
        call.in_thread = in_thread
        return call

    def answer_for(self, MeteredCall call not None, rows, timeout_s=None, int priority=0):
        """Answer, as the method does, for a call that ends elsewhere."""
        return self._answer(rows, timeout_s, priority, &call.times)

    def run_short(self, MeteredCall call not None, Bound bound not None):
        """As :meth:`Session.run_short`."""
        call.times.n_rows = bound.n_rows
        outputs = self._session()._run_short(bound.arrays, &call.times)
        call.times.n_rows = bound.n_rows
        return outputs

    def run(self, MeteredCall call not None, Bound bound not None, timeout_s=None, int priority=0):
        """As :meth:`Session.run_ordered`."""
        cdef Session session = self._session()
        outputs = session._run_list(bound.arrays, session._deadline(timeout_s), priority, &call.times)
        call.times.n_rows = bound.n_rows
        return outputs

    def finish(self, MeteredCall call not None, list outputs not None, Bound bound not None):
        """Outputs to the answer."""
        call.times.n_rows = bound.n_rows
        return self._finish(outputs, bound)


# Closures, not methods: they are called as fast as functions of C are, and take names and documentation.

def metered_method(MeteredMethod method not None):
    """The function of a method with a graph: ``call(rows, timeout_s=None, priority=0)``."""
    cdef MethodMeter meter = method.meter

    def call(rows, timeout_s=None, int priority=0):
        cdef Times times
        if not is_metering():
            return method._answer(rows, timeout_s, priority, &times)
        times.started_ns = now_ns()
        try:
            answer = method._answer(rows, timeout_s, priority, &times)
        except BaseException as error:
            meter.failed(&times, error)
            raise
        meter.answered(&times)
        return answer

    return call


def metered_run(MethodMeter meter not None, head):
    """The function of a graph: ``run(inputs, outputs=None, *, timeout_s=None, priority=0)``."""
    cdef Session opened = head.session if head.is_open else None

    def run(inputs, outputs=None, *, timeout_s=None, int priority=0):
        cdef Times times
        cdef Session session
        if not is_metering():
            session = opened if opened is not None else head.session
            return session._run_mapping(inputs, outputs, timeout_s, priority, &times)
        times.started_ns = now_ns()
        try:
            session = opened if opened is not None else head.session
            answer = session._run_mapping(inputs, outputs, timeout_s, priority, &times)
        except BaseException as error:
            meter.failed(&times, error)
            raise
        meter.answered(&times)
        return answer

    return run


def metered_function(MethodMeter meter not None, function):
    """The function of a method without a graph: ``call(rows, timeout_s=None, priority=0)``.

    Parameters
    ----------
    meter : MethodMeter
    function : callable
        ``function(call: MeteredCall, rows, timeout_s, priority)``.
    """
    def call(rows, timeout_s=None, priority=0):
        cdef MeteredCall metered = meter.begin()
        try:
            answer = function(metered, rows, timeout_s, priority)
        except BaseException as error:
            metered.failed(error)
            raise
        metered.answered()
        return answer

    return call


cpdef Py_ssize_t row_count(rows):
    """How many rows there seem to be; whether they are rows at all is for the binder to say."""
    if type(rows) is list:
        return len(<list>rows)
    if type(rows) is cnp.ndarray:
        return cnp.PyArray_DIM(rows, 0) if cnp.PyArray_NDIM(rows) > 0 else 1
    if isinstance(rows, Mapping):
        rows = next(iter(rows.values()), None)
    elif isinstance(rows, tuple) and rows and hasattr(rows[0], "shape"):
        rows = rows[0]
    shape = getattr(rows, "shape", None)
    if isinstance(shape, tuple):
        return int(shape[0]) if shape else 1
    return len(rows) if isinstance(rows, (list, tuple)) else 1
