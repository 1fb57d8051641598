"""Whether rows of different callers may share a run: a row must answer as it does alone.

A graph whose first axis is dynamic need not treat it as a batch. It may normalize over it, count along
it, or find things in it; merged with strangers, a row would then answer differently, and nobody would
notice. So nothing is merged until it is proven. Where our own conversion made the graph, that proof was
given with the source model at hand, and axis 0 of every input and output is named "N". Any other graph is
tested when it is loaded: distinct rows run alone, together, in another order and beside other mates, and
every answer must be the one the row gave alone. "N" graphs are tested as well, as far as the time goes,
but for them only a difference that was found counts: a test that could not be made takes nothing away.

Answers are compared as closely as their dtype allows, not bit by bit, since kernels round differently at
other batch sizes; a GPU that rounds float32 products to ten bits (TF32) needs more leave still. Two batches of
one size that differ in a row's mates only go through the same kernels, so these are always compared closely:
a small influence, such as a common scale of dynamic quantization, is not taken for rounding. The test must be
able to fail: rows that all answer the same prove nothing.

A further test asks whether a shorter row may be filled up along a named axis to share a run with longer
ones (`Batching.pad`): models that mask what was filled in answer as before, others do not.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from infersdk.errors import InputError, SessionError
from infersdk.options import Batching
from infersdk.runtime.sample_rows import is_floating, numpy_dtype, row_key, samples, take_rows
from infersdk.types import TensorSpec, ValueSpec

__all__ = [
    "PROVEN_AXIS",
    "REDUCED_PRECISION",
    "TOLERANCES",
    "Runs",
    "Verdict",
    "check",
    "check_padding",
    "fill_values",
    "first_words",
    "why_no_batch_axis",
]

PROVEN_AXIS = "N"
"""The name that infersdk's conversions give axis 0 of a graph whose rows they have proven independent."""

_GENERATED = re.compile(r"unk__\d+|p2o\.DynamicDimension\.\d+")
"""Names that tf2onnx and paddle2onnx make up for every open axis anew; they say nothing."""

TOLERANCES: Mapping[str, tuple[float, float]] = {
    "float16": (2e-2, 1e-3),
    "bfloat16": (2e-2, 1e-3),
    "float32": (1e-4, 1e-6),
    "complex64": (1e-4, 1e-6),
    "float64": (1e-9, 1e-12),
    "complex128": (1e-9, 1e-12),
}
"""dtype -> (rtol, atol): answers agree within atol + rtol * the row's largest number. Others: exactly.

Where an input is of a coarser dtype than the output, the input's holds.
"""

REDUCED_PRECISION: Mapping[str, tuple[float, float]] = {
    **TOLERANCES,
    "float32": (1e-2, 1e-4),
    "complex64": (1e-2, 1e-4),
}
"""The same for devices that compute float32 products in less (TF32 on NVIDIA's GPUs)."""

_SWITCHED_OFF = "the test was switched off (Execution.calibration_s is 0)"


