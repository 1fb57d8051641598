"""Whole web apps under load: one row a request, a forest of 200 trees, two workers, 32 connections.

"flask" is gunicorn with sync workers, which open and close a connection for each request: that is most of their
work, and an app that only reads its body and says hello is what no other can pass. "asgi" is
uvicorn[standard], with Granian beside it. The rivals are what a competent user writes by hand, up to the point
where nothing is left but the server. The forest is one on breast cancer's 30 measurements; in the "deep" variants
it has nine times the nodes.
"""

from __future__ import annotations

from typing import Any

from benchmarks.task import Task
from benchmarks.web.workload import write
from benchmarks.web_runner import App, Target, Variant

__all__ = ["KIND", "TITLE", "VARIANTS", "WEB", "prepare"]

TITLE = "one row per POST, forest of 200 trees, 2 workers, 32 connections"
KIND = "web"

MOUNTED = "/models/forest/predict_proba"


def _app(name: str, label: str, server: str, **more: Any) -> App:
    return App(name, label, f"benchmarks.web.apps.{more.pop('module', name)}", server, **more)


def _targets(app: str, **rivals: float | None) -> tuple[Target, ...]:
    """The ratios of one app to its rivals, and the least that each is to be."""
    return tuple(Target(app, rival, at_least) for rival, at_least in rivals.items())


FLASK = Variant(
    apps=(
        _app("flask_hello", "Flask, hello", "gunicorn", answers=False),
        _app("flask_sklearn", "Flask + scikit-learn", "gunicorn"),
        _app("flask_onnxruntime", "Flask + onnxruntime", "gunicorn"),
        _app("flask_infersdk", "Flask + infersdk, its route", "gunicorn", path=MOUNTED),
        _app("flask_infersdk_view", "Flask + infersdk, own view", "gunicorn"),
        _app("flask_infersdk_beside", "infersdk's WSGI app beside Flask", "gunicorn", path=MOUNTED),
    ),
    targets=(
        *_targets("flask_infersdk", flask_hello=0.85, flask_sklearn=30.0, flask_onnxruntime=None),
        *_targets(
            "flask_infersdk_view", flask_hello=0.85, flask_sklearn=30.0, flask_onnxruntime=None
        ),
        *_targets("flask_infersdk_beside", flask_hello=None, flask_sklearn=None),
        *_targets("flask_onnxruntime", flask_hello=None, flask_sklearn=None),
    ),
)

ASGI = Variant(
    apps=(
        _app("asgi_hello", "bare ASGI, hello", "uvicorn", answers=False),
        _app("asgi_onnxruntime", "bare ASGI + onnxruntime", "uvicorn"),
        _app("fastapi_onnxruntime", "FastAPI + onnxruntime", "uvicorn"),
        _app("fastapi_onnxruntime_raw", "FastAPI + onnxruntime, raw", "uvicorn"),
        _app("fastapi_infersdk", "FastAPI + infersdk, its route", "uvicorn", path=MOUNTED),
        _app("fastapi_infersdk_view", "FastAPI + infersdk, own view", "uvicorn"),
        _app("asgi_infersdk", "infersdk's ASGI app", "uvicorn", path=MOUNTED),
    ),
    targets=(
        *_targets(
            "asgi_infersdk",
            fastapi_onnxruntime=1.2,
            fastapi_onnxruntime_raw=1.2,
            asgi_onnxruntime=None,
            asgi_hello=None,
        ),
        *_targets(
            "fastapi_infersdk",
            fastapi_onnxruntime=1.2,
            fastapi_onnxruntime_raw=1.2,
            asgi_onnxruntime=None,
        ),
        # Most of this one's time is FastAPI's, as it is in the rival.
        *_targets("fastapi_infersdk_view", fastapi_onnxruntime=None),
        *_targets("asgi_onnxruntime", asgi_hello=None),
    ),
)

GRANIAN = Variant(
    apps=(
        _app(
            "granian_onnxruntime",
            "bare ASGI + onnxruntime",
            "granian-asgi",
            module="asgi_onnxruntime",
        ),
        _app(
            "granian_infersdk",
            "infersdk's ASGI app",
            "granian-asgi",
            module="asgi_infersdk",
            path=MOUNTED,
        ),
        _app("rsgi_infersdk", "infersdk's RSGI app", "granian", path=MOUNTED),
    ),
    targets=(
        *_targets("granian_infersdk", granian_onnxruntime=None),
        *_targets("rsgi_infersdk", granian_onnxruntime=None),
    ),
)

WEB = {
    "flask": FLASK,
    "asgi": ASGI,
    "granian": GRANIAN,
    "flask_deep": FLASK.without("flask_infersdk_beside"),
    "asgi_deep": ASGI.without("asgi_hello", "fastapi_infersdk_view"),
}
VARIANTS = tuple(WEB)


def prepare(task: Task) -> None:
    write(task.folder, deep=task.variant.endswith("_deep"))
