from collections.abc import Callable, Hashable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, final

from infersdk._native.providers import DeviceTensor
from infersdk.types import ValueSpec

KEEP_GIL_S: float

def open_library(path: str) -> str: ...
def set_cooperative_wait(waiter: Any) -> None: ...
def clock_ns() -> int: ...
def hold_clock() -> None: ...
def advance_clock(ns: int) -> None: ...
def release_clock() -> None: ...
def answers_as_list(answers: Any, n: int, name: str) -> list[Any]: ...

gives_up: ContextVar[Callable[[], bool] | None]

@final
class Session:
    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> tuple[ValueSpec, ...]: ...
    @property
    def outputs(self) -> tuple[ValueSpec, ...]: ...
    def __init__(
        self,
        model: bytes | str,
        *,
        name: str = "model",
        threads: int = 1,
        graph_optimization: str = "all",
        release_gil: bool | None = None,
        external_folder: str | None = None,
        coerce: Callable[[ValueSpec, Any], Any] | None = None,
        providers: Sequence[tuple[str, Sequence[tuple[str, str]]]] = (),
        cuda_device: int = -1,
    ) -> None: ...
    def run_on_device(
        self, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None
    ) -> dict[str, DeviceTensor]: ...
    def run(
        self,
        inputs: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        *,
        timeout_s: float | None = None,
        priority: int = 0,
    ) -> dict[str, Any]: ...
    def run_ordered(
        self, inputs: Sequence[Any], timeout_s: float | None = None, priority: int = 0
    ) -> list[Any]: ...
    def start(
        self,
        inputs: Sequence[Any],
        completions: Completions,
        timeout_s: float | None = None,
        priority: int = 0,
    ) -> Call | None: ...
    def start_batching(
        self,
        *,
        merge: bool,
        max_batch_size: int,
        split_size: int = 0,
        instances: int = 1,
        max_queue_size: int = 4096,
        max_queue_bytes: int = ...,
        timeout_s: float | None = None,
        always: bool = False,
        queues_short: bool = True,
        replicas: Sequence[Session] = (),
        pad: Mapping[str, Mapping[str, Any]] | None = None,
        learned_sizes: bool = False,
    ) -> None: ...
    def queue_stats(self) -> dict[str, int]: ...
    def run_alone(self, inputs: Sequence[Any]) -> list[Any]: ...
    def run_short(self, inputs: Sequence[Any]) -> list[Any] | None: ...
    def expected_run_s(self, size_bytes: int) -> float | None: ...
    def measure(
        self, inputs: Sequence[Any], budget_s: float, max_runs: int = 50
    ) -> tuple[float, int]: ...
    def set_cost(self, size_bytes: int, run_s: float) -> None: ...
    def costs(self) -> dict[int, float]: ...
    def close(self) -> None: ...

@final
class Call:
    @property
    def waiter(self) -> Any: ...
    def attach(self, waiter: Any) -> None: ...
    def cancel(self, expired: bool = False) -> bool: ...
    def result(self) -> Any: ...

@final
class Completions:
    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def fileno(self) -> int: ...
    def drain(self) -> list[Call]: ...

@final
class FunctionQueue:
    @property
    def name(self) -> str: ...
    def __init__(
        self,
        function: Callable[[list[Any]], Sequence[Any]],
        *,
        name: str,
        max_batch_size: int = 32,
        instances: int = 1,
        max_queue_size: int = 4096,
        timeout_s: float | None = None,
        merge: bool = True,
        many: bool = False,
    ) -> None: ...
    def call(
        self,
        value: Any,
        *,
        n_rows: int = 1,
        lane: Hashable | None = None,
        timeout_s: float | None = None,
        priority: int = 0,
    ) -> Any: ...
    def start(
        self,
        value: Any,
        completions: Completions,
        *,
        n_rows: int = 1,
        lane: Hashable | None = None,
        timeout_s: float | None = None,
        priority: int = 0,
    ) -> Call: ...
    def stats(self) -> dict[str, int]: ...
    def close(self) -> None: ...
