# Part of session.pyx: calls that nobody blocks on, and Python functions behind the same queue.

cdef class Call:
    """A queued call of an event loop."""

    cdef object session                 # a Session or a FunctionQueue: who reads the answer
    cdef shared_ptr[Coalescer] coalescer
    cdef shared_ptr[Request] request
    cdef object item
    cdef readonly object waiter         # whatever the loop keeps for it
    cdef object __weakref__

    def attach(self, waiter):
        """Keep the loop's own object with the call."""
        self.waiter = waiter

    def cancel(self, bint expired=False):
        """Take the call out of the queue; False if it is running or finished already.

        A call that was taken out is finished too: Completions will give it back.
        """
        cdef cbool left
        cdef StatusCode code = StatusCode.kDeadline if expired else StatusCode.kCancelled
        with nogil:
            left = self.coalescer.get().cancel(self.request, code)
        return left

    def result(self):
        """The outputs, or the exception the call ended with.

        Raises
        ------
        InputError, DeadlineError, SessionError, ClosedError
            As the run itself.
        """
        cdef Session session
        cdef FunctionQueue queue
        if type(self.session) is Session:
            session = <Session>self.session
            return session._result(self)
        queue = <FunctionQueue>self.session
        return queue._result(self)


cdef class Completions:
    """Tells one event loop which of its calls are finished.

    Its file descriptor becomes readable when some are; :meth:`drain` then gives them. Not for use by
    several threads, except that calls may finish on any.

    Raises
    ------
    SessionError
        The process has no file descriptor left.
    """

    cdef shared_ptr[Notifier] notifier
    cdef dict calls
    cdef uint64_t last_ticket
    cdef object __weakref__

    def __init__(self):
        cdef Status status = Notifier.create(&self.notifier)
        if not status.ok():
            raise SessionError(_text(status.message()))
        self.calls = {}

    def __dealloc__(self):
        if self.notifier.get() != NULL:
            self.notifier.get().abandon()

    def __len__(self):
        return len(self.calls)

    def fileno(self):
        """The descriptor to watch for reading."""
        return self.notifier.get().fd()

    def drain(self):
        """The calls that have finished since the last time, each once."""
        cdef vector[shared_ptr[Request]] finished
        cdef size_t i
        cdef list result = []
        self.notifier.get().drain(&finished)
        for i in range(finished.size()):
            call = self.calls.pop(finished[i].get().ticket, None)
            if call is not None:
                result.append(call)
        return result

    cdef int add(self, Call call) except -1:
        self.last_ticket += 1
        call.request.get().ticket = self.last_ticket
        call.request.get().notifier = self.notifier
        self.calls[self.last_ticket] = call
        return 0

    cdef int forget(self, Call call) except -1:
        self.calls.pop(call.request.get().ticket, None)
        return 0


