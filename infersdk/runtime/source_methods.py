"""Methods that the source model answers itself, in its own framework.

Most frameworks spend far more on a call than on a row: half a millisecond of checks in scikit-learn, a walk
through Python in a torch module. So concurrent calls share one call of the model here as well, where three
things hold: rows are independent, which is tested at load on the example as it is for graphs
(`row_independence`); the answer can be cut into the calls' own; and it pays, which is measured (`ladder`).
For both, the model is made to look like a session whose only input is the number of a row of the example, and
whose runs take exactly the way of calls in service: rows put together, the model called, its answer cut.

Where calls are not merged, each is answered in its caller's own thread. Calls from asyncio are always queued:
the queue's threads are the ones that they need.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from infersdk._native import FunctionQueue, MeteredCall, ModelMeter
from infersdk.binding import SourceBinder
from infersdk.binding.containers import concatenate, cut, kind
from infersdk.errors import ClosedError, InputError, SessionError
from infersdk.options import Batching, Execution
from infersdk.runtime.calibration import Calibration, calibrate
from infersdk.runtime.row_independence import TOLERANCES, check
from infersdk.runtime.threads import default_threads
from infersdk.runtime.waiting import loop_calls
from infersdk.types import Method, Signature, TensorSpec

if TYPE_CHECKING:
    from infersdk.convert.conversion import Conversion

__all__ = ["SourceMethods"]

_EXAMPLE_ROWS = 64
"""Of the example, to test and measure with; each is made a container of its own."""

_TEST_SHARE = 0.3
"""Of the time at load, at most, for testing the main method, and twice as much for all methods together."""

_AWAITED_ROWS = 256
"""Awaited calls of more rows are bound by the queue's thread: binding takes a microsecond or two a row."""

_NATIVE = "the model runs in its own framework"


class _Ask:
    """Rows that one call asks about."""

    __slots__ = ("n_rows", "rows")

    def __init__(self, rows: Any, n_rows: int) -> None:
        self.rows = rows
        self.n_rows = n_rows


def _answer(conversion: Conversion, method: str, asks: Sequence[_Ask]) -> list[Any]:
    """What the model answers to each, which are of one kind, all in one call of it."""
    if len(asks) == 1:
        return [conversion.call(method, asks[0].rows)]
    answer = conversion.call(method, concatenate([ask.rows for ask in asks], checked=True))
    return cut(answer, [ask.n_rows for ask in asks])


