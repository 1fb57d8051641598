"""FakePredictor: a Predictor whose model is a script.

It is the real thing but for the model: rows are bound and refused by the real binder, calls wait in the real
queue, share runs, have deadlines and priorities, and are awaited as ever. What would be asked of a framework is
asked of a :class:`Script`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from infersdk._native import MeteredCall
from infersdk.binding import SourceBinder
from infersdk.binding.containers import concatenate, cut
from infersdk.convert.conversion import Conversion
from infersdk.errors import ClosedError
from infersdk.options import Batching, Execution
from infersdk.runtime import Calibration, Predictor
from infersdk.runtime.source_methods import SourceMethods
from infersdk.testing.clock import held_clock
from infersdk.testing.script import Answers, AnyRows, Faults, Latency, rows_of
from infersdk.types import Field, Method, Plan, Signature

__all__ = ["FakeCall", "FakePredictor", "FakeRun"]

_METHODS = frozenset(
    {
        "__call__",
        "decision_function",
        "predict",
        "predict_log_proba",
        "predict_proba",
        "score_samples",
        "transform",
    }
)

_UNCHANGED: Any = object()
_MAX_BATCH_ROWS = 32


@dataclass(slots=True)
class FakeCall:
    """One call that the app made.

    Attributes
    ----------
    method : str
    rows : list
        What the model would see: dicts by field with their values as bound, or texts. As they were given
        where the binder refused them.
    timeout_s : float or None
    priority : int
    thread : str
        The caller's.
    task : str or None
        Of asyncio, for a call that was awaited.
    answer : object
        None while there is none.
    error : BaseException or None
    """

    method: str
    rows: list[Any]
    timeout_s: float | None
    priority: int
    thread: str
    task: str | None
    answer: Any = None
    error: BaseException | None = None

    @property
    def n_rows(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class FakeRun:
    """One run of the model: the rows of one call, or of several that shared it."""

    method: str
    rows: list[Any]
    thread: str

    @property
    def n_rows(self) -> int:
        return len(self.rows)


class Script:
    """The model behind a fake: what it answers, and what it was asked."""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature
        self.answers: dict[str, Answers] = {}
        self.faults = Faults(None)
        self.latency = Latency(0.0)
        self.calls: list[FakeCall] = []
        self.runs: list[FakeRun] = []
        self.closed = threading.Event()
        self._n_calls = 0
        self._lock = threading.Lock()

    def rows(self, bound: Any) -> list[Any]:
        return rows_of(self.signature, bound)

    def noted(self, call: FakeCall) -> int:
        """Keep a call, and give its number."""
        with self._lock:
            self.calls.append(call)
            self._n_calls += 1
            return self._n_calls

    def run(self, method: str, bound: Any) -> Any:
        """Answer the rows of one run, after its time."""
        rows = self.rows(bound)
        self.runs.append(FakeRun(method, rows, threading.current_thread().name))
        seconds = self.latency.of_run(rows)
        clock = held_clock()
        if seconds > 0 and clock is not None:
            clock.sleep(seconds, unless=self.closed.is_set)
        elif seconds > 0:
            self.closed.wait(seconds)
        self.faults.raise_for(rows)
        return self.answers[method].give(rows)

    def close(self) -> None:
        """Let runs end that wait for their time."""
        self.closed.set()
        clock = held_clock()
        if clock is not None:
            clock.wake()

    def renew_lock(self) -> None:
        self._lock = threading.Lock()


class _Framework:
    """The converter of scripts: the one function of it that is ever used."""

    FRAMEWORK = "infersdk.testing"
    EXTRA = "web"

    def call(self, model: Script, method: str, rows: Any) -> Any:
        return model.run(method, rows)


class _Occupied(Exception):  # noqa: N818 - nobody ever sees it
    """A run that somebody else's call takes. It ends by failing, so that nobody learns from it what runs cost."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.may_end = threading.Event()


