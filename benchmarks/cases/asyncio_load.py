"""64 asyncio tasks on one event loop, each awaiting one answer after the other."""

from __future__ import annotations

from benchmarks.models import MODELS, write

__all__ = ["DEFAULT", "KIND", "LOADS", "QUICK", "RIVALS", "TITLE", "VARIANTS", "prepare"]

TITLE = "one row a call, asyncio tasks awaiting without pause"
KIND = "asyncio"
VARIANTS = tuple(MODELS)
DEFAULT = ("tiny", "mlp", "mlp_large", "forest", "cnn")
QUICK = ("mlp",)
RIVALS = dict.fromkeys(
    VARIANTS, ("onnxruntime_executor", "batched_await", "loop_batcher", "infersdk_await")
)
LOADS = {"64": {"n_tasks": 64}}

prepare = write
