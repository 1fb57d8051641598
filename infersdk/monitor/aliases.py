"""The same numbers under the names of other servers, for dashboards and alerts that were made for those.

Names, types and labels are theirs; values are given only where infersdk counts the same thing, and the help says
where it does not quite. What it does not measure (copying tensors in and out, preprocessing) is not exported, rather
than exported as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from infersdk.monitor.families import SECONDS, Buckets, Family, Labels, added, buckets
from infersdk.monitor.snapshot import Histogram, ModelMetrics

__all__ = ["ALIASES", "alias_families", "check_aliases"]

_TRITON_REASONS = {
    "OverloadedError": "REJECTED",
    "DeadlineError": "REJECTED",
    "AbandonedError": "CANCELED",
    "SessionError": "BACKEND",
}
"""Triton rejects what does not fit into the queue, or waits there beyond its time limit."""


def _answered(model: ModelMetrics) -> int:
    return sum(method.call_s.count for method in model.methods)


def _call_s(model: ModelMetrics) -> float:
    return sum(method.call_s.sum for method in model.methods)


def _errors(model: ModelMetrics) -> int:
    return sum(sum(method.errors.values()) for method in model.methods)


def triton(models: Sequence[ModelMetrics]) -> list[Family]:
    """NVIDIA Triton's counters of requests."""

    def us(seconds: float) -> int:
        return round(seconds * 1e6)

    counted: list[tuple[str, str, Callable[[ModelMetrics], int]]] = [
        ("request_success", "Number of calls that were answered.", _answered),
        (
            "count",
            "Number of rows that were answered.",
            lambda model: sum(method.rows for method in model.methods),
        ),
        ("exec_count", "Number of runs of the model.", lambda model: model.run_rows.count),
        (
            "request_duration_us",
            "Microseconds from call to answer, of calls that were answered.",
            lambda model: us(_call_s(model)),
        ),
        (
            "queue_duration_us",
            "Microseconds that queued calls waited.",
            lambda model: us(model.queue_s.sum),
        ),
        (
            "compute_infer_duration_us",
            "Microseconds of the model's runs; a shared run counts once, not once for each call in it.",
            lambda model: us(model.run_s.sum),
        ),
    ]
    listed = [
        Family(
            f"nv_inference_{name}",
            "counter",
            text,
            [(_model_and_version(model), value(model)) for model in models],
        )
        for name, text, value in counted
    ]
    failures = Family(
        "nv_inference_request_failure", "counter", "Number of calls that were not answered.", []
    )
    for model in models:
        by_reason = dict.fromkeys(("REJECTED", "CANCELED", "BACKEND", "OTHER"), 0)
        for method in model.methods:
            for error, count in method.errors.items():
                by_reason[_TRITON_REASONS.get(error, "OTHER")] += count
        failures.series.extend(
            ((*_model_and_version(model), ("reason", reason)), count)
            for reason, count in by_reason.items()
        )
    listed.insert(1, failures)
    return listed


def kserve(models: Sequence[ModelMetrics]) -> list[Family]:
    """The histogram of predictions that KServe's Python server has."""
    by_name: dict[str, list[Histogram]] = {}
    for model in models:
        # Versions are not told apart there.
        asked = [method.call_s for method in model.methods if method.call_s.count]
        if asked:
            by_name.setdefault(model.model, []).extend(asked)
    return [
        Family(
            "request_predict_seconds",
            "histogram",
            "From call to answer, of calls that were answered.",
            [
                ((("model_name", name),), buckets(added(histograms), SECONDS))
                for name, histograms in by_name.items()
            ],
        )
    ]


def mlserver(models: Sequence[ModelMetrics]) -> list[Family]:
    """MLServer's counters and summary of requests."""
    return [
        Family(
            "model_infer_request_success_total",
            "counter",
            "Number of calls that were answered.",
            [(_model_and_version(model), _answered(model)) for model in models],
        ),
        Family(
            "model_infer_request_failure_total",
            "counter",
            "Number of calls that were not answered.",
            [(_model_and_version(model), _errors(model)) for model in models],
        ),
        Family(
            "model_infer_request_duration",
            "summary",
            "Seconds from call to answer, of calls that were answered.",
            [
                (_model_and_version(model), Buckets((), [_answered(model)], _call_s(model)))
                for model in models
            ],
        ),
    ]


ALIASES: Mapping[str, Callable[[Sequence[ModelMetrics]], list[Family]]] = {
    "kserve": kserve,
    "mlserver": mlserver,
    "triton": triton,
}


def check_aliases(aliases: Collection[str]) -> None:
    """Refuse names of servers that are not known.

    Raises
    ------
    TypeError, ValueError
        ``aliases`` is one str rather than several, or holds one that is not in `ALIASES`.
    """
    if isinstance(aliases, str):
        raise TypeError(f"Expected aliases to be a tuple or list, got the str {aliases!r}")
    for name in aliases:
        if name not in ALIASES:
            raise ValueError(f"Expected aliases to be of {', '.join(ALIASES)}, got {name!r}")


def alias_families(models: Sequence[ModelMetrics], aliases: Collection[str]) -> list[Family]:
    """List what is exported under the names of other servers.

    Parameters
    ----------
    models : sequence of ModelMetrics
    aliases : collection of str
        Keys of `ALIASES`.

    Raises
    ------
    TypeError, ValueError
        As :func:`check_aliases`.
    """
    check_aliases(aliases)
    return [family for name in dict.fromkeys(aliases) for family in ALIASES[name](models)]


def _model_and_version(model: ModelMetrics) -> Labels:
    return (("model", model.model), ("version", model.version))
