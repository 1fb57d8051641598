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
    // Runs pieces by a C function, whose context outlives the coalescer's threads.
    class CallbackBackend : public Backend {
     public:
      using Function = int (*)(void* context, const Piece* pieces, size_t n, std::string* message);
      CallbackBackend(Function function, void* context) : function_(function), context_(context) {}
      Status run(const Piece* pieces, size_t n) noexcept override {
        return guarded([&]() -> Status {
          std::string message;
          if (function_(context_, pieces, n, &message) == 0) return Status();
          return Status(StatusCode::kRuntime, std::move(message));
        });
      }

     private:
      Function function_;
      void* context_;
    };
    inline std::shared_ptr<Backend> make_callback_backend(CallbackBackend::Function function,
                                                          void* context) {
      return std::make_shared<CallbackBackend>(function, context);
    }
    }  // namespace infersdk
    """
    shared_ptr[Backend] make_callback_backend "infersdk::make_callback_backend"(
        int (*)(void*, const Piece*, size_t, string*) noexcept nogil, void*) except +


cdef class _Item:
    """One call's argument, and what became of it."""

    cdef object value
    cdef object result
    cdef object error
    cdef bint answered


cdef int _run_function(void* context, const Piece* pieces, size_t n,
                       string* message) noexcept nogil:
    with gil:
        return _run_function_with_gil(<FunctionQueue>context, pieces, n, message)


cdef int _run_function_with_gil(FunctionQueue queue, const Piece* pieces, size_t n,
                                string* message) noexcept:
    cdef list items = []
    cdef size_t i
    cdef _Item item
    try:
        for i in range(n):
            items.append(<object>pieces[i].request.get().context)
        queue._apply(items)
        return 0
    except BaseException as error:
        # The last to see a batch of one: this is the call's own error.
        if n == 1 and items:
            item = items[0]
            item.error = error
        try:
            message.assign(f"{type(error).__name__}: {error}".encode("utf-8", "replace"))
        except BaseException:
            pass
        return 1