class Runs(Protocol):
    """What is asked of a session here."""

    @property
    def inputs(self) -> tuple[ValueSpec, ...]: ...
    @property
    def outputs(self) -> tuple[ValueSpec, ...]: ...
    def run_ordered(self, inputs: list[Any], /) -> list[Any]: ...


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether something may be done to rows, and why.

    Parameters
    ----------
    mergeable : bool
        Rows of different calls may share a run; of :func:`check_padding`: after being filled up.
    reason : str
        One sentence, without a full stop.
    """

    mergeable: bool
    reason: str

    def __str__(self) -> str:
        return f"{'may' if self.mergeable else 'may not'} share a run: {self.reason}"


def check(
    session: Runs,
    rows: Sequence[Any] | None,
    *,
    budget_s: float = 0.1,
    tolerances: Mapping[str, tuple[float, float]] = TOLERANCES,
    clock: Callable[[], float] = time.perf_counter,
) -> Verdict:
    """Decide whether rows of different callers may share a run of this session.

    Parameters
    ----------
    session : Session
    rows : sequence of numpy.ndarray, optional
        One array for each input, the rows of an example along axis 0. None, or rows that are too few
        or too alike, lets rows be made up.
    budget_s : float
        Seconds after the first run within which further runs must be expected to end. 0 runs nothing.
    tolerances : Mapping of str to (float, float), optional
        dtype to (rtol, atol).
    clock : callable, optional
        Gives seconds.

    Returns
    -------
    Verdict

    Raises
    ------
    ClosedError
        The session was closed.
    """
    missing = why_no_batch_axis(session)
    if missing is not None:
        return Verdict(False, missing)
    trial = _Trial(session, budget_s, tolerances, clock)
    verdict: bool | None = None
    reason = _SWITCHED_OFF
    if budget_s > 0:
        verdict, reason = trial.first_verdict(samples(session.inputs, rows), trial.compare)
    if verdict is None and _axis_name(session) == PROVEN_AXIS:
        return Verdict(True, f"the conversion proved its rows independent; {reason}")
    if verdict is None:
        reason = f"nothing shows that its rows are independent: {reason}"
    return Verdict(bool(verdict), reason)


def why_no_batch_axis(session: Runs) -> str | None:
    """Say what keeps axis 0 from being one batch axis of all inputs and outputs; None if nothing does."""
    if not session.inputs:
        return "the graph has no inputs"
    names: dict[str, str] = {}
    for kind, specs in (("input", session.inputs), ("output", session.outputs)):
        for spec in specs:
            value = f"{kind} `{spec.name}`"
            if not isinstance(spec, TensorSpec):
                return f"{value} is not a tensor but a {spec}"
            if spec.shape is None:
                return f"{value} has an unknown number of axes"
            if not spec.shape:
                return f"{value} is a single number without a batch axis"
            first = spec.shape[0]
            if isinstance(first, int):
                return f"axis 0 of {value} has the fixed size {first}"
            if first is not None and not _GENERATED.fullmatch(first):
                names.setdefault(first, value)
    if len(names) > 1:
        (one, value), (other, other_value) = list(names.items())[:2]
        return f"axis 0 is named `{one}` in {value} and `{other}` in {other_value}"
    return None


class _Trial:
    """Runs of one session within a time, and comparisons of what they gave."""

    def __init__(
        self,
        session: Runs,
        budget_s: float,
        tolerances: Mapping[str, tuple[float, float]],
        clock: Callable[[], float],
    ) -> None:
        self.session = session
        self.budget_s = budget_s
        floats = {spec.dtype for spec in session.inputs if isinstance(spec, TensorSpec)}
        self.tolerances = _no_closer_than(tolerances, floats)
        self.close = _no_closer_than(TOLERANCES, floats)
        self.clock = clock
        self.deadline: float | None = None
        self.row_s = 0.0
        self.is_over = False

    def run(self, arrays: list[Any], n_rows: float = 1) -> list[Any]:
        started = self.clock()
        outputs = self.session.run_ordered(arrays)
        ended = self.clock()
        if self.deadline is None:
            # A first run prepares much that later ones find ready, and any load has to make one.
            self.deadline = ended + self.budget_s
        else:
            self.row_s = (ended - started) / n_rows
        return outputs

    def has_time_for(self, n_rows: float) -> bool:
        """Whether that many rows are expected to be through in time."""
        if self.deadline is not None:
            self.is_over = self.clock() + n_rows * self.row_s > self.deadline
        return not self.is_over

    def too_long(self, n_rows: float) -> str:
        # Whoever calls may have left only a part of the time to this test.
        enough_s = _round_up(4 * n_rows * self.row_s)
        return (
            f"a row takes {self.row_s:.2g} s, too long for the time there was to test it; raise "
            f"Execution.calibration_s to {enough_s}"
        )

    def first_verdict(
        self,
        samples: Iterable[list[Any]],
        compare: Callable[[list[Any]], tuple[bool | None, str]],
    ) -> tuple[bool | None, str]:
        """What the first sample shows that shows anything; otherwise why the first one does not."""
        first_reason = None
        for sample in samples:
            verdict, reason = compare(sample)
            if verdict is not None:
                return verdict, reason
            first_reason = first_reason or reason
            if self.is_over:
                break
        return None, first_reason or "no distinct rows could be made up for its inputs"

    def compare(self, sample: list[Any]) -> tuple[bool | None, str]:
        """Compare rows together with rows alone: True, False or, where it proves nothing, None."""
        n_rows = len(sample[0])
        alone: list[list[Any]] = []
        for i in range(2):
            if not self.has_time_for(4 - i):
                return None, self.too_long(4)
            try:
                alone.append(self.run(take_rows(sample, [i])))
            except (InputError, SessionError) as error:
                return None, f"the rows to test with did not run: {first_words(error)}"
            strange = self._wrong_length(alone[i], 1)
            if strange is not None:
                return False, f"{strange} for 1 row of inputs"
        if not self.has_time_for(2):
            return None, self.too_long(4)
        difference = self._together(sample, alone, [0, 1])
        if difference is not None:
            return False, difference
        while len(alone) < n_rows and self.has_time_for(len(alone) + 2):
            try:
                alone.append(self.run(take_rows(sample, [len(alone)])))
            except (InputError, SessionError) as error:
                return None, f"the rows to test with did not run: {first_words(error)}"
        n_rows = len(alone)
        # All in another order, then other mates, two of them twice.
        orders = [list(range(n_rows))[::-1], [0, *range(1, n_rows), n_rows - 1, 0], [n_rows - 1, 1]]
        for order in orders:
            if n_rows > 2 and self.has_time_for(len(order)):
                difference = self._together(sample, alone, order)
                if difference is not None:
                    return False, difference
        if n_rows > 2 and self.has_time_for(2 * n_rows):
            difference = self._beside_others(sample, n_rows)
            if difference is not None:
                return False, difference
        if not self._distinct(alone):
            return None, "the rows that it was tested with all have the same answer"
        return True, f"{n_rows} rows answered together as they did alone"

    def _together(
        self, sample: list[Any], alone: Sequence[list[Any]], order: list[int]
    ) -> str | None:
        try:
            together = self.run(take_rows(sample, order), len(order))
        except (InputError, SessionError) as error:
            return f"rows that run alone do not run together: {first_words(error)}"
        strange = self._wrong_length(together, len(order))
        if strange is not None:
            return f"{strange} for {len(order)} rows of inputs"
        for place, row in enumerate(order):
            for spec, whole, own in zip(self.session.outputs, together, alone[row], strict=True):
                if not self.same(spec.dtype, own, whole[place : place + 1]):  # type: ignore[union-attr]
                    if self._is_random(take_rows(sample, [row]), alone[row]):
                        return "two runs of the same row give different answers"
                    return f"a row's output `{spec.name}` depends on the rows beside it"
        return None

    def _beside_others(self, sample: list[Any], n_rows: int) -> str | None:
        """Compare two batches of one size that have the same first and last row, but no other."""
        first, last = 0, n_rows - 1
        try:
            one = self.run(take_rows(sample, range(n_rows)), n_rows)
            other = self.run(take_rows(sample, [first] * (n_rows - 1) + [last]), n_rows)
        except (InputError, SessionError) as error:
            return f"rows that run alone do not run together: {first_words(error)}"
        for spec, a, b in zip(self.session.outputs, one, other, strict=True):
            for place in (first, last):
                rows = a[place : place + 1], b[place : place + 1]
                if not self.same(spec.dtype, *rows, self.close):  # type: ignore[union-attr]
                    return f"a row's output `{spec.name}` depends on the rows beside it"
        return None

    def _is_random(self, row: list[Any], answer: Sequence[Any]) -> bool:
        return not all(
            self.same(spec.dtype, first, again)  # type: ignore[union-attr]
            for spec, first, again in zip(self.session.outputs, answer, self.run(row), strict=True)
        )

    def _wrong_length(self, outputs: Sequence[Any], n_rows: int) -> str | None:
        for spec, output in zip(self.session.outputs, outputs, strict=True):
            if output.shape[:1] != (n_rows,):
                return f"output `{spec.name}` has shape {output.shape}"
        return None

    def _distinct(self, alone: Sequence[list[Any]]) -> bool:
        return any(
            row_key([value]) != row_key([first])
            for outputs in alone[1:]
            for value, first in zip(outputs, alone[0], strict=True)
        )

    def same(
        self,
        dtype: str,
        expected: Any,
        got: Any,
        tolerances: Mapping[str, tuple[float, float]] | None = None,
    ) -> bool:
        """Whether an answer is the expected one, as far as its dtype lets it be known."""
        if expected.shape != got.shape:
            return False
        tolerance = (self.tolerances if tolerances is None else tolerances).get(dtype)
        if tolerance is None:
            if expected.dtype == object:
                return bool(np.all(expected == got))
            return bool(expected.tobytes() == got.tobytes())
        rtol, atol = tolerance
        wide = np.complex128 if dtype.startswith("complex") else np.float64
        expected, got = expected.astype(wide), got.astype(wide)
        finite = np.isfinite(expected)
        if not np.array_equal(expected[~finite], got[~finite], equal_nan=True):
            return False
        expected, got = expected[finite], got[finite]
        scale = np.max(np.abs(expected), initial=0.0)
        return bool(np.all(np.abs(got - expected) <= atol + rtol * scale))


def _no_closer_than(
    tolerances: Mapping[str, tuple[float, float]], dtypes: Iterable[str]
) -> Mapping[str, tuple[float, float]]:
    """What the coarsest of those dtypes is allowed, all are: a sum of float32 may come as a float64."""
    coarsest = max(
        (tolerances[dtype] for dtype in dtypes if dtype in tolerances), default=(0.0, 0.0)
    )
    return {dtype: max(allowed, coarsest) for dtype, allowed in tolerances.items()}


def _axis_name(session: Runs) -> str | None:
    """The name of axis 0 where every input and output has one and it is the same."""
    names = {
        spec.shape[0] if isinstance(spec, TensorSpec) and spec.shape else None
        for spec in (*session.inputs, *session.outputs)
    }
    name = next(iter(names))
    return name if len(names) == 1 and isinstance(name, str) else None


def first_words(error: Exception, limit: int = 200) -> str:
    """Of an error's message, as much as fits into a sentence."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def _round_up(seconds: float) -> str:
    """Two digits, and never less than what is asked for."""
    digits = 10.0 ** (np.floor(np.log10(max(seconds, 1e-3))) - 1)
    return f"{np.ceil(seconds / digits) * digits:.2g}"


