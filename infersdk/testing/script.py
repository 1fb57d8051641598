"""What a fake model is told to do: which answers it gives, how long it takes, when it fails."""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from infersdk.binding.foreign import is_frame, is_series
from infersdk.errors import InputError
from infersdk.types import Signature

__all__ = ["Answers", "AnyRows", "Faults", "Latency", "rows_of"]

_DEFAULTS: dict[str, Any] = {
    "predict": 0,
    "predict_proba": (0.5, 0.5),
    "predict_log_proba": (-0.6931471805599453, -0.6931471805599453),
}


class AnyRows:
    """Takes any rows, for a fake that is told nothing of its fields. As a SourceBinder."""

    def bind(self, rows: Any) -> list[Any]:
        """Give rows as a list: dicts, texts, lists or arrays, as they came."""
        if is_frame(rows):
            records: list[Any] = rows.to_dict("records")
            return records
        if is_series(rows):
            return [rows.to_dict()]
        if isinstance(rows, np.ndarray):
            return list(rows) if rows.ndim > 1 else [rows]
        if isinstance(rows, (list, tuple)):
            nested = all(
                isinstance(row, (Mapping, str, bytes, list, tuple, np.ndarray)) for row in rows
            )
            return list(rows) if nested else [rows]
        if hasattr(rows, "shape") and len(rows.shape) > 1:
            return list(rows)
        return [rows]

    def refusals(self, rows: Any, limit: int) -> list[InputError]:
        """Nothing is ever refused."""
        return []


def rows_of(signature: Signature, bound: Any) -> list[Any]:
    """What a model's container holds, as a list of rows: dicts by field or input, or texts."""
    if isinstance(bound, list):
        return bound
    if isinstance(bound, Mapping):
        n_rows = len(next(iter(bound.values()))) if bound else 0
        return [{name: value[i] for name, value in bound.items()} for i in range(n_rows)]
    columns = []
    for position, field in enumerate(signature.fields):
        values = bound[:, position].tolist()
        kind: Callable[[Any], Any] = {"int": int, "bool": bool}.get(
            field.dtype, lambda value: value
        )
        columns.append([None if value != value else kind(value) for value in values])
    names = [field.name for field in signature.fields]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


class Answers:
    """The scripted answers of one method.

    Parameters
    ----------
    method : str
    script : object
        A callable is called with the list of rows of a run and returns an answer for each. A list gives
        an answer to each row in turn. A mapping is looked up by row: its key is the row's only value, or
        the tuple of its values in order; ``...`` is the key of everything else. Anything else, a tuple
        and an array included, is the answer to every row. None: a neutral one.
    """

    def __init__(self, method: str, script: Any) -> None:
        self._method = method
        self._script = _DEFAULTS.get(method, 0.0) if script is None else script
        self._n_given = 0
        self._lock = threading.Lock()

    def give(self, rows: list[Any]) -> Any:
        """Answer the rows of one run.

        Raises
        ------
        AssertionError
            The script has no answer to a row.
        """
        script = self._script
        if callable(script):
            return _put_together(script(rows), len(rows), self._method)
        if isinstance(script, list):
            with self._lock:
                first, self._n_given = self._n_given, self._n_given + len(rows)
            if first + len(rows) > len(script):
                raise AssertionError(
                    f"The fake was given {len(script)} answers for `{self._method}` and is asked for "
                    f"number {max(first, len(script)) + 1}; give it more, or one that holds for every row"
                )
            answers = script[first : first + len(rows)]
        elif isinstance(script, Mapping):
            answers = [self._look_up(script, row) for row in rows]
        else:
            answers = [script] * len(rows)
        return _put_together(answers, len(rows), self._method)

    def _look_up(self, script: Mapping[Any, Any], row: Any) -> Any:
        key = _key(row)
        try:
            if key in script:
                return script[key]
        except TypeError:
            pass  # not hashable, so in no mapping
        if ... in script:
            return script[...]
        raise AssertionError(
            f"The fake has no answer for `{self._method}` to {row!r}: {key!r} is none of the keys of its "
            "answers. Add it, or the key ... for everything else"
        )


