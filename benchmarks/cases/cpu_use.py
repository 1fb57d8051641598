"""What a model costs that is called 200 times a second: CPU of the whole process, in percent of a core."""

from __future__ import annotations

from benchmarks.models import MODELS, write

__all__ = ["DEFAULT", "KIND", "LOADS", "QUICK", "RIVALS", "TITLE", "VARIANTS", "prepare"]

TITLE = "CPU of a process that answers 200 calls a second"
KIND = "cpu"
VARIANTS = tuple(MODELS)
DEFAULT = ("mlp",)
QUICK = ("mlp",)
RIVALS = dict.fromkeys(
    VARIANTS, ("onnxruntime_run", "onnxruntime_defaults", "infersdk_call", "infersdk_defaults")
)
LOADS = {"200/s": {"rate_per_s": 200, "n_threads": 8, "deadline_s": 0.02}}

prepare = write
