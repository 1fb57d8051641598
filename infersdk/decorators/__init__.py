"""``@batched``: a function of a list, called with one item. ``@accelerate``: a function whose models are converted."""

from __future__ import annotations

from infersdk.decorators.accelerate import AcceleratedFunction, accelerate
from infersdk.decorators.acceleration_report import AccelerationReport, ModelReport
from infersdk.decorators.batched import batched
from infersdk.decorators.batched_async import AsyncBatchedFunction
from infersdk.decorators.batched_function import BatchedFunction
from infersdk.decorators.batched_method import AsyncBatchedMethod, BatchedMethod
from infersdk.decorators.batched_report import BatchedReport

__all__ = [
    "AcceleratedFunction",
    "AccelerationReport",
    "AsyncBatchedFunction",
    "AsyncBatchedMethod",
    "BatchedFunction",
    "BatchedMethod",
    "BatchedReport",
    "ModelReport",
    "accelerate",
    "batched",
]