class _ScriptedMethods(SourceMethods):
    """Source methods that are noted, and share runs as they are told to instead of by measurement."""

    def __init__(self, conversion: Conversion, *arguments: Any, **named: Any) -> None:
        super().__init__(conversion, *arguments, **named)
        self._script: Script = conversion.source
        if not (self._signature.fields or self._signature.inputs or self._takes_text):
            self._binder = cast(SourceBinder, AnyRows())

    @property
    def _takes_text(self) -> bool:
        return self._signature.container == "text"

    def caller(self, method: str) -> Callable[..., Any]:
        ask = super().caller(method)

        def call(metered: MeteredCall, rows: Any, timeout_s: float | None, priority: int) -> Any:
            with self._noted(method, rows, timeout_s, priority, None) as noted:
                noted.answer = ask(metered, rows, timeout_s, priority)
                return noted.answer

        return call

    def awaiter(self, method: str) -> Callable[..., Awaitable[Any]]:
        ask = super().awaiter(method)

        async def acall(
            metered: MeteredCall, rows: Any, timeout_s: float | None, priority: int
        ) -> Any:
            task = asyncio.current_task()
            name = None if task is None else task.get_name()
            with self._noted(method, rows, timeout_s, priority, name) as noted:
                noted.answer = await ask(metered, rows, timeout_s, priority)
                return noted.answer

        return acall

    @contextmanager
    def _noted(
        self, method: str, rows: Any, timeout_s: float | None, priority: int, task: str | None
    ) -> Iterator[FakeCall]:
        thread = threading.current_thread().name
        noted = FakeCall(method, [rows], timeout_s, priority, thread, task)
        number = self._script.noted(noted)
        try:
            if not self._closed:
                noted.rows = self._script.rows(self._binder.bind(rows))
                fault = self._script.faults.of_call(number)
                if fault is not None:
                    raise fault
            yield noted
        except BaseException as error:
            noted.error = error
            raise

    def study(self, example: Any, budget_s: float | None = None) -> Calibration:
        if self._closed:
            self._raise_closed()
        batching, instances = self._batching, self._execution.instances or 1
        if batching.enabled is False:
            self.calibration = Calibration(reason="batching is switched off")
            return self.calibration
        size = batching.max_batch_size or _MAX_BATCH_ROWS
        if self._merging is None:
            self._mergeable = frozenset(self._methods)
            self._merging = self._queue(
                self._answer, merge=True, max_batch_size=size, instances=instances
            )
        self.calibration = Calibration(
            path="batched",
            max_batch_size=size,
            instances=instances,
            mergeable=True,
            reason="a fake is told to",
        )
        return self.calibration

    def study_now(self, rows: Any) -> Calibration:
        return self.calibration

    def _answer(self, values: list[Any]) -> list[Any]:
        if isinstance(values[0], _Occupied):
            values[0].began.set()
            while not (values[0].may_end.wait(0.05) or self._script.closed.is_set()):
                pass
            raise values[0]
        method, asks = values[0][0], [ask for _, ask in values]
        if len(asks) == 1:
            return [self._conversion.call(method, asks[0].rows)]
        answer = self._conversion.call(
            method, concatenate([ask.rows for ask in asks], checked=True)
        )
        return cut(answer, [ask.n_rows for ask in asks])

    @contextmanager
    def occupied(self) -> Iterator[None]:
        queue = self._merging
        if queue is None:
            raise RuntimeError(
                f"The calls of `{self._name}` never wait for each other, as its batching is off"
            )
        runs = [_Occupied() for _ in range(self._execution.instances or 1)]

        def occupy(run: _Occupied, lane: int) -> None:
            with suppress(_Occupied, ClosedError):
                queue.call(run, lane=("occupied", lane))

        threads = [
            threading.Thread(target=occupy, args=(run, i), daemon=True)
            for i, run in enumerate(runs)
        ]
        for thread in threads:
            thread.start()
        try:
            for run in runs:
                if not run.began.wait(10):
                    raise TimeoutError(f"The calls under way of `{self._name}` do not end")
            yield
        finally:
            for run in runs:
                run.may_end.set()
            for thread in threads:
                thread.join(10)

    def close(self) -> None:
        self._script.close()
        super().close()

    def forget_the_parents_calls(self) -> None:
        super().forget_the_parents_calls()
        self._script.renew_lock()


