from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from infersdk.types import ValueSpec

def open_library(path: str) -> str: ...

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
    ) -> None: ...
    def run(
        self, inputs: Mapping[str, Any], outputs: Sequence[str] | None = None
    ) -> dict[str, Any]: ...
    def run_ordered(self, inputs: Sequence[Any]) -> list[Any]: ...
    def expected_run_s(self, size_bytes: int) -> float | None: ...
    def measure(
        self, inputs: Sequence[Any], budget_s: float, max_runs: int = 50
    ) -> tuple[float, int]: ...
    def close(self) -> None: ...