# -- filling up ----------------------------------------------------------------------------------


def check_padding(
    session: Runs,
    rows: Sequence[Any] | None,
    batching: Batching,
    *,
    budget_s: float = 0.1,
    tolerances: Mapping[str, tuple[float, float]] = TOLERANCES,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Verdict]:
    """Decide along which axes of ``batching.pad`` a row may be filled up.

    A row is filled up at its end to two greater lengths, alone and beside a longer row. Its outputs, cut
    back along their axes of that name, must be those of the row as it was.

    Parameters
    ----------
    session : Session
    rows : sequence of numpy.ndarray, optional
        As for :func:`check`.
    batching : Batching
        Its ``pad``.
    budget_s : float
        Seconds after the first run within which further runs must be expected to end. 0 runs nothing.
    tolerances, clock
        As for :func:`check`.

    Returns
    -------
    dict of str to Verdict
        One for each axis of ``batching.pad``.

    Raises
    ------
    ValueError
        ``batching.pad`` names an axis or an input that the model does not have, lacks a fill value, or
        has one that does not fit the input's dtype.
    ClosedError
        The session was closed.
    """
    verdicts: dict[str, Verdict] = {}
    fills = {axis: fill_values(session, axis, fill) for axis, fill in batching.pad.items()}
    for axis, values in fills.items():
        if budget_s <= 0:
            verdicts[axis] = Verdict(False, _SWITCHED_OFF)
            continue
        missing = why_no_batch_axis(session)
        if missing is not None:
            verdicts[axis] = Verdict(False, missing)
            continue
        # The axes share the time.
        trial = _Trial(session, budget_s / len(fills), tolerances, clock)
        verdict, reason = trial.first_verdict(
            samples(session.inputs, rows), partial(_compare_filled, trial, axis, values)
        )
        if verdict is None:
            reason = f"nothing shows that filling up axis `{axis}` changes no answer: {reason}"
        verdicts[axis] = Verdict(bool(verdict), reason)
    return verdicts