cdef class FunctionQueue:
    """A Python function of a list behind a queue: concurrent calls share one call of it.

    Parameters
    ----------
    function : callable
        ``function(items: list) -> list``, one answer for each item, in order.
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
        False calls the function for each item alone.

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
    cdef dict lanes
    cdef set items                  # alive while a batcher may look at them
    cdef atomic[int] in_flight
    cdef atomic[int] closed
    cdef object __weakref__

    def __cinit__(self, *args, **kwargs):
        self.closed.store(1)

    def __init__(self, function, *, str name, Py_ssize_t max_batch_size=32, Py_ssize_t instances=1,
                 Py_ssize_t max_queue_size=4096, timeout_s=None, bint merge=True):
        cdef CoalescerConfig config
        cdef vector[Replica] backends
        cdef Replica replica
        cdef Status status
        self.function = function
        self.name = name
        self.default_timeout_s = timeout_s or 0
        self.lanes = {}
        self.items = set()
        self.cost = make_shared[CostModel]()
        config.merge = merge
        config.max_batch_size = max_batch_size
        config.split_size = 0
        config.max_queue_size = max_queue_size
        config.max_queue_bytes = <size_t>-1
        replica.backend = make_callback_backend(_run_function, <void*>self)
        replica.concurrency = instances
        backends.push_back(replica)
        status = Coalescer.create(config, backends, self.cost, &self.coalescer)
        if not status.ok():
            raise SessionError(_text(status.message()))
        _function_queues.add(self)
        self.closed.store(0)

    def __dealloc__(self):
        with nogil:
            self.coalescer.reset()

    def __repr__(self):
        return f"<infersdk FunctionQueue `{self.name}`{' closed' if self.closed.load() else ''}>"

    def call(self, value, *, Py_ssize_t n_rows=1, lane=None, timeout_s=None, int priority=0):
        """Answer one item, together with others that come at the same time.

        Parameters
        ----------
        value : object
            The item.
        n_rows : int
            How many rows it counts for.
        lane : hashable, optional
            Only items of one lane share a call.
        timeout_s, priority
            As for :meth:`Session.run`.

        Raises
        ------
        OverloadedError, DeadlineError, ClosedError
            It was not run, or not in time.
        Exception
            What the function raised for this item.
        """
        cdef _Item item
        cdef Slot slot
        cdef shared_ptr[Request] request
        cdef Status status
        cdef InterruptCheck interrupt = NULL
        cdef int64_t started
        cdef int64_t deadline_ns = self._deadline(timeout_s)
        self.in_flight.fetch_add(1)
        try:
            self._check_open()
            if _cooperates():
                return self._yield_for(value, n_rows, lane, deadline_ns, priority)
            item = _Item.__new__(_Item)
            item.value = value
            slot = self.coalescer.get().begin()
            if slot.replica >= 0:
                started = now_ns()
                try:
                    self._apply([item])
                    self.cost.get().record(CostModel.bucket(n_rows), now_ns() - started)
                finally:
                    self.coalescer.get().end(slot)
                return item.result
            request = self._request(item, n_rows, lane, deadline_ns, priority)
            self.items.add(item)
            if _in_main_thread():
                interrupt = _check_signals
            with nogil:
                status = self.coalescer.get().submit(request)
                if status.ok():
                    status = self.coalescer.get().wait(request, interrupt, NULL)
                else:
                    request.get().ticket = 1        # never queued
            if request.get().ticket == 1 or request.get().finished():
                self.items.discard(item)
            # Otherwise a batch is still at work on it, and _apply lets go of it.
            return self._answer(item, request.get(), status)
        finally:
            self.in_flight.fetch_sub(1)

    cdef object _yield_for(self, value, Py_ssize_t n_rows, lane, int64_t deadline_ns, int priority):
        cdef double timeout_s = 0 if deadline_ns == 0 else (deadline_ns - now_ns()) * 1e-9
        call = self.start(value, _cooperative.completions(), n_rows=n_rows, lane=lane,
                          timeout_s=timeout_s or None, priority=priority)
        if not _cooperative.wait(call, timeout_s):
            raise DeadlineError(f"`{self.name}` did not answer in time: still running",
                                timeout_s=timeout_s, model=self.name)
        return call.result()

    def start(self, value, Completions completions, *, Py_ssize_t n_rows=1, lane=None,
              timeout_s=None, int priority=0):
        """Queue an item and come back at once; as :meth:`Session.start`."""
        cdef _Item item
        cdef Call call
        cdef Status status
        cdef int64_t deadline_ns = self._deadline(timeout_s)
        self.in_flight.fetch_add(1)
        try:
            self._check_open()
            item = _Item.__new__(_Item)
            item.value = value
            call = Call.__new__(Call)
            call.session = self
            call.item = item        # the call lives in `completions` until it is finished
            call.coalescer = self.coalescer
            call.request = self._request(item, n_rows, lane, deadline_ns, priority)
            completions.add(call)
            status = self.coalescer.get().submit(call.request)
            if not status.ok():
                completions.forget(call)
                return self._answer(item, call.request.get(), status)
            return call
        finally:
            self.in_flight.fetch_sub(1)

    def stats(self):
        """Counts since the start, and what waits and runs now."""
        cdef CoalescerStats stats
        with nogil:
            stats = self.coalescer.get().stats()
        return _stats(stats, self.coalescer.get().healthy())

    def close(self):
        """Answer what is queued, then take nothing more. Calling it again does nothing."""
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

    cdef shared_ptr[Request] _request(self, _Item item, Py_ssize_t n_rows, lane, int64_t deadline_ns,
                                      int priority) except *:
        cdef shared_ptr[Request] request = make_shared[Request]()
        request.get().context = <void*>item
        request.get().n_rows = n_rows
        request.get().units = n_rows
        request.get().deadline_ns = deadline_ns
        request.get().priority = priority
        if lane is not None:
            request.get().lane.push_back(self.lanes.setdefault(lane, len(self.lanes)))
        return request

    cdef int _apply(self, list items) except -1:
        cdef _Item item
        cdef Py_ssize_t i
        answers = self.function([(<_Item>item).value for item in items])
        if not isinstance(answers, (list, tuple)) and not hasattr(answers, "__len__"):
            raise TypeError(f"`{self.name}` must return a list of {len(items)} answers, one for each "
                            f"item, got {_describe(answers)}")
        if len(answers) != len(items):
            raise TypeError(f"`{self.name}` must return one answer for each of {len(items)} items, "
                            f"got {len(answers)}")
        for i in range(len(items)):
            item = <_Item>items[i]
            item.result = answers[i]
            item.answered = True
            self.items.discard(item)
        return 0

    cdef object _answer(self, _Item item, Request* request, const Status& status):
        cdef StatusCode code = (<Status*>&status).code()
        if (<Status*>&status).ok():
            self.coalescer.get().record_delivery(now_ns() - request.finished_ns)
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
            raise KeyboardInterrupt
        raise SessionError(f"`{self.name}` failed: {message}", model=self.name)

    cdef object _result(self, Call call):
        return self._answer(<_Item>call.item, call.request.get(), call.request.get().status)
