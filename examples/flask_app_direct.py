"""The app of ``flask_app.py`` with each model called in its own framework: the one to compare with.

MODELS=models gunicorn --workers 2 'examples.flask_app_direct:create_app()'
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
from flask import Flask, abort, request


def create_app() -> Flask:
    """Serve every model that joblib wrote into the folder ``$MODELS`` under its own name."""
    app = Flask(__name__)
    folder = Path(os.environ.get("MODELS", "models"))
    models = {path.stem: joblib.load(path) for path in sorted(folder.glob("*.joblib"))}

    @app.post("/<name>/<method>")
    def answer(name: str, method: str) -> dict[str, Any]:
        model = models.get(name)
        if model is None:
            abort(404)
        rows = request.get_json()
        if method == "__call__":
            return {"answers": _call_torch(model, rows)}
        answers = getattr(model, method)(pd.DataFrame(rows))
        return {"answers": answers.tolist()}

    return app


def _call_torch(model: Any, rows: list[Any]) -> list[Any]:
    import torch

    with torch.inference_mode():
        answers: list[Any] = model(torch.tensor(rows)).tolist()
    return answers