class SourceMethods:
    """The source model behind its methods, called from any number of threads and tasks.

    Parameters
    ----------
    conversion : Conversion
        With the source model.
    methods : sequence of Method
        That it answers; the first is the main one.
    signature : Signature
    name : str
        The model's, in messages.
    execution, batching : Execution, Batching
    meter : ModelMeter
        Counts the runs of the model.
    """

    def __init__(
        self,
        conversion: Conversion,
        methods: Sequence[Method],
        signature: Signature,
        *,
        name: str,
        execution: Execution,
        batching: Batching,
        meter: ModelMeter,
    ) -> None:
        self.calibration = Calibration(reason=_NATIVE)
        self._conversion = conversion
        self._methods = [method.name for method in methods]
        self._signature = signature
        self._name = name
        self._execution = execution
        self._batching = batching
        self._meter = meter
        self._binder = SourceBinder(signature, model=name)
        self._mergeable: frozenset[str] = frozenset()
        self._merging: FunctionQueue | None = None
        self._alone: FunctionQueue | None = None
        self._closed = False
        self._in_flight = 0
        self._idle = threading.Condition()

    # -- calls -----------------------------------------------------------------------------------

    def refusals(self, rows: Any, limit: int) -> list[InputError]:
        """Find every reason why rows do not fit."""
        return self._binder.refusals(rows, limit)

    def caller(self, method: str) -> Callable[..., Any]:
        """The function behind a method: ``call(metered, rows, timeout_s, priority)``."""

        def call(metered: MeteredCall, rows: Any, timeout_s: float | None, priority: int) -> Any:
            with self._idle:
                if self._closed:
                    self._raise_closed()
                self._in_flight += 1
            try:
                bound = self._binder.bind(rows)
                merging = self._merging
                if merging is not None and method in self._mergeable:
                    ask, lane = _described(method, bound)
                    if ask is not None:
                        metered.n_rows = ask.n_rows
                        return merging.call(
                            (method, ask),
                            n_rows=ask.n_rows,
                            lane=lane,
                            timeout_s=timeout_s,
                            priority=priority,
                            metered=metered,
                        )
                return _run_alone(metered, self._conversion, method, bound)
            finally:
                with self._idle:
                    self._in_flight -= 1
                    self._idle.notify_all()

        return call

    def awaiter(self, method: str) -> Callable[..., Awaitable[Any]]:
        """The same for asyncio: ``await acall(metered, rows, timeout_s, priority)``."""

        async def acall(
            metered: MeteredCall, rows: Any, timeout_s: float | None, priority: int
        ) -> Any:
            if self._closed:
                self._raise_closed()
            calls = loop_calls()
            limit_s = self._batching.timeout_s if timeout_s is None else timeout_s
            merging = self._merging
            call = None
            if merging is not None and method in self._mergeable and _is_small(rows):
                ask, lane = _described(method, self._binder.bind(rows))
                if ask is not None:
                    metered.n_rows = ask.n_rows
                    call = merging.start(
                        (method, ask),
                        calls.completions,
                        n_rows=ask.n_rows,
                        lane=lane,
                        timeout_s=timeout_s,
                        priority=priority,
                    )
            part = None
            if call is None:
                part = metered.part()
                call = self._single_calls().start(
                    (method, rows, part), calls.completions, timeout_s=timeout_s, priority=priority
                )
            metered.waits_for(call)
            answer = await calls.wait(call, limit_s, model=self._name)
            if part is not None:
                metered.take(part)
            return answer

        return acall

    def _single_calls(self) -> FunctionQueue:
        """The queue of awaited calls that share nothing: they need only threads."""
        alone = self._alone
        if alone is None:
            conversion, binder = self._conversion, self._binder

            def answer(values: list[tuple[str, Any, MeteredCall]]) -> list[Any]:
                return [
                    _run_alone(part, conversion, method, binder.bind(rows))
                    for method, rows, part in values
                ]

            with self._idle:
                if self._closed:
                    self._raise_closed()
                if self._alone is None:
                    self._alone = self._queue(
                        answer,
                        merge=False,
                        max_batch_size=1,
                        instances=default_threads() + 4,
                        meter_runs=False,  # one by one, as the rows are known in the run only
                    )
                alone = self._alone
        return alone

    def _queue(
        self,
        answer: Callable[[list[Any]], list[Any]],
        *,
        merge: bool,
        max_batch_size: int,
        instances: int,
        meter_runs: bool = True,
    ) -> FunctionQueue:
        return FunctionQueue(
            answer,
            name=self._name,
            max_batch_size=max_batch_size,
            instances=instances,
            max_queue_size=self._batching.max_queue_size,
            timeout_s=self._batching.timeout_s,
            merge=merge,
            meter=self._meter,
            meter_runs=meter_runs,
        )

    # -- preparing -------------------------------------------------------------------------------

    def study(self, example: Any, budget_s: float | None = None) -> Calibration:
        """Decide on some rows whether calls share calls of the model, and from when on.

        Parameters
        ----------
        example : rows or None
            As for the methods themselves.
        budget_s : float, optional
            Seconds, beyond the first call of each method; by default ``execution.calibration_s``.

        Returns
        -------
        Calibration
            Also kept as ``calibration``.

        Raises
        ------
        ClosedError
            The model was closed.
        """
        if self._closed:
            self._raise_closed()
        budget_s = self._execution.calibration_s if budget_s is None else budget_s
        self._mergeable = frozenset()
        if budget_s > 0:
            rows, missing = self._single_rows(example)
        else:
            rows, missing = [], "the test was switched off (Execution.calibration_s is 0)"
        if rows:
            calibration = self._measured(rows, budget_s)
        else:
            calibration = Calibration(reason=f"calls may not share a call of the model: {missing}")
        if self._execution.instances is None:
            # Beyond one, calls would be smaller batches that share the same GIL and the same cores.
            calibration = replace(calibration, instances=1)
        merges = bool(self._mergeable) and calibration.path == "batched"
        self._merging = None
        if merges and calibration.max_batch_size > 1:
            conversion = self._conversion

            def answer(values: list[tuple[str, _Ask]]) -> list[Any]:
                # Of one lane, and so of one method.
                return _answer(conversion, values[0][0], [ask for _, ask in values])

            # Calls that are under way keep the queue that they are in.
            self._merging = self._queue(
                answer,
                merge=True,
                max_batch_size=calibration.max_batch_size,
                instances=calibration.instances,
            )
        self.calibration = replace(calibration, reason=f"{_NATIVE}; {calibration.reason}")
        return self.calibration

    def study_now(self, rows: Any) -> Calibration:
        """Study on rows that came later, if nothing has been studied yet and they are several."""
        from infersdk.convert.rows import count

        if self.calibration.curve or count(self._binder.bind(rows)) < 2:
            return self.calibration
        return self.study(rows, self._execution.calibration_s or 0.2)

    def _measured(self, rows: list[_Ask], budget_s: float) -> Calibration:
        numbers = [np.arange(len(rows))]
        batching = replace(self._batching, pad={})
        mergeable: set[str] = set()
        main, *others = self._methods
        started = time.perf_counter()
        why_not = "batching is switched off"
        if batching.enabled is not False:
            tolerances = _tolerances(rows[0].rows)
            why_not = self._why_not(main, rows, budget_s * _TEST_SHARE, tolerances)
            if not why_not:
                mergeable.add(main)
                # They share what is left.
                ends = started + 2 * budget_s * _TEST_SHARE
                for i, other in enumerate(others):
                    share_s = (ends - time.perf_counter()) / (len(others) - i)
                    if share_s > 0 and not self._why_not(other, rows, share_s, tolerances):
                        mergeable.add(other)
        calibration = calibrate(
            _Measured(self._conversion, main, rows),
            numbers,
            max(budget_s - (time.perf_counter() - started), budget_s * (1 - 2 * _TEST_SHARE)),
            why_not,
            # A function in Python has the GIL, whatever is asked for graphs.
            execution=replace(self._execution, release_gil=None),
            batching=batching,
            mergeable=bool(mergeable),
        )
        self._mergeable = frozenset(mergeable)
        return calibration

    def _why_not(
        self,
        method: str,
        rows: list[_Ask],
        budget_s: float,
        tolerances: Mapping[str, tuple[float, float]],
    ) -> str:
        """Why rows of a method may not be merged; nothing where they may."""
        try:
            runs = _Compared(self._conversion, method, rows)
        except SessionError as error:
            return f"a row of the example is not answered as rows are: {_first_words(error)}"
        verdict = check(runs, [np.arange(len(rows))], budget_s=budget_s, tolerances=tolerances)
        return "" if verdict.mergeable else verdict.reason

    def _single_rows(self, example: Any) -> tuple[list[_Ask], str]:
        """Rows of the example, each as a call brings it; or none, and why."""
        from infersdk.convert.rows import can_split, count, take

        if example is None:
            return [], "nothing was tested, as there was no example; pass example= to load()"
        try:
            bound = self._binder.bind(example)
            n_rows = count(bound)
            kind(bound)
            if n_rows < 1:
                raise ValueError("the example has no rows")
            if not can_split(bound, self._signature):
                return [], "the model does not take rows of the example one by one"
            index = np.linspace(0, n_rows - 1, min(n_rows, _EXAMPLE_ROWS)).astype(np.int64)
            rows = [_Ask(_fresh(take(bound, np.array([i]))), 1) for i in index]
        except (InputError, TypeError, ValueError, IndexError, KeyError, StopIteration) as error:
            return [], _first_words(error)
        return rows, ""

    def warm_up(self, rows: Any) -> None:
        """Have the main method answered once, by nobody's call."""
        if self._closed:
            self._raise_closed()
        self._conversion.call(self._methods[0], self._binder.bind(rows))

    # -- the rest --------------------------------------------------------------------------------

    def queue_stats(self) -> list[dict[str, int]]:
        """Of each queue there is."""
        return [queue.stats() for queue in (self._merging, self._alone) if queue is not None]

    def close(self) -> None:
        """Let the calls that are under way finish. Calling it again does nothing."""
        with self._idle:
            self._closed = True
            while self._in_flight > 0:
                self._idle.wait()
        for queue in (self._merging, self._alone):
            if queue is not None:
                queue.close()

    def forget_the_parents_calls(self) -> None:
        """In the child of a fork: their lock would stay taken, and they would never end."""
        self._idle = threading.Condition()
        self._in_flight = 0

    def _raise_closed(self) -> None:
        raise ClosedError(f"Model `{self._name}` is closed; load it again to use it")


