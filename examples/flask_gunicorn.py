"""A Flask app as teams have them, with a model in it: an app factory, a login, views of its own.

    gunicorn --workers 2 'examples.flask_gunicorn:create_app()'
    gunicorn --workers 2 --worker-class gthread --threads 4 'examples.flask_gunicorn:create_app()'
    gunicorn --workers 2 --worker-class gevent 'examples.flask_gunicorn:create_app()'
    gunicorn --workers 2 --preload 'examples.flask_gunicorn:create_app()'

Programs ask the mounted routes, with a key; people ask the page ``/iris``. ``FLASK_API_KEY`` sets another key.
"""

from __future__ import annotations

import hmac

from flask import Blueprint, Flask, Response, abort, current_app, request

from infersdk import Predictor, current_predictors, load
from infersdk.web.flask import InferSDK

KINDS = ("setosa", "versicolor", "virginica")

pages = Blueprint("pages", __name__)


def create_app() -> Flask:
    """Make the app; its model is opened in each worker, before that takes a request."""
    app = Flask(__name__)
    app.config["API_KEY"] = "secret"
    app.config.from_prefixed_env()  # FLASK_API_KEY, and FLASK_INFERSDK_MODELS__iris=/models/iris-2.onnx
    infer.init_app(app)
    app.register_blueprint(pages)
    app.before_request(let_in)
    return app


def iris_model() -> Predictor:
    """Train a model. Yours comes out of a file: ``models={"iris": "iris.onnx"}``."""
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    X, y = load_iris(return_X_y=True, as_frame=True)
    X.columns = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    return load(LogisticRegression(max_iter=500).fit(X, y), example=X, name="iris")


infer = InferSDK(models={"iris": iris_model}, url_prefix="/models")


def let_in() -> None:
    """Ask whoever comes to the models' routes for a key, but for those who look after the server."""
    if request.endpoint != "infersdk" or request.path.startswith("/models/health/"):
        return
    given = request.headers.get("X-Api-Key", "")
    if not hmac.compare_digest(given.encode(), current_app.config["API_KEY"].encode()):
        abort(401)


@pages.get("/iris")
def name_it() -> str:
    """The model in a view: the flower's measures come as the page's query."""
    row = {name: request.args.get(name, type=float) for name in request.args}
    (kind,) = current_predictors["iris"].predict(row)
    return f"This is an Iris {KINDS[kind]}.\n"


@pages.post("/odds")
def odds() -> Response:
    """The model's whole answer in a view, with something of one's own around it."""
    response = infer.answer("iris", "predict_proba")
    response.headers["X-Model"] = "iris"
    return response
