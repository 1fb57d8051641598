"""Threads that call with one row each, again and again: capacity, alone and beside a busy Python thread."""

from __future__ import annotations

from benchmarks.models import MODELS, write

__all__ = [
    "DEFAULT",
    "KIND",
    "LOADS",
    "QUICK",
    "RIVALS",
    "TITLE",
    "USUAL_LOADS",
    "VARIANTS",
    "prepare",
]

TITLE = "one row a call, threads calling without pause"
KIND = "closed"
VARIANTS = tuple(MODELS)
DEFAULT = ("tiny", "mlp", "mlp_large", "forest", "cnn")
QUICK = ("mlp", "mlp_large")
USUAL_LOADS = ("1", "8", "32", "8+burner", "32+burner")
RIVALS = dict.fromkeys(
    VARIANTS,
    (
        "onnxruntime_run",
        "batched_threads",
        "batched_hasty",
        "loop_batcher_threads",
        "thread_batcher",
        "thread_batcher_pair",
        "infersdk_call",
    ),
)
LOADS = {
    f"{n_threads}{'+burner' if burner else ''}": {"n_threads": n_threads, "burner": burner}
    for burner in (False, True)
    for n_threads in (1, 8, 32)
}

prepare = write