def _run_alone(metered: MeteredCall, conversion: Conversion, method: str, bound: Any) -> Any:
    """A run of the model for one call alone."""
    n_rows = _counted(bound)
    metered.n_rows = n_rows
    return metered.run(conversion.call, method, bound, n_rows)


def _counted(bound: Any) -> int:
    from infersdk.convert.rows import count

    try:
        return count(bound)
    except (TypeError, ValueError, IndexError, StopIteration):
        return 1  # of a kind that has no rows


def _described(method: str, bound: Any) -> tuple[_Ask | None, Any]:
    """The rows for the queue and their lane; None where they can only be answered alone."""
    from infersdk.convert.rows import count

    try:
        n_rows = count(bound)
        return (_Ask(bound, n_rows), (method, kind(bound))) if n_rows else (None, None)
    except (TypeError, ValueError, IndexError, StopIteration):
        return None, None


def _is_small(rows: Any) -> bool:
    if isinstance(rows, Mapping):
        rows = next(iter(rows.values()), None)
    elif isinstance(rows, tuple) and rows:
        rows = rows[0]
    if isinstance(rows, str):
        return True
    shape = getattr(rows, "shape", None)
    n_rows = (
        shape[0]
        if isinstance(shape, tuple) and shape
        else len(rows)
        if hasattr(rows, "__len__")
        else 1
    )
    return bool(n_rows <= _AWAITED_ROWS)


