"""Predictor: a model behind its own methods.

What a call costs is decided here, so the work is done once, in the constructor: each method of the model
becomes one function over a binder, a session and an answerer, kept in the instance's ``__dict__`` where
attribute look-up finds it first. A call then is: bind, run, answer, count; all of it compiled, in one crossing.

Methods of one head share a session. The session of the first method's head is opened when the model is
loaded, others when first used: raw scores that nobody asks for cost neither time nor memory.

How a run is made (at once or queued, alone or in a batch) is the session's affair, by what was measured
when the model was loaded. From asyncio, short runs happen on the loop and all others are queued; only what
cannot be queued (sequences, maps) takes a thread. Methods without a graph are `source_methods`' affair.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from infersdk._native import (
    KEEP_GIL_S,
    Bound,
    DeviceTensor,
    MeteredCall,
    MeteredMethod,
    Session,
    metered_function,
    metered_method,
    metered_run,
)
from infersdk.artifact import Artifact
from infersdk.binding import Binder, coerce, make_answerer
from infersdk.errors import ClosedError, InputError, SessionError
from infersdk.monitor import ModelMetrics
from infersdk.options import Batching, Execution
from infersdk.processing import RowSteps, SteppedBinder
from infersdk.runtime.calibration import Calibration, calibrate, study
from infersdk.runtime.graph_ops import survey
from infersdk.runtime.heads import Head, start_batching
from infersdk.runtime.meters import Meters
from infersdk.runtime.placement import open_sessions, select
from infersdk.runtime.providers import DeviceChoice, ProviderChoice
from infersdk.runtime.row_independence import REDUCED_PRECISION, TOLERANCES, fill_values
from infersdk.runtime.source_methods import SourceMethods
from infersdk.runtime.stream import Stream
from infersdk.runtime.threads import default_threads
from infersdk.runtime.waiting import loop_calls
from infersdk.types import Method, ParityReport, Plan, Signature

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from infersdk.convert.conversion import Conversion

__all__ = ["Predictor"]

# An awaited call that cannot be queued runs on the event loop up to this long: handing it to a thread
# costs about as much.
_INLINE_AWAIT_S = 200e-6

_EXAMPLE_ROWS = 256
"""Of the example, to measure with and to test whether rows may share a run."""

_NOTHING: Any = object()
"""No argument at all; None may be a value."""

_GPU_INSTANCES = 2
"""One batch is copied to the device while another computes."""

_MAXIMA = frozenset({"largest_batch", "replicas_in"})
"""Of the queues' statistics: what is not added up over heads."""

_VERSION = "1"
"""Of every model: files name none, and one name is one model."""

_SOURCE_METHODS = frozenset(
    {
        "decision_function",
        "predict",
        "predict_log_proba",
        "predict_proba",
        "score_samples",
        "transform",
    }
)


