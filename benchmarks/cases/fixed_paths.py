"""infersdk's own choice of how to run a call against each choice forced: it should never lose to one."""

from __future__ import annotations

from benchmarks.cases.closed_load import LOADS
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

TITLE = "infersdk's choice against each way forced, threads calling without pause"
KIND = "closed"
VARIANTS = tuple(MODELS)
DEFAULT = ("tiny", "mlp", "mlp_large", "forest", "cnn")
QUICK = ("mlp",)
USUAL_LOADS = ("1", "8", "32")
RIVALS = dict.fromkeys(
    VARIANTS, ("infersdk_gil_kept", "infersdk_gil_released", "infersdk_batching", "infersdk_call")
)

prepare = write
