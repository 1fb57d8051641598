"""Ray Serve: two replicas behind its proxy.

As it comes, an HTTP proxy in Python passes every request on to a replica over Ray's own calls. With
``--high-throughput`` HAProxy, which comes with ``ray[serve]``, hands requests straight to the replicas: that is its
documentation's advice since 2.55, in two environment variables. ``max_ongoing_requests`` is raised from its 5, so that
no request waits in the proxy. ``@serve.batch`` was tried with each: one forest's row is too little work
to gain from it.
"""

from __future__ import annotations

import argparse
import os
import signal
import threading
from typing import Any

HIGH_THROUGHPUT = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}


def serve_forest(port: int) -> None:
    """Serve until told to stop. Ray reads its environment variables when it is imported: not before this."""
    import ray
    from ray import serve
    from starlette.requests import Request

    from benchmarks.rivals.servers.forest import Forest

    @serve.deployment(num_replicas=2, max_ongoing_requests=64, ray_actor_options={"num_cpus": 1})
    class Predictor:
        def __init__(self) -> None:
            self._forest = Forest()

        async def __call__(self, request: Request) -> dict[str, Any]:
            return self._forest.answer(await request.json())

    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=os.environ["READY"]
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(Predictor.bind(), route_prefix="/predict")
    ended.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--high-throughput", action="store_true")
    options = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if options.high_throughput:
        os.environ |= HIGH_THROUGHPUT
    serve_forest(options.port)