class Predictor:
    """A model that answers through its source's own methods, at native speed.

    Made by :func:`infersdk.load`. It has the methods of the source model that the conversion proved:
    ``predict``, ``predict_proba``, ``decision_function``, ``transform``, ... each taking rows and giving
    what the source would give, always with a batch axis. Calling the Predictor calls the first of them.

    Rows are a dict (one row), a list of dicts or of lists, a flat list (one row), an array, a DataFrame,
    torch tensors; texts for a text model; for a model over tensors one tensor, a tuple of them, or a
    dict by input name.

    Safe to use from any number of threads; usable in the child of a fork; picklable (it reopens from its
    artifact). Short runs keep the GIL, long ones release it, by measurement.

    Attributes
    ----------
    name : str
        The model's name in messages.
    signature : Signature
        What it takes and gives.
    plan : Plan
        "onnx" or "native", and why.
    parity : ParityReport or None
        The proof of the conversion, None where there was nothing to compare with.
    artifact : Artifact or None
        The ONNX model; None under the native plan.
    execution : Execution
        How it runs.
    batching : Batching
        How concurrent calls share runs.
    calibration : Calibration
        What runs cost when it was loaded, and the choices that follow.
    """

    # The source model's own methods, there for models that have them.
    # Each takes rows, and by keyword timeout_s and priority as __call__ does.
    predict: Callable[..., Any]
    predict_proba: Callable[..., Any]
    predict_log_proba: Callable[..., Any]
    decision_function: Callable[..., Any]
    score_samples: Callable[..., Any]
    transform: Callable[..., Any]

    name: str
    signature: Signature
    plan: Plan
    parity: ParityReport | None
    artifact: Artifact | None
    execution: Execution
    batching: Batching
    calibration: Calibration

    def __init__(
        self,
        conversion: Conversion,
        *,
        execution: Execution | None = None,
        batching: Batching | None = None,
        example: Any = None,
    ) -> None:
        self.name = conversion.name
        self.signature = conversion.signature
        self.plan = conversion.plan
        self.parity = conversion.parity
        self.artifact = conversion.artifact
        self.execution = execution or Execution()
        self.batching = _with_padding(batching or Batching(), self.signature)
        if conversion.artifact is not None and not conversion.source_methods:
            # The source model is the caller's to keep; a served one would be in memory twice. Parts of
            # it that steps call are held by themselves.
            conversion = replace(conversion, source=None, name=self.name)
        self._conversion = conversion
        self._closed = False
        self._meters = Meters(self.name)
        self._source: SourceMethods | None = None
        self._heads: dict[str | None, Head] = {}
        self._executor: Executor | None = None
        self._executor_pid = 0
        self._executor_lock = threading.Lock()
        self._methods: dict[str, Callable[..., Any]] = {}
        self._awaited: dict[str, Callable[..., Awaitable[Any]]] = {}
        if self.artifact is not None:
            self._prepare_onnx(self.artifact)
            if conversion.source_methods:
                self._prepare_source(conversion, conversion.source_methods)
            self._calibrate(example)
        else:
            source = self._prepare_source(conversion, self.signature.methods)
            self.calibration = source.study(example)
            self.providers = ProviderChoice(
                (DeviceChoice("cpu"),), "the model runs in its own framework"
            )
        for name, function in self._methods.items():
            if name != "__call__":
                self.__dict__[name] = function
        self._first = next(iter(self._methods.values()), None)
        _predictors.add(self)

    # -- preparing -------------------------------------------------------------------------------

    def _prepare_onnx(self, artifact: Artifact) -> None:
        threads = self.execution.threads or default_threads()

        self.providers = select(self.execution, lambda: survey(artifact.session_model()))

        def open_head(head: str | None) -> list[Session]:
            model = artifact.session_model(head)

            def open_on(device: DeviceChoice) -> Session:
                return Session(
                    model,
                    name=self.name,
                    threads=threads,
                    graph_optimization=self.execution.graph_optimization,
                    release_gil=self.execution.release_gil,
                    external_folder=artifact.external_folder if isinstance(model, bytes) else None,
                    coerce=partial(coerce, model=self.name),
                    providers=[(one.name, one.options) for one in device.providers],
                    cuda_device=device.cuda_ordinal,
                    meter=self._meters.runs,
                )

            # What a head finds does not load is not tried again by the next.
            sessions, self.providers = open_sessions(self.providers, open_on)
            return sessions

        for head in artifact.heads or (None,):
            self._heads[head] = Head(partial(open_head, head))
        # run() gives every output; with one head that holds them all, no second session is needed.
        everything = {spec.name for spec in self.signature.outputs}
        first = next(iter(self._heads.values()))
        if {spec.name for spec in first.session.outputs} == everything:
            self._graph = first
        else:
            self._graph = Head(partial(open_head, None))
            self._heads[None] = self._graph
        self._steps: RowSteps | None = None
        if self.signature.steps:
            self._steps = RowSteps(
                artifact, self._conversion.sources, model=self.name, open_session=self._open_stage
            )
            self._binders: dict[str, Binder | SteppedBinder] = {
                head: self._steps.binder(head) for head in artifact.heads
            }
        else:
            binder = Binder(self.signature, model=self.name)
            self._binders = dict.fromkeys(artifact.heads, binder)
        for method in self.signature.methods:
            self._prepare_method(method)
        # Calls skip this class's own run(): for a tiny model its frame is a tenth.
        run = metered_run(self._meters.of("run"), self._graph)
        run.__name__, run.__qualname__, run.__doc__ = "run", "Predictor.run", Predictor.run.__doc__
        self.__dict__["run"] = run

    def _open_stage(self, model: bytes | str) -> Session:
        """A session for what steps read of the graph: on the CPU, never queued."""
        assert self.artifact is not None
        return Session(
            model,
            name=self.name,
            threads=self.execution.threads or default_threads(),
            graph_optimization=self.execution.graph_optimization,
            external_folder=self.artifact.external_folder if isinstance(model, bytes) else None,
        )

    def _prepare_method(self, method: Method) -> None:
        head = self._heads[method.head]
        order = [
            spec.name
            for spec in self.signature.outputs
            if spec.name in self._outputs_of(method.head)
        ]
        positions = [order.index(name) for name in method.outputs]
        binder = self._binders[method.head]
        metered = MeteredMethod(
            self._meters.of(method.name),
            head,
            fast=binder.fast,
            general=binder.general,
            answer=make_answerer(method),
            answer_tensors=make_answerer(method, torch=True),
            positions=None if positions == list(range(len(order))) else positions,
            slow=self._steps is not None and self._steps.is_slow,
        )
        short = metered.short

        async def acall(rows: Any, timeout_s: float | None = None, priority: int = 0) -> Any:
            answer = short(rows)
            if type(answer) is not MeteredCall:
                return answer
            call = answer
            try:
                answer = await self._answer_later(
                    call, metered, binder, head.session, rows, timeout_s, priority
                )
            except BaseException as error:
                call.failed(error)
                raise
            call.answered()
            return answer

        self._methods[method.name] = _named(metered_method(metered), method.name, self.name)
        self._awaited[method.name] = acall

    async def _answer_later(
        self,
        call: MeteredCall,
        method: MeteredMethod,
        binder: Binder | SteppedBinder,
        session: Session,
        rows: Any,
        timeout_s: float | None,
        priority: int,
    ) -> Any:
        """Answer what would keep the event loop too long."""
        if call.in_thread:
            part = call.part()
            answer = await self._in_thread(method.answer_for, part, rows, timeout_s, priority)
            call.take(part)
            return answer
        bound, outputs = call.bound, None
        if bound is None:
            bound = await self._in_thread(binder.general, rows)
            outputs = method.run_short(call, bound)
        if outputs is None:
            outputs = await self._run_later(call, method, session, bound, timeout_s, priority)
        return method.finish(call, outputs, bound)

    async def _run_later(
        self,
        metered: MeteredCall,
        method: MeteredMethod,
        session: Session,
        bound: Bound,
        timeout_s: float | None,
        priority: int,
    ) -> list[Any]:
        """Run what is too long to do so on the event loop."""
        calls = loop_calls()
        arrays = bound.arrays
        call = session.start(arrays, calls.completions, timeout_s, priority)
        if call is not None:
            metered.waits_for(call)
            limit_s = self.batching.timeout_s if timeout_s is None else timeout_s
            outputs: list[Any] = await calls.wait(call, limit_s, model=self.name)
            return outputs
        size_bytes = sum(getattr(array, "nbytes", 0) for array in arrays)
        expected_s = session.expected_run_s(size_bytes)
        if expected_s is not None and expected_s <= _INLINE_AWAIT_S:
            return method.run(metered, bound, timeout_s, priority)
        part = metered.part()
        outputs = await self._in_thread(method.run, part, bound, timeout_s, priority)
        metered.take(part)
        return outputs

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        import asyncio

        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads(), function, *arguments)

    def _outputs_of(self, head: str) -> set[str]:
        return {
            name
            for method in self.signature.methods
            if method.head == head
            for name in method.outputs
        }

    def _prepare_source(self, conversion: Conversion, methods: Sequence[Method]) -> SourceMethods:
        """Methods that the source model answers itself."""
        self._source = source = SourceMethods(
            conversion,
            methods,
            self.signature,
            name=self.name,
            execution=self.execution,
            batching=self.batching,
            meter=self._meters.runs,
        )
        for method in methods:
            call, acall = self._metered(method.name, source)
            self._methods[method.name] = _named(call, method.name, self.name)
            self._awaited[method.name] = acall
        return source

    def _metered(
        self, method: str, source: SourceMethods
    ) -> tuple[Callable[..., Any], Callable[..., Awaitable[Any]]]:
        """A method that the source model answers, and the same awaited, both counted."""
        meter = self._meters.of(method)
        ask = source.awaiter(method)

        async def acall(rows: Any, timeout_s: float | None = None, priority: int = 0) -> Any:
            call = meter.begin()
            try:
                answer = await ask(call, rows, timeout_s, priority)
            except BaseException as error:
                call.failed(error)
                raise
            call.answered()
            return answer

        return metered_function(meter, source.caller(method)), acall

    def _calibrate(self, example: Any) -> None:
        """Measure the first head, decide how runs are made, and tell every head."""
        session = next(iter(self._heads.values())).session
        self._measure(session, self._example_arrays(example))
        for head in self._heads.values():
            head.prepare(self._start_batching)

    def _measure(
        self, session: Session, arrays: Sequence[Any] | None, budget_s: float | None = None
    ) -> None:
        execution = self.execution
        if execution.instances is None and self.providers.uses_cuda:
            execution = replace(execution, instances=_GPU_INSTANCES)
        self.calibration, verdicts = study(
            _Alone(session),
            arrays,
            budget_s,
            execution=execution,
            batching=self.batching,
            keep_gil_s=KEEP_GIL_S,
            tolerances=REDUCED_PRECISION if self.providers.uses_cuda else TOLERANCES,
        )
        self._pad: dict[str, dict[str, Any]] = {
            axis: {
                session.inputs[position].name: value
                for position, value in fill_values(session, axis, self.batching.pad[axis]).items()
            }
            for axis, verdict in verdicts.items()
            if verdict.mergeable
        }

    def _start_batching(self, sessions: list[Session]) -> None:
        start_batching(
            sessions, calibration=self.calibration, batching=self.batching, pad=self._pad
        )

    def _example_arrays(self, example: Any) -> Sequence[Any] | None:
        """Some rows of the example as the graph takes them; None where there are none to be had."""
        from infersdk.convert.rows import can_split, count, take

        if example is None or self.execution.calibration_s <= 0:
            return None
        try:
            n_rows = count(example)
            if n_rows > 1 and can_split(example, self.signature):
                example = take(example, np.arange(min(n_rows, _EXAMPLE_ROWS), dtype=np.int64))
                if any(step.pad for step in self.signature.steps):
                    example = take(example, self._shorter_rows(example))
            bound = self._first_binder.bind(example)
        except (InputError, TypeError, IndexError, KeyError, StopIteration):
            return None  # made-up inputs do instead
        return bound.arrays if bound.n_rows else None

    def _shorter_rows(self, example: Any) -> NDArray[np.int64]:
        """The shortest quarter of an example's rows.

        Bound together, rows are filled up to the longest, and each would seem to cost what that one does.
        A batch gains threefold for short rows and next to nothing for long ones, where it costs nothing
        either; so the short ones are measured.
        """
        from infersdk.convert.rows import count, take

        sizes = []
        for i in range(count(example)):
            bound = self._first_binder.bind(take(example, np.array([i])))
            sizes.append(sum(array.nbytes for array in bound.arrays))
        order = np.argsort(sizes, kind="stable")
        return order[: max(len(order) // 4, 1)]

    # -- using -----------------------------------------------------------------------------------

    def __call__(
        self,
        rows: Any = _NOTHING,
        /,
        *more: Any,
        timeout_s: float | None = None,
        priority: int = 0,
        **named: Any,
    ) -> Any:
        """Answer as the source model's main method does.

        Parameters
        ----------
        rows, *more : object
            The rows; of a model over several tensors, one argument each.
        timeout_s : float, optional
            The most seconds that the call may wait for its run; by default ``batching.timeout_s``. A
            run that has begun in the caller's own thread is finished and answered.
        priority : int
            Where calls wait for a run, those of a higher one go first.
        **named : object
            The same tensors by input name.

        Raises
        ------
        InputError
            The rows do not fit the signature.
        OverloadedError
            The queue is full, or too long for the call to be answered in time.
        DeadlineError
            The time ran out.
        SessionError
            ONNX Runtime failed.
        ClosedError
            The Predictor was closed.
        """
        first = self._first
        if first is None:
            raise SessionError(f"Model `{self.name}` has no method to call; use run()")
        if not named:
            if rows is not _NOTHING:
                return first((rows, *more) if more else rows, timeout_s, priority)
            if self.artifact is None or self.signature.inputs:
                self._refuse_arguments("rows", "no argument")
            return first((), timeout_s, priority)
        if rows is not _NOTHING:
            self._refuse_arguments("tensors by position or by name", "both")
        return first(named, timeout_s, priority)

    def run(
        self,
        inputs: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        *,
        timeout_s: float | None = None,
        priority: int = 0,
    ) -> dict[str, Any]:
        """Run the graph itself: named values in, named values out.

        Parameters
        ----------
        inputs : Mapping of str to object
            A value for every input of ``signature.inputs``: arrays (cast where nothing is lost), lists
            for sequences, dicts for maps, None for absent optionals.
        outputs : sequence of str, optional
            The outputs to give; all by default.
        timeout_s, priority
            As for :meth:`__call__`.

        Returns
        -------
        dict
            Output name to ndarray (strings: object arrays), list, dict or None.

        Raises
        ------
        InputError
            A name, dtype or shape does not fit.
        OverloadedError, DeadlineError
            As :meth:`__call__`.
        SessionError
            ONNX Runtime failed, or the model has no graph (native plan).
        ClosedError
            The Predictor was closed.
        """
        # Where there is a graph, the instance has a compiled function in place of this.
        call = self._meters.of("run").begin()
        try:
            if self._closed:
                self._raise_closed()
            raise SessionError(
                f"Model `{self.name}` has no graph to run, as its plan is native: {self.plan.reason}. "
                f"Use its methods: {', '.join(self._methods)}",
                model=self.name,
            )
        except (ClosedError, SessionError) as error:
            call.failed(error)
            raise

    async def apredict(
        self,
        rows: Any,
        *,
        method: str | None = None,
        timeout_s: float | None = None,
        priority: int = 0,
    ) -> Any:
        """Answer from asyncio without blocking the event loop.

        A run that takes less than handing it over would happens where it is. A longer one is queued
        with those of other tasks and threads, and shares runs with them. Cancelling the task takes its
        call out of the queue.

        Parameters
        ----------
        rows : object
            As for the method itself.
        method : str, optional
            The source model's method; its main one by default.
        timeout_s : float, optional
            The most seconds until the answer; by default ``batching.timeout_s``.
        priority : int
            Where calls wait for a run, those of a higher one go first.

        Raises
        ------
        AttributeError
            The model has no such method.
        InputError, OverloadedError, DeadlineError, SessionError, ClosedError
            As the method itself.
        """
        if method is None or method == "__call__":
            method = next(iter(self._awaited), "__call__")
        function = self._awaited.get(method)
        if function is None:
            raise self._no_method(method)
        return await function(rows, timeout_s, priority)

    def check(self, rows: Any, *, limit: int = 100) -> list[InputError]:
        """Find every reason why rows would be refused; a call stops at the first.

        Parameters
        ----------
        rows : object
            As for the methods.
        limit : int
            The most reasons that are looked for.

        Returns
        -------
        list of InputError
            By row, then by field; empty where the rows fit.
        """
        if self.artifact is None:
            return [] if self._source is None else self._source.refusals(rows, limit)
        return self._first_binder.refusals(rows, limit)

    def run_on_device(
        self, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None
    ) -> dict[str, DeviceTensor]:
        """Run the graph and leave its outputs where they were computed.

        Parameters
        ----------
        inputs : Mapping of str to object
            A value for every input. A :class:`DeviceTensor`, a PyTorch tensor and whatever else speaks
            DLPack is taken where it is, without a copy, and must not be written to meanwhile.
        outputs : sequence of str, optional
            The outputs to give; all by default.

        Returns
        -------
        dict
            Output name to DeviceTensor, read-only: ``torch.from_dlpack(tensor)`` reads it without a copy.

        Raises
        ------
        InputError
            A name, dtype or shape does not fit.
        BufferError
            An input or output has no DLPack form, such as text.
        SessionError
            ONNX Runtime failed, or the model has no graph (native plan).
        ClosedError
            The Predictor was closed.
        """
        call = self._meters.of("run_on_device").begin()
        try:
            if self.artifact is None:
                raise SessionError(
                    f"Model `{self.name}` has no graph to run, as its plan is native: {self.plan.reason}",
                    model=self.name,
                )
            answer = self._graph.session.run_on_device(inputs, outputs, call)
        except BaseException as error:
            call.failed(error)
            raise
        call.answered()
        return answer

    def stream(
        self,
        state: Mapping[str, str | int],
        *,
        initial: Mapping[str, Any] | None = None,
        fixed: Mapping[str, Any] | None = None,
    ) -> Stream:
        """Carry a state from call to call, for one caller of a model that takes and gives it.

        Parameters
        ----------
        state : Mapping of str to (str or int)
            Input that takes the state -> output that gives the next one: a key of the answer, or a
            place in it where the model answers a tuple or list.
        initial : Mapping of str to array, optional
            The first state by input. By default zeros of the input's shape, with 1 for each axis that is
            dynamic.
        fixed : Mapping of str to object, optional
            Inputs that are the same at every call.

        Returns
        -------
        Stream
            Is called with the other inputs, and answers without the state. Make one for each caller.

        Raises
        ------
        ValueError
            There is no such input or output, or an initial state is needed.
        """
        return Stream(self, state, initial=initial, fixed=fixed)

    def warm_up(self, rows: Any = None) -> Calibration:
        """Open every session and run it, so that the first request finds it warm.

        Parameters
        ----------
        rows : object, optional
            Rows like those of the first requests. By default neutral inputs of the graph's shapes.

        Returns
        -------
        Calibration
            Of the main method's session; also kept as ``calibration``.

        Raises
        ------
        InputError, SessionError, ClosedError
            As the methods themselves.
        """
        if self.artifact is None:
            if self._closed:
                self._raise_closed()
            if rows is not None and self._source is not None:
                self._source.warm_up(rows)
                self.calibration = self._source.study_now(rows)
            return self.calibration
        arrays = None if rows is None else self._first_binder.bind(rows).arrays
        (_, first), *others = self._heads.items()
        budget_s = self.execution.calibration_s or 0.2
        self._measure(first.session, arrays, budget_s)
        for name, head in others:
            if rows is not None and self._steps is not None:
                # Heads read the steps that they need; run()'s own reads them all.
                binder = self._binders.get(name or "")
                arrays = None if binder is None else binder.bind(rows).arrays
            calibrate(_Alone(head.session), arrays, budget_s, mergeable=False)
        for head in self._heads.values():
            head.prepare(self._start_batching)
        return self.calibration

    def queue_stats(self) -> dict[str, int]:
        """Count what became of the calls of this process.

        Returns
        -------
        dict of str to int
            ``inline_runs`` in callers' own threads (runs that keep the GIL are not counted),
            ``batches`` and ``batched_rows`` of queued calls, ``largest_batch`` in rows, ``refused``,
            ``expired``, ``cancelled`` and ``failed`` calls, ``replicas_out`` (how often a replica was
            taken out) and ``replicas_in`` (that take work); ``queued_rows`` and ``running`` now. Empty
            where nothing is ever queued.
        """
        total: dict[str, int] = {}
        queues = [head.session.queue_stats() for head in self._heads.values() if head.is_open]
        if self._source is not None:
            queues += self._source.queue_stats()
        for queue in queues:
            for name, value in queue.items():
                known = total.get(name, 0)
                total[name] = max(known, value) if name in _MAXIMA else known + value
        return total

    def metrics(self) -> ModelMetrics:
        """Copy what this process has counted since the model was opened.

        Counting is always on: it costs a call less than a tenth of a microsecond. The child of a fork
        begins at zero. Runs for measurements and for :meth:`warm_up` are not counted.

        Returns
        -------
        ModelMetrics
            Of each method that can be called, and ``run`` where there is a graph: calls, rows, errors by
            class, and how long calls took; of the model: how long calls waited, and what runs took.
        """
        return self._meters.read(version=_VERSION, queued=self.queue_stats())

    def run_costs(self) -> dict[int, float]:
        """Give the moving averages of run time in service, by which calls are dispatched.

        Returns
        -------
        dict of int to float
            The least bytes of inputs of each size class that was met (a power of two), and seconds.
        """
        if self.artifact is None:
            return {}
        return next(iter(self._heads.values())).session.costs()

    def save(self, path: str | os.PathLike[str], *, source: str | None = None) -> str:
        """Write the model as an ``.onnx`` file that :func:`infersdk.load` opens.

        What runs in scikit-learn (hybrid and native plans) goes into the file through skops, never as a
        pickle: opening it builds only types that are known to be harmless, and those that
        ``load(..., trust=...)`` names.

        Parameters
        ----------
        path : path
            Its folder must exist; a file that is there is replaced at once, never in part.
        source : str, optional
            ``module:function`` of the app, which returns the source model, instead: the file then holds
            its name only. The way for native models of other frameworks.

        Returns
        -------
        str
            The absolute path.

        Raises
        ------
        ArtifactError
            What runs in its framework cannot be stored; the message says what to do.
        MissingDependencyError
            skops is needed and not installed.
        """
        from infersdk.convert.saved_source import with_source

        if self.artifact is not None and not self._conversion.sources:
            return self.artifact.save(path)
        return with_source(self._conversion, source, name=self.name).save(path)

    def close(self) -> None:
        """Let running calls finish, then free the model. Calling it again does nothing."""
        self._closed = True
        if self._source is not None:
            self._source.close()
        for head in self._heads.values():
            head.close()
        if self.artifact is not None and self._steps is not None:
            self._steps.close()
        executor, self._executor = self._executor, None
        if executor is not None and self._executor_pid == os.getpid():
            executor.shutdown(wait=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        methods = ", ".join(self._methods) or "run"
        state = ", closed" if self._closed else ""
        return f"<Predictor `{self.name}`: {self.plan.kind} plan, {methods}{state}>"

    def __getattr__(self, name: str) -> Any:
        # Reached only for what the instance does not have.
        if name in _SOURCE_METHODS:
            raise self._no_method(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce__(self) -> tuple[Any, ...]:
        if self._closed:
            self._raise_closed()
        conversion = replace(self._conversion, name=self.name)
        return _reopen, (conversion, self.execution, self.batching)

    @property
    def _first_binder(self) -> Binder | SteppedBinder:
        return next(iter(self._binders.values()))

    # -- inside ----------------------------------------------------------------------------------

    def _no_method(self, name: str) -> AttributeError:
        left_out = [note for note in self.plan.notes if name in note]
        return AttributeError(
            f"Model `{self.name}` has no method `{name}`; it has: {', '.join(self._methods) or 'run'}"
            + (f" ({left_out[0]})" if left_out else "")
        )

    def _refuse_arguments(self, expected: str, given: str) -> NoReturn:
        call = self._meters.of(next(iter(self._methods))).begin()
        error = InputError.mismatch(expected=expected, given=given, model=self.name)
        call.failed(error)
        raise error

    def _raise_closed(self) -> NoReturn:
        raise ClosedError(f"Model `{self.name}` is closed; load it again to use it")

    def _threads(self) -> Executor:
        from concurrent.futures import ThreadPoolExecutor

        with self._executor_lock:
            if self._executor is None or self._executor_pid != os.getpid():
                self._executor = ThreadPoolExecutor(
                    max_workers=default_threads() + 4, thread_name_prefix=f"infersdk-{self.name}"
                )
                self._executor_pid = os.getpid()
            return self._executor


class _Alone:
    """A session as measurements see it: a queue that is there already must not get in their way."""

    __slots__ = ("inputs", "outputs", "run_ordered", "set_cost")

    def __init__(self, session: Session) -> None:
        self.inputs = session.inputs
        self.outputs = session.outputs
        self.run_ordered = session.run_alone
        self.set_cost = session.set_cost


_predictors: weakref.WeakSet[Predictor] = weakref.WeakSet()


def _forget_the_parents_threads() -> None:
    """In the child of a fork: their locks would stay taken, and their calls would never end."""
    for predictor in list(_predictors):
        predictor._executor_lock = threading.Lock()
        if predictor._source is not None:
            predictor._source.forget_the_parents_calls()
        for head in predictor._heads.values():
            head.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents_threads)


def _named(function: Callable[..., Any], name: str, model: str) -> Callable[..., Any]:
    function.__name__ = name
    function.__qualname__ = f"Predictor.{name}"
    function.__doc__ = f"Answer as model `{model}`'s own `{name}` would."
    return function


def _with_padding(batching: Batching, signature: Signature) -> Batching:
    """Add what the model's steps say about filling up; what the user says goes before it."""
    pad: dict[str, Any] = {}
    for step in signature.steps:
        for axis, name, value in step.pad:
            pad.setdefault(axis, {})[name] = value
    return replace(batching, pad={**pad, **batching.pad}) if pad else batching


def _reopen(conversion: Conversion, execution: Execution, batching: Batching) -> Predictor:
    return Predictor(conversion, execution=execution, batching=batching)
