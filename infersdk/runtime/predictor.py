"""Predictor: a model behind its own methods.

What a call costs is decided here, so the work is done once, in the constructor: each method of the model
becomes one closure over a binder, a session and an answerer, kept in the instance's ``__dict__`` where
attribute look-up finds it first. A call then is: bind (compiled), run (compiled, one crossing), answer.

Methods of one head share a session. The session of the first method's head is opened when the model is
loaded, others when first used: raw scores that nobody asks for cost neither time nor memory.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from infersdk._native import Session
from infersdk.artifact import Artifact
from infersdk.binding import Binder, SourceBinder, coerce, make_answerer
from infersdk.errors import ArtifactError, ClosedError, InputError, SessionError
from infersdk.options import Execution
from infersdk.runtime.calibration import Calibration, calibrate
from infersdk.runtime.threads import default_threads
from infersdk.types import Method, ParityReport, Plan, Signature

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from infersdk.convert.conversion import Conversion

__all__ = ["Predictor"]

# An awaited call up to this long runs on the event loop: handing it to a thread costs about as much.
_INLINE_AWAIT_S = 200e-6

_NOTHING: Any = object()
"""No argument at all; None may be a value."""

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


class _Head:
    """The session that computes one head's outputs, opened on first use."""

    __slots__ = ("_lock", "_open", "_session", "closed")

    def __init__(self, open_session: Callable[[], Session]) -> None:
        self._open = open_session
        self._session: Session | None = None
        self._lock = threading.Lock()
        self.closed = False

    @property
    def session(self) -> Session:
        session = self._session
        if session is None:
            with self._lock:
                if self._session is None:
                    self._session = self._open()
                    if self.closed:
                        self._session.close()
                session = self._session
        return session

    @property
    def is_open(self) -> bool:
        return self._session is not None

    def close(self) -> None:
        with self._lock:
            self.closed = True
            if self._session is not None:
                self._session.close()

    def renew_lock(self) -> None:
        self._lock = threading.Lock()


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
    calibration : Calibration
        What a run cost when it was loaded.
    """

    # The source model's own methods, there for models that have them.
    predict: Callable[[Any], Any]
    predict_proba: Callable[[Any], Any]
    predict_log_proba: Callable[[Any], Any]
    decision_function: Callable[[Any], Any]
    score_samples: Callable[[Any], Any]
    transform: Callable[[Any], Any]

    name: str
    signature: Signature
    plan: Plan
    parity: ParityReport | None
    artifact: Artifact | None
    execution: Execution
    calibration: Calibration

    def __init__(
        self,
        conversion: Conversion,
        *,
        execution: Execution | None = None,
        example: Any = None,
    ) -> None:
        self.name = conversion.name or _default_name(conversion.source)
        self.signature = conversion.signature
        self.plan = conversion.plan
        self.parity = conversion.parity
        self.artifact = conversion.artifact
        self.execution = execution or Execution()
        if conversion.artifact is not None and not conversion.source_methods:
            # The source model is the caller's to keep; a served one would be in memory twice.
            conversion = replace(conversion, source=None, name=self.name)
        self._conversion = conversion
        self._closed = False
        self._in_flight = 0
        self._idle = threading.Condition()
        self._heads: dict[str | None, _Head] = {}
        self._executor: Executor | None = None
        self._executor_pid = 0
        self._methods: dict[str, Callable[[Any], Any]] = {}
        if self.artifact is not None:
            self._prepare_onnx(self.artifact)
            self._prepare_source(conversion, conversion.source_methods)
            self.calibration = self._calibrate(example)
        else:
            self._prepare_source(conversion, self.signature.methods)
            self.calibration = Calibration(None, 0, "the model runs in its own framework")
        for name, function in self._methods.items():
            if name != "__call__":
                self.__dict__[name] = function
        self._first = next(iter(self._methods.values()), None)
        _predictors.add(self)

    # -- preparing -------------------------------------------------------------------------------

    def _prepare_onnx(self, artifact: Artifact) -> None:
        threads = self.execution.threads or default_threads()

        def open_head(head: str | None) -> Session:
            model = artifact.session_model(head)
            return Session(
                model,
                name=self.name,
                threads=threads,
                graph_optimization=self.execution.graph_optimization,
                release_gil=self.execution.release_gil,
                external_folder=artifact.external_folder if isinstance(model, bytes) else None,
                coerce=partial(coerce, model=self.name),
            )

        for head in artifact.heads or (None,):
            self._heads[head] = _Head(partial(open_head, head))
        # run() gives every output; with one head that holds them all, no second session is needed.
        everything = {spec.name for spec in self.signature.outputs}
        first = next(iter(self._heads.values()))
        if {spec.name for spec in first.session.outputs} == everything:
            self._graph = first
            # The usual case skips this class's own run(): for a tiny model its frame is a tenth.
            self.__dict__["run"] = first.session.run
        else:
            self._graph = _Head(partial(open_head, None))
            self._heads[None] = self._graph
        self._binder = Binder(self.signature, model=self.name)
        for method in self.signature.methods:
            self._methods[method.name] = self._onnx_method(method)

    def _onnx_method(self, method: Method) -> Callable[[Any], Any]:
        head = self._heads[method.head]
        order = [
            spec.name
            for spec in self.signature.outputs
            if spec.name in self._outputs_of(method.head)
        ]
        positions = [order.index(name) for name in method.outputs]
        all_in_order = positions == list(range(len(order)))
        answer = make_answerer(method)
        answer_tensors = make_answerer(method, torch=True)
        fast, general = self._binder.fast, self._binder.general
        run: Callable[[Sequence[Any]], list[Any]]
        if head.is_open:
            run = head.session.run_ordered
        else:

            def run(arrays: Sequence[Any]) -> list[Any]:
                return head.session.run_ordered(arrays)

        def call(rows: Any) -> Any:
            bound = fast(rows)
            if bound is None:
                bound = general(rows)
            outputs = run(bound.arrays)
            if not all_in_order:
                outputs = [outputs[position] for position in positions]
            if bound.torch:
                return answer_tensors(outputs, bound.n_rows)
            return answer(outputs, bound.n_rows)

        return _named(call, method.name, self.name)

    def _outputs_of(self, head: str) -> set[str]:
        return {
            name
            for method in self.signature.methods
            if method.head == head
            for name in method.outputs
        }

    def _prepare_source(self, conversion: Conversion, methods: Sequence[Method]) -> None:
        """Methods that the source model answers itself."""
        if not methods:
            return
        binder = SourceBinder(self.signature, model=self.name)
        for method in methods:
            self._methods[method.name] = self._source_method(conversion, binder, method)

    def _source_method(
        self, conversion: Conversion, binder: SourceBinder, method: Method
    ) -> Callable[[Any], Any]:
        def call(rows: Any) -> Any:
            with self._idle:
                if self._closed:
                    self._raise_closed()
                self._in_flight += 1
            try:
                return conversion.call(method.name, binder.bind(rows))
            finally:
                with self._idle:
                    self._in_flight -= 1
                    self._idle.notify_all()

        return _named(call, method.name, self.name)

    def _calibrate(self, example: Any) -> Calibration:
        from infersdk.convert.rows import count, take

        arrays = None
        reason = "one row of the example"
        if example is not None and self.execution.calibration_s > 0:
            try:
                first = take(example, np.zeros(1, np.int64)) if count(example) > 1 else example
                bound = self._binder.bind(first)
                arrays = bound.arrays if bound.n_rows else None
            except (InputError, TypeError, IndexError, KeyError, StopIteration):
                arrays = None  # neutral inputs do instead
        session = next(iter(self._heads.values())).session
        return calibrate(session, arrays, self.execution.calibration_s, reason)

    # -- using -----------------------------------------------------------------------------------

    def __call__(self, rows: Any = _NOTHING, /, *more: Any, **named: Any) -> Any:
        """Answer as the source model's main method does.

        Parameters
        ----------
        rows, *more : object
            The rows; of a model over several tensors, one argument each.
        **named : object
            The same tensors by input name.

        Raises
        ------
        InputError
            The rows do not fit the signature.
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
                return first((rows, *more)) if more else first(rows)
            if self.artifact is None or self.signature.inputs:
                raise InputError.mismatch(expected="rows", given="no argument", model=self.name)
            return first(())
        if rows is not _NOTHING:
            raise InputError.mismatch(
                expected="tensors by position or by name", given="both", model=self.name
            )
        return first(named)

    def run(
        self, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Run the graph itself: named values in, named values out.

        Parameters
        ----------
        inputs : Mapping of str to object
            A value for every input of ``signature.inputs``: arrays (cast where nothing is lost), lists
            for sequences, dicts for maps, None for absent optionals.
        outputs : sequence of str, optional
            The outputs to give; all by default.

        Returns
        -------
        dict
            Output name to ndarray (strings: object arrays), list, dict or None.

        Raises
        ------
        InputError
            A name, dtype or shape does not fit.
        SessionError
            ONNX Runtime failed, or the model has no graph (native plan).
        ClosedError
            The Predictor was closed.
        """
        if self.artifact is None:
            if self._closed:
                self._raise_closed()
            raise SessionError(
                f"Model `{self.name}` has no graph to run, as its plan is native: {self.plan.reason}. "
                f"Use its methods: {', '.join(self._methods)}",
                model=self.name,
            )
        return self._graph.session.run(inputs, outputs)

    async def apredict(self, rows: Any, *, method: str | None = None) -> Any:
        """Answer from asyncio without blocking the event loop.

        A call that is expected to take less than handing it to a thread would runs where it is; a
        longer one runs in a thread of the Predictor's own.

        Parameters
        ----------
        rows : object
            As for the method itself.
        method : str, optional
            The source model's method; its main one by default.

        Raises
        ------
        AttributeError
            The model has no such method.
        InputError, SessionError, ClosedError
            As the method itself.
        """
        import asyncio

        if method is None or method == "__call__":
            function = self._first
        else:
            function = self._methods.get(method)
        if function is None:
            raise self._no_method(method or "__call__")
        if self._runs_inline(rows):
            return function(rows)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads(), function, rows)

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
            if rows is not None and self._first is not None:
                self._first(rows)
            return self.calibration
        arrays = None if rows is None else self._binder.bind(rows).arrays
        budget_s = self.execution.calibration_s or 0.1
        measured = [
            calibrate(head.session, arrays, budget_s, "the rows given")
            for head in self._heads.values()
        ]
        self.calibration = measured[0]
        return self.calibration

    def save(self, path: str | os.PathLike[str]) -> str:
        """Write the model as an ``.onnx`` file that :func:`infersdk.load` opens.

        Parameters
        ----------
        path : path
            Its folder must exist; a file that is there is replaced at once, never in part.

        Returns
        -------
        str
            The absolute path.

        Raises
        ------
        ArtifactError
            The plan is native: the model is not ONNX.
        """
        if self.artifact is None:
            raise ArtifactError(
                f"Model `{self.name}` cannot be saved as ONNX, as its plan is native: "
                f"{self.plan.reason}"
            )
        return self.artifact.save(path)

    def close(self) -> None:
        """Let running calls finish, then free the model. Calling it again does nothing."""
        with self._idle:
            self._closed = True
            while self._in_flight > 0:
                self._idle.wait()
        for head in self._heads.values():
            head.close()
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
        return _reopen, (replace(self._conversion, name=self.name), self.execution)

    # -- inside ----------------------------------------------------------------------------------

    def _no_method(self, name: str) -> AttributeError:
        left_out = [note for note in self.plan.notes if name in note]
        return AttributeError(
            f"Model `{self.name}` has no method `{name}`; it has: {', '.join(self._methods) or 'run'}"
            + (f" ({left_out[0]})" if left_out else "")
        )

    def _raise_closed(self) -> None:
        raise ClosedError(f"Model `{self.name}` is closed; load it again to use it")

    def _runs_inline(self, rows: Any) -> bool:
        run_s = self.calibration.run_s
        if self._closed or run_s is None:
            return self._closed
        return _row_count(rows) * run_s <= _INLINE_AWAIT_S

    def _threads(self) -> Executor:
        from concurrent.futures import ThreadPoolExecutor

        with self._idle:
            if self._executor is None or self._executor_pid != os.getpid():
                self._executor = ThreadPoolExecutor(
                    max_workers=default_threads() + 4, thread_name_prefix=f"infersdk-{self.name}"
                )
                self._executor_pid = os.getpid()
            return self._executor


_predictors: weakref.WeakSet[Predictor] = weakref.WeakSet()


def _forget_the_parents_threads() -> None:
    """In the child of a fork: their locks would stay taken, and their calls would never end."""
    for predictor in list(_predictors):
        predictor._idle = threading.Condition()
        predictor._in_flight = 0
        for head in predictor._heads.values():
            head.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents_threads)


def _named(function: Callable[[Any], Any], name: str, model: str) -> Callable[[Any], Any]:
    function.__name__ = name
    function.__qualname__ = f"Predictor.{name}"
    function.__doc__ = f"Answer as model `{model}`'s own `{name}` would."
    return function


def _default_name(source: Any) -> str:
    if isinstance(source, (str, os.PathLike)):
        return Path(source).stem
    return "model" if isinstance(source, bytes) else type(source).__name__


def _row_count(rows: Any) -> int:
    """How many rows there seem to be; whether they are rows at all is for the binder to say."""
    if isinstance(rows, Mapping):
        rows = next(iter(rows.values()), None)
    elif isinstance(rows, tuple) and rows and hasattr(rows[0], "shape"):
        rows = rows[0]
    shape = getattr(rows, "shape", None)
    if isinstance(shape, tuple):
        return int(shape[0]) if shape else 1
    return len(rows) if isinstance(rows, (list, tuple)) else 1


def _reopen(conversion: Conversion, execution: Execution) -> Predictor:
    return Predictor(conversion, execution=execution)
