"""Models in a Flask app: ``InferSDK(app, models={"churn": "churn.onnx"}, url_prefix="/models")``."""

from __future__ import annotations

from infersdk.errors import MissingDependencyError
from infersdk.predictors import current_predictors

try:
    from infersdk.web.flask.extension import InferSDK
except ModuleNotFoundError as error:
    if error.name != "flask":
        raise
    raise MissingDependencyError.for_extra("flask", "flask", "The Flask extension") from error

__all__ = ["InferSDK", "current_predictors"]