def _compare_filled(
    trial: _Trial, axis: str, values: Mapping[int, Any], sample: list[Any]
) -> tuple[bool | None, str]:
    inputs, outputs = trial.session.inputs, trial.session.outputs
    lengths = {
        sample[position].shape[place]
        for position in values
        for place in _places(inputs[position], axis)
    }
    if len(lengths) != 1:
        return None, f"the rows to test with have several lengths along axis `{axis}`"
    (length,) = lengths
    n_sample = len(sample[0])
    # Whatever the numbers of a row are, as they are, all negative and all positive: a fill value that is
    # never the greatest or the least proves nothing.
    rows = [
        [_turned(array, sign) for array in take_rows(sample, [i % n_sample])]
        for i, sign in enumerate((None, -1, 1))
    ]
    plain: list[list[Any]] = []
    n_needed = 3 + 3 * (length + 1) / max(length, 1) + 4 * (2 * length + 3) / max(length, 1)
    for row in rows:
        if not trial.has_time_for(n_needed - len(plain)):
            return None, trial.too_long(n_needed)
        try:
            plain.append(trial.run(row))
        except (InputError, SessionError) as error:
            return None, f"the rows to test with did not run: {first_words(error)}"
    for to, beside in ((length + 1, ""), (2 * length + 3, " beside a longer row")):
        filled = [
            [_resize(a, _places(s, axis), to, values.get(p)) for p, (a, s) in _each(row, inputs)]
            for row in rows
        ]
        if beside:
            mate = take_rows(sample, [n_sample - 1])
            filled.append(
                [_resize(a, _places(s, axis), to, None) for _, (a, s) in _each(mate, inputs)]
            )
        n_rows = len(filled) * to / max(length, 1)
        if not trial.has_time_for(n_rows):
            return None, trial.too_long(n_needed)
        try:
            answers = trial.run(
                [np.concatenate(column) for column in zip(*filled, strict=True)], n_rows
            )
        except (InputError, SessionError) as error:
            return (
                False,
                f"rows filled up along axis `{axis}`{beside} do not run: {first_words(error)}",
            )
        for i, own_answers in enumerate(plain):
            for spec, own, whole in zip(outputs, own_answers, answers, strict=True):
                cut = whole[i : i + 1]
                for place in _places(spec, axis):
                    cut = cut.take(range(min(length, cut.shape[place])), axis=place)
                if not trial.same(spec.dtype, own, cut):  # type: ignore[union-attr]
                    return False, (
                        f"output `{spec.name}` of a row filled up along axis `{axis}`{beside} "
                        "is another one"
                    )
    return True, f"rows filled up along axis `{axis}` answered as they did before"


