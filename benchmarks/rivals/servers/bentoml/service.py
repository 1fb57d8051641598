"""BentoML: a typed endpoint of a service with two workers, served by ``bentoml serve`` (uvicorn).

The row is the whole body, which a positional-only argument says. ``async def`` and metrics left out made no
difference.
"""

from __future__ import annotations

from typing import Any

import bentoml

from benchmarks.rivals.servers.forest import Forest


@bentoml.service(workers=2, logging={"access": {"enabled": False}})
class Predictor:
    """One worker process."""

    def __init__(self) -> None:
        self._forest = Forest()

    @bentoml.api
    def predict(self, row: dict[str, float], /) -> dict[str, Any]:
        return self._forest.answer(row)
