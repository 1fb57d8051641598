"""The types of @infersdk.accelerate, for mypy and pyright to read; see public_api.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, assert_type

import infersdk
from infersdk import Predictor
from infersdk.decorators import AcceleratedFunction, AccelerationReport

model: Any = None


@infersdk.accelerate
def score(row: dict[str, float], scale: float = 1.0) -> float:
    return scale * float(model.predict([row])[0])


@infersdk.accelerate(shadow_calls=20, background=False)
def stream(rows: list[list[float]]) -> Iterator[int]:
    for row in rows:
        yield int(model.predict([row])[0])


@infersdk.accelerate
async def later(row: list[float]) -> int:
    return int(model.predict([row])[0])


class Scorer:
    @infersdk.accelerate
    def score(self, row: list[float]) -> float:
        return float(model.predict([row])[0])

    @infersdk.accelerate(shadow_calls=1)
    async def later(self, row: list[float], *, times: int = 1) -> float:
        return times * float(model.predict([row])[0])


def functions() -> None:
    assert_type(score({"x": 1.0}), float)
    assert_type(score({"x": 1.0}, scale=2.0), float)
    assert_type(stream([[1.0]]), Iterator[int])
    score("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(score.report(), AccelerationReport)
    assert_type(score.predictors, Mapping[str, Predictor])
    score.refresh()
    assert_type(score.function({"x": 1.0}), float)
    view: Callable[[dict[str, float]], float] = score
    view({"x": 1.0})


async def methods(scorer: Scorer) -> None:
    assert_type(await later([1.0]), int)
    assert_type(scorer.score([1.0]), float)
    assert_type(await scorer.later([1.0], times=2), float)
    scorer.score("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(Scorer.score(scorer, [1.0]), float)
    assert_type(Scorer.score.report(), AccelerationReport)
    other: Callable[[list[float]], Awaitable[int]] = later
    await other([1.0])


def passed_on(function: AcceleratedFunction[[int], str]) -> str:
    return function(1)
