"""A model's counts as Triton's statistics extension has them, for the clients that read those."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from infersdk.monitor.snapshot import Histogram, ModelMetrics

__all__ = ["statistics"]


def statistics(models: Iterable[ModelMetrics]) -> dict[str, Any]:
    """Write the counts of models.

    Parameters
    ----------
    models : iterable of ModelMetrics

    Returns
    -------
    dict
        ``model_stats``: for each model its ``inference_count`` (rows), ``execution_count`` (runs) and
        ``inference_stats``, durations as a ``count`` and the sum in ``ns``. Reading inputs and writing outputs
        is not measured apart from the run, and so ``compute_input`` and ``compute_output`` are 0; runs are
        not counted by their exact number of rows, and so ``batch_stats`` is empty.
    """
    return {"model_stats": [_of(model) for model in models]}


def _of(model: ModelMetrics) -> dict[str, Any]:
    failed = sum(sum(method.errors.values()) for method in model.methods)
    nothing = {"count": 0, "ns": 0}
    return {
        "name": model.model,
        "version": model.version,
        "last_inference": 0,
        "inference_count": sum(method.rows for method in model.methods),
        "execution_count": model.run_s.count,
        "inference_stats": {
            "success": _durations(*(method.call_s for method in model.methods)),
            "fail": {"count": failed, "ns": 0},
            "queue": _durations(model.queue_s),
            "compute_input": nothing,
            "compute_infer": _durations(model.run_s),
            "compute_output": nothing,
            "cache_hit": nothing,
            "cache_miss": nothing,
        },
        "batch_stats": [],
    }


def _durations(*histograms: Histogram) -> dict[str, int]:
    return {
        "count": sum(histogram.count for histogram in histograms),
        "ns": round(sum(histogram.sum for histogram in histograms) * 1e9),
    }
