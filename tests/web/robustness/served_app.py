"""The models of MODELS (JSON: names and files) over ASGI, RSGI and in Flask; SETTINGS are JSON too.

Servers that fork import this before, so models are opened by their workers alone.
"""

from __future__ import annotations

import json
import os
from typing import Any

from infersdk.web.asgi import InferSDK

_MODELS = json.loads(os.environ["MODELS"])
_SETTINGS = {
    "protocols": ("rows", "oip", "invocations"),
    "metrics": True,
    **json.loads(os.environ.get("SETTINGS", "{}")),
}

infer = InferSDK(models=_MODELS, **_SETTINGS)
asgi = infer.app
rsgi = infer.rsgi


def wsgi() -> Any:
    """A Flask app: ``gunicorn "served_app:wsgi()"``."""
    from flask import Flask

    from infersdk.web.flask import InferSDK as FlaskSDK

    app = Flask("served_app")
    FlaskSDK(app, models=_MODELS, url_prefix="/", **_SETTINGS)
    return app
