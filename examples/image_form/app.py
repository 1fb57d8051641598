"""A form that takes a picture and says which colors are in it, to people and to programs.

flask --app examples.image_form.app run
gunicorn --workers 2 'examples.image_form.app:create_app()'
curl -F picture=@photo.jpg -H 'Accept: application/json' localhost:8000
"""

from __future__ import annotations

from typing import Any

from flask import Flask, Response, abort, jsonify, render_template, request
from werkzeug.exceptions import HTTPException

from examples.image_form.model import COLORS, color_model
from examples.image_form.pictures import NotAPictureError, PictureError, array_of
from infersdk.predictors import current_predictors
from infersdk.web.flask import InferSDK

__all__ = ["create_app"]

N_TOP = 3
MAX_UPLOAD_BYTES = 8 * 2**20


def create_app() -> Flask:
    """Make the app; its model is opened in each worker."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_UPLOAD_BYTES  # Flask answers 413 to more
    InferSDK(app, models={"colors": color_model})

    @app.get("/")
    def form() -> str:
        return render_template("form.html", max_mib=MAX_UPLOAD_BYTES // 2**20)

    @app.post("/")
    def answer() -> Response | str:
        upload = request.files.get("picture")
        if upload is None or not upload.filename:
            abort(422, "Expected a file in the field `picture`")
        try:
            image = array_of(upload.stream)
        except NotAPictureError as error:
            abort(415, str(error))
        except PictureError as error:
            abort(422, str(error))
        shares = current_predictors["colors"](image)[0]
        top = [
            {"color": color, "share": round(float(share), 4)}
            for share, color in sorted(zip(shares, COLORS, strict=True), reverse=True)[:N_TOP]
        ]
        if wants_json():
            return jsonify(top=top)
        return render_template(
            "form.html", top=top, name=upload.filename, max_mib=MAX_UPLOAD_BYTES // 2**20
        )

    @app.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> tuple[Any, int]:
        status = error.code or 500
        if wants_json():
            problem = jsonify(title=error.name, status=status, detail=error.description)
            problem.content_type = "application/problem+json"
            return problem, status
        page = render_template(
            "form.html", error=error.description, max_mib=MAX_UPLOAD_BYTES // 2**20
        )
        return page, status

    return app


def wants_json() -> bool:
    """Whether the client would rather have JSON: curl and scripts that say so, browsers never."""
    accepted = request.accept_mimetypes
    return accepted["application/json"] > accepted["text/html"]