cdef extern from *:
    """
    #include "infersdk/coalescer.hpp"
    namespace infersdk {
    inline bool python_is_ending() {
    #if PY_VERSION_HEX >= 0x030d0000
      return Py_IsFinalizing() != 0;
    #else
      return _Py_IsFinalizing() != 0;
    #endif
    }
    // Runs pieces by a C function, which finds all that it needs in their requests.
    class CallbackBackend : public Backend {
     public:
      using Function = int (*)(const Piece* pieces, size_t n, std::string* message);
      explicit CallbackBackend(Function function) : function_(function) {}
      Status run(const Piece* pieces, size_t n) noexcept override {
        return guarded([&]() -> Status {
          std::string message;
          if (function_(pieces, n, &message) == 0) return Status();
          return Status(StatusCode::kRuntime, std::move(message));
        });
      }

     private:
      Function function_;
    };
    inline std::shared_ptr<Backend> make_callback_backend(CallbackBackend::Function function) {
      return std::make_shared<CallbackBackend>(function);
    }
    // Owns its item: a batcher may look at it after its caller and its event loop are gone.
    struct FunctionRequest : Request {
      explicit FunctionRequest(PyObject* item) {
        Py_INCREF(item);
        context = item;
      }
      // The coalescer ends requests outside its mutex, so that waiting for the GIL here is safe.
      ~FunctionRequest() {
        if (python_is_ending()) return;
        PyGILState_STATE state = PyGILState_Ensure();
        Py_DECREF(static_cast<PyObject*>(context));
        PyGILState_Release(state);
      }
    };
    inline RequestPtr make_function_request(PyObject* item) {
      return std::make_shared<FunctionRequest>(item);
    }
    // Keeps this thread's Python state until the thread ends. Otherwise each batch would make it anew,
    // and a function would lose what it keeps in a threading.local.
    class PythonThread {
     public:
      PythonThread() : state_(PyGILState_Ensure()), thread_(PyEval_SaveThread()) {}
      ~PythonThread() {
        if (python_is_ending()) return;
        PyEval_RestoreThread(thread_);
        PyGILState_Release(state_);
      }
      PythonThread(const PythonThread&) = delete;
      PythonThread& operator=(const PythonThread&) = delete;

     private:
      PyGILState_STATE state_;
      PyThreadState* thread_;
    };
    inline void keep_python_thread() {
      static thread_local PythonThread thread;
      (void)thread;
    }
    }  // namespace infersdk
    """
    shared_ptr[Backend] make_callback_backend "infersdk::make_callback_backend"(
        int (*)(const Piece*, size_t, string*) noexcept nogil) except +
    shared_ptr[Request] make_function_request "infersdk::make_function_request"(
        PyObject*) except +
    void keep_python_thread "infersdk::keep_python_thread"() noexcept nogil


cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident() noexcept


cdef class _Item:
    """One call's argument, and what became of it."""

    cdef FunctionQueue queue
    cdef object value
    cdef object result
    cdef object error
    cdef Py_ssize_t n_rows
    cdef int64_t run_started_ns     # of the run that answered it
    cdef int64_t run_ended_ns
    cdef int64_t run_rows


cdef int _run_function(const Piece* pieces, size_t n, string* message) noexcept nogil:
    keep_python_thread()
    with gil:
        return _run_function_with_gil(pieces, n, message)


cdef int _run_function_with_gil(const Piece* pieces, size_t n, string* message) noexcept:
    cdef list items = []
    cdef size_t i
    cdef _Item item = None
    cdef string name
    try:
        for i in range(n):
            item = <_Item>pieces[i].request.get().context
            items.append(item)
        item.queue._apply(items)
        for i in range(n):
            pieces[i].request.get().ran(item.run_started_ns, item.run_ended_ns, item.run_rows)
        return 0
    except BaseException as error:
        # The last to see a batch of one: this is the call's own error.
        if n == 1 and item is not None:
            item.error = error
        try:
            name = type(error).__name__.encode("utf-8", "replace")
            message.assign(name)
        except BaseException:
            pass
    return 1


