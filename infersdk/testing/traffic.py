"""Recording what an app asks of a Predictor, and asking it again later: a regression test from real calls.

A recording is a file of JSON lines, one for each call, after one that describes the file. Arrays are kept bit by
bit; nothing is pickled, and reading a file runs no code of its own. A recorded Predictor is a twin that shares the
sessions of the one it was made of: that one is not changed.
"""

from __future__ import annotations

import base64
import json
import math
import os
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersdk.binding.foreign import is_frame, is_series, is_tensor, tensor_to_array
from infersdk.convert.parity import TOLERANCE
from infersdk.runtime import Predictor
from infersdk.testing.parity import differences

__all__ = ["RecordedPredictor", "TrafficReport", "record_traffic", "replay_traffic"]

_VERSION = 1
_MAX_BYTES = 64 * 2**20
_SHOWN = 10


class RecordedPredictor(Predictor):
    """A Predictor's twin that writes down its calls. Made by :func:`record_traffic`.

    Attributes
    ----------
    path : str
        The recording.
    n_calls : int
        Calls that are in it.
    n_left_out : int
        Calls that are not: the file would have become too large, or they hold what JSON lines cannot.
    """

    def __init__(self, predictor: Predictor, path: str, max_bytes: int) -> None:
        # Everything but the methods is shared: sessions, queues, what was measured.
        self.__dict__.update(predictor.__dict__)
        self._original = predictor
        self.path = path
        self.n_calls = 0
        self.n_left_out = 0
        self._left_bytes = max_bytes
        self._lock = threading.Lock()
        self._file = open(path, "w", encoding="utf-8")  # noqa: SIM115 - closed by finish()
        self._write({"infersdk_traffic": _VERSION, "model": predictor.name})
        self._methods = {
            name: self._recorded(name, call) for name, call in predictor._methods.items()
        }
        self._awaited = {
            name: self._recorded_later(name, call) for name, call in predictor._awaited.items()
        }
        self._first = next(iter(self._methods.values()), None)
        self.__dict__.update(
            {name: call for name, call in self._methods.items() if name != "__call__"}
        )

    def finish(self) -> None:
        """Close the file; the twin goes on answering. Calling it again does nothing."""
        with self._lock:
            self._file.close()

    def __exit__(self, *error: object) -> None:
        self.finish()

    def __reduce__(self) -> tuple[Any, ...]:
        return self._original.__reduce__()

    def _recorded(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(rows: Any, timeout_s: float | None = None, priority: int = 0) -> Any:
            try:
                answer = call(rows, timeout_s, priority)
            except Exception as error:
                self._note(name, rows, error=error)
                raise
            self._note(name, rows, answer)
            return answer

        return recorded

    def _recorded_later(
        self, name: str, call: Callable[..., Awaitable[Any]]
    ) -> Callable[..., Awaitable[Any]]:
        async def recorded(rows: Any, timeout_s: float | None = None, priority: int = 0) -> Any:
            try:
                answer = await call(rows, timeout_s, priority)
            except Exception as error:
                self._note(name, rows, error=error)
                raise
            self._note(name, rows, answer)
            return answer

        return recorded

    def _note(
        self, method: str, rows: Any, answer: Any = None, error: Exception | None = None
    ) -> None:
        entry: dict[str, Any] = {"method": method}
        try:
            entry["rows"] = to_json(rows)
            if error is None:
                entry["answer"] = to_json(answer)
            else:
                entry["error"] = {"type": type(error).__name__, "message": str(error)}
        except TypeError:
            self.n_left_out += 1
            return
        self._write(entry)

    def _write(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n"
        size = len(line.encode("utf-8", "surrogatepass"))
        with self._lock:
            is_call = "method" in entry
            if self._file.closed:
                return
            if size > self._left_bytes:
                self.n_left_out += is_call
                return
            self._left_bytes -= size
            self._file.write(line)
            self._file.flush()
            self.n_calls += is_call


def record_traffic(
    predictor: Predictor, path: str | os.PathLike[str], *, max_bytes: int = _MAX_BYTES
) -> RecordedPredictor:
    """Make a twin of a Predictor that records its calls.

    Parameters
    ----------
    predictor : Predictor
    path : path
        Of the recording; a file that is there is replaced.
    max_bytes : int
        What does not fit is left out and counted.

    Returns
    -------
    RecordedPredictor
        Also a context manager, which closes the file and not the model.
    """
    return RecordedPredictor(predictor, os.fspath(path), max_bytes)


@dataclass(frozen=True, slots=True)
class TrafficReport:
    """What became of recorded calls when they were made again.

    Attributes
    ----------
    n_calls : int
        That were made.
    differences : tuple of str
        One text for each call that is answered differently.
    """

    n_calls: int
    differences: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.differences

    def __str__(self) -> str:
        if self.passed:
            return f"all of {self.n_calls} recorded calls are answered as before"
        lines = [
            f"{len(self.differences)} of {self.n_calls} recorded calls are answered differently:"
        ]
        lines += self.differences[:_SHOWN]
        if len(self.differences) > _SHOWN:
            lines.append(f"and {len(self.differences) - _SHOWN} calls more")
        return "\n".join(lines)


def replay_traffic(
    path: str | os.PathLike[str],
    predictor: Predictor,
    *,
    rtol: float = TOLERANCE[0],
    atol: float = TOLERANCE[1],
) -> TrafficReport:
    """Make recorded calls again, one after the other, and compare the answers.

    A call that raised must raise an error of the same class.

    Parameters
    ----------
    path : path
        A recording.
    predictor : Predictor
    rtol, atol : float
        As for ``assert_parity``.

    Returns
    -------
    TrafficReport

    Raises
    ------
    ValueError
        The file is no recording.
    """
    problems = [
        (number, _compared(entry, predictor, rtol, atol)) for number, entry in _entries(path)
    ]
    found = (f"line {number}: {problem}" for number, problem in problems if problem)
    return TrafficReport(len(problems), tuple(found))


def _entries(path: str | os.PathLike[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                entry = json.loads(line)
                known = isinstance(entry, dict) and (
                    entry.get("infersdk_traffic") == _VERSION if number == 1 else "method" in entry
                )
            except ValueError:
                known = False
            if not known:
                raise ValueError(
                    f"Expected a recording of infersdk of version {_VERSION}, got another line {number} "
                    f"in {os.fspath(path)!r}"
                )
            if number > 1:
                yield number, entry


def _compared(entry: Mapping[str, Any], predictor: Predictor, rtol: float, atol: float) -> str:
    method, rows = entry["method"], from_json(entry["rows"])
    expected = entry.get("error")
    call: Any = predictor if method == "__call__" else getattr(predictor, method)
    try:
        answer = call(rows)
    except Exception as error:
        if expected is None:
            return f"{method} raised {type(error).__name__}: {error}"
        if expected["type"] != type(error).__name__:
            return f"{method} raised {type(error).__name__} instead of {expected['type']}: {error}"
        return ""
    if expected is not None:
        return f"{method} answered instead of raising {expected['type']}: {expected['message']}"
    return "\n".join(
        differences(
            answer,
            from_json(entry["answer"]),
            rows,
            signature=predictor.signature,
            method=method,
            rtol=rtol,
            atol=atol,
        )
    )


def to_json(value: Any) -> Any:
    """Rows or answers as plain JSON; what JSON has no form for becomes a dict with one key, ``$kind``.

    Raises
    ------
    TypeError
        A value is of none of the known kinds.
    """
    if value is None or isinstance(value, (bool, str)) or type(value) is int:
        return value
    if isinstance(value, float) and type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"$bytes": base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, np.generic):
        return {"$scalar": to_json(np.asarray(value))}
    if is_tensor(value):
        value = tensor_to_array(value)
    if isinstance(value, np.ndarray):
        return _array_to_json(value)
    if is_frame(value):
        # Rows say the same; what they are kept in is not the model's affair.
        return [to_json(row) for row in value.to_dict("records")]
    if is_series(value):
        return to_json(value.to_dict())
    if hasattr(value, "tocsr"):
        return {"$dense": to_json(value.toarray())}
    if isinstance(value, Mapping):
        items = [(key, to_json(item)) for key, item in value.items()]
        if all(isinstance(key, str) and not key.startswith("$") for key, _ in items):
            return dict(items)
        return {"$dict": [[to_json(key), item] for key, item in items]}
    if isinstance(value, tuple):
        return {"$tuple": [to_json(item) for item in value]}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    raise TypeError(f"A {type(value).__name__} has no form in a recording")


def from_json(value: Any) -> Any:
    """The reverse of :func:`to_json`."""
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((kind, content),) = value.items()
        read = _READERS.get(kind)
        if read is not None:
            return read(content)
    return {key: from_json(item) for key, item in value.items()}


def _array_to_json(array: np.ndarray) -> dict[str, Any]:
    if array.dtype.kind in "OUSV":
        items = [to_json(item) for item in array.ravel().tolist()]
        return {"$objects": {"dtype": array.dtype.str, "shape": array.shape, "items": items}}
    data = np.ascontiguousarray(array)
    if data.dtype.byteorder == ">":
        data = data.astype(data.dtype.newbyteorder("<"))
    content = base64.b64encode(data.tobytes()).decode("ascii")
    return {"$array": {"dtype": data.dtype.name, "shape": array.shape, "data": content}}


def _array(content: Mapping[str, Any]) -> np.ndarray:
    data = base64.b64decode(content["data"])
    return np.frombuffer(data, np.dtype(content["dtype"])).reshape(content["shape"]).copy()


def _objects(content: Mapping[str, Any]) -> np.ndarray:
    dtype = np.dtype(content["dtype"])
    array = np.empty(len(content["items"]), object)
    array[:] = [from_json(item) for item in content["items"]]
    return (array if dtype.kind in "OV" else array.astype(dtype)).reshape(content["shape"])


_READERS: dict[str, Callable[[Any], Any]] = {
    "$array": _array,
    "$bytes": base64.b64decode,
    "$dense": from_json,
    "$dict": lambda content: {from_json(key): from_json(item) for key, item in content},
    "$float": float,
    "$objects": _objects,
    "$scalar": lambda content: from_json(content)[()],
    "$tuple": lambda content: tuple(from_json(item) for item in content),
}
