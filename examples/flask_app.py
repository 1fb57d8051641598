"""An ordinary Flask app that answers with models: JSON rows in, JSON answers out.

    MODELS=models gunicorn --workers 2 'examples.flask_app:create_app()'
    curl --json '{"alcohol": 13.2, "color": "deep"}' localhost:8000/wine/predict_proba

Each worker opens the artifacts (``*.onnx``) when it starts; no training framework is imported.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flask import Flask, abort, request

import infersdk


def create_app() -> Flask:
    """Serve every artifact in the folder ``$MODELS`` under its own name."""
    app = Flask(__name__)
    folder = Path(os.environ.get("MODELS", "models"))
    models = {path.stem: infersdk.load(path) for path in sorted(folder.glob("*.onnx"))}

    @app.get("/")
    def describe() -> dict[str, Any]:
        return {
            name: [method.name for method in model.signature.methods]
            for name, model in models.items()
        }

    @app.post("/<name>/<method>")
    def answer(name: str, method: str) -> dict[str, Any]:
        model = models.get(name)
        if model is None or model.signature.method(method) is None:
            abort(404)
        answers = getattr(model, method)(request.get_json())
        return {"answers": answers.tolist()}

    @app.errorhandler(infersdk.InputError)
    def refuse(error: infersdk.InputError) -> tuple[dict[str, Any], int]:
        return {"error": str(error), "field": error.field, "row": error.row}, 422

    return app
