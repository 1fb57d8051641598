"""mosec: a server in Rust takes the requests and hands them, over a socket, to the worker processes.

As it comes each request is a message of its own. With ``--in-batches`` up to 16 are one, which served it best by far:
with 32 connections and two workers, half the callers are in the one's batch and half in the other's. Batches of 8,
12, 20 and 32, and a wait of 2 ms, were tried, too. Its documentation overrides ``deserialize`` and ``serialize`` where
the standard library's json is not wanted; orjson is the faster.
"""

from __future__ import annotations

import sys
from typing import Any

import orjson
from mosec import Server, Worker

from benchmarks.rivals.servers.forest import Forest


class Single(Worker):
    """One worker process, to which requests come one by one."""

    def __init__(self) -> None:
        super().__init__()
        self._forest = Forest()

    def deserialize(self, data: bytes) -> Any:
        return orjson.loads(data)

    def forward(self, data: Any) -> Any:
        return self._forest.answer(data)

    def serialize(self, data: Any) -> bytes:
        return orjson.dumps(data)


class Batched(Single):
    """The same, to which they come in lists."""

    def forward(self, data: Any) -> Any:
        return self._forest.answers(data)


if __name__ == "__main__":
    server = Server()  # reads the address and the port from the command line
    if "--in-batches" in sys.argv:
        # The wait is in milliseconds: it is the shortest there is.
        server.append_worker(Batched, num=2, max_batch_size=16, max_wait_time=1, route="/predict")
    else:
        server.append_worker(Single, num=2, route="/predict")
    server.run()