# -- the model as a session ----------------------------------------------------------------------


class _Measured:
    """The model over numbers of example rows: each of them one call, all answered in one."""

    inputs = (TensorSpec("row", "int64", ("rows",)),)
    outputs: tuple[TensorSpec, ...] = ()

    def __init__(self, conversion: Conversion, method: str, rows: Sequence[_Ask]) -> None:
        self._answer = partial(_answer, conversion, method)
        self._rows = rows

    def run_ordered(self, inputs: list[Any], /) -> list[Any]:
        self._answers(inputs)
        return []

    def set_cost(self, size_bytes: int, run_s: float) -> None:
        """The queue learns its own costs."""

    def _answers(self, inputs: list[Any]) -> list[Any]:
        try:
            return self._answer([self._rows[number] for number in inputs[0].tolist()])
        except Exception as error:
            raise SessionError(_first_words(error)) from error


class _Compared(_Measured):
    """The same with the answers as arrays of one row each, to be compared."""

    def __init__(self, conversion: Conversion, method: str, rows: Sequence[_Ask]) -> None:
        super().__init__(conversion, method, rows)
        # What an answer is made of is told by the first.
        (answer,) = self._answers([np.zeros(1, np.int64)])
        self._form, arrays = _taken_apart(answer)
        self.outputs = tuple(
            TensorSpec(where, dtype, ("rows", *(None for _ in array.shape[1:])))
            for where, dtype, array in arrays
        )

    def run_ordered(self, inputs: list[Any], /) -> list[Any]:
        answers = []
        for answer in self._answers(inputs):
            form, arrays = _taken_apart(answer)
            if form != self._form:
                raise SessionError(f"its answers take several forms: {self._form} and {form}")
            answers.append([array for _, _, array in arrays])
        try:
            return [np.concatenate(parts) for parts in zip(*answers, strict=True)]
        except ValueError as error:
            raise SessionError("its answers have several shapes") from error


