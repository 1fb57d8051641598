"""mosec: a server in Rust takes the requests, forms batches, and hands each to a worker process over a socket.

Its documentation overrides ``deserialize`` and ``serialize`` where the standard library's json is not wanted; orjson
is the faster. Batches of 12 to 16 served it best: with 32 connections and two workers, half the
callers are in the one's batch and half in the other's. Batches of 1 (8,000 requests a second where 16 had 25,000), 8,
20 and 32, and waits of 1 and 2 ms, were tried, too.
"""

from __future__ import annotations

from typing import Any

import orjson
from mosec import Server, Worker

from benchmarks.rivals.servers.forest import Forest


class Inference(Worker):
    """One worker process."""

    def __init__(self) -> None:
        super().__init__()
        self._forest = Forest()

    def deserialize(self, data: bytes) -> Any:
        return orjson.loads(data)

    def forward(self, data: list[dict[str, float]]) -> list[dict[str, Any]]:
        return self._forest.answers(data)

    def serialize(self, data: Any) -> bytes:
        return orjson.dumps(data)


if __name__ == "__main__":
    server = Server()
    # The wait is in milliseconds, the shortest there is.
    server.append_worker(Inference, num=2, max_batch_size=16, max_wait_time=1, route="/predict")
    server.run()
