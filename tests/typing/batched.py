"""The types of @infersdk.batched, for mypy and pyright to read; see public_api.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_type

import infersdk
from infersdk import Predictor
from infersdk.decorators import (
    AsyncBatchedFunction,
    AsyncBatchedMethod,
    BatchedFunction,
    BatchedReport,
)


@infersdk.batched
async def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


@infersdk.batched(max_batch_size=8, timeout_s=1.0)
async def squares(numbers: Sequence[float]) -> tuple[float, ...]:
    return tuple(number**2 for number in numbers)


@infersdk.batched(instances=2)
def halves(numbers: list[int]) -> list[float]:
    return [number / 2 for number in numbers]


class Client:
    @infersdk.batched
    async def embed(self, texts: list[str]) -> list[bytes]:
        return [text.encode() for text in texts]

    @infersdk.batched(name="scores")
    async def score(self, texts: list[str]) -> list[float]:
        return [0.0 for _ in texts]


async def awaited(client: Client) -> None:
    assert_type(lengths, AsyncBatchedFunction[str, int])
    assert_type(await lengths("one"), int)
    assert_type(await lengths("one", timeout_s=1, priority=2), int)
    assert_type(await lengths.many(["one", "two"]), list[int])
    assert_type(await squares(2.0), float)
    assert_type(Client.embed, AsyncBatchedMethod[Client, str, bytes])
    assert_type(client.embed, AsyncBatchedFunction[str, bytes])
    assert_type(await client.embed("one"), bytes)
    assert_type(await client.score("one"), float)
    async with lengths as opened:
        assert_type(opened, AsyncBatchedFunction[str, int])
    await lengths.aclose()
    await lengths(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await lengths("one", "two")  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]


def reported() -> None:
    assert_type(halves, BatchedFunction[int, float])
    assert_type(halves.predictors, Mapping[str, Predictor])
    assert_type(halves.report(), BatchedReport)
    assert_type(lengths.report().mean_batch, float)
    assert_type(lengths.queue_stats(), dict[str, int])
