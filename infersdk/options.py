"""What a user may set, as frozen dataclasses with units in their names.

``None`` always means "measured or chosen by infersdk"; the docstring says how.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Batching", "Execution"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How a model runs.

    Parameters
    ----------
    threads : int, optional
        Threads of one run (ONNX Runtime's intra-op pool). By default 1 inside a web or task worker
        (gunicorn, uvicorn, Celery, ...), where many processes share the cores, and otherwise the
        number of cores this process may use: the smaller of its CPU affinity and its cgroup quota.
    instances : int, optional
        Runs that may be under way at once on each device. By default, on a CPU, as many as the cores
        this process may use allow with that many threads each (at least 1); on a GPU 2, so that one
        batch is copied while another computes.
    devices : tuple of str, optional
        Where the model runs: "cpu", "cuda", "cuda:1", ... Each entry has a copy of the model of its own;
        the least loaded takes the work, and one that keeps failing is left out until it works again.
        By default one: the first GPU that ``providers`` can use, else the CPU.
    providers : "auto" or tuple of str
        ONNX Runtime's execution providers, the preferred one first, with or without the ending
        "ExecutionProvider" ("CUDA", "TensorRT", "ROCM", "OpenVINO", "CoreML", "DML", "CPU"). "auto"
        takes CUDA where it is there and works, else the CPU; ``predictor.providers`` says why.
    provider_options : Mapping of str to Mapping of str to str
        Options of each provider, by its name as above, in ONNX Runtime's own words.
    provider_fallback : bool
        Whether a provider that was asked for and fails to load may be replaced by the next one or the
        CPU. "auto" always may.
    release_gil : bool, optional
        Whether a run gives up the GIL. By default very short runs keep it, long ones release it, and
        those between (12 to 500 us) do what is found by trying in service: getting the GIL back from a
        thread that computes in Python costs up to the interpreter's switch interval (5 ms).
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
    instances: int | None = None
    devices: tuple[str, ...] | None = None
    providers: Literal["auto"] | tuple[str, ...] = "auto"
    provider_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    provider_fallback: bool = False
    release_gil: bool | None = None
    graph_optimization: Literal["all", "extended", "basic", "off"] = "all"
    calibration_s: float = 0.2

    def __post_init__(self) -> None:
        _check_whole("Execution.threads", self.threads, 1, 1024)
        _check_whole("Execution.instances", self.instances, 1, 1024)
        for name in ("devices", "providers"):
            value = getattr(self, name)
            if value is None or (name == "providers" and value == "auto"):
                continue
            if (
                isinstance(value, str)
                or not value
                or not all(isinstance(part, str) for part in value)
            ):
                raise ValueError(
                    f"Execution.{name} must be a tuple of names with at least one, got {value!r}"
                )
            object.__setattr__(self, name, tuple(value))
        if self.graph_optimization not in ("all", "extended", "basic", "off"):
            raise ValueError(
                "Execution.graph_optimization must be 'all', 'extended', 'basic' or 'off', "
                f"got {self.graph_optimization!r}"
            )
        if not 0 <= self.calibration_s <= 60:
            raise ValueError(
                f"Execution.calibration_s must be between 0 and 60 seconds, got {self.calibration_s!r}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """How concurrent calls share runs.

    A call that finds the model idle runs at once in its own thread. One that finds it busy waits in a
    queue, and whatever waits when a run ends goes into the next one together: there is no waiting
    window. Rows are counted, not calls.

    Parameters
    ----------
    enabled : bool, optional
        Whether calls may share a run. By default measured: they may where the rows of a batch are
        independent, which is tested when the model is loaded, and where a row in a batch costs less
        than a row alone. True shares wherever rows are independent; False never does.
    max_batch_size : int, optional
        The most rows in a run. By default the size at which a row was cheapest when the model was
        loaded. Calls with more rows are split.
    max_queue_size : int
        The most rows that may wait; a call beyond it is refused with :class:`OverloadedError`. A call of
        more rows than this is taken when nothing else waits.
    max_queue_bytes : int
        The most bytes of inputs that may wait.
    timeout_s : float, optional
        How long a call may take when it does not say so itself.
    pad : Mapping of str to object, optional
        Named dynamic axes along which inputs may be filled up so that rows of different lengths share a
        run: the axis's name to the fill value, or to a mapping of input name to fill value. Outputs are
        cut back. Tested when the model is loaded: where filling changes an answer it is not done.
    pad_to : {"batch", "buckets"}
        Fill up to the longest row of the batch, or to a few sizes learned from the calls, which spares
        a GPU from preparing itself for ever new shapes.

    Raises
    ------
    ValueError
        A number is out of range or not whole, or a name is unknown.
    """

    enabled: bool | None = None
    max_batch_size: int | None = None
    max_queue_size: int = 4096
    max_queue_bytes: int = 256 * 2**20
    timeout_s: float | None = None
    pad: Mapping[str, float | str | Mapping[str, float | str]] = field(default_factory=dict)
    pad_to: Literal["batch", "buckets"] = "batch"

    def __post_init__(self) -> None:
        _check_whole("Batching.max_batch_size", self.max_batch_size, 1, 2**20)
        _check_whole("Batching.max_queue_size", self.max_queue_size, 1, 2**31)
        _check_whole("Batching.max_queue_bytes", self.max_queue_bytes, 1, 2**62)
        if self.timeout_s is not None and not 0 < self.timeout_s < float("inf"):
            raise ValueError(
                f"Batching.timeout_s must be a positive number of seconds, got {self.timeout_s!r}"
            )
        if self.pad_to not in ("batch", "buckets"):
            raise ValueError(f"Batching.pad_to must be 'batch' or 'buckets', got {self.pad_to!r}")

    @classmethod
    def off(cls) -> Batching:
        """Every call runs on its own, in its own thread."""
        return cls(enabled=False)


def _check_whole(name: str, value: int | None, low: int, high: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not (whole and low <= value <= high):
        raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
