"""An ordinary Flask app that answers with models: JSON rows in, JSON answers out.

    MODELS=models gunicorn --workers 2 'examples.flask_app:create_app()'
    curl --json '{"alcohol": 13.2, "color": "deep"}' localhost:8000/wine/predict_proba

Each worker opens the artifacts (``*.onnx``) before it takes its first request; no training framework is
imported.
"""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask

from infersdk.web.flask import InferSDK


def create_app() -> Flask:
    """Serve every artifact in the folder ``$MODELS`` under its own name."""
    app = Flask(__name__)
    folder = Path(os.environ.get("MODELS", "models"))
    models = {path.stem: path for path in sorted(folder.glob("*.onnx"))}
    InferSDK(app, models=models, url_prefix="/")
    return app
