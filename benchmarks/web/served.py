"""What the servers import: the app named in ``$APP``, as it is, and signs of how it is in this process.

A server listens before its workers have imported their app, and a worker that is quick answers for one that is
not there yet. So each worker leaves a file named after its process in the folder ``$READY``. Where the app's
``predict`` is accelerated, a thread writes its report to ``PROCESS.report``, and makes that
``PROCESS.settled`` when nothing will change any more; then it ends.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from pathlib import Path
from typing import Any

__all__ = ["app"]

_LOOK_S = 0.2


def _open() -> Any:
    module = importlib.import_module(os.environ["APP"])
    sign = Path(os.environ["READY"]) / str(os.getpid())
    function = getattr(module, "predict", None)
    if hasattr(function, "report"):
        threading.Thread(target=_watch, args=(function, sign), daemon=True).start()
    sign.touch()
    return module.app


def _watch(function: Any, sign: Path) -> None:
    path = sign.with_suffix(".report")
    while True:
        report = function.report()
        states = {model.state for model in report.models}
        path.write_text(f"{', '.join(sorted(states)) or 'no model yet'}\n{report}\n")
        if states and states <= {"converted", "original"}:
            path.rename(sign.with_suffix(".settled"))
            return
        time.sleep(_LOOK_S)


app = _open()