def _key(row: Any) -> Hashable:
    if isinstance(row, Mapping):
        values = tuple(row.values())
    elif isinstance(row, (list, tuple, np.ndarray)):
        values = tuple(row)
    else:
        return row
    return values[0] if len(values) == 1 else values


def _put_together(answers: Any, n_rows: int, method: str) -> Any:
    """One answer for each row, as the array that a model would give."""
    if isinstance(answers, Mapping) or (isinstance(answers, tuple) and _are_arrays(answers)):
        return answers  # of several parts, each for all rows
    if (
        not hasattr(answers, "__len__")
        or isinstance(answers, (str, bytes))
        or len(answers) != n_rows
    ):
        given = f"{len(answers)} answers" if hasattr(answers, "__len__") else repr(answers)
        raise AssertionError(
            f"The script of `{method}` must give an answer for each of {n_rows} rows, got {given}"
        )
    if hasattr(answers, "shape"):
        return answers
    first = answers[0] if len(answers) else None
    if isinstance(first, Mapping):
        return {key: np.asarray([answer[key] for answer in answers]) for key in first}
    try:
        return np.asarray(answers)
    except ValueError:  # of several lengths
        array = np.empty(len(answers), object)
        array[:] = answers
        return array


def _are_arrays(values: tuple[Any, ...]) -> bool:
    return bool(values) and all(getattr(value, "shape", ()) for value in values)


class Faults:
    """When a fake fails.

    Parameters
    ----------
    script : object
        An exception, or its class: every call raises it. A list holds for each call, in order, an
        exception or None, and nothing for calls beyond its end. A mapping has the number of a call, from
        1, as its key. A callable is asked about each row and gives an exception or None; of calls that
        share a run, only those with such a row fail. None: never.
    """

    def __init__(self, script: Any) -> None:
        known = (
            script is None
            or _is_error(script)
            or isinstance(script, (Mapping, Sequence))
            or callable(script)
        )
        if not known or isinstance(script, str):
            raise TypeError(
                "Expected faults to be an exception, a list or mapping of exceptions by call, or a function "
                f"of a row, got {script!r}"
            )
        self._script = script

    def of_call(self, number: int) -> BaseException | None:
        """The fault of the call of that number, from 1."""
        script = self._script
        if _is_error(script):
            return _fresh(script)
        if isinstance(script, Mapping):
            return _fresh(script.get(number))
        if isinstance(script, Sequence):
            return _fresh(script[number - 1] if number <= len(script) else None)
        return None

    def raise_for(self, rows: list[Any]) -> None:
        """Raise the fault of the first of these rows that has one."""
        if callable(self._script) and not _is_error(self._script):
            for row in rows:
                fault = _fresh(self._script(row))
                if fault is not None:
                    raise fault


def _is_error(value: Any) -> bool:
    return isinstance(value, BaseException) or (
        inspect.isclass(value) and issubclass(value, BaseException)
    )


def _fresh(error: Any) -> BaseException | None:
    """A copy: an exception that is raised in several threads at once would mix up their tracebacks."""
    if error is None:
        return None
    if isinstance(error, BaseException):
        return copy.copy(error).with_traceback(None)
    if not _is_error(error):
        raise TypeError(f"Expected a fault to be an exception or None, got {error!r}")
    made: BaseException = error("a fault that the test asked for")
    return made


class Latency:
    """How long runs take: seconds, a list of seconds by run, or a function of a run's rows."""

    def __init__(self, script: Any) -> None:
        self._script = script
        self._n_runs = 0
        self._lock = threading.Lock()

    def of_run(self, rows: list[Any]) -> float:
        """Seconds that the next run takes; the last of a list holds for all that follow."""
        script = self._script
        if callable(script):
            return float(script(rows))
        if isinstance(script, Sequence):
            with self._lock:
                position = min(self._n_runs, len(script) - 1)
                self._n_runs += 1
            return float(script[position]) if len(script) else 0.0
        return float(script)