cdef class FunctionQueue:
    """A Python function of a list behind a queue: concurrent calls share one call of it.

    Where the function fails it is called again with halves of the list, so that only the calls that fail
    by themselves fail. A call from inside the function, in its own thread, passes by the queue.

    Parameters
    ----------
    function : callable
        ``function(items: list) -> answers``, one for each item, in order: a list or anything else that
        has a length and is indexed by position. Rows of an ndarray are copied.
    name : str
        In messages.
    max_batch_size : int
        The most rows in one call.
    instances : int
        Calls of the function that may be under way at once.
    max_queue_size : int
        The most rows that may wait.
    timeout_s : float, optional
        How long a call may take that does not say so itself.
    merge : bool
        False calls the function for each value alone.
    many : bool
        Every value is a list of items, and its answer the list of theirs; the function gets the items
        of all lists as one.
    meter : ModelMeter, optional
        Counts how long values wait and what shared calls of the function take.
    meter_runs : bool
        Each call of the function is a run of the model, and is counted there too.

    Raises
    ------
    SessionError
        The queue could not be made.
    """

    cdef shared_ptr[Coalescer] coalescer
    cdef shared_ptr[CostModel] cost
    cdef object function
    cdef readonly str name
    cdef double default_timeout_s
    cdef bint many
    cdef shared_ptr[RunMeter] runs     # may be null
    cdef dict lanes
    cdef atomic[int] n_lanes
    cdef set inside                 # the threads that run the function
    cdef int n_forks
    cdef atomic[int] in_flight
    cdef atomic[int] closed
    cdef object __weakref__

    def __cinit__(self, *args, **kwargs):
        self.closed.store(1)

    def __init__(self, function, *, str name, Py_ssize_t max_batch_size=32, Py_ssize_t instances=1,
                 Py_ssize_t max_queue_size=4096, timeout_s=None, bint merge=True, bint many=False,
                 ModelMeter meter=None, bint meter_runs=True):
        cdef CoalescerConfig config
        cdef vector[Replica] backends
        cdef Replica replica
        cdef Status status
        self.function = function
        self.name = name
        self.default_timeout_s = timeout_s or 0
        self.many = many
        self.lanes = {}
        self.inside = set()
        self.cost = make_shared[CostModel]()
        config.merge = merge
        config.max_batch_size = max_batch_size
        config.split_size = 0
        config.max_queue_size = max_queue_size
        config.max_queue_bytes = <size_t>-1
        if meter is not None:
            config.meter = meter.runs
            if meter_runs:
                self.runs = meter.runs
        replica.backend = make_callback_backend(_run_function)
        replica.concurrency = instances
        backends.push_back(replica)
        status = Coalescer.create(config, backends, self.cost, &self.coalescer)
        if not status.ok():
            raise SessionError(_text(status.message()))
        _function_queues.add(self)
        self.closed.store(0)

    def __dealloc__(self):
        # Joins the batcher threads, which need the GIL to end.
        with nogil:
            if self.coalescer.get() != NULL:
                self.coalescer.get().stop()
            self.coalescer.reset()

    def __repr__(self):
        return f"<infersdk FunctionQueue `{self.name}`{' closed' if self.closed.load() else ''}>"

    def call(self, value, *, Py_ssize_t n_rows=1, lane=None, timeout_s=None, int priority=0,
             MeteredCall metered=None):
        """Answer one value, together with others that come at the same time.

        Parameters
        ----------
        value : object
            The item, or the list of items.
        n_rows : int
            How many rows it counts for.
        lane : hashable, optional
            Only values of one lane share a call.
        timeout_s, priority
            As for :meth:`Session.run`.
        metered : MeteredCall, optional
            The call that it is a part of, and that takes note of its times.

        Raises
        ------
        OverloadedError, DeadlineError, ClosedError
            It was not run, or not in time.
        Exception
            What the function raised for this value.
        """
        cdef _Item item
        cdef Slot slot
        cdef shared_ptr[Request] request
        cdef Status status
        cdef InterruptCheck interrupt
        cdef void* context
        cdef int64_t started
        cdef bint queued
        cdef int64_t deadline_ns = self._deadline(timeout_s)
        cdef int n_forks = self.n_forks
        self.in_flight.fetch_add(1)
        try:
            item = self._item(value, n_rows)
            if PyThread_get_thread_ident() in self.inside:
                # In the queue its own thread would wait for itself. Also while the queue is being closed,
                # which waits for the call that this one is a part of.
                self._apply([item])
                return item.result
            self._check_open()
            if _cooperates():
                return self._yield_for(value, n_rows, lane, deadline_ns, priority, metered)
            slot = self.coalescer.get().begin()
            if slot.replica >= 0:
                started = now_ns()
                try:
                    self._apply([item])
                    self.cost.get().record(CostModel.bucket(n_rows), now_ns() - started)
                finally:
                    self.coalescer.get().end(slot)
                if metered is not None:
                    _take_run(&metered.times, item)
                return item.result
            request = self._request(item, n_rows, lane, deadline_ns, priority)
            question = gives_up.get()
            interrupt = _check_for(question)
            context = _context_of(question)
            with nogil:
                status = self.coalescer.get().submit(request)
                queued = status.ok()
                if queued:
                    status = self.coalescer.get().wait(request, interrupt, context)
            if queued and metered is not None:
                _take_times(&metered.times, request.get(), request.get().finished())
            return self._answer(item, request.get(), status)
        finally:
            if n_forks == self.n_forks:
                self.in_flight.fetch_sub(1)

    cdef object _yield_for(self, value, Py_ssize_t n_rows, lane, int64_t deadline_ns, int priority,
                           MeteredCall metered):
        cdef double timeout_s = 0 if deadline_ns == 0 else (deadline_ns - now_ns()) * 1e-9
        call = self.start(value, _cooperative.completions(), n_rows=n_rows, lane=lane,
                          timeout_s=None if deadline_ns == 0 else timeout_s, priority=priority)
        if metered is not None:
            metered.waits_for(call)
        if not _cooperative.wait(call, timeout_s):
            raise DeadlineError(f"`{self.name}` did not answer in time: still running",
                                timeout_s=timeout_s, model=self.name)
        return call.result()

    def start(self, value, Completions completions, *, Py_ssize_t n_rows=1, lane=None,
              timeout_s=None, int priority=0):
        """Queue a value and come back at once; as :meth:`Session.start`."""
        cdef _Item item
        cdef Call call
        cdef Status status
        cdef int64_t deadline_ns = self._deadline(timeout_s)
        cdef int n_forks = self.n_forks
        self.in_flight.fetch_add(1)
        try:
            self._check_open()
            item = self._item(value, n_rows)
            call = Call.__new__(Call)
            call.session = self
            call.item = item
            call.coalescer = self.coalescer
            call.request = self._request(item, n_rows, lane, deadline_ns, priority)
            completions.add(call)
            status = self.coalescer.get().submit(call.request)
            if not status.ok():
                completions.forget(call)
                return self._answer(item, call.request.get(), status)
            return call
        finally:
            if n_forks == self.n_forks:
                self.in_flight.fetch_sub(1)

    def stats(self):
        """Counts since the start, and what waits and runs now."""
        cdef CoalescerStats stats
        with nogil:
            stats = self.coalescer.get().stats()
        return _stats(stats, self.coalescer.get().healthy())

    def close(self):
        """Answer what is queued, then take nothing more. Calling it again does nothing.

        Raises
        ------
        RuntimeError
            The function itself asks for it, and would wait for itself.
        """
        if PyThread_get_thread_ident() in self.inside:
            raise RuntimeError(f"`{self.name}` cannot be closed from inside its own function")
        if self.closed.exchange(1):
            return
        try:
            while self.in_flight.load() > 0:
                _pause()
        except BaseException:
            self.closed.store(0)
            raise
        with nogil:
            self.coalescer.get().drain()
            self.coalescer.get().stop()

    cdef int _check_open(self) except -1:
        if self.closed.load():
            raise ClosedError(f"`{self.name}` is closed; it takes no more calls")
        return 0

    cdef int64_t _deadline(self, timeout_s) except -1:
        if timeout_s is None:
            if self.default_timeout_s == 0:
                return 0
            return _deadline_after(self.default_timeout_s, self.name)
        return _deadline_after(timeout_s, self.name)

    cdef _Item _item(self, value, Py_ssize_t n_rows):
        cdef _Item item = _Item.__new__(_Item)
        item.queue = self
        item.value = value
        item.n_rows = n_rows
        return item

    cdef shared_ptr[Request] _request(self, _Item item, Py_ssize_t n_rows, lane, int64_t deadline_ns,
                                      int priority) except *:
        cdef shared_ptr[Request] request = make_function_request(<PyObject*>item)
        request.get().n_rows = n_rows
        request.get().units = n_rows
        request.get().deadline_ns = deadline_ns
        request.get().priority = priority
        if lane is not None:
            number = self.lanes.get(lane)
            if number is None:
                # Counted, not by the dict's length: hashing a lane may let another thread add its own.
                number = self.lanes.setdefault(lane, self.n_lanes.fetch_add(1))
            request.get().lane.push_back(number)
        return request

    cdef int _apply(self, list items) except -1:
        """Call the function and give every item its answer."""
        cdef _Item item
        cdef Py_ssize_t n, first
        cdef unsigned long thread = PyThread_get_thread_ident()
        cdef bint nested = thread in self.inside
        cdef list values = []
        cdef list answers
        cdef int64_t started, ended
        cdef int64_t n_rows = 0
        for item in items:
            if self.many:
                values.extend(item.value)
            else:
                values.append(item.value)
        n = len(values)         # the function may change its list
        if not nested:
            self.inside.add(thread)
        try:
            started = now_ns()
            answers = answers_as_list(self.function(values), n, self.name)
            ended = now_ns()
        finally:
            if not nested:
                self.inside.discard(thread)
        for item in items:
            n_rows += item.n_rows
        if self.runs.get() != NULL:
            self.runs.get().ran(ended - started, n_rows, UNDER_GIL)
        first = 0
        for item in items:
            item.run_started_ns = started
            item.run_ended_ns = ended
            item.run_rows = n_rows
            if self.many:
                n = len(item.value)
                item.result = answers[first:first + n]
                first += n
            else:
                item.result = answers[first]
                first += 1
        return 0

    cdef object _answer(self, _Item item, Request* request, const Status& status):
        cdef StatusCode code = (<Status*>&status).code()
        if (<Status*>&status).ok() or code == StatusCode.kDeadline:
            self.coalescer.get().record_answer(request[0], now_ns())
        if (<Status*>&status).ok():
            return item.result
        if PyErr_Occurred() != NULL:
            _reraise()
        if item.error is not None:
            raise item.error
        message = _text((<Status*>&status).message())
        if code == StatusCode.kOverloaded:
            raise OverloadedError(
                f"`{self.name}` is overloaded: {message}; retry in "
                f"{request.retry_after_ns * 1e-9:.3g} s",
                retry_after_s=request.retry_after_ns * 1e-9, model=self.name)
        if code == StatusCode.kDeadline:
            raise DeadlineError(f"`{self.name}` did not answer in time: {message}", model=self.name)
        if code == StatusCode.kClosed:
            raise ClosedError(f"`{self.name}` is closed; it takes no more calls")
        if code == StatusCode.kInterrupted:
            raise AbandonedError(f"Nobody waits any more for the answer of `{self.name}`; the call was "
                                 "given up", model=self.name)
        raise SessionError(f"`{self.name}` failed: {message}", model=self.name)

    cdef object _result(self, Call call):
        return self._answer(<_Item>call.item, call.request.get(), call.request.get().status)


