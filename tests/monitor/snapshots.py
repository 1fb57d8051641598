"""Snapshots to export: drawn by Hypothesis, or a small one to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from infersdk.monitor import Histogram, MethodMetrics, ModelMetrics

__all__ = ["FixedSource", "counted_below", "histogram_of", "model_metrics", "snapshots"]


@dataclass
class FixedSource:
    """A source of models that stay as they are; ``asked`` says how often it was read."""

    models: Sequence[ModelMetrics] = field(default_factory=list)
    asked: int = 0

    def metrics(self) -> Sequence[ModelMetrics]:
        self.asked += 1
        return self.models


def counted_below(histogram: Histogram, bound: float) -> int:
    """How many values are certainly at most ``bound``, counted one bucket at a time."""
    return sum(
        int(count)
        for own, count in zip([*histogram.bounds, np.inf], histogram.counts, strict=True)
        if own <= bound
    )


def histogram_of(values: Sequence[float], bounds: Sequence[float] | None = None) -> Histogram:
    """Put values into buckets: by default eight per octave from 2**-30, about as finely as calls are counted."""
    own = np.asarray(2.0 ** (np.arange(-240, 60) / 8) if bounds is None else bounds, np.float64)
    places = np.searchsorted(own, values, side="left")
    return Histogram(own, np.bincount(places, minlength=len(own) + 1), float(np.sum(values)))


def model_metrics(name: str = "iris", version: str = "3") -> ModelMetrics:
    """A model whose ``predict`` was answered six times and refused twice, ``predict_proba`` once."""
    return ModelMetrics(
        model=name,
        version=version,
        methods=(
            MethodMetrics(
                method="predict",
                calls=8,
                rows=10,
                errors={"InputError": 1, "OverloadedError": 1},
                call_s=histogram_of([0.001, 0.002, 0.002, 0.004, 0.008, 0.5]),
            ),
            MethodMetrics(
                method="predict_proba", calls=1, rows=1, errors={}, call_s=histogram_of([0.016])
            ),
        ),
        queue_s=histogram_of([0.0005, 0.001]),
        batch_s=histogram_of([0.003]),
        run_s=histogram_of([0.001, 0.001, 0.002]),
        run_rows=histogram_of([1, 2, 8], 2.0 ** np.arange(15)),
        queued_rows=4,
        running=1,
    )


_counts = st.integers(0, 2**48)  # sums of them are whole as floats, too
_names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@st.composite
def _histograms(draw: st.DrawFn) -> Histogram:
    bounds = sorted(draw(st.sets(st.floats(1e-9, 1e9), max_size=80)))
    counts = draw(
        st.lists(st.integers(0, 2**40), min_size=len(bounds) + 1, max_size=len(bounds) + 1)
    )
    return Histogram(
        np.array(bounds, np.float64), np.array(counts, np.int64), draw(st.floats(0, 1e12))
    )


@st.composite
def _methods(draw: st.DrawFn, name: str) -> MethodMetrics:
    return MethodMetrics(
        method=name,
        calls=draw(_counts),
        rows=draw(_counts),
        errors=draw(
            st.dictionaries(
                st.sampled_from(["InputError", "DeadlineError", "SessionError", "KeyError"]),
                _counts,
            )
        ),
        call_s=draw(_histograms()),
    )


@st.composite
def _models(draw: st.DrawFn, name: tuple[str, str]) -> ModelMetrics:
    methods = draw(st.lists(_names, unique=True, max_size=2))
    return ModelMetrics(
        model=name[0],
        version=name[1],
        methods=tuple(draw(_methods(method)) for method in methods),
        queue_s=draw(_histograms()),
        batch_s=draw(_histograms()),
        run_s=draw(_histograms()),
        run_rows=draw(_histograms()),
        queued_rows=draw(_counts),
        running=draw(_counts),
    )


@st.composite
def snapshots(draw: st.DrawFn) -> list[ModelMetrics]:
    """Up to two models, of any names, counts and bounds."""
    names = draw(st.lists(st.tuples(_names, _names), unique=True, max_size=2))
    return [draw(_models(name)) for name in names]
