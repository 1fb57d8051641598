"""MLPerf's LoadGen: the highest arrival rate at which 99 % are answered within 10 ms, and raw throughput."""

from __future__ import annotations

from benchmarks.models import MODELS, write

__all__ = ["DEFAULT", "KIND", "LOADS", "QUICK", "RIVALS", "TITLE", "VARIANTS", "prepare"]

TITLE = "MLPerf LoadGen, short runs: highest valid rate (server), throughput (offline)"
KIND = "loadgen"
VARIANTS = tuple(MODELS)
DEFAULT = ("mlp_large", "cnn")
QUICK = ("mlp_large",)
RIVALS = dict.fromkeys(
    VARIANTS, ("onnxruntime_run", "batched_hasty", "infersdk_call", "infersdk_await")
)
LOADS = {
    "server": {"scenario": "server", "n_threads": 32, "latency_bound_s": 0.01},
    "offline": {"scenario": "offline", "n_threads": 32},
}

prepare = write
