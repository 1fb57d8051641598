"""What one run costs, measured when a model is loaded.

The session keeps a moving average of run time by input size and decides by it, on every call, whether to
keep the GIL. Without a measurement the first calls would have to be careful; a few runs at load, in a
bounded time, spare the first requests that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infersdk._native import Session
from infersdk.errors import InputError, SessionError
from infersdk.types import TensorSpec, ValueSpec

__all__ = ["Calibration", "calibrate", "neutral_inputs"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What was measured at load.

    Parameters
    ----------
    run_s : float or None
        Median seconds of one run over one row, without binding and answering; None if not measured.
    n_runs : int
        Runs that the median is over.
    reason : str
        What was run, or why nothing could be.
    """

    run_s: float | None
    n_runs: int
    reason: str

    def __str__(self) -> str:
        if self.run_s is None:
            return f"not measured: {self.reason}"
        return f"{self.run_s * 1e6:.1f} us a run, median of {self.n_runs} ({self.reason})"


def calibrate(
    session: Session, arrays: Sequence[Any] | None, budget_s: float, reason: str
) -> Calibration:
    """Measure a session on one row's inputs.

    Parameters
    ----------
    session : Session
    arrays : sequence of numpy.ndarray, optional
        Inputs of one row; None makes up neutral ones from the session's types.
    budget_s : float
        No further run starts after this many seconds; 0 measures nothing.
    reason : str
        What the inputs are, for the report.
    """
    if budget_s <= 0:
        return Calibration(None, 0, "switched off")
    if arrays is None:
        arrays = neutral_inputs(session.inputs)
        reason = "neutral inputs of the graph's shapes"
        if arrays is None:
            return Calibration(None, 0, "the graph's inputs are not all tensors of a known rank")
    try:
        run_s, n_runs = session.measure(arrays, budget_s)
    except (InputError, SessionError) as error:
        # Made-up inputs need not make sense to the model (an index out of range, a shape that does
        # not add up); real calls are measured as they come.
        return Calibration(None, 0, f"{reason} did not run: {error}")
    return Calibration(run_s, n_runs, reason)


def neutral_inputs(specs: Sequence[ValueSpec]) -> list[Any] | None:
    """Zeros, False or empty strings of the smallest shape that each input allows."""
    arrays: list[Any] = []
    for spec in specs:
        if not isinstance(spec, TensorSpec) or spec.shape is None:
            return None
        shape = tuple(dim if isinstance(dim, int) else 1 for dim in spec.shape)
        if spec.dtype == "string":
            arrays.append(np.full(shape, "", dtype=object))
            continue
        try:
            dtype = np.dtype(spec.dtype)
        except TypeError:
            import ml_dtypes

            dtype = np.dtype(getattr(ml_dtypes, spec.dtype))
        arrays.append(np.zeros(shape, dtype))
    return arrays
