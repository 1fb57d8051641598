"""LitServe: FastAPI on uvicorn in two processes, the model in two more, and queues between them.

Its documentation asks for as many workers as there are cores, and for ``fast_queue`` (ZeroMQ) and batches where many
small requests come in. All three helped, and so did uvicorn[standard] and leaving out the access log. Batches of 1
and 8, the other queue and one HTTP process were tried, too.
"""

from __future__ import annotations

import sys
from typing import Any

import litserve

from benchmarks.rivals.servers.forest import Forest


class Inference(litserve.LitAPI):
    """What each of the worker processes does with a batch of requests' JSON."""

    def setup(self, device: str) -> None:
        self._forest = Forest()

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs  # the forest takes them as they are

    def predict(self, x: list[dict[str, float]]) -> list[dict[str, Any]]:
        return self._forest.answers(x)

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        Inference(max_batch_size=16, batch_timeout=0.001),
        accelerator="cpu",
        workers_per_device=2,
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=2,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
