"""infersdk's WSGI app beside a Flask app: behind the same server and port, past Flask and its hooks."""

from __future__ import annotations

import os
from pathlib import Path

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from infersdk.web.wsgi import WSGIApp

flask_app = Flask(__name__)
models = {"forest": Path(os.environ["MODELS"]) / "forest.onnx"}
app = DispatcherMiddleware(flask_app, {"/models": WSGIApp(models)})
