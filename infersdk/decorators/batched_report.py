"""What became of the calls of a batched function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

__all__ = ["BatchedReport"]


@dataclass(frozen=True, slots=True)
class BatchedReport:
    """What became of the calls of one batched function, in this process and so far.

    Attributes
    ----------
    name : str
        The function's.
    calls_at_once : int
        Calls that found it idle, and were answered alone and at once.
    batches, items : int
        Calls of the function with what had waited, and how many items these were.
    largest_batch : int
        The most items that met in one call of the function.
    refused : int
        Calls that would have waited too long, or in a full queue.
    expired : int
        Calls whose time ran out.
    cancelled : int
        Calls that were taken back: tasks that were cancelled, clients that went away.
    failed : int
        Calls that waited and ended with an exception of the function.
    waiting, running : int
        Items that wait and calls of the function that are under way, now.
    """

    name: str
    calls_at_once: int
    batches: int
    items: int
    largest_batch: int
    refused: int
    expired: int
    cancelled: int
    failed: int
    waiting: int
    running: int

    @classmethod
    def of(cls, name: str, stats: Mapping[str, int]) -> Self:
        """Of a queue's counts."""
        return cls(
            name,
            calls_at_once=stats["inline_runs"],
            batches=stats["batches"],
            items=stats["batched_rows"],
            largest_batch=stats["largest_batch"],
            refused=stats["refused"],
            expired=stats["expired"],
            cancelled=stats["cancelled"],
            failed=stats["failed"],
            waiting=stats["queued_rows"],
            running=stats["running"],
        )

    @property
    def mean_batch(self) -> float:
        """Items in a batch, on average; 0.0 where there was none."""
        return self.items / self.batches if self.batches else 0.0

    def __str__(self) -> str:
        lines = [f"`{self.name}`: {_n(self.calls_at_once, 'call')} answered at once"]
        if self.batches:
            lines.append(
                f"{_n(self.items, 'item')} in {_n(self.batches, 'batch', 'batches')}, "
                f"{self.mean_batch:.1f} each, the largest of {self.largest_batch}"
            )
        ended = {
            "refused": self.refused,
            "expired": self.expired,
            "cancelled": self.cancelled,
            "failed": self.failed,
        }
        if any(ended.values()):
            lines.append(", ".join(f"{n:,} {what}" for what, n in ended.items() if n))
        if self.waiting or self.running:
            lines.append(f"now: {self.running:,} running, {_n(self.waiting, 'item')} waiting")
        return "\n".join(lines)


def _n(number: int, one: str, several: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else several or one + 's'}"