def _taken_apart(answer: Any) -> tuple[Any, list[tuple[str, str, Any]]]:
    """What the answer to one row is made of, and its arrays: place, dtype and values of each."""
    form: list[Any] = []
    arrays: list[tuple[str, str, Any]] = []

    def visit(value: Any, where: str) -> None:
        if isinstance(value, Mapping) and value:
            form.append((where, type(value)))
            for key, part in value.items():
                visit(part, f"{where}[{key!r}]")
        elif (isinstance(value, tuple) and value) or (
            isinstance(value, list) and any(hasattr(item, "shape") for item in value)
        ):
            form.append((where, type(value), len(value)))
            for i, part in enumerate(value):
                visit(part, f"{where}[{i}]")
        else:
            dtype, array = _row(value)
            form.append((where, type(value), getattr(value, "name", None), _dtypes(value)))
            arrays.append((where or "answer", dtype, array))

    visit(answer, "")
    return form, arrays


def _row(value: Any) -> tuple[str, Any]:
    """An array of one row with the same content, and the dtype that says how closely to compare."""
    if hasattr(value, "tocsr"):
        row = value.tocsr()
        row.sum_duplicates()
        value = [(row.shape, row.indices.tobytes(), row.data.tobytes())]
    if isinstance(value, list):
        array = np.empty(len(value), object)
        array[:] = [repr(item) for item in value]
    elif hasattr(value, "detach"):
        tensor = value.detach().cpu()
        dtype = str(tensor.dtype).removeprefix("torch.")
        return dtype, (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    else:
        array = np.asarray(value)
    if array.ndim == 0 or len(array) != 1:
        raise SessionError(f"its answer to one row has shape {array.shape}")
    if array.dtype.kind not in "biufc":
        array = array.astype(object)
    return "string" if array.dtype == object else array.dtype.name, array


def _dtypes(value: Any) -> Any:
    if hasattr(value, "columns"):
        return tuple(value.columns), tuple(map(str, value.dtypes))
    dtype = getattr(value, "dtype", None)
    # How long the longest text is says nothing.
    return dtype.kind if isinstance(dtype, np.dtype) and dtype.kind in "SU" else str(dtype)


def _tolerances(container: Any) -> Mapping[str, tuple[float, float]]:
    """For answers, where all rows come in a coarser dtype than float64: that one's."""
    found: set[str] = set()

    def visit(value: Any) -> None:
        if isinstance(value, (tuple, dict)):
            for part in value.values() if isinstance(value, dict) else value:
                visit(part)
        elif hasattr(value, "columns"):
            found.update(str(dtype) for dtype in value.dtypes)
        else:
            found.add(str(getattr(value, "dtype", "")).removeprefix("torch."))

    visit(container)
    coarsest = max((TOLERANCES[dtype] for dtype in found & set(TOLERANCES)), default=(0.0, 0.0))
    return {dtype: max(allowed, coarsest) for dtype, allowed in TOLERANCES.items()}


def _fresh(container: Any) -> Any:
    """With the index that rows have that an app brings."""
    return container.reset_index(drop=True) if hasattr(container, "iloc") else container


def _first_words(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