cdef int _take_run(Times* times, _Item item) noexcept:
    times.run_started_ns = item.run_started_ns
    times.run_ended_ns = item.run_ended_ns
    times.run_rows = item.run_rows
    return 0


cpdef list answers_as_list(answers, Py_ssize_t n, str name):
    """What a function of a list of ``n`` items returned, as a list of as many answers.

    Rows of an ndarray are copied.

    Raises
    ------
    TypeError
        It has no length and order, or another length.
    """
    cdef Py_ssize_t i
    cdef Py_ssize_t length = -1
    if type(answers) is list:
        length = len(answers)
    elif hasattr(answers, "__getitem__") and not isinstance(answers, (str, bytes, Mapping)):
        try:
            length = len(answers)
        except TypeError:
            pass            # an array without axes
    if length < 0:
        if hasattr(answers, "__await__") and hasattr(answers, "close"):
            answers.close()         # nobody is going to await it
        raise TypeError(f"`{name}` must return a list with one answer for each of {n} items, "
                        f"got {_describe(answers)}")
    if length != n:
        raise TypeError(f"`{name}` must return one answer for each of {n} items, "
                        f"got {length} answers")
    if type(answers) is list:
        return <list>answers
    if isinstance(answers, np.ndarray) and answers.ndim > 1:
        # Not views: one caller's answer would keep all others in memory, and a buffer that the
        # function uses again would change it.
        return [answers[i].copy() for i in range(n)]
    if hasattr(answers, "iloc"):
        answers = answers.iloc          # what pandas counts by position
    return [answers[i] for i in range(n)]


def _forget_the_parents_calls():
    # They never end in the child of a fork, where close() would wait for them. The thread that forks may
    # itself be inside the function.
    cdef FunctionQueue queue
    for queue in list(_function_queues):
        queue.n_forks += 1
        queue.in_flight.store(0)
        queue.inside.intersection_update((PyThread_get_thread_ident(),))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents_calls)
