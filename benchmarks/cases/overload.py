"""Three times the calls that can be answered, each with a deadline: the rest must be refused at once.

In each round the peak is measured first, by 32 threads without a deadline; goodput is a share of it.
"""

from __future__ import annotations

from benchmarks.models import MODELS, write

__all__ = ["DEFAULT", "KIND", "LOADS", "QUICK", "RIVALS", "TITLE", "VARIANTS", "prepare"]

TITLE = "three times the calls that can be answered, each with a deadline"
KIND = "overload"
VARIANTS = tuple(MODELS)
DEFAULT = ("cnn_deep",)
QUICK = ("cnn_deep",)
RIVALS = dict.fromkeys(VARIANTS, ("onnxruntime_run", "infersdk_call"))
LOADS = {
    f"{deadline_ms}ms": {"factor": 3, "n_threads": 128, "deadline_s": deadline_ms / 1e3}
    for deadline_ms in (50, 100)
}

prepare = write
