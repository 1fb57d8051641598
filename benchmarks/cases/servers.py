"""infersdk beside other model servers: the workload of ``web_throughput``, each server as its users would run it.

All have two workers (replicas), the same forest and the same onnxruntime; infersdk runs the artifact of the same
forest. The rivals (``benchmarks.rivals.servers``) live in environments of their own, which are made when they are
first wanted.

Each has three seconds of load more than other cases' apps before it is timed: Ray's proxy and BentoML
answer their first thousand requests more slowly than those that follow.
"""

from __future__ import annotations

from benchmarks.task import Task
from benchmarks.web import wrk
from benchmarks.web.server import Serving
from benchmarks.web.workload import Workload, write
from benchmarks.web_runner import App, Target, Variant

__all__ = ["KIND", "TITLE", "VARIANTS", "WEB", "prepare", "settle"]

TITLE = "one row per POST, forest of 200 trees, 2 workers, 32 connections"
KIND = "web"
SETTLE_S = 3

_OURS = "infersdk"
_APPS = "benchmarks.web.apps"

WEB = {
    "forest": Variant(
        apps=(
            App(_OURS, "infersdk serve", "", "infersdk", path="/forest/predict_proba"),
            App(
                "rsgi",
                "infersdk's RSGI app on Granian",
                f"{_APPS}.rsgi_infersdk",
                "granian",
                path="/models/forest/predict_proba",
            ),
            App(
                "bare",
                "bare ASGI + onnxruntime on Granian",
                f"{_APPS}.asgi_onnxruntime",
                "granian-asgi",
            ),
            App("mosec", "mosec", "", "mosec", environment="mosec"),
            App("mosec_batches", "mosec, batches of 16", "", "mosec-batches", environment="mosec"),
            App("litserve", "LitServe, batches of 16", "", "litserve", environment="litserve"),
            App("bentoml", "BentoML", "", "bentoml", environment="bentoml"),
            App("ray", "Ray Serve", "", "ray", environment="ray"),
            App("ray_haproxy", "Ray Serve, high throughput", "", "ray-haproxy", environment="ray"),
        ),
        targets=(
            Target(_OURS, "bare"),
            Target(_OURS, "mosec", 1.15),
            Target(_OURS, "mosec_batches", 1.15),
            Target(_OURS, "litserve", 10.0),
            Target(_OURS, "bentoml", 10.0),
            Target(_OURS, "ray", 10.0),
            Target(_OURS, "ray_haproxy", 10.0),
        ),
    )
}
VARIANTS = tuple(WEB)


def prepare(task: Task) -> None:
    write(task.folder)


def settle(app: App, server: Serving, workload: Workload) -> None:
    """Let it run for some seconds before its warm-up."""
    wrk.load(server.port, app.path, workload.lines, seconds=SETTLE_S)
