"""Apps of several hosts that serve the models in the folder ``MODELS`` by the Open Inference Protocol."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ["MODELS"])
MODELS = {name: FOLDER / f"{name}.onnx" for name in ("iris", "mixed", "words", "echo")}
SETTINGS: dict[str, Any] = {
    "protocols": ("rows", "oip"),
    "admin": True,
    "compress_min_bytes": 2000,
    "max_rows": 150,
}


def flask_app() -> Any:
    """Below a prefix, as beside other routes of an app."""
    from flask import Flask

    from infersdk.web.flask import InferSDK

    app = Flask("interop")
    InferSDK(app, models=MODELS, url_prefix="/models", **SETTINGS)
    return app


def fastapi_app() -> Any:
    """At the root."""
    from fastapi import FastAPI

    from infersdk.web.fastapi import InferSDK

    app = FastAPI()
    InferSDK(app, models=MODELS, url_prefix="/", **SETTINGS)
    return app


def rsgi_app() -> Any:
    """At the root, over Granian's own interface."""
    from infersdk.web.asgi import InferSDK

    return InferSDK(models=MODELS, url_prefix="/", **SETTINGS).rsgi


app = {"flask": flask_app, "fastapi": fastapi_app, "rsgi": rsgi_app}[os.environ["HOST_APP"]]()
