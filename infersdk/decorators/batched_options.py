"""The settings of a batched function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from infersdk.options import Batching

__all__ = ["BatchedOptions"]


@dataclass(frozen=True, slots=True)
class BatchedOptions:
    """What :func:`infersdk.batched` was given.

    Raises
    ------
    ValueError
        A number is out of range or not whole.
    """

    max_batch_size: int
    instances: int
    max_queue_size: int
    timeout_s: float | None
    name: str | None

    def __post_init__(self) -> None:
        Batching(
            max_batch_size=self.max_batch_size,
            max_queue_size=self.max_queue_size,
            timeout_s=self.timeout_s,
        )
        whole = isinstance(self.instances, int) and not isinstance(self.instances, bool)
        if not (whole and 1 <= self.instances <= 1024):
            raise ValueError(
                f"batched(instances=) must be a whole number from 1 to 1024, got {self.instances!r}"
            )

    def name_of(self, function: Callable[..., Any]) -> str:
        """What the function is called in messages."""
        name: str = getattr(function, "__qualname__", type(function).__qualname__)
        return self.name or name.rpartition("<locals>.")[2]
