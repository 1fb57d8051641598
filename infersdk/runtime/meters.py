"""What a Predictor counts, and what is made of it for those who read.

Counting is native, in the call itself (``csrc/include/infersdk/meter.hpp``): one block of plain numbers for the
runs of a model and one for each of its methods. Here they are made and copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infersdk._native import MethodMeter, ModelMeter, row_bounds, time_bounds_s
from infersdk.monitor import Histogram, MethodMetrics, ModelMetrics

__all__ = ["Meters"]


class Meters:
    """The counts of one Predictor.

    Parameters
    ----------
    model : str
        Its name.

    Attributes
    ----------
    runs : ModelMeter
        What sessions and queues are to be made with.
    """

    __slots__ = ("_methods", "runs")

    def __init__(self, model: str) -> None:
        self.runs = ModelMeter(model)
        self._methods: dict[str, MethodMeter] = {}

    def of(self, method: str) -> MethodMeter:
        """The counts of one method; made when it is first asked for."""
        meter = self._methods.get(method)
        if meter is None:
            meter = self._methods.setdefault(method, MethodMeter(self.runs, method))
        return meter

    def read(self, *, version: str, queued: Mapping[str, int]) -> ModelMetrics:
        """Copy the counts.

        Parameters
        ----------
        version : str
            The model's.
        queued : Mapping of str to int
            The statistics of its queues.
        """
        runs = self.runs.read()
        seconds, rows = _bounds()
        return ModelMetrics(
            model=self.runs.model,
            version=version,
            methods=tuple(
                _method_metrics(meter, seconds) for meter in list(self._methods.values())
            ),
            queue_s=Histogram(seconds, *runs["queue_s"]),
            batch_s=Histogram(seconds, *runs["batch_s"]),
            run_s=Histogram(seconds, *runs["run_s"]),
            run_rows=Histogram(rows, *runs["run_rows"]),
            queued_rows=queued.get("queued_rows", 0),
            running=queued.get("running", 0),
        )


def _method_metrics(meter: MethodMeter, seconds: NDArray[np.float64]) -> MethodMetrics:
    rows, errors, counts, sum_s = meter.read()
    call_s = Histogram(seconds, counts, sum_s)
    return MethodMetrics(
        method=meter.method,
        calls=call_s.count + sum(errors.values()),
        rows=rows,
        errors=errors,
        call_s=call_s,
    )


@cache
def _bounds() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shared by all histograms, and so read-only."""
    both: tuple[Any, Any] = time_bounds_s(), row_bounds()
    for bounds in both:
        bounds.flags.writeable = False
    return both