class FakePredictor(Predictor):
    """A Predictor that answers what a test tells it to. No model file, no framework, no ONNX Runtime.

    It checks rows, queues, batches, waits and refuses as any Predictor does; only the model is a script.
    The fixture ``fake_predictor`` makes them and closes them after the test. Runs happen one at a time
    unless ``instances`` says otherwise, so that concurrent calls meet a busy model.

    Parameters
    ----------
    answers : object, optional
        Of every row the answer; a list: one for each row, in turn; a mapping by row: its key is the row's
        only value or the tuple of its values, ``...`` for all others; or a function of the list of rows,
        which are dicts or texts. A dict whose keys are methods has one of these for each. By default 0
        for ``predict`` and (0.5, 0.5) for ``predict_proba``.
    name : str
        In messages.
    fields : sequence of str, mapping or sequence of Field, optional
        The columns of a row. Names alone are of numbers; a mapping gives each a dtype, "float", "int",
        "bool" or "string", or Python's type. By default rows of any kind are taken.
    signature : Signature or Predictor, optional
        Instead of fields: that of the model that this one stands for, with its methods.
    methods : sequence of str, optional
        By default those of `answers`, or ``predict`` and ``predict_proba``.
    latency_s : float, sequence of float or callable
        Seconds that a run takes; of each run in turn; or a function of its rows. They pass on the clock
        of the fixture ``infersdk_clock`` where a test holds it, and really otherwise.
    faults : object, optional
        An exception for every call; a list or mapping of exceptions by number of call, from 1 in a
        mapping; or a function of a row that gives an exception or None.
    batching : Batching, optional
    instances : int
        Runs that may be under way at once.

    Attributes
    ----------
    calls : list of FakeCall
        What the app asked for, in order.
    runs : list of FakeRun
        What the model did for it: calls that came together share a run.

    Examples
    --------
    >>> from infersdk.testing import FakePredictor
    >>> churn = FakePredictor({"Oslo": "stays", ...: "leaves"}, fields={"city": str})
    >>> churn.predict([{"city": "Oslo"}, {"city": "Rome"}]).tolist()
    ['stays', 'leaves']
    >>> churn.calls[0].rows
    [{'city': 'Oslo'}, {'city': 'Rome'}]
    """

    def __init__(
        self,
        answers: Any = None,
        *,
        name: str = "fake",
        fields: Sequence[str] | Mapping[str, Any] | Sequence[Field] | None = None,
        signature: Signature | Predictor | None = None,
        methods: Sequence[str] | None = None,
        latency_s: float | Sequence[float] | Callable[[list[Any]], float] = 0.0,
        faults: Any = None,
        batching: Batching | None = None,
        instances: int = 1,
    ) -> None:
        if isinstance(methods, str):
            methods = (methods,)
        if isinstance(signature, Predictor):
            signature = signature.signature
        if signature is not None:
            if fields is not None:
                raise ValueError("Expected fields or a signature, got both")
            described = _without_graph(signature, methods)
        else:
            described = _signature(fields, methods or _methods_of(answers))
        script = Script(described)
        self._told = {
            "answers": answers,
            "name": name,
            "fields": fields,
            "signature": signature,
            "methods": methods,
            "latency_s": latency_s,
            "faults": faults,
            "batching": batching,
            "instances": instances,
        }
        self._script = script
        self.script(answers, latency_s=latency_s, faults=faults)
        super().__init__(
            Conversion(
                Plan("native", "a fake, whose answers are scripted"),
                described,
                None,
                None,
                script,
                cast(Any, _Framework()),
                name,
            ),
            execution=Execution(instances=instances, calibration_s=0),
            batching=batching,
        )

    def script(
        self, answers: Any = _UNCHANGED, *, latency_s: Any = _UNCHANGED, faults: Any = _UNCHANGED
    ) -> None:
        """Change what it does from now on; what is left out stays as it is.

        Parameters
        ----------
        answers, latency_s, faults
            As for the class.
        """
        script = self._script
        names = [method.name for method in script.signature.methods]
        if answers is not _UNCHANGED:
            by_method = answers if _are_by_method(answers) else {names[0]: answers}
            unknown = [name for name in by_method if name not in names]
            if unknown:
                raise ValueError(
                    f"Expected answers of the methods {', '.join(names)}, got some of {', '.join(unknown)}"
                )
            script.answers = {name: Answers(name, by_method.get(name)) for name in names}
        if latency_s is not _UNCHANGED:
            script.latency = Latency(latency_s)
        if faults is not _UNCHANGED:
            script.faults = Faults(faults)

    @property
    def calls(self) -> list[FakeCall]:
        return self._script.calls

    @property
    def runs(self) -> list[FakeRun]:
        return self._script.runs

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Keep the model busy meanwhile, as if it answered somebody else: calls wait in the queue.

        Raises
        ------
        RuntimeError
            Calls never wait, as ``Batching(enabled=False)`` was given.
        """
        assert isinstance(self._source, _ScriptedMethods)
        with self._source.occupied():
            yield

    def wait_for_queued(self, n_rows: int = 1, *, timeout_s: float = 10.0) -> None:
        """Wait, in real time, until that many rows are in the queue.

        Raises
        ------
        TimeoutError
            They are fewer after `timeout_s` real seconds.
        """
        ends = time.monotonic() + timeout_s
        while (waiting := self.queue_stats().get("queued_rows", 0)) < n_rows:
            if time.monotonic() > ends:
                raise TimeoutError(
                    f"Expected {n_rows} rows to wait for `{self.name}`, got {waiting} after {timeout_s:g} s"
                )
            time.sleep(0.001)

    def warm_up(self, rows: Any = None) -> Calibration:
        """Do nothing: a fake is always warm, and this is no call of the app's."""
        if self._closed:
            self._raise_closed()
        return self.calibration

    def _prepare_source(
        self, conversion: Conversion, methods: Sequence[Method]
    ) -> _ScriptedMethods:
        source = _ScriptedMethods(
            conversion,
            methods,
            self.signature,
            name=self.name,
            execution=self.execution,
            batching=self.batching,
            meter=self._meters.runs,
        )
        self._source = source
        for method in methods:
            call, acall = self._metered(method.name, source)
            call.__name__, call.__qualname__ = method.name, f"FakePredictor.{method.name}"
            self._methods[method.name] = call
            self._awaited[method.name] = acall
        return source

    def __reduce__(self) -> tuple[Any, ...]:
        if self._closed:
            self._raise_closed()
        return _made_again, (self._told,)


