"""``@batched``: a function of a list, called with one item. ``@accelerate``: a function whose models are converted."""

from __future__ import annotations

from infersdk.decorators.batched import BatchedFunction, BatchedMethod, batched

__all__ = ["BatchedFunction", "BatchedMethod", "batched"]
