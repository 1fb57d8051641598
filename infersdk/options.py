"""What a user may set, as frozen dataclasses with units in their names.

``None`` always means "measured or chosen by infersdk"; the docstring says how.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Execution"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How a model runs.

    Parameters
    ----------
    threads : int, optional
        Threads of one run (ONNX Runtime's intra-op pool). By default 1 inside a web or task worker
        (gunicorn, uvicorn, Celery, ...), where many processes share the cores, and otherwise the
        number of cores this process may use: the smaller of its CPU affinity and its cgroup quota.
    release_gil : bool, optional
        Whether a run gives up the GIL. By default measured: short runs keep it, because getting it
        back costs up to the interpreter's switch interval (5 ms); long ones release it.
    graph_optimization : {"all", "extended", "basic", "off"}
        ONNX Runtime's graph optimization level.
    calibration_s : float
        The most seconds that measuring the model at load may take. 0 skips it; the first calls then
        do the measuring.

    Raises
    ------
    ValueError
        A number is out of range or not whole, or a name is unknown.
    """

    threads: int | None = None
    release_gil: bool | None = None
    graph_optimization: Literal["all", "extended", "basic", "off"] = "all"
    calibration_s: float = 0.1

    def __post_init__(self) -> None:
        if self.threads is not None and not (
            isinstance(self.threads, int) and 1 <= self.threads <= 1024
        ):
            raise ValueError(
                f"Execution.threads must be a whole number from 1 to 1024, got {self.threads!r}"
            )
        if self.graph_optimization not in ("all", "extended", "basic", "off"):
            raise ValueError(
                "Execution.graph_optimization must be 'all', 'extended', 'basic' or 'off', "
                f"got {self.graph_optimization!r}"
            )
        if not 0 <= self.calibration_s <= 60:
            raise ValueError(
                f"Execution.calibration_s must be between 0 and 60 seconds, got {self.calibration_s!r}"
            )