def _made_again(told: dict[str, Any]) -> FakePredictor:
    return FakePredictor(**told)


def _are_by_method(answers: Any) -> bool:
    return (
        isinstance(answers, Mapping) and bool(answers) and all(key in _METHODS for key in answers)
    )


def _methods_of(answers: Any) -> Sequence[str]:
    return tuple(answers) if _are_by_method(answers) else ("predict", "predict_proba")


def _signature(fields: Any, methods: Sequence[str]) -> Signature:
    described = _fields(fields)
    return Signature(
        (),
        (),
        tuple(Method(name, ()) for name in methods),
        described,
        "array" if described else "dicts",
    )


def _fields(fields: Any) -> tuple[Field, ...]:
    if fields is None:
        return ()
    if isinstance(fields, Mapping):
        given = [Field(name, _dtype(name, kind), "row") for name, kind in fields.items()]
    else:
        if isinstance(fields, str):
            fields = (fields,)
        given = [
            item if isinstance(item, Field) else Field(item, "float", "row") for item in fields
        ]
    return tuple(replace(item, input="row", column=i) for i, item in enumerate(given))


_Dtype = Literal["float", "int", "bool", "string"]
_DTYPES: dict[Any, _Dtype] = {
    "float": "float",
    "int": "int",
    "bool": "bool",
    "string": "string",
    float: "float",
    int: "int",
    bool: "bool",
    str: "string",
}


def _dtype(name: str, kind: Any) -> _Dtype:
    try:
        return _DTYPES[kind]
    except (KeyError, TypeError):
        raise ValueError(
            f"Expected field `{name}` to be float, int, bool or string, got {kind!r}"
        ) from None


def _without_graph(signature: Signature, methods: Sequence[str] | None) -> Signature:
    """What of a model's signature its users see."""
    known = {method.name: method for method in signature.methods}
    unknown = [name for name in methods or () if name not in known]
    if unknown:
        raise ValueError(
            f"The model has no method {', '.join(unknown)}; it has: {', '.join(known) or 'none'}"
        )
    container = signature.container
    return replace(
        signature,
        inputs=signature.inputs if container == "tensors" else (),
        methods=tuple(known[name] for name in methods or known),
        # A DataFrame would need pandas, which nobody needs for a fake.
        container="array" if container == "dataframe" else container,
        steps=(),
    )