def _turned(array: Any, sign: int | None) -> Any:
    """The array with numbers of one sign; what may be a mask is left as it is."""
    if sign is None or array.dtype.kind != "f" or not np.any((array != 0) & (array != 1)):
        return array
    return np.abs(array) * np.asarray(sign, array.dtype)


def _each(
    arrays: Sequence[Any], specs: Sequence[ValueSpec]
) -> Iterator[tuple[int, tuple[Any, ValueSpec]]]:
    return enumerate(zip(arrays, specs, strict=True))


def _places(spec: ValueSpec, axis: str) -> list[int]:
    """Where a value has the axis, but for its batch axis."""
    if not isinstance(spec, TensorSpec) or spec.shape is None:
        return []
    return [place for place, dim in enumerate(spec.shape) if dim == axis and place > 0]


def _resize(array: Any, places: Sequence[int], length: int, fill: Any) -> Any:
    """Filled up along its places, or, where there is no fill value, with what it holds again."""
    for place in places:
        have = array.shape[place]
        if fill is None:
            array = array.take(np.arange(length) % max(have, 1), axis=place)
        else:
            shape = list(array.shape)
            shape[place] = length - have
            array = np.concatenate([array, np.full(shape, fill, array.dtype)], axis=place)
    return np.ascontiguousarray(array)


def fill_values(session: Runs, axis: str, fill: Any) -> dict[int, Any]:
    """Give the fill value of each input that has the axis, by the input's position.

    Raises
    ------
    ValueError
        The model has no such axis, or ``fill`` does not fit it.
    """
    having = {
        spec.name: position for position, spec in enumerate(session.inputs) if _places(spec, axis)
    }
    if not having:
        axes = {
            dim
            for spec in session.inputs
            if isinstance(spec, TensorSpec) and spec.shape is not None
            for dim in spec.shape[1:]
            if isinstance(dim, str)
        }
        there = ", ".join(f"`{name}`" for name in sorted(axes)) or "none"
        raise ValueError(
            f"Batching.pad names axis `{axis}`; the dynamic axes after the batch axis that the model's "
            f"inputs have by name: {there}"
        )
    values: dict[int, Any] = {}
    if isinstance(fill, Mapping):
        strange = sorted(set(fill) - set(having))
        absent = sorted(set(having) - set(fill))
        if strange or absent:
            raise ValueError(
                f"Batching.pad[{axis!r}] must have a fill value for each input with that axis "
                f"({', '.join(having)}), got {', '.join(map(str, fill)) or 'none'}"
            )
    for name, position in having.items():
        value = fill[name] if isinstance(fill, Mapping) else fill
        spec = session.inputs[position]
        assert isinstance(spec, TensorSpec)
        values[position] = _fill_value(axis, spec, value)
    return values


def _fill_value(axis: str, spec: TensorSpec, value: Any) -> Any:
    fits = isinstance(value, str) == (spec.dtype == "string")
    if fits and spec.dtype != "string":
        dtype = numpy_dtype(spec.dtype)
        fits = isinstance(value, (bool, int, float, np.number, np.bool_))
        if fits and not is_floating(spec.dtype) and dtype.kind != "c":
            try:
                with np.errstate(invalid="ignore"):
                    fits = np.asarray(value).astype(dtype).astype(np.float64) == float(value)
            except (OverflowError, ValueError):
                fits = False
    if not fits:
        raise ValueError(
            f"Batching.pad[{axis!r}] must be of dtype {spec.dtype} for input `{spec.name}`, got {value!r}"
        )
    return value
