"""Poisson arrivals at rates up to beyond what the fastest rival can answer; latency from the due time."""

from __future__ import annotations

from benchmarks.models import MODELS, write

__all__ = ["DEFAULT", "KIND", "LOADS", "QUICK", "RIVALS", "TITLE", "VARIANTS", "prepare"]

TITLE = "one row a call, calls come when they are due (rates: share of the fastest rival's peak)"
KIND = "open"
VARIANTS = tuple(MODELS)
DEFAULT = ("mlp_large", "cnn_deep")
QUICK = ("mlp_large",)
RIVALS = dict.fromkeys(
    VARIANTS, ("onnxruntime_run", "batched_hasty", "thread_batcher_pair", "infersdk_call")
)
LOADS = {
    f"{share:g}": {"share_of_peak": share, "n_threads": 64, "deadline_s": 0.02}
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 1.1)
}

prepare = write
